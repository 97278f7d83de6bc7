/*
 * Public keys from outside: JWKs, EC and RSA, and PEM.
 *
 * A JWK is read member by member rather than handed to cjose, whose import takes wrong-sized
 * coordinates and says nothing about `alg`, `use` or a private member. What counts: kty, crv, x and
 * y, of exactly the field size in canonical base64url, and a point of the curve. A key that
 * announces another use than the one it is wanted for is refused (RFC 7517 sections 4.2 to 4.4): a
 * signature key shall not receive wrapped keys, nor the reverse. A private member is an accident at
 * the sender and is refused loudly instead of being dropped.
 *
 * PEM is one SubjectPublicKeyInfo and nothing else, of a named curve. OpenSSL would skip text
 * before it, accept curve parameters written out, and ask the terminal for a passphrase: none of
 * this may happen here.
 */
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/encoding.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"

#define PEM_MAX_BYTES 4096

static int coordinate_get(const json_t *jwk, const char *name, enum kbs_curve curve, uint8_t *out,
                          struct kbs_error *err)
{
    size_t bytes = kbs_curve_field_bytes(curve);
    struct kbs_span text;

    if (kbs_json_get_string(jwk, name, &text, err) != 0) {
        return -1;
    }
    if (kbs_base64url_get_exact(out, bytes, text) != 0) {
        return kbs_fail(err, KBS_INPUT, "JWK: \"%s\" is not the base64url of %zu bytes", name,
                        bytes);
    }
    return 0;
}

/* What may stand in `use` and `key_ops` of a key for an alg. */
struct use {
    const char *use;
    const char *ops[2];
};

static struct use use_of(const char *alg)
{
    if (strcmp(alg, "ES256") == 0) {
        return (struct use){"sig", {"verify", "verify"}};
    }
    if (strcmp(alg, KBS_JOSE_ECDH_ES_A256KW) == 0) {
        return (struct use){"enc", {"deriveKey", "deriveBits"}};
    }
    return (struct use){"enc", {"wrapKey", "encrypt"}};
}

/* `use` and `key_ops` against what alg_required is for; absent members allow everything. */
static int purpose_check(const json_t *jwk, const char *alg_required, struct kbs_error *err)
{
    const struct use wanted = use_of(alg_required);
    const json_t *ops = json_object_get(jwk, "key_ops");
    struct kbs_span use;
    bool found = false;

    if (kbs_json_opt_string(jwk, "use", &use, err) != 0) {
        return -1;
    }
    if (use.len != 0 && !kbs_span_equal_str(use, wanted.use)) {
        return kbs_fail(err, KBS_INPUT, "JWK: \"use\" is not for %s", alg_required);
    }
    if (ops == NULL) {
        return 0;
    }
    for (size_t i = 0; i < json_array_size(ops); i++) {
        const json_t *v = json_array_get(ops, i);
        const char *s = json_is_string(v) ? json_string_value(v) : "";
        found = found || strcmp(s, wanted.ops[0]) == 0 || strcmp(s, wanted.ops[1]) == 0;
    }
    if (!found) {
        return kbs_fail(err, KBS_INPUT, "JWK: \"key_ops\" is not for %s", alg_required);
    }
    return 0;
}

static int alg_check(const json_t *jwk, const char *alg_required, struct kbs_error *err)
{
    struct kbs_span alg;

    if (json_object_get(jwk, "alg") == NULL) {
        return 0;
    }
    if (kbs_json_get_string(jwk, "alg", &alg, err) != 0) {
        return -1;
    }
    if (alg_required != NULL && !kbs_span_equal_str(alg, alg_required)) {
        return kbs_fail(err, KBS_INPUT, "JWK: \"alg\" is not %s", alg_required);
    }
    return 0;
}

/* kty, no private half, and what the key says that it is for. */
static int jwk_check(const json_t *jwk, const char *kty_required, const char *alg_required,
                     struct kbs_error *err)
{
    struct kbs_span kty;

