/* SIGN_EAR: ES256 by the token-held key of purpose sign-token (RFC 7518 section 3.4). */
#ifndef KBS_HSM_SIGN_H
#define KBS_HSM_SIGN_H

#include "hsm/answer.h"
#include "hsm/object.h"
#include "wire/message.h"

struct kbs_signer {
    bool ready;
    CK_OBJECT_HANDLE private_key;
    struct kbs_ec_public public_key;
    char thumbprint[44]; /* RFC 7638: the kid of what it signs */
};

/*
 * Finds the sign-token key and makes one signature with it, which OpenSSL verifies. KBS_MISSING if
 * there is none (yet); harmless when it is loaded already.
 */
KBS_MUST_CHECK int kbs_signer_load(struct kbs_signer *signer, struct kbs_token *t,
                                   struct kbs_error *err);

/* The claims as a compact JWS, typ JWT. KBS_INPUT if they are empty or too long. */
KBS_MUST_CHECK int kbs_sign_ear(struct kbs_signer *signer, struct kbs_token *t,
                                const struct kbs_wire_sign_ear *m, struct kbs_answer *ret,
                                struct kbs_error *err);

#endif
