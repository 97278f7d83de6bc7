/*
 * Answers.
 *
 * The problem: a client must get exactly one well-formed answer to each request, whoever makes it.
 * The approach: everything that reaches a client goes through kbs_answer_send(), which writes,
 * counts and logs it; requests for a judge are encoded once, into the frame that waits in the
 * queue, so that the parser's memory is free again at once.
 *
 * The request's deadline travels with the frame: a judge need not begin what nobody waits for any
 * more.
 */
#include "front/answer.h"

#include "base/clock.h"

/*
 * Connections are found by slot; the serial makes each id unique. kbs_conns_deliver() takes it
 * apart.
 */
static uint64_t next_id(struct kbs_conn *conn)
{
    return (++conn->owner->next_serial << 20) | conn->slot;
}

static void count(struct kbs_conn *conn, const struct kbs_http_response *response)
{
    const struct kbs_conn_request *r = &conn->request;
    const struct kbs_metrics_request m = {
        .route = r->route,
        .status = response->status,
        .duration_us = r->started_ns != 0 ? (kbs_clock_mono_ns() - r->started_ns) / 1000 : 0,
        .lane = r->lane,
        .request_bytes = r->length,
        .response_bytes = response->body.len,
    };

    kbs_metrics_request(conn->owner->metrics, &m);
}

