/*
 * What evidence is worth: reference values and attestation policies, as a guest's handshake meets
 * them, and as administrators set them. kbs-policy is the test's (harness.h).
 */
#include "signed.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/encoding.h"
#include "base/process.h"

#define POLICY "package policy\ntrust_claims := {}\n"
#define OTHER_POLICY "package policy\nresult := {}\n"
#define LATER "{\"expiration\":99999999999,\"value\":"
#define AFFIRMING "{\"executables\":3,\"hardware\":2,\"configuration\":2}"
#define SAMPLE_SVN "1" /* as the harness' guest says */

/* The submodule of the TEE in a new guest's token. Returns owned. */
static json_t *attest(struct judge *j)
{
    struct guest g = {.key = NULL};
    struct kbs_buf text = KBS_BUF(sizeof(g.token));
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON claims = NULL;
    const char *payload = NULL;

    guest_attest(j, &g);
    payload = strchr(g.token, '.');
    assert_non_null(payload);
    payload++;
    assert_int_equal(kbs_base64url_get(&text, kbs_span(payload, strcspn(payload, "."))), 0);
    assert_int_equal(kbs_json_parse_object(kbs_buf_span(&text), "claims", &claims, &err), 0);
    kbs_buf_deinit(&text);
    guest_free(&g);
    return json_incref(json_object_get(json_object_get(claims, "submods"), "cpu0"));
}

static void expect_submod(struct judge *j, const char *status, const char *policy, int executables,
                          int hardware)
{
    KBS_AUTO_JSON cpu = attest(j);
    const json_t *vector = json_object_get(cpu, "ear.trustworthiness-vector");

    assert_string_equal(json_string_value(json_object_get(cpu, "ear.status")), status);
    assert_string_equal(json_string_value(json_object_get(cpu, "ear.appraisal-policy-id")), policy);
    assert_int_equal(json_integer_value(json_object_get(vector, "executables")), executables);
    assert_int_equal(json_integer_value(json_object_get(vector, "hardware")), hardware);
}

/* A guest whose evidence is refused with that reason, to it and in the ledger. */
static void expect_refused(struct judge *j, unsigned int status, const char *text)
{
    struct guest g = {.key = NULL};
    char evidence[4096];
    const struct ask ask = {.route = KBS_ROUTE_ATTEST,
                            .target = "/kbs/v0/attest",
                            .content_type = "application/json",
                            .cookie = g.cookie,
                            .body = evidence};

    guest_auth(j, &g);
    guest_evidence(&g, evidence, sizeof(evidence));
    ledger_forget(j);
    judge_expect(j, &ask, status, text);
    ledger_expect(j, "attest-refused outcome=refused");
    ledger_expect(j, text);
    assert_int_equal(j->orders, 0); /* nothing was signed: it stays a challenge */
    guest_free(&g);
}

static void set_policy_mood(struct judge *j, enum policy_mood mood, const char *result)
{
    bool started = j->policy_mood != POLICY_ABSENT;

    j->policy_mood = mood;
    j->policy_result = result;
    if (!started || mood == POLICY_ABSENT) {
        judge_restart(j);
    }
}

static void test_reference_values(void **state)
{
    struct judge *j = *state;

    expect_submod(j, "contraindicated", "default", 33, 97);
    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "svn", 1, LATER "[\"" SAMPLE_SVN "\"]}");
    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "major_version", 1, LATER "1}");
    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "minimum_minor_version", 1, LATER "4}");
    expect_submod(j, "warning", "default", 33, 2); /* the same judge: a new epoch is seen */
    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "launch_digest", 1, LATER "[\"abcde\"]}");
    expect_submod(j, "warning", "default", 3, 2);
    ledger_expect(j, "status=warning policy=default");
    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "svn", 2, LATER "[\"2\"]}");
    expect_submod(j, "contraindicated", "default", 3, 97);
}

/* One that has expired, or was taken back, is not there. */
static void test_reference_values_end(void **state)
{
    struct judge *j = *state;
    char text[80];

    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "svn", 1,
                       "{\"expiration\":1,\"value\":[\"2\"]}");
    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "launch_digest", 1, LATER "[\"abcde\"]}");
    expect_submod(j, "contraindicated", "default", 3, 97);
    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "launch_digest", 2, "");
    expect_submod(j, "contraindicated", "default", 33, 97);
    /* Expires while the judge knows it: no epoch says so. */
    (void)snprintf(text, sizeof(text), "{\"expiration\":%lld,\"value\":\"abcde\"}",
                   (long long)kbs_clock_unix_s() + 2);
    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "launch_digest", 3, text);
    expect_submod(j, "contraindicated", "default", 3, 97);
    judge_serve(j, 2500);
    expect_submod(j, "contraindicated", "default", 33, 97);
}

