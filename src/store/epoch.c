/*
 * Mutations, and the epoch that counts them.
 *
 * The problem: a store that was put back to an earlier day has nothing wrong in any of its rows.
 * The approach: every mutation raises a number that the ledger also knows (DESIGN 6), in the same
 * transaction as its row, and the row of that number is signed together with a chain over all rows.
 * So an older file has an older number, and a newer number cannot be put into it.
 *
 * Versions of keys are immutable: there is an insert and no update.
 */
#include "store/sql.h"

#include "catalog/row.h"

static int key_insert(struct kbs_store *s, const struct kbs_store_mutation *m,
                      struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_KEY_INSERT;
    const struct kbs_key *key = m->key;
    int rc = 0;

    kbs_sql_bind_blob(s, q, 1, kbs_span(key->id, sizeof(key->id)));
    kbs_sql_bind_int(s, q, 2, key->version);
    kbs_sql_bind_text(s, q, 3, kbs_span_str(key->path));
    kbs_sql_bind_int(s, q, 4, key->purpose);
    kbs_sql_bind_int(s, q, 5, key->provenance);
    kbs_sql_bind_int(s, q, 6, key->floor);
    kbs_sql_bind_int(s, q, 7, key->bytes);
    kbs_sql_bind_blob(s, q, 8, kbs_span(key->kcv, sizeof(key->kcv)));
    kbs_sql_bind_int(s, q, 9, key->created_s);
    kbs_sql_bind_text(s, q, 10, m->policy);
    kbs_sql_bind_int(s, q, 11, (int64_t)key->epoch);
    kbs_sql_bind_text(s, q, 12, m->request);
    kbs_sql_bind_blob(s, q, 13, kbs_span(key->signature, sizeof(key->signature)));
    rc = kbs_sql_run(s, q, "insert a key", err);
    if (rc == KBS_SQL_EXISTS) {
        return kbs_fail(err, KBS_CONFLICT, "a key with this path and version exists");
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

int kbs_store_commit(struct kbs_store *s, const struct kbs_store_mutation *m, struct kbs_error *err)
{
    struct kbs_error ignored = KBS_ERROR_NONE;

    if (kbs_sql_run(s, KBS_SQL_DURABLE_BEGIN, "begin", err) != 0) {
        return -1;
    }
    if ((m->key != NULL && key_insert(s, m, err) != 0) || epoch_set(s, m, err) != 0 ||
        kbs_sql_run(s, KBS_SQL_DURABLE_COMMIT, "commit a mutation", err) != 0) {
        (void)!kbs_sql_run(s, KBS_SQL_DURABLE_ROLLBACK, "rollback", &ignored);
        return -1;
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

int kbs_store_manifest(struct kbs_store *s, uint8_t ret[KBS_SHA256_BYTES], struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_KEY_EPOCHS;
    struct kbs_buf row = KBS_BUF(KBS_ROW_MAX_BYTES);
    uint8_t digest[KBS_SHA256_BYTES];
    struct kbs_key key;
    int rc = 0;

    memset(ret, 0, KBS_SHA256_BYTES);
    while ((rc = kbs_sql_step(s, q, "read all keys", err)) == KBS_SQL_ROW) {
        if (!kbs_sql_key_read(s, q, &key)) {
            rc = kbs_fail(err, KBS_INTERNAL, "store: malformed key row");
            break;
        }
        kbs_buf_clear(&row);
        kbs_row_key_put(&row, &key, kbs_sql_column_bytes(s, q, KBS_SQL_KEY_POLICY));
        rc = kbs_buf_check(&row, "a row", err);
        if (rc != 0) {
            break;
        }
        kbs_row_digest(kbs_buf_span(&row), digest);
        kbs_row_manifest_add(ret, digest);
    }
    kbs_sql_reset(s, q);
    kbs_buf_deinit(&row);
    return rc;
}
