/*
 * Connections.
 *
 * The problem: thousands of peers, each slow, hostile or gone at any moment, share one thread and a
 * bounded amount of memory and descriptors. The approach: raw non-blocking sockets under uv_poll,
 * so TCP and unix sockets are one case and no buffer exists before there are bytes; every callback
 * moves bytes, then runs the state machine (step.c), then asks the kernel for what is still of
 * interest.
 *
 * Invariants: `in` stops growing at KBS_CONN_PIPELINE_BYTES plus one read, because the socket is
 * not read then; `out` holds one answer at most, plus TLS records that are not application data; a
 * connection is closed in one place, once, and freed when both its handles are closed; ids given to
 * the lanes name slot and serial, never a pointer.
 *
 * When the table is full the connection that has been idle for longest makes room: keep-alive is a
 * favour, and must not lock out new clients. When none can be spared the acceptor stops, and the
 * kernel's backlog is the queue.
 */
#include "front/conns.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/secret.h"
#include "front/handshake.h"
#include "front/step.h"

#define RECV_BYTES 16384
#define RECV_REPEATS 4 /* per event, so that one fast sender does not starve the others */
#define EVICTION_LOOKS 16
#define SLOT_BITS 20 /* of a request id */
#define OUT_MAX_BYTES                                                                         \
    (KBS_TLS_CIPHER_MAX_BYTES(KBS_HTTP_RESPONSE_HEAD_BYTES + KBS_LIMIT_HTTP_RESPONSE_BYTES) + \
     65536u)
#define IN_MAX_BYTES (KBS_CONN_PIPELINE_BYTES + KBS_TLS_PLAIN_MAX_BYTES(RECV_BYTES))

static void on_poll(uv_poll_t *poll, int status, int events);

int kbs_conns_init(struct kbs_conns *c, struct kbs_error *err)
{
    if (c->max == 0 || c->max > 1u << SLOT_BITS) {
        return kbs_fail(err, KBS_INPUT, "max_connections is out of range");
    }
    c->table = calloc(c->max, sizeof(struct kbs_conn *));
    return c->table != NULL ? 0 : kbs_fail(err, KBS_INTERNAL, "out of memory");
}

void kbs_conns_deinit(struct kbs_conns *c)
{
    free(c->table);
    c->table = NULL;
}

void kbs_conn_idle(struct kbs_conn *conn, bool idle)
{
    struct kbs_conns *c = conn->owner;

    if (idle == conn->in_idle_list) {
        return;
    }
    conn->in_idle_list = idle;
    if (idle) {
        conn->idle_since_ns = kbs_clock_mono_ns();
        conn->idle_prev = c->idle_newest;
        conn->idle_next = NULL;
        *(c->idle_newest != NULL ? &c->idle_newest->idle_next : &c->idle_oldest) = conn;
        c->idle_newest = conn;
        if (c->count == c->max) {
            c->room(c->data);
        }
        return;
    }
    *(conn->idle_prev != NULL ? &conn->idle_prev->idle_next : &c->idle_oldest) = conn->idle_next;
    *(conn->idle_next != NULL ? &conn->idle_next->idle_prev : &c->idle_newest) = conn->idle_prev;
}

void kbs_conn_cancel(struct kbs_conn *conn)
{
    if (conn->request.id != 0) {
        kbs_lanes_cancel(conn->owner->lanes, conn->request.id);
        kbs_relay_cancel(conn->owner->relay, conn->request.id);
        conn->request.id = 0;
    }
}

void kbs_conn_request_done(struct kbs_conn *conn)
{
    conn->owner->body_bytes -= conn->request.body_bytes;
    kbs_conn_cancel(conn);
    conn->request = (struct kbs_conn_request){.lane = -1};
}

bool kbs_conn_flushed(const struct kbs_conn *conn)
{
    return conn->sent == conn->out.len;
}

void kbs_conn_put(struct kbs_conn *conn, struct kbs_span plain)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (conn->tls == NULL) {
        kbs_buf_put_span(&conn->out, plain);
    } else if (kbs_tls_send(conn->tls, plain, &conn->out, &err) < 0) {
        conn->broken = true;
    }
    conn->broken = conn->broken || conn->out.failed;
}

