/*
 * TLS handshakes, many at a time, and requests on connections that are open already: what a server
 * can do of the one, and what the other notices of it.
 *
 *   perf_handshakes --pin CERT.pem [options] ADDRESS:PORT
 *
 *   --pin FILE         PEM certificate with the key that the server must prove to have
 *   --connections N    handshakes in flight (16)
 *   --seconds S        for that long (1), or
 *   --count N          as many
 *   --timeout MS       of one handshake, from connect() to the server's good-bye (10000)
 *   --groups, --ciphers, --alpn   what is offered (X25519, TLS_AES_256_GCM_SHA384, nothing)
 *   --client FILE      PEM certificate and key of the client, if the server asks
 *   --probes N         connections that are opened first (0)
 *   --probe-ms MS      a GET /healthz on one of them at that interval (1); 0: on each as fast as it
 *                      is answered
 *
 * With probes a line "ready" comes first, when their connections are open. Then, at the end, a line
 * of JSON, times in milliseconds:
 *
 *   handshakes, failures, failure (the first one's), seconds, per_second, p50, p99, longest,
 *   cpu_seconds (this process's), tls; probes: {answers, p50, p99, longest, late}
 *
 * A handshake is a full one: no session is kept. It counts when the server has closed the
 * connection after our close_notify, and without an alert: then it took our Finished. Its latency
 * ends with our Finished. Our Finished and our close_notify go out as one segment, as a Finished
 * and a request do.
 *
 * `longest` of the probes is the longest that an answer took: a loop that stands still for as long
 * shows there, because a probe is sent every millisecond. `late` is how late this process itself
 * was to send one, and says how much of the former is not the server's. Handshakes are work here
 * too: for probes of less than a millisecond use a process without handshakes (--connections 0).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#define CONNECTIONS_MAX 4096u
#define SAMPLES_MAX 4000000u
#define EVENTS 64
#define ANSWER_BYTES 8192u
#define TEXT_BYTES 128
#define SWEEP_NS (100u * 1000000u) /* how often handshakes are looked at that take too long */
#define END_MS 20000u              /* for what is in flight at the end */
#define NS_PER_MS 1000000u

/* One sample per event, sorted at the end. */
struct samples {
    uint64_t *ns;
    size_t n;
};

struct connection {
    int fd; /* -1: none */
    SSL *ssl;
    BIO *out; /* borrowed from ssl */
    uint64_t since_ns;
    bool established;
    bool probe;
    bool waits; /* a probe whose answer is not here */
    size_t have;
    char answer[ANSWER_BYTES + 1]; /* of a probe */
};

struct options {
    struct sockaddr_in address;
    const char *pin;
    const char *client;
    const char *groups;
    const char *ciphers;
    const char *alpn;
    unsigned long connections;
    unsigned long probes;
    unsigned long count; /* 0: by time */
    uint64_t duration_ns;
    uint64_t timeout_ns;
    uint64_t probe_ns;
};

struct client {
    struct options options;
    SSL_CTX *context;
    EVP_PKEY *pin;
    int epoll;
    int timer;
    struct connection *handshakes;
    struct connection *probes;
    size_t in_flight;
    unsigned long begun;
    unsigned long done;
    unsigned long failed;
    unsigned long next_probe;
    uint64_t probe_due_ns;
    struct samples latency;
    struct samples answers;
    uint64_t late_ns;
    bool over; /* nothing new is begun */
    char failure[TEXT_BYTES];
    char tls[TEXT_BYTES];
};

