/*
 * Somebody else made this key, so nothing about it is as this folder makes keys. What a release
 * needs is required; what only weakens the key (other usages, a past in which it could be read) is
 * told to the administrator, who may have reasons.
 *
 * What it can do is found out by doing: it is released, by the best rung first, to an EC key made
 * here for that. The result is not opened, so the key's value is not in this process; that the
 * token wraps what it holds is shown by the check value, which is computed on a copy that was
 * wrapped and unwrapped.
 *
 * The object stays as it is: no attribute of it is changed. Its CKA_ID is how it is found again, so
 * that must be its own.
 */
#include "hsm/adopt.h"

#include "agree/agree.h"
#include "hsm/ckr.h"
#include "hsm/kcv.h"
#include "hsm/keys.h"
#include "hsm/uri.h"

/* The one key that the URI names. */
static int adopt_find(const struct kbs_token *t, struct kbs_span text, CK_OBJECT_HANDLE *ret,
                      struct kbs_error *err)
{
    CK_OBJECT_HANDLE found[2] = {CK_INVALID_HANDLE, CK_INVALID_HANDLE};
    size_t n = 0;

    if (kbs_uri_objects(t, text, CKO_SECRET_KEY, true, found, 2, &n, err) != 0) {
        return -1;
    }
    if (n == 0) {
        return kbs_fail(err, KBS_MISSING, "the token has no secret key that the URI matches");
    }
    if (n > 1) {
        return kbs_fail(err, KBS_CONFLICT,
                        "the URI matches more than one secret key: give both id and object");
    }
    *ret = found[0];
    return 0;
}

/* A CKA_ID that no other secret key has, and that is not of a key made here. */
static int adopt_cka_id(const struct kbs_token *t, CK_OBJECT_HANDLE key, struct kbs_card *card,
                        struct kbs_error *err)
{
    CK_OBJECT_HANDLE again = CK_INVALID_HANDLE;
    uint8_t label[KBS_LIMIT_KID_BYTES];
    CK_ATTRIBUTE a = {CKA_LABEL, label, sizeof(label)};
    struct kbs_span path;
    uint32_t version = 0;
    uint8_t made_here[KBS_CKA_ID_BYTES];

    if (kbs_object_cka_id(t, key, card->cka_id, &card->cka_id_len, err) != 0) {
        return -1;
    }
    if (kbs_object_find(t, CKO_SECRET_KEY, kbs_span(card->cka_id, card->cka_id_len), &again, err) !=
        0) {
        return err->category == KBS_INTERNAL && kbs_ckr_of(err) == CKR_OK
                   ? kbs_fail(err, KBS_CONFLICT, "another secret key has the same CKA_ID")
                   : -1;
    }
    /* Label kid, id ending in its version: GENERATE or IMPORT made it, and it has a card. */
    if (card->cka_id_len == KBS_CKA_ID_BYTES &&
        t->f->C_GetAttributeValue(t->session, key, &a, 1) == CKR_OK &&
        a.ulValueLen <= sizeof(label) &&
        kbs_kid_split(kbs_span(label, a.ulValueLen), &path, &version)) {
        kbs_cka_id(card->cka_id, version, made_here);
        if (memcmp(made_here, card->cka_id, sizeof(made_here)) == 0) {
            return kbs_fail(err, KBS_CONFLICT, "the service made that key itself, as %.*s",
                            (int)a.ulValueLen, (const char *)label);
        }
    }
    return 0;
}

