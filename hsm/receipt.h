/*
 * Receipts (docs/protocol/receipts.md): of an order that ends at a TEE, signed by a key of purpose
 * sign-receipt, over the very bytes that are answered.
 */
#ifndef KBS_HSM_RECEIPT_H
#define KBS_HSM_RECEIPT_H

#include "hsm/sign.h"
#include "receipt/write/receipt.h"

/* The parts of an order that a receipt is about. All borrowed. */
struct kbs_receipt_about {
    enum kbs_receipt_op op;
    struct kbs_span asked; /* the order's `receipt`; empty: none is wanted, and none is made */
    struct kbs_span kid;
    struct kbs_span card;
    struct kbs_span tee_key;
    struct kbs_span party_v; /* empty: the answer has none */
    struct kbs_span wrapped; /* rewrap: of the blob, which party_v is over, too */
};

/*
 * Before the order is carried out. What the judge says is well-formed, the same nonce and report data that
 * party_v is of, and there is a key to sign with. KBS_INPUT; KBS_UNSUPPORTED without a key.
 */
KBS_MUST_CHECK int kbs_receipt_begin(struct kbs_signer *signer, struct kbs_token *t,
                                     const struct kbs_receipt_about *about, struct kbs_error *err);

/* After it: ret->receipt, of ret->body (a provision's without its mark). The card was checked by the order. */
KBS_MUST_CHECK int kbs_receipt_end(struct kbs_signer *signer, struct kbs_token *t,
                                   const struct kbs_receipt_about *about, struct kbs_answer *ret,
                                   struct kbs_error *err);

#endif
