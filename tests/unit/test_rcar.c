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

#define ATTESTATION_0_2_0(jwk) "{\"tee-pubkey\":" jwk ",\"tee-evidence\":{}}"

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
    assert_int_equal(
        kbs_rcar_attestation_parse(text(ATTESTATION(JWK)), KBS_PROTOCOL_0_4_0, &a, &err), 0);
    kbs_rcar_runtime_data_put(&canonical, &a.tee_key, a.nonce, kbs_rcar_additional(&a));
    assert_string_equal(kbs_buf_cstr(&canonical), "{\"additional-evidence\":\"\",\"nonce\":\"" NONCE
                                                  "\",\"tee-pubkey\":" JWK "}");
    assert_int_equal(kbs_rcar_report_digest(KBS_HASH_SHA384, &a.tee_key, a.nonce,
                                            kbs_rcar_additional(&a), &d, &err),
                     0);
    kbs_hex_put(&hex, kbs_digest_span(&d));
    assert_string_equal(kbs_buf_cstr(&hex),
                        "8a6244441b1b1171b3a1d56a693d4ce116c1f9ca1ae558bc5f59d46dada54cf4"
                        "9e92a361ab2472c434652fed5887f16d");
    assert_int_equal(kbs_rcar_report_digest(KBS_HASH_NONE, &a.tee_key, a.nonce,
                                            kbs_rcar_additional(&a), &d, &err),
                     -1);
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
                         KBS_PROTOCOL_0_4_0, &a, &err),
                     0);
    assert_int_equal(a.tee_key.alg, KBS_TEE_ALG_RSA_OAEP_256);
    assert_int_equal(a.tee_key.rsa.n_len, 256);
    kbs_rcar_runtime_data_put(&canonical, &a.tee_key, a.nonce, kbs_rcar_additional(&a));
    assert_string_equal(
        kbs_buf_cstr(&canonical),
        "{\"additional-evidence\":\"\",\"nonce\":\"" NONCE
        "\",\"tee-pubkey\":{\"alg\":\"RSA-OAEP-256\",\"e\":\"AQAB\",\"kty\":\"RSA\","
        "\"n\":\"" N "\"}}");
    assert_int_equal(kbs_rcar_report_digest(KBS_HASH_SHA384, &a.tee_key, a.nonce,
                                            kbs_rcar_additional(&a), &d, &err),
                     0);
    kbs_hex_put(&hex, kbs_digest_span(&d));
    assert_string_equal(kbs_buf_cstr(&hex),
                        "e371415b5cf63cdbc4bd7c66eb6d37afb73c320db16f1e7344364aba0aaaac5b"
                        "22ff32aec1a28cb4d0abf2efb2476eae");
    kbs_buf_deinit(&canonical);
    kbs_buf_deinit(&hex);
    kbs_rcar_attestation_deinit(&a);
}

/*
 * Section 1.8, an additional device, and so the digest of all evidence in 0.2.0: the same object
 * without the first member.
 */
static void device_digest_vector(void **state)
{
    static const char digest[] = "90df2d9286ca24c8a886cb47e5ca7eb5f81250b2bf3cae2adb51d1978b49690a"
                                 "b9d4efe1c17385028f91f83d3fef0193";
    struct kbs_rcar_attestation a;
    struct kbs_buf canonical = KBS_BUF(4096);
    struct kbs_buf hex = KBS_BUF(256);
    struct kbs_digest d;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    assert_int_equal(
        kbs_rcar_attestation_parse(text(ATTESTATION_0_2_0(JWK)), KBS_PROTOCOL_0_2_0, &a, &err), 0);
    assert_null(kbs_rcar_additional(&a));
    assert_int_equal(a.nonce.len, 0);
    a.nonce = text(NONCE); /* the session's */
    kbs_rcar_runtime_data_put(&canonical, &a.tee_key, a.nonce, NULL);
    assert_string_equal(kbs_buf_cstr(&canonical),
                        "{\"nonce\":\"" NONCE "\",\"tee-pubkey\":" JWK "}");
    assert_int_equal(kbs_rcar_report_digest(KBS_HASH_SHA384, &a.tee_key, a.nonce,
                                            kbs_rcar_additional(&a), &d, &err),
                     0);
    kbs_hex_put(&hex, kbs_digest_span(&d));
    assert_string_equal(kbs_buf_cstr(&hex), digest);
    kbs_buf_deinit(&canonical);
    kbs_buf_deinit(&hex);
    kbs_rcar_attestation_deinit(&a);
}

