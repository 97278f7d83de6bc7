/*
 * Issuers of attestation tokens for tests: one per profile, with a key of its own, that mints what the real
 * service would say of one and the same guest; and a small PKI for chains in headers.
 */
#ifndef KBS_TESTS_ATTEST_ISSUER_MINT_H
#define KBS_TESTS_ATTEST_ISSUER_MINT_H

#include "tests/jose/maker.h"

#include "attest/issuer/issuer.h"

#define MINT_NOW 1800000000
#define MINT_TEXT_BYTES (1u << 20)

enum mint_source {
    MINT_PEM,
    MINT_JWKS,
    MINT_DOCUMENT,
    MINT_ANCHOR
};

/* The guest, and what was sent for it. */
struct mint_guest {
    struct kbs_tee_key key;
    struct kbs_tee_key other_key;
    char jwk[512];
    char other_jwk[512];
    struct kbs_buf runtime; /* canonical */
    const char *nonce;
};

struct mint {
    const char *name; /* of the [[issuer]] */
    enum kbs_issuer_profile profile;
    const char *alg;
    const char *other_alg; /* that a key of the same kind could sign with, and is not configured */
    const char *iss;
    const char *aud; /* NULL: its tokens have none */
    enum mint_source source;
    enum kbs_tee tee;
    enum kbs_hash hash; /* of report data */
    bool passport;
    const struct kbs_issuer_requirement *require;
    size_t require_count;
    json_t *(*claims)(const struct mint_guest *guest);
    /* filled in by mint_begin() */
    struct maker maker;
    struct kbs_buf pem;
    struct kbs_buf jwks;
};

#define MINT_COUNT 12
extern struct mint mints[MINT_COUNT];
extern struct mint_guest mint_guest;
extern const char *mint_twice; /* members that every payload begins with; NULL: none */

extern int64_t mint_now; /* MINT_NOW, or what a test wants */

void mint_begin(void);
void mint_end(void);

/* Another guest: tokens and sessions are of it from here on. */
void mint_guest_set(const struct kbs_tee_key *key);

/* The configuration of one; `source` in the place of its own. Borrows its texts. */
struct kbs_issuer_config mint_config(struct mint *m, enum mint_source source,
                                     struct kbs_span anchor);
/* What a session of that guest expects. */
struct kbs_issuer_expected mint_session(const struct mint *m);
struct kbs_issuer_expected mint_passport(void);
/* The header it writes; NULL `more` or members with a leading comma. */
void mint_header(const struct mint *m, const char *alg, const char *more, struct kbs_buf *out);
/* A token (of NRAS: the array) of these claims, appended; header NULL: its own. */
void mint_token(const struct mint *m, const struct maker *by, const char *header,
                const json_t *claims, struct kbs_buf *out);

/* By a pointer of names joined with '|'; NULL removes. Takes value. */
void mint_set(json_t *claims, const char *path, json_t *value);

/* Certificates. x5c: the inside of an array of DER in base64. */
struct mint_pki {
    struct maker root;
    struct maker intermediate[2];
    struct maker leaf;
    struct maker decoy;
    struct kbs_buf anchor; /* PEM of the root */
    struct kbs_buf decoy_anchor;
    struct kbs_buf direct;       /* leaf signed by the root */
    struct kbs_buf chain;        /* leaf, intermediate */
    struct kbs_buf shuffled;     /* leaf, and two intermediates and a decoy in the wrong order */
    struct kbs_buf partial;      /* the same without the root */
    struct kbs_buf decoy_direct; /* the leaf's key under the decoy's root */
    struct kbs_buf old;          /* leaf that has expired */
    struct kbs_buf crl;          /* PEM of the root, revokes `direct` */
    struct kbs_buf empty_crl;
    struct kbs_buf
        chain_crl; /* of the root, which revokes the intermediate of `chain`; and of that one */
};
void mint_pki_begin(struct mint_pki *pki, const struct maker *leaf);
void mint_pki_end(struct mint_pki *pki);

#endif
