/*
 * Evidence of any kind as JSON text, after a byte that names the kind. The property: a field that is
 * found is the one that is compared, and no other.
 */
#include <stdint.h>
#include <stdlib.h>

#include "attest/report_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void compare(enum kbs_tee tee, const json_t *evidence, struct kbs_span field)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_digest digest = {.len = field.len};

    if (field.len < 32 || field.len > sizeof(digest.p)) {
        return;
    }
    memcpy(digest.p, field.p, field.len);
    if (kbs_report_data_check(tee, evidence, &digest, &err) != 0) {
        abort();
    }
    digest.p[field.len / 2] ^= 1;
    if (kbs_report_data_check(tee, evidence, &digest, &err) == 0 ||
        err.category != KBS_UNAUTHENTICATED) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_buf field = KBS_BUF(KBS_LIMIT_HTTP_BODY_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    enum kbs_hash hash;
    enum kbs_tee tee;
    KBS_AUTO_JSON evidence = NULL;

    if (size == 0) {
        return 0;
    }
    tee = (enum kbs_tee)(data[0] % (KBS_TEE_COUNT + 1));
    if (kbs_json_parse_object(kbs_span(data + 1, size - 1), "evidence", &evidence, &err) != 0) {
        return 0;
    }
    if (kbs_report_data_find(tee, evidence, &field, &hash, &err) == 0) {
        compare(tee, evidence, kbs_buf_span(&field));
    } else if (err.category != KBS_INPUT && err.category != KBS_TOO_LARGE &&
               err.category != KBS_UNSUPPORTED) {
        abort();
    }
    kbs_buf_deinit(&field);
    return 0;
}
