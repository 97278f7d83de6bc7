/*
 * kbs-admin: what administrators do. Everything but `init`, `audit verify`, `receipt verify`, `attest explain`, `initdata`, `nek new`, `wrap` and
 * `inspect`, `policy test` and `explain`, and `tls` but for its key's making goes through the admin API, signed by the administrator's key; `init` makes a service
 * that does not run yet, `tls` works beside one on its host, the others read files.
 */
#include "cli/admin.h"
#include "cli/output.h"
#include "cli/program.h"
#include "cli/status.h"

static const struct {
    const char *first;
    const char *second; /* NULL: one word */
    int (*run)(struct kbs_admin_options *o, int argc, char **argv);
} commands[] = {
    {"init", NULL, kbs_admin_cmd_init},
    {"key", "generate", kbs_admin_cmd_key_generate},
    {"key", "import", kbs_admin_cmd_key_import},
    {"key", "list", kbs_admin_cmd_key_list},
    {"key", "show", kbs_admin_cmd_key_show},
    {"key", "rotate", kbs_admin_cmd_key_rotate},
    {"key", "policy", kbs_admin_cmd_key_policy},
    {"key", "adopt", kbs_admin_cmd_key_adopt},
    {"key", "disable", kbs_admin_cmd_key_disable},
    {"key", "enable", kbs_admin_cmd_key_enable},
    {"key", "destroy", kbs_admin_cmd_key_destroy},
    {"key", "undo", kbs_admin_cmd_key_undo},
    {"wrapping-key", "show", kbs_admin_cmd_wrapping_key_show},
    {"wrapping-key", "rotate", kbs_admin_cmd_wrapping_key_rotate},
    {"wrapping-key", "rewrap", kbs_admin_cmd_wrapping_key_rewrap},
    {"wrapping-key", "destroy", kbs_admin_cmd_wrapping_key_destroy},
    {"seal-key", "show", kbs_admin_cmd_seal_key_show},
    {"seal-key", "rotate", kbs_admin_cmd_seal_key_rotate},
    {"seal-key", "reseal", kbs_admin_cmd_seal_key_reseal},
    {"seal-key", "destroy", kbs_admin_cmd_seal_key_destroy},
    {"sign-key", "list", kbs_admin_cmd_sign_key_list},
    {"sign-key", "rotate", kbs_admin_cmd_sign_key_rotate},
    {"sign-key", "destroy", kbs_admin_cmd_sign_key_destroy},
    {"token", "caps", kbs_admin_cmd_token_caps},
    {"secret", "set", kbs_admin_cmd_secret_set},
    {"secret", "list", kbs_admin_cmd_secret_list},
    {"secret", "show", kbs_admin_cmd_secret_show},
    {"secret", "policy", kbs_admin_cmd_secret_policy},
    {"secret", "delete", kbs_admin_cmd_secret_delete},
    {"alias", "set", kbs_admin_cmd_alias_set},
    {"alias", "list", kbs_admin_cmd_alias_list},
    {"alias", "remove", kbs_admin_cmd_alias_remove},
    {"store", "accept", kbs_admin_cmd_store_accept},
    {"audit", "verify", kbs_admin_cmd_audit_verify},
    {"attest", "explain", kbs_admin_cmd_attest_explain},
    {"attest", "reference", kbs_admin_cmd_attest_reference},
    {"initdata", "make", kbs_admin_cmd_initdata_make},
    {"initdata", "digest", kbs_admin_cmd_initdata_digest},
    {"nek", "public", kbs_admin_cmd_nek_public},
    {"nek", "new", kbs_admin_cmd_nek_new},
    {"nek", "wrap", kbs_admin_cmd_nek_wrap},
    {"nek", "inspect", kbs_admin_cmd_nek_inspect},
    {"kept", "list", kbs_admin_cmd_kept_list},
    {"kept", "forget", kbs_admin_cmd_kept_forget},
    {"receipt", "verify", kbs_admin_cmd_receipt_verify},
    {"receipt-key", "show", kbs_admin_cmd_receipt_key_show},
    {"receipt-key", "make", kbs_admin_cmd_receipt_key_make},
    {"tls", "csr", kbs_admin_cmd_tls_csr},
    {"tls", "selfsigned", kbs_admin_cmd_tls_selfsigned},
    {"tls", "install", kbs_admin_cmd_tls_install},
    {"tls", "show", kbs_admin_cmd_tls_show},
    {"tls", "list-keys", kbs_admin_cmd_tls_list_keys},
    {"tls", "make-key", kbs_admin_cmd_tls_make_key},
    {"tls", "destroy-key", kbs_admin_cmd_tls_destroy_key},
    {"release", "dry-run", kbs_admin_cmd_release_dry_run},
    {"policy", "set", kbs_admin_cmd_policy_set},
    {"policy", "get", kbs_admin_cmd_policy_get},
    {"policy", "list", kbs_admin_cmd_policy_list},
    {"policy", "history", kbs_admin_cmd_policy_history},
    {"policy", "rollback", kbs_admin_cmd_policy_rollback},
    {"policy", "remove", kbs_admin_cmd_policy_remove},
    {"policy", "test", kbs_admin_cmd_policy_test},
    {"policy", "explain", kbs_admin_cmd_policy_explain},
    {"approve", NULL, kbs_admin_cmd_approve},
    {"approvals", "list", kbs_admin_cmd_approvals_list},
    {"approvals", "show", kbs_admin_cmd_approvals_show},
    {"approvals", "withdraw", kbs_admin_cmd_approvals_withdraw},
};

