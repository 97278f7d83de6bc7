/*
 * Unit tests of strict JSON and its canonical form: what must be refused, and that one value has
 * one text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/encoding.h"
#include "jose/read/json.h"
#include "vectors.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int parse(struct kbs_span text, json_t **ret, struct kbs_error *err)
{
    *err = KBS_ERROR_NONE;
    return kbs_json_parse_object(text, "it", ret, err);
}

static void parse_takes_objects_only(void **state)
{
    static const char *const good[] = {"{}", " {\"a\":[1,null,true,1.5e3]}\n", "{\"\":{\"\":0}}",
                                       "{\"a\":\"\\ud83d\\ude00 \\\" { [\"}"};
    static const char *const bad[] = {"",
                                      " ",
                                      "[]",
                                      "1",
                                      "\"a\"",
                                      "null",
                                      "{",
                                      "{}}",
                                      "{}{}",
                                      "{} x",
                                      "{\"a\":1,}",
                                      "{'a':1}",
                                      "{a:1}",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"b\":{\"a\":1,\"a\":1}}",
                                      "{\"a\":1,\"\\u0061\":1}",
                                      "{\"a\":\"\\u0000\"}",
                                      "{\"\\u0000\":1}",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\":\"\xed\xa0\x80\"}",
                                      "{\"a\":\"\\ud800\"}",
                                      "{\"a\":\"\\udc00\\ud800\"}",
                                      "{\"a\":01}",
                                      "{\"a\":+1}",
                                      "{\"a\":1e999}",
                                      "{\"a\":99999999999999999999}",
                                      "{\"a\":NaN}",
                                      "\xef\xbb\xbf{}",
                                      "{}//",
                                      "{\"a\":\"\x01\"}"};

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        KBS_AUTO_JSON v = NULL;
        struct kbs_error err;

        assert_int_equal(parse(kbs_span_str(good[i]), &v, &err), 0);
        assert_true(json_is_object(v));
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        KBS_AUTO_JSON v = NULL;
        struct kbs_error err;

        if (parse(kbs_span_str(bad[i]), &v, &err) != -1) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_null(v);
        assert_int_equal(err.category, KBS_INPUT);
    }
}

static void nul_bytes_are_refused_everywhere(void **state)
{
    const struct kbs_span rows[] = {KBS_SPAN_LIT("{\"a\":1\0}"),
                                    KBS_SPAN_LIT("{}\0"),
                                    KBS_SPAN_LIT("\0{}"),
                                    KBS_SPAN_LIT("{\"a\0b\":1}"),
                                    KBS_SPAN_LIT("{\"a\":\"\\\0\"}"),
                                    KBS_SPAN_LIT("{\"a\":1.0\0}"),
                                    KBS_SPAN_LIT("{\"a\":true\0}")};

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        KBS_AUTO_JSON v = NULL;
        struct kbs_error err;

        assert_int_equal(parse(rows[i], &v, &err), -1);
        assert_int_equal(err.category, KBS_INPUT);
    }
}

static void nest(struct kbs_buf *out, int depth)
{
    kbs_buf_clear(out);
    for (int i = 0; i < depth; i++) {
        kbs_buf_put_str(out, "{\"a\":");
    }
    kbs_buf_put_str(out, "\"[[[[{{{{\"");
    for (int i = 0; i < depth; i++) {
        kbs_buf_put_u8(out, '}');
    }
}

static void size_and_depth_are_bounded(void **state)
{
    struct kbs_buf text = KBS_BUF(1 << 20);
    KBS_AUTO_JSON v = NULL;
    struct kbs_error err;

    (void)state;
    nest(&text, KBS_LIMIT_JSON_DEPTH);
    assert_int_equal(parse(kbs_buf_span(&text), &v, &err), 0);
    kbs_json_cleanup(&v);
    nest(&text, KBS_LIMIT_JSON_DEPTH + 1);
    assert_int_equal(parse(kbs_buf_span(&text), &v, &err), -1);
    assert_non_null(strstr(err.detail, "nested"));

    kbs_buf_clear(&text);
    kbs_buf_put_str(&text, "{\"a\":[{}");
    for (int i = 0; i < 200000; i++) {
        kbs_buf_put_str(&text, ",{}");
    }
    kbs_buf_put_str(&text, "]}");
    assert_int_equal(parse(kbs_buf_span(&text), &v, &err), -1);
    assert_non_null(strstr(err.detail, "values"));
    kbs_buf_deinit(&text);
}

static void errors_say_where_but_never_what(void **state)
{
    KBS_AUTO_JSON v = NULL;
    struct kbs_error err;

    (void)state;
    assert_int_equal(parse(KBS_SPAN_LIT("{\n \"secretname\": s3cr3t }"), &v, &err), -1);
    assert_null(strstr(err.detail, "s3cr3t"));
    assert_non_null(strstr(err.detail, "line 2"));
    assert_int_equal(parse(KBS_SPAN_LIT("{\"secretname\":1,\"secretname\":2}"), &v, &err), -1);
    assert_null(strstr(err.detail, "secretname"));
    assert_non_null(strstr(err.detail, "duplicate"));
}

/* Refused though JSONTestSuite says yes, and what the refusal says. */
static const char *refused_on_purpose(const char *name)
{
    static const struct {
        const char *name;
        const char *reason;
    } rows[] = {
        {"y_object_duplicated_key.json", "duplicate member"},
        {"y_object_duplicated_key_and_value.json", "duplicate member"},
        {"y_object_escaped_null_in_key.json", "not valid JSON"}, /* a NUL in a name */
        {"y_string_null_escape.json", "not valid JSON"},         /* a NUL in a string */
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        if (strcmp(name, rows[i].name) == 0) {
            return rows[i].reason;
        }
    }
    return NULL;
}

