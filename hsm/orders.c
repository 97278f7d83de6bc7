/*
 * A row per order: who may give it, what its deed says, what it does. Everything that an order can
 * do to the token is reached from here, and nothing else.
 *
 * The release list is what a guest lane needs: to release a key or a secret that has a card, and to
 * sign an attestation result. No order on it makes a card, so no guest lane decides what a key is
 * for. The list of a sign worker is not here but where it is served (fronts.c): nothing is on both.
 */
#include "hsm/orders.h"

#include "hsm/adopt.h"
#include "hsm/caps.h"
#include "hsm/keys.h"
#include "hsm/life.h"
#include "hsm/nek.h"
#include "hsm/provision.h"
#include "hsm/receipt.h"
#include "hsm/register.h"
#include "hsm/release.h"
#include "hsm/request.h"
#include "hsm/secret.h"
#include "hsm/service.h"

/* ---- what deeds say ---- */

/* What a card says, whether or not it is one of ours: a refused order is told as it was given. */
static void deed_card(struct kbs_deed *deed, struct kbs_span bytes, bool has_kid)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    struct kbs_card card;
    struct kbs_span mac;

    if (kbs_card_get(bytes, &card, &mac, &ignored) != 0) {
        return;
    }
    memcpy(deed->cka_id, card.cka_id, card.cka_id_len);
    deed->cka_id_len = card.cka_id_len;
    if (!has_kid) {
        memcpy(deed->kid_sha256, card.kid, sizeof(deed->kid_sha256));
        deed->has_kid_sha256 = true;
    }
}

/* A key to be made, which has no card yet. */
static void deed_new_key(struct kbs_deed *deed, struct kbs_span kid, struct kbs_span key_id,
                         uint32_t version, uint8_t storage)
{
    deed->kid = kid;
    if (storage == KBS_STORAGE_RESIDENT && key_id.len == KBS_KEY_ID_BYTES) {
        kbs_cka_id(key_id.p, version, deed->cka_id);
        deed->cka_id_len = KBS_CKA_ID_BYTES;
    }
}

static struct kbs_span deed_purpose(uint8_t purpose)
{
    return kbs_span_str(kbs_purpose_name((enum kbs_purpose)purpose));
}

static void describe_release(const union kbs_order *o, struct kbs_deed *deed)
{
    deed->order = o->release.order;
    deed->kid = o->release.kid;
    deed_card(deed, o->release.card, true);
}

static void describe_open_secret(const union kbs_order *o, struct kbs_deed *deed)
{
    deed->order = o->open_secret.order;
    deed->kid = o->open_secret.kid;
}

static void describe_nek(const union kbs_order *o, struct kbs_deed *deed)
{
    deed->order = o->rewrap.order;
    deed->kid = o->rewrap.kid;
    deed_card(deed, o->rewrap.card, true);
}

static void describe_generate(const union kbs_order *o, struct kbs_deed *deed)
{
    const struct kbs_wire_generate *m = &o->generate;

    deed->order = m->order;
    if (m->purpose == KBS_PURPOSE_RELEASE || m->purpose == KBS_PURPOSE_NEK) {
        deed_new_key(deed, m->kid, m->key_id, m->key_version, m->storage);
    } else {
        deed->kid = deed_purpose(m->purpose);
    }
}

static void describe_import(const union kbs_order *o, struct kbs_deed *deed)
{
    const struct kbs_wire_import *m = &o->import;

    deed->order = m->order;
    deed_new_key(deed, m->kid, m->key_id, m->key_version, m->storage);
}

static void describe_adopt(const union kbs_order *o, struct kbs_deed *deed)
{
    deed->order = o->adopt.order;
    deed->kid = o->adopt.kid; /* its CKA_ID is known when it is found: kbs_operation_deed_done() */
}

static void describe_recard(const union kbs_order *o, struct kbs_deed *deed)
{
    deed->order = o->recard.order;
    deed_card(deed, o->recard.card, false);
}

static void describe_rewrap(const union kbs_order *o, struct kbs_deed *deed)
{
    deed->order = o->rewrap_catalog.order;
    deed_card(deed, o->rewrap_catalog.card, false);
}

static void describe_destroy(const union kbs_order *o, struct kbs_deed *deed)
{
    deed->order = o->destroy.order;
    if (o->destroy.purpose == KBS_PURPOSE_RELEASE || o->destroy.purpose == KBS_PURPOSE_NEK) {
        deed_card(deed, o->destroy.card, false);
    } else {
        deed->kid = deed_purpose(o->destroy.purpose);
    }
}

static void describe_seal(const union kbs_order *o, struct kbs_deed *deed)
{
    deed->order = o->seal.order;
    deed->kid = o->seal.kid;
}

static void describe_reseal(const union kbs_order *o, struct kbs_deed *deed)
{
    deed->order = o->reseal.order;
    deed->kid = o->reseal.kid;
}

static void describe_sign_row(const union kbs_order *o, struct kbs_deed *deed)
{
    deed->has_row = true;
    kbs_sign_row_digest(o->sign_row.content, deed->row);
}

/* ---- what they do ---- */

