/*
 * How kbsd ends a role that is not its child and not of its user: whatever is sent on the other end
 * of the leash kills the role, whatever the role is doing.
 */
#ifndef KBS_CONFINE_LEASH_H
#define KBS_CONFINE_LEASH_H

#include "base/error.h"

/* Where the leash is kept, beside KBS_FD_CONTROL. */
#define KBS_FD_LEASH 4

/*
 * Puts the calling process on the leash `fd` (taken): one end of a pair of AF_UNIX datagram sockets,
 * of which kbsd holds the other. A datagram on it is SIGKILL, sent by the kernel; the end of kbsd
 * is nothing (a role sees that on its control channel). From then on closing it or the control
 * channel is death too, so that for kbsd the end of the channel is the end of the process. Needs
 * no_new_privs. KBS_INTERNAL if it has been pulled already, KBS_INPUT if the kernel refuses.
 */
KBS_MUST_CHECK int kbs_confine_leash(int fd, struct kbs_error *err);

#endif
