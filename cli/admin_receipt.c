/*
 * kbs-admin receipt and receipt-key: whether a receipt holds for an answer that somebody kept, and the
 * key that receipts are signed with. Verifying is done from files alone.
 */
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/receipt.h"
#include "cli/status.h"
#include "jose/read/jose.h"

#define RECEIPT_KEY_TARGET "/kbs/v0/admin/receipt-key"

/* ---- verify --------------------------------------------------------------------------------- */

struct verify {
    const char *receipt; /* file */
    const char *answer;
    const char *key;  /* NULL: the profile's, if there is no jwks either */
    const char *jwks; /* NULL likewise */
};

static int verify_keys(const struct kbs_admin_options *o, const struct verify *v,
                       struct kbs_cli_receipt_keys *ret, struct kbs_error *err)
{
    struct kbs_admin_profile profile;

    if (v->jwks != NULL) {
        return kbs_cli_receipt_jwks(v->jwks, ret, err);
    }
    if (v->key != NULL) {
        return kbs_cli_receipt_key(v->key, ret, err);
    }
    if (kbs_admin_profile_read(kbs_admin_profile_path(o), &profile, err) != 0) {
        return -1;
    }
    return profile.receipt_key[0] != '\0'
               ? kbs_cli_receipt_key(profile.receipt_key, ret, err)
               : kbs_fail(err, KBS_INPUT, "the profile pins no receipt key: give --key or --jwks");
}

static int verify(const struct kbs_admin_options *o, const struct verify *v, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES + 2);
    struct kbs_buf answer = KBS_BUF(KBS_LIMIT_HTTP_RESPONSE_BYTES);
    struct kbs_cli_receipt_keys keys = {.count = 0};
    struct kbs_receipt_in in;
    int rc = -1;

    if (verify_keys(o, v, &keys, err) == 0 && kbs_cli_receipt_read(v->receipt, &text, err) == 0 &&
        kbs_cli_read_file(v->answer, &answer, err) == 0 &&
        kbs_receipt_open(kbs_buf_span(&text), keys.keys, keys.count, &in, err) == 0 &&
        kbs_receipt_check_answer(&in.said, kbs_buf_span(&answer), err) == 0) {
        rc = o->json ? kbs_cli_json(kbs_cli_receipt_json(&in, kbs_buf_span(&text)), err)
                     : kbs_cli_receipt_print(&in, kbs_buf_span(&text), err);
    }
    kbs_buf_deinit(&text);
    kbs_buf_deinit(&answer);
    return rc;
}

int kbs_admin_cmd_receipt_verify(struct kbs_admin_options *o, int argc, char **argv)
{
    struct verify v = {.receipt = NULL};
    const struct kbs_arg own[] = {
        {"answer", KBS_ARG_TEXT, &v.answer, "FILE", "the answer's body, byte for byte", 0, 0},
        {"key", KBS_ARG_TEXT, &v.key, "PEM", "the receipt key (default: the profile's)", 0, 0},
        {"jwks", KBS_ARG_TEXT, &v.jwks, "FILE", "or one of a JWK set", 0, 0},
    };
    const struct kbs_args args = {
        .synopsis = "kbs-admin receipt verify RECEIPT --answer FILE [--key PEM | --jwks FILE]",
        .about =
            "Verify a receipt, offline, and print what it says. It has to be by that key and of\n"
            "that answer. Status 3: it is by no such key; 1: it is of another answer.",
        .own = own,
        .own_count = sizeof(own) / sizeof(own[0]),
        .positionals_min = 1,
        .positionals_max = 1,
    };
    struct kbs_error err = KBS_ERROR_NONE;
    int status = kbs_admin_parse(o, &args, argc, argv, &v.receipt);

    if (status != KBS_CLI_GO_ON) {
        return status;
    }
    if (v.answer == NULL || (v.key != NULL && v.jwks != NULL)) {
        return kbs_args_usage(&args, v.answer == NULL ? "--answer is needed"
                                                      : "--key and --jwks exclude each other");
    }
    return kbs_cli_end(verify(o, &v, &err), &err);
}

/* ---- the key -------------------------------------------------------------------------------- */

/* The one key of the answer's set. */
static int key_of(const json_t *answer, struct kbs_ec_public *ret, struct kbs_error *err)
{
    const json_t *keys = json_object_get(answer, "keys");

    if (!json_is_array(keys)) {
        return kbs_fail(err, KBS_INPUT, "the answer has no list of keys");
    }
    if (json_array_size(keys) == 0) {
        return kbs_fail(err, KBS_MISSING,
                        "the token has no receipt key: kbs-admin receipt-key make");
    }
    return kbs_jose_jwk_get(json_array_get(keys, 0), "ES256", ret, err);
}

static int key_ask(const struct kbs_admin_options *o, const char *method, const char *to,
                   struct kbs_error *err)
{
    const struct kbs_admin_key_request q = {
        .method = method, .target = RECEIPT_KEY_TARGET, .path = "receipt key"};
    struct kbs_ec_public key;
    KBS_AUTO_JSON answer = NULL;
    int rc = kbs_admin_ask(o, &q, &answer, err);

    if (rc == 0 && answer != NULL) {
        rc = key_of(answer, &key, err);
        if (rc == 0) {
            rc = o->json ? kbs_cli_json(json_incref(answer), err)
                         : kbs_admin_public_write(&key, to, err);
        }
    }
    return rc;
}

static int key_command(struct kbs_admin_options *o, int argc, char **argv, const char *method,
                       const char *synopsis, const char *about)
{
    const char *to = "-";
    const struct kbs_arg own[] = {
        {"out", KBS_ARG_TEXT, &to, "FILE", "into this new file (default: standard output)", 0, 0},
    };
    const struct kbs_args args = {.synopsis = synopsis,
                                  .about = about,
                                  .own = own,
                                  .own_count = sizeof(own) / sizeof(own[0])};
    struct kbs_error err = KBS_ERROR_NONE;
    int status = kbs_admin_parse(o, &args, argc, argv, NULL);

    return status == KBS_CLI_GO_ON ? kbs_cli_end(key_ask(o, method, to, &err), &err) : status;
}

int kbs_admin_cmd_receipt_key_show(struct kbs_admin_options *o, int argc, char **argv)
{
    return key_command(o, argc, argv, "GET", "kbs-admin receipt-key show [--out FILE] [options]",
                       "Show the public key that receipts are verified with, as PEM.");
}

int kbs_admin_cmd_receipt_key_make(struct kbs_admin_options *o, int argc, char **argv)
{
    return key_command(o, argc, argv, "POST", "kbs-admin receipt-key make [--out FILE] [options]",
                       "Make the key that receipts are signed with, on a service whose token has\n"
                       "none yet, and show its public half as PEM.");
}
