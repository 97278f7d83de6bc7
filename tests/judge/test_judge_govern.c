/*
 * Policies under administration, and requests that one administrator alone cannot have carried out: what is
 * put down, who counts, what executes, and what a changed, repeated or edited one comes to.
 */
#include "signed.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/encoding.h"
#include "base/io.h"
#include "base/process.h"
#include "catalog/approval.h"

#define POLICIES "/kbs/v0/admin/policies"
#define APPROVALS "/kbs/v0/admin/approvals"
#define KEY "/kbs/v0/admin/keys/repo/type/tag"
#define JSON "application/json"
#define SET_P "{\"policy\":\"cA\"}" /* "p" */
#define SET_Q "{\"policy\":\"cQ\"}"
#define RELEASE_POLICY \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[{\"claim\":\"kbs.tee\",\"equals\":\"snp\"}]}]}"

static struct ask ask_policy(const char *method, const char *target, const char *name,
                             const char *body)
{
    enum kbs_route route = body != NULL ? KBS_ROUTE_ADMIN_POLICY_SET : KBS_ROUTE_ADMIN_POLICY_SHOW;

    return (struct ask){.route = route,
                        .method = method,
                        .target = target,
                        .params = {name},
                        .content_type = body != NULL ? JSON : NULL,
                        .body = body};
}

static struct ask set_default(const char *body)
{
    return ask_policy("POST", POLICIES "/resource-policy", "resource-policy", body);
}

static struct ask show_default(void)
{
    return ask_policy("GET", POLICIES "/resource-policy", "resource-policy", NULL);
}

static struct ask list_policies(void)
{
    return (struct ask){.route = KBS_ROUTE_ADMIN_POLICY_LIST, .method = "GET", .target = POLICIES};
}

static struct ask destroy_key(const char *body)
{
    return (struct ask){.route = KBS_ROUTE_ADMIN_KEY_DESTROY,
                        .method = "DELETE",
                        .target = KEY,
                        .params = {"repo", "type", "tag"},
                        .content_type = JSON,
                        .body = body};
}

/* ---- policies ---- */

static void test_names(void **state)
{
    static const char *const good[] = {"resource-policy/acme", "resource-policy/acme/keys",
                                       "resource-policy/acme/keys/one",
                                       "attestation-policy/default_cpu"};
    static const char *const bad[] = {"acme",
                                      "resource-policy/",
                                      "resource-policy/a/b/c/d",
                                      "resource-policy/../b",
                                      "attestation-policy/a/b",
                                      "reference-value/a",
                                      "approval/00"};
    struct judge *j = *state;
    char target[128];

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        (void)snprintf(target, sizeof(target), POLICIES "/%s", good[i]);
        expect_signed(j, ask_policy("POST", target, good[i], SET_P), 200, "\"version\":1");
        expect_signed(j, ask_policy("GET", target, good[i], NULL), 200, "\"policy\":\"p\"");
    }
    ledger_expect(j, "resource-policy-set phase=intent epoch=2 document=resource-policy "
                     "name=resource-policy/acme/keys version=1");
    ledger_expect(j, "attestation-policy-set phase=outcome");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        (void)snprintf(target, sizeof(target), POLICIES "/%s", bad[i]);
        expect_signed(j, ask_policy("POST", target, bad[i], SET_P), 400, "a policy is");
        expect_signed(j, ask_policy("GET", target, bad[i], NULL), 400, "a policy is");
    }
    expect_signed(j, list_policies(), 200,
                  "{\"policies\":[{\"name\":\"attestation-policy/default_cpu\"");
    expect_signed(j, list_policies(), 200,
                  "{\"name\":\"resource-policy/acme/keys/one\",\"version\":1,");
    expect_signed(j, show_default(), 404, NULL);
}

