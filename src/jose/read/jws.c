/*
 * Compact JWS (RFC 7515 section 7.1), from outside.
 *
 * cjose computes ECDSA and RSA signatures, EVP those of Ed25519, which cjose does not know;
 * everything that decides whether they may be asked stands here, because cjose 0.6.2 takes ES384 with
 * a P-256 key, keeps the last of duplicate header members, and decodes base64url generously. So: a
 * key the caller chose, which says what algorithms it is for; its curve or modulus as that algorithm
 * has it; a header that is a strict JSON object without `crit` or `b64`, parts in canonical
 * base64url, and a signature of exactly the length that key and algorithm make. A key, a URL or a
 * certificate in the header (jwk, jku, x5u, x5c) is never looked at. There is no `none` and no HMAC
 * in the table of algorithms, so that a public key cannot become a shared secret.
 *
 * Invariant: cjose sees a text only when all three parts are canonical base64url and the header was
 * taken. This is not mere tidiness: on a '=' inside a part cjose's decoder fails an assertion, and
 * a bearer token would end the process before anyone was authenticated
 * (tests/fuzz/corpus/jws/cjose-assert). The payload that callers get is the one we decoded.
 *
 * Everything wrong with a token is KBS_UNAUTHENTICATED: a guest can only attest again.
 */
#include <cjose/cjose.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "base/encoding.h"
#include "jose/read/jwt.h"

#define SIGNATURE_MAX_BYTES KBS_LIMIT_RSA_BYTES_MAX

static const char *const alg_names[KBS_JWS_ALG_COUNT] = {
    [KBS_JWS_ALG_ES256] = "ES256", [KBS_JWS_ALG_ES384] = "ES384", [KBS_JWS_ALG_ES512] = "ES512",
    [KBS_JWS_ALG_RS256] = "RS256", [KBS_JWS_ALG_RS384] = "RS384", [KBS_JWS_ALG_RS512] = "RS512",
    [KBS_JWS_ALG_PS256] = "PS256", [KBS_JWS_ALG_PS384] = "PS384", [KBS_JWS_ALG_PS512] = "PS512",
    [KBS_JWS_ALG_EDDSA] = "EdDSA",
};

enum kbs_jws_alg kbs_jws_alg_from_name(struct kbs_span name)
{
    for (enum kbs_jws_alg a = KBS_JWS_ALG_ES256; a < KBS_JWS_ALG_COUNT; a++) {
        if (kbs_span_equal_str(name, alg_names[a])) {
            return a;
        }
    }
    return KBS_JWS_ALG_NONE;
}

/* The three parts of a compact text, without the dots. */
struct jws_parts {
    struct kbs_span header;
    struct kbs_span payload;
    struct kbs_span signature;
};

static int parts_split(struct kbs_span text, struct jws_parts *ret)
{
    size_t dots[2] = {0, 0};
    size_t n = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (text.p[i] == '.') {
            if (n == 2) {
                return -1;
            }
            dots[n++] = i;
        }
    }
    if (n != 2) {
        return -1;
    }
    ret->header = kbs_span(text.p, dots[0]);
    ret->payload = kbs_span(text.p + dots[0] + 1, dots[1] - dots[0] - 1);
    ret->signature = kbs_span_skip(text, dots[1] + 1);
    return ret->header.len != 0 && ret->payload.len != 0 && ret->signature.len != 0 ? 0 : -1;
}

/* A strict JSON object, whose faults are the token's. Returns owned. */
static int object_parse(struct kbs_span text, const char *what, json_t **ret, struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE;

    if (kbs_json_parse_object(text, what, ret, &why) != 0) {
        return kbs_fail(err, why.category == KBS_INTERNAL ? KBS_INTERNAL : KBS_UNAUTHENTICATED,
                        "%s", why.detail);
    }
    return 0;
}

static int header_parse(struct kbs_span part, json_t **ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_JWT_BYTES);
    int r;

    if (kbs_base64url_get(&text, part) != 0) {
        r = kbs_fail(err, KBS_UNAUTHENTICATED, "JWS header is not base64url");
    } else {
        r = object_parse(kbs_buf_span(&text), "JWS header", ret, err);
    }
    kbs_buf_deinit(&text);
    return r;
}

static int header_check(const json_t *header, unsigned int algs, struct kbs_jose_jws *ret,
                        struct kbs_error *err)
{
    const json_t *alg = json_object_get(header, "alg");
    const json_t *typ = json_object_get(header, "typ");
    const json_t *kid = json_object_get(header, "kid");

