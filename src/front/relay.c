/*
 * Relay.
 *
 * The problem: an attestation service may take seconds or never answer, and while it does neither a
 * lane nor the loop may wait for it; what it answers is as hostile as anything else from the network,
 * and so may be kbs-fetch, which reads it. The approach: the FETCH of a judge is passed on under a
 * number of ours, many at a time on one channel; the request's frame waits here and nothing else of it
 * anywhere; FETCHED names the number, and the request is encoded anew with that answer, unread, as one
 * item more, and submitted like a new one. Its deadline stays the one it came with, and the connection's
 * own timer enforces it: a client is never answered later because of what its request waited for.
 *
 * What breaks is told as FETCHED{FAILED}, so that it is the judge who says what that means: no
 * kbs-fetch, one that ended, and one that says nothing for `fetch_ms`. One that breaks the schema, or
 * answers what was not asked, must be taken for compromised; its channel is closed, and kbsd attaches a
 * new one when there is a new kbs-fetch.
 *
 * Bounds: KBS_LIMIT_FETCH_WAITING requests that hold KBS_LIMIT_FETCH_WAITING_BYTES; beyond them a
 * request is answered 503 at once. One that was abandoned keeps its place, without its bytes, until its
 * answer has come: kbs-fetch is busy with it, and must not be asked for more than it was meant to be.
 *
 * Invariants: an entry's fetch_id is above those of all before it; deliver() and submit() are called
 * after the entry was removed, since they may come back here.
 */
#include "front/relay.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"

#define UNSENT_MAX_BYTES (KBS_LIMIT_FETCH_WAITING_BYTES + KBS_LIMIT_WIRE_BODY_BYTES)

struct kbs_relay_channel {
    struct kbs_relay *owner;
    struct kbs_frames frames;
    int events; /* what `poll` is started for */
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned int open_handles;
};

static void on_poll(uv_poll_t *poll, int status, int events);
static void on_silent(uv_timer_t *timer);

/* ---- entries ---- */

static struct kbs_relay_entry *entry_of_fetch(struct kbs_relay *r, uint64_t fetch_id)
{
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->waiting[i].fetch_id == fetch_id) {
            return &r->waiting[i];
        }
    }
    return NULL;
}

/* Takes an entry out; its frame is the caller's to free. */
static struct kbs_relay_entry entry_take(struct kbs_relay *r, struct kbs_relay_entry *entry)
{
    struct kbs_relay_entry taken = *entry;
    size_t at = (size_t)(entry - r->waiting);

    r->bytes -= taken.frame.len;
    r->count--;
    memmove(entry, entry + 1, (r->count - at) * sizeof(*entry));
    return taken;
}

static void refuse(struct kbs_relay *r, uint64_t id, unsigned int refused,
                   enum kbs_category category, const char *why)
{
    const struct kbs_lanes_answer answer = {
        .lane = -1, .refused = refused, .category = category, .why = why};

    r->lanes->deliver(r->lanes->data, id, &answer);
}

/* ---- the request, once more ---- */

/* The request of `frame` with one answer more, a body of FETCHED. */
static int encode_again(struct kbs_span frame, struct kbs_span fetched, struct kbs_buf *ret,
                        struct kbs_error *err)
{
    struct kbs_buf items = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES);
    struct kbs_wire_list_builder list = {.buf = &items};
    struct kbs_wire_request request;
    struct kbs_frame head;
    struct kbs_wire_iter it;
    struct kbs_span item;
    int rc = kbs_wire_header_decode(frame.p, &head, err);

    if (rc == 0) {
        rc = kbs_wire_decode(KBS_WIRE_REQUEST, kbs_span_skip(frame, KBS_WIRE_HEADER_BYTES),
                             &request, err);
    }
    if (rc == 0 && request.fetched.count >= KBS_LIMIT_FETCH_ROUNDS) {
        rc = kbs_fail(err, KBS_LIMITED, "a judge that never has enough");
    }
    if (rc == 0) {
        it = kbs_wire_list_iter(&request.fetched);
        while (kbs_wire_list_next(&it, &item)) {
            kbs_wire_list_add(&list, item);
        }
        kbs_wire_list_add(&list, fetched);
        rc = kbs_buf_check(&items, "what was fetched", err);
    }
    if (rc == 0) {
        request.fetched = kbs_wire_list_done(&list);
        rc = kbs_wire_encode(ret, KBS_WIRE_REQUEST, head.id, head.deadline_ns, &request, err);
    }
    kbs_buf_deinit(&items);
    return rc;
}

