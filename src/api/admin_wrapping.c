/*
 * The wrapping key: its versions, and moving keys from old ones to the newest.
 *
 * The problem: ten thousand wrapped keys stand under a wrapping key that is to go, and the move may
 * be interrupted anywhere. The approach: batches. A batch is one mutation: every key of it is
 * unwrapped and wrapped again in the token, all rows are signed, and one transaction puts them in
 * place; until then nothing has changed. What is left for the next batch is seen from the rows'
 * cards, so there is no state to resume from. A slow token gets smaller batches: when half of the
 * request's time is gone no further key is begun, since the rows are still to be signed.
 *
 * A key that cannot be moved does not hold up the others. One that the token cannot open, or whose
 * check value is not the one that its row was signed with, stays as it is, under the old wrapping
 * key, which cannot be destroyed as long: it is named in the answer and in the ledger, because
 * something is wrong that a person should see. What is wrong with the lane, the ledger or a row's
 * signature fails the whole batch. Whoever goes on says how many such keys to skip: they are the
 * first in an order that does not change.
 *
 * Each of a batch's orders has a record of its own (`order`), durable before the token is asked: a
 * worker whose deed cannot be written writes it later, and then an order must be there for it.
 */
#include "api/context.h"

#include <stdlib.h>

#include "base/random.h"

#define SHOW_PATTERN "/kbs/v0/admin/wrapping-key"

static const char *const no_names[] = {NULL};

/* ---- show ---- */

struct counts {
    struct kbs_buf *out;
    uint32_t version; /* counted apart from the others; 0: none */
    uint64_t of_version;
    uint64_t below; /* under versions before it */
    bool first;
};

static void count_each(void *ctx, uint32_t version, uint64_t keys)
{
    struct counts *c = ctx;

    c->of_version += version == c->version ? keys : 0;
    c->below += version < c->version ? keys : 0;
    if (c->out != NULL) {
        kbs_buf_printf(c->out, "%s\"%u\":%llu", c->first ? "" : ",", (unsigned int)version,
                       (unsigned long long)keys);
        c->first = false;
    }
}

