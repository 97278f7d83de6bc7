/*
 * A recipient: one token key wrapped to one TEE key. What a release does and what a probe of a rung
 * does are the same function.
 */
#ifndef KBS_HSM_RECIPIENT_H
#define KBS_HSM_RECIPIENT_H

#include "hsm/derive.h"

struct kbs_recipient_order {
    enum kbs_format format;
    kbs_derive_fn *derive;           /* of that format */
    const struct kbs_ec_public *tee; /* borrowed; validated by the caller */
    struct kbs_span kid;             /* in COSE's protected map */
    struct kbs_span party_u;         /* both empty: the empty context */
    struct kbs_span party_v;
    struct kbs_span salt; /* COSE only, ignored for JOSE */
};

struct kbs_recipient {
    struct kbs_ec_public epk;
    uint8_t wrapped[KBS_WRAPPED_MAX_BYTES];
    size_t wrapped_len; /* KBS_WRAPPED_MIN_BYTES to KBS_WRAPPED_MAX_BYTES, a multiple of 8 */
};

/*
 * Wraps `key`: ephemeral EC pair in the token, wrapping key by order->derive, AES Key Wrap. All
 * session objects are gone when it returns.
 */
KBS_MUST_CHECK int kbs_recipient_make(struct kbs_token *t, const struct kbs_recipient_order *order,
                                      CK_OBJECT_HANDLE key, struct kbs_recipient *ret,
                                      struct kbs_error *err);

/* The KDF's info of an order: OtherInfo (JOSE) or COSE_KDF_Context. */
void kbs_recipient_info_put(struct kbs_buf *out, const struct kbs_recipient_order *order);

/* The finished answer body: a general-JWE recipient, or a COSE_Encrypt. */
void kbs_recipient_print(struct kbs_buf *out, const struct kbs_recipient_order *order,
                         const struct kbs_recipient *r);

#endif
