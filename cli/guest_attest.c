/* kbs-guest attest: the handshake alone; prints the attestation token, which is the session for its
 * bearer. */
#include "cli/files.h"
#include "cli/guest.h"
#include "cli/output.h"
#include "cli/status.h"

static int show(const struct kbs_guest_session *s, const char *token_out, const char *handshake_out,
                bool json, struct kbs_error *err)
{
    if (handshake_out != NULL && kbs_guest_handshake_write(handshake_out, s, NULL, err) != 0) {
        return -1;
    }
    if (token_out != NULL) {
        return kbs_cli_write_new(token_out, kbs_buf_span(&s->token), err);
    }
    if (json) {
        return kbs_cli_json(json_pack("{s:s%}", "token", (const char *)s->token.p, s->token.len),
                            err);
    }
    if (kbs_cli_write_new("-", kbs_buf_span(&s->token), err) != 0 ||
        kbs_cli_write_new("-", KBS_SPAN_LIT("\n"), err) != 0) {
        return -1;
    }
    return 0;
}

int kbs_guest_cmd_attest(int argc, char **argv)
{
    struct kbs_guest_options o = {.url = NULL};
    const char *token_out = NULL;
    const char *handshake_out = NULL;
    struct kbs_arg server[KBS_GUEST_SERVER_ARGS];
    const struct kbs_arg own[] = {
        {"token-out", KBS_ARG_TEXT, &token_out, "FILE", "write the token there, not to stdout", 0,
         0},
        {"handshake-out", KBS_ARG_TEXT, &handshake_out, "FILE", "nonce and digest, for `open`", 0,
         0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-guest attest --url URL [options]",
        .about = "Attest and print the attestation token.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .common = server,
        .common_count = KBS_GUEST_SERVER_ARGS,
    };
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_guest_session session = {.hash = KBS_HASH_NONE};
    struct kbs_http_client *http = NULL;
    struct kbs_guest_key key = {.ec = NULL};

    kbs_guest_server_args(&o, server);
    int r = kbs_args_parse(&args, argc, argv, NULL);
    if (r != 0) {
        return r > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
    }
    int status = kbs_guest_connect(&args, &o, &http, &key);
    if (status != KBS_CLI_OK) {
        kbs_guest_options_deinit(&o);
        return status;
    }
    if (kbs_guest_attest(http, &key.public_key, &o.how, &session, &err) != 0 ||
        show(&session, token_out, handshake_out, o.json, &err) != 0 || kbs_cli_flush(&err) != 0) {
        status = kbs_cli_fail(&err);
    }
    kbs_guest_session_deinit(&session);
    (void)kbs_http_client_free(http);
    kbs_guest_key_deinit(&key);
    kbs_guest_options_deinit(&o);
    return status;
}
