/*
 * The mock itself: a campaign on a token that is wrong proves nothing. Its cryptography is compared
 * with published vectors and with software that shares no code with it (src/agree, OpenSSL called
 * from here); its policy with what PKCS#11 2.40 says; its profiles, lies, scripts and PIN counter
 * with what tests/mock/README.md says.
 */
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agree/agree.h"
#include "base/digest.h"
#include "hsm/module.h"
#include "hsm/object.h"
#include "mock.h"

#define PIN "1234-geheim"
#define SO_PIN "officer-4711"

/* A folder, its configuration, and the module opened on it. */
struct scene {
    char folder[64];
    char conf[80];
    struct kbs_token t;
};

static CK_BBOOL yes = CK_TRUE;
static CK_BBOOL no = CK_FALSE;

static void put_file(const char *path, const char *mode, const char *text)
{
    FILE *f = fopen(path, mode);

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void script(const struct scene *s, const char *text)
{
    static unsigned int number;
    char path[96];
    char fresh[96];
    char all[512];

    (void)snprintf(path, sizeof(path), "%s/script", s->folder);
    (void)snprintf(fresh, sizeof(fresh), "%s/script.new", s->folder);
    (void)snprintf(all, sizeof(all), "%s\n# %u\n", text, number++);
    put_file(fresh, "we", all);
    assert_int_equal(rename(fresh, path), 0);
}

static void scene_load(struct scene *s)
{
    struct kbs_error err = KBS_ERROR_NONE;
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/tests/bin/libkbs-mock-p11.so", getenv("KBS_BUILD_DIR"));
    (void)setenv("KBS_MOCK_CONF", s->conf, 1);
    s->t = KBS_TOKEN_NULL;
    if (kbs_token_load(&s->t, path, NULL, &err) != 0) {
        fail_msg("%s", err.detail);
    }
}

static void scene_login(struct scene *s)
{
    KBS_AUTO_SECRET pin = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_secret_new(sizeof(PIN) - 1, &pin, &err), 0);
    memcpy(kbs_secret_bytes(pin), PIN, sizeof(PIN) - 1);
    if (kbs_token_find(&s->t, "pkcs11:token=mock", &err) != 0 ||
        kbs_token_login(&s->t, pin, &err) != 0) {
        fail_msg("%s", err.detail);
    }
}

/* A token with PINs, logged in. `line`: of its configuration. */
static void scene_open(struct scene *s, const char *line)
{
    KBS_AUTO_SECRET pin = NULL;
    KBS_AUTO_SECRET so = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    char text[256];

    (void)snprintf(s->folder, sizeof(s->folder), "/tmp/kbs-mock-test-XXXXXX");
    assert_non_null(mkdtemp(s->folder));
    (void)snprintf(s->conf, sizeof(s->conf), "%s/conf", s->folder);
    (void)snprintf(text, sizeof(text), "folder = %s\n%s\n", s->folder, line);
    put_file(s->conf, "we", text);
    assert_int_equal(kbs_secret_new(sizeof(PIN) - 1, &pin, &err), 0);
    memcpy(kbs_secret_bytes(pin), PIN, sizeof(PIN) - 1);
    assert_int_equal(kbs_secret_new(sizeof(SO_PIN) - 1, &so, &err), 0);
    memcpy(kbs_secret_bytes(so), SO_PIN, sizeof(SO_PIN) - 1);
    scene_load(s);
    if (kbs_token_provision(&s->t, "pkcs11:token=mock", so, pin, &err) != 0) {
        fail_msg("%s", err.detail);
    }
    scene_login(s);
}

static void scene_close(struct scene *s)
{
    static const char *const names[] = {"conf", "journal", "calls", "script"};
    char path[96];

    kbs_token_close(&s->t);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", s->folder, names[i]);
        (void)unlink(path);
    }
    assert_int_equal(rmdir(s->folder), 0);
}

/* ---- keys ---- */

/* A readable secret key that may do everything. */
static CK_OBJECT_HANDLE create(struct scene *s, CK_KEY_TYPE type, const void *value, size_t len)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_OBJECT_HANDLE ret = 0;
    CK_ATTRIBUTE a[] = {{CKA_CLASS, &class, sizeof(class)},
                        {CKA_KEY_TYPE, &type, sizeof(type)},
                        {CKA_VALUE, kbs_p11_in(value), len},
                        {CKA_EXTRACTABLE, &yes, 1},
                        {CKA_WRAP, &yes, 1},
                        {CKA_UNWRAP, &yes, 1},
                        {CKA_DERIVE, &yes, 1},
                        {CKA_ENCRYPT, &yes, 1},
                        {CKA_DECRYPT, &yes, 1},
                        {CKA_SIGN, &yes, 1},
                        {CKA_VERIFY, &yes, 1}};

    assert_int_equal(s->t.f->C_CreateObject(s->t.session, a, 11, &ret), CKR_OK);
    return ret;
}

/* A readable template for what is derived or unwrapped. */
static CK_ULONG readable(CK_ATTRIBUTE a[5], CK_KEY_TYPE *type, CK_ULONG *len)
{
    a[0] = (CK_ATTRIBUTE){CKA_KEY_TYPE, type, sizeof(*type)};
    a[1] = (CK_ATTRIBUTE){CKA_EXTRACTABLE, &yes, 1};
    a[2] = (CK_ATTRIBUTE){CKA_SENSITIVE, &no, 1};
    a[3] = (CK_ATTRIBUTE){CKA_VALUE_LEN, len, sizeof(*len)};
    return len != NULL ? 4 : 3;
}

