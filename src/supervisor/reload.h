/* SIGHUP: a configuration that takes the place of another while the service runs. */
#ifndef KBS_SUPERVISOR_RELOAD_H
#define KBS_SUPERVISOR_RELOAD_H

#include "config/config.h"
#include "supervisor/unit.h"

struct kbsd_reload {
    struct kbs_config effective;        /* the first one, with what a later one may replace */
    const struct kbs_config *taken;     /* owned: the one whose part is in it; NULL: none */
    const struct kbs_config *candidate; /* owned: being tried; NULL: none */
    struct kbs_config tried;            /* the first one, with the candidate's part */
    bool due;
};

/*
 * Reads `path`. 0: there is a candidate, and r->tried is the configuration with it, for a judge to
 * look at. -1: it cannot be used, which has been logged, every finding of it; nothing changes.
 */
KBS_MUST_CHECK int kbsd_reload_read(struct kbsd_reload *r, const char *path,
                                    const struct kbs_config *now);

/* The candidate counts from here on: *now becomes &r->effective, and guest lanes are to be replaced. */
void kbsd_reload_take(struct kbsd_reload *r, const struct kbs_config **now, struct kbsd_unit *units,
                      size_t n_units);
void kbsd_reload_drop(struct kbsd_reload *r); /* the candidate; fine if there is none */
void kbsd_reload_deinit(struct kbsd_reload *r);

#endif
