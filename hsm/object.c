/*
 * Objects are where tokens differ most quietly: SoftHSM lets a key do everything that the template
 * does not forbid, NSS makes keys extractable and readable by default, openCryptoki decides
 * CKA_SENSITIVE and CKA_EXTRACTABLE itself in C_UnwrapKey until they are set once more. So every
 * template here names every flag, and what a token made of a template is read back in the one place
 * where objects are made.
 *
 * A session object that stays behind costs memory, slows every later call (SoftHSM) and is key
 * material; so objects are only made through a scratch, whose scope ends them. That is the one
 * clean-up idiom here.
 *
 * Handles are remembered across operations: after a destroy elsewhere tokens answer HANDLE_INVALID.
 * But a token is free to use a number again, so a remembered handle is a hint, and CKA_ID is read
 * back before a key is used: 15 to 30 us, where C_FindObjects costs up to milliseconds. Only for a
 * token that is known never to use one again (quirks.h) the look-up's read-back is enough: a key's
 * CKA_ID is fixed, and CKA_SENSITIVE and CKA_EXTRACTABLE can only become stricter, which the use
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
    kbs_template_bool(t, CKA_DECRYPT, (usage & KBS_USAGE_DECRYPT) != 0);
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

void kbs_template_rsa_pair(struct kbs_template *public_key, struct kbs_template *private_key,
                           CK_ULONG bits, bool token)
{
    static const uint8_t exponent[] = {1, 0, 1};

    kbs_template_number(public_key, CKA_CLASS, CKO_PUBLIC_KEY);
    kbs_template_number(public_key, CKA_KEY_TYPE, CKK_RSA);
    kbs_template_bool(public_key, CKA_TOKEN, token);
    kbs_template_bool(public_key, CKA_PRIVATE, false);
    kbs_template_number(public_key, CKA_MODULUS_BITS, bits);
    kbs_template_bytes(public_key, CKA_PUBLIC_EXPONENT, kbs_span(exponent, sizeof(exponent)));
    kbs_template_bool(public_key, CKA_ENCRYPT, false);
    kbs_template_bool(public_key, CKA_VERIFY, false);
    kbs_template_bool(public_key, CKA_VERIFY_RECOVER, false);
    kbs_template_bool(public_key, CKA_WRAP, true);

    kbs_template_number(private_key, CKA_CLASS, CKO_PRIVATE_KEY);
    kbs_template_number(private_key, CKA_KEY_TYPE, CKK_RSA);
    kbs_template_bool(private_key, CKA_TOKEN, token);
    kbs_template_bool(private_key, CKA_PRIVATE, true);
    kbs_template_bool(private_key, CKA_SENSITIVE, true);
    kbs_template_bool(private_key, CKA_EXTRACTABLE, false);
    kbs_template_bool(private_key, CKA_DECRYPT, false);
    kbs_template_bool(private_key, CKA_SIGN, false);
    kbs_template_bool(private_key, CKA_SIGN_RECOVER, false);
    kbs_template_bool(private_key, CKA_DERIVE, false);
    kbs_template_bool(private_key, CKA_UNWRAP, true);
}

int kbs_object_rsa_public(const struct kbs_token *t, CK_OBJECT_HANDLE public_key,
                          struct kbs_rsa_public *ret, struct kbs_error *err)
{
    CK_ATTRIBUTE a[] = {{CKA_MODULUS, ret->n, sizeof(ret->n)},
                        {CKA_PUBLIC_EXPONENT, ret->e, sizeof(ret->e)}};
    CK_RV rv = t->f->C_GetAttributeValue(t->session, public_key, a, 2);

    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_GetAttributeValue", __LINE__);
    }
    ret->n_len = a[0].ulValueLen;
    ret->e_len = a[1].ulValueLen;
    return kbs_rsa_public_check(ret, err);
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

/* Takes what a token has just made of a template; -1 if it is something else. */
static int scratch_add(struct kbs_scratch *s, CK_OBJECT_HANDLE object,
                       const struct kbs_template *template, CK_OBJECT_HANDLE *ret,
                       struct kbs_error *err)
{
    s->objects[s->n++] = object;
    s->token->objects_made++;
    *ret = object;
    return kbs_object_check_template(s->token, object, template, err);
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
    return scratch_add(s, object, key, ret, err);
}

