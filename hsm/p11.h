/*
 * PKCS#11 as this folder sees it: p11-kit's header (2.40 and a little more) and the few 3.x
 * constants that p11-kit 0.24 lacks (OASIS PKCS#11 3.0, pkcs11t.h). Newer headers win.
 */
#ifndef KBS_HSM_P11_H
#define KBS_HSM_P11_H

#include <p11-kit/pkcs11.h>

#ifndef CKM_HKDF_DERIVE
#define CKM_HKDF_DERIVE (0x402aUL)
#define CKF_HKDF_SALT_DATA (2UL)

typedef struct CK_HKDF_PARAMS {
    CK_BBOOL bExtract;
    CK_BBOOL bExpand;
    CK_MECHANISM_TYPE prfHashMechanism;
    CK_ULONG ulSaltType;
    CK_BYTE_PTR pSalt;
    CK_ULONG ulSaltLen;
    CK_OBJECT_HANDLE hSaltKey;
    CK_BYTE_PTR pInfo;
    CK_ULONG ulInfoLen;
} CK_HKDF_PARAMS;
#endif

/* ECDH1_DERIVE's one-step KDF of SP 800-56C, with SHA-256. */
#ifndef CKD_SHA256_KDF_SP800
#define CKD_SHA256_KDF_SP800 (0x10UL)
#endif

#endif
