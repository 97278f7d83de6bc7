/*
 * Requests that one administrator alone may not have carried out.
 *
 * The problem: one administrator who is bribed, or whose key was stolen, can open a policy or destroy a key.
 * The approach: where the configuration asks for M administrators, a request of such a kind is checked as if
 * it were to be done, and at the door that every mutation goes through, before its intent, it is put down as
 * a row instead (mutation.c asks kbs_approval_gate()). Others sign the digest of the very same request. With
 * the M-th signature it is handed to its handler again, from the top: nothing that was found when it was
 * asked for is relied on, and what it starts from (the basis: version and epoch of what it changes) has to be
 * the same. The row is closed in the transaction of the mutation itself, so it is carried out once.
 *
 * The row is a document: signed by the admin lane's token, in the manifest, versioned. It holds the request
 * and the JWS of everybody who agrees, and each of them is verified again before it counts, so that neither a
 * row nor its text can make an approval of its own. A row that was put back to an older one of its own is
 * found by the manifest before anything is done (kbs_mutation_begin()).
 *
 * The kinds are those of the ledger's records: a handler that is added and changes the same thing has the
 * same kind. What a Bearer token, or nobody, asks for is refused: nobody could be counted.
 */
#include "api/approval.h"

#include <stdio.h>

#include "base/encoding.h"
#include "base/random.h"
#include "jose/read/jose.h"
#include "wire/route.h"

#define APPROVALS_PATTERN "/kbs/v0/admin/approvals/"

/* Which mutations, by the kind of their records. */
static const struct {
    const char *kind;
    enum kbs_route route; /* only there; NONE: wherever */
    uint8_t needs;
} governed[] = {
    {"resource-policy-set", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_POLICY},
    {"attestation-policy-set", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_POLICY},
    {"reference-value-set", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_POLICY},
    {"reference-value-delete", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_POLICY},
    {"alias-set", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_POLICY},
    {"alias-remove", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_POLICY},
    {"key-policy", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_POLICY},
    {"secret-policy", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_POLICY},
    {"key-state", KBS_ROUTE_ADMIN_KEY_DESTROY, KBS_WIRE_APPROVALS_DESTROY},
    {"key-destroy", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_DESTROY},
    {"secret-delete", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_DESTROY},
    {"wrapping-key-destroy", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_DESTROY},
    {"seal-key-destroy", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_DESTROY},
    {"sign-key-destroy", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_DESTROY},
    {"tls-key-destroy", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_DESTROY},
    {"kept-forget", KBS_ROUTE_NONE, KBS_WIRE_APPROVALS_DESTROY},
};

static const char *const state_names[] = {[KBS_APPROVAL_PENDING] = "pending",
                                          [KBS_APPROVAL_EXECUTED] = "executed",
                                          [KBS_APPROVAL_WITHDRAWN] = "withdrawn",
                                          [KBS_APPROVAL_EXPIRED] = "expired"};

const char *kbs_approval_state_name(enum kbs_approval_state state)
{
    return state_names[state];
}

/* ---- the door ---- */

static bool is_governed(const struct kbs_mutation *m)
{
    for (size_t i = 0; i < sizeof(governed) / sizeof(governed[0]); i++) {
        if (strcmp(governed[i].kind, m->kind) == 0 &&
            (governed[i].route == KBS_ROUTE_NONE || governed[i].route == m->call->req->route)) {
            return (governed[i].needs & m->api->approvals_for) != 0;
        }
    }
    return false;
}

/* What the mutation starts from: version and epoch of what it changes, as read a moment ago. */
static void basis_of(const struct kbs_mutation *m, uint8_t ret[KBS_SHA256_BYTES])
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_AUDIT_RECORD_BYTES);

    kbs_buf_printf(&text, "%s\n", m->kind);
    if (m->key != NULL) {
        kbs_buf_printf(&text, "%s %u %llu", m->key->path, (unsigned int)m->key->version,
                       (unsigned long long)m->key->epoch);
    } else if (m->document != NULL) {
        kbs_hex_put(&text, kbs_span(m->basis, sizeof(m->basis)));
    } else {
        kbs_buf_printf(&text, "%u", (unsigned int)m->wrap_version);
    }
    kbs_sha256(kbs_buf_span(&text), ret);
    kbs_buf_deinit(&text);
}

