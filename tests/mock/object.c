/*
 * Attributes: what a template may say at each birth, what is written down, and what may be read.
 * As strict as PKCS#11 2.40 section 4 allows: an attribute that is not known, of the wrong size or
 * not the caller's to set is refused, and a key may do nothing that its template did not ask for.
 * So a template that leaves a flag out, or trusts a default, fails here before it meets hardware.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "mock.h"

/* Which classes have an attribute (bits), what it looks like, and who sets it. */
#define SECRET 1u
#define PRIVATE 2u
#define PUBLIC 4u
#define KEYS (SECRET | PRIVATE | PUBLIC)

enum shape {
    BOOLEAN,
    NUMBER,
    BYTES
};

enum setter {
    ANYBODY,    /* in any template */
    CREATION,   /* a value: C_CreateObject only */
    GENERATION, /* CKA_EC_PARAMS of the public template, CKA_MODULUS_BITS, ... */
    LENGTH,     /* CKA_VALUE_LEN: generate and derive; C_UnwrapKey as configured */
    TOKEN_ONLY  /* history, check value, trust */
};

static const struct rule {
    CK_ATTRIBUTE_TYPE type;
    unsigned int classes;
    enum shape shape;
    enum setter setter;
    bool fallback; /* of a boolean that the template leaves out */
} rules[] = {
    {CKA_CLASS, KEYS, NUMBER, ANYBODY, false},
    {CKA_KEY_TYPE, KEYS, NUMBER, ANYBODY, false},
    {CKA_TOKEN, KEYS, BOOLEAN, ANYBODY, false},
    {CKA_PRIVATE, KEYS, BOOLEAN, ANYBODY, true},
    {CKA_MODIFIABLE, KEYS, BOOLEAN, ANYBODY, true},
    {CKA_COPYABLE, KEYS, BOOLEAN, ANYBODY, true},
    {CKA_DESTROYABLE, KEYS, BOOLEAN, ANYBODY, true},
    {CKA_LABEL, KEYS, BYTES, ANYBODY, false},
    {CKA_ID, KEYS, BYTES, ANYBODY, false},
    {CKA_START_DATE, KEYS, BYTES, ANYBODY, false},
    {CKA_END_DATE, KEYS, BYTES, ANYBODY, false},
    {CKA_SENSITIVE, SECRET | PRIVATE, BOOLEAN, ANYBODY, false},
    {CKA_EXTRACTABLE, SECRET | PRIVATE, BOOLEAN, ANYBODY, false},
    {CKA_WRAP_WITH_TRUSTED, SECRET | PRIVATE, BOOLEAN, ANYBODY, false},
    {CKA_ENCRYPT, SECRET | PUBLIC, BOOLEAN, ANYBODY, false},
    {CKA_DECRYPT, SECRET | PRIVATE, BOOLEAN, ANYBODY, false},
    {CKA_SIGN, SECRET | PRIVATE, BOOLEAN, ANYBODY, false},
    {CKA_SIGN_RECOVER, PRIVATE, BOOLEAN, ANYBODY, false},
    {CKA_VERIFY, SECRET | PUBLIC, BOOLEAN, ANYBODY, false},
    {CKA_VERIFY_RECOVER, PUBLIC, BOOLEAN, ANYBODY, false},
    {CKA_WRAP, SECRET | PUBLIC, BOOLEAN, ANYBODY, false},
    {CKA_UNWRAP, SECRET | PRIVATE, BOOLEAN, ANYBODY, false},
    {CKA_DERIVE, KEYS, BOOLEAN, ANYBODY, false},
    {CKA_VALUE, SECRET | PRIVATE, BYTES, CREATION, false},
    {CKA_VALUE_LEN, SECRET, NUMBER, LENGTH, false},
    {CKA_EC_PARAMS, PRIVATE | PUBLIC, BYTES, GENERATION, false},
    {CKA_EC_POINT, PUBLIC, BYTES, CREATION, false},
    {CKA_MODULUS, PRIVATE | PUBLIC, BYTES, CREATION, false},
    {CKA_MODULUS_BITS, PUBLIC, NUMBER, GENERATION, false},
    {CKA_PUBLIC_EXPONENT, PRIVATE | PUBLIC, BYTES, GENERATION, false},
    {CKA_PRIVATE_EXPONENT, PRIVATE, BYTES, CREATION, false},
    {CKA_PRIME_1, PRIVATE, BYTES, CREATION, false},
    {CKA_PRIME_2, PRIVATE, BYTES, CREATION, false},
    {CKA_EXPONENT_1, PRIVATE, BYTES, CREATION, false},
    {CKA_EXPONENT_2, PRIVATE, BYTES, CREATION, false},
    {CKA_COEFFICIENT, PRIVATE, BYTES, CREATION, false},
    {CKA_TRUSTED, SECRET | PUBLIC, BOOLEAN, TOKEN_ONLY, false},
    {CKA_LOCAL, KEYS, BOOLEAN, TOKEN_ONLY, false},
    {CKA_ALWAYS_SENSITIVE, SECRET | PRIVATE, BOOLEAN, TOKEN_ONLY, false},
    {CKA_NEVER_EXTRACTABLE, SECRET | PRIVATE, BOOLEAN, TOKEN_ONLY, false},
    {CKA_KEY_GEN_MECHANISM, KEYS, NUMBER, TOKEN_ONLY, false},
    {CKA_CHECK_VALUE, SECRET, BYTES, TOKEN_ONLY, false},
};

