/*
 * The keys of an issuer, and what a JWT says beside its signature.
 *
 * The problem: identity providers publish one set of keys for all that they do, while the choice of a key is the
 * choice of who is believed. The approach: what a set holds is decided once, when it is loaded; a
 * token then finds at most one key by name, and none of another algorithm. A set in which a name is
 * not unique, or which shows a key that is not public, is refused whole: whoever wrote it did not mean that.
 *
 * Times are integers. RFC 7519 allows fractions, but no issuer that we know of sends them, and a
 * double is where two readers of one token can differ.
 */
#include <stdlib.h>

#include "jose/read/x5c.h"

/* Loaded in the order of the set; `why` is of the last one that was left out. */
struct set {
    const json_t *items;
    const struct kbs_jwt_keys_rules *rules; /* NULL: each key has to say what it is for */
    struct kbs_jwt_keys *keys;
    struct kbs_error why;
};

static bool key_is_private(const json_t *jwk)
{
    static const char *const members[] = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"};

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (json_object_get(jwk, members[i]) != NULL) {
            return true;
        }
    }
    return false;
}

static bool member_is(const json_t *object, const char *name, struct kbs_span expected)
{
    const json_t *v = json_object_get(object, name);

    return json_is_string(v) &&
           kbs_span_equal(kbs_span(json_string_value(v), json_string_length(v)), expected);
}

/* True for a key of the set that is for something else than to verify, or that no token can name. */
static bool key_is_other(const struct kbs_jwt_keys_rules *rules, const json_t *jwk,
                         struct kbs_error *why)
{
    const json_t *alg = json_object_get(jwk, "alg");

    if (rules == NULL && json_object_get(jwk, "kid") == NULL) {
        (void)kbs_fail(why, KBS_INPUT, "JWK set: a key without \"kid\"");
        return true;
    }
    if (member_is(jwk, "use", KBS_SPAN_LIT("enc"))) {
        (void)kbs_fail(why, KBS_INPUT, "JWK set: a key with \"use\" \"enc\"");
        return true;
    }
    if (rules != NULL && alg == NULL) {
        return false;
    }
    if (!json_is_string(alg) ||
        kbs_jws_alg_from_name(kbs_span(json_string_value(alg), json_string_length(alg))) ==
            KBS_JWS_ALG_NONE) {
        (void)kbs_fail(why, KBS_INPUT, "JWK set: a key whose \"alg\" is absent or not one of ours");
        return true;
    }
    return false;
}

static bool kid_is_unique(const json_t *items, size_t n)
{
    const json_t *kid = json_object_get(json_array_get(items, n), "kid");

    for (size_t i = 0; kid != NULL && i < n; i++) {
        if (json_equal(json_object_get(json_array_get(items, i), "kid"), kid)) {
            return false;
        }
    }
    return true;
}

/* The key that a JWK says in numbers, or if it has none, by its certificate. */
static int key_read(const json_t *jwk, unsigned int algs, struct kbs_jws_key *key,
                    struct kbs_error *err)
{
    const json_t *x5c = json_object_get(jwk, "x5c");
    struct kbs_span kid = KBS_SPAN_EMPTY;

    if (json_object_get(jwk, "n") != NULL || json_object_get(jwk, "x") != NULL || x5c == NULL) {
        return kbs_jws_key_from_jwk_for(jwk, algs, key, err);
    }
    if (kbs_x5c_leaf(x5c, key, err) != 0 || kbs_json_opt_string(jwk, "kid", &kid, err) != 0) {
        return -1;
    }
    if (!kbs_span_to_cstr(kid, key->kid, sizeof(key->kid))) {
        return kbs_fail(err, KBS_INPUT, "JWK: \"kid\" is not a short string");
    }
    key->algs &= algs;
    return 0;
}

/* 1 if the key is to be left out, which `why` has the reason of. */
static int key_read_by(const struct kbs_jwt_keys_rules *rules, const json_t *jwk,
                       struct kbs_jws_key *key, struct kbs_error *why, struct kbs_error *err)
{
    struct kbs_jws_key leaf;

    if (key_read(jwk, rules->algs, key, err) != 0) {
        return -1;
    }
    if (key->algs == 0) {
        (void)kbs_fail(why, KBS_INPUT, "JWK set: a key for another algorithm than is configured");
        return 1;
    }
    if (rules->trust == NULL) {
        return 0;
    }
    *why = KBS_ERROR_NONE;
    if (kbs_x5c_verify(rules->trust, json_object_get(jwk, "x5c"), rules->now_s, &leaf, why) != 0) {
        return 1;
    }
    if (!kbs_jws_key_equal(key, &leaf)) {
        return kbs_fail(err, KBS_INPUT, "JWK set: a key is not the one of its certificate");
    }
    return 0;
}

