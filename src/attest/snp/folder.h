/*
 * The operator's folder of AMD's certificates, which works without a network:
 *
 *   FOLDER/{milan,genoa,turin}/ark.pem ask.pem asvk.pem     AMD's, as the KDS gives them
 *                              crl.der vlek-crl.der         the ARK's lists for either side
 *                              vcek/HWID-TCB.der            leaves, for evidence that comes without
 *
 * HWID and TCB are lower-case hex of the report's CHIP_ID (of Turin its first 8 bytes) and of its
 * eight bytes of reported TCB. All files but ark.pem are optional; a product without a folder is one
 * whose reports do not verify.
 */
#ifndef KBS_ATTEST_SNP_FOLDER_H
#define KBS_ATTEST_SNP_FOLDER_H

#include "attest/snp/verify.h"

/* Reads the certificates and lists of all products. KBS_INPUT if a file is there and is no good,
 * naming it. Returns owned. */
KBS_MUST_CHECK int kbs_snp_folder_read(const char *folder, struct kbs_snp_endorsements **ret,
                                       struct kbs_error *err);

/* kbs_snp_find_leaf_fn; `where` is the folder's path (const char *). */
KBS_MUST_CHECK int kbs_snp_folder_find(const void *where, const struct kbs_snp_report *report,
                                       struct kbs_buf *leaf, struct kbs_error *err);

/* The same in memory: what a judge is handed of the folder, under the names above. Opaque. */
struct kbs_snp_shelf;
KBS_MUST_CHECK int kbs_snp_shelf_new(struct kbs_snp_shelf **ret, struct kbs_error *err);
void kbs_snp_shelf_free(struct kbs_snp_shelf *shelf); /* NULL is fine */

/* Adds a file, whose name begins with its product ("genoa/ark.pem"). KBS_INPUT, naming it, if the
 * folder has no file of that name or it is no good; leaves are looked at when they are used. */
KBS_MUST_CHECK int kbs_snp_shelf_add(struct kbs_snp_shelf *shelf, struct kbs_span name,
                                     struct kbs_span content, struct kbs_error *err);

/* A list of kds.h by its name; as kbs_snp_endorsements_renew_crl(). */
KBS_MUST_CHECK int kbs_snp_shelf_renew(struct kbs_snp_shelf *shelf, const char *name,
                                       struct kbs_span crl, bool *ret_taken, struct kbs_error *err);

/* Returns borrowed. */
const struct kbs_snp_endorsements *kbs_snp_shelf_endorsements(const struct kbs_snp_shelf *shelf);

/* kbs_snp_find_leaf_fn; `where` is the shelf. */
KBS_MUST_CHECK int kbs_snp_shelf_find(const void *where, const struct kbs_snp_report *report,
                                      struct kbs_buf *leaf, struct kbs_error *err);

#endif
