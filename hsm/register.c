/*
 * A register is a row of the store, and kbs-token keeps nothing of it: it marks a value, and marks the next one
 * only for whoever brings this one with its mark. So a judge, or who writes the store's file, cannot
 * make a value up, nor step back from one that he has. He can begin again from none, or keep an older row; what
 * that means is in docs/threat-model.md.
 */
#include "hsm/register.h"

#include "hsm/mark.h"

static int value_check(struct kbs_span name, struct kbs_span digest, struct kbs_error *err)
{
    if (!kbs_key_path_valid(name)) {
        return kbs_fail(err, KBS_INPUT, "the register's name is not repo/type/tag");
    }
    return digest.len <= KBS_LIMIT_REGISTER_DIGEST_BYTES
               ? 0
               : kbs_fail(err, KBS_INPUT, "the register's digest is longer than %d bytes",
                          KBS_LIMIT_REGISTER_DIGEST_BYTES);
}

static int value_known(struct kbs_token *t, const struct kbs_mark_register *value,
                       struct kbs_span mark, struct kbs_error *err)
{
    uint8_t expected[KBS_MARK_BYTES];

    if (value_check(value->name, value->digest, err) != 0 ||
        kbs_mark_register(t, value, expected, err) != 0) {
        return -1;
    }
    return kbs_mark_equal(mark, expected, "the register's value", err);
}

/* The value that the new one follows: none, or one of ours that is smaller. */
static int old_check(struct kbs_token *t, const struct kbs_wire_register_set *m,
                     const struct kbs_nek_binding *binding, struct kbs_error *err)
{
    const struct kbs_mark_register old = {
        .name = m->name, .binding = binding, .value = m->old_value, .digest = m->old_digest};

    if (m->old_mark.len == 0) {
        return m->old_value == 0 && m->old_digest.len == 0
                   ? 0
                   : kbs_fail(err, KBS_INPUT, "a value without a mark is none");
    }
    if (value_known(t, &old, m->old_mark, err) != 0) {
        return -1;
    }
    return m->value > m->old_value
               ? 0
               : kbs_fail(err, KBS_CONFLICT, "the register's value would not grow");
}

int kbs_register_set(struct kbs_token *t, const struct kbs_wire_register_set *m,
                     struct kbs_answer *ret, struct kbs_error *err)
{
    uint8_t mark[KBS_MARK_BYTES];
    struct kbs_nek_binding binding;
    const struct kbs_mark_register next = {
        .name = m->name, .binding = &binding, .value = m->value, .digest = m->digest};

    if (kbs_nek_binding_get(m->binding, &binding, err) != 0 ||
        value_check(m->name, m->digest, err) != 0 || old_check(t, m, &binding, err) != 0 ||
        kbs_mark_register(t, &next, mark, err) != 0) {
        return -1;
    }
    kbs_buf_put(&ret->body, mark, sizeof(mark));
    return kbs_buf_check(&ret->body, "the answer", err);
}

int kbs_register_check(struct kbs_token *t, const struct kbs_wire_register_check *m,
                       struct kbs_error *err)
{
    struct kbs_nek_binding binding;
    const struct kbs_mark_register value = {
        .name = m->name, .binding = &binding, .value = m->value, .digest = m->digest};

    return kbs_nek_binding_get(m->binding, &binding, err) == 0
               ? value_known(t, &value, m->mark, err)
               : -1;
}
