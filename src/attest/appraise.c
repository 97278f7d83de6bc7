/*
 * The built-in appraisal.
 *
 * The problem: a verifier establishes that evidence is genuine, not that what was measured is what
 * the operator wanted to run. The approach: a table of the names that Trustee's default policies
 * ask for, each with the claim that it is compared with; so a set of reference values means the
 * same here and there, policy or no policy.
 *
 * A claim is approved (executables 3, hardware 2, configuration 2) only if every name of it has a
 * reference value and all of them match. If some are not set, the verifier's own finding stays. One
 * that contradicts counts whatever the others say: executables 33, hardware 97, configuration 32.
 * Trustee's policies let a configuration that differs from its reference values pass as 3; here an
 * operator who sets one means it.
 *
 * The sample evidence says nothing of its configuration, so that claim stays as its verifier has
 * it, and the built-in appraisal of it is never better than a warning.
 */
#include "attest/appraise.h"

#include <string.h>

static const struct row {
    enum kbs_tee tee;
    enum kbs_trust_claim claim;
    const char *member; /* of the claims; one '.' at most */
    const char *reference;
    bool minimum;
} rows[] = {
    {KBS_TEE_SNP, KBS_TRUST_EXECUTABLES, "measurement", "snp_launch_measurement", false},
    {KBS_TEE_SNP, KBS_TRUST_HARDWARE, "reported_tcb_bootloader", "snp_bootloader", false},
    {KBS_TEE_SNP, KBS_TRUST_HARDWARE, "reported_tcb_tee", "snp_tee_svn", false},
    {KBS_TEE_SNP, KBS_TRUST_HARDWARE, "reported_tcb_snp", "snp_snp_svn", false},
    {KBS_TEE_SNP, KBS_TRUST_HARDWARE, "reported_tcb_microcode", "snp_microcode", false},
    {KBS_TEE_SNP, KBS_TRUST_CONFIGURATION, "platform_smt_enabled", "snp_smt_enabled", false},
    {KBS_TEE_SNP, KBS_TRUST_CONFIGURATION, "platform_tsme_enabled", "snp_tsme_enabled", false},
    {KBS_TEE_SNP, KBS_TRUST_CONFIGURATION, "policy_abi_major", "snp_guest_abi_major", false},
    {KBS_TEE_SNP, KBS_TRUST_CONFIGURATION, "policy_abi_minor", "snp_guest_abi_minor", false},
    {KBS_TEE_SNP, KBS_TRUST_CONFIGURATION, "policy_single_socket", "snp_single_socket", false},
    {KBS_TEE_SNP, KBS_TRUST_CONFIGURATION, "policy_smt_allowed", "snp_smt_allowed", false},
    {KBS_TEE_SAMPLE, KBS_TRUST_EXECUTABLES, "launch_digest", "launch_digest", false},
    {KBS_TEE_SAMPLE, KBS_TRUST_HARDWARE, "svn", "svn", false},
    {KBS_TEE_SAMPLE, KBS_TRUST_HARDWARE, "platform_version.major", "major_version", false},
    {KBS_TEE_SAMPLE, KBS_TRUST_HARDWARE, "platform_version.minor", "minimum_minor_version", true},
};

/* What a claim becomes. */
static const struct outcome {
    enum kbs_trust_claim claim;
    int approved;
    int contradicted;
} outcomes[] = {
    {KBS_TRUST_EXECUTABLES, 3, 33},
    {KBS_TRUST_HARDWARE, 2, 97},
    {KBS_TRUST_CONFIGURATION, 2, 32},
};

/* ---- the input ---- */

/* A member of the newer shape that is a copy of one of ours. */
static const struct alias {
    const char *group; /* of "evidence"; NULL: directly in it */
    const char *name;
    const char *of;
} snp_aliases[] = {
    {NULL, "measurement", "measurement"},
    {NULL, "vmpl", "vmpl"},
    {NULL, "guest_svn", "guest_svn"},
    {"reported_tcb", "bootloader", "reported_tcb_bootloader"},
    {"reported_tcb", "tee", "reported_tcb_tee"},
    {"reported_tcb", "snp", "reported_tcb_snp"},
    {"reported_tcb", "microcode", "reported_tcb_microcode"},
    {"policy", "debug_allowed", "policy_debug_allowed"},
    {"policy", "migrate_ma_allowed", "policy_migrate_ma"},
    {"policy", "single_socket_required", "policy_single_socket"},
    {"policy", "smt_allowed", "policy_smt_allowed"},
    {"policy", "abi_major", "policy_abi_major"},
    {"policy", "abi_minor", "policy_abi_minor"},
    {"plat_info", "smt_enabled", "platform_smt_enabled"},
    {"plat_info", "tsme_enabled", "platform_tsme_enabled"},
};

