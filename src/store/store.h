/*
 * The store: sessions, catalog, policies, administrators' sequences, in SQLite. All SQL lives in
 * this folder, one typed function per statement. Only the judge links it.
 */
#ifndef KBS_STORE_STORE_H
#define KBS_STORE_STORE_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/ec.h"
#include "base/tee_key.h"
#include "catalog/document.h"
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
    enum kbs_protocol version;
    enum kbs_tee tee;
    enum kbs_hash hash;
    /* NUL-terminated: standard base64 of ours, or the text of an attestation service's challenge */
    char nonce[KBS_LIMIT_CHALLENGE_BYTES + 1];
    int64_t created_s;
    int64_t expires_s;
    /* attested only */
    enum kbs_binding binding;
    int64_t attested_s;
    struct kbs_tee_key tee_key;
    struct kbs_digest report_digest;
    struct kbs_buf claims; /* the EAR claims set, JSON text; owned */
    /* never in a row: how the request at hand came (docs/protocol/requests.md) */
    bool pop; /* with a proof of possession: tee_key is its one-request key, not the attested one */
    bool encrypted;                  /* its body was */
    bool channel_bound;              /* the proof names the TLS connection that it came by */
    struct kbs_tee_key attested_key; /* of pop */
    /* never in a row; borrowed from whoever made it */
    const char
        *passport; /* name of the issuer whose token stands for a handshake; NULL: there was one */
    const char
        *agreed; /* and of the second one, whose token says the same; NULL: none was asked for */
};
#define KBS_SESSION_NULL ((struct kbs_session){.claims = KBS_BUF(KBS_LIMIT_JWT_BYTES)})
void kbs_session_deinit(struct kbs_session *s);
/* The key that was attested, which nothing may be wrapped to if it signs. */
static inline const struct kbs_tee_key *kbs_session_key(const struct kbs_session *s)
{
    return s->pop ? &s->attested_key : &s->tee_key;
}

/*
 * Inserts a challenged session. KBS_LIMITED at KBS_LIMIT_SESSIONS live ones, or at `challenged` of
 * them that have not attested; expired ones are removed first, and never one that is alive.
 */
KBS_MUST_CHECK int kbs_store_session_create(struct kbs_store *s, const struct kbs_session *session,
                                            uint32_t challenged, struct kbs_error *err);
/* KBS_UNAUTHENTICATED if there is none or it has expired at now_s. */
KBS_MUST_CHECK int kbs_store_session_by_cookie(struct kbs_store *s,
                                               const uint8_t hash[KBS_SHA256_BYTES], int64_t now_s,
                                               struct kbs_session *ret, struct kbs_error *err);
KBS_MUST_CHECK int kbs_store_session_by_sid(struct kbs_store *s, const uint8_t sid[16],
                                            int64_t now_s, struct kbs_session *ret,
                                            struct kbs_error *err);
/* KBS_UNAUTHENTICATED if no attested session that is alive at now_s has that TEE key. */
KBS_MUST_CHECK int kbs_store_session_has_key(struct kbs_store *s, const struct kbs_tee_key *key,
                                             int64_t now_s, struct kbs_error *err);
/*
 * Challenged to attested, in one statement, so that one nonce attests once however many try at the
 * same time: the loser gets KBS_UNAUTHENTICATED ("nonce already used"). The hash may be another than the
 * one it began with.
 */
KBS_MUST_CHECK int kbs_store_session_attest(struct kbs_store *s, const struct kbs_session *session,
                                            struct kbs_error *err);

/*
 * Nonces of requests (docs/protocol/requests.md), by SHA-256. Adds one that counts until expires_s, in the place of
 * the session's oldest if it has KBS_LIMIT_REQUEST_NONCES.
 */
KBS_MUST_CHECK int kbs_store_request_nonce_add(struct kbs_store *s, const uint8_t sid[16],
                                               const uint8_t hash[KBS_SHA256_BYTES], int64_t now_s,
                                               int64_t expires_s, struct kbs_error *err);
/*
 * Uses one up, in one statement, so that it counts once however many try at the same time:
 * KBS_UNAUTHENTICATED if it is not one of this session's, or is used, or has expired.
 */
KBS_MUST_CHECK int kbs_store_request_nonce_use(struct kbs_store *s, const uint8_t sid[16],
                                               const uint8_t hash[KBS_SHA256_BYTES], int64_t now_s,
                                               struct kbs_error *err);

