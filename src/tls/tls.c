/*
 * TLS as a filter.
 *
 * The problem: OpenSSL wants to own a socket, an event loop wants to own it too. The approach: two
 * memory BIOs per connection. Callers hand in what they received and get back plaintext and what
 * they must send; the order of events is a function of the bytes alone, so the whole exchange runs
 * in a unit test without a socket.
 *
 * Rules, each learnt from somebody's outage:
 *   - ERR_clear_error() before every SSL_* call: SSL_get_error() looks at the thread's queue, and a
 *     stale entry of one connection closes another one.
 *   - Both BIOs return -1, not 0, when empty; otherwise "no bytes yet" reads as end of file.
 *   - The output BIO is emptied after every call, also after a failed one: that is where the alert
 *     is.
 *   - Reads repeat until WANT_READ, because several records may have arrived together.
 *   - No tickets and no session cache: a resumption secret is one more key to guard, and guests
 *     connect once.
 *
 * The private key lives on OpenSSL's normal heap, not the secure one: the secure heap is small and
 * of fixed size, and OpenSSL also puts the ephemeral key of every handshake there, so a few
 * thousand connections would exhaust it and fail. The process is not dumpable and writes no core.
 *
 * A key in a token: the certificate's key, with the private operation of the provider `kbs`
 * (providers/), which waits for an answer. So a handshake is stepped by its caller in a thread of its
 * choice, from the first byte to the last: a second ClientHello is signed for, too.
 *
 * Rejected: SSL_MODE_ASYNC (stack switching hides control flow and confuses sanitizers); kTLS
 * (needs a socket BIO).
 */
#include "tls/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/secret.h"
#include "providers/provider.h"

#define LIST_MAX_BYTES 1024 /* of ciphers or groups */
#define KEY_PEM_MAX_BYTES 16384
#define RECORD_BYTES 16384

struct kbs_tls_context {
    SSL_CTX *ssl_ctx;
    bool waits; /* its handshakes do, for a token */
};

struct kbs_tls {
    SSL *ssl;
    BIO *in;    /* borrowed: SSL_free() frees it */
    BIO *out;   /* the same */
    bool waits; /* its handshake belongs in a thread */
    bool failed;
    struct kbs_error failure; /* of kbs_tls_handshake() */
};

