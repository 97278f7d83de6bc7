/*
 * What guest lanes keep for guests: blobs that were provisioned, and registers.
 *
 * The problem: two lanes may serve the first boot of one guest at once, or two steps of one register; one of
 * them must win, and the other must be told. The approach: one statement decides each. A first blob is inserted
 * if the key has room and the guest none; a register's value is written over exactly the one that was read.
 * Both on the durable connection: what a guest was given must not be forgotten.
 *
 * These rows are in no manifest, for no administrator signs them. What they say is known by kbs-token's mark
 * (hsm/mark.h); that none is missing or old is not known from the file alone (docs/threat-model.md).
 */
#include "store/sql.h"

static void owner_bind(struct kbs_store *s, enum kbs_sql q, const struct kbs_store_owner *o)
{
    kbs_sql_bind_blob(s, q, 1, kbs_span(o->key_id, sizeof(o->key_id)));
    kbs_sql_bind_blob(s, q, 2, kbs_span(o->identity, sizeof(o->identity)));
}

/* ---- provision ---- */

static bool provision_read(struct kbs_store *s, enum kbs_sql q, struct kbs_store_provision *ret,
                           struct kbs_buf *blob)
{
    int64_t version = kbs_sql_column_int(s, q, 0);

    ret->created_s = kbs_sql_column_int(s, q, 1);
    if (version < 1 || version > UINT32_MAX) {
        return false;
    }
    ret->version = (uint32_t)version;
    kbs_buf_put_span(blob, kbs_sql_column_bytes(s, q, 3));
    return !blob->failed && kbs_sql_column_exact(s, q, 2, ret->session, sizeof(ret->session)) &&
           kbs_sql_column_exact(s, q, 4, ret->mark, sizeof(ret->mark));
}

int kbs_store_provision_get(struct kbs_store *s, const struct kbs_store_owner *owner,
                            struct kbs_store_provision *ret, struct kbs_buf *blob,
                            struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_PROVISION_GET;
    int rc = 0;

    owner_bind(s, q, owner);
    rc = kbs_sql_step(s, q, "find what was provisioned", err);
    if (rc == 0) {
        rc = kbs_fail(err, KBS_MISSING, "nothing was provisioned for this guest");
    } else if (rc == KBS_SQL_ROW) {
        rc = provision_read(s, q, ret, blob)
                 ? 0
                 : kbs_fail(err, KBS_INTERNAL, "store: malformed row of what was provisioned");
    }
    kbs_sql_reset(s, q);
    return rc;
}

int kbs_store_provision_count(struct kbs_store *s, const struct kbs_store_owner *owner,
                              uint64_t *ret, struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_PROVISION_COUNT;
    int rc = 0;

    kbs_sql_bind_blob(s, q, 1, kbs_span(owner->key_id, sizeof(owner->key_id)));
    rc = kbs_sql_step(s, q, "count what was provisioned", err);
    *ret = rc == KBS_SQL_ROW ? (uint64_t)kbs_sql_column_int(s, q, 0) : 0;
    kbs_sql_reset(s, q);
    return rc == KBS_SQL_ROW ? 0 : -1;
}

/* What a conditional insert came to. */
static int added(struct kbs_store *s, int rc, const char *what, struct kbs_error *err)
{
    if (rc == KBS_SQL_EXISTS) {
        return kbs_fail(err, KBS_CONFLICT, "another request of this guest was first");
    }
    if (rc != 0) {
        return -1;
    }
    return sqlite3_changes64(s->durable.db) == 1
               ? 0
               : kbs_fail(err, KBS_LIMITED, "the quota of %s is used up", what);
}

int kbs_store_provision_add(struct kbs_store *s, const struct kbs_store_owner *owner,
                            const struct kbs_store_provision *row, struct kbs_span blob,
                            uint32_t quota, struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_PROVISION_ADD;

    owner_bind(s, q, owner);
    kbs_sql_bind_int(s, q, 3, row->version);
    kbs_sql_bind_int(s, q, 4, row->created_s);
    kbs_sql_bind_blob(s, q, 5, kbs_span(row->session, sizeof(row->session)));
    kbs_sql_bind_text(s, q, 6, blob);
    kbs_sql_bind_blob(s, q, 7, kbs_span(row->mark, sizeof(row->mark)));
    kbs_sql_bind_int(s, q, 8, quota);
    return added(s, kbs_sql_run(s, q, "keep what was provisioned", err), "first boots", err);
}

/* ---- register ---- */

static bool register_read(struct kbs_store *s, enum kbs_sql q, struct kbs_store_register *ret)
{
    int64_t value = kbs_sql_column_int(s, q, 0);
    struct kbs_span digest = kbs_sql_column_bytes(s, q, 1);

    if (value < 0 || digest.len > sizeof(ret->digest)) {
        return false;
    }
    ret->value = (uint64_t)value;
    ret->digest_len = digest.len;
    if (digest.len != 0) {
        memcpy(ret->digest, digest.p, digest.len);
    }
    ret->changed_s = kbs_sql_column_int(s, q, 3);
    return kbs_sql_column_exact(s, q, 2, ret->mark, sizeof(ret->mark));
}

