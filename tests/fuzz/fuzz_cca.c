/*
 * CCA tokens. The property: the challenge lies in the token, and of a token with a byte cut off or
 * added nothing is found.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "cose/read/cca.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span in = kbs_span(data, size);
    struct kbs_span challenge;
    struct kbs_buf longer = KBS_BUF(size + 1);

    if (kbs_cose_cca_challenge(in, &challenge, &err) != 0) {
        if (err.category != KBS_INPUT) {
            abort();
        }
        return 0;
    }
    kbs_buf_put_span(&longer, in);
    kbs_buf_put_u8(&longer, 0);
    if (challenge.len != KBS_CCA_CHALLENGE_BYTES || challenge.p < in.p ||
        challenge.p + challenge.len > in.p + in.len ||
        kbs_cose_cca_challenge(kbs_span(data, size - 1), &challenge, &err) == 0 ||
        kbs_cose_cca_challenge(kbs_buf_span(&longer), &challenge, &err) == 0) {
        abort();
    }
    kbs_buf_deinit(&longer);
    return 0;
}
