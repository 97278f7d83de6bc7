/*
 * kbs-admin secret set: a secret, sealed here to the token's seal key. The service's front and
 * judge carry and keep ciphertext only.
 *
 * Which key is the token's comes from the server, and a server that lies would get the plaintext:
 * so the thumbprint is computed here from the key received and must be the one in the profile, or
 * nothing is sealed. After a rotation of the seal key the administrator may name the new thumbprint
 * with --seal-key, until it is in the profile. The name and the next version of the secret are sealed in with it; if somebody
 * else was faster the service says so (409) and the command can be given again.
 */
#include <stdio.h>

#include "cli/admin.h"
#include "cli/admin_secret.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/status.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"
#include "seal/seal.h"

#define BODY_MAX_BYTES (KBS_LIMIT_POLICY_BYTES + 2 * KBS_LIMIT_SECRET_VALUE_BYTES)
#define PROTECTED_MAX_BYTES 2048

/* What was typed. */
struct set {
    const char *path;
    const char *file;
    const char *policy_file;
    const char *seal_key; /* thumbprint, instead of the profile's; NULL: that one */
};

static int fetch_seal_key(struct kbs_admin *a, const char *pinned, struct kbs_ec_public *ret,
                          struct kbs_error *err)
{
    KBS_AUTO_JSON answer = NULL;
    json_t *jwk = NULL;
    char thumbprint[44];

    if (kbs_admin_call(a, "GET", "/kbs/v0/admin/seal-key", KBS_SPAN_EMPTY, "seal key", &answer,
                       err) != 0 ||
        kbs_json_get_object(answer, "key", &jwk, err) != 0 ||
        kbs_jose_jwk_get(jwk, NULL, ret, err) != 0) {
        return -1;
    }
    if (ret->curve != KBS_CURVE_P256) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the seal key is not on P-256");
    }
    kbs_jose_thumbprint(ret, thumbprint);
    if (pinned != NULL && strcmp(thumbprint, pinned) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the server's seal key (%s) is not --seal-key",
                        thumbprint);
    }
    if (pinned == NULL && strcmp(thumbprint, a->profile.seal_key) != 0) {
        return kbs_fail(
            err, KBS_UNAUTHENTICATED,
            "the server's seal key (%s) is not the \"seal_key\" pinned in the profile (%s)",
            thumbprint, a->profile.seal_key[0] != '\0' ? a->profile.seal_key : "none");
    }
    return 0;
}

/* The wire kid that the secret will have: version 1, or the one after the newest. */
static int next_kid(struct kbs_admin *a, const char *path, char kid[KBS_LIMIT_KID_BYTES + 1],
                    struct kbs_error *err)
{
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_error there = KBS_ERROR_NONE;
    KBS_AUTO_JSON secret = NULL;
    int64_t version = 0;
    int r = kbs_admin_secret_target(path, &target, err);

    if (r == 0 && kbs_admin_call(a, "GET", kbs_buf_cstr(&target), KBS_SPAN_EMPTY, path, &secret,
                                 &there) == 0) {
        r = kbs_json_get_integer(secret, "version", &version, err);
    } else if (r == 0 && there.category != KBS_MISSING) {
        *err = there;
        r = -1;
    }
    kbs_buf_deinit(&target);
    if (r == 0) {
        (void)snprintf(kid, KBS_LIMIT_KID_BYTES + 1, "%s/v%lld", path, (long long)version + 1);
    }
    return r;
}

/* Appends {"protected",...} of the secret, sealed. */
static int jwe_put(struct kbs_buf *out, const struct kbs_ec_public *seal_key, const char *kid,
                   struct kbs_span plain, struct kbs_error *err)
{
    struct kbs_buf ciphertext = KBS_BUF(KBS_LIMIT_SECRET_VALUE_BYTES);
    struct kbs_buf header = KBS_BUF(PROTECTED_MAX_BYTES);
    struct kbs_sealed sealed = {.seal_version = 0};
    int r = kbs_seal(seal_key, kbs_span_str(kid), plain, &sealed, &ciphertext, err);

