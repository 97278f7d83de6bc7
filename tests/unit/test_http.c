/*
 * The request parser against raw bytes.
 *
 * Each case is a byte string and the transcript it must give: one word per request ("auth[body]"
 * for an accepted one, "!" behind it when the client asked to close; "400" for a refusal after
 * which the connection goes on, "400x" when it must close; "..." when bytes of an incomplete
 * request are left). Every case runs whole, cut in two at every byte, and byte by byte; the same as
 * the second of two pipelined requests; and, when its connection goes on, twice in a row. All must
 * give the same transcript: that is what "one reading" means.
 *
 * With the argument --table the cases are printed instead, one JSON object a line, for
 * tests/front/test_desync.py, which sends them to a running kbs-front.
 *
 * The attacks are re-derived from RFC 9112 (sections 2.2, 3, 5, 6, 7, 11) and from the classes of
 * request smuggling that published tools look for; no foreign corpus is copied.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/encoding.h"
#include "http/parser.h"
#include "http/response.h"

#define BYTES(s) (s), sizeof(s) - 1

#define HOST "Host: kbs\r\n"
#define AUTH "POST /kbs/v0/auth HTTP/1.1\r\n"
#define HEALTH "GET /healthz HTTP/1.1\r\n"
#define ID "0123456789abcdef0123456789abcdef"
#define TABLES 11 /* tests that are tables of cases */

struct http_case {
    const char *name;
    const char *bytes;
    size_t len;
    const char *want;
};

static void put(char *out, size_t size, const char *text)
{
    size_t n = strlen(out);

    (void)snprintf(out + n, size - n, "%s", text);
}

static void put_request(char *out, size_t size, const struct kbs_http_request *r)
{
    char word[256];

    (void)snprintf(word, sizeof(word), "%s[%.*s]%s ", kbs_http_route_name(r->match.route),
                   (int)(r->body.len < 32 ? r->body.len : 32),
                   r->body.len != 0 ? (const char *)r->body.p : "", r->keep_alive ? "" : "!");
    put(out, size, word);
}

/*
 * One feeding of `in` in pieces that end at the offsets where (offset % step == 0) or offset ==
 * cut.
 */
static void transcript(struct kbs_span in, size_t cut, size_t step, char *out, size_t size)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_http_parser *p = NULL;
    size_t at = 0;
    size_t end = 0;
    bool closed = false;

    out[0] = '\0';
    assert_int_equal(kbs_http_parser_new(KBS_LISTENER_GUEST, &p, &err), 0);
    while (!closed && at < in.len) {
        size_t used = 0;
        enum kbs_http_event event;

        if (at == end) {
            end = step != 0 && end + step < in.len ? end + step : end < cut ? cut : in.len;
        }
        event = kbs_http_parser_feed(p, kbs_span(in.p + at, end - at), &used);
        at += used;
        if (event == KBS_HTTP_REQUEST) {
            put_request(out, size, kbs_http_parser_request(p));
            closed = !kbs_http_parser_request(p)->keep_alive;
            kbs_http_parser_next(p);
        } else if (event == KBS_HTTP_REFUSED) {
            char word[16];

            closed = kbs_http_parser_refusal(p)->close;
            (void)snprintf(word, sizeof(word), "%u%s ", kbs_http_parser_refusal(p)->status,
                           closed ? "x" : "");
            put(out, size, word);
            kbs_http_parser_next(p);
        } else {
            assert_int_equal(at, end); /* MORE takes everything */
        }
    }
    if (!closed && kbs_http_parser_phase(p) != KBS_HTTP_PHASE_START) {
        put(out, size, "... ");
    }
    kbs_http_parser_free(p);
    if (out[0] != '\0') {
        out[strlen(out) - 1] = '\0';
    }
}

static void check(const struct http_case *c, struct kbs_span in, const char *want)
{
    char got[1024];

    transcript(in, in.len, 0, got, sizeof(got));
    if (strcmp(got, want) != 0) {
        fail_msg("%s: got \"%s\", want \"%s\"", c->name, got, want);
    }
    for (size_t cut = 1; cut < in.len; cut++) {
        transcript(in, cut, 0, got, sizeof(got));
        if (strcmp(got, want) != 0) {
            fail_msg("%s, cut at %zu: got \"%s\", want \"%s\"", c->name, cut, got, want);
        }
    }
    transcript(in, 0, 1, got, sizeof(got));
    if (strcmp(got, want) != 0) {
        fail_msg("%s, byte by byte: got \"%s\", want \"%s\"", c->name, got, want);
    }
}

/* The case behind an honest request on the same connection. */
static void check_second(const struct http_case *c)
{
    struct kbs_buf both = KBS_BUF(65536);
    char want[1024];

    kbs_buf_put_str(&both, HEALTH HOST "\r\n");
    kbs_buf_put(&both, c->bytes, c->len);
    assert_false(both.failed);
    (void)snprintf(want, sizeof(want), "healthz[]%s%s", c->want[0] != '\0' ? " " : "", c->want);
    check(c, kbs_buf_span(&both), want);
    kbs_buf_deinit(&both);
}

static bool printing; /* --table */

static void print_case(const struct http_case *c)
{
    struct kbs_buf line = KBS_BUF(65536);

    kbs_buf_put_str(&line, "{\"name\":");
    kbs_json_string_put(&line, kbs_span_str(c->name));
    kbs_buf_put_str(&line, ",\"bytes\":\"");
    kbs_hex_put(&line, kbs_span(c->bytes, c->len));
    kbs_buf_put_str(&line, "\",\"want\":\"");
    kbs_hex_put(&line, kbs_span_str(c->want));
    kbs_buf_put_str(&line, "\"}");
    assert_false(line.failed);
    puts(kbs_buf_cstr(&line));
    kbs_buf_deinit(&line);
}

static void check_all(const struct http_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct http_case *c = &cases[i];

        if (printing) {
            print_case(c);
            continue;
        }
        check(c, kbs_span(c->bytes, c->len), c->want);
        check_second(c);
        if (strpbrk(c->want, "x!.") == NULL && c->want[0] != '\0') {
            uint8_t *twice = malloc(2 * c->len);
            char want[1024];

            assert_non_null(twice);
            memcpy(twice, c->bytes, c->len);
            memcpy(twice + c->len, c->bytes, c->len);
            (void)snprintf(want, sizeof(want), "%s %s", c->want, c->want);
            check(c, kbs_span(twice, 2 * c->len), want);
            free(twice);
        }
    }
}

