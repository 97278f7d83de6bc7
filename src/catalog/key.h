/*
 * The catalog's row: what is known of a version of a key or secret. What its card says
 * (wire/card.h) is said there and nowhere else: purpose, class, alg, floor, provenance, length,
 * wrapping key. Never key material in the clear.
 */
#ifndef KBS_CATALOG_KEY_H
#define KBS_CATALOG_KEY_H

#include "base/digest.h"
#include "base/ec.h"
#include "base/limits.h"
#include "base/terms.h"
#include "wire/card.h"

struct kbs_key {
    uint8_t id[KBS_KEY_ID_BYTES];
    uint32_t version;
    char path[KBS_LIMIT_KEY_PATH_BYTES + 1]; /* repo/type/tag */
    enum kbs_key_state state;
    enum kbs_kcv_mac kcv_mac; /* KBS_KCV_NONE for a secret */
    uint8_t kcv[KBS_KCV_BYTES];
    int64_t destroy_at_s; /* Unix time; 0 for never */
    /*
     * A row from before there were cards has none: `card` then holds what the row itself said, and
     * the key is never released.
     */
    bool has_card;
    struct kbs_card card;
    uint8_t card_bytes[KBS_CARD_BYTES];
    uint8_t blob[KBS_LIMIT_KEY_BLOB_BYTES]; /* of a wrapped key */
    size_t blob_len;
    uint64_t epoch;                     /* of the mutation that made the row as it is */
    uint8_t request[KBS_SHA256_BYTES];  /* digest of the administrator's JWS that allowed it */
    uint8_t signature[KBS_ES256_BYTES]; /* over the row (catalog/row.h); zeros if there is none */
};

/* Writes the wire kid repo/type/tag/vN; returns its length. */
size_t kbs_key_kid(const struct kbs_key *key, char out[KBS_LIMIT_KID_BYTES + 1]);

/*
 * Gives a row its card. KBS_INPUT if it is malformed or not the card of this key: another id,
 * version or kid. Says nothing about its MAC, which only kbs-token can check.
 */
KBS_MUST_CHECK int kbs_key_take_card(struct kbs_key *key, struct kbs_span card,
                                     struct kbs_error *err);

static inline bool kbs_key_is_secret(const struct kbs_key *key)
{
    return key->card.storage == KBS_STORAGE_SEALED;
}
static inline struct kbs_span kbs_key_card(const struct kbs_key *key)
{
    return kbs_span(key->card_bytes, key->has_card ? sizeof(key->card_bytes) : 0);
}
static inline struct kbs_span kbs_key_blob(const struct kbs_key *key)
{
    return kbs_span(key->blob, key->blob_len);
}

#endif
