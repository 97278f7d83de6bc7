/*
 * JOSE, the reading half: public JWKs and signatures that come from outside. cjose verifies ECDSA and RSA
 * signatures, behind our own checks of algorithm, type, curve and size; no key material passes
 * through it. Signatures by other keys than ours and our administrators': jwt.h.
 */
#ifndef KBS_JOSE_READ_JOSE_H
#define KBS_JOSE_READ_JOSE_H

#include "base/ec.h"
#include "base/tee_key.h"
#include "jose/read/json.h"

/*
 * An EC public JWK (RFC 7518 section 6.2.1): kty EC, crv P-256/384/521, x and y of exactly the
 * field size, no private member, point on the curve. `alg`, when present, must equal `alg_required`
 * if that is not NULL, and `use` and `key_ops`, when present, must then fit it: sig/verify for
 * ES256, else enc/deriveKey or deriveBits. KBS_INPUT for shape, KBS_UNPROCESSABLE for a point off
 * its curve.
 */
KBS_MUST_CHECK int kbs_jose_jwk_get(const json_t *jwk, const char *alg_required,
                                    struct kbs_ec_public *ret, struct kbs_error *err);

/*
 * An RSA public JWK (RFC 7518 section 6.3.1): kty RSA, n and e without leading zeros, no private member,
 * kbs_rsa_public_check(). `alg`, `use` and `key_ops`, when present, must fit alg_required: enc,
 * encrypt or wrapKey. KBS_INPUT for shape, KBS_UNPROCESSABLE for a modulus or exponent that is not taken.
 */
KBS_MUST_CHECK int kbs_jose_rsa_jwk_get(const json_t *jwk, const char *alg_required,
                                        struct kbs_rsa_public *ret, struct kbs_error *err);

/*
 * One PEM SubjectPublicKeyInfo holding an EC key, and nothing but white space around it. KBS_INPUT
 * otherwise.
 */
KBS_MUST_CHECK int kbs_jose_public_from_pem(struct kbs_span pem, struct kbs_ec_public *ret,
                                            struct kbs_error *err);

/* The signature algorithms there are here (RFC 7518 section 3.1, RFC 8037 section 3.1). */
enum kbs_jws_alg {
    KBS_JWS_ALG_NONE = 0,
    KBS_JWS_ALG_ES256 = 1,
    KBS_JWS_ALG_ES384 = 2,
    KBS_JWS_ALG_ES512 = 3,
    KBS_JWS_ALG_RS256 = 4,
    KBS_JWS_ALG_RS384 = 5,
    KBS_JWS_ALG_RS512 = 6,
    KBS_JWS_ALG_PS256 = 7,
    KBS_JWS_ALG_PS384 = 8,
    KBS_JWS_ALG_PS512 = 9,
    KBS_JWS_ALG_EDDSA = 10,
    KBS_JWS_ALG_COUNT
};
#define KBS_JWS_ALG_BIT(alg) (1u << (alg))
#define KBS_JWS_ALGS_ALL (KBS_JWS_ALG_BIT(KBS_JWS_ALG_COUNT) - 2u)
/* KBS_JWS_ALG_NONE for any other name, "none" among them. */
enum kbs_jws_alg kbs_jws_alg_from_name(struct kbs_span name);

/*
 * The three parts of a compact JWS, split and header parsed, nothing verified. Payload not decoded.
 */
struct kbs_jose_jws {
    json_t *header;       /* owned; kbs_jose_jws_deinit() */
    enum kbs_jws_alg alg; /* what the header says: a claim, which the key decides on */
    struct kbs_span kid;  /* borrowed from header; empty if absent */
    struct kbs_span text; /* borrowed: the whole compact text */
};
#define KBS_JOSE_JWS_NULL ((struct kbs_jose_jws){.header = NULL})
/*
 * KBS_UNAUTHENTICATED if malformed, over KBS_LIMIT_JWT_BYTES, alg not ES256, or `crit` or `b64`
 * present. Nothing to free after a failure; text must outlive *ret.
 */
KBS_MUST_CHECK int kbs_jose_jws_split(struct kbs_span text, struct kbs_jose_jws *ret,
                                      struct kbs_error *err);
void kbs_jose_jws_deinit(struct kbs_jose_jws *jws);

/*
 * Verifies ES256 (RFC 7515, RFC 7518 section 3.4) with a P-256 key that the caller chose (never one
 * from the header) and parses the payload as a strict JSON object. KBS_UNAUTHENTICATED if it does
 * not verify. Returns owned.
 */
KBS_MUST_CHECK int kbs_jose_jws_verify(const struct kbs_jose_jws *jws,
                                       const struct kbs_ec_public *key, json_t **ret_payload,
                                       struct kbs_error *err);
/*
 * The same for a payload of any kind: appends its bytes to ret_payload. KBS_UNAUTHENTICATED alike,
 * KBS_TOO_LARGE if they do not fit.
 */
KBS_MUST_CHECK int kbs_jose_jws_verify_bytes(const struct kbs_jose_jws *jws,
                                             const struct kbs_ec_public *key,
                                             struct kbs_buf *ret_payload, struct kbs_error *err);

/*
 * One recipient of a general JWE: header{alg, epk, kid, apu, apv} (RSA: header{alg, kid}; A256KW: no epk),
 * encrypted_key.
 */
struct kbs_jose_recipient_in {
    struct kbs_ec_public epk;
    char kid[KBS_LIMIT_KID_BYTES + 1];
    struct kbs_buf apu;           /* decoded */
    struct kbs_buf apv;           /* decoded */
    struct kbs_buf encrypted_key; /* decoded */
};
void kbs_jose_recipient_in_deinit(struct kbs_jose_recipient_in *r);
/*
 * Reads one by that alg (KBS_TEE_ALG_NONE: A256KW, RFC 7518 section 4.4) and no other; unknown members are KBS_INPUT. A kid over
 * KBS_LIMIT_KID_BYTES is KBS_INPUT. The kid is copied NUL-terminated. apu and apv are empty if
 * absent, at most KBS_LIMIT_KID_BYTES; encrypted_key is KBS_LIMIT_KEY_BYTES_MIN+8 to _MAX+8 bytes,
 * a multiple of 8 (RSA: a modulus' length). Nothing to free after a failure. KBS_UNPROCESSABLE for an epk off its curve.
 */
KBS_MUST_CHECK int kbs_jose_recipient_get(const json_t *recipient, enum kbs_tee_alg alg,
                                          struct kbs_jose_recipient_in *ret, struct kbs_error *err);

#endif
