/*
 * Parameters of a signature as OpenSSL says them, and what they come to: the algorithm and salt of SIGN_DIGEST, the
 * SignatureScheme of SIGN_TLS, the AlgorithmIdentifier of a certificate or request.
 *
 * SHA-256, -384 and -512 only. A PSS salt that nobody named is as long as the digest: what TLS demands (RFC 8446
 * section 4.2.3) and RFC 8017 section 9.1 suggests; OpenSSL's own keys of 3.0 use the longest. MGF1 is
 * with the same hash: PKCS#11 could name another, no protocol of ours does.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/proverr.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>

#include "providers/core.h"

#define NAME_BYTES 64

static const struct {
    enum kbs_hash hash;
    const char *name;
    int with_ecdsa;
    int with_rsa;
    uint32_t tls_pss; /* rsa_pss_rsae_* */
} hashes[] = {
    {KBS_HASH_SHA256, "SHA256", NID_ecdsa_with_SHA256, NID_sha256WithRSAEncryption, 0x0804},
    {KBS_HASH_SHA384, "SHA384", NID_ecdsa_with_SHA384, NID_sha384WithRSAEncryption, 0x0805},
    {KBS_HASH_SHA512, "SHA512", NID_ecdsa_with_SHA512, NID_sha512WithRSAEncryption, 0x0806}};
#define N_HASHES (sizeof(hashes) / sizeof(hashes[0]))

static size_t row_of(enum kbs_hash hash)
{
    size_t i = 0;

    while (i < N_HASHES && hashes[i].hash != hash) {
        i++;
    }
    return i;
}

const char *kbs_scheme_hash_name(enum kbs_hash hash)
{
    size_t row = row_of(hash);

    return row < N_HASHES ? hashes[row].name : "no hash";
}

int kbs_scheme_hash(const struct kbs_provider *provider, const char *name, enum kbs_hash *ret,
                    struct kbs_error *err)
{
    EVP_MD *md = EVP_MD_fetch(provider->libctx, name, NULL); /* it knows all spellings */
    size_t row = 0;

    while (md != NULL && row < N_HASHES && EVP_MD_is_a(md, hashes[row].name) != 1) {
        row++;
    }
    if (md == NULL || row == N_HASHES) {
        EVP_MD_free(md);
        return kbs_fail(err, KBS_UNSUPPORTED, "hash %.40s: only SHA-256, SHA-384 and SHA-512",
                        name);
    }
    EVP_MD_free(md);
    *ret = hashes[row].hash;
    return 0;
}

enum kbs_sign_alg kbs_scheme_alg(const struct kbs_scheme *scheme, const struct kbs_key *key)
{
    if (key->kind != KBS_KEY_RSA) {
        return KBS_SIGN_ECDSA;
    }
    return scheme->pss ? KBS_SIGN_RSA_PSS : KBS_SIGN_RSA_PKCS1;
}

int kbs_scheme_salt(const struct kbs_scheme *scheme, const struct kbs_key *key, uint32_t *ret,
                    struct kbs_error *err)
{
    const int digest = (int)kbs_hash_bytes(scheme->hash);
    int room;
    int salt = scheme->salt;

    *ret = 0;
    if (kbs_scheme_alg(scheme, key) != KBS_SIGN_RSA_PSS) {
        return 0;
    }
    if (scheme->mgf1 != KBS_HASH_NONE && scheme->mgf1 != scheme->hash) {
        return kbs_fail(err, KBS_UNSUPPORTED, "MGF1 with another hash than the message's");
    }
    room = (EVP_PKEY_get_bits(key->public_key) + 6) / 8 - digest - 2; /* RFC 8017 section 9.1.1 */
    if (salt == KBS_SALT_UNSAID || salt == RSA_PSS_SALTLEN_DIGEST) {
        salt = digest;
    } else if (salt == RSA_PSS_SALTLEN_MAX || salt == RSA_PSS_SALTLEN_AUTO) {
        salt = room;
    } else if (salt < 0) { /* auto-digestmax of OpenSSL 3.1 and later */
        salt = digest < room ? digest : room;
    }
    if (salt > room) {
        return kbs_fail(err, KBS_INPUT, "a salt of %d bytes: this key has room for %d", salt, room);
    }
    *ret = (uint32_t)salt;
    return 0;
}

