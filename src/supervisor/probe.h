/* kbsd --check-config: what only a judge can tell of a configuration. */
#ifndef KBS_SUPERVISOR_PROBE_H
#define KBS_SUPERVISOR_PROBE_H

#include "supervisor/supervisor.h"

/*
 * Starts a kbs-judge that looks at the configuration and leaves; what is wrong it says on standard
 * error. 0 if it can use it, and if there is nothing in it that kbsd cannot tell itself; KBS_INPUT if it cannot.
 */
KBS_MUST_CHECK int kbsd_probe(const struct kbs_config *config, const struct kbsd_options *options,
                              struct kbs_error *err);

#endif
