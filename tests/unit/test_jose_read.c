/*
 * Unit tests of JWK and JWS reading: the attack table. Where a header is at fault, the signature is
 * good, so that what is refused is the header; "detector" rows prove that the same text without the
 * fault passes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include "base/encoding.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"
#include "vectors.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* RFC 7515 appendix A.3 */
#define A3_HEADER "eyJhbGciOiJFUzI1NiJ9"
#define A3_PAYLOAD \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
#define A3_SIGNATURE \
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
#define A3_X "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
#define A3_Y "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
#define A3_KEY "\"crv\":\"P-256\",\"x\":\"" A3_X "\",\"y\":\"" A3_Y "\""

struct signer {
    EVP_PKEY *pkey;
    struct kbs_ec_public key;
};

static struct signer signer_new(const char *group, enum kbs_curve curve)
{
    struct signer s = {.pkey = EVP_EC_gen(group), .key = {.curve = curve}};
    size_t bytes = kbs_curve_field_bytes(curve);
    BIGNUM *x = NULL;
    BIGNUM *y = NULL;

    assert_non_null(s.pkey);
    assert_int_equal(EVP_PKEY_get_bn_param(s.pkey, OSSL_PKEY_PARAM_EC_PUB_X, &x), 1);
    assert_int_equal(EVP_PKEY_get_bn_param(s.pkey, OSSL_PKEY_PARAM_EC_PUB_Y, &y), 1);
    assert_int_equal(BN_bn2binpad(x, s.key.x, (int)bytes), (int)bytes);
    assert_int_equal(BN_bn2binpad(y, s.key.y, (int)bytes), (int)bytes);
    BN_free(x);
    BN_free(y);
    return s;
}

/* DER signature over `input` with the given digest. */
static size_t sign_der(const struct signer *s, struct kbs_span input, const EVP_MD *md,
                       uint8_t *out, size_t size)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    size_t n = size;

    assert_int_equal(EVP_DigestSignInit(ctx, NULL, md, NULL, s->pkey), 1);
    assert_int_equal(EVP_DigestSign(ctx, out, &n, input.p, input.len), 1);
    EVP_MD_CTX_free(ctx);
    return n;
}

static void raw_from_der(const uint8_t *der, size_t n, size_t field, uint8_t *out)
{
    const unsigned char *p = der;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)n);

    assert_non_null(sig);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, (int)field), (int)field);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + field, (int)field), (int)field);
    ECDSA_SIG_free(sig);
}

static void input_put(struct kbs_buf *out, struct kbs_span header, struct kbs_span payload)
{
    kbs_base64url_put(out, header);
    kbs_buf_put_u8(out, '.');
    kbs_base64url_put(out, payload);
}

/* A compact JWS with a good ECDSA/SHA-256 signature over whatever header this is. */
static void jws_put(struct kbs_buf *out, const struct signer *s, struct kbs_span header,
                    struct kbs_span payload)
{
    size_t field = kbs_curve_field_bytes(s->key.curve);
    uint8_t der[160];
    uint8_t raw[2 * KBS_EC_FIELD_MAX_BYTES];

    input_put(out, header, payload);
    size_t n = sign_der(s, kbs_buf_span(out), EVP_sha256(), der, sizeof(der));
    raw_from_der(der, n, field, raw);
    kbs_buf_put_u8(out, '.');
    kbs_base64url_put(out, kbs_span(raw, 2 * field));
    assert_false(out->failed);
}

/* 0 if the text verifies with the key and holds a JSON object. */
static int verify(struct kbs_span text, const struct kbs_ec_public *key, struct kbs_error *err)
{
    struct kbs_jose_jws jws;
    KBS_AUTO_JSON payload = NULL;
    int r;

    *err = KBS_ERROR_NONE;
    if (kbs_jose_jws_split(text, &jws, err) != 0) {
        assert_null(jws.header);
        assert_int_equal(err->category, KBS_UNAUTHENTICATED);
        return -1;
    }
    r = kbs_jose_jws_verify(&jws, key, &payload, err);
    if (r != 0) {
        assert_null(payload);
        assert_true(err->category == KBS_UNAUTHENTICATED || err->category == KBS_UNPROCESSABLE);
    }
    kbs_jose_jws_deinit(&jws);
    return r;
}

