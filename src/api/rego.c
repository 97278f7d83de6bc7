/*
 * Rego policies, by asking kbs-policy.
 *
 * The problem: a policy in Rego is a program that an administrator wrote, run on claims that a guest
 * sent. The approach: it is run by somebody else (src/policy/rego), who is told its text once and
 * then only its digest; and whatever comes back that is not "allow" is a denial. A policy that
 * cannot be evaluated denies, with its reason.
 *
 * kbs-policy bounds each question; a channel that is silent for longer is of no more use, so the
 * judge leaves and its lane is replaced.
 */
#include "api/context.h"

#include "base/log.h"

/* At the other end a question is at most two bounded steps, on a machine that may be busy. */
#define REGO_MS (2 * KBS_LIMIT_POLICY_EVAL_MS + 3000)

static int rego_ask(struct kbs_api *api, enum kbs_wire_type type, const void *question,
                    struct kbs_wire_verdict *ret, struct kbs_error *err)
{
    struct kbs_error failed = KBS_ERROR_NONE;

    if (kbs_channel_call(api->policy_fd, type, question, KBS_WIRE_VERDICT, ret, &api->policy_answer,
                         kbs_deadline_in_ms(REGO_MS), &failed) != 0) {
        api->must_exit = KBS_EXIT_FAILURE;
        return kbs_fail(err, KBS_BUSY, "the policy engine does not answer");
    }
    return 0;
}

static int rego_load(struct kbs_api *api, enum kbs_rego_query query, struct kbs_span digest,
                     struct kbs_span policy, struct kbs_wire_verdict *ret, struct kbs_error *err)
{
    const struct kbs_wire_policy_load question = {
        .digest = digest, .text = policy, .query = (uint8_t)query};

    return rego_ask(api, KBS_WIRE_POLICY_LOAD, &question, ret, err);
}

static int rego_available(const struct kbs_api *api, enum kbs_rego_query query,
                          struct kbs_error *err)
{
    return api->policy_fd >= 0
               ? 0
               : kbs_fail(err, KBS_UNSUPPORTED,
                          "%s policy is set, and this service has no kbs-policy to evaluate Rego",
                          query == KBS_REGO_QUERY_ALLOW ? "a resource" : "an attestation");
}

int kbs_rego_check(struct kbs_api *api, enum kbs_rego_query query, struct kbs_span policy,
                   struct kbs_error *err)
{
    struct kbs_wire_verdict verdict;
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_sha256(policy, digest);
    if (rego_available(api, query, err) != 0 ||
        rego_load(api, query, kbs_span(digest, sizeof(digest)), policy, &verdict, err) != 0) {
        return -1;
    }
    if (verdict.outcome != KBS_REGO_LOADED) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the policy, line %u, column %u: %.*s",
                        (unsigned int)verdict.line, (unsigned int)verdict.column,
                        (int)verdict.detail.len, (const char *)verdict.detail.p);
    }
    return 0;
}

/* A policy that cannot be evaluated may quote what it reads: that is for the log. */
static void log_error(const struct kbs_wire_verdict *verdict)
{
    char text[2 * KBS_LIMIT_ERROR_DETAIL_BYTES];

    kbs_log(KBS_LOG_WARN, "policy-error", "line=%u column=%u why=%s", (unsigned int)verdict->line,
            (unsigned int)verdict->column, kbs_log_text(verdict->detail, text, sizeof(text)));
}

/* Asks, and says what the policy is if it is not known, or no longer. */
static int rego_eval(struct kbs_api *api, const struct kbs_wire_policy_eval *question,
                     struct kbs_span policy, struct kbs_wire_verdict *ret, struct kbs_error *err)
{
    if (rego_available(api, (enum kbs_rego_query)question->query, err) != 0 ||
        rego_ask(api, KBS_WIRE_POLICY_EVAL, question, ret, err) != 0) {
        return -1;
    }
    if (ret->outcome == KBS_REGO_UNKNOWN && rego_load(api, (enum kbs_rego_query)question->query,
                                                      question->digest, policy, ret, err) != 0) {
        return -1;
    }
    return ret->outcome == KBS_REGO_LOADED ? rego_ask(api, KBS_WIRE_POLICY_EVAL, question, ret, err)
                                           : 0;
}

static int rego_denies(const struct kbs_wire_verdict *verdict, struct kbs_error *err)
{
    if (verdict->outcome == KBS_REGO_DENY) {
        return kbs_fail(err, KBS_DENIED, "the resource policy denies: %.*s",
                        (int)verdict->detail.len, (const char *)verdict->detail.p);
    }
    log_error(verdict);
    return kbs_fail(err, KBS_DENIED, "the resource policy cannot be evaluated (line %u, column %u)",
                    (unsigned int)verdict->line, (unsigned int)verdict->column);
}

int kbs_rego_decide(struct kbs_api *api, struct kbs_span policy, struct kbs_span input,
                    struct kbs_span data, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    const struct kbs_wire_policy_eval question = {.digest = kbs_span(digest, sizeof(digest)),
                                                  .input = input,
                                                  .data = data,
                                                  .query = KBS_REGO_QUERY_ALLOW};
    struct kbs_wire_verdict verdict;

    kbs_sha256(policy, digest);
    if (rego_eval(api, &question, policy, &verdict, err) != 0) {
        return -1;
    }
    return verdict.outcome == KBS_REGO_ALLOW ? 0 : rego_denies(&verdict, err);
}

int kbs_rego_trust(struct kbs_api *api, struct kbs_span policy, struct kbs_span input,
                   struct kbs_span data, struct kbs_trust_vector *ret, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    const struct kbs_wire_policy_eval question = {.digest = kbs_span(digest, sizeof(digest)),
                                                  .input = input,
                                                  .data = data,
                                                  .query = KBS_REGO_QUERY_TRUST};
    KBS_AUTO_JSON claims = NULL;
    struct kbs_wire_verdict verdict;

    kbs_sha256(policy, digest);
    if (rego_eval(api, &question, policy, &verdict, err) != 0) {
        return -1;
    }
    if (verdict.outcome != KBS_REGO_RESULT) {
        log_error(&verdict);
        return kbs_fail(err, KBS_DENIED, "it cannot be evaluated (line %u, column %u)",
                        (unsigned int)verdict.line, (unsigned int)verdict.column);
    }
    if (kbs_json_parse_object(verdict.result, "its result", &claims, err) != 0 ||
        kbs_trust_read(claims, ret, err) != 0) {
        err->category = KBS_DENIED;
        return -1;
    }
    return 0;
}