    if (json_is_string(alg)) {
        ret->alg = kbs_jws_alg_from_name(kbs_span(json_string_value(alg), json_string_length(alg)));
    }
    if (ret->alg == KBS_JWS_ALG_NONE || (algs & KBS_JWS_ALG_BIT(ret->alg)) == 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWS header: \"alg\" is not %s",
                        algs == KBS_JWS_ALG_BIT(KBS_JWS_ALG_ES256) ? "ES256" : "one of ours");
    }
    if (json_object_get(header, "crit") != NULL || json_object_get(header, "b64") != NULL) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "JWS header: critical extensions are not supported");
    }
    if (typ != NULL && !json_is_string(typ)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWS header: \"typ\" is not a string");
    }
    if (kid != NULL && (!json_is_string(kid) || json_string_length(kid) > KBS_LIMIT_KID_BYTES)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWS header: \"kid\" is not a short string");
    }
    if (kid != NULL) {
        ret->kid = kbs_span(json_string_value(kid), json_string_length(kid));
    }
    return 0;
}

int kbs_jws_split(struct kbs_span text, unsigned int algs, struct kbs_jose_jws *ret,
                  struct kbs_error *err)
{
    struct kbs_jose_jws jws = {.header = NULL, .text = text};
    struct jws_parts parts;

    *ret = KBS_JOSE_JWS_NULL;
    if (text.len > KBS_LIMIT_JWT_BYTES) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWS: longer than %d bytes", KBS_LIMIT_JWT_BYTES);
    }
    if (parts_split(text, &parts) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWS: not three parts joined by dots");
    }
    if (header_parse(parts.header, &jws.header, err) != 0) {
        return -1;
    }
    if (header_check(jws.header, algs, &jws, err) != 0) {
        kbs_jose_jws_deinit(&jws);
        return -1;
    }
    *ret = jws;
    return 0;
}

int kbs_jose_jws_split(struct kbs_span text, struct kbs_jose_jws *ret, struct kbs_error *err)
{
    return kbs_jws_split(text, KBS_JWS_ALG_BIT(KBS_JWS_ALG_ES256), ret, err);
}

void kbs_jose_jws_deinit(struct kbs_jose_jws *jws)
{
    json_decref(jws->header);
    *jws = KBS_JOSE_JWS_NULL;
}

/* How ECDSA is called with a curve (RFC 7518 section 3.4). */
static enum kbs_jws_alg alg_of_curve(enum kbs_curve curve)
{
    switch (curve) {
    case KBS_CURVE_P256:
        return KBS_JWS_ALG_ES256;
    case KBS_CURVE_P384:
        return KBS_JWS_ALG_ES384;
    case KBS_CURVE_P521:
        return KBS_JWS_ALG_ES512;
    case KBS_CURVE_NONE:
        break;
    }
    return KBS_JWS_ALG_NONE;
}

unsigned int kbs_jws_key_algs(const struct kbs_jws_key *key)
{
    switch (key->kind) {
    case KBS_JWS_KEY_EC:
        return alg_of_curve(key->ec.curve) != KBS_JWS_ALG_NONE
                   ? KBS_JWS_ALG_BIT(alg_of_curve(key->ec.curve))
                   : 0;
    case KBS_JWS_KEY_RSA:
        return KBS_JWS_ALG_BIT(KBS_JWS_ALG_RS256) | KBS_JWS_ALG_BIT(KBS_JWS_ALG_RS384) |
               KBS_JWS_ALG_BIT(KBS_JWS_ALG_RS512) | KBS_JWS_ALG_BIT(KBS_JWS_ALG_PS256) |
               KBS_JWS_ALG_BIT(KBS_JWS_ALG_PS384) | KBS_JWS_ALG_BIT(KBS_JWS_ALG_PS512);
    case KBS_JWS_KEY_ED25519:
        return KBS_JWS_ALG_BIT(KBS_JWS_ALG_EDDSA);
    case KBS_JWS_KEY_NONE:
        break;
    }
    return 0;
}

static size_t signature_bytes(const struct kbs_jws_key *key)
{
    switch (key->kind) {
    case KBS_JWS_KEY_EC:
        return 2 * kbs_curve_field_bytes(key->ec.curve);
    case KBS_JWS_KEY_RSA:
        return key->rsa.n_len;
    case KBS_JWS_KEY_ED25519:
        return KBS_JWS_ED25519_SIGNATURE_BYTES;
    case KBS_JWS_KEY_NONE:
        break;
    }
    return 0;
}

