/*
 * kbs-admin wrapping-key: the token key under which wrapped keys stand in the store. A rotation makes the next one; the
 * rewrap that follows moves keys to it in batches, each of which is done whole or not at all: interrupted at
 * any point, the same command goes on where it was.
 */
#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"

#define TARGET "/kbs/v0/admin/wrapping-key"
#define WHAT "wrapping key"

static int show(const json_t *answer, struct kbs_error *err)
{
    int64_t version = 0;
    json_t *keys = NULL;
    const char *name;
    json_t *count;

    if (kbs_json_get_integer(answer, "version", &version, err) != 0 ||
        kbs_json_get_object(answer, "keys", &keys, err) != 0) {
        return -1;
    }
    kbs_cli_field("newest version", "%lld", (long long)version);
    json_object_foreach(keys, name, count)
    {
        kbs_cli_field("wrapped keys", "%lld under version %s", (long long)json_integer_value(count),
                      name);
    }
    return 0;
}

/* One request whose answer is shown. */
static int ask(const struct kbs_admin_options *o, const char *method, const char *target,
               struct kbs_error *err)
{
    const struct kbs_admin_key_request q = {.method = method, .target = target, .path = WHAT};
    const bool changes = strcmp(method, "GET") != 0;
    struct kbs_admin_options options = *o;
    struct kbs_admin admin = {.signer = NULL};
    KBS_AUTO_JSON answer = NULL;
    int r = kbs_admin_open(o, &admin, err);

    options.dry_run = o->dry_run && changes;
    if (r == 0) {
        r = kbs_admin_send(&admin, &options, &q, &answer, err);
    }
    if (r == 0 && answer != NULL) {
        r = o->json ? kbs_cli_json(json_incref(answer), err) : show(answer, err);
    }
    kbs_admin_close(&admin);
    return r;
}

/* Requests until nothing is left, with the progress on standard error. */
static int rewrap(const struct kbs_admin_options *o, uint32_t limit, json_t **ret,
                  struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(64);
    struct kbs_admin admin = {.signer = NULL};
    int64_t total = 0;
    int64_t done = 1;
    int64_t left = 1;
    int r = kbs_admin_open(o, &admin, err);

    kbs_buf_printf(&body, "{\"limit\":%u,\"dry_run\":%s}", limit, o->dry_run ? "true" : "false");
    while (r == 0 && left > 0 && done > 0) {
        json_decref(*ret);
        *ret = NULL;
        r = kbs_admin_call(&admin, "POST", TARGET "/rewrap", kbs_buf_span(&body), "rewrap", ret,
                           err);
        if (r != 0 || kbs_json_get_integer(*ret, "rewrapped", &done, err) != 0 ||
            kbs_json_get_integer(*ret, "left", &left, err) != 0) {
            r = -1;
            break;
        }
        total += done;
        if (o->dry_run) {
            break;
        }
        kbs_cli_say("%lld rewrapped, %lld left", (long long)total, (long long)left);
    }
    if (r == 0 && !o->dry_run && json_object_set_new(*ret, "rewrapped", json_integer(total)) != 0) {
        r = kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&body);
    return r;
}

static int rewrap_and_show(const struct kbs_admin_options *o, uint32_t limit, struct kbs_error *err)
{
    KBS_AUTO_JSON answer = NULL;
    int64_t done = 0;
    int64_t left = 0;
    int64_t version = 0;

    if (rewrap(o, limit, &answer, err) != 0 ||
        kbs_json_get_integer(answer, "rewrapped", &done, err) != 0 ||
        kbs_json_get_integer(answer, "left", &left, err) != 0 ||
        kbs_json_get_integer(answer, "version", &version, err) != 0) {
        return -1;
    }
    if (o->json) {
        return kbs_cli_json(json_incref(answer), err);
    }
    kbs_cli_field(o->dry_run ? "in one request" : "rewrapped", "%lld to version %lld",
                  (long long)done, (long long)version);
    kbs_cli_field("left", "%lld", (long long)left);
    return 0;
}

