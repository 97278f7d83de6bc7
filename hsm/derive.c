/*
 * No packaged token has one mechanism for what JOSE or COSE want, so each rung builds it from older
 * parts. With || for concatenation and Z for the shared secret:
 *
 *   COSE-HKDF   HKDF_DERIVE does extract and expand at once.
 *   JOSE-chain  Concat KDF with one round is SHA-256(00000001 || Z || OtherInfo):
 *               CONCATENATE_DATA_AND_BASE, CONCATENATE_BASE_AND_DATA, SHA256_KEY_DERIVATION, every
 *               step from key object to key object.
 *   transport   C_DigestKey hashes Z without showing it. JOSE: the digest above is the wrapping
 *               key. COSE: the extract step is HMAC(salt, Z) = SHA-256(salt^opad ||
 *               SHA-256(salt^ipad || Z)); the inner digest is made over Z in the token, outer
 *               digest and expand step here. Then the wrapping key is imported as a sensitive
 *               object, which wraps in the token. It is in our memory, on the secure heap, for one
 *               operation.
 *
 * Z is always derived by CKD_NULL with its full length: tokens disagree on which end to cut.
 * Rejected: reading Z out (what pkcs11-provider does), and ECDH in OpenSSL with the same import
 * (faster in SoftHSM, but then Z is here as well).
 */
#include "hsm/derive.h"

#include "base/digest.h"
#include "hsm/ckr.h"

#define DERIVE_KEK_BYTES 32u
#define DERIVE_HMAC_BLOCK_BYTES 64u

static const uint8_t derive_counter_1[4] = {0, 0, 0, 1};

/* Z as a key object that may only be derived from (or digested). */
static int derive_z(struct kbs_scratch *s, const struct kbs_derive_input *in, CK_OBJECT_HANDLE *ret,
                    struct kbs_error *err)
{
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    /* By position: the member names differ between the p11-kit versions of Debian 12 and 13. */
    CK_ECDH1_DERIVE_PARAMS params = {CKD_NULL, 0, NULL, kbs_ec_point_put(in->peer, point), point};
    CK_MECHANISM mech = {CKM_ECDH1_DERIVE, &params, sizeof(params)};
    struct kbs_template z = {.n = 0};

    kbs_template_secret_key(&z, CKK_GENERIC_SECRET, false, false, KBS_USAGE_DERIVE);
    kbs_template_number(&z, CKA_VALUE_LEN, kbs_curve_field_bytes(in->peer->curve));
    if (kbs_scratch_derive(s, &mech, in->private_key, &z, ret, err) != 0) {
        return -1;
    }
    return kbs_object_check_secret(s->token, *ret, false, err);
}

static void derive_kek_template(struct kbs_template *t, unsigned int usage)
{
    kbs_template_secret_key(t, CKK_AES, false, false, usage);
}

int kbs_derive_cose_hkdf(struct kbs_scratch *s, const struct kbs_derive_input *in,
                         CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    /* No salt means 32 zero bytes (RFC 5869 section 2.2). They are given as data, so that releases
     * with and without salt are one road, which the probe has tried. */
    static const uint8_t zeros[KBS_SHA256_BYTES];
    struct kbs_span salt = in->salt.len > 0 ? in->salt : kbs_span(zeros, sizeof(zeros));
    CK_HKDF_PARAMS params = {
        .bExtract = CK_TRUE,
        .bExpand = CK_TRUE,
        .prfHashMechanism = CKM_SHA256,
        .ulSaltType = CKF_HKDF_SALT_DATA,
        .pSalt = kbs_p11_in(salt.p),
        .ulSaltLen = salt.len,
        .hSaltKey = CK_INVALID_HANDLE,
        .pInfo = kbs_p11_in(in->info.p),
        .ulInfoLen = in->info.len,
    };
    CK_MECHANISM mech = {CKM_HKDF_DERIVE, &params, sizeof(params)};
    struct kbs_template kek = {.n = 0};
    CK_OBJECT_HANDLE z = CK_INVALID_HANDLE;

    derive_kek_template(&kek, in->usage);
    kbs_template_number(&kek, CKA_VALUE_LEN, DERIVE_KEK_BYTES);
    if (derive_z(s, in, &z, err) != 0 || kbs_scratch_derive(s, &mech, z, &kek, ret, err) != 0) {
        return -1;
    }
    return kbs_object_check_secret(s->token, *ret, false, err);
}

/* One concatenation: a longer generic secret. */
static int derive_concatenate(struct kbs_scratch *s, CK_MECHANISM_TYPE mechanism,
                              struct kbs_span data, size_t len, CK_OBJECT_HANDLE base,
                              CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    CK_KEY_DERIVATION_STRING_DATA string = {kbs_p11_in(data.p), data.len};
    CK_MECHANISM mech = {mechanism, &string, sizeof(string)};
    struct kbs_template key = {.n = 0};

    kbs_template_secret_key(&key, CKK_GENERIC_SECRET, false, false, KBS_USAGE_DERIVE);
    kbs_template_number(&key, CKA_VALUE_LEN, len);
    if (kbs_scratch_derive(s, &mech, base, &key, ret, err) != 0) {
        return -1;
    }
    return kbs_object_check_secret(s->token, *ret, false, err);
}

