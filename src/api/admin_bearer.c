/*
 * Administrators by Bearer token: Trustee's AuthenticatedAuthorization.
 *
 * The problem: Trustee's clients cannot sign a request; what they have is a JWT of an identity
 * provider, with a role. The approach: the operator names the providers' keys and what each role
 * may use; both are read, checked and compiled when the service starts. A token is tried against
 * each provider whose key is for its algorithm, and by its name if the provider has a set of keys,
 * so a token costs at most as many signatures as there are providers. Who cannot make a token that
 * verifies never reaches an expression of the rules.
 *
 * A token that says what a guest is (it has `eat_profile`), or that our own sign-token key has signed, is never an
 * administrator's, whoever was configured as a provider: what guests are given must not open the
 * admin lane.
 *
 * Only a token that verified is told what else is wrong with it.
 */
#include "api/context.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/encoding.h"
#include "base/log.h"
#include "jose/read/jwt.h"
#include "policy/acl.h"

#define NO_ISSUER "Cannot verify token with any of the issuers"
#define NAME_PREFIX "bearer:"
#define DOCUMENT "document:"

struct provider {
    char issuer[KBS_LIMIT_ADMIN_PROVIDER_BYTES + 1];   /* empty: not asked */
    char audience[KBS_LIMIT_ADMIN_PROVIDER_BYTES + 1]; /* the same */
    char document[KBS_LIMIT_FETCH_NAME_BYTES +
                  1];                 /* the keys are that one's; empty: they are `keys` */
    uint8_t loaded[KBS_SHA256_BYTES]; /* of the text that `keys` are of, if so */
    struct kbs_jwt_keys keys;
};

struct rule {
    char role[KBS_LIMIT_ADMIN_ROLE_BYTES + 1];
    struct kbs_acl *acl;
};

struct kbs_bearer {
    struct provider providers[KBS_LIMIT_ADMIN_PROVIDERS];
    size_t provider_count;
    struct rule rules[KBS_LIMIT_ADMIN_ACLS];
    size_t rule_count;
};

/* Roles are shown to people and recorded: of any others it is only said that they are. */
static bool role_is_plain(struct kbs_span role)
{
    for (size_t i = 0; i < role.len; i++) {
        if (!isalnum(role.p[i]) && (role.p[i] == 0 || strchr(" ._:@/-", role.p[i]) == NULL)) {
            return false;
        }
    }
    return role.len != 0 && role.len <= KBS_LIMIT_ADMIN_ROLE_BYTES;
}

/* The next three items of the list. */
static int provider_take(struct kbs_bearer *b, struct kbs_wire_iter *it, struct kbs_error *err)
{
    struct provider *p = &b->providers[b->provider_count];
    struct kbs_error why = KBS_ERROR_NONE;
    struct kbs_span issuer = KBS_SPAN_EMPTY;
    struct kbs_span audience = KBS_SPAN_EMPTY;
    struct kbs_span keys = KBS_SPAN_EMPTY;

    if (!kbs_wire_list_next(it, &issuer) || !kbs_wire_list_next(it, &audience) ||
        !kbs_wire_list_next(it, &keys)) {
        return kbs_fail(err, KBS_INPUT, "the list of identity providers is malformed");
    }
    if (!kbs_span_to_cstr(issuer, p->issuer, sizeof(p->issuer)) ||
        !kbs_span_to_cstr(audience, p->audience, sizeof(p->audience))) {
        return kbs_fail(err, KBS_INPUT, "identity provider %zu: issuer or audience over %d bytes",
                        b->provider_count + 1, KBS_LIMIT_ADMIN_PROVIDER_BYTES);
    }
    if (kbs_span_starts_with(keys, DOCUMENT)) {
        b->provider_count++;
        return kbs_span_to_cstr(kbs_span_skip(keys, strlen(DOCUMENT)), p->document,
                                sizeof(p->document))
                   ? 0
                   : kbs_fail(err, KBS_INPUT,
                              "identity provider %zu: the document's name is too long",
                              b->provider_count);
    }
    if (keys.len > KBS_LIMIT_ADMIN_JWKS_BYTES || kbs_jwt_keys_load(keys, &p->keys, &why) != 0) {
        return kbs_fail(err, KBS_INPUT, "identity provider %zu: %s", b->provider_count + 1,
                        why.category != KBS_OK ? why.detail : "the keys are too long");
    }
    b->provider_count++;
    return 0;
}

