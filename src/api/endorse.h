/* Inside src/api only: what a verifier is brought from its vendor. */
#ifndef KBS_API_ENDORSE_H
#define KBS_API_ENDORSE_H

#include "api/context.h"
#include "attest/evidence.h"

/*
 * kbs_evidence_fetch_fn; with: the call. Nothing where there is no kbs-fetch or the vendor has none;
 * KBS_BUSY if he does not answer, or is asked too often; and as kbs_fetch().
 */
kbs_evidence_fetch_fn kbs_endorse_fetch;

/* Hands that kind's verifier the documents that kbs-fetch keeps for it, every KBS_LIMIT_RENEW_S. */
void kbs_endorse_renew(struct kbs_api *api, enum kbs_tee tee);

#endif
