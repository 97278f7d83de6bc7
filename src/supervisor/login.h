/* Logins to the token: one at a time, and none after a PIN error. */
#ifndef KBS_SUPERVISOR_LOGIN_H
#define KBS_SUPERVISOR_LOGIN_H

#include <sys/stat.h>

#include "supervisor/unit.h"

struct kbsd_login {
    int lock_fd;                     /* token.lock; -1 if there can be none */
    const struct kbsd_child *holder; /* the worker that has the grant; NULL: nobody */
    uint64_t retry_ns;               /* another process has the lock; KBS_DEADLINE_NONE: none */
    bool latched;                    /* the PIN was refused */
};

#define KBSD_LOGIN_NONE ((struct kbsd_login){.lock_fd = -1, .retry_ns = KBS_DEADLINE_NONE})

/* token.lock, as `kbs-admin init` takes it. A read-only folder has none. */
void kbsd_login_open(struct kbsd_login *l, const char *lock_file);
void kbsd_login_close(struct kbsd_login *l);

/*
 * Grants the login to the first worker that waits for it, if it is free; it is in KBSD_LOGIN then.
 * Call again when a holder is done, and at `retry_ns`. KBSD_LOGIN_REFUSED: the PIN in that worker's
 * file was refused before, by this kbsd or another, and is not tried; else 0.
 */
#define KBSD_LOGIN_REFUSED 1
KBS_MUST_CHECK int kbsd_login_grant(struct kbsd_login *l, struct kbsd_unit *units, size_t n_units);

/* The token refused the holder's PIN, which came from the file with that status: kept in token.lock. */
void kbsd_login_refused(struct kbsd_login *l, const struct stat *pin);

/* The child is done logging in, or gone: the next may. Anybody but the holder is ignored. */
void kbsd_login_over(struct kbsd_login *l, const struct kbsd_child *c);

/* A PIN error: no grant from now on. True the first time. */
bool kbsd_login_latch(struct kbsd_login *l);

#endif
