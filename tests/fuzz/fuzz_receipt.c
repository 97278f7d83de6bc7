/*
 * Receipts, before their signature is known to be good and after: the first byte says which reader. The
 * property: a payload that is read is what its writer prints, and no text opens with a key that has
 * signed nothing.
 */
#include <stdint.h>
#include <stdlib.h>

#include "receipt/read/receipt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef int get_fn(struct kbs_span payload, struct kbs_receipt *ret, struct kbs_error *err);
typedef void put_fn(struct kbs_buf *out, const struct kbs_receipt *r);

static void payload(struct kbs_span in, get_fn *get, put_fn *put)
{
    struct kbs_buf again = KBS_BUF(KBS_RECEIPT_PAYLOAD_MAX_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_receipt read;

    if (get(in, &read, &err) == 0) {
        put(&again, &read);
        if (!kbs_span_equal(kbs_buf_span(&again), in)) {
            abort();
        }
    } else if (err.category != KBS_INPUT) {
        abort();
    }
    kbs_buf_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* the base point of P-256: its private key is 1, which no input has signed with */
    static const struct kbs_ec_public key = {
        .curve = KBS_CURVE_P256,
        .x = {0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6,
              0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb,
              0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96},
        .y = {0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb,
              0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31,
              0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5}};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_receipt_in in;

    if (size == 0) {
        return 0;
    }
    if (data[0] == 'j') {
        payload(kbs_span(data + 1, size - 1), kbs_receipt_json_get, kbs_receipt_json_put);
    } else if (data[0] == 'c') {
        payload(kbs_span(data + 1, size - 1), kbs_receipt_cbor_get, kbs_receipt_cbor_put);
    } else if (kbs_receipt_open(kbs_span(data + 1, size - 1), &key, 1, &in, &err) == 0) {
        abort();
    }
    return 0;
}
