/*
 * Unit tests of sealed secrets and of the JWEs they travel in: what is sealed here opens with the
 * seal key's private half by RFC 7518's own steps, the reader takes exactly what the writer prints,
 * and the form at rest has one encoding. Detector rows prove that the text without the fault
 * passes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/encoding.h"
#include "jose/read/jose.h"
#include "jose/read/jwe.h"
#include "jose/write/jose.h"
#include "seal/seal.h"

#define KID "shop/disk/data/v7"
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct kbs_agree_key *seal_key;
static struct kbs_error err;

static int group_setup(void **state)
{
    (void)state;
    return kbs_secret_heap_init(&err) < 0 ||
                   kbs_agree_key_generate(KBS_CURVE_P256, &seal_key, &err) < 0
               ? -1
               : 0;
}

static int group_teardown(void **state)
{
    (void)state;
    seal_key = kbs_agree_key_free(seal_key);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    err = KBS_ERROR_NONE;
    return 0;
}

static void must(int rc)
{
    if (rc != 0) {
        fail_msg("%s", err.detail);
    }
}

/* What the token does, in software. */
static struct kbs_secret *open_here(const struct kbs_sealed *s, const char *kid)
{
    struct kbs_buf info = KBS_BUF(512);
    struct kbs_buf aad = KBS_BUF(2048);
    struct kbs_secret *plain = NULL;
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;
    KBS_AUTO_SECRET cek = NULL;

    kbs_jose_other_info_put(&info, KBS_SPAN_LIT("kbs-seal-v1"), kbs_span_str(kid));
    kbs_seal_protected_put(&aad, &s->epk, kbs_span_str(kid), kbs_agree_key_public(seal_key));
    must(kbs_agree_ecdh(seal_key, &s->epk, &z, &err));
    must(kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), &kek, &err));
    must(kbs_agree_unwrap(kbs_secret_span(kek),
                          kbs_span(s->encrypted_key, sizeof(s->encrypted_key)), &cek, &err));
    must(kbs_secret_new(s->ciphertext.len, &plain, &err));
    must(kbs_agree_gcm_open(kbs_secret_span(cek), s->iv, kbs_buf_span(&aad), s->ciphertext, s->tag,
                            kbs_secret_bytes(plain), &err));
    kbs_buf_deinit(&info);
    kbs_buf_deinit(&aad);
    return plain;
}

/* The JWE that an administrator's client sends. */
static void print(struct kbs_buf *out, const struct kbs_sealed *s, const char *kid)
{
    struct kbs_buf header = KBS_BUF(2048);
    struct kbs_jose_jwe jwe;

    kbs_seal_protected_put(&header, &s->epk, kbs_span_str(kid), kbs_agree_key_public(seal_key));
    jwe = (struct kbs_jose_jwe){
        .protected_text = kbs_buf_span(&header),
        .encrypted_key = kbs_span(s->encrypted_key, sizeof(s->encrypted_key)),
        .iv = kbs_span(s->iv, sizeof(s->iv)),
        .ciphertext = s->ciphertext,
        .tag = kbs_span(s->tag, sizeof(s->tag)),
    };
    kbs_jose_jwe_put(out, &jwe);
    kbs_buf_deinit(&header);
}

static void what_is_sealed_is_read_and_opens(void **state)
{
    static const size_t sizes[] = {1, 4096, KBS_LIMIT_SECRET_VALUE_BYTES};
    static uint8_t plain[KBS_LIMIT_SECRET_VALUE_BYTES + 1];

    (void)state;
    memset(plain, 0x5a, sizeof(plain));
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct kbs_buf ciphertext = KBS_BUF(KBS_LIMIT_SECRET_VALUE_BYTES);
        struct kbs_buf text = KBS_BUF(2 * KBS_LIMIT_SECRET_VALUE_BYTES);
        struct kbs_jose_jwe_in in;
        struct kbs_sealed s = {.seal_version = 1};
        KBS_AUTO_SECRET opened = NULL;
        KBS_AUTO_JSON v = NULL;
        char thumbprint[44];

        must(kbs_seal(kbs_agree_key_public(seal_key), KBS_SPAN_LIT(KID), kbs_span(plain, sizes[i]),
                      &s, &ciphertext, &err));
        opened = open_here(&s, KID);
        assert_true(kbs_secret_equal(kbs_secret_span(opened), kbs_span(plain, sizes[i])));

        print(&text, &s, KID);
        must(kbs_buf_check(&text, "the JWE", &err));
        must(kbs_json_parse_object(kbs_buf_span(&text), "JWE", &v, &err));
        must(kbs_jose_sealed_get(v, &in, &err));
        kbs_jose_thumbprint(kbs_agree_key_public(seal_key), thumbprint);
        assert_string_equal(in.kid, thumbprint);
        assert_string_equal(in.apv, KID);
        assert_true(kbs_ec_public_equal(&in.epk, &s.epk));
        assert_true(kbs_span_equal(kbs_buf_span(&in.encrypted_key),
                                   kbs_span(s.encrypted_key, sizeof(s.encrypted_key))));
        assert_memory_equal(in.iv, s.iv, sizeof(in.iv));
        assert_memory_equal(in.tag, s.tag, sizeof(in.tag));
        assert_true(kbs_span_equal(kbs_buf_span(&in.ciphertext), s.ciphertext));
        kbs_jose_jwe_in_deinit(&in);
        kbs_buf_deinit(&text);
        kbs_buf_deinit(&ciphertext);
    }
}

