/*
 * A blob that comes out of the store for a guest that was provisioned before must be the one that was made
 * here: anybody can wrap a key of his own choice to a public key, for whichever guest he names, and a guest that
 * encrypted its disk by such a key would have given it to him. So the blob was marked when it was made, and
 * is opened again only with that mark.
 *
 * The mark is over the blob's text, and kbs-token reads no JSON. The order has the blob in parts, as REWRAP has
 * them; the text is printed from them by what printed it the first time, and what cannot be printed so
 * was not made here. From there it is a rewrap, but for PartyVInfo, which says to the guest that this is
 * what it was provisioned with.
 */
#include "hsm/provision.h"

#include "hsm/mark.h"
#include "hsm/nek.h"
#include "seal/nek.h"

static int parts_get(const struct kbs_wire_reprovision *m, struct kbs_tee_key *public_key,
                     struct kbs_nek_blob *blob, struct kbs_nek_binding *binding,
                     struct kbs_error *err)
{
    struct kbs_tee_key epk = {.alg = KBS_TEE_ALG_NONE};

    if (m->kind != KBS_NEK_JOSE && m->kind != KBS_NEK_AES_KW && m->kind != KBS_NEK_OAEP) {
        return kbs_fail(err, KBS_INPUT, "nothing is provisioned in that form");
    }
    if (m->wrapped.len > sizeof(blob->wrapped) || m->party_v.len != KBS_SHA256_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the wrapped NEK or the party info is malformed");
    }
    if (kbs_nek_binding_get(m->binding, binding, err) != 0 ||
        (m->public_key.len != 0 && kbs_tee_key_get(m->public_key, public_key, err) != 0) ||
        (m->epk.len != 0 && kbs_tee_key_get(m->epk, &epk, err) != 0)) {
        return -1;
    }
    blob->epk = epk.ec;
    memcpy(blob->wrapped, m->wrapped.p, m->wrapped.len);
    blob->wrapped_len = m->wrapped.len;
    return 0;
}

static void text_put(const struct kbs_wire_reprovision *m, const struct kbs_tee_key *public_key,
                     const struct kbs_nek_blob *blob, const struct kbs_nek_binding *binding,
                     struct kbs_buf *out)
{
    const struct kbs_nek_to to = {
        .key = public_key, .kind = (enum kbs_nek_kind)m->kind, .kid = m->kid, .binding = binding};

    if (m->kind == KBS_NEK_AES_KW) {
        kbs_nek_aes_blob_put(out, m->kid, binding, m->wrapped);
    } else {
        kbs_nek_blob_put(out, &to, blob);
    }
}

/* The blob's text, known by its mark. */
static int text_get(struct kbs_token *t, const struct kbs_wire_reprovision *m, struct kbs_buf *out,
                    struct kbs_error *err)
{
    struct kbs_tee_key public_key = {.alg = KBS_TEE_ALG_NONE};
    struct kbs_nek_blob blob = {.wrapped_len = 0};
    struct kbs_nek_binding binding;
    uint8_t mark[KBS_MARK_BYTES];

    if (parts_get(m, &public_key, &blob, &binding, err) != 0) {
        return -1;
    }
    text_put(m, &public_key, &blob, &binding, out);
    if (kbs_buf_check(out, "the blob", err) != 0 ||
        kbs_mark_provision(t, m->kid, &binding, kbs_buf_span(out), mark, err) != 0) {
        return -1;
    }
    return kbs_mark_equal(m->mark, mark, "the provisioned NEK", err);
}

int kbs_provision_again(struct kbs_token *t, const struct kbs_ladder *ladder,
                        struct kbs_cards *cards, const struct kbs_wire_reprovision *m,
                        struct kbs_answer *ret, struct kbs_error *err)
{
    uint8_t party_v[KBS_SHA256_BYTES];
    const struct kbs_wire_rewrap rewrap = {.order = m->order,
                                           .kid = m->kid,
                                           .card = m->card,
                                           .public_key = m->public_key,
                                           .kind = m->kind,
                                           .epk = m->epk,
                                           .binding = m->binding,
                                           .wrapped = m->wrapped,
                                           .tee_key = m->tee_key,
                                           .formats = m->formats,
                                           .floor = m->floor,
                                           .empty_context = m->empty_context,
                                           .party_v = kbs_span(party_v, sizeof(party_v)),
                                           .salt = m->salt,
                                           .pop = m->pop};
    struct kbs_buf text = KBS_BUF(KBS_NEK_BLOB_MAX_BYTES);
    int rc = text_get(t, m, &text, err);

    if (rc == 0) {
        kbs_nek_provision_v(m->party_v.p, kbs_buf_span(&text), party_v);
        kbs_buf_put_span(&ret->body, m->mark);
        kbs_buf_put_be32(&ret->body, (uint32_t)text.len);
        kbs_buf_put_span(&ret->body, kbs_buf_span(&text));
        rc = kbs_nek_rewrap(t, ladder, cards, &rewrap, ret, err);
    }
    kbs_buf_deinit(&text);
    return rc;
}
