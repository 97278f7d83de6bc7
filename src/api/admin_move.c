/*
 * Moving what stands under old versions of a wrapping or seal key to the newest one.
 *
 * The problem: ten thousand wrapped keys stand under a wrapping key that is to go, and the move may
 * be interrupted anywhere. The approach: batches. A batch is one mutation: every key of it is
 * unwrapped and wrapped again in the token, all rows are signed, and one transaction puts them in
 * place; until then nothing has changed. What is left for the next batch is seen from the rows'
 * cards, so there is no state to resume from. A slow token gets smaller batches: when half of the
 * request's time is gone no further key is begun, since the rows are still to be signed. Secrets
 * and the seal key are moved alike; what differs is the order and what it answers.
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

/*
 * What is moved. Its row keeps the request that it has: who may destroy a key, and when, was said
 * there, and a move changes nothing of it.
 */
struct item {
    struct kbs_key key;
    struct kbs_buf policy;
    struct kbs_buf request;
    struct kbs_buf sealed; /* of a secret */
};

struct batch;

/* How the things of one kind are moved. */
struct mover {
    const struct kbs_rotating *key; /* what they stand under */
    const char *pattern;
    const char *op;   /* of its orders, as a deed says it */
    const char *done; /* member of the answer */
    int limit;        /* per request */
    int (*gather)(struct kbs_store *s, const struct kbs_store_below *below,
                  kbs_store_key_each *each, void *ctx, struct kbs_error *err);
    int (*ask)(struct batch *b, const struct item *item, struct kbs_span order,
               struct kbs_wire_result *ret, struct kbs_error *err);
    int (*take)(struct item *item, struct kbs_span body, struct kbs_error *err);
};

struct batch {
    const struct mover *mover;
    struct kbs_mutation m;
    struct kbs_store_below below;
    bool dry_run;
    uint64_t older;     /* how many stand under older versions, before */
    struct item *items; /* owned, and so are the rows */
    struct kbs_store_row *rows;
    size_t count;    /* gathered */
    size_t done;     /* moved, with a row each */
    json_t *refused; /* those that could not be; owned */
    bool failed;     /* memory ran out while it was gathered */
};

/* ---- what is moved ---- */

static int batch_parse(struct kbs_call *call, struct batch *b, struct kbs_error *err)
{
    static const char *const members[] = {"limit", "skip", "dry_run", NULL};
    const int max = b->mover->limit;
    int64_t limit = max;
    int64_t skip = 0;
    const json_t *dry_run = NULL;
    KBS_AUTO_JSON body = NULL;

    b->below.limit = (unsigned int)max;
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
    if (limit < 1 || limit > max) {
        return kbs_fail(err, KBS_INPUT, "'limit' must be 1 to %d", max);
    }
    if (skip < 0 || skip > INT32_MAX) {
        return kbs_fail(err, KBS_INPUT, "'skip' must be 0 to %d", INT32_MAX);
    }
    if (dry_run != NULL && !json_is_boolean(dry_run)) {
        return kbs_fail(err, KBS_INPUT, "'dry_run' must be true or false");
    }
    b->below.limit = (unsigned int)limit;
    b->below.skip = (unsigned int)skip;
    b->dry_run = json_is_true(dry_run);
    return 0;
}

static void batch_each(void *ctx, const struct kbs_key *key, const struct kbs_store_texts *texts)
{
    struct batch *b = ctx;

    if (b->count < b->below.limit) {
        struct item *item = &b->items[b->count];

        item->key = *key;
        item->policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
        item->request = KBS_BUF(KBS_LIMIT_APPROVAL_REQUEST_BYTES);
        item->sealed = KBS_BUF(2 * KBS_LIMIT_SECRET_VALUE_BYTES);
        kbs_buf_put_span(&item->policy, texts->policy);
        kbs_buf_put_span(&item->request, texts->request);
        kbs_buf_put_span(&item->sealed, texts->sealed);
        b->failed = b->failed || item->policy.failed || item->request.failed || item->sealed.failed;
        b->count++;
    }
}

