/*
 * Operators.
 *
 * A comparison is by type and value and never converts: "1", 1 and true differ, and MAA has claims of
 * which older releases are text and newer ones boolean. A claim that cannot be compared, because it
 * is absent, null, a number with a fraction, an object, an array or of another type than what it is
 * compared with, is neither as wanted nor not: UNKNOWN. So `not` and `notEquals` never turn a claim
 * that the author mistyped, or a token left out, into a release. `exists` alone tells absence.
 *
 * Versions are compared number by number from the left, missing ones being 0: 1.10 is above 1.9, and
 * 1.2 is 1.2.0. What is not digits and dots is no version.
 */
#include "policy/operator.h"

#include <string.h>

#include "base/span.h"

#define VERSION_NUMBERS 8
#define VERSION_DIGITS 9

const char *kbs_truth_name(enum kbs_truth v)
{
    static const char *const names[] = {"false", "true", "unknown"};

    return names[v];
}

enum kbs_truth kbs_truth_not(enum kbs_truth v)
{
    static const enum kbs_truth opposite[] = {KBS_TRUTH_TRUE, KBS_TRUTH_FALSE, KBS_TRUTH_UNKNOWN};

    return opposite[v];
}

static enum kbs_truth truth_of(bool v)
{
    return v ? KBS_TRUTH_TRUE : KBS_TRUTH_FALSE;
}

/* ---- what a policy may ask with ---- */

static bool takes_scalar(const json_t *v)
{
    return json_is_string(v) || json_is_integer(v) || json_is_boolean(v);
}

static bool takes_integer(const json_t *v)
{
    return json_is_integer(v);
}

static bool takes_boolean(const json_t *v)
{
    return json_is_boolean(v);
}

static bool takes_text(const json_t *v)
{
    return json_is_string(v) && json_string_length(v) != 0;
}

static bool takes_list(const json_t *v)
{
    for (size_t i = 0; i < json_array_size(v); i++) {
        if (!takes_scalar(json_array_get(v, i))) {
            return false;
        }
    }
    return json_array_size(v) != 0;
}

struct version {
    uint32_t number[VERSION_NUMBERS];
};

static bool version_read(const json_t *v, struct version *ret)
{
    const char *p = json_string_value(v);
    const char *end = p != NULL ? p + json_string_length(v) : p;
    size_t n = 0;

    *ret = (struct version){.number = {0}};
    for (; p != NULL && n < VERSION_NUMBERS; p++) {
        size_t digits = 0;

        for (; p < end && *p >= '0' && *p <= '9' && digits < VERSION_DIGITS; p++, digits++) {
            ret->number[n] = 10 * ret->number[n] + (uint32_t)(*p - '0');
        }
        if (digits == 0 || (p < end && *p != '.')) {
            return false;
        }
        if (p == end) {
            return true;
        }
        n++;
    }
    return false;
}

static bool takes_least(const json_t *v)
{
    struct version ignored;

    return json_is_integer(v) || version_read(v, &ignored);
}

/* ---- tests ---- */

/* json_equal() is by type and value; true and false are types of their own to jansson. */
static enum kbs_truth test_equals(const json_t *found, const json_t *wanted)
{
    bool comparable = (json_is_string(found) && json_is_string(wanted)) ||
                      (json_is_integer(found) && json_is_integer(wanted)) ||
                      (json_is_boolean(found) && json_is_boolean(wanted));

    return comparable ? truth_of(json_equal(found, wanted) == 1) : KBS_TRUTH_UNKNOWN;
}

static enum kbs_truth test_not_equals(const json_t *found, const json_t *wanted)
{
    return kbs_truth_not(test_equals(found, wanted));
}

/* As an anyOf of `equals`. */
static enum kbs_truth test_in(const json_t *found, const json_t *wanted)
{
    enum kbs_truth best = KBS_TRUTH_UNKNOWN;

