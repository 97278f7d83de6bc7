/*
 * The store loader: what `pkcs11:` means to everything in OpenSSL that takes a URI for a key. It asks a worker for the
 * public half; the key that comes of it holds the link to that worker. kbs.so is this file, spawn.c and what
 * they need, around the provider that kbs-front has built in.
 */
#include <openssl/core_names.h>
#include <openssl/core_object.h>
#include <openssl/params.h>
#include <openssl/store.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "providers/spawn.h"

#define SPKI_BYTES 2048

struct store {
    const struct kbs_provider *provider;
    struct kbs_settings settings;
    int expected; /* OSSL_STORE_INFO_*; 0: anything */
    bool done;
};

static void *store_open(void *ctx, const char *uri)
{
    const struct kbs_provider *provider = ctx;
    struct kbs_error err = KBS_ERROR_NONE;
    struct store *store = calloc(1, sizeof(*store));

    if (store == NULL) {
        return NULL;
    }
    store->provider = provider;
    if (kbs_settings_read(provider, uri, &store->settings, &err) != 0) {
        (void)kbs_provider_raise(provider, &err);
        kbs_settings_deinit(&store->settings);
        free(store);
        return NULL;
    }
    return store;
}

static const OSSL_PARAM *store_settable(void *ctx)
{
    static const OSSL_PARAM params[] = {OSSL_PARAM_int(OSSL_STORE_PARAM_EXPECT, NULL),
                                        OSSL_PARAM_END};
    (void)ctx;
    return params;
}

static int store_set_params(void *ctx, const OSSL_PARAM params[])
{
    struct store *store = ctx;
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_STORE_PARAM_EXPECT);

    return p == NULL || OSSL_PARAM_get_int(p, &store->expected) == 1;
}

/* The key's public half, by its worker. */
static int ask_public(struct kbs_key *key, struct kbs_error *err)
{
    struct kbs_buf der = KBS_BUF(SPKI_BYTES);
    EVP_PKEY *public_key = NULL;
    const unsigned char *p;
    int r = kbs_link_order(key->link, KBS_WIRE_PUBLIC_WANT, NULL, KBS_LIMIT_START_MS, &der, err);

    if (r == 0) {
        p = kbs_buf_span(&der).p;
        public_key =
            d2i_PUBKEY_ex(NULL, &p, (long)der.len, key->provider->libctx, KBS_PROVIDER_OTHERS);
        if (public_key == NULL || p != kbs_buf_span(&der).p + der.len) {
            r = kbs_fail(err, KBS_TOKEN_DOWN, "the worker's %zu bytes are no public key", der.len);
        }
    }
    if (r == 0) {
        r = kbs_key_set_public(key, public_key, err);
    }
    if (r != 0) {
        EVP_PKEY_free(public_key);
    }
    kbs_buf_deinit(&der);
    return r;
}

static int open_key(struct store *store, struct kbs_key *key, struct kbs_error *err)
{
    const bool public_only =
        store->settings.public_only || store->expected == OSSL_STORE_INFO_PUBKEY;

    if (kbs_spawn_link(&store->settings, &key->link, err) != 0) {
        return -1;
    }
    key->use = KBS_PROVIDER_GENERAL;
    if (ask_public(key, err) != 0) {
        return -1;
    }
    if (public_only) {
        key->link = kbs_link_free(key->link);
    }
    return 0;
}

/* Hands the key over. On success the reference has been taken, and emptied (keymgmt.c). */
static int deliver(struct kbs_key **key, OSSL_CALLBACK *take, void *arg)
{
    static const char *const types[] = {
        [KBS_KEY_NONE] = "", [KBS_KEY_P256] = "EC", [KBS_KEY_P384] = "EC", [KBS_KEY_RSA] = "RSA"};
    int type = OSSL_OBJECT_PKEY;
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_OBJECT_PARAM_TYPE, &type),
        OSSL_PARAM_construct_utf8_string(OSSL_OBJECT_PARAM_DATA_TYPE,
                                         (char *)(uintptr_t)types[(*key)->kind], 0),
        OSSL_PARAM_construct_octet_string(OSSL_OBJECT_PARAM_REFERENCE, key, sizeof(*key)),
        OSSL_PARAM_construct_end()};

    return take(params, arg);
}

static int store_load(void *ctx, OSSL_CALLBACK *take, void *arg, OSSL_PASSPHRASE_CALLBACK *ask,
                      void *ask_arg)
{
    struct store *store = ctx;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_key *key = kbs_key_new(store->provider);
    int ok;

    (void)ask; /* the PIN is not this process's to know */
    (void)ask_arg;
    store->done = true;
    if (key == NULL) {
        return 0;
    }
    if (store->expected == OSSL_STORE_INFO_CERT || store->expected == OSSL_STORE_INFO_CRL) {
        ok = kbs_fail(&err, KBS_UNSUPPORTED, "pkcs11: URIs name keys here, not certificates");
    } else {
        ok = open_key(store, key, &err);
    }
    ok = ok == 0 ? deliver(&key, take, arg) : kbs_provider_raise(store->provider, &err);
    (void)kbs_key_free(key);
    return ok;
}

static int store_eof(void *ctx)
{
    const struct store *store = ctx;

    return store->done;
}

static int store_close(void *ctx)
{
    struct store *store = ctx;

    kbs_settings_deinit(&store->settings);
    free(store);
    return 1;
}

#define FUNCTION(id, f)                           \
    {                                             \
        OSSL_FUNC_STORE_##id, (void (*)(void))(f) \
    }

static const OSSL_DISPATCH store_functions[] = {FUNCTION(OPEN, store_open),
                                                FUNCTION(SETTABLE_CTX_PARAMS, store_settable),
                                                FUNCTION(SET_CTX_PARAMS, store_set_params),
                                                FUNCTION(LOAD, store_load),
                                                FUNCTION(EOF, store_eof),
                                                FUNCTION(CLOSE, store_close),
                                                {0, NULL}};
static const OSSL_ALGORITHM stores[] = {
    {"pkcs11", "provider=" KBS_PROVIDER_NAME, store_functions, "keys of a token, by RFC 7512"},
    {NULL, NULL, NULL, NULL}};

/* What OpenSSL looks for in kbs.so; the only symbol of it. */
__attribute__((visibility("default"))) OSSL_provider_init_fn OSSL_provider_init;

int OSSL_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                       const OSSL_DISPATCH **out, void **ret)
{
    return kbs_provider_start(handle, in, stores, out, ret);
}