/*
 * The text written by hand is what the canonicaliser makes of it, with characters that need care.
 */
static void runtime_data_is_canonical(void **state)
{
    struct kbs_tee_key key = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = {.curve = KBS_CURVE_P521}};
    struct kbs_buf once = KBS_BUF(4096);
    struct kbs_buf twice = KBS_BUF(4096);
    const struct kbs_span additional = text("{\"x\":1}");
    KBS_AUTO_JSON v = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    kbs_rcar_runtime_data_put(&once, &key, text("a\"\\\x01\n/\x7f\xe2\x82\xac\xf0\x9f\x98\x80"),
                              &additional);
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
    assert_int_equal(
        kbs_rcar_attestation_parse(text(ATTESTATION(JWK)), KBS_PROTOCOL_0_4_0, &plain, &err), 0);
    assert_int_equal(kbs_rcar_attestation_parse(
                         text(ATTESTATION("{\"zzz\":[1.5],\"kid\":\"k\"," JWK_MEMBERS "}")),
                         KBS_PROTOCOL_0_4_0, &more, &err),
                     0);
    assert_int_equal(kbs_rcar_report_digest(KBS_HASH_SHA384, &plain.tee_key, plain.nonce,
                                            kbs_rcar_additional(&plain), &a, &err),
                     0);
    assert_int_equal(kbs_rcar_report_digest(KBS_HASH_SHA384, &more.tee_key, more.nonce,
                                            kbs_rcar_additional(&more), &b, &err),
                     0);
    assert_true(kbs_span_equal(kbs_digest_span(&a), kbs_digest_span(&b)));
    kbs_rcar_attestation_deinit(&plain);
    kbs_rcar_attestation_deinit(&more);
}

#define REQUEST(version, tee, extra) \
    "{\"version\":\"" version "\",\"tee\":\"" tee "\",\"extra-params\":" extra "}"