static void nothing_and_too_much_are_not_sealed(void **state)
{
    static uint8_t plain[KBS_LIMIT_SECRET_VALUE_BYTES + 1];
    struct kbs_buf ciphertext = KBS_BUF(sizeof(plain));
    struct kbs_sealed s = {.seal_version = 1};

    (void)state;
    assert_int_equal(kbs_seal(kbs_agree_key_public(seal_key), KBS_SPAN_LIT(KID), KBS_SPAN_EMPTY, &s,
                              &ciphertext, &err),
                     -1);
    assert_int_equal(err.category, KBS_INPUT);
    err = KBS_ERROR_NONE;
    assert_int_equal(kbs_seal(kbs_agree_key_public(seal_key), KBS_SPAN_LIT(KID),
                              kbs_span(plain, sizeof(plain)), &s, &ciphertext, &err),
                     -1);
    assert_int_equal(err.category, KBS_INPUT);
    kbs_buf_deinit(&ciphertext);
}

/* ---- at rest ---- */

static void at_rest_has_one_layout(void **state)
{
    struct kbs_buf ciphertext = KBS_BUF(64);
    struct kbs_buf bytes = KBS_BUF(KBS_SEALED_MAX_BYTES);
    struct kbs_buf again = KBS_BUF(KBS_SEALED_MAX_BYTES);
    struct kbs_sealed s = {.seal_version = 0x01020304};
    struct kbs_sealed back;

    (void)state;
    must(kbs_seal(kbs_agree_key_public(seal_key), KBS_SPAN_LIT(KID), KBS_SPAN_LIT("eleven char"),
                  &s, &ciphertext, &err));
    kbs_sealed_put(&bytes, &s);
    assert_int_equal(bytes.len, 145 + 11);
    assert_memory_equal(bytes.p, "KBSS\x01\0\0\0\x01\x02\x03\x04\x04", 13);
    assert_memory_equal(bytes.p + 77, s.encrypted_key, sizeof(s.encrypted_key));
    assert_memory_equal(bytes.p + 117, s.iv, sizeof(s.iv));
    assert_memory_equal(bytes.p + 129, s.tag, sizeof(s.tag));
    assert_memory_equal(bytes.p + 145, s.ciphertext.p, s.ciphertext.len);

    must(kbs_sealed_get(kbs_buf_span(&bytes), &back, &err));
    assert_int_equal(back.seal_version, 0x01020304);
    kbs_sealed_put(&again, &back);
    assert_true(kbs_span_equal(kbs_buf_span(&bytes), kbs_buf_span(&again)));

    for (size_t len = 0; len <= 145; len++) { /* cut short: at 145 there is no ciphertext */
        err = KBS_ERROR_NONE;
        assert_int_equal(kbs_sealed_get(kbs_span(bytes.p, len), &back, &err), -1);
        assert_int_equal(err.category, KBS_INPUT);
    }
    for (size_t i = 0; i < 13; i++) { /* every byte of the frame */
        uint8_t byte = bytes.p[i];

        err = KBS_ERROR_NONE;
        bytes.p[i] = (uint8_t)(i >= 8 && i < 12 ? byte : byte ^ 1u);
        assert_int_equal(kbs_sealed_get(kbs_buf_span(&bytes), &back, &err) == 0, i >= 8 && i < 12);
        bytes.p[i] = byte;
    }
    memset(bytes.p + 8, 0, 4);
    err = KBS_ERROR_NONE;
    assert_int_equal(kbs_sealed_get(kbs_buf_span(&bytes), &back, &err), -1); /* version 0 */
    kbs_buf_deinit(&ciphertext);
    kbs_buf_deinit(&bytes);
    kbs_buf_deinit(&again);
}

