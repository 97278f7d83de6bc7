/* Targets and routes: the URI attack table, and properties of the route table itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/encoding.h"
#include "front/metrics.h"
#include "http/route.h"

/*
 * The decoded segments joined by '|', then '?' and the query's names and values joined by '|';
 * NULL: refused.
 */
struct target_case {
    const char *raw;
    const char *want;
};

static void render(const struct kbs_http_target *t, char *out, size_t size)
{
    size_t n = 0;

    out[0] = '\0';
    for (size_t i = 0; i < t->segment_count; i++) {
        n += (size_t)snprintf(out + n, size - n, "|%.*s", (int)t->segments[i].len,
                              (const char *)t->segments[i].p);
    }
    for (size_t i = 0; i < t->query_count; i++) {
        n += (size_t)snprintf(out + n, size - n, "%s%.*s", i == 0 ? "?" : "|", (int)t->query[i].len,
                              (const char *)t->query[i].p);
    }
}

static void check_targets(const struct target_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct kbs_arena arena = KBS_ARENA(KBS_HTTP_TARGET_ARENA_BYTES);
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_http_target t;
        char got[8192] = "";
        int r = kbs_http_target_parse(kbs_span_str(cases[i].raw), &arena, &t, &err);

        if (r == 0) {
            render(&t, got, sizeof(got));
        }
        if ((r == 0) != (cases[i].want != NULL) || (r == 0 && strcmp(got, cases[i].want) != 0)) {
            fail_msg("%s: got %d \"%s\" (%s)", cases[i].raw, r, got, err.detail);
        }
        assert_true(r == 0 || err.category == KBS_INPUT);
        kbs_arena_deinit(&arena);
    }
}

static void test_targets_accepted(void **state)
{
    static const struct target_case cases[] = {
        {"/", ""},
        {"/a", "|a"},
        {"/a/b/c", "|a|b|c"},
        {"/a?", "|a"},
        {"/a?b=c", "|a?b|c"},
        {"/a?b=", "|a?b|"},
        {"/a?b=c=d", "|a?b|c=d"},
        {"/a?b=c&d=e", "|a?b|c|d|e"},
        {"/a?b=/%2f?", "|a?b|//?"},
        {"/%61", "|a"},
        {"/a%20b", "|a b"},
        {"/%25", "|%"},
        {"/%252f", "|%2f"},         /* decoded once */
        {"/%252e%252e", "|%2e%2e"}, /* decoded once */
        {"/a.", "|a."},             /* the judge's rule decides */
        {"/...", "|..."},
        {"/.a", "|.a"},
        {"/a:b@c!d$e&f'g(h)i*j+k,l=m~n_o-p", "|a:b@c!d$e&f'g(h)i*j+k,l=m~n_o-p"},
        {"/%c3%a9", "|\xc3\xa9"},
        {"/%F0%9F%98%80", "|\xf0\x9f\x98\x80"},
    };

    (void)state;
    check_targets(cases, sizeof(cases) / sizeof(cases[0]));
}

