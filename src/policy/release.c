/*
 * Release policies: the grammar.
 *
 * A policy is small, is written by a person, and decides about keys: so the grammar is closed (an
 * unknown member is an error, not a comment), every list has an element (an empty allOf would be
 * true), and a condition has one operator. A policy is checked when it is stored, and once more when
 * it is loaded to decide: the decision (walk.c) does not depend on who checked before, and its depth
 * is bounded here.
 *
 * Azure's examples have the entries in an anyOf, and in one place in an allOf: both are taken.
 * Rejected: Azure's `like` and patterns (Rego is the place for more).
 */
#include "policy/release.h"

#include "base/limits.h"
#include "policy/keeps.h"
#include "policy/path.h"
#include "policy/walk.h"

#define POLICY_VERSION "1.0.0"

static const char *const policy_names[] = {"version",   "anyOf",    "allOf",
                                           "provision", "register", NULL};
static const char *const entry_names[] = {"authority", "allOf", "anyOf", NULL};
static const char *const group_names[] = {"allOf", "anyOf", NULL};
static const char *const not_names[] = {"not", NULL};

static int condition_check(const json_t *v, size_t depth, struct kbs_error *err);

static int depth_check(size_t depth, struct kbs_error *err)
{
    return depth <= KBS_LIMIT_POLICY_DEPTH
               ? 0
               : kbs_fail(err, KBS_INPUT, "nested more than %d levels deep",
                          KBS_LIMIT_POLICY_DEPTH);
}

/* The list of a group, which is not empty. */
static int list_check(const json_t *v, const char *of, const json_t **ret, struct kbs_error *err)
{
    bool all;

    *ret = kbs_group_of(v, &all);
    if (*ret == NULL) {
        return kbs_fail(err, KBS_INPUT, "needs exactly one of \"allOf\" and \"anyOf\"");
    }
    if (!json_is_array(*ret) || json_array_size(*ret) == 0) {
        return kbs_fail(err, KBS_INPUT, "\"%s\" is not an array with at least one %s",
                        all ? "allOf" : "anyOf", of);
    }
    return 0;
}

static int group_check(const json_t *v, size_t depth, struct kbs_error *err)
{
    const json_t *list = NULL;

    if (list_check(v, "condition", &list, err) != 0 || depth_check(depth, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (condition_check(json_array_get(list, i), depth + 1, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int claim_check(const json_t *v, struct kbs_error *err)
{
    const struct kbs_operator *op = kbs_operator_of(v);
    struct kbs_span path;

    if (op == NULL) {
        return kbs_fail(err, KBS_INPUT, "a claim needs exactly one operator, such as \"equals\"");
    }
    const char *const names[] = {"claim", op->name, NULL};
    if (kbs_json_only(v, names, err) != 0 || kbs_json_get_string(v, "claim", &path, err) != 0 ||
        kbs_policy_path_check(path, err) != 0) {
        return -1;
    }
    if (!op->takes(json_object_get(v, op->name))) {
        return kbs_fail(err, KBS_INPUT, "\"%s\" is not %s", op->name, op->wants);
    }
    return 0;
}

static int condition_check(const json_t *v, size_t depth, struct kbs_error *err)
{
    if (!json_is_object(v)) {
        return kbs_fail(err, KBS_INPUT, "a condition is not an object");
    }
    if (json_object_get(v, "claim") != NULL) {
        return claim_check(v, err);
    }
    if (json_object_get(v, "not") != NULL) {
        if (kbs_json_only(v, not_names, err) != 0 || depth_check(depth, err) != 0) {
            return -1;
        }
        return condition_check(json_object_get(v, "not"), depth + 1, err);
    }
    return kbs_json_only(v, group_names, err) != 0 ? -1 : group_check(v, depth, err);
}

static int entry_check(const json_t *entry, struct kbs_error *err)
{
    const json_t *authority = json_object_get(entry, "authority");

    if (!json_is_object(entry)) {
        return kbs_fail(err, KBS_INPUT, "not an object");
    }
    if (kbs_json_only(entry, entry_names, err) != 0) {
        return -1;
    }
    if (authority != NULL && json_string_length(authority) == 0) {
        return kbs_fail(err, KBS_INPUT, "\"authority\" is not a string, or empty");
    }
    return group_check(entry, 2, err);
}

static int entries_check(const json_t *root, struct kbs_error *err)
{
    const json_t *entries = NULL;
    struct kbs_error why;

    if (list_check(root, "entry", &entries, &why) != 0) {
        return kbs_fail(err, KBS_INPUT, "policy: %.150s", why.detail);
    }
    for (size_t i = 0; i < json_array_size(entries); i++) {
        if (entry_check(json_array_get(entries, i), &why) != 0) {
            return kbs_fail(err, KBS_INPUT, "policy: %s[%zu]: %.150s",
                            json_object_get(root, "allOf") != NULL ? "allOf" : "anyOf", i,
                            why.detail);
        }
    }
    return 0;
}

/* Parses and checks all of it. Returns owned. */
static int policy_parse(struct kbs_span text, json_t **ret, struct kbs_error *err)
{
    KBS_AUTO_JSON root = NULL;
    struct kbs_span version;

    *ret = NULL;
    if (text.len > KBS_LIMIT_POLICY_BYTES) {
        return kbs_fail(err, KBS_TOO_LARGE, "policy: longer than %d bytes", KBS_LIMIT_POLICY_BYTES);
    }
    if (kbs_json_parse_object(text, "policy", &root, err) != 0 ||
        kbs_json_only(root, policy_names, err) != 0 ||
        kbs_json_get_string(root, "version", &version, err) != 0) {
        return -1;
    }
    if (!kbs_span_equal_str(version, POLICY_VERSION)) {
        return kbs_fail(err, KBS_INPUT, "policy: \"version\" is not " POLICY_VERSION);
    }
    if (entries_check(root, err) != 0 || kbs_keeps_check(root, err) != 0) {
        return -1;
    }
    *ret = json_incref(root);
    return 0;
}

int kbs_policy_check(struct kbs_span text, struct kbs_error *err)
{
    KBS_AUTO_JSON root = NULL;

    return policy_parse(text, &root, err);
}

int kbs_policy_load(struct kbs_span text, json_t **ret, struct kbs_error *err)
{
    struct kbs_error why;

    if (text.len == 0) {
        return kbs_fail(err, KBS_DENIED, "policy: none, so nothing is released");
    }
    if (policy_parse(text, ret, &why) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "stored %.180s", why.detail);
    }
    return 0;
}

int kbs_policy_decide(struct kbs_span text, const struct kbs_policy_subject *subject,
                      struct kbs_error *err)
{
    KBS_AUTO_JSON policy = NULL;

    if (kbs_policy_load(text, &policy, err) != 0) {
        return -1;
    }
    return kbs_policy_decide_loaded(policy, subject, err);
}
