/*
 * src/agree against published vectors (RFC 7518 appendix C, RFC 3394, RFC 5869, RFC 7520,
 * Wycheproof) and against misuse. The last two are files outside the checkout; without them those
 * cases are skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <openssl/crypto.h>

#include "agree/agree.h"
#include "base/encoding.h"
#include "base/random.h"

#define TEXT_MAX 65536

static struct kbs_error err;

/* ---- helpers -------------------------------------------------------------------------- */

/* What OpenSSL's random generators keep on the secure heap once they have been used. */
static size_t heap_at_rest;

static int set_up(void **state)
{
    struct kbs_agree_key *key = NULL;
    uint8_t byte;

    (void)state;
    err = KBS_ERROR_NONE;
    if (kbs_secret_heap_init(&err) < 0 || kbs_agree_key_generate(KBS_CURVE_P256, &key, &err) < 0) {
        return -1;
    }
    kbs_agree_key_free(key);
    kbs_random(&byte, 1); /* the public generator: keys come from the private one */
    heap_at_rest = CRYPTO_secure_used();
    return 0;
}

static void from_hex(struct kbs_buf *out, const char *hex)
{
    *out = KBS_BUF(TEXT_MAX);
    assert_int_equal(kbs_hex_get(out, kbs_span_str(hex)), 0);
}

static void assert_hex(struct kbs_span got, const char *hex)
{
    struct kbs_buf want;

    from_hex(&want, hex);
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.p, want.p, want.len);
    kbs_buf_deinit(&want);
}

static void assert_refused(int rc, enum kbs_category category)
{
    assert_int_equal(rc, -1);
    assert_int_equal(err.category, category);
    assert_true(err.detail[0] != '\0');
    err = KBS_ERROR_NONE;
}

static void pem_put(struct kbs_buf *out, const char *type, struct kbs_span der)
{
    struct kbs_buf text = KBS_BUF(TEXT_MAX);

    kbs_base64_put(&text, der);
    *out = KBS_BUF(TEXT_MAX);
    kbs_buf_printf(out, "-----BEGIN %s-----\n", type);
    for (size_t i = 0; i < text.len; i += 64) {
        struct kbs_span rest = kbs_span_skip(kbs_buf_span(&text), i);

        rest.len = rest.len < 64 ? rest.len : 64;
        kbs_buf_put_span(out, rest);
        kbs_buf_put_u8(out, '\n');
    }
    kbs_buf_printf(out, "-----END %s-----\n", type);
    assert_false(out->failed);
    kbs_buf_deinit(&text);
}

/* SEC 1 PEM of a scalar of exactly the field's size, without the public key. */
static void scalar_pem(struct kbs_buf *out, enum kbs_curve curve, struct kbs_span d)
{
    struct kbs_span oid = kbs_curve_oid_der(curve);
    struct kbs_buf der = KBS_BUF(256);

    kbs_buf_put_u8(&der, 0x30);
    kbs_buf_put_u8(&der, (uint8_t)(3 + 2 + d.len + 2 + oid.len));
    kbs_buf_put(&der, "\x02\x01\x01\x04", 4);
    kbs_buf_put_u8(&der, (uint8_t)d.len);
    kbs_buf_put_span(&der, d);
    kbs_buf_put_u8(&der, 0xa0);
    kbs_buf_put_u8(&der, (uint8_t)oid.len);
    kbs_buf_put_span(&der, oid);
    pem_put(out, "EC PRIVATE KEY", kbs_buf_span(&der));
    kbs_buf_deinit(&der);
}

static struct kbs_agree_key *key_of_scalar(enum kbs_curve curve, struct kbs_span d)
{
    struct kbs_agree_key *key = NULL;
    struct kbs_buf pem;

    scalar_pem(&pem, curve, d);
    assert_int_equal(kbs_agree_key_from_pem(kbs_buf_span(&pem), &key, &err), 0);
    kbs_buf_deinit(&pem);
    return key;
}

static struct kbs_agree_key *key_of_base64url(enum kbs_curve curve, const char *d)
{
    uint8_t bytes[KBS_EC_FIELD_MAX_BYTES];
    size_t n = kbs_curve_field_bytes(curve);

    assert_int_equal(kbs_base64url_get_exact(bytes, n, kbs_span_str(d)), 0);
    return key_of_scalar(curve, kbs_span(bytes, n));
}

static struct kbs_ec_public public_of(enum kbs_curve curve, const char *x, const char *y)
{
    struct kbs_ec_public k = {.curve = curve};
    size_t n = kbs_curve_field_bytes(curve);

    assert_int_equal(kbs_base64url_get_exact(k.x, n, kbs_span_str(x)), 0);
    assert_int_equal(kbs_base64url_get_exact(k.y, n, kbs_span_str(y)), 0);
    return k;
}

/* ---- ECDH and keys -------------------------------------------------------------------- */

/* RFC 7518 appendix C, ECDH and Concat KDF; its key has 16 bytes, which are the front of our 32. */
static void rfc7518_appendix_c(void **state)
{
    struct kbs_agree_key *alice =
        key_of_base64url(KBS_CURVE_P256, "0_NxaRPUMQoAJt50Gz8YiTr8gRTwyEaCumd-MToTmIo");
    struct kbs_agree_key *bob =
        key_of_base64url(KBS_CURVE_P256, "VEmDZpDXXK8p8N0Cndsxs924q6nS1RXFASRl6BfUqdw");
    struct kbs_ec_public alice_public =
        public_of(KBS_CURVE_P256, "gI0GAILBdu7T53akrFmMyGcsF3n5dO7MmwNBHKW5SV0",
                  "SLW_xSffzlPWrHEVI30DHM_4egVwt3NQqeUD7nMFpps");
    struct kbs_ec_public bob_public =
        public_of(KBS_CURVE_P256, "weNJy2HscCSM6AEDTDg04biOvhFhyyWvOHQfeF_PxMQ",
                  "e8lnCO-AlStT-NJVX-crhB7QRYhiix03illJOVAOyck");
    struct kbs_secret *z = NULL;
    struct kbs_secret *z2 = NULL;
    struct kbs_secret *kek = NULL;
    struct kbs_buf info;
    uint8_t want[16];

    (void)state;
    assert_true(kbs_ec_public_equal(kbs_agree_key_public(alice), &alice_public));
    assert_true(kbs_ec_public_equal(kbs_agree_key_public(bob), &bob_public));
    assert_int_equal(kbs_agree_ecdh(alice, &bob_public, &z, &err), 0);
    assert_int_equal(kbs_agree_ecdh(bob, &alice_public, &z2, &err), 0);
    assert_true(kbs_secret_equal(kbs_secret_span(z), kbs_secret_span(z2)));
    assert_hex(kbs_secret_span(z),
               "9e56d91d817135d372834283bf84269cfb316ea3da806a48f6daa7798cfe90c4");

    from_hex(&info, "00000007"
                    "4131323847434d"
                    "00000005"
                    "416c696365"
                    "00000003"
                    "426f62"
                    "00000080");
    assert_int_equal(kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), &kek, &err), 0);
    assert_int_equal(kbs_secret_len(kek), 32);
    assert_int_equal(
        kbs_base64url_get_exact(want, sizeof(want), kbs_span_str("VqqN6vgjbSBcIijNcacQGg")), 0);
    assert_memory_equal(kbs_secret_bytes(kek), want, sizeof(want));

    kbs_secret_free(kek);
    kbs_secret_free(z2);
    kbs_secret_free(z);
    kbs_buf_deinit(&info);
    kbs_agree_key_free(bob);
    kbs_agree_key_free(alice);
}