/* Sends a request to the lanes with that answer. Takes the frame. */
static void submit_again(struct kbs_relay *r, uint64_t id, struct kbs_buf *frame,
                         struct kbs_span fetched)
{
    struct kbs_buf again = KBS_BUF(KBS_WIRE_HEADER_BYTES + KBS_LIMIT_WIRE_BODY_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    int rc = encode_again(kbs_buf_span(frame), fetched, &again, &err);

    kbs_buf_deinit(frame);
    if (rc != 0) {
        kbs_log_error("fetched-lost", &err);
        refuse(r, id, KBS_REFUSED_FETCH_FULL, KBS_BUSY, "the request needs too much of others");
    } else {
        rc = kbs_lanes_submit(r->lanes, id, &again);
        if (rc == KBS_LANES_FULL) {
            refuse(r, id, KBS_REFUSED_QUEUE_FULL, KBS_BUSY, "too many requests are waiting");
        } else if (rc != 0) {
            refuse(r, id, KBS_REFUSED_NO_LANE, KBS_BUSY, "no lane is ready");
        }
    }
    kbs_buf_deinit(&again);
}

/* The same with the news that there will be no answer. */
static void submit_failed(struct kbs_relay *r, uint64_t id, struct kbs_buf *frame, const char *why)
{
    const struct kbs_wire_fetched failed = {.outcome = KBS_FETCH_FAILED,
                                            .grpc_status = KBS_WIRE_GRPC_NONE,
                                            .detail = kbs_span_str(why)};
    struct kbs_buf body = KBS_BUF(1024);
    struct kbs_error err = KBS_ERROR_NONE;

    kbs_metrics_fetched(r->metrics, KBS_FETCH_FAILED);
    if (kbs_wire_body_put(&body, KBS_WIRE_FETCHED, &failed, &err) == 0) {
        submit_again(r, id, frame, kbs_buf_span(&body));
    } else {
        refuse(r, id, KBS_REFUSED_FETCH_FULL, KBS_BUSY, why);
    }
    kbs_buf_deinit(&body);
}

/* ---- the channel ---- */

static void on_closed(uv_handle_t *handle)
{
    struct kbs_relay_channel *c = handle->data;

    if (--c->open_handles == 0) {
        kbs_frames_deinit(&c->frames);
        free(c);
    }
}

static void channel_close(struct kbs_relay *r)
{
    struct kbs_relay_channel *c = r->channel;

    r->channel = NULL;
    uv_close((uv_handle_t *)&c->poll, on_closed);
    uv_close((uv_handle_t *)&c->timer, on_closed);
    kbs_frames_close(&c->frames);
}

/* What waits gets no answer any more. New entries may come while this goes on: they find no channel. */
static void fail_all(struct kbs_relay *r, const char *why)
{
    for (uint32_t left = r->count; left > 0 && r->count > 0; left--) {
        struct kbs_relay_entry entry = entry_take(r, &r->waiting[0]);

        if (!entry.abandoned) {
            submit_failed(r, entry.id, &entry.frame, why);
        }
        kbs_buf_deinit(&entry.frame);
    }
}

static void channel_lost(struct kbs_relay_channel *c, unsigned int refused,
                         const struct kbs_error *err)
{
    struct kbs_relay *r = c->owner;

    kbs_metrics_refused(r->metrics, refused);
    kbs_log(KBS_LOG_WARN, "fetch-closed", "reason=%s waiting=%u", kbs_refused_name(refused),
            (unsigned int)r->count);
    if (err != NULL) {
        kbs_log_error("fetch-breach", err);
    }
    channel_close(r);
    fail_all(r, "kbs-fetch was lost; try again");
}

static void watch(struct kbs_relay_channel *c)
{
    int events = UV_READABLE | (kbs_frames_unsent(&c->frames) ? UV_WRITABLE : 0);

    if (events != c->events && uv_poll_start(&c->poll, events, on_poll) == 0) {
        c->events = events;
    }
}

/* The oldest question may stay unanswered for so long. */
static void watch_silence(struct kbs_relay_channel *c)
{
    const struct kbs_relay *r = c->owner;
    uint64_t waited_ms;

    if (r->count == 0) {
        (void)uv_timer_stop(&c->timer);
        return;
    }
    waited_ms = (kbs_clock_mono_ns() - r->waiting[0].since_ns) / KBS_NS_PER_MS;
    (void)uv_timer_start(&c->timer, on_silent,
                         waited_ms < r->timeouts->fetch_ms ? r->timeouts->fetch_ms - waited_ms : 0,
                         0);
}

static void on_silent(uv_timer_t *timer)
{
    channel_lost(timer->data, KBS_REFUSED_FETCH_STUCK, NULL);
}

/* An answer that is one: it belongs to a question, and is no larger than was asked for. */
static int fetched_check(const struct kbs_relay_entry *entry, struct kbs_span body,
                         struct kbs_wire_fetched *ret, struct kbs_error *err)
{
    if (entry == NULL) {
        return kbs_fail(err, KBS_INPUT, "kbs-fetch answered what was not asked");
    }
    if (kbs_wire_decode(KBS_WIRE_FETCHED, body, ret, err) < 0) {
        return -1;
    }
    if (ret->outcome <= KBS_FETCH_NONE || ret->outcome >= KBS_FETCH_OUTCOME_COUNT ||
        ret->body.len > entry->max) {
        return kbs_fail(err, KBS_INPUT, "kbs-fetch gave an answer that cannot be one");
    }
    return 0;
}

/* A whole FETCHED is there. False if the channel is gone after it. */
static bool channel_answered(struct kbs_relay_channel *c)
{
    struct kbs_relay *r = c->owner;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_fetched fetched;
    struct kbs_relay_entry *found = entry_of_fetch(r, c->frames.frame.id);
    struct kbs_relay_entry entry;
    struct kbs_buf body;

    if (fetched_check(found, kbs_buf_span(&c->frames.body), &fetched, &err) < 0) {
        channel_lost(c, KBS_REFUSED_FETCH_BREACH, &err);
        return false;
    }
    body = c->frames.body; /* the channel may be gone when submit returns */
    c->frames.body = KBS_BUF(0);
    kbs_frames_next(&c->frames);
    kbs_metrics_fetched(r->metrics, fetched.outcome);
    entry = entry_take(r, found);
    watch_silence(c);
    if (!entry.abandoned) {
        submit_again(r, entry.id, &entry.frame, kbs_buf_span(&body));
    }
    kbs_buf_deinit(&entry.frame);
    kbs_buf_deinit(&body);
    return r->channel == c;
}

/* One message; as kbs_frames_recv(). */
static int channel_recv(struct kbs_relay_channel *c, struct kbs_error *err)
{
    int rc;

    do {
        rc = kbs_frames_recv(&c->frames, err);
        if (rc == KBS_FRAMES_HEAD && c->frames.frame.type != KBS_WIRE_FETCHED) {
            return kbs_fail(err, KBS_INPUT, "kbs-fetch sent %s out of turn",
                            kbs_wire_type_name(c->frames.frame.type));
        }
    } while (rc == KBS_FRAMES_HEAD);
    return rc;
}

static void channel_read(struct kbs_relay_channel *c)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int rc;

