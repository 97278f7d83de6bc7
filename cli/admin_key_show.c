/*
 * kbs-admin key show: what is known of one key version, its policy included; shown only if the row
 * key that the profile pins has signed it so (row_check.c).
 */
#include "base/terms.h"
#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"

static int print(const struct kbs_admin_options *o, json_t *key, bool verified,
                 struct kbs_error *err)
{
    if (o->json) {
        return json_object_set_new(key, "verified", json_boolean(verified)) == 0
                   ? kbs_cli_json(json_incref(key), err)
                   : kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (kbs_admin_key_print(key, true, err) != 0) {
        return -1;
    }
    kbs_cli_field("row", "%s",
                  verified ? "signed as shown, by the pinned row key"
                           : "not verified: the profile pins no row key");
    return 0;
}

static int show(const struct kbs_admin_options *o, const char *path, uint32_t version,
                struct kbs_error *err)
{
    struct kbs_admin admin = {.signer = NULL};
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    KBS_AUTO_JSON key = NULL;
    int r = -1;

    if (kbs_admin_key_target(path, "", version, &target, err) == 0 &&
        kbs_admin_open(o, &admin, err) == 0 &&
        kbs_admin_call(&admin, "GET", kbs_buf_cstr(&target), KBS_SPAN_EMPTY, path, &key, err) ==
            0) {
        r = kbs_admin_row_check(&admin.profile, path, version, key, err);
    }
    if (r >= 0) {
        r = print(o, key, r == 0, err);
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&target);
    return r;
}

int kbs_admin_cmd_key_show(struct kbs_admin_options *o, int argc, char **argv)
{
    const char *path = NULL;
    uint32_t version = 0;
    const struct kbs_arg own[] = {
        {"version", KBS_ARG_NUMBER, &version, "N", "this version (default: the latest)", 1,
         UINT32_MAX},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin key show PATH [--version N] [options]",
        .about = "Show what is known of the key at PATH (repo/type/tag), and its policy, if the\n"
                 "pinned row key has signed it so.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &path);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    if (!kbs_key_path_valid(kbs_span_str(path))) {
        return kbs_args_usage(&args, "not a key path (repo/type/tag): %s", path);
    }
    return kbs_cli_end(show(o, path, version, &err), &err);
}
