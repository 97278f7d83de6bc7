/*
 * Where the public half of a private key is, tokens do not agree on: in an object of its own, whose only link
 * is a CKA_ID, in attributes of the private key (RSA: always; EC: some), in its CKA_PUBLIC_KEY_INFO, or nowhere,
 * and then it is in the certificate. Whatever is found is a claim until the key has signed (sole.c).
 *
 * The only place in kbs-token that reads X.509 and PEM: a certificate that its configuration names, of which
 * nothing but the key is used.
 */
#include "hsm/sole.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "agree/pem.h"
#include "hsm/ckr.h"

#define PUBLIC_INFO_BYTES 2048u

/* ---- from the token ---- */

/* One try: a key, or nothing there. Only a token that is gone is an error. */
static int public_absent(const struct kbs_token *t, struct kbs_error *err)
{
    if (kbs_ckr_is_fatal(err, t->quirk)) {
        return -1;
    }
    *err = KBS_ERROR_NONE;
    return 0;
}

static int public_of_rsa(const struct kbs_token *t, CK_OBJECT_HANDLE object, EVP_PKEY **ret,
                         struct kbs_error *err)
{
    struct kbs_rsa_public rsa;

    if (kbs_object_rsa_public(t, object, &rsa, err) != 0) {
        return public_absent(t, err);
    }
    *ret = kbs_agree_rsa_pkey(&rsa);
    return 0;
}

static int public_of_ec(const struct kbs_token *t, CK_OBJECT_HANDLE object, EVP_PKEY **ret,
                        struct kbs_error *err)
{
    enum kbs_curve curve = KBS_CURVE_NONE;
    struct kbs_ec_public ec;

    if (kbs_object_curve(t, object, &curve, err) != 0 ||
        kbs_object_ec_point(t, object, curve, &ec, err) != 0 ||
        kbs_ec_public_check(&ec, err) != 0) {
        return public_absent(t, err);
    }
    *ret = kbs_agree_ec_pkey(&ec);
    return 0;
}

/* CKA_PUBLIC_KEY_INFO (PKCS#11 2.40 section 4.6.1), of tokens that keep it. */
static void public_of_info(const struct kbs_token *t, CK_OBJECT_HANDLE object, EVP_PKEY **ret)
{
    uint8_t der[PUBLIC_INFO_BYTES];
    const uint8_t *p = der;
    CK_ATTRIBUTE a = {CKA_PUBLIC_KEY_INFO, der, sizeof(der)};

    if (t->f->C_GetAttributeValue(t->session, object, &a, 1) == CKR_OK && a.ulValueLen > 0 &&
        a.ulValueLen <= sizeof(der)) {
        *ret = d2i_PUBKEY(NULL, &p, (long)a.ulValueLen);
    }
}

static int public_type(const struct kbs_token *t, CK_OBJECT_HANDLE private_key, CK_KEY_TYPE *ret,
                       struct kbs_error *err)
{
    CK_ATTRIBUTE a = {CKA_KEY_TYPE, ret, sizeof(*ret)};
    CK_RV rv = t->f->C_GetAttributeValue(t->session, private_key, &a, 1);

    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_GetAttributeValue", __LINE__);
    }
    return *ret == CKK_EC || *ret == CKK_RSA
               ? 0
               : kbs_fail(err, KBS_INPUT, "the key is neither EC nor RSA");
}

/* NULL in *ret: the token does not tell it. */
static int public_from_token(const struct kbs_token *t, CK_OBJECT_HANDLE private_key,
                             CK_KEY_TYPE type, struct kbs_span cka_id, EVP_PKEY **ret,
                             struct kbs_error *err)
{
    CK_OBJECT_HANDLE places[2] = {CK_INVALID_HANDLE, private_key};

    if (cka_id.len > 0 && kbs_object_find(t, CKO_PUBLIC_KEY, cka_id, &places[0], err) != 0 &&
        public_absent(t, err) != 0) {
        return -1;
    }
    for (size_t i = 0; *ret == NULL && i < 2; i++) {
        if (places[i] != CK_INVALID_HANDLE &&
            (type == CKK_EC ? public_of_ec : public_of_rsa)(t, places[i], ret, err) != 0) {
            return -1;
        }
    }
    if (*ret == NULL) {
        public_of_info(t, private_key, ret);
    }
    return 0;
}

/* ---- from the certificate ---- */

/* The key of the first certificate of a PEM text. Returns owned. */
static int public_from_certificate(struct kbs_span pem, EVP_PKEY **ret, struct kbs_error *err)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.len); /* at most a message's length */
    X509 *certificate = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

    *ret = certificate != NULL ? X509_get_pubkey(certificate) : NULL;
    X509_free(certificate);
    BIO_free(bio);
    return *ret != NULL ? 0
                        : kbs_fail_openssl(err, KBS_INPUT,
                                           "the certificate is not PEM, or has no key of ours");
}

int kbs_sole_certified(const struct kbs_ec_public *key, struct kbs_span certificate, bool *ret,
                       struct kbs_error *err)
{
    EVP_PKEY *own = kbs_agree_ec_pkey(key);
    EVP_PKEY *certified = NULL;
    int rc = own != NULL ? public_from_certificate(certificate, &certified, err)
                         : kbs_fail_openssl(err, KBS_INTERNAL, "a public key cannot be made");

