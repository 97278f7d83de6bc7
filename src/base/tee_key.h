/*
 * The key that a TEE wants its keys wrapped to (RCAR's tee-pubkey): an EC key on a NIST curve or an RSA
 * key. One encoding, used on the role channels and in the session's row.
 */
#ifndef KBS_BASE_TEE_KEY_H
#define KBS_BASE_TEE_KEY_H

#include "base/ec.h"
#include "base/limits.h"
#include "base/terms.h"

#define KBS_RSA_EXPONENT_MAX_BYTES 8

/* Big endian, without leading zeros. */
struct kbs_rsa_public {
    uint8_t n[KBS_LIMIT_RSA_BYTES_MAX];
    size_t n_len;
    uint8_t e[KBS_RSA_EXPONENT_MAX_BYTES];
    size_t e_len;
};

struct kbs_tee_key {
    enum kbs_tee_alg alg; /* says which of the two is used */
    struct kbs_ec_public ec;
    struct kbs_rsa_public rsa;
};

static inline struct kbs_span kbs_rsa_n(const struct kbs_rsa_public *k)
{
    return kbs_span(k->n, k->n_len);
}
static inline struct kbs_span kbs_rsa_e(const struct kbs_rsa_public *k)
{
    return kbs_span(k->e, k->e_len);
}

/*
 * RSA: 2048 to 4096 bits and a multiple of 8 of them, odd modulus without leading zeros, odd exponent from
 * 3 on (RFC 8017 section 3.1; whether n is a product of two primes cannot be seen), and not of the form that
 * CVE-2017-15361 is about. KBS_UNPROCESSABLE.
 */
KBS_MUST_CHECK int kbs_rsa_public_check(const struct kbs_rsa_public *k, struct kbs_error *err);
/*
 * By alg: kbs_ec_public_check() or kbs_rsa_public_check(); KBS_UNPROCESSABLE also for no alg, and for a curve that
 * is not the alg's.
 */
KBS_MUST_CHECK int kbs_tee_key_check(const struct kbs_tee_key *k, struct kbs_error *err);
/* The same of a key that something is to be wrapped to: not of one that signs. */
KBS_MUST_CHECK int kbs_tee_key_check_target(const struct kbs_tee_key *k, struct kbs_error *err);
/* What a key on that curve signs by (RFC 7518 section 3.4). */
enum kbs_tee_alg kbs_tee_alg_of_curve(enum kbs_curve curve);

#define KBS_TEE_KEY_MAX_BYTES (2 + KBS_RSA_EXPONENT_MAX_BYTES + KBS_LIMIT_RSA_BYTES_MAX)
/*
 * alg (1 byte), then EC: curve (1 byte), uncompressed point; RSA: length of e (1 byte), e, n. Returns the
 * length.
 */
size_t kbs_tee_key_put(const struct kbs_tee_key *k, uint8_t out[KBS_TEE_KEY_MAX_BYTES]);
/* The reverse, of exactly that form: KBS_INPUT. Does not check the key. */
KBS_MUST_CHECK int kbs_tee_key_get(struct kbs_span bytes, struct kbs_tee_key *ret,
                                   struct kbs_error *err);

bool kbs_tee_key_equal(const struct kbs_tee_key *a, const struct kbs_tee_key *b);

#endif