static void test_list_pages(void **state)
{
    static const struct {
        const char *query[4];
        const char *target;
        const char *text;
    } cases[] = {
        {{"limit", "1"}, POLICIES "?limit=1", "attestation-policy/b\""},
        {{"limit", "1", "after", "attestation-policy/b"},
         POLICIES "?limit=1&after=attestation-policy/b",
         "{\"policies\":[{\"name\":\"resource-policy\","},
        {{"after", "resource-policy"}, POLICIES "?after=resource-policy", "resource-policy/a\""},
        {{"after", "resource-policy/a"},
         POLICIES "?after=resource-policy/a",
         "{\"policies\":[],\"more\":false}"},
    };
    struct judge *j = *state;

    expect_signed(j, set_default(SET_P), 200, NULL);
    expect_signed(j, ask_policy("POST", POLICIES "/resource-policy/a", "resource-policy/a", SET_P),
                  200, NULL);
    expect_signed(
        j, ask_policy("POST", POLICIES "/attestation-policy/b", "attestation-policy/b", SET_P), 200,
        NULL);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ask ask = list_policies();

        ask.target = cases[i].target;
        memcpy(ask.query, cases[i].query, sizeof(cases[i].query));
        expect_signed(j, ask, 200, cases[i].text);
    }
}

static void test_history(void **state)
{
    struct judge *j = *state;
    struct kbs_ec_public public = key_public(j->admin, KBS_CURVE_P256);
    struct ask history =
        ask_policy("GET", POLICIES "/resource-policy?history=true", "resource-policy", NULL);
    struct ask second =
        ask_policy("GET", POLICIES "/resource-policy?version=2", "resource-policy", NULL);
    char who[64] = "\"admin\":\"";

    kbs_jose_thumbprint(&public, who + strlen(who));
    history.query[0] = "history";
    history.query[1] = "true";
    second.query[0] = "version";
    second.query[1] = "2";
    expect_signed(j, history, 404, NULL);
    expect_signed(j, set_default(SET_P), 200, NULL);
    expect_signed(j, set_default(SET_Q), 200, "\"policy\":\"q\"");
    expect_signed(j, history, 200, "{\"versions\":[{\"name\":\"resource-policy\",\"version\":2,");
    expect_signed(j, history, 200, who);
    expect_signed(j, second, 200, "\"policy\":\"q\"");
    expect_signed(j, set_default("{\"rollback\":1}"), 200, "\"version\":3");
    expect_signed(j, show_default(), 200, "\"policy\":\"p\"");
    expect_signed(j, set_default("{\"rollback\":9}"), 404, NULL);
    expect_signed(j, set_default("{\"rollback\":0}"), 400, "rollback");
    expect_signed(j, set_default("{\"rollback\":1,\"policy\":\"cA\"}"), 400, "not both");
    expect_signed(j, set_default("{}"), 400, "not both");
    for (int i = 0; i < KBS_LIMIT_DOCUMENT_VERSIONS; i++) {
        expect_signed(j, set_default(SET_Q), 200, NULL);
    }
    expect_signed(j, second, 404, NULL); /* so many are kept */
    expect_signed(j, set_default("{\"rollback\":2}"), 404, NULL);
    expect_signed(j, set_default("{\"policy\":\"\"}"), 200, "\"policy\":\"\""); /* taken back */
    history.target = POLICIES "/resource-policy?history=yes";
    history.query[1] = "yes";
    expect_signed(j, history, 400, "history may only be true");
    judge_tamper(j, "UPDATE document SET request = 'x' WHERE version = 6");
    history.target = POLICIES "/resource-policy?history=true";
    history.query[1] = "true";
    expect_signed(j, history, 500, NULL); /* who it was cannot be told by an edited row */
}

/* ---- approvals ---- */

/* Three administrators, of which so many are needed. */
static void need(struct judge *j, uint32_t approvals)
{
    if (j->others[0] == NULL) {
        j->others[0] = key_new("P-256");
        j->others[1] = key_new("P-256");
    }
    j->approvals = approvals;
    j->approvals_for = KBS_WIRE_APPROVALS_POLICY | KBS_WIRE_APPROVALS_DESTROY;
    judge_restart(j);
}

