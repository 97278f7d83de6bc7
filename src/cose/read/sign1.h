/*
 * COSE_Sign1 (RFC 9052 section 4.2), tagged, by its parts: protected header, nothing unprotected, the
 * payload inside. Strict as the rest of this folder; nothing is verified.
 */
#ifndef KBS_COSE_READ_SIGN1_H
#define KBS_COSE_READ_SIGN1_H

#include "base/error.h"
#include "base/span.h"

/* Borrows the message. */
struct kbs_cose_sign1 {
    struct kbs_span protected_map;
    struct kbs_span payload;
    struct kbs_span signature;
};
/* KBS_INPUT for any other shape. */
KBS_MUST_CHECK int kbs_cose_sign1_get(struct kbs_span message, struct kbs_cose_sign1 *ret,
                                      struct kbs_error *err);

#endif
