/*
 * Report data in binary evidence: as much of a quote's structure as it takes to say where the field
 * is, and no more. Nothing is verified, and all results borrow from what was given.
 */
#ifndef KBS_ATTEST_QUOTE_H
#define KBS_ATTEST_QUOTE_H

#include "base/error.h"
#include "base/span.h"

#define KBS_QUOTE_REPORT_DATA_BYTES 64
#define KBS_QUOTE_NONCE_BYTES 32

/*
 * Intel quotes (Intel TDX DCAP Quoting Library API, appendix A.3; Intel SGX ECDSA Quote Library,
 * appendix A.4): REPORTDATA, KBS_QUOTE_REPORT_DATA_BYTES. KBS_INPUT for another version, another kind
 * of TEE, and for what is shorter than its header says.
 */
KBS_MUST_CHECK int kbs_quote_tdx(struct kbs_span quote, struct kbs_span *ret,
                                 struct kbs_error *err); /* versions 4 and 5 */
KBS_MUST_CHECK int kbs_quote_sgx(struct kbs_span quote, struct kbs_span *ret,
                                 struct kbs_error *err); /* version 3 */

/*
 * TPMS_ATTEST of type TPM_ST_ATTEST_QUOTE (TCG TPM 2.0 Library, part 2, section 10.12): extraData, of
 * whatever length. KBS_INPUT unless the whole of it has that structure, with nothing after it.
 */
KBS_MUST_CHECK int kbs_quote_tpm(struct kbs_span message, struct kbs_span *ret,
                                 struct kbs_error *err);

/*
 * An NVIDIA device's report, which begins with the GET_MEASUREMENTS request that it answers (DMTF
 * DSP0274 1.1, section 10.11.1): its nonce, KBS_QUOTE_NONCE_BYTES.
 */
KBS_MUST_CHECK int kbs_quote_spdm(struct kbs_span report, struct kbs_span *ret,
                                  struct kbs_error *err);

#endif
