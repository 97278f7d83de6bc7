/*
 * cli/audit_verify: every finding it can report, each in a ledger that is sound but for it, and
 * each explanation that turns a finding into a note. The ledgers are written here, line by line,
 * with a chain that is always right unless the test says otherwise.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>

#include "base/encoding.h"
#include "cli/audit_verify.h"
#include "jose/write/jose.h"

#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define FIRST "r/t/one/v1"
#define INTENT(epoch, id, tag)                                                               \
    "\"kind\":\"key-generate\",\"phase\":\"intent\",\"epoch\":\"" epoch "\",\"order\":\"" id \
    "\",\"path\":\"r/t/" tag "\",\"version\":\"1\""
#define OUTCOME(epoch, id, how)                                                               \
    "\"kind\":\"key-generate\",\"phase\":\"outcome\",\"epoch\":\"" epoch "\",\"order\":\"" id \
    "\",\"outcome\":\"" how "\""
#define DEED(op, how, id, kid)                                                          \
    "\"kind\":\"deed\",\"op\":\"" op "\",\"outcome\":\"" how "\",\"order\":\"" id "\"," \
    "\"kid\":\"" kid "\""
#define RELEASE(id, kid) "\"kind\":\"release\",\"order\":\"" id "\",\"kid\":\"" kid "\""
#define ATTEST "\"kind\":\"attest\",\"outcome\":\"attested\""

struct book {
    int fd;
    uint64_t seq;
    uint8_t head[KBS_SHA256_BYTES];
    EVP_PKEY *key;
    struct kbs_ec_public public;
    bool no_key; /* verify without one */
    struct kbs_audit_summary said;
};

static int book_open(void **state)
{
    char path[] = "/tmp/kbs-verify-XXXXXX";
    struct book *b = calloc(1, sizeof(*b));
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    size_t n = 0;

    assert_non_null(b);
    b->fd = mkostemp(path, O_CLOEXEC);
    assert_true(b->fd >= 0);
    assert_int_equal(unlink(path), 0);
    b->key = EVP_EC_gen("P-256");
    assert_int_equal(
        EVP_PKEY_get_octet_string_param(b->key, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point), &n),
        1);
    assert_int_equal(kbs_ec_point_get(KBS_CURVE_P256, kbs_span(point, n), &b->public, &err), 0);
    *state = b;
    return 0;
}

static int book_close(void **state)
{
    struct book *b = *state;

    kbs_audit_summary_deinit(&b->said);
    EVP_PKEY_free(b->key);
    (void)close(b->fd);
    free(b);
    return 0;
}

/* A line whose JSON is `json`, chained to the one before. */
static void put_json(struct book *b, const char *json)
{
    const struct kbs_span parts[] = {kbs_span(b->head, sizeof(b->head)), kbs_span_str(json)};
    struct kbs_buf line = KBS_BUF(KBS_LEDGER_LINE_BYTES);
    struct kbs_digest digest;

    kbs_digest(KBS_HASH_SHA256, parts, 2, &digest);
    memcpy(b->head, digest.p, sizeof(b->head));
    b->seq++;
    kbs_hex_put(&line, kbs_span(b->head, sizeof(b->head)));
    kbs_buf_printf(&line, " %s\n", json);
    assert_int_equal(write(b->fd, line.p, line.len), (ssize_t)line.len);
    kbs_buf_deinit(&line);
}

/* A record with those members, numbered and dated as the ledger does it. */
static void put(struct book *b, const char *members)
{
    char json[2048];

    (void)snprintf(json, sizeof(json),
                   "{\"seq\":%" PRIu64 ",\"time\":\"2026-01-31T12:00:00.000000Z\",%s}", b->seq + 1,
                   members);
    put_json(b, json);
}

/* A key made as it should be: epoch 1. */
static void put_key(struct book *b)
{
    put(b, INTENT("1", ID_A, "one"));
    put(b, DEED("generate", "done", ID_A, FIRST));
    put(b, "\"kind\":\"deed\",\"op\":\"sign-row\",\"outcome\":\"done\"");
    put(b, OUTCOME("1", ID_A, "done"));
}

