/*
 * kbs-admin key rotate, policy, adopt, disable, enable, destroy, undo: what happens to a key after it came to be.
 * Each is one signed request about one key, so a table says what they differ in.
 */
#include "base/encoding.h"
#include "base/terms.h"
#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"

#define BODY_MAX_BYTES (KBS_LIMIT_POLICY_BYTES + 4096)

/* What was typed. */
struct change {
    struct kbs_admin_new_key k;
    uint32_t version;
    uint32_t after_s;
    const char *uri;
};

struct change_kind {
    const char *method;
    const char *suffix;
    const char *synopsis;
    const char *about;
    bool takes_version;
    bool takes_terms; /* --class, --floor, --policy */
    bool takes_after;
    bool takes_uri;
};

static int body_put(struct kbs_buf *out, const struct change_kind *kind, const struct change *c,
                    struct kbs_error *err)
{
    struct kbs_buf members = KBS_BUF(BODY_MAX_BYTES);
    int r = kbs_admin_new_key_put(&members, &c->k, err);

    if (r == 0 && kind->takes_after) {
        kbs_buf_printf(&members, ",\"after_s\":%u", c->after_s);
    }
    if (r == 0 && kind->takes_uri) {
        kbs_buf_put_str(&members, ",\"uri\":");
        kbs_json_string_put(&members, kbs_span_str(c->uri));
    }
    if (r == 0) {
        r = kbs_buf_check(&members, "request", err);
    }
    if (r == 0 && (members.len > 0 || kind->takes_terms)) {
        kbs_buf_put_u8(out, '{');
        kbs_buf_put_span(out, kbs_span_skip(kbs_buf_span(&members), members.len > 0 ? 1 : 0));
        kbs_buf_put_u8(out, '}');
        r = kbs_buf_check(out, "request", err);
    }
    kbs_buf_deinit(&members);
    return r;
}

static int change_send(const struct kbs_admin_options *o, const struct change_kind *kind,
                       const struct change *c, struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(BODY_MAX_BYTES);
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    int r = -1;

    if (body_put(&body, kind, c, err) == 0 &&
        kbs_admin_key_target(c->k.path, kind->suffix, c->version, &target, err) == 0 &&
        kbs_admin_open(o, &admin, err) == 0) {
        const struct kbs_admin_key_request q = {.method = kind->method,
                                                .target = kbs_buf_cstr(&target),
                                                .path = c->k.path,
                                                .body = kbs_buf_span(&body),
                                                .must_be_free = kind->takes_uri};
        r = kbs_admin_key_send(&admin, o, &q, err);
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&target);
    kbs_buf_deinit(&body);
    return r;
}

static size_t own_args(const struct change_kind *kind, struct change *c, struct kbs_arg *own)
{
    const struct kbs_arg version = {
        "version", KBS_ARG_NUMBER, &c->version, "N", "this version (default: the latest)",
        1,         UINT32_MAX};
    const struct kbs_arg after = {"after",
                                  KBS_ARG_NUMBER,
                                  &c->after_s,
                                  "SECONDS",
                                  "how long it can be undone (default: 604800, a week); 0: at once",
                                  0,
                                  KBS_LIMIT_DESTROY_AFTER_S};
    size_t n = 0;

    if (kind->takes_version) {
        own[n++] = version;
    }
    if (kind->takes_after) {
        own[n++] = after;
    }
    if (kind->takes_terms) {
        kbs_admin_new_key_args(&c->k, own + n);
        n += KBS_ADMIN_NEW_KEY_ARGS;
    }
    return n;
}