int kbs_store_register_get(struct kbs_store *s, const struct kbs_store_owner *owner,
                           struct kbs_store_register *ret, struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_REGISTER_GET;
    int rc = 0;

    owner_bind(s, q, owner);
    rc = kbs_sql_step(s, q, "find a register", err);
    if (rc == 0) {
        rc = kbs_fail(err, KBS_MISSING, "this guest has no value in the register yet");
    } else if (rc == KBS_SQL_ROW) {
        rc = register_read(s, q, ret)
                 ? 0
                 : kbs_fail(err, KBS_INTERNAL, "store: malformed row of a register");
    }
    kbs_sql_reset(s, q);
    return rc;
}

static void register_bind(struct kbs_store *s, enum kbs_sql q, const struct kbs_store_owner *owner,
                          const struct kbs_store_register *row)
{
    owner_bind(s, q, owner);
    kbs_sql_bind_int(s, q, 3, (int64_t)row->value);
    kbs_sql_bind_blob(s, q, 4, kbs_span(row->digest, row->digest_len));
    kbs_sql_bind_blob(s, q, 5, kbs_span(row->mark, sizeof(row->mark)));
    kbs_sql_bind_int(s, q, 6, row->changed_s);
}

int kbs_store_register_add(struct kbs_store *s, const struct kbs_store_owner *owner,
                           const struct kbs_store_register *row, uint32_t quota,
                           struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_REGISTER_ADD;

    register_bind(s, q, owner, row);
    kbs_sql_bind_int(s, q, 7, quota);
    return added(s, kbs_sql_run(s, q, "keep a register", err), "registers", err);
}

int kbs_store_register_step(struct kbs_store *s, const struct kbs_store_owner *owner,
                            const struct kbs_store_register *from,
                            const struct kbs_store_register *to, struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_REGISTER_STEP;

    register_bind(s, q, owner, to);
    kbs_sql_bind_blob(s, q, 7, kbs_span(from->mark, sizeof(from->mark)));
    if (kbs_sql_run(s, q, "step a register", err) != 0) {
        return -1;
    }
    return sqlite3_changes64(s->durable.db) == 1
               ? 0
               : kbs_fail(err, KBS_CONFLICT, "another request of this guest was first");
}

/* ---- both ---- */

static bool kept_read(struct kbs_store *s, enum kbs_sql q, struct kbs_store_kept *ret)
{
    sqlite3_stmt *row = s->statements[q];
    int64_t version = kbs_sql_column_int(s, q, 1); /* NULL: 0 */
    int64_t value = kbs_sql_column_int(s, q, 3);

    ret->version = (uint32_t)version;
    ret->created_s = kbs_sql_column_int(s, q, 2);
    ret->has_value = sqlite3_column_type(row, 3) != SQLITE_NULL;
    ret->value = (uint64_t)value;
    ret->changed_s = kbs_sql_column_int(s, q, 4);
    return version >= 0 && version <= UINT32_MAX && value >= 0 &&
           kbs_sql_column_exact(s, q, 0, ret->owner.identity, sizeof(ret->owner.identity));
}

int kbs_store_kept_list(struct kbs_store *s, const struct kbs_store_owner *after,
                        unsigned int limit, kbs_store_kept_each *each, void *ctx,
                        struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_KEPT_LIST;
    struct kbs_store_kept kept = {.owner = *after};
    int rc = 0;

    owner_bind(s, q, after);
    kbs_sql_bind_int(s, q, 3, limit);
    for (rc = kbs_sql_step(s, q, "list what is kept", err); rc == KBS_SQL_ROW;
         rc = kbs_sql_step(s, q, "list what is kept", err)) {
        if (!kept_read(s, q, &kept)) {
            rc = kbs_fail(err, KBS_INTERNAL, "store: malformed row of what is kept");
            break;
        }
        each(ctx, &kept);
    }
    kbs_sql_reset(s, q);
    return rc == 0 ? 0 : -1;
}

int kbs_store_kept_there(struct kbs_store *s, const struct kbs_store_owner *owner, bool *ret,
                         struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_KEPT_THERE;
    int rc = 0;

    owner_bind(s, q, owner);
    rc = kbs_sql_step(s, q, "look what is kept", err);
    *ret = rc == KBS_SQL_ROW && kbs_sql_column_int(s, q, 0) != 0;
    kbs_sql_reset(s, q);
    return rc == KBS_SQL_ROW ? 0 : -1;
}

/* Not in one transaction: what is left if we die in between is forgotten by who asks again. */
int kbs_store_kept_forget(struct kbs_store *s, const struct kbs_store_owner *owner,
                          struct kbs_error *err)
{
    owner_bind(s, KBS_SQL_PROVISION_FORGET, owner);
    if (kbs_sql_run(s, KBS_SQL_PROVISION_FORGET, "forget what was provisioned", err) != 0) {
        return -1;
    }
    owner_bind(s, KBS_SQL_REGISTER_FORGET, owner);
    return kbs_sql_run(s, KBS_SQL_REGISTER_FORGET, "forget a register", err) != 0 ? -1 : 0;
}