/* A head over record `seq`, whose hash is said to be `hash`; signed with `key`. */
static void put_head(struct book *b, uint64_t seq, const uint8_t hash[KBS_SHA256_BYTES],
                     EVP_PKEY *key)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    struct kbs_buf text = KBS_BUF(1024);
    uint8_t input[11 + 8 + KBS_SHA256_BYTES] = "kbs-head-v1";
    uint8_t der[128];
    uint8_t raw[KBS_ES256_BYTES];
    const uint8_t *p = der;
    size_t n = sizeof(der);
    char kid[44];

    for (size_t i = 0; i < 8; i++) {
        input[11 + i] = (uint8_t)(seq >> (56 - 8 * i));
    }
    memcpy(input + 19, hash, KBS_SHA256_BYTES);
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key), 1);
    assert_int_equal(EVP_DigestSign(ctx, der, &n, input, sizeof(input)), 1);
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)n);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32), 32);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32), 32);
    kbs_jose_thumbprint(&b->public, kid);
    kbs_buf_printf(&text, "\"kind\":\"head\",\"head_seq\":\"%" PRIu64 "\",\"head_hash\":\"", seq);
    kbs_hex_put(&text, kbs_span(hash, KBS_SHA256_BYTES));
    kbs_buf_put_str(&text, "\",\"signature\":\"");
    kbs_base64url_put(&text, kbs_span(raw, sizeof(raw)));
    kbs_buf_printf(&text, "\",\"kid\":\"%s\"", kid);
    put(b, kbs_buf_cstr(&text));
    kbs_buf_deinit(&text);
    ECDSA_SIG_free(sig);
    EVP_MD_CTX_free(ctx);
}

static const char *text_at(const json_t *list, size_t i)
{
    return json_string_value(json_object_get(json_array_get(list, i), "text"));
}

static void verify(struct book *b)
{
    struct kbs_error err = KBS_ERROR_NONE;

    kbs_audit_summary_deinit(&b->said);
    assert_int_equal(kbs_audit_verify(b->fd, b->no_key ? NULL : &b->public, &b->said, &err), 0);
}

static void expect_sound(struct book *b)
{
    verify(b);
    for (size_t i = 0; i < json_array_size(b->said.findings); i++) {
        print_error("finding: %s\n", text_at(b->said.findings, i));
    }
    assert_int_equal(json_array_size(b->said.findings), 0);
}

/* Exactly one finding, with that text in it, at that line. */
static void expect_finding(struct book *b, uint64_t line, const char *text)
{
    verify(b);
    const json_t *first = json_array_get(b->said.findings, 0);

    if (json_array_size(b->said.findings) != 1 ||
        strstr(text_at(b->said.findings, 0), text) == NULL ||
        json_integer_value(json_object_get(first, "line")) != (json_int_t)line) {
        char *found = json_dumps(b->said.findings, 0);
        print_error("expected '%s' at %" PRIu64 ", found %s\n", text, line, found);
        free(found);
        fail();
    }
}

/* No finding, and a note with that text. */
static void expect_note(struct book *b, const char *text)
{
    bool found = false;

    expect_sound(b);
    for (size_t i = 0; i < json_array_size(b->said.notes); i++) {
        found = found || strstr(text_at(b->said.notes, i), text) != NULL;
    }
    if (!found) {
        char *notes = json_dumps(b->said.notes, 0);
        print_error("expected '%s' among %s\n", text, notes);
        free(notes);
        fail();
    }
}

/* ---- a sound one ---- */

static void test_sound(void **state)
{
    struct book *b = *state;

    put(b, "\"kind\":\"open\"");
    put_key(b);
    put_head(b, b->seq, b->head, b->key);
    put(b, ATTEST);
    put(b, "\"kind\":\"admin-denied\",\"suppressed\":\"4\"");
    expect_note(b, "3 records since the last signed head");
    assert_int_equal(b->said.ledger.records, 8);
    assert_int_equal(b->said.heads, 1);
    assert_int_equal(b->said.head_covers, 5);
    assert_int_equal(b->said.mutations, 1);
    assert_int_equal(b->said.deeds, 2);
    assert_int_equal(b->said.refusals, 5);
    b->no_key = true;
    expect_note(b, "signed heads were not verified");
    assert_int_equal(b->said.heads, 0);
}

