/*
 * What guest lanes keep for guests under a key, as administrators see it (docs/protocol/nek.md, register.md), and a guest
 * that is forgotten: a machine that is gone leaves its place in the quotas, and one whose disk is lost begins anew, also
 * where the policy says once.
 *
 * Identities are digests, so a list says who was there to whom can compute one. Forgetting destroys no key that is
 * in a token: who still has his blob has it unwrapped as before. What is in the list is as the store has it; marks
 * are checked where a guest is given something.
 */
#include "api/context.h"

#include "base/encoding.h"

#define PATTERN "/kbs/v0/admin/kept/*/*/*"
#define IDENTITY_HEX (2 * KBS_NEK_BINDING_BYTES)

/* ---- the list ---- */

static void kept_each(void *ctx, const struct kbs_store_kept *kept)
{
    struct kbs_page *page = ctx;
    struct kbs_buf *out = page->out;

    if (!kbs_page_next(page)) {
        return;
    }
    kbs_buf_put_str(out, "{\"identity\":\"");
    kbs_hex_put(out, kbs_span(kept->owner.identity, sizeof(kept->owner.identity)));
    kbs_buf_put_u8(out, '"');
    if (kept->version != 0) {
        kbs_buf_printf(out, ",\"version\":%u,\"provisioned\":%lld", (unsigned int)kept->version,
                       (long long)kept->created_s);
    }
    if (kept->has_value) {
        kbs_buf_printf(out, ",\"value\":%llu,\"changed\":%lld", (unsigned long long)kept->value,
                       (long long)kept->changed_s);
    }
    kbs_buf_put_u8(out, '}');
}

static int identity_get(struct kbs_span text, uint8_t ret[KBS_NEK_BINDING_BYTES],
                        struct kbs_error *err)
{
    return kbs_hex_get_exact(ret, KBS_NEK_BINDING_BYTES, text) == 0
               ? 0
               : kbs_fail(err, KBS_INPUT, "an identity is %d digits in hex", IDENTITY_HEX);
}

int kbs_api_admin_kept_list(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_page page = {.out = &call->answer->body};
    struct kbs_store_owner after = {.identity = {0}};
    const struct kbs_admin *admin = NULL;
    struct kbs_span text = KBS_SPAN_EMPTY;
    struct kbs_span path;
    struct kbs_key key;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_page(call->req, &text, &page.limit, err) != 0 ||
        kbs_request_path(call, &path, err) != 0 ||
        (text.len != 0 && identity_get(text, after.identity, err) != 0) ||
        kbs_store_key_newest(call->api->store, path, &key, NULL, err) != 0) {
        return -1;
    }
    memcpy(after.key_id, key.id, sizeof(after.key_id));
    kbs_buf_put_str(page.out, "{\"kept\":[");
    if (kbs_store_kept_list(call->api->store, &after, page.limit + 1, kept_each, &page, err) != 0) {
        return -1;
    }
    kbs_page_end(&page);
    return 0;
}

/* ---- forgetting ---- */

/* The row that the mutation is about, verified, and whether there is anything to forget. */
static int forget_begin(struct kbs_mutation *m, struct kbs_span path, struct kbs_key *key,
                        struct kbs_store_owner *owner, struct kbs_error *err)
{
    struct kbs_buf policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    bool there = false;
    int rc = -1;

    if (kbs_mutation_begin(m, err) == 0 &&
        kbs_store_key_newest(m->api->store, path, key, &policy, err) == 0) {
        rc = kbs_row_check(m->api, key, kbs_buf_span(&policy), err);
    }
    kbs_buf_deinit(&policy);
    if (rc != 0) {
        return -1;
    }
    memcpy(owner->key_id, key->id, sizeof(owner->key_id));
    if (kbs_store_kept_there(m->api->store, owner, &there, err) != 0) {
        return -1;
    }
    return there ? 0 : kbs_fail(err, KBS_MISSING, "nothing is kept for such a guest");
}

static int forget_run(struct kbs_mutation *m, const struct kbs_store_owner *owner,
                      struct kbs_error *err)
{
    struct kbs_record r;

    kbs_mutation_record(m, KBS_PHASE_INTENT, &r);
    kbs_record_hex(&r, "identity", kbs_span(owner->identity, sizeof(owner->identity)));
    if (kbs_mutation_intent(m, &r, err) != 0) {
        return -1;
    }
    if (kbs_store_kept_forget(m->api->store, owner, err) != 0 ||
        kbs_mutation_commit(m, NULL, 0, false, err) != 0) {
        return kbs_mutation_failed(m, "failed", err);
    }
    kbs_mutation_record(m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    return kbs_mutation_done(m, &r, err);
}

int kbs_api_admin_kept_forget(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const names[] = {"identity", NULL};
    struct kbs_mutation m = {.api = call->api, .call = call, .kind = "kept-forget"};
    struct kbs_span text = KBS_SPAN_EMPTY;
    struct kbs_store_owner owner;
    struct kbs_span path;
    struct kbs_key key;

    if (kbs_admin_verify(call, "DELETE", PATTERN, true, &m.admin, &m.sequence, err) != 0 ||
        kbs_request_query_only(call->req, names, err) != 0 ||
        kbs_request_path(call, &path, err) != 0) {
        return -1;
    }
    (void)kbs_wire_list_find(&call->req->query, "identity", &text);
    if (identity_get(text, owner.identity, err) != 0 ||
        forget_begin(&m, path, &key, &owner, err) != 0) {
        return -1;
    }
    m.key = &key;
    if (forget_run(&m, &owner, err) != 0) {
        return -1;
    }
    kbs_buf_printf(&call->answer->body, "{\"path\":\"%s\",\"forgotten\":\"", key.path);
    kbs_hex_put(&call->answer->body, kbs_span(owner.identity, sizeof(owner.identity)));
    kbs_buf_put_str(&call->answer->body, "\"}");
    return 0;
}
