/*
 * A program that works for a command. A role speaks to us as to kbsd on its control channel, and as
 * to its judge on another; what it logs is caught in memory and shown only when it fails, so that a
 * success is quiet. The child gets the default signal mask: a Ctrl-C at the terminal ends it, and
 * its channels close.
 */
#include "cli/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/process.h"
#include "channel/channel.h"
#include "cli/output.h"

#define LOG_MAX_BYTES 16384
#define EXIT_MS 5000

/* The role's program, beside this one. */
static int find_program(const char *name, char out[PATH_MAX + 16], struct kbs_error *err)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n <= 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "cannot find where this program is");
    }
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    (void)snprintf(out, PATH_MAX + 16, "%s/%s", self, name);
    if (access(out, X_OK) != 0) {
        return kbs_fail_errno(err, KBS_MISSING, "%s is not beside this program", name);
    }
    return 0;
}

/* A program's descriptors; it gets nothing else (the rest is close-on-exec). -1: none. */
struct ends {
    int out; /* standard output; none: nowhere */
    int log; /* standard error */
    int control;
};

static int spawn_with(const char *program, char *const *argv, const struct ends *ends, pid_t *ret)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none;
    sigset_t pipe;

    if (posix_spawn_file_actions_init(&actions) != 0) {
        return ENOMEM;
    }
    if (posix_spawnattr_init(&attr) != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return ENOMEM;
    }
    (void)sigemptyset(&none);
    (void)sigemptyset(&pipe);
    (void)sigaddset(&pipe, SIGPIPE);
    int r = posix_spawnattr_setsigmask(&attr, &none);
    r = r != 0 ? r : posix_spawnattr_setsigdefault(&attr, &pipe);
    r = r != 0 ? r
               : posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    r = r != 0 ? r
               : posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (r == 0) {
        r = ends->out >= 0 ? posix_spawn_file_actions_adddup2(&actions, ends->out, STDOUT_FILENO)
                           : posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null",
                                                              O_WRONLY, 0);
    }
    r = r != 0 ? r : posix_spawn_file_actions_adddup2(&actions, ends->log, STDERR_FILENO);
    if (r == 0 && ends->control >= 0) {
        r = posix_spawn_file_actions_adddup2(&actions, ends->control, KBS_FD_CONTROL);
    }
    r = r != 0 ? r : posix_spawn(ret, program, &actions, &attr, argv, environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    return r;
}

int kbs_cli_worker_start(struct kbs_cli_worker *w, const char *name, const char *option,
                         int *ret_judge_end, struct kbs_error *err)
{
    char *argv[] = {(char *)(uintptr_t)name, (char *)(uintptr_t)option, NULL};
    char program[PATH_MAX + 16];
    int control[2] = {-1, -1};
    int judge[2] = {-1, -1};
    int r;

    if (find_program(name, program, err) != 0 || kbs_channel_pair(control, err) != 0) {
        return -1;
    }
    w->control = control[0];
    if (kbs_channel_pair(judge, err) != 0) {
        goto fail;
    }
    w->judge = judge[0];
    w->log = memfd_create("kbs-role-log", MFD_CLOEXEC);
    if (w->log < 0) {
        (void)kbs_fail_errno(err, KBS_INTERNAL, "memfd_create");
        goto fail;
    }
    r = spawn_with(program, argv, &(struct ends){.out = -1, .log = w->log, .control = control[1]},
                   &w->pid);
    if (r != 0) {
        w->pid = 0;
        (void)kbs_fail_native(err, KBS_INTERNAL, KBS_ORIGIN_ERRNO, r, "cannot start %s", name);
        goto fail;
    }
    kbs_io_close(&control[1]);
    *ret_judge_end = judge[1];
    return 0;
fail:
    kbs_io_close(&control[1]);
    kbs_io_close(&judge[1]);
    return -1;
}

/* What it logged, up to LOG_MAX_BYTES. */
static void read_log(int log, char text[LOG_MAX_BYTES + 1])
{
    ssize_t n = pread(log, text, LOG_MAX_BYTES, 0);

    text[n > 0 ? n : 0] = '\0';
}

