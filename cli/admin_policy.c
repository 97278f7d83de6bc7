/*
 * kbs-admin policy set, get, list, history, rollback, remove: policies in Rego, by name, on the service. Each is
 * one signed request. What a policy's text does can be tried first, offline (admin_policy_rego.c).
 */
#include <errno.h>
#include <fcntl.h>

#include "base/encoding.h"
#include "base/io.h"
#include "catalog/document.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/policy_ledger.h"
#include "cli/status.h"

#define TARGET "/kbs/v0/admin/policies"
#define BODY_MAX_BYTES (2u * KBS_LIMIT_DOCUMENT_BYTES)
#define NAMES                                                                                      \
    "NAME is resource-policy (the default one), resource-policy/PREFIX (of the resources whose\n"  \
    "path begins with PREFIX: a tenant, tenant/type or tenant/type/tag; the longest that is set\n" \
    "decides alone), or attestation-policy/ID."

/* What was typed. */
struct policy {
    const char *name;
    const char *file;
    const char *out;
    const char *ledger;
    uint32_t version;
    uint32_t to;
};

static int target_put(const struct policy *p, struct kbs_buf *out, struct kbs_error *err)
{
    kbs_buf_printf(out, TARGET "/%s", p->name);
    if (p->version != 0) {
        kbs_buf_printf(out, "?version=%u", p->version);
    }
    return kbs_buf_check(out, "the request target", err);
}

static int check_name(const struct kbs_args *args, const char *name)
{
    return kbs_document_name_valid(kbs_span_str(name))
               ? KBS_CLI_OK
               : kbs_args_usage(args, "not the name of a policy: %s", name);
}

/* ---- what there is ---- */

static int fill_row(const json_t *item, struct kbs_admin_row *ret, struct kbs_error *err)
{
    int64_t version = 0;
    int64_t created = 0;
    int64_t bytes = 0;

    if (kbs_json_get_string(item, "name", &ret->cells[0], err) != 0 ||
        kbs_json_get_integer(item, "version", &version, err) != 0 ||
        kbs_json_get_integer(item, "created", &created, err) != 0 ||
        kbs_json_get_integer(item, "bytes", &bytes, err) != 0 ||
        kbs_json_get_string(item, "admin", &ret->cells[4], err) != 0 ||
        kbs_json_get_string(item, "digest", &ret->cells[5], err) != 0) {
        return -1;
    }
    (void)snprintf(ret->texts[0], sizeof(ret->texts[0]), "%lld", (long long)version);
    kbs_admin_time(created, ret->texts[1], sizeof(ret->texts[1]));
    (void)snprintf(ret->texts[2], sizeof(ret->texts[2]), bytes == 0 ? "none" : "%lld",
                   (long long)bytes);
    ret->cells[1] = kbs_span_str(ret->texts[0]);
    ret->cells[2] = kbs_span_str(ret->texts[1]);
    ret->cells[3] = kbs_span_str(ret->texts[2]);
    return 0;
}

static int show_rows(const struct kbs_admin_options *o, json_t *answer, const char *member,
                     struct kbs_error *err)
{
    static const char *const titles[] = {"NAME", "VERSION", "SET", "BYTES", "BY", "SHA-256"};

    return o->json ? kbs_cli_json(json_incref(answer), err)
                   : kbs_admin_table_print(json_object_get(answer, member), titles,
                                           sizeof(titles) / sizeof(titles[0]), fill_row, err);
}

int kbs_admin_cmd_policy_list(struct kbs_admin_options *o, int argc, char **argv)
{
    const struct kbs_args args = {.synopsis = "kbs-admin policy list [options]",
                                  .about =
                                      "List the policies of resources and of evidence: the newest\n"
                                      "version of each, when and by whom it was set."};
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON answer = NULL;

    int r = kbs_admin_parse(o, &args, argc, argv, NULL);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    r = kbs_admin_list(o, TARGET, "policies", "name", &answer, &err);
    if (r == 0) {
        r = show_rows(o, answer, "policies", &err);
    }
    return kbs_cli_end(r, &err);
}

/* One GET; the answer is owned. */
static int fetch(const struct kbs_admin_options *o, const struct policy *p, const char *query,
                 json_t **ret, struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    int r = target_put(p, &target, err);

    kbs_buf_put_str(&target, query);
    if (r == 0 && (r = kbs_admin_open(o, &admin, err)) == 0) {
        r = kbs_admin_call(&admin, "GET", kbs_buf_cstr(&target), KBS_SPAN_EMPTY, p->name, ret, err);
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&target);
    return r;
}