static void test_empty(void **state)
{
    expect_sound(*state);
}

/* ---- the chain ---- */

static void test_changed_byte(void **state)
{
    struct book *b = *state;
    off_t at = 0;

    put(b, ATTEST);
    at = lseek(b->fd, 0, SEEK_CUR);
    put(b, ATTEST);
    put(b, ATTEST);
    assert_int_equal(pwrite(b->fd, "x", 1, at + 100), 1);
    expect_finding(b, 2, "does not match its hash or its predecessor");
}

static void test_removed_line(void **state)
{
    struct book *b = *state;
    uint8_t before[KBS_SHA256_BYTES];

    put(b, ATTEST);
    memcpy(before, b->head, sizeof(before));
    b->seq++; /* as if record 2 had been taken out, and the chain mended */
    put(b, ATTEST);
    expect_finding(b, 2, "wrong sequence number");
    assert_int_equal(b->said.ledger.records, 1);
    assert_memory_equal(b->said.ledger.head, before, sizeof(before));
}

static void test_taken_out_without_mending(void **state)
{
    struct book *b = *state;

    put(b, ATTEST);
    memset(b->head, 0x5a, sizeof(b->head));
    put(b, ATTEST);
    expect_finding(b, 2, "does not match its hash or its predecessor");
}

static void test_not_json(void **state)
{
    struct book *b = *state;

    put(b, "\"kind\" \"open\"");
    put(b, "\"kind\":\"open\",\"kind\":\"deed\"");
    verify(b);
    assert_int_equal(json_array_size(b->said.findings), 2);
    assert_non_null(strstr(text_at(b->said.findings, 0), "not a JSON object"));
}

static void test_ends(void **state)
{
    struct book *b = *state;

    put(b, ATTEST);
    const off_t whole = lseek(b->fd, 0, SEEK_CUR);
    put(b, ATTEST);
    for (off_t left = whole + 1; left < 2 * whole; left += 7) { /* a crash, anywhere in the last */
        assert_int_equal(ftruncate(b->fd, left), 0);
        expect_note(b, "not written to its end");
        assert_int_equal(b->said.ledger.records, 1);
    }
    assert_int_equal(ftruncate(b->fd, whole), 0);
    expect_sound(b);
    assert_int_equal(pwrite(b->fd, "garbage", 7, whole), 7); /* and what no crash leaves */
    expect_finding(b, 2, "has no end and is not the beginning of a record");
}

/* ---- heads ---- */

static void test_head_of_another_key(void **state)
{
    struct book *b = *state;
    EVP_PKEY *other = EVP_EC_gen("P-256");

    put(b, ATTEST);
    put_head(b, b->seq, b->head, other);
    expect_finding(b, 2, "not signed by the pinned head key");
    assert_int_equal(b->said.heads, 0);
    assert_int_equal(b->said.head_covers, 0);
    EVP_PKEY_free(other);
}

/* The signature is right, over a history that is not this one. */
static void test_head_of_another_history(void **state)
{
    struct book *b = *state;
    uint8_t hash[KBS_SHA256_BYTES];

    put(b, ATTEST);
    memcpy(hash, b->head, sizeof(hash));
    hash[31] ^= 1;
    put_head(b, b->seq, hash, b->key);
    expect_finding(b, 2, "names another hash for record 1");
}

static void test_head_of_nothing(void **state)
{
    struct book *b = *state;

    put(b, ATTEST);
    put_head(b, 0, b->head, b->key);
    expect_finding(b, 2, "a head for record 0");
}

static void test_head_of_the_future(void **state)
{
    struct book *b = *state;

    put(b, ATTEST);
    put_head(b, 2, b->head, b->key); /* itself */
    expect_finding(b, 2, "a head for record 2");
}

/* ---- orders and deeds ---- */

