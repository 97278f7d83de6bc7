/*
 * Keys out of keys: generate, derive, wrap, unwrap (PKCS#11 2.40 section 5.13; mechanisms: the 2.40
 * and 3.0 mechanism specifications). Policy first, then cryptography, then one step that makes the
 * object be there: a call that fails leaves nothing.
 *
 * Parameter structs are read through types of our own with the same layout, because the names of
 * their members differ between the versions of p11-kit's header.
 */
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>

#include "mock.h"

struct ecdh_params {
    CK_ULONG kdf;
    CK_ULONG shared_len;
    const uint8_t *shared;
    CK_ULONG public_len;
    const uint8_t *public;
};

struct string_params {
    const uint8_t *p;
    CK_ULONG len;
};

struct cbc_params {
    uint8_t iv[16];
    const uint8_t *p;
    CK_ULONG len;
};

_Static_assert(sizeof(struct ecdh_params) == sizeof(CK_ECDH1_DERIVE_PARAMS), "the same layout");
_Static_assert(sizeof(struct string_params) == sizeof(CK_KEY_DERIVATION_STRING_DATA), "the same");
_Static_assert(sizeof(struct cbc_params) == sizeof(CK_AES_CBC_ENCRYPT_DATA_PARAMS), "the same");

/* A secret in the making. */
struct secret {
    uint8_t p[MOCK_VALUE_MAX];
    size_t len;
};

static CK_RV check_mechanism(const CK_MECHANISM *m, CK_FLAGS flag)
{
    if (m == NULL) {
        return CKR_ARGUMENTS_BAD;
    }
    return mock_conf_has(&mock.conf, m->mechanism, flag) ? CKR_OK : CKR_MECHANISM_INVALID;
}

static CK_RV take_params(const CK_MECHANISM *m, void *out, size_t size)
{
    if (m->pParameter == NULL || m->ulParameterLen != size) {
        return CKR_MECHANISM_PARAM_INVALID;
    }
    memcpy(out, m->pParameter, size);
    return CKR_OK;
}

/* Takes the finished objects; frees them if that fails, and if the journal has its own copy. */
static CK_RV adopt(struct mock_session *session, struct mock_object **objects, size_t n,
                   CK_OBJECT_HANDLE **ret)
{
    CK_RV rv = mock_adopt(session, objects, n);

    for (size_t i = 0; i < n; i++) {
        if (rv == CKR_OK) {
            *ret[i] = objects[i]->handle;
        }
        if (rv != CKR_OK || objects[i]->session == 0) {
            mock_object_free(objects[i]);
        }
    }
    return rv;
}

/* Fills in a new secret key and takes it. */
static CK_RV adopt_secret(struct mock_session *session, struct mock_object *o,
                          enum mock_birth birth, const uint8_t *value, size_t len,
                          const struct mock_object *base, CK_ULONG mechanism, CK_OBJECT_HANDLE *ret)
{
    CK_OBJECT_HANDLE *handles[] = {ret};
    CK_RV rv = mock_object_finish_secret(o, birth, value, len, base, mechanism);

    if (rv != CKR_OK) {
        mock_object_free(o);
        return rv;
    }
    return adopt(session, &o, 1, handles);
}

/* ---- generate ---- */

CK_RV mock_generate(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *t, CK_ULONG n,
                    CK_OBJECT_HANDLE *ret)
{
    struct mock_session *session;
    struct mock_object *o = NULL;
    struct secret value = {.len = 0};
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK) {
        rv = check_mechanism(m, CKF_GENERATE);
    }
    if (rv == CKR_OK) {
        rv = mock_object_from_template(
            t, n, MOCK_BORN_GENERATED, CKO_SECRET_KEY,
            m->mechanism == CKM_AES_KEY_GEN ? CKK_AES : CKK_GENERIC_SECRET, &o);
    }
    if (rv != CKR_OK) {
        return rv;
    }
    value.len = mock_object_number(o, CKA_VALUE_LEN);
    if (value.len == ~0UL || value.len == 0 || value.len > 512) {
        mock_object_free(o);
        return value.len == ~0UL ? CKR_TEMPLATE_INCOMPLETE : CKR_KEY_SIZE_RANGE;
    }
    if (RAND_bytes(value.p, (int)value.len) != 1) {
        mock_object_free(o);
        return CKR_FUNCTION_FAILED;
    }
    rv = adopt_secret(session, o, MOCK_BORN_GENERATED, value.p, value.len, NULL, m->mechanism, ret);
    OPENSSL_cleanse(&value, sizeof(value));
    return rv;
}

