/*
 * A receipt is worth what its signer knows. What kbs-token knows itself (the key by its card, the
 * policy that the card names, the TEE key, how the key was wrapped, on which token, when, and what is
 * answered) it takes from where the order took it, and no judge can tell it otherwise. The rest is the
 * judge's word and stands apart in the receipt; of that, nonce and report data are held against
 * PartyVInfo, which the guest's key was derived with, so a judge cannot say one thing there and another
 * here.
 *
 * An order without a wish for a receipt costs nothing. With one, the key is looked for before anything is wrapped:
 * what cannot be receipted is not released.
 */
#include "hsm/receipt.h"

#include "base/clock.h"
#include "base/encoding.h"
#include "hsm/ckr.h"
#include "jose/write/jose.h"
#include "wire/card.h"
#include "wire/nek.h"

/* PartyVInfo of an answer to that request in that handshake. */
static void receipt_party_v(const struct kbs_receipt_about *about,
                            const struct kbs_receipt_word *word, uint8_t ret[KBS_SHA256_BYTES])
{
    if (about->op == KBS_RECEIPT_REWRAP) {
        kbs_nek_party_v(kbs_digest_span(&word->report), word->nonce, about->wrapped, ret);
    } else {
        kbs_party_v(kbs_digest_span(&word->report), word->nonce, ret);
    }
}

int kbs_receipt_begin(struct kbs_signer *signer, struct kbs_token *t,
                      const struct kbs_receipt_about *about, struct kbs_error *err)
{
    struct kbs_receipt_word word;
    uint8_t party_v[KBS_SHA256_BYTES];

    if (about->asked.len == 0) {
        return 0;
    }
    if (kbs_receipt_word_get(about->asked, &word, err) != 0) {
        return -1;
    }
    receipt_party_v(about, &word, party_v);
    if (about->party_v.len != 0 &&
        !kbs_span_equal(about->party_v, kbs_span(party_v, sizeof(party_v)))) {
        return kbs_fail(err, KBS_INPUT,
                        "what the order says for a receipt is not what its party info says");
    }
    if (kbs_signer_load(signer, t, err) == 0) {
        return 0;
    }
    return err->category == KBS_MISSING
               ? kbs_fail(err, KBS_UNSUPPORTED,
                          "the token has no sign-receipt key: kbs-admin receipt-key make")
               : -1;
}

/* RFC 7638, as bytes; zeros for no key. */
static int receipt_tee_key(struct kbs_span bytes, uint8_t ret[KBS_SHA256_BYTES],
                           struct kbs_error *err)
{
    struct kbs_tee_key key;
    char text[44];

    memset(ret, 0, KBS_SHA256_BYTES);
    if (bytes.len == 0) {
        return 0;
    }
    if (kbs_tee_key_get(bytes, &key, err) != 0) {
        return -1;
    }
    kbs_jose_tee_thumbprint(&key, text);
    return kbs_base64url_get_exact(ret, KBS_SHA256_BYTES, kbs_span_str(text)) == 0
               ? 0
               : kbs_fail(err, KBS_INTERNAL, "out of memory");
}

/* What the guest sees of the body: a provision's mark is the store's (docs/protocol/receipts.md). */
static struct kbs_span receipt_answer(const struct kbs_receipt_about *about,
                                      const struct kbs_answer *answer)
{
    struct kbs_span body = kbs_buf_span(&answer->body);

    return about->op == KBS_RECEIPT_PROVISION ? kbs_span_skip(body, KBS_MARK_BYTES) : body;
}

static int receipt_fill(const struct kbs_token *t, const struct kbs_receipt_about *about,
                        const struct kbs_answer *answer, struct kbs_receipt *ret,
                        struct kbs_error *err)
{
    struct kbs_card card;
    struct kbs_span mac;

    *ret = (struct kbs_receipt){.time_s = (uint64_t)kbs_clock_unix_s(),
                                .op = about->op,
                                .locality = answer->locality,
                                .format = answer->format,
                                .token_class = t->quirk->class};
    if (kbs_card_get(about->card, &card, &mac, err) != 0 ||
        receipt_tee_key(about->tee_key, ret->tee_key, err) != 0 ||
        kbs_receipt_word_get(about->asked, &ret->word, err) != 0) {
        return -1;
    }
    if (!kbs_span_to_cstr(about->kid, ret->kid, sizeof(ret->kid)) ||
        !kbs_span_to_cstr(kbs_span_str(t->serial), ret->serial, sizeof(ret->serial))) {
        return kbs_fail(err, KBS_INTERNAL, "a name is too long for a receipt");
    }
    memcpy(ret->key_id, card.key_id, sizeof(ret->key_id));
    ret->key_version = card.key_version;
    memcpy(ret->policy, card.policy, sizeof(ret->policy));
    kbs_sha256(about->card, ret->card);
    kbs_sha256(receipt_answer(about, answer), ret->answer);
    return 0;
}

int kbs_receipt_end(struct kbs_signer *signer, struct kbs_token *t,
                    const struct kbs_receipt_about *about, struct kbs_answer *ret,
                    struct kbs_error *err)
{
    enum kbs_receipt_form form = kbs_receipt_form_of(ret->format);
    struct kbs_buf input = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES);
    struct kbs_receipt receipt;
    uint8_t signature[KBS_ES256_BYTES];
    int rc = -1;

    if (about->asked.len == 0) {
        return 0;
    }
    if (receipt_fill(t, about, ret, &receipt, err) != 0) {
        return -1;
    }
    kbs_receipt_input_put(&input, form, signer->thumbprint, &receipt);
    if (kbs_buf_check(&input, "the receipt", err) == 0 &&
        kbs_sign_es256(signer, t, kbs_buf_span(&input), signature, err) == 0) {
        kbs_receipt_text_put(&ret->receipt, form, signer->thumbprint, &receipt,
                             kbs_span(signature, sizeof(signature)));
        rc = kbs_buf_check(&ret->receipt, "the receipt", err);
    }
    kbs_buf_deinit(&input);
    return rc;
}
