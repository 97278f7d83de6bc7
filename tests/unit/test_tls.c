/*
 * The TLS filter against OpenSSL's client, both over memory BIOs: handshake, data both ways in
 * pieces of any size, what is refused, and that one connection's trouble does not reach another. The same with
 * a key at the other end of a link, whose signer here is a thread with a key of OpenSSL's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/providers/signer.h"
#include "tls/tls.h"

struct credentials {
    struct kbs_buf cert;
    int key_fd;
};

struct pair {
    struct kbs_tls_context *context;
    struct kbs_tls *server;
    SSL_CTX *client_ctx;
    SSL *client;
    struct kbs_buf plain; /* what the server decrypted */
    struct kbs_buf out;   /* what the server wants to send */
    size_t step;          /* how many bytes are handed over at a time; 0: all */
    unsigned int waits;   /* steps that may wait for a signer */
    enum kbs_category failure;
};

static EVP_PKEY *new_key(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    assert_non_null(key);
    return key;
}

static void make_cert(EVP_PKEY *key, struct kbs_buf *out)
{
    X509 *cert = X509_new();
    BIO *bio = BIO_new(BIO_s_mem());
    char *p = NULL;
    long n;

    assert_non_null(cert);
    assert_non_null(bio);
    assert_int_equal(X509_set_version(cert, 2), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(cert), 1), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(cert), 0));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(cert), 3600));
    assert_int_equal(X509_set_pubkey(cert, key), 1);
    assert_int_equal(X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                                                (const unsigned char *)"kbs", -1, -1, 0),
                     1);
    assert_int_equal(X509_set_issuer_name(cert, X509_get_subject_name(cert)), 1);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509(bio, cert), 1);
    n = BIO_get_mem_data(bio, &p);
    kbs_buf_put(out, p, (size_t)n);
    BIO_free(bio);
    X509_free(cert);
}

/* A descriptor with the key's PEM; `passphrase` encrypts it. */
static int make_key_fd(EVP_PKEY *key, const char *passphrase)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *p = NULL;
    int fd = memfd_create("key", MFD_CLOEXEC);
    long n;

    assert_true(fd >= 0);
    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(
                         bio, key, passphrase != NULL ? EVP_aes_256_cbc() : NULL, passphrase,
                         passphrase != NULL ? (int)strlen(passphrase) : 0, NULL, NULL),
                     1);
    n = BIO_get_mem_data(bio, &p);
    assert_int_equal(write(fd, p, (size_t)n), n);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    BIO_free(bio);
    return fd;
}

static struct credentials make_credentials(void)
{
    EVP_PKEY *key = new_key();
    struct credentials c = {.cert = KBS_BUF(65536)};

    make_cert(key, &c.cert);
    c.key_fd = make_key_fd(key, NULL);
    EVP_PKEY_free(key);
    return c;
}

/* TLS 1.3 with a key in a file. */
static struct kbs_tls_settings settings_of(struct kbs_span cert, int key_fd)
{
    return (struct kbs_tls_settings){
        .certificate = cert, .key_fd = key_fd, .minimum = 3, .maximum = 3};
}

/* With whatever `changes` are; certificate and key are made here. */
static struct kbs_tls_context *make_context_as(const struct kbs_tls_settings *changes)
{
    struct credentials c = make_credentials();
    struct kbs_tls_settings settings = *changes;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_tls_context *context = NULL;

    settings.certificate = kbs_buf_span(&c.cert);
    settings.key_fd = c.key_fd;
    assert_int_equal(kbs_tls_context_new(&settings, &context, &err), 0);
    kbs_buf_deinit(&c.cert);
    close(c.key_fd);
    return context;
}

static struct kbs_tls_context *make_context(void)
{
    const struct kbs_tls_settings plain = settings_of(KBS_SPAN_EMPTY, -1);

    return make_context_as(&plain);
}

