/*
 * An AES key that may only be wrapped cannot compute a MAC, and CKA_CHECK_VALUE is missing in NSS.
 * So a copy is made in the token: wrapped under a throw-away AES key and unwrapped as a generic
 * secret that can only sign. Both tokens do it; the copy is sensitive and gone when the function
 * returns.
 *
 * Rejected: C_CopyObject (attributes of a key that is not modifiable), encrypting a zero block
 * (would need CKA_ENCRYPT on the released key).
 */
#include "hsm/kcv.h"

#include "base/digest.h"
#include "hsm/ckr.h"

static int kcv_generate_aes(struct kbs_scratch *s, bool extractable, unsigned int usage,
                            CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    struct kbs_template key = {.n = 0};

    kbs_template_secret_key(&key, CKK_AES, false, extractable, usage);
    kbs_template_number(&key, CKA_VALUE_LEN, KBS_KCV_KEY_BYTES);
    return kbs_scratch_generate(s, CKM_AES_KEY_GEN, &key, ret, err);
}

int kbs_kcv_session_key(struct kbs_scratch *s, CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    return kcv_generate_aes(s, true, KBS_USAGE_NONE, ret, err);
}

static int kcv_hmac(const struct kbs_token *t, CK_OBJECT_HANDLE key, uint8_t ret[KBS_KCV_BYTES],
                    struct kbs_error *err)
{
    static CK_BYTE text[] = {'k', 'b', 's', '-', 'k', 'c', 'v'};
    CK_MECHANISM mech = {CKM_SHA256_HMAC, NULL, 0};
    uint8_t mac[KBS_SHA256_BYTES];
    CK_ULONG len = sizeof(mac);
    CK_RV rv = t->f->C_SignInit(t->session, &mech, key);

    if (rv == CKR_KEY_SIZE_RANGE) { /* SoftHSM wants HMAC keys of at least the digest's size */
        return kbs_error_set(
            err, KBS_UNSUPPORTED, KBS_ORIGIN_CKR, (int64_t)rv, "C_SignInit", __LINE__,
            "this token computes no check value (HMAC-SHA-256) of a key this short");
    }
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_SignInit", __LINE__);
    }
    rv = t->f->C_Sign(t->session, text, sizeof(text), mac, &len);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_Sign", __LINE__);
    }
    if (len != sizeof(mac)) {
        return kbs_fail(err, KBS_INTERNAL, "the token's HMAC has %lu bytes", len);
    }
    memcpy(ret, mac, KBS_KCV_BYTES);
    kbs_cleanse(mac, sizeof(mac));
    return 0;
}

int kbs_kcv(struct kbs_token *t, CK_OBJECT_HANDLE key, uint8_t ret[KBS_KCV_BYTES],
            struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_template copy_template = {.n = 0};
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE copy = CK_INVALID_HANDLE;
    uint8_t wrapped[KBS_WRAPPED_MAX_BYTES];
    size_t wrapped_len = 0;

    kbs_template_secret_key(&copy_template, CKK_GENERIC_SECRET, false, false, KBS_USAGE_SIGN);
    if (kcv_generate_aes(&scratch, false, KBS_USAGE_WRAP | KBS_USAGE_UNWRAP, &kek, err) != 0 ||
        kbs_object_wrap(t, kek, key, wrapped, &wrapped_len, err) != 0 ||
        kbs_scratch_unwrap(&scratch, kek, kbs_span(wrapped, wrapped_len), &copy_template, &copy,
                           err) != 0 ||
        kbs_object_check_secret(t, copy, false, err) != 0) {
        return -1;
    }
    return kcv_hmac(t, copy, ret, err);
}

int kbs_token_selftest(struct kbs_token *t, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    uint8_t kcv[KBS_KCV_BYTES];

    if (kbs_kcv_session_key(&scratch, &key, err) != 0) {
        return -1;
    }
    return kbs_kcv(t, key, kcv, err);
}
