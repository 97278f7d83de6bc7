/* Keys as OpenSSL has them, for the files of this folder and hsm/: private ones as unencrypted PEM only. */
#ifndef KBS_AGREE_PEM_H
#define KBS_AGREE_PEM_H

#include <openssl/types.h>

#include "base/secret.h"
#include "base/tee_key.h"

/*
 * KBS_INTERNAL while there is no secure heap: OpenSSL would silently use ordinary memory instead.
 */
KBS_MUST_CHECK int kbs_agree_heap_check(struct kbs_error *err);

/* Returns owned (EVP_PKEY_free()), of any type. KBS_INPUT if it is no unencrypted private key. */
KBS_MUST_CHECK int kbs_agree_pem_read(struct kbs_span pem, EVP_PKEY **ret, struct kbs_error *err);
/* Unencrypted PKCS#8. Returns owned. */
KBS_MUST_CHECK int kbs_agree_pem_write(const EVP_PKEY *key, struct kbs_secret **ret,
                                       struct kbs_error *err);
/* KBS_INPUT unless the halves of the pair belong together. */
KBS_MUST_CHECK int kbs_agree_pair_check(EVP_PKEY *key, struct kbs_error *err);

/* Public keys as OpenSSL wants them. Return owned (EVP_PKEY_free()), NULL on failure. */
EVP_PKEY *kbs_agree_ec_pkey(const struct kbs_ec_public *key);
EVP_PKEY *kbs_agree_rsa_pkey(const struct kbs_rsa_public *key);

#endif
