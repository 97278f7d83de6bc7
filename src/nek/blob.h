/*
 * NEK blobs (docs/protocol/nek.md), the reading half: a recipient of a general JWE or a COSE_Encrypt that
 * is addressed to a token key of purpose nek. Nothing is opened here, and nothing of it is believed.
 */
#ifndef KBS_NEK_BLOB_H
#define KBS_NEK_BLOB_H

#include "base/limits.h"
#include "base/tee_key.h"
#include "cose/read/cose.h"
#include "jose/read/jose.h"
#include "wire/nek.h"

struct kbs_nek_in {
    enum kbs_nek_kind kind;
    char kid[KBS_LIMIT_KID_BYTES + 1]; /* of the key that it is addressed to */
    struct kbs_span path; /* repo/type/tag of it; borrows kid, as a moved struct does not */
    uint32_t version;
    bool has_epk;
    struct kbs_tee_key epk;
    enum kbs_tee_alg oaep;       /* RSA only: RSA_OAEP_256 or RSA_OAEP */
    struct kbs_nek_binding said; /* what it says it is bound to */
    struct kbs_span salt;        /* borrow from below, as the next */
    struct kbs_span wrapped;
    struct kbs_jose_recipient_in jose; /* private */
    struct kbs_cose_recipient_in cose;
};
void kbs_nek_in_deinit(struct kbs_nek_in *in); /* safe on a zeroed one */

/*
 * Reads one, into a place that it is not moved from. KBS_INPUT for its shape, KBS_UNPROCESSABLE for one that
 * is no NEK's or has an epk off its curve. To be deinitialised in any case.
 */
KBS_MUST_CHECK int kbs_nek_read_jose(const json_t *recipient, struct kbs_nek_in *ret,
                                     struct kbs_error *err);
KBS_MUST_CHECK int kbs_nek_read_cose(struct kbs_span message, struct kbs_nek_in *ret,
                                     struct kbs_error *err);

#endif