int kbs_approval_gate(struct kbs_mutation *m, struct kbs_error *err)
{
    struct kbs_call *call = m->call;
    uint8_t basis[KBS_SHA256_BYTES];

    if (call == NULL || !is_governed(m)) {
        return 0;
    }
    if (call->approval == NULL && m->api->approvals <= 1) {
        return 0;
    }
    basis_of(m, basis);
    if (call->approval != NULL) {
        return call->approval->spent || memcmp(basis, call->approval->basis, sizeof(basis)) == 0
                   ? 0
                   : kbs_fail(err, KBS_CONFLICT,
                              "what this would change has been changed since it was asked for:"
                              " withdraw it and ask again");
    }
    if (call->auth != KBS_ADMIN_BY_SIGNATURE) {
        call->answer->variant = "AdminAuthAccess";
        (void)kbs_fail(err, KBS_DENIED, "this needs %u enrolled administrators who sign",
                       (unsigned int)m->api->approvals);
        return kbs_admin_denied(call, m->admin, err);
    }
    call->waiting =
        (struct kbs_waiting){.kind = m->kind, .admin = m->admin, .sequence = m->sequence};
    memcpy(call->waiting.basis, basis, sizeof(basis));
    return kbs_fail(err, KBS_CONFLICT, "this waits for approval");
}

/* ---- its row ---- */

void kbs_approval_deinit(struct kbs_approval *a)
{
    json_decref(a->root);
    a->root = NULL;
    kbs_buf_deinit(&a->names);
    kbs_buf_deinit(&a->signed_by);
    kbs_buf_deinit(&a->closed_text);
}

static bool state_from_name(struct kbs_span name, enum kbs_approval_state *ret)
{
    for (int i = KBS_APPROVAL_PENDING; i <= KBS_APPROVAL_WITHDRAWN; i++) {
        if (kbs_span_equal_str(name, state_names[i])) {
            *ret = (enum kbs_approval_state)i;
            return true;
        }
    }
    return false;
}

static int read_members(struct kbs_approval *a, struct kbs_error *err)
{
    struct kbs_span state = KBS_SPAN_EMPTY;
    struct kbs_span digest = KBS_SPAN_EMPTY;
    struct kbs_span basis = KBS_SPAN_EMPTY;
    struct kbs_span names = KBS_SPAN_EMPTY;
    int64_t route = 0;

    a->requests = json_object_get(a->root, "requests");
    if (kbs_json_get_string(a->root, "state", &state, err) != 0 ||
        kbs_json_get_integer(a->root, "route", &route, err) != 0 ||
        kbs_json_get_string(a->root, "method", &a->method, err) != 0 ||
        kbs_json_get_string(a->root, "target", &a->target, err) != 0 ||
        kbs_json_get_string(a->root, "content_type", &a->content_type, err) != 0 ||
        kbs_json_get_string(a->root, "body", &a->body, err) != 0 ||
        kbs_json_get_string(a->root, "digest", &digest, err) != 0 ||
        kbs_json_get_string(a->root, "basis", &basis, err) != 0 ||
        kbs_json_get_integer(a->root, "expires", &a->expires_s, err) != 0 ||
        kbs_json_opt_string(a->root, "approvers", &names, err) != 0) {
        return -1;
    }
    a->route = (uint8_t)route;
    kbs_buf_put_span(&a->names, names);
    return state_from_name(state, &a->state) && route > 0 && route <= UINT8_MAX &&
                   (a->state != KBS_APPROVAL_PENDING || json_array_size(a->requests) != 0) &&
                   kbs_hex_get_exact(a->digest, sizeof(a->digest), digest) == 0 &&
                   kbs_hex_get_exact(a->basis, sizeof(a->basis), basis) == 0
               ? 0
               : kbs_fail(err, KBS_INPUT, "a member of another kind");
}

