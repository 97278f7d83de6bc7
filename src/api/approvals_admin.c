/*
 * Approvals, as administrators see them: what waits, one more who agrees, one who withdraws it.
 *
 * Whoever is enrolled may agree or withdraw; nobody counts twice, and whoever asked has agreed by that. The
 * last one's request carries the waiting one out, in its handler and by its asker's name (approval.c), and
 * answers what became of it.
 */
#include "api/approval.h"

#include "base/encoding.h"

#define LIST_PATTERN "/kbs/v0/admin/approvals"
#define ONE_PATTERN "/kbs/v0/admin/approvals/*"

static const char *const no_query[] = {NULL};

/* ---- what waits ---- */

/* Who agrees, of one that waits; that its asker has left is no reason not to show it. */
static int names_of(const struct kbs_api *api, struct kbs_approval *a, struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE;

    if (a->state == KBS_APPROVAL_EXECUTED || a->state == KBS_APPROVAL_WITHDRAWN ||
        kbs_approval_count(api, a, &why) == 0 || why.category == KBS_CONFLICT) {
        return 0;
    }
    *err = why;
    return -1;
}

/* APPROVAL of docs/protocol/admin-api.md, without its closing brace. */
static int approval_put(const struct kbs_api *api, struct kbs_approval *a, struct kbs_buf *out,
                        struct kbs_error *err)
{
    bool waits = a->state == KBS_APPROVAL_PENDING;
    struct kbs_span kind = KBS_SPAN_EMPTY;

    if (names_of(api, a, err) != 0 || kbs_json_get_string(a->root, "kind", &kind, err) != 0) {
        return -1;
    }
    kbs_buf_printf(out, "{\"id\":\"%s\",\"state\":\"%s\",\"for\":", a->row.name,
                   kbs_approval_state_name(a->state));
    kbs_json_string_put(out, kind);
    kbs_buf_put_str(out, ",\"method\":");
    kbs_json_string_put(out, a->method);
    kbs_buf_put_str(out, ",\"target\":");
    kbs_json_string_put(out, a->target);
    kbs_buf_put_str(out, ",\"digest\":\"");
    kbs_base64url_put(out, kbs_span(a->digest, sizeof(a->digest)));
    kbs_buf_printf(out, "\",\"needs\":%u,\"created\":%lld,\"expires\":%lld,\"approvers\":[",
                   waits && a->agree < api->approvals ? (unsigned int)(api->approvals - a->agree)
                                                      : 0,
                   (long long)a->row.created_s, (long long)a->expires_s);
    for (size_t at = 0; at < a->names.len; at += KBS_API_THUMBPRINT_BYTES) {
        kbs_buf_printf(out, "%s\"%.*s\"", at > 0 ? "," : "", KBS_API_THUMBPRINT_BYTES - 1,
                       kbs_buf_cstr(&a->names) + at);
    }
    kbs_buf_put_u8(out, ']');
    return 0;
}

struct list {
    struct kbs_call *call;
    bool any;
    struct kbs_error err;
};

static int list_each(void *ctx, const struct kbs_document *row, struct kbs_span text,
                      struct kbs_span request, struct kbs_error *err)
{
    struct list *l = ctx;
    struct kbs_buf *out = &l->call->answer->body;
    struct kbs_approval a = KBS_APPROVAL_NULL;

    (void)request;
    (void)err;
    if (l->err.category == KBS_OK &&
        kbs_row_check_document(l->call->api, row, text, &l->err) == 0 &&
        kbs_approval_read(row, text, l->call->now_s, &a, &l->err) == 0) {
        kbs_buf_put_str(out, l->any ? "," : "");
        l->any = true;
        if (approval_put(l->call->api, &a, out, &l->err) == 0) {
            kbs_buf_put_u8(out, '}');
        }
    }
    kbs_approval_deinit(&a);
    return 0;
}

