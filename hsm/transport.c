/*
 * A token without a KDF of JOSE's or COSE's kind can still hash a key without showing it:
 * C_DigestKey.
 *
 *   JOSE  SHA-256(00000001 || Z || OtherInfo) is the wrapping key.
 *   COSE  the extract step is HMAC(salt, Z) = SHA-256(salt^opad || SHA-256(salt^ipad || Z)); the
 *         inner digest is made over Z in the token, outer digest and expand step here.
 *
 * Then the wrapping key goes back in as a sensitive object, which wraps in the token. It is in our
 * memory, on the secure heap, for one operation. Two ways in: C_CreateObject, and where a policy
 * forbids importing keys in the clear (FIPS 140 level 3), RSA-OAEP to a session pair of the token's
 * and C_UnwrapKey. The pair is made once per worker, for RSA keys take long to make, and only where
 * it is needed; the token holds its private half, which can do nothing but unwrap.
 *
 * Rejected: reading Z out (what pkcs11-provider does), and ECDH in OpenSSL with the same import
 * (faster in SoftHSM, but then Z is here as well).
 */
#include "hsm/transport.h"

#include "agree/agree.h"
#include "base/digest.h"
#include "base/random.h"
#include "hsm/ckr.h"
#include "hsm/oaep.h"

#define TRANSPORT_HMAC_BLOCK_BYTES 64u
#define TRANSPORT_RSA_BITS 2048u

static const uint8_t transport_counter_1[4] = {0, 0, 0, 1};

/* SHA-256(before || Z || after) into 32 bytes at `out`, Z staying in the token. */
static int transport_digest_z(const struct kbs_token *t, struct kbs_span before, CK_OBJECT_HANDLE z,
                              struct kbs_span after, uint8_t *out, struct kbs_error *err)
{
    CK_MECHANISM mech = {CKM_SHA256, NULL, 0};
    uint8_t ignored[KBS_SHA256_BYTES];
    CK_ULONG len = KBS_SHA256_BYTES;
    const char *function = "C_DigestInit";
    CK_RV rv = t->f->C_DigestInit(t->session, &mech);

    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, function, __LINE__);
    }
    function = "C_DigestUpdate";
    rv = t->f->C_DigestUpdate(t->session, kbs_p11_in(before.p), before.len);
    if (rv == CKR_OK) {
        function = "C_DigestKey";
        rv = t->f->C_DigestKey(t->session, z);
    }
    if (rv == CKR_OK && after.len > 0) {
        function = "C_DigestUpdate";
        rv = t->f->C_DigestUpdate(t->session, kbs_p11_in(after.p), after.len);
    }
    if (rv != CKR_OK) {
        /* Not every token ends the operation when a step of it fails. */
        (void)t->f->C_DigestFinal(t->session, ignored, &len);
        kbs_cleanse(ignored, sizeof(ignored));
        return kbs_ckr_fail(err, rv, function, __LINE__);
    }
    rv = t->f->C_DigestFinal(t->session, out, &len);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_DigestFinal", __LINE__);
    }
    if (len != KBS_SHA256_BYTES) {
        return kbs_fail(err, KBS_INTERNAL, "the token's SHA-256 has %lu bytes", len);
    }
    return 0;
}

static int transport_jose_value(struct kbs_scratch *s, const struct kbs_derive_input *in,
                                struct kbs_secret **ret, struct kbs_error *err)
{
    CK_OBJECT_HANDLE z = CK_INVALID_HANDLE;

    if (kbs_secret_new(KBS_DERIVE_KEK_BYTES, ret, err) != 0 || kbs_derive_z(s, in, &z, err) != 0) {
        return -1;
    }
    return transport_digest_z(s->token, kbs_span(transport_counter_1, sizeof(transport_counter_1)),
                              z, in->info, kbs_secret_bytes(*ret), err);
}

/* HKDF's pseudo-random key, HMAC-SHA-256(salt, Z), into 32 bytes at `prk` (RFC 5869 section 2.2).
 * */
