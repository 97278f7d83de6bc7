/* What kbs-admin and kbs-guest do first, and the choice of a subcommand. */
#ifndef KBS_CLI_PROGRAM_H
#define KBS_CLI_PROGRAM_H

#include "cli/args.h"

/* Not dumpable, no core file, SIGPIPE ignored, umask 077, secure heap. KBS_CLI_OK or an exit status
 * after a message. */
KBS_MUST_CHECK int kbs_cli_start(void);

#endif
