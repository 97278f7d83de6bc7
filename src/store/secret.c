/*
 * Secrets: rows like those of keys, in a table of their own, because what they hold is a thousand
 * times larger and is read for a release only. Made and changed in epoch.c.
 *
 * The newest version is the one that counts, also when it is destroyed: an older value must not
 * come back because somebody took the newest away.
 */
#include "store/sql.h"

int kbs_store_secret_newest(struct kbs_store *s, struct kbs_span path, struct kbs_key *ret,
                            struct kbs_buf *policy, struct kbs_buf *sealed, struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_SECRET_NEWEST;
    int rc = 0;

    kbs_sql_bind_text(s, q, 1, path);
    rc = kbs_sql_step(s, q, "find a secret", err);
    if (rc == 0) {
        rc = kbs_fail(err, KBS_MISSING, "no such secret");
    } else if (rc == KBS_SQL_ROW) {
        rc = kbs_sql_key_read(s, q, ret)
                 ? 0
                 : kbs_fail(err, KBS_INTERNAL, "store: malformed secret row");
    }
    if (rc == 0 && policy != NULL) {
        kbs_buf_put_span(policy, kbs_sql_column_bytes(s, q, KBS_SQL_KEY_POLICY));
        rc = kbs_buf_check(policy, "policy", err);
    }
    if (rc == 0 && sealed != NULL) {
        kbs_buf_put_span(sealed, kbs_sql_column_bytes(s, q, KBS_SQL_SECRET_SEALED_FORM));
        rc = kbs_buf_check(sealed, "sealed secret", err);
    }
    kbs_sql_reset(s, q);
    return rc;
}

int kbs_store_secret_live(struct kbs_store *s, struct kbs_span path, kbs_store_key_each *each,
                          void *ctx, struct kbs_error *err)
{
    kbs_sql_bind_text(s, KBS_SQL_SECRET_LIVE, 1, path);
    return kbs_sql_key_each(s, KBS_SQL_SECRET_LIVE, each, ctx, err);
}

int kbs_store_secret_list(struct kbs_store *s, struct kbs_span after_path, unsigned int limit,
                          kbs_store_key_each *each, void *ctx, struct kbs_error *err)
{
    kbs_sql_bind_text(s, KBS_SQL_SECRET_LIST, 1, after_path);
    kbs_sql_bind_int(s, KBS_SQL_SECRET_LIST, 2, limit);
    return kbs_sql_key_each(s, KBS_SQL_SECRET_LIST, each, ctx, err);
}

int kbs_store_secret_sealed(struct kbs_store *s, const struct kbs_store_below *below,
                            kbs_store_key_each *each, void *ctx, struct kbs_error *err)
{
    return kbs_sql_below_each(s, KBS_SQL_SECRET_SEALED, below, each, ctx, err);
}

int kbs_store_secret_seal_count(struct kbs_store *s, kbs_store_count_each *each, void *ctx,
                                struct kbs_error *err)
{
    return kbs_sql_count_each(s, KBS_SQL_SECRET_SEAL_COUNT, each, ctx, err);
}
