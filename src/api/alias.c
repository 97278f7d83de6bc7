/*
 * Aliases: one path that stands for another, which one depends on the guest that asks.
 *
 * The problem: some guests ask for a path that is built into them, the same in every VM (COCONUT-SVSM:
 * default/sample/test), and each of those VMs has a key of its own. The approach: an alias is a document
 * (document.c), named by that path; its text is a list of rules, each of conditions on the attested
 * identity (attest/identity.h) and the path that is meant if all of them hold. The first one that holds
 * decides; if none does, nothing is released, and nothing is looked for at the path itself.
 *
 * An alias chooses and does not allow: the policy of the key or secret it leads to is asked as if the guest
 * had named that one. So the worst that a wrong rule does is to lead to what is denied. It counts where
 * resources are asked for and not on the key road: there the answer is bound to the name that was asked
 * for, so that nobody can put one key in another's place.
 *
 * Nothing is ambiguous: a path is a key's, a secret's or an alias's, aliases are not followed twice, and a
 * rule that could never decide, because one before it asks no more than it does, is refused.
 */
#include "api/alias.h"

#include "attest/identity.h"
#include "base/encoding.h"

/* A guest's identity in hex, field by field; empty where its evidence has none. */
struct identity {
    char hex[KBS_IDENTITY_FIELD_COUNT][2 * KBS_IDENTITY_VALUE_BYTES + 1];
};

void kbs_alias_deinit(struct kbs_alias *a)
{
    json_decref(a->rules);
    a->rules = NULL;
}

/* ---- rules ---- */

int kbs_alias_rules_get(struct kbs_span text, json_t **ret, struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE;
    KBS_AUTO_JSON root = NULL;
    json_t *rules = NULL;

    if (kbs_json_parse_object(text, "alias", &root, &why) == 0) {
        rules = json_object_get(root, "rules");
    }
    if (!json_is_array(rules)) {
        return kbs_fail(err, KBS_INTERNAL, "the store's row of the alias does not parse: %s",
                        why.detail);
    }
    *ret = json_incref(rules);
    return 0;
}

int kbs_alias_rules_put(const json_t *rules, struct kbs_buf *out, struct kbs_error *err)
{
    if (json_array_size(rules) == 0) {
        return 0;
    }
    kbs_buf_put_str(out, "{\"rules\":");
    if (kbs_json_dump(rules, out, err) != 0) {
        return -1;
    }
    kbs_buf_put_u8(out, '}');
    return kbs_buf_check(out, "the alias", err);
}

int kbs_alias_when_check(json_t *when, struct kbs_error *err)
{
    struct kbs_buf bytes = KBS_BUF(KBS_IDENTITY_VALUE_BYTES);
    const char *name = NULL;
    json_t *value = NULL;
    bool good = json_is_object(when);

    json_object_foreach(when, name, value)
    {
        struct kbs_span text = kbs_span(json_string_value(value), json_string_length(value));

        kbs_buf_clear(&bytes);
        good = good &&
               kbs_identity_field_from_name(kbs_span_str(name)) != KBS_IDENTITY_FIELD_COUNT &&
               json_is_string(value) && text.len != 0 && kbs_hex_get(&bytes, text) == 0;
    }
    kbs_buf_deinit(&bytes);
    return good ? 0
                : kbs_fail(err, KBS_INPUT,
                           "'when' has init-data, host-data, measurement, id-block, chip-id, "
                           "id-key, family-id and image-id, each with bytes in lower-case hex");
}

/* Whether every guest that `b` fits is one that `a` fits, too. */
static bool asks_no_more(json_t *a, const json_t *b)
{
    const char *name = NULL;
    json_t *value = NULL;

    json_object_foreach(a, name, value)
    {
        if (!json_equal(value, json_object_get(b, name))) {
            return false;
        }
    }
    return true;
}

static json_t *when_of(const json_t *rules, size_t i)
{
    return json_object_get(json_array_get(rules, i), "when");
}

static bool find(const json_t *rules, json_t *when, size_t *ret)
{
    size_t n = json_array_size(rules);

    *ret = 0;
    while (*ret < n && !json_equal(when_of(rules, *ret), when)) {
        (*ret)++;
    }
    return *ret < n;
}

static int all_reachable(const json_t *rules, struct kbs_error *err)
{
    for (size_t i = 1; i < json_array_size(rules); i++) {
        for (size_t before = 0; before < i; before++) {
            if (asks_no_more(when_of(rules, before), when_of(rules, i))) {
                return kbs_fail(err, KBS_CONFLICT,
                                "rule %zu would never decide: rule %zu comes first and asks no "
                                "more (a rule can be added as the first one)",
                                i + 1, before + 1);
            }
        }
    }
    return 0;
}

int kbs_alias_rule_add(json_t *rules, json_t *when, struct kbs_span to, bool first,
                       struct kbs_error *err)
{
    json_t *rule = json_pack("{s:O, s:s%}", "when", when, "to", (const char *)to.p, to.len);
    size_t at = 0;
    bool there = find(rules, when, &at);
    int rc = 0;

