/*
 * Aliases under administration (alias.c): what there are, one more rule, one less.
 *
 * A request changes one rule and not the whole list, so that two administrators who each add a VM do not undo
 * each other's. What comes of it is the document's next version: signed, recorded, kept, and subject to approval
 * as policies are, because it decides what a path gives.
 */
#include "api/alias.h"

#include "base/encoding.h"

#define LIST_PATTERN "/kbs/v0/admin/aliases"
#define ONE_PATTERN "/kbs/v0/admin/aliases/*/*/*"

static const char *const no_query[] = {NULL};

/* ---- what there is ---- */

struct list {
    struct kbs_call *call;
    struct kbs_page page;
};

static void alias_put(struct kbs_buf *out, const struct kbs_document *row)
{
    kbs_buf_printf(out, "{\"path\":\"%s\",\"version\":%u,\"created\":%lld,\"rules\":", row->name,
                   (unsigned int)row->version, (long long)row->created_s);
}

/* Rows that do not verify end the list: it would be a part that looks like all of it. */
static int list_each(void *ctx, const struct kbs_document *row, struct kbs_span text,
                     struct kbs_span request, struct kbs_error *err)
{
    struct list *l = ctx;
    KBS_AUTO_JSON rules = NULL;

    (void)request;
    if (kbs_row_check_document(l->call->api, row, text, err) != 0 ||
        (text.len != 0 && kbs_alias_rules_get(text, &rules, err) != 0)) {
        return -1;
    }
    if (kbs_page_next(&l->page)) {
        alias_put(l->page.out, row);
        kbs_buf_printf(l->page.out, "%zu}", json_array_size(rules));
    }
    return 0;
}

int kbs_api_admin_alias_list(struct kbs_call *call, struct kbs_error *err)
{
    struct list l = {.call = call, .page = {.out = &call->answer->body}};
    struct kbs_span after = KBS_SPAN_EMPTY;
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", LIST_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_page(call->req, &after, &l.page.limit, err) != 0 ||
        kbs_epoch_gate(call->api, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(l.page.out, "{\"aliases\":[");
    if (kbs_store_document_list(call->api->store, KBS_DOCUMENT_ALIAS, after, l.page.limit + 1,
                                list_each, &l, err) != 0) {
        return -1;
    }
    kbs_page_end(&l.page);
    return 0;
}

static int show(struct kbs_call *call, struct kbs_span path, struct kbs_error *err)
{
    struct kbs_alias alias = {.rules = NULL};
    struct kbs_buf *out = &call->answer->body;
    int rc = kbs_alias_get(call->api, path, &alias, err);

    if (rc == 0) {
        alias_put(out, &alias.row);
        rc = kbs_json_dump(alias.rules, out, err);
        kbs_buf_put_u8(out, '}');
    }
    kbs_alias_deinit(&alias);
    return rc;
}

int kbs_api_admin_alias_show(struct kbs_call *call, struct kbs_error *err)
{
    const struct kbs_admin *admin = NULL;
    struct kbs_span path = KBS_SPAN_EMPTY;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", ONE_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0 ||
        kbs_request_path(call, &path, err) != 0) {
        return -1;
    }
    return show(call, path, err);
}

/* ---- changes ---- */

struct change {
    struct kbs_mutation m;
    struct kbs_span path;
    json_t *body; /* owned; NULL: there was none */
    json_t *when; /* borrowed from it; NULL: there is none */
    struct kbs_alias alias;
};

static void change_deinit(struct change *c)
{
    kbs_alias_deinit(&c->alias);
    json_decref(c->body);
}

/* Who asks, about which path, and what of it. */
static int change_open(struct change *c, const char *method, const char *const *members,
                       struct kbs_error *err)
{
    struct kbs_call *call = c->m.call;

    if (kbs_admin_verify(call, method, ONE_PATTERN, true, &c->m.admin, &c->m.sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0 ||
        kbs_request_path(call, &c->path, err) != 0) {
        return -1;
    }
    if (call->req->body.len == 0) {
        return 0;
    }
    if (kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &c->body, err) != 0 ||
        kbs_json_only(c->body, members, err) != 0) {
        return -1;
    }
    c->when = json_object_get(c->body, "when");
    return c->when == NULL ? 0 : kbs_alias_when_check(c->when, err);
}