static void pair_init(struct pair *p, struct kbs_tls_context *context, int client_max_version)
{
    struct kbs_error err = KBS_ERROR_NONE;
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());

    *p = (struct pair){.context = context, .plain = KBS_BUF(8u << 20), .out = KBS_BUF(8u << 20)};
    assert_int_equal(kbs_tls_new(context, &p->server, &err), 0);
    p->client_ctx = SSL_CTX_new(TLS_client_method());
    assert_non_null(p->client_ctx);
    assert_int_equal(SSL_CTX_set_max_proto_version(p->client_ctx, client_max_version), 1);
    p->client = SSL_new(p->client_ctx);
    BIO_set_mem_eof_return(in, -1);
    BIO_set_mem_eof_return(out, -1);
    SSL_set_bio(p->client, in, out);
    SSL_set_connect_state(p->client);
}

static void pair_deinit(struct pair *p)
{
    kbs_tls_free(p->server);
    SSL_free(p->client);
    SSL_CTX_free(p->client_ctx);
    kbs_buf_deinit(&p->plain);
    kbs_buf_deinit(&p->out);
}

/* Client's output to the server. Returns the last non-zero result of kbs_tls_receive(), or 0. */
static int to_server(struct pair *p)
{
    char *bytes = NULL;
    size_t n = (size_t)BIO_get_mem_data(SSL_get_wbio(p->client), &bytes);
    uint8_t *copy = malloc(n + 1);
    int result = 0;

    assert_non_null(copy);
    memcpy(copy, bytes, n);
    (void)BIO_reset(SSL_get_wbio(p->client));
    for (size_t at = 0; at < n && result == 0;) {
        size_t piece = p->step == 0 || n - at < p->step ? n - at : p->step;
        struct kbs_error err = KBS_ERROR_NONE;

        result = kbs_tls_receive(p->server, kbs_span(copy + at, piece), &p->plain, &p->out, &err);
        if (result == KBS_TLS_HANDSHAKE) {
            p->waits++;
            kbs_tls_handshake(p->server);
            result = kbs_tls_receive(p->server, KBS_SPAN_EMPTY, &p->plain, &p->out, &err);
        }
        p->failure = result < 0 ? err.category : KBS_OK;
        assert_true(result >= 0 || err.category != KBS_OK);
        at += piece;
    }
    free(copy);
    return result;
}

static void to_client(struct pair *p)
{
    if (p->out.len > 0) {
        assert_int_equal(BIO_write(SSL_get_rbio(p->client), p->out.p, (int)p->out.len), p->out.len);
    }
    kbs_buf_clear(&p->out);
}

/* 0 when both sides are done, else the server's failure. */
static int handshake(struct pair *p)
{
    for (int i = 0; i < 10; i++) {
        int r;

        ERR_clear_error();
        (void)SSL_do_handshake(p->client);
        r = to_server(p);
        if (r != 0) {
            return r;
        }
        to_client(p);
        if (SSL_is_init_finished(p->client) && kbs_tls_established(p->server)) {
            return 0;
        }
    }
    return -2;
}

static void check_data(struct pair *p, size_t n)
{
    uint8_t *data = malloc(n + 1);
    uint8_t *got = malloc(n + 1);
    struct kbs_error err = KBS_ERROR_NONE;
    size_t done = 0;

    assert_non_null(data);
    assert_non_null(got);
    for (size_t i = 0; i < n; i++) {
        data[i] = (uint8_t)(i * 31 + 7);
    }
    kbs_buf_clear(&p->plain);
    for (size_t at = 0; at < n;) {
        size_t written = 0;

        assert_int_equal(SSL_write_ex(p->client, data + at, n - at, &written), 1);
        at += written;
    }
    assert_int_equal(to_server(p), 0);
    assert_int_equal(p->plain.len, n);
    assert_true(n == 0 || memcmp(p->plain.p, data, n) == 0);

    assert_int_equal(kbs_tls_send(p->server, kbs_span(data, n), &p->out, &err), 0);
    assert_true(p->out.len <= KBS_TLS_CIPHER_MAX_BYTES(n));
    to_client(p);
    while (done < n) {
        size_t r = 0;

        assert_int_equal(SSL_read_ex(p->client, got + done, n - done, &r), 1);
        done += r;
    }
    assert_true(n == 0 || memcmp(got, data, n) == 0);
    free(data);
    free(got);
}