int kbs_approval_read(const struct kbs_document *row, struct kbs_span text, int64_t now_s,
                      struct kbs_approval *ret, struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE;

    ret->row = *row;
    if (kbs_json_parse_object(text, "approval", &ret->root, &why) != 0 ||
        read_members(ret, &why) != 0) {
        return kbs_fail(err, KBS_INTERNAL,
                        "the store's row of the approval %s does not parse: %.60s", row->name,
                        why.detail);
    }
    if (ret->state == KBS_APPROVAL_PENDING && ret->expires_s <= now_s) {
        ret->state = KBS_APPROVAL_EXPIRED;
    }
    return 0;
}

int kbs_approval_get(struct kbs_call *call, struct kbs_approval *ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_APPROVAL_BYTES);
    struct kbs_span id = kbs_wire_list_at(&call->req->params, 0);
    uint8_t bytes[KBS_APPROVAL_ID_BYTES];
    struct kbs_document row;
    int rc = kbs_hex_get_exact(bytes, sizeof(bytes), id) == 0
                 ? kbs_document_get(call->api, KBS_DOCUMENT_APPROVAL, id, &row, &text, err)
                 : kbs_fail(err, KBS_INPUT, "the name of an approval is 32 hex digits");

    if (rc == 0) {
        rc = kbs_approval_read(&row, kbs_buf_span(&text), call->now_s, ret, err);
    }
    kbs_buf_deinit(&text);
    return rc;
}

/* What is closed keeps who agreed, and neither the body nor the signatures. */
static int close_members(const struct kbs_approval *a, json_t *root, enum kbs_approval_state state)
{
    return json_object_set_new(root, "state", json_string(state_names[state])) != 0 ||
                   json_object_set_new(root, "body", json_string("")) != 0 ||
                   json_object_set_new(root, "approvers",
                                       json_stringn((const char *)a->names.p, a->names.len)) != 0 ||
                   json_object_del(root, "requests") != 0
               ? -1
               : 0;
}

int kbs_approval_text(const struct kbs_approval *a, enum kbs_approval_state state,
                      struct kbs_buf *out, struct kbs_error *err)
{
    KBS_AUTO_JSON copy = json_copy(a->root);

    if (copy == NULL || (state != KBS_APPROVAL_PENDING && close_members(a, copy, state) != 0)) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    return kbs_json_dump(copy, out, err) == 0 ? kbs_buf_check(out, "the request", err) : -1;
}

/* ---- who agrees ---- */

static bool digest_is(const json_t *payload, struct kbs_span body)
{
    struct kbs_span text = KBS_SPAN_EMPTY;
    struct kbs_error ignored = KBS_ERROR_NONE;
    uint8_t signed_digest[KBS_SHA256_BYTES];
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_sha256(body, digest);
    return kbs_json_get_string(payload, "b", &text, &ignored) == 0 &&
           kbs_base64url_get_exact(signed_digest, sizeof(signed_digest), text) == 0 &&
           memcmp(signed_digest, digest, sizeof(digest)) == 0;
}

static bool string_is(const json_t *payload, const char *name, struct kbs_span want)
{
    struct kbs_span text = KBS_SPAN_EMPTY;
    struct kbs_error ignored = KBS_ERROR_NONE;

    return kbs_json_get_string(payload, name, &text, &ignored) == 0 && kbs_span_equal(text, want);
}

/* The first one signed the request itself, the others that they approve of it. */
static bool signed_this(const struct kbs_approval *a, const json_t *payload, bool first)
{
    struct kbs_buf target = KBS_BUF(128);
    struct kbs_buf body = KBS_BUF(128);
    bool is = false;

    if (first) {
        return string_is(payload, "m", a->method) && string_is(payload, "p", a->target) &&
               digest_is(payload, a->body);
    }
    kbs_buf_printf(&target, APPROVALS_PATTERN "%s", a->row.name);
    kbs_approval_body_put(&body, a->digest);
    is = string_is(payload, "m", KBS_SPAN_LIT("POST")) &&
         string_is(payload, "p", kbs_buf_span(&target)) && digest_is(payload, kbs_buf_span(&body));
    kbs_buf_deinit(&target);
    kbs_buf_deinit(&body);
    return is;
}

