/* Inside src/api: requests that wait for other administrators, shared by approval.c and approvals_admin.c. */
#ifndef KBS_API_APPROVAL_H
#define KBS_API_APPROVAL_H

#include "api/context.h"
#include "catalog/approval.h"

enum kbs_approval_state {
    KBS_APPROVAL_PENDING = 0,
    KBS_APPROVAL_EXECUTED = 1,
    KBS_APPROVAL_WITHDRAWN = 2,
    KBS_APPROVAL_EXPIRED = 3 /* never in the store: a pending one whose time is over */
};

/* A request that waits, as its row has it. Spans borrow root. */
struct kbs_approval {
    struct kbs_document row; /* the version that was read */
    json_t *root;            /* owned */
    enum kbs_approval_state state;
    uint8_t route;
    struct kbs_span method;
    struct kbs_span target;
    struct kbs_span content_type;
    struct kbs_span body;
    int64_t expires_s;
    uint8_t basis[KBS_SHA256_BYTES];
    uint8_t digest[KBS_SHA256_BYTES]; /* kbs_approval_digest() */
    json_t *requests;                 /* borrowed: the signed requests of those who agree */
    /* kbs_approval_count() fills in */
    const struct kbs_admin *asker;
    uint64_t sequence;
    uint32_t agree;           /* different administrators, the asker among them */
    struct kbs_buf names;     /* theirs, divided by blanks; of one that is closed, as it was read */
    struct kbs_buf signed_by; /* their requests, the same */
    /* while it is carried out */
    struct kbs_document closed; /* the version that says what became of it */
    struct kbs_buf closed_text;
    bool spent; /* it is in the store: the request has been carried out, or its first mutation */
};
#define KBS_APPROVAL_NULL                                                          \
    ((struct kbs_approval){.names = KBS_BUF(KBS_LIMIT_AUDIT_FIELD_BYTES),          \
                           .signed_by = KBS_BUF(KBS_LIMIT_APPROVAL_REQUEST_BYTES), \
                           .closed_text = KBS_BUF(KBS_LIMIT_APPROVAL_BYTES)})
void kbs_approval_deinit(struct kbs_approval *a);

const char *kbs_approval_state_name(enum kbs_approval_state state);

/*
 * Reads a row's text, which has been verified. KBS_INTERNAL if it is not one that we wrote. *ret was
 * KBS_APPROVAL_NULL.
 */
KBS_MUST_CHECK int kbs_approval_read(const struct kbs_document *row, struct kbs_span text,
                                     int64_t now_s, struct kbs_approval *ret,
                                     struct kbs_error *err);
/* The one of that name (the route's parameter) in the store. KBS_MISSING, KBS_INPUT. */
KBS_MUST_CHECK int kbs_approval_get(struct kbs_call *call, struct kbs_approval *ret,
                                    struct kbs_error *err);
/*
 * Verifies every signature in it, against the keys that are enrolled now, and counts. KBS_CONFLICT if the one
 * who asked is no longer enrolled; others do not count then.
 */
KBS_MUST_CHECK int kbs_approval_count(const struct kbs_api *api, struct kbs_approval *a,
                                      struct kbs_error *err);

/* Whether kbs_approval_count() has counted that one. */
bool kbs_approval_has(struct kbs_approval *a, const struct kbs_admin *admin);

/* Its text as it is now, in that state; without body and signatures once it is closed. */
KBS_MUST_CHECK int kbs_approval_text(const struct kbs_approval *a, enum kbs_approval_state state,
                                     struct kbs_buf *out, struct kbs_error *err);

#endif
