/*
 * COSE, the reading half: a key-release message (cose/write/cose.h) as kbs-guest receives it, by
 * libcbor behind strict checks: definite lengths, no duplicate labels, nothing left over, exactly
 * one recipient.
 */
#ifndef KBS_COSE_READ_COSE_H
#define KBS_COSE_READ_COSE_H

#include "base/ec.h"

struct kbs_cose_recipient_in {
    struct kbs_ec_public epk;
    struct kbs_buf protected_map; /* the recipient's protected header as received */
    struct kbs_buf kid;
    struct kbs_buf party_u;
    struct kbs_buf party_v;
    struct kbs_buf salt;
    struct kbs_buf encrypted_key;
};
void kbs_cose_recipient_in_deinit(struct kbs_cose_recipient_in *r);

/* alg must be -31. KBS_INPUT for any other shape, KBS_UNPROCESSABLE for an epk off its curve. */
KBS_MUST_CHECK int kbs_cose_recipient_get(struct kbs_span message,
                                          struct kbs_cose_recipient_in *ret, struct kbs_error *err);

#endif
