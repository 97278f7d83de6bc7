/*
 * The whole of what roles may say to kbsd, as a table. Everything that is not in it is a broken or
 * a compromised role, and ends it.
 */
#include "supervisor/role.h"

static const struct {
    unsigned int roles;
    enum kbsd_state state;
    enum kbs_wire_type type;
    enum kbsd_state next;
} transitions[] = {
    {KBSD_ROLE(KBSD_AUDIT) | KBSD_ROLE(KBSD_FRONT) | KBSD_ROLE(KBSD_JUDGE) |
         KBSD_ROLE(KBSD_POLICY) | KBSD_ROLE(KBSD_FETCH),
     KBSD_STARTING, KBS_WIRE_READY, KBSD_READY},
    {KBSD_ROLE(KBSD_AUDIT), KBSD_READY, KBS_WIRE_HEALTH, KBSD_READY},
    {KBSD_ROLE(KBSD_TOKEN), KBSD_STARTING, KBS_WIRE_LOGIN_WANT, KBSD_LOGIN_WAIT},
    {KBSD_ROLE(KBSD_TOKEN), KBSD_LOGIN, KBS_WIRE_LOGIN_DONE, KBSD_LOGGED_IN},
    {KBSD_ROLE(KBSD_TOKEN), KBSD_LOGGED_IN, KBS_WIRE_READY, KBSD_READY},
    {KBSD_ROLE(KBSD_TOKEN), KBSD_READY, KBS_WIRE_WORN, KBSD_READY},
};

const char *kbsd_role_name(enum kbsd_role role)
{
    static const char *const names[KBSD_ROLE_COUNT] = {
        [KBSD_MIGRATE] = "kbs-judge", [KBSD_AUDIT] = "kbs-audit", [KBSD_FRONT] = "kbs-front",
        [KBSD_JUDGE] = "kbs-judge",   [KBSD_TOKEN] = "kbs-token", [KBSD_POLICY] = "kbs-policy",
        [KBSD_FETCH] = "kbs-fetch",
    };
    return role < KBSD_ROLE_COUNT ? names[role] : "?";
}

const char *kbsd_state_name(enum kbsd_state state)
{
    static const char *const names[KBSD_STATE_COUNT] = {
        [KBSD_GONE] = "gone",     [KBSD_STARTING] = "starting",   [KBSD_LOGIN_WAIT] = "login-wait",
        [KBSD_LOGIN] = "login",   [KBSD_LOGGED_IN] = "logged-in", [KBSD_READY] = "ready",
        [KBSD_ENDING] = "ending",
    };
    return state < KBSD_STATE_COUNT ? names[state] : "?";
}

enum kbsd_state kbsd_role_next(enum kbsd_role role, enum kbsd_state state, enum kbs_wire_type type)
{
    for (size_t i = 0; i < sizeof(transitions) / sizeof(transitions[0]); i++) {
        if ((transitions[i].roles & KBSD_ROLE(role)) != 0 && transitions[i].state == state &&
            transitions[i].type == type) {
            return transitions[i].next;
        }
    }
    return KBSD_GONE;
}