static int verify_header(const struct signer *s, struct kbs_span header)
{
    struct kbs_buf text = KBS_BUF(1 << 20);
    struct kbs_error err;
    int r;

    jws_put(&text, s, header, KBS_SPAN_LIT("{}"));
    r = verify(kbs_buf_span(&text), &s->key, &err);
    kbs_buf_deinit(&text);
    return r;
}

static json_t *object(const char *text)
{
    json_t *v = json_loads(text, 0, NULL);

    assert_non_null(v);
    return v;
}

static void rfc7515_a3_verifies(void **state)
{
    KBS_AUTO_JSON jwk = object("{\"kty\":\"EC\"," A3_KEY "}");
    KBS_AUTO_JSON payload = NULL;
    struct kbs_buf bytes = KBS_BUF(256);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ec_public key;
    struct kbs_jose_jws jws;

    (void)state;
    assert_int_equal(kbs_jose_jwk_get(jwk, "ES256", &key, &err), 0);
    assert_int_equal(
        kbs_jose_jws_split(KBS_SPAN_LIT(A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE), &jws, &err), 0);
    assert_int_equal(jws.kid.len, 0);
    assert_int_equal(kbs_jose_jws_verify(&jws, &key, &payload, &err), 0);
    assert_string_equal(json_string_value(json_object_get(payload, "iss")), "joe");
    assert_int_equal(kbs_jose_jws_verify_bytes(&jws, &key, &bytes, &err), 0);
    assert_int_equal(bytes.len, 70);
    kbs_buf_deinit(&bytes);
    kbs_jose_jws_deinit(&jws);
}

static void headers_that_are_taken(void **state)
{
    const struct kbs_span rows[] = {
        KBS_SPAN_LIT("{\"alg\":\"ES256\"}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"JWT\"}"),
        /* keys and addresses in a header are data like any other: not used, not fetched */
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"jwk\":{\"kty\":\"EC\"," A3_KEY "}}"),
        KBS_SPAN_LIT(
            "{\"alg\":\"ES256\",\"jku\":\"http://127.0.0.1:1/\",\"x5u\":\"file:///etc/passwd\"}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"x5c\":[\"AAAA\"],\"p2c\":2147483648,\"zip\":\"DEF\"}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"kid\":\"../../etc/passwd' OR 1=1--\"}"),
    };
    struct signer s = signer_new("P-256", KBS_CURVE_P256);

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_int_equal(verify_header(&s, rows[i]), 0);
    }
    EVP_PKEY_free(s.pkey);
}

static void headers_that_are_refused(void **state)
{
    const struct kbs_span rows[] = {
        KBS_SPAN_LIT("{}"),
        KBS_SPAN_LIT("{\"alg\":\"none\"}"),
        KBS_SPAN_LIT("{\"alg\":\"None\"}"),
        KBS_SPAN_LIT("{\"alg\":\"nOnE\"}"),
        KBS_SPAN_LIT("{\"alg\":\"\"}"),
        KBS_SPAN_LIT("{\"alg\":null}"),
        KBS_SPAN_LIT("{\"alg\":256}"),
        KBS_SPAN_LIT("{\"alg\":[\"ES256\"]}"),
        KBS_SPAN_LIT("{\"alg\":\"es256\"}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256 \"}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\\u0000\"}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256K\"}"),
        KBS_SPAN_LIT("{\"alg\":\"ES384\"}"),
        KBS_SPAN_LIT("{\"alg\":\"ES512\"}"),
        KBS_SPAN_LIT("{\"alg\":\"HS256\"}"),
        KBS_SPAN_LIT("{\"alg\":\"RS256\"}"),
        KBS_SPAN_LIT("{\"alg\":\"PS256\"}"),
        KBS_SPAN_LIT("{\"alg\":\"EdDSA\"}"),
        KBS_SPAN_LIT("{\"alg\":\"RSA1_5\"}"),
        KBS_SPAN_LIT("{\"alg\":\"dir\"}"),
        KBS_SPAN_LIT("{\"alg\":\"PBES2-HS256+A128KW\",\"p2c\":2147483648}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"alg\":\"ES256\"}"),
        KBS_SPAN_LIT("{\"alg\":\"none\",\"alg\":\"ES256\"}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"\\u0061lg\":\"none\"}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"x\":{\"a\":1,\"a\":2}}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"crit\":[\"exp\"],\"exp\":1}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"crit\":[]}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"crit\":null}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"b64\":false}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"b64\":true}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"typ\":1}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"typ\":null}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"kid\":1}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"kid\":null}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"kid\":\"a\\u0000b\"}"),
        KBS_SPAN_LIT("[\"ES256\"]"),
        KBS_SPAN_LIT("\"ES256\""),
        KBS_SPAN_LIT("{\"alg\":\"ES256\"} "
                     "{}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\"}\0"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\",\"n\":1\0}"),
        KBS_SPAN_LIT("{\"alg\":\"ES256\""),
    };
    struct signer s = signer_new("P-256", KBS_CURVE_P256);

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (verify_header(&s, rows[i]) != -1) {
            fail_msg("accepted: %.*s", (int)rows[i].len, (const char *)rows[i].p);
        }
    }
    EVP_PKEY_free(s.pkey);
}