static CK_RV make_ec(struct mock_object *pub, struct mock_object *priv)
{
    const struct mock_attribute *params = mock_object_get(pub, CKA_EC_PARAMS);
    size_t field = 0;
    const char *group = mock_curve(params, &field);
    uint8_t der[3 + 133];
    uint8_t scalar[66];
    size_t point_len = 1 + 2 * field;
    size_t head = point_len < 128 ? 2 : 3;

    if (params == NULL) {
        return CKR_TEMPLATE_INCOMPLETE;
    }
    if (group == NULL) {
        return CKR_CURVE_NOT_SUPPORTED;
    }
    der[0] = 4; /* OCTET STRING */
    der[1] = head == 2 ? (uint8_t)point_len : 0x81;
    der[head - 1] = (uint8_t)point_len;
    if (!mock_ec_new(group, field, der + head, scalar)) {
        return CKR_FUNCTION_FAILED;
    }
    mock_object_set(pub, CKA_EC_POINT, der, head + point_len);
    mock_object_set(priv, CKA_EC_PARAMS, params->p, params->len);
    mock_object_set(priv, CKA_VALUE, scalar, field);
    OPENSSL_cleanse(scalar, sizeof(scalar));
    return CKR_OK;
}

static CK_RV make_rsa(struct mock_object *pub, struct mock_object *priv)
{
    CK_ULONG bits = mock_object_number(pub, CKA_MODULUS_BITS);

    if (bits == ~0UL) {
        return CKR_TEMPLATE_INCOMPLETE;
    }
    if (bits < 2048 || bits > 4096 || bits % 256 != 0) {
        return CKR_KEY_SIZE_RANGE;
    }
    return mock_rsa_new((unsigned int)bits, pub, priv) ? CKR_OK : CKR_FUNCTION_FAILED;
}

CK_RV mock_generate_pair(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *pub_t, CK_ULONG pub_n,
                         CK_ATTRIBUTE *priv_t, CK_ULONG priv_n, CK_OBJECT_HANDLE *ret_pub,
                         CK_OBJECT_HANDLE *ret_priv)
{
    struct mock_session *session;
    struct mock_object *pair[2] = {NULL, NULL};
    CK_OBJECT_HANDLE *handles[] = {ret_pub, ret_priv};
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK) {
        rv = check_mechanism(m, CKF_GENERATE_KEY_PAIR);
    }
    if (rv == CKR_OK) {
        CK_ULONG type = m->mechanism == CKM_EC_KEY_PAIR_GEN ? CKK_EC : CKK_RSA;

        rv = mock_object_from_template(pub_t, pub_n, MOCK_BORN_GENERATED, CKO_PUBLIC_KEY, type,
                                       &pair[0]);
        if (rv == CKR_OK) {
            rv = mock_object_from_template(priv_t, priv_n, MOCK_BORN_GENERATED, CKO_PRIVATE_KEY,
                                           type, &pair[1]);
        }
    }
    if (rv == CKR_OK) {
        rv = m->mechanism == CKM_EC_KEY_PAIR_GEN ? make_ec(pair[0], pair[1])
                                                 : make_rsa(pair[0], pair[1]);
    }
    if (rv != CKR_OK) {
        mock_object_free(pair[0]);
        mock_object_free(pair[1]);
        return rv;
    }
    mock_object_set_bool(pair[0], CKA_LOCAL, true);
    mock_object_set_number(pair[0], CKA_KEY_GEN_MECHANISM, m->mechanism);
    mock_object_finish_private(pair[1], MOCK_BORN_GENERATED, m->mechanism);
    return adopt(session, pair, 2, handles);
}

/* ---- derive ---- */

