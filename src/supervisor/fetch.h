/* kbs-fetch's part of starting units: its configuration, and its channels to fronts and judges. */
#ifndef KBS_SUPERVISOR_FETCH_H
#define KBS_SUPERVISOR_FETCH_H

#include "config/config.h"
#include "supervisor/child.h"

/* Sends a kbs-fetch that has just been started everything up to GO. */
KBS_MUST_CHECK int kbsd_fetch_configure(const struct kbsd_child *fetch, const struct kbs_config *c,
                                        struct kbs_error *err);

/*
 * A channel between kbs-fetch and a front or judge, which may be serving already (it then replaces
 * the one it had). index: kbsd's name for that one. `fetch_control`: kbs-fetch's control channel.
 */
KBS_MUST_CHECK int kbsd_fetch_attach(int fetch_control, const struct kbsd_child *to, uint32_t index,
                                     struct kbs_error *err);

#endif
