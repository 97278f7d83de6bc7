/* kbs-admin key list: one line per key, newest facts from the server, nothing cached. */
#include <stdio.h>

#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"

#define COLUMNS 8

static int fill_row(const json_t *key, struct kbs_admin_row *ret, struct kbs_error *err)
{
    struct kbs_span *row = ret->cells;
    int64_t bytes;
    int64_t created;

    if (kbs_json_get_string(key, "kid", &row[0], err) != 0 ||
        kbs_json_get_string(key, "state", &row[1], err) != 0 ||
        kbs_json_get_string(key, "class", &row[2], err) != 0 ||
        kbs_json_get_string(key, "provenance", &row[3], err) != 0 ||
        kbs_json_get_integer(key, "bytes", &bytes, err) != 0 ||
        kbs_json_get_string(key, "floor", &row[5], err) != 0 ||
        kbs_json_get_string(key, "kcv", &row[6], err) != 0 ||
        kbs_json_get_integer(key, "created", &created, err) != 0) {
        return -1;
    }
    (void)snprintf(ret->texts[0], sizeof(ret->texts[0]), "%lld", (long long)bytes);
    row[4] = kbs_span_str(ret->texts[0]);
    kbs_admin_time(created, ret->texts[1], sizeof(ret->texts[1]));
    row[7] = kbs_span_str(ret->texts[1]);
    return 0;
}

static int print(const json_t *keys, struct kbs_error *err)
{
    static const char *const titles[COLUMNS] = {"KID",   "STATE", "CLASS",           "PROVENANCE",
                                                "BYTES", "FLOOR", "KEY CHECK VALUE", "CREATED"};

    return kbs_admin_table_print(keys, titles, COLUMNS, fill_row, err);
}

static int list(const struct kbs_admin_options *o, struct kbs_error *err)
{
    KBS_AUTO_JSON answer = NULL;

    if (kbs_admin_list(o, "/kbs/v0/admin/keys", "keys", "kid", &answer, err) != 0) {
        return -1;
    }
    return o->json ? kbs_cli_json(json_incref(answer), err)
                   : print(json_object_get(answer, "keys"), err);
}

int kbs_admin_cmd_key_list(struct kbs_admin_options *o, int argc, char **argv)
{
    const struct kbs_args args = {
        .synopsis = "kbs-admin key list [options]",
        .about = "List the keys of the service.",
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, NULL);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    return kbs_cli_end(list(o, &err), &err);
}
