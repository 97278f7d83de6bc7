/*
 * These orders begin with a card that this token made, and change one thing about it. They are the
 * admin lane's alone. They name no kid: the kid stands in the card, and whoever signs the row that
 * the new card goes into (SIGN_ROW) has it.
 *
 * Destroying is told truthfully: MISSING is not success. A wrapped key has no object; it ends with
 * its blob, and for good with the wrapping key that it stood under.
 */
#include "hsm/life.h"

#include "hsm/catalog.h"
#include "hsm/kcv.h"
#include "hsm/keys.h"
#include "hsm/service.h"

int kbs_life_recard(struct kbs_token *t, struct kbs_cards *cards, const struct kbs_wire_recard *m,
                    struct kbs_answer *ret, struct kbs_error *err)
{
    struct kbs_card card;
    uint8_t printed[KBS_CARD_BYTES];

    if (kbs_card_open(t, cards, m->card, &card, err) != 0) {
        return -1;
    }
    if (card.storage == KBS_STORAGE_SEALED && m->floor != KBS_LOCALITY_WORKER) {
        return kbs_fail(err, KBS_INPUT, "a sealed secret is opened in the worker: no other floor");
    }
    if (kbs_keys_card_terms(m->floor, m->flags, m->policy, &card, err) != 0 ||
        kbs_card_make(t, &card, printed, err) != 0) {
        return -1;
    }
    kbs_buf_put(&ret->body, printed, sizeof(printed));
    return kbs_buf_check(&ret->body, "the card", err);
}

int kbs_life_rewrap(struct kbs_token *t, struct kbs_cards *cards,
                    const struct kbs_wire_rewrap_catalog *m, struct kbs_answer *ret,
                    struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_card card;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    enum kbs_kcv_mac mac = KBS_KCV_NONE;
    uint8_t kcv[KBS_KCV_BYTES];
    uint8_t blob[KBS_WRAPPED_MAX_BYTES];
    size_t blob_len = 0;

    if (kbs_card_open_for(t, cards, m->card, KBS_PURPOSE_RELEASE, &card, err) != 0) {
        return -1;
    }
    if (card.storage != KBS_STORAGE_WRAPPED) {
        return kbs_fail(err, KBS_INPUT, "the key is resident: it stands under no wrapping key");
    }
    if (kbs_card_check_blob(&card, m->blob, err) != 0 ||
        kbs_catalog_unwrap(&scratch, card.wrap_version, m->blob, card.alg, card.bytes, &key, err) !=
            0 ||
        kbs_kcv_any(t, key, card.bytes, &mac, kcv, err) != 0 ||
        kbs_keys_store_wrapped(t, key, kcv, &card, blob, &blob_len, err) != 0) {
        return -1;
    }
    return kbs_keys_made(t, &card, mac, kcv, kbs_span(blob, blob_len), ret, err);
}

static int life_destroy_object(struct kbs_token *t, const struct kbs_card *card,
                               CK_OBJECT_CLASS class, struct kbs_error *err)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;

    if (kbs_object_find(t, class, kbs_span(card->cka_id, card->cka_id_len), &object, err) != 0) {
        return -1;
    }
    return kbs_object_destroy(t, object, err);
}

static int life_destroy_key(struct kbs_token *t, struct kbs_cards *cards,
                            const struct kbs_wire_destroy *m, struct kbs_error *err)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    struct kbs_card card;

    if (kbs_card_open_for(t, cards, m->card, (enum kbs_purpose)m->purpose, &card, err) != 0) {
        return -1;
    }
    if (card.storage != KBS_STORAGE_RESIDENT) {
        return 0;
    }
    if (kbs_key_alg_is_pair(card.alg)) {
        /* The public half is of no use alone; a token may have lost it before. */
        (void)!life_destroy_object(t, &card, CKO_PUBLIC_KEY, &ignored);
        return life_destroy_object(t, &card, CKO_PRIVATE_KEY, err);
    }
    return life_destroy_object(t, &card, CKO_SECRET_KEY, err);
}

int kbs_life_destroy(struct kbs_token *t, struct kbs_cards *cards, const struct kbs_wire_destroy *m,
                     struct kbs_error *err)
{
    if (m->purpose == KBS_PURPOSE_RELEASE || m->purpose == KBS_PURPOSE_NEK) {
        return life_destroy_key(t, cards, m, err);
    }
    return kbs_service_destroy(t, (enum kbs_purpose)m->purpose, m->key_version, err);
}
