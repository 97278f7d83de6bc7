/* kbs-admin key generate: a key that is born in the token and never leaves it unwrapped. */
#include "base/terms.h"
#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"

#define BODY_MAX_BYTES (KBS_LIMIT_POLICY_BYTES + 4096)
#define BYTES_DEFAULT 32
#define TARGET "/kbs/v0/admin/keys"

static int generate(const struct kbs_admin_options *o, const struct kbs_admin_new_key *k,
                    struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(BODY_MAX_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    int r = -1;

    kbs_buf_printf(&body, "{\"path\":\"%s\",\"purpose\":\"%s\"", k->path, k->purpose);
    if (k->binding_required) {
        kbs_buf_put_str(&body, ",\"binding_required\":true");
    }
    if (kbs_admin_new_key_put(&body, k, err) == 0) {
        kbs_buf_put_u8(&body, '}');
        r = kbs_buf_check(&body, "request", err);
    }
    if (r == 0) {
        r = kbs_admin_open(o, &admin, err);
    }
    if (r == 0) {
        const struct kbs_admin_key_request q = {.method = "POST",
                                                .target = TARGET,
                                                .path = k->path,
                                                .body = kbs_buf_span(&body),
                                                .must_be_free = true};
        r = kbs_admin_key_send(&admin, o, &q, err);
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&body);
    return r;
}

/* A key that can be; the length is the alg's own unless one was typed. */
static int check(const struct kbs_args *args, struct kbs_admin_new_key *k)
{
    enum kbs_key_alg alg = kbs_key_alg_from_name(kbs_span_str(k->alg));
    bool nek = strcmp(k->purpose, kbs_purpose_name(KBS_PURPOSE_NEK)) == 0;

    if (!nek && strcmp(k->purpose, kbs_purpose_name(KBS_PURPOSE_RELEASE)) != 0) {
        return kbs_args_usage(args, "--purpose is release or nek");
    }
    if (k->binding_required && !nek) {
        return kbs_args_usage(args, "--binding-required is for --purpose nek");
    }
    if (nek ? alg != KBS_KEY_ALG_AES && !kbs_key_alg_is_pair(alg)
            : alg != KBS_KEY_ALG_AES && alg != KBS_KEY_ALG_GENERIC) {
        return kbs_args_usage(args, nek ? "--alg is P-256, P-384, P-521, RSA or AES"
                                        : "--alg is AES or generic");
    }
    if (k->bytes == 0 && !kbs_key_alg_is_pair(alg)) {
        k->bytes = BYTES_DEFAULT;
    }
    if (k->bytes != 0 && !kbs_key_bytes_valid(alg, k->bytes)) {
        return kbs_args_usage(args, "no %s key has %u bytes", k->alg, k->bytes);
    }
    return kbs_admin_new_key_check(args, k);
}

int kbs_admin_cmd_key_generate(struct kbs_admin_options *o, int argc, char **argv)
{
    struct kbs_admin_new_key k = {.alg = "AES", .purpose = "release"};
    struct kbs_arg own[4 + KBS_ADMIN_NEW_KEY_ARGS] = {
        {"alg", KBS_ARG_TEXT, &k.alg, "ALG",
         "AES (default) or generic; for NEKs also P-256, P-384, P-521, RSA", 0, 0},
        {"bytes", KBS_ARG_NUMBER, &k.bytes, "N",
         "AES: 16, 24, 32 (default); RSA: 256, 384, 512; generic: 16 to 64",
         KBS_LIMIT_KEY_BYTES_MIN, KBS_LIMIT_RSA_BYTES_MAX},
        {"purpose", KBS_ARG_TEXT, &k.purpose, "PURPOSE",
         "release (default), or nek: what guests' own keys are wrapped to", 0, 0},
        {"binding-required", KBS_ARG_FLAG, &k.binding_required, NULL,
         "nek: opens only what is bound to a guest", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin key generate PATH [options]",
        .about = "Generate a key in the token under PATH (repo/type/tag).",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    kbs_admin_new_key_args(&k, own + 4);
    int r = kbs_admin_parse(o, &args, argc, argv, &k.path);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    int status = check(&args, &k);
    return status == KBS_CLI_OK ? kbs_cli_end(generate(o, &k, &err), &err) : status;
}
