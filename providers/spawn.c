/*
 * The part of kbsd for one worker (docs/protocol/role-channels.md): configuration, descriptors, GO, a login that is
 * granted when it is our turn, READY. Of the worker's own log nothing is shown but the reason when it does not get
 * ready; a pipe that takes no more is no reason for it to wait.
 *
 * C_Initialize and C_Login of several SoftHSM processes race for the token's files, and a command line starts
 * processes as it likes: a login is granted under the lock that kbsd's are (login.h).
 *
 * The program may be any: it may have descriptors 0 to 3 closed, ignore SIGCHLD, reap every child itself, be forked
 * at any time. A child of it that signs starts a worker of its own; it must not end the parent's, so
 * only the process that started a worker hangs up (shutdown(2)) or waits for it. The worker has its own
 * process group, so that a Ctrl-C at a terminal does not take the key away before the program has decided to end.
 */
#include "providers/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/process.h"
#include "channel/channel.h"
#include "providers/folders.h"
#include "providers/login.h"

#define LOG_BYTES 16384u
#define LIST_BYTES 32768u
#define END_MS 5000
#define STEP_MS 2
#define SPAWN_READY 1 /* step() */
#define FIRST_FD 10   /* above what the worker's own descriptors are put on */

struct spawn {
    struct kbs_settings settings;
    pid_t owner; /* process that started the worker; 0: there is none */
    pid_t pid;
    int control;
    int log;
    bool in_login; /* not to be killed: it may be writing the token's files */
    bool pin_refused;
};

/* ---- a process ---- */

static int lift(int *fd, struct kbs_error *err)
{
    int high = fcntl(*fd, F_DUPFD_CLOEXEC, FIRST_FD);

    if (high < 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "a descriptor cannot be moved");
    }
    kbs_io_close(fd);
    *fd = high;
    return 0;
}

/* As src/channel makes them, but on descriptors that a closed standard input has not made room for. */
static int make_pair(int fds[2], struct kbs_error *err)
{
    return kbs_channel_pair(fds, err) == 0 && lift(&fds[0], err) == 0 && lift(&fds[1], err) == 0
               ? 0
               : -1;
}

static int make_log(int fds[2], struct kbs_error *err)
{
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "pipe");
    }
    return lift(&fds[0], err) == 0 && lift(&fds[1], err) == 0 ? 0 : -1;
}

static int file_actions(posix_spawn_file_actions_t *actions, int control, int log)
{
    int r = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);

    r = r != 0 ? r
               : posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    r = r != 0 ? r : posix_spawn_file_actions_adddup2(actions, log, STDERR_FILENO);
    return r != 0 ? r : posix_spawn_file_actions_adddup2(actions, control, KBS_FD_CONTROL);
}

static int attributes(posix_spawnattr_t *attr)
{
    const int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP;
    sigset_t none;
    sigset_t all;
    int r;

    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    r = posix_spawnattr_setsigmask(attr, &none);
    r = r != 0 ? r : posix_spawnattr_setsigdefault(attr, &all);
    r = r != 0 ? r : posix_spawnattr_setpgroup(attr, 0);
    return r != 0 ? r : posix_spawnattr_setflags(attr, (short)flags);
}

