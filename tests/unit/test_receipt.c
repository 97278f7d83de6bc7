/*
 * Receipts as bytes: both forms say what was put in and nothing else, have one spelling, and hold for one
 * key and one answer. And what a judge says for one on the wire, which has one layout.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <openssl/ec.h>
#include <openssl/evp.h>

#include "base/digest.h"
#include "base/encoding.h"
#include "jose/write/jose.h"
#include "receipt/read/receipt.h"

/* ---- a signer in software ---- */

struct signer {
    EVP_PKEY *key;
    struct kbs_ec_public public;
    char kid[44];
};

static struct signer signer_new(void)
{
    struct signer s = {.key = EVP_EC_gen("P-256")};
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    size_t len = 0;

    assert_non_null(s.key);
    assert_int_equal(EVP_PKEY_get_octet_string_param(s.key, "pub", point, sizeof(point), &len), 1);
    assert_int_equal(kbs_ec_point_get(KBS_CURVE_P256, kbs_span(point, len), &s.public, &err), 0);
    kbs_jose_thumbprint(&s.public, s.kid);
    return s;
}

/* r || s */
static void signer_sign(const struct signer *s, struct kbs_span input, uint8_t out[KBS_ES256_BYTES])
{
    uint8_t der[128];
    size_t len = sizeof(der);
    const uint8_t *p = der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, s->key), 1);
    assert_int_equal(EVP_DigestSign(ctx, der, &len, input.p, input.len), 1);
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)len);
    assert_non_null(sig);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, 32), 32);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + 32, 32), 32);
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
}

/* ---- receipts ---- */

#define ANSWER KBS_SPAN_LIT("what was answered")

static struct kbs_receipt receipt_full(enum kbs_format format)
{
    struct kbs_receipt r = {
        .time_s = 1800000000,
        .op = KBS_RECEIPT_REWRAP,
        .kid = "repo/type/tag/v4294967295",
        .key_version = UINT32_MAX,
        .locality = KBS_LOCALITY_TRANSPORT,
        .format = format,
        .token_class = KBS_TOKEN_CLASS_HARDWARE_HOST_ASSISTED,
        .serial = "12\"34\\",
        .word = {.binding = KBS_BINDING_FULL, .report = {.len = 48}, .has_resource_policy = true}};

    memset(r.key_id, 1, sizeof(r.key_id));
    memset(r.card, 2, sizeof(r.card));
    memset(r.policy, 3, sizeof(r.policy));
    memset(r.tee_key, 4, sizeof(r.tee_key));
    memset(r.word.nonce, 5, sizeof(r.word.nonce));
    memset(r.word.report.p, 6, r.word.report.len);
    memset(r.word.resource_policy, 7, sizeof(r.word.resource_policy));
    kbs_sha256(ANSWER, r.answer);
    return r;
}

/* All that may be absent is. */
static struct kbs_receipt receipt_bare(enum kbs_format format)
{
    struct kbs_receipt r = receipt_full(format);

    r.serial[0] = '\0';
    r.word.report.len = 0;
    r.word.has_resource_policy = false;
    memset(r.word.resource_policy, 0, sizeof(r.word.resource_policy));
    memset(r.tee_key, 0, sizeof(r.tee_key));
    r.token_class = KBS_TOKEN_CLASS_UNKNOWN;
    return r;
}

static void text_make(struct kbs_buf *out, const struct signer *s, const struct kbs_receipt *r)
{
    enum kbs_receipt_form form = kbs_receipt_form_of(r->format);
    struct kbs_buf input = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES);
    uint8_t signature[KBS_ES256_BYTES];

    kbs_receipt_input_put(&input, form, s->kid, r);
    assert_false(input.failed);
    signer_sign(s, kbs_buf_span(&input), signature);
    kbs_receipt_text_put(out, form, s->kid, r, kbs_span(signature, sizeof(signature)));
    assert_false(out->failed);
    kbs_buf_deinit(&input);
}

static const enum kbs_format formats[] = {KBS_FORMAT_JOSE, KBS_FORMAT_COSE, KBS_FORMAT_JWE};

