/* What an operation answers beside success: the parts of RESULT that are not the error's. */
#ifndef KBS_HSM_ANSWER_H
#define KBS_HSM_ANSWER_H

#include "base/buf.h"
#include "base/terms.h"

/* Sized so that any body fits RESULT's cap with its other fields. */
#define KBS_ANSWER_BODY_MAX_BYTES (2u * KBS_LIMIT_SECRET_VALUE_BYTES - 8192u)

struct kbs_answer {
    const char *rung;                        /* static, "" where no rung was used */
    enum kbs_locality locality;              /* of that rung */
    enum kbs_format format;                  /* of a release */
    char note[KBS_LIMIT_ERROR_DETAIL_BYTES]; /* for a person, beside a success; may be empty */
    struct kbs_buf body;                     /* owned by whoever made the answer */
    struct kbs_buf receipt;                  /* the same; empty: none was asked for */
};

#define KBS_ANSWER                                                   \
    ((struct kbs_answer){.rung = "",                                 \
                         .body = KBS_BUF(KBS_ANSWER_BODY_MAX_BYTES), \
                         .receipt = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES)})

#endif
