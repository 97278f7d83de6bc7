/*
 * Relay: requests that a judge cannot answer before somebody else has. Their FETCH goes to kbs-fetch,
 * the request waits here, in no lane, and is submitted again with the answer attached.
 */
#ifndef KBS_FRONT_RELAY_H
#define KBS_FRONT_RELAY_H

#include "front/frames.h"
#include "front/lanes.h"

struct kbs_relay_channel; /* one incarnation of kbs-fetch: from ATTACH to its end */

/* A request that waits. */
struct kbs_relay_entry {
    uint64_t id;       /* of the request */
    uint64_t fetch_id; /* of its FETCH */
    uint64_t since_ns;
    uint32_t max;   /* bytes of the answer */
    bool abandoned; /* nobody waits for it any more: its place is free when its answer comes */
    struct kbs_buf frame; /* REQUEST; empty if it is abandoned */
};

struct kbs_relay {
    uv_loop_t *loop;
    struct kbs_lanes *lanes;
    struct kbs_metrics *metrics;
    const struct kbs_front_timeouts *timeouts;
    struct kbs_relay_channel *channel; /* NULL: there is no kbs-fetch, or it is being replaced */
    struct kbs_relay_entry waiting[KBS_LIMIT_FETCH_WAITING]; /* oldest first */
    uint32_t count;
    size_t bytes; /* of their frames */
    uint64_t last_id;
};

/*
 * Takes `fd`, the front's end of a channel to kbs-fetch, in the place of the one before, if there is
 * one. r->loop is initialised; all members above `channel` are the caller's.
 */
KBS_MUST_CHECK int kbs_relay_attach(struct kbs_relay *r, int fd, struct kbs_error *err);

/* kbs_lanes_fetch, with struct kbs_relay as data. */
void kbs_relay_fetch(void *data, uint64_t id, struct kbs_buf *frame,
                     const struct kbs_wire_fetch *want);

/* Nobody waits for that request any more. */
void kbs_relay_cancel(struct kbs_relay *r, uint64_t id);

/* Requests that wait here. */
uint32_t kbs_relay_waiting(const struct kbs_relay *r);

/* Closes the channel and forgets what waits, without delivering. */
void kbs_relay_close(struct kbs_relay *r);

#endif
