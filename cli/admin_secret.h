/* What the secret subcommands of kbs-admin share. */
#ifndef KBS_CLI_ADMIN_SECRET_H
#define KBS_CLI_ADMIN_SECRET_H

#include "cli/admin.h"

/* Builds "/kbs/v0/admin/secrets/<path>". */
KBS_MUST_CHECK int kbs_admin_secret_target(const char *path, struct kbs_buf *out,
                                           struct kbs_error *err);
/* A SECRET of docs/protocol/admin-api.md as JSON or for people, as the options say. Borrowed. */
KBS_MUST_CHECK int kbs_admin_secret_show(const struct kbs_admin_options *o, json_t *secret,
                                         struct kbs_error *err);

#endif
