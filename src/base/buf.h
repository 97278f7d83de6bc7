/*
 * Capped buffers: growing byte buffers with a mandatory maximum and a sticky failure, so that a
 * writer checks once at the end. Their memory is overwritten before it is given back; but it is not
 * locked, and pieces of it are borrowed: keys and PINs are struct kbs_secret.
 */
#ifndef KBS_BASE_BUF_H
#define KBS_BASE_BUF_H

#include "base/error.h"
#include "base/span.h"

struct kbs_buf {
    uint8_t *p;  /* private */
    size_t len;  /* bytes written */
    size_t cap;  /* private */
    size_t max;  /* never exceeded */
    bool failed; /* something did not fit, or memory ran out */
};

#define KBS_BUF(max_bytes) ((struct kbs_buf){.max = (max_bytes)})

void kbs_buf_init(struct kbs_buf *b, size_t max);
void kbs_buf_deinit(struct kbs_buf *b); /* safe twice, and on a zeroed buffer */
void kbs_buf_clear(struct kbs_buf *b);  /* empty and usable again, memory kept */
void kbs_buf_wipe(struct kbs_buf *b);   /* the same, and the memory is overwritten */

void kbs_buf_put(struct kbs_buf *b, const void *p, size_t n);
void kbs_buf_put_span(struct kbs_buf *b, struct kbs_span s);
void kbs_buf_put_str(struct kbs_buf *b, const char *s);
void kbs_buf_put_u8(struct kbs_buf *b, uint8_t v);
void kbs_buf_put_le16(struct kbs_buf *b, uint16_t v);
void kbs_buf_put_le32(struct kbs_buf *b, uint32_t v);
void kbs_buf_put_le64(struct kbs_buf *b, uint64_t v);
void kbs_buf_put_be32(struct kbs_buf *b, uint32_t v);
void kbs_buf_printf(struct kbs_buf *b, const char *fmt, ...) KBS_PRINTF(2, 3);

/* Room for n more bytes at the end (NULL and failed if there is none); kbs_buf_commit() makes them
 * count. */
uint8_t *kbs_buf_reserve(struct kbs_buf *b, size_t n);
void kbs_buf_commit(struct kbs_buf *b, size_t n);

/* Removes n bytes from the front (moves the rest down; what was behind it stays until deinit). */
void kbs_buf_consume(struct kbs_buf *b, size_t n);

static inline struct kbs_span kbs_buf_span(const struct kbs_buf *b)
{
    return kbs_span(b->p, b->len);
}

/* The content as a NUL-terminated string, valid until the next change; NULL if the buffer has
 * failed. */
const char *kbs_buf_cstr(struct kbs_buf *b);

/* 0, or -1 with KBS_TOO_LARGE when anything did not fit. `what` names the content in the detail. */
KBS_MUST_CHECK int kbs_buf_check(const struct kbs_buf *b, const char *what, struct kbs_error *err);

#endif
