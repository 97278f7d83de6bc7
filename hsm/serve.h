/* The worker's loop: orders from the judge, one at a time, until someone hangs up. */
#ifndef KBS_HSM_SERVE_H
#define KBS_HSM_SERVE_H

#include "hsm/deed.h"
#include "hsm/ladder.h"
#include "hsm/sign.h"

struct kbs_worker {
    enum kbs_duty duty;
    int control_fd; /* borrowed */
    int judge_fd;   /* borrowed */
    struct kbs_token token;
    struct kbs_ladder ladder;
    struct kbs_signer signer;     /* sign-token */
    struct kbs_signer row_signer; /* duty admin only, like the next */
    struct kbs_signer head_signer;
    struct kbs_deeds deeds;
    struct kbs_handle_cache *cache;
};

/*
 * Serves until DRAIN, or end of file on either channel (0), or an error that ends the worker (-1):
 * an order that is not on the duty's list, a broken channel, a token or ledger that is gone.
 */
KBS_MUST_CHECK int kbs_serve(struct kbs_worker *w, struct kbs_error *err);

#endif
