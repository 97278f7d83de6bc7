/* Blocking descriptor helpers: poll with a deadline first, then read or write what is there. See
 * io.h. */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int kbs_io_wait(int fd, short events, uint64_t deadline_ns, struct kbs_error *err)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, kbs_deadline_poll_ms(deadline_ns));

        if (n > 0) {
            return 0;
        }
        if (n == 0 && kbs_deadline_poll_ms(deadline_ns) == 0) {
            return kbs_fail(err, KBS_DEADLINE, "the peer did not answer in time");
        }
        if (n < 0 && errno != EINTR) {
            return kbs_fail_errno(err, KBS_INTERNAL, "poll failed");
        }
    }
}

int kbs_io_read_exact(int fd, void *p, size_t n, uint64_t deadline_ns, struct kbs_error *err)
{
    size_t have = 0;

    while (have < n) {
        ssize_t r;

        if (kbs_io_wait(fd, POLLIN, deadline_ns, err) != 0) {
            return -1;
        }
        r = read(fd, (uint8_t *)p + have, n - have);
        if (r == 0 || (r < 0 && errno == ECONNRESET)) {
            if (have == 0) {
                return KBS_IO_EOF;
            }
            return kbs_fail(err, KBS_INPUT, "the peer closed in the middle of a message");
        }
        if (r < 0 && errno != EINTR && errno != EAGAIN) {
            return kbs_fail_errno(err, KBS_INTERNAL, "read failed");
        }
        have += r > 0 ? (size_t)r : 0;
    }
    return 0;
}

int kbs_io_write_all(int fd, const void *p, size_t n, uint64_t deadline_ns, struct kbs_error *err)
{
    size_t done = 0;

    while (done < n) {
        ssize_t r;

        if (kbs_io_wait(fd, POLLOUT, deadline_ns, err) != 0) {
            return -1;
        }
        /* Ready for a byte is not ready for all: on a blocking socket write() would wait for the
         * rest of them without a deadline. Files and pipes take write() (a pipe may block past it).
         */
        r = send(fd, (const uint8_t *)p + done, n - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (r < 0 && errno == ENOTSOCK) {
            r = write(fd, (const uint8_t *)p + done, n - done);
        }
        if (r < 0 && errno != EINTR && errno != EAGAIN) {
            return kbs_fail_errno(err, KBS_INTERNAL, "write failed");
        }
        done += r > 0 ? (size_t)r : 0;
    }
    return 0;
}

int kbs_io_read_fd(int fd, struct kbs_buf *out, struct kbs_error *err)
{
    for (;;) {
        size_t room = out->max - out->len;
        size_t want = room < 4096 ? room : 4096;
        uint8_t probe;
        uint8_t *to = want > 0 ? kbs_buf_reserve(out, want) : &probe;
        ssize_t n;

        if (to == NULL) {
            return kbs_fail(err, KBS_INTERNAL, "out of memory");
        }
        n = read(fd, to, want > 0 ? want : 1);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return kbs_fail_errno(err, KBS_INTERNAL, "read failed");
        }
        if (n == 0) {
            return 0;
        }
        if (want == 0) {
            return kbs_fail(err, KBS_TOO_LARGE, "the file is over %zu bytes", out->max);
        }
        kbs_buf_commit(out, (size_t)n);
    }
}

int kbs_io_read_file(const char *path, struct kbs_buf *out, struct kbs_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int r;

    if (fd < 0) {
        return kbs_fail_errno(err, errno == ENOENT ? KBS_MISSING : KBS_INTERNAL,
                              "%s cannot be opened", path);
    }
    r = kbs_io_read_fd(fd, out, err);
    (void)close(fd);
    return r;
}

static int sync_folder(const char *path)
{
    char copy[PATH_MAX];
    int fd;
    int r;

    if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy)) {
        return -1;
    }
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    r = fsync(fd);
    (void)close(fd);
    return r;
}

int kbs_io_write_file(const char *path, struct kbs_span content, unsigned int mode, bool exclusive,
                      struct kbs_error *err)
{
    char temporary[PATH_MAX];
    int fd;
    int r;

    if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= (int)sizeof(temporary)) {
        return kbs_fail(err, KBS_INPUT, "the path is too long");
    }
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "%s cannot be created", path);
    }
    r = kbs_io_write_all(fd, content.p, content.len, KBS_DEADLINE_NONE, err);
    if (r == 0 && (fchmod(fd, mode) != 0 || fsync(fd) != 0)) {
        r = kbs_fail_errno(err, KBS_INTERNAL, "%s cannot be written", path);
    }
    (void)close(fd);
    if (r == 0 && exclusive && link(temporary, path) != 0) {
        r = kbs_fail_errno(err, errno == EEXIST ? KBS_CONFLICT : KBS_INTERNAL,
                           "%s exists or cannot be made", path);
    }
    if (r == 0 && !exclusive && rename(temporary, path) != 0) {
        r = kbs_fail_errno(err, KBS_INTERNAL, "%s cannot be replaced", path);
    }
    if (r != 0 || exclusive) {
        (void)unlink(temporary);
    }
    if (r == 0 && sync_folder(path) != 0) {
        r = kbs_fail_errno(err, KBS_INTERNAL, "the folder of %s cannot be synced", path);
    }
    return r;
}

void kbs_io_close(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

int kbs_io_split_address(const char *address, char host[64], uint16_t *ret_port,
                         struct kbs_error *err)
{
    const char *colon = strrchr(address, ':');
    struct kbs_span h;
    char *end = NULL;
    unsigned long port;

    if (colon == NULL || colon[1] < '0' || colon[1] > '9') {
        return kbs_fail(err, KBS_INPUT, "an address is written host:port");
    }
    port = strtoul(colon + 1, &end, 10);
    h = kbs_span(address, (size_t)(colon - address));
    if (h.len >= 2 && h.p[0] == '[' && h.p[h.len - 1] == ']') {
        h = kbs_span(h.p + 1, h.len - 2);
    } else if (memchr(address, ':', h.len) != NULL) {
        return kbs_fail(err, KBS_INPUT, "an IPv6 address is written [address]:port");
    }
    if (*end != '\0' || port > UINT16_MAX || h.len == 0 || !kbs_span_to_cstr(h, host, 64)) {
        return kbs_fail(err, KBS_INPUT, "an address is written host:port");
    }
    *ret_port = (uint16_t)port;
    return 0;
}
