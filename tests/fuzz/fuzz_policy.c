/*
 * Release policies under arbitrary bytes. The properties: a text that passes the check decides
 * (allow or DENIED, never INTERNAL); one that does not, decides INTERNAL; and nothing is allowed to
 * a guest without claims.
 */
#include <stdint.h>
#include <stdlib.h>

#include "policy/release.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_span text = kbs_span(data, size);
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON input =
        json_pack("{s:s, s:{s:{s:s}}}", "iss", "i", "submods", "cpu0", "ear.status", "affirming");
    KBS_AUTO_JSON kbs = json_pack("{s:s, s:b, s:i}", "binding", "evidence", "pop", 1, "n", 3);
    bool valid = kbs_policy_check(text, &err) == 0;

    if (!valid && err.category != KBS_INPUT && err.category != KBS_TOO_LARGE) {
        abort();
    }
    if (kbs_policy_decide(text, input, kbs, &err) != 0) {
        if (size != 0 && err.category != (valid ? KBS_DENIED : KBS_INTERNAL)) {
            abort();
        }
    } else if (!valid) {
        abort();
    }
    if (kbs_policy_decide(text, NULL, NULL, &err) == 0) {
        abort();
    }
    return 0;
}
