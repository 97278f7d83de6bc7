/*
 * What happens to a key version after it came to be: policy and floor, disabled, enabled,
 * destroyed.
 *
 * The problem: destroying a key cannot be undone, so it is announced first, and the row that says
 * when is the administrator's word: signed with his request beside it, so that the lane can carry
 * it out later without him (due.c), and nobody else's row can make it do that. The approach: every
 * change begins with the row as it was verified (row.c), changes it as a whole and signs it anew.
 *
 * Destruction asks the token first and writes the row afterwards, and begins with a row that says
 * when, also if that is now: "at once" is two mutations, and after the first no guest gets the key.
 * If we die in between, the row still says so, and the next attempt (due.c) finds that the token has
 * no such key any more, which is as good. What becomes of a wrapped key is told honestly: its blob leaves the row, but copies of the
 * store keep theirs, until the wrapping key that they stand under is destroyed.
 */
#include "api/context.h"

#include <stdio.h>

#define KEY_PATTERN "/kbs/v0/admin/keys/*/*/*"

/* A change of one row. */
struct change {
    struct kbs_mutation m;
    struct kbs_key key;
    struct kbs_buf policy;
    json_t *body; /* owned; NULL if there was none */
};

/* Signature, query, the body's members if it may have one, and which key version. */
static int change_open(struct kbs_call *call, struct change *c, const char *method,
                       const char *pattern, const char *const *members, struct kbs_span *ret_path,
                       uint32_t *ret_version, struct kbs_error *err)
{
    static const char *const query[] = {"version", NULL};
    bool empty = call->req->body.len == 0;

    if (kbs_admin_verify(call, method, pattern, true, &c->m.admin, &c->m.sequence, err) != 0 ||
        kbs_request_query_only(call->req, query, err) != 0 ||
        kbs_request_version(call->req, ret_version, err) != 0 ||
        kbs_request_path(call, ret_path, err) != 0) {
        return -1;
    }
    if (empty) {
        return 0;
    }
    if (kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &c->body, err) != 0) {
        return -1;
    }
    return kbs_json_only(c->body, members, err);
}

/* The row as the store has it, verified, with its state one that can still be changed. */
static int change_begin(struct change *c, struct kbs_span path, uint32_t version,
                        struct kbs_error *err)
{
    struct kbs_api *api = c->m.api;

    if (kbs_mutation_begin(&c->m, err) != 0 ||
        kbs_store_key_get(api->store, path, version, &c->key, &c->policy, err) != 0 ||
        kbs_row_check(api, &c->key, kbs_buf_span(&c->policy), err) != 0) {
        return -1;
    }
    if (!c->key.has_card) {
        return kbs_fail(err, KBS_CONFLICT,
                        "the key is from before there were key cards: rotate it");
    }
    if (c->key.state == KBS_KEY_STATE_DESTROYED) {
        return kbs_fail(err, KBS_CONFLICT, "the key is destroyed");
    }
    c->m.key = &c->key;
    return 0;
}

static int change_commit(struct change *c, bool erase, struct kbs_error *err)
{
    struct kbs_store_row row = {
        .key = &c->key, .policy = kbs_buf_span(&c->policy), .request = c->m.request};

    return kbs_mutation_commit(&c->m, &row, 1, erase, err);
}

static void change_answer(struct change *c)
{
    kbs_key_json_put(&c->m.call->answer->body, &c->key);
    kbs_buf_put_u8(&c->m.call->answer->body, '}');
}

static struct change change(struct kbs_call *call, const char *kind, bool has_order)
{
    return (struct change){
        .m = {.api = call->api, .call = call, .kind = kind, .has_order = has_order},
        .policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES)};
}

static void change_deinit(struct change *c)
{
    kbs_buf_deinit(&c->policy);
    json_decref(c->body);
}

/* ---- policy, floor and flags: the same key with another card ---- */

/* What another card is to say. */
struct terms {
    enum kbs_locality floor;
    uint8_t flags;
};

static int policy_intent(struct change *c, const struct terms *to, const uint8_t *policy,
                         struct kbs_error *err)
{
    struct kbs_record r;

    kbs_mutation_record(&c->m, KBS_PHASE_INTENT, &r);
    kbs_record_str(&r, "floor", kbs_locality_name(to->floor));
    if (((to->flags ^ c->key.card.flags) & KBS_CARD_POP_REQUIRED) != 0) {
        kbs_record_str(&r, "pop",
                       (to->flags & KBS_CARD_POP_REQUIRED) != 0 ? "required" : "not required");
    }
    kbs_record_hex(&r, "policy", kbs_span(policy, KBS_SHA256_BYTES));
    return kbs_mutation_intent(&c->m, &r, err);
}

