/*
 * Objects are where tokens differ most quietly: SoftHSM lets a key do everything that the template
 * does not forbid, NSS makes keys extractable and readable by default, openCryptoki has ignored
 * CKA_SENSITIVE in C_UnwrapKey. So every template here names every flag, and what matters is read
 * back before use.
 *
 * A session object that stays behind costs memory, slows every later call (SoftHSM) and is key
 * material; so objects are only made through a scratch, whose scope ends them. That is the one
 * clean-up idiom here.
 *
 * Handles may be cached across operations: after a destroy elsewhere tokens answer HANDLE_INVALID.
 * But a token is free to use a number again, so a cached handle is a hint, and CKA_ID is read back
 * before a key is wrapped: 15 to 30 us, where C_FindObjects costs up to milliseconds. Only for a
 * token that is known never to use one again (quirks.h) the look-up's read-back is enough: a key's
 * CKA_ID is fixed, and CKA_SENSITIVE and CKA_EXTRACTABLE can only become stricter, which C_WrapKey
 * then says itself (PKCS#11 2.40 section 4.4).
 */
#include "hsm/object.h"

#include <stdlib.h>

#include "hsm/ckr.h"

static CK_BBOOL object_true = CK_TRUE;
static CK_BBOOL object_false = CK_FALSE;

static CK_ATTRIBUTE *template_next(struct kbs_template *t, CK_ATTRIBUTE_TYPE type)
{
    CK_ATTRIBUTE *a;

    if (t->n >= KBS_TEMPLATE_MAX) {
        abort(); /* templates are written in this folder: a matter of counting, not of input */
    }
    a = &t->a[t->n++];
    a->type = type;
    return a;
}

void kbs_template_bool(struct kbs_template *t, CK_ATTRIBUTE_TYPE type, bool value)
{
    CK_ATTRIBUTE *a = template_next(t, type);

    a->pValue = value ? &object_true : &object_false;
    a->ulValueLen = sizeof(CK_BBOOL);
}

void kbs_template_number(struct kbs_template *t, CK_ATTRIBUTE_TYPE type, CK_ULONG value)
{
    CK_ATTRIBUTE *a = template_next(t, type);
    CK_ULONG *number = &t->numbers[t->n - 1];

    *number = value;
    a->pValue = number;
    a->ulValueLen = sizeof(*number);
}

void kbs_template_bytes(struct kbs_template *t, CK_ATTRIBUTE_TYPE type, struct kbs_span value)
{
    CK_ATTRIBUTE *a = template_next(t, type);

    a->pValue = kbs_p11_in(value.p);
    a->ulValueLen = value.len;
}

void kbs_template_secret_key(struct kbs_template *t, CK_KEY_TYPE type, bool token, bool extractable,
                             unsigned int usage)
{
    kbs_template_number(t, CKA_CLASS, CKO_SECRET_KEY);
    kbs_template_number(t, CKA_KEY_TYPE, type);
    kbs_template_bool(t, CKA_TOKEN, token);
    kbs_template_bool(t, CKA_PRIVATE, true);
    kbs_template_bool(t, CKA_SENSITIVE, true);
    kbs_template_bool(t, CKA_EXTRACTABLE, extractable);
    kbs_template_bool(t, CKA_ENCRYPT, false);
    kbs_template_bool(t, CKA_DECRYPT, false);
    kbs_template_bool(t, CKA_SIGN, (usage & KBS_USAGE_SIGN) != 0);
    kbs_template_bool(t, CKA_VERIFY, false);
    kbs_template_bool(t, CKA_WRAP, (usage & KBS_USAGE_WRAP) != 0);
    kbs_template_bool(t, CKA_UNWRAP, (usage & KBS_USAGE_UNWRAP) != 0);
    kbs_template_bool(t, CKA_DERIVE, (usage & KBS_USAGE_DERIVE) != 0);
}

void kbs_template_ec_pair(struct kbs_template *public_key, struct kbs_template *private_key,
                          enum kbs_curve curve, bool token, unsigned int usage)
{
    bool sign = (usage & KBS_USAGE_SIGN) != 0;

