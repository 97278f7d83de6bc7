/*
 *   0 layout  1 binding  2 length of the report-data digest  3 bits: 1 a resource policy was asked
 *   4 nonce  36 resource policy  68 report-data digest, zeros after it
 */
#include "wire/receipt.h"

#define LAYOUT 1
#define ASKED 1u
#define NONCE_AT 4
#define POLICY_AT (NONCE_AT + KBS_RECEIPT_NONCE_BYTES)
#define REPORT_AT (POLICY_AT + KBS_SHA256_BYTES)

void kbs_receipt_word_put(const struct kbs_receipt_word *w, uint8_t out[KBS_RECEIPT_WORD_BYTES])
{
    memset(out, 0, KBS_RECEIPT_WORD_BYTES);
    out[0] = LAYOUT;
    out[1] = (uint8_t)w->binding;
    out[2] = (uint8_t)w->report.len;
    out[3] = w->has_resource_policy ? ASKED : 0;
    memcpy(out + NONCE_AT, w->nonce, sizeof(w->nonce));
    if (w->has_resource_policy) {
        memcpy(out + POLICY_AT, w->resource_policy, sizeof(w->resource_policy));
    }
    memcpy(out + REPORT_AT, w->report.p, w->report.len);
}

int kbs_receipt_word_get(struct kbs_span bytes, struct kbs_receipt_word *ret, struct kbs_error *err)
{
    const uint8_t *p = bytes.p;
    uint8_t again[KBS_RECEIPT_WORD_BYTES];

    if (bytes.len != KBS_RECEIPT_WORD_BYTES || p[0] != LAYOUT || p[1] == KBS_BINDING_NONE ||
        p[1] >= KBS_BINDING_COUNT || p[2] > KBS_DIGEST_MAX_BYTES) {
        return kbs_fail(err, KBS_INPUT, "what the order says for a receipt is malformed");
    }
    *ret = (struct kbs_receipt_word){.binding = (enum kbs_binding)p[1],
                                     .report = {.len = p[2]},
                                     .has_resource_policy = (p[3] & ASKED) != 0};
    memcpy(ret->nonce, p + NONCE_AT, sizeof(ret->nonce));
    memcpy(ret->resource_policy, p + POLICY_AT, sizeof(ret->resource_policy));
    memcpy(ret->report.p, p + REPORT_AT, ret->report.len);
    kbs_receipt_word_put(ret, again); /* finds unknown bits, and padding that is not zero */
    return memcmp(again, p, sizeof(again)) == 0
               ? 0
               : kbs_fail(err, KBS_INPUT, "what the order says for a receipt contradicts itself");
}
