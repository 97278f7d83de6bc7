/*
 * Appraisal: what verified evidence is worth, as a trustworthiness vector. Reference values say
 * what was expected; without an attestation policy the comparison below is made. What a policy
 * reads, and what kbs_appraise_builtin() compares, is the same input. Nothing here verifies
 * anything: what is appraised has been.
 */
#ifndef KBS_ATTEST_APPRAISE_H
#define KBS_ATTEST_APPRAISE_H

#include "attest/evidence.h"

enum kbs_match {
    KBS_MATCH_UNKNOWN = 0, /* there is no reference value of that name */
    KBS_MATCH_YES,
    KBS_MATCH_NO
};

/* A measured value and the reference value that it was held against; borrowed, static. */
struct kbs_comparison {
    enum kbs_trust_claim claim;
    const char *reference;  /* name of the reference value */
    const char *member;     /* of the claims: "platform_version.major" */
    bool minimum;           /* the reference value is the least that is accepted */
    const json_t *measured; /* NULL: the evidence says nothing of it */
    const json_t *expected; /* NULL: there is no reference value */
    enum kbs_match match;
};
typedef void kbs_appraise_each(void *ctx, const struct kbs_comparison *comparison);

/*
 * What an attestation policy has as `input`: the members of `evidence` (ear.h: the TEE's claims
 * under its name, report_data, ...), and of the TEE's claims also what Trustee's newer policies
 * look up (appraise.c). Returns owned, NULL if out of memory.
 */
json_t *kbs_appraise_input(enum kbs_tee tee, const json_t *evidence);

/*
 * Compares the claims of `input` with `references` (an object, name to value) and changes the
 * vector, which is the verifier's, claim by claim: what every reference value of a claim confirms
 * becomes approved, what one contradicts is lowered, and what none is there for stays. A list as
 * reference value matches if it has the measured value. `each`, which may be NULL, is called for
 * every comparison of that TEE.
 */
void kbs_appraise_builtin(enum kbs_tee tee, const json_t *input, const json_t *references,
                          struct kbs_trust_vector *vector, kbs_appraise_each *each, void *ctx);

#endif
