/* See login.h. The lock is of an open file: the worker has a copy of pin_fd, so the PIN file is opened once more for it. */
#include "providers/login.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/io.h"
#include "base/pin_latch.h"

#define STEP_MS 5

/* token.lock, of which kbsd says the same (src/config). */
static int open_lock(struct kbs_login *login, const char *pin_file, struct kbs_error *err)
{
    const char *slash = strrchr(pin_file, '/');
    char path[PATH_MAX + 16];

    (void)snprintf(path, sizeof(path), "%.*stoken.lock",
                   slash != NULL ? (int)(slash + 1 - pin_file) : 0, pin_file);
    login->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    login->has_latch = login->lock_fd >= 0;
    if (login->has_latch && geteuid() == 0) { /* kbsd, which may run as the owner, opens it too */
        (void)!fchown(login->lock_fd, login->pin.st_uid, login->pin.st_gid);
    }
    if (login->lock_fd < 0) {
        login->lock_fd = open(pin_file, O_RDONLY | O_CLOEXEC);
    }
    return login->lock_fd >= 0
               ? 0
               : kbs_fail_errno(err, KBS_MISSING, "the PIN file %.100s cannot be read", pin_file);
}

static int wait_for_turn(const struct kbs_login *login, uint64_t deadline_ns, struct kbs_error *err)
{
    while (flock(login->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return kbs_fail_errno(err, KBS_INTERNAL, "token.lock cannot be locked");
        }
        if (kbs_deadline_poll_ms(deadline_ns) == 0) {
            return kbs_fail(err, KBS_DEADLINE, "other logins to the token did not end in time");
        }
        (void)poll(NULL, 0, STEP_MS);
    }
    return 0;
}

static int may_try(const struct kbs_login *login, struct kbs_error *err)
{
    int r = login->has_latch ? kbs_pin_latch_check(login->lock_fd, &login->pin, err) : 0;

    return r == KBS_PIN_LATCHED
               ? kbs_fail(err, KBS_UNAUTHENTICATED,
                          "the token has refused the PIN in this file: it is not tried again until "
                          "the file is changed")
               : r;
}

int kbs_login_begin(struct kbs_login *login, const char *pin_file, int pin_fd, uint64_t deadline_ns,
                    struct kbs_error *err)
{
    if (fstat(pin_fd, &login->pin) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "the PIN file cannot be looked at");
    }
    if (open_lock(login, pin_file, err) != 0 || wait_for_turn(login, deadline_ns, err) != 0 ||
        may_try(login, err) != 0) {
        kbs_io_close(&login->lock_fd);
        return -1;
    }
    return 0;
}

void kbs_login_end(struct kbs_login *login, bool refused)
{
    struct kbs_error ignored = KBS_ERROR_NONE;

    if (login->lock_fd >= 0 && login->has_latch && refused) {
        (void)!kbs_pin_latch_set(login->lock_fd, &login->pin, &ignored);
    }
    if (login->lock_fd >= 0) {
        (void)flock(login->lock_fd, LOCK_UN); /* a child may have been forked off with a copy */
    }
    kbs_io_close(&login->lock_fd);
}
