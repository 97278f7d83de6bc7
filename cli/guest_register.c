/*
 * kbs-guest register: attest, and read or raise this guest's value in a register (docs/protocol/register.md). For a
 * script that boots: what is read goes to standard output in two lines, and a register without a value ends with a
 * status of its own.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/encoding.h"
#include "cli/guest.h"
#include "cli/output.h"
#include "cli/status.h"
#include "jose/read/json.h"

#define BODY_MAX_BYTES 512
#define NONE "none"

struct reg {
    struct kbs_guest_options server;
    const char *path;
    bool set;
    const char *expected; /* "none", or decimal */
    const char *value;
    const char *digest; /* hex; NULL: empty */
};

/* Decimal without a sign, at most INT64_MAX. */
static bool number(const char *text, uint64_t *ret)
{
    char *end = NULL;

    errno = 0;
    *ret = strtoull(text, &end, 10);
    return errno == 0 && *text >= '0' && *text <= '9' && *end == '\0' && *ret <= INT64_MAX;
}

static int body_put(const struct kbs_args *args, const struct reg *g, struct kbs_buf *out)
{
    uint8_t digest[KBS_LIMIT_REGISTER_DIGEST_BYTES];
    size_t digest_len = g->digest != NULL ? strlen(g->digest) / 2 : 0;
    uint64_t expected = 0;
    uint64_t value = 0;
    bool none = g->expected != NULL && strcmp(g->expected, NONE) == 0;

    if (g->expected == NULL || g->value == NULL || (!none && !number(g->expected, &expected)) ||
        !number(g->value, &value)) {
        return kbs_args_usage(args, "--expected is a number or " NONE ", --value a number");
    }
    if (digest_len > sizeof(digest) ||
        (g->digest != NULL &&
         kbs_hex_get_exact(digest, digest_len, kbs_span_str(g->digest)) != 0)) {
        return kbs_args_usage(args, "--digest is at most %zu bytes in hex", sizeof(digest));
    }
    if (none) {
        kbs_buf_put_str(out, "{\"expected\":null");
    } else {
        kbs_buf_printf(out, "{\"expected\":%" PRIu64, expected);
    }
    kbs_buf_printf(out, ",\"value\":%" PRIu64 ",\"digest\":\"", value);
    kbs_base64url_put(out, kbs_span(digest, digest_len));
    kbs_buf_put_str(out, "\"}");
    return KBS_CLI_OK;
}

static int show(const struct reg *g, struct kbs_span text, struct kbs_error *err)
{
    struct kbs_buf digest = KBS_BUF(KBS_LIMIT_REGISTER_DIGEST_BYTES);
    char hex[2 * KBS_LIMIT_REGISTER_DIGEST_BYTES + 1];
    struct kbs_span encoded;
    KBS_AUTO_JSON answer = NULL;
    int64_t value = 0;
    int r = -1;

    if (kbs_json_parse_object(text, "answer", &answer, err) == 0 &&
        kbs_json_get_integer(answer, "value", &value, err) == 0 &&
        kbs_json_get_string(answer, "digest", &encoded, err) == 0) {
        r = kbs_base64url_get(&digest, encoded) == 0
                ? 0
                : kbs_fail(err, KBS_INPUT, "answer: \"digest\" is not base64url");
    }
    if (r == 0) {
        kbs_hex_cstr(kbs_buf_span(&digest), hex, sizeof(hex));
        if (g->server.json) {
            r = kbs_cli_json(json_pack("{s:I, s:s}", "value", (json_int_t)value, "digest", hex),
                             err);
        } else {
            kbs_cli_field("value", "%lld", (long long)value);
            kbs_cli_field("digest", "%s", hex);
        }
    }
    kbs_buf_deinit(&digest);
    return r == 0 ? kbs_cli_flush(err) : -1;
}

static int run(const struct reg *g, struct kbs_http_client *http,
               const struct kbs_guest_key *tee_key, struct kbs_span body, struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_guest_session session = {.token = {.p = NULL}};
    struct kbs_http_response response = {.status = 0};
    int r = -1;

    kbs_buf_printf(&target, "/kbs/v0/register/%s", g->path);
    if (kbs_buf_check(&target, "request", err) == 0) {
        const struct kbs_http_request q = {.method = g->set ? "POST" : "GET",
                                           .target = kbs_buf_cstr(&target),
                                           .body = body,
                                           .content_type = g->set ? "application/json" : NULL,
                                           .accept = "application/json"};
        r = kbs_guest_request(http, &tee_key->public_key, &g->server.how, &q, &session, &response,
                              err);
    }
    if (r == 0 && (kbs_http_expect_ok(&response, g->path, err) != 0 ||
                   show(g, kbs_buf_span(&response.body), err) != 0)) {
        r = -1;
    }
    kbs_http_response_deinit(&response);
    kbs_guest_session_deinit(&session);
    kbs_buf_deinit(&target);
    return r;
}

static int online(const struct kbs_args *args, struct reg *g, struct kbs_span body)
{
    struct kbs_guest_key tee_key = {.ec = NULL};
    struct kbs_http_client *http = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    int status = kbs_guest_connect(args, &g->server, &http, &tee_key);

    if (status == KBS_CLI_OK && run(g, http, &tee_key, body, &err) != 0) {
        status = kbs_cli_fail(&err);
    }
    (void)kbs_http_client_free(http);
    kbs_guest_key_deinit(&tee_key);
    kbs_guest_options_deinit(&g->server);
    return status;
}

int kbs_guest_cmd_register(int argc, char **argv)
{
    struct reg g = {.path = NULL};
    struct kbs_arg server[KBS_GUEST_SERVER_ARGS];
    const char *words[2] = {NULL, NULL};
    const struct kbs_arg own[] = {
        {"expected", KBS_ARG_TEXT, &g.expected, "N", "set: the value that there is, or " NONE, 0,
         0},
        {"value", KBS_ARG_TEXT, &g.value, "N", "set: the next one, which is larger", 0, 0},
        {"digest", KBS_ARG_TEXT, &g.digest, "HEX", "set: what goes with it, up to 64 bytes", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-guest register get PATH | set PATH --expected N --value N [options]",
        .about =
            "Attest, and read or raise this guest's value in the register of the key at PATH. It\n"
            "only grows.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .common = server,
        .common_count = KBS_GUEST_SERVER_ARGS,
        .positionals_min = 2,
        .positionals_max = 2,
    };
    struct kbs_buf body = KBS_BUF(BODY_MAX_BYTES);

    kbs_guest_server_args(&g.server, server);
    int r = kbs_args_parse(&args, argc, argv, words);
    if (r != 0) {
        return r > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
    }
    g.path = words[1];
    g.set = strcmp(words[0], "set") == 0;
    if ((!g.set && strcmp(words[0], "get") != 0) || !kbs_key_path_valid(kbs_span_str(g.path))) {
        return kbs_args_usage(&args,
                              "register get PATH or register set PATH; PATH is repo/type/tag");
    }
    int status = g.set ? body_put(&args, &g, &body) : KBS_CLI_OK;
    if (status == KBS_CLI_OK) {
        status = online(&args, &g, kbs_buf_span(&body));
    }
    kbs_buf_deinit(&body);
    return status;
}
