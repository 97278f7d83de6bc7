/*
 * The signed conversation of docs/protocol/admin-api.md. Every request costs two: a nonce, then the
 * request with a JWS over method, target, body digest, nonce, sequence and expiry. The sequence is
 * Unix time in microseconds, so that no state has to be kept beside the key; two administrators
 * have two keys and two sequences.
 *
 * The profile carries what the administrator trusts: the TLS certificate, the import key's
 * thumbprint, and the keys that sign rows and heads. It is the administrator's file, so nothing here ever writes it.
 */
#include <libgen.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/encoding.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/status.h"
#include "jose/read/jose.h"

#define PROFILE_MAX_BYTES 8192
#define SIGNATURE_LIFE_S 60
#define HTTP_ACCEPTED 202 /* it waits for approval: kbs_admin_send() */
#define ADMIN_PREFIX "/kbs/v0/admin/"

void kbs_admin_common_args(struct kbs_admin_options *o, struct kbs_arg list[KBS_ADMIN_COMMON_ARGS])
{
    const struct kbs_arg all[KBS_ADMIN_COMMON_ARGS] = {
        {"profile", KBS_ARG_TEXT, &o->profile, "FILE",
         "administrator's profile ($KBS_ADMIN_PROFILE, admin/profile.json)", 0, 0},
        {"url", KBS_ARG_TEXT, &o->url, "URL", "admin listener, instead of the profile's", 0, 0},
        {"json", KBS_ARG_FLAG, &o->json, NULL, "print JSON", 0, 0},
        {"dry-run", KBS_ARG_FLAG, &o->dry_run, NULL, "show what would be sent, change nothing", 0,
         0},
    };

    memcpy(list, all, sizeof(all));
}

int kbs_admin_parse(struct kbs_admin_options *o, const struct kbs_args *args, int argc, char **argv,
                    const char **ret_positionals)
{
    struct kbs_arg common[KBS_ADMIN_COMMON_ARGS];
    struct kbs_args whole = *args;

    kbs_admin_common_args(o, common);
    whole.common = common;
    whole.common_count = KBS_ADMIN_COMMON_ARGS;
    int rc = kbs_args_parse(&whole, argc, argv, ret_positionals);
    if (rc == 0) {
        return KBS_CLI_GO_ON;
    }
    return rc > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
}

static int profile_member(const json_t *o, const char *name, char *out, size_t size,
                          struct kbs_error *err)
{
    struct kbs_span s;

    if (kbs_json_get_string(o, name, &s, err) != 0) {
        return -1;
    }
    if (s.len == 0 || !kbs_span_to_cstr(s, out, size)) {
        return kbs_fail(err, KBS_INPUT, "profile: \"%s\" is empty or too long", name);
    }
    return 0;
}

/* A file's name that may be missing. */
static int profile_file(const char *folder, const json_t *o, const char *name, char *out,
                        size_t size, struct kbs_error *err)
{
    char file[PATH_MAX];

    if (json_object_get(o, name) == NULL) {
        out[0] = '\0';
        return 0;
    }
    return profile_member(o, name, file, sizeof(file), err) == 0
               ? kbs_cli_join(folder, file, out, size, err)
               : -1;
}

static int profile_members(const char *folder, const json_t *o, struct kbs_admin_profile *ret,
                           struct kbs_error *err)
{
    static const char *const names[] = {"url",         "ca",         "key",      "import_key",
                                        "seal_key",    "row_key",    "head_key", "receipt_key",
                                        "client_cert", "client_key", NULL};
    char ca[PATH_MAX];
    char key[PATH_MAX];