static void sizes_are_bounded(void **state)
{
    struct signer s = signer_new("P-256", KBS_CURVE_P256);
    struct kbs_buf header = KBS_BUF(1 << 20);
    struct kbs_buf text = KBS_BUF(4 << 20);
    struct kbs_error err;

    (void)state;
    kbs_buf_put_str(&header, "{\"alg\":\"ES256\",\"kid\":\"");
    for (int i = 0; i < KBS_LIMIT_KID_BYTES; i++) {
        kbs_buf_put_u8(&header, 'k');
    }
    kbs_buf_put_str(&header, "\"}");
    assert_int_equal(verify_header(&s, kbs_buf_span(&header)), 0);
    header.len -= 2;
    kbs_buf_put_str(&header, "k\"}");
    assert_int_equal(verify_header(&s, kbs_buf_span(&header)), -1);

    kbs_buf_clear(&header);
    kbs_buf_put_str(&header, "{\"alg\":\"ES256\",\"x\":\"");
    for (int i = 0; i < KBS_LIMIT_JWT_BYTES; i++) {
        kbs_buf_put_u8(&header, 'x');
    }
    kbs_buf_put_str(&header, "\"}");
    jws_put(&text, &s, kbs_buf_span(&header), KBS_SPAN_LIT("{}"));
    assert_int_equal(verify(kbs_buf_span(&text), &s.key, &err), -1);
    assert_non_null(strstr(err.detail, "longer"));
    kbs_buf_deinit(&header);
    kbs_buf_deinit(&text);
    EVP_PKEY_free(s.pkey);
}

static void texts_that_are_refused(void **state)
{
    static const char *const rows[] = {
        "",
        ".",
        "..",
        "...",
        A3_HEADER,
        A3_HEADER "." A3_PAYLOAD,
        A3_HEADER "." A3_PAYLOAD ".",
        A3_HEADER ".." A3_SIGNATURE,
        "." A3_PAYLOAD "." A3_SIGNATURE,
        A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE ".",
        A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE ".AA.AA",
        A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE "=",
        A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE "==",
        A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE "\n",
        " " A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE,
        A3_HEADER "=." A3_PAYLOAD "." A3_SIGNATURE,
        A3_HEADER "." A3_PAYLOAD "=." A3_SIGNATURE,
        A3_HEADER "." A3_PAYLOAD "\n." A3_SIGNATURE,
        A3_HEADER "." A3_PAYLOAD "." A3_SIGNATURE "AA",
        /*
         * the last character with non-zero trailing bits: Q -> R, and `+` `/` of the other alphabet
         */
        A3_HEADER
        "." A3_PAYLOAD
        ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1R",
        A3_HEADER
        "." A3_PAYLOAD
        ".DtEhU3ljbEg8L38VWAfUAqOyKAM6+Xx+F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3+Kg6NU1Q",
        A3_HEADER
        "." A3_PAYLOAD
        ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU",
        /* padding inside a part: cjose 0.6.2.1 fails an assertion on it */
        A3_HEADER ".eyJpc=Mi." A3_SIGNATURE,
        A3_HEADER ".ey=pc3Mi." A3_SIGNATURE,
        "ey=h." A3_PAYLOAD "." A3_SIGNATURE,
        A3_HEADER
        "." A3_PAYLOAD
        ".DtEhU3ljbEg8L38VWAfUAqOyKAM6=Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        "eyJhbGciOiJFUzI1NiJ8." A3_PAYLOAD "." A3_SIGNATURE,
        A3_HEADER ".eyJpc3MiOiJqb2UifQ." A3_SIGNATURE,
    };
    KBS_AUTO_JSON jwk = object("{\"kty\":\"EC\"," A3_KEY "}");
    struct kbs_ec_public key;
    struct kbs_error err;

    (void)state;
    assert_int_equal(kbs_jose_jwk_get(jwk, NULL, &key, &err), 0);
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (verify(kbs_span_str(rows[i]), &key, &err) != -1) {
            fail_msg("accepted: %s", rows[i]);
        }
    }
}