/* The next two. */
static int rule_take(struct kbs_bearer *b, struct kbs_wire_iter *it, struct kbs_error *err)
{
    struct rule *r = &b->rules[b->rule_count];
    struct kbs_error why = KBS_ERROR_NONE;
    struct kbs_span role = KBS_SPAN_EMPTY;
    struct kbs_span pattern = KBS_SPAN_EMPTY;

    if (!kbs_wire_list_next(it, &role) || !kbs_wire_list_next(it, &pattern)) {
        return kbs_fail(err, KBS_INPUT, "the list of acls is malformed");
    }
    if (!role_is_plain(role) || !kbs_span_to_cstr(role, r->role, sizeof(r->role))) {
        return kbs_fail(err, KBS_INPUT,
                        "acl %zu: a role is 1 to %d letters, digits, blanks or any of ._:@/-",
                        b->rule_count + 1, KBS_LIMIT_ADMIN_ROLE_BYTES);
    }
    if (kbs_acl_new(pattern, &r->acl, &why) != 0) {
        return kbs_fail(err, KBS_INPUT, "allowed_endpoints of role %s: %s", r->role, why.detail);
    }
    b->rule_count++;
    return 0;
}

static int bearer_load(struct kbs_bearer *b, const struct kbs_wire_list *providers,
                       const struct kbs_wire_list *acls, struct kbs_error *err)
{
    struct kbs_wire_iter provider = kbs_wire_list_iter(providers);
    struct kbs_wire_iter acl = kbs_wire_list_iter(acls);

    if (providers->count == 0 || providers->count > 3 * KBS_LIMIT_ADMIN_PROVIDERS) {
        return kbs_fail(err, KBS_INPUT, "bearer_jwt needs 1 to %d identity providers",
                        KBS_LIMIT_ADMIN_PROVIDERS);
    }
    if (acls->count > 2 * KBS_LIMIT_ADMIN_ACLS) {
        return kbs_fail(err, KBS_INPUT, "regex_acl has more than %d acls", KBS_LIMIT_ADMIN_ACLS);
    }
    for (size_t i = 0; i < providers->count; i += 3) {
        if (provider_take(b, &provider, err) != 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < acls->count; i += 2) {
        if (rule_take(b, &acl, err) != 0) {
            return -1;
        }
    }
    return 0;
}

int kbs_bearer_new(const struct kbs_wire_list *providers, const struct kbs_wire_list *acls,
                   struct kbs_bearer **ret, struct kbs_error *err)
{
    struct kbs_bearer *b = calloc(1, sizeof(*b));

    *ret = NULL;
    if (b == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (bearer_load(b, providers, acls, err) != 0) {
        (void)kbs_bearer_free(b);
        return -1;
    }
    *ret = b;
    return 0;
}

struct kbs_bearer *kbs_bearer_free(struct kbs_bearer *b)
{
    if (b != NULL) {
        for (size_t i = 0; i < b->provider_count; i++) {
            kbs_jwt_keys_deinit(&b->providers[i].keys);
        }
        for (size_t i = 0; i < b->rule_count; i++) {
            (void)kbs_acl_free(b->rules[i].acl);
        }
        free(b);
    }
    return NULL;
}

/* ---- a request ---- */

static bool key_is_ours(const struct kbs_api *api, const struct kbs_jws_key *key)
{
    bool ours = false;

    for (size_t i = 0; i < api->token.sign_count; i++) {
        ours = ours || (key->kind == KBS_JWS_KEY_EC &&
                        kbs_ec_public_equal(&key->ec, &api->token.sign[i].key));
    }
    return ours;
}

/*
 * The keys of a provider that publishes them, as kbs-fetch has them now. What cannot be had or read
 * leaves those that there are: they were good once, and a set that is not renewed for a day counts no more.
 */
static void provider_renew(const struct kbs_call *call, struct provider *p, bool look_again)
{
    struct kbs_error why = KBS_ERROR_NONE;
    struct kbs_span text = KBS_SPAN_EMPTY;
    struct kbs_jwt_keys keys;
    uint8_t digest[KBS_SHA256_BYTES];
    int64_t fetched_s = 0;

    if (kbs_fetch_cached(call->api, p->document, look_again, &text, &fetched_s, &why) != 0) {
        return;
    }
    if (call->now_s - fetched_s > KBS_LIMIT_ADMIN_JWKS_STALE_S) {
        kbs_jwt_keys_deinit(&p->keys);
        memset(p->loaded, 0, sizeof(p->loaded));
        return;
    }
    kbs_sha256(text, digest);
    if (memcmp(digest, p->loaded, sizeof(digest)) == 0 || text.len > KBS_LIMIT_ADMIN_JWKS_BYTES) {
        return;
    }
    if (kbs_jwt_keys_load(text, &keys, &why) != 0) {
        kbs_log(KBS_LOG_WARN, "document-refused", "document=%s reason=\"%s\"", p->document,
                why.detail);
        return;
    }
    kbs_jwt_keys_deinit(&p->keys);
    p->keys = keys;
    memcpy(p->loaded, digest, sizeof(digest));
}

/* The provider's key that the token names; of a published set, also one that is new in it. */
static const struct kbs_jws_key *provider_key(const struct kbs_call *call, struct provider *p,
                                              const struct kbs_jose_jws *jws)
{
    const struct kbs_jws_key *key;

    if (p->document[0] == '\0') {
        return kbs_jwt_keys_find(&p->keys, jws);
    }
    provider_renew(call, p, false);
    key = kbs_jwt_keys_find(&p->keys, jws);
    if (key == NULL) {
        provider_renew(call, p, true);
    }
    return key;
}

/*
 * 0 with the claims if that provider vouches for them. -1, and `why` filled in only if it is its
 * token, but not one for us and now.
 */
static int provider_vouches(const struct kbs_call *call, struct provider *p,
                            const struct kbs_jose_jws *jws, json_t **ret, struct kbs_error *why)
{
    const struct kbs_jws_key *key = provider_key(call, p, jws);
    const struct kbs_jwt_expect expect = {.issuer = kbs_span_str(p->issuer),
                                          .audience = kbs_span_str(p->audience),
                                          .now_s = call->now_s,
                                          .leeway_s = KBS_LIMIT_ADMIN_JWT_LEEWAY_S};
    struct kbs_error ignored = KBS_ERROR_NONE;
    KBS_AUTO_JSON claims = NULL;

    if (key == NULL || key_is_ours(call->api, key) ||
        kbs_jws_verify(jws, key, &claims, &ignored) != 0) {
        return -1;
    }
    if (json_object_get(claims, "eat_profile") != NULL) {
        return kbs_fail(why, KBS_UNAUTHENTICATED, "JWT: it is an attestation token");
    }
    if (kbs_jwt_claims_check(claims, &expect, why) != 0) {
        return -1;
    }
    *ret = json_incref(claims);
    return 0;
}

static int token_open(const struct kbs_call *call, json_t **ret, struct kbs_error *err)
{
    struct kbs_bearer *b = call->api->bearer;
    struct kbs_jose_jws jws = KBS_JOSE_JWS_NULL;
    struct kbs_error why = KBS_ERROR_NONE;
    struct kbs_error malformed = KBS_ERROR_NONE;
    struct kbs_span token = KBS_SPAN_EMPTY;
    int rc = -1;

    if (kbs_request_bearer(call->req, &token, err) != 0) {
        return -1;
    }
    if (kbs_jws_split(token, KBS_JWS_ALGS_ALL, &jws, &malformed) == 0) {
        for (size_t i = 0; rc != 0 && i < b->provider_count; i++) {
            rc = provider_vouches(call, &b->providers[i], &jws, ret, &why);
        }
        kbs_jose_jws_deinit(&jws);
    }
    if (rc != 0 && why.category != KBS_OK) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, NO_ISSUER " (%s)", why.detail);
    }
    return rc == 0 ? 0 : kbs_fail(err, KBS_UNAUTHENTICATED, NO_ISSUER);
}

