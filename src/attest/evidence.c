/*
 * The table of evidence verifiers. One row per kind that has a verifier here, built in or brought by
 * the caller as the operator configured it; a kind without a row cannot be attested, whatever the
 * protocol knows about it. A device's row is no TEE's: its report
 * data is not over the devices beside it, so as the primary evidence it would leave them out of
 * what is bound. The result is emptied first and stays
 * empty on failure, and a verifier that forgets to establish the binding, or to give claims, is an
 * error of ours, not a success.
 */
#include "attest/evidence.h"

#include "attest/sample.h"

typedef int kbs_evidence_verifier(const json_t *evidence, const struct kbs_digest *report_data,
                                  struct kbs_evidence_result *ret, struct kbs_error *err);

/* The verdict; once more, with what it needs, if somebody can bring that. */
static int appraise_with(const struct kbs_verifier *verifier, const json_t *evidence,
                         struct kbs_expected *expected, const struct kbs_evidence_context *context,
                         struct kbs_error *err)
{
    struct kbs_verdict *v = context->verdict;
    struct kbs_buf brought = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    int r = verifier->appraise(verifier->with, evidence, expected, v, err);

    if (r == 0 && v->needs[0] != '\0' && verifier->kds != NULL && context->fetch != NULL) {
        r = context->fetch(context->fetch_with, verifier->kds, v->needs, &brought, err);
        if (r == 0 && brought.len > 0) {
            kbs_verdict_deinit(v);
            expected->endorsement = kbs_buf_span(&brought);
            r = verifier->appraise(verifier->with, evidence, expected, v, err);
            expected->endorsement = KBS_SPAN_EMPTY;
        }
    }
    kbs_buf_deinit(&brought);
    return r;
}

/*
 * A kind that is verified by what the operator configured: every check must hold. Its claims become
 * the result's.
 */
static int appraise(enum kbs_tee tee, const json_t *evidence, const struct kbs_digest *report_data,
                    const struct kbs_evidence_context *context, struct kbs_evidence_result *ret,
                    struct kbs_error *err)
{
    const struct kbs_verifier *verifier =
        context->verifiers != NULL ? &context->verifiers[tee] : NULL;
    struct kbs_expected expected = {.report_data = kbs_digest_span(report_data),
                                    .now_s = context->now_s};
    struct kbs_verdict *v = context->verdict;
    struct kbs_digest init_data;
    enum kbs_hash hash;

    if (verifier == NULL || verifier->appraise == NULL) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "there is no verifier here for %s as a TEE: none is configured",
                        kbs_tee_name(tee));
    }
    if (report_data->len == 0) { /* to a verifier that would be nothing to compare with */
        return kbs_fail(err, KBS_INTERNAL, "evidence without a digest to compare it with");
    }
    if (context->init_data.len != 0) {
        if (kbs_init_data_digest(context->init_data, &hash, &init_data, err) != 0) {
            return -1;
        }
        expected.init_data = kbs_digest_span(&init_data);
    }
    if (appraise_with(verifier, evidence, &expected, context, err) != 0 ||
        kbs_verdict_require(v, err) != 0) {
        return -1;
    }
    const struct kbs_trust trust = kbs_verdict_trust(v);
    ret->binding = kbs_verdict_binding(v);
    ret->verified = true;
    ret->trust.claim[KBS_TRUST_HARDWARE] = trust.hardware;
    ret->trust.claim[KBS_TRUST_EXECUTABLES] = trust.executables;
    ret->trust.claim[KBS_TRUST_CONFIGURATION] = trust.configuration;
    ret->init_data = v->init_data;
    ret->claims = v->claims;
    v->claims = NULL;
    return 0;
}

static const struct {
    kbs_evidence_verifier *verify; /* NULL: none but one that is configured */
    bool configured;               /* there can be one */
    enum kbs_evidence_place place;
    const char *class; /* as CoCo's attestation service names it */
    bool sample;
} kinds[KBS_TEE_COUNT] = {
    [KBS_TEE_SAMPLE] = {kbs_evidence_sample_verify, false, KBS_EVIDENCE_PRIMARY, "cpu", true},
    [KBS_TEE_SAMPLEDEVICE] = {kbs_evidence_sample_verify, false, KBS_EVIDENCE_DEVICE, "gpu", true},
    [KBS_TEE_SNP] = {NULL, true, KBS_EVIDENCE_PRIMARY, "cpu", false},
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
                        const struct kbs_digest *report_data,
                        const struct kbs_evidence_context *context, struct kbs_evidence_result *ret,
                        struct kbs_error *err)
{
    int r;

    kbs_verdict_deinit(context->verdict);
    *ret = (struct kbs_evidence_result){.claims = NULL};
    if ((unsigned int)tee >= KBS_TEE_COUNT ||
        (kinds[tee].verify == NULL && !kinds[tee].configured) || kinds[tee].place != place) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "there is no verifier here for %s as %s",
                        kbs_tee_name(tee), place == KBS_EVIDENCE_PRIMARY ? "a TEE" : "a device");
    }
    ret->class = kinds[tee].class;
    r = kinds[tee].configured ? appraise(tee, evidence, report_data, context, ret, err)
                              : kinds[tee].verify(evidence, report_data, ret, err);
    if (r == 0 &&
        (ret->binding < KBS_BINDING_EVIDENCE || !json_is_object(ret->claims) || !ret->verified)) {
        r = kbs_fail(err, KBS_INTERNAL, "the %s verifier gave no result", kbs_tee_name(tee));
    }
    if (r != 0) {
        kbs_evidence_result_deinit(ret);
    }
    return r;
}
