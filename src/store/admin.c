/*
 * Administrators' sequences: what makes a signed mutation single use.
 *
 * The problem: a signature that was seen once must never work again, not in another lane and not
 * after a restart. The approach: one upsert that changes a row only if the sequence grows, on the
 * durable connection: the raised sequence is on the disk before the mutation that it allows begins.
 */
#include "store/sql.h"

int kbs_store_admin_advance(struct kbs_store *s, const char *thumbprint, uint64_t sequence,
                            struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_ADMIN_ADVANCE;

    if (sequence > INT64_MAX) {
        return kbs_fail(err, KBS_INPUT, "sequence out of range");
    }
    kbs_sql_bind_text(s, q, 1, kbs_span_str(thumbprint));
    kbs_sql_bind_int(s, q, 2, (int64_t)sequence);
    if (kbs_sql_run(s, q, "advance a sequence", err) != 0) {
        return -1;
    }
    if (sqlite3_changes64(s->durable.db) != 1) {
        return kbs_fail(err, KBS_CONFLICT, "the sequence was used before");
    }
    return 0;
}
