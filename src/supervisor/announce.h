/* Telling others that the service is up: the announcement file, and systemd. */
#ifndef KBS_SUPERVISOR_ANNOUNCE_H
#define KBS_SUPERVISOR_ANNOUNCE_H

#include "supervisor/unit.h"

/*
 * Writes, atomically and readable by everybody,
 *   {"pid":N,"guest":[url...],"guest_plain":[url...],"admin":[url...],
 *    "roles":[{"role":"kbs-token","pid":N,"unit":"lane-guest-0","lane":0}...]}
 * Only roles of units that serve are listed; `lane` is null for roles that are in no lane.
 */
KBS_MUST_CHECK int kbsd_announce(const char *path, const struct kbsd_listeners *guest,
                                 const struct kbsd_listeners *admin, const struct kbsd_unit *units,
                                 size_t n_units, struct kbs_error *err);

/* sd_notify(3) without libsystemd: one datagram to $NOTIFY_SOCKET, if that is set. Failures do
 * not matter. */
void kbsd_notify(const char *state);

#endif
