/* What binds a request to its guest: the payload of a proof, and the envelope of a body. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "agree/agree.h"
#include "attest/proof.h"
#include "jose/read/jwe.h"
#include "jose/write/jose.h"
#include "seal/seal.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define B43 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define X "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY"
#define Y "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"
#define KEY "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" Y "\"}"
#define PROOF(b, k, n)                                       \
    "{\"b\":\"" b "\",\"k\":" k ",\"m\":\"POST\",\"n\":\"" n \
    "\",\"p\":\"/kbs/v0/key/a/b/c?version=1\"}"

static int proof_read(const char *text, struct kbs_proof *ret, json_t **root, struct kbs_error *err)
{
    *err = KBS_ERROR_NONE;
    return kbs_json_parse_object(kbs_span_str(text), "payload", root, err) == 0
               ? kbs_proof_get(*root, ret, err)
               : -1;
}

static void test_proof_round_trip(void **state)
{
    struct kbs_buf again = KBS_BUF(1024);
    struct kbs_error err;
    struct kbs_proof proof;
    KBS_AUTO_JSON root = NULL;

    (void)state;
    assert_int_equal(proof_read(PROOF(B43, KEY, B43), &proof, &root, &err), 0);
    assert_true(kbs_span_equal_str(proof.method, "POST"));
    assert_true(kbs_span_equal_str(proof.target, "/kbs/v0/key/a/b/c?version=1"));
    kbs_proof_put(&again, &proof);
    assert_string_equal(kbs_buf_cstr(&again), PROOF(B43, KEY, B43));
    kbs_buf_deinit(&again);
}

static void test_proof_refusals(void **state)
{
    static const char *const bad[] = {
        "{}",
        PROOF("AA", KEY, B43),
        PROOF(B43 "=", KEY, B43),
        PROOF(B43, KEY, B43 "A"),
        PROOF(B43, "\"key\"", B43),
        PROOF(B43, "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" Y "\",\"y\":\"" X "\"}", B43),
        PROOF(B43,
              "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" Y "\",\"d\":\"AA\"}",
              B43),
        PROOF(B43,
              "{\"alg\":\"ES256\",\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" Y
              "\"}",
              B43),
        "{\"b\":\"" B43 "\",\"k\":" KEY ",\"m\":1,\"n\":\"" B43 "\",\"p\":\"/\"}",
        "{\"b\":\"" B43 "\",\"k\":" KEY ",\"m\":\"GET\",\"n\":\"" B43 "\"}",
        "{\"b\":\"" B43 "\",\"k\":" KEY ",\"m\":\"GET\",\"n\":\"" B43 "\",\"p\":\"/\",\"q\":1}",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct kbs_error err;
        struct kbs_proof proof;
        KBS_AUTO_JSON root = NULL;

        if (proof_read(bad[i], &proof, &root, &err) == 0 ||
            (err.category != KBS_INPUT && err.category != KBS_UNPROCESSABLE)) {
            fail_msg("%zu: %s", i, bad[i]);
        }
    }
}

/* Nothing is wrapped to a key that signs, whatever its curve; and its curve is its alg's. */
static void test_signers_receive_nothing(void **state)
{
    static const enum kbs_curve curves[] = {KBS_CURVE_P256, KBS_CURVE_P384, KBS_CURVE_P521};

    (void)state;
    for (size_t i = 0; i < COUNT(curves); i++) {
        struct kbs_agree_key *key = NULL;
        struct kbs_tee_key tee = {.alg = kbs_tee_alg_of_curve(curves[i])};
        struct kbs_tee_key back;
        struct kbs_error err = KBS_ERROR_NONE;
        uint8_t bytes[KBS_TEE_KEY_MAX_BYTES];

        assert_int_equal(kbs_agree_key_generate(curves[i], &key, &err), 0);
        tee.ec = *kbs_agree_key_public(key);
        assert_int_equal(kbs_tee_key_check(&tee, &err), 0);
        assert_int_equal(
            kbs_tee_key_get(kbs_span(bytes, kbs_tee_key_put(&tee, bytes)), &back, &err), 0);
        assert_true(kbs_tee_key_equal(&tee, &back));
        assert_int_equal(kbs_tee_key_check_target(&tee, &err), -1);
        assert_int_equal(err.category, KBS_UNPROCESSABLE);
        tee.alg = kbs_tee_alg_of_curve(curves[(i + 1) % COUNT(curves)]);
        assert_int_equal(kbs_tee_key_check(&tee, &err), -1);
        tee.alg = KBS_TEE_ALG_ECDH_ES_A256KW;
        assert_int_equal(kbs_tee_key_check_target(&tee, &err), 0);
        assert_null(kbs_agree_key_free(key));
    }
}