/*
 * A value in an object has the suite's meaning: a text is JSON if {"x":TEXT} is, but for texts that
 * close it.
 */
static int suite_parse(struct kbs_span bytes, json_t **ret, struct kbs_error *err)
{
    struct kbs_buf wrapped = KBS_BUF(1 << 20);
    int r;

    kbs_buf_put_str(&wrapped, "{\"x\":");
    kbs_buf_put_span(&wrapped, bytes);
    kbs_buf_put_u8(&wrapped, '}');
    r = parse(kbs_buf_span(&wrapped), ret, err);
    kbs_buf_deinit(&wrapped);
    return r;
}

/* Files of a kind (y: JSON, n: not, i: either) that were taken and refused. */
struct suite_counts {
    size_t taken;
    size_t refused;
};

static void suite_judge(const char *name, bool taken, const char *detail)
{
    const char *reason = refused_on_purpose(name);

    if (name[0] == 'n' && taken) {
        fail_msg("accepted: %s", name);
    }
    if (name[0] == 'y' && taken != (reason == NULL)) {
        fail_msg("%s: %s", taken ? "accepted" : "refused", name);
    }
    if (reason != NULL && strstr(detail, reason) == NULL) {
        fail_msg("%s: \"%s\" instead of \"%s\"", name, detail, reason);
    }
    if (name[0] == 'i' || reason != NULL) {
        print_message("    %-8s %s%s%s\n", taken ? "taken" : "refused", name, taken ? "" : ": ",
                      taken ? "" : detail);
    }
}

/*
 * The roles read objects only, so each text is given as it is (nothing but an object may be taken)
 * and as a member's value, which tells whether it is JSON.
 */
static void suite_line(struct kbs_span line, struct suite_counts counts[3])
{
    KBS_AUTO_JSON row = NULL;
    KBS_AUTO_JSON plain = NULL;
    KBS_AUTO_JSON wrapped = NULL;
    struct kbs_buf bytes = KBS_BUF(1 << 20);
    struct suite_counts *kind;
    struct kbs_error err;
    struct kbs_span text;

    assert_int_equal(parse(line, &row, &err), 0);
    assert_int_equal(kbs_json_get_string(row, "bytes", &text, &err), 0);
    assert_int_equal(kbs_base64_get(&bytes, text), 0);
    const char *name = json_string_value(json_object_get(row, "name"));
    kind = &counts[name[0] == 'y' ? 0 : name[0] == 'n' ? 1 : 2];
    bool taken = parse(kbs_buf_span(&bytes), &plain, &err) == 0;
    if (taken && (name[0] == 'n' || !json_is_object(plain))) {
        fail_msg("accepted: %s", name);
    }
    bool taken_wrapped = suite_parse(kbs_buf_span(&bytes), &wrapped, &err) == 0;
    suite_judge(name, taken_wrapped, err.detail);
    if (taken && !taken_wrapped) {
        fail_msg("accepted as an object, refused in one: %s", name);
    }
    kind->taken += taken_wrapped ? 1 : 0;
    kind->refused += taken_wrapped ? 0 : 1;
    kbs_buf_deinit(&bytes);
}

/* Two n_ files of 100 KB and more, which are one text repeated; made here. */
static void suite_line_repeated(const char *name, const char *text, int times,
                                struct suite_counts *kind)
{
    struct kbs_buf bytes = KBS_BUF(1 << 20);
    KBS_AUTO_JSON v = NULL;
    struct kbs_error err;

