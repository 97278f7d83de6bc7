/*
 * EARs of Veraison, by the profile of 2023 and that of draft-ietf-rats-ear-03, which names everything anew.
 *
 * Submodules are named after attestation schemes, so the configuration says which of them is the TEE and what kind
 * each is; one that it does not name is refused. Everything becomes Trustee's names; a token that mixes both
 * generations is refused. The top-level eat_nonce is the service's echo of what it was sent and proves
 * nothing about evidence; the nonce that counts is the appraisal's own, or the challenge in its claims.
 */
#include "attest/issuer/profile.h"

#define SUBMODS_MAX 16
#define CHALLENGE "cca-realm-challenge"

/* A generation: its profile, and how a name that we use is spelt in it. */
struct generation {
    const char *profile;
    bool dotted;
};

static const struct generation generations[] = {
    {"tag:github.com,2023:veraison/ear", true},
    {"tag:ietf.org,2026:rats/ear#03", false},
};

static const struct {
    const char *ours;
    const char *dotted;
    const char *plain;
} members[] = {
    {"ear.status", "ear.status", "ear_status"},
    {"ear.appraisal-policy-id", "ear.appraisal-policy-id", "ear_appraisal_policy_ids"},
    {"ear.veraison.policy-claims", "ear.veraison.policy-claims", "ear_veraison_policy_claims"},
    {"ear.veraison.key-attestation", "ear.veraison.key-attestation",
     "ear_veraison_key_attestation"},
};

static const struct generation *generation_of(const json_t *claims)
{
    for (size_t i = 0; i < sizeof(generations) / sizeof(generations[0]); i++) {
        if (kbs_claim_is(claims, "eat_profile", generations[i].profile)) {
            return &generations[i];
        }
    }
    return NULL;
}

/* True if a member is spelt as in the other generation. */
static bool mixes(const json_t *object, const struct generation *g)
{
    const char *foreign = g->dotted ? "ear_" : "ear.";
    const char *name;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)object, name, v)
    {
        if (strncmp(name, foreign, strlen(foreign)) == 0) {
            return true;
        }
    }
    return false;
}

/* Trust claims have hyphens in our names. Returns owned. */
static json_t *vector_of(const json_t *submod, const struct generation *g)
{
    const json_t *vector = json_object_get(submod, g->dotted ? "ear.trustworthiness-vector"
                                                             : "ear_trustworthiness_vector");
    json_t *ret = json_object();
    char ours[64];
    const char *name;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)vector, name, v)
    {
        size_t n = 0;

        for (; name[n] != '\0' && n + 1 < sizeof(ours); n++) {
            ours[n] = (char)(name[n] == '_' ? '-' : name[n]);
        }
        ours[n] = '\0';
        (void)json_object_set(ret, ours, v);
    }
    return ret;
}

/* The submodule by Trustee's names, its evidence under the kind of TEE. Returns owned. */
static json_t *normal_form(const json_t *submod, const struct generation *g, enum kbs_tee tee)
{
    json_t *ret = json_object();
    json_t *evidence = json_object_get(submod, g->dotted ? "ear.veraison.annotated-evidence"
                                                         : "ear_veraison_annotated_evidence");

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        json_t *v = json_object_get(submod, g->dotted ? members[i].dotted : members[i].plain);

        if (json_is_array(v)) {
            v = json_array_get(v, 0); /* of the policies, the first */
        }
        if (v != NULL) {
            (void)json_object_set(ret, members[i].ours, v);
        }
    }
    (void)json_object_set_new(ret, "ear.trustworthiness-vector", vector_of(submod, g));
    (void)json_object_set_new(ret, KBS_ISSUER_EVIDENCE,
                              evidence != NULL ? json_pack("{s:O}", kbs_tee_name(tee), evidence)
                                               : json_pack("{s:{}}", kbs_tee_name(tee)));
    return ret;
}

/* NAME=tee of the configuration; the first is the TEE's. */
static enum kbs_tee scheme_tee(const struct kbs_issuer_job *job, const char *name, bool *ret_first)
{
    const struct kbs_issuer_list *list = &job->issuer->require[KBS_REQUIRE_SUBMODS];
    size_t n = strlen(name);

