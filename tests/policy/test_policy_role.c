/*
 * kbs-policy itself, started as kbsd starts it: what policies say, and what happens to those that
 * would rather not end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/io.h"
#include "base/process.h"
#include "channel/channel.h"
#include "policy_process.h"

#define LIMIT_MS 20000
#define SKIPPED 77

#define DATA "{\"plugin\":\"resource\",\"resource-path\":[\"a\",\"b\",\"c\"],\"query\":{}}"
#define ALLOW_ALL "package policy\nallow := true\n"

struct role {
    struct policy_process process;
    struct kbs_channel_msg msg; /* what the last verdict borrows */
};

static int set_up(void **state)
{
    struct role *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    *r = (struct role){.process = POLICY_PROCESS_NULL, .msg = KBS_CHANNEL_MSG};
    assert_true(policy_process_start(&r->process));
    *state = r;
    return 0;
}

static int tear_down(void **state)
{
    struct role *r = *state;
    bool good = policy_process_end(&r->process);

    kbs_channel_msg_deinit(&r->msg);
    free(r);
    return good ? 0 : -1;
}

static struct kbs_wire_verdict ask(struct role *r, enum kbs_wire_type type, const void *question)
{
    struct kbs_wire_verdict verdict = {.outcome = KBS_REGO_NONE};
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_channel_call(r->process.judge, type, question, KBS_WIRE_VERDICT, &verdict, &r->msg,
                         kbs_deadline_in_ms(LIMIT_MS), &err) != 0) {
        fail_msg("no verdict: %s", err.detail);
    }
    return verdict;
}

static struct kbs_wire_verdict load_for(struct role *r, enum kbs_rego_query query,
                                        struct kbs_span policy)
{
    uint8_t digest[KBS_SHA256_BYTES];
    const struct kbs_wire_policy_load question = {
        .digest = kbs_span(digest, sizeof(digest)), .text = policy, .query = (uint8_t)query};

    kbs_sha256(policy, digest);
    return ask(r, KBS_WIRE_POLICY_LOAD, &question);
}

static struct kbs_wire_verdict load(struct role *r, struct kbs_span policy)
{
    return load_for(r, KBS_REGO_QUERY_ALLOW, policy);
}

static struct kbs_wire_verdict eval(struct role *r, struct kbs_span policy, const char *input)
{
    uint8_t digest[KBS_SHA256_BYTES];
    const struct kbs_wire_policy_eval question = {.digest = kbs_span(digest, sizeof(digest)),
                                                  .input = kbs_span_str(input),
                                                  .data = KBS_SPAN_LIT(DATA)};

    kbs_sha256(policy, digest);
    return ask(r, KBS_WIRE_POLICY_EVAL, &question);
}

static bool says(const struct kbs_wire_verdict *v, const char *text)
{
    return memmem(v->detail.p, v->detail.len, text, strlen(text)) != NULL;
}

static void print_verdict(const char *name, const struct kbs_wire_verdict *v)
{
    static const char *const names[] = {"none",    "allow",  "deny",  "error",
                                        "unknown", "loaded", "result"};

    print_message("  %-28s %-7s %u:%u %.*s\n", name, names[v->outcome], (unsigned int)v->line,
                  (unsigned int)v->column, (int)v->detail.len, (const char *)v->detail.p);
}

/* ---- what policies say ---- */

static const struct decision {
    const char *name;
    const char *policy;
    const char *input;
    enum kbs_rego_verdict outcome;
    const char *detail;
} decisions[] = {
    {"true", ALLOW_ALL, "{}", KBS_REGO_ALLOW, ""},
    {"false", "package policy\nallow := false\n", "{}", KBS_REGO_DENY, "allow is false"},
    {"default", "package policy\ndefault allow = false\nallow if input.a == 1\n", "{\"a\":2}",
     KBS_REGO_DENY, "allow is false"},
    {"input", "package policy\ndefault allow = false\nallow if input.a == 1\n", "{\"a\":1}",
     KBS_REGO_ALLOW, ""},
    {"undefined", "package policy\nallow if input.a == 1\n", "{}", KBS_REGO_DENY,
     "allow is undefined"},
    {"number", "package policy\nallow := 1\n", "{}", KBS_REGO_DENY, "allow is not a boolean"},
    {"text", "package policy\nallow := \"true\"\n", "{}", KBS_REGO_DENY, "allow is not a boolean"},
    {"set", "package policy\nallow contains true\n", "{}", KBS_REGO_DENY, "allow is not a boolean"},
    {"data", "package policy\nallow if data[\"resource-path\"][1] == \"b\"\n", "{}", KBS_REGO_ALLOW,
     ""},
    {"division by zero", "package policy\nallow if 1 / input.a == 1\n", "{\"a\":0}", KBS_REGO_ERROR,
     "divide by zero"},
    {"wrong argument", "package policy\nallow if count(input.a) == 1\n", "{\"a\":0}",
     KBS_REGO_ERROR, "requires"},
    {"no network",
     "package policy\nallow if http.send({\"method\":\"get\",\"url\":\"http://a\"})\n", "{}",
     KBS_REGO_ERROR, "http.send"},
    {"no environment", "package policy\nallow if opa.runtime().env\n", "{}", KBS_REGO_ERROR,
     "opa.runtime"},
    {"input that is no JSON", ALLOW_ALL, "{", KBS_REGO_ERROR, ""},
};

