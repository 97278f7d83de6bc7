/*
 * Many requests at once, for tests of what the service does under them: HTTP/1.1 without TLS over a
 * few connections, each with several requests under way.
 *
 *   pipeline PORT CONNECTIONS DEPTH COUNT
 *
 * Standard input: the requests as they are to be sent, in turn, each after a line "NAME BYTES".
 * Standard output: a line "NAME STATUS NUMBER" for every sort of answer. COUNT requests are
 * answered: what a closed connection leaves unanswered is sent again on the next one.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUESTS_MAX 32
#define DEPTH_MAX 64
#define CONNECTIONS_MAX 128
#define IN_BYTES 65536
#define STALL_MS 60000

struct request {
    char name[48];
    char *bytes;
    size_t len;
    unsigned long answers[600];
};

struct connection {
    int fd;
    size_t waiting[DEPTH_MAX]; /* requests under way, oldest first */
    size_t n_waiting;
    char *out; /* of the newest ones, what is not sent yet */
    size_t out_len;
    char in[IN_BYTES];
    size_t in_len;
};

static struct request requests[REQUESTS_MAX];
static size_t n_requests;
static struct connection connections[CONNECTIONS_MAX];
static size_t longest;
static unsigned long started, answered, wanted;
static in_port_t port;

static void give_up(const char *why)
{
    (void)fprintf(stderr, "pipeline: %s (errno %d), %lu of %lu answered\n", why, errno, answered,
                  wanted);
    exit(1);
}

static void read_requests(void)
{
    struct request *r = requests;

    while (n_requests < REQUESTS_MAX && scanf("%47s %zu", r->name, &r->len) == 2) {
        r->bytes = malloc(r->len + 1);
        if (r->bytes == NULL || getchar() != '\n' || fread(r->bytes, 1, r->len, stdin) != r->len) {
            give_up("a request is cut short");
        }
        longest = r->len > longest ? r->len : longest;
        n_requests++;
        r++;
    }
    if (n_requests == 0) {
        give_up("no requests");
    }
}

static void open_connection(struct connection *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    const int on = 1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof(to)) != 0 ||
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
        give_up("cannot connect");
    }
    c->out_len = 0;
    c->in_len = 0;
}

/* What was under way is to be started again. */
static void reopen(struct connection *c)
{
    started -= c->n_waiting;
    c->n_waiting = 0;
    (void)close(c->fd);
    open_connection(c);
}

static void fill(struct connection *c, size_t depth)
{
    while (c->n_waiting < depth && started < wanted) {
        size_t i = (size_t)(started++ % n_requests);

        memcpy(c->out + c->out_len, requests[i].bytes, requests[i].len);
        c->out_len += requests[i].len;
        c->waiting[c->n_waiting++] = i;
    }
}

static void send_out(struct connection *c)
{
    ssize_t n = send(c->fd, c->out, c->out_len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n > 0) {
        c->out_len -= (size_t)n;
        memmove(c->out, c->out + n, c->out_len);
    }
}

/* The length of the answer at the front of c->in, or 0 if it is not complete. */
static size_t answer_length(const struct connection *c, unsigned int *ret_status)
{
    const char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    size_t body = 0;

    if (end == NULL) {
        return 0;
    }
    if (sscanf(c->in, "HTTP/1.1 %u", ret_status) != 1 || *ret_status >= 600) {
        give_up("not an answer");
    }
    for (const char *p = c->in; p < end; p++) {
        if (p[0] == '\n' && strncasecmp(p + 1, "content-length:", 15) == 0) {
            body = strtoul(p + 16, NULL, 10);
        }
    }
    size_t length = (size_t)(end + 4 - c->in) + body;
    return length <= c->in_len ? length : 0;
}

static void receive(struct connection *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len - 1, MSG_DONTWAIT);
    unsigned int status = 0;
    size_t length;

    if (n <= 0) {
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        reopen(c);
        return;
    }
    c->in_len += (size_t)n;
    c->in[c->in_len] = '\0';
    while ((length = answer_length(c, &status)) > 0) {
        if (c->n_waiting == 0) {
            give_up("an answer that nobody asked for");
        }
        requests[c->waiting[0]].answers[status]++;
        answered++;
        memmove(c->waiting, c->waiting + 1, --c->n_waiting * sizeof(c->waiting[0]));
        c->in_len -= length;
        memmove(c->in, c->in + length, c->in_len + 1);
    }
}

static void run(size_t n_connections, size_t depth)
{
    struct pollfd fds[CONNECTIONS_MAX];

    while (answered < wanted) {
        for (size_t i = 0; i < n_connections; i++) {
            struct connection *c = &connections[i];

            fill(c, depth);
            fds[i] = (struct pollfd){.fd = c->fd,
                                     .events = (short)(POLLIN | (c->out_len > 0 ? POLLOUT : 0))};
        }
        if (poll(fds, n_connections, STALL_MS) <= 0) {
            give_up("nothing moves");
        }
        for (size_t i = 0; i < n_connections; i++) {
            if ((fds[i].revents & POLLOUT) != 0) {
                send_out(&connections[i]);
            }
            if ((fds[i].revents & ~POLLOUT) != 0) {
                receive(&connections[i]);
            }
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        (void)fprintf(stderr, "usage: pipeline PORT CONNECTIONS DEPTH COUNT < REQUESTS\n");
        return 2;
    }
    port = (in_port_t)strtoul(argv[1], NULL, 10);
    size_t n_connections = strtoul(argv[2], NULL, 10);
    size_t depth = strtoul(argv[3], NULL, 10);
    wanted = strtoul(argv[4], NULL, 10);
    if (n_connections == 0 || n_connections > CONNECTIONS_MAX || depth == 0 || depth > DEPTH_MAX) {
        give_up("too many at once");
    }
    read_requests();
    for (size_t i = 0; i < n_connections; i++) {
        connections[i].out = malloc(DEPTH_MAX * longest);
        if (connections[i].out == NULL) {
            give_up("no memory");
        }
        open_connection(&connections[i]);
    }
    run(n_connections, depth);
    for (size_t i = 0; i < n_requests; i++) {
        for (unsigned int status = 0; status < 600; status++) {
            if (requests[i].answers[status] > 0) {
                (void)printf("%s %u %lu\n", requests[i].name, status, requests[i].answers[status]);
            }
        }
    }
    return 0;
}