static void test_handshake_and_data(void **state)
{
    static const size_t steps[] = {0, 1, 2, 7, 100, 16384};
    static const size_t sizes[] = {0, 1, 100, 16384, 16385, 100000};
    struct kbs_tls_context *context = make_context();

    (void)state;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct pair p;

        pair_init(&p, context, 0);
        p.step = steps[i];
        assert_int_equal(handshake(&p), 0);
        assert_int_equal(SSL_version(p.client), TLS1_3_VERSION);
        for (size_t j = 0; j < sizeof(sizes) / sizeof(sizes[0]); j++) {
            check_data(&p, sizes[j]);
        }
        pair_deinit(&p);
    }
    kbs_tls_context_free(context);
}

static void test_no_resumption(void **state)
{
    struct kbs_tls_context *context = make_context();
    struct pair p;
    char byte;

    (void)state;
    pair_init(&p, context, 0);
    assert_int_equal(handshake(&p), 0);
    assert_int_equal(SSL_read(p.client, &byte, 1), -1); /* a ticket would be taken in here */
    assert_int_equal(SSL_SESSION_has_ticket(SSL_get0_session(p.client)), 0);
    assert_int_equal(SSL_SESSION_is_resumable(SSL_get0_session(p.client)), 0);
    pair_deinit(&p);
    kbs_tls_context_free(context);
}

static void test_old_versions_refused(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_1_VERSION, TLS1_VERSION};
    struct kbs_tls_context *context = make_context();

    (void)state;
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        struct pair p;

        pair_init(&p, context, versions[i]);
        SSL_set_security_level(p.client, 0);
        assert_int_equal(handshake(&p), -1);
        assert_true(p.out.len > 0); /* the alert is there to be sent: protocol_version */
        assert_int_equal(p.out.p[0], 21);
        assert_int_equal(p.out.p[p.out.len - 1], 70);
        assert_false(kbs_tls_established(p.server));
        pair_deinit(&p);
    }
    kbs_tls_context_free(context);
}

static void test_alpn(void **state)
{
    static const struct {
        const char *offer;
        size_t len;
        int result;
    } cases[] = {
        {"\x08http/1.1", 9, 0},
        {"\x02h2\x08http/1.1", 12, 0},
        {"\x02h2", 3, -1},
        {"\x08http/1.0", 9, -1},
    };
    struct kbs_tls_context *context = make_context();

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const unsigned char *selected = NULL;
        unsigned int len = 0;
        struct pair p;

        pair_init(&p, context, 0);
        assert_int_equal(SSL_set_alpn_protos(p.client, (const unsigned char *)cases[i].offer,
                                             (unsigned int)cases[i].len),
                         0);
        assert_int_equal(handshake(&p), cases[i].result);
        SSL_get0_alpn_selected(p.client, &selected, &len);
        assert_true(cases[i].result != 0 || (len == 8 && memcmp(selected, "http/1.1", 8) == 0));
        pair_deinit(&p);
    }
    kbs_tls_context_free(context);
}