static const struct rule *rule_find(CK_ATTRIBUTE_TYPE type)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (rules[i].type == type) {
            return &rules[i];
        }
    }
    return NULL;
}

/* ---- an object's attributes ---- */

struct mock_object *mock_object_new(void)
{
    struct mock_object *o = calloc(1, sizeof(*o));

    if (o == NULL) {
        abort();
    }
    return o;
}

void mock_object_free(struct mock_object *o)
{
    for (size_t i = 0; o != NULL && i < o->n; i++) {
        OPENSSL_clear_free(o->a[i].p, o->a[i].len);
    }
    free(o);
}

void mock_object_set(struct mock_object *o, CK_ATTRIBUTE_TYPE type, const void *p, size_t len)
{
    size_t i = 0;

    while (i < o->n && o->a[i].type != type) {
        i++;
    }
    if (i == MOCK_ATTRIBUTES_MAX) {
        abort(); /* there are fewer rules than places */
    }
    if (i == o->n) {
        o->a[o->n++] = (struct mock_attribute){.type = type};
    }
    OPENSSL_clear_free(o->a[i].p, o->a[i].len);
    o->a[i].p = len > 0 ? OPENSSL_malloc(len) : NULL;
    o->a[i].len = len;
    if (len > 0) {
        if (o->a[i].p == NULL) {
            abort();
        }
        memcpy(o->a[i].p, p, len);
    }
}

void mock_object_set_bool(struct mock_object *o, CK_ATTRIBUTE_TYPE type, bool value)
{
    const CK_BBOOL v = value ? CK_TRUE : CK_FALSE;

    mock_object_set(o, type, &v, sizeof(v));
}

void mock_object_set_number(struct mock_object *o, CK_ATTRIBUTE_TYPE type, CK_ULONG value)
{
    mock_object_set(o, type, &value, sizeof(value));
}

struct mock_object *mock_object_copy(const struct mock_object *o)
{
    struct mock_object *copy = mock_object_new();

    copy->handle = o->handle;
    copy->session = o->session;
    for (size_t i = 0; i < o->n; i++) {
        mock_object_set(copy, o->a[i].type, o->a[i].p, o->a[i].len);
    }
    return copy;
}

const struct mock_attribute *mock_object_get(const struct mock_object *o, CK_ATTRIBUTE_TYPE type)
{
    for (size_t i = 0; i < o->n; i++) {
        if (o->a[i].type == type) {
            return &o->a[i];
        }
    }
    return NULL;
}

bool mock_object_bool(const struct mock_object *o, CK_ATTRIBUTE_TYPE type)
{
    const struct mock_attribute *a = mock_object_get(o, type);

    return a != NULL && a->len == 1 && a->p[0] != CK_FALSE;
}

CK_ULONG mock_object_number(const struct mock_object *o, CK_ATTRIBUTE_TYPE type)
{
    const struct mock_attribute *a = mock_object_get(o, type);
    CK_ULONG v = ~0UL;

    if (a != NULL && a->len == sizeof(v)) {
        memcpy(&v, a->p, sizeof(v));
    }
    return v;
}

/* ---- templates ---- */

static unsigned int class_bit(CK_ULONG class)
{
    return class == CKO_SECRET_KEY    ? SECRET
           : class == CKO_PRIVATE_KEY ? PRIVATE
           : class == CKO_PUBLIC_KEY  ? PUBLIC
                                      : 0;
}

