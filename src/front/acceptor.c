/*
 * Accepting.
 *
 * The problem: a listening socket stays readable while accept(2) fails for want of descriptors, and
 * a level-triggered loop then spins at full speed doing nothing; and a table that is full must not
 * be a way to lock others out. The approach: on a lasting failure all listeners are left alone
 * until a timer fires or a connection closes; with the table full, until one closes. What waits
 * meanwhile waits in the kernel's backlog.
 *
 * The listening sockets are shared with kbsd, which hands the same ones to the next front: closing
 * our copies loses no connection that is still in the backlog.
 */
#include "front/acceptor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/io.h"
#include "base/log.h"

#define ACCEPTS_PER_EVENT 16

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
};

static void on_readable(uv_poll_t *poll, int status, int events);

static int socket_option(int fd, int option)
{
    int value = 0;
    socklen_t len = sizeof(value);

    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

int kbs_acceptor_add(struct kbs_acceptor *a, int fd, bool tls, struct kbs_error *err)
{
    int flags = fcntl(fd, F_GETFL);

    if (a->count == KBS_LIMIT_FRONT_LISTENERS || flags < 0 ||
        socket_option(fd, SO_TYPE) != SOCK_STREAM || socket_option(fd, SO_ACCEPTCONN) != 1 ||
        fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        kbs_io_close(&fd);
        return kbs_fail(err, KBS_INPUT,
                        "a listener is not a listening stream socket, or one too many");
    }
    a->listeners[a->count++] = (struct kbs_acceptor_listener){.owner = a, .fd = fd, .tls = tls};
    return 0;
}

static void watch_all(struct kbs_acceptor *a, bool on)
{
    for (size_t i = 0; i < a->count; i++) {
        struct kbs_acceptor_listener *l = &a->listeners[i];

        if (l->watching != on) {
            l->watching = on;
            (void)(on ? uv_poll_start(&l->poll, UV_READABLE, on_readable) : uv_poll_stop(&l->poll));
        }
    }
}

int kbs_acceptor_start(struct kbs_acceptor *a, uv_loop_t *loop, struct kbs_error *err)
{
    (void)uv_timer_init(loop, &a->retry);
    a->retry.data = a;
    for (size_t i = 0; i < a->count; i++) {
        struct kbs_acceptor_listener *l = &a->listeners[i];

        if (uv_poll_init(loop, &l->poll, l->fd) != 0) {
            return kbs_fail(err, KBS_INTERNAL, "a listener cannot be polled");
        }
        l->poll.data = l;
    }
    watch_all(a, true);
    return 0;
}

void kbs_acceptor_resume(struct kbs_acceptor *a)
{
    if (!a->stopped) {
        (void)uv_timer_stop(&a->retry);
        watch_all(a, true);
    }
}

static void on_retry(uv_timer_t *timer)
{
    kbs_acceptor_resume(timer->data);
}

void kbs_acceptor_stop(struct kbs_acceptor *a)
{
    if (a->stopped) {
        return;
    }
    a->stopped = true;
    uv_close((uv_handle_t *)&a->retry, NULL);
    for (size_t i = 0; i < a->count; i++) {
        uv_close((uv_handle_t *)&a->listeners[i].poll, NULL);
        kbs_io_close(&a->listeners[i].fd);
    }
}

static void peer_text(const union address *from, char *out, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "";

    if (from->any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &from->in.sin_addr, host, sizeof(host));
        (void)snprintf(out, size, "%s:%u", host, (unsigned int)ntohs(from->in.sin_port));
    } else if (from->any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &from->in6.sin6_addr, host, sizeof(host));
        (void)snprintf(out, size, "[%s]:%u", host, (unsigned int)ntohs(from->in6.sin6_port));
    } else {
        (void)snprintf(out, size, "unix");
    }
}

/* Only then is it worth closing an idle connection for. */
static bool somebody_waits(const struct kbs_acceptor_listener *l)
{
    struct pollfd p = {.fd = l->fd, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

/* Takes one connection. False when there is none left, or none can be taken now. */
static bool accept_one(struct kbs_acceptor_listener *l)
{
    struct kbs_acceptor *a = l->owner;
    struct kbs_error err = KBS_ERROR_NONE;
    union address from = {.any = {.sa_family = AF_UNSPEC}};
    socklen_t from_len = sizeof(from);
    char text[KBS_CONN_PEER_BYTES];
    struct kbs_conn_peer peer = {.text = text};
    const int one = 1;
    int fd;

    if (a->conns->count >= a->conns->max) {
        if (somebody_waits(l) && !kbs_conns_make_room(a->conns)) {
            watch_all(a, false); /* until there is room, or it is time to look again */
            (void)uv_timer_start(&a->retry, on_retry, a->retry_ms, 0);
        }
        return false;
    }
    fd = accept4(l->fd, &from.any, &from_len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        bool passing = errno == EINTR || errno == ECONNABORTED || errno == EPROTO || errno == EPERM;

        if (!passing && errno != EAGAIN) {
            kbs_metrics_refused(a->metrics, KBS_REFUSED_ACCEPT);
            watch_all(a, false);
            (void)uv_timer_start(&a->retry, on_retry, a->retry_ms, 0);
        }
        return passing;
    }
    if (from.any.sa_family != AF_UNIX) {
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    peer_text(&from, text, sizeof(text));
    peer.source = kbs_source_of(&from.any);
    if (kbs_conns_add(a->conns, fd, l->tls, &peer, &err) < 0) {
        kbs_metrics_refused(a->metrics, KBS_REFUSED_ACCEPT);
    }
    return true;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct kbs_acceptor_listener *l = poll->data;

    (void)events;
    if (status < 0) {
        kbs_log(KBS_LOG_ERROR, "listener-failed", "status=%d", status);
        return;
    }
    for (int i = 0; i < ACCEPTS_PER_EVENT && accept_one(l); i++) {
        continue;
    }
}
