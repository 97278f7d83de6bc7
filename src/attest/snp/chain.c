/*
 * Chains are walked by OpenSSL with exactly three certificates: the leaf, the one issuer that its
 * kind and product have, and the ARK as the only trusted one. Nothing that came with the evidence
 * is offered as an issuer, so the evidence cannot choose its root. Time comes in as a parameter.
 *
 * One walk answers three questions that an operator mends differently (is it AMD's? is it in time?
 * is it revoked?), so the callback files each error under its question and lets the walk go on;
 * only a broken chain ends it. In OpenSSL's order the chain is built and its signatures and
 * constraints are checked after revocation, all in the same call.
 *
 * Revocation: the ARK signs one list for the VCEK side and one for the VLEK side, and each names
 * the issuers below it; leaves all have serial number 0, so no list of an ASK's is known to exist.
 * If there is one in the folder, leaves are looked up in it too; that there is none is not an error
 * at the leaf, while above it, it is reported as crl_missing. The two sides have separate stores:
 * OpenSSL takes the newest list of an issuer, which would hide the other one.
 *
 * The RFC 5280 strictness flag stays off: AMD's leaves have no authority key identifier.
 */
#include <stdlib.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>

#include "attest/snp/leaf.h"

#define SIDES 2      /* VCEK, VLEK */
#define AUTH_LEVEL 2 /* 112 bits; AMD's keys and digests are above it */

struct product {
    X509 *cert[KBS_SNP_CERT_COUNT];
    uint8_t root[KBS_SHA256_BYTES]; /* of the ARK's key */
    X509_STORE *side[SIDES];        /* the ARK and the lists */
};

struct kbs_snp_endorsements {
    struct product product[KBS_SNP_PRODUCT_COUNT];
};

int kbs_snp_endorsements_new(struct kbs_snp_endorsements **ret, struct kbs_error *err)
{
    struct kbs_snp_endorsements *e = calloc(1, sizeof(*e));

    *ret = e;
    for (int i = 0; e != NULL && i < KBS_SNP_PRODUCT_COUNT * SIDES; i++) {
        X509_STORE *store = X509_STORE_new();

        e->product[i / SIDES].side[i % SIDES] = store;
        if (store == NULL) {
            kbs_snp_endorsements_free(e);
            e = NULL;
        }
    }
    if (e == NULL) {
        *ret = NULL;
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    return 0;
}

void kbs_snp_endorsements_free(struct kbs_snp_endorsements *e)
{
    if (e == NULL) {
        return;
    }
    for (int i = 0; i < KBS_SNP_PRODUCT_COUNT; i++) {
        for (int k = 0; k < KBS_SNP_CERT_COUNT; k++) {
            X509_free(e->product[i].cert[k]);
        }
        for (int k = 0; k < SIDES; k++) {
            X509_STORE_free(e->product[i].side[k]);
        }
    }
    free(e);
}

static bool is_pem(struct kbs_span text)
{
    return kbs_span_starts_with(text, "-----BEGIN ");
}

static X509 *read_cert(struct kbs_span text)
{
    const unsigned char *p = text.p;

    if (text.len > KBS_LIMIT_CERTIFICATE_BYTES) {
        return NULL;
    }
    if (!is_pem(text)) {
        return d2i_X509(NULL, &p, (long)text.len);
    }
    BIO *in = BIO_new_mem_buf(text.p, (int)text.len);
    X509 *cert = in != NULL ? PEM_read_bio_X509(in, NULL, NULL, NULL) : NULL;
    BIO_free(in);
    return cert;
}

static X509_CRL *read_crl(struct kbs_span text)
{
    const unsigned char *p = text.p;

    if (text.len > KBS_LIMIT_CRL_BYTES) {
        return NULL;
    }
    if (!is_pem(text)) {
        return d2i_X509_CRL(NULL, &p, (long)text.len);
    }
    BIO *in = BIO_new_mem_buf(text.p, (int)text.len);
    X509_CRL *crl = in != NULL ? PEM_read_bio_X509_CRL(in, NULL, NULL, NULL) : NULL;
    BIO_free(in);
    return crl;
}

/* Makes the ARK the trusted certificate of both sides, and keeps the digest of its key. Its own
 * signature is verified here, once: walks do not repeat what cannot change. */
static int trust(struct product *p, struct kbs_error *err)
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(p->cert[KBS_SNP_CERT_ARK]), &der);

    if (len <= 0) {
        return kbs_fail_openssl(err, KBS_INPUT, "ARK: its key cannot be read");
    }
    kbs_sha256(kbs_span(der, (size_t)len), p->root);
    OPENSSL_free(der);
    if (X509_verify(p->cert[KBS_SNP_CERT_ARK], X509_get0_pubkey(p->cert[KBS_SNP_CERT_ARK])) != 1) {
        return kbs_fail_openssl(err, KBS_INPUT, "ARK: it is not signed by its own key");
    }
    for (int i = 0; i < SIDES; i++) {
        if (X509_STORE_add_cert(p->side[i], p->cert[KBS_SNP_CERT_ARK]) != 1) {
            return kbs_fail_openssl(err, KBS_INTERNAL, "out of memory");
        }
    }
    return 0;
}