    do {
        rc = channel_recv(c, &err);
    } while (rc == KBS_FRAMES_WHOLE && channel_answered(c));
    if (rc == KBS_FRAMES_END) {
        channel_lost(c, KBS_REFUSED_FETCH_DIED, NULL);
    } else if (rc < 0) {
        channel_lost(c, KBS_REFUSED_FETCH_BREACH, &err);
    }
}

static void channel_send(struct kbs_relay_channel *c)
{
    kbs_frames_send(&c->frames);
    kbs_buf_consume(&c->frames.out, c->frames.sent);
    c->frames.sent = 0;
    if (c->frames.out.len == 0) {
        kbs_buf_deinit(&c->frames.out);
    }
    watch(c);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct kbs_relay_channel *c = poll->data;

    if (status < 0) {
        channel_lost(c, KBS_REFUSED_FETCH_DIED, NULL);
        return;
    }
    if ((events & UV_WRITABLE) != 0) {
        channel_send(c);
    }
    if ((events & UV_READABLE) != 0) {
        channel_read(c); /* last: may end the channel */
    }
}

int kbs_relay_attach(struct kbs_relay *r, int fd, struct kbs_error *err)
{
    struct kbs_relay_channel *c = calloc(1, sizeof(*c));

    if (c == NULL || !kbs_frames_init(&c->frames, fd) || uv_poll_init(r->loop, &c->poll, fd) != 0) {
        free(c);
        kbs_io_close(&fd);
        return kbs_fail(err, KBS_INPUT, "kbs-fetch cannot be attached");
    }
    if (r->channel != NULL) {
        channel_lost(r->channel, KBS_REFUSED_FETCH_DIED, NULL);
    }
    c->owner = r;
    c->frames.out = KBS_BUF(UNSENT_MAX_BYTES);
    c->poll.data = c;
    (void)uv_timer_init(r->loop, &c->timer);
    c->timer.data = c;
    c->open_handles = 2;
    r->channel = c;
    watch(c);
    kbs_log(KBS_LOG_INFO, "fetch-attached", "kbs-fetch can be asked");
    return 0;
}

