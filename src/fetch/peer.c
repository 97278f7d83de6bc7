/*
 * A front that stops in the middle of a message, or does not take its answers, must not hold up the
 * other peers. So a message is gathered read by read, the header first, and an answer that does not
 * fit into the socket waits in a buffer. That buffer is bounded: whoever lets it fill is dropped, and
 * so is a judge that asks again before it has its answer.
 */
#include "fetch/peer.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"

/* Before it says more than it may, it is not believed to say it. */
static const struct {
    enum kbs_wire_type type;
    size_t in_max;
    size_t out_max;
} rules[] = {
    [KBS_PEER_FRONT] = {KBS_WIRE_FETCH, KBS_WIRE_HEADER_BYTES + KBS_LIMIT_WIRE_BODY_BYTES,
                        KBS_LIMIT_FETCH_WAITING_BYTES},
    [KBS_PEER_JUDGE] = {KBS_WIRE_CACHED_WANT, KBS_WIRE_HEADER_BYTES + 1024,
                        KBS_LIMIT_FETCH_DOCUMENT_BYTES + 4096},
};

void kbs_peer_init(struct kbs_peer *p, enum kbs_peer_kind kind, int fd, uint32_t index,
                   uint64_t serial)
{
    *p = (struct kbs_peer){.kind = kind, .fd = fd, .index = index, .serial = serial};
    kbs_buf_init(&p->in, rules[kind].in_max);
    kbs_buf_init(&p->out, rules[kind].out_max);
}

void kbs_peer_drop(struct kbs_peer *p, const char *why)
{
    if (why != NULL) {
        kbs_log(KBS_LOG_WARN, "peer-dropped", "peer=%s index=%u why=\"%s\"",
                p->kind == KBS_PEER_FRONT ? "front" : "judge", p->index, why);
    }
    kbs_io_close(&p->fd);
    kbs_buf_deinit(&p->in);
    kbs_buf_deinit(&p->out);
    *p = (struct kbs_peer){.kind = KBS_PEER_NONE, .fd = -1};
}

/* Towards `want` bytes in all. 0, or -1 when the peer is gone. */
static int gather(struct kbs_peer *p, size_t want)
{
    size_t room = want - p->in.len;
    uint8_t *to = room > 0 ? kbs_buf_reserve(&p->in, room) : NULL;

    if (room == 0) {
        return 0;
    }
    ssize_t n = to != NULL ? recv(p->fd, to, room, MSG_DONTWAIT) : 0;
    if (n > 0) {
        kbs_buf_commit(&p->in, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        kbs_peer_drop(p, p->in.len > 0 ? "closed in the middle of a message" : NULL);
        return -1;
    }
    return 0;
}

int kbs_peer_read(struct kbs_peer *p, struct kbs_frame *ret_frame, struct kbs_span *ret_body)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (p->in.len < KBS_WIRE_HEADER_BYTES && gather(p, KBS_WIRE_HEADER_BYTES) != 0) {
        return -1;
    }
    if (p->in.len < KBS_WIRE_HEADER_BYTES) {
        return 0;
    }
    if (kbs_wire_header_decode(p->in.p, ret_frame, &err) != 0 ||
        ret_frame->type != rules[p->kind].type) {
        kbs_peer_drop(p, "sent what is not its to send");
        return -1;
    }
    if (gather(p, KBS_WIRE_HEADER_BYTES + (size_t)ret_frame->body_len) != 0) {
        return -1;
    }
    if (p->in.len < KBS_WIRE_HEADER_BYTES + (size_t)ret_frame->body_len) {
        return 0;
    }
    if (p->kind == KBS_PEER_JUDGE && kbs_peer_has_unsent(p)) {
        kbs_peer_drop(p, "did not wait for its answer");
        return -1;
    }
    *ret_body = kbs_span_skip(kbs_buf_span(&p->in), KBS_WIRE_HEADER_BYTES);
    return KBS_PEER_MESSAGE;
}

void kbs_peer_taken(struct kbs_peer *p)
{
    if (p->kind != KBS_PEER_NONE) { /* else it was dropped over its message */
        size_t max = p->in.max;
        kbs_buf_deinit(&p->in);
        kbs_buf_init(&p->in, max);
    }
}

void kbs_peer_send(struct kbs_peer *p, enum kbs_wire_type type, uint64_t id, const void *msg)
{
    struct kbs_error err = KBS_ERROR_NONE;

    kbs_buf_consume(&p->out, p->sent);
    p->sent = 0;
    if (kbs_wire_encode(&p->out, type, id, KBS_DEADLINE_NONE, msg, &err) != 0) {
        kbs_peer_drop(p, "does not take its answers");
        return;
    }
    kbs_peer_flush(p);
}

void kbs_peer_flush(struct kbs_peer *p)
{
    while (kbs_peer_has_unsent(p)) {
        ssize_t n =
            send(p->fd, p->out.p + p->sent, p->out.len - p->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) {
            kbs_peer_drop(p, NULL); /* it is gone */
            return;
        }
        p->sent += (size_t)n;
    }
    if (p->out.len > 0) { /* all of it: an idle channel holds no memory */
        size_t max = p->out.max;
        kbs_buf_deinit(&p->out);
        kbs_buf_init(&p->out, max);
        p->sent = 0;
    }
}
