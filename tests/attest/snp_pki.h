/*
 * A PKI of AMD's shape for tests: ARK, ASK, ASVK (RSA, PSS), VCEKs and VLEKs with AMD's extensions,
 * revocation lists, and the signature of any report. Linked by tests only and never installed: what
 * it signs verifies only under a policy that names its roots.
 */
#ifndef KBS_TESTS_ATTEST_SNP_PKI_H
#define KBS_TESTS_ATTEST_SNP_PKI_H

#include <openssl/x509.h>

#include "attest/snp/verify.h"

#define SNP_PKI_NOW INT64_C(1750000000) /* 2025-06-15: what it makes is valid around then */
#define SNP_PKI_YEAR INT64_C(31536000)

struct snp_pki {
    enum kbs_snp_product product;
    EVP_PKEY *ark_key;
    EVP_PKEY *ask_key;
    EVP_PKEY *asvk_key;
    EVP_PKEY *leaf_key;
    X509 *ark;
    X509 *ask;
    X509 *asvk;
};
#define SNP_PKI_BITS \
    2048u /* of the CAs' keys: what the verifier takes at least, and quick to make */
#define SNP_PKI_BITS_AMD 4096u
/* Ends the process with a message if OpenSSL fails, as do all of these. */
void snp_pki_init(struct snp_pki *pki, enum kbs_snp_product product, unsigned int ca_bits);
void snp_pki_deinit(struct snp_pki *pki);

/* Pins this PKI's ARK for its product; the other products of `roots` stay as they are. */
void snp_pki_pin(const struct snp_pki *pki, struct kbs_snp_roots *roots);
/* A certificate of its own as DER. */
void snp_pki_cert(const struct snp_pki *pki, enum kbs_snp_cert which, struct kbs_buf *der);

/* What a leaf says. */
struct snp_pki_leaf {
    bool vlek;
    const char *product_name; /* NULL: no such extension */
    struct kbs_snp_tcb tcb;
    int counter_bytes; /* of the counters' INTEGERs if not 0, with leading zeros: not DER */
    uint8_t hwid[KBS_SNP_CHIP_ID_BYTES];
    size_t hwid_len;    /* 0: no such extension */
    bool hwid_wrapped;  /* in an OCTET STRING, as some are */
    const char *csp_id; /* NULL: no such extension */
    int64_t not_before;
    int64_t not_after;
    long serial;
};
/* The leaf of the PKI's leaf key, DER, signed by ASK or ASVK. */
void snp_pki_leaf(const struct snp_pki *pki, const struct snp_pki_leaf *leaf, struct kbs_buf *der);

/* A revocation list. */
struct snp_pki_crl {
    bool by_ask;      /* signed by the ASK; else by the ARK */
    EVP_PKEY *forger; /* signs instead, in the other's name; NULL: nobody */
    long revoked[2];  /* serial numbers; 0: none */
    int64_t this_update;
    int64_t next_update;
};
#define SNP_PKI_ASK_SERIAL 2L
#define SNP_PKI_ASVK_SERIAL 3L
void snp_pki_crl(const struct snp_pki *pki, const struct snp_pki_crl *list, struct kbs_buf *der);

/* Signs a report with the leaf key, in AMD's layout. */
void snp_pki_sign(const struct snp_pki *pki, struct kbs_snp_report *report);

#endif
