/* Init-data: which hash a document asks for, and how a TEE's field holds it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "attest/initdata.h"
#include "attest/initdata_entry.h"
#include "base/encoding.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define TOP "version = \"0.1.0\"\nalgorithm = \"sha384\"\n"

static void documents(void **state)
{
    static const struct {
        const char *text;
        enum kbs_hash hash; /* KBS_HASH_NONE: refused */
    } rows[] = {
        {TOP, KBS_HASH_SHA384},
        {TOP "\n[data]\n\"aa.toml\" = '''\nalgorithm = \"sha256\"\n'''\n", KBS_HASH_SHA384},
        {"algorithm = \"sha256\"\nversion = \"0.1.0\"", KBS_HASH_SHA256},
        {"# sha256\r\nalgorithm\t=  'sha-512' # or\r\n\r\n  version='0.1.0'\r\n[data]\r\n",
         KBS_HASH_SHA512},
        {"algorithm = \"sha-256\"\nversion = \"0.1.0\"\nother_key = \"x\"\n", KBS_HASH_SHA256},
        {TOP "[data]\nversion = \"9\"\nalgorithm = \"md5\"\n", KBS_HASH_SHA384},
        {"", KBS_HASH_NONE},
        {"version = \"0.1.0\"\n", KBS_HASH_NONE},
        {"algorithm = \"sha384\"\n", KBS_HASH_NONE},
        {"version = \"0.2.0\"\nalgorithm = \"sha384\"\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nalgorithm = \"sha1\"\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nalgorithm = \"SHA384\"\n", KBS_HASH_NONE},
        {"[data]\n" TOP, KBS_HASH_NONE},
        {TOP "algorithm = \"sha256\"\n", KBS_HASH_NONE},
        {TOP "algorithm = \"sha384\"\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\n\"algorithm\" = \"sha384\"\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nalgorithm = \"sha\\u0033384\"\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nalgorithm = \"\"\"sha384\"\"\"\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nx = \"\"\"\nalgorithm = \"sha384\"\n\"\"\"\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nx = '''\nalgorithm = 'sha384'\n'''\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nx = [\nalgorithm = \"sha384\"\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nx.algorithm = \"sha384\"\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nalgorithm = sha384\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nalgorithm = \"sha384\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nalgorithm = \"sha384\" x\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nalgorithm \"sha384\"\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nalgorithm =\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\nalgorithm", KBS_HASH_NONE},
        {"\xef\xbb\xbf" TOP, KBS_HASH_NONE},
        {TOP "[data]\nx = \"\xff\"\n", KBS_HASH_NONE},
        {"version = \"0.1.0\"\ralgorithm = \"sha384\"\n", KBS_HASH_NONE},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct kbs_span text = kbs_span_str(rows[i].text);
        struct kbs_digest got = {.len = 0};
        struct kbs_digest wanted;
        enum kbs_hash hash = KBS_HASH_NONE;
        struct kbs_error err = KBS_ERROR_NONE;
        int r = kbs_init_data_digest(text, &hash, &got, &err);

        if (hash != rows[i].hash || (r == 0) != (rows[i].hash != KBS_HASH_NONE) ||
            (r != 0 && err.category != KBS_INPUT)) {
            fail_msg("row %zu: %d, hash %d, %s", i, r, (int)hash, err.detail);
        }
        if (r == 0) {
            kbs_digest(hash, &text, 1, &wanted);
            assert_true(kbs_span_equal(kbs_digest_span(&got), kbs_digest_span(&wanted)));
        }
    }
}

static void fields(void **state)
{
    static const uint8_t digest[48] = {1, 2, 3, [31] = 32, [32] = 33, [47] = 48};
    static const uint8_t none[64];
    struct kbs_span sent = kbs_span(digest, sizeof(digest));
    uint8_t field[64];

    (void)state;
    /* HOST_DATA: the first 32 bytes; MRCONFIGID: all; CONFIGID: zeros after it. */
    kbs_init_data_fit(sent, field, 32);
    assert_memory_equal(field, digest, 32);
    assert_int_equal(kbs_init_data_compare(sent, kbs_span(field, 32)), KBS_INIT_DATA_MATCHED);
    kbs_init_data_fit(sent, field, 48);
    assert_int_equal(kbs_init_data_compare(sent, kbs_span(field, 48)), KBS_INIT_DATA_MATCHED);
    kbs_init_data_fit(sent, field, 64);
    assert_memory_equal(field + 48, none, 16);
    assert_int_equal(kbs_init_data_compare(sent, kbs_span(field, 64)), KBS_INIT_DATA_MATCHED);
    field[63] = 1;
    assert_int_equal(kbs_init_data_compare(sent, kbs_span(field, 64)), KBS_INIT_DATA_MISMATCHED);
    assert_int_equal(kbs_init_data_compare(sent, kbs_span(none, 32)), KBS_INIT_DATA_MISMATCHED);
    assert_int_equal(kbs_init_data_compare(sent, KBS_SPAN_EMPTY), KBS_INIT_DATA_MISMATCHED);
    assert_int_equal(kbs_init_data_compare(KBS_SPAN_EMPTY, kbs_span(none, 32)),
                     KBS_INIT_DATA_ABSENT);
    assert_int_equal(kbs_init_data_compare(KBS_SPAN_EMPTY, kbs_span(digest, 32)),
                     KBS_INIT_DATA_UNEXPLAINED);
    assert_string_equal(kbs_init_data_name(KBS_INIT_DATA_UNEXPLAINED), "unexplained");
}

