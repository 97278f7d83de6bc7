/*
 * A link to a sign worker: channels over which signatures are asked for, by any number of threads at a
 * time. A worker that has died, or is not there yet, is a link without channels: whoever asks waits for
 * one, until its deadline.
 */
#ifndef KBS_PROVIDERS_LINK_H
#define KBS_PROVIDERS_LINK_H

#include "base/buf.h"
#include "base/error.h"
#include "wire/message.h"

struct kbs_link;

/* n channels (1 to KBS_LIMIT_TLS_SIGNERS), none of which is there yet. Returns owned, with one reference. */
KBS_MUST_CHECK int kbs_link_new(size_t n, struct kbs_link **ret, struct kbs_error *err);
struct kbs_link *kbs_link_ref(struct kbs_link *link); /* returns link */
struct kbs_link *kbs_link_free(
    struct kbs_link *link); /* the last one closes the channels; NULL is fine; returns NULL */

/*
 * Channel `index` is fd from now on, whose ownership is taken in any case; the one before is closed,
 * once an answer that is waited for there has come, or will not. KBS_INPUT for an index out of range.
 */
KBS_MUST_CHECK int kbs_link_attach(struct kbs_link *link, uint32_t index, int fd,
                                   struct kbs_error *err);

/*
 * Where the channel of a link comes from that nobody attaches one to. `open` is called when there is an order and no
 * channel: for the first one, after the worker has died, in a process that was forked off. Never by two
 * threads at a time; it gives an owned descriptor, or fails by the deadline. `free` is called with the link's last
 * reference, in whatever process that is.
 */
struct kbs_link_source {
    int (*open)(void *self, uint64_t deadline_ns, int *ret_fd, struct kbs_error *err);
    void (*free)(void *self);
    void *self;
};

/* Of a link with one channel, before its first order. Takes `self`. */
void kbs_link_set_source(struct kbs_link *link, const struct kbs_link_source *source);

/*
 * Sends one order of the list `sign` and waits for its RESULT, whose body is appended to `ret`. Blocks,
 * for at most timeout_ms. KBS_DEADLINE if no channel was free or no answer came in that time,
 * KBS_TOKEN_DOWN if the channel broke; else the category that the worker said. A channel whose answer
 * did not come in time is used again when it has come.
 *
 * A process that was forked off has none of its parent's channels: KBS_TOKEN_DOWN until one is attached there, or a new
 * one from the source.
 */
KBS_MUST_CHECK int kbs_link_order(struct kbs_link *link, enum kbs_wire_type type, const void *order,
                                  uint32_t timeout_ms, struct kbs_buf *ret, struct kbs_error *err);

#endif
