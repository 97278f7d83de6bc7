/*
 * What a release policy may say beside who gets its key: that guests have something kept for them under the key's
 * name. Without the member nobody has.
 *
 *     "provision": {"identity":[FIELD...], "quota":N, "once"?:bool}      first boots (docs/protocol/nek.md)
 *     "register":  {"identity":[FIELD...], "quota":N}                    values that only grow (docs/protocol/register.md)
 *
 * FIELD is a field that a NEK can be bound to (wire/nek.h), at least one and none twice: guests that are alike in all of
 * them are one guest. quota: how many guests, 1 to KBS_LIMIT_KEEPS_QUOTA.
 */
#ifndef KBS_POLICY_KEEPS_H
#define KBS_POLICY_KEEPS_H

#include <jansson.h>

#include "base/error.h"
#include "base/limits.h"
#include "wire/nek.h"

enum kbs_keeps {
    KBS_KEEPS_NOTHING = 0,
    KBS_KEEPS_PROVISION = 1,
    KBS_KEEPS_REGISTER = 2,
    KBS_KEEPS_COUNT
};
const char *kbs_keeps_name(enum kbs_keeps what); /* the member; "?" for NOTHING */

struct kbs_keeps_terms {
    uint8_t identity; /* a bit for each enum kbs_nek_field; never 0 */
    uint32_t quota;
    bool once; /* a repeat is refused */
};

/* Checks the members of a policy that is being read. KBS_INPUT says what is wrong. */
KBS_MUST_CHECK int kbs_keeps_check(const json_t *policy, struct kbs_error *err);

/* The terms of a policy that has passed. KBS_DENIED if it has none. */
KBS_MUST_CHECK int kbs_keeps_terms(const json_t *policy, enum kbs_keeps what,
                                   struct kbs_keeps_terms *ret, struct kbs_error *err);

#endif
