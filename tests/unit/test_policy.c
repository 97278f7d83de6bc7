/*
 * Unit tests of release policies: the closed grammar, that what is absent is false, and what a
 * denial tells.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "policy/keeps.h"
#include "policy/release.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define POLICY(entries) "{\"version\":\"1.0.0\",\"anyOf\":[" entries "]}"
#define ALL(conditions) "{\"allOf\":[" conditions "]}"
#define ANY(conditions) "{\"anyOf\":[" conditions "]}"
#define ASK(claim, operator, value) "{\"claim\":\"" claim "\",\"" operator"\":" value "}"
#define IS(claim, value) ASK(claim, "equals", value)
#define NOT(condition) "{\"not\":" condition "}"

#define INPUT                                                                                                                                    \
    "{\"iss\":\"https://kbs.example\",\"sid\":\"aa\",\"kbs\":{\"binding\":\"full\"},\"n\":7,\"yes\":true,\"no\":false,"                          \
    "\"zero\":0,\"one\":\"1\",\"null\":null,\"list\":[1],\"real\":1.5,\"version\":\"1.55.22\",\"a\":{\"b\":\"dotted path\"},\"a.b\":\"quoted\"," \
    "\"submods\":{\"cpu0\":{\"ear.status\":\"affirming\",\"ear.veraison.annotated-evidence\":"                                                   \
    "{\"sample\":{\"svn\":\"1\"}}}}}"
#define KBS "{\"binding\":\"evidence\",\"pop\":false,\"key\":{\"version\":3}}"

static int decide(const char *policy, struct kbs_error *err)
{
    KBS_AUTO_JSON input = json_loads(INPUT, 0, NULL);
    KBS_AUTO_JSON kbs = json_loads(KBS, 0, NULL);

    assert_non_null(input);
    assert_non_null(kbs);
    *err = KBS_ERROR_NONE;
    return kbs_policy_decide(kbs_span_str(policy),
                             &(struct kbs_policy_subject){.input = input, .kbs = kbs}, err);
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
        {POLICY(ANY(IS("n", "8") "," IS("n2", "9"))), "policy: anyOf[0] n2 is absent"},
        {POLICY(ANY(IS("n", "8") "," IS("n", "9"))), "policy: anyOf[0] n differs"},
        {"{\"version\":\"1.0.0\",\"allOf\":[" ALL(IS("n", "7")) "," ALL(IS("sid", "\"x\"")) "]}",
         "policy: allOf[1] sid differs"},
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
        {POLICY(ALL(IS("n", "\"7\""))), "policy: anyOf[0] n is of another type"},
        {POLICY(ALL(IS("one", "1"))), "policy: anyOf[0] one is of another type"},
        {POLICY(ALL(IS("yes", "1"))), "policy: anyOf[0] yes is of another type"},
        {POLICY(ALL(IS("yes", "\"true\""))), "policy: anyOf[0] yes is of another type"},
        {POLICY(ALL(IS("zero", "false"))), "policy: anyOf[0] zero is of another type"},
        {POLICY(ALL(IS("null", "false"))), "policy: anyOf[0] null is absent"},
        {POLICY(ALL(IS("null", "\"\""))), "policy: anyOf[0] null is absent"},
        {POLICY(ALL(IS("real", "1"))), "policy: anyOf[0] real is of another type"},
        /* objects and arrays are not claims; dots in names need quotes */
        {POLICY(ALL(IS("list", "1"))), "policy: anyOf[0] list is of another type"},
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
                          &(struct kbs_policy_subject){.input = NULL}, &err),
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
    POLICY(ALL("{\"claim\":\"n\",\"matches\":1}")),
    POLICY(ALL("{\"claim\":\"n\",\"equals\":1,\"notEquals\":2}")),
    POLICY(ALL(ASK("n", "in", "[]"))),
    POLICY(ALL(ASK("n", "in", "7"))),
    POLICY(ALL(ASK("n", "in", "[7,1.5]"))),
    POLICY(ALL(ASK("n", "in", "[7,[8]]"))),
    POLICY(ALL(ASK("n", "prefix", "\"\""))),
    POLICY(ALL(ASK("n", "prefix", "7"))),
    POLICY(ALL(ASK("n", "at-least", "true"))),
    POLICY(ALL(ASK("n", "at-least", "\"\""))),
    POLICY(ALL(ASK("n", "at-least", "\"1.\""))),
    POLICY(ALL(ASK("n", "at-least", "\".1\""))),
    POLICY(ALL(ASK("n", "at-least", "\"1..2\""))),
    POLICY(ALL(ASK("n", "at-least", "\"-1\""))),
    POLICY(ALL(ASK("n", "at-least", "\"1.2b\""))),
    POLICY(ALL(ASK("n", "at-least", "\"1234567890\""))),
    POLICY(ALL(ASK("n", "at-least", "\"1.2.3.4.5.6.7.8.9\""))),
    POLICY(ALL(ASK("n", "greater", "\"7\""))),
    POLICY(ALL(ASK("n", "less", "7.5"))),
    POLICY(ALL(ASK("n", "exists", "1"))),
    POLICY(ALL("{\"not\":[]}")),
    POLICY(ALL("{\"not\":{}}")),
    POLICY(ALL("{\"not\":" IS("n", "7") ",\"allOf\":[" IS("n", "7") "]}")),
    POLICY(ALL("{\"not\":" IS("n..", "7") "}")),
    POLICY("{\"not\":" ALL(IS("n", "7")) "}"),
    "{\"version\":\"1.0.0\",\"anyOf\":[" ALL(IS("n", "7")) "],\"allOf\":[" ALL(IS("n", "7")) "]}",
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

