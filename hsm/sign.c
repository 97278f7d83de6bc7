/*
 * The claims are hashed here and the digest signed by CKM_ECDSA, which every token has;
 * CKM_ECDSA_SHA256 is not in SoftHSM. PKCS#11 gives r || s, which is what JOSE wants.
 *
 * One signature is verified when the key is loaded: a public key object that does not belong to the
 * private key (their link is only a CKA_ID) would else be published and every token refused by
 * those who verify.
 */
#include "hsm/sign.h"

#include <openssl/evp.h>

#include "base/digest.h"
#include "hsm/ckr.h"
#include "hsm/keys.h"
#include "jose/write/jose.h"

#define SIGN_ES256_BYTES 64u
#define SIGN_ES256_DER_MAX_BYTES 72u

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

/* An unsigned 32-byte number as DER INTEGER: no leading zeros, but one if the top bit is set. */
static size_t sign_der_integer(const uint8_t number[32], uint8_t *out)
{
    size_t skip = 0;
    size_t pad;

    while (skip < 31 && number[skip] == 0) {
        skip++;
    }
    pad = number[skip] >> 7;
    out[0] = 2;
    out[1] = (uint8_t)(32 - skip + pad);
    out[2] = 0;
    memcpy(out + 2 + pad, number + skip, 32 - skip);
    return 2 + pad + 32 - skip;
}

static EVP_PKEY *sign_pkey_new(const struct kbs_ec_public *key)
{
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    size_t point_len = kbs_ec_point_put(key, point);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    EVP_PKEY *pkey = NULL;

    if (ctx != NULL && EVP_PKEY_paramgen_init(ctx) == 1 &&
        EVP_PKEY_CTX_set_group_name(ctx, kbs_curve_group_name(key->curve)) == 1 &&
        EVP_PKEY_paramgen(ctx, &pkey) == 1 &&
        EVP_PKEY_set1_encoded_public_key(pkey, point, point_len) != 1) {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }
    EVP_PKEY_CTX_free(ctx);
    return pkey;
}

static int sign_verify(const struct kbs_ec_public *key, const uint8_t digest[KBS_SHA256_BYTES],
                       const uint8_t signature[SIGN_ES256_BYTES], struct kbs_error *err)
{
    uint8_t der[SIGN_ES256_DER_MAX_BYTES];
    size_t len = 2;
    EVP_PKEY *pkey = sign_pkey_new(key);
    EVP_PKEY_CTX *ctx = pkey != NULL ? EVP_PKEY_CTX_new(pkey, NULL) : NULL;
    int ok;

    len += sign_der_integer(signature, der + len);
    len += sign_der_integer(signature + 32, der + len);
    der[0] = 0x30;
    der[1] = (uint8_t)(len - 2);
    ok = ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 &&
         EVP_PKEY_verify(ctx, der, len, digest, KBS_SHA256_BYTES) == 1;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    if (!ok) {
        return kbs_fail_openssl(err, KBS_INTERNAL,
                                "the sign-token key and its public key do not match");
    }
    return 0;
}

int kbs_signer_load(struct kbs_signer *signer, struct kbs_token *t, struct kbs_error *err)
{
    uint8_t cka_id[KBS_CKA_ID_BYTES];
    uint8_t digest[KBS_SHA256_BYTES];
    uint8_t signature[SIGN_ES256_BYTES];
    CK_OBJECT_HANDLE public_key = CK_INVALID_HANDLE;

    if (signer->ready) {
        return 0;
    }
    kbs_keys_service_id(KBS_PURPOSE_SIGN_TOKEN, cka_id);
    kbs_sha256(KBS_SPAN_LIT("kbs-hsm start-up check"), digest);
    if (kbs_object_find(t, CKO_PRIVATE_KEY, cka_id, &signer->private_key, err) != 0 ||
        kbs_object_find(t, CKO_PUBLIC_KEY, cka_id, &public_key, err) != 0 ||
        kbs_object_check_secret(t, signer->private_key, false, err) != 0 ||
        kbs_object_ec_point(t, public_key, KBS_CURVE_P256, &signer->public_key, err) != 0 ||
        kbs_ec_public_check(&signer->public_key, err) != 0 ||
        sign_digest(t, signer->private_key, digest, signature, err) != 0 ||
        sign_verify(&signer->public_key, digest, signature, err) != 0) {
        return -1;
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
