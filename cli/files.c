/*
 * Private keys and key material go from the descriptor straight into a secret of fixed size: a
 * growing buffer or stdio would leave copies. A file that is not there is the caller's mistake
 * (KBS_INPUT, exit 1), not a missing key on the server (exit 5), so base's categories are not
 * passed through.
 */
#include "cli/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/io.h"

static int open_input(const char *path, int *ret_fd, struct kbs_error *err)
{
    if (strcmp(path, "-") == 0) {
        *ret_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    } else {
        *ret_fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    }
    if (*ret_fd < 0) {
        return kbs_fail_errno(err, KBS_INPUT, "cannot open %.120s", path);
    }
    return 0;
}

int kbs_cli_read_secret(const char *path, size_t max, struct kbs_secret **ret,
                        struct kbs_error *err)
{
    KBS_AUTO_SECRET s = NULL;
    uint8_t beyond = 0;
    size_t len = 0;
    int fd = -1;

    if (open_input(path, &fd, err) != 0) {
        return -1;
    }
    if (kbs_secret_new(max, &s, err) != 0) {
        goto fail;
    }
    for (;;) {
        bool full = len == max;
        ssize_t n = read(fd, full ? &beyond : kbs_secret_bytes(s) + len, full ? 1 : max - len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            (void)kbs_fail_errno(err, KBS_INPUT, "cannot read %.120s", path);
            goto fail;
        }
        if (n == 0) {
            break;
        }
        if (full) {
            kbs_cleanse(&beyond, sizeof(beyond));
            (void)kbs_fail(err, KBS_INPUT, "%.120s holds more than %zu bytes", path, max);
            goto fail;
        }
        len += (size_t)n;
    }
    if (len == 0) {
        (void)kbs_fail(err, KBS_INPUT, "%.120s is empty", path);
        goto fail;
    }
    kbs_io_close(&fd);
    kbs_secret_truncate(s, len);
    *ret = s;
    s = NULL;
    return 0;
fail:
    kbs_io_close(&fd);
    return -1;
}

int kbs_cli_read_file(const char *path, struct kbs_buf *out, struct kbs_error *err)
{
    struct kbs_error inner = KBS_ERROR_NONE;
    int fd = -1;

    if (open_input(path, &fd, err) != 0) {
        return -1;
    }
    int r = kbs_io_read_fd(fd, out, &inner);
    kbs_io_close(&fd);
    if (r != 0 && inner.category == KBS_TOO_LARGE) {
        return kbs_fail(err, KBS_INPUT, "%.120s holds more than %zu bytes", path, out->max);
    }
    if (r != 0) {
        return kbs_fail(err, KBS_INPUT, "cannot read %.120s", path);
    }
    return 0;
}

int kbs_cli_write_new(const char *path, struct kbs_span content, struct kbs_error *err)
{
    if (strcmp(path, "-") == 0) {
        return kbs_io_write_all(STDOUT_FILENO, content.p, content.len, KBS_DEADLINE_NONE, err);
    }
    return kbs_io_write_file(path, content, 0600, true, err);
}

int kbs_cli_join(const char *folder, const char *name, char *out, size_t size,
                 struct kbs_error *err)
{
    int n = name[0] == '/' ? snprintf(out, size, "%s", name)
                           : snprintf(out, size, "%s/%s", folder, name);
    if (n < 0 || (size_t)n >= size) {
        return kbs_fail(err, KBS_INPUT, "the path %.120s is too long", name);
    }
    return 0;
}
