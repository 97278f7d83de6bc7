/*
 * What is to be signed is hashed here and the digest signed by CKM_ECDSA, which every token has;
 * CKM_ECDSA_SHA256 is not in SoftHSM. PKCS#11 gives r || s, which is what JOSE wants.
 *
 * One signature is verified when the key is loaded: a public key object that does not belong to the
 * private key (their link is only a CKA_ID) would else be published and every token refused by
 * those who verify.
 *
 * Three keys, three kinds of input, and no two of them can be mistaken for each other: a JWS begins
 * with base64url, rows and heads with a name of their own.
 */
#include "hsm/sign.h"

#include "hsm/ckr.h"
#include "hsm/service.h"
#include "jose/write/jose.h"

#define SIGN_ES256_BYTES KBS_ES256_BYTES

static int sign_digest(const struct kbs_token *t, CK_OBJECT_HANDLE key,
                       uint8_t digest[KBS_SHA256_BYTES], uint8_t ret[SIGN_ES256_BYTES],
                       struct kbs_error *err)
{
    CK_MECHANISM mech = {CKM_ECDSA, NULL, 0};
    CK_ULONG len = SIGN_ES256_BYTES;
    CK_RV rv = t->f->C_SignInit(t->session, &mech, key);

    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_SignInit", __LINE__);
    }
    rv = t->f->C_Sign(t->session, digest, KBS_SHA256_BYTES, ret, &len);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_Sign", __LINE__);
    }
    if (len != SIGN_ES256_BYTES) {
        return kbs_fail(err, KBS_INTERNAL, "the token's P-256 signature has %lu bytes", len);
    }
    return 0;
}

int kbs_signer_load(struct kbs_signer *signer, struct kbs_token *t, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    uint8_t signature[SIGN_ES256_BYTES];
    CK_OBJECT_HANDLE private_key = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE public_key = CK_INVALID_HANDLE;

    if (kbs_service_find(t, CKO_PRIVATE_KEY, signer->purpose, 1, &private_key, err) != 0) {
        return -1;
    }
    if (signer->ready && signer->private_key == private_key) {
        return 0;
    }
    signer->ready = false;
    signer->private_key = private_key;
    kbs_sha256(KBS_SPAN_LIT("kbs-hsm start-up check"), digest);
    if (kbs_service_find(t, CKO_PUBLIC_KEY, signer->purpose, 1, &public_key, err) != 0 ||
        kbs_object_ec_point(t, public_key, KBS_CURVE_P256, &signer->public_key, err) != 0 ||
        kbs_ec_public_check(&signer->public_key, err) != 0 ||
        sign_digest(t, signer->private_key, digest, signature, err) != 0) {
        return -1;
    }
    if (!kbs_ec_verify(&signer->public_key, digest, signature)) {
        return kbs_fail(err, KBS_INTERNAL, "a signing key and its public key do not match");
    }
    kbs_jose_thumbprint(&signer->public_key, signer->thumbprint);
    signer->ready = true;
    return 0;
}

int kbs_sign_ear(struct kbs_signer *signer, struct kbs_token *t, const struct kbs_wire_sign_ear *m,
                 struct kbs_answer *ret, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    uint8_t signature[SIGN_ES256_BYTES];

    if (m->claims.len == 0) {
        return kbs_fail(err, KBS_INPUT, "there are no claims to sign");
    }
    if (kbs_signer_load(signer, t, err) != 0) {
        return -1;
    }
    kbs_jose_jws_input_put(&ret->body, "ES256", signer->thumbprint, "JWT", m->claims);
    if (kbs_buf_check(&ret->body, "the claims", err) != 0) {
        return -1;
    }
    kbs_sha256(kbs_buf_span(&ret->body), digest);
    if (sign_digest(t, signer->private_key, digest, signature, err) != 0) {
        signer->ready = false; /* if the handle went stale, the next order looks again */
        return -1;
    }
    kbs_jose_jws_signature_put(&ret->body, kbs_span(signature, sizeof(signature)));
    return kbs_buf_check(&ret->body, "the signed token", err);
}

/* SHA-256 of a name and what follows it. */
static void sign_named_digest(struct kbs_span name, struct kbs_span a, struct kbs_span b,
                              uint8_t ret[KBS_SHA256_BYTES])
{
    const struct kbs_span parts[] = {name, a, b};
    struct kbs_digest digest;

    kbs_digest(KBS_HASH_SHA256, parts, 3, &digest);
    memcpy(ret, digest.p, KBS_SHA256_BYTES);
}

void kbs_sign_row_digest(struct kbs_span content, uint8_t ret[KBS_SHA256_BYTES])
{
    sign_named_digest(KBS_SPAN_LIT("kbs-row-v1"), content, KBS_SPAN_EMPTY, ret);
}

/* r || s as the whole answer. */
static int sign_raw(struct kbs_signer *signer, struct kbs_token *t,
                    uint8_t digest[KBS_SHA256_BYTES], struct kbs_answer *ret, struct kbs_error *err)
{
    uint8_t signature[SIGN_ES256_BYTES];

    if (kbs_signer_load(signer, t, err) != 0) {
        return -1;
    }
    if (sign_digest(t, signer->private_key, digest, signature, err) != 0) {
        signer->ready = false;
        return -1;
    }
    kbs_buf_put(&ret->body, signature, sizeof(signature));
    return kbs_buf_check(&ret->body, "the signature", err);
}

int kbs_sign_row(struct kbs_signer *signer, struct kbs_token *t, const struct kbs_wire_sign_row *m,
                 struct kbs_answer *ret, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];

    if (m->content.len == 0) {
        return kbs_fail(err, KBS_INPUT, "there is no row to sign");
    }
    kbs_sign_row_digest(m->content, digest);
    return sign_raw(signer, t, digest, ret, err);
}

int kbs_sign_head(struct kbs_signer *signer, struct kbs_token *t,
                  const struct kbs_wire_sign_head *m, struct kbs_answer *ret, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    uint8_t seq[8];

    if (m->hash.len != KBS_SHA256_BYTES || m->seq == 0) {
        return kbs_fail(err, KBS_INPUT, "that is no head of a ledger");
    }
    for (size_t i = 0; i < sizeof(seq); i++) {
        seq[i] = (uint8_t)(m->seq >> (56 - 8 * i));
    }
    sign_named_digest(KBS_SPAN_LIT("kbs-head-v1"), kbs_span(seq, sizeof(seq)), m->hash, digest);
    return sign_raw(signer, t, digest, ret, err);
}
