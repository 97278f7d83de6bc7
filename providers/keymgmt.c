/*
 * Key management: what OpenSSL may know of a key, which is its public half. All of it is asked of an EVP_PKEY of
 * another provider, so nothing about points and moduli is decided here.
 *
 * An export that asks for the private half too (OSSL_KEYMGMT_SELECT_ALL) is refused, not answered
 * with the public one: it is how OpenSSL tries to sign by another provider, and the refusal is how it
 * ends up here. An import of an RSA private half is refused for the same reason. One of an EC key is left out: a
 * peer's key comes with all it has.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <string.h>

#include "providers/core.h"

/* ---- life ---- */

static void *key_new(void *ctx)
{
    return kbs_key_new(ctx);
}

static void key_free(void *keydata)
{
    (void)kbs_key_free(keydata);
}

static void *key_dup(const void *keydata, int selection)
{
    const struct kbs_key *from = keydata;
    struct kbs_key *key = kbs_key_new(from->provider);

    if (key == NULL) {
        return NULL;
    }
    if (from->public_key != NULL && EVP_PKEY_up_ref(from->public_key) == 1) {
        key->public_key = from->public_key;
        key->kind = from->kind;
    }
    if (from->link != NULL && (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0) {
        key->link = kbs_link_ref(from->link);
        key->use = from->use;
    }
    return key;
}

/* A key that the store loader has made: the reference is a pointer to it, and it changes hands. */
static void *key_load(const void *reference, size_t size)
{
    struct kbs_key *key = NULL;

    if (size == sizeof(key)) {
        memcpy(&key, reference, sizeof(key));
        memset((void *)(uintptr_t)reference, 0, sizeof(key));
    }
    return key;
}

/* ---- questions ---- */

static int has(const void *keydata, int selection)
{
    const struct kbs_key *key = keydata;

    return key != NULL &&
           ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) == 0 || key->link != NULL) &&
           ((selection & OSSL_KEYMGMT_SELECT_PUBLIC_KEY) == 0 || key->public_key != NULL) &&
           ((selection & OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS) == 0 || key->public_key != NULL);
}

static int match(const void *a, const void *b, int selection)
{
    const struct kbs_key *one = a;
    const struct kbs_key *other = b;

    if (one->public_key == NULL || other->public_key == NULL) {
        return 0;
    }
    if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) != 0) {
        return EVP_PKEY_eq(one->public_key, other->public_key) == 1;
    }
    return one->kind == other->kind;
}

static int get_params(void *keydata, OSSL_PARAM params[])
{
    const struct kbs_key *key = keydata;

    return key->public_key != NULL && EVP_PKEY_get_params(key->public_key, params) == 1;
}

#define COMMON                                               \
    OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),              \
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL), \
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),      \
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0)
#define EC_PUBLIC                                                \
    OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0), \
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0)
#define RSA_PUBLIC \
    OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0), OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0)

static const OSSL_PARAM *gettable_ec(void *ctx)
{
    static const OSSL_PARAM params[] = {
        COMMON,
        EC_PUBLIC,
        OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_X, NULL, 0),
        OSSL_PARAM_BN(OSSL_PKEY_PARAM_EC_PUB_Y, NULL, 0),
        OSSL_PARAM_END};
    (void)ctx;
    return params;
}

static const OSSL_PARAM *gettable_rsa(void *ctx)
{
    static const OSSL_PARAM params[] = {COMMON, RSA_PUBLIC, OSSL_PARAM_END};

    (void)ctx;
    return params;
}

static const char *operation_name_ec(int operation)
{
    return operation == OSSL_OP_KEYEXCH ? "ECDH" : "ECDSA";
}

static const char *operation_name_rsa(int operation)
{
    (void)operation;
    return "RSA";
}

/* ---- import and export ---- */

static const OSSL_PARAM *types_ec(int selection)
{
    static const OSSL_PARAM params[] = {EC_PUBLIC, OSSL_PARAM_END};

    (void)selection;
    return params;
}

