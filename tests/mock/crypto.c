/*
 * The cryptography of the mock: real, by libcrypto, so that what it wraps opens in software and
 * what it signs verifies. Every function is bytes in, bytes out; handles, attributes and policy are
 * elsewhere. Key bytes pass through here in the clear: this is a test artefact and no token.
 */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/objects.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>

#include "mock.h"

/* ---- AES ---- */

static const EVP_CIPHER *aes(size_t key_len, const EVP_CIPHER *k16, const EVP_CIPHER *k24,
                             const EVP_CIPHER *k32)
{
    return key_len == 16 ? k16 : key_len == 24 ? k24 : key_len == 32 ? k32 : NULL;
}

static const EVP_CIPHER *kw_cipher(bool pad, size_t key_len)
{
    return pad ? aes(key_len, EVP_aes_128_wrap_pad(), EVP_aes_192_wrap_pad(),
                     EVP_aes_256_wrap_pad())
               : aes(key_len, EVP_aes_128_wrap(), EVP_aes_192_wrap(), EVP_aes_256_wrap());
}

static bool kw(bool seal, bool pad, const uint8_t *kek, size_t kek_len, const uint8_t *in, size_t n,
               uint8_t *out, size_t *len)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    const EVP_CIPHER *cipher = kw_cipher(pad, kek_len);
    int got = 0;
    int last = 0;
    bool ok = false;

    if (ctx != NULL && cipher != NULL && n <= MOCK_VALUE_MAX) {
        EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
        ok = EVP_CipherInit_ex(ctx, cipher, NULL, kek, NULL, seal ? 1 : 0) == 1 &&
             EVP_CipherUpdate(ctx, out, &got, in, (int)n) == 1 && got > 0 &&
             EVP_CipherFinal_ex(ctx, out + got, &last) == 1;
    }
    EVP_CIPHER_CTX_free(ctx);
    *len = ok ? (size_t)(got + last) : 0;
    return ok;
}

bool mock_kw(bool pad, const uint8_t *kek, size_t kek_len, const uint8_t *in, size_t n,
             uint8_t *out, size_t *len)
{
    return (pad || (n % 8 == 0 && n >= 16)) && kw(true, pad, kek, kek_len, in, n, out, len);
}

bool mock_kw_open(bool pad, const uint8_t *kek, size_t kek_len, const uint8_t *in, size_t n,
                  uint8_t *out, size_t *len)
{
    return n % 8 == 0 && n >= 16 && kw(false, pad, kek, kek_len, in, n, out, len);
}

bool mock_gcm(bool seal, const struct mock_active *p, const uint8_t *key, size_t key_len,
              const uint8_t *in, size_t n, uint8_t *out, size_t *len)
{
    const EVP_CIPHER *cipher =
        aes(key_len, EVP_aes_128_gcm(), EVP_aes_192_gcm(), EVP_aes_256_gcm());
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    size_t text = seal ? n : n - p->tag_len;
    uint8_t tag[16] = {0};
    int got = 0;
    int last = 0;
    bool ok = cipher != NULL && ctx != NULL && p->tag_len >= 12 && p->tag_len <= sizeof(tag) &&
              n >= (seal ? 0 : p->tag_len) && n <= MOCK_DATA_MAX &&
              EVP_CipherInit_ex(ctx, cipher, NULL, NULL, NULL, seal ? 1 : 0) == 1 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, (int)p->iv_len, NULL) == 1 &&
              EVP_CipherInit_ex(ctx, NULL, NULL, key, p->iv, seal ? 1 : 0) == 1;

    if (ok && !seal) {
        memcpy(tag, in + text, p->tag_len);
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, (int)p->tag_len, tag) == 1;
    }
    ok = ok &&
         (p->aad_len == 0 || EVP_CipherUpdate(ctx, NULL, &got, p->aad, (int)p->aad_len) == 1) &&
         EVP_CipherUpdate(ctx, out, &got, in, (int)text) == 1 &&
         EVP_CipherFinal_ex(ctx, out + got, &last) == 1;
    if (ok && seal) {
        ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, (int)p->tag_len, tag) == 1;
        memcpy(out + text, tag, p->tag_len);
    }
    EVP_CIPHER_CTX_free(ctx);
    *len = ok ? (seal ? n + p->tag_len : text) : 0;
    return ok;
}

bool mock_cbc(const uint8_t *key, size_t key_len, const uint8_t iv[16], const uint8_t *in, size_t n,
              uint8_t *out)
{
    const EVP_CIPHER *cipher =
        aes(key_len, EVP_aes_128_cbc(), EVP_aes_192_cbc(), EVP_aes_256_cbc());
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int got = 0;
    bool ok = ctx != NULL && cipher != NULL && n % 16 == 0 && n <= MOCK_VALUE_MAX &&
              EVP_EncryptInit_ex(ctx, cipher, NULL, key, iv) == 1 &&
              EVP_CIPHER_CTX_set_padding(ctx, 0) == 1 &&
              EVP_EncryptUpdate(ctx, out, &got, in, (int)n) == 1;

    EVP_CIPHER_CTX_free(ctx);
    return ok && (size_t)got == n;
}

