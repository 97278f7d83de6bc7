/* A kbs-policy started as kbsd starts it, for tests that are its kbsd. */
#ifndef KBS_TESTS_POLICY_PROCESS_H
#define KBS_TESTS_POLICY_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

struct policy_process {
    pid_t pid; /* 0: not running */
    int control;
    int judge; /* its judge's end of their channel */
};
#define POLICY_PROCESS_NULL ((struct policy_process){.control = -1, .judge = -1})

/* Whether it was built: $KBS_BIN_DIR has it. */
bool policy_process_built(void);
/* Up to READY; false if it does not come up. */
bool policy_process_start(struct policy_process *p);
/* It leaves by itself when its judge is gone: true if it did, and with status 0. Safe if it is not running. */
bool policy_process_end(struct policy_process *p);

#endif
