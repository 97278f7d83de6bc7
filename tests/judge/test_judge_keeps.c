/*
 * What is kept for guests, as the judge has it: for whom, what the token is told and when, and what is in the store
 * afterwards. The token of these tests marks what it is asked to (harness.c); the real one's marks are tests/token's.
 */
#include "signed.h"

#include <stdio.h>
#include <string.h>

#include "wire/nek.h"

#define PATH "default/nek/vm"
#define KEEPS(terms)                                                                                 \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[{\"claim\":\"kbs.tee\",\"equals\":\"sample\"}]}]" \
    "," terms "}"
#define IDENTITY "\"identity\":[\"measurement\"],\"quota\":1"
#define BOTH KEEPS("\"provision\":{" IDENTITY "},\"register\":{" IDENTITY "}")

static void add_nek(struct judge *j, const char *policy)
{
    struct kbs_key key = judge_new_key(PATH, 1, 0);

    key.card.purpose = KBS_PURPOSE_NEK;
    judge_recard(&key);
    judge_put_key(j, &key, policy);
}

static void provision(struct judge *j, const struct guest *g, unsigned int status, const char *text)
{
    const struct ask ask = {.route = KBS_ROUTE_KEY_PROVISION,
                            .target = "/kbs/v0/key/provision",
                            .cookie = g->cookie,
                            .content_type = "application/json",
                            .body = "{\"key\":\"" PATH "\"}"};

    judge_expect(j, &ask, status, text);
}

static void register_set(struct judge *j, const struct guest *g, const char *body,
                         unsigned int status, const char *text)
{
    const struct ask ask = {.route = KBS_ROUTE_REGISTER_SET,
                            .target = "/kbs/v0/register/" PATH,
                            .params = {"default", "nek", "vm"},
                            .cookie = g->cookie,
                            .content_type = "application/json",
                            .body = body};

    judge_expect(j, &ask, status, text);
}

static void register_get(struct judge *j, const struct guest *g, unsigned int status,
                         const char *text)
{
    const struct ask ask = {.route = KBS_ROUTE_REGISTER_GET,
                            .method = "GET",
                            .target = "/kbs/v0/register/" PATH,
                            .params = {"default", "nek", "vm"},
                            .cookie = g->cookie};

    judge_expect(j, &ask, status, text);
}

/* The binding of the harness' guest, whose svn is "1", by its measurement. */
static struct kbs_span guest_binding(uint8_t ret[KBS_NEK_BINDING_BYTES])
{
    const struct kbs_span values[KBS_NEK_FIELD_COUNT] = {[KBS_NEK_MEASUREMENT] = KBS_SPAN_LIT("1")};
    struct kbs_nek_binding b;

    kbs_nek_bind(1u << KBS_NEK_MEASUREMENT, values, &b);
    kbs_nek_binding_put(&b, ret);
    return kbs_span(ret, KBS_NEK_BINDING_BYTES);
}

static void test_made_once_and_given_again(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    uint8_t binding[KBS_NEK_BINDING_BYTES];
    uint8_t mark[KBS_MARK_BYTES];

    add_nek(j, BOTH);
    guest_attest(j, &g);
    ledger_forget(j);
    provision(j, &g, 200, "{\"created\":true,\"nek\":{\"header\":{\"alg\":\"A256KW\"");
    assert_true(kbs_span_equal(j->provision.binding, guest_binding(binding)));
    assert_int_equal(j->provision.key_bytes, 32);
    assert_int_equal(j->provision.floor, KBS_LOCALITY_TRANSPORT);
    ledger_expect(j, " provision=now identity=04");

    provision(j, &g, 200, "{\"created\":false,\"nek\":{\"header\":{\"alg\":\"A256KW\"");
    memset(mark, JUDGE_MARK, sizeof(mark));
    assert_true(kbs_span_equal(j->reprovision.mark, kbs_span(mark, sizeof(mark))));
    assert_true(kbs_span_equal(j->reprovision.binding, guest_binding(binding)));
    assert_int_equal(j->reprovision.kind, KBS_NEK_AES_KW);
    ledger_expect(j, " provision=before identity=04");
    guest_free(&g);
}