int kbs_scheme_tls(const struct kbs_scheme *scheme, const struct kbs_key *key, uint32_t *ret,
                   struct kbs_error *err)
{
    const size_t row = row_of(scheme->hash);
    uint32_t salt;

    if (kbs_scheme_salt(scheme, key, &salt, err) != 0) {
        return -1;
    }
    *ret = 0;
    if (key->kind == KBS_KEY_P256 && scheme->hash == KBS_HASH_SHA256) {
        *ret = 0x0403; /* ecdsa_secp256r1_sha256 */
    } else if (key->kind == KBS_KEY_P384 && scheme->hash == KBS_HASH_SHA384) {
        *ret = 0x0503; /* ecdsa_secp384r1_sha384 */
    } else if (key->kind == KBS_KEY_RSA && row < N_HASHES && scheme->pss &&
               salt == kbs_hash_bytes(scheme->hash)) {
        *ret = hashes[row].tls_pss;
    }
    return *ret != 0 ? 0
                     : kbs_fail(err, KBS_UNSUPPORTED,
                                "no signature of a TLS 1.3 server is made with %s by such a key",
                                kbs_scheme_hash_name(scheme->hash));
}

/* ---- set ---- */

const OSSL_PARAM kbs_scheme_settable[] = {
    OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
    OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PROPERTIES, NULL, 0),
    OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
    OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
    OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
    OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_PROPERTIES, NULL, 0),
    OSSL_PARAM_END};

static int get_text(const OSSL_PARAM *param, char text[NAME_BYTES], struct kbs_error *err)
{
    char *p = text;

    return OSSL_PARAM_get_utf8_string(param, &p, NAME_BYTES) == 1
               ? 0
               : kbs_fail(err, KBS_INPUT, "%s: not a text, or too long a one", param->key);
}

struct word {
    const char *name;
    int value;
};
static const struct word paddings[] = {{OSSL_PKEY_RSA_PAD_MODE_PKCSV15, RSA_PKCS1_PADDING},
                                       {OSSL_PKEY_RSA_PAD_MODE_PSS, RSA_PKCS1_PSS_PADDING},
                                       {NULL, 0}};
static const struct word salts[] = {{OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST, RSA_PSS_SALTLEN_DIGEST},
                                    {OSSL_PKEY_RSA_PSS_SALT_LEN_MAX, RSA_PSS_SALTLEN_MAX},
                                    {OSSL_PKEY_RSA_PSS_SALT_LEN_AUTO, RSA_PSS_SALTLEN_AUTO},
                                    {"auto-digestmax", -4}, /* OpenSSL 3.1 */
                                    {NULL, 0}};

/* A number, its decimal text, or one of the words. */
static int get_word(const OSSL_PARAM *param, const struct word *words, int *ret,
                    struct kbs_error *err)
{
    char text[NAME_BYTES];
    char *end;
    long value;

    if (param->data_type != OSSL_PARAM_UTF8_STRING) {
        return OSSL_PARAM_get_int(param, ret) == 1
                   ? 0
                   : kbs_fail(err, KBS_INPUT, "%s: neither number nor word", param->key);
    }
    if (get_text(param, text, err) != 0) {
        return -1;
    }
    for (const struct word *w = words; w->name != NULL; w++) {
        if (strcmp(text, w->name) == 0) {
            *ret = w->value;
            return 0;
        }
    }
    value = strtol(text, &end, 10);
    if (end == text || *end != '\0' || value < 0 || value > KBS_LIMIT_RSA_BYTES_MAX) {
        return kbs_fail(err, KBS_UNSUPPORTED, "%s %s", param->key, text);
    }
    *ret = (int)value;
    return 0;
}

