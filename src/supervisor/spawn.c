/*
 * A role must not inherit anything it was not meant to have: no descriptor, no signal disposition
 * or mask, no environment variable. The child between fork and exec makes async-signal-safe calls
 * only.
 *
 * Rejected: PR_SET_PDEATHSIG. It would kill a token worker in the middle of a login when kbsd dies,
 * and SoftHSM destroys its token when that happens; roles notice the end of their control channel
 * instead.
 */
#include "supervisor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/process.h"

#define PATH_BYTES 4096

static int role_path(const char *folder, const char *name, char path[PATH_BYTES],
                     struct kbs_error *err)
{
    int n = snprintf(path, PATH_BYTES, "%s/%s", folder, name);
    if (n < 0 || n >= PATH_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the path of %s is too long", name);
    }
    return 0;
}

int kbsd_spawn_check(const char *folder, const char *name, struct kbs_error *err)
{
    char path[PATH_BYTES];
    if (role_path(folder, name, path, err) != 0) {
        return -1;
    }
    if (access(path, X_OK) != 0) {
        return kbs_fail_errno(err, KBS_INPUT, "%s cannot be executed: %s", path, strerror(errno));
    }
    return 0;
}

static void default_signals(void)
{
    sigset_t none;
    for (int s = 1; s < NSIG; s++) {
        if (s != SIGKILL && s != SIGSTOP) {
            (void)signal(s, SIG_DFL);
        }
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* dup2() that also works, and clears close-on-exec, when the descriptor is already in its place. */
static int place(int fd, int where)
{
    return fd == where ? fcntl(fd, F_SETFD, 0) : dup2(fd, where);
}

/* For good: from root, setresuid() takes all capabilities along. */
static int change_user(const struct kbsd_user *as)
{
    if (!as->own) {
        return 0;
    }
    return setgroups(0, NULL) != 0 || setresgid(as->gid, as->gid, as->gid) != 0 ||
                   setresuid(as->uid, as->uid, as->uid) != 0
               ? -1
               : 0;
}

_Noreturn static void become(char *path, const struct kbsd_user *as, int null_fd, int control)
{
    char *const argv[] = {strrchr(path, '/') + 1, NULL};
    char *const environment[] = {NULL};
    default_signals();
    (void)setpgid(0, 0); /* a key press at the terminal is for kbsd alone, which then drains */
    /* In this order: kbsd has 0, 1 and 2 open, so `control` is above them, but null_fd may be
     * where it goes. */
    if (place(null_fd, STDIN_FILENO) < 0 || place(null_fd, STDOUT_FILENO) < 0 ||
        place(control, KBS_FD_CONTROL) < 0 || close_range(KBS_FD_CONTROL + 1, ~0u, 0) != 0 ||
        change_user(as) != 0) {
        _exit(KBSD_EXIT_NOT_EXECUTED);
    }
    (void)execve(path, argv, environment);
    _exit(KBSD_EXIT_NOT_EXECUTED);
}

int kbsd_spawn(const char *folder, const char *name, const struct kbsd_user *as, int null_fd,
               int control, pid_t *ret_pid, struct kbs_error *err)
{
    char path[PATH_BYTES];
    if (role_path(folder, name, path, err) != 0) {
        return -1;
    }
    pid_t pid = fork();
    if (pid < 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "%s cannot be started: fork", name);
    }
    if (pid == 0) {
        become(path, as, null_fd, control);
    }
    *ret_pid = pid;
    return 0;
}
