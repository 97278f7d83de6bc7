/*
 * An expression, a line end, a target. The properties: an expression that is refused is the operator's mistake;
 * what an expression allows begins with /kbs; and nothing takes long, which libFuzzer's own clock watches.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "policy/acl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size != 0 ? memchr(data, '\n', size) : NULL;
    struct kbs_span pattern = kbs_span(data, end != NULL ? (size_t)(end - data) : size);
    struct kbs_span target = kbs_span_skip(kbs_span(data, size), pattern.len + 1);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_acl *acl = NULL;

    target.len =
        target.len < KBS_LIMIT_HTTP_TARGET_BYTES ? target.len : KBS_LIMIT_HTTP_TARGET_BYTES;
    if (kbs_acl_new(pattern, &acl, &err) != 0) {
        if (err.category != KBS_INPUT || acl != NULL) {
            abort();
        }
        return 0;
    }
    (void)kbs_acl_allows(acl, target);
    (void)kbs_acl_free(acl);
    return 0;
}