/* ---- the reader ---- */

#define X "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"
#define Y "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
#define EPK "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" Y "\"}"
#define THUMB "0123456789012345678901234567890123456789012"
#define APU "a2JzLXNlYWwtdjE"                                        /* kbs-seal-v1 */
#define APV "YS9iL2MvdjE"                                            /* a/b/c/v1 */
#define CEK "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" /* 40 bytes */
#define IV "AAAAAAAAAAAAAAAA"
#define TAG "AAAAAAAAAAAAAAAAAAAAAA"
#define GOOD                                                                                   \
    "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"apu\":\"" APU "\",\"apv\":\"" APV "\"," \
    "\"epk\":" EPK ",\"kid\":\"" THUMB "\"}"
#define REST \
    "\"encrypted_key\":\"" CEK "\",\"iv\":\"" IV "\",\"ciphertext\":\"AA\",\"tag\":\"" TAG "\""

/* {"protected":b64url(header), rest} through a reader. */
static int read_jwe(const char *header, const char *rest, enum kbs_tee_alg alg)
{
    struct kbs_buf text = KBS_BUF(8192);
    struct kbs_jose_jwe_in in;
    KBS_AUTO_JSON v = NULL;
    int rc;

    err = KBS_ERROR_NONE;
    kbs_buf_put_str(&text, "{\"protected\":\"");
    kbs_base64url_put(&text, kbs_span_str(header));
    kbs_buf_printf(&text, "\",%s}", rest);
    must(kbs_json_parse_object(kbs_buf_span(&text), "JWE", &v, &err));
    rc = alg == KBS_TEE_ALG_NONE ? kbs_jose_sealed_get(v, &in, &err)
                                 : kbs_jose_jwe_get(v, alg, &in, &err);
    if (rc == 0) {
        kbs_jose_jwe_in_deinit(&in);
    }
    kbs_buf_deinit(&text);
    return rc;
}

static void a_sealed_header_is_the_template(void **state)
{
    static const char *const bad[] = {
        "{}",
        "[]",
        "{\"alg\":\"dir\",\"enc\":\"A256GCM\",\"apu\":\"" APU "\",\"apv\":\"" APV "\",\"epk\":" EPK
        ",\"kid\":\"" THUMB "\"}",
        "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A128GCM\",\"apu\":\"" APU "\",\"apv\":\"" APV
        "\",\"epk\":" EPK ",\"kid\":\"" THUMB "\"}",
        /* another order, white space, another purpose */
        "{\"enc\":\"A256GCM\",\"alg\":\"ECDH-ES+A256KW\",\"apu\":\"" APU "\",\"apv\":\"" APV
        "\",\"epk\":" EPK ",\"kid\":\"" THUMB "\"}",
        "{\"alg\":\"ECDH-ES+A256KW\", \"enc\":\"A256GCM\",\"apu\":\"" APU "\",\"apv\":\"" APV
        "\",\"epk\":" EPK ",\"kid\":\"" THUMB "\"}",
        "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"apu\":\"a2JzLWltcG9ydC12MQ\","
        "\"apv\":\"" APV "\",\"epk\":" EPK ",\"kid\":\"" THUMB "\"}",
        /* apv: absent, empty, no version, text with a NUL */
        "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"apu\":\"" APU "\",\"epk\":" EPK
        ",\"kid\":\"" THUMB "\"}",
        "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"apu\":\"" APU
        "\",\"apv\":\"\",\"epk\":" EPK ",\"kid\":\"" THUMB "\"}",
        "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"apu\":\"" APU
        "\",\"apv\":\"YS9iL2M\",\"epk\":" EPK ",\"kid\":\"" THUMB "\"}",
        "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"apu\":\"" APU
        "\",\"apv\":\"YS9iL2MvdjEA\",\"epk\":" EPK ",\"kid\":\"" THUMB "\"}",
        /* kid of another length, one more member, an epk with one more member */
        "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"apu\":\"" APU "\",\"apv\":\"" APV
        "\",\"epk\":" EPK ",\"kid\":\"x\"}",
        "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"apu\":\"" APU "\",\"apv\":\"" APV
        "\",\"epk\":" EPK ",\"kid\":\"" THUMB "\",\"zip\":\"DEF\"}",
        "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"apu\":\"" APU "\",\"apv\":\"" APV
        "\",\"epk\":{\"crv\":\"P-256\",\"kty\":\"EC\",\"use\":\"enc\",\"x\":\"" X "\",\"y\":\"" Y
        "\"},\"kid\":\"" THUMB "\"}",
    };

    (void)state;
    must(read_jwe(GOOD, REST, KBS_TEE_ALG_NONE)); /* the detector */
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (read_jwe(bad[i], REST, KBS_TEE_ALG_NONE) == 0 || err.category != KBS_INPUT) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    /* x and y exchanged: not a point */
    assert_int_equal(read_jwe("{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"apu\":\"" APU
                              "\",\"apv\":\"" APV
                              "\",\"epk\":{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" Y
                              "\",\"y\":\"" X "\"},\"kid\":\"" THUMB "\"}",
                              REST, KBS_TEE_ALG_NONE),
                     -1);
    assert_int_equal(err.category, KBS_UNPROCESSABLE);
}

