/*
 * Unit tests of release policies: the closed grammar, that what is absent is false, and what a
 * denial tells.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "policy/release.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define POLICY(entries) "{\"version\":\"1.0.0\",\"anyOf\":[" entries "]}"
#define ALL(conditions) "{\"allOf\":[" conditions "]}"
#define ANY(conditions) "{\"anyOf\":[" conditions "]}"
#define IS(claim, value) "{\"claim\":\"" claim "\",\"equals\":" value "}"

#define INPUT                                                                                                            \
    "{\"iss\":\"https://kbs.example\",\"sid\":\"aa\",\"kbs\":{\"binding\":\"full\"},\"n\":7,\"yes\":true,\"no\":false,"  \
    "\"zero\":0,\"one\":\"1\",\"null\":null,\"list\":[1],\"real\":1.5,\"a\":{\"b\":\"dotted path\"},\"a.b\":\"quoted\"," \
    "\"submods\":{\"cpu0\":{\"ear.status\":\"affirming\",\"ear.veraison.annotated-evidence\":"                           \
    "{\"sample\":{\"svn\":\"1\"}}}}}"
#define KBS "{\"binding\":\"evidence\",\"pop\":false,\"key\":{\"version\":3}}"

static int decide(const char *policy, struct kbs_error *err)
{
    KBS_AUTO_JSON input = json_loads(INPUT, 0, NULL);
    KBS_AUTO_JSON kbs = json_loads(KBS, 0, NULL);

    assert_non_null(input);
    assert_non_null(kbs);
    *err = KBS_ERROR_NONE;
    return kbs_policy_decide(kbs_span_str(policy), input, kbs, err);
}

static void allows(void **state)
{
    static const char *const rows[] = {
        POLICY(ALL(IS("submods.cpu0.\\\"ear.status\\\"", "\"affirming\""))),
        POLICY(ALL(IS("submods.cpu0.\\\"ear.veraison.annotated-evidence\\\".sample.svn", "\"1\""))),
        POLICY(ALL(IS("kbs.binding", "\"evidence\"") "," IS("n", "7") "," IS("yes", "true") "," IS(
            "no", "false"))),
        POLICY(ALL(IS("\\\"n\\\"", "7"))),
        POLICY(ALL(IS("kbs.key.version", "3"))),
        POLICY(ALL(IS("kbs.pop", "false"))),
        POLICY(ALL(IS("a.b", "\"dotted path\"") "," IS("\\\"a.b\\\"", "\"quoted\""))),
        POLICY(ANY(IS("n", "8") "," IS("n", "7"))),
        POLICY(ALL(IS("n", "8")) "," ALL(IS("n", "7"))),
        POLICY(ALL(
            ANY(IS("n", "1") "," ALL(IS("n", "7") "," IS("yes", "true"))) "," IS("sid", "\"aa\""))),
        POLICY("{\"authority\":\"https://kbs.example\",\"allOf\":[" IS("n", "7") "]}"),
    };
    struct kbs_error err;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (decide(rows[i], &err) != 0) {
            fail_msg("row %zu: %s", i, err.detail);
        }
        assert_int_equal(kbs_policy_check(kbs_span_str(rows[i]), &err), 0);
    }
}

static void denies(void **state)
{
    static const struct {
        const char *policy;
        const char *detail;
    } rows[] = {
        {"", "policy: none, so nothing is released"},
        {POLICY(ALL(IS("n", "8"))), "policy: anyOf[0] n differs"},
        {POLICY(ALL(IS("m", "8"))), "policy: anyOf[0] m is absent"},
        {POLICY(ALL(IS("n", "7") "," IS("kbs.pop", "true"))), "policy: anyOf[0] kbs.pop differs"},
        {POLICY(ANY(IS("n", "8") "," IS("n2", "9"))), "policy: anyOf[0] n differs"},
        {POLICY(ALL(IS("n", "8")) "," ANY(IS("x.y", "1"))),
         "policy: anyOf[0] n differs; anyOf[1] x.y is absent"},
        {POLICY(ALL(ANY(IS("n", "8") "," IS("n", "7")) "," IS("sid", "\"bb\""))),
         "policy: anyOf[0] sid differs"},
        {POLICY(ALL(IS("submods.cpu0.\\\"ear.status\\\"", "\"warning\""))),
         "policy: anyOf[0] submods.cpu0.\"ear.status\" differs"},
        {POLICY("{\"authority\":\"https://other\",\"allOf\":[" IS("n", "7") "]}"),
         "policy: anyOf[0] authority differs"},
        /* a token cannot speak for kbs, however the path is written */
        {POLICY(ALL(IS("kbs.binding", "\"full\""))), "policy: anyOf[0] kbs.binding differs"},
        {POLICY(ALL(IS("\\\"kbs\\\".binding", "\"full\""))),
         "policy: anyOf[0] \"kbs\".binding differs"},
        {POLICY(ALL(IS("kbs.sid", "\"aa\""))), "policy: anyOf[0] kbs.sid is absent"},
        /* by type and value */
        {POLICY(ALL(IS("n", "\"7\""))), "policy: anyOf[0] n differs"},
        {POLICY(ALL(IS("one", "1"))), "policy: anyOf[0] one differs"},
        {POLICY(ALL(IS("yes", "1"))), "policy: anyOf[0] yes differs"},
        {POLICY(ALL(IS("yes", "\"true\""))), "policy: anyOf[0] yes differs"},
        {POLICY(ALL(IS("zero", "false"))), "policy: anyOf[0] zero differs"},
        {POLICY(ALL(IS("null", "false"))), "policy: anyOf[0] null differs"},
        {POLICY(ALL(IS("null", "\"\""))), "policy: anyOf[0] null differs"},
        {POLICY(ALL(IS("real", "1"))), "policy: anyOf[0] real differs"},
        /* objects and arrays are not claims; dots in names need quotes */
        {POLICY(ALL(IS("list", "1"))), "policy: anyOf[0] list differs"},
        {POLICY(ALL(IS("list.0", "1"))), "policy: anyOf[0] list.0 is absent"},
        {POLICY(ALL(IS("n.x", "7"))), "policy: anyOf[0] n.x is absent"},
        {POLICY(ALL(IS("submods.cpu0.ear.status", "\"affirming\""))),
         "policy: anyOf[0] submods.cpu0.ear.status is absent"},
        {POLICY(ALL(IS("SID", "\"aa\""))), "policy: anyOf[0] SID is absent"},
    };
    struct kbs_error err;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_int_equal(decide(rows[i].policy, &err), -1);
        assert_int_equal(err.category, KBS_DENIED);
        assert_string_equal(err.detail, rows[i].detail);
    }
}