static void flush(struct kbs_conn *conn)
{
    while (conn->sent < conn->out.len && !conn->broken) {
        ssize_t n = send(conn->fd, conn->out.p + conn->sent, conn->out.len - conn->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) {
            conn->broken = true;
            return;
        }
        conn->sent += (size_t)n;
    }
    kbs_buf_deinit(&conn->out);
    conn->sent = 0;
    if (conn->shut) {
        (void)shutdown(conn->fd, SHUT_WR);
    }
}

void kbs_conn_shutdown(struct kbs_conn *conn)
{
    if (!conn->shut) {
        conn->shut = true;
        if (conn->tls != NULL) {
            kbs_tls_close(conn->tls, &conn->out);
        }
        if (kbs_conn_flushed(conn)) {
            (void)shutdown(conn->fd, SHUT_WR); /* else flush() does it */
        }
    }
}

bool kbs_conn_socket_has_bytes(const struct kbs_conn *conn)
{
    uint8_t byte;

    return recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* One handle less; the last one frees the connection. */
static void release(struct kbs_conn *conn)
{
    struct kbs_conns *c = conn->owner;

    if (--conn->open_handles > 0) {
        return;
    }
    conn->tls = kbs_tls_free(conn->tls);
    c->table[conn->slot] = NULL;
    c->count--;
    free(conn);
    c->room(c->data);
}

static void on_closed(uv_handle_t *handle)
{
    release(handle->data);
}

static void conn_close(struct kbs_conn *conn)
{
    if (conn->state == KBS_CONN_CLOSED) {
        return;
    }
    if (conn->stepping) {
        (void)uv_cancel((uv_req_t *)&conn->work); /* if it has not begun */
    } else if (!conn->broken && !conn->shut && conn->tls != NULL) {
        kbs_tls_close(conn->tls, &conn->out);
        flush(conn);
    }
    conn->state = KBS_CONN_CLOSED;
    kbs_conn_request_done(conn);
    kbs_conn_idle(conn, false);
    uv_close((uv_handle_t *)&conn->poll, on_closed);
    uv_close((uv_handle_t *)&conn->timer, on_closed);
    kbs_io_close(&conn->fd);
    conn->parser = kbs_http_parser_free(conn->parser);
    kbs_buf_deinit(&conn->in);
    kbs_buf_deinit(&conn->out);
}

/*
 * Whether more may come in. Not while much waits to go out: TLS answers some records by itself (a
 * key update with one), so a peer that does not read could grow `out` to its cap by writing alone.
 */
static bool takes_bytes(const struct kbs_conn *conn)
{
    return !conn->eof && !conn->stepping && conn->in.len < KBS_CONN_PIPELINE_BYTES &&
           conn->out.len < KBS_CONN_PIPELINE_BYTES;
}

/* Asks the kernel for what is of interest now. */
static void watch(struct kbs_conn *conn)
{
    int events = 0;

    if (takes_bytes(conn)) {
        events |= UV_READABLE;
    }
    if (!kbs_conn_flushed(conn)) {
        events |= UV_WRITABLE;
    }
    if (events == conn->events) {
        return;
    }
    if ((events == 0 ? uv_poll_stop(&conn->poll) : uv_poll_start(&conn->poll, events, on_poll)) !=
        0) {
        conn->broken = true;
    }
    conn->events = events;
}

/* The one way into the state machine. */
static void run(struct kbs_conn *conn, enum kbs_conn_event event)
{
    bool alive = conn->state != KBS_CONN_CLOSED && kbs_conn_step(conn, event);

    /* What was written may be gone at once; then the machine goes on. */
    while (alive && !kbs_conn_flushed(conn)) {
        flush(conn);
        if (!kbs_conn_flushed(conn) || conn->broken) {
            break;
        }
        alive = kbs_conn_step(conn, KBS_CONN_EVENT_IO);
    }
    if (alive) {
        watch(conn);
    }
    if (!alive || conn->broken) {
        conn_close(conn);
    }
}

static void on_timeout(uv_timer_t *timer)
{
    run(timer->data, KBS_CONN_EVENT_TIMEOUT);
}

void kbs_conn_set_timer(struct kbs_conn *conn, uint32_t ms)
{
    (void)uv_timer_start(&conn->timer, on_timeout, ms, 0);
}

/* A sign worker that fails fails many: one a second is told. */
static void log_token(struct kbs_conns *c, const struct kbs_error *why)
{
    uint64_t now_ns = kbs_clock_mono_ns();

    if (why->category == KBS_TOKEN_DOWN && now_ns >= c->log_again_ns) {
        c->log_again_ns = now_ns + 1000 * KBS_NS_PER_MS;
        kbs_log_error("handshake-unsigned", why);
    }
}

static void refuse_tls(struct kbs_conn *conn, const struct kbs_error *why)
{
    log_token(conn->owner, why);
    kbs_metrics_refused(conn->owner->metrics,
                        why->category == KBS_TOKEN_DOWN ? KBS_REFUSED_TLS_KEY : KBS_REFUSED_TLS);
    flush(conn); /* the alert */
    conn->broken = true;
}

/* Takes received bytes: through TLS into `in`. */
static void take(struct kbs_conn *conn, struct kbs_span bytes)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int r;

    if (conn->state == KBS_CONN_LINGER) {
        return;
    }
    if (!conn->secure) {
        kbs_buf_put_span(&conn->in, bytes);
        conn->broken = conn->broken || conn->in.failed;
        return;
    }
    if (conn->tls == NULL && kbs_tls_new(conn->owner->tls, &conn->tls, &err) < 0) {
        refuse_tls(conn, &err);
        return;
    }
    r = kbs_tls_receive(conn->tls, bytes, &conn->in, &conn->out, &err);
    if (r == KBS_TLS_CLOSED) {
        conn->eof = true;
    } else if (r == KBS_TLS_HANDSHAKE) {
        kbs_handshake_step(conn);
    } else if (r < 0) {
        refuse_tls(conn, &err);
    }
}

