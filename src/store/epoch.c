/*
 * Mutations, and the epoch that counts them.
 *
 * The problem: a store that was put back to an earlier day has nothing wrong in any of its rows.
 * The approach: every mutation raises a number that the ledger also knows (DESIGN 6), in the same
 * transaction as its rows, and the row of that number is signed together with a chain over all
 * rows. So an older file has an older number, and a newer number cannot be put into it.
 *
 * A mutation may change many rows, and a changed row moves to the end of the chain, where its epoch
 * belongs: so the chain after a mutation is computed in one walk over the rows there are, which
 * also gives the chain as it is. A mutation that begins on rows which are not those of its epoch is
 * found out by its caller before anything is signed (src/api/epoch.c).
 *
 * Versions of keys are immutable but for their state, policy, card and blob; those of documents are
 * added and dropped only.
 */
#include "store/sql.h"

#include <stdlib.h>

#include "catalog/row.h"

/* What a row has that is bound in the same order for an insert and an update, of both tables. */
static int bind_content(struct kbs_store *s, enum kbs_sql q, int i, const struct kbs_store_row *row)
{
    const struct kbs_key *key = row->key;

    kbs_sql_bind_text(s, q, i++, row->policy);
    kbs_sql_bind_int(s, q, i++, (int64_t)key->epoch);
    kbs_sql_bind_text(s, q, i++, row->request);
    kbs_sql_bind_blob(s, q, i++, kbs_span(key->signature, sizeof(key->signature)));
    kbs_sql_bind_blob(s, q, i++, kbs_key_card(key));
    return i;
}

static void bind_blob_or_null(struct kbs_store *s, enum kbs_sql q, int i, struct kbs_span v)
{
    if (v.len != 0) {
        kbs_sql_bind_blob(s, q, i, v); /* what is not bound is NULL */
    }
}

static void key_bind(struct kbs_store *s, enum kbs_sql q, const struct kbs_store_row *row)
{
    const struct kbs_key *key = row->key;
    int i = 1;

    kbs_sql_bind_int(s, q, i++, key->state);
    kbs_sql_bind_int(s, q, i++, key->kcv_mac);
    kbs_sql_bind_int(s, q, i++, key->destroy_at_s);
    i = bind_content(s, q, i, row);
    bind_blob_or_null(s, q, i++, kbs_key_blob(key));
    kbs_sql_bind_text(s, q, i++, kbs_span_str(key->path));
    kbs_sql_bind_int(s, q, i++, key->version);
    kbs_sql_bind_blob(s, q, i++, kbs_span(key->id, sizeof(key->id)));
    kbs_sql_bind_blob(s, q, i, kbs_span(key->kcv, sizeof(key->kcv)));
}

static void secret_bind(struct kbs_store *s, enum kbs_sql q, const struct kbs_store_row *row)
{
    int i = 1;

    kbs_sql_bind_int(s, q, i++, row->key->state);
    i = bind_content(s, q, i, row);
    bind_blob_or_null(s, q, i++, row->sealed);
    kbs_sql_bind_text(s, q, i++, kbs_span_str(row->key->path));
    kbs_sql_bind_int(s, q, i, row->key->version);
}

static int row_write(struct kbs_store *s, const struct kbs_store_row *row, struct kbs_error *err)
{
    bool secret = kbs_key_is_secret(row->key);
    enum kbs_sql q = row->fresh ? KBS_SQL_KEY_INSERT : KBS_SQL_KEY_UPDATE;
    int rc = 0;

    if (!row->key->has_card) {
        return kbs_fail(err, KBS_INTERNAL, "store: a row without a card cannot be written");
    }
    if (secret) {
        q = row->fresh ? KBS_SQL_SECRET_INSERT : KBS_SQL_SECRET_UPDATE;
        secret_bind(s, q, row);
    } else {
        key_bind(s, q, row);
    }
    rc = kbs_sql_run(s, q, "write a row", err);
    if (rc == KBS_SQL_EXISTS) {
        return kbs_fail(err, KBS_CONFLICT, "a %s with this path and version exists%s",
                        secret ? "secret" : "key", secret ? "" : ", or one of this token object");
    }
    if (rc == 0 && sqlite3_changes64(s->durable.db) != 1) {
        return kbs_fail(err, KBS_CONFLICT, "the store was changed by somebody else");
    }
    return rc;
}

