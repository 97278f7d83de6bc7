/*
 * What the token says that it made.
 *
 * The problem: the judge of the admin lane writes down what a key is, and from then on every
 * release believes the row. The approach: KBS_MADE is taken apart strictly, and the card in it must
 * say what was ordered, field by field; a token that made something else made an orphan. The card's
 * MAC is kbs-token's own affair.
 */
#include "api/context.h"

static int made_head(struct kbs_span body, struct kbs_key *key, enum kbs_key_alg *ret_alg,
                     uint32_t *ret_bytes, struct kbs_error *err)
{
    const uint8_t *p = body.p;

    if (body.len < KBS_MADE_HEAD_BYTES + KBS_CARD_BYTES || p[0] == 0 || p[0] >= KBS_KCV_COUNT ||
        body.len > KBS_MADE_HEAD_BYTES + KBS_CARD_BYTES + sizeof(key->blob)) {
        return kbs_fail(err, KBS_INTERNAL, "the token's account of the key is malformed");
    }
    key->kcv_mac = (enum kbs_kcv_mac)p[0];
    memcpy(key->kcv, p + 1, sizeof(key->kcv));
    p += 1 + KBS_KCV_BYTES;
    *ret_alg = p[0] < KBS_KEY_ALG_COUNT ? (enum kbs_key_alg)p[0] : KBS_KEY_ALG_NONE;
    *ret_bytes = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
    return 0;
}

static bool card_is_as_ordered(const struct kbs_card *made, const struct kbs_card *ordered)
{
    return made->purpose == ordered->purpose && made->storage == ordered->storage &&
           made->floor == ordered->floor && made->provenance == ordered->provenance &&
           made->flags == ordered->flags && made->created_s == ordered->created_s &&
           (ordered->alg == KBS_KEY_ALG_NONE || made->alg == ordered->alg) &&
           (ordered->bytes == 0 || made->bytes == ordered->bytes) &&
           memcmp(made->policy, ordered->policy, sizeof(made->policy)) == 0;
}

int kbs_made_card(struct kbs_span card, struct kbs_key *key, struct kbs_error *err)
{
    const struct kbs_card ordered = key->card;
    struct kbs_error why = KBS_ERROR_NONE;

    if (kbs_key_take_card(key, card, &why) != 0 || !card_is_as_ordered(&key->card, &ordered)) {
        return kbs_fail(err, KBS_INTERNAL, "the token's card is not the one that was ordered");
    }
    return 0;
}

int kbs_made_take(struct kbs_span body, struct kbs_key *key, struct kbs_error *err)
{
    struct kbs_span card = kbs_span_skip(body, KBS_MADE_HEAD_BYTES);
    struct kbs_span blob = kbs_span_skip(card, KBS_CARD_BYTES);
    enum kbs_key_alg alg = KBS_KEY_ALG_NONE;
    uint8_t digest[KBS_SHA256_BYTES] = {0};
    uint32_t bytes = 0;

    card.len = card.len < KBS_CARD_BYTES ? card.len : KBS_CARD_BYTES;
    if (made_head(body, key, &alg, &bytes, err) != 0 || kbs_made_card(card, key, err) != 0) {
        return -1;
    }
    if (blob.len != 0) {
        kbs_sha256(blob, digest);
    }
    if (alg != key->card.alg || bytes != key->card.bytes ||
        (blob.len != 0) !=
            (key->card.storage == KBS_STORAGE_WRAPPED || kbs_key_alg_is_pair(key->card.alg)) ||
        memcmp(digest, key->card.blob, sizeof(digest)) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the token's card does not describe the key beside it");
    }
    memcpy(key->blob, blob.len != 0 ? blob.p : key->blob, blob.len);
    key->blob_len = blob.len;
    return 0;
}

int kbs_made_secret(struct kbs_span body, struct kbs_key *key, struct kbs_buf *sealed,
                    struct kbs_error *err)
{
    struct kbs_span rest = kbs_span_skip(body, KBS_CARD_BYTES);
    uint8_t digest[KBS_SHA256_BYTES];

    if (rest.len == 0) {
        return kbs_fail(err, KBS_INTERNAL, "the token's account of the secret is malformed");
    }
    if (kbs_made_card(kbs_span(body.p, KBS_CARD_BYTES), key, err) != 0) {
        return -1;
    }
    kbs_sha256(rest, digest);
    if (memcmp(digest, key->card.blob, sizeof(digest)) != 0) {
        return kbs_fail(err, KBS_INTERNAL,
                        "the token's card does not describe the secret beside it");
    }
    kbs_buf_put_span(sealed, rest); /* the next order, a row's signature, has another answer */
    return kbs_buf_check(sealed, "the sealed secret", err);
}