static void generated_keys_agree_on_every_curve(void **state)
{
    (void)state;
    for (enum kbs_curve c = KBS_CURVE_P256; c <= KBS_CURVE_P521; c++) {
        struct kbs_agree_key *a = NULL;
        struct kbs_agree_key *b = NULL;
        struct kbs_agree_key *again = NULL;
        struct kbs_secret *pem = NULL;
        struct kbs_secret *z1 = NULL;
        struct kbs_secret *z2 = NULL;

        assert_int_equal(kbs_agree_key_generate(c, &a, &err), 0);
        assert_int_equal(kbs_agree_key_generate(c, &b, &err), 0);
        assert_int_equal(kbs_agree_key_public(a)->curve, c);
        assert_false(kbs_ec_public_equal(kbs_agree_key_public(a), kbs_agree_key_public(b)));

        assert_int_equal(kbs_agree_key_to_pem(a, &pem, &err), 0);
        assert_true(kbs_span_starts_with(kbs_secret_span(pem), "-----BEGIN PRIVATE KEY-----\n"));
        assert_int_equal(kbs_agree_key_from_pem(kbs_secret_span(pem), &again, &err), 0);
        assert_true(kbs_ec_public_equal(kbs_agree_key_public(a), kbs_agree_key_public(again)));

        assert_int_equal(kbs_agree_ecdh(again, kbs_agree_key_public(b), &z1, &err), 0);
        assert_int_equal(kbs_agree_ecdh(b, kbs_agree_key_public(a), &z2, &err), 0);
        assert_int_equal(kbs_secret_len(z1), kbs_curve_field_bytes(c));
        assert_true(kbs_secret_equal(kbs_secret_span(z1), kbs_secret_span(z2)));

        kbs_secret_free(z2);
        kbs_secret_free(z1);
        kbs_secret_free(pem);
        kbs_agree_key_free(again);
        kbs_agree_key_free(b);
        kbs_agree_key_free(a);
    }
}

/* OpenSSL's promise that we rely on: scalars, made or read, are in the secure heap; and none is
 * left. */
static void scalars_are_on_the_secure_heap(void **state)
{
    struct kbs_agree_key *key = NULL;
    struct kbs_agree_key *again = NULL;
    struct kbs_secret *pem = NULL;
    size_t one;
    size_t with_pem;

    (void)state;
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P521, &key, &err), 0);
    one = CRYPTO_secure_used();
    assert_true(one >= heap_at_rest + 66);
    assert_int_equal(kbs_agree_key_to_pem(key, &pem, &err), 0);
    with_pem = CRYPTO_secure_used();
    assert_true(with_pem >= one + kbs_secret_len(pem));
    assert_int_equal(kbs_agree_key_from_pem(kbs_secret_span(pem), &again, &err), 0);
    assert_true(CRYPTO_secure_used() >= with_pem + 66);
    kbs_agree_key_free(again);
    kbs_secret_free(pem);
    kbs_agree_key_free(key);
    assert_int_equal(CRYPTO_secure_used(), heap_at_rest);
}

static void bad_peers_are_refused(void **state)
{
    struct kbs_agree_key *key = NULL;
    struct kbs_agree_key *other = NULL;
    struct kbs_secret *z = NULL;
    struct kbs_ec_public peer;

    (void)state;
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &key, &err), 0);
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P384, &other, &err), 0);
    assert_refused(kbs_agree_ecdh(key, kbs_agree_key_public(other), &z, &err), KBS_UNPROCESSABLE);

    peer = *kbs_agree_key_public(key);
    peer.y[31] ^= 1; /* off the curve */
    assert_refused(kbs_agree_ecdh(key, &peer, &z, &err), KBS_UNPROCESSABLE);
    memset(peer.x, 0, sizeof(peer.x)); /* how some encode infinity */
    memset(peer.y, 0, sizeof(peer.y));
    assert_refused(kbs_agree_ecdh(key, &peer, &z, &err), KBS_UNPROCESSABLE);
    memset(peer.x, 0xff, sizeof(peer.x)); /* coordinates above p */
    memset(peer.y, 0xff, sizeof(peer.y));
    assert_refused(kbs_agree_ecdh(key, &peer, &z, &err), KBS_UNPROCESSABLE);
    peer.curve = KBS_CURVE_NONE;
    assert_refused(kbs_agree_ecdh(key, &peer, &z, &err), KBS_UNPROCESSABLE);
    assert_null(z);

    kbs_agree_key_free(other);
    kbs_agree_key_free(key);
    assert_refused(kbs_agree_key_generate(KBS_CURVE_NONE, &key, &err), KBS_INTERNAL);
    assert_null(key);
}

static void refuse_pem(struct kbs_span pem)
{
    struct kbs_agree_key *key = NULL;

    assert_refused(kbs_agree_key_from_pem(pem, &key, &err), KBS_INPUT);
    assert_null(key);
}

static void bad_pem_is_refused(void **state)
{
    static const uint8_t order_p256[] = {0xff, 0xff, 0xff, 0xff, 0,    0,    0,    0,
                                         0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                         0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84,
                                         0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};
    /* PKCS#8 with no curve of ours: X25519 (RFC 8410 section 10.3 has the shape). */
    static const char x25519[] = "302e020100300506032b656e04220420"
                                 "77076d0a7318a57d3c16c17251b26645df4c2f92ebc099ac0d0f1e5a2b3c4d5e";
    static const uint8_t zero[32] = {0};
    struct kbs_buf pem;
    struct kbs_buf der;
    struct kbs_buf large = KBS_BUF(2 * KBS_LIMIT_KEY_PEM_BYTES);

    (void)state;
    refuse_pem(KBS_SPAN_EMPTY);
    refuse_pem(kbs_span_str("not PEM"));
    refuse_pem(kbs_span_str("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"));
    scalar_pem(&pem, KBS_CURVE_P256, kbs_span(zero, sizeof(zero)));
    refuse_pem(kbs_buf_span(&pem));
    kbs_buf_deinit(&pem);
    scalar_pem(&pem, KBS_CURVE_P256, kbs_span(order_p256, sizeof(order_p256)));
    refuse_pem(kbs_buf_span(&pem));
    kbs_buf_deinit(&pem);

    from_hex(&der, x25519);
    pem_put(&pem, "PRIVATE KEY", kbs_buf_span(&der));
    refuse_pem(kbs_buf_span(&pem));
    kbs_buf_deinit(&pem);
    pem_put(&pem, "ENCRYPTED PRIVATE KEY", kbs_buf_span(&der));
    refuse_pem(kbs_buf_span(&pem));
    kbs_buf_deinit(&pem);
    kbs_buf_deinit(&der);

    while (large.len <= KBS_LIMIT_KEY_PEM_BYTES) {
        kbs_buf_put_u8(&large, '\n');
    }
    refuse_pem(kbs_buf_span(&large));
    kbs_buf_deinit(&large);
}