static CK_RV derive(struct scene *s, CK_MECHANISM_TYPE type, void *params, size_t n,
                    CK_OBJECT_HANDLE base, CK_KEY_TYPE key, CK_ULONG len, CK_OBJECT_HANDLE *ret)
{
    CK_MECHANISM m = {type, params, n};
    CK_ATTRIBUTE a[5];

    return s->t.f->C_DeriveKey(s->t.session, &m, base, a, readable(a, &key, &len), ret);
}

static void assert_value(struct scene *s, CK_OBJECT_HANDLE key, const void *wanted, size_t len)
{
    uint8_t value[512];
    CK_ATTRIBUTE a = {CKA_VALUE, value, sizeof(value)};

    assert_int_equal(s->t.f->C_GetAttributeValue(s->t.session, key, &a, 1), CKR_OK);
    assert_int_equal(a.ulValueLen, len);
    assert_memory_equal(value, wanted, len);
}

static CK_OBJECT_HANDLE ec_pair(struct scene *s, enum kbs_curve curve, struct kbs_ec_public *ret)
{
    struct kbs_template pub = {.n = 0};
    struct kbs_template priv = {.n = 0};
    CK_MECHANISM m = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_OBJECT_HANDLE handles[2] = {0, 0};
    struct kbs_error err = KBS_ERROR_NONE;

    kbs_template_ec_pair(&pub, &priv, curve, false, KBS_USAGE_DERIVE | KBS_USAGE_SIGN);
    assert_int_equal(s->t.f->C_GenerateKeyPair(s->t.session, &m, pub.a, pub.n, priv.a, priv.n,
                                               &handles[0], &handles[1]),
                     CKR_OK);
    assert_int_equal(kbs_object_ec_point(&s->t, handles[0], curve, ret, &err), 0);
    assert_int_equal(kbs_ec_public_check(ret, &err), 0);
    return handles[1];
}

/* ---- cryptography ---- */

/* ECDH with every KDF, on every curve, against src/agree and SHA-256 by hand. */
static void test_ecdh_kdfs(void **state)
{
    static const enum kbs_curve curves[] = {KBS_CURVE_P256, KBS_CURVE_P384, KBS_CURVE_P521};
    static uint8_t info[] = "shared info of some length, to be hashed";
    struct kbs_error err = KBS_ERROR_NONE;
    struct scene s;

    (void)state;
    scene_open(&s, "profile = all");
    for (size_t i = 0; i < 3; i++) {
        KBS_AUTO_SECRET z = NULL;
        KBS_AUTO_SECRET kek = NULL;
        struct kbs_agree_key *peer = NULL;
        struct kbs_ec_public token_key = {.curve = curves[i]};
        CK_OBJECT_HANDLE priv = ec_pair(&s, curves[i], &token_key);
        CK_OBJECT_HANDLE got = 0;
        uint8_t point[KBS_EC_POINT_MAX_BYTES];
        CK_ECDH1_DERIVE_PARAMS p = {CKD_NULL, 0, NULL, 0, point};
        size_t field = kbs_curve_field_bytes(curves[i]);
        uint8_t text[66 + 4 + sizeof(info)];
        uint8_t digest[32];

        assert_int_equal(kbs_agree_key_generate(curves[i], &peer, &err), 0);
        CK_ULONG point_len = kbs_ec_point_put(kbs_agree_key_public(peer), point);
        p = (CK_ECDH1_DERIVE_PARAMS){CKD_NULL, 0, NULL, point_len, point};
        assert_int_equal(kbs_agree_ecdh(peer, &token_key, &z, &err), 0);
        assert_int_equal(
            derive(&s, CKM_ECDH1_DERIVE, &p, sizeof(p), priv, CKK_GENERIC_SECRET, field, &got),
            CKR_OK);
        assert_value(&s, got, kbs_secret_bytes(z), field);

        p = (CK_ECDH1_DERIVE_PARAMS){CKD_SHA256_KDF_SP800, sizeof(info), info, point_len, point};
        assert_int_equal(derive(&s, CKM_ECDH1_DERIVE, &p, sizeof(p), priv, CKK_AES, 32, &got),
                         CKR_OK);
        assert_int_equal(
            kbs_agree_concat_kdf(kbs_secret_span(z), kbs_span(info, sizeof(info)), &kek, &err), 0);
        assert_value(&s, got, kbs_secret_bytes(kek), 32);

        p = (CK_ECDH1_DERIVE_PARAMS){CKD_SHA256_KDF, sizeof(info), info, point_len, point};
        assert_int_equal(derive(&s, CKM_ECDH1_DERIVE, &p, sizeof(p), priv, CKK_AES, 32, &got),
                         CKR_OK);
        memcpy(text, kbs_secret_bytes(z), field); /* X9.63: Z, counter, info */
        memcpy(text + field, "\0\0\0\1", 4);
        memcpy(text + field + 4, info, sizeof(info));
        kbs_sha256(kbs_span(text, field + 4 + sizeof(info)), digest);
        assert_value(&s, got, digest, 32);

        p = (CK_ECDH1_DERIVE_PARAMS){MOCK_CKD_LUNA, sizeof(info), info, point_len, point};
        assert_int_equal(derive(&s, CKM_ECDH1_DERIVE, &p, sizeof(p), priv, CKK_AES, 32, &got),
                         CKR_MECHANISM_PARAM_INVALID); /* not on this profile */
        point[5] ^= 1;
        p = (CK_ECDH1_DERIVE_PARAMS){CKD_NULL, 0, NULL, point_len, point};
        assert_int_equal(
            derive(&s, CKM_ECDH1_DERIVE, &p, sizeof(p), priv, CKK_GENERIC_SECRET, field, &got),
            CKR_MECHANISM_PARAM_INVALID); /* not on the curve */
        (void)kbs_agree_key_free(peer);
    }
    scene_close(&s);
}

