/* Files of cases for Rego policies, and the references that stand in a policy's text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "cli/policy_cases.h"
#include "cli/policy_refs.h"
#include "jose/read/json.h"

#define GOOD "\"input\":{},\"path\":\"a/b/c\",\"expect\":\"deny\""

static void test_cases(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf data = KBS_BUF(1024);
    struct kbs_cli_case one;
    json_t *cases = NULL;

    (void)state;
    assert_int_equal(
        kbs_cli_cases_parse(KBS_SPAN_LIT("{\"cases\":[{" GOOD
                                         "},{\"name\":\"two\",\"input\":{\"a\":1},"
                                         "\"data\":{\"plugin\":\"x\"},\"expect\":\"allow\"}]}"),
                            &cases, &err),
        0);
    assert_int_equal(kbs_cli_cases_count(cases), 2);
    one = kbs_cli_cases_at(cases, 0);
    assert_false(one.allow);
    assert_int_equal(one.name.len, 0);
    assert_int_equal(kbs_cli_case_data(one.path, &data, &err), 0);
    assert_string_equal(kbs_buf_cstr(&data),
                        "{\"plugin\":\"resource\",\"method\":\"GET\",\"query\":{},"
                        "\"resource-path\":[\"a\",\"b\",\"c\"]}");
    one = kbs_cli_cases_at(cases, 1);
    assert_true(one.allow);
    assert_true(kbs_span_equal_str(one.name, "two"));
    assert_non_null(one.data);
    kbs_buf_deinit(&data);
    json_decref(cases);
}

static void test_bad_cases(void **state)
{
    static const struct {
        const char *text;
        const char *why;
    } bad[] = {
        {"[]", "cases"},
        {"{}", "not a list"},
        {"{\"cases\":[]}", "not a list"},
        {"{\"cases\":[{" GOOD "}],\"more\":1}", "unknown"},
        {"{\"cases\":[1]}", "case 1: is not an object"},
        {"{\"cases\":[{" GOOD "},{}]}", "case 2: "},
        {"{\"cases\":[{" GOOD ",\"expected\":1}]}", "unknown"},
        {"{\"cases\":[{\"input\":{},\"path\":\"a/b/c\"}]}", "expect"},
        {"{\"cases\":[{\"input\":{},\"path\":\"a/b/c\",\"expect\":\"maybe\"}]}", "allow or deny"},
        {"{\"cases\":[{\"input\":{},\"path\":\"a/b\",\"expect\":\"deny\"}]}", "repo/type/tag"},
        {"{\"cases\":[{\"input\":{},\"expect\":\"deny\"}]}", "not both"},
        {"{\"cases\":[{" GOOD ",\"data\":{}}]}", "not both"},
        {"{\"cases\":[{\"input\":[],\"path\":\"a/b/c\",\"expect\":\"deny\"}]}", "input"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct kbs_error err = KBS_ERROR_NONE;
        json_t *cases = NULL;

        assert_int_equal(kbs_cli_cases_parse(kbs_span_str(bad[i].text), &cases, &err), -1);
        assert_int_equal(err.category, KBS_INPUT);
        if (strstr(err.detail, bad[i].why) == NULL) {
            fail_msg("%s: %s", bad[i].text, err.detail);
        }
    }
}

static void each(void *ctx, struct kbs_span text, unsigned int line, bool there)
{
    kbs_buf_printf(ctx, "%u %s %.*s\n", line, there ? "there" : "not", (int)text.len,
                   (const char *)text.p);
}

static void test_references(void **state)
{
    static const char policy[] = "package policy\n"
                                 "# input.comment\n"
                                 "allow if {\n"
                                 "  input.a.b == \"input.string\"\n"
                                 "  not input[\"a\"][\"x y\"].z\n"
                                 "  data[\"resource-path\"][_] == `data.raw`\n"
                                 "  my.input.q; input[i].c; inputs.d; input\n"
                                 "  input.a[\"b\"].null == data.plugin\n"
                                 "}\n";
    struct kbs_buf found = KBS_BUF(4096);
    KBS_AUTO_JSON input = json_pack("{s:{s:{s:n}}}", "a", "b", "null");
    KBS_AUTO_JSON data = json_pack("{s:[s]}", "resource-path", "a");

    (void)state;
    kbs_cli_refs(KBS_SPAN_LIT(policy), input, data, each, &found);
    assert_string_equal(kbs_buf_cstr(&found), "4 there input.a.b\n"
                                              "5 not input[\"a\"][\"x y\"].z\n"
                                              "6 there data[\"resource-path\"]\n"
                                              "8 there input.a[\"b\"].null\n"
                                              "8 not data.plugin\n");
    kbs_buf_deinit(&found);
}

/* Cut off anywhere, it is read to its end and no further. */
static void test_references_cut(void **state)
{
    static const char policy[] = "allow if { input.a[\"b\\\"c\"] == `x` }\ninput[\"";

    (void)state;
    for (size_t n = 0; n <= sizeof(policy); n++) {
        struct kbs_buf found = KBS_BUF(4096);
        struct kbs_buf text = KBS_BUF(sizeof(policy));

        kbs_buf_put(&text, policy, n); /* of that size, so that a step too far is seen */
        kbs_cli_refs(kbs_buf_span(&text), NULL, NULL, each, &found);
        kbs_buf_deinit(&text);
        kbs_buf_deinit(&found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_bad_cases),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_references_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