static void test_policy(void **state)
{
    struct judge *j = *state;

    set_policy_mood(j, POLICY_RESULT, AFFIRMING);
    expect_submod(j, "contraindicated", "default", 33, 97);
    assert_int_equal(j->policy_loads, 0);
    judge_add_document(j, KBS_DOCUMENT_ATTESTATION_POLICY, "default", 1, OTHER_POLICY);
    judge_add_document(j, KBS_DOCUMENT_ATTESTATION_POLICY, "default_gpu", 1, POLICY);
    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "x", 1, LATER "[1]}");
    expect_submod(j, "affirming", "default/v1", 3, 2);
    assert_string_equal(j->policy_text, OTHER_POLICY);
    assert_string_equal(j->policy_data, "{\"reference\":{\"x\":[1]}}");
    assert_non_null(strstr(j->policy_input, "\"sample\":{"));
    assert_non_null(strstr(j->policy_input, "\"launch_digest\":\"abcde\""));
    assert_non_null(strstr(j->policy_input, "\"runtime_data_claims\":{"));
    ledger_expect(j, "status=affirming policy=default/v1");
    judge_add_document(j, KBS_DOCUMENT_ATTESTATION_POLICY, "default_cpu", 7, POLICY);
    j->policy_result = "{\"hardware\":32,\"file_system\":2}";
    expect_submod(j, "warning", "default_cpu/v7", 0, 32);
    assert_string_equal(j->policy_text, POLICY);
    expect_submod(j, "warning", "default_cpu/v7", 0, 32);
    assert_int_equal(j->policy_loads, 2); /* it is known by then */
}

/* Whatever goes wrong with a policy, the evidence is refused. */
static void test_policy_fails(void **state)
{
    static const struct {
        enum policy_mood mood;
        const char *result;
        unsigned int status;
        const char *text;
    } cases[] = {
        {POLICY_ERROR, NULL, 401, "default_cpu/v1: it cannot be evaluated (line 3, column 4)"},
        {POLICY_RESULT, "{}", 401, "default_cpu/v1: no trust claim is made"},
        {POLICY_RESULT, "{\"hardware\":200}", 401, "not an integer of a byte"},
        {POLICY_RESULT, "{\"allow\":true}", 401, "'allow' is no trust claim"},
        {POLICY_RESULT, "[2]", 401, "its result"},
        {POLICY_RESULT, "", 401, "its result"},
        {POLICY_ABSENT, NULL, 501, "no kbs-policy"},
        {POLICY_REFUSES, NULL, 401, "cannot be evaluated (line 3, column 4)"},
    };
    struct judge *j = *state;

    judge_add_document(j, KBS_DOCUMENT_ATTESTATION_POLICY, "default_cpu", 1, POLICY);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        j->policy_text[0] = '\0';
        set_policy_mood(j, cases[i].mood, cases[i].result);
        expect_refused(j, cases[i].status, cases[i].text);
    }
    judge_add_document(j, KBS_DOCUMENT_ATTESTATION_POLICY, "default_cpu", 2, ""); /* taken back */
    expect_submod(j, "contraindicated", "default", 33, 97);
}

static void test_policy_hangs_up(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    char evidence[4096];
    const struct ask ask = {.route = KBS_ROUTE_ATTEST,
                            .target = "/kbs/v0/attest",
                            .content_type = "application/json",
                            .cookie = g.cookie,
                            .body = evidence};

    judge_add_document(j, KBS_DOCUMENT_ATTESTATION_POLICY, "default", 1, POLICY);
    set_policy_mood(j, POLICY_HANGS_UP, NULL);
    guest_auth(j, &g);
    guest_evidence(&g, evidence, sizeof(evidence));
    judge_expect(j, &ask, 503, "policy engine");
    assert_int_equal(judge_wait(j), KBS_EXIT_FAILURE);
    j->policy_mood = POLICY_ABSENT;
    judge_start(j);
    guest_free(&g);
}

/* A row that is not signed as it is counts for nothing, and so does evidence. */
static void test_reference_edited(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    char evidence[4096];
    const struct ask ask = {.route = KBS_ROUTE_ATTEST,
                            .target = "/kbs/v0/attest",
                            .content_type = "application/json",
                            .cookie = g.cookie,
                            .body = evidence};

    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "svn", 1, LATER "[\"2\"]}");
    judge_tamper(j, "UPDATE document SET text = replace(text, '\"2\"', '\"1\"')");
    guest_auth(j, &g);
    guest_evidence(&g, evidence, sizeof(evidence));
    judge_expect(j, &ask, 500, "Internal error");
    guest_free(&g);
}

/* ---- administrators ---- */

#define VALUES "/kbs/v0/admin/reference-values"

