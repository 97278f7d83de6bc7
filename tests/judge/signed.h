/* Requests as administrators sign them (docs/protocol/admin-api.md). */
#ifndef KBS_TESTS_JUDGE_SIGNED_H
#define KBS_TESTS_JUDGE_SIGNED_H

#include "harness.h"

/* What goes into a signature; the test changes one member at a time. */
struct signature {
    EVP_PKEY *key;
    const char *kid; /* NULL: the key's thumbprint */
    const char *typ;
    const char *m;
    const char *p;
    const char *body;
    char nonce[128];
    uint64_t s;
    int64_t exp;
    const char *extra; /* appended to the payload's members */
    char text[4096];   /* the result */
};

/* All that the enrolled administrator's signature of that request has, with a nonce and the next sequence. */
struct signature signature_for(struct judge *j, const struct ask *ask);
/* Signs; returns borrowed. */
const char *signature_make(struct signature *s);
/* Signs as an administrator would and expects the status. */
void expect_signed(struct judge *j, struct ask ask, unsigned int status, const char *text);

/* The ledger is gone at that record from now on; then a new judge starts. */
void crash_at(struct judge *j, struct ask ask, unsigned int record);
/* The same, with the whole answer. */
void ask_signed(struct judge *j, struct ask ask, struct reply *ret);

#endif