static void requests(void **state)
{
    static const struct {
        const char *body;
        int category;
        const char *detail; /* part of it, if not NULL */
    } rows[] = {
        {REQUEST("0.4.0", "sample", "\"\""), KBS_OK, NULL},
        {REQUEST("0.4.0", "sample", "null"), KBS_OK, NULL},
        {REQUEST("0.4.0", "sample", "[1]"), KBS_OK, NULL},
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
        {REQUEST("0.4.1", "sample", "\"\""), KBS_UNAUTHENTICATED,
         "Attestation error: RCAR handshake Auth failed: KBS Client Protocol Version Mismatch: expect =0.4.0 "
         "while the request is 0.4.1"},
        {REQUEST("0.1.0", "sample", "\"\""), KBS_UNAUTHENTICATED, "request is 0.1.0"},
        {REQUEST("0.1.1", "sample", "\"\""), KBS_UNAUTHENTICATED, "request is 0.1.1"},
        {REQUEST("0.3.0", "sample", "\"\""), KBS_UNAUTHENTICATED, "request is 0.3.0"},
        {REQUEST("0.2.1", "sample", "\"\""), KBS_UNAUTHENTICATED, "request is 0.2.1"},
        {REQUEST("0.4.0-rc1", "sample", "\"\""), KBS_UNAUTHENTICATED,
         "KBS Client Protocol Version Mismatch"},
        {REQUEST("none", "sample", "\"\""), KBS_UNAUTHENTICATED, "Mismatch"},
        {REQUEST("", "sample", "\"\""), KBS_UNAUTHENTICATED, "Mismatch"},
        {REQUEST("0.4.0", "toaster", "\"\""), KBS_UNAUTHENTICATED, "tee"},
        {REQUEST("0.4.0", "Sample", "\"\""), KBS_UNAUTHENTICATED, "tee"},
        {REQUEST("0.4.0", "none", "\"\""), KBS_UNAUTHENTICATED, "tee"},
        {REQUEST("0.4.0", "sev", "\"\""), KBS_UNAUTHENTICATED, "tee"},
        {REQUEST("0.4.0", "", "\"\""), KBS_UNAUTHENTICATED, "tee"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct kbs_rcar_request r;
        struct kbs_error err = KBS_ERROR_NONE;
        int ok = kbs_rcar_request_parse(text(rows[i].body), NULL, &r, &err) == 0;

        if (ok != (rows[i].category == KBS_OK) || (int)err.category != rows[i].category ||
            (rows[i].detail != NULL && strstr(err.detail, rows[i].detail) == NULL)) {
            fail_msg("row %zu: %s", i, err.detail);
        }
        if (ok) {
            assert_int_equal(r.version, KBS_PROTOCOL_0_4_0);
            assert_int_equal(r.tee, KBS_TEE_SAMPLE);
            assert_int_equal(r.hash, KBS_HASH_SHA384);
            assert_false(r.selected);
        }
    }
}

/* Every name of the protocol, and both spellings of those that have two, in both versions. */
static void tees(void **state)
{
    static const struct {
        const char *sent;
        const char *canonical;
    } rows[] = {
        {"az-snp-vtpm", "az-snp-vtpm"},
        {"azsnpvtpm", "az-snp-vtpm"},
        {"az-tdx-vtpm", "az-tdx-vtpm"},
        {"aztdxvtpm", "az-tdx-vtpm"},
        {"nvidia", "nvidia"},
        {"sgx", "sgx"},
        {"snp", "snp"},
        {"tdx", "tdx"},
        {"cca", "cca"},
        {"csv", "csv"},
        {"se", "se"},
        {"hygondcu", "hygondcu"},
        {"tpm", "tpm"},
        {"sample", "sample"},
        {"sampledevice", "sampledevice"},
    };
    static const char *const versions[] = {"0.2.0", "0.4.0"};

    (void)state;
    assert_int_equal(COUNT(rows), KBS_TEE_COUNT - 1 + 2);
    for (size_t i = 0; i < COUNT(rows) * COUNT(versions); i++) {
        const char *version = versions[i % COUNT(versions)];
        size_t row = i / COUNT(versions);
        struct kbs_rcar_request r;
        struct kbs_error err = KBS_ERROR_NONE;
        char body[256];

        (void)snprintf(body, sizeof(body), REQUEST("%s", "%s", "\"\""), version, rows[row].sent);
        if (kbs_rcar_request_parse(text(body), NULL, &r, &err) != 0) {
            fail_msg("%s: %s", body, err.detail);
        }
        assert_string_equal(kbs_tee_name(r.tee), rows[row].canonical);
        assert_string_equal(kbs_protocol_name(r.version), version);
    }
}

#define HASHES(list) "{\"supported-hash-algorithms\":" list "}"

static void hashes(void **state)
{
    static const struct {
        const char *tee;
        const char *extra;
        int category;
        enum kbs_hash hash;
        bool selected;
    } rows[] = {
        {"sample", "\"\"", KBS_OK, KBS_HASH_SHA384, false},
        {"sample", "{}", KBS_OK, KBS_HASH_SHA384, false},
        {"sample", HASHES("[]"), KBS_OK, KBS_HASH_SHA384, false},
        {"sample", HASHES("[\"sha256\",\"sha384\"]"), KBS_OK, KBS_HASH_SHA384, false},
        {"sample", HASHES("[\"SHA384\"]"), KBS_OK, KBS_HASH_SHA384, false},
        {"sample", HASHES("[\"sha256\",\"sha512\",\"sm3\"]"), KBS_OK, KBS_HASH_SHA512, true},
        {"sample", HASHES("[\"Sha256\"]"), KBS_OK, KBS_HASH_SHA256, true},
        {"sample", HASHES("[\"sm3\",\"sha256\",\"whirlpool\"]"), KBS_OK, KBS_HASH_SHA256, true},
        {"sample", HASHES("[\"whirlpool\",\"\",\"sha-384\"]"), KBS_UNAUTHENTICATED, 0, false},
        {"sample", HASHES("[\"none\"]"), KBS_UNAUTHENTICATED, 0, false},
        {"sample", HASHES("[\"sha3840000000000000000000000000000\"]"), KBS_UNAUTHENTICATED, 0,
         false},
        {"sample", HASHES("\"sha384\""), KBS_INPUT, 0, false},
        {"sample", HASHES("null"), KBS_INPUT, 0, false},
        {"sample", HASHES("{\"sha384\":1}"), KBS_INPUT, 0, false},
        {"sample", HASHES("[\"sha384\",384]"), KBS_INPUT, 0, false},
        {"sample", HASHES("[null]"), KBS_INPUT, 0, false},
        {"se", "\"\"", KBS_OK, KBS_HASH_SHA384, false},
        {"se", HASHES("[\"sha256\",\"sha384\",\"sha512\",\"sm3\"]"), KBS_OK, KBS_HASH_SHA512, true},
        {"se", HASHES("[\"SHA512\"]"), KBS_OK, KBS_HASH_SHA512, true},
        {"se", HASHES("[\"sha256\",\"sha384\"]"), KBS_UNAUTHENTICATED, 0, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct kbs_rcar_request r;
        struct kbs_error err = KBS_ERROR_NONE;
        char body[512];

        (void)snprintf(body, sizeof(body), REQUEST("0.4.0", "%s", "%s"), rows[i].tee,
                       rows[i].extra);
        (void)!kbs_rcar_request_parse(text(body), NULL, &r, &err);
        if ((int)err.category != rows[i].category ||
            (err.category == KBS_OK &&
             (r.hash != rows[i].hash || r.selected != rows[i].selected))) {
            fail_msg("row %zu: %s", i, err.detail);
        }
    }
}

/* SM3 where OpenSSL has it, and only if there is nothing else. */
static void hash_sm3(void **state)
{
    struct kbs_rcar_request r;
    struct kbs_error err = KBS_ERROR_NONE;
    int rc = kbs_rcar_request_parse(text(REQUEST("0.4.0", "sample", HASHES("[\"sm3\"]"))), NULL, &r,
                                    &err);

    (void)state;
    if (kbs_hash_available(KBS_HASH_SM3)) {
        assert_int_equal(rc, 0);
        assert_int_equal(r.hash, KBS_HASH_SM3);
        assert_true(r.selected);
    } else {
        assert_int_equal(rc, -1);
        assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    }
}

/* A list that is too long to be one of names of hashes. */
static void hashes_without_end(void **state)
{
    struct kbs_buf body = KBS_BUF(4096);
    struct kbs_rcar_request r;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    kbs_buf_put_str(&body, "{\"version\":\"0.4.0\",\"tee\":\"sample\",\"extra-params\":"
                           "{\"supported-hash-algorithms\":[\"sha384\"");
    for (size_t i = 0; i < KBS_LIMIT_HASHES_LISTED; i++) {
        kbs_buf_put_str(&body, ",\"sha384\"");
    }
    kbs_buf_put_str(&body, "]}}");
    assert_int_equal(kbs_rcar_request_parse(kbs_buf_span(&body), NULL, &r, &err), -1);
    assert_int_equal(err.category, KBS_INPUT);
    kbs_buf_deinit(&body);
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

        assert_int_equal(kbs_rcar_request_parse(text(rows[i]), NULL, &r, &err), -1);
        assert_null(strstr(err.detail, "s3cr3t"));
    }
}

static void challenge(void **state)
{
    struct kbs_buf out = KBS_BUF(256);

    (void)state;
    kbs_rcar_challenge_put(&out, text(NONCE), KBS_HASH_NONE);
    assert_string_equal(kbs_buf_cstr(&out), "{\"nonce\":\"" NONCE "\",\"extra-params\":\"\"}");
    kbs_buf_clear(&out);
    kbs_rcar_challenge_put(&out, text(NONCE), KBS_HASH_SHA512);
    assert_string_equal(kbs_buf_cstr(&out),
                        "{\"nonce\":\"" NONCE
                        "\",\"extra-params\":{\"selected-hash-algorithm\":\"sha512\"}}");
    kbs_buf_deinit(&out);
}

#define WITH_INIT(v) \
    "{\"init-data\":" v ",\"runtime-data\":" RUNTIME(JWK) ",\"tee-evidence\":" EVIDENCE "}"
#define WITH_EVIDENCE(v) "{\"runtime-data\":" RUNTIME(JWK) ",\"tee-evidence\":" v "}"
#define DEVICES(v) WITH_EVIDENCE("{\"primary_evidence\":{},\"additional_evidence\":\"" v "\"}")
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
    {DEVICES("{}"), KBS_OK, NULL},
    {DEVICES(" {\\n} "), KBS_OK, NULL},
    {DEVICES("{\\\"sampledevice\\\":{}}"), KBS_OK, NULL},
    {DEVICES("{\\\"sampledevice\\\":[],\\\"nvidia\\\":null}"), KBS_OK, NULL},
    {DEVICES(" "), KBS_INPUT, "additional_evidence"},
    {DEVICES("[]"), KBS_INPUT, "additional_evidence"},
    {DEVICES("null"), KBS_INPUT, "additional_evidence"},
    {DEVICES("{\\\"sampledevice\\\":{}"), KBS_INPUT, "additional_evidence"},
    {DEVICES("{\\\"sampledevice\\\":{}} x"), KBS_INPUT, "additional_evidence"},
    {DEVICES("{\\\"sampledevice\\\":{},\\\"sampledevice\\\":{}}"), KBS_INPUT, "duplicate"},
    {DEVICES("{\\\"azsnpvtpm\\\":{},\\\"az-snp-vtpm\\\":{}}"), KBS_INPUT, "az-snp-vtpm twice"},
    {DEVICES("{\\\"toaster\\\":{}}"), KBS_UNAUTHENTICATED, "unknown"},
    {DEVICES("{\\\"\\\":{}}"), KBS_UNAUTHENTICATED, "unknown"},
    {DEVICES("{\\\"sgx\\\":0,\\\"snp\\\":0,\\\"tdx\\\":0,\\\"cca\\\":0,\\\"csv\\\":0,"
             "\\\"se\\\":0,\\\"tpm\\\":0,\\\"nvidia\\\":0,\\\"hygondcu\\\":0}"),
     KBS_INPUT, "more than 8"},
    {ATTESTATION_0_2_0(JWK), KBS_INPUT, "of 0.2.0 in a session of 0.4.0"},
    {ATTESTATION(RSA("RSA-OAEP-256", N, "AQAB")), KBS_OK, NULL},
    {ATTESTATION(RSA("RSA-OAEP", N, "Aw")), KBS_OK, NULL},
    {ATTESTATION(RSA("RSA1_5", N, "AQAB")), KBS_OK,
     NULL}, /* whether it may be used is asked later */
    {ATTESTATION(EC("RSA1_5", "P-256", X, Y)), KBS_UNPROCESSABLE, "ECDH-ES+A256KW"},
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
    {ATTESTATION(EC("ES256", "P-256", X, Y)), KBS_OK, NULL}, /* signs requests */
    {ATTESTATION(EC("ES256", "P-256", Y, X)), KBS_UNPROCESSABLE, "point"},
    {ATTESTATION(EC("ES384", "P-256", X, Y)), KBS_UNPROCESSABLE, "curve"},
    {ATTESTATION(EC("ES256K", "P-256", X, Y)), KBS_UNPROCESSABLE, "ES256"},
    {ATTESTATION(EC("EdDSA", "P-256", X, Y)), KBS_UNPROCESSABLE, "ES256"},
    {ATTESTATION("{\"use\":\"enc\",\"kty\":\"EC\",\"alg\":\"ES256\",\"crv\":\"P-256\",\"x\":\"" X
                 "\",\"y\":\"" Y "\"}"),
     KBS_INPUT, "use"},
    {ATTESTATION(RSA("ES256", N, "AQAB")), KBS_UNPROCESSABLE, "RSA-OAEP-256"},
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
        int ok = kbs_rcar_attestation_parse(text(attestation_rows[i].body), KBS_PROTOCOL_0_4_0, &a,
                                            &err) == 0;

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

static void attestations_0_2_0(void **state)
{
    static const struct {
        const char *body;
        int category;
        const char *detail;
    } rows[] = {
        {ATTESTATION_0_2_0(JWK), KBS_OK, NULL},
        {"{\"more\":1,\"tee-evidence\":\"any\",\"tee-pubkey\":{\"zzz\":1," JWK_MEMBERS "}}", KBS_OK,
         NULL},
        {ATTESTATION_0_2_0(RSA("RSA-OAEP-256", N, "AQAB")), KBS_OK, NULL},
        {ATTESTATION_0_2_0(EC("ES256", "P-256", X, Y)), KBS_OK, NULL},
        {ATTESTATION_0_2_0(EC("ES512", "P-256", X, Y)), KBS_UNPROCESSABLE, "curve"},
        {ATTESTATION(JWK), KBS_INPUT, "of 0.4.0 in a session of 0.2.0"},
        {"{\"runtime-data\":null,\"tee-evidence\":{},\"tee-pubkey\":" JWK "}", KBS_INPUT,
         "of 0.4.0"},
        {"{\"tee-evidence\":{}}", KBS_INPUT, "tee-pubkey"},
        {"{\"tee-pubkey\":" JWK "}", KBS_INPUT, "tee-evidence"},
        {"{\"tee-pubkey\":" JWK ",\"tee-evidence\":null}", KBS_INPUT, "tee-evidence"},
        {"{\"tee-pubkey\":\"x\",\"tee-evidence\":{}}", KBS_INPUT, "tee-pubkey"},
        {"[]", KBS_INPUT, NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct kbs_rcar_attestation a;
        struct kbs_error err = KBS_ERROR_NONE;

        (void)!kbs_rcar_attestation_parse(text(rows[i].body), KBS_PROTOCOL_0_2_0, &a, &err);
        if ((int)err.category != rows[i].category ||
            (rows[i].detail != NULL && strstr(err.detail, rows[i].detail) == NULL)) {
            fail_msg("row %zu: %s", i, err.detail);
        }
        if (err.category == KBS_OK) {
            assert_int_equal(a.version, KBS_PROTOCOL_0_2_0);
            assert_int_equal(a.device_count, 0);
            assert_int_equal(a.additional.len, 0);
            assert_non_null(a.primary_evidence);
        }
        kbs_rcar_attestation_deinit(&a);
    }
}

/* The string is hashed as it was received, white space and order of members included. */
static void devices(void **state)
{
    static const char body[] =
        DEVICES(" {\\\"sampledevice\\\": {\\\"svn\\\":\\\"2\\\"},\\n\\\"aztdxvtpm\\\":[1]}");
    struct kbs_rcar_attestation a;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    assert_int_equal(kbs_rcar_attestation_parse(text(body), KBS_PROTOCOL_0_4_0, &a, &err), 0);
    assert_true(kbs_span_equal_str(a.additional,
                                   " {\"sampledevice\": {\"svn\":\"2\"},\n\"aztdxvtpm\":[1]}"));
    assert_ptr_equal(kbs_rcar_additional(&a), &a.additional);
    assert_int_equal(a.device_count, 2);
    assert_int_equal(a.devices[0].tee, KBS_TEE_SAMPLEDEVICE);
    assert_true(json_is_object(a.devices[0].evidence));
    assert_int_equal(a.devices[1].tee, KBS_TEE_AZ_TDX_VTPM);
    assert_true(json_is_array(a.devices[1].evidence));
    kbs_rcar_attestation_deinit(&a);
}

static void devices_too_long(void **state)
{
    struct kbs_buf body = KBS_BUF(KBS_LIMIT_DEVICE_EVIDENCE_BYTES + 4096);
    struct kbs_rcar_attestation a;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        kbs_buf_clear(&body);
        kbs_buf_put_str(&body, "{\"runtime-data\":" RUNTIME(
                                   JWK) ",\"tee-evidence\":"
                                        "{\"primary_evidence\":{},\"additional_evidence\":\"{}");
        for (size_t n = 2; n < KBS_LIMIT_DEVICE_EVIDENCE_BYTES + i; n++) {
            kbs_buf_put_u8(&body, ' ');
        }
        kbs_buf_put_str(&body, "\"}}");
        (void)!kbs_rcar_attestation_parse(kbs_buf_span(&body), KBS_PROTOCOL_0_4_0, &a, &err);
        assert_int_equal(err.category, i == 0 ? KBS_OK : KBS_TOO_LARGE);
        kbs_rcar_attestation_deinit(&a);
    }
    kbs_buf_deinit(&body);
}

/* COCONUT-SVSM's text: coordinates in full, the nonce's bytes. The digest is another program's. */
static void svsm_digest(void **state)
{
    static const char expected[] =
        "9845475699106479993894b310133b5324c2d3781ed767c9550971b698864668"
        "6270b6646f273be61e602c193d60546e0a99f3c7fe03fd976dbf359c03033c60";
    struct kbs_tee_key key = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = {.curve = KBS_CURVE_P521}};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_digest digest;
    char hex[129];

    (void)state;
    memset(key.ec.x + 1, 1, 65);
    memset(key.ec.y, 2, 66);
    key.ec.y[0] = 1;
    assert_int_equal(
        kbs_rcar_svsm_digest(&key, KBS_SPAN_LIT("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
                             &digest, &err),
        0);
    kbs_hex_cstr(kbs_digest_span(&digest), hex, sizeof(hex));
    assert_string_equal(hex, expected);
    assert_int_equal(kbs_rcar_svsm_digest(&key, KBS_SPAN_LIT("AAE"), &digest, &err), -1);
    assert_int_equal(err.category, KBS_INPUT);
    key.ec.curve = KBS_CURVE_P256;
    assert_int_equal(kbs_rcar_svsm_digest(&key, KBS_SPAN_LIT("AAEC"), &digest, &err), -1);
    assert_int_equal(err.category, KBS_UNPROCESSABLE);
    assert_int_equal(digest.len, 0);
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
        cmocka_unit_test(tees),
        cmocka_unit_test(hashes),
        cmocka_unit_test(hash_sm3),
        cmocka_unit_test(hashes_without_end),
        cmocka_unit_test(details_do_not_echo),
        cmocka_unit_test(challenge),
        cmocka_unit_test(attestations),
        cmocka_unit_test(attestations_0_2_0),
        cmocka_unit_test(devices),
        cmocka_unit_test(svsm_digest),
        cmocka_unit_test(devices_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