static CK_RV check_setter(const struct rule *r, enum mock_birth birth)
{
    unsigned int refusals = mock.conf.refusals;

    switch (r->setter) {
    case ANYBODY:
        return CKR_OK;
    case CREATION:
        return birth == MOCK_BORN_CREATED ? CKR_OK : CKR_TEMPLATE_INCONSISTENT;
    case GENERATION:
        return birth == MOCK_BORN_CREATED || birth == MOCK_BORN_GENERATED
                   ? CKR_OK
                   : CKR_TEMPLATE_INCONSISTENT;
    case LENGTH:
        if (birth == MOCK_BORN_CREATED ||
            (birth == MOCK_BORN_UNWRAPPED && (refusals & MOCK_REFUSE_VALUE_LEN) != 0)) {
            return CKR_ATTRIBUTE_READ_ONLY;
        }
        return CKR_OK;
    case TOKEN_ONLY:
        break;
    }
    return CKR_ATTRIBUTE_READ_ONLY;
}

static CK_RV check_shape(const struct rule *r, const CK_ATTRIBUTE *a)
{
    if (a->ulValueLen > MOCK_VALUE_MAX || (a->ulValueLen > 0 && a->pValue == NULL)) {
        return CKR_ATTRIBUTE_VALUE_INVALID;
    }
    if ((r->shape == BOOLEAN && a->ulValueLen != sizeof(CK_BBOOL)) ||
        (r->shape == NUMBER && a->ulValueLen != sizeof(CK_ULONG))) {
        return CKR_ATTRIBUTE_VALUE_INVALID;
    }
    return CKR_OK;
}

static CK_RV take_template(struct mock_object *o, const CK_ATTRIBUTE *t, CK_ULONG n,
                           enum mock_birth birth)
{
    for (CK_ULONG i = 0; i < n; i++) {
        const struct rule *r = rule_find(t[i].type);
        CK_RV rv;

        if (r == NULL) {
            return CKR_ATTRIBUTE_TYPE_INVALID;
        }
        if (mock_object_get(o, t[i].type) != NULL) {
            return CKR_TEMPLATE_INCONSISTENT;
        }
        rv = check_shape(r, &t[i]);
        if (rv == CKR_OK) {
            rv = check_setter(r, birth);
        }
        if (rv != CKR_OK) {
            return rv;
        }
        mock_object_set(o, t[i].type, t[i].pValue, t[i].ulValueLen);
    }
    return CKR_OK;
}

/* What the mechanism makes, against what the template says. */
static CK_RV settle(struct mock_object *o, CK_ATTRIBUTE_TYPE type, CK_ULONG made)
{
    CK_ULONG said = mock_object_number(o, type);

    if (made == ~0UL) {
        return said == ~0UL ? CKR_TEMPLATE_INCOMPLETE : CKR_OK;
    }
    if (said != ~0UL && said != made) {
        return CKR_TEMPLATE_INCONSISTENT;
    }
    mock_object_set_number(o, type, made);
    return CKR_OK;
}

static CK_RV check_class(struct mock_object *o)
{
    unsigned int bit = class_bit(mock_object_number(o, CKA_CLASS));

    if (bit == 0) {
        return CKR_ATTRIBUTE_VALUE_INVALID;
    }
    for (size_t i = 0; i < o->n; i++) {
        const struct rule *r = rule_find(o->a[i].type);

        if (r == NULL || (r->classes & bit) == 0) {
            return CKR_TEMPLATE_INCONSISTENT;
        }
    }
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if ((rules[i].classes & bit) != 0 && rules[i].shape == BOOLEAN &&
            mock_object_get(o, rules[i].type) == NULL) {
            /* A public key is public unless it is said not to be. */
            bool fallback = rules[i].fallback && !(rules[i].type == CKA_PRIVATE && bit == PUBLIC);
            mock_object_set_bool(o, rules[i].type, fallback);
        }
    }
    return CKR_OK;
}

