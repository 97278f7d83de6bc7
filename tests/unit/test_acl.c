/*
 * Unit tests of the regular expressions of admin roles: what they mean, what is refused at start, and that no
 * expression with no target takes long.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/limits.h"
#include "policy/acl.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct kbs_acl *acl_of(const char *pattern)
{
    struct kbs_acl *acl = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_acl_new(kbs_span_str(pattern), &acl, &err) != 0) {
        fail_msg("%s: %s", pattern, err.detail);
    }
    return acl;
}

static bool allows(const char *pattern, const char *target)
{
    struct kbs_acl *acl = acl_of(pattern);
    bool r = kbs_acl_allows(acl, kbs_span_str(target));

    (void)kbs_acl_free(acl);
    return r;
}

static void targets(void **state)
{
    static const struct {
        const char *pattern;
        const char *target;
        bool allowed;
    } rows[] = {
        {"^/kbs.*$", "/kbs/v0/resource/a/b/c", true},
        {"^/kbs.*$", "/kbs/v0/resource/a/b/c?x=y", true},
        {"^/kbs.*$", "/KBS/v0/resource", false},
        {"^/kbs.*$", "/metrics", false},
        {"^/kbs.*$", "", false},
        {"^/kbs/v0/resource/a/[a-z]+/c$", "/kbs/v0/resource/a/b/c", true},
        {"^/kbs/v0/resource/a/[a-z]+/c$", "/kbs/v0/resource/a/b/c/", false},
        {"^/kbs/v0/resource/a/[a-z]+/c$", "/kbs/v0/resource/a/b/c?x=y",
         false}, /* the query counts */
        {"^/kbs/v0/resource/a/[a-z]+/c$", "x/kbs/v0/resource/a/b/c", false},
        {"^/kbs/v0/resource/a/[a-z]+/c$", "/kbs/v0/resource/a/b/c\n", false},
        {"^/kbs/v0/(resource|reference-value)/.*$", "/kbs/v0/resource/a/b/c", true},
        {"^/kbs/v0/(?:resource|reference-value)/.*$", "/kbs/v0/resource-policy", false},
        {"^/kbs/v0/resource(/[a-z0-9]{1,8}){3}$", "/kbs/v0/resource/a/b/c", true},
        {"^/kbs/v0/resource(/[a-z0-9]{1,8}){3}$", "/kbs/v0/resource/a/b", false},
        {"^/kbs/v0/resource/\\w+/\\d+/[^/]*?$", "/kbs/v0/resource/a/12/c", true},
        {"^/kbs/v0/resource/\\w+/\\d+/[^/]*?$", "/kbs/v0/resource/a/b/c", false},
        {"^/kbs/v0/resource/[[:alpha:]]/[]x-]/c$", "/kbs/v0/resource/a/]/c", true},
        {"^/kbs/v0/a\\.b$", "/kbs/v0/a.b", true},
        {"^/kbs/v0/a\\.b$", "/kbs/v0/axb", false},
        /* both anchors hold for every alternative, and an escaped one is no anchor */
        {"^/kbs/v0/a|/b$", "/kbs/v0/a/whatever", false},
        {"^/kbs/v0/a|/b$", "/admin/b", false},
        {"^/kbs/v0/a|/b$", "/kbs/v0/a", true},
        {"^/kbs/v0/a\\$", "/kbs/v0/a$", true},
        {"^/kbs/v0/a\\$", "/kbs/v0/a$$", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (allows(rows[i].pattern, rows[i].target) != rows[i].allowed) {
            fail_msg("%s %s", rows[i].pattern, rows[i].target);
        }
    }
}

