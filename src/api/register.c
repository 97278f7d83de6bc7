/*
 * Registers: a value of each guest that only grows, and what it goes with (docs/protocol/register.md). A guest
 * writes there which state of its disk is the newest, so that an older copy is noticed at the next boot.
 *
 * Who may, and which guests are one, the policy of the key says under whose name the register is kept
 * (policy/keeps.h). A value is believed for kbs-token's mark and nothing else; the step from one to the next is
 * marked by kbs-token, which sees both, recorded before and by its deed, and written over exactly the value that it
 * was made from.
 */
#include "api/context.h"

#include "base/encoding.h"
#include "base/random.h"

struct reg {
    struct kbs_decision decision;
    struct kbs_session session;
    struct kbs_span path;
    struct kbs_store_owner owner;
    bool there; /* the guest has a value: */
    struct kbs_store_register now;
};

/* A step that a guest asks for. */
struct step {
    bool has_expected;
    uint64_t expected;
    uint64_t value;
    uint8_t digest[KBS_LIMIT_REGISTER_DIGEST_BYTES];
    size_t digest_len;
    uint8_t order[KBS_LIMIT_ORDER_BYTES];
};

/* ---- records ---- */

static void record_begin(struct kbs_call *call, const struct reg *r, const char *kind,
                         struct kbs_record *ret)
{
    char sid[33];
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_sha256(kbs_buf_span(&r->decision.policy), digest);
    kbs_hex_cstr(kbs_span(r->session.sid, sizeof(r->session.sid)), sid, sizeof(sid));
    kbs_record_init(ret, kind);
    kbs_record_str(ret, "session", sid);
    kbs_record_text(ret, "name", r->path);
    kbs_record_str(ret, "tee", kbs_tee_name(r->session.tee));
    kbs_record_str(ret, "binding", kbs_binding_name(r->session.binding));
    kbs_record_hex(ret, "policy", kbs_span(digest, sizeof(digest)));
    kbs_record_hex(ret, "identity", kbs_span(r->owner.identity, sizeof(r->owner.identity)));
    kbs_record_text(ret, "peer", call->req->peer);
}

static void record_step(const struct reg *r, const struct step *s, struct kbs_record *ret)
{
    kbs_record_hex(ret, "order", kbs_span(s->order, sizeof(s->order)));
    if (r->there) {
        kbs_record_u64(ret, "from", r->now.value);
    }
    kbs_record_u64(ret, "value", s->value);
    kbs_record_hex(ret, "digest", kbs_span(s->digest, s->digest_len));
}

/* Records why not, keeping the cause unless the record fails. Always -1. */
static int ended(struct kbs_call *call, const struct reg *r, const struct step *s, const char *kind,
                 struct kbs_error *err)
{
    struct kbs_error failed = KBS_ERROR_NONE;
    struct kbs_record record;

    record_begin(call, r, kind, &record);
    if (s != NULL) {
        record_step(r, s, &record);
    }
    kbs_record_str(&record, "category", kbs_category_name(err->category));
    kbs_record_str(&record, "reason", err->detail);
    if (kbs_api_ledger_append(call->api, &record, NULL, &failed) != 0) {
        *err = failed;
    }
    kbs_record_deinit(&record);
    return -1;
}

/* ---- whose it is, and what there is ---- */

static int reg_decide(struct kbs_call *call, struct reg *r, struct kbs_error *err)
{
    if (kbs_decision_load(&r->decision, r->path, 0, err) != 0) {
        return -1;
    }
    if (kbs_decide(&r->decision, err) != 0) {
        return kbs_decision_to_record(err) ? ended(call, r, NULL, "register-denied", err) : -1;
    }
    kbs_decision_owner(&r->decision, &r->owner);
    return 0;
}

static int reg_look(struct kbs_call *call, struct reg *r, struct kbs_error *err)
{
    r->there = kbs_store_register_get(call->api->store, &r->owner, &r->now, err) == 0;
    if (!r->there) {
        if (err->category != KBS_MISSING) {
            return -1;
        }
        *err = KBS_ERROR_NONE;
    }
    return 0;
}

