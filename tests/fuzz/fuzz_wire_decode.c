/*
 * Receiving direction: bytes -> header and body decoders. What is accepted must encode to the same
 * bytes again (the format has one spelling), and list iterators must stay inside the body.
 */
#include <stdlib.h>

#include "tests/fuzz/wire_any.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_frame frame;
    union wire_any msg;
    struct kbs_buf again = KBS_BUF(KBS_WIRE_HEADER_BYTES + KBS_LIMIT_WIRE_BODY_BYTES);
    struct kbs_span body;

    if (size < KBS_WIRE_HEADER_BYTES || kbs_wire_header_decode(data, &frame, &err) != 0) {
        return 0;
    }
    body = kbs_span(data + KBS_WIRE_HEADER_BYTES, size - KBS_WIRE_HEADER_BYTES);
    if (frame.body_len != body.len || kbs_wire_decode(frame.type, body, &msg, &err) != 0) {
        return 0;
    }
    wire_any_walk_lists(frame.type, &msg);
    if (kbs_wire_encode(&again, frame.type, frame.id, frame.deadline_ns, &msg, &err) != 0 ||
        !kbs_span_equal(kbs_buf_span(&again), kbs_span(data, size))) {
        abort();
    }
    kbs_buf_deinit(&again);
    return 0;
}
