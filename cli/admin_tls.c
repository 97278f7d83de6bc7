/*
 * kbs-admin tls: the versions of the service's own key for TLS. Making one changes nothing of what is served:
 * it comes with the name by which a certificate is asked for and the configuration then names it.
 */
#include "cli/admin.h"
#include "cli/output.h"
#include "cli/status.h"
#include "jose/read/jose.h"

#define TLS_TARGET "/kbs/v0/admin/tls-key"
#define COLUMNS 4

static int row_fill(const json_t *item, struct kbs_admin_row *ret, struct kbs_error *err)
{
    int64_t version = 0;

    if (kbs_json_get_integer(item, "version", &version, err) != 0 ||
        kbs_json_get_string(item, "curve", &ret->cells[1], err) != 0 ||
        kbs_json_get_string(item, "state", &ret->cells[2], err) != 0 ||
        kbs_json_get_string(item, "uri", &ret->cells[3], err) != 0) {
        return -1;
    }
    (void)snprintf(ret->texts[0], sizeof(ret->texts[0]), "%lld", (long long)version);
    ret->cells[0] = kbs_span_str(ret->texts[0]);
    return 0;
}

/* The newest one's public half as PEM. */
static int pem_write(const json_t *keys, const char *to, struct kbs_error *err)
{
    const json_t *newest = json_array_get(keys, json_array_size(keys) - 1);
    struct kbs_ec_public key;
    json_t *jwk = NULL;

    if (json_array_size(keys) == 0) {
        return kbs_fail(err, KBS_MISSING, "the token has no tls key: kbs-admin tls make-key");
    }
    return kbs_json_get_object(newest, "key", &jwk, err) == 0 &&
                   kbs_jose_jwk_get(jwk, NULL, &key, err) == 0
               ? kbs_admin_public_write(&key, to, err)
               : -1;
}

static int show(const json_t *answer, const char *to, struct kbs_error *err)
{
    static const char *const titles[] = {"VERSION", "CURVE", "STATE", "URI"};
    const json_t *keys = json_object_get(answer, "keys");

    if (!json_is_array(keys)) {
        return kbs_fail(err, KBS_INTERNAL, "the answer has no list of keys");
    }
    return to != NULL ? pem_write(keys, to, err)
                      : kbs_admin_table_print(keys, titles, COLUMNS, row_fill, err);
}

/* One request, all of which are answered with the keys that there are. to: NULL for the table. */
static int ask(const struct kbs_admin_options *o, const char *method, const char *target,
               struct kbs_span body, const char *to, struct kbs_error *err)
{
    const struct kbs_admin_key_request q = {
        .method = method, .target = target, .path = "TLS key", .body = body};
    KBS_AUTO_JSON answer = NULL;
    int r = kbs_admin_ask(o, &q, &answer, err);

    if (r == 0 && answer != NULL) {
        r = o->json ? kbs_cli_json(json_incref(answer), err) : show(answer, to, err);
    }
    return r;
}

int kbs_admin_cmd_tls_list_keys(struct kbs_admin_options *o, int argc, char **argv)
{
    const char *to = NULL;
    const struct kbs_arg own[] = {
        {"out", KBS_ARG_TEXT, &to, "FILE", "the newest one's public half, as PEM (\"-\": here)", 0,
         0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin tls list-keys [--out FILE] [options]",
        .about = "List the service's own keys for TLS, with the URI that names each.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
    };
    struct kbs_error err = KBS_ERROR_NONE;
    int status = kbs_admin_parse(o, &args, argc, argv, NULL);

    return status == KBS_CLI_GO_ON
               ? kbs_cli_end(ask(o, "GET", TLS_TARGET, KBS_SPAN_EMPTY, to, &err), &err)
               : status;
}

int kbs_admin_cmd_tls_make_key(struct kbs_admin_options *o, int argc, char **argv)
{
    const char *curve = NULL;
    const char *to = NULL;
    const struct kbs_arg own[] = {
        {"curve", KBS_ARG_TEXT, &curve, "CURVE", "P-256 or P-384 (default: as the newest)", 0, 0},
        {"out", KBS_ARG_TEXT, &to, "FILE", "its public half, as PEM (\"-\": here)", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin tls make-key [--curve CURVE] [--out FILE] [options]",
        .about =
            "Make the next version of the service's own key for TLS, in the token, and list them all.\n"
            "Nothing is served with it before the configuration names it and its certificate.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
    };
    struct kbs_buf body = KBS_BUF(64);
    struct kbs_error err = KBS_ERROR_NONE;
    int status = kbs_admin_parse(o, &args, argc, argv, NULL);

    if (status != KBS_CLI_GO_ON) {
        return status;
    }
    if (curve != NULL && strcmp(curve, "P-256") != 0 && strcmp(curve, "P-384") != 0) {
        return kbs_args_usage(&args, "--curve is P-256 or P-384");
    }
    if (curve != NULL) {
        kbs_buf_printf(&body, "{\"curve\":\"%s\"}", curve);
    }
    status = kbs_cli_end(ask(o, "POST", TLS_TARGET, kbs_buf_span(&body), to, &err), &err);
    kbs_buf_deinit(&body);
    return status;
}

int kbs_admin_cmd_tls_destroy_key(struct kbs_admin_options *o, int argc, char **argv)
{
    uint32_t version = 0;
    const struct kbs_arg own[] = {
        {"version", KBS_ARG_NUMBER, &version, "N", "which; never the newest", 1, UINT32_MAX},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin tls destroy-key --version N [options]",
        .about =
            "Destroy an old key for TLS. Whether one is still served with, nobody checks: look\n"
            "which one the configuration names.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
    };
    struct kbs_buf target = KBS_BUF(128);
    struct kbs_error err = KBS_ERROR_NONE;
    int status = kbs_admin_parse(o, &args, argc, argv, NULL);

    if (status == KBS_CLI_GO_ON && version == 0) {
        status = kbs_args_usage(&args, "--version is needed");
    } else if (status == KBS_CLI_GO_ON) {
        kbs_buf_printf(&target, TLS_TARGET "?version=%u", version);
        status =
            kbs_cli_end(ask(o, "DELETE", kbs_buf_cstr(&target), KBS_SPAN_EMPTY, NULL, &err), &err);
    }
    kbs_buf_deinit(&target);
    return status;
}
