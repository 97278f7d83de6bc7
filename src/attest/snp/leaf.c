/*
 * A leaf says three things in AMD's own extensions: which chip (HWID) or provider (CSP_ID), which
 * TCB (one counter per extension), which product. OpenSSL hands out their bytes; they are read here
 * with a DER reader of a few lines, because what has to be read is an INTEGER below 256 and a short
 * text. Others took the INTEGER's last byte, or required three bytes: a counter from 128 on has four
 * (02 02 00 d9).
 *
 * What kind of leaf it is follows from which of HWID and CSP_ID it has, exactly one of them, never
 * from its name: a name is not what the TCB was derived with.
 */
#include "attest/snp/leaf.h"

#include <stdlib.h>

#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>

#define ARC "1.3.6.1.4.1.3704.1."

/* Which extension has which counter. */
static const struct {
    const char *oid;
    enum kbs_snp_tcb_part part;
} counters[] = {
    {ARC "3.1", KBS_SNP_TCB_BOOTLOADER}, {ARC "3.2", KBS_SNP_TCB_TEE}, {ARC "3.3", KBS_SNP_TCB_SNP},
    {ARC "3.8", KBS_SNP_TCB_MICROCODE},  {ARC "3.9", KBS_SNP_TCB_FMC},
};

#define OID_PRODUCT ARC "2"
#define OID_HWID ARC "4"
#define OID_CSP_ID ARC "5"

#define DER_INTEGER 0x02
#define DER_OCTET_STRING 0x04
#define DER_UTF8_STRING 0x0c
#define DER_IA5_STRING 0x16

/* One element with a length below 128, and nothing after it. */
static bool der_content(struct kbs_span der, uint8_t tag, struct kbs_span *ret)
{
    if (der.len < 2 || der.p[0] != tag || der.p[1] > 0x7f || der.len != 2u + der.p[1]) {
        return false;
    }
    *ret = kbs_span_skip(der, 2);
    return true;
}

bool kbs_snp_der_u8(struct kbs_span der, uint8_t *ret)
{
    struct kbs_span n;

    *ret = 0;
    if (!der_content(der, DER_INTEGER, &n) || n.len == 0 || n.len > 2) {
        return false;
    }
    if (n.len == 2) {
        /* A leading zero stands there to keep 128 and more from being negative, and only then. */
        if (n.p[0] != 0 || n.p[1] < 0x80) {
            return false;
        }
        *ret = n.p[1];
        return true;
    }
    *ret = n.p[0];
    return n.p[0] < 0x80;
}

bool kbs_snp_der_text(struct kbs_span der, struct kbs_span *ret)
{
    if (!der_content(der, DER_IA5_STRING, ret) && !der_content(der, DER_UTF8_STRING, ret)) {
        return false;
    }
    for (size_t i = 0; i < ret->len; i++) {
        if (ret->p[i] < 0x20 || ret->p[i] > 0x7e) {
            return false;
        }
    }
    return ret->len > 0;
}

/* The bytes of the one extension of that OID. 1 found, 0 absent, -1 twice. */
static int extension(const X509 *cert, const char *oid, struct kbs_span *ret)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    int at = object != NULL ? X509_get_ext_by_OBJ(cert, object, -1) : -1;
    int again = at >= 0 ? X509_get_ext_by_OBJ(cert, object, at) : -1;

    ASN1_OBJECT_free(object);
    *ret = KBS_SPAN_EMPTY;
    if (at < 0) {
        return 0;
    }
    if (again >= 0) {
        return -1;
    }
    const ASN1_OCTET_STRING *data = X509_EXTENSION_get_data(X509_get_ext(cert, at));
    *ret = kbs_span(ASN1_STRING_get0_data(data), (size_t)ASN1_STRING_length(data));
    return 1;
}

static int read_product(const X509 *cert, struct kbs_snp_leaf_facts *f, struct kbs_error *err)
{
    struct kbs_span der;
    struct kbs_span name;

    if (extension(cert, OID_PRODUCT, &der) != 1 || !kbs_snp_der_text(der, &name) ||
        !kbs_span_to_cstr(name, f->product_name, sizeof(f->product_name))) {
        return kbs_fail(err, KBS_INPUT, "it names no product");
    }
    f->product = kbs_snp_product_of_name(name);
    if (f->product == KBS_SNP_PRODUCT_NONE) {
        return kbs_fail(err, KBS_INPUT, "its product \"%s\" is not known here", f->product_name);
    }
    return 0;
}

static int read_tcb(const X509 *cert, struct kbs_snp_leaf_facts *f, struct kbs_error *err)
{
    for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
        enum kbs_snp_tcb_part part = counters[i].part;
        struct kbs_span der;
        int found = extension(cert, counters[i].oid, &der);
        bool wanted = kbs_snp_tcb_offset(f->product, part) >= 0;

        if (found == 0 && !wanted) {
            continue;
        }
        if (found != 1 || !wanted || !kbs_snp_der_u8(der, &f->tcb.part[part])) {
            return kbs_fail(err, KBS_INPUT, "its %s counter is missing or not a number below 256",
                            kbs_snp_tcb_part_name(part));
        }
    }
    return 0;
}