CK_RV mock_object_from_template(const CK_ATTRIBUTE *t, CK_ULONG n, enum mock_birth birth,
                                CK_ULONG class, CK_ULONG type, struct mock_object **ret)
{
    struct mock_object *o = mock_object_new();
    CK_RV rv = t == NULL && n > 0 ? CKR_ARGUMENTS_BAD : take_template(o, t, n, birth);

    if (rv == CKR_OK) {
        rv = settle(o, CKA_CLASS, class);
    }
    if (rv == CKR_OK) {
        rv = settle(o, CKA_KEY_TYPE, type);
    }
    if (rv == CKR_OK) {
        rv = check_class(o);
    }
    if (rv == CKR_OK && mock_object_bool(o, CKA_PRIVATE) && !mock.user) {
        rv = CKR_USER_NOT_LOGGED_IN;
    }
    if (rv != CKR_OK) {
        mock_object_free(o);
        return rv;
    }
    *ret = o;
    return CKR_OK;
}

/* PKCS#11 2.40 section 4.9: AES, the first bytes of an encrypted zero block; else of a SHA-1. */
static void set_check_value(struct mock_object *o, const uint8_t *value, size_t len)
{
    uint8_t out[64] = {0};
    const uint8_t zero[16] = {0};
    bool ok = mock_object_number(o, CKA_KEY_TYPE) == CKK_AES
                  ? mock_cbc(value, len, zero, zero, sizeof(zero), out)
                  : EVP_Digest(value, len, out, NULL, EVP_sha1(), NULL) == 1;

    if (ok) {
        mock_object_set(o, CKA_CHECK_VALUE, out, 3);
    }
}

static void set_history(struct mock_object *o, enum mock_birth birth,
                        const struct mock_object *base, CK_ULONG mechanism)
{
    bool local = birth == MOCK_BORN_GENERATED;
    bool from_base = birth == MOCK_BORN_DERIVED && base != NULL;

    mock_object_set_bool(o, CKA_LOCAL, local);
    mock_object_set_number(o, CKA_KEY_GEN_MECHANISM, local ? mechanism : ~0UL);
    mock_object_set_bool(o, CKA_ALWAYS_SENSITIVE,
                         (local || (from_base && mock_object_bool(base, CKA_ALWAYS_SENSITIVE))) &&
                             mock_object_bool(o, CKA_SENSITIVE));
    mock_object_set_bool(o, CKA_NEVER_EXTRACTABLE,
                         (local || (from_base && mock_object_bool(base, CKA_NEVER_EXTRACTABLE))) &&
                             !mock_object_bool(o, CKA_EXTRACTABLE));
}

CK_RV mock_object_finish_secret(struct mock_object *o, enum mock_birth birth, const uint8_t *value,
                                size_t len, const struct mock_object *base, CK_ULONG mechanism)
{
    CK_ULONG said = mock_object_number(o, CKA_VALUE_LEN);
    bool odd =
        mock_object_number(o, CKA_KEY_TYPE) == CKK_AES && len != 16 && len != 24 && len != 32;
    bool hidden = (mock.conf.lies & MOCK_LIE_NO_VALUE_LEN) != 0 &&
                  (birth == MOCK_BORN_DERIVED || birth == MOCK_BORN_UNWRAPPED);

    if (odd || len == 0 || len > MOCK_VALUE_MAX) {
        return birth == MOCK_BORN_UNWRAPPED ? CKR_WRAPPED_KEY_LEN_RANGE : CKR_KEY_SIZE_RANGE;
    }
    if (said != ~0UL && said != len) {
        return CKR_TEMPLATE_INCONSISTENT;
    }
    mock_object_set(o, CKA_VALUE, value, len);
    mock_object_set_number(o, CKA_VALUE_LEN, hidden ? 0 : len);
    set_check_value(o, value, len);
    set_history(o, birth, base, mechanism);
    if (birth == MOCK_BORN_UNWRAPPED && (mock.conf.lies & MOCK_LIE_UNWRAP_READABLE) != 0) {
        mock_object_set_bool(o, CKA_SENSITIVE, false);
        mock_object_set_bool(o, CKA_EXTRACTABLE, true);
    }
    return CKR_OK;
}

void mock_object_finish_private(struct mock_object *o, enum mock_birth birth, CK_ULONG mechanism)
{
    set_history(o, birth, NULL, mechanism);
}

/* ---- functions ---- */

