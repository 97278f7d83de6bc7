/*
 * RCAR messages.
 *
 * The digest that binds a TEE to its key is over text that both sides make for themselves from
 * values, not over text that was sent: the JWK is rebuilt from its known members, as Trustee's
 * typed parse does, so that a member we do not know cannot be part of what is bound, nor break the
 * binding. The one place that writes this text is kbs_rcar_runtime_data_put(); all its leaves are
 * strings and its members are in order, so it is RFC 8785 by construction.
 *
 * Device evidence comes as a string that holds JSON. The string is what is hashed, byte for byte;
 * what is in it is parsed by the same strict rules as everything else, and every device in it is
 * either verified or a reason to refuse: one that nobody verified must not look as if somebody had.
 * A TEE key that no release could use is refused while the guest still can say why (upstream accepts
 * it and fails at the first resource).
 *
 * A session speaks one version of the protocol. 0.2.0 has neither a nonce in its message nor a
 * place for devices, and hashes less; taking its shape in a 0.4.0 session would let whoever is in
 * between leave the devices out.
 *
 * init-data is taken when well-formed; whether the TEE measured it is for its verifier to say.
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
#define VERSION_EXPECTED "0.4.0" /* what clients are told to speak: Trustee's words */
#define HASH_NAME_MAX_BYTES 16
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

static int version_get(struct kbs_span version, enum kbs_protocol *ret, struct kbs_error *err)
{
    char echo[VERSION_ECHO_MAX_BYTES + 1] = "another";

    *ret = kbs_protocol_from_name(version);
    if (*ret != KBS_PROTOCOL_NONE) {
        return 0;
    }
    if (version_is_plain(version)) {
        (void)kbs_span_to_cstr(version, echo, sizeof(echo));
    }
    return kbs_fail(err, KBS_UNAUTHENTICATED,
                    AUTH_FAILED "KBS Client Protocol Version Mismatch: expect =" VERSION_EXPECTED
                                " while the request is %s",
                    echo);
}

/* A name in any mix of cases, as upstream reads them. KBS_HASH_NONE if we do not have that hash. */
static enum kbs_hash hash_listed(const json_t *name)
{
    char lower[HASH_NAME_MAX_BYTES];
    size_t len = json_string_length(name);
    enum kbs_hash hash;

