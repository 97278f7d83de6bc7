/*
 * From a document to the tree. Every key that is there is looked up: first in the table of schema.c,
 * where it is checked on its own and stored at its offset; then among Trustee's (foreign.c). What is
 * in neither does not exist. Afterwards check.c looks at what several keys say together. Nothing ends
 * at the first error: a value that cannot be used is marked, and rules that need it pass it over. All
 * memory is one arena that lives and dies with the tree, so nothing here is freed piece by piece.
 */
#include "config/config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "config/schema.h"

#define ARENA_BYTES                                 \
    ((5u << 20) + 2 * KBS_CONFIG_SNP_FOLDER_BYTES + \
     KBS_LIMIT_ISSUERS * (2 * KBS_CONFIG_ISSUER_BYTES + KBS_LIMIT_CRL_BYTES))
#define DOCUMENT_BYTES (16u << 20) /* a file of KBS_CONFIG_FILE_BYTES that is nothing but nodes */
#define REPORT_BYTES (1u << 17)
#define PATH_BYTES 160 /* of a table, in the schema's notation */
#define NAME_BYTES 64

struct kbs_doc_place kbs_config_at(const struct kbs_config_loader *l, enum kbs_config_key_id id)
{
    return l->seen[id][0].at;
}

bool kbs_config_usable(const struct kbs_config_loader *l, enum kbs_config_key_id id)
{
    return l->seen[id][0].given && !l->seen[id][0].bad;
}

/* One value */

static bool is_list(enum kbs_config_kind kind)
{
    return kind == KBS_CONFIG_STRINGS || kind == KBS_CONFIG_PATHS ||
           kind == KBS_CONFIG_SECRET_PATHS;
}

static bool is_secret(enum kbs_config_kind kind)
{
    return kind == KBS_CONFIG_SECRET_PATH || kind == KBS_CONFIG_SECRET_PATHS ||
           kind == KBS_CONFIG_KEY_PATH;
}

static const char *kind_name(enum kbs_config_kind kind, bool element)
{
    switch (kind) {
    case KBS_CONFIG_BOOLEAN:
        return "true or false";
    case KBS_CONFIG_NUMBER:
    case KBS_CONFIG_MEGABYTES:
        return "a whole number";
    case KBS_CONFIG_STRINGS:
    case KBS_CONFIG_PATHS:
    case KBS_CONFIG_SECRET_PATHS:
        return element ? "a string" : "a list of strings";
    case KBS_CONFIG_STRING:
    case KBS_CONFIG_PATH:
    case KBS_CONFIG_SECRET_PATH:
    case KBS_CONFIG_KEY_PATH:
    case KBS_CONFIG_URI_PATH:
    default:
        return "a string";
    }
}

static enum kbs_doc_type kind_type(enum kbs_config_kind kind)
{
    switch (kind) {
    case KBS_CONFIG_BOOLEAN:
        return KBS_DOC_BOOLEAN;
    case KBS_CONFIG_NUMBER:
    case KBS_CONFIG_MEGABYTES:
        return KBS_DOC_INTEGER;
    case KBS_CONFIG_STRINGS:
    case KBS_CONFIG_PATHS:
    case KBS_CONFIG_SECRET_PATHS:
        return KBS_DOC_ARRAY;
    case KBS_CONFIG_STRING:
    case KBS_CONFIG_PATH:
    case KBS_CONFIG_SECRET_PATH:
    case KBS_CONFIG_KEY_PATH:
    case KBS_CONFIG_URI_PATH:
    default:
        return KBS_DOC_STRING;
    }
}

/* "credential:NAME" into the path of that file; NULL, or what is wrong. systemd.exec(5) says what a
 * name is. */
static const char *credential_path(struct kbs_span name, struct kbs_buf *out)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    char text[256];
    if (!kbs_span_to_cstr(name, text, sizeof(text)) || text[0] == '\0' || text[0] == '.' ||
        strspn(text, letters) != strlen(text)) {
        return "the name of a credential has only letters, digits, \"_\", \"-\" and \".\"";
    }
    if (folder == NULL || folder[0] != '/') {
        return "there are no credentials: $CREDENTIALS_DIRECTORY is not set. Is there a "
               "LoadCredential= in kbsd's unit, and was kbsd started by it?";
    }
    kbs_buf_put_str(out, folder);
    kbs_buf_put_u8(out, '/');
    kbs_buf_put_str(out, text);
    return NULL;
}

