/*
 * Who may change things ([admin]), and what is released under no policy of its own ([[plugins]]).
 *
 * Enrolled administrators sign each request, and always may. What Trustee's clients do instead, a
 * bearer token or nothing at all, has to be asked for twice (trustee_compat and authorization_mode),
 * and never in production.
 */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "config/schema.h"

static void check_keys(struct kbs_config_loader *l)
{
    struct kbs_config *c = l->config;
    for (size_t i = 0; i < c->admin_key_paths.n; i++) {
        struct kbs_buf pem = KBS_BUF(KBS_CONFIG_ADMIN_KEY_BYTES);
        if (kbs_config_read_pem(l, l->seen[KBS_CONFIG_KEY_ADMIN_KEYS][0].items[i], "admin.keys",
                                c->admin_key_paths.v[i], "PUBLIC KEY", &pem) == 0) {
            c->admin_keys[i] = kbs_arena_copy(&c->arena, kbs_buf_span(&pem));
            if (c->admin_keys[i].p == NULL) {
                (void)kbs_config_no_memory(l);
            }
        }
        kbs_buf_deinit(&pem);
    }
}

static enum kbs_admin_mode mode_of(const char *text)
{
    if (strcmp(text, "DenyAll") == 0) {
        return KBS_ADMIN_DENY_ALL;
    }
    if (strcmp(text, "InsecureAllowAll") == 0) {
        return KBS_ADMIN_INSECURE_ALLOW_ALL;
    }
    return strcmp(text, "AuthenticatedAuthorization") == 0 ? KBS_ADMIN_BEARER : KBS_ADMIN_SIGNED;
}

/* Both, unless it is said which. */
static void check_approvals(struct kbs_config_loader *l)
{
    struct kbs_config *c = l->config;
    bool given = l->seen[KBS_CONFIG_KEY_APPROVALS_FOR][0].given;
    c->approvals_policy = !given;
    c->approvals_destroy = !given;
    for (size_t i = 0; i < c->approvals_for.n; i++) {
        c->approvals_policy = c->approvals_policy || strcmp(c->approvals_for.v[i], "policy") == 0;
        c->approvals_destroy =
            c->approvals_destroy || strcmp(c->approvals_for.v[i], "destroy") == 0;
    }
    if (c->approvals > 1 && c->approvals > c->admin_key_paths.n &&
        !l->seen[KBS_CONFIG_KEY_ADMIN_KEYS][0].bad) {
        kbs_config_fail(l, kbs_config_at(l, KBS_CONFIG_KEY_APPROVALS),
                        "approvals: %u administrators are needed, and keys has %zu",
                        (unsigned int)c->approvals, c->admin_key_paths.n);
    }
}

static void check_mode(struct kbs_config_loader *l)
{
    struct kbs_config *c = l->config;
    struct kbs_doc_place at = kbs_config_at(l, KBS_CONFIG_KEY_AUTHORIZATION_MODE);
    c->admin_mode = mode_of(c->authorization_mode);
    bool unsigned_too =
        c->admin_mode == KBS_ADMIN_BEARER || c->admin_mode == KBS_ADMIN_INSECURE_ALLOW_ALL;
    if (c->trustee_compat) {
        (void)kbs_config_insecure(l, kbs_config_at(l, KBS_CONFIG_KEY_TRUSTEE_COMPAT),
                                  "trustee_compat: lets requests in that no administrator signed");
    } else if (unsigned_too && !l->seen[KBS_CONFIG_KEY_TRUSTEE_COMPAT][0].bad) {
        kbs_config_fail(l, at, "authorization_mode: \"%s\" needs trustee_compat = true",
                        c->authorization_mode);
    }
    if (c->admin_mode == KBS_ADMIN_INSECURE_ALLOW_ALL && !c->production) {
        kbs_config_warn(l, at,
                        "authorization_mode: whoever reaches admin_server may change "
                        "everything that Trustee's clients can");
    }
    if (c->admin_mode == KBS_ADMIN_BEARER && (c->n_providers == 0 || c->n_acls == 0)) {
        kbs_config_fail(l, at, "authorization_mode: \"AuthenticatedAuthorization\" needs %s",
                        c->n_providers == 0
                            ? "identity_providers in [admin.authentication.bearer_jwt]"
                            : "acls in [admin.authorization.regex_acl]");
    }
    if (c->admin_mode != KBS_ADMIN_BEARER && c->n_providers + c->n_acls > 0) {
        kbs_config_warn(l, at,
                        "[admin.authentication] and [admin.authorization] have no effect: "
                        "authorization_mode is not \"AuthenticatedAuthorization\"");
    }
}