/* ---- operators ---- */

/* What a condition comes to, told from outside: it releases, its not does, or neither. */
static char outcome(const char *condition)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    struct kbs_error err;
    char result = '?';

    kbs_buf_printf(&text, POLICY(ALL("%s")), condition);
    if (decide(kbs_buf_cstr(&text), &err) == 0) {
        result = 'T';
    }
    kbs_buf_clear(&text);
    kbs_buf_printf(&text, POLICY(ALL(NOT("%s"))), condition);
    if (decide(kbs_buf_cstr(&text), &err) == 0) {
        assert_int_not_equal(result, 'T');
        result = 'F';
    }
    assert_true(result != '?' || err.category == KBS_DENIED);
    kbs_buf_deinit(&text);
    return result;
}

static void operators(void **state)
{
    static const struct {
        char expected; /* true, false, unknown */
        const char *condition;
    } rows[] = {
        {'T', IS("n", "7")},
        {'F', IS("n", "8")},
        {'?', IS("n", "\"7\"")},
        {'?', IS("none", "7")},
        {'?', IS("null", "\"\"")},
        {'?', IS("list", "1")},
        {'?', IS("a", "1")},
        {'?', IS("real", "1")},
        {'F', ASK("n", "notEquals", "7")},
        {'T', ASK("n", "notEquals", "8")},
        {'?', ASK("n", "notEquals", "\"8\"")},
        {'?', ASK("none", "notEquals", "8")},
        {'?', ASK("yes", "notEquals", "\"true\"")},
        {'T', ASK("n", "in", "[1,7]")},
        {'T', ASK("n", "in", "[\"7\",7]")},
        {'F', ASK("n", "in", "[1,\"7\"]")},
        {'?', ASK("n", "in", "[\"7\",true]")},
        {'?', ASK("none", "in", "[1]")},
        {'T', ASK("kbs.binding", "in", "[\"full\",\"evidence\"]")},
        {'T', ASK("iss", "prefix", "\"https://kbs.\"")},
        {'T', ASK("iss", "prefix", "\"https://kbs.example\"")},
        {'F', ASK("iss", "prefix", "\"https://kbs.example/\"")},
        {'F', ASK("iss", "prefix", "\"kbs\"")},
        {'?', ASK("n", "prefix", "\"7\"")},
        {'?', ASK("none", "prefix", "\"7\"")},
        {'T', ASK("n", "at-least", "7")},
        {'F', ASK("n", "at-least", "8")},
        {'T', ASK("n", "at-least", "-8")},
        {'?', ASK("n", "at-least", "\"7\"")},
        {'?', ASK("one", "at-least", "1")},
        {'T', ASK("one", "at-least", "\"1\"")},
        {'T', ASK("one", "at-least", "\"1.0.0\"")},
        {'F', ASK("one", "at-least", "\"1.0.1\"")},
        {'T', ASK("version", "at-least", "\"1.55.22\"")},
        {'T', ASK("version", "at-least", "\"1.9\"")},
        {'T', ASK("version", "at-least", "\"0.999.999\"")},
        {'T', ASK("version", "at-least", "\"01.055\"")},
        {'F', ASK("version", "at-least", "\"1.55.22.1\"")},
        {'F', ASK("version", "at-least", "\"1.56\"")},
        {'F', ASK("version", "at-least", "\"2\"")},
        {'?', ASK("sid", "at-least", "\"1\"")},
        {'?', ASK("yes", "at-least", "1")},
        {'?', ASK("none", "at-least", "0")},
        {'F', ASK("n", "greater", "7")},
        {'T', ASK("n", "greater", "6")},
        {'T', ASK("n", "greaterOrEquals", "7")},
        {'F', ASK("n", "less", "7")},
        {'T', ASK("n", "less", "8")},
        {'T', ASK("n", "lessOrEquals", "7")},
        {'?', ASK("one", "less", "8")},
        {'?', ASK("none", "less", "8")},
        {'T', ASK("n", "exists", "true")},
        {'F', ASK("n", "exists", "false")},
        {'F', ASK("none", "exists", "true")},
        {'T', ASK("none", "exists", "false")},
        {'F', ASK("null", "exists", "true")},
        {'T', ASK("list", "exists", "true")},
        {'T', NOT(IS("n", "8"))},
        {'F', NOT(IS("n", "7"))},
        {'?', NOT(IS("none", "7"))},
        {'?', NOT(IS("yes", "\"true\""))},
        {'T', NOT(NOT(IS("n", "7")))},
        {'?', NOT(NOT(IS("none", "7")))},
        {'T', NOT(ALL(IS("none", "7") "," IS("n", "8")))},
        {'?', NOT(ALL(IS("none", "7") "," IS("n", "7")))},
        {'?', NOT(ANY(IS("none", "7") "," IS("n", "8")))},
        {'F', NOT(ANY(IS("none", "7") "," IS("n", "7")))},
        {'T', ANY(ASK("none", "exists", "false") "," NOT(IS("none", "7")))},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (outcome(rows[i].condition) != rows[i].expected) {
            fail_msg("%s: not %c", rows[i].condition, rows[i].expected);
        }
    }
}

