/*
 * Policies under administration: what there is, what there was, who set it and when, and back to it.
 *
 * A policy has a name: `resource-policy` is the default one of resources, `resource-policy/PREFIX` that of
 * all resources whose path begins with PREFIX (one to three segments; the first segment is a tenant), and
 * `attestation-policy/ID` those of evidence. Versions are the documents' own (document.c): nothing is ever
 * overwritten, and going back is a new version with an old text, checked again as any other, since the
 * engine may not be what it was.
 *
 * Who it was is read from the request that stands beside the row, whose digest the row signs: so history is
 * told by rows that verify, not by a column that anybody could edit.
 */
#include "api/context.h"

#include "base/encoding.h"
#include "base/terms.h"

#define LIST_PATTERN "/kbs/v0/admin/policies"
#define ONE_PATTERN "/kbs/v0/admin/policies/*"
#define ATTESTATION "attestation-policy/"
#define RESOURCE KBS_RESOURCE_POLICY "/"
#define PREFIX_SEGMENTS_MAX 3

static const char *const no_query[] = {NULL};

/* ---- names ---- */

static bool begins_with(struct kbs_span s, const char *prefix, struct kbs_span *ret_rest)
{
    size_t n = strlen(prefix);

    if (s.len < n || memcmp(s.p, prefix, n) != 0) {
        return false;
    }
    *ret_rest = kbs_span_skip(s, n);
    return true;
}

static bool prefix_valid(struct kbs_span prefix)
{
    size_t segments = 1;

    for (size_t i = 0; i < prefix.len; i++) {
        segments += prefix.p[i] == '/' ? 1 : 0;
    }
    return segments <= PREFIX_SEGMENTS_MAX && kbs_document_name_valid(prefix);
}

/* Kind and document of a name as people give it. */
static int name_read(struct kbs_span name, enum kbs_document_kind *ret_kind,
                     struct kbs_span *ret_document, struct kbs_error *err)
{
    struct kbs_span rest = KBS_SPAN_EMPTY;

    *ret_document = name;
    if (begins_with(name, ATTESTATION, &rest) && kbs_key_segment_valid(rest)) {
        *ret_kind = KBS_DOCUMENT_ATTESTATION_POLICY;
        *ret_document = rest;
        return 0;
    }
    *ret_kind = KBS_DOCUMENT_RESOURCE_POLICY;
    if (kbs_span_equal_str(name, KBS_RESOURCE_POLICY) ||
        (begins_with(name, RESOURCE, &rest) && prefix_valid(rest) &&
         name.len <= KBS_LIMIT_DOCUMENT_NAME_BYTES)) {
        return 0;
    }
    return kbs_fail(err, KBS_INPUT,
                    "a policy is resource-policy, resource-policy/PREFIX or attestation-policy/ID");
}

static void name_put(struct kbs_buf *out, const struct kbs_document *document)
{
    kbs_buf_printf(out, "\"name\":\"%s%s\"",
                   document->kind == KBS_DOCUMENT_ATTESTATION_POLICY ? ATTESTATION : "",
                   document->name);
}

/* ---- what there is ---- */

/* POLICY of docs/protocol/admin-api.md, without its closing brace. */
static void policy_put(struct kbs_buf *out, const struct kbs_document *document,
                       struct kbs_span text, struct kbs_span request)
{
    char admin[KBS_API_THUMBPRINT_BYTES];
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_admin_of_request(request, admin);
    kbs_sha256(text, digest);
    kbs_buf_put_u8(out, '{');
    name_put(out, document);
    kbs_buf_printf(out,
                   ",\"version\":%u,\"created\":%lld,\"admin\":", (unsigned int)document->version,
                   (long long)document->created_s);
    kbs_json_string_put(out, kbs_span_str(admin));
    kbs_buf_printf(out, ",\"bytes\":%zu,\"digest\":\"", text.len);
    kbs_hex_put(out, kbs_span(digest, sizeof(digest)));
    kbs_sha256(request, digest);
    kbs_buf_put_str(out, "\",\"request\":\"");
    kbs_hex_put(out, kbs_span(digest, sizeof(digest)));
    kbs_buf_put_u8(out, '"');
}

struct list {
    struct kbs_call *call;
    struct kbs_page page;
    struct kbs_error err;
};

/* Rows that do not verify end the list: it would be a part that looks like all of it. */
static int list_each(void *ctx, const struct kbs_document *document, struct kbs_span text,
                      struct kbs_span request, struct kbs_error *err)
{
    struct list *l = ctx;

    (void)err;
    if (l->err.category == KBS_OK &&
        kbs_row_check_document(l->call->api, document, text, &l->err) == 0 &&
        kbs_page_next(&l->page)) {
        policy_put(l->page.out, document, text, request);
        kbs_buf_put_u8(l->page.out, '}');
    }
    return 0;
}

static int list_kind(struct list *l, enum kbs_document_kind kind, struct kbs_span after,
                     struct kbs_error *err)
{
    if (kbs_store_document_list(l->call->api->store, kind, after, l->page.limit - l->page.count + 1,
                                list_each, l, err) != 0) {
        return -1;
    }
    if (l->err.category != KBS_OK) {
        *err = l->err;
        return -1;
    }
    return 0;
}

