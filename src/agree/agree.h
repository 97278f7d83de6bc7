/*
 * Key agreement and key wrap in software, by OpenSSL: the other side of what the token does. Used
 * by kbs-guest to open a released key, by kbs-admin to wrap a key to the import key, and by
 * kbs-token to check a probed rung and for the transport rung. Every secret result is a struct
 * kbs_secret.
 */
#ifndef KBS_AGREE_AGREE_H
#define KBS_AGREE_AGREE_H

#include "base/buf.h"
#include "base/ec.h"
#include "base/secret.h"
#include "base/tee_key.h"

/* An EC private key in OpenSSL; opaque, freed with kbs_agree_key_free(NULL is fine). */
struct kbs_agree_key;

KBS_MUST_CHECK int kbs_agree_key_generate(enum kbs_curve curve, struct kbs_agree_key **ret,
                                          struct kbs_error *err);
/* PEM (PKCS#8 or SEC 1), unencrypted. KBS_INPUT for anything but an EC key on a supported curve. */
KBS_MUST_CHECK int kbs_agree_key_from_pem(struct kbs_span pem, struct kbs_agree_key **ret,
                                          struct kbs_error *err);
/* Unencrypted PKCS#8 PEM into a secret. Returns owned. */
KBS_MUST_CHECK int kbs_agree_key_to_pem(const struct kbs_agree_key *key, struct kbs_secret **ret,
                                        struct kbs_error *err);
struct kbs_agree_key *kbs_agree_key_free(struct kbs_agree_key *key);
/* The public half. Returns borrowed. */
const struct kbs_ec_public *kbs_agree_key_public(const struct kbs_agree_key *key);

/* Z = x coordinate of d*Q, field size bytes (SP 800-56A 5.7.1.2). The peer key is validated.
 * Returns owned. */
KBS_MUST_CHECK int kbs_agree_ecdh(const struct kbs_agree_key *key, const struct kbs_ec_public *peer,
                                  struct kbs_secret **ret_z, struct kbs_error *err);

/* Concat KDF, SHA-256, 32 bytes (SP 800-56A 5.8.1; RFC 7518 section 4.6.2). Returns owned. */
KBS_MUST_CHECK int kbs_agree_concat_kdf(struct kbs_span z, struct kbs_span other_info,
                                        struct kbs_secret **ret_kek, struct kbs_error *err);
/* HKDF-SHA-256, 32 bytes (RFC 5869); an empty salt means 32 zero bytes. Returns owned. */
KBS_MUST_CHECK int kbs_agree_hkdf(struct kbs_span z, struct kbs_span salt, struct kbs_span info,
                                  struct kbs_secret **ret_kek, struct kbs_error *err);

/*
 * AES Key Wrap (RFC 3394) with a 32-byte kek. Keys are KBS_LIMIT_KEY_BYTES_MIN..MAX bytes, a
 * multiple of 8; lengths are checked before OpenSSL sees them. `out` has room for key length + 8
 * bytes.
 */
KBS_MUST_CHECK int kbs_agree_wrap(struct kbs_span kek, struct kbs_span key, uint8_t *out,
                                  size_t *ret_len, struct kbs_error *err);
/* The reverse; KBS_UNPROCESSABLE if the integrity check fails. Returns owned. */
KBS_MUST_CHECK int kbs_agree_unwrap(struct kbs_span kek, struct kbs_span wrapped,
                                    struct kbs_secret **ret_key, struct kbs_error *err);

/* An RSA private key in OpenSSL; opaque, freed with kbs_agree_rsa_free(NULL is fine). */
struct kbs_agree_rsa;

/* bits: 2048 to 4096, a multiple of 8. */
KBS_MUST_CHECK int kbs_agree_rsa_generate(unsigned int bits, struct kbs_agree_rsa **ret,
                                          struct kbs_error *err);
/*
 * A key that everybody knows, always the same, of 2048, 3072 or 4096 bits: to try out what wraps to it,
 * where nothing is protected by it. KBS_INPUT for other sizes.
 */
KBS_MUST_CHECK int kbs_agree_rsa_known(unsigned int bits, struct kbs_agree_rsa **ret,
                                       struct kbs_error *err);