static void payloads_that_are_refused(void **state)
{
    const struct kbs_span rows[] = {KBS_SPAN_LIT("[]"),
                                    KBS_SPAN_LIT("foo"),
                                    KBS_SPAN_LIT("1"),
                                    KBS_SPAN_LIT("{\"a\":1,\"a\":1}"),
                                    KBS_SPAN_LIT("{}x"),
                                    KBS_SPAN_LIT("{\"a\":1\0}"),
                                    KBS_SPAN_LIT("{\"a\":\"\xff\"}")};
    struct signer s = signer_new("P-256", KBS_CURVE_P256);

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct kbs_buf text = KBS_BUF(4096);
        struct kbs_error err;

        jws_put(&text, &s, KBS_SPAN_LIT("{\"alg\":\"ES256\"}"), rows[i]);
        assert_int_equal(verify(kbs_buf_span(&text), &s.key, &err), -1);
        assert_int_equal(err.category, KBS_UNAUTHENTICATED);
        kbs_buf_deinit(&text);
    }
    EVP_PKEY_free(s.pkey);
}

/* Wrong kind of key or signature form, each with a signature that is good in its own way. */
static void keys_and_signature_forms(void **state)
{
    struct signer p256 = signer_new("P-256", KBS_CURVE_P256);
    struct signer other = signer_new("P-256", KBS_CURVE_P256);
    struct signer p384 = signer_new("P-384", KBS_CURVE_P384);
    struct kbs_buf text = KBS_BUF(4096);
    struct kbs_ec_public off;
    struct kbs_error err;
    uint8_t der[160];

    (void)state;
    jws_put(&text, &p256, KBS_SPAN_LIT("{\"alg\":\"ES256\"}"), KBS_SPAN_LIT("{}"));
    assert_int_equal(verify(kbs_buf_span(&text), &p256.key, &err), 0);
    assert_int_equal(verify(kbs_buf_span(&text), &other.key, &err), -1);
    assert_int_equal(verify(kbs_buf_span(&text), &p384.key, &err), -1);
    assert_non_null(strstr(err.detail, "ES256 is not what its key is for"));
    off = p256.key;
    off.y[31] ^= 1;
    assert_int_equal(verify(kbs_buf_span(&text), &off, &err), -1);

    kbs_buf_clear(&text);
    jws_put(&text, &p384, KBS_SPAN_LIT("{\"alg\":\"ES256\"}"), KBS_SPAN_LIT("{}"));
    assert_int_equal(verify(kbs_buf_span(&text), &p384.key, &err), -1);

    kbs_buf_clear(&text); /* DER in place of r||s */
    input_put(&text, KBS_SPAN_LIT("{\"alg\":\"ES256\"}"), KBS_SPAN_LIT("{}"));
    size_t n = sign_der(&p256, kbs_buf_span(&text), EVP_sha256(), der, sizeof(der));
    kbs_buf_put_u8(&text, '.');
    kbs_base64url_put(&text, kbs_span(der, n));
    assert_int_equal(verify(kbs_buf_span(&text), &p256.key, &err), -1);
    kbs_buf_deinit(&text);
    EVP_PKEY_free(p256.pkey);
    EVP_PKEY_free(other.pkey);
    EVP_PKEY_free(p384.pkey);
}