/* ---- what the ledger tells ---- */

static int fill_ledger_row(const json_t *item, struct kbs_admin_row *ret, struct kbs_error *err)
{
    static const char *const members[] = {"time", "kind", "version", "admin", "digest"};
    int64_t seq = 0;

    if (kbs_json_get_integer(item, "seq", &seq, err) != 0) {
        return -1;
    }
    (void)snprintf(ret->texts[0], sizeof(ret->texts[0]), "%lld", (long long)seq);
    ret->cells[0] = kbs_span_str(ret->texts[0]);
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (kbs_json_get_string(item, members[i], &ret->cells[i + 1], err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int ledger_show(const struct kbs_admin_options *o, const struct policy *p,
                       struct kbs_error *err)
{
    static const char *const titles[] = {"SEQ", "TIME", "KIND", "VERSION", "BY", "SHA-256"};
    KBS_AUTO_JSON list = NULL;
    int fd = open(p->ledger, O_RDONLY | O_CLOEXEC);
    int r = fd >= 0 ? kbs_cli_policy_ledger(fd, p->name, &list, err)
                    : kbs_fail_errno(err, KBS_INPUT, "cannot open %.120s", p->ledger);

    kbs_io_close(&fd);
    if (r != 0) {
        return -1;
    }
    return o->json ? kbs_cli_json(json_pack("{s:O}", "changes", list), err)
                   : kbs_admin_table_print(list, titles, sizeof(titles) / sizeof(titles[0]),
                                           fill_ledger_row, err);
}

int kbs_admin_cmd_policy_history(struct kbs_admin_options *o, int argc, char **argv)
{
    struct policy p = {.name = NULL};
    const struct kbs_arg own[] = {
        {"ledger", KBS_ARG_TEXT, &p.ledger, "FILE",
         "what this ledger tells, offline; NAME may be a key's or secret's path", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin policy history NAME [--ledger FILE] [options]",
        .about = "Show the versions of a policy that are kept, the newest first: when and by whom\n"
                 "each was set, and its digest. Of release policies, and of older versions, the\n"
                 "ledger tells.\n" NAMES,
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1};
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON answer = NULL;

    int r = kbs_admin_parse(o, &args, argc, argv, &p.name);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    r = check_name(&args, p.name);
    if (r != KBS_CLI_OK) {
        return r;
    }
    if (p.ledger != NULL) {
        return kbs_cli_end(ledger_show(o, &p, &err), &err);
    }
    r = fetch(o, &p, "?history=true", &answer, &err);
    if (r == 0) {
        r = show_rows(o, answer, "versions", &err);
    }
    return kbs_cli_end(r, &err);
}

/* The text to a file as it is, or for people to read. */
static int get_show(const struct kbs_admin_options *o, const struct policy *p, json_t *answer,
                    struct kbs_error *err)
{
    struct kbs_span text = KBS_SPAN_EMPTY;

    if (kbs_json_get_string(answer, "policy", &text, err) != 0) {
        return -1;
    }
    if (p->out != NULL) {
        return kbs_cli_write_new(p->out, text, err);
    }
    if (o->json) {
        return kbs_cli_json(json_incref(answer), err);
    }
    while (text.len > 0) {
        const uint8_t *end = memchr(text.p, '\n', text.len);
        size_t n = end != NULL ? (size_t)(end - text.p) : text.len;
        const struct kbs_span line = kbs_span(text.p, n);

        kbs_cli_table(&line, 1, 1);
        text = kbs_span_skip(text, end != NULL ? n + 1 : n);
    }
    return 0;
}

int kbs_admin_cmd_policy_get(struct kbs_admin_options *o, int argc, char **argv)
{
    struct policy p = {.name = NULL};
    const struct kbs_arg own[] = {
        {"version", KBS_ARG_NUMBER, &p.version, "N", "this version (default: the newest)", 1,
         UINT32_MAX},
        {"out", KBS_ARG_TEXT, &p.out, "FILE", "a new file, or - for the very bytes", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin policy get NAME [--version N] [--out FILE] [options]",
        .about = "Show a policy.\n" NAMES,
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1};
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON answer = NULL;

    int r = kbs_admin_parse(o, &args, argc, argv, &p.name);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    r = check_name(&args, p.name);
    if (r != KBS_CLI_OK) {
        return r;
    }
    r = fetch(o, &p, "", &answer, &err);
    if (r == 0) {
        r = get_show(o, &p, answer, &err);
    }
    return kbs_cli_end(r, &err);
}

/* ---- changes ---- */

static int changed_show(const struct kbs_admin_options *o, json_t *answer, struct kbs_error *err)
{
    struct kbs_span name = KBS_SPAN_EMPTY;
    struct kbs_span digest = KBS_SPAN_EMPTY;
    int64_t version = 0;

    if (o->json) {
        return kbs_cli_json(json_incref(answer), err);
    }
    if (kbs_json_get_string(answer, "name", &name, err) != 0 ||
        kbs_json_get_integer(answer, "version", &version, err) != 0 ||
        kbs_json_get_string(answer, "digest", &digest, err) != 0) {
        return -1;
    }
    kbs_cli_field_text("policy", name);
    kbs_cli_field("version", "%lld", (long long)version);
    kbs_cli_field_text("SHA-256", digest);
    return 0;
}

static int change_send(const struct kbs_admin_options *o, const struct policy *p,
                       struct kbs_span body, struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    KBS_AUTO_JSON answer = NULL;
    int r = target_put(p, &target, err);

    if (r == 0 && (r = kbs_admin_open(o, &admin, err)) == 0) {
        const struct kbs_admin_key_request q = {
            .method = "POST", .target = kbs_buf_cstr(&target), .path = p->name, .body = body};
        r = kbs_admin_send(&admin, o, &q, &answer, err);
    }
    if (r == 0 && answer != NULL) {
        r = changed_show(o, answer, err);
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&target);
    return r;
}

static int set(const struct kbs_admin_options *o, const struct policy *p, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_buf body = KBS_BUF(BODY_MAX_BYTES);
    int r = kbs_cli_read_file(p->file, &text, err);

    if (r == 0 && text.len == 0) {
        r = kbs_fail(err, KBS_INPUT, "%.100s is empty: see kbs-admin policy remove", p->file);
    }
    if (r == 0) {
        kbs_buf_put_str(&body, "{\"policy\":\"");
        kbs_base64url_put(&body, kbs_buf_span(&text));
        kbs_buf_put_str(&body, "\"}");
        r = kbs_buf_check(&body, "request", err);
    }
    if (r == 0) {
        r = change_send(o, p, kbs_buf_span(&body), err);
    }
    kbs_buf_deinit(&body);
    kbs_buf_deinit(&text);
    return r;
}

int kbs_admin_cmd_policy_set(struct kbs_admin_options *o, int argc, char **argv)
{
    struct policy p = {.name = NULL};
    const char *words[2] = {NULL, NULL};
    const struct kbs_args args = {
        .synopsis = "kbs-admin policy set NAME FILE [options]",
        .about = "Set a policy in Rego. The service parses it first, and names\n"
                 "line and column of what is wrong.\n" NAMES,
        .positionals_min = 2,
        .positionals_max = 2};
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, words);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    p.name = words[0];
    p.file = words[1];
    r = check_name(&args, p.name);
    return r != KBS_CLI_OK ? r : kbs_cli_end(set(o, &p, &err), &err);
}

int kbs_admin_cmd_policy_rollback(struct kbs_admin_options *o, int argc, char **argv)
{
    struct policy p = {.name = NULL};
    const struct kbs_arg own[] = {
        {"to", KBS_ARG_NUMBER, &p.to, "N", "the version whose text counts again", 1, UINT32_MAX},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin policy rollback NAME --to N [options]",
        .about = "Make a new version of a policy with the text of an older one.\n" NAMES,
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1};
    struct kbs_buf body = KBS_BUF(64);
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &p.name);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    r = check_name(&args, p.name);
    if (r == KBS_CLI_OK && p.to == 0) {
        r = kbs_args_usage(&args, "--to is missing");
    }
    if (r == KBS_CLI_OK) {
        kbs_buf_printf(&body, "{\"rollback\":%u}", p.to);
        r = kbs_cli_end(change_send(o, &p, kbs_buf_span(&body), &err), &err);
    }
    kbs_buf_deinit(&body);
    return r;
}

int kbs_admin_cmd_policy_remove(struct kbs_admin_options *o, int argc, char **argv)
{
    struct policy p = {.name = NULL};
    const struct kbs_args args = {
        .synopsis = "kbs-admin policy remove NAME [options]",
        .about = "Take a policy back: a version without text. Its history stays,\n"
                 "and rollback brings it back.\n" NAMES,
        .positionals_min = 1,
        .positionals_max = 1};
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &p.name);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    r = check_name(&args, p.name);
    return r != KBS_CLI_OK
               ? r
               : kbs_cli_end(change_send(o, &p, KBS_SPAN_LIT("{\"policy\":\"\"}"), &err), &err);
}
