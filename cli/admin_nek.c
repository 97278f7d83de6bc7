/*
 * kbs-admin nek: keys that guests keep wrapped to a key of the token (docs/protocol/nek.md). Making a blob
 * needs that key's public half and no service; opening one needs the service, and a guest.
 */
#include "base/encoding.h"
#include "base/random.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/nek.h"
#include "cli/output.h"
#include "cli/status.h"
#include "jose/write/jose.h"
#include "seal/nek.h"
#include "wire/card.h"

#define BLOB_MAX_BYTES KBS_NEK_BLOB_MAX_BYTES
#define PUBLIC_MAX_BYTES 8192
#define NEK_BYTES_DEFAULT 32

/* ---- public --------------------------------------------------------------------------------- */

/* The public half that a KEY shows is the one that its card, which the row's signature covers, names. */
static int public_of(const json_t *key, struct kbs_tee_key *ret, struct kbs_error *err)
{
    struct kbs_buf card_bytes = KBS_BUF(KBS_CARD_BYTES);
    uint8_t encoded[KBS_TEE_KEY_MAX_BYTES];
    uint8_t digest[KBS_SHA256_BYTES];
    struct kbs_span text = KBS_SPAN_EMPTY;
    struct kbs_span mac;
    struct kbs_card card;
    json_t *row = NULL;
    int rc = -1;

    if (kbs_nek_jwk_get(key, "public_key", ret, err) == 0 &&
        kbs_json_get_object(key, "row", &row, err) == 0 &&
        kbs_json_get_string(row, "card", &text, err) == 0) {
        kbs_sha256(kbs_span(encoded, kbs_tee_key_put(ret, encoded)), digest);
        rc = kbs_base64url_get(&card_bytes, text) == 0 &&
                     kbs_card_get(kbs_buf_span(&card_bytes), &card, &mac, err) == 0 &&
                     memcmp(digest, card.blob, sizeof(digest)) == 0
                 ? 0
                 : kbs_fail(err, KBS_UNPROCESSABLE,
                            "the public key is not the one of the key's card: do not trust it");
    }
    kbs_buf_deinit(&card_bytes);
    return rc;
}

static int public_put(const json_t *key, const struct kbs_tee_key *public_key, bool pem,
                      struct kbs_buf *out, struct kbs_error *err)
{
    struct kbs_span kid = KBS_SPAN_EMPTY;

