/*
 * The face of the mock: C_GetFunctionList, and for every function its entry, which is always the
 * same: take the lock, ask the script, do the call, spoil its answer if the script says so. One lock
 * for everything, but what takes time is done without it: latency, delays, a call that hangs. So threads
 * (of a sign worker) wait for this token at the same time, as they do for a real one.
 *
 * A call that fails by order ends the operation that it belongs to, as PKCS#11 has it for failures;
 * the object it was to make is not made.
 */
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "mock.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void mock_wait(unsigned long ms)
{
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

    (void)pthread_mutex_unlock(&lock);
    while (nanosleep(&left, &left) != 0) {
    }
    (void)pthread_mutex_lock(&lock);
}

static struct mock_call begin(enum mock_function function)
{
    struct mock_call c = {.function = function, .rv = CKR_OK};

    (void)pthread_mutex_lock(&lock);
    if (!mock.initialized) {
        c.rv = CKR_CRYPTOKI_NOT_INITIALIZED;
        return c;
    }
    mock_script_apply(&c, mock.latency_ms[function]);
    if (!mock.initialized) { /* while it waited */
        c.rv = CKR_CRYPTOKI_NOT_INITIALIZED;
        return c;
    }
    mock_store_sync();
    return c;
}

static CK_RV end(CK_RV rv)
{
    (void)pthread_mutex_unlock(&lock);
    return rv;
}

/* ---- spoiling ---- */

static void spoil_bytes(const struct mock_call *c, CK_RV rv, CK_BYTE *out, CK_ULONG *len)
{
    if (rv != CKR_OK || out == NULL || len == NULL || *len == 0) {
        return;
    }
    if (c->garble) {
        out[*len / 2] ^= 1;
    }
    if (c->wrong_length) {
        (*len)--;
    }
}

static void spoil_attributes(const struct mock_call *c, CK_RV rv, CK_ATTRIBUTE *t, CK_ULONG n)
{
    for (CK_ULONG i = 0; rv == CKR_OK && i < n; i++) {
        if (t[i].pValue != NULL) {
            spoil_bytes(c, rv, t[i].pValue, &t[i].ulValueLen);
        }
    }
}

/* A new key with one bit wrong, as a broken accelerator makes it. */
static void spoil_key(const struct mock_call *c, CK_RV rv, const CK_OBJECT_HANDLE *handle)
{
    struct mock_object *o = NULL;
    const struct mock_attribute *v;

    if (c->garble && rv == CKR_OK &&
        mock_find_object(*handle, CKR_OBJECT_HANDLE_INVALID, &o) == CKR_OK) {
        v = mock_object_get(o, CKA_VALUE);
        if (v != NULL && v->len > 0) {
            v->p[v->len / 2] ^= 1;
        }
    }
}

/* The operation of a session ends with a call that failed. */
static void end_operation(CK_SESSION_HANDLE s, enum mock_operation op)
{
    struct mock_session *session;

    if (mock.initialized && mock_session_find(s, &session) == CKR_OK) {
        mock_active_clear(&session->active[op]);
    }
}

static void end_digest(CK_SESSION_HANDLE s)
{
    struct mock_session *session;

    if (mock.initialized && mock_session_find(s, &session) == CKR_OK) {
        EVP_MD_CTX_free(session->digest);
        session->digest = NULL;
    }
}

/* ---- entries ---- */

static CK_RV entry_initialize(void *args)
{
    struct mock_call c = {.function = MOCK_C_INITIALIZE, .rv = CKR_OK};
    CK_RV rv;

    (void)pthread_mutex_lock(&lock);
    rv = mock_initialize(args);
    if (rv == CKR_OK) {
        mock_script_apply(&c, mock.latency_ms[MOCK_C_INITIALIZE]);
        if (c.rv != CKR_OK) {
            (void)mock_finalize();
            rv = c.rv;
        }
    }
    return end(rv);
}

