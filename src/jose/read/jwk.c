/*
 * Public JWKs from outside: EC, RSA and Ed25519.
 *
 * A JWK is read member by member rather than handed to cjose, whose import takes wrong-sized
 * coordinates and says nothing about `alg`, `use` or a private member. What counts: kty, crv, x and
 * y, of exactly the field size in canonical base64url, and a point of the curve. A key that
 * announces another use than the one it is wanted for is refused (RFC 7517 sections 4.2 to 4.4): a
 * signature key shall not receive wrapped keys, nor the reverse. A private member is an accident at
 * the sender and is refused loudly instead of being dropped.
 */
#include "base/encoding.h"
#include "jose/read/jwt.h"
#include "jose/write/jose.h"

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
    if (kbs_jws_alg_from_name(kbs_span_str(alg)) != KBS_JWS_ALG_NONE) {
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

/* RFC 8037 section 2. */
static int ed25519_get(const json_t *jwk, const char *alg, uint8_t *out, struct kbs_error *err)
{
    struct kbs_span text;

    if (jwk_check(jwk, "OKP", alg, err) != 0 || kbs_json_get_string(jwk, "crv", &text, err) != 0) {
        return -1;
    }
    if (!kbs_span_equal_str(text, "Ed25519")) {
        return kbs_fail(err, KBS_INPUT, "JWK: \"crv\" is not Ed25519");
    }
    if (kbs_json_get_string(jwk, "x", &text, err) != 0) {
        return -1;
    }
    if (kbs_base64url_get_exact(out, KBS_JWS_ED25519_BYTES, text) != 0) {
        return kbs_fail(err, KBS_INPUT, "JWK: \"x\" is not the base64url of %d bytes",
                        KBS_JWS_ED25519_BYTES);
    }
    return 0;
}

/* The kind of key that an algorithm is computed with. */
static enum kbs_jws_key_kind kind_of_alg(enum kbs_jws_alg alg)
{
    if (alg == KBS_JWS_ALG_EDDSA) {
        return KBS_JWS_KEY_ED25519;
    }
    return alg <= KBS_JWS_ALG_ES512 ? KBS_JWS_KEY_EC : KBS_JWS_KEY_RSA;
}

/* Everything but `alg` is known: of a key that does not say what it is for. */
static int key_by_kty(const json_t *jwk, unsigned int algs, struct kbs_jws_key *key,
                      struct kbs_error *err)
{
    struct kbs_span kty;
    int rc;

    if (kbs_json_get_string(jwk, "kty", &kty, err) != 0) {
        return -1;
    }
    if (kbs_span_equal_str(kty, "EC")) {
        key->kind = KBS_JWS_KEY_EC;
        rc = kbs_jose_jwk_get(jwk, "ES256", &key->ec, err); /* the use is the same for all */
    } else if (kbs_span_equal_str(kty, "RSA")) {
        key->kind = KBS_JWS_KEY_RSA;
        rc = kbs_jose_rsa_jwk_get(jwk, "RS256", &key->rsa, err);
    } else {
        key->kind = KBS_JWS_KEY_ED25519;
        rc = ed25519_get(jwk, "EdDSA", key->ed25519, err);
    }
    key->algs = kbs_jws_key_algs(key) & algs;
    return rc;
}

static int kid_get(const json_t *jwk, struct kbs_jws_key *key, struct kbs_error *err)
{
    struct kbs_span text = KBS_SPAN_EMPTY;

    if (kbs_json_opt_string(jwk, "kid", &text, err) != 0) {
        return -1;
    }
    if (!kbs_span_to_cstr(text, key->kid, sizeof(key->kid))) {
        return kbs_fail(err, KBS_INPUT, "JWK: \"kid\" is not a short string");
    }
    return 0;
}

int kbs_jws_key_from_jwk_for(const json_t *jwk, unsigned int algs, struct kbs_jws_key *ret,
                             struct kbs_error *err)
{
    struct kbs_jws_key key = {.kind = KBS_JWS_KEY_NONE};

    *ret = key;
    if (json_object_get(jwk, "alg") != NULL) {
        if (kbs_jws_key_from_jwk(jwk, ret, err) != 0) {
            return -1;
        }
        ret->algs &= algs;
        return 0;
    }
    if (key_by_kty(jwk, algs, &key, err) != 0 || kid_get(jwk, &key, err) != 0) {
        return -1;
    }
    *ret = key;
    return 0;
}

int kbs_jws_key_from_jwk(const json_t *jwk, struct kbs_jws_key *ret, struct kbs_error *err)
{
    struct kbs_jws_key key = {.kind = KBS_JWS_KEY_NONE};
    struct kbs_span text = KBS_SPAN_EMPTY;
    enum kbs_jws_alg alg;
    char name[8];
    int rc;

    *ret = key;
    if (kbs_json_get_string(jwk, "alg", &text, err) != 0) {
        return -1;
    }
    alg = kbs_jws_alg_from_name(text);
    if (alg == KBS_JWS_ALG_NONE || !kbs_span_to_cstr(text, name, sizeof(name))) {
        return kbs_fail(err, KBS_INPUT, "JWK: \"alg\" is not a signature algorithm of ours");
    }
    key.kind = kind_of_alg(alg);
    key.algs = KBS_JWS_ALG_BIT(alg);
    if (key.kind == KBS_JWS_KEY_EC) {
        rc = kbs_jose_jwk_get(jwk, name, &key.ec, err);
    } else if (key.kind == KBS_JWS_KEY_RSA) {
        rc = kbs_jose_rsa_jwk_get(jwk, name, &key.rsa, err);
    } else {
        rc = ed25519_get(jwk, name, key.ed25519, err);
    }
    if (rc != 0) {
        return -1;
    }
    if ((key.algs & kbs_jws_key_algs(&key)) == 0) {
        return kbs_fail(err, KBS_INPUT, "JWK: %s is not for a key on this curve", name);
    }
    if (kid_get(jwk, &key, err) != 0) {
        return -1;
    }
    *ret = key;
    return 0;
}