static void assert_same(const struct kbs_receipt *a, const struct kbs_receipt *b)
{
    struct kbs_buf one = KBS_BUF(KBS_RECEIPT_PAYLOAD_MAX_BYTES);
    struct kbs_buf other = KBS_BUF(KBS_RECEIPT_PAYLOAD_MAX_BYTES);

    kbs_receipt_cbor_put(&one, a);
    kbs_receipt_cbor_put(&other, b);
    assert_true(kbs_span_equal(kbs_buf_span(&one), kbs_buf_span(&other)));
    kbs_buf_deinit(&one);
    kbs_buf_deinit(&other);
}

static void test_round_trip(void **state)
{
    struct signer s = signer_new();
    struct signer other = signer_new();
    const struct kbs_ec_public keys[] = {other.public, s.public};

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        struct kbs_receipt r = i < 3 ? receipt_full(formats[i]) : receipt_bare(formats[i - 3]);
        struct kbs_buf text = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES);
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_receipt_in in;

        text_make(&text, &s, &r);
        if (kbs_receipt_open(kbs_buf_span(&text), keys, 2, &in, &err) != 0) {
            fail_msg("%zu: %s", i, err.detail);
        }
        assert_string_equal(in.signer, s.kid);
        assert_same(&in.said, &r);
        assert_int_equal(kbs_receipt_check_answer(&in.said, ANSWER, &err), 0);
        assert_int_equal(kbs_receipt_check_answer(&in.said, KBS_SPAN_LIT("another"), &err), -1);
        assert_int_equal(err.category, KBS_UNPROCESSABLE);
        assert_int_equal(kbs_receipt_open(kbs_buf_span(&text), &other.public, 1, &in, &err), -1);
        assert_int_equal(err.category, KBS_UNAUTHENTICATED);
        assert_int_equal(kbs_receipt_open(kbs_buf_span(&text), NULL, 0, &in, &err), -1);
        assert_int_equal(err.category, KBS_UNAUTHENTICATED);
        kbs_buf_deinit(&text);
    }
    EVP_PKEY_free(s.key);
    EVP_PKEY_free(other.key);
}

/* A letter more, less or other, anywhere. */
static void test_every_letter_counts(void **state)
{
    struct signer s = signer_new();

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct kbs_receipt r = receipt_full(formats[i]);
        struct kbs_buf text = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES);
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_receipt_in in;

        text_make(&text, &s, &r);
        for (size_t at = 0; at < text.len; at++) {
            uint8_t was = text.p[at];

            text.p[at] = was == 'Q' ? 'R' : 'Q';
            assert_int_equal(kbs_receipt_open(kbs_buf_span(&text), &s.public, 1, &in, &err), -1);
            text.p[at] = was;
            assert_int_equal(kbs_receipt_open(kbs_span(text.p, at), &s.public, 1, &in, &err), -1);
        }
        kbs_buf_put_u8(&text, 'A');
        assert_int_equal(kbs_receipt_open(kbs_buf_span(&text), &s.public, 1, &in, &err), -1);
        kbs_buf_deinit(&text);
    }
    EVP_PKEY_free(s.key);
}

