/*
 * Release policies: pure decisions with reasons (docs/protocol/release-policy.md). The grammar is
 * Azure Secure Key Release's, and more:
 *
 *     {"version":"1.0.0", "anyOf"|"allOf":[ENTRY...], "provision"?, "register"?}         (keeps.h)
 *     ENTRY     = {"authority"?: string, "anyOf"|"allOf":[CONDITION...]}
 *     CONDITION = {"claim": PATH, OPERATOR: value}
 *               | {"anyOf"|"allOf":[CONDITION...]}
 *               | {"not": CONDITION}
 *     OPERATOR  = "equals" | "notEquals" | "greater" | "greaterOrEquals" | "less" | "lessOrEquals" | "exists"
 *               | "in" | "prefix" | "at-least"                                            (operator.h)
 *
 * No list is empty, no other member is allowed, and lists and nots nest at most KBS_LIMIT_POLICY_DEPTH
 * deep. A condition is true, false or unknown, and only what is true releases: a claim that is absent
 * or of another type is unknown, whatever is asked of it, and so is its `not`.
 *
 * PATH is names joined by dots: into `kbs` if the first name is kbs (our own root; no token can set
 * it), else into the claims. A name that contains a dot is put in double quotes, which are escaped
 * in JSON: "submods.cpu0.\"ear.status\"". Names are printable ASCII without double quotes; arrays
 * are not walked into; at most 255 bytes and 16 names.
 *
 * The claims are those of `input`, or, in an entry whose `authority` is the issuer that vouched for
 * the guest in our place, what that issuer said. An entry of another authority is false.
 *
 * No policy: deny. Evaluation is one walk of a bounded tree.
 */
#ifndef KBS_POLICY_RELEASE_H
#define KBS_POLICY_RELEASE_H

#include "base/digest.h"
#include "jose/read/json.h"

/* Whom a policy is asked about. Borrowed; what is NULL or empty has no claims. */
struct kbs_policy_subject {
    const json_t *input;       /* our claims, whose `iss` is us */
    const json_t *kbs;         /* our own root */
    struct kbs_span authority; /* `iss` of the issuer that vouched for it; empty: we did */
    const json_t *vouched;     /* what that issuer said */
};

/*
 * Checks a policy text; KBS_INPUT says where it is wrong. KBS_TOO_LARGE over
 * KBS_LIMIT_POLICY_BYTES.
 */
KBS_MUST_CHECK int kbs_policy_check(struct kbs_span text, struct kbs_error *err);

/*
 * A stored policy as a tree that has passed kbs_policy_check(), returned owned. KBS_DENIED for the
 * empty text, which releases nothing; KBS_INTERNAL if it does not pass.
 */
KBS_MUST_CHECK int kbs_policy_load(struct kbs_span text, json_t **ret, struct kbs_error *err);
KBS_MUST_CHECK int kbs_policy_decide_loaded(const json_t *policy,
                                            const struct kbs_policy_subject *subject,
                                            struct kbs_error *err);

/*
 * Both. 0: allowed; -1: KBS_DENIED with the reason (which entries failed at which claim: paths, never
 * values; as many as fit), or KBS_INTERNAL if the text does not pass kbs_policy_check(); an empty text
 * denies.
 */
KBS_MUST_CHECK int kbs_policy_decide(struct kbs_span text, const struct kbs_policy_subject *subject,
                                     struct kbs_error *err);

/*
 * Why a loaded policy decides as it does, for its administrator: what is wanted and what was found, so
 * not for guests. {"decision":"allow"|"deny", "reason":"…", "policy":NODE}, where a NODE is
 *
 *     {"test":"anyOf"|"allOf"|"not", "result", "of":[NODE...]}              an entry's has "authority", too
 *     {"test":OPERATOR, "claim", "wanted", "result", "found"?, "why"?}      why it is not true
 *
 * with result "true", "false" or "unknown", and "decides":true in each entry that is true, or else in the one
 * NODE that its result came from. Returns owned, NULL if memory runs out.
 */
json_t *kbs_policy_explain(const json_t *policy, const struct kbs_policy_subject *subject);
/* The same as text: a line a condition, indented, what decided marked with ">". */
void kbs_policy_explain_put(struct kbs_buf *out, const json_t *explained);

#endif
