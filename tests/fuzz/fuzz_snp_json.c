/*
 * Evidence as JSON text. The property: what parses is a report, and the certificate that came with
 * it is within its limit; what does not parse is the sender's fault, never ours.
 */
#include <stdint.h>
#include <stdlib.h>

#include "attest/snp/evidence.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_snp_evidence e;
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON json = NULL;

    if (kbs_json_parse_object(kbs_span(data, size), "evidence", &json, &err) != 0) {
        return 0;
    }
    if (kbs_snp_evidence_parse(json, &e, &err) == 0) {
        if (e.leaf.len > KBS_LIMIT_CERTIFICATE_BYTES) {
            abort();
        }
        kbs_snp_evidence_deinit(&e);
    } else if (err.category != KBS_INPUT && err.category != KBS_TOO_LARGE) {
        abort();
    }
    return 0;
}
