/*
 * kbs-admin kept: the guests that something is kept for under a key (NEKs of their first boots, registers), and
 * forgetting one of them.
 */
#include <stdio.h>

#include "base/terms.h"
#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"

#define TARGET "/kbs/v0/admin/kept/"

/* A member that may be missing, as text; "-" then. */
static void cell_put(const json_t *item, const char *member, bool is_time, char out[32])
{
    const json_t *v = json_object_get(item, member);

    (void)snprintf(out, 32, "-");
    if (json_is_integer(v) && is_time) {
        kbs_admin_time(json_integer_value(v), out, 32);
    } else if (json_is_integer(v)) {
        (void)snprintf(out, 32, "%lld", (long long)json_integer_value(v));
    }
}

static int row_fill(const json_t *item, struct kbs_admin_row *ret, struct kbs_error *err)
{
    static const char *const members[KBS_ADMIN_ROW_TEXTS] = {"version", "provisioned", "value"};

    if (kbs_json_get_string(item, "identity", &ret->cells[0], err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < KBS_ADMIN_ROW_TEXTS; i++) {
        cell_put(item, members[i], i == 1, ret->texts[i]);
        ret->cells[i + 1] = kbs_span_str(ret->texts[i]);
    }
    return 0;
}

static int list(const struct kbs_admin_options *o, const char *path, struct kbs_error *err)
{
    static const char *const titles[] = {"IDENTITY", "KEY VERSION", "PROVISIONED", "REGISTER"};
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    KBS_AUTO_JSON answer = NULL;
    int r = -1;

    kbs_buf_printf(&target, TARGET "%s", path);
    if (kbs_buf_check(&target, "the request target", err) == 0 &&
        kbs_admin_list(o, kbs_buf_cstr(&target), "kept", "identity", &answer, err) == 0) {
        r = o->json ? kbs_cli_json(json_incref(answer), err)
                    : kbs_admin_table_print(json_object_get(answer, "kept"), titles,
                                            sizeof(titles) / sizeof(titles[0]), row_fill, err);
    }
    kbs_buf_deinit(&target);
    return r;
}

static int forget(const struct kbs_admin_options *o, const char *path, const char *identity,
                  struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    KBS_AUTO_JSON answer = NULL;
    int r = -1;

    kbs_buf_printf(&target, TARGET "%s?identity=%s", path, identity);
    if (kbs_buf_check(&target, "the request target", err) == 0 &&
        kbs_admin_open(o, &admin, err) == 0) {
        const struct kbs_admin_key_request q = {
            .method = "DELETE", .target = kbs_buf_cstr(&target), .path = path};

        r = kbs_admin_send(&admin, o, &q, &answer, err);
    }
    if (r == 0 && answer != NULL) {
        if (o->json) {
            r = kbs_cli_json(json_incref(answer), err);
        } else {
            kbs_cli_field("forgotten", "%s", identity);
        }
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&target);
    return r;
}

int kbs_admin_cmd_kept_list(struct kbs_admin_options *o, int argc, char **argv)
{
    const struct kbs_args args = {
        .synopsis = "kbs-admin kept list PATH [options]",
        .about = "List the guests that something is kept for under the key at PATH.",
        .positionals_min = 1,
        .positionals_max = 1,
    };
    const char *path = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    int status = kbs_admin_parse(o, &args, argc, argv, &path);

    if (status != KBS_CLI_GO_ON) {
        return status;
    }
    return kbs_key_path_valid(kbs_span_str(path))
               ? kbs_cli_end(list(o, path, &err), &err)
               : kbs_args_usage(&args, "not a key path (repo/type/tag): %s", path);
}

int kbs_admin_cmd_kept_forget(struct kbs_admin_options *o, int argc, char **argv)
{
    const struct kbs_args args = {
        .synopsis = "kbs-admin kept forget PATH IDENTITY [options]",
        .about = "Forget what is kept for a guest: its next boot is its first one.",
        .positionals_min = 2,
        .positionals_max = 2,
    };
    const char *words[2] = {NULL, NULL};
    struct kbs_error err = KBS_ERROR_NONE;
    int status = kbs_admin_parse(o, &args, argc, argv, words);

    if (status != KBS_CLI_GO_ON) {
        return status;
    }
    if (!kbs_key_path_valid(kbs_span_str(words[0])) ||
        !kbs_key_segment_valid(kbs_span_str(words[1]))) {
        return kbs_args_usage(&args, "PATH is repo/type/tag, IDENTITY as `kept list` shows it");
    }
    return kbs_cli_end(forget(o, words[0], words[1], &err), &err);
}
