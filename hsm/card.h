/*
 * Key cards in the token (docs/protocol/key-cards.md): made and checked with the token-held card
 * key. Layout: wire/card.h.
 */
#ifndef KBS_HSM_CARD_H
#define KBS_HSM_CARD_H

#include "hsm/object.h"
#include "wire/card.h"

/* Cards already checked by this worker, by SHA-256 of the whole card: bounded, direct-mapped. */
struct kbs_cards;
KBS_MUST_CHECK int kbs_cards_new(struct kbs_cards **ret, struct kbs_error *err);
struct kbs_cards *kbs_cards_free(struct kbs_cards *c);

/*
 * Prints the card and its MAC, made in the token, into `out`. KBS_INTERNAL if its fields contradict
 * each other, KBS_UNSUPPORTED if the token has no card key.
 */
KBS_MUST_CHECK int kbs_card_make(struct kbs_token *t, const struct kbs_card *card,
                                 uint8_t out[KBS_CARD_BYTES], struct kbs_error *err);

/*
 * HMAC-SHA-256 by the card key, in the token. Every use has a label of its own at the beginning of `text`
 * (hsm/mark.c). KBS_UNSUPPORTED if the token has no card key.
 */
KBS_MUST_CHECK int kbs_card_key_mac(struct kbs_token *t, struct kbs_span text,
                                    uint8_t ret[KBS_SHA256_BYTES], struct kbs_error *err);

/*
 * Reads a card and checks its MAC, nothing else: for orders that change a card. KBS_INPUT if it is
 * no card, KBS_DENIED if this token did not make it, KBS_UNSUPPORTED if the token has no card key.
 */
KBS_MUST_CHECK int kbs_card_open(struct kbs_token *t, struct kbs_cards *cards,
                                 struct kbs_span bytes, struct kbs_card *ret,
                                 struct kbs_error *err);

/* The same, and that the card is of purpose `wanted`, else KBS_DENIED. */
KBS_MUST_CHECK int kbs_card_open_for(struct kbs_token *t, struct kbs_cards *cards,
                                     struct kbs_span bytes, enum kbs_purpose wanted,
                                     struct kbs_card *ret, struct kbs_error *err);

/*
 * What a use of a key needs: kbs_card_open_for(), and that the card names this kid and this blob
 * (the wrapped key or sealed secret; empty for a resident key). KBS_DENIED if it does not.
 */
KBS_MUST_CHECK int kbs_card_check(struct kbs_token *t, struct kbs_cards *cards,
                                  struct kbs_span bytes, struct kbs_span kid,
                                  enum kbs_purpose wanted, struct kbs_span blob,
                                  struct kbs_card *ret, struct kbs_error *err);

/* That the order says what the card's flags ask of it: a proof of possession, if they do. KBS_DENIED. */
KBS_MUST_CHECK int kbs_card_check_pop(const struct kbs_card *card, uint8_t pop,
                                      struct kbs_error *err);

/* The last part of kbs_card_check() alone: that the card is of this blob, or of none. KBS_DENIED. */
KBS_MUST_CHECK int kbs_card_check_blob(const struct kbs_card *card, struct kbs_span blob,
                                       struct kbs_error *err);

#endif