static void reasons_of_operators(void **state)
{
    static const struct {
        const char *condition;
        const char *detail;
    } rows[] = {
        {ASK("n", "at-least", "8"), "policy: anyOf[0] n is too low"},
        {ASK("n", "less", "7"), "policy: anyOf[0] n is too high"},
        {ASK("n", "exists", "false"), "policy: anyOf[0] n is there"},
        {ASK("none", "exists", "true"), "policy: anyOf[0] none is absent"},
        {ASK("n", "notEquals", "7"), "policy: anyOf[0] n is excluded"},
        {ASK("iss", "prefix", "\"x\""), "policy: anyOf[0] iss differs"},
        {ASK("n", "in", "[\"7\"]"), "policy: anyOf[0] n is of another type"},
        {NOT(IS("n", "7")), "policy: anyOf[0] n is ruled out"},
        {NOT(IS("none", "7")), "policy: anyOf[0] none is absent"},
        {NOT(ANY(IS("n", "8") "," IS("n", "7"))), "policy: anyOf[0] n is ruled out"},
        {NOT(ALL(IS("n", "7") "," IS("none", "7"))), "policy: anyOf[0] none is absent"},
    };
    char policy[512];
    struct kbs_error err;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        (void)snprintf(policy, sizeof(policy), POLICY(ALL("%s")), rows[i].condition);
        assert_int_equal(decide(policy, &err), -1);
        assert_string_equal(err.detail, rows[i].detail);
    }
}

