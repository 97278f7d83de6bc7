/*
 * What get-key, open and attest have in common: options, and the one place where an opened key is
 * shown. The key itself leaves the process only by --out, into a new file of the owner's or a pipe,
 * never to a terminal.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/encoding.h"
#include "base/io.h"
#include "cli/files.h"
#include "cli/guest.h"
#include "cli/output.h"
#include "cli/status.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"

#define INIT_DATA_MAX_BYTES (KBS_LIMIT_HTTP_BODY_BYTES / 4)

void kbs_guest_server_args(struct kbs_guest_options *o, struct kbs_arg list[KBS_GUEST_SERVER_ARGS])
{
    const struct kbs_arg all[KBS_GUEST_SERVER_ARGS] = {
        {"url", KBS_ARG_TEXT, &o->url, "URL", "the service: http(s)://host:port", 0, 0},
        {"ca", KBS_ARG_TEXT, &o->ca, "FILE", "trust exactly these certificates (PEM)", 0, 0},
        {"unix-socket", KBS_ARG_TEXT, &o->unix_socket, "PATH", "connect to this socket", 0, 0},
        {"tee", KBS_ARG_TEXT, &o->tee, "NAME", "kind of evidence (default sample)", 0, 0},
        {"evidence-command", KBS_ARG_TEXT, &o->evidence_command, "PROGRAM",
         "prints evidence as JSON for a digest, its argument in hex", 0, 0},
        {"init-data", KBS_ARG_TEXT, &o->init_data, "FILE", "init-data (TOML) to send along", 0, 0},
        {"tee-key", KBS_ARG_TEXT, &o->tee_key, "FILE", "use this TEE key (PEM), not a fresh one", 0,
         0},
        {"tee-alg", KBS_ARG_TEXT, &o->tee_alg, "ALG",
         "of the TEE key: ECDH-ES+A256KW, RSA-OAEP-256, RSA-OAEP, RSA1_5", 0, 0},
        {"curve", KBS_ARG_TEXT, &o->curve, "NAME", "of a fresh TEE key: P-256, P-384, P-521", 0, 0},
        {"protocol", KBS_ARG_TEXT, &o->protocol, "VERSION", "of the handshake: 0.4.0, 0.2.0", 0, 0},
        {"pop", KBS_ARG_FLAG, &o->pop, NULL,
         "attest a key that signs, and prove each request with it", 0, 0},
        {"encrypt", KBS_ARG_FLAG, &o->encrypt, NULL, "encrypt the request's body to the service", 0,
         0},
        {"request-key", KBS_ARG_TEXT, &o->request_key, "FILE",
         "to this key (PEM), not to the one that the service names", 0, 0},
        {"json", KBS_ARG_FLAG, &o->json, NULL, "print JSON", 0, 0},
    };

    o->tee = "sample";
    o->tee_alg = KBS_JOSE_ECDH_ES_A256KW;
    o->curve = "P-256";
    o->protocol = "0.4.0";
    memcpy(list, all, sizeof(all));
}

int kbs_guest_alg_from(const struct kbs_args *args, const char *text, enum kbs_tee_alg *ret)
{
    *ret = kbs_tee_alg_from_name(kbs_span_str(text));
    if (*ret == KBS_TEE_ALG_NONE || kbs_tee_alg_signs(*ret)) {
        return kbs_args_usage(args,
                              "--tee-alg is ECDH-ES+A256KW, RSA-OAEP-256, RSA-OAEP or RSA1_5");
    }
    return KBS_CLI_OK;
}

void kbs_guest_options_deinit(struct kbs_guest_options *o)
{
    kbs_buf_deinit(&o->init_data_text);
}

static int read_request_key(const struct kbs_args *args, struct kbs_guest_options *o)
{
    struct kbs_buf pem = KBS_BUF(KBS_LIMIT_KEY_PEM_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    int r = 0;

    o->how.encrypt = o->encrypt;
    if (o->request_key == NULL) {
        return KBS_CLI_OK;
    }
    if (!o->encrypt) {
        return kbs_args_usage(args, "--request-key goes with --encrypt");
    }
    r = kbs_cli_read_file(o->request_key, &pem, &err);
    if (r == 0) {
        r = kbs_jose_public_from_pem(kbs_buf_span(&pem), &o->request_key_public, &err);
    }
    if (r == 0 && o->request_key_public.curve != KBS_CURVE_P256) {
        r = kbs_fail(&err, KBS_INPUT, "a request key is on P-256");
    }
    kbs_buf_deinit(&pem);
    o->how.request_key = &o->request_key_public;
    return r == 0 ? KBS_CLI_OK : kbs_cli_fail(&err);
}

/* Fills o->how. KBS_CLI_OK or an exit status after a message. */
static int read_how(const struct kbs_args *args, struct kbs_guest_options *o)
{
    enum kbs_tee tee = kbs_tee_from_name(kbs_span_str(o->tee));
    struct kbs_error err = KBS_ERROR_NONE;

    o->how = (struct kbs_guest_how){.version = kbs_protocol_from_name(kbs_span_str(o->protocol)),
                                    .tee = o->tee,
                                    .command = o->evidence_command};
    if (o->how.version == KBS_PROTOCOL_NONE) {
        return kbs_args_usage(args, "--protocol is 0.4.0 or 0.2.0");
    }
    if (tee == KBS_TEE_NONE || (tee != KBS_TEE_SAMPLE && o->evidence_command == NULL)) {
        kbs_cli_say("no evidence of kind %s can be made here%s", o->tee,
                    tee != KBS_TEE_NONE ? ": --evidence-command names what makes it" : "");
        return KBS_CLI_UNSUPPORTED;
    }
    if (o->init_data != NULL && o->how.version == KBS_PROTOCOL_0_2_0) {
        return kbs_args_usage(args, "--init-data has no place in 0.2.0");
    }
    o->init_data_text = KBS_BUF(INIT_DATA_MAX_BYTES);
    if (o->init_data != NULL && kbs_cli_read_file(o->init_data, &o->init_data_text, &err) != 0) {
        return kbs_cli_fail(&err);
    }
    o->how.init_data = kbs_buf_span(&o->init_data_text);
    if (o->init_data != NULL && kbs_guest_config_read(o->how.init_data, &o->config, &err) != 0) {
        return kbs_cli_fail(&err);
    }
    return read_request_key(args, o);
}