static void test_decisions(void **state)
{
    for (size_t i = 0; i < sizeof(decisions) / sizeof(decisions[0]); i++) {
        const struct decision *d = &decisions[i];
        struct kbs_wire_verdict v = load(*state, kbs_span_str(d->policy));

        if (v.outcome == KBS_REGO_LOADED) {
            v = eval(*state, kbs_span_str(d->policy), d->input);
        }
        print_verdict(d->name, &v);
        assert_int_equal(v.outcome, d->outcome);
        assert_true(says(&v, d->detail));
    }
}

static const struct refusal {
    const char *name;
    const char *policy;
    uint32_t line;
    uint32_t column;
    const char *detail;
} refusals[] = {
    {"empty", "", 1, 1, "package"},
    {"no rule", "package policy\nx := 1\n", 0, 0, "there is no rule allow"},
    {"another package", "package other\nallow := true\n", 0, 0, "not policy"},
    {"syntax", "package policy\nallow if {\n  x ==  }\n", 3, 9, "expecting expression"},
    {"unbound", "package policy\nallow if y\n", 2, 10, "unsafe"},
    {"Rego v0", "package policy\nallow { true }\n", 2, 7, "`if` keyword is required"},
    {"not UTF-8", "package policy\nallow := \"\xff\"\n", 0, 0, "UTF-8"},
};

static void test_refusals(void **state)
{
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        const struct refusal *f = &refusals[i];
        struct kbs_wire_verdict v = load(*state, kbs_span_str(f->policy));

        print_verdict(f->name, &v);
        assert_int_equal(v.outcome, KBS_REGO_ERROR);
        assert_int_equal(v.line, f->line);
        assert_int_equal(v.column, f->column);
        assert_true(says(&v, f->detail));
        v = eval(*state, kbs_span_str(f->policy), "{}");
        assert_int_equal(v.outcome, KBS_REGO_UNKNOWN);
    }
}

/* ---- attestation policies ---- */

#define TRUST_DATA "{\"reference\":{\"digest\":[\"a\",\"b\"],\"least\":3}}"

static const struct trust {
    const char *name;
    const char *policy;
    const char *input;
    enum kbs_rego_verdict outcome;
    const char *says; /* result, or a part of the detail */
} trusts[] = {
    {"constant", "package policy\ntrust_claims := {\"executables\": 33}\n", "{}", KBS_REGO_RESULT,
     "{\"executables\":33}"},
    {"the other name", "package policy\nresult := {\"hardware\": 2}\n", "{}", KBS_REGO_RESULT,
     "{\"hardware\":2}"},
    {"both names",
     "package policy\nresult := {\"hardware\": 2}\ntrust_claims := {\"hardware\": 97}\n", "{}",
     KBS_REGO_RESULT, "{\"hardware\":97}"},
    {"in a list",
     "package policy\nimport rego.v1\ndefault x := 33\n"
     "x := 3 if input.a in query_reference_value(\"digest\")\ntrust_claims := {\"executables\": x}\n",
     "{\"a\":\"b\"}", KBS_REGO_RESULT, "{\"executables\":3}"},
    {"not in the list",
     "package policy\nimport rego.v1\ndefault x := 33\n"
     "x := 3 if input.a in query_reference_value(\"digest\")\ntrust_claims := {\"executables\": x}\n",
     "{\"a\":\"c\"}", KBS_REGO_RESULT, "{\"executables\":33}"},
    {"no such reference",
     "package policy\nimport rego.v1\ndefault x := 33\n"
     "x := 3 if input.a in query_reference_value(\"other\")\n"
     "trust_claims := {\"executables\": x, \"null\": query_reference_value(\"other\")}\n",
     "{\"a\":\"b\"}", KBS_REGO_RESULT, "{\"executables\":33,\"null\":null}"},
    {"the reference as data",
     "package policy\ntrust_claims := {\"hardware\": data.reference.least}\n", "{}",
     KBS_REGO_RESULT, "{\"hardware\":3}"},
    {"undefined", "package policy\ntrust_claims := {\"a\": 1} if input.b\n", "{}", KBS_REGO_ERROR,
     "undefined"},
    {"not an object", "package policy\ntrust_claims := 3\n", "{}", KBS_REGO_ERROR, "not an object"},
    {"too long", "package policy\ntrust_claims := {\"a\": numbers.range(1, 1000)}\n", "{}",
     KBS_REGO_ERROR, "too long"},
    {"no rule", "package policy\nallow := true\n", "{}", KBS_REGO_ERROR,
     "there is no rule trust_claims"},
    {"two values", "package policy\nx := 1\nx := 2 if input.a\ntrust_claims := {\"a\": x}\n",
     "{\"a\":1}", KBS_REGO_ERROR, ""},
    {"loop",
     "package policy\nx := count([1 | some a in numbers.range(1, 100000)\n"
     "  some b in numbers.range(1, 100000)\n  a * b < 0])\ntrust_claims := {\"a\": x}\n",
     "{}", KBS_REGO_ERROR, "too much time"},
};

