/*
 * Intel Trust Authority, claims of version 1 (flat) and 2 (nested under "tdx" or "sgx").
 *
 * It signs tokens for platforms that are out of date too, with a status that the relying party has to look at,
 * and for any policy, whether met or not. What it hashed is runtime_data, after val and iat of the nonce
 * that it gave, if it gave one; on Azure, where the report data is the paravisor's, user_data is
 * bound by the paravisor's variable data.
 */
#include <ctype.h>

#include "attest/issuer/profile.h"
#include "base/encoding.h"

struct appraised {
    const json_t *claims; /* those of the TEE: nested, or all */
    const char *prefix;   /* "tdx" */
    bool azure;
    const char *report_data; /* names of claims */
    const char *debuggable;
    const char *measurement;
    enum kbs_hash hash;
};

static const struct appraised tdx = {.prefix = "tdx",
                                     .report_data = "tdx_report_data",
                                     .debuggable = "tdx_is_debuggable",
                                     .measurement = "tdx_mrtd",
                                     .hash = KBS_HASH_SHA512};
static const struct appraised sgx = {.prefix = "sgx",
                                     .report_data = "sgx_report_data",
                                     .debuggable = "sgx_is_debuggable",
                                     .measurement = "sgx_mrenclave",
                                     .hash = KBS_HASH_SHA256};

/* Version 2 has one object, named as the type of what is in it; version 1 none. */
static int find_tee(struct kbs_issuer_job *job, struct appraised *ret, struct kbs_error *err)
{
    const json_t *in_tdx = json_object_get(job->claims, "tdx");
    const json_t *in_sgx = json_object_get(job->claims, "sgx");
    const json_t *nested = in_tdx != NULL ? in_tdx : in_sgx;
    const json_t *at = nested != NULL ? nested : job->claims;
    struct kbs_span type = kbs_claim_text(at, "attester_type");
    bool is_tdx;

    if (type.len == 0) {
        type = kbs_claim_text(job->claims, "attester_type");
    }
    is_tdx = kbs_span_equal_str(type, "TDX");
    if ((in_tdx != NULL && in_sgx != NULL) || (!is_tdx && !kbs_span_equal_str(type, "SGX")) ||
        (nested != NULL && (in_tdx != NULL) != is_tdx)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: \"attester_type\" is not TDX or SGX, or two of them");
    }
    *ret = is_tdx ? tdx : sgx;
    ret->claims = at;
    ret->azure = is_tdx && json_is_object(json_object_get(at, "attester_user_data"));
    return kbs_require_tee(job,
                           ret->azure ? KBS_TEE_AZ_TDX_VTPM
                           : is_tdx   ? KBS_TEE_TDX
                                      : KBS_TEE_SGX,
                           err);
}

static bool matched(const json_t *list, const char *id)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);

        if (kbs_claim_is(v, "id", id) ||
            (json_is_string(v) && strcmp(json_string_value(v), id) == 0)) {
            return true;
        }
    }
    return false;
}

/* All that are configured were met, and none of them was not. */
static int policies_check(const struct kbs_issuer_job *job, const struct appraised *a,
                          struct kbs_error *err)
{
    const struct kbs_issuer_list *ids = &job->issuer->require[KBS_REQUIRE_POLICY_IDS];

    for (size_t i = 0; i < ids->n; i++) {
        bool met = matched(json_object_get(a->claims, "policy_ids_matched"), ids->v[i]) ||
                   matched(json_object_get(job->claims, "policy_ids_matched"), ids->v[i]);
        bool unmet = matched(json_object_get(a->claims, "policy_ids_unmatched"), ids->v[i]) ||
                     matched(json_object_get(job->claims, "policy_ids_unmatched"), ids->v[i]);

        if (!met || unmet) {
            return kbs_fail(err, KBS_UNAUTHENTICATED,
                            "attestation token: a required policy was not met");
        }
    }
    return 0;
}