/* ---- properties of nested conditions ---- */

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 16;
}

/* A condition that nests at most `depth` deep, and what it must come to: 0, 1, 2 for F, ?, T. */
static int random_condition(struct kbs_buf *out, uint32_t *seed, int depth)
{
    static const char *const leaves[] = {IS("n", "8"), IS("none", "1"), IS("n", "7")};
    uint32_t kind = depth == 0 ? 0 : next_random(seed) % 4;
    int result = kind == 2 ? 2 : 0; /* of an empty allOf, and of an empty anyOf */

    if (kind == 0) {
        result = (int)(next_random(seed) % 3);
        kbs_buf_put_str(out, leaves[result]);
        return result;
    }
    if (kind == 1) {
        kbs_buf_put_str(out, "{\"not\":");
        result = 2 - random_condition(out, seed, depth - 1);
        kbs_buf_put_u8(out, '}');
        return result;
    }
    kbs_buf_put_str(out, kind == 2 ? "{\"allOf\":[" : "{\"anyOf\":[");
    for (uint32_t i = 0, n = 1 + next_random(seed) % 3; i < n; i++) {
        kbs_buf_put_str(out, i > 0 ? "," : "");
        int one = random_condition(out, seed, depth - 1);
        result = (kind == 2) == (one < result) && one != result ? one : result;
    }
    kbs_buf_put_str(out, "]}");
    return result;
}

static void nesting_is_kleenes_logic(void **state)
{
    static const char expected[] = {'F', '?', 'T'};
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_POLICY_BYTES / 2);
    size_t seen[3] = {0};

    (void)state;
    for (uint32_t seed = 1; seed <= 3000; seed++) {
        uint32_t random = seed;

        kbs_buf_clear(&text);
        int result = random_condition(&text, &random, KBS_LIMIT_POLICY_DEPTH - 3);
        if (outcome(kbs_buf_cstr(&text)) != expected[result]) {
            fail_msg("seed %u, not %c: %s", seed, expected[result], kbs_buf_cstr(&text));
        }
        seen[result]++;
    }
    assert_true(seen[0] > 300 && seen[1] > 300 && seen[2] > 300);
    kbs_buf_deinit(&text);
}

/* ---- authorities ---- */

static void authorities(void **state)
{
    static const struct {
        const char *entry;
        const char *detail; /* NULL: allowed */
    } rows[] = {
        {"{\"authority\":\"https://maa\",\"allOf\":[" IS("x-ms-ver", "\"1.0\"") "]}", NULL},
        {"{\"authority\":\"https://kbs.example\",\"allOf\":[" IS("n", "7") "]}", NULL},
        {"{\"allOf\":[" IS("n", "7") "]}", NULL},
        {"{\"authority\":\"https://maa\",\"allOf\":[" IS("kbs.pop", "false") "]}", NULL},
        /* the claims of one are not the other's */
        {"{\"authority\":\"https://maa\",\"allOf\":[" IS("n", "7") "]}",
         "policy: anyOf[0] n is absent"},
        {"{\"authority\":\"https://kbs.example\",\"allOf\":[" IS("x-ms-ver", "\"1.0\"") "]}",
         "policy: anyOf[0] x-ms-ver is absent"},
        {"{\"allOf\":[" IS("x-ms-ver", "\"1.0\"") "]}", "policy: anyOf[0] x-ms-ver is absent"},
        /* nor does it speak for kbs */
        {"{\"authority\":\"https://maa\",\"allOf\":[" IS("kbs.pop", "true") "]}",
         "policy: anyOf[0] kbs.pop differs"},
        {"{\"authority\":\"https://maa/\",\"allOf\":[" IS("x-ms-ver", "\"1.0\"") "]}",
         "policy: anyOf[0] authority differs"},
        {"{\"authority\":\"https://m\",\"allOf\":[" NOT(IS("x-ms-ver", "\"2.0\"")) "]}",
         "policy: anyOf[0] authority differs"},
    };
    KBS_AUTO_JSON input = json_loads(INPUT, 0, NULL);
    KBS_AUTO_JSON kbs = json_loads(KBS, 0, NULL);
    KBS_AUTO_JSON maa = json_loads("{\"x-ms-ver\":\"1.0\",\"kbs\":{\"pop\":true}}", 0, NULL);
    const struct kbs_policy_subject subject = {
        .input = input, .kbs = kbs, .authority = KBS_SPAN_LIT("https://maa"), .vouched = maa};
    char policy[512];
    struct kbs_error err;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        (void)snprintf(policy, sizeof(policy), POLICY("%s"), rows[i].entry);
        int rc = kbs_policy_decide(kbs_span_str(policy), &subject, &err);
        assert_int_equal(rc, rows[i].detail != NULL ? -1 : 0);
        if (rc != 0) {
            assert_string_equal(err.detail, rows[i].detail);
        }
    }
}

