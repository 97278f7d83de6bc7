/*
 * A NEK is opened by doing what its blob was made by, once more: ECDH with PartyUInfo "kbs-nek-v1" and
 * PartyVInfo the binding; or a wrapping key derived from an AES key and the binding; or RSA-OAEP, which
 * binds to nobody. The binding is the one of the guest that asks, never the blob's own word: a blob
 * that was bound to another one is wrapped under another key and does not open.
 *
 * The AES key may do nothing but derive (CKM_AES_CBC_ENCRYPT_DATA, zero IV, over 32 bytes that are a
 * SHA-256: two blocks, so the result is 32 bytes of a permutation of them under the key). SoftHSM and NSS
 * both have it, and neither has an HKDF over secret keys in common.
 *
 * What is unwrapped lives as a session object for one order. It must be extractable, or it could not
 * be wrapped to a TEE key; nothing else is allowed to it.
 */
#include "hsm/nek.h"

#include "base/random.h"
#include "hsm/kcv.h"
#include "hsm/keys.h"
#include "hsm/mark.h"
#include "hsm/oaep.h"
#include "hsm/receive.h"
#include "hsm/release.h"
#include "seal/nek.h"

#define NEK_AES_BYTES 32u
#define NEK_IV_BYTES 16u

/* A blob and what opens it, whichever kind it is. */
struct nek_opening {
    enum kbs_nek_kind kind;
    CK_OBJECT_HANDLE key; /* private or AES */
    const struct kbs_tee_key *public_key;
    const struct kbs_ec_public *epk;
    struct kbs_span kid;
    struct kbs_span salt;
    const struct kbs_nek_binding *binding;
    struct kbs_span wrapped;
    enum kbs_locality floor;
};

static enum kbs_curve nek_curve(enum kbs_key_alg alg)
{
    switch (alg) {
    case KBS_KEY_ALG_P256:
        return KBS_CURVE_P256;
    case KBS_KEY_ALG_P384:
        return KBS_CURVE_P384;
    case KBS_KEY_ALG_P521:
        return KBS_CURVE_P521;
    default:
        return KBS_CURVE_NONE;
    }
}

/* ---- opening ---- */

/* A session object that can be wrapped and no more; bytes 0: not known before. */
static void nek_template(struct kbs_template *t, size_t bytes)
{
    bool aes = bytes == 16 || bytes == 24 || bytes == 32;

    kbs_template_secret_key(t, aes ? CKK_AES : CKK_GENERIC_SECRET, false, true, KBS_USAGE_NONE);
}

static int nek_derive(struct kbs_scratch *s, CK_OBJECT_HANDLE parent,
                      const struct kbs_nek_binding *binding, CK_KEY_TYPE type, bool extractable,
                      unsigned int usage, CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    CK_AES_CBC_ENCRYPT_DATA_PARAMS params = {.length = KBS_SHA256_BYTES};
    CK_MECHANISM mech = {CKM_AES_CBC_ENCRYPT_DATA, &params, sizeof(params)};
    uint8_t data[KBS_SHA256_BYTES];
    struct kbs_template key = {.n = 0};

    kbs_nek_derivation(binding, data);
    params.pData = data;
    kbs_template_secret_key(&key, type, false, extractable, usage);
    kbs_template_number(&key, CKA_VALUE_LEN, NEK_AES_BYTES);
    return kbs_scratch_derive(s, &mech, parent, &key, ret, err);
}

/* The wrapping key of a blob that goes by AES Key Wrap. */
static int nek_kek(struct kbs_scratch *s, const struct kbs_ladder *ladder,
                   const struct nek_opening *o, CK_OBJECT_HANDLE *ret,
                   enum kbs_locality *ret_locality, struct kbs_error *err)
{
    uint8_t party_v[KBS_NEK_BINDING_BYTES];
    const struct kbs_received from = {
        .purpose = KBS_PURPOSE_NEK,
        .format = o->kind == KBS_NEK_COSE ? KBS_FORMAT_COSE : KBS_FORMAT_JOSE,
        .private_key = o->key,
        .epk = o->epk,
        .kid = o->kid,
        .party_v = kbs_span(party_v, sizeof(party_v)),
        .salt = o->salt,
    };
    struct kbs_ladder_choice used;

