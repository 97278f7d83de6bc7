/*
 * kbs-admin release dry-run: would this guest get this key? The service decides as it would for a release, and releases
 * nothing.
 */
#include "base/encoding.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/status.h"

#define TARGET "/kbs/v0/admin/release/dry-run"
#define BODY_MAX_BYTES (2u * KBS_LIMIT_POLICY_BYTES) /* as the service has it */

struct dry_run {
    const char *key;
    const char *resource;
    const char *claims;  /* file */
    const char *kbs;     /* file */
    const char *token;   /* file: who reads a command line could use it */
    const char *session; /* hex */
    const char *format;
    const char *tee_key;
    uint32_t version;
};

static void text_put(struct kbs_buf *out, const char *name, const char *value)
{
    if (value != NULL) {
        kbs_buf_printf(out, ",\"%s\":", name);
        kbs_json_string_put(out, kbs_span_str(value));
    }
}

/* A file's text: a JSON object as it is, or a string. */
static int file_put(struct kbs_buf *out, const char *name, const char *file, bool object,
                    struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(BODY_MAX_BYTES);
    KBS_AUTO_JSON parsed = NULL;
    int r = 0;

    if (file == NULL) {
        return 0;
    }
    r = kbs_cli_read_file(file, &text, err);
    while (r == 0 && text.len > 0 && strchr(" \t\r\n", text.p[text.len - 1]) != NULL) {
        text.len--;
    }
    if (r == 0 && object) {
        r = kbs_json_parse_object(kbs_buf_span(&text), file, &parsed, err);
    }
    kbs_buf_printf(out, ",\"%s\":", name);
    if (r == 0 && object) {
        kbs_buf_put_span(out, kbs_buf_span(&text));
    } else if (r == 0) {
        kbs_json_string_put(out, kbs_buf_span(&text));
    }
    kbs_buf_deinit(&text);
    return r;
}

static int body_put(struct kbs_buf *out, const struct dry_run *d, struct kbs_error *err)
{
    kbs_buf_printf(out, "{\"as\":\"%s\"", d->key != NULL ? "key" : "resource");
    text_put(out, "path", d->key != NULL ? d->key : d->resource);
    text_put(out, "session", d->session);
    text_put(out, "format", d->format);
    text_put(out, "tee_key", d->tee_key);
    if (d->version != 0) {
        kbs_buf_printf(out, ",\"version\":%u", (unsigned int)d->version);
    }
    if (file_put(out, "claims", d->claims, true, err) != 0 ||
        file_put(out, "kbs", d->kbs, true, err) != 0 ||
        file_put(out, "token", d->token, false, err) != 0) {
        return -1;
    }
    kbs_buf_put_u8(out, '}');
    return kbs_buf_check(out, "request", err);
}

static int field_put(const json_t *answer, const char *name, const char *label,
                     struct kbs_error *err)
{
    struct kbs_span v = KBS_SPAN_EMPTY;

    if (kbs_json_opt_string(answer, name, &v, err) != 0) {
        return -1;
    }
    if (v.len != 0) {
        kbs_cli_field_text(label, v);
    }
    return 0;
}

static int print(const json_t *answer, struct kbs_error *err)
{
    const json_t *rung = json_object_get(answer, "rung");
    json_t *explained = json_object_get(answer, "explained");

    if (field_put(answer, "decision", "decision", err) != 0 ||
        field_put(answer, "reason", "reason", err) != 0 ||
        field_put(answer, "by", "decided by", err) != 0 ||
        field_put(answer, "kid", "kid", err) != 0 ||
        field_put(answer, "policy", "policy", err) != 0 ||
        field_put(answer, "resource_policy", "resource policy", err) != 0) {
        return -1;
    }
    if (json_is_object(rung) && (field_put(rung, "name", "rung", err) != 0 ||
                                 field_put(rung, "format", "format", err) != 0 ||
                                 field_put(rung, "locality", "locality", err) != 0)) {
        return -1;
    }
    if (json_is_object(explained)) {
        KBS_AUTO_JSON whole =
            json_pack("{s:s, s:O}", "decision", "release policy", "policy", explained);

        kbs_admin_explained_print(whole);
    }
    return 0;
}

