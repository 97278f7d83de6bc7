/* A piece of work that may loop, recurse or allocate without end, in a process of its own. */
#ifndef KBS_POLICY_REGO_SANDBOX_H
#define KBS_POLICY_REGO_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Fills in `ret_size` bytes at `ret`. */
typedef void kbs_sandbox_work(const void *arg, void *ret);

/*
 * Runs `work` in a copy of this process, which the kernel ends after `ms` milliseconds, and copies
 * its result. *ret_done: false if the copy ended without one, for whatever reason; then *ret is
 * untouched. -1 if there could be no copy, or it outlived its time: nothing can be relied on then.
 */
KBS_MUST_CHECK int kbs_sandbox_run(kbs_sandbox_work *work, const void *arg, void *ret,
                                   size_t ret_size, unsigned int ms, bool *ret_done,
                                   struct kbs_error *err);

#endif
