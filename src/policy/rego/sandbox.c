/*
 * The problem: a Rego policy is a program. The engine's own bounds do not hold for parsing,
 * recursion and built-in functions, and a process that died of a policy would take the policies
 * that others need with it. The approach: fork. The copy has everything the parent has parsed, does
 * one thing, writes its result to a pipe and exits. What stops it are things that it cannot argue
 * with: a timer whose signal has its default action, which is death; the address space; the stack.
 * Any end but a written result is "not done".
 *
 * The parent needs no right to kill for this, which its list of system calls does not give it. A
 * copy that outlives its timer is no longer what was forked, and the parent gives up.
 *
 * Rejected: a thread (cannot be ended, shares the heap); the engine's timer (not checked in built-in
 * functions); a fresh process per decision (would parse the policy each time).
 */
#include "policy/rego/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/limits.h"

#define GRACE_MS 2000 /* a busy machine: from the timer's signal to the end of the pipe */

/* In the copy. */
static void sandbox_child(kbs_sandbox_work *work, const void *arg, uint8_t *result, size_t size,
                          unsigned int ms, int out)
{
    const struct itimerval timer = {
        .it_value = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000}};

    if (setitimer(ITIMER_REAL, &timer, NULL) != 0) {
        _exit(1);
    }
    work(arg, result);
    _exit(write(out, result, size) == (ssize_t)size ? 0 : 1);
}

/* Reads to the end of the pipe, which the copy's end is. */
static int sandbox_read(int in, uint8_t *result, size_t size, size_t *ret_len, uint64_t deadline_ns,
                        struct kbs_error *err)
{
    uint8_t more;

    *ret_len = 0;
    for (;;) {
        struct pollfd p = {.fd = in, .events = POLLIN};
        int ready = poll(&p, 1, kbs_deadline_poll_ms(deadline_ns));

        if (ready == 0) {
            return kbs_fail(err, KBS_DEADLINE, "a policy's process outlived its time");
        }
        if (ready < 0) {
            continue; /* EINTR */
        }
        bool full = *ret_len == size;
        ssize_t n = full ? read(in, &more, 1) : read(in, result + *ret_len, size - *ret_len);
        if (n == 0) {
            return 0;
        }
        if (full || (n < 0 && errno != EINTR)) {
            return kbs_fail(err, KBS_INTERNAL, "a policy's process wrote something else");
        }
        *ret_len += n > 0 ? (size_t)n : 0;
    }
}

int kbs_sandbox_run(kbs_sandbox_work *work, const void *arg, void *ret, size_t ret_size,
                    unsigned int ms, bool *ret_done, struct kbs_error *err)
{
    uint8_t result[512] = {0};
    size_t len = 0;
    int pipe_fds[2];
    int status = 0;
    int rc = 0;

    *ret_done = false;
    if (ret_size > sizeof(result)) {
        return kbs_fail(err, KBS_INTERNAL, "a result of more than %zu bytes", sizeof(result));
    }
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "no pipe to a policy's process");
    }
    uint64_t deadline_ns = kbs_deadline_in_ms(ms + GRACE_MS);
    pid_t pid = fork();
    if (pid == 0) {
        kbs_io_close(&pipe_fds[0]);
        sandbox_child(work, arg, result, ret_size, ms, pipe_fds[1]);
    }
    kbs_io_close(&pipe_fds[1]);
    if (pid < 0) {
        rc = kbs_fail_errno(err, KBS_INTERNAL, "no process for a policy");
    } else {
        rc = sandbox_read(pipe_fds[0], result, ret_size, &len, deadline_ns, err);
    }
    kbs_io_close(&pipe_fds[0]);
    if (rc != 0) {
        return -1;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        /* A debugger may stop us. */
    }
    if (len == ret_size && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        memcpy(ret, result, ret_size);
        *ret_done = true;
    }
    return 0;
}
