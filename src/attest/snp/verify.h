/*
 * The SNP verifier: a report, the certificate of the key that signed it, AMD's endorsements and the
 * operator's policy in, a verdict out. docs/protocol/attestation-snp.md lists the checks.
 */
#ifndef KBS_ATTEST_SNP_VERIFY_H
#define KBS_ATTEST_SNP_VERIFY_H

#include "attest/snp/certs.h"
#include "attest/snp/evidence.h"
#include "attest/verdict.h"

/* The least that is accepted of a product; zeros ask nothing. */
struct kbs_snp_floor {
    struct kbs_snp_tcb tcb; /* of the reported, the committed and the launch TCB */
    uint8_t firmware[3];    /* committed: major, minor, build */
};

struct kbs_snp_policy {
    /*
     * NULL: AMD's roots. Other roots are for test PKIs: no configuration of the production profile
     * can set this, and claims made under them say so ("roots": "test").
     */
    const struct kbs_snp_roots *roots;
    unsigned int products; /* bit 1 << product for each that is accepted */
    unsigned int signers;  /* bit 1 << enum kbs_snp_signer likewise */
    uint32_t version_min;  /* of the report's format, 2 to 5 */
    uint32_t vmpl;         /* the one level that may attest; 0 is the most privileged */
    struct kbs_snp_floor floor[KBS_SNP_PRODUCT_COUNT];
    const uint8_t (*chips)[KBS_SNP_CHIP_ID_BYTES]; /* those that may sign; none listed: any */
    size_t chip_count;
    const char *const *providers; /* CSP_IDs whose VLEKs may sign; none listed: none */
    size_t provider_count;
    uint64_t platform_required; /* KBS_SNP_PLATFORM_* */
    uint64_t platform_forbidden;
    uint64_t guest_required; /* KBS_SNP_POLICY_* */
    uint64_t guest_forbidden;
    int64_t crl_grace_s;         /* a list is good for so long after its update was due */
    bool allow_no_crl;           /* where there is no revocation list */
    bool allow_masked_chip_id;   /* a VCEK's report that does not tell its chip */
    bool allow_unexplained_data; /* HOST_DATA that no init-data was sent for */
};

/*
 * What is asked where an operator has asked nothing: report version 3 on, VMPL 0, Genoa and Turin
 * (Milan has to be named: keys of its chips were extracted), a revocation list, no VLEKs (there is no
 * provider to take them from), no unexplained HOST_DATA, no TCB floor.
 */
struct kbs_snp_policy kbs_snp_policy_default(void);

/* A bit of PLAT_INFO or POLICY by the name that configurations have for it ("alias_check",
 * "single_socket"); 0 if it is not known. */
uint64_t kbs_snp_platform_bit(struct kbs_span name);
uint64_t kbs_snp_guest_bit(struct kbs_span name);

/*
 * Verifies. `leaf` is DER of a VCEK or VLEK, from the evidence or from the operator's folder; it may
 * be empty, then the check `certificate` fails. *ret is initialised here and the caller's to
 * deinitialise. 0 whatever the verdict is; -1 only with KBS_INTERNAL.
 */
KBS_MUST_CHECK int kbs_snp_verify(const struct kbs_snp_report *report, struct kbs_span leaf,
                                  const struct kbs_snp_endorsements *endorsements,
                                  const struct kbs_snp_policy *policy,
                                  const struct kbs_expected *expected, struct kbs_verdict *ret,
                                  struct kbs_error *err);

/* Finds the VCEK of a report that came without one: appends DER, or nothing if it has none. */
typedef int kbs_snp_find_leaf_fn(const void *where, const struct kbs_snp_report *report,
                                 struct kbs_buf *leaf, struct kbs_error *err);

/* What a verifier of SNP evidence works with, all borrowed. */
struct kbs_snp_verifier {
    const struct kbs_snp_endorsements *endorsements;
    const struct kbs_snp_policy *policy;
    kbs_snp_find_leaf_fn *find_leaf; /* NULL: only leaves that come with the evidence */
    const void *where;
    bool kds; /* a verdict without a leaf says where AMD has it */
};
/*
 * The whole of it, with the signature that verifiers of all kinds have: parse, find the leaf,
 * verify. `verifier` is a struct kbs_snp_verifier. KBS_INPUT if the evidence does not parse, and
 * *ret is empty after a failure. A leaf that came with the evidence is taken first, then the folder's,
 * then expected->endorsement.
 */
KBS_MUST_CHECK int kbs_snp_appraise(const void *verifier, const json_t *evidence,
                                    const struct kbs_expected *expected, struct kbs_verdict *ret,
                                    struct kbs_error *err);

/* What claims are made of. Borrowed. */
struct kbs_snp_claims_in {
    const struct kbs_snp_report *report;
    const struct kbs_snp_leaf_facts *leaf; /* NULL: there is none that could be read */
    enum kbs_snp_product product;          /* NONE: not known */
    enum kbs_init_data init_data;
    bool test_roots;
};
/*
 * The claims of a report, by the names CoCo's verifier uses and, for what it does not tell, by our
 * own (docs/protocol/attestation-snp.md). Returns owned, NULL if out of memory.
 */
json_t *kbs_snp_claims(const struct kbs_snp_claims_in *in);

#endif
