/*
 * A key for release must leave the token wrapped, so it is extractable; that is all it can do.
 * Every other usage is denied at birth, MODIFIABLE=0 keeps it so (SoftHSM; NSS stores the flag and
 * does not mind it), and what the token made of the template is read back before the key counts.
 *
 * A new token object belongs to a scratch like any session object until the last check has passed:
 * a failure half-way leaves nothing behind. CKA_ID is the name of a key; that two are never made
 * with the same is checked here and holds because only the one admin lane makes keys.
 *
 * An import names its label in the KDF (apv), so a blob cannot be moved to another name or version,
 * and its purpose in apu.
 */
#include "hsm/keys.h"

#include "hsm/ckr.h"
#include "hsm/kcv.h"
#include "jose/write/jose.h"

#define KEYS_OTHER_INFO_MAX_BYTES 512u

/* The fields that name a new release key, checked. */
struct keys_name {
    uint8_t cka_id[KBS_CKA_ID_BYTES];
    struct kbs_span label; /* borrowed from the message */
};

void kbs_keys_service_id(enum kbs_purpose purpose, uint8_t ret[KBS_CKA_ID_BYTES])
{
    uint8_t id[KBS_KEY_ID_BYTES];

    kbs_service_key_id(purpose, id);
    kbs_cka_id(id, 1, ret);
}

static int keys_name_get(struct kbs_span key_id, uint32_t version, struct kbs_span label,
                         struct keys_name *ret, struct kbs_error *err)
{
    struct kbs_span path;
    uint32_t label_version = 0;

    if (key_id.len != KBS_KEY_ID_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the key id has %zu bytes", key_id.len);
    }
    if (!kbs_kid_split(label, &path, &label_version) || label_version != version) {
        return kbs_fail(err, KBS_INPUT, "the label is not repo/type/tag/vN with the key's version");
    }
    kbs_cka_id(key_id.p, version, ret->cka_id);
    ret->label = label;
    return 0;
}

