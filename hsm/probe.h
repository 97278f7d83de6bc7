/* kbs-token --probe: what a token can do, without a service. */
#ifndef KBS_HSM_PROBE_H
#define KBS_HSM_PROBE_H

#include <stdbool.h>

/* True if the arguments begin with --probe; *ret_status is then the exit status. */
bool kbs_probe_main(int argc, char **argv, int *ret_status);

#endif
