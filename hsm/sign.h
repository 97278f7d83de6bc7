/* ES256 (RFC 7518 section 3.4) by the service's token-held keys: SIGN_EAR, SIGN_ROW, SIGN_HEAD. */
#ifndef KBS_HSM_SIGN_H
#define KBS_HSM_SIGN_H

#include "base/digest.h"
#include "hsm/answer.h"
#include "hsm/object.h"
#include "wire/message.h"

struct kbs_signer {
    enum kbs_purpose purpose; /* sign-token, sign-row or sign-head */
    bool ready;
    CK_OBJECT_HANDLE private_key;
    struct kbs_ec_public public_key;
    char thumbprint[44]; /* RFC 7638: the kid of what it signs */
};

/*
 * Finds the key of signer->purpose and makes one signature with it, which OpenSSL verifies.
 * KBS_MISSING if there is none (yet); harmless when it is loaded already.
 */
KBS_MUST_CHECK int kbs_signer_load(struct kbs_signer *signer, struct kbs_token *t,
                                   struct kbs_error *err);

/* The claims as a compact JWS, typ JWT. KBS_INPUT if they are empty or too long. */
KBS_MUST_CHECK int kbs_sign_ear(struct kbs_signer *signer, struct kbs_token *t,
                                const struct kbs_wire_sign_ear *m, struct kbs_answer *ret,
                                struct kbs_error *err);

/* SHA-256("kbs-row-v1" || content): what SIGN_ROW signs, and its deed names. */
void kbs_sign_row_digest(struct kbs_span content, uint8_t ret[KBS_SHA256_BYTES]);
/* r || s, 64 bytes. KBS_INPUT for an empty content, KBS_MISSING without the key. */
KBS_MUST_CHECK int kbs_sign_row(struct kbs_signer *signer, struct kbs_token *t,
                                const struct kbs_wire_sign_row *m, struct kbs_answer *ret,
                                struct kbs_error *err);
/* r || s over SHA-256("kbs-head-v1" || seq || hash); hash: 32 bytes, seq: from 1. */
KBS_MUST_CHECK int kbs_sign_head(struct kbs_signer *signer, struct kbs_token *t,
                                 const struct kbs_wire_sign_head *m, struct kbs_answer *ret,
                                 struct kbs_error *err);

#endif
