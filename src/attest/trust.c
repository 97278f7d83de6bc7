/*
 * The one table of claims and tiers. Whatever makes a vector (a verifier, reference values, a
 * policy), its status is computed here and nowhere else, so that it cannot be better than the worst
 * of its claims.
 */
#include "attest/trust.h"

#include <stdbool.h>
#include <string.h>

static const char *const names[KBS_TRUST_COUNT] = {
    [KBS_TRUST_CONFIGURATION] = "configuration",
    [KBS_TRUST_EXECUTABLES] = "executables",
    [KBS_TRUST_FILE_SYSTEM] = "file-system",
    [KBS_TRUST_HARDWARE] = "hardware",
    [KBS_TRUST_INSTANCE_IDENTITY] = "instance-identity",
    [KBS_TRUST_RUNTIME_OPAQUE] = "runtime-opaque",
    [KBS_TRUST_SOURCED_DATA] = "sourced-data",
    [KBS_TRUST_STORAGE_OPAQUE] = "storage-opaque",
};

/* From the best to the worst. */
enum tier {
    TIER_NONE,
    TIER_AFFIRMING,
    TIER_WARNING,
    TIER_CONTRAINDICATED
};

static const char *const tiers[] = {
    [TIER_NONE] = "none",
    [TIER_AFFIRMING] = "affirming",
    [TIER_WARNING] = "warning",
    [TIER_CONTRAINDICATED] = "contraindicated",
};

/* Negative values mirror the positive ones, shifted by one: -128..-97 are contraindicated. */
static enum tier tier_of(int value)
{
    int size = value < 0 ? -value - 1 : value;

    if (value == 0) {
        return TIER_NONE;
    }
    if (value == 1 || value == -1) {
        return TIER_WARNING;
    }
    if (size >= 96) {
        return TIER_CONTRAINDICATED;
    }
    return size >= 32 ? TIER_WARNING : TIER_AFFIRMING;
}

const char *kbs_trust_claim_name(enum kbs_trust_claim claim)
{
    return (unsigned int)claim < KBS_TRUST_COUNT ? names[claim] : "unknown";
}

const char *kbs_trust_tier(int value)
{
    return tiers[tier_of(value)];
}

const char *kbs_trust_status(const struct kbs_trust_vector *v)
{
    enum tier worst = TIER_NONE;

    for (int i = 0; i < KBS_TRUST_COUNT; i++) {
        enum tier tier = tier_of(v->claim[i]);

        worst = tier > worst ? tier : worst;
    }
    return tiers[worst];
}

json_t *kbs_trust_json(const struct kbs_trust_vector *v)
{
    json_t *o = json_object();

    for (int i = 0; i < KBS_TRUST_COUNT; i++) {
        if (v->claim[i] != 0 && json_object_set_new(o, names[i], json_integer(v->claim[i])) != 0) {
            json_decref(o);
            return NULL;
        }
    }
    return o;
}

static bool same_name(const char *said, const char *name)
{
    while (*said != '\0' && (*said == *name || (*said == '_' && *name == '-'))) {
        said++;
        name++;
    }
    return *said == '\0' && *name == '\0';
}

static int claim_of(const char *said)
{
    int i = 0;

    while (i < KBS_TRUST_COUNT && !same_name(said, names[i])) {
        i++;
    }
    return i;
}

int kbs_trust_read(const json_t *claims, struct kbs_trust_vector *ret, struct kbs_error *err)
{
    bool said[KBS_TRUST_COUNT] = {false};
    const char *name = NULL;
    json_t *value = NULL;

    *ret = (struct kbs_trust_vector){.claim = {0}};
    json_object_foreach((json_t *)(uintptr_t)claims, name, value)
    {
        int i = claim_of(name);
        json_int_t number = json_integer_value(value);

        if (i == KBS_TRUST_COUNT) {
            return kbs_fail(err, KBS_INPUT, "'%.40s' is no trust claim", name);
        }
        if (said[i]) {
            return kbs_fail(err, KBS_INPUT, "the trust claim %s is there twice", names[i]);
        }
        if (!json_is_integer(value) || number < -128 || number > 127) {
            return kbs_fail(err, KBS_INPUT, "the trust claim %s is not an integer of a byte",
                            names[i]);
        }
        said[i] = true;
        ret->claim[i] = (int)number;
    }
    if (strcmp(kbs_trust_status(ret), tiers[TIER_NONE]) == 0) {
        return kbs_fail(err, KBS_INPUT, "no trust claim is made");
    }
    return 0;
}