static void test_derivations(void **state)
{
    /* SP 800-38A F.2.1 */
    static const uint8_t key[16] = {0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6,
                                    0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c};
    static uint8_t block[16] = {0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96,
                                0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93, 0x17, 0x2a};
    static const uint8_t cbc[16] = {0x76, 0x49, 0xab, 0xac, 0x81, 0x19, 0xb2, 0x46,
                                    0xce, 0xe9, 0x8e, 0x9b, 0x12, 0xe9, 0x19, 0x7d};
    static uint8_t salt[] = "salt";
    static uint8_t info[] = "info";
    CK_KEY_DERIVATION_STRING_DATA string = {block, sizeof(block)};
    CK_AES_CBC_ENCRYPT_DATA_PARAMS cbc_params = {{0}, block, sizeof(block)};
    CK_HKDF_PARAMS hkdf = {CK_TRUE, CK_TRUE, CKM_SHA256, CKF_HKDF_SALT_DATA, salt, 4, 0, info, 4};
    KBS_AUTO_SECRET kek = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE base;
    CK_OBJECT_HANDLE got = 0;
    uint8_t both[32];
    uint8_t digest[32];
    struct scene s;

    (void)state;
    scene_open(&s, "profile = all");
    base = create(&s, CKK_AES, key, 16);
    for (uint8_t i = 0; i < 16; i++) {
        cbc_params.iv[i] = i;
    }
    assert_int_equal(derive(&s, CKM_AES_CBC_ENCRYPT_DATA, &cbc_params, sizeof(cbc_params), base,
                            CKK_AES, 16, &got),
                     CKR_OK);
    assert_value(&s, got, cbc, 16);
    assert_int_equal(derive(&s, CKM_CONCATENATE_BASE_AND_DATA, &string, sizeof(string), base,
                            CKK_GENERIC_SECRET, 32, &got),
                     CKR_OK);
    memcpy(both, key, 16);
    memcpy(both + 16, block, 16);
    assert_value(&s, got, both, 32);
    assert_int_equal(derive(&s, CKM_SHA256_KEY_DERIVATION, NULL, 0, got, CKK_AES, 32, &got),
                     CKR_KEY_FUNCTION_NOT_PERMITTED); /* its template did not ask for it */
    base = create(&s, CKK_GENERIC_SECRET, both, 32);
    assert_int_equal(derive(&s, CKM_SHA256_KEY_DERIVATION, NULL, 0, base, CKK_AES, 32, &got),
                     CKR_OK);
    kbs_sha256(kbs_span(both, 32), digest);
    assert_value(&s, got, digest, 32);
    assert_int_equal(derive(&s, CKM_CONCATENATE_DATA_AND_BASE, &string, sizeof(string), base,
                            CKK_GENERIC_SECRET, 48, &got),
                     CKR_OK);
    assert_int_equal(derive(&s, CKM_HKDF_DERIVE, &hkdf, sizeof(hkdf), base, CKK_AES, 32, &got),
                     CKR_OK);
    assert_int_equal(
        kbs_agree_hkdf(kbs_span(both, 32), kbs_span(salt, 4), kbs_span(info, 4), &kek, &err), 0);
    assert_value(&s, got, kbs_secret_bytes(kek), 32);
    scene_close(&s);
}

/* RFC 4493 section 4, example 2; and the digest of a key with bytes around it. */
static void test_macs_and_digests(void **state)
{
    static const uint8_t key[16] = {0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6,
                                    0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c};
    static uint8_t block[16] = {0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96,
                                0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93, 0x17, 0x2a};
    static const uint8_t cmac[16] = {0x07, 0x0a, 0x16, 0xb4, 0x6b, 0x4d, 0x41, 0x44,
                                     0xf7, 0x9b, 0xdd, 0x9d, 0xd0, 0x4a, 0x28, 0x7c};
    CK_MECHANISM m = {CKM_AES_CMAC, NULL, 0};
    CK_MECHANISM sha = {CKM_SHA256, NULL, 0};
    CK_OBJECT_HANDLE base;
    uint8_t out[64];
    uint8_t text[17 + 16];
    uint8_t digest[32];
    CK_ULONG len = sizeof(out);
    struct scene s;

    (void)state;
    scene_open(&s, "profile = all");
    base = create(&s, CKK_AES, key, 16);
    assert_int_equal(s.t.f->C_SignInit(s.t.session, &m, base), CKR_OK);
    assert_int_equal(s.t.f->C_Sign(s.t.session, block, 16, NULL, &len), CKR_OK);
    assert_int_equal(len, 16);
    assert_int_equal(s.t.f->C_Sign(s.t.session, block, 16, out, &len), CKR_OK);
    assert_memory_equal(out, cmac, 16);
    assert_int_equal(s.t.f->C_Sign(s.t.session, block, 16, out, &len),
                     CKR_OPERATION_NOT_INITIALIZED);
    assert_int_equal(s.t.f->C_VerifyInit(s.t.session, &m, base), CKR_OK);
    assert_int_equal(s.t.f->C_Verify(s.t.session, block, 16, out, 16), CKR_OK);
    out[0] ^= 1;
    assert_int_equal(s.t.f->C_VerifyInit(s.t.session, &m, base), CKR_OK);
    assert_int_equal(s.t.f->C_Verify(s.t.session, block, 16, out, 16), CKR_SIGNATURE_INVALID);

    text[0] = 'a';
    memcpy(text + 1, key, 16);
    memcpy(text + 17, block, 16);
    kbs_sha256(kbs_span(text, sizeof(text)), digest);
    len = sizeof(out);
    assert_int_equal(s.t.f->C_DigestInit(s.t.session, &sha), CKR_OK);
    assert_int_equal(s.t.f->C_DigestUpdate(s.t.session, text, 1), CKR_OK);
    assert_int_equal(s.t.f->C_DigestKey(s.t.session, base), CKR_OK);
    assert_int_equal(s.t.f->C_DigestUpdate(s.t.session, block, 16), CKR_OK);
    assert_int_equal(s.t.f->C_DigestFinal(s.t.session, out, &len), CKR_OK);
    assert_memory_equal(out, digest, 32);
    scene_close(&s);
}