int kbs_snp_endorsements_add(struct kbs_snp_endorsements *e, enum kbs_snp_product product,
                             enum kbs_snp_cert which, struct kbs_span text, struct kbs_error *err)
{
    static const char *const names[KBS_SNP_CERT_COUNT] = {"ARK", "ASK", "ASVK"};
    struct product *p = &e->product[product];

    if (p->cert[which] != NULL) {
        return kbs_fail(err, KBS_INPUT, "%s %s: there is one already",
                        kbs_snp_product_name(product), names[which]);
    }
    p->cert[which] = read_cert(text);
    if (p->cert[which] == NULL) {
        return kbs_fail_openssl(err, KBS_INPUT, "%s %s: not a certificate",
                                kbs_snp_product_name(product), names[which]);
    }
    return which == KBS_SNP_CERT_ARK ? trust(p, err) : 0;
}

static X509_STORE *store_of(const struct kbs_snp_endorsements *e, enum kbs_snp_product product,
                            enum kbs_snp_signer signer)
{
    return e->product[product].side[signer == KBS_SNP_SIGNER_VLEK ? 1 : 0];
}

int kbs_snp_endorsements_add_crl(struct kbs_snp_endorsements *e, enum kbs_snp_product product,
                                 enum kbs_snp_signer signer, struct kbs_span text,
                                 struct kbs_error *err)
{
    X509_CRL *crl = read_crl(text);
    bool added = crl != NULL && X509_STORE_add_crl(store_of(e, product, signer), crl) == 1;

    X509_CRL_free(crl);
    if (!added) {
        return kbs_fail_openssl(err, KBS_INPUT, "%s: not a revocation list",
                                kbs_snp_product_name(product));
    }
    return 0;
}

/* Whether a store has no list of this issuer that is as new. */
static bool is_newer(X509_STORE *store, const X509_CRL *crl)
{
    const STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);

    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        const X509_CRL *old = X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i));

        if (old != NULL && X509_CRL_match(old, crl) == 0) {
            return false; /* the same issuer, number and content */
        }
        if (old != NULL && X509_NAME_cmp(X509_CRL_get_issuer(old), X509_CRL_get_issuer(crl)) == 0 &&
            ASN1_TIME_compare(X509_CRL_get0_lastUpdate(old), X509_CRL_get0_lastUpdate(crl)) >= 0) {
            return false;
        }
    }
    return true;
}

/* OpenSSL looks at the newest list of an issuer, so an older one may stay where it is. */
int kbs_snp_endorsements_renew_crl(struct kbs_snp_endorsements *e, enum kbs_snp_product product,
                                   enum kbs_snp_signer signer, struct kbs_span text,
                                   bool *ret_taken, struct kbs_error *err)
{
    X509 *ark = e->product[product].cert[KBS_SNP_CERT_ARK];
    X509_STORE *store = store_of(e, product, signer);
    X509_CRL *crl = read_crl(text);
    int r = 0;

    *ret_taken = false;
    if (crl == NULL || ark == NULL ||
        X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(ark)) != 0 ||
        X509_CRL_verify(crl, X509_get0_pubkey(ark)) != 1) {
        r = kbs_fail_openssl(err, KBS_INPUT, "%s: not a revocation list that the ARK signed",
                             kbs_snp_product_name(product));
    } else if (is_newer(store, crl)) {
        *ret_taken = X509_STORE_add_crl(store, crl) == 1;
        r = *ret_taken ? 0 : kbs_fail_openssl(err, KBS_INTERNAL, "out of memory");
    }
    X509_CRL_free(crl);
    return r;
}

const uint8_t *kbs_snp_endorsements_root(const struct kbs_snp_endorsements *e,
                                         enum kbs_snp_product product)
{
    const struct product *p = &e->product[product];

    return p->cert[KBS_SNP_CERT_ARK] != NULL ? p->root : NULL;
}