    if (!json_is_object(jwk)) {
        return kbs_fail(err, KBS_INPUT, "JWK: not an object");
    }
    if (kbs_json_get_string(jwk, "kty", &kty, err) != 0) {
        return -1;
    }
    if (!kbs_span_equal_str(kty, kty_required)) {
        return kbs_fail(err, KBS_INPUT, "JWK: \"kty\" is not %s", kty_required);
    }
    if (json_object_get(jwk, "d") != NULL || json_object_get(jwk, "p") != NULL ||
        json_object_get(jwk, "q") != NULL) {
        return kbs_fail(err, KBS_INPUT,
                        "JWK: a private key was sent: it must be considered disclosed");
    }
    if (alg_check(jwk, alg_required, err) != 0) {
        return -1;
    }
    return alg_required != NULL ? purpose_check(jwk, alg_required, err) : 0;
}

int kbs_jose_jwk_get(const json_t *jwk, const char *alg_required, struct kbs_ec_public *ret,
                     struct kbs_error *err)
{
    struct kbs_ec_public key = {.curve = KBS_CURVE_NONE};
    struct kbs_span crv;

    *ret = key;
    if (jwk_check(jwk, "EC", alg_required, err) != 0 ||
        kbs_json_get_string(jwk, "crv", &crv, err) != 0) {
        return -1;
    }
    key.curve = kbs_curve_from_jose_name(crv);
    if (key.curve == KBS_CURVE_NONE) {
        return kbs_fail(err, KBS_INPUT, "JWK: \"crv\" is not P-256, P-384 or P-521");
    }
    if (coordinate_get(jwk, "x", key.curve, key.x, err) != 0 ||
        coordinate_get(jwk, "y", key.curve, key.y, err) != 0 ||
        kbs_ec_public_check(&key, err) != 0) {
        return -1;
    }
    *ret = key;
    return 0;
}

/*
 * Base64urlUInt (RFC 7518 section 2): the fewest octets. A sender that pads gives its thumbprint,
 * and the report data, another value than we would rebuild, so it is told.
 */
static int number_get(const json_t *jwk, const char *name, uint8_t *out, size_t max,
                      size_t *ret_len, struct kbs_error *err)
{
    struct kbs_buf bytes = KBS_BUF(max);
    struct kbs_span text;
    int rc = 0;

    if (kbs_json_get_string(jwk, name, &text, err) != 0) {
        return -1;
    }
    if (text.len > max * 2) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "JWK: \"%s\" is longer than %zu bytes", name, max);
    }
    if (kbs_base64url_get(&bytes, text) != 0) {
        rc = bytes.failed ? kbs_fail(err, KBS_UNPROCESSABLE, "JWK: \"%s\" is longer than %zu bytes",
                                     name, max)
                          : kbs_fail(err, KBS_INPUT, "JWK: \"%s\" is not base64url", name);
    } else if (bytes.len == 0 || bytes.p[0] == 0) {
        rc = kbs_fail(err, KBS_INPUT, "JWK: \"%s\" is empty or has leading zeros", name);
    } else {
        memcpy(out, bytes.p, bytes.len);
        *ret_len = bytes.len;
    }
    kbs_buf_deinit(&bytes);
    return rc;
}

int kbs_jose_rsa_jwk_get(const json_t *jwk, const char *alg_required, struct kbs_rsa_public *ret,
                         struct kbs_error *err)
{
    struct kbs_rsa_public key = {.n_len = 0};

    *ret = key;
    if (jwk_check(jwk, "RSA", alg_required, err) != 0 ||
        number_get(jwk, "n", key.n, sizeof(key.n), &key.n_len, err) != 0 ||
        number_get(jwk, "e", key.e, sizeof(key.e), &key.e_len, err) != 0 ||
        kbs_rsa_public_check(&key, err) != 0) {
        return -1;
    }
    *ret = key;
    return 0;
}

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

int kbs_jose_public_from_pem(struct kbs_span pem, struct kbs_ec_public *ret, struct kbs_error *err)
{
    struct kbs_ec_public key = {.curve = KBS_CURVE_NONE};
    EVP_PKEY *pkey = pem_read(pem);
    bool ok = false;

    *ret = key;
    if (pkey != NULL) {
        key.curve = pkey_curve(pkey);
        size_t bytes = kbs_curve_field_bytes(key.curve);
        ok = bytes != 0 && pkey_coordinate(pkey, OSSL_PKEY_PARAM_EC_PUB_X, key.x, bytes) == 0 &&
             pkey_coordinate(pkey, OSSL_PKEY_PARAM_EC_PUB_Y, key.y, bytes) == 0;
    }
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
