/*
 * What verifying SNP evidence costs beside the signatures it rests on. Subject: kbs_snp_verify(),
 * from the report's bytes and the leaf's DER to verdict and claims, with 4096-bit CAs as AMD's and a
 * revocation list. Reference: OpenSSL alone verifying the same signatures with everything parsed
 * before: report by leaf, leaf by ASK, ASK by ARK, ARK by itself, the ARK's list. Both take turns in
 * windows of 100 ms, at least 15 pairs; printed is the median of the pairs' ratios, and both medians
 * per verification.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#include "tests/attest/snp_pki.h"

#define PAIRS 15
#define WINDOW_NS 100000000u

struct bench {
    struct snp_pki pki;
    struct kbs_snp_report report;
    struct kbs_buf leaf;
    struct kbs_snp_endorsements *known;
    struct kbs_snp_roots roots;
    struct kbs_snp_policy policy;
    struct kbs_expected expected;
    X509 *leaf_cert;
    X509_CRL *crl;
    uint8_t signature[160]; /* DER */
    size_t signature_len;
};

static void must(bool good, const char *what)
{
    if (!good) {
        (void)fprintf(stderr, "snp_verify: %s failed\n", what);
        exit(1);
    }
}

static uint64_t cpu_ns(void)
{
    struct timespec t;

    must(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0, "the clock");
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void report_make(struct bench *b)
{
    uint8_t *raw = b->report.raw;

    raw[KBS_SNP_AT_VERSION] = 3;
    raw[KBS_SNP_AT_POLICY + 2] = 3;
    raw[KBS_SNP_AT_SIG_ALGO] = 1;
    memset(raw + KBS_SNP_AT_REPORT_DATA, 0xd1, 64);
    raw[KBS_SNP_AT_CPUID_FAMILY] = 0x19;
    raw[KBS_SNP_AT_CPUID_MODEL] = 0x11;
    memset(raw + KBS_SNP_AT_CHIP_ID, 0xc1, KBS_SNP_CHIP_ID_BYTES);
    snp_pki_sign(&b->pki, &b->report);
}

static void reference_make(struct bench *b, struct kbs_span crl)
{
    const unsigned char *p = b->leaf.p;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    unsigned char *out = b->signature;

    b->leaf_cert = d2i_X509(NULL, &p, (long)b->leaf.len);
    p = crl.p;
    b->crl = d2i_X509_CRL(NULL, &p, (long)crl.len);
    must(sig != NULL && b->leaf_cert != NULL && b->crl != NULL &&
             ECDSA_SIG_set0(
                 sig,
                 BN_lebin2bn(b->report.raw + KBS_SNP_AT_SIGNATURE_R, KBS_SNP_SCALAR_BYTES, NULL),
                 BN_lebin2bn(b->report.raw + KBS_SNP_AT_SIGNATURE_S, KBS_SNP_SCALAR_BYTES, NULL)) ==
                 1,
         "the reference");
    b->signature_len = (size_t)i2d_ECDSA_SIG(sig, &out);
    ECDSA_SIG_free(sig);
}

static void bench_init(struct bench *b)
{
    struct snp_pki_leaf leaf = {.product_name = "Genoa-B1",
                                .hwid_len = KBS_SNP_CHIP_ID_BYTES,
                                .not_before = SNP_PKI_NOW - 100,
                                .not_after = SNP_PKI_NOW + 100};
    const struct snp_pki_crl list = {.this_update = SNP_PKI_NOW - 100,
                                     .next_update = SNP_PKI_NOW + 100};
    struct kbs_buf der = KBS_BUF(65536);
    struct kbs_error err = KBS_ERROR_NONE;

    *b = (struct bench){.leaf = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES)};
    memset(leaf.hwid, 0xc1, sizeof(leaf.hwid));
    snp_pki_init(&b->pki, KBS_SNP_PRODUCT_GENOA, SNP_PKI_BITS_AMD);
    snp_pki_pin(&b->pki, &b->roots);
    report_make(b);
    snp_pki_leaf(&b->pki, &leaf, &b->leaf);
    must(kbs_snp_endorsements_new(&b->known, &err) == 0, "endorsements");
    for (int i = 0; i < KBS_SNP_CERT_COUNT; i++) {
        snp_pki_cert(&b->pki, (enum kbs_snp_cert)i, &der);
        must(kbs_snp_endorsements_add(b->known, KBS_SNP_PRODUCT_GENOA, (enum kbs_snp_cert)i,
                                      kbs_buf_span(&der), &err) == 0,
             "a certificate");
        kbs_buf_clear(&der);
    }
    snp_pki_crl(&b->pki, &list, &der);
    must(kbs_snp_endorsements_add_crl(b->known, KBS_SNP_PRODUCT_GENOA, KBS_SNP_SIGNER_VCEK,
                                      kbs_buf_span(&der), &err) == 0,
         "a revocation list");
    b->policy = kbs_snp_policy_default();
    b->policy.roots = &b->roots;
    b->expected = (struct kbs_expected){
        .report_data = kbs_snp_bytes(&b->report, KBS_SNP_AT_REPORT_DATA, 64), .now_s = SNP_PKI_NOW};
    reference_make(b, kbs_buf_span(&der));
    kbs_buf_deinit(&der);
}

