/*
 * Keys and the certificate of a new service, by OpenSSL. The certificate is self-signed, meant to
 * be pinned (--ca, profile.json) and replaced where there is a CA: basicConstraints CA:FALSE, so
 * that it can vouch for nothing else, and SANs for loopback and the listeners' addresses. Ten
 * years: its end is not what protects a pinned key, and a service that dies of it helps nobody.
 */
#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/io.h"
#include "base/random.h"
#include "cli/init.h"

#define DAYS 3650
#define NAME "kbs-hsm"

/* A new P-256 key, written to `name`; also returned as OpenSSL wants it. Returns owned. */
static int make_key(const struct kbs_init *in, const char *name, EVP_PKEY **ret,
                    struct kbs_error *err)
{
    struct kbs_agree_key *key = NULL;
    KBS_AUTO_SECRET pem = NULL;
    BIO *bio = NULL;
    int r = -1;

    if (kbs_agree_key_generate(KBS_CURVE_P256, &key, err) != 0 ||
        kbs_agree_key_to_pem(key, &pem, err) != 0 ||
        kbs_init_write(in, name, kbs_secret_span(pem), 0600, err) != 0) {
        goto out;
    }
    bio = BIO_new_mem_buf(kbs_secret_bytes(pem), (int)kbs_secret_len(pem));
    *ret = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    if (*ret == NULL) {
        (void)kbs_fail_openssl(err, KBS_INTERNAL, "a key just made cannot be read");
        goto out;
    }
    r = 0;
out:
    BIO_free(bio);
    (void)kbs_agree_key_free(key);
    return r;
}

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;

    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509V3_set_ctx_nodb(&ctx);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = e != NULL && X509_add_ext(cert, e, -1) == 1;
    X509_EXTENSION_free(e);
    return ok;
}

/* A listener's address, if it is one that a client can name and is not there yet. */
static void san_put(struct kbs_buf *out, const char *listen)
{
    char host[64];
    uint16_t port;
    struct kbs_error ignored = KBS_ERROR_NONE;

    if (kbs_io_split_address(listen, host, &port, &ignored) != 0 || strcmp(host, "0.0.0.0") == 0 ||
        strcmp(host, "::") == 0 || strcmp(host, "127.0.0.1") == 0 || strcmp(host, "::1") == 0) {
        return;
    }
    kbs_buf_printf(out, ",IP:%s", host);
}

static bool fill(X509 *cert, EVP_PKEY *key, const char *san)
{
    uint8_t serial[16];
    bool ok = false;
    BIGNUM *number = NULL;
    X509_NAME *name = X509_get_subject_name(cert);

    kbs_random(serial, sizeof(serial));
    serial[0] = (uint8_t)((serial[0] & 0x3f) | 0x40);
    number = BN_bin2bn(serial, sizeof(serial), NULL);
    if (number == NULL || BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) == NULL ||
        X509_set_version(cert, X509_VERSION_3) != 1 ||
        X509_gmtime_adj(X509_getm_notBefore(cert), -300) == NULL ||
        X509_time_adj_ex(X509_getm_notAfter(cert), DAYS, 0, NULL) == NULL ||
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)NAME, -1, -1,
                                   0) != 1 ||
        X509_set_issuer_name(cert, name) != 1 || X509_set_pubkey(cert, key) != 1) {
        goto out;
    }
    ok = add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
         add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
         add_extension(cert, NID_ext_key_usage, "serverAuth") &&
         add_extension(cert, NID_subject_key_identifier, "hash") &&
         add_extension(cert, NID_subject_alt_name, san) && X509_sign(cert, key, EVP_sha256()) > 0;
out:
    BN_free(number);
    return ok;
}

/* What a PEM writer left in a memory BIO goes to a file. */
static int write_bio(const struct kbs_init *in, const char *name, BIO *bio, struct kbs_error *err)
{
    char *p = NULL;
    long len = BIO_get_mem_data(bio, &p);

    return kbs_init_write(in, name, kbs_span(p, (size_t)len), 0644, err);
}

int kbs_init_tls(struct kbs_init *in, struct kbs_error *err)
{
    struct kbs_buf san = KBS_BUF(1024);
    EVP_PKEY *key = NULL;
    X509 *cert = X509_new();
    BIO *bio = BIO_new(BIO_s_mem());
    const char *san_text;
    int r = -1;

    kbs_buf_put_str(&san, "IP:127.0.0.1,IP:::1,DNS:localhost");
    san_put(&san, in->listen);
    if (strcmp(in->admin_listen, in->listen) != 0) {
        san_put(&san, in->admin_listen);
    }
    san_text = kbs_buf_cstr(&san);
    if (kbs_init_folder(in, "tls", err) != 0 || make_key(in, "tls/key.pem", &key, err) != 0) {
        goto out;
    }
    if (cert == NULL || bio == NULL || san_text == NULL || !fill(cert, key, san_text) ||
        PEM_write_bio_X509(bio, cert) != 1) {
        (void)kbs_fail_openssl(err, KBS_INTERNAL, "the certificate cannot be made");
        goto out;
    }
    r = write_bio(in, "tls/cert.pem", bio, err);
out:
    kbs_buf_deinit(&san);
    BIO_free(bio);
    X509_free(cert);
    EVP_PKEY_free(key);
    return r;
}

int kbs_init_admin_key(struct kbs_init *in, struct kbs_error *err)
{
    EVP_PKEY *key = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    int r = -1;

    if (kbs_init_folder(in, "admin", err) != 0 ||
        make_key(in, "admin/admin.key.pem", &key, err) != 0) {
        goto out;
    }
    if (bio == NULL || PEM_write_bio_PUBKEY(bio, key) != 1) {
        (void)kbs_fail_openssl(err, KBS_INTERNAL,
                               "the administrator's public key cannot be written");
        goto out;
    }
    r = write_bio(in, "admin/admin.pub.pem", bio, err);
out:
    BIO_free(bio);
    EVP_PKEY_free(key);
    return r;
}
