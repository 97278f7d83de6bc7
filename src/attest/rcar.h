/*
 * RCAR, the KBS protocol's handshake (Request, Challenge, Attestation, Response), versions 0.4.0
 * and 0.2.0: parsing, the choice of a hash, and the report-data digest. No sessions, no store, no HTTP: texts in, typed values out.
 * Protocol: docs/protocol/rcar.md.
 */
#ifndef KBS_ATTEST_RCAR_H
#define KBS_ATTEST_RCAR_H

#include "attest/evidence.h"
#include "base/digest.h"
#include "base/limits.h"
#include "base/tee_key.h"

struct kbs_rcar_request {
    enum kbs_protocol version;
    enum kbs_tee tee;   /* known, which is not to say that there is a verifier for it */
    enum kbs_hash hash; /* of the report data */
    bool selected;      /* the challenge has to say so: it is not the one that clients assume */
};

/*
 * Request {"version","tee","extra-params"}, all required. only: the one hash of each kind of TEE, by enum
 * kbs_tee, KBS_HASH_NONE for those that can be attested with any; NULL: all of them can. KBS_UNAUTHENTICATED for another version
 * (detail as Trustee words it; echoes digits and dots only), an unknown tee, or a list of hashes
 * without one that we have; KBS_INPUT for malformed JSON and for a list that is not one of names.
 */
KBS_MUST_CHECK int kbs_rcar_request_parse(struct kbs_span body, const enum kbs_hash *only,
                                          struct kbs_rcar_request *ret, struct kbs_error *err);
/* Its extra-params as text: a string's own, the JSON of anything else. KBS_INPUT as above. */
KBS_MUST_CHECK int kbs_rcar_request_extra(struct kbs_span body, struct kbs_buf *ret,
                                          struct kbs_error *err);

/*
 * Challenge {"nonce","extra-params"}; nonce as standard base64 with padding; extra-params "", or
 * {"selected-hash-algorithm"} unless `selected` is KBS_HASH_NONE.
 */
void kbs_rcar_challenge_put(struct kbs_buf *out, struct kbs_span nonce_text,
                            enum kbs_hash selected);

struct kbs_rcar_device {
    enum kbs_tee tee;
    const json_t *evidence; /* borrowed, any JSON */
};

struct kbs_rcar_attestation {
    enum kbs_protocol version;
    json_t *root;                   /* owned, as the next: everything below borrows from them */
    json_t *devices_root;           /* of `devices`; NULL if there are none */
    const json_t *primary_evidence; /* any JSON but null */
    struct kbs_rcar_device devices[KBS_LIMIT_DEVICES]; /* in the order in which they were sent */
    size_t device_count;
    struct kbs_span nonce;      /* as received; 0.2.0: empty, it is the session's to fill in */
    struct kbs_span additional; /* additional_evidence, the string as received */
    struct kbs_span init_data;  /* init-data.body; empty if absent or null */
    struct kbs_tee_key tee_key; /* validated */
};
#define KBS_RCAR_ATTESTATION_NULL ((struct kbs_rcar_attestation){.root = NULL})

/*
 * Attestation message in the shape of `version`; one of the other's is KBS_INPUT, as is what is
 * malformed. KBS_UNPROCESSABLE for a TEE key of another kind, alg or curve, or off its curve;
 * KBS_UNAUTHENTICATED for a device of an unknown name; KBS_TOO_LARGE for additional evidence over
 * KBS_LIMIT_DEVICE_EVIDENCE_BYTES. Unknown JWK members are dropped before hashing. Whether a key of
 * RSA1_5 may be used is the caller's to say. init-data is null, absent, or {"format":"toml","body"};
 * whether it is what the TEE measured is the verifier's to say. Nothing to free after a failure.
 */
KBS_MUST_CHECK int kbs_rcar_attestation_parse(struct kbs_span body, enum kbs_protocol version,
                                              struct kbs_rcar_attestation *ret,
                                              struct kbs_error *err);
void kbs_rcar_attestation_deinit(struct kbs_rcar_attestation *a);

/*
 * A TEE key as clients send it ("tee-pubkey"), checked: one that keys are wrapped to, or an EC key that signs requests.
 * KBS_INPUT for its shape, KBS_UNPROCESSABLE for another kind, alg or curve, and for what is no key.
 */
KBS_MUST_CHECK int kbs_rcar_tee_key_get(const json_t *jwk, struct kbs_tee_key *ret,
                                        struct kbs_error *err);

/*
 * What the primary evidence's runtime data has as "additional-evidence": the string as received,
 * also if it is empty; NULL in 0.2.0, which leaves the member out. Borrows `a`.
 */
const struct kbs_span *kbs_rcar_additional(const struct kbs_rcar_attestation *a);

/*
 * Appends the runtime data as it is hashed: the RFC 8785 text of
 * {"additional-evidence","nonce","tee-pubkey"}, the JWK rebuilt from the key. `additional` NULL
 * leaves that member out: so it is for devices, and for all evidence in 0.2.0.
 */
void kbs_rcar_runtime_data_put(struct kbs_buf *out, const struct kbs_tee_key *tee_key,
                               struct kbs_span nonce, const struct kbs_span *additional);

/* The hash of that text, not padded. Also used by kbs-guest, with the values it sent. */
KBS_MUST_CHECK int kbs_rcar_report_digest(enum kbs_hash hash, const struct kbs_tee_key *tee_key,
                                          struct kbs_span nonce, const struct kbs_span *additional,
                                          struct kbs_digest *ret, struct kbs_error *err);

/*
 * What COCONUT-SVSM puts into its report instead: SHA-512(x, y, nonce), both coordinates of a P-521 key
 * in full and the nonce's bytes. It covers no additional evidence. KBS_UNPROCESSABLE for any other
 * key, KBS_INPUT for a nonce that is not base64.
 */
KBS_MUST_CHECK int kbs_rcar_svsm_digest(const struct kbs_tee_key *tee_key, struct kbs_span nonce,
                                        struct kbs_digest *ret, struct kbs_error *err);

#endif