static CK_RV check_kdf(CK_ULONG kdf)
{
    unsigned int bit = kdf == CKD_NULL               ? MOCK_KDF_NULL
                       : kdf == CKD_SHA256_KDF       ? MOCK_KDF_X963
                       : kdf == CKD_SHA256_KDF_SP800 ? MOCK_KDF_SP800
                       : kdf == MOCK_CKD_LUNA        ? MOCK_KDF_LUNA
                                                     : 0;

    return (mock.conf.kdfs & bit) != 0 ? CKR_OK : CKR_MECHANISM_PARAM_INVALID;
}

static CK_RV derive_ecdh(const struct mock_object *base, const CK_MECHANISM *m, CK_ULONG wanted,
                         struct secret *out)
{
    struct ecdh_params p;
    const struct mock_attribute *scalar = mock_object_get(base, CKA_VALUE);
    size_t field = 0;
    const char *group = mock_curve(mock_object_get(base, CKA_EC_PARAMS), &field);
    uint8_t z[66];
    const uint8_t *point;
    size_t point_len;
    CK_RV rv = take_params(m, &p, sizeof(p));

    if (rv == CKR_OK) {
        rv = check_kdf(p.kdf);
    }
    if (rv == CKR_OK && (group == NULL || scalar == NULL)) {
        rv = CKR_KEY_TYPE_INCONSISTENT;
    }
    if (rv == CKR_OK && ((p.kdf == CKD_NULL && p.shared_len > 0) || p.public == NULL ||
                         (p.shared_len > 0 && p.shared == NULL))) {
        rv = CKR_MECHANISM_PARAM_INVALID;
    }
    if (rv != CKR_OK) {
        return rv;
    }
    point = p.public;
    point_len = p.public_len;
    if (point_len == 1 + 2 * field + (field < 64 ? 2 : 3) && point[0] == 4) { /* as DER */
        point += field < 64 ? 2 : 3;
        point_len = 1 + 2 * field;
    }
    if (!mock_ecdh(group, field, scalar->p, point, point_len, z)) {
        return CKR_MECHANISM_PARAM_INVALID;
    }
    out->len = wanted != ~0UL ? wanted : field;
    if (out->len > (p.kdf == CKD_NULL ? field : MOCK_VALUE_MAX)) {
        rv = CKR_KEY_SIZE_RANGE;
    } else if (p.kdf == CKD_NULL) { /* a shorter key is the tail of Z, as SoftHSM has it */
        memcpy(out->p, z + field - out->len, out->len);
    } else if (wanted == ~0UL) {
        rv = CKR_TEMPLATE_INCOMPLETE;
    } else if (!mock_kdf(p.kdf == CKD_SHA256_KDF ? "X963KDF" : "SSKDF", z, field, p.shared,
                         p.shared_len, out->p, out->len)) {
        rv = CKR_FUNCTION_FAILED;
    }
    OPENSSL_cleanse(z, sizeof(z));
    return rv;
}

static CK_RV derive_hkdf(const struct mock_object *base, const CK_MECHANISM *m, CK_ULONG wanted,
                         struct secret *out)
{
    CK_HKDF_PARAMS p;
    const struct mock_attribute *key = mock_object_get(base, CKA_VALUE);
    const uint8_t *salt = NULL;
    size_t salt_len = 0;
    struct mock_object *salt_key = NULL;
    CK_RV rv = take_params(m, &p, sizeof(p));

    if (rv != CKR_OK) {
        return rv;
    }
    if (p.prfHashMechanism != CKM_SHA256 || (!p.bExtract && !p.bExpand) ||
        (p.ulInfoLen > 0 && p.pInfo == NULL)) {
        return CKR_MECHANISM_PARAM_INVALID;
    }
    if (p.ulSaltType == CKF_HKDF_SALT_DATA && p.pSalt != NULL && p.ulSaltLen > 0) {
        salt = p.pSalt;
        salt_len = p.ulSaltLen;
    } else if (p.ulSaltType == CKF_HKDF_SALT_KEY) {
        rv = mock_find_object(p.hSaltKey, CKR_KEY_HANDLE_INVALID, &salt_key);
        if (rv != CKR_OK || mock_object_get(salt_key, CKA_VALUE) == NULL) {
            return CKR_MECHANISM_PARAM_INVALID;
        }
        salt = mock_object_get(salt_key, CKA_VALUE)->p;
        salt_len = mock_object_get(salt_key, CKA_VALUE)->len;
    } else if (p.ulSaltType != CKF_HKDF_SALT_NULL) {
        return CKR_MECHANISM_PARAM_INVALID;
    }
    out->len = wanted != ~0UL ? wanted : 32;
    if (out->len > MOCK_VALUE_MAX || (!p.bExpand && out->len != 32)) {
        return CKR_KEY_SIZE_RANGE;
    }
    return mock_hkdf(p.bExtract != CK_FALSE, p.bExpand != CK_FALSE, key->p, key->len, salt,
                     salt_len, p.pInfo, p.ulInfoLen, out->p, out->len)
               ? CKR_OK
               : CKR_FUNCTION_FAILED;
}