static void test_signatures(void **state)
{
    static uint8_t text[] = "to be signed";
    CK_MECHANISM m = {CKM_ECDSA_SHA256, NULL, 0};
    struct kbs_ec_public pub;
    CK_OBJECT_HANDLE priv;
    uint8_t digest[32];
    uint8_t rs[64];
    CK_ULONG len = sizeof(rs);
    struct scene s;

    (void)state;
    scene_open(&s, "profile = all");
    priv = ec_pair(&s, KBS_CURVE_P256, &pub);
    assert_int_equal(s.t.f->C_SignInit(s.t.session, &m, priv), CKR_OK);
    assert_int_equal(s.t.f->C_Sign(s.t.session, text, sizeof(text), rs, &len), CKR_OK);
    kbs_sha256(kbs_span(text, sizeof(text)), digest);
    assert_true(kbs_ec_verify(&pub, digest, rs));
    m.mechanism = CKM_ECDSA;
    assert_int_equal(s.t.f->C_SignInit(s.t.session, &m, priv), CKR_OK);
    assert_int_equal(s.t.f->C_Sign(s.t.session, digest, sizeof(digest), rs, &len), CKR_OK);
    assert_true(kbs_ec_verify(&pub, digest, rs));
    scene_close(&s);
}

/* AES-KW and KWP, both ways, AES-KW with src/agree on the other side. */
static void test_key_wraps(void **state)
{
    static const CK_MECHANISM_TYPE kws[] = {CKM_AES_KEY_WRAP, CKM_AES_KEY_WRAP_KWP,
                                            CKM_AES_KEY_WRAP_PAD};
    uint8_t kek[32] = {1};
    uint8_t value[32] = {2};
    KBS_AUTO_SECRET opened = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE wrapping;
    CK_OBJECT_HANDLE key;
    CK_OBJECT_HANDLE got = 0;
    CK_KEY_TYPE aes = CKK_AES;
    CK_ATTRIBUTE a[5];
    CK_ULONG n = readable(a, &aes, NULL);
    uint8_t blob[128];
    struct scene s;

    (void)state;
    scene_open(&s, "profile = all");
    wrapping = create(&s, CKK_AES, kek, 32);
    key = create(&s, CKK_AES, value, 32);
    for (size_t i = 0; i < 3; i++) {
        CK_MECHANISM kw = {kws[i], NULL, 0};
        CK_ULONG len = sizeof(blob);

        assert_int_equal(s.t.f->C_WrapKey(s.t.session, &kw, wrapping, key, blob, &len), CKR_OK);
        assert_int_equal(len, 40);
        if (i == 0) {
            assert_int_equal(kbs_agree_unwrap(kbs_span(kek, 32), kbs_span(blob, 40), &opened, &err),
                             0);
            assert_memory_equal(kbs_secret_bytes(opened), value, 32);
        }
        assert_int_equal(s.t.f->C_UnwrapKey(s.t.session, &kw, wrapping, blob, len, a, n, &got),
                         CKR_OK);
        assert_value(&s, got, value, 32);
        blob[3] ^= 1;
        assert_int_equal(s.t.f->C_UnwrapKey(s.t.session, &kw, wrapping, blob, len, a, n, &got),
                         CKR_WRAPPED_KEY_INVALID);
    }
    scene_close(&s);
}

/* What the token sealed, opened by OpenSSL. */
static void assert_gcm_opens(const uint8_t kek[32], const uint8_t iv[12], const uint8_t aad[5],
                             uint8_t blob[48], const uint8_t value[32])
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    uint8_t plain[64];
    int n = 0;

    assert_int_equal(EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, kek, iv), 1);
    assert_int_equal(EVP_DecryptUpdate(ctx, NULL, &n, aad, 5), 1);
    assert_int_equal(EVP_DecryptUpdate(ctx, plain, &n, blob, 32), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, 16, blob + 32), 1);
    assert_int_equal(EVP_DecryptFinal_ex(ctx, plain + n, &n), 1);
    assert_memory_equal(plain, value, 32);
    EVP_CIPHER_CTX_free(ctx);
}

