/*
 * Unit tests of the RCAR messages: the digest both sides must agree on, and what is refused with
 * which status.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "attest/rcar.h"
#include "base/encoding.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define NONCE "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define X "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"
#define Y "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
#define JWK_MEMBERS \
    "\"alg\":\"ECDH-ES+A256KW\",\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" Y "\""
#define JWK "{" JWK_MEMBERS "}"
/* The RSA key of RFC 7517, appendix A.1. */
#define N                                                                                        \
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJE" \
    "CPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Q" \
    "vzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6" \
    "WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
#define RSA(alg, n, e) "{\"kty\":\"RSA\",\"alg\":\"" alg "\",\"n\":\"" n "\",\"e\":\"" e "\"}"
#define EVIDENCE "{\"primary_evidence\":{},\"additional_evidence\":\"\"}"
#define RUNTIME(jwk) "{\"nonce\":\"" NONCE "\",\"tee-pubkey\":" jwk "}"
#define ATTESTATION(jwk) \
    "{\"init-data\":null,\"runtime-data\":" RUNTIME(jwk) ",\"tee-evidence\":" EVIDENCE "}"

static struct kbs_span text(const char *s)
{
    return kbs_span_str(s);
}

/* Section 1.8 of the protocol report: made with an independent implementation. */
static void report_digest_vector(void **state)
{
    struct kbs_rcar_attestation a;
    struct kbs_buf canonical = KBS_BUF(4096);
    struct kbs_buf hex = KBS_BUF(256);
    struct kbs_digest d;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    assert_int_equal(kbs_rcar_attestation_parse(text(ATTESTATION(JWK)), &a, &err), 0);
    kbs_rcar_runtime_data_put(&canonical, &a.tee_key, a.nonce, a.additional);
    assert_string_equal(kbs_buf_cstr(&canonical), "{\"additional-evidence\":\"\",\"nonce\":\"" NONCE
                                                  "\",\"tee-pubkey\":" JWK "}");
    assert_int_equal(
        kbs_rcar_report_digest(KBS_HASH_SHA384, &a.tee_key, a.nonce, a.additional, &d, &err), 0);
    kbs_hex_put(&hex, kbs_digest_span(&d));
    assert_string_equal(kbs_buf_cstr(&hex),
                        "8a6244441b1b1171b3a1d56a693d4ce116c1f9ca1ae558bc5f59d46dada54cf4"
                        "9e92a361ab2472c434652fed5887f16d");
    assert_int_equal(
        kbs_rcar_report_digest(KBS_HASH_NONE, &a.tee_key, a.nonce, a.additional, &d, &err), -1);
    kbs_buf_deinit(&canonical);
    kbs_buf_deinit(&hex);
    kbs_rcar_attestation_deinit(&a);
}

/* The same for an RSA key: text and digest made with an independent implementation. */
static void report_digest_rsa(void **state)
{
    struct kbs_rcar_attestation a;
    struct kbs_buf canonical = KBS_BUF(4096);
    struct kbs_buf hex = KBS_BUF(256);
    struct kbs_digest d;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    assert_int_equal(kbs_rcar_attestation_parse(
                         text(ATTESTATION("{\"ext\":true,\"kty\":\"RSA\",\"alg\":\"RSA-OAEP-256\","
                                          "\"n\":\"" N "\",\"e\":\"AQAB\"}")),
                         &a, &err),
                     0);
    assert_int_equal(a.tee_key.alg, KBS_TEE_ALG_RSA_OAEP_256);
    assert_int_equal(a.tee_key.rsa.n_len, 256);
    kbs_rcar_runtime_data_put(&canonical, &a.tee_key, a.nonce, a.additional);
    assert_string_equal(
        kbs_buf_cstr(&canonical),
        "{\"additional-evidence\":\"\",\"nonce\":\"" NONCE
        "\",\"tee-pubkey\":{\"alg\":\"RSA-OAEP-256\",\"e\":\"AQAB\",\"kty\":\"RSA\","
        "\"n\":\"" N "\"}}");
    assert_int_equal(
        kbs_rcar_report_digest(KBS_HASH_SHA384, &a.tee_key, a.nonce, a.additional, &d, &err), 0);
    kbs_hex_put(&hex, kbs_digest_span(&d));
    assert_string_equal(kbs_buf_cstr(&hex),
                        "e371415b5cf63cdbc4bd7c66eb6d37afb73c320db16f1e7344364aba0aaaac5b"
                        "22ff32aec1a28cb4d0abf2efb2476eae");
    kbs_buf_deinit(&canonical);
    kbs_buf_deinit(&hex);
    kbs_rcar_attestation_deinit(&a);
}

