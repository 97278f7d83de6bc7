/*
 * Receipts, the judge's part: what it says for one, that it asks only who was asked, that a token which
 * does not keep to that releases nothing, and the key of a service that had none.
 */
#include "signed.h"

#include <stdio.h>
#include <stdlib.h>

#include "wire/receipt.h"

#define ALLOW                                        \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[" \
    "{\"claim\":\"kbs.tee\",\"equals\":\"sample\"}]}]}"
#define KEY_TARGET "/kbs/v0/admin/receipt-key"

static const struct ask jwks = {.route = KBS_ROUTE_RECEIPT_JWKS, .method = "GET"};

static struct ask ask_key(const struct guest *g, const char *receipt)
{
    return (struct ask){.route = KBS_ROUTE_KEY_RELEASE,
                        .target = "/kbs/v0/key/default/disk/one",
                        .params = {"default", "disk", "one"},
                        .query = {receipt != NULL ? "receipt" : NULL, receipt},
                        .cookie = g->cookie};
}

static struct ask ask_secret(const struct guest *g, const char *receipt)
{
    struct ask ask = ask_key(g, receipt);

    ask.route = KBS_ROUTE_RESOURCE;
    ask.method = "GET";
    ask.target = "/kbs/v0/resource/default/disk/secret";
    ask.params[2] = "secret";
    return ask;
}

/* An answer with that receipt, or with none. */
static void expect_receipt(struct judge *j, struct ask ask, const char *receipt)
{
    struct reply *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    judge_ask(j, &ask, r);
    assert_int_equal(r->status, 200);
    assert_string_equal(r->body, JUDGE_TOKEN_BODY);
    assert_string_equal(r->receipt, receipt);
    free(r);
}

/* What an order said for one. */
static void assert_word(const struct guest *g, struct kbs_span said, uint8_t nonce)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_receipt_word word;

    assert_int_equal(kbs_receipt_word_get(said, &word, &err), 0);
    assert_int_equal(word.binding, KBS_BINDING_EVIDENCE);
    for (size_t i = 0; i < sizeof(word.nonce); i++) {
        assert_int_equal(word.nonce[i], nonce);
    }
    assert_true(kbs_span_equal(kbs_digest_span(&word.report), kbs_digest_span(&g->digest)));
    assert_false(word.has_resource_policy);
}

static void test_who_asks_gets_one(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask;

    judge_add_key(j, "default/disk/one", 1, ALLOW);
    judge_add_secret(j, "default/disk/secret", 1, ALLOW);
    guest_attest(j, &g);
    expect_receipt(j, ask_key(&g, NULL), "");
    assert_int_equal(j->release.receipt.len, 0);
    ask = ask_key(&g, "1");
    ask.content_type = "application/json";
    ask.body = "{\"nonce\":\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\"}";
    expect_receipt(j, ask, JUDGE_RECEIPT);
    assert_word(&g, j->release.receipt, 1);
    expect_receipt(j, ask_secret(&g, NULL), "");
    assert_int_equal(j->open_secret.receipt.len, 0);
    expect_receipt(j, ask_secret(&g, "1"), JUDGE_RECEIPT);
    assert_word(&g, j->open_secret.receipt, 0);
    ask = ask_key(&g, "0");
    judge_expect(j, &ask, 400, "receipt must be 1");
    ask = ask_secret(&g, "");
    judge_expect(j, &ask, 400, "receipt must be 1");
    guest_free(&g);
}

static void test_a_token_that_does_not_keep_to_it(void **state)
{
    static char too_long[KBS_LIMIT_RECEIPT_BYTES + 2];
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    const struct {
        const char *asked;
        const char *text;
    } cases[] = {{"1", ""}, {NULL, "unasked"}, {"1", too_long}};

    memset(too_long, 'x', sizeof(too_long) - 1);
    judge_add_key(j, "default/disk/one", 1, ALLOW);
    guest_attest(j, &g);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ask ask = ask_key(&g, cases[i].asked);

        ledger_forget(j);
        j->receipt_text = cases[i].text;
        judge_expect(j, &ask, 500, "Internal error");
        ledger_expect(j, "release-failed order=");
        ledger_expect(j, "does not keep to its order");
    }
    j->receipt_text = NULL;
    expect_receipt(j, ask_key(&g, "1"), JUDGE_RECEIPT);
    guest_free(&g);
}

/* An error's answer has none of an answer before it. */
static void test_not_beside_an_error(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct reply *r = calloc(1, sizeof(*r));
    struct ask ask;

    assert_non_null(r);
    judge_add_key(j, "default/disk/one", 1, ALLOW);
    guest_attest(j, &g);
    expect_receipt(j, ask_key(&g, "1"), JUDGE_RECEIPT);
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_UNSUPPORTED;
    j->refuse_detail = "the token has no sign-receipt key";
    ask = ask_key(&g, "1");
    judge_ask(j, &ask, r);
    assert_int_equal(r->status, 501);
    assert_string_equal(r->receipt, "");
    free(r);
    guest_free(&g);
}

static void test_the_published_key(void **state)
{
    struct judge *j = *state;
    struct ask tokens = {.route = KBS_ROUTE_JWKS, .method = "GET"};
    struct kbs_ec_public public;
    char kid[64];

    judge_expect(j, &jwks, 200, "{\"keys\":[]}");
    j->receipt = key_new("P-256"); /* another lane has made it */
    public = key_public(j->receipt, KBS_CURVE_P256);
    (void)snprintf(kid, sizeof(kid), "\"kid\":\"");
    kbs_jose_thumbprint(&public, kid + strlen(kid));
    judge_expect(j, &jwks, 200, kid);
    judge_expect(j, &tokens, 200, "\"use\":\"sig\"");
    struct reply *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    judge_ask(j, &tokens, r);
    assert_null(strstr(r->body, kid)); /* not a key of tokens */
    free(r);
}

/* ---- administrators ---- */

static void test_a_service_that_had_none(void **state)
{
    struct judge *j = *state;
    const struct ask show = {
        .route = KBS_ROUTE_ADMIN_RECEIPT_KEY, .method = "GET", .target = KEY_TARGET};
    const struct ask make = {.route = KBS_ROUTE_ADMIN_RECEIPT_KEY_MAKE, .target = KEY_TARGET};

    expect_signed(j, show, 200, "{\"keys\":[]}");
    judge_expect(j, &make, 401, NULL);
    assert_int_equal(j->orders, 0);
    expect_signed(j, make, 200, "\"alg\":\"ES256\"");
    assert_int_equal(j->generate.purpose, KBS_PURPOSE_SIGN_RECEIPT);
    assert_non_null(j->receipt);
    ledger_expect(j, "receipt-key-generate phase=intent epoch=1 order=");
    ledger_expect(j, "receipt-key-generate phase=outcome epoch=1 order=");
    ledger_expect(j, " thumbprint=");
    expect_signed(j, show, 200, "\"alg\":\"ES256\"");
    expect_signed(j, make, 409, "has a receipt key already");
    assert_int_equal(j->orders, 1);
}

int main(void)
{
#define GUEST(name) cmocka_unit_test_setup_teardown(name, judge_setup_release, judge_teardown)
#define ADMIN(name) cmocka_unit_test_setup_teardown(name, judge_setup_admin, judge_teardown)
    const struct CMUnitTest tests[] = {
        GUEST(test_who_asks_gets_one),       GUEST(test_a_token_that_does_not_keep_to_it),
        GUEST(test_not_beside_an_error),     GUEST(test_the_published_key),
        ADMIN(test_a_service_that_had_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
