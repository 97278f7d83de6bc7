/*
 * Frames of src/wire over a non-blocking socket, piecemeal in both directions: what lanes and relay
 * have in common. No loop, no meaning.
 */
#ifndef KBS_FRONT_FRAMES_H
#define KBS_FRONT_FRAMES_H

#include "wire/message.h"

struct kbs_frames {
    int fd;             /* owned; -1: closed */
    struct kbs_buf out; /* frames to be sent, or the one that was; the owner's */
    size_t sent;        /* of `out` */
    uint8_t header[KBS_WIRE_HEADER_BYTES];
    size_t header_len;
    struct kbs_frame frame; /* valid once the header is complete */
    struct kbs_buf body;
};

/* Makes the descriptor non-blocking, and takes it. False if that cannot be done; then nothing is taken. */
bool kbs_frames_init(struct kbs_frames *f, int fd);
void kbs_frames_close(struct kbs_frames *f);  /* the socket */
void kbs_frames_deinit(struct kbs_frames *f); /* the buffers too; safe twice */

/*
 * Sends what the socket takes of `out`, which stays as it is. An error is left to the next read: the
 * answer, or the end.
 */
void kbs_frames_send(struct kbs_frames *f);
static inline bool kbs_frames_unsent(const struct kbs_frames *f)
{
    return f->sent < f->out.len;
}

/* kbs_frames_recv(): conditions. */
#define KBS_FRAMES_HEAD 1 /* `frame` is there: to be looked at before a byte of its body is taken */
#define KBS_FRAMES_WHOLE 2 /* and so is `body`; kbs_frames_next() before the next one */
#define KBS_FRAMES_END 3   /* the peer is gone */
/* 0 when the socket has no more for now, or a condition; -1 for a header that breaks the protocol. */
KBS_MUST_CHECK int kbs_frames_recv(struct kbs_frames *f, struct kbs_error *err);
static inline bool kbs_frames_begun(const struct kbs_frames *f) /* a byte of a frame has come */
{
    return f->header_len > 0;
}
void kbs_frames_next(struct kbs_frames *f);

#endif
