/* Making keys for release in the token: generation and import (list `admin`). */
#ifndef KBS_HSM_KEYS_H
#define KBS_HSM_KEYS_H

#include "hsm/answer.h"
#include "hsm/card.h"
#include "hsm/ladder.h"
#include "wire/message.h"

/*
 * GENERATE of purpose release: a key of alg and key_bytes, extractable by wrap, good for nothing
 * else, kept as `storage` says; answer: KBS_MADE. KBS_CONFLICT if the token has a key of that id,
 * KBS_INPUT for malformed fields, KBS_UNSUPPORTED if the token has no card key or, for a wrapped
 * key, no wrap-catalog key.
 */
KBS_MUST_CHECK int kbs_keys_generate(struct kbs_token *t, const struct kbs_wire_generate *m,
                                     struct kbs_answer *ret, struct kbs_error *err);

/*
 * IMPORT. Opens an ECDH-ES+A256KW blob addressed to the import key, in the token, on no rung below
 * the key's floor, straight to a key like those of GENERATE; answer: KBS_MADE, rung and locality of
 * the opening. Errors as GENERATE, and KBS_UNPROCESSABLE if the blob does not open or epk is off
 * its curve, KBS_MISSING without an import key, KBS_UNSUPPORTED if no rung reaches the floor.
 */
KBS_MUST_CHECK int kbs_keys_import(struct kbs_token *t, const struct kbs_ladder *ladder,
                                   const struct kbs_wire_import *m, struct kbs_answer *ret,
                                   struct kbs_error *err);

/* ---- for the other orders of a key's life (hsm/adopt.c, hsm/life.c) ---- */

/* The fields that every order for a new key has, as they came. */
struct kbs_keys_order {
    struct kbs_span key_id;
    uint32_t key_version;
    struct kbs_span kid;
    uint8_t floor;
    uint8_t flags;
    struct kbs_span policy;
    uint64_t created;
};

/*
 * Checks them and fills in what they say of a card of purpose release: key id and version, kid,
 * floor, flags, policy, created. KBS_INPUT.
 */
KBS_MUST_CHECK int kbs_keys_card_begin(const struct kbs_keys_order *o, struct kbs_card *ret,
                                       struct kbs_error *err);

/* floor, flags and policy, checked, into a card of any purpose. KBS_INPUT. */
KBS_MUST_CHECK int kbs_keys_card_terms(uint8_t floor, uint8_t flags, struct kbs_span policy,
                                       struct kbs_card *card, struct kbs_error *err);

/* KBS_CONFLICT if the token has an object of that class with a resident key's CKA_ID. */
KBS_MUST_CHECK int kbs_keys_check_absent(const struct kbs_token *t, CK_OBJECT_CLASS class,
                                         const struct kbs_card *card, struct kbs_error *err);

/*
 * Wraps a session key under the newest wrap-catalog key and opens the blob again, to be sure that
 * what is stored is what was made; fills in the card's blob and wrap_version.
 */
KBS_MUST_CHECK int kbs_keys_store_wrapped(struct kbs_token *t, CK_OBJECT_HANDLE key,
                                          const uint8_t kcv[KBS_KCV_BYTES], struct kbs_card *card,
                                          uint8_t blob[KBS_WRAPPED_MAX_BYTES], size_t *ret_len,
                                          struct kbs_error *err);

/* Makes the card and appends KBS_MADE to the answer. blob: empty for a resident key. */
KBS_MUST_CHECK int kbs_keys_made(struct kbs_token *t, const struct kbs_card *card,
                                 enum kbs_kcv_mac mac, const uint8_t kcv[KBS_KCV_BYTES],
                                 struct kbs_span blob, struct kbs_answer *ret,
                                 struct kbs_error *err);

#endif
