/* kbs-policy, run by a command: what a Rego policy says, offline, by the program that the service asks. */
#ifndef KBS_CLI_POLICY_ENGINE_H
#define KBS_CLI_POLICY_ENGINE_H

#include "base/span.h"
#include "base/terms.h"
#include "channel/channel.h"
#include "cli/worker.h"

struct kbs_cli_policy {
    struct kbs_cli_worker worker;
    struct kbs_channel_msg answer;
    struct kbs_span text;      /* borrowed */
    enum kbs_rego_query query; /* what it is asked for; set before it is opened, ALLOW else */
};
#define KBS_CLI_POLICY_NULL \
    ((struct kbs_cli_policy){.worker = KBS_CLI_WORKER_NULL, .answer = KBS_CHANNEL_MSG})

/*
 * Starts kbs-policy and loads the text. KBS_UNPROCESSABLE with line and column if it is no policy; KBS_MISSING
 * if there is no kbs-policy beside this program. kbs_cli_policy_close() follows also after a failure.
 */
KBS_MUST_CHECK int kbs_cli_policy_open(struct kbs_cli_policy *p, struct kbs_span text,
                                       struct kbs_error *err);
/* Asks about input and data, JSON objects. *ret borrows p until the next question. */
KBS_MUST_CHECK int kbs_cli_policy_ask(struct kbs_cli_policy *p, struct kbs_span input,
                                      struct kbs_span data, struct kbs_wire_verdict *ret,
                                      struct kbs_error *err);
void kbs_cli_policy_close(struct kbs_cli_policy *p, bool failed);

#endif
