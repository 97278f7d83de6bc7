/*
 * The request parser.
 *
 * The problem: a request that this server and anything in front of it read differently is a
 * smuggled request (RFC 9112 section 11.2), and a parser fed by the network must hold a bounded
 * amount whatever comes. The approach: llhttp, strict, no lenient flag, finds the tokens; this file
 * adds the rules below, collects values in capped buffers, and stops at the end of every message,
 * so that one request is in hand at a time and each starts with a fresh llhttp state.
 *
 * Refused beyond llhttp: versions other than 1.0 and 1.1 (llhttp takes HTTP/0.9 and then reads
 * headers), RTSP and ICE, CONNECT, Upgrade, a missing or second Host, any Transfer-Encoding but
 * exactly "chunked", any second copy of a header we read, targets not in origin form, more than
 * single spaces in the request line, chunk extensions, trailers, anything before the request line
 * but two CRLFs, and more framing than body in chunked bodies.
 *
 * Invariants: the head is at most KBS_LIMIT_HTTP_HEAD_BYTES from its first byte to its empty line,
 * because llhttp is never given more than is left of it; the body buffer never exceeds the route's
 * limit, nor the operator's; a callback that fails has filled in the refusal; after DONE no byte is
 * taken until kbs_http_parser_next().
 *
 * Rejected: resuming the paused llhttp for the next request (state of one request in another's
 * parser is what CVE-2025-23167 was made of); reading on after a refusal whose end is not certain.
 */
#include "http/parser.h"

#include <llhttp.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "http/headers.h"

#define EMPTY_LINES_MAX_BYTES 4 /* two CRLFs before a request line (RFC 9112 section 2.2) */

/* What is only known while the head is read: offsets into `head`, which moves as it grows. */
struct head {
    struct kbs_buf text;  /* the target, then the values of known headers */
    size_t target_offset; /* from the beginning of the head */
    size_t target_len;
    size_t offset[KBS_HTTP_HEADER_COUNT];
    size_t len[KBS_HTTP_HEADER_COUNT];
    bool present[KBS_HTTP_HEADER_COUNT];
    enum kbs_http_header current;
    uint8_t name[KBS_HTTP_HEADER_NAME_MAX];
    size_t name_len;
    unsigned int count;
    char protocol[4];
    size_t protocol_len;
};

struct kbs_http_parser {
    llhttp_t llhttp;
    enum kbs_listener listener;
    size_t body_bound; /* of any request, beside its route's */
    enum kbs_http_phase phase;
    struct head head;
    struct kbs_buf body;
    struct kbs_arena arena;
    const uint8_t *piece; /* what llhttp is looking at */
    size_t phase_bytes;   /* taken in this phase before that */
    size_t empty_line_bytes;
    bool wants_continue;
    struct kbs_http_request request;
    struct kbs_http_refusal refusal; /* reason NONE until there is one */
};

const char *kbs_http_reason_name(enum kbs_http_reason reason)
{
    static const char *const names[KBS_HTTP_REASON_COUNT] = {
        [KBS_HTTP_REASON_NONE] = "none",
        [KBS_HTTP_REASON_MALFORMED] = "malformed",
        [KBS_HTTP_REASON_TARGET] = "target",
        [KBS_HTTP_REASON_HEADER] = "header",
        [KBS_HTTP_REASON_PATH] = "path",
        [KBS_HTTP_REASON_METHOD] = "method",
        [KBS_HTTP_REASON_BODY_TOO_LARGE] = "body-too-large",
        [KBS_HTTP_REASON_TARGET_TOO_LONG] = "target-too-long",
        [KBS_HTTP_REASON_EXPECTATION] = "expectation",
        [KBS_HTTP_REASON_HEAD_TOO_LARGE] = "head-too-large",
        [KBS_HTTP_REASON_MEMORY] = "memory",
    };

    return (unsigned int)reason < KBS_HTTP_REASON_COUNT ? names[reason] : "none";
}

static unsigned int reason_status(enum kbs_http_reason reason)
{
    static const unsigned int statuses[KBS_HTTP_REASON_COUNT] = {
        [KBS_HTTP_REASON_PATH] = 404,           [KBS_HTTP_REASON_METHOD] = 405,
        [KBS_HTTP_REASON_BODY_TOO_LARGE] = 413, [KBS_HTTP_REASON_TARGET_TOO_LONG] = 414,
        [KBS_HTTP_REASON_EXPECTATION] = 417,    [KBS_HTTP_REASON_HEAD_TOO_LARGE] = 431,
        [KBS_HTTP_REASON_MEMORY] = 503,
    };

    return statuses[reason] != 0 ? statuses[reason] : 400;
}

