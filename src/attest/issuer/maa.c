/*
 * Microsoft Azure Attestation: SEV-SNP, TDX and SGX evidence, and guests of Azure's confidential VMs ("azurevm").
 *
 * Shared instances sign for everybody under a policy that its caller may have written, and the policy decides on
 * the outgoing claims: so its hash must be configured, and what must not be wrong (debugging, VMPL, what
 * was measured) is looked at here whatever it says.
 *
 * The hardware's report data is SHA-256 of the runtime data as bytes, which the token does not repeat: without a
 * handshake it can be recomputed only if the guest sent canonical JSON (canonical_runtime), or of SGX,
 * which repeats it. An azurevm token binds its key to nothing but the issuer's word.
 */
#include "attest/issuer/profile.h"

/* A kind of report, and the claims that it is checked by. */
struct report {
    const char *type;
    enum kbs_tee tee;
    enum kbs_tee azure_tee; /* below an azurevm */
    const char *report_data;
    const char *debug[2];    /* one of which must be there, and false */
    const char *measurement; /* of measurements */
    const char *signer;      /* of id_keys */
    bool has_compliance;
    bool has_tcb_status;
};

static const struct report reports[] = {
    {.type = "sevsnpvm",
     .tee = KBS_TEE_SNP,
     .azure_tee = KBS_TEE_AZ_SNP_VTPM,
     .report_data = "x-ms-sevsnpvm-reportdata",
     .debug = {"x-ms-sevsnpvm-is-debuggable", NULL},
     .measurement = "x-ms-sevsnpvm-launchmeasurement",
     .signer = "x-ms-sevsnpvm-idkeydigest",
     .has_compliance = true},
    {.type = "tdxvm",
     .tee = KBS_TEE_TDX,
     .azure_tee = KBS_TEE_AZ_TDX_VTPM,
     .report_data = "tdx_report_data",
     .debug = {"tdx_td_attributes_debug", "tdx_is_debuggable"},
     .measurement = "tdx_mrtd",
     .signer = "tdx_mrsignerseam",
     .has_tcb_status = true},
    {.type = "sgx",
     .tee = KBS_TEE_SGX,
     .report_data = "x-ms-sgx-report-data",
     .debug = {"x-ms-sgx-is-debuggable", NULL},
     .measurement = "x-ms-sgx-mrenclave",
     .signer = "x-ms-sgx-mrsigner"},
};

/* The claims of the report, and what kind it is. */
static int report_find(struct kbs_issuer_job *job, const json_t **ret_claims,
                       const struct report **ret, bool *ret_azurevm, struct kbs_error *err)
{
    const json_t *at = job->claims;

    *ret = NULL;
    *ret_azurevm = kbs_claim_is(at, "x-ms-attestation-type", "azurevm");
    if (*ret_azurevm) {
        at = json_object_get(at, "x-ms-isolation-tee");
    }
    for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++) {
        if (kbs_claim_is(at, "x-ms-attestation-type", reports[i].type) &&
            (!*ret_azurevm || reports[i].azure_tee != KBS_TEE_NONE)) {
            *ret = &reports[i];
        }
    }
    *ret_claims = at;
    if (*ret == NULL) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: \"x-ms-attestation-type\" is not one of ours");
    }
    return kbs_require_tee(job, *ret_azurevm ? (*ret)->azure_tee : (*ret)->tee, err);
}

static int debug_check(const json_t *claims, const struct report *r, struct kbs_error *err)
{
    const char *name = r->debug[0];

    if (json_object_get(claims, name) == NULL && r->debug[1] != NULL) {
        name = r->debug[1];
    }
    return kbs_claim_must_be(claims, name, false, err);
}

static int snp_check(const json_t *claims, struct kbs_error *err)
{
    const json_t *vmpl = json_object_get(claims, "x-ms-sevsnpvm-vmpl");

    if (kbs_claim_must_be(claims, "x-ms-sevsnpvm-migration-allowed", false, err) != 0) {
        return -1;
    }
    return json_is_integer(vmpl) && json_integer_value(vmpl) == 0
               ? 0
               : kbs_fail(err, KBS_UNAUTHENTICATED,
                          "attestation token: the report is not of VMPL 0");
}

static int verdict_check(const struct kbs_issuer_job *job, const json_t *claims,
                         const struct report *r, struct kbs_error *err)
{
    bool given = kbs_require_given(job, KBS_REQUIRE_COMPLIANCE);

    if (kbs_require_member(job, KBS_REQUIRE_POLICY_HASHES, job->claims, "x-ms-policy-hash", NULL,
                           err) != 0) {
        return -1;
    }
    if (r->has_compliance &&
        (given || !kbs_claim_is(claims, "x-ms-compliance-status", "azure-compliant-uvm"))) {
        return kbs_require_member(job, KBS_REQUIRE_COMPLIANCE, claims, "x-ms-compliance-status",
                                  "azure-compliant-cvm", err);
    }
    if (r->has_tcb_status) {
        return kbs_require_member(job, KBS_REQUIRE_TCB_STATUSES, claims, "attester_tcb_status",
                                  "UpToDate", err);
    }
    return 0;
}