/* The store's own row: how many mutations there were, and a chain over all rows. */
struct kbs_store_epoch {
    uint64_t epoch;
    uint8_t manifest[KBS_SHA256_BYTES];
    uint8_t signature[KBS_ES256_BYTES]; /* zeros if there is none, as in a new store */
};
KBS_MUST_CHECK int kbs_store_epoch_get(struct kbs_store *s, struct kbs_store_epoch *ret,
                                       struct kbs_error *err);

/* A row of a mutation; all borrowed. */
struct kbs_store_row {
    struct kbs_key *key;     /* signed; its storage says whether it goes to table key or secret */
    struct kbs_span policy;  /* its release policy's text, empty for none (deny) */
    struct kbs_span request; /* the administrator's JWS; key->request is its digest */
    struct kbs_span sealed;  /* of a secret; empty once it is destroyed */
    bool fresh;              /* made; else the row of that path and version is changed */
};

/* A document in a mutation: a new version, or one that is dropped; all borrowed. */
struct kbs_store_document {
    struct kbs_document *document; /* signed */
    struct kbs_span text;
    struct kbs_span request; /* the administrator's; document->request is its digest */
    bool dropped;            /* kind, name and version say which; nothing else counts */
};

/* A mutation; all borrowed. */
struct kbs_store_mutation {
    const struct kbs_store_row *rows;           /* keys, then secrets, each by path and version */
    size_t row_count;                           /* 0 to change the epoch alone */
    const struct kbs_store_document *documents; /* by kind, name and version */
    size_t document_count;
    bool erase;          /* what the rows no longer hold must be gone from the file */
    uint64_t from_epoch; /* what the store must be at */
    struct kbs_store_epoch epoch;
};

/* Puts rows into the order that a mutation has them in. */
void kbs_store_rows_sort(struct kbs_store_row *rows, size_t count);
void kbs_store_documents_sort(struct kbs_store_document *documents, size_t count);

/*
 * The chain over all rows (catalog/row.h): as they are now, and as they will be after `m`, whose
 * rows have an epoch above all others; both from one state of the store. m may be NULL, and then so
 * may ret_after.
 */
KBS_MUST_CHECK int kbs_store_manifest(struct kbs_store *s, const struct kbs_store_mutation *m,
                                      uint8_t ret_now[KBS_SHA256_BYTES],
                                      uint8_t ret_after[KBS_SHA256_BYTES], struct kbs_error *err);

/*
 * Rows and epoch in one durable transaction. KBS_CONFLICT if a fresh row's path and version, or id
 * and version, exist, if a row to be changed does not, or if the store is not at from_epoch. Only
 * state, policy, card, blob and what signs them can be changed.
 */
KBS_MUST_CHECK int kbs_store_commit(struct kbs_store *s, const struct kbs_store_mutation *m,
                                    struct kbs_error *err);

/* Catalog. Texts are appended to their buffers, which may be NULL. */
/* version 0: the highest that is not destroyed. KBS_MISSING. */
KBS_MUST_CHECK int kbs_store_key_get(struct kbs_store *s, struct kbs_span path, uint32_t version,
                                     struct kbs_key *ret, struct kbs_buf *policy,
                                     struct kbs_error *err);
/* The highest version, destroyed or not. KBS_MISSING. */
KBS_MUST_CHECK int kbs_store_key_newest(struct kbs_store *s, struct kbs_span path,
                                        struct kbs_key *ret, struct kbs_buf *policy,
                                        struct kbs_error *err);
/*
 * A key whose destruction was due at now_s, with the request that said so: the one that has been due for
 * the longest time, but for the first `skip`. KBS_MISSING.
 */
KBS_MUST_CHECK int kbs_store_key_due(struct kbs_store *s, int64_t now_s, unsigned int skip,
                                     struct kbs_key *ret, struct kbs_buf *policy,
                                     struct kbs_buf *request, struct kbs_error *err);
/* When the next destruction is due; 0 if none is. */
KBS_MUST_CHECK int kbs_store_key_next_due(struct kbs_store *s, int64_t *ret_s,
                                          struct kbs_error *err);

/* The texts of a row that are not in struct kbs_key. */
struct kbs_store_texts {
    struct kbs_span policy;
    struct kbs_span request;
    struct kbs_span sealed; /* kbs_store_secret_sealed() only */
};
/* All are borrowed until the call returns. */
typedef void kbs_store_key_each(void *ctx, const struct kbs_key *key,
                                const struct kbs_store_texts *texts);
