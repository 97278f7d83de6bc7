/*
 * Public test vectors, decided by two sides of the same algorithms: src/agree with the client's
 * code, and kbs-token's code on a real token. test_vectors.c reads the files and judges; these are
 * what it asks.
 */
#ifndef KBS_TESTS_TOKEN_VECTORS_H
#define KBS_TESTS_TOKEN_VECTORS_H

#include "agree/agree.h"
#include "base/tee_key.h"

/* What a side made of one vector. */
enum vector_got {
    VECTOR_RIGHT,   /* exactly the result of the vector */
    VECTOR_REFUSED, /* by the operation itself: it was tried, and the failure was a proper one */
    VECTOR_BEFORE,  /* before any operation: by length, form or point */
    VECTOR_SKIPPED, /* this side has nothing that does such a thing */
    VECTOR_WRONG    /* another result, or a failure that must not be */
};

struct vector_answer {
    enum vector_got got;
    /* Of SKIPPED, the same text for the same reason; of the others for the log. */
    char why[KBS_LIMIT_ERROR_DETAIL_BYTES];
};
struct vector_answer vector_answer(enum vector_got got, const char *why);
/* RIGHT or WRONG, by comparison. */
struct vector_answer vector_compared(struct kbs_span got, struct kbs_span wanted);

/* A public key as it came: octets, said to be a point of that curve. */
struct vector_peer {
    enum kbs_curve curve;
    struct kbs_span point;
};

/* A JWE in compact form brought to JSON's flattened one, and what opens it. */
struct vector_jwe {
    struct kbs_span text;
    struct kbs_tee_key public_key;
    const struct kbs_agree_key *ec; /* one of the two */
    const struct kbs_agree_rsa *rsa;
    struct kbs_span d; /* of ec, of the field's size */
    struct kbs_span plain;
};

struct vector_gcm {
    struct kbs_span key, iv, aad, msg, ct, tag;
};

struct vector_side {
    const char *name;
    /* AES Key Wrap: `key` out of `wrapped`. */
    struct vector_answer (*unwrap)(struct kbs_span kek, struct kbs_span wrapped,
                                   struct kbs_span key);
    /* HKDF-SHA-256: okm is compared as far as both it and our 32 bytes go. */
    struct vector_answer (*hkdf)(struct kbs_span ikm, struct kbs_span salt, struct kbs_span info,
                                 struct kbs_span okm);
    /* ECDH and what follows it: d of the field's size. */
    struct vector_answer (*ecdh)(enum kbs_curve curve, struct kbs_span d,
                                 const struct vector_peer *peer, struct kbs_span shared);
    /* ECDH-ES+A256KW with an empty context: `key` out of `wrapped`. */
    struct vector_answer (*agreed)(enum kbs_curve curve, struct kbs_span d,
                                   const struct vector_peer *epk, struct kbs_span wrapped,
                                   struct kbs_span key);
    struct vector_answer (*oaep)(const struct kbs_agree_rsa *key, enum kbs_tee_alg alg,
                                 struct kbs_span ct, struct kbs_span msg);
    /* A256GCM: key 32 bytes, iv 12, tag 16. */
    struct vector_answer (*gcm)(const struct vector_gcm *v);
    struct vector_answer (*jwe)(const struct vector_jwe *v);
};

extern const struct vector_side vector_software;
extern const struct vector_side vector_token;

/* An EC key in OpenSSL from its scalar; fails the test if it is none. Returns owned. */
struct kbs_agree_key *vector_key(enum kbs_curve curve, struct kbs_span d);

/* A fresh token of the kind that harness_select() chose, opened in this process; and its end. */
void vector_token_open(void);
void vector_token_close(void);

#endif
