/*
 * Evidence: one interface, one file per kind. A verifier gets the evidence as received and the
 * digest that its report data must carry; it says what it established. No knowledge of sessions,
 * store or HTTP.
 */
#ifndef KBS_ATTEST_EVIDENCE_H
#define KBS_ATTEST_EVIDENCE_H

#include "base/digest.h"
#include "base/error.h"
#include "base/terms.h"
#include "jose/read/json.h"

struct kbs_evidence_result {
    enum kbs_binding
        binding;    /* what the verifier established, at least KBS_BINDING_EVIDENCE on success */
    json_t *claims; /* owned: the TEE's claims, as `input` shows them under the TEE's name */
    const char *status; /* "affirming", "warning", "contraindicated", "none" (EAR, AR4SI) */
    int hardware;       /* AR4SI trust claims, -128..127 */
    int executables;
    int configuration;
};
void kbs_evidence_result_deinit(struct kbs_evidence_result *r);

/*
 * Verifies one piece of evidence. KBS_UNAUTHENTICATED if it does not hold (detail: which check),
 * KBS_INPUT if it does not parse. *ret is empty after a failure.
 */
KBS_MUST_CHECK int kbs_evidence_verify(enum kbs_tee tee, const json_t *evidence,
                                       const struct kbs_digest *report_data,
                                       struct kbs_evidence_result *ret, struct kbs_error *err);

#endif
