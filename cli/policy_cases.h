/* A file of cases for a Rego policy: claims, what was asked for, and what the policy has to say. */
#ifndef KBS_CLI_POLICY_CASES_H
#define KBS_CLI_POLICY_CASES_H

#include <jansson.h>

#include "base/buf.h"
#include "base/error.h"

#define KBS_CLI_CASES_MAX 1000
#define KBS_CLI_CASES_BYTES (4u << 20)

/* One case; borrows the tree. */
struct kbs_cli_case {
    struct kbs_span name; /* empty: none was given */
    const json_t *input;
    const json_t *data; /* NULL: path says */
    struct kbs_span path;
    bool allow; /* expected */
};

/*
 * Parses {"cases":[{"name"?, "input":{...}, "data"?:{...} | "path"?: "r/t/tag", "expect":"allow"|"deny"}...]}.
 * KBS_INPUT names the case and what is wrong with it. Returns owned.
 */
KBS_MUST_CHECK int kbs_cli_cases_parse(struct kbs_span text, json_t **ret, struct kbs_error *err);
size_t kbs_cli_cases_count(const json_t *cases);
/* The n-th, from 0, of a tree that was parsed so. */
struct kbs_cli_case kbs_cli_cases_at(const json_t *cases, size_t n);

/*
 * `data` of a request for that path, as a judge has it: plugin resource, method GET. KBS_INPUT if it is no path.
 */
KBS_MUST_CHECK int kbs_cli_case_data(struct kbs_span path, struct kbs_buf *out,
                                     struct kbs_error *err);

#endif
