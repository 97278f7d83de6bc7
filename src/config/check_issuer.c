/*
 * [[issuer]]: whose attestation tokens are believed, and with which keys. Files of keys, anchors and revocation lists
 * are read here, like the keys of administrators, so that no judge has to be able to open them. What
 * follows from a profile (which claims it needs, where its keys are) is known to the judges, which refuse to start
 * with what they cannot use.
 */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "config/schema.h"

static bool is_one_of(const char *value, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(value, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

const char *kbs_config_check_profile(const char *value)
{
    static const char *const names[] = {"coco-ear", "coco-simple", "ita",  "maa",
                                        "google",   "veraison",    "nras", "kbs"};
    return is_one_of(value, names, sizeof(names) / sizeof(names[0]))
               ? NULL
               : "must be \"coco-ear\", \"coco-simple\", \"ita\", \"maa\", \"google\", "
                 "\"veraison\", \"nras\" or \"kbs\"";
}

const char *kbs_config_check_algorithm(const char *value)
{
    static const char *const names[] = {"ES256", "ES384", "ES512", "RS256", "RS384",
                                        "RS512", "PS256", "PS384", "PS512", "EdDSA"};
    return is_one_of(value, names, sizeof(names) / sizeof(names[0]))
               ? NULL
               : "must be ES, RS or PS with 256, 384 or 512, or \"EdDSA\"";
}

const char *kbs_config_check_key_path(const char *value)
{
    return value[0] == '/' || strcmp(value, "none") == 0
               ? NULL
               : "must be a JSON pointer (RFC 6901) or \"none\"";
}

const char *kbs_config_check_binding(const char *value)
{
    for (int b = KBS_BINDING_TOKEN; b < KBS_BINDING_COUNT; b++) {
        if (strcmp(value, kbs_binding_name((enum kbs_binding)b)) == 0) {
            return NULL;
        }
    }
    return "must be \"token\", \"session\", \"evidence\", \"hardware\" or \"full\"";
}

const char *kbs_config_check_tee(const char *value)
{
    enum kbs_tee tee = kbs_tee_from_name(kbs_span_str(value));
    return tee != KBS_TEE_NONE && strcmp(value, kbs_tee_name(tee)) == 0
               ? NULL
               : "must be the name of a kind of TEE, such as \"snp\" or \"tdx\"";
}

const char *kbs_config_check_submod(const char *value)
{
    const char *equals = strrchr(value, '=');
    return equals != NULL && equals != value && kbs_config_check_tee(equals + 1) == NULL
               ? NULL
               : "must be like \"CCA_REALM=cca\": a submodule's name and a kind of TEE";
}

const char *kbs_config_require_name(enum kbs_config_require r)
{
    return kbs_config_keys[KBS_CONFIG_KEY_REQUIRE_TEES + (int)r].name;
}

/* A private key in any of these files is a mistake that must not travel any further. */
static void read_file(struct kbs_config_loader *l, enum kbs_config_key_id id, size_t row,
                      const char *path, const char *label, size_t max, struct kbs_span *ret)
{
    const struct kbs_config_seen *seen = &l->seen[id][row];
    const char *name = kbs_config_keys[id].name;
    struct kbs_buf text = KBS_BUF(max);
    if (path == NULL || seen->bad) {
        return;
    }
    int rc = label != NULL ? kbs_config_read_pem(l, seen->at, name, path, label, &text)
                           : kbs_config_read_file(l, seen->at, name, path, &text);
    if (rc == 0) {
        *ret = kbs_arena_copy(&l->config->arena, kbs_buf_span(&text));
        if (ret->p == NULL) {
            (void)kbs_config_no_memory(l);
        }
    }
    kbs_buf_deinit(&text);
}

/* PEM, or a JWK set, by what it begins with. */
static void read_keys(struct kbs_config_loader *l, size_t row, struct kbs_config_issuer *i)
{
    const struct kbs_config_seen *seen = &l->seen[KBS_CONFIG_KEY_ISSUER_KEYS][row];
    struct kbs_span text = KBS_SPAN_EMPTY;
    read_file(l, KBS_CONFIG_KEY_ISSUER_KEYS, row, i->keys_path, NULL, KBS_CONFIG_ISSUER_BYTES,
              &text);
    if (text.p != NULL && memchr(text.p, '{', text.len) == NULL) {
        read_file(l, KBS_CONFIG_KEY_ISSUER_KEYS, row, i->keys_path, "PUBLIC KEY",
                  KBS_CONFIG_ISSUER_BYTES, &i->keys);
    } else if (text.p != NULL) {
        const char *wrong = kbs_doc_check_jwks((const char *)text.p, text.len);
        if (wrong != NULL) {
            kbs_config_fail(l, seen->at, "keys: %s", wrong);
        }
        i->keys = text;
    }
}

/* One source of keys; an anchor may stand beside a document, for the certificates in it. */
static void check_source(struct kbs_config_loader *l, size_t row)
{
    bool keys = l->seen[KBS_CONFIG_KEY_ISSUER_KEYS][row].given;
    bool document = l->seen[KBS_CONFIG_KEY_ISSUER_DOCUMENT][row].given;
    bool anchor = l->seen[KBS_CONFIG_KEY_ISSUER_ANCHOR][row].given;
    struct kbs_doc_place at = l->seen[KBS_CONFIG_KEY_ISSUER_NAME][row].at;
    if ((!keys && !document && !anchor) || (keys && (document || anchor))) {
        kbs_config_fail(l, at,
                        "issuer[]: exactly one of keys, document and anchor is needed (anchor may "
                        "stand beside document)");
    }
    if (l->seen[KBS_CONFIG_KEY_ISSUER_CRL][row].given && !anchor) {
        kbs_config_fail(l, l->seen[KBS_CONFIG_KEY_ISSUER_CRL][row].at,
                        "issuer[].crl: it is for an anchor, and there is none");
    }
}

static bool share(const struct kbs_config_strings *a, const struct kbs_config_strings *b)
{
    for (size_t i = 0; i < a->n; i++) {
        if (is_one_of(a->v[i], b->v, b->n)) {
            return true;
        }
    }
    return a->n == 0 && b->n == 0;
}

/* A token must lead to one issuer, and a name to one too. */
static void check_unique(struct kbs_config_loader *l, size_t row)
{
    const struct kbs_config *c = l->config;
    for (size_t k = 0; k < row; k++) {
        if (c->issuers[k].name != NULL && c->issuers[row].name != NULL &&
            strcmp(c->issuers[k].name, c->issuers[row].name) == 0) {
            kbs_config_fail(l, l->seen[KBS_CONFIG_KEY_ISSUER_NAME][row].at,
                            "issuer[].name: \"%s\" is there twice", c->issuers[row].name);
        }
        if (share(&c->issuers[k].issuers, &c->issuers[row].issuers)) {
            kbs_config_fail(
                l, l->seen[KBS_CONFIG_KEY_ISSUER_ISS][row].at,
                "issuer[].issuer: another one has the same, so a token would be of two");
        }
    }
}

static void check_passport(struct kbs_config_loader *l, size_t row)
{
    const struct kbs_config *c = l->config;
    const struct kbs_config_issuer *i = &c->issuers[row];
    bool found = false;
    if (i->passport && i->minimum_binding != NULL && strcmp(i->minimum_binding, "token") != 0) {
        kbs_config_fail(l, l->seen[KBS_CONFIG_KEY_ISSUER_PASSPORT][row].at,
                        "issuer[].passport: a token alone never has that minimum_binding");
    }
    if (!i->passport && (i->known_keys || i->agree_with != NULL)) {
        kbs_config_fail(l, l->seen[KBS_CONFIG_KEY_ISSUER_NAME][row].at,
                        "issuer[]: known_keys and agree_with are for passport = true");
    }
    for (size_t k = 0; k < c->n_issuers && i->agree_with != NULL; k++) {
        found = found || (k != row && c->issuers[k].name != NULL &&
                          strcmp(c->issuers[k].name, i->agree_with) == 0);
    }
    if (i->agree_with != NULL && !found) {
        kbs_config_fail(l, l->seen[KBS_CONFIG_KEY_ISSUER_AGREE_WITH][row].at,
                        "issuer[].agree_with: there is no other issuer of that name");
    }
}

void kbs_config_check_issuers(struct kbs_config_loader *l)
{
    struct kbs_config *c = l->config;
    for (size_t row = 0; row < c->n_issuers; row++) {
        struct kbs_config_issuer *i = &c->issuers[row];
        check_source(l, row);
        check_unique(l, row);
        check_passport(l, row);
        read_keys(l, row, i);
        read_file(l, KBS_CONFIG_KEY_ISSUER_ANCHOR, row, i->anchor_path, "CERTIFICATE",
                  KBS_CONFIG_ISSUER_BYTES, &i->anchor);
        read_file(l, KBS_CONFIG_KEY_ISSUER_CRL, row, i->crl_path, "X509 CRL", KBS_LIMIT_CRL_BYTES,
                  &i->crl);
    }
}
