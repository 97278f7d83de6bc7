/*
 * Reference values: set by a message as Trustee's clients send it, or by name as kbs-admin does;
 * listed, shown, taken back.
 *
 * Each is a document, kept as {"expiration":<Unix seconds>,"value":...}; what comes without a time
 * counts for a year. One that has expired is not there for anybody who asks, and one that is taken
 * back is a version of no bytes. All that are there have one bound, because every attestation reads
 * them together.
 */
#include "api/context.h"

#include <stdlib.h>

#include "attest/reference.h"
#include "base/encoding.h"

#define MESSAGE_PATTERN "/kbs/v0/reference-value"
#define MESSAGE_ONE_PATTERN "/kbs/v0/reference-value/*"
#define LIST_PATTERN "/kbs/v0/admin/reference-values"
#define ONE_PATTERN "/kbs/v0/admin/reference-values/*"

static const char *const no_query[] = {NULL};

static struct kbs_mutation mutation(struct kbs_call *call, const char *kind)
{
    return (struct kbs_mutation){.api = call->api, .call = call, .kind = kind};
}

/* ---- setting ---- */

/* Names and texts of a request, each the size of a document at most; owned by their arrays. */
struct values {
    size_t count;
    struct kbs_span names[KBS_LIMIT_REFERENCE_VALUES]; /* borrowed from what was sent */
    struct kbs_span texts[KBS_LIMIT_REFERENCE_VALUES];
    struct kbs_buf buffers[KBS_LIMIT_REFERENCE_VALUES];
};

static void values_free(struct values *v)
{
    for (size_t i = 0; v != NULL && i < v->count; i++) {
        kbs_buf_deinit(&v->buffers[i]);
    }
    free(v);
}

static int values_take(json_t *values, int64_t expires_s, struct values *v, struct kbs_error *err)
{
    const char *name = NULL;
    json_t *value = NULL;

    if (json_object_size(values) == 0 || json_object_size(values) > KBS_LIMIT_REFERENCE_VALUES) {
        return kbs_fail(err, KBS_INPUT, "a payload has 1 to %d reference values",
                        KBS_LIMIT_REFERENCE_VALUES);
    }
    json_object_foreach(values, name, value)
    {
        struct kbs_buf *text = &v->buffers[v->count];

        *text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
        v->names[v->count++] = kbs_span_str(name);
        kbs_buf_printf(text, "{\"expiration\":%lld,\"value\":", (long long)expires_s);
        if (kbs_json_dump(value, text, err) != 0) {
            return -1;
        }
        kbs_buf_put_u8(text, '}');
        if (kbs_buf_check(text, "a reference value", err) != 0) {
            return -1;
        }
        v->texts[v->count - 1] = kbs_buf_span(text);
    }
    return 0;
}

struct space {
    const struct values *adds;
    size_t bytes;
};

/* What stays: all that are not set anew. */
static int space_each(void *ctx, const struct kbs_document *document, struct kbs_span text,
                      struct kbs_span request, struct kbs_error *err)
{
    struct space *s = ctx;

    (void)request;
    (void)err;
    for (size_t i = 0; i < s->adds->count; i++) {
        if (kbs_span_equal_str(s->adds->names[i], document->name)) {
            return 0;
        }
    }
    s->bytes += text.len != 0 ? strlen(document->name) + text.len : 0;
    return 0;
}