    kbs_template_number(public_key, CKA_CLASS, CKO_PUBLIC_KEY);
    kbs_template_number(public_key, CKA_KEY_TYPE, CKK_EC);
    kbs_template_bytes(public_key, CKA_EC_PARAMS, kbs_curve_oid_der(curve));
    kbs_template_bool(public_key, CKA_TOKEN, token);
    kbs_template_bool(public_key, CKA_PRIVATE, false);
    kbs_template_bool(public_key, CKA_ENCRYPT, false);
    kbs_template_bool(public_key, CKA_VERIFY, sign);
    kbs_template_bool(public_key, CKA_VERIFY_RECOVER, false);
    kbs_template_bool(public_key, CKA_WRAP, false);

    kbs_template_number(private_key, CKA_CLASS, CKO_PRIVATE_KEY);
    kbs_template_number(private_key, CKA_KEY_TYPE, CKK_EC);
    kbs_template_bool(private_key, CKA_TOKEN, token);
    kbs_template_bool(private_key, CKA_PRIVATE, true);
    kbs_template_bool(private_key, CKA_SENSITIVE, true);
    kbs_template_bool(private_key, CKA_EXTRACTABLE, false);
    kbs_template_bool(private_key, CKA_DECRYPT, false);
    /* SIGN on an ephemeral key costs a pairwise signature test per key in NSS: say no when it is
     * not meant. */
    kbs_template_bool(private_key, CKA_SIGN, sign);
    kbs_template_bool(private_key, CKA_SIGN_RECOVER, false);
    kbs_template_bool(private_key, CKA_UNWRAP, false);
    kbs_template_bool(private_key, CKA_DERIVE, (usage & KBS_USAGE_DERIVE) != 0);
}

/* ---- scratch ---- */

void kbs_scratch_deinit(struct kbs_scratch *s)
{
    while (s->n > 0) {
        CK_OBJECT_HANDLE object = s->objects[--s->n];

        if (s->token->f->C_DestroyObject(s->token->session, object) != CKR_OK) {
            s->token->destroy_failures++;
        }
    }
}

void kbs_scratch_keep(struct kbs_scratch *s, CK_OBJECT_HANDLE object)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->objects[i] == object) {
            s->objects[i] = s->objects[--s->n];
            return;
        }
    }
}

/* Asked before a token makes objects: afterwards it is too late to have no room for the handle. */
static int scratch_check_room(const struct kbs_scratch *s, size_t n, struct kbs_error *err)
{
    if (KBS_SCRATCH_MAX - s->n < n) {
        return kbs_fail(err, KBS_INTERNAL, "too many session objects in one operation");
    }
    return 0;
}

static void scratch_add(struct kbs_scratch *s, CK_OBJECT_HANDLE object, CK_OBJECT_HANDLE *ret)
{
    s->objects[s->n++] = object;
    *ret = object;
}

int kbs_scratch_generate(struct kbs_scratch *s, CK_MECHANISM_TYPE mechanism,
                         struct kbs_template *key, CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    CK_MECHANISM mech = {.mechanism = mechanism};
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    CK_RV rv;

    if (scratch_check_room(s, 1, err) != 0) {
        return -1;
    }
    rv = s->token->f->C_GenerateKey(s->token->session, &mech, key->a, key->n, &object);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_GenerateKey", __LINE__);
    }
    scratch_add(s, object, ret);
    return 0;
}