/*
 * RFC 7301 section 3.2: nothing in common is a fatal no_application_protocol; no ALPN at all is
 * fine.
 */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned int in_len, void *arg)
{
    static const unsigned char wanted[] = "http/1.1";
    const unsigned int wanted_len = sizeof(wanted) - 1;

    (void)ssl;
    (void)arg;
    for (unsigned int i = 0; i + 1 <= in_len && in[i] <= in_len - i - 1; i += 1u + in[i]) {
        if (in[i] == wanted_len && memcmp(in + i + 1, wanted, wanted_len) == 0) {
            *out = in + i + 1;
            *out_len = in[i];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* An encrypted PEM is an error, not a question on the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    (void)buf;
    (void)size;
    (void)rwflag;
    (void)arg;
    return -1;
}

static int use_certificates(SSL_CTX *ctx, struct kbs_span pem, struct kbs_error *err)
{
    BIO *bio = pem.len <= INT32_MAX ? BIO_new_mem_buf(pem.p, (int)pem.len) : NULL;
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;
    int result = -1;

    if (cert == NULL || SSL_CTX_use_certificate(ctx, cert) != 1) {
        result = kbs_fail_openssl(err, KBS_INPUT, "the TLS certificate is not usable PEM");
        goto out;
    }
    for (;;) {
        X509_free(cert);
        cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
        if (cert == NULL) {
            break;
        }
        if (SSL_CTX_add1_chain_cert(ctx, cert) != 1) {
            result = kbs_fail_openssl(err, KBS_INPUT, "the TLS certificate chain is not usable");
            goto out;
        }
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
        result = kbs_fail_openssl(err, KBS_INPUT, "the TLS certificate chain is not usable PEM");
        goto out;
    }
    ERR_clear_error();
    result = 0;
out:
    X509_free(cert);
    BIO_free(bio);
    return result;
}

/* Reads to the end of fd; KBS_INPUT beyond `size`. */
static int read_key_pem(int fd, uint8_t *pem, size_t size, size_t *ret_len, struct kbs_error *err)
{
    size_t len = 0;

    for (;;) {
        ssize_t n = read(fd, pem + len, size - len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return kbs_fail_errno(err, KBS_INTERNAL, "cannot read the TLS key");
        }
        if (n == 0) {
            *ret_len = len;
            return 0;
        }
        len += (size_t)n;
        if (len == size) {
            return kbs_fail(err, KBS_INPUT, "the TLS key is too long");
        }
    }
}

static int use_key(SSL_CTX *ctx, int key_fd, struct kbs_error *err)
{
    uint8_t pem[KEY_PEM_MAX_BYTES];
    size_t len = 0;
    BIO *bio = NULL;
    EVP_PKEY *key = NULL;
    int result = -1;

    if (read_key_pem(key_fd, pem, sizeof(pem), &len, err) < 0) {
        goto out;
    }
    bio = BIO_new_mem_buf(pem, (int)len);
    key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    if (key == NULL) {
        result =
            kbs_fail_openssl(err, KBS_INPUT, "the TLS key is not an unencrypted PEM private key");
        goto out;
    }
    if (SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        result = kbs_fail_openssl(err, KBS_INPUT, "the TLS key does not belong to the certificate");
        goto out;
    }
    result = 0;
out:
    EVP_PKEY_free(key);
    BIO_free(bio);
    kbs_cleanse(pem, sizeof(pem));
    return result;
}

/* The certificate's own key, with a private half at the other end of the link. */
static int use_signers(SSL_CTX *ctx, struct kbs_link *signers, struct kbs_error *err)
{
    EVP_PKEY *key = NULL;
    int result;

    if (kbs_provider_load(NULL, err) != 0 ||
        kbs_provider_key(NULL, X509_get0_pubkey(SSL_CTX_get0_certificate(ctx)), signers,
                         KBS_PROVIDER_TLS, &key, err) != 0) {
        return -1;
    }
    result = SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1
                 ? 0
                 : kbs_fail_openssl(err, KBS_INPUT, "the token's key cannot be used for TLS");
    EVP_PKEY_free(key);
    return result;
}

/* Who is let in: those with a certificate by one of these authorities. */
static int use_client_ca(SSL_CTX *ctx, struct kbs_span pem, struct kbs_error *err)
{
    static const unsigned char id[] = "kbs-hsm";
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    BIO *bio = pem.len <= INT32_MAX ? BIO_new_mem_buf(pem.p, (int)pem.len) : NULL;
    X509 *ca = NULL;
    size_t n = 0;
    bool ok = bio != NULL;

    while (ok && (ca = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL) {
        ok = X509_STORE_add_cert(store, ca) == 1 && SSL_CTX_add_client_CA(ctx, ca) == 1;
        X509_free(ca);
        n++;
    }
    BIO_free(bio);
    ok = ok && n != 0 && ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE &&
         SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1) == 1;
    if (!ok) {
        return kbs_fail_openssl(err, KBS_INPUT, "client_ca is not usable PEM");
    }
    ERR_clear_error();
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return 0;
}

/* A list that the configuration gives; an empty one is the library's own. */
static int use_list(SSL_CTX *ctx, struct kbs_span list, int (*set)(SSL_CTX *ctx, const char *list),
                    const char *what, struct kbs_error *err)
{
    char text[LIST_MAX_BYTES];

    if (list.len == 0) {
        return 0;
    }
    return kbs_span_to_cstr(list, text, sizeof(text)) && set(ctx, text) == 1
               ? 0
               : kbs_fail_openssl(err, KBS_INPUT, "%s", what);
}

/*
 * One list for both versions, as Trustee has it: OpenSSL has a list each. The suites of TLS 1.3 are those whose
 * names begin with TLS_; a list without any leaves them as they are.
 */
static int set_ciphers(SSL_CTX *ctx, const char *list)
{
    struct kbs_buf lists[2] = {KBS_BUF(LIST_MAX_BYTES),
                               KBS_BUF(LIST_MAX_BYTES)}; /* of 1.2, of 1.3 */
    int r = 1;

    while (*list != '\0') {
        size_t len = strcspn(list, ":");
        struct kbs_buf *to = &lists[strncmp(list, "TLS_", 4) == 0 ? 1 : 0];

        kbs_buf_put_str(to, to->len != 0 ? ":" : "");
        kbs_buf_put(to, list, len);
        list += len + (list[len] == ':' ? 1 : 0);
    }
    if (lists[0].len != 0) {
        r = kbs_buf_cstr(&lists[0]) != NULL &&
            SSL_CTX_set_cipher_list(ctx, kbs_buf_cstr(&lists[0]));
    }
    if (r == 1 && lists[1].len != 0) {
        r = kbs_buf_cstr(&lists[1]) != NULL &&
            SSL_CTX_set_ciphersuites(ctx, kbs_buf_cstr(&lists[1]));
    }
    kbs_buf_deinit(&lists[0]);
    kbs_buf_deinit(&lists[1]);
    return r;
}

static int set_groups(SSL_CTX *ctx, const char *list)
{
    return (int)SSL_CTX_set1_groups_list(ctx, list); /* a macro */
}

/* The hybrid with ML-KEM-768 where this OpenSSL has it (3.5), beside the curves that all have. */
static void prefer_hybrid(SSL_CTX *ctx)
{
    if (set_groups(ctx, "X25519MLKEM768:X25519:P-256:P-384") != 1) {
        (void)set_groups(ctx, "X25519:P-256:P-384");
        ERR_clear_error();
    }
}

static int version_of(unsigned int minor)
{
    return minor == 2 ? TLS1_2_VERSION : TLS1_3_VERSION;
}

static int configure(SSL_CTX *ctx, const struct kbs_tls_settings *s, struct kbs_error *err)
{
    bool waits = s->signers != NULL;

    if (SSL_CTX_set_min_proto_version(ctx, waits ? TLS1_3_VERSION : version_of(s->minimum)) != 1 ||
        SSL_CTX_set_max_proto_version(ctx, waits ? TLS1_3_VERSION : version_of(s->maximum)) != 1 ||
        SSL_CTX_set_num_tickets(ctx, 0) != 1 || SSL_CTX_set_max_early_data(ctx, 0) != 1) {
        return kbs_fail_openssl(err, KBS_INTERNAL, "cannot set up TLS");
    }
    prefer_hybrid(ctx);
    if (use_list(ctx, s->ciphers, set_ciphers, "tls_ciphers has one that is not known", err) != 0 ||
        use_list(ctx, s->groups, set_groups, "tls_groups has one that is not known", err) != 0) {
        return -1;
    }
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* The chain is the file's: otherwise OpenSSL looks for one anew in every handshake. */
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_read_ahead(ctx, 1); /* all of `in` at once, not header and record by turns */
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
    return 0;
}

int kbs_tls_context_new(const struct kbs_tls_settings *settings, struct kbs_tls_context **ret,
                        struct kbs_error *err)
{
    struct kbs_tls_context *c = calloc(1, sizeof(*c));

    ERR_clear_error();
    if (c == NULL || (c->ssl_ctx = SSL_CTX_new(TLS_server_method())) == NULL) {
        free(c);
        return kbs_fail_openssl(err, KBS_INTERNAL, "cannot set up TLS");
    }
    c->waits = settings->signers != NULL;
    if (configure(c->ssl_ctx, settings, err) < 0 ||
        use_certificates(c->ssl_ctx, settings->certificate, err) < 0 ||
        (c->waits ? use_signers(c->ssl_ctx, settings->signers, err)
                  : use_key(c->ssl_ctx, settings->key_fd, err)) < 0 ||
        (settings->client_ca.len != 0 && use_client_ca(c->ssl_ctx, settings->client_ca, err) < 0)) {
        kbs_tls_context_free(c);
        return -1;
    }
    *ret = c;
    return 0;
}

struct kbs_tls_context *kbs_tls_context_free(struct kbs_tls_context *c)
{
    if (c != NULL) {
        SSL_CTX_free(c->ssl_ctx);
        free(c);
    }
    return NULL;
}

int kbs_tls_new(struct kbs_tls_context *c, struct kbs_tls **ret, struct kbs_error *err)
{
    struct kbs_tls *t = calloc(1, sizeof(*t));

    ERR_clear_error();
    if (t == NULL || (t->ssl = SSL_new(c->ssl_ctx)) == NULL) {
        free(t);
        return kbs_fail_openssl(err, KBS_INTERNAL, "cannot set up a TLS session");
    }
    t->in = BIO_new(BIO_s_mem());
    t->out = BIO_new(BIO_s_mem());
    if (t->in == NULL || t->out == NULL) {
        BIO_free(t->in);
        BIO_free(t->out);
        SSL_free(t->ssl);
        free(t);
        return kbs_fail_openssl(err, KBS_INTERNAL, "cannot set up a TLS session");
    }
    BIO_set_mem_eof_return(t->in, -1);
    BIO_set_mem_eof_return(t->out, -1);
    SSL_set_bio(t->ssl, t->in, t->out);
    SSL_set_accept_state(t->ssl);
    t->waits = c->waits;
    *ret = t;
    return 0;
}

struct kbs_tls *kbs_tls_free(struct kbs_tls *t)
{
    if (t != NULL) {
        SSL_free(t->ssl);
        free(t);
    }
    return NULL;
}

/* Moves what OpenSSL wants to send into `out`. */
static void flush(struct kbs_tls *t, struct kbs_buf *out)
{
    char *p = NULL;
    long n = BIO_get_mem_data(t->out, &p);

    if (n > 0) {
        kbs_buf_put(out, p, (size_t)n);
        (void)BIO_reset(t->out);
    }
}

/*
 * Of the handshake, as far as there are bytes: SSL_do_handshake(). Plaintext is cleansed from when there
 * is any: of a handshake's records nothing is secret, and each would be 16 KiB to overwrite.
 */
static int shake_hands(struct kbs_tls *t)
{
    int r;

    ERR_clear_error();
    r = SSL_do_handshake(t->ssl);
    if (r == 1) {
        (void)SSL_set_options(t->ssl, SSL_OP_CLEANSE_PLAINTEXT);
    }
    return r;
}

/* One record, or a step of the handshake: then *ret_n stays 0. */
static int step(struct kbs_tls *t, uint8_t *bytes, size_t size, size_t *ret_n)
{
    if (!kbs_tls_established(t)) {
        return shake_hands(t);
    }
    ERR_clear_error();
    return SSL_read_ex(t->ssl, bytes, size, ret_n);
}

/* Decrypts until OpenSSL wants more bytes. 0, KBS_TLS_CLOSED or -1. */
static int read_all(struct kbs_tls *t, struct kbs_buf *plain, struct kbs_error *err)
{
    uint8_t bytes[RECORD_BYTES]; /* not in `plain`: most calls decrypt nothing */

    for (;;) {
        size_t n = 0;
        int r = step(t, bytes, sizeof(bytes), &n);

        if (r == 1) {
            kbs_buf_put(plain, bytes, n);
            kbs_cleanse(bytes, n);
            if (plain->failed) {
                return kbs_buf_check(plain, "the decrypted input", err);
            }
            continue;
        }
        switch (SSL_get_error(t->ssl, r)) {
        case SSL_ERROR_WANT_READ:
            return 0;
        case SSL_ERROR_ZERO_RETURN:
            return KBS_TLS_CLOSED;
        default:
            return kbs_fail_openssl(err, KBS_INPUT, "the peer breaks the TLS protocol");
        }
    }
}

/* What went wrong is told again to whoever goes on. */
static void session_fail(struct kbs_tls *t, bool failed, const struct kbs_error *err)
{
    t->failed = failed;
    if (failed) {
        t->failure = *err;
    }
}

int kbs_tls_receive(struct kbs_tls *t, struct kbs_span cipher, struct kbs_buf *plain,
                    struct kbs_buf *out, struct kbs_error *err)
{
    int r = 0;

    if (t->failed) {
        flush(t, out);
        *err = t->failure;
        return -1;
    }
    if (cipher.len > INT32_MAX ||
        (cipher.len != 0 && BIO_write(t->in, cipher.p, (int)cipher.len) != (int)cipher.len)) {
        r = kbs_fail_openssl(err, KBS_INTERNAL, "cannot buffer TLS input");
    } else if (!t->waits || kbs_tls_established(t)) {
        r = read_all(t, plain, err);
    } else if (cipher.len != 0) {
        r = KBS_TLS_HANDSHAKE;
    }
    flush(t, out);
    if (r >= 0 && out->failed) {
        r = kbs_buf_check(out, "the TLS output", err);
    }
    session_fail(t, r < 0, err);
    return r;
}

/* An error of a provider that OpenSSL was given is the token's, any other is the peer's. */
static int handshake_failed(struct kbs_error *err)
{
    char why[KBS_LIMIT_ERROR_DETAIL_BYTES] = "";
    const char *data = NULL;
    int flags = 0;
    unsigned long first = ERR_peek_error_all(NULL, NULL, NULL, &data, &flags);

    if (ERR_GET_LIB(first) < ERR_LIB_USER) {
        return kbs_fail_openssl(err, KBS_INPUT, "the peer breaks the TLS protocol");
    }
    if ((flags & ERR_TXT_STRING) != 0) {
        (void)kbs_span_to_cstr(kbs_span_str(data), why, sizeof(why));
    }
    return kbs_fail_openssl(err, KBS_TOKEN_DOWN, "the TLS key did not sign: %.150s", why);
}

void kbs_tls_handshake(struct kbs_tls *t)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int r = shake_hands(t);

    if (r != 1 && SSL_get_error(t->ssl, r) != SSL_ERROR_WANT_READ) {
        (void)handshake_failed(&err);
        session_fail(t, true, &err);
    }
}

int kbs_tls_send(struct kbs_tls *t, struct kbs_span plain, struct kbs_buf *out,
                 struct kbs_error *err)
{
    size_t written = 0;
    int r = 1;

    if (t->failed || !kbs_tls_established(t)) {
        return kbs_fail(err, KBS_INTERNAL, "the TLS session is not established");
    }
    while (plain.len != 0 && r == 1) {
        /* One record at a time, so that the BIO never holds a second copy of a large answer. */
        size_t n = plain.len < RECORD_BYTES ? plain.len : RECORD_BYTES;

        ERR_clear_error();
        r = SSL_write_ex(t->ssl, plain.p, n, &written);
        flush(t, out);
        plain = kbs_span_skip(plain, r == 1 ? written : 0);
    }
    if (r != 1) {
        t->failed = true;
        return kbs_fail_openssl(err, KBS_INTERNAL, "cannot encrypt");
    }
    return kbs_buf_check(out, "the TLS output", err);
}

void kbs_tls_close(struct kbs_tls *t, struct kbs_buf *out)
{
    if (t->failed || !kbs_tls_established(t)) {
        return;
    }
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl);
    ERR_clear_error();
    flush(t, out);
}

bool kbs_tls_established(const struct kbs_tls *t)
{
    return SSL_is_init_finished(t->ssl) == 1;
}

bool kbs_tls_exporter(struct kbs_tls *t, uint8_t ret[KBS_TLS_EXPORTER_BYTES])
{
    static const char label[] = "EXPORTER-Channel-Binding";
    bool ok;

    ERR_clear_error();
    ok = !t->failed && kbs_tls_established(t) &&
         (SSL_version(t->ssl) == TLS1_3_VERSION || SSL_get_extms_support(t->ssl) == 1) &&
         SSL_export_keying_material(t->ssl, ret, KBS_TLS_EXPORTER_BYTES, label, sizeof(label) - 1,
                                    (const unsigned char *)"", 0, 1) == 1;
    ERR_clear_error();
    return ok;
}
