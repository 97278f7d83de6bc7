/*
 * The OpenSSL 3 provider `kbs`: EC (P-256, P-384) and RSA keys whose private half is in a token. A private
 * operation is an order to a sign worker over a link (link.h); public operations are left to OpenSSL's own
 * providers. No PKCS#11 module is loaded here.
 */
#ifndef KBS_PROVIDERS_PROVIDER_H
#define KBS_PROVIDERS_PROVIDER_H

#include <openssl/core.h>
#include <openssl/evp.h>

#include "base/error.h"
#include "providers/link.h"

#define KBS_PROVIDER_NAME "kbs"

/*
 * What a link is used for. TLS: the worker is given the message, and signs it only if it is a TLS 1.3
 * server's CertificateVerify. General: it is given digests, and also agrees (ECDH).
 */
enum kbs_provider_use {
    KBS_PROVIDER_TLS = 1,
    KBS_PROVIDER_GENERAL = 2
};

/* Loads the built-in provider into libctx (NULL: the default one) beside OpenSSL's default provider. Once. */
KBS_MUST_CHECK int kbs_provider_load(OSSL_LIB_CTX *libctx, struct kbs_error *err);
/* Undoes that, before a context is freed that is not the default one (or it would never be). Keys are freed first. */
void kbs_provider_unload(OSSL_LIB_CTX *libctx);

/*
 * A private key whose public half is `public_key` (borrowed) and whose private operations go over the
 * link, of which it keeps a reference until it is freed. Returns owned. KBS_UNSUPPORTED for other types and
 * curves.
 */
KBS_MUST_CHECK int kbs_provider_key(OSSL_LIB_CTX *libctx, EVP_PKEY *public_key,
                                    struct kbs_link *link, enum kbs_provider_use use,
                                    EVP_PKEY **ret, struct kbs_error *err);

#endif
