/*
 * Receipts, the reading half: for whoever holds one and the key that it must be by. Nothing of a
 * receipt is believed before its signature.
 */
#ifndef KBS_RECEIPT_READ_RECEIPT_H
#define KBS_RECEIPT_READ_RECEIPT_H

#include "base/ec.h"
#include "receipt/write/receipt.h"

struct kbs_receipt_in {
    enum kbs_receipt_form form;
    char signer[44]; /* RFC 7638 thumbprint of the key that signed it */
    struct kbs_receipt said;
};

/*
 * Reads a receipt as the Kbs-Receipt header has it: ES256 by one of those P-256 keys, the one that it
 * names. KBS_INPUT if it is no receipt, KBS_UNAUTHENTICATED if none of the keys has signed it.
 */
KBS_MUST_CHECK int kbs_receipt_open(struct kbs_span text, const struct kbs_ec_public *keys,
                                    size_t count, struct kbs_receipt_in *ret,
                                    struct kbs_error *err);

/* That the receipt is of this answer, byte for byte. KBS_UNPROCESSABLE if it is of another. */
KBS_MUST_CHECK int kbs_receipt_check_answer(const struct kbs_receipt *r, struct kbs_span answer,
                                            struct kbs_error *err);

/* The payloads alone, exactly as the writers print them. KBS_INPUT for anything else. */
KBS_MUST_CHECK int kbs_receipt_json_get(struct kbs_span payload, struct kbs_receipt *ret,
                                        struct kbs_error *err);
KBS_MUST_CHECK int kbs_receipt_cbor_get(struct kbs_span payload, struct kbs_receipt *ret,
                                        struct kbs_error *err);

#endif
