/*
 * What `kbs-admin audit verify` finds in a ledger: orders, deeds and what came of them, for every
 * kind of mutation. Ledgers are made here, chained as kbs-audit does it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/encoding.h"
#include "cli/audit_verify.h"

#define KID "repo/type/tag/v1"
#define NAMED "\"path\":\"repo/type/tag\",\"version\":\"1\""
#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

struct fixture {
    FILE *file;
    uint8_t head[KBS_SHA256_BYTES];
    unsigned int records;
    struct kbs_audit_summary summary;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->file = tmpfile();
    assert_non_null(f->file);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    kbs_audit_summary_deinit(&f->summary);
    assert_int_equal(fclose(f->file), 0);
    free(f);
    return 0;
}

/* One record; `rest` is its members after kind. */
static void append(struct fixture *f, const char *kind, const char *rest)
{
    struct kbs_digest digest;
    struct kbs_buf json = KBS_BUF(4096);
    char hex[2 * KBS_SHA256_BYTES + 1];

    f->records++;
    kbs_buf_printf(&json,
                   "{\"seq\":%u,\"time\":\"2026-01-01T00:00:00.000000Z\",\"kind\":\"%s\"%s%s}",
                   f->records, kind, rest[0] != '\0' ? "," : "", rest);
    const struct kbs_span parts[] = {kbs_span(f->head, sizeof(f->head)), kbs_buf_span(&json)};
    kbs_digest(KBS_HASH_SHA256, parts, 2, &digest);
    memcpy(f->head, digest.p, sizeof(f->head));
    kbs_hex_cstr(kbs_span(f->head, sizeof(f->head)), hex, sizeof(hex));
    assert_true(fprintf(f->file, "%s %s\n", hex, kbs_buf_cstr(&json)) > 0);
    kbs_buf_deinit(&json);
}

static void intent(struct fixture *f, const char *kind, const char *rest)
{
    char text[512];

    (void)snprintf(text, sizeof(text), "\"phase\":\"intent\",\"epoch\":\"1\",%s", rest);
    append(f, kind, text);
}

static void outcome(struct fixture *f, const char *kind, const char *rest, const char *what)
{
    char text[512];

    (void)snprintf(text, sizeof(text),
                   "\"phase\":\"outcome\",\"epoch\":\"1\",%s,\"outcome\":\"%s\"", rest, what);
    append(f, kind, text);
}

static void deed(struct fixture *f, const char *order, const char *op, const char *kid,
                 const char *what)
{
    char text[512];

    (void)snprintf(text, sizeof(text), "\"op\":\"%s\",\"outcome\":\"%s\",\"order\":\"%s\",%s", op,
                   what, order, kid);
    append(f, "deed", text);
}

/* The digest of a kid, as a deed about a card has it. */
static const char *kid_sha256(const char *kid)
{
    static char text[128];
    uint8_t digest[KBS_SHA256_BYTES];
    char hex[2 * KBS_SHA256_BYTES + 1];

    kbs_sha256(kbs_span_str(kid), digest);
    kbs_hex_cstr(kbs_span(digest, sizeof(digest)), hex, sizeof(hex));
    (void)snprintf(text, sizeof(text), "\"kid\":\"\",\"kid_sha256\":\"%s\"", hex);
    return text;
}

static bool says(const json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);

        if (strstr(json_string_value(json_object_get(entry, "text")), text) != NULL) {
            return true;
        }
    }
    return false;
}

/* NULL: there is nothing to find. */
static void expect(struct fixture *f, const char *finding)
{
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(fflush(f->file), 0);
    assert_int_equal(kbs_audit_verify(fileno(f->file), NULL, &f->summary, &err), 0);
    if ((finding == NULL) != (json_array_size(f->summary.findings) == 0) ||
        (finding != NULL && !says(f->summary.findings, finding))) {
        char *text = json_dumps(f->summary.findings, JSON_INDENT(1));

        print_error("expected '%s', found %s\n", finding != NULL ? finding : "", text);
        free(text);
        fail();
    }
}

/* ---- one order, one deed ---- */

static void test_every_kind(void **state)
{
    static const struct {
        const char *kind;
        const char *op;
        bool carded; /* the deed knows the card, not the kid */
        const char *kid;
    } rows[] = {
        {"key-generate", "generate", false, KID},
        {"key-import", "import", false, KID},
        {"key-adopt", "adopt", false, KID},
        {"key-policy", "recard", true, KID},
        {"key-destroy", "destroy", true, KID},
        {"secret-set", "seal", false, KID},
        {"secret-policy", "recard", true, KID},
        {"wrapping-key-generate", "generate", false, "wrap-catalog"},
        {"wrapping-key-destroy", "destroy", false, "wrap-catalog"},
    };
    char plain[128];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct fixture *f = NULL;

        assert_int_equal(setup((void **)&f), 0);
        (void)snprintf(plain, sizeof(plain), "\"kid\":\"%s\"", rows[i].kid);
        intent(f, rows[i].kind, "\"order\":\"" A "\"," NAMED);
        deed(f, A, rows[i].op, rows[i].carded ? kid_sha256(rows[i].kid) : plain, "done");
        outcome(f, rows[i].kind, "\"order\":\"" A "\",\"intent\":\"1\"," NAMED, "done");
        expect(f, NULL);
        assert_int_equal(teardown((void **)&f), 0);
    }
    (void)state;
}

