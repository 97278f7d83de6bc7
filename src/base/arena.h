/*
 * Arenas: memory of one request, capped, dropped as a whole. Never for secrets. Allocations are
 * zeroed and aligned for any type.
 */
#ifndef KBS_BASE_ARENA_H
#define KBS_BASE_ARENA_H

#include "base/span.h"

struct kbs_arena_chunk;

struct kbs_arena {
    struct kbs_arena_chunk *chunks; /* private, newest first */
    size_t used;                    /* bytes handed out */
    size_t max;
};

#define KBS_ARENA(max_bytes) ((struct kbs_arena){.max = (max_bytes)})

void kbs_arena_deinit(struct kbs_arena *a); /* frees everything; usable again afterwards */

/* Returns borrowed memory (until deinit), or NULL when the cap or the machine's memory is reached.
 */
void *kbs_arena_alloc(struct kbs_arena *a, size_t n);

/* A copy that lives as long as the arena. An empty span with p == NULL when there is no room. */
struct kbs_span kbs_arena_copy(struct kbs_arena *a, struct kbs_span s);
char *kbs_arena_cstr(struct kbs_arena *a, struct kbs_span s);

#endif