/* As another administrator. */
static void reply_by(struct judge *j, EVP_PKEY *who, struct ask ask, struct reply *ret)
{
    struct signature s = signature_for(j, &ask);

    s.key = who;
    ask.signature = signature_make(&s);
    judge_ask(j, &ask, ret);
}

static void expect_by(struct judge *j, EVP_PKEY *who, struct ask ask, unsigned int status,
                      const char *text)
{
    struct signature s = signature_for(j, &ask);

    s.key = who;
    ask.signature = signature_make(&s);
    judge_expect(j, &ask, status, text);
}

/* A request that waits, and the one that approves of it. */
struct waiting {
    char id[33];
    char target[96];
    char body[80];
    struct ask give;
    struct ask show;
    struct ask withdraw;
};

static void waiting_init(struct waiting *w, const struct ask *asked, const char *id)
{
    struct kbs_buf body = KBS_BUF(sizeof(w->body) - 1);
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_approval_digest(kbs_span_str(asked->method != NULL ? asked->method : "POST"),
                        kbs_span_str(asked->target), kbs_span_str(asked->body), digest);
    kbs_approval_body_put(&body, digest);
    (void)snprintf(w->id, sizeof(w->id), "%s", id);
    (void)snprintf(w->target, sizeof(w->target), APPROVALS "/%s", id);
    (void)snprintf(w->body, sizeof(w->body), "%s", kbs_buf_cstr(&body));
    kbs_buf_deinit(&body);
    w->give = (struct ask){.route = KBS_ROUTE_ADMIN_APPROVAL_GIVE,
                           .target = w->target,
                           .params = {w->id},
                           .content_type = JSON,
                           .body = w->body};
    w->show = (struct ask){.route = KBS_ROUTE_ADMIN_APPROVAL_SHOW,
                           .method = "GET",
                           .target = w->target,
                           .params = {w->id}};
    w->withdraw = (struct ask){.route = KBS_ROUTE_ADMIN_APPROVAL_WITHDRAW,
                               .method = "DELETE",
                               .target = w->target,
                               .params = {w->id}};
}

/* Asks as the first administrator and expects that it waits. */
static void ask_waits(struct judge *j, struct ask ask, struct waiting *w)
{
    struct reply *r = calloc(1, sizeof(*r));
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON body = NULL;

    assert_non_null(r);
    reply_by(j, j->admin, ask, r);
    if (r->status != 202) {
        print_error("got %u %s\n", r->status, r->body);
    }
    assert_int_equal(r->status, 202);
    assert_int_equal(kbs_json_parse_object(kbs_span_str(r->body), "answer", &body, &err), 0);
    waiting_init(w, &ask, json_string_value(json_object_get(body, "approval")));
    free(r);
}

static struct ask list_approvals(void)
{
    return (struct ask){
        .route = KBS_ROUTE_ADMIN_APPROVAL_LIST, .method = "GET", .target = APPROVALS};
}

static void test_two_of_three(void **state)
{
    struct judge *j = *state;
    struct waiting w;

    need(j, 2);
    ask_waits(j, set_default(SET_P), &w);
    ledger_expect(j, "approval-request phase=intent epoch=1 document=approval name=");
    ledger_expect(j, "for=resource-policy-set method=POST target=" POLICIES
                     "/resource-policy digest=");
    ledger_expect_not(j, "kind=resource-policy-set");
    expect_signed(j, show_default(), 404, NULL);
    expect_signed(j, list_approvals(), 200,
                  "\"state\":\"pending\",\"for\":\"resource-policy-set\"");
    expect_signed(j, w.show, 200, "\"needs\":1,");
    expect_signed(j, w.show, 200, "\"body\":\"{\\\"policy\\\":\\\"cA\\\"}\"}");
    expect_signed(j, w.give, 409, "agreed already"); /* who asked has agreed by that */
    ledger_forget(j);
    expect_by(j, j->others[0], w.give, 200,
              "\"state\":\"executed\",\"answer\":{\"name\":\"resource-policy\",");
    ledger_expect(j, "resource-policy-set phase=intent epoch=2");
    ledger_expect(j, "approvers=");
    ledger_expect(j, "resource-policy-set phase=outcome epoch=2");
    expect_signed(j, show_default(), 200, "\"policy\":\"p\"");
    expect_by(j, j->others[1], w.give, 409, "it was executed"); /* once */
    expect_signed(j, w.withdraw, 409, "it was executed");
    expect_signed(j, w.show, 200, "\"state\":\"executed\"");
    expect_signed(j, w.show, 200, "\"body\":\"\"}");
}

