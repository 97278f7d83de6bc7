/*
 * A role is had in one of two ways, and only this file knows which. By fork and exec it is our
 * child: waitpid(2) says how it ended and kill(2) ends it. As a unit it is a process that the
 * service manager has started for our connection to the unit's socket, under a user and in name
 * spaces that are none of our business: its control channel ends when it does, its last message
 * says the status, and the leash ends it.
 *
 * A unit is its process only as long as it can neither close its control channel nor slip the
 * leash, which it gives up before it does anything else (confine/leash.c).
 */
#include "supervisor/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/io.h"
#include "channel/channel.h"
#include "supervisor/spawn.h"
#include "supervisor/times.h"

#define MESSAGE_MS 1000

void kbsd_child_init(struct kbsd_child *c, enum kbsd_role role)
{
    *c = (struct kbsd_child){
        .role = role, .pid = -1, .control = -1, .leash = -1, .left = KBSD_STATUS_NONE};
}

bool kbsd_child_is_unit(const struct kbsd_child *c)
{
    return c->leash >= 0;
}

static int unit_address(const char *folder, const char *name, struct sockaddr_un *ret,
                        struct kbs_error *err)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%s/%s.sock", folder, name);
    if (n < 0 || (size_t)n >= sizeof(ret->sun_path)) {
        return kbs_fail(err, KBS_INPUT, "the path of %s.sock is too long", name);
    }
    return 0;
}

static int unit_check(const char *folder, const char *name, struct kbs_error *err)
{
    struct sockaddr_un un;
    struct stat st;
    if (unit_address(folder, name, &un, err) != 0) {
        return -1;
    }
    if (stat(un.sun_path, &st) != 0) {
        return kbs_fail_errno(err, KBS_INPUT, "%s: %s: is %s.socket started?", un.sun_path,
                              strerror(errno), name);
    }
    return S_ISSOCK(st.st_mode) ? 0 : kbs_fail(err, KBS_INPUT, "%s is not a socket", un.sun_path);
}

static int role_check(const struct kbsd_source *from, enum kbsd_role role, struct kbs_error *err)
{
    const char *name = kbsd_role_name(role);
    return from->units != NULL ? unit_check(from->units, name, err)
                               : kbsd_spawn_check(from->libexec, name, err);
}

int kbsd_source_check(const struct kbsd_source *from, unsigned int *roles, struct kbs_error *err)
{
    struct kbs_error without = KBS_ERROR_NONE;
    for (enum kbsd_role r = KBSD_AUDIT; r < KBSD_ROLE_COUNT; r++) {
        if ((*roles & KBSD_ROLE(r)) != 0 && role_check(from, r, err) != 0) {
            return -1;
        }
    }
    *roles |= role_check(from, KBSD_POLICY, &without) == 0 ? KBSD_ROLE(KBSD_POLICY) : 0;
    return 0;
}

static int start_forked(struct kbsd_child *c, const struct kbsd_source *from, struct kbs_error *err)
{
    int pair[2];
    if (kbs_channel_pair(pair, err) != 0) {
        return -1;
    }
    int rc = kbsd_spawn(from->libexec, kbsd_role_name(c->role), &from->users->of[c->role],
                        from->null_fd, pair[1], &c->pid, err);
    kbs_io_close(&pair[1]);
    if (rc != 0) {
        kbs_io_close(&pair[0]);
        return -1;
    }
    c->control = pair[0];
    return 0;
}

/* Never waits: a socket whose queue is full is one that the service manager does not serve. */
static int unit_connect(const char *folder, const char *name, int *ret_fd, struct kbs_error *err)
{
    struct sockaddr_un un;
    if (unit_address(folder, name, &un, err) != 0) {
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&un, sizeof(un)) != 0 ||
        fcntl(fd, F_SETFL, 0) != 0) {
        (void)kbs_fail_errno(err, KBS_INTERNAL, "cannot connect to %s: %s", un.sun_path,
                             strerror(errno));
        kbs_io_close(&fd);
        return -1;
    }
    *ret_fd = fd;
    return 0;
}

/* The leash goes first: there is no moment in which the role could hang without one. */
static int start_unit(struct kbsd_child *c, const struct kbsd_source *from, struct kbs_error *err)
{
    const struct kbs_wire_attach msg = {.what = KBS_ATTACH_LEASH};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "a leash could not be made");
    }
    int rc = unit_connect(from->units, kbsd_role_name(c->role), &c->control, err);
    if (rc == 0) {
        rc = kbs_channel_send(c->control, KBS_WIRE_ATTACH, 0, &msg, pair[1],
                              kbs_deadline_in_ms(MESSAGE_MS), err);
    }
    kbs_io_close(&pair[1]);
    if (rc != 0) {
        kbs_io_close(&pair[0]);
        kbs_io_close(&c->control);
        return -1;
    }
    c->leash = pair[0];
    return 0;
}

int kbsd_child_start(struct kbsd_child *c, const struct kbsd_source *from, struct kbs_error *err)
{
    kbsd_child_init(c, c->role);
    if ((from->units != NULL ? start_unit : start_forked)(c, from, err) != 0) {
        return -1;
    }
    c->state = KBSD_STARTING;
    c->deadline_ns = kbs_deadline_in_ms(kbsd_times.start_ms);
    return 0;
}

void kbsd_child_kill(struct kbsd_child *c, int signal_number, uint64_t grace_ms)
{
    c->state = KBSD_ENDING;
    c->deadline_ns = grace_ms == 0 ? KBS_DEADLINE_NONE : kbs_deadline_in_ms((uint32_t)grace_ms);
    if (kbsd_child_is_unit(c)) {
        if (signal_number != 0) {
            (void)!send(c->leash, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        /* For the role this is the end of file; for us the other direction tells of its end. */
        (void)shutdown(c->control, SHUT_WR);
        return;
    }
    if (signal_number != 0 && c->pid > 0) {
        (void)kill(c->pid, signal_number);
    }
    /* After the signal: what has to be killed is not invited to act on the end of its channel. */
    kbs_io_close(&c->control);
}

/* The channel stays open: its end would mean "at once". */
void kbsd_child_drain(struct kbsd_child *c, uint32_t wait_ms)
{
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t deadline_ns = kbs_deadline_in_ms(MESSAGE_MS);
    bool sent = kbs_channel_send(c->control, KBS_WIRE_DRAIN, 0, NULL, -1, deadline_ns, &err) == 0;
    c->state = KBSD_ENDING;
    c->deadline_ns = kbs_deadline_in_ms(sent ? wait_ms : kbsd_times.grace_ms);
}

void kbsd_child_gone(struct kbsd_child *c)
{
    kbs_io_close(&c->control);
    kbs_io_close(&c->leash);
    c->pid = -1;
    c->state = KBSD_GONE;
    c->deadline_ns = KBS_DEADLINE_NONE;
}
