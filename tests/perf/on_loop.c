/*
 * What a TLS server is that signs on its loop, with a token that takes its time: the reference for
 * ci/bench-tls. One thread, one loop, OpenSSL with a key in a file; the wait for the token is a
 * sleep within SSL_accept(), where the signature is made (the certificate's callback, which comes
 * between the ClientHello and the signature). While it sleeps nobody is served, as if C_Sign were
 * called there.
 *
 *   perf_on_loop CERT.pem KEY.pem SIGN_MS
 *
 * Prints the port it listens on, 127.0.0.1, and serves until standard input ends. A request is
 * answered with 200, whatever it is.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define EVENTS 64
#define BACKLOG 511

struct connection {
    int fd;
    SSL *ssl;
};

_Noreturn static void give_up(const char *what)
{
    fprintf(stderr, "perf_on_loop: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

/* The token. */
static int sign_slowly(SSL *ssl, void *arg)
{
    const unsigned long *ms = arg;
    struct timespec left = {(time_t)(*ms / 1000), (long)(*ms % 1000) * 1000000};

    (void)ssl;
    while (nanosleep(&left, &left) != 0) {
        continue;
    }
    return 1;
}

static SSL_CTX *prepare(const char *certificate, const char *key, unsigned long *sign_ms)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set_num_tickets(context, 0) != 1) {
        give_up("certificate and key");
    }
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_cert_cb(context, sign_slowly, sign_ms);
    return context;
}

static int listen_on_loopback(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, len) != 0 ||
        listen(fd, BACKLOG) != 0 || getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
        give_up("cannot listen");
    }
    printf("%u\n", (unsigned int)ntohs(address.sin_port));
    (void)fflush(stdout);
    return fd;
}

static void watch(int epoll, int fd, struct connection *conn)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        give_up("epoll");
    }
}

static void accept_all(int epoll, int listener, SSL_CTX *context)
{
    const int one = 1;
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *conn = calloc(1, sizeof(*conn));

        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (conn == NULL || (conn->ssl = SSL_new(context)) == NULL ||
            SSL_set_fd(conn->ssl, fd) != 1) {
            give_up("out of memory");
        }
        conn->fd = fd;
        SSL_set_accept_state(conn->ssl);
        watch(epoll, fd, conn);
    }
}

static void serve(struct connection *conn)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    char request[4096];

    for (;;) {
        int n;

        ERR_clear_error();
        n = SSL_read(conn->ssl, request, sizeof(request)); /* the handshake first, if need be */
        if (n <= 0 && SSL_get_error(conn->ssl, n) == SSL_ERROR_WANT_READ) {
            return;
        }
        if (n <= 0) {
            (void)SSL_shutdown(conn->ssl);
            SSL_free(conn->ssl);
            (void)close(conn->fd);
            free(conn);
            return;
        }
        (void)SSL_write(conn->ssl, answer, sizeof(answer) - 1);
    }
}

int main(int argc, char **argv)
{
    static struct connection end; /* standard input */
    struct epoll_event events[EVENTS];
    unsigned long sign_ms = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
    SSL_CTX *context;
    int listener;
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    if (argc != 4 || epoll < 0) {
        give_up("usage: perf_on_loop CERT.pem KEY.pem SIGN_MS");
    }
    (void)signal(SIGPIPE, SIG_IGN);
    context = prepare(argv[1], argv[2], &sign_ms);
    listener = listen_on_loopback();
    watch(epoll, listener, NULL);
    watch(epoll, STDIN_FILENO, &end);
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &end) {
                SSL_CTX_free(context);
                return 0;
            }
            if (events[i].data.ptr == NULL) {
                accept_all(epoll, listener, context);
            } else {
                serve(events[i].data.ptr);
            }
        }
    }
}
