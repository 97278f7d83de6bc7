/*
 * The claims model and our attestation-results token: an EAR-shaped claims set (draft-ietf-rats-ear) with
 * Trustee's member names. It is what policy sees as `input` and what SIGN_EAR signs.
 */
#ifndef KBS_ATTEST_EAR_H
#define KBS_ATTEST_EAR_H

#include "attest/rcar.h"

struct kbs_ear {
    struct kbs_span issuer;
    struct kbs_span sid; /* session id, hex: finds the session again */
    int64_t iat;         /* Unix seconds */
    int64_t exp;
    enum kbs_tee tee;
    const struct kbs_evidence_result *result;
    const struct kbs_rcar_attestation *attestation;
    const struct kbs_digest *report_digest;
};

/* Builds the claims set. Returns owned. */
KBS_MUST_CHECK int kbs_ear_build(const struct kbs_ear *ear, json_t **ret, struct kbs_error *err);

/*
 * Checks a verified payload of a token of ours: issuer, exp (with no leeway), iat not in the future, eat_profile;
 * gives the session id it names. KBS_UNAUTHENTICATED otherwise.
 */
KBS_MUST_CHECK int kbs_ear_check(const json_t *claims, struct kbs_span issuer, int64_t now_s,
                                 struct kbs_span *ret_sid, struct kbs_error *err);

#endif
