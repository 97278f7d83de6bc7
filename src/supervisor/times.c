/* The waits of the real kbsd. See times.h. */
#include "supervisor/times.h"

#include "base/limits.h"

const struct kbsd_times kbsd_times = {
    .start_ms = KBS_LIMIT_START_MS,
    .login_ms = KBS_LIMIT_TOKEN_LOGIN_MS,
    .drain_ms = KBS_LIMIT_DRAIN_MS,
    .detach_ms = KBS_LIMIT_REQUEST_MS + KBS_LIMIT_TOKEN_OP_MS + KBS_LIMIT_AUDIT_ACK_MS + 2000,
    .grace_ms = 2000,
    .healthy_ms = 60000,
};
