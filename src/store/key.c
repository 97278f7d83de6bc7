/*
 * The catalog's rows.
 *
 * The problem: what a row says decides what leaves the token, so a row that is not one we wrote
 * must not be half understood. The approach: every member is checked on the way out against the
 * terms' ranges and against the row's card, and a row that fails is an internal error, not a guess.
 * Whether the row is the administrators' is its reader's question (catalog/row.h). Rows are made
 * and changed in epoch.c.
 */
#include "store/sql.h"

static bool in_range(int64_t v, int64_t first, int64_t count)
{
    return v >= first && v < count;
}

/* What a row without a card says for itself. */
static bool cardless_read(struct kbs_store *s, enum kbs_sql q, struct kbs_key *ret)
{
    int64_t purpose = kbs_sql_column_int(s, q, 12);
    int64_t provenance = kbs_sql_column_int(s, q, 13);
    int64_t floor = kbs_sql_column_int(s, q, 14);
    int64_t bytes = kbs_sql_column_int(s, q, 15);

    if (!in_range(purpose, 1, KBS_PURPOSE_COUNT) ||
        !in_range(provenance, 1, KBS_PROVENANCE_COUNT) || !in_range(floor, 1, KBS_LOCALITY_COUNT) ||
        !in_range(bytes, KBS_LIMIT_KEY_BYTES_MIN, KBS_LIMIT_KEY_BYTES_MAX + 1)) {
        return false;
    }
    ret->card = (struct kbs_card){.purpose = (enum kbs_purpose)purpose,
                                  .storage = KBS_STORAGE_RESIDENT,
                                  .alg = KBS_KEY_ALG_AES,
                                  .floor = (enum kbs_locality)floor,
                                  .provenance = (enum kbs_provenance)provenance,
                                  .key_version = ret->version,
                                  .bytes = (uint32_t)bytes,
                                  .created_s = (uint64_t)kbs_sql_column_int(s, q, 16)};
    memcpy(ret->card.key_id, ret->id, sizeof(ret->id));
    return true;
}

static bool card_read(struct kbs_store *s, enum kbs_sql q, struct kbs_key *ret)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    struct kbs_span card = kbs_sql_column_bytes(s, q, 11);
    struct kbs_span blob = kbs_sql_column_bytes(s, q, KBS_SQL_KEY_BLOB);

    ret->has_card = false;
    ret->blob_len = 0;
    if (card.len == 0) {
        return cardless_read(s, q, ret);
    }
    if (kbs_key_take_card(ret, card, &ignored) != 0 ||
        (ret->kcv_mac == KBS_KCV_NONE) != kbs_key_is_secret(ret)) {
        return false;
    }
    if (!kbs_key_is_secret(ret) && blob.len <= sizeof(ret->blob)) {
        memcpy(ret->blob, blob.len != 0 ? blob.p : ret->blob, blob.len);
        ret->blob_len = blob.len;
    }
    return true;
}

bool kbs_sql_key_read(struct kbs_store *s, enum kbs_sql q, struct kbs_key *ret)
{
    int64_t version = kbs_sql_column_int(s, q, 1);
    int64_t state = kbs_sql_column_int(s, q, 3);
    int64_t kcv_mac = kbs_sql_column_int(s, q, 4);
    int64_t epoch = kbs_sql_column_int(s, q, 8);

    if (!in_range(version, 1, (int64_t)UINT32_MAX + 1) ||
        !in_range(state, 1, KBS_KEY_STATE_COUNT) || !in_range(kcv_mac, 0, KBS_KCV_COUNT) ||
        epoch < 0) {
        return false;
    }
    ret->version = (uint32_t)version;
    ret->state = (enum kbs_key_state)state;
    ret->kcv_mac = (enum kbs_kcv_mac)kcv_mac;
    ret->destroy_at_s = kbs_sql_column_int(s, q, 6);
    ret->epoch = (uint64_t)epoch;
    kbs_sha256(kbs_sql_column_bytes(s, q, KBS_SQL_KEY_REQUEST), ret->request);
    if (!kbs_sql_column_exact(s, q, 10, ret->signature, sizeof(ret->signature))) {
        memset(ret->signature, 0, sizeof(ret->signature)); /* verifies under no key */
    }
    return kbs_sql_column_exact(s, q, 0, ret->id, sizeof(ret->id)) &&
           kbs_sql_column_exact(s, q, 5, ret->kcv, sizeof(ret->kcv)) &&
           kbs_span_to_cstr(kbs_sql_column_bytes(s, q, 2), ret->path, sizeof(ret->path)) &&
           kbs_key_path_valid(kbs_span_str(ret->path)) && card_read(s, q, ret);
}

