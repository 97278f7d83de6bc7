/*
 * From a token to a result: whose it is, that it is genuine, that it is fresh; then its profile's rules.
 *
 * The problem: several services vouch for guests, each with keys, claims and mistakes of its own, and a token
 * that is good for one must not count for another. The approach: one block of configuration per issuer, found
 * by the `iss` that a token has before anything is verified; its keys, its algorithms, its audience and its
 * profile are then the only ones there are. Header members that bring or name keys (jku, x5u, jwk) are
 * never followed; a jwk is looked at only beside a chain of certificates to an anchor that is pinned, and
 * must be the leaf's.
 *
 * Rejected: to try all issuers' keys in turn, which is how a key set comes to sign for everybody; and to keep
 * parsed key sets of documents, which would make this object change under a const pointer for 0.1 ms.
 */
#include "attest/issuer/profile.h"

#include <stdlib.h>

#define ARENA_BYTES (256u * 1024)
#define SKEW_MAX_S 600

struct kbs_issuers {
    struct kbs_issuer items[KBS_LIMIT_ISSUERS];
    size_t count;
    bool allow_sample;
    struct kbs_arena arena; /* every text of theirs */
};

static const char *const coco_keys[] = {
    "/submods/cpu0/" KBS_ISSUER_EVIDENCE "/runtime_data_claims/tee-pubkey", NULL};
static const char *const simple_keys[] = {"/customized_claims/runtime_data/tee-pubkey", NULL};
static const char *const ita_keys[] = {
    "/tdx/attester_runtime_data/tee-pubkey", "/sgx/attester_runtime_data/tee-pubkey",
    "/tdx/attester_user_data/tee-pubkey",    "/attester_runtime_data/tee-pubkey",
    "/attester_user_data/tee-pubkey",        NULL};
static const char *const maa_keys[] = {"/x-ms-runtime/keys/use:enc", "/x-ms-runtime/tee-pubkey",
                                       NULL};
static const char *const own_place[] = {NULL}; /* veraison.c knows */

#define BIT(name) (1u << KBS_REQUIRE_##name)

static const struct kbs_issuer_kind kinds[KBS_ISSUER_COUNT] = {
    [KBS_ISSUER_COCO_EAR] = {.name = "coco-ear",
                             .algorithm = "ES256",
                             .map = kbs_issuer_map_coco,
                             .key_paths = coco_keys,
                             .no_issuer_once = true,
                             .knows = BIT(TEES) | BIT(POLICY_IDS)},
    [KBS_ISSUER_COCO_SIMPLE] = {.name = "coco-simple",
                                .algorithm = "RS384",
                                .map = kbs_issuer_map_simple,
                                .key_paths = simple_keys,
                                .requires = BIT(POLICY_HASHES),
                                .knows = BIT(TEES) | BIT(POLICY_IDS) | BIT(POLICY_HASHES)},
    [KBS_ISSUER_ITA] = {.name = "ita",
                        .algorithm = "PS384",
                        .map = kbs_issuer_map_ita,
                        .key_paths = ita_keys,
                        .knows =
                            BIT(TEES) | BIT(POLICY_IDS) | BIT(TCB_STATUSES) | BIT(MEASUREMENTS)},
    [KBS_ISSUER_MAA] = {.name = "maa",
                        .algorithm = "RS256",
                        .map = kbs_issuer_map_maa,
                        .key_paths = maa_keys,
                        .requires = BIT(POLICY_HASHES),
                        .knows = BIT(TEES) | BIT(POLICY_HASHES) | BIT(COMPLIANCE) |
                                 BIT(TCB_STATUSES) | BIT(MEASUREMENTS) | BIT(ID_KEYS) |
                                 BIT(HOST_DATA) | BIT(CANONICAL_RUNTIME)},
    [KBS_ISSUER_GOOGLE] = {.name = "google",
                           .algorithm = "RS256",
                           .map = kbs_issuer_map_google,
                           .needs_audience = true,
                           .knows = BIT(TEES) | BIT(IMAGES) | BIT(SUPPORT)},
    [KBS_ISSUER_VERAISON] = {.name = "veraison",
                             .algorithm = "ES256",
                             .map = kbs_issuer_map_veraison,
                             .key_paths = own_place,
                             .no_issuer_once = true,
                             .no_exp = true,
                             .requires = BIT(SUBMODS),
                             .knows = BIT(TEES) | BIT(POLICY_IDS) | BIT(SUBMODS)},
    [KBS_ISSUER_NRAS] = {.name = "nras", .algorithm = "ES384", .map = kbs_issuer_map_nras},
    [KBS_ISSUER_KBS] = {.name = "kbs",
                        .algorithm = "ES256",
                        .map = kbs_issuer_map_coco,
                        .key_paths = coco_keys,
                        .knows = BIT(TEES) | BIT(POLICY_IDS)},
};

