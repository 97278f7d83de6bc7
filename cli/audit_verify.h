/* What a ledger proves, read from its file alone (docs/protocol/ledger.md, "Reading it back"). */
#ifndef KBS_CLI_AUDIT_VERIFY_H
#define KBS_CLI_AUDIT_VERIFY_H

#include <jansson.h>

#include "audit/ledger.h"
#include "base/ec.h"

struct kbs_audit_summary {
    struct kbs_ledger_report ledger;
    uint64_t releases; /* orders */
    uint64_t deeds;
    uint64_t mutations;
    uint64_t refusals;    /* records of them, and those that were only counted */
    uint64_t heads;       /* signed heads that verified */
    uint64_t head_covers; /* number of the newest record that one of them covers */
    json_t *findings;     /* [{"line", "text"}]: the ledger and what it tells do not agree; owned */
    json_t *notes;        /* the same: what a crash or a full disk explains; owned */
};
void kbs_audit_summary_deinit(struct kbs_audit_summary *s);

/*
 * Reads the ledger behind `fd` (borrowed) to its end, or to where its chain breaks, which is a
 * finding. head_key: NULL leaves signed heads unverified, with a note. -1 only if the file cannot
 * be read or memory runs out.
 */
KBS_MUST_CHECK int kbs_audit_verify(int fd, const struct kbs_ec_public *head_key,
                                    struct kbs_audit_summary *ret, struct kbs_error *err);

#endif
