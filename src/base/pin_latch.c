/*
 * One line of text, for a person who wonders why nobody logs in:
 *
 *   refused device=2049 inode=1311 size=33 mtime=1700000000.000000000
 *
 * Written over the whole file, so there is never more than the newest. A line that is cut short (the
 * machine went down) does not parse, and is reported instead of guessed at: the guess may be the one
 * that locks the token.
 *
 * Rejected: a digest of the PIN (an oracle for guessing it, in a file that more may read); the
 * change time (chmod is no correction); writing before the attempt and erasing after (a kbsd that is
 * killed during a good login would be locked out).
 */
#include "base/pin_latch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 160

/* Returns the length. */
static size_t latch_line(const struct stat *pin, char line[LINE_BYTES])
{
    int n =
        snprintf(line, LINE_BYTES, "refused device=%llu inode=%llu size=%lld mtime=%lld.%09ld\n",
                 (unsigned long long)pin->st_dev, (unsigned long long)pin->st_ino,
                 (long long)pin->st_size, (long long)pin->st_mtim.tv_sec, pin->st_mtim.tv_nsec);

    return n > 0 && n < LINE_BYTES ? (size_t)n : 0;
}

int kbs_pin_latch_check(int lock_fd, const struct stat *pin, struct kbs_error *err)
{
    char wanted[LINE_BYTES];
    char found[LINE_BYTES];
    size_t len = latch_line(pin, wanted);
    ssize_t n = pread(lock_fd, found, sizeof(found), 0);

    if (n < 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "token.lock cannot be read");
    }
    if (n == 0) {
        return 0;
    }
    if ((size_t)n == sizeof(found) || found[n - 1] != '\n' || strncmp(found, "refused ", 8) != 0) {
        return kbs_fail(
            err, KBS_INPUT,
            "token.lock is damaged: check the token's PIN counter, then empty the file");
    }
    return (size_t)n == len && memcmp(found, wanted, len) == 0 ? KBS_PIN_LATCHED : 0;
}

int kbs_pin_latch_set(int lock_fd, const struct stat *pin, struct kbs_error *err)
{
    char line[LINE_BYTES];
    size_t len = latch_line(pin, line);

    if (len == 0 || pwrite(lock_fd, line, len, 0) != (ssize_t)len ||
        ftruncate(lock_fd, (off_t)len) != 0 || fdatasync(lock_fd) != 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "the refused PIN cannot be noted in token.lock");
    }
    return 0;
}
