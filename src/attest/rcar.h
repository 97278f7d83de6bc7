/*
 * RCAR, the KBS protocol's handshake (Request, Challenge, Attestation, Response), version 0.4.0: parsing and
 * the report-data digest. No sessions, no store, no HTTP: texts in, typed values out.
 * Protocol: docs/protocol/rcar.md.
 */
#ifndef KBS_ATTEST_RCAR_H
#define KBS_ATTEST_RCAR_H

#include "attest/evidence.h"
#include "base/digest.h"
#include "base/ec.h"

#define KBS_RCAR_VERSION "0.4.0"

struct kbs_rcar_request {
    enum kbs_tee tee;
    enum kbs_hash hash; /* negotiated: SHA-384 unless the TEE asks for another */
};

/*
 * Request {"version","tee","extra-params"}, all required. KBS_UNAUTHENTICATED for another version (detail as
 * Trustee words it) or an unknown tee, KBS_INPUT for malformed JSON.
 */
KBS_MUST_CHECK int kbs_rcar_request_parse(struct kbs_span body, struct kbs_rcar_request *ret,
                                          struct kbs_error *err);

/* Challenge {"nonce","extra-params"}; nonce as standard base64 with padding, extra-params "". */
void kbs_rcar_challenge_put(struct kbs_buf *out, struct kbs_span nonce_text);

struct kbs_rcar_attestation {
    json_t *root;                       /* owned: everything below borrows from it */
    json_t *primary_evidence;           /* borrowed, any JSON */
    struct kbs_span nonce;              /* runtime-data.nonce, as received */
    struct kbs_span additional;         /* additional_evidence, the string as received */
    struct kbs_span init_data;          /* init-data.body; empty if absent or null */
    struct kbs_ec_public tee_key;       /* validated, alg ECDH-ES+A256KW */
};
#define KBS_RCAR_ATTESTATION_NULL ((struct kbs_rcar_attestation){.root = NULL})

/* Attestation message; KBS_INPUT or KBS_UNPROCESSABLE (key). Unknown JWK members are dropped before hashing. */
KBS_MUST_CHECK int kbs_rcar_attestation_parse(struct kbs_span body, struct kbs_rcar_attestation *ret,
                                              struct kbs_error *err);
void kbs_rcar_attestation_deinit(struct kbs_rcar_attestation *a);

/*
 * HASH(JCS({"tee-pubkey": <rebuilt JWK>, "nonce", "additional-evidence"})), not padded. Also used by
 * kbs-guest, with the values it sent.
 */
KBS_MUST_CHECK int kbs_rcar_report_digest(enum kbs_hash hash, const struct kbs_ec_public *tee_key,
                                          struct kbs_span nonce, struct kbs_span additional,
                                          struct kbs_digest *ret, struct kbs_error *err);

#endif