static void test_deed_without_order(void **state)
{
    struct book *b = *state;

    put(b, DEED("release", "done", ID_A, FIRST));
    expect_finding(b, 1, "a deed without an order: release of " FIRST);
}

static void test_refused_deed_without_order(void **state)
{
    struct book *b = *state;

    put(b, DEED("release", "input", ID_A, FIRST));
    expect_finding(b, 1, "a deed without an order");
}

static void test_deed_for_an_order_that_could_not_be_written(void **state)
{
    struct book *b = *state;

    put(b, DEED("release", "done", ID_A, FIRST));
    put(b, "\"kind\":\"release-failed\",\"order\":\"" ID_A "\",\"kid\":\"" FIRST "\"");
    expect_note(b, "could not be recorded");
}

static void test_order_without_deed(void **state)
{
    struct book *b = *state;

    put(b, INTENT("1", ID_A, "one"));
    put(b, OUTCOME("1", ID_A, "done"));
    expect_finding(b, 2, "said to be carried out, and the token says nothing");
}

static void test_order_without_deed_after_a_crash(void **state)
{
    struct book *b = *state;

    put(b, INTENT("1", ID_A, "one"));
    put(b, OUTCOME("1", ID_A, "done"));
    put(b, "\"kind\":\"open\",\"cut_bytes\":\"17\"");
    expect_finding(b, 2, "the token says nothing"); /* the deed is durable before the outcome */
}

static void test_deed_for_another_key(void **state)
{
    struct book *b = *state;

    put(b, INTENT("1", ID_A, "one"));
    put(b, DEED("generate", "done", ID_A, "r/t/two/v1"));
    put(b, OUTCOME("1", ID_A, "done"));
    expect_finding(b, 2, "was for " FIRST ", and the deed is for r/t/two/v1");
}

static void test_deed_of_another_operation(void **state)
{
    struct book *b = *state;

    put(b, INTENT("1", ID_A, "one"));
    put(b, DEED("import", "done", ID_A, FIRST));
    put(b, OUTCOME("1", ID_A, "done"));
    expect_finding(b, 2, "was to generate, and the deed is import");
}

static void test_the_token_says_otherwise(void **state)
{
    struct book *b = *state;

    put(b, INTENT("1", ID_A, "one"));
    put(b, DEED("generate", "token_down", ID_A, FIRST));
    put(b, OUTCOME("1", ID_A, "done"));
    expect_finding(b, 2, "said to be carried out, and the token says token_down");
}

static void test_carried_out_and_said_to_have_failed(void **state)
{
    struct book *b = *state;

    put(b, RELEASE(ID_A, FIRST));
    put(b, DEED("release", "done", ID_A, FIRST));
    put(b, "\"kind\":\"release-failed\",\"order\":\"" ID_A "\"");
    expect_note(b, "could not be recorded, or its answer was dropped");
}

static void test_second_order(void **state)
{
    struct book *b = *state;

    put(b, RELEASE(ID_A, FIRST));
    put(b, RELEASE(ID_A, FIRST));
    put(b, DEED("release", "internal", ID_A, FIRST));
    expect_finding(b, 2, "has a second order record, the first in line 1");
}

static void test_second_deed(void **state)
{
    struct book *b = *state;

    put(b, RELEASE(ID_A, FIRST));
    put(b, DEED("release", "done", ID_A, FIRST));
    put(b, DEED("release", "done", ID_A, FIRST));
    expect_finding(b, 3, "a deed without an order");
}

static void test_end_without_beginning(void **state)
{
    struct book *b = *state;

    put_key(b);
    put(b, INTENT("2", ID_B, "two"));
    put(b, DEED("generate", "done", ID_B, "r/t/two/v1"));
    put(b, OUTCOME("2", "cccccccccccccccccccccccccccccccc", "done"));
    verify(b);
    assert_int_equal(json_array_size(b->said.findings), 2);
    char *all = json_dumps(b->said.findings, 0);
    assert_non_null(strstr(all, "order cccccccccccccccccccccccccccccccc ends as carried out and "
                                "has no beginning"));
    assert_non_null(strstr(all, "the generate of r/t/two/v1 was never finished"));
    free(all);
}