static int wrapping_put(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_buf *out = &call->answer->body;
    struct counts c = {.out = out, .first = true};

    kbs_buf_printf(out, "{\"version\":%u,\"keys\":{", (unsigned int)call->api->token.wrap_version);
    if (kbs_store_key_wrap_count(call->api->store, count_each, &c, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(out, "}}");
    return 0;
}

int kbs_api_admin_wrapping_show(struct kbs_call *call, struct kbs_error *err)
{
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", SHOW_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_names, err) != 0) {
        return -1;
    }
    return wrapping_put(call, err);
}

/* ---- a new one, and an old one that goes ---- */

static struct kbs_mutation wrapping_mutation(struct kbs_call *call, const char *kind,
                                             bool has_order)
{
    return (struct kbs_mutation){.api = call->api,
                                 .call = call,
                                 .kind = kind,
                                 .request = call->req->signature,
                                 .has_order = has_order};
}

static int wrapping_begin(struct kbs_mutation *m, struct kbs_error *err)
{
    return kbs_mutation_begin(m, err) != 0 ? -1 : kbs_token_wrap_version(m->api, err);
}

/* One order about a wrapping key, in a mutation without rows. */
static int wrapping_change(struct kbs_mutation *m, enum kbs_wire_type type, const void *order,
                           struct kbs_error *err)
{
    struct kbs_wire_result result = {.category = KBS_OK};
    struct kbs_record r;

    kbs_mutation_record(m, KBS_PHASE_INTENT, &r);
    if (kbs_mutation_intent(m, &r, err) != 0) {
        return -1;
    }
    if (kbs_mutation_order(m, type, order, &result, err) != 0) {
        return kbs_mutation_refused(m, err);
    }
    if (type == KBS_WIRE_GENERATE) { /* it is there, whatever becomes of the rest */
        m->api->token.wrap_version = m->wrap_version;
    }
    if (kbs_mutation_commit(m, NULL, 0, false, err) != 0) {
        return kbs_mutation_failed(m, type == KBS_WIRE_GENERATE ? "orphan" : "gone", err);
    }
    kbs_mutation_record(m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    if (kbs_mutation_done(m, &r, err) != 0) {
        return -1;
    }
    return wrapping_put(m->call, err);
}

int kbs_api_admin_wrapping_rotate(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_mutation m = wrapping_mutation(call, "wrapping-key-generate", true);
    uint8_t id[KBS_KEY_ID_BYTES];

    if (kbs_admin_verify(call, "POST", SHOW_PATTERN "/rotate", true, &m.admin, &m.sequence, err) !=
            0 ||
        kbs_request_query_only(call->req, no_names, err) != 0 || wrapping_begin(&m, err) != 0) {
        return -1;
    }
    m.wrap_version = call->api->token.wrap_version + 1;
    kbs_service_key_id(KBS_PURPOSE_WRAP_CATALOG, id);
    const struct kbs_wire_generate order = {.order = kbs_span(m.order, sizeof(m.order)),
                                            .purpose = KBS_PURPOSE_WRAP_CATALOG,
                                            .key_id = kbs_span(id, sizeof(id)),
                                            .key_version = m.wrap_version};
    return wrapping_change(&m, KBS_WIRE_GENERATE, &order, err);
}

/* Only one that is old, and that nothing stands under. */
static int destroy_allowed(struct kbs_call *call, uint32_t version, struct kbs_error *err)
{
    struct counts c = {.version = version};
    uint32_t newest = call->api->token.wrap_version;

    if (version == newest) {
        return kbs_fail(err, KBS_CONFLICT, "version %u is the newest wrapping key",
                        (unsigned int)version);
    }
    if (version > newest) {
        return kbs_fail(err, KBS_MISSING, "there is no version %u of the wrapping key",
                        (unsigned int)version);
    }
    if (kbs_store_key_wrap_count(call->api->store, count_each, &c, err) != 0) {
        return -1;
    }
    if (c.of_version != 0) {
        return kbs_fail(err, KBS_CONFLICT, "%llu keys stand under version %u, see rewrap",
                        (unsigned long long)c.of_version, (unsigned int)version);
    }
    return 0;
}

int kbs_api_admin_wrapping_destroy(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const names[] = {"version", NULL};
    struct kbs_mutation m = wrapping_mutation(call, "wrapping-key-destroy", true);

    if (kbs_admin_verify(call, "DELETE", SHOW_PATTERN, true, &m.admin, &m.sequence, err) != 0 ||
        kbs_request_query_only(call->req, names, err) != 0 ||
        kbs_request_version(call->req, &m.wrap_version, err) != 0) {
        return -1;
    }
    if (m.wrap_version == 0) {
        return kbs_fail(err, KBS_INPUT, "version must say which wrapping key");
    }
    if (wrapping_begin(&m, err) != 0 || destroy_allowed(call, m.wrap_version, err) != 0) {
        return -1;
    }
    const struct kbs_wire_destroy order = {.order = kbs_span(m.order, sizeof(m.order)),
                                           .purpose = KBS_PURPOSE_WRAP_CATALOG,
                                           .key_version = m.wrap_version};
    return wrapping_change(&m, KBS_WIRE_DESTROY, &order, err);
}

/* ---- rewrap ---- */

/*
 * A key of a batch. Its row keeps the request that it has: who may destroy a key, and when, was
 * said there, and a rewrap changes nothing of it.
 */
struct wrapped {
    struct kbs_key key;
    struct kbs_buf policy;
    struct kbs_buf request;
};

struct batch {
    struct kbs_mutation m;
    unsigned int limit;
    unsigned int skip;
    bool dry_run;
    uint64_t older;          /* keys under older versions, before */
    struct wrapped *wrapped; /* owned, and so are the rows */
    struct kbs_store_row *rows;
    size_t count;    /* gathered */
    size_t done;     /* rewrapped, with a row each */
    json_t *refused; /* the keys that could not be; owned */
    bool failed;     /* memory ran out while it was gathered */
};

static int batch_parse(struct kbs_call *call, struct batch *b, struct kbs_error *err)
{
    static const char *const members[] = {"limit", "skip", "dry_run", NULL};
    int64_t limit = KBS_LIMIT_REWRAP_BATCH;
    int64_t skip = 0;
    const json_t *dry_run = NULL;
    KBS_AUTO_JSON body = NULL;

    b->limit = KBS_LIMIT_REWRAP_BATCH;
    if (call->req->body.len == 0) {
        return 0;
    }
    if (kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &body, err) != 0 ||
        kbs_json_only(body, members, err) != 0 ||
        (json_object_get(body, "limit") != NULL &&
         kbs_json_get_integer(body, "limit", &limit, err) != 0) ||
        (json_object_get(body, "skip") != NULL &&
         kbs_json_get_integer(body, "skip", &skip, err) != 0)) {
        return -1;
    }
    dry_run = json_object_get(body, "dry_run");
    if (limit < 1 || limit > KBS_LIMIT_REWRAP_BATCH) {
        return kbs_fail(err, KBS_INPUT, "'limit' must be 1 to %d", KBS_LIMIT_REWRAP_BATCH);
    }
    if (skip < 0 || skip > INT32_MAX) {
        return kbs_fail(err, KBS_INPUT, "'skip' must be 0 to %d", INT32_MAX);
    }
    if (dry_run != NULL && !json_is_boolean(dry_run)) {
        return kbs_fail(err, KBS_INPUT, "'dry_run' must be true or false");
    }
    b->limit = (unsigned int)limit;
    b->skip = (unsigned int)skip;
    b->dry_run = json_is_true(dry_run);
    return 0;
}

static void batch_each(void *ctx, const struct kbs_key *key, const struct kbs_store_texts *texts)
{
    struct batch *b = ctx;

    if (b->count < b->limit) {
        struct wrapped *w = &b->wrapped[b->count];

        w->key = *key;
        w->policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
        w->request = KBS_BUF(KBS_LIMIT_HTTP_HEAD_BYTES);
        kbs_buf_put_span(&w->policy, texts->policy);
        kbs_buf_put_span(&w->request, texts->request);
        b->failed = b->failed || w->policy.failed || w->request.failed;
        b->count++;
    }
}

/* The oldest keys, and how many there are. */
static int batch_gather(struct batch *b, struct kbs_error *err)
{
    struct kbs_store *store = b->m.api->store;
    struct counts c = {.version = b->m.wrap_version};

    b->wrapped = calloc(b->limit, sizeof(*b->wrapped));
    b->rows = calloc(b->limit, sizeof(*b->rows));
    b->refused = json_array();
    if (b->wrapped == NULL || b->rows == NULL || b->refused == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (kbs_store_key_wrap_count(store, count_each, &c, err) != 0 ||
        kbs_store_key_wrapped(store, b->m.wrap_version, b->skip, b->limit, batch_each, b, err) !=
            0) {
        return -1;
    }
    b->older = c.below;
    return b->failed ? kbs_fail(err, KBS_INTERNAL, "out of memory") : 0;
}

static void batch_deinit(struct batch *b)
{
    for (size_t i = 0; i < b->count; i++) {
        kbs_buf_deinit(&b->wrapped[i].policy);
        kbs_buf_deinit(&b->wrapped[i].request);
    }
    free(b->wrapped);
    free(b->rows);
    json_decref(b->refused);
}

/* A record about one order of the batch. */
static int part_record(struct batch *b, const char *kind, const struct kbs_key *key,
                       struct kbs_span order, const struct kbs_error *why, struct kbs_error *err)
{
    char kid[KBS_LIMIT_KID_BYTES + 1];
    struct kbs_record r;
    int rc = 0;

    (void)kbs_key_kid(key, kid);
    kbs_record_init(&r, kind);
    kbs_record_hex(&r, "order", order);
    kbs_record_u64(&r, "intent", b->m.intent);
    kbs_record_str(&r, "op", "rewrap");
    kbs_record_str(&r, "kid", kid);
    if (why != NULL) {
        kbs_record_str(&r, "category", kbs_category_name(why->category));
        kbs_record_str(&r, "reason", why->detail);
    }
    rc = kbs_api_ledger_append(b->m.api, &r, NULL, err);
    kbs_record_deinit(&r);
    return rc;
}

static int rewrap_ask(struct batch *b, const struct kbs_key *key, struct kbs_span order_id,
                      struct kbs_wire_result *ret, struct kbs_error *err)
{
    const struct kbs_wire_rewrap_catalog order = {
        .order = order_id, .card = kbs_key_card(key), .blob = kbs_key_blob(key)};

    return kbs_mutation_order(&b->m, KBS_WIRE_REWRAP_CATALOG, &order, ret, err);
}

/* What the token made of it: everything but blob and wrapping key is as it was ordered. */
static int rewrap_take(struct kbs_key *key, struct kbs_span made, uint32_t version,
                       struct kbs_error *err)
{
    if (kbs_made_take(made, key, err) != 0) {
        return -1;
    }
    if (key->card.wrap_version != version) {
        return kbs_fail(err, KBS_INTERNAL, "the token wrapped under another wrapping key");
    }
    return 0;
}

static bool same_check_value(const struct kbs_key *a, const struct kbs_key *b)
{
    return a->kcv_mac == b->kcv_mac && memcmp(a->kcv, b->kcv, sizeof(a->kcv)) == 0;
}

/* It is the key's fault, not the lane's. */
static bool refused_for_itself(const struct batch *b, const struct kbs_error *why)
{
    return b->m.api->must_exit == KBS_EXIT_OK && why->category != KBS_BUSY &&
           why->category != KBS_TOKEN_DOWN && why->category != KBS_DEADLINE;
}

/* The key stays as it is. */
static int rewrap_refused(struct batch *b, const struct kbs_key *key, struct kbs_span order,
                          const struct kbs_error *why, struct kbs_error *err)
{
    json_t *one = json_pack("{s:s, s:I, s:s}", "path", key->path, "version",
                            (json_int_t)key->version, "reason", why->detail);

    if (json_array_append_new(b->refused, one) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    return part_record(b, "order-failed", key, order, why, err);
}

static int rewrap_one(struct batch *b, size_t i, struct kbs_error *err)
{
    struct kbs_wire_result result = {.category = KBS_OK};
    struct kbs_error why = KBS_ERROR_NONE;
    uint8_t order_id[KBS_LIMIT_ORDER_BYTES];
    struct kbs_span order = kbs_span(order_id, sizeof(order_id));
    struct wrapped *w = &b->wrapped[i];
    struct kbs_key was = w->key;

    if (kbs_row_check(b->m.api, &w->key, kbs_buf_span(&w->policy), err) != 0) {
        return -1;
    }
    kbs_random(order_id, sizeof(order_id));
    if (part_record(b, "order", &was, order, NULL, err) != 0) {
        return -1;
    }
    if (rewrap_ask(b, &was, order, &result, &why) != 0) {
        if (refused_for_itself(b, &why)) {
            return rewrap_refused(b, &was, order, &why, err);
        }
        return kbs_fail(err, why.category, "%.80s/v%u: %.90s", was.path, (unsigned int)was.version,
                        why.detail);
    }
    if (rewrap_take(&w->key, result.body, b->m.wrap_version, err) != 0) {
        return -1;
    }
    if (!same_check_value(&was, &w->key)) {
        (void)kbs_fail(&why, KBS_CONFLICT, "the key has another check value than its row");
        return rewrap_refused(b, &was, order, &why, err);
    }
    b->rows[b->done++] = (struct kbs_store_row){
        .key = &w->key, .policy = kbs_buf_span(&w->policy), .request = kbs_buf_span(&w->request)};
    return 0;
}

/* Nothing was moved, and there is nothing else to be moved. */
static int rewrap_none(const struct batch *b, struct kbs_error *err)
{
    const json_t *first = json_array_get(b->refused, 0);

    if (b->done > 0 || json_array_size(b->refused) == 0 || json_array_size(b->refused) < b->older) {
        return 0;
    }
    return kbs_fail(err, KBS_CONFLICT, "%llu keys cannot be moved, the first is %.80s/v%lld: %.80s",
                    (unsigned long long)b->older, json_string_value(json_object_get(first, "path")),
                    (long long)json_integer_value(json_object_get(first, "version")),
                    json_string_value(json_object_get(first, "reason")));
}

/* From intent to outcome. */
static int rewrap_batch(struct batch *b, struct kbs_error *err)
{
    uint64_t now_ns = kbs_clock_mono_ns();
    uint64_t deadline_ns = b->m.call->deadline_ns;
    uint64_t stop_ns = now_ns + (deadline_ns > now_ns ? (deadline_ns - now_ns) / 2 : 0);
    struct kbs_record r;

    kbs_mutation_record(&b->m, KBS_PHASE_INTENT, &r);
    kbs_record_u64(&r, "keys", b->count);
    if (kbs_mutation_intent(&b->m, &r, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < b->count && (i == 0 || kbs_clock_mono_ns() < stop_ns); i++) {
        if (rewrap_one(b, i, err) != 0) {
            return kbs_mutation_failed(&b->m, "failed", err);
        }
    }
    if (rewrap_none(b, err) != 0 ||
        kbs_mutation_commit(&b->m, b->rows, b->done, b->done > 0, err) != 0) {
        return kbs_mutation_failed(&b->m, "failed", err);
    }
    kbs_mutation_record(&b->m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    kbs_record_u64(&r, "keys", b->done);
    kbs_record_u64(&r, "failed", json_array_size(b->refused));
    return kbs_mutation_done(&b->m, &r, err);
}

static int rewrap_run(struct kbs_call *call, struct batch *b, struct kbs_error *err)
{
    if (kbs_admin_verify(call, "POST", SHOW_PATTERN "/rewrap", true, &b->m.admin, &b->m.sequence,
                         err) != 0 ||
        kbs_request_query_only(call->req, no_names, err) != 0 || batch_parse(call, b, err) != 0 ||
        wrapping_begin(&b->m, err) != 0) {
        return -1;
    }
    b->m.wrap_version = call->api->token.wrap_version;
    if (batch_gather(b, err) != 0) {
        return -1;
    }
    if (b->dry_run) {
        b->done = b->count;
    } else if (b->count != 0 && rewrap_batch(b, err) != 0) {
        return -1;
    }
    kbs_buf_printf(&call->answer->body,
                   "{\"rewrapped\":%zu,\"left\":%llu,\"version\":%u,\"failed\":", b->done,
                   (unsigned long long)(b->older - b->done), (unsigned int)b->m.wrap_version);
    if (kbs_json_dump(b->refused, &call->answer->body, err) != 0) {
        return -1;
    }
    kbs_buf_put_u8(&call->answer->body, '}');
    return 0;
}

int kbs_api_admin_wrapping_rewrap(struct kbs_call *call, struct kbs_error *err)
{
    struct batch b = {.m = wrapping_mutation(call, "wrapping-key-rewrap", false)};
    int rc = rewrap_run(call, &b, err);

    batch_deinit(&b);
    return rc;
}
