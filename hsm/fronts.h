/* The loop of a sign worker: orders from fronts, on any number of channels at a time. */
#ifndef KBS_HSM_FRONTS_H
#define KBS_HSM_FRONTS_H

#include "hsm/sole.h"

struct kbs_fronts;

/* kbs_fronts_serve(): a call does not return; the module must not be touched any more. */
#define KBS_FRONTS_STUCK 1

/*
 * n channels (1 to KBS_LIMIT_TLS_SIGNERS), whose descriptors are taken and set to -1, also on failure. Token
 * and key are borrowed until kbs_fronts_free(). Returns owned.
 */
KBS_MUST_CHECK int kbs_fronts_new(const struct kbs_token *t, const struct kbs_sole *key, int *fds,
                                  size_t n, struct kbs_fronts **ret, struct kbs_error *err);

/* A session and a thread for each channel. After kbs_confine(), whose walls threads inherit. */
KBS_MUST_CHECK int kbs_fronts_start(struct kbs_fronts *f, struct kbs_error *err);

/*
 * Until all channels are at end of file or kbsd is (0); an order that is not on the list, a token that is
 * gone (-1); or a call that has taken longer than KBS_LIMIT_TOKEN_OP_MS (KBS_FRONTS_STUCK, *err filled in).
 * When it returns anything else than that, all threads have ended.
 */
KBS_MUST_CHECK int kbs_fronts_serve(struct kbs_fronts *f, int control_fd, struct kbs_error *err);

/* Not after KBS_FRONTS_STUCK. Ends what kbs_fronts_start() began, if nothing has served since. NULL is fine; returns NULL. */
struct kbs_fronts *kbs_fronts_free(struct kbs_fronts *f);

#endif
