/*
 * A PKCS#11 module that can more, or less, than the real one behind it (KBS_MORE_MODULE): what
 * tokens do that are in no package. KBS_MORE names what is changed, any of:
 *
 *   kdf       ECDH1_DERIVE with CKD_SHA256_KDF_SP800, as openCryptoki and kryoptic have it
 *   gcm       C_WrapKey by CKM_AES_GCM, as openCryptoki and several HSMs have it
 *   noimport  no C_CreateObject of secret keys, as under FIPS 140 level 3
 *   nocreate  no C_CreateObject at all
 *   nodecrypt no AES-GCM for data, as on a token that only wraps; its mechanism list says otherwise
 *
 * The KDF is built from the real token's concatenations (NSS has them). For the GCM wrap both keys
 * are wrapped under a key that is known here, and the rest is OpenSSL: a test module may know them.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "agree/agree.h"
#include "hsm/p11.h"

static CK_FUNCTION_LIST real;
static CK_FUNCTION_LIST more;

static bool more_has(const char *what)
{
    const char *list = getenv("KBS_MORE");

    return list != NULL && strstr(list, what) != NULL;
}

static const CK_ATTRIBUTE *find(const CK_ATTRIBUTE *a, CK_ULONG n, CK_ATTRIBUTE_TYPE type)
{
    for (CK_ULONG i = 0; i < n; i++) {
        if (a[i].type == type) {
            return &a[i];
        }
    }
    return NULL;
}

/* ---- kdf ---- */

static CK_RV derive_generic(CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE base,
                            CK_OBJECT_HANDLE *ret)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE a[] = {{CKA_CLASS, &class, sizeof(class)},
                        {CKA_KEY_TYPE, &type, sizeof(type)},
                        {CKA_SENSITIVE, &yes, sizeof(yes)},
                        {CKA_DERIVE, &yes, sizeof(yes)}};

    return real.C_DeriveKey(s, m, base, a, 4, ret);
}

/* CK_ECDH1_DERIVE_PARAMS, whose members have other names in Debian 12 than in 13. */
struct ecdh_params {
    CK_ULONG kdf;
    CK_ULONG shared_len;
    CK_BYTE *shared;
    CK_ULONG point_len;
    CK_BYTE *point;
};

static CK_RV derive_concat_kdf(CK_SESSION_HANDLE s, const struct ecdh_params *in,
                               CK_OBJECT_HANDLE base, CK_ATTRIBUTE_PTR a, CK_ULONG n,
                               CK_OBJECT_HANDLE_PTR ret)
{
    CK_BYTE counter[] = {0, 0, 0, 1};
    struct ecdh_params null_kdf = {CKD_NULL, 0, NULL, in->point_len, in->point};
    CK_KEY_DERIVATION_STRING_DATA before = {counter, sizeof(counter)};
    CK_KEY_DERIVATION_STRING_DATA after = {in->shared, in->shared_len};
    CK_MECHANISM steps[] = {{CKM_ECDH1_DERIVE, &null_kdf, sizeof(null_kdf)},
                            {CKM_CONCATENATE_DATA_AND_BASE, &before, sizeof(before)},
                            {CKM_CONCATENATE_BASE_AND_DATA, &after, sizeof(after)}};
    CK_MECHANISM digest = {CKM_SHA256_KEY_DERIVATION, NULL, 0};
    CK_OBJECT_HANDLE made[3] = {0, 0, 0};
    CK_RV rv = CKR_OK;

    for (size_t i = 0; i < 3 && rv == CKR_OK; i++) {
        rv = derive_generic(s, &steps[i], i == 0 ? base : made[i - 1], &made[i]);
    }
    if (rv == CKR_OK) {
        rv = real.C_DeriveKey(s, &digest, made[2], a, n, ret);
    }
    for (size_t i = 0; i < 3; i++) {
        if (made[i] != 0) {
            (void)real.C_DestroyObject(s, made[i]);
        }
    }
    return rv;
}

static CK_RV more_derive(CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE base,
                         CK_ATTRIBUTE_PTR a, CK_ULONG n, CK_OBJECT_HANDLE_PTR ret)
{
    const struct ecdh_params *params = m->pParameter;

    if (m->mechanism == CKM_ECDH1_DERIVE && params->kdf == CKD_SHA256_KDF_SP800 &&
        more_has("kdf")) {
        return derive_concat_kdf(s, params, base, a, n, ret);
    }
    return real.C_DeriveKey(s, m, base, a, n, ret);
}

/* ---- gcm ---- */

