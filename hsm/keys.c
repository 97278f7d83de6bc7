/*
 * A key for release must leave the token wrapped, so it is extractable; that is all it can do.
 * Every other usage is denied at birth, MODIFIABLE=0 keeps it so (SoftHSM; NSS stores the flag and
 * does not mind it), and what the token made of the template is read back before the key counts.
 *
 * Resident or wrapped is only where the value is kept. A resident key is a token object, and
 * belongs to a scratch like any session object until the last check has passed: a failure half-way
 * leaves nothing behind. A wrapped key is a session object from the start; its blob is opened once
 * more before it is answered, because the store will hold the only copy.
 *
 * CKA_ID is the name of a resident key; that two are never made with the same is checked here and
 * holds because only the one admin lane makes keys. What a key is for is said by its card, made
 * last.
 *
 * An import names its kid in the KDF (apv), so a blob cannot be moved to another name or version,
 * and its purpose in apu (hsm/receive.c).
 */
#include "hsm/keys.h"

#include "hsm/catalog.h"
#include "hsm/kcv.h"
#include "hsm/receive.h"

static CK_KEY_TYPE keys_type(enum kbs_key_alg alg)
{
    return alg == KBS_KEY_ALG_AES ? CKK_AES : CKK_GENERIC_SECRET;
}

int kbs_keys_card_terms(uint8_t floor, uint8_t flags, struct kbs_span policy, struct kbs_card *card,
                        struct kbs_error *err)
{
    if (floor <= KBS_LOCALITY_NONE || floor >= KBS_LOCALITY_COUNT) {
        return kbs_fail(err, KBS_INPUT, "the key's floor is not a locality");
    }
    if ((flags & ~KBS_CARD_FLAGS) != 0 ||
        ((flags & KBS_CARD_BINDING_REQUIRED) != 0 && card->purpose != KBS_PURPOSE_NEK)) {
        return kbs_fail(err, KBS_INPUT, "the key's flags are not those of a key for release");
    }
    if (policy.len != KBS_SHA256_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the policy's digest has %zu bytes", policy.len);
    }
    card->floor = (enum kbs_locality)floor;
    card->flags = flags;
    memcpy(card->policy, policy.p, KBS_SHA256_BYTES);
    return 0;
}

int kbs_keys_card_begin(const struct kbs_keys_order *o, struct kbs_card *ret, struct kbs_error *err)
{
    struct kbs_span path;
    uint32_t kid_version = 0;

    memset(ret, 0, sizeof(*ret));
    if (o->key_id.len != KBS_KEY_ID_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the key id has %zu bytes", o->key_id.len);
    }
    if (!kbs_kid_split(o->kid, &path, &kid_version) || kid_version != o->key_version) {
        return kbs_fail(err, KBS_INPUT, "the kid is not repo/type/tag/vN with the key's version");
    }
    ret->purpose = KBS_PURPOSE_RELEASE;
    memcpy(ret->key_id, o->key_id.p, KBS_KEY_ID_BYTES);
    ret->key_version = o->key_version;
    ret->created_s = o->created;
    kbs_sha256(o->kid, ret->kid);
    return kbs_keys_card_terms(o->floor, o->flags, o->policy, ret, err);
}

/* Where the value will be and what it is, of an order that makes one. */
static int keys_card_value(uint8_t alg, size_t bytes, uint8_t storage, struct kbs_card *card,
                           struct kbs_error *err)
{
    if ((alg != KBS_KEY_ALG_AES && alg != KBS_KEY_ALG_GENERIC) ||
        !kbs_key_bytes_valid((enum kbs_key_alg)alg, bytes)) {
        return kbs_fail(err, KBS_INPUT,
                        "an AES key has 16, 24 or 32 bytes, a generic secret 16 to 64 and a "
                        "multiple of 8");
    }
    if (storage != KBS_STORAGE_RESIDENT && storage != KBS_STORAGE_WRAPPED) {
        return kbs_fail(err, KBS_INPUT, "a key is resident or wrapped");
    }
    card->alg = (enum kbs_key_alg)alg;
    card->bytes = (uint32_t)bytes;
    card->storage = (enum kbs_storage)storage;
    if (card->storage == KBS_STORAGE_RESIDENT) {
        kbs_cka_id(card->key_id, card->key_version, card->cka_id);
        card->cka_id_len = KBS_CKA_ID_BYTES;
    }
    return 0;
}

