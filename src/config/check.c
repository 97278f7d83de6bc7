/*
 * What the keys say together, and what the file system says to them. Everything that would make a
 * role fail at start and that can be seen from here is found here, where the operator gets a line
 * and a column for it; so `kbsd --check` answers for more than syntax. The answers may be stale a
 * moment later: the roles check again what they open.
 *
 * The profile decides between error and warning: `insecure()` is the one place for that.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "config/schema.h"

static int insecure(struct kbs_config_loader *l, struct kbs_toml_position at, const char *what)
{
    struct kbs_config *c = l->config;
    if (c->production) {
        return kbs_config_fail(l, at, "%s: refused in the production profile", what);
    }
    char text[256];
    snprintf(text, sizeof(text), "%s:%u:%u: %s: production would refuse this", l->file, at.line,
             at.column, what);
    const char *kept = kbs_arena_cstr(&c->arena, kbs_span_str(text));
    if (kept == NULL || c->warnings.n == KBS_CONFIG_WARNINGS) {
        return kbs_fail(l->err, KBS_INTERNAL, "%s: too many warnings", l->file);
    }
    c->warning_texts[c->warnings.n++] = kept;
    c->warnings.v = c->warning_texts;
    return 0;
}

/* Whoever can change one of these files decides: the keys of administrators above all. */
static int check_writers(struct kbs_config_loader *l, struct kbs_toml_position at, const char *name,
                         mode_t mode)
{
    char what[96];
    snprintf(what, sizeof(what), "%s: everybody may change it", name);
    return (mode & S_IWOTH) != 0 ? insecure(l, at, what) : 0;
}

