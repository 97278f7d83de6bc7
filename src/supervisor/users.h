/* Users of their own for the roles, when kbsd is root. */
#ifndef KBS_SUPERVISOR_USERS_H
#define KBS_SUPERVISOR_USERS_H

#include <sys/types.h>

#include "config/config.h"
#include "supervisor/role.h"

struct kbsd_user {
    bool own; /* false: the role runs as kbsd does */
    uid_t uid;
    gid_t gid;
};

struct kbsd_users {
    struct kbsd_user of[KBSD_ROLE_COUNT];
};

/*
 * Looks [users] of these roles (a set of KBSD_ROLE()) up; nobody has a user of its own when kbsd is not root. As root, users that do not
 * exist, are root or are shared by two roles are KBS_INPUT in production. In the demo they are
 * warnings, and then no role changes its user (shared ones are used).
 */
KBS_MUST_CHECK int kbsd_users_find(const struct kbs_config *config, unsigned int roles,
                                   struct kbsd_users *ret, struct kbs_error *err);

#endif
