/* kbs-admin key generate: a key that is born in the token and never leaves it unwrapped. */
#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"

#define BODY_MAX_BYTES (KBS_LIMIT_POLICY_BYTES + 4096)
#define TARGET "/kbs/v0/admin/keys"

static int generate(const struct kbs_admin_options *o, const struct kbs_admin_new_key *k,
                    uint32_t bytes, struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(BODY_MAX_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    int r = -1;

    kbs_buf_printf(&body, "{\"path\":\"%s\",\"purpose\":\"release\",\"alg\":\"AES\",\"bytes\":%u,",
                   k->path, bytes);
    if (kbs_admin_new_key_put(&body, k, err) != 0) {
        goto out;
    }
    kbs_buf_put_u8(&body, '}');
    if (kbs_buf_check(&body, "request", err) != 0 || kbs_admin_open(o, &admin, err) != 0) {
        goto out;
    }
    r = kbs_admin_new_key_send(&admin, o, k->path, TARGET, kbs_buf_span(&body), NULL, err);
out:
    kbs_admin_close(&admin);
    kbs_buf_deinit(&body);
    return r;
}

int kbs_admin_cmd_key_generate(struct kbs_admin_options *o, int argc, char **argv)
{
    struct kbs_admin_new_key k = {.path = NULL};
    uint32_t bytes = 32;
    struct kbs_arg common[KBS_ADMIN_COMMON_ARGS];
    const struct kbs_arg own[] = {
        {"bytes", KBS_ARG_NUMBER, &bytes, "N", "key length: 16, 24 or 32 (default)", 16, 32},
        {"floor", KBS_ARG_TEXT, &k.floor, "LOCALITY", "token, transport (default) or worker", 0, 0},
        {"policy", KBS_ARG_TEXT, &k.policy_file, "FILE", "release policy (without: deny all)", 0,
         0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin key generate PATH [options]",
        .about = "Generate an AES key in the token under PATH (repo/type/tag).",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .common = common,
        .common_count = KBS_ADMIN_COMMON_ARGS,
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    kbs_admin_common_args(o, common);
    int r = kbs_args_parse(&args, argc, argv, &k.path);
    if (r != 0) {
        return r > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
    }
    if (bytes % 8 != 0) {
        return kbs_args_usage(&args, "--bytes is 16, 24 or 32");
    }
    int status = kbs_admin_new_key_check(&args, &k);
    if (status == KBS_CLI_OK && (generate(o, &k, bytes, &err) != 0 || kbs_cli_flush(&err) != 0)) {
        status = kbs_cli_fail(&err);
    }
    return status;
}