static int keys_check_absent(const struct kbs_token *t, CK_OBJECT_CLASS class,
                             const uint8_t cka_id[KBS_CKA_ID_BYTES], struct kbs_error *err)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;

    if (kbs_object_find(t, class, cka_id, &object, err) == 0) {
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
static void keys_release_template(struct kbs_template *t, CK_KEY_TYPE type,
                                  const struct keys_name *name)
{
    kbs_template_secret_key(t, type, true, true, KBS_USAGE_NONE);
    kbs_template_bytes(t, CKA_ID, kbs_span(name->cka_id, sizeof(name->cka_id)));
    kbs_template_bytes(t, CKA_LABEL, name->label);
    kbs_template_bool(t, CKA_MODIFIABLE,
                      false); /* last: SoftHSM takes it at its word for all that follow */
}

/* The new key is what it was meant to be; appends its check value to the answer. */
static int keys_finish_release(struct kbs_token *t, CK_OBJECT_HANDLE key,
                               const struct keys_name *name, size_t key_bytes,
                               struct kbs_answer *ret, struct kbs_error *err)
{
    uint8_t kcv[KBS_KCV_BYTES];
    size_t value_len = kbs_object_value_len(t, key);

    if (kbs_object_check_release_key(t, key, name->cka_id, err) != 0) {
        return -1;
    }
    if (value_len != 0 && value_len != key_bytes) {
        return kbs_fail(err, KBS_INTERNAL, "the token made a key of %zu bytes instead of %zu",
                        value_len, key_bytes);
    }
    if (kbs_kcv(t, key, kcv, err) != 0) {
        return -1;
    }
    kbs_buf_put(&ret->body, kcv, sizeof(kcv));
    return kbs_buf_check(&ret->body, "the key check value", err);
}

static int keys_generate_release(struct kbs_token *t, const struct kbs_wire_generate *m,
                                 struct kbs_answer *ret, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_template template = {.n = 0};
    struct keys_name name;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;

    if (m->key_bytes != 16 && m->key_bytes != 24 && m->key_bytes != 32) {
        return kbs_fail(err, KBS_INPUT, "an AES key has 16, 24 or 32 bytes");
    }
    if (keys_name_get(m->key_id, m->key_version, m->label, &name, err) != 0 ||
        keys_check_absent(t, CKO_SECRET_KEY, name.cka_id, err) != 0) {
        return -1;
    }
    keys_release_template(&template, CKK_AES, &name);
    kbs_template_number(&template, CKA_VALUE_LEN, m->key_bytes);
    if (kbs_scratch_generate(&scratch, CKM_AES_KEY_GEN, &template, &key, err) != 0 ||
        keys_finish_release(t, key, &name, m->key_bytes, ret, err) != 0) {
        return -1;
    }
    kbs_scratch_keep(&scratch, key);
    return 0;
}

static int keys_generate_service(struct kbs_token *t, enum kbs_purpose purpose, unsigned int usage,
                                 struct kbs_answer *ret, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_template public_key = {.n = 0};
    struct kbs_template private_key = {.n = 0};
    struct kbs_buf label = KBS_BUF(64);
    uint8_t cka_id[KBS_CKA_ID_BYTES];
    uint8_t point_bytes[KBS_EC_POINT_MAX_BYTES];
    struct kbs_ec_public point;
    CK_OBJECT_HANDLE public_object = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE private_object = CK_INVALID_HANDLE;
    int rc;

    kbs_keys_service_id(purpose, cka_id);
    /* Both halves: with a second public key of that id, neither pair could be found any more. */
    if (keys_check_absent(t, CKO_PRIVATE_KEY, cka_id, err) != 0 ||
        keys_check_absent(t, CKO_PUBLIC_KEY, cka_id, err) != 0) {
        return -1;
    }
    kbs_buf_printf(&label, "kbs-hsm/%s", kbs_purpose_name(purpose));
    kbs_template_ec_pair(&public_key, &private_key, KBS_CURVE_P256, true, usage);
    kbs_template_bytes(&public_key, CKA_ID, kbs_span(cka_id, sizeof(cka_id)));
    kbs_template_bytes(&public_key, CKA_LABEL, kbs_buf_span(&label));
    kbs_template_bool(&private_key, CKA_MODIFIABLE, false);
    kbs_template_bytes(&private_key, CKA_ID, kbs_span(cka_id, sizeof(cka_id)));
    kbs_template_bytes(&private_key, CKA_LABEL, kbs_buf_span(&label));
    rc = kbs_scratch_generate_ec(&scratch, &public_key, &private_key, &public_object,
                                 &private_object, err);
    kbs_buf_deinit(&label);
    if (rc != 0 || kbs_object_check_secret(t, private_object, false, err) != 0 ||
        kbs_object_ec_point(t, public_object, KBS_CURVE_P256, &point, err) != 0 ||
        kbs_ec_public_check(&point, err) != 0) {
        return -1;
    }
    kbs_buf_put(&ret->body, point_bytes, kbs_ec_point_put(&point, point_bytes));
    if (kbs_buf_check(&ret->body, "the public key", err) != 0) {
        return -1;
    }
    kbs_scratch_keep(&scratch, public_object);
    kbs_scratch_keep(&scratch, private_object);
    return 0;
}

int kbs_keys_generate(struct kbs_token *t, const struct kbs_wire_generate *m,
                      struct kbs_answer *ret, struct kbs_error *err)
{
    switch (m->purpose) {
    case KBS_PURPOSE_RELEASE:
        return keys_generate_release(t, m, ret, err);
    case KBS_PURPOSE_IMPORT:
        return keys_generate_service(t, KBS_PURPOSE_IMPORT, KBS_USAGE_DERIVE, ret, err);
    case KBS_PURPOSE_SIGN_TOKEN:
    case KBS_PURPOSE_SIGN_ROW:
    case KBS_PURPOSE_SIGN_HEAD:
        return keys_generate_service(t, (enum kbs_purpose)m->purpose, KBS_USAGE_SIGN, ret, err);
    default:
        return kbs_fail(err, KBS_INPUT, "no key of that purpose can be generated");
    }
}

/* The unwrapping key of an import, as the sender derived its wrapping key. */
static int keys_import_kek(struct kbs_scratch *s, const struct kbs_rung *rung,
                           const struct kbs_ec_public *epk, struct kbs_span label,
                           CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    struct kbs_buf info = KBS_BUF(KEYS_OTHER_INFO_MAX_BYTES);
    struct kbs_derive_input in = {.peer = epk, .usage = KBS_USAGE_UNWRAP};
    uint8_t cka_id[KBS_CKA_ID_BYTES];
    int rc = -1;

    kbs_keys_service_id(KBS_PURPOSE_IMPORT, cka_id);
    kbs_jose_other_info_put(&info, KBS_SPAN_LIT("kbs-import-v1"), label);
    in.info = kbs_buf_span(&info);
    if (kbs_buf_check(&info, "the KDF context", err) == 0 &&
        kbs_object_find(s->token, CKO_PRIVATE_KEY, cka_id, &in.private_key, err) == 0) {
        rc = rung->derive[KBS_FORMAT_JOSE](s, &in, ret, err);
    }
    kbs_buf_deinit(&info);
    return rc;
}

/* Codes that say nothing about the blob, but that this folder asked for something the token does
 * not do. */
static bool keys_is_our_fault(CK_RV rv)
{
    switch (rv) {
    case CKR_OK: /* not an error of the token's */
    case CKR_ARGUMENTS_BAD:
    case CKR_ATTRIBUTE_READ_ONLY:
    case CKR_ATTRIBUTE_TYPE_INVALID:
    case CKR_ATTRIBUTE_VALUE_INVALID:
    case CKR_FUNCTION_NOT_SUPPORTED:
    case CKR_KEY_FUNCTION_NOT_PERMITTED:
    case CKR_MECHANISM_INVALID:
    case CKR_MECHANISM_PARAM_INVALID:
    case CKR_TEMPLATE_INCOMPLETE:
    case CKR_TEMPLATE_INCONSISTENT:
    case CKR_TOKEN_WRITE_PROTECTED:
        return true;
    default:
        return kbs_ckr_class(rv) == KBS_CKR_CAPACITY || kbs_ckr_class(rv) == KBS_CKR_STALE ||
               kbs_ckr_class(rv) == KBS_CKR_LOGGED_OUT;
    }
}

/*
 * Tokens answer a garbled blob with anything (NSS: WRAPPED_KEY_INVALID; SoftHSM: GENERAL_ERROR). If
 * the token still works right after, it was the blob.
 */
static int keys_unwrap_failed(struct kbs_token *t, struct kbs_error *err)
{
    CK_RV rv = kbs_ckr_of(err);
    struct kbs_error selftest = KBS_ERROR_NONE;

    if (keys_is_our_fault(rv) || kbs_token_selftest(t, &selftest) != 0) {
        return -1;
    }
    return kbs_error_set(err, KBS_UNPROCESSABLE, KBS_ORIGIN_CKR, (int64_t)rv, "C_UnwrapKey",
                         __LINE__, "the wrapped key does not open under the import key (%s)",
                         kbs_ckr_name(rv));
}

static int keys_import_epk(const struct kbs_wire_import *m, struct kbs_ec_public *ret,
                           struct kbs_error *err)
{
    size_t len = kbs_curve_field_bytes(KBS_CURVE_P256);

    if (m->epk_x.len != len || m->epk_y.len != len) {
        return kbs_fail(err, KBS_INPUT, "epk is not a P-256 key");
    }
    ret->curve = KBS_CURVE_P256;
    memcpy(ret->x, m->epk_x.p, len);
    memcpy(ret->y, m->epk_y.p, len);
    return kbs_ec_public_check(ret, err);
}

int kbs_keys_import(struct kbs_token *t, const struct kbs_ladder *ladder,
                    const struct kbs_wire_import *m, struct kbs_answer *ret, struct kbs_error *err)
{
    static const uint8_t jose = KBS_FORMAT_JOSE;
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_template template = {.n = 0};
    struct kbs_ladder_choice choice;
    struct kbs_ec_public epk = {.curve = KBS_CURVE_NONE};
    struct keys_name name;
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    size_t key_bytes;

    if (m->wrapped.len < KBS_WRAPPED_MIN_BYTES || m->wrapped.len > KBS_WRAPPED_MAX_BYTES ||
        m->wrapped.len % 8 != 0) {
        return kbs_fail(err, KBS_INPUT, "the wrapped key has %zu bytes", m->wrapped.len);
    }
    key_bytes = m->wrapped.len - 8;
    if (key_bytes != 16 && key_bytes != 24 && key_bytes != 32) {
        return kbs_fail(err, KBS_INPUT, "an AES key has 16, 24 or 32 bytes");
    }
    if (keys_name_get(m->key_id, m->key_version, m->label, &name, err) != 0 ||
        keys_import_epk(m, &epk, err) != 0 ||
        keys_check_absent(t, CKO_SECRET_KEY, name.cka_id, err) != 0 ||
        kbs_ladder_choose(ladder, kbs_span(&jose, 1), KBS_CURVE_P256, KBS_LOCALITY_WORKER, &choice,
                          err) != 0 ||
        keys_import_kek(&scratch, choice.rung, &epk, name.label, &kek, err) != 0) {
        return -1;
    }
    keys_release_template(&template, CKK_AES, &name);
    if (kbs_scratch_unwrap(&scratch, kek, m->wrapped, &template, &key, err) != 0) {
        return keys_unwrap_failed(t, err);
    }
    if (keys_finish_release(t, key, &name, key_bytes, ret, err) != 0) {
        return -1;
    }
    ret->rung = choice.rung->name;
    ret->locality = choice.rung->locality;
    kbs_scratch_keep(&scratch, key);
    return 0;
}