static int set_take(struct set *set, size_t n, struct kbs_error *err)
{
    const json_t *jwk = json_array_get(set->items, n);
    struct kbs_jws_key *key = &set->keys->items[set->keys->count];

    if (!json_is_object(jwk)) {
        return kbs_fail(err, KBS_INPUT, "JWK set: key %zu is not an object", n + 1);
    }
    if (key_is_private(jwk)) {
        return kbs_fail(err, KBS_INPUT,
                        "JWK set: key %zu is private or symmetric, it must be considered disclosed",
                        n + 1);
    }
    if (!kid_is_unique(set->items, n)) {
        return kbs_fail(err, KBS_INPUT, "JWK set: key %zu has the \"kid\" of another one", n + 1);
    }
    if (key_is_other(set->rules, jwk, &set->why)) {
        return 0;
    }
    int rc = set->rules == NULL ? kbs_jws_key_from_jwk(jwk, key, err)
                                : key_read_by(set->rules, jwk, key, &set->why, err);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    if (key->kid[0] == '\0' && json_object_get(jwk, "kid") != NULL) {
        return kbs_fail(err, KBS_INPUT, "JWK set: key %zu has an empty \"kid\"", n + 1);
    }
    set->keys->count++;
    return 0;
}

static int set_load(struct kbs_span text, const struct kbs_jwt_keys_rules *rules,
                    struct kbs_jwt_keys *ret, struct kbs_error *err)
{
    struct set set = {.rules = rules, .keys = ret, .why = KBS_ERROR_NONE};
    KBS_AUTO_JSON root = NULL;

    if (kbs_json_parse_object(text, "JWK set", &root, err) != 0) {
        return -1;
    }
    set.items = json_object_get(root, "keys");
    if (json_array_size(set.items) == 0 || json_array_size(set.items) > KBS_LIMIT_JWKS_KEYS) {
        return kbs_fail(err, KBS_INPUT, "JWK set: \"keys\" is not an array of 1 to %d keys",
                        KBS_LIMIT_JWKS_KEYS);
    }
    ret->by_kid = true;
    ret->items = calloc(json_array_size(set.items), sizeof(*ret->items));
    if (ret->items == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    for (size_t i = 0; i < json_array_size(set.items); i++) {
        if (set_take(&set, i, err) != 0) {
            return -1;
        }
    }
    if (ret->count == 0) {
        return kbs_fail(err, KBS_INPUT, "no key verifies: %s", set.why.detail);
    }
    return 0;
}

static int pem_load(struct kbs_span text, const struct kbs_jwt_keys_rules *rules,
                    struct kbs_jwt_keys *ret, struct kbs_error *err)
{
    if (rules != NULL && rules->trust != NULL) {
        return kbs_fail(err, KBS_INPUT,
                        "a PEM key has no certificates that an anchor could verify");
    }
    ret->items = calloc(1, sizeof(*ret->items));
    if (ret->items == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    ret->count = 1;
    if (kbs_jws_key_from_pem(text, &ret->items[0], err) != 0) {
        return -1;
    }
    if (rules != NULL && (ret->items[0].algs &= rules->algs) == 0) {
        return kbs_fail(err, KBS_INPUT, "the PEM key is for another algorithm than is configured");
    }
    return 0;
}

static int keys_load(struct kbs_span text, const struct kbs_jwt_keys_rules *rules,
                     struct kbs_jwt_keys *ret, struct kbs_error *err)
{
    struct kbs_span rest = text;
    int rc;