/* Whom to talk to: what the init-data names, and nobody else. KBS_CLI_OK or KBS_CLI_USAGE after a message. */
static int find_server(const struct kbs_args *args, const struct kbs_guest_options *o,
                       struct kbs_http_server *ret)
{
    const char *measured = o->config.url[0] != '\0' ? o->config.url : NULL;

    *ret = (struct kbs_http_server){.url = measured != NULL ? measured : o->url,
                                    .ca_file = o->ca,
                                    .unix_socket = o->unix_socket,
                                    .tls_pin =
                                        o->config.tls_pin[0] != '\0' ? o->config.tls_pin : NULL};
    if (measured != NULL && o->url != NULL && strcmp(o->url, measured) != 0) {
        return kbs_args_usage(args, "--url is not the one in the init-data, %s", measured);
    }
    if (ret->url == NULL && ret->unix_socket != NULL) {
        ret->url = "http://localhost";
    }
    return ret->url != NULL ? KBS_CLI_OK : kbs_args_usage(args, "--url or --unix-socket is needed");
}

int kbs_guest_connect(const struct kbs_args *args, struct kbs_guest_options *o,
                      struct kbs_http_client **ret_http, struct kbs_guest_key *ret_key)
{
    enum kbs_tee_alg alg;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_http_server server;

    if (kbs_guest_alg_from(args, o->tee_alg, &alg) != KBS_CLI_OK) {
        return KBS_CLI_USAGE;
    }
    if (kbs_curve_from_jose_name(kbs_span_str(o->curve)) == KBS_CURVE_NONE) {
        return kbs_args_usage(args, "--curve is P-256, P-384 or P-521");
    }
    if (o->pop && alg != KBS_TEE_ALG_ECDH_ES_A256KW) {
        return kbs_args_usage(args, "--pop is for EC keys");
    }
    if (o->pop) {
        alg = KBS_TEE_ALG_ES256; /* or that of the key's curve */
    }
    int status = read_how(args, o);
    if (status == KBS_CLI_OK) {
        status = find_server(args, o, &server);
    }
    if (status == KBS_CLI_OK) {
        status = kbs_guest_receipt_prepare(args, o);
    }
    if (status != KBS_CLI_OK) {
        return status;
    }
    if (kbs_guest_key_get(o->tee_key, alg, o->curve, ret_key, &err) != 0) {
        return kbs_cli_fail(&err);
    }
    o->how.signer = ret_key->signer;
    if (kbs_http_client_new(&server, ret_http, &err) != 0) {
        kbs_guest_key_deinit(ret_key);
        return kbs_cli_fail(&err);
    }
    return KBS_CLI_OK;
}

int kbs_guest_ask_from(const struct kbs_args *args, const char *path,
                       const struct kbs_guest_ask_options *o, struct kbs_guest_ask *ask)
{
    if (!kbs_key_path_valid(kbs_span_str(path))) {
        return kbs_args_usage(args, "not a key path (repo/type/tag): %s", path);
    }
    if (o->nonce != NULL &&
        kbs_hex_get_exact(ask->nonce, sizeof(ask->nonce), kbs_span_str(o->nonce)) != 0) {
        return kbs_args_usage(args, "a request nonce is 32 bytes in hex");
    }
    if (o->salt != NULL) {
        ask->salt_len = strlen(o->salt) / 2;
        if (!o->cose || ask->salt_len == 0 || ask->salt_len > sizeof(ask->salt) ||
            kbs_hex_get_exact(ask->salt, ask->salt_len, kbs_span_str(o->salt)) != 0) {
            return kbs_args_usage(args, "--salt is 1 to 64 bytes in hex, and only for --cose");
        }
    }
    ask->path = path;
    ask->version = o->version;
    ask->format = o->cose ? KBS_FORMAT_COSE : KBS_FORMAT_JOSE;
    ask->empty_context = o->context_none;
    struct kbs_error err = KBS_ERROR_NONE;

    if (o->out_fd != 0 && kbs_guest_out_fd_check(o->out_fd, &err) != 0) {
        return kbs_args_usage(args, "%s", err.detail);
    }
    if (o->out != NULL && strcmp(o->out, "-") == 0 && isatty(STDOUT_FILENO) != 0) {
        return kbs_args_usage(args, "a key is not written to a terminal: --out FILE, or a pipe");
    }
    return KBS_CLI_OK;
}