/* Its length by what it wraps to; tokens do not always tell, and some pad. */
static int adopt_length(struct kbs_token *t, CK_OBJECT_HANDLE key, size_t *ret,
                        struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_template kek_template = {.n = 0};
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
    uint8_t wrapped[KBS_WRAPPED_MAX_BYTES];
    size_t wrapped_len = 0;
    size_t told = kbs_object_value_len(t, key);

    if (told != 0 && !kbs_key_bytes_valid(KBS_KEY_ALG_GENERIC, told)) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "the key has %zu bytes: not 16 to 64 and a multiple of 8", told);
    }
    kbs_template_secret_key(&kek_template, CKK_AES, false, false, KBS_USAGE_WRAP);
    kbs_template_number(&kek_template, CKA_VALUE_LEN, KBS_KCV_KEY_BYTES);
    if (kbs_scratch_generate(&scratch, CKM_AES_KEY_GEN, &kek_template, &kek, err) != 0) {
        return -1;
    }
    if (kbs_object_wrap(t, kek, key, wrapped, &wrapped_len, err) != 0) {
        return kbs_ckr_class(err, t->quirk) == KBS_CKR_REQUEST
                   ? kbs_fail_native(err, KBS_UNPROCESSABLE, KBS_ORIGIN_CKR, err->native,
                                     "the token does not wrap that key (%s)",
                                     kbs_ckr_name(kbs_ckr_of(err)))
                   : -1;
    }
    if (told != 0 && wrapped_len != told + 8) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the token wraps a key of %zu bytes to %zu", told,
                        wrapped_len);
    }
    *ret = wrapped_len - 8;
    return 0;
}

/* What a release needs, and the token says. */
static int adopt_check(struct kbs_token *t, CK_OBJECT_HANDLE key, struct kbs_card *card,
                       struct kbs_error *err)
{
    CK_KEY_TYPE type = (CK_KEY_TYPE)-1;
    CK_ATTRIBUTE a = {CKA_KEY_TYPE, &type, sizeof(type)};
    CK_RV rv = t->f->C_GetAttributeValue(t->session, key, &a, 1);
    size_t bytes = 0;

    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_GetAttributeValue", __LINE__);
    }
    if (type != CKK_AES && type != CKK_GENERIC_SECRET) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the key is neither AES nor a generic secret");
    }
    if (!kbs_object_bool(t, key, CKA_SENSITIVE, false)) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the key is not CKA_SENSITIVE: it can be read");
    }
    if (!kbs_object_bool(t, key, CKA_EXTRACTABLE, false)) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "the key is not CKA_EXTRACTABLE: it can never leave the token");
    }
    if (kbs_object_bool(t, key, CKA_WRAP_WITH_TRUSTED, false)) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "the key is CKA_WRAP_WITH_TRUSTED: it cannot be wrapped to a TEE key");
    }
    if (adopt_cka_id(t, key, card, err) != 0 || adopt_length(t, key, &bytes, err) != 0) {
        return -1;
    }
    card->alg = type == CKK_AES ? KBS_KEY_ALG_AES : KBS_KEY_ALG_GENERIC;
    card->bytes = (uint32_t)bytes;
    return kbs_key_bytes_valid(card->alg, bytes)
               ? 0
               : kbs_fail(err, KBS_UNPROCESSABLE, "an AES key of %zu bytes", bytes);
}

/* What weakens the key, as a sentence in ret->note. */
static void adopt_note(const struct kbs_token *t, CK_OBJECT_HANDLE key, struct kbs_answer *ret)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        bool weak; /* at this value */
        const char *text;
    } notes[] = {
        {CKA_ENCRYPT, true, "may encrypt"},
        {CKA_DECRYPT, true, "may decrypt"},
        {CKA_SIGN, true, "may sign"},
        {CKA_WRAP, true, "may wrap"},
        {CKA_UNWRAP, true, "may unwrap"},
        {CKA_DERIVE, true, "may derive"},
        {CKA_MODIFIABLE, true, "is modifiable"},
        {CKA_PRIVATE, false, "is seen without login"},
        {CKA_ALWAYS_SENSITIVE, false, "was not always sensitive"},
        {CKA_LOCAL, false, "was not made in the token, as far as it says"},
    };
    struct kbs_buf text = KBS_BUF(sizeof(ret->note) - 1);

    for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
        if (kbs_object_bool(t, key, notes[i].type, notes[i].weak) == notes[i].weak) {
            kbs_buf_printf(&text, "%s%s", text.len > 0 ? ", " : "this key ", notes[i].text);
        }
    }
    if (text.failed || !kbs_span_to_cstr(kbs_buf_span(&text), ret->note, sizeof(ret->note))) {
        ret->note[0] = '\0';
    }
    kbs_buf_deinit(&text);
}

