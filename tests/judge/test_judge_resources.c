/*
 * The judge of the admin lane: resources and documents, by the paths and bodies that clients of the KBS
 * protocol know.
 */
#include "signed.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/digest.h"
#include "base/encoding.h"
#include "base/io.h"
#include "base/process.h"

#define RESOURCE "/kbs/v0/resource/repo/type/tag"
#define POLICY                                       \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[" \
    "{\"claim\":\"kbs.tee\",\"equals\":\"sample\"}]}]}"
#define OTHER_POLICY                                 \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[" \
    "{\"claim\":\"kbs.tee\",\"equals\":\"snp\"}]}]}"

static struct ask ask_resource(enum kbs_route route, const char *method, const char *body)
{
    return (struct ask){.route = route,
                        .method = method,
                        .target = RESOURCE,
                        .params = {"repo", "type", "tag"},
                        .content_type = "application/octet-stream",
                        .body = body};
}

static struct ask ask_set(const char *body)
{
    return ask_resource(KBS_ROUTE_RESOURCE_SET, "POST", body);
}

static struct ask ask_delete(void)
{
    return ask_resource(KBS_ROUTE_RESOURCE_DELETE, "DELETE", NULL);
}

static struct ask ask_resources(void)
{
    return (struct ask){
        .route = KBS_ROUTE_RESOURCE_LIST, .method = "GET", .target = "/kbs/v0/resource"};
}

static struct ask ask_secret(enum kbs_route route, const char *method, const char *target,
                             const char *body)
{
    return (struct ask){.route = route,
                        .method = method,
                        .target = target,
                        .params = {"repo", "type", "tag"},
                        .content_type = body != NULL ? "application/json" : NULL,
                        .body = body};
}

static struct ask ask_show(void)
{
    return ask_secret(KBS_ROUTE_ADMIN_SECRET_SHOW, "GET", "/kbs/v0/admin/secrets/repo/type/tag",
                      NULL);
}

static void restart(struct judge *j)
{
    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    judge_start(j);
}

/* What these clients take for success: 200 and nothing. */
static void expect_empty(struct judge *j, struct ask ask)
{
    struct reply *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    ask_signed(j, ask, r);
    if (r->status != 200) {
        print_error("got %u %s\n", r->status, r->body);
    }
    assert_int_equal(r->status, 200);
    assert_string_equal(r->body, "");
    assert_string_equal(r->type, "");
    free(r);
}

/* ---- resources ---- */

static void test_resource(void **state)
{
    struct judge *j = *state;

    j->resource_policy = POLICY;
    restart(j);
    expect_signed(j, ask_resources(), 200, "[]");
    expect_empty(j, ask_set("hello"));
    assert_true(kbs_span_equal_str(j->seal.plaintext, "hello"));
    assert_true(kbs_span_equal_str(j->seal.kid, "repo/type/tag/v1"));
    ledger_expect(j, "secret-set phase=intent");
    ledger_expect(j, "form=plaintext");
    ledger_expect(j, "outcome=done");
    expect_signed(j, ask_show(), 200, "\"policy\":" POLICY);
    expect_signed(j, ask_resources(), 200, "[\"repo/type/tag\"]");
    expect_empty(j, ask_set("hello again"));
    assert_true(kbs_span_equal_str(j->seal.kid, "repo/type/tag/v2"));
    expect_empty(j, ask_delete());
    ledger_expect(j, "secret-delete phase=outcome");
    expect_signed(j, ask_delete(), 404, NULL);
    expect_signed(j, ask_resources(), 200, "[]");
}

/* The other name is one of the same secrets. */
static void test_pkcs11(void **state)
{
    struct judge *j = *state;
    struct ask set = ask_resource(KBS_ROUTE_PKCS11_RESOURCE_SET, "POST", "hello");
    struct ask delete = ask_resource(KBS_ROUTE_PKCS11_RESOURCE_DELETE, "DELETE", NULL);

    expect_signed(j, set, 401, "another target"); /* signed for the resource's path */
    set.target = delete.target = "/kbs/v0/pkcs11/resource/repo/type/tag";
    expect_empty(j, set);
    expect_signed(j, ask_resources(), 200, "[\"repo/type/tag\"]");
    expect_signed(j, ask_show(), 200, "\"policy\":null");
    expect_empty(j, delete);
    expect_signed(j, ask_resources(), 200, "[]");
}

