/* The limit of handshakes per source: rate, burst, what a source is, and a table that is full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "front/sources.h"

#define S UINT64_C(1000000000)

static struct kbs_sources *sources_new(uint32_t per_s)
{
    struct kbs_sources *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    s->per_s = per_s;
    return s;
}

static struct kbs_source v4(const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(1)};

    assert_int_equal(inet_pton(AF_INET, text, &in.sin_addr), 1);
    return kbs_source_of((const struct sockaddr *)&in);
}

static struct kbs_source v6(const char *text)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(1)};

    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return kbs_source_of((const struct sockaddr *)&in6);
}

/* How many of `n` at that moment are let through. */
static int take(struct kbs_sources *s, struct kbs_source source, uint64_t now_ns, int n)
{
    int taken = 0;

    for (int i = 0; i < n; i++) {
        taken += kbs_sources_take(s, &source, now_ns) ? 1 : 0;
    }
    return taken;
}

static void rate_and_burst(void **state)
{
    struct kbs_sources *s = sources_new(200);
    struct kbs_source a = v4("192.0.2.1");
    uint64_t now = 5 * S;

    (void)state;
    assert_int_equal(take(s, a, now, 1000), 400);
    assert_int_equal(take(s, v4("192.0.2.2"), now, 10), 10); /* which is nobody else's matter */
    assert_int_equal(take(s, a, now + S / 200 - 1, 10), 0);
    assert_int_equal(take(s, a, now + S / 200, 10), 1);
    assert_int_equal(take(s, a, now + S, 1000), 199); /* what was refused has cost nothing */
    assert_int_equal(kbs_sources_in_debt(s, now + S), 1);
    assert_int_equal(kbs_sources_in_debt(s, now + 3 * S), 0);
    assert_int_equal(take(s, a, now + 3 * S, 1000), 400);
    free(s);
}

static void any_rate(void **state)
{
    struct kbs_sources *none = sources_new(0);
    struct kbs_sources *one = sources_new(1);
    struct kbs_sources *most = sources_new(UINT32_MAX);
    struct kbs_source a = v4("192.0.2.1");

    (void)state;
    assert_int_equal(take(none, a, S, 100000), 100000);
    assert_int_equal(kbs_sources_in_debt(none, S), 0);
    assert_int_equal(take(one, a, S, 10), 2);
    assert_int_equal(take(one, a, 2 * S, 10), 1);
    assert_int_equal(take(most, a, S, 100000), 100000);
    free(none);
    free(one);
    free(most);
}

static bool are_one(struct kbs_source a, struct kbs_source b)
{
    struct kbs_sources *s = sources_new(1);
    bool one = take(s, a, S, 2) == 2 && take(s, b, S, 1) == 0;

    free(s);
    return one;
}

static void what_a_source_is(void **state)
{
    struct sockaddr un = {.sa_family = AF_UNIX};
    struct sockaddr none = {.sa_family = AF_UNSPEC};

    (void)state;
    assert_true(are_one(v4("192.0.2.1"), v4("192.0.2.1")));
    assert_false(are_one(v4("192.0.2.1"), v4("192.0.2.2")));
    assert_true(are_one(v6("2001:db8:1:2::1"), v6("2001:db8:1:2:ffff:ffff:ffff:ffff")));
    assert_false(are_one(v6("2001:db8:1:2::1"), v6("2001:db8:1:3::1")));
    /* IPv4 on a socket of IPv6 is IPv4, not one /64 */
    assert_true(are_one(v6("::ffff:192.0.2.1"), v4("192.0.2.1")));
    assert_false(are_one(v6("::ffff:192.0.2.1"), v6("::ffff:192.0.2.2")));
    assert_false(are_one(v6("::ffff:192.0.2.1"), v6("::1")));
    assert_true(are_one(kbs_source_of(&un), kbs_source_of(&none)));
    assert_false(are_one(kbs_source_of(&un), v6("::1")));
    assert_false(are_one(kbs_source_of(&un), v6("::")));
}

/* An attacker with more sources than places frees no debtor and locks nobody out. */
static void a_table_that_is_full(void **state)
{
    struct kbs_sources *s = sources_new(2);
    struct kbs_source debtor = v4("192.0.2.1");
    uint64_t now = S;

    (void)state;
    assert_int_equal(take(s, debtor, now, 10), 4);
    for (uint32_t i = 0; i < 3 * KBS_LIMIT_AUTH_SOURCES; i++) {
        struct kbs_source other = {.high = i + 1};

        assert_true(kbs_sources_take(s, &other, now)); /* nobody is locked out */
    }
    assert_int_equal(kbs_sources_in_debt(s, now), KBS_LIMIT_AUTH_SOURCES);
    assert_int_equal(s->uncounted, 2 * KBS_LIMIT_AUTH_SOURCES + 1);
    assert_int_equal(take(s, debtor, now, 10), 0); /* nobody is let off */
    assert_int_equal(take(s, debtor, now + S, 10), 2);
    /* the others had one each: half a second's worth. Only the debtor is left. */
    assert_int_equal(kbs_sources_in_debt(s, now + S), 1);
    assert_int_equal(take(s, (struct kbs_source){.high = 7}, now + S, 10), 4);
    assert_int_equal(s->uncounted, 2 * KBS_LIMIT_AUTH_SOURCES + 1);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rate_and_burst),
        cmocka_unit_test(any_rate),
        cmocka_unit_test(what_a_source_is),
        cmocka_unit_test(a_table_that_is_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
