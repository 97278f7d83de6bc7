/*
 * kbsd binds so that a front that crashes, or is replaced, never leaves a moment in which a
 * connection is refused: the kernel queues it for the next one. A unix socket that a dead kbsd left
 * behind is removed, but only after nobody answered on it.
 */
#include "supervisor/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"

#define BACKLOG 511
#define UNIX_URL "unix:"

static void remove_stale(const struct sockaddr *address, socklen_t len)
{
    struct sockaddr_un un = {0};
    struct stat st;
    memcpy(&un, address, len < sizeof(un) ? len : sizeof(un));
    if (lstat(un.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        return;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, address, len) != 0 && errno == ECONNREFUSED) {
        (void)unlink(un.sun_path);
    }
    kbs_io_close(&fd);
}

static void describe(struct kbsd_listener *l, const struct sockaddr_storage *address,
                     const char *text)
{
    const char *scheme = l->tls ? "https" : "http";
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof(v4));
        (void)inet_ntop(AF_INET, &v4.sin_addr, host, sizeof(host));
        snprintf(l->url, sizeof(l->url), "%s://%s:%u", scheme, host,
                 (unsigned int)ntohs(v4.sin_port));
    } else if (address->ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof(v6));
        (void)inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof(host));
        snprintf(l->url, sizeof(l->url), "%s://[%s]:%u", scheme, host,
                 (unsigned int)ntohs(v6.sin6_port));
    } else {
        snprintf(l->url, sizeof(l->url), "%s", text);
    }
}

static int open_one(struct kbsd_listener *l, const struct kbs_config_socket *s,
                    struct kbs_error *err)
{
    /* The common head of all socket addresses is what bind(2) takes. */
    const struct sockaddr *address = (const struct sockaddr *)&s->address;
    struct sockaddr_storage bound = s->address;
    socklen_t len = sizeof(bound);
    int family = s->address.ss_family;
    const int on = 1;
    l->fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->fd < 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "no socket for %s: %s", s->text, strerror(errno));
    }
    if (family == AF_UNIX) {
        remove_stale(address, s->address_len);
    } else {
        (void)setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    if (family == AF_INET6) {
        (void)setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    }
    if (bind(l->fd, address, s->address_len) != 0 || listen(l->fd, BACKLOG) != 0 ||
        getsockname(l->fd, (struct sockaddr *)&bound, &len) != 0) {
        return kbs_fail_errno(err, KBS_INPUT, "cannot listen on %s: %s", s->text, strerror(errno));
    }
    describe(l, &bound, s->text);
    if (family == AF_UNIX) {
        /* The umask left it to us alone; a proxy reaches it by the group of its folder. */
        (void)chmod(s->text + strlen(UNIX_URL), 0660);
    }
    kbs_log(KBS_LOG_INFO, "listening", "url=%s", l->url);
    return 0;
}

int kbsd_listeners_open(struct kbsd_listeners *l, const struct kbs_config_server *server,
                        struct kbs_error *err)
{
    l->n = 0;
    for (size_t i = 0; i < server->n_sockets + server->n_plain_sockets; i++) {
        bool tls = i < server->n_sockets;
        const struct kbs_config_socket *s =
            tls ? &server->sockets[i] : &server->plain_sockets[i - server->n_sockets];
        struct kbsd_listener *one = &l->v[l->n++];
        *one = (struct kbsd_listener){.fd = -1, .tls = tls};
        if (open_one(one, s, err) != 0) {
            one->url[0] = '\0'; /* not ours to remove */
            return -1;
        }
    }
    return 0;
}

void kbsd_listeners_close(struct kbsd_listeners *l)
{
    for (size_t i = 0; i < l->n; i++) {
        kbs_io_close(&l->v[i].fd);
        if (strncmp(l->v[i].url, UNIX_URL, strlen(UNIX_URL)) == 0) {
            (void)unlink(l->v[i].url + strlen(UNIX_URL));
        }
    }
    l->n = 0;
}
