/*
 * Release policies: pure decisions with reasons. The grammar is Azure Secure Key Release's: {"version":"1.0.0",
 * "anyOf":[...]}, where each entry is {"authority"?, "allOf"|"anyOf":[...]} and a condition is {"claim",
 * "equals"} or a nested allOf/anyOf. A claim is a dotted path into `kbs.` (ours, no token can set it) or into
 * the verified token's claims. Absent claim: false. No policy: deny. Evaluation is one walk of a bounded tree.
 */
#ifndef KBS_POLICY_RELEASE_H
#define KBS_POLICY_RELEASE_H

#include "base/digest.h"
#include "jose/read/json.h"

/* Checks a policy text; KBS_INPUT says where it is wrong. KBS_TOO_LARGE over KBS_LIMIT_POLICY_BYTES. */
KBS_MUST_CHECK int kbs_policy_check(struct kbs_span text, struct kbs_error *err);

/*
 * 0: allowed; -1: KBS_DENIED with the reason (which top-level entries failed at which claim), or KBS_INTERNAL if
 * the text does not parse. `input`: the EAR claims; `kbs`: our own root; an empty text denies.
 */
KBS_MUST_CHECK int kbs_policy_decide(struct kbs_span text, const json_t *input, const json_t *kbs,
                                     struct kbs_error *err);

#endif
