/*
 * Logs are one write(2) per line on standard error: no buffering, no interleaving within PIPE_BUF,
 * nothing kept in memory. The role is the executable's name, which the C library keeps for us.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {
    [KBS_LOG_ERROR] = "error", [KBS_LOG_WARN] = "warn", [KBS_LOG_INFO] = "info"};

static size_t prefix(char *line, size_t size, enum kbs_log_level level, const char *event)
{
    struct timespec ts;
    struct tm tm;
    int n;

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    (void)gmtime_r(&ts.tv_sec, &tm);
    n = snprintf(line, size,
                 "time=%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ level=%s role=%s pid=%ld event=%s ",
                 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                 ts.tv_nsec / 1000000, level_names[level], program_invocation_short_name,
                 (long)getpid(), event);
    return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

void kbs_log(enum kbs_log_level level, const char *event, const char *fmt, ...)
{
    char line[KBS_LIMIT_LOG_LINE_BYTES];
    size_t len = prefix(line, sizeof(line) - 1, level, event);
    va_list ap;
    int n;
    int saved = errno;

    va_start(ap, fmt);
    n = vsnprintf(line + len, sizeof(line) - 1 - len, fmt, ap);
    va_end(ap);
    if (n > 0) {
        size_t room = sizeof(line) - 2 - len;

        len += (size_t)n < room ? (size_t)n : room;
    }
    line[len++] = '\n';
    (void)!write(STDERR_FILENO, line, len);
    errno = saved;
}

void kbs_log_error(const char *event, const struct kbs_error *err)
{
    static const char *const origins[] = {
        [KBS_ORIGIN_SELF] = "self",       [KBS_ORIGIN_ERRNO] = "errno",
        [KBS_ORIGIN_OPENSSL] = "openssl", [KBS_ORIGIN_CKR] = "ckr",
        [KBS_ORIGIN_SQLITE] = "sqlite",   [KBS_ORIGIN_LIB] = "lib"};
    char detail[2 * KBS_LIMIT_ERROR_DETAIL_BYTES];

    kbs_log(KBS_LOG_ERROR, event, "category=%s origin=%s native=0x%llx at=%s:%d detail=%s",
            kbs_category_name(err->category), origins[err->origin], (unsigned long long)err->native,
            err->func != NULL ? err->func : "?", err->line,
            kbs_log_text(kbs_span_str(err->detail), detail, sizeof(detail)));
}

const char *kbs_log_text(struct kbs_span text, char *out, size_t size)
{
    size_t n = 0;

    if (size < 8) {
        return "\"\"";
    }
    out[n++] = '"';
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.p[i];

        if (n + 6 > size) {
            out[n++] = '~';
            break;
        }
        if (c == '"' || c == '\\') {
            out[n++] = '\\';
            out[n++] = (char)c;
        } else {
            out[n++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
        }
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}
