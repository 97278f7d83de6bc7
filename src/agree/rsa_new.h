/* RSA keys from OpenSSL, for the files of this folder. */
#ifndef KBS_AGREE_RSA_NEW_H
#define KBS_AGREE_RSA_NEW_H

#include <openssl/evp.h>

#include "agree/agree.h"

/* Takes pkey, a pair of our own making, also on failure. Returns owned. */
KBS_MUST_CHECK int kbs_agree_rsa_new(EVP_PKEY *pkey, struct kbs_agree_rsa **ret,
                                     struct kbs_error *err);

#endif