static bool rsa_equal(const struct kbs_rsa_public *a, const struct kbs_rsa_public *b)
{
    return kbs_span_equal(kbs_rsa_n(a), kbs_rsa_n(b)) && kbs_span_equal(kbs_rsa_e(a), kbs_rsa_e(b));
}

bool kbs_jws_key_equal(const struct kbs_jws_key *a, const struct kbs_jws_key *b)
{
    if (a->kind != b->kind) {
        return false;
    }
    switch (a->kind) {
    case KBS_JWS_KEY_EC:
        return kbs_ec_public_equal(&a->ec, &b->ec);
    case KBS_JWS_KEY_RSA:
        return rsa_equal(&a->rsa, &b->rsa);
    case KBS_JWS_KEY_ED25519:
        return memcmp(a->ed25519, b->ed25519, sizeof(a->ed25519)) == 0;
    case KBS_JWS_KEY_NONE:
        break;
    }
    return false;
}

static cjose_jwk_t *cjose_key(const struct kbs_jws_key *key, cjose_err *e)
{
    struct kbs_jws_key copy = *key; /* cjose's key specifications are not const */

    if (key->kind == KBS_JWS_KEY_RSA) {
        cjose_jwk_rsa_keyspec rsa = {
            .n = copy.rsa.n, .nlen = copy.rsa.n_len, .e = copy.rsa.e, .elen = copy.rsa.e_len};

        return cjose_jwk_create_RSA_spec(&rsa, e);
    }
    cjose_jwk_ec_keyspec ec = {
        .crv = key->ec.curve == KBS_CURVE_P256   ? CJOSE_JWK_EC_P_256
               : key->ec.curve == KBS_CURVE_P384 ? CJOSE_JWK_EC_P_384
                                                 : CJOSE_JWK_EC_P_521,
        .x = copy.ec.x,
        .xlen = kbs_curve_field_bytes(key->ec.curve),
        .y = copy.ec.y,
        .ylen = kbs_curve_field_bytes(key->ec.curve),
    };
    return cjose_jwk_create_EC_spec(&ec, e);
}

static bool cjose_verifies(struct kbs_span text, const struct kbs_jws_key *key, cjose_err *e)
{
    cjose_jwk_t *jwk = cjose_key(key, e);
    cjose_jws_t *jws = cjose_jws_import((const char *)text.p, text.len, e);
    bool ok = jwk != NULL && jws != NULL && cjose_jws_verify(jws, jwk, e);

    if (jws != NULL) {
        cjose_jws_release(jws);
    }
    if (jwk != NULL) {
        cjose_jwk_release(jwk);
    }
    ERR_clear_error();
    return ok;
}

/* RFC 8032 section 5.1.7 over the signing input. */
static bool ed25519_verifies(struct kbs_span input, struct kbs_span signature,
                             const struct kbs_jws_key *key)
{
    EVP_PKEY *pkey =
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, key->ed25519, sizeof(key->ed25519));
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = pkey != NULL && ctx != NULL &&
              EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
              EVP_DigestVerify(ctx, signature.p, signature.len, input.p, input.len) == 1;

    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    ERR_clear_error();
    return ok;
}

/* What is wrong with the key itself is the caller's. */
static int key_check(const struct kbs_jws_key *key, struct kbs_error *err)
{
    switch (key->kind) {
    case KBS_JWS_KEY_EC:
        return kbs_ec_public_check(&key->ec, err);
    case KBS_JWS_KEY_RSA:
        return kbs_rsa_public_check(&key->rsa, err);
    case KBS_JWS_KEY_ED25519:
        return 0;
    case KBS_JWS_KEY_NONE:
        break;
    }
    return kbs_fail(err, KBS_INTERNAL, "JWS: verified without a key");
}

/*
 * Everything that must hold before cjose may be asked, then cjose. All parts are canonical by then.
 */
