/*
 * EC public keys. Whether one is a point of its curve is asked once per release, so it is asked of
 * a group that OpenSSL has made once: coordinates below the field's prime and the curve equation.
 * That is the whole of a full public key validation (SP 800-56A section 5.6.2.3.3), for the curves
 * have cofactor 1 and an uncompressed point is not the one at infinity. Rejected: an EVP_PKEY and
 * its quick check, which says the same and takes twenty times as long.
 */
#include "base/ec.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdatomic.h>

static const uint8_t oid_p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
static const uint8_t oid_p384[] = {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22};
static const uint8_t oid_p521[] = {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23};

static const struct {
    size_t field_bytes;
    const char *jose;
    const char *group;
    int nid;
    const uint8_t *oid;
    size_t oid_len;
} curves[] = {
    [KBS_CURVE_NONE] = {0, "none", "none", NID_undef, NULL, 0},
    [KBS_CURVE_P256] = {32, "P-256", "prime256v1", NID_X9_62_prime256v1, oid_p256,
                        sizeof(oid_p256)},
    [KBS_CURVE_P384] = {48, "P-384", "secp384r1", NID_secp384r1, oid_p384, sizeof(oid_p384)},
    [KBS_CURVE_P521] = {66, "P-521", "secp521r1", NID_secp521r1, oid_p521, sizeof(oid_p521)},
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

/*
 * The curve's group. A constant, but one that OpenSSL makes at run time: made for the first that
 * asks and kept. Of two threads that both were the first, one throws its own away. NULL if memory
 * ran out.
 */
static const EC_GROUP *group_of(enum kbs_curve curve)
{
    static EC_GROUP *_Atomic groups[CURVE_COUNT];
    size_t i = in_range(curve);
    EC_GROUP *group = atomic_load(&groups[i]);
    EC_GROUP *made;

    if (group != NULL || i == KBS_CURVE_NONE) {
        return group;
    }
    made = EC_GROUP_new_by_curve_name(curves[i].nid);
    if (made == NULL || atomic_compare_exchange_strong(&groups[i], &group, made)) {
        return made;
    }
    EC_GROUP_free(made);
    return group;
}

static bool is_on_curve(const EC_GROUP *group, struct kbs_span point)
{
    EC_POINT *p = EC_POINT_new(group);
    bool ok = p != NULL && EC_POINT_oct2point(group, p, point.p, point.len, NULL) == 1 &&
              EC_POINT_is_at_infinity(group, p) == 0 && EC_POINT_is_on_curve(group, p, NULL) == 1;

    EC_POINT_free(p);
    return ok;
}

int kbs_ec_public_check(const struct kbs_ec_public *k, struct kbs_error *err)
{
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    size_t len = kbs_ec_point_put(k, point);
    const EC_GROUP *group = group_of(k->curve);

    if (kbs_curve_field_bytes(k->curve) == 0) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the public key's curve is not supported");
    }
    if (group == NULL) {
        return kbs_fail_openssl(err, KBS_INTERNAL, "out of memory");
    }
    ERR_clear_error();
    if (!is_on_curve(group, kbs_span(point, len))) {
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

/* An unsigned number as DER INTEGER: no leading zeros, but one if the top bit is set. */
static size_t der_integer_put(struct kbs_span number, uint8_t *out)
{
    size_t skip = 0;
    size_t pad;
    size_t len;

    while (skip + 1 < number.len && number.p[skip] == 0) {
        skip++;
    }
    pad = number.p[skip] >> 7;
    len = number.len - skip;
    out[0] = 2;
    out[1] = (uint8_t)(len + pad); /* at most 67 */
    out[2] = 0;
    memcpy(out + 2 + pad, number.p + skip, len);
    return 2 + pad + len;
}

/* P-521's needs a length in two bytes. */
size_t kbs_ecdsa_der_put(struct kbs_span signature, uint8_t out[KBS_ECDSA_DER_MAX_BYTES])
{
    size_t half = signature.len / 2;
    uint8_t numbers[2 * (2 + 1 + KBS_EC_FIELD_MAX_BYTES)];
    size_t len = der_integer_put(kbs_span(signature.p, half), numbers);
    size_t head = 2;

    len += der_integer_put(kbs_span_skip(signature, half), numbers + len);
    out[0] = 0x30;
    out[1] = (uint8_t)len;
    if (len > 127) {
        out[1] = 0x81;
        out[2] = (uint8_t)len;
        head = 3;
    }
    memcpy(out + head, numbers, len);
    return head + len;
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

bool kbs_ec_verify_any(const struct kbs_ec_public *key, struct kbs_span digest,
                       struct kbs_span signature)
{
    uint8_t der[KBS_ECDSA_DER_MAX_BYTES];
    size_t field = kbs_curve_field_bytes(key->curve);
    bool ok = field != 0 && signature.len == 2 * field;
    EVP_PKEY *pkey = ok ? pkey_new(key) : NULL;
    EVP_PKEY_CTX *ctx = pkey != NULL ? EVP_PKEY_CTX_new(pkey, NULL) : NULL;

    ok = ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 &&
         EVP_PKEY_verify(ctx, der, kbs_ecdsa_der_put(signature, der), digest.p, digest.len) == 1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    (void)kbs_error_openssl_take(); /* a signature that does not verify leaves an entry */
    return ok;
}

bool kbs_ec_verify(const struct kbs_ec_public *key, const uint8_t digest[32],
                   const uint8_t signature[KBS_ES256_BYTES])
{
    return key->curve == KBS_CURVE_P256 &&
           kbs_ec_verify_any(key, kbs_span(digest, 32), kbs_span(signature, KBS_ES256_BYTES));
}
