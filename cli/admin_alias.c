/*
 * kbs-admin alias set, list, remove: paths that stand for others, by the attested identity of who asks
 * (docs/protocol/aliases.md). Each is one signed request about one rule.
 */
#include <ctype.h>

#include "attest/identity.h"
#include "base/encoding.h"
#include "base/terms.h"
#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"

#define TARGET "/kbs/v0/admin/aliases"
#define BODY_MAX_BYTES 4096u
#define FIELDS                                                                                   \
    "FIELDS is NAME=HEX[,NAME=HEX...]; names are measurement, host-data, init-data, id-block,\n" \
    "id-key, family-id, image-id and chip-id. A guest has to have all of them."

/* What was typed. */
struct alias {
    const char *path;
    const char *when; /* NULL: no conditions */
    const char *to;
    bool first;
};

static int target_put(const struct alias *a, struct kbs_buf *out, struct kbs_error *err)
{
    kbs_buf_printf(out, TARGET "/%s", a->path);
    return kbs_buf_check(out, "the request target", err);
}

static int check_path(const struct kbs_args *args, const char *path)
{
    return kbs_key_path_valid(kbs_span_str(path))
               ? KBS_CLI_OK
               : kbs_args_usage(args, "not a path repo/type/tag: %s", path);
}

/* ---- conditions ---- */

/* One NAME=HEX as a member. */
static int condition_put(struct kbs_buf *out, const char *text, size_t len, struct kbs_error *err)
{
    const char *equals = memchr(text, '=', len);
    struct kbs_buf bytes = KBS_BUF(KBS_IDENTITY_VALUE_BYTES);
    struct kbs_buf hex = KBS_BUF(2 * KBS_IDENTITY_VALUE_BYTES);
    struct kbs_span name = kbs_span(text, equals != NULL ? (size_t)(equals - text) : len);
    bool good = equals != NULL && kbs_identity_field_from_name(name) != KBS_IDENTITY_FIELD_COUNT;

    for (size_t i = name.len + 1; i < len; i++) {
        kbs_buf_put_u8(&hex, (uint8_t)tolower((unsigned char)text[i]));
    }
    good = good && hex.len != 0 && kbs_hex_get(&bytes, kbs_buf_span(&hex)) == 0;
    kbs_buf_put_str(out, out->p[out->len - 1] == '{' ? "\"" : ",\"");
    kbs_buf_put_span(out, name);
    kbs_buf_put_str(out, "\":\"");
    kbs_buf_put_span(out, kbs_buf_span(&hex));
    kbs_buf_put_u8(out, '"');
    kbs_buf_deinit(&bytes);
    kbs_buf_deinit(&hex);
    return good ? 0
                : kbs_fail(err, KBS_INPUT, "--when: %.*s is not NAME=HEX of a field",
                           len < 100 ? (int)len : 100, text);
}

/* "when":{...} */
static int when_put(struct kbs_buf *out, const char *text, struct kbs_error *err)
{
    kbs_buf_put_str(out, "\"when\":{");
    while (text != NULL) {
        size_t len = strcspn(text, ",");

        if (condition_put(out, text, len, err) != 0) {
            return -1;
        }
        text = text[len] == ',' ? text + len + 1 : NULL;
    }
    kbs_buf_put_u8(out, '}');
    return kbs_buf_check(out, "the rule", err);
}

/* "measurement=4d4d…, chip-id=…" for people. */
static void when_print(struct kbs_buf *out, json_t *when)
{
    const char *name = NULL;
    json_t *value = NULL;

    json_object_foreach(when, name, value)
    {
        kbs_buf_printf(out, "%s%s=%s", out->len > 0 ? "," : "", name, json_string_value(value));
    }
    if (out->len == 0) {
        kbs_buf_put_str(out, "everybody else");
    }
}

/* ---- what there is ---- */

static int fill_alias(const json_t *item, struct kbs_admin_row *ret, struct kbs_error *err)
{
    int64_t version = 0;
    int64_t created = 0;
    int64_t rules = 0;

    if (kbs_json_get_string(item, "path", &ret->cells[0], err) != 0 ||
        kbs_json_get_integer(item, "rules", &rules, err) != 0 ||
        kbs_json_get_integer(item, "version", &version, err) != 0 ||
        kbs_json_get_integer(item, "created", &created, err) != 0) {
        return -1;
    }
    (void)snprintf(ret->texts[0], sizeof(ret->texts[0]), rules == 0 ? "removed" : "%lld",
                   (long long)rules);
    (void)snprintf(ret->texts[1], sizeof(ret->texts[1]), "%lld", (long long)version);
    kbs_admin_time(created, ret->texts[2], sizeof(ret->texts[2]));
    for (size_t i = 0; i < KBS_ADMIN_ROW_TEXTS; i++) {
        ret->cells[i + 1] = kbs_span_str(ret->texts[i]);
    }
    return 0;
}

static int list_all(const struct kbs_admin_options *o, struct kbs_error *err)
{
    static const char *const titles[] = {"PATH", "RULES", "VERSION", "SET"};
    KBS_AUTO_JSON answer = NULL;

    if (kbs_admin_list(o, TARGET, "aliases", "path", &answer, err) != 0) {
        return -1;
    }
    return o->json ? kbs_cli_json(json_incref(answer), err)
                   : kbs_admin_table_print(json_object_get(answer, "aliases"), titles,
                                           sizeof(titles) / sizeof(titles[0]), fill_alias, err);
}

