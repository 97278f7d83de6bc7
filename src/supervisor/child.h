/* One process of a role: how it is started and ended, whoever's child it is. */
#ifndef KBS_SUPERVISOR_CHILD_H
#define KBS_SUPERVISOR_CHILD_H

#include <sys/types.h>

#include "base/clock.h"
#include "supervisor/role.h"
#include "supervisor/users.h"

/* Said nothing of its end, or did not exit. */
#define KBSD_STATUS_NONE (-1)

struct kbsd_child {
    enum kbsd_role role;
    enum kbsd_state state;
    pid_t pid;   /* forked: to wait for and to signal; unit: as it says, for people; or -1 */
    int control; /* -1: none */
    int leash;   /* unit: what ends it (confine/leash.h); -1: forked, or none */
    int left;    /* the status in its LEAVING; KBSD_STATUS_NONE */
    uint64_t deadline_ns; /* of the state */
    bool condemned;       /* KBSD_LOGIN: to be ended as soon as the login is over */
    bool worn;            /* kbs-token: it has said WORN */
    bool unheard;         /* unit, KBSD_LOGIN: has sent what is no message; only its end counts */
};

/* Where processes come from. All borrowed. */
struct kbsd_source {
    const char *libexec; /* folder of the executables, to fork and exec; used if units is NULL */
    const char *units; /* folder of the sockets ROLE.sock, each connection to which is a process */
    const struct kbsd_users *users; /* libexec: whom to run them as */
    int null_fd;
};

void kbsd_child_init(struct kbsd_child *c, enum kbsd_role role);

/*
 * 0 if every role can be had from there, as far as can be told without starting one. *roles: those that
 * are needed; gets KBSD_POLICY too, if that can be had.
 */
KBS_MUST_CHECK int kbsd_source_check(const struct kbsd_source *from, unsigned int *roles,
                                     struct kbs_error *err);

/* A new process for a child that has none: STARTING, with its control channel. */
KBS_MUST_CHECK int kbsd_child_start(struct kbsd_child *c, const struct kbsd_source *from,
                                    struct kbs_error *err);

/* A process of a unit, whose end is the end of its control channel: there is no waitpid(2) for it. */
bool kbsd_child_is_unit(const struct kbsd_child *c);

/*
 * ENDING. With a signal number it is sent to a child of ours; a unit can only be killed. Without (0)
 * the role is expected to leave by itself. Either way its control channel says that we are done with
 * it, and SIGKILL follows after `grace_ms`, if that is not 0.
 */
void kbsd_child_kill(struct kbsd_child *c, int signal_number, uint64_t grace_ms);

/* ENDING: asks it to finish what is in flight and to leave, for which it has `wait_ms`. */
void kbsd_child_drain(struct kbsd_child *c, uint32_t wait_ms);

/* The process is gone. */
void kbsd_child_gone(struct kbsd_child *c);

#endif
