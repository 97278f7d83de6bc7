/*
 * Errors: what went wrong, whose fault it is, and where.
 *
 * Functions that can fail take a `struct kbs_error *err` last and return 0 on success, -1 on
 * failure with *err filled in (the first failure wins: a callee's error is forwarded unchanged), or
 * a positive condition that their header documents and the caller must handle. Library code returns
 * errors; only a main or a request handler logs them. `detail` may be shown to the requester: it
 * never holds a secret or raw input.
 */
#ifndef KBS_BASE_ERROR_H
#define KBS_BASE_ERROR_H

#include <stdint.h>

#include "base/limits.h"

#define KBS_MUST_CHECK __attribute__((warn_unused_result))
#define KBS_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

struct kbs_buf;

/* Who has to act. The HTTP status follows from it (kbs_category_status()). */
enum kbs_category {
    KBS_OK = 0,
    KBS_INPUT,           /* 400: the request does not parse or breaks a rule */
    KBS_UNAUTHENTICATED, /* 401: attest (again) */
    KBS_DENIED,          /* 403: attested, and policy says no */
    KBS_MISSING,         /* 404 */
    KBS_CONFLICT,        /* 409 */
    KBS_TOO_LARGE,       /* 413 */
    KBS_UNPROCESSABLE,   /* 422: parses, but no key can come of it */
    KBS_LIMITED,         /* 429 */
    KBS_UNSUPPORTED,     /* 501: no rung of this token can do it */
    KBS_BUSY,            /* 503 + Retry-After */
    KBS_TOKEN_DOWN,      /* 503 + Retry-After */
    KBS_DEADLINE,        /* 503 + Retry-After */
    KBS_INTERNAL,        /* 500 */
    KBS_CATEGORY_COUNT
};

/* Which numbering `native` belongs to. */
enum kbs_origin {
    KBS_ORIGIN_SELF = 0,
    KBS_ORIGIN_ERRNO,
    KBS_ORIGIN_OPENSSL,
    KBS_ORIGIN_CKR,
    KBS_ORIGIN_SQLITE,
    KBS_ORIGIN_LIB
};

struct kbs_error {
    enum kbs_category category;
    enum kbs_origin origin;
    int64_t native;   /* errno, CK_RV, SQLite code, ... */
    const char *func; /* static */
    int line;
    char detail[KBS_LIMIT_ERROR_DETAIL_BYTES];
};

#define KBS_ERROR_NONE ((struct kbs_error){.category = KBS_OK})

/* Fills *err and returns -1, so that callers can write `return kbs_fail(err, KBS_INPUT, "...")`. */
int kbs_error_set(struct kbs_error *err, enum kbs_category category, enum kbs_origin origin,
                  int64_t native, const char *func, int line, const char *fmt, ...)
    KBS_PRINTF(7, 8);

#define kbs_fail(err, category, ...) \
    kbs_error_set((err), (category), KBS_ORIGIN_SELF, 0, __func__, __LINE__, __VA_ARGS__)
#define kbs_fail_native(err, category, origin, native, ...) \
    kbs_error_set((err), (category), (origin), (int64_t)(native), __func__, __LINE__, __VA_ARGS__)
#define kbs_fail_errno(err, category, ...) \
    kbs_fail_native((err), (category), KBS_ORIGIN_ERRNO, errno, __VA_ARGS__)
/* Takes the oldest entry of OpenSSL's error queue as native code and clears the queue. */
#define kbs_fail_openssl(err, category, ...) \
    kbs_fail_native((err), (category), KBS_ORIGIN_OPENSSL, kbs_error_openssl_take(), __VA_ARGS__)

int64_t kbs_error_openssl_take(void);

/* The HTTP status of a category (RFC 9110 section 15); 500 for values out of range. */
unsigned int kbs_category_status(enum kbs_category category);

/* A stable lower-case name for logs and audit records ("denied", "token_down", ...). */
const char *kbs_category_name(enum kbs_category category);

/* The error type Trustee's clients know for a category ("PolicyDeny", ...): the default when a
 * handler has no better one. */
const char *kbs_category_variant(enum kbs_category category);

/*
 * Appends Trustee's error body {"type":".../errors/<variant>","detail":"<detail>"}.
 * variant: borrowed, an ASCII identifier; detail: borrowed, any text (escaped here).
 */
void kbs_error_body(struct kbs_buf *out, const char *variant, const char *detail);

#endif
