/*
 * A certificate is installed once and used by every client, so what a client would stumble over is
 * found here: after this, the service has only to load it. No trust is decided: a chain may end
 * below a root that we do not know.
 *
 * Files are read into certificates and written from them. What stands between PEM blocks does not
 * travel, and a private key, which CAs' bundles sometimes have, is an error.
 */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/encoding.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/tls.h"

#define NAME_BYTES 160
#define SAN_TEXT_BYTES 64
#define DAY_S 86400

/* ---- files ---- */

/* The next block. 0, 1 at the end, or -1. */
static int take_block(BIO *bio, const char *file, X509 **ret, struct kbs_error *err)
{
    char *label = NULL;
    char *header = NULL;
    unsigned char *der = NULL;
    long len = 0;
    int r = -1;

    if (PEM_read_bio(bio, &label, &header, &der, &len) != 1) {
        bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
        ERR_clear_error();
        return end ? 1 : kbs_fail(err, KBS_INPUT, "%.120s: PEM that is damaged", file);
    }
    const unsigned char *p = der;
    if (strcmp(label, PEM_STRING_X509) != 0) {
        (void)kbs_fail(err, KBS_INPUT, "%.120s: holds a %.32s, which does not belong there", file,
                       label);
    } else if ((*ret = d2i_X509(NULL, &p, len)) == NULL || p != der + len) {
        X509_free(*ret);
        (void)kbs_fail_openssl(err, KBS_INPUT, "%.120s: a certificate that is damaged", file);
    } else {
        r = 0;
    }
    OPENSSL_clear_free(der, (size_t)len);
    OPENSSL_free(header);
    OPENSSL_free(label);
    return r;
}

static int take_blocks(BIO *bio, const char *file, struct kbs_tls_chain *c, struct kbs_error *err)
{
    size_t before = c->n;
    X509 *next = NULL;
    int r;

    while ((r = take_block(bio, file, &next, err)) == 0) {
        if (c->n == KBS_TLS_CHAIN_CERTIFICATES) {
            X509_free(next);
            return kbs_fail(err, KBS_INPUT, "more than %d certificates",
                            KBS_TLS_CHAIN_CERTIFICATES);
        }
        c->v[c->n++] = next;
    }
    return r == 1 && c->n == before
               ? kbs_fail(err, KBS_INPUT, "%.120s: no certificate in PEM", file)
           : r == 1 ? 0
                    : -1;
}

int kbs_tls_chain_read(const char *file, struct kbs_tls_chain *c, struct kbs_error *err)
{
    struct kbs_buf pem = KBS_BUF(KBS_TLS_CHAIN_BYTES);
    BIO *bio = NULL;
    int r = kbs_cli_read_file(file, &pem, err);

    if (r == 0) {
        bio = BIO_new_mem_buf(pem.len > 0 ? (const void *)pem.p : "", (int)pem.len);
        r = bio != NULL ? take_blocks(bio, file, c, err)
                        : kbs_fail_openssl(err, KBS_INTERNAL, "out of memory");
    }
    BIO_free(bio);
    kbs_buf_deinit(&pem);
    return r;
}

void kbs_tls_chain_deinit(struct kbs_tls_chain *c)
{
    for (size_t i = 0; i < c->n; i++) {
        X509_free(c->v[i]);
    }
    c->n = 0;
}

int kbs_tls_chain_put(const struct kbs_tls_chain *c, struct kbs_buf *out, struct kbs_error *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio != NULL;
    char *p = NULL;

    for (size_t i = 0; ok && i < c->n; i++) {
        ok = PEM_write_bio_X509(bio, c->v[i]) == 1;
    }
    if (ok) {
        long len = BIO_get_mem_data(bio, &p);
        kbs_buf_put(out, p, (size_t)len);
    }
    BIO_free(bio);
    return ok ? kbs_buf_check(out, "the certificates", err)
              : kbs_fail_openssl(err, KBS_INTERNAL, "PEM");
}

/* ---- what it says ---- */

void kbs_tls_name(const X509_NAME *name, char *out, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *p = NULL;
    long len = 0;

    if (bio != NULL && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0) {
        len = BIO_get_mem_data(bio, &p);
    }
    (void)snprintf(out, size, "%.*s", (int)len, p != NULL ? p : "");
    BIO_free(bio);
}