static int set_hash(const struct kbs_key *key, const OSSL_PARAM *param, enum kbs_hash *ret,
                    struct kbs_error *err)
{
    char name[NAME_BYTES];

    return get_text(param, name, err) == 0 ? kbs_scheme_hash(key->provider, name, ret, err) : -1;
}

static int set_padding(struct kbs_scheme *scheme, const struct kbs_key *key,
                       const OSSL_PARAM *param, struct kbs_error *err)
{
    int padding;

    if (get_word(param, paddings, &padding, err) != 0) {
        return -1;
    }
    if (key->kind != KBS_KEY_RSA ||
        (padding != RSA_PKCS1_PADDING && padding != RSA_PKCS1_PSS_PADDING)) {
        return kbs_fail(err, KBS_UNSUPPORTED, "a padding other than PKCS#1 and PSS of RSA");
    }
    scheme->pss = padding == RSA_PKCS1_PSS_PADDING;
    return 0;
}

static int set_salt(struct kbs_scheme *scheme, const OSSL_PARAM *param, struct kbs_error *err)
{
    int salt;

    if (get_word(param, salts, &salt, err) != 0) {
        return -1;
    }
    if (salt < -4) {
        return kbs_fail(err, KBS_INPUT, "a salt of %d bytes", salt);
    }
    scheme->salt = salt;
    return 0;
}

int kbs_scheme_set(struct kbs_scheme *scheme, const struct kbs_key *key, const OSSL_PARAM *params,
                   struct kbs_error *err)
{
    const OSSL_PARAM *p;
    int r = 0;

    if (params == NULL) {
        return 0;
    }
    if ((p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_DIGEST)) != NULL) {
        r = set_hash(key, p, &scheme->hash, err);
    }
    if (r == 0 && (p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE)) != NULL) {
        r = set_padding(scheme, key, p, err);
    }
    if (r == 0 && (p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN)) != NULL) {
        r = set_salt(scheme, p, err);
    }
    if (r == 0 && (p = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_MGF1_DIGEST)) != NULL) {
        r = set_hash(key, p, &scheme->mgf1, err);
    }
    return r;
}

/* ---- get ---- */

const OSSL_PARAM kbs_scheme_gettable[] = {
    OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0),
    OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_DIGEST, NULL, 0),
    OSSL_PARAM_int(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL),
    OSSL_PARAM_int(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL),
    OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0),
    OSSL_PARAM_END};

/* RSASSA-PSS-params (RFC 4055 section 3.1), as id-RSASSA-PSS has them. */
static bool put_pss(X509_ALGOR *alg, const char *hash, uint32_t salt)
{
    const EVP_MD *md = EVP_get_digestbyname(hash);
    RSA_PSS_PARAMS *pss = RSA_PSS_PARAMS_new();
    X509_ALGOR *inner = X509_ALGOR_new();
    ASN1_STRING *inner_der = NULL;
    ASN1_STRING *der = NULL;
    bool ok = false;

    if (pss == NULL || inner == NULL || md == NULL) {
        goto done;
    }
    pss->hashAlgorithm = X509_ALGOR_new();
    pss->maskGenAlgorithm = X509_ALGOR_new();
    pss->saltLength = ASN1_INTEGER_new();
    if (pss->hashAlgorithm == NULL || pss->maskGenAlgorithm == NULL || pss->saltLength == NULL ||
        ASN1_INTEGER_set(pss->saltLength, (long)salt) != 1) {
        goto done;
    }
    X509_ALGOR_set_md(pss->hashAlgorithm, md);
    X509_ALGOR_set_md(inner, md);
    inner_der = ASN1_item_pack(inner, ASN1_ITEM_rptr(X509_ALGOR), NULL);
    if (inner_der == NULL || X509_ALGOR_set0(pss->maskGenAlgorithm, OBJ_nid2obj(NID_mgf1),
                                             V_ASN1_SEQUENCE, inner_der) != 1) {
        goto done;
    }
    inner_der = NULL;
    der = ASN1_item_pack(pss, ASN1_ITEM_rptr(RSA_PSS_PARAMS), NULL);
    ok = der != NULL && X509_ALGOR_set0(alg, OBJ_nid2obj(NID_rsassaPss), V_ASN1_SEQUENCE, der) == 1;
    der = ok ? NULL : der;
done:
    ASN1_STRING_free(inner_der);
    ASN1_STRING_free(der);
    X509_ALGOR_free(inner);
    RSA_PSS_PARAMS_free(pss);
    return ok;
}