static void test_three_of_three(void **state)
{
    struct judge *j = *state;
    struct waiting w;

    need(j, 3);
    ask_waits(j, set_default(SET_P), &w);
    expect_by(j, j->others[0], w.give, 202, "\"needs\":1,");
    ledger_expect(j, "approval-give phase=outcome epoch=2");
    expect_by(j, j->others[0], w.give, 409, "agreed already");
    expect_signed(j, show_default(), 404, NULL);
    judge_restart(j);
    expect_by(j, j->others[1], w.give, 200, "\"state\":\"executed\"");
    expect_signed(j, show_default(), 200, "\"policy\":\"p\"");
}

/* Every kind of change that is governed waits; what is not, does not. */
static void test_kinds(void **state)
{
    struct judge *j = *state;
    struct ask key_policy = {.route = KBS_ROUTE_ADMIN_KEY_POLICY,
                             .target = KEY "/policy",
                             .params = {"repo", "type", "tag"},
                             .content_type = JSON,
                             .body = "{\"policy\":" RELEASE_POLICY "}"};
    struct ask disable = {.route = KBS_ROUTE_ADMIN_KEY_DISABLE,
                          .target = KEY "/disable",
                          .params = {"repo", "type", "tag"}};
    struct ask trustee = {.route = KBS_ROUTE_RESOURCE_POLICY_SET,
                          .target = "/kbs/v0/resource-policy",
                          .content_type = JSON,
                          .body = SET_P};
    struct ask value = {
        .route = KBS_ROUTE_REFERENCE_VALUE_SET,
        .target = "/kbs/v0/reference-value",
        .body = "{\"version\":\"0.1.0\",\"type\":\"sample\",\"payload\":\"eyJhIjoxfQ==\"}"};
    struct ask delete = {.route = KBS_ROUTE_ADMIN_SECRET_DELETE,
                         .method = "DELETE",
                         .target = "/kbs/v0/admin/secrets/repo/type/secret",
                         .params = {"repo", "type", "secret"}};
    struct waiting w;

    judge_add_key(j, "repo/type/tag", 1, NULL);
    judge_add_secret(j, "repo/type/secret", 1, NULL);
    need(j, 2);
    ask_waits(j, trustee, &w);
    expect_by(j, j->others[0], w.give, 200, "\"answer\":null}"); /* as Trustee has it: nothing */
    ask_waits(j, value, &w);
    ask_waits(j, delete, &w);
    expect_by(j, j->others[1], w.give, 200, "\"state\":\"destroyed\"");
    expect_signed(j, disable, 200, "\"state\":\"disabled\"");
    ask_waits(j, key_policy, &w);
    expect_by(j, j->others[0], w.give, 200, "\"floor\"");
    ask_waits(j, destroy_key(""), &w);
    expect_by(j, j->others[0], w.give, 200, "\"state\":\"pending-destruction\"");
    j->approvals_for = KBS_WIRE_APPROVALS_POLICY;
    judge_restart(j);
    expect_signed(j, destroy_key("{\"after_s\":0}"), 200, "\"state\":\"destroyed\"");
    ask_waits(j, set_default(SET_Q), &w);
}

