/*
 * Inside src/api only: a change of one secret, from the store as it is to the outcome in the ledger
 * (secret_change.c). The roads that lead to it check who asks, and read what is asked.
 */
#ifndef KBS_API_SECRET_CHANGE_H
#define KBS_API_SECRET_CHANGE_H

#include "api/context.h"
#include "jose/read/jwe.h"

/* The rows of a mutation: at most one new version and those that are kept. */
#define KBS_SECRET_ROWS_MAX (KBS_LIMIT_SECRET_VERSIONS + 1)

/* A version that is there. */
struct kbs_secret_live {
    struct kbs_key key;
    struct kbs_buf policy;
};

struct kbs_secret_change {
    struct kbs_mutation m;
    struct kbs_span path;
    /* of a new version: its value, as one of these two */
    struct kbs_jose_jwe_in jwe;
    struct kbs_span plaintext; /* borrowed; empty: sealed by the client */
    /* of a new version or policy: an object that may have `policy` (borrowed); NULL: a resource's */
    const json_t *terms;
    /* what the change comes to: the newest version, and its policy */
    struct kbs_key row;
    struct kbs_buf policy;
    struct {
        struct kbs_secret_live *v; /* KBS_SECRET_ROWS_MAX of them; owned */
        size_t count;
        bool more; /* there were more: a store that this program did not write */
    } live;
    char kid[KBS_LIMIT_KID_BYTES + 1];
};

/* kind: of its records; static. Stays where it is from the first change on. */
struct kbs_secret_change kbs_secret_change_new(struct kbs_call *call, const char *kind);
void kbs_secret_change_deinit(struct kbs_secret_change *s);

/*
 * The next version, with path, value and terms as filled in. KBS_DENIED for plaintext in the production
 * profile, KBS_CONFLICT if a key has the path.
 */
KBS_MUST_CHECK int kbs_secret_change_set(struct kbs_secret_change *s, struct kbs_error *err);
/* Another policy for the newest version. KBS_MISSING if there is none, or it is destroyed. */
KBS_MUST_CHECK int kbs_secret_change_policy(struct kbs_secret_change *s, struct kbs_error *err);
/* Destroys all versions. KBS_MISSING if there are none. */
KBS_MUST_CHECK int kbs_secret_change_delete(struct kbs_secret_change *s, struct kbs_error *err);

#endif
