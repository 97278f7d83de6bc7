/*
 * The claims model and our attestation-results token: an EAR-shaped claims set
 * (draft-ietf-rats-ear) with Trustee's member names. It is what policy sees as `input` and what
 * SIGN_EAR signs.
 */
#ifndef KBS_ATTEST_EAR_H
#define KBS_ATTEST_EAR_H

#include "attest/rcar.h"

#define KBS_EAR_POLICY_DEFAULT "default" /* no policy of the operator's */
#define KBS_EAR_POLICY_BYTES (KBS_LIMIT_DOCUMENT_NAME_BYTES + 16)

/* A submodule: one piece of evidence that was verified. */
struct kbs_ear_part {
    enum kbs_tee tee;
    struct kbs_evidence_result result; /* owned by the caller */
    struct kbs_digest report_digest;
    char policy[KBS_EAR_POLICY_BYTES]; /* what appraised it, printable ASCII; empty: the default */
};

#define KBS_EAR_PARTS_MAX (1 + KBS_LIMIT_DEVICES)

struct kbs_ear {
    struct kbs_span issuer;
    struct kbs_span sid; /* session id, hex: finds the session again */
    int64_t iat;         /* Unix seconds */
    int64_t exp;
    const struct kbs_rcar_attestation *attestation;
    const struct kbs_ear_part *parts; /* the primary evidence's first, then the devices' */
    size_t part_count;                /* at most KBS_EAR_PARTS_MAX; 1 or more without `submods` */
    /*
     * Of evidence that an attestation service verified, as it vouched for it; borrowed; NULL: none. A piece that is
     * also in `parts` was verified twice.
     */
    const json_t *submods;
};

/* In a submodule of ours: what somebody else says of the same evidence, KBS_EAR_AUTHORITY included. */
#define KBS_EAR_DELEGATED "ear.kbs-hsm.delegated"

/*
 * annotated-evidence of one part: the TEE's claims under its name, report_data, init_data if it is
 * the digest of what was sent, and runtime_data_claims. `i`: which of ear->parts. Returns owned;
 * shares the result's claims.
 */
KBS_MUST_CHECK int kbs_ear_evidence(const struct kbs_ear *ear, size_t i, json_t **ret,
                                    struct kbs_error *err);

/*
 * Builds the claims set: eat_profile, iat, exp, iss, sid, ear.verifier-id, and in submods one
 * member per part, named by class and a number (cpu0, gpu0), with ear.status,
 * ear.trustworthiness-vector, ear.appraisal-policy-id and ear.veraison.annotated-evidence (the TEE's
 * claims under its name, report_data, runtime_data_claims, which are what was hashed). report_data
 * is what Trustee writes: standard base64 for the sample kinds, hex for kinds with a report field.
 * init_data, as the TEE's field has it, is there if it is the digest of what was sent. Returns owned; shares the results' claims,
 * which must not be changed afterwards. A piece that was verified twice has our claims, the worse of the
 * two statuses, and in KBS_EAR_DELEGATED the other's status, vector, policy id and KBS_EAR_AUTHORITY: none of
 * our claims is that one's word.
 * Of what was only verified elsewhere the claims are as in `submods`, but for init_data: KBS_UNAUTHENTICATED
 * if a document was sent and they have another digest.
 */
KBS_MUST_CHECK int kbs_ear_build(const struct kbs_ear *ear, json_t **ret, struct kbs_error *err);

/* ear.status of the TEE's own part; borrowed, empty if there is none. */
struct kbs_span kbs_ear_status(const json_t *claims);

/* What kbs_ear_build() says in those claims: the TEE holds the digest of the init-data sent. */
bool kbs_ear_init_data_matched(const json_t *claims);

/* What we say of a submodule that a foreign issuer vouches for; no token of theirs can. */
#define KBS_EAR_AUTHORITY "ear.kbs-hsm.authority" /* its `iss`, or its name if it has none */
#define KBS_EAR_PROFILE "ear.kbs-hsm.profile"     /* what kind of issuer it is */
/* Only if it is no EAR: the member of annotated-evidence that is its token's claims, verbatim. */
#define KBS_EAR_CLAIMS_AT "ear.kbs-hsm.claims-at"

/*
 * A claims set around submods that are ready (kbs_issuer_verify()), which it shares. Returns owned.
 */
KBS_MUST_CHECK int kbs_ear_wrap(struct kbs_span issuer, struct kbs_span sid, int64_t iat,
                                int64_t exp, json_t *submods, json_t **ret, struct kbs_error *err);

/*
 * Who vouches for cpu0, if it is not we: its `iss`, and the object in which what it said is looked up: the
 * claims of its own token, for an issuer of EARs `claims` itself. False if we do. Returns borrowed.
 */
bool kbs_ear_authority(const json_t *claims, struct kbs_span *ret_iss, const json_t **ret_claims);

/*
 * What the primary evidence said, of a guest that no other issuer vouches for: the claims of a verifier of ours.
 * NULL if there are none of that kind. Borrowed.
 */
const json_t *kbs_ear_native(const json_t *claims, enum kbs_tee tee);

/*
 * Checks a verified payload of a token of ours: issuer, exp (with no leeway), iat and nbf not in
 * the future, eat_profile; gives the session id it names (lower-case hex, at most 64 characters;
 * borrowed from claims). KBS_UNAUTHENTICATED otherwise.
 */
KBS_MUST_CHECK int kbs_ear_check(const json_t *claims, struct kbs_span issuer, int64_t now_s,
                                 struct kbs_span *ret_sid, struct kbs_error *err);

#endif