static void send_mode(struct kbs_conn *conn, const struct kbs_http_response *response,
                      const struct kbs_http_response_mode *mode)
{
    struct kbs_buf text = KBS_BUF(KBS_HTTP_RESPONSE_HEAD_BYTES + KBS_LIMIT_HTTP_RESPONSE_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;

    conn->request.status = response->status;
    conn->request.keep_alive = mode->keep_alive;
    if (kbs_http_response_write(&text, response, mode, &err) < 0) {
        conn->broken = true; /* out of memory: what a judge sent was checked in lanes.c */
    } else {
        kbs_conn_put(conn, kbs_buf_span(&text));
        count(conn, response);
    }
    kbs_buf_deinit(&text);
}

void kbs_answer_send(struct kbs_conn *conn, const struct kbs_http_response *response,
                     bool keep_alive)
{
    const struct kbs_http_response_mode mode = {.keep_alive = keep_alive && !conn->owner->draining,
                                                .now_s = kbs_clock_unix_s()};

    send_mode(conn, response, &mode);
}

/* A source that is over its limit may begin another handshake after a second at the latest. */
static uint32_t retry_after_s(unsigned int status)
{
    return status == 429 || status == 503 ? KBS_LIMIT_RETRY_AFTER_S : 0;
}

void kbs_answer_refusal(struct kbs_conn *conn, const struct kbs_http_refusal *refusal)
{
    const struct kbs_http_response_mode mode = {.keep_alive =
                                                    !refusal->close && !conn->owner->draining,
                                                .head_only = refusal->head_only,
                                                .now_s = kbs_clock_unix_s()};
    struct kbs_buf body = KBS_BUF(2048);
    struct kbs_http_response response = {.status = refusal->status,
                                         .content_type = KBS_SPAN_LIT("application/json"),
                                         .allow = refusal->allow};

    kbs_metrics_refused(conn->owner->metrics, (unsigned int)refusal->reason);
    kbs_error_body(&body, refusal->variant, refusal->detail);
    response.body = kbs_buf_span(&body);
    response.retry_after_s = retry_after_s(refusal->status);
    send_mode(conn, &response, &mode);
    kbs_buf_deinit(&body);
}

static void send_error(struct kbs_conn *conn, unsigned int status, const char *variant,
                       const char *detail, bool keep_alive)
{
    struct kbs_buf body = KBS_BUF(2048);
    struct kbs_http_response response = {.status = status,
                                         .content_type = KBS_SPAN_LIT("application/json"),
                                         .retry_after_s = retry_after_s(status)};

    kbs_error_body(&body, variant, detail);
    response.body = kbs_buf_span(&body);
    kbs_answer_send(conn, &response, keep_alive);
    kbs_buf_deinit(&body);
}

void kbs_answer_error(struct kbs_conn *conn, unsigned int refused, enum kbs_category category,
                      const char *detail, bool keep_alive)
{
    kbs_metrics_refused(conn->owner->metrics, refused);
    send_error(conn, kbs_category_status(category), kbs_category_variant(category), detail,
               keep_alive);
}

void kbs_answer_timeout(struct kbs_conn *conn, unsigned int refused)
{
    kbs_metrics_refused(conn->owner->metrics, refused);
    send_error(conn, 408, kbs_category_variant(KBS_INPUT), "the request took too long to arrive",
               false);
}

static void answer_metrics(struct kbs_conn *conn, bool keep_alive)
{
    struct kbs_conns *c = conn->owner;
    const struct kbs_gauges gauges = {.connections = c->count,
                                      .lanes_attached = kbs_lanes_attached(c->lanes),
                                      .lanes_busy = kbs_lanes_busy(c->lanes),
                                      .queue = c->lanes->waiting,
                                      .body_bytes = c->body_bytes,
                                      .auth_sources =
                                          kbs_sources_in_debt(&c->sources, kbs_clock_mono_ns()),
                                      .auth_uncounted = c->sources.uncounted,
                                      .fetch_waiting = kbs_relay_waiting(c->relay),
                                      .fetch_attached = c->relay->channel != NULL};
    struct kbs_buf text = KBS_BUF(KBS_METRICS_TEXT_BYTES);
    struct kbs_http_response response = {
        .status = 200, .content_type = KBS_SPAN_LIT("text/plain; version=0.0.4; charset=utf-8")};

    kbs_metrics_text(c->metrics, &gauges, &text);
    response.body = kbs_buf_span(&text);
    kbs_answer_send(conn, &response, keep_alive);
    kbs_buf_deinit(&text);
}

bool kbs_answer_local(struct kbs_conn *conn, enum kbs_route route, bool keep_alive)
{
    const struct kbs_http_response empty = {.status = 200};
    bool ledger_down = conn->owner->lanes->ledger_down;
    bool ready = kbs_lanes_ready(conn->owner->lanes) && !conn->owner->draining && !ledger_down;

    if (route == KBS_ROUTE_HEALTHZ || (route == KBS_ROUTE_READYZ && ready)) {
        kbs_answer_send(conn, &empty, keep_alive);
        return true;
    }
    if (route == KBS_ROUTE_READYZ) {
        send_error(conn, 503, kbs_category_variant(KBS_BUSY),
                   ledger_down ? "the audit ledger cannot be written" : "no lane is ready",
                   keep_alive);
        return true;
    }
    if (route == KBS_ROUTE_METRICS) {
        answer_metrics(conn, keep_alive);
        return true;
    }
    return false;
}

/*
 * The parameters of a path. A tail is one, its segments joined by the slashes that were between them: no
 * decoded segment has one in it.
 */
static void put_params(const struct kbs_http_match *match, struct kbs_wire_list_builder *params,
                       struct kbs_buf *tail)
{
    for (size_t i = 0; i < match->param_count; i++) {
        kbs_wire_list_add(params, match->params[i]);
    }
    for (size_t i = 0; i < match->tail_count; i++) {
        kbs_buf_put_str(tail, i > 0 ? "/" : "");
        kbs_buf_put_span(tail, match->tail[i]);
    }
    if (match->tail_count != 0) {
        kbs_wire_list_add(params, kbs_buf_span(tail));
    }
}

/* Lists are built in buffers that must outlive the encoding. */
static int encode_request(struct kbs_conn *conn, const struct kbs_http_request *r, uint64_t id,
                          uint64_t deadline_ns, struct kbs_buf *frame, struct kbs_error *err)
{
    struct kbs_buf params_buf = KBS_BUF(KBS_LIMIT_HTTP_HEAD_BYTES);
    struct kbs_buf query_buf = KBS_BUF(KBS_LIMIT_HTTP_HEAD_BYTES);
    struct kbs_buf tail = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_wire_list_builder params = {.buf = &params_buf};
    struct kbs_wire_list_builder query = {.buf = &query_buf};
    struct kbs_wire_request m = {.route = (uint8_t)r->match.route,
                                 .listener = (uint8_t)conn->owner->listener,
                                 .peer = kbs_span_str(conn->peer),
                                 .method = kbs_span_str(r->match.method),
                                 .target = r->target,
                                 .cookie = r->cookie,
                                 .authorization = r->authorization,
                                 .accept = r->accept,
                                 .content_type = r->content_type,
                                 .signature = r->signature,
                                 .proof = r->proof,
                                 .body = r->body};
    uint8_t channel[KBS_TLS_EXPORTER_BYTES];
    int result;

    if (r->proof.len != 0 && conn->tls != NULL && kbs_tls_exporter(conn->tls, channel)) {
        m.channel = kbs_span(channel, sizeof(channel));
    }
    put_params(&r->match, &params, &tail);
    for (size_t i = 0; i < r->path.query_count; i++) {
        kbs_wire_list_add(&query, r->path.query[i]);
    }
    m.params = kbs_wire_list_done(&params);
    m.query = kbs_wire_list_done(&query);
    result = params_buf.failed || query_buf.failed || tail.failed
                 ? kbs_fail(err, KBS_INTERNAL, "out of memory")
                 : kbs_wire_encode(frame, KBS_WIRE_REQUEST, id, deadline_ns, &m, err);
    kbs_buf_deinit(&params_buf);
    kbs_buf_deinit(&query_buf);
    kbs_buf_deinit(&tail);
    return result;
}

bool kbs_answer_ask(struct kbs_conn *conn, const struct kbs_http_request *request)
{
    struct kbs_conns *c = conn->owner;
    struct kbs_buf frame = KBS_BUF(KBS_WIRE_HEADER_BYTES + KBS_LIMIT_WIRE_BODY_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t id = next_id(conn);
    bool keep_alive = request->keep_alive;
    int room = kbs_lanes_room(c->lanes);

    if (request->match.route == KBS_ROUTE_AUTH &&
        !kbs_sources_take(&c->sources, &conn->source, kbs_clock_mono_ns())) {
        kbs_answer_error(conn, KBS_REFUSED_AUTH_RATE, KBS_LIMITED,
                         "too many handshakes from your address; try again", keep_alive);
    } else if (room == KBS_LANES_NONE) {
        kbs_answer_error(conn, KBS_REFUSED_NO_LANE, KBS_BUSY, "no lane is ready", keep_alive);
    } else if (room == KBS_LANES_FULL) {
        kbs_answer_error(conn, KBS_REFUSED_QUEUE_FULL, KBS_BUSY, "too many requests are waiting",
                         keep_alive);
    } else if (encode_request(conn, request, id, kbs_deadline_in_ms(c->timeouts->request_ms),
                              &frame, &err) < 0 ||
               kbs_lanes_submit(c->lanes, id, &frame) != 0) {
        kbs_answer_error(conn, KBS_HTTP_REASON_MEMORY, KBS_BUSY, "the request cannot be handed on",
                         keep_alive);
    } else {
        conn->request.id = id;
        conn->request.keep_alive = keep_alive;
        return true;
    }
    kbs_buf_deinit(&frame);
    return false;
}
