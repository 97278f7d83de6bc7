/* Operations that begin with an Init: encrypt, decrypt, sign, verify, digest (sections 5.8 to 5.12).
 * Single-part, but for digests: nothing here has more to say. */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "mock.h"

/* What each kind of operation asks of mechanism and key. */
static const struct {
    CK_FLAGS flag;
    CK_ATTRIBUTE_TYPE usage;
} kinds[MOCK_OP_COUNT] = {
    [MOCK_OP_ENCRYPT] = {CKF_ENCRYPT, CKA_ENCRYPT},
    [MOCK_OP_DECRYPT] = {CKF_DECRYPT, CKA_DECRYPT},
    [MOCK_OP_SIGN] = {CKF_SIGN, CKA_SIGN},
    [MOCK_OP_VERIFY] = {CKF_VERIFY, CKA_VERIFY},
};

void mock_active_clear(struct mock_active *a)
{
    mock_object_free(a->key);
    memset(a, 0, sizeof(*a));
}

static CK_RV check_sign_key(CK_MECHANISM_TYPE mechanism, const struct mock_object *key)
{
    CK_ULONG type = mock_object_number(key, CKA_KEY_TYPE);
    bool rsa = mechanism == CKM_RSA_PKCS_PSS || mechanism == CKM_RSA_PKCS;
    bool right = mechanism == CKM_AES_CMAC      ? type == CKK_AES
                 : mechanism == CKM_SHA256_HMAC ? type == CKK_GENERIC_SECRET
                                                : type == (rsa ? CKK_RSA : CKK_EC);

    return right ? CKR_OK : CKR_KEY_TYPE_INCONSISTENT;
}

/* The parameters of a signature: PSS has some. */
static CK_RV take_signature(const CK_MECHANISM *m, const struct mock_object *key,
                            struct mock_active *a)
{
    const CK_RSA_PKCS_PSS_PARAMS *pss = m->pParameter;

    if (m->mechanism == CKM_RSA_PKCS_PSS) {
        if (pss == NULL || m->ulParameterLen != sizeof(*pss)) {
            return CKR_MECHANISM_PARAM_INVALID;
        }
        a->hash = pss->hashAlg;
        a->mgf = pss->mgf;
        a->salt = pss->sLen;
    }
    return check_sign_key(m->mechanism, key);
}

CK_RV mock_operation_init(CK_SESSION_HANDLE s, enum mock_operation op, CK_MECHANISM *m,
                          CK_OBJECT_HANDLE key)
{
    struct mock_session *session;
    struct mock_object *o = NULL;
    struct mock_active a = {.key = NULL};
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK && m == NULL) {
        rv = CKR_ARGUMENTS_BAD;
    }
    if (rv == CKR_OK && session->active[op].mechanism != 0) {
        rv = CKR_OPERATION_ACTIVE;
    }
    if (rv == CKR_OK && !mock_conf_has(&mock.conf, m->mechanism, kinds[op].flag)) {
        rv = CKR_MECHANISM_INVALID;
    }
    if (rv == CKR_OK) {
        rv = mock_find_object(key, CKR_KEY_HANDLE_INVALID, &o);
    }
    if (rv == CKR_OK && !mock_object_bool(o, kinds[op].usage)) {
        rv = CKR_KEY_FUNCTION_NOT_PERMITTED;
    }
    if (rv == CKR_OK) {
        a.mechanism = m->mechanism;
        rv = op == MOCK_OP_SIGN || op == MOCK_OP_VERIFY ? take_signature(m, o, &a)
                                                        : mock_take_cipher(m, o, &a);
    }
    if (rv == CKR_OK) {
        a.key = mock_object_copy(o);
        session->active[op] = a;
    }
    return rv;
}

