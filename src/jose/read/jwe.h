/*
 * Flattened JWEs (RFC 7516 section 7.2.2) with enc A256GCM and without `aad`: the three that cross
 * this service's border (docs/protocol/sealed-secrets.md, requests.md). Reading decodes; nothing is
 * decrypted here.
 */
#ifndef KBS_JOSE_READ_JWE_H
#define KBS_JOSE_READ_JWE_H

#include "base/tee_key.h"
#include "jose/read/json.h"

#define KBS_JOSE_CEK_BYTES 32
#define KBS_JOSE_WRAPPED_CEK_BYTES (KBS_JOSE_CEK_BYTES + 8) /* RFC 3394 */
#define KBS_JOSE_GCM_IV_BYTES 12
#define KBS_JOSE_GCM_TAG_BYTES 16
#define KBS_JOSE_ENVELOPE_APV_BYTES 64

struct kbs_jose_jwe_in {
    enum kbs_tee_alg alg;
    struct kbs_ec_public epk;          /* of ECDH-ES+A256KW */
    char kid[44];                      /* of the key that a sealed one, or an envelope, is for */
    char apv[KBS_LIMIT_KID_BYTES + 1]; /* of a sealed one: repo/type/tag/vN */
    uint8_t request[KBS_JOSE_ENVELOPE_APV_BYTES]; /* apv of an envelope */
    struct kbs_buf protected_text;     /* base64url, as it came: the AAD */
    struct kbs_buf encrypted_key;      /* 40 bytes, or of an RSA modulus' length */
    uint8_t iv[KBS_JOSE_GCM_IV_BYTES];
    uint8_t tag[KBS_JOSE_GCM_TAG_BYTES];
    struct kbs_buf ciphertext; /* 1 to KBS_LIMIT_SECRET_VALUE_BYTES */
};
void kbs_jose_jwe_in_deinit(struct kbs_jose_jwe_in *jwe);

/*
 * A secret as an administrator's client seals it. Header and members are exactly those of the
 * template, in its order: the header that the token prints again has to be the one that was
 * authenticated. KBS_INPUT for any other shape, KBS_UNPROCESSABLE for an epk off its curve. Nothing
 * to free after a failure.
 */
KBS_MUST_CHECK int kbs_jose_sealed_get(const json_t *jwe, struct kbs_jose_jwe_in *ret,
                                       struct kbs_error *err);

/*
 * A request's body as a guest encrypts it: at most KBS_LIMIT_ENVELOPE_BYTES of it. Header and members as
 * strictly as above, and errors likewise.
 */
KBS_MUST_CHECK int kbs_jose_envelope_get(const json_t *jwe, struct kbs_jose_jwe_in *ret,
                                         struct kbs_error *err);

/*
 * An answer to a TEE key of kind `alg`: header {"alg","enc"}, with "epk" on any of the three curves
 * for ECDH-ES+A256KW, in any order. Errors as above.
 */
KBS_MUST_CHECK int kbs_jose_jwe_get(const json_t *jwe, enum kbs_tee_alg alg,
                                    struct kbs_jose_jwe_in *ret, struct kbs_error *err);

#endif