const char *kbs_guest_accept(const struct kbs_guest_ask *ask)
{
    return ask->format == KBS_FORMAT_COSE ? "application/cose" : "application/jose+json";
}

int kbs_guest_check_type(const struct kbs_guest_ask *ask, const struct kbs_http_response *r,
                         struct kbs_error *err)
{
    const char *want = kbs_guest_accept(ask);
    struct kbs_span type = kbs_span_str(r->content_type);

    if (!kbs_span_starts_with(type, want) ||
        (type.len > strlen(want) && strchr("; \t", r->content_type[strlen(want)]) == NULL)) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the answer is refused: its type is not %s", want);
    }
    return 0;
}

void kbs_guest_freshness_put(struct kbs_buf *out, const struct kbs_guest_ask *ask)
{
    kbs_buf_put_str(out, "\"nonce\":\"");
    kbs_base64url_put(out, kbs_span(ask->nonce, sizeof(ask->nonce)));
    if (ask->salt_len > 0) {
        kbs_buf_put_str(out, "\",\"salt\":\"");
        kbs_base64url_put(out, kbs_span(ask->salt, ask->salt_len));
    }
    kbs_buf_put_u8(out, '"');
}

int kbs_guest_out_fd_check(uint32_t fd, struct kbs_error *err)
{
    struct stat st;
    bool good = fd <= INT_MAX && fstat((int)fd, &st) == 0 &&
                (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) ||
                 (S_ISREG(st.st_mode) && st.st_nlink == 0 && fcntl((int)fd, F_GET_SEALS) >= 0));

    if (!good) {
        return kbs_fail(err, KBS_INPUT,
                        "--out-fd %u is no pipe, socket or memfd: a key is not written there",
                        (unsigned int)fd);
    }
    return fcntl((int)fd, F_SETFD, FD_CLOEXEC) == 0
               ? 0
               : kbs_fail_errno(err, KBS_INTERNAL, "the descriptor cannot be used");
}

static int show_json(const struct kbs_guest_ask *ask, const struct kbs_guest_opened *key,
                     const char *provisioned, struct kbs_error *err)
{
    char kcv[2 * KBS_KCV_BYTES + 1];
    char cmac[2 * KBS_KCV_BYTES + 1];

    kbs_hex_cstr(kbs_span(key->kcv, sizeof(key->kcv)), kcv, sizeof(kcv));
    kbs_hex_cstr(kbs_span(key->kcv_cmac, sizeof(key->kcv_cmac)), cmac, sizeof(cmac));
    return kbs_cli_json(json_pack("{s:s, s:s, s:I, s:s, s:I, s:s, s:s*, s:s*}", "path", ask->path,
                                  "kid", key->kid, "version", (json_int_t)key->version, "format",
                                  kbs_format_name(ask->format), "bytes",
                                  (json_int_t)kbs_secret_len(key->key), "kcv", kcv, "kcv_cmac",
                                  key->has_cmac ? cmac : NULL, "provisioned", provisioned),
                        err);
}

int kbs_guest_show(const struct kbs_guest_ask *ask, const struct kbs_guest_opened *key,
                   const struct kbs_guest_ask_options *o, const char *provisioned, bool json)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span bytes = kbs_secret_span(key->key);

    if ((o->out != NULL && kbs_cli_write_new(o->out, bytes, &err) != 0) ||
        (o->out_fd != 0 &&
         kbs_io_write_all((int)o->out_fd, bytes.p, bytes.len, KBS_DEADLINE_NONE, &err) != 0)) {
        return kbs_cli_fail(&err);
    }
    if (o->out != NULL && strcmp(o->out, "-") == 0) {
        return KBS_CLI_OK; /* standard output is the key and nothing else */
    }
    if (json) {
        if (show_json(ask, key, provisioned, &err) != 0) {
            return kbs_cli_fail(&err);
        }
    } else {
        kbs_cli_field("path", "%s", ask->path);
        kbs_cli_field("kid", "%s", key->kid);
        kbs_cli_field("format", "%s", kbs_format_name(ask->format));
        kbs_cli_field("key length", "%zu bytes", kbs_secret_len(key->key));
        kbs_cli_field_kcv("key check value", key->kcv);
        if (key->has_cmac) {
            kbs_cli_field_kcv("by AES-CMAC", key->kcv_cmac);
        }
        if (provisioned != NULL) {
            kbs_cli_field("provisioned", "%s", provisioned);
        }
    }
    return kbs_cli_flush(&err) != 0 ? kbs_cli_fail(&err) : KBS_CLI_OK;
}