    if (kbs_json_only(o, names, err) != 0 ||
        profile_member(o, "url", ret->url, sizeof(ret->url), err) != 0 ||
        profile_member(o, "ca", ca, sizeof(ca), err) != 0 ||
        profile_member(o, "key", key, sizeof(key), err) != 0 ||
        profile_member(o, "import_key", ret->import_key, sizeof(ret->import_key), err) != 0 ||
        (json_object_get(o, "seal_key") != NULL &&
         profile_member(o, "seal_key", ret->seal_key, sizeof(ret->seal_key), err) != 0) ||
        kbs_cli_join(folder, ca, ret->ca, sizeof(ret->ca), err) != 0 ||
        kbs_cli_join(folder, key, ret->key, sizeof(ret->key), err) != 0 ||
        profile_file(folder, o, "row_key", ret->row_key, sizeof(ret->row_key), err) != 0 ||
        profile_file(folder, o, "head_key", ret->head_key, sizeof(ret->head_key), err) != 0 ||
        profile_file(folder, o, "receipt_key", ret->receipt_key, sizeof(ret->receipt_key), err) !=
            0 ||
        profile_file(folder, o, "client_cert", ret->client_cert, sizeof(ret->client_cert), err) !=
            0 ||
        profile_file(folder, o, "client_key", ret->client_key, sizeof(ret->client_key), err) != 0) {
        return -1;
    }
    return (ret->client_cert[0] == '\0') == (ret->client_key[0] == '\0')
               ? 0
               : kbs_fail(err, KBS_INPUT,
                          "profile: \"client_cert\" and \"client_key\" go together");
}

int kbs_admin_profile_read(const char *path, struct kbs_admin_profile *ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(PROFILE_MAX_BYTES);
    KBS_AUTO_JSON o = NULL;
    char copy[PATH_MAX];
    int r = -1;

    *ret = (struct kbs_admin_profile){.url = ""};
    if (kbs_cli_join(".", path, copy, sizeof(copy), err) == 0 &&
        kbs_cli_read_file(copy, &text, err) == 0 &&
        kbs_json_parse_object(kbs_buf_span(&text), "profile", &o, err) == 0) {
        r = profile_members(dirname(copy), o, ret, err);
    }
    kbs_buf_deinit(&text);
    return r;
}

int kbs_admin_pinned_key(const char *path, struct kbs_ec_public *ret, struct kbs_error *err)
{
    struct kbs_buf pem = KBS_BUF(KBS_LIMIT_KEY_PEM_BYTES);
    int r = kbs_cli_read_file(path, &pem, err);

    if (r == 0) {
        r = kbs_jose_public_from_pem(kbs_buf_span(&pem), ret, err);
    }
    kbs_buf_deinit(&pem);
    if (r == 0 && ret->curve != KBS_CURVE_P256) {
        return kbs_fail(err, KBS_INPUT, "%.120s: the key is not on P-256", path);
    }
    return r;
}

const char *kbs_admin_profile_path(const struct kbs_admin_options *o)
{
    const char *env = getenv("KBS_ADMIN_PROFILE");

    if (o->profile != NULL) {
        return o->profile;
    }
    return env != NULL && *env != '\0' ? env : "admin/profile.json";
}

int kbs_admin_open(const struct kbs_admin_options *o, struct kbs_admin *ret, struct kbs_error *err)
{
    struct kbs_http_server server = {.https_only = true};
    KBS_AUTO_SECRET pem = NULL;

    *ret = (struct kbs_admin){.signer = NULL};
    if (kbs_admin_profile_read(kbs_admin_profile_path(o), &ret->profile, err) != 0 ||
        kbs_cli_read_secret(ret->profile.key, KBS_LIMIT_KEY_PEM_BYTES, &pem, err) != 0 ||
        kbs_cli_signer_from_pem(kbs_secret_span(pem), &ret->signer, err) != 0) {
        goto fail;
    }
    server.url = o->url != NULL ? o->url : ret->profile.url;
    server.ca_file = ret->profile.ca;
    if (ret->profile.client_cert[0] != '\0') {
        server.client_cert = ret->profile.client_cert;
        server.client_key = ret->profile.client_key;
    }
    if (kbs_http_client_new(&server, &ret->http, err) != 0) {
        goto fail;
    }
    return 0;
fail:
    kbs_admin_close(ret);
    return -1;
}

void kbs_admin_close(struct kbs_admin *a)
{
    a->http = kbs_http_client_free(a->http);
    a->signer = kbs_cli_signer_free(a->signer);
}

