/* What was provisioned once, to its guest again. */
#ifndef KBS_HSM_PROVISION_H
#define KBS_HSM_PROVISION_H

#include "hsm/answer.h"
#include "hsm/card.h"
#include "hsm/ladder.h"
#include "wire/message.h"

/*
 * REPROVISION. KBS_DENIED if the blob is not the one that the mark was made of; otherwise as kbs_nek_rewrap().
 */
KBS_MUST_CHECK int kbs_provision_again(struct kbs_token *t, const struct kbs_ladder *ladder,
                                       struct kbs_cards *cards,
                                       const struct kbs_wire_reprovision *m, struct kbs_answer *ret,
                                       struct kbs_error *err);

#endif
