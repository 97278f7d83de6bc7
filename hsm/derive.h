/*
 * Wrapping keys by ECDH: one function per rung and format, used by the sending side (fresh
 * ephemeral key, TEE's public key) and the receiving side (a key of the service, sender's epk)
 * alike.
 */
#ifndef KBS_HSM_DERIVE_H
#define KBS_HSM_DERIVE_H

#include "hsm/object.h"

#define KBS_DERIVE_KEK_BYTES 32u

struct kbs_derive_input {
    CK_OBJECT_HANDLE private_key;     /* EC, with CKA_DERIVE */
    const struct kbs_ec_public *peer; /* borrowed; validated by the caller */
    struct kbs_span info;             /* JOSE: OtherInfo; COSE: COSE_KDF_Context */
    struct kbs_span salt;             /* COSE: at most KBS_LIMIT_COSE_SALT_BYTES, may be empty */
    unsigned int usage;               /* KBS_USAGE_WRAP or KBS_USAGE_UNWRAP */
};

/*
 * Makes the 32-byte AES wrapping key as a session object of the scratch, sensitive and not
 * extractable (read back), good for in->usage only.
 */
typedef int kbs_derive_fn(struct kbs_scratch *s, const struct kbs_derive_input *in,
                          CK_OBJECT_HANDLE *ret, struct kbs_error *err);

/* HKDF-SHA-256 in the token: ECDH1_DERIVE, HKDF_DERIVE (RFC 9053 section 5.1). */
kbs_derive_fn kbs_derive_cose_hkdf;
/* Concat KDF (RFC 7518 section 4.6.2) within ECDH1_DERIVE, by its KDF of SP 800-56C. */
kbs_derive_fn kbs_derive_jose_kdf;
/* Concat KDF in the token: ECDH1_DERIVE, two concatenations, a digest. */
kbs_derive_fn kbs_derive_jose_chain;

/* The shared secret as a session object that may only be derived from (or digested). */
KBS_MUST_CHECK int kbs_derive_z(struct kbs_scratch *s, const struct kbs_derive_input *in,
                                CK_OBJECT_HANDLE *ret, struct kbs_error *err);

#endif
