/*
 * A lane is recycled because its token worker is worn, or because the configuration that it was
 * started with has been replaced (reload.c). A token that leaks (SoftHSM) wears its worker out, and lanes under the same load are worn at the
 * same time. If all of them were replaced at once, nothing would serve for as long as their logins
 * take, one after the other.
 *
 * So a lane is recycled only while every other lane of its front serves. With one lane, requests wait
 * in the front until it is back. A lane that cannot come back holds up the others, on purpose: what is
 * wrong with it may be wrong with the token, and a worn worker is better than none. It has as much
 * again to go before it ends by itself. One that was given up (FAILED) holds up nobody.
 */
#include "supervisor/recycle.h"

static bool serves(const struct kbsd_unit *lane)
{
    return lane->state == KBSD_UNIT_UP && lane->ready_ns != 0 && !lane->detached;
}

static bool others_serve(const struct kbsd_unit *units, size_t n_units,
                         const struct kbsd_unit *lane)
{
    for (size_t i = 0; i < n_units; i++) {
        const struct kbsd_unit *other = &units[i];
        if (other != lane && other->kind == KBSD_UNIT_LANE && other->listener == lane->listener &&
            other->state != KBSD_UNIT_FAILED && !serves(other)) {
            return false;
        }
    }
    return true;
}

struct kbsd_unit *kbsd_recycle_next(struct kbsd_unit *units, size_t n_units)
{
    for (size_t i = 0; i < n_units; i++) {
        struct kbsd_unit *u = &units[i];
        if (u->kind == KBSD_UNIT_LANE && (u->children[1].worn || u->stale) && serves(u) &&
            others_serve(units, n_units, u)) {
            u->detached = true;
            return u;
        }
    }
    return NULL;
}
