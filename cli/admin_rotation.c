/*
 * kbs-admin wrapping-key and seal-key: the token keys that have versions. Wrapped keys stand under the one, secrets are
 * sealed to the other. A rotation makes the next version; the rewrap or reseal that follows moves things to it in batches,
 * each of which is committed as one: interrupted at any point, the same command goes on where it was. What cannot be moved
 * is named and passed over; the command then fails when all the rest is done.
 *
 * A new seal key is none of the administrators' yet: `secret set` seals to the one that their profiles pin. So its thumbprint
 * is shown, to be put there.
 */
#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"

/* What the two differ in. */
struct rotating {
    const char *command;
    const char *target;
    const char *what;  /* of an error */
    const char *holds; /* member of the answer: how many of them stand under each version */
    const char *count; /* the same, as told to people */
    const char *move;  /* the command and the request */
    const char *moved; /* member of its answer */
    uint32_t limit;
    const char *show_about;
    const char *rotate_about;
    const char *move_about;
    const char *destroy_about;
};

static const struct rotating wrapping = {
    "wrapping-key",
    "/kbs/v0/admin/wrapping-key",
    "wrapping key",
    "keys",
    "wrapped keys",
    "rewrap",
    "rewrapped",
    KBS_LIMIT_REWRAP_BATCH,
    "Show the newest wrapping key, and how many keys stand under each.",
    "Generate the next wrapping key. Follow with `wrapping-key rewrap`.",
    "Move every wrapped key under the newest wrapping key, in the token. Can be\n"
    "interrupted and repeated at any time. With --dry-run, say how many there are.\n"
    "A key that cannot be moved is named and left where it is (exit status 6).",
    "Destroy an old wrapping key that no key stands under any more. Backups of wrapped\n"
    "keys that stood under it cannot be opened again.",
};

static const struct rotating seal = {
    "seal-key",
    "/kbs/v0/admin/seal-key",
    "seal key",
    "secrets",
    "secrets",
    "reseal",
    "resealed",
    KBS_LIMIT_RESEAL_BATCH,
    "Show the newest seal key, its thumbprint, and how many secrets are sealed to each.",
    "Generate the next seal key. Put its thumbprint into the administrators' profiles as\n"
    "\"seal_key\", or give it to `secret set` as --seal-key; follow with `seal-key reseal`.",
    "Move every secret to the newest seal key, in kbs-token. Can be interrupted and\n"
    "repeated at any time. With --dry-run, say how many there are. A secret that cannot be\n"
    "moved is named and left as it is (exit status 6).",
    "Destroy an old seal key that no secret is sealed to any more. Backups of secrets that\n"
    "were sealed to it cannot be opened again.",
};

/* A seal key's thumbprint, and whether the profile pins it. */
static int show_thumbprint(const struct kbs_admin_profile *profile, const json_t *answer,
                           struct kbs_error *err)
{
    struct kbs_span text;

    if (json_object_get(answer, "thumbprint") == NULL) {
        return 0;
    }
    if (kbs_json_get_string(answer, "thumbprint", &text, err) != 0) {
        return -1;
    }
    kbs_cli_field_text("thumbprint", text);
    kbs_cli_field("pinned", "%s",
                  kbs_span_equal_str(text, profile->seal_key)
                      ? "yes"
                      : "no: \"seal_key\" of the profile is another one");
    return 0;
}

static int show(const struct rotating *k, const struct kbs_admin_profile *profile,
                const json_t *answer, struct kbs_error *err)
{
    int64_t version = 0;
    json_t *keys = NULL;
    const char *name;
    json_t *count;

    if (kbs_json_get_integer(answer, "version", &version, err) != 0 ||
        kbs_json_get_object(answer, k->holds, &keys, err) != 0) {
        return -1;
    }
    kbs_cli_field("newest version", "%lld", (long long)version);
    if (show_thumbprint(profile, answer, err) != 0) {
        return -1;
    }
    json_object_foreach(keys, name, count)
    {
        kbs_cli_field(k->count, "%lld under version %s", (long long)json_integer_value(count),
                      name);
    }
    return 0;
}

