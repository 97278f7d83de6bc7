/*
 * What the keys say together, and what the file system says to them. Everything that would make a
 * role fail at start and that can be seen from here is found here, where the operator gets a line
 * and a column for it; so `kbsd --check-config` answers for more than syntax. The answers may be stale a
 * moment later: the roles check again what they open.
 *
 * Rules do not depend on each other, and each passes over what has been reported already. The profile
 * decides between error and warning: kbs_config_insecure() is the one place for that.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "config/schema.h"

/* Whoever can change one of these files decides: the keys of administrators above all. */
static int check_writers(struct kbs_config_loader *l, struct kbs_doc_place at, const char *name,
                         mode_t mode)
{
    char what[96];
    snprintf(what, sizeof(what), "%s: everybody may change it", name);
    return (mode & S_IWOTH) != 0 ? kbs_config_insecure(l, at, what) : 0;
}

int kbs_config_check_file(struct kbs_config_loader *l, struct kbs_doc_place at, const char *name,
                          const char *path, unsigned int *ret_mode)
{
    struct stat st;
    *ret_mode = 0;
    if (stat(path, &st) != 0) {
        return kbs_config_fail(l, at, "%s: %s", name, strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) {
        return kbs_config_fail(l, at, "%s: is not a regular file", name);
    }
    *ret_mode = st.st_mode & 07777u;
    return check_writers(l, at, name, st.st_mode);
}

/* A file that need not be there yet, in a folder that must. */
static void check_parent(struct kbs_config_loader *l, enum kbs_config_key_id id, const char *path)
{
    const struct kbs_config_key *key = &kbs_config_keys[id];
    struct kbs_doc_place at = kbs_config_at(l, id);
    char folder[8192];
    const char *slash = strrchr(path, '/');
    int n = slash == NULL ? snprintf(folder, sizeof(folder), ".")
                          : snprintf(folder, sizeof(folder), "%.*s/", (int)(slash - path), path);
    struct stat st;
    if (n < 0 || (size_t)n >= sizeof(folder) || stat(folder, &st) != 0 || !S_ISDIR(st.st_mode)) {
        kbs_config_fail(l, at, "%s.%s: its folder does not exist", key->table, key->name);
    } else if (stat(path, &st) != 0) {
        return; /* it will be made */
    } else if (!S_ISREG(st.st_mode)) {
        kbs_config_fail(l, at, "%s.%s: is not a regular file", key->table, key->name);
    } else {
        (void)check_writers(l, at, key->table, st.st_mode);
    }
}

int kbs_config_read_file(struct kbs_config_loader *l, struct kbs_doc_place at, const char *name,
                         const char *path, struct kbs_buf *out)
{
    struct kbs_error why = KBS_ERROR_NONE;
    unsigned int mode;
    if (kbs_config_check_file(l, at, name, path, &mode) != 0) {
        return -1;
    }
    if (kbs_io_read_file(path, out, &why) != 0) {
        return kbs_config_fail(l, at, "%s: cannot be read, or has more than %zu bytes", name,
                               out->max);
    }
    return 0;
}

int kbs_config_read_pem(struct kbs_config_loader *l, struct kbs_doc_place at, const char *name,
                        const char *path, const char *label, struct kbs_buf *out)
{
    char begin[64];
    snprintf(begin, sizeof(begin), "-----BEGIN %s-----", label);
    if (kbs_config_read_file(l, at, name, path, out) != 0) {
        return -1;
    }
    const char *text = kbs_buf_cstr(out);
    if (text != NULL && strstr(text, "PRIVATE KEY-----") != NULL) {
        return kbs_config_fail(l, at, "%s: holds a private key, which does not belong there", name);
    }
    if (text == NULL || strstr(text, begin) == NULL) {
        return kbs_config_fail(l, at, "%s: has no PEM block %s", name, label);
    }
    return 0;
}

/* Servers */

/* A unix socket's path is resolved against the file's folder. */
static int resolve_socket(struct kbs_config_loader *l, struct kbs_doc_place at, const char *text,
                          struct kbs_config_socket *s)
{
    (void)kbs_config_socket_parse(text, s); /* checked when it was read */
    if (s->address.ss_family == AF_UNIX && text[5] != '/') {
        char resolved[1200];
        snprintf(resolved, sizeof(resolved), "unix:%s%s", l->folder, text + 5);
        const char *kept = kbs_arena_cstr(&l->config->arena, kbs_span_str(resolved));
        if (kept == NULL) {
            return kbs_config_no_memory(l);
        }
        const char *wrong = kbs_config_socket_parse(kept, s);
        if (wrong != NULL) {
            return kbs_config_fail(l, at, "%s", wrong);
        }
    }
    return 0;
}

static void check_socket(struct kbs_config_loader *l, struct kbs_doc_place at, const char *table,
                         const struct kbs_config_server *server, const struct kbs_config_socket *s)
{
    char what[128];
    if (!server->insecure_http && s->address.ss_family == AF_UNIX) {
        kbs_config_fail(
            l, at, "%s.sockets: unix sockets carry no TLS: they belong in plain_sockets", table);
    }
    if (server->insecure_http && !kbs_config_socket_is_local(s)) {
        snprintf(what, sizeof(what), "%s.sockets: insecure_http on an address that is not loopback",
                 table);
        (void)kbs_config_insecure(l, at, what);
    }
}

/* `sockets` and `plain_sockets`, ready for bind(2). */
static void make_sockets(struct kbs_config_loader *l, struct kbs_config_server *s,
                         const struct kbs_config_server_keys *ids)
{
    const char *table = kbs_config_keys[ids->sockets].table;
    size_t n = 0;
    for (size_t i = 0; i < s->socket_texts.n; i++) {
        struct kbs_config_socket *to = s->insecure_http ? &s->plain_sockets[n] : &s->sockets[n];
        struct kbs_doc_place at = l->seen[ids->sockets][0].items[i];
        if (resolve_socket(l, at, s->socket_texts.v[i], to) == 0) {
            check_socket(l, at, table, s, to);
            n++;
        }
    }
    s->n_sockets = s->insecure_http ? 0 : n;
    s->n_plain_sockets = s->insecure_http ? n : 0;
    for (size_t i = 0; i < s->plain_socket_texts.n; i++) {
        struct kbs_doc_place at = l->seen[ids->plain_sockets][0].items[i];
        if (s->n_sockets + s->n_plain_sockets == KBS_LIMIT_FRONT_LISTENERS) {
            kbs_config_fail(l, kbs_config_at(l, ids->sockets), "%s: at most %d sockets in all",
                            table, KBS_LIMIT_FRONT_LISTENERS);
            return;
        }
        if (resolve_socket(l, at, s->plain_socket_texts.v[i],
                           &s->plain_sockets[s->n_plain_sockets]) == 0) {
            s->n_plain_sockets++;
        }
    }
}

static void check_server(struct kbs_config_loader *l, struct kbs_config_server *s,
                         const struct kbs_config_server_keys *ids)
{
    const struct kbs_config_seen *sockets = &l->seen[ids->sockets][0];
    bool plain_bad =
        ids->plain_sockets != KBS_CONFIG_KEY_COUNT && l->seen[ids->plain_sockets][0].bad;
    if (s->private_key != NULL &&
        strncmp(s->private_key, KBS_CONFIG_PKCS11, strlen(KBS_CONFIG_PKCS11)) == 0) {
        s->key_uri = s->private_key;
        s->private_key = NULL;
    }
    make_sockets(l, s, ids);
    if (s->n_sockets + s->n_plain_sockets == 0 && !sockets->bad && !plain_bad &&
        !(kbs_config_keys[ids->sockets].required && !sockets->given)) {
        kbs_config_fail(l, sockets->at,
                        "%s: sockets and plain_sockets are both empty, and there is no default",
                        kbs_config_keys[ids->sockets].table);
    }
    if (s->n_sockets > 0) {
        kbs_config_check_tls(l, s, ids);
    } else if (s->insecure_http &&
               (s->private_key != NULL || s->key_uri != NULL || s->certificate != NULL)) {
        kbs_config_warn(l, kbs_config_at(l, KBS_CONFIG_KEY_GUEST_INSECURE),
                        "http_server: private_key and certificate are not used with insecure_http");
    }
}

/* Files of the service */

static void check_pin_file(struct kbs_config_loader *l)
{
    const struct kbs_config_token *t = &l->config->token;
    struct kbs_doc_place at = kbs_config_at(l, KBS_CONFIG_KEY_TOKEN_PIN_FILE);
    unsigned int mode;
    /* systemd lets the unit's user in by an ACL, whose mask shows as the group's right to read. */
    unsigned int others = t->pin_credential ? 037u : 077u;
    if (kbs_config_check_file(l, at, "pin_file", t->pin_file, &mode) == 0 && (mode & others) != 0) {
        (void)kbs_config_insecure(l, at, "pin_file: others than its owner may use it");
    }
}

static void check_token(struct kbs_config_loader *l)
{
    unsigned int mode;
    if (kbs_config_usable(l, KBS_CONFIG_KEY_TOKEN_MODULE)) {
        (void)kbs_config_check_file(l, kbs_config_at(l, KBS_CONFIG_KEY_TOKEN_MODULE), "module",
                                    l->config->token.module, &mode);
    }
    if (kbs_config_usable(l, KBS_CONFIG_KEY_TOKEN_PIN_FILE)) {
        check_pin_file(l);
    }
}

/* True if `path` lies in `folder` or below; both may be relative. */
static bool lies_in(const char *path, const char *folder)
{
    char parent[PATH_MAX];
    char real[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int n = slash == NULL ? snprintf(parent, sizeof(parent), ".")
                          : snprintf(parent, sizeof(parent), "%.*s/", (int)(slash - path), path);
    if (n < 0 || (size_t)n >= sizeof(parent)) {
        return true; /* cannot be told: not to be trusted */
    }
    char real_parent[PATH_MAX];
    if (realpath(parent, real_parent) == NULL || realpath(folder, real) == NULL) {
        return false;
    }
    size_t len = strlen(real);
    return strncmp(real_parent, real, len) == 0 &&
           (real_parent[len] == '\0' || real_parent[len] == '/' || len == 1);
}

/* What a role may write into, file system confinement included, holds nothing that it may not
 * read. */
void kbs_config_check_apart(struct kbs_config_loader *l, enum kbs_config_key_id id,
                            const char *folder)
{
    const struct kbs_config *c = l->config;
    const struct kbs_config_key *key = &kbs_config_keys[id];
    const char *const apart[] = {c->file, c->token.pin_file, c->audit_path, c->guest.private_key,
                                 c->admin.private_key};
    for (size_t i = 0; i < sizeof(apart) / sizeof(apart[0]); i++) {
        if (apart[i] != NULL && lies_in(apart[i], folder)) {
            char what[128];
            snprintf(what, sizeof(what), "%s.%s: a folder with other files of the service in it",
                     key->table, key->name);
            (void)kbs_config_insecure(l, kbs_config_at(l, id), what);
            return;
        }
    }
}

static void check_walls(struct kbs_config_loader *l)
{
    struct kbs_config *c = l->config;
    char folder[PATH_MAX];
    const char *slash = strrchr(c->store_path, '/');
    snprintf(folder, sizeof(folder), "%.*s", slash != NULL ? (int)(slash - c->store_path) + 1 : 1,
             slash != NULL ? c->store_path : ".");
    c->token.seccomp_log = strcmp(c->token.seccomp, "log") == 0;
    if (c->token.seccomp_log) {
        (void)kbs_config_insecure(l, kbs_config_at(l, KBS_CONFIG_KEY_TOKEN_SECCOMP),
                                  "seccomp: \"log\" keeps nothing out");
    }
    for (size_t i = 0; i < c->token.folders.n; i++) {
        struct stat st;
        if (stat(c->token.folders.v[i], &st) != 0 || !S_ISDIR(st.st_mode)) {
            kbs_config_fail(l, l->seen[KBS_CONFIG_KEY_TOKEN_FOLDERS][0].items[i],
                            "token.folders: is not a folder");
        } else {
            kbs_config_check_apart(l, KBS_CONFIG_KEY_TOKEN_FOLDERS, c->token.folders.v[i]);
        }
    }
    kbs_config_check_apart(l, KBS_CONFIG_KEY_STORE_PATH, folder);
}

void kbs_config_check_all(struct kbs_config_loader *l)
{
    static const struct kbs_config_server_keys guest = {
        .sockets = KBS_CONFIG_KEY_GUEST_SOCKETS,
        .private_key = KBS_CONFIG_KEY_GUEST_PRIVATE_KEY,
        .certificate = KBS_CONFIG_KEY_GUEST_CERTIFICATE,
        .plain_sockets = KBS_CONFIG_KEY_GUEST_PLAIN_SOCKETS,
        .client_ca = KBS_CONFIG_KEY_COUNT,
        .tls_profile = KBS_CONFIG_KEY_GUEST_TLS_PROFILE};
    static const struct kbs_config_server_keys admin = {
        .sockets = KBS_CONFIG_KEY_ADMIN_SOCKETS,
        .private_key = KBS_CONFIG_KEY_ADMIN_PRIVATE_KEY,
        .certificate = KBS_CONFIG_KEY_ADMIN_CERTIFICATE,
        .plain_sockets = KBS_CONFIG_KEY_COUNT,
        .client_ca = KBS_CONFIG_KEY_ADMIN_CLIENT_CA,
        .tls_profile = KBS_CONFIG_KEY_ADMIN_TLS_PROFILE};
    struct kbs_config *c = l->config;
    c->production = strcmp(c->mode, "production") == 0;
    if (c->allow_sample) {
        (void)kbs_config_insecure(l, kbs_config_at(l, KBS_CONFIG_KEY_ALLOW_SAMPLE),
                                  "allow_sample: \"sample\" evidence proves nothing");
    }
    check_server(l, &c->guest, &guest);
    check_server(l, &c->admin, &admin);
    kbs_config_check_admin(l);
    check_token(l);
    if (c->store_path != NULL && !l->seen[KBS_CONFIG_KEY_STORE_PATH][0].bad) {
        check_parent(l, KBS_CONFIG_KEY_STORE_PATH, c->store_path);
        check_walls(l);
    }
    if (kbs_config_usable(l, KBS_CONFIG_KEY_AUDIT_PATH)) {
        check_parent(l, KBS_CONFIG_KEY_AUDIT_PATH, c->audit_path);
    }
    kbs_config_check_plugins(l);
    kbs_config_check_attest(l);
    kbs_config_check_issuers(l);
    kbs_config_check_fetch(l);
    kbs_config_check_delegate(l);
}