static int transport_hkdf_extract(const struct kbs_token *t, struct kbs_span salt,
                                  CK_OBJECT_HANDLE z, uint8_t *prk, struct kbs_error *err)
{
    uint8_t ipad[TRANSPORT_HMAC_BLOCK_BYTES] = {0};
    uint8_t opad[TRANSPORT_HMAC_BLOCK_BYTES] = {0};
    struct kbs_span outer[2] = {kbs_span(opad, sizeof(opad)), kbs_span(prk, KBS_SHA256_BYTES)};
    struct kbs_digest digest;

    if (salt.len > sizeof(ipad)) {
        return kbs_fail(err, KBS_INPUT, "the salt is longer than %u bytes",
                        TRANSPORT_HMAC_BLOCK_BYTES);
    }
    if (salt.len > 0) { /* no salt means 32 zero bytes, which is what the padding gives */
        memcpy(ipad, salt.p, salt.len);
        memcpy(opad, salt.p, salt.len);
    }
    for (size_t i = 0; i < sizeof(ipad); i++) {
        ipad[i] ^= 0x36;
        opad[i] ^= 0x5c;
    }
    if (transport_digest_z(t, kbs_span(ipad, sizeof(ipad)), z, KBS_SPAN_EMPTY, prk, err) != 0) {
        return -1;
    }
    kbs_digest(KBS_HASH_SHA256, outer, 2, &digest);
    memcpy(prk, digest.p, KBS_SHA256_BYTES);
    kbs_cleanse(&digest, sizeof(digest));
    return 0;
}

static int transport_cose_value(struct kbs_scratch *s, const struct kbs_derive_input *in,
                                struct kbs_secret **ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET prk = NULL;
    struct kbs_buf info = KBS_BUF(in->info.len + 1);
    CK_OBJECT_HANDLE z = CK_INVALID_HANDLE;
    int rc = -1;

    /* One round of expand: HMAC(prk, info || 01) (RFC 5869 section 2.3). */
    kbs_buf_put_span(&info, in->info);
    kbs_buf_put_u8(&info, 1);
    if (kbs_buf_check(&info, "the KDF context", err) == 0 &&
        kbs_secret_new(KBS_SHA256_BYTES, &prk, err) == 0 &&
        kbs_secret_new(KBS_DERIVE_KEK_BYTES, ret, err) == 0 && kbs_derive_z(s, in, &z, err) == 0 &&
        transport_hkdf_extract(s->token, in->salt, z, kbs_secret_bytes(prk), err) == 0) {
        kbs_hmac_sha256(kbs_secret_span(prk), kbs_buf_span(&info), kbs_secret_bytes(*ret));
        rc = 0;
    }
    kbs_buf_deinit(&info);
    return rc;
}

/* ---- the way in ---- */

static int transport_create(struct kbs_scratch *s, const struct kbs_secret *value,
                            unsigned int usage, CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    struct kbs_template key = {.n = 0};

    kbs_template_secret_key(&key, CKK_AES, false, false, usage);
    kbs_template_bytes(&key, CKA_VALUE, kbs_secret_span(value));
    return kbs_scratch_create(s, &key, ret, err);
}

static int transport_unwrap(struct kbs_scratch *s, const struct kbs_secret *value,
                            unsigned int usage, CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    const struct kbs_transport_pair *pair = &s->token->transport;
    CK_RSA_PKCS_OAEP_PARAMS params = kbs_oaep_params(pair->public_key.alg);
    CK_MECHANISM mech = {CKM_RSA_PKCS_OAEP, &params, sizeof(params)};
    uint8_t wrapped[KBS_LIMIT_RSA_BYTES_MAX];
    size_t wrapped_len = 0;
    struct kbs_template key = {.n = 0};

    if (pair->private_key == CK_INVALID_HANDLE) {
        return kbs_fail(err, KBS_UNSUPPORTED, "there is no RSA pair to bring a wrapping key in by");
    }
    if (kbs_agree_oaep_encrypt(&pair->public_key, kbs_secret_span(value), wrapped, &wrapped_len,
                               err) != 0) {
        return -1;
    }
    /* No CKA_VALUE_LEN: what is unwrapped says it itself. */
    kbs_template_secret_key(&key, CKK_AES, false, false, usage);
    return kbs_scratch_unwrap_by(s, &mech, pair->private_key, kbs_span(wrapped, wrapped_len), &key,
                                 ret, err);
}

