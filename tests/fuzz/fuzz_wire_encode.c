/*
 * Sending direction: the input chooses a message and its field values; what encodes must decode to
 * the same values and encode to the same bytes. What does not encode must be over a cap and leave
 * the buffer as it was.
 */
#include "tests/fuzz/wire_any.h"

#include <stdlib.h>

#define LISTS 32u /* above what any message has */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct kbs_span take(struct kbs_reader *r)
{
    size_t n = kbs_read_le16(r);

    n = n % 64 == 63 ? n : n % 64; /* mostly short, sometimes long */
    return kbs_read_bytes(r, n < r->rest.len ? n : r->rest.len);
}

static struct kbs_wire_list take_list(struct kbs_reader *r, struct kbs_buf *buf)
{
    struct kbs_wire_list_builder b = {.buf = buf};
    uint16_t n = (uint16_t)(kbs_read_le16(r) % (KBS_LIMIT_WIRE_LIST_ITEMS + 2));

    for (uint16_t i = 0; i < n && r->rest.len > 0; i++) {
        kbs_wire_list_add(&b, take(r));
    }
    return kbs_wire_list_done(&b);
}

#define TAKE_U8(m) m = kbs_read_u8(&r)
#define TAKE_U32(m) m = kbs_read_le32(&r)
#define TAKE_U64(m) m = kbs_read_le64(&r)
#define TAKE_BYTES(m) m = take(&r)
#define TAKE_LIST(m) m = take_list(&r, &lists[used++])
#define TAKE(m, kind, field) TAKE_##kind(msg.m.field);
#define FILL(number, upper, lower, cap) \
    case KBS_WIRE_##upper:              \
        KBS_WIRE_##upper##_FIELDS(TAKE, lower) break;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_reader r = kbs_reader(kbs_span(data, size));
    enum kbs_wire_type type = (enum kbs_wire_type)(kbs_read_u8(&r) % 128);
    struct kbs_buf lists[LISTS];
    struct kbs_buf first = KBS_BUF(8u << 20);
    struct kbs_buf second = KBS_BUF(8u << 20);
    size_t used = 0;
    union wire_any msg = {0};
    union wire_any back = {0};
    struct kbs_frame frame;

    for (size_t i = 0; i < LISTS; i++) {
        kbs_buf_init(&lists[i], 1 << 20);
    }
    switch (type) {
        KBS_WIRE_MESSAGES(FILL)
    default:
        break;
    }
    if (used > LISTS) {
        abort();
    }
    if (kbs_wire_encode(&first, type, 7, 9, &msg, &err) != 0) {
        if (first.len != 0) {
            abort();
        }
    } else if (kbs_wire_header_decode(first.p, &frame, &err) != 0 || frame.type != type ||
               frame.id != 7 || frame.deadline_ns != 9 ||
               frame.body_len != first.len - KBS_WIRE_HEADER_BYTES ||
               kbs_wire_decode(type, kbs_span_skip(kbs_buf_span(&first), KBS_WIRE_HEADER_BYTES),
                               &back, &err) != 0 ||
               kbs_wire_encode(&second, type, 7, 9, &back, &err) != 0 ||
               !kbs_span_equal(kbs_buf_span(&first), kbs_buf_span(&second))) {
        abort();
    }
    for (size_t i = 0; i < LISTS; i++) {
        kbs_buf_deinit(&lists[i]);
    }
    kbs_buf_deinit(&first);
    kbs_buf_deinit(&second);
    return 0;
}