static void test_gcm(void **state)
{
    uint8_t kek[32] = {1};
    uint8_t value[32] = {2};
    uint8_t iv[12] = {3};
    uint8_t aad[5] = {4};
    CK_GCM_PARAMS gcm = {iv, 12, 96, aad, 5, 128};
    CK_MECHANISM m = {CKM_AES_GCM, &gcm, sizeof(gcm)};
    CK_OBJECT_HANDLE wrapping;
    CK_OBJECT_HANDLE key;
    CK_OBJECT_HANDLE got = 0;
    CK_KEY_TYPE aes = CKK_AES;
    CK_ATTRIBUTE a[5];
    CK_ULONG n = readable(a, &aes, NULL);
    uint8_t blob[128];
    uint8_t plain[64];
    CK_ULONG len = sizeof(blob);
    CK_ULONG plain_len = sizeof(plain);
    struct scene s;

    (void)state;
    scene_open(&s, "profile = all");
    wrapping = create(&s, CKK_AES, kek, 32);
    key = create(&s, CKK_AES, value, 32);
    assert_int_equal(s.t.f->C_WrapKey(s.t.session, &m, wrapping, key, blob, &len), CKR_OK);
    assert_int_equal(len, 48);
    assert_gcm_opens(kek, iv, aad, blob, value);
    assert_int_equal(s.t.f->C_UnwrapKey(s.t.session, &m, wrapping, blob, len, a, n, &got), CKR_OK);
    assert_value(&s, got, value, 32);
    blob[47] ^= 1;
    assert_int_equal(s.t.f->C_UnwrapKey(s.t.session, &m, wrapping, blob, len, a, n, &got),
                     CKR_WRAPPED_KEY_INVALID);
    len = sizeof(blob);
    assert_int_equal(s.t.f->C_EncryptInit(s.t.session, &m, wrapping), CKR_OK);
    assert_int_equal(s.t.f->C_Encrypt(s.t.session, value, 32, blob, &len), CKR_OK);
    assert_gcm_opens(kek, iv, aad, blob, value);
    assert_int_equal(s.t.f->C_DecryptInit(s.t.session, &m, wrapping), CKR_OK);
    assert_int_equal(s.t.f->C_Decrypt(s.t.session, blob, len, plain, &plain_len), CKR_OK);
    assert_int_equal(plain_len, 32);
    assert_memory_equal(plain, value, 32);
    scene_close(&s);
}

/* A token key wrapped to an RSA key of OpenSSL's, as a TEE would have one. */
static void wrap_to_openssl(struct scene *s, CK_ULONG hash, CK_ULONG mgf, const EVP_MD *md,
                            CK_OBJECT_HANDLE key, const uint8_t *value)
{
    CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    CK_KEY_TYPE rsa = CKK_RSA;
    EVP_PKEY *tee = EVP_RSA_gen(2048);
    EVP_PKEY_CTX *ctx;
    BIGNUM *bn = NULL;
    uint8_t modulus[256];
    uint8_t exponent[3] = {1, 0, 1};
    CK_RSA_PKCS_OAEP_PARAMS p = {hash, mgf, CKZ_DATA_SPECIFIED, NULL, 0};
    CK_MECHANISM m = {CKM_RSA_PKCS_OAEP, &p, sizeof(p)};
    CK_ATTRIBUTE a[] = {{CKA_CLASS, &class, sizeof(class)},
                        {CKA_KEY_TYPE, &rsa, sizeof(rsa)},
                        {CKA_MODULUS, modulus, sizeof(modulus)},
                        {CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent)},
                        {CKA_WRAP, &yes, 1}};
    CK_OBJECT_HANDLE public_key = 0;
    uint8_t blob[256];
    uint8_t out[256];
    CK_ULONG len = sizeof(blob);
    size_t out_len = sizeof(out);

    assert_int_equal(EVP_PKEY_get_bn_param(tee, OSSL_PKEY_PARAM_RSA_N, &bn), 1);
    assert_int_equal(BN_bn2binpad(bn, modulus, 256), 256);
    assert_int_equal(s->t.f->C_CreateObject(s->t.session, a, 5, &public_key), CKR_OK);
    assert_int_equal(s->t.f->C_WrapKey(s->t.session, &m, public_key, key, blob, &len), CKR_OK);
    ctx = EVP_PKEY_CTX_new(tee, NULL);
    assert_int_equal(EVP_PKEY_decrypt_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, md), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md), 1);
    assert_int_equal(EVP_PKEY_decrypt(ctx, out, &out_len, blob, len), 1);
    assert_int_equal(out_len, 32);
    assert_memory_equal(out, value, 32);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(tee);
    BN_free(bn);
}

static void test_oaep(void **state)
{
    uint8_t value[32] = {9};
    CK_ULONG bits = 2048;
    uint8_t exponent[3] = {1, 0, 1};
    CK_ATTRIBUTE pub[] = {{CKA_MODULUS_BITS, &bits, sizeof(bits)},
                          {CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent)},
                          {CKA_WRAP, &yes, 1}};
    CK_ATTRIBUTE priv[] = {{CKA_UNWRAP, &yes, 1}, {CKA_SENSITIVE, &yes, 1}};
    CK_MECHANISM generate = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};
    CK_RSA_PKCS_OAEP_PARAMS p = {CKM_SHA256, CKG_MGF1_SHA256, CKZ_DATA_SPECIFIED, NULL, 0};
    CK_MECHANISM m = {CKM_RSA_PKCS_OAEP, &p, sizeof(p)};
    CK_OBJECT_HANDLE pair[2] = {0, 0};
    CK_OBJECT_HANDLE key;
    CK_OBJECT_HANDLE got = 0;
    CK_KEY_TYPE aes = CKK_AES;
    CK_ATTRIBUTE a[5];
    CK_ULONG n = readable(a, &aes, NULL);
    uint8_t blob[256];
    CK_ULONG len = sizeof(blob);
    struct scene s;

    (void)state;
    scene_open(&s, "profile = all");
    key = create(&s, CKK_AES, value, 32);
    wrap_to_openssl(&s, CKM_SHA_1, CKG_MGF1_SHA1, EVP_sha1(), key, value);
    wrap_to_openssl(&s, CKM_SHA256, CKG_MGF1_SHA256, EVP_sha256(), key, value);
    assert_int_equal(
        s.t.f->C_GenerateKeyPair(s.t.session, &generate, pub, 3, priv, 2, &pair[0], &pair[1]),
        CKR_OK);
    assert_int_equal(s.t.f->C_WrapKey(s.t.session, &m, pair[0], key, blob, &len), CKR_OK);
    assert_int_equal(s.t.f->C_UnwrapKey(s.t.session, &m, pair[1], blob, len, a, n, &got), CKR_OK);
    assert_value(&s, got, value, 32);
    scene_close(&s);
}