int kbs_scratch_generate_ec(struct kbs_scratch *s, struct kbs_template *public_key,
                            struct kbs_template *private_key, CK_OBJECT_HANDLE *ret_public,
                            CK_OBJECT_HANDLE *ret_private, struct kbs_error *err)
{
    CK_MECHANISM mech = {.mechanism = CKM_EC_KEY_PAIR_GEN};
    CK_OBJECT_HANDLE public_object = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE private_object = CK_INVALID_HANDLE;
    CK_RV rv;

    if (scratch_check_room(s, 2, err) != 0) {
        return -1;
    }
    rv = s->token->f->C_GenerateKeyPair(s->token->session, &mech, public_key->a, public_key->n,
                                        private_key->a, private_key->n, &public_object,
                                        &private_object);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_GenerateKeyPair", __LINE__);
    }
    scratch_add(s, public_object, ret_public);
    scratch_add(s, private_object, ret_private);
    return 0;
}

int kbs_scratch_derive(struct kbs_scratch *s, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE base,
                       struct kbs_template *key, CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    CK_RV rv;

    if (scratch_check_room(s, 1, err) != 0) {
        return -1;
    }
    rv = s->token->f->C_DeriveKey(s->token->session, mechanism, base, key->a, key->n, &object);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_DeriveKey", __LINE__);
    }
    scratch_add(s, object, ret);
    return 0;
}

int kbs_scratch_create(struct kbs_scratch *s, struct kbs_template *template, CK_OBJECT_HANDLE *ret,
                       struct kbs_error *err)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    CK_RV rv;

    if (scratch_check_room(s, 1, err) != 0) {
        return -1;
    }
    rv = s->token->f->C_CreateObject(s->token->session, template->a, template->n, &object);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_CreateObject", __LINE__);
    }
    scratch_add(s, object, ret);
    return 0;
}

int kbs_scratch_unwrap(struct kbs_scratch *s, CK_OBJECT_HANDLE unwrapping_key,
                       struct kbs_span wrapped, struct kbs_template *key, CK_OBJECT_HANDLE *ret,
                       struct kbs_error *err)
{
    CK_MECHANISM mech = {.mechanism = CKM_AES_KEY_WRAP};
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    CK_RV rv;

    if (scratch_check_room(s, 1, err) != 0) {
        return -1;
    }
    rv = s->token->f->C_UnwrapKey(s->token->session, &mech, unwrapping_key, kbs_p11_in(wrapped.p),
                                  wrapped.len, key->a, key->n, &object);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_UnwrapKey", __LINE__);
    }
    scratch_add(s, object, ret);
    return 0;
}

/* ---- objects ---- */

int kbs_object_wrap(const struct kbs_token *t, CK_OBJECT_HANDLE wrapping_key, CK_OBJECT_HANDLE key,
                    uint8_t out[KBS_WRAPPED_MAX_BYTES], size_t *ret_len, struct kbs_error *err)
{
    CK_MECHANISM mech = {.mechanism = CKM_AES_KEY_WRAP};
    CK_ULONG len = KBS_WRAPPED_MAX_BYTES;
    CK_RV rv = t->f->C_WrapKey(t->session, &mech, wrapping_key, key, out, &len);

    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_WrapKey", __LINE__);
    }
    if (len < KBS_WRAPPED_MIN_BYTES || len > KBS_WRAPPED_MAX_BYTES || len % 8 != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the token wrapped a key to %lu bytes", len);
    }
    *ret_len = len;
    return 0;
}

int kbs_object_find(const struct kbs_token *t, CK_OBJECT_CLASS class,
                    const uint8_t cka_id[KBS_CKA_ID_BYTES], CK_OBJECT_HANDLE *ret,
                    struct kbs_error *err)
{
    struct kbs_template wanted = {.n = 0};
    CK_OBJECT_HANDLE found[2] = {CK_INVALID_HANDLE, CK_INVALID_HANDLE};
    CK_ULONG n = 0;
    CK_RV rv;

    kbs_template_number(&wanted, CKA_CLASS, class);
    kbs_template_bool(&wanted, CKA_TOKEN, true);
    kbs_template_bytes(&wanted, CKA_ID, kbs_span(cka_id, KBS_CKA_ID_BYTES));
    rv = t->f->C_FindObjectsInit(t->session, wanted.a, wanted.n);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_FindObjectsInit", __LINE__);
    }
    rv = t->f->C_FindObjects(t->session, found, 2, &n);
    (void)t->f->C_FindObjectsFinal(t->session);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_FindObjects", __LINE__);
    }
    if (n == 0) {
        return kbs_fail(err, KBS_MISSING, "the token has no such key");
    }
    if (n > 1) {
        return kbs_fail(err, KBS_INTERNAL, "the token has several keys with that CKA_ID");
    }
    *ret = found[0];
    return 0;
}

