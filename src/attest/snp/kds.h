/*
 * AMD's key distribution service (VCEK and KDS specification, 57230, chapter 4): what has to be asked
 * for, as texts. Nothing is fetched here, and what somebody fetched is verified like anything else.
 */
#ifndef KBS_ATTEST_SNP_KDS_H
#define KBS_ATTEST_SNP_KDS_H

#include "attest/snp/certs.h"

#define KBS_SNP_KDS_PATH_BYTES 256

/*
 * The path and query of a report's VCEK: "/vcek/v1/Genoa/<hwid>?blSPL=..", the parts of its reported TCB
 * in decimal. False, and an empty text, for reports that have none there: signed by a VLEK, with a
 * masked CHIP_ID, of no known product, or with a TCB that has not the product's layout.
 */
bool kbs_snp_kds_path(const struct kbs_snp_report *report, char ret[KBS_SNP_KDS_PATH_BYTES]);

/* The names under which revocation lists are kept fresh: "crl/genoa" for the side of VCEKs,
 * "vlek-crl/genoa" for that of VLEKs. KBS_SNP_LISTS of them. Returns borrowed (static). */
#define KBS_SNP_LISTS 6
const char *kbs_snp_list_name(size_t i);
enum kbs_snp_product kbs_snp_list_product(size_t i);
enum kbs_snp_signer kbs_snp_list_signer(size_t i);

#endif