/* A token that brings its own key is still verified with ours. */
static void embedded_key_is_not_trusted(void **state)
{
    struct signer attacker = signer_new("P-256", KBS_CURVE_P256);
    struct signer ours = signer_new("P-256", KBS_CURVE_P256);
    struct kbs_buf header = KBS_BUF(4096);
    struct kbs_buf text = KBS_BUF(4096);
    struct kbs_error err;

    (void)state;
    kbs_buf_put_str(&header, "{\"alg\":\"ES256\",\"jwk\":");
    kbs_jose_jwk_put(&header, &attacker.key);
    kbs_buf_put_u8(&header, '}');
    jws_put(&text, &attacker, kbs_buf_span(&header), KBS_SPAN_LIT("{}"));
    assert_int_equal(verify(kbs_buf_span(&text), &ours.key, &err), -1);
    assert_int_equal(verify(kbs_buf_span(&text), &attacker.key, &err), 0);
    kbs_buf_deinit(&header);
    kbs_buf_deinit(&text);
    EVP_PKEY_free(attacker.pkey);
    EVP_PKEY_free(ours.pkey);
}

static const struct {
    const char *text;
    const char *alg;
    int category; /* KBS_OK: taken */
} jwk_rows[] = {
    {"{\"kty\":\"EC\"," A3_KEY "}", NULL, KBS_OK},
    {"{\"kty\":\"EC\"," A3_KEY "}", "ES256", KBS_OK},
    {"{\"kty\":\"EC\"," A3_KEY ",\"alg\":\"ES256\",\"use\":\"sig\",\"kid\":\"k\"}", "ES256",
     KBS_OK},
    {"{\"kty\":\"EC\"," A3_KEY ",\"alg\":\"ES256\",\"key_ops\":[\"verify\"]}", "ES256", KBS_OK},
    {"{\"kty\":\"EC\"," A3_KEY ",\"alg\":\"ECDH-ES+A256KW\",\"use\":\"enc\"}", "ECDH-ES+A256KW",
     KBS_OK},
    {"{\"kty\":\"EC\"," A3_KEY ",\"key_ops\":[\"deriveBits\"]}", "ECDH-ES+A256KW", KBS_OK},
    {"{\"kty\":\"EC\"," A3_KEY ",\"alg\":\"x\"}", NULL, KBS_OK},
    {"{\"kty\":\"EC\"," A3_KEY ",\"alg\":1}", NULL, KBS_INPUT},
    {"{\"kty\":\"EC\"," A3_KEY ",\"alg\":\"ES384\"}", "ES256", KBS_INPUT},
    {"{\"kty\":\"EC\"," A3_KEY ",\"alg\":\"ES256\"}", "ECDH-ES+A256KW", KBS_INPUT},
    {"{\"kty\":\"EC\"," A3_KEY ",\"use\":\"enc\"}", "ES256", KBS_INPUT},
    {"{\"kty\":\"EC\"," A3_KEY ",\"use\":\"sig\"}", "ECDH-ES+A256KW", KBS_INPUT},
    {"{\"kty\":\"EC\"," A3_KEY ",\"key_ops\":[\"encrypt\"]}", "ES256", KBS_INPUT},
    {"{\"kty\":\"EC\"," A3_KEY ",\"key_ops\":\"verify\"}", "ES256", KBS_INPUT},
    {"{\"kty\":\"EC\"," A3_KEY ",\"d\":\"AA\"}", NULL, KBS_INPUT},
    {"{\"kty\":\"EC\"," A3_KEY ",\"d\":null}", NULL, KBS_INPUT},
    {"{\"kty\":\"ec\"," A3_KEY "}", NULL, KBS_INPUT},
    {"{\"kty\":\"RSA\"," A3_KEY "}", NULL, KBS_INPUT},
    {"{" A3_KEY "}", NULL, KBS_INPUT},
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" A3_X "\"}", NULL, KBS_INPUT},
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"y\":\"" A3_Y "\"}", NULL, KBS_INPUT},
    {"{\"kty\":\"EC\",\"x\":\"" A3_X "\",\"y\":\"" A3_Y "\"}", NULL, KBS_INPUT},
    {"{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"" A3_X "\",\"y\":\"" A3_Y "\"}", NULL, KBS_INPUT},
    {"{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"" A3_X "\",\"y\":\"" A3_Y "\"}", NULL,
     KBS_INPUT},
    {"{\"kty\":\"EC\",\"crv\":\"p-256\",\"x\":\"" A3_X "\",\"y\":\"" A3_Y "\"}", NULL, KBS_INPUT},
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" A3_X "=\",\"y\":\"" A3_Y "\"}", NULL, KBS_INPUT},
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" A3_X "AA\",\"y\":\"" A3_Y "\"}", NULL, KBS_INPUT},
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA" A3_X "\",\"y\":\"" A3_Y "\"}", NULL, KBS_INPUT},
    /* trailing bits: ...RVEU and ...RVEV decode alike in a lenient reader */
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEV\",\"y\":\"" A3_Y
     "\"}",
     NULL, KBS_INPUT},
    /* swapped: not on the curve; both zero: infinity's stand-in; x = 2^256 - 1 >= p */
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" A3_Y "\",\"y\":\"" A3_X "\"}", NULL,
     KBS_UNPROCESSABLE},
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"y\":"
     "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
     NULL, KBS_UNPROCESSABLE},
    {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"__________________________________________8\",\"y\":\"" A3_Y
     "\"}",
     NULL, KBS_UNPROCESSABLE},
    {"{}", NULL, KBS_INPUT},
    {"[]", NULL, KBS_INPUT},
};

