/*
 * Lanes.
 *
 * The problem: a few synchronous judges serve many connections, any of them may crash, hang or turn
 * hostile, and the loop must not wait for any of them. The approach: one request in flight per
 * lane; idle lanes take the oldest waiting request; frames are written and read piecemeal on
 * non-blocking descriptors. Requests are named by id in both directions, so an answer that nobody
 * waits for any more is dropped by its number.
 *
 * A lane is lost for one of three reasons: its channel closed; its answer broke the schema, came
 * unasked or with a foreign id (then it must be taken for compromised); it did not answer in
 * `lane_ms`, long after the client was told 503. In each case the request in flight is delivered as
 * lost, once, the descriptor is closed, so that the judge sees end of file and exits, and kbsd
 * attaches a new lane. A lane that kbsd wants back (DETACH) is closed between two requests, and
 * costs none.
 *
 * A new lane takes a moment. When the last one is gone, what waits, and what comes, waits on for
 * `absent_ms`, so that a crash costs its own request only, with a single lane, too; then all of it
 * is failed, and refused from then on: better an answer than silence until the deadline.
 *
 * Invariants: lane->request_id != 0 exactly while it is busy; the queue is empty while a lane is
 * idle; deliver() is called only from loop callbacks. deliver() may submit again, so no state is
 * kept across it.
 */
#include "front/lanes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"

struct kbs_lane {
    struct kbs_lanes *owner;
    uint32_t index;
    int fd;
    int events; /* what `poll` is started for */
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned int open_handles;
    uint64_t request_id; /* 0 when idle */
    bool detached;       /* kbsd wants it back: no further request */
    struct kbs_buf out;  /* the request's frame */
    size_t sent;
    uint8_t header[KBS_WIRE_HEADER_BYTES];
    size_t header_len;
    struct kbs_frame frame; /* valid once the header is complete */
    struct kbs_buf body;
};

static void on_poll(uv_poll_t *poll, int status, int events);

static void on_closed(uv_handle_t *handle)
{
    struct kbs_lane *lane = handle->data;

    if (--lane->open_handles == 0) {
        kbs_buf_deinit(&lane->out);
        kbs_buf_deinit(&lane->body);
        free(lane);
    }
}

/* No lane has come back: fails what waits. The timer has ended, so deliver() cannot add to it. */
static void on_absent(uv_timer_t *timer)
{
    struct kbs_lanes *l = timer->data;
    const struct kbs_lanes_answer lost = {.response = NULL, .lane = -1};

    while (l->waiting > 0) {
        uint64_t id = l->queue[0].id;

        kbs_lanes_cancel(l, id);
        l->deliver(l->data, id, &lost);
    }
}

/* Takes the lane out of service; its request, if any, is returned and the caller's to deliver. */
static uint64_t lane_close(struct kbs_lane *lane)
{
    struct kbs_lanes *l = lane->owner;
    uint64_t id = lane->request_id;

    l->lane[lane->index] = NULL;
    l->awaited = lane->detached;
    lane->request_id = 0;
    if (kbs_lanes_attached(l) == 0) {
        (void)uv_timer_start(&l->absence, on_absent, l->timeouts->absent_ms, 0);
    }
    uv_close((uv_handle_t *)&lane->poll, on_closed);
    uv_close((uv_handle_t *)&lane->timer, on_closed);
    kbs_io_close(&lane->fd);
    return id;
}

static void lane_lost(struct kbs_lane *lane, unsigned int refused, const struct kbs_error *err)
{
    struct kbs_lanes *l = lane->owner;
    const struct kbs_lanes_answer lost = {.response = NULL, .lane = (int)lane->index};
    uint64_t id;

    kbs_metrics_refused(l->metrics, refused);
    kbs_log(KBS_LOG_WARN, "lane-closed", "lane=%u reason=%s", lane->index,
            kbs_refused_name(refused));
    if (err != NULL) {
        kbs_log_error("lane-breach", err);
    }
    id = lane_close(lane);
    if (id != 0) {
        l->deliver(l->data, id, &lost);
    }
}