int kbs_tls_pin(X509_PUBKEY *key, char ret[KBS_TLS_PIN_BYTES], struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_TLS_PIN_BYTES - 1);
    uint8_t digest[KBS_SHA256_BYTES];
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(key, &der);

    ret[0] = '\0';
    if (len <= 0) {
        return kbs_fail_openssl(err, KBS_INPUT, "a public key without a form");
    }
    kbs_sha256(kbs_span(der, (size_t)len), digest);
    OPENSSL_free(der);
    kbs_buf_put_str(&text, "sha256//");
    kbs_base64_put(&text, kbs_span(digest, sizeof(digest)));
    const char *made = kbs_buf_cstr(&text);
    (void)snprintf(ret, KBS_TLS_PIN_BYTES, "%s", made != NULL ? made : "");
    kbs_buf_deinit(&text);
    return made != NULL ? 0 : kbs_fail(err, KBS_INTERNAL, "out of memory");
}

static int64_t unix_of(const ASN1_TIME *time)
{
    struct tm tm;

    return ASN1_TIME_to_tm(time, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* "DNS:kbs.example"; false for names of a kind that no client looks for. */
static bool san_text(const GENERAL_NAME *name, char *out, size_t size)
{
    int kind = 0;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &kind);
    const uint8_t *p = kind == GEN_DNS || kind == GEN_IPADD ? ASN1_STRING_get0_data(value) : NULL;
    int n = p != NULL ? ASN1_STRING_length(value) : 0;
    char address[SAN_TEXT_BYTES];

    if (kind == GEN_DNS) {
        (void)snprintf(out, size, "DNS:%.*s", n, (const char *)p);
    } else if (kind == GEN_IPADD && (n == 4 || n == 16) &&
               inet_ntop(n == 4 ? AF_INET : AF_INET6, p, address, sizeof(address)) != NULL) {
        (void)snprintf(out, size, "IP:%s", address);
    } else {
        return false;
    }
    return true;
}

/* Its DNS and IP names, as texts. Returns owned; NULL: memory. */
static json_t *san_json(X509 *certificate)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    json_t *list = json_array();
    char text[SAN_TEXT_BYTES + 256];

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        if (san_text(sk_GENERAL_NAME_value(names, i), text, sizeof(text))) {
            json_t *item = json_string(text);
            (void)json_array_append_new(list, item != NULL ? item : json_string("?"));
        }
    }
    GENERAL_NAMES_free(names);
    return list;
}

json_t *kbs_tls_certificate_json(X509 *certificate)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    int64_t until = unix_of(X509_get0_notAfter(certificate));
    int64_t left = until - kbs_clock_unix_s();
    char subject[NAME_BYTES];
    char issuer[NAME_BYTES];
    char from_text[32];
    char until_text[32];
    char hex[2 * KBS_SHA256_BYTES + 1];
    char pin[KBS_TLS_PIN_BYTES];
    uint8_t digest[KBS_SHA256_BYTES];
    unsigned int len = sizeof(digest);

    kbs_tls_name(X509_get_subject_name(certificate), subject, sizeof(subject));
    kbs_tls_name(X509_get_issuer_name(certificate), issuer, sizeof(issuer));
    kbs_admin_time(unix_of(X509_get0_notBefore(certificate)), from_text, sizeof(from_text));
    kbs_admin_time(until, until_text, sizeof(until_text));
    if (X509_digest(certificate, EVP_sha256(), digest, &len) != 1 ||
        kbs_tls_pin(X509_get_X509_PUBKEY(certificate), pin, &ignored) != 0) {
        return NULL;
    }
    kbs_hex_cstr(kbs_span(digest, len), hex, sizeof(hex));
    return json_pack("{s:s, s:s, s:o, s:s, s:s, s:I, s:s, s:s}", "subject", subject, "issuer",
                     issuer, "names", san_json(certificate), "not_before", from_text, "not_after",
                     until_text, "days_left",
                     (json_int_t)(left >= 0 ? left / DAY_S : -((-left + DAY_S - 1) / DAY_S)),
                     "sha256", hex, "pin", pin);
}

/* ---- whether clients will take it ---- */

