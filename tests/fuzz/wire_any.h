/* Any role message, for the two wire fuzzers. */
#ifndef KBS_TESTS_FUZZ_WIRE_ANY_H
#define KBS_TESTS_FUZZ_WIRE_ANY_H

#include <stdlib.h>

#include "base/limits.h"
#include "wire/message.h"

#define WIRE_ANY_MEMBER(number, upper, lower, cap) struct kbs_wire_##lower lower;
union wire_any {
    KBS_WIRE_MESSAGES(WIRE_ANY_MEMBER)
};

static inline void wire_any_walk_list(const struct kbs_wire_list *list)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(list);
    struct kbs_span item;
    size_t items = 0;
    size_t bytes = 0;

    while (kbs_wire_list_next(&it, &item)) {
        items++;
        bytes += 4 + item.len;
        if (item.len > 0 &&
            (item.p < list->encoded.p || item.p + item.len > list->encoded.p + list->encoded.len)) {
            abort();
        }
    }
    if (items != list->count || bytes != list->encoded.len) {
        abort();
    }
}

static inline void wire_any_walk_lists(enum kbs_wire_type type, const union wire_any *msg)
{
    if (type == KBS_WIRE_REQUEST) {
        wire_any_walk_list(&msg->request.params);
        wire_any_walk_list(&msg->request.query);
    } else if (type == KBS_WIRE_APPEND) {
        wire_any_walk_list(&msg->append.fields);
    } else if (type == KBS_WIRE_CONFIG_TOKEN) {
        wire_any_walk_list(&msg->config_token.env);
        wire_any_walk_list(&msg->config_token.folders);
    } else if (type == KBS_WIRE_CONFIG_JUDGE) {
        wire_any_walk_list(&msg->config_judge.admin_keys);
        wire_any_walk_list(&msg->config_judge.identity_providers);
        wire_any_walk_list(&msg->config_judge.acls);
        wire_any_walk_list(&msg->config_judge.snp_files);
        wire_any_walk_list(&msg->config_judge.snp_products);
        wire_any_walk_list(&msg->config_judge.snp_minimum);
        wire_any_walk_list(&msg->config_judge.snp_chips);
        wire_any_walk_list(&msg->config_judge.snp_providers);
        wire_any_walk_list(&msg->config_judge.issuers);
    } else if (type == KBS_WIRE_CONFIG_ISSUER) {
        wire_any_walk_list(&msg->config_issuer.issuer);
        wire_any_walk_list(&msg->config_issuer.audience);
        wire_any_walk_list(&msg->config_issuer.algorithms);
        wire_any_walk_list(&msg->config_issuer.require);
    } else if (type == KBS_WIRE_DESCRIBED) {
        wire_any_walk_list(&msg->described.rungs);
    }
}

#endif
