/* Message digests over a list of spans (FIPS 180-4, SM3) and HMAC (RFC 2104), by OpenSSL. */
#ifndef KBS_BASE_DIGEST_H
#define KBS_BASE_DIGEST_H

#include "base/error.h"
#include "base/span.h"

enum kbs_hash {
    KBS_HASH_NONE = 0,
    KBS_HASH_SHA256,
    KBS_HASH_SHA384,
    KBS_HASH_SHA512,
    KBS_HASH_SM3, /* GB/T 32905-2016; not every OpenSSL has it: kbs_hash_available() */
    KBS_HASH_COUNT
};

#define KBS_DIGEST_MAX_BYTES 64
#define KBS_SHA256_BYTES 32

struct kbs_digest {
    uint8_t p[KBS_DIGEST_MAX_BYTES];
    size_t len; /* 32, 48 or 64 */
};

size_t kbs_hash_bytes(enum kbs_hash hash);
/* "sha256", "sha384", "sha512", "sm3" as the KBS protocol spells them. */
const char *kbs_hash_name(enum kbs_hash hash);
enum kbs_hash kbs_hash_from_name(struct kbs_span name); /* KBS_HASH_NONE if unknown */

/* True if OpenSSL has it; of SHA-2 that goes without saying. */
bool kbs_hash_available(enum kbs_hash hash);

/* Digest of the concatenation of n spans. Aborts if OpenSSL has no such digest: of SHA-2, a broken
 * installation. */
void kbs_digest(enum kbs_hash hash, const struct kbs_span *parts, size_t n, struct kbs_digest *ret);
void kbs_sha256(struct kbs_span in, uint8_t ret[KBS_SHA256_BYTES]);
void kbs_hmac_sha256(struct kbs_span key, struct kbs_span in, uint8_t ret[KBS_SHA256_BYTES]);

static inline struct kbs_span kbs_digest_span(const struct kbs_digest *d)
{
    return kbs_span(d->p, d->len);
}

#endif
