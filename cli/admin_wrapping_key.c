/*
 * kbs-admin wrapping-key: the token key under which wrapped keys stand in the store. A rotation makes the next one; the
 * rewrap that follows moves keys to it in batches, each of which is committed as one: interrupted at
 * any point, the same command goes on where it was. A key that cannot be moved is named and passed over; the command then
 * fails when all others are done.
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

/* Says which keys could not be moved, and keeps them. */
static int take_failed(json_t *all, const json_t *answer, struct kbs_error *err)
{
    const json_t *failed = json_object_get(answer, "failed");
    size_t i;
    json_t *one;

    json_array_foreach(failed, i, one)
    {
        const char *path = json_string_value(json_object_get(one, "path"));
        const char *reason = json_string_value(json_object_get(one, "reason"));

        if (path == NULL || reason == NULL || json_array_append(all, one) != 0) {
            return kbs_fail(err, KBS_INTERNAL, "the answer names no key where it should");
        }
        kbs_cli_say("%s/v%lld stays where it is: %s", path,
                    (long long)json_integer_value(json_object_get(one, "version")), reason);
    }
    return 0;
}

/* What the requests so far came to. */
struct moved {
    json_t *failed; /* owned */
    int64_t total;
    int64_t done; /* by the last request */
    int64_t left;
    int64_t version;
};

static int rewrap_ask(struct kbs_admin *admin, const struct kbs_admin_options *o, uint32_t limit,
                      struct moved *m, struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(128);
    KBS_AUTO_JSON answer = NULL;
    int r = -1;

    kbs_buf_printf(&body, "{\"limit\":%u,\"skip\":%zu,\"dry_run\":%s}", limit,
                   json_array_size(m->failed), o->dry_run ? "true" : "false");
    if (kbs_admin_call(admin, "POST", TARGET "/rewrap", kbs_buf_span(&body), "rewrap", &answer,
                       err) == 0 &&
        kbs_json_get_integer(answer, "rewrapped", &m->done, err) == 0 &&
        kbs_json_get_integer(answer, "left", &m->left, err) == 0 &&
        kbs_json_get_integer(answer, "version", &m->version, err) == 0) {
        m->total += m->done;
        r = take_failed(m->failed, answer, err);
    }
    kbs_buf_deinit(&body);
    return r;
}

/* Requests until nothing is left that could be moved, with the progress on standard error. */
static int rewrap(const struct kbs_admin_options *o, uint32_t limit, struct moved *m,
                  struct kbs_error *err)
{
    struct kbs_admin admin = {.signer = NULL};
    int r = kbs_admin_open(o, &admin, err);
    bool goes_on = r == 0;

    while (goes_on) {
        size_t before = json_array_size(m->failed);

        r = rewrap_ask(&admin, o, limit, m, err);
        if (r == 0 && !o->dry_run) {
            kbs_cli_say("%lld rewrapped, %lld left", (long long)m->total, (long long)m->left);
        }
        goes_on = r == 0 && !o->dry_run && m->left > (int64_t)json_array_size(m->failed) &&
                  (m->done > 0 || json_array_size(m->failed) > before);
    }
    kbs_admin_close(&admin);
    return r;
}

static int rewrap_and_show(const struct kbs_admin_options *o, uint32_t limit, struct kbs_error *err)
{
    struct moved m = {.failed = json_array()};
    KBS_AUTO_JSON failed = m.failed;
    int r =
        m.failed != NULL ? rewrap(o, limit, &m, err) : kbs_fail(err, KBS_INTERNAL, "out of memory");

    if (r == 0 && o->json) {
        r = kbs_cli_json(json_pack("{s:I, s:I, s:I, s:O}", "rewrapped", (json_int_t)m.total, "left",
                                   (json_int_t)m.left, "version", (json_int_t)m.version, "failed",
                                   failed),
                         err);
    } else if (r == 0) {
        kbs_cli_field(o->dry_run ? "in one request" : "rewrapped", "%lld to version %lld",
                      (long long)m.total, (long long)m.version);
        kbs_cli_field("left", "%lld", (long long)m.left);
    }
    if (r == 0 && json_array_size(failed) > 0) {
        r = kbs_fail(err, KBS_CONFLICT, "%zu keys could not be moved and stay where they are",
                     json_array_size(failed));
    }
    return r;
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
                 "interrupted and repeated at any time. With --dry-run, say how many there are.\n"
                 "A key that cannot be moved is named and left where it is (exit status 6).",
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