int kbs_api_admin_approval_list(struct kbs_call *call, struct kbs_error *err)
{
    struct list l = {.call = call};
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", LIST_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0 ||
        kbs_epoch_gate(call->api, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(&call->answer->body, "{\"approvals\":[");
    if (kbs_store_document_list(call->api->store, KBS_DOCUMENT_APPROVAL, KBS_SPAN_EMPTY,
                                KBS_LIMIT_APPROVALS, list_each, &l, err) != 0) {
        return -1;
    }
    if (l.err.category != KBS_OK) {
        *err = l.err;
        return -1;
    }
    kbs_buf_put_str(&call->answer->body, "]}");
    return 0;
}

int kbs_api_admin_approval_show(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_approval a = KBS_APPROVAL_NULL;
    struct kbs_buf *out = &call->answer->body;
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;
    int rc = -1;

    if (kbs_admin_verify(call, "GET", ONE_PATTERN, false, &admin, &sequence, err) == 0 &&
        kbs_request_query_only(call->req, no_query, err) == 0 &&
        kbs_approval_get(call, &a, err) == 0 && approval_put(call->api, &a, out, err) == 0) {
        kbs_buf_put_str(out, ",\"body\":");
        kbs_json_string_put(out, a.body);
        kbs_buf_put_u8(out, '}');
        rc = 0;
    }
    kbs_approval_deinit(&a);
    return rc;
}

/* ---- a change of one that waits ---- */

/* Who asks, and the row as it is after kbs_mutation_begin(). */
static int change_open(struct kbs_mutation *m, const char *method, struct kbs_approval *a,
                       struct kbs_error *err)
{
    struct kbs_call *call = m->call;

    if (kbs_admin_verify(call, method, ONE_PATTERN, true, &m->admin, &m->sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0 || kbs_mutation_begin(m, err) != 0 ||
        kbs_approval_get(call, a, err) != 0) {
        return -1;
    }
    m->document = &a->row;
    if (a->state != KBS_APPROVAL_PENDING) {
        return kbs_fail(err, KBS_CONFLICT, "%s %s",
                        a->state == KBS_APPROVAL_EXPIRED ? "this request waited too long: it is"
                                                         : "this request waits no longer: it was",
                        kbs_approval_state_name(a->state));
    }
    a->closed = a->row;
    a->closed.version++;
    return 0;
}

/* The row's next version takes the place of this one. */
static int change_write(struct kbs_mutation *m, struct kbs_approval *a, struct kbs_error *err)
{
    struct kbs_store_document rows[KBS_APPROVAL_ROWS];
    size_t n = kbs_approval_close(a, m->request, rows);
    struct kbs_record r;

    kbs_mutation_record(m, KBS_PHASE_INTENT, &r);
    kbs_record_hex(&r, "digest", kbs_span(a->digest, sizeof(a->digest)));
    if (kbs_mutation_intent(m, &r, err) != 0) {
        return -1;
    }
    if (kbs_mutation_commit_documents(m, rows, n, err) != 0) {
        return kbs_mutation_failed(m, "failed", err);
    }
    kbs_mutation_record(m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    return kbs_mutation_done(m, &r, err);
}

int kbs_api_admin_approval_withdraw(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_mutation m = {.api = call->api, .call = call, .kind = "approval-withdraw"};
    struct kbs_approval a = KBS_APPROVAL_NULL;
    int rc = -1;

    if (change_open(&m, "DELETE", &a, err) == 0 && names_of(call->api, &a, err) == 0 &&
        kbs_approval_text(&a, KBS_APPROVAL_WITHDRAWN, &a.closed_text, err) == 0) {
        rc = change_write(&m, &a, err);
    }
    if (rc == 0) {
        kbs_buf_printf(&call->answer->body, "{\"approval\":\"%s\",\"state\":\"withdrawn\"}",
                       a.row.name);
    }
    kbs_approval_deinit(&a);
    return rc;
}

/* ---- one more who agrees ---- */

/* What was signed is the request that waits here, and this administrator has not been counted. */
static int give_check(struct kbs_mutation *m, struct kbs_approval *a, struct kbs_error *err)
{
    const struct kbs_wire_request *req = m->call->req;
    struct kbs_buf body = KBS_BUF(128);
    bool same = false;

    kbs_approval_body_put(&body, a->digest);
    same = kbs_span_equal(req->body, kbs_buf_span(&body));
    kbs_buf_deinit(&body);
    if (!same) {
        return kbs_fail(err, KBS_CONFLICT, "the digest is not that of the request that waits here");
    }
    if (kbs_approval_count(m->api, a, err) != 0) {
        return -1;
    }
    if (kbs_approval_has(a, m->admin)) {
        return kbs_fail(err, KBS_CONFLICT, "this administrator has agreed already");
    }
    if (json_array_append_new(
            a->requests, json_stringn((const char *)req->signature.p, req->signature.len)) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    return kbs_approval_count(m->api, a, err);
}

/* An array of the row as the list of a request, in a buffer that outlives it. */
static int list_of(const struct kbs_approval *a, const char *name, struct kbs_buf *buf,
                   struct kbs_wire_list *ret, struct kbs_error *err)
{
    struct kbs_wire_list_builder builder = {.buf = buf};
    const json_t *item = NULL;
    size_t i = 0;

    json_array_foreach(json_object_get(a->root, name), i, item)
    {
        kbs_wire_list_add(&builder, kbs_span(json_string_value(item), json_string_length(item)));
    }
    *ret = kbs_wire_list_done(&builder);
    return kbs_buf_check(buf, "the request's list", err);
}

/* What the handler answered, in an answer of ours. */
static int executed_put(struct kbs_call *call, const struct kbs_approval *a, struct kbs_error *err)
{
    struct kbs_answer *answer = call->answer;
    struct kbs_buf inner = KBS_BUF(KBS_LIMIT_HTTP_RESPONSE_BYTES);
    int rc = 0;

    kbs_buf_put_span(&inner, kbs_buf_span(&answer->body));
    kbs_buf_clear(&answer->body);
    answer->content_type = "application/json";
    kbs_buf_printf(&answer->body,
                   "{\"approval\":\"%s\",\"state\":\"executed\",\"answer\":", a->row.name);
    kbs_buf_put_span(&answer->body, inner.len != 0 ? kbs_buf_span(&inner) : KBS_SPAN_LIT("null"));
    kbs_buf_put_u8(&answer->body, '}');
    rc = kbs_buf_check(&inner, "the answer", err);
    kbs_buf_deinit(&inner);
    return rc;
}

/* The waiting request, in its handler. */
static int execute(struct kbs_call *call, struct kbs_approval *a, struct kbs_error *err)
{
    struct kbs_buf params = KBS_BUF(KBS_LIMIT_APPROVAL_BYTES);
    struct kbs_buf query = KBS_BUF(KBS_LIMIT_APPROVAL_BYTES);
    struct kbs_wire_request req = *call->req;
    struct kbs_call again = {.api = call->api,
                             .req = &req,
                             .answer = call->answer,
                             .arena = KBS_ARENA(KBS_API_ARENA_BYTES),
                             .deadline_ns = call->deadline_ns,
                             .now_s = call->now_s,
                             .approval = a};
    kbs_handler *handler = NULL;
    int rc = -1;

    req.route = a->route;
    req.method = a->method;
    req.target = a->target;
    req.content_type = a->content_type;
    req.body = a->body;
    if (list_of(a, "params", &params, &req.params, err) == 0 &&
        list_of(a, "query", &query, &req.query, err) == 0) {
        handler = kbs_dispatch_find(call->api, &req);
        rc = handler != NULL ? handler(&again, err)
                             : kbs_fail(err, KBS_INTERNAL, "the request that waits has no handler");
    }
    if (rc == 0 && !a->spent) {
        rc = kbs_fail(err, KBS_INTERNAL, "the request that waited changed nothing");
    }
    kbs_arena_deinit(&again.arena);
    kbs_buf_deinit(&params);
    kbs_buf_deinit(&query);
    return rc == 0 ? executed_put(call, a, err) : -1;
}

/* Not the last one: the row learns of it. */
static int give_one(struct kbs_mutation *m, struct kbs_approval *a, struct kbs_error *err)
{
    struct kbs_call *call = m->call;

    if (kbs_approval_text(a, KBS_APPROVAL_PENDING, &a->closed_text, err) != 0 ||
        change_write(m, a, err) != 0) {
        return -1;
    }
    call->answer->status = 202;
    kbs_buf_printf(&call->answer->body, "{\"approval\":\"%s\",\"needs\":%u,\"expires\":%lld}",
                   a->row.name, (unsigned int)(call->api->approvals - a->agree),
                   (long long)a->expires_s);
    return 0;
}

int kbs_api_admin_approval_give(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_mutation m = {.api = call->api, .call = call, .kind = "approval-give"};
    struct kbs_approval a = KBS_APPROVAL_NULL;
    int rc = -1;

    if (change_open(&m, "POST", &a, err) == 0 && give_check(&m, &a, err) == 0) {
        if (a.agree < call->api->approvals) {
            rc = give_one(&m, &a, err);
        } else if (kbs_approval_text(&a, KBS_APPROVAL_EXECUTED, &a.closed_text, err) == 0) {
            rc = execute(call, &a, err);
        }
    }
    kbs_approval_deinit(&a);
    return rc;
}