/* A path as it is to be opened; NULL, or what is wrong. */
static const char *resolve(const struct kbs_config_loader *l, enum kbs_config_kind kind,
                           struct kbs_span s, struct kbs_buf *out)
{
    if (kind == KBS_CONFIG_KEY_PATH && kbs_span_starts_with(s, KBS_CONFIG_PKCS11)) {
        kbs_buf_put_span(out, s);
        return NULL;
    }
    if (is_secret(kind) && kbs_span_starts_with(s, "credential:")) {
        return credential_path(kbs_span_skip(s, strlen("credential:")), out);
    }
    if (is_secret(kind) && kbs_span_starts_with(s, "env:")) {
        return "an environment is inherited and shown by /proc: name a file, or \"credential:NAME\"";
    }
    if (kind == KBS_CONFIG_URI_PATH &&
        (kbs_span_starts_with(s, "https://") || kbs_span_starts_with(s, "http://"))) {
        return "put the URL into a [[fetch.document]], and name that as jwk_set_uri = "
               "\"document:NAME\"; or name a file";
    }
    if (kind == KBS_CONFIG_URI_PATH && kbs_span_starts_with(s, KBS_CONFIG_DOCUMENT)) {
        kbs_buf_put_span(out, s);
        return NULL;
    }
    if (kind == KBS_CONFIG_URI_PATH && kbs_span_starts_with(s, "file://")) {
        s = kbs_span_skip(s, strlen("file://"));
        if (s.len == 0 || s.p[0] != '/') {
            return "a file: URI is file:///path (RFC 8089)";
        }
    }
    if (kind != KBS_CONFIG_STRING && kind != KBS_CONFIG_STRINGS && s.len > 0 && s.p[0] != '/') {
        kbs_buf_put_str(out, l->folder);
    }
    kbs_buf_put_span(out, s);
    return NULL;
}

/* The checked string of a node, with a path resolved; NULL if it cannot be used. */
static const char *string_of(struct kbs_config_loader *l, const struct kbs_config_key *key,
                             const struct kbs_doc_node *node)
{
    struct kbs_span s = kbs_span(node->string.p, node->string.len);
    size_t min = is_list(key->kind) ? 1 : key->min;
    size_t max = is_list(key->kind) ? 1024 : key->max;
    if (s.len < min || s.len > max) {
        kbs_config_fail(l, node->value_at, "%s.%s must have %zu to %zu bytes", key->table,
                        key->name, min, max);
        return NULL;
    }
    if (s.len > 0 && memchr(s.p, '\0', s.len) != NULL) {
        kbs_config_fail(l, node->value_at, "%s.%s holds a NUL character", key->table, key->name);
        return NULL;
    }
    struct kbs_buf text = KBS_BUF(8192);
    const char *ret = NULL;
    const char *wrong = resolve(l, key->kind, s, &text);
    if (wrong == NULL) {
        ret = kbs_buf_cstr(&text) != NULL ? kbs_arena_cstr(&l->config->arena, kbs_buf_span(&text))
                                          : NULL;
        wrong = ret != NULL && key->check != NULL ? key->check(ret) : NULL;
        if (ret == NULL) {
            (void)kbs_config_no_memory(l);
        }
    }
    kbs_buf_deinit(&text);
    if (wrong != NULL) {
        kbs_config_fail(l, node->value_at, "%s.%s: %s", key->table, key->name, wrong);
        return NULL;
    }
    return ret;
}

