/*
 * Request targets.
 *
 * The problem: every component that looks at a path has its own idea of "%2f", "//", "..", ";x" and
 * overlong UTF-8, and attackers live in the differences. The approach: split the raw text at its
 * raw delimiters first, decode each piece exactly once, then refuse every piece whose decoded bytes
 * could be read as a delimiter, a parent, a control or broken text by anybody downstream. Nothing
 * is normalised: what is not already in the one form is an error.
 *
 * Invariant: an accepted segment is 1..KBS_LIMIT_HTTP_SEGMENT_BYTES bytes of valid UTF-8 that is
 * neither "." nor ".." and has no '/', '\\', ';', NUL or control character; C1 controls
 * (U+0080..U+009F) count as controls.
 *
 * Rejected: RFC 3986 section 6 normalisation (the judge verifies signatures over the raw target, so
 * rewriting helps nobody); form decoding of '+' (a key named "a+b" would change its name).
 */
#include "http/target.h"

#include "base/encoding.h"

/*
 * pchar without pct-encoded and ';' (RFC 3986 section 3.3); `query` adds "/" and "?" and takes away
 * "+".
 */
static bool raw_char_allowed(uint8_t c, bool query)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) {
        return true;
    }
    if (c == '\0' || c >= 0x80) {
        return false;
    }
    return strchr(query ? "-._~!$'()*,:@/?=" : "-._~!$&'()*+,=:@", c) != NULL;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

/* Decodes one piece into `out`, which has room for raw.len bytes. */
static int decode(struct kbs_span raw, bool query, uint8_t *out, size_t *ret_len,
                  struct kbs_error *err)
{
    size_t n = 0;

    for (size_t i = 0; i < raw.len; i++) {
        uint8_t c = raw.p[i];

        if (c == '%') {
            bool whole = raw.len - i > 2;
            int high = whole ? hex_value(raw.p[i + 1]) : -1;
            int low = whole ? hex_value(raw.p[i + 2]) : -1;

            if (high < 0 || low < 0) {
                return kbs_fail(err, KBS_INPUT, "the request target has a broken percent-encoding");
            }
            c = (uint8_t)(high * 16 + low);
            i += 2;
        } else if (!raw_char_allowed(c, query)) {
            return kbs_fail(err, KBS_INPUT,
                            "the request target has a character that must be encoded");
        }
        if (c < 0x20 || c == 0x7f) {
            return kbs_fail(err, KBS_INPUT, "the request target has a control character");
        }
        out[n++] = c;
    }
    *ret_len = n;
    return 0;
}

/* U+0080..U+009F, in text already known to be UTF-8. */
static bool has_c1_control(struct kbs_span text)
{
    for (size_t i = 0; i + 1 < text.len; i++) {
        if (text.p[i] == 0xc2 && text.p[i + 1] < 0xa0) {
            return true;
        }
    }
    return false;
}

static int decode_text(struct kbs_span raw, bool query, struct kbs_arena *arena,
                       struct kbs_span *ret, struct kbs_error *err)
{
    size_t len = 0;
    uint8_t *out = kbs_arena_alloc(arena, raw.len != 0 ? raw.len : 1);

    if (out == NULL) {
        return kbs_fail(err, KBS_TOO_LARGE, "the request target is too long");
    }
    if (decode(raw, query, out, &len, err) < 0) {
        return -1;
    }
    *ret = kbs_span(out, len);
    if (!kbs_utf8_valid(*ret) || has_c1_control(*ret)) {
        return kbs_fail(err, KBS_INPUT, "the request target is not UTF-8 text");
    }
    return 0;
}

static int segment_check(struct kbs_span s, struct kbs_error *err)
{
    if (s.len == 0) {
        return kbs_fail(err, KBS_INPUT, "the request path has an empty segment");
    }
    if (s.len > KBS_LIMIT_HTTP_SEGMENT_BYTES) {
        return kbs_fail(err, KBS_INPUT, "a segment of the request path is over %d bytes",
                        KBS_LIMIT_HTTP_SEGMENT_BYTES);
    }
    if (kbs_span_equal_str(s, ".") || kbs_span_equal_str(s, "..")) {
        return kbs_fail(err, KBS_INPUT, "the request path has a dot segment");
    }
    if (memchr(s.p, '/', s.len) != NULL || memchr(s.p, '\\', s.len) != NULL ||
        memchr(s.p, ';', s.len) != NULL) {
        return kbs_fail(err, KBS_INPUT, "a segment of the request path has a delimiter in it");
    }
    return 0;
}

