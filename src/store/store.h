/*
 * The store: sessions, catalog, policies, administrators' sequences, in SQLite. All SQL lives in
 * this folder, one typed function per statement. Only the judge links it.
 */
#ifndef KBS_STORE_STORE_H
#define KBS_STORE_STORE_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/ec.h"
#include "catalog/key.h"

struct kbs_store;

/* Creates or upgrades the schema (MIGRATE); run by one process before the judges start.
 */
KBS_MUST_CHECK int kbs_store_migrate(const char *path, struct kbs_error *err);

/* Opens an existing store; KBS_INTERNAL if its schema is not the expected version. Returns owned.
 */
KBS_MUST_CHECK int kbs_store_open(const char *path, struct kbs_store **ret, struct kbs_error *err);
struct kbs_store *kbs_store_close(struct kbs_store *s);

enum kbs_session_state {
    KBS_SESSION_CHALLENGED = 1,
    KBS_SESSION_ATTESTED = 2
};

/* A session. Rows are found by SHA-256 of the cookie, or by sid (in our token); neither cookie nor
 * token is stored. */
struct kbs_session {
    uint8_t cookie_hash[KBS_SHA256_BYTES];
    uint8_t sid[16];
    enum kbs_session_state state;
    enum kbs_tee tee;
    enum kbs_hash hash;
    char nonce[64]; /* standard base64, NUL-terminated */
    int64_t created_s;
    int64_t expires_s;
    /* attested only */
    enum kbs_binding binding;
    int64_t attested_s;
    struct kbs_ec_public tee_key;
    struct kbs_digest report_digest;
    struct kbs_buf claims; /* the EAR claims set, JSON text; owned */
};
#define KBS_SESSION_NULL ((struct kbs_session){.claims = KBS_BUF(KBS_LIMIT_JWT_BYTES)})
void kbs_session_deinit(struct kbs_session *s);

/* Inserts a challenged session. KBS_LIMITED at KBS_LIMIT_SESSIONS live ones; expired ones are
 * removed first. */
KBS_MUST_CHECK int kbs_store_session_create(struct kbs_store *s, const struct kbs_session *session,
                                            struct kbs_error *err);
/* KBS_UNAUTHENTICATED if there is none or it has expired at now_s. */
KBS_MUST_CHECK int kbs_store_session_by_cookie(struct kbs_store *s,
                                               const uint8_t hash[KBS_SHA256_BYTES], int64_t now_s,
                                               struct kbs_session *ret, struct kbs_error *err);
KBS_MUST_CHECK int kbs_store_session_by_sid(struct kbs_store *s, const uint8_t sid[16],
                                            int64_t now_s, struct kbs_session *ret,
                                            struct kbs_error *err);
/*
 * Challenged to attested, in one statement, so that one nonce attests once however many try at the
 * same time: the loser gets KBS_UNAUTHENTICATED ("nonce already used").
 */
KBS_MUST_CHECK int kbs_store_session_attest(struct kbs_store *s, const struct kbs_session *session,
                                            struct kbs_error *err);

/* The store's own row: how many mutations there were, and a chain over all rows. */
struct kbs_store_epoch {
    uint64_t epoch;
    uint8_t manifest[KBS_SHA256_BYTES];
    uint8_t signature[KBS_ES256_BYTES]; /* zeros if there is none, as in a new store */
};
KBS_MUST_CHECK int kbs_store_epoch_get(struct kbs_store *s, struct kbs_store_epoch *ret,
                                       struct kbs_error *err);
/* The chain over the rows that are there now (catalog/row.h). */
KBS_MUST_CHECK int kbs_store_manifest(struct kbs_store *s, uint8_t ret[KBS_SHA256_BYTES],
                                      struct kbs_error *err);

/* A mutation; all borrowed. */
struct kbs_store_mutation {
    const struct kbs_key *key; /* a new row, signed; NULL to change the epoch alone */
    struct kbs_span policy;    /* its release policy's text, empty for none (deny) */
    struct kbs_span request;   /* the administrator's JWS; key->request is its digest */
    uint64_t from_epoch;       /* what the store must be at */
    struct kbs_store_epoch epoch;
};
/*
 * Row and epoch in one durable transaction. KBS_CONFLICT if path and version, or id and version,
 * exist, or if the store is not at from_epoch.
 */
KBS_MUST_CHECK int kbs_store_commit(struct kbs_store *s, const struct kbs_store_mutation *m,
                                    struct kbs_error *err);

/* Catalog. */
/* version 0: the latest. KBS_MISSING. `policy` may be NULL; else it is appended to. */
KBS_MUST_CHECK int kbs_store_key_get(struct kbs_store *s, struct kbs_span path, uint32_t version,
                                     struct kbs_key *ret, struct kbs_buf *policy,
                                     struct kbs_error *err);
/* Calls `each` for every key version, by path and version, at most KBS_LIMIT_KEY_LIST_ITEMS. */
KBS_MUST_CHECK int kbs_store_key_list(struct kbs_store *s,
                                      void (*each)(void *ctx, const struct kbs_key *key), void *ctx,
                                      struct kbs_error *err);

/*
 * Raises an administrator's sequence (by thumbprint of the key) to `sequence`; KBS_CONFLICT if it
 * is not larger than the last one seen.
 */
KBS_MUST_CHECK int kbs_store_admin_advance(struct kbs_store *s, const char *thumbprint,
                                           uint64_t sequence, struct kbs_error *err);

#endif