    *ret = KBS_JWT_KEYS_NULL;
    while (rest.len > 0 &&
           (rest.p[0] == ' ' || rest.p[0] == '\t' || rest.p[0] == '\r' || rest.p[0] == '\n')) {
        rest = kbs_span_skip(rest, 1);
    }
    rc = kbs_span_starts_with(rest, "{") ? set_load(text, rules, ret, err)
                                         : pem_load(text, rules, ret, err);
    if (rc != 0) {
        kbs_jwt_keys_deinit(ret);
    }
    return rc;
}

int kbs_jwt_keys_load(struct kbs_span text, struct kbs_jwt_keys *ret, struct kbs_error *err)
{
    return keys_load(text, NULL, ret, err);
}

int kbs_jwt_keys_load_by(struct kbs_span text, const struct kbs_jwt_keys_rules *rules,
                         struct kbs_jwt_keys *ret, struct kbs_error *err)
{
    return keys_load(text, rules, ret, err);
}

void kbs_jwt_keys_deinit(struct kbs_jwt_keys *keys)
{
    free(keys->items);
    *keys = KBS_JWT_KEYS_NULL;
}

const struct kbs_jws_key *kbs_jwt_keys_find(const struct kbs_jwt_keys *keys,
                                            const struct kbs_jose_jws *jws)
{
    for (size_t i = 0; i < keys->count; i++) {
        const struct kbs_jws_key *key = &keys->items[i];

        if ((!keys->by_kid || kbs_span_equal_str(jws->kid, key->kid)) &&
            (key->algs & KBS_JWS_ALG_BIT(jws->alg)) != 0) {
            return key;
        }
    }
    return NULL;
}

const struct kbs_jws_key *kbs_jwt_keys_next(const struct kbs_jwt_keys *keys,
                                            const struct kbs_jose_jws *jws,
                                            const struct kbs_jws_key *after)
{
    for (size_t i = after != NULL ? (size_t)(after - keys->items) + 1 : 0; i < keys->count; i++) {
        const struct kbs_jws_key *key = &keys->items[i];
        bool named = !keys->by_kid || jws->kid.len == 0 || kbs_span_equal_str(jws->kid, key->kid);

        if (named && (key->algs & KBS_JWS_ALG_BIT(jws->alg)) != 0) {
            return key;
        }
    }
    return NULL;
}

/* ---- claims ---- */

/* `iat`: there, not in the future, and not longer ago than is asked. */
static int age_check(const json_t *claims, const struct kbs_jwt_expect *expect,
                     struct kbs_error *err)
{
    const json_t *iat = json_object_get(claims, "iat");
    int64_t leeway_s = expect->leeway_s;

    if (expect->max_age_s == 0) {
        return 0;
    }
    if (!json_is_integer(iat) || json_integer_value(iat) < 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWT: \"iat\" is not an integer");
    }
    if (json_integer_value(iat) > expect->now_s + leeway_s) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWT: it was issued in the future");
    }
    if (json_integer_value(iat) < expect->now_s - leeway_s - (int64_t)expect->max_age_s) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWT: it is older than %u s",
                        (unsigned int)expect->max_age_s);
    }
    return 0;
}

static int times_check(const json_t *claims, const struct kbs_jwt_expect *expect,
                       struct kbs_error *err)
{
    const json_t *exp = json_object_get(claims, "exp");
    const json_t *nbf = json_object_get(claims, "nbf");

    if (!json_is_integer(exp) && (exp != NULL || !expect->exp_optional || expect->max_age_s == 0)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWT: \"exp\" is not an integer");
    }
    if (exp != NULL && json_integer_value(exp) < expect->now_s - (int64_t)expect->leeway_s) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWT: it has expired");
    }
    if (nbf != NULL && !json_is_integer(nbf)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWT: \"nbf\" is not an integer");
    }
    if (nbf != NULL && json_integer_value(nbf) > expect->now_s + (int64_t)expect->leeway_s) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWT: it is not valid yet");
    }
    return 0;
}

/* A string, or an array of strings that holds it (RFC 7519 section 4.1.3). */
static bool audience_is(const json_t *aud, struct kbs_span expected)
{
    bool found = false;

    if (json_is_string(aud)) {
        return kbs_span_equal(kbs_span(json_string_value(aud), json_string_length(aud)), expected);
    }
    for (size_t i = 0; i < json_array_size(aud); i++) {
        const json_t *v = json_array_get(aud, i);

        if (!json_is_string(v)) {
            return false;
        }
        found = found ||
                kbs_span_equal(kbs_span(json_string_value(v), json_string_length(v)), expected);
    }
    return found;
}

int kbs_jwt_claims_check(const json_t *claims, const struct kbs_jwt_expect *expect,
                         struct kbs_error *err)
{
    if (times_check(claims, expect, err) != 0 || age_check(claims, expect, err) != 0) {
        return -1;
    }
    if (expect->issuer.len != 0 && !member_is(claims, "iss", expect->issuer)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWT: it is of another issuer");
    }
    if (expect->audience.len != 0 &&
        !audience_is(json_object_get(claims, "aud"), expect->audience)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "JWT: it is for another audience");
    }
    return 0;
}
