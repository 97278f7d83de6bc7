/*
 * The policies that are loaded, by digest and query; and the answers to a judge's questions about
 * them.
 */
#ifndef KBS_POLICY_REGO_POLICIES_H
#define KBS_POLICY_REGO_POLICIES_H

#include "base/digest.h"
#include "policy/rego/engine.h"
#include "wire/message.h"

struct kbs_policies {
    struct {
        struct kbs_rego *rego; /* NULL: a free place */
        uint8_t digest[KBS_SHA256_BYTES];
        uint8_t query; /* enum kbs_rego_query */
        uint64_t used; /* when, in questions */
    } v[KBS_LIMIT_POLICIES_LOADED];
    uint64_t questions;
};

/* A verdict and the text that it borrows. */
struct kbs_told {
    struct kbs_wire_verdict verdict;
    struct kbs_rego_why why;
    uint8_t result[KBS_LIMIT_POLICY_RESULT_BYTES];
};

void kbs_policies_deinit(struct kbs_policies *p);

/*
 * POLICY_LOAD: parses, and keeps the policy in the place of the one that was not used for longest.
 * POLICY_EVAL: decides. Neither is bounded: both belong into a worker (worker.h).
 */
void kbs_policies_load(struct kbs_policies *p, const struct kbs_wire_policy_load *question,
                       struct kbs_told *ret);
void kbs_policies_eval(struct kbs_policies *p, const struct kbs_wire_policy_eval *question,
                       struct kbs_told *ret);

#endif
