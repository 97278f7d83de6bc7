/*
 * Arenas. Chunks of at least 4 KiB, handed out front to back; larger requests get a chunk of their
 * own. The cap counts what was handed out, so that one request cannot take the process's memory.
 * Like buffers (buf.c) they are overwritten before they are given back.
 */
#include "base/arena.h"

#include <stdalign.h>
#include <stdlib.h>

#include "base/secret.h"

#define CHUNK_BYTES 4096

struct kbs_arena_chunk {
    struct kbs_arena_chunk *next;
    size_t used;
    size_t cap;
    alignas(max_align_t) uint8_t bytes[];
};

void kbs_arena_deinit(struct kbs_arena *a)
{
    while (a->chunks != NULL) {
        struct kbs_arena_chunk *next = a->chunks->next;

        kbs_cleanse(a->chunks->bytes, a->chunks->used);
        free(a->chunks);
        a->chunks = next;
    }
    a->used = 0;
}

static struct kbs_arena_chunk *chunk_with(struct kbs_arena *a, size_t n)
{
    struct kbs_arena_chunk *c = a->chunks;
    size_t cap = n > CHUNK_BYTES ? n : CHUNK_BYTES;

    if (c != NULL && c->cap - c->used >= n) {
        return c;
    }
    c = calloc(1, sizeof(*c) + cap);
    if (c != NULL) {
        c->cap = cap;
        c->next = a->chunks;
        a->chunks = c;
    }
    return c;
}

void *kbs_arena_alloc(struct kbs_arena *a, size_t n)
{
    const size_t align = alignof(max_align_t);
    struct kbs_arena_chunk *c;
    void *p;

    if (n > a->max || n + align > SIZE_MAX - align) {
        return NULL;
    }
    n = (n + align - 1) / align * align;
    if (a->used > a->max || n > a->max - a->used) {
        return NULL;
    }
    c = chunk_with(a, n);
    if (c == NULL) {
        return NULL;
    }
    p = c->bytes + c->used;
    c->used += n;
    a->used += n;
    return p;
}

struct kbs_span kbs_arena_copy(struct kbs_arena *a, struct kbs_span s)
{
    uint8_t *p = kbs_arena_alloc(a, s.len + 1);

    if (p == NULL) {
        return KBS_SPAN_EMPTY;
    }
    if (s.len > 0) {
        memcpy(p, s.p, s.len);
    }
    return kbs_span(p, s.len);
}

char *kbs_arena_cstr(struct kbs_arena *a, struct kbs_span s)
{
    char *p = kbs_arena_alloc(a, s.len + 1);

    if (p != NULL && s.len > 0) {
        memcpy(p, s.p, s.len);
    }
    return p;
}
