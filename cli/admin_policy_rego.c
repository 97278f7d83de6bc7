/*
 * kbs-admin policy test and policy explain for policies in Rego: what the policy says of claims in files, by
 * kbs-policy itself, without a service.
 *
 * `test` is for a pipeline: a table, a line a case, and a status that says whether all came out as expected. A
 * policy that cannot be evaluated denies, here as in the service, so it passes a case that expects "deny" only
 * with a remark. `explain` is for a person whose policy does not do what it should.
 */
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/policy_cases.h"
#include "cli/policy_engine.h"
#include "cli/policy_refs.h"
#include "cli/status.h"

#include <stdlib.h>

#define INPUT_MAX_BYTES KBS_LIMIT_JWT_BYTES
#define COLUMNS 5
#define REFERENCES_MAX 4096

/* What was typed. */
struct rego {
    const char *policy;
    const char *input;
    const char *data;
    const char *path;
    const char *expect;
    const char *cases;
};

struct line {
    struct kbs_span name;
    char number[32];
    const char *expected;
    const char *got;
    char why[KBS_LIMIT_ERROR_DETAIL_BYTES];
    bool passed;
};

static int read_object(const char *path, json_t **ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(INPUT_MAX_BYTES);
    int r = kbs_cli_read_file(path, &text, err);

    if (r == 0) {
        r = kbs_json_parse_object(kbs_buf_span(&text), path, ret, err);
    }
    kbs_buf_deinit(&text);
    return r;
}

static void verdict_take(const struct kbs_wire_verdict *v, struct line *l)
{
    l->got = v->outcome == KBS_REGO_ALLOW  ? "allow"
             : v->outcome == KBS_REGO_DENY ? "deny"
                                           : "error";
    if (v->outcome == KBS_REGO_ERROR && v->line != 0) {
        (void)snprintf(l->why, sizeof(l->why), "line %u, column %u: %.*s", (unsigned int)v->line,
                       (unsigned int)v->column, (int)v->detail.len, (const char *)v->detail.p);
    } else {
        (void)snprintf(l->why, sizeof(l->why), "%.*s", (int)v->detail.len,
                       v->detail.len != 0 ? (const char *)v->detail.p : "");
    }
}

/* One question, with data from the tree or of the path. */
static int decide(struct kbs_cli_policy *p, const json_t *input, const json_t *data,
                  struct kbs_span path, struct line *ret, struct kbs_error *err)
{
    struct kbs_buf input_text = KBS_BUF(KBS_LIMIT_POLICY_EVAL_BYTES);
    struct kbs_buf data_text = KBS_BUF(KBS_LIMIT_POLICY_EVAL_BYTES);
    struct kbs_wire_verdict verdict;
    int r = kbs_json_dump(input, &input_text, err);

    if (r == 0) {
        r = data != NULL ? kbs_json_dump(data, &data_text, err)
                         : kbs_cli_case_data(path, &data_text, err);
    }
    if (r == 0) {
        r = kbs_cli_policy_ask(p, kbs_buf_span(&input_text), kbs_buf_span(&data_text), &verdict,
                               err);
    }
    if (r == 0) {
        verdict_take(&verdict, ret);
    }
    kbs_buf_deinit(&input_text);
    kbs_buf_deinit(&data_text);
    return r;
}

/* ---- test ---- */

static int run_case(struct kbs_cli_policy *p, const struct kbs_cli_case *c, size_t n,
                    struct line *ret, struct kbs_error *err)
{
    (void)snprintf(ret->number, sizeof(ret->number), "case %zu", n + 1);
    ret->name = c->name.len != 0 ? c->name : kbs_span_str(ret->number);
    ret->expected = c->allow ? "allow" : "deny";
    if (decide(p, c->input, c->data, c->path, ret, err) != 0) {
        return -1;
    }
    ret->passed = (strcmp(ret->got, "allow") == 0) == c->allow;
    return 0;
}

static int lines_print(const struct kbs_admin_options *o, const struct line *lines, size_t count,
                       struct kbs_error *err)
{
    struct kbs_span *cells = NULL;
    json_t *list = NULL;

