/*
 * The same recipient that a release makes, addressed the other way: PartyUInfo says what road it is for,
 * PartyVInfo to which guests it is bound. Nothing of it is believed by whoever opens it: other values
 * are another wrapping key.
 */
#include "seal/nek.h"

#include "cose/write/cose.h"
#include "jose/write/jose.h"

#define INFO_MAX_BYTES 2048u

/* OtherInfo or COSE_KDF_Context. */
static void info_put(struct kbs_buf *out, const struct kbs_nek_to *to, struct kbs_span party_v)
{
    struct kbs_buf map = KBS_BUF(INFO_MAX_BYTES);

    if (to->kind == KBS_NEK_JOSE) {
        kbs_jose_other_info_put(out, KBS_SPAN_LIT(KBS_NEK_PARTY_U), party_v);
    } else {
        kbs_cose_recipient_protected_put(&map, to->kid);
        kbs_cose_kdf_context_put(out, KBS_SPAN_LIT(KBS_NEK_PARTY_U), party_v, kbs_buf_span(&map));
        out->failed = out->failed || map.failed;
    }
    kbs_buf_deinit(&map);
}

static int kek_of(const struct kbs_nek_to *to, struct kbs_span z, struct kbs_secret **ret,
                  struct kbs_error *err)
{
    struct kbs_buf info = KBS_BUF(INFO_MAX_BYTES);
    uint8_t party_v[KBS_NEK_BINDING_BYTES];
    int rc;

    kbs_nek_binding_put(to->binding, party_v);
    info_put(&info, to, kbs_span(party_v, sizeof(party_v)));
    rc = kbs_buf_check(&info, "the KDF context", err);
    if (rc == 0) {
        rc = to->kind == KBS_NEK_JOSE
                 ? kbs_agree_concat_kdf(z, kbs_buf_span(&info), ret, err)
                 : kbs_agree_hkdf(z, KBS_SPAN_EMPTY, kbs_buf_span(&info), ret, err);
    }
    kbs_buf_deinit(&info);
    return rc;
}

static int wrap_ec(const struct kbs_nek_to *to, struct kbs_span key, struct kbs_nek_blob *ret,
                   struct kbs_error *err)
{
    struct kbs_agree_key *ephemeral = NULL;
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;
    int rc = -1;

    if (kbs_agree_key_generate(to->key->ec.curve, &ephemeral, err) == 0 &&
        kbs_agree_ecdh(ephemeral, &to->key->ec, &z, err) == 0 &&
        kek_of(to, kbs_secret_span(z), &kek, err) == 0) {
        ret->epk = *kbs_agree_key_public(ephemeral);
        rc = kbs_agree_wrap(kbs_secret_span(kek), key, ret->wrapped, &ret->wrapped_len, err);
    }
    (void)kbs_agree_key_free(ephemeral);
    return rc;
}

int kbs_nek_wrap(const struct kbs_nek_to *to, struct kbs_span key, struct kbs_nek_blob *ret,
                 struct kbs_error *err)
{
    bool ec = to->key->alg == KBS_TEE_ALG_ECDH_ES_A256KW;

    if (ec != (to->kind == KBS_NEK_JOSE || to->kind == KBS_NEK_COSE) ||
        (!ec && to->kind != KBS_NEK_OAEP)) {
        return kbs_fail(err, KBS_INPUT, "nothing can be wrapped to that key in that form");
    }
    if (key.len < KBS_LIMIT_KEY_BYTES_MIN || key.len > KBS_LIMIT_KEY_BYTES_MAX ||
        key.len % 8 != 0) {
        return kbs_fail(err, KBS_INPUT, "a NEK has %d to %d bytes and a multiple of 8",
                        KBS_LIMIT_KEY_BYTES_MIN, KBS_LIMIT_KEY_BYTES_MAX);
    }
    if (ec) {
        return wrap_ec(to, key, ret, err);
    }
    if (to->binding->fields != 0) {
        return kbs_fail(err, KBS_INPUT,
                        "what is wrapped to an RSA key cannot be bound to a guest: use an EC key");
    }
    return kbs_agree_oaep_encrypt(to->key, key, ret->wrapped, &ret->wrapped_len, err);
}

void kbs_nek_blob_put(struct kbs_buf *out, const struct kbs_nek_to *to,
                      const struct kbs_nek_blob *blob)
{
    struct kbs_span wrapped = kbs_span(blob->wrapped, blob->wrapped_len);
    uint8_t binding[KBS_NEK_BINDING_BYTES];
    struct kbs_span party_v = kbs_span(binding, sizeof(binding));

    kbs_nek_binding_put(to->binding, binding);
    if (to->kind == KBS_NEK_OAEP) {
        kbs_jose_rsa_recipient_put(out, to->key->alg, to->kid, wrapped);
    } else if (to->kind == KBS_NEK_COSE) {
        kbs_cose_recipient_put(
            out, &(struct kbs_cose_recipient){.epk = &blob->epk,
                                              .kid = to->kid,
                                              .party_u = KBS_SPAN_LIT(KBS_NEK_PARTY_U),
                                              .party_v = party_v,
                                              .encrypted_key = wrapped});
    } else {
        kbs_jose_recipient_put(out,
                               &(struct kbs_jose_recipient){.epk = &blob->epk,
                                                            .kid = to->kid,
                                                            .apu = KBS_SPAN_LIT(KBS_NEK_PARTY_U),
                                                            .apv = party_v,
                                                            .encrypted_key = wrapped});
    }
}

void kbs_nek_aes_blob_put(struct kbs_buf *out, struct kbs_span kid,
                          const struct kbs_nek_binding *binding, struct kbs_span wrapped)
{
    uint8_t party_v[KBS_NEK_BINDING_BYTES];

    kbs_nek_binding_put(binding, party_v);
    kbs_jose_recipient_put(out,
                           &(struct kbs_jose_recipient){.kid = kid,
                                                        .apu = KBS_SPAN_LIT(KBS_NEK_PARTY_U),
                                                        .apv = kbs_span(party_v, sizeof(party_v)),
                                                        .encrypted_key = wrapped});
}