    if (o->kind == KBS_NEK_AES_KW) {
        *ret_locality = KBS_LOCALITY_TOKEN;
        return nek_derive(s, o->key, o->binding, CKK_AES, false, KBS_USAGE_UNWRAP, ret, err);
    }
    kbs_nek_binding_put(o->binding, party_v);
    if (kbs_receive_kek_by(s, ladder, &from, o->floor, ret, &used, err) != 0) {
        return -1;
    }
    *ret_locality = used.rung->locality;
    return 0;
}

/* The key in the blob as a session object; its length, 0 where the token does not tell. */
static int nek_open(struct kbs_scratch *s, const struct kbs_ladder *ladder,
                    const struct nek_opening *o, CK_OBJECT_HANDLE *ret, size_t *ret_bytes,
                    enum kbs_locality *ret_locality, struct kbs_error *err)
{
    CK_RSA_PKCS_OAEP_PARAMS oaep = kbs_oaep_params(o->public_key->alg);
    CK_MECHANISM mech = {CKM_RSA_PKCS_OAEP, &oaep, sizeof(oaep)};
    struct kbs_template key = {.n = 0};
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
    int rc;

    if (o->kind == KBS_NEK_OAEP) {
        nek_template(&key, 0);
        *ret_locality = KBS_LOCALITY_TOKEN;
        rc = kbs_scratch_unwrap_by(s, &mech, o->key, o->wrapped, &key, ret, err);
    } else {
        nek_template(&key, o->wrapped.len - 8);
        if (nek_kek(s, ladder, o, &kek, ret_locality, err) != 0) {
            return -1;
        }
        rc = kbs_scratch_unwrap(s, kek, o->wrapped, &key, ret, err);
    }
    if (rc != 0) {
        return kbs_receive_failed(s->token, "the NEK", err);
    }
    *ret_bytes =
        o->kind == KBS_NEK_OAEP ? kbs_object_value_len(s->token, *ret) : o->wrapped.len - 8;
    return 0;
}

/* ---- GENERATE ---- */

static int nek_card(const struct kbs_wire_generate *m, struct kbs_card *card, struct kbs_error *err)
{
    struct kbs_keys_order order = {m->key_id, m->key_version, m->kid,    m->floor,
                                   m->flags,  m->policy,      m->created};
    enum kbs_key_alg alg = m->alg < KBS_KEY_ALG_COUNT ? (enum kbs_key_alg)m->alg : KBS_KEY_ALG_NONE;
    bool aes = alg == KBS_KEY_ALG_AES && m->key_bytes == NEK_AES_BYTES;

    order.flags &= (uint8_t)~KBS_CARD_BINDING_REQUIRED;
    if (kbs_keys_card_begin(&order, card, err) != 0) {
        return -1;
    }
    if ((!aes && !kbs_key_alg_is_pair(alg)) || !kbs_key_bytes_valid(alg, m->key_bytes) ||
        m->storage != KBS_STORAGE_RESIDENT) {
        return kbs_fail(err, KBS_INPUT,
                        "a key of purpose nek is resident, and P-256, P-384, P-521, RSA of 2048, "
                        "3072 or 4096 bits, or AES of 32 bytes");
    }
    if (alg == KBS_KEY_ALG_RSA && (m->flags & KBS_CARD_BINDING_REQUIRED) != 0) {
        return kbs_fail(err, KBS_INPUT, "what is wrapped to an RSA key cannot be bound to a guest");
    }
    card->purpose = KBS_PURPOSE_NEK;
    card->flags = m->flags;
    card->provenance = KBS_PROVENANCE_GENERATED;
    card->storage = KBS_STORAGE_RESIDENT;
    card->alg = alg;
    card->bytes = m->key_bytes;
    kbs_cka_id(card->key_id, card->key_version, card->cka_id);
    card->cka_id_len = KBS_CKA_ID_BYTES;
    return 0;
}

static void nek_name(struct kbs_template *t, const struct kbs_card *card, struct kbs_span kid)
{
    kbs_template_bytes(t, CKA_ID, kbs_span(card->cka_id, card->cka_id_len));
    kbs_template_bytes(t, CKA_LABEL, kid);
}

