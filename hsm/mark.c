/*
 * The card key authenticates cards, and by the same HMAC what guest lanes keep: it is there in every token that
 * has a key at all, and no other role can use it. Each kind of text has a label of its own, none is the
 * beginning of another, and every part behind it has a fixed length, so a mark of one row is no mark, and no
 * card, of another.
 *
 * What a mark does not say is that its row is the newest one: an older row has a mark as good
 * (docs/threat-model.md).
 */
#include "hsm/mark.h"

#include "base/secret.h"
#include "hsm/card.h"

#define PARTS_MAX_BYTES (2 * KBS_SHA256_BYTES + KBS_NEK_BINDING_BYTES + 8 + 32)

static void put_digest(struct kbs_buf *out, struct kbs_span of)
{
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_sha256(of, digest);
    kbs_buf_put(out, digest, sizeof(digest));
}

static void put_binding(struct kbs_buf *out, const struct kbs_nek_binding *binding)
{
    uint8_t bytes[KBS_NEK_BINDING_BYTES];

    kbs_nek_binding_put(binding, bytes);
    kbs_buf_put(out, bytes, sizeof(bytes));
}

/* Takes the text. */
static int mark_make(struct kbs_token *t, struct kbs_buf *text, uint8_t ret[KBS_MARK_BYTES],
                     struct kbs_error *err)
{
    int rc = kbs_buf_check(text, "the marked row", err);

    if (rc == 0) {
        rc = kbs_card_key_mac(t, kbs_buf_span(text), ret, err);
    }
    kbs_buf_deinit(text);
    return rc;
}

int kbs_mark_provision(struct kbs_token *t, struct kbs_span kid,
                       const struct kbs_nek_binding *binding, struct kbs_span blob,
                       uint8_t ret[KBS_MARK_BYTES], struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(PARTS_MAX_BYTES);

    kbs_buf_put_str(&text, "kbs-mark-provision-v1");
    put_digest(&text, kid);
    put_binding(&text, binding);
    put_digest(&text, blob);
    return mark_make(t, &text, ret, err);
}

int kbs_mark_register(struct kbs_token *t, const struct kbs_mark_register *r,
                      uint8_t ret[KBS_MARK_BYTES], struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(PARTS_MAX_BYTES);

    kbs_buf_put_str(&text, "kbs-mark-register-v1");
    put_digest(&text, r->name);
    put_binding(&text, r->binding);
    kbs_buf_put_be32(&text, (uint32_t)(r->value >> 32));
    kbs_buf_put_be32(&text, (uint32_t)r->value);
    put_digest(&text, r->digest);
    return mark_make(t, &text, ret, err);
}

int kbs_mark_equal(struct kbs_span mark, uint8_t expected[KBS_MARK_BYTES], const char *what,
                   struct kbs_error *err)
{
    if (kbs_secret_equal(mark, kbs_span(expected, KBS_MARK_BYTES))) {
        return 0;
    }
    kbs_cleanse(expected, KBS_MARK_BYTES);
    return kbs_fail(err, KBS_DENIED, "%s is not as this token wrote it", what);
}
