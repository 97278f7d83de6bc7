/* ADOPT: a secret key that is in the token already becomes a resident key (list `admin`). */
#ifndef KBS_HSM_ADOPT_H
#define KBS_HSM_ADOPT_H

#include "hsm/answer.h"
#include "hsm/ladder.h"
#include "wire/message.h"

/*
 * The URI names exactly one secret key by id or object (RFC 7512), and may name the token too. It
 * must be sensitive and extractable, not only to trusted keys, AES or a generic secret of a length
 * that is released, with a CKA_ID of its own. Answer: KBS_MADE; rung and locality: the best by
 * which it was released to a throw-away key; note: what about it is weaker than in a key made here.
 * KBS_INPUT for malformed fields, KBS_MISSING if nothing matches, KBS_CONFLICT if more does or the
 * key has a card as its own, KBS_UNPROCESSABLE for a key that cannot be released, KBS_UNSUPPORTED
 * if its best rung is below the floor.
 */
KBS_MUST_CHECK int kbs_adopt(struct kbs_token *t, const struct kbs_ladder *ladder,
                             const struct kbs_wire_adopt *m, struct kbs_answer *ret,
                             struct kbs_error *err);

#endif