/* An authority of which nothing is known to have been said: not even what it did not say counts. */
static void silent_authority(void **state)
{
    static const char policy[] =
        POLICY("{\"authority\":\"https://maa\",\"allOf\":[" ASK("x", "exists", "false") "]}");
    const struct kbs_policy_subject subject = {.authority = KBS_SPAN_LIT("https://maa")};
    struct kbs_error err;

    (void)state;
    assert_int_equal(kbs_policy_decide(kbs_span_str(policy), &subject, &err), -1);
    assert_string_equal(err.detail, "policy: anyOf[0] authority differs");
}

/* ---- explanations ---- */

static void explanations(void **state)
{
    static const char policy[] = POLICY(ALL(IS("n", "7") "," NOT(ANY(IS("none", "1") "," IS(
        "sid", "\"bb\"")))) ","
                            "{\"authority\":\"https://maa\",\"anyOf\":[" IS("n", "7") "]}," ANY(
                                ASK("kbs.key.version", "at-least", "4") "," IS("sid", "\"bb\"")));
    static const char expected[] =
        "deny: policy: anyOf[0] none is absent; anyOf[1] authority differs; anyOf[2] "
        "kbs.key.version is too low\n"
        "  unknown anyOf\n"
        "  unknown   allOf\n"
        "  true        n equals 7\n"
        "  unknown     not\n"
        "  unknown       anyOf\n"
        "> unknown         none equals 1: is absent\n"
        "  false           sid equals \"bb\": differs, it is \"aa\"\n"
        "> false     anyOf of authority \"https://maa\": another authority\n"
        "  false     anyOf\n"
        "> false       kbs.key.version at-least 4: is too low, it is 3\n"
        "  false       sid equals \"bb\": differs, it is \"aa\"\n";
    KBS_AUTO_JSON input = json_loads(INPUT, 0, NULL);
    KBS_AUTO_JSON kbs = json_loads(KBS, 0, NULL);
    const struct kbs_policy_subject subject = {.input = input, .kbs = kbs};
    struct kbs_buf text = KBS_BUF(1 << 16);
    struct kbs_error err;
    KBS_AUTO_JSON tree = NULL;

    (void)state;
    assert_int_equal(kbs_policy_load(kbs_span_str(policy), &tree, &err), 0);
    KBS_AUTO_JSON explained = kbs_policy_explain(tree, &subject);
    kbs_policy_explain_put(&text, explained);
    assert_string_equal(kbs_buf_cstr(&text), expected);
    kbs_buf_deinit(&text);
}

/* Whatever the claims are like, an explanation shows scalars of bounded length only. */
static void explanations_are_bounded(void **state)
{
    KBS_AUTO_JSON tree = NULL;
    struct kbs_buf text = KBS_BUF(1 << 16);
    struct kbs_error err;
    char claim[1000];

    (void)state;
    memset(claim, 'x', sizeof(claim));
    KBS_AUTO_JSON input = json_pack("{s:s%, s:{s:i}, s:[i]}", "long", claim, sizeof(claim),
                                    "object", "a", 1, "list", 1);
    assert_int_equal(
        kbs_policy_load(
            KBS_SPAN_LIT(POLICY(ANY(IS("long", "1") "," IS("object", "1") "," IS("list", "1")))),
            &tree, &err),
        0);
    KBS_AUTO_JSON explained =
        kbs_policy_explain(tree, &(struct kbs_policy_subject){.input = input});
    kbs_policy_explain_put(&text, explained);
    assert_non_null(strstr(kbs_buf_cstr(&text), "it is \"(a long text)\""));
    assert_non_null(strstr(kbs_buf_cstr(&text), "it is \"(an object)\""));
    assert_non_null(strstr(kbs_buf_cstr(&text), "it is \"(an array)\""));
    kbs_buf_deinit(&text);
}

