/*
 * The provider itself: what it offers, how it begins and ends, how its errors are told.
 *
 * OpenSSL finds it by the key: an EVP_PKEY whose keymgmt is of this provider is signed with by this provider's
 * signature, since the private half cannot be exported to another's. A key is made by EVP_PKEY_fromdata(), whose
 * import() takes a link beside the public half.
 *
 * Public operations (point arithmetic, verification, encoding, hashes) are those of the application's other
 * providers, which a child library context shows; every fetch there says "provider!=kbs", or the provider might be
 * handed its own work. Rejected: casting the core's context to OSSL_LIB_CTX, which only providers inside libcrypto
 * may; a context of our own, which would not know that the application wants, say, FIPS.
 */
#include "providers/provider.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <stdarg.h>
#include <stdlib.h>

#include "providers/core.h"

#define PROPERTIES "provider=" KBS_PROVIDER_NAME

static const OSSL_ALGORITHM keymgmts[] = {
    {"EC:id-ecPublicKey:1.2.840.10045.2.1", PROPERTIES, kbs_keymgmt_ec, "EC keys of a token"},
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", PROPERTIES, kbs_keymgmt_rsa, "RSA keys of a token"},
    {NULL, NULL, NULL, NULL}};
static const OSSL_ALGORITHM signatures[] = {
    {"ECDSA", PROPERTIES, kbs_signature, "ECDSA by a token"},
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", PROPERTIES, kbs_signature, "RSA by a token"},
    {NULL, NULL, NULL, NULL}};
static const OSSL_ALGORITHM exchanges[] = {{"ECDH", PROPERTIES, kbs_exchange, "ECDH by a token"},
                                           {NULL, NULL, NULL, NULL}};

#define REASON(category, text)                \
    {                                         \
        (category), (void *)(uintptr_t)(text) \
    }

static const OSSL_ITEM reasons[] = {REASON(KBS_INPUT, "invalid request"),
                                    REASON(KBS_UNAUTHENTICATED, "login refused"),
                                    REASON(KBS_DENIED, "denied"),
                                    REASON(KBS_MISSING, "not found"),
                                    REASON(KBS_CONFLICT, "conflict"),
                                    REASON(KBS_TOO_LARGE, "too large"),
                                    REASON(KBS_UNPROCESSABLE, "unprocessable"),
                                    REASON(KBS_LIMITED, "limited"),
                                    REASON(KBS_UNSUPPORTED, "not supported"),
                                    REASON(KBS_BUSY, "busy"),
                                    REASON(KBS_TOKEN_DOWN, "the token or its worker is down"),
                                    REASON(KBS_DEADLINE, "no answer in time"),
                                    REASON(KBS_INTERNAL, "internal error"),
                                    {0, NULL}};

static const OSSL_ALGORITHM *query(void *ctx, int operation, int *no_store)
{
    const struct kbs_provider *provider = ctx;

    *no_store = 0;
    switch (operation) {
    case OSSL_OP_KEYMGMT:
        return keymgmts;
    case OSSL_OP_SIGNATURE:
        return signatures;
    case OSSL_OP_KEYEXCH:
        return exchanges;
    case OSSL_OP_STORE:
        return provider->store;
    default:
        return NULL;
    }
}

static const OSSL_ITEM *reason_strings(void *ctx)
{
    (void)ctx;
    return reasons;
}

static const OSSL_PARAM *gettable(void *ctx)
{
    static const OSSL_PARAM params[] = {OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_NAME, NULL, 0),
                                        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_VERSION, NULL, 0),
                                        OSSL_PARAM_int(OSSL_PROV_PARAM_STATUS, NULL),
                                        OSSL_PARAM_END};
    (void)ctx;
    return params;
}

static int get_params(void *ctx, OSSL_PARAM params[])
{
    OSSL_PARAM *name = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_NAME);
    OSSL_PARAM *version = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_VERSION);
    OSSL_PARAM *status = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_STATUS);

    (void)ctx;
    return (name == NULL || OSSL_PARAM_set_utf8_ptr(name, "kbs-hsm: keys of a PKCS#11 token")) &&
           (version == NULL || OSSL_PARAM_set_utf8_ptr(version, KBS_VERSION)) &&
           (status == NULL || OSSL_PARAM_set_int(status, 1));
}

static void teardown(void *ctx)
{
    struct kbs_provider *provider = ctx;

    OSSL_LIB_CTX_free(provider->libctx);
    free(provider);
}

#define FUNCTION(id, f)           \
    {                             \
        (id), (void (*)(void))(f) \
    }

static const OSSL_DISPATCH functions[] = {
    FUNCTION(OSSL_FUNC_PROVIDER_TEARDOWN, teardown),
    FUNCTION(OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, gettable),
    FUNCTION(OSSL_FUNC_PROVIDER_GET_PARAMS, get_params),
    FUNCTION(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query),
    FUNCTION(OSSL_FUNC_PROVIDER_GET_REASON_STRINGS, reason_strings),
    {0, NULL}};

