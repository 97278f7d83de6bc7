/* The worker's loop: orders from the judge, one at a time, until someone hangs up. */
#ifndef KBS_HSM_SERVE_H
#define KBS_HSM_SERVE_H

#include "hsm/orders.h"

/*
 * Serves until DRAIN, end of file on either channel, or twice the number of objects at which a
 * leaking token is worn (0), or an error that ends the worker (-1): an order that is not on the duty's list, a
 * broken channel, a token or ledger that is gone.
 */
KBS_MUST_CHECK int kbs_serve(struct kbs_worker *w, struct kbs_error *err);

#endif