static int nek_make_pair(struct kbs_scratch *s, const struct kbs_card *card, struct kbs_span kid,
                         CK_OBJECT_HANDLE *ret_public, CK_OBJECT_HANDLE *ret_private,
                         struct kbs_tee_key *ret, struct kbs_error *err)
{
    bool rsa = card->alg == KBS_KEY_ALG_RSA;
    struct kbs_template public_key = {.n = 0};
    struct kbs_template private_key = {.n = 0};
    enum kbs_curve curve = nek_curve(card->alg);
    int rc;

    if (rsa) {
        kbs_template_rsa_pair(&public_key, &private_key, 8ul * card->bytes, true);
    } else {
        kbs_template_ec_pair(&public_key, &private_key, curve, true, KBS_USAGE_DERIVE);
    }
    nek_name(&public_key, card, kid);
    kbs_template_bool(&private_key, CKA_MODIFIABLE, false);
    nek_name(&private_key, card, kid);
    if (rsa) {
        rc = kbs_scratch_generate_pair(s, CKM_RSA_PKCS_KEY_PAIR_GEN, &public_key, &private_key,
                                       ret_public, ret_private, err);
        return rc == 0 ? kbs_object_rsa_public(s->token, *ret_public, &ret->rsa, err) : -1;
    }
    rc = kbs_scratch_generate_ec(s, &public_key, &private_key, ret_public, ret_private, err);
    return rc == 0 ? kbs_object_ec_point(s->token, *ret_public, curve, &ret->ec, err) : -1;
}

/* Something wrapped to the public half, in software, opens with the private one. */
static int nek_prove(struct kbs_token *t, const struct kbs_ladder *ladder,
                     const struct kbs_tee_key *public_key, CK_OBJECT_HANDLE private_key,
                     enum kbs_locality floor, struct kbs_error *err)
{
    static const struct kbs_nek_binding nobody;
    KBS_AUTO_SCRATCH scratch = {.token = t};
    bool ec = public_key->alg == KBS_TEE_ALG_ECDH_ES_A256KW;
    const struct kbs_nek_to to = {.key = public_key,
                                  .kind = ec ? KBS_NEK_JOSE : KBS_NEK_OAEP,
                                  .kid = KBS_SPAN_LIT("proof"),
                                  .binding = &nobody};
    uint8_t value[NEK_AES_BYTES];
    struct kbs_nek_blob blob;
    struct nek_opening o = {.kind = to.kind,
                            .key = private_key,
                            .public_key = public_key,
                            .epk = &blob.epk,
                            .kid = to.kid,
                            .binding = &nobody,
                            .floor = floor};
    CK_OBJECT_HANDLE opened = CK_INVALID_HANDLE;
    enum kbs_locality locality;
    size_t bytes = 0;

    kbs_random(value, sizeof(value));
    if (kbs_nek_wrap(&to, kbs_span(value, sizeof(value)), &blob, err) != 0) {
        return -1;
    }
    o.wrapped = kbs_span(blob.wrapped, blob.wrapped_len);
    return nek_open(&scratch, ladder, &o, &opened, &bytes, &locality, err);
}

/* Which OAEP an RSA key opens is found out by doing. */
static int nek_prove_pair(struct kbs_token *t, const struct kbs_ladder *ladder,
                          const struct kbs_card *card, struct kbs_tee_key *public_key,
                          CK_OBJECT_HANDLE private_key, struct kbs_error *err)
{
    struct kbs_error first = KBS_ERROR_NONE;

    if (card->alg != KBS_KEY_ALG_RSA) {
        public_key->alg = KBS_TEE_ALG_ECDH_ES_A256KW;
        return nek_prove(t, ladder, public_key, private_key, card->floor, err);
    }
    public_key->alg = KBS_TEE_ALG_RSA_OAEP_256;
    if (nek_prove(t, ladder, public_key, private_key, card->floor, &first) == 0) {
        return 0;
    }
    public_key->alg = KBS_TEE_ALG_RSA_OAEP;
    return nek_prove(t, ladder, public_key, private_key, card->floor, err);
}