/* PEM (PKCS#8 or PKCS#1), unencrypted. KBS_INPUT, KBS_UNPROCESSABLE for its size. */
KBS_MUST_CHECK int kbs_agree_rsa_from_pem(struct kbs_span pem, struct kbs_agree_rsa **ret,
                                          struct kbs_error *err);
/* Unencrypted PKCS#8 PEM into a secret. Returns owned. */
KBS_MUST_CHECK int kbs_agree_rsa_to_pem(const struct kbs_agree_rsa *key, struct kbs_secret **ret,
                                        struct kbs_error *err);
struct kbs_agree_rsa *kbs_agree_rsa_free(struct kbs_agree_rsa *key);
/* The public half. Returns borrowed. */
const struct kbs_rsa_public *kbs_agree_rsa_public(const struct kbs_agree_rsa *key);

/*
 * RSA-OAEP (RFC 8017 section 7.1) with MGF1 of the same hash and an empty label, as JOSE has it:
 * SHA-256 for RSA-OAEP-256, SHA-1 for RSA-OAEP. `out` has room for the modulus' length.
 * KBS_UNPROCESSABLE if the key is refused or too short for the text.
 */
KBS_MUST_CHECK int kbs_agree_oaep_encrypt(const struct kbs_tee_key *key, struct kbs_span plain,
                                          uint8_t *out, size_t *ret_len, struct kbs_error *err);

/* The reverse, with the hash of `alg`; KBS_UNPROCESSABLE if it does not open. Returns owned. */
KBS_MUST_CHECK int kbs_agree_oaep_decrypt(const struct kbs_agree_rsa *key, enum kbs_tee_alg alg,
                                          struct kbs_span ciphertext, struct kbs_secret **ret,
                                          struct kbs_error *err);

/*
 * RSAES-PKCS1-v1_5 (RFC 8017 section 7.2) to a key of RSA1_5. `out` has room for the modulus' length.
 * KBS_UNPROCESSABLE as above.
 */
KBS_MUST_CHECK int kbs_agree_rsa1_5_encrypt(const struct kbs_tee_key *key, struct kbs_span plain,
                                            uint8_t *out, size_t *ret_len, struct kbs_error *err);

/*
 * The reverse, to a content key of `bytes`. One that does not open, or has another length, gives as
 * many random bytes and no error: the content will not open with them. Returns owned.
 */
KBS_MUST_CHECK int kbs_agree_rsa1_5_decrypt(const struct kbs_agree_rsa *key,
                                            struct kbs_span ciphertext, size_t bytes,
                                            struct kbs_secret **ret, struct kbs_error *err);

/* A public key as PEM SubjectPublicKeyInfo (RFC 5280 section 4.1). KBS_INTERNAL. */
KBS_MUST_CHECK int kbs_agree_public_to_pem(const struct kbs_tee_key *key, struct kbs_buf *out,
                                           struct kbs_error *err);

#define KBS_GCM_IV_BYTES 12
#define KBS_GCM_TAG_BYTES 16
/* A256GCM (RFC 7518 section 5.3): cek of 32 bytes. `out` has room for plain.len bytes. */
KBS_MUST_CHECK int kbs_agree_gcm_seal(struct kbs_span cek, const uint8_t iv[KBS_GCM_IV_BYTES],
                                      struct kbs_span aad, struct kbs_span plain, uint8_t *out,
                                      uint8_t ret_tag[KBS_GCM_TAG_BYTES], struct kbs_error *err);
/* The reverse; KBS_UNPROCESSABLE, and nothing in `out`, if the tag does not match. */
KBS_MUST_CHECK int kbs_agree_gcm_open(struct kbs_span cek, const uint8_t iv[KBS_GCM_IV_BYTES],
                                      struct kbs_span aad, struct kbs_span ciphertext,
                                      const uint8_t tag[KBS_GCM_TAG_BYTES], uint8_t *out,
                                      struct kbs_error *err);

/* Key check value: the first 4 bytes of HMAC-SHA-256(key, "kbs-kcv"). */
void kbs_agree_kcv(struct kbs_span key, uint8_t ret[4]);
/* The same by AES-CMAC (SP 800-38B), for keys of 16, 24 or 32 bytes. */
KBS_MUST_CHECK int kbs_agree_kcv_cmac(struct kbs_span key, uint8_t ret[4], struct kbs_error *err);

#endif
