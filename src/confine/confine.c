/*
 * Putting up the walls, in the order in which each still lets the next be built: Landlock (which opens
 * the folders it allows, and binds the threads that are started from then on), limits (no new thread),
 * seccomp (which ends both, and binds the threads that are there).
 *
 * What a library would do lazily, from a path that is about to disappear, is done first: the time
 * zone, which gmtime_r(3) reads on the first line of log.
 */
#include "confine/confine.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "confine/list.h"

/* An error in production; in the demo said and forgotten. Returns what `rc` shall become. */
static int judge(const struct kbs_confine_plan *plan, const char *role, int rc,
                 struct kbs_error *err)
{
    if (rc == 0 || plan->production) {
        return rc;
    }
    kbs_log(KBS_LOG_WARN, "not-confined", "name=%s why=\"%s\" profile=demo", role, err->detail);
    *err = KBS_ERROR_NONE;
    return 0;
}

int kbs_confine(const struct kbs_confine_plan *plan, struct kbs_error *err)
{
    const struct kbs_confine_list *list = kbs_confine_list(plan->role);
    bool walls[3];
    int abi = 0;
    int rc;

    tzset();
    if (plan->production && plan->log_only) {
        return kbs_fail(err, KBS_INPUT, "seccomp: only logging is refused in production");
    }
    rc = kbs_confine_landlock(list, plan, &abi, err);
    walls[1] = rc == 0;
    if (judge(plan, list->name, rc, err) != 0) {
        return -1;
    }
    if (plan->threads != NULL && plan->threads(plan->data, err) != 0) {
        return -1;
    }
    rc = kbs_confine_limits(list, plan->descriptors, err);
    walls[0] = rc == 0;
    if (judge(plan, list->name, rc, err) != 0) {
        return -1;
    }
    rc = kbs_confine_seccomp(list, plan->log_only, err);
    walls[2] = rc == 0;
    if (judge(plan, list->name, rc, err) != 0) {
        return -1;
    }
    kbs_log(KBS_LOG_INFO, "confined", "limits=%s landlock=%s abi=%d seccomp=%s calls=%zu",
            walls[0] ? "yes" : "no", walls[1] ? "yes" : "no", abi,
            !walls[2]        ? "no"
            : plan->log_only ? "log"
                             : "kill",
            list->n_calls + kbs_confine_extra_count);
    return 0;
}

bool kbs_confine_print(enum kbs_confine_role role, int argc, char *const argv[])
{
    const struct kbs_confine_list *list = kbs_confine_list(role);

    if (argc != 2 || strcmp(argv[1], "--print-seccomp") != 0) {
        return false;
    }
    for (size_t i = 0; i < list->n_calls; i++) {
        const char *when = kbs_confine_when_text(list->calls[i].when);
        (void)printf("%s%s%s\n", list->calls[i].name, when[0] != '\0' ? "  " : "", when);
    }
    for (size_t i = 0; i < kbs_confine_extra_count; i++) {
        (void)printf("%s  sanitizers\n", kbs_confine_extra[i].name);
    }
    (void)printf("%s: %zu system calls", list->name, list->n_calls);
    if (kbs_confine_extra_count > 0) {
        (void)printf(", and %zu for the sanitizers", kbs_confine_extra_count);
    }
    (void)printf("\n");
    return true;
}