    if (o->json) {
        list = json_array();
        for (size_t i = 0; list != NULL && i < count; i++) {
            (void)json_array_append_new(
                list, json_pack("{s:s%, s:s, s:s, s:s, s:b}", "name", (const char *)lines[i].name.p,
                                lines[i].name.len, "expected", lines[i].expected, "got",
                                lines[i].got, "why", lines[i].why, "passed", lines[i].passed));
        }
        return kbs_cli_json(json_pack("{s:o}", "cases", list), err);
    }
    cells = calloc((count + 1) * COLUMNS, sizeof(*cells));
    if (cells == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    cells[0] = KBS_SPAN_LIT("CASE");
    cells[1] = KBS_SPAN_LIT("EXPECTED");
    cells[2] = KBS_SPAN_LIT("RESULT");
    cells[3] = KBS_SPAN_LIT("PASSED");
    cells[4] = KBS_SPAN_LIT("WHY");
    for (size_t i = 0; i < count; i++) {
        struct kbs_span *row = cells + (i + 1) * COLUMNS;

        row[0] = lines[i].name;
        row[1] = kbs_span_str(lines[i].expected);
        row[2] = kbs_span_str(lines[i].got);
        row[3] = lines[i].passed ? KBS_SPAN_LIT("yes") : KBS_SPAN_LIT("NO");
        row[4] = kbs_span_str(lines[i].why);
    }
    kbs_cli_table(cells, count + 1, COLUMNS);
    free(cells);
    return 0;
}

/* All cases; *ret_failed: how many came out otherwise. */
static int run_cases(const struct kbs_admin_options *o, const struct rego *g, const json_t *cases,
                     size_t *ret_failed, struct kbs_error *err)
{
    struct kbs_cli_policy p = KBS_CLI_POLICY_NULL;
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    size_t count = kbs_cli_cases_count(cases);
    struct line *lines = calloc(count, sizeof(*lines));
    int r = lines != NULL ? kbs_cli_read_file(g->policy, &text, err)
                          : kbs_fail(err, KBS_INTERNAL, "out of memory");

    if (r == 0) {
        r = kbs_cli_policy_open(&p, kbs_buf_span(&text), err);
    }
    *ret_failed = 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        const struct kbs_cli_case one = kbs_cli_cases_at(cases, i);

        r = run_case(&p, &one, i, &lines[i], err);
        *ret_failed += lines[i].passed ? 0 : 1;
    }
    kbs_cli_policy_close(&p, r != 0 && err->category == KBS_INTERNAL);
    if (r == 0) {
        r = lines_print(o, lines, count, err);
    }
    kbs_buf_deinit(&text);
    free(lines);
    return r;
}

/* The one case that the options are. Returns owned. */
static int case_of_options(const struct rego *g, json_t **ret, struct kbs_error *err)
{
    KBS_AUTO_JSON input = NULL;
    KBS_AUTO_JSON data = NULL;

    if (read_object(g->input, &input, err) != 0 ||
        (g->data != NULL && read_object(g->data, &data, err) != 0)) {
        return -1;
    }
    *ret = json_pack("{s:[{s:s, s:O, s:O*, s:s*, s:s}]}", "cases", "name", g->input, "input", input,
                     "data", data, "path", g->path, "expect", g->expect);
    return *ret != NULL ? 0 : kbs_fail(err, KBS_INTERNAL, "out of memory");
}

static int cases_of_file(const char *path, json_t **ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_CLI_CASES_BYTES);
    int r = kbs_cli_read_file(path, &text, err);

    if (r == 0) {
        r = kbs_cli_cases_parse(kbs_buf_span(&text), ret, err);
    }
    kbs_buf_deinit(&text);
    return r;
}

static int check_test(const struct kbs_args *args, const struct rego *g)
{
    if (g->cases != NULL) {
        return g->input == NULL && g->expect == NULL && g->data == NULL && g->path == NULL
                   ? KBS_CLI_OK
                   : kbs_args_usage(args, "--cases stands alone");
    }
    if (g->input == NULL || g->expect == NULL ||
        (strcmp(g->expect, "allow") != 0 && strcmp(g->expect, "deny") != 0)) {
        return kbs_args_usage(args, "--cases, or --input and --expect allow|deny, are needed");
    }
    if ((g->data != NULL) == (g->path != NULL)) {
        return kbs_args_usage(args, "--path or --data is needed, and not both");
    }
    return KBS_CLI_OK;
}

#define INPUT_ARGS(g)                                                                          \
    {"input", KBS_ARG_TEXT, &(g)->input, "FILE", "the guest's claims, a JSON object", 0, 0},   \
        {"path", KBS_ARG_TEXT, &(g)->path, "PATH", "the resource that is asked for", 0, 0},    \
    {                                                                                          \
        "data", KBS_ARG_TEXT, &(g)->data, "FILE", "`data` as a whole, instead of --path", 0, 0 \
    }