static int ask(const struct kbs_admin_options *o, const struct dry_run *d, json_t **ret,
               struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(BODY_MAX_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    int r = body_put(&body, d, err);

    if (r == 0) {
        r = kbs_admin_open(o, &admin, err);
    }
    if (r == 0) {
        r = kbs_admin_call(&admin, "POST", TARGET, kbs_buf_span(&body),
                           d->key != NULL ? d->key : d->resource, ret, err);
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&body);
    return r;
}

/* 0 if it would be released, and else the status that the guest's own request would end with. */
static int status_of(const json_t *answer)
{
    const char *decision = json_string_value(json_object_get(answer, "decision"));

    if (decision != NULL && strcmp(decision, "allow") == 0) {
        return KBS_CLI_OK;
    }
    return decision != NULL && strcmp(decision, "unsupported") == 0 ? KBS_CLI_UNSUPPORTED
                                                                    : KBS_CLI_DENIED;
}

static size_t own_args(struct dry_run *d, struct kbs_arg *own)
{
    const struct kbs_arg list[] = {
        {"resource", KBS_ARG_TEXT, &d->resource, "PATH", "as a resource, instead of a key", 0, 0},
        {"session", KBS_ARG_TEXT, &d->session, "SID", "the guest of that session (32 hex digits)",
         0, 0},
        {"token", KBS_ARG_TEXT, &d->token, "FILE",
         "the guest that this attestation token was made for", 0, 0},
        {"claims", KBS_ARG_TEXT, &d->claims, "FILE", "a guest with these claims", 0, 0},
        {"kbs", KBS_ARG_TEXT, &d->kbs, "FILE", "with --claims: what the service would know of it",
         0, 0},
        {"tee-key", KBS_ARG_TEXT, &d->tee_key, "KIND",
         "with --claims: its TEE key, as token caps names it (default: P-256)", 0, 0},
        {"format", KBS_ARG_TEXT, &d->format, "jose|cose", "what it accepts (default: both)", 0, 0},
        {"version", KBS_ARG_NUMBER, &d->version, "N",
         "this version of the key (default: the latest)", 1, UINT32_MAX},
    };

    memcpy(own, list, sizeof(list));
    return sizeof(list) / sizeof(list[0]);
}

int kbs_admin_cmd_release_dry_run(struct kbs_admin_options *o, int argc, char **argv)
{
    struct dry_run d = {.key = NULL};
    struct kbs_arg own[8];
    const struct kbs_args args = {
        .synopsis = "kbs-admin release dry-run KEY|--resource PATH --session SID|--token FILE|"
                    "--claims FILE",
        .about =
            "Say whether a guest would get a key or resource, which condition decides, and at\n"
            "which rung it would be released. Nothing is released. Exit status 4 if it would not.",
        .own = own,
        .own_count = own_args(&d, own),
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON answer = NULL;

    int r = kbs_admin_parse(o, &args, argc, argv, &d.key);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    if ((d.key != NULL) == (d.resource != NULL)) {
        return kbs_args_usage(&args, "a key, or --resource with a path, is needed");
    }
    if ((d.claims != NULL) + (d.token != NULL) + (d.session != NULL) != 1) {
        return kbs_args_usage(&args, "one of --session, --token and --claims is needed");
    }
    r = ask(o, &d, &answer, &err);
    if (r == 0) {
        r = o->json ? kbs_cli_json(json_incref(answer), &err) : print(answer, &err);
    }
    int status = kbs_cli_end(r, &err);
    return status == KBS_CLI_OK ? status_of(answer) : status;
}