    if (r == 0) {
        kbs_seal_protected_put(&header, &sealed.epk, kbs_span_str(kid), seal_key);
        r = kbs_buf_check(&header, "the protected header", err);
    }
    if (r == 0) {
        const struct kbs_jose_jwe jwe = {
            .protected_text = kbs_buf_span(&header),
            .encrypted_key = kbs_span(sealed.encrypted_key, sizeof(sealed.encrypted_key)),
            .iv = kbs_span(sealed.iv, sizeof(sealed.iv)),
            .ciphertext = sealed.ciphertext,
            .tag = kbs_span(sealed.tag, sizeof(sealed.tag)),
        };
        kbs_jose_jwe_put(out, &jwe);
    }
    kbs_buf_deinit(&header);
    kbs_buf_deinit(&ciphertext);
    return r;
}

static int body_put(struct kbs_buf *out, struct kbs_admin *a, const struct set *s,
                    struct kbs_error *err)
{
    const struct kbs_admin_new_key terms = {.policy_file = s->policy_file};
    char kid[KBS_LIMIT_KID_BYTES + 1];
    struct kbs_ec_public seal_key;
    KBS_AUTO_SECRET plain = NULL;

    if (kbs_cli_read_secret(s->file, KBS_LIMIT_SECRET_VALUE_BYTES, &plain, err) != 0 ||
        fetch_seal_key(a, s->seal_key, &seal_key, err) != 0 ||
        next_kid(a, s->path, kid, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(out, "{\"jwe\":");
    if (jwe_put(out, &seal_key, kid, kbs_secret_span(plain), err) != 0 ||
        kbs_admin_new_key_put(out, &terms, err) != 0) {
        return -1;
    }
    kbs_buf_put_u8(out, '}');
    return kbs_buf_check(out, "request", err);
}

static int set(const struct kbs_admin_options *o, const struct set *s, struct kbs_error *err)
{
    struct kbs_buf body = KBS_BUF(BODY_MAX_BYTES);
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_admin admin = {.signer = NULL};
    KBS_AUTO_JSON answer = NULL;
    int r = -1;

    if (kbs_admin_secret_target(s->path, &target, err) == 0 &&
        kbs_admin_open(o, &admin, err) == 0 && body_put(&body, &admin, s, err) == 0) {
        const struct kbs_admin_key_request q = {.method = "POST",
                                                .target = kbs_buf_cstr(&target),
                                                .path = s->path,
                                                .body = kbs_buf_span(&body)};
        r = kbs_admin_send(&admin, o, &q, &answer, err);
    }
    if (r == 0 && answer != NULL) {
        r = kbs_admin_secret_show(o, answer, err);
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&body);
    kbs_buf_deinit(&target);
    return r;
}

int kbs_admin_cmd_secret_set(struct kbs_admin_options *o, int argc, char **argv)
{
    struct set s = {.file = "-"};
    const struct kbs_arg own[] = {
        {"file", KBS_ARG_TEXT, &s.file, "FILE", "the secret, as it is; without: standard input", 0,
         0},
        {"policy", KBS_ARG_TEXT, &s.policy_file, "FILE",
         "release policy; without: the one it has, or deny all", 0, 0},
        {"seal-key", KBS_ARG_TEXT, &s.seal_key, "THUMBPRINT",
         "seal to that key, instead of the one in the profile", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis =
            "kbs-admin secret set PATH [--file FILE] [--policy FILE] [--seal-key THUMBPRINT] [options]",
        .about = "Seal a secret of 1 to 131072 bytes to the token and keep it under PATH\n"
                 "(repo/type/tag), as its next version if there is one.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &s.path);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    if (!kbs_key_path_valid(kbs_span_str(s.path))) {
        return kbs_args_usage(&args, "not a path (repo/type/tag): %s", s.path);
    }
    return kbs_cli_end(set(o, &s, &err), &err);
}