static int state_check(const struct kbs_issuer_job *job, const struct appraised *a,
                       struct kbs_error *err)
{
    struct kbs_span dbgstat = kbs_claim_text(job->claims, "dbgstat");

    if (kbs_claim_must_be(a->claims, a->debuggable, false, err) != 0) {
        return -1;
    }
    if (json_object_get(job->claims, "dbgstat") != NULL &&
        !kbs_span_starts_with(dbgstat, "disabled")) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: debugging is not disabled");
    }
    if (kbs_require_member(job, KBS_REQUIRE_TCB_STATUSES, a->claims, "attester_tcb_status",
                           "UpToDate", err) != 0 ||
        policies_check(job, a, err) != 0) {
        return -1;
    }
    return kbs_require_given(job, KBS_REQUIRE_MEASUREMENTS)
               ? kbs_require_member(job, KBS_REQUIRE_MEASUREMENTS, a->claims, a->measurement, NULL,
                                    err)
               : 0;
}

/* val || iat of the nonce that the service gave; empty if it gave none. */
static int nonce_get(const struct kbs_issuer_job *job, const struct appraised *a,
                     struct kbs_buf *ret, struct kbs_error *err)
{
    const json_t *nonce = json_object_get(a->claims, "verifier_nonce");
    struct kbs_buf part = KBS_BUF(KBS_ISSUER_FIELD_MAX_BYTES);
    KBS_AUTO_JSON expected = NULL;
    int rc = 0;

    nonce = nonce != NULL ? nonce : json_object_get(job->claims, "verifier_nonce");
    if (job->expected->verifier_nonce.len != 0 &&
        (kbs_json_parse_object(job->expected->verifier_nonce, "verifier nonce", &expected, err) !=
             0 ||
         !json_equal(expected, nonce))) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: its verifier_nonce is not the one that was given");
    }
    if (nonce != NULL && !json_is_null(nonce)) {
        rc = kbs_issuer_bytes(json_object_get(nonce, "val"), KBS_TEXT_BASE64, "val", &part, err);
        kbs_buf_put_span(ret, kbs_buf_span(&part));
        if (rc == 0) {
            rc =
                kbs_issuer_bytes(json_object_get(nonce, "iat"), KBS_TEXT_BASE64, "iat", &part, err);
            kbs_buf_put_span(ret, kbs_buf_span(&part));
        }
    }
    kbs_buf_deinit(&part);
    return rc;
}

/* The report data is the digest of what was sent: as we know it, as bytes, or as an object. */
static int field_explain(const struct kbs_issuer_job *job, const struct appraised *a,
                         struct kbs_span field, struct kbs_error *err)
{
    const json_t *held = json_object_get(a->claims, "attester_held_data");
    const json_t *runtime = json_object_get(a->claims, "attester_runtime_data");
    struct kbs_buf nonce = KBS_BUF(KBS_ISSUER_FIELD_MAX_BYTES);
    struct kbs_buf bytes = KBS_BUF(KBS_LIMIT_JWT_BYTES);
    int rc = nonce_get(job, a, &nonce, err);

    if (rc == 0 && job->session && job->expected->runtime_data.len != 0) {
        rc = kbs_issuer_explains_bytes(field, kbs_buf_span(&nonce), job->expected->runtime_data,
                                       a->hash, "runtime_data", err);
    } else if (rc == 0 && (held != NULL || !json_is_object(runtime))) {
        rc = kbs_issuer_bytes(held, KBS_TEXT_BASE64, "attester_held_data", &bytes, err);
        if (rc == 0) {
            rc = kbs_issuer_explains_bytes(field, kbs_buf_span(&nonce), kbs_buf_span(&bytes),
                                           a->hash, "attester_held_data", err);
        }
    }
    if (rc == 0 && !job->session && json_is_object(runtime)) { /* whichever has the key */
        rc = kbs_issuer_explains(field, kbs_buf_span(&nonce), runtime, a->hash,
                                 "attester_runtime_data", err);
    }
    kbs_buf_deinit(&bytes);
    kbs_buf_deinit(&nonce);
    return rc;
}

