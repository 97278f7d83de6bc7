/*
 * kbs-guest provision: attest, have a NEK made for this guest at its first boot, or given again, and open what
 * comes for it. The answer is bound to the blob that comes with it (docs/protocol/nek.md), so that one is what the
 * opened key is wrapped in, and can be kept beside what it encrypts.
 */
#include "base/encoding.h"
#include "base/random.h"
#include "cli/files.h"
#include "cli/guest.h"
#include "cli/output.h"
#include "cli/protect.h"
#include "cli/status.h"
#include "jose/read/json.h"
#include "seal/nek.h"

#define TARGET "/kbs/v0/key/provision"
#define BODY_MAX_BYTES 1024
#define ANSWER_PART_MAX_BYTES 8192

struct provision {
    struct kbs_guest_options server;
    struct kbs_guest_ask_options typed;
    struct kbs_guest_ask ask;
    struct kbs_guest_session session;
    struct kbs_http_client *http;
    struct kbs_guest_key tee_key;
    uint32_t bytes;
    const char *nek_out;
    const char *answer_out;
    struct kbs_buf nek;    /* the blob, as it stood in the answer */
    struct kbs_buf to_tee; /* what is for the TEE key */
    struct kbs_buf parts;  /* both, as a receipt is of them (docs/protocol/receipts.md) */
    bool created;
};

static void body_put(const struct provision *g, struct kbs_buf *out)
{
    kbs_buf_printf(out, "{\"key\":\"%s\",\"format\":\"%s\",", g->ask.path,
                   g->typed.cose ? "cose" : "jose");
    if (g->bytes != 0) {
        kbs_buf_printf(out, "\"bytes\":%u,", (unsigned int)g->bytes);
    }
    kbs_guest_freshness_put(out, &g->ask);
    kbs_buf_put_u8(out, '}');
}

static int ask_server(struct provision *g, struct kbs_http_response *ret, struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(BODY_MAX_BYTES);
    int r = -1;

    body_put(g, &body);
    if (kbs_buf_check(&body, "request", err) == 0) {
        const struct kbs_http_request q = {
            .method = "POST",
            .target = g->server.receipt.wanted ? TARGET "?" KBS_GUEST_RECEIPT_QUERY : TARGET,
            .body = kbs_buf_span(&body),
            .content_type = "application/json",
            .accept = "application/json"};

        r = kbs_guest_request(g->http, &g->tee_key.public_key, &g->server.how, &q, &g->session, ret,
                              err);
        g->ask.digest = g->session.digest;
    }
    kbs_buf_deinit(&body);
    return r;
}

/* The parts, in the bytes that the service wrote: compact JSON whose members keep their order. */
static int answer_read(struct provision *g, struct kbs_span text, struct kbs_error *err)
{
    KBS_AUTO_JSON root = NULL;
    json_t *nek = NULL;
    json_t *recipient = NULL;
    struct kbs_span cose = KBS_SPAN_EMPTY;

    if (kbs_json_parse_object(text, "answer", &root, err) != 0 ||
        kbs_json_get_object(root, "nek", &nek, err) != 0 || kbs_json_dump(nek, &g->nek, err) != 0) {
        return -1;
    }
    g->created = json_is_true(json_object_get(root, "created"));
    if (!g->typed.cose) {
        return kbs_json_get_object(root, "recipient", &recipient, err) == 0
                   ? kbs_json_dump(recipient, &g->to_tee, err)
                   : -1;
    }
    if (kbs_json_get_string(root, "cose", &cose, err) != 0) {
        return -1;
    }
    return kbs_base64url_get(&g->to_tee, cose) == 0
               ? 0
               : kbs_fail(err, KBS_INPUT, "answer: \"cose\" is not base64url");
}

static int receipt_check(struct provision *g, const struct kbs_http_response *response,
                         const struct kbs_guest_opened *opened, struct kbs_error *err)
{
    kbs_buf_put_be32(&g->parts, (uint32_t)g->nek.len);
    kbs_buf_put_span(&g->parts, kbs_buf_span(&g->nek));
    kbs_buf_put_span(&g->parts, kbs_buf_span(&g->to_tee));
    const struct kbs_guest_receipt_expect expect = {
        .path = g->ask.path,
        .kid = opened->kid,
        .op = KBS_RECEIPT_PROVISION,
        .tee_key = &kbs_guest_receiver(&g->session, &g->tee_key)->public_key,
        .nonce = g->ask.nonce,
        .session = &g->session,
        .answer = kbs_buf_span(&g->parts)};

    return kbs_buf_check(&g->parts, "answer", err) == 0
               ? kbs_guest_receipt_check(&g->server, response, &expect, err)
               : -1;
}