    if (there && first) {
        (void)json_array_remove(rules, at);
        there = false;
    }
    if (there) {
        rc = json_array_set_new(rules, at, rule);
    } else {
        rc = json_array_insert_new(rules, first ? 0 : json_array_size(rules), rule);
    }
    if (rc != 0) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (json_array_size(rules) > KBS_LIMIT_ALIAS_RULES) {
        return kbs_fail(err, KBS_TOO_LARGE, "an alias has at most %d rules", KBS_LIMIT_ALIAS_RULES);
    }
    return all_reachable(rules, err);
}

int kbs_alias_rule_remove(json_t *rules, json_t *when, struct kbs_error *err)
{
    size_t at = 0;

    return find(rules, when, &at) && json_array_remove(rules, at) == 0
               ? 0
               : kbs_fail(err, KBS_MISSING, "the alias has no rule with these conditions");
}

/* ---- which one it is ---- */

int kbs_alias_get(struct kbs_api *api, struct kbs_span path, struct kbs_alias *ret,
                  struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    int rc = kbs_document_get(api, KBS_DOCUMENT_ALIAS, path, &ret->row, &text, err);

    if (rc == 0) {
        rc = kbs_alias_rules_get(kbs_buf_span(&text), &ret->rules, err);
    }
    kbs_buf_deinit(&text);
    return rc;
}

static void identity_read(const json_t *input, enum kbs_tee tee, struct identity *ret)
{
    struct kbs_buf bytes = KBS_BUF(KBS_IDENTITY_VALUE_BYTES);
    struct kbs_error ignored = KBS_ERROR_NONE;

    for (unsigned int i = 0; i < KBS_IDENTITY_FIELD_COUNT; i++) {
        kbs_buf_clear(&bytes);
        if (kbs_identity_value(input, tee, i, &bytes, &ignored) != 0) {
            kbs_buf_clear(&bytes); /* no such field: a condition on it does not hold */
        }
        kbs_hex_cstr(kbs_buf_span(&bytes), ret->hex[i], sizeof(ret->hex[i]));
    }
    kbs_buf_deinit(&bytes);
}

static bool fits(json_t *when, const struct identity *guest)
{
    const char *name = NULL;
    json_t *value = NULL;

    json_object_foreach(when, name, value)
    {
        unsigned int field = kbs_identity_field_from_name(kbs_span_str(name));
        const char *wanted = json_string_value(value);

        if (field == KBS_IDENTITY_FIELD_COUNT || wanted == NULL || wanted[0] == '\0' ||
            strcmp(wanted, guest->hex[field]) != 0) {
            return false;
        }
    }
    return json_is_object(when);
}

static int choose(const struct kbs_alias *a, const struct identity *guest, struct kbs_span *ret,
                  struct kbs_error *err)
{
    const json_t *rule = NULL;
    size_t i = 0;

    json_array_foreach(a->rules, i, rule)
    {
        if (fits(json_object_get(rule, "when"), guest)) {
            return kbs_json_get_string(rule, "to", ret, err) == 0 && kbs_key_path_valid(*ret)
                       ? 0
                       : kbs_fail(err, KBS_INTERNAL, "rule %zu of the alias %s leads nowhere",
                                  i + 1, a->row.name);
        }
    }
    return kbs_fail(err, KBS_DENIED, "%s is an alias, and none of its rules fits this guest",
                    a->row.name);
}

int kbs_alias_resolve(struct kbs_call *call, const struct kbs_session *session,
                      struct kbs_span path, struct kbs_span *ret, struct kbs_error *err)
{
    struct kbs_error found = KBS_ERROR_NONE;
    struct kbs_alias alias = {.rules = NULL};
    struct kbs_span to = KBS_SPAN_EMPTY;
    const json_t *input = NULL;
    struct identity guest;
    int rc = -1;

    if (kbs_alias_get(call->api, path, &alias, &found) != 0) {
        kbs_alias_deinit(&alias);
        *err = found;
        return found.category == KBS_MISSING ? KBS_ALIAS_NONE : -1;
    }
    if (kbs_session_input(call->api, session, &input, err) == 0) {
        identity_read(input, session->tee, &guest);
        rc = choose(&alias, &guest, &to, err);
    }
    if (rc == 0) {
        *ret = kbs_arena_copy(&call->arena, to);
        rc = ret->p != NULL ? 0 : kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    kbs_alias_deinit(&alias);
    return rc;
}

int kbs_alias_free_path(struct kbs_api *api, struct kbs_span path, struct kbs_error *err)
{
    struct kbs_error found = KBS_ERROR_NONE;
    struct kbs_alias alias = {.rules = NULL};
    int rc = kbs_alias_get(api, path, &alias, &found);

    kbs_alias_deinit(&alias);
    if (rc == 0) {
        return kbs_fail(err, KBS_CONFLICT, "an alias has this path");
    }
    if (found.category != KBS_MISSING) {
        *err = found;
        return -1;
    }
    return 0;
}