int kbs_transport_import(struct kbs_scratch *s, const struct kbs_secret *value, unsigned int usage,
                         CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    return s->token->transport.needed ? transport_unwrap(s, value, usage, ret, err)
                                      : transport_create(s, value, usage, ret, err);
}

int kbs_derive_jose_transport(struct kbs_scratch *s, const struct kbs_derive_input *in,
                              CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET value = NULL;

    return transport_jose_value(s, in, &value, err) == 0
               ? transport_create(s, value, in->usage, ret, err)
               : -1;
}

int kbs_derive_cose_transport(struct kbs_scratch *s, const struct kbs_derive_input *in,
                              CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET value = NULL;

    return transport_cose_value(s, in, &value, err) == 0
               ? transport_create(s, value, in->usage, ret, err)
               : -1;
}

int kbs_derive_jose_transport_unwrap(struct kbs_scratch *s, const struct kbs_derive_input *in,
                                     CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET value = NULL;

    return transport_jose_value(s, in, &value, err) == 0
               ? transport_unwrap(s, value, in->usage, ret, err)
               : -1;
}

int kbs_derive_cose_transport_unwrap(struct kbs_scratch *s, const struct kbs_derive_input *in,
                                     CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET value = NULL;

    return transport_cose_value(s, in, &value, err) == 0
               ? transport_unwrap(s, value, in->usage, ret, err)
               : -1;
}

/* ---- the pair ---- */

static int transport_pair_generate(struct kbs_scratch *s, CK_OBJECT_HANDLE *ret_public,
                                   CK_OBJECT_HANDLE *ret_private, struct kbs_error *err)
{
    struct kbs_template public_key = {.n = 0};
    struct kbs_template private_key = {.n = 0};

    kbs_template_rsa_pair(&public_key, &private_key, TRANSPORT_RSA_BITS, false);
    return kbs_scratch_generate_pair(s, CKM_RSA_PKCS_KEY_PAIR_GEN, &public_key, &private_key,
                                     ret_public, ret_private, err);
}

/* Unwraps a throw-away key by the pair as it is. */
static int transport_pair_try(struct kbs_token *t, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    KBS_AUTO_SECRET value = NULL;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;

    if (kbs_secret_new(KBS_DERIVE_KEK_BYTES, &value, err) != 0) {
        return -1;
    }
    kbs_random(kbs_secret_bytes(value), KBS_DERIVE_KEK_BYTES);
    return transport_unwrap(&scratch, value, KBS_USAGE_WRAP, &key, err);
}

int kbs_transport_pair_make(struct kbs_token *t, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_error first = KBS_ERROR_NONE;
    CK_OBJECT_HANDLE public_object = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE private_object = CK_INVALID_HANDLE;

    if (transport_pair_generate(&scratch, &public_object, &private_object, err) != 0 ||
        kbs_object_rsa_public(t, public_object, &t->transport.public_key.rsa, err) != 0) {
        return -1;
    }
    t->transport.private_key = private_object;
    t->transport.public_key.alg = KBS_TEE_ALG_RSA_OAEP_256;
    if (transport_pair_try(t, &first) != 0) {
        t->transport.public_key.alg = KBS_TEE_ALG_RSA_OAEP;
        if (transport_pair_try(t, err) != 0) {
            t->transport.private_key = CK_INVALID_HANDLE;
            return -1;
        }
    }
    kbs_scratch_keep(&scratch, private_object);
    return 0;
}

void kbs_transport_pair_destroy(struct kbs_token *t)
{
    if (t->transport.private_key != CK_INVALID_HANDLE &&
        t->f->C_DestroyObject(t->session, t->transport.private_key) != CKR_OK) {
        t->destroy_failures++;
    }
    t->transport.private_key = CK_INVALID_HANDLE;
}