/* ---- mutations ---- */

static void test_mutation_never_finished(void **state)
{
    struct book *b = *state;

    put(b, INTENT("1", ID_A, "one"));
    put(b, DEED("generate", "done", ID_A, FIRST));
    expect_finding(b, 1, "the generate of " FIRST " was never finished");
    put(b, "\"kind\":\"store-recovered\",\"phase\":\"outcome\",\"epoch\":\"1\","
           "\"outcome\":\"committed\"");
    expect_note(b, "its rows were committed");
    expect_note(b, "found out later: rows committed: yes");
}

static void test_epoch_left_out(void **state)
{
    struct book *b = *state;

    put_key(b);
    put(b, INTENT("3", ID_B, "two"));
    put(b, DEED("generate", "done", ID_B, "r/t/two/v1"));
    put(b, OUTCOME("3", ID_B, "done"));
    expect_finding(b, 5, "epoch 3 does not follow 1");
}

static void test_outcome_of_another_epoch(void **state)
{
    struct book *b = *state;

    put(b, INTENT("1", ID_A, "one"));
    put(b, DEED("generate", "done", ID_A, FIRST));
    put(b, OUTCOME("2", ID_A, "done"));
    expect_finding(b, 3, "epoch 2 does not follow 1");
}

static void test_restore(void **state)
{
    struct book *b = *state;

    put_key(b);
    put(b, "\"kind\":\"store-accept\",\"phase\":\"restore\",\"epoch\":\"2\","
           "\"store_epoch\":\"0\",\"admin\":\"me\",\"reason\":\"a backup\"");
    expect_note(b, "administrator me accepted a store of epoch 0: a backup");
    put(b, "\"kind\":\"store-accept\",\"phase\":\"restore\",\"epoch\":\"2\","
           "\"store_epoch\":\"0\",\"admin\":\"me\",\"reason\":\"again\"");
    expect_finding(b, 6, "epoch 2 does not follow 2");
}

static void test_row_signed_alone(void **state)
{
    struct book *b = *state;

    put_key(b);
    for (int i = 0; i < KBS_LIMIT_AUDIT_CLIENTS; i++) {
        put(b, ATTEST);
    }
    put(b, "\"kind\":\"deed\",\"op\":\"sign-row\",\"outcome\":\"done\"");
    expect_finding(b, b->seq, "a row of the store was signed, and no mutation was under way");
}

/* ---- what was left out ---- */

static void test_counts(void **state)
{
    struct book *b = *state;

    put(b, "\"kind\":\"suppressed\",\"count\":\"1000\"");
    put(b, "\"kind\":\"resumed\",\"refused\":\"3\"");
    expect_note(b, "1000 refusals were counted and not written");
    expect_note(b, "3 records were refused");
    assert_int_equal(b->said.refusals, 1000);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, book_open, book_close)
    const struct CMUnitTest tests[] = {
        CASE(test_sound),
        CASE(test_empty),
        CASE(test_changed_byte),
        CASE(test_removed_line),
        CASE(test_taken_out_without_mending),
        CASE(test_not_json),
        CASE(test_ends),
        CASE(test_head_of_another_key),
        CASE(test_head_of_another_history),
        CASE(test_head_of_nothing),
        CASE(test_head_of_the_future),
        CASE(test_deed_without_order),
        CASE(test_refused_deed_without_order),
        CASE(test_deed_for_an_order_that_could_not_be_written),
        CASE(test_order_without_deed),
        CASE(test_order_without_deed_after_a_crash),
        CASE(test_deed_for_another_key),
        CASE(test_deed_of_another_operation),
        CASE(test_the_token_says_otherwise),
        CASE(test_carried_out_and_said_to_have_failed),
        CASE(test_second_order),
        CASE(test_second_deed),
        CASE(test_end_without_beginning),
        CASE(test_mutation_never_finished),
        CASE(test_epoch_left_out),
        CASE(test_outcome_of_another_epoch),
        CASE(test_restore),
        CASE(test_row_signed_alone),
        CASE(test_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
