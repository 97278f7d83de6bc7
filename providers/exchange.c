/* ECDH (SEC 1 section 3.3.1): the peer's point goes to the worker, the shared X coordinate comes back. General use only. */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "providers/core.h"

#define POINT_BYTES (1 + 2 * 48)

struct exchange {
    const struct kbs_provider *provider;
    struct kbs_key *key;
    uint8_t point[POINT_BYTES];
    size_t point_len; /* 0: no peer yet */
};

static void *exchange_new(void *ctx)
{
    struct exchange *x = calloc(1, sizeof(*x));

    if (x != NULL) {
        x->provider = ctx;
    }
    return x;
}

static void exchange_free(void *ctx)
{
    struct exchange *x = ctx;

    (void)kbs_key_free(x->key);
    free(x);
}

static void *exchange_dup(void *ctx)
{
    const struct exchange *from = ctx;
    struct exchange *x = malloc(sizeof(*x));

    if (x != NULL) {
        *x = *from;
        x->key = from->key != NULL ? kbs_key_ref(from->key) : NULL;
    }
    return x;
}

static int init(struct exchange *x, struct kbs_key *key, struct kbs_error *err)
{
    if (key->link == NULL || key->kind == KBS_KEY_RSA) {
        return kbs_fail(err, KBS_INPUT, "ECDH is by a private EC key");
    }
    if (key->use != KBS_PROVIDER_GENERAL) {
        return kbs_fail(err, KBS_UNSUPPORTED, "a key for TLS agrees on nothing");
    }
    (void)kbs_key_ref(key);
    (void)kbs_key_free(x->key);
    x->key = key;
    x->point_len = 0;
    return 0;
}

static int set_peer(struct exchange *x, const struct kbs_key *peer, struct kbs_error *err)
{
    x->point_len = 0;
    if (x->key == NULL || peer->kind != x->key->kind) {
        return kbs_fail(err, KBS_INPUT, "the peer's key is on another curve");
    }
    /* In its uncompressed form, whatever form the key came in. */
    if (EVP_PKEY_get_octet_string_param(peer->public_key, OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY,
                                        x->point, sizeof(x->point), &x->point_len) != 1 ||
        x->point_len != 1 + 2 * kbs_key_bytes(peer) || x->point[0] != 0x04) {
        x->point_len = 0;
        return kbs_fail(err, KBS_INPUT, "the peer's key is no uncompressed point");
    }
    return 0;
}

static int derive(const struct exchange *x, uint8_t *secret, size_t size, struct kbs_error *err)
{
    const size_t z_bytes = kbs_key_bytes(x->key);
    const struct kbs_wire_agree order = {.point = kbs_span(x->point, x->point_len)};
    struct kbs_buf z = KBS_BUF(POINT_BYTES);
    int r;

    if (x->point_len == 0) {
        return kbs_fail(err, KBS_INPUT, "no peer's key");
    }
    if (size < z_bytes) {
        return kbs_fail(err, KBS_TOO_LARGE, "%zu bytes do not fit in %zu", z_bytes, size);
    }
    r = kbs_key_order(x->key, KBS_WIRE_AGREE, &order, &z, err);
    if (r == 0 && z.len != z_bytes) {
        r = kbs_fail(err, KBS_TOKEN_DOWN, "the sign worker's secret has %zu bytes, not %zu", z.len,
                     z_bytes);
    }
    if (r == 0) {
        memcpy(secret, kbs_buf_span(&z).p, z_bytes);
    }
    kbs_buf_deinit(&z);
    return r;
}

/* ---- OpenSSL's side ---- */

static int exchange_init(void *ctx, void *key, const OSSL_PARAM params[])
{
    struct exchange *x = ctx;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)params;
    return init(x, key, &err) == 0 ? 1 : kbs_provider_raise(x->provider, &err);
}

static int exchange_set_peer(void *ctx, void *peer)
{
    struct exchange *x = ctx;
    struct kbs_error err = KBS_ERROR_NONE;

    return set_peer(x, peer, &err) == 0 ? 1 : kbs_provider_raise(x->provider, &err);
}

static int exchange_derive(void *ctx, unsigned char *secret, size_t *len, size_t size)
{
    const struct exchange *x = ctx;
    struct kbs_error err = KBS_ERROR_NONE;

    if (x->key == NULL) {
        return 0;
    }
    if (secret != NULL && derive(x, secret, size, &err) != 0) {
        return kbs_provider_raise(x->provider, &err);
    }
    *len = kbs_key_bytes(x->key);
    return 1;
}

#define FUNCTION(id, f)                             \
    {                                               \
        OSSL_FUNC_KEYEXCH_##id, (void (*)(void))(f) \
    }

const OSSL_DISPATCH kbs_exchange[] = {FUNCTION(NEWCTX, exchange_new),
                                      FUNCTION(FREECTX, exchange_free),
                                      FUNCTION(DUPCTX, exchange_dup),
                                      FUNCTION(INIT, exchange_init),
                                      FUNCTION(SET_PEER, exchange_set_peer),
                                      FUNCTION(DERIVE, exchange_derive),
                                      {0, NULL}};