static void test_garbage(void **state)
{
    static const char *const inputs[] = {
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\x16\x03\x01\xff\xff",
        "\x16\x03\x01\x01\x02\x03\x04\x05",  "\x80\x2e\x01\x00\x02\x00\x15\x00\x10",
        "\x15\x03\x01\x01\x02\x02\x28",
    };
    struct kbs_tls_context *context = make_context();
    struct pair good;

    (void)state;
    pair_init(&good, context, 0);
    assert_int_equal(handshake(&good), 0);
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        struct kbs_error err = KBS_ERROR_NONE;
        struct pair p;
        int r;

        pair_init(&p, context, 0);
        r = kbs_tls_receive(p.server, kbs_span_str(inputs[i]), &p.plain, &p.out, &err);
        if (r == 0) {
            static const uint8_t zeros[70000];

            r = kbs_tls_receive(p.server, kbs_span(zeros, sizeof(zeros)), &p.plain, &p.out, &err);
        }
        assert_int_equal(r, -1);
        assert_int_equal(err.category, KBS_INPUT);
        assert_int_equal(p.plain.len, 0);
        /* it stays failed, and says so */
        assert_int_equal(kbs_tls_receive(p.server, KBS_SPAN_LIT("x"), &p.plain, &p.out, &err), -1);
        assert_int_equal(kbs_tls_send(p.server, KBS_SPAN_LIT("x"), &p.out, &err), -1);
        pair_deinit(&p);
        check_data(&good, 1000); /* the neighbour does not notice */
    }
    pair_deinit(&good);
    kbs_tls_context_free(context);
}

static void test_tampered_record(void **state)
{
    struct kbs_tls_context *context = make_context();
    struct kbs_error err = KBS_ERROR_NONE;
    struct pair p;
    char *bytes = NULL;
    size_t written;
    long n;

    (void)state;
    pair_init(&p, context, 0);
    assert_int_equal(handshake(&p), 0);
    assert_int_equal(SSL_write_ex(p.client, "hello", 5, &written), 1);
    n = BIO_get_mem_data(SSL_get_wbio(p.client), &bytes);
    bytes[n - 1] ^= 1;
    assert_int_equal(kbs_tls_receive(p.server, kbs_span(bytes, (size_t)n), &p.plain, &p.out, &err),
                     -1);
    assert_int_equal(p.plain.len, 0);
    assert_true(p.out.len > 0);
    pair_deinit(&p);
    kbs_tls_context_free(context);
}

static void test_close(void **state)
{
    struct kbs_tls_context *context = make_context();
    struct kbs_error err = KBS_ERROR_NONE;
    struct pair p;
    char byte;

    (void)state;
    pair_init(&p, context, 0);
    kbs_tls_close(p.server, &p.out); /* before the handshake: nothing to say */
    assert_int_equal(p.out.len, 0);
    assert_int_equal(kbs_tls_send(p.server, KBS_SPAN_LIT("x"), &p.out, &err), -1);
    assert_int_equal(handshake(&p), 0);
    assert_int_equal(SSL_write(p.client, "bye", 3), 3);
    (void)SSL_shutdown(p.client);
    assert_int_equal(to_server(&p), KBS_TLS_CLOSED);
    assert_int_equal(p.plain.len, 3);
    kbs_tls_close(p.server, &p.out);
    to_client(&p);
    assert_int_equal(SSL_read(p.client, &byte, 1), 0);
    assert_int_equal(SSL_get_error(p.client, 0), SSL_ERROR_ZERO_RETURN);
    pair_deinit(&p);
    kbs_tls_context_free(context);
}

static void test_full_buffers(void **state)
{
    struct kbs_tls_context *context = make_context();
    struct kbs_error err = KBS_ERROR_NONE;
    struct pair p;

    (void)state;
    pair_init(&p, context, 0);
    assert_int_equal(handshake(&p), 0);
    kbs_buf_deinit(&p.plain);
    p.plain = KBS_BUF(10);
    assert_int_equal(SSL_write(p.client, "hello world", 11), 11);
    assert_int_equal(to_server(&p), -1);
    pair_deinit(&p);

    pair_init(&p, context, 0);
    assert_int_equal(handshake(&p), 0);
    kbs_buf_deinit(&p.out);
    p.out = KBS_BUF(10);
    assert_int_equal(kbs_tls_send(p.server, KBS_SPAN_LIT("hello"), &p.out, &err), -1);
    assert_int_equal(err.category, KBS_TOO_LARGE);
    pair_deinit(&p);
    kbs_tls_context_free(context);
}

