/*
 * A role that shares its user with another can signal it, and reads whatever files the other reads.
 * Users of their own make the operating system's oldest wall stand between them, which holds even
 * where Landlock and seccomp do not. Only root can hand them out; a kbsd that is not root leaves
 * everything as it is.
 *
 * All or nothing: with three users of four, the files would have to be readable by the fourth.
 */
#include "supervisor/users.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define ENTRY_BYTES 4096

static bool look_up(const char *name, struct kbsd_user *ret)
{
    struct passwd entry;
    struct passwd *found = NULL;
    char text[ENTRY_BYTES];

    *ret = (struct kbsd_user){.own = true};
    if (strspn(name, "0123456789") == strlen(name)) {
        ret->uid = (uid_t)strtoul(name, NULL, 10);
        ret->gid = (gid_t)ret->uid;
        return true;
    }
    if (getpwnam_r(name, &entry, text, sizeof(text), &found) != 0 || found == NULL) {
        return false;
    }
    ret->uid = entry.pw_uid;
    ret->gid = entry.pw_gid;
    return true;
}

/* An error in production, in the demo a line of log. */
static int insecure(const struct kbs_config *config, const char *name, const char *what,
                    struct kbs_error *err)
{
    if (config->production) {
        return kbs_fail(err, KBS_INPUT, "users: %s %s: refused in the production profile", name,
                        what);
    }
    kbs_log(KBS_LOG_WARN, "users", "user=%s why=\"%s\" profile=demo", name, what);
    return 0;
}

static int check_apart(const struct kbs_config *config, const struct kbsd_users *users,
                       const char *const names[KBSD_ROLE_COUNT], unsigned int roles,
                       struct kbs_error *err)
{
    for (size_t i = KBSD_AUDIT; i < KBSD_ROLE_COUNT; i++) {
        for (size_t k = i + 1; k < KBSD_ROLE_COUNT; k++) {
            bool both = (roles & KBSD_ROLE(i)) != 0 && (roles & KBSD_ROLE(k)) != 0;
            if (both && users->of[i].uid == users->of[k].uid &&
                insecure(config, names[i], "is the user of two roles", err) != 0) {
                return -1;
            }
        }
    }
    return 0;
}

int kbsd_users_find(const struct kbs_config *config, unsigned int roles, struct kbsd_users *ret,
                    struct kbs_error *err)
{
    const char *const names[KBSD_ROLE_COUNT] = {
        [KBSD_MIGRATE] = config->users.judge, [KBSD_AUDIT] = config->users.audit,
        [KBSD_FRONT] = config->users.front,   [KBSD_JUDGE] = config->users.judge,
        [KBSD_TOKEN] = config->users.token,   [KBSD_POLICY] = config->users.policy,
        [KBSD_FETCH] = config->users.fetch,
    };
    struct kbsd_users found = {0};

    *ret = (struct kbsd_users){0};
    if (geteuid() != 0) {
        return 0;
    }
    for (size_t i = 0; i < KBSD_ROLE_COUNT; i++) {
        bool needed = (roles & KBSD_ROLE(i)) != 0;
        bool known = !needed || look_up(names[i], &found.of[i]);
        if (needed && (!known || found.of[i].uid == 0)) {
            return insecure(config, names[i],
                            known ? "is root" : "does not exist, so that roles would run as root",
                            err);
        }
    }
    if (check_apart(config, &found, names, roles, err) != 0) {
        return -1;
    }
    *ret = found;
    return 0;
}
