/*
 * Release policies: pure decisions with reasons. The grammar is Azure Secure Key Release's:
 *
 *     {"version":"1.0.0", "anyOf":[ENTRY...]}
 *     ENTRY     = {"authority"?: string, "allOf"|"anyOf":[CONDITION...]}
 *     CONDITION = {"claim": PATH, "equals": string|integer|boolean}
 *               | {"allOf"|"anyOf":[CONDITION...]}
 *
 * No list is empty, no other member is allowed, and lists nest at most KBS_LIMIT_POLICY_DEPTH deep.
 * `equals` is by type and value. `authority`, when present, must equal the verified token's `iss`.
 *
 * PATH is names joined by dots: into `kbs` if the first name is kbs (our own root; no token can set
 * it), else into the verified token's claims. A name that contains a dot is put in double quotes,
 * which are escaped in JSON: "submods.cpu0.\"ear.status\"". Names are printable ASCII without
 * double quotes; arrays are not walked into; at most 255 bytes and 16 names. An absent claim is
 * false. No policy: deny.
 *
 * Evaluation is one walk of a bounded tree.
 */
#ifndef KBS_POLICY_RELEASE_H
#define KBS_POLICY_RELEASE_H

#include "base/digest.h"
#include "jose/read/json.h"

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
KBS_MUST_CHECK int kbs_policy_decide_loaded(const json_t *policy, const json_t *input,
                                            const json_t *kbs, struct kbs_error *err);

/*
 * Both. 0: allowed; -1: KBS_DENIED with the reason (which top-level entries failed at which claim: paths,
 * never values; as many as fit), or KBS_INTERNAL if the text does not pass kbs_policy_check().
 * `input`: the EAR claims; `kbs`: our own root; NULL for either has no claims; an empty text
 * denies.
 */
KBS_MUST_CHECK int kbs_policy_decide(struct kbs_span text, const json_t *input, const json_t *kbs,
                                     struct kbs_error *err);

#endif