/* Neither the policy that is silent, nor one that says once, gives the token anything to do. */
static void test_denied_by_the_terms(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};

    add_nek(j, KEEPS("\"provision\":{" IDENTITY ",\"once\":true}"));
    guest_attest(j, &g);
    register_get(j, &g, 403, "it has no \\\"register\\\"");
    ledger_expect(j, "register-denied");
    provision(j, &g, 200, "\"created\":true");
    unsigned int orders = j->orders;
    provision(j, &g, 409, "once");
    ledger_expect(j, "release-denied");
    judge_tamper(j, "UPDATE provision SET identity = zeroblob(33)"); /* another guest's */
    provision(j, &g, 403, "quota");
    assert_int_equal(j->orders, orders);
    guest_free(&g);
}

/* What the token did not do as it was told, or what was not recorded, is neither kept nor answered. */
static void test_nothing_is_kept_of_a_failure(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};

    add_nek(j, BOTH);
    guest_attest(j, &g);
    j->token_mood = TOKEN_DISOBEYS;
    provision(j, &g, 500, NULL);
    register_set(j, &g, "{\"expected\":null,\"value\":1}", 500, NULL);
    ledger_expect(j, "register-failed");
    j->token_mood = TOKEN_OBEYS;
    j->ledger_mood = LEDGER_FULL;
    provision(j, &g, 503, NULL);
    register_set(j, &g, "{\"expected\":null,\"value\":1}", 503, NULL);
    j->ledger_mood = LEDGER_WRITES;
    register_get(j, &g, 404, "no value");
    provision(j, &g, 200, "\"created\":true");
    guest_free(&g);
}

/* A row that is not one of ours does not reach the token; one with another's mark does, and is its to refuse. */
static void test_edited_rows(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};

    add_nek(j, BOTH);
    guest_attest(j, &g);
    provision(j, &g, 200, "\"created\":true");
    judge_tamper(j, "UPDATE provision SET blob = '{\"header\":{}}'");
    unsigned int orders = j->orders;
    provision(j, &g, 500, NULL);
    assert_int_equal(j->orders, orders);
    judge_tamper(j, "UPDATE provision SET version = 7");
    provision(j, &g, 404, "no such key");
    assert_int_equal(j->orders, orders);
    guest_free(&g);
}

static void test_register(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    uint8_t binding[KBS_NEK_BINDING_BYTES];
    uint8_t mark[KBS_MARK_BYTES];

    add_nek(j, BOTH);
    guest_attest(j, &g);
    register_set(j, &g, "{\"value\":1}", 400, "expected");
    register_set(j, &g, "{\"expected\":null,\"value\":-1}", 400, "negative");
    register_set(j, &g, "{\"expected\":3,\"value\":4}", 409, "no value");
    register_set(j, &g, "{\"expected\":null,\"value\":3,\"digest\":\"YWJj\"}", 200,
                 "{\"value\":3,\"digest\":\"YWJj\"}");
    assert_true(kbs_span_equal_str(j->register_set.name, PATH));
    assert_true(kbs_span_equal(j->register_set.binding, guest_binding(binding)));
    assert_int_equal(j->register_set.old_mark.len, 0);
    ledger_expect(j, " value=3 digest=616263");

    register_set(j, &g, "{\"expected\":3,\"value\":9}", 200, "{\"value\":9,\"digest\":\"\"}");
    memset(mark, JUDGE_MARK, sizeof(mark));
    assert_int_equal(j->register_set.old_value, 3);
    assert_true(kbs_span_equal_str(j->register_set.old_digest, "abc"));
    assert_true(kbs_span_equal(j->register_set.old_mark, kbs_span(mark, sizeof(mark))));
    register_get(j, &g, 200, "{\"value\":9,\"digest\":\"\"}");
    assert_int_equal(j->register_check.value, 9);
    guest_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_made_once_and_given_again, judge_setup_release,
                                        judge_teardown),
        cmocka_unit_test_setup_teardown(test_denied_by_the_terms, judge_setup_release,
                                        judge_teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_kept_of_a_failure, judge_setup_release,
                                        judge_teardown),
        cmocka_unit_test_setup_teardown(test_edited_rows, judge_setup_release, judge_teardown),
        cmocka_unit_test_setup_teardown(test_register, judge_setup_release, judge_teardown),
    };

    return cmocka_run_group_tests_name("judge_keeps", tests, NULL, NULL);
}
