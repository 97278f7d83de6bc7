/*
 * Response writer.
 *
 * The problem: a judge that runs an attacker's code chooses status, content type, cookie and body,
 * and must not be able to split a response or plant headers through them. The approach: closed
 * value sets. The status is a number, the content type a short string of a small alphabet without
 * CR or LF, the cookie 32 hex digits, the receipt base64url and dots, everything else is printed from integers. The judge cannot
 * name a header.
 *
 * No Secure flag on the cookie: plain listeners (loopback, unix sockets) need it too, and clients
 * of the KBS protocol are programs, not browsers. No reason phrase is derived from input.
 * `Cache-Control: no-store` goes on every answer: all of them depend on the requester.
 */
#include "http/response.h"

#include <time.h>

#include "base/limits.h"

#define CONTENT_TYPE_MAX_BYTES 128
#define YEAR_9999_END_S INT64_C(253402300799)

static const char *reason_phrase(unsigned int status)
{
    static const struct {
        unsigned int status;
        const char *phrase;
    } phrases[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
    };

    for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++) {
        if (phrases[i].status == status) {
            return phrases[i].phrase;
        }
    }
    return "Status";
}

/* media-type (RFC 9110 section 8.3.1) in the alphabet we need: tokens, '/', "; ", '=', '"'. */
static bool content_type_valid(struct kbs_span s)
{
    if (s.len > CONTENT_TYPE_MAX_BYTES || s.len == 0 || s.p[0] == ' ' || s.p[s.len - 1] == ' ') {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (!alnum && (c == '\0' || c >= 0x80 || strchr("/+-._; =\"", c) == NULL)) {
            return false;
        }
    }
    return memchr(s.p, '/', s.len) != NULL;
}

static bool cookie_valid(struct kbs_span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] >= 'a' && s.p[i] <= 'f'))) {
            return false;
        }
    }
    return s.len == KBS_LIMIT_COOKIE_BYTES;
}

/* What a receipt says is between kbs-token and whoever verifies it. */
static bool receipt_valid(struct kbs_span s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (!alnum && c != '-' && c != '_' && c != '.') {
            return false;
        }
    }
    return s.len <= KBS_LIMIT_RECEIPT_BYTES;
}

int kbs_http_response_check(const struct kbs_http_response *r, struct kbs_error *err)
{
    if (r->status < 200 || r->status > 599) {
        return kbs_fail(err, KBS_INTERNAL, "the answer's status is out of range");
    }
    if (r->body.len > KBS_LIMIT_HTTP_RESPONSE_BYTES) {
        return kbs_fail(err, KBS_INTERNAL, "the answer's body is too long");
    }
    if ((r->status == 204 || r->status == 304) && r->body.len != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the answer has a body that its status forbids");
    }
    if (r->content_type.len == 0 ? r->body.len != 0 : !content_type_valid(r->content_type)) {
        return kbs_fail(err, KBS_INTERNAL, "the answer's content type is malformed");
    }
    if (r->cookie.len != 0 && !cookie_valid(r->cookie)) {
        return kbs_fail(err, KBS_INTERNAL, "the answer's cookie is malformed");
    }
    if (!receipt_valid(r->receipt)) {
        return kbs_fail(err, KBS_INTERNAL, "the answer's receipt is malformed");
    }
    if (r->cookie_expires_s > (uint64_t)YEAR_9999_END_S) {
        return kbs_fail(err, KBS_INTERNAL, "the answer's cookie expires too late");
    }
    return 0;
}

/* IMF-fixdate (RFC 9110 section 5.6.7), independent of the locale. */
static void put_date(struct kbs_buf *out, int64_t unix_s)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t t = (time_t)unix_s;
    struct tm tm = {.tm_mday = 1};

    if (gmtime_r(&t, &tm) == NULL) {
        tm = (struct tm){.tm_mday = 1, .tm_year = 70, .tm_wday = 4};
    }
    kbs_buf_printf(out, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday,
                   months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static void put_cookie(struct kbs_buf *out, const struct kbs_http_response *r)
{
    kbs_buf_put_str(out, "Set-Cookie: kbs-session-id=");
    kbs_buf_put_span(out, r->cookie);
    kbs_buf_put_str(out, "; Path=/; HttpOnly; Expires=");
    put_date(out, (int64_t)r->cookie_expires_s);
    kbs_buf_put_str(out, "\r\n");
}

int kbs_http_response_write(struct kbs_buf *out, const struct kbs_http_response *r,
                            const struct kbs_http_response_mode *mode, struct kbs_error *err)
{
    if (kbs_http_response_check(r, err) < 0) {
        return -1;
    }
    kbs_buf_printf(out, "HTTP/1.1 %u %s\r\nDate: ", r->status, reason_phrase(r->status));
    put_date(out, mode->now_s);
    kbs_buf_put_str(out, "\r\nCache-Control: no-store\r\n");
    if (r->content_type.len != 0) {
        kbs_buf_put_str(out, "Content-Type: ");
        kbs_buf_put_span(out, r->content_type);
        kbs_buf_put_str(out, "\r\n");
    }
    if (r->status != 204) { /* RFC 9110 section 8.6 forbids it there */
        kbs_buf_printf(out, "Content-Length: %zu\r\n", r->body.len);
    }
    if (r->cookie.len != 0) {
        put_cookie(out, r);
    }
    if (r->receipt.len != 0) {
        kbs_buf_put_str(out, "Kbs-Receipt: ");
        kbs_buf_put_span(out, r->receipt);
        kbs_buf_put_str(out, "\r\n");
    }
    if (r->allow != NULL) {
        kbs_buf_printf(out, "Allow: %s\r\n", r->allow);
    }
    if (r->retry_after_s != 0) {
        kbs_buf_printf(out, "Retry-After: %u\r\n", r->retry_after_s);
    }
    kbs_buf_put_str(out, mode->keep_alive ? "Connection: keep-alive\r\n\r\n"
                                          : "Connection: close\r\n\r\n");
    if (!mode->head_only) {
        kbs_buf_put_span(out, r->body);
    }
    return kbs_buf_check(out, "the response", err);
}

void kbs_http_continue_write(struct kbs_buf *out)
{
    kbs_buf_put_str(out, "HTTP/1.1 100 Continue\r\n\r\n");
}