/* What every TOML parser finds under "me" in [data], or a refusal. */
static void entries(void **state)
{
#define REFUSED "?"
#define DATA TOP "[data]\n"
    static const struct {
        const char *text;
        const char *found; /* NULL: nothing is there */
    } rows[] = {
        {TOP, NULL},
        {DATA, NULL},
        {TOP "\n# [data]\n[data] # here\nme = 'x'", "x"},
        {DATA "me = \"x\"\n", "x"},
        {DATA "\"me\" = '''x'''\n", "x"},
        {DATA "'me'=\t\"\"\"x\"\"\" # so\r\n\r\n", "x"},
        {DATA "me = '''\n{\n\"a\": 'b'}\n'''\nyou = ''\n", "\n{\n\"a\": 'b'}\n"},
        {DATA "me = ''\n", ""},
        {DATA "me = ''''''\n", ""},
        /* past others' texts, whatever is in them */
        {DATA "a = '''\nme = 'no'\n[data]\n'''\nme = 'x'\n", "x"},
        {DATA "a = \"\"\"\nme = 'no' \\\"\"\" \\\\\"\"\"\nme = 'x'\n", "x"},
        {DATA "a = \"me = 'no' \\\" # \"\nme = 'x'\n", "x"},
        {DATA "a = 'me # \\'\nme = 'x'\n", "x"},
        {DATA "a = \"\"\"\nme = 'no'\n\"\"\"\n", NULL},
        {DATA "# me = 'no'\n", NULL},
        {DATA "me2 = 'no'\nyou = 'no'\n", NULL},
        /* what is not read here */
        {DATA "me = 'x'\nme = 'y'\n", REFUSED},
        {DATA "me = \"x\\n\"\n", REFUSED},
        {DATA "\"m\\u0065\" = 'x'\n", REFUSED},
        {DATA "'''me''' = 'x'\n", REFUSED},
        {DATA "me.more = 'x'\n", REFUSED},
        {DATA "me = 1\n", REFUSED},
        {DATA "me = { a = 'x' }\n", REFUSED},
        {DATA "you = ['x']\nme = 'x'\n", REFUSED},
        {DATA "me = 'x' 'y'\n", REFUSED},
        {DATA "me = 'x\n'\n", REFUSED},
        {DATA "me = 'x\n", REFUSED},
        {DATA "me = '''x''''\n", REFUSED},
        {DATA "me = '''x\n", REFUSED},
        {DATA "me = \"x\\\"\n", REFUSED},
        {DATA "me\n", REFUSED},
        {DATA "= 'x'\n", REFUSED},
        {DATA "me = 'x'\n[data]\nyou = 'x'\n", REFUSED},
        {DATA "me = 'x'\n[other]\n", REFUSED},
        {DATA "me = 'x'\n[data.me]\n", REFUSED},
        {TOP "[other]\n[data]\nme = 'x'\n", REFUSED},
        {TOP "[[data]]\nme = 'x'\n", REFUSED},
        {TOP "[ data ]\nme = 'x'\n", REFUSED},
        {TOP "[\"data\"]\nme = 'x'\n", REFUSED},
        {TOP "[data] me = 'x'\n", REFUSED},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct kbs_span text = kbs_span_str(rows[i].text);
        struct kbs_error err = KBS_ERROR_NONE;
        struct kbs_span found = KBS_SPAN_EMPTY;
        struct kbs_digest digest;
        enum kbs_hash hash;

        assert_int_equal(kbs_init_data_digest(text, &hash, &digest, &err), 0);
        int r = kbs_init_data_entry(text, "me", &found, &err);
        bool refused = rows[i].found != NULL && strcmp(rows[i].found, REFUSED) == 0;
        bool same = rows[i].found == NULL
                        ? found.p == NULL
                        : found.p != NULL && kbs_span_equal_str(found, rows[i].found);

        if (refused ? r == 0 || err.category != KBS_INPUT : r != 0 || !same) {
            fail_msg("row %zu: %d, \"%.*s\", %s", i, r, (int)found.len, (const char *)found.p,
                     err.detail);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(documents), cmocka_unit_test(fields),
                                       cmocka_unit_test(entries)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