/* Calls `each` for at most `limit` key versions, by path and version, after that one (empty: all). */
KBS_MUST_CHECK int kbs_store_key_list(struct kbs_store *s, struct kbs_span after_path,
                                      uint32_t after_version, unsigned int limit,
                                      kbs_store_key_each *each, void *ctx, struct kbs_error *err);
/*
 * What stands under a wrapping or seal key older than `version`, the oldest first and always in the
 * same order: at most `limit` of it, but for the first `skip`.
 */
struct kbs_store_below {
    uint32_t version;
    unsigned int skip;
    unsigned int limit;
};
typedef void kbs_store_count_each(void *ctx, uint32_t version, uint64_t count);
/* Wrapped keys. */
KBS_MUST_CHECK int kbs_store_key_wrapped(struct kbs_store *s, const struct kbs_store_below *below,
                                         kbs_store_key_each *each, void *ctx,
                                         struct kbs_error *err);
/* For each version of the wrapping key that keys stand under: how many. */
KBS_MUST_CHECK int kbs_store_key_wrap_count(struct kbs_store *s, kbs_store_count_each *each,
                                            void *ctx, struct kbs_error *err);

/*
 * Secrets, whose rows are read as keys with alg `secret`. The newest version of one, destroyed or
 * not, with its policy and its sealed form (empty once it is destroyed); either may be NULL.
 * KBS_MISSING.
 */
KBS_MUST_CHECK int kbs_store_secret_newest(struct kbs_store *s, struct kbs_span path,
                                           struct kbs_key *ret, struct kbs_buf *policy,
                                           struct kbs_buf *sealed, struct kbs_error *err);
/* Calls `each` for every version of one that is not destroyed, the oldest first. */
KBS_MUST_CHECK int kbs_store_secret_live(struct kbs_store *s, struct kbs_span path,
                                         kbs_store_key_each *each, void *ctx,
                                         struct kbs_error *err);
/* For the newest version of each that is not destroyed: at most `limit`, by path, after that one. */
KBS_MUST_CHECK int kbs_store_secret_list(struct kbs_store *s, struct kbs_span after_path,
                                         unsigned int limit, kbs_store_key_each *each, void *ctx,
                                         struct kbs_error *err);

/* The same of versions of secrets that are not destroyed, by seal key. */
KBS_MUST_CHECK int kbs_store_secret_sealed(struct kbs_store *s, const struct kbs_store_below *below,
                                           kbs_store_key_each *each, void *ctx,
                                           struct kbs_error *err);
KBS_MUST_CHECK int kbs_store_secret_seal_count(struct kbs_store *s, kbs_store_count_each *each,
                                               void *ctx, struct kbs_error *err);

/*
 * Documents. The newest version, with its text (appended; may be NULL). KBS_MISSING.
 */
KBS_MUST_CHECK int kbs_store_document_newest(struct kbs_store *s, enum kbs_document_kind kind,
                                             struct kbs_span name, struct kbs_document *ret,
                                             struct kbs_buf *text, struct kbs_error *err);
/* The same of that version. */
KBS_MUST_CHECK int kbs_store_document_version(struct kbs_store *s, enum kbs_document_kind kind,
                                              struct kbs_span name, uint32_t version,
                                              struct kbs_document *ret, struct kbs_buf *text,
                                              struct kbs_error *err);
/* The texts are borrowed until the call returns; -1 with *err ends the list. */
typedef int kbs_store_document_each(void *ctx, const struct kbs_document *document,
                                    struct kbs_span text, struct kbs_span request,
                                    struct kbs_error *err);
/* Calls `each` for every version of one that is kept, the newest first. */
KBS_MUST_CHECK int kbs_store_document_history(struct kbs_store *s, enum kbs_document_kind kind,
                                              struct kbs_span name, kbs_store_document_each *each,
                                              void *ctx, struct kbs_error *err);
/*
 * Calls `each` for the newest version of at most `limit` documents of a kind, by name, after that
 * one (empty: from the first on); all as they were at one moment. Those that were taken back are
 * among them, with an empty text.
 */
KBS_MUST_CHECK int kbs_store_document_list(struct kbs_store *s, enum kbs_document_kind kind,
                                           struct kbs_span after, unsigned int limit,
                                           kbs_store_document_each *each, void *ctx,
                                           struct kbs_error *err);
/* How many versions of it there are, and the oldest of them (0 if there are none). */
KBS_MUST_CHECK int kbs_store_document_versions(struct kbs_store *s, enum kbs_document_kind kind,
                                               struct kbs_span name, uint64_t *ret_count,
                                               uint32_t *ret_oldest, struct kbs_error *err);