/* A resource's policy is the configured one each time, whatever its last version had. */
static void test_resource_policy_configured(void **state)
{
    struct judge *j = *state;

    j->resource_policy = POLICY;
    restart(j);
    expect_empty(j, ask_set("one"));
    j->resource_policy = OTHER_POLICY;
    restart(j);
    expect_signed(j, ask_show(), 200, "\"policy\":" POLICY);
    expect_empty(j, ask_set("two"));
    expect_signed(j, ask_show(), 200, "\"policy\":" OTHER_POLICY);
    j->resource_policy = NULL;
    restart(j);
    expect_empty(j, ask_set("three"));
    expect_signed(j, ask_show(), 200, "\"policy\":null");
}

static void test_resource_policy_broken(void **state)
{
    static const char *const broken[] = {"{", "{}", "[]", "{\"version\":\"9\",\"anyOf\":[]}",
                                         "allow"};
    struct judge *j = *state;

    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        j->resource_policy = broken[i];
        judge_start_fails(j, KBS_EXIT_CONFIG);
    }
    j->resource_policy = NULL;
    judge_start(j);
}

static void test_resource_refusals(void **state)
{
    struct judge *j = *state;
    struct ask ask = ask_set("hello");

    j->resource_bytes = 5;
    restart(j);
    expect_signed(j, ask_set(""), 400, "at least one byte");
    expect_signed(j, ask_set("hello!"), 413, "at most 5 bytes");
    judge_expect(j, &ask, 401, "/errors/AdminAuthAccess");
    ask.target = RESOURCE "?x=1";
    ask.query[0] = "x";
    ask.query[1] = "1";
    expect_signed(j, ask, 400, NULL);
    ask = ask_set("hello");
    ask.target = "/kbs/v0/resource/repo/type/.tag";
    ask.params[2] = ".tag";
    expect_signed(j, ask, 400, "repo/type/tag");
    assert_int_equal(j->orders, 0);
    expect_empty(j, ask_set("hello"));
    ask = ask_delete();
    ask.body = "x";
    expect_signed(j, ask, 400, "no body");
    judge_add_key(j, "repo/type/key", 1, POLICY);
    ask = ask_set("hello");
    ask.target = "/kbs/v0/resource/repo/type/key";
    ask.params[2] = "key";
    expect_signed(j, ask, 409, "a key has this path");
}

static void test_resource_in_production(void **state)
{
    struct judge *j = *state;

    expect_signed(j, ask_set("hello"), 403, "sealed by the client");
    assert_int_equal(j->orders, 0);
}

static void test_resource_pages(void **state)
{
    struct judge *j = *state;
    struct ask ask = ask_resources();

    judge_add_secret(j, "s/s/a", 1, NULL);
    judge_add_secret(j, "s/s/b", 1, NULL);
    judge_add_secret(j, "s/s/c", 1, NULL);
    restart(j);
    expect_signed(j, ask, 200, "[\"s/s/a\",\"s/s/b\",\"s/s/c\"]");
    ask.target = "/kbs/v0/resource?limit=2";
    ask.query[0] = "limit";
    ask.query[1] = "2";
    expect_signed(j, ask, 200, "[\"s/s/a\",\"s/s/b\"]");
    ask.target = "/kbs/v0/resource?limit=2&after=s/s/b";
    ask.query[2] = "after";
    ask.query[3] = "s/s/b";
    expect_signed(j, ask, 200, "[\"s/s/c\"]");
    ask.query[3] = "s/s";
    ask.target = "/kbs/v0/resource?limit=2&after=s/s";
    expect_signed(j, ask, 400, "after");
}

/* ---- a secret's policy, without its value ---- */

static struct ask ask_policy(const char *body)
{
    return ask_secret(KBS_ROUTE_ADMIN_SECRET_POLICY, "POST",
                      "/kbs/v0/admin/secrets/repo/type/tag/policy", body);
}

