/*
 * Binary evidence: the first byte says which parser. The property: what is found lies in the input,
 * has the length its kind says, and is where the input has it, so that another field is found when
 * those bytes are others.
 */
#include <stdint.h>
#include <stdlib.h>

#include "attest/quote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct {
        int (*find)(struct kbs_span, struct kbs_span *, struct kbs_error *);
        size_t len; /* 0: any */
    } parsers[] = {
        {kbs_quote_tdx, KBS_QUOTE_REPORT_DATA_BYTES},
        {kbs_quote_sgx, KBS_QUOTE_REPORT_DATA_BYTES},
        {kbs_quote_tpm, 0},
        {kbs_quote_spdm, KBS_QUOTE_NONCE_BYTES},
    };
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span in;
    struct kbs_span field;
    size_t which;

    if (size == 0) {
        return 0;
    }
    which = data[0] % (sizeof(parsers) / sizeof(parsers[0]));
    in = kbs_span(data + 1, size - 1);
    if (parsers[which].find(in, &field, &err) != 0) {
        if (err.category != KBS_INPUT) {
            abort();
        }
        return 0;
    }
    if ((parsers[which].len != 0 && field.len != parsers[which].len) ||
        (field.len > 0 && (field.p < in.p || field.p + field.len > in.p + in.len))) {
        abort();
    }
    return 0;
}
