/*
 * The Rego engine, seen from C (rego.rs). Nothing here is bounded in time, memory or depth: only
 * kbs-policy links it, and calls it where that does not matter.
 */
#ifndef KBS_POLICY_REGO_ENGINE_H
#define KBS_POLICY_REGO_ENGINE_H

#include <stddef.h>
#include <stdint.h>

struct kbs_rego; /* a policy, parsed */

/* What was wrong or decided, for a person: printable ASCII, not terminated. */
struct kbs_rego_why {
    uint32_t line; /* in the policy, from 1; 0 if not known */
    uint32_t column;
    size_t len;
    uint8_t text[256];
};

/*
 * Parses a policy, Rego v1 of package `policy` with the rule that `query` (enum kbs_rego_query)
 * asks for: `allow`; `trust_claims`, or else `result`. Returns owned (kbs_rego_free()), or NULL
 * with *why.
 */
struct kbs_rego *kbs_rego_load(const uint8_t *p, size_t len, uint8_t query,
                               struct kbs_rego_why *why);
void kbs_rego_free(struct kbs_rego *rego); /* NULL is fine */

/*
 * data.policy.allow over `input` and `data` (JSON objects): 1 if it is true; 0 with *why if it is
 * anything else; -1 with *why if it cannot be told. For policies that were loaded with that query.
 */
int kbs_rego_allow(const struct kbs_rego *rego, const uint8_t *input, size_t input_len,
                   const uint8_t *data, size_t data_len, struct kbs_rego_why *why);

/*
 * The trust claims over the same, where query_reference_value(name) is the member of data.reference
 * of that name, null if there is none: 1 with a JSON object in out[0..*ret_len); -1 with *why if
 * there is none, or it does not fit.
 */
int kbs_rego_trust(const struct kbs_rego *rego, const uint8_t *input, size_t input_len,
                   const uint8_t *data, size_t data_len, uint8_t *out, size_t size, size_t *ret_len,
                   struct kbs_rego_why *why);

#endif
