/*
 * What `policy test` and `policy explain` read: a file of cases, and a policy's text that is searched for
 * references. The properties: a case that is accepted can be asked as it stands; a reference lies in the text
 * and begins with one of the two documents.
 */
#include <stdint.h>
#include <stdlib.h>

#include "cli/policy_cases.h"
#include "cli/policy_refs.h"
#include "jose/read/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct text {
    struct kbs_span whole;
    unsigned int line;
};

static void reference(void *ctx, struct kbs_span text, unsigned int line, bool there)
{
    struct text *t = ctx;

    (void)there;
    if (text.p < t->whole.p || text.p + text.len > t->whole.p + t->whole.len || line < t->line ||
        text.len < 6 || (memcmp(text.p, "input", 5) != 0 && memcmp(text.p, "data", 4) != 0)) {
        abort();
    }
    t->line = line;
}

static void case_check(const struct kbs_cli_case *one)
{
    struct kbs_buf out = KBS_BUF(4096);
    struct kbs_error err = KBS_ERROR_NONE;

    if (!json_is_object(one->input) || (one->data != NULL) == (one->path.len != 0) ||
        (one->data == NULL && kbs_cli_case_data(one->path, &out, &err) != 0)) {
        abort();
    }
    kbs_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text text = {.whole = kbs_span(data, size), .line = 1};
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON cases = NULL;
    KBS_AUTO_JSON input = json_pack("{s:{s:{}}}", "a", "b");

    if (kbs_cli_cases_parse(text.whole, &cases, &err) == 0) {
        for (size_t i = 0; i < kbs_cli_cases_count(cases); i++) {
            const struct kbs_cli_case one = kbs_cli_cases_at(cases, i);

            case_check(&one);
        }
    }
    kbs_cli_refs(text.whole, input, cases, reference, &text);
    return 0;
}
