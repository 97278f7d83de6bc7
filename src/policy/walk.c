/*
 * The decision: one walk over a tree whose depth the check has bounded.
 *
 * A condition comes to true, false or unknown (operator.c): an allOf to the least of its conditions
 * and an anyOf to the greatest, in the order false, unknown, true; a not to the opposite, and unknown
 * stays unknown. The walk of an allOf ends at the first that is false and that of an anyOf at the
 * first that is true, since no other can change the result.
 *
 * Beside its truth a condition hands up one claim that it came from, the first there is, so that a
 * denial can say, for each entry, which claim kept it from being true. Paths come from the policy; values are never
 * shown, since the reader may be the guest. As many entries are named as fit in an error's detail.
 *
 * Rejected: two values, where `not` of a claim that is absent would be true, and a denial without
 * reasons (one that nobody can explain gets its policy widened).
 */
#include "policy/walk.h"

#include <stdio.h>

#include "base/limits.h"
#include "policy/path.h"

static struct kbs_span string_of(const json_t *v)
{
    return json_is_string(v) ? kbs_span(json_string_value(v), json_string_length(v))
                             : KBS_SPAN_EMPTY;
}

const json_t *kbs_group_of(const json_t *v, bool *ret_all)
{
    const json_t *all = json_object_get(v, "allOf");
    const json_t *any = json_object_get(v, "anyOf");

    *ret_all = all != NULL;
    if ((all == NULL) == (any == NULL)) {
        return NULL;
    }
    return all != NULL ? all : any;
}

const json_t *kbs_condition_claim(const json_t *condition, const struct kbs_scope *scope)
{
    const json_t *found = kbs_policy_path_find(string_of(json_object_get(condition, "claim")),
                                               scope->claims, scope->kbs);

    return json_is_null(found) ? NULL : found;
}

static struct kbs_finding claim_find(const json_t *condition, const struct kbs_scope *scope)
{
    const struct kbs_operator *op = kbs_operator_of(condition);
    const json_t *found = kbs_condition_claim(condition, scope);
    struct kbs_finding f = {.truth = op->test(found, json_object_get(condition, op->name)),
                            .at = condition,
                            .why = op->misses};

    if (f.truth == KBS_TRUTH_TRUE) {
        f.why = "is ruled out"; /* if that is a reason, there is a not above it */
    } else if (found == NULL) {
        f.why = "is absent";
    } else if (f.truth == KBS_TRUTH_UNKNOWN) {
        f.why = "is of another type";
    }
    return f;
}

/* Whether an element's result is its list's, given what came before it: false, unknown, true. */
static bool finding_wins(enum kbs_truth next, enum kbs_truth so_far, bool all)
{
    static const int rank[] = {
        [KBS_TRUTH_FALSE] = 0, [KBS_TRUTH_UNKNOWN] = 1, [KBS_TRUTH_TRUE] = 2};

    return all ? rank[next] < rank[so_far] : rank[next] > rank[so_far];
}

/* Of a list that passed the check; `find` gives the result of an element. */
typedef struct kbs_finding find_fn(const json_t *element, const void *ctx);

static struct kbs_finding list_find(const json_t *v, find_fn *find, const void *ctx)
{
    struct kbs_finding f = {.truth = KBS_TRUTH_FALSE};
    bool all;
    const json_t *list = kbs_group_of(v, &all);
    enum kbs_truth final = all ? KBS_TRUTH_FALSE : KBS_TRUTH_TRUE;

    for (size_t i = 0; i < json_array_size(list); i++) {
        struct kbs_finding next = find(json_array_get(list, i), ctx);

        if (i == 0 || finding_wins(next.truth, f.truth, all)) {
            f = next;
        }
        if (f.truth == final) {
            break;
        }
    }
    return f;
}

static struct kbs_finding condition_find(const json_t *condition, const void *scope)
{
    return kbs_condition_find(condition, scope);
}

static struct kbs_finding entry_find(const json_t *entry, const void *subject)
{
    return kbs_entry_find(entry, subject);
}

struct kbs_finding kbs_condition_find(const json_t *condition, const struct kbs_scope *scope)
{
    const json_t *inner = json_object_get(condition, "not");

    if (json_object_get(condition, "claim") != NULL) {
        return claim_find(condition, scope);
    }
    if (inner != NULL) {
        struct kbs_finding f = kbs_condition_find(inner, scope);

        f.truth = kbs_truth_not(f.truth);
        return f;
    }
    return list_find(condition, condition_find, scope);
}

bool kbs_entry_scope(const json_t *entry, const struct kbs_policy_subject *subject,
                     struct kbs_scope *ret)
{
    struct kbs_span authority = string_of(json_object_get(entry, "authority"));
    struct kbs_span ours = string_of(json_object_get(subject->input, "iss"));

    *ret = (struct kbs_scope){.claims = subject->input, .kbs = subject->kbs};
    if (authority.len == 0 || kbs_span_equal(authority, ours)) {
        return true;
    }
    ret->claims = subject->vouched;
    return subject->vouched != NULL && kbs_span_equal(authority, subject->authority);
}

struct kbs_finding kbs_entry_find(const json_t *entry, const struct kbs_policy_subject *subject)
{
    struct kbs_scope scope;

    if (!kbs_entry_scope(entry, subject, &scope)) {
        return (struct kbs_finding){.truth = KBS_TRUTH_FALSE, .at = entry, .why = "differs"};
    }
    return list_find(entry, condition_find, &scope);
}

struct kbs_finding kbs_policy_find(const json_t *policy, const struct kbs_policy_subject *subject)
{
    return list_find(policy, entry_find, subject);
}

/*
 * Appends "; anyOf[i] <path> differs" if all of it fits; the first is cut off rather than left out.
 */
static void reason_add(char *detail, size_t size, bool all, size_t i, const struct kbs_finding *f)
{
    const char *path = json_string_value(json_object_get(f->at, "claim"));
    size_t used = strlen(detail);
    int n = snprintf(detail + used, size - used, "%s %s[%zu] %s %s", used == 0 ? "" : ";",
                     all ? "allOf" : "anyOf", i, path != NULL ? path : "authority", f->why);

    if (used > 0 && (n < 0 || (size_t)n >= size - used)) {
        detail[used] = '\0';
    }
}

int kbs_policy_decide_loaded(const json_t *policy, const struct kbs_policy_subject *subject,
                             struct kbs_error *err)
{
    char reasons[KBS_LIMIT_ERROR_DETAIL_BYTES - sizeof("policy:")] = "";
    bool all;
    const json_t *entries = kbs_group_of(policy, &all);

    if (kbs_policy_find(policy, subject).truth == KBS_TRUTH_TRUE) {
        return 0;
    }
    for (size_t i = 0; i < json_array_size(entries); i++) {
        struct kbs_finding f = kbs_entry_find(json_array_get(entries, i), subject);

        if (f.truth != KBS_TRUTH_TRUE) {
            reason_add(reasons, sizeof(reasons), all, i, &f);
        }
    }
    return kbs_fail(err, KBS_DENIED, "policy:%s", reasons);
}