static void refuse_context(struct kbs_span cert, int key_fd)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_tls_context *context = NULL;

    const struct kbs_tls_settings settings = settings_of(cert, key_fd);

    assert_int_equal(kbs_tls_context_new(&settings, &context, &err), -1);
    assert_int_equal(err.category, KBS_INPUT);
    assert_null(context);
    close(key_fd);
}

static void test_credentials(void **state)
{
    struct credentials c = make_credentials();
    EVP_PKEY *other = new_key();
    int empty = memfd_create("empty", MFD_CLOEXEC);
    int large = memfd_create("large", MFD_CLOEXEC);
    struct kbs_buf chain = KBS_BUF(65536);
    struct kbs_tls_context *context = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    refuse_context(kbs_buf_span(&c.cert), make_key_fd(other, NULL)); /* of another certificate */
    refuse_context(kbs_buf_span(&c.cert), make_key_fd(other, "pw")); /* encrypted: no prompt */
    refuse_context(kbs_buf_span(&c.cert), empty);
    assert_int_equal(ftruncate(large, 1 << 20), 0);
    refuse_context(kbs_buf_span(&c.cert), large);
    refuse_context(KBS_SPAN_EMPTY, make_key_fd(other, NULL));
    refuse_context(KBS_SPAN_LIT("no PEM"), make_key_fd(other, NULL));
    /* a chain, and one that ends in rubbish */
    kbs_buf_put_span(&chain, kbs_buf_span(&c.cert));
    make_cert(other, &chain);
    const struct kbs_tls_settings settings = settings_of(kbs_buf_span(&chain), c.key_fd);

    assert_int_equal(kbs_tls_context_new(&settings, &context, &err), 0);
    kbs_tls_context_free(context);
    kbs_buf_put_str(&chain, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_int_equal(lseek(c.key_fd, 0, SEEK_SET), 0);
    refuse_context(kbs_buf_span(&chain), c.key_fd);
    kbs_buf_deinit(&chain);
    kbs_buf_deinit(&c.cert);
    EVP_PKEY_free(other);
}

/* ---- what else a listener may be told ---- */

static void test_versions_and_ciphers(void **state)
{
    static const struct {
        unsigned int minimum, maximum;
        const char *ciphers;
        int client, spoken; /* spoken 0: refused */
        const char *cipher;
    } cases[] = {
        {2, 3, "", TLS1_3_VERSION, TLS1_3_VERSION, NULL},
        {2, 3, "ECDHE-ECDSA-AES128-GCM-SHA256", TLS1_2_VERSION, TLS1_2_VERSION,
         "ECDHE-ECDSA-AES128-GCM-SHA256"},
        {2, 2, "", TLS1_3_VERSION, TLS1_2_VERSION, NULL},
        {2, 3, "", TLS1_1_VERSION, 0, NULL},
        {3, 3, "TLS_CHACHA20_POLY1305_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256", TLS1_3_VERSION,
         TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kbs_tls_settings s = settings_of(KBS_SPAN_EMPTY, -1);
        struct kbs_tls_context *context;
        struct pair p;

        s.minimum = cases[i].minimum;
        s.maximum = cases[i].maximum;
        s.ciphers = kbs_span_str(cases[i].ciphers);
        context = make_context_as(&s);
        pair_init(&p, context, cases[i].client);
        SSL_set_security_level(p.client, 0);
        assert_int_equal(handshake(&p), cases[i].spoken == 0 ? -1 : 0);
        if (cases[i].spoken != 0) {
            assert_int_equal(SSL_version(p.client), cases[i].spoken);
            check_data(&p, 20000);
        }
        if (cases[i].cipher != NULL) {
            assert_string_equal(SSL_get_cipher_name(p.client), cases[i].cipher);
        }
        pair_deinit(&p);
        kbs_tls_context_free(context);
    }
}

static void test_lists_that_are_unknown(void **state)
{
    static const char *const lists[][2] = {
        {"NO-SUCH-CIPHER", ""}, {"TLS_NO_SUCH", ""}, {"", "P-255"}};
    struct kbs_tls_context *context = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct credentials c = make_credentials();
        struct kbs_tls_settings s = settings_of(kbs_buf_span(&c.cert), c.key_fd);
        struct kbs_error err = KBS_ERROR_NONE;

        s.ciphers = kbs_span_str(lists[i][0]);
        s.groups = kbs_span_str(lists[i][1]);
        assert_int_equal(kbs_tls_context_new(&s, &context, &err), -1);
        assert_int_equal(err.category, KBS_INPUT);
        kbs_buf_deinit(&c.cert);
        close(c.key_fd);
    }
}

static void test_groups(void **state)
{
    struct kbs_tls_settings s = settings_of(KBS_SPAN_EMPTY, -1);
    struct kbs_tls_context *context;
    struct pair p;

    (void)state;
    s.groups = KBS_SPAN_LIT("P-384");
    context = make_context_as(&s);
    pair_init(&p, context, 0);
    assert_int_equal(SSL_set1_groups_list(p.client, "X25519"), 1);
    assert_int_equal(handshake(&p), -1);
    pair_deinit(&p);
    pair_init(&p, context, 0);
    assert_int_equal(SSL_set1_groups_list(p.client, "X25519:P-384"), 1); /* a second ClientHello */
    assert_int_equal(handshake(&p), 0);
    assert_int_equal(SSL_get_negotiated_group(p.client), NID_secp384r1);
    pair_deinit(&p);
    kbs_tls_context_free(context);
}

/* The client's certificate: of this authority, of another, none. */
static void test_client_certificates(void **state)
{
    static const int expected[] = {0, -1, -1};
    EVP_PKEY *keys[2] = {new_key(), new_key()};
    struct kbs_buf certs[2] = {KBS_BUF(65536), KBS_BUF(65536)};
    struct kbs_tls_settings s = settings_of(KBS_SPAN_EMPTY, -1);
    struct kbs_tls_context *context;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        make_cert(keys[i], &certs[i]);
    }
    s.client_ca = kbs_buf_span(&certs[0]); /* it has signed itself */
    context = make_context_as(&s);
    for (size_t i = 0; i < 3; i++) {
        struct pair p;

        pair_init(&p, context, 0);
        if (i < 2) {
            BIO *bio = BIO_new_mem_buf(certs[i].p, (int)certs[i].len);
            X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);

            assert_int_equal(SSL_use_certificate(p.client, cert), 1);
            assert_int_equal(SSL_use_PrivateKey(p.client, keys[i]), 1);
            X509_free(cert);
            BIO_free(bio);
        }
        assert_int_equal(handshake(&p), expected[i]);
        assert_int_equal(kbs_tls_established(p.server), expected[i] == 0);
        pair_deinit(&p);
    }
    kbs_tls_context_free(context);
    for (size_t i = 0; i < 2; i++) {
        EVP_PKEY_free(keys[i]);
        kbs_buf_deinit(&certs[i]);
    }
}

