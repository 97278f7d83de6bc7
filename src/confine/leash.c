/*
 * kill(2) needs the same user or a capability, and kbsd has neither when roles are units. What needs
 * no privilege is a process that asks for a signal: with O_ASYNC the kernel sends one when a
 * descriptor becomes readable, and F_SETSIG makes it SIGKILL. No code of the role takes part, so a
 * PKCS#11 module that hangs is ended like any other. The pair is of datagram sockets because those
 * have no end of file: kbsd's death must not kill a token worker in the middle of a login, which
 * destroys a SoftHSM token.
 *
 * A role with an attacker in it would slip the leash, or close its control channel and live on as a
 * dead one. A filter takes the calls for that away; the role's own list (lists.c), which comes on
 * top, has no other way to the same end (no dup, no connect, no close_range).
 *
 * Rejected: a timer per operation inside the role (it guesses what kbsd knows, and an attacker
 * re-arms it); asking the service manager (a supervisor with a right over other units, and D-Bus);
 * PR_SET_PDEATHSIG (the manager is the parent).
 */
#include "confine/leash.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/process.h"

#define INT_BITS UINT64_C(0xffffffff) /* of an argument that the kernel takes as an int */

/* To the place that the filter knows. */
static int put_in_place(int fd, struct kbs_error *err)
{
    if (fd != KBS_FD_LEASH) {
        int rc = dup3(fd, KBS_FD_LEASH, O_CLOEXEC);

        (void)close(fd);
        if (rc < 0) {
            return kbs_fail_errno(err, KBS_INPUT, "leash: dup3");
        }
    }
    return 0;
}

static int arm(struct kbs_error *err)
{
    struct pollfd pulled = {.fd = KBS_FD_LEASH, .events = POLLIN};

    if (fcntl(KBS_FD_LEASH, F_SETSIG, SIGKILL) != 0 ||
        fcntl(KBS_FD_LEASH, F_SETOWN, getpid()) != 0 ||
        fcntl(KBS_FD_LEASH, F_SETFL, O_ASYNC | O_NONBLOCK) != 0) {
        return kbs_fail_errno(err, KBS_INPUT, "leash: fcntl");
    }
    /* What came before that has made no signal. */
    return poll(&pulled, 1, 0) == 0 ? 0 : kbs_fail(err, KBS_INTERNAL, "leash: pulled already");
}

static int deny(scmp_filter_ctx filter, int nr, int fd)
{
    const struct scmp_arg_cmp is =
        SCMP_CMP64(0, SCMP_CMP_MASKED_EQ, INT_BITS, (scmp_datum_t)(unsigned int)fd);

    return seccomp_rule_add_array(filter, SCMP_ACT_KILL_PROCESS, nr, 1, &is);
}

static int hold(struct kbs_error *err)
{
    static const struct {
        int nr;
        int fd;
    } denied[] = {
        {SCMP_SYS(close), KBS_FD_CONTROL},    {SCMP_SYS(close), KBS_FD_LEASH},
        {SCMP_SYS(shutdown), KBS_FD_CONTROL}, {SCMP_SYS(shutdown), KBS_FD_LEASH},
        {SCMP_SYS(fcntl), KBS_FD_LEASH},      {SCMP_SYS(ioctl), KBS_FD_LEASH},
    };
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int rc = filter == NULL ? -ENOMEM : 0;

    for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]) && rc == 0; i++) {
        rc = deny(filter, denied[i].nr, denied[i].fd);
    }
    if (rc == 0) {
        rc = seccomp_load(filter);
    }
    seccomp_release(filter);
    return rc == 0 ? 0
                   : kbs_fail_native(err, KBS_INPUT, KBS_ORIGIN_ERRNO, -rc, "leash: seccomp: %s",
                                     strerror(-rc));
}

int kbs_confine_leash(int fd, struct kbs_error *err)
{
    if (put_in_place(fd, err) != 0 || arm(err) != 0) {
        return -1;
    }
    return hold(err);
}