static void jwk_shapes(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(jwk_rows); i++) {
        KBS_AUTO_JSON jwk = object(jwk_rows[i].text);
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_ec_public key;
        int r = kbs_jose_jwk_get(jwk, jwk_rows[i].alg, &key, &err);

        if ((r == 0) != (jwk_rows[i].category == KBS_OK) ||
            (int)err.category != jwk_rows[i].category) {
            fail_msg("row %zu: %d, %s", i, r, err.detail);
        }
        assert_int_equal(key.curve, r == 0 ? KBS_CURVE_P256 : KBS_CURVE_NONE);
    }
}

static struct kbs_span pem_of(EVP_PKEY *pkey, struct kbs_buf *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *p = NULL;

    assert_int_equal(PEM_write_bio_PUBKEY(bio, pkey), 1);
    long n = BIO_get_mem_data(bio, &p);
    kbs_buf_clear(out);
    kbs_buf_put(out, p, (size_t)n);
    BIO_free(bio);
    return kbs_buf_span(out);
}

static void pem_keys(void **state)
{
    static const char *const groups[] = {"P-256", "P-384", "P-521"};
    struct kbs_buf pem = KBS_BUF(8192);
    struct kbs_ec_public key;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    for (size_t i = 0; i < COUNT(groups); i++) {
        struct signer s = signer_new(groups[i], (enum kbs_curve)(KBS_CURVE_P256 + i));

        assert_int_equal(kbs_jose_public_from_pem(pem_of(s.pkey, &pem), &key, &err), 0);
        assert_true(kbs_ec_public_equal(&key, &s.key));
        kbs_buf_put_str(&pem, "\n \r\n");
        assert_int_equal(kbs_jose_public_from_pem(kbs_buf_span(&pem), &key, &err), 0);
        kbs_buf_put_str(&pem, "x");
        assert_int_equal(kbs_jose_public_from_pem(kbs_buf_span(&pem), &key, &err), -1);
        EVP_PKEY_free(s.pkey);
    }
    kbs_buf_deinit(&pem);
}

static void pem_refused(const char *what, struct kbs_span pem)
{
    struct kbs_ec_public key;
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_jose_public_from_pem(pem, &key, &err) != -1) {
        fail_msg("accepted: %s", what);
    }
    assert_int_equal(err.category, KBS_INPUT);
}

static void pem_keys_refused(void **state)
{
    struct kbs_buf pem = KBS_BUF(1 << 16);
    struct kbs_buf twice = KBS_BUF(1 << 16);
    struct signer s = signer_new("P-256", KBS_CURVE_P256);
    EVP_PKEY *k1 = EVP_EC_gen("secp256k1");
    EVP_PKEY *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    BIO *bio = BIO_new(BIO_s_mem());
    char *p = NULL;

    (void)state;
    pem_refused("secp256k1", pem_of(k1, &pem));
    pem_refused("Ed25519", pem_of(ed, &pem));
    pem_of(s.pkey, &pem);
    kbs_buf_put_span(&twice, kbs_buf_span(&pem));
    kbs_buf_put_span(&twice, kbs_buf_span(&pem));
    pem_refused("two keys", kbs_buf_span(&twice));
    kbs_buf_clear(&twice);
    kbs_buf_put_str(&twice, "text\n");
    kbs_buf_put_span(&twice, kbs_buf_span(&pem));
    pem_refused("text before", kbs_buf_span(&twice));
    pem_refused("cut off", kbs_span(pem.p, pem.len - 30));
    pem_refused("empty", KBS_SPAN_EMPTY);
    pem_refused("encrypted",
                KBS_SPAN_LIT("-----BEGIN PUBLIC KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: "
                             "AES-128-CBC,00000000000000000000000000000000\n\nAAAA\n"
                             "-----END PUBLIC KEY-----\n"));
    assert_int_equal(PEM_write_bio_PrivateKey(bio, s.pkey, NULL, NULL, 0, NULL, NULL), 1);
    long n = BIO_get_mem_data(bio, &p);
    pem_refused("private key", kbs_span(p, (size_t)n));
    BIO_free(bio);

    assert_int_equal(
        EVP_PKEY_set_utf8_string_param(s.pkey, OSSL_PKEY_PARAM_EC_ENCODING, "explicit"), 1);
    pem_refused("explicit parameters", pem_of(s.pkey, &pem));
    EVP_PKEY_free(s.pkey);
    EVP_PKEY_free(k1);
    EVP_PKEY_free(ed);
    kbs_buf_deinit(&pem);
    kbs_buf_deinit(&twice);
}