static void watch(struct kbs_lane *lane)
{
    int events = UV_READABLE | (lane->sent < lane->out.len ? UV_WRITABLE : 0);

    if (events != lane->events && uv_poll_start(&lane->poll, events, on_poll) == 0) {
        lane->events = events;
    }
}

/*
 * Sends what the socket takes. An error is left to the next readable event: the answer, or the end.
 */
static void lane_write(struct kbs_lane *lane)
{
    while (lane->sent < lane->out.len) {
        ssize_t n = send(lane->fd, lane->out.p + lane->sent, lane->out.len - lane->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno != EAGAIN) {
            lane->sent = lane->out.len;
        }
        if (n < 0) {
            break;
        }
        lane->sent += (size_t)n;
    }
    if (lane->sent == lane->out.len) {
        kbs_buf_deinit(&lane->out);
        lane->sent = 0;
    }
    watch(lane);
}

static void on_stuck(uv_timer_t *timer)
{
    lane_lost(timer->data, KBS_REFUSED_LANE_STUCK, NULL);
}

static void queue_remove(struct kbs_lanes *l, uint32_t at)
{
    l->waiting--;
    memmove(&l->queue[at], &l->queue[at + 1], (l->waiting - at) * sizeof(l->queue[0]));
}

static struct kbs_lane *idle_lane(struct kbs_lanes *l)
{
    for (uint32_t i = 0; i < l->count; i++) {
        if (l->lane[i] != NULL && l->lane[i]->request_id == 0) {
            return l->lane[i];
        }
    }
    return NULL;
}

/*
 * True if the judge can still take a request. One that is about to leave has closed its reading
 * side before it sent its last answer, so a request is never handed to a lane that will not
 * serve it.
 */
static bool lane_reads(const struct kbs_lane *lane)
{
    return send(lane->fd, "", 0, MSG_NOSIGNAL | MSG_DONTWAIT) == 0 || errno == EAGAIN;
}

/* Gives waiting requests to idle lanes. Delivers nothing. */
static void dispatch(struct kbs_lanes *l)
{
    struct kbs_lane *lane;

    while (l->waiting > 0 && (lane = idle_lane(l)) != NULL) {
        if (!lane_reads(lane)) {
            kbs_log(KBS_LOG_INFO, "lane-leaving", "lane=%u", lane->index);
            (void)lane_close(lane);
            continue;
        }
        lane->request_id = l->queue[0].id;
        lane->out = l->queue[0].frame; /* moved */
        lane->sent = 0;
        queue_remove(l, 0);
        (void)uv_timer_start(&lane->timer, on_stuck, l->timeouts->lane_ms, 0);
        lane_write(lane);
    }
}

/* Decodes and checks a complete answer. */
static int read_answer(struct kbs_lane *lane, struct kbs_http_response *ret, struct kbs_error *err)
{
    struct kbs_wire_response r;

    if (kbs_wire_decode(KBS_WIRE_RESPONSE, kbs_buf_span(&lane->body), &r, err) < 0) {
        return -1;
    }
    *ret = (struct kbs_http_response){.status = r.status,
                                      .content_type = r.content_type,
                                      .cookie = r.cookie,
                                      .cookie_expires_s = r.cookie_expires_s,
                                      .retry_after_s = r.retry_after_s,
                                      .body = r.body};
    return kbs_http_response_check(ret, err);
}

/* The frame is complete: back to idle first, so that the owner may submit from within deliver(). */
static void lane_answered(struct kbs_lane *lane)
{
    struct kbs_lanes *l = lane->owner;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_http_response response;
    struct kbs_lanes_answer answer = {.response = &response, .lane = (int)lane->index};
    struct kbs_buf body;
    uint64_t id = lane->request_id;

    if (read_answer(lane, &response, &err) < 0) {
        lane_lost(lane, KBS_REFUSED_LANE_BREACH, &err);
        return;
    }
    (void)uv_timer_stop(&lane->timer);
    body = lane->body; /* the answer borrows it; the lane may be gone when deliver() returns */
    lane->body = KBS_BUF(0);
    lane->header_len = 0;
    lane->request_id = 0;
    if (lane->detached) {
        (void)lane_close(lane);
    }
    dispatch(l);
    l->deliver(l->data, id, &answer);
    kbs_buf_deinit(&body);
}

