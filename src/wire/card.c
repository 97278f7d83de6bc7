/*
 * One layout, no options, every byte accounted for: two cards that differ in meaning differ in their
 * bytes, and what cannot be printed is not read either.
 *
 *   0 "KBSC"  4 layout  5 purpose  6 storage  7 alg  8 floor  9 provenance  10 flags  11 length of CKA_ID
 *   12 key id  28 key version  32 bytes  36 wrap version  40 created  48 kid  80 policy  112 blob  144 CKA_ID
 */
#include "wire/card.h"

#define LAYOUT 1
#define MAGIC "KBSC"

static void put_be(uint8_t *out, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
    }
}

static uint64_t get_be(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++) {
        v = v << 8 | p[i];
    }
    return v;
}

void kbs_card_body_put(const struct kbs_card *card, uint8_t out[KBS_CARD_BODY_BYTES])
{
    memset(out, 0, KBS_CARD_BODY_BYTES);
    memcpy(out, MAGIC, 4);
    out[4] = LAYOUT;
    out[5] = (uint8_t)card->purpose;
    out[6] = (uint8_t)card->storage;
    out[7] = (uint8_t)card->alg;
    out[8] = (uint8_t)card->floor;
    out[9] = (uint8_t)card->provenance;
    out[10] = card->flags;
    out[11] = (uint8_t)card->cka_id_len;
    memcpy(out + 12, card->key_id, KBS_KEY_ID_BYTES);
    put_be(out + 28, card->key_version, 4);
    put_be(out + 32, card->bytes, 4);
    put_be(out + 36, card->wrap_version, 4);
    put_be(out + 40, card->created_s, 8);
    memcpy(out + 48, card->kid, KBS_SHA256_BYTES);
    memcpy(out + 80, card->policy, KBS_SHA256_BYTES);
    memcpy(out + 112, card->blob, KBS_SHA256_BYTES);
    memcpy(out + 144, card->cka_id, card->cka_id_len);
}

/* What the fields say together. */
static bool card_consistent(const struct kbs_card *c)
{
    bool resident = c->storage == KBS_STORAGE_RESIDENT;
    bool sealed = c->storage == KBS_STORAGE_SEALED;
    bool nek = c->purpose == KBS_PURPOSE_NEK;

    return c->key_version > 0 && (c->flags & ~KBS_CARD_FLAGS) == 0 &&
           kbs_key_bytes_valid(c->alg, c->bytes) && sealed == (c->alg == KBS_KEY_ALG_SECRET) &&
           sealed == (c->purpose == KBS_PURPOSE_SEAL) && resident == (c->cka_id_len != 0) &&
           resident == (c->wrap_version == 0) &&
           (nek || (!kbs_key_alg_is_pair(c->alg) && (c->flags & KBS_CARD_BINDING_REQUIRED) == 0)) &&
           (!nek || (resident && c->alg != KBS_KEY_ALG_GENERIC)) &&
           (c->alg != KBS_KEY_ALG_RSA || (c->flags & KBS_CARD_BINDING_REQUIRED) == 0);
}

int kbs_card_get(struct kbs_span bytes, struct kbs_card *ret, struct kbs_span *ret_mac,
                 struct kbs_error *err)
{
    const uint8_t *p = bytes.p;
    uint8_t again[KBS_CARD_BODY_BYTES];

    if (bytes.len != KBS_CARD_BYTES || memcmp(p, MAGIC, 4) != 0 || p[4] != LAYOUT) {
        return kbs_fail(err, KBS_INPUT, "the key card is not one of layout %d", LAYOUT);
    }
    if (p[5] == 0 || p[5] >= KBS_PURPOSE_COUNT || p[6] == 0 || p[6] >= KBS_STORAGE_COUNT ||
        p[7] == 0 || p[7] >= KBS_KEY_ALG_COUNT || p[8] == 0 || p[8] >= KBS_LOCALITY_COUNT ||
        p[9] == 0 || p[9] >= KBS_PROVENANCE_COUNT || p[11] > KBS_CKA_ID_MAX_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the key card has a field out of range");
    }
    memset(ret, 0, sizeof(*ret));
    ret->purpose = (enum kbs_purpose)p[5];
    ret->storage = (enum kbs_storage)p[6];
    ret->alg = (enum kbs_key_alg)p[7];
    ret->floor = (enum kbs_locality)p[8];
    ret->provenance = (enum kbs_provenance)p[9];
    ret->flags = p[10];
    ret->cka_id_len = p[11];
    memcpy(ret->key_id, p + 12, KBS_KEY_ID_BYTES);
    ret->key_version = (uint32_t)get_be(p + 28, 4);
    ret->bytes = (uint32_t)get_be(p + 32, 4);
    ret->wrap_version = (uint32_t)get_be(p + 36, 4);
    ret->created_s = get_be(p + 40, 8);
    memcpy(ret->kid, p + 48, KBS_SHA256_BYTES);
    memcpy(ret->policy, p + 80, KBS_SHA256_BYTES);
    memcpy(ret->blob, p + 112, KBS_SHA256_BYTES);
    memcpy(ret->cka_id, p + 144, ret->cka_id_len);
    kbs_card_body_put(ret, again); /* also finds padding that is not zero */
    if (memcmp(again, p, KBS_CARD_BODY_BYTES) != 0 || !card_consistent(ret)) {
        return kbs_fail(err, KBS_INPUT, "the key card contradicts itself");
    }
    *ret_mac = kbs_span(p + KBS_CARD_BODY_BYTES, KBS_SHA256_BYTES);
    return 0;
}
