/* The judge of the admin lane: aliases, a rule at a time. What they do for guests: tests/conform/rows_svsm.py. */
#include "signed.h"

#define ALIASES "/kbs/v0/admin/aliases"
#define ONE ALIASES "/a/b/c"
#define A "{\"measurement\":\"aa\"}"
#define AB "{\"measurement\":\"aa\",\"family-id\":\"bb\"}"
#define RULE(when, to) "{\"when\":" when ",\"to\":\"" to "\"}"
#define ALL "{}"

static struct ask ask_one(enum kbs_route route, const char *method, const char *body)
{
    return (struct ask){.route = route,
                        .method = method,
                        .target = ONE,
                        .params = {"a", "b", "c"},
                        .content_type = body != NULL ? "application/json" : NULL,
                        .body = body};
}

static struct ask ask_set(const char *body)
{
    return ask_one(KBS_ROUTE_ADMIN_ALIAS_SET, "POST", body);
}

static struct ask ask_remove(const char *body)
{
    return ask_one(KBS_ROUTE_ADMIN_ALIAS_REMOVE, "DELETE", body);
}

static struct ask ask_show(void)
{
    return ask_one(KBS_ROUTE_ADMIN_ALIAS_SHOW, "GET", NULL);
}

static struct ask ask_list(void)
{
    return (struct ask){.route = KBS_ROUTE_ADMIN_ALIAS_LIST, .method = "GET", .target = ALIASES};
}

static void test_rules(void **state)
{
    struct judge *j = *state;

    expect_signed(j, ask_show(), 404, "no such alias");
    expect_signed(j, ask_set(RULE(AB, "k/e/1")), 200, "\"version\":1,");
    ledger_expect(j, "alias-set phase=intent epoch=1 document=alias name=a/b/c version=1");
    expect_signed(j, ask_set(RULE(A, "k/e/2")), 200,
                  "\"rules\":[" RULE(AB, "k/e/1") "," RULE(A, "k/e/2") "]}");
    /* The same conditions: another target in the same place. */
    expect_signed(
        j, ask_set("{\"when\":{\"family-id\":\"bb\",\"measurement\":\"aa\"},\"to\":\"k/e/3\"}"),
        200, "\"to\":\"k/e/3\"},{");
    expect_signed(j, ask_set(RULE(ALL, "k/e/4")), 200, RULE(ALL, "k/e/4") "]}");
    expect_signed(j, ask_list(), 200, "{\"path\":\"a/b/c\",\"version\":4,");
    expect_signed(j, ask_remove("{\"when\":" A "}"), 200, "{\"path\":\"a/b/c\",\"rules\":2}");
    expect_signed(j, ask_remove("{\"when\":" A "}"), 404, "no rule with these conditions");
    expect_signed(j, ask_remove(NULL), 200, "{\"path\":\"a/b/c\",\"rules\":0}");
    ledger_expect(j, "alias-remove phase=outcome");
    expect_signed(j, ask_show(), 404, "no such alias");
    expect_signed(j, ask_remove(NULL), 404, "no such alias");
    expect_signed(j, ask_list(), 200, "\"rules\":0}");
}

/* A rule that no guest would reach is a mistake; a more particular one can be put first. */
static void test_order(void **state)
{
    struct judge *j = *state;

    expect_signed(j, ask_set(RULE(A, "k/e/1")), 200, NULL);
    expect_signed(j, ask_set(RULE(AB, "k/e/2")), 409, "rule 2 would never decide: rule 1");
    expect_signed(j, ask_set("{\"when\":" AB ",\"to\":\"k/e/2\",\"first\":true}"), 200,
                  "\"rules\":[" RULE(AB, "k/e/2"));
    expect_signed(j, ask_set("{\"when\":" ALL ",\"to\":\"k/e/3\",\"first\":true}"), 409, NULL);
    expect_signed(j, ask_set("{\"when\":" A ",\"to\":\"k/e/1\",\"first\":true}"), 409, NULL);
    expect_signed(j, ask_set(RULE(ALL, "k/e/3")), 200, NULL);
    expect_signed(j, ask_set(RULE("{\"chip-id\":\"cc\"}", "k/e/4")), 409, NULL);
}

static void test_refusals(void **state)
{
    struct judge *j = *state;
    static const char *const bad[] = {
        RULE(A, "a/b/c"),
        RULE(A, "k/e"),
        "{\"when\":" A "}",
        "{\"to\":\"k/e/1\"}",
        RULE("[]", "k/e/1"),
        RULE("{\"measurement\":\"AA\"}", "k/e/1"),
        RULE("{\"measurement\":\"a\"}", "k/e/1"),
        RULE("{\"measurement\":\"\"}", "k/e/1"),
        RULE("{\"measurement\":1}", "k/e/1"),
        RULE("{\"svn\":\"01\"}", "k/e/1"),
        "{\"when\":" A ",\"to\":\"k/e/1\",\"first\":1}",
        "{\"when\":" A ",\"to\":\"k/e/1\",\"last\":true}",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        expect_signed(j, ask_set(bad[i]), 400, NULL);
    }
    expect_signed(j, ask_show(), 404, NULL);
}

/* A path has one meaning: a key's, a secret's or an alias's. */
static void test_path_is_one_things(void **state)
{
    struct judge *j = *state;
    struct ask secret = {.route = KBS_ROUTE_RESOURCE_SET,
                         .method = "POST",
                         .target = "/kbs/v0/resource/a/b/c",
                         .params = {"a", "b", "c"},
                         .content_type = "application/octet-stream",
                         .body = "x"};
    struct ask key = {.route = KBS_ROUTE_ADMIN_KEY_CREATE,
                      .method = "POST",
                      .target = "/kbs/v0/admin/keys",
                      .content_type = "application/json",
                      .body = "{\"path\":\"a/b/c\",\"purpose\":\"release\",\"alg\":\"AES\"}"};

    expect_signed(j, ask_set(RULE(A, "k/e/1")), 200, NULL);
    expect_signed(j, secret, 409, "an alias has this path");
    expect_signed(j, key, 409, "an alias has this path");
    expect_signed(j, ask_remove(NULL), 200, NULL);
    expect_signed(j, secret, 200, NULL);
    expect_signed(j, ask_set(RULE(A, "k/e/1")), 409, "a key or a secret has this path");
}

/* A row that somebody else wrote leads nowhere. */
static void test_edited(void **state)
{
    struct judge *j = *state;

    expect_signed(j, ask_set(RULE(A, "k/e/1")), 200, NULL);
    judge_tamper(j, "UPDATE document SET text = replace(text, 'k/e/1', 'k/e/2') WHERE kind = 5");
    expect_signed(j, ask_show(), 500, NULL);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, judge_setup_admin, judge_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_rules),  CASE(test_order), CASE(test_refusals), CASE(test_path_is_one_things),
        CASE(test_edited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
