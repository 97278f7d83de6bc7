/*
 * Sealed secrets (docs/protocol/sealed-secrets.md): SEAL takes one in, OPEN_SECRET hands one to a
 * TEE.
 */
#ifndef KBS_HSM_SECRET_H
#define KBS_HSM_SECRET_H

#include "hsm/answer.h"
#include "hsm/card.h"
#include "hsm/ladder.h"
#include "seal/seal.h"
#include "wire/message.h"

/*
 * SEAL. Opens what an administrator's client sealed once, to be sure that it opens, and answers its
 * card and its form at rest; a plaintext is sealed here first, and the caller wipes the message's
 * copy of it. KBS_INPUT for malformed fields, KBS_MISSING without a seal key, KBS_UNPROCESSABLE if
 * it does not open under the newest one, KBS_UNSUPPORTED if the token has no way to.
 */
KBS_MUST_CHECK int kbs_secret_seal(struct kbs_token *t, const struct kbs_ladder *ladder,
                                   const struct kbs_wire_seal *m, struct kbs_answer *ret,
                                   struct kbs_error *err);

/*
 * Finds out whether the token decrypts by AES-GCM, on a throw-away pair, and says so in ladder->gcm,
 * which the orders here go by. After kbs_ladder_probe(), and with its `all` and its errors.
 */
KBS_MUST_CHECK int kbs_secret_probe(struct kbs_token *t, struct kbs_ladder *ladder, bool all,
                                    struct kbs_error *err);

/*
 * RESEAL. Answers as SEAL does. The same secret under the newest seal key: what was sealed is opened
 * again and compared before it is answered. Errors as kbs_card_check(), KBS_UNSUPPORTED if the seal
 * key that it stands under is gone.
 */
KBS_MUST_CHECK int kbs_secret_reseal(struct kbs_token *t, const struct kbs_ladder *ladder,
                                     struct kbs_cards *cards, const struct kbs_wire_reseal *m,
                                     struct kbs_answer *ret, struct kbs_error *err);

/*
 * OPEN_SECRET. Answers a flattened JWE to the TEE key; locality worker, format JWE. rsa1_5: TEE keys
 * of that algorithm are taken. Errors as kbs_card_check(), KBS_UNPROCESSABLE for a TEE key that is
 * none or is not taken, KBS_UNSUPPORTED for a card whose floor is above that, or if the seal key that the secret stands under is gone.
 */
KBS_MUST_CHECK int kbs_secret_open(struct kbs_token *t, const struct kbs_ladder *ladder,
                                   struct kbs_cards *cards, bool rsa1_5,
                                   const struct kbs_wire_open_secret *m, struct kbs_answer *ret,
                                   struct kbs_error *err);

#endif
