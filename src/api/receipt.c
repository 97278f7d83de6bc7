/*
 * Receipts: who asks for one, what the judge has to say for it, and the key that they are signed with.
 *
 * A receipt is kbs-token's, made with the answer and passed on unread. The judge says what only it
 * knows: the binding level, the resource policy that it asked, and once more the nonce and the report data
 * that PartyVInfo is of. `?receipt=1` asks for one; no client that does not know of receipts sends that,
 * and without it nothing is made.
 *
 * The key has a JWK set of its own: whoever verifies our attestation tokens by the other set must not take a
 * receipt for one, and a guest that pins this key does not pin those. It has one version. A guest has it
 * in its measured configuration, so another one could only be had by measuring every guest anew.
 */
#include "api/context.h"

#include "jose/write/jose.h"

#define RECEIPT_KEY_PATTERN "/kbs/v0/admin/receipt-key"

static const char *const no_names[] = {NULL};

static const struct kbs_rotating receipts = {.purpose = KBS_PURPOSE_SIGN_RECEIPT,
                                             .pattern = RECEIPT_KEY_PATTERN,
                                             .what = "receipt key",
                                             .generate = "receipt-key-generate"};

/* ---- of a release ---- */

int kbs_request_receipt(const struct kbs_wire_request *req, bool *ret, struct kbs_error *err)
{
    struct kbs_span value = KBS_SPAN_EMPTY;

    *ret = kbs_wire_list_find(&req->query, "receipt", &value);
    return !*ret || kbs_span_equal_str(value, "1")
               ? 0
               : kbs_fail(err, KBS_INPUT, "receipt must be 1, or left out");
}

struct kbs_span kbs_receipt_ask(const struct kbs_release_want *want,
                                const struct kbs_decision *decision,
                                uint8_t bytes[KBS_RECEIPT_WORD_BYTES])
{
    struct kbs_receipt_word word = {.binding = want->session->binding,
                                    .report = want->session->report_digest,
                                    .has_resource_policy = decision->resource_policy.len != 0};

    if (!want->receipt) {
        return KBS_SPAN_EMPTY;
    }
    memcpy(word.nonce, want->nonce, sizeof(word.nonce));
    kbs_sha256(kbs_buf_span(&decision->resource_policy), word.resource_policy);
    kbs_receipt_word_put(&word, bytes);
    return kbs_span(bytes, KBS_RECEIPT_WORD_BYTES);
}

bool kbs_receipt_fits(const struct kbs_release_want *want, struct kbs_span receipt)
{
    return want->receipt == (receipt.len != 0) && receipt.len <= KBS_LIMIT_RECEIPT_BYTES;
}

/* ---- the key ---- */

/* A JWK set of it, or of nothing. */
static void jwks_put(const struct kbs_token_facts *f, struct kbs_buf *out)
{
    kbs_buf_put_str(out, "{\"keys\":[");
    if (f->has_receipt) {
        kbs_jose_sig_jwk_put(out, &f->receipt, kbs_jose_sig_alg(f->receipt.curve), f->receipt_kid);
    }
    kbs_buf_put_str(out, "]}");
}

int kbs_api_receipt_jwks(struct kbs_call *call, struct kbs_error *err)
{
    if (kbs_token_look(call->api, err) != 0) {
        return -1;
    }
    jwks_put(&call->api->token, &call->answer->body);
    return 0;
}

int kbs_api_admin_receipt_key(struct kbs_call *call, struct kbs_error *err)
{
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", RECEIPT_KEY_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_names, err) != 0 ||
        kbs_token_versions(call->api, err) != 0) {
        return -1;
    }
    jwks_put(&call->api->token, &call->answer->body);
    return 0;
}

/* Services made before there were receipts have none. */
int kbs_api_admin_receipt_key_make(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_mutation m = kbs_rotating_mutation(call, receipts.generate, true);
    uint8_t id[KBS_KEY_ID_BYTES];

    if (kbs_admin_verify(call, "POST", RECEIPT_KEY_PATTERN, true, &m.admin, &m.sequence, err) !=
            0 ||
        kbs_request_query_only(call->req, no_names, err) != 0 || kbs_rotating_begin(&m, err) != 0) {
        return -1;
    }
    if (call->api->token.has_receipt) {
        return kbs_fail(err, KBS_CONFLICT, "the token has a receipt key already");
    }
    m.wrap_version = 1;
    kbs_service_key_id(receipts.purpose, id);
    const struct kbs_wire_generate order = {.order = kbs_span(m.order, sizeof(m.order)),
                                            .purpose = (uint8_t)receipts.purpose,
                                            .key_id = kbs_span(id, sizeof(id)),
                                            .key_version = m.wrap_version};
    if (kbs_rotating_change(&receipts, &m, KBS_WIRE_GENERATE, &order, err) != 0) {
        return -1;
    }
    jwks_put(&call->api->token, &call->answer->body);
    return 0;
}
