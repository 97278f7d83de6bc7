/*
 * Chains are built by OpenSSL between a leaf and the pinned anchors, with the other certificates of `x5c` as
 * material only. An anchor need not be self-signed (partial chain): who pins an intermediate trusts no more
 * than it. The system's own anchors are never loaded. Time comes in as a parameter.
 *
 * Old attestation services wrote x5c in URL-safe base64, current ones as RFC 7517 has it; both are
 * brought to one alphabet first and then decoded strictly. What a certificate may be used for is checked as far
 * as it says so: a leaf with keyUsage must have digitalSignature.
 */
#include "jose/read/x5c.h"

#include <stdlib.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "base/encoding.h"

#define AUTH_LEVEL 2 /* 112 bits: no SHA-1, RSA from 2048 bits on */
#define DEPTH 8

struct kbs_x5c_trust {
    X509_STORE *store;
};

/* ---- anchors ---- */

static int no_passphrase(char *buf, int size, int rwflag, void *data)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)data;
    return -1;
}

/* True if OpenSSL stopped because there is no further PEM block, and for no other reason. */
static bool at_end(void)
{
    unsigned long e = ERR_peek_last_error();

    return ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
}

static int take_anchors(X509_STORE *store, struct kbs_span text, struct kbs_error *err)
{
    BIO *in = BIO_new_mem_buf(text.p, (int)text.len);
    size_t n = 0;
    bool ok = in != NULL;

    ERR_clear_error();
    for (X509 *cert; ok && (cert = PEM_read_bio_X509(in, NULL, no_passphrase, NULL)) != NULL;) {
        ok = n++ < KBS_X5C_ANCHORS && X509_STORE_add_cert(store, cert) == 1;
        X509_free(cert);
    }
    ok = ok && at_end() && n > 0;
    BIO_free(in);
    ERR_clear_error();
    return ok ? 0
              : kbs_fail(err, KBS_INPUT, "anchor: not 1 to %d PEM certificates", KBS_X5C_ANCHORS);
}

static int take_crls(X509_STORE *store, struct kbs_span text, struct kbs_error *err)
{
    BIO *in = BIO_new_mem_buf(text.p, (int)text.len);
    size_t n = 0;
    bool ok = in != NULL;

    ERR_clear_error();
    for (X509_CRL *crl;
         ok && (crl = PEM_read_bio_X509_CRL(in, NULL, no_passphrase, NULL)) != NULL;) {
        ok = n++ < KBS_X5C_ANCHORS && X509_STORE_add_crl(store, crl) == 1;
        X509_CRL_free(crl);
    }
    ok = ok && at_end() && n > 0;
    BIO_free(in);
    ERR_clear_error();
    if (!ok) {
        return kbs_fail(err, KBS_INPUT, "crl: not 1 to %d PEM revocation lists", KBS_X5C_ANCHORS);
    }
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return 0;
}

int kbs_x5c_trust_new(struct kbs_span anchors, struct kbs_span crls, struct kbs_x5c_trust **ret,
                      struct kbs_error *err)
{
    struct kbs_x5c_trust *trust = calloc(1, sizeof(*trust));

