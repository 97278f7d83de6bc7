/*
 * kbs-admin sign-key: the versions of the token-held key that attestation results are signed with. A rotation
 * makes the next version, which relying parties find in the JWK set at once and which signs after a while;
 * an old one is destroyed when the last token that it has signed is over.
 */
#include "base/clock.h"
#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"

#define SIGN_TARGET "/kbs/v0/admin/sign-key"
#define COLUMNS 5

static int row_fill(const json_t *item, struct kbs_admin_row *ret, struct kbs_error *err)
{
    int64_t version = 0;
    int64_t from = 0;

    if (kbs_json_get_integer(item, "version", &version, err) != 0 ||
        kbs_json_get_string(item, "alg", &ret->cells[1], err) != 0 ||
        kbs_json_get_string(item, "state", &ret->cells[2], err) != 0 ||
        kbs_json_get_integer(item, "from", &from, err) != 0 ||
        kbs_json_get_string(item, "kid", &ret->cells[4], err) != 0) {
        return -1;
    }
    (void)snprintf(ret->texts[0], sizeof(ret->texts[0]), "%lld", (long long)version);
    kbs_admin_time(from, ret->texts[1], sizeof(ret->texts[1]));
    ret->cells[0] = kbs_span_str(ret->texts[0]);
    ret->cells[3] = kbs_span_str(from != 0 ? ret->texts[1] : "always");
    return 0;
}

static int show(const json_t *answer, struct kbs_error *err)
{
    static const char *const titles[] = {"VERSION", "ALG", "STATE", "SIGNS FROM", "KID"};
    const json_t *keys = json_object_get(answer, "keys");

    if (!json_is_array(keys)) {
        return kbs_fail(err, KBS_INTERNAL, "the answer has no list of keys");
    }
    return kbs_admin_table_print(keys, titles, COLUMNS, row_fill, err);
}

/* One request, all of which are answered with the keys that there are. */
static int ask(const struct kbs_admin_options *o, const char *method, const char *target,
               struct kbs_span body, struct kbs_error *err)
{
    const struct kbs_admin_key_request q = {
        .method = method, .target = target, .path = "signing key", .body = body};
    KBS_AUTO_JSON answer = NULL;
    int r = kbs_admin_ask(o, &q, &answer, err);

    if (r == 0 && answer != NULL) {
        r = o->json ? kbs_cli_json(json_incref(answer), err) : show(answer, err);
    }
    return r;
}

int kbs_admin_cmd_sign_key_list(struct kbs_admin_options *o, int argc, char **argv)
{
    const struct kbs_args args = {
        .synopsis = "kbs-admin sign-key list [options]",
        .about = "List the keys that attestation results are signed with, as the JWK set has them.",
    };
    struct kbs_error err = KBS_ERROR_NONE;
    int status = kbs_admin_parse(o, &args, argc, argv, NULL);

    return status == KBS_CLI_GO_ON
               ? kbs_cli_end(ask(o, "GET", SIGN_TARGET, KBS_SPAN_EMPTY, &err), &err)
               : status;
}

static int rotate(const struct kbs_admin_options *o, const char *alg, uint32_t after_s,
                  struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(128);
    int r;

    kbs_buf_printf(&body, "{\"after_s\":%u", after_s);
    if (alg != NULL) {
        kbs_buf_printf(&body, ",\"alg\":\"%s\"", alg);
    }
    kbs_buf_put_u8(&body, '}');
    r = ask(o, "POST", SIGN_TARGET "/rotate", kbs_buf_span(&body), err);
    kbs_buf_deinit(&body);
    return r;
}

int kbs_admin_cmd_sign_key_rotate(struct kbs_admin_options *o, int argc, char **argv)
{
    const char *alg = NULL;
    uint32_t after_s = KBS_DEFAULT_SIGN_AFTER_S;
    const struct kbs_arg own[] = {
        {"alg", KBS_ARG_TEXT, &alg, "ALG", "ES256 or ES384 (default: as the newest)", 0, 0},
        {"after", KBS_ARG_NUMBER, &after_s, "SECONDS", "when it begins to sign (default 600)", 0,
         KBS_LIMIT_SIGN_AFTER_S},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin sign-key rotate [--alg ALG] [--after SECONDS] [options]",
        .about =
            "Generate the next signing key. It is in the JWK set at once and signs after a while, so\n"
            "that who keeps a copy of the set has it by then. The old ones stay in the set until they\n"
            "are destroyed.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
    };
    struct kbs_error err = KBS_ERROR_NONE;
    int status = kbs_admin_parse(o, &args, argc, argv, NULL);

    if (status != KBS_CLI_GO_ON) {
        return status;
    }
    if (alg != NULL && strcmp(alg, "ES256") != 0 && strcmp(alg, "ES384") != 0) {
        return kbs_args_usage(&args, "--alg is ES256 or ES384");
    }
    return kbs_cli_end(rotate(o, alg, after_s, &err), &err);
}

int kbs_admin_cmd_sign_key_destroy(struct kbs_admin_options *o, int argc, char **argv)
{
    uint32_t version = 0;
    bool at_once = false;
    const struct kbs_arg own[] = {
        {"version", KBS_ARG_NUMBER, &version, "N", "which; never the newest or the one that signs",
         1, UINT32_MAX},
        {"at-once", KBS_ARG_FLAG, &at_once, NULL, "even if tokens that it signed are alive", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin sign-key destroy --version N [--at-once] [options]",
        .about =
            "Destroy an old signing key. Tokens that it signed are refused from then on, so it\n"
            "must be that none of them is alive any more; or else --at-once.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
    };
    struct kbs_buf target = KBS_BUF(128);
    struct kbs_error err = KBS_ERROR_NONE;
    int status = kbs_admin_parse(o, &args, argc, argv, NULL);

    if (status == KBS_CLI_GO_ON && version == 0) {
        status = kbs_args_usage(&args, "--version is needed");
    } else if (status == KBS_CLI_GO_ON) {
        kbs_buf_printf(&target, SIGN_TARGET "?version=%u%s", version,
                       at_once ? "&at_once=true" : "");
        status = kbs_cli_end(ask(o, "DELETE", kbs_buf_cstr(&target), KBS_SPAN_EMPTY, &err), &err);
    }
    kbs_buf_deinit(&target);
    return status;
}
