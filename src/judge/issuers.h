/* The issuers of foreign attestation tokens, as CONFIG_JUDGE describes them. */
#ifndef KBS_JUDGE_ISSUERS_H
#define KBS_JUDGE_ISSUERS_H

#include "attest/issuer/issuer.h"
#include "wire/message.h"

/*
 * Makes them of the configuration, of which nothing is borrowed. KBS_INPUT for what no configuration can hold.
 * Returns owned; *ret is NULL if none is configured.
 */
KBS_MUST_CHECK int kbs_judge_issuers_new(const struct kbs_wire_config_judge *config,
                                         struct kbs_issuers **ret, struct kbs_error *err);

#endif
