/*
 * A program beside this one that works for a command of kbs-admin: kbs-token for `init` and `tls`,
 * kbs-policy for `policy test`, kbsd for what is in a configuration.
 */
#ifndef KBS_CLI_WORKER_H
#define KBS_CLI_WORKER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "wire/message.h"

struct kbs_cli_worker {
    pid_t pid;   /* 0: none */
    int control; /* kbsd's end of its control channel */
    int judge;   /* and that of its judge */
    int log;
};
#define KBS_CLI_WORKER_NULL ((struct kbs_cli_worker){.control = -1, .judge = -1, .log = -1})

/*
 * Starts the program of that name beside this one, with that option (NULL: none). *ret_judge_end is
 * the role's end of the judge's channel, for kbs_cli_worker_attach(), owned by the caller.
 * KBS_MISSING if there is no such program. Stopped by kbs_cli_worker_stop() also after a failure.
 */
KBS_MUST_CHECK int kbs_cli_worker_start(struct kbs_cli_worker *w, const char *name,
                                        const char *option, int *ret_judge_end,
                                        struct kbs_error *err);
KBS_MUST_CHECK int kbs_cli_worker_attach(const struct kbs_cli_worker *w, enum kbs_attach what,
                                         uint32_t index, int fd, uint64_t deadline,
                                         struct kbs_error *err);
/*
 * Lets it go in peace if all went well (it drains and exits), by force and with its log shown if
 * not.
 */
void kbs_cli_worker_stop(struct kbs_cli_worker *w, bool failed);

/*
 * A worker that has ended before it was ready: fails with `what` and why, as it said in its log;
 * the whole log is shown if it did not.
 */
int kbs_cli_worker_why(const struct kbs_cli_worker *w, const char *what, struct kbs_error *err);

/*
 * Runs the program argv[0] beside this one to its end and appends what it wrote to its standard
 * output. If its status is not 0, what it wrote to its standard error is shown, and that is
 * KBS_INPUT.
 */
KBS_MUST_CHECK int kbs_cli_program_read(char *const *argv, struct kbs_buf *out,
                                        struct kbs_error *err);

#endif
