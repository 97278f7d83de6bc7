/*
 * kbs-guest get-key: attest, ask for a key, check and open the answer. The question that the answer is
 * held against is rebuilt from the session that it belongs to.
 */
#include "base/random.h"
#include "cli/files.h"
#include "cli/guest.h"
#include "cli/output.h"
#include "cli/protect.h"
#include "cli/status.h"

struct get_key {
    struct kbs_guest_options server;
    struct kbs_guest_ask_options typed;
    const char *handshake_out;
    const char *handshake_in;
    const char *recipient_out;
    const char *recipient_in;
    struct kbs_guest_ask ask;
    struct kbs_guest_session session;
    struct kbs_http_client *http;
    struct kbs_guest_key tee_key;
};

/* The last answer, whatever its status. */
static int ask_server(struct get_key *g, struct kbs_http_response *ret, struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_buf body = KBS_BUF(1024);
    int r = -1;

    kbs_buf_printf(&target, "/kbs/v0/key/%s", g->ask.path);
    if (g->ask.version != 0) {
        kbs_buf_printf(&target, "?version=%u", g->ask.version);
    }
    if (g->ask.empty_context) {
        kbs_buf_printf(&target, "%scontext=none", g->ask.version != 0 ? "&" : "?");
    }
    if (g->server.receipt.wanted) {
        kbs_buf_printf(&target, "%s" KBS_GUEST_RECEIPT_QUERY,
                       g->ask.version != 0 || g->ask.empty_context ? "&" : "?");
    }
    kbs_buf_put_u8(&body, '{');
    kbs_guest_freshness_put(&body, &g->ask);
    kbs_buf_put_u8(&body, '}');
    if (kbs_buf_check(&body, "request", err) == 0 && kbs_buf_check(&target, "request", err) == 0) {
        const struct kbs_http_request q = {.method = "POST",
                                           .target = kbs_buf_cstr(&target),
                                           .body = kbs_buf_span(&body),
                                           .content_type = "application/json",
                                           .accept = kbs_guest_accept(&g->ask)};
        r = kbs_guest_request(g->http, &g->tee_key.public_key, &g->server.how, &q, &g->session, ret,
                              err);
        g->ask.digest = g->session.digest;
    }
    kbs_buf_deinit(&target);
    kbs_buf_deinit(&body);
    return r;
}

static int run(struct get_key *g, struct kbs_guest_opened *opened, struct kbs_error *err)
{
    struct kbs_http_response response = {.status = 0};
    int r = -1;

    if (ask_server(g, &response, err) != 0 ||
        kbs_http_expect_ok(&response, g->ask.path, err) != 0) {
        goto out;
    }
    if (g->handshake_out != NULL &&
        kbs_guest_handshake_write(g->handshake_out, &g->session, &g->ask, err) != 0) {
        goto out;
    }
    if (g->recipient_out != NULL &&
        kbs_cli_write_new(g->recipient_out, kbs_buf_span(&response.body), err) != 0) {
        goto out;
    }
    if (kbs_guest_check_type(&g->ask, &response, err) != 0 ||
        kbs_guest_open(&g->ask, kbs_guest_receiver(&g->session, &g->tee_key),
                       kbs_buf_span(&response.body), opened, err) != 0 ||
        kbs_guest_receipt_of_key(&g->server, &response, &g->ask, opened,
                                 &kbs_guest_receiver(&g->session, &g->tee_key)->public_key,
                                 &g->session, err) != 0) {
        goto out;
    }
    r = 0;
out:
    kbs_http_response_deinit(&response);
    return r;
}

static int online(const struct kbs_args *args, struct get_key *g)
{
    struct kbs_guest_opened opened = {.key = NULL};
    struct kbs_error err = KBS_ERROR_NONE;
    int status = kbs_guest_connect(args, &g->server, &g->http, &g->tee_key);

    if (status != KBS_CLI_OK) {
        kbs_guest_options_deinit(&g->server);
        return status;
    }
    if (g->typed.nonce == NULL) {
        kbs_random(g->ask.nonce, sizeof(g->ask.nonce));
    }
    if (run(g, &opened, &err) != 0) {
        status = kbs_cli_fail(&err);
    } else {
        status = kbs_guest_show(&g->ask, &opened, &g->typed, NULL, g->server.json);
    }
    kbs_guest_opened_deinit(&opened);
    kbs_guest_session_deinit(&g->session);
    (void)kbs_http_client_free(g->http);
    kbs_guest_key_deinit(&g->tee_key);
    kbs_guest_options_deinit(&g->server);
    return status;
}

