/*
 * A report and, after its 1184 bytes, a leaf: the verifier's whole way but the JSON, under no
 * endorsements. The property: nothing that was not signed by AMD is more than an n/a or a failure,
 * and every verdict has all its checks and claims.
 */
#include <stdint.h>
#include <stdlib.h>

#include "attest/snp/verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct kbs_snp_endorsements *none; /* made once, never freed */
    struct kbs_snp_policy policy = kbs_snp_policy_default();
    struct kbs_snp_report report;
    struct kbs_verdict v;
    struct kbs_error err = KBS_ERROR_NONE;
    size_t n = size < KBS_SNP_REPORT_BYTES ? size : KBS_SNP_REPORT_BYTES;
    static size_t checks;

    if (kbs_snp_report_parse(kbs_span(data, n), &report, &err) != 0) {
        return 0;
    }
    if (none == NULL && kbs_snp_endorsements_new(&none, &err) != 0) {
        abort();
    }
    policy.floor[KBS_SNP_PRODUCT_GENOA].tcb.part[KBS_SNP_TCB_SNP] = 1;
    policy.chip_count = 0;
    const struct kbs_expected expected = {
        .report_data = kbs_snp_bytes(&report, KBS_SNP_AT_REPORT_DATA, 48), .now_s = 1750000000};
    if (kbs_snp_verify(&report, kbs_span(data + n, size - n), none, &policy, &expected, &v, &err) !=
        0) {
        abort();
    }
    if ((checks != 0 && v.count != checks) || kbs_verdict_failed(&v) == NULL ||
        kbs_verdict_binding(&v) > KBS_BINDING_EVIDENCE || v.claims == NULL) {
        abort();
    }
    checks = v.count;
    json_t *json = kbs_verdict_json(&v);
    if (json == NULL) {
        abort();
    }
    json_decref(json);
    kbs_verdict_deinit(&v);
    return 0;
}
