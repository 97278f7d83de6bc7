/*
 * kbs-admin store accept: says that a store which is not the newest the ledger knows of (put back
 * from a backup) is to be used as it is. Shows what is wrong first, and accepts exactly that.
 */
#include <stdio.h>

#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"

#define SHOW_TARGET "/kbs/v0/admin/store"
#define ACCEPT_TARGET "/kbs/v0/admin/store/accept"

static int show(const json_t *standing, struct kbs_error *err)
{
    int64_t epoch = 0;
    int64_t ledger = 0;
    struct kbs_span reason = KBS_SPAN_EMPTY;
    const json_t *why = json_object_get(standing, "reason");

    if (kbs_json_get_integer(standing, "epoch", &epoch, err) != 0 ||
        kbs_json_get_integer(standing, "ledger_epoch", &ledger, err) != 0 ||
        (json_is_string(why) && kbs_json_get_string(standing, "reason", &reason, err) != 0)) {
        return -1;
    }
    kbs_cli_field("serves keys", "%s",
                  json_is_true(json_object_get(standing, "serves")) ? "yes" : "no");
    kbs_cli_field("epoch of the store", "%lld", (long long)epoch);
    kbs_cli_field("epoch of the ledger", "%lld", (long long)ledger);
    if (reason.len != 0) {
        kbs_cli_field_text("reason", reason);
    }
    return 0;
}

static int accept_it(struct kbs_admin *admin, const struct kbs_admin_options *o,
                     const json_t *before, struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(64);
    KBS_AUTO_JSON after = NULL;
    int64_t epoch = 0;
    int r = kbs_json_get_integer(before, "epoch", &epoch, err);

    if (r == 0) {
        kbs_buf_printf(&body, "{\"epoch\":%lld}", (long long)epoch);
        r = kbs_admin_call(admin, "POST", ACCEPT_TARGET, kbs_buf_span(&body), "store accept",
                           &after, err);
    }
    if (r == 0) {
        r = o->json ? kbs_cli_json(json_incref(after), err) : show(after, err);
    }
    kbs_buf_deinit(&body);
    return r;
}

static int run(const struct kbs_admin_options *o, struct kbs_error *err)
{
    struct kbs_admin admin = {.signer = NULL};
    KBS_AUTO_JSON before = NULL;
    int r = kbs_admin_open(o, &admin, err);

    if (r == 0) {
        r = kbs_admin_call(&admin, "GET", SHOW_TARGET, KBS_SPAN_EMPTY, "store", &before, err);
    }
    if (r == 0 && o->dry_run) {
        r = o->json ? kbs_cli_json(json_incref(before), err) : show(before, err);
    } else if (r == 0) {
        r = accept_it(&admin, o, before, err);
    }
    kbs_admin_close(&admin);
    return r;
}

int kbs_admin_cmd_store_accept(struct kbs_admin_options *o, int argc, char **argv)
{
    const struct kbs_args args = {
        .synopsis = "kbs-admin store accept [options]",
        .about = "Accept a store that is older than the ledger, or another one, as it is. With\n"
                 "--dry-run, show how store and ledger stand.",
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, NULL);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    return kbs_cli_end(run(o, &err), &err);
}
