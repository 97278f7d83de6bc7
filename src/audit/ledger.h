/*
 * The ledger: an append-only file of JSON records chained by SHA-256 (docs/protocol/ledger.md).
 * Writing belongs to kbs-audit alone; verifying is for anybody who can read the file.
 */
#ifndef KBS_AUDIT_LEDGER_H
#define KBS_AUDIT_LEDGER_H

#include "base/buf.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/span.h"
#include "base/terms.h"

/* Longest line: the hash, the members the ledger adds, and a record whose every byte had to be
 * escaped. */
#define KBS_LEDGER_LINE_BYTES (6 * KBS_LIMIT_AUDIT_RECORD_BYTES + 256)

/* kbs_ledger_verify(): sound, but for a last line that was not written to its end. */
#define KBS_LEDGER_TORN 1

struct kbs_ledger_report {
    uint64_t records; /* sound ones: the `seq` of the last */
    uint64_t bytes;   /* of the file that they take */
    uint64_t torn_bytes;
    uint8_t head[KBS_SHA256_BYTES]; /* hash of the last sound record; zeros if there is none */
    uint64_t epoch;                 /* of the newest intent or restore; 0 if there is none */
    bool outcome;                   /* its outcome is known; true if there is none */
};

/*
 * Reads the whole file from its beginning, in constant memory. 0, KBS_LEDGER_TORN, or -1:
 * KBS_CONFLICT when the chain is broken (the detail names the line; *ret describes what stands
 * before it), KBS_INTERNAL when the file cannot be read. Does not change the file; moves its
 * offset.
 */
KBS_MUST_CHECK int kbs_ledger_verify(int fd, struct kbs_ledger_report *ret, struct kbs_error *err);

/*
 * The same, and calls `each` for every sound record, in order: `so_far` describes the ledger up to
 * and with it (its number is so_far->records), `json` is borrowed until the call returns.
 */
typedef void kbs_ledger_each(void *ctx, const struct kbs_ledger_report *so_far,
                             struct kbs_span json);
KBS_MUST_CHECK int kbs_ledger_scan(int fd, kbs_ledger_each *each, void *ctx,
                                   struct kbs_ledger_report *ret, struct kbs_error *err);

/* One member of a record; both borrowed. */
struct kbs_ledger_field {
    struct kbs_span name;
    struct kbs_span value;
};

/* The writer. Members are private. */
struct kbs_ledger {
    int fd;                 /* borrowed */
    uint64_t durable_bytes; /* the file up to the last fdatasync that succeeded */
    uint64_t durable_seq;
    uint8_t durable_head[KBS_SHA256_BYTES];
    uint64_t durable_epoch;
    bool durable_outcome;
    uint64_t staged_seq;
    uint8_t staged_head[KBS_SHA256_BYTES];
    uint64_t staged_epoch;
    bool staged_outcome;
    struct kbs_buf staged; /* lines that are not written yet */
    bool dirty;            /* the file may hold more than durable_bytes, of our making */
};

/*
 * Verifies the file behind `fd` (borrowed, open for reading and appending), takes the only writer's
 * lock on it and makes *l ready. 0, or KBS_LEDGER_TORN after a torn last line was cut off
 * (*ret_cut_bytes), or -1: KBS_CONFLICT when the chain is broken or another process writes,
 * KBS_INTERNAL.
 */
KBS_MUST_CHECK int kbs_ledger_open(struct kbs_ledger *l, int fd, uint64_t *ret_cut_bytes,
                                   struct kbs_error *err);
void kbs_ledger_deinit(
    struct kbs_ledger *l); /* drops what is staged; does not close the descriptor */

/*
 * Adds a record to the group that the next commit writes. kind: 1 to 32 of [a-z0-9-]; names: 1 to
 * 32 of [a-z0-9_-], not `seq`, `time`, `kind`, `phase` or `epoch`, no name twice; values: at most
 * KBS_LIMIT_AUDIT_FIELD_BYTES, any bytes. *ret_seq is valid only once committed. KBS_INPUT for
 * anything else; KBS_TOO_LARGE when the group is full.
 */
KBS_MUST_CHECK int kbs_ledger_stage(struct kbs_ledger *l, struct kbs_span kind,
                                    const struct kbs_ledger_field *fields, size_t n,
                                    uint64_t *ret_seq, struct kbs_error *err);
/*
 * The same for a record of a mutation. An intent has the newest epoch if that one's outcome is not
 * known, else the next; an outcome has the newest; a restore the next (DESIGN 6). KBS_INPUT if not.
 */
KBS_MUST_CHECK int kbs_ledger_stage_phase(struct kbs_ledger *l, struct kbs_span kind,
                                          enum kbs_phase phase, uint64_t epoch,
                                          const struct kbs_ledger_field *fields, size_t n,
                                          uint64_t *ret_seq, struct kbs_error *err);

/*
 * Writes and syncs the group. 0: all of it is durable. -1: none of it counts; the file is cut back
 * to the last durable record (now, or before the next write) and the sequence continues from there.
 * The next group may work.
 */
KBS_MUST_CHECK int kbs_ledger_commit(struct kbs_ledger *l, struct kbs_error *err);

#endif