/* What the token sealed is in the store. */
static void expect_sealed(struct judge *j, const char *path)
{
    struct kbs_store *store = NULL;
    struct kbs_buf sealed = KBS_BUF(1024);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_key key;

    assert_int_equal(kbs_store_open(j->store_path, &store, &err), 0);
    assert_int_equal(kbs_store_secret_newest(store, kbs_span_str(path), &key, NULL, &sealed, &err),
                     0);
    assert_true(kbs_span_equal_str(kbs_buf_span(&sealed), JUDGE_SEALED));
    kbs_buf_deinit(&sealed);
    assert_null(kbs_store_close(store));
}

static void test_secret_policy(void **state)
{
    struct judge *j = *state;

    expect_signed(j, ask_policy("{\"policy\":" POLICY "}"), 404, NULL);
    expect_empty(j, ask_set("hello"));
    expect_signed(j, ask_policy("{\"policy\":" POLICY "}"), 200, "\"policy\":" POLICY);
    assert_int_equal(j->recard.floor, KBS_LOCALITY_WORKER);
    ledger_expect(j, "secret-policy phase=intent epoch=2 order=");
    ledger_expect(j, "secret-policy phase=outcome epoch=2 order=");
    expect_signed(j, ask_show(), 200, "\"version\":1,");
    restart(j); /* rows and epoch agree, and what was sealed is still there */
    expect_signed(j, ask_show(), 200, "\"policy\":" POLICY);
    expect_sealed(j, "repo/type/tag");
    expect_signed(j, ask_policy("{\"policy\":null}"), 200, "\"policy\":null");
    expect_signed(j, ask_policy("{}"), 400, "'policy'");
    expect_signed(j, ask_policy("{\"policy\":7}"), 400, NULL);
    expect_signed(j, ask_policy("{\"policy\":null,\"floor\":\"token\"}"), 400, NULL);
    j->token_mood = TOKEN_DISOBEYS;
    expect_signed(j, ask_policy("{\"policy\":" POLICY "}"), 200,
                  NULL); /* its floor is the lowest */
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_UNPROCESSABLE;
    j->refuse_detail = "no";
    expect_signed(j, ask_policy("{\"policy\":null}"), 422, "no");
    expect_signed(j, ask_show(), 200, "\"policy\":" POLICY);
    j->token_mood = TOKEN_OBEYS;
    expect_empty(j, ask_delete());
    expect_signed(j, ask_policy("{\"policy\":null}"), 404, NULL);
}

/* ---- documents ---- */

#define POLICIES "/kbs/v0/resource-policy"
#define ATTESTATION "/kbs/v0/attestation-policy"
#define VALUES "/kbs/v0/reference-value"

static struct ask ask_document(enum kbs_route route, const char *method, const char *target,
                               const char *body)
{
    return (struct ask){.route = route, .method = method, .target = target, .body = body};
}

static struct ask ask_rego(const char *body)
{
    return ask_document(KBS_ROUTE_RESOURCE_POLICY_SET, "POST", POLICIES, body);
}

static struct ask ask_policies(void)
{
    return ask_document(KBS_ROUTE_RESOURCE_POLICY_LIST, "GET", POLICIES, NULL);
}

static struct ask ask_value(const char *id)
{
    static char target[512];
    struct ask ask = ask_document(KBS_ROUTE_REFERENCE_VALUE_SHOW, "GET", target, NULL);

    (void)snprintf(target, sizeof(target), VALUES "/%s", id);
    ask.params[0] = id;
    return ask;
}

/* A message of type sample with that payload. */
static void set_values(struct judge *j, const char *payload, unsigned int status, const char *text)
{
    struct kbs_buf body = KBS_BUF(262144);
    struct ask ask = ask_document(KBS_ROUTE_REFERENCE_VALUE_SET, "POST", VALUES, NULL);

    kbs_buf_put_str(&body, "{\"version\":\"0.1.0\",\"type\":\"sample\",\"payload\":\"");
    kbs_base64_put(&body, kbs_span_str(payload));
    kbs_buf_put_str(&body, "\"}");
    ask.body = kbs_buf_cstr(&body);
    if (status == 200) {
        expect_empty(j, ask);
    } else {
        expect_signed(j, ask, status, text);
    }
    kbs_buf_deinit(&body);
}