int kbs_scratch_generate_pair(struct kbs_scratch *s, CK_MECHANISM_TYPE mechanism,
                              struct kbs_template *public_key, struct kbs_template *private_key,
                              CK_OBJECT_HANDLE *ret_public, CK_OBJECT_HANDLE *ret_private,
                              struct kbs_error *err)
{
    CK_MECHANISM mech = {.mechanism = mechanism};
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
    /* Both belong to the scratch before either is looked at. */
    s->objects[s->n++] = public_object;
    s->token->objects_made++;
    *ret_public = public_object;
    if (scratch_add(s, private_object, private_key, ret_private, err) != 0) {
        return -1;
    }
    return kbs_object_check_template(s->token, public_object, public_key, err);
}

int kbs_scratch_generate_ec(struct kbs_scratch *s, struct kbs_template *public_key,
                            struct kbs_template *private_key, CK_OBJECT_HANDLE *ret_public,
                            CK_OBJECT_HANDLE *ret_private, struct kbs_error *err)
{
    return kbs_scratch_generate_pair(s, CKM_EC_KEY_PAIR_GEN, public_key, private_key, ret_public,
                                     ret_private, err);
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
    return scratch_add(s, object, key, ret, err);
}

int kbs_scratch_create(struct kbs_scratch *s, struct kbs_template *key, CK_OBJECT_HANDLE *ret,
                       struct kbs_error *err)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    CK_RV rv;

    if (scratch_check_room(s, 1, err) != 0) {
        return -1;
    }
    rv = s->token->f->C_CreateObject(s->token->session, key->a, key->n, &object);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_CreateObject", __LINE__);
    }
    return scratch_add(s, object, key, ret, err);
}

static const CK_ATTRIBUTE *template_find(const struct kbs_template *t, CK_ATTRIBUTE_TYPE type)
{
    for (CK_ULONG i = 0; i < t->n; i++) {
        if (t->a[i].type == type) {
            return &t->a[i];
        }
    }
    return NULL;
}

/*
 * For openCryptoki, which unwraps to readable and extractable keys and will not be told otherwise
 * (CKR_ATTRIBUTE_READ_ONLY), and then mends nothing that is not modifiable. So such a key is first a
 * session object, is made sensitive, and becomes the token object as a copy of that.
 */
static CK_RV unwrap_by_copy(struct kbs_scratch *s, CK_MECHANISM *mechanism,
                            CK_OBJECT_HANDLE unwrapping_key, struct kbs_span wrapped,
                            const struct kbs_template *key, CK_OBJECT_HANDLE *ret)
{
    CK_FUNCTION_LIST *f = s->token->f;
    CK_ATTRIBUTE sensitive = {CKA_SENSITIVE, &object_true, sizeof(object_true)};
    const CK_ATTRIBUTE *modifiable = template_find(key, CKA_MODIFIABLE);
    CK_ATTRIBUTE fixed[] = {{CKA_TOKEN, &object_true, sizeof(object_true)},
                            {CKA_MODIFIABLE, &object_false, sizeof(object_false)}};
    struct kbs_template rest = {.n = 0};
    CK_OBJECT_HANDLE loose = CK_INVALID_HANDLE;
    CK_RV rv;

    for (CK_ULONG i = 0; i < key->n; i++) {
        if (key->a[i].type != CKA_EXTRACTABLE && key->a[i].type != CKA_MODIFIABLE) {
            rest.a[rest.n++] = key->a[i];
        }
        if (key->a[i].type == CKA_TOKEN && modifiable != NULL) {
            rest.a[rest.n - 1].pValue = &object_false;
        }
    }
    rv = f->C_UnwrapKey(s->token->session, mechanism, unwrapping_key, kbs_p11_in(wrapped.p),
                        wrapped.len, rest.a, rest.n, &loose);
    if (rv != CKR_OK || modifiable == NULL) {
        *ret = loose;
        return rv;
    }
    s->objects[s->n++] = loose;
    s->token->objects_made++;
    rv = f->C_SetAttributeValue(s->token->session, loose, &sensitive, 1);
    return rv != CKR_OK ? rv : f->C_CopyObject(s->token->session, loose, fixed, 2, ret);
}

