/*
 * From CONFIG_JUDGE to issuers. A judge opens no file for it: kbsd hands over what [[issuer]] names. What a list of
 * the message holds is copied into arrays of spans that live as long as this call; the issuers copy the rest.
 */
#include "judge/issuers.h"

#include <stdlib.h>

#include "base/arena.h"

#define ARENA_BYTES (1u << 20)

static int list_take(struct kbs_arena *arena, const struct kbs_wire_list *list,
                     const struct kbs_span **ret, size_t *ret_count, struct kbs_error *err)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(list);
    struct kbs_span *v = kbs_arena_alloc(arena, (list->count + 1u) * sizeof(*v));

    if (v == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    *ret = v;
    *ret_count = 0;
    while (kbs_wire_list_next(&it, &v[*ret_count])) {
        (*ret_count)++;
    }
    return 0;
}

static int requirements_take(struct kbs_arena *arena, const struct kbs_wire_list *list,
                             struct kbs_issuer_config *ret, struct kbs_error *err)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(list);
    struct kbs_issuer_requirement *v = kbs_arena_alloc(arena, (list->count + 1u) * sizeof(*v));

    if (v == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    ret->require = v;
    while (kbs_wire_list_next(&it, &v[ret->require_count].name) &&
           kbs_wire_list_next(&it, &v[ret->require_count].value)) {
        ret->require_count++;
    }
    return 0;
}

static int issuer_take(struct kbs_arena *arena, struct kbs_span item, struct kbs_issuer_config *ret,
                       struct kbs_error *err)
{
    struct kbs_wire_config_issuer m;

    if (kbs_wire_decode(KBS_WIRE_CONFIG_ISSUER, item, &m, err) != 0) {
        return -1;
    }
    *ret = (struct kbs_issuer_config){
        .name = m.name,
        .profile = kbs_issuer_profile_from_name(m.profile),
        .keys = m.keys,
        .document = m.document,
        .anchor = m.anchor,
        .crl = m.crl,
        .key_path = m.key_path,
        .max_age_s = m.max_age_s,
        .skew_s = m.skew_s,
        .max_stale_s = m.max_stale_s,
        .passport = (m.allow & KBS_WIRE_ISSUER_PASSPORT) != 0,
        .known_keys = (m.allow & KBS_WIRE_ISSUER_KNOWN_KEYS) != 0,
        .agree_with = m.agree_with,
        .minimum_binding = m.minimum_binding < KBS_BINDING_COUNT
                               ? (enum kbs_binding)m.minimum_binding
                               : KBS_BINDING_NONE,
    };
    if (list_take(arena, &m.issuer, &ret->issuers, &ret->issuer_count, err) != 0 ||
        list_take(arena, &m.audience, &ret->audiences, &ret->audience_count, err) != 0 ||
        list_take(arena, &m.algorithms, &ret->algorithms, &ret->algorithm_count, err) != 0) {
        return -1;
    }
    return requirements_take(arena, &m.require, ret, err);
}

int kbs_judge_issuers_new(const struct kbs_wire_config_judge *config, struct kbs_issuers **ret,
                          struct kbs_error *err)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(&config->issuers);
    struct kbs_issuer_config configs[KBS_LIMIT_ISSUERS];
    struct kbs_arena arena = KBS_ARENA(ARENA_BYTES);
    struct kbs_span item;
    size_t n = 0;
    int rc = 0;

    *ret = NULL;
    if (config->issuers.count > KBS_LIMIT_ISSUERS) {
        return kbs_fail(err, KBS_INPUT, "more than %d issuers", KBS_LIMIT_ISSUERS);
    }
    while (rc == 0 && kbs_wire_list_next(&it, &item)) {
        rc = issuer_take(&arena, item, &configs[n++], err);
    }
    if (rc == 0 && n > 0) {
        rc = kbs_issuers_new(configs, n, config->allow_sample != 0, ret, err);
    }
    kbs_arena_deinit(&arena);
    return rc;
}