static void test_resource_policy(void **state)
{
    struct judge *j = *state;

    expect_signed(j, ask_policies(), 200, "[]");
    expect_empty(j, ask_rego("{\"policy\":\"cGFja2FnZSBwb2xpY3k\"}"));
    ledger_expect(j, "resource-policy-set phase=intent epoch=1 document=resource-policy "
                     "name=resource-policy version=1");
    ledger_expect(j, "outcome=done");
    expect_signed(j, ask_policies(), 200, "[\"resource-policy\"]");
    restart(j);
    expect_signed(j, ask_policies(), 200, "[\"resource-policy\"]");
    expect_empty(j, ask_rego("{\"policy\":\"\"}")); /* takes it back */
    expect_signed(j, ask_policies(), 200, "[]");
    assert_int_equal(j->orders, 0);
}

static void test_document_refusals(void **state)
{
    static const struct {
        enum kbs_route route;
        const char *target;
        const char *body;
        unsigned int status;
    } cases[] = {
        {KBS_ROUTE_RESOURCE_POLICY_SET, POLICIES, "", 400},
        {KBS_ROUTE_RESOURCE_POLICY_SET, POLICIES, "{}", 400},
        {KBS_ROUTE_RESOURCE_POLICY_SET, POLICIES, "{\"policy\":\"cA==\"}", 400}, /* padded */
        {KBS_ROUTE_RESOURCE_POLICY_SET, POLICIES, "{\"policy\":\"_w\"}", 400},   /* not UTF-8 */
        {KBS_ROUTE_RESOURCE_POLICY_SET, POLICIES, "{\"policy\":\"AA\"}", 400},   /* NUL */
        {KBS_ROUTE_RESOURCE_POLICY_SET, POLICIES, "{\"policy\":\"cA\",\"id\":\"x\"}", 400},
        {KBS_ROUTE_ATTESTATION_POLICY_SET, ATTESTATION, "{\"policy\":\"cA\"}", 400},
        {KBS_ROUTE_ATTESTATION_POLICY_SET, ATTESTATION,
         "{\"policy\":\"cA\",\"policy_id\":\"../a\"}", 400},
        {KBS_ROUTE_ATTESTATION_POLICY_SET, ATTESTATION, "{\"policy\":\"cA\",\"policy_id\":\"a/b\"}",
         400},
        {KBS_ROUTE_ATTESTATION_POLICY_SET, ATTESTATION, "{\"policy\":\"cA\",\"policy_id\":\"\"}",
         400},
        {KBS_ROUTE_REFERENCE_VALUE_SET, VALUES,
         "{\"version\":\"0.2.0\",\"type\":\"sample\",\"payload\":\"e30=\"}", 400},
        {KBS_ROUTE_REFERENCE_VALUE_SET, VALUES,
         "{\"version\":\"0.1.0\",\"type\":\"swid\",\"payload\":\"e30=\"}", 501},
        {KBS_ROUTE_REFERENCE_VALUE_SET, VALUES,
         "{\"version\":\"0.1.0\",\"type\":\"corim\",\"payload\":\"e30=\"}", 501},
        {KBS_ROUTE_REFERENCE_VALUE_SET, VALUES,
         "{\"version\":\"0.1.0\",\"type\":\"sample\",\"payload\":\"e30\"}", 400}, /* no padding */
        {KBS_ROUTE_REFERENCE_VALUE_SET, VALUES,
         "{\"version\":\"0.1.0\",\"type\":\"sample\",\"payload\":\"e30=\"}", 400}, /* {} */
        {KBS_ROUTE_REFERENCE_VALUE_SET, VALUES,
         "{\"version\":\"0.1.0\",\"type\":\"sample\",\"payload\":\"W10=\"}", 400}, /* [] */
    };
    struct judge *j = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_signed(j, ask_document(cases[i].route, "POST", cases[i].target, cases[i].body),
                      cases[i].status, NULL);
    }
    set_values(j, "{\"a/../b\":1}", 400, "a name is");
    set_values(j, "{\"\":1}", 400, "a name is");
    set_values(j, "{\"a\":1,\"a\":2}", 400, NULL);
    assert_int_equal(j->epoch, 0); /* nothing came of any */
}

