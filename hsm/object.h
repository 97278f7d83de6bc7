/*
 * PKCS#11 objects: templates, session objects that are destroyed by scope, look-up by CKA_ID,
 * attribute read-back (PKCS#11 2.40 sections 4.4 to 4.9, 5.7, 5.13).
 */
#ifndef KBS_HSM_OBJECT_H
#define KBS_HSM_OBJECT_H

#include "base/ec.h"
#include "base/tee_key.h"
#include "base/terms.h"
#include "hsm/module.h"

/* The blob of a key: 16 to 64 bytes and 8 of RFC 3394. */
#define KBS_WRAPPED_MIN_BYTES (KBS_LIMIT_KEY_BYTES_MIN + 8)
#define KBS_WRAPPED_MAX_BYTES (KBS_LIMIT_KEY_BYTES_MAX + 8)

/* p11-kit's structs have no const: the one place where it is cast away, for input parameters. */
static inline void *kbs_p11_in(const void *p)
{
    return (void *)(uintptr_t)p;
}

/* Templates: a fixed array with its own storage for numbers; bytes are borrowed. */
#define KBS_TEMPLATE_MAX 24u
struct kbs_template {
    CK_ATTRIBUTE a[KBS_TEMPLATE_MAX];
    CK_ULONG numbers[KBS_TEMPLATE_MAX]; /* numbers[i] belongs to a[i] */
    CK_ULONG n;
};

/* What a key may do; every flag that is not set is written as CK_FALSE, for tokens default to all.
 * */
enum kbs_usage {
    KBS_USAGE_NONE = 0,
    KBS_USAGE_SIGN = 1,
    KBS_USAGE_WRAP = 2,
    KBS_USAGE_UNWRAP = 4,
    KBS_USAGE_DERIVE = 8,
    KBS_USAGE_DECRYPT = 16 /* secret keys only */
};

void kbs_template_bool(struct kbs_template *t, CK_ATTRIBUTE_TYPE type, bool value);
void kbs_template_number(struct kbs_template *t, CK_ATTRIBUTE_TYPE type, CK_ULONG value);
void kbs_template_bytes(struct kbs_template *t, CK_ATTRIBUTE_TYPE type, struct kbs_span value);

/*
 * A secret key: class, type, PRIVATE, SENSITIVE, and every usage flag. `token` makes it a token
 * object, `extractable` says that it may be wrapped; usage: bits of enum kbs_usage.
 */
void kbs_template_secret_key(struct kbs_template *t, CK_KEY_TYPE type, bool token, bool extractable,
                             unsigned int usage);
/* The halves of an EC pair on `curve`: the private one PRIVATE, SENSITIVE, never extractable. */
void kbs_template_ec_pair(struct kbs_template *public_key, struct kbs_template *private_key,
                          enum kbs_curve curve, bool token, unsigned int usage);

/* The halves of an RSA pair of that many bits, which wraps and unwraps; never extractable. */
void kbs_template_rsa_pair(struct kbs_template *public_key, struct kbs_template *private_key,
                           CK_ULONG bits, bool token);

/* Modulus and exponent of a public key, checked (kbs_rsa_public_check()). */
KBS_MUST_CHECK int kbs_object_rsa_public(const struct kbs_token *t, CK_OBJECT_HANDLE public_key,
                                         struct kbs_rsa_public *ret, struct kbs_error *err);

/*
 * Scratch: the objects of one operation. Everything made through it is destroyed when it goes out
 * of scope, on every path; kbs_scratch_keep() is how a new token object survives success. An object
 * that cannot be destroyed is counted in token->destroy_failures.
 *
 * What is made through it is read back (kbs_object_check_template()): no caller can forget to, and
 * no key is used that is not what its template says.
 */
#define KBS_SCRATCH_MAX 16u
struct kbs_scratch {
    struct kbs_token *token; /* borrowed */
    size_t n;
    CK_OBJECT_HANDLE objects[KBS_SCRATCH_MAX];
};
void kbs_scratch_deinit(struct kbs_scratch *s);
#define KBS_AUTO_SCRATCH __attribute__((cleanup(kbs_scratch_deinit))) struct kbs_scratch