    for (int i = 0; i < times; i++) {
        kbs_buf_put_str(&bytes, text);
    }
    if (parse(kbs_buf_span(&bytes), &v, &err) == 0 ||
        suite_parse(kbs_buf_span(&bytes), &v, &err) == 0) {
        fail_msg("accepted: %s", name);
    }
    assert_non_null(strstr(err.detail, "nested"));
    kind->refused++;
    kbs_buf_deinit(&bytes);
}

static void json_test_suite(void **state)
{
    struct kbs_buf file = KBS_BUF(1 << 20);
    struct suite_counts counts[3] = {{0, 0}};
    struct kbs_span rest;

    (void)state;
    vectors_read("json/JSONTestSuite.jsonl", &file);
    rest = kbs_buf_span(&file);
    while (rest.len > 0) {
        const uint8_t *end = memchr(rest.p, '\n', rest.len);
        size_t n = end != NULL ? (size_t)(end - rest.p) : rest.len;

        if (n > 0) {
            suite_line(kbs_span(rest.p, n), counts);
        }
        rest = kbs_span_skip(rest, n + 1);
    }
    suite_line_repeated("n_structure_100000_opening_arrays.json", "[", 100000, &counts[1]);
    suite_line_repeated("n_structure_open_array_object.json", "[{\"\":", 50000, &counts[1]);
    for (size_t i = 0; i < 3; i++) {
        print_message("JSONTestSuite %c_: %zu files, %zu taken, %zu refused\n", "yni"[i],
                      counts[i].taken + counts[i].refused, counts[i].taken, counts[i].refused);
    }
    assert_int_equal(counts[0].taken, 91);
    assert_int_equal(counts[0].refused, 4);
    assert_int_equal(counts[1].refused, 188);
    assert_int_equal(counts[2].taken + counts[2].refused, 35);
    kbs_buf_deinit(&file);
}

static void members_are_typed(void **state)
{
    static const char *const names[] = {"s", "i", "o", "n", NULL};
    static const char *const fewer[] = {"s", "i", "o", NULL};
    KBS_AUTO_JSON v = NULL;
    struct kbs_error err;
    struct kbs_span s;
    json_t *o;
    int64_t i;

    (void)state;
    assert_int_equal(parse(KBS_SPAN_LIT("{\"s\":\"t\",\"i\":-7,\"o\":{},\"n\":null}"), &v, &err),
                     0);
    assert_int_equal(kbs_json_get_string(v, "s", &s, &err), 0);
    assert_true(kbs_span_equal_str(s, "t"));
    assert_int_equal(kbs_json_get_integer(v, "i", &i, &err), 0);
    assert_int_equal(i, -7);
    assert_int_equal(kbs_json_get_object(v, "o", &o, &err), 0);
    assert_int_equal(kbs_json_opt_string(v, "n", &s, &err), 0);
    assert_int_equal(s.len, 0);
    assert_int_equal(kbs_json_opt_string(v, "absent", &s, &err), 0);
    assert_int_equal(kbs_json_opt_string(v, "i", &s, &err), -1);
    assert_int_equal(kbs_json_get_string(v, "n", &s, &err), -1);
    assert_int_equal(kbs_json_get_string(v, "absent", &s, &err), -1);
    assert_string_equal(err.detail, "\"absent\" is missing");
    assert_int_equal(kbs_json_get_integer(v, "s", &i, &err), -1);
    assert_int_equal(kbs_json_get_object(v, "s", &o, &err), -1);
    assert_int_equal(err.category, KBS_INPUT);
    assert_int_equal(kbs_json_only(v, names, &err), 0);
    assert_int_equal(kbs_json_only(v, fewer, &err), -1);
}

static void dump_keeps_order(void **state)
{
    struct kbs_buf out = KBS_BUF(64);
    KBS_AUTO_JSON v = NULL;
    struct kbs_error err;

    (void)state;
    assert_int_equal(parse(KBS_SPAN_LIT("{ \"b\": 1, \"a\": [ true ] }"), &v, &err), 0);
    assert_int_equal(kbs_json_dump(v, &out, &err), 0);
    assert_string_equal(kbs_buf_cstr(&out), "{\"b\":1,\"a\":[true]}");
    kbs_buf_deinit(&out);
    kbs_buf_init(&out, 4);
    assert_int_equal(kbs_json_dump(v, &out, &err), -1);
    assert_int_equal(err.category, KBS_TOO_LARGE);
    kbs_buf_deinit(&out);
}

static void canonical_is(const char *in, const char *expected)
{
    struct kbs_buf out = KBS_BUF(4096);
    KBS_AUTO_JSON v = NULL;
    struct kbs_error err;

    assert_int_equal(parse(kbs_span_str(in), &v, &err), 0);
    int r = kbs_json_canonical(v, &out, &err);
    if (expected == NULL) {
        assert_int_equal(r, -1);
        assert_int_equal(err.category, KBS_INPUT);
    } else {
        assert_int_equal(r, 0);
        assert_string_equal(kbs_buf_cstr(&out), expected);
    }
    kbs_buf_deinit(&out);
}

