/*
 * Receiving: the unwrapping key of something addressed to one of the service's EC keys by
 * ECDH-ES+A256KW (RFC 7518 section 4.6). Imports, sealed secrets, and what other roads there will
 * be.
 */
#ifndef KBS_HSM_RECEIVE_H
#define KBS_HSM_RECEIVE_H

#include "hsm/ladder.h"

/* An epk as orders carry it: two P-256 coordinates. KBS_INPUT for other lengths, KBS_UNPROCESSABLE
 * off the curve. */
KBS_MUST_CHECK int kbs_receive_epk(struct kbs_span x, struct kbs_span y, struct kbs_ec_public *ret,
                                   struct kbs_error *err);

/*
 * Derives the sender's wrapping key as a session object of the scratch, good for UNWRAP only, by
 * the best JOSE rung that passed and is at or above `floor`: from the service's EC key of that
 * purpose and version, epk (checked by the caller), apu "kbs-<purpose>-v1", which no caller can
 * choose, and apv. `used` (may be NULL) says which rung it was. KBS_MISSING if the token has no
 * such key, KBS_UNSUPPORTED if no rung reaches the floor.
 */
KBS_MUST_CHECK int kbs_receive_kek(struct kbs_scratch *s, const struct kbs_ladder *ladder,
                                   enum kbs_purpose purpose, uint32_t version,
                                   const struct kbs_ec_public *epk, struct kbs_span apv,
                                   enum kbs_locality floor, CK_OBJECT_HANDLE *ret,
                                   struct kbs_ladder_choice *used, struct kbs_error *err);
/* What is addressed to a key that the caller has found. */
struct kbs_received {
    enum kbs_purpose purpose;
    enum kbs_format format; /* JOSE or COSE */
    CK_OBJECT_HANDLE private_key;
    const struct kbs_ec_public *epk; /* borrowed; checked by the caller */
    struct kbs_span kid;             /* COSE: in the recipient's protected map */
    struct kbs_span party_v;
    struct kbs_span salt; /* COSE */
};
/* The same for that; PartyUInfo is of its purpose. */
KBS_MUST_CHECK int kbs_receive_kek_by(struct kbs_scratch *s, const struct kbs_ladder *ladder,
                                      const struct kbs_received *from, enum kbs_locality floor,
                                      CK_OBJECT_HANDLE *ret, struct kbs_ladder_choice *used,
                                      struct kbs_error *err);

/*
 * Whether `point` is the public half of the service's key of that purpose and version: something is
 * wrapped to it in software, and unwrapped in the token. -1 if that cannot be told.
 */
KBS_MUST_CHECK int kbs_receive_prove(struct kbs_token *t, const struct kbs_ladder *ladder,
                                     enum kbs_purpose purpose, uint32_t version,
                                     const struct kbs_ec_public *point, bool *ret_proven,
                                     struct kbs_error *err);

/*
 * After C_UnwrapKey failed on bytes that came from outside. Tokens answer a garbled blob with
 * anything (hsm/ckr.c); if the answer may be about the bytes, and the token still works right
 * after, it was the bytes: KBS_UNPROCESSABLE, naming `what` ("the wrapped key"). Else *err stays as
 * it is. Returns -1.
 */
int kbs_receive_failed(struct kbs_token *t, const char *what, struct kbs_error *err);

#endif