/* C_GenerateKey, C_GenerateKeyPair, C_DeriveKey, C_CreateObject and C_UnwrapKey into a scratch. */
KBS_MUST_CHECK int kbs_scratch_generate(struct kbs_scratch *s, CK_MECHANISM_TYPE mechanism,
                                        struct kbs_template *key, CK_OBJECT_HANDLE *ret,
                                        struct kbs_error *err);
KBS_MUST_CHECK int kbs_scratch_generate_pair(struct kbs_scratch *s, CK_MECHANISM_TYPE mechanism,
                                             struct kbs_template *public_key,
                                             struct kbs_template *private_key,
                                             CK_OBJECT_HANDLE *ret_public,
                                             CK_OBJECT_HANDLE *ret_private, struct kbs_error *err);
KBS_MUST_CHECK int kbs_scratch_generate_ec(struct kbs_scratch *s, struct kbs_template *public_key,
                                           struct kbs_template *private_key,
                                           CK_OBJECT_HANDLE *ret_public,
                                           CK_OBJECT_HANDLE *ret_private, struct kbs_error *err);
KBS_MUST_CHECK int kbs_scratch_derive(struct kbs_scratch *s, CK_MECHANISM *mechanism,
                                      CK_OBJECT_HANDLE base, struct kbs_template *key,
                                      CK_OBJECT_HANDLE *ret, struct kbs_error *err);
KBS_MUST_CHECK int kbs_scratch_create(struct kbs_scratch *s, struct kbs_template *object,
                                      CK_OBJECT_HANDLE *ret, struct kbs_error *err);
/* AES Key Wrap (RFC 3394). The template has no CKA_VALUE_LEN: tokens that want it are given it. */
KBS_MUST_CHECK int kbs_scratch_unwrap(struct kbs_scratch *s, CK_OBJECT_HANDLE unwrapping_key,
                                      struct kbs_span wrapped, struct kbs_template *key,
                                      CK_OBJECT_HANDLE *ret, struct kbs_error *err);
/* The same by any mechanism. */
KBS_MUST_CHECK int kbs_scratch_unwrap_by(struct kbs_scratch *s, CK_MECHANISM *mechanism,
                                         CK_OBJECT_HANDLE unwrapping_key, struct kbs_span wrapped,
                                         struct kbs_template *key, CK_OBJECT_HANDLE *ret,
                                         struct kbs_error *err);
/* The object is no longer destroyed with the scratch. */
void kbs_scratch_keep(struct kbs_scratch *s, CK_OBJECT_HANDLE object);

/* C_WrapKey with AES Key Wrap (RFC 3394). KBS_INTERNAL if the length is not that of a released key.
 * */
KBS_MUST_CHECK int kbs_object_wrap(const struct kbs_token *t, CK_OBJECT_HANDLE wrapping_key,
                                   CK_OBJECT_HANDLE key, uint8_t out[KBS_WRAPPED_MAX_BYTES],
                                   size_t *ret_len, struct kbs_error *err);
/* The same by any mechanism, to at most `size` bytes. */
KBS_MUST_CHECK int kbs_object_wrap_by(const struct kbs_token *t, CK_MECHANISM *mechanism,
                                      CK_OBJECT_HANDLE wrapping_key, CK_OBJECT_HANDLE key,
                                      uint8_t *out, size_t size, size_t *ret_len,
                                      struct kbs_error *err);

/*
 * The token object of that class and CKA_ID (1 to KBS_CKA_ID_MAX_BYTES). KBS_MISSING if there is
 * none, KBS_INTERNAL if there are more.
 */
KBS_MUST_CHECK int kbs_object_find(const struct kbs_token *t, CK_OBJECT_CLASS class,
                                   struct kbs_span cka_id, CK_OBJECT_HANDLE *ret,
                                   struct kbs_error *err);

