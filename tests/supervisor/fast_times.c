/* Waits short enough for a test to sit through: kbsd-fast is kbsd but for these. */
#include "supervisor/times.h"

const struct kbsd_times kbsd_times = {
    .start_ms = 1000,
    .login_ms = 1000,
    .drain_ms = 500,
    .detach_ms = 700,
    .grace_ms = 300,
    .healthy_ms = 0, /* any service at all */
};
