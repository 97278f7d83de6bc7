/*
 * SoftHSM processes that initialise and log in at the same time race for the token's files, and a
 * wrong PIN that is tried again may lock it. So workers ask, and are granted the login one by one.
 *
 * Invariants
 *   - At most one token worker is between LOGIN_GRANT and LOGIN_DONE, and while one is, we hold the
 *     flock on token.lock beside the PIN file (beside the ledger, if the PIN is a credential), so that `kbs-admin init` and other instances keep out
 *     as well.
 *   - After one PIN error nobody logs in again in the life of this process, and no process does with
 *     that PIN file (pin_latch.h).
 */
#include "supervisor/login.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "base/io.h"
#include "base/log.h"
#include "base/pin_latch.h"
#include "channel/channel.h"
#include "supervisor/times.h"

#define MESSAGE_MS 1000
#define LOCK_RETRY_MS 100

void kbsd_login_open(struct kbsd_login *l, const char *lock_file)
{
    l->lock_fd = open(lock_file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (l->lock_fd < 0) {
        kbs_log(KBS_LOG_WARN, "token-lock",
                "errno=%d why=\"%s cannot be made: logins are not excluded elsewhere\"", errno,
                lock_file);
    }
}

void kbsd_login_close(struct kbsd_login *l)
{
    kbs_io_close(&l->lock_fd);
}

/* True when no other process is logging in. A lock that cannot be taken at all does not stop
 * the service. */
static bool lock_token(struct kbsd_login *l)
{
    if (l->lock_fd < 0 || flock(l->lock_fd, LOCK_EX | LOCK_NB) == 0) {
        l->retry_ns = KBS_DEADLINE_NONE;
        return true;
    }
    if (errno != EWOULDBLOCK && errno != EINTR) {
        kbs_log(KBS_LOG_WARN, "token-lock", "errno=%d", errno);
        kbs_io_close(&l->lock_fd);
        return true;
    }
    if (l->retry_ns == KBS_DEADLINE_NONE) {
        kbs_log(KBS_LOG_INFO, "token-lock",
                "why=\"another process has the token, waiting for it\"");
    }
    l->retry_ns = kbs_deadline_in_ms(LOCK_RETRY_MS);
    return false;
}

static void unlock_token(struct kbsd_login *l)
{
    if (l->lock_fd >= 0) {
        (void)flock(l->lock_fd, LOCK_UN);
    }
}

/* The worker that waits first, and its unit. */
static struct kbsd_child *find_waiting(struct kbsd_unit *units, size_t n_units,
                                       const struct kbsd_unit **ret_unit)
{
    for (size_t i = 0; i < n_units; i++) {
        struct kbsd_child *token = kbsd_unit_token(&units[i]);
        if (units[i].state == KBSD_UNIT_UP && token != NULL && token->state == KBSD_LOGIN_WAIT) {
            *ret_unit = &units[i];
            return token;
        }
    }
    return NULL;
}

/* Whether the PIN in this worker's file may be tried. A lock file with anything else in it says no. */
static bool may_try(struct kbsd_login *l, const struct kbsd_unit *u)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int rc = l->lock_fd < 0 ? 0 : kbs_pin_latch_check(l->lock_fd, &u->pin, &err);

    if (rc < 0) {
        kbs_log_error("token-lock", &err);
    }
    return rc == 0;
}

void kbsd_login_refused(struct kbsd_login *l, const struct stat *pin)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (l->lock_fd >= 0 && kbs_pin_latch_set(l->lock_fd, pin, &err) != 0) {
        kbs_log_error("token-lock", &err);
    }
}

int kbsd_login_grant(struct kbsd_login *l, struct kbsd_unit *units, size_t n_units)
{
    struct kbs_error err = KBS_ERROR_NONE;
    const struct kbsd_unit *u = NULL;
    struct kbsd_child *c = find_waiting(units, n_units, &u);
    bool waiting = l->retry_ns != KBS_DEADLINE_NONE && kbs_clock_mono_ns() < l->retry_ns;
    if (c == NULL) {
        l->retry_ns = KBS_DEADLINE_NONE; /* nobody waits for the lock any more */
        return 0;
    }
    if (l->holder != NULL || l->latched || waiting || !lock_token(l)) {
        return 0;
    }
    if (!may_try(l, u)) {
        unlock_token(l);
        return KBSD_LOGIN_REFUSED;
    }
    l->holder = c;
    c->state = KBSD_LOGIN;
    c->deadline_ns = kbs_deadline_in_ms(kbsd_times.login_ms);
    kbs_log(KBS_LOG_INFO, "login-granted", "unit=%s child=%ld", u->name, (long)c->pid);
    if (kbs_channel_send(c->control, KBS_WIRE_LOGIN_GRANT, 0, NULL, -1,
                         kbs_deadline_in_ms(MESSAGE_MS), &err) != 0) {
        kbs_log_error("login-grant", &err); /* it is dying; its death ends the login */
    }
    return 0;
}

void kbsd_login_over(struct kbsd_login *l, const struct kbsd_child *c)
{
    if (l->holder == c) {
        l->holder = NULL;
        unlock_token(l);
    }
}

bool kbsd_login_latch(struct kbsd_login *l)
{
    bool first = !l->latched;
    l->latched = true;
    return first;
}
