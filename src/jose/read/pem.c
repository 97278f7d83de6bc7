/*
 * Public keys as PEM, from an administrator or an operator.
 *
 * PEM is one SubjectPublicKeyInfo and nothing else, an EC key of a named curve. OpenSSL would skip
 * text before it, accept curve parameters written out, and ask the terminal for a passphrase: none
 * of this may happen here.
 */
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "jose/read/jwt.h"

#define PEM_MAX_BYTES 4096

/* Says "no passphrase" where OpenSSL would ask the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *data)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)data;
    return -1;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static EVP_PKEY *pem_read(struct kbs_span pem)
{
    EVP_PKEY *pkey = NULL;
    char *rest = NULL;
    BIO *bio;

    while (pem.len > 0 && is_space(pem.p[0])) {
        pem = kbs_span_skip(pem, 1);
    }
    if (pem.len > PEM_MAX_BYTES || !kbs_span_starts_with(pem, "-----BEGIN PUBLIC KEY-----")) {
        return NULL;
    }
    bio = BIO_new_mem_buf(pem.p, (int)pem.len);
    if (bio == NULL) {
        return NULL;
    }
    pkey = PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);
    long left = BIO_get_mem_data(bio, &rest);
    for (long i = 0; i < left; i++) {
        if (!is_space((uint8_t)rest[i])) {
            EVP_PKEY_free(pkey);
            pkey = NULL;
            break;
        }
    }
    BIO_free(bio);
    return pkey;
}

static enum kbs_curve pkey_curve(const EVP_PKEY *pkey)
{
    char group[32];
    int explicit_parameters = 0;

    if (!EVP_PKEY_is_a(pkey, "EC") ||
        EVP_PKEY_get_group_name(pkey, group, sizeof(group), NULL) != 1 ||
        (EVP_PKEY_get_int_param(pkey, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS,
                                &explicit_parameters) == 1 &&
         explicit_parameters != 0)) {
        return KBS_CURVE_NONE;
    }
    for (enum kbs_curve c = KBS_CURVE_P256; c <= KBS_CURVE_P521; c++) {
        if (strcmp(group, kbs_curve_group_name(c)) == 0) {
            return c;
        }
    }
    return KBS_CURVE_NONE;
}

static int pkey_coordinate(const EVP_PKEY *pkey, const char *param, uint8_t *out, size_t bytes)
{
    BIGNUM *n = NULL;
    int ok = EVP_PKEY_get_bn_param(pkey, param, &n) == 1 && BN_bn2binpad(n, out, (int)bytes) >= 0;

    BN_free(n);
    return ok ? 0 : -1;
}

static bool ec_get(const EVP_PKEY *pkey, struct kbs_ec_public *ret)
{
    size_t bytes;

    ret->curve = pkey_curve(pkey);
    bytes = kbs_curve_field_bytes(ret->curve);
    return bytes != 0 && pkey_coordinate(pkey, OSSL_PKEY_PARAM_EC_PUB_X, ret->x, bytes) == 0 &&
           pkey_coordinate(pkey, OSSL_PKEY_PARAM_EC_PUB_Y, ret->y, bytes) == 0;
}

int kbs_jose_public_from_pem(struct kbs_span pem, struct kbs_ec_public *ret, struct kbs_error *err)
{
    struct kbs_ec_public key = {.curve = KBS_CURVE_NONE};
    EVP_PKEY *pkey = pem_read(pem);
    bool ok = pkey != NULL && ec_get(pkey, &key);

    *ret = (struct kbs_ec_public){.curve = KBS_CURVE_NONE};
    EVP_PKEY_free(pkey);
    ERR_clear_error();
    if (!ok) {
        return kbs_fail(err, KBS_INPUT,
                        "not one PEM \"PUBLIC KEY\" with an EC key on P-256, P-384 or P-521");
    }
    if (kbs_ec_public_check(&key, err) != 0) {
        return -1;
    }
    *ret = key;
    return 0;
}

/* The bytes of a number without leading zeros; 0 if there are more than `size`. */
static size_t rsa_number(const EVP_PKEY *pkey, const char *param, uint8_t *out, size_t size)
{
    BIGNUM *n = NULL;
    size_t len = 0;

    if (EVP_PKEY_get_bn_param(pkey, param, &n) == 1 && (size_t)BN_num_bytes(n) <= size) {
        len = (size_t)BN_bn2bin(n, out);
    }
    BN_free(n);
    return len;
}

static bool key_get(const EVP_PKEY *pkey, struct kbs_jws_key *key)
{
    size_t len = sizeof(key->ed25519);

    if (EVP_PKEY_is_a(pkey, "RSA")) { /* not RSA-PSS: that one is bound to parameters of its own */
        struct kbs_rsa_public *rsa = &key->rsa;

        key->kind = KBS_JWS_KEY_RSA;
        rsa->n_len = rsa_number(pkey, OSSL_PKEY_PARAM_RSA_N, rsa->n, sizeof(rsa->n));
        rsa->e_len = rsa_number(pkey, OSSL_PKEY_PARAM_RSA_E, rsa->e, sizeof(rsa->e));
        return true;
    }
    if (EVP_PKEY_is_a(pkey, "ED25519")) {
        key->kind = KBS_JWS_KEY_ED25519;
        return EVP_PKEY_get_raw_public_key(pkey, key->ed25519, &len) == 1 &&
               len == sizeof(key->ed25519);
    }
    key->kind = KBS_JWS_KEY_EC;
    return ec_get(pkey, &key->ec);
}

/* Takes pkey, which may be NULL; `wrong` says what it was to be. */
static int key_take(EVP_PKEY *pkey, const char *wrong, struct kbs_jws_key *ret,
                    struct kbs_error *err)
{
    struct kbs_jws_key key = {.kind = KBS_JWS_KEY_NONE};
    bool ok = pkey != NULL && key_get(pkey, &key);

    *ret = (struct kbs_jws_key){.kind = KBS_JWS_KEY_NONE};
    EVP_PKEY_free(pkey);
    ERR_clear_error();
    if (!ok) {
        return kbs_fail(err, KBS_INPUT, "%s", wrong);
    }
    if ((key.kind == KBS_JWS_KEY_EC && kbs_ec_public_check(&key.ec, err) != 0) ||
        (key.kind == KBS_JWS_KEY_RSA && kbs_rsa_public_check(&key.rsa, err) != 0)) {
        return -1;
    }
    key.algs = kbs_jws_key_algs(&key);
    *ret = key;
    return 0;
}

int kbs_jws_key_from_pem(struct kbs_span pem, struct kbs_jws_key *ret, struct kbs_error *err)
{
    return key_take(pem_read(pem),
                    "not one PEM \"PUBLIC KEY\" with a key on P-256, P-384 or P-521, of RSA or "
                    "of Ed25519",
                    ret, err);
}

int kbs_jws_key_from_spki(struct kbs_span der, struct kbs_jws_key *ret, struct kbs_error *err)
{
    const unsigned char *p = der.p;
    EVP_PKEY *pkey = der.len <= PEM_MAX_BYTES ? d2i_PUBKEY(NULL, &p, (long)der.len) : NULL;

    if (pkey != NULL && p != der.p + der.len) {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }
    return key_take(pkey, "not a SubjectPublicKeyInfo of P-256, P-384, P-521, RSA or Ed25519", ret,
                    err);
}