static void nothing_is_allowed_without_claims(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    assert_int_equal(
        kbs_policy_decide(KBS_SPAN_LIT(POLICY(ANY(IS("kbs.x", "false") "," IS("x", "false")))),
                          NULL, NULL, &err),
        -1);
    assert_int_equal(err.category, KBS_DENIED);
}

static const char *const malformed_rows[] = {
    "{}",
    "[]",
    "x",
    "{\"version\":\"1.0.0\"}",
    "{\"anyOf\":[" ALL(IS("n", "7")) "]}",
    "{\"version\":\"1.0\",\"anyOf\":[" ALL(IS("n", "7")) "]}",
    "{\"version\":1,\"anyOf\":[" ALL(IS("n", "7")) "]}",
    "{\"version\":\"1.0.0\",\"anyOf\":[]}",
    "{\"version\":\"1.0.0\",\"anyOf\":{}}",
    "{\"version\":\"1.0.0\",\"allOf\":[" ALL(IS("n", "7")) "]}",
    "{\"version\":\"1.0.0\",\"note\":1,\"anyOf\":[" ALL(IS("n", "7")) "]}",
    "{\"version\":\"1.0.0\",\"version\":\"1.0.0\",\"anyOf\":[" ALL(IS("n", "7")) "]}",
    POLICY("1"),
    POLICY("{}"),
    POLICY(IS("n", "7")),
    POLICY(ALL("")),
    POLICY(ANY("")),
    POLICY("{\"allOf\":{}}"),
    POLICY("{\"allOf\":[" IS("n", "7") "],\"anyOf\":[" IS("n", "7") "]}"),
    POLICY("{\"authority\":1,\"allOf\":[" IS("n", "7") "]}"),
    POLICY("{\"authority\":\"\",\"allOf\":[" IS("n", "7") "]}"),
    POLICY("{\"authority\":null,\"allOf\":[" IS("n", "7") "]}"),
    POLICY("{\"autority\":\"x\",\"allOf\":[" IS("n", "7") "]}"),
    POLICY(ALL("1")),
    POLICY(ALL("{}")),
    POLICY(ALL("{\"claim\":\"n\"}")),
    POLICY(ALL("{\"equals\":1}")),
    POLICY(ALL("{\"claim\":1,\"equals\":1}")),
    POLICY(ALL("{\"claim\":\"n\",\"equals\":1,\"allOf\":[]}")),
    POLICY(ALL("{\"claim\":\"n\",\"notEquals\":1}")),
    POLICY(ALL(ALL(""))),
    POLICY(ALL("{\"authority\":\"x\",\"allOf\":[" IS("n", "7") "]}")),
    POLICY(ALL(IS("n", "1.0"))),
    POLICY(ALL(IS("n", "null"))),
    POLICY(ALL(IS("n", "[1]"))),
    POLICY(ALL(IS("n", "{}"))),
    POLICY(ALL(IS("", "1"))),
    POLICY(ALL(IS(".n", "1"))),
    POLICY(ALL(IS("n.", "1"))),
    POLICY(ALL(IS("n..m", "1"))),
    POLICY(ALL(IS("kbs", "1"))),
    POLICY(ALL(IS("\\\"kbs\\\"", "1"))),
    POLICY(ALL(IS("kbs.", "1"))),
    POLICY(ALL(IS("\\\"n", "1"))),
    POLICY(ALL(IS("n\\\"", "1"))),
    POLICY(ALL(IS("\\\"\\\"", "1"))),
    POLICY(ALL(IS("\\\"n\\\"m", "1"))),
    POLICY(ALL(IS("a.\\\"n\\\"\\\"m\\\"", "1"))),
    POLICY(ALL(IS("n\\n", "1"))),
    POLICY(ALL(IS("\\u00e9", "1"))),
    POLICY(ALL(IS("\\\"a\\u0001\\\"", "1"))),
    POLICY(ALL(IS("a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", "1"))),
};