int kbs_admin_cmd_policy_rego_test(struct kbs_admin_options *o, int argc, char **argv)
{
    struct rego g = {.policy = NULL};
    const struct kbs_arg own[] = {
        {"cases", KBS_ARG_TEXT, &g.cases, "FILE", "many cases, see kbs-admin(1)", 0, 0},
        INPUT_ARGS(&g),
        {"expect", KBS_ARG_TEXT, &g.expect, "allow|deny", "what it has to decide", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis =
            "kbs-admin policy test POLICY --cases FILE | --input FILE --expect allow|deny [options]",
        .about = "Succeed if a policy in Rego decides as expected, offline, by kbs-policy.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON cases = NULL;
    size_t failed = 0;

    int r = kbs_admin_parse(o, &args, argc, argv, &g.policy);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    r = check_test(&args, &g);
    if (r != KBS_CLI_OK) {
        return r;
    }
    r = g.cases != NULL ? cases_of_file(g.cases, &cases, &err) : case_of_options(&g, &cases, &err);
    if (r == 0) {
        r = run_cases(o, &g, cases, &failed, &err);
    }
    int status = kbs_cli_end(r, &err);
    return status == KBS_CLI_OK && failed > 0 ? KBS_CLI_FAILURE : status;
}

/* ---- explain ---- */

struct references {
    json_t *list; /* of those that are not there */
    size_t count;
};

static void reference_each(void *ctx, struct kbs_span text, unsigned int line, bool there)
{
    struct references *r = ctx;

    if (!there && r->count++ < REFERENCES_MAX) {
        (void)json_array_append_new(r->list,
                                    json_pack("{s:s%, s:i}", "reference", (const char *)text.p,
                                              text.len, "line", (int)line));
    }
}

static int explain_print(const struct kbs_admin_options *o, const struct line *l,
                         const json_t *missing, struct kbs_error *err)
{
    const json_t *one = NULL;
    size_t i = 0;

    if (o->json) {
        return kbs_cli_json(
            json_pack("{s:s, s:s, s:O}", "decision", l->got, "why", l->why, "missing", missing),
            err);
    }
    kbs_cli_field("decision", "%s", l->got);
    if (l->why[0] != '\0') {
        kbs_cli_field_text("why", kbs_span_str(l->why));
    }
    json_array_foreach(missing, i, one)
    {
        struct kbs_buf text = KBS_BUF(1024);

        kbs_buf_printf(&text, "line %d: %s", (int)json_integer_value(json_object_get(one, "line")),
                       json_string_value(json_object_get(one, "reference")));
        kbs_cli_field_text(i == 0 ? "not there" : "", kbs_buf_span(&text));
        kbs_buf_deinit(&text);
    }
    return 0;
}

/* `data`, as a tree: of its file, or of the path. Returns owned. */
static int data_of_options(const struct rego *g, json_t **ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_POLICY_EVAL_BYTES);
    int r = -1;

    if (g->data != NULL) {
        return read_object(g->data, ret, err);
    }
    if (kbs_cli_case_data(kbs_span_str(g->path), &text, err) == 0) {
        r = kbs_json_parse_object(kbs_buf_span(&text), "data", ret, err);
    }
    kbs_buf_deinit(&text);
    return r;
}

static int explain(const struct kbs_admin_options *o, const struct rego *g, struct kbs_error *err)
{
    struct kbs_cli_policy p = KBS_CLI_POLICY_NULL;
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct references references = {.list = NULL};
    struct line line = {.got = "error"};
    KBS_AUTO_JSON input = NULL;
    KBS_AUTO_JSON data = NULL;
    KBS_AUTO_JSON missing = json_array();
    int r = -1;

    references.list = missing;
    if (kbs_cli_read_file(g->policy, &text, err) == 0 && read_object(g->input, &input, err) == 0 &&
        data_of_options(g, &data, err) == 0 &&
        kbs_cli_policy_open(&p, kbs_buf_span(&text), err) == 0) {
        r = decide(&p, input, data, KBS_SPAN_EMPTY, &line, err);
    }
    kbs_cli_policy_close(&p, r != 0 && err->category == KBS_INTERNAL);
    if (r == 0) {
        kbs_cli_refs(kbs_buf_span(&text), input, data, reference_each, &references);
        r = explain_print(o, &line, missing, err);
    }
    kbs_buf_deinit(&text);
    return r;
}

int kbs_admin_cmd_policy_rego_explain(struct kbs_admin_options *o, int argc, char **argv)
{
    struct rego g = {.policy = NULL};
    const struct kbs_arg own[] = {INPUT_ARGS(&g)};
    const struct kbs_args args = {
        .synopsis =
            "kbs-admin policy explain POLICY --input FILE (--path PATH | --data FILE) [options]",
        .about =
            "Say what a policy in Rego decides about these claims, and which members of `input`\n"
            "and `data` it names that are not there.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &g.policy);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    if (g.input == NULL || (g.data != NULL) == (g.path != NULL)) {
        return kbs_args_usage(&args, "--input, and --path or --data, are needed");
    }
    return kbs_cli_end(explain(o, &g, &err), &err);
}
