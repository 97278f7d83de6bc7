/* Made fresh per run: no key of it is ever on a disk. */
#include "tests/attest/snp_pki.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#define ARC "1.3.6.1.4.1.3704.1."

static void must(bool good, const char *what)
{
    if (!good) {
        (void)fprintf(stderr, "snp_pki: %s failed\n", what);
        abort();
    }
}

static void name_set(X509_NAME *name, const char *cn)
{
    must(X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC,
                                    (const unsigned char *)"kbs-hsm test PKI", -1, -1, 0) == 1 &&
             X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1,
                                        0) == 1,
         "a name");
}

static X509 *cert_new(const char *subject, const X509 *issuer, EVP_PKEY *key, long serial,
                      int64_t not_before, int64_t not_after)
{
    X509 *cert = X509_new();

    must(cert != NULL && X509_set_version(cert, 2) == 1 &&
             ASN1_INTEGER_set(X509_get_serialNumber(cert), serial) == 1 &&
             ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)not_before) != NULL &&
             ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)not_after) != NULL &&
             X509_set_pubkey(cert, key) == 1,
         "a certificate");
    name_set(X509_get_subject_name(cert), subject);
    must(X509_set_issuer_name(cert, X509_get_subject_name(issuer != NULL ? issuer : cert)) == 1,
         "an issuer");
    return cert;
}

static void extend(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    must(extension != NULL && X509_add_ext(cert, extension, -1) == 1, "an extension");
    X509_EXTENSION_free(extension);
}

/* RSA-PSS with SHA-384 and a salt of 48 bytes, as AMD signs. */
static EVP_MD_CTX *pss_new(EVP_PKEY *key)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pkey = NULL;

    must(ctx != NULL && EVP_DigestSignInit(ctx, &pkey, EVP_sha384(), NULL, key) == 1 &&
             EVP_PKEY_CTX_set_rsa_padding(pkey, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(pkey, 48) == 1,
         "PSS");
    return ctx;
}

static void cert_sign(X509 *cert, EVP_PKEY *key)
{
    EVP_MD_CTX *ctx = pss_new(key);

    must(X509_sign_ctx(cert, ctx) > 0, "signing");
    EVP_MD_CTX_free(ctx);
}

void snp_pki_init(struct snp_pki *pki, enum kbs_snp_product product, unsigned int ca_bits)
{
    *pki = (struct snp_pki){.product = product,
                            .ark_key = EVP_RSA_gen(ca_bits),
                            .ask_key = EVP_RSA_gen(ca_bits),
                            .asvk_key = EVP_RSA_gen(ca_bits),
                            .leaf_key = EVP_EC_gen("P-384")};
    must(pki->ark_key != NULL && pki->ask_key != NULL && pki->asvk_key != NULL &&
             pki->leaf_key != NULL,
         "making keys");
    struct {
        X509 **cert;
        EVP_PKEY *key;
        const char *name;
        long serial;
    } cas[] = {
        {&pki->ark, pki->ark_key, "ARK", 1},
        {&pki->ask, pki->ask_key, "SEV", SNP_PKI_ASK_SERIAL},
        {&pki->asvk, pki->asvk_key, "SEV-VLEK", SNP_PKI_ASVK_SERIAL},
    };
    for (size_t i = 0; i < sizeof(cas) / sizeof(cas[0]); i++) {
        char cn[64];

        (void)snprintf(cn, sizeof(cn), "%s-%s", cas[i].name, kbs_snp_product_name(product));
        *cas[i].cert = cert_new(cn, i == 0 ? NULL : pki->ark, cas[i].key, cas[i].serial,
                                SNP_PKI_NOW - SNP_PKI_YEAR, SNP_PKI_NOW + 20 * SNP_PKI_YEAR);
        extend(*cas[i].cert, NID_basic_constraints,
               i == 0 ? "critical,CA:TRUE" : "critical,CA:TRUE,pathlen:0");
        extend(*cas[i].cert, NID_key_usage, "critical,keyCertSign,cRLSign");
        cert_sign(*cas[i].cert, pki->ark_key);
    }
}

