/*
 * Exit statuses of kbs-admin and kbs-guest, the same for both, and the way from an error to one.
 */
#ifndef KBS_CLI_STATUS_H
#define KBS_CLI_STATUS_H

#include "base/error.h"

enum kbs_cli_status {
    KBS_CLI_OK = 0,
    KBS_CLI_FAILURE = 1, /* anything that has no number of its own */
    KBS_CLI_USAGE = 2,
    KBS_CLI_AUTHENTICATION = 3, /* of us to the server, or of the server to us */
    KBS_CLI_DENIED = 4,
    KBS_CLI_MISSING = 5,
    KBS_CLI_CONFLICT = 6,
    KBS_CLI_TOKEN = 7,
    KBS_CLI_NETWORK = 8,
    KBS_CLI_UNSUPPORTED = 9,
    KBS_CLI_WAITS = 10 /* for approval by other administrators: nothing is done yet */
};

/* The status of a failed operation, by its category. Transport failures carry KBS_DEADLINE. */
int kbs_cli_status(const struct kbs_error *err);

/* The category that an HTTP status stands for; KBS_INTERNAL for those without one. The reverse of
 * kbs_category_status(), with every 503 read as KBS_TOKEN_DOWN. */
enum kbs_category kbs_cli_category(unsigned int http_status);

#endif
