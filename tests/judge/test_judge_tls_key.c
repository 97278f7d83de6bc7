/* The service's own key of TLS: what an administrator can do, in the admin lane only. */
#include "signed.h"

#include <stdio.h>

#include "jose/write/jose.h"

#define TLS "/kbs/v0/admin/tls-key"

static void expect_list(struct judge *j, const char *text)
{
    expect_signed(
        j, (struct ask){.route = KBS_ROUTE_ADMIN_TLS_KEY_LIST, .method = "GET", .target = TLS}, 200,
        text);
}

static void expect_make(struct judge *j, const char *body, unsigned int status, const char *text)
{
    expect_signed(j,
                  (struct ask){.route = KBS_ROUTE_ADMIN_TLS_KEY_MAKE,
                               .target = TLS,
                               .content_type = body != NULL ? "application/json" : NULL,
                               .body = body},
                  status, text);
}

static void expect_destroy(struct judge *j, const char *version, unsigned int status,
                           const char *text)
{
    char target[128];

    (void)snprintf(target, sizeof(target), TLS "?version=%s", version);
    expect_signed(j,
                  (struct ask){.route = KBS_ROUTE_ADMIN_TLS_KEY_DESTROY,
                               .method = "DELETE",
                               .target = target,
                               .query = {"version", version}},
                  status, text);
}

static void test_versions(void **state)
{
    struct judge *j = *state;
    char uri[128] = "\"uri\":\"pkcs11:id=";
    uint8_t id[KBS_KEY_ID_BYTES];
    size_t n = strlen(uri);

    expect_list(j, "{\"keys\":[]}");
    expect_make(j, NULL, 200, "{\"keys\":[{\"version\":1,\"curve\":\"P-256\",\"state\":\"newest\"");
    assert_int_equal(j->generate.purpose, KBS_PURPOSE_TLS);
    ledger_expect(j, "tls-key-generate phase=intent epoch=1 order=");
    ledger_expect(j, "tls-key-generate phase=outcome epoch=1 order=");
    ledger_expect(j, " thumbprint=");
    kbs_service_key_id(KBS_PURPOSE_TLS, id);
    for (size_t i = 0; i < sizeof(id); i++) {
        n += (size_t)snprintf(uri + n, sizeof(uri) - n, "%%%02x", id[i]);
    }
    (void)snprintf(uri + n, sizeof(uri) - n, "%%00%%00%%00%%01;type=private\"");
    expect_list(j, uri);
    expect_destroy(j, "1", 409, "newest");
    expect_make(j, "{\"curve\":\"P-384\"}", 200, "\"version\":2,\"curve\":\"P-384\"");
    expect_make(j, "{}", 200, "\"version\":3,\"curve\":\"P-384\",\"state\":\"newest\"");
    expect_list(j, "\"version\":2,\"curve\":\"P-384\",\"state\":\"old\"");
    expect_destroy(j, "4", 404, NULL);
    expect_destroy(j, "0", 400, NULL);
    expect_destroy(j, "1", 200, "{\"keys\":[{\"version\":2,");
    ledger_expect(j, "tls-key-destroy phase=outcome");
    expect_destroy(j, "1", 404, NULL);
    expect_list(j, "{\"keys\":[{\"version\":2,");
}

static void test_refusals(void **state)
{
    struct judge *j = *state;

    expect_make(j, "{\"curve\":\"P-521\"}", 400, "P-256 or P-384");
    expect_make(j, "{\"curve\":\"secp256k1\"}", 400, "P-256 or P-384");
    expect_make(j, "{\"curve\":1}", 400, NULL);
    expect_make(j, "{\"alg\":\"ES256\"}", 400, NULL);
    assert_int_equal(j->orders, 0);
    assert_int_equal(j->records, 0);
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_CONFLICT;
    j->refuse_detail = "the token has 16 tls keys";
    expect_make(j, NULL, 409, "16 tls keys");
    ledger_expect(j, "tls-key-generate phase=outcome epoch=1 order=");
    ledger_expect(j, "outcome=failed");
}

static void test_not_a_guests(void **state)
{
    struct judge *j = *state;
    const struct ask ask = {.route = KBS_ROUTE_ADMIN_TLS_KEY_LIST, .method = "GET", .target = TLS};

    judge_expect(j, &ask, 404, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_versions, judge_setup_admin, judge_teardown),
        cmocka_unit_test_setup_teardown(test_refusals, judge_setup_admin, judge_teardown),
        cmocka_unit_test_setup_teardown(test_not_a_guests, judge_setup_release, judge_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
