/*
 * Scripts branch on exit statuses, so there is one table, not a decision per subcommand. A 503 is
 * the token's or the ledger's: from outside, both mean that the service has no token to offer just
 * now.
 */
#include "cli/status.h"

int kbs_cli_status(const struct kbs_error *err)
{
    switch (err->category) {
    case KBS_UNAUTHENTICATED:
        return KBS_CLI_AUTHENTICATION;
    case KBS_DENIED:
        return KBS_CLI_DENIED;
    case KBS_MISSING:
        return KBS_CLI_MISSING;
    case KBS_CONFLICT:
        return KBS_CLI_CONFLICT;
    case KBS_TOKEN_DOWN:
        return KBS_CLI_TOKEN;
    case KBS_DEADLINE:
        return KBS_CLI_NETWORK;
    case KBS_UNSUPPORTED:
        return KBS_CLI_UNSUPPORTED;
    case KBS_BUSY: /* not an answer's: kbs_cli_category() reads every 503 as the token's */
        return KBS_CLI_WAITS;
    case KBS_OK:
    case KBS_INPUT:
    case KBS_TOO_LARGE:
    case KBS_UNPROCESSABLE:
    case KBS_LIMITED:
    case KBS_INTERNAL:
    case KBS_CATEGORY_COUNT:
        break;
    }
    return KBS_CLI_FAILURE;
}

enum kbs_category kbs_cli_category(unsigned int http_status)
{
    if (http_status == 503) {
        return KBS_TOKEN_DOWN;
    }
    for (int c = KBS_INPUT; c < KBS_CATEGORY_COUNT; c++) {
        if (kbs_category_status((enum kbs_category)c) == http_status) {
            return (enum kbs_category)c;
        }
    }
    return KBS_INTERNAL;
}
