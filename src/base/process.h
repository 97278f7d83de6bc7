/*
 * What every role does to itself before it touches input: no new privileges, not dumpable, no core
 * file, and no descriptor beyond the ones it is meant to have.
 */
#ifndef KBS_BASE_PROCESS_H
#define KBS_BASE_PROCESS_H

#include "base/error.h"

/* The descriptor every role started by kbsd finds its control channel on (src/channel). */
#define KBS_FD_CONTROL 3

/* Exit statuses of roles that kbsd reads. */
enum kbs_exit {
    KBS_EXIT_OK = 0,
    KBS_EXIT_FAILURE = 1,
    KBS_EXIT_PIN = 77,   /* the PIN is wrong, locked or missing: never restart */
    KBS_EXIT_STUCK = 78, /* the peer of this lane does not answer: replace the lane */
    KBS_EXIT_CONFIG = 79 /* the role cannot work with what it was given: never restart */
};

/* The status for a role that this ends: CONFIG for KBS_INPUT, which trying again does not mend. */
enum kbs_exit kbs_exit_of(const struct kbs_error *err);

/*
 * PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE 0, RLIMIT_CORE 0, SIGPIPE ignored, umask 077, and every
 * descriptor above `last_fd` closed. Call first thing in main().
 */
KBS_MUST_CHECK int kbs_process_harden(int last_fd, struct kbs_error *err);

#endif
