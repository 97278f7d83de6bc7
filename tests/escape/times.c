/* kbsd's waits, but for the patience: a role that was ready once is started again at once, because
 * these tests have it killed over and over. */
#include "supervisor/times.h"
#include "base/limits.h"

const struct kbsd_times kbsd_times = {
    .start_ms = KBS_LIMIT_START_MS,
    .login_ms = KBS_LIMIT_TOKEN_LOGIN_MS,
    .drain_ms = KBS_LIMIT_DRAIN_MS,
    .detach_ms = KBS_LIMIT_REQUEST_MS + KBS_LIMIT_TOKEN_OP_MS + KBS_LIMIT_AUDIT_ACK_MS,
    .grace_ms = 2000,
    .healthy_ms = 0,
};