static int nek_generate_pair(struct kbs_token *t, const struct kbs_ladder *ladder,
                             struct kbs_card *card, struct kbs_span kid, struct kbs_answer *ret,
                             struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_tee_key public_key = {.alg = KBS_TEE_ALG_NONE};
    CK_OBJECT_HANDLE public_object = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE private_object = CK_INVALID_HANDLE;
    uint8_t bytes[KBS_TEE_KEY_MAX_BYTES];
    uint8_t kcv[KBS_KCV_BYTES];
    struct kbs_span encoded;

    if (nek_make_pair(&scratch, card, kid, &public_object, &private_object, &public_key, err) !=
            0 ||
        nek_prove_pair(t, ladder, card, &public_key, private_object, err) != 0) {
        return -1;
    }
    encoded = kbs_span(bytes, kbs_tee_key_put(&public_key, bytes));
    kbs_sha256(encoded, card->blob);
    memcpy(kcv, card->blob, sizeof(kcv));
    if (kbs_keys_made(t, card, KBS_KCV_PUBLIC, kcv, encoded, ret, err) != 0) {
        return -1;
    }
    kbs_scratch_keep(&scratch, public_object);
    kbs_scratch_keep(&scratch, private_object);
    return 0;
}

/* The check value is of the key that is derived for nobody: the key itself can only be derived from. */
static int nek_generate_aes(struct kbs_token *t, const struct kbs_card *card, struct kbs_span kid,
                            struct kbs_answer *ret, struct kbs_error *err)
{
    static const struct kbs_nek_binding nobody;
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_template key = {.n = 0};
    CK_OBJECT_HANDLE made = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE derived = CK_INVALID_HANDLE;
    enum kbs_kcv_mac mac = KBS_KCV_NONE;
    uint8_t kcv[KBS_KCV_BYTES];

    kbs_template_secret_key(&key, CKK_AES, true, false, KBS_USAGE_DERIVE);
    kbs_template_number(&key, CKA_VALUE_LEN, card->bytes);
    nek_name(&key, card, kid);
    kbs_template_bool(&key, CKA_MODIFIABLE, false); /* last: SoftHSM takes it at its word */
    if (kbs_scratch_generate(&scratch, CKM_AES_KEY_GEN, &key, &made, err) != 0 ||
        nek_derive(&scratch, made, &nobody, CKK_GENERIC_SECRET, true, KBS_USAGE_NONE, &derived,
                   err) != 0 ||
        kbs_kcv_any(t, derived, NEK_AES_BYTES, &mac, kcv, err) != 0 ||
        kbs_keys_made(t, card, mac, kcv, KBS_SPAN_EMPTY, ret, err) != 0) {
        return -1;
    }
    kbs_scratch_keep(&scratch, made);
    return 0;
}

static CK_OBJECT_CLASS nek_class(enum kbs_key_alg alg)
{
    return alg == KBS_KEY_ALG_AES ? CKO_SECRET_KEY : CKO_PRIVATE_KEY;
}

int kbs_nek_generate(struct kbs_token *t, const struct kbs_ladder *ladder,
                     const struct kbs_wire_generate *m, struct kbs_answer *ret,
                     struct kbs_error *err)
{
    struct kbs_card card;

    if (nek_card(m, &card, err) != 0 ||
        kbs_keys_check_absent(t, nek_class(card.alg), &card, err) != 0) {
        return -1;
    }
    return card.alg == KBS_KEY_ALG_AES ? nek_generate_aes(t, &card, m->kid, ret, err)
                                       : nek_generate_pair(t, ladder, &card, m->kid, ret, err);
}

/* ---- REWRAP ---- */

struct nek_order {
    struct kbs_card card;
    struct kbs_tee_key public_key; /* alg NONE for an AES key */
    struct kbs_tee_key epk;
    struct kbs_tee_key tee;
    struct kbs_nek_binding binding;
    enum kbs_locality floor; /* the higher of card and order */
};

static bool nek_kind_fits(const struct nek_order *o, uint8_t kind)
{
    switch (kind) {
    case KBS_NEK_JOSE:
    case KBS_NEK_COSE:
        return o->public_key.alg == KBS_TEE_ALG_ECDH_ES_A256KW;
    case KBS_NEK_OAEP:
        return o->card.alg == KBS_KEY_ALG_RSA && o->public_key.alg != KBS_TEE_ALG_NONE;
    case KBS_NEK_AES_KW:
        return o->card.alg == KBS_KEY_ALG_AES;
    default:
        return false;
    }
}

