/* src/jose/write: every text byte for byte, because guests hash, sign and re-serialise them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/encoding.h"
#include "jose/write/jose.h"

/* The key of RFC 9449 section 4.2, whose RFC 7638 thumbprint is published there. */
#define X "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs"
#define Y "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"
#define JWK "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" Y "\"}"

static struct kbs_ec_public key_p256(void)
{
    struct kbs_ec_public k = {.curve = KBS_CURVE_P256};

    assert_int_equal(kbs_base64url_get_exact(k.x, 32, kbs_span_str(X)), 0);
    assert_int_equal(kbs_base64url_get_exact(k.y, 32, kbs_span_str(Y)), 0);
    return k;
}

static void assert_text(struct kbs_buf *got, const char *want)
{
    assert_false(got->failed);
    assert_string_equal(kbs_buf_cstr(got), want);
    kbs_buf_deinit(got);
}

static void jwk(void **state)
{
    struct kbs_ec_public k = key_p256();
    struct kbs_buf out = KBS_BUF(1024);

    (void)state;
    kbs_jose_jwk_put(&out, &k);
    assert_text(&out, JWK);
    kbs_jose_tee_jwk_put(&out, &(struct kbs_tee_key){.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = k});
    assert_text(&out, "{\"alg\":\"ECDH-ES+A256KW\",\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X
                      "\",\"y\":\"" Y "\"}");
    kbs_jose_sig_jwk_put(&out, &k, "ES256", "k\"1");
    assert_text(&out, "{\"alg\":\"ES256\",\"crv\":\"P-256\",\"kid\":\"k\\\"1\",\"kty\":\"EC\","
                      "\"use\":\"sig\",\"x\":\"" X "\",\"y\":\"" Y "\"}");
}

/* The key of RFC 7638 section 3.1, whose thumbprint is published there. */
#define N                                                                                          \
    "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECP" \
    "ebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY" \
    "368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0f" \
    "M4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"

static struct kbs_tee_key key_rsa(enum kbs_tee_alg alg)
{
    struct kbs_tee_key k = {.alg = alg, .rsa = {.n_len = 256, .e = {1, 0, 1}, .e_len = 3}};

    assert_int_equal(kbs_base64url_get_exact(k.rsa.n, 256, kbs_span_str(N)), 0);
    return k;
}

