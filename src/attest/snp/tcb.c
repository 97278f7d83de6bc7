/*
 * Layouts of TCB_VERSION (56860, "TCB_VERSION"): Milan and Genoa have boot loader, TEE, four
 * reserved bytes, SNP, microcode; Turin has FMC, boot loader, TEE, SNP, three reserved bytes,
 * microcode.
 */
#include "attest/snp/tcb.h"

static const int8_t first[KBS_SNP_TCB_PARTS] = {-1, 0, 1, 6, 7};
static const int8_t turin[KBS_SNP_TCB_PARTS] = {0, 1, 2, 3, 7};

#define TCB_BYTES 8

const char *kbs_snp_tcb_part_name(enum kbs_snp_tcb_part part)
{
    static const char *const names[KBS_SNP_TCB_PARTS] = {"fmc", "bootloader", "tee", "snp",
                                                         "microcode"};

    return (unsigned int)part < KBS_SNP_TCB_PARTS ? names[part] : "unknown";
}

int kbs_snp_tcb_offset(enum kbs_snp_product product, enum kbs_snp_tcb_part part)
{
    return product == KBS_SNP_PRODUCT_TURIN ? turin[part] : first[part];
}

bool kbs_snp_tcb_read(const struct kbs_snp_report *r, enum kbs_snp_at at,
                      enum kbs_snp_product product, struct kbs_snp_tcb *ret)
{
    uint8_t rest[TCB_BYTES];

    *ret = (struct kbs_snp_tcb){.part = {0}};
    memcpy(rest, r->raw + at, sizeof(rest));
    for (int part = 0; part < KBS_SNP_TCB_PARTS; part++) {
        int offset = kbs_snp_tcb_offset(product, (enum kbs_snp_tcb_part)part);

        if (offset >= 0) {
            ret->part[part] = rest[offset];
            rest[offset] = 0;
        }
    }
    return kbs_snp_is_zero(kbs_span(rest, sizeof(rest)));
}

enum kbs_snp_tcb_part kbs_snp_tcb_below(const struct kbs_snp_tcb *have,
                                        const struct kbs_snp_tcb *least)
{
    int part = 0;

    while (part < KBS_SNP_TCB_PARTS && have->part[part] >= least->part[part]) {
        part++;
    }
    return (enum kbs_snp_tcb_part)part;
}