/* A provider whose keys are a document: the name stands where the keys of others do. */
static void take_document(struct kbs_config_loader *l, const struct kbs_config_seen *seen,
                          const char *uri, bool jwks, struct kbs_config_provider *to)
{
    const struct kbs_config_fetch *fetch = &l->config->fetch;
    const char *name = uri + strlen(KBS_CONFIG_DOCUMENT);
    bool there = false;
    for (size_t i = 0; i < fetch->n_documents; i++) {
        there = there || strcmp(fetch->documents[i].name, name) == 0;
    }
    if (!jwks) {
        kbs_config_fail(l, seen->at, "public_key_uri: a document is named by jwk_set_uri");
    } else if (!there) {
        kbs_config_fail(l, seen->at, "jwk_set_uri: there is no [[fetch.document]] \"%s\"", name);
    }
    to->keys = kbs_span_str(uri);
}

/* A PEM public key or a JWK Set into one provider's `keys`. */
static void read_keys(struct kbs_config_loader *l, const struct kbs_config_seen *seen,
                      const char *path, bool jwks, struct kbs_config_provider *to)
{
    struct kbs_buf text =
        KBS_BUF(jwks ? KBS_LIMIT_ADMIN_JWKS_BYTES : KBS_CONFIG_ADMIN_KEY_BYTES * 4);
    const char *name = jwks ? "jwk_set_uri" : "public_key_uri";
    if (strncmp(path, KBS_CONFIG_DOCUMENT, strlen(KBS_CONFIG_DOCUMENT)) == 0) {
        take_document(l, seen, path, jwks, to);
        return;
    }
    int rc = jwks ? kbs_config_read_file(l, seen->at, name, path, &text)
                  : kbs_config_read_pem(l, seen->at, name, path, "PUBLIC KEY", &text);
    const char *wrong = rc == 0 && jwks ? kbs_doc_check_jwks((const char *)text.p, text.len) : NULL;
    if (wrong != NULL) {
        kbs_config_fail(l, seen->at, "%s: %s", name, wrong);
    } else if (rc == 0) {
        to->keys = kbs_arena_copy(&l->config->arena, kbs_buf_span(&text));
        if (to->keys.p == NULL) {
            (void)kbs_config_no_memory(l);
        }
    }
    kbs_buf_deinit(&text);
}

/* A provider with both kinds of keys becomes two, the second at the end. */
static void check_providers(struct kbs_config_loader *l)
{
    struct kbs_config *c = l->config;
    size_t rows = c->n_providers;
    for (size_t i = 0; i < rows; i++) {
        struct kbs_config_provider *p = &c->providers[i];
        const struct kbs_config_seen *pem = &l->seen[KBS_CONFIG_KEY_PROVIDER_PEM][i];
        const struct kbs_config_seen *jwks = &l->seen[KBS_CONFIG_KEY_PROVIDER_JWKS][i];
        if (!pem->given && !jwks->given) {
            kbs_config_fail(l, pem->at,
                            "identity_providers: neither public_key_uri nor jwk_set_uri is given");
        }
        if (p->public_key_uri != NULL) {
            read_keys(l, pem, p->public_key_uri, false, p);
        }
        if (p->jwk_set_uri != NULL && p->public_key_uri == NULL) {
            read_keys(l, jwks, p->jwk_set_uri, true, p);
        } else if (p->jwk_set_uri != NULL && c->n_providers == KBS_LIMIT_ADMIN_PROVIDERS) {
            kbs_config_fail(
                l, jwks->at,
                "identity_providers: at most %d, and one with both kinds of keys counts "
                "as two",
                KBS_LIMIT_ADMIN_PROVIDERS);
        } else if (p->jwk_set_uri != NULL) {
            c->providers[c->n_providers] = *p;
            read_keys(l, jwks, p->jwk_set_uri, true, &c->providers[c->n_providers++]);
        }
    }
}

