/*
 * Texts that were parsed before: a tree is given for its own text and for no other, whatever the
 * slot held.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/context.h"

static int parses;

static int parse(struct kbs_span text, json_t **ret, struct kbs_error *err)
{
    parses++;
    if (text.len == 0) {
        return kbs_fail(err, KBS_DENIED, "none");
    }
    return kbs_json_parse_object(text, "text", ret, err);
}

static int number_in(struct kbs_parsed *p, struct kbs_span text)
{
    struct kbs_error err = KBS_ERROR_NONE;
    const json_t *root = NULL;
    int64_t n = 0;

    if (kbs_parsed_get(p, text, parse, &root, &err) != 0) {
        return -1;
    }
    assert_int_equal(kbs_json_get_integer(root, "n", &n, &err), 0);
    return (int)n;
}

static void a_tree_is_its_own_texts(void **state)
{
    struct kbs_parsed p = {.root = NULL};

    (void)state;
    parses = 0;
    assert_int_equal(number_in(&p, KBS_SPAN_LIT("{\"n\":1}")), 1);
    assert_int_equal(number_in(&p, KBS_SPAN_LIT("{\"n\":1}")), 1);
    assert_int_equal(parses, 1);
    assert_int_equal(number_in(&p, KBS_SPAN_LIT("{\"n\":2}")), 2);
    assert_int_equal(number_in(&p, KBS_SPAN_LIT("{\"n\":2} ")), 2);
    assert_int_equal(parses, 3);
    assert_int_equal(number_in(&p, KBS_SPAN_LIT("no")), -1);
    assert_int_equal(number_in(&p, KBS_SPAN_LIT("no")), -1); /* no failure is remembered */
    assert_int_equal(number_in(&p, KBS_SPAN_EMPTY), -1);
    assert_int_equal(parses, 6);
    kbs_parsed_deinit(&p);
}

/* Too large to keep: parsed each time, and what is there does not pass for another text's. */
static void a_large_text_is_not_kept(void **state)
{
    struct kbs_parsed p = {.root = NULL};
    struct kbs_buf large = KBS_BUF(40000);

    (void)state;
    parses = 0;
    kbs_buf_put_str(&large, "{\"n\":3,\"x\":\"");
    memset(kbs_buf_reserve(&large, 30000), 'x', 30000);
    kbs_buf_commit(&large, 30000);
    kbs_buf_put_str(&large, "\"}");
    assert_int_equal(number_in(&p, kbs_buf_span(&large)), 3);
    assert_int_equal(number_in(&p, kbs_buf_span(&large)), 3);
    assert_int_equal(parses, 2);
    assert_int_equal(number_in(&p, KBS_SPAN_EMPTY), -1);
    assert_int_equal(number_in(&p, KBS_SPAN_LIT("{\"n\":1}")), 1);
    kbs_buf_deinit(&large);
    kbs_parsed_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_is_its_own_texts),
        cmocka_unit_test(a_large_text_is_not_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