/* The same, line by line, in the open. */
static void show_log(int log)
{
    char text[LOG_MAX_BYTES + 1];
    char *save = NULL;

    read_log(log, text);
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        kbs_cli_say("%s", line);
    }
}

int kbs_cli_worker_why(const struct kbs_cli_worker *w, const char *what, struct kbs_error *err)
{
    static const char mark[] = " detail=\"";
    char text[LOG_MAX_BYTES + 1];
    char *from;
    char *to;

    read_log(w->log, text);
    from = strstr(text, " event=start-failed ");
    from = from != NULL ? strstr(from, mark) : NULL;
    if (from == NULL) {
        show_log(w->log);
        return kbs_fail(err, KBS_TOKEN_DOWN, "%s", what);
    }
    from += sizeof(mark) - 1;
    to = from;
    for (const char *c = from; *c != '\0' && *c != '"'; c++) { /* kbs_log_text() backwards */
        c += *c == '\\' && c[1] != '\0' ? 1 : 0;
        *to++ = *c;
    }
    *to = '\0';
    return kbs_fail(err, KBS_TOKEN_DOWN, "%s: %s", what, from);
}

void kbs_cli_worker_stop(struct kbs_cli_worker *w, bool failed)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error ignored = KBS_ERROR_NONE;
    uint64_t deadline = kbs_deadline_in_ms(EXIT_MS);
    int r = -1;

    if (w->pid != 0) {
        if (!failed) {
            r = kbs_channel_send(w->control, KBS_WIRE_DRAIN, 0, NULL, -1, deadline, &ignored);
        }
        kbs_io_close(&w->judge);
        while (r == 0) {
            r = kbs_channel_recv(w->control, &m, deadline, &ignored);
        }
        if (r != KBS_CHANNEL_EOF) {
            (void)kill(w->pid, SIGKILL);
        }
        while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR) {
        }
        if (failed) {
            show_log(w->log);
        }
    }
    kbs_channel_msg_deinit(&m);
    kbs_io_close(&w->judge);
    kbs_io_close(&w->control);
    kbs_io_close(&w->log);
}

/* Of a program that reads nothing: its output is the memfd's. */
static int run(const char *program, char *const *argv, const struct ends *ends,
               struct kbs_error *err)
{
    pid_t pid = 0;
    int status = -1;
    int r = spawn_with(program, argv, ends, &pid);

    if (r != 0) {
        return kbs_fail_native(err, KBS_INTERNAL, KBS_ORIGIN_ERRNO, r, "cannot start %s", argv[0]);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? 0
               : kbs_fail(err, KBS_INPUT, "%s did not do it: see above", argv[0]);
}

int kbs_cli_program_read(char *const *argv, struct kbs_buf *out, struct kbs_error *err)
{
    struct ends ends = {.out = memfd_create("kbs-output", MFD_CLOEXEC),
                        .log = memfd_create("kbs-log", MFD_CLOEXEC),
                        .control = -1};
    char program[PATH_MAX + 16];
    int r = -1;

    if (ends.out < 0 || ends.log < 0) {
        (void)kbs_fail_errno(err, KBS_INTERNAL, "memfd_create");
    } else if (find_program(argv[0], program, err) == 0) {
        r = run(program, argv, &ends, err);
        if (r != 0) {
            show_log(ends.log);
        } else if (lseek(ends.out, 0, SEEK_SET) != 0) { /* the child moved the offset */
            r = kbs_fail_errno(err, KBS_INTERNAL, "lseek");
        } else {
            r = kbs_io_read_fd(ends.out, out, err);
        }
    }
    kbs_io_close(&ends.out);
    kbs_io_close(&ends.log);
    return r;
}

int kbs_cli_worker_attach(const struct kbs_cli_worker *w, enum kbs_attach what, uint32_t index,
                          int fd, uint64_t deadline, struct kbs_error *err)
{
    const struct kbs_wire_attach msg = {.what = (uint8_t)what, .index = index};

    return kbs_channel_send(w->control, KBS_WIRE_ATTACH, 0, &msg, fd, deadline, err);
}
