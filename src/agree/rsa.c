/*
 * RSA private keys, RSA-OAEP as JOSE uses it (MGF1 with the same hash, no label), and RSA1_5.
 *
 * A public key comes as modulus and exponent and is checked by kbs_rsa_public_check() before
 * OpenSSL sees it. A private key from outside is bounded in size before it is checked: proving the
 * primes of an oversized key would take minutes. OAEP's padding errors are an oracle if told apart,
 * so opening has a single answer.
 *
 * PKCS#1 v1.5 is there for guests that speak nothing else, in functions of its own: nothing that asks
 * for OAEP can get it by an algorithm's number. What was encrypted by it is safe only with a receiver
 * that does not tell good padding from bad, so ours has no such answer: a ciphertext that does not
 * open gives a random content key (RFC 7516 section 11.5), and what fails is the content.
 *
 * Invariant: a struct kbs_agree_rsa holds a consistent pair that kbs_rsa_public_check() accepts.
 */
#define OPENSSL_NO_DEPRECATED
#include "agree/agree.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/params.h>
#include <openssl/rsa.h>

#include "agree/pem.h"
#include "agree/rsa_new.h"
#include "base/random.h"

struct kbs_agree_rsa {
    EVP_PKEY *pkey;
    struct kbs_rsa_public pub;
};

static int number_of(EVP_PKEY *pkey, const char *name, uint8_t *out, size_t size, size_t *ret_len,
                     struct kbs_error *err)
{
    BIGNUM *v = NULL;
    int ok = EVP_PKEY_get_bn_param(pkey, name, &v) == 1 && (size_t)BN_num_bytes(v) <= size;

    *ret_len = ok ? (size_t)BN_bn2bin(v, out) : 0;
    BN_free(v);
    if (!ok) {
        return kbs_fail_openssl(err, KBS_INPUT, "the RSA key's numbers are missing or too long");
    }
    return 0;
}

/* Takes pkey, also on failure. */
static int rsa_new(EVP_PKEY *pkey, bool foreign, struct kbs_agree_rsa **ret, struct kbs_error *err)
{
    struct kbs_agree_rsa *key = OPENSSL_zalloc(sizeof(*key));

    if (key == NULL) {
        EVP_PKEY_free(pkey);
        return kbs_fail_openssl(err, KBS_INTERNAL, "no memory for an RSA key");
    }
    key->pkey = pkey;
    if (!EVP_PKEY_is_a(pkey, "RSA")) {
        (void)kbs_fail(err, KBS_INPUT, "the private key is not an RSA key");
        goto fail;
    }
    if (number_of(pkey, OSSL_PKEY_PARAM_RSA_N, key->pub.n, sizeof(key->pub.n), &key->pub.n_len,
                  err) < 0 ||
        number_of(pkey, OSSL_PKEY_PARAM_RSA_E, key->pub.e, sizeof(key->pub.e), &key->pub.e_len,
                  err) < 0 ||
        kbs_rsa_public_check(&key->pub, err) < 0 ||
        (foreign && kbs_agree_pair_check(pkey, err) < 0)) {
        goto fail;
    }
    ERR_clear_error();
    *ret = key;
    return 0;

fail:
    kbs_agree_rsa_free(key);
    return -1;
}

int kbs_agree_rsa_new(EVP_PKEY *pkey, struct kbs_agree_rsa **ret, struct kbs_error *err)
{
    return rsa_new(pkey, false, ret, err);
}

int kbs_agree_rsa_generate(unsigned int bits, struct kbs_agree_rsa **ret, struct kbs_error *err)
{
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx;

    *ret = NULL;
    if (kbs_agree_heap_check(err) < 0) {
        return -1;
    }
    ERR_clear_error();
    ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    if (ctx == NULL || EVP_PKEY_keygen_init(ctx) != 1 ||
        EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, (int)bits) != 1 ||
        EVP_PKEY_generate(ctx, &pkey) != 1) {
        EVP_PKEY_CTX_free(ctx);
        return kbs_fail_openssl(err, KBS_INTERNAL, "generating an RSA key of %u bits", bits);
    }
    EVP_PKEY_CTX_free(ctx);
    return rsa_new(pkey, false, ret, err);
}

