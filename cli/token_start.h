/* What kbsd is to a token worker, for commands that start one. */
#ifndef KBS_CLI_TOKEN_START_H
#define KBS_CLI_TOKEN_START_H

#include <sys/stat.h>

#include "cli/worker.h"

/* How it may log in. */
struct kbs_cli_login {
    const char *lock_file; /* token.lock; NULL: there is nobody else */
    struct stat pin;       /* as for base/pin_latch.h */
};

/*
 * The worker has logged in, and ended before it was ready: the token works, what it was given does
 * not.
 */
#define KBS_CLI_TOKEN_ENDED 1

/*
 * From GO to READY: lets it log in, under token.lock and its latch like kbsd. 0,
 * KBS_CLI_TOKEN_ENDED, or -1: KBS_TOKEN_DOWN if the login failed, or others had the lock for too
 * long.
 */
KBS_MUST_CHECK int kbs_cli_token_ready(const struct kbs_cli_worker *w,
                                       const struct kbs_cli_login *login, uint64_t deadline,
                                       struct kbs_error *err);

#endif