/* The group of that name, made if it is not there. Borrowed; NULL if out of memory. */
static json_t *group_of(json_t *evidence, const char *name)
{
    json_t *group = name == NULL ? evidence : json_object_get(evidence, name);

    if (group == NULL) {
        group = json_object();
        if (json_object_set_new(evidence, name, group) != 0) {
            return NULL;
        }
    }
    return group;
}

/*
 * Trustee moved its claims of SNP below "evidence", in groups; policies of both shapes are about.
 */
static bool snp_extend(json_t *claims)
{
    json_t *evidence = json_object();

    if (json_object_set_new(claims, "evidence", evidence) != 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof(snp_aliases) / sizeof(snp_aliases[0]); i++) {
        const struct alias *a = &snp_aliases[i];
        json_t *value = json_object_get(claims, a->of);

        if (value != NULL && json_object_set(group_of(evidence, a->group), a->name, value) != 0) {
            return false;
        }
    }
    return true;
}

/*
 * What Trustee's verifier says of every sample, whatever it is: constants, for its policies and
 * reference values to work with. They are not in the token, which has only what was in the
 * evidence.
 */
static bool sample_extend(json_t *claims)
{
    json_t *constants = json_pack("{s:s, s:{s:i, s:i}, s:b}", "launch_digest", "abcde",
                                  "platform_version", "major", 1, "minor", 4, "debug", 0);
    bool good = constants != NULL && json_object_update(claims, constants) == 0;

    json_decref(constants);
    return good;
}

json_t *kbs_appraise_input(enum kbs_tee tee, const json_t *evidence)
{
    json_t *input = json_copy((json_t *)(uintptr_t)evidence);
    json_t *claims = json_copy(json_object_get(evidence, kbs_tee_name(tee)));
    bool good = json_object_set_new(input, kbs_tee_name(tee), claims) == 0;

    if (good && tee == KBS_TEE_SNP) {
        good = snp_extend(claims);
    } else if (good && tee == KBS_TEE_SAMPLE) {
        good = sample_extend(claims);
    }
    if (!good) {
        json_decref(input);
        return NULL;
    }
    return input;
}

/* ---- the comparison ---- */

static const json_t *member_of(const json_t *claims, const char *path)
{
    const char *dot = strchr(path, '.');

    return dot == NULL
               ? json_object_get(claims, path)
               : json_object_get(json_object_getn(claims, path, (size_t)(dot - path)), dot + 1);
}

static bool matches(const struct kbs_comparison *c)
{
    const json_t *one = NULL;
    size_t i = 0;

    if (c->minimum) {
        return json_is_integer(c->measured) && json_is_integer(c->expected) &&
               json_integer_value(c->measured) >= json_integer_value(c->expected);
    }
    if (!json_is_array(c->expected)) {
        return json_equal(c->measured, c->expected) != 0;
    }
    json_array_foreach(c->expected, i, one)
    {
        if (json_equal(c->measured, one) != 0) {
            return true;
        }
    }
    return false;
}

static struct kbs_comparison compare(const struct row *row, const json_t *claims,
                                     const json_t *references)
{
    struct kbs_comparison c = {.claim = row->claim,
                               .reference = row->reference,
                               .member = row->member,
                               .minimum = row->minimum,
                               .measured = member_of(claims, row->member),
                               .expected = json_object_get(references, row->reference)};

    if (c.expected != NULL) {
        c.match = c.measured != NULL && matches(&c) ? KBS_MATCH_YES : KBS_MATCH_NO;
    }
    return c;
}

/* How many of a claim's comparisons came to what. */
struct tally {
    unsigned int of[3]; /* by enum kbs_match */
};

static int decide(const struct outcome *o, const struct tally *t, int verifier)
{
    if (t->of[KBS_MATCH_NO] > 0) {
        return o->contradicted;
    }
    return t->of[KBS_MATCH_YES] > 0 && t->of[KBS_MATCH_UNKNOWN] == 0 ? o->approved : verifier;
}

void kbs_appraise_builtin(enum kbs_tee tee, const json_t *input, const json_t *references,
                          struct kbs_trust_vector *vector, kbs_appraise_each *each, void *ctx)
{
    const json_t *claims = json_object_get(input, kbs_tee_name(tee));
    struct tally tallies[KBS_TRUST_COUNT] = {{{0}}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].tee != tee) {
            continue;
        }
        struct kbs_comparison c = compare(&rows[i], claims, references);

        tallies[c.claim].of[c.match]++;
        if (each != NULL) {
            each(ctx, &c);
        }
    }
    for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++) {
        const struct outcome *o = &outcomes[i];

        vector->claim[o->claim] = decide(o, &tallies[o->claim], vector->claim[o->claim]);
    }
}