/* The administrator whose signature this is, or NULL if that key is not enrolled. */
static int signature_read(const struct kbs_api *api, const struct kbs_approval *a,
                          struct kbs_span text, bool first, const struct kbs_admin **ret,
                          uint64_t *ret_sequence, struct kbs_error *err)
{
    struct kbs_jose_jws jws = KBS_JOSE_JWS_NULL;
    KBS_AUTO_JSON payload = NULL;
    int64_t sequence = 0;
    int rc = kbs_jose_jws_split(text, &jws, err);

    if (rc != 0) {
        return -1;
    }
    *ret = kbs_admin_find(api, jws.kid);
    if (*ret != NULL) {
        rc = kbs_jose_jws_verify(&jws, &(*ret)->key, &payload, err);
    }
    if (rc == 0 && *ret != NULL) {
        rc = signed_this(a, payload, first) &&
                     kbs_json_get_integer(payload, "s", &sequence, err) == 0
                 ? 0
                 : kbs_fail(err, KBS_INPUT, "a signature of something else");
    }
    *ret_sequence = (uint64_t)sequence;
    kbs_jose_jws_deinit(&jws);
    return rc;
}

bool kbs_approval_has(struct kbs_approval *a, const struct kbs_admin *admin)
{
    return a->names.len != 0 && strstr(kbs_buf_cstr(&a->names), admin->thumbprint) != NULL;
}

static void agree_add(struct kbs_approval *a, const struct kbs_admin *admin, struct kbs_span text)
{
    kbs_buf_put_str(&a->names, a->agree > 0 ? " " : "");
    kbs_buf_put_str(&a->names, admin->thumbprint);
    kbs_buf_put_str(&a->signed_by, a->agree > 0 ? " " : "");
    kbs_buf_put_span(&a->signed_by, text);
    a->agree++;
}

int kbs_approval_count(const struct kbs_api *api, struct kbs_approval *a, struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE;
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;
    json_t *text = NULL;
    size_t i = 0;

    a->agree = 0;
    kbs_buf_clear(&a->names);
    kbs_buf_clear(&a->signed_by);
    json_array_foreach(a->requests, i, text)
    {
        struct kbs_span jws = kbs_span(json_string_value(text), json_string_length(text));

        if (!json_is_string(text) ||
            signature_read(api, a, jws, i == 0, &admin, &sequence, &why) != 0) {
            return kbs_fail(err, KBS_INTERNAL, "a signature of the approval %s does not verify",
                            a->row.name);
        }
        if (i == 0 && admin == NULL) {
            return kbs_fail(err, KBS_CONFLICT,
                            "the administrator who asked is not enrolled any more");
        }
        if (i == 0) {
            a->asker = admin;
            a->sequence = sequence;
        }
        if (admin != NULL && !kbs_approval_has(a, admin)) {
            agree_add(a, admin, jws);
        }
    }
    return kbs_buf_check(&a->names, "the approvers", err) == 0
               ? kbs_buf_check(&a->signed_by, "the approvals", err)
               : -1;
}

/* ---- carrying it out ---- */

int kbs_approval_admit(struct kbs_call *call, const char *method, const char *pattern,
                       const struct kbs_admin **ret_admin, uint64_t *ret_sequence,
                       struct kbs_error *err)
{
    const struct kbs_approval *a = call->approval;

    if (!kbs_span_equal_str(a->method, method) || !kbs_admin_target_matches(call->req, pattern)) {
        return kbs_fail(err, KBS_INTERNAL, "the approval %s is of another request", a->row.name);
    }
    call->auth = KBS_ADMIN_BY_SIGNATURE;
    *ret_admin = a->asker;
    *ret_sequence = a->sequence;
    return 0;
}

