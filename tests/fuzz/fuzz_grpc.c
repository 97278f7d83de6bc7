/* An attestation service's answer by gRPC, and by its other APIs: any bytes. */
#include "attest/delegate/delegate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct kbs_span body = kbs_span(data, size);
    const struct kbs_delegate_answer grpc = {.status = 200,
                                             .has_grpc_status = true,
                                             .content_type = KBS_SPAN_LIT("application/grpc"),
                                             .body = body};
    const struct kbs_delegate_answer json = {
        .status = 200, .content_type = KBS_SPAN_LIT("application/json"), .body = body};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf text = KBS_BUF(2 * KBS_LIMIT_JWT_BYTES);

    (void)!kbs_delegate_token(KBS_DELEGATE_COCO_GRPC, &grpc, &text, &err);
    kbs_buf_clear(&text);
    (void)!kbs_delegate_challenge(KBS_DELEGATE_COCO_GRPC, &grpc, &text, &err);
    kbs_buf_clear(&text);
    (void)!kbs_delegate_token(KBS_DELEGATE_INTEL_TA, &json, &text, &err);
    kbs_buf_deinit(&text);
    return 0;
}