/* A pair's half has all that is computed with. */
static CK_RV check_half(const struct mock_object *o, bool private_half)
{
    const struct mock_attribute *value = mock_object_get(o, CKA_VALUE);
    const struct mock_attribute *params = mock_object_get(o, CKA_EC_PARAMS);
    bool rsa = mock_object_get(o, CKA_MODULUS) != NULL &&
               mock_object_get(o, CKA_PUBLIC_EXPONENT) != NULL &&
               (!private_half || mock_object_get(o, CKA_PRIVATE_EXPONENT) != NULL);
    size_t field = 0;

    if (rsa) {
        return CKR_OK;
    }
    if (params == NULL ||
        (private_half ? value == NULL : mock_object_get(o, CKA_EC_POINT) == NULL)) {
        return CKR_TEMPLATE_INCOMPLETE;
    }
    if (private_half && (mock_curve(params, &field) == NULL || value->len != field)) {
        return CKR_ATTRIBUTE_VALUE_INVALID;
    }
    return CKR_OK;
}

CK_RV mock_create(CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *ret)
{
    struct mock_session *session;
    struct mock_object *o = NULL;
    const struct mock_attribute *value;
    CK_ULONG class;
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK) {
        rv = mock_object_from_template(t, n, MOCK_BORN_CREATED, ~0UL, ~0UL, &o);
    }
    if (rv != CKR_OK) {
        return rv;
    }
    class = mock_object_number(o, CKA_CLASS);
    value = mock_object_get(o, CKA_VALUE);
    if (class != CKO_PUBLIC_KEY && (mock.conf.refusals & MOCK_REFUSE_IMPORT) != 0) {
        rv = CKR_ACTION_PROHIBITED;
    } else if (class == CKO_SECRET_KEY && value != NULL) {
        uint8_t copy[MOCK_VALUE_MAX];
        size_t len = value->len;

        memcpy(copy, value->p, len);
        rv = mock_object_finish_secret(o, MOCK_BORN_CREATED, copy, len, NULL, ~0UL);
        OPENSSL_cleanse(copy, sizeof(copy));
    } else if (class == CKO_SECRET_KEY) {
        rv = CKR_TEMPLATE_INCOMPLETE;
    } else {
        rv = check_half(o, class == CKO_PRIVATE_KEY);
        set_history(o, MOCK_BORN_CREATED, NULL, ~0UL);
    }
    if (rv == CKR_OK) {
        rv = mock_adopt(session, &o, 1);
    }
    if (rv != CKR_OK) {
        mock_object_free(o);
        return rv;
    }
    *ret = o->handle;
    if (o->session == 0) {
        mock_object_free(o); /* the journal has it */
    }
    return CKR_OK;
}

/* What may change in an object that is there: names, and flags in the safe direction. */
static CK_RV apply_change(struct mock_object *o, const CK_ATTRIBUTE *a, bool copying)
{
    const struct rule *r = rule_find(a->type);
    const struct mock_attribute *now = r != NULL ? mock_object_get(o, a->type) : NULL;
    CK_RV rv = r != NULL ? check_shape(r, a) : CKR_ATTRIBUTE_TYPE_INVALID;
    bool wanted;

    if (rv != CKR_OK) {
        return rv;
    }
    if (r->setter != ANYBODY || r->shape == NUMBER || (now == NULL && r->shape == BOOLEAN)) {
        return CKR_ATTRIBUTE_READ_ONLY;
    }
    if (r->shape == BOOLEAN) {
        wanted = *(const CK_BBOOL *)a->pValue != CK_FALSE;
        if ((a->type == CKA_TOKEN || a->type == CKA_PRIVATE || a->type == CKA_MODIFIABLE) &&
            !copying) {
            return CKR_ATTRIBUTE_READ_ONLY;
        }
        if ((a->type == CKA_SENSITIVE && !wanted && mock_object_bool(o, CKA_SENSITIVE)) ||
            (a->type == CKA_EXTRACTABLE && wanted && !mock_object_bool(o, CKA_EXTRACTABLE))) {
            return CKR_ATTRIBUTE_READ_ONLY;
        }
    }
    mock_object_set(o, a->type, a->pValue, a->ulValueLen);
    return CKR_OK;
}

