/*
 * How long kbsd waits. Base's limits in kbsd itself; the tests link shorter ones, so that a
 * deadline can be seen to pass.
 */
#ifndef KBS_SUPERVISOR_TIMES_H
#define KBS_SUPERVISOR_TIMES_H

#include <stdint.h>

struct kbsd_times {
    uint32_t start_ms;   /* for a role to be ready */
    uint32_t login_ms;   /* from grant to done; only then may a worker be killed */
    uint32_t drain_ms;   /* for a role to finish, which has the same limit itself */
    uint32_t detach_ms;  /* for a front to have a lane's last answer, which has a limit itself */
    uint32_t grace_ms;   /* between being told to leave and SIGKILL */
    uint32_t healthy_ms; /* of service, after which earlier failures are forgotten */
};

extern const struct kbsd_times kbsd_times;

#endif
