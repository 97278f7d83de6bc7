/*
 * Evidence that another program makes: kbs-guest knows the handshake, and what talks to a TEE's driver
 * knows the TEE. The digest travels as an argument, which everybody on the machine may see: it is no
 * secret, and binds nothing without the TEE's signature. The program is run as it is named, without a
 * shell, so nothing of it is ever split or expanded.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/encoding.h"
#include "base/io.h"
#include "cli/handshake.h"
#include "jose/read/json.h"

/* Standard output into a pipe; the rest of the descriptors is close-on-exec. SIGPIPE, which is
 * ignored here, is given back. */
static int spawn(const char *command, char *digest, int out, pid_t *ret)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t pipe;
    char *argv[] = {(char *)(uintptr_t)command, digest, NULL};

    if (posix_spawn_file_actions_init(&actions) != 0) {
        return ENOMEM;
    }
    if (posix_spawnattr_init(&attr) != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return ENOMEM;
    }
    (void)sigemptyset(&pipe);
    (void)sigaddset(&pipe, SIGPIPE);
    int r = posix_spawnattr_setsigdefault(&attr, &pipe);
    r = r != 0 ? r : posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
    r = r != 0 ? r
               : posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    r = r != 0 ? r : posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    r = r != 0 ? r : posix_spawnp(ret, command, &actions, &attr, argv, environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    return r;
}

/* Reads to the end and waits. -1 if it printed too much or did not end well. */
static int gather(pid_t pid, int fd, struct kbs_buf *out, struct kbs_error *err)
{
    int status = 0;
    int r = kbs_io_read_fd(fd, out, err);

    if (r != 0) {
        (void)kill(pid, SIGKILL);
    }
    if (waitpid(pid, &status, 0) != pid) {
        return kbs_fail_errno(err, KBS_INTERNAL, "waitpid");
    }
    if (r == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
        r = kbs_fail(err, KBS_INPUT, "the evidence command failed (status %d)",
                     WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
    return r;
}

int kbs_guest_evidence_run(const char *command, const struct kbs_digest *digest,
                           struct kbs_buf *out, struct kbs_error *err)
{
    char hex[2 * KBS_DIGEST_MAX_BYTES + 1];
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_HTTP_BODY_BYTES / 2);
    KBS_AUTO_JSON evidence = NULL;
    int ends[2];
    pid_t pid = 0;
    int r;

    kbs_hex_cstr(kbs_digest_span(digest), hex, sizeof(hex));
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "pipe2");
    }
    r = spawn(command, hex, ends[1], &pid);
    kbs_io_close(&ends[1]);
    if (r != 0) {
        r = kbs_fail_native(err, KBS_INPUT, KBS_ORIGIN_ERRNO, r, "cannot run the evidence command");
    } else {
        r = gather(pid, ends[0], &text, err);
    }
    kbs_io_close(&ends[0]);
    if (r == 0) {
        r = kbs_json_parse_object(kbs_buf_span(&text), "what the evidence command prints",
                                  &evidence, err);
    }
    if (r == 0) {
        kbs_buf_put_span(out, kbs_buf_span(&text));
    }
    kbs_buf_deinit(&text);
    return r;
}