/* The oldest, and how many there are. */
static int batch_gather(struct batch *b, struct kbs_error *err)
{
    struct kbs_store *store = b->m.api->store;
    uint64_t newest = 0;

    b->below.version = b->m.wrap_version;
    b->items = calloc(b->below.limit, sizeof(*b->items));
    b->rows = calloc(b->below.limit, sizeof(*b->rows));
    b->refused = json_array();
    if (b->items == NULL || b->rows == NULL || b->refused == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (kbs_rotating_count(b->mover->key, store, b->m.wrap_version, &newest, &b->older, err) != 0 ||
        b->mover->gather(store, &b->below, batch_each, b, err) != 0) {
        return -1;
    }
    return b->failed ? kbs_fail(err, KBS_INTERNAL, "out of memory") : 0;
}

static void batch_deinit(struct batch *b)
{
    for (size_t i = 0; i < b->count; i++) {
        kbs_buf_deinit(&b->items[i].policy);
        kbs_buf_deinit(&b->items[i].request);
        kbs_buf_deinit(&b->items[i].sealed);
    }
    free(b->items);
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
    kbs_record_str(&r, "op", b->mover->op);
    kbs_record_str(&r, "kid", kid);
    if (why != NULL) {
        kbs_record_str(&r, "category", kbs_category_name(why->category));
        kbs_record_str(&r, "reason", why->detail);
    }
    rc = kbs_api_ledger_append(b->m.api, &r, NULL, err);
    kbs_record_deinit(&r);
    return rc;
}

static int rewrap_ask(struct batch *b, const struct item *item, struct kbs_span order_id,
                      struct kbs_wire_result *ret, struct kbs_error *err)
{
    const struct kbs_wire_rewrap_catalog order = {
        .order = order_id, .card = kbs_key_card(&item->key), .blob = kbs_key_blob(&item->key)};

    return kbs_mutation_order(&b->m, KBS_WIRE_REWRAP_CATALOG, &order, ret, err);
}

static int rewrap_take(struct item *item, struct kbs_span body, struct kbs_error *err)
{
    return kbs_made_take(body, &item->key, err);
}

static int reseal_ask(struct batch *b, const struct item *item, struct kbs_span order_id,
                      struct kbs_wire_result *ret, struct kbs_error *err)
{
    char kid[KBS_LIMIT_KID_BYTES + 1];
    const struct kbs_wire_reseal order = {.order = order_id,
                                          .kid = kbs_span(kid, kbs_key_kid(&item->key, kid)),
                                          .card = kbs_key_card(&item->key),
                                          .sealed = kbs_buf_span(&item->sealed)};

    return kbs_mutation_order(&b->m, KBS_WIRE_RESEAL, &order, ret, err);
}

static int reseal_take(struct item *item, struct kbs_span body, struct kbs_error *err)
{
    kbs_buf_clear(&item->sealed);
    return kbs_made_secret(body, &item->key, &item->sealed, err);
}

/* What the token made of it is as it was ordered, and stands where it should. */
static int move_take(struct batch *b, struct item *item, struct kbs_span body,
                     struct kbs_error *err)
{
    if (b->mover->take(item, body, err) != 0) {
        return -1;
    }
    return item->key.card.wrap_version == b->m.wrap_version
               ? 0
               : kbs_fail(err, KBS_INTERNAL, "the token used another version of the %s",
                          b->mover->key->what);
}

static bool same_check_value(const struct kbs_key *a, const struct kbs_key *b)
{
    return a->kcv_mac == b->kcv_mac && memcmp(a->kcv, b->kcv, sizeof(a->kcv)) == 0;
}

/* It is the fault of what was to be moved, not the lane's. */
static bool refused_for_itself(const struct batch *b, const struct kbs_error *why)
{
    return b->m.api->must_exit == KBS_EXIT_OK && why->category != KBS_BUSY &&
           why->category != KBS_TOKEN_DOWN && why->category != KBS_DEADLINE;
}

/* It stays as it is. */
static int move_refused(struct batch *b, const struct kbs_key *key, struct kbs_span order,
                        const struct kbs_error *why, struct kbs_error *err)
{
    json_t *one = json_pack("{s:s, s:I, s:s}", "path", key->path, "version",
                            (json_int_t)key->version, "reason", why->detail);

    if (json_array_append_new(b->refused, one) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    return part_record(b, "order-failed", key, order, why, err);
}

static int move_one(struct batch *b, struct item *item, struct kbs_error *err)
{
    struct kbs_wire_result result = {.category = KBS_OK};
    struct kbs_error why = KBS_ERROR_NONE;
    uint8_t order_id[KBS_LIMIT_ORDER_BYTES];
    struct kbs_span order = kbs_span(order_id, sizeof(order_id));
    const struct kbs_key was = item->key;

    kbs_random(order_id, sizeof(order_id));
    if (kbs_row_check(b->m.api, &was, kbs_buf_span(&item->policy), err) != 0 ||
        part_record(b, "order", &was, order, NULL, err) != 0) {
        return -1;
    }
    if (b->mover->ask(b, item, order, &result, &why) != 0) {
        if (refused_for_itself(b, &why)) {
            return move_refused(b, &was, order, &why, err);
        }
        return kbs_fail(err, why.category, "%.80s/v%u: %.90s", was.path, (unsigned int)was.version,
                        why.detail);
    }
    if (move_take(b, item, result.body, err) != 0) {
        return -1;
    }
    if (!same_check_value(&was, &item->key)) {
        (void)kbs_fail(&why, KBS_CONFLICT, "the key has another check value than its row");
        return move_refused(b, &was, order, &why, err);
    }
    b->rows[b->done++] = (struct kbs_store_row){.key = &item->key,
                                                .policy = kbs_buf_span(&item->policy),
                                                .request = kbs_buf_span(&item->request),
                                                .sealed = kbs_buf_span(&item->sealed)};
    return 0;
}

/* Nothing was moved, and there is nothing else to be moved. */
static int move_none(const struct batch *b, struct kbs_error *err)
{
    const json_t *first = json_array_get(b->refused, 0);

    if (b->done > 0 || json_array_size(b->refused) == 0 || json_array_size(b->refused) < b->older) {
        return 0;
    }
    return kbs_fail(err, KBS_CONFLICT, "%llu %s cannot be moved, the first is %.80s/v%lld: %.80s",
                    (unsigned long long)b->older, b->mover->key->holds,
                    json_string_value(json_object_get(first, "path")),
                    (long long)json_integer_value(json_object_get(first, "version")),
                    json_string_value(json_object_get(first, "reason")));
}

/* From intent to outcome. */
static int move_batch(struct batch *b, struct kbs_error *err)
{
    uint64_t now_ns = kbs_clock_mono_ns();
    uint64_t deadline_ns = b->m.call->deadline_ns;
    uint64_t stop_ns = now_ns + (deadline_ns > now_ns ? (deadline_ns - now_ns) / 2 : 0);
    struct kbs_record r;

    kbs_mutation_record(&b->m, KBS_PHASE_INTENT, &r);
    kbs_record_u64(&r, b->mover->key->holds, b->count);
    if (kbs_mutation_intent(&b->m, &r, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < b->count && (i == 0 || kbs_clock_mono_ns() < stop_ns); i++) {
        if (move_one(b, &b->items[i], err) != 0) {
            return kbs_mutation_failed(&b->m, "failed", err);
        }
    }
    if (move_none(b, err) != 0 ||
        kbs_mutation_commit(&b->m, b->rows, b->done, b->done > 0, err) != 0) {
        return kbs_mutation_failed(&b->m, "failed", err);
    }
    kbs_mutation_record(&b->m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    kbs_record_u64(&r, b->mover->key->holds, b->done);
    kbs_record_u64(&r, "failed", json_array_size(b->refused));
    return kbs_mutation_done(&b->m, &r, err);
}

static int move_run(struct kbs_call *call, struct batch *b, struct kbs_error *err)
{
    static const char *const no_names[] = {NULL};

    if (kbs_admin_verify(call, "POST", b->mover->pattern, true, &b->m.admin, &b->m.sequence, err) !=
            0 ||
        kbs_request_query_only(call->req, no_names, err) != 0 || batch_parse(call, b, err) != 0 ||
        kbs_rotating_begin(&b->m, err) != 0) {
        return -1;
    }
    b->m.wrap_version = kbs_rotating_newest(b->mover->key, call->api);
    if (batch_gather(b, err) != 0) {
        return -1;
    }
    if (b->dry_run) {
        b->done = b->count;
    } else if (b->count != 0 && move_batch(b, err) != 0) {
        return -1;
    }
    kbs_buf_printf(&call->answer->body,
                   "{\"%s\":%zu,\"left\":%llu,\"version\":%u,\"failed\":", b->mover->done, b->done,
                   (unsigned long long)(b->older - b->done), (unsigned int)b->m.wrap_version);
    if (kbs_json_dump(b->refused, &call->answer->body, err) != 0) {
        return -1;
    }
    kbs_buf_put_u8(&call->answer->body, '}');
    return 0;
}

static int move(struct kbs_call *call, const struct mover *mover, struct kbs_error *err)
{
    struct batch b = {.mover = mover, .m = kbs_rotating_mutation(call, mover->key->move, false)};
    int rc = move_run(call, &b, err);

    batch_deinit(&b);
    return rc;
}

int kbs_api_admin_wrapping_rewrap(struct kbs_call *call, struct kbs_error *err)
{
    static const struct mover rewrap = {&kbs_rotating_wrapping,
                                        "/kbs/v0/admin/wrapping-key/rewrap",
                                        "rewrap",
                                        "rewrapped",
                                        KBS_LIMIT_REWRAP_BATCH,
                                        kbs_store_key_wrapped,
                                        rewrap_ask,
                                        rewrap_take};

    return move(call, &rewrap, err);
}

int kbs_api_admin_seal_reseal(struct kbs_call *call, struct kbs_error *err)
{
    static const struct mover reseal = {
        &kbs_rotating_seal,     "/kbs/v0/admin/seal-key/reseal", "reseal",   "resealed",
        KBS_LIMIT_RESEAL_BATCH, kbs_store_secret_sealed,         reseal_ask, reseal_take};

    return move(call, &reseal, err);
}
