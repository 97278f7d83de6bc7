/*
 * The path is made of the report's bytes as digits and of a product's name from a table, so nothing in
 * evidence can ask for anything else than a VCEK. KDS gives a certificate for any TCB, including such
 * as a chip never had: that the counters are those of the report is verified with the leaf.
 */
#include "attest/snp/kds.h"

#include <stdio.h>

#include "base/encoding.h"

static const struct {
    const char *name;
    enum kbs_snp_product product;
    enum kbs_snp_signer signer;
} lists[KBS_SNP_LISTS] = {
    {"crl/milan", KBS_SNP_PRODUCT_MILAN, KBS_SNP_SIGNER_VCEK},
    {"crl/genoa", KBS_SNP_PRODUCT_GENOA, KBS_SNP_SIGNER_VCEK},
    {"crl/turin", KBS_SNP_PRODUCT_TURIN, KBS_SNP_SIGNER_VCEK},
    {"vlek-crl/milan", KBS_SNP_PRODUCT_MILAN, KBS_SNP_SIGNER_VLEK},
    {"vlek-crl/genoa", KBS_SNP_PRODUCT_GENOA, KBS_SNP_SIGNER_VLEK},
    {"vlek-crl/turin", KBS_SNP_PRODUCT_TURIN, KBS_SNP_SIGNER_VLEK},
};

const char *kbs_snp_list_name(size_t i)
{
    return lists[i].name;
}

enum kbs_snp_product kbs_snp_list_product(size_t i)
{
    return lists[i].product;
}

enum kbs_snp_signer kbs_snp_list_signer(size_t i)
{
    return lists[i].signer;
}

bool kbs_snp_kds_path(const struct kbs_snp_report *report, char ret[KBS_SNP_KDS_PATH_BYTES])
{
    enum kbs_snp_product product = kbs_snp_product_of_report(report);
    bool turin = product == KBS_SNP_PRODUCT_TURIN;
    struct kbs_span id =
        kbs_snp_bytes(report, KBS_SNP_AT_CHIP_ID, turin ? 8 : KBS_SNP_CHIP_ID_BYTES);
    char hwid[2 * KBS_SNP_CHIP_ID_BYTES + 1];
    char fmc[sizeof("fmcSPL=255&")] = "";
    struct kbs_snp_tcb tcb;

    ret[0] = '\0';
    if (product == KBS_SNP_PRODUCT_NONE ||
        kbs_snp_signer_of(report) != (unsigned int)KBS_SNP_SIGNER_VCEK || kbs_snp_is_zero(id) ||
        !kbs_snp_tcb_read(report, KBS_SNP_AT_REPORTED_TCB, product, &tcb)) {
        return false;
    }
    kbs_hex_cstr(id, hwid, sizeof(hwid));
    if (turin) {
        (void)snprintf(fmc, sizeof(fmc), "fmcSPL=%02u&", tcb.part[KBS_SNP_TCB_FMC]);
    }
    (void)snprintf(ret, KBS_SNP_KDS_PATH_BYTES,
                   "/vcek/v1/%s/%s?%sblSPL=%02u&teeSPL=%02u&snpSPL=%02u&ucodeSPL=%02u",
                   kbs_snp_product_name(product), hwid, fmc, tcb.part[KBS_SNP_TCB_BOOTLOADER],
                   tcb.part[KBS_SNP_TCB_TEE], tcb.part[KBS_SNP_TCB_SNP],
                   tcb.part[KBS_SNP_TCB_MICROCODE]);
    return true;
}