/* Elements that cannot be used are left out, and make the list bad. */
static void store_list(struct kbs_config_loader *l, const struct kbs_config_key *key,
                       const struct kbs_doc_node *node, struct kbs_config_seen *seen, char *member)
{
    if (node->count < key->min || node->count > key->max) {
        kbs_config_fail(l, node->value_at, "%s.%s must have %u to %u elements", key->table,
                        key->name, key->min, key->max);
        seen->bad = true;
        return;
    }
    size_t room = node->count > 0 ? node->count : 1;
    const char **v = kbs_arena_alloc(&l->config->arena, room * sizeof(*v));
    struct kbs_doc_place *items = kbs_arena_alloc(&l->config->arena, room * sizeof(*items));
    struct kbs_config_strings list = {.v = v};
    if (v == NULL || items == NULL) {
        (void)kbs_config_no_memory(l);
        return;
    }
    for (const struct kbs_doc_node *e = node->first; e != NULL; e = e->next) {
        const char *text = NULL;
        if (e->type != KBS_DOC_STRING) {
            kbs_config_fail(l, e->value_at, "%s.%s must be %s", key->table, key->name,
                            kind_name(key->kind, true));
        } else {
            text = string_of(l, key, e);
        }
        seen->bad = seen->bad || text == NULL;
        if (text != NULL) {
            items[list.n] = e->value_at;
            v[list.n++] = text;
        }
    }
    seen->items = items;
    memcpy(member, &list, sizeof(list));
}

static void store_number(struct kbs_config_loader *l, const struct kbs_config_key *key,
                         const struct kbs_doc_node *node, struct kbs_config_seen *seen,
                         char *member)
{
    if (node->integer < (int64_t)key->min || node->integer > (int64_t)key->max) {
        kbs_config_fail(l, node->value_at, "%s.%s must be %u to %u", key->table, key->name,
                        key->min, key->max);
        seen->bad = true;
        return;
    }
    uint32_t number = (uint32_t)node->integer << (key->kind == KBS_CONFIG_MEGABYTES ? 20 : 0);
    memcpy(member, &number, sizeof(number));
}

static void store(struct kbs_config_loader *l, const struct kbs_config_key *key,
                  const struct kbs_doc_node *node, struct kbs_config_seen *seen, char *member)
{
    seen->given = true;
    seen->at = node->value_at;
    if (node->type != kind_type(key->kind)) {
        kbs_config_fail(l, node->value_at, "%s.%s must be %s", key->table, key->name,
                        kind_name(key->kind, false));
        seen->bad = true;
    } else if (node->type == KBS_DOC_ARRAY) {
        store_list(l, key, node, seen, member);
    } else if (node->type == KBS_DOC_BOOLEAN) {
        memcpy(member, &node->boolean, sizeof(node->boolean));
    } else if (node->type == KBS_DOC_INTEGER) {
        store_number(l, key, node, seen, member);
    } else {
        const char *text = string_of(l, key, node);
        seen->bad = text == NULL;
        if (text != NULL) {
            memcpy(member, &text, sizeof(text));
        }
    }
}

/* Tables */

static void walk(struct kbs_config_loader *l, const struct kbs_doc_node *table, const char *path,
                 size_t row);

/* A key in `table`, as a path: "" when it cannot be one of the schema's. */
static void path_of(const char *table, const char *name, const char *after, char out[PATH_BYTES])
{
    int n = snprintf(out, PATH_BYTES, "%s%s%s%s", table, table[0] != '\0' ? "." : "", name, after);
    if (n < 0 || n >= PATH_BYTES) {
        out[0] = '\0';
    }
}

/* A name that needs no quotes in TOML; others are nobody's. */
static bool name_of(const struct kbs_doc_node *node, char out[NAME_BYTES])
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    return kbs_span_to_cstr(kbs_span(node->key.p, node->key.len), out, NAME_BYTES) &&
           out[0] != '\0' && strspn(out, letters) == strlen(out);
}

static void unknown(struct kbs_config_loader *l, const char *table, const struct kbs_doc_node *node)
{
    char shown[NAME_BYTES];
    char name[NAME_BYTES];
    char hint[128] = "";
    kbs_log_text(kbs_span(node->key.p, node->key.len), shown, sizeof(shown));
    if (name_of(node, name)) {
        kbs_config_hint(table, name, hint, sizeof(hint));
    }
    if (table[0] == '\0') {
        kbs_config_fail(l, node->key_at, "unknown %s %s%s",
                        node->type == KBS_DOC_TABLE ? "table" : "key", shown, hint);
    } else {
        kbs_config_fail(l, node->key_at, "unknown key %s in table \"%s\"%s", shown, table, hint);
    }
}

