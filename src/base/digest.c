/* Digests by EVP. A missing SHA-2 means a broken OpenSSL: there is no error a caller could handle,
 * so abort. */
#include "base/digest.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name;
    size_t bytes;
} hashes[KBS_HASH_COUNT] = {
    [KBS_HASH_NONE] = {"none", 0},      [KBS_HASH_SHA256] = {"sha256", 32},
    [KBS_HASH_SHA384] = {"sha384", 48}, [KBS_HASH_SHA512] = {"sha512", 64},
    [KBS_HASH_SM3] = {"sm3", 32},
};

size_t kbs_hash_bytes(enum kbs_hash hash)
{
    return (size_t)hash < KBS_HASH_COUNT ? hashes[hash].bytes : 0;
}

const char *kbs_hash_name(enum kbs_hash hash)
{
    return (size_t)hash < KBS_HASH_COUNT ? hashes[hash].name : "none";
}

enum kbs_hash kbs_hash_from_name(struct kbs_span name)
{
    for (size_t i = 1; i < KBS_HASH_COUNT; i++) {
        if (kbs_span_equal_str(name, hashes[i].name)) {
            return (enum kbs_hash)i;
        }
    }
    return KBS_HASH_NONE;
}

/*
 * Fetched once: EVP_sha256() makes OpenSSL look for an implementation at every use, which costs more
 * than hashing a short text. Kept for the life of the process.
 */
static const EVP_MD *md_of(enum kbs_hash hash)
{
    static EVP_MD *_Atomic fetched[KBS_HASH_COUNT];
    EVP_MD *md;
    EVP_MD *made;

    if (hash == KBS_HASH_NONE || (size_t)hash >= KBS_HASH_COUNT) {
        return NULL;
    }
    md = atomic_load(&fetched[hash]);
    if (md != NULL) {
        return md;
    }
    made = EVP_MD_fetch(NULL, hashes[hash].name, NULL);
    if (made == NULL || atomic_compare_exchange_strong(&fetched[hash], &md, made)) {
        return made;
    }
    EVP_MD_free(made); /* another thread was first */
    return md;
}

bool kbs_hash_available(enum kbs_hash hash)
{
    return md_of(hash) != NULL;
}

void kbs_digest(enum kbs_hash hash, const struct kbs_span *parts, size_t n, struct kbs_digest *ret)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const EVP_MD *md = md_of(hash);
    unsigned int len = 0;
    int ok = ctx != NULL && md != NULL && EVP_DigestInit_ex(ctx, md, NULL);

    for (size_t i = 0; ok && i < n; i++) {
        ok = EVP_DigestUpdate(ctx, parts[i].p, parts[i].len);
    }
    ok = ok && EVP_DigestFinal_ex(ctx, ret->p, &len);
    EVP_MD_CTX_free(ctx);
    if (!ok) {
        (void)fputs("kbs: a digest of OpenSSL does not work\n", stderr);
        abort();
    }
    ret->len = len;
}

void kbs_sha256(struct kbs_span in, uint8_t ret[KBS_SHA256_BYTES])
{
    struct kbs_digest d;

    kbs_digest(KBS_HASH_SHA256, &in, 1, &d);
    memcpy(ret, d.p, KBS_SHA256_BYTES);
}

void kbs_hmac_sha256(struct kbs_span key, struct kbs_span in, uint8_t ret[KBS_SHA256_BYTES])
{
    static const uint8_t none[1] = {0};
    unsigned int len = 0;

    if (key.len > INT32_MAX || HMAC(EVP_sha256(), key.len > 0 ? key.p : none, (int)key.len,
                                    in.len > 0 ? in.p : none, in.len, ret, &len) == NULL) {
        (void)fputs("kbs: HMAC-SHA-256 of OpenSSL does not work\n", stderr);
        abort();
    }
}