#define EPK "\"epk\":{\"kty\":\"EC\"," A3_KEY "}"
#define KEY24 "\"encrypted_key\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\""
#define HDR(alg, rest) "{\"header\":{\"alg\":\"" alg "\"," EPK rest "}"

static void recipients(void **state)
{
    static const struct {
        const char *text;
        int category;
    } rows[] = {
        {HDR("ECDH-ES+A256KW", ",\"kid\":\"k\"") "," KEY24 "}", KBS_OK},
        {HDR("ECDH-ES+A256KW", ",\"kid\":\"k\",\"apu\":\"QQ\",\"apv\":\"Qg\"") "," KEY24 "}",
         KBS_OK},
        {HDR("ECDH-ES+A128KW", ",\"kid\":\"k\"") "," KEY24 "}", KBS_INPUT},
        {HDR("ECDH-ES", ",\"kid\":\"k\"") "," KEY24 "}", KBS_INPUT},
        {HDR("RSA1_5", ",\"kid\":\"k\"") "," KEY24 "}", KBS_INPUT},
        {HDR("dir", ",\"kid\":\"k\"") "," KEY24 "}", KBS_INPUT},
        {HDR("ECDH-ES+A256KW", "") "," KEY24 "}", KBS_INPUT},
        {HDR("ECDH-ES+A256KW", ",\"kid\":\"\"") "," KEY24 "}", KBS_INPUT},
        {HDR("ECDH-ES+A256KW", ",\"kid\":1") "," KEY24 "}", KBS_INPUT},
        {HDR("ECDH-ES+A256KW", ",\"kid\":\"k\",\"enc\":\"A256GCM\"") "," KEY24 "}", KBS_INPUT},
        {HDR("ECDH-ES+A256KW", ",\"kid\":\"k\",\"apu\":\"QQ==\"") "," KEY24 "}", KBS_INPUT},
        {HDR("ECDH-ES+A256KW", ",\"kid\":\"k\",\"apu\":1") "," KEY24 "}", KBS_INPUT},
        {HDR("ECDH-ES+A256KW", ",\"kid\":\"k\"") "," KEY24 ",\"iv\":\"\"}", KBS_INPUT},
        {HDR("ECDH-ES+A256KW", ",\"kid\":\"k\"") "}", KBS_INPUT},
        {HDR("ECDH-ES+A256KW", ",\"kid\":\"k\"") ",\"encrypted_key\":\"AAAAAAAAAAA\"}", KBS_INPUT},
        {HDR("ECDH-ES+A256KW",
             ",\"kid\":\"k\"") ",\"encrypted_key\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}",
         KBS_INPUT},
        {"{" KEY24 "}", KBS_INPUT},
        {"{\"header\":{\"alg\":\"ECDH-ES+A256KW\",\"kid\":\"k\",\"epk\":{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" A3_Y
         "\",\"y\":\"" A3_X "\"}}," KEY24 "}",
         KBS_UNPROCESSABLE},
        {"{\"header\":{\"alg\":\"ECDH-ES+A256KW\",\"kid\":\"k\",\"epk\":{\"kty\":\"EC\",\"use\":\"enc\"," A3_KEY
         "}}," KEY24 "}",
         KBS_INPUT},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        KBS_AUTO_JSON v = object(rows[i].text);
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_jose_recipient_in r;

        (void)!kbs_jose_recipient_get(v, KBS_TEE_ALG_ECDH_ES_A256KW, &r, &err);
        if ((int)err.category != rows[i].category) {
            fail_msg("row %zu: %s", i, err.detail);
        }
        if (err.category == KBS_OK) {
            assert_string_equal(r.kid, "k");
            assert_int_equal(r.encrypted_key.len, 24);
            assert_int_equal(r.epk.curve, KBS_CURVE_P256);
        }
        kbs_jose_recipient_in_deinit(&r);
    }
}