/* Cuts `rest` at the first `c`; false when there is none (then *ret_head is all of it). */
static bool cut(struct kbs_span *rest, uint8_t c, struct kbs_span *ret_head)
{
    const uint8_t *at = rest->len != 0 ? memchr(rest->p, c, rest->len) : NULL;

    if (at == NULL) {
        *ret_head = *rest;
        *rest = KBS_SPAN_EMPTY;
        return false;
    }
    *ret_head = kbs_span(rest->p, (size_t)(at - rest->p));
    *rest = kbs_span_skip(*rest, ret_head->len + 1);
    return true;
}

static int parse_path(struct kbs_span path, struct kbs_arena *arena, struct kbs_http_target *ret,
                      struct kbs_error *err)
{
    struct kbs_span rest = kbs_span_skip(path, 1);
    bool more = rest.len != 0; /* "/" has no segments */

    while (more) {
        struct kbs_span raw;
        struct kbs_span *segment = &ret->segments[ret->segment_count];

        if (ret->segment_count == KBS_LIMIT_HTTP_SEGMENTS) {
            return kbs_fail(err, KBS_INPUT, "the request path has more than %d segments",
                            KBS_LIMIT_HTTP_SEGMENTS);
        }
        more = cut(&rest, '/', &raw);
        if (decode_text(raw, false, arena, segment, err) < 0 || segment_check(*segment, err) < 0) {
            return -1;
        }
        ret->segment_count++;
    }
    return 0;
}

static bool query_has(const struct kbs_http_target *target, struct kbs_span name)
{
    for (size_t i = 0; i < target->query_count; i += 2) {
        if (kbs_span_equal(target->query[i], name)) {
            return true;
        }
    }
    return false;
}

static int parse_query(struct kbs_span query, struct kbs_arena *arena, struct kbs_http_target *ret,
                       struct kbs_error *err)
{
    struct kbs_span rest = query;
    bool more = rest.len != 0;

    while (more) {
        struct kbs_span value, name;
        struct kbs_span decoded_name, decoded_value;

        if (ret->query_count == 2 * KBS_LIMIT_HTTP_QUERY_PAIRS) {
            return kbs_fail(err, KBS_INPUT, "the query has more than %d parameters",
                            KBS_LIMIT_HTTP_QUERY_PAIRS);
        }
        more = cut(&rest, '&', &value);
        if (!cut(&value, '=', &name) || name.len == 0) {
            return kbs_fail(err, KBS_INPUT, "a query parameter is not of the form name=value");
        }
        if (decode_text(name, true, arena, &decoded_name, err) < 0 ||
            decode_text(value, true, arena, &decoded_value, err) < 0) {
            return -1;
        }
        if (query_has(ret, decoded_name)) {
            return kbs_fail(err, KBS_INPUT, "a query parameter is repeated");
        }
        ret->query[ret->query_count++] = decoded_name;
        ret->query[ret->query_count++] = decoded_value;
    }
    return 0;
}

int kbs_http_target_parse(struct kbs_span raw, struct kbs_arena *arena, struct kbs_http_target *ret,
                          struct kbs_error *err)
{
    struct kbs_span query = raw;
    struct kbs_span path;

    *ret = (struct kbs_http_target){.segment_count = 0};
    if (raw.len > KBS_LIMIT_HTTP_TARGET_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the request target is too long");
    }
    if (raw.len == 0 || raw.p[0] != '/') {
        return kbs_fail(err, KBS_INPUT, "the request target is not in origin form");
    }
    cut(&query, '?', &path);
    if (parse_path(path, arena, ret, err) < 0) {
        return -1;
    }
    return parse_query(query, arena, ret, err);
}
