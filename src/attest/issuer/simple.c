/*
 * Simple tokens of the CoCo Attestation Service, which it had before EARs and which are still deployed.
 *
 * They have no tiers: that a policy is in evaluation-reports says that it was met, and nothing says what it
 * asked. So the policies' hashes must be configured, and every one that is reported must be among them. A key
 * in the payload (`jwk`, of the oldest ones) is never looked at.
 */
#include "attest/issuer/profile.h"

static int reports_check(const struct kbs_issuer_job *job, struct kbs_error *err)
{
    const json_t *reports = json_object_get(job->claims, "evaluation-reports");

    if (json_array_size(reports) == 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: no policy was met");
    }
    for (size_t i = 0; i < json_array_size(reports); i++) {
        const json_t *report = json_array_get(reports, i);

        if (kbs_require_member(job, KBS_REQUIRE_POLICY_HASHES, report, "policy-hash", NULL, err) !=
                0 ||
            (kbs_require_given(job, KBS_REQUIRE_POLICY_IDS) &&
             kbs_require_member(job, KBS_REQUIRE_POLICY_IDS, report, "policy-id", NULL, err) !=
                 0)) {
            return -1;
        }
    }
    return 0;
}

/* tcb-status: an object, or one as a text. Returns owned. */
static int tcb_get(const json_t *claims, json_t **ret, struct kbs_error *err)
{
    json_t *tcb = json_object_get(claims, "tcb-status");
    struct kbs_error why = KBS_ERROR_NONE;

    if (json_is_object(tcb)) {
        *ret = json_incref(tcb);
        return 0;
    }
    *ret = NULL;
    if (!json_is_string(tcb) ||
        kbs_json_parse_object(kbs_claim_text(claims, "tcb-status"), "tcb-status", ret, &why) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: no valid \"tcb-status\"");
    }
    return 0;
}

/* Its names are flattened paths; TDX has one of its own. Hex, or base64 from the older verifiers. */
static int report_data_get(const json_t *tcb, enum kbs_tee tee, struct kbs_buf *ret,
                           struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE;
    struct kbs_buf name = KBS_BUF(64);
    const json_t *text;

    kbs_buf_printf(&name, "%s.report_data", kbs_tee_name(tee));
    text = json_object_get(tcb, kbs_buf_cstr(&name));
    kbs_buf_deinit(&name);
    if (text == NULL && tee == KBS_TEE_TDX) {
        text = json_object_get(tcb, "tdx.quote.body.report_data");
    }
    return kbs_issuer_bytes(text, KBS_TEXT_HEX, "report_data", ret, &why) == 0
               ? 0
               : kbs_issuer_bytes(text, KBS_TEXT_BASE64, "report_data", ret, err);
}

static int bind(struct kbs_issuer_job *job, const json_t *runtime, struct kbs_buf *field,
                struct kbs_error *err)
{
    KBS_AUTO_JSON tcb = NULL;

    if (tcb_get(job->claims, &tcb, err) != 0 ||
        report_data_get(tcb, job->ret->tee, field, err) != 0 ||
        kbs_issuer_report_data(job, kbs_buf_span(field), err) != 0) {
        return -1;
    }
    if (!json_is_object(runtime)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: no \"runtime_data\"");
    }
    if (job->ret->has_tee_key && !kbs_issuer_key_is(job, json_object_get(runtime, "tee-pubkey"))) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: its TEE key is not the one in its runtime data");
    }
    return job->session ? kbs_issuer_runtime_data(job, runtime, err)
                        : kbs_issuer_explains(kbs_buf_span(field), KBS_SPAN_EMPTY, runtime,
                                              KBS_HASH_NONE, "runtime_data", err);
}

int kbs_issuer_map_simple(struct kbs_issuer_job *job, struct kbs_error *err)
{
    const json_t *customized = json_object_get(job->claims, "customized_claims");
    const json_t *runtime = json_object_get(customized, "runtime_data");
    struct kbs_buf field = KBS_BUF(KBS_ISSUER_FIELD_MAX_BYTES);
    int rc = -1;

    if (kbs_require_tee(job, kbs_tee_from_name(kbs_claim_text(job->claims, "tee")), err) == 0 &&
        reports_check(job, err) == 0 && kbs_issuer_key_take(job, err) == 0 &&
        bind(job, runtime, &field, err) == 0) {
        const struct kbs_derived derived = {
            .name = KBS_ISSUER_CPU,
            .tee = job->ret->tee,
            .claims = job->claims,
            .hardware = KBS_TRUST_GENUINE,
            .executables = KBS_TRUST_EXECUTABLES_KNOWN, /* by a policy that is listed */
            .policy_id = kbs_claim_text(
                json_array_get(json_object_get(job->claims, "evaluation-reports"), 0), "policy-id"),
            .report_data = kbs_buf_span(&field),
            .runtime_data = runtime,
            .init_data = json_string_value(json_object_get(customized, "init_data")),
        };

        rc = kbs_issuer_derived_add(job, &derived, err);
    }
    kbs_buf_deinit(&field);
    return rc;
}
