/*
 * A verdict is a fixed array: a verifier makes each of its checks exactly once, so the number is
 * known when its table is written, and running over it is a mistake of ours that must not be
 * survivable (a check that was silently dropped would be a check that passed).
 */
#include "attest/verdict.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

const char *kbs_outcome_name(enum kbs_outcome outcome)
{
    static const char *const names[] = {
        [KBS_OUTCOME_NOT_APPLICABLE] = "n/a",
        [KBS_OUTCOME_PASS] = "pass",
        [KBS_OUTCOME_FAIL] = "FAIL",
    };

    return (unsigned int)outcome < sizeof(names) / sizeof(names[0]) ? names[outcome] : "unknown";
}

void kbs_verdict_deinit(struct kbs_verdict *v)
{
    json_decref(v->claims);
    *v = KBS_VERDICT_NULL;
}

KBS_PRINTF(4, 0)
static void add(struct kbs_verdict *v, const struct kbs_check_kind *kind, enum kbs_outcome outcome,
                const char *fmt, va_list args)
{
    if (v->count >= KBS_VERDICT_CHECKS || kbs_verdict_check(v, kind->name) != NULL) {
        abort();
    }
    struct kbs_check *c = &v->checks[v->count++];
    c->kind = kind;
    c->outcome = outcome;
    (void)vsnprintf(c->why, sizeof(c->why), fmt, args);
}

void kbs_verdict_pass(struct kbs_verdict *v, const struct kbs_check_kind *kind, const char *fmt,
                      ...)
{
    va_list args;

    va_start(args, fmt);
    add(v, kind, KBS_OUTCOME_PASS, fmt, args);
    va_end(args);
}

void kbs_verdict_fail(struct kbs_verdict *v, const struct kbs_check_kind *kind, const char *fmt,
                      ...)
{
    va_list args;

    va_start(args, fmt);
    add(v, kind, KBS_OUTCOME_FAIL, fmt, args);
    va_end(args);
}

void kbs_verdict_skip(struct kbs_verdict *v, const struct kbs_check_kind *kind, const char *fmt,
                      ...)
{
    va_list args;

    va_start(args, fmt);
    add(v, kind, KBS_OUTCOME_NOT_APPLICABLE, fmt, args);
    va_end(args);
}

const struct kbs_check *kbs_verdict_check(const struct kbs_verdict *v, const char *name)
{
    for (size_t i = 0; i < v->count; i++) {
        if (strcmp(v->checks[i].kind->name, name) == 0) {
            return &v->checks[i];
        }
    }
    return NULL;
}

const struct kbs_check *kbs_verdict_failed(const struct kbs_verdict *v)
{
    for (size_t i = 0; i < v->count; i++) {
        if (v->checks[i].outcome == KBS_OUTCOME_FAIL) {
            return &v->checks[i];
        }
    }
    return NULL;
}

enum kbs_binding kbs_verdict_binding(const struct kbs_verdict *v)
{
    enum kbs_binding reached = KBS_BINDING_FULL;
    bool bound = false;

    for (size_t i = 0; i < v->count; i++) {
        const struct kbs_check *c = &v->checks[i];

        if (c->outcome == KBS_OUTCOME_FAIL && c->kind->needed <= reached) {
            reached = c->kind->needed - 1;
        }
        bound |= c->outcome == KBS_OUTCOME_PASS && c->kind->needed == KBS_BINDING_EVIDENCE;
    }
    return bound && reached >= KBS_BINDING_EVIDENCE ? reached : KBS_BINDING_NONE;
}

int kbs_verdict_require(const struct kbs_verdict *v, struct kbs_error *err)
{
    const struct kbs_check *c = kbs_verdict_failed(v);

    if (c == NULL) {
        return 0;
    }
    return kbs_fail(err, KBS_UNAUTHENTICATED, "evidence: %s: %.150s", c->kind->name, c->why);
}

struct kbs_trust kbs_verdict_trust(const struct kbs_verdict *v)
{
    struct kbs_trust trust = {
        .status = "warning", .hardware = 2, .executables = 33, .configuration = 3};

    for (size_t i = 0; i < v->count; i++) {
        if (v->checks[i].outcome != KBS_OUTCOME_FAIL) {
            continue;
        }
        if (v->checks[i].kind->needed > KBS_BINDING_HARDWARE) {
            trust.configuration = 32;
        } else {
            trust.hardware = 97;
            trust.status = "contraindicated";
        }
    }
    return trust;
}

json_t *kbs_verdict_json(const struct kbs_verdict *v)
{
    json_t *checks = json_array();

    for (size_t i = 0; i < v->count; i++) {
        const struct kbs_check *c = &v->checks[i];
        json_t *one = json_pack("{s:s, s:s, s:s}", "name", c->kind->name, "outcome",
                                kbs_outcome_name(c->outcome), "why", c->why);

        if (json_array_append_new(checks, one) != 0) {
            json_decref(checks);
            return NULL;
        }
    }
    return json_pack("{s:s, s:s, s:o, s:O?}", "binding", kbs_binding_name(kbs_verdict_binding(v)),
                     "init_data", kbs_init_data_name(v->init_data), "checks", checks, "claims",
                     v->claims);
}
