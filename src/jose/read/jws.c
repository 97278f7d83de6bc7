/*
 * Compact JWS (RFC 7515 section 7.1) with ES256, from outside.
 *
 * cjose computes the signature; everything that decides whether it may be asked stands here,
 * because cjose 0.6.2 takes ES384 with a P-256 key, keeps the last of duplicate header members, and
 * decodes base64url generously. So: one algorithm, one curve, a key the caller chose, a header that
 * is a strict JSON object without `crit` or `b64`, parts in canonical base64url, and a signature of
 * exactly 64 bytes. A key, a URL or a certificate in the header (jwk, jku, x5u, x5c) is never
 * looked at.
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

#include "base/encoding.h"
#include "jose/read/jose.h"

#define ES256_SIGNATURE_BYTES 64

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

static int header_check(const json_t *header, struct kbs_span *ret_kid, struct kbs_error *err)
{
    const json_t *alg = json_object_get(header, "alg");
    const json_t *typ = json_object_get(header, "typ");
    const json_t *kid = json_object_get(header, "kid");

    if (!json_is_string(alg) ||
        !kbs_span_equal_str(kbs_span(json_string_value(alg), json_string_length(alg)), "ES256")) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWS header: \"alg\" is not ES256");
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
        *ret_kid = kbs_span(json_string_value(kid), json_string_length(kid));
    }
    return 0;
}

int kbs_jose_jws_split(struct kbs_span text, struct kbs_jose_jws *ret, struct kbs_error *err)
{
    struct kbs_jose_jws jws = {.header = NULL, .kid = KBS_SPAN_EMPTY, .text = text};
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
    if (header_check(jws.header, &jws.kid, err) != 0) {
        kbs_jose_jws_deinit(&jws);
        return -1;
    }
    *ret = jws;
    return 0;
}

void kbs_jose_jws_deinit(struct kbs_jose_jws *jws)
{
    json_decref(jws->header);
    *jws = KBS_JOSE_JWS_NULL;
}

static bool cjose_verifies(struct kbs_span text, const struct kbs_ec_public *key, cjose_err *e)
{
    struct kbs_ec_public copy = *key; /* cjose's key specification is not const */
    cjose_jwk_ec_keyspec spec = {
        .crv = CJOSE_JWK_EC_P_256,
        .x = copy.x,
        .xlen = kbs_curve_field_bytes(KBS_CURVE_P256),
        .y = copy.y,
        .ylen = kbs_curve_field_bytes(KBS_CURVE_P256),
    };
    cjose_jwk_t *jwk = cjose_jwk_create_EC_spec(&spec, e);
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

/*
 * Everything that must hold before cjose may be asked, then cjose. All parts are canonical by then.
 */
static int signature_check(const struct kbs_jose_jws *jws, const struct jws_parts *parts,
                           const struct kbs_ec_public *key, struct kbs_error *err)
{
    uint8_t signature[ES256_SIGNATURE_BYTES];
    cjose_err e = {.code = CJOSE_ERR_NONE};

    if (kbs_base64url_get_exact(signature, sizeof(signature), parts->signature) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWS: the signature is not %d bytes in base64url",
                        ES256_SIGNATURE_BYTES);
    }
    if (key->curve != KBS_CURVE_P256) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWS: ES256 needs a P-256 key");
    }
    if (kbs_ec_public_check(key, err) != 0) {
        return -1;
    }
    if (!cjose_verifies(jws->text, key, &e)) {
        return kbs_fail_native(err, KBS_UNAUTHENTICATED, KBS_ORIGIN_LIB, e.code,
                               "JWS: the signature does not verify");
    }
    return 0;
}

/* Decodes into an empty buffer, which stays empty unless the signature verifies. */
static int payload_get(const struct kbs_jose_jws *jws, const struct kbs_ec_public *key,
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

int kbs_jose_jws_verify_bytes(const struct kbs_jose_jws *jws, const struct kbs_ec_public *key,
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

int kbs_jose_jws_verify(const struct kbs_jose_jws *jws, const struct kbs_ec_public *key,
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