static int start_process(struct spawn *s, int control, int log, struct kbs_error *err)
{
    char *const argv[] = {s->settings.program, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int r = posix_spawn_file_actions_init(&actions);

    if (r == 0 && (r = posix_spawnattr_init(&attr)) != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    if (r != 0) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    r = file_actions(&actions, control, log);
    r = r != 0 ? r : attributes(&attr);
    r = r != 0 ? r : posix_spawn(&s->pid, s->settings.program, &actions, &attr, argv, environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (r != 0) {
        errno = r;
        return kbs_fail_errno(err, KBS_MISSING,
                              "cannot start %.120s: %s (KBS_LIBEXEC is its folder)",
                              s->settings.program, strerror(r));
    }
    s->owner = getpid();
    return 0;
}

/* Hangs up and waits, if it is ours to end. */
static void stop(struct spawn *s)
{
    uint64_t deadline = kbs_deadline_in_ms(END_MS);
    pid_t r = 0;

    if (s->owner == getpid()) {
        (void)shutdown(s->control, SHUT_RDWR); /* whoever else has a copy of it */
        while ((r = waitpid(s->pid, NULL, WNOHANG)) == 0 && kbs_deadline_poll_ms(deadline) > 0) {
            (void)poll(NULL, 0, STEP_MS);
        }
        if (r == 0 && !s->in_login) {
            (void)kill(s->pid, SIGKILL);
            while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR) {
            }
        }
    }
    s->owner = 0;
    kbs_io_close(&s->control);
    kbs_io_close(&s->log);
}

/* ---- what it is told ---- */

static void put_env(const struct kbs_settings *settings, struct kbs_wire_list_builder *list)
{
    for (const char *p = settings->env != NULL ? settings->env : ""; *p != '\0';) {
        size_t n = strcspn(p, ";");

        if (n > 0) {
            kbs_wire_list_add(list, kbs_span(p, n));
        }
        p += n + (p[n] != '\0' ? 1 : 0);
    }
}

static int send_config(const struct spawn *s, uint64_t deadline, struct kbs_error *err)
{
    const struct kbs_settings *settings = &s->settings;
    struct kbs_buf env = KBS_BUF(LIST_BYTES);
    struct kbs_buf folders = KBS_BUF(LIST_BYTES);
    struct kbs_wire_list_builder env_list = {.buf = &env};
    struct kbs_wire_list_builder folder_list = {.buf = &folders};
    int r = kbs_folders_put(settings, &folder_list, err);

    put_env(settings, &env_list);
    if (r == 0 && (r = kbs_buf_check(&env, "the module's environment", err)) == 0) {
        const struct kbs_wire_config_token config = {
            .duty = KBS_DUTY_SIGN,
            .module = kbs_span_str(settings->module),
            .uri = kbs_span_str(settings->token),
            .init_args = kbs_span_str(settings->init_args),
            .env = kbs_wire_list_done(&env_list),
            .seccomp = settings->seccomp_log ? KBS_SECCOMP_LOG : KBS_SECCOMP_KILL,
            .folders = kbs_wire_list_done(&folder_list),
            .key = kbs_span_str(settings->key),
            .general = 1};

        r = kbs_channel_send(s->control, KBS_WIRE_CONFIG_TOKEN, 0, &config, -1, deadline, err);
    }
    kbs_buf_deinit(&env);
    kbs_buf_deinit(&folders);
    return r;
}

static int open_pin(const struct spawn *s, int *ret, struct kbs_error *err)
{
    *ret = open(s->settings.pin_file, O_RDONLY | O_CLOEXEC);
    return *ret >= 0 ? 0
                     : kbs_fail_errno(err, KBS_MISSING, "the PIN file %.100s cannot be read: %s",
                                      s->settings.pin_file, strerror(errno));
}

static int attach(const struct spawn *s, enum kbs_attach what, int fd, uint64_t deadline,
                  struct kbs_error *err)
{
    const struct kbs_wire_attach msg = {.what = (uint8_t)what};

    return kbs_channel_send(s->control, KBS_WIRE_ATTACH, 0, &msg, fd, deadline, err);
}

static int configure(const struct spawn *s, int front, int pin, uint64_t deadline,
                     struct kbs_error *err)
{
    return send_config(s, deadline, err) == 0 &&
                   attach(s, KBS_ATTACH_PIN, pin, deadline, err) == 0 &&
                   attach(s, KBS_ATTACH_FRONT, front, deadline, err) == 0 &&
                   kbs_channel_send(s->control, KBS_WIRE_GO, 0, NULL, -1, deadline, err) == 0
               ? 0
               : -1;
}

/* ---- why it did not get ready ---- */

/* What follows `name` in a line of the log, quoted (kbs_log_text()) or up to the next space. */
static void log_field(const char *line, const char *name, char *out, size_t size)
{
    const char *p = strstr(line, name);
    bool quoted;
    size_t n = 0;

    out[0] = '\0';
    if (p == NULL) {
        return;
    }
    p += strlen(name);
    quoted = *p == '"';
    p += quoted ? 1 : 0;
    while (*p != '\0' && *p != '\n' && *p != (quoted ? '"' : ' ') && n < size - 1) {
        p += quoted && *p == '\\' && p[1] != '\0' ? 1 : 0;
        out[n++] = *p++;
    }
    out[n] = '\0';
}

static enum kbs_category category_of(const char *name)
{
    for (int c = KBS_OK + 1; c < KBS_CATEGORY_COUNT; c++) {
        if (strcmp(kbs_category_name((enum kbs_category)c), name) == 0) {
            return (enum kbs_category)c;
        }
    }
    return KBS_TOKEN_DOWN;
}

/* By the first error in its log, after which there are only those that follow from it. */
static int ended(struct spawn *s, struct kbs_error *err)
{
    char text[LOG_BYTES + 1];
    char category[32];
    char detail[KBS_LIMIT_ERROR_DETAIL_BYTES];
    ssize_t n = read(s->log, text, LOG_BYTES);
    const char *line;

    text[n > 0 ? n : 0] = '\0';
    line = strstr(text, "level=error");
    if (line == NULL) {
        return kbs_fail(err, KBS_TOKEN_DOWN, "%.120s ended before it was ready",
                        s->settings.program);
    }
    log_field(line, " category=", category, sizeof(category));
    log_field(line, " detail=", detail, sizeof(detail));
    return kbs_fail(err, category_of(category), "%s",
                    detail[0] != '\0' ? detail : "kbs-token could not begin");
}

/* ---- until it is ready ---- */

static int login_done(struct spawn *s, const struct kbs_channel_msg *m, struct kbs_login *login,
                      struct kbs_error *err)
{
    struct kbs_wire_login_done done;
    int n;

    if (kbs_channel_msg_decode(m, KBS_WIRE_LOGIN_DONE, &done, err) != 0) {
        return -1;
    }
    s->in_login = false;
    s->pin_refused = done.ok == 0 && done.pin_error != 0;
    kbs_login_end(login, s->pin_refused);
    if (done.ok != 0) {
        return 0;
    }
    n = done.detail.len < 150 ? (int)done.detail.len : 150;
    return kbs_fail(err, s->pin_refused ? KBS_UNAUTHENTICATED : KBS_TOKEN_DOWN, "the token: %.*s",
                    n, (const char *)done.detail.p);
}

static int step(struct spawn *s, const struct kbs_channel_msg *m, int pin, struct kbs_login *login,
                uint64_t deadline, struct kbs_error *err)
{
    switch (m->frame.type) {
    case KBS_WIRE_LOGIN_WANT:
        if (kbs_login_begin(login, s->settings.pin_file, pin, deadline, err) != 0) {
            return -1;
        }
        s->in_login = true;
        return kbs_channel_send(s->control, KBS_WIRE_LOGIN_GRANT, 0, NULL, -1, deadline, err);
    case KBS_WIRE_LOGIN_DONE:
        return login_done(s, m, login, err);
    case KBS_WIRE_READY:
        return SPAWN_READY;
    case KBS_WIRE_LEAVING:
        return ended(s, err);
    default:
        return kbs_fail(err, KBS_TOKEN_DOWN, "kbs-token sent %s before READY",
                        kbs_wire_type_name(m->frame.type));
    }
}

static int await_ready(struct spawn *s, int pin, uint64_t deadline, struct kbs_error *err)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_login login = KBS_LOGIN;
    int r = 0;

    while (r == 0) {
        r = kbs_channel_recv(s->control, &m, deadline, err);
        if (r == KBS_CHANNEL_EOF) {
            s->in_login = false;
            r = ended(s, err);
        } else if (r == 0) {
            r = step(s, &m, pin, &login, deadline, err);
        }
    }
    kbs_login_end(&login, false);
    kbs_channel_msg_deinit(&m);
    return r == SPAWN_READY ? 0 : -1;
}

/* ---- the link's source ---- */

static int start(struct spawn *s, int pin, uint64_t deadline, int *ret_fd, struct kbs_error *err)
{
    int control[2] = {-1, -1};
    int front[2] = {-1, -1};
    int log[2] = {-1, -1};
    int r = -1;

    if (make_pair(control, err) == 0 && make_pair(front, err) == 0 && make_log(log, err) == 0 &&
        start_process(s, control[1], log[1], err) == 0) {
        s->control = control[0];
        s->log = log[0];
        control[0] = -1;
        log[0] = -1;
        kbs_io_close(&control[1]); /* or its end would not be seen */
        r = configure(s, front[1], pin, deadline, err);
        kbs_io_close(&front[1]);
        r = r == 0 ? await_ready(s, pin, deadline, err) : ended(s, err);
    }
    for (size_t i = 0; i < 2; i++) {
        kbs_io_close(&control[i]);
        kbs_io_close(&log[i]);
    }
    kbs_io_close(&front[1]);
    if (r != 0) {
        kbs_io_close(&front[0]);
        stop(s);
    }
    *ret_fd = front[0];
    return r;
}

static int spawn_open(void *self, uint64_t deadline_ns, int *ret_fd, struct kbs_error *err)
{
    struct spawn *s = self;
    int pin = -1;
    int r;

    stop(s); /* the one before, if there was one */
    if (s->pin_refused) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "the token has refused the PIN: no login is tried again");
    }
    if (open_pin(s, &pin, err) != 0) {
        return -1;
    }
    r = start(s, pin, deadline_ns, ret_fd, err);
    kbs_io_close(&pin);
    return r;
}

static void spawn_free(void *self)
{
    struct spawn *s = self;

    stop(s);
    kbs_settings_deinit(&s->settings);
    free(s);
}

int kbs_spawn_link(struct kbs_settings *settings, struct kbs_link **ret, struct kbs_error *err)
{
    struct spawn *s = calloc(1, sizeof(*s));

    if (s == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (kbs_link_new(1, ret, err) != 0) {
        free(s);
        return -1;
    }
    s->settings = *settings;
    s->control = -1;
    s->log = -1;
    *settings = (struct kbs_settings){.token = NULL};
    kbs_link_set_source(
        *ret, &(struct kbs_link_source){.open = spawn_open, .free = spawn_free, .self = s});
    return 0;
}
