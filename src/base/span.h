/*
 * Spans: borrowed views of bytes, passed by value. They never own and are never NUL-terminated;
 * text at the edges of the system (paths, PEM) is a C string, everything in between is a span.
 */
#ifndef KBS_BASE_SPAN_H
#define KBS_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct kbs_span {
    const uint8_t *p; /* may be NULL only when len is 0 */
    size_t len;       /* bytes */
};

#define KBS_SPAN_EMPTY ((struct kbs_span){.p = NULL, .len = 0})
/* For string literals and arrays of char whose last element is the terminator. */
#define KBS_SPAN_LIT(s) ((struct kbs_span){.p = (const uint8_t *)(s), .len = sizeof(s) - 1})

static inline struct kbs_span kbs_span(const void *p, size_t len)
{
    return (struct kbs_span){.p = p, .len = len};
}

/* A C string without its terminator; NULL gives the empty span. */
static inline struct kbs_span kbs_span_str(const char *s)
{
    return (struct kbs_span){.p = (const uint8_t *)s, .len = s != NULL ? strlen(s) : 0};
}

/* Not for secrets: the time depends on where they differ (kbs_secret_equal() is for those). */
static inline bool kbs_span_equal(struct kbs_span a, struct kbs_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static inline bool kbs_span_equal_str(struct kbs_span a, const char *s)
{
    return kbs_span_equal(a, kbs_span_str(s));
}

static inline bool kbs_span_starts_with(struct kbs_span a, const char *prefix)
{
    size_t n = strlen(prefix);
    return a.len >= n && memcmp(a.p, prefix, n) == 0;
}

static inline struct kbs_span kbs_span_skip(struct kbs_span a, size_t n)
{
    n = n < a.len ? n : a.len;
    return (struct kbs_span){.p = a.p + n, .len = a.len - n};
}

/*
 * Copies a span into a NUL-terminated string of `size` bytes. Returns false, and an empty string,
 * when it does not fit or holds a NUL byte.
 */
bool kbs_span_to_cstr(struct kbs_span a, char *out, size_t size);

/* A reader over a span whose failure is sticky: after one short read every later value is zero. */
struct kbs_reader {
    struct kbs_span rest;
    bool failed;
};

static inline struct kbs_reader kbs_reader(struct kbs_span in)
{
    return (struct kbs_reader){.rest = in, .failed = false};
}

struct kbs_span kbs_read_bytes(struct kbs_reader *r, size_t n);
uint8_t kbs_read_u8(struct kbs_reader *r);
uint16_t kbs_read_le16(struct kbs_reader *r);
uint32_t kbs_read_le32(struct kbs_reader *r);
uint64_t kbs_read_le64(struct kbs_reader *r);

#endif
