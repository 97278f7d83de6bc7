/*
 * The TLS of [http_server] and [admin_server]: where its key is, and which of it is spoken.
 *
 * The profiles have the names of Trustee's, which are Mozilla's. "old" has no TLS 1.0 and 1.1 here (RFC 8996):
 * it is TLS 1.2 with what clients had before AES-GCM. A key in a token signs for TLS 1.3 only: its sign worker
 * is given what is signed, and in TLS 1.2 that would be chosen by the client for one half.
 */
#include <errno.h>
#include <unistd.h>

#include "base/buf.h"
#include "config/schema.h"

struct profile {
    const char *name;
    uint8_t minimum;
    const char *ciphers;
};

#define AEAD                                                                                   \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:" \
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"

static const struct profile profiles[] = {
    {"modern", 3, ""},
    {"intermediate", 2, AEAD},
    {"old", 2,
     AEAD ":ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:"
          "ECDHE-RSA-AES256-SHA384"},
    {"custom", 2, AEAD},
};

static const struct profile *profile_of(const char *name)
{
    for (size_t i = 0; i < sizeof(profiles) / sizeof(profiles[0]); i++) {
        if (strcmp(profiles[i].name, name) == 0) {
            return &profiles[i];
        }
    }
    return NULL;
}

const char *kbs_config_check_tls_profile(const char *value)
{
    return profile_of(value) != NULL
               ? NULL
               : "must be \"modern\", \"intermediate\", \"old\" or \"custom\"";
}

const char *kbs_config_check_tls_version(const char *value)
{
    return strcmp(value, "1.2") == 0 || strcmp(value, "1.3") == 0 ? NULL
                                                                  : "must be \"1.2\" or \"1.3\"";
}

const char *kbs_config_check_tls_list(const char *value)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:";
    return strspn(value, letters) == strlen(value) ? NULL : "must be names with \":\" between them";
}

void kbs_config_tls_defaults(struct kbs_config_server *s)
{
    s->tls_profile = "modern";
    s->tls_min_version = "";
    s->tls_max_version = "";
    s->tls_ciphers = "";
    s->tls_groups = "";
}

static void check_key_file(struct kbs_config_loader *l, const struct kbs_config_server *s,
                           const struct kbs_config_server_keys *ids)
{
    unsigned int mode;
    struct kbs_doc_place at = kbs_config_at(l, ids->private_key);
    /* A group of its own for TLS keys is common practice, so only "others" count. */
    if (kbs_config_check_file(l, at, "private_key", s->private_key, &mode) == 0 &&
        (mode & 07u) != 0) {
        (void)kbs_config_insecure(l, at, "private_key: others may read or change it");
    }
}

static void check_pem(struct kbs_config_loader *l, enum kbs_config_key_id id, const char *path)
{
    struct kbs_buf pem = KBS_BUF(KBS_CONFIG_CERTIFICATE_BYTES);
    if (id != KBS_CONFIG_KEY_COUNT && kbs_config_usable(l, id)) {
        (void)kbs_config_read_pem(l, kbs_config_at(l, id), kbs_config_keys[id].name, path,
                                  "CERTIFICATE", &pem);
    }
    kbs_buf_deinit(&pem);
}

static void check_files(struct kbs_config_loader *l, struct kbs_config_server *s,
                        const struct kbs_config_server_keys *ids)
{
    const char *table = kbs_config_keys[ids->sockets].table;
    const enum kbs_config_key_id files[] = {ids->private_key, ids->certificate};
    for (size_t i = 0; i < 2; i++) {
        /* A table whose keys are required has been reported. */
        if (!l->seen[files[i]][0].given && !kbs_config_keys[files[i]].required) {
            kbs_config_fail(l, kbs_config_at(l, ids->sockets), "%s.sockets needs %s.%s", table,
                            table, kbs_config_keys[files[i]].name);
        }
    }
    if (kbs_config_usable(l, ids->private_key) && s->key_uri == NULL) {
        check_key_file(l, s, ids);
    }
    if (l->for_tools && kbs_config_usable(l, ids->certificate) &&
        access(s->certificate, F_OK) != 0 && errno == ENOENT) {
        kbs_config_warn(l, kbs_config_at(l, ids->certificate), "certificate: is not there yet");
    } else {
        check_pem(l, ids->certificate, s->certificate);
    }
    check_pem(l, ids->client_ca, s->client_ca);
}

/* What goes beyond the profile is an error, as in Trustee, unless the profile is "custom". */
static void check_custom(struct kbs_config_loader *l, const struct profile *p,
                         const struct kbs_config_server_keys *ids)
{
    for (unsigned int i = 1; i <= 4; i++) {
        enum kbs_config_key_id id = (enum kbs_config_key_id)((unsigned int)ids->tls_profile + i);
        bool exact = i <= 2; /* a version that the profile has is no contradiction */
        if (kbs_config_usable(l, id) && !exact && strcmp(p->name, "custom") != 0) {
            kbs_config_fail(l, kbs_config_at(l, id), "%s.%s: needs tls_profile = \"custom\"",
                            kbs_config_keys[id].table, kbs_config_keys[id].name);
        }
    }
}

static void make_tls(struct kbs_config_loader *l, struct kbs_config_server *s,
                     const struct kbs_config_server_keys *ids)
{
    const struct profile *p = profile_of(s->tls_profile);
    struct kbs_doc_place at = kbs_config_at(l, ids->tls_profile);
    check_custom(l, p, ids);
    s->tls =
        (struct kbs_config_tls){.minimum = p->minimum,
                                .maximum = 3,
                                .ciphers = s->tls_ciphers[0] != '\0' ? s->tls_ciphers : p->ciphers,
                                .groups = s->tls_groups};
    if (s->tls_min_version[0] != '\0') {
        s->tls.minimum = s->tls_min_version[2] == '2' ? 2 : 3;
    }
    if (s->tls_max_version[0] != '\0') {
        s->tls.maximum = s->tls_max_version[2] == '2' ? 2 : 3;
    }
    if (s->tls.minimum > s->tls.maximum || s->tls.minimum < p->minimum) {
        kbs_config_fail(l, at,
                        "%s: tls_min_version, tls_max_version and tls_profile leave no version",
                        kbs_config_keys[ids->sockets].table);
    }
    if (s->key_uri != NULL && s->tls.minimum != 3) {
        kbs_config_fail(l, kbs_config_at(l, ids->private_key),
                        "private_key: a key in the token is for TLS 1.3 only: remove tls_profile");
    }
    if (strcmp(p->name, "old") == 0) {
        (void)kbs_config_insecure(
            l, at, "tls_profile: \"old\" has ciphers without authenticated encryption");
    }
}

void kbs_config_check_tls(struct kbs_config_loader *l, struct kbs_config_server *s,
                          const struct kbs_config_server_keys *ids)
{
    check_files(l, s, ids);
    if (!l->seen[ids->tls_profile][0].bad) {
        make_tls(l, s, ids);
    }
}
