/* The process in which policies are parsed and evaluated: a copy of kbs-policy that may die of it. */
#ifndef KBS_POLICY_REGO_WORKER_H
#define KBS_POLICY_REGO_WORKER_H

#include <sys/types.h>

#include "channel/channel.h"
#include "policy/rego/policies.h"

/* In memory that both have: the question that a worker is at. */
struct kbs_worker_at {
    uint64_t id;
    bool busy;
};

struct kbs_worker {
    pid_t pid;
    int fd;    /* channel from it; -1: there is none */
    int judge; /* the judge's channel, which a worker reads while there is one */
    struct kbs_worker_at *at;
    struct kbs_channel_msg msg;
};

/* Once, before the first. judge: borrowed. */
KBS_MUST_CHECK int kbs_worker_init(struct kbs_worker *w, int judge, struct kbs_error *err);

/*
 * Starts one that knows `policies`. From then on it answers the judge, and w->fd is to be watched until it is
 * -1 again.
 */
KBS_MUST_CHECK int kbs_worker_start(struct kbs_worker *w, struct kbs_policies *policies,
                                    struct kbs_error *err);

/*
 * What w->fd has: a policy that it parsed, which is parsed here as well, for the next one; or its end. A worker that
 * died at a question has gone over a bound: the judge is told so, ERROR. Returns KBS_CHANNEL_EOF if it left
 * because the judge is gone; -1 also if the judge broke the protocol.
 */
KBS_MUST_CHECK int kbs_worker_hear(struct kbs_worker *w, struct kbs_policies *policies,
                                   struct kbs_error *err);

/* Ends it, if there is one: it leaves when its channel does, after the question it is at. */
void kbs_worker_end(struct kbs_worker *w);

#endif
