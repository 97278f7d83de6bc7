/* Inside src/api only: aliases, paths that stand for others, by who asks (docs/protocol/aliases.md). */
#ifndef KBS_API_ALIAS_H
#define KBS_API_ALIAS_H

#include "api/context.h"

struct kbs_alias {
    struct kbs_document row;
    json_t *rules; /* owned; an array of {"when": {field: hex, ...}, "to": path}, in order */
};
void kbs_alias_deinit(struct kbs_alias *a); /* safe on a zeroed one */

/* The alias of that path, its row verified. KBS_MISSING if the path is none. */
KBS_MUST_CHECK int kbs_alias_get(struct kbs_api *api, struct kbs_span path, struct kbs_alias *ret,
                                 struct kbs_error *err);
/* Parses the text of such a row. KBS_INTERNAL. Returns owned. */
KBS_MUST_CHECK int kbs_alias_rules_get(struct kbs_span text, json_t **ret, struct kbs_error *err);
/* The text of a row with those rules; empty, which takes the alias back, if there is none. */
KBS_MUST_CHECK int kbs_alias_rules_put(const json_t *rules, struct kbs_buf *out,
                                       struct kbs_error *err);

/* KBS_INPUT unless these are conditions: known fields, each with bytes in lower-case hex. */
KBS_MUST_CHECK int kbs_alias_when_check(json_t *when, struct kbs_error *err);
/*
 * Adds a rule: in the place of the one with the same conditions, if there is one and `first` is not asked for;
 * else before or behind all others. KBS_CONFLICT if there would be a rule that no guest reaches, because one
 * before it asks no more.
 */
KBS_MUST_CHECK int kbs_alias_rule_add(json_t *rules, json_t *when, struct kbs_span to, bool first,
                                      struct kbs_error *err);
/* Takes out the rule with those conditions. KBS_MISSING. */
KBS_MUST_CHECK int kbs_alias_rule_remove(json_t *rules, json_t *when, struct kbs_error *err);

#endif
