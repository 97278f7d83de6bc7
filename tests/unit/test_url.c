/* base/url.h: which URLs are taken, and what they are taken for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/url.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void test_what_is_taken(void **state)
{
    static const struct {
        const char *text;
        enum kbs_url_scheme scheme;
        const char *host;
        uint16_t port;
        const char *path;
        bool local;
    } cases[] = {
        {"https://as.example", KBS_URL_HTTPS, "as.example", 0, "", false},
        {"https://as.example:8443/a/b?c=/../d", KBS_URL_HTTPS, "as.example", 8443, "/a/b?c=/../d",
         false},
        {"http://127.0.0.1:80/", KBS_URL_HTTP, "127.0.0.1", 80, "/", true},
        {"http://127.9.9.9", KBS_URL_HTTP, "127.9.9.9", 0, "", true},
        {"http://LocalHost:1", KBS_URL_HTTP, "LocalHost", 1, "", true},
        {"http://[::1]:8080/x", KBS_URL_HTTP, "::1", 8080, "/x", true},
        {"https://[2001:db8::1]", KBS_URL_HTTPS, "2001:db8::1", 0, "", false},
        {"http://127.0.0.1.evil.example", KBS_URL_HTTP, "127.0.0.1.evil.example", 0, "", false},
        {"http://localhost.evil.example", KBS_URL_HTTP, "localhost.evil.example", 0, "", false},
        {"unix:/run/as.sock", KBS_URL_UNIX, "", 0, "/run/as.sock", true},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct kbs_url url;
        assert_true(kbs_url_parse(kbs_span_str(cases[i].text), &url));
        assert_int_equal(url.scheme, cases[i].scheme);
        assert_true(kbs_span_equal_str(url.host, cases[i].host));
        assert_int_equal(url.port, cases[i].port);
        assert_true(kbs_span_equal_str(url.path, cases[i].path));
        assert_int_equal(kbs_url_is_local(&url), cases[i].local);
    }
}

static void test_what_is_not(void **state)
{
    static const char *const texts[] = {
        "",
        "as.example",
        "//as.example",
        "HTTPS://as.example",
        "ftp://as.example",
        "file:///etc/passwd",
        "https:/as.example",
        "https://",
        "https:///path",
        "https://user@as.example",
        "https://user:pass@as.example",
        "https://as.example#fragment",
        "https://as.example/#fragment",
        "https://as.example?query",
        "https://as.example\\@evil.example",
        "https://as.example:",
        "https://as.example:0",
        "https://as.example:65536",
        "https://as.example:123456",
        "https://as.example:+1",
        "https://as.example:80:80",
        "https://as_example",
        "https://as.example/a b",
        "https://as.example/\n",
        "https://as.example/..",
        "https://as.example/a/./b",
        "https://as.example/a/../b",
        "https://as.example/%2e%2E/",
        "https://as.example/%2f",
        "https://as.example/%0a",
        "https://as.example/%4",
        "https://as.example/%g0",
        "https://[::1",
        "https://[::1]x",
        "https://[]",
        "https://[::1%25eth0]",
        "https://\xc3\xa9.example",
        "unix:",
        "unix:/",
        "unix:run/as.sock",
        "unix:/run/../as.sock",
    };
    char long_host[300] = "https://";
    struct kbs_url url;
    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        if (kbs_url_parse(kbs_span_str(texts[i]), &url)) {
            fail_msg("%s was taken", texts[i]);
        }
    }
    memset(long_host + 8, 'a', 254);
    assert_false(kbs_url_parse(kbs_span_str(long_host), &url));
    long_host[8 + 253] = '\0';
    assert_true(kbs_url_parse(kbs_span_str(long_host), &url));
    assert_false(kbs_url_parse(kbs_span("https://a\0b", 11), &url));
}

static void test_suffixes(void **state)
{
    static const char *const good[] = {"", "/", "/a", "/a?b=/..", "/a..b/.c/d.", "/%41%20", "//a"};
    static const char *const bad[] = {"a",       "?a",    "/..", "/.",   "/../",
                                      "/a/..?b", "/a\\b", "/#",  "/\x7f"};
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_true(kbs_url_suffix_valid(kbs_span_str(good[i])));
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_false(kbs_url_suffix_valid(kbs_span_str(bad[i])));
    }
}

static void test_hosts_have_no_case(void **state)
{
    (void)state;
    assert_true(kbs_url_host_equal(KBS_SPAN_LIT("AS.Example"), KBS_SPAN_LIT("as.eXample")));
    assert_false(kbs_url_host_equal(KBS_SPAN_LIT("as.example"), KBS_SPAN_LIT("as.example.")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_taken),
        cmocka_unit_test(test_what_is_not),
        cmocka_unit_test(test_suffixes),
        cmocka_unit_test(test_hosts_have_no_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
