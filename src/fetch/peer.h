/*
 * The other ends of kbs-fetch's channels: fronts and judges, any of which may be compromised. They
 * are read and written without ever waiting for one of them.
 */
#ifndef KBS_FETCH_PEER_H
#define KBS_FETCH_PEER_H

#include "base/buf.h"
#include "wire/message.h"

enum kbs_peer_kind {
    KBS_PEER_NONE = 0, /* a free place */
    KBS_PEER_FRONT,    /* sends FETCH, as many as it likes */
    KBS_PEER_JUDGE     /* sends CACHED_WANT, one at a time */
};

struct kbs_peer {
    enum kbs_peer_kind kind;
    int fd;
    uint32_t index;  /* kbsd's name for it */
    uint64_t serial; /* whoever has this place: never the same twice */
    struct kbs_buf in;
    struct kbs_buf out;
    size_t sent; /* of `out` */
};

/* Takes the descriptor. */
void kbs_peer_init(struct kbs_peer *p, enum kbs_peer_kind kind, int fd, uint32_t index,
                   uint64_t serial);

/* Its end. why: NULL if it just went. Safe on a free place. */
void kbs_peer_drop(struct kbs_peer *p, const char *why);

/* kbs_peer_read(): */
#define KBS_PEER_MESSAGE 1 /* a whole one is there: *ret, whose body borrows p->in */

/*
 * Reads what there is, up to the end of a message. 0 if that has not come yet; -1 if the peer is gone
 * or has broken the protocol, and was dropped. After KBS_PEER_MESSAGE call kbs_peer_taken().
 */
KBS_MUST_CHECK int kbs_peer_read(struct kbs_peer *p, struct kbs_frame *ret_frame,
                                 struct kbs_span *ret_body);
void kbs_peer_taken(struct kbs_peer *p);

/* Sends, or keeps what does not go yet. Drops the peer if it has left too much unread. */
void kbs_peer_send(struct kbs_peer *p, enum kbs_wire_type type, uint64_t id, const void *msg);

/* More of what was kept. */
void kbs_peer_flush(struct kbs_peer *p);

static inline bool kbs_peer_has_unsent(const struct kbs_peer *p)
{
    return p->sent < p->out.len;
}

#endif