static int run(struct provision *g, struct kbs_guest_opened *opened, struct kbs_error *err)
{
    struct kbs_http_response response = {.status = 0};
    int r = -1;

    if (ask_server(g, &response, err) == 0 &&
        kbs_http_expect_ok(&response, g->ask.path, err) == 0 &&
        answer_read(g, kbs_buf_span(&response.body), err) == 0) {
        g->ask.blob = kbs_buf_span(&g->nek);
        r = kbs_guest_open(&g->ask, kbs_guest_receiver(&g->session, &g->tee_key),
                           kbs_buf_span(&g->to_tee), opened, err);
    }
    if (r == 0) {
        r = receipt_check(g, &response, opened, err);
    }
    if (r == 0 && g->answer_out != NULL) {
        r = kbs_cli_write_new(g->answer_out, kbs_buf_span(&g->parts), err);
    }
    if (r == 0 && g->nek_out != NULL) {
        r = kbs_cli_write_new(g->nek_out, kbs_buf_span(&g->nek), err);
    }
    kbs_http_response_deinit(&response);
    return r;
}

static int online(const struct kbs_args *args, struct provision *g)
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
                     : kbs_guest_show(&g->ask, &opened, &g->typed, g->created ? "now" : "before",
                                      g->server.json);
        kbs_guest_opened_deinit(&opened);
        kbs_guest_session_deinit(&g->session);
        (void)kbs_http_client_free(g->http);
        kbs_guest_key_deinit(&g->tee_key);
    }
    kbs_guest_options_deinit(&g->server);
    return status;
}

int kbs_guest_cmd_provision(int argc, char **argv)
{
    struct provision g = {.nek = KBS_BUF(KBS_NEK_BLOB_MAX_BYTES),
                          .to_tee = KBS_BUF(ANSWER_PART_MAX_BYTES),
                          .parts = KBS_BUF(4 + KBS_NEK_BLOB_MAX_BYTES + ANSWER_PART_MAX_BYTES)};
    struct kbs_guest_ask_options *t = &g.typed;
    struct kbs_arg server[KBS_GUEST_SERVER_ARGS];
    const char *path = NULL;
    const struct kbs_arg own[] = {
        {"bytes", KBS_ARG_NUMBER, &g.bytes, "N", "length of a new key, 16 to 64 in steps of 8 (32)",
         KBS_LIMIT_KEY_BYTES_MIN, KBS_LIMIT_KEY_BYTES_MAX},
        {"nek-out", KBS_ARG_TEXT, &g.nek_out, "FILE",
         "keep the wrapped key, for `rewrap` at later boots (new file)", 0, 0},
        {"cose", KBS_ARG_FLAG, &t->cose, NULL, "ask for COSE, not JOSE", 0, 0},
        {"nonce", KBS_ARG_TEXT, &t->nonce, "HEX", "request nonce, 32 bytes (default: random)", 0,
         0},
        {"salt", KBS_ARG_TEXT, &t->salt, "HEX", "COSE salt, up to 64 bytes (default: none)", 0, 0},
        {"out", KBS_ARG_TEXT, &t->out, "FILE", "write the key there (new file, or - for a pipe)", 0,
         0},
        {"out-fd", KBS_ARG_NUMBER, &t->out_fd, "N",
         "write the key to this descriptor: a pipe, socket or memfd", 3, INT32_MAX},
        {"answer-out", KBS_ARG_TEXT, &g.answer_out, "FILE", "keep what a receipt is of", 0, 0},
        {"receipt-out", KBS_ARG_TEXT, &g.server.receipt.out, "FILE",
         "ask for a receipt and keep it", 0, 0},
        {"receipt-key", KBS_ARG_TEXT, &g.server.receipt.key_file, "PEM",
         "ask for a receipt, which must be by this key", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-guest provision PATH --url URL [options]",
        .about =
            "Attest, and have a key made for this guest, wrapped to the key of purpose nek at\n"
            "PATH; or, if that was done before, have the same one again. The key is not printed.",
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
    if (status == KBS_CLI_OK) {
        status = online(&args, &g);
    }
    kbs_buf_deinit(&g.nek);
    kbs_buf_deinit(&g.to_tee);
    kbs_buf_deinit(&g.parts);
    return status;
}