static void test_document_sizes(void **state)
{
    struct judge *j = *state;
    struct kbs_buf text = KBS_BUF(2 * KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_buf body = KBS_BUF(4 * KBS_LIMIT_DOCUMENT_BYTES);

    for (size_t n = KBS_LIMIT_DOCUMENT_BYTES; n <= KBS_LIMIT_DOCUMENT_BYTES + 1; n++) {
        kbs_buf_clear(&text);
        kbs_buf_clear(&body);
        memset(kbs_buf_reserve(&text, n), 'r', n);
        kbs_buf_commit(&text, n);
        kbs_buf_put_str(&body, "{\"policy\":\"");
        kbs_base64url_put(&body, kbs_buf_span(&text));
        kbs_buf_put_str(&body, "\"}");
        if (n == KBS_LIMIT_DOCUMENT_BYTES) {
            expect_empty(j, ask_rego(kbs_buf_cstr(&body)));
        } else {
            expect_signed(j, ask_rego(kbs_buf_cstr(&body)), 413, "at most 65536 bytes");
        }
    }
    kbs_buf_deinit(&text);
    kbs_buf_deinit(&body);
}

static void test_attestation_policy(void **state)
{
    static const char *const bodies[] = {
        "{\"type\":\"rego\",\"policy_id\":\"default_cpu\",\"policy\":\"cGFja2FnZSBwb2xpY3k\"}",
        "{\"policy_id\":\"default_cpu\",\"policy\":\"cGFja2FnZSBw\"}",
        "{\"policy_id\":\"default_gpu\",\"policy\":\"cGFja2FnZSBwb2xpY3k\"}",
    };
    struct judge *j = *state;

    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        expect_empty(
            j, ask_document(KBS_ROUTE_ATTESTATION_POLICY_SET, "POST", ATTESTATION, bodies[i]));
    }
    ledger_expect(j, "document=attestation-policy name=default_cpu version=2");
    ledger_expect(j, "document=attestation-policy name=default_gpu version=1");
    expect_signed(j, ask_policies(), 200, "[]");
}

static void test_reference_values(void **state)
{
    struct judge *j = *state;

    set_values(j, "{\"launch_digest\":[\"aGVsbG8=\"],\"a/b/c\":{\"x\":[1,2.5,true,null]},\"n\":-7}",
               200, NULL);
    ledger_expect(j, "documents=3 names=launch_digest a/b/c n");
    expect_signed(j, ask_value("launch_digest"), 200, "[\"aGVsbG8=\"]");
    expect_signed(j, ask_value("a/b/c"), 200, "{\"x\":[1,2.5,true,null]}");
    expect_signed(j, ask_value("n"), 200, "-7");
    expect_signed(j, ask_value("a/b"), 404, "/errors/RvpsError");
    expect_signed(j, ask_value("a/%62"), 400, NULL);
    set_values(j, "{\"n\":8}", 200, NULL);
    expect_signed(j, ask_value("n"), 200, "8");
    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "old", 1, "{\"expiration\":1,\"value\":1}");
    restart(j);
    expect_signed(j, ask_value("old"), 404, "has expired");
    expect_signed(j, ask_value("n"), 200, "8");
}

/* The newest versions stay, and the store is the ledger's all the time. */
static void test_document_versions(void **state)
{
    struct judge *j = *state;
    struct kbs_store *store = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t rows = 0;
    uint64_t bytes = 0;
    uint32_t oldest = 0;
    char value[32];

    for (int i = 1; i <= KBS_LIMIT_DOCUMENT_VERSIONS + 3; i++) {
        (void)snprintf(value, sizeof(value), "{\"n\":%d,\"m\":%d}", i, i);
        set_values(j, value, 200, NULL);
    }
    restart(j);
    assert_int_equal(kbs_store_open(j->store_path, &store, &err), 0);
    assert_int_equal(kbs_store_document_space(store, &rows, &bytes, &err), 0);
    assert_int_equal(rows, 2 * KBS_LIMIT_DOCUMENT_VERSIONS);
    assert_int_equal(kbs_store_document_versions(store, KBS_DOCUMENT_REFERENCE_VALUE,
                                                 KBS_SPAN_LIT("n"), &rows, &oldest, &err),
                     0);
    assert_int_equal(rows, KBS_LIMIT_DOCUMENT_VERSIONS);
    assert_int_equal(oldest, 4);
    assert_null(kbs_store_close(store));
    expect_signed(j, ask_value("m"), 200, "11");
}

