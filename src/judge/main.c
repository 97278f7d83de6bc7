/*
 * kbs-judge: decides. Started by kbsd with its control channel on descriptor 3
 * (docs/protocol/role-channels.md); or, once before the judges start, as `kbs-judge --migrate PATH`
 * to bring the store's schema up to date.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "confine/confine.h"
#include "judge/judge.h"
#include "store/store.h"

static enum kbs_exit migrate(const char *path)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_process_harden(STDERR_FILENO, &err) != 0 || kbs_store_migrate(path, &err) != 0) {
        kbs_log_error("migrate_failed", &err);
        return KBS_EXIT_FAILURE;
    }
    return KBS_EXIT_OK;
}

int main(int argc, char **argv)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_confine_print(KBS_CONFINE_JUDGE, argc, argv)) {
        return KBS_EXIT_OK;
    }
    if (argc == 3 && strcmp(argv[1], "--migrate") == 0) {
        return (int)migrate(argv[2]);
    }
    if (argc != 1) {
        fprintf(stderr,
                "usage: kbs-judge --migrate PATH | --print-seccomp (otherwise started by kbsd)\n");
        return 2;
    }
    if (kbs_process_harden(KBS_FD_CONTROL, &err) != 0) {
        kbs_log_error("start_failed", &err);
        return KBS_EXIT_FAILURE;
    }
    return (int)kbs_judge_run(KBS_FD_CONTROL);
}
