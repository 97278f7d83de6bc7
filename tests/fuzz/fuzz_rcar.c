/*
 * Both RCAR messages a guest sends, and the sample evidence in the second. The property: whatever
 * parses has a report digest, and evidence passes only if it carries that digest.
 */
#include <stdint.h>
#include <stdlib.h>

#include "attest/ear.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void claims_of(const struct kbs_rcar_attestation *a,
                      const struct kbs_evidence_result *result, const struct kbs_digest *digest)
{
    const struct kbs_ear ear = {.issuer = KBS_SPAN_LIT("i"),
                                .sid = KBS_SPAN_LIT("00"),
                                .iat = 1,
                                .exp = 2,
                                .tee = KBS_TEE_SAMPLE,
                                .result = result,
                                .attestation = a,
                                .report_digest = digest};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span sid;
    KBS_AUTO_JSON claims = NULL;

    if (kbs_ear_build(&ear, &claims, &err) == 0) {
        if (kbs_ear_check(claims, ear.issuer, 1, &sid, &err) != 0) {
            abort();
        }
    } else if (err.category == KBS_INTERNAL) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_span body = kbs_span(data, size);
    struct kbs_rcar_request request;
    struct kbs_rcar_attestation a;
    struct kbs_evidence_result result;
    struct kbs_digest digest;
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_rcar_request_parse(body, &request, &err) == 0 && request.tee != KBS_TEE_SAMPLE) {
        abort();
    }
    if (kbs_rcar_attestation_parse(body, &a, &err) != 0) {
        return 0;
    }
    if (kbs_rcar_report_digest(KBS_HASH_SHA384, &a.tee_key, a.nonce, a.additional, &digest, &err) !=
        0) {
        abort();
    }
    if (kbs_evidence_verify(KBS_TEE_SAMPLE, a.primary_evidence, &digest, &result, &err) == 0) {
        claims_of(&a, &result, &digest);
        kbs_evidence_result_deinit(&result);
    }
    kbs_rcar_attestation_deinit(&a);
    return 0;
}
