/*
 * What an order says for a receipt (docs/protocol/receipts.md): the part of it that only the judge
 * knows. kbs-token puts in what it knows itself, and cannot be told that.
 */
#ifndef KBS_WIRE_RECEIPT_H
#define KBS_WIRE_RECEIPT_H

#include "base/digest.h"
#include "base/error.h"
#include "base/terms.h"

#define KBS_RECEIPT_NONCE_BYTES 32
#define KBS_RECEIPT_WORD_BYTES \
    (4 + KBS_RECEIPT_NONCE_BYTES + KBS_SHA256_BYTES + KBS_DIGEST_MAX_BYTES)

/* The judge's word. */
struct kbs_receipt_word {
    enum kbs_binding binding;                  /* how far the TEE key is bound to the evidence */
    uint8_t nonce[KBS_RECEIPT_NONCE_BYTES];    /* of the request; zeros: it had none */
    struct kbs_digest report;                  /* of the handshake; len 0: there was none */
    bool has_resource_policy;                  /* one was asked, and allowed it */
    uint8_t resource_policy[KBS_SHA256_BYTES]; /* SHA-256 of its text */
};

/* One layout: what cannot be printed is not read either. */
void kbs_receipt_word_put(const struct kbs_receipt_word *w, uint8_t out[KBS_RECEIPT_WORD_BYTES]);
/* KBS_INPUT for another length or layout, a field out of range, or padding that is not zero. */
KBS_MUST_CHECK int kbs_receipt_word_get(struct kbs_span bytes, struct kbs_receipt_word *ret,
                                        struct kbs_error *err);

#endif