/* ---- policy ---- */

static void test_policy(void **state)
{
    uint8_t value[32] = {1};
    struct kbs_template sealed = {.n = 0};
    struct kbs_template incomplete = {.n = 0};
    CK_MECHANISM generate = {CKM_AES_KEY_GEN, NULL, 0};
    CK_MECHANISM kw = {CKM_AES_KEY_WRAP, NULL, 0};
    CK_OBJECT_HANDLE all;
    CK_OBJECT_HANDLE key = 0;
    CK_BBOOL flags[3] = {2, 2, 2};
    uint8_t check[3];
    CK_ATTRIBUTE history[] = {{CKA_ALWAYS_SENSITIVE, &flags[0], 1},
                              {CKA_NEVER_EXTRACTABLE, &flags[1], 1},
                              {CKA_LOCAL, &flags[2], 1},
                              {CKA_CHECK_VALUE, check, sizeof(check)}};
    CK_ATTRIBUTE read = {CKA_VALUE, value, sizeof(value)};
    CK_ATTRIBUTE unseal = {CKA_SENSITIVE, &no, 1};
    CK_ATTRIBUTE label = {CKA_LABEL, value, 4};
    CK_ATTRIBUTE unknown = {CKA_VENDOR_DEFINED | 5, value, 4};
    uint8_t blob[64];
    CK_ULONG len = sizeof(blob);
    struct scene s;

    (void)state;
    scene_open(&s, "profile = all");
    all = create(&s, CKK_AES, value, 32);
    kbs_template_secret_key(&sealed, CKK_AES, true, false, KBS_USAGE_NONE);
    kbs_template_bool(&sealed, CKA_MODIFIABLE, false);
    incomplete = sealed;
    assert_int_equal(s.t.f->C_GenerateKey(s.t.session, &generate, incomplete.a, incomplete.n, &key),
                     CKR_TEMPLATE_INCOMPLETE);
    kbs_template_number(&sealed, CKA_VALUE_LEN, 32);
    assert_int_equal(s.t.f->C_GenerateKey(s.t.session, &generate, sealed.a, sealed.n, &key),
                     CKR_OK);
    assert_int_equal(s.t.f->C_GetAttributeValue(s.t.session, key, history, 4), CKR_OK);
    assert_int_equal(flags[0] + flags[1] + flags[2], 3);
    assert_int_equal(s.t.f->C_GetAttributeValue(s.t.session, key, &read, 1),
                     CKR_ATTRIBUTE_SENSITIVE);
    read.ulValueLen = sizeof(value);
    assert_int_equal(s.t.f->C_WrapKey(s.t.session, &kw, all, key, blob, &len),
                     CKR_KEY_UNEXTRACTABLE);
    assert_int_equal(s.t.f->C_WrapKey(s.t.session, &kw, key, all, blob, &len),
                     CKR_KEY_FUNCTION_NOT_PERMITTED);
    assert_int_equal(s.t.f->C_SetAttributeValue(s.t.session, key, &label, 1),
                     CKR_ACTION_PROHIBITED);
    assert_int_equal(s.t.f->C_SetAttributeValue(s.t.session, all, &label, 1), CKR_OK);
    assert_int_equal(s.t.f->C_SetAttributeValue(s.t.session, all, &unknown, 1),
                     CKR_ATTRIBUTE_TYPE_INVALID);
    unseal.pValue = &yes;
    assert_int_equal(s.t.f->C_SetAttributeValue(s.t.session, all, &unseal, 1), CKR_OK);
    unseal.pValue = &no;
    assert_int_equal(s.t.f->C_SetAttributeValue(s.t.session, all, &unseal, 1),
                     CKR_ATTRIBUTE_READ_ONLY);
    assert_int_equal(s.t.f->C_CopyObject(s.t.session, all, &unseal, 1, &key),
                     CKR_ATTRIBUTE_READ_ONLY);
    assert_int_equal(s.t.f->C_CopyObject(s.t.session, all, &label, 1, &key), CKR_OK);
    assert_int_equal(s.t.f->C_DestroyObject(s.t.session, all), CKR_OK);
    assert_int_equal(s.t.f->C_DestroyObject(s.t.session, all), CKR_OBJECT_HANDLE_INVALID);
    scene_close(&s);
}

/* ---- configuration ---- */