/* A key of a row of `list`, or of a table below it. */
static bool is_of_row(const struct kbs_config_key *key, const char *list)
{
    size_t n = strlen(list);
    return strncmp(key->table, list, n) == 0 && (key->table[n] == '\0' || key->table[n] == '.');
}

/* Each row has its own places, and a bad one no effect on the next. */
static void walk_rows(struct kbs_config_loader *l, const struct kbs_doc_node *node,
                      const struct kbs_config_table *t)
{
    size_t n = 0;
    if (node->type != KBS_DOC_ARRAY || node->count > t->max_rows) {
        kbs_config_fail(l, node->value_at, "\"%.*s\" must be a list of at most %u tables",
                        (int)strlen(t->path) - 2, t->path, t->max_rows);
        return;
    }
    for (size_t i = 0; i < KBS_CONFIG_KEY_COUNT; i++) {
        if (is_of_row(&kbs_config_keys[i], t->path)) {
            l->seen[i] = kbs_arena_alloc(&l->config->arena, (t->max_rows) * sizeof(*l->seen[i]));
            if (l->seen[i] == NULL) {
                l->seen[i] = &l->seen_once[i];
                (void)kbs_config_no_memory(l);
                return;
            }
        }
    }
    for (const struct kbs_doc_node *e = node->first; e != NULL; e = e->next) {
        if (e->type != KBS_DOC_TABLE) {
            kbs_config_fail(l, e->value_at, "%s must be a table", t->path);
        } else {
            walk(l, e, t->path, n++);
        }
    }
    memcpy((char *)l->config + t->n_offset, &n, sizeof(n));
}

/* One of Trustee's. True if it was. */
static bool take_foreign(struct kbs_config_loader *l, const struct kbs_doc_node *node,
                         const char *path)
{
    const struct kbs_config_foreign *f = kbs_config_foreign_find(path, node);
    if (f != NULL && f->error) {
        kbs_config_fail(l, node->key_at, "%s: %s", path, f->text);
    } else if (f != NULL) {
        kbs_config_warn(l, node->key_at, "%s is ignored: %s", path, f->text);
    } else if (node->type == KBS_DOC_TABLE && kbs_config_foreign_below(path)) {
        walk(l, node, path, 0);
    } else {
        return false;
    }
    return true;
}

static void take(struct kbs_config_loader *l, const struct kbs_doc_node *node, const char *table,
                 size_t row)
{
    char name[NAME_BYTES];
    char path[PATH_BYTES];
    char rows[PATH_BYTES];
    if (!name_of(node, name)) {
        unknown(l, table, node);
        return;
    }
    path_of(table, name, "", path);
    path_of(table, name, "[]", rows);
    size_t id = kbs_config_key_find(table, name);
    const struct kbs_config_table *t = kbs_config_table_find(table);
    if (id != KBS_CONFIG_KEY_COUNT) {
        const struct kbs_config_key *key = &kbs_config_keys[id];
        store(l, key, node, &l->seen[id][row],
              (char *)l->config + key->offset + row * (t != NULL ? t->stride : 0));
    } else if (kbs_config_table_find(path) != NULL) {
        if (node->type == KBS_DOC_TABLE) {
            walk(l, node, path, row);
        } else {
            kbs_config_fail(l, node->key_at, "\"%s\" must be a table", path);
        }
    } else if (kbs_config_table_find(rows) != NULL) {
        walk_rows(l, node, kbs_config_table_find(rows));
    } else if (!take_foreign(l, node, path)) {
        unknown(l, table, node);
    }
}

