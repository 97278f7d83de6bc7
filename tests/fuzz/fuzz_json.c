/*
 * Strict JSON under arbitrary bytes. The property: what parses has a canonical text or is refused
 * as INPUT, and the canonical text is a fixed point: it parses, to the same text.
 */
#include <stdint.h>
#include <stdlib.h>

#include "jose/read/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT_MAX_BYTES (16u << 20)

/* 0, or -1 when there is no canonical text. */
static int canonical(struct kbs_span text, struct kbs_buf *out)
{
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON v = NULL;

    if (kbs_json_parse_object(text, "input", &v, &err) != 0) {
        return -1;
    }
    if (kbs_json_canonical(v, out, &err) != 0) {
        if (err.category != KBS_INPUT) {
            abort();
        }
        return -1;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_buf once = KBS_BUF(TEXT_MAX_BYTES);
    struct kbs_buf twice = KBS_BUF(TEXT_MAX_BYTES);

    if (canonical(kbs_span(data, size), &once) == 0 &&
        (canonical(kbs_buf_span(&once), &twice) != 0 ||
         !kbs_span_equal(kbs_buf_span(&once), kbs_buf_span(&twice)))) {
        abort();
    }
    kbs_buf_deinit(&once);
    kbs_buf_deinit(&twice);
    return 0;
}
