/*
 * The judge decided; this checks that what it ordered can be meant: kbs-token trusts no field,
 * because a judge that runs an attacker's code may still order releases, but must not reach the
 * token with anything that is not a well-formed release.
 *
 * Which key, how strong a rung, and under what name are the card's to say, not the order's: the
 * order must name the card's kid and can only raise its floor.
 *
 * A warm release of a resident key makes no C_FindObjects and no HMAC; one of a wrapped key one
 * C_UnwrapKey more.
 */
#include "hsm/release.h"

#include "hsm/catalog.h"

struct release_order {
    struct kbs_card card;
    struct kbs_tee_key tee;
    enum kbs_locality floor; /* the higher of card and order */
};

int kbs_release_shape_check(struct kbs_span party_v, uint8_t empty_context, struct kbs_span salt,
                            uint8_t floor, struct kbs_error *err)
{
    if (party_v.len != 32 || empty_context > 1) {
        return kbs_fail(err, KBS_INPUT, "the party info is malformed");
    }
    if (salt.len > KBS_LIMIT_COSE_SALT_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the salt is longer than %d bytes",
                        KBS_LIMIT_COSE_SALT_BYTES);
    }
    if (floor <= KBS_LOCALITY_NONE || floor >= KBS_LOCALITY_COUNT) {
        return kbs_fail(err, KBS_INPUT, "the key's floor is not a locality");
    }
    return 0;
}

int kbs_release_tee_key(struct kbs_span bytes, struct kbs_tee_key *ret, struct kbs_error *err)
{
    if (kbs_tee_key_get(bytes, ret, err) != 0 || kbs_tee_key_check_target(ret, err) != 0) {
        return -1;
    }
    return ret->alg != KBS_TEE_ALG_RSA1_5
               ? 0
               : kbs_fail(err, KBS_UNSUPPORTED,
                          "no key is released to a TEE key of RSA1_5, use ECDH-ES+A256KW or "
                          "RSA-OAEP-256");
}

static int release_order_get(struct kbs_token *t, struct kbs_cards *cards,
                             const struct kbs_wire_release *m, struct release_order *ret,
                             struct kbs_error *err)
{
    if (kbs_release_shape_check(m->party_v, m->empty_context, m->salt, m->floor, err) != 0 ||
        kbs_release_tee_key(m->tee_key, &ret->tee, err) != 0 ||
        kbs_card_check(t, cards, m->card, m->kid, KBS_PURPOSE_RELEASE, m->blob, &ret->card, err) !=
            0) {
        return -1;
    }
    if (kbs_card_check_pop(&ret->card, m->pop, err) != 0) {
        return -1;
    }
    ret->floor = (enum kbs_locality)m->floor;
    ret->floor = ret->card.floor > ret->floor ? ret->card.floor : ret->floor;
    return 0;
}

int kbs_release_resident(struct kbs_token *t, const struct kbs_card *card, CK_OBJECT_HANDLE *ret,
                         struct kbs_error *err)
{
    struct kbs_span cka_id = kbs_span(card->cka_id, card->cka_id_len);
    bool is_new = false;

    if (kbs_handles_get(t, CKO_SECRET_KEY, cka_id, ret, &is_new, err) != 0) {
        return -1;
    }
    if (!is_new && t->quirk->handles_are_unique) {
        return 0;
    }
    if (kbs_object_check_key(t, *ret, CKO_SECRET_KEY, cka_id, true, err) != 0) {
        kbs_handles_forget(t); /* or the next release would not look */
        return -1;
    }
    return 0;
}

int kbs_release(struct kbs_token *t, const struct kbs_ladder *ladder, struct kbs_cards *cards,
                const struct kbs_wire_release *m, struct kbs_answer *ret, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct release_order order = {.floor = KBS_LOCALITY_NONE};
    struct kbs_ladder_choice choice;
    struct kbs_recipient_order recipient = {.tee = &order.tee, .kid = m->kid, .salt = m->salt};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;

    if (release_order_get(t, cards, m, &order, err) != 0 ||
        kbs_ladder_choose(ladder, m->formats, &order.tee, order.card.bytes, order.floor, &choice,
                          err) != 0) {
        return -1;
    }
    if (m->empty_context == 0) {
        recipient.party_u = m->kid;
        recipient.party_v = m->party_v;
    }
    if (order.card.storage == KBS_STORAGE_RESIDENT) {
        if (kbs_release_resident(t, &order.card, &key, err) != 0) {
            return -1;
        }
    } else if (kbs_catalog_unwrap(&scratch, order.card.wrap_version, m->blob, order.card.alg,
                                  order.card.bytes, &key, err) != 0) {
        return -1;
    }
    if (kbs_rung_release(t, &choice, &recipient, key, order.card.bytes, &ret->body, err) != 0) {
        return -1;
    }
    ret->rung = choice.rung->name;
    ret->locality = choice.rung->locality;
    ret->format = choice.format;
    return kbs_buf_check(&ret->body, "the answer", err);
}
