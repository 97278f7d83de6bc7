/*
 * Sealed secrets (docs/protocol/sealed-secrets.md) on the side of the public key: how one is made,
 * and what one looks like at rest. Used by kbs-admin, and by kbs-token for secrets that came to it
 * in plaintext. Envelopes of requests (docs/protocol/requests.md) are made likewise, by kbs-guest.
 * Opening is the token's (hsm/opening.h).
 */
#ifndef KBS_SEAL_SEAL_H
#define KBS_SEAL_SEAL_H

#include "agree/agree.h"
#include "base/buf.h"
#include "base/terms.h"

#define KBS_SEAL_CEK_BYTES 32
#define KBS_SEAL_WRAPPED_CEK_BYTES (KBS_SEAL_CEK_BYTES + 8) /* RFC 3394 */

/* What the header and the five members of the JWE say, beside the kid. */
struct kbs_sealed {
    uint32_t seal_version; /* of the seal key, from 1 */
    struct kbs_ec_public epk;
    uint8_t encrypted_key[KBS_SEAL_WRAPPED_CEK_BYTES];
    uint8_t iv[KBS_GCM_IV_BYTES];
    uint8_t tag[KBS_GCM_TAG_BYTES];
    struct kbs_span ciphertext; /* borrowed; 1 to KBS_LIMIT_SECRET_VALUE_BYTES */
};

/*
 * Seals `plain` as repo/type/tag/vN (`kid`) to the seal key, in software, with an ephemeral key and
 * a content key of its own. Fills everything of *ret but the version; ret->ciphertext borrows
 * `ciphertext`, which is empty and has room for plain.len bytes. KBS_INPUT if it is empty or too
 * long.
 */
KBS_MUST_CHECK int kbs_seal(const struct kbs_ec_public *seal_key, struct kbs_span kid,
                            struct kbs_span plain, struct kbs_sealed *ret,
                            struct kbs_buf *ciphertext, struct kbs_error *err);

/* The same with any content: of purpose SEAL or REQUEST, to a key of that purpose, for `apv`. */
KBS_MUST_CHECK int kbs_seal_for(enum kbs_purpose purpose, const struct kbs_ec_public *key,
                                struct kbs_span apv, struct kbs_span plain, struct kbs_sealed *ret,
                                struct kbs_buf *ciphertext, struct kbs_error *err);

/* The JWE's protected header as base64url text: the AAD. */
void kbs_seal_protected_put(struct kbs_buf *out, const struct kbs_ec_public *epk,
                            struct kbs_span kid, const struct kbs_ec_public *seal_key);
void kbs_seal_protected_put_for(struct kbs_buf *out, enum kbs_purpose purpose,
                                const struct kbs_ec_public *epk, struct kbs_span apv,
                                const struct kbs_ec_public *key);

#define KBS_SEALED_HEAD_BYTES \
    (4u + 4u + 4u + 65u + KBS_SEAL_WRAPPED_CEK_BYTES + KBS_GCM_IV_BYTES + KBS_GCM_TAG_BYTES)
#define KBS_SEALED_MAX_BYTES (KBS_SEALED_HEAD_BYTES + KBS_LIMIT_SECRET_VALUE_BYTES)

/* At rest: KBS_SEALED_HEAD_BYTES, then the ciphertext. */
void kbs_sealed_put(struct kbs_buf *out, const struct kbs_sealed *sealed);
/*
 * The reverse, of exactly that form: KBS_INPUT. ret->ciphertext borrows `bytes`. epk is not
 * checked.
 */
KBS_MUST_CHECK int kbs_sealed_get(struct kbs_span bytes, struct kbs_sealed *ret,
                                  struct kbs_error *err);

#endif
