/*
 * EC: ephemeral key, wrapping key, wrap. RSA: the TEE's key as a session object, wrap. Then print.
 * Nothing is parsed, and nothing but the ephemeral public key and the wrapped blob leaves the token
 * (in the transport rungs: the one-use wrapping key, see transport.c).
 *
 * The ephemeral key is fresh per release and made in the token on every rung, so that the transport
 * rungs expose no more than the wrapping key. A pool of pre-made keys would halve the latency in
 * NSS; it is left out until someone needs it.
 */
#include "hsm/recipient.h"

#include "cose/write/cose.h"
#include "hsm/jwe.h"
#include "hsm/oaep.h"
#include "jose/write/jose.h"

#define RECIPIENT_INFO_MAX_BYTES 2048u

void kbs_recipient_info_put(struct kbs_buf *out, const struct kbs_recipient_order *order)
{
    struct kbs_buf protected_map = KBS_BUF(RECIPIENT_INFO_MAX_BYTES);

    if (order->format != KBS_FORMAT_COSE) {
        kbs_jose_other_info_put(out, order->party_u, order->party_v);
        return;
    }
    kbs_cose_recipient_protected_put(&protected_map, order->kid);
    kbs_cose_kdf_context_put(out, order->party_u, order->party_v, kbs_buf_span(&protected_map));
    out->failed = out->failed || protected_map.failed;
    kbs_buf_deinit(&protected_map);
}

static int recipient_ephemeral(struct kbs_scratch *s, enum kbs_curve curve,
                               CK_OBJECT_HANDLE *ret_private, struct kbs_ec_public *ret_epk,
                               struct kbs_error *err)
{
    struct kbs_template public_key = {.n = 0};
    struct kbs_template private_key = {.n = 0};
    CK_OBJECT_HANDLE public_object = CK_INVALID_HANDLE;

    kbs_template_ec_pair(&public_key, &private_key, curve, false, KBS_USAGE_DERIVE);
    if (kbs_scratch_generate_ec(s, &public_key, &private_key, &public_object, ret_private, err) !=
        0) {
        return -1;
    }
    return kbs_object_ec_point(s->token, public_object, curve, ret_epk, err);
}

int kbs_recipient_ec(struct kbs_token *t, kbs_derive_fn *derive,
                     const struct kbs_recipient_order *order, CK_OBJECT_HANDLE key,
                     struct kbs_recipient *ret, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_buf info = KBS_BUF(RECIPIENT_INFO_MAX_BYTES);
    struct kbs_derive_input in = {
        .peer = &order->tee->ec, .salt = order->salt, .usage = KBS_USAGE_WRAP};
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
    int rc = -1;

    kbs_recipient_info_put(&info, order);
    in.info = kbs_buf_span(&info);
    if (kbs_buf_check(&info, "the KDF context", err) == 0 &&
        recipient_ephemeral(&scratch, order->tee->ec.curve, &in.private_key, &ret->epk, err) == 0 &&
        derive(&scratch, &in, &kek, err) == 0) {
        rc = kbs_object_wrap(t, kek, key, ret->wrapped, &ret->wrapped_len, err);
    }
    kbs_buf_deinit(&info);
    return rc;
}

static void recipient_rsa_template(struct kbs_template *t, const struct kbs_rsa_public *key)
{
    kbs_template_number(t, CKA_CLASS, CKO_PUBLIC_KEY);
    kbs_template_number(t, CKA_KEY_TYPE, CKK_RSA);
    kbs_template_bool(t, CKA_TOKEN, false);
    kbs_template_bool(t, CKA_PRIVATE, false);
    kbs_template_bytes(t, CKA_MODULUS, kbs_rsa_n(key));
    kbs_template_bytes(t, CKA_PUBLIC_EXPONENT, kbs_rsa_e(key));
    kbs_template_bool(t, CKA_ENCRYPT, false);
    kbs_template_bool(t, CKA_VERIFY, false);
    kbs_template_bool(t, CKA_VERIFY_RECOVER, false);
    kbs_template_bool(t, CKA_WRAP, true);
}

int kbs_recipient_rsa(struct kbs_token *t, const struct kbs_recipient_order *order,
                      CK_OBJECT_HANDLE key, struct kbs_recipient *ret, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    CK_RSA_PKCS_OAEP_PARAMS params = kbs_oaep_params(order->tee->alg);
    CK_MECHANISM mech = {CKM_RSA_PKCS_OAEP, &params, sizeof(params)};
    struct kbs_template template = {.n = 0};
    CK_OBJECT_HANDLE tee = CK_INVALID_HANDLE;

    recipient_rsa_template(&template, &order->tee->rsa);
    if (kbs_scratch_create(&scratch, &template, &tee, err) != 0 ||
        kbs_object_wrap_by(t, &mech, tee, key, ret->wrapped, sizeof(ret->wrapped),
                           &ret->wrapped_len, err) != 0) {
        return -1;
    }
    if (ret->wrapped_len != order->tee->rsa.n_len) {
        return kbs_fail(err, KBS_INTERNAL, "the token made an RSA ciphertext of %zu bytes",
                        ret->wrapped_len);
    }
    return 0;
}

void kbs_recipient_print(struct kbs_buf *out, const struct kbs_recipient_order *order,
                         const struct kbs_recipient *r)
{
    struct kbs_span wrapped = kbs_span(r->wrapped, r->wrapped_len);

    if (order->format == KBS_FORMAT_JWE) {
        kbs_jwe_print(out, order->tee->alg, r, kbs_span(r->ciphertext, r->ciphertext_len));
    } else if (order->format == KBS_FORMAT_COSE) {
        kbs_cose_recipient_put(out, &(struct kbs_cose_recipient){.epk = &r->epk,
                                                                 .kid = order->kid,
                                                                 .party_u = order->party_u,
                                                                 .party_v = order->party_v,
                                                                 .salt = order->salt,
                                                                 .encrypted_key = wrapped});
    } else if (order->tee->alg != KBS_TEE_ALG_ECDH_ES_A256KW) {
        kbs_jose_rsa_recipient_put(out, order->tee->alg, order->kid, wrapped);
    } else {
        kbs_jose_recipient_put(out, &(struct kbs_jose_recipient){.epk = &r->epk,
                                                                 .kid = order->kid,
                                                                 .apu = order->party_u,
                                                                 .apv = order->party_v,
                                                                 .encrypted_key = wrapped});
    }
}
