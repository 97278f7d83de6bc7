/*
 * kbs-admin key import: a key from elsewhere, wrapped here to the token's import key. The service's
 * front and judge carry only the wrapped form.
 *
 * Which key is the token's comes from the server, and a server that lies would get the plaintext:
 * so the thumbprint is computed here from the key received and must be the one that `init` pinned,
 * or nothing is wrapped. apv names the key's path and version: a wrapped key cannot be imported
 * under another name. After the import the key check value that the token computed must be ours.
 */
#include "agree/agree.h"
#include "base/encoding.h"
#include "base/terms.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/status.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"

#define BODY_MAX_BYTES (KBS_LIMIT_POLICY_BYTES + 4096)
#define APU "kbs-import-v1"
#define FIRST_VERSION "/v1"

static int fetch_import_key(struct kbs_admin *a, struct kbs_ec_public *ret, struct kbs_error *err)
{
    KBS_AUTO_JSON answer = NULL;
    json_t *jwk = NULL;
    char thumbprint[44];

    if (kbs_admin_call(a, "GET", "/kbs/v0/admin/import-key", KBS_SPAN_EMPTY, "import key", &answer,
                       err) != 0 ||
        kbs_json_get_object(answer, "key", &jwk, err) != 0 ||
        kbs_jose_jwk_get(jwk, NULL, ret, err) != 0) {
        return -1;
    }
    if (ret->curve != KBS_CURVE_P256) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the import key is not on P-256");
    }
    kbs_jose_thumbprint(ret, thumbprint);
    if (strcmp(thumbprint, a->profile.import_key) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "the server's import key (%s) is not the one pinned in the profile (%s)",
                        thumbprint, a->profile.import_key);
    }
    return 0;
}

static int derive_kek(const struct kbs_agree_key *ephemeral, const struct kbs_ec_public *import_key,
                      struct kbs_span apv, struct kbs_secret **ret, struct kbs_error *err)
{
    struct kbs_buf info = KBS_BUF(1024);
    KBS_AUTO_SECRET z = NULL;
    int r = -1;

    kbs_jose_other_info_put(&info, KBS_SPAN_LIT(APU), apv);
    if (kbs_buf_check(&info, "OtherInfo", err) == 0 &&
        kbs_agree_ecdh(ephemeral, import_key, &z, err) == 0) {
        r = kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), ret, err);
    }
    kbs_buf_deinit(&info);
    return r;
}

/* Appends the recipient of docs/protocol/admin-api.md. */
static int recipient_put(struct kbs_buf *out, const char *path,
                         const struct kbs_ec_public *import_key, struct kbs_span key,
                         struct kbs_error *err)
{
    uint8_t wrapped[KBS_LIMIT_KEY_BYTES_MAX + 8];
    size_t wrapped_len = 0;
    char thumbprint[44];
    char kid[KBS_LIMIT_KID_BYTES + 1];
    struct kbs_agree_key *ephemeral = NULL;
    struct kbs_jose_recipient recipient;
    KBS_AUTO_SECRET kek = NULL;
    int r = -1;

    if (strlen(path) + sizeof(FIRST_VERSION) > sizeof(kid)) {
        return kbs_fail(err, KBS_INPUT, "the path is too long");
    }
    memcpy(kid, path, strlen(path));
    memcpy(kid + strlen(path), FIRST_VERSION, sizeof(FIRST_VERSION));
    if (kbs_agree_key_generate(KBS_CURVE_P256, &ephemeral, err) != 0 ||
        derive_kek(ephemeral, import_key, kbs_span_str(kid), &kek, err) != 0 ||
        kbs_agree_wrap(kbs_secret_span(kek), key, wrapped, &wrapped_len, err) != 0) {
        goto out;
    }
    kbs_jose_thumbprint(import_key, thumbprint);
    recipient = (struct kbs_jose_recipient){.epk = kbs_agree_key_public(ephemeral),
                                            .kid = kbs_span_str(thumbprint),
                                            .apu = KBS_SPAN_LIT(APU),
                                            .apv = kbs_span_str(kid),
                                            .encrypted_key = kbs_span(wrapped, wrapped_len)};
    kbs_jose_recipient_put(out, &recipient);
    r = 0;
out:
    (void)kbs_agree_key_free(ephemeral);
    return r;
}