static const char *reason_variant(enum kbs_http_reason reason)
{
    if (reason == KBS_HTTP_REASON_PATH || reason == KBS_HTTP_REASON_METHOD) {
        return "InvalidRequestPath";
    }
    if (reason == KBS_HTTP_REASON_BODY_TOO_LARGE) {
        return kbs_category_variant(KBS_TOO_LARGE);
    }
    return kbs_category_variant(reason == KBS_HTTP_REASON_MEMORY ? KBS_BUSY : KBS_INPUT);
}

/* Notes the first reason; returns -1 so that callbacks can return it. */
static int refuse(struct kbs_http_parser *p, enum kbs_http_reason reason, const char *detail)
{
    struct kbs_http_refusal *r = &p->refusal;

    if (r->reason == KBS_HTTP_REASON_NONE) {
        *r = (struct kbs_http_refusal){.reason = reason,
                                       .status = reason_status(reason),
                                       .variant = reason_variant(reason),
                                       .close = true,
                                       .head_only = p->llhttp.method == HTTP_HEAD};
        (void)kbs_span_to_cstr(kbs_span_str(detail), r->detail, sizeof(r->detail));
    }
    return -1;
}

static struct kbs_http_parser *parser_of(llhttp_t *llhttp)
{
    return llhttp->data;
}

static int put_text(struct kbs_http_parser *p, const char *at, size_t len)
{
    kbs_buf_put(&p->head.text, at, len);
    if (p->head.text.failed) {
        return refuse(p, KBS_HTTP_REASON_MEMORY, "out of memory");
    }
    return 0;
}

/*
 * Where in the head a callback's text begins: llhttp passes over runs of spaces in the request
 * line, we do not.
 */
static size_t head_offset(const struct kbs_http_parser *p, const char *at)
{
    return p->phase_bytes + (size_t)((const uint8_t *)at - p->piece);
}

static int on_protocol(llhttp_t *llhttp, const char *at, size_t len)
{
    struct kbs_http_parser *p = parser_of(llhttp);
    struct head *head = &p->head;

    if (head->protocol_len == 0 &&
        head_offset(p, at) != head->target_offset + head->target_len + 1) {
        return refuse(p, KBS_HTTP_REASON_MALFORMED, "the request line has more than single spaces");
    }
    for (size_t i = 0; i < len; i++) {
        if (head->protocol_len == sizeof(head->protocol)) {
            return refuse(p, KBS_HTTP_REASON_MALFORMED, "the protocol is not HTTP");
        }
        head->protocol[head->protocol_len++] = at[i];
    }
    return 0;
}

static int on_url(llhttp_t *llhttp, const char *at, size_t len)
{
    struct kbs_http_parser *p = parser_of(llhttp);
    size_t method_len = strlen(llhttp_method_name((llhttp_method_t)llhttp->method));

    if (p->head.target_len == 0) {
        p->head.target_offset = head_offset(p, at);
        if (p->head.target_offset != method_len + 1) {
            return refuse(p, KBS_HTTP_REASON_MALFORMED,
                          "the request line has more than single spaces");
        }
    }
    p->head.target_len += len;
    if (p->head.target_len > KBS_LIMIT_HTTP_TARGET_BYTES) {
        return refuse(p, KBS_HTTP_REASON_TARGET_TOO_LONG, "the request target is too long");
    }
    return put_text(p, at, len);
}

static int on_header_field(llhttp_t *llhttp, const char *at, size_t len)
{
    struct kbs_http_parser *p = parser_of(llhttp);
    struct head *head = &p->head;

    if (p->phase == KBS_HTTP_PHASE_BODY) {
        return refuse(p, KBS_HTTP_REASON_MALFORMED, "trailers are not supported");
    }
    for (size_t i = 0; i < len; i++) {
        if (head->name_len < sizeof(head->name)) {
            head->name[head->name_len] = (uint8_t)at[i];
        }
        head->name_len++;
    }
    return 0;
}

