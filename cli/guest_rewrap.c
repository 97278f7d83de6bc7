/*
 * kbs-guest rewrap: attest, hand over the guest's own wrapped key (its NEK), and open what comes back. The
 * answer is bound to the blob that was sent (docs/protocol/nek.md), so no other blob's key can come in its
 * place.
 */
#include "base/encoding.h"
#include "base/random.h"
#include "cli/files.h"
#include "cli/guest.h"
#include "cli/nek.h"
#include "cli/output.h"
#include "cli/protect.h"
#include "cli/status.h"
#include "seal/nek.h"

struct rewrap {
    struct kbs_guest_options server;
    struct kbs_guest_ask_options typed;
    struct kbs_guest_ask ask;
    struct kbs_guest_session session;
    struct kbs_http_client *http;
    struct kbs_guest_key tee_key;
    struct kbs_buf text; /* the blob */
    struct kbs_nek_in blob;
    char path[KBS_LIMIT_KEY_PATH_BYTES + 1];
    const char *answer_out;
};

static void body_put(const struct rewrap *g, struct kbs_buf *out)
{
    if (g->blob.kind == KBS_NEK_COSE) {
        kbs_buf_put_str(out, "{\"cose\":\"");
        kbs_base64url_put(out, kbs_buf_span(&g->text));
        kbs_buf_put_str(out, "\",");
    } else {
        kbs_buf_put_str(out, "{\"recipient\":");
        kbs_buf_put_span(out, kbs_buf_span(&g->text));
        kbs_buf_put_u8(out, ',');
    }
    kbs_guest_freshness_put(out, &g->ask);
    kbs_buf_put_u8(out, '}');
}

static int ask_server(struct rewrap *g, struct kbs_http_response *ret, struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(4 * KBS_NEK_BLOB_MAX_BYTES);
    struct kbs_buf target = KBS_BUF(128);
    int r = -1;

    body_put(g, &body);
    kbs_buf_printf(&target, "/kbs/v0/key/rewrap%s%s",
                   g->server.receipt.wanted ? "?" KBS_GUEST_RECEIPT_QUERY : "",
                   !g->ask.empty_context      ? ""
                   : g->server.receipt.wanted ? "&context=none"
                                              : "?context=none");
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
    kbs_buf_deinit(&body);
    kbs_buf_deinit(&target);
    return r;
}

static int run(struct rewrap *g, struct kbs_guest_opened *opened, struct kbs_error *err)
{
    struct kbs_http_response response = {.status = 0};
    int r = -1;

    if (ask_server(g, &response, err) == 0 &&
        kbs_http_expect_ok(&response, g->ask.path, err) == 0) {
        r = g->answer_out != NULL
                ? kbs_cli_write_new(g->answer_out, kbs_buf_span(&response.body), err)
                : 0;
    }
    if (r == 0 &&
        (kbs_guest_check_type(&g->ask, &response, err) != 0 ||
         kbs_guest_open(&g->ask, kbs_guest_receiver(&g->session, &g->tee_key),
                        kbs_buf_span(&response.body), opened, err) != 0 ||
         kbs_guest_receipt_of_key(&g->server, &response, &g->ask, opened,
                                  &kbs_guest_receiver(&g->session, &g->tee_key)->public_key,
                                  &g->session, err) != 0)) {
        r = -1;
    }
    kbs_http_response_deinit(&response);
    return r;
}

static int online(const struct kbs_args *args, struct rewrap *g)
{
    struct kbs_guest_opened opened = {.key = NULL};
    struct kbs_error err = KBS_ERROR_NONE;
    int status = kbs_guest_connect(args, &g->server, &g->http, &g->tee_key);

    if (status == KBS_CLI_OK) {
        if (g->typed.nonce == NULL) {
            kbs_random(g->ask.nonce, sizeof(g->ask.nonce));
        }
        status = run(g, &opened, &err) != 0
                     ? kbs_cli_fail(&err)
                     : kbs_guest_show(&g->ask, &opened, &g->typed, NULL, g->server.json);
        kbs_guest_opened_deinit(&opened);
        kbs_guest_session_deinit(&g->session);
        (void)kbs_http_client_free(g->http);
        kbs_guest_key_deinit(&g->tee_key);
    }
    kbs_guest_options_deinit(&g->server);
    return status;
}

/* The blob, and the question that follows from it: the key that it is wrapped to, in that version. */
static int read_blob(const struct kbs_args *args, const char *file, struct rewrap *g)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_nek_file_read(file, &g->text, &g->blob, &err) != 0) {
        return kbs_cli_fail(&err);
    }
    (void)kbs_span_to_cstr(g->blob.path, g->path, sizeof(g->path));
    g->typed.version = g->blob.version;
    int status = kbs_guest_ask_from(args, g->path, &g->typed, &g->ask);
    g->ask.nek = g->blob.wrapped;
    return status;
}

int kbs_guest_cmd_rewrap(int argc, char **argv)
{
    struct rewrap g = {.http = NULL, .text = KBS_BUF(KBS_NEK_BLOB_MAX_BYTES)};
    struct kbs_guest_ask_options *t = &g.typed;
    struct kbs_arg server[KBS_GUEST_SERVER_ARGS];
    const char *file = NULL;
    const struct kbs_arg own[] = {
        {"cose", KBS_ARG_FLAG, &t->cose, NULL, "ask for COSE, not JOSE", 0, 0},
        {"context-none", KBS_ARG_FLAG, &t->context_none, NULL, "ask for empty party info", 0, 0},
        {"nonce", KBS_ARG_TEXT, &t->nonce, "HEX", "request nonce, 32 bytes (default: random)", 0,
         0},
        {"salt", KBS_ARG_TEXT, &t->salt, "HEX", "COSE salt, up to 64 bytes (default: none)", 0, 0},
        {"out", KBS_ARG_TEXT, &t->out, "FILE", "write the key there (new file, or - for a pipe)", 0,
         0},
        {"out-fd", KBS_ARG_NUMBER, &t->out_fd, "N",
         "write the key to this descriptor: a pipe, socket or memfd", 3, INT32_MAX},
        {"answer-out", KBS_ARG_TEXT, &g.answer_out, "FILE", "keep the answer", 0, 0},
        {"receipt-out", KBS_ARG_TEXT, &g.server.receipt.out, "FILE",
         "ask for a receipt and keep it", 0, 0},
        {"receipt-key", KBS_ARG_TEXT, &g.server.receipt.key_file, "PEM",
         "ask for a receipt, which must be by this key", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-guest rewrap BLOB --url URL [options]",
        .about =
            "Attest, and have the key in BLOB (`kbs-admin nek`) wrapped to this guest. The key is\n"
            "not printed.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .common = server,
        .common_count = KBS_GUEST_SERVER_ARGS,
        .positionals_min = 1,
        .positionals_max = 1,
    };

    kbs_guest_server_args(&g.server, server);
    int r = kbs_args_parse(&args, argc, argv, &file);
    if (r != 0) {
        return r > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
    }
    int status = read_blob(&args, file, &g);
    if (status == KBS_CLI_OK) {
        status = online(&args, &g);
    }
    kbs_nek_in_deinit(&g.blob);
    kbs_buf_deinit(&g.text);
    return status;
}
