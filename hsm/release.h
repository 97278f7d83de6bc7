/* RELEASE: one key to one TEE. */
#ifndef KBS_HSM_RELEASE_H
#define KBS_HSM_RELEASE_H

#include "hsm/answer.h"
#include "hsm/card.h"
#include "hsm/ladder.h"
#include "wire/message.h"

/*
 * Wraps the key of the order's card to the TEE key in it, and prints the finished body. Every field
 * is validated again: KBS_INPUT for shape, KBS_DENIED for a card that does not fit the order
 * (hsm/card.h), KBS_UNPROCESSABLE for a TEE key that is none, KBS_MISSING if the token has no such
 * key, KBS_UNSUPPORTED if no rung at or above the higher of the two floors makes an accepted
 * format. A handle that went stale fails as KBS_CKR_STALE: the caller forgets handles and tries
 * once more.
 */
KBS_MUST_CHECK int kbs_release(struct kbs_token *t, const struct kbs_ladder *ladder,
                               struct kbs_cards *cards, const struct kbs_wire_release *m,
                               struct kbs_answer *ret, struct kbs_error *err);

/* What every order that ends at a TEE has, checked: KBS_INPUT, KBS_UNPROCESSABLE, KBS_UNSUPPORTED. */
KBS_MUST_CHECK int kbs_release_shape_check(struct kbs_span party_v, uint8_t empty_context,
                                           struct kbs_span salt, uint8_t floor,
                                           struct kbs_error *err);
KBS_MUST_CHECK int kbs_release_tee_key(struct kbs_span bytes, struct kbs_tee_key *ret,
                                       struct kbs_error *err);

/*
 * The token object of a resident key's card (cached), checked: class, CKA_ID, sensitive,
 * extractable. KBS_MISSING if it is gone.
 */
KBS_MUST_CHECK int kbs_release_resident(struct kbs_token *t, const struct kbs_card *card,
                                        CK_OBJECT_HANDLE *ret, struct kbs_error *err);

#endif
