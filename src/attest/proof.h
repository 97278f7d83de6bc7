/*
 * What binds a guest's request to the guest: the payload of a proof of possession (Kbs-Proof), and the PartyVInfo of
 * an encrypted body (docs/protocol/requests.md). Texts and bytes only: who signs, who verifies, and that a nonce counts
 * once, is elsewhere (src/api/protect.c, cli/protect.c).
 */
#ifndef KBS_ATTEST_PROOF_H
#define KBS_ATTEST_PROOF_H

#include "base/digest.h"
#include "base/ec.h"
#include "jose/read/json.h"

#define KBS_PROOF_TYP "kbs-proof"
#define KBS_REQUEST_CHALLENGE_BYTES 32 /* the server's nonce */
#define KBS_PROOF_CHANNEL_BYTES 32     /* tls-exporter (RFC 9266) */
#define KBS_ENVELOPE_TYPE "application/jose+json"

/* What a proof says of its request. */
struct kbs_proof {
    struct kbs_span method; /* borrowed, as the next */
    struct kbs_span target; /* as it is sent, with its query */
    uint8_t
        body[KBS_SHA256_BYTES]; /* digest of the body as it is sent, of none: of the empty one */
    uint8_t nonce[KBS_REQUEST_CHALLENGE_BYTES];
    struct kbs_ec_public key; /* that the answer is to be wrapped to */
    bool has_channel;
    uint8_t
        channel[KBS_PROOF_CHANNEL_BYTES]; /* the TLS connection that it is sent on, and no other */
};

/* Appends {"b","c","k":{"crv","kty","x","y"},"m","n","p"}, b, c and n in base64url; c only if there is a channel. */
void kbs_proof_put(struct kbs_buf *out, const struct kbs_proof *proof);
/*
 * The reverse: exactly these members, with or without c, a key of one of the three curves. Borrows `payload`. KBS_INPUT,
 * KBS_UNPROCESSABLE for a key that is off its curve.
 */
KBS_MUST_CHECK int kbs_proof_get(const json_t *payload, struct kbs_proof *ret,
                                 struct kbs_error *err);

#define KBS_ENVELOPE_APV_BYTES (KBS_REQUEST_CHALLENGE_BYTES + KBS_SHA256_BYTES)
/* PartyVInfo of an encrypted body: the nonce, SHA-256(method, a blank, target). */
void kbs_envelope_apv(const uint8_t nonce[KBS_REQUEST_CHALLENGE_BYTES], struct kbs_span method,
                      struct kbs_span target, uint8_t ret[KBS_ENVELOPE_APV_BYTES]);

#endif