static CK_RV entry_finalize(void *reserved)
{
    struct mock_call c = begin(MOCK_C_FINALIZE);

    if (reserved != NULL) {
        return end(CKR_ARGUMENTS_BAD);
    }
    return end(c.rv == CKR_OK ? mock_finalize() : c.rv);
}

static CK_RV entry_get_info(CK_INFO *info)
{
    struct mock_call c = begin(MOCK_C_GET_INFO);

    if (c.rv == CKR_OK) {
        memset(info, 0, sizeof(*info));
        memset(info->manufacturerID, ' ', sizeof(info->manufacturerID));
        memset(info->libraryDescription, ' ', sizeof(info->libraryDescription));
        memcpy(info->manufacturerID, "kbs-hsm", 7);
        memcpy(info->libraryDescription, "mock module for tests", 21);
        info->cryptokiVersion.major = 2;
        info->cryptokiVersion.minor = 40;
    }
    return end(c.rv);
}

static CK_RV entry_get_slot_list(CK_BBOOL present, CK_SLOT_ID *list, CK_ULONG *n)
{
    struct mock_call c = begin(MOCK_C_GET_SLOT_LIST);

    return end(c.rv == CKR_OK ? mock_slot_list(present, list, n) : c.rv);
}

static CK_RV entry_get_slot_info(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    struct mock_call c = begin(MOCK_C_GET_SLOT_INFO);

    return end(c.rv == CKR_OK ? mock_slot_info(slot, info) : c.rv);
}

static CK_RV entry_get_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    struct mock_call c = begin(MOCK_C_GET_TOKEN_INFO);

    return end(c.rv == CKR_OK ? mock_token_info(slot, info) : c.rv);
}

static CK_RV entry_get_mechanism_list(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *n)
{
    struct mock_call c = begin(MOCK_C_GET_MECHANISM_LIST);

    return end(c.rv == CKR_OK ? mock_mechanism_list(slot, list, n) : c.rv);
}

static CK_RV entry_get_mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE type,
                                      CK_MECHANISM_INFO *info)
{
    struct mock_call c = begin(MOCK_C_GET_MECHANISM_INFO);

    return end(c.rv == CKR_OK ? mock_mechanism_info(slot, type, info) : c.rv);
}

static CK_RV entry_init_token(CK_SLOT_ID slot, CK_UTF8CHAR *pin, CK_ULONG len, CK_UTF8CHAR *label)
{
    struct mock_call c = begin(MOCK_C_INIT_TOKEN);

    return end(c.rv == CKR_OK ? mock_init_token(slot, pin, len, label) : c.rv);
}

static CK_RV entry_init_pin(CK_SESSION_HANDLE s, CK_UTF8CHAR *pin, CK_ULONG len)
{
    struct mock_call c = begin(MOCK_C_INIT_PIN);

    return end(c.rv == CKR_OK ? mock_init_pin(s, pin, len) : c.rv);
}

static CK_RV entry_set_pin(CK_SESSION_HANDLE s, CK_UTF8CHAR *old, CK_ULONG old_len,
                           CK_UTF8CHAR *pin, CK_ULONG len)
{
    struct mock_call c = begin(MOCK_C_SET_PIN);

    return end(c.rv == CKR_OK ? mock_set_pin(s, old, old_len, pin, len) : c.rv);
}

static CK_RV entry_open_session(CK_SLOT_ID slot, CK_FLAGS flags, void *application,
                                CK_NOTIFY notify, CK_SESSION_HANDLE *ret)
{
    struct mock_call c = begin(MOCK_C_OPEN_SESSION);

    (void)application; /* no events */
    (void)notify;
    return end(c.rv == CKR_OK ? mock_open_session(slot, flags, ret) : c.rv);
}

static CK_RV entry_close_session(CK_SESSION_HANDLE s)
{
    struct mock_call c = begin(MOCK_C_CLOSE_SESSION);

    return end(c.rv == CKR_OK ? mock_close_session(s) : c.rv);
}

static CK_RV entry_close_all_sessions(CK_SLOT_ID slot)
{
    struct mock_call c = begin(MOCK_C_CLOSE_ALL_SESSIONS);

    return end(c.rv == CKR_OK ? mock_close_all(slot) : c.rv);
}

