/*
 * Wrapped keys: the blob in the store is the key under a wrap-catalog key, by AES Key Wrap (RFC
 * 3394).
 */
#ifndef KBS_HSM_CATALOG_H
#define KBS_HSM_CATALOG_H

#include "hsm/object.h"

/*
 * Wraps `key` under the newest wrap-catalog key. KBS_UNSUPPORTED if there is none, KBS_INTERNAL if
 * the blob is not that of a key of key_bytes.
 */
KBS_MUST_CHECK int kbs_catalog_wrap(struct kbs_token *t, CK_OBJECT_HANDLE key, size_t key_bytes,
                                    uint8_t out[KBS_WRAPPED_MAX_BYTES], size_t *ret_len,
                                    uint32_t *ret_version, struct kbs_error *err);

/*
 * The key of a blob under wrap-catalog key `version` as a session object of the scratch: sensitive,
 * extractable, good for nothing else. The caller has checked that a card is of this blob.
 * KBS_MISSING if that version is gone, KBS_INTERNAL if the blob is not of a key of key_bytes.
 */
KBS_MUST_CHECK int kbs_catalog_unwrap(struct kbs_scratch *s, uint32_t version, struct kbs_span blob,
                                      enum kbs_key_alg alg, size_t key_bytes, CK_OBJECT_HANDLE *ret,
                                      struct kbs_error *err);

#endif