static const struct target_case refused_targets[] = {
    {"", NULL},
    {"*", NULL},
    {"a", NULL},
    {"http://h/a", NULL},
    {"h:443", NULL},
    {"?a=b", NULL},
    /* empty segments */
    {"//", NULL},
    {"//a", NULL},
    {"/a//b", NULL},
    {"/a/", NULL},
    {"/a/b/", NULL},
    {"/a/?b=c", NULL},
    /* dot segments, also encoded */
    {"/.", NULL},
    {"/..", NULL},
    {"/a/..", NULL},
    {"/../a", NULL},
    {"/a/./b", NULL},
    {"/%2e", NULL},
    {"/%2E%2e", NULL},
    {"/.%2e", NULL},
    {"/a/%2e%2e/b", NULL},
    /* delimiters in a segment */
    {"/a%2fb", NULL},
    {"/a%2Fb", NULL},
    {"/a%5cb", NULL},
    {"/a\\b", NULL},
    {"/..\\a", NULL},
    {"/a;b", NULL},
    {"/a;b=c", NULL},
    {"/;", NULL},
    {"/a%3bb", NULL},
    /* controls, raw and encoded */
    {"/%00", NULL},
    {"/a%00", NULL},
    {"/a%0d%0a", NULL},
    {"/a%1f", NULL},
    {"/a%7f", NULL},
    {"/a\x01", NULL},
    {"/a\tb", NULL},
    {"/a b", NULL},
    {"/a%c2%80", NULL},
    {"/a%c2%9f", NULL},
    /* broken encodings */
    {"/%", NULL},
    {"/%4", NULL},
    {"/%4g", NULL},
    {"/%g4", NULL},
    {"/%u0061", NULL},
    {"/%%61", NULL},
    {"/a%2", NULL},
    {"/a%2?b=c1", NULL},
    {"/% 1", NULL},
    {"/%+1", NULL},
    {"/%0x", NULL},
    /* not UTF-8: overlong, surrogate, truncated, out of range, Latin-1 */
    {"/%c0%af", NULL},
    {"/%c0%ae%c0%ae", NULL},
    {"/%e0%80%af", NULL},
    {"/%f0%80%80%af", NULL},
    {"/%ed%a0%80", NULL},
    {"/%c3", NULL},
    {"/%f4%90%80%80", NULL},
    {"/%e9", NULL},
    {"/%ff", NULL},
    {"/%80", NULL},
    {"/\xc3\xa9", NULL},
    /* characters outside pchar */
    {"/a#b", NULL},
    {"/a\"b", NULL},
    {"/a<b", NULL},
    {"/a>b", NULL},
    {"/a[b", NULL},
    {"/a]b", NULL},
    {"/a^b", NULL},
    {"/a`b", NULL},
    {"/a{b", NULL},
    {"/a|b", NULL},
    {"/a}b", NULL},
    /* queries */
    {"/a?b", NULL},
    {"/a?=b", NULL},
    {"/a?&", NULL},
    {"/a?b=c&", NULL},
    {"/a?&b=c", NULL},
    {"/a?b=c&&d=e", NULL},
    {"/a?b=c&b=d", NULL},
    {"/a?b=c&%62=d", NULL},
    {"/a?b=c+d", NULL},
    {"/a?b=c;d=e", NULL},
    {"/a?b=%0a", NULL},
    {"/a?b=%", NULL},
    {"/a?b=%c0%80", NULL},
    {"/a?b=#", NULL},
    {"/a?b=\\", NULL},
    {"/a?b%00=c", NULL},
    {"/a?a=1&b=1&c=1&d=1&e=1&f=1&g=1&h=1&i=1&j=1&k=1&l=1&m=1&n=1&o=1&p=1&q=1", NULL},
};

static void test_targets_refused(void **state)
{
    (void)state;
    check_targets(refused_targets, sizeof(refused_targets) / sizeof(refused_targets[0]));
}

static int find(enum kbs_listener listener, const char *method, const char *raw,
                struct kbs_http_match *ret)
{
    struct kbs_arena arena = KBS_ARENA(KBS_HTTP_TARGET_ARENA_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_http_target t;
    int r;

    assert_int_equal(kbs_http_target_parse(kbs_span_str(raw), &arena, &t, &err), 0);
    r = kbs_http_route_find(listener, kbs_span_str(method), &t, ret);
    kbs_arena_deinit(&arena);
    return r;
}

static void test_find(void **state)
{
    struct kbs_http_match m;

    (void)state;
    assert_int_equal(find(KBS_LISTENER_GUEST, "POST", "/kbs/v0/key/a/b/c", &m), 0);
    assert_int_equal(m.route, KBS_ROUTE_KEY_RELEASE);
    assert_int_equal(m.param_count, 3);
    assert_int_equal(find(KBS_LISTENER_GUEST, "POST", "/kbs/v0/key/a/b", &m),
                     KBS_HTTP_ROUTE_NO_PATH);
    assert_int_equal(find(KBS_LISTENER_GUEST, "POST", "/kbs/v0/key/a/b/c/d", &m),
                     KBS_HTTP_ROUTE_NO_PATH);
    assert_int_equal(find(KBS_LISTENER_GUEST, "POST", "/KBS/v0/auth", &m), KBS_HTTP_ROUTE_NO_PATH);
    assert_int_equal(find(KBS_LISTENER_GUEST, "GET", "/", &m), KBS_HTTP_ROUTE_NO_PATH);
    assert_int_equal(find(KBS_LISTENER_GUEST, "post", "/kbs/v0/auth", &m),
                     KBS_HTTP_ROUTE_NO_METHOD);
    assert_string_equal(m.allow, "POST");
    assert_int_equal(find(KBS_LISTENER_ADMIN, "PUT", "/kbs/v0/admin/keys", &m),
                     KBS_HTTP_ROUTE_NO_METHOD);
    assert_string_equal(m.allow, "GET, POST");
    assert_int_equal(find(KBS_LISTENER_ADMIN, "POST", "/kbs/v0/admin/keys/a/b/c/import", &m), 0);
    assert_int_equal(m.route, KBS_ROUTE_ADMIN_KEY_IMPORT);
    assert_int_equal(find(KBS_LISTENER_ADMIN, "GET", "/kbs/v0/admin/keys/a/b/c", &m), 0);
    assert_int_equal(m.route, KBS_ROUTE_ADMIN_KEY_SHOW);
    assert_int_equal(find(KBS_LISTENER_ADMIN, "DELETE", "/kbs/v0/admin/keys/a/b/c", &m), 0);
    assert_int_equal(m.route, KBS_ROUTE_ADMIN_KEY_DESTROY);
    assert_string_equal(m.method, "DELETE");
    assert_int_equal(find(KBS_LISTENER_ADMIN, "POST", "/kbs/v0/admin/wrapping-key", &m),
                     KBS_HTTP_ROUTE_NO_METHOD);
    assert_string_equal(m.allow, "GET, DELETE");
    assert_int_equal(find(KBS_LISTENER_GUEST, "GET", "/.well-known/jwks.json", &m), 0);
    assert_int_equal(m.route, KBS_ROUTE_JWKS);
}

/* A tail is all segments that are left, one at least. */
static void test_tail(void **state)
{
    static const struct {
        const char *raw;
        size_t segments; /* 0: another row's path, or none */
    } cases[] = {
        {"/kbs/v0/reference-value", 0},
        {"/kbs/v0/reference-value/a", 1},
        {"/kbs/v0/reference-value/a/b", 2},
        {"/kbs/v0/reference-value/1/2/3/4/5/6/7/8/9/10/11/12/13", 13},
        {"/kbs/v0/reference-values/a", 0},
        {"/kbs/v0/resource/a/b/c/d", 0}, /* no other row has one */
    };
    struct kbs_http_match m;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kbs_arena arena = KBS_ARENA(KBS_HTTP_TARGET_ARENA_BYTES);
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_http_target t;
        int found;

        assert_int_equal(kbs_http_target_parse(kbs_span_str(cases[i].raw), &arena, &t, &err), 0);
        found = kbs_http_route_find(KBS_LISTENER_ADMIN, KBS_SPAN_LIT("GET"), &t, &m);
        assert_int_equal(found == 0, cases[i].segments != 0);
        if (found == 0) {
            assert_int_equal(m.route, KBS_ROUTE_REFERENCE_VALUE_SHOW);
            assert_int_equal(m.param_count, 0);
            assert_int_equal(m.tail_count, cases[i].segments);
            assert_ptr_equal(&m.tail[m.tail_count], &t.segments[t.segment_count]);
        }
        kbs_arena_deinit(&arena);
    }
    assert_int_equal(find(KBS_LISTENER_ADMIN, "DELETE", "/kbs/v0/reference-value/a/b", &m),
                     KBS_HTTP_ROUTE_NO_METHOD);
    assert_string_equal(m.allow, "GET");
    assert_int_equal(find(KBS_LISTENER_GUEST, "GET", "/kbs/v0/reference-value/a", &m),
                     KBS_HTTP_ROUTE_NO_PATH);
}

