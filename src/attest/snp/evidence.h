/*
 * SNP evidence as guests send it. Two shapes:
 *
 *   CoCo            {"attestation_report": <the sev crate's struct as JSON>,
 *                    "cert_chain": null | [{"cert_type", "data": [bytes]}]}
 *   COCONUT-SVSM    {"snp-report": <1184 bytes>, "certs-buf": <certificate table, may be empty>},
 *                   bytes as standard base64 or as an array of numbers
 *
 * CoCo's report is written back to the 1184 bytes that were signed. Of the certificates only the
 * leaf (VCEK or VLEK) is kept: whose word AMD's CAs are is not for the evidence to say.
 */
#ifndef KBS_ATTEST_SNP_EVIDENCE_H
#define KBS_ATTEST_SNP_EVIDENCE_H

#include "attest/snp/report.h"
#include "base/buf.h"
#include "jose/read/json.h"

struct kbs_snp_evidence {
    struct kbs_snp_report report;
    struct kbs_buf leaf; /* DER as sent; empty: none came with it */
    bool svsm;           /* COCONUT-SVSM's shape */
};
void kbs_snp_evidence_deinit(struct kbs_snp_evidence *e); /* safe twice, and on a zeroed one */

/* KBS_INPUT if it is not one of the shapes, exactly. Nothing to free after a failure. */
KBS_MUST_CHECK int kbs_snp_evidence_parse(const json_t *evidence, struct kbs_snp_evidence *ret,
                                          struct kbs_error *err);

/*
 * The leaf of a certificate table (GHCB, 56421, SNP Extended Guest Request): entries of GUID, offset
 * and length, ended by one of zeros. Appends it to `leaf`; nothing if there is none. KBS_INPUT for
 * entries that lie outside of the table, and for more than one leaf.
 */
KBS_MUST_CHECK int kbs_snp_cert_table_leaf(struct kbs_span table, struct kbs_buf *leaf,
                                           struct kbs_error *err);

#endif
