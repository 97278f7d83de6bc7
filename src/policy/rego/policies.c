/*
 * A small table that forgets. The process and its worker have one each and are asked the same
 * questions in the same order, so they know the same policies; a judge that asks about one that was
 * forgotten is told so and loads it again.
 */
#include "policy/rego/policies.h"

static void told(struct kbs_told *ret, enum kbs_rego_verdict outcome)
{
    const struct kbs_rego_why *why = &ret->why;
    size_t len = why->len < sizeof(why->text) ? why->len : sizeof(why->text);

    ret->verdict = (struct kbs_wire_verdict){.outcome = (uint8_t)outcome,
                                             .detail = kbs_span(why->text, len),
                                             .line = why->line,
                                             .column = why->column};
}

static const struct kbs_rego *find(struct kbs_policies *p, struct kbs_span digest, uint8_t query)
{
    p->questions++;
    for (size_t i = 0; i < KBS_LIMIT_POLICIES_LOADED; i++) {
        if (p->v[i].rego != NULL && p->v[i].query == query &&
            kbs_span_equal(digest, kbs_span(p->v[i].digest, sizeof(p->v[i].digest)))) {
            p->v[i].used = p->questions;
            return p->v[i].rego;
        }
    }
    return NULL;
}

/* Takes `rego`. */
static void keep(struct kbs_policies *p, struct kbs_rego *rego,
                 const struct kbs_wire_policy_load *question)
{
    size_t oldest = 0;

    for (size_t i = 1; i < KBS_LIMIT_POLICIES_LOADED; i++) {
        oldest = p->v[i].used < p->v[oldest].used ? i : oldest;
    }
    kbs_rego_free(p->v[oldest].rego);
    p->v[oldest].rego = rego;
    p->v[oldest].used = p->questions;
    p->v[oldest].query = question->query;
    memcpy(p->v[oldest].digest, question->digest.p, sizeof(p->v[oldest].digest));
}

void kbs_policies_load(struct kbs_policies *p, const struct kbs_wire_policy_load *question,
                       struct kbs_told *ret)
{
    *ret = (struct kbs_told){.why = {.len = 0}};
    if (find(p, question->digest, question->query) != NULL) {
        told(ret, KBS_REGO_LOADED);
        return;
    }
    struct kbs_rego *rego =
        kbs_rego_load(question->text.p, question->text.len, question->query, &ret->why);
    if (rego != NULL) {
        keep(p, rego, question);
    }
    told(ret, rego != NULL ? KBS_REGO_LOADED : KBS_REGO_ERROR);
}

static void eval_allow(const struct kbs_rego *rego, const struct kbs_wire_policy_eval *question,
                       struct kbs_told *ret)
{
    static const enum kbs_rego_verdict outcomes[] = {KBS_REGO_ERROR, KBS_REGO_DENY, KBS_REGO_ALLOW};
    int rc = kbs_rego_allow(rego, question->input.p, question->input.len, question->data.p,
                            question->data.len, &ret->why);

    told(ret, outcomes[rc + 1]);
}

static void eval_trust(const struct kbs_rego *rego, const struct kbs_wire_policy_eval *question,
                       struct kbs_told *ret)
{
    size_t len = 0;
    int rc = kbs_rego_trust(rego, question->input.p, question->input.len, question->data.p,
                            question->data.len, ret->result, sizeof(ret->result), &len, &ret->why);

    told(ret, rc == 1 ? KBS_REGO_RESULT : KBS_REGO_ERROR);
    ret->verdict.result = kbs_span(ret->result, len);
}

void kbs_policies_eval(struct kbs_policies *p, const struct kbs_wire_policy_eval *question,
                       struct kbs_told *ret)
{
    const struct kbs_rego *rego = find(p, question->digest, question->query);

    *ret = (struct kbs_told){.why = {.len = 0}};
    if (rego == NULL) {
        told(ret, KBS_REGO_UNKNOWN);
    } else if (question->query == KBS_REGO_QUERY_TRUST) {
        eval_trust(rego, question, ret);
    } else {
        eval_allow(rego, question, ret);
    }
}

void kbs_policies_deinit(struct kbs_policies *p)
{
    for (size_t i = 0; i < KBS_LIMIT_POLICIES_LOADED; i++) {
        kbs_rego_free(p->v[i].rego);
    }
    *p = (struct kbs_policies){.questions = 0};
}
