/*
 * Role channels: frames of src/wire over SOCK_STREAM socketpairs, blocking with deadlines, with at
 * most one descriptor riding along (ATTACH). One message is in flight per direction.
 */
#ifndef KBS_CHANNEL_CHANNEL_H
#define KBS_CHANNEL_CHANNEL_H

#include "base/clock.h"
#include "wire/message.h"

/* kbs_channel_recv(): the peer is gone. */
#define KBS_CHANNEL_EOF 1

/* A received message; msg structs decoded from it borrow `body`. Zero-initialise; reusable. */
struct kbs_channel_msg {
    struct kbs_frame frame;
    struct kbs_buf body; /* decoded messages borrow it */
    int fd;              /* the descriptor that came with it, or -1; owned by the receiver */
};

#define KBS_CHANNEL_MSG ((struct kbs_channel_msg){.fd = -1})

void kbs_channel_msg_deinit(struct kbs_channel_msg *m); /* also closes fd */

/* A connected pair, both ends close-on-exec and blocking. */
KBS_MUST_CHECK int kbs_channel_pair(int ret_fds[2], struct kbs_error *err);

/* Sends one message; `send_fd` (borrowed) rides along unless it is -1. `msg` as kbs_wire_encode().
 */
KBS_MUST_CHECK int kbs_channel_send(int fd, enum kbs_wire_type type, uint64_t id, const void *msg,
                                    int send_fd, uint64_t deadline_ns, struct kbs_error *err);

/*
 * Receives one message. 0, KBS_CHANNEL_EOF, or -1 (KBS_DEADLINE when none came in time; KBS_INPUT
 * when the peer breaks the protocol: treat it as compromised).
 */
KBS_MUST_CHECK int kbs_channel_recv(int fd, struct kbs_channel_msg *ret, uint64_t deadline_ns,
                                    struct kbs_error *err);

/*
 * The same on a channel whose peer speaks only when it is its turn (all but control channels): one
 * read takes header and body, and a byte after the message is KBS_INPUT.
 */
KBS_MUST_CHECK int kbs_channel_recv_turn(int fd, struct kbs_channel_msg *ret, uint64_t deadline_ns,
                                         struct kbs_error *err);

/* kbs_wire_decode() of a received message, which must be of that type (KBS_INPUT if not). */
KBS_MUST_CHECK int kbs_channel_msg_decode(const struct kbs_channel_msg *m, enum kbs_wire_type type,
                                          void *msg, struct kbs_error *err);

/*
 * One question and its answer: sends, then receives an answer of `answer_type` with the same id
 * into *ret and decodes it into `answer`. -1 also when the peer is gone (KBS_TOKEN_DOWN).
 */
KBS_MUST_CHECK int kbs_channel_call(int fd, enum kbs_wire_type type, const void *msg,
                                    enum kbs_wire_type answer_type, void *answer,
                                    struct kbs_channel_msg *ret, uint64_t deadline_ns,
                                    struct kbs_error *err);

#endif