static void test_another_key(void **state)
{
    struct fixture *f = *state;

    intent(f, "key-policy", "\"order\":\"" A "\"," NAMED);
    deed(f, A, "recard", kid_sha256("repo/type/other/v1"), "done");
    outcome(f, "key-policy", "\"order\":\"" A "\",\"intent\":\"1\"," NAMED, "done");
    expect(f, "was for " KID ", and the deed is for another key");
}

static void test_not_done(void **state)
{
    struct fixture *f = *state;

    intent(f, "key-policy", "\"order\":\"" A "\"," NAMED);
    deed(f, A, "recard", kid_sha256(KID), "missing");
    outcome(f, "key-policy", "\"order\":\"" A "\",\"intent\":\"1\"," NAMED, "done");
    expect(f, "said to be carried out, and the token says missing");
}

/* An earlier attempt died between token and store. */
static void test_destroyed_before(void **state)
{
    struct fixture *f = *state;

    intent(f, "key-destroy", "\"order\":\"" A "\"," NAMED);
    deed(f, A, "destroy", kid_sha256(KID), "missing");
    outcome(f, "key-destroy", "\"order\":\"" A "\",\"intent\":\"1\"," NAMED, "done");
    expect(f, NULL);
}

static void test_deed_without_order(void **state)
{
    struct fixture *f = *state;

    intent(f, "key-state", NAMED);
    deed(f, A, "destroy", kid_sha256(KID), "done");
    outcome(f, "key-state", "\"intent\":\"1\"," NAMED, "done");
    expect(f, "a deed without an order: destroy");
}

/* ---- none, and several ---- */

static void test_state(void **state)
{
    struct fixture *f = *state;

    intent(f, "key-state", NAMED);
    outcome(f, "key-state", "\"intent\":\"1\"," NAMED, "done");
    expect(f, NULL);
    assert_int_equal(f->summary.mutations, 1);
}

static void test_state_unfinished(void **state)
{
    struct fixture *f = *state;

    intent(f, "key-state", NAMED);
    expect(f, "the change of " KID " was never finished");
}

static void test_state_recovered(void **state)
{
    struct fixture *f = *state;

    intent(f, "key-state", NAMED);
    append(f, "store-recovered", "\"phase\":\"outcome\",\"epoch\":\"1\",\"outcome\":\"committed\"");
    expect(f, NULL);
}

static void batch(struct fixture *f, bool second_deed)
{
    intent(f, "wrapping-key-rewrap", "\"version\":\"2\",\"keys\":\"2\"");
    append(f, "order",
           "\"order\":\"" A "\",\"intent\":\"1\",\"op\":\"rewrap\",\"kid\":\"" KID "\"");
    deed(f, A, "rewrap", kid_sha256(KID), "done");
    append(f, "order",
           "\"order\":\"" B "\",\"intent\":\"1\",\"op\":\"rewrap\",\"kid\":\"a/b/c/v1\"");
    if (second_deed) {
        deed(f, B, "rewrap", kid_sha256("a/b/c/v1"), "done");
    }
}

static void test_batch(void **state)
{
    struct fixture *f = *state;

    batch(f, true);
    outcome(f, "wrapping-key-rewrap", "\"intent\":\"1\",\"version\":\"2\"", "done");
    expect(f, NULL);
}

static void test_batch_without_deed(void **state)
{
    struct fixture *f = *state;

    batch(f, false);
    outcome(f, "wrapping-key-rewrap", "\"intent\":\"1\",\"version\":\"2\"", "done");
    expect(f, "order " B " is said to be carried out, and the token says nothing");
}

static void test_batch_failed(void **state)
{
    struct fixture *f = *state;

    batch(f, false);
    outcome(f, "wrapping-key-rewrap", "\"intent\":\"1\",\"version\":\"2\"", "failed");
    expect(f, NULL);
}

/* A key of a batch that could not be moved; the others were. */
static void test_batch_one_failed(void **state)
{
    struct fixture *f = *state;

    batch(f, false);
    deed(f, B, "rewrap", kid_sha256("a/b/c/v1"), "unprocessable");
    append(f, "order-failed", "\"order\":\"" B "\",\"intent\":\"1\",\"op\":\"rewrap\"");
    outcome(f, "wrapping-key-rewrap", "\"intent\":\"1\",\"version\":\"2\"", "done");
    expect(f, NULL);
}

static void test_batch_recovered(void **state)
{
    struct fixture *f = *state;

    batch(f, false);
    append(f, "store-recovered", "\"phase\":\"outcome\",\"epoch\":\"1\",\"outcome\":\"never\"");
    expect(f, NULL);
}

static void test_batch_unfinished(void **state)
{
    struct fixture *f = *state;

    batch(f, true);
    expect(f, "the rewrap of " KID " was never finished");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind),
        CASE(test_another_key),
        CASE(test_not_done),
        CASE(test_destroyed_before),
        CASE(test_deed_without_order),
        CASE(test_state),
        CASE(test_state_unfinished),
        CASE(test_state_recovered),
        CASE(test_batch),
        CASE(test_batch_without_deed),
        CASE(test_batch_failed),
        CASE(test_batch_one_failed),
        CASE(test_batch_recovered),
        CASE(test_batch_unfinished),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
