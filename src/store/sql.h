/*
 * Inside src/store only: the open store, its prepared statements and what every statement's
 * function does around them. Why there are two connections is told on top of store.c.
 */
#ifndef KBS_STORE_SQL_H
#define KBS_STORE_SQL_H

#include <sqlite3.h>

#include "store/store.h"

/* "KBSH", in the file's header: says whose file this is before any of it is believed. */
#define KBS_STORE_APPLICATION_ID 0x4b425348
#define KBS_STORE_SCHEMA 7

enum kbs_sql {
    /* on the connection that does not wait for the disk */
    KBS_SQL_BEGIN,
    KBS_SQL_COMMIT,
    KBS_SQL_ROLLBACK,
    KBS_SQL_SESSION_EXPIRE,
    KBS_SQL_SESSION_COUNT,
    KBS_SQL_SESSION_INSERT,
    KBS_SQL_SESSION_BY_COOKIE,
    KBS_SQL_SESSION_BY_SID,
    KBS_SQL_SESSION_HAS_KEY,
    KBS_SQL_SESSION_ATTEST,
    KBS_SQL_NONCE_EXPIRE,
    KBS_SQL_NONCE_TRIM,
    KBS_SQL_NONCE_INSERT,
    KBS_SQL_NONCE_USE,
    KBS_SQL_KEY_BY_VERSION,
    KBS_SQL_KEY_LATEST,
    KBS_SQL_KEY_NEWEST,
    KBS_SQL_KEY_LIST,
    KBS_SQL_KEY_ALL,
    KBS_SQL_KEY_WRAPPED,
    KBS_SQL_KEY_WRAP_COUNT,
    KBS_SQL_KEY_DUE,
    KBS_SQL_KEY_NEXT_DUE,
    KBS_SQL_SECRET_ALL,
    KBS_SQL_SECRET_NEWEST,
    KBS_SQL_SECRET_LIVE,
    KBS_SQL_SECRET_LIST,
    KBS_SQL_SECRET_SEALED,
    KBS_SQL_SECRET_SEAL_COUNT,
    KBS_SQL_DOCUMENT_NEWEST,
    KBS_SQL_DOCUMENT_VERSION,
    KBS_SQL_DOCUMENT_HISTORY,
    KBS_SQL_DOCUMENT_LIST,
    KBS_SQL_DOCUMENT_OLDEST,
    KBS_SQL_DOCUMENT_SPACE,
    KBS_SQL_DOCUMENT_ALL,
    KBS_SQL_EPOCH_GET,
    KBS_SQL_PROVISION_GET,
    KBS_SQL_PROVISION_COUNT,
    KBS_SQL_REGISTER_GET,
    KBS_SQL_KEPT_LIST,
    KBS_SQL_KEPT_THERE,
    KBS_SQL_READ_BEGIN,
    /* on the connection that does */
    KBS_SQL_DURABLE_BEGIN,
    KBS_SQL_DURABLE_COMMIT,
    KBS_SQL_DURABLE_ROLLBACK,
    KBS_SQL_KEY_INSERT,
    KBS_SQL_KEY_UPDATE,
    KBS_SQL_SECRET_INSERT,
    KBS_SQL_SECRET_UPDATE,
    KBS_SQL_DOCUMENT_INSERT,
    KBS_SQL_DOCUMENT_DELETE,
    KBS_SQL_EPOCH_SET,
    KBS_SQL_ADMIN_ADVANCE,
    KBS_SQL_PROVISION_ADD,
    KBS_SQL_REGISTER_ADD,
    KBS_SQL_REGISTER_STEP,
    KBS_SQL_PROVISION_FORGET,
    KBS_SQL_REGISTER_FORGET,
    KBS_SQL_COUNT
};

/* One connection and how long its current call has waited. */
struct kbs_sql_connection {
    sqlite3 *db;
    uint64_t waiting_until_ns;
};

struct kbs_store {
    struct kbs_sql_connection fast;    /* synchronous=NORMAL */
    struct kbs_sql_connection durable; /* synchronous=FULL */
    sqlite3_stmt *statements[KBS_SQL_COUNT];
};

/* kbs_sql_step(): a row is there. */
#define KBS_SQL_ROW 1
/* kbs_sql_step(): a UNIQUE or PRIMARY KEY constraint held. */
#define KBS_SQL_EXISTS 2

/*
 * Opens a connection to an existing file with our settings; `synchronous` is "NORMAL" or "FULL". On
 * failure *c still has to be closed. Does not look at what the file holds.
 */