static int epoch_set(struct kbs_store *s, const struct kbs_store_mutation *m, struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_EPOCH_SET;

    if (m->epoch.epoch > INT64_MAX || m->from_epoch > INT64_MAX) {
        return kbs_fail(err, KBS_INTERNAL, "store: epoch out of range");
    }
    kbs_sql_bind_int(s, q, 1, (int64_t)m->epoch.epoch);
    kbs_sql_bind_blob(s, q, 2, kbs_span(m->epoch.manifest, sizeof(m->epoch.manifest)));
    kbs_sql_bind_blob(s, q, 3, kbs_span(m->epoch.signature, sizeof(m->epoch.signature)));
    kbs_sql_bind_int(s, q, 4, (int64_t)m->from_epoch);
    if (kbs_sql_run(s, q, "raise the epoch", err) != 0) {
        return -1;
    }
    if (sqlite3_changes64(s->durable.db) != 1) {
        return kbs_fail(err, KBS_CONFLICT, "the store was changed by somebody else");
    }
    return 0;
}

/*
 * The transaction is durable whatever becomes of this: frames in the WAL that still hold what was
 * erased go into the file, where secure_delete has overwritten it, and the WAL is cut off. A reader
 * in another process can keep a frame alive for a moment; the next one that erases finds it gone.
 */
