/*
 * Whoever checks a URL and whoever follows it have to agree on where it leads. They are two
 * libraries, so what is taken here is only what both read in one way; all else is refused, however
 * legal it is.
 */
#include "base/url.h"

#include <stdlib.h>
#include <strings.h>

#define HOST_BYTES 253

static bool in_set(struct kbs_span s, const char *letters)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '\0' || strchr(letters, s.p[i]) == NULL) {
            return false;
        }
    }
    return true;
}

/* "%41" and the like, but nothing that would be a dot, a slash or a control character. */
static bool escape_valid(struct kbs_span s)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    char hex[3] = "";
    long byte;

    if (s.len < 3 || !in_set(kbs_span(s.p + 1, 2), digits)) {
        return false;
    }
    memcpy(hex, s.p + 1, 2);
    byte = strtol(hex, NULL, 16);
    return byte >= ' ' && byte != 0x7f && strchr("./\\", (int)byte) == NULL;
}

static bool is_dot_segment(struct kbs_span s)
{
    return kbs_span_equal_str(s, ".") || kbs_span_equal_str(s, "..");
}

bool kbs_url_suffix_valid(struct kbs_span suffix)
{
    size_t segment = 1;
    bool query = false;

    if (suffix.len > 0 && suffix.p[0] != '/') {
        return false;
    }
    for (size_t i = 0; i < suffix.len; i++) {
        uint8_t c = suffix.p[i];

        if (c <= ' ' || c > '~' || strchr("\"<>\\^`{|}#", c) != NULL ||
            (c == '%' && !escape_valid(kbs_span_skip(suffix, i)))) {
            return false;
        }
        if (!query && i > 0 && (c == '/' || c == '?')) {
            if (is_dot_segment(kbs_span(suffix.p + segment, i - segment))) {
                return false;
            }
            segment = i + 1;
            query = c == '?';
        }
    }
    return query || suffix.len == 0 || !is_dot_segment(kbs_span_skip(suffix, segment));
}

static bool port_parse(struct kbs_span digits, uint16_t *ret)
{
    uint32_t port = 0;

    if (digits.len == 0 || digits.len > 5 || !in_set(digits, "0123456789")) {
        return false;
    }
    for (size_t i = 0; i < digits.len; i++) {
        port = port * 10 + (uint32_t)(digits.p[i] - '0');
    }
    *ret = (uint16_t)port;
    return port > 0 && port <= UINT16_MAX;
}

/* host [":" port], host being a name, an IPv4 address, or an IPv6 one in brackets. */
static bool authority_parse(struct kbs_span s, struct kbs_url *ret)
{
    const char *letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.";
    const uint8_t *end = s.len > 0 ? memchr(s.p, s.p[0] == '[' ? ']' : ':', s.len) : NULL;
    struct kbs_span host = s;
    struct kbs_span rest = KBS_SPAN_EMPTY;

    if (s.len > 0 && s.p[0] == '[') {
        if (end == NULL) {
            return false;
        }
        letters = "0123456789abcdefABCDEF:.";
        host = kbs_span(s.p + 1, (size_t)(end - s.p) - 1);
        rest = kbs_span_skip(s, (size_t)(end - s.p) + 1);
    } else if (end != NULL) {
        host = kbs_span(s.p, (size_t)(end - s.p));
        rest = kbs_span_skip(s, host.len);
    }
    ret->host = host;
    return host.len > 0 && host.len <= HOST_BYTES && in_set(host, letters) &&
           (rest.len == 0 || (rest.p[0] == ':' && port_parse(kbs_span_skip(rest, 1), &ret->port)));
}

bool kbs_url_parse(struct kbs_span text, struct kbs_url *ret)
{
    const uint8_t *slash;
    struct kbs_span rest;

    *ret = (struct kbs_url){.scheme = KBS_URL_NONE};
    if (kbs_span_starts_with(text, "unix:")) {
        ret->scheme = KBS_URL_UNIX;
        ret->path = kbs_span_skip(text, strlen("unix:"));
        return ret->path.len > 1 && ret->path.len < 108 && ret->path.p[0] == '/' &&
               kbs_url_suffix_valid(ret->path);
    }
    if (kbs_span_starts_with(text, "https://")) {
        ret->scheme = KBS_URL_HTTPS;
        rest = kbs_span_skip(text, strlen("https://"));
    } else if (kbs_span_starts_with(text, "http://")) {
        ret->scheme = KBS_URL_HTTP;
        rest = kbs_span_skip(text, strlen("http://"));
    } else {
        return false;
    }
    slash = rest.len > 0 ? memchr(rest.p, '/', rest.len) : NULL;
    if (slash != NULL) {
        ret->path = kbs_span_skip(rest, (size_t)(slash - rest.p));
        rest.len -= ret->path.len;
    }
    return authority_parse(rest, ret) && kbs_url_suffix_valid(ret->path);
}

bool kbs_url_is_local(const struct kbs_url *url)
{
    return url->scheme == KBS_URL_UNIX ||
           kbs_url_host_equal(url->host, KBS_SPAN_LIT("localhost")) ||
           kbs_span_equal_str(url->host, "::1") ||
           (kbs_span_starts_with(url->host, "127.") && in_set(url->host, "0123456789."));
}

bool kbs_url_host_equal(struct kbs_span a, struct kbs_span b)
{
    return a.len == b.len &&
           (a.len == 0 || strncasecmp((const char *)a.p, (const char *)b.p, a.len) == 0);
}