static int nek_blob_check(const struct kbs_wire_rewrap *m, struct nek_order *o,
                          struct kbs_error *err)
{
    bool ecdh = m->kind == KBS_NEK_JOSE || m->kind == KBS_NEK_COSE;

    if (!nek_kind_fits(o, m->kind)) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the blob is not of a kind that this key opens");
    }
    if (m->kind == KBS_NEK_OAEP
            ? m->wrapped.len != o->public_key.rsa.n_len
            : m->wrapped.len < KBS_WRAPPED_MIN_BYTES || m->wrapped.len > KBS_WRAPPED_MAX_BYTES ||
                  m->wrapped.len % 8 != 0) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the wrapped NEK has %zu bytes", m->wrapped.len);
    }
    if (m->blob_salt.len > KBS_LIMIT_COSE_SALT_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the blob's salt is longer than %d bytes",
                        KBS_LIMIT_COSE_SALT_BYTES);
    }
    if (!ecdh) {
        return m->epk.len == 0 ? 0 : kbs_fail(err, KBS_INPUT, "that blob has no epk");
    }
    if (kbs_tee_key_get(m->epk, &o->epk, err) != 0 || kbs_tee_key_check(&o->epk, err) != 0) {
        return -1;
    }
    return o->epk.alg == KBS_TEE_ALG_ECDH_ES_A256KW && o->epk.ec.curve == o->public_key.ec.curve
               ? 0
               : kbs_fail(err, KBS_UNPROCESSABLE,
                          "the blob's epk is on another curve than the key");
}

static int nek_binding_check(struct kbs_span binding, struct nek_order *o, struct kbs_error *err)
{
    if (kbs_nek_binding_get(binding, &o->binding, err) != 0) {
        return -1;
    }
    if (o->card.alg == KBS_KEY_ALG_RSA && o->binding.fields != 0) {
        return kbs_fail(err, KBS_INPUT, "what is wrapped to an RSA key is bound to nobody");
    }
    return (o->card.flags & KBS_CARD_BINDING_REQUIRED) == 0 || o->binding.fields != 0
               ? 0
               : kbs_fail(err, KBS_DENIED, "this key is for blobs that are bound to a guest only");
}

/* The key that is meant, and whether it may be used so. */
static int nek_key_get(struct kbs_token *t, struct kbs_cards *cards, struct kbs_span card,
                       struct kbs_span kid, struct kbs_span public_key, uint8_t floor,
                       struct nek_order *o, struct kbs_error *err)
{
    if (kbs_card_check(t, cards, card, kid, KBS_PURPOSE_NEK, public_key, &o->card, err) != 0 ||
        (public_key.len != 0 && kbs_tee_key_get(public_key, &o->public_key, err) != 0)) {
        return -1;
    }
    o->floor = (enum kbs_locality)floor;
    o->floor = o->card.floor > o->floor ? o->card.floor : o->floor;
    return 0;
}

static int nek_order_get(struct kbs_token *t, struct kbs_cards *cards,
                         const struct kbs_wire_rewrap *m, struct nek_order *o,
                         struct kbs_error *err)
{
    return kbs_release_shape_check(m->party_v, m->empty_context, m->salt, m->floor, err) == 0 &&
                   kbs_release_tee_key(m->tee_key, &o->tee, err) == 0 &&
                   nek_key_get(t, cards, m->card, m->kid, m->public_key, m->floor, o, err) == 0 &&
                   kbs_card_check_pop(&o->card, m->pop, err) == 0 && nek_blob_check(m, o, err) == 0
               ? nek_binding_check(m->binding, o, err)
               : -1;
}

/* The key's object: cached, and looked at when it is found. */
static int nek_find(struct kbs_token *t, const struct kbs_card *card, CK_OBJECT_HANDLE *ret,
                    struct kbs_error *err)
{
    struct kbs_span cka_id = kbs_span(card->cka_id, card->cka_id_len);
    CK_OBJECT_CLASS class = nek_class(card->alg);
    bool is_new = false;

    if (kbs_handles_get(t, class, cka_id, ret, &is_new, err) != 0) {
        return -1;
    }
    if (!is_new && t->quirk->handles_are_unique) {
        return 0;
    }
    if (kbs_object_check_key(t, *ret, class, cka_id, false, err) != 0) {
        kbs_handles_forget(t); /* or the next rewrap would not look */
        return -1;
    }
    return 0;
}