int kbs_scratch_unwrap_by(struct kbs_scratch *s, CK_MECHANISM *mechanism,
                          CK_OBJECT_HANDLE unwrapping_key, struct kbs_span wrapped,
                          struct kbs_template *key, CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
    CK_RV rv;

    if (scratch_check_room(s, 2, err) != 0) {
        return -1;
    }
    rv = s->token->f->C_UnwrapKey(s->token->session, mechanism, unwrapping_key,
                                  kbs_p11_in(wrapped.p), wrapped.len, key->a, key->n, &object);
    if (rv == CKR_ATTRIBUTE_READ_ONLY) { /* what the key then is, is read back below */
        rv = unwrap_by_copy(s, mechanism, unwrapping_key, wrapped, key, &object);
    }
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_UnwrapKey", __LINE__);
    }
    return scratch_add(s, object, key, ret, err);
}

/*
 * PKCS#11's versions do not agree on CKA_VALUE_LEN in C_UnwrapKey by AES Key Wrap: SoftHSM refuses
 * it, Luna before firmware 7.9.3 wants it and says ATTRIBUTE_TYPE_INVALID, others one of the
 * template's codes. It can only be what the blob says.
 */
static bool unwrap_may_want_length(const struct kbs_error *err)
{
    CK_RV rv = kbs_ckr_of(err);

    return strcmp(err->func, "C_UnwrapKey") == 0 &&
           (rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_TEMPLATE_INCOMPLETE ||
            rv == CKR_TEMPLATE_INCONSISTENT);
}

int kbs_scratch_unwrap(struct kbs_scratch *s, CK_OBJECT_HANDLE unwrapping_key,
                       struct kbs_span wrapped, struct kbs_template *key, CK_OBJECT_HANDLE *ret,
                       struct kbs_error *err)
{
    CK_MECHANISM mech = {.mechanism = CKM_AES_KEY_WRAP};
    struct kbs_template with_length = *key;

    if (!s->token->unwrap_wants_length) {
        int rc = kbs_scratch_unwrap_by(s, &mech, unwrapping_key, wrapped, key, ret, err);

        if (rc == 0 || !unwrap_may_want_length(err)) {
            return rc;
        }
        *err = KBS_ERROR_NONE;
    }
    kbs_template_number(&with_length, CKA_VALUE_LEN, wrapped.len > 8 ? wrapped.len - 8 : 0);
    if (kbs_scratch_unwrap_by(s, &mech, unwrapping_key, wrapped, &with_length, ret, err) != 0) {
        return -1;
    }
    s->token->unwrap_wants_length = true;
    return 0;
}

/* ---- objects ---- */

int kbs_object_wrap_by(const struct kbs_token *t, CK_MECHANISM *mechanism,
                       CK_OBJECT_HANDLE wrapping_key, CK_OBJECT_HANDLE key, uint8_t *out,
                       size_t size, size_t *ret_len, struct kbs_error *err)
{
    CK_ULONG len = size;
    CK_RV rv = t->f->C_WrapKey(t->session, mechanism, wrapping_key, key, out, &len);

    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_WrapKey", __LINE__);
    }
    if (len == 0 || len > size) {
        return kbs_fail(err, KBS_INTERNAL, "the token wrapped a key to %lu bytes", len);
    }
    *ret_len = len;
    return 0;
}

int kbs_object_wrap(const struct kbs_token *t, CK_OBJECT_HANDLE wrapping_key, CK_OBJECT_HANDLE key,
                    uint8_t out[KBS_WRAPPED_MAX_BYTES], size_t *ret_len, struct kbs_error *err)
{
    CK_MECHANISM mech = {.mechanism = CKM_AES_KEY_WRAP};
    size_t len = 0;

    if (kbs_object_wrap_by(t, &mech, wrapping_key, key, out, KBS_WRAPPED_MAX_BYTES, &len, err) !=
        0) {
        return -1;
    }
    if (len < KBS_WRAPPED_MIN_BYTES || len % 8 != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the token wrapped a key to %zu bytes", len);
    }
    *ret_len = len;
    return 0;
}

