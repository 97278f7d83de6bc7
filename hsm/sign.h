/*
 * ECDSA by the service's token-held keys (RFC 7518 section 3.4): SIGN_EAR by ES256 or ES384, as the
 * key's curve has it, SIGN_ROW and SIGN_HEAD by ES256.
 */
#ifndef KBS_HSM_SIGN_H
#define KBS_HSM_SIGN_H

#include "base/digest.h"
#include "hsm/answer.h"
#include "hsm/object.h"
#include "wire/message.h"

struct kbs_signer {
    enum kbs_purpose purpose; /* sign-token, sign-row, sign-head, sign-receipt or tls */
    uint32_t version;         /* 1, but of sign-token and tls */
    bool ready;
    bool foreign; /* the public half is not the private key's */
    CK_OBJECT_HANDLE private_key;
    struct kbs_ec_public public_key;
    uint64_t from_s;     /* of sign-token: the Unix time from which it signs */
    char thumbprint[44]; /* RFC 7638: the kid of what it signs */
};

/*
 * Finds the key of that purpose and version and makes one signature with it, which OpenSSL verifies.
 * KBS_MISSING if there is none (yet); harmless when it is loaded already.
 */
KBS_MUST_CHECK int kbs_signer_load(struct kbs_signer *signer, struct kbs_token *t,
                                   struct kbs_error *err);

/* The keys of a purpose that has versions, sign-token or tls, each of them proven; the oldest first. */
struct kbs_sign_keys {
    enum kbs_purpose purpose;
    uint64_t looked_ns; /* monotonic; 0: it is to be looked at */
    size_t n;
    uint32_t told; /* newest version that was logged as left out */
    struct kbs_signer signers[KBS_LIMIT_SIGN_VERSIONS];
};

/*
 * Asks the token which there are. A version whose halves do not belong together, or that has no
 * public half, is left out and logged: nobody is told of it, and nothing is signed with it.
 */
KBS_MUST_CHECK int kbs_sign_keys_look(struct kbs_sign_keys *keys, struct kbs_token *t,
                                      struct kbs_error *err);

/*
 * The claims as a compact JWS, typ JWT, by the version whose turn it is; looks again if the last look
 * is older than KBS_LIMIT_SIGN_LOOK_MS. KBS_INPUT if they are empty or too long, KBS_MISSING without
 * a key.
 */
KBS_MUST_CHECK int kbs_sign_ear(struct kbs_sign_keys *keys, struct kbs_token *t,
                                const struct kbs_wire_sign_ear *m, struct kbs_answer *ret,
                                struct kbs_error *err);

/* r || s over SHA-256(input), by a P-256 key that is loaded. */
KBS_MUST_CHECK int kbs_sign_es256(struct kbs_signer *signer, struct kbs_token *t,
                                  struct kbs_span input, uint8_t ret[KBS_ES256_BYTES],
                                  struct kbs_error *err);

/* SHA-256("kbs-row-v1" || content): what SIGN_ROW signs, and its deed names. */
void kbs_sign_row_digest(struct kbs_span content, uint8_t ret[KBS_SHA256_BYTES]);
/* r || s, 64 bytes. KBS_INPUT for an empty content, KBS_MISSING without the key. */
KBS_MUST_CHECK int kbs_sign_row(struct kbs_signer *signer, struct kbs_token *t,
                                const struct kbs_wire_sign_row *m, struct kbs_answer *ret,
                                struct kbs_error *err);
/* r || s over SHA-256("kbs-head-v1" || seq || hash); hash: 32 bytes, seq: from 1. */
KBS_MUST_CHECK int kbs_sign_head(struct kbs_signer *signer, struct kbs_token *t,
                                 const struct kbs_wire_sign_head *m, struct kbs_answer *ret,
                                 struct kbs_error *err);

#endif
