/*
 * Verdicts: what a verifier found out about one piece of evidence, check by check. This is the one
 * interface of all kinds of evidence:
 *
 *   parse   JSON or bytes -> the kind's own struct; KBS_INPUT if it has not the shape it must have
 *   verify  that, endorsements, the operator's policy and struct kbs_expected -> a verdict
 *
 * A verdict is a list of named checks, each passed, failed or not applicable, with a reason that a
 * person can act on; the kind's claims; and the binding level that follows from the checks. What a
 * failed check means for a session is the caller's to decide. No knowledge of sessions, store or
 * HTTP, and no clock: the time comes in.
 */
#ifndef KBS_ATTEST_VERDICT_H
#define KBS_ATTEST_VERDICT_H

#include <jansson.h>

#include "attest/initdata.h"
#include "base/error.h"
#include "base/span.h"
#include "base/terms.h"

#define KBS_VERDICT_CHECKS 40
#define KBS_VERDICT_WHY_BYTES 176
#define KBS_VERDICT_NEEDS_BYTES 256

enum kbs_outcome {
    KBS_OUTCOME_NOT_APPLICABLE = 0, /* nothing to check, or an earlier failure left nothing */
    KBS_OUTCOME_PASS,
    KBS_OUTCOME_FAIL
};
const char *kbs_outcome_name(enum kbs_outcome outcome); /* "n/a", "pass", "FAIL" */

/* What a kind of evidence is checked for; a static table per kind. */
struct kbs_check_kind {
    const char *name;        /* stable: audit records and tests go by it */
    enum kbs_binding needed; /* the lowest binding level that is lost when it does not hold */
};

struct kbs_check {
    const struct kbs_check_kind *kind;
    enum kbs_outcome outcome;
    char why[KBS_VERDICT_WHY_BYTES]; /* cut if longer; never a secret */
};

struct kbs_verdict {
    struct kbs_check checks[KBS_VERDICT_CHECKS]; /* in the order they were made */
    size_t count;
    json_t *claims; /* owned; what the evidence says, to be believed as far as the binding goes */
    enum kbs_init_data init_data; /* how the evidence's field relates to the init-data sent */
    /* What the verifier could not do without, as a path at the vendor's service; empty: nothing. */
    char needs[KBS_VERDICT_NEEDS_BYTES];
};
#define KBS_VERDICT_NULL ((struct kbs_verdict){.count = 0})
void kbs_verdict_deinit(struct kbs_verdict *v); /* safe twice, and on a zeroed one */

/* What every verifier is told beside the evidence. Borrowed. */
struct kbs_expected {
    struct kbs_span report_data; /* digest of the runtime data; empty: nothing to compare with */
    struct kbs_span init_data;   /* digest of the init-data that was sent; empty: none was */
    struct kbs_span
        endorsement; /* what an earlier verdict of this evidence needed; empty: nothing */
    int64_t now_s;   /* Unix seconds */
};

/* The signature of all verifiers. `with` is the kind's own struct. KBS_INPUT if the evidence does not
 * parse; 0 whatever the verdict is, which is the caller's to deinitialise. */
typedef int kbs_appraise_fn(const void *with, const json_t *evidence,
                            const struct kbs_expected *expected, struct kbs_verdict *ret,
                            struct kbs_error *err);
/* A verifier that is configured. Borrowed. */
struct kbs_verifier {
    kbs_appraise_fn *appraise; /* NULL: none is */
    const void *with;
    const char
        *kds; /* endpoint of the vendor's service, where what a verdict needs is; NULL: none */
    /* Documents that are asked for again and again, ended by NULL, and who takes them; NULL: none.
     * A document is verified by who takes it. KBS_INPUT for one that is no good. */
    const char *const *documents;
    int (*renew)(void *keeper, const char *name, struct kbs_span content, bool *ret_taken,
                 struct kbs_error *err);
    void *keeper;
};

/* Adds a check. The names of a verdict are its own table's, each at most once. */
void kbs_verdict_pass(struct kbs_verdict *v, const struct kbs_check_kind *kind, const char *fmt,
                      ...) KBS_PRINTF(3, 4);
void kbs_verdict_fail(struct kbs_verdict *v, const struct kbs_check_kind *kind, const char *fmt,
                      ...) KBS_PRINTF(3, 4);
void kbs_verdict_skip(struct kbs_verdict *v, const struct kbs_check_kind *kind, const char *fmt,
                      ...) KBS_PRINTF(3, 4);

/* By name; NULL if it was not made. Returns borrowed. */
const struct kbs_check *kbs_verdict_check(const struct kbs_verdict *v, const char *name);
/* The first that failed; NULL if none did. Returns borrowed. */
const struct kbs_check *kbs_verdict_failed(const struct kbs_verdict *v);

/*
 * The binding level reached: KBS_BINDING_NONE unless a check of level KBS_BINDING_EVIDENCE passed
 * (the report data is the session's), else the highest level below all that failed checks need.
 */
enum kbs_binding kbs_verdict_binding(const struct kbs_verdict *v);

/* 0, or KBS_UNAUTHENTICATED with the first failed check as its detail. */
KBS_MUST_CHECK int kbs_verdict_require(const struct kbs_verdict *v, struct kbs_error *err);

/* What an EAR says of it (AR4SI trust claims). */
struct kbs_trust {
    const char *status; /* "affirming", "warning", "contraindicated"; static */
    int hardware;
    int executables;
    int configuration;
};
/*
 * hardware 2 (genuine) or, if a check failed that a level up to KBS_BINDING_HARDWARE needs, 97 (not
 * recognised); configuration 3 (nothing unsafe known) or 32 (unsafe) by the checks above it;
 * executables 33 (not recognised): measurements are compared with reference values elsewhere. status
 * is that of the worst of them.
 */
struct kbs_trust kbs_verdict_trust(const struct kbs_verdict *v);

/* {"binding", "init_data", "checks":[{"name","outcome","why"}], "claims"}. Returns owned, NULL if
 * out of memory. */
json_t *kbs_verdict_json(const struct kbs_verdict *v);

#endif
