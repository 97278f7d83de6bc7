/* The judge's SNP verifier, as CONFIG_JUDGE describes it. */
#ifndef KBS_JUDGE_SNP_H
#define KBS_JUDGE_SNP_H

#include "attest/snp/verify.h"
#include "wire/message.h"

struct kbs_judge_snp;

/*
 * Makes it of the configuration, which it borrows nothing of. KBS_INPUT for what no configuration
 * can hold, for certificates that are none, and for another root than AMD's in production. Returns
 * owned; *ret is NULL if no SNP is configured.
 */
KBS_MUST_CHECK int kbs_judge_snp_new(const struct kbs_wire_config_judge *config,
                                     struct kbs_judge_snp **ret, struct kbs_error *err);
void kbs_judge_snp_free(struct kbs_judge_snp *snp); /* NULL is fine */

/* What appraises evidence with it. */
struct kbs_verifier kbs_judge_snp_verifier(const struct kbs_judge_snp *snp);

#endif