static void refused(void **state)
{
    static const struct {
        const char *pattern;
        const char *why;
    } rows[] = {
        {"", "begin"},
        {"/kbs.*$", "begin"},
        {"^/kbs.*", "begin"},
        {"^.*$", "begin"},
        {"^/admin$", "begin"},
        {"^/kbs($", "closing parenthesis"},
        {"^/kbs[$", "]"},
        {"^/kbs*{2,1}$", "character"},
        {"^/kbs/(a)\\1$", "this escape"},
        {"^/kbs/\\Ka$", "this escape"},
        {"^/kbs/\\Qa\\E$", "this escape"},
        {"^/kbs/(?=a)a$", "a group other"},
        {"^/kbs/(?!a)b$", "a group other"},
        {"^/kbs/(?<=a)b$", "a group other"},
        {"^/kbs/(?>a+)b$", "a group other"},
        {"^/kbs/(?R)?$", "a group other"},
        {"^/kbs/(?1)?(a)$", "a group other"},
        {"^/kbs/(?i)a$", "a group other"},
        {"^/kbs/(?P<n>a)$", "a group other"},
        {"^/kbs/(?C1)a$", "a group other"},
        {"^/kbs/(*ACCEPT)$", "a verb"},
        {"^/kbs/a++$", "possessive"},
        {"^/kbs/[a-z&&[^b]]$", "operator on classes"},
        {"^/kbs/[a[b]]$", "a class in a class"},
        {"^/kbs/\xc3\xa4$", "a character that no target has"},
        {"^/kbs/((((((((((((((((((a))))))))))))))))))$", "nested"},
        {"^/kbs/((a{1,1000}){1,1000}){1,1000}$", "too large"},
    };
    char longer[KBS_LIMIT_ADMIN_ACL_BYTES + 2];
    struct kbs_acl *acl = NULL;
    struct kbs_error err;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        err = KBS_ERROR_NONE;
        if (kbs_acl_new(kbs_span_str(rows[i].pattern), &acl, &err) != -1 || acl != NULL ||
            err.category != KBS_INPUT || strstr(err.detail, rows[i].why) == NULL) {
            fail_msg("%s: %s", rows[i].pattern, err.detail);
        }
    }
    memset(longer, 'a', sizeof(longer));
    memcpy(longer, "^/kbs", 5);
    longer[KBS_LIMIT_ADMIN_ACL_BYTES] = '$';
    assert_int_equal(kbs_acl_new(kbs_span(longer, sizeof(longer) - 1), &acl, &err), -1);
    longer[KBS_LIMIT_ADMIN_ACL_BYTES - 1] = '$';
    assert_int_equal(kbs_acl_new(kbs_span(longer, KBS_LIMIT_ADMIN_ACL_BYTES), &acl, &err), 0);
    (void)kbs_acl_free(acl);
}

/* Expressions that make backtracking engines take exponential or high polynomial time. */
static void time_is_bounded(void **state)
{
    static const char *const patterns[] = {
        "^/kbs(/[a-z]+)*$",
        "^/kbs(/a|/a|/a)*$",
        "^/kbs((/[a-z]*)*)*$",
        "^/kbs(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)x$",
        "^/kbs(.*a){20}$",
        "^/kbs(/?a?){200}$",
        "^/kbs([/a]|[/a]{2}|[/a]{3})+$",
        "^/kbs(.{0,100}){0,10}$",
        "^/kbs(((.{1,9}){1,9}){1,9}){1,9}x$",
        "^/kbs.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*.*x$",
    };
    char target[KBS_LIMIT_HTTP_TARGET_BYTES];

    (void)state;
    memcpy(target, "/kbs", 4);
    for (size_t i = 4; i < sizeof(target); i++) {
        target[i] = i % 2 == 0 ? '/' : 'a';
    }
    target[sizeof(target) - 2] =
        'x'; /* what some expressions end with, so that none is given up at once */
    target[sizeof(target) - 1] = '!';
    for (size_t i = 0; i < COUNT(patterns); i++) {
        struct kbs_acl *acl = acl_of(patterns[i]);
        uint64_t begun = kbs_clock_mono_ns();
        bool allowed = kbs_acl_allows(acl, kbs_span(target, sizeof(target)));
        uint64_t ms = (kbs_clock_mono_ns() - begun) / 1000000;

        print_message("%4llu ms, %s: %s\n", (unsigned long long)ms, allowed ? "allowed" : "denied",
                      patterns[i]);
        assert_true(ms < 5000); /* it is tens of milliseconds; sanitizers and other load apart */
        (void)kbs_acl_free(acl);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets),
        cmocka_unit_test(refused),
        cmocka_unit_test(time_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