int kbs_provider_start(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                       const OSSL_ALGORITHM *store, const OSSL_DISPATCH **out, void **ret)
{
    struct kbs_provider *provider = calloc(1, sizeof(*provider));

    if (provider == NULL) {
        return 0;
    }
    for (const OSSL_DISPATCH *f = in; f->function_id != 0; f++) {
        switch (f->function_id) {
        case OSSL_FUNC_CORE_NEW_ERROR:
            provider->new_error = OSSL_FUNC_core_new_error(f);
            break;
        case OSSL_FUNC_CORE_SET_ERROR_DEBUG:
            provider->set_error_debug = OSSL_FUNC_core_set_error_debug(f);
            break;
        case OSSL_FUNC_CORE_VSET_ERROR:
            provider->vset_error = OSSL_FUNC_core_vset_error(f);
            break;
        case OSSL_FUNC_CORE_GET_PARAMS:
            provider->get_params = OSSL_FUNC_core_get_params(f);
            break;
        default:
            break;
        }
    }
    provider->handle = handle;
    provider->store = store;
    provider->libctx = OSSL_LIB_CTX_new_child(handle, in);
    if (provider->libctx == NULL || provider->new_error == NULL ||
        provider->set_error_debug == NULL || provider->vset_error == NULL ||
        provider->get_params == NULL) {
        teardown(provider);
        return 0;
    }
    *out = functions;
    *ret = provider;
    return 1;
}

static void vset(const struct kbs_provider *provider, uint32_t reason, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    provider->vset_error(provider->handle, reason, fmt, args);
    va_end(args);
}

int kbs_provider_raise(const struct kbs_provider *provider, const struct kbs_error *err)
{
    provider->new_error(provider->handle);
    provider->set_error_debug(provider->handle, "kbs", err->line, err->func);
    vset(provider, (uint32_t)err->category, "%s", err->detail);
    return 0;
}

/* ---- built in ---- */

static int start_builtin(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                         const OSSL_DISPATCH **out, void **ret)
{
    return kbs_provider_start(handle, in, NULL, out, ret);
}

/* Gives back two references: what this takes to have the handle, and the one of kbs_provider_load(). */
static void unload(OSSL_LIB_CTX *libctx, const char *name)
{
    OSSL_PROVIDER *provider = OSSL_PROVIDER_load(libctx, name);

    if (provider != NULL) {
        (void)OSSL_PROVIDER_unload(provider);
        (void)OSSL_PROVIDER_unload(provider);
    }
}

void kbs_provider_unload(OSSL_LIB_CTX *libctx)
{
    if (OSSL_PROVIDER_available(libctx, KBS_PROVIDER_NAME) == 1) {
        unload(libctx, KBS_PROVIDER_NAME);
        unload(libctx, "default");
    }
}

static void unload_default(void)
{
    kbs_provider_unload(NULL);
}

/* That the one of our name is this one, and not kbs.so by way of an openssl.cnf: they share pointers with nobody. */
static int check_ours(OSSL_LIB_CTX *libctx, struct kbs_error *err)
{
    OSSL_PROVIDER *provider = OSSL_PROVIDER_load(libctx, KBS_PROVIDER_NAME);
    const bool ours = provider != NULL && OSSL_PROVIDER_get0_dispatch(provider) == functions;

    (void)OSSL_PROVIDER_unload(provider);
    return ours ? 0
                : kbs_fail(err, KBS_CONFLICT, "OpenSSL has another provider %s (openssl.cnf)",
                           KBS_PROVIDER_NAME);
}

int kbs_provider_load(OSSL_LIB_CTX *libctx, struct kbs_error *err)
{
    if (OSSL_PROVIDER_available(libctx, KBS_PROVIDER_NAME) == 1) {
        return check_ours(libctx, err);
    }
    /* An explicit one takes the place of the fallback: so default is to be loaded by name, and first. */
    if (OSSL_PROVIDER_load(libctx, "default") == NULL ||
        OSSL_PROVIDER_add_builtin(libctx, KBS_PROVIDER_NAME, start_builtin) != 1 ||
        OSSL_PROVIDER_load(libctx, KBS_PROVIDER_NAME) == NULL) {
        return kbs_fail_openssl(err, KBS_INTERNAL, "the provider cannot be loaded into OpenSSL");
    }
    if (libctx == NULL) { /* nobody else will, and OpenSSL 3.5 leaves what is still referred to */
        (void)OPENSSL_atexit(unload_default);
    }
    return 0;
}

/* By import() of this provider's keymgmt. */
static int from_data(OSSL_LIB_CTX *libctx, const char *type, OSSL_PARAM *params, EVP_PKEY **ret,
                     struct kbs_error *err)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(libctx, type, PROPERTIES);
    int r = 0;

    *ret = NULL;
    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, ret, EVP_PKEY_KEYPAIR, params) != 1) {
        r = kbs_fail_openssl(err, KBS_INTERNAL, "OpenSSL takes no key of the provider %s",
                             KBS_PROVIDER_NAME);
    }
    EVP_PKEY_CTX_free(ctx);
    return r;
}

int kbs_provider_key(OSSL_LIB_CTX *libctx, EVP_PKEY *public_key, struct kbs_link *link,
                     enum kbs_provider_use use, EVP_PKEY **ret, struct kbs_error *err)
{
    struct kbs_key_private private = {.link = link, .use = use};
    const OSSL_PARAM private_params[] = {
        OSSL_PARAM_construct_octet_string(KBS_KEY_PARAM_PRIVATE, &private, sizeof(private)),
        OSSL_PARAM_construct_end()};
    enum kbs_key_kind kind;
    OSSL_PARAM *public_params = NULL;
    OSSL_PARAM *params = NULL;
    int r = kbs_key_kind_of(public_key, &kind, err);

    if (r != 0) {
        return r;
    }
    if (EVP_PKEY_todata(public_key, EVP_PKEY_PUBLIC_KEY, &public_params) != 1 ||
        (params = OSSL_PARAM_merge(public_params, private_params)) == NULL) {
        r = kbs_fail_openssl(err, KBS_INTERNAL, "the public key cannot be exported");
    } else {
        r = from_data(libctx, kind == KBS_KEY_RSA ? "RSA" : "EC", params, ret, err);
    }
    OSSL_PARAM_free(params);
    OSSL_PARAM_free(public_params);
    return r;
}