int kbs_object_list(const struct kbs_token *t, struct kbs_template *wanted, CK_OBJECT_HANDLE *ret,
                    size_t room, size_t *ret_n, struct kbs_error *err)
{
    size_t n = 0;
    CK_ULONG more = 0;
    CK_RV rv = t->f->C_FindObjectsInit(t->session, wanted->a, wanted->n);

    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_FindObjectsInit", __LINE__);
    }
    do { /* a token may hand them out one by one: only none means that there are no more */
        more = 0;
        rv = t->f->C_FindObjects(t->session, ret + n, room - n, &more);
        more = more < room - n ? more : room - n;
        n += more;
    } while (rv == CKR_OK && more > 0 && n < room);
    (void)t->f->C_FindObjectsFinal(t->session);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_FindObjects", __LINE__);
    }
    *ret_n = n;
    return 0;
}

int kbs_object_find(const struct kbs_token *t, CK_OBJECT_CLASS class, struct kbs_span cka_id,
                    CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    struct kbs_template wanted = {.n = 0};
    CK_OBJECT_HANDLE found[2] = {CK_INVALID_HANDLE, CK_INVALID_HANDLE};
    size_t n = 0;

    kbs_template_number(&wanted, CKA_CLASS, class);
    kbs_template_bool(&wanted, CKA_TOKEN, true);
    kbs_template_bytes(&wanted, CKA_ID, cka_id);
    if (kbs_object_list(t, &wanted, found, 2, &n, err) != 0) {
        return -1;
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

/* What is read back of a template. strict: of a secret that outlives the order, see object.h. */
static bool object_is_checked(const CK_ATTRIBUTE *a, bool strict)
{
    switch (a->type) {
    case CKA_CLASS:
    case CKA_KEY_TYPE:
    case CKA_TOKEN:
    case CKA_SENSITIVE:
    case CKA_EXTRACTABLE:
    case CKA_VALUE_LEN:
        return true;
    case CKA_PRIVATE:
    case CKA_ENCRYPT:
    case CKA_DECRYPT:
    case CKA_SIGN:
    case CKA_WRAP:
    case CKA_UNWRAP:
    case CKA_DERIVE:
        return strict;
    default:
        return false;
    }
}

static bool object_is_strict(const struct kbs_template *wanted)
{
    bool token = false;
    bool public_key = false;

    for (CK_ULONG i = 0; i < wanted->n; i++) {
        const CK_ATTRIBUTE *a = &wanted->a[i];

        token = token || (a->type == CKA_TOKEN && *(const CK_BBOOL *)a->pValue != CK_FALSE);
        public_key = public_key || (a->type == CKA_CLASS &&
                                    *(const CK_OBJECT_CLASS *)a->pValue == CKO_PUBLIC_KEY);
    }
    return token && !public_key;
}

/* "CKA_SENSITIVE" and its like, for the person who reads the refusal. */
static const char *object_attribute_name(CK_ATTRIBUTE_TYPE type)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        const char *name;
    } names[] = {{CKA_CLASS, "CKA_CLASS"},
                 {CKA_KEY_TYPE, "CKA_KEY_TYPE"},
                 {CKA_TOKEN, "CKA_TOKEN"},
                 {CKA_SENSITIVE, "CKA_SENSITIVE"},
                 {CKA_EXTRACTABLE, "CKA_EXTRACTABLE"},
                 {CKA_VALUE_LEN, "CKA_VALUE_LEN"},
                 {CKA_PRIVATE, "CKA_PRIVATE"}};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (names[i].type == type) {
            return names[i].name;
        }
    }
    return "usage";
}

/* The values of a template as the token has them; those it does not tell have no length. */
struct object_values {
    CK_ATTRIBUTE a[KBS_TEMPLATE_MAX];
    CK_ULONG numbers[KBS_TEMPLATE_MAX]; /* flags as well: numbers[i] belongs to a[i] */
    CK_ULONG n;
};