    *ret = NULL;
    if (trust == NULL || (trust->store = X509_STORE_new()) == NULL) {
        free(trust);
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    X509_STORE_set_flags(trust->store, X509_V_FLAG_PARTIAL_CHAIN);
    if (take_anchors(trust->store, anchors, err) != 0 ||
        (crls.len != 0 && take_crls(trust->store, crls, err) != 0)) {
        kbs_x5c_trust_free(trust);
        return -1;
    }
    *ret = trust;
    return 0;
}

void kbs_x5c_trust_free(struct kbs_x5c_trust *trust)
{
    if (trust != NULL) {
        X509_STORE_free(trust->store);
        free(trust);
    }
}

/* ---- chains ---- */

/* Either alphabet, padded or not, as base64url without padding. */
static int base64_any_get(struct kbs_buf *out, struct kbs_span text)
{
    struct kbs_buf plain = KBS_BUF(2 * KBS_LIMIT_CERTIFICATE_BYTES);
    int rc;

    if (text.len % 4 == 0) { /* else there is no padding that would be right */
        for (int i = 0; i < 2 && text.len > 0 && text.p[text.len - 1] == '='; i++) {
            text.len--;
        }
    }
    for (size_t i = 0; i < text.len && !plain.failed; i++) {
        uint8_t c = text.p[i];

        kbs_buf_put_u8(&plain, c == '+' ? '-' : c == '/' ? '_' : c);
    }
    rc = plain.failed ? -1 : kbs_base64url_get(out, kbs_buf_span(&plain));
    kbs_buf_deinit(&plain);
    return rc;
}

/* One certificate and nothing behind it. Returns owned, or NULL. */
static X509 *certificate_get(const json_t *text)
{
    struct kbs_buf der = KBS_BUF(KBS_LIMIT_CERTIFICATE_BYTES);
    X509 *cert = NULL;

    if (json_is_string(text) &&
        base64_any_get(&der, kbs_span(json_string_value(text), json_string_length(text))) == 0) {
        const unsigned char *p = der.p;

        cert = d2i_X509(NULL, &p, (long)der.len);
        if (cert != NULL && p != der.p + der.len) {
            X509_free(cert);
            cert = NULL;
        }
    }
    kbs_buf_deinit(&der);
    ERR_clear_error();
    return cert;
}

static int chain_get(const json_t *x5c, STACK_OF(X509) * *ret, struct kbs_error *err)
{
    size_t n = json_array_size(x5c);
    STACK_OF(X509) *chain = sk_X509_new_null();

    *ret = NULL;
    if (n == 0 || n > KBS_X5C_CERTIFICATES) {
        sk_X509_free(chain);
        return kbs_fail(err, KBS_UNAUTHENTICATED, "x5c: not 1 to %d certificates",
                        KBS_X5C_CERTIFICATES);
    }
    for (size_t i = 0; i < n && chain != NULL; i++) {
        X509 *cert = certificate_get(json_array_get(x5c, i));

        if (cert == NULL || sk_X509_push(chain, cert) <= 0) {
            X509_free(cert);
            sk_X509_pop_free(chain, X509_free);
            return kbs_fail(err, KBS_UNAUTHENTICATED, "x5c: number %zu is no certificate", i + 1);
        }
    }
    *ret = chain;
    return chain != NULL ? 0 : kbs_fail(err, KBS_INTERNAL, "out of memory");
}

static int leaf_key(X509 *leaf, struct kbs_jws_key *ret, struct kbs_error *err)
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &der);
    struct kbs_error why = KBS_ERROR_NONE;
    int rc = -1;

    if (len > 0) {
        rc = kbs_jws_key_from_spki(kbs_span(der, (size_t)len), ret, &why);
    }
    OPENSSL_free(der);
    ERR_clear_error();
    return rc == 0 ? 0
                   : kbs_fail(err, KBS_UNAUTHENTICATED, "x5c: the leaf's key is not one of ours");
}

static int leaf_usage(X509 *leaf, struct kbs_error *err)
{
    uint32_t usage = X509_get_key_usage(leaf); /* all ones without the extension */

    return (usage & KU_DIGITAL_SIGNATURE) != 0
               ? 0
               : kbs_fail(err, KBS_UNAUTHENTICATED, "x5c: the leaf is not for signatures");
}

static int chain_verify(const struct kbs_x5c_trust *trust, STACK_OF(X509) * chain, int64_t now_s,
                        struct kbs_error *err)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    int why = X509_V_ERR_OUT_OF_MEM;

    if (ctx != NULL &&
        X509_STORE_CTX_init(ctx, trust->store, sk_X509_value(chain, 0), chain) == 1) {
        X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);

        X509_VERIFY_PARAM_set_time(param, (time_t)now_s);
        X509_VERIFY_PARAM_set_depth(param, DEPTH);
        X509_VERIFY_PARAM_set_auth_level(param, AUTH_LEVEL);
        why = X509_verify_cert(ctx) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(ctx);
        why = why == X509_V_OK && X509_STORE_CTX_get_error(ctx) != X509_V_OK
                  ? X509_V_ERR_UNSPECIFIED
                  : why;
    }
    X509_STORE_CTX_free(ctx);
    ERR_clear_error();
    return why == X509_V_OK ? 0
                            : kbs_fail_native(err, KBS_UNAUTHENTICATED, KBS_ORIGIN_OPENSSL, why,
                                              "x5c: no chain to a pinned anchor: %s",
                                              X509_verify_cert_error_string(why));
}

int kbs_x5c_verify(const struct kbs_x5c_trust *trust, const json_t *x5c, int64_t now_s,
                   struct kbs_jws_key *ret, struct kbs_error *err)
{
    STACK_OF(X509) *chain = NULL;
    int rc;

    *ret = (struct kbs_jws_key){.kind = KBS_JWS_KEY_NONE};
    if (chain_get(x5c, &chain, err) != 0) {
        return -1;
    }
    rc = chain_verify(trust, chain, now_s, err);
    if (rc == 0) {
        rc = leaf_usage(sk_X509_value(chain, 0), err);
    }
    if (rc == 0) {
        rc = leaf_key(sk_X509_value(chain, 0), ret, err);
    }
    sk_X509_pop_free(chain, X509_free);
    return rc;
}

int kbs_x5c_leaf(const json_t *x5c, struct kbs_jws_key *ret, struct kbs_error *err)
{
    X509 *leaf = certificate_get(json_array_get(x5c, 0));
    int rc;

    *ret = (struct kbs_jws_key){.kind = KBS_JWS_KEY_NONE};
    if (leaf == NULL) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "x5c: number 1 is no certificate");
    }
    rc = leaf_key(leaf, ret, err);
    X509_free(leaf);
    return rc;
}
