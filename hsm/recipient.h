/*
 * A recipient: one token key wrapped to one TEE key, by one rung. What a release does and what a
 * probe of a rung does are the same functions.
 */
#ifndef KBS_HSM_RECIPIENT_H
#define KBS_HSM_RECIPIENT_H

#include "agree/agree.h"
#include "base/tee_key.h"
#include "hsm/derive.h"

struct kbs_recipient_order {
    enum kbs_format format;
    const struct kbs_tee_key *tee; /* borrowed; validated by the caller */
    struct kbs_span kid;           /* in COSE's protected map, and in JOSE's header */
    struct kbs_span party_u;       /* both empty: the empty context; not for RSA, not in a JWE */
    struct kbs_span party_v;
    struct kbs_span salt; /* COSE only, ignored for others */
};

/* The parts of an answer before they are printed. */
struct kbs_recipient {
    struct kbs_ec_public epk;                 /* EC TEE keys */
    uint8_t wrapped[KBS_LIMIT_RSA_BYTES_MAX]; /* the key; in a JWE the content key */
    size_t wrapped_len;
    uint8_t iv[KBS_GCM_IV_BYTES]; /* from here on: format JWE */
    uint8_t tag[KBS_GCM_TAG_BYTES];
    uint8_t ciphertext[KBS_LIMIT_KEY_BYTES_MAX];
    size_t ciphertext_len;
};

/*
 * Wraps `key` to an EC key: ephemeral pair in the token, wrapping key by `derive`, AES Key Wrap.
 * All session objects are gone when it returns.
 */
KBS_MUST_CHECK int kbs_recipient_ec(struct kbs_token *t, kbs_derive_fn *derive,
                                    const struct kbs_recipient_order *order, CK_OBJECT_HANDLE key,
                                    struct kbs_recipient *ret, struct kbs_error *err);
/* Wraps `key` to an RSA key, with the OAEP that order->tee->alg names. */
KBS_MUST_CHECK int kbs_recipient_rsa(struct kbs_token *t, const struct kbs_recipient_order *order,
                                     CK_OBJECT_HANDLE key, struct kbs_recipient *ret,
                                     struct kbs_error *err);

/* The KDF's info of an order: OtherInfo (JOSE, JWE) or COSE_KDF_Context. */
void kbs_recipient_info_put(struct kbs_buf *out, const struct kbs_recipient_order *order);

/* The finished answer body: a general-JWE recipient, a COSE_Encrypt, or a flattened JWE. */
void kbs_recipient_print(struct kbs_buf *out, const struct kbs_recipient_order *order,
                         const struct kbs_recipient *r);

#endif
