/*
 * The request parser in random pieces.
 *
 * Input: one byte of listener kind, one byte that seeds the cuts, then the bytes of a connection.
 * They are fed twice, whole and cut; both must accept and refuse the same things. What is accepted
 * must satisfy what parser.h and target.h promise. The second half of the work is a judge's answer:
 * the same bytes as content type and cookie must never put a line break into a head.
 */
#include <stdlib.h>

#include "base/encoding.h"
#include "http/parser.h"
#include "http/response.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Not assert(): this must hold in release builds too. */
static void require(bool ok)
{
    if (!ok) {
        abort();
    }
}

struct summary {
    unsigned int accepted;
    unsigned int refused;
    unsigned int last_status;
    size_t body_bytes;
    size_t taken;
};

static void check_segments(const struct kbs_http_target *t)
{
    require(t->segment_count <= KBS_LIMIT_HTTP_SEGMENTS);
    require(t->query_count <= 2 * KBS_LIMIT_HTTP_QUERY_PAIRS && t->query_count % 2 == 0);
    for (size_t i = 0; i < t->segment_count; i++) {
        struct kbs_span s = t->segments[i];

        require(s.len > 0 && s.len <= KBS_LIMIT_HTTP_SEGMENT_BYTES && kbs_utf8_valid(s));
        require(!kbs_span_equal_str(s, ".") && !kbs_span_equal_str(s, ".."));
        for (size_t j = 0; j < s.len; j++) {
            require(s.p[j] >= 0x20 && s.p[j] != 0x7f && s.p[j] != '/' && s.p[j] != '\\' &&
                    s.p[j] != ';');
        }
    }
    for (size_t i = 0; i < t->query_count; i++) {
        require(kbs_utf8_valid(t->query[i]));
        require(i % 2 == 1 || t->query[i].len > 0);
        for (size_t j = 0; j < t->query[i].len; j++) {
            require(t->query[i].p[j] >= 0x20 && t->query[i].p[j] != 0x7f);
        }
    }
}

static void check_request(const struct kbs_http_request *r)
{
    const struct kbs_span headers[] = {r->authorization, r->accept, r->content_type, r->signature};

    require(r->match.route != KBS_ROUTE_NONE && r->match.method != NULL);
    require(r->match.param_count <= KBS_HTTP_PARAMS_MAX);
    require(r->target.len >= 1 && r->target.len <= KBS_LIMIT_HTTP_TARGET_BYTES &&
            r->target.p[0] == '/');
    require(r->body.len <= r->match.body_max && r->match.body_max <= KBS_LIMIT_HTTP_BODY_BYTES);
    require(r->cookie.len == 0 || r->cookie.len == KBS_LIMIT_COOKIE_BYTES);
    check_segments(&r->path);
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        require(headers[i].len <= KBS_LIMIT_HTTP_HEAD_BYTES);
        for (size_t j = 0; j < headers[i].len; j++) {
            require(headers[i].p[j] == '\t' || (headers[i].p[j] >= 0x20 && headers[i].p[j] < 0x7f));
        }
    }
}

/* Feeds everything, in pieces drawn from `seed` (0: whole). */
static struct summary run(enum kbs_listener listener, struct kbs_span in, uint32_t seed)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_http_parser *p = NULL;
    struct summary s = {0};
    bool closed = false;
    size_t end = 0;

    if (kbs_http_parser_new(listener, &p, &err) < 0) {
        abort();
    }
    while (!closed && s.taken < in.len) {
        size_t used = 0;
        uint8_t *piece; /* of its own, so that reading beyond is found */
        enum kbs_http_event event;

        if (s.taken == end) {
            seed = seed * 1664525u + 1013904223u;
            end = seed == 1013904223u || in.len - end <= 1
                      ? in.len
                      : end + 1 + (seed >> 16) % (in.len - end);
        }
        piece = malloc(end - s.taken);
        require(piece != NULL);
        memcpy(piece, in.p + s.taken, end - s.taken);
        event = kbs_http_parser_feed(p, kbs_span(piece, end - s.taken), &used);
        free(piece);
        require(used <= end - s.taken);
        s.taken += used;
        if (event == KBS_HTTP_MORE) {
            require(s.taken == end);
            continue;
        }
        if (event == KBS_HTTP_REQUEST) {
            check_request(kbs_http_parser_request(p));
            s.accepted++;
            s.body_bytes += kbs_http_parser_request(p)->body.len;
            closed = !kbs_http_parser_request(p)->keep_alive;
        } else {
            const struct kbs_http_refusal *r = kbs_http_parser_refusal(p);

            require(r->status >= 400 && r->status < 600 && r->variant != NULL &&
                    r->detail[0] != '\0');
            s.refused++;
            s.last_status = r->status;
            closed = r->close;
        }
        kbs_http_parser_next(p);
    }
    kbs_http_parser_free(p);
    return s;
}

static void check_response(struct kbs_span in)
{
    const struct kbs_http_response_mode mode = {.keep_alive = true};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf out = KBS_BUF(KBS_HTTP_RESPONSE_HEAD_BYTES);
    size_t half = in.len / 2;
    const struct kbs_http_response r = {.status = 200,
                                        .content_type = kbs_span(in.p, half),
                                        .cookie = kbs_span(in.p + half, in.len - half)};

    if (kbs_http_response_write(&out, &r, &mode, &err) == 0) {
        unsigned int lines = 0;

        for (size_t i = 0; i < out.len; i++) {
            lines += out.p[i] == '\n' ? 1 : 0;
            require(out.p[i] >= 0x20 || out.p[i] == '\r' || out.p[i] == '\n');
        }
        require(lines == 6u + (r.content_type.len != 0) + (r.cookie.len != 0));
    }
    kbs_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_span in;
    struct summary whole, cut;

    if (size < 2 || size > 65536) {
        return 0;
    }
    in = kbs_span(data + 2, size - 2);
    whole = run(data[0] % 2 == 0 ? KBS_LISTENER_GUEST : KBS_LISTENER_ADMIN, in, 0);
    cut = run(data[0] % 2 == 0 ? KBS_LISTENER_GUEST : KBS_LISTENER_ADMIN, in, data[1] + 1u);
    require(whole.accepted == cut.accepted && whole.refused == cut.refused);
    require(whole.last_status == cut.last_status && whole.body_bytes == cut.body_bytes);
    check_response(in);
    return 0;
}
