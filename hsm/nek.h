/*
 * Keys of purpose nek (docs/protocol/nek.md): what guests' own keys are wrapped to, offline or here, and
 * the one order that opens such a blob, straight to a TEE.
 */
#ifndef KBS_HSM_NEK_H
#define KBS_HSM_NEK_H

#include "hsm/answer.h"
#include "hsm/card.h"
#include "hsm/ladder.h"
#include "wire/message.h"

/*
 * GENERATE of purpose nek: an EC or RSA pair, or an AES key that can only be derived from; a token object,
 * never extractable. Answer: KBS_MADE with the public half (kbs_tee_key_put()) in the place of a blob. A pair
 * has opened something that was wrapped to its public half before it counts. Errors as of
 * kbs_keys_generate(), and KBS_UNSUPPORTED if the token cannot do that.
 */
KBS_MUST_CHECK int kbs_nek_generate(struct kbs_token *t, const struct kbs_ladder *ladder,
                                    const struct kbs_wire_generate *m, struct kbs_answer *ret,
                                    struct kbs_error *err);

/*
 * REWRAP. Opens the blob in the token, with the binding of the order and no other, and wraps what was in it
 * to the TEE key; no session object is left. Rung and format are those of the wrapping, the locality is the
 * lower of both. KBS_DENIED for a card that does not fit, or if it asks for a binding and the order has
 * none; KBS_UNPROCESSABLE if the blob does not open, which it does not for another binding either; otherwise as
 * kbs_release().
 */
KBS_MUST_CHECK int kbs_nek_rewrap(struct kbs_token *t, const struct kbs_ladder *ladder,
                                  struct kbs_cards *cards, const struct kbs_wire_rewrap *m,
                                  struct kbs_answer *ret, struct kbs_error *err);

/*
 * PROVISION. A fresh key, wrapped to the key of purpose nek and to the TEE key; nothing of it stays. The blob is
 * marked (hsm/mark.h). Errors as of kbs_nek_rewrap().
 */
KBS_MUST_CHECK int kbs_nek_provision(struct kbs_token *t, const struct kbs_ladder *ladder,
                                     struct kbs_cards *cards, const struct kbs_wire_provision *m,
                                     struct kbs_answer *ret, struct kbs_error *err);

#endif
