/*
 * EC private keys and the shared secret.
 *
 * Two things go wrong in software ECDH: a peer's point that is not on the curve, and a private key
 * that ends up in pageable memory. The first is met here by kbs_ec_public_check() before OpenSSL
 * sees the point, so OpenSSL's own (and slower) check is switched off in the derivation; the second
 * by OpenSSL itself, which holds the scalars of EC keys in secure bignums (PEM: see pem.c).
 *
 * Invariant: a struct kbs_agree_key holds a consistent pair on one of our named curves. A PKCS#8
 * file may carry a public key that does not belong to its private key; accepting one would tell the
 * peer a wrong epk, hence the full EVP_PKEY_check() on import. Explicit curve parameters are
 * refused even if they spell a named curve.
 */
#define OPENSSL_NO_DEPRECATED
#include "agree/agree.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "agree/pem.h"

struct kbs_agree_key {
    EVP_PKEY *pkey;
    struct kbs_ec_public pub;
};

static int curve_of(EVP_PKEY *pkey, enum kbs_curve *ret, struct kbs_error *err)
{
    char group[64];
    size_t len = 0;
    int is_explicit = 0;

    if (!EVP_PKEY_is_a(pkey, "EC")) {
        return kbs_fail(err, KBS_INPUT, "the private key is not an EC key");
    }
    if (EVP_PKEY_get_int_param(pkey, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS,
                               &is_explicit) == 1 &&
        is_explicit != 0) {
        return kbs_fail(err, KBS_INPUT, "the private key has explicit curve parameters");
    }
    if (EVP_PKEY_get_group_name(pkey, group, sizeof(group), &len) != 1) {
        return kbs_fail_openssl(err, KBS_INPUT, "the private key names no curve");
    }
    for (enum kbs_curve c = KBS_CURVE_P256; c <= KBS_CURVE_P521; c++) {
        if (strcmp(group, kbs_curve_group_name(c)) == 0) {
            *ret = c;
            return 0;
        }
    }
    return kbs_fail(err, KBS_INPUT, "the private key is on a curve other than P-256, P-384, P-521");
}

static int coordinate(EVP_PKEY *pkey, const char *name, uint8_t *out, size_t len,
                      struct kbs_error *err)
{
    BIGNUM *v = NULL;
    int ok = EVP_PKEY_get_bn_param(pkey, name, &v) == 1 && BN_bn2binpad(v, out, (int)len) >= 0;

    BN_free(v);
    if (!ok) {
        return kbs_fail_openssl(err, KBS_INTERNAL, "public key coordinates");
    }
    return 0;
}

/* Takes pkey, also on failure. A pair from outside is checked, once it is known to be on a small
 * curve. */
static int key_new(EVP_PKEY *pkey, bool foreign, struct kbs_agree_key **ret, struct kbs_error *err)
{
    struct kbs_agree_key *key = OPENSSL_zalloc(sizeof(*key));
    size_t len;

    if (key == NULL) {
        EVP_PKEY_free(pkey);
        return kbs_fail_openssl(err, KBS_INTERNAL, "no memory for an EC key");
    }
    key->pkey = pkey;
    if (curve_of(pkey, &key->pub.curve, err) < 0 ||
        (foreign && kbs_agree_pair_check(pkey, err) < 0)) {
        goto fail;
    }
    len = kbs_curve_field_bytes(key->pub.curve);
    if (coordinate(pkey, OSSL_PKEY_PARAM_EC_PUB_X, key->pub.x, len, err) < 0 ||
        coordinate(pkey, OSSL_PKEY_PARAM_EC_PUB_Y, key->pub.y, len, err) < 0) {
        goto fail;
    }
    ERR_clear_error();
    *ret = key;
    return 0;

fail:
    kbs_agree_key_free(key);
    return -1;
}

int kbs_agree_key_generate(enum kbs_curve curve, struct kbs_agree_key **ret, struct kbs_error *err)
{
    EVP_PKEY *pkey;

    *ret = NULL;
    if (kbs_curve_field_bytes(curve) == 0) {
        return kbs_fail(err, KBS_INTERNAL, "no such curve");
    }
    if (kbs_agree_heap_check(err) < 0) {
        return -1;
    }
    ERR_clear_error();
    pkey = EVP_EC_gen(kbs_curve_group_name(curve));
    if (pkey == NULL) {
        return kbs_fail_openssl(err, KBS_INTERNAL, "generating an EC key on %s",
                                kbs_curve_jose_name(curve));
    }
    return key_new(pkey, false, ret, err);
}

int kbs_agree_key_from_pem(struct kbs_span pem, struct kbs_agree_key **ret, struct kbs_error *err)
{
    EVP_PKEY *pkey = NULL;

    *ret = NULL;
    if (kbs_agree_pem_read(pem, &pkey, err) < 0) {
        return -1;
    }
    return key_new(pkey, true, ret, err);
}

int kbs_agree_key_to_pem(const struct kbs_agree_key *key, struct kbs_secret **ret,
                         struct kbs_error *err)
{
    return kbs_agree_pem_write(key->pkey, ret, err);
}

struct kbs_agree_key *kbs_agree_key_free(struct kbs_agree_key *key)
{
    if (key != NULL) {
        EVP_PKEY_free(key->pkey);
        OPENSSL_free(key);
    }
    return NULL;
}

const struct kbs_ec_public *kbs_agree_key_public(const struct kbs_agree_key *key)
{
    return &key->pub;
}

EVP_PKEY *kbs_agree_ec_pkey(const struct kbs_ec_public *peer)
{
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    size_t point_len = kbs_ec_point_put(peer, point);
    char group[32];
    OSSL_PARAM params[3];
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx;

    if (!kbs_span_to_cstr(kbs_span_str(kbs_curve_group_name(peer->curve)), group, sizeof(group))) {
        return NULL;
    }
    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0);
    params[1] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, point_len);
    params[2] = OSSL_PARAM_construct_end();
    ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        pkey = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

int kbs_agree_ecdh(const struct kbs_agree_key *key, const struct kbs_ec_public *peer,
                   struct kbs_secret **ret_z, struct kbs_error *err)
{
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *ctx = NULL;
    size_t field = kbs_curve_field_bytes(key->pub.curve);
    size_t len = field;
    int rc = -1;

    *ret_z = NULL;
    if (peer->curve != key->pub.curve) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the keys are on different curves");
    }
    if (kbs_ec_public_check(peer, err) < 0) {
        return -1;
    }
    if (kbs_secret_new(field, ret_z, err) < 0) {
        return -1;
    }
    ERR_clear_error();
    pkey = kbs_agree_ec_pkey(peer);
    ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    if (pkey == NULL || ctx == NULL || EVP_PKEY_derive_init(ctx) != 1 ||
        EVP_PKEY_derive_set_peer_ex(ctx, pkey, 0) != 1 ||
        EVP_PKEY_derive(ctx, kbs_secret_bytes(*ret_z), &len) != 1) {
        (void)kbs_fail_openssl(err, KBS_INTERNAL, "ECDH on %s", kbs_curve_jose_name(peer->curve));
        goto out;
    }
    if (len !=
        field) { /* OpenSSL pads with zeros on the left; a shorter Z would give another kek */
        (void)kbs_fail(err, KBS_INTERNAL, "ECDH gave %zu bytes", len);
        goto out;
    }
    rc = 0;

out:
    if (rc < 0) {
        *ret_z = kbs_secret_free(*ret_z);
    }
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    return rc;
}