static int header_complete(struct kbs_lane *lane, struct kbs_error *err)
{
    if (kbs_wire_header_decode(lane->header, &lane->frame, err) < 0) {
        return -1;
    }
    if (lane->frame.type != KBS_WIRE_RESPONSE || lane->frame.id != lane->request_id) {
        return kbs_fail(err, KBS_INPUT, "lane sent %s out of turn",
                        kbs_wire_type_name(lane->frame.type));
    }
    if (lane->sent < lane->out.len) {
        return kbs_fail(err, KBS_INPUT, "lane answered before it had the request");
    }
    kbs_buf_init(&lane->body, lane->frame.body_len);
    return 0;
}

/* Bytes the current frame still needs, and where they go. */
static size_t wanted(struct kbs_lane *lane, uint8_t **ret_to)
{
    if (lane->header_len < KBS_WIRE_HEADER_BYTES) {
        *ret_to = lane->header + lane->header_len;
        return KBS_WIRE_HEADER_BYTES - lane->header_len;
    }
    *ret_to = kbs_buf_reserve(&lane->body, lane->frame.body_len - lane->body.len);
    return lane->frame.body_len - lane->body.len;
}

/* Counts n received bytes. 1 when the frame is complete, 0 when not, -1 for a breach. */
static int received(struct kbs_lane *lane, size_t n, struct kbs_error *err)
{
    if (lane->header_len < KBS_WIRE_HEADER_BYTES) {
        lane->header_len += n;
        if (lane->header_len < KBS_WIRE_HEADER_BYTES) {
            return 0;
        }
        if (header_complete(lane, err) < 0) {
            return -1;
        }
    } else {
        kbs_buf_commit(&lane->body, n);
    }
    return lane->body.len == lane->frame.body_len ? 1 : 0;
}

