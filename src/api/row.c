/*
 * Is this row the administrators'?
 *
 * The problem: a judge has the store open for writing, and so may others; what stands in it decides
 * which key goes to whom. The approach: no row counts for a release unless the admin lane's token
 * signed it. The signature is verified each time the row is read; since that costs 0.1 ms, the
 * digests of rows that verified are remembered in a small table, where a row that was changed in
 * any bit is not found.
 */
#include "api/context.h"

#include "catalog/row.h"

/* One digest for row and signature: what was verified is the pair. */
static void pair_digest(const uint8_t row[KBS_SHA256_BYTES],
                        const uint8_t signature[KBS_ES256_BYTES], uint8_t ret[KBS_SHA256_BYTES])
{
    const struct kbs_span parts[] = {kbs_span(row, KBS_SHA256_BYTES),
                                     kbs_span(signature, KBS_ES256_BYTES)};
    struct kbs_digest digest;

    kbs_digest(KBS_HASH_SHA256, parts, 2, &digest);
    memcpy(ret, digest.p, KBS_SHA256_BYTES);
}

/* 1 if it is signed, 0 if not, or -1. Frees the content. */
static int content_is_signed(struct kbs_api *api, struct kbs_buf *content,
                             const uint8_t signature[KBS_ES256_BYTES], struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    uint8_t pair[KBS_SHA256_BYTES];
    uint8_t *slot = NULL;
    int rc = kbs_buf_check(content, "a row", err);

    kbs_row_digest(kbs_buf_span(content), digest);
    kbs_buf_deinit(content);
    if (rc != 0) {
        return -1;
    }
    pair_digest(digest, signature, pair);
    slot = api->rows_verified[pair[0] & (KBS_API_ROWS_VERIFIED - 1)];
    if (memcmp(slot, pair, sizeof(pair)) == 0) {
        return 1;
    }
    if (!api->token.has_row || !kbs_ec_verify(&api->token.row, digest, signature)) {
        return 0;
    }
    memcpy(slot, pair, sizeof(pair));
    return 1;
}

int kbs_row_check(struct kbs_api *api, const struct kbs_key *key, struct kbs_span policy,
                  struct kbs_error *err)
{
    struct kbs_buf content = KBS_BUF(KBS_ROW_MAX_BYTES);
    int rc = 0;

    kbs_row_key_put(&content, key, policy);
    rc = content_is_signed(api, &content, key->signature, err);
    if (rc == 0) {
        return kbs_fail(err, KBS_INTERNAL, "the store's row of %.120s/v%u is not signed as it is",
                        key->path, (unsigned int)key->version);
    }
    return rc > 0 ? 0 : -1;
}

int kbs_row_check_document(struct kbs_api *api, const struct kbs_document *document,
                           struct kbs_span text, struct kbs_error *err)
{
    struct kbs_buf content = KBS_BUF(KBS_ROW_MAX_BYTES);
    int rc = 0;

    kbs_row_document_put(&content, document, text);
    rc = content_is_signed(api, &content, document->signature, err);
    if (rc == 0) {
        return kbs_fail(err, KBS_INTERNAL,
                        "the store's row of the %s %.100s is not signed as it is",
                        kbs_document_kind_name(document->kind), document->name);
    }
    return rc > 0 ? 0 : -1;
}

int kbs_row_sign(struct kbs_api *api, struct kbs_span content, uint8_t ret[KBS_ES256_BYTES],
                 struct kbs_error *err)
{
    const struct kbs_wire_sign_row order = {.content = content};
    struct kbs_wire_result result = {.category = KBS_OK};
    uint8_t digest[KBS_SHA256_BYTES];

    if (kbs_token_ask(api, KBS_WIRE_SIGN_ROW, &order, &result, err) != 0) {
        return -1;
    }
    kbs_row_digest(content, digest);
    if (!api->token.has_row || result.body.len != KBS_ES256_BYTES ||
        !kbs_ec_verify(&api->token.row, digest, result.body.p)) {
        return kbs_fail(err, KBS_INTERNAL, "the token's signature of a row does not verify");
    }
    memcpy(ret, result.body.p, KBS_ES256_BYTES);
    return 0;
}