/* RFC 9266: the same on both ends of a connection, and of no other. */
static void test_channel_binding(void **state)
{
    static const char label[] = "EXPORTER-Channel-Binding";
    struct kbs_tls_context *context = make_context();
    uint8_t ours[2][KBS_TLS_EXPORTER_BYTES];
    uint8_t theirs[KBS_TLS_EXPORTER_BYTES];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct pair p;

        pair_init(&p, context, 0);
        assert_false(kbs_tls_exporter(p.server, ours[i]));
        assert_int_equal(handshake(&p), 0);
        assert_true(kbs_tls_exporter(p.server, ours[i]));
        assert_int_equal(SSL_export_keying_material(p.client, theirs, sizeof(theirs), label,
                                                    sizeof(label) - 1, (const unsigned char *)"", 0,
                                                    1),
                         1);
        assert_memory_equal(ours[i], theirs, sizeof(theirs));
        pair_deinit(&p);
    }
    assert_memory_not_equal(ours[0], ours[1], sizeof(theirs));
    kbs_tls_context_free(context);
}

/* ---- a key at the other end of a link ---- */

struct held {
    EVP_PKEY *key;
    struct kbs_link *link;
    struct kbs_tls_context *context;
    struct signer signer;
};

static void held_init(struct held *h, enum signer_mode mode)
{
    struct kbs_buf cert = KBS_BUF(65536);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_tls_settings s;

    h->key = new_key();
    make_cert(h->key, &cert);
    assert_int_equal(kbs_link_new(1, &h->link, &err), 0);
    assert_int_equal(kbs_link_attach(h->link, 0, signer_start(&h->signer, h->key, mode), &err), 0);
    s = settings_of(kbs_buf_span(&cert), -1);
    s.signers = h->link;
    s.minimum = 2; /* which a token's key does not take */
    assert_int_equal(kbs_tls_context_new(&s, &h->context, &err), 0);
    kbs_buf_deinit(&cert);
}