static void wal_truncate(struct kbs_store *s)
{
    (void)sqlite3_wal_checkpoint_v2(s->durable.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
}

static int rows_write(struct kbs_store *s, const struct kbs_store_mutation *m,
                      struct kbs_error *err)
{
    for (size_t i = 0; i < m->row_count; i++) {
        if (row_write(s, &m->rows[i], err) != 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < m->document_count; i++) {
        if (kbs_sql_document_write(s, &m->documents[i], err) != 0) {
            return -1;
        }
    }
    return 0;
}

int kbs_store_commit(struct kbs_store *s, const struct kbs_store_mutation *m, struct kbs_error *err)
{
    struct kbs_error ignored = KBS_ERROR_NONE;

    if (kbs_sql_run(s, KBS_SQL_DURABLE_BEGIN, "begin", err) != 0) {
        return -1;
    }
    if (rows_write(s, m, err) != 0 || epoch_set(s, m, err) != 0 ||
        kbs_sql_run(s, KBS_SQL_DURABLE_COMMIT, "commit a mutation", err) != 0) {
        (void)!kbs_sql_run(s, KBS_SQL_DURABLE_ROLLBACK, "rollback", &ignored);
        return -1;
    }
    if (m->erase) {
        wal_truncate(s);
    }
    return 0;
}

int kbs_store_epoch_get(struct kbs_store *s, struct kbs_store_epoch *ret, struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_EPOCH_GET;
    int rc = kbs_sql_step(s, q, "read the epoch", err);
    int result = -1;

    if (rc == KBS_SQL_ROW) {
        int64_t epoch = kbs_sql_column_int(s, q, 0);

        ret->epoch = (uint64_t)epoch;
        if (!kbs_sql_column_exact(s, q, 2, ret->signature, sizeof(ret->signature))) {
            memset(ret->signature, 0, sizeof(ret->signature));
        }
        if (epoch >= 0 && kbs_sql_column_exact(s, q, 1, ret->manifest, sizeof(ret->manifest))) {
            result = 0;
        } else {
            (void)kbs_fail(err, KBS_INTERNAL, "store: malformed epoch row");
        }
    } else if (rc == 0) {
        (void)kbs_fail(err, KBS_INTERNAL, "store: there is no epoch row");
    }
    kbs_sql_reset(s, q);
    return result;
}

/* ---- the manifest ---- */

struct walk {
    const struct kbs_store_mutation *m; /* may be NULL */
    struct kbs_buf row;
    uint8_t now[KBS_SHA256_BYTES];
    uint8_t after[KBS_SHA256_BYTES];
};

/* The order that kbs_store_mutation.rows has to be in. */
static int row_compare(const void *a, const void *b)
{
    const struct kbs_key *x = ((const struct kbs_store_row *)a)->key;
    const struct kbs_key *y = ((const struct kbs_store_row *)b)->key;
    int order = (int)kbs_key_is_secret(x) - (int)kbs_key_is_secret(y);

    if (order == 0) {
        order = strcmp(x->path, y->path);
    }
    return order != 0 ? order : (int)(x->version > y->version) - (int)(x->version < y->version);
}

void kbs_store_rows_sort(struct kbs_store_row *rows, size_t count)
{
    if (count > 1) {
        qsort(rows, count, sizeof(*rows), row_compare);
    }
}

/* The order that kbs_store_mutation.documents has to be in. */
static int document_compare(const void *a, const void *b)
{
    const struct kbs_document *x = ((const struct kbs_store_document *)a)->document;
    const struct kbs_document *y = ((const struct kbs_store_document *)b)->document;
    int order = (int)x->kind - (int)y->kind;

    if (order == 0) {
        order = strcmp(x->name, y->name);
    }
    return order != 0 ? order : (int)(x->version > y->version) - (int)(x->version < y->version);
}

void kbs_store_documents_sort(struct kbs_store_document *documents, size_t count)
{
    if (count > 1) {
        qsort(documents, count, sizeof(*documents), document_compare);
    }
}

static bool rows_in_order(const struct kbs_store_mutation *m)
{
    for (size_t i = 1; m != NULL && i < m->row_count; i++) {
        if (row_compare(&m->rows[i - 1], &m->rows[i]) >= 0) {
            return false;
        }
    }
    for (size_t i = 1; m != NULL && i < m->document_count; i++) {
        if (document_compare(&m->documents[i - 1], &m->documents[i]) >= 0) {
            return false;
        }
    }
    return true;
}

static bool is_replaced(const struct walk *w, struct kbs_key *key)
{
    const struct kbs_store_row wanted = {.key = key};

    return w->m != NULL && w->m->row_count != 0 &&
           bsearch(&wanted, w->m->rows, w->m->row_count, sizeof(wanted), row_compare) != NULL;
}

static int row_digest(struct walk *w, const struct kbs_key *key, struct kbs_span policy,
                      uint8_t ret[KBS_SHA256_BYTES], struct kbs_error *err)
{
    kbs_buf_clear(&w->row);
    kbs_row_key_put(&w->row, key, policy);
    if (kbs_buf_check(&w->row, "a row", err) != 0) {
        return -1;
    }
    kbs_row_digest(kbs_buf_span(&w->row), ret);
    return 0;
}

/* One table: the rows that are there, and behind them those that the mutation puts there. */
static int walk_table(struct kbs_store *s, struct walk *w, bool secrets, struct kbs_error *err)
{
    const enum kbs_sql q = secrets ? KBS_SQL_SECRET_ALL : KBS_SQL_KEY_ALL;
    uint8_t digest[KBS_SHA256_BYTES];
    struct kbs_key key;
    int rc = 0;

    while ((rc = kbs_sql_step(s, q, "read all rows", err)) == KBS_SQL_ROW) {
        if (!kbs_sql_key_read(s, q, &key) || kbs_key_is_secret(&key) != secrets) {
            rc = kbs_fail(err, KBS_INTERNAL, "store: malformed row");
            break;
        }
        if (row_digest(w, &key, kbs_sql_column_bytes(s, q, KBS_SQL_KEY_POLICY), digest, err) != 0) {
            rc = -1;
            break;
        }
        kbs_row_manifest_add(w->now, digest);
        if (!is_replaced(w, &key)) {
            kbs_row_manifest_add(w->after, digest);
        }
    }
    kbs_sql_reset(s, q);
    for (size_t i = 0; rc == 0 && w->m != NULL && i < w->m->row_count; i++) {
        const struct kbs_store_row *row = &w->m->rows[i];

        if (kbs_key_is_secret(row->key) == secrets) {
            rc = row_digest(w, row->key, row->policy, digest, err);
            kbs_row_manifest_add(w->after, digest);
        }
    }
    return rc;
}

static bool is_dropped(const struct walk *w, struct kbs_document *document)
{
    const struct kbs_store_document wanted = {.document = document};

    return w->m != NULL && w->m->document_count != 0 &&
           bsearch(&wanted, w->m->documents, w->m->document_count, sizeof(wanted),
                   document_compare) != NULL;
}

static int document_digest(struct walk *w, const struct kbs_document *document,
                           struct kbs_span text, uint8_t ret[KBS_SHA256_BYTES],
                           struct kbs_error *err)
{
    kbs_buf_clear(&w->row);
    kbs_row_document_put(&w->row, document, text);
    if (kbs_buf_check(&w->row, "a document", err) != 0) {
        return -1;
    }
    kbs_row_digest(kbs_buf_span(&w->row), ret);
    return 0;
}

static int walk_documents(struct kbs_store *s, struct walk *w, struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_DOCUMENT_ALL;
    struct kbs_document document;
    uint8_t digest[KBS_SHA256_BYTES];
    int rc = 0;

    while ((rc = kbs_sql_step(s, q, "read all documents", err)) == KBS_SQL_ROW) {
        if (!kbs_sql_document_read(s, q, &document)) {
            rc = kbs_fail(err, KBS_INTERNAL, "store: malformed document row");
            break;
        }
        if (document_digest(w, &document, kbs_sql_column_bytes(s, q, KBS_SQL_DOCUMENT_TEXT), digest,
                            err) != 0) {
            rc = -1;
            break;
        }
        kbs_row_manifest_add(w->now, digest);
        if (!is_dropped(w, &document)) {
            kbs_row_manifest_add(w->after, digest);
        }
    }
    kbs_sql_reset(s, q);
    for (size_t i = 0; rc == 0 && w->m != NULL && i < w->m->document_count; i++) {
        const struct kbs_store_document *d = &w->m->documents[i];

        if (!d->dropped) {
            rc = document_digest(w, d->document, d->text, digest, err);
            kbs_row_manifest_add(w->after, digest);
        }
    }
    return rc;
}

int kbs_store_manifest(struct kbs_store *s, const struct kbs_store_mutation *m,
                       uint8_t ret_now[KBS_SHA256_BYTES], uint8_t ret_after[KBS_SHA256_BYTES],
                       struct kbs_error *err)
{
    struct walk w = {.m = m, .row = KBS_BUF(KBS_ROW_MAX_BYTES)};
    struct kbs_error ignored = KBS_ERROR_NONE;
    int rc = -1;

    if (!rows_in_order(m)) {
        return kbs_fail(err, KBS_INTERNAL, "store: the rows of a mutation are not in order");
    }
    /* All tables as they are at one moment. */
    if (kbs_sql_run(s, KBS_SQL_READ_BEGIN, "begin to read", err) != 0) {
        return -1;
    }
    if (walk_table(s, &w, false, err) == 0 && walk_table(s, &w, true, err) == 0 &&
        walk_documents(s, &w, err) == 0) {
        memcpy(ret_now, w.now, sizeof(w.now));
        if (ret_after != NULL) {
            memcpy(ret_after, w.after, sizeof(w.after));
        }
        rc = 0;
    }
    (void)!kbs_sql_run(s, KBS_SQL_COMMIT, "end of reading", &ignored);
    kbs_buf_deinit(&w.row);
    return rc;
}