/*
 * Section 1.8, an additional device: the same object without the first member, through the
 * canonicaliser.
 */
static void device_digest_vector(void **state)
{
    KBS_AUTO_JSON v = NULL;
    struct kbs_buf canonical = KBS_BUF(4096);
    struct kbs_buf hex = KBS_BUF(256);
    struct kbs_digest d;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span part;

    (void)state;
    assert_int_equal(
        kbs_json_parse_object(
            text("{\"tee-pubkey\":{\"kty\":\"EC\",\"y\":\"" Y "\",\"x\":\"" X
                 "\",\"crv\":\"P-256\",\"alg\":\"ECDH-ES+A256KW\"},\"nonce\":\"" NONCE "\"}"),
            "device", &v, &err),
        0);
    assert_int_equal(kbs_json_canonical(v, &canonical, &err), 0);
    part = kbs_buf_span(&canonical);
    kbs_digest(KBS_HASH_SHA384, &part, 1, &d);
    kbs_hex_put(&hex, kbs_digest_span(&d));
    assert_string_equal(kbs_buf_cstr(&hex),
                        "90df2d9286ca24c8a886cb47e5ca7eb5f81250b2bf3cae2adb51d1978b49690a"
                        "b9d4efe1c17385028f91f83d3fef0193");
    kbs_buf_deinit(&canonical);
    kbs_buf_deinit(&hex);
}

/*
 * The text written by hand is what the canonicaliser makes of it, with characters that need care.
 */
static void runtime_data_is_canonical(void **state)
{
    struct kbs_tee_key key = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = {.curve = KBS_CURVE_P521}};
    struct kbs_buf once = KBS_BUF(4096);
    struct kbs_buf twice = KBS_BUF(4096);
    KBS_AUTO_JSON v = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    kbs_rcar_runtime_data_put(&once, &key, text("a\"\\\x01\n/\x7f\xe2\x82\xac\xf0\x9f\x98\x80"),
                              text("{\"x\":1}"));
    assert_int_equal(kbs_json_parse_object(kbs_buf_span(&once), "it", &v, &err), 0);
    assert_int_equal(kbs_json_canonical(v, &twice, &err), 0);
    assert_string_equal(kbs_buf_cstr(&once), kbs_buf_cstr(&twice));
    kbs_buf_deinit(&once);
    kbs_buf_deinit(&twice);
}

static void unknown_jwk_members_do_not_count(void **state)
{
    struct kbs_rcar_attestation plain;
    struct kbs_rcar_attestation more;
    struct kbs_digest a;
    struct kbs_digest b;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    assert_int_equal(kbs_rcar_attestation_parse(text(ATTESTATION(JWK)), &plain, &err), 0);
    assert_int_equal(
        kbs_rcar_attestation_parse(
            text(ATTESTATION("{\"zzz\":[1.5],\"kid\":\"k\"," JWK_MEMBERS "}")), &more, &err),
        0);
    assert_int_equal(kbs_rcar_report_digest(KBS_HASH_SHA384, &plain.tee_key, plain.nonce,
                                            plain.additional, &a, &err),
                     0);
    assert_int_equal(kbs_rcar_report_digest(KBS_HASH_SHA384, &more.tee_key, more.nonce,
                                            more.additional, &b, &err),
                     0);
    assert_true(kbs_span_equal(kbs_digest_span(&a), kbs_digest_span(&b)));
    kbs_rcar_attestation_deinit(&plain);
    kbs_rcar_attestation_deinit(&more);
}