int kbs_agree_rsa_from_pem(struct kbs_span pem, struct kbs_agree_rsa **ret, struct kbs_error *err)
{
    EVP_PKEY *pkey = NULL;

    *ret = NULL;
    if (kbs_agree_pem_read(pem, &pkey, err) < 0) {
        return -1;
    }
    return rsa_new(pkey, true, ret, err);
}

int kbs_agree_rsa_to_pem(const struct kbs_agree_rsa *key, struct kbs_secret **ret,
                         struct kbs_error *err)
{
    return kbs_agree_pem_write(key->pkey, ret, err);
}

struct kbs_agree_rsa *kbs_agree_rsa_free(struct kbs_agree_rsa *key)
{
    if (key != NULL) {
        EVP_PKEY_free(key->pkey);
        OPENSSL_free(key);
    }
    return NULL;
}

const struct kbs_rsa_public *kbs_agree_rsa_public(const struct kbs_agree_rsa *key)
{
    return &key->pub;
}

/* The hash of an algorithm, NULL if it is not an RSA one. */
static const char *oaep_hash(enum kbs_tee_alg alg)
{
    if (alg == KBS_TEE_ALG_RSA_OAEP_256) {
        return "SHA256";
    }
    return alg == KBS_TEE_ALG_RSA_OAEP ? "SHA1" : NULL;
}

EVP_PKEY *kbs_agree_rsa_pkey(const struct kbs_rsa_public *k)
{
    BIGNUM *n = BN_bin2bn(k->n, (int)k->n_len, NULL);
    BIGNUM *e = BN_bin2bn(k->e, (int)k->e_len, NULL);
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    OSSL_PARAM *params = NULL;
    EVP_PKEY *pkey = NULL;

    if (n != NULL && e != NULL && bld != NULL && ctx != NULL &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e) == 1 &&
        (params = OSSL_PARAM_BLD_to_param(bld)) != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        pkey = NULL;
    }
    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_BLD_free(bld);
    BN_free(e);
    BN_free(n);
    return pkey;
}

/*
 * An initialised context for one operation: OAEP with that hash, PKCS#1 v1.5 if it is NULL. Returns
 * owned, NULL on failure.
 */
static EVP_PKEY_CTX *rsa_ctx(EVP_PKEY *pkey, bool encrypt, const char *hash)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
    bool ok = ctx != NULL &&
              (encrypt ? EVP_PKEY_encrypt_init(ctx) : EVP_PKEY_decrypt_init(ctx)) == 1 &&
              EVP_PKEY_CTX_set_rsa_padding(ctx, hash != NULL ? RSA_PKCS1_OAEP_PADDING
                                                             : RSA_PKCS1_PADDING) == 1;

    if (ok && hash != NULL) {
        ok = EVP_PKEY_CTX_set_rsa_oaep_md_name(ctx, hash, NULL) == 1 &&
             EVP_PKEY_CTX_set_rsa_mgf1_md_name(ctx, hash, NULL) == 1;
    }
    if (!ok) {
        EVP_PKEY_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

/* `hash` as for rsa_ctx(). */
static int rsa_encrypt(const struct kbs_tee_key *key, const char *hash, struct kbs_span plain,
                       uint8_t *out, size_t *ret_len, struct kbs_error *err)
{
    EVP_PKEY *pkey;
    EVP_PKEY_CTX *ctx = NULL;
    size_t len = key->rsa.n_len;
    int rc = -1;

    if (kbs_rsa_public_check(&key->rsa, err) < 0) {
        return -1;
    }
    ERR_clear_error();
    pkey = kbs_agree_rsa_pkey(&key->rsa);
    ctx = pkey != NULL ? rsa_ctx(pkey, true, hash) : NULL;
    if (ctx == NULL || EVP_PKEY_encrypt(ctx, out, &len, plain.p, plain.len) != 1) {
        (void)kbs_fail_openssl(err, KBS_UNPROCESSABLE, "%s of %zu bytes",
                               kbs_tee_alg_name(key->alg), plain.len);
    } else {
        *ret_len = len;
        rc = 0;
    }
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    return rc;
}

int kbs_agree_oaep_encrypt(const struct kbs_tee_key *key, struct kbs_span plain, uint8_t *out,
                           size_t *ret_len, struct kbs_error *err)
{
    const char *hash = oaep_hash(key->alg);

    *ret_len = 0;
    if (hash == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "OAEP to a key that is not for it");
    }
    return rsa_encrypt(key, hash, plain, out, ret_len, err);
}