KBS_MUST_CHECK int kbs_sql_open(struct kbs_sql_connection *c, const char *path,
                                const char *synchronous, struct kbs_error *err);
void kbs_sql_close(struct kbs_sql_connection *c);

/*
 * Fills *err from a connection's last result: KBS_BUSY for a lock not had in time, else
 * KBS_INTERNAL.
 */
int kbs_sql_fail(sqlite3 *db, int rc, const char *what, struct kbs_error *err);

/* Runs SQL text without parameters and rows. */
KBS_MUST_CHECK int kbs_sql_exec(sqlite3 *db, const char *sql, const char *what,
                                struct kbs_error *err);
/* The one integer that a query gives; KBS_INTERNAL if there is no row. */
KBS_MUST_CHECK int kbs_sql_integer(sqlite3 *db, const char *sql, const char *what, int64_t *ret,
                                   struct kbs_error *err);

/* KBS_INTERNAL unless the file is ours and its schema is KBS_STORE_SCHEMA. */
KBS_MUST_CHECK int kbs_sql_check_schema(sqlite3 *db, struct kbs_error *err);

/*
 * Advances a prepared statement: 0 done, KBS_SQL_ROW, KBS_SQL_EXISTS or -1. Whatever it gave, the
 * caller ends with kbs_sql_reset(), since a statement that is not reset holds its read transaction
 * open.
 */
KBS_MUST_CHECK int kbs_sql_step(struct kbs_store *s, enum kbs_sql which, const char *what,
                                struct kbs_error *err);
void kbs_sql_reset(struct kbs_store *s, enum kbs_sql which);
/* Step and reset of a statement that gives no rows. 0, KBS_SQL_EXISTS or -1. */
KBS_MUST_CHECK int kbs_sql_run(struct kbs_store *s, enum kbs_sql which, const char *what,
                               struct kbs_error *err);

/* Bindings cannot fail but for lack of memory or a wrong index, both found by the next step. */
void kbs_sql_bind_int(struct kbs_store *s, enum kbs_sql which, int index, int64_t v);
void kbs_sql_bind_blob(struct kbs_store *s, enum kbs_sql which, int index, struct kbs_span v);
void kbs_sql_bind_text(struct kbs_store *s, enum kbs_sql which, int index, struct kbs_span v);

/* Columns of the current row; spans borrow until the next step or reset. */
int64_t kbs_sql_column_int(struct kbs_store *s, enum kbs_sql which, int column);
struct kbs_span kbs_sql_column_bytes(struct kbs_store *s, enum kbs_sql which, int column);
/* Copies exactly n bytes; false if the column has another length. */
bool kbs_sql_column_exact(struct kbs_store *s, enum kbs_sql which, int column, void *out, size_t n);

/*
 * The row under the cursor of a statement over the columns of a key, or of a secret in their order.
 * False if it is not one we wrote.
 */
bool kbs_sql_key_read(struct kbs_store *s, enum kbs_sql which, struct kbs_key *ret);

/* Columns of such a statement whose text is not in struct kbs_key. */
#define KBS_SQL_KEY_POLICY 7
#define KBS_SQL_KEY_REQUEST 9
#define KBS_SQL_KEY_BLOB 17
#define KBS_SQL_SECRET_SEALED_FORM 18 /* where it was selected */

/* Calls `each` for every row of such a statement, which is bound. */
KBS_MUST_CHECK int kbs_sql_key_each(struct kbs_store *s, enum kbs_sql which,
                                    kbs_store_key_each *each, void *ctx, struct kbs_error *err);
/* The same for one whose parameters are a version, a limit and an offset. */
KBS_MUST_CHECK int kbs_sql_below_each(struct kbs_store *s, enum kbs_sql which,
                                      const struct kbs_store_below *below, kbs_store_key_each *each,
                                      void *ctx, struct kbs_error *err);
/* Calls `each` for every (version, count) that a statement gives. */
KBS_MUST_CHECK int kbs_sql_count_each(struct kbs_store *s, enum kbs_sql which,
                                      kbs_store_count_each *each, void *ctx, struct kbs_error *err);

/* The same for a statement over the columns of a document. */
bool kbs_sql_document_read(struct kbs_store *s, enum kbs_sql which, struct kbs_document *ret);
#define KBS_SQL_DOCUMENT_REQUEST 5
#define KBS_SQL_DOCUMENT_TEXT 7

/* A document's part in a mutation, inside its transaction. */
KBS_MUST_CHECK int kbs_sql_document_write(struct kbs_store *s, const struct kbs_store_document *d,
                                          struct kbs_error *err);

#endif
