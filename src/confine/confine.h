/*
 * The last thing a role does before READY: it gives up what it will not need. From then on an
 * attacker who runs code in it has the descriptors it holds, the system calls of its list and the
 * paths of its plan, and nothing else.
 */
#ifndef KBS_CONFINE_CONFINE_H
#define KBS_CONFINE_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum kbs_confine_role {
    KBS_CONFINE_FRONT,
    KBS_CONFINE_JUDGE,
    KBS_CONFINE_TOKEN,
    KBS_CONFINE_TOKEN_OPENCRYPTOKI, /* kbs-token, with what that one module needs besides */
    KBS_CONFINE_TOKEN_SIGN,         /* kbs-token as a sign worker, which has threads */
    KBS_CONFINE_TOKEN_SIGN_OPENCRYPTOKI,
    KBS_CONFINE_AUDIT,
    KBS_CONFINE_POLICY,
    KBS_CONFINE_FETCH,
    KBS_CONFINE_ROLE_COUNT
};

#define KBS_CONFINE_FOLDERS 16

/* All borrowed for the length of the call. */
struct kbs_confine_plan {
    enum kbs_confine_role role;
    bool production; /* what cannot be put up is an error; otherwise a warning in the log */
    bool log_only;   /* a system call that is not on the list is logged by the kernel, not fatal */
    uint32_t descriptors;       /* RLIMIT_NOFILE; 0: the list's own */
    const char *const *folders; /* may be read and written, with everything in them */
    size_t n_folders;
    /* Starts the role's threads, which are all it will have; NULL: it has none. */
    int (*threads)(void *data, struct kbs_error *err);
    void *data;
};

/*
 * Landlock, the role's threads, resource limits, then the seccomp list of the role, for every thread
 * of the process. There is no way back. Needs no_new_privs (kbs_process_harden()). In production whatever the
 * kernel refuses, or a folder that cannot be opened, is KBS_INPUT, because trying again will not
 * help; otherwise that wall is left out with a warning in the log and the rest is still put up.
 */
KBS_MUST_CHECK int kbs_confine(const struct kbs_confine_plan *plan, struct kbs_error *err);

/*
 * From now on io_uring_setup(2) answers ENOSYS, so that a library falls back to ordinary system calls
 * instead of handing them to the kernel past the list to come. Call before that library starts. If the
 * kernel has no seccomp nothing happens here: kbs_confine() says so.
 */
void kbs_confine_no_io_uring(void);

/*
 * What `ROLE --print-seccomp` prints: the role's list on standard output, a line per system call
 * with the condition on its arguments, then the number of them. True if that was the argument.
 */
bool kbs_confine_print(enum kbs_confine_role role, int argc, char *const argv[]);

#endif