static int fetch_nonce(struct kbs_admin *a, struct kbs_buf *ret, struct kbs_error *err)
{
    const struct kbs_http_request q = {.method = "GET", .target = ADMIN_PREFIX "nonce"};
    struct kbs_http_response r = {.status = 0};
    KBS_AUTO_JSON o = NULL;
    struct kbs_span nonce;
    int rc = -1;

    if (kbs_http_send(a->http, &q, &r, err) == 0 && kbs_http_expect_ok(&r, "nonce", err) == 0 &&
        kbs_json_parse_object(kbs_buf_span(&r.body), "nonce", &o, err) == 0 &&
        kbs_json_get_string(o, "nonce", &nonce, err) == 0) {
        kbs_buf_put_span(ret, nonce);
        rc = kbs_buf_check(ret, "nonce", err);
    }
    kbs_http_response_deinit(&r);
    return rc;
}

/* The payload of Kbs-Signature. */
static void payload_put(struct kbs_buf *out, const char *method, const char *target,
                        struct kbs_span body, struct kbs_span nonce)
{
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_sha256(body, digest);
    kbs_buf_printf(out, "{\"m\":\"%s\",\"p\":", method);
    kbs_json_string_put(out, kbs_span_str(target));
    kbs_buf_put_str(out, ",\"b\":\"");
    kbs_base64url_put(out, kbs_span(digest, sizeof(digest)));
    kbs_buf_put_str(out, "\",\"n\":");
    kbs_json_string_put(out, nonce);
    kbs_buf_printf(out, ",\"s\":%llu,\"exp\":%lld}", (unsigned long long)kbs_clock_unix_us(),
                   (long long)(kbs_clock_unix_s() + SIGNATURE_LIFE_S));
}

static int sign_request(struct kbs_admin *a, const char *method, const char *target,
                        struct kbs_span body, struct kbs_buf *ret, struct kbs_error *err)
{
    struct kbs_buf nonce = KBS_BUF(1024);
    struct kbs_buf payload = KBS_BUF(KBS_LIMIT_HTTP_HEAD_BYTES / 2);
    int r = -1;

    if (fetch_nonce(a, &nonce, err) == 0) {
        payload_put(&payload, method, target, body, kbs_buf_span(&nonce));
        if (kbs_buf_check(&payload, "the signed request", err) == 0) {
            r = kbs_cli_signer_jws(a->signer, "kbs-admin", kbs_buf_span(&payload), ret, err);
        }
    }
    kbs_buf_deinit(&nonce);
    kbs_buf_deinit(&payload);
    return r;
}

int kbs_admin_call(struct kbs_admin *a, const char *method, const char *target,
                   struct kbs_span body, const char *what, json_t **ret, struct kbs_error *err)
{
    struct kbs_buf signature = KBS_BUF(KBS_LIMIT_HTTP_HEAD_BYTES / 2);
    struct kbs_http_response r = {.status = 0};
    int rc = -1;

    if (sign_request(a, method, target, body, &signature, err) == 0) {
        const struct kbs_http_request q = {.method = method,
                                           .target = target,
                                           .body = body,
                                           .content_type = body.len > 0 ? "application/json" : NULL,
                                           .accept = "application/json",
                                           .signature = kbs_buf_cstr(&signature)};
        if (kbs_http_send(a->http, &q, &r, err) == 0 &&
            (r.status == HTTP_ACCEPTED || kbs_http_expect_ok(&r, what, err) == 0)) {
            rc = kbs_json_parse_object(kbs_buf_span(&r.body), "answer", ret, err);
        }
    }
    kbs_http_response_deinit(&r);
    kbs_buf_deinit(&signature);
    return rc;
}

int kbs_admin_key_target(const char *path, const char *suffix, uint32_t version,
                         struct kbs_buf *out, struct kbs_error *err)
{
    kbs_buf_printf(out, ADMIN_PREFIX "keys/%s%s", path, suffix);
    if (version != 0) {
        kbs_buf_printf(out, "?version=%u", version);
    }
    return kbs_buf_check(out, "the request target", err);
}