    if (len > sizeof(lower)) {
        return KBS_HASH_NONE;
    }
    for (size_t i = 0; i < len; i++) {
        char c = json_string_value(name)[i];

        lower[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    hash = kbs_hash_from_name(kbs_span(lower, len));
    return kbs_hash_available(hash) ? hash : KBS_HASH_NONE;
}

/* The hashes of the list that we have. */
static int hashes_get(const json_t *list, bool ret[KBS_HASH_COUNT], struct kbs_error *err)
{
    const json_t *name;
    size_t i;

    if (!json_is_array(list) || json_array_size(list) > KBS_LIMIT_HASHES_LISTED) {
        return kbs_fail(err, KBS_INPUT,
                        "\"supported-hash-algorithms\" is not a list of at most %d names",
                        KBS_LIMIT_HASHES_LISTED);
    }
    json_array_foreach(list, i, name)
    {
        if (!json_is_string(name)) {
            return kbs_fail(err, KBS_INPUT,
                            "\"supported-hash-algorithms\" has a member that is not a string");
        }
        ret[hash_listed(name)] = true;
    }
    return 0;
}

/*
 * SHA-384 is what clients take when the challenge selects nothing, so it is chosen wherever it can
 * be, and only another is told. IBM Secure Execution's evidence has room for SHA-512 and is made
 * with it; whoever verifies a kind elsewhere may know one hash only.
 */
static int hash_negotiate(const json_t *extra, const enum kbs_hash *only,
                          struct kbs_rcar_request *r, struct kbs_error *err)
{
    static const enum kbs_hash order[] = {KBS_HASH_SHA384, KBS_HASH_SHA512, KBS_HASH_SHA256,
                                          KBS_HASH_SM3};
    enum kbs_hash one = only != NULL ? only[r->tee] : KBS_HASH_NONE;
    bool listed[KBS_HASH_COUNT] = {false};
    const json_t *list = json_object_get(extra, "supported-hash-algorithms");
    bool none = list == NULL || (json_is_array(list) && json_array_size(list) == 0);

    r->hash = KBS_HASH_SHA384;
    if (none && (one == KBS_HASH_NONE || one == r->hash)) {
        return 0;
    }
    if (!none && hashes_get(list, listed, err) != 0) {
        return -1;
    }
    if (one == KBS_HASH_NONE && r->tee == KBS_TEE_SE) {
        one = KBS_HASH_SHA512;
    }
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        if (listed[order[i]] && (one == KBS_HASH_NONE || one == order[i])) {
            r->hash = order[i];
            r->selected = r->hash != KBS_HASH_SHA384;
            return 0;
        }
    }
    return one == KBS_HASH_NONE
               ? kbs_fail(err, KBS_UNAUTHENTICATED,
                          AUTH_FAILED
                          "supported-hash-algorithms lists none of sha256, sha384, sha512")
               : kbs_fail(err, KBS_UNAUTHENTICATED,
                          AUTH_FAILED
                          "supported-hash-algorithms lists none of %s, which %s is attested with",
                          kbs_hash_name(one), kbs_tee_name(r->tee));
}

int kbs_rcar_request_extra(struct kbs_span body, struct kbs_buf *ret, struct kbs_error *err)
{
    KBS_AUTO_JSON root = NULL;
    const json_t *extra;

    if (kbs_json_parse_object(body, "the Request", &root, err) != 0) {
        return -1;
    }
    extra = json_object_get(root, "extra-params");
    if (json_is_string(extra)) {
        kbs_buf_put(ret, json_string_value(extra), json_string_length(extra));
        return kbs_buf_check(ret, "\"extra-params\"", err);
    }
    return extra != NULL ? kbs_json_dump(extra, ret, err)
                         : kbs_fail(err, KBS_INPUT, "\"extra-params\" is missing");
}

int kbs_rcar_request_parse(struct kbs_span body, const enum kbs_hash *only,
                           struct kbs_rcar_request *ret, struct kbs_error *err)
{
    KBS_AUTO_JSON root = NULL;
    const json_t *extra;
    struct kbs_span version;
    struct kbs_span tee;

    *ret = (struct kbs_rcar_request){.tee = KBS_TEE_NONE};
    if (kbs_json_parse_object(body, "the Request", &root, err) != 0 ||
        kbs_json_get_string(root, "version", &version, err) != 0 ||
        kbs_json_get_string(root, "tee", &tee, err) != 0) {
        return -1;
    }
    extra = json_object_get(root, "extra-params");
    if (extra == NULL) {
        return kbs_fail(err, KBS_INPUT, "\"extra-params\" is missing");
    }
    if (version_get(version, &ret->version, err) != 0) {
        return -1;
    }
    ret->tee = kbs_tee_from_name(tee);
    if (ret->tee == KBS_TEE_NONE) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, AUTH_FAILED "unknown or unsupported tee");
    }
    return hash_negotiate(extra, only, ret, err);
}

void kbs_rcar_challenge_put(struct kbs_buf *out, struct kbs_span nonce_text, enum kbs_hash selected)
{
    kbs_buf_put_str(out, "{\"nonce\":");
    kbs_json_string_put(out, nonce_text);
    if (selected == KBS_HASH_NONE) {
        kbs_buf_put_str(out, ",\"extra-params\":\"\"}");
    } else {
        kbs_buf_printf(out, ",\"extra-params\":{\"selected-hash-algorithm\":\"%s\"}}",
                       kbs_hash_name(selected));
    }
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
    if (!kbs_tee_alg_is_ec(ret->alg)) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "\"tee-pubkey\": the algs of EC keys are " KBS_JOSE_ECDH_ES_A256KW
                        " and, of keys that sign requests, ES256, ES384 and ES512");
    }
    if (kbs_json_get_string(jwk, "crv", &crv, err) != 0) {
        return -1;
    }
    if (kbs_curve_from_jose_name(crv) == KBS_CURVE_NONE) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "\"tee-pubkey\": only the curves P-256, P-384 and P-521 are supported");
    }
    return kbs_jose_jwk_get(jwk, kbs_tee_alg_name(ret->alg), &ret->ec, err) == 0
               ? kbs_tee_key_check(ret, err)
               : -1;
}