int kbs_keys_check_absent(const struct kbs_token *t, CK_OBJECT_CLASS class,
                          const struct kbs_card *card, struct kbs_error *err)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;

    if (card->storage != KBS_STORAGE_RESIDENT) {
        return 0;
    }
    if (kbs_object_find(t, class, kbs_span(card->cka_id, card->cka_id_len), &object, err) == 0) {
        return kbs_fail(err, KBS_CONFLICT, "the token has a key with that id already");
    }
    if (err->category != KBS_MISSING) {
        return -1;
    }
    *err = KBS_ERROR_NONE;
    return 0;
}

/* What GENERATE and IMPORT make. CKA_VALUE_LEN is for the caller: generation needs it, unwrapping
 * forbids it. */
static void keys_template(struct kbs_template *t, const struct kbs_card *card, struct kbs_span kid)
{
    bool resident = card->storage == KBS_STORAGE_RESIDENT;

    kbs_template_secret_key(t, keys_type(card->alg), resident, true, KBS_USAGE_NONE);
    if (resident) {
        kbs_template_bytes(t, CKA_ID, kbs_span(card->cka_id, card->cka_id_len));
        kbs_template_bytes(t, CKA_LABEL, kid);
        /* Last: SoftHSM takes it at its word for all that follow. */
        kbs_template_bool(t, CKA_MODIFIABLE, false);
    }
}

/* The blob opens to a key with the same check value. */
static int keys_check_blob(struct kbs_token *t, const struct kbs_card *card, struct kbs_span blob,
                           const uint8_t kcv[KBS_KCV_BYTES], struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    CK_OBJECT_HANDLE again = CK_INVALID_HANDLE;
    enum kbs_kcv_mac mac = KBS_KCV_NONE;
    uint8_t again_kcv[KBS_KCV_BYTES];

    if (kbs_catalog_unwrap(&scratch, card->wrap_version, blob, card->alg, card->bytes, &again,
                           err) != 0 ||
        kbs_kcv_any(t, again, card->bytes, &mac, again_kcv, err) != 0) {
        return -1;
    }
    return memcmp(again_kcv, kcv, KBS_KCV_BYTES) == 0
               ? 0
               : kbs_fail(err, KBS_INTERNAL, "the token wrapped another key than it made");
}

int kbs_keys_store_wrapped(struct kbs_token *t, CK_OBJECT_HANDLE key,
                           const uint8_t kcv[KBS_KCV_BYTES], struct kbs_card *card,
                           uint8_t blob[KBS_WRAPPED_MAX_BYTES], size_t *ret_len,
                           struct kbs_error *err)
{
    if (kbs_catalog_wrap(t, key, card->bytes, blob, ret_len, &card->wrap_version, err) != 0) {
        return -1;
    }
    kbs_sha256(kbs_span(blob, *ret_len), card->blob);
    return keys_check_blob(t, card, kbs_span(blob, *ret_len), kcv, err);
}

int kbs_keys_made(struct kbs_token *t, const struct kbs_card *card, enum kbs_kcv_mac mac,
                  const uint8_t kcv[KBS_KCV_BYTES], struct kbs_span blob, struct kbs_answer *ret,
                  struct kbs_error *err)
{
    uint8_t printed[KBS_CARD_BYTES];

    if (kbs_card_make(t, card, printed, err) != 0) {
        return -1;
    }
    kbs_buf_put_u8(&ret->body, (uint8_t)mac);
    kbs_buf_put(&ret->body, kcv, KBS_KCV_BYTES);
    kbs_buf_put_u8(&ret->body, (uint8_t)card->alg);
    kbs_buf_put_be32(&ret->body, card->bytes);
    kbs_buf_put(&ret->body, printed, sizeof(printed));
    kbs_buf_put_span(&ret->body, blob);
    return kbs_buf_check(&ret->body, "the answer", err);
}

/* A key that was made just now, of the right length, to its card and answer. */
static int keys_finish(struct kbs_token *t, CK_OBJECT_HANDLE key, struct kbs_card *card,
                       struct kbs_answer *ret, struct kbs_error *err)
{
    enum kbs_kcv_mac mac = KBS_KCV_NONE;
    uint8_t kcv[KBS_KCV_BYTES];
    uint8_t blob[KBS_WRAPPED_MAX_BYTES];
    size_t blob_len = 0;
    size_t value_len = kbs_object_value_len(t, key);