static CK_RV derive_concatenation(const struct mock_object *base, const CK_MECHANISM *m,
                                  CK_ULONG wanted, struct secret *out)
{
    struct string_params p;
    const struct mock_attribute *key = mock_object_get(base, CKA_VALUE);
    bool data_first = m->mechanism == CKM_CONCATENATE_DATA_AND_BASE;
    CK_RV rv = take_params(m, &p, sizeof(p));

    if (rv != CKR_OK || p.p == NULL || p.len > MOCK_VALUE_MAX / 2 ||
        key->len > MOCK_VALUE_MAX / 2) {
        return rv != CKR_OK ? rv : CKR_MECHANISM_PARAM_INVALID;
    }
    memcpy(out->p + (data_first ? p.len : 0), key->p, key->len);
    memcpy(out->p + (data_first ? 0 : key->len), p.p, p.len);
    out->len = key->len + p.len;
    if (wanted != ~0UL && wanted > out->len) {
        return CKR_KEY_SIZE_RANGE;
    }
    out->len = wanted != ~0UL ? wanted : out->len;
    return CKR_OK;
}

static CK_RV derive_digest(const struct mock_object *base, CK_ULONG wanted, struct secret *out)
{
    const struct mock_attribute *key = mock_object_get(base, CKA_VALUE);

    if (wanted != ~0UL && wanted > 32) {
        return CKR_KEY_SIZE_RANGE;
    }
    out->len = wanted != ~0UL ? wanted : 32;
    return mock_sha256(key->p, key->len, out->p) ? CKR_OK : CKR_FUNCTION_FAILED;
}

static CK_RV derive_cbc(const struct mock_object *base, const CK_MECHANISM *m, CK_ULONG wanted,
                        struct secret *out)
{
    struct cbc_params p;
    const struct mock_attribute *key = mock_object_get(base, CKA_VALUE);
    CK_RV rv = take_params(m, &p, sizeof(p));

    if (rv == CKR_OK && mock_object_number(base, CKA_KEY_TYPE) != CKK_AES) {
        rv = CKR_KEY_TYPE_INCONSISTENT;
    }
    if (rv == CKR_OK && (p.p == NULL || p.len == 0 || p.len % 16 != 0 || p.len > MOCK_VALUE_MAX)) {
        rv = CKR_MECHANISM_PARAM_INVALID;
    }
    if (rv == CKR_OK && wanted != ~0UL && wanted > p.len) {
        rv = CKR_KEY_SIZE_RANGE;
    }
    if (rv == CKR_OK && !mock_cbc(key->p, key->len, p.iv, p.p, p.len, out->p)) {
        rv = CKR_FUNCTION_FAILED;
    }
    if (rv == CKR_OK) {
        out->len = wanted != ~0UL ? wanted : p.len;
    }
    return rv;
}

static CK_RV derive_value(const struct mock_object *base, const CK_MECHANISM *m, CK_ULONG wanted,
                          struct secret *out)
{
    bool secret = mock_object_number(base, CKA_CLASS) == CKO_SECRET_KEY;

