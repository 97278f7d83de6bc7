/*
 * A card is only as good as the key behind its MAC: 32 bytes in the token, which can sign and
 * nothing else. Verification signs again and compares here, in constant time, because C_Verify
 * would need one more usage flag and gives nothing for it.
 *
 * A card that was checked once is remembered by the digest of all its bytes, so that a warm release
 * costs no HMAC in the token. What it says is compared with the order at every use; only the MAC is
 * not computed again. The table is public data: what is in it, the judge has sent.
 *
 * Rejected: signing cards by an EC key (ten times the cost at the first use, and a public key that
 * nobody needs), remembering refusals (an attacker's cards would push the good ones out).
 */
#include "hsm/card.h"

#include <stdlib.h>

#include "base/secret.h"
#include "hsm/ckr.h"
#include "hsm/service.h"

struct kbs_cards {
    uint8_t digests[KBS_LIMIT_CARD_CACHE][KBS_SHA256_BYTES]; /* zeros: empty */
};

int kbs_cards_new(struct kbs_cards **ret, struct kbs_error *err)
{
    *ret = calloc(1, sizeof(**ret));
    if (*ret == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "no memory for the cards that were checked");
    }
    return 0;
}

struct kbs_cards *kbs_cards_free(struct kbs_cards *c)
{
    free(c);
    return NULL;
}

int kbs_card_key_mac(struct kbs_token *t, struct kbs_span text, uint8_t ret[KBS_SHA256_BYTES],
                     struct kbs_error *err)
{
    CK_MECHANISM mech = {CKM_SHA256_HMAC, NULL, 0};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    CK_ULONG len = KBS_SHA256_BYTES;
    CK_RV rv;

    if (kbs_service_find(t, CKO_SECRET_KEY, KBS_PURPOSE_CARD, 1, &key, err) != 0) {
        return err->category == KBS_MISSING
                   ? kbs_fail(err, KBS_UNSUPPORTED, "the token has no card key yet")
                   : -1;
    }
    rv = t->f->C_SignInit(t->session, &mech, key);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_SignInit", __LINE__);
    }
    rv = t->f->C_Sign(t->session, (CK_BYTE_PTR)(uintptr_t)text.p, text.len, ret, &len);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_Sign", __LINE__);
    }
    if (len != KBS_SHA256_BYTES) {
        return kbs_fail(err, KBS_INTERNAL, "the token's HMAC has %lu bytes", len);
    }
    return 0;
}

/* Over "kbs-card-v1" || body. */
static int card_mac(struct kbs_token *t, struct kbs_span body, uint8_t ret[KBS_SHA256_BYTES],
                    struct kbs_error *err)
{
    uint8_t text[sizeof("kbs-card-v1") - 1 + KBS_CARD_BODY_BYTES] = "kbs-card-v1";

    memcpy(text + sizeof(text) - KBS_CARD_BODY_BYTES, body.p, KBS_CARD_BODY_BYTES);
    return kbs_card_key_mac(t, kbs_span(text, sizeof(text)), ret, err);
}

int kbs_card_make(struct kbs_token *t, const struct kbs_card *card, uint8_t out[KBS_CARD_BYTES],
                  struct kbs_error *err)
{
    struct kbs_card again;
    struct kbs_span mac;

    kbs_card_body_put(card, out);
    if (card_mac(t, kbs_span(out, KBS_CARD_BODY_BYTES), out + KBS_CARD_BODY_BYTES, err) != 0) {
        return -1;
    }
    if (kbs_card_get(kbs_span(out, KBS_CARD_BYTES), &again, &mac, err) != 0) {
        err->category = KBS_INTERNAL; /* a card that nobody could use must not leave */
        return -1;
    }
    return 0;
}

static uint8_t *cards_place(struct kbs_cards *cards, const uint8_t digest[KBS_SHA256_BYTES])
{
    return cards->digests[(digest[0] << 8 | digest[1]) % KBS_LIMIT_CARD_CACHE];
}

int kbs_card_open(struct kbs_token *t, struct kbs_cards *cards, struct kbs_span bytes,
                  struct kbs_card *ret, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    uint8_t expected[KBS_SHA256_BYTES];
    struct kbs_span mac;
    uint8_t *place;

    if (kbs_card_get(bytes, ret, &mac, err) != 0) {
        return -1;
    }
    kbs_sha256(bytes, digest);
    place = cards_place(cards, digest);
    if (memcmp(place, digest, sizeof(digest)) == 0) {
        return 0;
    }
    if (card_mac(t, kbs_span(bytes.p, KBS_CARD_BODY_BYTES), expected, err) != 0) {
        return -1;
    }
    if (!kbs_secret_equal(mac, kbs_span(expected, sizeof(expected)))) {
        kbs_cleanse(expected, sizeof(expected));
        return kbs_fail(err, KBS_DENIED, "the key card was not made by this token");
    }
    memcpy(place, digest, sizeof(digest));
    return 0;
}

int kbs_card_open_for(struct kbs_token *t, struct kbs_cards *cards, struct kbs_span bytes,
                      enum kbs_purpose wanted, struct kbs_card *ret, struct kbs_error *err)
{
    if (kbs_card_open(t, cards, bytes, ret, err) != 0) {
        return -1;
    }
    if (ret->purpose != wanted) {
        return kbs_fail(err, KBS_DENIED, "the key is of purpose %s, not %s",
                        kbs_purpose_name(ret->purpose), kbs_purpose_name(wanted));
    }
    return 0;
}

int kbs_card_check_blob(const struct kbs_card *card, struct kbs_span blob, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];

    if (card->storage == KBS_STORAGE_RESIDENT && !kbs_key_alg_is_pair(card->alg)) {
        return blob.len == 0 ? 0
                             : kbs_fail(err, KBS_DENIED, "the key is in the token, not in a blob");
    }
    kbs_sha256(blob, digest);
    if (memcmp(digest, card->blob, sizeof(digest)) != 0) {
        return kbs_fail(err, KBS_DENIED, "the blob is not the one that the key card names");
    }
    return 0;
}

int kbs_card_check_pop(const struct kbs_card *card, uint8_t pop, struct kbs_error *err)
{
    if (pop > 1) {
        return kbs_fail(err, KBS_INPUT, "'pop' is 0 or 1");
    }
    return (card->flags & KBS_CARD_POP_REQUIRED) == 0 || pop == 1
               ? 0
               : kbs_fail(err, KBS_DENIED,
                          "this key is only for requests with a proof of possession");
}

int kbs_card_check(struct kbs_token *t, struct kbs_cards *cards, struct kbs_span bytes,
                   struct kbs_span kid, enum kbs_purpose wanted, struct kbs_span blob,
                   struct kbs_card *ret, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];

    if (kbs_card_open_for(t, cards, bytes, wanted, ret, err) != 0) {
        return -1;
    }
    kbs_sha256(kid, digest);
    if (memcmp(digest, ret->kid, sizeof(digest)) != 0) {
        return kbs_fail(err, KBS_DENIED, "the key card is another key's than the order's");
    }
    return kbs_card_check_blob(ret, blob, err);
}
