/* Confinement that costs nothing and every role has from its first line on. See process.h. */
#include "base/process.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum kbs_exit kbs_exit_of(const struct kbs_error *err)
{
    return err->category == KBS_INPUT ? KBS_EXIT_CONFIG : KBS_EXIT_FAILURE;
}

int kbs_process_harden(int last_fd, struct kbs_error *err)
{
    const struct rlimit none = {0, 0};

    (void)umask(077);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "prctl refused no_new_privs or not-dumpable");
    }
    if (setrlimit(RLIMIT_CORE, &none) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "core files cannot be switched off");
    }
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        return kbs_fail_errno(err, KBS_INTERNAL, "SIGPIPE cannot be ignored");
    }
    if (close_range((unsigned int)last_fd + 1, ~0u, 0) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "inherited descriptors cannot be closed");
    }
    return 0;
}
