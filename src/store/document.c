/*
 * Documents. A version is added, and dropped once there are too many after it; it is never changed,
 * so the newest one counts and the others are what there was. Added and dropped in mutations
 * (epoch.c), and a part of the manifest: a row that was edited, added or taken out by somebody else
 * is found as one of a key is.
 */
#include "store/sql.h"

static bool in_range(int64_t v, int64_t first, int64_t count)
{
    return v >= first && v < count;
}

bool kbs_sql_document_read(struct kbs_store *s, enum kbs_sql q, struct kbs_document *ret)
{
    int64_t kind = kbs_sql_column_int(s, q, 0);
    int64_t version = kbs_sql_column_int(s, q, 2);
    int64_t epoch = kbs_sql_column_int(s, q, 4);

    ret->created_s = kbs_sql_column_int(s, q, 3);
    if (!in_range(kind, 1, KBS_DOCUMENT_COUNT) || !in_range(version, 1, (int64_t)UINT32_MAX + 1) ||
        epoch < 0 || ret->created_s < 0) {
        return false;
    }
    ret->kind = (enum kbs_document_kind)kind;
    ret->version = (uint32_t)version;
    ret->epoch = (uint64_t)epoch;
    kbs_sha256(kbs_sql_column_bytes(s, q, 5), ret->request);
    if (!kbs_sql_column_exact(s, q, 6, ret->signature, sizeof(ret->signature))) {
        memset(ret->signature, 0, sizeof(ret->signature)); /* verifies under no key */
    }
    return kbs_span_to_cstr(kbs_sql_column_bytes(s, q, 1), ret->name, sizeof(ret->name)) &&
           kbs_document_name_valid(kbs_span_str(ret->name));
}

static void name_bind(struct kbs_store *s, enum kbs_sql q, enum kbs_document_kind kind,
                      struct kbs_span name)
{
    kbs_sql_bind_int(s, q, 1, kind);
    kbs_sql_bind_text(s, q, 2, name);
}

/* The one row that a statement gives, whose parameters are bound. */
static int find(struct kbs_store *s, enum kbs_sql q, enum kbs_document_kind kind,
                struct kbs_document *ret, struct kbs_buf *text, struct kbs_error *err)
{
    int rc = kbs_sql_step(s, q, "find a document", err);

    if (rc == 0) {
        rc = kbs_fail(err, KBS_MISSING, "no such %s", kbs_document_kind_name(kind));
    } else if (rc == KBS_SQL_ROW) {
        rc = kbs_sql_document_read(s, q, ret)
                 ? 0
                 : kbs_fail(err, KBS_INTERNAL, "store: malformed document row");
    }
    if (rc == 0 && text != NULL) {
        kbs_buf_put_span(text, kbs_sql_column_bytes(s, q, KBS_SQL_DOCUMENT_TEXT));
        rc = kbs_buf_check(text, "document", err);
    }
    kbs_sql_reset(s, q);
    return rc;
}

int kbs_store_document_newest(struct kbs_store *s, enum kbs_document_kind kind,
                              struct kbs_span name, struct kbs_document *ret, struct kbs_buf *text,
                              struct kbs_error *err)
{
    name_bind(s, KBS_SQL_DOCUMENT_NEWEST, kind, name);
    return find(s, KBS_SQL_DOCUMENT_NEWEST, kind, ret, text, err);
}

int kbs_store_document_version(struct kbs_store *s, enum kbs_document_kind kind,
                               struct kbs_span name, uint32_t version, struct kbs_document *ret,
                               struct kbs_buf *text, struct kbs_error *err)
{
    name_bind(s, KBS_SQL_DOCUMENT_VERSION, kind, name);
    kbs_sql_bind_int(s, KBS_SQL_DOCUMENT_VERSION, 3, version);
    return find(s, KBS_SQL_DOCUMENT_VERSION, kind, ret, text, err);
}

/* Every row that a statement gives, whose parameters are bound. */
static int each_row(struct kbs_store *s, enum kbs_sql q, kbs_store_document_each *each, void *ctx,
                    struct kbs_error *err)
{
    struct kbs_document document;
    int rc = 0;

