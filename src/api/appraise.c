/*
 * What verified evidence is worth.
 *
 * The problem: that is the operator's to say, by reference values and by a policy in Rego, and a
 * guest that was told of no trust must not get more by a policy that breaks. The approach: if there
 * is an attestation policy for the class of the evidence, its vector is the one that counts, and
 * one that gives none fails the attestation; without a policy the reference values are compared by
 * the built-in table (attest/appraise.c).
 *
 * The policy is chosen as CoCo's attestation service chooses it: `default_<class>`; one of the
 * plain name `default` serves all classes that have none of their own. ear.appraisal-policy-id
 * names policy and version.
 */
#include "api/context.h"

#include <stdio.h>

#include "attest/appraise.h"

struct appraisal {
    struct kbs_document policy;
    struct kbs_buf text;  /* of the policy */
    struct kbs_buf input; /* as JSON */
};

/* The policy of that name: 1, 0 if there is none, or -1. */
static int policy_named(struct kbs_api *api, const char *name, struct appraisal *a,
                        struct kbs_error *err)
{
    struct kbs_error found = KBS_ERROR_NONE;

    kbs_buf_clear(&a->text);
    if (kbs_document_get(api, KBS_DOCUMENT_ATTESTATION_POLICY, kbs_span_str(name), &a->policy,
                         &a->text, &found) == 0) {
        return 1;
    }
    if (found.category == KBS_MISSING) {
        return 0;
    }
    *err = found;
    return -1;
}

static int policy_find(struct kbs_api *api, const char *class, struct appraisal *a,
                       struct kbs_error *err)
{
    char name[64];
    int rc = 0;

    (void)snprintf(name, sizeof(name), "default_%s", class);
    rc = policy_named(api, name, a, err);
    return rc != 0 ? rc : policy_named(api, "default", a, err);
}

/* Asks the policy. What it does not say is a refusal of the evidence. */
static int policy_ask(struct kbs_api *api, const json_t *input, const struct kbs_references *known,
                      struct appraisal *a, struct kbs_ear_part *part, struct kbs_error *err)
{
    char why[KBS_LIMIT_ERROR_DETAIL_BYTES];

    (void)snprintf(part->policy, sizeof(part->policy), "%s/v%u", a->policy.name,
                   (unsigned int)a->policy.version);
    if (kbs_json_dump(input, &a->input, err) != 0) {
        return -1;
    }
    if (kbs_rego_trust(api, kbs_buf_span(&a->text), kbs_buf_span(&a->input),
                       kbs_buf_span(&known->data), &part->result.trust, err) == 0) {
        return 0;
    }
    if (err->category == KBS_DENIED) {
        (void)snprintf(why, sizeof(why), "%s", err->detail);
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the attestation policy %.60s: %.110s",
                        part->policy, why);
    }
    return -1;
}

static int appraise(struct kbs_call *call, const json_t *input, struct appraisal *a,
                    struct kbs_ear_part *part, struct kbs_error *err)
{
    const struct kbs_references *known = NULL;
    int rc = kbs_references_get(call->api, call->now_s, &known, err);

    if (rc == 0) {
        rc = policy_find(call->api, part->result.class, a, err);
    }
    if (rc != 0) {
        return rc > 0 ? policy_ask(call->api, input, known, a, part, err) : -1;
    }
    (void)snprintf(part->policy, sizeof(part->policy), "%s", KBS_EAR_POLICY_DEFAULT);
    kbs_appraise_builtin(part->tee, input, known->values, &part->result.trust, NULL, NULL);
    return 0;
}

int kbs_appraise(struct kbs_call *call, const struct kbs_ear *ear, size_t i,
                 struct kbs_ear_part *part, struct kbs_error *err)
{
    struct appraisal a = {.text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES),
                          .input = KBS_BUF(2 * KBS_LIMIT_JWT_BYTES - 256)};
    KBS_AUTO_JSON evidence = NULL;
    KBS_AUTO_JSON input = NULL;
    int rc = kbs_ear_evidence(ear, i, &evidence, err);

    if (rc == 0) {
        input = kbs_appraise_input(part->tee, evidence);
        rc = input != NULL ? appraise(call, input, &a, part, err)
                           : kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    kbs_buf_deinit(&a.text);
    kbs_buf_deinit(&a.input);
    return rc;
}
