/* SNP evidence as guests write it, for tests: the other direction of attest/snp/json.c. */
#ifndef KBS_TESTS_ATTEST_SNP_JSON_H
#define KBS_TESTS_ATTEST_SNP_JSON_H

#include "attest/snp/evidence.h"
#include "attest/snp/product.h"

enum snp_json_shape {
    SNP_JSON_FIRST, /* the sev crate before version 6: _reserved_*, current_build, no fmc */
    SNP_JSON_NEW,   /* from 6 on: fmc, key_info, cpuid_*, current */
    SNP_JSON_SVSM   /* COCONUT-SVSM: snp-report, certs-buf */
};

/* The evidence with a leaf of that type ("VCEK", "VLEK"), or none if `leaf` is empty. The product
 * tells the layout of TCBs. Returns owned. */
json_t *snp_json(const struct kbs_snp_report *r, enum kbs_snp_product product,
                 enum snp_json_shape shape, const char *leaf_type, struct kbs_span leaf);

#endif