static int on_header_field_complete(llhttp_t *llhttp)
{
    struct kbs_http_parser *p = parser_of(llhttp);
    struct head *head = &p->head;

    head->current = head->name_len <= sizeof(head->name)
                        ? kbs_http_header_find(kbs_span(head->name, head->name_len))
                        : KBS_HTTP_HEADER_OTHER;
    head->name_len = 0;
    if (++head->count > KBS_LIMIT_HTTP_HEADERS) {
        return refuse(p, KBS_HTTP_REASON_HEAD_TOO_LARGE, "there are too many headers");
    }
    if (head->current == KBS_HTTP_HEADER_OTHER) {
        return 0;
    }
    if (head->present[head->current]) {
        return refuse(p, KBS_HTTP_REASON_HEADER, "a header that may be there once is repeated");
    }
    head->present[head->current] = true;
    head->offset[head->current] = head->text.len;
    return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *at, size_t len)
{
    struct kbs_http_parser *p = parser_of(llhttp);

    if (p->head.current == KBS_HTTP_HEADER_OTHER) {
        return 0;
    }
    p->head.len[p->head.current] += len;
    return put_text(p, at, len);
}

static int on_chunk_extension(llhttp_t *llhttp, const char *at, size_t len)
{
    (void)at;
    (void)len;
    return refuse(parser_of(llhttp), KBS_HTTP_REASON_MALFORMED,
                  "chunk extensions are not supported");
}

static void collect_headers(const struct head *head, struct kbs_http_headers *ret)
{
    *ret = (struct kbs_http_headers){.present = {false}};
    for (size_t i = 0; i < KBS_HTTP_HEADER_COUNT; i++) {
        ret->present[i] = head->present[i];
        if (head->present[i] && head->len[i] != 0) {
            ret->value[i] = kbs_http_trim(kbs_span(head->text.p + head->offset[i], head->len[i]));
        }
    }
}

/* Rules about the message as such: who frames it, and how. */
static int check_message(struct kbs_http_parser *p, const struct kbs_http_headers *h,
                         size_t *ret_length)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (p->llhttp.http_major != 1 || p->llhttp.http_minor > 1) {
        return refuse(p, KBS_HTTP_REASON_MALFORMED, "the version is not HTTP/1.0 or HTTP/1.1");
    }
    if (p->head.protocol_len != 4 || memcmp(p->head.protocol, "HTTP", 4) != 0) {
        return refuse(p, KBS_HTTP_REASON_MALFORMED, "the protocol is not HTTP");
    }
    if (p->llhttp.method == HTTP_CONNECT) {
        return refuse(p, KBS_HTTP_REASON_MALFORMED, "CONNECT is not supported");
    }
    if (kbs_http_headers_framing(h, p->llhttp.http_minor, ret_length, &err) < 0) {
        return refuse(p, KBS_HTTP_REASON_MALFORMED, err.detail);
    }
    return 0;
}

static int check_request(struct kbs_http_parser *p, const struct kbs_http_headers *h)
{
    struct kbs_http_request *r = &p->request;
    struct kbs_error err = KBS_ERROR_NONE;

    r->target = kbs_span(p->head.text.p, p->head.target_len);
    if (kbs_http_target_parse(r->target, &p->arena, &r->path, &err) < 0) {
        return refuse(p, KBS_HTTP_REASON_TARGET, err.detail);
    }
    if (kbs_http_headers_forwarded(h, &r->cookie, &err) < 0) {
        return refuse(p, KBS_HTTP_REASON_HEADER, err.detail);
    }
    if (h->present[KBS_HTTP_EXPECT] && p->llhttp.http_minor == 1) {
        if (!kbs_http_equal_nocase(h->value[KBS_HTTP_EXPECT], "100-continue")) {
            return refuse(p, KBS_HTTP_REASON_EXPECTATION, "the only expectation is 100-continue");
        }
        p->wants_continue = true;
    }
    r->authorization = h->value[KBS_HTTP_AUTHORIZATION];
    r->accept = h->value[KBS_HTTP_ACCEPT];
    r->content_type = h->value[KBS_HTTP_CONTENT_TYPE];
    r->signature = h->value[KBS_HTTP_SIGNATURE];
    r->proof = h->value[KBS_HTTP_PROOF];
    return 0;
}

/*
 * The refusals after which the connection can go on, because the message is understood: they are
 * only noted, llhttp runs to the end of the message, and feed() finds them there. With a body to
 * come it is not worth waiting for.
 */