void snp_pki_deinit(struct snp_pki *pki)
{
    EVP_PKEY_free(pki->ark_key);
    EVP_PKEY_free(pki->ask_key);
    EVP_PKEY_free(pki->asvk_key);
    EVP_PKEY_free(pki->leaf_key);
    X509_free(pki->ark);
    X509_free(pki->ask);
    X509_free(pki->asvk);
    *pki = (struct snp_pki){.product = KBS_SNP_PRODUCT_NONE};
}

void snp_pki_pin(const struct snp_pki *pki, struct kbs_snp_roots *roots)
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(pki->ark), &der);

    must(len > 0, "a public key");
    kbs_sha256(kbs_span(der, (size_t)len), roots->ark[pki->product]);
    OPENSSL_free(der);
}

static void cert_put(X509 *cert, struct kbs_buf *out)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);

    must(len > 0, "encoding");
    kbs_buf_put(out, der, (size_t)len);
    OPENSSL_free(der);
}

void snp_pki_cert(const struct snp_pki *pki, enum kbs_snp_cert which, struct kbs_buf *der)
{
    X509 *certs[KBS_SNP_CERT_COUNT] = {pki->ark, pki->ask, pki->asvk};

    cert_put(certs[which], der);
}

static void extension_put(X509 *cert, const char *oid, const uint8_t *p, size_t len)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    ASN1_OCTET_STRING *data = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension = NULL;

    must(object != NULL && data != NULL && ASN1_OCTET_STRING_set(data, p, (int)len) == 1, "data");
    extension = X509_EXTENSION_create_by_OBJ(NULL, object, 0, data);
    must(extension != NULL && X509_add_ext(cert, extension, -1) == 1, "an extension");
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(data);
    ASN1_OBJECT_free(object);
}

static void element_put(X509 *cert, const char *oid, uint8_t tag, const void *p, size_t len)
{
    uint8_t der[2 + 127];

    must(len <= 127, "a short element");
    der[0] = tag;
    der[1] = (uint8_t)len;
    memcpy(der + 2, p, len);
    extension_put(cert, oid, der, len + 2);
}

static void counter_put(X509 *cert, const char *oid, uint8_t value, int bytes)
{
    uint8_t n[8] = {0};
    size_t len = value < 0x80 ? 1 : 2;

    if (bytes > 0) {
        len = (size_t)bytes;
    }
    n[len - 1] = value;
    element_put(cert, oid, 0x02, n, len);
}

void snp_pki_leaf(const struct snp_pki *pki, const struct snp_pki_leaf *leaf, struct kbs_buf *der)
{
    static const struct {
        const char *oid;
        enum kbs_snp_tcb_part part;
    } counters[] = {
        {ARC "3.1", KBS_SNP_TCB_BOOTLOADER}, {ARC "3.2", KBS_SNP_TCB_TEE},
        {ARC "3.3", KBS_SNP_TCB_SNP},        {ARC "3.8", KBS_SNP_TCB_MICROCODE},
        {ARC "3.9", KBS_SNP_TCB_FMC},
    };
    X509 *cert = cert_new(leaf->vlek ? "SEV-VLEK" : "SEV-VCEK", leaf->vlek ? pki->asvk : pki->ask,
                          pki->leaf_key, leaf->serial, leaf->not_before, leaf->not_after);
    uint8_t one = 1;

    element_put(cert, ARC "1", 0x02, &one, 1);
    if (leaf->product_name != NULL) {
        element_put(cert, ARC "2", 0x16, leaf->product_name, strlen(leaf->product_name));
    }
    for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
        if (kbs_snp_tcb_offset(pki->product, counters[i].part) >= 0) {
            counter_put(cert, counters[i].oid, leaf->tcb.part[counters[i].part],
                        leaf->counter_bytes);
        }
    }
    if (leaf->hwid_len > 0 && leaf->hwid_wrapped) {
        element_put(cert, ARC "4", 0x04, leaf->hwid, leaf->hwid_len);
    } else if (leaf->hwid_len > 0) {
        extension_put(cert, ARC "4", leaf->hwid, leaf->hwid_len);
    }
    if (leaf->csp_id != NULL) {
        element_put(cert, ARC "5", 0x16, leaf->csp_id, strlen(leaf->csp_id));
    }
    cert_sign(cert, leaf->vlek ? pki->asvk_key : pki->ask_key);
    cert_put(cert, der);
    X509_free(cert);
}

