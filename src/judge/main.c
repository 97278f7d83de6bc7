/*
 * kbs-judge: decides. Has its control channel on descriptor 3 (docs/protocol/role-channels.md).
 */
#include <stdio.h>

#include "base/log.h"
#include "confine/confine.h"
#include "judge/judge.h"
#include "role/role.h"

int main(int argc, char **argv)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_confine_print(KBS_CONFINE_JUDGE, argc, argv)) {
        return KBS_EXIT_OK;
    }
    if (argc != 1) {
        fprintf(stderr, "usage: kbs-judge --print-seccomp (otherwise started by kbsd)\n");
        return 2;
    }
    if (kbs_role_begin(&err) != 0) {
        kbs_log_error("start_failed", &err);
        return kbs_role_end((int)kbs_exit_of(&err));
    }
    return kbs_role_end((int)kbs_judge_run(KBS_FD_CONTROL));
}