/* In the order of their names: attestation policies, then those of resources. */
int kbs_api_admin_policy_list(struct kbs_call *call, struct kbs_error *err)
{
    struct list l = {.call = call, .page = {.out = &call->answer->body}};
    enum kbs_document_kind kind = KBS_DOCUMENT_ATTESTATION_POLICY;
    struct kbs_span after = KBS_SPAN_EMPTY;
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", LIST_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_page(call->req, &after, &l.page.limit, err) != 0 ||
        (after.len != 0 && name_read(after, &kind, &after, err) != 0) ||
        kbs_epoch_gate(call->api, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(l.page.out, "{\"policies\":[");
    if (kind == KBS_DOCUMENT_ATTESTATION_POLICY) {
        if (list_kind(&l, kind, after, err) != 0) {
            return -1;
        }
        after = KBS_SPAN_EMPTY;
    }
    if (!l.page.more && list_kind(&l, KBS_DOCUMENT_RESOURCE_POLICY, after, err) != 0) {
        return -1;
    }
    kbs_page_end(&l.page);
    return 0;
}

/* ---- one, and what it was ---- */

static int show_one(struct kbs_call *call, enum kbs_document_kind kind, struct kbs_span name,
                    uint32_t version, struct kbs_error *err)
{
    struct kbs_buf *out = &call->answer->body;
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_document document;
    int rc = kbs_document_version(call->api, kind, name, version, &document, &text, err);

    if (rc == 0) {
        uint8_t digest[KBS_SHA256_BYTES];

        kbs_sha256(kbs_buf_span(&text), digest);
        kbs_buf_put_u8(out, '{');
        name_put(out, &document);
        kbs_buf_printf(out, ",\"version\":%u,\"created\":%lld,\"digest\":\"",
                       (unsigned int)document.version, (long long)document.created_s);
        kbs_hex_put(out, kbs_span(digest, sizeof(digest)));
        kbs_buf_put_str(out, "\",\"policy\":");
        kbs_json_string_put(out, kbs_buf_span(&text));
        kbs_buf_put_u8(out, '}');
    }
    kbs_buf_deinit(&text);
    return rc;
}

static int show_history(struct kbs_call *call, enum kbs_document_kind kind, struct kbs_span name,
                        struct kbs_error *err)
{
    struct list l = {.call = call,
                     .page = {.out = &call->answer->body, .limit = KBS_LIMIT_DOCUMENT_VERSIONS}};

    if (kbs_epoch_gate(call->api, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(l.page.out, "{\"versions\":[");
    if (kbs_store_document_history(call->api->store, kind, name, list_each, &l, err) != 0) {
        return -1;
    }
    if (l.err.category != KBS_OK) {
        *err = l.err;
        return -1;
    }
    if (l.page.count == 0) {
        return kbs_fail(err, KBS_MISSING, "no such %s", kbs_document_kind_name(kind));
    }
    kbs_buf_put_str(l.page.out, "]}");
    return 0;
}

int kbs_api_admin_policy_show(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const names[] = {"version", "history", NULL};
    enum kbs_document_kind kind = KBS_DOCUMENT_NONE;
    struct kbs_span name = KBS_SPAN_EMPTY;
    struct kbs_span history = KBS_SPAN_EMPTY;
    const struct kbs_admin *admin = NULL;
    uint32_t version = 0;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", ONE_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, names, err) != 0 ||
        kbs_request_version(call->req, &version, err) != 0 ||
        name_read(kbs_wire_list_at(&call->req->params, 0), &kind, &name, err) != 0) {
        return -1;
    }
    if (!kbs_wire_list_find(&call->req->query, "history", &history)) {
        return show_one(call, kind, name, version, err);
    }
    if (version != 0 || !kbs_span_equal_str(history, "true")) {
        return kbs_fail(err, KBS_INPUT, "history may only be true, and without a version");
    }
    return show_history(call, kind, name, err);
}

/* ---- another one, or an old one again ---- */

static int rollback(struct kbs_mutation *m, enum kbs_document_kind kind, struct kbs_span name,
                    int64_t to, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_document document;
    int rc = to > 0 && to <= UINT32_MAX
                 ? kbs_document_version(m->api, kind, name, (uint32_t)to, &document, &text, err)
                 : kbs_fail(err, KBS_INPUT, "'rollback' is the number of a version");

    if (rc == 0) {
        rc = kbs_policy_set_text(m, kind, name, kbs_buf_span(&text), err);
    }
    kbs_buf_deinit(&text);
    return rc;
}

static int set_open(struct kbs_mutation *m, enum kbs_document_kind *ret_kind,
                    struct kbs_span *ret_name, json_t **ret_body, struct kbs_error *err)
{
    static const char *const members[] = {"policy", "rollback", NULL};
    struct kbs_call *call = m->call;

    if (kbs_admin_verify(call, "POST", ONE_PATTERN, true, &m->admin, &m->sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0 ||
        name_read(kbs_wire_list_at(&call->req->params, 0), ret_kind, ret_name, err) != 0 ||
        kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", ret_body, err) != 0 ||
        kbs_json_only(*ret_body, members, err) != 0) {
        return -1;
    }
    m->kind = *ret_kind == KBS_DOCUMENT_RESOURCE_POLICY ? "resource-policy-set"
                                                        : "attestation-policy-set";
    return json_object_size(*ret_body) == 1
               ? 0
               : kbs_fail(err, KBS_INPUT, "'policy' or 'rollback' must be there, and not both");
}

int kbs_api_admin_policy_set(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_mutation m = {.api = call->api, .call = call};
    enum kbs_document_kind kind = KBS_DOCUMENT_NONE;
    struct kbs_span name = KBS_SPAN_EMPTY;
    KBS_AUTO_JSON body = NULL;
    int64_t to = 0;
    int rc = -1;

    if (set_open(&m, &kind, &name, &body, err) != 0) {
        return -1;
    }
    if (json_object_get(body, "rollback") == NULL) {
        rc = kbs_policy_set_body(&m, kind, name, body, err);
    } else if (kbs_json_get_integer(body, "rollback", &to, err) == 0) {
        rc = rollback(&m, kind, name, to, err);
    }
    return rc == 0 ? show_one(call, kind, name, 0, err) : -1;
}