static void test_accepted(void **state)
{
    static const struct http_case cases[] = {
        {"get", BYTES(HEALTH HOST "\r\n"), "healthz[]"},
        {"two", BYTES(HEALTH HOST "\r\n" AUTH HOST "Content-Length: 2\r\n\r\n{}"),
         "healthz[] auth[{}]"},
        {"post without a body", BYTES(AUTH HOST "\r\n"), "auth[]"},
        {"length 0", BYTES(AUTH HOST "Content-Length: 0\r\n\r\n"), "auth[]"},
        {"leading zeros", BYTES(AUTH HOST "Content-Length: 0003\r\n\r\nabc"), "auth[abc]"},
        {"white space around the length", BYTES(AUTH HOST "Content-Length:  \t3 \t\r\n\r\nabc"),
         "auth[abc]"},
        {"chunked",
         BYTES(AUTH HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
         "auth[abcde]"},
        {"chunked, case",
         BYTES(AUTH HOST "tRANSFER-eNCODING: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "auth[abc]"},
        {"chunked, empty", BYTES(AUTH HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
         "auth[]"},
        {"chunk size with leading zeros",
         BYTES(AUTH HOST "Transfer-Encoding: chunked\r\n\r\n003\r\nabc\r\n000\r\n\r\n"),
         "auth[abc]"},
        {"chunked, then another",
         BYTES(AUTH HOST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" HEALTH HOST
                         "\r\n"),
         "auth[a] healthz[]"},
        {"a body that looks like a request",
         BYTES(AUTH HOST "Content-Length: 25\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n"),
         "auth[GET /healthz HTTP/1.1\r\n\r\n]"},
        {"empty line first", BYTES("\r\n" HEALTH HOST "\r\n"), "healthz[]"},
        {"two empty lines first", BYTES("\r\n\r\n" HEALTH HOST "\r\n"), "healthz[]"},
        {"empty lines only", BYTES("\r\n\r\n"), ""},
        {"close", BYTES(HEALTH HOST "Connection: close\r\n\r\n"), "healthz[]!"},
        {"close, in a list", BYTES(HEALTH HOST "Connection: x, CLOSE\r\n\r\n"), "healthz[]!"},
        {"1.0", BYTES("GET /healthz HTTP/1.0\r\n\r\n"), "healthz[]!"},
        {"1.0 keep-alive", BYTES("GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
         "healthz[]"},
        {"1.0, length", BYTES("POST /kbs/v0/auth HTTP/1.0\r\nContent-Length: 1\r\n\r\na"),
         "auth[a]!"},
        {"expect", BYTES(AUTH HOST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\na"),
         "auth[a]"},
        {"1.0 ignores expect", BYTES("GET /healthz HTTP/1.0\r\nExpect: x\r\n\r\n"), "healthz[]!"},
        {"unknown headers",
         BYTES(HEALTH HOST "X-A: 1\r\nX-A: 2\r\nContent_Length: 5\r\nX-Content-Length: 9\r\n\r\n"),
         "healthz[]"},
        {"empty host", BYTES(HEALTH "Host:\r\n\r\n"), "healthz[]"},
        {"host with port", BYTES(HEALTH "Host: [::1]:8080\r\n\r\n"), "healthz[]"},
        {"foreign cookies", BYTES(HEALTH HOST "Cookie: a=b; xkbs-session-id=1; c\r\n\r\n"),
         "healthz[]"},
        {"a session cookie", BYTES(HEALTH HOST "Cookie: a=b;kbs-session-id=" ID "; c=d\r\n\r\n"),
         "healthz[]"},
        {"incomplete head", BYTES(HEALTH HOST), "..."},
        {"incomplete body", BYTES(AUTH HOST "Content-Length: 5\r\n\r\nabc"), "..."},
        {"incomplete chunk", BYTES(AUTH HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nabc"), "..."},
        {"chunked without its end",
         BYTES(AUTH HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"), "..."},
    };

    (void)state;
    check_all(cases, sizeof(cases) / sizeof(cases[0]));
}

static void test_routing(void **state)
{
    static const struct http_case cases[] = {
        {"unknown path", BYTES("GET /nothing HTTP/1.1\r\n" HOST "\r\n"), "404"},
        {"unknown path, then a known one",
         BYTES("GET /x HTTP/1.1\r\n" HOST "\r\n" HEALTH HOST "\r\n"), "404 healthz[]"},
        {"unknown path with a body",
         BYTES("POST /nothing HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\na"), "404x"},
        {"unknown path, chunked",
         BYTES("POST /nothing HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
         "404x"},
        {"unknown path, close", BYTES("GET /nothing HTTP/1.0\r\n\r\n"), "404x"},
        {"admin path on the guest listener",
         BYTES("GET /kbs/v0/admin/keys HTTP/1.1\r\n" HOST "\r\n"), "404"},
        {"wrong method", BYTES("GET /kbs/v0/auth HTTP/1.1\r\n" HOST "\r\n"), "405"},
        {"HEAD", BYTES("HEAD /healthz HTTP/1.1\r\n" HOST "\r\n"), "405"},
        {"PUT", BYTES("PUT /healthz HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\na"), "405x"},
        {"PATCH", BYTES("PATCH /kbs/v0/auth HTTP/1.1\r\n" HOST "\r\n"), "405"},
        {"DELETE", BYTES("DELETE /kbs/v0/key/a/b/c HTTP/1.1\r\n" HOST "\r\n"), "405"},
        {"OPTIONS", BYTES("OPTIONS /healthz HTTP/1.1\r\n" HOST "\r\n"), "405"},
        {"TRACE", BYTES("TRACE /healthz HTTP/1.1\r\n" HOST "\r\n"), "405"},
        {"body on a GET", BYTES(HEALTH HOST "Content-Length: 1\r\n\r\na"), "413x"},
        {"body over the route's limit", BYTES(AUTH HOST "Content-Length: 65537\r\n\r\n"), "413x"},
        {"length over everything", BYTES(AUTH HOST "Content-Length: 18446744073709551615\r\n\r\n"),
         "413x"},
        {"chunk on a GET",
         BYTES(HEALTH HOST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"), "413x"},
        {"other expectation", BYTES(AUTH HOST "Expect: 200-ok\r\nContent-Length: 1\r\n\r\n"),
         "417x"},
    };

    (void)state;
    check_all(cases, sizeof(cases) / sizeof(cases[0]));
}

/* Message framing: two lengths, two encodings, or one that is not exactly one. */
static void test_framing_attacks(void **state)
{
    static const struct http_case cases[] = {
        {"CL.TE",
         BYTES(AUTH HOST "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
         "400x"},
        {"TE.CL",
         BYTES(AUTH HOST
               "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n1\r\nZ\r\n0\r\n\r\n"),
         "400x"},
        {"two equal lengths", BYTES(AUTH HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\na"),
         "400x"},
        {"two lengths", BYTES(AUTH HOST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
         "400x"},
        {"length list", BYTES(AUTH HOST "Content-Length: 1, 1\r\n\r\na"), "400x"},
        {"length with sign", BYTES(AUTH HOST "Content-Length: +1\r\n\r\na"), "400x"},
        {"negative length", BYTES(AUTH HOST "Content-Length: -1\r\n\r\na"), "400x"},
        {"hex length", BYTES(AUTH HOST "Content-Length: 0x1\r\n\r\na"), "400x"},
        {"length with underscore", BYTES(AUTH HOST "Content-Length: 1_0\r\n\r\na"), "400x"},
        {"length with a space inside", BYTES(AUTH HOST "Content-Length: 1 0\r\n\r\na"), "400x"},
        {"decimal length", BYTES(AUTH HOST "Content-Length: 1.0\r\n\r\na"), "400x"},
        {"empty length", BYTES(AUTH HOST "Content-Length:\r\n\r\na"), "400x"},
        {"length overflow", BYTES(AUTH HOST "Content-Length: 18446744073709551617\r\n\r\na"),
         "400x"},
        {"space before the colon", BYTES(AUTH HOST "Content-Length : 1\r\n\r\na"), "400x"},
        {"tab before the colon", BYTES(AUTH HOST "Content-Length\t: 1\r\n\r\na"), "400x"},
        {"TE identity", BYTES(AUTH HOST "Transfer-Encoding: identity\r\n\r\n"), "400x"},
        {"TE gzip, chunked", BYTES(AUTH HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
         "400x"},
        {"TE chunked, chunked",
         BYTES(AUTH HOST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), "400x"},
        {"TE chunked, identity",
         BYTES(AUTH HOST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"), "400x"},
        {"TE xchunked", BYTES(AUTH HOST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), "400x"},
        {"TE chunkedx", BYTES(AUTH HOST "Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n"), "400x"},
        {"TE quoted", BYTES(AUTH HOST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"), "400x"},
        {"TE with parameter", BYTES(AUTH HOST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
         "400x"},
        {"TE with a trailing comma",
         BYTES(AUTH HOST "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"), "400x"},
        {"TE empty", BYTES(AUTH HOST "Transfer-Encoding:\r\n\r\n0\r\n\r\n"), "400x"},
        {"TE with vertical tab",
         BYTES(AUTH HOST "Transfer-Encoding: \x0b"
                         "chunked\r\n\r\n0\r\n\r\n"),
         "400x"},
        {"TE twice",
         BYTES(AUTH HOST
               "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
         "400x"},
        {"TE twice, one hidden",
         BYTES(AUTH HOST "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
         "400x"},
        {"TE in 1.0",
         BYTES("POST /kbs/v0/auth HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
         "400x"},
        {"space before TE's colon", BYTES(AUTH HOST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
         "400x"},
        {"NUL in TE", BYTES(AUTH HOST "Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n"), "400x"},
        {"obs-fold TE", BYTES(AUTH HOST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"), "400x"},
        {"obs-fold", BYTES(AUTH HOST "X: a\r\n Content-Length: 5\r\n\r\n"), "400x"},
        {"obs-fold by tab", BYTES(AUTH HOST "X: a\r\n\tb\r\n\r\n"), "400x"},
        {"space before the first header", BYTES(AUTH " " HOST "\r\n"), "400x"},
    };

    (void)state;
    check_all(cases, sizeof(cases) / sizeof(cases[0]));
}

/* The chunked coding (RFC 9112 section 7.1). */
static void test_chunk_attacks(void **state)
{
#define CHUNKED AUTH HOST "Transfer-Encoding: chunked\r\n\r\n"
    static const struct http_case cases[] = {
        {"not hex", BYTES(CHUNKED "x\r\n"), "400x"},
        {"0x", BYTES(CHUNKED "0x1\r\na\r\n0\r\n\r\n"), "400x"},
        {"negative", BYTES(CHUNKED "-1\r\na\r\n0\r\n\r\n"), "400x"},
        {"sign", BYTES(CHUNKED "+1\r\na\r\n0\r\n\r\n"), "400x"},
        {"empty size", BYTES(CHUNKED "\r\na\r\n0\r\n\r\n"), "400x"},
        {"space before", BYTES(CHUNKED " 1\r\na\r\n0\r\n\r\n"), "400x"},
        {"space after", BYTES(CHUNKED "1 \r\na\r\n0\r\n\r\n"), "400x"},
        {"overflow", BYTES(CHUNKED "10000000000000001\r\na\r\n0\r\n\r\n"), "400x"},
        {"too large", BYTES(CHUNKED "fffffffffffffff\r\naaaa"), "..."},
        {"bare LF after size", BYTES(CHUNKED "1\na\r\n0\r\n\r\n"), "400x"},
        {"bare CR after size", BYTES(CHUNKED "1\ra\r\n0\r\n\r\n"), "400x"},
        {"bare LF after data", BYTES(CHUNKED "1\r\na\n0\r\n\r\n"), "400x"},
        {"no CRLF after data", BYTES(CHUNKED "1\r\nab\r\n0\r\n\r\n"), "400x"},
        {"two bytes instead of CRLF", BYTES(CHUNKED "1\r\naXX0\r\n\r\n"), "400x"},
        {"extension", BYTES(CHUNKED "1;a=b\r\na\r\n0\r\n\r\n"), "400x"},
        {"extension without a name", BYTES(CHUNKED "1;\r\na\r\n0\r\n\r\n"), "400x"},
        {"extension with bare LF", BYTES(CHUNKED "1;a\nb\r\na\r\n0\r\n\r\n"), "400x"},
        {"extension on the last chunk", BYTES(CHUNKED "0;a\r\n\r\n"), "400x"},
        {"trailer", BYTES(CHUNKED "0\r\nX: y\r\n\r\n"), "400x"},
        {"trailing length", BYTES(CHUNKED "0\r\nContent-Length: 5\r\n\r\nhello"), "400x"},
        {"bare LF at the end", BYTES(CHUNKED "0\r\n\n"), "400x"},
        {"bare LF after the last size", BYTES(CHUNKED "0\n\r\n"), "400x"},
    };

    (void)state;
    check_all(cases, sizeof(cases) / sizeof(cases[0]));
}

/* Lines, versions, methods, request targets. */
static void test_line_attacks(void **state)
{
    static const struct http_case cases[] = {
        {"0.9", BYTES("GET /healthz\r\n"), "..."},
        {"0.9 with headers", BYTES("GET /healthz\r\nHost: a\r\n\r\n"), "400x"},
        {"0.9 by bare LF with a body",
         BYTES("GET /healthz\nHost: a\r\nContent-Length: 5\r\n\r\nhello"), "400x"},
        {"1.2", BYTES("GET /healthz HTTP/1.2\r\n" HOST "\r\n"), "400x"},
        {"2.0", BYTES("GET /healthz HTTP/2.0\r\n" HOST "\r\n"), "400x"},
        {"1.10", BYTES("GET /healthz HTTP/1.10\r\n" HOST "\r\n"), "400x"},
        {"01.1", BYTES("GET /healthz HTTP/01.1\r\n" HOST "\r\n"), "400x"},
        {"lower case", BYTES("GET /healthz http/1.1\r\n" HOST "\r\n"), "400x"},
        {"no minor", BYTES("GET /healthz HTTP/1\r\n" HOST "\r\n"), "400x"},
        {"HTTP/2 preface", BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "400x"},
        {"ICE", BYTES("SOURCE /healthz ICE/1.0\r\n\r\n"), "400x"},
        {"RTSP", BYTES("GET /healthz RTSP/1.0\r\n\r\n"), "400x"},
        {"RTSP method", BYTES("DESCRIBE /healthz HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"lower-case method", BYTES("get /healthz HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"unknown method", BYTES("FROB /healthz HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"method with a suffix", BYTES("GETX /healthz HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"two spaces", BYTES("GET  /healthz HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"two spaces before the version", BYTES("GET /healthz  HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"tab", BYTES("GET\t/healthz HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"space after the version", BYTES("GET /healthz HTTP/1.1 \r\n" HOST "\r\n"), "400x"},
        {"space in the target", BYTES("GET /heal thz HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"leading space", BYTES(" " HEALTH HOST "\r\n"), "400x"},
        {"leading LF", BYTES("\n" HEALTH HOST "\r\n"), "400x"},
        {"leading CR", BYTES("\r" HEALTH HOST "\r\n"), "400x"},
        {"CRLF CR", BYTES("\r\n\rX" HEALTH HOST "\r\n"), "400x"},
        {"three empty lines", BYTES("\r\n\r\n\r\n" HEALTH HOST "\r\n"), "400x"},
        {"NUL first", BYTES("\0" HEALTH HOST "\r\n"), "400x"},
        {"bare LF after the request line", BYTES("GET /healthz HTTP/1.1\n" HOST "\r\n"), "400x"},
        {"bare LF after a header", BYTES(HEALTH "Host: a\n\r\n"), "400x"},
        {"bare LF for the empty line", BYTES(HEALTH HOST "\n"), "400x"},
        {"bare CR after a header", BYTES(HEALTH "Host: a\rX: b\r\n\r\n"), "400x"},
        {"CR CR LF", BYTES(HEALTH "Host: a\r\r\n\r\n"), "400x"},
        {"bare CR for the empty line", BYTES(HEALTH HOST "\rX"), "400x"},
        {"NUL in a value", BYTES(HEALTH "Host: a\0b\r\n\r\n"), "400x"},
        {"NUL in a name", BYTES(HEALTH HOST "X\0: b\r\n\r\n"), "400x"},
        {"no colon", BYTES(HEALTH HOST "X\r\n\r\n"), "400x"},
        {"empty name", BYTES(HEALTH HOST ": x\r\n\r\n"), "400x"},
        {"name with a delimiter", BYTES(HEALTH HOST "X(y): x\r\n\r\n"), "400x"},
        {"high byte in a name", BYTES(HEALTH HOST "X\xc3\xa9: x\r\n\r\n"), "400x"},
        {"data after close", BYTES(HEALTH HOST "Connection: close\r\n\r\n" HEALTH HOST "\r\n"),
         "healthz[]!"},
        {"data after close with a tab",
         BYTES(HEALTH HOST "Connection: close\t\r\n\r\n" HEALTH HOST "\r\n"), "healthz[]!"},
        {"garbage behind a request", BYTES(HEALTH HOST "\r\n\x16\x03\x01"), "healthz[] 400x"},
        {"TLS on a plain port", BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), "400x"},
        {"absolute form", BYTES("GET http://kbs/healthz HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"asterisk form", BYTES("OPTIONS * HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"CONNECT", BYTES("CONNECT kbs:443 HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"CONNECT with a path", BYTES("CONNECT /healthz HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"network-path", BYTES("GET //kbs/healthz HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"fragment", BYTES("GET /healthz#x HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"high bytes in the target", BYTES("GET /\xc3\xa9 HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"Upgrade", BYTES(HEALTH HOST "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"), "400x"},
        {"Upgrade alone", BYTES(HEALTH HOST "Upgrade: websocket\r\n\r\n"), "400x"},
    };

    (void)state;
    check_all(cases, sizeof(cases) / sizeof(cases[0]));
}

static void test_header_attacks(void **state)
{
    static const struct http_case cases[] = {
        {"no host", BYTES(HEALTH "\r\n"), "400x"},
        {"two hosts", BYTES(HEALTH HOST HOST "\r\n"), "400x"},
        {"two hosts in 1.0", BYTES("GET /healthz HTTP/1.0\r\n" HOST HOST "\r\n"), "400x"},
        {"host list", BYTES(HEALTH "Host: a, b\r\n\r\n"), "400x"},
        {"host with user", BYTES(HEALTH "Host: a@b\r\n\r\n"), "400x"},
        {"host with path", BYTES(HEALTH "Host: a/b\r\n\r\n"), "400x"},
        {"two authorizations", BYTES(HEALTH HOST "Authorization: a\r\nAuthorization: a\r\n\r\n"),
         "400x"},
        {"two content types", BYTES(HEALTH HOST "Content-Type: a/b\r\ncontent-type: a/c\r\n\r\n"),
         "400x"},
        {"two accepts", BYTES(HEALTH HOST "Accept: a/b\r\nAccept: a/c\r\n\r\n"), "400x"},
        {"two signatures", BYTES(HEALTH HOST "Kbs-Signature: a\r\nKbs-Signature: b\r\n\r\n"),
         "400x"},
        {"two cookie headers", BYTES(HEALTH HOST "Cookie: a=b\r\nCookie: c=d\r\n\r\n"), "400x"},
        {"two session cookies",
         BYTES(HEALTH HOST "Cookie: kbs-session-id=" ID "; kbs-session-id=" ID "\r\n\r\n"), "400x"},
        {"short session id", BYTES(HEALTH HOST "Cookie: kbs-session-id=0123\r\n\r\n"), "400x"},
        {"long session id", BYTES(HEALTH HOST "Cookie: kbs-session-id=" ID "0\r\n\r\n"), "400x"},
        {"empty session id", BYTES(HEALTH HOST "Cookie: kbs-session-id=\r\n\r\n"), "400x"},
        {"quoted session id", BYTES(HEALTH HOST "Cookie: kbs-session-id=\"" ID "\"\r\n\r\n"),
         "400x"},
        {"session id not hex",
         BYTES(HEALTH HOST "Cookie: kbs-session-id=0123456789abcdef0123456789abcdeg\r\n\r\n"),
         "400x"},
        {"high byte in authorization", BYTES(HEALTH HOST "Authorization: \xc3\xa9\r\n\r\n"),
         "400x"},
        {"control in authorization", BYTES(HEALTH HOST "Authorization: a\x01\r\n\r\n"), "400x"},
        {"DEL in accept", BYTES(HEALTH HOST "Accept: a\x7f\r\n\r\n"), "400x"},
    };

    (void)state;
    check_all(cases, sizeof(cases) / sizeof(cases[0]));
}

/*
 * More of the same classes, in spellings that real parsers have disagreed on. The comment says what
 * RFC 9112 or 9110 makes of it where that is not to refuse it.
 */
static void test_desync_lengths(void **state)
{
    static const struct http_case cases[] = {
        /* leading zeros are digits (9110 section 8.6) */
        {"length of many zeros", BYTES(AUTH HOST "Content-Length: 000000000000000000001\r\n\r\na"),
         "auth[a]"},
        {"length list that differs", BYTES(AUTH HOST "Content-Length: 1, 2\r\n\r\nab"), "400x"},
        {"length with a comma behind", BYTES(AUTH HOST "Content-Length: 1,\r\n\r\na"), "400x"},
        {"length with a comma before", BYTES(AUTH HOST "Content-Length: ,1\r\n\r\na"), "400x"},
        {"length, semicolon", BYTES(AUTH HOST "Content-Length: 1;\r\n\r\na"), "400x"},
        {"length, quoted", BYTES(AUTH HOST "Content-Length: \"1\"\r\n\r\na"), "400x"},
        {"length, exponent", BYTES(AUTH HOST "Content-Length: 1e1\r\n\r\naaaaaaaaaa"), "400x"},
        {"length, octal", BYTES(AUTH HOST "Content-Length: 0o1\r\n\r\na"), "400x"},
        {"length, vertical tab",
         BYTES(AUTH HOST "Content-Length: \x0b"
                         "1\r\n\r\na"),
         "400x"},
        {"length, form feed", BYTES(AUTH HOST "Content-Length: 1\x0c\r\n\r\na"), "400x"},
        {"length, NUL", BYTES(AUTH HOST "Content-Length: 1\0\r\n\r\na"), "400x"},
        {"length, no-break space",
         BYTES(AUTH HOST "Content-Length: \xa0"
                         "1\r\n\r\na"),
         "400x"},
        {"length, full-width digit", BYTES(AUTH HOST "Content-Length: \xef\xbc\x91\r\n\r\na"),
         "400x"},
        {"length, 2^32+1", BYTES(AUTH HOST "Content-Length: 4294967297\r\n\r\na"), "413x"},
        {"length, 2^63", BYTES(AUTH HOST "Content-Length: 9223372036854775808\r\n\r\na"), "413x"},
        {"length over ten, two digits more",
         BYTES(AUTH HOST "Content-Length: 184467440737095516160\r\n\r\na"), "400x"},
        {"length twice, cases differ",
         BYTES(AUTH HOST "Content-Length: 1\r\ncontent-length: 1\r\n\r\na"), "400x"},
        {"length 0, then another",
         BYTES(AUTH HOST "Content-Length: 0\r\nContent-Length: 1\r\n\r\na"), "400x"},
        {"length on a folded line", BYTES(AUTH HOST "Content-Length:\r\n 1\r\n\r\na"), "400x"},
        {"length and a fold", BYTES(AUTH HOST "Content-Length: 1\r\n 0\r\n\r\naaaaaaaaaa"), "400x"},
        {"length of a line that is indented", BYTES(AUTH HOST "\tContent-Length: 1\r\n\r\na"),
         "400x"},
        {"length behind a bare LF", BYTES(AUTH HOST "X: y\nContent-Length: 1\r\n\r\na"), "400x"},
        {"length behind a bare CR", BYTES(AUTH HOST "X: y\rContent-Length: 1\r\n\r\na"), "400x"},
        {"length behind CR CR", BYTES(AUTH HOST "X: y\r\rContent-Length: 1\r\n\r\na"), "400x"},
        {"length behind NUL", BYTES(AUTH HOST "X: y\0Content-Length: 1\r\n\r\na"), "400x"},
        {"length with a space in the name", BYTES(AUTH HOST "Content Length: 1\r\n\r\na"), "400x"},
        {"length with NUL in the name", BYTES(AUTH HOST "Content-Length\0: 1\r\n\r\na"), "400x"},
        {"length with a quoted name", BYTES(AUTH HOST "\"Content-Length\": 1\r\n\r\na"), "400x"},
        /* an underscore is another header (9110 section 5.1); the body is what the length says */
        {"length beside an underscore",
         BYTES(AUTH HOST "Content-Length: 1\r\nContent_Length: 5\r\n\r\na"), "auth[a]"},
        /* a connection option does not take framing away (9110 section 7.6.1) */
        {"length as a connection option",
         BYTES(AUTH HOST "Connection: Content-Length\r\nContent-Length: 1\r\n\r\na"), "auth[a]"},
        {"a request for a body on a GET",
         BYTES(HEALTH HOST "Content-Length: 37\r\n\r\nGET /kbs/v0/auth HTTP/1.1\r\n" HOST), "413x"},
        {"length 0 on a GET", BYTES(HEALTH HOST "Content-Length: 0\r\n\r\n"), "healthz[]"},
        {"body behind length 0 is the next request",
         BYTES(AUTH HOST "Content-Length: 0\r\n\r\n" HEALTH HOST "\r\n"), "auth[] healthz[]"},
        {"an empty line behind a body",
         BYTES(AUTH HOST "Content-Length: 1\r\n\r\na\r\n" HEALTH HOST "\r\n"), "auth[a] healthz[]"},
        {"a bare LF behind a body",
         BYTES(AUTH HOST "Content-Length: 1\r\n\r\na\n" HEALTH HOST "\r\n"), "auth[a] 400x"},
        {"no body where there is none", BYTES(AUTH HOST "\r\n{}"), "auth[] 400x"},
    };

    (void)state;
    check_all(cases, sizeof(cases) / sizeof(cases[0]));
}

static void test_desync_codings(void **state)
{
#define END "0\r\n\r\n"
#define TE(value) AUTH HOST "Transfer-Encoding:" value "\r\n\r\n" END
    static const struct http_case cases[] = {
        /* optional white space around a value is not part of it (9110 section 5.5) */
        {"TE without a space", BYTES(TE("chunked")), "auth[]"},
        {"TE with a space behind", BYTES(TE(" chunked ")), "auth[]"},
        {"TE with a tab behind", BYTES(TE(" chunked\t")), "400x"}, /* it would be; llhttp won't */
        {"TE, mixed case", BYTES(TE(" cHuNkEd")), "auth[]"},
        {"TE chunk", BYTES(TE(" chunk")), "400x"},
        {"TE with a comma before", BYTES(TE(" ,chunked")), "400x"},
        {"TE with a comma behind, space", BYTES(TE(" chunked, ")), "400x"},
        {"TE twice by a space", BYTES(TE(" chunked chunked")), "400x"},
        {"TE cow, chunked", BYTES(TE(" cow, chunked")), "400x"},
        {"TE identity, chunked", BYTES(TE(" identity, chunked")), "400x"},
        {"TE deflate", BYTES(TE(" deflate")), "400x"},
        {"TE single quotes", BYTES(TE(" 'chunked'")), "400x"},
        {"TE brackets", BYTES(TE(" [chunked]")), "400x"},
        {"TE high byte",
         BYTES(TE(" \xff"
                  "chunked")),
         "400x"},
        {"TE no-break space",
         BYTES(TE("\xa0"
                  "chunked")),
         "400x"},
        {"TE form feed", BYTES(TE(" chunked\x0c")), "400x"},
        {"TE newline", BYTES(TE("\n chunked")), "400x"},
        {"TE NUL before", BYTES(TE(" \0chunked")), "400x"},
        {"TE backspace", BYTES(TE(" chunkedx\x08")), "400x"},
        {"TE with a vertical tab in the name",
         BYTES(AUTH HOST "Transfer-Encoding\x0b: chunked\r\n\r\n" END), "400x"},
        {"TE with CR in the name", BYTES(AUTH HOST "Transfer-Encoding\r: chunked\r\n\r\n" END),
         "400x"},
        {"TE with a space in the name", BYTES(AUTH HOST "Transfer Encoding: chunked\r\n\r\n" END),
         "400x"},
        {"TE indented", BYTES(AUTH HOST " Transfer-Encoding: chunked\r\n\r\n" END), "400x"},
        {"TE first and indented", BYTES(AUTH "\tTransfer-Encoding: chunked\r\n" HOST "\r\n" END),
         "400x"},
        {"TE behind a bare LF", BYTES(AUTH HOST "X: y\nTransfer-Encoding: chunked\r\n\r\n" END),
         "400x"},
        {"TE behind a bare CR", BYTES(AUTH HOST "X: y\rTransfer-Encoding: chunked\r\n\r\n" END),
         "400x"},
        {"TE behind LF CR", BYTES(AUTH HOST "X: y\n\rTransfer-Encoding: chunked\r\n\r\n" END),
         "400x"},
        {"TE behind CRLF CR", BYTES(AUTH HOST "X: y\r\n\rTransfer-Encoding: chunked\r\n\r\n" END),
         "400x"},
        {"TE behind an empty name", BYTES(AUTH HOST ": Transfer-Encoding: chunked\r\n\r\n" END),
         "400x"},
        {"TE twice, cases differ",
         BYTES(AUTH HOST "Transfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n" END),
         "400x"},
        {"TE and length 0",
         BYTES(AUTH HOST "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n" END),
         "400x"},
        {"TE identity and a length",
         BYTES(AUTH HOST "Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\na"), "400x"},
        {"TE spelt wrong and a length",
         BYTES(AUTH HOST "Content-Length: 5\r\nTransfer-Encoding: chunkeD;\r\n\r\n" END), "400x"},
        {"TE and a length in 1.0",
         BYTES("POST /kbs/v0/auth HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
               "\r\n" END),
         "400x"},
        {"TE in 1.0 with keep-alive",
         BYTES("POST /kbs/v0/auth HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked"
               "\r\n\r\n" END),
         "400x"},
        /* other headers: the length counts */
        {"TE with an underscore",
         BYTES(AUTH HOST "Content-Length: 1\r\nTransfer_Encoding: chunked\r\n\r\na"), "auth[a]"},
        {"TE with a prefix",
         BYTES(AUTH HOST "Content-Length: 1\r\nX-Transfer-Encoding: chunked\r\n\r\na"), "auth[a]"},
        {"the header TE", BYTES(AUTH HOST "TE: trailers, chunked\r\nContent-Length: 1\r\n\r\na"),
         "auth[a]"},
        {"TE as a connection option",
         BYTES(AUTH HOST "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n"
                         "1\r\na\r\n" END),
         "auth[a]"},
        {"an empty chunked body on a GET",
         BYTES(HEALTH HOST "Transfer-Encoding: chunked\r\n\r\n" END HEALTH HOST "\r\n"),
         "healthz[] healthz[]"},
    };

    (void)state;
    check_all(cases, sizeof(cases) / sizeof(cases[0]));
}

static void test_desync_chunks(void **state)
{
    static const struct http_case cases[] = {
        {"size in capitals", BYTES(CHUNKED "A\r\naaaaaaaaaa\r\n" END), "auth[aaaaaaaaaa]"},
        {"a request in a chunk", BYTES(CHUNKED "19\r\nGET /healthz HTTP/1.1\r\n\r\n\r\n" END),
         "auth[GET /healthz HTTP/1.1\r\n\r\n]"},
        {"the last chunk in a chunk", BYTES(CHUNKED "5\r\n0\r\n\r\n\r\n" END), "auth[0\r\n\r\n]"},
        {"size with an underscore", BYTES(CHUNKED "1_0\r\na\r\n" END), "400x"},
        {"size, 0X", BYTES(CHUNKED "0X1\r\na\r\n" END), "400x"},
        {"size, decimal point", BYTES(CHUNKED "1.0\r\na\r\n" END), "400x"},
        {"size, suffix", BYTES(CHUNKED "1h\r\na\r\n" END), "400x"},
        {"size, tab before", BYTES(CHUNKED "\t1\r\na\r\n" END), "400x"},
        {"size, tab behind", BYTES(CHUNKED "1\t\r\na\r\n" END), "400x"},
        {"size, vertical tab", BYTES(CHUNKED "1\x0b\r\na\r\n" END), "400x"},
        {"size, NUL", BYTES(CHUNKED "1\0\r\na\r\n" END), "400x"},
        {"size, CR CR LF", BYTES(CHUNKED "1\r\r\na\r\n" END), "400x"},
        {"size, LF LF", BYTES(CHUNKED "1\n\na\r\n" END), "400x"},
        {"size, comma", BYTES(CHUNKED "1,1\r\na\r\n" END), "400x"},
        {"size, 2^64", BYTES(CHUNKED "10000000000000000\r\n" END), "400x"},
        {"size, 2^64 + 1", BYTES(CHUNKED "10000000000000001\r\na\r\n" END), "400x"},
        {"size, 2^72", BYTES(CHUNKED "1000000000000000000\r\n" END), "400x"},
        /* more than will be taken: refused once that much has come, and nothing is behind it */
        {"size, 2^32", BYTES(CHUNKED "100000000\r\n" END), "..."},
        {"minus zero", BYTES(CHUNKED "-0\r\n\r\n"), "400x"},
        {"0x0", BYTES(CHUNKED "0x0\r\n\r\n"), "400x"},
        {"many zeros", BYTES(CHUNKED "00000000000000000000000000000000000\r\n\r\n"), "auth[]"},
        {"extension, space before", BYTES(CHUNKED "1 ;a=b\r\na\r\n" END), "400x"},
        {"extension, tab before", BYTES(CHUNKED "1\t;a=b\r\na\r\n" END), "400x"},
        {"extension, quoted CRLF", BYTES(CHUNKED "1;a=\"\r\n\"\r\na\r\n" END), "400x"},
        {"extension, quoted LF", BYTES(CHUNKED "1;a=\"\n\"\r\na\r\n" END), "400x"},
        {"extension, quoted", BYTES(CHUNKED "1;a=\"b\"\r\na\r\n" END), "400x"},
        {"extension, NUL", BYTES(CHUNKED "1;\0\r\na\r\n" END), "400x"},
        {"extension, bare CR", BYTES(CHUNKED "1;a\rb\r\na\r\n" END), "400x"},
        {"extension, bare LF at once", BYTES(CHUNKED "1;\na\r\n" END), "400x"},
        {"extension on the last chunk, bare LF", BYTES(CHUNKED "0;\n\r\n"), "400x"},
        {"data shorter than its size", BYTES(CHUNKED "3\r\na\r\n" END), "400x"},
        {"data behind its CR", BYTES(CHUNKED "1\r\na\rX" END), "400x"},
        {"LF CR behind data", BYTES(CHUNKED "1\r\na\n\r" END), "400x"},
        {"empty line behind data", BYTES(CHUNKED "1\r\na\r\n\r\n" END), "400x"},
        {"end without its CRLF, then a request", BYTES(CHUNKED "0\r\n" HEALTH HOST "\r\n"), "400x"},
        {"end by CR X", BYTES(CHUNKED "0\r\n\rX"), "400x"},
        {"end by LF", BYTES(CHUNKED "0\n\n"), "400x"},
        {"trailing coding", BYTES(CHUNKED "0\r\nTransfer-Encoding: chunked\r\n\r\n" END), "400x"},
        {"trailing host", BYTES(CHUNKED "0\r\nHost: other\r\n\r\n"), "400x"},
        {"trailer that is folded", BYTES(CHUNKED "0\r\n X: y\r\n\r\n"), "400x"},
        {"trailer without a name", BYTES(CHUNKED "0\r\n: y\r\n\r\n"), "400x"},
        {"garbage behind the end", BYTES(CHUNKED END "x"), "auth[] 400x"},
    };

    (void)state;
    check_all(cases, sizeof(cases) / sizeof(cases[0]));
}

static void test_desync_lines(void **state)
{
#define LINE(line) line "\r\n" HOST "\r\n"
    static const struct http_case cases[] = {
        {"version, three numbers", BYTES(LINE("GET /healthz HTTP/1.1.1")), "400x"},
        {"version, comma", BYTES(LINE("GET /healthz HTTP/1,1")), "400x"},
        {"version, sign", BYTES(LINE("GET /healthz HTTP/+1.1")), "400x"},
        {"version, space", BYTES(LINE("GET /healthz HTTP/ 1.1")), "400x"},
        {"version, space before the slash", BYTES(LINE("GET /healthz HTTP /1.1")), "400x"},
        {"version, backslash", BYTES(LINE("GET /healthz HTTP\\1.1")), "400x"},
        {"version, no dot", BYTES(LINE("GET /healthz HTTP/11")), "400x"},
        {"version, leading zero", BYTES(LINE("GET /healthz HTTP/1.01")), "400x"},
        {"version, HTTPS", BYTES(LINE("GET /healthz HTTPS/1.1")), "400x"},
        {"version 3.0", BYTES(LINE("GET /healthz HTTP/3.0")), "400x"},
        {"version, NUL", BYTES(LINE("GET /healthz HTTP/1.1\0")), "400x"},
        {"version, CR CR LF", BYTES("GET /healthz HTTP/1.1\r\r\n" HOST "\r\n"), "400x"},
        {"version, bare CR", BYTES("GET /healthz HTTP/1.1\r" HOST "\r\n"), "400x"},
        {"version twice", BYTES(LINE("GET /healthz HTTP/1.1 HTTP/1.1")), "400x"},
        {"no target", BYTES(LINE("GET HTTP/1.1")), "400x"},
        {"empty target", BYTES(LINE("GET  HTTP/1.1")), "400x"},
        {"target without a slash", BYTES(LINE("GET healthz HTTP/1.1")), "400x"},
        {"target, query only", BYTES(LINE("GET ?x=y HTTP/1.1")), "400x"},
        {"target, asterisk on GET", BYTES(LINE("GET * HTTP/1.1")), "400x"},
        {"target, authority", BYTES(LINE("GET kbs:80 HTTP/1.1")), "400x"},
        {"target, absolute, another host", BYTES(LINE("GET http://other/healthz HTTP/1.1")),
         "400x"},
        {"target, absolute, https", BYTES(LINE("GET https://kbs/healthz HTTP/1.1")), "400x"},
        {"target, absolute, user", BYTES(LINE("GET http://kbs@other/healthz HTTP/1.1")), "400x"},
        {"target, absolute on POST",
         BYTES("POST http://kbs/kbs/v0/auth HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\na"),
         "400x"},
        {"target, backslash", BYTES(LINE("GET \\healthz HTTP/1.1")), "400x"},
        {"target, backslash inside", BYTES(LINE("GET /x\\..\\healthz HTTP/1.1")), "400x"},
        {"target, dot segment", BYTES(LINE("GET /x/../healthz HTTP/1.1")), "400x"},
        {"target, encoded dot segment", BYTES(LINE("GET /x/%2e%2E/healthz HTTP/1.1")), "400x"},
        {"target, encoded slash", BYTES(LINE("GET /%2fhealthz HTTP/1.1")), "400x"},
        {"target, encoded NUL", BYTES(LINE("GET /healthz%00 HTTP/1.1")), "400x"},
        {"target, encoded request line",
         BYTES(LINE("GET /healthz%20HTTP/1.1%0d%0aX:%20y HTTP/1.1")), "400x"},
        {"target, tab", BYTES(LINE("GET /heal\tthz HTTP/1.1")), "400x"},
        {"target, NUL", BYTES(LINE("GET /healthz\0 HTTP/1.1")), "400x"},
        {"target, DEL", BYTES(LINE("GET /healthz\x7f HTTP/1.1")), "400x"},
        {"target, bare CR", BYTES(LINE("GET /heal\rthz HTTP/1.1")), "400x"},
        {"target, next line (C1)", BYTES(LINE("GET /healthz\xc2\x85 HTTP/1.1")), "400x"},
        {"method, vertical tab behind", BYTES(LINE("GET\x0b/healthz HTTP/1.1")), "400x"},
        {"method, no-break space behind", BYTES(LINE("GET\xa0/healthz HTTP/1.1")), "400x"},
        {"method, NUL", BYTES(LINE("GET\0 /healthz HTTP/1.1")), "400x"},
        {"method, space inside", BYTES(LINE("G ET /healthz HTTP/1.1")), "400x"},
        {"method, CR inside", BYTES(LINE("G\rET /healthz HTTP/1.1")), "400x"},
        {"method, CRLF behind", BYTES("GET\r\n/healthz HTTP/1.1\r\n" HOST "\r\n"), "400x"},
        {"method, quoted", BYTES(LINE("\"GET\" /healthz HTTP/1.1")), "400x"},
        {"method, none", BYTES(LINE("/healthz HTTP/1.1")), "400x"},
        {"method, byte order mark", BYTES(LINE("\xef\xbb\xbfGET /healthz HTTP/1.1")), "400x"},
        {"method, PROPFIND", BYTES(LINE("PROPFIND /healthz HTTP/1.1")), "405"},
        {"method, M-SEARCH", BYTES(LINE("M-SEARCH /healthz HTTP/1.1")), "405"},
        {"method, TRACK", BYTES(LINE("TRACK /healthz HTTP/1.1")), "400x"},
        {"method overridden", BYTES(HEALTH HOST "X-HTTP-Method-Override: DELETE\r\n\r\n"),
         "healthz[]"},
        {"CONNECT with a body",
         BYTES("CONNECT kbs:443 HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\na"), "400x"},
        {"0.9 POST", BYTES("POST /kbs/v0/auth\r\n\r\n{}"), "400x"},
        {"HTTP/2 preface and SETTINGS", BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"),
         "400x"},
        {"PROXY protocol 1", BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" HEALTH HOST "\r\n"),
         "400x"},
        {"PROXY protocol 2",
         BYTES("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\0\1\0\2" HEALTH HOST "\r\n"),
         "400x"},
        {"SSH", BYTES("SSH-2.0-x\r\n"), "400x"},
        {"SMTP", BYTES("EHLO kbs\r\n"), "400x"},
        {"an answer", BYTES("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "400x"},
    };

    (void)state;
    check_all(cases, sizeof(cases) / sizeof(cases[0]));
}

static void test_desync_headers(void **state)
{
    static const struct http_case cases[] = {
        {"host twice, cases differ", BYTES(HEALTH HOST "hOST: kbs\r\n\r\n"), "400x"},
        {"host, another", BYTES(HEALTH HOST "Host: other\r\n\r\n"), "400x"},
        {"host with a space inside", BYTES(HEALTH "Host: a b\r\n\r\n"), "400x"},
        {"host with a fragment", BYTES(HEALTH "Host: kbs#x\r\n\r\n"), "400x"},
        {"host with a query", BYTES(HEALTH "Host: kbs?x\r\n\r\n"), "400x"},
        {"host with a scheme", BYTES(HEALTH "Host: http://kbs\r\n\r\n"), "400x"},
        {"host with a high byte", BYTES(HEALTH "Host: kb\xc3\xa9\r\n\r\n"), "400x"},
        {"host, space before the colon", BYTES(HEALTH "Host : kbs\r\n\r\n"), "400x"},
        {"host, indented", BYTES(HEALTH " Host: kbs\r\n\r\n"), "400x"},
        {"host on a folded line", BYTES(HEALTH "Host:\r\n kbs\r\n\r\n"), "400x"},
        /* X-Forwarded-Host and the like are nobody's to read here */
        {"host, forwarded",
         BYTES(HEALTH HOST "X-Forwarded-Host: other\r\nX-Original-URL: /x\r\n\r\n"), "healthz[]"},
        {"a line of spaces", BYTES(HEALTH HOST "  \r\n\r\n"), "400x"},
        {"a name of spaces", BYTES(HEALTH HOST " : x\r\n\r\n"), "400x"},
        {"a name with a slash", BYTES(HEALTH HOST "X/Y: x\r\n\r\n"), "400x"},
        {"a name with DEL", BYTES(HEALTH HOST "X\x7f: x\r\n\r\n"), "400x"},
        {"a value with a control",
         BYTES(HEALTH HOST "X: a\x01"
                           "b\r\n\r\n"),
         "400x"},
        {"a value with DEL",
         BYTES(HEALTH HOST "X: a\x7f"
                           "b\r\n\r\n"),
         "400x"},
        /* obs-text is a field's right (9110 section 5.5), in a header that nobody reads */
        {"a value with a high byte", BYTES(HEALTH HOST "X: \xff\r\n\r\n"), "healthz[]"},
        {"a value that is empty", BYTES(HEALTH HOST "X:\r\n\r\n"), "healthz[]"},
        {"a value with a colon", BYTES(HEALTH HOST "X: Content-Length: 5\r\n\r\n"), "healthz[]"},
        /* close wins over keep-alive (9112 section 9.3) */
        {"close and keep-alive", BYTES(HEALTH HOST "Connection: close, keep-alive\r\n\r\n"),
         "healthz[]!"},
        {"close on a second line",
         BYTES(HEALTH HOST "Connection: keep-alive\r\nConnection: close\r\n\r\n"), "healthz[]!"},
        /* no header of any RFC; llhttp obeys it, which only ends the connection */
        {"Proxy-Connection", BYTES(HEALTH HOST "Proxy-Connection: close\r\n\r\n"), "healthz[]!"},
        {"Connection: Upgrade alone", BYTES(HEALTH HOST "Connection: Upgrade\r\n\r\n"),
         "healthz[]"},
        {"Upgrade to h2c with settings",
         BYTES(HEALTH HOST "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                           "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"),
         "400x"},
        {"Upgrade on a POST", BYTES(AUTH HOST "Upgrade: x\r\nContent-Length: 1\r\n\r\na"), "400x"},
        {"Expect twice",
         BYTES(AUTH HOST
               "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na"),
         "400x"},
        {"Expect, list", BYTES(AUTH HOST "Expect: 100-continue, x\r\nContent-Length: 1\r\n\r\na"),
         "417x"},
        {"Expect, empty", BYTES(AUTH HOST "Expect:\r\nContent-Length: 1\r\n\r\na"), "417x"},
        {"Expect without a body", BYTES(HEALTH HOST "Expect: 100-continue\r\n\r\n"), "healthz[]"},
        {"Expect and chunked",
         BYTES(AUTH HOST
               "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n" END),
         "auth[a]"},
        {"Authorization on a folded line",
         BYTES(HEALTH HOST "Authorization: Bearer\r\n abc\r\n\r\n"), "400x"},
        {"Cookie on a folded line",
         BYTES(HEALTH HOST "Cookie: a=b;\r\n kbs-session-id=" ID "\r\n\r\n"), "400x"},
        {"three in a row",
         BYTES(HEALTH HOST "\r\n" AUTH HOST "Content-Length: 1\r\n\r\na" HEALTH HOST "\r\n"),
         "healthz[] auth[a] healthz[]"},
        {"a refusal that is kept, then another",
         BYTES("GET /x HTTP/1.1\r\n" HOST "\r\n" AUTH HOST "Content-Length: 1\r\n\r\na"),
         "404 auth[a]"},
        {"nothing is read behind a refusal that closes",
         BYTES("GET /x HTTP/1.1\r\n\r\n" HEALTH HOST "\r\n"), "400x"},
    };

    (void)state;
    check_all(cases, sizeof(cases) / sizeof(cases[0]));
}

/*
 * Builds a request of `n` repetitions between a beginning and an end, and expects one refusal or
 * request.
 */
static void check_repeated(const char *begin, const char *middle, size_t n, const char *end,
                           const char *want)
{
    struct kbs_buf b = KBS_BUF(8u << 20);
    char got[1024];

    kbs_buf_put_str(&b, begin);
    for (size_t i = 0; i < n; i++) {
        kbs_buf_put_str(&b, middle);
    }
    kbs_buf_put_str(&b, end);
    assert_false(b.failed);
    for (size_t step = 0; step < 4000; step = step * 3 + 1) {
        transcript(kbs_buf_span(&b), b.len, step, got, sizeof(got));
        if (strcmp(got, want) != 0) {
            fail_msg("%.40s, %zu times, step %zu: got \"%s\", want \"%s\"", begin, n, step, got,
                     want);
        }
    }
    kbs_buf_deinit(&b);
}

static void test_limits(void **state)
{
    (void)state;
    check_repeated(HEALTH HOST, "X: y\r\n", KBS_LIMIT_HTTP_HEADERS - 1, "\r\n", "healthz[]");
    check_repeated(HEALTH HOST, "X: y\r\n", KBS_LIMIT_HTTP_HEADERS, "\r\n", "431x");
    /* the head around it has 41 bytes */
    check_repeated(HEALTH HOST "X: ", "y", KBS_LIMIT_HTTP_HEAD_BYTES - 41, "\r\n\r\n", "healthz[]");
    check_repeated(HEALTH HOST "X: ", "y", KBS_LIMIT_HTTP_HEAD_BYTES - 40, "\r\n\r\n", "431x");
    check_repeated(HEALTH HOST "X: ", "y", KBS_LIMIT_HTTP_HEAD_BYTES - 37, "", "...");
    check_repeated(HEALTH HOST "X: ", "y", KBS_LIMIT_HTTP_HEAD_BYTES - 36, "", "431x");
    check_repeated(HEALTH HOST "", "X", KBS_LIMIT_HTTP_HEAD_BYTES, "", "431x");
    check_repeated("GET /", "a", KBS_LIMIT_HTTP_TARGET_BYTES, " HTTP/1.1\r\n" HOST "\r\n", "414x");
    check_repeated("GET /", "a", 255, " HTTP/1.1\r\n" HOST "\r\n", "404");
    check_repeated("GET /", "a", 256, " HTTP/1.1\r\n" HOST "\r\n", "400x");
    check_repeated("GET ", "/a", KBS_LIMIT_HTTP_SEGMENTS, " HTTP/1.1\r\n" HOST "\r\n", "404");
    check_repeated("GET ", "/a", KBS_LIMIT_HTTP_SEGMENTS + 1, " HTTP/1.1\r\n" HOST "\r\n", "400x");
    /* chunked: one byte too many, and framing without end */
    check_repeated("POST /kbs/v0/key/a/b/c HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
                   "40\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n",
                   128, "0\r\n\r\n", "key-release[0123456789abcdef0123456789abcdef]");
    check_repeated("POST /kbs/v0/key/a/b/c HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
                   "40\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n",
                   128, "1\r\na\r\n0\r\n\r\n", "413x");
    check_repeated("POST /kbs/v0/key/a/b/c HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
                   "0", 1u << 20, "1\r\na\r\n0\r\n\r\n", "413x");
}

static void test_fields(void **state)
{
    static const char text[] =
        "POST /kbs/v0/key/r/t/a%20b?version=3&context=none HTTP/1.1\r\n"
        "Host: kbs\r\nCookie: x=y; kbs-session-id=" ID "\r\n"
        "AUTHORIZATION: Bearer abc\r\nAccept:application/cose \t\r\n"
        "Content-Type: application/json\r\nKbs-Signature: sig\r\nKbs-Proof: p.q.r\r\n"
        "Content-Length: 2\r\n\r\n{}";
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_http_parser *p = NULL;
    const struct kbs_http_request *r;
    size_t used = 0;

    (void)state;
    assert_int_equal(kbs_http_parser_new(KBS_LISTENER_GUEST, &p, &err), 0);
    assert_int_equal(kbs_http_parser_feed(p, KBS_SPAN_LIT(text), &used), KBS_HTTP_REQUEST);
    assert_int_equal(used, sizeof(text) - 1);
    r = kbs_http_parser_request(p);
    assert_int_equal(r->match.route, KBS_ROUTE_KEY_RELEASE);
    assert_string_equal(r->match.method, "POST");
    assert_int_equal(r->match.param_count, 3);
    assert_true(kbs_span_equal_str(r->match.params[2], "a b"));
    assert_int_equal(r->path.query_count, 4);
    assert_true(kbs_span_equal_str(r->path.query[0], "version"));
    assert_true(kbs_span_equal_str(r->path.query[3], "none"));
    assert_true(kbs_span_equal_str(r->target, "/kbs/v0/key/r/t/a%20b?version=3&context=none"));
    assert_true(kbs_span_equal_str(r->cookie, ID));
    assert_true(kbs_span_equal_str(r->authorization, "Bearer abc"));
    assert_true(kbs_span_equal_str(r->accept, "application/cose"));
    assert_true(kbs_span_equal_str(r->content_type, "application/json"));
    assert_true(kbs_span_equal_str(r->signature, "sig"));
    assert_true(kbs_span_equal_str(r->body, "{}"));
    assert_true(r->keep_alive);
    kbs_http_parser_free(p);
}

static void test_continue(void **state)
{
    static const char head[] = AUTH HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_http_parser *p = NULL;
    size_t used = 0;

    (void)state;
    assert_int_equal(kbs_http_parser_new(KBS_LISTENER_GUEST, &p, &err), 0);
    assert_int_equal(kbs_http_parser_feed(p, KBS_SPAN_LIT(head), &used), KBS_HTTP_MORE);
    assert_true(kbs_http_parser_take_continue(p));
    assert_false(kbs_http_parser_take_continue(p));
    assert_int_equal(kbs_http_parser_feed(p, KBS_SPAN_LIT("{}"), &used), KBS_HTTP_REQUEST);
    /* a client that does not wait gets none */
    kbs_http_parser_next(p);
    assert_int_equal(
        kbs_http_parser_feed(
            p, KBS_SPAN_LIT(AUTH HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{"), &used),
        KBS_HTTP_MORE);
    assert_false(kbs_http_parser_take_continue(p));
    kbs_http_parser_free(p);
}

/* The operator's bound and the route's: the lower one counts, for the next request, too. */
static void test_body_bound(void **state)
{
    static const char fits[] = AUTH HOST "Content-Length: 3\r\n\r\nabc";
    static const char over[] = AUTH HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n";
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_http_parser *p = NULL;
    size_t used = 0;

    (void)state;
    assert_int_equal(kbs_http_parser_new(KBS_LISTENER_GUEST, &p, &err), 0);
    kbs_http_parser_bound_body(p, 3);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kbs_http_parser_feed(p, KBS_SPAN_LIT(fits), &used), KBS_HTTP_REQUEST);
        kbs_http_parser_next(p);
    }
    assert_int_equal(kbs_http_parser_feed(p, KBS_SPAN_LIT(over), &used), KBS_HTTP_REFUSED);
    assert_int_equal(kbs_http_parser_refusal(p)->status, 413);
    kbs_http_parser_free(p);
    assert_int_equal(kbs_http_parser_new(KBS_LISTENER_GUEST, &p, &err), 0);
    kbs_http_parser_bound_body(p, SIZE_MAX);
    assert_int_equal(
        kbs_http_parser_feed(p, KBS_SPAN_LIT(AUTH HOST "Content-Length: 65537\r\n\r\n"), &used),
        KBS_HTTP_REFUSED);
    kbs_http_parser_free(p);
}

static void check_response(const struct kbs_http_response *r,
                           const struct kbs_http_response_mode *mode, const char *want)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf out = KBS_BUF(65536);

    if (want == NULL) {
        assert_int_equal(kbs_http_response_write(&out, r, mode, &err), -1);
        assert_int_equal(err.category, KBS_INTERNAL);
        assert_int_equal(out.len, 0);
    } else {
        assert_int_equal(kbs_http_response_write(&out, r, mode, &err), 0);
        assert_string_equal(kbs_buf_cstr(&out), want);
    }
    kbs_buf_deinit(&out);
}

static void test_response(void **state)
{
    const struct kbs_http_response_mode mode = {.keep_alive = true, .now_s = 784111777};
    const struct kbs_http_response_mode head = {.head_only = true, .now_s = 0};
    char receipt[KBS_LIMIT_RECEIPT_BYTES + 1];
    struct kbs_http_response r = {.status = 200,
                                  .content_type =
                                      KBS_SPAN_LIT("application/cose; cose-type=\"cose-encrypt\""),
                                  .cookie = KBS_SPAN_LIT(ID),
                                  .cookie_expires_s = 951782399,
                                  .body = KBS_SPAN_LIT("hello")};

    (void)state;
    check_response(
        &r, &mode,
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nCache-Control: no-store\r\n"
        "Content-Type: application/cose; cose-type=\"cose-encrypt\"\r\nContent-Length: 5\r\n"
        "Set-Cookie: kbs-session-id=" ID
        "; Path=/; HttpOnly; Expires=Mon, 28 Feb 2000 23:59:59 GMT\r\n"
        "Connection: keep-alive\r\n\r\nhello");
    check_response(
        &(struct kbs_http_response){.status = 503,
                                    .retry_after_s = 7,
                                    .allow = "GET",
                                    .content_type = KBS_SPAN_LIT("a/b"),
                                    .receipt = KBS_SPAN_LIT("aZ09-_.b"),
                                    .body = KBS_SPAN_LIT("x")},
        &head,
        "HTTP/1.1 503 Service Unavailable\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        "Cache-Control: no-store\r\nContent-Type: a/b\r\nContent-Length: 1\r\nKbs-Receipt: "
        "aZ09-_.b\r\nAllow: GET\r\nRetry-After: 7\r\nConnection: close\r\n\r\n");
    r.content_type = KBS_SPAN_LIT("a/b\r\nX: y");
    check_response(&r, &mode, NULL);
    r.content_type = KBS_SPAN_LIT("");
    check_response(&r, &mode, NULL);
    r.content_type = KBS_SPAN_LIT("a/b");
    r.cookie = KBS_SPAN_LIT("0123456789abcdef0123456789abcde\r");
    check_response(&r, &mode, NULL);
    r.cookie = KBS_SPAN_LIT("0123456789ABCDEF0123456789abcdef");
    check_response(&r, &mode, NULL);
    r.cookie = KBS_SPAN_EMPTY;
    r.cookie_expires_s = UINT64_MAX;
    check_response(&r, &mode, NULL);
    r.cookie_expires_s = 0;
    for (const char *c = " =+/,\r\n\x7f\xff"; *c != '\0'; c++) {
        r.receipt = kbs_span(c, 1);
        check_response(&r, &mode, NULL);
    }
    memset(receipt, 'a', sizeof(receipt));
    r.receipt = kbs_span(receipt, sizeof(receipt));
    check_response(&r, &mode, NULL);
    r.receipt = KBS_SPAN_EMPTY;
    r.status = 100;
    check_response(&r, &mode, NULL);
    r.status = 600;
    check_response(&r, &mode, NULL);
    r.status = 204;
    check_response(&r, &mode, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted),        cmocka_unit_test(test_routing),
        cmocka_unit_test(test_framing_attacks), cmocka_unit_test(test_chunk_attacks),
        cmocka_unit_test(test_line_attacks),    cmocka_unit_test(test_header_attacks),
        cmocka_unit_test(test_desync_lengths),  cmocka_unit_test(test_desync_codings),
        cmocka_unit_test(test_desync_chunks),   cmocka_unit_test(test_desync_lines),
        cmocka_unit_test(test_desync_headers),  cmocka_unit_test(test_limits),
        cmocka_unit_test(test_fields),          cmocka_unit_test(test_continue),
        cmocka_unit_test(test_body_bound),      cmocka_unit_test(test_response),
    };

    if (argc == 2 && strcmp(argv[1], "--table") == 0) {
        printing = true;
        for (size_t i = 0; i < TABLES; i++) { /* they come first */
            tests[i].test_func(NULL);
        }
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