/* The rules of one, in the order in which they are asked. */
static int rules_show(const struct kbs_admin_options *o, json_t *answer, struct kbs_error *err)
{
    json_t *rules = json_object_get(answer, "rules");
    struct kbs_buf when = KBS_BUF(BODY_MAX_BYTES);
    struct kbs_span to = KBS_SPAN_EMPTY;
    json_t *rule = NULL;
    size_t i = 0;
    int r = 0;

    if (o->json) {
        return kbs_cli_json(json_incref(answer), err);
    }
    json_array_foreach(rules, i, rule)
    {
        r = r == 0 ? kbs_json_get_string(rule, "to", &to, err) : r;
        kbs_buf_clear(&when);
        when_print(&when, json_object_get(rule, "when"));
        kbs_cli_field_text(i == 0 ? "goes to" : "or else", to);
        kbs_cli_field_text("if", kbs_buf_span(&when));
    }
    kbs_buf_deinit(&when);
    return r;
}

static int list_one(const struct kbs_admin_options *o, const struct alias *a, struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    KBS_AUTO_JSON answer = NULL;
    int r = target_put(a, &target, err);

    if (r == 0 && (r = kbs_admin_open(o, &admin, err)) == 0) {
        r = kbs_admin_call(&admin, "GET", kbs_buf_cstr(&target), KBS_SPAN_EMPTY, a->path, &answer,
                           err);
    }
    if (r == 0) {
        r = rules_show(o, answer, err);
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&target);
    return r;
}

int kbs_admin_cmd_alias_list(struct kbs_admin_options *o, int argc, char **argv)
{
    struct alias a = {.path = NULL};
    const struct kbs_args args = {.synopsis = "kbs-admin alias list [PATH] [options]",
                                  .about = "List the aliases, or the rules of one in the order in\n"
                                           "which they are asked.",
                                  .positionals_max = 1};
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &a.path);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    if (a.path == NULL) {
        return kbs_cli_end(list_all(o, &err), &err);
    }
    r = check_path(&args, a.path);
    return r != KBS_CLI_OK ? r : kbs_cli_end(list_one(o, &a, &err), &err);
}

/* ---- changes ---- */

static int change_send(const struct kbs_admin_options *o, const struct alias *a, const char *method,
                       struct kbs_span body, struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    KBS_AUTO_JSON answer = NULL;
    int r = target_put(a, &target, err);

    if (r == 0 && (r = kbs_admin_open(o, &admin, err)) == 0) {
        const struct kbs_admin_key_request q = {
            .method = method, .target = kbs_buf_cstr(&target), .path = a->path, .body = body};
        r = kbs_admin_send(&admin, o, &q, &answer, err);
    }
    if (r == 0 && answer != NULL) {
        r = json_is_array(json_object_get(answer, "rules")) || o->json ? rules_show(o, answer, err)
                                                                       : 0;
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&target);
    return r;
}

static int set(const struct kbs_admin_options *o, const struct alias *a, struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(BODY_MAX_BYTES);
    int r = 0;

    kbs_buf_printf(&body, "{\"to\":\"%s\",\"first\":%s,", a->to, a->first ? "true" : "false");
    r = when_put(&body, a->when, err);
    kbs_buf_put_u8(&body, '}');
    if (r == 0 && (r = kbs_buf_check(&body, "the rule", err)) == 0) {
        r = change_send(o, a, "POST", kbs_buf_span(&body), err);
    }
    kbs_buf_deinit(&body);
    return r;
}

int kbs_admin_cmd_alias_set(struct kbs_admin_options *o, int argc, char **argv)
{
    struct alias a = {.path = NULL};
    const struct kbs_arg own[] = {
        {"when", KBS_ARG_TEXT, &a.when, "FIELDS",
         "what is attested of the guest (default: whatever no other rule fits)", 0, 0},
        {"to", KBS_ARG_TEXT, &a.to, "PATH", "the key or secret that it gets", 0, 0},
        {"first", KBS_ARG_FLAG, &a.first, NULL, "ask this rule before the others, not after them",
         0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin alias set PATH [--when FIELDS] --to PATH [--first] [options]",
        .about =
            "Let a path lead certain guests to another path, where they ask for a resource. A\n"
            "rule with the same conditions is replaced. What a guest may have is said by the\n"
            "policy of what it is led to.\n" FIELDS,
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1};
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &a.path);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    r = check_path(&args, a.path);
    if (r == KBS_CLI_OK) {
        r = a.to != NULL ? check_path(&args, a.to) : kbs_args_usage(&args, "--to is missing");
    }
    return r != KBS_CLI_OK ? r : kbs_cli_end(set(o, &a, &err), &err);
}

static int take_out(const struct kbs_admin_options *o, const struct alias *a, struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(BODY_MAX_BYTES);
    int r = 0;

    if (a->when != NULL) {
        kbs_buf_put_u8(&body, '{');
        r = when_put(&body, a->when, err);
        kbs_buf_put_u8(&body, '}');
    }
    if (r == 0) {
        r = change_send(o, a, "DELETE", kbs_buf_span(&body), err);
    }
    kbs_buf_deinit(&body);
    return r;
}

int kbs_admin_cmd_alias_remove(struct kbs_admin_options *o, int argc, char **argv)
{
    struct alias a = {.path = NULL};
    const struct kbs_arg own[] = {
        {"when", KBS_ARG_TEXT, &a.when, "FIELDS", "only the rule with these conditions", 0, 0},
    };
    const struct kbs_args args = {.synopsis =
                                      "kbs-admin alias remove PATH [--when FIELDS] [options]",
                                  .about = "Take an alias back, or one of its rules.\n" FIELDS,
                                  .own = own,
                                  .own_count = sizeof(own) / sizeof(own[0]),
                                  .positionals_min = 1,
                                  .positionals_max = 1};
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &a.path);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    r = check_path(&args, a.path);
    return r != KBS_CLI_OK ? r : kbs_cli_end(take_out(o, &a, &err), &err);
}