static void lane_read(struct kbs_lane *lane)
{
    for (;;) {
        struct kbs_error err = KBS_ERROR_NONE;
        uint8_t *to = NULL;
        size_t want = wanted(lane, &to);
        ssize_t n;
        int r;

        if (to == NULL) {
            (void)kbs_fail(&err, KBS_INTERNAL, "out of memory for an answer");
            lane_lost(lane, KBS_REFUSED_LANE_DIED, &err);
            return;
        }
        n = recv(lane->fd, to, want, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n <= 0) {
            lane_lost(lane, KBS_REFUSED_LANE_DIED, NULL);
            return;
        }
        r = lane->request_id == 0 ? kbs_fail(&err, KBS_INPUT, "lane spoke unasked")
                                  : received(lane, (size_t)n, &err);
        if (r < 0) {
            lane_lost(lane, KBS_REFUSED_LANE_BREACH, &err);
            return;
        }
        if (r == 1) {
            lane_answered(lane);
            return;
        }
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct kbs_lane *lane = poll->data;

    if (status < 0) {
        lane_lost(lane, KBS_REFUSED_LANE_DIED, NULL);
        return;
    }
    if ((events & UV_WRITABLE) != 0) {
        lane_write(lane);
    }
    if ((events & UV_READABLE) != 0) {
        lane_read(lane); /* last: may end the lane */
    }
}

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void kbs_lanes_init(struct kbs_lanes *l)
{
    (void)uv_timer_init(l->loop, &l->absence);
    l->absence.data = l;
}

int kbs_lanes_attach(struct kbs_lanes *l, uint32_t index, int fd, struct kbs_error *err)
{
    const struct kbs_lanes_answer lost = {.response = NULL, .lane = (int)index};
    struct kbs_lane *lane = NULL;
    uint64_t lost_id = 0;

    if (index >= l->count || set_nonblocking(fd) < 0 || (lane = calloc(1, sizeof(*lane))) == NULL ||
        uv_poll_init(l->loop, &lane->poll, fd) != 0) {
        free(lane);
        kbs_io_close(&fd);
        return kbs_fail(err, KBS_INPUT, "lane %u cannot be attached", index);
    }
    if (l->lane[index] != NULL) {
        lost_id = lane_close(l->lane[index]);
    }
    lane->owner = l;
    lane->index = index;
    lane->fd = fd;
    lane->poll.data = lane;
    (void)uv_timer_init(l->loop, &lane->timer);
    lane->timer.data = lane;
    lane->open_handles = 2;
    l->lane[index] = lane;
    (void)uv_timer_stop(&l->absence);
    watch(lane);
    kbs_log(KBS_LOG_INFO, "lane-attached", "lane=%u", index);
    if (lost_id != 0) {
        kbs_metrics_refused(l->metrics, KBS_REFUSED_LANE_DIED);
        l->deliver(l->data, lost_id, &lost);
    }
    dispatch(l);
    return 0;
}

int kbs_lanes_detach(struct kbs_lanes *l, uint32_t index, struct kbs_error *err)
{
    struct kbs_lane *lane = index < l->count ? l->lane[index] : NULL;

    if (index >= l->count) {
        return kbs_fail(err, KBS_INPUT, "lane %u cannot be detached", index);
    }
    if (lane == NULL) {
        return 0;
    }
    kbs_log(KBS_LOG_INFO, "lane-detached", "lane=%u busy=%d", index, lane->request_id != 0);
    lane->detached = true;
    if (lane->request_id == 0) {
        (void)lane_close(lane);
    }
    return 0;
}

int kbs_lanes_room(const struct kbs_lanes *l)
{
    if (kbs_lanes_attached(l) == 0 && !uv_is_active((const uv_handle_t *)&l->absence)) {
        return KBS_LANES_NONE;
    }
    return l->waiting == KBS_LIMIT_FRONT_QUEUE ? KBS_LANES_FULL : 0;
}

int kbs_lanes_submit(struct kbs_lanes *l, uint64_t id, struct kbs_buf *frame)
{
    int r = kbs_lanes_room(l);

    if (r != 0) {
        return r;
    }
    l->queue[l->waiting++] = (struct kbs_lanes_waiting){.id = id, .frame = *frame};
    *frame = KBS_BUF(frame->max);
    dispatch(l);
    return 0;
}

void kbs_lanes_cancel(struct kbs_lanes *l, uint64_t id)
{
    for (uint32_t i = 0; i < l->waiting; i++) {
        if (l->queue[i].id == id) {
            kbs_buf_deinit(&l->queue[i].frame);
            queue_remove(l, i);
            return;
        }
    }
}

void kbs_lanes_close(struct kbs_lanes *l)
{
    while (l->waiting > 0) {
        kbs_lanes_cancel(l, l->queue[0].id);
    }
    for (uint32_t i = 0; i < l->count; i++) {
        if (l->lane[i] != NULL) {
            (void)lane_close(l->lane[i]);
        }
    }
    uv_close((uv_handle_t *)&l->absence, NULL);
}

uint32_t kbs_lanes_attached(const struct kbs_lanes *l)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < l->count; i++) {
        n += l->lane[i] != NULL ? 1 : 0;
    }
    return n;
}

bool kbs_lanes_ready(const struct kbs_lanes *l)
{
    return kbs_lanes_attached(l) > 0 ||
           (l->awaited && uv_is_active((const uv_handle_t *)&l->absence));
}

uint32_t kbs_lanes_busy(const struct kbs_lanes *l)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < l->count; i++) {
        n += l->lane[i] != NULL && l->lane[i]->request_id != 0 ? 1 : 0;
    }
    return n;
}
