/*
 * What a handler needs of others: the run that asks leaves no trace, the one that goes on believes nothing
 * that it would not believe of the guest, and a kbs-fetch that comes and goes costs no lane. The test is the
 * front, an honest or a hostile one.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "base/process.h"

#define SE_CHALLENGE "{\"request_blob\":\"eA==\"}"

static int start(void **state, bool has_fetch)
{
    struct judge *j;

    if (judge_setup_release(state) != 0) {
        return -1;
    }
    j = *state;
    j->delegate = KBS_DELEGATE_COCO_REST;
    j->has_fetch = has_fetch;
    j->fetch = -1;
    judge_restart(j);
    return 0;
}

static int setup(void **state)
{
    return start(state, true);
}

static int setup_without(void **state)
{
    return start(state, false);
}

static int teardown(void **state)
{
    struct judge *j = *state;

    kbs_io_close(&j->fetch);
    return judge_teardown(state);
}

/* A body of FETCHED, appended; returns it. */
static struct kbs_span fetched(struct kbs_buf *buf, enum kbs_fetch_outcome outcome, uint32_t status,
                               struct kbs_span body)
{
    const struct kbs_wire_fetched f = {.outcome = (uint8_t)outcome,
                                       .status = status,
                                       .grpc_status = KBS_WIRE_GRPC_NONE,
                                       .content_type = KBS_SPAN_LIT("text/plain"),
                                       .body = body,
                                       .detail = KBS_SPAN_LIT("an address that no guest needs")};
    struct kbs_error err = KBS_ERROR_NONE;

    *buf = KBS_BUF(2 * KBS_LIMIT_FETCH_BYTES);
    assert_int_equal(kbs_wire_body_put(buf, KBS_WIRE_FETCHED, &f, &err), 0);
    return kbs_buf_span(buf);
}

static struct ask attest(const struct guest *g, const char *evidence)
{
    return (struct ask){.route = KBS_ROUTE_ATTEST,
                        .target = "/kbs/v0/attest",
                        .content_type = "application/json",
                        .cookie = g->cookie,
                        .body = evidence};
}

static void test_run_that_asks(void **state)
{
    struct judge *j = *state;
    struct guest g = {.tee = "sample"};
    struct reply *r = calloc(1, sizeof(*r));
    char evidence[4096];

    guest_auth(j, &g);
    guest_evidence(&g, evidence, sizeof(evidence));
    const struct ask ask = attest(&g, evidence);
    for (int again = 0; again < 3; again++) { /* as often as it likes, and in any lane */
        ledger_forget(j);
        judge_ask(j, &ask, r);
        assert_true(r->fetch);
        assert_string_equal(r->endpoint, "as");
        assert_string_equal(r->suffix, "/attestation");
        assert_non_null(strstr(r->body, "\"verification_requests\""));
        assert_non_null(strstr(r->body, g.nonce));
        assert_string_equal(j->ledger_text, "");
        if (again == 1) {
            judge_restart(j);
        }
    }
    free(r);
    guest_free(&g);
}

static void test_no_answer(void **state)
{
    static const struct {
        enum kbs_fetch_outcome outcome;
        uint32_t status;
        unsigned int expected;
        const char *text;
    } rows[] = {
        {KBS_FETCH_FAILED, 0, 503, "cannot be reached"},
        {KBS_FETCH_TIMEOUT, 0, 503, "did not answer in time"},
        {KBS_FETCH_LARGE, 0, 503, "answered more"},
        {KBS_FETCH_OPEN, 0, 503, "failed lately"},
        {KBS_FETCH_REFUSED, 0, 503, "not configured"},
        {KBS_FETCH_DONE, 503, 503, "has trouble"},
        {KBS_FETCH_DONE, 500, 401, "refused the evidence"},
        {KBS_FETCH_DONE, 200, 503, "cannot be read"},
        {KBS_FETCH_NONE, 200, 400, "nobody can have fetched"},
        {KBS_FETCH_OUTCOME_COUNT, 200, 400, "nobody can have fetched"},
    };
    struct judge *j = *state;
    struct guest g = {.tee = "sample"};
    char evidence[4096];

    guest_auth(j, &g);
    guest_evidence(&g, evidence, sizeof(evidence));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ask ask = attest(&g, evidence);
        struct kbs_buf buf;
        const struct kbs_span item = fetched(&buf, rows[i].outcome, rows[i].status, KBS_SPAN_EMPTY);
        struct reply *r = calloc(1, sizeof(*r));

        ask.fetched = &item;
        ask.fetched_count = 1;
        ledger_forget(j);
        judge_ask(j, &ask, r);
        if (r->status != rows[i].expected || strstr(r->body, rows[i].text) == NULL) {
            print_error("row %zu: %u %s\n", i, r->status, r->body);
            fail();
        }
        assert_null(strstr(r->body, "no guest needs"));
        assert_int_equal(strstr(j->ledger_text, "attest-refused") != NULL, r->status == 401);
        free(r);
        kbs_buf_deinit(&buf);
    }
    guest_free(&g);
}

