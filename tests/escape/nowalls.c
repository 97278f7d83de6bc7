/*
 * Runs a command on a kernel that has neither seccomp nor Landlock, as far as the command can tell:
 * a filter makes their system calls fail with ENOSYS. For the test that a role which cannot be
 * confined does not serve in production.
 *
 *   nowalls COMMAND [ARGUMENT...]
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    const struct scmp_arg_cmp set_seccomp = SCMP_A0(SCMP_CMP_EQ, PR_SET_SECCOMP);

    if (argc < 2 || filter == NULL ||
        seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(seccomp), 0) != 0 ||
        seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), 444, 0) != 0 /* landlock_create_ruleset */
        || seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(prctl), 1,
                                  &set_seccomp) != 0 ||
        seccomp_load(filter) != 0) {
        (void)fprintf(stderr, "nowalls: cannot make the filter\n");
        return 125;
    }
    seccomp_release(filter);
    (void)execv(argv[1], &argv[1]);
    perror(argv[1]);
    return 126;
}