static CK_RV entry_get_session_info(CK_SESSION_HANDLE s, CK_SESSION_INFO *info)
{
    struct mock_call c = begin(MOCK_C_GET_SESSION_INFO);

    return end(c.rv == CKR_OK ? mock_session_info(s, info) : c.rv);
}

static CK_RV entry_login(CK_SESSION_HANDLE s, CK_USER_TYPE user, CK_UTF8CHAR *pin, CK_ULONG len)
{
    struct mock_call c = begin(MOCK_C_LOGIN);

    return end(c.rv == CKR_OK ? mock_login(s, user, pin, len) : c.rv);
}

static CK_RV entry_logout(CK_SESSION_HANDLE s)
{
    struct mock_call c = begin(MOCK_C_LOGOUT);

    return end(c.rv == CKR_OK ? mock_logout(s) : c.rv);
}

static CK_RV entry_create_object(CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n,
                                 CK_OBJECT_HANDLE *ret)
{
    struct mock_call c = begin(MOCK_C_CREATE_OBJECT);

    return end(c.rv == CKR_OK ? mock_create(s, t, n, ret) : c.rv);
}

static CK_RV entry_copy_object(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t, CK_ULONG n,
                               CK_OBJECT_HANDLE *ret)
{
    struct mock_call c = begin(MOCK_C_COPY_OBJECT);

    return end(c.rv == CKR_OK ? mock_copy(s, o, t, n, ret) : c.rv);
}

static CK_RV entry_destroy_object(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o)
{
    struct mock_call c = begin(MOCK_C_DESTROY_OBJECT);

    return end(c.rv == CKR_OK ? mock_destroy(s, o) : c.rv);
}

static CK_RV entry_get_attribute_value(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t,
                                       CK_ULONG n)
{
    struct mock_call c = begin(MOCK_C_GET_ATTRIBUTE_VALUE);

    if (c.rv == CKR_OK) {
        c.rv = mock_get_attributes(s, o, t, n);
    }
    spoil_attributes(&c, c.rv, t, n);
    return end(c.rv);
}

static CK_RV entry_set_attribute_value(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t,
                                       CK_ULONG n)
{
    struct mock_call c = begin(MOCK_C_SET_ATTRIBUTE_VALUE);

    return end(c.rv == CKR_OK ? mock_set_attributes(s, o, t, n) : c.rv);
}

static CK_RV entry_find_objects_init(CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n)
{
    struct mock_call c = begin(MOCK_C_FIND_OBJECTS_INIT);

    return end(c.rv == CKR_OK ? mock_find_init(s, t, n) : c.rv);
}

static CK_RV entry_find_objects(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE *list, CK_ULONG max,
                                CK_ULONG *n)
{
    struct mock_call c = begin(MOCK_C_FIND_OBJECTS);

    return end(c.rv == CKR_OK ? mock_find_next(s, list, max, n) : c.rv);
}

static CK_RV entry_find_objects_final(CK_SESSION_HANDLE s)
{
    struct mock_call c = begin(MOCK_C_FIND_OBJECTS_FINAL);

    if (c.rv != CKR_OK) {
        (void)mock_find_final(s);
        return end(c.rv);
    }
    c.rv = mock_find_final(s);
    return end(c.rv);
}

static CK_RV entry_encrypt_init(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key)
{
    struct mock_call c = begin(MOCK_C_ENCRYPT_INIT);

    return end(c.rv == CKR_OK ? mock_operation_init(s, MOCK_OP_ENCRYPT, m, key) : c.rv);
}

static CK_RV entry_encrypt(CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out,
                           CK_ULONG *len)
{
    struct mock_call c = begin(MOCK_C_ENCRYPT);

    if (c.rv != CKR_OK) {
        end_operation(s, MOCK_OP_ENCRYPT);
        return end(c.rv);
    }
    c.rv = mock_operation(s, MOCK_OP_ENCRYPT, in, n, out, len);
    spoil_bytes(&c, c.rv, out, len);
    return end(c.rv);
}

