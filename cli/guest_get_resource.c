/*
 * kbs-guest get-resource: attest, ask for a secret as any client of the KBS protocol does, open the
 * answer. The secret goes to a file or a pipe, never to a terminal.
 */
#include <unistd.h>

#include "base/terms.h"
#include "cli/files.h"
#include "cli/guest.h"
#include "cli/output.h"
#include "cli/protect.h"
#include "cli/status.h"

struct get_resource {
    struct kbs_guest_options server;
    const char *path;
    const char *out;
    const char *answer_out;
};

static int check_type(const struct kbs_http_response *r, struct kbs_error *err)
{
    return strcmp(r->content_type, "application/json") == 0
               ? 0
               : kbs_fail(err, KBS_UNPROCESSABLE,
                          "the answer is refused: its type is not application/json");
}

static int fetch(const struct get_resource *g, struct kbs_http_client *http,
                 const struct kbs_guest_key *tee_key, struct kbs_secret **ret,
                 struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_guest_session session = {.token = {.p = NULL}};
    struct kbs_http_response response = {.status = 0};
    int r = -1;

    kbs_buf_printf(&target, "/kbs/v0/resource/%s%s", g->path,
                   g->server.receipt.wanted ? "?" KBS_GUEST_RECEIPT_QUERY : "");
    if (kbs_buf_check(&target, "request", err) == 0) {
        const struct kbs_http_request q = {
            .method = "GET", .target = kbs_buf_cstr(&target), .accept = "application/json"};
        r = kbs_guest_request(http, &tee_key->public_key, &g->server.how, &q, &session, &response,
                              err);
    }
    if (r == 0) {
        r = kbs_http_expect_ok(&response, g->path, err);
    }
    if (r == 0 && g->answer_out != NULL) {
        r = kbs_cli_write_new(g->answer_out, kbs_buf_span(&response.body), err);
    }
    if (r == 0 && (check_type(&response, err) != 0 ||
                   kbs_guest_open_jwe(kbs_guest_receiver(&session, tee_key),
                                      kbs_buf_span(&response.body), ret, err) != 0)) {
        r = -1;
    }
    if (r == 0) {
        const struct kbs_guest_receipt_expect expect = {
            .path = g->path,
            .tee_key = &kbs_guest_receiver(&session, tee_key)->public_key,
            .session = &session};
        r = kbs_guest_receipt_check(&g->server, &response, &expect, err);
    }
    kbs_http_response_deinit(&response);
    kbs_guest_session_deinit(&session);
    kbs_buf_deinit(&target);
    return r;
}

static int show(const struct get_resource *g, const struct kbs_secret *secret,
                struct kbs_error *err)
{
    if (g->out != NULL && kbs_cli_write_new(g->out, kbs_secret_span(secret), err) != 0) {
        return -1;
    }
    if (g->out != NULL && strcmp(g->out, "-") == 0) {
        return 0; /* standard output is the secret and nothing else */
    }
    if (g->server.json) {
        return kbs_cli_json(
            json_pack("{s:s, s:I}", "path", g->path, "bytes", (json_int_t)kbs_secret_len(secret)),
            err);
    }
    kbs_cli_field("path", "%s", g->path);
    kbs_cli_field("length", "%zu bytes", kbs_secret_len(secret));
    return kbs_cli_flush(err);
}

static int get_resource(const struct kbs_args *args, struct get_resource *g)
{
    struct kbs_guest_key tee_key = {.ec = NULL};
    struct kbs_http_client *http = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_SECRET secret = NULL;
    int status = kbs_guest_connect(args, &g->server, &http, &tee_key);

    if (status == KBS_CLI_OK &&
        (fetch(g, http, &tee_key, &secret, &err) != 0 || show(g, secret, &err) != 0)) {
        status = kbs_cli_fail(&err);
    }
    (void)kbs_http_client_free(http);
    kbs_guest_key_deinit(&tee_key);
    kbs_guest_options_deinit(&g->server);
    return status;
}

int kbs_guest_cmd_get_resource(int argc, char **argv)
{
    struct get_resource g = {.path = NULL};
    struct kbs_arg server[KBS_GUEST_SERVER_ARGS];
    const struct kbs_arg own[] = {
        {"out", KBS_ARG_TEXT, &g.out, "FILE", "write the secret there (new file, or - for a pipe)",
         0, 0},
        {"answer-out", KBS_ARG_TEXT, &g.answer_out, "FILE", "keep the answer", 0, 0},
        {"receipt-out", KBS_ARG_TEXT, &g.server.receipt.out, "FILE",
         "ask for a receipt and keep it", 0, 0},
        {"receipt-key", KBS_ARG_TEXT, &g.server.receipt.key_file, "PEM",
         "ask for a receipt, which must be by this key", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-guest get-resource PATH --url URL [options]",
        .about = "Attest, ask for the secret (or key) at PATH (repo/type/tag) as\n"
                 "a JWE to the TEE key, and open it. The secret is not printed.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .common = server,
        .common_count = KBS_GUEST_SERVER_ARGS,
        .positionals_min = 1,
        .positionals_max = 1,
    };

    kbs_guest_server_args(&g.server, server);
    int r = kbs_args_parse(&args, argc, argv, &g.path);
    if (r != 0) {
        return r > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
    }
    if (!kbs_key_path_valid(kbs_span_str(g.path))) {
        return kbs_args_usage(&args, "not a path (repo/type/tag): %s", g.path);
    }
    if (g.server.encrypt) {
        return kbs_args_usage(&args, "such a request has no body to encrypt: --pop binds it");
    }
    if (g.out != NULL && strcmp(g.out, "-") == 0 && isatty(STDOUT_FILENO) != 0) {
        return kbs_args_usage(&args,
                              "a secret is not written to a terminal: --out FILE, or a pipe");
    }
    return get_resource(&args, &g);
}
