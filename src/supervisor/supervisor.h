/* The supervisor's loop: start, watch, replace, drain. */
#ifndef KBS_SUPERVISOR_SUPERVISOR_H
#define KBS_SUPERVISOR_SUPERVISOR_H

#include "config/config.h"

struct kbsd_options {
    const char *config;   /* the file that is read again on SIGHUP */
    const char *libexec;  /* folder of the role executables */
    const char *units;    /* folder of the roles' sockets, if they are units; NULL: fork and exec */
    const char *announce; /* file to write once the service is up; NULL: none */
};

/*
 * Runs the service until it is told to end (SIGTERM, SIGINT) or cannot go on. Both arguments are
 * borrowed. Returns the exit status (enum kbs_exit).
 */
int kbsd_run(const struct kbs_config *config, const struct kbsd_options *options);

#endif