static int object_read_template(const struct kbs_token *t, CK_OBJECT_HANDLE object,
                                const struct kbs_template *wanted, struct object_values *ret,
                                struct kbs_error *err)
{
    static const CK_ULONG unavailable = (CK_ULONG)-1;
    bool strict = object_is_strict(wanted);
    CK_RV rv;

    ret->n = 0;
    for (CK_ULONG i = 0; i < wanted->n; i++) {
        if (object_is_checked(&wanted->a[i], strict)) {
            ret->numbers[ret->n] = 0;
            ret->a[ret->n] =
                (CK_ATTRIBUTE){wanted->a[i].type, &ret->numbers[ret->n], wanted->a[i].ulValueLen};
            ret->n++;
        }
    }
    rv = t->f->C_GetAttributeValue(t->session, object, ret->a, ret->n);
    if (rv != CKR_OK && rv != CKR_ATTRIBUTE_TYPE_INVALID && rv != CKR_ATTRIBUTE_SENSITIVE) {
        return kbs_ckr_fail(err, rv, "C_GetAttributeValue", __LINE__);
    }
    for (CK_ULONG i = 0; i < ret->n; i++) {
        ret->a[i].ulValueLen = ret->a[i].ulValueLen == unavailable ? 0 : ret->a[i].ulValueLen;
    }
    return 0;
}

static bool object_value_fits(const CK_ATTRIBUTE *wanted, const CK_ATTRIBUTE *is)
{
    CK_ULONG length = 0;

    if (wanted->type == CKA_VALUE_LEN) { /* not told, or 0: SoftHSM of keys that it unwrapped */
        memcpy(&length, is->pValue, sizeof(length));
        return is->ulValueLen == 0 || length == 0 || length == *(const CK_ULONG *)wanted->pValue;
    }
    if (wanted->ulValueLen == sizeof(CK_BBOOL)) {
        return object_bool_is(is, *(const CK_BBOOL *)wanted->pValue != CK_FALSE);
    }
    return is->ulValueLen == wanted->ulValueLen &&
           memcmp(is->pValue, wanted->pValue, is->ulValueLen) == 0;
}

/* 0 where all fits, else the first attribute that does not, or -1. */
static int object_compare(const struct kbs_token *t, CK_OBJECT_HANDLE object,
                          const struct kbs_template *wanted, CK_ATTRIBUTE_TYPE *ret_wrong,
                          bool *ret_fits, struct kbs_error *err)
{
    struct object_values values;
    CK_ULONG next = 0;

    *ret_fits = true;
    if (object_read_template(t, object, wanted, &values, err) != 0) {
        return -1;
    }
    for (CK_ULONG i = 0; i < wanted->n && next < values.n; i++) {
        if (wanted->a[i].type != values.a[next].type) {
            continue;
        }
        if (!object_value_fits(&wanted->a[i], &values.a[next])) {
            *ret_fits = false;
            *ret_wrong = wanted->a[i].type;
            return 0;
        }
        next++;
    }
    return 0;
}

/*
 * Asks once more for what C_UnwrapKey of some tokens does not listen to. Both attributes may be
 * changed in this direction only (PKCS#11 2.40 section 4.2), so nothing is loosened here.
 */
static bool object_mend(const struct kbs_token *t, CK_OBJECT_HANDLE object,
                        const struct kbs_template *wanted, CK_ATTRIBUTE_TYPE wrong)
{
    if (wrong != CKA_SENSITIVE && wrong != CKA_EXTRACTABLE) {
        return false;
    }
    for (CK_ULONG i = 0; i < wanted->n; i++) {
        CK_ATTRIBUTE a = wanted->a[i];

        if (a.type == wrong &&
            (*(const CK_BBOOL *)a.pValue != CK_FALSE) == (wrong == CKA_SENSITIVE)) {
            return t->f->C_SetAttributeValue(t->session, object, &a, 1) == CKR_OK;
        }
    }
    return false;
}