    if (value_len != 0 && value_len != card->bytes) {
        return kbs_fail(err, KBS_INTERNAL, "the token made a key of %zu bytes instead of %u",
                        value_len, card->bytes);
    }
    if (kbs_kcv_any(t, key, card->bytes, &mac, kcv, err) != 0 ||
        (card->storage == KBS_STORAGE_WRAPPED &&
         kbs_keys_store_wrapped(t, key, kcv, card, blob, &blob_len, err) != 0)) {
        return -1;
    }
    return kbs_keys_made(t, card, mac, kcv, kbs_span(blob, blob_len), ret, err);
}

int kbs_keys_generate(struct kbs_token *t, const struct kbs_wire_generate *m,
                      struct kbs_answer *ret, struct kbs_error *err)
{
    const struct kbs_keys_order order = {m->key_id, m->key_version, m->kid,    m->floor,
                                         m->flags,  m->policy,      m->created};
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_template template = {.n = 0};
    struct kbs_card card;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;

    if (kbs_keys_card_begin(&order, &card, err) != 0 ||
        keys_card_value(m->alg, m->key_bytes, m->storage, &card, err) != 0 ||
        kbs_keys_check_absent(t, CKO_SECRET_KEY, &card, err) != 0) {
        return -1;
    }
    card.provenance = KBS_PROVENANCE_GENERATED;
    keys_template(&template, &card, m->kid);
    kbs_template_number(&template, CKA_VALUE_LEN, card.bytes);
    if (kbs_scratch_generate(
            &scratch, card.alg == KBS_KEY_ALG_AES ? CKM_AES_KEY_GEN : CKM_GENERIC_SECRET_KEY_GEN,
            &template, &key, err) != 0 ||
        keys_finish(t, key, &card, ret, err) != 0) {
        return -1;
    }
    if (card.storage == KBS_STORAGE_RESIDENT) {
        kbs_scratch_keep(&scratch, key);
    }
    return 0;
}

static int keys_import_check(const struct kbs_wire_import *m, struct kbs_card *card,
                             struct kbs_error *err)
{
    const struct kbs_keys_order order = {m->key_id, m->key_version, m->kid,    m->floor,
                                         m->flags,  m->policy,      m->created};

    if (m->wrapped.len < KBS_WRAPPED_MIN_BYTES || m->wrapped.len > KBS_WRAPPED_MAX_BYTES ||
        m->wrapped.len % 8 != 0) {
        return kbs_fail(err, KBS_INPUT, "the wrapped key has %zu bytes", m->wrapped.len);
    }
    if (kbs_keys_card_begin(&order, card, err) != 0) {
        return -1;
    }
    card->provenance = KBS_PROVENANCE_IMPORTED;
    return keys_card_value(m->alg, m->wrapped.len - 8, m->storage, card, err);
}

int kbs_keys_import(struct kbs_token *t, const struct kbs_ladder *ladder,
                    const struct kbs_wire_import *m, struct kbs_answer *ret, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_template template = {.n = 0};
    struct kbs_ladder_choice used;
    struct kbs_ec_public epk;
    struct kbs_card card;
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;

    if (keys_import_check(m, &card, err) != 0 ||
        kbs_receive_epk(m->epk_x, m->epk_y, &epk, err) != 0 ||
        kbs_keys_check_absent(t, CKO_SECRET_KEY, &card, err) != 0 ||
        kbs_receive_kek(&scratch, ladder, KBS_PURPOSE_IMPORT, 1, &epk, m->kid, card.floor, &kek,
                        &used, err) != 0) {
        return -1;
    }
    keys_template(&template, &card, m->kid);
    if (kbs_scratch_unwrap(&scratch, kek, m->wrapped, &template, &key, err) != 0) {
        return kbs_receive_failed(t, "the wrapped key", err);
    }
    if (keys_finish(t, key, &card, ret, err) != 0) {
        return -1;
    }
    ret->rung = used.rung->name;
    ret->locality = used.rung->locality;
    if (card.storage == KBS_STORAGE_RESIDENT) {
        kbs_scratch_keep(&scratch, key);
    }
    return 0;
}