static void malformed(void **state)
{
    struct kbs_error err;

    (void)state;
    for (size_t i = 0; i < COUNT(malformed_rows); i++) {
        if (kbs_policy_check(kbs_span_str(malformed_rows[i]), &err) != -1) {
            fail_msg("accepted: %s", malformed_rows[i]);
        }
        assert_int_equal(err.category, KBS_INPUT);
        assert_int_equal(decide(malformed_rows[i], &err), -1);
        assert_int_equal(err.category, KBS_INTERNAL);
    }
    assert_int_equal(kbs_policy_check(KBS_SPAN_EMPTY, &err), -1);
    assert_int_equal(
        kbs_policy_check(kbs_span_str(POLICY(ALL(IS("n", "7")) "," ALL(IS("a..b", "7")))), &err),
        -1);
    assert_non_null(strstr(err.detail, "anyOf[1]"));
    assert_null(strstr(err.detail, "a..b"));
}

/* A policy whose lists nest `depth` deep, the two outer ones included. */
static void nested(struct kbs_buf *out, int depth)
{
    kbs_buf_clear(out);
    kbs_buf_put_str(out, "{\"version\":\"1.0.0\",\"anyOf\":[");
    for (int i = 1; i < depth; i++) {
        kbs_buf_put_str(out, "{\"allOf\":[");
    }
    kbs_buf_put_str(out, IS("n", "7"));
    for (int i = 1; i < depth; i++) {
        kbs_buf_put_str(out, "]}");
    }
    kbs_buf_put_str(out, "]}");
}

static void depth_and_size_are_bounded(void **state)
{
    struct kbs_buf out = KBS_BUF(1 << 20);
    struct kbs_error err;

    (void)state;
    nested(&out, KBS_LIMIT_POLICY_DEPTH);
    assert_int_equal(decide(kbs_buf_cstr(&out), &err), 0);
    nested(&out, KBS_LIMIT_POLICY_DEPTH + 1);
    assert_int_equal(kbs_policy_check(kbs_buf_span(&out), &err), -1);
    assert_non_null(strstr(err.detail, "nested"));

    kbs_buf_clear(&out);
    kbs_buf_put_str(&out, POLICY(ALL(IS("n", "7"))));
    while (out.len < KBS_LIMIT_POLICY_BYTES) {
        kbs_buf_put_u8(&out, ' ');
    }
    assert_int_equal(kbs_policy_check(kbs_buf_span(&out), &err), 0);
    kbs_buf_put_u8(&out, ' ');
    assert_int_equal(kbs_policy_check(kbs_buf_span(&out), &err), -1);
    assert_int_equal(err.category, KBS_TOO_LARGE);
    kbs_buf_deinit(&out);
}

/* Reasons that do not fit are left out whole; one path that does not fit is cut off. */
static void long_reasons(void **state)
{
    struct kbs_buf out = KBS_BUF(1 << 16);
    struct kbs_error err;

    (void)state;
    kbs_buf_put_str(&out, "{\"version\":\"1.0.0\",\"anyOf\":[");
    for (int i = 0; i < 100; i++) {
        kbs_buf_printf(&out, "%s" ALL(IS("claim%d", "1")), i > 0 ? "," : "", i);
    }
    kbs_buf_put_str(&out, "]}");
    assert_int_equal(decide(kbs_buf_cstr(&out), &err), -1);
    assert_int_equal(err.category, KBS_DENIED);
    assert_true(strncmp(err.detail, "policy: anyOf[0] claim0 is absent; anyOf[1] claim1 is absent;",
                        61) == 0);
    assert_string_equal(err.detail + strlen(err.detail) - strlen("is absent"), "is absent");

    kbs_buf_clear(&out);
    kbs_buf_put_str(&out,
                    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[{\"equals\":1,\"claim\":\"");
    for (int i = 0; i < 255; i++) {
        kbs_buf_put_u8(&out, 'c');
    }
    kbs_buf_put_str(&out, "\"}]}]}");
    assert_int_equal(decide(kbs_buf_cstr(&out), &err), -1);
    assert_int_equal(err.category, KBS_DENIED);
    assert_true(strncmp(err.detail, "policy: anyOf[0] cccc", 21) == 0);
    kbs_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allows),
        cmocka_unit_test(denies),
        cmocka_unit_test(nothing_is_allowed_without_claims),
        cmocka_unit_test(malformed),
        cmocka_unit_test(depth_and_size_are_bounded),
        cmocka_unit_test(long_reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
