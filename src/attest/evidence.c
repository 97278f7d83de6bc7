/*
 * The table of evidence verifiers. One row per kind that has a verifier here; a kind without a row
 * cannot be attested, whatever the protocol knows about it. A device's row is no TEE's: its report
 * data is not over the devices beside it, so as the primary evidence it would leave them out of
 * what is bound. The result is emptied first and stays
 * empty on failure, and a verifier that forgets to establish the binding, or to give claims, is an
 * error of ours, not a success.
 */
#include "attest/evidence.h"

#include "attest/sample.h"

typedef int kbs_evidence_verifier(const json_t *evidence, const struct kbs_digest *report_data,
                                  struct kbs_evidence_result *ret, struct kbs_error *err);

static const struct {
    kbs_evidence_verifier *verify; /* NULL: none */
    enum kbs_evidence_place place;
    const char *class; /* as CoCo's attestation service names it */
    bool sample;
} kinds[KBS_TEE_COUNT] = {
    [KBS_TEE_SAMPLE] = {kbs_evidence_sample_verify, KBS_EVIDENCE_PRIMARY, "cpu", true},
    [KBS_TEE_SAMPLEDEVICE] = {kbs_evidence_sample_verify, KBS_EVIDENCE_DEVICE, "gpu", true},
};

void kbs_evidence_result_deinit(struct kbs_evidence_result *r)
{
    json_decref(r->claims);
    *r = (struct kbs_evidence_result){.claims = NULL};
}

bool kbs_evidence_is_sample(enum kbs_tee tee)
{
    return (unsigned int)tee < KBS_TEE_COUNT && kinds[tee].sample;
}

int kbs_evidence_verify(enum kbs_tee tee, enum kbs_evidence_place place, const json_t *evidence,
                        const struct kbs_digest *report_data, struct kbs_evidence_result *ret,
                        struct kbs_error *err)
{
    *ret = (struct kbs_evidence_result){.claims = NULL};
    if ((unsigned int)tee >= KBS_TEE_COUNT || kinds[tee].verify == NULL ||
        kinds[tee].place != place) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "there is no verifier here for %s as %s",
                        kbs_tee_name(tee), place == KBS_EVIDENCE_PRIMARY ? "a TEE" : "a device");
    }
    ret->class = kinds[tee].class;
    if (kinds[tee].verify(evidence, report_data, ret, err) != 0) {
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