/* HWID stands in its extension bare, or as an OCTET STRING. */
static int read_hwid(struct kbs_span der, struct kbs_snp_leaf_facts *f, struct kbs_error *err)
{
    size_t len = f->product == KBS_SNP_PRODUCT_TURIN ? 8 : KBS_SNP_CHIP_ID_BYTES;
    struct kbs_span id = der;

    if (der.len != len && !der_content(der, DER_OCTET_STRING, &id)) {
        id = KBS_SPAN_EMPTY;
    }
    if (id.len != len) {
        return kbs_fail(err, KBS_INPUT, "its hardware id has not %zu bytes", len);
    }
    memcpy(f->hwid, id.p, len);
    f->hwid_len = len;
    return 0;
}

static int read_kind(const X509 *cert, struct kbs_snp_leaf_facts *f, struct kbs_error *err)
{
    struct kbs_span hwid;
    struct kbs_span csp;
    struct kbs_span text;
    int has_hwid = extension(cert, OID_HWID, &hwid);
    int has_csp = extension(cert, OID_CSP_ID, &csp);

    if (has_hwid < 0 || has_csp < 0 || has_hwid == has_csp) {
        return kbs_fail(err, KBS_INPUT, "it has not either a hardware id or a provider's id");
    }
    if (has_hwid == 1) {
        f->kind = KBS_SNP_SIGNER_VCEK;
        return read_hwid(hwid, f, err);
    }
    f->kind = KBS_SNP_SIGNER_VLEK;
    if (!kbs_snp_der_text(csp, &text) || !kbs_span_to_cstr(text, f->csp_id, sizeof(f->csp_id))) {
        return kbs_fail(err, KBS_INPUT, "its provider's id cannot be read");
    }
    return 0;
}

static int read_key(struct kbs_snp_leaf *leaf, struct kbs_error *err)
{
    char group[32] = "";

    leaf->key = X509_get0_pubkey(leaf->cert);
    if (leaf->key == NULL || EVP_PKEY_get_base_id(leaf->key) != EVP_PKEY_EC ||
        EVP_PKEY_get_group_name(leaf->key, group, sizeof(group), NULL) != 1 ||
        strcmp(group, "secp384r1") != 0) {
        return kbs_fail(err, KBS_INPUT, "its key is not one of P-384");
    }
    return 0;
}

int kbs_snp_leaf_parse(struct kbs_span der, struct kbs_snp_leaf **ret, struct kbs_error *err)
{
    const unsigned char *p = der.p;
    struct kbs_snp_leaf *leaf = calloc(1, sizeof(*leaf));
    int r = 0;

    *ret = NULL;
    if (leaf == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (der.len <= KBS_LIMIT_CERTIFICATE_BYTES) {
        leaf->cert = d2i_X509(NULL, &p, (long)der.len);
    }
    if (leaf->cert == NULL || p != der.p + der.len) {
        r = kbs_fail(err, KBS_INPUT, "it is not one DER certificate");
    }
    r = r != 0 ? r : read_key(leaf, err);
    r = r != 0 ? r : read_product(leaf->cert, &leaf->facts, err);
    r = r != 0 ? r : read_tcb(leaf->cert, &leaf->facts, err);
    r = r != 0 ? r : read_kind(leaf->cert, &leaf->facts, err);
    ERR_clear_error();
    if (r != 0) {
        kbs_snp_leaf_free(leaf);
        return -1;
    }
    *ret = leaf;
    return 0;
}

void kbs_snp_leaf_free(struct kbs_snp_leaf *leaf)
{
    if (leaf != NULL) {
        X509_free(leaf->cert);
        free(leaf);
    }
}

const struct kbs_snp_leaf_facts *kbs_snp_leaf_facts(const struct kbs_snp_leaf *leaf)
{
    return &leaf->facts;
}

/* r and s stand little-endian in the report; OpenSSL wants DER. Returns owned, NULL if it fails. */
static uint8_t *signature_der(const struct kbs_snp_report *r, int *ret_len)
{
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r_value = BN_lebin2bn(r->raw + KBS_SNP_AT_SIGNATURE_R, KBS_SNP_SCALAR_BYTES, NULL);
    BIGNUM *s_value = BN_lebin2bn(r->raw + KBS_SNP_AT_SIGNATURE_S, KBS_SNP_SCALAR_BYTES, NULL);
    uint8_t *der = NULL;

    *ret_len = -1;
    if (sig != NULL && r_value != NULL && s_value != NULL &&
        ECDSA_SIG_set0(sig, r_value, s_value) == 1) {
        r_value = NULL; /* sig has them now */
        s_value = NULL;
        *ret_len = i2d_ECDSA_SIG(sig, &der);
    }
    BN_free(r_value);
    BN_free(s_value);
    ECDSA_SIG_free(sig);
    return *ret_len > 0 ? der : NULL;
}

bool kbs_snp_leaf_signed(const struct kbs_snp_leaf *leaf, const struct kbs_snp_report *r)
{
    int len = 0;
    uint8_t *der = signature_der(r, &len);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = der != NULL && ctx != NULL &&
                EVP_DigestVerifyInit(ctx, NULL, EVP_sha384(), NULL, leaf->key) == 1 &&
                EVP_DigestVerify(ctx, der, (size_t)len, r->raw, KBS_SNP_SIGNED_BYTES) == 1;

    EVP_MD_CTX_free(ctx);
    OPENSSL_free(der);
    ERR_clear_error();
    return good;
}
