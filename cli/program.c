/*
 * The hardening of the roles fits the tools too, with one exception: inherited descriptors stay
 * open, because a shell passes `--key-file <(command)` as one. Memory that cannot be locked is a
 * warning: an administrator's shell often has a small RLIMIT_MEMLOCK, and refusing to work would
 * send people to worse tools.
 */
#include "cli/program.h"

#include <limits.h>

#include "base/process.h"
#include "base/secret.h"
#include "cli/output.h"
#include "cli/status.h"

int kbs_cli_start(void)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_process_harden(INT_MAX - 1, &err) != 0) {
        return kbs_cli_fail(&err);
    }
    int r = kbs_secret_heap_init(&err);
    if (r < 0) {
        return kbs_cli_fail(&err);
    }
    if (r == KBS_SECRET_UNLOCKED) {
        kbs_cli_say("warning: memory for keys cannot be locked (ulimit -l)");
    }
    return KBS_CLI_OK;
}
