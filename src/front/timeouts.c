/*
 * The timeouts that are shipped: base/limits.h, and two of our own that nobody else needs to know.
 */
#include "front/timeouts.h"

#include "base/limits.h"

#define LINGER_MS 1000
#define ACCEPT_RETRY_MS 100

const struct kbs_front_timeouts *kbs_front_timeouts(void)
{
    static const struct kbs_front_timeouts timeouts = {
        .handshake_ms = KBS_LIMIT_TLS_HANDSHAKE_MS,
        .idle_ms = KBS_LIMIT_HTTP_IDLE_MS,
        .head_ms = KBS_LIMIT_HTTP_HEAD_MS,
        .body_ms = KBS_LIMIT_HTTP_BODY_MS,
        .request_ms = KBS_LIMIT_REQUEST_MS,
        .write_ms = KBS_LIMIT_HTTP_WRITE_MS,
        .linger_ms = LINGER_MS,
        .lane_ms = KBS_LIMIT_REQUEST_MS + KBS_LIMIT_TOKEN_OP_MS + KBS_LIMIT_AUDIT_ACK_MS,
        .fetch_ms = KBS_LIMIT_REQUEST_MS + KBS_LIMIT_AUDIT_ACK_MS,
        .absent_ms = KBS_LIMIT_LANE_ABSENT_MS,
        .drain_ms = KBS_LIMIT_DRAIN_MS - LINGER_MS,
        .accept_retry_ms = ACCEPT_RETRY_MS,
    };

    return &timeouts;
}
