/*
 * Opening what was sealed to an EC key of the service (src/seal): sealed secrets, envelopes of requests.
 */
#ifndef KBS_HSM_OPENING_H
#define KBS_HSM_OPENING_H

#include "hsm/ladder.h"
#include "seal/seal.h"

/* Something sealed, and what opens it. All borrowed. */
struct kbs_opening {
    enum kbs_purpose purpose; /* SEAL or REQUEST: of the key, and so of the road */
    const struct kbs_sealed *sealed;
    CK_OBJECT_HANDLE private_key;
    const struct kbs_ec_public *public_key; /* its other half */
    struct kbs_span apv;                    /* which one it is: a kid, a request */
    bool in_token;                          /* AES-GCM runs in the token (ladder->gcm) */
};

/*
 * Opens it onto the secure heap. Returns owned. KBS_UNPROCESSABLE if it does not open, KBS_UNSUPPORTED if the
 * token has no way to.
 */
KBS_MUST_CHECK int kbs_opening_run(struct kbs_token *t, const struct kbs_ladder *ladder,
                                   const struct kbs_opening *o, struct kbs_secret **ret,
                                   struct kbs_error *err);

/*
 * The content of something sealed by AES-GCM in the token, under a session key that can decrypt.
 * `out` has the length of ciphertext and tag, because some tokens ask for it, and then that of the
 * content. KBS_UNPROCESSABLE if the tag does not match.
 */
KBS_MUST_CHECK int kbs_opening_decrypt(struct kbs_token *t, CK_OBJECT_HANDLE cek,
                                       const struct kbs_sealed *sealed, struct kbs_span aad,
                                       struct kbs_secret *out, struct kbs_error *err);

#endif