    for (size_t i = 0; i < json_array_size(wanted); i++) {
        enum kbs_truth one = test_equals(found, json_array_get(wanted, i));

        if (one == KBS_TRUTH_TRUE) {
            return one;
        }
        best = one == KBS_TRUTH_FALSE ? one : best;
    }
    return best;
}

static enum kbs_truth test_prefix(const json_t *found, const json_t *wanted)
{
    size_t n = json_string_length(wanted);

    if (!json_is_string(found)) {
        return KBS_TRUTH_UNKNOWN;
    }
    return truth_of(json_string_length(found) >= n &&
                    memcmp(json_string_value(found), json_string_value(wanted), n) == 0);
}

/* Below 0, 0, above 0. False if the two cannot be compared. */
static bool integers_compare(const json_t *a, const json_t *b, int *ret)
{
    json_int_t x = json_integer_value(a);
    json_int_t y = json_integer_value(b);

    *ret = x < y ? -1 : x > y;
    return json_is_integer(a) && json_is_integer(b);
}

static bool versions_compare(const json_t *a, const json_t *b, int *ret)
{
    struct version x;
    struct version y;

    *ret = 0;
    if (!version_read(a, &x) || !version_read(b, &y)) {
        return false;
    }
    for (size_t i = 0; i < VERSION_NUMBERS && *ret == 0; i++) {
        *ret = x.number[i] < y.number[i] ? -1 : x.number[i] > y.number[i];
    }
    return true;
}

static enum kbs_truth test_at_least(const json_t *found, const json_t *wanted)
{
    int order = 0;

    return integers_compare(found, wanted, &order) || versions_compare(found, wanted, &order)
               ? truth_of(order >= 0)
               : KBS_TRUTH_UNKNOWN;
}

static enum kbs_truth test_greater_or_equals(const json_t *found, const json_t *wanted)
{
    int order = 0;

    return integers_compare(found, wanted, &order) ? truth_of(order >= 0) : KBS_TRUTH_UNKNOWN;
}

static enum kbs_truth test_greater(const json_t *found, const json_t *wanted)
{
    int order = 0;

    return integers_compare(found, wanted, &order) ? truth_of(order > 0) : KBS_TRUTH_UNKNOWN;
}

static enum kbs_truth test_less_or_equals(const json_t *found, const json_t *wanted)
{
    return kbs_truth_not(test_greater(found, wanted));
}

static enum kbs_truth test_less(const json_t *found, const json_t *wanted)
{
    return kbs_truth_not(test_greater_or_equals(found, wanted));
}

static enum kbs_truth test_exists(const json_t *found, const json_t *wanted)
{
    return truth_of((found != NULL) == json_is_true(wanted));
}

#define SCALAR "a string, an integer or a boolean"
#define INTEGER "an integer"

static const struct kbs_operator operators[] = {
    {"equals", takes_scalar, SCALAR, test_equals, "differs"},
    {"notEquals", takes_scalar, SCALAR, test_not_equals, "is excluded"},
    {"in", takes_list, "a list of strings, integers or booleans", test_in, "differs"},
    {"prefix", takes_text, "a string that is not empty", test_prefix, "differs"},
    {"at-least", takes_least, "an integer or a version such as \"1.55.22\"", test_at_least,
     "is too low"},
    {"greater", takes_integer, INTEGER, test_greater, "is too low"},
    {"greaterOrEquals", takes_integer, INTEGER, test_greater_or_equals, "is too low"},
    {"less", takes_integer, INTEGER, test_less, "is too high"},
    {"lessOrEquals", takes_integer, INTEGER, test_less_or_equals, "is too high"},
    {"exists", takes_boolean, "a boolean", test_exists, "is there"},
};

const struct kbs_operator *kbs_operator_of(const json_t *condition)
{
    const struct kbs_operator *found = NULL;

    for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++) {
        if (json_object_get(condition, operators[i].name) == NULL) {
            continue;
        }
        if (found != NULL) {
            return NULL;
        }
        found = &operators[i];
    }
    return found;
}
