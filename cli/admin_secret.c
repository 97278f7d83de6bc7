/*
 * kbs-admin secret list, show, policy and delete: what is known of secrets. No request gives a value
 * back.
 */
#include "cli/admin_secret.h"

#include <stdio.h>

#include "base/terms.h"
#include "cli/output.h"
#include "cli/status.h"

#define COLUMNS 4

int kbs_admin_secret_target(const char *path, struct kbs_buf *out, struct kbs_error *err)
{
    kbs_buf_printf(out, "/kbs/v0/admin/secrets/%s", path);
    return kbs_buf_check(out, "the request target", err);
}

static int secret_print(const json_t *secret, struct kbs_error *err)
{
    const json_t *policy = json_object_get(secret, "policy");
    struct kbs_span path;
    struct kbs_span state;
    int64_t version;
    int64_t bytes;
    int64_t created;
    char when[32];

    if (kbs_json_get_string(secret, "path", &path, err) != 0 ||
        kbs_json_get_string(secret, "state", &state, err) != 0 ||
        kbs_json_get_integer(secret, "version", &version, err) != 0 ||
        kbs_json_get_integer(secret, "bytes", &bytes, err) != 0 ||
        kbs_json_get_integer(secret, "created", &created, err) != 0) {
        return -1;
    }
    kbs_cli_field_text("path", path);
    kbs_cli_field("version", "%lld", (long long)version);
    kbs_cli_field_text("state", state);
    kbs_cli_field("length", "%lld bytes", (long long)bytes);
    kbs_admin_time(created, when, sizeof(when));
    kbs_cli_field("created", "%s", when);
    if (!json_is_object(policy)) {
        kbs_cli_field("policy", "none: every release is denied");
        return 0;
    }
    return kbs_cli_field_json("policy", policy, err);
}

int kbs_admin_secret_show(const struct kbs_admin_options *o, json_t *secret, struct kbs_error *err)
{
    return o->json ? kbs_cli_json(json_incref(secret), err) : secret_print(secret, err);
}

/* ---- list ---- */

static int fill_row(const json_t *secret, struct kbs_admin_row *ret, struct kbs_error *err)
{
    struct kbs_span *row = ret->cells;
    int64_t version;
    int64_t bytes;
    int64_t created;

    if (kbs_json_get_string(secret, "path", &row[0], err) != 0 ||
        kbs_json_get_integer(secret, "version", &version, err) != 0 ||
        kbs_json_get_integer(secret, "bytes", &bytes, err) != 0 ||
        kbs_json_get_integer(secret, "created", &created, err) != 0) {
        return -1;
    }
    (void)snprintf(ret->texts[0], sizeof(ret->texts[0]), "%lld", (long long)version);
    (void)snprintf(ret->texts[1], sizeof(ret->texts[1]), "%lld", (long long)bytes);
    kbs_admin_time(created, ret->texts[2], sizeof(ret->texts[2]));
    row[1] = kbs_span_str(ret->texts[0]);
    row[2] = kbs_span_str(ret->texts[1]);
    row[3] = kbs_span_str(ret->texts[2]);
    return 0;
}

static int list_print(const json_t *secrets, struct kbs_error *err)
{
    static const char *const titles[COLUMNS] = {"PATH", "VERSION", "BYTES", "CREATED"};

    return kbs_admin_table_print(secrets, titles, COLUMNS, fill_row, err);
}

static int list(const struct kbs_admin_options *o, struct kbs_error *err)
{
    KBS_AUTO_JSON answer = NULL;

    if (kbs_admin_list(o, "/kbs/v0/admin/secrets", "secrets", "path", &answer, err) != 0) {
        return -1;
    }
    return o->json ? kbs_cli_json(json_incref(answer), err)
                   : list_print(json_object_get(answer, "secrets"), err);
}

int kbs_admin_cmd_secret_list(struct kbs_admin_options *o, int argc, char **argv)
{
    const struct kbs_args args = {
        .synopsis = "kbs-admin secret list [options]",
        .about = "List the newest version of each secret. Values are never shown.",
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, NULL);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    return kbs_cli_end(list(o, &err), &err);
}