/* The MAC or signature of `in`. */
static CK_RV compute_signature(const struct mock_active *a, const uint8_t *in, size_t n,
                               uint8_t *out, size_t *len)
{
    const struct mock_attribute *v = mock_object_get(a->key, CKA_VALUE);
    const CK_RSA_PKCS_PSS_PARAMS pss = {a->hash, a->mgf, a->salt};
    size_t field = 0;
    const char *group = mock_curve(mock_object_get(a->key, CKA_EC_PARAMS), &field);
    uint8_t digest[32];

    if (a->mechanism == CKM_RSA_PKCS_PSS || a->mechanism == CKM_RSA_PKCS) {
        return mock_rsa_sign(a->key, a->mechanism == CKM_RSA_PKCS_PSS ? &pss : NULL, in, n, out,
                             len)
                   ? CKR_OK
                   : CKR_DATA_LEN_RANGE;
    }
    if (v == NULL) {
        return CKR_KEY_TYPE_INCONSISTENT;
    }
    if (a->mechanism == CKM_AES_CMAC) {
        *len = 16;
        return mock_cmac(v->p, v->len, in, n, out) ? CKR_OK : CKR_FUNCTION_FAILED;
    }
    if (a->mechanism == CKM_SHA256_HMAC) {
        *len = 32;
        return mock_hmac(v->p, v->len, in, n, out) ? CKR_OK : CKR_FUNCTION_FAILED;
    }
    if (a->mechanism == CKM_ECDSA && n > 64) {
        return CKR_DATA_LEN_RANGE;
    }
    if (a->mechanism == CKM_ECDSA_SHA256) {
        if (!mock_sha256(in, n, digest)) {
            return CKR_FUNCTION_FAILED;
        }
        in = digest;
        n = sizeof(digest);
    }
    *len = 2 * field;
    return group != NULL && mock_ecdsa(group, field, v->p, in, n, out) ? CKR_OK
                                                                       : CKR_FUNCTION_FAILED;
}

CK_RV mock_operation(CK_SESSION_HANDLE s, enum mock_operation op, const CK_BYTE *in, CK_ULONG n,
                     CK_BYTE *out, CK_ULONG *len)
{
    struct mock_session *session;
    struct mock_active *a;
    size_t room = (n > MOCK_VALUE_MAX ? n : MOCK_VALUE_MAX) + 64;
    uint8_t *result = NULL;
    size_t result_len = 0;
    CK_RV rv = mock_session_find(s, &session);

    if (rv != CKR_OK) {
        return rv;
    }
    a = &session->active[op];
    if (a->mechanism == 0) {
        return CKR_OPERATION_NOT_INITIALIZED;
    }
    if ((n > 0 && in == NULL) || n > MOCK_DATA_MAX) {
        rv = n > MOCK_DATA_MAX ? CKR_DATA_LEN_RANGE : CKR_ARGUMENTS_BAD;
    } else if ((result = OPENSSL_malloc(room)) == NULL) {
        rv = CKR_HOST_MEMORY;
    } else if (op == MOCK_OP_SIGN) {
        rv = compute_signature(a, in, n, result, &result_len);
    } else if (!mock_cipher(op == MOCK_OP_ENCRYPT, a, a->key, in, n, result, &result_len)) {
        rv = op == MOCK_OP_ENCRYPT ? CKR_DATA_LEN_RANGE : CKR_ENCRYPTED_DATA_INVALID;
    }
    if (rv == CKR_OK) {
        rv = mock_give(result, result_len, out, len);
    }
    OPENSSL_clear_free(result, room);
    if (rv != CKR_BUFFER_TOO_SMALL && (rv != CKR_OK || out != NULL)) {
        mock_active_clear(a); /* a question for the length leaves it active */
    }
    return rv;
}

/* An EC public key's point without its DER head. */
static bool verify_ec(const struct mock_active *a, const uint8_t *in, size_t n,
                      const uint8_t *signature, size_t len)
{
    const struct mock_attribute *point = mock_object_get(a->key, CKA_EC_POINT);
    size_t field = 0;
    const char *group = mock_curve(mock_object_get(a->key, CKA_EC_PARAMS), &field);
    uint8_t digest[32];

    if (group == NULL || point == NULL || len != 2 * field || point->len < 1 + 2 * field) {
        return false;
    }
    if (a->mechanism == CKM_ECDSA_SHA256) {
        if (!mock_sha256(in, n, digest)) {
            return false;
        }
        in = digest;
        n = sizeof(digest);
    }
    return mock_ecdsa_verify(group, field, point->p + point->len - (1 + 2 * field), 1 + 2 * field,
                             in, n, signature);
}

