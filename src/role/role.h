/* What every role begins and ends with, whoever started it: kbsd by fork and exec, or the service
 * manager for a connection of kbsd's (docs/protocol/role-channels.md). */
#ifndef KBS_ROLE_ROLE_H
#define KBS_ROLE_ROLE_H

#include "base/error.h"
#include "base/process.h"

/*
 * Call first thing in main(). kbs_process_harden(); as a unit also what kbsd's own start of a role
 * gives: an empty environment, and a way to end it (the leash, which kbsd sends before anything
 * else). KBS_INPUT if the service manager or kbsd handed over something else.
 */
KBS_MUST_CHECK int kbs_role_begin(struct kbs_error *err);

/* Tells kbsd the exit status, which it cannot wait for if the role is a unit. Call last, with
 * everything closed; returns `status`. */
int kbs_role_end(int status);

#endif