/* All objects that fit a template: the number of them, at most `room` handles in `ret`. */
KBS_MUST_CHECK int kbs_object_list(const struct kbs_token *t, struct kbs_template *wanted,
                                   CK_OBJECT_HANDLE *ret, size_t room, size_t *ret_n,
                                   struct kbs_error *err);

/*
 * Fails closed (KBS_INTERNAL) unless the object is what its template asked for: class, key type,
 * TOKEN, SENSITIVE, EXTRACTABLE, the length where the token tells it, and for secret and private
 * token objects PRIVATE and every usage flag: a session key that may do more than it was meant to
 * dies with its operation, a token object does not. Where a token made a key readable or extractable
 * against the template, that attribute is set and looked at again before it is an error.
 */
KBS_MUST_CHECK int kbs_object_check_template(const struct kbs_token *t, CK_OBJECT_HANDLE object,
                                             const struct kbs_template *wanted,
                                             struct kbs_error *err);

/*
 * Fails closed (KBS_INTERNAL) unless the token says CKA_SENSITIVE is true and CKA_EXTRACTABLE is
 * `extractable`, of an object of that class and CKA_ID: a remembered handle is only a hint. One that
 * is of another fails as a stale handle.
 */
KBS_MUST_CHECK int kbs_object_check_key(const struct kbs_token *t, CK_OBJECT_HANDLE object,
                                        CK_OBJECT_CLASS class, struct kbs_span cka_id,
                                        bool extractable, struct kbs_error *err);

/* One attribute that is a CK_BBOOL; `otherwise` where the token does not tell. */
bool kbs_object_bool(const struct kbs_token *t, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                     bool otherwise);

/* CKA_ID. KBS_UNPROCESSABLE if it has not 1 to KBS_CKA_ID_MAX_BYTES. */
KBS_MUST_CHECK int kbs_object_cka_id(const struct kbs_token *t, CK_OBJECT_HANDLE object,
                                     uint8_t ret[KBS_CKA_ID_MAX_BYTES], size_t *ret_len,
                                     struct kbs_error *err);

/* CKA_LABEL, empty where the token does not tell it or it is longer than `size`. */
KBS_MUST_CHECK int kbs_object_label(const struct kbs_token *t, CK_OBJECT_HANDLE object, char *out,
                                    size_t size, struct kbs_span *ret, struct kbs_error *err);

/* CKA_VALUE_LEN, or 0 where the token does not tell. */
size_t kbs_object_value_len(const struct kbs_token *t, CK_OBJECT_HANDLE object);

/* The curve that CKA_EC_PARAMS names; KBS_INTERNAL if it is none of ours. */
KBS_MUST_CHECK int kbs_object_curve(const struct kbs_token *t, CK_OBJECT_HANDLE public_key,
                                    enum kbs_curve *ret, struct kbs_error *err);

/*
 * CKA_EC_POINT, raw or as DER OCTET STRING; KBS_INTERNAL if it is neither. The curve equation is
 * not checked: the token made the point.
 */
KBS_MUST_CHECK int kbs_object_ec_point(const struct kbs_token *t, CK_OBJECT_HANDLE public_key,
                                       enum kbs_curve curve, struct kbs_ec_public *ret,
                                       struct kbs_error *err);

/* Destroys a token object and forgets every handle. */
KBS_MUST_CHECK int kbs_object_destroy(struct kbs_token *t, CK_OBJECT_HANDLE object,
                                      struct kbs_error *err);

/*
 * Handles of token objects by class and CKA_ID: a bounded, direct-mapped table in struct kbs_token;
 * a clash forgets the older entry. *ret_new says that the handle was looked up just now, so that
 * the caller can look closer at what it found, and forget all handles if it is not as it should be.
 * A remembered handle may be stale: whoever uses it sees KBS_CKR_STALE, forgets all handles and
 * begins again.
 */
KBS_MUST_CHECK int kbs_handles_get(struct kbs_token *t, CK_OBJECT_CLASS class,
                                   struct kbs_span cka_id, CK_OBJECT_HANDLE *ret, bool *ret_new,
                                   struct kbs_error *err);
void kbs_handles_forget(struct kbs_token *t);

#endif
