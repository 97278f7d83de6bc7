/*
 * kbsd may be starting workers of its own at this moment, and so may another kbs-admin: SoftHSM
 * processes that log in at the same time race for the token's files, and a PIN that was refused
 * once must not be tried again by anybody (supervisor/login.c). So a login happens under the flock
 * on token.lock, and a refusal is noted there.
 *
 * A token.lock that we make as root belongs to whom its folder belongs to, or kbsd could not open
 * it.
 */
#include "cli/token_start.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/pin_latch.h"
#include "channel/channel.h"

#define LOCK_RETRY_NS 100000000L

struct start {
    const struct kbs_cli_worker *w;
    const struct kbs_cli_login *login;
    int lock; /* held, or -1 */
    bool logged_in;
};

static int make_lock(const char *path)
{
    char folder[PATH_MAX];
    struct stat st;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd >= 0 && geteuid() == 0 && strlen(path) < sizeof(folder)) {
        (void)snprintf(folder, sizeof(folder), "%s", path);
        if (stat(dirname(folder), &st) != 0 || fchown(fd, st.st_uid, st.st_gid) != 0) {
            kbs_io_close(&fd);
            (void)unlink(path);
        }
    }
    return fd;
}

/* Waits for its turn. A folder that nobody can write to has no lock. */
static int take_lock(struct start *s, uint64_t deadline, struct kbs_error *err)
{
    const struct timespec pause = {.tv_nsec = LOCK_RETRY_NS};
    const char *path = s->login->lock_file;

    if (path == NULL) {
        return 0;
    }
    s->lock = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (s->lock < 0 && errno == ENOENT) {
        s->lock = make_lock(path);
    }
    if (s->lock < 0) {
        return errno == EROFS ? 0 : kbs_fail_errno(err, KBS_INPUT, "cannot open %.120s", path);
    }
    while (flock(s->lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return kbs_fail_errno(err, KBS_INPUT, "cannot lock %.120s", path);
        }
        if (kbs_clock_mono_ns() >= deadline) {
            return kbs_fail(err, KBS_TOKEN_DOWN,
                            "others are logging in to the token: %.120s is locked", path);
        }
        (void)nanosleep(&pause, NULL);
    }
    return 0;
}

static int grant(struct start *s, uint64_t deadline, struct kbs_error *err)
{
    if (take_lock(s, deadline, err) != 0) {
        return -1;
    }
    int r = s->lock >= 0 ? kbs_pin_latch_check(s->lock, &s->login->pin, err) : 0;
    if (r == KBS_PIN_LATCHED) {
        return kbs_fail(err, KBS_TOKEN_DOWN,
                        "the token has refused this PIN before: correct the PIN file");
    }
    return r != 0
               ? -1
               : kbs_channel_send(s->w->control, KBS_WIRE_LOGIN_GRANT, 0, NULL, -1, deadline, err);
}

static int login_done(struct start *s, const struct kbs_channel_msg *m, struct kbs_error *err)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    struct kbs_wire_login_done done;

    if (kbs_channel_msg_decode(m, KBS_WIRE_LOGIN_DONE, &done, err) != 0) {
        return -1;
    }
    if (done.ok == 0) {
        int n = done.detail.len < 120 ? (int)done.detail.len : 120;
        (void)kbs_fail(err, KBS_TOKEN_DOWN, "the token: %.*s", n, (const char *)done.detail.p);
        if (done.pin_error != 0 && s->lock >= 0 &&
            kbs_pin_latch_set(s->lock, &s->login->pin, &ignored) != 0) {
            (void)kbs_fail(err, KBS_TOKEN_DOWN, "the token refuses the PIN, and %s",
                           ignored.detail);
        }
        return -1;
    }
    s->logged_in = true;
    kbs_io_close(&s->lock);
    return 0;
}

/* One message on the control channel. 1 when it was READY. */
static int step(struct start *s, const struct kbs_channel_msg *m, uint64_t deadline,
                struct kbs_error *err)
{
    if (m->frame.type == KBS_WIRE_LOGIN_WANT) {
        return grant(s, deadline, err);
    }
    if (m->frame.type == KBS_WIRE_LOGIN_DONE) {
        return login_done(s, m, err);
    }
    return m->frame.type == KBS_WIRE_READY
               ? 1
               : kbs_fail(err, KBS_INTERNAL, "kbs-token sent %s before READY",
                          kbs_wire_type_name(m->frame.type));
}

int kbs_cli_token_ready(const struct kbs_cli_worker *w, const struct kbs_cli_login *login,
                        uint64_t deadline, struct kbs_error *err)
{
    struct start s = {.w = w, .login = login, .lock = -1};
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    int r = 0;

    while (r == 0) {
        r = kbs_channel_recv(w->control, &m, deadline, err);
        if (r == KBS_CHANNEL_EOF || (r == 0 && m.frame.type == KBS_WIRE_LEAVING)) {
            r = s.logged_in ? KBS_CLI_TOKEN_ENDED
                            : kbs_fail(err, KBS_TOKEN_DOWN, "kbs-token ended before it logged in");
            break;
        }
        if (r == 0) {
            r = step(&s, &m, deadline, err);
            if (r == 1) {
                r = 0;
                break;
            }
        }
    }
    kbs_io_close(&s.lock);
    kbs_channel_msg_deinit(&m);
    return r;
}