/* What a request would be refused for is said when it is asked for, and nothing is put down. */
static void test_refused_at_once(void **state)
{
    struct judge *j = *state;

    need(j, 2);
    expect_signed(j, destroy_key("{\"after_s\":0}"), 404, NULL);
    expect_signed(j, set_default("{\"policy\":\"=\"}"), 400, NULL);
    expect_signed(j, set_default("{\"rollback\":1}"), 404, NULL);
    expect_signed(j, list_approvals(), 200, "{\"approvals\":[]}");
    assert_int_equal(j->records, 0);
}

/* Destroying at once is two mutations: both are on the same approval, which is used up by the first. */
static void test_destroy_now(void **state)
{
    struct judge *j = *state;
    struct waiting w;

    judge_add_key(j, "repo/type/tag", 1, NULL);
    need(j, 2);
    ask_waits(j, destroy_key("{\"after_s\":0}"), &w);
    assert_int_equal(j->orders, 0);
    expect_by(j, j->others[1], w.give, 200, "\"gone\":\"now\"");
    ledger_expect(j, "key-state phase=intent epoch=3");
    ledger_expect(j, "key-destroy phase=outcome epoch=4");
    assert_int_equal(j->orders, 1);
    expect_by(j, j->others[0], w.give, 409, "it was executed");
}

/* The token refuses: nothing is used up, and the same approval can be tried again. */
static void test_execution_fails(void **state)
{
    struct judge *j = *state;
    struct waiting w;

    judge_add_key(j, "repo/type/tag", 1, NULL);
    need(j, 2);
    ask_waits(j,
              (struct ask){.route = KBS_ROUTE_ADMIN_KEY_POLICY,
                           .target = KEY "/policy",
                           .params = {"repo", "type", "tag"},
                           .content_type = JSON,
                           .body = "{\"policy\":" RELEASE_POLICY "}"},
              &w);
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_UNSUPPORTED;
    j->refuse_detail = "not today";
    expect_by(j, j->others[0], w.give, 501, "not today");
    expect_signed(j, w.show, 200, "\"state\":\"pending\"");
    j->token_mood = TOKEN_OBEYS;
    expect_by(j, j->others[0], w.give, 200, "\"state\":\"executed\"");
}

static void test_changed_meanwhile(void **state)
{
    struct judge *j = *state;
    struct waiting first;
    struct waiting second;
    struct waiting destroy;
    struct ask disable = {.route = KBS_ROUTE_ADMIN_KEY_DISABLE,
                          .target = KEY "/disable",
                          .params = {"repo", "type", "tag"}};

    judge_add_key(j, "repo/type/tag", 1, NULL);
    need(j, 2);
    ask_waits(j, set_default(SET_P), &first);
    ask_waits(j, set_default(SET_Q), &second);
    ask_waits(j, destroy_key(""), &destroy);
    expect_by(j, j->others[0], second.give, 200, NULL);
    expect_by(j, j->others[0], first.give, 409, "has been changed since");
    expect_signed(j, show_default(), 200, "\"policy\":\"q\"");
    expect_signed(j, disable, 200, NULL);
    expect_by(j, j->others[0], destroy.give, 409, "has been changed since");
    expect_by(j, j->others[0], first.withdraw, 200, "\"state\":\"withdrawn\"");
    ledger_expect(j, "approval-withdraw phase=outcome");
    expect_by(j, j->others[0], first.give, 409, "it was withdrawn");
}

static void test_who_counts(void **state)
{
    struct judge *j = *state;
    EVP_PKEY *stranger = key_new("P-256");
    struct waiting w;
    struct waiting other;
    struct ask wrong;

    need(j, 2);
    ask_waits(j, set_default(SET_P), &w);
    expect_by(j, stranger, w.give, 401, "not enrolled");
    wrong = w.give;
    wrong.body = "{\"digest\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}";
    expect_by(j, j->others[0], wrong, 409, "not that of the request");
    wrong.body = NULL;
    expect_by(j, j->others[0], wrong, 409, "not that of the request");
    waiting_init(&other, &(struct ask){.target = "/x", .body = ""}, "00");
    expect_by(j, j->others[0], other.give, 400, "32 hex digits");
    waiting_init(&other, &(struct ask){.target = "/x", .body = ""},
                 "00000000000000000000000000000000");
    expect_by(j, j->others[0], other.give, 404, "no such approval");
    EVP_PKEY_free(stranger);
}

