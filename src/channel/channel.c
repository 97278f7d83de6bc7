/*
 * Frames over socketpairs. Header first, then exactly the body it announces, every wait against one
 * deadline. A descriptor rides on the first byte of a frame (SCM_RIGHTS) and is received
 * close-on-exec; a second one, or one on a message that is not ATTACH, is closed and the message
 * refused.
 *
 * Polls are for waiting: a socket almost always has room for a message, and its body arrives with
 * its header, so both are tried without waiting first (a syscall less for each). Where the peer
 * has its turn, header and body are one read; a control channel may hold several messages, each
 * with its descriptor, and is read header first.
 *
 * Messages are encoded into a buffer that is freed after each use: a channel is idle most of its
 * life. What is received stays allocated for the next message unless it was a large one.
 */
#include "channel/channel.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"

void kbs_channel_msg_deinit(struct kbs_channel_msg *m)
{
    kbs_buf_deinit(&m->body);
    kbs_io_close(&m->fd);
}

int kbs_channel_pair(int ret_fds[2], struct kbs_error *err)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_fds) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "a role channel could not be made");
    }
    return 0;
}

#define SEND_BYTES 1000u      /* more than most frames have: one allocation */
#define TURN_BYTES 4096u      /* of a body that come with the header's read */
#define TURN_KEEP_BYTES 8192u /* a larger body is not kept allocated */

/* The first bytes of a frame, with the descriptor. Returns bytes sent, or -1. */
static ssize_t send_first(int fd, struct kbs_span frame, int send_fd, uint64_t deadline_ns,
                          struct kbs_error *err)
{
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec iov = {.iov_base = (void *)(uintptr_t)frame.p, .iov_len = frame.len};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &send_fd, sizeof(int));
    for (;;) {
        ssize_t n;

        if (kbs_io_wait(fd, POLLOUT, deadline_ns, err) != 0) {
            return -1;
        }
        n = sendmsg(fd, &m, MSG_NOSIGNAL);
        if (n >= 0) {
            return n;
        }
        if (errno != EINTR && errno != EAGAIN) {
            return kbs_fail_errno(err, KBS_INTERNAL, "a descriptor could not be handed over");
        }
    }
}

int kbs_channel_send(int fd, enum kbs_wire_type type, uint64_t id, const void *msg, int send_fd,
                     uint64_t deadline_ns, struct kbs_error *err)
{
    struct kbs_buf frame = KBS_BUF(KBS_WIRE_HEADER_BYTES + KBS_LIMIT_WIRE_BODY_BYTES);
    struct kbs_span rest;
    int r;

    (void)kbs_buf_reserve(&frame, SEND_BYTES); /* without memory the encoder fails */
    r = kbs_wire_encode(&frame, type, id, deadline_ns, msg, err);
    rest = kbs_buf_span(&frame);
    if (r == 0 && send_fd >= 0) {
        ssize_t n = send_first(fd, rest, send_fd, deadline_ns, err);

        r = n < 0 ? -1 : 0;
        rest = kbs_span_skip(rest, n < 0 ? 0 : (size_t)n);
    }
    if (r == 0) {
        ssize_t n = send(fd, rest.p, rest.len, MSG_DONTWAIT | MSG_NOSIGNAL);

        rest = kbs_span_skip(rest, n < 0 ? 0 : (size_t)n);
        r = kbs_io_write_all(fd, rest.p, rest.len, deadline_ns, err);
    }
    kbs_buf_deinit(&frame);
    return r;
}

/* Keeps the first descriptor of the control data in *ret_fd; closes any other. False if there was
 * another. */
static bool take_descriptor(struct msghdr *m, int *ret_fd)
{
    bool ok = (m->msg_flags & MSG_CTRUNC) == 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            int got;

            memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (*ret_fd < 0) {
                *ret_fd = got;
            } else {
                (void)close(got);
                ok = false;
            }
        }
    }
    return ok;
}

/*
 * The first bytes of a message, with the descriptor if one came. `try` reads before it waits.
 * Returns bytes, 0 at end of file, or -1.
 */
static ssize_t recv_first(int fd, struct iovec *iov, size_t n_iov, bool try, int *ret_fd,
                          uint64_t deadline_ns, struct kbs_error *err)
{
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control;

    for (;;) {
        struct msghdr m = {.msg_iov = iov,
                           .msg_iovlen = n_iov,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof(control.bytes)};
        ssize_t n;

        if (!try && kbs_io_wait(fd, POLLIN, deadline_ns, err) != 0) {
            return -1;
        }
        try = false;
        n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (n >= 0 && !take_descriptor(&m, ret_fd)) {
            return kbs_fail(err, KBS_INPUT, "a role message came with more than one descriptor");
        }
        if (n >= 0 || errno == ECONNRESET) {
            return n < 0 ? 0 : n;
        }
        if (errno != EINTR && errno != EAGAIN) {
            return kbs_fail_errno(err, KBS_INTERNAL, "recvmsg failed");
        }
    }
}