bool mock_cmac(const uint8_t *key, size_t key_len, const uint8_t *in, size_t n, uint8_t out[16])
{
    char name[16] = "AES-256-CBC";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, name, 0),
                           OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "CMAC", NULL);
    EVP_MAC_CTX *ctx = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;
    size_t got = 0;

    memcpy(name + 4, key_len == 16 ? "128" : key_len == 24 ? "192" : "256", 3);
    bool ok = ctx != NULL && EVP_MAC_init(ctx, key, key_len, params) == 1 &&
              EVP_MAC_update(ctx, in, n) == 1 && EVP_MAC_final(ctx, out, &got, 16) == 1;
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return ok && got == 16;
}

/* ---- hashes and KDFs ---- */

bool mock_sha256(const uint8_t *in, size_t n, uint8_t out[32])
{
    return EVP_Digest(in, n, out, NULL, EVP_sha256(), NULL) == 1;
}

bool mock_hmac(const uint8_t *key, size_t key_len, const uint8_t *in, size_t n, uint8_t out[32])
{
    unsigned int len = 0;

    return key_len <= MOCK_VALUE_MAX &&
           HMAC(EVP_sha256(), key, (int)key_len, in, n, out, &len) != NULL && len == 32;
}

static bool kdf(const char *name, OSSL_PARAM *params, uint8_t *out, size_t len)
{
    EVP_KDF *method = EVP_KDF_fetch(NULL, name, NULL);
    EVP_KDF_CTX *ctx = method != NULL ? EVP_KDF_CTX_new(method) : NULL;
    bool ok = ctx != NULL && EVP_KDF_derive(ctx, out, len, params) == 1;

    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(method);
    return ok;
}

static OSSL_PARAM octets(const char *name, const uint8_t *p, size_t n)
{
    static uint8_t none;

    return OSSL_PARAM_construct_octet_string(name, n > 0 ? (void *)(uintptr_t)p : &none, n);
}

bool mock_kdf(const char *name, const uint8_t *z, size_t n, const uint8_t *info, size_t info_n,
              uint8_t *out, size_t len)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
                           octets(OSSL_KDF_PARAM_KEY, z, n),
                           octets(OSSL_KDF_PARAM_INFO, info, info_n), OSSL_PARAM_construct_end()};

    return kdf(name, params, out, len);
}

bool mock_hkdf(bool extract, bool expand, const uint8_t *key, size_t n, const uint8_t *salt,
               size_t salt_n, const uint8_t *info, size_t info_n, uint8_t *out, size_t len)
{
    char digest[] = "SHA256";
    int mode = extract && expand ? EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND
               : extract         ? EVP_KDF_HKDF_MODE_EXTRACT_ONLY
                                 : EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
                           octets(OSSL_KDF_PARAM_KEY, key, n),
                           octets(OSSL_KDF_PARAM_SALT, salt, salt_n),
                           octets(OSSL_KDF_PARAM_INFO, info, info_n),
                           OSSL_PARAM_construct_end()};

    return (extract || expand) && kdf("HKDF", params, out, len);
}

/* ---- elliptic curves ---- */

const char *mock_curve(const struct mock_attribute *params, size_t *ret_field)
{
    static const struct {
        const char *name;
        size_t field;
        size_t len;
        uint8_t oid[10]; /* DER */
    } curves[] = {
        {"prime256v1", 32, 10, {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}},
        {"secp384r1", 48, 7, {6, 5, 0x2b, 0x81, 4, 0, 0x22}},
        {"secp521r1", 66, 7, {6, 5, 0x2b, 0x81, 4, 0, 0x23}},
    };

    for (size_t i = 0; params != NULL && i < sizeof(curves) / sizeof(curves[0]); i++) {
        if (params->len == curves[i].len && memcmp(params->p, curves[i].oid, params->len) == 0) {
            *ret_field = curves[i].field;
            return curves[i].name;
        }
    }
    return NULL;
}

/* A key from a scalar and its point, or a public key from a point. */
static EVP_PKEY *ec_key(const char *group, const uint8_t *scalar, size_t field,
                        const uint8_t *point, size_t point_n)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *d = scalar != NULL ? BN_bin2bn(scalar, (int)field, NULL) : NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    OSSL_PARAM *params = NULL;
    EVP_PKEY *key = NULL;

    if (build != NULL && ctx != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, group, 0) == 1 &&
        (point == NULL ||
         OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, point_n) == 1) &&
        (d == NULL || OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, d) == 1)) {
        params = OSSL_PARAM_BLD_to_param(build);
    }
    if (params == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, scalar != NULL ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY,
                          params) != 1) {
        key = NULL;
    }
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    EVP_PKEY_CTX_free(ctx);
    BN_clear_free(d);
    return key;
}