/*
 * One try of the ladder on the key: 0 and filled in, 1 if there is no rung of that locality or it
 * fails, or -1.
 */
static int adopt_try(struct kbs_token *t, const struct kbs_ladder *ladder, CK_OBJECT_HANDLE key,
                     size_t key_bytes, uint8_t format, enum kbs_locality locality,
                     const struct kbs_tee_key *tee, struct kbs_answer *ret, struct kbs_error *err)
{
    static const uint8_t party_v[32];
    const struct kbs_recipient_order order = {.tee = tee,
                                              .kid = KBS_SPAN_LIT("adopt"),
                                              .party_u = KBS_SPAN_LIT("adopt"),
                                              .party_v = kbs_span(party_v, sizeof(party_v))};
    struct kbs_ladder_choice choice;
    struct kbs_buf body = KBS_BUF(KBS_LIMIT_COSE_MESSAGE_BYTES);
    bool done;

    if (kbs_ladder_choose(ladder, kbs_span(&format, 1), tee, key_bytes, locality, &choice, err) !=
            0 ||
        choice.rung->locality != locality) {
        return 1;
    }
    done = kbs_rung_release(t, &choice, &order, key, key_bytes, &body, err) == 0;
    kbs_buf_deinit(&body);
    if (done) {
        ret->rung = choice.rung->name;
        ret->locality = choice.rung->locality;
        return 0;
    }
    return kbs_ckr_is_fatal(err, t->quirk) || err->category == KBS_BUSY ? -1 : 1;
}

/* The best rung by which the key really goes. */
static int adopt_best(struct kbs_token *t, const struct kbs_ladder *ladder, CK_OBJECT_HANDLE key,
                      const struct kbs_card *card, struct kbs_answer *ret, struct kbs_error *err)
{
    static const uint8_t formats[] = {KBS_FORMAT_JOSE, KBS_FORMAT_COSE};
    struct kbs_tee_key tee = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW};
    struct kbs_agree_key *pair = NULL;
    int rc = 1;

    if (kbs_agree_key_generate(KBS_CURVE_P256, &pair, err) != 0) {
        return -1;
    }
    tee.ec = *kbs_agree_key_public(pair);
    (void)kbs_agree_key_free(pair);
    for (int locality = KBS_LOCALITY_TOKEN; rc == 1 && locality >= KBS_LOCALITY_TRANSPORT;
         locality--) {
        for (size_t i = 0; rc == 1 && i < sizeof(formats); i++) {
            *err = KBS_ERROR_NONE;
            rc = adopt_try(t, ladder, key, card->bytes, formats[i], (enum kbs_locality)locality,
                           &tee, ret, err);
        }
    }
    if (rc == 1) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "no rung of this token releases that key");
    }
    if (rc == 0 && ret->locality < card->floor) {
        return kbs_fail(err, KBS_UNSUPPORTED,
                        "the key's best rung is %s at locality %s, below its floor", ret->rung,
                        kbs_locality_name(ret->locality));
    }
    return rc;
}

int kbs_adopt(struct kbs_token *t, const struct kbs_ladder *ladder, const struct kbs_wire_adopt *m,
              struct kbs_answer *ret, struct kbs_error *err)
{
    const struct kbs_keys_order order = {m->key_id, m->key_version, m->kid,    m->floor,
                                         m->flags,  m->policy,      m->created};
    struct kbs_card card;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    enum kbs_kcv_mac mac = KBS_KCV_NONE;
    uint8_t kcv[KBS_KCV_BYTES];

    if (kbs_keys_card_begin(&order, &card, err) != 0 || adopt_find(t, m->uri, &key, err) != 0 ||
        adopt_check(t, key, &card, err) != 0 ||
        kbs_kcv_any(t, key, card.bytes, &mac, kcv, err) != 0 ||
        adopt_best(t, ladder, key, &card, ret, err) != 0) {
        return -1;
    }
    card.storage = KBS_STORAGE_RESIDENT;
    card.provenance = KBS_PROVENANCE_ADOPTED;
    adopt_note(t, key, ret);
    return kbs_keys_made(t, &card, mac, kcv, KBS_SPAN_EMPTY, ret, err);
}