static int signature_check(const struct kbs_jose_jws *jws, const struct jws_parts *parts,
                           const struct kbs_jws_key *key, struct kbs_error *err)
{
    uint8_t signature[SIGNATURE_MAX_BYTES];
    size_t bytes = signature_bytes(key);
    cjose_err e = {.code = CJOSE_ERR_NONE};
    bool ok;

    if ((key->algs & kbs_jws_key_algs(key) & KBS_JWS_ALG_BIT(jws->alg)) == 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWS: %s is not what its key is for",
                        alg_names[jws->alg]);
    }
    if (key_check(key, err) != 0) {
        return -1;
    }
    if (kbs_base64url_get_exact(signature, bytes, parts->signature) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "JWS: the signature is not %zu bytes in base64url", bytes);
    }
    if (key->kind == KBS_JWS_KEY_ED25519) {
        size_t input = parts->header.len + 1 + parts->payload.len;

        ok = ed25519_verifies(kbs_span(jws->text.p, input), kbs_span(signature, bytes), key);
    } else {
        ok = cjose_verifies(jws->text, key, &e);
    }
    if (!ok) {
        return kbs_fail_native(err, KBS_UNAUTHENTICATED, KBS_ORIGIN_LIB, e.code,
                               "JWS: the signature does not verify");
    }
    return 0;
}

/* Decodes into an empty buffer, which stays empty unless the signature verifies. */
static int payload_get(const struct kbs_jose_jws *jws, const struct kbs_jws_key *key,
                       struct kbs_buf *out, struct kbs_error *err)
{
    struct jws_parts parts;

    if (jws->header == NULL || parts_split(jws->text, &parts) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "JWS: verified without being split");
    }
    if (kbs_base64url_get(out, parts.payload) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWS payload is not base64url");
    }
    if (signature_check(jws, &parts, key, err) != 0) {
        kbs_buf_clear(out);
        return -1;
    }
    return 0;
}

int kbs_jws_peek(const struct kbs_jose_jws *jws, json_t **ret_payload, struct kbs_error *err)
{
    struct kbs_buf payload = KBS_BUF(KBS_LIMIT_JWT_BYTES);
    struct jws_parts parts;
    int r;

    *ret_payload = NULL;
    if (jws->header == NULL || parts_split(jws->text, &parts) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "JWS: read without being split");
    }
    if (kbs_base64url_get(&payload, parts.payload) != 0) {
        r = kbs_fail(err, KBS_UNAUTHENTICATED, "JWS payload is not base64url");
    } else {
        r = object_parse(kbs_buf_span(&payload), "JWS payload", ret_payload, err);
    }
    kbs_buf_deinit(&payload);
    return r;
}

int kbs_jws_verify_bytes(const struct kbs_jose_jws *jws, const struct kbs_jws_key *key,
                         struct kbs_buf *ret_payload, struct kbs_error *err)
{
    struct kbs_buf payload = KBS_BUF(KBS_LIMIT_JWT_BYTES);
    int r = payload_get(jws, key, &payload, err);

    if (r == 0) {
        kbs_buf_put_span(ret_payload, kbs_buf_span(&payload));
        r = kbs_buf_check(ret_payload, "JWS payload", err);
    }
    kbs_buf_deinit(&payload);
    return r;
}

int kbs_jws_verify(const struct kbs_jose_jws *jws, const struct kbs_jws_key *key,
                   json_t **ret_payload, struct kbs_error *err)
{
    struct kbs_buf payload = KBS_BUF(KBS_LIMIT_JWT_BYTES);
    int r;

    *ret_payload = NULL;
    r = payload_get(jws, key, &payload, err);
    if (r == 0) {
        r = object_parse(kbs_buf_span(&payload), "JWS payload", ret_payload, err);
    }
    kbs_buf_deinit(&payload);
    return r;
}

static struct kbs_jws_key es256_key(const struct kbs_ec_public *key)
{
    return (struct kbs_jws_key){
        .kind = KBS_JWS_KEY_EC, .algs = KBS_JWS_ALG_BIT(KBS_JWS_ALG_ES256), .ec = *key};
}

int kbs_jose_jws_verify_bytes(const struct kbs_jose_jws *jws, const struct kbs_ec_public *key,
                              struct kbs_buf *ret_payload, struct kbs_error *err)
{
    const struct kbs_jws_key es256 = es256_key(key);

    return kbs_jws_verify_bytes(jws, &es256, ret_payload, err);
}

int kbs_jose_jws_verify(const struct kbs_jose_jws *jws, const struct kbs_ec_public *key,
                        json_t **ret_payload, struct kbs_error *err)
{
    const struct kbs_jws_key es256 = es256_key(key);

    return kbs_jws_verify(jws, &es256, ret_payload, err);
}
