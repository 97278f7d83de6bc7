/*
 * TEE keys come from outside and go to a token that may believe anything, so what can be checked of a
 * public key is checked here, and by every role that takes one.
 */
#include "base/tee_key.h"

static bool number_valid(const uint8_t *p, size_t len)
{
    return len > 0 && p[0] != 0 && (p[len - 1] & 1) != 0;
}

/*
 * Moduli of a library that chose its primes as k*M + (65537^a mod M), M the product of the first
 * primes (CVE-2017-15361): such a modulus is a power of 65537 modulo each of them, and it can be
 * factored. One in 2^27 of all other moduli looks like that for these primes.
 */
static bool modulus_is_roca(const struct kbs_rsa_public *k)
{
    static const uint8_t primes[] = {11, 13, 17,  19,  37,  53,  61,  71, 73,
                                     79, 97, 103, 107, 109, 127, 151, 157};

    for (size_t i = 0; i < sizeof(primes); i++) {
        unsigned int p = primes[i];
        unsigned int power = 1;
        unsigned int n = 0;
        bool found = false;

        for (size_t b = 0; b < k->n_len; b++) {
            n = (n << 8 | k->n[b]) % p;
        }
        for (unsigned int a = 0; a < p && !found; a++) {
            found = power == n;
            power = power * (65537 % p) % p;
        }
        if (!found) {
            return false;
        }
    }
    return true;
}

int kbs_rsa_public_check(const struct kbs_rsa_public *k, struct kbs_error *err)
{
    if (k->n_len < KBS_LIMIT_RSA_BYTES_MIN || k->n_len > KBS_LIMIT_RSA_BYTES_MAX ||
        !number_valid(k->n, k->n_len) || (k->n[0] & 0x80) == 0) {
        return kbs_fail(
            err, KBS_UNPROCESSABLE,
            "the RSA modulus is not an odd number of 2048 to 4096 bits, in whole bytes");
    }
    if (k->e_len > KBS_RSA_EXPONENT_MAX_BYTES || !number_valid(k->e, k->e_len) ||
        (k->e_len == 1 && k->e[0] == 1)) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "the RSA exponent is not an odd number from 3 on, of at most %d bytes",
                        KBS_RSA_EXPONENT_MAX_BYTES);
    }
    if (modulus_is_roca(k)) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "the RSA modulus is of a kind that can be factored");
    }
    return 0;
}

enum kbs_tee_alg kbs_tee_alg_of_curve(enum kbs_curve curve)
{
    switch (curve) {
    case KBS_CURVE_P256:
        return KBS_TEE_ALG_ES256;
    case KBS_CURVE_P384:
        return KBS_TEE_ALG_ES384;
    case KBS_CURVE_P521:
        return KBS_TEE_ALG_ES512;
    case KBS_CURVE_NONE:
        break;
    }
    return KBS_TEE_ALG_NONE;
}

static int signer_check(const struct kbs_tee_key *k, struct kbs_error *err)
{
    return k->alg == kbs_tee_alg_of_curve(k->ec.curve)
               ? kbs_ec_public_check(&k->ec, err)
               : kbs_fail(err, KBS_UNPROCESSABLE, "%s is not of a key on this curve",
                          kbs_tee_alg_name(k->alg));
}

int kbs_tee_key_check_target(const struct kbs_tee_key *k, struct kbs_error *err)
{
    return kbs_tee_alg_signs(k->alg)
               ? kbs_fail(err, KBS_UNPROCESSABLE, "nothing is wrapped to a key that signs (%s)",
                          kbs_tee_alg_name(k->alg))
               : kbs_tee_key_check(k, err);
}

int kbs_tee_key_check(const struct kbs_tee_key *k, struct kbs_error *err)
{
    switch (k->alg) {
    case KBS_TEE_ALG_ECDH_ES_A256KW:
        return kbs_ec_public_check(&k->ec, err);
    case KBS_TEE_ALG_RSA_OAEP_256:
    case KBS_TEE_ALG_RSA_OAEP:
    case KBS_TEE_ALG_RSA1_5:
        return kbs_rsa_public_check(&k->rsa, err);
    case KBS_TEE_ALG_ES256:
    case KBS_TEE_ALG_ES384:
    case KBS_TEE_ALG_ES512:
        return signer_check(k, err);
    case KBS_TEE_ALG_NONE:
    case KBS_TEE_ALG_COUNT:
        break;
    }
    return kbs_fail(err, KBS_UNPROCESSABLE, "the TEE key has no algorithm");
}

size_t kbs_tee_key_put(const struct kbs_tee_key *k, uint8_t out[KBS_TEE_KEY_MAX_BYTES])
{
    out[0] = (uint8_t)k->alg;
    if (kbs_tee_alg_is_ec(k->alg)) {
        out[1] = (uint8_t)k->ec.curve;
        return 2 + kbs_ec_point_put(&k->ec, out + 2);
    }
    out[1] = (uint8_t)k->rsa.e_len;
    memcpy(out + 2, k->rsa.e, k->rsa.e_len);
    memcpy(out + 2 + k->rsa.e_len, k->rsa.n, k->rsa.n_len);
    return 2 + k->rsa.e_len + k->rsa.n_len;
}

static int rsa_get(struct kbs_span bytes, struct kbs_rsa_public *ret, struct kbs_error *err)
{
    size_t e_len = bytes.p[1];
    size_t n_len;

    if (e_len > KBS_RSA_EXPONENT_MAX_BYTES || bytes.len < 2 + e_len ||
        bytes.len - 2 - e_len > KBS_LIMIT_RSA_BYTES_MAX) {
        return kbs_fail(err, KBS_INPUT, "the TEE key is malformed");
    }
    n_len = bytes.len - 2 - e_len;
    memcpy(ret->e, bytes.p + 2, e_len);
    memcpy(ret->n, bytes.p + 2 + e_len, n_len);
    ret->e_len = e_len;
    ret->n_len = n_len;
    return 0;
}

int kbs_tee_key_get(struct kbs_span bytes, struct kbs_tee_key *ret, struct kbs_error *err)
{
    if (bytes.len < 3 || bytes.p[0] == KBS_TEE_ALG_NONE || bytes.p[0] >= KBS_TEE_ALG_COUNT) {
        return kbs_fail(err, KBS_INPUT, "the TEE key is malformed");
    }
    memset(ret, 0, sizeof(*ret));
    ret->alg = (enum kbs_tee_alg)bytes.p[0];
    if (!kbs_tee_alg_is_ec(ret->alg)) {
        return rsa_get(bytes, &ret->rsa, err);
    }
    if (kbs_curve_field_bytes((enum kbs_curve)bytes.p[1]) == 0) {
        return kbs_fail(err, KBS_INPUT, "the TEE key is on an unknown curve");
    }
    return kbs_ec_point_get((enum kbs_curve)bytes.p[1], kbs_span_skip(bytes, 2), &ret->ec, err);
}

bool kbs_tee_key_equal(const struct kbs_tee_key *a, const struct kbs_tee_key *b)
{
    uint8_t x[KBS_TEE_KEY_MAX_BYTES];
    uint8_t y[KBS_TEE_KEY_MAX_BYTES];

    return kbs_span_equal(kbs_span(x, kbs_tee_key_put(a, x)), kbs_span(y, kbs_tee_key_put(b, y)));
}