/* What a row does not have is missing where the row stands. */
static void check_row(struct kbs_config_loader *l, const struct kbs_doc_node *table,
                      const char *path, size_t row)
{
    for (size_t i = 0; i < KBS_CONFIG_KEY_COUNT; i++) {
        const struct kbs_config_key *key = &kbs_config_keys[i];
        if (strcmp(key->table, path) == 0 && !l->seen[i][row].given) {
            l->seen[i][row].at = table->value_at;
            if (key->required) {
                kbs_config_fail(l, table->value_at, "%s is missing in %s", key->name, path);
            }
        }
    }
}

static void walk(struct kbs_config_loader *l, const struct kbs_doc_node *table, const char *path,
                 size_t row)
{
    const struct kbs_config_table *t = kbs_config_table_find(path);
    bool plugin = strcmp(path, "plugins[]") == 0;
    if (plugin) {
        /* What its keys mean depends on its name. */
        for (const struct kbs_doc_node *e = table->first; e != NULL; e = e->next) {
            if (kbs_span_equal_str(kbs_span(e->key.p, e->key.len), "name")) {
                take(l, e, path, row);
            }
        }
    }
    for (const struct kbs_doc_node *e = table->first; e != NULL; e = e->next) {
        bool done = plugin && (l->seen[KBS_CONFIG_KEY_PLUGIN_NAME][row].bad ||
                               kbs_span_equal_str(kbs_span(e->key.p, e->key.len), "name"));
        if (!done) {
            take(l, e, path, row);
        }
    }
    if (t != NULL && t->max_rows > 0) {
        check_row(l, table, path, row);
    }
}

/* The whole file */

/* What a table needs and does not have, in one line if it is not there at all. */
static void check_required(struct kbs_config_loader *l)
{
    for (size_t t = 0; t < kbs_config_n_tables; t++) {
        struct kbs_buf missing = KBS_BUF(512);
        size_t given = 0;
        size_t n = 0;
        for (size_t i = 0; i < KBS_CONFIG_KEY_COUNT && kbs_config_tables[t].max_rows == 0; i++) {
            const struct kbs_config_key *key = &kbs_config_keys[i];
            if (strcmp(key->table, kbs_config_tables[t].path) != 0) {
                continue;
            }
            given += l->seen[i][0].given ? 1 : 0;
            if (key->required && !l->seen[i][0].given) {
                kbs_buf_put_str(&missing, n++ > 0 ? ", " : "");
                kbs_buf_put_str(&missing, key->name);
            }
        }
        const char *names = kbs_buf_cstr(&missing);
        if (n > 0 && names != NULL) {
            kbs_config_fail(l, (struct kbs_doc_place){.line = 0}, "%s %s missing in table [%s]%s",
                            names, n == 1 ? "is" : "are", kbs_config_tables[t].path,
                            given == 0 ? ", which is empty or not there" : "");
        }
        kbs_buf_deinit(&missing);
    }
}

/* The defaults of docs/configuration.md; the profile that is safe if none is named. */
static void set_defaults(struct kbs_config *c)
{
    c->mode = "production";
    c->production = true;
    c->issuer = "kbs-hsm";
    c->authorization_mode = "";
    kbs_config_tls_defaults(&c->guest);
    kbs_config_tls_defaults(&c->admin);
    c->token.init_args = "";
    c->token.lanes = 2;
    c->token.seccomp = "kill";
    c->users = (struct kbs_config_users){.front = "kbs-front",
                                         .judge = "kbs-judge",
                                         .token = "kbs-token",
                                         .audit = "kbs-audit",
                                         .policy = "kbs-policy",
                                         .fetch = "kbs-fetch"};
    for (size_t i = 0; i < KBS_LIMIT_ADMIN_PROVIDERS; i++) {
        c->providers[i] = (struct kbs_config_provider){.issuer = "", .audience = ""};
    }
    kbs_config_fetch_defaults(c);
    c->delegate.type_name = "builtin";
    for (size_t i = 0; i < KBS_LIMIT_ISSUERS; i++) {
        c->issuers[i] =
            (struct kbs_config_issuer){.max_age_s = 300, .skew_s = 30, .max_stale_s = 86400};
    }
    c->approvals = 1;
    c->session_min = 5;
    c->token_min = 5;
    c->max_connections = KBS_LIMIT_FRONT_CONNECTIONS;
    c->auth_per_s = KBS_DEFAULT_AUTH_PER_S;
    c->sessions = KBS_DEFAULT_SESSIONS_CHALLENGED;
    c->body_bytes = KBS_LIMIT_HTTP_BODY_BYTES;
    c->resource_bytes = KBS_LIMIT_SECRET_VALUE_BYTES;
}

