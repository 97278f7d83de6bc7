/*
 * Any number of keys fits into the store; the token holds only what they are wrapped under. A blob
 * is bound to its key, purpose and floor by the key's card (hsm/card.c), which is checked before a
 * blob comes here; AES Key Wrap's own integrity check then finds a blob of another wrapping key.
 *
 * The unwrapped key lives as a session object for one order. It must be extractable, or it could
 * not be wrapped to a TEE key; nothing else is allowed to it.
 */
#include "hsm/catalog.h"

#include "hsm/service.h"

int kbs_catalog_wrap(struct kbs_token *t, CK_OBJECT_HANDLE key, size_t key_bytes,
                     uint8_t out[KBS_WRAPPED_MAX_BYTES], size_t *ret_len, uint32_t *ret_version,
                     struct kbs_error *err)
{
    CK_OBJECT_HANDLE wrapping_key = CK_INVALID_HANDLE;

    if (kbs_service_newest(t, KBS_PURPOSE_WRAP_CATALOG, ret_version, err) != 0) {
        return -1;
    }
    if (*ret_version == 0) {
        return kbs_fail(err, KBS_UNSUPPORTED, "the token has no wrap-catalog key yet");
    }
    if (kbs_service_find(t, CKO_SECRET_KEY, KBS_PURPOSE_WRAP_CATALOG, *ret_version, &wrapping_key,
                         err) != 0 ||
        kbs_object_wrap(t, wrapping_key, key, out, ret_len, err) != 0) {
        return -1;
    }
    if (*ret_len != key_bytes + 8) {
        return kbs_fail(err, KBS_INTERNAL, "the token wrapped a key of %zu bytes to %zu", key_bytes,
                        *ret_len);
    }
    return 0;
}

int kbs_catalog_unwrap(struct kbs_scratch *s, uint32_t version, struct kbs_span blob,
                       enum kbs_key_alg alg, size_t key_bytes, CK_OBJECT_HANDLE *ret,
                       struct kbs_error *err)
{
    struct kbs_template key = {.n = 0};
    CK_OBJECT_HANDLE wrapping_key = CK_INVALID_HANDLE;
    size_t value_len;

    if (blob.len != key_bytes + 8) {
        return kbs_fail(err, KBS_INTERNAL, "a key of %zu bytes has a blob of %zu", key_bytes,
                        blob.len);
    }
    kbs_template_secret_key(&key, alg == KBS_KEY_ALG_AES ? CKK_AES : CKK_GENERIC_SECRET, false,
                            true, KBS_USAGE_NONE);
    if (kbs_service_find(s->token, CKO_SECRET_KEY, KBS_PURPOSE_WRAP_CATALOG, version, &wrapping_key,
                         err) != 0 ||
        kbs_scratch_unwrap(s, wrapping_key, blob, &key, ret, err) != 0) {
        return -1;
    }
    value_len = kbs_object_value_len(s->token, *ret);
    return value_len == 0 || value_len == key_bytes
               ? 0
               : kbs_fail(err, KBS_INTERNAL, "the token unwrapped a key of %zu bytes to %zu",
                          key_bytes, value_len);
}