    if (m->mechanism == CKM_ECDH1_DERIVE) {
        return derive_ecdh(base, m, wanted, out);
    }
    if (!secret) {
        return CKR_KEY_TYPE_INCONSISTENT;
    }
    switch (m->mechanism) {
    case CKM_HKDF_DERIVE:
        return derive_hkdf(base, m, wanted, out);
    case CKM_CONCATENATE_BASE_AND_DATA:
    case CKM_CONCATENATE_DATA_AND_BASE:
        return derive_concatenation(base, m, wanted, out);
    case CKM_SHA256_KEY_DERIVATION:
        return derive_digest(base, wanted, out);
    default:
        return derive_cbc(base, m, wanted, out);
    }
}

/* A sensitive base does not make a readable key, a key that may not leave none that may. */
static CK_RV check_inheritance(const struct mock_object *base, const struct mock_object *o,
                               CK_MECHANISM_TYPE mechanism)
{
    bool bound = mechanism == CKM_CONCATENATE_BASE_AND_DATA ||
                 mechanism == CKM_CONCATENATE_DATA_AND_BASE ||
                 mechanism == CKM_SHA256_KEY_DERIVATION;

    if (bound &&
        ((mock_object_bool(base, CKA_SENSITIVE) && !mock_object_bool(o, CKA_SENSITIVE)) ||
         (!mock_object_bool(base, CKA_EXTRACTABLE) && mock_object_bool(o, CKA_EXTRACTABLE)))) {
        return CKR_TEMPLATE_INCONSISTENT;
    }
    return CKR_OK;
}

CK_RV mock_derive(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE base_handle,
                  CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *ret)
{
    struct mock_session *session;
    struct mock_object *found = NULL;
    struct mock_object *base = NULL;
    struct mock_object *o = NULL;
    struct secret value = {.len = 0};
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK) {
        rv = check_mechanism(m, CKF_DERIVE);
    }
    if (rv == CKR_OK) {
        rv = mock_find_object(base_handle, CKR_KEY_HANDLE_INVALID, &found);
    }
    if (rv == CKR_OK && !mock_object_bool(found, CKA_DERIVE)) {
        rv = CKR_KEY_FUNCTION_NOT_PERMITTED;
    }
    if (rv == CKR_OK) {
        rv = mock_object_from_template(t, n, MOCK_BORN_DERIVED, CKO_SECRET_KEY, ~0UL, &o);
    }
    if (rv != CKR_OK) {
        return rv;
    }
    base = mock_object_copy(found); /* the journal may move under us when the new key is kept */
    rv = check_inheritance(base, o, m->mechanism);
    if (rv == CKR_OK) {
        rv = derive_value(base, m, mock_object_number(o, CKA_VALUE_LEN), &value);
    }
    if (rv == CKR_OK) {
        rv = adopt_secret(session, o, MOCK_BORN_DERIVED, value.p, value.len, base, ~0UL, ret);
    } else {
        mock_object_free(o);
    }
    mock_object_free(base);
    OPENSSL_cleanse(&value, sizeof(value));
    return rv;
}

/* ---- wrap and unwrap ---- */

static bool is_kwp(CK_MECHANISM_TYPE type)
{
    return type == CKM_AES_KEY_WRAP_KWP || type == CKM_AES_KEY_WRAP_PAD;
}

static CK_RV take_gcm(const CK_MECHANISM *m, struct mock_active *p)
{
    CK_ULONG field[6]; /* iv, its length, its bits, aad, its length, tag bits */
    const uint8_t *iv;
    const uint8_t *aad;
    CK_RV rv = take_params(m, field, sizeof(field));

    _Static_assert(sizeof(CK_GCM_PARAMS) == sizeof(field), "six fields of one size");
    if (rv != CKR_OK) {
        return rv;
    }
    memcpy(&iv, &field[0], sizeof(iv));
    memcpy(&aad, &field[3], sizeof(aad));
    p->iv_len = field[1];
    p->aad_len = field[4];
    p->tag_len = field[5] / 8;
    if (iv == NULL || p->iv_len == 0 || p->iv_len > sizeof(p->iv) || p->aad_len > sizeof(p->aad) ||
        (p->aad_len > 0 && aad == NULL) || field[5] % 8 != 0 || p->tag_len < 12 ||
        p->tag_len > 16) {
        return CKR_MECHANISM_PARAM_INVALID;
    }
    memcpy(p->iv, iv, p->iv_len);
    if (p->aad_len > 0) {
        memcpy(p->aad, aad, p->aad_len);
    }
    return CKR_OK;
}

