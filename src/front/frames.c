/*
 * Frames, piecemeal.
 *
 * The problem: the loop must not wait for a peer, so a frame arrives in pieces, and a peer that may be
 * an attacker's announces its length. The approach: the header is read first and shown to the owner,
 * who may refuse it; only then is there memory for the body, never more than the type's cap, which the
 * header's decoder has checked.
 */
#include "front/frames.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "base/io.h"

bool kbs_frames_init(struct kbs_frames *f, int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        return false;
    }
    *f = (struct kbs_frames){.fd = fd};
    return true;
}

void kbs_frames_close(struct kbs_frames *f)
{
    kbs_io_close(&f->fd);
}

void kbs_frames_deinit(struct kbs_frames *f)
{
    kbs_frames_close(f);
    kbs_buf_deinit(&f->out);
    kbs_buf_deinit(&f->body);
}

void kbs_frames_send(struct kbs_frames *f)
{
    while (kbs_frames_unsent(f)) {
        ssize_t n =
            send(f->fd, f->out.p + f->sent, f->out.len - f->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno != EAGAIN) {
            f->sent = f->out.len;
        }
        if (n < 0) {
            return;
        }
        f->sent += (size_t)n;
    }
}

/* Bytes the current frame still needs, and where they go; NULL when there is no memory for them. */
static size_t wanted(struct kbs_frames *f, uint8_t **ret_to)
{
    if (f->header_len < KBS_WIRE_HEADER_BYTES) {
        *ret_to = f->header + f->header_len;
        return KBS_WIRE_HEADER_BYTES - f->header_len;
    }
    *ret_to = kbs_buf_reserve(&f->body, f->frame.body_len - f->body.len);
    return f->frame.body_len - f->body.len;
}

/* Counts n received bytes. */
static int received(struct kbs_frames *f, size_t n, struct kbs_error *err)
{
    if (f->header_len == KBS_WIRE_HEADER_BYTES) {
        kbs_buf_commit(&f->body, n);
        return f->body.len == f->frame.body_len ? KBS_FRAMES_WHOLE : 0;
    }
    f->header_len += n;
    if (f->header_len < KBS_WIRE_HEADER_BYTES) {
        return 0;
    }
    if (kbs_wire_header_decode(f->header, &f->frame, err) < 0) {
        return -1;
    }
    kbs_buf_init(&f->body, f->frame.body_len);
    return KBS_FRAMES_HEAD;
}

int kbs_frames_recv(struct kbs_frames *f, struct kbs_error *err)
{
    for (;;) {
        uint8_t *to = NULL;
        size_t want = wanted(f, &to);
        ssize_t n;
        int r;

        if (want == 0) {
            return KBS_FRAMES_WHOLE; /* a body without a byte */
        }
        if (to == NULL) {
            return kbs_fail(err, KBS_INTERNAL, "out of memory for a message");
        }
        n = recv(f->fd, to, want, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return 0;
        }
        if (n <= 0) {
            return KBS_FRAMES_END;
        }
        r = received(f, (size_t)n, err);
        if (r != 0) {
            return r;
        }
    }
}

void kbs_frames_next(struct kbs_frames *f)
{
    kbs_buf_deinit(&f->body);
    f->header_len = 0;
}