/* What is kept for guests: terms are read as they stand, and anything else in their place is an error. */
static void keeps(void **state)
{
    static const char *const wrong[][2] = {
        {"[]", "\"provision\": not an object"},
        {"{\"quota\":1}", "\"identity\" is not an array of at least one field"},
        {"{\"identity\":[],\"quota\":1}", "\"identity\" is not an array of at least one field"},
        {"{\"identity\":[\"svn\"],\"quota\":1}", "\"identity\" names each of"},
        {"{\"identity\":[7],\"quota\":1}", "\"identity\" names each of"},
        {"{\"identity\":[\"chip-id\",\"chip-id\"],\"quota\":1}", "\"identity\" names each of"},
        {"{\"identity\":[\"chip-id\"]}", "quota"},
        {"{\"identity\":[\"chip-id\"],\"quota\":0}", "\"quota\" is not 1 to"},
        {"{\"identity\":[\"chip-id\"],\"quota\":100001}", "\"quota\" is not 1 to"},
        {"{\"identity\":[\"chip-id\"],\"quota\":1,\"once\":1}", "\"once\" is not"},
        {"{\"identity\":[\"chip-id\"],\"quota\":1,\"who\":1}", "is unknown"},
    };
    const char *good = "{\"version\":\"1.0.0\",\"anyOf\":[" ALL(
        IS("n", "7")) "],\"provision\":{\"identity\":[\"chip-id\",\"measurement\"],\"quota\":9,"
                      "\"once\":true}}";
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_keeps_terms terms;
    KBS_AUTO_JSON policy = NULL;
    char text[512];

    (void)state;
    assert_int_equal(kbs_policy_load(kbs_span_str(good), &policy, &err), 0);
    assert_int_equal(decide(good, &err), 0); /* they decide nothing about a release */
    assert_int_equal(kbs_keeps_terms(policy, KBS_KEEPS_PROVISION, &terms, &err), 0);
    assert_int_equal(terms.identity, 1u << KBS_NEK_CHIP_ID | 1u << KBS_NEK_MEASUREMENT);
    assert_int_equal(terms.quota, 9);
    assert_true(terms.once);
    assert_int_equal(kbs_keeps_terms(policy, KBS_KEEPS_REGISTER, &terms, &err), -1);
    assert_int_equal(err.category, KBS_DENIED);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        (void)snprintf(text, sizeof(text),
                       "{\"version\":\"1.0.0\",\"anyOf\":[" ALL(IS("n", "7")) "],\"provision\":%s}",
                       wrong[i][0]);
        assert_int_equal(kbs_policy_check(kbs_span_str(text), &err), -1);
        assert_int_equal(err.category, KBS_INPUT);
        if (strstr(err.detail, wrong[i][1]) == NULL) {
            fail_msg("row %zu: %s", i, err.detail);
        }
    }
    assert_int_equal(
        kbs_policy_check(KBS_SPAN_LIT("{\"version\":\"1.0.0\",\"anyOf\":[" ALL(
                             IS("n", "7")) "],\"register\":{\"identity\":[\"chip-id\"],\"quota\":1,"
                                           "\"once\":true}}"),
                         &err),
        -1);
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
        cmocka_unit_test(operators),
        cmocka_unit_test(reasons_of_operators),
        cmocka_unit_test(nesting_is_kleenes_logic),
        cmocka_unit_test(authorities),
        cmocka_unit_test(silent_authority),
        cmocka_unit_test(explanations),
        cmocka_unit_test(keeps),
        cmocka_unit_test(explanations_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