/* Signed by the right key, and no receipt all the same. */
static void test_what_else_the_key_may_have_signed(void **state)
{
    struct signer s = signer_new();
    struct kbs_receipt r = receipt_full(KBS_FORMAT_JOSE);
    struct kbs_buf payload = KBS_BUF(KBS_RECEIPT_PAYLOAD_MAX_BYTES);
    const char *const types[] = {"JWT", "kbs-receipt+jwt", ""};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_receipt_in in;
    uint8_t signature[KBS_ES256_BYTES];

    (void)state;
    kbs_receipt_json_put(&payload, &r);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct kbs_buf text = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES);

        kbs_jose_jws_input_put(&text, "ES256", s.kid, types[i], kbs_buf_span(&payload));
        signer_sign(&s, kbs_buf_span(&text), signature);
        kbs_jose_jws_signature_put(&text, kbs_span(signature, sizeof(signature)));
        assert_int_equal(kbs_receipt_open(kbs_buf_span(&text), &s.public, 1, &in, &err), -1);
        assert_int_equal(err.category, KBS_INPUT);
        kbs_buf_deinit(&text);
    }
    /* the form goes with the format */
    r.format = KBS_FORMAT_COSE;
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES);
    struct kbs_buf input = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES);
    kbs_receipt_input_put(&input, KBS_RECEIPT_JWS, s.kid, &r);
    signer_sign(&s, kbs_buf_span(&input), signature);
    kbs_receipt_text_put(&text, KBS_RECEIPT_JWS, s.kid, &r, kbs_span(signature, sizeof(signature)));
    assert_int_equal(kbs_receipt_open(kbs_buf_span(&text), &s.public, 1, &in, &err), -1);
    assert_non_null(strstr(err.detail, "form"));
    kbs_buf_deinit(&text);
    kbs_buf_deinit(&input);
    kbs_buf_deinit(&payload);
    EVP_PKEY_free(s.key);
}

/* ---- payloads ---- */

static void replace(struct kbs_buf *out, struct kbs_span in, const char *from, const char *to)
{
    const uint8_t *found = memmem(in.p, in.len, from, strlen(from));

    assert_non_null(found);
    kbs_buf_put(out, in.p, (size_t)(found - in.p));
    kbs_buf_put_str(out, to);
    kbs_buf_put_span(out, kbs_span_skip(in, (size_t)(found - in.p) + strlen(from)));
}

static void test_json_has_one_spelling(void **state)
{
    static const char *const changes[][2] = {
        {"{\"v\":1,", "{\"v\":2,"},
        {"{\"v\":1,", "{ \"v\":1,"},
        {"{\"v\":1,", "{\"v\":1,\"v\":1,"},
        {"{\"v\":1,", "{\"more\":1,\"v\":1,"},
        {"\"v\":1,\"time\":1800000000", "\"time\":1800000000,\"v\":1"},
        {"\"time\":1800000000", "\"time\":-1"},
        {"\"time\":1800000000", "\"time\":1.8e9"},
        {"\"op\":\"rewrap-nek\"", "\"op\":\"none\""},
        {"\"op\":\"rewrap-nek\"", "\"op\":3"},
        {"repo/type/tag/v4294967295", "repo/type/tag/v1"},
        {"repo/type/tag/v4294967295", "repo/type/tag"},
        {"repo/type/tag", "repo\\/type/tag"},
        {"\"key_version\":4294967295", "\"key_version\":4294967296"},
        {"\"transport\"", "\"none\""},
        {"\"transport\"", "\"elsewhere\""},
        {"\"jose\"", "\"jwt\""},
        {"\"hardware-host-assisted\"", "\"soft\""},
        {"\"full\"", "\"none\""},
        {"\"report_data\":\"", "\"report_data\":\"A"},
        {"\"judge\":{", "\"judge\":{\"x\":1,"},
        {"\"judge\":{", "\"word\":{"},
        {"\"}}", "\"}} "},
        {"\"}}", "\"}"},
    };
    struct kbs_receipt r = receipt_full(KBS_FORMAT_JOSE);
    struct kbs_buf good = KBS_BUF(KBS_RECEIPT_PAYLOAD_MAX_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_receipt read;

    (void)state;
    kbs_receipt_json_put(&good, &r);
    assert_int_equal(kbs_receipt_json_get(kbs_buf_span(&good), &read, &err), 0);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct kbs_buf bad = KBS_BUF(KBS_RECEIPT_PAYLOAD_MAX_BYTES);

        replace(&bad, kbs_buf_span(&good), changes[i][0], changes[i][1]);
        if (kbs_receipt_json_get(kbs_buf_span(&bad), &read, &err) == 0) {
            fail_msg("%s for %s", changes[i][1], changes[i][0]);
        }
        assert_int_equal(err.category, KBS_INPUT);
        kbs_buf_deinit(&bad);
    }
    kbs_buf_deinit(&good);
}