/* By what was measured or by who signed it, as far as each is configured. */
static int measured_check(const struct kbs_issuer_job *job, const json_t *claims,
                          const struct report *r, struct kbs_error *err)
{
    if (kbs_require_given(job, KBS_REQUIRE_MEASUREMENTS) &&
        kbs_require_member(job, KBS_REQUIRE_MEASUREMENTS, claims, r->measurement, NULL, err) != 0) {
        return -1;
    }
    if (kbs_require_given(job, KBS_REQUIRE_ID_KEYS) &&
        kbs_require_member(job, KBS_REQUIRE_ID_KEYS, claims, r->signer, NULL, err) != 0) {
        return -1;
    }
    if (!kbs_require_given(job, KBS_REQUIRE_HOST_DATA)) {
        return 0;
    }
    return kbs_require_member(job, KBS_REQUIRE_HOST_DATA, claims, "x-ms-sevsnpvm-hostdata", NULL,
                              err);
}

static int report_check(struct kbs_issuer_job *job, const json_t *claims, const struct report *r,
                        struct kbs_error *err)
{
    if (verdict_check(job, claims, r, err) != 0 || debug_check(claims, r, err) != 0 ||
        (r->tee == KBS_TEE_SNP && snp_check(claims, err) != 0)) {
        return -1;
    }
    return measured_check(job, claims, r, err);
}

/* Of SGX: the bytes that were hashed are there, and the runtime data is what they say. */
static int held_explain(struct kbs_span field, struct kbs_span held, const json_t *runtime,
                        struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE;
    KBS_AUTO_JSON said = NULL;

    if (kbs_issuer_explains_bytes(field, KBS_SPAN_EMPTY, held, KBS_HASH_SHA256, "x-ms-sgx-ehd",
                                  err) != 0) {
        return -1;
    }
    if (kbs_json_parse_object(held, "x-ms-sgx-ehd", &said, &why) != 0 ||
        !json_equal(said, runtime)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: \"x-ms-runtime\" is not what was hashed");
    }
    return 0;
}

static int explain(const struct kbs_issuer_job *job, struct kbs_span field, const json_t *runtime,
                   struct kbs_error *err)
{
    const json_t *held = json_object_get(job->claims, "x-ms-sgx-ehd");
    struct kbs_buf bytes = KBS_BUF(KBS_LIMIT_JWT_BYTES);
    int rc = 0;

    if (job->session && job->expected->runtime_data.len != 0) {
        rc = kbs_issuer_explains_bytes(field, KBS_SPAN_EMPTY, job->expected->runtime_data,
                                       KBS_HASH_SHA256, "runtime_data", err);
    } else if (held != NULL) {
        rc = kbs_issuer_bytes(held, KBS_TEXT_BASE64URL, "x-ms-sgx-ehd", &bytes, err);
        if (rc == 0) {
            rc = held_explain(field, kbs_buf_span(&bytes), runtime, err);
        }
    } else if (kbs_require_given(job, KBS_REQUIRE_CANONICAL_RUNTIME)) {
        rc = kbs_issuer_explains(field, KBS_SPAN_EMPTY, runtime, KBS_HASH_SHA256, "x-ms-runtime",
                                 err);
    }
    kbs_buf_deinit(&bytes);
    return rc;
}

static int bind(struct kbs_issuer_job *job, const json_t *claims, const struct report *r,
                const json_t *runtime, struct kbs_buf *field, struct kbs_error *err)
{
    if (kbs_issuer_bytes(json_object_get(claims, r->report_data), KBS_TEXT_HEX, r->report_data,
                         field, err) != 0 ||
        kbs_issuer_report_data(job, kbs_buf_span(field), err) != 0) {
        return -1;
    }
    if (runtime != NULL && kbs_issuer_runtime_data(job, runtime, err) != 0) {
        return -1;
    }
    return explain(job, kbs_buf_span(field), runtime, err);
}

int kbs_issuer_map_maa(struct kbs_issuer_job *job, struct kbs_error *err)
{
    const json_t *runtime = json_object_get(job->claims, "x-ms-runtime");
    struct kbs_buf field = KBS_BUF(KBS_ISSUER_FIELD_MAX_BYTES);
    const struct report *r = NULL;
    const json_t *claims = NULL;
    bool azurevm = false;
    int rc = -1;

    if (report_find(job, &claims, &r, &azurevm, err) != 0 ||
        report_check(job, claims, r, err) != 0 || kbs_issuer_key_take(job, err) != 0) {
        return -1;
    }
    if (azurevm && job->session) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: one of an azurevm repeats nothing of its evidence");
    }
    if (azurevm || bind(job, claims, r, runtime, &field, err) == 0) {
        const struct kbs_derived derived = {
            .name = KBS_ISSUER_CPU,
            .tee = job->ret->tee,
            .claims = job->claims,
            .hardware = KBS_TRUST_GENUINE,
            /* of an azurevm, the paravisor is known and not what runs above it */
            .executables = azurevm ? KBS_TRUST_EXECUTABLES_OTHER : KBS_TRUST_EXECUTABLES_KNOWN,
            .configuration = KBS_TRUST_CONFIGURATION_SAFE,
            .policy_id = kbs_claim_text(job->claims, "x-ms-policy-hash"),
            .report_data = kbs_buf_span(&field),
            .runtime_data = azurevm ? NULL : runtime,
            .init_data = json_string_value(json_object_get(claims, "x-ms-sevsnpvm-hostdata")),
        };

        rc = kbs_issuer_derived_add(job, &derived, err);
    }
    kbs_buf_deinit(&field);
    return rc;
}
