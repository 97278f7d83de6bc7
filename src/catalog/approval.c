/*
 * An approval is a signature over a digest of the request that is approved. Text of variable length is
 * divided by bytes that cannot stand in it, so no two requests have the same bytes.
 */
#include "catalog/approval.h"

#include "base/encoding.h"

void kbs_approval_digest(struct kbs_span method, struct kbs_span target, struct kbs_span body,
                         uint8_t ret[KBS_SHA256_BYTES])
{
    uint8_t body_digest[KBS_SHA256_BYTES];
    const struct kbs_span zero = KBS_SPAN_LIT("\0");
    const struct kbs_span parts[] = {
        KBS_SPAN_LIT("kbs-approval-v1"),           zero, method, zero, target, zero,
        kbs_span(body_digest, sizeof(body_digest))};
    struct kbs_digest digest;

    kbs_sha256(body, body_digest);
    kbs_digest(KBS_HASH_SHA256, parts, sizeof(parts) / sizeof(parts[0]), &digest);
    memcpy(ret, digest.p, KBS_SHA256_BYTES);
}

void kbs_approval_body_put(struct kbs_buf *out, const uint8_t digest[KBS_SHA256_BYTES])
{
    kbs_buf_put_str(out, "{\"digest\":\"");
    kbs_base64url_put(out, kbs_span(digest, KBS_SHA256_BYTES));
    kbs_buf_put_str(out, "\"}");
}
