/*
 * Signatures and JWTs (RFC 7519) of foreign issuers: whoever vouches for an administrator, or for the evidence of
 * a guest.
 *
 * A key says what it may verify before a token is looked at: an algorithm in a token is compared
 * with that, and never chosen by it. Keys come from a file that the operator named; nothing here
 * fetches or opens anything.
 */
#ifndef KBS_JOSE_READ_JWT_H
#define KBS_JOSE_READ_JWT_H

#include "jose/read/jose.h"

#define KBS_JWS_ED25519_BYTES 32
#define KBS_JWS_ED25519_SIGNATURE_BYTES 64

enum kbs_jws_key_kind {
    KBS_JWS_KEY_NONE = 0,
    KBS_JWS_KEY_EC = 1,
    KBS_JWS_KEY_RSA = 2,
    KBS_JWS_KEY_ED25519 = 3
};

struct kbs_jws_key {
    enum kbs_jws_key_kind kind; /* says which of the three is used */
    unsigned int algs;          /* bits KBS_JWS_ALG_BIT() that it may verify */
    struct kbs_ec_public ec;
    struct kbs_rsa_public rsa;
    uint8_t ed25519[KBS_JWS_ED25519_BYTES];
    char kid[KBS_LIMIT_KID_BYTES + 1]; /* of a JWK; empty if it has none */
};

/* What a key of that kind can verify at all: of a curve its one algorithm, of RSA all six. */
unsigned int kbs_jws_key_algs(const struct kbs_jws_key *key);

/*
 * A public JWK (RFC 7517) that verifies: `alg` is required and says the one algorithm it is for;
 * `use` and `key_ops`, when present, must fit. Otherwise as kbs_jose_jwk_get() and
 * kbs_jose_rsa_jwk_get(); OKP keys are Ed25519 (RFC 8037). KBS_INPUT, KBS_UNPROCESSABLE.
 */
KBS_MUST_CHECK int kbs_jws_key_from_jwk(const json_t *jwk, struct kbs_jws_key *ret,
                                        struct kbs_error *err);
/* The same, but a JWK without `alg` is for those of `algs` that its kind can; none left is algs 0. */
KBS_MUST_CHECK int kbs_jws_key_from_jwk_for(const json_t *jwk, unsigned int algs,
                                            struct kbs_jws_key *ret, struct kbs_error *err);
/* One PEM SubjectPublicKeyInfo: EC, RSA of 2048 to 4096 bits, Ed25519. Errors likewise. */
KBS_MUST_CHECK int kbs_jws_key_from_pem(struct kbs_span pem, struct kbs_jws_key *ret,
                                        struct kbs_error *err);
/* The same in DER (RFC 5280 section 4.1.2.7). */
KBS_MUST_CHECK int kbs_jws_key_from_spki(struct kbs_span der, struct kbs_jws_key *ret,
                                         struct kbs_error *err);
/* The same public key, whatever each of them is for. */
bool kbs_jws_key_equal(const struct kbs_jws_key *a, const struct kbs_jws_key *b);

/* As kbs_jose_jws_split(), with any algorithm of the set `algs`. */
KBS_MUST_CHECK int kbs_jws_split(struct kbs_span text, unsigned int algs, struct kbs_jose_jws *ret,
                                 struct kbs_error *err);
/* As kbs_jose_jws_verify() and kbs_jose_jws_verify_bytes(), by what the key is for. */
KBS_MUST_CHECK int kbs_jws_verify(const struct kbs_jose_jws *jws, const struct kbs_jws_key *key,
                                  json_t **ret_payload, struct kbs_error *err);
KBS_MUST_CHECK int kbs_jws_verify_bytes(const struct kbs_jose_jws *jws,
                                        const struct kbs_jws_key *key, struct kbs_buf *ret_payload,
                                        struct kbs_error *err);
/*
 * The payload as it says itself, nothing verified: good for finding out whose token it is, and for nothing
 * else. KBS_UNAUTHENTICATED if it is not a strict JSON object. Returns owned.
 */
KBS_MUST_CHECK int kbs_jws_peek(const struct kbs_jose_jws *jws, json_t **ret_payload,
                                struct kbs_error *err);

/* The keys of an issuer. */
struct kbs_jwt_keys {
    struct kbs_jws_key *items; /* owned */
    size_t count;
    bool by_kid; /* they were a JWK set: a token names its key */
};
#define KBS_JWT_KEYS_NULL ((struct kbs_jwt_keys){.items = NULL})
/*
 * A PEM key, or a JWK set (RFC 7517 section 5) of at most KBS_LIMIT_JWKS_KEYS keys. Of a set those
 * are left out that are for encryption, of an algorithm that is not ours, or without `alg` or `kid`;
 * one of them must remain. KBS_INPUT for two keys of one `kid`, for a private or symmetric key, and
 * for a key that is one of ours in name but not sound. Nothing to free after a failure.
 */
KBS_MUST_CHECK int kbs_jwt_keys_load(struct kbs_span text, struct kbs_jwt_keys *ret,
                                     struct kbs_error *err);
/*
 * The same for an issuer whose algorithms are configured, which need not say as much: a key without
 * `alg` is for those of `algs` that its kind can verify, a key without `kid` for tokens that name none, and
 * a key without its numbers is that of its certificate (`x5c`). With `trust`, every key must be the leaf of
 * a chain that holds at now_s; those that are not are left out.
 */
struct kbs_x5c_trust;
struct kbs_jwt_keys_rules {
    unsigned int algs;                 /* bits KBS_JWS_ALG_BIT() */
    const struct kbs_x5c_trust *trust; /* NULL: not asked */
    int64_t now_s;
};
KBS_MUST_CHECK int kbs_jwt_keys_load_by(struct kbs_span text,
                                        const struct kbs_jwt_keys_rules *rules,
                                        struct kbs_jwt_keys *ret, struct kbs_error *err);
void kbs_jwt_keys_deinit(struct kbs_jwt_keys *keys);
/*
 * The key that a token may have been signed with: by `kid` if there is a set, and only if it is for the token's
 * algorithm. Returns borrowed, or NULL.
 */
const struct kbs_jws_key *kbs_jwt_keys_find(const struct kbs_jwt_keys *keys,
                                            const struct kbs_jose_jws *jws);
/*
 * The same for a set of kbs_jwt_keys_load_by(): the one after `after` (NULL: the first) that a token may
 * have been signed with; one without `kid` may have been by any of its algorithm.
 */
const struct kbs_jws_key *kbs_jwt_keys_next(const struct kbs_jwt_keys *keys,
                                            const struct kbs_jose_jws *jws,
                                            const struct kbs_jws_key *after);

struct kbs_jwt_expect {
    struct kbs_span issuer;   /* that `iss` must be; empty: not asked */
    struct kbs_span audience; /* that `aud` must be or hold; empty: not asked */
    int64_t now_s;
    uint32_t leeway_s;  /* either way */
    uint32_t max_age_s; /* `iat` is required, and not longer ago nor in the future; 0: not asked */
    bool exp_optional;  /* only with max_age_s */
};
/*
 * `exp` is required unless it is optional, `nbf` is honoured (RFC 7519 section 4.1); all times are integers. KBS_UNAUTHENTICATED
 * says what did not fit.
 */
KBS_MUST_CHECK int kbs_jwt_claims_check(const json_t *claims, const struct kbs_jwt_expect *expect,
                                        struct kbs_error *err);

#endif