/* A byte more, less or other is another receipt, or none. */
static void test_cbor_has_one_spelling(void **state)
{
    struct kbs_receipt r = receipt_full(KBS_FORMAT_COSE);
    struct kbs_buf good = KBS_BUF(KBS_RECEIPT_PAYLOAD_MAX_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_receipt read;

    (void)state;
    kbs_receipt_cbor_put(&good, &r);
    assert_int_equal(kbs_receipt_cbor_get(kbs_buf_span(&good), &read, &err), 0);
    assert_same(&read, &r);
    for (size_t at = 0; at < good.len; at++) {
        for (unsigned int bit = 0; bit < 8; bit++) {
            good.p[at] ^= (uint8_t)(1u << bit);
            if (kbs_receipt_cbor_get(kbs_buf_span(&good), &read, &err) == 0) {
                struct kbs_buf again = KBS_BUF(KBS_RECEIPT_PAYLOAD_MAX_BYTES);

                kbs_receipt_cbor_put(&again, &read);
                assert_true(kbs_span_equal(kbs_buf_span(&again), kbs_buf_span(&good)));
                kbs_buf_deinit(&again);
            }
            good.p[at] ^= (uint8_t)(1u << bit);
        }
        assert_int_equal(kbs_receipt_cbor_get(kbs_span(good.p, at), &read, &err), -1);
    }
    kbs_buf_put_u8(&good, 0xf6);
    assert_int_equal(kbs_receipt_cbor_get(kbs_buf_span(&good), &read, &err), -1);
    kbs_buf_deinit(&good);
}

/* The longest there can be goes into a header. */
static void test_the_longest(void **state)
{
    struct signer s = signer_new();

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct kbs_receipt r = receipt_full(formats[i]);
        struct kbs_buf text = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES);

        memset(r.kid, 'k', sizeof(r.kid) - 1);
        memset(r.serial, 0x01, sizeof(r.serial) - 1); /* six letters each in JSON */
        r.word.report.len = KBS_DIGEST_MAX_BYTES;
        r.time_s = INT64_MAX;
        text_make(&text, &s, &r);
        kbs_buf_deinit(&text);
    }
    EVP_PKEY_free(s.key);
}

/* ---- the judge's word ---- */

static void test_word(void **state)
{
    const struct kbs_receipt r = receipt_full(KBS_FORMAT_JOSE);
    uint8_t bytes[KBS_RECEIPT_WORD_BYTES + 1] = {0};
    struct kbs_receipt_word read;
    struct kbs_error err = KBS_ERROR_NONE;
    const struct {
        size_t at;
        uint8_t value;
    } bad[] = {{0, 0},  {0, 2}, {1, 0}, {1, KBS_BINDING_COUNT},         {2, 65},
               {2, 47}, {3, 0}, {3, 3}, {KBS_RECEIPT_WORD_BYTES - 1, 1}};

    (void)state;
    kbs_receipt_word_put(&r.word, bytes);
    assert_int_equal(kbs_receipt_word_get(kbs_span(bytes, KBS_RECEIPT_WORD_BYTES), &read, &err), 0);
    assert_memory_equal(read.resource_policy, r.word.resource_policy, sizeof(read.resource_policy));
    assert_int_equal(read.report.len, 48);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t was = bytes[bad[i].at];

        bytes[bad[i].at] = bad[i].value;
        assert_int_equal(kbs_receipt_word_get(kbs_span(bytes, KBS_RECEIPT_WORD_BYTES), &read, &err),
                         -1);
        assert_int_equal(err.category, KBS_INPUT);
        bytes[bad[i].at] = was;
    }
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        assert_int_equal(kbs_receipt_word_get(kbs_span(bytes, len), &read, &err),
                         len == KBS_RECEIPT_WORD_BYTES ? 0 : -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_letter_counts),
        cmocka_unit_test(test_what_else_the_key_may_have_signed),
        cmocka_unit_test(test_json_has_one_spelling),
        cmocka_unit_test(test_cbor_has_one_spelling),
        cmocka_unit_test(test_the_longest),
        cmocka_unit_test(test_word),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