static int policy_change(struct change *c, const struct terms *to, struct kbs_error *err)
{
    struct kbs_wire_result result = {.category = KBS_OK};
    uint8_t old_card[KBS_CARD_BYTES];
    uint8_t policy[KBS_SHA256_BYTES];
    struct kbs_record r;

    kbs_sha256(kbs_buf_span(&c->policy), policy);
    memcpy(old_card, c->key.card_bytes, sizeof(old_card));
    const struct kbs_wire_recard order = {.order = kbs_span(c->m.order, sizeof(c->m.order)),
                                          .card = kbs_span(old_card, sizeof(old_card)),
                                          .floor = (uint8_t)to->floor,
                                          .flags = to->flags,
                                          .policy = kbs_span(policy, sizeof(policy))};
    if (policy_intent(c, to, policy, err) != 0) {
        return -1;
    }
    if (kbs_mutation_order(&c->m, KBS_WIRE_RECARD, &order, &result, err) != 0) {
        return kbs_mutation_refused(&c->m, err);
    }
    c->key.card.floor = to->floor;
    c->key.card.flags = to->flags;
    memcpy(c->key.card.policy, policy, sizeof(policy));
    if (kbs_made_card(result.body, &c->key, err) != 0 || change_commit(c, false, err) != 0) {
        return kbs_mutation_failed(&c->m, "failed", err);
    }
    kbs_mutation_record(&c->m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    return kbs_mutation_done(&c->m, &r, err);
}

int kbs_api_admin_key_policy(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"policy", "floor", "pop_required", NULL};
    struct change c = change(call, "key-policy", true);
    struct kbs_span path = KBS_SPAN_EMPTY;
    struct terms to = {.floor = KBS_LOCALITY_NONE};
    uint32_t version = 0;
    int rc = -1;

    if (change_open(call, &c, "POST", KEY_PATTERN "/policy", members, &path, &version, err) == 0) {
        rc = json_object_size(c.body) != 0
                 ? change_begin(&c, path, version, err)
                 : kbs_fail(err, KBS_INPUT, "'policy', 'floor' or 'pop_required' must be there");
    }
    if (rc == 0 && c.key.state == KBS_KEY_STATE_PENDING) { /* its row holds who said so */
        rc = kbs_fail(err, KBS_CONFLICT, "the key will be destroyed: undo that first");
    }
    if (rc == 0) {
        to = (struct terms){.floor = c.key.card.floor, .flags = c.key.card.flags};
        rc = kbs_key_terms_floor(c.body, &to.floor, err);
    }
    if (rc == 0) {
        rc = kbs_key_terms_pop(c.body, &to.flags, err);
    }
    if (rc == 0) {
        rc = kbs_key_terms_policy(c.body, &c.policy, err);
    }
    if (rc == 0) {
        rc = policy_change(&c, &to, err);
    }
    if (rc == 0) {
        change_answer(&c);
    }
    change_deinit(&c);
    return rc;
}

/* ---- states ---- */

/* From one state to another, without the token. */
static int state_write(struct change *c, enum kbs_key_state state, int64_t destroy_at_s,
                       struct kbs_error *err)
{
    struct kbs_record r;

    kbs_mutation_record(&c->m, KBS_PHASE_INTENT, &r);
    kbs_record_str(&r, "from", kbs_key_state_name(c->key.state));
    kbs_record_str(&r, "state", kbs_key_state_name(state));
    if (destroy_at_s != 0) {
        kbs_record_u64(&r, "destroy_at", (uint64_t)destroy_at_s);
    }
    if (kbs_mutation_intent(&c->m, &r, err) != 0) {
        return -1;
    }
    c->key.state = state;
    c->key.destroy_at_s = destroy_at_s;
    if (change_commit(c, false, err) != 0) {
        return kbs_mutation_failed(&c->m, "failed", err);
    }
    kbs_due_look(c->m.api);
    kbs_mutation_record(&c->m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    return kbs_mutation_done(&c->m, &r, err);
}

static int state_change(struct change *c, enum kbs_key_state state, int64_t destroy_at_s,
                        struct kbs_error *err)
{
    if (state_write(c, state, destroy_at_s, err) != 0) {
        return -1;
    }
    change_answer(c);
    return 0;
}

/* disable, enable and undo: a step that exists from one state only. */
static int state_step(struct kbs_call *call, const char *pattern, enum kbs_key_state from,
                      enum kbs_key_state to, struct kbs_error *err)
{
    static const char *const members[] = {NULL};
    struct change c = change(call, "key-state", false);
    struct kbs_span path = KBS_SPAN_EMPTY;
    uint32_t version = 0;
    int rc = -1;