void kbs_config_check_admin(struct kbs_config_loader *l)
{
    check_keys(l);
    check_mode(l);
    check_approvals(l);
    check_providers(l);
}

static void check_policy(struct kbs_config_loader *l, size_t i)
{
    struct kbs_config *c = l->config;
    struct kbs_doc_place at = l->seen[KBS_CONFIG_KEY_PLUGIN_POLICY][i].at;
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    if (kbs_config_read_file(l, at, "plugins[].policy", c->plugins[i].policy, &text) == 0) {
        const char *wrong = kbs_doc_check_object((const char *)text.p, text.len);
        if (wrong != NULL) {
            kbs_config_fail(l, at, "plugins[].policy: %s", wrong);
        }
        c->resource_policy = kbs_arena_copy(&c->arena, kbs_buf_span(&text));
        if (c->resource_policy.p == NULL) {
            (void)kbs_config_no_memory(l);
        }
    }
    kbs_buf_deinit(&text);
}

/* What a plugin needs, and what is another one's. */
static void check_plugin(struct kbs_config_loader *l, size_t i)
{
    struct kbs_config_plugin *p = &l->config->plugins[i];
    bool resource = strcmp(p->name, "resource") == 0;
    const struct kbs_config_seen *nek_key = &l->seen[KBS_CONFIG_KEY_PLUGIN_NEK_KEY][i];
    const struct kbs_config_seen *policy = &l->seen[KBS_CONFIG_KEY_PLUGIN_POLICY][i];
    if (!resource && !nek_key->given) {
        kbs_config_fail(l, l->seen[KBS_CONFIG_KEY_PLUGIN_NAME][i].at,
                        "plugins[].name: %s needs nek_key, the path of a key of purpose nek",
                        p->name);
    }
    if (resource ? nek_key->given : policy->given) {
        kbs_config_fail(l, resource ? nek_key->at : policy->at, "plugins[].%s is not of \"%s\"",
                        resource ? "nek_key" : "policy", p->name);
    } else if (p->policy != NULL) {
        check_policy(l, i);
    }
    if (p->nek_key != NULL && strcmp(p->name, "pkcs11") == 0) {
        l->config->nek_key = kbs_span_str(p->nek_key);
    } else if (p->nek_key != NULL) {
        l->config->id_key = kbs_span_str(p->nek_key);
    }
}

void kbs_config_check_plugins(struct kbs_config_loader *l)
{
    struct kbs_config *c = l->config;
    for (size_t i = 0; i < c->n_plugins; i++) {
        bool twice = false;
        for (size_t before = 0; before < i && c->plugins[i].name != NULL; before++) {
            twice = twice || (c->plugins[before].name != NULL &&
                              strcmp(c->plugins[before].name, c->plugins[i].name) == 0);
        }
        if (twice) {
            kbs_config_fail(l, l->seen[KBS_CONFIG_KEY_PLUGIN_NAME][i].at,
                            "plugins[].name: \"%s\" is there twice", c->plugins[i].name);
        } else if (c->plugins[i].name != NULL) {
            check_plugin(l, i);
        }
    }
}
