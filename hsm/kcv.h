/* Key check values, computed in the token: the first 4 bytes of a MAC over "kbs-kcv". */
#ifndef KBS_HSM_KCV_H
#define KBS_HSM_KCV_H

#include "hsm/object.h"

/*
 * The check value by HMAC-SHA-256 of an extractable key; the key itself does not leave the token.
 * Any token computes it for keys of 32 bytes and more.
 */
KBS_MUST_CHECK int kbs_kcv(struct kbs_token *t, CK_OBJECT_HANDLE key, uint8_t ret[KBS_KCV_BYTES],
                           struct kbs_error *err);

/*
 * The same, by AES-CMAC for a key of 16 or 24 bytes where the token has no HMAC of keys so short.
 * KBS_INTERNAL if the key has another length than key_bytes, by what it wraps to.
 */
KBS_MUST_CHECK int kbs_kcv_any(struct kbs_token *t, CK_OBJECT_HANDLE key, size_t key_bytes,
                               enum kbs_kcv_mac *ret_mac, uint8_t ret[KBS_KCV_BYTES],
                               struct kbs_error *err);

/* A throw-away AES session key of KBS_KCV_KEY_BYTES, extractable, that can do nothing. */
#define KBS_KCV_KEY_BYTES 32u
KBS_MUST_CHECK int kbs_kcv_session_key(struct kbs_scratch *s, CK_OBJECT_HANDLE *ret,
                                       struct kbs_error *err);

/* One small operation (key, wrap, unwrap, HMAC) that tells whether the token still works. */
KBS_MUST_CHECK int kbs_token_selftest(struct kbs_token *t, struct kbs_error *err);

#endif
