/* The wiring of one judge: from its control channel to its loop. */
#ifndef KBS_JUDGE_JUDGE_H
#define KBS_JUDGE_JUDGE_H

#include "base/process.h"

/* Takes the role's part on the control channel until it ends. Returns the process's exit status. */
enum kbs_exit kbs_judge_run(int control_fd);

#endif