/* A regular file; `mode` gets its permission bits. */
static int check_file(struct kbs_config_loader *l, struct kbs_toml_position at, const char *name,
                      const char *path, unsigned int *ret_mode)
{
    struct stat st;
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
static int check_parent(struct kbs_config_loader *l, enum kbs_config_key_id id, const char *path)
{
    const struct kbs_config_key *key = &kbs_config_keys[id];
    char folder[8192];
    const char *slash = strrchr(path, '/');
    int n = slash == NULL ? snprintf(folder, sizeof(folder), ".")
                          : snprintf(folder, sizeof(folder), "%.*s/", (int)(slash - path), path);
    struct stat st;
    if (n < 0 || (size_t)n >= sizeof(folder) || stat(folder, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return kbs_config_fail(l, l->at[id], "%s.%s: its folder does not exist", key->table,
                               key->name);
    }
    if (stat(path, &st) != 0) {
        return 0; /* it will be made */
    }
    if (!S_ISREG(st.st_mode)) {
        return kbs_config_fail(l, l->at[id], "%s.%s: is not a regular file", key->table, key->name);
    }
    return check_writers(l, l->at[id], key->table, st.st_mode);
}

/* Reads a PEM file of public things. A private key in it is a mistake that must not travel any
 * further. */
static int read_public_pem(struct kbs_config_loader *l, struct kbs_toml_position at,
                           const char *name, const char *path, const char *label,
                           struct kbs_buf *out)
{
    struct kbs_error why = KBS_ERROR_NONE;
    unsigned int mode;
    if (check_file(l, at, name, path, &mode) != 0) {
        return -1;
    }
    if (kbs_io_read_file(path, out, &why) != 0) {
        return kbs_config_fail(l, at, "%s: cannot be read, or has more than %zu bytes", name,
                               out->max);
    }
    const char *text = kbs_buf_cstr(out);
    char begin[64];
    snprintf(begin, sizeof(begin), "-----BEGIN %s-----", label);
    if (text != NULL && strstr(text, "PRIVATE KEY-----") != NULL) {
        return kbs_config_fail(l, at, "%s: holds a private key, which does not belong there", name);
    }
    if (text == NULL || strstr(text, begin) == NULL) {
        return kbs_config_fail(l, at, "%s: has no PEM block %s", name, label);
    }
    return 0;
}

static int check_sockets(struct kbs_config_loader *l, const struct kbs_config_strings *texts,
                         struct kbs_config_socket *sockets, size_t *ret_n)
{
    for (size_t i = 0; i < texts->n; i++) {
        struct kbs_config_socket *s = &sockets[i];
        (void)kbs_config_socket_parse(texts->v[i], s); /* checked when it was read */
        const char *path = texts->v[i] + (s->address.ss_family == AF_UNIX ? 5 : 0);
        if (s->address.ss_family == AF_UNIX && path[0] != '/') {
            char resolved[1200];
            snprintf(resolved, sizeof(resolved), "unix:%s%s", l->folder, path);
            const char *kept = kbs_arena_cstr(&l->config->arena, kbs_span_str(resolved));
            const char *wrong = kept != NULL ? kbs_config_socket_parse(kept, s) : "no memory";
            if (wrong != NULL) {
                return kbs_config_fail(l, (struct kbs_toml_position){0}, "plain_sockets: %s",
                                       wrong);
            }
        }
    }
    *ret_n = texts->n;
    return 0;
}

struct server_keys {
    enum kbs_config_key_id sockets;
    enum kbs_config_key_id private_key;
    enum kbs_config_key_id certificate;
};

static int check_tls_files(struct kbs_config_loader *l, const struct kbs_config_server *s,
                           const struct server_keys *ids)
{
    const char *table = kbs_config_keys[ids->sockets].table;
    struct kbs_toml_position sockets_at = l->at[ids->sockets];
    if (s->private_key == NULL || s->certificate == NULL) {
        return kbs_config_fail(l, sockets_at, "%s.sockets needs %s.%s", table, table,
                               s->private_key == NULL ? "private_key" : "certificate");
    }
    unsigned int mode;
    struct kbs_toml_position at = l->at[ids->private_key];
    if (check_file(l, at, "private_key", s->private_key, &mode) != 0) {
        return -1;
    }
    /* A group of its own for TLS keys is common practice, so only "others" count. */
    if ((mode & 07u) != 0 && insecure(l, at, "private_key: others may read or change it") != 0) {
        return -1;
    }
    struct kbs_buf pem = KBS_BUF(KBS_CONFIG_CERTIFICATE_BYTES);
    int rc = read_public_pem(l, l->at[ids->certificate], "certificate", s->certificate,
                             "CERTIFICATE", &pem);
    kbs_buf_deinit(&pem);
    return rc;
}

static int check_server(struct kbs_config_loader *l, struct kbs_config_server *s,
                        const struct server_keys *ids)
{
    if (check_sockets(l, &s->socket_texts, s->sockets, &s->n_sockets) != 0 ||
        check_sockets(l, &s->plain_socket_texts, s->plain_sockets, &s->n_plain_sockets) != 0) {
        return -1;
    }
    if (s->n_sockets + s->n_plain_sockets > KBS_LIMIT_FRONT_LISTENERS) {
        return kbs_config_fail(l, l->at[ids->sockets], "%s: at most %d sockets in all",
                               kbs_config_keys[ids->sockets].table, KBS_LIMIT_FRONT_LISTENERS);
    }
    if (s->n_sockets + s->n_plain_sockets == 0) {
        return kbs_config_fail(l, l->at[ids->sockets],
                               "%s: sockets and plain_sockets are both empty",
                               kbs_config_keys[ids->sockets].table);
    }
    return s->n_sockets > 0 ? check_tls_files(l, s, ids) : 0;
}

static int check_admin_keys(struct kbs_config_loader *l)
{
    struct kbs_config *c = l->config;
    for (size_t i = 0; i < c->admin_key_paths.n; i++) {
        struct kbs_buf pem = KBS_BUF(KBS_CONFIG_ADMIN_KEY_BYTES);
        int rc = read_public_pem(l, l->items[KBS_CONFIG_KEY_ADMIN_KEYS][i], "admin.keys",
                                 c->admin_key_paths.v[i], "PUBLIC KEY", &pem);
        c->admin_keys[i] = kbs_arena_copy(&c->arena, kbs_buf_span(&pem));
        kbs_buf_deinit(&pem);
        if (rc != 0) {
            return -1;
        }
        if (c->admin_keys[i].p == NULL) {
            return kbs_fail(l->err, KBS_INTERNAL, "%s: no memory for the configuration", l->file);
        }
    }
    return 0;
}

static int check_token(struct kbs_config_loader *l)
{
    const struct kbs_config_token *t = &l->config->token;
    unsigned int mode;
    if (check_file(l, l->at[KBS_CONFIG_KEY_TOKEN_MODULE], "module", t->module, &mode) != 0) {
        return -1;
    }
    struct kbs_toml_position at = l->at[KBS_CONFIG_KEY_TOKEN_PIN_FILE];
    if (check_file(l, at, "pin_file", t->pin_file, &mode) != 0) {
        return -1;
    }
    return (mode & 077u) != 0 ? insecure(l, at, "pin_file: others than its owner may use it") : 0;
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
static int check_apart(struct kbs_config_loader *l, enum kbs_config_key_id id, const char *folder)
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
            return insecure(l, l->at[id], what);
        }
    }
    return 0;
}