/* A public key that is not the private key's must not become the epk. */
static void pem_with_foreign_public_key_is_refused(void **state)
{
    struct kbs_agree_key *a = NULL;
    struct kbs_agree_key *b = NULL;
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    size_t point_len;
    struct kbs_buf der = KBS_BUF(256);
    struct kbs_buf pem;

    (void)state;
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &b, &err), 0);
    point_len = kbs_ec_point_put(kbs_agree_key_public(b), point);
    for (int foreign = 0; foreign < 2; foreign++) {
        static const char scalar[] =
            "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";
        struct kbs_buf d;

        from_hex(&d, scalar);
        if (!foreign) { /* the control: the same DER with the right public key is taken */
            a = key_of_scalar(KBS_CURVE_P256, kbs_buf_span(&d));
            kbs_ec_point_put(kbs_agree_key_public(a), point);
            kbs_agree_key_free(a);
            a = NULL;
        } else {
            kbs_ec_point_put(kbs_agree_key_public(b), point);
        }
        kbs_buf_clear(&der);
        kbs_buf_put(&der, "\x30\x77\x02\x01\x01\x04\x20", 7);
        kbs_buf_put_span(&der, kbs_buf_span(&d));
        kbs_buf_put(&der, "\xa0\x0a", 2);
        kbs_buf_put_span(&der, kbs_curve_oid_der(KBS_CURVE_P256));
        kbs_buf_put(&der, "\xa1\x44\x03\x42\x00", 5);
        kbs_buf_put(&der, point, point_len);
        pem_put(&pem, "EC PRIVATE KEY", kbs_buf_span(&der));
        if (foreign) {
            refuse_pem(kbs_buf_span(&pem));
        } else {
            assert_int_equal(kbs_agree_key_from_pem(kbs_buf_span(&pem), &a, &err), 0);
            a = kbs_agree_key_free(a);
        }
        kbs_buf_deinit(&pem);
        kbs_buf_deinit(&d);
    }
    kbs_buf_deinit(&der);
    kbs_agree_key_free(b);
}

/* ---- KDFs ----------------------------------------------------------------------------- */

static void check_hkdf(const char *ikm, const char *salt, const char *info, const char *okm,
                       size_t okm_len)
{
    struct kbs_buf z;
    struct kbs_buf s;
    struct kbs_buf i;
    struct kbs_buf want;
    struct kbs_secret *kek = NULL;
    size_t n = okm_len < 32 ? okm_len : 32; /* shorter and longer outputs share their front */

    from_hex(&z, ikm);
    from_hex(&s, salt);
    from_hex(&i, info);
    from_hex(&want, okm);
    assert_int_equal(
        kbs_agree_hkdf(kbs_buf_span(&z), kbs_buf_span(&s), kbs_buf_span(&i), &kek, &err), 0);
    assert_int_equal(kbs_secret_len(kek), 32);
    assert_true(want.len >= n);
    assert_memory_equal(kbs_secret_bytes(kek), want.p, n);
    kbs_secret_free(kek);
    kbs_buf_deinit(&want);
    kbs_buf_deinit(&i);
    kbs_buf_deinit(&s);
    kbs_buf_deinit(&z);
}

static void rfc5869(void **state)
{
    (void)state;
    check_hkdf("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c",
               "f0f1f2f3f4f5f6f7f8f9",
               "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf3400"
               "7208d5b887185865",
               42);
    check_hkdf("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
               "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d20"
               "1395faa4b61a96c8",
               42);
    /* no salt and 32 zero bytes are the same salt */
    check_hkdf("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
               "0000000000000000000000000000000000000000000000000000000000000000", "",
               "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d", 32);
}

static void kdfs_refuse_no_secret(void **state)
{
    static const uint8_t large[KBS_LIMIT_SECRET_BYTES + 1] = {0};
    struct kbs_secret *kek = NULL;

    (void)state;
    assert_refused(kbs_agree_hkdf(KBS_SPAN_EMPTY, KBS_SPAN_EMPTY, KBS_SPAN_EMPTY, &kek, &err),
                   KBS_INTERNAL);
    assert_refused(kbs_agree_concat_kdf(kbs_span(large, sizeof(large)), KBS_SPAN_EMPTY, &kek, &err),
                   KBS_INTERNAL);
    assert_null(kek);
}

/* ---- AES-KW --------------------------------------------------------------------------- */