    if (pem) {
        return kbs_agree_public_to_pem(public_key, out, err);
    }
    if (kbs_json_get_string(key, "kid", &kid, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(out, "{\"kid\":");
    kbs_json_string_put(out, kid);
    kbs_buf_printf(out, ",\"purpose\":\"nek\",\"binding_required\":%s,\"jwk\":",
                   json_is_true(json_object_get(key, "binding_required")) ? "true" : "false");
    kbs_jose_tee_jwk_put(out, public_key);
    kbs_buf_put_str(out, "}\n");
    return kbs_buf_check(out, "the public key", err);
}

static int public_get(const struct kbs_admin_options *o, const char *path, uint32_t version,
                      bool pem, const char *to, struct kbs_error *err)
{
    struct kbs_admin admin = {.signer = NULL};
    struct kbs_buf target = KBS_BUF(KBS_LIMIT_HTTP_TARGET_BYTES);
    struct kbs_buf out = KBS_BUF(PUBLIC_MAX_BYTES);
    struct kbs_tee_key public_key;
    KBS_AUTO_JSON key = NULL;
    int r = -1;

    if (kbs_admin_key_target(path, "", version, &target, err) == 0 &&
        kbs_admin_open(o, &admin, err) == 0 &&
        kbs_admin_call(&admin, "GET", kbs_buf_cstr(&target), KBS_SPAN_EMPTY, path, &key, err) ==
            0) {
        r = kbs_admin_row_check(&admin.profile, path, version, key, err);
    }
    if (r == KBS_ADMIN_ROW_UNPINNED) {
        r = kbs_fail(err, KBS_UNPROCESSABLE,
                     "the profile pins no row key: whose key this is cannot be told");
    }
    if (r == 0 && (public_of(key, &public_key, err) != 0 ||
                   public_put(key, &public_key, pem, &out, err) != 0)) {
        r = -1;
    }
    if (r == 0) {
        r = kbs_cli_write_new(to, kbs_buf_span(&out), err);
    }
    kbs_admin_close(&admin);
    kbs_buf_deinit(&target);
    kbs_buf_deinit(&out);
    return r;
}

int kbs_admin_cmd_nek_public(struct kbs_admin_options *o, int argc, char **argv)
{
    const char *path = NULL;
    const char *to = "-";
    uint32_t version = 0;
    bool pem = false;
    const struct kbs_arg own[] = {
        {"version", KBS_ARG_NUMBER, &version, "N", "this version (default: the latest)", 1,
         UINT32_MAX},
        {"pem", KBS_ARG_FLAG, &pem, NULL, "as PEM, for other programs", 0, 0},
        {"out", KBS_ARG_TEXT, &to, "FILE", "into this new file (default: standard output)", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin nek public PATH [--pem] [--out FILE] [options]",
        .about = "Get the public half of the key of purpose nek at PATH, if the pinned row key\n"
                 "vouches for it. `nek new` and `nek wrap` take the file.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &path);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    if (!kbs_key_path_valid(kbs_span_str(path))) {
        return kbs_args_usage(&args, "not a key path (repo/type/tag): %s", path);
    }
    return kbs_cli_end(public_get(o, path, version, pem, to, &err), &err);
}

/* ---- new, wrap ------------------------------------------------------------------------------ */

struct wrap {
    const char *to;
    const char *bind;
    const char *in; /* NULL: a new key */
    const char *key_out;
    const char *out;
    uint32_t bytes;
    bool cose;
};

static int key_get(const struct wrap *w, struct kbs_secret **ret, struct kbs_error *err)
{
    if (w->in != NULL) {
        return kbs_cli_read_secret(w->in, KBS_LIMIT_KEY_BYTES_MAX, ret, err);
    }
    if (kbs_secret_new(w->bytes, ret, err) != 0) {
        return -1;
    }
    kbs_random(kbs_secret_bytes(*ret), w->bytes);
    return w->key_out == NULL ? 0 : kbs_cli_write_new(w->key_out, kbs_secret_span(*ret), err);
}

static int wrap_run(const struct wrap *w, struct kbs_error *err)
{
    struct kbs_buf out = KBS_BUF(BLOB_MAX_BYTES);
    struct kbs_nek_public public_key = {.kid = ""};
    struct kbs_nek_binding binding = {.fields = 0};
    struct kbs_nek_to to = {.key = &public_key.key, .binding = &binding};
    struct kbs_nek_blob blob;
    KBS_AUTO_SECRET key = NULL;
    int r = -1;

    if (kbs_nek_public_read(w->to, &public_key, err) != 0 ||
        kbs_nek_binding_from(w->bind, &binding, err) != 0) {
        return -1;
    }
    if (public_key.binding_required && binding.fields == 0) {
        return kbs_fail(err, KBS_INPUT, "that key opens only what is bound to a guest: --bind");
    }
    to.kid = kbs_span_str(public_key.kid);
    to.kind = public_key.key.alg != KBS_TEE_ALG_ECDH_ES_A256KW ? KBS_NEK_OAEP
              : w->cose                                        ? KBS_NEK_COSE
                                                               : KBS_NEK_JOSE;
    if (key_get(w, &key, err) == 0 && kbs_nek_wrap(&to, kbs_secret_span(key), &blob, err) == 0) {
        kbs_nek_blob_put(&out, &to, &blob);
        r = kbs_buf_check(&out, "the blob", err);
    }
    if (r == 0) {
        r = kbs_cli_write_new(w->out, kbs_buf_span(&out), err);
    }
    kbs_buf_deinit(&out);
    return r;
}

static int wrap_cmd(struct kbs_admin_options *o, bool fresh, int argc, char **argv)
{
    struct wrap w = {.bind = "", .out = "-", .bytes = NEK_BYTES_DEFAULT};
    const struct kbs_arg own[] = {
        {"to", KBS_ARG_TEXT, &w.to, "FILE", "the public key, as `nek public` writes it", 0, 0},
        {"bind", KBS_ARG_TEXT, &w.bind, "FIELD=HEX,...",
         "whom it is for: init-data, host-data, measurement, id-block, chip-id", 0, 0},
        {"cose", KBS_ARG_FLAG, &w.cose, NULL, "a COSE recipient, not a JOSE one", 0, 0},
        {"out", KBS_ARG_TEXT, &w.out, "FILE", "the blob (new file; default: standard output)", 0,
         0},
        {fresh ? "key-out" : "in", KBS_ARG_TEXT, fresh ? &w.key_out : &w.in, "FILE",
         fresh ? "keep the key itself, too (new file)" : "the key to wrap; - for standard input", 0,
         0},
        {"bytes", KBS_ARG_NUMBER, &w.bytes, "N", "length of the new key (32)",
         KBS_LIMIT_KEY_BYTES_MIN, KBS_LIMIT_KEY_BYTES_MAX},
    };
    const struct kbs_args args = {
        .synopsis = fresh ? "kbs-admin nek new --to FILE [--bind ...] [--out FILE] [options]"
                          : "kbs-admin nek wrap --to FILE --in FILE [--bind ...] [--out FILE]",
        .about = fresh ? "Make a key for a guest and wrap it to a key of the token. Asks nobody."
                       : "Wrap a key that is there to a key of the token. Asks nobody.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]) - (fresh ? 0 : 1),
    };
    struct kbs_error err = KBS_ERROR_NONE;
    const char *none = NULL;

    int r = kbs_admin_parse(o, &args, argc, argv, &none);
    if (r != KBS_CLI_GO_ON) {
        return r;
    }
    if (w.to == NULL || (!fresh && w.in == NULL)) {
        return kbs_args_usage(&args, fresh ? "--to is needed" : "--to and --in are needed");
    }
    return kbs_cli_end(wrap_run(&w, &err), &err);
}

int kbs_admin_cmd_nek_new(struct kbs_admin_options *o, int argc, char **argv)
{
    return wrap_cmd(o, true, argc, argv);
}

int kbs_admin_cmd_nek_wrap(struct kbs_admin_options *o, int argc, char **argv)
{
    return wrap_cmd(o, false, argc, argv);
}

/* ---- inspect -------------------------------------------------------------------------------- */

static const char *how(const struct kbs_nek_in *in)
{
    switch (in->kind) {
    case KBS_NEK_JOSE:
        return "JOSE, ECDH-ES+A256KW";
    case KBS_NEK_COSE:
        return "COSE, ECDH-ES+A256KW (-31)";
    case KBS_NEK_AES_KW:
        return "A256KW under a key derived in the token";
    default:
        return kbs_tee_alg_name(in->oaep);
    }
}

static int inspect_json(const struct kbs_nek_in *in, struct kbs_error *err)
{
    KBS_AUTO_JSON fields = json_array();
    KBS_AUTO_JSON hosts = json_array();
    char digest[2 * KBS_SHA256_BYTES + 1];

    kbs_hex_cstr(kbs_span(in->said.digest, sizeof(in->said.digest)), digest, sizeof(digest));
    for (unsigned int i = 0; i < KBS_NEK_FIELD_COUNT; i++) {
        enum kbs_nek_field f = (enum kbs_nek_field)i;

        if ((in->said.fields & 1u << i) != 0 &&
            (json_array_append_new(fields, json_string(kbs_nek_field_name(f))) != 0 ||
             (kbs_nek_field_is_hosts(f) &&
              json_array_append_new(hosts, json_string(kbs_nek_field_name(f))) != 0))) {
            return kbs_fail(err, KBS_INTERNAL, "out of memory");
        }
    }
    return kbs_cli_json(json_pack("{s:s, s:s, s:O, s:O, s:s*}", "kid", in->kid, "wrapped_by",
                                  how(in), "bound_to", fields, "chosen_by_host", hosts, "binding",
                                  in->said.fields != 0 ? digest : NULL),
                        err);
}

static int inspect(const struct kbs_admin_options *o, const char *file, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(BLOB_MAX_BYTES);
    struct kbs_nek_in in;
    int r = kbs_nek_file_read(file, &text, &in, err);

    if (r == 0 && o->json) {
        r = inspect_json(&in, err);
    } else if (r == 0) {
        kbs_cli_field("key of the token", "%s", in.kid);
        kbs_cli_field("wrapped by", "%s", how(&in));
        if (in.said.fields == 0) {
            kbs_cli_field("bound to", "nobody: whoever the key's policy allows may have it opened");
        }
        for (unsigned int i = 0; i < KBS_NEK_FIELD_COUNT; i++) {
            enum kbs_nek_field f = (enum kbs_nek_field)i;

            if ((in.said.fields & 1u << i) != 0) {
                kbs_cli_field("bound to", "%s%s", kbs_nek_field_name(f),
                              kbs_nek_field_is_hosts(f) ? " (whoever starts the guest chooses it)"
                                                        : "");
            }
        }
    }
    kbs_nek_in_deinit(&in);
    kbs_buf_deinit(&text);
    return r;
}

int kbs_admin_cmd_nek_inspect(struct kbs_admin_options *o, int argc, char **argv)
{
    const char *file = NULL;
    const struct kbs_args args = {
        .synopsis = "kbs-admin nek inspect FILE [options]",
        .about =
            "Show what a blob says of itself: the key that it is wrapped to, and to which fields\n"
            "of a guest's evidence it is bound.",
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;

    int r = kbs_admin_parse(o, &args, argc, argv, &file);
    return r != KBS_CLI_GO_ON ? r : kbs_cli_end(inspect(o, file, &err), &err);
}
