/*
 * Signed heads: from time to time the token signs where the ledger stands, so that who rewrites the
 * file from an earlier point, and every hash after it, is found out by who reads it later
 * (`kbs-admin audit verify`). The newest records, since the last head, are not covered.
 *
 * A head is made after each mutation, every KBS_LIMIT_AUDIT_HEAD_MS if the ledger has grown, and
 * when the admin lane leaves, which in a drain is after the guests' last record. It is a record like
 * others: one that failed is not an error of the request that happened to be there.
 */
#include "api/context.h"

#include "base/encoding.h"
#include "base/log.h"

static int head_sign(struct kbs_api *api, struct kbs_error *err)
{
    struct kbs_api_head head = {.seq = 0};
    struct kbs_wire_result result = {.category = KBS_OK};
    struct kbs_buf text = KBS_BUF(128);
    struct kbs_record r;
    int rc = 0;

    if (kbs_api_ledger_head(api, &head, err) != 0) {
        return -1;
    }
    if (head.seq == 0 || head.seq == api->head_signed) {
        return 0; /* nothing since the last one */
    }
    const struct kbs_wire_sign_head order = {.seq = head.seq,
                                             .hash = kbs_span(head.hash, sizeof(head.hash))};
    if (kbs_token_ask(api, KBS_WIRE_SIGN_HEAD, &order, &result, err) != 0) {
        return -1;
    }
    if (result.body.len != KBS_ES256_BYTES) {
        return kbs_fail(err, KBS_INTERNAL, "the token's signature of a head is malformed");
    }
    kbs_record_init(&r, "head");
    kbs_record_u64(&r, "head_seq", head.seq);
    kbs_record_hex(&r, "head_hash", kbs_span(head.hash, sizeof(head.hash)));
    kbs_base64url_put(&text, result.body);
    kbs_record_text(&r, "signature", kbs_buf_span(&text));
    kbs_record_str(&r, "kid", api->token.head_kid);
    rc = kbs_api_ledger_append(api, &r, &api->head_signed, err);
    kbs_record_deinit(&r);
    kbs_buf_deinit(&text);
    return rc;
}

void kbs_head_sign(struct kbs_api *api)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (!api->token.has_head) {
        return;
    }
    api->head_due_ns = kbs_deadline_in_ms(KBS_LIMIT_AUDIT_HEAD_MS);
    if (api->must_exit == KBS_EXIT_OK && head_sign(api, &err) != 0) {
        kbs_log_error("head-not-signed", &err);
    }
}

int kbs_api_wait_ms(const struct kbs_api *api)
{
    bool heads = api->duty == KBS_DUTY_ADMIN && api->token.has_head;
    int head_ms = heads ? kbs_deadline_poll_ms(api->head_due_ns) : -1;
    int due_ms = kbs_due_wait_ms(api);

    if (head_ms < 0 || due_ms < 0) {
        return head_ms < 0 ? due_ms : head_ms;
    }
    return head_ms < due_ms ? head_ms : due_ms;
}

enum kbs_exit kbs_api_tick(struct kbs_api *api)
{
    if (api->duty == KBS_DUTY_ADMIN) {
        kbs_due_run(api);
        if (api->token.has_head && kbs_deadline_poll_ms(api->head_due_ns) == 0) {
            kbs_head_sign(api);
        }
    }
    return api->must_exit;
}

void kbs_api_leave(struct kbs_api *api)
{
    if (api->duty == KBS_DUTY_ADMIN) {
        kbs_head_sign(api);
    }
}
