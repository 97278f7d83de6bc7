/*
 * Google Cloud Attestation, for Confidential Space.
 *
 * Its tokens name no key. What ties one to a session are its nonces: the session's own, and the digest of the
 * TEE's key; without the second one, whoever stands between could bring a key of his own. So there is no
 * passport here. Its default audience is everybody's and refused. Machines without attestable integrity
 * (shielded VMs, plain SEV) are of no kind of TEE that is known here.
 */
#include "attest/issuer/profile.h"
#include "base/encoding.h"
#include "jose/write/jose.h"

#define DEFAULT_AUDIENCE "https://sts.googleapis.com"
#define OEMID 11129
#define NONCES_MAX 6

static bool list_has(const json_t *v, struct kbs_span text)
{
    if (json_is_string(v)) {
        return kbs_span_equal(kbs_span(json_string_value(v), json_string_length(v)), text);
    }
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *one = json_array_get(v, i);

        if (json_is_string(one) &&
            kbs_span_equal(kbs_span(json_string_value(one), json_string_length(one)), text)) {
            return true;
        }
    }
    return false;
}

static enum kbs_tee tee_of(const json_t *claims)
{
    if (kbs_claim_is(claims, "hwmodel", "GCP_INTEL_TDX")) {
        return KBS_TEE_TDX;
    }
    return kbs_claim_is(claims, "hwmodel", "GCP_AMD_SEV_SNP") ? KBS_TEE_SNP : KBS_TEE_NONE;
}

static int machine_check(const json_t *claims, struct kbs_error *err)
{
    const json_t *oemid = json_object_get(claims, "oemid");

    if (list_has(json_object_get(claims, "aud"), KBS_SPAN_LIT(DEFAULT_AUDIENCE))) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: its audience is the default one");
    }
    if (!json_is_integer(oemid) || json_integer_value(oemid) != OEMID ||
        !kbs_claim_is(claims, "swname", "CONFIDENTIAL_SPACE")) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: it is not of a Confidential Space");
    }
    if (!kbs_claim_is(claims, "dbgstat", "disabled-since-boot")) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: debugging is not disabled");
    }
    return kbs_claim_must_be(claims, "secboot", true, err);
}

static int workload_check(const struct kbs_issuer_job *job, struct kbs_error *err)
{
    const json_t *submods = json_object_get(job->claims, "submods");
    const json_t *support =
        json_object_get(json_object_get(submods, "confidential_space"), "support_attributes");
    const struct kbs_issuer_list *wanted = &job->issuer->require[KBS_REQUIRE_SUPPORT];
    bool supported = wanted->n == 0 && list_has(support, KBS_SPAN_LIT("STABLE"));

    for (size_t i = 0; i < wanted->n; i++) {
        supported = supported || list_has(support, kbs_span_str(wanted->v[i]));
    }
    if (!supported) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: its Confidential Space is not a supported one");
    }
    return kbs_require_given(job, KBS_REQUIRE_IMAGES)
               ? kbs_require_member(job, KBS_REQUIRE_IMAGES, json_object_get(submods, "container"),
                                    "image_digest", NULL, err)
               : 0;
}

/* The session's nonce, and base64url(SHA-256(canonical JWK)) of its key. */
static int nonces_check(const struct kbs_issuer_job *job, struct kbs_error *err)
{
    const json_t *nonces = json_object_get(job->claims, "eat_nonce");
    struct kbs_buf jwk = KBS_BUF(2 * KBS_ISSUER_FIELD_MAX_BYTES);
    struct kbs_buf text = KBS_BUF(64);
    uint8_t digest[KBS_SHA256_BYTES];
    bool has_key;

    if (job->expected->tee_key == NULL || job->expected->nonce.len == 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: it counts only in a handshake");
    }
    kbs_jose_tee_jwk_put(&jwk, job->expected->tee_key);
    kbs_sha256(kbs_buf_span(&jwk), digest);
    kbs_base64url_put(&text, kbs_span(digest, sizeof(digest)));
    has_key = !jwk.failed && !text.failed && list_has(nonces, kbs_buf_span(&text));
    kbs_buf_deinit(&jwk);
    kbs_buf_deinit(&text);
    if (json_array_size(nonces) > NONCES_MAX || !has_key ||
        !list_has(nonces, job->expected->nonce)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: its nonces are not the session's nonce and key");
    }
    return 0;
}

int kbs_issuer_map_google(struct kbs_issuer_job *job, struct kbs_error *err)
{
    bool listed = kbs_require_given(job, KBS_REQUIRE_IMAGES);
    const struct kbs_derived derived = {
        .name = KBS_ISSUER_CPU,
        .tee = tee_of(job->claims),
        .claims = job->claims,
        .hardware = KBS_TRUST_GENUINE,
        .executables = listed ? KBS_TRUST_EXECUTABLES_KNOWN : KBS_TRUST_EXECUTABLES_OTHER,
        .configuration = KBS_TRUST_CONFIGURATION_SAFE,
    };

    if (kbs_require_tee(job, derived.tee, err) != 0 || machine_check(job->claims, err) != 0 ||
        workload_check(job, err) != 0 || kbs_issuer_key_take(job, err) != 0 ||
        nonces_check(job, err) != 0) {
        return -1;
    }
    return kbs_issuer_derived_add(job, &derived, err);
}
