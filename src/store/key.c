/*
 * The catalog's rows.
 *
 * The problem: what a row says decides what leaves the token, so a row that is not one we wrote
 * must not be half understood. The approach: every member is checked on the way out against the
 * terms' ranges, and a row that fails is an internal error, not a guess. Whether the row is the
 * administrators' is its reader's question (catalog/row.h). Rows are made in epoch.c.
 */
#include "store/sql.h"

static bool in_range(int64_t v, int64_t first, int64_t count)
{
    return v >= first && v < count;
}

bool kbs_sql_key_read(struct kbs_store *s, enum kbs_sql q, struct kbs_key *ret)
{
    int64_t version = kbs_sql_column_int(s, q, 1);
    int64_t purpose = kbs_sql_column_int(s, q, 3);
    int64_t provenance = kbs_sql_column_int(s, q, 4);
    int64_t floor = kbs_sql_column_int(s, q, 5);
    int64_t bytes = kbs_sql_column_int(s, q, 6);
    int64_t epoch = kbs_sql_column_int(s, q, 10);

    if (!in_range(version, 1, (int64_t)UINT32_MAX + 1) ||
        !in_range(purpose, 1, KBS_PURPOSE_COUNT) ||
        !in_range(provenance, 1, KBS_PROVENANCE_COUNT) || !in_range(floor, 1, KBS_LOCALITY_COUNT) ||
        !in_range(bytes, KBS_LIMIT_KEY_BYTES_MIN, KBS_LIMIT_KEY_BYTES_MAX + 1) || epoch < 0) {
        return false;
    }
    ret->version = (uint32_t)version;
    ret->purpose = (enum kbs_purpose)purpose;
    ret->provenance = (enum kbs_provenance)provenance;
    ret->floor = (enum kbs_locality)floor;
    ret->bytes = (uint32_t)bytes;
    ret->created_s = kbs_sql_column_int(s, q, 8);
    ret->epoch = (uint64_t)epoch;
    kbs_sha256(kbs_sql_column_bytes(s, q, 11), ret->request);
    if (!kbs_sql_column_exact(s, q, 12, ret->signature, sizeof(ret->signature))) {
        memset(ret->signature, 0, sizeof(ret->signature)); /* verifies under no key */
    }
    return kbs_sql_column_exact(s, q, 0, ret->id, sizeof(ret->id)) &&
           kbs_sql_column_exact(s, q, 7, ret->kcv, sizeof(ret->kcv)) &&
           kbs_span_to_cstr(kbs_sql_column_bytes(s, q, 2), ret->path, sizeof(ret->path)) &&
           kbs_key_path_valid(kbs_span_str(ret->path));
}

int kbs_store_key_get(struct kbs_store *s, struct kbs_span path, uint32_t version,
                      struct kbs_key *ret, struct kbs_buf *policy, struct kbs_error *err)
{
    const enum kbs_sql q = version == 0 ? KBS_SQL_KEY_LATEST : KBS_SQL_KEY_BY_VERSION;
    int result = 0;
    int rc = 0;

    kbs_sql_bind_text(s, q, 1, path);
    if (version != 0) {
        kbs_sql_bind_int(s, q, 2, version);
    }
    rc = kbs_sql_step(s, q, "find a key", err);
    if (rc == KBS_SQL_ROW) {
        if (!kbs_sql_key_read(s, q, ret)) {
            result = kbs_fail(err, KBS_INTERNAL, "store: malformed key row");
        } else if (policy != NULL) {
            kbs_buf_put_span(policy, kbs_sql_column_bytes(s, q, KBS_SQL_KEY_POLICY));
            result = kbs_buf_check(policy, "policy", err);
        }
    } else if (rc == 0) {
        result = kbs_fail(err, KBS_MISSING, "no such key or version");
    } else {
        result = -1;
    }
    kbs_sql_reset(s, q);
    return result;
}

int kbs_store_key_list(struct kbs_store *s, void (*each)(void *ctx, const struct kbs_key *key),
                       void *ctx, struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_KEY_LIST;
    struct kbs_key key;
    int rc = 0;

    kbs_sql_bind_int(s, q, 1, KBS_LIMIT_KEY_LIST_ITEMS);
    while ((rc = kbs_sql_step(s, q, "list keys", err)) == KBS_SQL_ROW) {
        if (!kbs_sql_key_read(s, q, &key)) {
            rc = kbs_fail(err, KBS_INTERNAL, "store: malformed key row");
            break;
        }
        each(ctx, &key);
    }
    kbs_sql_reset(s, q);
    return rc;
}
