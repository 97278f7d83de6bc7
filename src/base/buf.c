/*
 * Capped buffers. Growth doubles up to the cap; a failure sticks, so a writer of twenty fields
 * checks once. One byte beyond `len` is always allocated, so that kbs_buf_cstr() needs no copy.
 *
 * What a buffer held is overwritten before its memory is given back, also when it grows. Buffers
 * carry requests through front and judge, and a request may have a cookie, a token or, from
 * clients that cannot seal, a secret in it; nobody who fills one has to think of that. It costs a
 * memset. Rejected: a flag for buffers that need it. There are ten of them on the way of one
 * request, and one would be forgotten.
 */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/secret.h"

void kbs_buf_init(struct kbs_buf *b, size_t max)
{
    *b = KBS_BUF(max);
}

void kbs_buf_clear(struct kbs_buf *b)
{
    b->len = 0;
    b->failed = false;
}

uint8_t *kbs_buf_reserve(struct kbs_buf *b, size_t n)
{
    size_t cap = b->cap;
    uint8_t *p;

    if (b->failed || n > b->max || b->len > b->max - n) {
        b->failed = true;
        return NULL;
    }
    if (b->p != NULL && b->len + n <= cap) {
        return b->p + b->len;
    }
    cap = cap < 128 ? 128 : cap;
    while (cap < b->len + n) {
        cap *= 2;
    }
    cap = cap > b->max ? b->max : cap;
    p = malloc(cap + 1);
    if (p == NULL) {
        b->failed = true;
        return NULL;
    }
    if (b->p != NULL) {
        memcpy(p, b->p, b->len);
        kbs_cleanse(b->p, b->cap + 1);
        free(b->p);
    }
    b->p = p;
    b->cap = cap;
    return b->p + b->len;
}

void kbs_buf_commit(struct kbs_buf *b, size_t n)
{
    b->len += n;
}

void kbs_buf_wipe(struct kbs_buf *b)
{
    if (b->p != NULL) {
        kbs_cleanse(b->p, b->cap + 1);
    }
    kbs_buf_clear(b);
}

void kbs_buf_deinit(struct kbs_buf *b)
{
    kbs_buf_wipe(b);
    free(b->p);
    *b = KBS_BUF(b->max);
}

void kbs_buf_put(struct kbs_buf *b, const void *p, size_t n)
{
    uint8_t *to = kbs_buf_reserve(b, n);

    if (to != NULL && n > 0) {
        memcpy(to, p, n);
        b->len += n;
    }
}

void kbs_buf_put_span(struct kbs_buf *b, struct kbs_span s)
{
    kbs_buf_put(b, s.p, s.len);
}

void kbs_buf_put_str(struct kbs_buf *b, const char *s)
{
    kbs_buf_put(b, s, strlen(s));
}

void kbs_buf_put_u8(struct kbs_buf *b, uint8_t v)
{
    kbs_buf_put(b, &v, 1);
}

static void put_le(struct kbs_buf *b, uint64_t v, size_t n)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(v >> (8 * i));
    }
    kbs_buf_put(b, bytes, n);
}

void kbs_buf_put_le16(struct kbs_buf *b, uint16_t v)
{
    put_le(b, v, 2);
}

void kbs_buf_put_le32(struct kbs_buf *b, uint32_t v)
{
    put_le(b, v, 4);
}

void kbs_buf_put_le64(struct kbs_buf *b, uint64_t v)
{
    put_le(b, v, 8);
}

void kbs_buf_put_be32(struct kbs_buf *b, uint32_t v)
{
    uint8_t bytes[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

    kbs_buf_put(b, bytes, sizeof(bytes));
}

void kbs_buf_printf(struct kbs_buf *b, const char *fmt, ...)
{
    va_list ap;
    va_list again;
    int n;
    uint8_t *to;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    to = n < 0 ? NULL : kbs_buf_reserve(b, (size_t)n);
    if (to != NULL) {
        (void)vsnprintf((char *)to, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    } else {
        b->failed = true;
    }
    va_end(again);
}

void kbs_buf_consume(struct kbs_buf *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->p, b->p + n, b->len - n);
    b->len -= n;
}

const char *kbs_buf_cstr(struct kbs_buf *b)
{
    if (kbs_buf_reserve(b, 0) == NULL) {
        return NULL;
    }
    b->p[b->len] = '\0';
    return (const char *)b->p;
}

int kbs_buf_check(const struct kbs_buf *b, const char *what, struct kbs_error *err)
{
    if (b->failed) {
        return kbs_fail(err, KBS_TOO_LARGE, "%s does not fit in %zu bytes", what, b->max);
    }
    return 0;
}
