/*
 * Arm CCA attestation tokens (RMM specification, DEN0137, section A7; draft-ffm-rats-cca-token): as
 * much of one as it takes to find what its realm was challenged with. Nothing is verified.
 */
#ifndef KBS_COSE_READ_CCA_H
#define KBS_COSE_READ_CCA_H

#include "base/error.h"
#include "base/span.h"

#define KBS_CCA_CHALLENGE_BYTES 64

/*
 * The realm's challenge (claim 10 of the realm token) in either of the collections: CBOR tag 399,
 * label to token, or tag 907 (a CMW collection), label to [type, token]. KBS_INPUT unless there is
 * exactly one realm token, with one challenge of KBS_CCA_CHALLENGE_BYTES. *ret borrows from `token`.
 */
KBS_MUST_CHECK int kbs_cose_cca_challenge(struct kbs_span token, struct kbs_span *ret,
                                          struct kbs_error *err);

#endif