/* Azure: the paravisor's variable data names the digest of user_data, in hex of either case. */
static int azure_field_get(const struct appraised *a, struct kbs_buf *ret, struct kbs_error *err)
{
    const json_t *runtime = json_object_get(a->claims, "attester_runtime_data");
    struct kbs_span text = kbs_claim_text(runtime, "user-data");
    struct kbs_buf lower = KBS_BUF(2 * KBS_ISSUER_FIELD_MAX_BYTES);
    int rc;

    for (size_t i = 0; i < text.len && !lower.failed; i++) {
        kbs_buf_put_u8(&lower, (uint8_t)tolower(text.p[i]));
    }
    rc = !lower.failed && text.len > 0 ? kbs_hex_get(ret, kbs_buf_span(&lower)) : -1;
    kbs_buf_deinit(&lower);
    return rc == 0 ? 0
                   : kbs_fail(err, KBS_UNAUTHENTICATED,
                              "attestation token: no \"user-data\" of the paravisor");
}

static int bind(struct kbs_issuer_job *job, const struct appraised *a, struct kbs_buf *field,
                const json_t **ret_runtime, struct kbs_error *err)
{
    const json_t *runtime =
        json_object_get(a->claims, a->azure ? "attester_user_data" : "attester_runtime_data");

    *ret_runtime = json_is_object(runtime) ? runtime : NULL;
    if ((a->azure ? azure_field_get(a, field, err)
                  : kbs_issuer_bytes(json_object_get(a->claims, a->report_data), KBS_TEXT_HEX,
                                     a->report_data, field, err)) != 0 ||
        kbs_issuer_report_data(job, kbs_buf_span(field), err) != 0) {
        return -1;
    }
    if (*ret_runtime != NULL && kbs_issuer_runtime_data(job, *ret_runtime, err) != 0) {
        return -1;
    }
    if (a->azure) {
        return kbs_issuer_explains(kbs_buf_span(field), KBS_SPAN_EMPTY, runtime, KBS_HASH_NONE,
                                   "attester_user_data", err);
    }
    return field_explain(job, a, kbs_buf_span(field), err);
}

int kbs_issuer_map_ita(struct kbs_issuer_job *job, struct kbs_error *err)
{
    struct kbs_buf field = KBS_BUF(KBS_ISSUER_FIELD_MAX_BYTES);
    const json_t *runtime = NULL;
    struct appraised a = {.claims = NULL};
    int rc = -1;

    if (find_tee(job, &a, err) == 0 && state_check(job, &a, err) == 0 &&
        kbs_issuer_key_take(job, err) == 0 && bind(job, &a, &field, &runtime, err) == 0) {
        bool current = kbs_claim_is(a.claims, "attester_tcb_status", "UpToDate");
        bool listed = kbs_require_given(job, KBS_REQUIRE_POLICY_IDS) ||
                      kbs_require_given(job, KBS_REQUIRE_MEASUREMENTS);
        const struct kbs_derived derived = {
            .name = KBS_ISSUER_CPU,
            .tee = job->ret->tee,
            .claims = job->claims,
            .hardware = current ? KBS_TRUST_GENUINE : KBS_TRUST_HARDWARE_OLD,
            .executables = listed ? KBS_TRUST_EXECUTABLES_KNOWN : KBS_TRUST_EXECUTABLES_OTHER,
            .configuration = KBS_TRUST_CONFIGURATION_SAFE,
            .report_data = kbs_buf_span(&field),
            .runtime_data = runtime,
        };

        rc = kbs_issuer_derived_add(job, &derived, err);
    }
    kbs_buf_deinit(&field);
    return rc;
}
