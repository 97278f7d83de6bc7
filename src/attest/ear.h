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
    size_t part_count;                /* 1 to KBS_EAR_PARTS_MAX */
};

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
 * which must not be changed afterwards.
 */
KBS_MUST_CHECK int kbs_ear_build(const struct kbs_ear *ear, json_t **ret, struct kbs_error *err);

/* What kbs_ear_build() says in those claims: the TEE holds the digest of the init-data sent. */
bool kbs_ear_init_data_matched(const json_t *claims);

/*
 * Checks a verified payload of a token of ours: issuer, exp (with no leeway), iat and nbf not in
 * the future, eat_profile; gives the session id it names (lower-case hex, at most 64 characters;
 * borrowed from claims). KBS_UNAUTHENTICATED otherwise.
 */
KBS_MUST_CHECK int kbs_ear_check(const json_t *claims, struct kbs_span issuer, int64_t now_s,
                                 struct kbs_span *ret_sid, struct kbs_error *err);

#endif
