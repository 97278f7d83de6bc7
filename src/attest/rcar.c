/*
 * RCAR messages.
 *
 * The digest that binds a TEE to its key is over text that both sides make for themselves from
 * values, not over text that was sent: the JWK is rebuilt from its known members, as Trustee's
 * typed parse does, so that a member we do not know cannot be part of what is bound, nor break the
 * binding. The one place that writes this text is kbs_rcar_runtime_data_put(); all its leaves are
 * strings and its members are in order, so it is RFC 8785 by construction.
 *
 * What a message may hold beyond this version is refused, not skipped: device evidence
 * (additional_evidence) that nobody verified must not look as if somebody had, and a TEE key that
 * no release could use is refused while the guest still can say why (upstream accepts it and fails
 * at the first resource).
 *
 * init-data is taken when well-formed, but no verifier here has a field to compare its digest with:
 * it is never part of the claims, and counts as not matched.
 *
 * The version is echoed as Trustee words it, since clients look for that text, but only when it is
 * a plain version number: error details do not repeat input.
 */
#include "attest/rcar.h"

#include "base/encoding.h"
#include "base/limits.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"

/*
 * A JWK is under 800 bytes; nonce and additional evidence come out of one HTTP body, escapes
 * included.
 */
#define RUNTIME_DATA_MAX_BYTES (6 * KBS_LIMIT_HTTP_BODY_BYTES + 1024)
#define VERSION_ECHO_MAX_BYTES 16
#define AUTH_FAILED "Attestation error: RCAR handshake Auth failed: "

static bool version_is_plain(struct kbs_span version)
{
    if (version.len == 0 || version.len > VERSION_ECHO_MAX_BYTES) {
        return false;
    }
    for (size_t i = 0; i < version.len; i++) {
        if (version.p[i] != '.' && (version.p[i] < '0' || version.p[i] > '9')) {
            return false;
        }
    }
    return true;
}

static int version_check(struct kbs_span version, struct kbs_error *err)
{
    char echo[VERSION_ECHO_MAX_BYTES + 1] = "another";

    if (kbs_span_equal_str(version, KBS_RCAR_VERSION)) {
        return 0;
    }
    if (version_is_plain(version)) {
        (void)kbs_span_to_cstr(version, echo, sizeof(echo));
    }
    return kbs_fail(err, KBS_UNAUTHENTICATED,
                    AUTH_FAILED "KBS Client Protocol Version Mismatch: expect =" KBS_RCAR_VERSION
                                " while the request is %s",
                    echo);
}

int kbs_rcar_request_parse(struct kbs_span body, struct kbs_rcar_request *ret,
                           struct kbs_error *err)
{
    KBS_AUTO_JSON root = NULL;
    struct kbs_span version;
    struct kbs_span tee;

    *ret = (struct kbs_rcar_request){.tee = KBS_TEE_NONE};
    if (kbs_json_parse_object(body, "the Request", &root, err) != 0 ||
        kbs_json_get_string(root, "version", &version, err) != 0 ||
        kbs_json_get_string(root, "tee", &tee, err) != 0) {
        return -1;
    }
    if (json_object_get(root, "extra-params") == NULL) {
        return kbs_fail(err, KBS_INPUT, "\"extra-params\" is missing");
    }
    if (version_check(version, err) != 0) {
        return -1;
    }
    ret->tee = kbs_tee_from_name(tee);
    if (ret->tee == KBS_TEE_NONE) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        AUTH_FAILED "this tee is unknown or has no verifier here");
    }
    ret->hash = KBS_HASH_SHA384; /* what a client uses when the challenge selects nothing */
    return 0;
}

void kbs_rcar_challenge_put(struct kbs_buf *out, struct kbs_span nonce_text)
{
    kbs_buf_put_str(out, "{\"nonce\":");
    kbs_json_string_put(out, nonce_text);
    kbs_buf_put_str(out, ",\"extra-params\":\"\"}");
}

static int init_data_get(const json_t *root, struct kbs_span *ret, struct kbs_error *err)
{
    const json_t *v = json_object_get(root, "init-data");
    struct kbs_span format;

    *ret = KBS_SPAN_EMPTY;
    if (v == NULL || json_is_null(v)) {
        return 0;
    }
    if (!json_is_object(v)) {
        return kbs_fail(err, KBS_INPUT, "\"init-data\" is neither null nor an object");
    }
    if (kbs_json_get_string(v, "format", &format, err) != 0 ||
        kbs_json_get_string(v, "body", ret, err) != 0) {
        return -1;
    }
    if (!kbs_span_equal_str(format, "toml")) {
        return kbs_fail(err, KBS_INPUT, "\"init-data\" has a format other than toml");
    }
    return 0;
}

static int tee_ec_get(const json_t *jwk, struct kbs_span alg, struct kbs_tee_key *ret,
                      struct kbs_error *err)
{
    struct kbs_span crv;

    ret->alg = kbs_tee_alg_from_name(alg);
    if (ret->alg != KBS_TEE_ALG_ECDH_ES_A256KW) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "\"tee-pubkey\": the only alg of EC keys is " KBS_JOSE_ECDH_ES_A256KW);
    }
    if (kbs_json_get_string(jwk, "crv", &crv, err) != 0) {
        return -1;
    }
    if (kbs_curve_from_jose_name(crv) == KBS_CURVE_NONE) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "\"tee-pubkey\": only the curves P-256, P-384 and P-521 are supported");
    }
    return kbs_jose_jwk_get(jwk, KBS_JOSE_ECDH_ES_A256KW, &ret->ec, err);
}

