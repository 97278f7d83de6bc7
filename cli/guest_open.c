/*
 * kbs-guest open: the offline half of get-key, for answers kept in a file. Tests use it to show
 * that a changed answer is refused; operators to look into one.
 */
#include "cli/files.h"
#include "cli/guest.h"
#include "cli/output.h"
#include "cli/status.h"
#include "jose/write/jose.h"

#define ANSWER_MAX_BYTES 16384

int kbs_guest_open_file(struct kbs_guest_ask *ask, const struct kbs_guest_key *tee_key,
                        const char *handshake, const char *answer,
                        const struct kbs_guest_ask_options *o, bool json)
{
    struct kbs_guest_ask from_file = *ask;
    struct kbs_buf text = KBS_BUF(ANSWER_MAX_BYTES);
    struct kbs_guest_opened opened = {.key = NULL};
    struct kbs_error err = KBS_ERROR_NONE;
    const uint8_t zeros[KBS_REQUEST_NONCE_BYTES] = {0};
    int status;

    if (kbs_guest_handshake_read(handshake, &from_file, &err) != 0) {
        return kbs_cli_fail(&err);
    }
    /* What was typed goes before what the file says. */
    ask->digest = from_file.digest;
    if (memcmp(ask->nonce, zeros, sizeof(zeros)) == 0) {
        memcpy(ask->nonce, from_file.nonce, sizeof(ask->nonce));
    }
    if (ask->salt_len == 0 && ask->format == KBS_FORMAT_COSE) {
        memcpy(ask->salt, from_file.salt, sizeof(ask->salt));
        ask->salt_len = from_file.salt_len;
    }
    if (kbs_cli_read_file(answer, &text, &err) != 0 ||
        kbs_guest_open(ask, tee_key, kbs_buf_span(&text), &opened, &err) != 0) {
        status = kbs_cli_fail(&err);
    } else {
        status = kbs_guest_show(ask, &opened, o, NULL, json);
    }
    kbs_guest_opened_deinit(&opened);
    kbs_buf_deinit(&text);
    return status;
}

int kbs_guest_cmd_open(int argc, char **argv)
{
    struct kbs_guest_ask_options o = {.cose = false};
    const char *path = NULL;
    const char *tee_key = NULL;
    const char *tee_alg = KBS_JOSE_ECDH_ES_A256KW;
    const char *handshake = NULL;
    const char *file = NULL;
    bool json = false;
    const struct kbs_arg own[] = {
        {"path", KBS_ARG_TEXT, &path, "PATH", "the key that was asked for", 0, 0},
        {"tee-key", KBS_ARG_TEXT, &tee_key, "FILE", "the TEE key of the session (PEM)", 0, 0},
        {"tee-alg", KBS_ARG_TEXT, &tee_alg, "ALG",
         "of the TEE key: ECDH-ES+A256KW (default), RSA-OAEP-256, RSA-OAEP", 0, 0},
        {"handshake", KBS_ARG_TEXT, &handshake, "FILE", "as --handshake-out wrote it", 0, 0},
        {"request-nonce", KBS_ARG_TEXT, &o.nonce, "HEX", "nonce of the request, if not in the file",
         0, 0},
        {"salt", KBS_ARG_TEXT, &o.salt, "HEX", "salt of the request, if not in the file", 0, 0},
        {"version", KBS_ARG_NUMBER, &o.version, "N", "the version that was asked for", 1,
         UINT32_MAX},
        {"cose", KBS_ARG_FLAG, &o.cose, NULL, "the answer is COSE, not JOSE", 0, 0},
        {"context-none", KBS_ARG_FLAG, &o.context_none, NULL, "it was asked without party info", 0,
         0},
        {"out", KBS_ARG_TEXT, &o.out, "FILE", "write the key there (new file, or - for a pipe)", 0,
         0},
        {"json", KBS_ARG_FLAG, &json, NULL, "print JSON", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-guest open --path PATH --tee-key FILE --handshake FILE [options] ANSWER",
        .about = "Check and open a key-release answer kept in a file.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_guest_ask ask = {.path = NULL};
    struct kbs_guest_key key = {.ec = NULL};
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_args_parse(&args, argc, argv, &file);
    if (r != 0) {
        return r > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
    }
    if (path == NULL || tee_key == NULL || handshake == NULL) {
        return kbs_args_usage(&args, "--path, --tee-key and --handshake are needed");
    }
    int status = kbs_guest_ask_from(&args, path, &o, &ask);
    if (status != KBS_CLI_OK) {
        return status;
    }
    enum kbs_tee_alg alg;
    if (kbs_guest_alg_from(&args, tee_alg, &alg) != KBS_CLI_OK) {
        return KBS_CLI_USAGE;
    }
    if (kbs_guest_key_get(tee_key, alg, NULL, &key, &err) != 0) {
        return kbs_cli_fail(&err);
    }
    status = kbs_guest_open_file(&ask, &key, handshake, file, &o, json);
    kbs_guest_key_deinit(&key);
    return status;
}