static struct kbs_span claim_string(const json_t *claims, const char *name)
{
    const json_t *v = json_object_get(claims, name);

    return json_is_string(v) ? kbs_span(json_string_value(v), json_string_length(v))
                             : KBS_SPAN_EMPTY;
}

/* A name that says nothing, and always the same of one person (or role, of whom there is no more). */
static void caller_name(const json_t *claims, struct kbs_span role, struct kbs_admin *ret)
{
    struct kbs_span sub = claim_string(claims, "sub");
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_JWT_BYTES);
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_buf_put_span(&text, claim_string(claims, "iss"));
    kbs_buf_put_u8(&text, 0);
    kbs_buf_put_span(&text, sub.len != 0 ? sub : role);
    kbs_sha256(kbs_buf_span(&text), digest);
    kbs_buf_clear(&text);
    kbs_base64url_put(&text, kbs_span(digest, sizeof(digest)));
    (void)snprintf(ret->thumbprint, sizeof(ret->thumbprint), NAME_PREFIX "%.*s",
                   (int)(sizeof(ret->thumbprint) - sizeof(NAME_PREFIX)), kbs_buf_cstr(&text));
    kbs_buf_deinit(&text);
}

static int role_check(const struct kbs_call *call, struct kbs_span role, struct kbs_admin *ret,
                      struct kbs_error *err)
{
    const struct kbs_bearer *b = call->api->bearer;

    if (!role_is_plain(role) || !kbs_span_to_cstr(role, ret->role, sizeof(ret->role))) {
        return kbs_fail(err, KBS_DENIED, "Role ? not allowed");
    }
    for (size_t i = 0; i < b->rule_count; i++) {
        if (kbs_span_equal_str(role, b->rules[i].role) &&
            kbs_acl_allows(b->rules[i].acl, call->req->target)) {
            return 0;
        }
    }
    return kbs_fail(err, KBS_DENIED, "Role %s not allowed", ret->role);
}

int kbs_bearer_verify(const struct kbs_call *call, struct kbs_admin *ret, struct kbs_error *err)
{
    KBS_AUTO_JSON claims = NULL;

    *ret = (struct kbs_admin){.auth = KBS_ADMIN_BY_BEARER};
    if (token_open(call, &claims, err) != 0) {
        return -1;
    }
    if (!json_is_string(json_object_get(claims, "role"))) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Missing required `role` claim in JWT");
    }
    caller_name(claims, claim_string(claims, "role"), ret);
    return role_check(call, claim_string(claims, "role"), ret, err);
}