static const OSSL_PARAM *types_rsa(int selection)
{
    static const OSSL_PARAM params[] = {RSA_PUBLIC, OSSL_PARAM_END};

    (void)selection;
    return params;
}

/* The public half, of another provider. Its errors are left in OpenSSL's queue, below ours. */
static EVP_PKEY *public_from(const struct kbs_provider *provider, const char *type,
                             const OSSL_PARAM params[])
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(provider->libctx, type, KBS_PROVIDER_OTHERS);
    OSSL_PARAM *unconst = (OSSL_PARAM *)(uintptr_t)params; /* it is only read */
    EVP_PKEY *public_key = NULL;

    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &public_key, EVP_PKEY_PUBLIC_KEY, unconst) != 1) {
        public_key = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    return public_key;
}

static int import_key(struct kbs_key *key, const char *type, const OSSL_PARAM params[],
                      struct kbs_error *err)
{
    const OSSL_PARAM *private = OSSL_PARAM_locate_const(params, KBS_KEY_PARAM_PRIVATE);
    EVP_PKEY *public_key;
    struct kbs_key_private half;

    if (OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_D) != NULL) {
        return kbs_fail(err, KBS_UNSUPPORTED, "this provider takes no private keys");
    }
    if (private != NULL && private->data_size != sizeof(half)) {
        return kbs_fail(err, KBS_INPUT, "not a link");
    }
    public_key = public_from(key->provider, type, params);
    if (public_key == NULL) {
        return kbs_fail(err, KBS_INPUT, "no other provider takes this public key");
    }
    if (kbs_key_set_public(key, public_key, err) != 0) {
        EVP_PKEY_free(public_key);
        return -1;
    }
    if (private != NULL) {
        memcpy(&half, private->data, sizeof(half));
        key->link = kbs_link_ref(half.link);
        key->use = half.use;
    }
    return 0;
}

static int import_as(void *keydata, const char *type, const OSSL_PARAM params[])
{
    struct kbs_key *key = keydata;
    struct kbs_error err = KBS_ERROR_NONE;

    return import_key(key, type, params, &err) == 0 ? 1 : kbs_provider_raise(key->provider, &err);
}

static int import_ec(void *keydata, int selection, const OSSL_PARAM params[])
{
    (void)selection;
    return import_as(keydata, "EC", params);
}

static int import_rsa(void *keydata, int selection, const OSSL_PARAM params[])
{
    (void)selection;
    return import_as(keydata, "RSA", params);
}

static int export_key(void *keydata, int selection, OSSL_CALLBACK *take, void *arg)
{
    const struct kbs_key *key = keydata;
    OSSL_PARAM *params = NULL;
    int ok;

    if (key->public_key == NULL ||
        ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 && key->link != NULL) ||
        EVP_PKEY_todata(key->public_key, EVP_PKEY_PUBLIC_KEY, &params) != 1) {
        return 0;
    }
    ok = take(params, arg);
    OSSL_PARAM_free(params);
    return ok;
}

#define FUNCTION(id, f)                             \
    {                                               \
        OSSL_FUNC_KEYMGMT_##id, (void (*)(void))(f) \
    }
#define FUNCTIONS(type)                                                                         \
    FUNCTION(NEW, key_new), FUNCTION(FREE, key_free), FUNCTION(DUP, key_dup),                   \
        FUNCTION(LOAD, key_load), FUNCTION(HAS, has), FUNCTION(MATCH, match),                   \
        FUNCTION(GET_PARAMS, get_params), FUNCTION(GETTABLE_PARAMS, gettable_##type),           \
        FUNCTION(QUERY_OPERATION_NAME, operation_name_##type), FUNCTION(IMPORT, import_##type), \
        FUNCTION(IMPORT_TYPES, types_##type), FUNCTION(EXPORT, export_key),                     \
        FUNCTION(EXPORT_TYPES, types_##type),                                                   \
    {                                                                                           \
        0, NULL                                                                                 \
    }

const OSSL_DISPATCH kbs_keymgmt_ec[] = {FUNCTIONS(ec)};
const OSSL_DISPATCH kbs_keymgmt_rsa[] = {FUNCTIONS(rsa)};
