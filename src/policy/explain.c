/*
 * Explanations: the whole tree, each condition with its own result.
 *
 * What decides is walk.c, here as there: each node's result is asked of it, and the node that an
 * entry's result came from is the one that it names, so an explanation cannot tell another story than
 * the decision. (That walks a subtree once per level above it; levels are few.) Unlike the decision
 * it looks at every condition, so that its reader sees all that is wrong at once.
 */
#include "policy/walk.h"

#include <stdlib.h>

#define FOUND_BYTES 128 /* of a text that was found */

/* ---- as JSON ---- */

/* What is shown of a claim that was found: scalars; of the others what they are. */
static json_t *found_json(const json_t *found)
{
    switch (json_typeof(found)) {
    case JSON_OBJECT:
        return json_string("(an object)");
    case JSON_ARRAY:
        return json_string("(an array)");
    case JSON_STRING:
        return json_string_length(found) > FOUND_BYTES ? json_string("(a long text)")
                                                       : json_deep_copy(found);
    default:
        return json_deep_copy(found);
    }
}

static json_t *claim_json(const json_t *condition, const struct kbs_scope *scope,
                          const struct kbs_finding *f)
{
    const struct kbs_operator *op = kbs_operator_of(condition);
    const json_t *found = kbs_condition_claim(condition, scope);
    json_t *node =
        json_pack("{s:s, s:O, s:O}", "test", op->name, "claim", json_object_get(condition, "claim"),
                  "wanted", json_object_get(condition, op->name));

    if (node != NULL && found != NULL) {
        (void)json_object_set_new(node, "found", found_json(found));
    }
    if (node != NULL && f->truth != KBS_TRUTH_TRUE) {
        (void)json_object_set_new(node, "why", json_string(f->why));
    }
    return node;
}

static json_t *condition_json(const json_t *condition, const struct kbs_scope *scope,
                              const json_t *decides);

static json_t *list_json(const json_t *v, const struct kbs_scope *scope, const json_t *decides)
{
    bool all;
    const json_t *list = kbs_group_of(v, &all);
    json_t *of = json_array();

    for (size_t i = 0; i < json_array_size(list); i++) {
        (void)json_array_append_new(of, condition_json(json_array_get(list, i), scope, decides));
    }
    return json_pack("{s:s, s:o}", "test", all ? "allOf" : "anyOf", "of", of);
}

static void result_set(json_t *node, const struct kbs_finding *f, bool decides)
{
    (void)json_object_set_new(node, "result", json_string(kbs_truth_name(f->truth)));
    if (decides) {
        (void)json_object_set_new(node, "decides", json_true());
    }
}

/* decides: the condition that its entry's result came from. */
static json_t *condition_json(const json_t *condition, const struct kbs_scope *scope,
                              const json_t *decides)
{
    struct kbs_finding f = kbs_condition_find(condition, scope);
    json_t *node = NULL;

    if (json_object_get(condition, "claim") != NULL) {
        node = claim_json(condition, scope, &f);
    } else if (json_object_get(condition, "not") != NULL) {
        node = json_pack("{s:s, s:[o]}", "test", "not", "of",
                         condition_json(json_object_get(condition, "not"), scope, decides));
    } else {
        node = list_json(condition, scope, decides);
    }
    result_set(node, &f, condition == decides);
    return node;
}

static json_t *entry_json(const json_t *entry, const struct kbs_policy_subject *subject)
{
    struct kbs_finding f = kbs_entry_find(entry, subject);
    json_t *authority = json_object_get(entry, "authority");
    struct kbs_scope scope;
    json_t *node = NULL;

    if (kbs_entry_scope(entry, subject, &scope)) {
        node = list_json(entry, &scope, f.truth == KBS_TRUTH_TRUE ? NULL : f.at);
    } else { /* its claims are not looked at: nobody vouches for them */
        bool all;

        (void)kbs_group_of(entry, &all);
        node = json_pack("{s:s, s:[], s:s}", "test", all ? "allOf" : "anyOf", "of", "why",
                         "another authority");
    }
    if (authority != NULL) {
        (void)json_object_set(node, "authority", authority);
    }
    result_set(node, &f, f.at == entry || f.truth == KBS_TRUTH_TRUE);
    return node;
}

json_t *kbs_policy_explain(const json_t *policy, const struct kbs_policy_subject *subject)
{
    struct kbs_finding f = kbs_policy_find(policy, subject);
    struct kbs_error why = KBS_ERROR_NONE;
    bool allowed = kbs_policy_decide_loaded(policy, subject, &why) == 0;
    bool all;
    const json_t *entries = kbs_group_of(policy, &all);
    json_t *of = json_array();

    for (size_t i = 0; i < json_array_size(entries); i++) {
        (void)json_array_append_new(of, entry_json(json_array_get(entries, i), subject));
    }
    json_t *node = json_pack("{s:s, s:o}", "test", all ? "allOf" : "anyOf", "of", of);
    result_set(node, &f, false);
    return json_pack("{s:s, s:s, s:o}", "decision", allowed ? "allow" : "deny", "reason",
                     allowed ? "" : why.detail, "policy", node);
}

/* ---- as text ---- */

static const char *text_of(const json_t *node, const char *name)
{
    const char *v = json_string_value(json_object_get(node, name));

    return v != NULL ? v : "";
}

static void value_put(struct kbs_buf *out, const json_t *v)
{
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

    kbs_buf_put_str(out, text != NULL ? text : "?");
    free(text);
}

static void node_put(struct kbs_buf *out, const json_t *node, unsigned int depth)
{
    const json_t *found = json_object_get(node, "found");
    const json_t *of = json_object_get(node, "of");

    kbs_buf_printf(out, "%c %-8s%*s", json_is_true(json_object_get(node, "decides")) ? '>' : ' ',
                   text_of(node, "result"), (int)(2 * depth), "");
    if (of == NULL) {
        kbs_buf_printf(out, "%s %s ", text_of(node, "claim"), text_of(node, "test"));
        value_put(out, json_object_get(node, "wanted"));
    } else {
        kbs_buf_put_str(out, text_of(node, "test"));
    }
    if (json_object_get(node, "authority") != NULL) {
        kbs_buf_put_str(out, " of authority ");
        value_put(out, json_object_get(node, "authority"));
    }
    if (json_object_get(node, "why") != NULL) {
        kbs_buf_printf(out, ": %s", text_of(node, "why"));
        if (found != NULL) {
            kbs_buf_put_str(out, ", it is ");
            value_put(out, found);
        }
    }
    kbs_buf_put_u8(out, '\n');
    for (size_t i = 0; i < json_array_size(of); i++) {
        node_put(out, json_array_get(of, i), depth + 1);
    }
}

void kbs_policy_explain_put(struct kbs_buf *out, const json_t *explained)
{
    kbs_buf_printf(out, "%s%s%s\n", text_of(explained, "decision"),
                   text_of(explained, "reason")[0] != '\0' ? ": " : "",
                   text_of(explained, "reason"));
    node_put(out, json_object_get(explained, "policy"), 0);
}
