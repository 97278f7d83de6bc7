/*
 * Release policies under arbitrary bytes. The properties: a text that passes the check decides
 * (allow or DENIED, never INTERNAL); one that does not, decides INTERNAL; an explanation tells the
 * same decision; and nothing is allowed to a guest without claims, unless its author asked for
 * absence.
 */
#include <stdint.h>
#include <stdlib.h>

#include "policy/release.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void explain(struct kbs_span text, const struct kbs_policy_subject *subject, bool allowed)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf out = KBS_BUF(1u << 22);
    KBS_AUTO_JSON policy = NULL;

    must(kbs_policy_load(text, &policy, &err) == 0);
    KBS_AUTO_JSON explained = kbs_policy_explain(policy, subject);
    const char *decision = json_string_value(json_object_get(explained, "decision"));
    must(decision != NULL &&
         kbs_span_equal_str(kbs_span_str(decision), allowed ? "allow" : "deny"));
    kbs_policy_explain_put(&out, explained);
    must(out.len != 0);
    kbs_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_span text = kbs_span(data, size);
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON input = json_pack("{s:s, s:s, s:{s:{s:s}}}", "iss", "i", "v", "1.2.3", "submods",
                                    "cpu0", "ear.status", "affirming");
    KBS_AUTO_JSON kbs = json_pack("{s:s, s:b, s:i}", "binding", "evidence", "pop", 1, "n", 3);
    KBS_AUTO_JSON vouched = json_pack("{s:{s:s}, s:n}", "x-ms-isolation-tee",
                                      "x-ms-attestation-type", "sevsnpvm", "null");
    const struct kbs_policy_subject subject = {
        .input = input, .kbs = kbs, .authority = KBS_SPAN_LIT("https://a"), .vouched = vouched};
    const struct kbs_policy_subject nobody = {.input = NULL};
    bool valid = kbs_policy_check(text, &err) == 0;

    must(valid || err.category == KBS_INPUT || err.category == KBS_TOO_LARGE);
    bool allowed = kbs_policy_decide(text, &subject, &err) == 0;
    must(valid || !allowed);
    must(allowed || size == 0 || err.category == (valid ? KBS_DENIED : KBS_INTERNAL));
    if (valid) {
        explain(text, &subject, allowed);
    }
    must(kbs_policy_decide(text, &nobody, &err) != 0 ||
         memmem(data, size, "exists", strlen("exists")) != NULL);
    return 0;
}
