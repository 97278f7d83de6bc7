/*
 * The load: one process that keeps N TLS connections open and one key release in flight on each, of
 * one attested session. In C so that it takes as little as can be of the two cores it shares with
 * the service; its CPU is never counted.
 *
 *   perf_load PORT CA.pem COOKIE TARGET CONNECTIONS
 *
 * Orders on standard input, each answered by a line:
 *
 *   open         connects what is not connected (the service closes idle connections): "open"
 *   run MS       requests for that long, and waits for what is in flight: "releases wall_ns"
 *
 * Any answer but 200 ends it: a refusal costs less than a release and would flatter the figure.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define CONNECTIONS_MAX 64u
#define ANSWER_BYTES 8192u
#define STALL_MS 10000

struct connection {
    int fd;
    SSL *ssl;
    size_t have;
    char answer[ANSWER_BYTES + 1];
};

struct load {
    struct sockaddr_in address;
    SSL_CTX *context;
    char request[1024];
    int request_len;
    size_t n;
    struct connection connections[CONNECTIONS_MAX];
};

_Noreturn static void give_up(const char *what)
{
    fprintf(stderr, "perf_load: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- connections ---- */

static void disconnect(struct connection *c)
{
    SSL_free(c->ssl);
    if (c->fd >= 0) {
        (void)close(c->fd);
    }
    c->ssl = NULL;
    c->fd = -1;
}

/* The handshake blocks; requests do not. */
static void connect_one(const struct load *l, struct connection *c)
{
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 ||
        connect(c->fd, (const struct sockaddr *)&l->address, sizeof(l->address)) != 0) {
        give_up("cannot connect");
    }
    c->ssl = SSL_new(l->context);
    if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1 || SSL_connect(c->ssl) != 1) {
        give_up("no TLS");
    }
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) != 0) {
        give_up("fcntl");
    }
}

/* Between requests the service has nothing to say but session tickets and good-bye. */
static bool is_closed(struct connection *c)
{
    char byte;
    int n = c->ssl != NULL ? SSL_peek(c->ssl, &byte, 1) : 0;

    return c->ssl == NULL || n > 0 || SSL_get_error(c->ssl, n) != SSL_ERROR_WANT_READ;
}

static void open_all(struct load *l)
{
    for (size_t i = 0; i < l->n; i++) {
        ERR_clear_error();
        if (is_closed(&l->connections[i])) {
            disconnect(&l->connections[i]);
            connect_one(l, &l->connections[i]);
        }
    }
}

/* ---- requests ---- */

static void ask(const struct load *l, struct connection *c)
{
    c->have = 0;
    if (SSL_write(c->ssl, l->request, l->request_len) != l->request_len) {
        give_up("a request did not go out at once");
    }
}

/* True if the answer at hand is whole. */
static bool is_whole(struct connection *c)
{
    static const char name[] = "content-length:";
    const char *line;
    const char *end;

    c->answer[c->have] = '\0';
    end = strstr(c->answer, "\r\n\r\n");
    if (end == NULL) {
        return false;
    }
    if (strncmp(c->answer, "HTTP/1.1 200 ", 13) != 0) {
        give_up(c->answer);
    }
    for (line = strstr(c->answer, "\r\n"); line != NULL && line < end;
         line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, sizeof(name) - 1) == 0) {
            size_t body = strtoul(line + sizeof(name) - 1, NULL, 10);

            return c->have >= (size_t)(end + 4 - c->answer) + body;
        }
    }
    give_up("an answer without Content-Length");
}

/* Reads what is there; true when the answer is whole. */
static bool listen_to(struct connection *c)
{
    for (;;) {
        int n;

        ERR_clear_error();
        n = SSL_read(c->ssl, c->answer + c->have, (int)(ANSWER_BYTES - c->have));
        if (n <= 0 && SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ) {
            return false;
        }
        if (n <= 0) {
            give_up("the service closed a connection");
        }
        c->have += (size_t)n;
        if (is_whole(c)) {
            return true;
        }
    }
}

static void run(struct load *l, unsigned long ms)
{
    struct pollfd fds[CONNECTIONS_MAX];
    uint64_t begin = now_ns();
    uint64_t end = begin + ms * 1000000u;
    size_t in_flight = l->n;
    unsigned long done = 0;

    for (size_t i = 0; i < l->n; i++) {
        fds[i] = (struct pollfd){.fd = l->connections[i].fd, .events = POLLIN};
        ask(l, &l->connections[i]);
    }
    while (in_flight > 0) {
        if (poll(fds, l->n, STALL_MS) <= 0) {
            give_up("the service does not answer");
        }
        for (size_t i = 0; i < l->n; i++) {
            if (fds[i].revents == 0 || !listen_to(&l->connections[i])) {
                continue;
            }
            done++;
            if (now_ns() < end) {
                ask(l, &l->connections[i]);
            } else {
                fds[i].fd = -1;
                in_flight--;
            }
        }
    }
    printf("%lu %llu\n", done, (unsigned long long)(now_ns() - begin));
    (void)fflush(stdout);
}

/* ---- main ---- */

static void prepare(struct load *l, char **argv)
{
    l->n = strtoul(argv[5], NULL, 10);
    if (l->n == 0 || l->n > CONNECTIONS_MAX) {
        give_up("1 to 64 connections");
    }
    l->address.sin_family = AF_INET;
    l->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    l->address.sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10));
    l->request_len = snprintf(l->request, sizeof(l->request),
                              "POST %s HTTP/1.1\r\nHost: localhost\r\nCookie: kbs-session-id=%s\r\n"
                              "Accept: application/jose+json\r\nContent-Length: 0\r\n\r\n",
                              argv[4], argv[3]);
    l->context = SSL_CTX_new(TLS_client_method());
    if (l->request_len >= (int)sizeof(l->request) || l->context == NULL ||
        SSL_CTX_load_verify_locations(l->context, argv[2], NULL) != 1) {
        give_up("set-up");
    }
    SSL_CTX_set_verify(l->context, SSL_VERIFY_PEER, NULL);
    for (size_t i = 0; i < l->n; i++) {
        l->connections[i].fd = -1;
    }
}

int main(int argc, char **argv)
{
    static struct load l;
    char line[64];

    if (argc != 6) {
        give_up("usage: perf_load PORT CA.pem COOKIE TARGET CONNECTIONS");
    }
    prepare(&l, argv);
    while (fgets(line, sizeof(line), stdin) != NULL) {
        unsigned long ms;

        if (strcmp(line, "open\n") == 0) {
            open_all(&l);
            (void)puts("open");
            (void)fflush(stdout);
        } else if (sscanf(line, "run %lu", &ms) == 1) {
            run(&l, ms);
        }
    }
    for (size_t i = 0; i < l.n; i++) {
        disconnect(&l.connections[i]);
    }
    SSL_CTX_free(l.context);
    return 0;
}
