/*
 * Release policies.
 *
 * A policy is small, is written by a person, and decides about keys: so the grammar is closed (an
 * unknown member is an error, not a comment), every list has an element (an empty allOf would be
 * true), comparisons are by type and value, and whatever is absent is false. A policy is checked
 * when it is stored, and once more when it is loaded to decide: the decision does not depend on who
 * checked before.
 *
 * The decision is one walk over a tree whose depth the check has bounded. A denial names, for each
 * top-level entry, the first claim that kept it from being true: paths come from the policy, values
 * are never shown, since the reader may be the guest. As many entries are named as fit in an
 * error's detail.
 *
 * Rejected: short-circuiting without reasons (a denial nobody can explain gets its policy widened),
 * and comparison operators beyond `equals` (Azure has none either; Rego is the place for more).
 */
#include "policy/release.h"

#include <stdio.h>

#include "base/limits.h"
#include "policy/path.h"

#define POLICY_VERSION "1.0.0"

static const char *const policy_names[] = {"version", "anyOf", NULL};
static const char *const entry_names[] = {"authority", "allOf", "anyOf", NULL};
static const char *const claim_names[] = {"claim", "equals", NULL};
static const char *const group_names[] = {"allOf", "anyOf", NULL};

/* The conditions of an object that has exactly one of allOf and anyOf; NULL otherwise. */
static const json_t *group_of(const json_t *v, bool *ret_all)
{
    const json_t *all = json_object_get(v, "allOf");
    const json_t *any = json_object_get(v, "anyOf");

    *ret_all = all != NULL;
    if ((all == NULL) == (any == NULL)) {
        return NULL;
    }
    return all != NULL ? all : any;
}

static struct kbs_span string_of(const json_t *v)
{
    return json_is_string(v) ? kbs_span(json_string_value(v), json_string_length(v))
                             : KBS_SPAN_EMPTY;
}

static int condition_check(const json_t *v, size_t depth, struct kbs_error *err);