static int check_route(struct kbs_http_parser *p, bool has_body)
{
    struct kbs_span method = kbs_span_str(llhttp_method_name((llhttp_method_t)p->llhttp.method));
    struct kbs_http_match *match = &p->request.match;
    int r = kbs_http_route_find(p->listener, method, &p->request.path, match);

    if (r == 0) {
        match->body_max = match->body_max < p->body_bound ? match->body_max : p->body_bound;
        return 0;
    }
    if (r == KBS_HTTP_ROUTE_NO_PATH) {
        (void)refuse(p, KBS_HTTP_REASON_PATH, "there is no such path");
    } else {
        (void)refuse(p, KBS_HTTP_REASON_METHOD, "the path does not have this method");
        p->refusal.allow = match->allow;
    }
    p->refusal.close = has_body || !p->request.keep_alive;
    return has_body ? -1 : 0;
}

static int on_headers_complete(llhttp_t *llhttp)
{
    struct kbs_http_parser *p = parser_of(llhttp);
    struct kbs_http_headers headers;
    size_t length = 0;

    collect_headers(&p->head, &headers);
    if (check_message(p, &headers, &length) < 0) {
        return -1;
    }
    p->request.keep_alive = llhttp_should_keep_alive(llhttp) != 0;
    if (check_request(p, &headers) < 0 ||
        check_route(p, length != 0 || headers.present[KBS_HTTP_TRANSFER_ENCODING]) < 0) {
        return -1;
    }
    if (length > p->request.match.body_max) {
        return refuse(p, KBS_HTTP_REASON_BODY_TOO_LARGE,
                      "the request body is too large for this path");
    }
    p->phase = KBS_HTTP_PHASE_BODY;
    p->phase_bytes = 0;
    p->body.max = p->request.match.body_max;
    return 0;
}

static int on_body(llhttp_t *llhttp, const char *at, size_t len)
{
    struct kbs_http_parser *p = parser_of(llhttp);

    p->wants_continue = false;
    if (len > p->body.max - p->body.len) {
        return refuse(p, KBS_HTTP_REASON_BODY_TOO_LARGE,
                      "the request body is too large for this path");
    }
    kbs_buf_put(&p->body, at, len);
    return p->body.failed ? refuse(p, KBS_HTTP_REASON_MEMORY, "out of memory") : 0;
}