void snp_pki_crl(const struct snp_pki *pki, const struct snp_pki_crl *list, struct kbs_buf *der)
{
    X509_CRL *crl = X509_CRL_new();
    EVP_PKEY *key = list->forger != NULL ? list->forger
                    : list->by_ask       ? pki->ask_key
                                         : pki->ark_key;
    ASN1_TIME *from = ASN1_TIME_set(NULL, (time_t)list->this_update);
    ASN1_TIME *to = ASN1_TIME_set(NULL, (time_t)list->next_update);
    unsigned char *out = NULL;

    must(crl != NULL && from != NULL && to != NULL && X509_CRL_set_version(crl, 1) == 1 &&
             X509_CRL_set_issuer_name(
                 crl, X509_get_subject_name(list->by_ask ? pki->ask : pki->ark)) == 1 &&
             X509_CRL_set1_lastUpdate(crl, from) == 1 && X509_CRL_set1_nextUpdate(crl, to) == 1,
         "a revocation list");
    for (size_t i = 0; i < sizeof(list->revoked) / sizeof(list->revoked[0]); i++) {
        X509_REVOKED *revoked = X509_REVOKED_new();
        ASN1_INTEGER *serial = ASN1_INTEGER_new();

        must(revoked != NULL && serial != NULL, "a revocation");
        if (list->revoked[i] != 0) {
            must(ASN1_INTEGER_set(serial, list->revoked[i]) == 1 &&
                     X509_REVOKED_set_serialNumber(revoked, serial) == 1 &&
                     X509_REVOKED_set_revocationDate(revoked, from) == 1 &&
                     X509_CRL_add0_revoked(crl, revoked) == 1,
                 "a revocation");
            revoked = NULL;
        }
        X509_REVOKED_free(revoked);
        ASN1_INTEGER_free(serial);
    }
    EVP_MD_CTX *ctx = pss_new(key);
    must(X509_CRL_sign_ctx(crl, ctx) > 0, "signing a revocation list");
    int len = i2d_X509_CRL(crl, &out);
    must(len > 0, "encoding a revocation list");
    kbs_buf_put(der, out, (size_t)len);
    OPENSSL_free(out);
    EVP_MD_CTX_free(ctx);
    ASN1_TIME_free(from);
    ASN1_TIME_free(to);
    X509_CRL_free(crl);
}

void snp_pki_sign(const struct snp_pki *pki, struct kbs_snp_report *report)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t der[160];
    size_t len = sizeof(der);
    const unsigned char *p = der;

    must(ctx != NULL && EVP_DigestSignInit(ctx, NULL, EVP_sha384(), NULL, pki->leaf_key) == 1 &&
             EVP_DigestSign(ctx, der, &len, report->raw, KBS_SNP_SIGNED_BYTES) == 1,
         "signing a report");
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)len);
    memset(report->raw + KBS_SNP_AT_SIGNATURE_R, 0, KBS_SNP_REPORT_BYTES - KBS_SNP_AT_SIGNATURE_R);
    must(sig != NULL &&
             BN_bn2lebinpad(ECDSA_SIG_get0_r(sig), report->raw + KBS_SNP_AT_SIGNATURE_R,
                            KBS_SNP_SCALAR_BYTES) == KBS_SNP_SCALAR_BYTES &&
             BN_bn2lebinpad(ECDSA_SIG_get0_s(sig), report->raw + KBS_SNP_AT_SIGNATURE_S,
                            KBS_SNP_SCALAR_BYTES) == KBS_SNP_SCALAR_BYTES,
         "a signature's form");
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
}