static void tee_keys(void **state)
{
    struct kbs_tee_key rsa = key_rsa(KBS_TEE_ALG_RSA_OAEP_256);
    struct kbs_tee_key ec = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = key_p256()};
    struct kbs_tee_key largest = {.alg = KBS_TEE_ALG_RSA_OAEP, .rsa = {.n_len = 512, .e_len = 8}};
    struct kbs_buf out = KBS_BUF(2048);
    char text[44];

    (void)state;
    kbs_jose_tee_jwk_put(&out, &rsa);
    assert_text(&out, "{\"alg\":\"RSA-OAEP-256\",\"e\":\"AQAB\",\"kty\":\"RSA\",\"n\":\"" N "\"}");
    rsa.alg = KBS_TEE_ALG_RSA_OAEP;
    kbs_jose_tee_jwk_put(&out, &rsa);
    assert_text(&out, "{\"alg\":\"RSA-OAEP\",\"e\":\"AQAB\",\"kty\":\"RSA\",\"n\":\"" N "\"}");
    kbs_jose_tee_thumbprint(&rsa, text);
    assert_string_equal(text, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    kbs_jose_tee_thumbprint(&ec, text);
    assert_string_equal(text, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    kbs_jose_tee_thumbprint(&largest, text);
    assert_int_equal(strlen(text), 43);
}

static void rsa_recipient(void **state)
{
    struct kbs_buf out = KBS_BUF(1024);

    (void)state;
    kbs_jose_rsa_recipient_put(&out, KBS_TEE_ALG_RSA_OAEP_256, KBS_SPAN_LIT("a/b/c/v1"),
                               KBS_SPAN_LIT("\x01\x02\x03"));
    assert_text(&out, "{\"header\":{\"alg\":\"RSA-OAEP-256\",\"kid\":\"a/b/c/v1\"},"
                      "\"encrypted_key\":\"AQID\"}");
}

static void assert_protected(struct kbs_buf *got, const char *want)
{
    struct kbs_buf text = KBS_BUF(1024);

    assert_int_equal(kbs_base64url_get(&text, kbs_buf_span(got)), 0);
    assert_text(&text, want);
    kbs_buf_deinit(got);
}

static void jwe(void **state)
{
    struct kbs_ec_public k = key_p256();
    struct kbs_buf out = KBS_BUF(1024);

    (void)state;
    kbs_jose_jwe_protected_put(&out, KBS_TEE_ALG_ECDH_ES_A256KW, &k);
    assert_protected(&out, "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"epk\":" JWK "}");
    kbs_jose_jwe_protected_put(&out, KBS_TEE_ALG_RSA_OAEP_256, NULL);
    assert_protected(&out, "{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A256GCM\"}");
    kbs_jose_seal_protected_put(&out, &k, KBS_SPAN_LIT("a/b/c/v1"), "thumb");
    assert_protected(&out,
                     "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"apu\":\"a2JzLXNlYWwtdjE\","
                     "\"apv\":\"YS9iL2MvdjE\",\"epk\":" JWK ",\"kid\":\"thumb\"}");
    kbs_jose_jwe_put(&out, &(struct kbs_jose_jwe){.protected_text = KBS_SPAN_LIT("e30"),
                                                  .encrypted_key = KBS_SPAN_LIT("\x01"),
                                                  .iv = KBS_SPAN_LIT("\x02"),
                                                  .ciphertext = KBS_SPAN_LIT("\x03"),
                                                  .tag = KBS_SPAN_LIT("\x04")});
    assert_text(&out, "{\"protected\":\"e30\",\"encrypted_key\":\"AQ\",\"iv\":\"Ag\","
                      "\"ciphertext\":\"Aw\",\"tag\":\"BA\"}");
    kbs_buf_init(&out, 20);
    kbs_jose_jwe_protected_put(&out, KBS_TEE_ALG_ECDH_ES_A256KW, &k);
    assert_true(out.failed);
    kbs_buf_deinit(&out);
}

/* Coordinates keep their leading zeros: 88 characters on P-521, whatever their value. */
static void jwk_pads_coordinates(void **state)
{
    struct kbs_ec_public k = {.curve = KBS_CURVE_P521};
    struct kbs_buf out = KBS_BUF(1024);
    struct kbs_buf want = KBS_BUF(1024);

    (void)state;
    k.x[65] = 1;
    k.y[65] = 2;
    kbs_jose_jwk_put(&out, &k);
    kbs_buf_put_str(&want, "{\"crv\":\"P-521\",\"kty\":\"EC\",\"x\":\"");
    for (int i = 0; i < 87; i++) {
        kbs_buf_put_u8(&want, 'A');
    }
    kbs_buf_put_str(&want, "B\",\"y\":\"");
    for (int i = 0; i < 87; i++) {
        kbs_buf_put_u8(&want, 'A');
    }
    kbs_buf_put_str(&want, "C\"}");
    assert_text(&out, kbs_buf_cstr(&want));
    kbs_buf_deinit(&want);
}

static void thumbprint(void **state)
{
    struct kbs_ec_public k = key_p256();
    struct kbs_ec_public wide = {.curve = KBS_CURVE_P521};
    char text[44];

    (void)state;
    kbs_jose_thumbprint(&k, text);
    assert_string_equal(text, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    kbs_jose_thumbprint(&wide, text); /* the longest JWK fits */
    assert_int_equal(strlen(text), 43);
}

static void other_info(void **state)
{
    struct kbs_buf out = KBS_BUF(1024);
    struct kbs_buf want = KBS_BUF(1024);

    (void)state;
    kbs_jose_other_info_put(&out, KBS_SPAN_EMPTY, KBS_SPAN_EMPTY);
    assert_int_equal(kbs_hex_get(&want, kbs_span_str("0000000e454344482d45532b413235364b57"
                                                     "000000000000000000000100")),
                     0);
    assert_true(kbs_span_equal(kbs_buf_span(&out), kbs_buf_span(&want)));
    kbs_buf_clear(&out);
    kbs_buf_clear(&want);
    kbs_jose_other_info_put(&out, KBS_SPAN_LIT("Alice"), KBS_SPAN_LIT("Bob"));
    assert_int_equal(kbs_hex_get(&want, kbs_span_str("0000000e454344482d45532b413235364b57"
                                                     "00000005416c69636500000003426f62"
                                                     "00000100")),
                     0);
    assert_true(kbs_span_equal(kbs_buf_span(&out), kbs_buf_span(&want)));
    kbs_buf_deinit(&want);
    kbs_buf_deinit(&out);
}

static void recipient(void **state)
{
    struct kbs_ec_public k = key_p256();
    uint8_t bytes[40];
    struct kbs_jose_recipient r = {.epk = &k,
                                   .kid = KBS_SPAN_LIT("default/nek/vm1/v3"),
                                   .apu = KBS_SPAN_LIT("default/nek/vm1/v3"),
                                   .apv = kbs_span(bytes, 32),
                                   .encrypted_key = kbs_span(bytes, 40)};
    struct kbs_buf out = KBS_BUF(4096);

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)i;
    }
    kbs_jose_recipient_put(&out, &r);
    assert_text(&out,
                "{\"header\":{\"alg\":\"ECDH-ES+A256KW\",\"apu\":\"ZGVmYXVsdC9uZWsvdm0xL3Yz\","
                "\"apv\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\",\"epk\":" JWK
                ",\"kid\":\"default/nek/vm1/v3\"},\"encrypted_key\":"
                "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJw\"}");
    r.apu = KBS_SPAN_EMPTY;
    r.apv = KBS_SPAN_EMPTY;
    kbs_jose_recipient_put(&out, &r);
    assert_text(&out, "{\"header\":{\"alg\":\"ECDH-ES+A256KW\",\"epk\":" JWK
                      ",\"kid\":\"default/nek/vm1/v3\"},\"encrypted_key\":"
                      "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJw\"}");
}

