/* TCB versions: five counters in eight bytes, laid out differently per product. */
#ifndef KBS_ATTEST_SNP_TCB_H
#define KBS_ATTEST_SNP_TCB_H

#include "attest/snp/product.h"

enum kbs_snp_tcb_part {
    KBS_SNP_TCB_FMC = 0, /* Turin only */
    KBS_SNP_TCB_BOOTLOADER,
    KBS_SNP_TCB_TEE,
    KBS_SNP_TCB_SNP,
    KBS_SNP_TCB_MICROCODE,
    KBS_SNP_TCB_PARTS
};
const char *kbs_snp_tcb_part_name(enum kbs_snp_tcb_part part); /* "fmc", "bootloader", ... */

struct kbs_snp_tcb {
    uint8_t part[KBS_SNP_TCB_PARTS]; /* 0 for a part that the product has not */
};

/* The byte of a part in a product's layout; -1 if it has no such part. */
int kbs_snp_tcb_offset(enum kbs_snp_product product, enum kbs_snp_tcb_part part);

/* Reads the eight bytes at `at`. False if a byte that the layout reserves is not zero: then it is
 * not this layout, and no comparison would mean anything. */
KBS_MUST_CHECK bool kbs_snp_tcb_read(const struct kbs_snp_report *r, enum kbs_snp_at at,
                                     enum kbs_snp_product product, struct kbs_snp_tcb *ret);

/* The first part in which `have` is less than `least`; KBS_SNP_TCB_PARTS if there is none. Part by
 * part: as one number, a new microcode would make up for an old boot loader. */
enum kbs_snp_tcb_part kbs_snp_tcb_below(const struct kbs_snp_tcb *have,
                                        const struct kbs_snp_tcb *least);

#endif