static const uint8_t kek_bytes[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                      11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                      22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

static void check_wrap(struct kbs_span kek, struct kbs_span key, struct kbs_span wrapped)
{
    uint8_t out[KBS_LIMIT_KEY_BYTES_MAX + 8];
    size_t len = 0;
    struct kbs_secret *back = NULL;

    assert_int_equal(kbs_agree_wrap(kek, key, out, &len, &err), 0);
    assert_int_equal(len, wrapped.len);
    assert_memory_equal(out, wrapped.p, len);
    assert_int_equal(kbs_agree_unwrap(kek, wrapped, &back, &err), 0);
    assert_true(kbs_secret_equal(kbs_secret_span(back), key));
    kbs_secret_free(back);
}

static void rfc3394(void **state)
{
    static const char *const vectors[][2] = {
        {"00112233445566778899aabbccddeeff", "64e8c3f9ce0f5ba263e9777905818a2a93c8191e7d6e8ae7"},
        {"00112233445566778899aabbccddeeff0001020304050607",
         "a8f9bc1612c68b3ff6e6f4fbe30e71e4769c8b80a32cb8958cd5d17d6b254da1"},
        {"00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f",
         "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        struct kbs_buf key;
        struct kbs_buf wrapped;

        from_hex(&key, vectors[i][0]);
        from_hex(&wrapped, vectors[i][1]);
        check_wrap(kbs_span(kek_bytes, 32), kbs_buf_span(&key), kbs_buf_span(&wrapped));
        kbs_buf_deinit(&wrapped);
        kbs_buf_deinit(&key);
    }
}

static void wrap_lengths(void **state)
{
    static const uint8_t key[2 * KBS_LIMIT_KEY_BYTES_MAX] = {7};
    uint8_t out[KBS_LIMIT_KEY_BYTES_MAX + 8];
    struct kbs_span kek = kbs_span(kek_bytes, 32);
    struct kbs_secret *back = NULL;
    size_t len = 99;

    (void)state;
    for (size_t n = 0; n <= sizeof(key); n++) {
        if (n >= KBS_LIMIT_KEY_BYTES_MIN && n <= KBS_LIMIT_KEY_BYTES_MAX && n % 8 == 0) {
            assert_int_equal(kbs_agree_wrap(kek, kbs_span(key, n), out, &len, &err), 0);
            assert_int_equal(len, n + 8);
            assert_int_equal(kbs_agree_unwrap(kek, kbs_span(out, len), &back, &err), 0);
            assert_true(kbs_secret_equal(kbs_secret_span(back), kbs_span(key, n)));
            back = kbs_secret_free(back);
        } else {
            assert_refused(kbs_agree_wrap(kek, kbs_span(key, n), out, &len, &err),
                           KBS_UNPROCESSABLE);
            assert_int_equal(len, 0);
        }
        /* never authentic, whatever the length; above all not when it is 0 or 8 */
        assert_refused(kbs_agree_unwrap(kek, kbs_span(key, n), &back, &err), KBS_UNPROCESSABLE);
        assert_null(back);
    }
    for (size_t n = 0; n < 32; n++) {
        assert_refused(kbs_agree_wrap(kbs_span(kek_bytes, n), kbs_span(key, 32), out, &len, &err),
                       KBS_INTERNAL);
        assert_refused(kbs_agree_unwrap(kbs_span(kek_bytes, n), kbs_span(key, 40), &back, &err),
                       KBS_INTERNAL);
    }
}

static void every_flipped_bit_is_noticed(void **state)
{
    static const uint8_t key[32] = {1, 2, 3};
    uint8_t wrapped[40];
    uint8_t kek[32];
    size_t len = 0;
    struct kbs_secret *back = NULL;

    (void)state;
    memcpy(kek, kek_bytes, sizeof(kek));
    assert_int_equal(kbs_agree_wrap(kbs_span(kek, 32), kbs_span(key, 32), wrapped, &len, &err), 0);
    for (size_t bit = 0; bit < 8 * sizeof(wrapped); bit++) {
        wrapped[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        assert_refused(kbs_agree_unwrap(kbs_span(kek, 32), kbs_span(wrapped, len), &back, &err),
                       KBS_UNPROCESSABLE);
        wrapped[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    for (size_t bit = 0; bit < 8 * sizeof(kek); bit++) {
        kek[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        assert_refused(kbs_agree_unwrap(kbs_span(kek, 32), kbs_span(wrapped, len), &back, &err),
                       KBS_UNPROCESSABLE);
        kek[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    assert_int_equal(kbs_agree_unwrap(kbs_span(kek, 32), kbs_span(wrapped, len), &back, &err), 0);
    kbs_secret_free(back);
}

static void kcv(void **state)
{
    uint8_t got[4];

    (void)state;
    kbs_agree_kcv(kbs_span(kek_bytes, 32), got);
    assert_hex(kbs_span(got, 4), "9e58d548");
}

/* ---- RSA-OAEP --------------------------------------------------------------------------- */

static void assert_oaep_round_trip(const struct kbs_agree_rsa *key, enum kbs_tee_alg alg,
                                   size_t max)
{
    struct kbs_tee_key tee = {.alg = alg, .rsa = *kbs_agree_rsa_public(key)};
    uint8_t plain[KBS_LIMIT_RSA_BYTES_MAX] = {1, 2, 3};
    uint8_t out[KBS_LIMIT_RSA_BYTES_MAX];
    struct kbs_secret *back = NULL;
    size_t lengths[] = {0, 1, 32, max};
    size_t len = 0;

    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(kbs_agree_oaep_encrypt(&tee, kbs_span(plain, lengths[i]), out, &len, &err),
                         0);
        assert_int_equal(len, tee.rsa.n_len);
        assert_int_equal(kbs_agree_oaep_decrypt(key, alg, kbs_span(out, len), &back, &err), 0);
        assert_int_equal(kbs_secret_len(back), lengths[i]);
        assert_memory_equal(kbs_secret_bytes(back), plain, lengths[i]);
        back = kbs_secret_free(back);
    }
    assert_refused(kbs_agree_oaep_encrypt(&tee, kbs_span(plain, max + 1), out, &len, &err),
                   KBS_UNPROCESSABLE);
    out[7] ^= 1;
    assert_refused(kbs_agree_oaep_decrypt(key, alg, kbs_span(out, tee.rsa.n_len), &back, &err),
                   KBS_UNPROCESSABLE);
    assert_refused(kbs_agree_oaep_decrypt(key, alg, kbs_span(out, tee.rsa.n_len - 1), &back, &err),
                   KBS_UNPROCESSABLE);
    assert_null(back);
}

/* Fresh keys and the known ones: the same for whoever encrypts. */
static void oaep_round_trips(void **state)
{
    struct kbs_agree_rsa *key = NULL;

    (void)state;
    assert_int_equal(kbs_agree_rsa_generate(2048, &key, &err), 0);
    assert_oaep_round_trip(key, KBS_TEE_ALG_RSA_OAEP_256, 256 - 66);
    assert_oaep_round_trip(key, KBS_TEE_ALG_RSA_OAEP, 256 - 42);
    key = kbs_agree_rsa_free(key);
    assert_int_equal(kbs_agree_rsa_known(3072, &key, &err), 0);
    assert_oaep_round_trip(key, KBS_TEE_ALG_RSA_OAEP_256, 384 - 66);
    key = kbs_agree_rsa_free(key);
}

/*
 * RSA1_5: what opens is the content key; what does not open is a random one of the same length, and
 * nothing tells the two apart. Neither pair of functions does the other's work.
 */
static void rsa1_5_round_trips(void **state)
{
    static const uint8_t cek[32] = {7, 0, 7};
    struct kbs_agree_rsa *key = NULL;
    struct kbs_secret *back = NULL;
    struct kbs_tee_key tee = {.alg = KBS_TEE_ALG_RSA1_5};
    uint8_t out[KBS_LIMIT_RSA_BYTES_MAX];
    size_t len = 0;

    (void)state;
    assert_int_equal(kbs_agree_rsa_known(2048, &key, &err), 0);
    tee.rsa = *kbs_agree_rsa_public(key);
    assert_int_equal(kbs_agree_rsa1_5_encrypt(&tee, kbs_span(cek, 32), out, &len, &err), 0);
    assert_int_equal(len, 256);
    assert_int_equal(kbs_agree_rsa1_5_decrypt(key, kbs_span(out, len), 32, &back, &err), 0);
    assert_int_equal(kbs_secret_len(back), 32);
    assert_memory_equal(kbs_secret_bytes(back), cek, 32);
    back = kbs_secret_free(back);
    for (size_t i = 0; i < 4; i++) {
        /* another length; a byte changed; a byte missing; by OAEP */
        size_t bytes = i == 0 ? 16 : 32;

        out[9] ^= i == 1 ? 1 : 0;
        len = i == 2 ? 255 : 256;
        if (i == 3) {
            tee.alg = KBS_TEE_ALG_RSA_OAEP_256;
            assert_int_equal(kbs_agree_oaep_encrypt(&tee, kbs_span(cek, 32), out, &len, &err), 0);
        }
        assert_int_equal(kbs_agree_rsa1_5_decrypt(key, kbs_span(out, len), bytes, &back, &err), 0);
        assert_int_equal(kbs_secret_len(back), bytes);
        assert_memory_not_equal(kbs_secret_bytes(back), cek, bytes);
        back = kbs_secret_free(back);
    }
    assert_refused(kbs_agree_rsa1_5_encrypt(&tee, kbs_span(cek, 32), out, &len, &err),
                   KBS_INTERNAL);
    tee.alg = KBS_TEE_ALG_RSA1_5;
    assert_refused(kbs_agree_oaep_encrypt(&tee, kbs_span(cek, 32), out, &len, &err), KBS_INTERNAL);
    assert_refused(kbs_agree_oaep_decrypt(key, KBS_TEE_ALG_RSA1_5, kbs_span(out, 256), &back, &err),
                   KBS_INTERNAL);
    tee.rsa.e[tee.rsa.e_len - 1] &= 0xfe;
    assert_refused(kbs_agree_rsa1_5_encrypt(&tee, kbs_span(cek, 32), out, &len, &err),
                   KBS_UNPROCESSABLE);
    kbs_agree_rsa_free(key);
}

/* What is for one hash does not open by another, and not by an algorithm that is not RSA. */
static void oaep_hashes_are_not_mixed(void **state)
{
    struct kbs_agree_rsa *key = NULL;
    struct kbs_secret *back = NULL;
    struct kbs_tee_key tee = {.alg = KBS_TEE_ALG_RSA_OAEP_256};
    uint8_t out[KBS_LIMIT_RSA_BYTES_MAX];
    size_t len = 0;

    (void)state;
    assert_int_equal(kbs_agree_rsa_known(2048, &key, &err), 0);
    tee.rsa = *kbs_agree_rsa_public(key);
    assert_int_equal(kbs_agree_oaep_encrypt(&tee, KBS_SPAN_LIT("secret"), out, &len, &err), 0);
    assert_refused(
        kbs_agree_oaep_decrypt(key, KBS_TEE_ALG_RSA_OAEP, kbs_span(out, len), &back, &err),
        KBS_UNPROCESSABLE);
    assert_refused(
        kbs_agree_oaep_decrypt(key, KBS_TEE_ALG_ECDH_ES_A256KW, kbs_span(out, len), &back, &err),
        KBS_INTERNAL);
    tee.alg = KBS_TEE_ALG_ECDH_ES_A256KW;
    assert_refused(kbs_agree_oaep_encrypt(&tee, KBS_SPAN_LIT("secret"), out, &len, &err),
                   KBS_INTERNAL);
    tee.alg = KBS_TEE_ALG_RSA_OAEP_256;
    tee.rsa.n[0] = 0; /* shorter than it says */
    assert_refused(kbs_agree_oaep_encrypt(&tee, KBS_SPAN_LIT("secret"), out, &len, &err),
                   KBS_UNPROCESSABLE);
    kbs_agree_rsa_free(key);
}

static void rsa_pem_goes_round(void **state)
{
    struct kbs_agree_rsa *key = NULL;
    struct kbs_agree_rsa *again = NULL;
    struct kbs_agree_key *ec = NULL;
    struct kbs_secret *pem = NULL;

    (void)state;
    assert_int_equal(kbs_agree_rsa_generate(2048, &key, &err), 0);
    assert_int_equal(kbs_agree_rsa_to_pem(key, &pem, &err), 0);
    assert_int_equal(kbs_agree_rsa_from_pem(kbs_secret_span(pem), &again, &err), 0);
    assert_memory_equal(kbs_agree_rsa_public(key)->n, kbs_agree_rsa_public(again)->n, 256);
    assert_int_equal(kbs_agree_rsa_public(again)->e_len, 3);
    /* Neither is taken for the other. */
    assert_refused(kbs_agree_key_from_pem(kbs_secret_span(pem), &ec, &err), KBS_INPUT);
    pem = kbs_secret_free(pem);
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &ec, &err), 0);
    assert_int_equal(kbs_agree_key_to_pem(ec, &pem, &err), 0);
    again = kbs_agree_rsa_free(again);
    assert_refused(kbs_agree_rsa_from_pem(kbs_secret_span(pem), &again, &err), KBS_INPUT);
    assert_refused(kbs_agree_rsa_from_pem(KBS_SPAN_LIT("no PEM"), &again, &err), KBS_INPUT);
    assert_null(again);
    kbs_secret_free(pem);
    kbs_agree_key_free(ec);
    kbs_agree_rsa_free(key);
}

/* They pass what a key from outside has to: prime factors, exponents that go with them. */
static void known_keys_are_sound(void **state)
{
    static const unsigned int sizes[] = {2048, 3072}; /* a larger one takes seconds */
    struct kbs_agree_rsa *key = NULL;
    struct kbs_agree_rsa *again = NULL;
    struct kbs_secret *pem = NULL;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(kbs_agree_rsa_known(sizes[i], &key, &err), 0);
        assert_int_equal(kbs_agree_rsa_public(key)->n_len, sizes[i] / 8);
        assert_int_equal(kbs_agree_rsa_to_pem(key, &pem, &err), 0);
        assert_int_equal(kbs_agree_rsa_from_pem(kbs_secret_span(pem), &again, &err), 0);
        pem = kbs_secret_free(pem);
        again = kbs_agree_rsa_free(again);
        key = kbs_agree_rsa_free(key);
    }
    assert_refused(kbs_agree_rsa_known(2056, &key, &err), KBS_INPUT);
    assert_null(key);
}

/* Sizes that no TEE may have are refused when they are made, too. */
static void rsa_sizes_are_bounded(void **state)
{
    struct kbs_agree_rsa *key = NULL;

    (void)state;
    assert_refused(kbs_agree_rsa_generate(1024, &key, &err), KBS_UNPROCESSABLE);
    assert_null(key);
}

/* ---- AES-GCM ---------------------------------------------------------------------------- */

static void gcm_refuses_what_was_changed(void **state)
{
    static const uint8_t cek[32] = {9};
    static const uint8_t iv[KBS_GCM_IV_BYTES] = {1};
    static const uint8_t zeros[16] = {0};
    const struct kbs_span key = kbs_span(cek, sizeof(cek));
    uint8_t sealed[16];
    uint8_t tag[KBS_GCM_TAG_BYTES];
    uint8_t out[16];

    (void)state;
    assert_int_equal(kbs_agree_gcm_seal(key, iv, KBS_SPAN_LIT("aad"),
                                        KBS_SPAN_LIT("sixteen bytes..."), sealed, tag, &err),
                     0);
    for (size_t bit = 0; bit < 128 + 128; bit++) {
        uint8_t *byte = bit < 128 ? &sealed[bit / 8] : &tag[(bit - 128) / 8];

        *byte ^= (uint8_t)(1u << (bit % 8));
        memset(out, 0xff, sizeof(out));
        assert_refused(kbs_agree_gcm_open(key, iv, KBS_SPAN_LIT("aad"),
                                          kbs_span(sealed, sizeof(sealed)), tag, out, &err),
                       KBS_UNPROCESSABLE);
        assert_memory_equal(out, zeros, sizeof(out));
        *byte ^= (uint8_t)(1u << (bit % 8));
    }
    assert_refused(
        kbs_agree_gcm_open(key, iv, KBS_SPAN_LIT("aae"), kbs_span(sealed, 16), tag, out, &err),
        KBS_UNPROCESSABLE);
    assert_refused(
        kbs_agree_gcm_seal(kbs_span(cek, 16), iv, KBS_SPAN_EMPTY, KBS_SPAN_EMPTY, out, tag, &err),
        KBS_INTERNAL);
    assert_int_equal(
        kbs_agree_gcm_open(key, iv, KBS_SPAN_LIT("aad"), kbs_span(sealed, 16), tag, out, &err), 0);
    assert_memory_equal(out, "sixteen bytes...", 16);
}

/* Known answers of the openssl command: printf kbs-kcv | openssl mac -cipher AES-n-CBC CMAC. */
static void kcv_by_cmac(void **state)
{
    static const struct {
        const char *key;
        const char *kcv;
    } cases[] = {
        {"00112233445566778899aabbccddeeff", "c0745e8c"},
        {"000102030405060708090a0b0c0d0e0f1011121314151617", "a77dab42"},
        {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "5e020dd5"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kbs_buf key;
        uint8_t got[4];

        from_hex(&key, cases[i].key);
        assert_int_equal(kbs_agree_kcv_cmac(kbs_buf_span(&key), got, &err), 0);
        assert_hex(kbs_span(got, 4), cases[i].kcv);
        assert_refused(kbs_agree_kcv_cmac(kbs_span_skip(kbs_buf_span(&key), 1), got, &err),
                       KBS_INPUT);
        kbs_buf_deinit(&key);
    }
}

/* ---- Wycheproof ----------------------------------------------------------------------- */

/* NULL, and the reason printed, when the file is not there; a file that is there must parse. */
static json_t *vector(const char *name)
{
    char path[1024];
    json_error_t why;
    json_t *doc;
    FILE *f;

    assert_true(snprintf(path, sizeof(path), "%s/%s", KBS_VECTORS_DIR, name) < (int)sizeof(path));
    f = fopen(path, "r");
    if (f == NULL) {
        print_message("skipped: no %s (set KBS_VECTORS_DIR)\n", path);
        return NULL;
    }
    doc = json_loadf(f, JSON_REJECT_DUPLICATES, &why);
    (void)fclose(f);
    assert_non_null(doc);
    return doc;
}

static const char *text_of(const json_t *test, const char *member)
{
    const char *s = json_string_value(json_object_get(test, member));

    assert_non_null(s);
    return s;
}

static size_t each_test(const json_t *doc, int key_size,
                        bool (*check)(const json_t *group, const json_t *test))
{
    const json_t *groups = json_object_get(doc, "testGroups");
    size_t count = 0;

    for (size_t i = 0; i < json_array_size(groups); i++) {
        const json_t *group = json_array_get(groups, i);
        const json_t *tests = json_object_get(group, "tests");

        if (key_size != 0 && json_integer_value(json_object_get(group, "keySize")) != key_size) {
            continue;
        }
        for (size_t j = 0; j < json_array_size(tests); j++) {
            count += check(group, json_array_get(tests, j)) ? 1 : 0;
        }
    }
    return count;
}

static bool check_aes_wrap(const json_t *group, const json_t *test)
{
    bool valid = strcmp(text_of(test, "result"), "valid") == 0;
    struct kbs_secret *back = NULL;
    struct kbs_buf kek;
    struct kbs_buf key;
    struct kbs_buf wrapped;

    (void)group;
    from_hex(&kek, text_of(test, "key"));
    from_hex(&key, text_of(test, "msg"));
    from_hex(&wrapped, text_of(test, "ct"));
    if (valid && key.len <= KBS_LIMIT_KEY_BYTES_MAX) {
        check_wrap(kbs_buf_span(&kek), kbs_buf_span(&key), kbs_buf_span(&wrapped));
    } else { /* "acceptable" are keys of 8 bytes: not for us, nor are valid ones over our bound */
        assert_refused(kbs_agree_unwrap(kbs_buf_span(&kek), kbs_buf_span(&wrapped), &back, &err),
                       KBS_UNPROCESSABLE);
    }
    kbs_buf_deinit(&wrapped);
    kbs_buf_deinit(&key);
    kbs_buf_deinit(&kek);
    return true;
}

static void wycheproof_aes_wrap(void **state)
{
    json_t *doc = vector("wycheproof/aes_wrap_test.json");

    (void)state;
    if (doc == NULL) {
        skip();
    }
    assert_true(each_test(doc, 256, check_aes_wrap) > 40);
    json_decref(doc);
}

static bool check_hkdf_test(const json_t *group, const json_t *test)
{
    json_int_t size = json_integer_value(json_object_get(test, "size"));

    (void)group;
    if (strcmp(text_of(test, "result"), "valid") != 0) {
        return false; /* sizes HKDF cannot give; ours is fixed */
    }
    check_hkdf(text_of(test, "ikm"), text_of(test, "salt"), text_of(test, "info"),
               text_of(test, "okm"), (size_t)size);
    return true;
}

static void wycheproof_hkdf(void **state)
{
    json_t *doc = vector("wycheproof/hkdf_sha256_test.json");

    (void)state;
    if (doc == NULL) {
        skip();
    }
    assert_true(each_test(doc, 0, check_hkdf_test) > 80);
    json_decref(doc);
}

/* The point of a SubjectPublicKeyInfo with this named curve and an uncompressed point; false for
 * any other. */
static bool spki_point(enum kbs_curve curve, struct kbs_span spki, struct kbs_span *ret)
{
    static const uint8_t ec_oid[] = {0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01};
    struct kbs_span oid = kbs_curve_oid_der(curve);
    struct kbs_buf prefix = KBS_BUF(128);
    size_t point = 1 + 2 * kbs_curve_field_bytes(curve);
    size_t ids = sizeof(ec_oid) + oid.len;
    bool ok;

    kbs_buf_put_u8(&prefix, 0x30);
    kbs_buf_put_u8(&prefix, (uint8_t)(2 + ids + 3 + point));
    kbs_buf_put_u8(&prefix, 0x30);
    kbs_buf_put_u8(&prefix, (uint8_t)ids);
    kbs_buf_put(&prefix, ec_oid, sizeof(ec_oid));
    kbs_buf_put_span(&prefix, oid);
    kbs_buf_put_u8(&prefix, 0x03);
    kbs_buf_put_u8(&prefix, (uint8_t)(1 + point));
    kbs_buf_put_u8(&prefix, 0x00);
    ok = spki.len == prefix.len + point && memcmp(spki.p, prefix.p, prefix.len) == 0 &&
         spki.p[prefix.len] == 0x04;
    *ret = kbs_span_skip(spki, prefix.len);
    kbs_buf_deinit(&prefix);
    return ok;
}

/* The scalar at exactly the field's size: the vectors have DER integers, with and without zeros in
 * front. */
static struct kbs_agree_key *key_of_integer(enum kbs_curve curve, struct kbs_span d)
{
    uint8_t fixed[KBS_EC_FIELD_MAX_BYTES] = {0};
    size_t n = kbs_curve_field_bytes(curve);

    while (d.len > n) {
        assert_int_equal(d.p[0], 0);
        d = kbs_span_skip(d, 1);
    }
    memcpy(fixed + n - d.len, d.p, d.len);
    return key_of_scalar(curve, kbs_span(fixed, n));
}

/* "valid" must agree, "invalid" must be refused, "acceptable" may do either but nothing else. */
static void check_shared(const json_t *test, int rc, const struct kbs_secret *z)
{
    const char *result = text_of(test, "result");

    if (rc == 0 && strcmp(result, "invalid") != 0) {
        assert_hex(kbs_secret_span(z), text_of(test, "shared"));
    } else if (rc != 0 && strcmp(result, "valid") != 0) {
        assert_refused(rc, KBS_UNPROCESSABLE);
    } else {
        fail_msg("tcId %d: %s", (int)json_integer_value(json_object_get(test, "tcId")), err.detail);
    }
}

static bool check_ecdh(const json_t *group, const json_t *test)
{
    enum kbs_curve curve =
        strcmp(text_of(group, "curve"), "secp256r1") == 0 ? KBS_CURVE_P256 : KBS_CURVE_P384;
    struct kbs_ec_public peer;
    struct kbs_span point;
    struct kbs_buf spki;
    struct kbs_buf d;
    struct kbs_secret *z = NULL;
    bool usable;

    from_hex(&spki, text_of(test, "public"));
    usable = spki_point(curve, kbs_buf_span(&spki), &point);
    if (usable) {
        struct kbs_agree_key *key;
        int rc;

        from_hex(&d, text_of(test, "private"));
        key = key_of_integer(curve, kbs_buf_span(&d));
        assert_int_equal(kbs_ec_point_get(curve, point, &peer, &err), 0);
        rc = kbs_agree_ecdh(key, &peer, &z, &err);
        check_shared(test, rc, z);
        kbs_secret_free(z);
        kbs_agree_key_free(key);
        kbs_buf_deinit(&d);
    }
    kbs_buf_deinit(&spki);
    return usable;
}

static void wycheproof_ecdh_p256(void **state)
{
    json_t *doc = vector("wycheproof/ecdh_secp256r1_test.json");

    (void)state;
    if (doc == NULL) {
        skip();
    }
    assert_true(each_test(doc, 0, check_ecdh) > 300);
    json_decref(doc);
}

static void wycheproof_ecdh_p384(void **state)
{
    json_t *doc = vector("wycheproof/ecdh_secp384r1_test.json");

    (void)state;
    if (doc == NULL) {
        skip();
    }
    assert_true(each_test(doc, 0, check_ecdh) > 300);
    json_decref(doc);
}

/* The one key of that file: checking a pair takes longer than all the rest. */
static struct kbs_agree_rsa *oaep_key;

static bool check_oaep(const json_t *group, const json_t *test)
{
    struct kbs_secret *plain = NULL;
    struct kbs_buf ct;
    struct kbs_buf msg;
    int rc;

    (void)group;
    from_hex(&ct, text_of(test, "ct"));
    from_hex(&msg, text_of(test, "msg"));
    rc =
        kbs_agree_oaep_decrypt(oaep_key, KBS_TEE_ALG_RSA_OAEP_256, kbs_buf_span(&ct), &plain, &err);
    /* With a label, which we do not have, it must not open. */
    if (strcmp(text_of(test, "result"), "valid") == 0 && text_of(test, "label")[0] == '\0') {
        assert_int_equal(rc, 0);
        assert_int_equal(kbs_secret_len(plain), msg.len);
        assert_memory_equal(kbs_secret_bytes(plain), msg.p, msg.len);
    } else {
        assert_refused(rc, KBS_UNPROCESSABLE);
        assert_null(plain);
    }
    kbs_secret_free(plain);
    kbs_buf_deinit(&msg);
    kbs_buf_deinit(&ct);
    return true;
}

static void wycheproof_oaep(void **state)
{
    json_t *doc = vector("wycheproof/rsa_oaep_2048_sha256_mgf1sha256_test.json");
    const json_t *groups;

    (void)state;
    if (doc == NULL) {
        skip();
    }
    groups = json_object_get(doc, "testGroups");
    assert_int_equal(json_array_size(groups), 1);
    assert_int_equal(
        kbs_agree_rsa_from_pem(kbs_span_str(text_of(json_array_get(groups, 0), "privateKeyPem")),
                               &oaep_key, &err),
        0);
    assert_true(each_test(doc, 0, check_oaep) > 30);
    oaep_key = kbs_agree_rsa_free(oaep_key);
    json_decref(doc);
}

static bool check_gcm(const json_t *group, const json_t *test)
{
    bool valid = strcmp(text_of(test, "result"), "valid") == 0;
    struct kbs_buf parts[6];
    static const char *const members[6] = {"key", "iv", "aad", "msg", "ct", "tag"};
    uint8_t out[TEXT_MAX];
    uint8_t tag[KBS_GCM_TAG_BYTES];
    struct kbs_span span[6];

    if (json_integer_value(json_object_get(group, "ivSize")) != 96 ||
        json_integer_value(json_object_get(group, "tagSize")) != 128) {
        return false; /* JWE has no others */
    }
    for (size_t i = 0; i < 6; i++) {
        from_hex(&parts[i], text_of(test, members[i]));
        span[i] = kbs_buf_span(&parts[i]);
    }
    assert_int_equal(kbs_agree_gcm_open(span[0], span[1].p, span[2], span[4], span[5].p, out, &err),
                     valid ? 0 : -1);
    if (valid) {
        assert_memory_equal(out, span[3].p, span[3].len);
        assert_int_equal(kbs_agree_gcm_seal(span[0], span[1].p, span[2], span[3], out, tag, &err),
                         0);
        assert_memory_equal(out, span[4].p, span[4].len);
        assert_memory_equal(tag, span[5].p, sizeof(tag));
    } else {
        assert_int_equal(err.category, KBS_UNPROCESSABLE);
    }
    err = KBS_ERROR_NONE;
    for (size_t i = 0; i < 6; i++) {
        kbs_buf_deinit(&parts[i]);
    }
    return true;
}

static void wycheproof_gcm(void **state)
{
    json_t *doc = vector("wycheproof/aes_gcm_test.json");

    (void)state;
    if (doc == NULL) {
        skip();
    }
    assert_true(each_test(doc, 256, check_gcm) > 50);
    json_decref(doc);
}

/* ---- RFC 7520 ------------------------------------------------------------------------- */

static void der_head(struct kbs_buf *out, uint8_t tag, size_t len)
{
    kbs_buf_put_u8(out, tag);
    kbs_buf_put_u8(out, 0x82);
    kbs_buf_put_u8(out, (uint8_t)(len >> 8));
    kbs_buf_put_u8(out, (uint8_t)len);
}

/* PKCS#1 PEM of an RSA JWK. Lengths have two bytes throughout, which OpenSSL reads. */
static void rsa_jwk_pem(struct kbs_buf *out, const json_t *jwk)
{
    static const char *const members[] = {"n", "e", "d", "p", "q", "dp", "dq", "qi"};
    struct kbs_buf body = KBS_BUF(8192);
    struct kbs_buf der = KBS_BUF(8192);

    kbs_buf_put(&body, "\x02\x01\x00", 3); /* version: two primes */
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        struct kbs_buf number = KBS_BUF(1024);

        assert_int_equal(kbs_base64url_get(&number, kbs_span_str(text_of(jwk, members[i]))), 0);
        der_head(&body, 0x02, number.len + 1);
        kbs_buf_put_u8(&body, 0); /* positive */
        kbs_buf_put_span(&body, kbs_buf_span(&number));
        kbs_buf_deinit(&number);
    }
    der_head(&der, 0x30, body.len);
    kbs_buf_put_span(&der, kbs_buf_span(&body));
    pem_put(out, "RSA PRIVATE KEY", kbs_buf_span(&der));
    kbs_buf_deinit(&der);
    kbs_buf_deinit(&body);
}

static struct kbs_buf member_of(const json_t *object, const char *member)
{
    struct kbs_buf out = KBS_BUF(TEXT_MAX);

    assert_int_equal(kbs_base64url_get(&out, kbs_span_str(text_of(object, member))), 0);
    return out;
}

/* Section 5.2: RSA-OAEP (SHA-1) with AES-GCM, a JWE whole. */
static void rfc7520_rsa_oaep(void **state)
{
    json_t *doc = vector("jose-cookbook/5_2.key_encryption_using_rsa-oaep_with_aes-gcm.json");
    struct kbs_agree_rsa *key = NULL;
    struct kbs_secret *cek = NULL;
    struct kbs_buf pem;
    struct kbs_buf parts[4];
    const json_t *input;
    const json_t *jwe;
    uint8_t plain[1024];

    (void)state;
    if (doc == NULL) {
        skip();
    }
    input = json_object_get(doc, "input");
    jwe = json_object_get(json_object_get(doc, "output"), "json_flat");
    rsa_jwk_pem(&pem, json_object_get(input, "key"));
    assert_int_equal(kbs_agree_rsa_from_pem(kbs_buf_span(&pem), &key, &err), 0);
    assert_int_equal(kbs_agree_rsa_public(key)->n_len, 512);
    parts[0] = member_of(jwe, "encrypted_key");
    parts[1] = member_of(jwe, "iv");
    parts[2] = member_of(jwe, "ciphertext");
    parts[3] = member_of(jwe, "tag");
    assert_int_equal(
        kbs_agree_oaep_decrypt(key, KBS_TEE_ALG_RSA_OAEP, kbs_buf_span(&parts[0]), &cek, &err), 0);
    assert_int_equal(kbs_agree_gcm_open(kbs_secret_span(cek), parts[1].p,
                                        kbs_span_str(text_of(jwe, "protected")),
                                        kbs_buf_span(&parts[2]), parts[3].p, plain, &err),
                     0);
    assert_memory_equal(plain, text_of(input, "plaintext"), parts[2].len);
    for (size_t i = 0; i < 4; i++) {
        kbs_buf_deinit(&parts[i]);
    }
    kbs_secret_free(cek);
    kbs_buf_deinit(&pem);
    kbs_agree_rsa_free(key);
    json_decref(doc);
}

/* Section 5.13: of three recipients the first, by RSA1_5. */
static void rfc7520_rsa1_5(void **state)
{
    json_t *doc = vector("jose-cookbook/5_13.encrypting_to_multiple_recipients.json");
    struct kbs_agree_rsa *key = NULL;
    struct kbs_secret *cek = NULL;
    struct kbs_buf pem;
    struct kbs_buf wrapped;
    struct kbs_buf expected;

    (void)state;
    if (doc == NULL) {
        skip();
    }
    rsa_jwk_pem(&pem, json_array_get(json_object_get(json_object_get(doc, "input"), "key"), 0));
    assert_int_equal(kbs_agree_rsa_from_pem(kbs_buf_span(&pem), &key, &err), 0);
    wrapped = member_of(json_array_get(json_object_get(doc, "encrypting_key"), 0), "encrypted_key");
    expected = member_of(json_object_get(doc, "generated"), "cek");
    assert_int_equal(
        kbs_agree_rsa1_5_decrypt(key, kbs_buf_span(&wrapped), expected.len, &cek, &err), 0);
    assert_memory_equal(kbs_secret_bytes(cek), expected.p, expected.len);
    kbs_secret_free(cek);
    kbs_buf_deinit(&expected);
    kbs_buf_deinit(&wrapped);
    kbs_buf_deinit(&pem);
    kbs_agree_rsa_free(key);
    json_decref(doc);
}

/* Last, and a test because cmocka's exit status knows nothing of a failed teardown. */
static void no_secret_is_left(void **state)
{
    (void)state;
    assert_int_equal(CRYPTO_secure_used(), heap_at_rest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc7518_appendix_c),
        cmocka_unit_test(generated_keys_agree_on_every_curve),
        cmocka_unit_test(scalars_are_on_the_secure_heap),
        cmocka_unit_test(bad_peers_are_refused),
        cmocka_unit_test(bad_pem_is_refused),
        cmocka_unit_test(pem_with_foreign_public_key_is_refused),
        cmocka_unit_test(rfc5869),
        cmocka_unit_test(kdfs_refuse_no_secret),
        cmocka_unit_test(rfc3394),
        cmocka_unit_test(wrap_lengths),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(kcv),
        cmocka_unit_test(kcv_by_cmac),
        cmocka_unit_test(oaep_round_trips),
        cmocka_unit_test(rsa1_5_round_trips),
        cmocka_unit_test(oaep_hashes_are_not_mixed),
        cmocka_unit_test(rsa_pem_goes_round),
        cmocka_unit_test(known_keys_are_sound),
        cmocka_unit_test(rsa_sizes_are_bounded),
        cmocka_unit_test(gcm_refuses_what_was_changed),
        cmocka_unit_test(wycheproof_aes_wrap),
        cmocka_unit_test(wycheproof_hkdf),
        cmocka_unit_test(wycheproof_ecdh_p256),
        cmocka_unit_test(wycheproof_ecdh_p384),
        cmocka_unit_test(wycheproof_oaep),
        cmocka_unit_test(wycheproof_gcm),
        cmocka_unit_test(rfc7520_rsa_oaep),
        cmocka_unit_test(rfc7520_rsa1_5),
        cmocka_unit_test(no_secret_is_left),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