static void held_deinit(struct held *h)
{
    kbs_tls_context_free(h->context);
    kbs_link_free(h->link);
    signer_stop(&h->signer);
    EVP_PKEY_free(h->key);
}

static void test_held_key(void **state)
{
    static const size_t steps[] = {0, 1, 100};
    struct held h;

    (void)state;
    held_init(&h, SIGNER_HONEST);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct pair p;

        pair_init(&p, h.context, 0);
        p.step = steps[i];
        if (i == 0) { /* a second ClientHello */
            assert_int_equal(SSL_set1_groups_list(p.client, "P-521:P-256"), 1);
        }
        assert_int_equal(handshake(&p), 0);
        assert_true(p.waits >= 2); /* ClientHello and Finished */
        check_data(&p, 100000);
        assert_true(p.waits < 3000);
        pair_deinit(&p);
    }
    struct pair old;

    pair_init(&old, h.context, TLS1_2_VERSION);
    assert_int_equal(handshake(&old), -1);
    pair_deinit(&old);
    held_deinit(&h);
}

/* It does not sign, or signs something else: the handshake fails, and it is said whose fault it is. */
static void test_held_key_fails(void **state)
{
    struct held h;
    struct pair p;

    (void)state;
    held_init(&h, SIGNER_CLOSE);
    pair_init(&p, h.context, 0);
    assert_int_equal(handshake(&p), -1);
    assert_int_equal(p.failure, KBS_TOKEN_DOWN);
    assert_true(p.out.len > 0); /* an alert, encrypted */
    assert_false(kbs_tls_established(p.server));
    pair_deinit(&p);
    /* the peer's own faults are still its own */
    pair_init(&p, h.context, TLS1_2_VERSION);
    assert_int_equal(handshake(&p), -1);
    assert_int_equal(p.failure, KBS_INPUT);
    pair_deinit(&p);
    held_deinit(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshake_and_data),
        cmocka_unit_test(test_no_resumption),
        cmocka_unit_test(test_old_versions_refused),
        cmocka_unit_test(test_alpn),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_tampered_record),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_full_buffers),
        cmocka_unit_test(test_credentials),
        cmocka_unit_test(test_versions_and_ciphers),
        cmocka_unit_test(test_lists_that_are_unknown),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_channel_binding),
        cmocka_unit_test(test_held_key),
        cmocka_unit_test(test_held_key_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