int kbs_derive_jose_chain(struct kbs_scratch *s, const struct kbs_derive_input *in,
                          CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    CK_MECHANISM digest = {CKM_SHA256_KEY_DERIVATION, NULL, 0};
    size_t len = sizeof(derive_counter_1) + kbs_curve_field_bytes(in->peer->curve);
    struct kbs_template kek = {.n = 0};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;

    derive_kek_template(&kek, in->usage);
    kbs_template_number(&kek, CKA_VALUE_LEN, DERIVE_KEK_BYTES);
    if (derive_z(s, in, &key, err) != 0 ||
        derive_concatenate(s, CKM_CONCATENATE_DATA_AND_BASE,
                           kbs_span(derive_counter_1, sizeof(derive_counter_1)), len, key, &key,
                           err) != 0 ||
        derive_concatenate(s, CKM_CONCATENATE_BASE_AND_DATA, in->info, len + in->info.len, key,
                           &key, err) != 0 ||
        kbs_scratch_derive(s, &digest, key, &kek, ret, err) != 0) {
        return -1;
    }
    return kbs_object_check_secret(s->token, *ret, false, err);
}

/* SHA-256(before || Z || after) into 32 bytes at `out`, Z staying in the token. */
static int derive_digest_z(const struct kbs_token *t, struct kbs_span before, CK_OBJECT_HANDLE z,
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

static int derive_import_kek(struct kbs_scratch *s, const struct kbs_secret *value,
                             unsigned int usage, CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    struct kbs_template kek = {.n = 0};

    derive_kek_template(&kek, usage);
    kbs_template_bytes(&kek, CKA_VALUE, kbs_secret_span(value));
    if (kbs_scratch_create(s, &kek, ret, err) != 0) {
        return -1;
    }
    return kbs_object_check_secret(s->token, *ret, false, err);
}

int kbs_derive_jose_transport(struct kbs_scratch *s, const struct kbs_derive_input *in,
                              CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET value = NULL;
    CK_OBJECT_HANDLE z = CK_INVALID_HANDLE;

    if (kbs_secret_new(DERIVE_KEK_BYTES, &value, err) != 0 || derive_z(s, in, &z, err) != 0 ||
        derive_digest_z(s->token, kbs_span(derive_counter_1, sizeof(derive_counter_1)), z, in->info,
                        kbs_secret_bytes(value), err) != 0) {
        return -1;
    }
    return derive_import_kek(s, value, in->usage, ret, err);
}

/* HKDF's pseudo-random key, HMAC-SHA-256(salt, Z), into 32 bytes at `prk` (RFC 5869 section 2.2).
 * */
static int derive_hkdf_extract(const struct kbs_token *t, struct kbs_span salt, CK_OBJECT_HANDLE z,
                               uint8_t *prk, struct kbs_error *err)
{
    uint8_t ipad[DERIVE_HMAC_BLOCK_BYTES] = {0};
    uint8_t opad[DERIVE_HMAC_BLOCK_BYTES] = {0};
    struct kbs_span outer[2] = {kbs_span(opad, sizeof(opad)), kbs_span(prk, KBS_SHA256_BYTES)};
    struct kbs_digest digest;

    if (salt.len > sizeof(ipad)) {
        return kbs_fail(err, KBS_INPUT, "the salt is longer than %u bytes",
                        DERIVE_HMAC_BLOCK_BYTES);
    }
    if (salt.len > 0) { /* no salt means 32 zero bytes, which is what the padding gives */
        memcpy(ipad, salt.p, salt.len);
        memcpy(opad, salt.p, salt.len);
    }
    for (size_t i = 0; i < sizeof(ipad); i++) {
        ipad[i] ^= 0x36;
        opad[i] ^= 0x5c;
    }
    if (derive_digest_z(t, kbs_span(ipad, sizeof(ipad)), z, KBS_SPAN_EMPTY, prk, err) != 0) {
        return -1;
    }
    kbs_digest(KBS_HASH_SHA256, outer, 2, &digest);
    memcpy(prk, digest.p, KBS_SHA256_BYTES);
    kbs_cleanse(&digest, sizeof(digest));
    return 0;
}

int kbs_derive_cose_transport(struct kbs_scratch *s, const struct kbs_derive_input *in,
                              CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET prk = NULL;
    KBS_AUTO_SECRET value = NULL;
    struct kbs_buf info = KBS_BUF(in->info.len + 1);
    CK_OBJECT_HANDLE z = CK_INVALID_HANDLE;
    int rc = -1;

    /* One round of expand: HMAC(prk, info || 01) (RFC 5869 section 2.3). */
    kbs_buf_put_span(&info, in->info);
    kbs_buf_put_u8(&info, 1);
    if (kbs_buf_check(&info, "the KDF context", err) == 0 &&
        kbs_secret_new(KBS_SHA256_BYTES, &prk, err) == 0 &&
        kbs_secret_new(DERIVE_KEK_BYTES, &value, err) == 0 && derive_z(s, in, &z, err) == 0 &&
        derive_hkdf_extract(s->token, in->salt, z, kbs_secret_bytes(prk), err) == 0) {
        kbs_hmac_sha256(kbs_secret_span(prk), kbs_buf_span(&info), kbs_secret_bytes(value));
        rc = derive_import_kek(s, value, in->usage, ret, err);
    }
    kbs_buf_deinit(&info);
    return rc;
}