/* The store as it is, at epoch 1. */
static void store_accept(struct judge *j)
{
    expect_signed(j,
                  (struct ask){.route = KBS_ROUTE_ADMIN_STORE_ACCEPT,
                               .target = "/kbs/v0/admin/store/accept",
                               .content_type = "application/json",
                               .body = "{\"epoch\":1}"},
                  200, "\"serves\":true");
}

static void test_document_space(void **state)
{
    struct judge *j = *state;
    struct kbs_buf payload = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);

    kbs_buf_put_u8(&payload, '{');
    for (int i = 0; i <= KBS_LIMIT_REFERENCE_VALUES; i++) {
        kbs_buf_printf(&payload, "%s\"n%d\":1", i > 0 ? "," : "", i);
    }
    kbs_buf_put_u8(&payload, '}');
    set_values(j, kbs_buf_cstr(&payload), 400, "1 to 64");
    kbs_buf_deinit(&payload);
    set_values(j, "{\"x\":1}", 200, NULL);
    judge_tamper(j,
                 "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)"
                 " INSERT INTO document SELECT 3, 'n' || i, 1, 1, 1, '', x'', '' FROM n");
    restart(j);
    store_accept(j);
    set_values(j, "{\"x\":1}", 413, "at most 10000");
}

/* ---- documents that somebody else changed ---- */

static void test_document_edited(void **state)
{
    static const char *const edits[] = {
        "UPDATE document SET text = 'x'",
        "UPDATE document SET name = 'other'",
        "UPDATE document SET kind = 2",
        "UPDATE document SET version = 2",
        "UPDATE document SET created_s = 7",
        "UPDATE document SET request = 'x'",
        "DELETE FROM document",
        "INSERT INTO document SELECT kind, 'more', version, created_s, epoch, request, signature,"
        " text FROM document",
    };
    struct judge *j = *state;

    expect_empty(j, ask_rego("{\"policy\":\"cGFja2FnZSBwb2xpY3k\"}"));
    judge_tamper(j, "CREATE TABLE saved AS SELECT * FROM document");
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        judge_tamper(j, edits[i]);
        restart(j);
        expect_signed(j, ask_policies(), 503, "not those of its epoch");
        expect_signed(j, ask_rego("{\"policy\":\"\"}"), 503, "no key is served");
        judge_tamper(j, "DELETE FROM document");
        judge_tamper(j, "INSERT INTO document SELECT * FROM saved");
    }
    restart(j);
    expect_signed(j, ask_policies(), 200, "[\"resource-policy\"]");
    judge_tamper(j, "UPDATE document SET text = 'x'"); /* while it runs */
    expect_signed(j, ask_policies(), 500, NULL);
    expect_signed(j, ask_set("hello"), 503, "not those of its epoch");
}

/* Accepting the store does not make the row one of ours. */
static void test_document_edited_accepted(void **state)
{
    struct judge *j = *state;

    expect_empty(j, ask_rego("{\"policy\":\"cGFja2FnZSBwb2xpY3k\"}"));
    judge_tamper(j, "UPDATE document SET text = ''");
    restart(j);
    store_accept(j);
    expect_signed(j, ask_policies(), 500, NULL);
    expect_signed(j, ask_rego("{\"policy\":\"\"}"), 500, NULL);
}

static void test_document_crash(void **state)
{
    struct judge *j = *state;

    crash_at(j, ask_rego("{\"policy\":\"cA\"}"), 1);
    expect_signed(j, ask_policies(), 200, "[]");
    crash_at(j, ask_rego("{\"policy\":\"cA\"}"), 2);
    ledger_expect(j, "store-recovered phase=outcome");
    expect_signed(j, ask_policies(), 200, "[\"resource-policy\"]");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, judge_setup_admin, judge_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_resource),
        CASE(test_pkcs11),
        CASE(test_resource_policy_configured),
        CASE(test_resource_policy_broken),
        CASE(test_resource_refusals),
        cmocka_unit_test_setup_teardown(test_resource_in_production, judge_setup_production,
                                        judge_teardown),
        CASE(test_resource_pages),
        CASE(test_secret_policy),
        CASE(test_resource_policy),
        CASE(test_document_refusals),
        CASE(test_document_sizes),
        CASE(test_attestation_policy),
        CASE(test_reference_values),
        CASE(test_document_versions),
        CASE(test_document_space),
        CASE(test_document_edited),
        CASE(test_document_edited_accepted),
        CASE(test_document_crash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
