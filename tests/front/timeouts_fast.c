/*
 * Timeouts for tests: long enough for a busy machine to do the right thing in, short enough to wait
 * for.
 */
#include "front/timeouts.h"

const struct kbs_front_timeouts *kbs_front_timeouts(void)
{
    static const struct kbs_front_timeouts timeouts = {
        .handshake_ms = 400,
        .idle_ms = 500,
        .head_ms = 400,
        .body_ms = 400,
        .request_ms = 500,
        .write_ms = 600,
        .linger_ms = 200,
        .lane_ms = 1200,
        .fetch_ms = 600,
        .absent_ms = 300,
        .drain_ms = 1000,
        .accept_retry_ms = 50,
    };

    return &timeouts;
}
