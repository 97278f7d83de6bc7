/*
 * The smallest encoder that cannot do anything else than what deterministic encoding allows. An item
 * tree in libcbor would add allocation and failure paths to processes that otherwise need no CBOR at
 * all, for about twenty lines less here.
 */
#include "cose/write/cbor.h"

/* Major types of RFC 8949 section 3.1, as the upper three bits of the head. */
enum {
    CBOR_UINT = 0x00,
    CBOR_NEGATIVE = 0x20,
    CBOR_BYTES = 0x40,
    CBOR_TEXT = 0x60,
    CBOR_ARRAY = 0x80,
    CBOR_MAP = 0xa0,
    CBOR_TAG = 0xc0,
    CBOR_NIL = 0xf6
};

static void put_head(struct kbs_buf *out, uint8_t major, uint64_t value)
{
    uint8_t head[9];
    size_t extra; /* bytes of argument after the first byte */

    if (value < 24) {
        kbs_buf_put_u8(out, (uint8_t)(major | value));
        return;
    }
    extra = value <= UINT8_MAX ? 1 : value <= UINT16_MAX ? 2 : value <= UINT32_MAX ? 4 : 8;
    head[0] = (uint8_t)(major | (extra == 1 ? 24 : extra == 2 ? 25 : extra == 4 ? 26 : 27));
    for (size_t i = 0; i < extra; i++) {
        head[1 + i] = (uint8_t)(value >> (8 * (extra - 1 - i)));
    }
    kbs_buf_put(out, head, 1 + extra);
}

void kbs_cbor_put_uint(struct kbs_buf *out, uint64_t value)
{
    put_head(out, CBOR_UINT, value);
}

void kbs_cbor_put_int(struct kbs_buf *out, int value)
{
    if (value >= 0) {
        put_head(out, CBOR_UINT, (uint64_t)value);
    } else {
        put_head(out, CBOR_NEGATIVE, (uint64_t)(-1 - value));
    }
}

void kbs_cbor_put_bytes(struct kbs_buf *out, struct kbs_span bytes)
{
    put_head(out, CBOR_BYTES, bytes.len);
    kbs_buf_put_span(out, bytes);
}

void kbs_cbor_put_text(struct kbs_buf *out, struct kbs_span text)
{
    put_head(out, CBOR_TEXT, text.len);
    kbs_buf_put_span(out, text);
}

void kbs_cbor_put_array(struct kbs_buf *out, uint64_t elements)
{
    put_head(out, CBOR_ARRAY, elements);
}

void kbs_cbor_put_map(struct kbs_buf *out, uint64_t pairs)
{
    put_head(out, CBOR_MAP, pairs);
}

void kbs_cbor_put_tag(struct kbs_buf *out, uint64_t tag)
{
    put_head(out, CBOR_TAG, tag);
}

void kbs_cbor_put_nil(struct kbs_buf *out)
{
    kbs_buf_put_u8(out, CBOR_NIL);
}

void kbs_cbor_put_bytes_or_nil(struct kbs_buf *out, struct kbs_span bytes)
{
    if (bytes.len > 0) {
        kbs_cbor_put_bytes(out, bytes);
    } else {
        kbs_cbor_put_nil(out);
    }
}
