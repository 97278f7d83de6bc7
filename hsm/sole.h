/*
 * The one key of a sign worker: an EC pair on P-256 or P-384, or an RSA pair of 2048 to 4096 bits, the
 * service's own `tls` key or one that an operator made. Found, looked at and tried out once, at start;
 * from then on it does not change, and any number of threads may sign with it, each with a session of its own.
 */
#ifndef KBS_HSM_SOLE_H
#define KBS_HSM_SOLE_H

#include <openssl/types.h>

#include "hsm/object.h"
#include "hsm/tls13.h"
#include "wire/message.h"

struct kbs_sole {
    CK_OBJECT_HANDLE private_key;
    bool general;         /* digests and ECDH too */
    enum kbs_curve curve; /* NONE: RSA */
    size_t bytes;         /* of the curve's field, or of the modulus */
    EVP_PKEY *public_key; /* owned */
    struct kbs_buf spki;  /* SubjectPublicKeyInfo, DER */
    unsigned int proven;  /* bits: methods that it has signed by (sole.c) */
};

/* Of a SubjectPublicKeyInfo: RSA of 4096 bits has 550. */
#define KBS_SOLE_SPKI_MAX_BYTES 1024u
#define KBS_SOLE ((struct kbs_sole){.spki = KBS_BUF(KBS_SOLE_SPKI_MAX_BYTES)})

/* What a worker is told of its key: CONFIG_TOKEN. Borrowed. */
struct kbs_sole_wanted {
    struct kbs_span
        uri; /* empty or "pkcs11:": the service's `tls` key, of the certificate, or the newest */
    struct kbs_span certificate; /* PEM, whose first one's key it must be; empty: of any */
    bool general;
    bool production; /* a key that can leave the token in the clear is refused, not only told of */
};

/*
 * Finds the key, its public half in the token or in the certificate, and makes a signature by every method
 * that it could be asked for, each verified by OpenSSL. KBS_MISSING if there is no such key; KBS_INPUT if
 * there are several, if it is a key of the service for something else, if it is of no kind that is served, or
 * if halves or certificate do not belong together; KBS_UNSUPPORTED if the token signs by none of the methods.
 */
KBS_MUST_CHECK int kbs_sole_load(struct kbs_sole *key, struct kbs_token *t,
                                 const struct kbs_sole_wanted *wanted, struct kbs_error *err);
void kbs_sole_deinit(struct kbs_sole *key);

/* What it is and signs by, for a log: "P-256 ecdsa_secp256r1_sha256". */
void kbs_sole_print(const struct kbs_sole *key, struct kbs_buf *out);

/*
 * Appends the signature of a server's CertificateVerify (ECDSA: DER). KBS_DENIED if the content is anything
 * else: whoever asks for that is not a TLS server. KBS_UNSUPPORTED if the key does not sign by that scheme.
 */
KBS_MUST_CHECK int kbs_sole_tls(const struct kbs_sole *key, const struct kbs_token *t,
                                const struct kbs_wire_sign_tls *m, struct kbs_buf *ret,
                                struct kbs_error *err);
/* Appends the signature of a digest. KBS_INPUT for lengths that do not fit, KBS_UNSUPPORTED as above. */
KBS_MUST_CHECK int kbs_sole_digest(const struct kbs_sole *key, const struct kbs_token *t,
                                   const struct kbs_wire_sign_digest *m, struct kbs_buf *ret,
                                   struct kbs_error *err);
/*
 * Appends Z of ECDH (SP 800-56A section 5.7.1.2). KBS_INPUT or KBS_UNPROCESSABLE if the point is none of the
 * key's curve. `t` counts what it makes.
 */
KBS_MUST_CHECK int kbs_sole_agree(const struct kbs_sole *key, struct kbs_token *t,
                                  const struct kbs_wire_agree *m, struct kbs_buf *ret,
                                  struct kbs_error *err);

/* One more signature, as at start: does the token still work? */
KBS_MUST_CHECK int kbs_sole_selftest(const struct kbs_sole *key, const struct kbs_token *t,
                                     struct kbs_error *err);

/* ---- sole_public.c ---- */

/*
 * The public half of `private_key`, into key: from the public key object of its CKA_ID (empty: it has none),
 * from its own attributes, or from the certificate. KBS_INPUT if there is none anywhere, if it is of no kind
 * that is served, or if the certificate has another.
 */
KBS_MUST_CHECK int kbs_sole_public(struct kbs_sole *key, const struct kbs_token *t,
                                   struct kbs_span cka_id, struct kbs_span certificate,
                                   struct kbs_error *err);

/* Whether the first certificate of a PEM text is of that key. KBS_INPUT if it has none. */
KBS_MUST_CHECK int kbs_sole_certified(const struct kbs_ec_public *key, struct kbs_span certificate,
                                      bool *ret, struct kbs_error *err);

/* True if the signature (ECDSA: r || s) is of the digest, by that key; salt: of PSS. */
bool kbs_sole_verify(const struct kbs_sole *key, enum kbs_sign_alg alg, enum kbs_hash hash,
                     size_t salt, struct kbs_span digest, struct kbs_span signature);

#endif