struct kbs_span kbs_approval_request(const struct kbs_approval *a)
{
    return kbs_buf_span(&a->signed_by);
}

void kbs_approval_record(struct kbs_record *r, const struct kbs_approval *a)
{
    kbs_record_str(r, "approval", a->row.name);
    kbs_record_text(r, "approvers", kbs_buf_span(&a->names));
}

size_t kbs_approval_close(struct kbs_approval *a, struct kbs_span request,
                          struct kbs_store_document rows[KBS_APPROVAL_ROWS])
{
    if (a->spent) {
        return 0;
    }
    rows[0] = (struct kbs_store_document){.document = &a->row, .dropped = true};
    rows[1] = (struct kbs_store_document){
        .document = &a->closed, .text = kbs_buf_span(&a->closed_text), .request = request};
    return KBS_APPROVAL_ROWS;
}

void kbs_approval_spend(struct kbs_approval *a)
{
    a->spent = true;
}

/* ---- putting one down ---- */

struct ask {
    struct kbs_mutation m;
    struct kbs_document row;
    struct kbs_buf text;
    uint8_t digest[KBS_SHA256_BYTES];
    /* what is there already */
    size_t count;
    struct kbs_document oldest; /* of those that wait no longer */
    bool drops;
    struct kbs_error found;
};