static struct kbs_wire_verdict eval_trust(struct role *r, const char *policy, const char *input)
{
    uint8_t digest[KBS_SHA256_BYTES];
    const struct kbs_wire_policy_eval question = {.digest = kbs_span(digest, sizeof(digest)),
                                                  .input = kbs_span_str(input),
                                                  .data = KBS_SPAN_LIT(TRUST_DATA),
                                                  .query = KBS_REGO_QUERY_TRUST};

    kbs_sha256(kbs_span_str(policy), digest);
    return ask(r, KBS_WIRE_POLICY_EVAL, &question);
}

static void test_trust(void **state)
{
    for (size_t i = 0; i < sizeof(trusts) / sizeof(trusts[0]); i++) {
        const struct trust *t = &trusts[i];
        struct kbs_wire_verdict v = load_for(*state, KBS_REGO_QUERY_TRUST, kbs_span_str(t->policy));

        if (v.outcome == KBS_REGO_LOADED) {
            v = eval_trust(*state, t->policy, t->input);
        }
        print_verdict(t->name, &v);
        assert_int_equal(v.outcome, t->outcome);
        if (t->outcome == KBS_REGO_RESULT) {
            assert_true(kbs_span_equal_str(v.result, t->says));
        } else {
            assert_true(says(&v, t->says));
            assert_int_equal(v.result.len, 0);
        }
    }
}

/* One text may be both kinds; each is loaded for itself, and only the right one is asked. */
static void test_two_queries(void **state)
{
    static const char policy[] =
        "package policy\nallow := true\ntrust_claims := {\"hardware\": 2}\n";
    struct kbs_wire_verdict v = load(*state, kbs_span_str(policy));

    assert_int_equal(v.outcome, KBS_REGO_LOADED);
    assert_int_equal(eval_trust(*state, policy, "{}").outcome, KBS_REGO_UNKNOWN);
    v = load_for(*state, KBS_REGO_QUERY_TRUST, kbs_span_str(policy));
    assert_int_equal(v.outcome, KBS_REGO_LOADED);
    assert_int_equal(eval_trust(*state, policy, "{}").outcome, KBS_REGO_RESULT);
    assert_int_equal(eval(*state, kbs_span_str(policy), "{}").outcome, KBS_REGO_ALLOW);
}

/* ---- bounds ---- */

static const struct hog {
    const char *name;
    const char *policy;
} hogs[] = {
    {"loop", "package policy\nallow if {\n  some a in numbers.range(1, 100000)\n"
             "  some b in numbers.range(1, 100000)\n  a * b < 0\n}\n"},
    {"memory", "package policy\nx := [a | some a in numbers.range(1, 100000000)]\n"
               "allow if count(x) == 0\n"},
    {"one built-in function",
     "package policy\nallow if count(numbers.range(1, 1000000000)) == 0\n"},
    {"large text", "package policy\nx := sprintf(\"%s\", [numbers.range(1, 50000000)])\n"
                   "allow if count(x) == 0\n"},
};

/* Each is denied within its bound, and the next question is answered as if nothing had been. */
static void test_hogs(void **state)
{
    struct kbs_span good = KBS_SPAN_LIT(ALLOW_ALL);
    struct kbs_wire_verdict v = load(*state, good);

    assert_int_equal(v.outcome, KBS_REGO_LOADED);
    for (size_t i = 0; i < sizeof(hogs) / sizeof(hogs[0]); i++) {
        struct kbs_span policy = kbs_span_str(hogs[i].policy);

        v = load(*state, policy);
        print_verdict(hogs[i].name, &v);
        assert_int_equal(v.outcome, KBS_REGO_LOADED);
        uint64_t begin_ns = kbs_clock_mono_ns();
        v = eval(*state, policy, "{}");
        print_message("  %-28s %.0f ms\n", "", (double)(kbs_clock_mono_ns() - begin_ns) / 1e6);
        print_verdict(hogs[i].name, &v);
        assert_int_equal(v.outcome, KBS_REGO_ERROR);
        v = eval(*state, good, "{}");
        assert_int_equal(v.outcome, KBS_REGO_ALLOW);
    }
}