static void canonical_form(void **state)
{
    (void)state;
    canonical_is("{\"b\":1,\"a\":\"test\",\"c\":{\"d\":\"e\"}}",
                 "{\"a\":\"test\",\"b\":1,\"c\":{\"d\":\"e\"}}");
    canonical_is("{}", "{}");
    canonical_is("{\"a\":[],\"\":[{}, null,false]}", "{\"\":[{},null,false],\"a\":[]}");
    canonical_is("{\"aa\":1,\"a\":2,\"B\":3}", "{\"B\":3,\"a\":2,\"aa\":1}");
    canonical_is("{\"n\":-0}", "{\"n\":0}");
    canonical_is("{\"n\":[9007199254740992,-9007199254740992]}",
                 "{\"n\":[9007199254740992,-9007199254740992]}");
    canonical_is("{\"n\":9007199254740993}", NULL);
    canonical_is("{\"n\":-9007199254740993}", NULL);
    canonical_is("{\"n\":1.0}", NULL);
    canonical_is("{\"n\":[{\"m\":1e2}]}", NULL);
    canonical_is(
        "{\"s\":\"\\u0001\\b\\t\\n\\f\\r\\u001f\\\"\\\\\\/\\u007f\\u20ac\\ud83d\\ude00\"}",
        "{\"s\":\"\\u0001\\b\\t\\n\\f\\r\\u001f\\\"\\\\/\x7f\xe2\x82\xac\xf0\x9f\x98\x80\"}");
    /* RFC 8785 section 3.2.3 */
    canonical_is(
        "{\"\\u20ac\":1,\"\\r\":2,\"\\ufb33\":3,\"1\":4,\"\\ud83d\\ude00\":5,\"\\u0080\":6,\"\\u00f6\":7}",
        "{\"\\r\":2,\"1\":4,\"\xc2\x80\":6,\"\xc3\xb6\":7,\"\xe2\x82\xac\":1,\"\xf0\x9f\x98\x80\":5,"
        "\"\xef\xac\xb3\":3}");
    canonical_is(
        "{\"a\\uffff\":1,\"a\\ud800\\udc00\":2,\"a\\ud7ff\":3,\"a\\ue000\":4}",
        "{\"a\xed\x9f\xbf\":3,\"a\xf0\x90\x80\x80\":2,\"a\xee\x80\x80\":4,\"a\xef\xbf\xbf\":1}");
}

static void canonical_depth_is_bounded_for_built_values(void **state)
{
    struct kbs_buf out = KBS_BUF(4096);
    KBS_AUTO_JSON v = json_object();
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    for (int i = 0; i < KBS_LIMIT_JSON_DEPTH + 1; i++) {
        v = json_pack("[o]", v);
    }
    assert_int_equal(kbs_json_canonical(v, &out, &err), -1);
    assert_int_equal(err.category, KBS_INPUT);
    kbs_buf_deinit(&out);
}

/* The vector of Trustee's attestation service. */
static void canonical_digest(void **state)
{
    struct kbs_buf out = KBS_BUF(4096);
    struct kbs_buf hex = KBS_BUF(256);
    struct kbs_digest d;
    KBS_AUTO_JSON v = NULL;
    struct kbs_error err;
    struct kbs_span part;

    (void)state;
    assert_int_equal(parse(KBS_SPAN_LIT("{\"b\":1,\"a\":\"test\",\"c\":{\"d\":\"e\"}}"), &v, &err),
                     0);
    assert_int_equal(kbs_json_canonical(v, &out, &err), 0);
    part = kbs_buf_span(&out);
    kbs_digest(KBS_HASH_SHA384, &part, 1, &d);
    kbs_hex_put(&hex, kbs_digest_span(&d));
    assert_string_equal(kbs_buf_cstr(&hex),
                        "e71ce8e70d814ba6639c3612ebee0ff1f76f650f8dbb5e47157e0f3f525cd22c"
                        "4597480a186427c813ca941da78870c3");
    kbs_buf_deinit(&out);
    kbs_buf_deinit(&hex);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_takes_objects_only),
        cmocka_unit_test(nul_bytes_are_refused_everywhere),
        cmocka_unit_test(size_and_depth_are_bounded),
        cmocka_unit_test(errors_say_where_but_never_what),
        cmocka_unit_test(json_test_suite),
        cmocka_unit_test(members_are_typed),
        cmocka_unit_test(dump_keeps_order),
        cmocka_unit_test(canonical_form),
        cmocka_unit_test(canonical_depth_is_bounded_for_built_values),
        cmocka_unit_test(canonical_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