/* A hostile front attaches whatever it likes. */
static void test_answers_that_are_none(void **state)
{
    static const char large[KBS_LIMIT_FETCH_BYTES + 1];
    struct judge *j = *state;
    struct guest g = {.tee = "sample"};
    struct kbs_buf buf;
    char evidence[4096];
    struct kbs_span items[3] = {KBS_SPAN_LIT("garbage"), KBS_SPAN_LIT(""), KBS_SPAN_LIT("\x01")};

    guest_auth(j, &g);
    guest_evidence(&g, evidence, sizeof(evidence));
    struct ask ask = attest(&g, evidence);
    ask.fetched_count = 1;
    for (size_t i = 0; i < 3; i++) {
        ask.fetched = &items[i];
        judge_expect(j, &ask, 400, NULL);
    }
    items[0] = fetched(&buf, KBS_FETCH_DONE, 200, kbs_span(large, sizeof(large)));
    ask.fetched = items;
    judge_expect(j, &ask, 400, "nobody can have fetched");
    kbs_buf_deinit(&buf);
    /* a token that nobody signed, and more answers than questions */
    items[0] = fetched(&buf, KBS_FETCH_DONE, 200, KBS_SPAN_LIT("eyJhbGciOiJub25lIn0.e30.eA"));
    items[1] = items[2] = items[0];
    ask.fetched_count = 3;
    judge_expect(j, &ask, 401, "Attestation error");
    ledger_expect(j, "attest-refused");
    ledger_expect(j, "mode=delegated issuer=as");
    kbs_buf_deinit(&buf);
    guest_free(&g);
}

static void test_challenge(void **state)
{
    struct judge *j = *state;
    struct ask ask = {.route = KBS_ROUTE_AUTH,
                      .target = "/kbs/v0/auth",
                      .content_type = "application/json",
                      .body = "{\"version\":\"0.4.0\",\"tee\":\"se\",\"extra-params\":\"\"}"};
    struct reply *r = calloc(1, sizeof(*r));
    struct kbs_buf buf;
    struct kbs_span item = KBS_SPAN_EMPTY;
    char *large = calloc(1, KBS_LIMIT_CHALLENGE_BYTES + 2);

    judge_ask(j, &ask, r);
    assert_true(r->fetch);
    assert_string_equal(r->suffix, "/challenge");
    assert_string_equal(r->body, "{\"tee\":\"se\",\"tee_params\":\"\"}");
    item = fetched(&buf, KBS_FETCH_DONE, 200, KBS_SPAN_LIT(SE_CHALLENGE));
    ask.fetched = &item;
    ask.fetched_count = 1;
    judge_ask(j, &ask, r);
    assert_int_equal(r->status, 200);
    assert_non_null(strstr(r->body, "\"nonce\":\"{\\\"request_blob\\\":\\\"eA==\\\"}\""));
    kbs_buf_deinit(&buf);
    memset(large, 'x', KBS_LIMIT_CHALLENGE_BYTES);
    item = fetched(&buf, KBS_FETCH_DONE, 200, kbs_span_str(large));
    judge_ask(j, &ask, r);
    assert_int_equal(r->status, 200); /* the longest */
    kbs_buf_deinit(&buf);
    large[KBS_LIMIT_CHALLENGE_BYTES] = 'x';
    item = fetched(&buf, KBS_FETCH_DONE, 200, kbs_span_str(large));
    judge_expect(j, &ask, 503, "over 8192 bytes");
    kbs_buf_deinit(&buf);
    free(large);
    free(r);
}

/* Nothing that needs no answer looks at those that were attached. */
static void test_answers_that_nobody_asked_for(void **state)
{
    struct judge *j = *state;
    const struct kbs_span item = KBS_SPAN_LIT("garbage");
    const struct ask ask = {.route = KBS_ROUTE_AUTH,
                            .target = "/kbs/v0/auth",
                            .content_type = "application/json",
                            .body =
                                "{\"version\":\"0.4.0\",\"tee\":\"sample\",\"extra-params\":\"\"}",
                            .fetched = &item,
                            .fetched_count = 1};
    struct reply *r = calloc(1, sizeof(*r));

    judge_ask(j, &ask, r);
    assert_int_equal(r->status, 200);
    free(r);
}

static void test_kbs_fetch_comes_and_goes(void **state)
{
    struct judge *j = *state;
    struct guest g = {.tee = "sample"};
    struct reply *r = calloc(1, sizeof(*r));
    char evidence[4096];
    pid_t pid = j->pid;

    guest_auth(j, &g);
    guest_evidence(&g, evidence, sizeof(evidence));
    const struct ask ask = attest(&g, evidence);
    kbs_io_close(&j->fetch); /* the front says that, if it is so */
    judge_ask(j, &ask, r);
    assert_true(r->fetch);
    judge_attach_fetch(j);
    judge_ask(j, &ask, r);
    assert_true(r->fetch);
    assert_int_equal(write(j->fetch, "x", 1), 1); /* it never speaks first */
    judge_ask(j, &ask, r);
    assert_true(r->fetch);
    assert_int_equal(j->pid, pid);
    free(r);
    guest_free(&g);
}

static void test_without_kbs_fetch(void **state)
{
    struct judge *j = *state;
    struct guest g = {.tee = "sample"};
    char evidence[4096];

    guest_auth(j, &g);
    guest_evidence(&g, evidence, sizeof(evidence));
    const struct ask ask = attest(&g, evidence);
    judge_expect(j, &ask, 501, "has no kbs-fetch");
    guest_free(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_run_that_asks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_that_are_none, setup, teardown),
        cmocka_unit_test_setup_teardown(test_challenge, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answers_that_nobody_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kbs_fetch_comes_and_goes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_kbs_fetch, setup_without, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