enum kbs_issuer_profile kbs_issuer_profile_from_name(struct kbs_span name)
{
    for (int p = KBS_ISSUER_COCO_EAR; p < KBS_ISSUER_COUNT; p++) {
        if (kbs_span_equal_str(name, kinds[p].name)) {
            return (enum kbs_issuer_profile)p;
        }
    }
    return KBS_ISSUER_NONE;
}

const char *kbs_issuer_profile_name(enum kbs_issuer_profile profile)
{
    return profile > KBS_ISSUER_NONE && profile < KBS_ISSUER_COUNT ? kinds[profile].name
                                                                   : "unknown";
}

enum kbs_issuer_profile kbs_issuer_profile_of(const struct kbs_issuer *issuer)
{
    return (enum kbs_issuer_profile)(issuer->kind - kinds);
}

/* ---- from a configuration ---- */

static int text_take(struct kbs_issuers *all, struct kbs_span text, const char **ret,
                     struct kbs_error *err)
{
    *ret = NULL;
    if (text.len == 0) {
        return 0;
    }
    if (memchr(text.p, '\0', text.len) != NULL ||
        (*ret = kbs_arena_cstr(&all->arena, text)) == NULL) {
        return kbs_fail(err, KBS_INPUT, "a text with a NUL in it, or too many texts");
    }
    return 0;
}