/*
 * The arguments of a subcommand: none, --limit or --version, which may be needed. False if the command
 * ends here, with *ret_status.
 */
static bool parse(struct kbs_admin_options *o, int argc, char **argv, const char *synopsis,
                  const char *about, const struct kbs_arg *own, const uint32_t *needed,
                  int *ret_status)
{
    struct kbs_arg common[KBS_ADMIN_COMMON_ARGS];
    const struct kbs_args args = {
        .synopsis = synopsis,
        .about = about,
        .own = own,
        .own_count = own != NULL ? 1 : 0,
        .common = common,
        .common_count = KBS_ADMIN_COMMON_ARGS,
    };

    kbs_admin_common_args(o, common);
    int r = kbs_args_parse(&args, argc, argv, NULL);
    if (r != 0) {
        *ret_status = r > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
        return false;
    }
    if (needed != NULL && *needed == 0) {
        *ret_status = kbs_args_usage(&args, "--%s is needed", own->name);
        return false;
    }
    return true;
}

static int end(int r, struct kbs_error *err)
{
    return r != 0 || kbs_cli_flush(err) != 0 ? kbs_cli_fail(err) : KBS_CLI_OK;
}

int kbs_admin_cmd_wrapping_key_show(struct kbs_admin_options *o, int argc, char **argv)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int status = KBS_CLI_OK;

    return parse(o, argc, argv, "kbs-admin wrapping-key show [options]",
                 "Show the newest wrapping key, and how many keys stand under each.", NULL, NULL,
                 &status)
               ? end(ask(o, "GET", TARGET, &err), &err)
               : status;
}

int kbs_admin_cmd_wrapping_key_rotate(struct kbs_admin_options *o, int argc, char **argv)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int status = KBS_CLI_OK;

    return parse(o, argc, argv, "kbs-admin wrapping-key rotate [options]",
                 "Generate the next wrapping key. Follow with `wrapping-key rewrap`.", NULL, NULL,
                 &status)
               ? end(ask(o, "POST", TARGET "/rotate", &err), &err)
               : status;
}

int kbs_admin_cmd_wrapping_key_rewrap(struct kbs_admin_options *o, int argc, char **argv)
{
    uint32_t limit = KBS_LIMIT_REWRAP_BATCH;
    const struct kbs_arg own = {"limit", KBS_ARG_NUMBER,        &limit, "N", "keys per request",
                                1,       KBS_LIMIT_REWRAP_BATCH};
    struct kbs_error err = KBS_ERROR_NONE;
    int status = KBS_CLI_OK;

    return parse(o, argc, argv, "kbs-admin wrapping-key rewrap [options]",
                 "Move every wrapped key under the newest wrapping key, in the token. Can be\n"
                 "interrupted and repeated at any time. With --dry-run, say how many there are.",
                 &own, NULL, &status)
               ? end(rewrap_and_show(o, limit, &err), &err)
               : status;
}

int kbs_admin_cmd_wrapping_key_destroy(struct kbs_admin_options *o, int argc, char **argv)
{
    uint32_t version = 0;
    const struct kbs_arg own = {"version", KBS_ARG_NUMBER, &version, "N", "which; never the newest",
                                1,         UINT32_MAX};
    struct kbs_buf target = KBS_BUF(128);
    struct kbs_error err = KBS_ERROR_NONE;
    int status = KBS_CLI_OK;

    if (!parse(o, argc, argv, "kbs-admin wrapping-key destroy --version N [options]",
               "Destroy an old wrapping key that no key stands under any more. Backups of wrapped\n"
               "keys that stood under it cannot be opened again.",
               &own, &version, &status)) {
        return status;
    }
    kbs_buf_printf(&target, TARGET "?version=%u", version);
    status = end(ask(o, "DELETE", kbs_buf_cstr(&target), &err), &err);
    kbs_buf_deinit(&target);
    return status;
}