    for (size_t i = 0; i < list->n; i++) {
        if (strncmp(list->v[i], name, n) == 0 && list->v[i][n] == '=') {
            *ret_first = i == 0;
            return kbs_tee_from_name(kbs_span_str(list->v[i] + n + 1));
        }
    }
    return KBS_TEE_NONE;
}

/* The nonce that was in the evidence: the appraisal's own, or the challenge of a CCA realm. */
static int nonce_check(struct kbs_issuer_job *job, const json_t *submod, const json_t *normal,
                       enum kbs_tee tee, struct kbs_error *err)
{
    const json_t *nonce = json_object_get(submod, "eat_nonce");
    const json_t *evidence =
        json_object_get(json_object_get(normal, KBS_ISSUER_EVIDENCE), kbs_tee_name(tee));
    const json_t *realm = json_object_get(evidence, "realm");
    struct kbs_buf field = KBS_BUF(KBS_ISSUER_FIELD_MAX_BYTES);
    enum kbs_text_form form = KBS_TEXT_BASE64URL;
    int rc;

    if (!job->session) {
        return 0;
    }
    if (nonce == NULL) {
        nonce = json_object_get(realm != NULL ? realm : evidence, CHALLENGE);
        form = KBS_TEXT_BASE64;
    }
    rc = kbs_issuer_bytes(nonce, form, "eat_nonce", &field, err);
    if (rc == 0) {
        rc = kbs_issuer_report_data(job, kbs_buf_span(&field), err);
    }
    kbs_buf_deinit(&field);
    return rc;
}

static int key_take(struct kbs_issuer_job *job, const json_t *normal, struct kbs_error *err)
{
    const json_t *attested = json_object_get(normal, "ear.veraison.key-attestation");

    return job->issuer->key_path != NULL
               ? kbs_issuer_key_take(job, err)
               : kbs_issuer_key_take_value(job, json_object_get(attested, "akpub"), err);
}

static int submod_take(struct kbs_issuer_job *job, const struct generation *g, const char *name,
                       const json_t *submod, struct kbs_error *err)
{
    bool first = false;
    enum kbs_tee tee = scheme_tee(job, name, &first);
    KBS_AUTO_JSON normal = NULL;

    if (tee == KBS_TEE_NONE || !json_is_object(submod) || mixes(submod, g)) {
        return kbs_fail(
            err, KBS_UNAUTHENTICATED,
            "attestation token: a submodule that is not configured, or of two profiles");
    }
    normal = normal_form(submod, g, tee);
    if (kbs_require_given(job, KBS_REQUIRE_POLICY_IDS) &&
        kbs_require_member(job, KBS_REQUIRE_POLICY_IDS, normal, "ear.appraisal-policy-id", NULL,
                           err) != 0) {
        return -1;
    }
    if (kbs_evidence_is_sample(tee) && !job->allow_sample) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: sample evidence is not allowed here");
    }
    if (first && (kbs_require_tee(job, tee, err) != 0 || key_take(job, normal, err) != 0 ||
                  nonce_check(job, submod, normal, tee, err) != 0)) {
        return -1;
    }
    const struct kbs_appraisal appraisal = {.name = first ? KBS_ISSUER_CPU : name,
                                            .members = normal};
    return kbs_issuer_appraisal_take(job, &appraisal, err);
}

int kbs_issuer_map_veraison(struct kbs_issuer_job *job, struct kbs_error *err)
{
    const struct generation *g = generation_of(job->claims);
    const json_t *submods = json_object_get(job->claims, "submods");
    const char *name;
    json_t *v;

    if (g == NULL || mixes(job->claims, g)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: another \"eat_profile\", or two of them mixed");
    }
    if (!json_is_object(
            json_object_get(job->claims, g->dotted ? "ear.verifier-id" : "ear_verifier_id")) ||
        json_object_size(submods) == 0 || json_object_size(submods) > SUBMODS_MAX) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: no verifier-id, no submodule or more than %d",
                        SUBMODS_MAX);
    }
    json_object_foreach((json_t *)(uintptr_t)submods, name, v)
    {
        if (submod_take(job, g, name, v, err) != 0) {
            return -1;
        }
    }
    return job->ret->tee != KBS_TEE_NONE
               ? 0
               : kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: no submodule is the TEE's");
}
