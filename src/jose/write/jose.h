/*
 * JOSE, the writing half: JWK, recipient and JWS texts as bytes, and the Concat KDF's OtherInfo.
 * Pure functions over spans; nothing is parsed and no key is touched. Member order is the one that
 * today's guests re-serialise to: `alg`, `enc`, then the rest sorted, no white space.
 */
#ifndef KBS_JOSE_WRITE_JOSE_H
#define KBS_JOSE_WRITE_JOSE_H

#include "base/buf.h"
#include "base/ec.h"
#include "base/tee_key.h"

#define KBS_JOSE_ECDH_ES_A256KW "ECDH-ES+A256KW"

/* The public JWK {"crv","kty","x","y"}, sorted (RFC 7517, RFC 7518 section 6.2.1). */
void kbs_jose_jwk_put(struct kbs_buf *out, const struct kbs_ec_public *key);
/*
 * A TEE key as KBS clients send it, members sorted: EC {"alg","crv","kty","x","y"}, RSA
 * {"alg","e","kty","n"}.
 */
void kbs_jose_tee_jwk_put(struct kbs_buf *out, const struct kbs_tee_key *key);
/* A JWK for a JWKS: {"alg","crv","kid","kty","use","x","y"} with use "sig". */
void kbs_jose_sig_jwk_put(struct kbs_buf *out, const struct kbs_ec_public *key, const char *alg,
                          const char *kid);

/* What a key of ours signs by: "ES256" on P-256, "ES384" on P-384; NULL on another curve. */
const char *kbs_jose_sig_alg(enum kbs_curve curve);

/* RFC 7638 thumbprint, SHA-256, as base64url text of 43 characters and a terminator. */
void kbs_jose_thumbprint(const struct kbs_ec_public *key, char ret[44]);
void kbs_jose_tee_thumbprint(const struct kbs_tee_key *key, char ret[44]);

/*
 * OtherInfo of RFC 7518 section 4.6.2 for ECDH-ES+A256KW: len||alg, len||apu, len||apv, 00000100.
 * apu and apv are the decoded bytes; empty spans give the empty context.
 */
void kbs_jose_other_info_put(struct kbs_buf *out, struct kbs_span apu, struct kbs_span apv);

/*
 * One element of a general JWE's `recipients` (RFC 7516 section 7.2.1):
 * {"header":{"alg":"ECDH-ES+A256KW","apu","apv","epk":{...},"kid"},"encrypted_key"}.
 * apu and apv (decoded bytes) are left out when empty. kid needs no escaping
 * (kbs_key_path_valid()).
 */
struct kbs_jose_recipient {
    const struct kbs_ec_public *epk; /* NULL: of A256KW, under a key that both sides have */
    struct kbs_span kid;
    struct kbs_span apu;
    struct kbs_span apv;
    struct kbs_span encrypted_key;
};
#define KBS_JOSE_A256KW "A256KW"
void kbs_jose_recipient_put(struct kbs_buf *out, const struct kbs_jose_recipient *r);

/*
 * The same by RSA-OAEP or RSA-OAEP-256: {"header":{"alg","kid"},"encrypted_key"}. An RSA recipient
 * has no party info.
 */
void kbs_jose_rsa_recipient_put(struct kbs_buf *out, enum kbs_tee_alg alg, struct kbs_span kid,
                                struct kbs_span encrypted_key);

/*
 * A flattened JWE (RFC 7516 section 7.2.2) to a TEE key, in two steps, because the content is
 * encrypted between them: the protected header as base64url text, which is the AAD, then
 * {"protected","encrypted_key","iv","ciphertext","tag"}. epk: for ECDH-ES+A256KW, NULL for RSA.
 */
void kbs_jose_jwe_protected_put(struct kbs_buf *out, enum kbs_tee_alg alg,
                                const struct kbs_ec_public *epk);
/* The header of docs/protocol/sealed-secrets.md: what an administrator's client sends. */
void kbs_jose_seal_protected_put(struct kbs_buf *out, const struct kbs_ec_public *epk,
                                 struct kbs_span kid, const char *seal_thumbprint);
/* The same of docs/protocol/requests.md: a request's body that a guest encrypts. apv: decoded. */
void kbs_jose_request_protected_put(struct kbs_buf *out, const struct kbs_ec_public *epk,
                                    struct kbs_span apv, const char *request_thumbprint);
struct kbs_jose_jwe {
    struct kbs_span protected_text; /* as one of the functions above printed it */
    struct kbs_span encrypted_key;
    struct kbs_span iv;
    struct kbs_span ciphertext;
    struct kbs_span tag;
};
void kbs_jose_jwe_put(struct kbs_buf *out, const struct kbs_jose_jwe *jwe);

/*
 * The signing input of a compact JWS: BASE64URL({"alg","kid","typ"}) || '.' || BASE64URL(payload)
 * (RFC 7515 section 5.1). Append '.' and the base64url of the signature (for ES256: r||s, 64 bytes)
 * to finish it.
 */
void kbs_jose_jws_input_put(struct kbs_buf *out, const char *alg, const char *kid, const char *typ,
                            struct kbs_span payload);
void kbs_jose_jws_signature_put(struct kbs_buf *out, struct kbs_span signature);

#endif