bool mock_ec_new(const char *group, size_t field, uint8_t *point, uint8_t *scalar)
{
    EVP_PKEY *key = EVP_EC_gen(group);
    BIGNUM *d = NULL;
    size_t n = 0;
    bool ok = key != NULL &&
              EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * field,
                                              &n) == 1 &&
              n == 1 + 2 * field && EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d) == 1 &&
              BN_bn2binpad(d, scalar, (int)field) == (int)field;

    BN_clear_free(d);
    EVP_PKEY_free(key);
    return ok;
}

bool mock_ecdh(const char *group, size_t field, const uint8_t *scalar, const uint8_t *peer,
               size_t peer_n, uint8_t *z)
{
    EVP_PKEY *own = ec_key(group, scalar, field, NULL, 0);
    EVP_PKEY *other = ec_key(group, NULL, field, peer, peer_n);
    EVP_PKEY_CTX *ctx = own != NULL ? EVP_PKEY_CTX_new(own, NULL) : NULL;
    size_t n = field;
    bool ok = ctx != NULL && other != NULL && EVP_PKEY_derive_init(ctx) == 1 &&
              EVP_PKEY_derive_set_peer(ctx, other) == 1 && EVP_PKEY_derive(ctx, z, &n) == 1 &&
              n == field;

    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(own);
    EVP_PKEY_free(other);
    return ok;
}

bool mock_ecdsa(const char *group, size_t field, const uint8_t *scalar, const uint8_t *digest,
                size_t n, uint8_t *rs)
{
    EVP_PKEY *key = ec_key(group, scalar, field, NULL, 0);
    EVP_PKEY_CTX *ctx = key != NULL ? EVP_PKEY_CTX_new(key, NULL) : NULL;
    uint8_t der[256];
    const uint8_t *p = der;
    size_t len = sizeof(der);
    ECDSA_SIG *sig = NULL;
    bool ok = ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 &&
              EVP_PKEY_sign(ctx, der, &len, digest, n) == 1 &&
              (sig = d2i_ECDSA_SIG(NULL, &p, (long)len)) != NULL &&
              BN_bn2binpad(ECDSA_SIG_get0_r(sig), rs, (int)field) == (int)field &&
              BN_bn2binpad(ECDSA_SIG_get0_s(sig), rs + field, (int)field) == (int)field;

    ECDSA_SIG_free(sig);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    return ok;
}

bool mock_ecdsa_verify(const char *group, size_t field, const uint8_t *point, size_t point_n,
                       const uint8_t *digest, size_t n, const uint8_t *rs)
{
    EVP_PKEY *key = ec_key(group, NULL, field, point, point_n);
    EVP_PKEY_CTX *ctx = key != NULL ? EVP_PKEY_CTX_new(key, NULL) : NULL;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(rs, (int)field, NULL);
    BIGNUM *s = BN_bin2bn(rs + field, (int)field, NULL);
    uint8_t *der = NULL;
    int len = 0;
    bool ok = sig != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(sig, r, s) == 1;

    if (!ok) {
        BN_free(r);
        BN_free(s);
    } else {
        len = i2d_ECDSA_SIG(sig, &der);
    }
    ok = ok && len > 0 && ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 &&
         EVP_PKEY_verify(ctx, der, (size_t)len, digest, n) == 1;
    OPENSSL_free(der);
    ECDSA_SIG_free(sig);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    return ok;
}

/* ---- RSA ---- */

static bool rsa_put(EVP_PKEY *key, const char *name, struct mock_object *o, CK_ATTRIBUTE_TYPE type)
{
    BIGNUM *value = NULL;
    uint8_t bytes[1024];
    bool ok =
        EVP_PKEY_get_bn_param(key, name, &value) == 1 && BN_num_bytes(value) <= (int)sizeof(bytes);

    if (ok) {
        mock_object_set(o, type, bytes, (size_t)BN_bn2bin(value, bytes));
    }
    BN_clear_free(value);
    return ok;
}

bool mock_rsa_new(unsigned int bits, struct mock_object *pub, struct mock_object *priv)
{
    EVP_PKEY *key = EVP_RSA_gen(bits);
    bool ok = key != NULL && rsa_put(key, OSSL_PKEY_PARAM_RSA_N, pub, CKA_MODULUS) &&
              rsa_put(key, OSSL_PKEY_PARAM_RSA_E, pub, CKA_PUBLIC_EXPONENT) &&
              rsa_put(key, OSSL_PKEY_PARAM_RSA_N, priv, CKA_MODULUS) &&
              rsa_put(key, OSSL_PKEY_PARAM_RSA_E, priv, CKA_PUBLIC_EXPONENT) &&
              rsa_put(key, OSSL_PKEY_PARAM_RSA_D, priv, CKA_PRIVATE_EXPONENT);

    EVP_PKEY_free(key);
    return ok;
}

