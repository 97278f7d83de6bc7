/* What a ledger tells of a policy: every change of it, long after its text is gone. */
#ifndef KBS_CLI_POLICY_LEDGER_H
#define KBS_CLI_POLICY_LEDGER_H

#include <jansson.h>

#include "base/error.h"

/*
 * Reads the ledger behind `fd` (borrowed): the changes that were made, the oldest first, of the policy with that
 * name, or of the release policies of the key or secret with that path. [{"seq","time","kind","version",
 * "digest","admin","approvers"?}]; digest: SHA-256 of the text, hex. KBS_CONFLICT if the chain is broken.
 * Returns owned.
 */
KBS_MUST_CHECK int kbs_cli_policy_ledger(int fd, const char *name, json_t **ret,
                                         struct kbs_error *err);

#endif
