/*
 * EC public keys. The curve equation is checked by building the key in OpenSSL: EVP_PKEY_fromdata()
 * refuses coordinates out of range and points off the curve, and the full check follows (the curves
 * have cofactor 1).
 */
#include "base/ec.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

static const uint8_t oid_p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
static const uint8_t oid_p384[] = {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22};
static const uint8_t oid_p521[] = {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23};

static const struct {
    size_t field_bytes;
    const char *jose;
    const char *group;
    const uint8_t *oid;
    size_t oid_len;
} curves[] = {
    [KBS_CURVE_NONE] = {0, "none", "none", NULL, 0},
    [KBS_CURVE_P256] = {32, "P-256", "prime256v1", oid_p256, sizeof(oid_p256)},
    [KBS_CURVE_P384] = {48, "P-384", "secp384r1", oid_p384, sizeof(oid_p384)},
    [KBS_CURVE_P521] = {66, "P-521", "secp521r1", oid_p521, sizeof(oid_p521)},
};
#define CURVE_COUNT (sizeof(curves) / sizeof(curves[0]))

static size_t in_range(enum kbs_curve curve)
{
    return (size_t)curve < CURVE_COUNT ? (size_t)curve : 0;
}

size_t kbs_curve_field_bytes(enum kbs_curve curve)
{
    return curves[in_range(curve)].field_bytes;
}

const char *kbs_curve_jose_name(enum kbs_curve curve)
{
    return curves[in_range(curve)].jose;
}

const char *kbs_curve_group_name(enum kbs_curve curve)
{
    return curves[in_range(curve)].group;
}

enum kbs_curve kbs_curve_from_jose_name(struct kbs_span name)
{
    for (size_t i = 1; i < CURVE_COUNT; i++) {
        if (kbs_span_equal_str(name, curves[i].jose)) {
            return (enum kbs_curve)i;
        }
    }
    return KBS_CURVE_NONE;
}

struct kbs_span kbs_curve_oid_der(enum kbs_curve curve)
{
    return kbs_span(curves[in_range(curve)].oid, curves[in_range(curve)].oid_len);
}

static int public_check_openssl(const char *group, struct kbs_span point)
{
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *from = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY_CTX *check = NULL;
    OSSL_PARAM *params = NULL;
    EVP_PKEY *key = NULL;
    int ok = bld != NULL && from != NULL &&
             OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, group, 0) &&
             OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point.p, point.len) &&
             (params = OSSL_PARAM_BLD_to_param(bld)) != NULL && EVP_PKEY_fromdata_init(from) == 1 &&
             EVP_PKEY_fromdata(from, &key, EVP_PKEY_PUBLIC_KEY, params) == 1 &&
             (check = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL)) != NULL &&
             EVP_PKEY_public_check_quick(check) == 1;

    EVP_PKEY_CTX_free(check);
    EVP_PKEY_free(key);
    OSSL_PARAM_free(params);
    EVP_PKEY_CTX_free(from);
    OSSL_PARAM_BLD_free(bld);
    return ok ? 0 : -1;
}

int kbs_ec_public_check(const struct kbs_ec_public *k, struct kbs_error *err)
{
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    size_t len = kbs_ec_point_put(k, point);

    if (kbs_curve_field_bytes(k->curve) == 0) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the public key's curve is not supported");
    }
    ERR_clear_error();
    if (public_check_openssl(kbs_curve_group_name(k->curve), kbs_span(point, len)) != 0) {
        return kbs_fail_openssl(err, KBS_UNPROCESSABLE, "the public key is not a point of %s",
                                kbs_curve_jose_name(k->curve));
    }
    return 0;
}

size_t kbs_ec_point_put(const struct kbs_ec_public *k, uint8_t out[KBS_EC_POINT_MAX_BYTES])
{
    size_t n = kbs_curve_field_bytes(k->curve);

    out[0] = 0x04;
    memcpy(out + 1, k->x, n);
    memcpy(out + 1 + n, k->y, n);
    return 1 + 2 * n;
}

int kbs_ec_point_get(enum kbs_curve curve, struct kbs_span point, struct kbs_ec_public *ret,
                     struct kbs_error *err)
{
    size_t n = kbs_curve_field_bytes(curve);

    if (n == 0 || point.len != 1 + 2 * n || point.p[0] != 0x04) {
        return kbs_fail(err, KBS_INPUT, "not an uncompressed point of %s (%zu bytes)",
                        kbs_curve_jose_name(curve), point.len);
    }
    *ret = (struct kbs_ec_public){.curve = curve};
    memcpy(ret->x, point.p + 1, n);
    memcpy(ret->y, point.p + 1 + n, n);
    return 0;
}

bool kbs_ec_public_equal(const struct kbs_ec_public *a, const struct kbs_ec_public *b)
{
    return a->curve == b->curve && kbs_span_equal(kbs_ec_x(a), kbs_ec_x(b)) &&
           kbs_span_equal(kbs_ec_y(a), kbs_ec_y(b));
}

/* An unsigned 32-byte number as DER INTEGER: no leading zeros, but one if the top bit is set. */
static size_t der_integer_put(const uint8_t number[32], uint8_t *out)
{
    size_t skip = 0;
    size_t pad;

    while (skip < 31 && number[skip] == 0) {
        skip++;
    }
    pad = number[skip] >> 7;
    out[0] = 2;
    out[1] = (uint8_t)(32 - skip + pad);
    out[2] = 0;
    memcpy(out + 2 + pad, number + skip, 32 - skip);
    return 2 + pad + 32 - skip;
}

static EVP_PKEY *pkey_new(const struct kbs_ec_public *key)
{
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    size_t point_len = kbs_ec_point_put(key, point);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY *pkey = NULL;

    if (ctx != NULL && EVP_PKEY_paramgen_init(ctx) == 1 &&
        EVP_PKEY_CTX_set_group_name(ctx, kbs_curve_group_name(key->curve)) == 1 &&
        EVP_PKEY_paramgen(ctx, &pkey) == 1 &&
        EVP_PKEY_set1_encoded_public_key(pkey, point, point_len) != 1) {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

bool kbs_ec_verify(const struct kbs_ec_public *key, const uint8_t digest[32],
                   const uint8_t signature[KBS_ES256_BYTES])
{
    uint8_t der[2 + 2 * (2 + 33)];
    size_t len = 2;
    EVP_PKEY *pkey = key->curve == KBS_CURVE_P256 ? pkey_new(key) : NULL;
    EVP_PKEY_CTX *ctx = pkey != NULL ? EVP_PKEY_CTX_new(pkey, NULL) : NULL;
    bool ok;

    len += der_integer_put(signature, der + len);
    len += der_integer_put(signature + 32, der + len);
    der[0] = 0x30;
    der[1] = (uint8_t)(len - 2);
    ok = ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 &&
         EVP_PKEY_verify(ctx, der, len, digest, 32) == 1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    (void)kbs_error_openssl_take(); /* a signature that does not verify leaves an entry */
    return ok;
}
