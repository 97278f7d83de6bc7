/*
 * Submodules of the one claims model, from an issuer's own appraisals or from rules of ours
 * (draft-ietf-rats-ear, draft-ietf-rats-ar4si).
 *
 * A status is only as good as what it stands on: one that is better than the worst of its trust claims is
 * refused, whoever signed it, and so is an affirming one with nothing affirmed. What a foreign token says
 * under a name of ours is dropped: `ear.kbs-hsm.*` is for us to say.
 */
#include "attest/issuer/profile.h"

#include <stdio.h>

#include "attest/ear.h"
#include "base/encoding.h"

#define OURS "ear.kbs-hsm."
#define STATUS "ear.status"
#define VECTOR "ear.trustworthiness-vector"

/* From best to worst, as far as a policy is concerned: what says nothing is worth less than what affirms. */
static const char *const statuses[] = {"affirming", "none", "warning", "contraindicated"};
#define STATUS_COUNT 4
#define NONE_RANK 1

static int status_rank(struct kbs_span name)
{
    for (int i = 0; i < STATUS_COUNT; i++) {
        if (kbs_span_equal_str(name, statuses[i])) {
            return i;
        }
    }
    return -1;
}

/* AR4SI section 3.2: negative values mirror the positive ones, one lower. -1 and 1 say that appraisal failed. */
static int claim_rank(json_int_t v)
{
    json_int_t n = v < 0 ? -v - 1 : v;

    if (v >= -1 && v <= 1) {
        return NONE_RANK;
    }
    return n < 32 ? 0 : n < 96 ? 2 : 3;
}

/* The worst of a vector's claims; 0 (no claim) counts only where there is nothing else. */
static int vector_rank(const json_t *vector, int *ret, struct kbs_error *err)
{
    const char *name;
    json_t *v;
    int worst = -1;

    json_object_foreach((json_t *)(uintptr_t)vector, name, v)
    {
        json_int_t value = json_integer_value(v);
        int rank;

        if (!json_is_integer(v) || value < -128 || value > 127) {
            return kbs_fail(err, KBS_UNAUTHENTICATED,
                            "attestation token: a trust claim is not a small integer");
        }
        rank = value == 0 ? -1 : claim_rank(value);
        worst = rank > worst ? rank : worst;
    }
    *ret = worst >= 0 ? worst : NONE_RANK;
    return 0;
}

static int status_check(const json_t *members, int *ret, struct kbs_error *err)
{
    const json_t *vector = json_object_get(members, VECTOR);
    int rank = status_rank(kbs_claim_text(members, STATUS));
    int worst = NONE_RANK;

    if (rank < 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: a submodule has no valid status");
    }
    if (vector != NULL && !json_is_object(vector)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: a trustworthiness vector is not an object");
    }
    if (vector_rank(vector, &worst, err) != 0) {
        return -1;
    }
    if (rank < worst) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: a status is better than what it stands on");
    }
    *ret = rank;
    return 0;
}

/* Adds an appraisal that is ours by now; takes it. */
static int submod_add(struct kbs_issuer_job *job, const char *name, int rank, json_t *submod,
                      struct kbs_error *err)
{
    struct kbs_issuer_result *ret = job->ret;

    if (submod == NULL ||
        json_object_set_new(submod, KBS_EAR_AUTHORITY, json_string(job->authority)) != 0 ||
        json_object_set_new(submod, KBS_EAR_PROFILE, json_string(job->issuer->kind->name)) != 0) {
        json_decref(submod);
        return kbs_fail(err, KBS_INTERNAL, "attestation token: its claims cannot be built");
    }
    if (ret->submods == NULL) {
        ret->submods = json_object();
    }
    if (json_object_set_new(ret->submods, name, submod) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "attestation token: its claims cannot be built");
    }
    if (ret->status == NULL || status_rank(kbs_span_str(ret->status)) < rank) {
        ret->status = statuses[rank];
    }
    return 0;
}

int kbs_issuer_appraisal_take(struct kbs_issuer_job *job, const struct kbs_appraisal *appraisal,
                              struct kbs_error *err)
{
    json_t *submod = NULL;
    const char *name;
    json_t *v;
    int rank = 0;

    if (!json_is_object(appraisal->members)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: a submodule is not an object");
    }
    if (status_check(appraisal->members, &rank, err) != 0) {
        return -1;
    }
    submod = json_object();
    json_object_foreach((json_t *)(uintptr_t)appraisal->members, name, v)
    {
        if (strncmp(name, OURS, strlen(OURS)) != 0) {
            (void)json_object_set(submod, name, v);
        }
    }
    return submod_add(job, appraisal->name, rank, submod, err);
}

/* ---- what our rules give ---- */

static int derived_rank(const struct kbs_derived *d)
{
    const int values[] = {d->hardware, d->executables, d->configuration};
    int worst = -1;

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        int rank = values[i] == 0 ? -1 : claim_rank(values[i]);

        worst = rank > worst ? rank : worst;
    }
    return worst >= 0 ? worst : NONE_RANK;
}

static int vector_set(json_t *vector, const char *name, int value)
{
    return value == 0 ? 0 : json_object_set_new(vector, name, json_integer(value));
}

/* annotated-evidence: the claims verbatim, and beside them what every kind of evidence has, by Trustee's names. */
static json_t *derived_evidence(const struct kbs_derived *d)
{
    json_t *evidence = json_pack("{s:O}", kbs_tee_name(d->tee), d->claims);
    char hex[2 * KBS_ISSUER_FIELD_MAX_BYTES + 1];
    int failed = evidence == NULL ? -1 : 0;

    if (failed == 0 && d->report_data.len != 0) {
        kbs_hex_cstr(d->report_data, hex, sizeof(hex));
        failed = json_object_set_new(evidence, "report_data", json_string(hex));
    }
    if (failed == 0 && d->runtime_data != NULL) {
        failed =
            json_object_set(evidence, "runtime_data_claims", (json_t *)(uintptr_t)d->runtime_data);
    }
    if (failed == 0 && d->init_data != NULL) {
        failed = json_object_set_new(evidence, "init_data", json_string(d->init_data));
    }
    if (failed != 0) {
        json_decref(evidence);
        evidence = NULL;
    }
    return evidence;
}

int kbs_issuer_derived_add(struct kbs_issuer_job *job, const struct kbs_derived *d,
                           struct kbs_error *err)
{
    struct kbs_span id = d->policy_id.len != 0 ? d->policy_id : kbs_span_str(job->issuer->name);
    int rank = derived_rank(d);
    KBS_AUTO_JSON vector = json_object();
    json_t *submod;

    if (vector_set(vector, "hardware", d->hardware) != 0 ||
        vector_set(vector, "executables", d->executables) != 0 ||
        vector_set(vector, "configuration", d->configuration) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "attestation token: its claims cannot be built");
    }
    submod = json_pack("{s:s, s:O, s:s%, s:s, s:o}", STATUS, statuses[rank], VECTOR, vector,
                       "ear.appraisal-policy-id", (const char *)id.p, id.len, KBS_EAR_CLAIMS_AT,
                       kbs_tee_name(d->tee), KBS_ISSUER_EVIDENCE, derived_evidence(d));
    return submod_add(job, d->name, rank, submod, err);
}