static int group_check(const json_t *v, size_t depth, struct kbs_error *err)
{
    bool all;
    const json_t *list = group_of(v, &all);

    if (list == NULL) {
        return kbs_fail(err, KBS_INPUT, "needs exactly one of \"allOf\" and \"anyOf\"");
    }
    if (!json_is_array(list) || json_array_size(list) == 0) {
        return kbs_fail(err, KBS_INPUT, "\"%s\" is not an array with at least one condition",
                        all ? "allOf" : "anyOf");
    }
    if (depth > KBS_LIMIT_POLICY_DEPTH) {
        return kbs_fail(err, KBS_INPUT, "nested more than %d levels deep", KBS_LIMIT_POLICY_DEPTH);
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (condition_check(json_array_get(list, i), depth + 1, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int condition_check(const json_t *v, size_t depth, struct kbs_error *err)
{
    const json_t *equals = json_object_get(v, "equals");
    struct kbs_span path;

    if (!json_is_object(v)) {
        return kbs_fail(err, KBS_INPUT, "a condition is not an object");
    }
    if (json_object_get(v, "claim") == NULL) {
        return kbs_json_only(v, group_names, err) != 0 ? -1 : group_check(v, depth, err);
    }
    if (kbs_json_only(v, claim_names, err) != 0 ||
        kbs_json_get_string(v, "claim", &path, err) != 0 || kbs_policy_path_check(path, err) != 0) {
        return -1;
    }
    if (!json_is_string(equals) && !json_is_integer(equals) && !json_is_boolean(equals)) {
        return kbs_fail(err, KBS_INPUT, "\"equals\" is not a string, an integer or a boolean");
    }
    return 0;
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
    if (authority != NULL && string_of(authority).len == 0) {
        return kbs_fail(err, KBS_INPUT, "\"authority\" is not a string, or empty");
    }
    return group_check(entry, 2, err);
}

/* Parses and checks all of it. Returns owned. */
static int policy_parse(struct kbs_span text, json_t **ret, struct kbs_error *err)
{
    KBS_AUTO_JSON root = NULL;
    struct kbs_span version;
    struct kbs_error why;

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
    const json_t *entries = json_object_get(root, "anyOf");
    if (!json_is_array(entries) || json_array_size(entries) == 0) {
        return kbs_fail(err, KBS_INPUT,
                        "policy: \"anyOf\" is not an array with at least one entry");
    }
    for (size_t i = 0; i < json_array_size(entries); i++) {
        if (entry_check(json_array_get(entries, i), &why) != 0) {
            return kbs_fail(err, KBS_INPUT, "policy: anyOf[%zu]: %.150s", i, why.detail);
        }
    }
    *ret = json_incref(root);
    return 0;
}

int kbs_policy_check(struct kbs_span text, struct kbs_error *err)
{
    KBS_AUTO_JSON root = NULL;

    return policy_parse(text, &root, err);
}

/* What the walk needs and finds. */
struct walk {
    const json_t *input;
    const json_t *kbs;
    const char
        *failed; /* path of the first claim that was not as wanted, borrowed from the policy */
    bool absent; /* ... because it was not there */
};

/* jansson's json_equal() is by type and value, as wanted here: "1", 1 and true differ. */
static bool claim_holds(const json_t *condition, struct walk *w)
{
    const json_t *path = json_object_get(condition, "claim");
    const json_t *found = kbs_policy_path_find(string_of(path), w->input, w->kbs);
    bool holds = found != NULL && json_equal(found, json_object_get(condition, "equals")) == 1;

    if (!holds && w->failed == NULL) {
        w->failed = json_string_value(path);
        w->absent = found == NULL;
    }
    return holds;
}

/* An allOf ends at the first false condition, an anyOf at the first true one. */
static bool group_holds(const json_t *v, struct walk *w)
{
    bool all;
    const json_t *list = group_of(v, &all);
    size_t n = json_array_size(list);

    for (size_t i = 0; i < n; i++) {
        const json_t *c = json_array_get(list, i);
        const char *failed_before = w->failed;
        bool holds = json_object_get(c, "claim") != NULL ? claim_holds(c, w) : group_holds(c, w);

        if (holds) {
            w->failed = failed_before; /* what failed below did not matter */
        }
        if (holds != all) {
            return holds;
        }
    }
    return all && n > 0;
}

static bool entry_holds(const json_t *entry, struct walk *w)
{
    const json_t *authority = json_object_get(entry, "authority");
    const json_t *issuer = json_object_get(w->input, "iss");

    if (authority != NULL && !(json_is_string(issuer) && json_equal(authority, issuer) == 1)) {
        w->failed = "authority";
        w->absent = issuer == NULL;
        return false;
    }
    return group_holds(entry, w);
}

/*
 * Appends "; anyOf[i] <path> differs" if all of it fits; the first is cut off rather than left out.
 */
static void reason_add(char *detail, size_t size, size_t i, const struct walk *w)
{
    size_t used = strlen(detail);
    int n = snprintf(detail + used, size - used, "%s anyOf[%zu] %s %s", i == 0 ? "" : ";", i,
                     w->failed != NULL ? w->failed : "?", w->absent ? "is absent" : "differs");

    if (used > 0 && (n < 0 || (size_t)n >= size - used)) {
        detail[used] = '\0';
    }
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

int kbs_policy_decide_loaded(const json_t *policy, const json_t *input, const json_t *kbs,
                             struct kbs_error *err)
{
    char reasons[KBS_LIMIT_ERROR_DETAIL_BYTES - sizeof("policy:")] = "";
    const json_t *entries = json_object_get(policy, "anyOf");

    for (size_t i = 0; i < json_array_size(entries); i++) {
        struct walk w = {.input = input, .kbs = kbs};

        if (entry_holds(json_array_get(entries, i), &w)) {
            return 0;
        }
        reason_add(reasons, sizeof(reasons), i, &w);
    }
    return kbs_fail(err, KBS_DENIED, "policy:%s", reasons);
}

int kbs_policy_decide(struct kbs_span text, const json_t *input, const json_t *kbs,
                      struct kbs_error *err)
{
    KBS_AUTO_JSON policy = NULL;

    if (kbs_policy_load(text, &policy, err) != 0) {
        return -1;
    }
    return kbs_policy_decide_loaded(policy, input, kbs, err);
}
