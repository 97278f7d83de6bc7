/*
 * kbs-admin key import: a key from elsewhere, wrapped here to the token's import key. The service's
 * front and judge carry only the wrapped form.
 *
 * Which key is the token's comes from the server, and a server that lies would get the plaintext:
 * so the thumbprint is computed here from the key received and must be the one that `init` pinned,
 * or nothing is wrapped. apv names the key's path and version: a wrapped key cannot be imported
 * under another name. After the import the key check value that the token computed must be ours.
 */
#include <stdio.h>

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
static int recipient_put(struct kbs_buf *out, const char *kid,
                         const struct kbs_ec_public *import_key, struct kbs_span key,
                         struct kbs_error *err)
{
    uint8_t wrapped[KBS_LIMIT_KEY_BYTES_MAX + 8];
    size_t wrapped_len = 0;
    char thumbprint[44];
    struct kbs_agree_key *ephemeral = NULL;
    struct kbs_jose_recipient recipient;
    KBS_AUTO_SECRET kek = NULL;
    int r = -1;

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

/* What was typed. */
struct import {
    struct kbs_admin_new_key k;
    const char *key_file;
    bool rotate;
};

/* The wire kid that the key will have: version 1, or the one after the newest, destroyed or not. */
static int next_kid(struct kbs_admin *a, const struct import *in, char kid[KBS_LIMIT_KID_BYTES + 1],
                    struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    KBS_AUTO_JSON key = NULL;
    int64_t version = 0;
    int r = 0;

    if (in->rotate) {
        r = kbs_admin_key_target(in->k.path, "", 0, &target, err);
        if (r == 0) {
            r = kbs_admin_call(a, "GET", kbs_buf_cstr(&target), KBS_SPAN_EMPTY, in->k.path, &key,
                               err);
        }
        if (r == 0) {
            r = kbs_json_get_integer(key, "newest", &version, err);
        }
    }
    kbs_buf_deinit(&target);
    if (r == 0) {
        (void)snprintf(kid, KBS_LIMIT_KID_BYTES + 1, "%s/v%lld", in->k.path,
                       (long long)version + 1);
    }
    return r;
}

/* The key in the token has the check value of the key that was sent. */
static int check_kcv(const json_t *answer, struct kbs_span key, struct kbs_error *err)
{
    struct kbs_span text;
    struct kbs_span mac;
    uint8_t ours[KBS_KCV_BYTES];
    uint8_t theirs[KBS_KCV_BYTES];

    if (kbs_json_get_string(answer, "kcv", &text, err) != 0 ||
        kbs_json_get_string(answer, "kcv_mac", &mac, err) != 0) {
        return -1;
    }
    if (kbs_span_equal_str(mac, kbs_kcv_mac_name(KBS_KCV_AES_CMAC))) {
        if (kbs_agree_kcv_cmac(key, ours, err) != 0) {
            return -1;
        }
    } else {
        kbs_agree_kcv(key, ours);
    }
    if (kbs_hex_get_exact(theirs, sizeof(theirs), text) != 0 ||
        memcmp(theirs, ours, sizeof(theirs)) != 0) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "the key is there, but its key check value is not that of the key sent");
    }
    return 0;
}

static int import_body_put(struct kbs_buf *out, struct kbs_admin *admin, const struct import *in,
                           struct kbs_span key, struct kbs_error *err)
{
    struct kbs_ec_public import_key;
    char kid[KBS_LIMIT_KID_BYTES + 1];

    if (fetch_import_key(admin, &import_key, err) != 0 || next_kid(admin, in, kid, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(out, "{\"recipient\":");
    if (recipient_put(out, kid, &import_key, key, err) != 0 ||
        kbs_admin_new_key_put(out, &in->k, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(out, in->rotate ? ",\"rotate\":true}" : "}");
    return kbs_buf_check(out, "request", err);
}

static int import_send(const struct kbs_admin_options *o, const struct import *in,
                       struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(BODY_MAX_BYTES);
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    KBS_AUTO_SECRET key = NULL;
    KBS_AUTO_JSON answer = NULL;
    int r = -1;

    if (read_key(in->key_file, &key, err) == 0 && kbs_admin_open(o, &admin, err) == 0 &&
        import_body_put(&body, &admin, in, kbs_secret_span(key), err) == 0 &&
        kbs_admin_key_target(in->k.path, "/import", 0, &target, err) == 0) {
        const struct kbs_admin_key_request q = {.method = "POST",
                                                .target = kbs_buf_cstr(&target),
                                                .path = in->k.path,
                                                .body = kbs_buf_span(&body),
                                                .must_be_free = !in->rotate};
        r = kbs_admin_send(&admin, o, &q, &answer, err);
    }
    if (r == 0 && answer != NULL) {
        r = check_kcv(answer, kbs_secret_span(key), err);
        r = r == 0 ? kbs_admin_key_show(o, answer, err) : -1;
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&body);
    kbs_buf_deinit(&target);
    return r;
}

int kbs_admin_cmd_key_import(struct kbs_admin_options *o, int argc, char **argv)
{
    struct import in = {.key_file = NULL};
    struct kbs_arg own[3 + KBS_ADMIN_NEW_KEY_ARGS] = {
        {"key-file", KBS_ARG_TEXT, &in.key_file, "FILE", "the key as raw bytes; - for stdin", 0, 0},
        {"alg", KBS_ARG_TEXT, &in.k.alg, "ALG", "AES (default) or generic", 0, 0},
        {"rotate", KBS_ARG_FLAG, &in.rotate, NULL, "as the next version of a key that is there", 0,
         0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin key import PATH --key-file FILE [options]",
        .about = "Wrap a key to the token's import key and import it under PATH (repo/type/tag).",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    kbs_admin_new_key_args(&in.k, own + 3);
    int r = kbs_admin_parse(o, &args, argc, argv, &in.k.path);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    if (in.key_file == NULL) {
        return kbs_args_usage(&args, "--key-file is needed");
    }
    int status = kbs_admin_new_key_check(&args, &in.k);
    if (status == KBS_CLI_OK && (import_send(o, &in, &err) != 0 || kbs_cli_flush(&err) != 0)) {
        status = kbs_cli_fail(&err);
    }
    return status;
}
