/*
 * COCONUT-SVSM's clients of before the Trustee-shaped one put SHA-512(x, y, nonce) into the report's
 * data, over no additional evidence and no text. Where the operator takes that, and the evidence has
 * SVSM's shape and really holds it, it is the session's digest from here on, so that whoever verifies
 * has one digest to compare with, and the record says what the report holds. Evidence in the same
 * shape that is bound as all others are stays as it is.
 *
 * Devices would not be covered, so with any beside it the other digest is the only one. That the
 * report is of VMPL 0 is the verifier's to see (attest/snp/verify.c).
 */
#include "api/svsm.h"

#include "attest/report_data.h"

int kbs_svsm_bind(const struct kbs_api *api, const struct kbs_rcar_attestation *m,
                  struct kbs_session *session, struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE; /* none of it is an error: it is then not SVSM's */
    struct kbs_buf field = KBS_BUF(KBS_DIGEST_MAX_BYTES);
    enum kbs_hash hash = KBS_HASH_NONE;
    struct kbs_digest digest;
    bool shaped =
        api->svsm && session->tee == KBS_TEE_SNP && m->device_count == 0 &&
        m->additional.len == 0 &&
        kbs_report_data_find(KBS_TEE_SNP, m->primary_evidence, &field, &hash, &why) == 0 &&
        hash == KBS_HASH_SHA512;

    kbs_buf_deinit(&field);
    if (shaped && kbs_rcar_svsm_digest(&m->tee_key, m->nonce, &digest, &why) == 0 &&
        kbs_report_data_check(KBS_TEE_SNP, m->primary_evidence, &digest, &why) == 0) {
        session->report_digest = digest;
        session->hash = hash;
    }
    return why.category == KBS_INTERNAL ? kbs_fail(err, KBS_INTERNAL, "%s", why.detail) : 0;
}