/* The value of an extractable key, by way of a wrapping key that is known. */
static CK_RV value_of(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE key, struct kbs_secret **ret)
{
    static CK_BYTE known[32] = {7};
    struct kbs_error err = KBS_ERROR_NONE;
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_AES;
    CK_BBOOL yes = CK_TRUE;
    CK_ATTRIBUTE a[] = {{CKA_CLASS, &class, sizeof(class)},
                        {CKA_KEY_TYPE, &type, sizeof(type)},
                        {CKA_WRAP, &yes, sizeof(yes)},
                        {CKA_VALUE, known, sizeof(known)}};
    CK_ULONG value_len = 0;
    CK_ATTRIBUTE length = {CKA_VALUE_LEN, &value_len, sizeof(value_len)};
    CK_MECHANISM mech = {CKM_AES_KEY_WRAP, NULL, 0};
    CK_OBJECT_HANDLE kek = 0;
    CK_BYTE wrapped[128];
    CK_ULONG len = sizeof(wrapped);
    CK_RV rv = real.C_CreateObject(s, a, 4, &kek);

    if (rv != CKR_OK) {
        return rv;
    }
    rv = real.C_WrapKey(s, &mech, kek, key, wrapped, &len);
    (void)real.C_DestroyObject(s, kek);
    if (rv == CKR_OK) {
        rv = real.C_GetAttributeValue(s, key, &length, 1);
    }
    if (rv != CKR_OK) {
        return rv;
    }
    if (kbs_agree_unwrap(kbs_span(known, sizeof(known)), kbs_span(wrapped, len), ret, &err) != 0) {
        return CKR_FUNCTION_FAILED;
    }
    kbs_secret_truncate(*ret, value_len);
    return CKR_OK;
}

static CK_RV wrap_gcm(CK_SESSION_HANDLE s, const CK_GCM_PARAMS *params, CK_OBJECT_HANDLE kek,
                      CK_OBJECT_HANDLE key, CK_BYTE_PTR out, CK_ULONG_PTR len)
{
    /* By position, as the library fills it in: iv, its bytes and bits, aad, its bytes, tag bits. */
    struct {
        CK_BYTE *iv;
        CK_ULONG iv_len, iv_bits;
        CK_BYTE *aad;
        CK_ULONG aad_len, tag_bits;
    } p;
    KBS_AUTO_SECRET cek = NULL;
    KBS_AUTO_SECRET value = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    CK_RV rv = value_of(s, kek, &cek);

    memcpy(&p, params, sizeof(p));
    if (rv == CKR_OK) {
        rv = value_of(s, key, &value);
    }
    if (rv != CKR_OK) {
        return rv;
    }
    if (p.iv_len != KBS_GCM_IV_BYTES || p.iv_bits != 8 * p.iv_len || p.tag_bits != 128) {
        return CKR_MECHANISM_PARAM_INVALID;
    }
    if (*len < kbs_secret_len(value) + KBS_GCM_TAG_BYTES) {
        return CKR_BUFFER_TOO_SMALL;
    }
    if (kbs_agree_gcm_seal(kbs_secret_span(cek), p.iv, kbs_span(p.aad, p.aad_len),
                           kbs_secret_span(value), out, out + kbs_secret_len(value), &err) != 0) {
        return CKR_FUNCTION_FAILED;
    }
    *len = kbs_secret_len(value) + KBS_GCM_TAG_BYTES;
    return CKR_OK;
}

static CK_RV more_wrap(CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE kek,
                       CK_OBJECT_HANDLE key, CK_BYTE_PTR out, CK_ULONG_PTR len)
{
    if (m->mechanism == CKM_AES_GCM && more_has("gcm")) {
        return wrap_gcm(s, m->pParameter, kek, key, out, len);
    }
    return real.C_WrapKey(s, m, kek, key, out, len);
}

/* ---- noimport, nocreate ---- */

static CK_RV more_create(CK_SESSION_HANDLE s, CK_ATTRIBUTE_PTR a, CK_ULONG n,
                         CK_OBJECT_HANDLE_PTR ret)
{
    if (more_has("nocreate") || (more_has("noimport") && find(a, n, CKA_VALUE) != NULL)) {
        return CKR_TEMPLATE_INCONSISTENT;
    }
    return real.C_CreateObject(s, a, n, ret);
}

/* ---- nodecrypt ---- */

static CK_RV more_decrypt_init(CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE key)
{
    return more_has("nodecrypt") && m->mechanism == CKM_AES_GCM ? CKR_MECHANISM_INVALID
                                                                : real.C_DecryptInit(s, m, key);
}

CK_RV __attribute__((visibility("default"))) C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR ret)
{
    const char *path = getenv("KBS_MORE_MODULE");
    void *module = path != NULL ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    CK_RV (*get)(CK_FUNCTION_LIST_PTR_PTR) = NULL;
    CK_FUNCTION_LIST *list = NULL;

    if (module == NULL) {
        return CKR_GENERAL_ERROR;
    }
    *(void **)&get = dlsym(module, "C_GetFunctionList");
    if (get == NULL || get(&list) != CKR_OK) {
        return CKR_GENERAL_ERROR;
    }
    real = *list;
    more = *list;
    more.C_DeriveKey = more_derive;
    more.C_WrapKey = more_wrap;
    more.C_CreateObject = more_create;
    more.C_DecryptInit = more_decrypt_init;
    *ret = &more;
    return CKR_OK;
}
