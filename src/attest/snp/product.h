/* AMD's SNP products: which one a report or a certificate is of, and AMD's roots of trust. */
#ifndef KBS_ATTEST_SNP_PRODUCT_H
#define KBS_ATTEST_SNP_PRODUCT_H

#include "attest/snp/report.h"
#include "base/digest.h"

enum kbs_snp_product {
    KBS_SNP_PRODUCT_NONE = 0,
    KBS_SNP_PRODUCT_MILAN,
    KBS_SNP_PRODUCT_GENOA, /* Siena and Bergamo too: they have Genoa's certificates */
    KBS_SNP_PRODUCT_TURIN,
    KBS_SNP_PRODUCT_COUNT
};

const char *kbs_snp_product_name(enum kbs_snp_product product);   /* "Milan"; as AMD spells it */
const char *kbs_snp_product_folder(enum kbs_snp_product product); /* "milan" */

/* From CPUID family and model; KBS_SNP_PRODUCT_NONE for reports before version 3, which have none,
 * and for processors that are not known here. */
enum kbs_snp_product kbs_snp_product_of_report(const struct kbs_snp_report *r);
/* From a certificate's product name: "Milan", or "Milan-B0" with a stepping. */
enum kbs_snp_product kbs_snp_product_of_name(struct kbs_span name);

/* Roots of trust: SHA-256 of the SubjectPublicKeyInfo of each product's ARK. */
struct kbs_snp_roots {
    uint8_t ark[KBS_SNP_PRODUCT_COUNT][KBS_SHA256_BYTES];
};
/* AMD's. Returns borrowed (static). */
const struct kbs_snp_roots *kbs_snp_roots_amd(void);

#endif