/* `folder` and `name` as one string that stays; NULL after kbs_config_no_memory(). */
static const char *join(struct kbs_config_loader *l, struct kbs_span folder, const char *name)
{
    struct kbs_buf path = KBS_BUF(8192);
    const char *ret = NULL;
    kbs_buf_put_span(&path, folder);
    kbs_buf_put_str(&path, name);
    if (kbs_buf_cstr(&path) != NULL) {
        ret = kbs_arena_cstr(&l->config->arena, kbs_buf_span(&path));
    }
    kbs_buf_deinit(&path);
    if (ret == NULL) {
        (void)kbs_config_no_memory(l);
    }
    return ret;
}

static struct kbs_span folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return kbs_span(path, slash != NULL ? (size_t)(slash - path) + 1 : 0);
}

/* What follows from other keys if it is not given: the store beside the file, like everything that
 * is relative; token.lock beside the PIN, unless that is in a folder nobody can write to. */
static void derive(struct kbs_config_loader *l)
{
    struct kbs_config *c = l->config;
    const char *credentials = getenv("CREDENTIALS_DIRECTORY");
    if (c->store_path == NULL) {
        c->store_path = join(l, kbs_span_str(l->folder), "store/store.db");
    }
    if (c->token.pin_file != NULL && c->audit_path != NULL) {
        size_t n = credentials != NULL ? strlen(credentials) : 0;
        c->token.pin_credential =
            n > 0 && strncmp(c->token.pin_file, credentials, n) == 0 && c->token.pin_file[n] == '/';
        c->token.lock_file =
            join(l, folder_of(c->token.pin_credential ? c->audit_path : c->token.pin_file),
                 "token.lock");
    }
}

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s);
    size_t m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static void *document_alloc(void *arg, size_t size)
{
    return kbs_arena_alloc(arg, size);
}

/* Reads the document, which stays in `arena`, into the tree; -1 if there is none. */
static int parse(struct kbs_config_loader *l, const char *path, struct kbs_span text,
                 struct kbs_arena *arena)
{
    const struct kbs_doc_memory memory = {.alloc = document_alloc, .arg = arena};
    const char *p = text.len > 0 ? (const char *)text.p : ""; /* neither parser takes NULL */
    struct kbs_doc_node *root = NULL;
    struct kbs_doc_error why;
    int rc = -1;
    if (ends_in(path, ".yaml") || ends_in(path, ".yml")) {
        kbs_config_fail(l, (struct kbs_doc_place){.line = 0},
                        "YAML is not read: write TOML, or JSON into a file that ends in .json");
    } else {
        rc = ends_in(path, ".json") ? kbs_doc_parse_json(p, text.len, &memory, &root, &why)
                                    : kbs_doc_parse_toml(p, text.len, &memory, &root, &why);
        if (rc == 0) {
            walk(l, root, "", 0);
        } else if (why.message[0] != '\0') {
            kbs_config_fail(l, why.at, "%s", why.message);
        } else {
            (void)kbs_config_no_memory(l);
        }
    }
    return rc;
}

/* Where the file is: as typed, or for others than kbsd, who may be elsewhere, from the root. */
static int locate(struct kbs_config_loader *l, const char *path)
{
    struct kbs_config *c = l->config;
    char from[PATH_MAX];
    bool typed = !l->for_tools || path[0] == '/';
    if (!typed && getcwd(from, sizeof(from) - 1) == NULL) {
        return kbs_fail_errno(l->err, KBS_INPUT, "the working directory has no name");
    }
    size_t n = typed ? 0 : strlen(from);
    from[n] = '/';
    c->file = join(l, kbs_span(from, typed ? 0 : n + 1), path);
    if (c->file != NULL) {
        l->folder = kbs_arena_cstr(&c->arena, folder_of(c->file));
    }
    return l->folder != NULL ? 0 : kbs_config_no_memory(l);
}