int kbs_agree_rsa1_5_encrypt(const struct kbs_tee_key *key, struct kbs_span plain, uint8_t *out,
                             size_t *ret_len, struct kbs_error *err)
{
    *ret_len = 0;
    if (key->alg != KBS_TEE_ALG_RSA1_5) {
        return kbs_fail(err, KBS_INTERNAL, "RSA1_5 to a key that is not for it");
    }
    return rsa_encrypt(key, NULL, plain, out, ret_len, err);
}

int kbs_agree_oaep_decrypt(const struct kbs_agree_rsa *key, enum kbs_tee_alg alg,
                           struct kbs_span ciphertext, struct kbs_secret **ret,
                           struct kbs_error *err)
{
    const char *hash = oaep_hash(alg);
    struct kbs_secret *plain = NULL;
    size_t len = key->pub.n_len;
    EVP_PKEY_CTX *ctx;
    int ok;

    *ret = NULL;
    if (hash == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "OAEP with an algorithm that is not RSA");
    }
    if (ciphertext.len != key->pub.n_len) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "an RSA ciphertext of %zu bytes", ciphertext.len);
    }
    if (kbs_secret_new(len, &plain, err) < 0) {
        return -1;
    }
    ERR_clear_error();
    ctx = rsa_ctx(key->pkey, false, hash);
    ok = ctx != NULL &&
         EVP_PKEY_decrypt(ctx, kbs_secret_bytes(plain), &len, ciphertext.p, ciphertext.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    if (!ok) {
        kbs_secret_free(plain);
        return kbs_fail_openssl(err, KBS_UNPROCESSABLE, "the RSA ciphertext does not open");
    }
    kbs_secret_truncate(plain, len);
    *ret = plain;
    return 0;
}

int kbs_agree_rsa1_5_decrypt(const struct kbs_agree_rsa *key, struct kbs_span ciphertext,
                             size_t bytes, struct kbs_secret **ret, struct kbs_error *err)
{
    struct kbs_secret *plain = NULL;
    struct kbs_secret *other = NULL;
    size_t len = key->pub.n_len;
    EVP_PKEY_CTX *ctx;
    bool opened;

    *ret = NULL;
    if (kbs_secret_new(len, &plain, err) < 0) {
        return -1;
    }
    if (kbs_secret_new(bytes, &other, err) < 0) {
        kbs_secret_free(plain);
        return -1;
    }
    kbs_random(kbs_secret_bytes(other), bytes);
    ERR_clear_error();
    ctx = rsa_ctx(key->pkey, false, NULL);
    opened =
        ctx != NULL && ciphertext.len == key->pub.n_len &&
        EVP_PKEY_decrypt(ctx, kbs_secret_bytes(plain), &len, ciphertext.p, ciphertext.len) == 1 &&
        len == bytes;
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    kbs_secret_free(opened ? other : plain);
    *ret = opened ? plain : other;
    kbs_secret_truncate(*ret, bytes);
    return 0;
}
