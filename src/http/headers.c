/*
 * The headers this service reads.
 *
 * The problem: a header that appears twice, or whose value two parsers read differently, is how
 * requests are smuggled and how a proxy and a server come to disagree on who is asking. The
 * approach: of the few headers that decide anything each may appear once (parser.c counts), and its
 * value must be in one narrow form. Headers nobody reads are counted and forgotten.
 *
 * Rejected: joining repeated Accept or Cookie lines with commas, as RFC 9110 section 5.3 permits.
 * No client of the KBS protocol sends them, and a second Cookie line is usually an attack.
 */
#include "http/headers.h"

#include "base/limits.h"

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
}

bool kbs_http_equal_nocase(struct kbs_span s, const char *want)
{
    if (s.len != strlen(want)) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (lower(s.p[i]) != (uint8_t)want[i]) {
            return false;
        }
    }
    return true;
}

enum kbs_http_header kbs_http_header_find(struct kbs_span name)
{
    static const struct {
        const char *name;
        enum kbs_http_header header;
    } names[] = {
        {"host", KBS_HTTP_HOST},
        {"content-length", KBS_HTTP_CONTENT_LENGTH},
        {"transfer-encoding", KBS_HTTP_TRANSFER_ENCODING},
        {"content-type", KBS_HTTP_CONTENT_TYPE},
        {"authorization", KBS_HTTP_AUTHORIZATION},
        {"accept", KBS_HTTP_ACCEPT},
        {"cookie", KBS_HTTP_COOKIE},
        {"kbs-signature", KBS_HTTP_SIGNATURE},
        {"kbs-proof", KBS_HTTP_PROOF},
        {"expect", KBS_HTTP_EXPECT},
        {"upgrade", KBS_HTTP_UPGRADE},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (kbs_http_equal_nocase(name, names[i].name)) {
            return names[i].header;
        }
    }
    return KBS_HTTP_HEADER_OTHER;
}

struct kbs_span kbs_http_trim(struct kbs_span s)
{
    while (s.len != 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
        s = kbs_span_skip(s, 1);
    }
    while (s.len != 0 && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

static int content_length(struct kbs_span s, size_t *ret, struct kbs_error *err)
{
    size_t n = 0;

    if (s.len == 0) {
        return kbs_fail(err, KBS_INPUT, "Content-Length is empty");
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') {
            return kbs_fail(err, KBS_INPUT, "Content-Length is not a number");
        }
        n = n > (SIZE_MAX - 9) / 10 ? SIZE_MAX : n * 10 + (size_t)(s.p[i] - '0');
    }
    *ret = n;
    return 0;
}

/*
 * uri-host [ ":" port ] (RFC 9110 section 7.2), by alphabet: there are no virtual hosts to choose
 * between.
 */
static bool host_valid(struct kbs_span s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.p[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (!alnum && (c == '\0' || c >= 0x80 || strchr("-._~:[]%", c) == NULL)) {
            return false;
        }
    }
    return true;
}

int kbs_http_headers_framing(const struct kbs_http_headers *h, unsigned int minor,
                             size_t *ret_length, struct kbs_error *err)
{
    *ret_length = 0;
    if (h->present[KBS_HTTP_UPGRADE]) {
        return kbs_fail(err, KBS_INPUT, "Upgrade is not supported");
    }
    if ((minor >= 1 && !h->present[KBS_HTTP_HOST]) || !host_valid(h->value[KBS_HTTP_HOST])) {
        return kbs_fail(err, KBS_INPUT, "Host is missing or malformed");
    }
    if (h->present[KBS_HTTP_TRANSFER_ENCODING]) {
        if (h->present[KBS_HTTP_CONTENT_LENGTH]) {
            return kbs_fail(err, KBS_INPUT,
                            "Transfer-Encoding and Content-Length exclude each other");
        }
        if (minor == 0 || !kbs_http_equal_nocase(h->value[KBS_HTTP_TRANSFER_ENCODING], "chunked")) {
            return kbs_fail(err, KBS_INPUT,
                            "the only Transfer-Encoding is chunked, from HTTP/1.1 on");
        }
    }
    if (h->present[KBS_HTTP_CONTENT_LENGTH]) {
        return content_length(h->value[KBS_HTTP_CONTENT_LENGTH], ret_length, err);
    }
    return 0;
}

static bool visible(struct kbs_span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] >= 0x7f) {
            return false;
        }
    }
    return true;
}

static bool session_id_valid(struct kbs_span s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = lower(s.p[i]);

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
    }
    return s.len == KBS_LIMIT_COOKIE_BYTES;
}

/*
 * cookie-string = cookie-pair *( ";" SP cookie-pair ) (RFC 6265 section 4.2.1); others' cookies are
 * passed over.
 */
static int session_cookie(struct kbs_span header, struct kbs_span *ret, struct kbs_error *err)
{
    static const char name[] = "kbs-session-id=";
    struct kbs_span rest = header;

    *ret = KBS_SPAN_EMPTY;
    while (rest.len != 0) {
        const uint8_t *semicolon = memchr(rest.p, ';', rest.len);
        size_t len = semicolon != NULL ? (size_t)(semicolon - rest.p) : rest.len;
        struct kbs_span pair = kbs_http_trim(kbs_span(rest.p, len));

        rest = kbs_span_skip(rest, len + 1);
        if (!kbs_span_starts_with(pair, name)) {
            continue;
        }
        if (ret->len != 0) {
            return kbs_fail(err, KBS_INPUT, "there are two kbs-session-id cookies");
        }
        *ret = kbs_span_skip(pair, sizeof(name) - 1);
        if (!session_id_valid(*ret)) {
            return kbs_fail(err, KBS_INPUT, "the kbs-session-id cookie is malformed");
        }
    }
    return 0;
}

int kbs_http_headers_forwarded(const struct kbs_http_headers *h, struct kbs_span *ret_cookie,
                               struct kbs_error *err)
{
    static const enum kbs_http_header forwarded[] = {KBS_HTTP_CONTENT_TYPE, KBS_HTTP_AUTHORIZATION,
                                                     KBS_HTTP_ACCEPT,       KBS_HTTP_COOKIE,
                                                     KBS_HTTP_SIGNATURE,    KBS_HTTP_PROOF};

    for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++) {
        if (!visible(h->value[forwarded[i]])) {
            return kbs_fail(err, KBS_INPUT, "a header value is not visible ASCII");
        }
    }
    return session_cookie(h->value[KBS_HTTP_COOKIE], ret_cookie, err);
}