/* As large and as deep as a policy may be: an answer, and the role lives. */
static void test_large_policies(void **state)
{
    struct kbs_buf deep = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_wire_verdict v;

    kbs_buf_put_str(&deep, "package policy\nallow := ");
    while (deep.len < KBS_LIMIT_DOCUMENT_BYTES - 1) {
        kbs_buf_put_u8(&deep, '[');
    }
    v = load(*state, kbs_buf_span(&deep));
    print_verdict("64 KiB of brackets", &v);
    assert_int_equal(v.outcome, KBS_REGO_ERROR);
    kbs_buf_clear(&deep);
    kbs_buf_put_str(&deep, ALLOW_ALL);
    while (deep.len < KBS_LIMIT_DOCUMENT_BYTES - 32) {
        kbs_buf_printf(&deep, "x%zu := %zu\n", deep.len, deep.len);
    }
    v = load(*state, kbs_buf_span(&deep));
    print_verdict("64 KiB of rules", &v);
    assert_int_equal(v.outcome, KBS_REGO_LOADED);
    v = eval(*state, kbs_buf_span(&deep), "{}");
    print_verdict("64 KiB of rules", &v);
    assert_int_equal(v.outcome, KBS_REGO_ALLOW);
    kbs_buf_deinit(&deep);
}

/* One more than fit: the one that was not used for longest has to be loaded again. */
static void test_places(void **state)
{
    char text[64];

    for (int i = 0; i <= KBS_LIMIT_POLICIES_LOADED; i++) {
        snprintf(text, sizeof(text), "package policy\nallow := true\nn := %d\n", i);
        struct kbs_wire_verdict v = load(*state, kbs_span_str(text));

        assert_int_equal(v.outcome, KBS_REGO_LOADED);
        v = eval(*state, KBS_SPAN_LIT("package policy\nallow := true\nn := 0\n"), "{}");
        assert_int_equal(v.outcome, KBS_REGO_ALLOW);
    }
    struct kbs_wire_verdict v =
        eval(*state, KBS_SPAN_LIT("package policy\nallow := true\nn := 1\n"), "{}");
    assert_int_equal(v.outcome, KBS_REGO_UNKNOWN);
}

/* Not a test of time: what a decision costs, round trip and all, is printed. */
static void test_cost(void **state)
{
    static const char policy[] =
        "package policy\nimport rego.v1\ndefault allow = false\n"
        "allow if {\n  not any_not_affirming\n  count(input.submods) > 0\n}\n"
        "any_not_affirming if {\n  some _, s in input.submods\n  s[\"ear.status\"] != "
        "\"affirming\"\n}\n";
    static const char input[] = "{\"submods\":{\"cpu0\":{\"ear.status\":\"affirming\"}}}";
    const int rounds = 500;

    assert_int_equal(load(*state, kbs_span_str(policy)).outcome, KBS_REGO_LOADED);
    uint64_t begin_ns = kbs_clock_mono_ns();
    for (int i = 0; i < rounds; i++) {
        assert_int_equal(eval(*state, kbs_span_str(policy), input).outcome, KBS_REGO_ALLOW);
    }
    print_message("  a decision: %.0f us\n",
                  (double)(kbs_clock_mono_ns() - begin_ns) / 1e3 / rounds);
}

/* A policy under another's digest would be asked in its place: the role takes its judge for broken. */
static void test_foreign_digest(void **state)
{
    struct role *r = *state;
    uint8_t digest[KBS_SHA256_BYTES] = {0};
    const struct kbs_wire_policy_load question = {.digest = kbs_span(digest, sizeof(digest)),
                                                  .text = KBS_SPAN_LIT(ALLOW_ALL)};
    struct kbs_wire_verdict verdict;
    struct kbs_error err = KBS_ERROR_NONE;
    int status = 0;

    assert_int_equal(kbs_channel_call(r->process.judge, KBS_WIRE_POLICY_LOAD, &question,
                                      KBS_WIRE_VERDICT, &verdict, &r->msg,
                                      kbs_deadline_in_ms(LIMIT_MS), &err),
                     -1);
    assert_int_equal(waitpid(r->process.pid, &status, 0), r->process.pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), KBS_EXIT_FAILURE);
}

static int tear_down_ended(void **state)
{
    struct role *r = *state;

    kbs_io_close(&r->process.judge);
    kbs_io_close(&r->process.control);
    kbs_channel_msg_deinit(&r->msg);
    free(r);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_decisions, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_trust, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_queries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hogs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_policies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_places, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_foreign_digest, set_up, tear_down_ended),
    };

    if (!policy_process_built()) {
        puts("skipped: kbs-policy is not built (no cargo, or no crates)");
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