static struct ask ask_values(const char *method, const char *body)
{
    return (struct ask){.route = strcmp(method, "GET") == 0 ? KBS_ROUTE_ADMIN_REFERENCE_LIST
                                                            : KBS_ROUTE_ADMIN_REFERENCE_SET,
                        .method = method,
                        .target = VALUES,
                        .content_type = body != NULL ? "application/json" : NULL,
                        .body = body};
}

static struct ask ask_value(const char *method, const char *target)
{
    return (struct ask){.route = strcmp(method, "GET") == 0 ? KBS_ROUTE_ADMIN_REFERENCE_SHOW
                                                            : KBS_ROUTE_ADMIN_REFERENCE_DELETE,
                        .method = method,
                        .target = target,
                        .params = {target + strlen(VALUES "/")}};
}

static void test_admin_values(void **state)
{
    struct judge *j = *state;

    expect_signed(j, ask_values("GET", NULL), 200, "{\"values\":[],\"more\":false}");
    expect_signed(
        j, ask_values("POST", "{\"values\":{\"a/b\":[\"x\"],\"n\":3},\"expires\":99999999999}"),
        200, "{\"set\":2,\"expires\":99999999999}");
    ledger_expect(j, "reference-value-set phase=intent epoch=1");
    expect_signed(j, ask_value("GET", VALUES "/a/b"), 200,
                  "\"expires\":99999999999,\"value\":[\"x\"]}");
    expect_signed(j, ask_values("GET", NULL), 200, "{\"values\":[{\"name\":\"a/b\",\"version\":1,");
    expect_signed(j, ask_values("GET", NULL), 200, "\"value\":3,\"by\":\"");
    expect_signed(j, ask_value("DELETE", VALUES "/n"), 200, "\"value\":3}");
    ledger_expect(j, "reference-value-delete phase=intent");
    expect_signed(j, ask_value("DELETE", VALUES "/n"), 404, NULL);
    expect_signed(j, ask_value("GET", VALUES "/n"), 404, NULL);
    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "old", 1, "{\"expiration\":1,\"value\":1}");
    judge_restart(j);
    expect_signed(j, ask_value("GET", VALUES "/old"), 404, "expired");
    expect_signed(j, ask_values("GET", NULL), 200, "[\"x\"],\"by\":");
}

static void test_admin_values_refused(void **state)
{
    static const struct {
        const char *body;
        unsigned int status;
    } cases[] = {
        {"{}", 400},
        {"{\"values\":{}}", 400},
        {"{\"values\":[1]}", 400},
        {"{\"values\":{\"a b\":1}}", 400},
        {"{\"values\":{\"a\":1},\"expires\":1}", 400},
        {"{\"values\":{\"a\":1},\"expires\":\"2030\"}", 400},
        {"{\"values\":{\"a\":1},\"more\":1}", 400},
    };
    struct judge *j = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        expect_signed(j, ask_values("POST", cases[i].body), cases[i].status, NULL);
    }
    judge_expect(j,
                 &(struct ask){.route = KBS_ROUTE_ADMIN_REFERENCE_SET,
                               .target = VALUES,
                               .content_type = "application/json",
                               .body = "{\"values\":{\"a\":1}}"},
                 401, "Kbs-Signature is missing");
    assert_int_equal(j->epoch, 0);
}

/* All of them together keep to what an attestation can read. */
static void test_admin_values_space(void **state)
{
    struct judge *j = *state;
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    char name[16];

    kbs_buf_put_str(&text, LATER "\"");
    while (text.len < KBS_LIMIT_DOCUMENT_BYTES - 8) {
        kbs_buf_put_u8(&text, 'x');
    }
    kbs_buf_put_str(&text, "\"}");
    for (int i = 0; i < 15; i++) {
        (void)snprintf(name, sizeof(name), "n%d", i);
        judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, name, 1, kbs_buf_cstr(&text));
    }
    judge_restart(j);
    expect_signed(j, ask_values("POST", "{\"values\":{\"small\":1}}"), 200, "\"set\":1");
    judge_add_document(j, KBS_DOCUMENT_REFERENCE_VALUE, "last", 1, kbs_buf_cstr(&text));
    judge_restart(j);
    expect_signed(j, ask_values("POST", "{\"values\":{\"a\":\"0123456789\",\"b\":\"0123456789\"}}"),
                  413, "all reference values together");
    expect_signed(j, ask_values("POST", "{\"values\":{\"n1\":1}}"), 200, NULL); /* in its place */
    kbs_buf_deinit(&text);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, judge_setup_release, judge_teardown)
#define ADMIN(name) cmocka_unit_test_setup_teardown(name, judge_setup_admin, judge_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_reference_values),
        CASE(test_reference_values_end),
        CASE(test_policy),
        CASE(test_policy_fails),
        CASE(test_policy_hangs_up),
        CASE(test_reference_edited),
        ADMIN(test_admin_values),
        ADMIN(test_admin_values_refused),
        ADMIN(test_admin_values_space),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