/* What is there already, up to n bytes; errors and end of file are for the read that waits. */
static size_t recv_at_hand(int fd, uint8_t *p, size_t n)
{
    struct iovec iov = {.iov_base = p, .iov_len = n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t got = recvmsg(fd, &m, MSG_DONTWAIT);

    return got < 0 ? 0 : (size_t)got;
}

static int recv_cut_short(struct kbs_error *err)
{
    return kbs_fail(err, KBS_INPUT, "the peer closed in the middle of a message or was too slow");
}

static int recv_rest_of_header(int fd, uint8_t *header, size_t have, uint64_t deadline_ns,
                               struct kbs_error *err)
{
    return have >= KBS_WIRE_HEADER_BYTES ||
                   kbs_io_read_exact(fd, header + have, KBS_WIRE_HEADER_BYTES - have, deadline_ns,
                                     err) == 0
               ? 0
               : recv_cut_short(err);
}

static int recv_header_check(const uint8_t *header, struct kbs_channel_msg *ret,
                             struct kbs_error *err)
{
    if (kbs_wire_header_decode(header, &ret->frame, err) != 0) {
        return -1;
    }
    if ((ret->fd >= 0) != (ret->frame.type == KBS_WIRE_ATTACH)) {
        return kbs_fail(err, KBS_INPUT, "role message %s %s a descriptor",
                        kbs_wire_type_name(ret->frame.type), ret->fd >= 0 ? "came with" : "lacks");
    }
    return 0;
}

/* What the body still lacks. */
static int recv_rest_of_body(int fd, struct kbs_channel_msg *ret, uint64_t deadline_ns,
                             struct kbs_error *err)
{
    size_t left = ret->frame.body_len - ret->body.len;
    size_t have;
    uint8_t *to;

    if (left == 0) {
        return 0;
    }
    to = kbs_buf_reserve(&ret->body, left);
    if (to == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    have = recv_at_hand(fd, to, left);
    if (have < left && kbs_io_read_exact(fd, to + have, left - have, deadline_ns, err) != 0) {
        return recv_cut_short(err);
    }
    kbs_buf_commit(&ret->body, left);
    return 0;
}

int kbs_channel_recv(int fd, struct kbs_channel_msg *ret, uint64_t deadline_ns,
                     struct kbs_error *err)
{
    uint8_t header[KBS_WIRE_HEADER_BYTES];
    struct iovec iov = {.iov_base = header, .iov_len = sizeof(header)};
    ssize_t n;

    kbs_io_close(&ret->fd);
    kbs_buf_deinit(&ret->body);
    kbs_buf_init(&ret->body, KBS_LIMIT_WIRE_BODY_BYTES);
    n = recv_first(fd, &iov, 1, false, &ret->fd, deadline_ns, err);
    if (n <= 0) {
        return n == 0 ? KBS_CHANNEL_EOF : -1;
    }
    if (recv_rest_of_header(fd, header, (size_t)n, deadline_ns, err) != 0 ||
        recv_header_check(header, ret, err) != 0) {
        return -1;
    }
    return recv_rest_of_body(fd, ret, deadline_ns, err);
}

static int recv_turn(int fd, struct kbs_channel_msg *ret, bool try, uint64_t deadline_ns,
                     struct kbs_error *err)
{
    uint8_t header[KBS_WIRE_HEADER_BYTES];
    struct iovec iov[2] = {{.iov_base = header, .iov_len = sizeof(header)},
                           {.iov_len = TURN_BYTES}};
    size_t body;
    ssize_t n;

    kbs_io_close(&ret->fd);
    if (ret->body.cap > TURN_KEEP_BYTES || ret->body.p == NULL) {
        kbs_buf_deinit(&ret->body);
        kbs_buf_init(&ret->body, KBS_LIMIT_WIRE_BODY_BYTES);
    }
    kbs_buf_clear(&ret->body);
    iov[1].iov_base = kbs_buf_reserve(&ret->body, TURN_BYTES);
    if (iov[1].iov_base == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    n = recv_first(fd, iov, 2, try, &ret->fd, deadline_ns, err);
    if (n <= 0) {
        return n == 0 ? KBS_CHANNEL_EOF : -1;
    }
    if (recv_rest_of_header(fd, header, (size_t)n, deadline_ns, err) != 0 ||
        recv_header_check(header, ret, err) != 0) {
        return -1;
    }
    body = (size_t)n > sizeof(header) ? (size_t)n - sizeof(header) : 0;
    if (body > ret->frame.body_len) {
        return kbs_fail(err, KBS_INPUT, "the peer spoke twice in its turn");
    }
    kbs_buf_commit(&ret->body, body);
    return recv_rest_of_body(fd, ret, deadline_ns, err);
}

int kbs_channel_recv_turn(int fd, struct kbs_channel_msg *ret, uint64_t deadline_ns,
                          struct kbs_error *err)
{
    return recv_turn(fd, ret, true, deadline_ns, err);
}

int kbs_channel_msg_decode(const struct kbs_channel_msg *m, enum kbs_wire_type type, void *msg,
                           struct kbs_error *err)
{
    if (m->frame.type != type) {
        return kbs_fail(err, KBS_INPUT, "role message %s where %s was expected",
                        kbs_wire_type_name(m->frame.type), kbs_wire_type_name(type));
    }
    return kbs_wire_decode(type, kbs_buf_span(&m->body), msg, err);
}

int kbs_channel_call(int fd, enum kbs_wire_type type, const void *msg,
                     enum kbs_wire_type answer_type, void *answer, struct kbs_channel_msg *ret,
                     uint64_t deadline_ns, struct kbs_error *err)
{
    uint64_t id = kbs_clock_mono_ns();
    int r;

    if (kbs_channel_send(fd, type, id, msg, -1, deadline_ns, err) != 0) {
        return -1;
    }
    r = recv_turn(fd, ret, false, deadline_ns, err); /* the peer was asked just now */
    if (r == KBS_CHANNEL_EOF) {
        return kbs_fail(err, KBS_TOKEN_DOWN, "the peer role is gone");
    }
    if (r != 0) {
        return -1;
    }
    if (ret->frame.id != id) {
        return kbs_fail(err, KBS_INPUT, "role message %s answers another question",
                        kbs_wire_type_name(ret->frame.type));
    }
    return kbs_channel_msg_decode(ret, answer_type, answer, err);
}