int main(int argc, char **argv)
{
    struct kbs_admin_options options = {.profile = NULL};
    struct kbs_arg common[KBS_ADMIN_COMMON_ARGS];
    const struct kbs_args args = {
        .synopsis = "kbs-admin COMMAND [options]",
        .about = "Administer a key broker service.\n\n"
                 "  init                   make a new service in a folder\n"
                 "  key generate|import    make a key, or bring one, wrapped to the token\n"
                 "  key adopt              take a key that is in the token already\n"
                 "  key list|show          what keys there are\n"
                 "  key rotate             make a key's next version\n"
                 "  key policy             change a key's policy or floor\n"
                 "  key disable|enable     stop and resume a key's release\n"
                 "  key destroy|undo       destroy a key after a time, call it back until then\n"
                 "  wrapping-key show|rotate|rewrap|destroy\n"
                 "                         the key that wrapped keys stand under\n"
                 "  secret set             seal a secret to the token and keep it\n"
                 "  secret list|show|policy|delete\n"
                 "                         what secrets there are; change a policy; destroy one\n"
                 "  alias set|list|remove  paths that lead each guest to its own\n"
                 "  seal-key show|rotate|reseal|destroy\n"
                 "                         the key that secrets are sealed to\n"
                 "  sign-key list|rotate|destroy\n"
                 "                         the key that attestation results are signed with\n"
                 "  token caps             what the token can do\n"
                 "  store accept           use a store that was put back from a backup\n"
                 "  audit verify           check a ledger, offline\n"
                 "  attest explain         verify evidence, offline, and say what was checked\n"
                 "  attest reference       what attested guests are compared with\n"
                 "  initdata make|digest   what guests are configured with, and its digest\n"
                 "  nek public|new|wrap|inspect\n"
                 "                         keys that guests keep wrapped to the token\n"
                 "  kept list|forget       guests that were provisioned, or have a register\n"
                 "  receipt verify         check a receipt of a release, offline\n"
                 "  receipt-key show|make  the key that receipts are signed with\n"
                 "  tls csr|selfsigned|install|show\n"
                 "                         a listener's certificate, on the server's host\n"
                 "  tls list-keys|make-key|destroy-key\n"
                 "                         the service's own key for TLS\n"
                 "  release dry-run        would this guest get this key\n"
                 "  policy set|get|list|history|rollback|remove\n"
                 "                         the policies of resources and evidence\n"
                 "  policy test|explain    what a policy says of claims, offline\n"
                 "  approve                agree to what another administrator asked for\n"
                 "  approvals list|show|withdraw\n"
                 "                         what waits for approval\n\n"
                 "kbs-admin COMMAND --help shows a command's options.",
        .common = common,
        .common_count = KBS_ADMIN_COMMON_ARGS,
    };
    int at = 0;

    kbs_admin_common_args(&options, common);
    int r = kbs_args_parse_leading(&args, argc, argv, &at);
    if (r != 0) {
        return r > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
    }
    if (at >= argc) {
        return kbs_args_usage(&args, "a command is missing");
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        int words = commands[i].second != NULL ? 2 : 1;
        if (strcmp(argv[at], commands[i].first) != 0 ||
            (words == 2 && (at + 1 >= argc || strcmp(argv[at + 1], commands[i].second) != 0))) {
            continue;
        }
        int status = kbs_cli_start();
        if (status != KBS_CLI_OK) {
            return status;
        }
        return commands[i].run(&options, argc - at - words + 1, argv + at + words - 1);
    }
    return kbs_args_usage(&args, "unknown command %s%s%s", argv[at], at + 1 < argc ? " " : "",
                          at + 1 < argc ? argv[at + 1] : "");
}
