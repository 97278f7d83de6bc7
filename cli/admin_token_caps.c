/*
 * kbs-admin token caps: what the token can really do, by having done it. One line per rung, format, TEE key and key length.
 */
#include <stdio.h>

#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"

#define TARGET "/kbs/v0/admin/token/caps"
#define COLUMNS 7

static int fill_row(const json_t *cell, struct kbs_admin_row *ret, struct kbs_error *err)
{
    struct kbs_span *row = ret->cells;
    static const char *const texts[COLUMNS] = {"rung",   "format",   "key",   NULL,
                                               "result", "locality", "reason"};
    int64_t n = 0;

    if (kbs_json_get_integer(cell, "bytes", &n, err) != 0) {
        return -1;
    }
    (void)snprintf(ret->texts[0], sizeof(ret->texts[0]), "%lld", (long long)n);
    for (size_t c = 0; c < COLUMNS; c++) {
        if (texts[c] == NULL) {
            row[c] = kbs_span_str(ret->texts[0]);
        } else if (kbs_json_get_string(cell, texts[c], &row[c], err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int print_cells(const json_t *cells, struct kbs_error *err)
{
    static const char *const titles[COLUMNS] = {"RUNG",   "FORMAT",   "TEE KEY", "KEY BYTES",
                                                "RESULT", "LOCALITY", "REASON"};

    return kbs_admin_table_print(cells, titles, COLUMNS, fill_row, err);
}

static int print_notes(const json_t *answer)
{
    const json_t *notes = json_object_get(answer, "notes");

    for (size_t i = 0; i < json_array_size(notes); i++) {
        const json_t *note = json_array_get(notes, i);
        if (json_is_string(note)) {
            kbs_cli_field_text(i == 0 ? "notes" : "",
                               kbs_span(json_string_value(note), json_string_length(note)));
        }
    }
    return 0;
}

static int print(const json_t *answer, bool explain, struct kbs_error *err)
{
    static const char *const members[] = {"manufacturer", "model", "serial", "class"};
    json_t *token = NULL;
    struct kbs_span value;

    if (kbs_json_get_object(answer, "token", &token, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (kbs_json_get_string(token, members[i], &value, err) != 0) {
            return -1;
        }
        kbs_cli_field_text(members[i], value);
    }
    if (print_cells(json_object_get(answer, "cells"), err) != 0) {
        return -1;
    }
    return explain ? print_notes(answer) : 0;
}

int kbs_admin_cmd_token_caps(struct kbs_admin_options *o, int argc, char **argv)
{
    bool explain = false;
    const struct kbs_arg own[] = {
        {"explain", KBS_ARG_FLAG, &explain, NULL, "what refused, and what can be set on this token",
         0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin token caps [--explain] [options]",
        .about =
            "Show which ways of releasing a key the token can do: each was done once when the service\n"
            "started, and its result opened.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
    };
    struct kbs_admin admin = {.signer = NULL};
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON answer = NULL;

    int r = kbs_admin_parse(o, &args, argc, argv, NULL);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    r = kbs_admin_open(o, &admin, &err);
    if (r == 0) {
        r = kbs_admin_call(&admin, "GET", TARGET, KBS_SPAN_EMPTY, "token", &answer, &err);
    }
    if (r == 0) {
        r = o->json ? kbs_cli_json(json_incref(answer), &err) : print(answer, explain, &err);
    }
    kbs_admin_close(&admin);
    return r != 0 || kbs_cli_flush(&err) != 0 ? kbs_cli_fail(&err) : KBS_CLI_OK;
}
