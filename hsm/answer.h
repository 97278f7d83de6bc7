/* What an operation answers beside success: the parts of RESULT that are not the error's. */
#ifndef KBS_HSM_ANSWER_H
#define KBS_HSM_ANSWER_H

#include "base/buf.h"
#include "base/terms.h"

/* Sized so that any body fits RESULT's cap with its other fields. */
#define KBS_ANSWER_BODY_MAX_BYTES (2u * KBS_LIMIT_JWT_BYTES - 4096u)

struct kbs_answer {
    const char *rung;           /* static, "" where no rung was used */
    enum kbs_locality locality; /* of that rung */
    enum kbs_format format;     /* of a release */
    struct kbs_buf body;        /* owned by whoever made the answer */
};

#define KBS_ANSWER ((struct kbs_answer){.rung = "", .body = KBS_BUF(KBS_ANSWER_BODY_MAX_BYTES)})

#endif