static CK_RV entry_decrypt_init(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key)
{
    struct mock_call c = begin(MOCK_C_DECRYPT_INIT);

    return end(c.rv == CKR_OK ? mock_operation_init(s, MOCK_OP_DECRYPT, m, key) : c.rv);
}

static CK_RV entry_decrypt(CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out,
                           CK_ULONG *len)
{
    struct mock_call c = begin(MOCK_C_DECRYPT);

    if (c.rv != CKR_OK) {
        end_operation(s, MOCK_OP_DECRYPT);
        return end(c.rv);
    }
    c.rv = mock_operation(s, MOCK_OP_DECRYPT, in, n, out, len);
    spoil_bytes(&c, c.rv, out, len);
    return end(c.rv);
}

static CK_RV entry_digest_init(CK_SESSION_HANDLE s, CK_MECHANISM *m)
{
    struct mock_call c = begin(MOCK_C_DIGEST_INIT);

    return end(c.rv == CKR_OK ? mock_digest_init(s, m) : c.rv);
}

static CK_RV entry_digest(CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *len)
{
    struct mock_call c = begin(MOCK_C_DIGEST);

    if (c.rv != CKR_OK) {
        end_digest(s);
        return end(c.rv);
    }
    c.rv = out != NULL ? mock_digest_update(s, in, n) : CKR_OK; /* else only the length is asked */
    if (c.rv == CKR_OK) {
        c.rv = mock_digest_final(s, out, len);
    }
    spoil_bytes(&c, c.rv, out, len);
    return end(c.rv);
}

static CK_RV entry_digest_update(CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n)
{
    struct mock_call c = begin(MOCK_C_DIGEST_UPDATE);

    if (c.rv != CKR_OK) {
        end_digest(s);
        return end(c.rv);
    }
    c.rv = mock_digest_update(s, in, n);
    return end(c.rv);
}

static CK_RV entry_digest_key(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE key)
{
    struct mock_call c = begin(MOCK_C_DIGEST_KEY);

    if (c.rv != CKR_OK) {
        end_digest(s);
        return end(c.rv);
    }
    c.rv = mock_digest_key(s, key);
    return end(c.rv);
}

static CK_RV entry_digest_final(CK_SESSION_HANDLE s, CK_BYTE *out, CK_ULONG *len)
{
    struct mock_call c = begin(MOCK_C_DIGEST_FINAL);

    if (c.rv != CKR_OK) {
        end_digest(s);
        return end(c.rv);
    }
    c.rv = mock_digest_final(s, out, len);
    spoil_bytes(&c, c.rv, out, len);
    return end(c.rv);
}

static CK_RV entry_sign_init(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key)
{
    struct mock_call c = begin(MOCK_C_SIGN_INIT);

    return end(c.rv == CKR_OK ? mock_operation_init(s, MOCK_OP_SIGN, m, key) : c.rv);
}

static CK_RV entry_sign(CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *len)
{
    struct mock_call c = begin(MOCK_C_SIGN);

    if (c.rv != CKR_OK) {
        end_operation(s, MOCK_OP_SIGN);
        return end(c.rv);
    }
    c.rv = mock_operation(s, MOCK_OP_SIGN, in, n, out, len);
    spoil_bytes(&c, c.rv, out, len);
    return end(c.rv);
}

static CK_RV entry_verify_init(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key)
{
    struct mock_call c = begin(MOCK_C_VERIFY_INIT);

    return end(c.rv == CKR_OK ? mock_operation_init(s, MOCK_OP_VERIFY, m, key) : c.rv);
}

static CK_RV entry_verify(CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n, CK_BYTE *signature,
                          CK_ULONG len)
{
    struct mock_call c = begin(MOCK_C_VERIFY);

    if (c.rv != CKR_OK) {
        end_operation(s, MOCK_OP_VERIFY);
        return end(c.rv);
    }
    c.rv = mock_verify(s, in, n, signature, len);
    return end(c.rv);
}