static json_t *list_json(const struct kbs_wire_list *list)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(list);
    struct kbs_span item = KBS_SPAN_EMPTY;
    json_t *array = json_array();

    while (array != NULL && kbs_wire_list_next(&it, &item)) {
        if (json_array_append_new(array, json_stringn((const char *)item.p, item.len)) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static int ask_text(struct ask *a, const struct kbs_call *call, struct kbs_error *err)
{
    const struct kbs_wire_request *req = call->req;
    char digest[2 * KBS_SHA256_BYTES + 1];
    char basis[2 * KBS_SHA256_BYTES + 1];
    KBS_AUTO_JSON root = NULL;

    if (!kbs_utf8_valid(req->body) ||
        (req->body.len != 0 && memchr(req->body.p, '\0', req->body.len) != NULL)) {
        return kbs_fail(err, KBS_INPUT, "the body of a request that waits must be UTF-8 text");
    }
    kbs_approval_digest(req->method, req->target, req->body, a->digest);
    kbs_hex_cstr(kbs_span(a->digest, sizeof(a->digest)), digest, sizeof(digest));
    kbs_hex_cstr(kbs_span(call->waiting.basis, KBS_SHA256_BYTES), basis, sizeof(basis));
    root = json_pack(
        "{s:s, s:s, s:i, s:s%, s:s%, s:o, s:o, s:s%, s:s%, s:s, s:s, s:I, s:[s%]}", "state",
        state_names[KBS_APPROVAL_PENDING], "kind", call->waiting.kind, "route", (int)req->route,
        "method", (const char *)req->method.p, req->method.len, "target",
        (const char *)req->target.p, req->target.len, "params", list_json(&req->params), "query",
        list_json(&req->query), "content_type",
        req->content_type.len != 0 ? (const char *)req->content_type.p : "", req->content_type.len,
        "body", req->body.len != 0 ? (const char *)req->body.p : "", req->body.len, "digest",
        digest, "basis", basis, "expires", (json_int_t)(call->now_s + KBS_APPROVAL_S), "requests",
        (const char *)req->signature.p, req->signature.len);
    if (root == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "the request cannot be put down");
    }
    if (kbs_json_dump(root, &a->text, err) != 0 || a->text.failed) {
        return kbs_fail(err, KBS_TOO_LARGE,
                        "a request that waits for approval has at most %u bytes",
                        (unsigned int)KBS_LIMIT_APPROVAL_BYTES);
    }
    return 0;
}

/* Counts the rows there are, and finds the oldest that waits no longer. */
static int room_each(void *ctx, const struct kbs_document *row, struct kbs_span text,
                     struct kbs_span request, struct kbs_error *err)
{
    struct ask *a = ctx;
    struct kbs_approval there = KBS_APPROVAL_NULL;

    (void)request;
    (void)err;
    a->count++;
    if (a->found.category == KBS_OK &&
        kbs_row_check_document(a->m.api, row, text, &a->found) == 0 &&
        kbs_approval_read(row, text, a->m.call->now_s, &there, &a->found) == 0 &&
        there.state != KBS_APPROVAL_PENDING &&
        (!a->drops || row->created_s < a->oldest.created_s)) {
        a->oldest = *row;
        a->drops = true;
    }
    kbs_approval_deinit(&there);
    return 0;
}

static int ask_room(struct ask *a, struct kbs_error *err)
{
    if (kbs_store_document_list(a->m.api->store, KBS_DOCUMENT_APPROVAL, KBS_SPAN_EMPTY,
                                KBS_LIMIT_APPROVALS + 1, room_each, a, err) != 0) {
        return -1;
    }
    if (a->found.category != KBS_OK) {
        *err = a->found;
        return -1;
    }
    if (a->count >= KBS_LIMIT_APPROVALS && !a->drops) {
        return kbs_fail(err, KBS_LIMITED, "%d requests wait for approval: withdraw one",
                        KBS_LIMIT_APPROVALS);
    }
    a->drops = a->drops && a->count >= KBS_LIMIT_APPROVALS;
    return 0;
}

static int ask_commit(struct ask *a, struct kbs_error *err)
{
    struct kbs_store_document rows[2];
    struct kbs_record r;
    size_t n = 0;

    kbs_mutation_record(&a->m, KBS_PHASE_INTENT, &r);
    kbs_record_str(&r, "for", a->m.call->waiting.kind);
    kbs_record_text(&r, "method", a->m.call->req->method);
    kbs_record_text(&r, "target", a->m.call->req->target);
    kbs_record_hex(&r, "digest", kbs_span(a->digest, sizeof(a->digest)));
    if (kbs_mutation_intent(&a->m, &r, err) != 0) {
        return -1;
    }
    rows[n++] = (struct kbs_store_document){
        .document = &a->row, .text = kbs_buf_span(&a->text), .request = a->m.request};
    if (a->drops) {
        rows[n++] = (struct kbs_store_document){.document = &a->oldest, .dropped = true};
    }
    if (kbs_mutation_commit_documents(&a->m, rows, n, err) != 0) {
        return kbs_mutation_failed(&a->m, "failed", err);
    }
    kbs_mutation_record(&a->m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    return kbs_mutation_done(&a->m, &r, err);
}

int kbs_approval_ask(struct kbs_call *call, struct kbs_error *err)
{
    uint8_t id[KBS_APPROVAL_ID_BYTES];
    struct ask a = {.m = {.api = call->api,
                          .call = call,
                          .kind = "approval-request",
                          .admin = call->waiting.admin,
                          .sequence = call->waiting.sequence},
                    .row = {.kind = KBS_DOCUMENT_APPROVAL, .version = 1, .created_s = call->now_s},
                    .text = KBS_BUF(KBS_LIMIT_APPROVAL_BYTES)};
    int rc = -1;

    *err = KBS_ERROR_NONE;
    kbs_random(id, sizeof(id));
    kbs_hex_cstr(kbs_span(id, sizeof(id)), a.row.name, sizeof(a.row.name));
    a.m.document = &a.row;
    if (ask_text(&a, call, err) == 0 && kbs_mutation_begin(&a.m, err) == 0 &&
        ask_room(&a, err) == 0) {
        rc = ask_commit(&a, err);
    }
    if (rc == 0) {
        kbs_buf_clear(&call->answer->body);
        call->answer->status = 202;
        call->answer->content_type = "application/json";
        kbs_buf_printf(&call->answer->body, "{\"approval\":\"%s\",\"needs\":%u,\"expires\":%lld}",
                       a.row.name, (unsigned int)(call->api->approvals - 1),
                       (long long)(call->now_s + KBS_APPROVAL_S));
    }
    kbs_buf_deinit(&a.text);
    return rc;
}
