/*
 * The report stays one array of bytes: the signature is over bytes, so a struct that was decoded and
 * encoded again could only add ways to disagree with them. Bits and reserved fields that this
 * version does not know are signed like the others and are left alone.
 */
#include "attest/snp/report.h"

const char *kbs_snp_signer_name(unsigned int signer)
{
    switch (signer) {
    case KBS_SNP_SIGNER_VCEK:
        return "VCEK";
    case KBS_SNP_SIGNER_VLEK:
        return "VLEK";
    case KBS_SNP_SIGNER_NONE:
        return "none";
    default:
        return "reserved";
    }
}

int kbs_snp_report_parse(struct kbs_span bytes, struct kbs_snp_report *ret, struct kbs_error *err)
{
    if (bytes.len != KBS_SNP_REPORT_BYTES) {
        return kbs_fail(err, KBS_INPUT, "an SNP report has %d bytes, this has %zu",
                        KBS_SNP_REPORT_BYTES, bytes.len);
    }
    memcpy(ret->raw, bytes.p, bytes.len);
    return 0;
}

uint32_t kbs_snp_u32(const struct kbs_snp_report *r, enum kbs_snp_at at)
{
    struct kbs_reader in = kbs_reader(kbs_snp_bytes(r, at, 4));

    return kbs_read_le32(&in);
}

uint64_t kbs_snp_u64(const struct kbs_snp_report *r, enum kbs_snp_at at)
{
    struct kbs_reader in = kbs_reader(kbs_snp_bytes(r, at, 8));

    return kbs_read_le64(&in);
}

bool kbs_snp_is_zero(struct kbs_span bytes)
{
    uint8_t seen = 0;

    for (size_t i = 0; i < bytes.len; i++) {
        seen |= bytes.p[i];
    }
    return seen == 0;
}