static int list_take(struct kbs_issuers *all, const struct kbs_span *texts, size_t count,
                     struct kbs_issuer_list *ret, struct kbs_error *err)
{
    ret->n = 0;
    ret->v = count > 0 ? kbs_arena_alloc(&all->arena, count * sizeof(*ret->v)) : NULL;
    if (count > 0 && ret->v == NULL) {
        return kbs_fail(err, KBS_INPUT, "too many texts");
    }
    for (size_t i = 0; i < count; i++) {
        if (texts[i].len == 0) {
            return kbs_fail(err, KBS_INPUT, "an empty text in a list");
        }
        if (text_take(all, texts[i], &ret->v[ret->n++], err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int algorithms_take(const struct kbs_issuer_config *c, struct kbs_issuer *ret,
                           struct kbs_error *err)
{
    for (size_t i = 0; i < c->algorithm_count; i++) {
        enum kbs_jws_alg alg = kbs_jws_alg_from_name(c->algorithms[i]);

        if (alg == KBS_JWS_ALG_NONE) {
            return kbs_fail(err, KBS_INPUT, "algorithms: not a signature algorithm of ours");
        }
        ret->algs |= KBS_JWS_ALG_BIT(alg);
    }
    if (c->algorithm_count == 0) {
        ret->algs = KBS_JWS_ALG_BIT(kbs_jws_alg_from_name(kbs_span_str(ret->kind->algorithm)));
    }
    return 0;
}

/* The one source of keys. */
static int source_take(struct kbs_issuers *all, const struct kbs_issuer_config *c,
                       struct kbs_issuer *ret, struct kbs_error *err)
{
    const struct kbs_jwt_keys_rules rules = {.algs = ret->algs};
    bool alone = (c->keys.len != 0) + (c->document.len != 0) + (c->anchor.len != 0) == 1;

    if (!alone && !(c->keys.len == 0 && c->document.len != 0)) {
        return kbs_fail(err, KBS_INPUT, "exactly one of keys, document and anchor is needed");
    }
    if (c->crl.len != 0 && c->anchor.len == 0) {
        return kbs_fail(err, KBS_INPUT, "crl is for an anchor, and there is none");
    }
    if (c->anchor.len != 0 && kbs_x5c_trust_new(c->anchor, c->crl, &ret->trust, err) != 0) {
        return -1;
    }
    if (c->keys.len != 0 && kbs_jwt_keys_load_by(c->keys, &rules, &ret->keys, err) != 0) {
        return -1;
    }
    return text_take(all, c->document, &ret->document, err);
}

static int requirements_take(struct kbs_issuers *all, const struct kbs_issuer_config *c,
                             struct kbs_issuer *ret, struct kbs_error *err)
{
    unsigned int given = 0;

    for (size_t i = 0; i < c->require_count; i++) {
        enum kbs_require r = kbs_require_from_name(c->require[i].name);
        struct kbs_issuer_list *list = &ret->require[r < KBS_REQUIRE_COUNT ? r : 0];

        if (r == KBS_REQUIRE_COUNT || (ret->kind->knows & (1u << r)) == 0) {
            return kbs_fail(err, KBS_INPUT, "require: %.*s is not for profile %s",
                            (int)c->require[i].name.len, (const char *)c->require[i].name.p,
                            ret->kind->name);
        }
        if (list->v == NULL) {
            list->v = kbs_arena_alloc(&all->arena, c->require_count * sizeof(*list->v));
        }
        if (list->v == NULL || c->require[i].value.len == 0) {
            return kbs_fail(err, KBS_INPUT, "require: an empty text, or too many");
        }
        if (text_take(all, c->require[i].value, &list->v[list->n++], err) != 0) {
            return -1;
        }
        given |= 1u << r;
    }
    for (unsigned int r = 0; r < KBS_REQUIRE_COUNT; r++) {
        if ((ret->kind->requires & ~given & (1u << r)) != 0) {
            return kbs_fail(err, KBS_INPUT, "require: profile %s needs %s", ret->kind->name,
                            kbs_require_name((enum kbs_require)r));
        }
    }
    if (ret->kind->map == kbs_issuer_map_maa && (given & (BIT(MEASUREMENTS) | BIT(ID_KEYS))) == 0) {
        return kbs_fail(err, KBS_INPUT, "require: profile maa needs measurements or id_keys");
    }
    return 0;
}

/* What does not go together. */
static int issuer_check(const struct kbs_issuer_config *c, const struct kbs_issuer *i,
                        struct kbs_error *err)
{
    bool no_key =
        i->key_path != NULL ? strcmp(i->key_path, "none") == 0 : i->kind->key_paths == NULL;

    if (i->name == NULL || i->max_age_s == 0 || i->skew_s > SKEW_MAX_S) {
        return kbs_fail(err, KBS_INPUT, "no name, no max_age_s, or a skew_s over %d", SKEW_MAX_S);
    }
    if (i->key_path != NULL && i->key_path[0] != '/' && !no_key) {
        return kbs_fail(err, KBS_INPUT, "key_path is neither a JSON pointer nor \"none\"");
    }
    if (i->iss.n == 0 && !i->kind->no_issuer_once) {
        return kbs_fail(err, KBS_INPUT, "issuer: tokens of profile %s have one", i->kind->name);
    }
    if (i->audiences.n == 0 && i->kind->needs_audience) {
        return kbs_fail(err, KBS_INPUT, "audience: tokens of profile %s have one", i->kind->name);
    }
    if (i->passport && no_key) {
        return kbs_fail(err, KBS_INPUT, "passport: its tokens name no TEE key");
    }
    if (i->passport && c->minimum_binding > KBS_BINDING_TOKEN) {
        return kbs_fail(err, KBS_INPUT, "passport: a token alone never has that minimum_binding");
    }
    return 0;
}

static bool lists_share(const struct kbs_issuer_list *a, const struct kbs_issuer_list *b)
{
    for (size_t i = 0; i < a->n; i++) {
        for (size_t k = 0; k < b->n; k++) {
            if (strcmp(a->v[i], b->v[k]) == 0) {
                return true;
            }
        }
    }
    return a->n == 0 && b->n == 0;
}

static int issuer_add(struct kbs_issuers *all, const struct kbs_issuer_config *c,
                      struct kbs_error *err)
{
    struct kbs_issuer *i = &all->items[all->count++];

    if (c->profile <= KBS_ISSUER_NONE || c->profile >= KBS_ISSUER_COUNT) {
        return kbs_fail(err, KBS_INPUT, "an unknown profile");
    }
    i->kind = &kinds[c->profile];
    i->max_age_s = c->max_age_s;
    i->skew_s = c->skew_s;
    i->max_stale_s = c->max_stale_s;
    i->passport = c->passport;
    i->known_keys = c->known_keys;
    i->minimum_binding = c->minimum_binding;
    if (text_take(all, c->name, &i->name, err) != 0 ||
        list_take(all, c->issuers, c->issuer_count, &i->iss, err) != 0 ||
        list_take(all, c->audiences, c->audience_count, &i->audiences, err) != 0 ||
        algorithms_take(c, i, err) != 0 || source_take(all, c, i, err) != 0 ||
        text_take(all, c->key_path, &i->key_path, err) != 0 ||
        text_take(all, c->agree_with, &i->agree_with, err) != 0 ||
        requirements_take(all, c, i, err) != 0) {
        return -1;
    }
    for (size_t k = 0; k + 1 < all->count; k++) {
        if (lists_share(&all->items[k].iss, &i->iss)) {
            return kbs_fail(err, KBS_INPUT, "issuer: another one has the same");
        }
        if (i->name != NULL && strcmp(all->items[k].name, i->name) == 0) {
            return kbs_fail(err, KBS_INPUT, "name: another issuer has the same");
        }
    }
    return issuer_check(c, i, err);
}

static const struct kbs_issuer *issuer_named(const struct kbs_issuers *all, const char *name)
{
    for (size_t i = 0; i < all->count; i++) {
        if (strcmp(all->items[i].name, name) == 0) {
            return &all->items[i];
        }
    }
    return NULL;
}

static int agreements_check(const struct kbs_issuers *all, struct kbs_error *err)
{
    for (size_t i = 0; i < all->count; i++) {
        const struct kbs_issuer *issuer = &all->items[i];
        const struct kbs_issuer *other =
            issuer->agree_with != NULL ? issuer_named(all, issuer->agree_with) : NULL;

        if (issuer->agree_with != NULL && (other == NULL || other == issuer)) {
            return kbs_fail(err, KBS_INPUT, "issuer %s: agree_with names no other issuer",
                            issuer->name);
        }
    }
    return 0;
}

int kbs_issuers_new(const struct kbs_issuer_config *configs, size_t count, bool allow_sample,
                    struct kbs_issuers **ret, struct kbs_error *err)
{
    struct kbs_issuers *all = NULL;
    struct kbs_error why = KBS_ERROR_NONE;

    *ret = NULL;
    if (count > KBS_LIMIT_ISSUERS) {
        return kbs_fail(err, KBS_INPUT, "more than %d issuers", KBS_LIMIT_ISSUERS);
    }
    all = calloc(1, sizeof(*all));
    if (all == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    all->allow_sample = allow_sample;
    all->arena = KBS_ARENA(ARENA_BYTES);
    for (size_t i = 0; i < count; i++) {
        if (issuer_add(all, &configs[i], &why) != 0) {
            (void)kbs_fail(err, why.category, "issuer %.*s: %.120s", (int)configs[i].name.len,
                           (const char *)configs[i].name.p, why.detail);
            (void)kbs_issuers_free(all);
            return -1;
        }
    }
    if (agreements_check(all, err) != 0) {
        (void)kbs_issuers_free(all);
        return -1;
    }
    *ret = all;
    return 0;
}

struct kbs_issuers *kbs_issuers_free(struct kbs_issuers *issuers)
{
    if (issuers != NULL) {
        for (size_t i = 0; i < issuers->count; i++) {
            kbs_jwt_keys_deinit(&issuers->items[i].keys);
            kbs_x5c_trust_free(issuers->items[i].trust);
        }
        kbs_arena_deinit(&issuers->arena);
        free(issuers);
    }
    return NULL;
}

bool kbs_issuers_passport(const struct kbs_issuers *issuers)
{
    bool any = false;

    for (size_t i = 0; issuers != NULL && i < issuers->count; i++) {
        any = any || issuers->items[i].passport;
    }
    return any;
}

/* ---- whose it is ---- */

/* One without an `iss`: of the issuer that has none. */
static bool issuer_is(const struct kbs_issuer *issuer, const json_t *iss)
{
    for (size_t i = 0; i < issuer->iss.n; i++) {
        if (json_is_string(iss) &&
            kbs_span_equal_str(kbs_span(json_string_value(iss), json_string_length(iss)),
                               issuer->iss.v[i])) {
            return true;
        }
    }
    return issuer->iss.n == 0 && iss == NULL;
}

static const struct kbs_issuer *issuer_of(const struct kbs_issuers *all, const json_t *claims,
                                          const char *name)
{
    const json_t *iss = json_object_get(claims, "iss");

    for (size_t i = 0; i < all->count; i++) {
        const struct kbs_issuer *issuer = &all->items[i];

        if (issuer_is(issuer, iss) && (name == NULL || strcmp(name, issuer->name) == 0)) {
            return issuer;
        }
    }
    return NULL;
}

/* ---- that it is genuine ---- */

/* By any key of the set that the token may mean. 1: it means none of them. */
static int verify_by_set(const struct kbs_jwt_keys *keys, const struct kbs_jose_jws *jws,
                         json_t **ret, struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE;
    const struct kbs_jws_key *key = kbs_jwt_keys_next(keys, jws, NULL);

    if (key == NULL) {
        return 1;
    }
    for (; key != NULL; key = kbs_jwt_keys_next(keys, jws, key)) {
        why = KBS_ERROR_NONE;
        if (kbs_jws_verify(jws, key, ret, &why) == 0) {
            return 0;
        }
    }
    *err = why;
    return -1;
}

static int document_load(const struct kbs_issuer *issuer,
                         const struct kbs_issuer_expected *expected, bool look_again,
                         struct kbs_jwt_keys *ret, struct kbs_error *err)
{
    const struct kbs_jwt_keys_rules rules = {
        .algs = issuer->algs, .trust = issuer->trust, .now_s = expected->now_s};
    struct kbs_error why = KBS_ERROR_NONE;
    struct kbs_span text = KBS_SPAN_EMPTY;
    int64_t fetched_s = 0;

    *ret = KBS_JWT_KEYS_NULL;
    if (expected->keys == NULL) {
        return kbs_fail(err, KBS_BUSY, "issuer %s: nothing fetches its keys", issuer->name);
    }
    if (expected->keys(expected->keys_with, issuer->document, look_again, &text, &fetched_s, err) !=
        0) {
        return -1;
    }
    if (fetched_s < expected->now_s - (int64_t)issuer->max_stale_s) {
        return kbs_fail(err, KBS_BUSY, "issuer %s: its keys are too old to go by", issuer->name);
    }
    if (kbs_jwt_keys_load_by(text, &rules, ret, &why) != 0) {
        return kbs_fail(err, KBS_BUSY, "issuer %s: its keys cannot be used: %.100s", issuer->name,
                        why.detail);
    }
    return 0;
}

/* Looks once more if the token means a key that is not there: it may be a new one. */
static int verify_by_document(const struct kbs_issuer *issuer, const struct kbs_jose_jws *jws,
                              const struct kbs_issuer_expected *expected, json_t **ret,
                              struct kbs_error *err)
{
    struct kbs_jwt_keys keys;
    int rc = 1;

    for (int round = 0; rc == 1 && round < 2; round++) {
        if (document_load(issuer, expected, round > 0, &keys, err) != 0) {
            return -1;
        }
        rc = verify_by_set(&keys, jws, ret, err);
        kbs_jwt_keys_deinit(&keys);
    }
    return rc;
}

/* The key of a chain in the header, which a jwk beside it must be. */
static int verify_by_chain(const struct kbs_issuer *issuer, const struct kbs_jose_jws *jws,
                           int64_t now_s, json_t **ret, struct kbs_error *err)
{
    const json_t *jwk = json_object_get(jws->header, "jwk");
    const json_t *x5c = json_object_get(jws->header, "x5c");
    struct kbs_error why = KBS_ERROR_NONE;
    struct kbs_jws_key same;
    struct kbs_jws_key key;

    if (kbs_x5c_verify(issuer->trust, x5c != NULL ? x5c : json_object_get(jwk, "x5c"), now_s, &key,
                       err) != 0) {
        return -1;
    }
    if (jwk != NULL && (kbs_jws_key_from_jwk_for(jwk, issuer->algs, &same, &why) != 0 ||
                        !kbs_jws_key_equal(&key, &same))) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: \"jwk\" is not the key of its certificate");
    }
    key.algs &= issuer->algs;
    return kbs_jws_verify(jws, &key, ret, err);
}

static int signature_verify(const struct kbs_issuer *issuer, const struct kbs_jose_jws *jws,
                            const struct kbs_issuer_expected *expected, json_t **ret,
                            struct kbs_error *err)
{
    int rc;

    if ((issuer->algs & KBS_JWS_ALG_BIT(jws->alg)) == 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: its \"alg\" is not its issuer's");
    }
    if (issuer->keys.items != NULL) {
        rc = verify_by_set(&issuer->keys, jws, ret, err);
    } else if (issuer->document != NULL) {
        rc = verify_by_document(issuer, jws, expected, ret, err);
    } else {
        rc = verify_by_chain(issuer, jws, expected->now_s, ret, err);
    }
    return rc <= 0 ? rc
                   : kbs_fail(err, KBS_UNAUTHENTICATED,
                              "attestation token: it names a key that its issuer does not have");
}

/* ---- that it is for us, and fresh ---- */

static int audience_check(const struct kbs_issuer *issuer, const json_t *claims,
                          const struct kbs_jwt_expect *expect, struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE;

    if (issuer->audiences.n == 0) {
        return json_object_get(claims, "aud") == NULL
                   ? 0
                   : kbs_fail(err, KBS_UNAUTHENTICATED,
                              "attestation token: it is for an audience, and none is configured");
    }
    for (size_t i = 0; i < issuer->audiences.n; i++) {
        struct kbs_jwt_expect one = *expect;

        one.audience = kbs_span_str(issuer->audiences.v[i]);
        why = KBS_ERROR_NONE;
        if (kbs_jwt_claims_check(claims, &one, &why) == 0) {
            return 0;
        }
    }
    *err = why;
    return -1;
}

static int claims_check(const struct kbs_issuer *issuer, const json_t *claims, int64_t now_s,
                        struct kbs_error *err)
{
    const struct kbs_jwt_expect expect = {.now_s = now_s,
                                          .leeway_s = issuer->skew_s,
                                          .max_age_s = issuer->max_age_s,
                                          .exp_optional = issuer->kind->no_exp};

    if (!issuer_is(issuer, json_object_get(claims, "iss"))) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: it is of another issuer");
    }
    if (kbs_jwt_claims_check(claims, &expect, err) != 0) {
        return -1;
    }
    return audience_check(issuer, claims, &expect, err);
}

int kbs_issuer_open(const struct kbs_issuer *issuer, const struct kbs_jose_jws *jws,
                    const struct kbs_issuer_expected *expected, json_t **ret, struct kbs_error *err)
{
    json_t *claims = NULL;

    *ret = NULL;
    if (signature_verify(issuer, jws, expected, &claims, err) != 0) {
        return -1;
    }
    if (claims_check(issuer, claims, expected->now_s, err) != 0) {
        json_decref(claims);
        return -1;
    }
    *ret = claims;
    return 0;
}

/* ---- the result ---- */

void kbs_issuer_result_deinit(struct kbs_issuer_result *r)
{
    json_decref(r->submods);
    *r = (struct kbs_issuer_result){.issuer = NULL};
}

static bool has_session(const struct kbs_issuer_expected *e)
{
    return e->tee_key != NULL || e->report_data != NULL || e->runtime_data.len != 0 ||
           e->nonce.len != 0;
}

static void result_begin(struct kbs_issuer_job *job)
{
    const struct kbs_issuer *issuer = job->issuer;
    const json_t *iat = json_object_get(job->claims, "iat");
    const json_t *exp = json_object_get(job->claims, "exp");
    int64_t old_s = json_integer_value(iat) + (int64_t)issuer->max_age_s;
    enum kbs_binding lowest = job->session ? KBS_BINDING_EVIDENCE : KBS_BINDING_TOKEN;

    *job->ret = (struct kbs_issuer_result){
        .issuer = issuer->name,
        .profile = kbs_issuer_profile_of(issuer),
        .binding = job->session ? KBS_BINDING_SESSION : KBS_BINDING_TOKEN,
        .minimum_binding =
            issuer->minimum_binding != KBS_BINDING_NONE ? issuer->minimum_binding : lowest,
        .known_keys = issuer->known_keys,
        .agree_with = issuer->agree_with,
        .iat = json_integer_value(iat),
        .exp = json_is_integer(exp) && json_integer_value(exp) < old_s ? json_integer_value(exp)
                                                                       : old_s,
    };
}

/* Whatever a profile says: nothing is vouched for without a submodule, and nothing carried without a key. */
static int result_check(const struct kbs_issuer_job *job, struct kbs_error *err)
{
    if (json_object_size(job->ret->submods) == 0 || job->ret->status == NULL) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: nothing was appraised");
    }
    if (!job->session && job->expected->issuer == NULL && !job->ret->has_tee_key) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: it names no TEE key");
    }
    return 0;
}