static int tee_rsa_get(const json_t *jwk, struct kbs_span alg, struct kbs_tee_key *ret,
                       struct kbs_error *err)
{
    ret->alg = kbs_tee_alg_from_name(alg);
    if (ret->alg != KBS_TEE_ALG_RSA_OAEP_256 && ret->alg != KBS_TEE_ALG_RSA_OAEP &&
        ret->alg != KBS_TEE_ALG_RSA1_5) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "\"tee-pubkey\": the algs of RSA keys are RSA-OAEP-256 and RSA-OAEP");
    }
    return kbs_jose_rsa_jwk_get(jwk, kbs_tee_alg_name(ret->alg), &ret->rsa, err);
}

/*
 * What a typed parse would refuse is KBS_INPUT; a key of a kind, curve, size or alg we do not wrap
 * to is KBS_UNPROCESSABLE, as is a point off its curve.
 */
int kbs_rcar_tee_key_get(const json_t *jwk, struct kbs_tee_key *ret, struct kbs_error *err)
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

static int device_add(struct kbs_rcar_attestation *a, struct kbs_span name, const json_t *evidence,
                      struct kbs_error *err)
{
    enum kbs_tee tee = kbs_tee_from_name(name);

    if (tee == KBS_TEE_NONE) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "\"additional_evidence\" is of a kind of device that is unknown here");
    }
    for (size_t i = 0; i < a->device_count; i++) {
        if (a->devices[i].tee == tee) { /* in both its spellings */
            return kbs_fail(err, KBS_INPUT, "\"additional_evidence\" has %s twice",
                            kbs_tee_name(tee));
        }
    }
    if (a->device_count == KBS_LIMIT_DEVICES) {
        return kbs_fail(err, KBS_INPUT, "\"additional_evidence\" has more than %d kinds of devices",
                        KBS_LIMIT_DEVICES);
    }
    a->devices[a->device_count++] = (struct kbs_rcar_device){.tee = tee, .evidence = evidence};
    return 0;
}

static int devices_get(struct kbs_rcar_attestation *a, struct kbs_error *err)
{
    const char *name;
    json_t *evidence;

    if (a->additional.len == 0) {
        return 0;
    }
    if (a->additional.len > KBS_LIMIT_DEVICE_EVIDENCE_BYTES) {
        return kbs_fail(err, KBS_TOO_LARGE, "\"additional_evidence\" is longer than %u bytes",
                        KBS_LIMIT_DEVICE_EVIDENCE_BYTES);
    }
    if (kbs_json_parse_object(a->additional, "\"additional_evidence\"", &a->devices_root, err) !=
        0) {
        return -1;
    }
    json_object_foreach(a->devices_root, name, evidence)
    {
        if (device_add(a, kbs_span_str(name), evidence, err) != 0) {
            return -1;
        }
    }
    return 0;
}

/* 0.2.0: {"tee-pubkey","tee-evidence"}. */
static int attestation_get_0_2_0(struct kbs_rcar_attestation *a, struct kbs_error *err)
{
    json_t *jwk;

    if (json_object_get(a->root, "runtime-data") != NULL) {
        return kbs_fail(err, KBS_INPUT, "an Attestation of 0.4.0 in a session of 0.2.0");
    }
    if (kbs_json_get_object(a->root, "tee-pubkey", &jwk, err) != 0) {
        return -1;
    }
    a->primary_evidence = json_object_get(a->root, "tee-evidence");
    if (a->primary_evidence == NULL || json_is_null(a->primary_evidence)) {
        return kbs_fail(err, KBS_INPUT, "\"tee-evidence\" is missing or null");
    }
    return kbs_rcar_tee_key_get(jwk, &a->tee_key, err);
}