static CK_RV entry_generate_key(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *t, CK_ULONG n,
                                CK_OBJECT_HANDLE *ret)
{
    struct mock_call c = begin(MOCK_C_GENERATE_KEY);

    if (c.rv == CKR_OK) {
        c.rv = mock_generate(s, m, t, n, ret);
    }
    spoil_key(&c, c.rv, ret);
    return end(c.rv);
}

static CK_RV entry_generate_key_pair(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *pub,
                                     CK_ULONG pub_n, CK_ATTRIBUTE *priv, CK_ULONG priv_n,
                                     CK_OBJECT_HANDLE *ret_pub, CK_OBJECT_HANDLE *ret_priv)
{
    struct mock_call c = begin(MOCK_C_GENERATE_KEY_PAIR);

    return end(c.rv == CKR_OK
                   ? mock_generate_pair(s, m, pub, pub_n, priv, priv_n, ret_pub, ret_priv)
                   : c.rv);
}

static CK_RV entry_wrap_key(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE wrapping,
                            CK_OBJECT_HANDLE key, CK_BYTE *out, CK_ULONG *len)
{
    struct mock_call c = begin(MOCK_C_WRAP_KEY);

    if (c.rv == CKR_OK) {
        c.rv = mock_wrap(s, m, wrapping, key, out, len);
    }
    spoil_bytes(&c, c.rv, out, len);
    return end(c.rv);
}

static CK_RV entry_unwrap_key(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE unwrapping,
                              CK_BYTE *blob, CK_ULONG len, CK_ATTRIBUTE *t, CK_ULONG n,
                              CK_OBJECT_HANDLE *ret)
{
    struct mock_call c = begin(MOCK_C_UNWRAP_KEY);

    if (c.rv == CKR_OK) {
        c.rv = mock_unwrap(s, m, unwrapping, blob, len, t, n, ret);
    }
    spoil_key(&c, c.rv, ret);
    return end(c.rv);
}

static CK_RV entry_derive_key(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE base,
                              CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *ret)
{
    struct mock_call c = begin(MOCK_C_DERIVE_KEY);

    if (c.rv == CKR_OK) {
        c.rv = mock_derive(s, m, base, t, n, ret);
    }
    spoil_key(&c, c.rv, ret);
    return end(c.rv);
}

static CK_RV entry_generate_random(CK_SESSION_HANDLE s, CK_BYTE *out, CK_ULONG n)
{
    struct mock_session *session;
    struct mock_call c = begin(MOCK_C_GENERATE_RANDOM);

    if (c.rv == CKR_OK) {
        c.rv = mock_session_find(s, &session);
    }
    if (c.rv == CKR_OK && (n > INT32_MAX || RAND_bytes(out, (int)n) != 1)) {
        c.rv = CKR_RANDOM_NO_RNG;
    }
    return end(c.rv);
}

/* ---- what the mock does not do ---- */