int kbs_object_check_template(const struct kbs_token *t, CK_OBJECT_HANDLE object,
                              const struct kbs_template *wanted, struct kbs_error *err)
{
    CK_ATTRIBUTE_TYPE wrong = 0;
    bool fits = false;

    for (int mended = 0; mended <= 2; mended++) {
        if (object_compare(t, object, wanted, &wrong, &fits, err) != 0) {
            return -1;
        }
        if (fits) {
            return 0;
        }
        if (!object_mend(t, object, wanted, wrong)) {
            break;
        }
    }
    return kbs_fail(err, KBS_INTERNAL, "the token made a key with another %s than asked for",
                    object_attribute_name(wrong));
}

int kbs_object_check_key(const struct kbs_token *t, CK_OBJECT_HANDLE object, CK_OBJECT_CLASS class,
                         struct kbs_span cka_id, bool extractable, struct kbs_error *err)
{
    CK_OBJECT_CLASS is_class = CKO_DATA;
    uint8_t id[KBS_CKA_ID_MAX_BYTES] = {0};
    CK_BBOOL values[2] = {CK_FALSE, CK_FALSE};
    CK_ATTRIBUTE a[] = {{CKA_CLASS, &is_class, sizeof(is_class)},
                        {CKA_ID, id, sizeof(id)},
                        {CKA_SENSITIVE, &values[0], sizeof(CK_BBOOL)},
                        {CKA_EXTRACTABLE, &values[1], sizeof(CK_BBOOL)}};
    /* A public key has no secret to ask for. */
    CK_ULONG n = class == CKO_PUBLIC_KEY ? 2 : 4;
    CK_RV rv = t->f->C_GetAttributeValue(t->session, object, a, n);

    if (rv == CKR_BUFFER_TOO_SMALL || rv == CKR_ATTRIBUTE_TYPE_INVALID) { /* some other object */
        rv = CKR_OBJECT_HANDLE_INVALID;
    }
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_GetAttributeValue", __LINE__);
    }
    if (is_class != class || a[1].ulValueLen > sizeof(id) ||
        !kbs_span_equal(kbs_span(id, a[1].ulValueLen), cka_id)) {
        return kbs_ckr_fail(err, CKR_OBJECT_HANDLE_INVALID, "C_GetAttributeValue", __LINE__);
    }
    if (n == 4 && (!object_bool_is(&a[2], true) || !object_bool_is(&a[3], extractable))) {
        return kbs_fail(err, KBS_INTERNAL, "the token's key is not sensitive and %s",
                        extractable ? "extractable" : "confined to the token");
    }
    return 0;
}

bool kbs_object_bool(const struct kbs_token *t, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                     bool otherwise)
{
    CK_BBOOL value = CK_FALSE;
    CK_ATTRIBUTE a = {type, &value, sizeof(value)};

    if (t->f->C_GetAttributeValue(t->session, object, &a, 1) != CKR_OK ||
        a.ulValueLen != sizeof(value)) {
        return otherwise;
    }
    return value != CK_FALSE;
}

int kbs_object_cka_id(const struct kbs_token *t, CK_OBJECT_HANDLE object,
                      uint8_t ret[KBS_CKA_ID_MAX_BYTES], size_t *ret_len, struct kbs_error *err)
{
    CK_ATTRIBUTE a = {CKA_ID, ret, KBS_CKA_ID_MAX_BYTES};
    CK_RV rv = t->f->C_GetAttributeValue(t->session, object, &a, 1);

    if (rv != CKR_OK && rv != CKR_BUFFER_TOO_SMALL && rv != CKR_ATTRIBUTE_TYPE_INVALID) {
        return kbs_ckr_fail(err, rv, "C_GetAttributeValue", __LINE__);
    }
    if (rv != CKR_OK || a.ulValueLen == 0 || a.ulValueLen > KBS_CKA_ID_MAX_BYTES) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the key's CKA_ID has not 1 to %d bytes",
                        KBS_CKA_ID_MAX_BYTES);
    }
    *ret_len = a.ulValueLen;
    return 0;
}

int kbs_object_label(const struct kbs_token *t, CK_OBJECT_HANDLE object, char *out, size_t size,
                     struct kbs_span *ret, struct kbs_error *err)
{
    CK_ATTRIBUTE a = {CKA_LABEL, out, size};
    CK_RV rv = t->f->C_GetAttributeValue(t->session, object, &a, 1);