/* One row of a statement that is bound, with its texts if they are wanted. 1 if there is one. */
static int key_one(struct kbs_store *s, enum kbs_sql q, struct kbs_key *ret, struct kbs_buf *policy,
                   struct kbs_buf *request, struct kbs_error *err)
{
    int rc = kbs_sql_step(s, q, "find a key", err);

    if (rc == KBS_SQL_ROW && !kbs_sql_key_read(s, q, ret)) {
        rc = kbs_fail(err, KBS_INTERNAL, "store: malformed key row");
    }
    if (rc == KBS_SQL_ROW && policy != NULL) {
        kbs_buf_put_span(policy, kbs_sql_column_bytes(s, q, KBS_SQL_KEY_POLICY));
        rc = kbs_buf_check(policy, "policy", err) == 0 ? rc : -1;
    }
    if (rc == KBS_SQL_ROW && request != NULL) {
        kbs_buf_put_span(request, kbs_sql_column_bytes(s, q, KBS_SQL_KEY_REQUEST));
        rc = kbs_buf_check(request, "request", err) == 0 ? rc : -1;
    }
    kbs_sql_reset(s, q);
    return rc;
}

int kbs_store_key_get(struct kbs_store *s, struct kbs_span path, uint32_t version,
                      struct kbs_key *ret, struct kbs_buf *policy, struct kbs_error *err)
{
    const enum kbs_sql q = version == 0 ? KBS_SQL_KEY_LATEST : KBS_SQL_KEY_BY_VERSION;
    int rc = 0;

    kbs_sql_bind_text(s, q, 1, path);
    if (version != 0) {
        kbs_sql_bind_int(s, q, 2, version);
    }
    rc = key_one(s, q, ret, policy, NULL, err);
    if (rc == 0) {
        return kbs_fail(err, KBS_MISSING, "no such key or version");
    }
    return rc == KBS_SQL_ROW ? 0 : -1;
}

int kbs_store_key_newest(struct kbs_store *s, struct kbs_span path, struct kbs_key *ret,
                         struct kbs_buf *policy, struct kbs_error *err)
{
    int rc = 0;

    kbs_sql_bind_text(s, KBS_SQL_KEY_NEWEST, 1, path);
    rc = key_one(s, KBS_SQL_KEY_NEWEST, ret, policy, NULL, err);
    if (rc == 0) {
        return kbs_fail(err, KBS_MISSING, "no such key");
    }
    return rc == KBS_SQL_ROW ? 0 : -1;
}

int kbs_store_key_due(struct kbs_store *s, int64_t now_s, unsigned int skip, struct kbs_key *ret,
                      struct kbs_buf *policy, struct kbs_buf *request, struct kbs_error *err)
{
    int rc = 0;

    kbs_sql_bind_int(s, KBS_SQL_KEY_DUE, 1, now_s);
    kbs_sql_bind_int(s, KBS_SQL_KEY_DUE, 2, skip);
    rc = key_one(s, KBS_SQL_KEY_DUE, ret, policy, request, err);
    if (rc == 0) {
        return kbs_fail(err, KBS_MISSING, "no key is due to be destroyed");
    }
    return rc == KBS_SQL_ROW ? 0 : -1;
}