/* An administrator who has left counts no more, and what he asked for is nobody's wish. */
static void test_left(void **state)
{
    struct judge *j = *state;
    EVP_PKEY *first = j->admin;
    struct waiting mine;
    struct waiting his;

    need(j, 3);
    ask_waits(j, set_default(SET_P), &mine);
    expect_by(j, j->others[0], mine.give, 202, "\"needs\":1");
    j->admin = j->others[0];
    ask_waits(j, set_default(SET_Q), &his);
    j->admin = first;
    expect_signed(j, his.give, 202, "\"needs\":1");
    EVP_PKEY_free(j->others[0]);
    j->others[0] = key_new("P-256"); /* another one took his place */
    judge_restart(j);
    expect_signed(j, mine.show, 200, "\"needs\":2");
    expect_by(j, j->others[1], mine.give, 202, "\"needs\":1");
    expect_by(j, j->others[1], his.give, 409, "not enrolled any more");
    expect_by(j, j->others[0], mine.give, 200, "\"state\":\"executed\"");
}

static void test_expired(void **state)
{
    struct judge *j = *state;
    char text[] =
        "{\"state\":\"pending\",\"kind\":\"resource-policy-set\",\"route\":98,\"method\":\"POST\","
        "\"target\":\"/x\",\"params\":[],\"query\":[],\"content_type\":\"\",\"body\":\"\","
        "\"digest\":\"0000000000000000000000000000000000000000000000000000000000000000\","
        "\"basis\":\"0000000000000000000000000000000000000000000000000000000000000000\","
        "\"expires\":1,\"requests\":[\"x\"]}";
    struct waiting w;

    judge_add_document(j, KBS_DOCUMENT_APPROVAL, "0123456789abcdef0123456789abcdef", 1, text);
    need(j, 2);
    waiting_init(&w, &(struct ask){.target = "/x", .body = ""}, "0123456789abcdef0123456789abcdef");
    expect_by(j, j->others[0], w.give, 409, "waited too long: it is expired");
}

static void test_room(void **state)
{
    struct judge *j = *state;
    struct waiting first;
    struct waiting w;

    need(j, 2);
    ask_waits(j, set_default(SET_P), &first);
    for (int i = 1; i < KBS_LIMIT_APPROVALS; i++) {
        ask_waits(j, set_default(SET_P), &w);
    }
    expect_signed(j, set_default(SET_P), 429, "withdraw one");
    expect_signed(j, first.withdraw, 200, NULL);
    ask_waits(j, set_default(SET_Q), &w);
    expect_signed(j, first.show, 404, NULL); /* made room */
}

/* Who cannot sign cannot be counted. */
static void test_modes(void **state)
{
    struct judge *j = *state;
    struct ask trustee = {.route = KBS_ROUTE_RESOURCE_POLICY_SET,
                          .target = "/kbs/v0/resource-policy",
                          .content_type = JSON,
                          .body = SET_P};
    struct ask list = {.route = KBS_ROUTE_RESOURCE_POLICY_LIST,
                       .method = "GET",
                       .target = "/kbs/v0/resource-policy"};

    j->admin_mode = KBS_ADMIN_INSECURE_ALLOW_ALL;
    need(j, 2);
    judge_expect(j, &trustee, 403, "/errors/AdminAuthAccess");
    ledger_expect(j, "admin-denied reason=this needs 2 enrolled administrators who sign");
    judge_expect(j, &list, 200, "[]");
    j->approvals_for = KBS_WIRE_APPROVALS_DESTROY;
    judge_restart(j);
    judge_expect(j, &trustee, 200, NULL);
}

