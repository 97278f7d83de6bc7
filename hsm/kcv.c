/*
 * A key that may only be wrapped cannot compute a MAC, and CKA_CHECK_VALUE is missing in NSS. So a
 * copy is made in the token: wrapped under a throw-away AES key and unwrapped as a generic secret
 * that can only sign. Both tokens do it; the copy is sensitive and gone when the function returns.
 *
 * HMAC-SHA-256 where the token has it for that length, so that one key has one check value nearly
 * everywhere; AES-CMAC for the two short lengths elsewhere (lengths under 32 are 16 and 24, which
 * are AES's own). Which one it was is told with the value.
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

/* The MAC of a key that can sign. */
static int kcv_mac(const struct kbs_token *t, CK_MECHANISM_TYPE mechanism, CK_OBJECT_HANDLE key,
                   uint8_t ret[KBS_KCV_BYTES], struct kbs_error *err)
{
    static CK_BYTE text[] = {'k', 'b', 's', '-', 'k', 'c', 'v'};
    CK_MECHANISM mech = {mechanism, NULL, 0};
    uint8_t mac[KBS_SHA256_BYTES];
    CK_ULONG len = sizeof(mac);
    CK_ULONG expected = mechanism == CKM_AES_CMAC ? 16 : KBS_SHA256_BYTES;
    CK_RV rv = t->f->C_SignInit(t->session, &mech, key);

    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_SignInit", __LINE__);
    }
    rv = t->f->C_Sign(t->session, text, sizeof(text), mac, &len);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_Sign", __LINE__);
    }
    if (len != expected) {
        return kbs_fail(err, KBS_INTERNAL, "the token's MAC has %lu bytes", len);
    }
    memcpy(ret, mac, KBS_KCV_BYTES);
    kbs_cleanse(mac, sizeof(mac));
    return 0;
}

/* A copy of the key that can sign, of another type if need be, and its MAC. key_bytes: 0 if not
 * known. */
static int kcv_of_copy(struct kbs_token *t, CK_OBJECT_HANDLE key, size_t key_bytes,
                       CK_KEY_TYPE type, CK_MECHANISM_TYPE mechanism, uint8_t ret[KBS_KCV_BYTES],
                       struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_template copy_template = {.n = 0};
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE copy = CK_INVALID_HANDLE;
    uint8_t wrapped[KBS_WRAPPED_MAX_BYTES];
    size_t wrapped_len = 0;

    kbs_template_secret_key(&copy_template, type, false, false, KBS_USAGE_SIGN);
    if (kcv_generate_aes(&scratch, false, KBS_USAGE_WRAP | KBS_USAGE_UNWRAP, &kek, err) != 0 ||
        kbs_object_wrap(t, kek, key, wrapped, &wrapped_len, err) != 0) {
        return -1;
    }
    if (key_bytes != 0 && wrapped_len != key_bytes + 8) {
        return kbs_fail(err, KBS_INTERNAL, "the token has a key of %zu bytes instead of %zu",
                        wrapped_len - 8, key_bytes);
    }
    if (kbs_scratch_unwrap(&scratch, kek, kbs_span(wrapped, wrapped_len), &copy_template, &copy,
                           err) != 0) {
        return -1;
    }
    return kcv_mac(t, mechanism, copy, ret, err);
}

int kbs_kcv(struct kbs_token *t, CK_OBJECT_HANDLE key, uint8_t ret[KBS_KCV_BYTES],
            struct kbs_error *err)
{
    return kcv_of_copy(t, key, 0, CKK_GENERIC_SECRET, CKM_SHA256_HMAC, ret, err);
}

/*
 * SoftHSM wants HMAC keys of at least the digest's size, FIPS modules may have rules of their own.
 */
static bool kcv_is_too_short(const struct kbs_token *t, const struct kbs_error *err)
{
    return strcmp(err->func, "C_SignInit") == 0 && kbs_ckr_class(err, t->quirk) == KBS_CKR_REQUEST;
}

int kbs_kcv_any(struct kbs_token *t, CK_OBJECT_HANDLE key, size_t key_bytes,
                enum kbs_kcv_mac *ret_mac, uint8_t ret[KBS_KCV_BYTES], struct kbs_error *err)
{
    *ret_mac = KBS_KCV_HMAC_SHA256;
    if (kcv_of_copy(t, key, key_bytes, CKK_GENERIC_SECRET, CKM_SHA256_HMAC, ret, err) == 0) {
        return 0;
    }
    if (key_bytes >= KBS_SHA256_BYTES || !kcv_is_too_short(t, err)) {
        return -1;
    }
    *err = KBS_ERROR_NONE;
    *ret_mac = KBS_KCV_AES_CMAC;
    return kcv_of_copy(t, key, key_bytes, CKK_AES, CKM_AES_CMAC, ret, err);
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
