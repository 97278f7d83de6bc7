/*
 * Names of key versions: the kid that is written is the one that kbs_kid_split() reads, up to the
 * longest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "catalog/key.h"

static void check_kid(const char *path, uint32_t version, const char *expected)
{
    struct kbs_key key = {.version = version};
    char kid[KBS_LIMIT_KID_BYTES + 1];
    struct kbs_span read_path;
    uint32_t read_version;
    size_t n;

    assert_true(kbs_span_to_cstr(kbs_span_str(path), key.path, sizeof(key.path)));
    n = kbs_key_kid(&key, kid);
    assert_int_equal(n, strlen(kid));
    if (expected != NULL) {
        assert_string_equal(kid, expected);
    }
    assert_true(kbs_kid_split(kbs_span(kid, n), &read_path, &read_version));
    assert_true(kbs_span_equal_str(read_path, path));
    assert_int_equal(read_version, version);
}

static void test_kid(void **state)
{
    (void)state;
    check_kid("default/key/disk", 1, "default/key/disk/v1");
    check_kid("a/b/c", UINT32_MAX, "a/b/c/v4294967295");
    check_kid("_/-/v2", 10, "_/-/v2/v10");
}

static void test_longest_kid(void **state)
{
    char path[KBS_LIMIT_KEY_PATH_BYTES + 1];

    (void)state;
    memset(path, 'x', sizeof(path) - 1);
    path[1] = '/';
    path[3] = '/';
    path[sizeof(path) - 1] = '\0';
    assert_true(kbs_key_path_valid(kbs_span_str(path)));
    check_kid(path, UINT32_MAX, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kid),
        cmocka_unit_test(test_longest_kid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
