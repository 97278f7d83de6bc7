/* Inside src/policy only: the one walk that decides, for the decision and for its explanation. */
#ifndef KBS_POLICY_WALK_H
#define KBS_POLICY_WALK_H

#include "policy/operator.h"
#include "policy/release.h"

/* What the paths of an entry are looked up in. */
struct kbs_scope {
    const json_t *claims;
    const json_t *kbs;
};

/* What a condition came to, and the claim or entry that it came from. */
struct kbs_finding {
    enum kbs_truth truth;
    const json_t *at; /* a condition with a claim, or an entry, whose authority is another */
    const char *why;  /* static: what is to be said of `at` when the whole is not true */
};

/* The conditions of an object that has exactly one of allOf and anyOf; NULL otherwise. */
const json_t *kbs_group_of(const json_t *v, bool *ret_all);
/* The claim that a condition asks for; NULL if it is absent or null. Borrowed. */
const json_t *kbs_condition_claim(const json_t *condition, const struct kbs_scope *scope);

/* Of conditions and entries that passed kbs_policy_check(). */
struct kbs_finding kbs_condition_find(const json_t *condition, const struct kbs_scope *scope);
/* False if the entry's authority is another. */
bool kbs_entry_scope(const json_t *entry, const struct kbs_policy_subject *subject,
                     struct kbs_scope *ret);
struct kbs_finding kbs_entry_find(const json_t *entry, const struct kbs_policy_subject *subject);
/* The whole policy's. */
struct kbs_finding kbs_policy_find(const json_t *policy, const struct kbs_policy_subject *subject);

#endif