_Noreturn static void give_up(const char *what)
{
    fprintf(stderr, "perf_handshakes: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *allocate(size_t n, size_t size)
{
    void *p = calloc(n == 0 ? 1 : n, size);

    if (p == NULL) {
        give_up("out of memory");
    }
    return p;
}

/* ---- samples ---- */

static void sample(struct samples *s, uint64_t ns)
{
    if (s->n < SAMPLES_MAX) {
        s->ns[s->n++] = ns;
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Of sorted samples, in milliseconds. */
static double quantile(const struct samples *s, unsigned long per_mille)
{
    return s->n == 0 ? 0 : (double)s->ns[(s->n - 1) * per_mille / 1000] / NS_PER_MS;
}

/* ---- a connection ---- */

static void connection_open(struct client *c, struct connection *conn)
{
    const int one = 1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = conn};
    const struct sockaddr *address = (const struct sockaddr *)&c->options.address;
    BIO *in;

    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (conn->fd < 0 || setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
        (connect(conn->fd, address, sizeof(c->options.address)) != 0 && errno != EINPROGRESS) ||
        epoll_ctl(c->epoll, EPOLL_CTL_ADD, conn->fd, &event) != 0) {
        give_up("cannot connect");
    }
    conn->ssl = SSL_new(c->context);
    in = BIO_new_socket(conn->fd, BIO_NOCLOSE);
    conn->out = BIO_new(BIO_s_mem());
    if (conn->ssl == NULL || in == NULL || conn->out == NULL) {
        give_up("out of memory");
    }
    SSL_set_bio(conn->ssl, in, conn->out);
    SSL_set_connect_state(conn->ssl);
    conn->established = false;
    conn->since_ns = now_ns();
}

static void connection_close(struct connection *conn)
{
    SSL_free(conn->ssl);
    if (conn->fd >= 0) {
        (void)close(conn->fd); /* and out of the epoll set */
    }
    conn->ssl = NULL;
    conn->fd = -1;
}

/* What OpenSSL wants to send; what does not go now goes at the next event. False: the peer is gone. */
static bool flush(struct connection *conn)
{
    char *p = NULL;
    long n = BIO_get_mem_data(conn->out, &p);
    ssize_t sent = n > 0 ? send(conn->fd, p, (size_t)n, MSG_NOSIGNAL) : 0;

    if (sent < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    if (sent == n) {
        (void)BIO_reset(conn->out);
        return true;
    }
    for (char scratch[512]; sent > 0;) { /* rare: the socket took a part */
        int taken = BIO_read(conn->out, scratch,
                             sent < (ssize_t)sizeof(scratch) ? (int)sent : (int)sizeof(scratch));

        sent -= taken > 0 ? taken : sent;
    }
    return true;
}

static void describe(struct client *c, SSL *ssl)
{
    const char *group = OBJ_nid2sn((int)SSL_get_negotiated_group(ssl));

    (void)snprintf(c->tls, sizeof(c->tls), "%s %s %s", SSL_get_version(ssl),
                   SSL_CIPHER_get_name(SSL_get_current_cipher(ssl)), group);
}

/* ---- handshakes ---- */

static void handshake_begin(struct client *c, struct connection *conn);

static void handshake_end(struct client *c, struct connection *conn, const char *failure)
{
    if (failure != NULL) {
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());

        if (c->failed++ == 0) {
            (void)snprintf(c->failure, sizeof(c->failure), "%s: %s", failure,
                           reason != NULL ? reason : strerror(errno));
        }
    } else {
        c->done++;
    }
    c->in_flight--;
    connection_close(conn);
}

/* Goes on with a handshake as far as bytes are here. True when it has ended. */
static bool handshake_step(struct client *c, struct connection *conn)
{
    char byte;
    int r = 1;

    ERR_clear_error();
    if (!conn->established) {
        r = SSL_do_handshake(conn->ssl);
        if (r == 1) {
            conn->established = true;
            sample(&c->latency, now_ns() - conn->since_ns);
            if (c->tls[0] == '\0') {
                describe(c, conn->ssl);
            }
            (void)SSL_shutdown(conn->ssl); /* our close_notify, behind the Finished */
        }
    }
    if (r <= 0 && SSL_get_error(conn->ssl, r) == SSL_ERROR_SYSCALL) {
        handshake_end(c, conn, "the connection"); /* errno says what about it */
        return true;
    }
    if (!flush(conn)) {
        ERR_clear_error();
        handshake_end(c, conn, "sending");
        return true;
    }
    if (r == 1) {
        ERR_clear_error();
        r = SSL_read(conn->ssl, &byte, 1);
    }
    switch (SSL_get_error(conn->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        return false;
    case SSL_ERROR_ZERO_RETURN:
        handshake_end(c, conn, conn->established ? NULL : "closed within the handshake");
        return true;
    default:
        handshake_end(c, conn, conn->established ? "after the handshake" : "in the handshake");
        return true;
    }
}

static bool may_begin(const struct client *c)
{
    return !c->over && (c->options.count == 0 || c->begun < c->options.count);
}

/*
 * A new handshake in the place of an ended one. Never ends at once: a connection on loopback that
 * is refused says so by an event.
 */
static void handshake_begin(struct client *c, struct connection *conn)
{
    if (may_begin(c)) {
        c->begun++;
        c->in_flight++;
        connection_open(c, conn);
        (void)SSL_do_handshake(conn->ssl); /* the ClientHello, while TCP shakes hands */
        (void)flush(conn);
    }
}

static void on_handshake(struct client *c, struct connection *conn)
{
    if (handshake_step(c, conn)) {
        handshake_begin(c, conn);
    }
}

static void sweep(struct client *c, uint64_t now)
{
    for (size_t i = 0; i < c->options.connections; i++) {
        struct connection *conn = &c->handshakes[i];

        if (conn->fd >= 0 && now - conn->since_ns > c->options.timeout_ns) {
            ERR_clear_error();
            errno = ETIMEDOUT;
            handshake_end(c, conn, conn->established ? "no good-bye" : "no handshake");
            handshake_begin(c, conn);
        }
    }
}

/* ---- probes ---- */

static void probe_send(struct connection *conn, uint64_t since_ns)
{
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

    conn->have = 0;
    conn->waits = true;
    conn->since_ns = since_ns;
    ERR_clear_error();
    if (SSL_write(conn->ssl, request, sizeof(request) - 1) <= 0 || !flush(conn)) {
        give_up("a probe cannot be sent");
    }
}

/* True if the answer at hand is whole, whatever its status. */
static bool is_whole(struct connection *conn)
{
    const char *end;
    const char *length;

    conn->answer[conn->have] = '\0';
    end = strstr(conn->answer, "\r\n\r\n");
    length = strcasestr(conn->answer, "\r\ncontent-length:");
    if (end == NULL) {
        return false;
    }
    if (length == NULL || length > end) {
        give_up("an answer without Content-Length");
    }
    return conn->have >= (size_t)(end + 4 - conn->answer) + strtoul(length + 17, NULL, 10);
}

static void on_probe(struct client *c, struct connection *conn)
{
    for (;;) {
        int n;

        ERR_clear_error();
        n = SSL_read(conn->ssl, conn->answer + conn->have, (int)(ANSWER_BYTES - conn->have));
        if (n <= 0 && SSL_get_error(conn->ssl, n) == SSL_ERROR_WANT_READ) {
            return;
        }
        if (n <= 0) {
            give_up("the server closed a probe's connection");
        }
        conn->have += (size_t)n;
        if (conn->waits && is_whole(conn)) {
            uint64_t now = now_ns();

            conn->waits = false;
            sample(&c->answers, now - conn->since_ns);
            if (c->options.probe_ns == 0 && !c->over) {
                probe_send(conn, now);
            }
        }
    }
}

/* The time for a probe: on the next connection whose answer is here. */
static void on_tick(struct client *c)
{
    uint64_t ticks = 0;
    uint64_t now = now_ns();

    if (read(c->timer, &ticks, sizeof(ticks)) != sizeof(ticks) || c->over) {
        return;
    }
    if (c->probe_due_ns != 0 && now > c->probe_due_ns && now - c->probe_due_ns > c->late_ns) {
        c->late_ns = now - c->probe_due_ns;
    }
    c->probe_due_ns = (c->probe_due_ns == 0 ? now : c->probe_due_ns) + ticks * c->options.probe_ns;
    for (unsigned long i = 0; i < c->options.probes; i++) {
        struct connection *conn = &c->probes[c->next_probe++ % c->options.probes];

        if (!conn->waits) {
            probe_send(conn, now);
            return;
        }
    }
}

static void probes_open(struct client *c)
{
    for (unsigned long i = 0; i < c->options.probes; i++) {
        struct connection *conn = &c->probes[i];
        struct epoll_event event;
        int r = -1;

        conn->probe = true;
        connection_open(c, conn);
        while ((r = SSL_do_handshake(conn->ssl)) != 1 || !flush(conn)) {
            if (SSL_get_error(conn->ssl, r) != SSL_ERROR_WANT_READ || !flush(conn) ||
                epoll_wait(c->epoll, &event, 1, (int)END_MS) < 1) {
                give_up("no TLS for the probes");
            }
        }
    }
}

static void probes_start(struct client *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    struct itimerspec every = {.it_interval = {0, (long)c->options.probe_ns},
                               .it_value = {0, (long)c->options.probe_ns}};

    for (unsigned long i = 0; i < c->options.probes && c->options.probe_ns == 0; i++) {
        probe_send(&c->probes[i], now_ns());
    }
    if (c->options.probes == 0 || c->options.probe_ns == 0) {
        return;
    }
    c->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (c->timer < 0 || timerfd_settime(c->timer, 0, &every, NULL) != 0 ||
        epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->timer, &event) != 0) {
        give_up("no timer");
    }
}

static bool probes_wait(const struct client *c)
{
    for (unsigned long i = 0; i < c->options.probes; i++) {
        if (c->probes[i].waits) {
            return true;
        }
    }
    return false;
}

/* ---- the loop ---- */

static void dispatch(struct client *c, const struct epoll_event *event)
{
    struct connection *conn = event->data.ptr;

    if (conn == NULL) {
        on_tick(c);
    } else if (conn->fd < 0) {
        return; /* ended by an earlier event of the same look */
    } else if (conn->probe) {
        on_probe(c, conn);
    } else {
        on_handshake(c, conn);
    }
}

/* True while there is something to wait for. */
static bool goes_on(struct client *c, uint64_t begin, uint64_t now)
{
    bool counted = c->options.count != 0 && c->begun >= c->options.count && c->in_flight == 0;
    bool timed = c->options.count == 0 && now - begin >= c->options.duration_ns;

    c->over = c->over || counted || timed;
    return !c->over || c->in_flight > 0 || probes_wait(c);
}

static uint64_t run(struct client *c)
{
    struct epoll_event events[EVENTS];
    uint64_t begin = now_ns();
    uint64_t swept = begin;
    uint64_t now = begin;
    uint64_t over_ns = 0;

    probes_start(c);
    for (size_t i = 0; i < c->options.connections; i++) {
        handshake_begin(c, &c->handshakes[i]);
    }
    while (goes_on(c, begin, now)) {
        int n = epoll_wait(c->epoll, events, EVENTS, 10);

        for (int i = 0; i < n; i++) {
            dispatch(c, &events[i]);
        }
        now = now_ns();
        if (now - swept > SWEEP_NS) {
            sweep(c, now);
            swept = now;
        }
        over_ns = c->over && over_ns == 0 ? now : over_ns;
        if (over_ns != 0 && now - over_ns > (uint64_t)END_MS * NS_PER_MS) {
            give_up("the server does not answer");
        }
    }
    return now - begin;
}

/* ---- set-up and report ---- */

/* In the place of a chain: the one key, and nothing else. */
static int check_pin(X509_STORE_CTX *store, void *arg)
{
    const EVP_PKEY *pin = arg;
    X509 *cert = X509_STORE_CTX_get0_cert(store);
    EVP_PKEY *key = cert != NULL ? X509_get0_pubkey(cert) : NULL;

    if (key != NULL && EVP_PKEY_eq(key, pin) == 1) {
        return 1;
    }
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
    return 0;
}

static EVP_PKEY *read_pin(const char *path)
{
    FILE *file = path != NULL ? fopen(path, "re") : NULL;
    X509 *cert = file != NULL ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = cert != NULL ? X509_get_pubkey(cert) : NULL;

    if (key == NULL) {
        give_up("--pin wants a PEM certificate");
    }
    X509_free(cert);
    (void)fclose(file);
    return key;
}

/* "http/1.1" as RFC 7301 has it: a length before it. */
static void offer_alpn(SSL_CTX *context, const char *name)
{
    unsigned char list[256];
    size_t len = strlen(name);

    if (len == 0 || len > 255) {
        give_up("--alpn wants one name");
    }
    list[0] = (unsigned char)len;
    memcpy(list + 1, name, len);
    if (SSL_CTX_set_alpn_protos(context, list, (unsigned int)len + 1) != 0) {
        give_up("ALPN");
    }
}

static void prepare(struct client *c)
{
    const struct options *o = &c->options;

    c->pin = read_pin(o->pin);
    c->epoll = epoll_create1(EPOLL_CLOEXEC);
    c->context = SSL_CTX_new(TLS_client_method());
    if (c->epoll < 0 || c->context == NULL ||
        SSL_CTX_set_min_proto_version(c->context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(c->context, o->ciphers) != 1 ||
        SSL_CTX_set1_groups_list(c->context, o->groups) != 1) {
        give_up("set-up");
    }
    SSL_CTX_set_session_cache_mode(c->context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(c->context,
                        SSL_OP_IGNORE_UNEXPECTED_EOF); /* nginx answers our good-bye so */
    SSL_CTX_set_verify(c->context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(c->context, check_pin, c->pin);
    if (o->alpn != NULL) {
        offer_alpn(c->context, o->alpn);
    }
    if (o->client != NULL &&
        (SSL_CTX_use_certificate_chain_file(c->context, o->client) != 1 ||
         SSL_CTX_use_PrivateKey_file(c->context, o->client, SSL_FILETYPE_PEM) != 1)) {
        give_up("--client wants a PEM certificate and its key in one file");
    }
    c->timer = -1;
    c->handshakes = allocate(o->connections, sizeof(struct connection));
    c->probes = allocate(o->probes, sizeof(struct connection));
    c->latency.ns = allocate(SAMPLES_MAX, sizeof(uint64_t));
    c->answers.ns = allocate(SAMPLES_MAX, sizeof(uint64_t));
    for (size_t i = 0; i < o->connections; i++) {
        c->handshakes[i].fd = -1;
    }
}

static void finish(struct client *c)
{
    for (size_t i = 0; i < c->options.connections; i++) {
        connection_close(&c->handshakes[i]);
    }
    for (size_t i = 0; i < c->options.probes; i++) {
        connection_close(&c->probes[i]);
    }
    free(c->handshakes);
    free(c->probes);
    free(c->latency.ns);
    free(c->answers.ns);
    SSL_CTX_free(c->context);
    EVP_PKEY_free(c->pin);
}

static double cpu_seconds(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* The texts are OpenSSL's and ours: nothing in them needs escaping. */
static void report(struct client *c, double seconds, double cpu)
{
    qsort(c->latency.ns, c->latency.n, sizeof(uint64_t), compare);
    qsort(c->answers.ns, c->answers.n, sizeof(uint64_t), compare);
    printf("{\"handshakes\": %lu, \"failures\": %lu, \"failure\": \"%s\", \"seconds\": %.3f, "
           "\"per_second\": %.1f, \"p50\": %.3f, \"p99\": %.3f, \"longest\": %.3f, "
           "\"cpu_seconds\": %.3f, \"tls\": \"%s\"",
           c->done, c->failed, c->failure, seconds, (double)c->done / seconds,
           quantile(&c->latency, 500), quantile(&c->latency, 990), quantile(&c->latency, 1000), cpu,
           c->tls);
    if (c->options.probes > 0) {
        printf(", \"probes\": {\"answers\": %zu, \"p50\": %.3f, \"p99\": %.3f, \"longest\": %.3f, "
               "\"late\": %.3f}",
               c->answers.n, quantile(&c->answers, 500), quantile(&c->answers, 990),
               quantile(&c->answers, 1000), (double)c->late_ns / NS_PER_MS);
    }
    printf("}\n");
}

static unsigned long number(const char *text, unsigned long max)
{
    char *end = NULL;
    unsigned long n = strtoul(text, &end, 10);

    if (*text == '\0' || *end != '\0' || n > max) {
        give_up("a number is none, or too large");
    }
    return n;
}

static void parse_address(const char *text, struct sockaddr_in *ret)
{
    const char *colon = strrchr(text, ':');
    char host[INET_ADDRSTRLEN] = "";

    if (colon == NULL || (size_t)(colon - text) >= sizeof(host)) {
        give_up("ADDRESS:PORT, such as 127.0.0.1:8080");
    }
    memcpy(host, text, (size_t)(colon - text));
    ret->sin_family = AF_INET;
    ret->sin_port = htons((uint16_t)number(colon + 1, 65535));
    if (inet_pton(AF_INET, host, &ret->sin_addr) != 1) {
        give_up("the address is not an IPv4 address");
    }
}

static void parse(struct options *o, int argc, char **argv)
{
    static const struct option names[] = {
        {"pin", required_argument, NULL, 'p'},      {"connections", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 's'},  {"count", required_argument, NULL, 'c'},
        {"timeout", required_argument, NULL, 't'},  {"groups", required_argument, NULL, 'g'},
        {"ciphers", required_argument, NULL, 'x'},  {"alpn", required_argument, NULL, 'a'},
        {"client", required_argument, NULL, 'k'},   {"probes", required_argument, NULL, 'm'},
        {"probe-ms", required_argument, NULL, 'i'}, {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'p':
            o->pin = optarg;
            break;
        case 'n':
            o->connections = number(optarg, CONNECTIONS_MAX);
            break;
        case 's':
            o->duration_ns = (uint64_t)(strtod(optarg, NULL) * 1e9);
            break;
        case 'c':
            o->count = number(optarg, SAMPLES_MAX);
            break;
        case 't':
            o->timeout_ns = (uint64_t)number(optarg, 3600000) * NS_PER_MS;
            break;
        case 'g':
            o->groups = optarg;
            break;
        case 'x':
            o->ciphers = optarg;
            break;
        case 'a':
            o->alpn = optarg;
            break;
        case 'k':
            o->client = optarg;
            break;
        case 'm':
            o->probes = number(optarg, CONNECTIONS_MAX);
            break;
        case 'i':
            o->probe_ns = (uint64_t)number(optarg, 999) * NS_PER_MS;
            break;
        default:
            exit(2);
        }
    }
    if (optind != argc - 1) {
        give_up("ADDRESS:PORT is missing");
    }
    parse_address(argv[optind], &o->address);
}

int main(int argc, char **argv)
{
    static struct client c;
    double cpu;
    uint64_t ns;

    c.options = (struct options){.connections = 16,
                                 .duration_ns = 1000000000u,
                                 .timeout_ns = 10000 * (uint64_t)NS_PER_MS,
                                 .probe_ns = NS_PER_MS,
                                 .groups = "X25519",
                                 .ciphers = "TLS_AES_256_GCM_SHA384"};
    parse(&c.options, argc, argv);
    prepare(&c);
    probes_open(&c);
    if (c.options.probes > 0) {
        (void)puts("ready");
        (void)fflush(stdout);
    }
    cpu = cpu_seconds();
    ns = run(&c);
    report(&c, (double)ns / 1e9, cpu_seconds() - cpu);
    finish(&c);
    return 0;
}