static int object_read(const struct kbs_token *t, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *a,
                       CK_ULONG n, struct kbs_error *err)
{
    CK_RV rv = t->f->C_GetAttributeValue(t->session, object, a, n);

    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_GetAttributeValue", __LINE__);
    }
    return 0;
}

static bool object_bool_is(const CK_ATTRIBUTE *a, bool wanted)
{
    CK_BBOOL value;

    if (a->ulValueLen != sizeof(value)) {
        return false;
    }
    memcpy(&value, a->pValue, sizeof(value));
    return (value != CK_FALSE) == wanted;
}

int kbs_object_check_secret(const struct kbs_token *t, CK_OBJECT_HANDLE object, bool extractable,
                            struct kbs_error *err)
{
    CK_BBOOL values[2] = {CK_FALSE, CK_FALSE};
    CK_ATTRIBUTE a[] = {{CKA_SENSITIVE, &values[0], sizeof(CK_BBOOL)},
                        {CKA_EXTRACTABLE, &values[1], sizeof(CK_BBOOL)}};

    if (object_read(t, object, a, 2, err) != 0) {
        return -1;
    }
    if (!object_bool_is(&a[0], true)) {
        return kbs_fail(err, KBS_INTERNAL, "the token holds a key without CKA_SENSITIVE");
    }
    if (!object_bool_is(&a[1], extractable)) {
        return kbs_fail(err, KBS_INTERNAL, "the token holds a key with the wrong CKA_EXTRACTABLE");
    }
    return 0;
}

int kbs_object_check_release_key(const struct kbs_token *t, CK_OBJECT_HANDLE object,
                                 const uint8_t cka_id[KBS_CKA_ID_BYTES], struct kbs_error *err)
{
    CK_OBJECT_CLASS class = CKO_DATA;
    uint8_t id[KBS_CKA_ID_BYTES] = {0};
    CK_BBOOL values[2] = {CK_FALSE, CK_FALSE};
    CK_ATTRIBUTE a[] = {{CKA_CLASS, &class, sizeof(class)},
                        {CKA_ID, id, sizeof(id)},
                        {CKA_SENSITIVE, &values[0], sizeof(CK_BBOOL)},
                        {CKA_EXTRACTABLE, &values[1], sizeof(CK_BBOOL)}};
    CK_RV rv = t->f->C_GetAttributeValue(t->session, object, a, 4);

    if (rv == CKR_BUFFER_TOO_SMALL) { /* some other object, with a longer id */
        rv = CKR_OBJECT_HANDLE_INVALID;
    }
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_GetAttributeValue", __LINE__);
    }
    if (class != CKO_SECRET_KEY || a[1].ulValueLen != sizeof(id) ||
        memcmp(id, cka_id, sizeof(id)) != 0) {
        return kbs_ckr_fail(err, CKR_OBJECT_HANDLE_INVALID, "C_GetAttributeValue", __LINE__);
    }
    if (!object_bool_is(&a[2], true) || !object_bool_is(&a[3], true)) {
        return kbs_fail(err, KBS_INTERNAL,
                        "the key is not sensitive and extractable: not for release");
    }
    return 0;
}

size_t kbs_object_value_len(const struct kbs_token *t, CK_OBJECT_HANDLE object)
{
    CK_ULONG len = 0;
    CK_ATTRIBUTE a = {CKA_VALUE_LEN, &len, sizeof(len)};

    if (t->f->C_GetAttributeValue(t->session, object, &a, 1) != CKR_OK ||
        a.ulValueLen != sizeof(len)) {
        return 0;
    }
    return len;
}

