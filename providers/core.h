/*
 * What the files of the provider share: its context, its keys, how errors reach OpenSSL's queue. Used by the
 * built-in provider (kbs-front) and by kbs.so (an operator's own command line), which adds a store loader.
 */
#ifndef KBS_PROVIDERS_CORE_H
#define KBS_PROVIDERS_CORE_H

#include <limits.h>
#include <openssl/core_dispatch.h>
#include <stdatomic.h>

#include "base/digest.h"
#include "base/span.h"
#include "base/terms.h"
#include "providers/provider.h"

/* For what the provider leaves to others: in its own library context, never to itself. */
#define KBS_PROVIDER_OTHERS "provider!=" KBS_PROVIDER_NAME

struct kbs_provider {
    const OSSL_CORE_HANDLE *handle;
    OSSL_LIB_CTX *libctx;        /* a child of the application's */
    const OSSL_ALGORITHM *store; /* NULL: no loader */
    OSSL_FUNC_core_new_error_fn *new_error;
    OSSL_FUNC_core_set_error_debug_fn *set_error_debug;
    OSSL_FUNC_core_vset_error_fn *vset_error;
    OSSL_FUNC_core_get_params_fn *get_params; /* the provider's section of openssl.cnf */
};

/* The body of OSSL_provider_init(). store: loaders, NULL for none. */
int kbs_provider_start(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                       const OSSL_ALGORITHM *store, const OSSL_DISPATCH **out, void **ret);

/* Adds an error to OpenSSL's queue: category and detail. Returns 0, OpenSSL's failure. */
int kbs_provider_raise(const struct kbs_provider *provider, const struct kbs_error *err);

enum kbs_key_kind {
    KBS_KEY_NONE = 0, /* nothing imported yet */
    KBS_KEY_P256,
    KBS_KEY_P384,
    KBS_KEY_RSA
};

/* keydata. A private key has a link; without one it is somebody's public key (peers, comparisons). */
struct kbs_key {
    atomic_uint refs;
    const struct kbs_provider *provider;
    enum kbs_key_kind kind;
    EVP_PKEY *public_key; /* of another provider */
    struct kbs_link *link;
    enum kbs_provider_use use;
};

/* KBS_UNSUPPORTED for another type, curve or size. */
KBS_MUST_CHECK int kbs_key_kind_of(EVP_PKEY *public_key, enum kbs_key_kind *ret,
                                   struct kbs_error *err);
struct kbs_key *kbs_key_new(const struct kbs_provider *provider); /* returns owned; NULL: memory */
struct kbs_key *kbs_key_ref(struct kbs_key *key);
struct kbs_key *kbs_key_free(struct kbs_key *key); /* returns NULL */
/* Gives an empty key its public half, of which ownership is taken on success. */
KBS_MUST_CHECK int kbs_key_set_public(struct kbs_key *key, EVP_PKEY *public_key,
                                      struct kbs_error *err);
/* Of the modulus, or of a coordinate. */
size_t kbs_key_bytes(const struct kbs_key *key);
/* Sends an order about a private key to its worker, and appends the answer. */
KBS_MUST_CHECK int kbs_key_order(const struct kbs_key *key, enum kbs_wire_type type,
                                 const void *order, struct kbs_buf *ret, struct kbs_error *err);

/* How a key is made by EVP_PKEY_fromdata(): this parameter is a struct kbs_key_private, the rest is its public half. */
#define KBS_KEY_PARAM_PRIVATE "kbs-private"
struct kbs_key_private {
    struct kbs_link *link;
    enum kbs_provider_use use;
};

/* A signature algorithm's parameters. */
#define KBS_SALT_UNSAID INT_MIN
struct kbs_scheme {
    enum kbs_hash hash; /* NONE: not said */
    enum kbs_hash mgf1; /* NONE: not said, so the same */
    bool pss;
    int salt; /* bytes, RSA_PSS_SALTLEN_*, or KBS_SALT_UNSAID */
};

/* scheme.c. The hash that OpenSSL knows by that name. */
KBS_MUST_CHECK int kbs_scheme_hash(const struct kbs_provider *provider, const char *name,
                                   enum kbs_hash *ret, struct kbs_error *err);
const char *kbs_scheme_hash_name(enum kbs_hash hash); /* as OpenSSL spells it */
KBS_MUST_CHECK int kbs_scheme_set(struct kbs_scheme *scheme, const struct kbs_key *key,
                                  const OSSL_PARAM *params, struct kbs_error *err);
KBS_MUST_CHECK int kbs_scheme_get(const struct kbs_scheme *scheme, const struct kbs_key *key,
                                  OSSL_PARAM *params, struct kbs_error *err);
enum kbs_sign_alg kbs_scheme_alg(const struct kbs_scheme *scheme, const struct kbs_key *key);
/* Bytes of salt of a signature (PSS; 0 otherwise). KBS_INPUT if the key has no room for that. */
KBS_MUST_CHECK int kbs_scheme_salt(const struct kbs_scheme *scheme, const struct kbs_key *key,
                                   uint32_t *ret, struct kbs_error *err);
/* The SignatureScheme (RFC 8446 section 4.2.3) of a TLS 1.3 server that this is. KBS_UNSUPPORTED if none. */
KBS_MUST_CHECK int kbs_scheme_tls(const struct kbs_scheme *scheme, const struct kbs_key *key,
                                  uint32_t *ret, struct kbs_error *err);
extern const OSSL_PARAM kbs_scheme_settable[];
extern const OSSL_PARAM kbs_scheme_gettable[];

extern const OSSL_DISPATCH kbs_keymgmt_ec[];
extern const OSSL_DISPATCH kbs_keymgmt_rsa[];
extern const OSSL_DISPATCH kbs_signature[];
extern const OSSL_DISPATCH kbs_exchange[];

#endif
