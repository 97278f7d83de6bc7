/* Inside src/api only: sessions of COCONUT-SVSM that are bound in its own way. */
#ifndef KBS_API_SVSM_H
#define KBS_API_SVSM_H

#include "api/context.h"
#include "attest/rcar.h"

/*
 * If the evidence is SVSM's and holds SVSM's digest of the session's key and nonce, and such are taken
 * here, that digest becomes the session's. Otherwise nothing happens.
 */
KBS_MUST_CHECK int kbs_svsm_bind(const struct kbs_api *api, const struct kbs_rcar_attestation *m,
                                 struct kbs_session *session, struct kbs_error *err);

#endif