/* What all versions of all documents but approvals take: rows, and bytes of text. */
KBS_MUST_CHECK int kbs_store_document_space(struct kbs_store *s, uint64_t *ret_rows,
                                            uint64_t *ret_bytes, struct kbs_error *err);

/*
 * What is kept for guests (docs/protocol/store-rows.md): for whom, under which key. identity: kbs_nek_binding_put() of what
 * he attested. Marks are kbs-token's (wire/message.h).
 */
#define KBS_STORE_MARK_BYTES 32
struct kbs_store_owner {
    uint8_t key_id[KBS_KEY_ID_BYTES];
    uint8_t identity[1 + KBS_SHA256_BYTES];
};

/* A NEK that was provisioned, but for its blob. */
struct kbs_store_provision {
    uint32_t version; /* of the key that it is wrapped to */
    int64_t created_s;
    uint8_t session[16]; /* whose first boot it was */
    uint8_t mark[KBS_STORE_MARK_BYTES];
};
/* With the blob's text, appended. KBS_MISSING. */
KBS_MUST_CHECK int kbs_store_provision_get(struct kbs_store *s, const struct kbs_store_owner *owner,
                                           struct kbs_store_provision *ret, struct kbs_buf *blob,
                                           struct kbs_error *err);
/* How many guests of owner->key_id have one. */
KBS_MUST_CHECK int kbs_store_provision_count(struct kbs_store *s,
                                             const struct kbs_store_owner *owner, uint64_t *ret,
                                             struct kbs_error *err);
/* Durably. KBS_CONFLICT if the guest has one, KBS_LIMITED if `quota` guests of the key have. */
KBS_MUST_CHECK int kbs_store_provision_add(struct kbs_store *s, const struct kbs_store_owner *owner,
                                           const struct kbs_store_provision *row,
                                           struct kbs_span blob, uint32_t quota,
                                           struct kbs_error *err);

/* A guest's value in a register. */
struct kbs_store_register {
    uint64_t value; /* at most INT64_MAX */
    uint8_t digest[KBS_LIMIT_REGISTER_DIGEST_BYTES];
    size_t digest_len;
    uint8_t mark[KBS_STORE_MARK_BYTES];
    int64_t changed_s;
};
/* KBS_MISSING. */
KBS_MUST_CHECK int kbs_store_register_get(struct kbs_store *s, const struct kbs_store_owner *owner,
                                          struct kbs_store_register *ret, struct kbs_error *err);
/* The first value, durably; errors as of kbs_store_provision_add(). */
KBS_MUST_CHECK int kbs_store_register_add(struct kbs_store *s, const struct kbs_store_owner *owner,
                                          const struct kbs_store_register *row, uint32_t quota,
                                          struct kbs_error *err);
/* The next one, durably. KBS_CONFLICT if the value is not `from` (by its mark) any more. */
KBS_MUST_CHECK int kbs_store_register_step(struct kbs_store *s, const struct kbs_store_owner *owner,
                                           const struct kbs_store_register *from,
                                           const struct kbs_store_register *to,
                                           struct kbs_error *err);

/* A guest that something is kept for: of each kind only if there is some. */
struct kbs_store_kept {
    struct kbs_store_owner owner;
    uint32_t version; /* of the key that its NEK is wrapped to; 0: none was provisioned */
    int64_t created_s;
    bool has_value; /* in the register */
    uint64_t value;
    int64_t changed_s;
};
typedef void kbs_store_kept_each(void *ctx, const struct kbs_store_kept *kept);
/* At most `limit` guests of after->key_id, by identity, after that one (zeros: from the first). */
KBS_MUST_CHECK int kbs_store_kept_list(struct kbs_store *s, const struct kbs_store_owner *after,
                                       unsigned int limit, kbs_store_kept_each *each, void *ctx,
                                       struct kbs_error *err);
/* Whether anything is kept for that guest; and forgetting it, durably. */
KBS_MUST_CHECK int kbs_store_kept_there(struct kbs_store *s, const struct kbs_store_owner *owner,
                                        bool *ret, struct kbs_error *err);
KBS_MUST_CHECK int kbs_store_kept_forget(struct kbs_store *s, const struct kbs_store_owner *owner,
                                         struct kbs_error *err);

/*
 * Raises an administrator's sequence (by thumbprint of the key) to `sequence`; KBS_CONFLICT if it
 * is not larger than the last one seen.
 */
KBS_MUST_CHECK int kbs_store_admin_advance(struct kbs_store *s, const char *thumbprint,
                                           uint64_t sequence, struct kbs_error *err);

#endif