/* A literal path for a row: holes filled with "x", a tail with "x/y". */
static void fill(const char *path, char *out)
{
    for (; *path != '\0'; path++) {
        if (strcmp(path, "{...}") == 0) {
            (void)snprintf(out, 4, "x/y");
            return;
        }
        if (*path == '{') {
            *out++ = 'x';
            path++;
        } else {
            *out++ = *path;
        }
    }
    *out = '\0';
}

/* Every row is found on its own listeners, on no other, and by no other row. */
static void test_table(void **state)
{
    struct kbs_http_route_row row;
    struct kbs_http_match m;
    unsigned int seen[256] = {0};

    (void)state;
    for (size_t i = 0; kbs_http_route_row(i, &row); i++) {
        char path[128];

        fill(row.path, path);
        assert_in_range(row.route, 1, 255);
        assert_true(i + 1 < KBS_METRICS_ROUTES); /* each is counted under its own name */
        assert_int_equal(seen[row.route]++, 0);
        assert_string_equal(kbs_http_route_name(row.route), row.name);
        assert_true(row.body_max <= KBS_LIMIT_HTTP_BODY_BYTES);
        for (enum kbs_listener l = KBS_LISTENER_GUEST; l < KBS_LISTENER_COUNT; l++) {
            if ((row.listeners & (1u << l)) != 0) {
                assert_int_equal(find(l, row.method, path, &m), 0);
                assert_int_equal(m.route, row.route);
            } else {
                /* A resource's path is a guest's too, by another method; wrap-key is two things. */
                int rc = find(l, row.method, path, &m);

                assert_true(
                    rc == KBS_HTTP_ROUTE_NO_PATH ||
                    (rc == KBS_HTTP_ROUTE_NO_METHOD && strstr(path, "/resource/") != NULL) ||
                    (m.route != row.route && strstr(path, "/wrap-key") != NULL));
            }
        }
    }
    for (enum kbs_route r = KBS_ROUTE_ADMIN_NONCE; r < KBS_ROUTE_HEALTHZ; r++) {
        for (size_t i = 0; kbs_http_route_row(i, &row); i++) {
            assert_true(row.route != r || row.listeners == 1u << KBS_LISTENER_ADMIN);
        }
    }
    assert_string_equal(kbs_http_route_name(KBS_ROUTE_NONE), "none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_targets_accepted),
        cmocka_unit_test(test_targets_refused),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_tail),
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
