/* Which members of `input` and `data` a Rego policy names, as far as its text alone tells. */
#ifndef KBS_CLI_POLICY_REFS_H
#define KBS_CLI_POLICY_REFS_H

#include <jansson.h>

#include "base/buf.h"

/*
 * Calls `each` for every place in the text that names a member from input or data on, in order: `text` is the
 * reference as it is written, `there` whether the documents have it (JSON null is there). A reference is
 * followed as far as its names are constant: input.a["b"][i].c is input.a["b"]. Comments and strings are no
 * references. Both are borrowed until the call returns.
 */
typedef void kbs_cli_ref_each(void *ctx, struct kbs_span text, unsigned int line, bool there);
void kbs_cli_refs(struct kbs_span policy, const json_t *input, const json_t *data,
                  kbs_cli_ref_each *each, void *ctx);

#endif