/* AlgorithmIdentifier: RFC 5758 section 3.2, RFC 4055 sections 5 and 3.1. */
static int put_algorithm(const struct kbs_scheme *scheme, const struct kbs_key *key,
                         OSSL_PARAM *param, struct kbs_error *err)
{
    const size_t row = row_of(scheme->hash);
    X509_ALGOR *alg = X509_ALGOR_new();
    unsigned char *der = NULL;
    uint32_t salt;
    bool ok = false;
    int len = -1;

    if (row == N_HASHES || kbs_scheme_salt(scheme, key, &salt, err) != 0) {
        X509_ALGOR_free(alg);
        return row == N_HASHES ? kbs_fail(err, KBS_INPUT, "no hash was named") : -1;
    }
    switch (kbs_scheme_alg(scheme, key)) {
    case KBS_SIGN_ECDSA:
        ok = X509_ALGOR_set0(alg, OBJ_nid2obj(hashes[row].with_ecdsa), V_ASN1_UNDEF, NULL) == 1;
        break;
    case KBS_SIGN_RSA_PKCS1:
        ok = X509_ALGOR_set0(alg, OBJ_nid2obj(hashes[row].with_rsa), V_ASN1_NULL, NULL) == 1;
        break;
    default:
        ok = put_pss(alg, hashes[row].name, salt);
        break;
    }
    if (ok) {
        len = i2d_X509_ALGOR(alg, &der);
    }
    ok = len > 0 && OSSL_PARAM_set_octet_string(param, der, (size_t)len) == 1;
    OPENSSL_free(der);
    X509_ALGOR_free(alg);
    return ok ? 0 : kbs_fail(err, KBS_INTERNAL, "the algorithm's identifier cannot be written");
}

int kbs_scheme_get(const struct kbs_scheme *scheme, const struct kbs_key *key, OSSL_PARAM *params,
                   struct kbs_error *err)
{
    const int salt = scheme->salt == KBS_SALT_UNSAID ? RSA_PSS_SALTLEN_DIGEST : scheme->salt;
    const enum kbs_hash mgf1 = scheme->mgf1 != KBS_HASH_NONE ? scheme->mgf1 : scheme->hash;
    OSSL_PARAM *p;
    int ok = 1;

    if ((p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID)) != NULL &&
        put_algorithm(scheme, key, p, err) != 0) {
        return -1;
    }
    if ((p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_DIGEST)) != NULL) {
        ok &= OSSL_PARAM_set_utf8_string(p, kbs_scheme_hash_name(scheme->hash));
    }
    if ((p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_MGF1_DIGEST)) != NULL) {
        ok &= OSSL_PARAM_set_utf8_string(p, kbs_scheme_hash_name(mgf1));
    }
    if ((p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_PAD_MODE)) != NULL) {
        ok &= p->data_type == OSSL_PARAM_INTEGER
                  ? OSSL_PARAM_set_int(p, scheme->pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING)
                  : OSSL_PARAM_set_utf8_string(p, paddings[scheme->pss ? 1 : 0].name);
    }
    if ((p = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN)) != NULL) {
        char text[16];

        (void)snprintf(text, sizeof(text), "%d", salt);
        ok &= p->data_type == OSSL_PARAM_INTEGER ? OSSL_PARAM_set_int(p, salt)
                                                 : OSSL_PARAM_set_utf8_string(p, text);
    }
    return ok ? 0 : kbs_fail(err, KBS_INPUT, "no room for a parameter");
}