/* What our writer makes, our reader takes. */
static void recipient_round_trip(void **state)
{
    struct signer s = signer_new("P-521", KBS_CURVE_P521);
    struct kbs_buf text = KBS_BUF(4096);
    struct kbs_jose_recipient_in in;
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON v = NULL;
    uint8_t wrapped[KBS_LIMIT_KEY_BYTES_MAX + 8];

    (void)state;
    memset(wrapped, 0x5a, sizeof(wrapped));
    const struct kbs_jose_recipient out = {.epk = &s.key,
                                           .kid = KBS_SPAN_LIT("r/t/tag/v1"),
                                           .apu = KBS_SPAN_LIT("kbs-import-v1"),
                                           .apv = KBS_SPAN_LIT("r/t/tag/v1"),
                                           .encrypted_key = kbs_span(wrapped, sizeof(wrapped))};
    kbs_jose_recipient_put(&text, &out);
    assert_int_equal(kbs_json_parse_object(kbs_buf_span(&text), "recipient", &v, &err), 0);
    assert_int_equal(kbs_jose_recipient_get(v, KBS_TEE_ALG_ECDH_ES_A256KW, &in, &err), 0);
    assert_true(kbs_ec_public_equal(&in.epk, &s.key));
    assert_string_equal(in.kid, "r/t/tag/v1");
    assert_true(kbs_span_equal(kbs_buf_span(&in.apu), out.apu));
    assert_true(kbs_span_equal(kbs_buf_span(&in.apv), out.apv));
    assert_true(kbs_span_equal(kbs_buf_span(&in.encrypted_key), out.encrypted_key));
    kbs_jose_recipient_in_deinit(&in);
    kbs_buf_deinit(&text);
    EVP_PKEY_free(s.pkey);
}

static json_t *vectors_json(const char *name)
{
    struct kbs_buf file = KBS_BUF(4 << 20);
    json_t *v;

    vectors_read(name, &file);
    v = json_loadb((const char *)file.p, file.len, 0, NULL);
    kbs_buf_deinit(&file);
    assert_non_null(v);
    return v;
}

static void rfc7520(void **state)
{
    KBS_AUTO_JSON public = vectors_json("jose-cookbook/3_1.ec_public_key.json");
    KBS_AUTO_JSON private = vectors_json("jose-cookbook/3_2.ec_private_key.json");
    KBS_AUTO_JSON es512 = vectors_json("jose-cookbook/4_3.ecdsa_signature.json");
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ec_public key;
    struct kbs_span text;

    (void)state;
    assert_int_equal(kbs_jose_jwk_get(public, NULL, &key, &err), 0);
    assert_int_equal(key.curve, KBS_CURVE_P521);
    assert_int_equal(kbs_jose_jwk_get(private, NULL, &key, &err), -1);
    assert_int_equal(kbs_json_get_string(json_object_get(es512, "output"), "compact", &text, &err),
                     0);
    assert_int_equal(verify(text, &key, &err), -1);
    assert_non_null(strstr(err.detail, "alg"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc7515_a3_verifies),
        cmocka_unit_test(headers_that_are_taken),
        cmocka_unit_test(headers_that_are_refused),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(texts_that_are_refused),
        cmocka_unit_test(payloads_that_are_refused),
        cmocka_unit_test(keys_and_signature_forms),
        cmocka_unit_test(embedded_key_is_not_trusted),
        cmocka_unit_test(jwk_shapes),
        cmocka_unit_test(pem_keys),
        cmocka_unit_test(pem_keys_refused),
        cmocka_unit_test(recipients),
        cmocka_unit_test(recipient_round_trip),
        cmocka_unit_test(rfc7520),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