static int read_key(const char *file, struct kbs_secret **ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET key = NULL;

    if (kbs_cli_read_secret(file, KBS_LIMIT_KEY_BYTES_MAX, &key, err) != 0) {
        return -1;
    }
    if (kbs_secret_len(key) < KBS_LIMIT_KEY_BYTES_MIN || kbs_secret_len(key) % 8 != 0) {
        return kbs_fail(err, KBS_INPUT, "a key is %d to %d raw bytes in steps of 8; there are %zu",
                        KBS_LIMIT_KEY_BYTES_MIN, KBS_LIMIT_KEY_BYTES_MAX, kbs_secret_len(key));
    }
    *ret = key;
    key = NULL;
    return 0;
}

static int import(const struct kbs_admin_options *o, const struct kbs_admin_new_key *k,
                  const char *key_file, struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(BODY_MAX_BYTES);
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    struct kbs_ec_public import_key;
    uint8_t kcv[KBS_KCV_BYTES];
    KBS_AUTO_SECRET key = NULL;
    int r = -1;

    kbs_buf_put_u8(&body, '{');
    if (kbs_admin_new_key_put(&body, k, err) != 0 || read_key(key_file, &key, err) != 0 ||
        kbs_admin_open(o, &admin, err) != 0 || fetch_import_key(&admin, &import_key, err) != 0) {
        goto out;
    }
    kbs_buf_put_str(&body, ",\"recipient\":");
    if (recipient_put(&body, k->path, &import_key, kbs_secret_span(key), err) != 0) {
        goto out;
    }
    kbs_buf_put_u8(&body, '}');
    kbs_agree_kcv(kbs_secret_span(key), kcv);
    key = kbs_secret_free(key);
    if (kbs_buf_check(&body, "request", err) != 0 ||
        kbs_admin_key_target(k->path, "/import", &target, err) != 0) {
        goto out;
    }
    r = kbs_admin_new_key_send(&admin, o, k->path, kbs_buf_cstr(&target), kbs_buf_span(&body), kcv,
                               err);
out:
    kbs_admin_close(&admin);
    kbs_buf_deinit(&body);
    kbs_buf_deinit(&target);
    return r;
}

int kbs_admin_cmd_key_import(struct kbs_admin_options *o, int argc, char **argv)
{
    struct kbs_admin_new_key k = {.path = NULL};
    const char *key_file = NULL;
    struct kbs_arg common[KBS_ADMIN_COMMON_ARGS];
    const struct kbs_arg own[] = {
        {"key-file", KBS_ARG_TEXT, &key_file, "FILE", "the key as raw bytes; - for stdin", 0, 0},
        {"floor", KBS_ARG_TEXT, &k.floor, "LOCALITY", "token, transport (default) or worker", 0, 0},
        {"policy", KBS_ARG_TEXT, &k.policy_file, "FILE", "release policy (without: deny all)", 0,
         0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin key import PATH --key-file FILE [options]",
        .about = "Wrap a key to the token's import key and import it under PATH (repo/type/tag).",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .common = common,
        .common_count = KBS_ADMIN_COMMON_ARGS,
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    kbs_admin_common_args(o, common);
    int r = kbs_args_parse(&args, argc, argv, &k.path);
    if (r != 0) {
        return r > 0 ? KBS_CLI_OK : KBS_CLI_USAGE;
    }
    if (key_file == NULL) {
        return kbs_args_usage(&args, "--key-file is needed");
    }
    int status = kbs_admin_new_key_check(&args, &k);
    if (status == KBS_CLI_OK && (import(o, &k, key_file, &err) != 0 || kbs_cli_flush(&err) != 0)) {
        status = kbs_cli_fail(&err);
    }
    return status;
}
