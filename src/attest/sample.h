/* The verifier for `tee` "sample" and "sampledevice": no hardware, no signature, only the binding. See sample.c. */
#ifndef KBS_ATTEST_SAMPLE_H
#define KBS_ATTEST_SAMPLE_H

#include "attest/evidence.h"

/* As kbs_evidence_verify(). */
KBS_MUST_CHECK int kbs_evidence_sample_verify(const json_t *evidence,
                                              const struct kbs_digest *report_data,
                                              struct kbs_evidence_result *ret,
                                              struct kbs_error *err);

#endif