int kbs_nek_rewrap(struct kbs_token *t, const struct kbs_ladder *ladder, struct kbs_cards *cards,
                   const struct kbs_wire_rewrap *m, struct kbs_answer *ret, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct nek_order order = {.floor = KBS_LOCALITY_NONE};
    struct nek_opening opening = {.kind = (enum kbs_nek_kind)m->kind,
                                  .public_key = &order.public_key,
                                  .epk = &order.epk.ec,
                                  .kid = m->kid,
                                  .salt = m->blob_salt,
                                  .binding = &order.binding,
                                  .wrapped = m->wrapped};
    struct kbs_recipient_order recipient = {.tee = &order.tee, .kid = m->kid, .salt = m->salt};
    enum kbs_locality opened_at = KBS_LOCALITY_NONE;
    struct kbs_ladder_choice choice;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    size_t bytes = 0;

    if (nek_order_get(t, cards, m, &order, err) != 0 ||
        nek_find(t, &order.card, &opening.key, err) != 0) {
        return -1;
    }
    opening.floor = order.floor;
    if (nek_open(&scratch, ladder, &opening, &key, &bytes, &opened_at, err) != 0 ||
        kbs_ladder_choose(ladder, m->formats, &order.tee, bytes, order.floor, &choice, err) != 0) {
        return -1;
    }
    if (m->empty_context == 0) {
        recipient.party_u = m->kid;
        recipient.party_v = m->party_v;
    }
    if (kbs_rung_release(t, &choice, &recipient, key, bytes, &ret->body, err) != 0) {
        return -1;
    }
    ret->rung = choice.rung->name;
    ret->locality = choice.rung->locality < opened_at ? choice.rung->locality : opened_at;
    ret->format = choice.format;
    return kbs_buf_check(&ret->body, "the answer", err);
}

/* ---- PROVISION ---- */

static int provision_order_get(struct kbs_token *t, struct kbs_cards *cards,
                               const struct kbs_wire_provision *m, struct nek_order *o,
                               struct kbs_error *err)
{
    if (!kbs_key_bytes_valid(KBS_KEY_ALG_GENERIC, m->key_bytes)) {
        return kbs_fail(err, KBS_INPUT, "a NEK has 16 to 64 bytes and a multiple of 8");
    }
    return kbs_release_shape_check(m->party_v, m->empty_context, m->salt, m->floor, err) == 0 &&
                   (m->tee_key.len == 0 || kbs_release_tee_key(m->tee_key, &o->tee, err) == 0) &&
                   nek_key_get(t, cards, m->card, m->kid, m->public_key, m->floor, o, err) == 0 &&
                   kbs_card_check_pop(&o->card, m->pop, err) == 0
               ? nek_binding_check(m->binding, o, err)
               : -1;
}

static int provision_make(struct kbs_scratch *s, size_t bytes, CK_OBJECT_HANDLE *ret,
                          struct kbs_error *err)
{
    struct kbs_template key = {.n = 0};
    bool aes = bytes == 16 || bytes == 24 || bytes == 32;

    nek_template(&key, bytes);
    kbs_template_number(&key, CKA_VALUE_LEN, bytes);
    return kbs_scratch_generate(s, aes ? CKM_AES_KEY_GEN : CKM_GENERIC_SECRET_KEY_GEN, &key, ret,
                                err);
}

/* To an EC or RSA key as to any other receiver; PartyVInfo says whom it is for. */
static int provision_blob_pair(struct kbs_token *t, const struct kbs_ladder *ladder,
                               const struct nek_order *o, struct kbs_span kid, size_t bytes,
                               CK_OBJECT_HANDLE key, struct kbs_buf *blob,
                               enum kbs_locality *ret_locality, struct kbs_error *err)
{
    static const uint8_t jose = KBS_FORMAT_JOSE;
    uint8_t party_v[KBS_NEK_BINDING_BYTES];
    struct kbs_recipient_order to = {.tee = &o->public_key, .kid = kid};
    struct kbs_ladder_choice choice;

