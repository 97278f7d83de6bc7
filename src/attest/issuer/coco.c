/*
 * EARs of the CoCo Attestation Service (draft-ietf-rats-ear with Trustee's member names), and those of another
 * service like this one.
 *
 * Every submodule counts: who looks at cpu0 alone misses a GPU that failed. The TEE's runtime data is what binds
 * the key: in a session it is ours, in a passport it must be what report_data is the digest of, which
 * needs a service that is set to verbose tokens. Devices' runtime data names the same key and nonce; what
 * ties their evidence to the TEE is the additional-evidence that was hashed with it.
 */
#include "attest/issuer/profile.h"

#define PROFILE "tag:github.com,2024:confidential-containers/Trustee"
#define SUBMODS_MAX 16

/* The one kind of TEE whose claims stand in the evidence. */
static int tee_of(const json_t *evidence, enum kbs_tee *ret, struct kbs_error *err)
{
    const char *name;
    json_t *v;

    *ret = KBS_TEE_NONE;
    json_object_foreach((json_t *)(uintptr_t)evidence, name, v)
    {
        enum kbs_tee tee = kbs_tee_from_name(kbs_span_str(name));

        if (tee != KBS_TEE_NONE && *ret != KBS_TEE_NONE) {
            return kbs_fail(err, KBS_UNAUTHENTICATED,
                            "attestation token: a submodule is of two kinds of TEE");
        }
        *ret = tee != KBS_TEE_NONE ? tee : *ret;
    }
    return *ret != KBS_TEE_NONE
               ? 0
               : kbs_fail(err, KBS_UNAUTHENTICATED,
                          "attestation token: a submodule is of no kind of TEE that is known");
}

static int policy_check(const struct kbs_issuer_job *job, const json_t *submod,
                        struct kbs_error *err)
{
    if (!kbs_require_given(job, KBS_REQUIRE_POLICY_IDS)) {
        return 0;
    }
    return kbs_require_member(job, KBS_REQUIRE_POLICY_IDS, submod, "ear.appraisal-policy-id", NULL,
                              err);
}

static int cpu_bind(struct kbs_issuer_job *job, enum kbs_tee tee, const json_t *evidence,
                    bool whole, struct kbs_error *err)
{
    const json_t *runtime = json_object_get(evidence, "runtime_data_claims");
    struct kbs_buf field = KBS_BUF(KBS_ISSUER_FIELD_MAX_BYTES);
    int rc = kbs_issuer_bytes(json_object_get(evidence, "report_data"),
                              kbs_evidence_is_sample(tee) ? KBS_TEXT_BASE64 : KBS_TEXT_HEX,
                              "report_data", &field, err);

    if (rc == 0 && !json_is_object(runtime)) {
        rc = kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: no \"runtime_data_claims\"");
    }
    if (rc == 0) {
        rc = kbs_issuer_report_data(job, kbs_buf_span(&field), err);
    }
    if (rc == 0) {
        rc = kbs_issuer_runtime_data(job, runtime, err);
    }
    if (rc == 0 && !job->session && whole) {
        rc = kbs_issuer_explains(kbs_buf_span(&field), KBS_SPAN_EMPTY, runtime, KBS_HASH_NONE,
                                 "runtime_data_claims", err);
    }
    if (rc == 0 && job->ret->has_tee_key &&
        !kbs_issuer_key_is(job, json_object_get(runtime, "tee-pubkey"))) {
        rc = kbs_fail(err, KBS_UNAUTHENTICATED,
                      "attestation token: its TEE key is not the one in its runtime data");
    }
    kbs_buf_deinit(&field);
    return rc;
}

