/*
 * Flattened JWEs to a TEE key (docs/protocol/sealed-secrets.md): printing one, and making one in
 * software of something that is in this process.
 */
#ifndef KBS_HSM_JWE_H
#define KBS_HSM_JWE_H

#include "hsm/recipient.h"

/* The protected header as base64url text, which is the AAD; epk of `r` for EC algorithms. */
void kbs_jwe_protected_put(struct kbs_buf *out, enum kbs_tee_alg alg,
                           const struct kbs_recipient *r);

/*
 * Encrypts `plain` with a fresh content key, and that to the TEE key, by OpenSSL. Fills epk,
 * wrapped, iv and tag of *ret; `ciphertext` has room for plain.len bytes. The TEE key is validated.
 * Errors: KBS_UNPROCESSABLE for a TEE key that is none.
 */
KBS_MUST_CHECK int kbs_jwe_seal(const struct kbs_tee_key *tee, struct kbs_span plain,
                                struct kbs_recipient *ret, uint8_t *ciphertext,
                                struct kbs_error *err);
/* The JWE of those parts. */
void kbs_jwe_print(struct kbs_buf *out, enum kbs_tee_alg alg, const struct kbs_recipient *r,
                   struct kbs_span ciphertext);

/* Both, for content of any length up to KBS_LIMIT_SECRET_VALUE_BYTES: appends the JWE. */
KBS_MUST_CHECK int kbs_jwe_to_tee(const struct kbs_tee_key *tee, struct kbs_span plain,
                                  struct kbs_buf *out, struct kbs_error *err);

#endif
