/*
 * The memory of a refused PIN, kept in token.lock beside the PIN file: every kbsd and every restart
 * sees it, so that a wrong PIN is tried once and not once a start. A smart card or an HSM locks
 * itself after a few.
 *
 * Call with flock(lock_fd) held, and with the status of the very descriptor that the worker reads
 * its PIN from. Changing the PIN file in any way (content, time, another file) lifts the latch. A status
 * of all zeros stands for a PIN file that is a new one at every start (systemd's credentials): that
 * latch is lifted by emptying or removing token.lock.
 */
#ifndef KBS_BASE_PIN_LATCH_H
#define KBS_BASE_PIN_LATCH_H

#include <sys/stat.h>

#include "base/error.h"

/* kbs_pin_latch_check(): the token has refused the PIN in this file; nobody may try it again. */
#define KBS_PIN_LATCHED 1

/*
 * Whether the PIN file may be tried: 0, or KBS_PIN_LATCHED. -1 (KBS_INPUT) if token.lock holds
 * something else than a latch, which only a person can judge. lock_fd: open for reading.
 */
KBS_MUST_CHECK int kbs_pin_latch_check(int lock_fd, const struct stat *pin, struct kbs_error *err);

/* The PIN in this file was refused. On the disk when it returns 0. lock_fd: open for writing. */
KBS_MUST_CHECK int kbs_pin_latch_set(int lock_fd, const struct stat *pin, struct kbs_error *err);

#endif
