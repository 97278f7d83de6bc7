/*
 * The seccomp filter of a list, through libseccomp, for all threads at once. Whatever is not on the
 * list ends the process, and so does a call by another architecture's numbers; in log-only mode the
 * kernel logs and allows it, which is how the list for a new PKCS#11 module is found.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "confine/list.h"

#define INT_BITS UINT64_C(0xffffffff) /* of an argument that the kernel takes as an int */

/* One rule per value of the int argument `arg`. */
static int allow_values(scmp_filter_ctx filter, int nr, unsigned int arg, const int *values,
                        size_t n)
{
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct scmp_arg_cmp is =
            SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, INT_BITS, (scmp_datum_t)(unsigned int)values[i]);
        rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, nr, 1, &is);
    }
    return rc;
}

static int allow_nodelay(scmp_filter_ctx filter, int nr)
{
    const struct scmp_arg_cmp is[] = {
        SCMP_CMP64(1, SCMP_CMP_MASKED_EQ, INT_BITS, IPPROTO_TCP),
        SCMP_CMP64(2, SCMP_CMP_MASKED_EQ, INT_BITS, TCP_NODELAY),
    };

    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, nr, 2, is);
}

/* Families above these, netlink among them, are what the C library asks for and can do without. */
static int allow_internet(scmp_filter_ctx filter, int nr)
{
    static const int families[] = {AF_UNIX, AF_INET, AF_INET6};
    const struct scmp_arg_cmp above = SCMP_CMP64(0, SCMP_CMP_GT, AF_INET6);
    int rc = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EACCES), nr, 1, &above);

    return rc != 0 ? rc : allow_values(filter, nr, 0, families, 3);
}

static int add_call(scmp_filter_ctx filter, const struct kbs_confine_call *call)
{
    static const int fcntls[] = {F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW};
    static const int nonblock[] = {FIONBIO};
    static const int socket_level[] = {SOL_SOCKET};
    static const int fork_flags[] = {CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | SIGCHLD};
    static const int thread_flags[] = {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
                                       CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
                                       CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID};
    const struct scmp_arg_cmp not_exec = SCMP_CMP64(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    int nr = seccomp_syscall_resolve_name(call->name);

    if (nr < 0) {
        return 0; /* not on this architecture */
    }
    switch (call->when) {
    case KBS_WHEN_NOT_EXEC:
        return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, nr, 1, &not_exec);
    case KBS_WHEN_FLAGS:
        return allow_values(filter, nr, 1, fcntls, 4);
    case KBS_WHEN_LOCKS:
        return allow_values(filter, nr, 1, fcntls, sizeof(fcntls) / sizeof(fcntls[0]));
    case KBS_WHEN_NONBLOCK:
        return allow_values(filter, nr, 1, nonblock, 1);
    case KBS_WHEN_DOMAIN:
        return allow_values(filter, nr, 1, socket_level, 1);
    case KBS_WHEN_FORK:
        return allow_values(filter, nr, 0, fork_flags, 1);
    case KBS_WHEN_THREAD:
        return allow_values(filter, nr, 0, thread_flags, 1);
    case KBS_WHEN_INTERNET:
        return allow_internet(filter, nr);
    case KBS_WHEN_NODELAY:
        return allow_nodelay(filter, nr);
    case KBS_WHEN_NEVER:
        return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), nr, 0);
    case KBS_WHEN_UNKNOWN:
        return seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), nr, 0);
    case KBS_WHEN_ALWAYS:
    case KBS_WHEN_COUNT:
    default:
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, nr, 0);
    }
}

static bool listed(const struct kbs_confine_list *list, const char *name)
{
    for (size_t i = 0; i < list->n_calls; i++) {
        if (strcmp(list->calls[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int fill(scmp_filter_ctx filter, const struct kbs_confine_list *list, const char **ret_at)
{
    int rc = 0;

    for (size_t i = 0; i < list->n_calls && rc == 0; i++) {
        *ret_at = list->calls[i].name;
        rc = add_call(filter, &list->calls[i]);
    }
    for (size_t i = 0; i < kbs_confine_extra_count && rc == 0; i++) {
        *ret_at = kbs_confine_extra[i].name;
        rc = listed(list, *ret_at) ? 0 : add_call(filter, &kbs_confine_extra[i]);
    }
    return rc;
}

int kbs_confine_seccomp(const struct kbs_confine_list *list, bool log_only, struct kbs_error *err)
{
    scmp_filter_ctx filter = seccomp_init(log_only ? SCMP_ACT_LOG : SCMP_ACT_KILL_PROCESS);
    const char *at = "the filter";
    int rc;

    if (filter == NULL) {
        return kbs_fail(err, KBS_INPUT, "seccomp: this kernel has it not, or not switched on");
    }
    rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (rc == 0) {
        /* A binary tree: a call late on the list costs as much as an early one. */
        rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    }
    if (rc == 0) {
        rc = fill(filter, list, &at);
    }
    if (rc == 0) {
        at = "loading the filter";
        rc = seccomp_load(filter);
    }
    seccomp_release(filter);
    return rc == 0 ? 0
                   : kbs_fail_native(err, KBS_INPUT, KBS_ORIGIN_ERRNO, -rc, "seccomp: %s: %s", at,
                                     strerror(-rc));
}

/* The list that follows is a second filter: of two, the kernel obeys the stricter answer. */
void kbs_confine_no_io_uring(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

    if (filter != NULL &&
        seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(io_uring_setup), 0) == 0) {
        (void)seccomp_load(filter);
    }
    seccomp_release(filter);
}
