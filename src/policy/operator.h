/* What a release policy can ask of a claim: the operators, a row each. Grammar in release.h. */
#ifndef KBS_POLICY_OPERATOR_H
#define KBS_POLICY_OPERATOR_H

#include <jansson.h>
#include <stdbool.h>

/* Kleene's three values. Only TRUE releases anything, and no operator makes it out of UNKNOWN. */
enum kbs_truth {
    KBS_TRUTH_FALSE,
    KBS_TRUTH_TRUE,
    KBS_TRUTH_UNKNOWN /* the claim is absent, or of a type that cannot be compared */
};
const char *kbs_truth_name(enum kbs_truth v); /* "false", "true", "unknown" */
enum kbs_truth kbs_truth_not(enum kbs_truth v);

struct kbs_operator {
    const char *name;
    bool (*takes)(const json_t *value); /* whether a policy may ask with that value */
    const char *wants;                  /* what it may ask with, for its author */
    /* found: the claim, NULL if it is absent or null; wanted has been taken */
    enum kbs_truth (*test)(const json_t *found, const json_t *wanted);
    const char *misses; /* what is said of a claim that is not as wanted */
};

/* The operator that a condition with a claim has, static. NULL if it has none, or several. */
const struct kbs_operator *kbs_operator_of(const json_t *condition);

#endif