/* Somebody who can write the file: the row is signed, and its going back is found. */
static void test_row_edited(void **state)
{
    static const char *const edits[] = {
        "UPDATE document SET text = replace(text, 'cA', 'cB') WHERE kind = 4",
        "UPDATE document SET text = replace(text, 'pending', 'executed') WHERE kind = 4",
        "UPDATE document SET name = '0123456789abcdef0123456789abcdef' WHERE kind = 4",
        "DELETE FROM document WHERE kind = 4",
        "INSERT INTO document SELECT kind, name, version + 1, created_s, epoch, request, signature,"
        " text FROM document WHERE kind = 4",
    };
    struct judge *j = *state;
    struct waiting w;

    need(j, 2);
    ask_waits(j, set_default(SET_P), &w);
    judge_tamper(j, "CREATE TABLE kept AS SELECT * FROM document");
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        judge_tamper(j, edits[i]);
        expect_by(j, j->others[0], w.give, 503, "rows are not those of its epoch");
        judge_tamper(j, "DELETE FROM document; INSERT INTO document SELECT * FROM kept");
        judge_restart(j);
    }
    /* the row that waits, put back after it was carried out */
    expect_by(j, j->others[0], w.give, 200, NULL);
    judge_tamper(j, "DELETE FROM document WHERE kind = 4;"
                    " INSERT INTO document SELECT * FROM kept");
    expect_by(j, j->others[1], w.give, 503, "rows are not those of its epoch");
    judge_restart(j);
    expect_by(j, j->others[1], w.give, 503, "no key is served");
}

/* The ledger is lost at every record of the way: it waits, or it is done, and never both or twice. */
static void test_crashes(void **state)
{
    struct judge *j = *state;
    struct waiting w;

    need(j, 2);
    crash_at(j, set_default(SET_P), 1); /* before it is put down */
    expect_signed(j, list_approvals(), 200, "{\"approvals\":[]}");
    crash_at(j, set_default(SET_P), 2); /* after: it is there, and nobody was told */
    expect_signed(j, list_approvals(), 200, "\"state\":\"pending\"");
    ask_waits(j, set_default(SET_P), &w);
    for (unsigned int record = 1; record <= 2; record++) {
        struct signature s = signature_for(j, &w.give);
        struct ask give = w.give;

        s.key = j->others[0];
        give.signature = signature_make(&s);
        j->ledger_mood = LEDGER_DIES;
        j->dies_at = record;
        judge_expect(j, &give, 503, NULL);
        assert_int_equal(judge_wait(j), KBS_EXIT_FAILURE);
        j->ledger_mood = LEDGER_WRITES;
        judge_start(j);
        expect_signed(j, show_default(), record == 1 ? 404 : 200, NULL);
    }
    expect_by(j, j->others[0], w.give, 409, "it was executed");
    ledger_expect(j, "store-recovered");
}

/* Fewer different keys than are needed: nothing could ever be approved. */
static void test_too_few(void **state)
{
    struct judge *j = *state;

    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    j->approvals = 2;
    judge_start_fails(j, KBS_EXIT_CONFIG);
    EVP_PKEY_up_ref(j->admin);
    j->others[0] = j->admin;
    judge_start_fails(j, KBS_EXIT_CONFIG);
    j->approvals = 1;
    judge_start(j);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, judge_setup_admin, judge_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_names),           CASE(test_list_pages),
        CASE(test_history),         CASE(test_two_of_three),
        CASE(test_three_of_three),  CASE(test_kinds),
        CASE(test_refused_at_once), CASE(test_destroy_now),
        CASE(test_execution_fails), CASE(test_changed_meanwhile),
        CASE(test_who_counts),      CASE(test_left),
        CASE(test_expired),         CASE(test_room),
        CASE(test_modes),           CASE(test_row_edited),
        CASE(test_crashes),         CASE(test_too_few),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