/* A device that says for whom it is says the same as the TEE. */
static int device_bind(const struct kbs_issuer_job *job, const json_t *evidence,
                       const json_t *cpu_runtime, struct kbs_error *err)
{
    const json_t *runtime = json_object_get(evidence, "runtime_data_claims");
    const json_t *key = json_object_get(runtime, "tee-pubkey");
    const json_t *nonce = json_object_get(runtime, "nonce");

    if (runtime == NULL || json_is_null(runtime)) {
        return 0;
    }
    if (job->ret->has_tee_key && !kbs_issuer_key_is(job, key)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: a device's TEE key is another one");
    }
    return json_equal(nonce, json_object_get(cpu_runtime, "nonce"))
               ? 0
               : kbs_fail(err, KBS_UNAUTHENTICATED,
                          "attestation token: a device's nonce is another one");
}

static int cpu_take(struct kbs_issuer_job *job, const json_t *cpu, bool whole,
                    struct kbs_error *err)
{
    const struct kbs_appraisal appraisal = {.name = KBS_ISSUER_CPU, .members = cpu};
    const json_t *evidence = json_object_get(cpu, KBS_ISSUER_EVIDENCE);
    enum kbs_tee tee;

    if (tee_of(evidence, &tee, err) != 0 || kbs_require_tee(job, tee, err) != 0 ||
        policy_check(job, cpu, err) != 0 || kbs_issuer_key_take(job, err) != 0 ||
        cpu_bind(job, tee, evidence, whole, err) != 0) {
        return -1;
    }
    return kbs_issuer_appraisal_take(job, &appraisal, err);
}

static int device_take(struct kbs_issuer_job *job, const char *name, const json_t *submod,
                       const json_t *cpu, struct kbs_error *err)
{
    const struct kbs_appraisal appraisal = {.name = name, .members = submod};
    const json_t *evidence = json_object_get(submod, KBS_ISSUER_EVIDENCE);
    const json_t *cpu_evidence = json_object_get(cpu, KBS_ISSUER_EVIDENCE);
    enum kbs_tee tee;

    if (tee_of(evidence, &tee, err) != 0 || policy_check(job, submod, err) != 0) {
        return -1;
    }
    if (kbs_evidence_is_sample(tee) && !job->allow_sample) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: sample evidence is not allowed here");
    }
    if (device_bind(job, evidence, json_object_get(cpu_evidence, "runtime_data_claims"), err) !=
        0) {
        return -1;
    }
    return kbs_issuer_appraisal_take(job, &appraisal, err);
}

/* What another service like this one has beside. */
static int own_check(const struct kbs_issuer_job *job, struct kbs_error *err)
{
    const json_t *verifier = json_object_get(job->claims, "ear.verifier-id");

    if (!kbs_claim_is(verifier, "developer", "kbs-hsm") ||
        kbs_claim_text(job->claims, "sid").len == 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: it is not of a service like this one");
    }
    return 0;
}

int kbs_issuer_map_coco(struct kbs_issuer_job *job, struct kbs_error *err)
{
    const json_t *submods = json_object_get(job->claims, "submods");
    const json_t *cpu = json_object_get(submods, KBS_ISSUER_CPU);
    bool own = kbs_issuer_profile_of(job->issuer) == KBS_ISSUER_KBS;
    const char *name;
    json_t *v;

    if (!kbs_claim_is(job->claims, "eat_profile", PROFILE)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: another \"eat_profile\"");
    }
    if (own && own_check(job, err) != 0) {
        return -1;
    }
    if (!json_is_object(cpu) || json_object_size(submods) > SUBMODS_MAX) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: no submodule cpu0, or more than %d", SUBMODS_MAX);
    }
    /* Ours do not repeat devices' evidence, which is part of what was hashed. */
    if (cpu_take(job, cpu, !own || json_object_size(submods) == 1, err) != 0) {
        return -1;
    }
    json_object_foreach((json_t *)(uintptr_t)submods, name, v)
    {
        if (strcmp(name, KBS_ISSUER_CPU) != 0 && device_take(job, name, v, cpu, err) != 0) {
            return -1;
        }
    }
    return 0;
}
