/*
 * A key in a token signs where it is: a kbs-token of our own, as a general sign worker with one
 * channel, behind OpenSSL's signing functions by the provider. It is started, confined and logged
 * in as kbsd starts one, so what works here works there; and ends with the command. A key in a file
 * goes from the descriptor into a secret, and to OpenSSL from there.
 *
 * Left out: another user's id for the worker, if we are root. What a token writes at a login (SoftHSM
 * does) it writes into files that are there, whose owner stays.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/terms.h"
#include "channel/channel.h"
#include "cli/files.h"
#include "cli/tls.h"
#include "providers/provider.h"

#define PROGRAM "kbs-token"
#define KEY_FILE_BYTES 16384
#define SPKI_BYTES 2048

static int attach_pin(const struct kbs_cli_worker *w, const struct kbs_tls_token *t,
                      struct stat *ret_pin, uint64_t deadline, struct kbs_error *err)
{
    int fd = open(t->pin_file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int r = -1;

    if (fd < 0 || fstat(fd, ret_pin) != 0) {
        (void)kbs_fail_errno(err, KBS_INPUT, "cannot open the PIN file %.120s: %s", t->pin_file,
                             strerror(errno));
    } else {
        r = kbs_cli_worker_attach(w, KBS_ATTACH_PIN, 0, fd, deadline, err);
    }
    if (t->pin_credential) { /* base/pin_latch.h */
        *ret_pin = (struct stat){.st_size = 0};
    }
    kbs_io_close(&fd);
    return r;
}

static int configure(const struct kbs_cli_worker *w, const struct kbs_tls_token *t, const char *uri,
                     struct kbs_span certificate, int front, uint64_t deadline,
                     struct kbs_error *err)
{
    struct kbs_wire_config_token config = t->config;

    config.duty = KBS_DUTY_SIGN;
    config.general = 1;
    config.key = kbs_span_str(uri);
    config.certificate = certificate;
    return kbs_channel_send(w->control, KBS_WIRE_CONFIG_TOKEN, 0, &config, -1, deadline, err) != 0
               ? -1
               : kbs_cli_worker_attach(w, KBS_ATTACH_FRONT, 0, front, deadline, err);
}

/* 0, KBS_CLI_TOKEN_ENDED or -1. */
static int start(struct kbs_tls_key *k, const struct kbs_tls_token *t, const char *uri,
                 struct kbs_span certificate, struct kbs_error *err)
{
    struct kbs_cli_login login = {.lock_file = t->lock_file};
    uint64_t deadline = kbs_deadline_in_ms(KBS_LIMIT_START_MS);
    int front = -1;
    int r = kbs_cli_worker_start(&k->worker, PROGRAM, NULL, &front, err);

    if (r == 0) {
        r = configure(&k->worker, t, uri, certificate, front, deadline, err);
    }
    kbs_io_close(&front);
    if (r != 0 || attach_pin(&k->worker, t, &login.pin, deadline, err) != 0 ||
        kbs_channel_send(k->worker.control, KBS_WIRE_GO, 0, NULL, -1, deadline, err) != 0) {
        return -1;
    }
    return kbs_cli_token_ready(&k->worker, &login, deadline, err);
}

/* The channel becomes a link, and the link a key. */
static int link_key(struct kbs_tls_key *k, struct kbs_error *err)
{
    struct kbs_buf spki = KBS_BUF(SPKI_BYTES);
    int fd = k->worker.judge;
    int r = -1;

    k->worker.judge = -1;
    if (kbs_link_new(1, &k->link, err) != 0) {
        kbs_io_close(&fd);
        return -1;
    }
    if (kbs_link_attach(k->link, 0, fd, err) == 0 &&
        kbs_link_order(k->link, KBS_WIRE_PUBLIC_WANT, NULL, KBS_LIMIT_TOKEN_OP_MS, &spki, err) ==
            0) {
        const unsigned char *p = spki.p;
        k->public_key = d2i_PUBKEY(NULL, &p, (long)spki.len);
        r = k->public_key != NULL
                ? 0
                : kbs_fail_openssl(err, KBS_TOKEN_DOWN, "kbs-token has sent no public key");
    }
    if (r == 0 && OSSL_PROVIDER_available(NULL, KBS_PROVIDER_NAME) != 1) {
        r = kbs_provider_load(NULL, err);
    }
    if (r == 0) {
        r = kbs_provider_key(NULL, k->public_key, k->link, KBS_PROVIDER_GENERAL, &k->key, err);
    }
    kbs_buf_deinit(&spki);
    return r;
}

int kbs_tls_key_token(const struct kbs_tls_token *t, const char *uri, struct kbs_span certificate,
                      struct kbs_tls_key *ret, struct kbs_error *err)
{
    int r = start(ret, t, uri, certificate, err);

    if (r == KBS_CLI_TOKEN_ENDED) {
        (void)kbs_cli_worker_why(&ret->worker, "the token's key cannot be used", err);
    } else if (r == 0) {
        r = link_key(ret, err);
    }
    if (r < 0) {
        kbs_cli_worker_stop(&ret->worker, true);
        ret->worker = KBS_CLI_WORKER_NULL;
    }
    return r == KBS_CLI_TOKEN_ENDED ? KBS_TLS_KEY_UNFIT : r;
}

static int no_password(char *out, int size, int writing, void *arg)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static int open_file(const char *path, struct kbs_tls_key *ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET pem = NULL;
    BIO *bio = NULL;

    if (kbs_cli_read_secret(path, KEY_FILE_BYTES, &pem, err) != 0) {
        return -1;
    }
    bio = BIO_new_mem_buf(kbs_secret_bytes(pem), (int)kbs_secret_len(pem));
    ret->key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    if (ret->key == NULL) {
        return kbs_fail_openssl(err, KBS_INPUT, "%.120s: no private key in PEM without a password",
                                path);
    }
    (void)EVP_PKEY_up_ref(ret->key);
    ret->public_key = ret->key;
    return 0;
}

int kbs_tls_key_open(const struct kbs_tls_host *h, struct kbs_span certificate,
                     struct kbs_tls_key *ret, struct kbs_error *err)
{
    return h->key_uri != NULL ? kbs_tls_key_token(&h->token, h->key_uri, certificate, ret, err)
                              : open_file(h->key_file, ret, err);
}

void kbs_tls_key_close(struct kbs_tls_key *k)
{
    EVP_PKEY_free(k->key);
    EVP_PKEY_free(k->public_key);
    k->link = kbs_link_free(k->link); /* before the worker is told to leave: its channel closes */
    kbs_cli_worker_stop(&k->worker, false);
    *k = KBS_TLS_KEY;
}
