/*
 * NEK blobs (docs/protocol/nek.md) on the side of the public key: how a key is wrapped, in software and
 * without a service, to a token key of purpose nek. Used by kbs-admin, and by kbs-token to try a pair
 * that it has just made. Opening is the token's (hsm/nek.h).
 */
#ifndef KBS_SEAL_NEK_H
#define KBS_SEAL_NEK_H

#include "agree/agree.h"
#include "wire/nek.h"

/* To whom. All borrowed. */
struct kbs_nek_to {
    const struct kbs_tee_key *key;         /* public half; its alg says how */
    enum kbs_nek_kind kind;                /* JOSE or COSE for an EC key, OAEP for RSA */
    struct kbs_span kid;                   /* repo/type/tag/vN */
    const struct kbs_nek_binding *binding; /* of fields 0 for RSA */
};

struct kbs_nek_blob {
    struct kbs_ec_public epk; /* EC only */
    uint8_t wrapped[KBS_LIMIT_RSA_BYTES_MAX];
    size_t wrapped_len;
};

/*
 * Wraps `key` (KBS_LIMIT_KEY_BYTES_MIN to _MAX bytes, a multiple of 8). KBS_INPUT if kind and key do not go
 * together, or a binding is asked of RSA.
 */
KBS_MUST_CHECK int kbs_nek_wrap(const struct kbs_nek_to *to, struct kbs_span key,
                                struct kbs_nek_blob *ret, struct kbs_error *err);

/* The blob as it is kept: a recipient of a general JWE (JSON), or a COSE_Encrypt. */
void kbs_nek_blob_put(struct kbs_buf *out, const struct kbs_nek_to *to,
                      const struct kbs_nek_blob *blob);

/* The same of one that stands under an AES key: a recipient of alg A256KW with apu and apv. */
void kbs_nek_aes_blob_put(struct kbs_buf *out, struct kbs_span kid,
                          const struct kbs_nek_binding *binding, struct kbs_span wrapped);

#define KBS_NEK_BLOB_MAX_BYTES 2048u /* of any of them */

#endif