static int on_message_complete(llhttp_t *llhttp)
{
    struct kbs_http_parser *p = parser_of(llhttp);

    p->request.body = kbs_buf_span(&p->body);
    p->phase = KBS_HTTP_PHASE_DONE;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_protocol = on_protocol,
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_field_complete = on_header_field_complete,
    .on_header_value = on_header_value,
    .on_chunk_extension_name = on_chunk_extension,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

int kbs_http_parser_new(enum kbs_listener listener, struct kbs_http_parser **ret,
                        struct kbs_error *err)
{
    struct kbs_http_parser *p = calloc(1, sizeof(*p));

    if (p == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    p->listener = listener;
    p->body_bound = KBS_LIMIT_HTTP_BODY_BYTES;
    kbs_http_parser_next(p);
    *ret = p;
    return 0;
}

void kbs_http_parser_bound_body(struct kbs_http_parser *p, size_t max)
{
    p->body_bound = max;
}

struct kbs_http_parser *kbs_http_parser_free(struct kbs_http_parser *p)
{
    if (p != NULL) {
        kbs_buf_deinit(&p->head.text);
        kbs_buf_deinit(&p->body);
        kbs_arena_deinit(&p->arena);
        free(p);
    }
    return NULL;
}

void kbs_http_parser_next(struct kbs_http_parser *p)
{
    kbs_buf_deinit(&p->head.text);
    kbs_buf_deinit(&p->body);
    kbs_arena_deinit(&p->arena);
    llhttp_init(&p->llhttp, HTTP_REQUEST, &settings);
    p->llhttp.data = p;
    p->phase = KBS_HTTP_PHASE_START;
    p->head = (struct head){.text = KBS_BUF(KBS_LIMIT_HTTP_HEAD_BYTES)};
    p->body = KBS_BUF(0);
    p->arena = KBS_ARENA(KBS_HTTP_TARGET_ARENA_BYTES);
    p->phase_bytes = 0;
    p->empty_line_bytes = 0;
    p->wants_continue = false;
    p->request = (struct kbs_http_request){.keep_alive = false};
    p->refusal = (struct kbs_http_refusal){.reason = KBS_HTTP_REASON_NONE};
}

/* Passes over CRLFs before a request line; llhttp would also pass over lone CRs and LFs. */
static int skip_empty_lines(struct kbs_http_parser *p, struct kbs_span in, size_t *used)
{
    while (*used < in.len &&
           (in.p[*used] == '\r' || in.p[*used] == '\n' || p->empty_line_bytes % 2 == 1)) {
        if (in.p[*used] != "\r\n"[p->empty_line_bytes % 2] ||
            p->empty_line_bytes == EMPTY_LINES_MAX_BYTES) {
            return refuse(p, KBS_HTTP_REASON_MALFORMED,
                          "the request does not begin with a request line");
        }
        p->empty_line_bytes++;
        (*used)++;
    }
    if (*used < in.len) {
        p->phase = KBS_HTTP_PHASE_HEAD;
    }
    return 0;
}

/* How much llhttp may be given next without passing a limit; 0 refuses. */
static size_t phase_budget(struct kbs_http_parser *p)
{
    size_t max = KBS_LIMIT_HTTP_HEAD_BYTES;

    if (p->phase == KBS_HTTP_PHASE_BODY) {
        max +=
            2 *
            p->request.match.body_max; /* chunk framing: as much again as the body, and a little */
    }
    if (p->phase_bytes >= max) {
        if (p->phase == KBS_HTTP_PHASE_BODY) {
            (void)refuse(p, KBS_HTTP_REASON_BODY_TOO_LARGE,
                         "the request body has too much framing");
        } else {
            (void)refuse(p, KBS_HTTP_REASON_HEAD_TOO_LARGE, "the request head is too large");
        }
        return 0;
    }
    return max - p->phase_bytes;
}

/* Gives llhttp one piece. -1 when the request is refused. */
static int execute(struct kbs_http_parser *p, struct kbs_span piece, size_t *ret_used)
{
    enum kbs_http_phase before = p->phase;
    llhttp_errno_t e;

    p->piece = piece.p;
    e = llhttp_execute(&p->llhttp, (const char *)piece.p, piece.len);

    *ret_used = piece.len;
    if (e == HPE_OK) {
        p->phase_bytes = p->phase == before ? p->phase_bytes + piece.len : 0;
        return 0;
    }
    if (e == HPE_PAUSED && p->phase == KBS_HTTP_PHASE_DONE) {
        *ret_used = (size_t)(llhttp_get_error_pos(&p->llhttp) - (const char *)piece.p);
        return 0;
    }
    *ret_used = 0;
    return refuse(p, KBS_HTTP_REASON_MALFORMED, "the request is not valid HTTP/1.1");
}

enum kbs_http_event kbs_http_parser_feed(struct kbs_http_parser *p, struct kbs_span in,
                                         size_t *ret_used)
{
    size_t used = 0;

    if (p->phase == KBS_HTTP_PHASE_START && skip_empty_lines(p, in, &used) < 0) {
        p->phase = KBS_HTTP_PHASE_DONE;
    }
    while (p->phase != KBS_HTTP_PHASE_DONE && used < in.len) {
        size_t budget = phase_budget(p);
        size_t n = in.len - used < budget ? in.len - used : budget;
        size_t taken = 0;

        if (n == 0 || execute(p, kbs_span(in.p + used, n), &taken) < 0) {
            p->phase = KBS_HTTP_PHASE_DONE;
        }
        used += taken;
    }
    *ret_used = used;
    if (p->phase != KBS_HTTP_PHASE_DONE) {
        return KBS_HTTP_MORE;
    }
    return p->refusal.reason != KBS_HTTP_REASON_NONE ? KBS_HTTP_REFUSED : KBS_HTTP_REQUEST;
}

const struct kbs_http_request *kbs_http_parser_request(const struct kbs_http_parser *p)
{
    return &p->request;
}

const struct kbs_http_refusal *kbs_http_parser_refusal(const struct kbs_http_parser *p)
{
    return &p->refusal;
}

enum kbs_http_phase kbs_http_parser_phase(const struct kbs_http_parser *p)
{
    return p->phase;
}

enum kbs_route kbs_http_parser_route(const struct kbs_http_parser *p)
{
    return p->request.match.route;
}

size_t kbs_http_parser_body_bytes(const struct kbs_http_parser *p)
{
    return p->body.len;
}

bool kbs_http_parser_take_continue(struct kbs_http_parser *p)
{
    bool wants = p->wants_continue && p->phase == KBS_HTTP_PHASE_BODY;

    p->wants_continue = p->wants_continue && !wants;
    return wants;
}