static int jws_map(const struct kbs_issuers *all, const struct kbs_issuer *issuer,
                   const struct kbs_jose_jws *jws, const json_t *detached,
                   const struct kbs_issuer_expected *expected, struct kbs_issuer_result *ret,
                   struct kbs_error *err)
{
    KBS_AUTO_JSON claims = NULL;
    KBS_AUTO_JSON opened = NULL;
    struct kbs_issuer_job job = {.issuer = issuer,
                                 .expected = expected,
                                 .session = has_session(expected),
                                 .allow_sample = all->allow_sample,
                                 .ret = ret};

    if (detached != NULL && issuer->kind->map != kbs_issuer_map_nras) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: its issuer has no detached ones");
    }
    if (!job.session && expected->issuer == NULL && !issuer->passport) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: its issuer's tokens are not taken without a handshake");
    }
    if (kbs_issuer_open(issuer, jws, expected, &claims, err) != 0) {
        return -1;
    }
    if (detached != NULL && kbs_nras_open(issuer, detached, claims, expected, &opened, err) != 0) {
        return -1;
    }
    job.claims = claims;
    job.detached = opened;
    job.authority = issuer->name;
    if (kbs_claim_text(claims, "iss").len != 0) {
        job.authority = json_string_value(json_object_get(claims, "iss"));
    }
    result_begin(&job);
    if (issuer->kind->map(&job, err) != 0 || result_check(&job, err) != 0) {
        kbs_issuer_result_deinit(ret);
        return -1;
    }
    return 0;
}

