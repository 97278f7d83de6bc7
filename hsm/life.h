/* The later life of a key (list `admin`): another card, another wrapping key, the end. */
#ifndef KBS_HSM_LIFE_H
#define KBS_HSM_LIFE_H

#include "hsm/answer.h"
#include "hsm/card.h"
#include "wire/message.h"

/*
 * RECARD. The card again with another floor, flags and policy; answer: the new card. Errors as
 * kbs_card_open(), KBS_INPUT for malformed fields and for a sealed secret's floor other than
 * worker.
 */
KBS_MUST_CHECK int kbs_life_recard(struct kbs_token *t, struct kbs_cards *cards,
                                   const struct kbs_wire_recard *m, struct kbs_answer *ret,
                                   struct kbs_error *err);

/*
 * REWRAP_CATALOG. A wrapped key under the newest wrap-catalog key; answer: KBS_MADE, with the check
 * value of the key that was unwrapped. Errors as kbs_card_check(), KBS_MISSING if the wrapping key
 * of the card is gone.
 */
KBS_MUST_CHECK int kbs_life_rewrap(struct kbs_token *t, struct kbs_cards *cards,
                                   const struct kbs_wire_rewrap_catalog *m, struct kbs_answer *ret,
                                   struct kbs_error *err);

/*
 * DESTROY, as wire/message.h says. KBS_MISSING if it is gone already, which whoever orders it again
 * takes for done; errors as kbs_card_open() and kbs_service_destroy().
 */
KBS_MUST_CHECK int kbs_life_destroy(struct kbs_token *t, struct kbs_cards *cards,
                                    const struct kbs_wire_destroy *m, struct kbs_error *err);

#endif
