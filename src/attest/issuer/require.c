/* What an operator requires of tokens, and how members of claims are read. */
#include "attest/issuer/profile.h"

static const char *const names[KBS_REQUIRE_COUNT] = {
    [KBS_REQUIRE_TEES] = "tees",
    [KBS_REQUIRE_POLICY_IDS] = "policy_ids",
    [KBS_REQUIRE_POLICY_HASHES] = "policy_hashes",
    [KBS_REQUIRE_TCB_STATUSES] = "tcb_statuses",
    [KBS_REQUIRE_COMPLIANCE] = "compliance",
    [KBS_REQUIRE_MEASUREMENTS] = "measurements",
    [KBS_REQUIRE_ID_KEYS] = "id_keys",
    [KBS_REQUIRE_HOST_DATA] = "host_data",
    [KBS_REQUIRE_IMAGES] = "images",
    [KBS_REQUIRE_SUPPORT] = "support",
    [KBS_REQUIRE_SUBMODS] = "submods",
    [KBS_REQUIRE_CANONICAL_RUNTIME] = "canonical_runtime",
};

const char *kbs_require_name(enum kbs_require r)
{
    return (unsigned int)r < KBS_REQUIRE_COUNT ? names[r] : "unknown";
}

enum kbs_require kbs_require_from_name(struct kbs_span name)
{
    unsigned int r = 0;

    while (r < KBS_REQUIRE_COUNT && !kbs_span_equal_str(name, names[r])) {
        r++;
    }
    return (enum kbs_require)r;
}

bool kbs_require_given(const struct kbs_issuer_job *job, enum kbs_require r)
{
    return job->issuer->require[r].n > 0;
}

bool kbs_require_lists(const struct kbs_issuer_job *job, enum kbs_require r, struct kbs_span value)
{
    const struct kbs_issuer_list *list = &job->issuer->require[r];

    for (size_t i = 0; i < list->n; i++) {
        if (kbs_span_equal_str(value, list->v[i])) {
            return true;
        }
    }
    return false;
}

int kbs_require_member(const struct kbs_issuer_job *job, enum kbs_require r, const json_t *object,
                       const char *name, const char *fallback, struct kbs_error *err)
{
    struct kbs_span value = kbs_claim_text(object, name);
    bool allowed;

    if (kbs_require_given(job, r)) {
        allowed = kbs_require_lists(job, r, value);
    } else {
        allowed = fallback != NULL && kbs_span_equal_str(value, fallback);
    }
    return allowed ? 0
                   : kbs_fail(err, KBS_UNAUTHENTICATED,
                              "attestation token: \"%s\" is not one that is allowed here", name);
}

int kbs_require_tee(struct kbs_issuer_job *job, enum kbs_tee tee, struct kbs_error *err)
{
    if (tee == KBS_TEE_NONE) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: it is of a kind of TEE that is not known here");
    }
    if (kbs_evidence_is_sample(tee) && !job->allow_sample) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: sample evidence is not allowed here");
    }
    if (kbs_require_given(job, KBS_REQUIRE_TEES) &&
        !kbs_require_lists(job, KBS_REQUIRE_TEES, kbs_span_str(kbs_tee_name(tee)))) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: %s is not a kind of TEE that its issuer is trusted for",
                        kbs_tee_name(tee));
    }
    if (job->session && job->expected->tee != KBS_TEE_NONE && tee != job->expected->tee) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: it is of %s, the session is not", kbs_tee_name(tee));
    }
    job->ret->tee = tee;
    return 0;
}

struct kbs_span kbs_claim_text(const json_t *object, const char *name)
{
    const json_t *v = json_object_get(object, name);

    return json_is_string(v) ? kbs_span(json_string_value(v), json_string_length(v))
                             : KBS_SPAN_EMPTY;
}

bool kbs_claim_is(const json_t *object, const char *name, const char *value)
{
    return kbs_span_equal_str(kbs_claim_text(object, name), value);
}

int kbs_claim_must_be(const json_t *object, const char *name, bool value, struct kbs_error *err)
{
    const json_t *v = json_object_get(object, name);
    bool same = value ? json_is_true(v) || kbs_claim_is(object, name, "true")
                      : json_is_false(v) || kbs_claim_is(object, name, "false");

    return same ? 0
                : kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: \"%s\" is not %s", name,
                           value ? "true" : "false");
}
