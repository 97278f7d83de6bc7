/* What tools on the server's host need of the configuration, which only kbsd reads. */
#ifndef KBS_SUPERVISOR_PRINT_H
#define KBS_SUPERVISOR_PRINT_H

#include "config/config.h"

/*
 * Writes one JSON object and a line feed (docs/man/kbsd.8, --print-config): names and structure as
 * in the file, values as they are used. No secret, since there is none in a configuration.
 */
KBS_MUST_CHECK int kbsd_print_config(const struct kbs_config *config, int fd,
                                     struct kbs_error *err);

#endif
