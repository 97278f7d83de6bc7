/*
 * What a guest makes of receipts. A receipt is worth something to it only by a key that it knows from
 * elsewhere: its init-data, which is measured, or an option. With a key in the init-data there is no
 * release without a receipt by that key, whatever the command line says.
 *
 * The receipt is compared with what the guest knows itself: its TEE key, its handshake, its nonce, what it asked
 * for, and the answer in its hand. Nothing is given out before that.
 */
#include "base/digest.h"
#include "base/encoding.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/guest.h"
#include "cli/output.h"
#include "cli/status.h"
#include "jose/write/jose.h"

int kbs_guest_receipt_prepare(const struct kbs_args *args, struct kbs_guest_options *o)
{
    struct kbs_guest_receipt *r = &o->receipt;
    struct kbs_error err = KBS_ERROR_NONE;

    r->wanted = o->config.has_receipt_key || r->key_file != NULL || r->out != NULL;
    if (r->key_file != NULL && kbs_admin_pinned_key(r->key_file, &r->key, &err) != 0) {
        return kbs_cli_fail(&err);
    }
    if (o->config.has_receipt_key) {
        if (r->key_file != NULL && !kbs_ec_public_equal(&r->key, &o->config.receipt_key)) {
            return kbs_args_usage(args, "--receipt-key is not the one in the init-data");
        }
        r->key = o->config.receipt_key;
    } else if (r->wanted && r->key_file == NULL) {
        return kbs_args_usage(args, "--receipt-out needs --receipt-key, or one in the init-data");
    }
    return KBS_CLI_OK;
}

static int says_else(const char *what, struct kbs_error *err)
{
    return kbs_fail(err, KBS_UNPROCESSABLE, "the receipt is refused: it names another %s", what);
}

static bool is_version_of(const char *kid, const char *path)
{
    struct kbs_span named;
    uint32_t version;

    return kbs_kid_split(kbs_span_str(kid), &named, &version) && kbs_span_equal_str(named, path);
}

static bool same_tee_key(const struct kbs_receipt *said, const struct kbs_tee_key *key)
{
    uint8_t thumbprint[KBS_SHA256_BYTES];
    char text[44];

    kbs_jose_tee_thumbprint(key, text);
    return kbs_base64url_get_exact(thumbprint, sizeof(thumbprint), kbs_span_str(text)) == 0 &&
           memcmp(thumbprint, said->tee_key, sizeof(thumbprint)) == 0;
}

/* What the guest knows as well as whoever signed. */
static int compare(const struct kbs_receipt *said, const struct kbs_guest_receipt_expect *expect,
                   struct kbs_error *err)
{
    static const uint8_t no_nonce[KBS_RECEIPT_NONCE_BYTES];
    const uint8_t *nonce = expect->nonce != NULL ? expect->nonce : no_nonce;

    if (!is_version_of(said->kid, expect->path) ||
        (expect->kid != NULL && strcmp(said->kid, expect->kid) != 0)) {
        return says_else("key", err);
    }
    if (expect->op != KBS_RECEIPT_OP_NONE && said->op != expect->op) {
        return says_else("operation", err);
    }
    if (!same_tee_key(said, expect->tee_key)) {
        return says_else("TEE key", err);
    }
    if (memcmp(said->word.nonce, nonce, sizeof(no_nonce)) != 0) {
        return says_else("nonce", err);
    }
    return kbs_span_equal(kbs_digest_span(&said->word.report),
                          kbs_digest_span(&expect->session->digest))
               ? 0
               : says_else("handshake", err);
}

int kbs_guest_receipt_check(const struct kbs_guest_options *o,
                            const struct kbs_http_response *response,
                            const struct kbs_guest_receipt_expect *expect, struct kbs_error *err)
{
    struct kbs_span text = kbs_span_str(response->receipt);
    struct kbs_receipt_in in;

    if (!o->receipt.wanted) {
        return 0;
    }
    if (text.len == 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the answer is refused: it has no receipt");
    }
    if (kbs_receipt_open(text, &o->receipt.key, 1, &in, err) != 0 ||
        kbs_receipt_check_answer(
            &in.said, expect->answer.len != 0 ? expect->answer : kbs_buf_span(&response->body),
            err) != 0 ||
        compare(&in.said, expect, err) != 0) {
        return -1;
    }
    return o->receipt.out != NULL ? kbs_cli_write_new(o->receipt.out, text, err) : 0;
}

int kbs_guest_receipt_of_key(const struct kbs_guest_options *o,
                             const struct kbs_http_response *response,
                             const struct kbs_guest_ask *ask, const struct kbs_guest_opened *opened,
                             const struct kbs_tee_key *tee_key,
                             const struct kbs_guest_session *session, struct kbs_error *err)
{
    const struct kbs_guest_receipt_expect expect = {.path = ask->path,
                                                    .kid = opened->kid,
                                                    .op = ask->nek.len != 0 ? KBS_RECEIPT_REWRAP
                                                                            : KBS_RECEIPT_RELEASE,
                                                    .tee_key = tee_key,
                                                    .nonce = ask->nonce,
                                                    .session = session};

    return kbs_guest_receipt_check(o, response, &expect, err);
}
