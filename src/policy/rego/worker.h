/* The process in which policies are parsed and evaluated: a copy of kbs-policy that may die of it. */
#ifndef KBS_POLICY_REGO_WORKER_H
#define KBS_POLICY_REGO_WORKER_H

#include <sys/types.h>

#include "channel/channel.h"
#include "policy/rego/policies.h"

struct kbs_worker {
    pid_t pid;
    int fd;    /* channel to it; -1: there is none, the next question makes one */
    int judge; /* a descriptor that it is not to have */
    struct kbs_channel_msg answer;
};

/*
 * Passes a question on, to a new worker that knows `policies` if the last one is gone, and gives its
 * verdict, which borrows the worker until the next question. A worker that dies instead of
 * answering has gone over a bound: that is a verdict too, ERROR. -1 if there is no worker to be
 * had, or it neither answers nor dies: nothing can be relied on then.
 */
KBS_MUST_CHECK int kbs_worker_ask(struct kbs_worker *w, struct kbs_policies *policies,
                                  enum kbs_wire_type type, const void *question,
                                  struct kbs_wire_verdict *ret, struct kbs_error *err);

/* Ends it, if there is one: it leaves when its channel does. */
void kbs_worker_end(struct kbs_worker *w);

#endif
