/*
 * Elliptic-curve public keys on the NIST curves (FIPS 186-4; SEC 1 for points): the one shape in
 * which TEE keys, epks and token keys travel between the roles. Coordinates are big endian,
 * left-padded to the field size (32, 48 or 66 bytes).
 */
#ifndef KBS_BASE_EC_H
#define KBS_BASE_EC_H

#include "base/buf.h"
#include "base/error.h"
#include "base/span.h"

enum kbs_curve {
    KBS_CURVE_NONE = 0,
    KBS_CURVE_P256 = 1, /* the COSE numbers (RFC 9053 section 7.1), also used on the wire */
    KBS_CURVE_P384 = 2,
    KBS_CURVE_P521 = 3
};

#define KBS_EC_FIELD_MAX_BYTES 66
#define KBS_EC_POINT_MAX_BYTES (1 + 2 * KBS_EC_FIELD_MAX_BYTES)

struct kbs_ec_public {
    enum kbs_curve curve;
    uint8_t x[KBS_EC_FIELD_MAX_BYTES]; /* kbs_curve_field_bytes(curve) are used */
    uint8_t y[KBS_EC_FIELD_MAX_BYTES];
};

size_t kbs_curve_field_bytes(enum kbs_curve curve);     /* 0 for KBS_CURVE_NONE or out of range */
const char *kbs_curve_jose_name(enum kbs_curve curve);  /* "P-256", ... */
const char *kbs_curve_group_name(enum kbs_curve curve); /* OpenSSL's group name */
enum kbs_curve kbs_curve_from_jose_name(struct kbs_span name); /* KBS_CURVE_NONE if unknown */
/* DER of the namedCurve OID, for CKA_EC_PARAMS. Returns borrowed (static). */
struct kbs_span kbs_curve_oid_der(enum kbs_curve curve);

static inline struct kbs_span kbs_ec_x(const struct kbs_ec_public *k)
{
    return kbs_span(k->x, kbs_curve_field_bytes(k->curve));
}
static inline struct kbs_span kbs_ec_y(const struct kbs_ec_public *k)
{
    return kbs_span(k->y, kbs_curve_field_bytes(k->curve));
}

/*
 * Checks that the key is a point of its curve (not infinity, coordinates below p, on the curve: the
 * full public-key validation of SP 800-56A 5.6.2.3.3 for curves of cofactor 1). KBS_UNPROCESSABLE
 * if not.
 */
KBS_MUST_CHECK int kbs_ec_public_check(const struct kbs_ec_public *k, struct kbs_error *err);

/* Uncompressed point 04 || x || y (SEC 1 section 2.3.3); returns its length. */
size_t kbs_ec_point_put(const struct kbs_ec_public *k, uint8_t out[KBS_EC_POINT_MAX_BYTES]);
/* The reverse; takes exactly the uncompressed form of that curve. Does not check the curve
 * equation. */
KBS_MUST_CHECK int kbs_ec_point_get(enum kbs_curve curve, struct kbs_span point,
                                    struct kbs_ec_public *ret, struct kbs_error *err);

#define KBS_ES256_BYTES 64
#define KBS_ES384_BYTES 96
#define KBS_ECDSA_MAX_BYTES (2 * KBS_EC_FIELD_MAX_BYTES)
#define KBS_ECDSA_DER_MAX_BYTES (3 + 2 * (2 + 1 + KBS_EC_FIELD_MAX_BYTES))

/*
 * r || s, at most KBS_ECDSA_MAX_BYTES, as TLS and X.509 have it: Ecdsa-Sig-Value of RFC 3279 section
 * 2.2.3, in DER. Returns its length.
 */
size_t kbs_ecdsa_der_put(struct kbs_span signature, uint8_t out[KBS_ECDSA_DER_MAX_BYTES]);

/*
 * True if r || s (32 bytes each) is an ECDSA signature of a SHA-256 digest by that P-256 key (FIPS
 * 186-5 section 6.4.2).
 */
bool kbs_ec_verify(const struct kbs_ec_public *key, const uint8_t digest[32],
                   const uint8_t signature[KBS_ES256_BYTES]);
/* The same on any curve: r || s of the field's size each, of a digest that goes with the curve. */
bool kbs_ec_verify_any(const struct kbs_ec_public *key, struct kbs_span digest,
                       struct kbs_span signature);

bool kbs_ec_public_equal(const struct kbs_ec_public *a, const struct kbs_ec_public *b);

#endif
