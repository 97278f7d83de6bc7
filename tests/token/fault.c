/*
 * A PKCS#11 module that fails when it is told to: everything is passed to the real module named by
 * KBS_FAULT_MODULE, except what the file named by KBS_FAULT_PLAN orders, one line, read before
 * every call:
 *
 *   C_WrapKey 0x30            that function answers that CK_RV, until the plan changes
 *   C_WrapKey 0x5 once        the same, once
 *   garble                    C_WrapKey under a derived key succeeds with one bit wrong
 *   point                     C_GetAttributeValue cuts one byte off CKA_EC_POINT
 *   readable                  C_GetAttributeValue says that everything is not CKA_SENSITIVE
 *   stale                     the next C_WrapKey answers KEY_HANDLE_INVALID (once)
 *   singly                    C_FindObjects finds one object at a time
 *
 * Software tokens never lose a device, lock a PIN or lie; hardware does. A file and not an
 * interface, because the plan must reach a hardened process that talks to nobody but its judge.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hsm/p11.h"

static CK_FUNCTION_LIST real;
static CK_FUNCTION_LIST faulty;
static int derived; /* a key was derived since the last wrap: the next one is of a release */

static void plan_read(char line[128])
{
    const char *path = getenv("KBS_FAULT_PLAN");
    FILE *f = path != NULL ? fopen(path, "re") : NULL;

    line[0] = '\0';
    if (f != NULL) {
        if (fgets(line, 128, f) == NULL) {
            line[0] = '\0';
        }
        (void)fclose(f);
    }
}

static void plan_clear(void)
{
    const char *path = getenv("KBS_FAULT_PLAN");
    FILE *f = path != NULL ? fopen(path, "we") : NULL;

    if (f != NULL) {
        (void)fclose(f);
    }
}

static int plan_is(const char *what)
{
    char line[128];

    plan_read(line);
    return strncmp(line, what, strlen(what)) == 0;
}

/* The CK_RV that the plan has for a function, CKR_OK for none. */
static CK_RV planned(const char *function)
{
    char line[128];
    char name[64] = "";
    char once[16] = "";
    unsigned long rv = 0;

    plan_read(line);
    if (sscanf(line, "%63s %lx %15s", name, &rv, once) < 2 || strcmp(name, function) != 0) {
        return CKR_OK;
    }
    if (strcmp(once, "once") == 0) {
        plan_clear();
    }
    return rv;
}

static CK_RV fault_login(CK_SESSION_HANDLE s, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG len)
{
    CK_RV rv = planned("C_Login");

    return rv != CKR_OK ? rv : real.C_Login(s, user, pin, len);
}

static CK_RV fault_generate_pair(CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_ATTRIBUTE_PTR pub,
                                 CK_ULONG pub_n, CK_ATTRIBUTE_PTR priv, CK_ULONG priv_n,
                                 CK_OBJECT_HANDLE_PTR ret_pub, CK_OBJECT_HANDLE_PTR ret_priv)
{
    CK_RV rv = planned("C_GenerateKeyPair");

    return rv != CKR_OK ? rv
                        : real.C_GenerateKeyPair(s, m, pub, pub_n, priv, priv_n, ret_pub, ret_priv);
}

static CK_RV fault_derive(CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE base,
                          CK_ATTRIBUTE_PTR a, CK_ULONG n, CK_OBJECT_HANDLE_PTR ret)
{
    CK_RV rv = planned("C_DeriveKey");

    derived = 1;
    return rv != CKR_OK ? rv : real.C_DeriveKey(s, m, base, a, n, ret);
}

static CK_RV fault_wrap(CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE kek,
                        CK_OBJECT_HANDLE key, CK_BYTE_PTR out, CK_ULONG_PTR len)
{
    CK_RV rv = planned("C_WrapKey");

    if (plan_is("stale")) {
        plan_clear();
        rv = CKR_KEY_HANDLE_INVALID;
    }
    if (rv == CKR_OK) {
        rv = real.C_WrapKey(s, m, kek, key, out, len);
    }
    if (rv == CKR_OK && out != NULL && derived && plan_is("garble")) {
        out[9] ^= 1;
    }
    derived = 0;
    return rv;
}

static CK_RV fault_unwrap(CK_SESSION_HANDLE s, CK_MECHANISM_PTR m, CK_OBJECT_HANDLE kek,
                          CK_BYTE_PTR blob, CK_ULONG len, CK_ATTRIBUTE_PTR a, CK_ULONG n,
                          CK_OBJECT_HANDLE_PTR ret)
{
    CK_RV rv = planned("C_UnwrapKey");

    return rv != CKR_OK ? rv : real.C_UnwrapKey(s, m, kek, blob, len, a, n, ret);
}

static CK_RV fault_destroy(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object)
{
    CK_RV rv = planned("C_DestroyObject");

    return rv != CKR_OK ? rv : real.C_DestroyObject(s, object);
}

static CK_RV fault_get(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_PTR a, CK_ULONG n)
{
    CK_RV rv = planned("C_GetAttributeValue");

    if (rv == CKR_OK) {
        rv = real.C_GetAttributeValue(s, object, a, n);
    }
    for (CK_ULONG i = 0; rv == CKR_OK && i < n && plan_is("point"); i++) {
        a[i].ulValueLen -= a[i].type == CKA_EC_POINT;
    }
    for (CK_ULONG i = 0; rv == CKR_OK && i < n && plan_is("readable"); i++) {
        if (a[i].type == CKA_SENSITIVE && a[i].ulValueLen == 1) {
            memset(a[i].pValue, CK_FALSE, 1);
        }
    }
    return rv;
}

static CK_RV fault_find(CK_SESSION_HANDLE s, CK_OBJECT_HANDLE_PTR ret, CK_ULONG room,
                        CK_ULONG_PTR ret_n)
{
    return real.C_FindObjects(s, ret, plan_is("singly") && room > 1 ? 1 : room, ret_n);
}

static CK_RV fault_sign(CK_SESSION_HANDLE s, CK_BYTE_PTR in, CK_ULONG in_len, CK_BYTE_PTR out,
                        CK_ULONG_PTR len)
{
    CK_RV rv = planned("C_Sign");
    CK_RV done = real.C_Sign(s, in, in_len, out, len); /* ends the operation, as a failure does */

    return rv != CKR_OK ? rv : done;
}

CK_RV __attribute__((visibility("default"))) C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR ret)
{
    const char *path = getenv("KBS_FAULT_MODULE");
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
    faulty = *list;
    faulty.C_Login = fault_login;
    faulty.C_GenerateKeyPair = fault_generate_pair;
    faulty.C_DeriveKey = fault_derive;
    faulty.C_WrapKey = fault_wrap;
    faulty.C_UnwrapKey = fault_unwrap;
    faulty.C_DestroyObject = fault_destroy;
    faulty.C_GetAttributeValue = fault_get;
    faulty.C_FindObjects = fault_find;
    faulty.C_Sign = fault_sign;
    *ret = &faulty;
    return CKR_OK;
}
