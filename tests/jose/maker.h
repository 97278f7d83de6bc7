/*
 * Issuers for tests: keys of every kind, their public halves as PEM and JWK, and compact JWS with whatever header
 * a test wants, signed as that key signs.
 */
#ifndef KBS_TESTS_JOSE_MAKER_H
#define KBS_TESTS_JOSE_MAKER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include "base/buf.h"

struct maker {
    EVP_PKEY *pkey;
    const char *alg; /* what it signs with */
};

/* alg: a name of RFC 7518 or "EdDSA"; RSA keys have 2048 bits. */
struct maker maker_new(const char *alg);
void maker_free(struct maker *m);
/* The same key, signing by another algorithm of its kind. Nothing to free. */
struct maker maker_as(const struct maker *m, const char *alg);

/* The public key, appended. */
void maker_pem(const struct maker *m, struct kbs_buf *out);
/* {"kty",…,"alg":alg,"kid":kid} and `more` (such as ",\"use\":\"sig\""); NULL leaves a member out. */
void maker_jwk(const struct maker *m, const char *alg, const char *kid, const char *more,
               struct kbs_buf *out);

/* A signature over any bytes, as JOSE has it; appended. */
void maker_sign(const struct maker *m, struct kbs_span input, struct kbs_buf *out);
/* header "." payload "." signature; header: NULL for {"alg":alg}. Appended. */
void maker_jws(const struct maker *m, const char *header, const char *payload, struct kbs_buf *out);
/* The same, with an HMAC-SHA-256 by that secret in place of the signature. */
void maker_hs256(struct kbs_span secret, const char *header, const char *payload,
                 struct kbs_buf *out);

#endif
