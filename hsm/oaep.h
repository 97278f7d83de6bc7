/*
 * The parameters of RSA-OAEP as JOSE has it (RFC 7518 section 4.3): MGF1 of the same hash, no
 * label.
 */
#ifndef KBS_HSM_OAEP_H
#define KBS_HSM_OAEP_H

#include "base/terms.h"
#include "hsm/p11.h"

/* For KBS_TEE_ALG_RSA_OAEP_256, else SHA-1. SoftHSM insists on the NULL label. */
static inline CK_RSA_PKCS_OAEP_PARAMS kbs_oaep_params(enum kbs_tee_alg alg)
{
    bool sha256 = alg == KBS_TEE_ALG_RSA_OAEP_256;

    /* By position: the member names differ between p11-kit versions. */
    return (CK_RSA_PKCS_OAEP_PARAMS){sha256 ? CKM_SHA256 : CKM_SHA_1,
                                     sha256 ? CKG_MGF1_SHA256 : CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED,
                                     NULL, 0};
}

#endif
