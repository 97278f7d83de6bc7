/* Roles as kbsd sees them: which there are, and what each may say when. */
#ifndef KBS_SUPERVISOR_ROLE_H
#define KBS_SUPERVISOR_ROLE_H

#include "wire/message.h"

enum kbsd_role {
    KBSD_MIGRATE, /* kbs-judge with MIGRATE in the place of a configuration */
    KBSD_AUDIT,
    KBSD_FRONT,
    KBSD_JUDGE,
    KBSD_TOKEN,
    KBSD_POLICY, /* may be missing: it is not built without cargo */
    KBSD_FETCH,  /* only if something is to be fetched */
    KBSD_ROLE_COUNT
};

enum kbsd_state {
    KBSD_GONE,       /* no process */
    KBSD_STARTING,   /* configured; has said nothing yet */
    KBSD_LOGIN_WAIT, /* kbs-token: wants to log in */
    KBSD_LOGIN,      /* kbs-token: may be logging in; must not be killed before the deadline */
    KBSD_LOGGED_IN,  /* kbs-token: probing */
    KBSD_READY,
    KBSD_ENDING, /* told to leave, or seen leaving; killed at the deadline */
    KBSD_STATE_COUNT
};

/* Roles as a set: the bits of those that a service has. */
#define KBSD_ROLE(r) (1u << (unsigned int)(r))

const char *kbsd_role_name(enum kbsd_role role); /* the executable's name */
const char *kbsd_state_name(enum kbsd_state state);

/* The state a message leads to; KBSD_GONE if this role may not send it in this state. */
enum kbsd_state kbsd_role_next(enum kbsd_role role, enum kbsd_state state, enum kbs_wire_type type);

#endif