static void subject(struct bench *b)
{
    struct kbs_verdict v;
    struct kbs_error err = KBS_ERROR_NONE;

    must(kbs_snp_verify(&b->report, kbs_buf_span(&b->leaf), b->known, &b->policy, &b->expected, &v,
                        &err) == 0 &&
             kbs_verdict_binding(&v) == KBS_BINDING_FULL,
         "the verifier");
    kbs_verdict_deinit(&v);
}

static void reference(struct bench *b)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    must(ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, EVP_sha384(), NULL, b->pki.leaf_key) == 1 &&
             EVP_DigestVerify(ctx, b->signature, b->signature_len, b->report.raw,
                              KBS_SNP_SIGNED_BYTES) == 1 &&
             X509_verify(b->leaf_cert, b->pki.ask_key) == 1 &&
             X509_verify(b->pki.ask, b->pki.ark_key) == 1 &&
             X509_verify(b->pki.ark, b->pki.ark_key) == 1 &&
             X509_CRL_verify(b->crl, b->pki.ark_key) == 1,
         "a signature");
    EVP_MD_CTX_free(ctx);
}

/* Nanoseconds of CPU each takes, over a window. */
static double window(struct bench *b, void (*run)(struct bench *))
{
    uint64_t from = cpu_ns();
    uint64_t now = from;
    unsigned int n = 0;

    while (now - from < WINDOW_NS) {
        run(b);
        n++;
        now = cpu_ns();
    }
    return (double)(now - from) / n;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

int main(void)
{
    static struct bench b;
    double ours[PAIRS];
    double bare[PAIRS];
    double ratio[PAIRS];

    bench_init(&b);
    for (int i = 0; i < PAIRS; i++) {
        if (i % 2 == 0) {
            ours[i] = window(&b, subject);
        }
        bare[i] = window(&b, reference);
        if (i % 2 != 0) {
            ours[i] = window(&b, subject);
        }
        ratio[i] = ours[i] / bare[i];
    }
    qsort(ratio, PAIRS, sizeof(*ratio), by_size);
    qsort(ours, PAIRS, sizeof(*ours), by_size);
    qsort(bare, PAIRS, sizeof(*bare), by_size);
    (void)printf("snp        %.2f x   (%.2f to %.2f, %d pairs)   %.0f us a verification, its "
                 "signatures alone %.0f us\n",
                 ratio[PAIRS / 2], ratio[0], ratio[PAIRS - 1], PAIRS, ours[PAIRS / 2] / 1000,
                 bare[PAIRS / 2] / 1000);
    X509_free(b.leaf_cert);
    X509_CRL_free(b.crl);
    kbs_snp_endorsements_free(b.known);
    kbs_buf_deinit(&b.leaf);
    snp_pki_deinit(&b.pki);
    return 0;
}