static int attestation_get_0_4_0(struct kbs_rcar_attestation *a, struct kbs_error *err)
{
    json_t *runtime;
    json_t *jwk;
    json_t *evidence;

    if (json_object_get(a->root, "tee-pubkey") != NULL &&
        json_object_get(a->root, "runtime-data") == NULL) {
        return kbs_fail(err, KBS_INPUT, "an Attestation of 0.2.0 in a session of 0.4.0");
    }
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
    return devices_get(a, err) == 0 ? kbs_rcar_tee_key_get(jwk, &a->tee_key, err) : -1;
}

int kbs_rcar_attestation_parse(struct kbs_span body, enum kbs_protocol version,
                               struct kbs_rcar_attestation *ret, struct kbs_error *err)
{
    int rc = -1;

    *ret = KBS_RCAR_ATTESTATION_NULL;
    ret->version = version;
    if (kbs_json_parse_object(body, "the Attestation", &ret->root, err) == 0) {
        rc = version == KBS_PROTOCOL_0_2_0 ? attestation_get_0_2_0(ret, err)
                                           : attestation_get_0_4_0(ret, err);
    }
    if (rc != 0) {
        kbs_rcar_attestation_deinit(ret);
    }
    return rc;
}

void kbs_rcar_attestation_deinit(struct kbs_rcar_attestation *a)
{
    json_decref(a->root);
    json_decref(a->devices_root);
    *a = KBS_RCAR_ATTESTATION_NULL;
}

const struct kbs_span *kbs_rcar_additional(const struct kbs_rcar_attestation *a)
{
    return a->version == KBS_PROTOCOL_0_2_0 ? NULL : &a->additional;
}

void kbs_rcar_runtime_data_put(struct kbs_buf *out, const struct kbs_tee_key *tee_key,
                               struct kbs_span nonce, const struct kbs_span *additional)
{
    kbs_buf_put_u8(out, '{');
    if (additional != NULL) {
        kbs_buf_put_str(out, "\"additional-evidence\":");
        kbs_json_string_put(out, *additional);
        kbs_buf_put_u8(out, ',');
    }
    kbs_buf_put_str(out, "\"nonce\":");
    kbs_json_string_put(out, nonce);
    kbs_buf_put_str(out, ",\"tee-pubkey\":");
    kbs_jose_tee_jwk_put(out, tee_key);
    kbs_buf_put_u8(out, '}');
}

int kbs_rcar_report_digest(enum kbs_hash hash, const struct kbs_tee_key *tee_key,
                           struct kbs_span nonce, const struct kbs_span *additional,
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

int kbs_rcar_svsm_digest(const struct kbs_tee_key *tee_key, struct kbs_span nonce,
                         struct kbs_digest *ret, struct kbs_error *err)
{
    struct kbs_buf bytes = KBS_BUF(KBS_LIMIT_NONCE_BYTES);
    const struct kbs_ec_public *ec = &tee_key->ec;
    int r = 0;

    *ret = (struct kbs_digest){.len = 0};
    if (tee_key->alg != KBS_TEE_ALG_ECDH_ES_A256KW || ec->curve != KBS_CURVE_P521) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "SVSM's TEE keys are EC keys on P-521");
    }
    if (kbs_base64_get(&bytes, nonce) != 0 || bytes.len == 0) {
        r = kbs_fail(err, KBS_INPUT, "the nonce is not base64");
    } else {
        const struct kbs_span parts[3] = {kbs_ec_x(ec), kbs_ec_y(ec), kbs_buf_span(&bytes)};

        kbs_digest(KBS_HASH_SHA512, parts, 3, ret);
    }
    kbs_buf_deinit(&bytes);
    return r;
}