static int space_check(struct kbs_api *api, const struct values *v, struct kbs_error *err)
{
    struct space s = {.adds = v};

    if (kbs_store_document_list(api->store, KBS_DOCUMENT_REFERENCE_VALUE, KBS_SPAN_EMPTY,
                                KBS_LIMIT_DOCUMENTS, space_each, &s, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < v->count; i++) {
        s.bytes += v->names[i].len + v->texts[i].len;
    }
    if (s.bytes > KBS_LIMIT_REFERENCES_BYTES) {
        return kbs_fail(err, KBS_TOO_LARGE, "all reference values together have at most %u bytes",
                        (unsigned int)KBS_LIMIT_REFERENCES_BYTES);
    }
    return 0;
}

static int values_set(struct kbs_mutation *m, json_t *values, int64_t expires_s,
                      struct kbs_error *err)
{
    struct values *v = calloc(1, sizeof(*v));
    int rc = -1;

    if (v == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (values_take(values, expires_s, v, err) == 0 && space_check(m->api, v, err) == 0) {
        rc = kbs_document_set(m, KBS_DOCUMENT_REFERENCE_VALUE, v->names, v->texts, v->count, err);
    }
    values_free(v);
    return rc;
}

int kbs_api_reference_value_set(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_mutation m = mutation(call, "reference-value-set");
    KBS_AUTO_JSON message = NULL;
    KBS_AUTO_JSON payload = NULL;

    call->answer->content_type = "";
    if (kbs_admin_verify(call, "POST", MESSAGE_PATTERN, true, &m.admin, &m.sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &message, err) != 0 ||
        kbs_reference_message(message, &payload, err) != 0) {
        return -1;
    }
    return values_set(&m, payload, call->now_s + KBS_REFERENCE_VALUE_S, err);
}

/* {"values":{...},"expires":<Unix seconds>}; `expires` may be missing. */
static int set_body(struct kbs_call *call, json_t **ret, int64_t *ret_expires_s,
                    struct kbs_error *err)
{
    static const char *const members[] = {"values", "expires", NULL};
    json_t *values = NULL;

    *ret_expires_s = call->now_s + KBS_REFERENCE_VALUE_S;
    if (kbs_request_query_only(call->req, no_query, err) != 0 ||
        kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", ret, err) != 0 ||
        kbs_json_only(*ret, members, err) != 0 ||
        kbs_json_get_object(*ret, "values", &values, err) != 0 ||
        (json_object_get(*ret, "expires") != NULL &&
         kbs_json_get_integer(*ret, "expires", ret_expires_s, err) != 0)) {
        return -1;
    }
    return *ret_expires_s > call->now_s
               ? 0
               : kbs_fail(err, KBS_INPUT, "'expires' is not in the future");
}

int kbs_api_admin_reference_set(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_mutation m = mutation(call, "reference-value-set");
    struct kbs_buf *out = &call->answer->body;
    KBS_AUTO_JSON body = NULL;
    json_t *values = NULL;
    int64_t expires_s = 0;

    if (kbs_admin_verify(call, "POST", LIST_PATTERN, true, &m.admin, &m.sequence, err) != 0 ||
        set_body(call, &body, &expires_s, err) != 0) {
        return -1;
    }
    values = json_object_get(body, "values");
    if (values_set(&m, values, expires_s, err) != 0) {
        return -1;
    }
    kbs_buf_printf(out, "{\"set\":%zu,\"expires\":%lld}", json_object_size(values),
                   (long long)expires_s);
    return 0;
}

/* ---- reading ---- */

/* One that is there: its row verified, set and not expired. */
struct reference {
    struct kbs_document document;
    json_t *value; /* owned */
    int64_t expires_s;
};

static int reference_get(struct kbs_call *call, struct reference *ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_span id = kbs_wire_list_at(&call->req->params, 0);
    int rc = -1;

    ret->value = NULL;
    if (!kbs_document_name_valid(id)) {
        return kbs_fail(err, KBS_INPUT, "not the name of a reference value");
    }
    if (kbs_document_get(call->api, KBS_DOCUMENT_REFERENCE_VALUE, id, &ret->document, &text, err) ==
        0) {
        rc = kbs_reference_text(kbs_buf_span(&text), &ret->expires_s, &ret->value, err);
    }
    kbs_buf_deinit(&text);
    if (rc == 0 && ret->expires_s <= call->now_s) {
        json_decref(ret->value);
        ret->value = NULL;
        rc = kbs_fail(err, KBS_MISSING, "the reference value has expired");
    }
    return rc;
}

int kbs_api_reference_value_show(struct kbs_call *call, struct kbs_error *err)
{
    const struct kbs_admin *admin = NULL;
    struct reference reference = {.value = NULL};
    uint64_t sequence = 0;
    int rc = -1;

    if (kbs_admin_verify(call, "GET", MESSAGE_ONE_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0) {
        return -1;
    }
    call->answer->variant = "RvpsError";
    rc = reference_get(call, &reference, err);
    if (rc == 0) {
        rc = kbs_json_dump(reference.value, &call->answer->body, err);
        json_decref(reference.value);
    }
    return rc;
}

/*
 * REFERENCE of docs/protocol/reference-values.md, without its closing brace. Names need no
 * escaping.
 */
static int reference_put(struct kbs_buf *out, const struct reference *r, struct kbs_error *err)
{
    kbs_buf_printf(out,
                   "{\"name\":\"%s\",\"version\":%u,\"created\":%lld,\"expires\":%lld,\"value\":",
                   r->document.name, (unsigned int)r->document.version,
                   (long long)r->document.created_s, (long long)r->expires_s);
    return kbs_json_dump(r->value, out, err);
}

/*
 * Who asked for a row: the key that signed the request which is kept with it; of one that came
 * with a Bearer token, or of nobody, no more than that.
 */
static void by_put(struct kbs_buf *out, struct kbs_span request)
{
    struct kbs_buf header = KBS_BUF(KBS_LIMIT_HTTP_HEAD_BYTES);
    const uint8_t *dot = request.len > 0 ? memchr(request.p, '.', request.len) : NULL;
    struct kbs_error ignored = KBS_ERROR_NONE;
    KBS_AUTO_JSON parsed = NULL;
    struct kbs_span typ = KBS_SPAN_EMPTY;
    struct kbs_span kid = KBS_SPAN_EMPTY;

    if (dot == NULL ||
        kbs_base64url_get(&header, kbs_span(request.p, (size_t)(dot - request.p))) != 0 ||
        kbs_json_parse_object(kbs_buf_span(&header), "header", &parsed, &ignored) != 0 ||
        kbs_json_get_string(parsed, "typ", &typ, &ignored) != 0 ||
        !kbs_span_equal_str(typ, "kbs-admin") ||
        kbs_json_get_string(parsed, "kid", &kid, &ignored) != 0) {
        kid = kbs_span_str(request.len > 0 ? "bearer" : "anybody");
    }
    kbs_buf_put_str(out, ",\"by\":");
    kbs_json_string_put(out, kid);
    kbs_buf_deinit(&header);
}

struct listing {
    struct kbs_call *call;
    struct kbs_page page;
};

static int listing_each(void *ctx, const struct kbs_document *document, struct kbs_span text,
                        struct kbs_span request, struct kbs_error *err)
{
    struct listing *l = ctx;
    struct reference reference = {.document = *document};
    int rc = 0;

    if (l->page.more || text.len == 0) {
        return 0;
    }
    if (kbs_row_check_document(l->call->api, document, text, err) != 0 ||
        kbs_reference_text(text, &reference.expires_s, &reference.value, err) != 0) {
        return -1;
    }
    if (reference.expires_s > l->call->now_s && kbs_page_next(&l->page)) {
        rc = reference_put(l->page.out, &reference, err);
        by_put(l->page.out, request);
        kbs_buf_put_u8(l->page.out, '}');
    }
    json_decref(reference.value);
    return rc;
}

int kbs_api_admin_reference_list(struct kbs_call *call, struct kbs_error *err)
{
    struct listing l = {.call = call, .page = {.out = &call->answer->body}};
    const struct kbs_admin *admin = NULL;
    struct kbs_span after = KBS_SPAN_EMPTY;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", LIST_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_page(call->req, &after, &l.page.limit, err) != 0) {
        return -1;
    }
    if (after.len != 0 && !kbs_document_name_valid(after)) {
        return kbs_fail(err, KBS_INPUT, "after must be the name of a reference value");
    }
    if (kbs_epoch_gate(call->api, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(l.page.out, "{\"values\":[");
    if (kbs_store_document_list(call->api->store, KBS_DOCUMENT_REFERENCE_VALUE, after,
                                KBS_LIMIT_DOCUMENTS, listing_each, &l, err) != 0) {
        return -1;
    }
    kbs_page_end(&l.page);
    return 0;
}

/* The answer of a request about one. */
static int reference_answer(struct kbs_call *call, struct reference *reference,
                            struct kbs_error *err)
{
    int rc = reference_put(&call->answer->body, reference, err);

    kbs_buf_put_u8(&call->answer->body, '}');
    json_decref(reference->value);
    return rc;
}

int kbs_api_admin_reference_show(struct kbs_call *call, struct kbs_error *err)
{
    const struct kbs_admin *admin = NULL;
    struct reference reference = {.value = NULL};
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", ONE_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0 ||
        reference_get(call, &reference, err) != 0) {
        return -1;
    }
    return reference_answer(call, &reference, err);
}

int kbs_api_admin_reference_delete(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_mutation m = mutation(call, "reference-value-delete");
    struct kbs_span id = kbs_wire_list_at(&call->req->params, 0);
    const struct kbs_span nothing = KBS_SPAN_EMPTY;
    struct reference reference = {.value = NULL};

    if (kbs_admin_verify(call, "DELETE", ONE_PATTERN, true, &m.admin, &m.sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0 ||
        reference_get(call, &reference, err) != 0) {
        return -1;
    }
    if (kbs_document_set(&m, KBS_DOCUMENT_REFERENCE_VALUE, &id, &nothing, 1, err) != 0) {
        json_decref(reference.value);
        return -1;
    }
    return reference_answer(call, &reference, err);
}