/* One request whose answer is shown. */
static int ask(const struct rotating *k, const struct kbs_admin_options *o, const char *method,
               const char *target, struct kbs_error *err)
{
    const struct kbs_admin_key_request q = {.method = method, .target = target, .path = k->what};
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
        r = o->json ? kbs_cli_json(json_incref(answer), err) : show(k, &admin.profile, answer, err);
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

static int move_ask(const struct rotating *k, struct kbs_admin *admin,
                    const struct kbs_admin_options *o, uint32_t limit, struct moved *m,
                    struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(128);
    struct kbs_buf target = KBS_BUF(128);
    KBS_AUTO_JSON answer = NULL;
    int r = -1;

    kbs_buf_printf(&body, "{\"limit\":%u,\"skip\":%zu,\"dry_run\":%s}", limit,
                   json_array_size(m->failed), o->dry_run ? "true" : "false");
    kbs_buf_printf(&target, "%s/%s", k->target, k->move);
    if (kbs_admin_call(admin, "POST", kbs_buf_cstr(&target), kbs_buf_span(&body), k->move, &answer,
                       err) == 0 &&
        kbs_json_get_integer(answer, k->moved, &m->done, err) == 0 &&
        kbs_json_get_integer(answer, "left", &m->left, err) == 0 &&
        kbs_json_get_integer(answer, "version", &m->version, err) == 0) {
        m->total += m->done;
        r = take_failed(m->failed, answer, err);
    }
    kbs_buf_deinit(&target);
    kbs_buf_deinit(&body);
    return r;
}

/* Requests until nothing is left that could be moved, with the progress on standard error. */
static int move(const struct rotating *k, const struct kbs_admin_options *o, uint32_t limit,
                struct moved *m, struct kbs_error *err)
{
    struct kbs_admin admin = {.signer = NULL};
    int r = kbs_admin_open(o, &admin, err);
    bool goes_on = r == 0;

    while (goes_on) {
        size_t before = json_array_size(m->failed);

        r = move_ask(k, &admin, o, limit, m, err);
        if (r == 0 && !o->dry_run) {
            kbs_cli_say("%lld %s, %lld left", (long long)m->total, k->moved, (long long)m->left);
        }
        goes_on = r == 0 && !o->dry_run && m->left > (int64_t)json_array_size(m->failed) &&
                  (m->done > 0 || json_array_size(m->failed) > before);
    }
    kbs_admin_close(&admin);
    return r;
}

static int move_and_show(const struct rotating *k, const struct kbs_admin_options *o,
                         uint32_t limit, struct kbs_error *err)
{
    struct moved m = {.failed = json_array()};
    KBS_AUTO_JSON failed = m.failed;
    int r = m.failed != NULL ? move(k, o, limit, &m, err)
                             : kbs_fail(err, KBS_INTERNAL, "out of memory");

    if (r == 0 && o->json) {
        r = kbs_cli_json(json_pack("{s:I, s:I, s:I, s:O}", k->moved, (json_int_t)m.total, "left",
                                   (json_int_t)m.left, "version", (json_int_t)m.version, "failed",
                                   failed),
                         err);
    } else if (r == 0) {
        kbs_cli_field(o->dry_run ? "in one request" : k->moved, "%lld to version %lld",
                      (long long)m.total, (long long)m.version);
        kbs_cli_field("left", "%lld", (long long)m.left);
    }
    if (r == 0 && json_array_size(failed) > 0) {
        r = kbs_fail(err, KBS_CONFLICT, "%zu %s could not be moved and stay where they are",
                     json_array_size(failed), k->holds);
    }
    return r;
}

/*
 * The arguments of a subcommand: none, --limit or --version, which may be needed. False if the command
 * ends here, with *ret_status.
 */
static bool parse(const struct rotating *k, const char *word, const char *about,
                  struct kbs_admin_options *o, int argc, char **argv, const struct kbs_arg *own,
                  const uint32_t *needed, int *ret_status)
{
    struct kbs_buf synopsis = KBS_BUF(128);
    struct kbs_args args = {
        .about = about,
        .own = own,
        .own_count = own != NULL ? 1 : 0,
    };

    kbs_buf_printf(&synopsis, "kbs-admin %s %s %s[options]", k->command, word,
                   needed != NULL ? "--version N " : "");
    args.synopsis = kbs_buf_cstr(&synopsis);
    *ret_status = kbs_admin_parse(o, &args, argc, argv, NULL);
    if (*ret_status == KBS_CLI_GO_ON && needed != NULL && *needed == 0) {
        *ret_status = kbs_args_usage(&args, "--%s is needed", own->name);
    }
    kbs_buf_deinit(&synopsis);
    return *ret_status == KBS_CLI_GO_ON;
}

static int cmd_show(const struct rotating *k, struct kbs_admin_options *o, int argc, char **argv)
{
    struct kbs_error err = KBS_ERROR_NONE;
    int status = KBS_CLI_OK;

    return parse(k, "show", k->show_about, o, argc, argv, NULL, NULL, &status)
               ? kbs_cli_end(ask(k, o, "GET", k->target, &err), &err)
               : status;
}

static int cmd_rotate(const struct rotating *k, struct kbs_admin_options *o, int argc, char **argv)
{
    struct kbs_buf target = KBS_BUF(128);
    struct kbs_error err = KBS_ERROR_NONE;
    int status = KBS_CLI_OK;

    if (parse(k, "rotate", k->rotate_about, o, argc, argv, NULL, NULL, &status)) {
        kbs_buf_printf(&target, "%s/rotate", k->target);
        status = kbs_cli_end(ask(k, o, "POST", kbs_buf_cstr(&target), &err), &err);
    }
    kbs_buf_deinit(&target);
    return status;
}

static int cmd_move(const struct rotating *k, struct kbs_admin_options *o, int argc, char **argv)
{
    uint32_t limit = k->limit;
    const struct kbs_arg own = {"limit", KBS_ARG_NUMBER, &limit, "N", "how many per request",
                                1,       k->limit};
    struct kbs_error err = KBS_ERROR_NONE;
    int status = KBS_CLI_OK;

    return parse(k, k->move, k->move_about, o, argc, argv, &own, NULL, &status)
               ? kbs_cli_end(move_and_show(k, o, limit, &err), &err)
               : status;
}

static int cmd_destroy(const struct rotating *k, struct kbs_admin_options *o, int argc, char **argv)
{
    uint32_t version = 0;
    const struct kbs_arg own = {"version", KBS_ARG_NUMBER, &version, "N", "which; never the newest",
                                1,         UINT32_MAX};
    struct kbs_buf target = KBS_BUF(128);
    struct kbs_error err = KBS_ERROR_NONE;
    int status = KBS_CLI_OK;

    if (parse(k, "destroy", k->destroy_about, o, argc, argv, &own, &version, &status)) {
        kbs_buf_printf(&target, "%s?version=%u", k->target, version);
        status = kbs_cli_end(ask(k, o, "DELETE", kbs_buf_cstr(&target), &err), &err);
    }
    kbs_buf_deinit(&target);
    return status;
}

/* ---- both ---- */

int kbs_admin_cmd_wrapping_key_show(struct kbs_admin_options *o, int argc, char **argv)
{
    return cmd_show(&wrapping, o, argc, argv);
}

int kbs_admin_cmd_wrapping_key_rotate(struct kbs_admin_options *o, int argc, char **argv)
{
    return cmd_rotate(&wrapping, o, argc, argv);
}

int kbs_admin_cmd_wrapping_key_rewrap(struct kbs_admin_options *o, int argc, char **argv)
{
    return cmd_move(&wrapping, o, argc, argv);
}

int kbs_admin_cmd_wrapping_key_destroy(struct kbs_admin_options *o, int argc, char **argv)
{
    return cmd_destroy(&wrapping, o, argc, argv);
}

int kbs_admin_cmd_seal_key_show(struct kbs_admin_options *o, int argc, char **argv)
{
    return cmd_show(&seal, o, argc, argv);
}

int kbs_admin_cmd_seal_key_rotate(struct kbs_admin_options *o, int argc, char **argv)
{
    return cmd_rotate(&seal, o, argc, argv);
}

int kbs_admin_cmd_seal_key_reseal(struct kbs_admin_options *o, int argc, char **argv)
{
    return cmd_move(&seal, o, argc, argv);
}

int kbs_admin_cmd_seal_key_destroy(struct kbs_admin_options *o, int argc, char **argv)
{
    return cmd_destroy(&seal, o, argc, argv);
}