/* What the callback is told and fills in. */
struct walk {
    struct kbs_snp_chain *result;
    int64_t now_s;
    int64_t crl_grace_s;
};

/* True while a list whose next update was due is still good by the operator's grace. */
static bool within_grace(const struct walk *w, X509_STORE_CTX *ctx)
{
    const X509_CRL *crl = X509_STORE_CTX_get0_current_crl(ctx);
    time_t limit = (time_t)(w->now_s - w->crl_grace_s);
    const ASN1_TIME *due = crl != NULL ? X509_CRL_get0_nextUpdate(crl) : NULL;

    return w->crl_grace_s > 0 && due != NULL && X509_cmp_time(due, &limit) > 0;
}

static void keep(const char **to, int error)
{
    if (*to == NULL) {
        *to = X509_verify_cert_error_string(error);
    }
}

/* Files an error under its question. 1: go on, 0: the chain is broken. */
static int on_error(int ok, X509_STORE_CTX *ctx)
{
    const struct walk *w = X509_STORE_CTX_get_app_data(ctx);
    int error = X509_STORE_CTX_get_error(ctx);

    if (ok) {
        return 1;
    }
    switch (error) {
    case X509_V_ERR_CERT_NOT_YET_VALID:
    case X509_V_ERR_CERT_HAS_EXPIRED:
        keep(&w->result->time, error);
        return 1;
    case X509_V_ERR_UNABLE_TO_GET_CRL:
        w->result->crl_missing |= X509_STORE_CTX_get_error_depth(ctx) > 0;
        return 1;
    case X509_V_ERR_CRL_HAS_EXPIRED:
        if (!within_grace(w, ctx)) {
            keep(&w->result->revocation, error);
        }
        return 1;
    case X509_V_ERR_CERT_REVOKED:
    case X509_V_ERR_CRL_NOT_YET_VALID:
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
    case X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE:
    case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
    case X509_V_ERR_ERROR_IN_CRL_LAST_UPDATE_FIELD:
    case X509_V_ERR_ERROR_IN_CRL_NEXT_UPDATE_FIELD:
    case X509_V_ERR_KEYUSAGE_NO_CRL_SIGN:
    case X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION:
    case X509_V_ERR_DIFFERENT_CRL_SCOPE:
    case X509_V_ERR_CRL_PATH_VALIDATION_ERROR:
        keep(&w->result->revocation, error);
        return 1;
    default:
        keep(&w->result->chain, error);
        return 0;
    }
}

static void walk_chain(X509_STORE_CTX *ctx, struct walk *w)
{
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);

    X509_VERIFY_PARAM_set_time(param, (time_t)w->now_s);
    X509_VERIFY_PARAM_set_depth(param, 1); /* one issuer between leaf and root */
    X509_VERIFY_PARAM_set_auth_level(param, AUTH_LEVEL);
    (void)X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    X509_STORE_CTX_set_app_data(ctx, w);
    X509_STORE_CTX_set_verify_cb(ctx, on_error);
    if (X509_verify_cert(ctx) != 1 && w->result->chain == NULL) {
        w->result->chain = "the chain could not be verified";
    }
}

int kbs_snp_chain_verify(const struct kbs_snp_endorsements *e, const struct kbs_snp_leaf *leaf,
                         int64_t now_s, int64_t crl_grace_s, struct kbs_snp_chain *ret,
                         struct kbs_error *err)
{
    const struct product *p = &e->product[leaf->facts.product];
    X509 *issuer =
        p->cert[leaf->facts.kind == KBS_SNP_SIGNER_VLEK ? KBS_SNP_CERT_ASVK : KBS_SNP_CERT_ASK];
    struct walk w = {.result = ret, .now_s = now_s, .crl_grace_s = crl_grace_s};

    *ret = (struct kbs_snp_chain){.known = p->cert[KBS_SNP_CERT_ARK] != NULL && issuer != NULL};
    if (!ret->known) {
        return 0;
    }
    STACK_OF(X509) *issuers = sk_X509_new_null();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_STORE *store = store_of(e, leaf->facts.product, leaf->facts.kind);
    bool ready = issuers != NULL && ctx != NULL && sk_X509_push(issuers, issuer) > 0 &&
                 X509_STORE_CTX_init(ctx, store, leaf->cert, issuers) == 1;
    if (ready) {
        walk_chain(ctx, &w);
    }
    X509_STORE_CTX_free(ctx);
    sk_X509_free(issuers);
    ERR_clear_error();
    return ready ? 0 : kbs_fail(err, KBS_INTERNAL, "out of memory");
}
