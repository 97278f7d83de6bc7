/*
 * Errors travel as values: a category that decides what happens next, the native code for the
 * operator, and a short detail a person can act on. A thread-local "last error" was rejected: it
 * does not survive a hop to another request and hides which call failed.
 */
#include "base/error.h"

#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/encoding.h"

static const struct {
    unsigned int status;
    const char *name;
    const char *variant;
} categories[KBS_CATEGORY_COUNT] = {
    [KBS_OK] = {200, "ok", "Ok"},
    [KBS_INPUT] = {400, "input", "InvalidRequest"},
    [KBS_UNAUTHENTICATED] = {401, "unauthenticated", "TokenNotFound"},
    [KBS_DENIED] = {403, "denied", "PolicyDeny"},
    [KBS_MISSING] = {404, "missing", "ResourceNotFound"},
    [KBS_CONFLICT] = {409, "conflict", "Conflict"},
    [KBS_TOO_LARGE] = {413, "too_large", "TooLarge"},
    [KBS_UNPROCESSABLE] = {422, "unprocessable", "Unprocessable"},
    [KBS_LIMITED] = {429, "limited", "TooManyRequests"},
    [KBS_UNSUPPORTED] = {501, "unsupported", "Unsupported"},
    [KBS_BUSY] = {503, "busy", "Busy"},
    [KBS_TOKEN_DOWN] = {503, "token_down", "TokenUnavailable"},
    [KBS_DEADLINE] = {503, "deadline", "Deadline"},
    [KBS_INTERNAL] = {500, "internal", "PluginInternalError"},
};

int kbs_error_set(struct kbs_error *err, enum kbs_category category, enum kbs_origin origin,
                  int64_t native, const char *func, int line, const char *fmt, ...)
{
    va_list ap;

    err->category = category;
    err->origin = origin;
    err->native = native;
    err->func = func;
    err->line = line;
    va_start(ap, fmt);
    (void)vsnprintf(err->detail, sizeof(err->detail), fmt, ap);
    va_end(ap);
    return -1;
}

int64_t kbs_error_openssl_take(void)
{
    unsigned long code = ERR_get_error();

    ERR_clear_error();
    return (int64_t)code;
}

static enum kbs_category in_range(enum kbs_category category)
{
    return (unsigned int)category < KBS_CATEGORY_COUNT ? category : KBS_INTERNAL;
}

unsigned int kbs_category_status(enum kbs_category category)
{
    return categories[in_range(category)].status;
}

const char *kbs_category_name(enum kbs_category category)
{
    return categories[in_range(category)].name;
}

const char *kbs_category_variant(enum kbs_category category)
{
    return categories[in_range(category)].variant;
}

void kbs_error_body(struct kbs_buf *out, const char *variant, const char *detail)
{
    kbs_buf_put_str(out, "{\"type\":\"https://github.com/confidential-containers/kbs/errors/");
    kbs_buf_put_str(out, variant);
    kbs_buf_put_str(out, "\",\"detail\":");
    kbs_json_string_put(out, kbs_span_str(detail));
    kbs_buf_put_u8(out, '}');
}