static void test_profiles(void **state)
{
    static uint8_t info[] = "info";
    uint8_t value[32] = {7};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_agree_key *peer = NULL;
    struct kbs_ec_public pub;
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE aes = CKK_AES;
    CK_ATTRIBUTE import[] = {{CKA_CLASS, &class, sizeof(class)},
                             {CKA_KEY_TYPE, &aes, sizeof(aes)},
                             {CKA_VALUE, value, sizeof(value)}};
    CK_OBJECT_HANDLE priv;
    CK_OBJECT_HANDLE got = 0;
    CK_MECHANISM_INFO mechanism;
    struct scene s;

    (void)state;
    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &peer, &err), 0);
    CK_ULONG point_len = kbs_ec_point_put(kbs_agree_key_public(peer), point);
    CK_ECDH1_DERIVE_PARAMS luna = {MOCK_CKD_LUNA, sizeof(info), info, point_len, point};
    CK_ECDH1_DERIVE_PARAMS raw = {CKD_NULL, 0, NULL, point_len, point};

    scene_open(&s, "profile = luna\nmanufacturer = SafeNet\nmodel = Luna K7\nserial = 4711");
    assert_string_equal(s.t.manufacturer, "SafeNet");
    assert_string_equal(s.t.model, "Luna K7");
    assert_string_equal(s.t.serial, "4711");
    priv = ec_pair(&s, KBS_CURVE_P256, &pub);
    assert_int_equal(derive(&s, CKM_ECDH1_DERIVE, &luna, sizeof(luna), priv, CKK_AES, 32, &got),
                     CKR_OK);
    assert_int_equal(
        derive(&s, CKM_ECDH1_DERIVE, &raw, sizeof(raw), priv, CKK_GENERIC_SECRET, 32, &got),
        CKR_MECHANISM_PARAM_INVALID);
    assert_int_equal(s.t.f->C_GetMechanismInfo(s.t.slot, CKM_HKDF_DERIVE, &mechanism),
                     CKR_MECHANISM_INVALID);
    scene_close(&s);

    scene_open(&s, "profile = softhsm fips3\nwithout = CKM_SHA256_HMAC");
    assert_int_equal(s.t.f->C_CreateObject(s.t.session, import, 3, &got), CKR_ACTION_PROHIBITED);
    assert_int_equal(s.t.f->C_GetMechanismInfo(s.t.slot, CKM_SHA256_HMAC, &mechanism),
                     CKR_MECHANISM_INVALID);
    assert_int_equal(s.t.f->C_GetMechanismInfo(s.t.slot, CKM_AES_GCM, &mechanism),
                     CKR_MECHANISM_INVALID);
    assert_int_equal(s.t.f->C_GetMechanismInfo(s.t.slot, CKM_AES_KEY_WRAP, &mechanism), CKR_OK);
    scene_close(&s);
    (void)kbs_agree_key_free(peer);
}

static void test_lies(void **state)
{
    uint8_t kek[32] = {1};
    uint8_t odd[20] = {2};
    CK_MECHANISM kw = {CKM_AES_KEY_WRAP, NULL, 0};
    struct kbs_template sealed = {.n = 0};
    CK_OBJECT_HANDLE wrapping;
    CK_OBJECT_HANDLE key;
    CK_OBJECT_HANDLE got = 0;
    uint8_t blob[64];
    uint8_t padded[24] = {2};
    CK_ULONG len = sizeof(blob);
    struct scene s;

    (void)state;
    kbs_template_secret_key(&sealed, CKK_GENERIC_SECRET, false, false, KBS_USAGE_NONE);
    scene_open(&s, "profile = all");
    wrapping = create(&s, CKK_AES, kek, 32);
    key = create(&s, CKK_GENERIC_SECRET, odd, sizeof(odd));
    assert_int_equal(s.t.f->C_WrapKey(s.t.session, &kw, wrapping, key, blob, &len),
                     CKR_KEY_SIZE_RANGE);
    scene_close(&s);

    scene_open(&s, "lies = zero-pad unwrap-readable");
    wrapping = create(&s, CKK_AES, kek, 32);
    key = create(&s, CKK_GENERIC_SECRET, odd, sizeof(odd));
    len = sizeof(blob);
    assert_int_equal(s.t.f->C_WrapKey(s.t.session, &kw, wrapping, key, blob, &len), CKR_OK);
    assert_int_equal(len, 32);
    assert_int_equal(
        s.t.f->C_UnwrapKey(s.t.session, &kw, wrapping, blob, len, sealed.a, sealed.n, &got),
        CKR_OK);
    assert_value(&s, got, padded, sizeof(padded)); /* which was to be sensitive */
    scene_close(&s);
}

static CK_RV login(struct scene *s, const char *pin)
{
    return s->t.f->C_Login(s->t.session, CKU_USER, kbs_p11_in(pin), strlen(pin));
}

static void test_pin_counter(void **state)
{
    CK_TOKEN_INFO info;
    struct kbs_error err = KBS_ERROR_NONE;
    struct scene s;

    (void)state;
    scene_open(&s, "pin_tries = 3");
    assert_int_equal(s.t.f->C_Logout(s.t.session), CKR_OK);
    assert_int_equal(login(&s, "wrong"), CKR_PIN_INCORRECT);
    assert_int_equal(login(&s, PIN), CKR_OK); /* forgets the failure */
    assert_int_equal(login(&s, PIN), CKR_USER_ALREADY_LOGGED_IN);
    assert_int_equal(s.t.f->C_Logout(s.t.session), CKR_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(login(&s, "wrong"), CKR_PIN_INCORRECT);
        assert_int_equal(s.t.f->C_GetTokenInfo(s.t.slot, &info), CKR_OK);
        assert_true((info.flags & CKF_USER_PIN_COUNT_LOW) != 0);
        assert_int_equal((info.flags & CKF_USER_PIN_FINAL_TRY) != 0, i == 1);
        assert_int_equal((info.flags & CKF_USER_PIN_LOCKED) != 0, i == 2);
    }
    assert_int_equal(login(&s, PIN), CKR_PIN_LOCKED);
    kbs_token_close(&s.t); /* and a new start does not help */
    scene_load(&s);
    assert_int_equal(kbs_token_find(&s.t, "pkcs11:token=mock", &err), 0);
    assert_int_equal(s.t.f->C_OpenSession(s.t.slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                                          &s.t.session),
                     CKR_OK);
    assert_int_equal(login(&s, PIN), CKR_PIN_LOCKED);
    scene_close(&s);
}

/* ---- scripts ---- */

static CK_RV some_random(struct scene *s)
{
    uint8_t bytes[8];

    return s->t.f->C_GenerateRandom(s->t.session, bytes, sizeof(bytes));
}