    if (o->public_key.alg == KBS_TEE_ALG_ECDH_ES_A256KW) {
        kbs_nek_binding_put(&o->binding, party_v);
        to.party_u = KBS_SPAN_LIT(KBS_NEK_PARTY_U);
        to.party_v = kbs_span(party_v, sizeof(party_v));
    }
    if (kbs_ladder_choose(ladder, kbs_span(&jose, 1), &o->public_key, bytes, o->floor, &choice,
                          err) != 0) {
        return -1;
    }
    *ret_locality = choice.rung->locality;
    return kbs_rung_release(t, &choice, &to, key, bytes, blob, err);
}

static int provision_blob_aes(struct kbs_scratch *s, const struct nek_order *o, struct kbs_span kid,
                              CK_OBJECT_HANDLE key, struct kbs_buf *blob, struct kbs_error *err)
{
    uint8_t wrapped[KBS_WRAPPED_MAX_BYTES];
    size_t wrapped_len = 0;
    CK_OBJECT_HANDLE parent = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;

    if (nek_find(s->token, &o->card, &parent, err) != 0 ||
        nek_derive(s, parent, &o->binding, CKK_AES, false, KBS_USAGE_WRAP, &kek, err) != 0 ||
        kbs_object_wrap(s->token, kek, key, wrapped, &wrapped_len, err) != 0) {
        return -1;
    }
    kbs_nek_aes_blob_put(blob, kid, &o->binding, kbs_span(wrapped, wrapped_len));
    return kbs_buf_check(blob, "the blob", err);
}

static int provision_tee(struct kbs_token *t, const struct kbs_ladder *ladder,
                         const struct nek_order *o, const struct kbs_wire_provision *m,
                         CK_OBJECT_HANDLE key, struct kbs_span blob, struct kbs_answer *ret,
                         struct kbs_error *err)
{
    uint8_t party_v[KBS_SHA256_BYTES];
    struct kbs_recipient_order to = {.tee = &o->tee, .kid = m->kid, .salt = m->salt};
    struct kbs_ladder_choice choice;

    if (m->empty_context == 0) {
        kbs_nek_provision_v(m->party_v.p, blob, party_v);
        to.party_u = m->kid;
        to.party_v = kbs_span(party_v, sizeof(party_v));
    }
    if (kbs_ladder_choose(ladder, m->formats, &o->tee, m->key_bytes, o->floor, &choice, err) != 0 ||
        kbs_rung_release(t, &choice, &to, key, m->key_bytes, &ret->body, err) != 0) {
        return -1;
    }
    ret->rung = choice.rung->name;
    ret->format = choice.format;
    ret->locality = choice.rung->locality < ret->locality ? choice.rung->locality : ret->locality;
    return 0;
}

int kbs_nek_provision(struct kbs_token *t, const struct kbs_ladder *ladder, struct kbs_cards *cards,
                      const struct kbs_wire_provision *m, struct kbs_answer *ret,
                      struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct nek_order o = {.floor = KBS_LOCALITY_NONE};
    struct kbs_buf blob = KBS_BUF(KBS_NEK_BLOB_MAX_BYTES);
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    uint8_t mark[KBS_MARK_BYTES];
    int rc = -1;

    ret->locality = KBS_LOCALITY_TOKEN;
    if (provision_order_get(t, cards, m, &o, err) == 0 &&
        provision_make(&scratch, m->key_bytes, &key, err) == 0) {
        rc = o.card.alg == KBS_KEY_ALG_AES
                 ? provision_blob_aes(&scratch, &o, m->kid, key, &blob, err)
                 : provision_blob_pair(t, ladder, &o, m->kid, m->key_bytes, key, &blob,
                                       &ret->locality, err);
    }
    if (rc == 0) {
        rc = kbs_mark_provision(t, m->kid, &o.binding, kbs_buf_span(&blob), mark, err);
    }
    if (rc == 0) {
        kbs_buf_put(&ret->body, mark, sizeof(mark));
        kbs_buf_put_be32(&ret->body, (uint32_t)blob.len);
        kbs_buf_put_span(&ret->body, kbs_buf_span(&blob));
        rc = m->tee_key.len == 0
                 ? 0
                 : provision_tee(t, ladder, &o, m, key, kbs_buf_span(&blob), ret, err);
    }
    kbs_buf_deinit(&blob);
    return rc == 0 ? kbs_buf_check(&ret->body, "the answer", err) : -1;
}