static int offline(const struct kbs_args *args, struct get_key *g)
{
    struct kbs_error err = KBS_ERROR_NONE;
    enum kbs_tee_alg alg;

    if (g->handshake_in == NULL || g->recipient_in == NULL || g->server.tee_key == NULL) {
        return kbs_args_usage(args, "--recipient-in, --handshake-in and --tee-key go together");
    }
    if (kbs_guest_alg_from(args, g->server.tee_alg, &alg) != KBS_CLI_OK) {
        return KBS_CLI_USAGE;
    }
    if (kbs_guest_key_get(g->server.tee_key, alg, NULL, &g->tee_key, &err) != 0) {
        return kbs_cli_fail(&err);
    }
    int status = kbs_guest_open_file(&g->ask, &g->tee_key, g->handshake_in, g->recipient_in,
                                     &g->typed, g->server.json);
    kbs_guest_key_deinit(&g->tee_key);
    return status;
}

int kbs_guest_cmd_get_key(int argc, char **argv)
{
    struct get_key g = {.http = NULL};
    struct kbs_guest_ask_options *t = &g.typed;
    struct kbs_arg server[KBS_GUEST_SERVER_ARGS];
    const char *path = NULL;
    const struct kbs_arg own[] = {
        {"cose", KBS_ARG_FLAG, &t->cose, NULL, "ask for COSE, not JOSE", 0, 0},
        {"context-none", KBS_ARG_FLAG, &t->context_none, NULL, "ask for empty party info", 0, 0},
        {"version", KBS_ARG_NUMBER, &t->version, "N", "ask for this version, not the latest", 1,
         UINT32_MAX},
        {"nonce", KBS_ARG_TEXT, &t->nonce, "HEX", "request nonce, 32 bytes (default: random)", 0,
         0},
        {"salt", KBS_ARG_TEXT, &t->salt, "HEX", "COSE salt, up to 64 bytes (default: none)", 0, 0},
        {"out", KBS_ARG_TEXT, &t->out, "FILE", "write the key there (new file, or - for a pipe)", 0,
         0},
        {"out-fd", KBS_ARG_NUMBER, &t->out_fd, "N",
         "write the key to this descriptor: a pipe, socket or memfd", 3, INT32_MAX},
        {"recipient-out", KBS_ARG_TEXT, &g.recipient_out, "FILE", "keep the answer", 0, 0},
        {"receipt-out", KBS_ARG_TEXT, &g.server.receipt.out, "FILE",
         "ask for a receipt and keep it", 0, 0},
        {"receipt-key", KBS_ARG_TEXT, &g.server.receipt.key_file, "PEM",
         "ask for a receipt, which must be by this key", 0, 0},
        {"handshake-out", KBS_ARG_TEXT, &g.handshake_out, "FILE",
         "keep what the answer is bound to", 0, 0},
        {"recipient-in", KBS_ARG_TEXT, &g.recipient_in, "FILE", "ask nobody: open this answer", 0,
         0},
        {"handshake-in", KBS_ARG_TEXT, &g.handshake_in, "FILE", "with the handshake of this file",
         0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-guest get-key PATH --url URL [options]",
        .about = "Attest, ask for the key at PATH (repo/type/tag), check that the\n"
                 "answer is the one that was asked for, and unwrap it. The key is not printed.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .common = server,
        .common_count = KBS_GUEST_SERVER_ARGS,
        .positionals_min = 1,
        .positionals_max = 1,
    };

    kbs_guest_server_args(&g.server, server);
    int r = kbs_args_parse(&args, argc, argv, &path);
    if (r != 0) {
        return r > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
    }
    int status = kbs_guest_ask_from(&args, path, t, &g.ask);
    if (status != KBS_CLI_OK) {
        return status;
    }
    return g.recipient_in != NULL || g.handshake_in != NULL ? offline(&args, &g)
                                                            : online(&args, &g);
}