/* ---- what the lanes ask for ---- */

static int ask(struct kbs_relay *r, struct kbs_buf *frame, const struct kbs_wire_fetch *want,
               struct kbs_error *err)
{
    struct kbs_buf *out = &r->channel->frames.out;
    struct kbs_frame head;

    if (r->count == KBS_LIMIT_FETCH_WAITING ||
        r->bytes + frame->len > KBS_LIMIT_FETCH_WAITING_BYTES ||
        out->len + want->body.len > KBS_LIMIT_FETCH_WAITING_BYTES) {
        return kbs_fail(err, KBS_BUSY, "too many requests wait for others' answers");
    }
    if (kbs_wire_header_decode(frame->p, &head, err) != 0) {
        return -1;
    }
    return kbs_wire_encode(out, KBS_WIRE_FETCH, r->last_id + 1, head.deadline_ns, want, err);
}

void kbs_relay_fetch(void *data, uint64_t id, struct kbs_buf *frame,
                     const struct kbs_wire_fetch *want)
{
    struct kbs_relay *r = data;
    struct kbs_error err = KBS_ERROR_NONE;

    if (r->channel == NULL) {
        submit_failed(r, id, frame, "there is no kbs-fetch");
        return;
    }
    if (ask(r, frame, want, &err) != 0) {
        refuse(r, id, KBS_REFUSED_FETCH_FULL, KBS_BUSY,
               "too many requests wait for the attestation service");
        return;
    }
    r->waiting[r->count++] = (struct kbs_relay_entry){.id = id,
                                                      .fetch_id = ++r->last_id,
                                                      .since_ns = kbs_clock_mono_ns(),
                                                      .max = want->max,
                                                      .frame = *frame};
    r->bytes += frame->len;
    *frame = KBS_BUF(0);
    if (r->count == 1) {
        watch_silence(r->channel);
    }
    channel_send(r->channel);
}

void kbs_relay_cancel(struct kbs_relay *r, uint64_t id)
{
    for (uint32_t i = 0; i < r->count; i++) {
        struct kbs_relay_entry *entry = &r->waiting[i];

        if (entry->id == id) {
            r->bytes -= entry->frame.len;
            kbs_buf_deinit(&entry->frame);
            entry->frame = KBS_BUF(0);
            entry->abandoned = true;
        }
    }
}

uint32_t kbs_relay_waiting(const struct kbs_relay *r)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->count; i++) {
        n += r->waiting[i].abandoned ? 0 : 1;
    }
    return n;
}

void kbs_relay_close(struct kbs_relay *r)
{
    while (r->count > 0) {
        struct kbs_relay_entry entry = entry_take(r, &r->waiting[0]);

        kbs_buf_deinit(&entry.frame);
    }
    if (r->channel != NULL) {
        channel_close(r);
    }
}