/* As kbs-guest makes one; `purpose` of the road. */
static void envelope_put(struct kbs_buf *out, enum kbs_purpose purpose, struct kbs_span apv,
                         struct kbs_span plain)
{
    struct kbs_buf ciphertext = KBS_BUF(KBS_LIMIT_SECRET_VALUE_BYTES);
    struct kbs_buf header = KBS_BUF(4096);
    struct kbs_agree_key *to = NULL;
    struct kbs_sealed s = {.seal_version = 0};
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &to, &err), 0);
    assert_int_equal(
        kbs_seal_for(purpose, kbs_agree_key_public(to), apv, plain, &s, &ciphertext, &err), 0);
    kbs_seal_protected_put_for(&header, purpose, &s.epk, apv, kbs_agree_key_public(to));
    kbs_jose_jwe_put(out, &(struct kbs_jose_jwe){
                              .protected_text = kbs_buf_span(&header),
                              .encrypted_key = kbs_span(s.encrypted_key, sizeof(s.encrypted_key)),
                              .iv = kbs_span(s.iv, sizeof(s.iv)),
                              .ciphertext = s.ciphertext,
                              .tag = kbs_span(s.tag, sizeof(s.tag))});
    assert_null(kbs_agree_key_free(to));
    kbs_buf_deinit(&ciphertext);
    kbs_buf_deinit(&header);
}

static int envelope_read(enum kbs_purpose purpose, size_t apv_len, size_t len,
                         struct kbs_jose_jwe_in *in, struct kbs_error *err)
{
    static uint8_t zeros[KBS_LIMIT_SECRET_VALUE_BYTES];
    uint8_t apv[KBS_ENVELOPE_APV_BYTES + 1];
    struct kbs_buf text = KBS_BUF(2 * KBS_LIMIT_SECRET_VALUE_BYTES);
    KBS_AUTO_JSON root = NULL;
    int rc;

    kbs_envelope_apv(zeros, KBS_SPAN_LIT("POST"), KBS_SPAN_LIT("/kbs/v0/key/a/b/c"), apv);
    apv[KBS_ENVELOPE_APV_BYTES] = 0;
    envelope_put(&text, purpose, kbs_span(apv, apv_len), kbs_span(zeros, len));
    *err = KBS_ERROR_NONE;
    assert_int_equal(kbs_json_parse_object(kbs_buf_span(&text), "body", &root, err), 0);
    rc = kbs_jose_envelope_get(root, in, err);
    if (rc == 0) {
        assert_memory_equal(in->request, apv, sizeof(in->request));
    }
    kbs_buf_deinit(&text);
    return rc;
}

static void test_envelopes(void **state)
{
    static const struct {
        enum kbs_purpose purpose;
        size_t apv_len;
        size_t len;
        bool ok;
    } rows[] = {
        {KBS_PURPOSE_REQUEST, KBS_ENVELOPE_APV_BYTES, 1, true},
        {KBS_PURPOSE_REQUEST, KBS_ENVELOPE_APV_BYTES, KBS_LIMIT_ENVELOPE_BYTES, true},
        {KBS_PURPOSE_REQUEST, KBS_ENVELOPE_APV_BYTES, KBS_LIMIT_ENVELOPE_BYTES + 1, false},
        {KBS_PURPOSE_REQUEST, KBS_ENVELOPE_APV_BYTES - 1, 1, false},
        {KBS_PURPOSE_REQUEST, KBS_ENVELOPE_APV_BYTES + 1, 1, false},
        {KBS_PURPOSE_SEAL, KBS_ENVELOPE_APV_BYTES, 1, false}, /* of another road */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct kbs_jose_jwe_in in;
        struct kbs_error err;

        if ((envelope_read(rows[i].purpose, rows[i].apv_len, rows[i].len, &in, &err) == 0) !=
            rows[i].ok) {
            fail_msg("%zu: %s", i, err.detail);
        }
        if (rows[i].ok) {
            assert_int_equal(in.ciphertext.len, rows[i].len);
            kbs_jose_jwe_in_deinit(&in);
        } else {
            assert_int_equal(err.category, KBS_INPUT);
        }
    }
}

static int setup(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    return kbs_secret_heap_init(&err) < 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_proof_round_trip),
        cmocka_unit_test(test_proof_refusals),
        cmocka_unit_test(test_signers_receive_nothing),
        cmocka_unit_test(test_envelopes),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