static CK_RV take_oaep(const CK_MECHANISM *m, struct mock_active *p)
{
    CK_ULONG field[5]; /* hash, mgf, source, data, its length */
    CK_RV rv = take_params(m, field, sizeof(field));

    _Static_assert(sizeof(CK_RSA_PKCS_OAEP_PARAMS) == sizeof(field), "five fields of one size");
    if (rv != CKR_OK) {
        return rv;
    }
    p->hash = field[0];
    p->mgf = field[1];
    if ((p->hash != CKM_SHA_1 && p->hash != CKM_SHA256) ||
        (p->mgf != CKG_MGF1_SHA1 && p->mgf != CKG_MGF1_SHA256) || field[4] != 0) {
        return CKR_MECHANISM_PARAM_INVALID;
    }
    return CKR_OK;
}

CK_RV mock_take_cipher(const CK_MECHANISM *m, const struct mock_object *key, struct mock_active *p)
{
    CK_ULONG type = mock_object_number(key, CKA_KEY_TYPE);
    bool rsa = m->mechanism == CKM_RSA_PKCS_OAEP;

    p->mechanism = m->mechanism;
    if ((rsa && type != CKK_RSA) || (!rsa && type != CKK_AES)) {
        return CKR_KEY_TYPE_INCONSISTENT;
    }
    if (rsa) {
        return take_oaep(m, p);
    }
    if (m->mechanism == CKM_AES_GCM) {
        return take_gcm(m, p);
    }
    return m->ulParameterLen == 0 ? CKR_OK : CKR_MECHANISM_PARAM_INVALID;
}

bool mock_cipher(bool seal, const struct mock_active *p, const struct mock_object *key,
                 const uint8_t *in, size_t n, uint8_t *out, size_t *len)
{
    const struct mock_attribute *v = mock_object_get(key, CKA_VALUE);

    if (p->mechanism == CKM_RSA_PKCS_OAEP) {
        return mock_oaep(seal, key, p->hash, p->mgf, in, n, out, len);
    }
    if (p->mechanism == CKM_AES_GCM) {
        return (seal || n >= p->tag_len) && mock_gcm(seal, p, v->p, v->len, in, n, out, len);
    }
    return seal ? mock_kw(is_kwp(p->mechanism), v->p, v->len, in, n, out, len)
                : mock_kw_open(is_kwp(p->mechanism), v->p, v->len, in, n, out, len);
}

static CK_RV check_wrappable(const struct mock_object *wrapping, const struct mock_object *key)
{
    if (!mock_object_bool(wrapping, CKA_WRAP)) {
        return CKR_KEY_FUNCTION_NOT_PERMITTED;
    }
    if (mock_object_number(key, CKA_CLASS) != CKO_SECRET_KEY) {
        return CKR_KEY_NOT_WRAPPABLE;
    }
    if (!mock_object_bool(key, CKA_EXTRACTABLE) && (mock.conf.lies & MOCK_LIE_EXTRACTABLE) == 0) {
        return CKR_KEY_UNEXTRACTABLE;
    }
    if (mock_object_bool(key, CKA_WRAP_WITH_TRUSTED) && !mock_object_bool(wrapping, CKA_TRUSTED)) {
        return CKR_KEY_NOT_WRAPPABLE;
    }
    return CKR_OK;
}

static CK_RV wrap_value(const struct mock_active *p, const struct mock_object *wrapping,
                        const struct mock_attribute *value, uint8_t *out, size_t *len)
{
    uint8_t in[MOCK_VALUE_MAX] = {0};
    size_t n = value->len;
    bool ok;

    if (n > MOCK_VALUE_MAX - 64) {
        return CKR_KEY_SIZE_RANGE;
    }
    memcpy(in, value->p, n);
    if (p->mechanism == CKM_AES_KEY_WRAP && n % 8 != 0) {
        if ((mock.conf.lies & MOCK_LIE_ZERO_PAD) == 0) {
            return CKR_KEY_SIZE_RANGE;
        }
        n += 8 - n % 8;
    }
    ok = mock_cipher(true, p, wrapping, in, n, out, len);
    OPENSSL_cleanse(in, sizeof(in));
    return ok ? CKR_OK : CKR_KEY_SIZE_RANGE;
}