void kbs_conn_stepped(struct kbs_conn *conn)
{
    conn->stepping = false;
    if (conn->state != KBS_CONN_CLOSED) {
        take(conn, KBS_SPAN_EMPTY);
        run(conn, KBS_CONN_EVENT_IO);
    }
    release(conn);
}

static void receive(struct kbs_conn *conn)
{
    uint8_t bytes[RECV_BYTES];

    for (int i = 0; i < RECV_REPEATS && !conn->broken && takes_bytes(conn); i++) {
        ssize_t n = recv(conn->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            conn->broken = conn->broken || errno != EAGAIN;
            return;
        }
        if (n == 0) {
            conn->eof = true;
            return;
        }
        take(conn, kbs_span(bytes, (size_t)n));
        kbs_cleanse(bytes, (size_t)n); /* a plain listener's requests */
        if ((size_t)n < sizeof(bytes)) {
            return;
        }
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct kbs_conn *conn = poll->data;

    if (status < 0) {
        conn->broken = true;
    }
    if ((events & UV_READABLE) != 0) {
        receive(conn);
    }
    if ((events & UV_WRITABLE) != 0) {
        flush(conn);
    }
    if (conn->broken) {
        conn_close(conn);
        return;
    }
    run(conn, KBS_CONN_EVENT_IO);
}

static uint32_t free_slot(struct kbs_conns *c)
{
    while (c->table[c->next_slot] != NULL) {
        c->next_slot = (c->next_slot + 1) % c->max;
    }
    return c->next_slot;
}

static int conn_init(struct kbs_conn *conn, struct kbs_conns *c, bool tls, struct kbs_error *err)
{
    conn->request.lane = -1;
    conn->in = KBS_BUF(IN_MAX_BYTES);
    conn->out = KBS_BUF(OUT_MAX_BYTES);
    conn->state = tls ? KBS_CONN_HANDSHAKE : KBS_CONN_IDLE;
    conn->secure = tls;
    if (kbs_http_parser_new(c->listener, &conn->parser, err) < 0) {
        return -1;
    }
    kbs_http_parser_bound_body(conn->parser, c->request_body_max);
    if (uv_poll_init(c->loop, &conn->poll, conn->fd) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the socket cannot be polled");
    }
    return 0;
}

int kbs_conns_add(struct kbs_conns *c, int fd, bool tls, const struct kbs_conn_peer *peer,
                  struct kbs_error *err)
{
    struct kbs_conn *conn = c->count < c->max ? calloc(1, sizeof(*conn)) : NULL;

    if (conn == NULL) {
        kbs_io_close(&fd);
        return kbs_fail(err, KBS_BUSY, "there is no room for another connection");
    }
    conn->owner = c;
    conn->fd = fd;
    (void)kbs_span_to_cstr(kbs_span_str(peer->text), conn->peer, sizeof(conn->peer));
    conn->source = peer->source;
    if (conn_init(conn, c, tls, err) < 0) {
        kbs_http_parser_free(conn->parser);
        free(conn);
        kbs_io_close(&fd);
        return -1;
    }
    (void)uv_timer_init(c->loop, &conn->timer);
    conn->poll.data = conn;
    conn->timer.data = conn;
    conn->open_handles = 2;
    conn->slot = free_slot(c);
    c->table[conn->slot] = conn;
    c->count++;
    kbs_conn_idle(conn, !tls);
    kbs_conn_set_timer(conn, tls ? c->timeouts->handshake_ms : c->timeouts->head_ms);
    watch(conn);
    return 0;
}

/*
 * An idle connection may make room when it has had an answer, or its moment to ask; not while its
 * next request is already in the socket. Otherwise newcomers would push each other out before any
 * of them is served.
 */
static bool can_spare(const struct kbs_conn *conn)
{
    uint64_t patience_ns = conn->owner->timeouts->linger_ms * KBS_NS_PER_MS;

    return (conn->served || kbs_clock_mono_ns() - conn->idle_since_ns > patience_ns) &&
           !kbs_conn_socket_has_bytes(conn);
}

bool kbs_conns_make_room(struct kbs_conns *c)
{
    struct kbs_conn *conn;

    if (c->count < c->max) {
        return true;
    }
    conn = c->idle_oldest; /* the first few are enough to look at */
    for (int i = 0; conn != NULL && i < EVICTION_LOOKS && !can_spare(conn); i++) {
        conn = conn->idle_next;
    }
    conn = conn != NULL && can_spare(conn) ? conn : NULL;
    kbs_metrics_refused(c->metrics, KBS_REFUSED_CAPACITY);
    if (conn != NULL) {
        conn_close(conn);
    }
    return false; /* its slot is free when its handles are closed: room() is called then */
}

void kbs_conns_deliver(void *data, uint64_t id, const struct kbs_lanes_answer *answer)
{
    struct kbs_conns *c = data;
    uint64_t slot = id & ((UINT64_C(1) << SLOT_BITS) - 1);
    struct kbs_conn *conn = slot < c->max ? c->table[slot] : NULL;

    if (conn == NULL || conn->state != KBS_CONN_WAITING || conn->request.id != id) {
        return; /* the client has gone, or was answered at its deadline */
    }
    conn->answer = answer;
    run(conn, KBS_CONN_EVENT_ANSWER);
    /* conn is still allocated: it is freed by a later callback */
    conn->answer = NULL;
}

void kbs_conns_drain(struct kbs_conns *c)
{
    c->draining = true;
    for (uint32_t i = 0; i < c->max; i++) {
        if (c->table[i] != NULL) {
            run(c->table[i], KBS_CONN_EVENT_DRAIN);
        }
    }
}

void kbs_conns_close_all(struct kbs_conns *c)
{
    for (uint32_t i = 0; i < c->max; i++) {
        if (c->table[i] != NULL) {
            conn_close(c->table[i]);
        }
    }
}
