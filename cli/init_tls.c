/*
 * Keys and the certificate of a new service, by OpenSSL; a TLS key in the token was made with the
 * token. The certificate is self-signed, meant to be pinned (--ca, profile.json) and replaced where
 * there is a CA: basicConstraints CA:FALSE, so that it can vouch for nothing else, and SANs for
 * loopback and the listeners' addresses. Ten years: its end is not what protects a pinned key, and
 * a service that dies of it helps nobody.
 */
#include <openssl/bio.h>
#include <openssl/pem.h>

#include "base/io.h"
#include "cli/init.h"
#include "cli/tls.h"

#define DAYS 3650
#define SUBJECT "CN=kbs-hsm"

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

/* What a PEM writer left in a memory BIO goes to a file. */
static int write_bio(const struct kbs_init *in, const char *name, BIO *bio, struct kbs_error *err)
{
    char *p = NULL;
    long len = BIO_get_mem_data(bio, &p);

    return kbs_init_write(in, name, kbs_span(p, (size_t)len), 0644, err);
}

/* The key of the listeners: the token's, or a new one in a file. */
static int take_key(const struct kbs_init *in, struct kbs_tls_key *ret, struct kbs_error *err)
{
    struct kbs_tls_token token = {.lock_file = NULL};
    struct kbs_init_wire wire;
    char pin[KBS_INIT_PATH_BYTES];

    if (!in->tls_in_token) {
        if (make_key(in, "tls/key.pem", &ret->key, err) != 0) {
            return -1;
        }
        (void)EVP_PKEY_up_ref(ret->key);
        ret->public_key = ret->key;
        return 0;
    }
    kbs_init_path(in, "pin", pin);
    token.pin_file = pin;
    int r = kbs_init_wire(in, &wire, err);
    if (r == 0) {
        token.config = wire.config;
        r = kbs_tls_key_token(&token, "pkcs11:", KBS_SPAN_LIT(""), ret, err);
    }
    kbs_init_wire_deinit(&wire);
    return r == 0 ? 0 : -1;
}

int kbs_init_tls(struct kbs_init *in, struct kbs_error *err)
{
    struct kbs_buf san = KBS_BUF(1024);
    struct kbs_buf pem = KBS_BUF(8192);
    struct kbs_tls_key key = KBS_TLS_KEY;
    struct kbs_tls_names names = {.subject = SUBJECT};
    int r = -1;

    kbs_buf_put_str(&san, "IP:127.0.0.1,IP:::1,DNS:localhost");
    san_put(&san, in->listen);
    if (strcmp(in->admin_listen, in->listen) != 0) {
        san_put(&san, in->admin_listen);
    }
    names.san = kbs_buf_cstr(&san);
    if (names.san == NULL) {
        (void)kbs_fail(err, KBS_INTERNAL, "out of memory");
    } else if (kbs_init_folder(in, "tls", err) == 0 && take_key(in, &key, err) == 0 &&
               kbs_tls_selfsigned(&key, &names, DAYS, &pem, err) == 0) {
        r = kbs_init_write(in, "tls/cert.pem", kbs_buf_span(&pem), 0644, err);
    }
    kbs_tls_key_close(&key);
    kbs_buf_deinit(&san);
    kbs_buf_deinit(&pem);
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
