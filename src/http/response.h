/*
 * Responses: from a checked description to HTTP/1.1 bytes (RFC 9112). Headers are built from what a
 * judge sent, so every field is validated here before one byte is written. No I/O.
 */
#ifndef KBS_HTTP_RESPONSE_H
#define KBS_HTTP_RESPONSE_H

#include "base/buf.h"
#include "base/error.h"
#include "base/limits.h"

/* Room for the head of any response. */
#define KBS_HTTP_RESPONSE_HEAD_BYTES (1024 + KBS_LIMIT_RECEIPT_BYTES)

struct kbs_http_response {
    unsigned int status;          /* 200..599 */
    struct kbs_span content_type; /* empty only when the body is */
    struct kbs_span cookie;       /* new kbs-session-id: 32 lower-case hex digits, or empty */
    uint64_t cookie_expires_s;    /* Unix time, at most year 9999 */
    uint32_t retry_after_s;       /* 0 for none */
    struct kbs_span receipt;      /* Kbs-Receipt: base64url and dots, or empty */
    const char *allow;    /* static text or NULL: the Allow header (RFC 9110 section 10.2.1) */
    struct kbs_span body; /* at most KBS_LIMIT_HTTP_RESPONSE_BYTES */
};

/* How it is to be sent; independent of what the judge said. */
struct kbs_http_response_mode {
    bool keep_alive;
    bool head_only; /* the request was HEAD: no body, the same headers */
    int64_t now_s;  /* Unix time for the Date header */
};

/* 0, or -1 with KBS_INTERNAL naming the field that breaks the rules above. */
KBS_MUST_CHECK int kbs_http_response_check(const struct kbs_http_response *r,
                                           struct kbs_error *err);

/* Checks, then appends the whole response to `out`. KBS_TOO_LARGE when `out` is too small. */
KBS_MUST_CHECK int kbs_http_response_write(struct kbs_buf *out, const struct kbs_http_response *r,
                                           const struct kbs_http_response_mode *mode,
                                           struct kbs_error *err);

/* Appends the interim response "100 Continue" (RFC 9110 section 15.2.1). */
void kbs_http_continue_write(struct kbs_buf *out);

#endif