static int refuse(const X509 *certificate, const char *why, struct kbs_error *err)
{
    char name[NAME_BYTES];

    kbs_tls_name(X509_get_subject_name(certificate), name, sizeof(name));
    return kbs_fail(err, KBS_UNPROCESSABLE, "the certificate of \"%s\" %s", name, why);
}

static int check_time(X509 *certificate, struct kbs_error *err)
{
    char when[32];
    char why[64];

    if (X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0) {
        kbs_admin_time(unix_of(X509_get0_notAfter(certificate)), when, sizeof(when));
        (void)snprintf(why, sizeof(why), "has expired: %s", when);
        return refuse(certificate, why, err);
    }
    if (X509_cmp_current_time(X509_get0_notBefore(certificate)) >= 0) {
        kbs_admin_time(unix_of(X509_get0_notBefore(certificate)), when, sizeof(when));
        (void)snprintf(why, sizeof(why), "is not valid yet: %s", when);
        return refuse(certificate, why, err);
    }
    return 0;
}

static int check_leaf(X509 *leaf, struct kbs_error *err)
{
    uint32_t flags = X509_get_extension_flags(leaf);
    json_t *names = san_json(leaf);
    size_t n = json_array_size(names);

    json_decref(names);
    if ((flags & EXFLAG_INVALID) != 0) {
        return refuse(leaf, "has extensions that do not parse", err);
    }
    if ((flags & EXFLAG_XKUSAGE) != 0 &&
        (X509_get_extended_key_usage(leaf) & XKU_SSL_SERVER) == 0) {
        return refuse(leaf, "is not for servers: its extended key usage lacks serverAuth", err);
    }
    if ((flags & EXFLAG_KUSAGE) != 0 && (X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE) == 0) {
        return refuse(leaf, "is not for TLS 1.3: its key usage lacks digitalSignature", err);
    }
    return n > 0 ? 0
                 : refuse(leaf,
                          "names no server: it has no DNS or IP subjectAltName, and clients "
                          "look at nothing else",
                          err);
}

static int check_issuer(X509 *subject, X509 *issuer, struct kbs_error *err)
{
    char name[NAME_BYTES];
    char why[NAME_BYTES + 64];
    EVP_PKEY *key = X509_get0_pubkey(issuer);
    bool by = X509_check_issued(issuer, subject) == X509_V_OK && key != NULL &&
              X509_verify(subject, key) == 1;

    ERR_clear_error();
    if (!by) {
        kbs_tls_name(X509_get_subject_name(issuer), name, sizeof(name));
        (void)snprintf(why, sizeof(why), "is not signed by the next one, \"%.100s\": leaf first",
                       name);
        return refuse(subject, why, err);
    }
    return X509_check_ca(issuer) != 0 ? 0 : refuse(issuer, "is not a CA's", err);
}

int kbs_tls_chain_check(const struct kbs_tls_chain *c, struct kbs_error *err)
{
    for (size_t i = 0; i < c->n; i++) {
        if ((i > 0 && check_issuer(c->v[i - 1], c->v[i], err) != 0) ||
            check_time(c->v[i], err) != 0 || (i == 0 && check_leaf(c->v[i], err) != 0)) {
            return -1;
        }
    }
    return 0;
}

int kbs_tls_chain_check_key(const struct kbs_tls_chain *c, EVP_PKEY *public_key, const char *where,
                            struct kbs_error *err)
{
    EVP_PKEY *own = X509_get0_pubkey(c->v[0]);
    char pin[KBS_TLS_PIN_BYTES] = "";
    char expected[KBS_TLS_PIN_BYTES] = "";
    X509_PUBKEY *spki = NULL;

    if (own == NULL) {
        return kbs_fail_openssl(err, KBS_INPUT, "the certificate's key is of no known kind");
    }
    if (EVP_PKEY_eq(own, public_key) == 1) {
        return 0;
    }
    ERR_clear_error();
    int r = X509_PUBKEY_set(&spki, public_key) == 1
                ? kbs_tls_pin(spki, expected, err)
                : kbs_fail_openssl(err, KBS_INTERNAL, "a public key without a form");
    X509_PUBKEY_free(spki);
    return r != 0 || kbs_tls_pin(X509_get_X509_PUBKEY(c->v[0]), pin, err) != 0
               ? -1
               : kbs_fail(err, KBS_CONFLICT,
                          "the certificate is of another key, %s, than the one in %s, %s", pin,
                          where, expected);
}