static void requests(void **state)
{
    static const struct {
        const char *body;
        int category;
        const char *detail; /* part of it, if not NULL */
    } rows[] = {
        {"{\"version\":\"0.4.0\",\"tee\":\"sample\",\"extra-params\":\"\"}", KBS_OK, NULL},
        {"{\"version\":\"0.4.0\",\"tee\":\"sample\",\"extra-params\":null}", KBS_OK, NULL},
        {"{\"version\":\"0.4.0\",\"tee\":\"sample\",\"extra-params\":{\"supported-hash-algorithms\":"
         "[\"sha256\",\"sha384\",\"sha512\",\"sm3\"]},\"more\":1}",
         KBS_OK, NULL},
        {"{\"version\":\"0.4.0\",\"tee\":\"sample\"}", KBS_INPUT, "extra-params"},
        {"{\"version\":\"0.4.0\",\"extra-params\":\"\"}", KBS_INPUT, "tee"},
        {"{\"tee\":\"sample\",\"extra-params\":\"\"}", KBS_INPUT, "version"},
        {"{\"version\":4,\"tee\":\"sample\",\"extra-params\":\"\"}", KBS_INPUT, "version"},
        {"{\"version\":\"0.4.0\",\"version\":\"0.4.0\",\"tee\":\"sample\",\"extra-params\":\"\"}",
         KBS_INPUT, "duplicate"},
        {"", KBS_INPUT, NULL},
        {"[]", KBS_INPUT, NULL},
        {"{\"version\":\"0.4.1\",\"tee\":\"sample\",\"extra-params\":\"\"}", KBS_UNAUTHENTICATED,
         "Attestation error: RCAR handshake Auth failed: KBS Client Protocol Version Mismatch: expect =0.4.0 "
         "while the request is 0.4.1"},
        {"{\"version\":\"0.2.0\",\"tee\":\"sample\",\"extra-params\":\"\"}", KBS_UNAUTHENTICATED,
         "request is 0.2.0"},
        {"{\"version\":\"0.4.0-rc1\",\"tee\":\"sample\",\"extra-params\":\"\"}",
         KBS_UNAUTHENTICATED, "KBS Client Protocol Version Mismatch"},
        {"{\"version\":\"\",\"tee\":\"sample\",\"extra-params\":\"\"}", KBS_UNAUTHENTICATED,
         "Mismatch"},
        {"{\"version\":\"0.4.0\",\"tee\":\"toaster\",\"extra-params\":\"\"}", KBS_UNAUTHENTICATED,
         "tee"},
        {"{\"version\":\"0.4.0\",\"tee\":\"Sample\",\"extra-params\":\"\"}", KBS_UNAUTHENTICATED,
         "tee"},
        {"{\"version\":\"0.4.0\",\"tee\":\"tdx\",\"extra-params\":\"\"}", KBS_UNAUTHENTICATED,
         "tee"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct kbs_rcar_request r;
        struct kbs_error err = KBS_ERROR_NONE;
        int ok = kbs_rcar_request_parse(text(rows[i].body), &r, &err) == 0;

        if (ok != (rows[i].category == KBS_OK) || (int)err.category != rows[i].category ||
            (rows[i].detail != NULL && strstr(err.detail, rows[i].detail) == NULL)) {
            fail_msg("row %zu: %s", i, err.detail);
        }
        if (ok) {
            assert_int_equal(r.tee, KBS_TEE_SAMPLE);
            assert_int_equal(r.hash, KBS_HASH_SHA384);
        }
    }
}

static void details_do_not_echo(void **state)
{
    static const char *const rows[] = {
        "{\"version\":\"s3cr3t\",\"tee\":\"sample\",\"extra-params\":\"\"}",
        "{\"version\":\"0.4.0\",\"tee\":\"s3cr3t\",\"extra-params\":\"\"}",
        "{\"version\":\"11111111111111111s3cr3t\",\"tee\":\"sample\",\"extra-params\":\"\"}",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct kbs_rcar_request r;
        struct kbs_error err = KBS_ERROR_NONE;

        assert_int_equal(kbs_rcar_request_parse(text(rows[i]), &r, &err), -1);
        assert_null(strstr(err.detail, "s3cr3t"));
    }
}

static void challenge(void **state)
{
    struct kbs_buf out = KBS_BUF(256);

    (void)state;
    kbs_rcar_challenge_put(&out, text(NONCE));
    assert_string_equal(kbs_buf_cstr(&out), "{\"nonce\":\"" NONCE "\",\"extra-params\":\"\"}");
    kbs_buf_deinit(&out);
}

#define WITH_INIT(v) \
    "{\"init-data\":" v ",\"runtime-data\":" RUNTIME(JWK) ",\"tee-evidence\":" EVIDENCE "}"
#define WITH_EVIDENCE(v) "{\"runtime-data\":" RUNTIME(JWK) ",\"tee-evidence\":" v "}"
#define EC(alg, crv, x, y) \
    "{\"kty\":\"EC\",\"alg\":\"" alg "\",\"crv\":\"" crv "\",\"x\":\"" x "\",\"y\":\"" y "\"}"

static const struct {
    const char *body;
    int category;
    const char *detail;
} attestation_rows[] = {
    {ATTESTATION(JWK), KBS_OK, NULL},
    {WITH_EVIDENCE(EVIDENCE), KBS_OK, NULL},
    {WITH_EVIDENCE("{\"primary_evidence\":\"any\",\"additional_evidence\":\"\"}"), KBS_OK, NULL},
    {WITH_INIT("{\"format\":\"toml\",\"body\":\"\"}"), KBS_OK, NULL},
    {WITH_INIT("{\"format\":\"json\",\"body\":\"\"}"), KBS_INPUT, "toml"},
    {WITH_INIT("{\"format\":\"toml\"}"), KBS_INPUT, "body"},
    {WITH_INIT("\"toml\""), KBS_INPUT, "init-data"},
    {"{\"tee-evidence\":" EVIDENCE "}", KBS_INPUT, "runtime-data"},
    {"{\"runtime-data\":" RUNTIME(JWK) "}", KBS_INPUT, "tee-evidence"},
    {"{\"runtime-data\":{\"tee-pubkey\":" JWK "},\"tee-evidence\":" EVIDENCE "}", KBS_INPUT,
     "nonce"},
    {"{\"runtime-data\":{\"nonce\":1,\"tee-pubkey\":" JWK "},\"tee-evidence\":" EVIDENCE "}",
     KBS_INPUT, "nonce"},
    {"{\"runtime-data\":{\"nonce\":\"n\"},\"tee-evidence\":" EVIDENCE "}", KBS_INPUT, "tee-pubkey"},
    {"{\"runtime-data\":{\"nonce\":\"n\",\"nonce\":\"n\",\"tee-pubkey\":" JWK
     "},\"tee-evidence\":" EVIDENCE "}",
     KBS_INPUT, "duplicate"},
    {WITH_EVIDENCE("{\"primary_evidence\":{}}"), KBS_INPUT, "additional_evidence"},
    {WITH_EVIDENCE("{\"additional_evidence\":\"\"}"), KBS_INPUT, "primary_evidence"},
    {WITH_EVIDENCE("{\"primary_evidence\":null,\"additional_evidence\":\"\"}"), KBS_INPUT,
     "primary_evidence"},
    {WITH_EVIDENCE("{\"primary_evidence\":{},\"additional_evidence\":{}}"), KBS_INPUT,
     "additional_evidence"},
    {WITH_EVIDENCE("{\"primary_evidence\":{},\"additional_evidence\":\"{}\"}"), KBS_UNPROCESSABLE,
     "additional evidence is not supported yet"},
    {WITH_EVIDENCE("{\"primary_evidence\":{},\"additional_evidence\":\" \"}"), KBS_UNPROCESSABLE,
     NULL},
    {ATTESTATION(RSA("RSA-OAEP-256", N, "AQAB")), KBS_OK, NULL},
    {ATTESTATION(RSA("RSA-OAEP", N, "Aw")), KBS_OK, NULL},
    {ATTESTATION(RSA("RSA1_5", N, "AQAB")), KBS_UNPROCESSABLE, "RSA1_5 is not supported"},
    {ATTESTATION(RSA("RSA-OAEP-512", N, "AQAB")), KBS_UNPROCESSABLE, "RSA-OAEP-256"},
    {ATTESTATION(RSA("ECDH-ES+A256KW", N, "AQAB")), KBS_UNPROCESSABLE, "RSA-OAEP-256"},
    {ATTESTATION(EC("RSA-OAEP-256", "P-256", X, Y)), KBS_UNPROCESSABLE, "ECDH-ES+A256KW"},
    {ATTESTATION(RSA("RSA-OAEP-256", "AQAB", "AQAB")), KBS_UNPROCESSABLE, "2048 to 4096"},
    {ATTESTATION(RSA("RSA-OAEP-256", N N N, "AQAB")), KBS_UNPROCESSABLE, "\"n\""},
    {ATTESTATION(RSA("RSA-OAEP-256", N "=", "AQAB")), KBS_INPUT, "\"n\""},
    {ATTESTATION(RSA("RSA-OAEP-256", "AA" N, "AQAB")), KBS_INPUT, "leading zeros"},
    {ATTESTATION(RSA("RSA-OAEP-256", N, "")), KBS_INPUT, "\"e\""},
    {ATTESTATION(RSA("RSA-OAEP-256", N, "AQ")), KBS_UNPROCESSABLE, "exponent"},
    {ATTESTATION(RSA("RSA-OAEP-256", N, "AQAA")), KBS_UNPROCESSABLE, "exponent"},
    {ATTESTATION("{\"kty\":\"RSA\",\"alg\":\"RSA-OAEP-256\",\"e\":\"AQAB\"}"), KBS_INPUT, "\"n\""},
    {ATTESTATION("{\"d\":\"AA\",\"kty\":\"RSA\",\"alg\":\"RSA-OAEP-256\",\"n\":\"" N
                 "\",\"e\":\"AQAB\"}"),
     KBS_INPUT, "private"},
    {ATTESTATION("{\"use\":\"sig\",\"kty\":\"RSA\",\"alg\":\"RSA-OAEP-256\",\"n\":\"" N
                 "\",\"e\":\"AQAB\"}"),
     KBS_INPUT, "use"},
    {ATTESTATION("{\"kty\":\"AKP\",\"alg\":\"ML-KEM-768+A192KW\",\"pub\":\"AA\"}"),
     KBS_UNPROCESSABLE, "EC"},
    {ATTESTATION("{\"kty\":\"OKP\",\"alg\":\"ECDH-ES+A256KW\",\"crv\":\"X25519\",\"x\":\"AA\"}"),
     KBS_UNPROCESSABLE, "EC"},
    {ATTESTATION("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" X "\",\"y\":\"" Y "\"}"), KBS_INPUT,
     "alg"},
    {ATTESTATION(EC("ECDH-ES", "P-256", X, Y)), KBS_UNPROCESSABLE, "ECDH-ES+A256KW"},
    {ATTESTATION(EC("ECDH-ES+A128KW", "P-256", X, Y)), KBS_UNPROCESSABLE, "ECDH-ES+A256KW"},
    {ATTESTATION(EC("ES256", "P-256", X, Y)), KBS_UNPROCESSABLE, "ECDH-ES+A256KW"},
    {ATTESTATION(EC("ECDH-ES+A256KW", "secp256k1", X, Y)), KBS_UNPROCESSABLE, "P-521"},
    {ATTESTATION(EC("ECDH-ES+A256KW", "P-521", X, Y)), KBS_INPUT, "66 bytes"},
    {ATTESTATION(EC("ECDH-ES+A256KW", "P-256", X "=", Y)), KBS_INPUT, "\"x\""},
    {ATTESTATION(EC("ECDH-ES+A256KW", "P-256", Y, X)), KBS_UNPROCESSABLE, "point"},
    {ATTESTATION("{\"d\":\"AA\"," JWK_MEMBERS "}"), KBS_INPUT, "private"},
    {ATTESTATION("{\"use\":\"sig\"," JWK_MEMBERS "}"), KBS_INPUT, "use"},
};

static void attestations(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(attestation_rows); i++) {
        struct kbs_rcar_attestation a;
        struct kbs_error err = KBS_ERROR_NONE;
        int ok = kbs_rcar_attestation_parse(text(attestation_rows[i].body), &a, &err) == 0;

        if (ok != (attestation_rows[i].category == KBS_OK) ||
            (int)err.category != attestation_rows[i].category ||
            (attestation_rows[i].detail != NULL &&
             strstr(err.detail, attestation_rows[i].detail) == NULL)) {
            fail_msg("row %zu: %s", i, err.detail);
        }
        assert_true(ok == (a.root != NULL));
        if (ok) {
            assert_true(kbs_span_equal_str(a.nonce, NONCE));
            assert_true(a.tee_key.alg != KBS_TEE_ALG_ECDH_ES_A256KW ||
                        a.tee_key.ec.curve == KBS_CURVE_P256);
            assert_non_null(a.primary_evidence);
        }
        kbs_rcar_attestation_deinit(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(report_digest_vector),
        cmocka_unit_test(report_digest_rsa),
        cmocka_unit_test(device_digest_vector),
        cmocka_unit_test(runtime_data_is_canonical),
        cmocka_unit_test(unknown_jwk_members_do_not_count),
        cmocka_unit_test(requests),
        cmocka_unit_test(details_do_not_echo),
        cmocka_unit_test(challenge),
        cmocka_unit_test(attestations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