static void every_other_member_is_exact(void **state)
{
    static const char *const bad[] = {
        "\"iv\":\"" IV "\",\"ciphertext\":\"AA\",\"tag\":\"" TAG "\"",
        "\"encrypted_key\":\"" CEK "\",\"ciphertext\":\"AA\",\"tag\":\"" TAG "\"",
        "\"encrypted_key\":\"" CEK "\",\"iv\":\"" IV "\",\"tag\":\"" TAG "\"",
        "\"encrypted_key\":\"" CEK "\",\"iv\":\"" IV "\",\"ciphertext\":\"AA\"",
        REST ",\"aad\":\"AA\"",
        REST ",\"header\":{}",
        "\"encrypted_key\":\"AA\",\"iv\":\"" IV "\",\"ciphertext\":\"AA\",\"tag\":\"" TAG "\"",
        "\"encrypted_key\":\"" CEK "==\",\"iv\":\"" IV "\",\"ciphertext\":\"AA\",\"tag\":\"" TAG
        "\"",
        "\"encrypted_key\":\"" CEK "\",\"iv\":\"AA\",\"ciphertext\":\"AA\",\"tag\":\"" TAG "\"",
        "\"encrypted_key\":\"" CEK "\",\"iv\":\"" IV "\",\"ciphertext\":\"\",\"tag\":\"" TAG "\"",
        "\"encrypted_key\":\"" CEK "\",\"iv\":\"" IV "\",\"ciphertext\":\"AB\",\"tag\":\"" TAG "\"",
        "\"encrypted_key\":\"" CEK "\",\"iv\":\"" IV "\",\"ciphertext\":\"AA\",\"tag\":\"AA\"",
        "\"encrypted_key\":\"" CEK "\",\"iv\":\"" IV "\",\"ciphertext\":7,\"tag\":\"" TAG "\"",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (read_jwe(GOOD, bad[i], KBS_TEE_ALG_NONE) == 0 || err.category != KBS_INPUT) {
            fail_msg("taken: %s", bad[i]);
        }
    }
}

static void an_answer_is_of_the_kind_that_was_asked_for(void **state)
{
#define EC_HEADER "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"epk\":" EPK "}"
#define RSA_HEADER "{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A256GCM\"}"
    (void)state;
    must(read_jwe(EC_HEADER, REST, KBS_TEE_ALG_ECDH_ES_A256KW));
    must(read_jwe(RSA_HEADER, REST, KBS_TEE_ALG_RSA_OAEP_256));
    must(read_jwe("{\"enc\":\"A256GCM\",\"alg\":\"RSA-OAEP\"}", REST, KBS_TEE_ALG_RSA_OAEP));
    assert_int_equal(read_jwe(RSA_HEADER, REST, KBS_TEE_ALG_RSA_OAEP), -1);
    assert_int_equal(read_jwe(RSA_HEADER, REST, KBS_TEE_ALG_ECDH_ES_A256KW), -1);
    assert_int_equal(read_jwe(EC_HEADER, REST, KBS_TEE_ALG_RSA_OAEP_256), -1);
    assert_int_equal(read_jwe(GOOD, REST, KBS_TEE_ALG_ECDH_ES_A256KW), -1);
    assert_int_equal(read_jwe("{\"alg\":\"RSA-OAEP-256\",\"enc\":\"A256GCM\",\"epk\":" EPK "}",
                              REST, KBS_TEE_ALG_RSA_OAEP_256),
                     -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_is_sealed_is_read_and_opens, setup),
        cmocka_unit_test_setup(nothing_and_too_much_are_not_sealed, setup),
        cmocka_unit_test_setup(at_rest_has_one_layout, setup),
        cmocka_unit_test_setup(a_sealed_header_is_the_template, setup),
        cmocka_unit_test_setup(every_other_member_is_exact, setup),
        cmocka_unit_test_setup(an_answer_is_of_the_kind_that_was_asked_for, setup),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
