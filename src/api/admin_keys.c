/*
 * What administrators may see of keys: the list, one of them.
 *
 * Reads are signed like mutations, leave the sequence alone and are not recorded. What is shown is
 * what the rows say; whether a row is signed as it is, is asked where it matters, at a release.
 */
#include "api/context.h"

#include "base/encoding.h"
#include "jose/write/jose.h"

#define KEYS_PATTERN "/kbs/v0/admin/keys"
#define KEY_PATTERN "/kbs/v0/admin/keys/*/*/*"

/* What only keys of purpose nek have. A destroyed one has no public half any more. */
static void nek_put(struct kbs_buf *out, const struct kbs_key *key)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    struct kbs_tee_key public_key;

    kbs_buf_printf(out, ",\"binding_required\":%s",
                   (key->card.flags & KBS_CARD_BINDING_REQUIRED) != 0 ? "true" : "false");
    if (key->blob_len != 0 && kbs_tee_key_get(kbs_key_blob(key), &public_key, &ignored) == 0) {
        kbs_buf_put_str(out, ",\"public_key\":");
        kbs_jose_tee_jwk_put(out, &public_key);
    }
}

/* Nothing in it needs escaping. */
void kbs_key_json_put(struct kbs_buf *out, const struct kbs_key *key)
{
    const struct kbs_card *c = &key->card;
    char kid[KBS_LIMIT_KID_BYTES + 1];

    (void)kbs_key_kid(key, kid);
    kbs_buf_printf(out, "{\"path\":\"%s\",\"version\":%u,\"kid\":\"%s\",\"purpose\":\"%s\"",
                   key->path, (unsigned int)key->version, kid, kbs_purpose_name(c->purpose));
    kbs_buf_printf(out,
                   ",\"provenance\":\"%s\",\"alg\":\"%s\",\"bytes\":%u,\"class\":\"%s\""
                   ",\"state\":\"%s\",\"floor\":\"%s\",\"kcv\":\"",
                   kbs_provenance_name(c->provenance), kbs_key_alg_name(c->alg),
                   (unsigned int)c->bytes, kbs_storage_name(c->storage),
                   kbs_key_state_name(key->state), kbs_locality_name(c->floor));
    kbs_hex_put(out, kbs_span(key->kcv, sizeof(key->kcv)));
    kbs_buf_printf(out, "\",\"kcv_mac\":\"%s\",\"wrapping_key\":", kbs_kcv_mac_name(key->kcv_mac));
    if (c->storage == KBS_STORAGE_WRAPPED) {
        kbs_buf_printf(out, "%u", (unsigned int)c->wrap_version);
    } else {
        kbs_buf_put_str(out, "null");
    }
    kbs_buf_printf(out, ",\"pop_required\":%s",
                   (c->flags & KBS_CARD_POP_REQUIRED) != 0 ? "true" : "false");
    if (c->purpose == KBS_PURPOSE_NEK) {
        nek_put(out, key);
    }
    if (key->destroy_at_s != 0) {
        kbs_buf_printf(out, ",\"destroy_at\":%lld", (long long)key->destroy_at_s);
    } else {
        kbs_buf_put_str(out, ",\"destroy_at\":null");
    }
    kbs_buf_printf(out, ",\"created\":%llu", (unsigned long long)c->created_s);
}

/* What verifying the row takes beside what is shown (docs/protocol/store-rows.md). */
static void row_put(struct kbs_buf *out, const struct kbs_key *key)
{
    kbs_buf_put_str(out, "{\"id\":\"");
    kbs_hex_put(out, kbs_span(key->id, sizeof(key->id)));
    kbs_buf_printf(out, "\",\"epoch\":%llu,\"request\":\"", (unsigned long long)key->epoch);
    kbs_hex_put(out, kbs_span(key->request, sizeof(key->request)));
    kbs_buf_put_str(out, "\",\"card\":\"");
    kbs_base64url_put(out, kbs_key_card(key));
    kbs_buf_put_str(out, "\",\"signature\":\"");
    kbs_base64url_put(out, kbs_span(key->signature, sizeof(key->signature)));
    kbs_buf_put_str(out, "\"}");
}

bool kbs_page_next(struct kbs_page *p)
{
    if (p->count == p->limit) {
        p->more = true;
        return false;
    }
    if (p->count++ != 0) {
        kbs_buf_put_u8(p->out, ',');
    }
    return true;
}

void kbs_page_end(const struct kbs_page *p)
{
    kbs_buf_printf(p->out, "],\"more\":%s}", p->more ? "true" : "false");
}

static void list_each(void *ctx, const struct kbs_key *key, const struct kbs_store_texts *texts)
{
    struct kbs_page *page = ctx;

    (void)texts;
    if (kbs_page_next(page)) {
        kbs_key_json_put(page->out, key);
        kbs_buf_put_u8(page->out, '}');
    }
}

int kbs_api_admin_key_list(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_page page = {.out = &call->answer->body};
    const struct kbs_admin *admin = NULL;
    struct kbs_span after = KBS_SPAN_EMPTY;
    struct kbs_span path = KBS_SPAN_EMPTY;
    uint64_t sequence = 0;
    uint32_t version = 0;

    if (kbs_admin_verify(call, "GET", KEYS_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_page(call->req, &after, &page.limit, err) != 0) {
        return -1;
    }
    if (after.len != 0 && !kbs_kid_split(after, &path, &version)) {
        return kbs_fail(err, KBS_INPUT, "after must be a kid, repo/type/tag/vN");
    }
    kbs_buf_put_str(page.out, "{\"keys\":[");
    if (kbs_store_key_list(call->api->store, path, version, page.limit + 1, list_each, &page,
                           err) != 0) {
        return -1;
    }
    kbs_page_end(&page);
    return 0;
}

static int show_put(struct kbs_call *call, const struct kbs_key *key, struct kbs_span policy,
                    struct kbs_error *err)
{
    struct kbs_buf *out = &call->answer->body;
    struct kbs_key newest;

    if (kbs_store_key_newest(call->api->store, kbs_span_str(key->path), &newest, NULL, err) != 0) {
        return -1;
    }
    kbs_key_json_put(out, key);
    kbs_buf_printf(out, ",\"newest\":%u,\"policy\":", (unsigned int)newest.version);
    kbs_buf_put_span(out, policy.len != 0 ? policy : KBS_SPAN_LIT("null"));
    kbs_buf_put_str(out, ",\"row\":");
    row_put(out, key);
    kbs_buf_put_u8(out, '}');
    return 0;
}

int kbs_api_admin_key_show(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const names[] = {"version", NULL};
    struct kbs_buf policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    const struct kbs_admin *admin = NULL;
    struct kbs_span path = KBS_SPAN_EMPTY;
    struct kbs_key key;
    uint64_t sequence = 0;
    uint32_t version = 0;
    int rc = -1;

    if (kbs_admin_verify(call, "GET", KEY_PATTERN, false, &admin, &sequence, err) == 0 &&
        kbs_request_query_only(call->req, names, err) == 0 &&
        kbs_request_version(call->req, &version, err) == 0 &&
        kbs_request_path(call, &path, err) == 0) {
        rc = kbs_store_key_get(call->api->store, path, version, &key, &policy, err);
    }
    if (rc == 0) {
        rc = show_put(call, &key, kbs_buf_span(&policy), err);
    }
    kbs_buf_deinit(&policy);
    return rc;
}