static bool rsa_push(OSSL_PARAM_BLD *build, const char *name, const struct mock_object *o,
                     CK_ATTRIBUTE_TYPE type, BIGNUM **keep)
{
    const struct mock_attribute *a = mock_object_get(o, type);

    if (a == NULL) {
        return false;
    }
    *keep = BN_bin2bn(a->p, (int)a->len, NULL);
    return *keep != NULL && OSSL_PARAM_BLD_push_BN(build, name, *keep) == 1;
}

static EVP_PKEY *rsa_key(const struct mock_object *o, bool private_key)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    BIGNUM *n = NULL;
    BIGNUM *e = NULL;
    BIGNUM *d = NULL;
    OSSL_PARAM *params = NULL;
    EVP_PKEY *key = NULL;

    if (build != NULL && ctx != NULL &&
        rsa_push(build, OSSL_PKEY_PARAM_RSA_N, o, CKA_MODULUS, &n) &&
        rsa_push(build, OSSL_PKEY_PARAM_RSA_E, o, CKA_PUBLIC_EXPONENT, &e) &&
        (!private_key || rsa_push(build, OSSL_PKEY_PARAM_RSA_D, o, CKA_PRIVATE_EXPONENT, &d))) {
        params = OSSL_PARAM_BLD_to_param(build);
    }
    if (params == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, private_key ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY,
                          params) != 1) {
        key = NULL;
    }
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    EVP_PKEY_CTX_free(ctx);
    BN_free(n);
    BN_free(e);
    BN_clear_free(d);
    return key;
}

bool mock_oaep(bool seal, const struct mock_object *o, CK_ULONG hash, CK_ULONG mgf,
               const uint8_t *in, size_t n, uint8_t *out, size_t *len)
{
    const EVP_MD *md = hash == CKM_SHA_1 ? EVP_sha1() : hash == CKM_SHA256 ? EVP_sha256() : NULL;
    const EVP_MD *mask = mgf == CKG_MGF1_SHA1     ? EVP_sha1()
                         : mgf == CKG_MGF1_SHA256 ? EVP_sha256()
                                                  : NULL;
    EVP_PKEY *key = rsa_key(o, !seal);
    EVP_PKEY_CTX *ctx = key != NULL ? EVP_PKEY_CTX_new(key, NULL) : NULL;
    bool ok = ctx != NULL && md != NULL && mask != NULL &&
              (seal ? EVP_PKEY_encrypt_init(ctx) : EVP_PKEY_decrypt_init(ctx)) == 1 &&
              EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1 &&
              EVP_PKEY_CTX_set_rsa_oaep_md(ctx, md) == 1 &&
              EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, mask) == 1;

    *len = MOCK_VALUE_MAX;
    ok = ok && (seal ? EVP_PKEY_encrypt(ctx, out, len, in, n)
                     : EVP_PKEY_decrypt(ctx, out, len, in, n)) == 1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    return ok;
}

/* What goes with a hash of PKCS#11, of its digests' length. */
static const EVP_MD *pss_hash(CK_ULONG hash, CK_ULONG mgf)
{
    return hash == CKM_SHA256 && mgf == CKG_MGF1_SHA256   ? EVP_sha256()
           : hash == CKM_SHA384 && mgf == CKG_MGF1_SHA384 ? EVP_sha384()
           : hash == CKM_SHA512 && mgf == CKG_MGF1_SHA512 ? EVP_sha512()
                                                          : NULL;
}

bool mock_rsa_sign(const struct mock_object *o, const CK_RSA_PKCS_PSS_PARAMS *pss,
                   const uint8_t *in, size_t n, uint8_t *out, size_t *len)
{
    const EVP_MD *md = pss != NULL ? pss_hash(pss->hashAlg, pss->mgf) : NULL;
    EVP_PKEY *key = rsa_key(o, true);
    EVP_PKEY_CTX *ctx = key != NULL ? EVP_PKEY_CTX_new(key, NULL) : NULL;
    bool ok = ctx != NULL && EVP_PKEY_sign_init(ctx) == 1;

    *len = MOCK_VALUE_MAX;
    if (pss == NULL) {
        ok = ok && EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1;
    } else {
        ok = ok && md != NULL && n == (size_t)EVP_MD_get_size(md) &&
             EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_signature_md(ctx, md) == 1 &&
             EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, (int)pss->sLen) == 1;
    }
    ok = ok && EVP_PKEY_sign(ctx, out, len, in, n) == 1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(key);
    return ok;
}