int kbs_object_ec_point(const struct kbs_token *t, CK_OBJECT_HANDLE public_key,
                        enum kbs_curve curve, struct kbs_ec_public *ret, struct kbs_error *err)
{
    uint8_t bytes[KBS_EC_POINT_MAX_BYTES + 4];
    CK_ATTRIBUTE a = {CKA_EC_POINT, bytes, sizeof(bytes)};
    size_t point_len = 1 + 2 * kbs_curve_field_bytes(curve);
    struct kbs_span point;

    if (object_read(t, public_key, &a, 1, err) != 0) {
        return -1;
    }
    point = kbs_span(bytes, a.ulValueLen <= sizeof(bytes) ? a.ulValueLen : 0);
    /* DER OCTET STRING: 04, length in one byte up to 127, else 81 and one byte. */
    if (point.len == point_len + 2 && point_len < 128 && point.p[0] == 4 &&
        point.p[1] == point_len) {
        point = kbs_span_skip(point, 2);
    } else if (point.len == point_len + 3 && point.p[0] == 4 && point.p[1] == 0x81 &&
               point.p[2] == point_len) {
        point = kbs_span_skip(point, 3);
    }
    if (kbs_ec_point_get(curve, point, ret, err) != 0) { /* the token's fault, not the caller's */
        return kbs_fail(err, KBS_INTERNAL, "the token's CKA_EC_POINT is not a point of %s",
                        kbs_curve_jose_name(curve));
    }
    return 0;
}

/* ---- handle cache ---- */

struct cache_entry {
    CK_OBJECT_HANDLE object; /* CK_INVALID_HANDLE: empty */
    size_t key_bytes;
    uint8_t cka_id[KBS_CKA_ID_BYTES];
};

struct kbs_handle_cache {
    struct cache_entry entries[KBS_LIMIT_HANDLE_CACHE];
};

int kbs_handle_cache_new(struct kbs_handle_cache **ret, struct kbs_error *err)
{
    *ret = calloc(1, sizeof(**ret));
    if (*ret == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "no memory for the handle cache");
    }
    return 0;
}

struct kbs_handle_cache *kbs_handle_cache_free(struct kbs_handle_cache *c)
{
    free(c);
    return NULL;
}

void kbs_handle_cache_clear(struct kbs_handle_cache *c)
{
    memset(c, 0, sizeof(*c));
}

/* FNV-1a. Key ids are random, but the versions of one key must not all fall into one place. */
static struct cache_entry *cache_place(struct kbs_handle_cache *c,
                                       const uint8_t cka_id[KBS_CKA_ID_BYTES])
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < KBS_CKA_ID_BYTES; i++) {
        h = (h ^ cka_id[i]) * 16777619u;
    }
    return &c->entries[h % KBS_LIMIT_HANDLE_CACHE];
}

int kbs_handle_cache_get(struct kbs_handle_cache *c, const struct kbs_token *t,
                         const uint8_t cka_id[KBS_CKA_ID_BYTES], CK_OBJECT_HANDLE *ret,
                         size_t *ret_key_bytes, struct kbs_error *err)
{
    struct cache_entry *entry = cache_place(c, cka_id);
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    bool known =
        entry->object != CK_INVALID_HANDLE && memcmp(entry->cka_id, cka_id, KBS_CKA_ID_BYTES) == 0;

    if (!known) {
        if (kbs_object_find(t, CKO_SECRET_KEY, cka_id, &object, err) != 0) {
            return -1;
        }
        entry->object = object;
        entry->key_bytes = kbs_object_value_len(t, object);
        memcpy(entry->cka_id, cka_id, KBS_CKA_ID_BYTES);
    }
    if (!(known && t->quirk->handles_are_unique) &&
        kbs_object_check_release_key(t, entry->object, cka_id, err) != 0) {
        entry->object = CK_INVALID_HANDLE;
        return -1;
    }
    *ret = entry->object;
    *ret_key_bytes = entry->key_bytes;
    return 0;
}