static int tee_rsa_get(const json_t *jwk, struct kbs_span alg, struct kbs_tee_key *ret,
                       struct kbs_error *err)
{
    ret->alg = kbs_tee_alg_from_name(alg);
    if (kbs_span_equal_str(alg, "RSA1_5")) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "\"tee-pubkey\": RSA1_5 is not supported, use RSA-OAEP-256");
    }
    if (ret->alg != KBS_TEE_ALG_RSA_OAEP_256 && ret->alg != KBS_TEE_ALG_RSA_OAEP) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "\"tee-pubkey\": the algs of RSA keys are RSA-OAEP-256 and RSA-OAEP");
    }
    return kbs_jose_rsa_jwk_get(jwk, kbs_tee_alg_name(ret->alg), &ret->rsa, err);
}

/*
 * What a typed parse would refuse is KBS_INPUT; a key of a kind, curve, size or alg we do not wrap
 * to is KBS_UNPROCESSABLE, as is a point off its curve.
 */
static int tee_key_get(const json_t *jwk, struct kbs_tee_key *ret, struct kbs_error *err)
{
    struct kbs_span kty;
    struct kbs_span alg;

    if (kbs_json_get_string(jwk, "kty", &kty, err) != 0 ||
        kbs_json_get_string(jwk, "alg", &alg, err) != 0) {
        return -1;
    }
    if (kbs_span_equal_str(kty, "EC")) {
        return tee_ec_get(jwk, alg, ret, err);
    }
    if (kbs_span_equal_str(kty, "RSA")) {
        return tee_rsa_get(jwk, alg, ret, err);
    }
    return kbs_fail(err, KBS_UNPROCESSABLE, "\"tee-pubkey\": only EC and RSA keys are supported");
}

static int attestation_get(struct kbs_rcar_attestation *a, struct kbs_error *err)
{
    json_t *runtime;
    json_t *jwk;
    json_t *evidence;

    if (init_data_get(a->root, &a->init_data, err) != 0 ||
        kbs_json_get_object(a->root, "runtime-data", &runtime, err) != 0 ||
        kbs_json_get_string(runtime, "nonce", &a->nonce, err) != 0 ||
        kbs_json_get_object(runtime, "tee-pubkey", &jwk, err) != 0 ||
        kbs_json_get_object(a->root, "tee-evidence", &evidence, err) != 0 ||
        kbs_json_get_string(evidence, "additional_evidence", &a->additional, err) != 0) {
        return -1;
    }
    a->primary_evidence = json_object_get(evidence, "primary_evidence");
    if (a->primary_evidence == NULL || json_is_null(a->primary_evidence)) {
        return kbs_fail(err, KBS_INPUT, "\"primary_evidence\" is missing or null");
    }
    if (a->additional.len != 0) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "additional evidence is not supported yet");
    }
    return tee_key_get(jwk, &a->tee_key, err);
}

int kbs_rcar_attestation_parse(struct kbs_span body, struct kbs_rcar_attestation *ret,
                               struct kbs_error *err)
{
    struct kbs_rcar_attestation a = KBS_RCAR_ATTESTATION_NULL;

    *ret = a;
    if (kbs_json_parse_object(body, "the Attestation", &a.root, err) != 0) {
        return -1;
    }
    if (attestation_get(&a, err) != 0) {
        kbs_rcar_attestation_deinit(&a);
        return -1;
    }
    *ret = a;
    return 0;
}

void kbs_rcar_attestation_deinit(struct kbs_rcar_attestation *a)
{
    json_decref(a->root);
    *a = KBS_RCAR_ATTESTATION_NULL;
}

void kbs_rcar_runtime_data_put(struct kbs_buf *out, const struct kbs_tee_key *tee_key,
                               struct kbs_span nonce, struct kbs_span additional)
{
    kbs_buf_put_str(out, "{\"additional-evidence\":");
    kbs_json_string_put(out, additional);
    kbs_buf_put_str(out, ",\"nonce\":");
    kbs_json_string_put(out, nonce);
    kbs_buf_put_str(out, ",\"tee-pubkey\":");
    kbs_jose_tee_jwk_put(out, tee_key);
    kbs_buf_put_u8(out, '}');
}

int kbs_rcar_report_digest(enum kbs_hash hash, const struct kbs_tee_key *tee_key,
                           struct kbs_span nonce, struct kbs_span additional,
                           struct kbs_digest *ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(RUNTIME_DATA_MAX_BYTES);
    struct kbs_span part;
    int r;

    *ret = (struct kbs_digest){.len = 0};
    kbs_rcar_runtime_data_put(&text, tee_key, nonce, additional);
    r = kbs_buf_check(&text, "runtime data", err);
    if (r == 0 && kbs_hash_bytes(hash) == 0) {
        r = kbs_fail(err, KBS_INTERNAL, "no hash was negotiated");
    }
    if (r == 0) {
        part = kbs_buf_span(&text);
        kbs_digest(hash, &part, 1, ret);
    }
    kbs_buf_deinit(&text);
    return r;
}