static int check_walls(struct kbs_config_loader *l)
{
    struct kbs_config *c = l->config;
    char folder[PATH_MAX];
    const char *slash = strrchr(c->store_path, '/');
    snprintf(folder, sizeof(folder), "%.*s", slash != NULL ? (int)(slash - c->store_path) + 1 : 1,
             slash != NULL ? c->store_path : ".");
    c->token.seccomp_log = strcmp(c->token.seccomp, "log") == 0;
    if (c->token.seccomp_log && insecure(l, l->at[KBS_CONFIG_KEY_TOKEN_SECCOMP],
                                         "seccomp: \"log\" keeps nothing out") != 0) {
        return -1;
    }
    for (size_t i = 0; i < c->token.folders.n; i++) {
        struct stat st;
        if (stat(c->token.folders.v[i], &st) != 0 || !S_ISDIR(st.st_mode)) {
            return kbs_config_fail(l, l->items[KBS_CONFIG_KEY_TOKEN_FOLDERS][i],
                                   "token.folders: is not a folder");
        }
        if (check_apart(l, KBS_CONFIG_KEY_TOKEN_FOLDERS, c->token.folders.v[i]) != 0) {
            return -1;
        }
    }
    return check_apart(l, KBS_CONFIG_KEY_STORE_PATH, folder);
}

int kbs_config_check_all(struct kbs_config_loader *l)
{
    static const struct server_keys guest = {KBS_CONFIG_KEY_GUEST_SOCKETS,
                                             KBS_CONFIG_KEY_GUEST_PRIVATE_KEY,
                                             KBS_CONFIG_KEY_GUEST_CERTIFICATE};
    static const struct server_keys admin = {KBS_CONFIG_KEY_ADMIN_SOCKETS,
                                             KBS_CONFIG_KEY_ADMIN_PRIVATE_KEY,
                                             KBS_CONFIG_KEY_ADMIN_CERTIFICATE};
    struct kbs_config *c = l->config;
    c->production = strcmp(c->mode, "production") == 0;
    if (c->allow_sample) {
        struct kbs_toml_position at = l->at[KBS_CONFIG_KEY_ALLOW_SAMPLE];
        if (insecure(l, at, "allow_sample: \"sample\" evidence proves nothing") != 0) {
            return -1;
        }
    }
    if (check_server(l, &c->guest, &guest) != 0 || check_server(l, &c->admin, &admin) != 0 ||
        check_admin_keys(l) != 0 || check_token(l) != 0 ||
        check_parent(l, KBS_CONFIG_KEY_STORE_PATH, c->store_path) != 0) {
        return -1;
    }
    return check_parent(l, KBS_CONFIG_KEY_AUDIT_PATH, c->audit_path) == 0 ? check_walls(l) : -1;
}
