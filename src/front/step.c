/*
 * The state machine of a connection.
 *
 * The problem: a connection's life is a conversation with three clocks, two transports and a worker
 * that may die, and callbacks that call each other hide which combinations happen. The approach:
 * one table of states with one handler and one timeout each; a handler looks at the connection,
 * moves bytes between its buffers, and returns the next state; only the driver below writes
 * conn->state, arms the timer and keeps the idle list. libuv callbacks (conns.c) translate to an
 * event and call it.
 *
 *   HANDSHAKE -> IDLE -> HEAD -> BODY -> WAITING -> WRITING -> IDLE
 *                           \______________________/    \-> LINGER -> CLOSED
 *
 * Invariants: the parser holds at most one request; bytes behind it stay in conn->in, which is
 * capped, so a client that does not read its answers is not read either; an answer is written only
 * in the transition to WRITING.
 *
 * A peer that closes its sending side while it waits is taken to be gone (as nginx does): the
 * answer is secret to the one who asked, and a dead client must not hold a place in the queue.
 */
#include "front/step.h"

#include "base/clock.h"
#include "base/log.h"
#include "front/answer.h"

typedef enum kbs_conn_state (*handler)(struct kbs_conn *conn, enum kbs_conn_event event);

static enum kbs_conn_state on_handshake(struct kbs_conn *conn, enum kbs_conn_event event)
{
    if (conn->tls != NULL && !conn->stepping && kbs_tls_established(conn->tls)) {
        return KBS_CONN_IDLE;
    }
    if (event == KBS_CONN_EVENT_TIMEOUT) {
        kbs_metrics_refused(conn->owner->metrics, KBS_REFUSED_TLS_TIMEOUT);
        return KBS_CONN_CLOSED;
    }
    return conn->eof ? KBS_CONN_CLOSED : KBS_CONN_HANDSHAKE;
}

static enum kbs_conn_state on_idle(struct kbs_conn *conn, enum kbs_conn_event event)
{
    if (conn->in.len > 0) {
        return KBS_CONN_HEAD;
    }
    if (conn->eof || event == KBS_CONN_EVENT_TIMEOUT) {
        return KBS_CONN_CLOSED;
    }
    if (conn->owner->draining && conn->served && !kbs_conn_socket_has_bytes(conn)) {
        return KBS_CONN_CLOSED;
    }
    if (event == KBS_CONN_EVENT_NONE) {
        kbs_buf_deinit(&conn->in); /* an idle connection holds no buffer */
    }
    if (conn->owner->draining && event != KBS_CONN_EVENT_IO) {
        /*
         * Somebody who connected just now, or whose next request is in the socket: let that one
         * through.
         */
        kbs_conn_set_timer(conn, conn->owner->timeouts->linger_ms);
    }
    return KBS_CONN_IDLE;
}

/* A whole request is in the parser: answer it here, or ask a judge. */
static enum kbs_conn_state begin(struct kbs_conn *conn)
{
    const struct kbs_http_request *r = kbs_http_parser_request(conn->parser);
    enum kbs_conn_state next = KBS_CONN_WRITING;

    conn->request.route = r->match.route;
    conn->request.length = r->body.len;
    if (!kbs_answer_local(conn, r->match.route, r->keep_alive) && kbs_answer_ask(conn, r)) {
        next = KBS_CONN_WAITING;
    }
    kbs_http_parser_next(conn->parser);
    return next;
}

/*
 * Charges the body received so far to the account of all connections. False when that is overdrawn.
 */
static bool charge_body(struct kbs_conn *conn)
{
    struct kbs_conns *c = conn->owner;
    size_t now = kbs_http_parser_body_bytes(conn->parser);

    c->body_bytes = c->body_bytes - conn->request.body_bytes + now;
    conn->request.body_bytes = now;
    return c->body_bytes <= KBS_CONNS_BODY_BYTES;
}

static enum kbs_conn_state refuse_overdrawn(struct kbs_conn *conn)
{
    conn->request.route = kbs_http_parser_route(conn->parser);
    kbs_answer_error(conn, KBS_REFUSED_BODY_MEMORY, KBS_BUSY,
                     "too many request bodies are being received", false);
    return KBS_CONN_WRITING;
}

static enum kbs_conn_state refuse(struct kbs_conn *conn)
{
    conn->request.length = kbs_http_parser_body_bytes(conn->parser);
    kbs_answer_refusal(conn, kbs_http_parser_refusal(conn->parser));
    if (conn->request.keep_alive) {
        kbs_http_parser_next(conn->parser);
    }
    return KBS_CONN_WRITING;
}

/* Gives what is there to the parser. */
static enum kbs_conn_state parse(struct kbs_conn *conn)
{
    size_t used = 0;
    enum kbs_http_event event;

    if (conn->request.started_ns == 0) {
        conn->request.started_ns = kbs_clock_mono_ns();
    }
    event = kbs_http_parser_feed(conn->parser, kbs_buf_span(&conn->in), &used);
    kbs_buf_consume(&conn->in, used);
    switch (event) {
    case KBS_HTTP_REQUEST:
        return begin(conn);
    case KBS_HTTP_REFUSED:
        return refuse(conn);
    case KBS_HTTP_MORE:
        break;
    }
    if (kbs_http_parser_phase(conn->parser) != KBS_HTTP_PHASE_BODY) {
        return KBS_CONN_HEAD;
    }
    if (!charge_body(conn)) {
        return refuse_overdrawn(conn);
    }
    if (kbs_http_parser_take_continue(conn->parser)) {
        struct kbs_buf text = KBS_BUF(64);

        kbs_http_continue_write(&text);
        kbs_conn_put(conn, kbs_buf_span(&text));
        kbs_buf_deinit(&text);
    }
    return KBS_CONN_BODY;
}