static void jws(void **state)
{
    struct kbs_buf out = KBS_BUF(1024);

    (void)state;
    kbs_jose_jws_input_put(&out, "ES256", "a\"b", "JWT", KBS_SPAN_LIT("{\"iss\":\"kbs\"}"));
    assert_string_equal(kbs_buf_cstr(&out), "eyJhbGciOiJFUzI1NiIsImtpZCI6ImFcImIiLCJ0eXAiOiJKV1QifQ"
                                            ".eyJpc3MiOiJrYnMifQ");
    kbs_jose_jws_signature_put(&out, KBS_SPAN_LIT("\x01\x02\x03"));
    assert_text(&out, "eyJhbGciOiJFUzI1NiIsImtpZCI6ImFcImIiLCJ0eXAiOiJKV1QifQ"
                      ".eyJpc3MiOiJrYnMifQ.AQID");
}

/* A buffer that is too small fails as a whole, at every size short of enough. */
static void small_buffers_fail(void **state)
{
    struct kbs_ec_public k = key_p256();
    struct kbs_jose_recipient r = {.epk = &k,
                                   .kid = KBS_SPAN_LIT("a/b/c/v1"),
                                   .encrypted_key = KBS_SPAN_LIT("123456781234567812345678")};
    struct kbs_buf out = KBS_BUF(4096);
    size_t need;

    (void)state;
    kbs_jose_recipient_put(&out, &r);
    need = out.len;
    kbs_buf_deinit(&out);
    for (size_t max = 0; max <= need; max++) {
        kbs_buf_init(&out, max);
        kbs_jose_recipient_put(&out, &r);
        assert_int_equal(out.failed, max < need);
        kbs_buf_deinit(&out);
    }
    kbs_buf_init(&out, 20);
    kbs_jose_jws_input_put(&out, "ES256", "kid", "JWT", KBS_SPAN_LIT("{}"));
    assert_true(out.failed);
    kbs_buf_deinit(&out);
}

static void oversized_jws_header_fails(void **state)
{
    struct kbs_buf out = KBS_BUF(65536);
    char kid[4096];

    (void)state;
    memset(kid, 'k', sizeof(kid));
    kid[sizeof(kid) - 1] = '\0';
    kbs_jose_jws_input_put(&out, "ES256", kid, "JWT", KBS_SPAN_LIT("{}"));
    assert_true(out.failed);
    kbs_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jwk),
        cmocka_unit_test(jwk_pads_coordinates),
        cmocka_unit_test(thumbprint),
        cmocka_unit_test(other_info),
        cmocka_unit_test(recipient),
        cmocka_unit_test(tee_keys),
        cmocka_unit_test(rsa_recipient),
        cmocka_unit_test(jwe),
        cmocka_unit_test(jws),
        cmocka_unit_test(small_buffers_fail),
        cmocka_unit_test(oversized_jws_header_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