    while ((rc = kbs_sql_step(s, q, "list documents", err)) == KBS_SQL_ROW) {
        if (!kbs_sql_document_read(s, q, &document)) {
            rc = kbs_fail(err, KBS_INTERNAL, "store: malformed document row");
            break;
        }
        rc = each(ctx, &document, kbs_sql_column_bytes(s, q, KBS_SQL_DOCUMENT_TEXT),
                  kbs_sql_column_bytes(s, q, KBS_SQL_DOCUMENT_REQUEST), err);
        if (rc != 0) {
            break;
        }
    }
    kbs_sql_reset(s, q);
    return rc;
}

int kbs_store_document_history(struct kbs_store *s, enum kbs_document_kind kind,
                               struct kbs_span name, kbs_store_document_each *each, void *ctx,
                               struct kbs_error *err)
{
    name_bind(s, KBS_SQL_DOCUMENT_HISTORY, kind, name);
    return each_row(s, KBS_SQL_DOCUMENT_HISTORY, each, ctx, err);
}

int kbs_store_document_list(struct kbs_store *s, enum kbs_document_kind kind, struct kbs_span after,
                            unsigned int limit, kbs_store_document_each *each, void *ctx,
                            struct kbs_error *err)
{
    name_bind(s, KBS_SQL_DOCUMENT_LIST, kind, after);
    kbs_sql_bind_int(s, KBS_SQL_DOCUMENT_LIST, 3, limit);
    return each_row(s, KBS_SQL_DOCUMENT_LIST, each, ctx, err);
}

/* Two numbers that a statement gives in its one row. */
static int two_numbers(struct kbs_store *s, enum kbs_sql q, const char *what, int64_t *ret_a,
                       int64_t *ret_b, struct kbs_error *err)
{
    int rc = kbs_sql_step(s, q, what, err);

    if (rc == KBS_SQL_ROW) {
        *ret_a = kbs_sql_column_int(s, q, 0); /* NULL reads as 0 */
        *ret_b = kbs_sql_column_int(s, q, 1);
    }
    kbs_sql_reset(s, q);
    return rc == KBS_SQL_ROW ? 0 : -1;
}

int kbs_store_document_versions(struct kbs_store *s, enum kbs_document_kind kind,
                                struct kbs_span name, uint64_t *ret_count, uint32_t *ret_oldest,
                                struct kbs_error *err)
{
    int64_t count = 0;
    int64_t oldest = 0;

    name_bind(s, KBS_SQL_DOCUMENT_OLDEST, kind, name);
    if (two_numbers(s, KBS_SQL_DOCUMENT_OLDEST, "count versions", &count, &oldest, err) != 0) {
        return -1;
    }
    *ret_count = (uint64_t)count;
    *ret_oldest = (uint32_t)oldest;
    return 0;
}

int kbs_store_document_space(struct kbs_store *s, uint64_t *ret_rows, uint64_t *ret_bytes,
                             struct kbs_error *err)
{
    int64_t rows = 0;
    int64_t bytes = 0;

    if (two_numbers(s, KBS_SQL_DOCUMENT_SPACE, "measure documents", &rows, &bytes, err) != 0) {
        return -1;
    }
    *ret_rows = (uint64_t)rows;
    *ret_bytes = (uint64_t)bytes;
    return 0;
}

static enum kbs_sql write_bind(struct kbs_store *s, const struct kbs_store_document *d)
{
    const struct kbs_document *document = d->document;
    enum kbs_sql q = d->dropped ? KBS_SQL_DOCUMENT_DELETE : KBS_SQL_DOCUMENT_INSERT;

    name_bind(s, q, document->kind, kbs_span_str(document->name));
    kbs_sql_bind_int(s, q, 3, document->version);
    if (!d->dropped) {
        kbs_sql_bind_int(s, q, 4, document->created_s);
        kbs_sql_bind_int(s, q, 5, (int64_t)document->epoch);
        kbs_sql_bind_text(s, q, 6, d->request);
        kbs_sql_bind_blob(s, q, 7, kbs_span(document->signature, sizeof(document->signature)));
        kbs_sql_bind_text(s, q, 8, d->text);
    }
    return q;
}

int kbs_sql_document_write(struct kbs_store *s, const struct kbs_store_document *d,
                           struct kbs_error *err)
{
    int rc = kbs_sql_run(s, write_bind(s, d), "write a document", err);

    if (rc == KBS_SQL_EXISTS || (rc == 0 && sqlite3_changes64(s->durable.db) != 1)) {
        return kbs_fail(err, KBS_CONFLICT, "the store was changed by somebody else");
    }
    return rc;
}
