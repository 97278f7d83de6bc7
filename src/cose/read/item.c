/*
 * libcbor behind strict checks.
 *
 * libcbor's tree builder (cbor_load) allocates and nests as the input says, forgets how a number
 * was encoded, and keeps duplicate map keys: everything a strict reader must not do. Its streaming
 * decoder does none of that. It reads one head, calls one callback and reports how many bytes it
 * consumed, which is enough to see a head that is longer than it had to be. So the decoder is used
 * for what it is good at, the wire format of a single head, and the shape of the message is the
 * caller's fixed code: depth is bounded by construction.
 *
 * Rejected: an own decoder of the same size (one more parser to trust), and re-encoding a
 * cbor_load() tree and comparing (needs the tree).
 */
#include "cose/read/item.h"

#include <cbor.h>

static void on_number(void *arg, enum kbs_cbor_type type, uint64_t value)
{
    struct kbs_cbor_item *item = arg;

    item->type = type;
    item->value = value;
}

static void on_uint8(void *arg, uint8_t v)
{
    on_number(arg, KBS_CBOR_UINT, v);
}

static void on_uint16(void *arg, uint16_t v)
{
    on_number(arg, KBS_CBOR_UINT, v);
}

static void on_uint32(void *arg, uint32_t v)
{
    on_number(arg, KBS_CBOR_UINT, v);
}

static void on_uint64(void *arg, uint64_t v)
{
    on_number(arg, KBS_CBOR_UINT, v);
}

static void on_negint8(void *arg, uint8_t v)
{
    on_number(arg, KBS_CBOR_NEGATIVE, v);
}

static void on_negint16(void *arg, uint16_t v)
{
    on_number(arg, KBS_CBOR_NEGATIVE, v);
}

static void on_negint32(void *arg, uint32_t v)
{
    on_number(arg, KBS_CBOR_NEGATIVE, v);
}

static void on_negint64(void *arg, uint64_t v)
{
    on_number(arg, KBS_CBOR_NEGATIVE, v);
}

/* The lengths are size_t in libcbor 0.8 and uint64_t in 0.10: the same type where we build. */
static void on_bytes(void *arg, cbor_data p, size_t len)
{
    struct kbs_cbor_item *item = arg;

    item->bytes = kbs_span(p, len);
    on_number(arg, KBS_CBOR_BYTES, len);
}

static void on_array(void *arg, size_t n)
{
    on_number(arg, KBS_CBOR_ARRAY, n);
}

static void on_map(void *arg, size_t n)
{
    on_number(arg, KBS_CBOR_MAP, n);
}

static void on_tag(void *arg, uint64_t v)
{
    on_number(arg, KBS_CBOR_TAG, v);
}

static void on_nil(void *arg)
{
    on_number(arg, KBS_CBOR_NIL, 0);
}

static size_t shortest_head(uint64_t value)
{
    if (value < 24) {
        return 1;
    }
    return value <= UINT8_MAX ? 2 : value <= UINT16_MAX ? 3 : value <= UINT32_MAX ? 5 : 9;
}

/* A tag in its initial byte, 0 to 23: libcbor before 0.9 takes only those that RFC 7049 named. */
static bool short_tag(struct kbs_span *rest, struct kbs_cbor_item *ret)
{
    if (rest->p[0] < 0xc0 || rest->p[0] > 0xd7) {
        return false;
    }
    on_tag(ret, rest->p[0] - 0xc0u);
    *rest = kbs_span_skip(*rest, 1);
    return true;
}

bool kbs_cbor_next(struct kbs_span *rest, struct kbs_cbor_item *ret)
{
    struct cbor_callbacks callbacks = cbor_empty_callbacks; /* ignore what we do not name */
    struct cbor_decoder_result result;

    callbacks.uint8 = on_uint8;
    callbacks.uint16 = on_uint16;
    callbacks.uint32 = on_uint32;
    callbacks.uint64 = on_uint64;
    callbacks.negint8 = on_negint8;
    callbacks.negint16 = on_negint16;
    callbacks.negint32 = on_negint32;
    callbacks.negint64 = on_negint64;
    callbacks.byte_string = on_bytes;
    callbacks.array_start = on_array;
    callbacks.map_start = on_map;
    callbacks.tag = on_tag;
    callbacks.null = on_nil;

    *ret = (struct kbs_cbor_item){.type = KBS_CBOR_OTHER};
    if (rest->len == 0) {
        return false;
    }
    if (short_tag(rest, ret)) {
        return true;
    }
    result = cbor_stream_decode(rest->p, rest->len, &callbacks, ret);
    if (result.status != CBOR_DECODER_FINISHED || result.read == 0 || result.read > rest->len ||
        ret->bytes.len >= result.read) {
        return false;
    }
    if (ret->type != KBS_CBOR_OTHER && result.read - ret->bytes.len != shortest_head(ret->value)) {
        return false;
    }
    *rest = kbs_span_skip(*rest, result.read);
    return true;
}
