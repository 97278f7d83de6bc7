/*
 * Lanes: the channels to the judges, and the queue of requests in front of them. A request is known
 * here by its id and its encoded frame; whose it is, and whether that connection still lives, is
 * the owner's business.
 */
#ifndef KBS_FRONT_LANES_H
#define KBS_FRONT_LANES_H

#include <uv.h>

#include "front/metrics.h"
#include "front/timeouts.h"
#include "http/response.h"
#include "wire/message.h"

struct kbs_lane; /* one incarnation of a lane: from ATTACH to its end */

/* Borrowed during the call only. */
struct kbs_lanes_answer {
    const struct kbs_http_response *response; /* checked; NULL when there is none */
    int lane;                                 /* -1: it was in none */
    /* without a response: what it is counted as, its status and what is said */
    unsigned int refused;
    enum kbs_category category;
    const char *why; /* static */
};

/* Called once per submitted request that is not cancelled, never from within kbs_lanes_submit(). */
typedef void (*kbs_lanes_deliver)(void *data, uint64_t id, const struct kbs_lanes_answer *answer);

/*
 * A judge needs an answer of somebody else's before it can give its own, and has let go of the request:
 * `frame` is it, as it was submitted, and may be taken. `want` is checked as far as it can be here.
 * Nobody calls deliver() for that id until it is submitted again. Called from loop callbacks only.
 */
typedef void (*kbs_lanes_fetch)(void *data, uint64_t id, struct kbs_buf *frame,
                                const struct kbs_wire_fetch *want);

struct kbs_lanes_waiting {
    uint64_t id;
    struct kbs_buf frame;
};

struct kbs_lanes {
    uv_loop_t *loop;
    struct kbs_metrics *metrics;
    const struct kbs_front_timeouts *timeouts;
    kbs_lanes_deliver deliver;
    void *data;
    kbs_lanes_fetch fetch;
    void *fetch_data;
    uint32_t count;                                        /* indices are below this */
    struct kbs_lane *lane[KBS_LIMIT_LANES];                /* NULL while not attached */
    struct kbs_lanes_waiting queue[KBS_LIMIT_FRONT_QUEUE]; /* oldest first */
    uint32_t waiting;
    uv_timer_t absence; /* private: runs from the loss of the last lane, for absent_ms */
    bool awaited;       /* private: the last lane went because kbsd wants to replace it */
    bool ledger_down;   /* HEALTH: nothing can be answered, so we are not ready */
};

/* kbs_lanes_submit(): conditions; nothing was taken. */
#define KBS_LANES_NONE 1 /* no lane is attached, nor was one just now */
#define KBS_LANES_FULL 2 /* the queue is full */

/* Once l->loop is initialised; the other members above `count` are the caller's, too. */
void kbs_lanes_init(struct kbs_lanes *l);

/*
 * Takes `fd`, the front's end of a judge's channel; the lane of that index, if any, is closed
 * first.
 */
KBS_MUST_CHECK int kbs_lanes_attach(struct kbs_lanes *l, uint32_t index, int fd,
                                    struct kbs_error *err);

/*
 * Gives the lane of that index no further request, and closes it as soon as none is in flight on it;
 * one that is lost already is nothing to do. KBS_INPUT if there can be no such lane.
 */
KBS_MUST_CHECK int kbs_lanes_detach(struct kbs_lanes *l, uint32_t index, struct kbs_error *err);

/* Whether a submit would be accepted now: 0, KBS_LANES_NONE or KBS_LANES_FULL. */
KBS_MUST_CHECK int kbs_lanes_room(const struct kbs_lanes *l);

/* Takes the content of `frame`, an encoded REQUEST with that id. 0 or a condition above. */
KBS_MUST_CHECK int kbs_lanes_submit(struct kbs_lanes *l, uint64_t id, struct kbs_buf *frame);

/*
 * Nobody wants the answer to `id` any more: leaves the queue, or its answer is dropped when it
 * comes.
 */
void kbs_lanes_cancel(struct kbs_lanes *l, uint64_t id);

/*
 * Closes all lanes and empties the queue without delivering; memory goes as the loop closes the
 * handles.
 */
void kbs_lanes_close(struct kbs_lanes *l);

uint32_t kbs_lanes_attached(const struct kbs_lanes *l);
/* Whether a lane is attached, or the last one is just being replaced, for which requests wait. */
bool kbs_lanes_ready(const struct kbs_lanes *l);
uint32_t kbs_lanes_busy(const struct kbs_lanes *l);

#endif