static CK_RV none_get_operation_state(CK_SESSION_HANDLE s, CK_BYTE *p, CK_ULONG *n)
{
    (void)s;
    (void)p;
    (void)n;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

static CK_RV none_set_operation_state(CK_SESSION_HANDLE s, CK_BYTE *p, CK_ULONG n,
                                      CK_OBJECT_HANDLE a, CK_OBJECT_HANDLE b)
{
    (void)s;
    (void)p;
    (void)n;
    (void)a;
    (void)b;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

static CK_RV none_get_object_size(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ULONG *n)
{
    (void)s;
    (void)o;
    (void)n;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

static CK_RV none_update(CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG *len)
{
    (void)s;
    (void)in;
    (void)n;
    (void)out;
    (void)len;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

static CK_RV none_final_out(CK_SESSION_HANDLE s, CK_BYTE *out, CK_ULONG *len)
{
    (void)s;
    (void)out;
    (void)len;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

static CK_RV none_update_in(CK_SESSION_HANDLE s, CK_BYTE *in, CK_ULONG n)
{
    (void)s;
    (void)in;
    (void)n;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

static CK_RV none_init_key(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key)
{
    (void)s;
    (void)m;
    (void)key;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

static CK_RV none_session_only(CK_SESSION_HANDLE s)
{
    (void)s;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

static CK_RV none_wait(CK_FLAGS flags, CK_SLOT_ID *slot, void *reserved)
{
    (void)flags;
    (void)slot;
    (void)reserved;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

CK_RV __attribute__((visibility("default"))) C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR ret);

static CK_FUNCTION_LIST functions = {
    .version = {2, 40},
    .C_Initialize = entry_initialize,
    .C_Finalize = entry_finalize,
    .C_GetInfo = entry_get_info,
    .C_GetFunctionList = C_GetFunctionList,
    .C_GetSlotList = entry_get_slot_list,
    .C_GetSlotInfo = entry_get_slot_info,
    .C_GetTokenInfo = entry_get_token_info,
    .C_GetMechanismList = entry_get_mechanism_list,
    .C_GetMechanismInfo = entry_get_mechanism_info,
    .C_InitToken = entry_init_token,
    .C_InitPIN = entry_init_pin,
    .C_SetPIN = entry_set_pin,
    .C_OpenSession = entry_open_session,
    .C_CloseSession = entry_close_session,
    .C_CloseAllSessions = entry_close_all_sessions,
    .C_GetSessionInfo = entry_get_session_info,
    .C_GetOperationState = none_get_operation_state,
    .C_SetOperationState = none_set_operation_state,
    .C_Login = entry_login,
    .C_Logout = entry_logout,
    .C_CreateObject = entry_create_object,
    .C_CopyObject = entry_copy_object,
    .C_DestroyObject = entry_destroy_object,
    .C_GetObjectSize = none_get_object_size,
    .C_GetAttributeValue = entry_get_attribute_value,
    .C_SetAttributeValue = entry_set_attribute_value,
    .C_FindObjectsInit = entry_find_objects_init,
    .C_FindObjects = entry_find_objects,
    .C_FindObjectsFinal = entry_find_objects_final,
    .C_EncryptInit = entry_encrypt_init,
    .C_Encrypt = entry_encrypt,
    .C_EncryptUpdate = none_update,
    .C_EncryptFinal = none_final_out,
    .C_DecryptInit = entry_decrypt_init,
    .C_Decrypt = entry_decrypt,
    .C_DecryptUpdate = none_update,
    .C_DecryptFinal = none_final_out,
    .C_DigestInit = entry_digest_init,
    .C_Digest = entry_digest,
    .C_DigestUpdate = entry_digest_update,
    .C_DigestKey = entry_digest_key,
    .C_DigestFinal = entry_digest_final,
    .C_SignInit = entry_sign_init,
    .C_Sign = entry_sign,
    .C_SignUpdate = none_update_in,
    .C_SignFinal = none_final_out,
    .C_SignRecoverInit = none_init_key,
    .C_SignRecover = none_update,
    .C_VerifyInit = entry_verify_init,
    .C_Verify = entry_verify,
    .C_VerifyUpdate = none_update_in,
    .C_VerifyFinal = none_update_in,
    .C_VerifyRecoverInit = none_init_key,
    .C_VerifyRecover = none_update,
    .C_DigestEncryptUpdate = none_update,
    .C_DecryptDigestUpdate = none_update,
    .C_SignEncryptUpdate = none_update,
    .C_DecryptVerifyUpdate = none_update,
    .C_GenerateKey = entry_generate_key,
    .C_GenerateKeyPair = entry_generate_key_pair,
    .C_WrapKey = entry_wrap_key,
    .C_UnwrapKey = entry_unwrap_key,
    .C_DeriveKey = entry_derive_key,
    .C_SeedRandom = none_update_in,
    .C_GenerateRandom = entry_generate_random,
    .C_GetFunctionStatus = none_session_only,
    .C_CancelFunction = none_session_only,
    .C_WaitForSlotEvent = none_wait,
};

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR ret)
{
    *ret = &functions;
    return CKR_OK;
}
