/* kbsd for ci/stress: its own waits, but a unit that has served at all starts with a clean sheet, or
 * a thousand kills would be a thousand times the longest back-off. */
#include "base/limits.h"
#include "supervisor/times.h"

const struct kbsd_times kbsd_times = {
    .start_ms = KBS_LIMIT_START_MS,
    .login_ms = KBS_LIMIT_TOKEN_LOGIN_MS,
    .drain_ms = KBS_LIMIT_DRAIN_MS,
    .detach_ms = KBS_LIMIT_REQUEST_MS + KBS_LIMIT_TOKEN_OP_MS + KBS_LIMIT_AUDIT_ACK_MS,
    .grace_ms = 2000,
    .healthy_ms = 0,
};
