/* Which lane is recycled when its token worker is worn (WORN, docs/protocol/role-channels.md). */
#ifndef KBS_SUPERVISOR_RECYCLE_H
#define KBS_SUPERVISOR_RECYCLE_H

#include "supervisor/unit.h"

/*
 * The next lane to be taken from its front and replaced; it is `detached` now. NULL: none for now.
 * Call again when a lane begins to serve.
 */
struct kbsd_unit *kbsd_recycle_next(struct kbsd_unit *units, size_t n_units);

#endif