static int act_release(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                       struct kbs_error *err)
{
    const struct kbs_wire_release *m = &o->release;
    const struct kbs_receipt_about about = {.op = KBS_RECEIPT_RELEASE,
                                            .asked = m->receipt,
                                            .kid = m->kid,
                                            .card = m->card,
                                            .tee_key = m->tee_key,
                                            .party_v = m->party_v};

    return kbs_receipt_begin(&w->receipt_signer, &w->token, &about, err) == 0 &&
                   kbs_release(&w->token, &w->ladder, w->cards, m, ret, err) == 0
               ? kbs_receipt_end(&w->receipt_signer, &w->token, &about, ret, err)
               : -1;
}

static int act_open_secret(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                           struct kbs_error *err)
{
    const struct kbs_wire_open_secret *m = &o->open_secret;
    const struct kbs_receipt_about about = {.op = KBS_RECEIPT_OPEN_SECRET,
                                            .asked = m->receipt,
                                            .kid = m->kid,
                                            .card = m->card,
                                            .tee_key = m->tee_key};

    return kbs_receipt_begin(&w->receipt_signer, &w->token, &about, err) == 0 &&
                   kbs_secret_open(&w->token, &w->ladder, w->cards, w->rsa1_5, m, ret, err) == 0
               ? kbs_receipt_end(&w->receipt_signer, &w->token, &about, ret, err)
               : -1;
}

static int act_sign_ear(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                        struct kbs_error *err)
{
    return kbs_sign_ear(&w->sign_keys, &w->token, &o->sign_ear, ret, err);
}

static int act_nek(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                   struct kbs_error *err)
{
    const struct kbs_wire_rewrap *m = &o->rewrap;
    const struct kbs_receipt_about about = {.op = KBS_RECEIPT_REWRAP,
                                            .asked = m->receipt,
                                            .kid = m->kid,
                                            .card = m->card,
                                            .tee_key = m->tee_key,
                                            .party_v = m->party_v,
                                            .wrapped = m->wrapped};

    return kbs_receipt_begin(&w->receipt_signer, &w->token, &about, err) == 0 &&
                   kbs_nek_rewrap(&w->token, &w->ladder, w->cards, m, ret, err) == 0
               ? kbs_receipt_end(&w->receipt_signer, &w->token, &about, ret, err)
               : -1;
}

static int act_open_request(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                            struct kbs_error *err)
{
    return kbs_request_open(&w->token, &w->ladder, &o->open_request, ret, err);
}

static void describe_provision(const union kbs_order *o, struct kbs_deed *deed)
{
    deed->order = o->provision.order;
    deed->kid = o->provision.kid;
    deed_card(deed, o->provision.card, true);
}

/* What the receipts of both are about. */
#define PROVISION_ABOUT(m)                                                                      \
    {                                                                                           \
        .op = KBS_RECEIPT_PROVISION, .asked = (m)->receipt, .kid = (m)->kid, .card = (m)->card, \
        .tee_key = (m)->tee_key, .party_v = (m)->party_v                                        \
    }

static int act_provision(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                         struct kbs_error *err)
{
    const struct kbs_wire_provision *m = &o->provision;
    const struct kbs_receipt_about about = PROVISION_ABOUT(m);

    return kbs_receipt_begin(&w->receipt_signer, &w->token, &about, err) == 0 &&
                   kbs_nek_provision(&w->token, &w->ladder, w->cards, m, ret, err) == 0
               ? kbs_receipt_end(&w->receipt_signer, &w->token, &about, ret, err)
               : -1;
}

static void describe_reprovision(const union kbs_order *o, struct kbs_deed *deed)
{
    deed->order = o->reprovision.order;
    deed->kid = o->reprovision.kid;
    deed_card(deed, o->reprovision.card, true);
}

static int act_reprovision(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                           struct kbs_error *err)
{
    const struct kbs_wire_reprovision *m = &o->reprovision;
    const struct kbs_receipt_about about = PROVISION_ABOUT(m);

    return kbs_receipt_begin(&w->receipt_signer, &w->token, &about, err) == 0 &&
                   kbs_provision_again(&w->token, &w->ladder, w->cards, m, ret, err) == 0
               ? kbs_receipt_end(&w->receipt_signer, &w->token, &about, ret, err)
               : -1;
}

static void describe_register_set(const union kbs_order *o, struct kbs_deed *deed)
{
    deed->order = o->register_set.order;
    deed->kid = o->register_set.name;
}

static int act_register_set(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                            struct kbs_error *err)
{
    return kbs_register_set(&w->token, &o->register_set, ret, err);
}

static int act_register_check(struct kbs_worker *w, const union kbs_order *o,
                              struct kbs_answer *ret, struct kbs_error *err)
{
    (void)ret;
    return kbs_register_check(&w->token, &o->register_check, err);
}

static int act_generate(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                        struct kbs_error *err)
{
    const struct kbs_wire_generate *m = &o->generate;

    if (m->purpose == KBS_PURPOSE_RELEASE) {
        return kbs_keys_generate(&w->token, m, ret, err);
    }
    if (m->purpose == KBS_PURPOSE_NEK) {
        return kbs_nek_generate(&w->token, &w->ladder, m, ret, err);
    }
    return kbs_service_generate(&w->token, m, ret, err);
}

