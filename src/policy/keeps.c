/*
 * The terms stand in the policy because that is what is signed with the key's row and named by its card: who
 * may change them, and how many have to agree, is then the same, and the ledger has their digest with
 * every use. They decide nothing about a release.
 */
#include "policy/keeps.h"

#include "jose/read/json.h"

static const char *const names[KBS_KEEPS_COUNT] = {
    [KBS_KEEPS_PROVISION] = "provision", [KBS_KEEPS_REGISTER] = "register"};

const char *kbs_keeps_name(enum kbs_keeps what)
{
    return what > KBS_KEEPS_NOTHING && what < KBS_KEEPS_COUNT ? names[what] : "?";
}

static int identity_get(const json_t *list, uint8_t *ret, struct kbs_error *err)
{
    uint8_t bits = 0;

    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        enum kbs_nek_field field =
            kbs_nek_field_from_name(kbs_span(json_string_value(v), json_string_length(v)));

        if (field == KBS_NEK_FIELD_COUNT || (bits & 1u << field) != 0) {
            return kbs_fail(err, KBS_INPUT,
                            "\"identity\" names each of init-data, host-data, measurement, "
                            "id-block and chip-id at most once");
        }
        bits |= (uint8_t)(1u << field);
    }
    *ret = bits;
    return bits != 0
               ? 0
               : kbs_fail(err, KBS_INPUT, "\"identity\" is not an array of at least one field");
}

static int terms_get(const json_t *terms, enum kbs_keeps what, struct kbs_keeps_terms *ret,
                     struct kbs_error *err)
{
    static const char *const provision[] = {"identity", "quota", "once", NULL};
    static const char *const reg[] = {"identity", "quota", NULL};
    const json_t *once = json_object_get(terms, "once");
    int64_t quota = 0;

    if (!json_is_object(terms)) {
        return kbs_fail(err, KBS_INPUT, "not an object");
    }
    if (kbs_json_only(terms, what == KBS_KEEPS_PROVISION ? provision : reg, err) != 0 ||
        identity_get(json_object_get(terms, "identity"), &ret->identity, err) != 0 ||
        kbs_json_get_integer(terms, "quota", &quota, err) != 0) {
        return -1;
    }
    if (quota < 1 || quota > KBS_LIMIT_KEEPS_QUOTA) {
        return kbs_fail(err, KBS_INPUT, "\"quota\" is not 1 to %d", KBS_LIMIT_KEEPS_QUOTA);
    }
    if (once != NULL && !json_is_boolean(once)) {
        return kbs_fail(err, KBS_INPUT, "\"once\" is not true or false");
    }
    ret->quota = (uint32_t)quota;
    ret->once = json_is_true(once);
    return 0;
}

int kbs_keeps_check(const json_t *policy, struct kbs_error *err)
{
    for (int what = KBS_KEEPS_PROVISION; what < KBS_KEEPS_COUNT; what++) {
        const json_t *terms = json_object_get(policy, names[what]);
        struct kbs_keeps_terms ignored;
        struct kbs_error why = KBS_ERROR_NONE;

        if (terms != NULL && terms_get(terms, (enum kbs_keeps)what, &ignored, &why) != 0) {
            return kbs_fail(err, KBS_INPUT, "policy: \"%s\": %.150s", names[what], why.detail);
        }
    }
    return 0;
}

int kbs_keeps_terms(const json_t *policy, enum kbs_keeps what, struct kbs_keeps_terms *ret,
                    struct kbs_error *err)
{
    const json_t *terms = json_object_get(policy, kbs_keeps_name(what));

    if (terms == NULL) {
        return kbs_fail(err, KBS_DENIED, "policy: it has no \"%s\", so nothing is kept for guests",
                        kbs_keeps_name(what));
    }
    return terms_get(terms, what, ret, err);
}
