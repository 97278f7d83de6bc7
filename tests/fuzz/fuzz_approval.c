/*
 * The text of a request that waits, as it is read from its row. The properties: what is read can be written, and
 * reads the same again; and no text makes anybody agree who is not enrolled.
 */
#include <stdint.h>
#include <stdlib.h>

#include "api/approval.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct kbs_api nobody;
    const struct kbs_document row = {.kind = KBS_DOCUMENT_APPROVAL, .name = "00", .version = 1};
    struct kbs_approval a = KBS_APPROVAL_NULL;
    struct kbs_approval again = KBS_APPROVAL_NULL;
    struct kbs_buf text = KBS_BUF(1u << 20);
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_approval_read(&row, kbs_span(data, size), 0, &a, &err) == 0 &&
        kbs_approval_text(&a, KBS_APPROVAL_PENDING, &text, &err) == 0) {
        if (a.state != KBS_APPROVAL_EXECUTED && a.state != KBS_APPROVAL_WITHDRAWN &&
            (kbs_approval_read(&row, kbs_buf_span(&text), 0, &again, &err) != 0 ||
             !kbs_span_equal(a.body, again.body) || !kbs_span_equal(a.target, again.target))) {
            abort();
        }
        if (kbs_approval_count(&nobody, &a, &err) == 0 && a.agree != 0) {
            abort();
        }
    }
    kbs_approval_deinit(&a);
    kbs_approval_deinit(&again);
    kbs_buf_deinit(&text);
    return 0;
}
