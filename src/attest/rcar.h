/*
 * RCAR, the KBS protocol's handshake (Request, Challenge, Attestation, Response), version 0.4.0:
 * parsing and the report-data digest. No sessions, no store, no HTTP: texts in, typed values out.
 * Protocol: docs/protocol/rcar.md.
 */
#ifndef KBS_ATTEST_RCAR_H
#define KBS_ATTEST_RCAR_H

#include "attest/evidence.h"
#include "base/digest.h"
#include "base/tee_key.h"

#define KBS_RCAR_VERSION "0.4.0"

struct kbs_rcar_request {
    enum kbs_tee tee;
    enum kbs_hash hash; /* negotiated: SHA-384 unless the TEE asks for another */
};

/*
 * Request {"version","tee","extra-params"}, all required. KBS_UNAUTHENTICATED for another version
 * (detail as Trustee words it; echoes digits and dots only) or an unknown tee, KBS_INPUT for
 * malformed JSON.
 */
KBS_MUST_CHECK int kbs_rcar_request_parse(struct kbs_span body, struct kbs_rcar_request *ret,
                                          struct kbs_error *err);

/* Challenge {"nonce","extra-params"}; nonce as standard base64 with padding, extra-params "". */
void kbs_rcar_challenge_put(struct kbs_buf *out, struct kbs_span nonce_text);

struct kbs_rcar_attestation {
    json_t *root;               /* owned: everything below borrows from it */
    json_t *primary_evidence;   /* borrowed, any JSON */
    struct kbs_span nonce;      /* runtime-data.nonce, as received */
    struct kbs_span additional; /* additional_evidence, the string as received */
    struct kbs_span init_data;  /* init-data.body; empty if absent or null */
    struct kbs_tee_key tee_key; /* validated */
};
#define KBS_RCAR_ATTESTATION_NULL ((struct kbs_rcar_attestation){.root = NULL})

/*
 * Attestation message. KBS_INPUT if malformed; KBS_UNPROCESSABLE for a TEE key of another kind, alg
 * or curve, or off its curve, and for additional evidence, which no verifier of this version looks
 * at. Unknown JWK members are dropped before hashing. init-data is null, absent, or
 * {"format":"toml","body"}: no kind of evidence here has a field to hold its digest, so it is taken
 * as sent and never shown in the claims, so no policy can take it for matched. Nothing to free
 * after a failure.
 */
KBS_MUST_CHECK int kbs_rcar_attestation_parse(struct kbs_span body,
                                              struct kbs_rcar_attestation *ret,
                                              struct kbs_error *err);
void kbs_rcar_attestation_deinit(struct kbs_rcar_attestation *a);

/*
 * Appends the runtime data as it is hashed: the RFC 8785 text of
 * {"additional-evidence","nonce","tee-pubkey"}, the JWK rebuilt from the key.
 */
void kbs_rcar_runtime_data_put(struct kbs_buf *out, const struct kbs_tee_key *tee_key,
                               struct kbs_span nonce, struct kbs_span additional);

/*
 * HASH(JCS({"tee-pubkey": <rebuilt JWK>, "nonce", "additional-evidence"})), not padded. Also used
 * by kbs-guest, with the values it sent.
 */
KBS_MUST_CHECK int kbs_rcar_report_digest(enum kbs_hash hash, const struct kbs_tee_key *tee_key,
                                          struct kbs_span nonce, struct kbs_span additional,
                                          struct kbs_digest *ret, struct kbs_error *err);

#endif
