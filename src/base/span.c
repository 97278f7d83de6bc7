/* The out-of-line half of span.h: copies to C strings and the sticky reader. */
#include "base/span.h"

bool kbs_span_to_cstr(struct kbs_span a, char *out, size_t size)
{
    if (size == 0) {
        return false;
    }
    out[0] = '\0';
    if (a.len >= size || (a.len > 0 && memchr(a.p, '\0', a.len) != NULL)) {
        return false;
    }
    if (a.len > 0) {
        memcpy(out, a.p, a.len);
    }
    out[a.len] = '\0';
    return true;
}

struct kbs_span kbs_read_bytes(struct kbs_reader *r, size_t n)
{
    struct kbs_span out = kbs_span(r->rest.p, n);

    if (r->failed || r->rest.len < n) {
        r->failed = true;
        return KBS_SPAN_EMPTY;
    }
    r->rest = kbs_span_skip(r->rest, n);
    return out;
}

static uint64_t read_le(struct kbs_reader *r, size_t n)
{
    struct kbs_span s = kbs_read_bytes(r, n);
    uint64_t v = 0;

    for (size_t i = s.len; i > 0; i--) {
        v = (v << 8) | s.p[i - 1];
    }
    return v;
}

uint8_t kbs_read_u8(struct kbs_reader *r)
{
    return (uint8_t)read_le(r, 1);
}

uint16_t kbs_read_le16(struct kbs_reader *r)
{
    return (uint16_t)read_le(r, 2);
}

uint32_t kbs_read_le32(struct kbs_reader *r)
{
    return (uint32_t)read_le(r, 4);
}

uint64_t kbs_read_le64(struct kbs_reader *r)
{
    return read_le(r, 8);
}
