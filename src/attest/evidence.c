/*
 * The table of evidence verifiers. One row per kind that has a verifier here; a kind without a row
 * cannot be attested, whatever the protocol knows about it. The result is emptied first and stays
 * empty on failure, and a verifier that forgets to establish the binding, or to give claims, is an
 * error of ours, not a success.
 */
#include "attest/evidence.h"

#include "attest/sample.h"

typedef int kbs_evidence_verifier(const json_t *evidence, const struct kbs_digest *report_data,
                                  struct kbs_evidence_result *ret, struct kbs_error *err);

static kbs_evidence_verifier *const verifiers[KBS_TEE_COUNT] = {
    [KBS_TEE_SAMPLE] = kbs_evidence_sample_verify,
};

void kbs_evidence_result_deinit(struct kbs_evidence_result *r)
{
    json_decref(r->claims);
    *r = (struct kbs_evidence_result){.claims = NULL};
}

int kbs_evidence_verify(enum kbs_tee tee, const json_t *evidence,
                        const struct kbs_digest *report_data, struct kbs_evidence_result *ret,
                        struct kbs_error *err)
{
    *ret = (struct kbs_evidence_result){.claims = NULL};
    if ((unsigned int)tee >= KBS_TEE_COUNT || verifiers[tee] == NULL) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "no verifier for this kind of evidence");
    }
    if (verifiers[tee](evidence, report_data, ret, err) != 0) {
        kbs_evidence_result_deinit(ret);
        return -1;
    }
    if (ret->binding < KBS_BINDING_EVIDENCE || !json_is_object(ret->claims) ||
        ret->status == NULL) {
        kbs_evidence_result_deinit(ret);
        return kbs_fail(err, KBS_INTERNAL, "the %s verifier gave no result", kbs_tee_name(tee));
    }
    return 0;
}