static enum kbs_conn_state on_receiving(struct kbs_conn *conn, enum kbs_conn_event event)
{
    bool in_head = conn->state == KBS_CONN_HEAD;

    if (event == KBS_CONN_EVENT_TIMEOUT) {
        conn->request.route = kbs_http_parser_route(conn->parser);
        kbs_answer_timeout(conn, in_head ? KBS_REFUSED_HEAD_TIMEOUT : KBS_REFUSED_BODY_TIMEOUT);
        return KBS_CONN_WRITING;
    }
    if (conn->in.len > 0) {
        enum kbs_conn_state next = parse(conn);

        if (next != conn->state) {
            return next;
        }
    }
    if (conn->eof) {
        kbs_metrics_refused(conn->owner->metrics, KBS_REFUSED_DISCONNECTED);
        return KBS_CONN_CLOSED;
    }
    return conn->state;
}

static enum kbs_conn_state on_waiting(struct kbs_conn *conn, enum kbs_conn_event event)
{
    struct kbs_conn_request *r = &conn->request;

    if (event == KBS_CONN_EVENT_ANSWER) {
        r->id = 0;
        r->lane = conn->answer->lane;
        if (conn->answer->response != NULL) {
            kbs_answer_send(conn, conn->answer->response, r->keep_alive);
        } else {
            kbs_answer_error(conn, conn->answer->refused, conn->answer->category, conn->answer->why,
                             r->keep_alive);
        }
        return KBS_CONN_WRITING;
    }
    if (conn->eof) {
        kbs_metrics_refused(conn->owner->metrics, KBS_REFUSED_DISCONNECTED);
        return KBS_CONN_CLOSED; /* closing cancels */
    }
    if (event == KBS_CONN_EVENT_TIMEOUT) {
        kbs_conn_cancel(conn);
        kbs_answer_error(conn, KBS_REFUSED_DEADLINE, KBS_DEADLINE, "no answer in time",
                         r->keep_alive);
        return KBS_CONN_WRITING;
    }
    return KBS_CONN_WAITING;
}

static enum kbs_conn_state on_writing(struct kbs_conn *conn, enum kbs_conn_event event)
{
    bool keep_alive = conn->request.keep_alive;

    if (event == KBS_CONN_EVENT_TIMEOUT) {
        kbs_metrics_refused(conn->owner->metrics, KBS_REFUSED_WRITE_TIMEOUT);
        return KBS_CONN_CLOSED;
    }
    if (!kbs_conn_flushed(conn)) {
        return KBS_CONN_WRITING;
    }
    conn->served = true;
    kbs_conn_request_done(conn);
    if (keep_alive) {
        return KBS_CONN_IDLE;
    }
    kbs_conn_shutdown(conn);
    return KBS_CONN_LINGER;
}

/*
 * Closing a socket with unread bytes makes the kernel reset it, and the client may lose the answer
 * that says why. So what still comes is read and dropped for a moment (RFC 9112 section 9.6).
 */
static enum kbs_conn_state on_linger(struct kbs_conn *conn, enum kbs_conn_event event)
{
    kbs_buf_clear(&conn->in);
    return conn->eof || event == KBS_CONN_EVENT_TIMEOUT ? KBS_CONN_CLOSED : KBS_CONN_LINGER;
}

static handler state_handler(enum kbs_conn_state state)
{
    static const handler handlers[KBS_CONN_STATE_COUNT] = {
        [KBS_CONN_HANDSHAKE] = on_handshake, [KBS_CONN_IDLE] = on_idle,
        [KBS_CONN_HEAD] = on_receiving,      [KBS_CONN_BODY] = on_receiving,
        [KBS_CONN_WAITING] = on_waiting,     [KBS_CONN_WRITING] = on_writing,
        [KBS_CONN_LINGER] = on_linger,
    };

    return handlers[state];
}

static uint32_t state_timeout_ms(const struct kbs_front_timeouts *t, enum kbs_conn_state state)
{
    const uint32_t timeouts[KBS_CONN_STATE_COUNT] = {
        [KBS_CONN_HANDSHAKE] = t->handshake_ms, [KBS_CONN_IDLE] = t->idle_ms,
        [KBS_CONN_HEAD] = t->head_ms,           [KBS_CONN_BODY] = t->body_ms,
        [KBS_CONN_WAITING] = t->request_ms,     [KBS_CONN_WRITING] = t->write_ms,
        [KBS_CONN_LINGER] = t->linger_ms,
    };

    return timeouts[state];
}

bool kbs_conn_step(struct kbs_conn *conn, enum kbs_conn_event event)
{
    for (;;) {
        enum kbs_conn_state next = state_handler(conn->state)(conn, event);

        if (next == KBS_CONN_CLOSED || conn->broken) {
            return false;
        }
        if (next == conn->state) {
            return true;
        }
        conn->state = next;
        kbs_conn_set_timer(conn, state_timeout_ms(conn->owner->timeouts, next));
        kbs_conn_idle(conn, next == KBS_CONN_IDLE);
        event = KBS_CONN_EVENT_NONE;
    }
}