/* From the request to the value that there is. */
static int reg_open(struct kbs_call *call, struct reg *r, struct kbs_error *err)
{
    static const char *const none[] = {NULL};

    if (kbs_session_attested(call, &r->session, err) != 0 ||
        kbs_request_query_only(call->req, none, err) != 0 ||
        kbs_request_path(call, &r->path, err) != 0) {
        return -1;
    }
    r->decision.keeps = KBS_KEEPS_REGISTER;
    r->decision.how = (struct kbs_circumstances){.session = &r->session,
                                                 .plugin = "register",
                                                 .method = "POST",
                                                 .target = call->req->target,
                                                 .now_s = call->now_s};
    return reg_decide(call, r, err) == 0 ? reg_look(call, r, err) : -1;
}

static struct reg reg(struct kbs_call *call)
{
    return (struct reg){.decision = KBS_DECISION(call->api), .session = KBS_SESSION_NULL};
}

static void reg_deinit(struct reg *r)
{
    kbs_decision_deinit(&r->decision);
    kbs_session_deinit(&r->session);
}

static int answer(struct kbs_call *call, uint64_t value, struct kbs_span digest,
                  struct kbs_error *err)
{
    struct kbs_buf *out = &call->answer->body;

    kbs_buf_printf(out, "{\"value\":%llu,\"digest\":\"", (unsigned long long)value);
    kbs_base64url_put(out, digest);
    kbs_buf_put_str(out, "\"}");
    return kbs_buf_check(out, "answer", err);
}

/* ---- GET ---- */

static int check(struct kbs_call *call, const struct reg *r, struct kbs_error *err)
{
    struct kbs_wire_result result = {.category = KBS_OK};
    const struct kbs_wire_register_check order = {
        .name = r->path,
        .binding = kbs_span(r->owner.identity, sizeof(r->owner.identity)),
        .value = r->now.value,
        .digest = kbs_span(r->now.digest, r->now.digest_len),
        .mark = kbs_span(r->now.mark, sizeof(r->now.mark))};

    if (kbs_token_order(call, KBS_WIRE_REGISTER_CHECK, &order, &result, err) == 0) {
        return 0;
    }
    return kbs_decision_to_record(err) ? ended(call, r, NULL, "register-denied", err) : -1;
}

int kbs_api_register_get(struct kbs_call *call, struct kbs_error *err)
{
    struct reg r = reg(call);
    int rc = reg_open(call, &r, err);

    if (rc == 0 && !r.there) {
        rc = kbs_fail(err, KBS_MISSING, "this guest has no value in the register yet");
    }
    if (rc == 0) {
        rc = check(call, &r, err);
    }
    if (rc == 0) {
        rc = answer(call, r.now.value, kbs_span(r.now.digest, r.now.digest_len), err);
    }
    reg_deinit(&r);
    return rc;
}

/* ---- POST ---- */

static int number_get(const json_t *body, const char *name, uint64_t *ret, struct kbs_error *err)
{
    int64_t v = 0;

    if (kbs_json_get_integer(body, name, &v, err) != 0) {
        return -1;
    }
    *ret = (uint64_t)v;
    return v >= 0 ? 0 : kbs_fail(err, KBS_INPUT, "\"%s\" is negative", name);
}

static int digest_get(const json_t *body, struct step *s, struct kbs_error *err)
{
    struct kbs_buf bytes = KBS_BUF(sizeof(s->digest));
    struct kbs_span text = KBS_SPAN_EMPTY;
    int rc = kbs_json_opt_string(body, "digest", &text, err);

    if (rc == 0 && kbs_base64url_get(&bytes, text) != 0) {
        rc = kbs_fail(err, KBS_INPUT, "\"digest\" is not base64url of at most %zu bytes",
                      sizeof(s->digest));
    }
    if (rc == 0 && bytes.len != 0) {
        memcpy(s->digest, bytes.p, bytes.len);
        s->digest_len = bytes.len;
    }
    kbs_buf_deinit(&bytes);
    return rc;
}

static int step_get(struct kbs_call *call, struct step *s, struct kbs_error *err)
{
    static const char *const members[] = {"expected", "value", "digest", NULL};
    const json_t *expected = NULL;
    KBS_AUTO_JSON body = NULL;

    if (kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &body, err) != 0 ||
        kbs_json_only(body, members, err) != 0 || number_get(body, "value", &s->value, err) != 0 ||
        digest_get(body, s, err) != 0) {
        return -1;
    }
    expected = json_object_get(body, "expected");
    s->has_expected = expected != NULL && !json_is_null(expected);
    if (expected == NULL) {
        return kbs_fail(err, KBS_INPUT, "\"expected\" is the value that there is, or null");
    }
    return s->has_expected ? number_get(body, "expected", &s->expected, err) : 0;
}