static int commit(struct change *c, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_span span = KBS_SPAN_EMPTY;
    int rc = kbs_alias_rules_put(c->alias.rules, &text, err);

    if (rc == 0) {
        span = kbs_buf_span(&text);
        rc = kbs_document_set(&c->m, KBS_DOCUMENT_ALIAS, &c->path, &span, 1, err);
    }
    kbs_buf_deinit(&text);
    return rc;
}

/* A path is a key's, a secret's or an alias's. */
static int path_is_free(const struct change *c, struct kbs_error *err)
{
    struct kbs_store *store = c->m.api->store;
    struct kbs_error key = KBS_ERROR_NONE;
    struct kbs_error secret = KBS_ERROR_NONE;
    struct kbs_key row;

    if (kbs_store_key_newest(store, c->path, &row, NULL, &key) == 0 ||
        kbs_store_secret_newest(store, c->path, &row, NULL, NULL, &secret) == 0) {
        return kbs_fail(err, KBS_CONFLICT, "a key or a secret has this path");
    }
    if (key.category != KBS_MISSING || secret.category != KBS_MISSING) {
        *err = key.category != KBS_MISSING ? key : secret;
        return -1;
    }
    return 0;
}

/* The alias as it is, or a new one. */
static int begin(struct change *c, struct kbs_error *err)
{
    struct kbs_error found = KBS_ERROR_NONE;

    if (kbs_alias_get(c->m.api, c->path, &c->alias, &found) == 0) {
        return 0;
    }
    if (found.category != KBS_MISSING) {
        *err = found;
        return -1;
    }
    c->alias.rules = json_array();
    return path_is_free(c, err);
}

static int add(struct change *c, struct kbs_error *err)
{
    const json_t *first = json_object_get(c->body, "first");
    struct kbs_span to = KBS_SPAN_EMPTY;

    if (c->when == NULL || kbs_json_get_string(c->body, "to", &to, err) != 0 ||
        (first != NULL && !json_is_boolean(first))) {
        return kbs_fail(err, KBS_INPUT, "a rule has 'when' and 'to'; 'first' is true or false");
    }
    if (!kbs_key_path_valid(to) || kbs_span_equal(to, c->path)) {
        return kbs_fail(err, KBS_INPUT, "'to' is not the path repo/type/tag of another one");
    }
    return begin(c, err) == 0
               ? kbs_alias_rule_add(c->alias.rules, c->when, to, json_is_true(first), err)
               : -1;
}

int kbs_api_admin_alias_set(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"when", "to", "first", NULL};
    struct change c = {.m = {.api = call->api, .call = call, .kind = "alias-set"}};
    int rc = -1;

    if (change_open(&c, "POST", members, err) == 0 && add(&c, err) == 0 && commit(&c, err) == 0) {
        rc = show(call, c.path, err);
    }
    change_deinit(&c);
    return rc;
}

/* One rule, or all of them. */
static int take_out(struct change *c, struct kbs_error *err)
{
    if (kbs_alias_get(c->m.api, c->path, &c->alias, err) != 0) {
        return -1;
    }
    if (c->when == NULL) {
        return json_array_clear(c->alias.rules);
    }
    return kbs_alias_rule_remove(c->alias.rules, c->when, err);
}

int kbs_api_admin_alias_remove(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"when", NULL};
    struct change c = {.m = {.api = call->api, .call = call, .kind = "alias-remove"}};
    int rc = -1;

    if (change_open(&c, "DELETE", members, err) == 0 && take_out(&c, err) == 0) {
        rc = commit(&c, err);
    }
    if (rc == 0) {
        kbs_buf_printf(&call->answer->body, "{\"path\":\"%.*s\",\"rules\":%zu}", (int)c.path.len,
                       (const char *)c.path.p, json_array_size(c.alias.rules));
    }
    change_deinit(&c);
    return rc;
}