CK_RV mock_wrap(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE wrapping_handle,
                CK_OBJECT_HANDLE key_handle, CK_BYTE *out, CK_ULONG *len)
{
    struct mock_session *session;
    struct mock_object *wrapping = NULL;
    struct mock_object *key = NULL;
    struct mock_active p = {.key = NULL};
    uint8_t wrapped[MOCK_VALUE_MAX + 64];
    size_t wrapped_len = 0;
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK) {
        rv = check_mechanism(m, CKF_WRAP);
    }
    if (rv == CKR_OK) {
        rv = mock_find_object(wrapping_handle, CKR_WRAPPING_KEY_HANDLE_INVALID, &wrapping);
    }
    if (rv == CKR_OK) {
        rv = mock_find_object(key_handle, CKR_KEY_HANDLE_INVALID, &key);
    }
    if (rv == CKR_OK) {
        rv = check_wrappable(wrapping, key);
    }
    if (rv == CKR_OK) {
        rv = mock_take_cipher(m, wrapping, &p);
        rv = rv == CKR_KEY_TYPE_INCONSISTENT ? CKR_WRAPPING_KEY_TYPE_INCONSISTENT : rv;
    }
    if (rv == CKR_OK) {
        rv = wrap_value(&p, wrapping, mock_object_get(key, CKA_VALUE), wrapped, &wrapped_len);
    }
    return rv == CKR_OK ? mock_give(wrapped, wrapped_len, out, len) : rv;
}

static CK_RV unwrap_check(const CK_MECHANISM *m, const struct mock_object *unwrapping,
                          struct mock_active *p, CK_ULONG len)
{
    CK_RV rv;

    if (!mock_object_bool(unwrapping, CKA_UNWRAP)) {
        return CKR_KEY_FUNCTION_NOT_PERMITTED;
    }
    rv = mock_take_cipher(m, unwrapping, p);
    if (rv == CKR_OK && (len == 0 || len > MOCK_VALUE_MAX)) {
        rv = CKR_WRAPPED_KEY_LEN_RANGE;
    }
    return rv == CKR_KEY_TYPE_INCONSISTENT ? CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT : rv;
}

CK_RV mock_unwrap(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE unwrapping_handle,
                  const CK_BYTE *blob, CK_ULONG len, CK_ATTRIBUTE *t, CK_ULONG n,
                  CK_OBJECT_HANDLE *ret)
{
    struct mock_session *session;
    struct mock_object *unwrapping = NULL;
    struct mock_object *o = NULL;
    struct mock_active p = {.key = NULL};
    struct secret value = {.len = 0};
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK) {
        rv = check_mechanism(m, CKF_UNWRAP);
    }
    if (rv == CKR_OK) {
        rv = mock_find_object(unwrapping_handle, CKR_UNWRAPPING_KEY_HANDLE_INVALID, &unwrapping);
    }
    if (rv == CKR_OK) {
        rv = unwrap_check(m, unwrapping, &p, len);
    }
    if (rv == CKR_OK) {
        rv = mock_object_from_template(t, n, MOCK_BORN_UNWRAPPED, CKO_SECRET_KEY, ~0UL, &o);
    }
    if (rv != CKR_OK) {
        return rv;
    }
    if ((mock.conf.refusals & MOCK_NEED_VALUE_LEN) != 0 &&
        mock_object_number(o, CKA_VALUE_LEN) == ~0UL) {
        rv = CKR_ATTRIBUTE_TYPE_INVALID; /* what Luna says */
    } else if (!mock_cipher(false, &p, unwrapping, blob, len, value.p, &value.len)) {
        rv = CKR_WRAPPED_KEY_INVALID;
    }
    if (rv == CKR_OK) {
        rv = adopt_secret(session, o, MOCK_BORN_UNWRAPPED, value.p, value.len, NULL, ~0UL, ret);
    } else {
        mock_object_free(o);
    }
    OPENSSL_cleanse(&value, sizeof(value));
    return rv;
}
