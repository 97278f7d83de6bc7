/*
 * From TOML to the tree. The shim reports every key with its position; each is looked up in the
 * table of schema.c, checked on its own and stored at its offset. Afterwards check.c looks at what
 * several keys say together. All memory is one arena that lives and dies with the tree, so nothing
 * here is freed piece by piece.
 *
 * Rejected: a generic value tree between TOML and the struct. It would have to carry positions as
 * well, and every reader would check types again.
 */
#include "config/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "base/log.h"
#include "config/schema.h"

#define ARENA_BYTES (1u << 20)

int kbs_config_fail(struct kbs_config_loader *l, struct kbs_toml_position at, const char *fmt, ...)
{
    char message[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    if (at.line == 0) {
        return kbs_fail(l->err, KBS_INPUT, "%s: %s", l->file, message);
    }
    return kbs_fail(l->err, KBS_INPUT, "%s:%u:%u: %s", l->file, at.line, at.column, message);
}

static int no_memory(struct kbs_config_loader *l)
{
    return kbs_fail(l->err, KBS_INTERNAL, "%s: no memory for the configuration", l->file);
}

static bool text_equal(struct kbs_toml_text a, const char *b)
{
    return kbs_span_equal_str(kbs_span(a.p, a.len), b);
}

/* KBS_CONFIG_KEY_COUNT when there is no such key. */
static size_t key_find(const struct kbs_toml_node *node)
{
    size_t i = 0;
    while (i < KBS_CONFIG_KEY_COUNT && !(text_equal(node->table, kbs_config_keys[i].table) &&
                                         text_equal(node->key, kbs_config_keys[i].name))) {
        i++;
    }
    return i;
}

static bool table_known(struct kbs_toml_text name)
{
    for (size_t i = 0; i < KBS_CONFIG_KEY_COUNT; i++) {
        if (text_equal(name, kbs_config_keys[i].table)) {
            return true;
        }
    }
    return false;
}

/* Top level: only known tables may stand there. */
static int visit_top(struct kbs_config_loader *l, const struct kbs_toml_node *node)
{
    char name[64];
    kbs_log_text(kbs_span(node->key.p, node->key.len), name, sizeof(name));
    if (!table_known(node->key)) {
        return kbs_config_fail(l, node->key_at, "unknown %s %s",
                               node->type == KBS_TOML_TABLE ? "table" : "key", name);
    }
    if (node->type != KBS_TOML_TABLE) {
        return kbs_config_fail(l, node->key_at, "%s must be a table", name);
    }
    return 0;
}

static const char *kind_name(enum kbs_config_kind kind, bool element)
{
    switch (kind) {
    case KBS_CONFIG_BOOLEAN:
        return "true or false";
    case KBS_CONFIG_NUMBER:
        return "a whole number";
    case KBS_CONFIG_STRINGS:
    case KBS_CONFIG_PATHS:
        return element ? "a string" : "a list of strings";
    case KBS_CONFIG_STRING:
    case KBS_CONFIG_PATH:
    default:
        return "a string";
    }
}

static enum kbs_toml_type kind_type(enum kbs_config_kind kind, bool element)
{
    switch (kind) {
    case KBS_CONFIG_BOOLEAN:
        return KBS_TOML_BOOLEAN;
    case KBS_CONFIG_NUMBER:
        return KBS_TOML_INTEGER;
    case KBS_CONFIG_STRINGS:
    case KBS_CONFIG_PATHS:
        return element ? KBS_TOML_STRING : KBS_TOML_ARRAY;
    case KBS_CONFIG_STRING:
    case KBS_CONFIG_PATH:
    default:
        return KBS_TOML_STRING;
    }
}

/* The checked string of a node, with a path resolved; NULL after kbs_config_fail(). */
static const char *string_of(struct kbs_config_loader *l, const struct kbs_config_key *key,
                             const struct kbs_toml_node *node)
{
    struct kbs_span s = kbs_span(node->string.p, node->string.len);
    bool list = key->kind == KBS_CONFIG_STRINGS || key->kind == KBS_CONFIG_PATHS;
    size_t min = list ? 1 : key->min;
    size_t max = list ? 1024 : key->max;
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
    bool path = key->kind == KBS_CONFIG_PATH || key->kind == KBS_CONFIG_PATHS;
    if (path && s.p[0] != '/') {
        kbs_buf_put_str(&text, l->folder);
    }
    kbs_buf_put_span(&text, s);
    const char *ret =
        kbs_buf_cstr(&text) != NULL ? kbs_arena_cstr(&l->config->arena, kbs_buf_span(&text)) : NULL;
    kbs_buf_deinit(&text);
    if (ret == NULL) {
        no_memory(l);
        return NULL;
    }
    const char *wrong = key->check != NULL ? key->check(ret) : NULL;
    if (wrong != NULL) {
        kbs_config_fail(l, node->value_at, "%s.%s: %s", key->table, key->name, wrong);
        return NULL;
    }
    return ret;
}

static int list_open(struct kbs_config_loader *l, size_t id, const struct kbs_toml_node *node)
{
    const struct kbs_config_key *key = &kbs_config_keys[id];
    if (node->count < key->min || node->count > key->max) {
        return kbs_config_fail(l, node->value_at, "%s.%s must have %u to %u elements", key->table,
                               key->name, key->min, key->max);
    }
    size_t n = node->count > 0 ? node->count : 1;
    l->open_list = kbs_arena_alloc(&l->config->arena, n * sizeof(*l->open_list));
    l->open_positions = kbs_arena_alloc(&l->config->arena, n * sizeof(*l->open_positions));
    if (l->open_list == NULL || l->open_positions == NULL) {
        return no_memory(l);
    }
    l->open_n = 0;
    l->items[id] = l->open_positions;
    struct kbs_config_strings list = {.v = l->open_list, .n = node->count};
    memcpy((char *)l->config + key->offset, &list, sizeof(list));
    return 0;
}

static int store(struct kbs_config_loader *l, size_t id, const struct kbs_toml_node *node)
{
    const struct kbs_config_key *key = &kbs_config_keys[id];
    char *member = (char *)l->config + key->offset;
    if (node->type == KBS_TOML_ARRAY) {
        return list_open(l, id, node);
    }
    if (node->type == KBS_TOML_BOOLEAN) {
        memcpy(member, &node->boolean, sizeof(node->boolean));
        return 0;
    }
    if (node->type == KBS_TOML_INTEGER) {
        if (node->integer < (int64_t)key->min || node->integer > (int64_t)key->max) {
            return kbs_config_fail(l, node->value_at, "%s.%s must be %u to %u", key->table,
                                   key->name, key->min, key->max);
        }
        uint32_t number = (uint32_t)node->integer;
        memcpy(member, &number, sizeof(number));
        return 0;
    }
    const char *text = string_of(l, key, node);
    if (text == NULL) {
        return -1;
    }
    if (node->element) {
        l->open_positions[l->open_n] = node->value_at;
        l->open_list[l->open_n++] = text;
    } else {
        memcpy(member, &text, sizeof(text));
    }
    return 0;
}

static int visit(void *arg, const struct kbs_toml_node *node)
{
    struct kbs_config_loader *l = arg;
    if (node->table.len == 0) {
        return visit_top(l, node);
    }
    size_t id = key_find(node);
    if (id == KBS_CONFIG_KEY_COUNT) {
        char name[64];
        char table[64];
        return kbs_config_fail(
            l, node->key_at, "unknown key %s in table %s",
            kbs_log_text(kbs_span(node->key.p, node->key.len), name, sizeof(name)),
            kbs_log_text(kbs_span(node->table.p, node->table.len), table, sizeof(table)));
    }
    const struct kbs_config_key *key = &kbs_config_keys[id];
    if (node->type != kind_type(key->kind, node->element)) {
        return kbs_config_fail(l, node->value_at, "%s.%s must be %s", key->table, key->name,
                               kind_name(key->kind, node->element));
    }
    if (!node->element) {
        l->at[id] = node->value_at;
    }
    return store(l, id, node);
}

static int check_required(struct kbs_config_loader *l)
{
    for (size_t i = 0; i < KBS_CONFIG_KEY_COUNT; i++) {
        const struct kbs_config_key *key = &kbs_config_keys[i];
        if (key->required && l->at[i].line == 0) {
            return kbs_config_fail(l, l->at[i], "%s is missing in table [%s]", key->name,
                                   key->table);
        }
    }
    return 0;
}

static int parse(struct kbs_config_loader *l, struct kbs_span text)
{
    struct kbs_toml_error why;
    /* toml++ may not be given a null pointer. */
    int rc = kbs_toml_parse(text.len > 0 ? (const char *)text.p : "", text.len, visit, l, &why);
    if (rc == -1 && l->err->category == KBS_OK) {
        return kbs_config_fail(l, why.at, "%s", why.message);
    }
    return rc;
}

/* The defaults of docs/configuration.md; the profile that is safe if none is named. */
static void set_defaults(struct kbs_config *c)
{
    c->mode = "production";
    c->issuer = "kbs-hsm";
    c->token.init_args = "";
    c->token.lanes = 2;
    c->token.seccomp = "kill";
    c->users = (struct kbs_config_users){.front = "kbs-front",
                                         .judge = "kbs-judge",
                                         .token = "kbs-token",
                                         .audit = "kbs-audit",
                                         .policy = "kbs-policy"};
    c->session_min = 5;
    c->token_min = 5;
    c->max_connections = KBS_LIMIT_FRONT_CONNECTIONS;
    c->auth_per_s = KBS_DEFAULT_AUTH_PER_S;
    c->sessions = KBS_DEFAULT_SESSIONS_CHALLENGED;
    c->body_bytes = KBS_LIMIT_HTTP_BODY_BYTES;
    c->resource_bytes = KBS_LIMIT_SECRET_VALUE_BYTES;
}

/* Beside the file, like everything that is relative. */
static int default_store(struct kbs_config_loader *l)
{
    struct kbs_buf path = KBS_BUF(8192);
    kbs_buf_put_str(&path, l->folder);
    kbs_buf_put_str(&path, "store/store.db");
    if (kbs_buf_cstr(&path) != NULL) {
        l->config->store_path = kbs_arena_cstr(&l->config->arena, kbs_buf_span(&path));
    }
    kbs_buf_deinit(&path);
    return l->config->store_path != NULL ? 0 : no_memory(l);
}

static int load(struct kbs_config_loader *l, const char *path, struct kbs_span text)
{
    struct kbs_config *c = l->config;
    const char *slash = strrchr(path, '/');
    size_t folder_len = slash != NULL ? (size_t)(slash - path) + 1 : 0;
    c->file = kbs_arena_cstr(&c->arena, kbs_span_str(path));
    l->folder = kbs_arena_cstr(&c->arena, kbs_span(path, folder_len));
    if (c->file == NULL || l->folder == NULL) {
        return no_memory(l);
    }
    size_t len = strlen(path);
    size_t room = sizeof(l->file) - 4;
    snprintf(l->file, sizeof(l->file), "%s%s", len > room ? "..." : "",
             len > room ? path + len - room : path);
    set_defaults(c);
    int rc = parse(l, text);
    if (rc == 0) {
        rc = check_required(l);
    }
    if (rc == 0 && c->store_path == NULL) {
        rc = default_store(l);
    }
    if (rc == 0) {
        rc = kbs_config_check_all(l);
    }
    return rc;
}

int kbs_config_load(const char *path, const struct kbs_config **ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_CONFIG_FILE_BYTES);
    *ret = NULL;
    *err = KBS_ERROR_NONE;
    if (kbs_io_read_file(path, &text, err) != 0) {
        kbs_buf_deinit(&text);
        return -1;
    }
    int rc = -1;
    struct kbs_config *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        rc = kbs_fail(err, KBS_INTERNAL, "no memory for the configuration");
    } else {
        c->arena = KBS_ARENA(ARENA_BYTES);
        struct kbs_config_loader l = {.config = c, .err = err};
        rc = load(&l, path, kbs_buf_span(&text));
    }
    kbs_buf_deinit(&text);
    if (rc != 0) {
        kbs_config_free(c);
        return -1;
    }
    *ret = c;
    return 0;
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