CK_RV mock_copy(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE handle, CK_ATTRIBUTE *t, CK_ULONG n,
                CK_OBJECT_HANDLE *ret)
{
    struct mock_session *session;
    struct mock_object *from = NULL;
    struct mock_object *o = NULL;
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK) {
        rv = mock_find_object(handle, CKR_OBJECT_HANDLE_INVALID, &from);
    }
    if (rv == CKR_OK && !mock_object_bool(from, CKA_COPYABLE)) {
        rv = CKR_ACTION_PROHIBITED;
    }
    if (rv != CKR_OK) {
        return rv;
    }
    o = mock_object_copy(from);
    for (CK_ULONG i = 0; rv == CKR_OK && i < n; i++) {
        rv = apply_change(o, &t[i], true);
    }
    if (rv == CKR_OK) {
        rv = mock_adopt(session, &o, 1);
    }
    if (rv != CKR_OK) {
        mock_object_free(o);
        return rv;
    }
    *ret = o->handle;
    if (o->session == 0) {
        mock_object_free(o);
    }
    return CKR_OK;
}

static CK_RV get_one(const struct mock_object *o, CK_ATTRIBUTE *a)
{
    const struct mock_attribute *have = mock_object_get(o, a->type);
    bool secret = (a->type >= CKA_PRIVATE_EXPONENT && a->type <= CKA_COEFFICIENT) ||
                  (a->type == CKA_VALUE && mock_object_number(o, CKA_CLASS) != CKO_PUBLIC_KEY);
    CK_ULONG room = a->ulValueLen;

    a->ulValueLen = CK_UNAVAILABLE_INFORMATION;
    if (secret && (mock_object_bool(o, CKA_SENSITIVE) || !mock_object_bool(o, CKA_EXTRACTABLE))) {
        return CKR_ATTRIBUTE_SENSITIVE;
    }
    if (have == NULL) {
        return CKR_ATTRIBUTE_TYPE_INVALID;
    }
    if (a->pValue == NULL) {
        a->ulValueLen = have->len;
        return CKR_OK;
    }
    if (room < have->len) {
        return CKR_BUFFER_TOO_SMALL;
    }
    a->ulValueLen = have->len;
    if (have->len > 0) {
        memcpy(a->pValue, have->p, have->len);
    }
    return CKR_OK;
}

CK_RV mock_get_attributes(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE handle, CK_ATTRIBUTE *t, CK_ULONG n)
{
    struct mock_session *session;
    struct mock_object *o = NULL;
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK) {
        rv = mock_find_object(handle, CKR_OBJECT_HANDLE_INVALID, &o);
    }
    for (CK_ULONG i = 0; o != NULL && i < n; i++) { /* all of them, whatever became of the first */
        CK_RV one = get_one(o, &t[i]);

        rv = one != CKR_OK ? one : rv;
    }
    return rv;
}

static CK_RV may_change(const struct mock_session *session, const struct mock_object *o,
                        CK_ATTRIBUTE_TYPE flag)
{
    if (o->session == 0 && !session->rw) {
        return CKR_SESSION_READ_ONLY;
    }
    return mock_object_bool(o, flag) ? CKR_OK : CKR_ACTION_PROHIBITED;
}

CK_RV mock_set_attributes(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE handle, CK_ATTRIBUTE *t, CK_ULONG n)
{
    struct mock_session *session;
    struct mock_object *o = NULL;
    struct mock_object *changed;
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK) {
        rv = mock_find_object(handle, CKR_OBJECT_HANDLE_INVALID, &o);
    }
    if (rv == CKR_OK) {
        rv = may_change(session, o, CKA_MODIFIABLE);
    }
    if (rv != CKR_OK) {
        return rv;
    }
    changed = mock_object_copy(o); /* all or nothing */
    for (CK_ULONG i = 0; rv == CKR_OK && i < n; i++) {
        rv = apply_change(changed, &t[i], false);
    }
    if (rv == CKR_OK && o->session == 0) {
        rv = mock_store_replace(changed);
    } else if (rv == CKR_OK) {
        const struct mock_object old = *o;

        *o = *changed;
        *changed = old;
    }
    mock_object_free(changed);
    return rv;
}

CK_RV mock_destroy(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE handle)
{
    struct mock_session *session;
    struct mock_object *o = NULL;
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK) {
        rv = mock_find_object(handle, CKR_OBJECT_HANDLE_INVALID, &o);
    }
    if (rv == CKR_OK) {
        rv = may_change(session, o, CKA_DESTROYABLE);
    }
    if (rv != CKR_OK) {
        return rv;
    }
    if (o->session == 0) {
        return mock_store_remove(handle);
    }
    for (size_t i = 0; i < mock.objects_n; i++) {
        if (mock.objects[i] == o) {
            mock.objects[i] = mock.objects[--mock.objects_n];
            break;
        }
    }
    mock_object_free(o);
    return CKR_OK;
}
