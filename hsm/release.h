/* RELEASE: one key to one TEE. */
#ifndef KBS_HSM_RELEASE_H
#define KBS_HSM_RELEASE_H

#include "hsm/answer.h"
#include "hsm/ladder.h"
#include "wire/message.h"

/*
 * Wraps the key that the order names to the TEE key in it, and prints the finished body. Every
 * field is validated again: KBS_INPUT for shape, KBS_UNPROCESSABLE for a TEE key off its curve,
 * KBS_MISSING if the token has no such key, KBS_UNSUPPORTED if no rung at or above the floor makes
 * an accepted format.
 */
KBS_MUST_CHECK int kbs_release(struct kbs_token *t, const struct kbs_ladder *ladder,
                               struct kbs_handle_cache *cache, const struct kbs_wire_release *m,
                               struct kbs_answer *ret, struct kbs_error *err);

#endif