static int act_import(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                      struct kbs_error *err)
{
    return kbs_keys_import(&w->token, &w->ladder, &o->import, ret, err);
}

static int act_adopt(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                     struct kbs_error *err)
{
    return kbs_adopt(&w->token, &w->ladder, &o->adopt, ret, err);
}

static int act_recard(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                      struct kbs_error *err)
{
    return kbs_life_recard(&w->token, w->cards, &o->recard, ret, err);
}

static int act_rewrap(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                      struct kbs_error *err)
{
    return kbs_life_rewrap(&w->token, w->cards, &o->rewrap_catalog, ret, err);
}

static int act_destroy(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                       struct kbs_error *err)
{
    (void)ret;
    return kbs_life_destroy(&w->token, w->cards, &o->destroy, err);
}

static int act_seal(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                    struct kbs_error *err)
{
    return kbs_secret_seal(&w->token, &w->ladder, &o->seal, ret, err);
}

static int act_reseal(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                      struct kbs_error *err)
{
    return kbs_secret_reseal(&w->token, &w->ladder, w->cards, &o->reseal, ret, err);
}

static int act_sign_row(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                        struct kbs_error *err)
{
    return kbs_sign_row(&w->row_signer, &w->token, &o->sign_row, ret, err);
}

static int act_sign_head(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                         struct kbs_error *err)
{
    return kbs_sign_head(&w->head_signer, &w->token, &o->sign_head, ret, err);
}

static int act_caps(struct kbs_worker *w, const union kbs_order *o, struct kbs_answer *ret,
                    struct kbs_error *err)
{
    (void)o;
    kbs_caps_put(&ret->body, &w->ladder);
    kbs_caps_notes_put(&ret->body, &w->ladder, &w->token);
    return kbs_buf_check(&ret->body, "the capabilities", err);
}

/*
 * The operation lists. DESCRIBE is on both and answered by a message of its own. No deed: any
 * number of tokens opens nothing, a mark that is checked changes nothing, what a guest asks is the judge's to know,
 * a deed would move the head that is being signed (one that is not
 * the ledger's is found by its reader), capabilities are no secret.
 */
static const struct kbs_operation operations[] = {
    {KBS_WIRE_RELEASE, true, "release", describe_release, act_release},
    {KBS_WIRE_OPEN_SECRET, true, "open-secret", describe_open_secret, act_open_secret},
    {KBS_WIRE_REWRAP, true, "rewrap-nek", describe_nek, act_nek},
    {KBS_WIRE_PROVISION, true, "provision", describe_provision, act_provision},
    {KBS_WIRE_REPROVISION, true, "reprovision", describe_reprovision, act_reprovision},
    {KBS_WIRE_REGISTER_SET, true, "register-set", describe_register_set, act_register_set},
    {KBS_WIRE_REGISTER_CHECK, true, NULL, NULL, act_register_check},
    {KBS_WIRE_OPEN_REQUEST, true, NULL, NULL, act_open_request},
    {KBS_WIRE_SIGN_EAR, true, NULL, NULL, act_sign_ear},
    {KBS_WIRE_GENERATE, false, "generate", describe_generate, act_generate},
    {KBS_WIRE_IMPORT, false, "import", describe_import, act_import},
    {KBS_WIRE_ADOPT, false, "adopt", describe_adopt, act_adopt},
    {KBS_WIRE_RECARD, false, "recard", describe_recard, act_recard},
    {KBS_WIRE_REWRAP_CATALOG, false, "rewrap", describe_rewrap, act_rewrap},
    {KBS_WIRE_DESTROY, false, "destroy", describe_destroy, act_destroy},
    {KBS_WIRE_SEAL, false, "seal", describe_seal, act_seal},
    {KBS_WIRE_RESEAL, false, "reseal", describe_reseal, act_reseal},
    {KBS_WIRE_SIGN_ROW, false, "sign-row", describe_sign_row, act_sign_row},
    {KBS_WIRE_SIGN_HEAD, false, NULL, NULL, act_sign_head},
    {KBS_WIRE_CAPS, false, NULL, NULL, act_caps},
};

void kbs_operation_deed_done(const struct kbs_operation *operation, struct kbs_span made,
                             struct kbs_deed *deed)
{
    struct kbs_span card = kbs_span_skip(made, KBS_MADE_HEAD_BYTES);

    if (operation->type == KBS_WIRE_ADOPT && card.len >= KBS_CARD_BYTES) {
        deed_card(deed, kbs_span(card.p, KBS_CARD_BYTES), true);
    }
}

const struct kbs_operation *kbs_operation_find(enum kbs_duty duty, enum kbs_wire_type type)
{
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        if (operations[i].type == type &&
            (duty == KBS_DUTY_ADMIN ||
             (duty == KBS_DUTY_RELEASE && operations[i].on_release_list))) {
            return &operations[i];
        }
    }
    return NULL;
}
