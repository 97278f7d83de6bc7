/* Accepts connections on inherited listening sockets and hands them to the connection table. */
#ifndef KBS_FRONT_ACCEPTOR_H
#define KBS_FRONT_ACCEPTOR_H

#include <uv.h>

#include "front/conns.h"

struct kbs_acceptor;

struct kbs_acceptor_listener {
    struct kbs_acceptor *owner;
    int fd;
    bool tls;
    uv_poll_t poll;
    bool watching;
};

struct kbs_acceptor {
    struct kbs_conns *conns;
    struct kbs_metrics *metrics;
    uint32_t retry_ms;
    struct kbs_acceptor_listener listeners[KBS_LIMIT_FRONT_LISTENERS];
    size_t count;
    uv_timer_t retry;
    bool stopped; /* for good */
};

/*
 * Notes a bound and listening stream socket (takes `fd`, also on failure). KBS_INPUT for any other
 * descriptor or one too many. Nothing is accepted before kbs_acceptor_start().
 */
KBS_MUST_CHECK int kbs_acceptor_add(struct kbs_acceptor *a, int fd, bool tls,
                                    struct kbs_error *err);
KBS_MUST_CHECK int kbs_acceptor_start(struct kbs_acceptor *a, uv_loop_t *loop,
                                      struct kbs_error *err);
void kbs_acceptor_resume(struct kbs_acceptor *a); /* a connection has gone: there may be room */
void kbs_acceptor_stop(struct kbs_acceptor *a);   /* for good; closes the listeners; idempotent */

#endif