/* The compare of compare-and-set, said to the guest; the store does it once more. */
static int step_fits(const struct reg *r, const struct step *s, struct kbs_error *err)
{
    if (!r->there) {
        return !s->has_expected
                   ? 0
                   : kbs_fail(err, KBS_CONFLICT, "this guest has no value in the register yet");
    }
    if (!s->has_expected || s->expected != r->now.value) {
        return kbs_fail(err, KBS_CONFLICT, "the register is at %llu",
                        (unsigned long long)r->now.value);
    }
    return s->value > r->now.value
               ? 0
               : kbs_fail(err, KBS_CONFLICT, "the register is at %llu, and only grows",
                          (unsigned long long)r->now.value);
}

static int step_order(struct kbs_call *call, const struct reg *r, const struct step *s,
                      struct kbs_store_register *ret, struct kbs_error *err)
{
    struct kbs_wire_result result = {.category = KBS_OK};
    const struct kbs_wire_register_set order = {
        .order = kbs_span(s->order, sizeof(s->order)),
        .name = r->path,
        .binding = kbs_span(r->owner.identity, sizeof(r->owner.identity)),
        .old_value = r->there ? r->now.value : 0,
        .old_digest = kbs_span(r->now.digest, r->there ? r->now.digest_len : 0),
        .old_mark = kbs_span(r->now.mark, r->there ? sizeof(r->now.mark) : 0),
        .value = s->value,
        .digest = kbs_span(s->digest, s->digest_len)};

    *ret = (struct kbs_store_register){
        .value = s->value, .digest_len = s->digest_len, .changed_s = call->now_s};
    memcpy(ret->digest, s->digest, s->digest_len);
    if (kbs_token_order(call, KBS_WIRE_REGISTER_SET, &order, &result, err) != 0) {
        return -1;
    }
    if (result.body.len != sizeof(ret->mark)) {
        return kbs_fail(err, KBS_INTERNAL, "the token's answer is not a mark");
    }
    memcpy(ret->mark, result.body.p, sizeof(ret->mark));
    return 0;
}

static int step_keep(struct kbs_call *call, const struct reg *r,
                     const struct kbs_store_register *next, struct kbs_error *err)
{
    struct kbs_store *store = call->api->store;
    int rc = r->there
                 ? kbs_store_register_step(store, &r->owner, &r->now, next, err)
                 : kbs_store_register_add(store, &r->owner, next, r->decision.terms.quota, err);

    if (rc != 0 && err->category == KBS_LIMITED) {
        return kbs_fail(err, KBS_DENIED, "the policy's quota of guests is used up");
    }
    return rc;
}

/* Recorded, marked (the token records its deed), written; in this order. */
static int step_do(struct kbs_call *call, const struct reg *r, struct step *s,
                   struct kbs_error *err)
{
    struct kbs_store_register next;
    struct kbs_record record;
    int rc = kbs_api_ledger_settle(call->api, err);

    if (rc != 0) {
        return -1;
    }
    kbs_random(s->order, sizeof(s->order));
    record_begin(call, r, "register", &record);
    record_step(r, s, &record);
    rc = kbs_api_ledger_append(call->api, &record, NULL, err);
    kbs_record_deinit(&record);
    if (rc != 0) {
        return -1;
    }
    return step_order(call, r, s, &next, err) == 0 && step_keep(call, r, &next, err) == 0
               ? 0
               : ended(call, r, s, "register-failed", err);
}

int kbs_api_register_set(struct kbs_call *call, struct kbs_error *err)
{
    struct step step = {.value = 0};
    struct reg r = reg(call);
    int rc = reg_open(call, &r, err);

    if (rc == 0) {
        rc = step_get(call, &step, err);
    }
    if (rc == 0) {
        rc = step_fits(&r, &step, err);
    }
    if (rc == 0) {
        rc = step_do(call, &r, &step, err);
    }
    if (rc == 0) {
        rc = answer(call, step.value, kbs_span(step.digest, step.digest_len), err);
    }
    reg_deinit(&r);
    return rc;
}
