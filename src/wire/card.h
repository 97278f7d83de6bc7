/*
 * Key cards (docs/protocol/key-cards.md): what a key is for, in a fixed layout that kbs-token authenticates with a
 * key of its own and checks at every use. Judges keep cards and hand them over; they cannot make one. This
 * file is the layout; the MAC is hsm/card.c's.
 */
#ifndef KBS_WIRE_CARD_H
#define KBS_WIRE_CARD_H

#include "base/digest.h"
#include "base/error.h"
#include "base/terms.h"

#define KBS_CARD_BODY_BYTES 176
#define KBS_CARD_BYTES (KBS_CARD_BODY_BYTES + KBS_SHA256_BYTES) /* body, HMAC-SHA-256 */

#define KBS_CARD_BINDING_REQUIRED 1u /* NEKs: only blobs that are bound to a guest */
#define KBS_CARD_POP_REQUIRED 2u     /* only for requests with proof of possession */
#define KBS_CARD_FLAGS (KBS_CARD_BINDING_REQUIRED | KBS_CARD_POP_REQUIRED)

struct kbs_card {
    enum kbs_purpose purpose;
    enum kbs_storage storage;
    enum kbs_key_alg alg;
    enum kbs_locality floor;
    enum kbs_provenance provenance;
    uint8_t flags;
    uint8_t key_id[KBS_KEY_ID_BYTES];
    uint32_t key_version;  /* from 1 */
    uint32_t bytes;        /* length of the key or secret */
    uint32_t wrap_version; /* of the wrapping key (wrapped) or seal key (sealed); 0 for resident */
    uint64_t created_s;    /* Unix time */
    uint8_t kid[KBS_SHA256_BYTES];    /* SHA-256 of repo/type/tag/vN */
    uint8_t policy[KBS_SHA256_BYTES]; /* SHA-256 of the policy's text */
    uint8_t blob[KBS_SHA256_BYTES];   /* SHA-256 of the blob, sealed secret or public key; else zeros */
    uint8_t cka_id[KBS_CKA_ID_MAX_BYTES]; /* resident: of the token object */
    size_t cka_id_len;                    /* 1 to KBS_CKA_ID_MAX_BYTES; 0 if not resident */
};

/* The bytes that the MAC is over. */
void kbs_card_body_put(const struct kbs_card *card, uint8_t out[KBS_CARD_BODY_BYTES]);

/*
 * Reads a whole card (KBS_CARD_BYTES), strictly: magic, layout, every enum in range, padding zero, storage and its
 * fields in agreement, a length that the alg can have. KBS_INPUT. Says nothing about the MAC, which is *ret_mac,
 * borrowed from `bytes`.
 */
KBS_MUST_CHECK int kbs_card_get(struct kbs_span bytes, struct kbs_card *ret,
                                struct kbs_span *ret_mac, struct kbs_error *err);

#endif