static int token_verify(const struct kbs_issuers *all, struct kbs_span token,
                        const json_t *detached, const struct kbs_issuer_expected *expected,
                        struct kbs_issuer_result *ret, struct kbs_error *err)
{
    struct kbs_jose_jws jws = KBS_JOSE_JWS_NULL;
    const struct kbs_issuer *issuer = NULL;
    KBS_AUTO_JSON said = NULL;
    int rc;

    if (kbs_jws_split(token, KBS_JWS_ALGS_ALL, &jws, err) != 0) {
        return -1;
    }
    rc = kbs_jws_peek(&jws, &said, err);
    if (rc == 0) {
        issuer = issuer_of(all, said, expected->issuer);
        rc = issuer != NULL ? jws_map(all, issuer, &jws, detached, expected, ret, err)
                            : kbs_fail(err, KBS_UNAUTHENTICATED,
                                       "attestation token: its issuer is not one that is trusted");
    }
    kbs_jose_jws_deinit(&jws);
    return rc;
}

int kbs_issuer_verify(const struct kbs_issuers *issuers, struct kbs_span token,
                      const struct kbs_issuer_expected *expected, struct kbs_issuer_result *ret,
                      struct kbs_error *err)
{
    KBS_AUTO_JSON whole = NULL;
    KBS_AUTO_JSON detached = NULL;
    struct kbs_span overall = token;

    *ret = (struct kbs_issuer_result){.issuer = NULL};
    if (kbs_nras_is(token) && kbs_nras_split(token, &whole, &overall, &detached, err) != 0) {
        return -1;
    }
    return token_verify(issuers, overall, detached, expected, ret, err);
}
