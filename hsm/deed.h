/*
 * Deeds: what kbs-token itself says in the ledger about what it did (docs/protocol/ledger.md). The
 * record is on the disk before the judge learns the result, so that no judge can hide it, or have
 * an answer that is not in the ledger.
 */
#ifndef KBS_HSM_DEED_H
#define KBS_HSM_DEED_H

#include "base/buf.h"
#include "base/terms.h"
#include "channel/channel.h"

/* One operation of weight. Spans borrow the order; what does not apply is empty. */
struct kbs_deed {
    const char *op; /* static; NULL: an operation without weight, which leaves no deed */
    struct kbs_span order;
    struct kbs_span kid;    /* of the key; of a service's key its purpose */
    uint8_t kid_sha256[32]; /* in its place, for orders that carry a card and no kid */
    bool has_kid_sha256;
    uint8_t cka_id[KBS_CKA_ID_MAX_BYTES]; /* of a resident key */
    size_t cka_id_len;                    /* 0: none, or not known */
    uint8_t row[32];                      /* digest of a signed row */
    bool has_row;
};

/* The channel to kbs-audit. At most one deed is not durable. */
struct kbs_deeds {
    int fd;                /* borrowed; -1 with --init-token: no ledger, no deeds */
    bool refused;          /* the last deed could not be written */
    struct kbs_buf fields; /* the last deed, until it is durable */
    uint16_t count;
    struct kbs_channel_msg answer;
};
#define KBS_DEEDS        \
    ((struct kbs_deeds){ \
        .fd = -1, .fields = KBS_BUF(KBS_LIMIT_AUDIT_RECORD_BYTES), .answer = KBS_CHANNEL_MSG})
void kbs_deeds_deinit(struct kbs_deeds *d);

/*
 * Before the next operation of weight: 0 if the last deed is durable, sending it once more if the
 * ledger could not be written. KBS_BUSY if it still cannot: the operation must not begin.
 * KBS_TOKEN_DOWN if the ledger is gone: the worker must end.
 */
KBS_MUST_CHECK int kbs_deeds_settle(struct kbs_deeds *d, struct kbs_error *err);

/* What came of it: the answer's values, or the category of the failure. */
struct kbs_deed_outcome {
    enum kbs_category category;
    const char *rung;
    enum kbs_locality locality;
    enum kbs_format format;
    enum kbs_token_class token_class;
    const char *serial;
    struct kbs_span receipt; /* that was made of it; empty: none */
};
/*
 * Records the deed. 0 once it is durable. KBS_BUSY if it could not be written (it is kept for
 * kbs_deeds_settle()), KBS_TOKEN_DOWN if the ledger is gone: nothing of the operation may be
 * answered then.
 */
KBS_MUST_CHECK int kbs_deeds_record(struct kbs_deeds *d, const struct kbs_deed *deed,
                                    const struct kbs_deed_outcome *outcome, struct kbs_error *err);

/* The channel is readable between orders, where nothing is due: always -1, KBS_TOKEN_DOWN. */
KBS_MUST_CHECK int kbs_deeds_lost(struct kbs_error *err);

#endif
