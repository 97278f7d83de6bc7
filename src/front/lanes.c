/*
 * Lanes.
 *
 * The problem: a few synchronous judges serve many connections, any of them may crash, hang or turn
 * hostile, and the loop must not wait for any of them. The approach: one request in flight per
 * lane; idle lanes take the oldest waiting request; frames are written and read piecemeal (frames.c).
 * A judge that needs something from the network does not wait for it: its FETCH ends its turn as an
 * answer does, and what becomes of the request is somebody else's business (relay.c). Requests are named by id in both directions, so an answer that nobody
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
#include <stdlib.h>
#include <sys/socket.h>

#include "base/io.h"
#include "base/log.h"
#include "front/frames.h"

#define LOST "the lane was lost; try again"

struct kbs_lane {
    struct kbs_lanes *owner;
    uint32_t index;
    struct kbs_frames frames; /* its `out` is the request in flight, kept until it is answered */
    int events;               /* what `poll` is started for */
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned int open_handles;
    uint64_t request_id; /* 0 when idle */
    bool abandoned;      /* nobody wants its answer any more */
    bool detached;       /* kbsd wants it back: no further request */
};

static void on_poll(uv_poll_t *poll, int status, int events);

static void on_closed(uv_handle_t *handle)
{
    struct kbs_lane *lane = handle->data;

    if (--lane->open_handles == 0) {
        kbs_frames_deinit(&lane->frames);
        free(lane);
    }
}

/* No lane has come back: fails what waits. The timer has ended, so deliver() cannot add to it. */
static void on_absent(uv_timer_t *timer)
{
    struct kbs_lanes *l = timer->data;
    const struct kbs_lanes_answer lost = {
        .lane = -1, .refused = KBS_REFUSED_LANE_DIED, .category = KBS_TOKEN_DOWN, .why = LOST};

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
    kbs_frames_close(&lane->frames);
    return id;
}

static void lane_lost(struct kbs_lane *lane, unsigned int refused, const struct kbs_error *err)
{
    struct kbs_lanes *l = lane->owner;
    const struct kbs_lanes_answer lost = {.lane = (int)lane->index,
                                          .refused = KBS_REFUSED_LANE_DIED,
                                          .category = KBS_TOKEN_DOWN,
                                          .why = LOST};
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
    int events = UV_READABLE | (kbs_frames_unsent(&lane->frames) ? UV_WRITABLE : 0);

    if (events != lane->events && uv_poll_start(&lane->poll, events, on_poll) == 0) {
        lane->events = events;
    }
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
    return send(lane->frames.fd, "", 0, MSG_NOSIGNAL | MSG_DONTWAIT) == 0 || errno == EAGAIN;
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
        lane->abandoned = false;
        lane->frames.out = l->queue[0].frame; /* moved */
        lane->frames.sent = 0;
        queue_remove(l, 0);
        (void)uv_timer_start(&lane->timer, on_stuck, l->timeouts->lane_ms, 0);
        kbs_frames_send(&lane->frames);
        watch(lane);
    }
}

/* Decodes and checks a complete answer. */
static int read_answer(struct kbs_span body, struct kbs_http_response *ret, struct kbs_error *err)
{
    struct kbs_wire_response r;

    if (kbs_wire_decode(KBS_WIRE_RESPONSE, body, &r, err) < 0) {
        return -1;
    }
    *ret = (struct kbs_http_response){.status = r.status,
                                      .content_type = r.content_type,
                                      .cookie = r.cookie,
                                      .cookie_expires_s = r.cookie_expires_s,
                                      .retry_after_s = r.retry_after_s,
                                      .receipt = r.receipt,
                                      .body = r.body};
    return kbs_http_response_check(ret, err);
}

/* The same of what stands in the place of an answer: kbs-fetch would refuse it, too. */
static int read_fetch(struct kbs_span body, struct kbs_wire_fetch *ret, struct kbs_error *err)
{
    if (kbs_wire_decode(KBS_WIRE_FETCH, body, ret, err) < 0) {
        return -1;
    }
    if (ret->endpoint.len == 0 || ret->method > KBS_FETCH_POST ||
        (ret->suffix.len != 0 && ret->suffix.p[0] != '/') || ret->max > KBS_LIMIT_FETCH_BYTES) {
        return kbs_fail(err, KBS_INPUT, "a FETCH that no judge can mean");
    }
    return 0;
}

/*
 * The frame is complete: back to idle first, so that the owner may submit from within deliver(). The
 * message borrows the body, and the lane may be gone when deliver() returns, so both move here.
 */