/* ---- show, policy, delete ---- */

struct kind {
    const char *method;
    const char *synopsis;
    const char *about;
    bool takes_policy;
};

/* Appends {"policy":...}. */
static int policy_put(struct kbs_buf *out, const char *file, struct kbs_error *err)
{
    const struct kbs_admin_new_key terms = {.policy_file = file};
    struct kbs_buf members = KBS_BUF(KBS_LIMIT_POLICY_BYTES + 64);
    int r = kbs_admin_new_key_put(&members, &terms, err);

    if (r == 0) {
        kbs_buf_put_u8(out, '{');
        kbs_buf_put_span(out, kbs_span_skip(kbs_buf_span(&members), 1)); /* its comma */
        kbs_buf_put_u8(out, '}');
        r = kbs_buf_check(out, "request", err);
    }
    kbs_buf_deinit(&members);
    return r;
}

/* One request about a secret whose answer is shown. */
static int ask(const struct kbs_admin_options *o, const struct kind *kind, const char *path,
               const char *policy_file, struct kbs_error *err)
{
    struct kbs_admin_options options = *o;
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_buf body = KBS_BUF(KBS_LIMIT_POLICY_BYTES + 64);
    struct kbs_admin admin = {.signer = NULL};
    KBS_AUTO_JSON answer = NULL;
    int r = kbs_admin_secret_target(path, &target, err);

    options.dry_run = o->dry_run && strcmp(kind->method, "GET") != 0;
    if (r == 0 && kind->takes_policy) {
        kbs_buf_put_str(&target, "/policy");
        r = policy_put(&body, policy_file, err);
    }
    if (r == 0 && (r = kbs_admin_open(o, &admin, err)) == 0) {
        const struct kbs_admin_key_request q = {.method = kind->method,
                                                .target = kbs_buf_cstr(&target),
                                                .path = path,
                                                .body = kbs_buf_span(&body)};
        r = kbs_admin_send(&admin, &options, &q, &answer, err);
    }
    if (r == 0 && answer != NULL) {
        r = kbs_admin_secret_show(o, answer, err);
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&body);
    kbs_buf_deinit(&target);
    return r;
}

static int run(struct kbs_admin_options *o, int argc, char **argv, const struct kind *kind)
{
    const char *path = NULL;
    const char *policy_file = NULL;
    const struct kbs_arg own[] = {
        {"policy", KBS_ARG_TEXT, &policy_file, "FILE", "the release policy", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = kind->synopsis,
        .about = kind->about,
        .own = own,
        .own_count = kind->takes_policy ? 1 : 0,
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &path);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    if (!kbs_key_path_valid(kbs_span_str(path))) {
        return kbs_args_usage(&args, "not a path (repo/type/tag): %s", path);
    }
    if (kind->takes_policy && policy_file == NULL) {
        return kbs_args_usage(&args, "--policy is missing");
    }
    return kbs_cli_end(ask(o, kind, path, policy_file, &err), &err);
}

int kbs_admin_cmd_secret_show(struct kbs_admin_options *o, int argc, char **argv)
{
    static const struct kind kind = {
        .method = "GET",
        .synopsis = "kbs-admin secret show PATH [options]",
        .about = "Show the newest version of a secret and its policy. The value is never shown."};

    return run(o, argc, argv, &kind);
}

int kbs_admin_cmd_secret_policy(struct kbs_admin_options *o, int argc, char **argv)
{
    static const struct kind kind = {
        .method = "POST",
        .synopsis = "kbs-admin secret policy PATH --policy FILE [options]",
        .about = "Give the newest version of a secret another release policy. The value stays.",
        .takes_policy = true};

    return run(o, argc, argv, &kind);
}

int kbs_admin_cmd_secret_delete(struct kbs_admin_options *o, int argc, char **argv)
{
    static const struct kind kind = {
        .method = "DELETE",
        .synopsis = "kbs-admin secret delete PATH [options]",
        .about = "Destroy all versions of a secret. Copies of the store (backups) keep them."};

    return run(o, argc, argv, &kind);
}