CK_RV mock_verify(CK_SESSION_HANDLE s, const CK_BYTE *in, CK_ULONG n, const CK_BYTE *signature,
                  CK_ULONG len)
{
    struct mock_session *session;
    struct mock_active *a;
    uint8_t wanted[132];
    size_t wanted_len = 0;
    bool right;
    CK_RV rv = mock_session_find(s, &session);

    if (rv != CKR_OK) {
        return rv;
    }
    a = &session->active[MOCK_OP_VERIFY];
    if (a->mechanism == 0) {
        return CKR_OPERATION_NOT_INITIALIZED;
    }
    if (in == NULL || signature == NULL) {
        right = false;
    } else if (mock_object_number(a->key, CKA_CLASS) == CKO_PUBLIC_KEY) {
        right = verify_ec(a, in, n, signature, len);
    } else {
        right = compute_signature(a, in, n, wanted, &wanted_len) == CKR_OK && wanted_len == len &&
                CRYPTO_memcmp(wanted, signature, len) == 0;
    }
    mock_active_clear(a);
    return right ? CKR_OK : CKR_SIGNATURE_INVALID;
}

/* ---- digests ---- */

CK_RV mock_digest_init(CK_SESSION_HANDLE s, CK_MECHANISM *m)
{
    struct mock_session *session;
    CK_RV rv = mock_session_find(s, &session);

    if (rv == CKR_OK && session->digest != NULL) {
        rv = CKR_OPERATION_ACTIVE;
    }
    if (rv == CKR_OK && (m == NULL || !mock_conf_has(&mock.conf, m->mechanism, CKF_DIGEST))) {
        rv = m == NULL ? CKR_ARGUMENTS_BAD : CKR_MECHANISM_INVALID;
    }
    if (rv == CKR_OK) {
        session->digest = EVP_MD_CTX_new();
        if (session->digest == NULL ||
            EVP_DigestInit_ex(session->digest, EVP_sha256(), NULL) != 1) {
            rv = CKR_HOST_MEMORY;
        }
    }
    return rv;
}

static CK_RV digest_session(CK_SESSION_HANDLE s, struct mock_session **ret)
{
    CK_RV rv = mock_session_find(s, ret);

    return rv == CKR_OK && (*ret)->digest == NULL ? CKR_OPERATION_NOT_INITIALIZED : rv;
}

static void digest_end(struct mock_session *session)
{
    EVP_MD_CTX_free(session->digest);
    session->digest = NULL;
}

CK_RV mock_digest_update(CK_SESSION_HANDLE s, const CK_BYTE *in, CK_ULONG n)
{
    struct mock_session *session;
    CK_RV rv = digest_session(s, &session);

    if (rv == CKR_OK && (in == NULL || EVP_DigestUpdate(session->digest, in, n) != 1)) {
        digest_end(session);
        rv = CKR_ARGUMENTS_BAD;
    }
    return rv;
}

CK_RV mock_digest_key(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE key)
{
    struct mock_session *session;
    struct mock_object *o = NULL;
    CK_RV rv = digest_session(s, &session);

    if (rv != CKR_OK) {
        return rv;
    }
    rv = mock_find_object(key, CKR_KEY_HANDLE_INVALID, &o);
    if (rv == CKR_OK && (mock_object_number(o, CKA_CLASS) != CKO_SECRET_KEY ||
                         (mock.conf.refusals & MOCK_REFUSE_DIGEST_KEY) != 0)) {
        rv = CKR_KEY_INDIGESTIBLE;
    }
    if (rv != CKR_OK) {
        digest_end(session);
        return rv;
    }
    const struct mock_attribute *v = mock_object_get(o, CKA_VALUE);
    return EVP_DigestUpdate(session->digest, v->p, v->len) == 1 ? CKR_OK : CKR_FUNCTION_FAILED;
}

CK_RV mock_digest_final(CK_SESSION_HANDLE s, CK_BYTE *out, CK_ULONG *len)
{
    struct mock_session *session;
    uint8_t digest[32];
    EVP_MD_CTX *copy;
    CK_RV rv = digest_session(s, &session);

    if (rv != CKR_OK) {
        return rv;
    }
    copy = EVP_MD_CTX_new();
    if (copy == NULL || EVP_MD_CTX_copy_ex(copy, session->digest) != 1 ||
        EVP_DigestFinal_ex(copy, digest, NULL) != 1) {
        rv = CKR_FUNCTION_FAILED;
    } else {
        rv = mock_give(digest, sizeof(digest), out, len);
    }
    EVP_MD_CTX_free(copy);
    if (rv != CKR_BUFFER_TOO_SMALL && (rv != CKR_OK || out != NULL)) {
        digest_end(session);
    }
    return rv;
}
