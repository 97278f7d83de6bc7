/*
 * The request parser: bytes in any pieces to one typed request at a time, over llhttp in its strict
 * mode plus our own rules (RFC 9110, RFC 9112; docs/protocol). No I/O, no clock: the caller has the
 * deadlines.
 *
 * Every accepted request has one reading: see parser.c for the list of what is refused beyond
 * llhttp.
 */
#ifndef KBS_HTTP_PARSER_H
#define KBS_HTTP_PARSER_H

#include "base/error.h"
#include "http/route.h"

struct kbs_http_parser;

/* Everything borrows the parser and lives until kbs_http_parser_next() or _free(). */
struct kbs_http_request {
    struct kbs_http_match match;
    struct kbs_http_target path;
    struct kbs_span target; /* raw, visible ASCII */
    struct kbs_span cookie; /* the value of kbs-session-id: 32 hex digits, or empty */
    struct kbs_span authorization;
    struct kbs_span accept;
    struct kbs_span content_type;
    struct kbs_span signature; /* Kbs-Signature */
    struct kbs_span proof;     /* Kbs-Proof */
    struct kbs_span body;
    bool keep_alive; /* the client permits another request on this connection */
};

/* Why a request was refused; kbs_http_reason_name() names them in metrics. */
enum kbs_http_reason {
    KBS_HTTP_REASON_NONE = 0,
    KBS_HTTP_REASON_MALFORMED,       /* 400: not HTTP/1.0 or 1.1, or ambiguous framing */
    KBS_HTTP_REASON_TARGET,          /* 400: the request target */
    KBS_HTTP_REASON_HEADER,          /* 400: a header we read, repeated or malformed */
    KBS_HTTP_REASON_PATH,            /* 404 */
    KBS_HTTP_REASON_METHOD,          /* 405 */
    KBS_HTTP_REASON_BODY_TOO_LARGE,  /* 413 */
    KBS_HTTP_REASON_TARGET_TOO_LONG, /* 414 */
    KBS_HTTP_REASON_EXPECTATION,     /* 417 */
    KBS_HTTP_REASON_HEAD_TOO_LARGE,  /* 431 */
    KBS_HTTP_REASON_MEMORY,          /* 503 */
    KBS_HTTP_REASON_COUNT
};

struct kbs_http_refusal {
    enum kbs_http_reason reason;
    unsigned int status;
    const char *variant;                       /* static: error type of the body */
    const char *allow;                         /* static or NULL: the Allow header of a 405 */
    char detail[KBS_LIMIT_ERROR_DETAIL_BYTES]; /* no raw input */
    bool close;     /* the end of this request is not known: answer, then close */
    bool head_only; /* the method was HEAD */
};

enum kbs_http_event {
    KBS_HTTP_MORE,    /* all bytes taken, request incomplete */
    KBS_HTTP_REQUEST, /* kbs_http_parser_request() has it */
    KBS_HTTP_REFUSED  /* kbs_http_parser_refusal() says why */
};

enum kbs_http_phase {
    KBS_HTTP_PHASE_START, /* no byte of a request yet, empty lines excepted */
    KBS_HTTP_PHASE_HEAD,
    KBS_HTTP_PHASE_BODY,
    KBS_HTTP_PHASE_DONE /* request complete or refused; bytes stay with the caller */
};

/* A parser for the routes of one listener kind. Returns owned. KBS_INTERNAL when out of memory. */
KBS_MUST_CHECK int kbs_http_parser_new(enum kbs_listener listener, struct kbs_http_parser **ret,
                                       struct kbs_error *err);
/* Bounds the body of every request, in bytes; the route's own bound still holds. */
void kbs_http_parser_bound_body(struct kbs_http_parser *p, size_t max);
/* NULL is fine; returns NULL. */
struct kbs_http_parser *kbs_http_parser_free(struct kbs_http_parser *p);

/*
 * Takes bytes; *ret_used says how many. After REQUEST or REFUSED the rest belongs to the next
 * request, which starts with kbs_http_parser_next(); until then further calls take nothing and give
 * the same event.
 */
enum kbs_http_event kbs_http_parser_feed(struct kbs_http_parser *p, struct kbs_span in,
                                         size_t *ret_used);

/* Returns borrowed; only after the event of that name. */
const struct kbs_http_request *kbs_http_parser_request(const struct kbs_http_parser *p);
const struct kbs_http_refusal *kbs_http_parser_refusal(const struct kbs_http_parser *p);

/* Forgets the request, frees its memory and starts anew. Not after a refusal with `close`. */
void kbs_http_parser_next(struct kbs_http_parser *p);

enum kbs_http_phase kbs_http_parser_phase(const struct kbs_http_parser *p);
/* The route of the head, also while the body is still coming; KBS_ROUTE_NONE before. */
enum kbs_route kbs_http_parser_route(const struct kbs_http_parser *p);
size_t kbs_http_parser_body_bytes(const struct kbs_http_parser *p); /* held so far */
/*
 * True once, when the client waits for 100 Continue (RFC 9110 section 10.1.1) and sent nothing of
 * its body.
 */
bool kbs_http_parser_take_continue(struct kbs_http_parser *p);

const char *kbs_http_reason_name(enum kbs_http_reason reason); /* "malformed", ... */

#endif