int kbs_store_key_next_due(struct kbs_store *s, int64_t *ret_s, struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_KEY_NEXT_DUE;
    int rc = kbs_sql_step(s, q, "find the next destruction", err);

    *ret_s = rc == KBS_SQL_ROW ? kbs_sql_column_int(s, q, 0) : 0; /* NULL reads as 0 */
    kbs_sql_reset(s, q);
    return rc < 0 ? -1 : 0;
}

int kbs_sql_key_each(struct kbs_store *s, enum kbs_sql q, kbs_store_key_each *each, void *ctx,
                     struct kbs_error *err)
{
    struct kbs_key key;
    int rc = 0;

    while ((rc = kbs_sql_step(s, q, "list keys", err)) == KBS_SQL_ROW) {
        if (!kbs_sql_key_read(s, q, &key)) {
            rc = kbs_fail(err, KBS_INTERNAL, "store: malformed key row");
            break;
        }
        const struct kbs_store_texts texts = {
            .policy = kbs_sql_column_bytes(s, q, KBS_SQL_KEY_POLICY),
            .request = kbs_sql_column_bytes(s, q, KBS_SQL_KEY_REQUEST),
            .sealed = q == KBS_SQL_SECRET_SEALED
                          ? kbs_sql_column_bytes(s, q, KBS_SQL_SECRET_SEALED_FORM)
                          : KBS_SPAN_EMPTY};
        each(ctx, &key, &texts);
    }
    kbs_sql_reset(s, q);
    return rc;
}

int kbs_store_key_list(struct kbs_store *s, struct kbs_span after_path, uint32_t after_version,
                       unsigned int limit, kbs_store_key_each *each, void *ctx,
                       struct kbs_error *err)
{
    kbs_sql_bind_text(s, KBS_SQL_KEY_LIST, 1, after_path);
    kbs_sql_bind_int(s, KBS_SQL_KEY_LIST, 2, after_version);
    kbs_sql_bind_int(s, KBS_SQL_KEY_LIST, 3, limit);
    return kbs_sql_key_each(s, KBS_SQL_KEY_LIST, each, ctx, err);
}

int kbs_sql_below_each(struct kbs_store *s, enum kbs_sql q, const struct kbs_store_below *below,
                       kbs_store_key_each *each, void *ctx, struct kbs_error *err)
{
    uint8_t bound[4];

    for (size_t i = 0; i < sizeof(bound); i++) {
        bound[i] = (uint8_t)(below->version >> (24 - 8 * i));
    }
    kbs_sql_bind_blob(s, q, 1, kbs_span(bound, sizeof(bound)));
    kbs_sql_bind_int(s, q, 2, below->limit);
    kbs_sql_bind_int(s, q, 3, below->skip);
    return kbs_sql_key_each(s, q, each, ctx, err);
}

int kbs_sql_count_each(struct kbs_store *s, enum kbs_sql q, kbs_store_count_each *each, void *ctx,
                       struct kbs_error *err)
{
    uint8_t v[4];
    int rc = 0;

    while ((rc = kbs_sql_step(s, q, "count rows by wrapping key", err)) == KBS_SQL_ROW) {
        if (!kbs_sql_column_exact(s, q, 0, v, sizeof(v))) {
            rc = kbs_fail(err, KBS_INTERNAL, "store: a wrapped key without a card");
            break;
        }
        each(ctx, (uint32_t)v[0] << 24 | (uint32_t)v[1] << 16 | (uint32_t)v[2] << 8 | v[3],
             (uint64_t)kbs_sql_column_int(s, q, 1));
    }
    kbs_sql_reset(s, q);
    return rc;
}

int kbs_store_key_wrapped(struct kbs_store *s, const struct kbs_store_below *below,
                          kbs_store_key_each *each, void *ctx, struct kbs_error *err)
{
    return kbs_sql_below_each(s, KBS_SQL_KEY_WRAPPED, below, each, ctx, err);
}

int kbs_store_key_wrap_count(struct kbs_store *s, kbs_store_count_each *each, void *ctx,
                             struct kbs_error *err)
{
    return kbs_sql_count_each(s, KBS_SQL_KEY_WRAP_COUNT, each, ctx, err);
}
