/*
 * AMD's certificates (VCEK and KDS specification, 57230; VLEK certificate definition, 58369): leaves
 * with what they say of chip and TCB, and the endorsements of a product that leaves are verified
 * with.
 */
#ifndef KBS_ATTEST_SNP_CERTS_H
#define KBS_ATTEST_SNP_CERTS_H

#include "attest/snp/tcb.h"

#define KBS_SNP_PRODUCT_NAME_BYTES 32
#define KBS_SNP_CSP_ID_BYTES 128

/* What a leaf's extensions say (OID arc 1.3.6.1.4.1.3704.1). */
struct kbs_snp_leaf_facts {
    enum kbs_snp_signer kind; /* VCEK: it has a HWID; VLEK: it has a CSP_ID */
    enum kbs_snp_product product;
    char product_name[KBS_SNP_PRODUCT_NAME_BYTES];
    struct kbs_snp_tcb tcb;
    uint8_t hwid[KBS_SNP_CHIP_ID_BYTES];
    size_t hwid_len;                   /* VCEK: 64, of Turin 8 */
    char csp_id[KBS_SNP_CSP_ID_BYTES]; /* VLEK */
};

/* A VCEK or VLEK; opaque (it holds OpenSSL's object). */
struct kbs_snp_leaf;

/*
 * Parses one DER certificate, nothing after it, with a P-384 key and all the extensions that its
 * product's leaves have, each once. KBS_INPUT otherwise. Nothing is verified. Returns owned.
 */
KBS_MUST_CHECK int kbs_snp_leaf_parse(struct kbs_span der, struct kbs_snp_leaf **ret,
                                      struct kbs_error *err);
void kbs_snp_leaf_free(struct kbs_snp_leaf *leaf); /* NULL is fine */
const struct kbs_snp_leaf_facts *kbs_snp_leaf_facts(const struct kbs_snp_leaf *leaf);

/* A DER INTEGER in shortest form, 0 to 255, of whatever length, and nothing after it. For fuzzing
 * and tests too. */
KBS_MUST_CHECK bool kbs_snp_der_u8(struct kbs_span der, uint8_t *ret);
/* The content of a DER IA5String or UTF8String of printable ASCII, nothing after it. */
KBS_MUST_CHECK bool kbs_snp_der_text(struct kbs_span der, struct kbs_span *ret);

/* True if the report's ECDSA signature (P-384, SHA-384) is this leaf's. */
bool kbs_snp_leaf_signed(const struct kbs_snp_leaf *leaf, const struct kbs_snp_report *r);

/* Endorsements: per product ARK, ASK, ASVK and revocation lists. Opaque. */
struct kbs_snp_endorsements;
KBS_MUST_CHECK int kbs_snp_endorsements_new(struct kbs_snp_endorsements **ret,
                                            struct kbs_error *err);
void kbs_snp_endorsements_free(struct kbs_snp_endorsements *e); /* NULL is fine */

enum kbs_snp_cert {
    KBS_SNP_CERT_ARK = 0, /* the root, self-signed */
    KBS_SNP_CERT_ASK,     /* signs VCEKs */
    KBS_SNP_CERT_ASVK,    /* signs VLEKs */
    KBS_SNP_CERT_COUNT
};
/* Adds one certificate (PEM or DER), once each. KBS_INPUT if it cannot be read, and for an ARK that
 * is not signed by itself. */
KBS_MUST_CHECK int kbs_snp_endorsements_add(struct kbs_snp_endorsements *e,
                                            enum kbs_snp_product product, enum kbs_snp_cert which,
                                            struct kbs_span cert, struct kbs_error *err);
/*
 * Adds a revocation list (DER or PEM) for the chains of that kind of signer. KBS_INPUT if it cannot
 * be read. Lists are asked for at every verification, and verified then.
 */
KBS_MUST_CHECK int kbs_snp_endorsements_add_crl(struct kbs_snp_endorsements *e,
                                                enum kbs_snp_product product,
                                                enum kbs_snp_signer signer, struct kbs_span crl,
                                                struct kbs_error *err);

/*
 * The same for a list that somebody fetched while the service runs, as DER: it is taken if the ARK
 * signed it and it is newer than those that are there. *ret_taken says whether it was; KBS_INPUT for
 * one that cannot be read or that the ARK did not sign.
 */
KBS_MUST_CHECK int kbs_snp_endorsements_renew_crl(struct kbs_snp_endorsements *e,
                                                  enum kbs_snp_product product,
                                                  enum kbs_snp_signer signer, struct kbs_span crl,
                                                  bool *ret_taken, struct kbs_error *err);

/* SHA-256 of a product's ARK's SubjectPublicKeyInfo; NULL if there is no ARK. Returns borrowed. */
const uint8_t *kbs_snp_endorsements_root(const struct kbs_snp_endorsements *e,
                                         enum kbs_snp_product product);

/* What came of walking a chain. Each text is static or NULL: nothing wrong. */
struct kbs_snp_chain {
    bool known;             /* there are an ARK and an issuer for this product and kind */
    const char *chain;      /* signatures, names, constraints */
    const char *time;       /* outside of a certificate's validity */
    const char *revocation; /* revoked, or a list that does not hold */
    bool crl_missing;       /* there is no list of the root's to ask */
};

/*
 * Walks leaf, ASK or ASVK, ARK at the time now_s, by all the lists there are. A list stays good for
 * crl_grace_s after its next update is due.
 */
KBS_MUST_CHECK int kbs_snp_chain_verify(const struct kbs_snp_endorsements *e,
                                        const struct kbs_snp_leaf *leaf, int64_t now_s,
                                        int64_t crl_grace_s, struct kbs_snp_chain *ret,
                                        struct kbs_error *err);

#endif