static void assert_pattern(struct scene *s, const char *text, const char *pattern)
{
    script(s, text);
    for (const char *p = pattern; *p != '\0'; p++) {
        CK_RV rv = some_random(s);

        if (rv != (*p == 'x' ? CKR_DEVICE_ERROR : CKR_OK)) {
            fail_msg("%s: call %d of %s answers 0x%lx", text, (int)(p - pattern), pattern, rv);
        }
    }
}

static void test_scripts(void **state)
{
    struct timespec before;
    struct timespec after;
    uint8_t kek[32] = {1};
    uint8_t blobs[2][64];
    CK_MECHANISM kw = {CKM_AES_KEY_WRAP, NULL, 0};
    CK_OBJECT_HANDLE key;
    CK_ULONG len = 64;
    CK_ULONG n = 1;
    struct scene s;

    (void)state;
    scene_open(&s, "");
    assert_pattern(&s, "C_GenerateRandom rv CKR_DEVICE_ERROR", "xxx");
    assert_pattern(&s, "", "..");
    assert_pattern(&s, "C_GenerateRandom once rv CKR_DEVICE_ERROR", "x...");
    assert_pattern(&s, "C_GenerateRandom 3 rv 0x30", "..x..");
    assert_pattern(&s, "C_GenerateRandom nth 2 rv 0x30", ".x..");
    assert_pattern(&s, "* every 3 rv CKR_DEVICE_ERROR", "..x..x");
    assert_pattern(&s, "C_Sign always rv 0x5\nC_GenerateRandom always rv 0x30", "xx");
    script(&s, "C_GenerateRandom once delay 60");
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &before), 0);
    assert_int_equal(some_random(&s), CKR_OK);
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &after), 0);
    assert_true(
        (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 >= 59);

    script(&s, "");
    key = create(&s, CKK_AES, kek, 32);
    assert_int_equal(s.t.f->C_WrapKey(s.t.session, &kw, key, key, blobs[0], &len), CKR_OK);
    script(&s, "C_WrapKey once garble\nC_WrapKey nth 2 wrong-length");
    assert_int_equal(s.t.f->C_WrapKey(s.t.session, &kw, key, key, blobs[1], &len), CKR_OK);
    assert_memory_not_equal(blobs[0], blobs[1], 40);
    script(&s, "C_WrapKey once wrong-length");
    assert_int_equal(s.t.f->C_WrapKey(s.t.session, &kw, key, key, blobs[1], &len), CKR_OK);
    assert_int_equal(len, 39);

    script(&s, "C_GenerateRandom vanish");
    (void)some_random(&s);
    assert_int_equal(some_random(&s), CKR_DEVICE_REMOVED);
    assert_int_equal(s.t.f->C_GetSlotList(CK_TRUE, NULL, &n), CKR_OK);
    assert_int_equal(n, 0);
    script(&s, "");
    assert_int_equal(some_random(&s), CKR_OK);
    scene_close(&s);
}

/* ---- processes ---- */

#define WRITERS 4
#define KEYS_EACH 20

static void make_keys(struct scene *s, uint8_t id)
{
    struct kbs_template t = {.n = 0};
    CK_MECHANISM m = {CKM_AES_KEY_GEN, NULL, 0};
    CK_OBJECT_HANDLE key = 0;

    kbs_template_secret_key(&t, CKK_AES, true, false, KBS_USAGE_NONE);
    kbs_template_number(&t, CKA_VALUE_LEN, 32);
    kbs_template_bytes(&t, CKA_ID, kbs_span(&id, 1));
    for (int i = 0; i < KEYS_EACH; i++) {
        if (s->t.f->C_GenerateKey(s->t.session, &m, t.a, t.n, &key) != CKR_OK) {
            _exit(1);
        }
    }
}

static CK_ULONG count_keys(struct scene *s)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_ATTRIBUTE wanted = {CKA_CLASS, &class, sizeof(class)};
    CK_OBJECT_HANDLE found[WRITERS * KEYS_EACH + 1];
    CK_ULONG n = 0;

    assert_int_equal(s->t.f->C_FindObjectsInit(s->t.session, &wanted, 1), CKR_OK);
    assert_int_equal(
        s->t.f->C_FindObjects(s->t.session, found, sizeof(found) / sizeof(found[0]), &n), CKR_OK);
    assert_int_equal(s->t.f->C_FindObjectsFinal(s->t.session), CKR_OK);
    return n;
}

/* Several processes write at once, one of them into a tail that a killed one left: nothing is lost. */
static void test_processes_share_the_token(void **state)
{
    struct scene s;
    pid_t pids[WRITERS];
    char path[96];

    (void)state;
    scene_open(&s, "");
    (void)snprintf(path, sizeof(path), "%s/journal", s.folder);
    put_file(path, "ae", "10MK half a transaction");
    for (uint8_t i = 0; i < WRITERS; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            kbs_token_close(&s.t);
            scene_load(&s);
            scene_login(&s);
            make_keys(&s, i);
            _exit(0);
        }
    }
    for (size_t i = 0; i < WRITERS; i++) {
        int status = -1;

        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(count_keys(&s), WRITERS * KEYS_EACH);
    scene_close(&s);
}

static int group_setup(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    return kbs_secret_heap_init(&err) < 0 ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ecdh_kdfs),
        cmocka_unit_test(test_derivations),
        cmocka_unit_test(test_macs_and_digests),
        cmocka_unit_test(test_signatures),
        cmocka_unit_test(test_key_wraps),
        cmocka_unit_test(test_gcm),
        cmocka_unit_test(test_oaep),
        cmocka_unit_test(test_policy),
        cmocka_unit_test(test_profiles),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_pin_counter),
        cmocka_unit_test(test_scripts),
        cmocka_unit_test(test_processes_share_the_token),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