    *ret = KBS_SPAN_EMPTY;
    if (rv != CKR_OK && rv != CKR_BUFFER_TOO_SMALL && rv != CKR_ATTRIBUTE_TYPE_INVALID) {
        return kbs_ckr_fail(err, rv, "C_GetAttributeValue", __LINE__);
    }
    if (rv == CKR_OK && a.ulValueLen <= size) {
        *ret = kbs_span(out, a.ulValueLen);
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

int kbs_object_curve(const struct kbs_token *t, CK_OBJECT_HANDLE public_key, enum kbs_curve *ret,
                     struct kbs_error *err)
{
    uint8_t bytes[32]; /* the DER of an OID: ours have 7 or 10 */
    CK_ATTRIBUTE a = {CKA_EC_PARAMS, bytes, sizeof(bytes)};

    if (object_read(t, public_key, &a, 1, err) != 0) {
        return -1;
    }
    for (enum kbs_curve c = KBS_CURVE_P256; c <= KBS_CURVE_P521; c++) {
        if (a.ulValueLen <= sizeof(bytes) &&
            kbs_span_equal(kbs_span(bytes, a.ulValueLen), kbs_curve_oid_der(c))) {
            *ret = c;
            return 0;
        }
    }
    return kbs_fail(err, KBS_INTERNAL, "the token's CKA_EC_PARAMS names none of our curves");
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

int kbs_object_destroy(struct kbs_token *t, CK_OBJECT_HANDLE object, struct kbs_error *err)
{
    CK_RV rv = t->f->C_DestroyObject(t->session, object);

    kbs_handles_forget(t);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_DestroyObject", __LINE__);
    }
    return 0;
}

/* ---- remembered handles ---- */

struct handle_entry {
    CK_OBJECT_HANDLE object; /* CK_INVALID_HANDLE: empty */
    CK_OBJECT_CLASS class;
    uint8_t cka_id[KBS_CKA_ID_MAX_BYTES];
    size_t cka_id_len;
};

struct kbs_handles {
    struct handle_entry entries[KBS_LIMIT_HANDLE_CACHE];
};

void kbs_handles_forget(struct kbs_token *t)
{
    if (t->handles != NULL) {
        memset(t->handles, 0, sizeof(*t->handles));
    }
}

/* FNV-1a. Key ids are random, but the versions of one key must not all fall into one place. */
static struct handle_entry *handles_place(struct kbs_handles *h, CK_OBJECT_CLASS class,
                                          struct kbs_span cka_id)
{
    uint32_t hash = 2166136261u ^ (uint32_t) class;

    for (size_t i = 0; i < cka_id.len; i++) {
        hash = (hash ^ cka_id.p[i]) * 16777619u;
    }
    return &h->entries[hash % KBS_LIMIT_HANDLE_CACHE];
}

int kbs_handles_get(struct kbs_token *t, CK_OBJECT_CLASS class, struct kbs_span cka_id,
                    CK_OBJECT_HANDLE *ret, bool *ret_new, struct kbs_error *err)
{
    struct handle_entry *entry;

    if (t->handles == NULL) {
        t->handles = calloc(1, sizeof(*t->handles)); /* freed by kbs_token_close() */
    }
    if (t->handles == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "no memory for the token's handles");
    }
    entry = handles_place(t->handles, class, cka_id);
    *ret_new = entry->object == CK_INVALID_HANDLE || entry->class != class ||
               !kbs_span_equal(kbs_span(entry->cka_id, entry->cka_id_len), cka_id);
    if (*ret_new) {
        entry->object = CK_INVALID_HANDLE;
        if (cka_id.len > sizeof(entry->cka_id)) {
            return kbs_fail(err, KBS_INTERNAL, "a CKA_ID of %zu bytes", cka_id.len);
        }
        if (kbs_object_find(t, class, cka_id, &entry->object, err) != 0) {
            return -1;
        }
        entry->class = class;
        entry->cka_id_len = cka_id.len;
        memcpy(entry->cka_id, cka_id.p, cka_id.len);
    }
    *ret = entry->object;
    return 0;
}
