/*
 * Logs: one line per event on standard error, logfmt: time, level, role (the executable's name),
 * event, then key=value pairs written by the caller. Never a secret, a cookie, a token or raw
 * input: values that come from outside go through kbs_log_text().
 */
#ifndef KBS_BASE_LOG_H
#define KBS_BASE_LOG_H

#include "base/error.h"
#include "base/span.h"

enum kbs_log_level {
    KBS_LOG_ERROR,
    KBS_LOG_WARN,
    KBS_LOG_INFO
};

void kbs_log(enum kbs_log_level level, const char *event, const char *fmt, ...) KBS_PRINTF(3, 4);

/* The event with everything a struct kbs_error holds. */
void kbs_log_error(const char *event, const struct kbs_error *err);

/* A quoted, escaped, shortened copy of outside text for use as a %s argument. Returns `out`. */
const char *kbs_log_text(struct kbs_span text, char *out, size_t size);

#endif
