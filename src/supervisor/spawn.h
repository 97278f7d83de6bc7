/* Starting one role: fork and exec into a clean room. */
#ifndef KBS_SUPERVISOR_SPAWN_H
#define KBS_SUPERVISOR_SPAWN_H

#include <sys/types.h>

#include "base/error.h"
#include "supervisor/users.h"

/* Exit status of a child that could not become the role. */
#define KBSD_EXIT_NOT_EXECUTED 127

/*
 * Starts folder/name. The child has /dev/null (null_fd, borrowed) on 0 and 1, our standard error on
 * 2, `control` (borrowed) on KBS_FD_CONTROL, nothing else; its name as only argument; default
 * signals; an empty environment; the user and group of `as`, and no other group, if that is a user
 * of its own.
 */
KBS_MUST_CHECK int kbsd_spawn(const char *folder, const char *name, const struct kbsd_user *as,
                              int null_fd, int control, pid_t *ret_pid, struct kbs_error *err);

/* 0 if folder/name can be executed by us. */
KBS_MUST_CHECK int kbsd_spawn_check(const char *folder, const char *name, struct kbs_error *err);

#endif
