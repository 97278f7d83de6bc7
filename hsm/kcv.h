/* Key check values, computed in the token: the first 4 bytes of HMAC-SHA-256(key, "kbs-kcv"). */
#ifndef KBS_HSM_KCV_H
#define KBS_HSM_KCV_H

#include "hsm/object.h"

/* The check value of an extractable key; the key itself does not leave the token. */
KBS_MUST_CHECK int kbs_kcv(struct kbs_token *t, CK_OBJECT_HANDLE key, uint8_t ret[KBS_KCV_BYTES],
                           struct kbs_error *err);

/* A throw-away AES session key of KBS_KCV_KEY_BYTES, extractable, that can do nothing. */
#define KBS_KCV_KEY_BYTES 32u
KBS_MUST_CHECK int kbs_kcv_session_key(struct kbs_scratch *s, CK_OBJECT_HANDLE *ret,
                                       struct kbs_error *err);

/* One small operation (key, wrap, unwrap, HMAC) that tells whether the token still works. */
KBS_MUST_CHECK int kbs_token_selftest(struct kbs_token *t, struct kbs_error *err);

#endif