static int change_run(const struct change_kind *kind, struct kbs_admin_options *o, int argc,
                      char **argv)
{
    struct change c = {.after_s = KBS_DEFAULT_DESTROY_AFTER_S};
    struct kbs_arg own[2 + KBS_ADMIN_NEW_KEY_ARGS];
    const char *words[2] = {NULL, NULL};
    const struct kbs_args args = {
        .synopsis = kind->synopsis,
        .about = kind->about,
        .own = own,
        .own_count = own_args(kind, &c, own),
        .positionals_min = kind->takes_uri ? 2 : 1,
        .positionals_max = kind->takes_uri ? 2 : 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, words);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    c.uri = kind->takes_uri ? words[0] : NULL;
    c.k.path = kind->takes_uri ? words[1] : words[0];
    int status = kbs_admin_new_key_check(&args, &c.k);
    if (status == KBS_CLI_OK && (change_send(o, kind, &c, &err) != 0 || kbs_cli_flush(&err) != 0)) {
        status = kbs_cli_fail(&err);
    }
    return status;
}

int kbs_admin_cmd_key_rotate(struct kbs_admin_options *o, int argc, char **argv)
{
    static const struct change_kind kind = {
        .method = "POST",
        .suffix = "/rotate",
        .synopsis = "kbs-admin key rotate PATH [options]",
        .about =
            "Generate the next version of the key at PATH, like the latest but for what is given.\n"
            "Older versions stay and can still be asked for.",
        .takes_terms = true};

    return change_run(&kind, o, argc, argv);
}

int kbs_admin_cmd_key_policy(struct kbs_admin_options *o, int argc, char **argv)
{
    static const struct change_kind kind = {
        .method = "POST",
        .suffix = "/policy",
        .synopsis =
            "kbs-admin key policy PATH [--policy FILE] [--floor LOCALITY] [--require-pop] [options]",
        .about =
            "Give a key another release policy or floor, or say whether it needs a proof of possession.",
        .takes_version = true,
        .takes_terms = true};

    return change_run(&kind, o, argc, argv);
}

int kbs_admin_cmd_key_adopt(struct kbs_admin_options *o, int argc, char **argv)
{
    static const struct change_kind kind = {
        .method = "POST",
        .suffix = "/adopt",
        .synopsis = "kbs-admin key adopt pkcs11:URI PATH [options]",
        .about =
            "Take a secret key that is in the token already (pkcs11:id=...;object=...) under PATH. Nothing\n"
            "in the token is changed. The key must be sensitive, extractable, and found by one URI only.",
        .takes_terms = true,
        .takes_uri = true};

    return change_run(&kind, o, argc, argv);
}

int kbs_admin_cmd_key_disable(struct kbs_admin_options *o, int argc, char **argv)
{
    static const struct change_kind kind = {
        .method = "POST",
        .suffix = "/disable",
        .synopsis = "kbs-admin key disable PATH [--version N] [options]",
        .about = "Release the key to nobody until it is enabled.",
        .takes_version = true};

    return change_run(&kind, o, argc, argv);
}

int kbs_admin_cmd_key_enable(struct kbs_admin_options *o, int argc, char **argv)
{
    static const struct change_kind kind = {.method = "POST",
                                            .suffix = "/enable",
                                            .synopsis =
                                                "kbs-admin key enable PATH [--version N] [options]",
                                            .about = "Release the key again.",
                                            .takes_version = true};

    return change_run(&kind, o, argc, argv);
}

int kbs_admin_cmd_key_destroy(struct kbs_admin_options *o, int argc, char **argv)
{
    static const struct change_kind kind = {
        .method = "DELETE",
        .suffix = "",
        .synopsis = "kbs-admin key destroy PATH [--version N] [--after SECONDS] [options]",
        .about =
            "Destroy a key version, after a time in which `key undo` can call it back. Until then it is\n"
            "released to nobody.",
        .takes_version = true,
        .takes_after = true};

    return change_run(&kind, o, argc, argv);
}

int kbs_admin_cmd_key_undo(struct kbs_admin_options *o, int argc, char **argv)
{
    static const struct change_kind kind = {
        .method = "POST",
        .suffix = "/undo",
        .synopsis = "kbs-admin key undo PATH [--version N] [options]",
        .about = "Call back a scheduled destruction; the key is disabled then.",
        .takes_version = true};

    return change_run(&kind, o, argc, argv);
}