static void lane_answered(struct kbs_lane *lane)
{
    struct kbs_lanes *l = lane->owner;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_http_response response;
    struct kbs_lanes_answer answer = {.response = &response, .lane = (int)lane->index};
    struct kbs_wire_fetch fetch;
    bool fetches = lane->frames.frame.type == KBS_WIRE_FETCH;
    struct kbs_span text = kbs_buf_span(&lane->frames.body);
    uint64_t id = lane->request_id;

    if ((fetches ? read_fetch(text, &fetch, &err) : read_answer(text, &response, &err)) < 0) {
        lane_lost(lane, KBS_REFUSED_LANE_BREACH, &err);
        return;
    }
    bool abandoned = lane->abandoned;
    struct kbs_buf body = lane->frames.body;
    struct kbs_buf request = lane->frames.out;
    (void)uv_timer_stop(&lane->timer);
    lane->frames.body = lane->frames.out = KBS_BUF(0);
    lane->frames.sent = 0;
    kbs_frames_next(&lane->frames);
    lane->request_id = 0;
    if (lane->detached) {
        (void)lane_close(lane);
    }
    dispatch(l);
    if (!fetches) {
        l->deliver(l->data, id, &answer);
    } else if (!abandoned) {
        l->fetch(l->fetch_data, id, &request, &fetch);
    }
    kbs_buf_deinit(&body);
    kbs_buf_deinit(&request);
}

/* What a lane may say, and when. */
static int header_check(const struct kbs_lane *lane, struct kbs_error *err)
{
    const struct kbs_frame *f = &lane->frames.frame;

    if ((f->type != KBS_WIRE_RESPONSE && f->type != KBS_WIRE_FETCH) || f->id != lane->request_id) {
        return kbs_fail(err, KBS_INPUT, "lane sent %s out of turn", kbs_wire_type_name(f->type));
    }
    if (kbs_frames_unsent(&lane->frames)) {
        return kbs_fail(err, KBS_INPUT, "lane answered before it had the request");
    }
    return 0;
}

/* One step of receiving; as kbs_frames_recv(). */
static int lane_recv(struct kbs_lane *lane, struct kbs_error *err)
{
    int r = kbs_frames_recv(&lane->frames, err);

    if (lane->request_id == 0 && kbs_frames_begun(&lane->frames)) {
        return kbs_fail(err, KBS_INPUT, "lane spoke unasked");
    }
    return r == KBS_FRAMES_HEAD && header_check(lane, err) < 0 ? -1 : r;
}

static void lane_read(struct kbs_lane *lane)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int r;

    do {
        r = lane_recv(lane, &err);
    } while (r == KBS_FRAMES_HEAD);
    if (r == KBS_FRAMES_END) {
        lane_lost(lane, KBS_REFUSED_LANE_DIED, NULL);
    } else if (r < 0) {
        lane_lost(lane,
                  err.category == KBS_INTERNAL ? KBS_REFUSED_LANE_DIED : KBS_REFUSED_LANE_BREACH,
                  &err);
    } else if (r == KBS_FRAMES_WHOLE) {
        lane_answered(lane);
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
        kbs_frames_send(&lane->frames);
        watch(lane);
    }
    if ((events & UV_READABLE) != 0) {
        lane_read(lane); /* last: may end the lane */
    }
}

void kbs_lanes_init(struct kbs_lanes *l)
{
    (void)uv_timer_init(l->loop, &l->absence);
    l->absence.data = l;
}

int kbs_lanes_attach(struct kbs_lanes *l, uint32_t index, int fd, struct kbs_error *err)
{
    const struct kbs_lanes_answer lost = {.lane = (int)index,
                                          .refused = KBS_REFUSED_LANE_DIED,
                                          .category = KBS_TOKEN_DOWN,
                                          .why = LOST};
    struct kbs_lane *lane = NULL;
    uint64_t lost_id = 0;

    if (index >= l->count || (lane = calloc(1, sizeof(*lane))) == NULL ||
        !kbs_frames_init(&lane->frames, fd) || uv_poll_init(l->loop, &lane->poll, fd) != 0) {
        free(lane);
        kbs_io_close(&fd);
        return kbs_fail(err, KBS_INPUT, "lane %u cannot be attached", index);
    }
    if (l->lane[index] != NULL) {
        lost_id = lane_close(l->lane[index]);
    }
    lane->owner = l;
    lane->index = index;
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
    for (uint32_t i = 0; i < l->count; i++) {
        if (l->lane[i] != NULL && l->lane[i]->request_id == id) {
            l->lane[i]->abandoned = true;
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