    if (change_open(call, &c, "POST", pattern, members, &path, &version, err) == 0 &&
        change_begin(&c, path, version, err) == 0) {
        rc = c.key.state == from
                 ? state_change(&c, to, 0, err)
                 : kbs_fail(err, KBS_CONFLICT, "the key is %s, not %s",
                            kbs_key_state_name(c.key.state), kbs_key_state_name(from));
    }
    change_deinit(&c);
    return rc;
}

int kbs_api_admin_key_disable(struct kbs_call *call, struct kbs_error *err)
{
    return state_step(call, KEY_PATTERN "/disable", KBS_KEY_STATE_ENABLED, KBS_KEY_STATE_DISABLED,
                      err);
}

int kbs_api_admin_key_enable(struct kbs_call *call, struct kbs_error *err)
{
    return state_step(call, KEY_PATTERN "/enable", KBS_KEY_STATE_DISABLED, KBS_KEY_STATE_ENABLED,
                      err);
}

int kbs_api_admin_key_undo(struct kbs_call *call, struct kbs_error *err)
{
    return state_step(call, KEY_PATTERN "/undo", KBS_KEY_STATE_PENDING, KBS_KEY_STATE_DISABLED,
                      err);
}

/* ---- destruction ---- */

void kbs_key_gone(const struct kbs_key *key, char *out, size_t size)
{
    if (key->card.storage == KBS_STORAGE_WRAPPED) {
        (void)snprintf(out, size, "with wrapping key %u", (unsigned int)key->card.wrap_version);
    } else {
        (void)snprintf(out, size, "now");
    }
}

static int destroy_order(struct kbs_mutation *m, const struct kbs_key *key, struct kbs_error *err)
{
    struct kbs_wire_result result = {.category = KBS_OK};
    const struct kbs_wire_destroy order = {.order = kbs_span(m->order, sizeof(m->order)),
                                           .purpose = (uint8_t)key->card.purpose,
                                           .card = kbs_key_card(key),
                                           .key_version = key->version};

    if (kbs_mutation_order(m, KBS_WIRE_DESTROY, &order, &result, err) == 0) {
        return 0;
    }
    return err->category == KBS_MISSING ? 0 : -1; /* an earlier attempt got that far */
}

int kbs_key_destroy(struct kbs_mutation *m, struct kbs_key *key, struct kbs_span policy,
                    struct kbs_error *err)
{
    struct kbs_store_row row = {.key = key, .policy = policy, .request = m->request};
    struct kbs_record r;
    char gone[64];

    kbs_mutation_record(m, KBS_PHASE_INTENT, &r);
    kbs_record_str(&r, "class", kbs_storage_name(key->card.storage));
    kbs_record_u64(&r, "destroy_at", (uint64_t)key->destroy_at_s);
    if (kbs_mutation_intent(m, &r, err) != 0) {
        return -1;
    }
    if (destroy_order(m, key, err) != 0) {
        return kbs_mutation_refused(m, err);
    }
    key->state = KBS_KEY_STATE_DESTROYED;
    key->blob_len = 0;
    if (kbs_mutation_commit(m, &row, 1, true, err) != 0) {
        return kbs_mutation_failed(m, "gone", err);
    }
    kbs_due_look(m->api);
    kbs_key_gone(key, gone, sizeof(gone));
    kbs_mutation_record(m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    kbs_record_str(&r, "gone", gone);
    return kbs_mutation_done(m, &r, err);
}

static int destroy_after(const json_t *body, int64_t *ret, struct kbs_error *err)
{
    *ret = KBS_DEFAULT_DESTROY_AFTER_S;
    if (json_object_get(body, "after_s") == NULL) {
        return 0;
    }
    if (kbs_json_get_integer(body, "after_s", ret, err) != 0) {
        return -1;
    }
    if (*ret < 0 || *ret > KBS_LIMIT_DESTROY_AFTER_S) {
        return kbs_fail(err, KBS_INPUT, "'after_s' must be 0 to %d", KBS_LIMIT_DESTROY_AFTER_S);
    }
    return 0;
}

/* A second mutation, which begins with the row that the first one left, wherever it was read. */
static int destroy_begin(struct change *c, struct kbs_error *err)
{
    c->m.kind = "key-destroy";
    c->m.has_order = true;
    c->m.intent = 0;
    kbs_buf_clear(&c->policy);
    if (change_begin(c, kbs_span_str(c->key.path), c->key.version, err) != 0) {
        return -1;
    }
    return c->key.state == KBS_KEY_STATE_PENDING
               ? 0
               : kbs_fail(err, KBS_CONFLICT, "the key was called back meanwhile");
}

static int destroy_now(struct change *c, struct kbs_error *err)
{
    struct kbs_buf *out = &c->m.call->answer->body;
    char gone[64];

    if (state_write(c, KBS_KEY_STATE_PENDING, c->m.call->now_s, err) != 0 ||
        destroy_begin(c, err) != 0 ||
        kbs_key_destroy(&c->m, &c->key, kbs_buf_span(&c->policy), err) != 0) {
        return -1;
    }
    kbs_key_gone(&c->key, gone, sizeof(gone));
    kbs_key_json_put(out, &c->key);
    kbs_buf_printf(out, ",\"gone\":\"%s\"}", gone);
    return 0;
}

int kbs_api_admin_key_destroy(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"after_s", NULL};
    struct change c = change(call, "key-state", false);
    struct kbs_span path = KBS_SPAN_EMPTY;
    uint32_t version = 0;
    int64_t after_s = 0;
    int rc = -1;

    if (change_open(call, &c, "DELETE", KEY_PATTERN, members, &path, &version, err) == 0 &&
        destroy_after(c.body, &after_s, err) == 0 && change_begin(&c, path, version, err) == 0) {
        rc = after_s == 0 ? destroy_now(&c, err)
                          : state_change(&c, KBS_KEY_STATE_PENDING, call->now_s + after_s, err);
    }
    change_deinit(&c);
    return rc;
}