    *ret = rc == 0 && EVP_PKEY_eq(own, certified) == 1;
    EVP_PKEY_free(own);
    EVP_PKEY_free(certified);
    return rc;
}

/* ---- what it is ---- */

static int public_take_kind(struct kbs_sole *key, const EVP_PKEY *pkey, struct kbs_error *err)
{
    char group[32] = "";
    int bits = EVP_PKEY_get_bits(pkey);

    key->curve = KBS_CURVE_NONE;
    if (EVP_PKEY_is_a(pkey, "EC") == 1 &&
        EVP_PKEY_get_group_name(pkey, group, sizeof(group), NULL) == 1) {
        for (enum kbs_curve c = KBS_CURVE_P256; c <= KBS_CURVE_P384; c++) {
            key->curve = strcmp(group, kbs_curve_group_name(c)) == 0 ? c : key->curve;
        }
        key->bytes = kbs_curve_field_bytes(key->curve);
    } else if (EVP_PKEY_is_a(pkey, "RSA") == 1 && bits >= 8 * KBS_LIMIT_RSA_BYTES_MIN &&
               bits <= 8 * KBS_LIMIT_RSA_BYTES_MAX && bits % 8 == 0) {
        key->bytes = (size_t)bits / 8;
    } else {
        key->bytes = 0;
    }
    return key->bytes > 0
               ? 0
               : kbs_fail(err, KBS_INPUT,
                          "the key is none that is served: EC on P-256 or P-384, or RSA of "
                          "%d to %d bits",
                          8 * KBS_LIMIT_RSA_BYTES_MIN, 8 * KBS_LIMIT_RSA_BYTES_MAX);
}

static int public_put(struct kbs_sole *key, struct kbs_error *err)
{
    uint8_t *der = NULL;
    int len = i2d_PUBKEY(key->public_key, &der);

    if (len <= 0) {
        return kbs_fail_openssl(err, KBS_INTERNAL, "the public key cannot be encoded");
    }
    kbs_buf_put(&key->spki, der, (size_t)len);
    OPENSSL_free(der);
    return kbs_buf_check(&key->spki, "the public key", err);
}

int kbs_sole_public(struct kbs_sole *key, const struct kbs_token *t, struct kbs_span cka_id,
                    struct kbs_span certificate, struct kbs_error *err)
{
    EVP_PKEY *certified = NULL;
    CK_KEY_TYPE type = 0;
    bool same = true;

    if (public_type(t, key->private_key, &type, err) != 0 ||
        public_from_token(t, key->private_key, type, cka_id, &key->public_key, err) != 0 ||
        (certificate.len > 0 && public_from_certificate(certificate, &certified, err) != 0)) {
        return -1;
    }
    if (key->public_key == NULL) {
        key->public_key = certified;
        same = certified == NULL || EVP_PKEY_is_a(certified, type == CKK_EC ? "EC" : "RSA") == 1;
    } else {
        same = certified == NULL || EVP_PKEY_eq(key->public_key, certified) == 1;
        EVP_PKEY_free(certified);
    }
    if (!same) {
        return kbs_fail(err, KBS_INPUT,
                        "the certificate does not belong to the TLS key in the token");
    }
    if (key->public_key == NULL) {
        return kbs_fail(
            err, KBS_INPUT,
            "the token does not tell the key's public half (an object of class public key "
            "with its CKA_ID would), and there is no certificate");
    }
    return public_take_kind(key, key->public_key, err) == 0 ? public_put(key, err) : -1;
}

/* ---- verifying ---- */

static const char *public_digest_name(enum kbs_hash hash)
{
    return hash == KBS_HASH_SHA256 ? "SHA256" : hash == KBS_HASH_SHA384 ? "SHA384" : "SHA512";
}

static bool public_verify_init(EVP_PKEY_CTX *ctx, enum kbs_sign_alg alg, enum kbs_hash hash,
                               size_t salt)
{
    const EVP_MD *md = EVP_get_digestbyname(public_digest_name(hash));

    if (EVP_PKEY_verify_init(ctx) != 1) {
        return false;
    }
    if (alg == KBS_SIGN_ECDSA) {
        return true;
    }
    if (EVP_PKEY_CTX_set_rsa_padding(ctx, alg == KBS_SIGN_RSA_PSS ? RSA_PKCS1_PSS_PADDING
                                                                  : RSA_PKCS1_PADDING) != 1 ||
        EVP_PKEY_CTX_set_signature_md(ctx, md) != 1) {
        return false;
    }
    return alg != KBS_SIGN_RSA_PSS || (EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, md) == 1 &&
                                       EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, (int)salt) == 1);
}

bool kbs_sole_verify(const struct kbs_sole *key, enum kbs_sign_alg alg, enum kbs_hash hash,
                     size_t salt, struct kbs_span digest, struct kbs_span signature)
{
    uint8_t der[KBS_ECDSA_DER_MAX_BYTES];
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key->public_key, NULL);
    bool ok = ctx != NULL && public_verify_init(ctx, alg, hash, salt);

    if (ok && alg == KBS_SIGN_ECDSA) {
        signature = kbs_span(der, kbs_ecdsa_der_put(signature, der));
    }
    ok = ok && EVP_PKEY_verify(ctx, signature.p, signature.len, digest.p, digest.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    (void)kbs_error_openssl_take(); /* a signature that does not verify leaves an entry */
    return ok;
}