static void load(struct kbs_config_loader *l, const char *path, struct kbs_span text)
{
    struct kbs_arena document = KBS_ARENA(DOCUMENT_BYTES); /* places point into it */
    if (locate(l, path) != 0) {
        return;
    }
    struct kbs_config *c = l->config;
    set_defaults(c);
    if (parse(l, path, text, &document) == 0) {
        check_required(l);
        derive(l);
        kbs_config_check_all(l);
    }
    kbs_arena_deinit(&document);
}

/* The first error of the report, as an error. */
static int report_error(const struct kbs_config_report *r, const char *file, struct kbs_error *err)
{
    for (size_t i = 0; i < r->n; i++) {
        if (r->v[i].error) {
            return kbs_fail(err, KBS_INPUT, "%s", r->v[i].text);
        }
    }
    return kbs_fail(err, KBS_INPUT, "%s: more errors than can be told", file);
}

static int load_text(const char *path, struct kbs_span text, bool for_tools,
                     const struct kbs_config **ret, struct kbs_config_report *report,
                     struct kbs_error *err)
{
    *ret = NULL;
    *err = KBS_ERROR_NONE;
    *report = (struct kbs_config_report){.arena = KBS_ARENA(REPORT_BYTES)};
    struct kbs_config *c = calloc(1, sizeof(*c));
    struct kbs_config_loader *l = calloc(1, sizeof(*l));
    int rc = -1;
    if (c == NULL || l == NULL) {
        rc = kbs_fail(err, KBS_INTERNAL, "no memory for the configuration");
    } else {
        size_t len = strlen(path);
        size_t room = sizeof(l->file) - 4;
        c->arena = KBS_ARENA(ARENA_BYTES);
        *l = (struct kbs_config_loader){
            .config = c, .report = report, .for_tools = for_tools, .err = err};
        snprintf(l->file, sizeof(l->file), "%s%s", len > room ? "..." : "",
                 len > room ? path + len - room : path);
        for (size_t i = 0; i < KBS_CONFIG_KEY_COUNT; i++) {
            l->seen[i] = &l->seen_once[i];
        }
        load(l, path, text);
        if (err->category == KBS_OK) {
            rc = report->n_errors > 0 ? report_error(report, l->file, err) : 0;
        }
    }
    free(l);
    if (rc != 0) {
        kbs_config_free(c);
        return -1;
    }
    *ret = c;
    return 0;
}

int kbs_config_load_text(const char *path, struct kbs_span text, const struct kbs_config **ret,
                         struct kbs_config_report *report, struct kbs_error *err)
{
    return load_text(path, text, false, ret, report, err);
}

static int load_file(const char *path, bool for_tools, const struct kbs_config **ret,
                     struct kbs_config_report *report, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_CONFIG_FILE_BYTES);
    *ret = NULL;
    *err = KBS_ERROR_NONE;
    *report = (struct kbs_config_report){.n = 0};
    int rc = kbs_io_read_file(path, &text, err);
    if (rc == 0) {
        rc = load_text(path, kbs_buf_span(&text), for_tools, ret, report, err);
    }
    kbs_buf_deinit(&text);
    return rc;
}

int kbs_config_load(const char *path, const struct kbs_config **ret,
                    struct kbs_config_report *report, struct kbs_error *err)
{
    return load_file(path, false, ret, report, err);
}

int kbs_config_load_for_tools(const char *path, const struct kbs_config **ret,
                              struct kbs_config_report *report, struct kbs_error *err)
{
    return load_file(path, true, ret, report, err);
}

const struct kbs_config *kbs_config_free(const struct kbs_config *config)
{
    if (config != NULL) {
        /* It was made from non-const memory above; const is for everybody in between. */
        struct kbs_config *c = (struct kbs_config *)(uintptr_t)config;
        kbs_arena_deinit(&c->arena);
        free(c);
    }
    return NULL;
}
