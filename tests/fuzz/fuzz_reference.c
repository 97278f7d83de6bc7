/*
 * Files of reference values, in any form, with and without a name for digests. The property: what
 * is taken is an object of at least one value, none of them null, and its JSON reads back as the
 * same values.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "attest/appraise.h"
#include "attest/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const json_t *values)
{
    struct kbs_buf text = KBS_BUF(1u << 24);
    struct kbs_reference_import import = {.form = KBS_REFERENCE_VALUES};
    struct kbs_trust_vector vector = {.claim = {0}};
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON again = NULL;

    if (json_object_size(values) == 0 || kbs_json_dump(values, &text, &err) != 0) {
        abort();
    }
    /* A number may have another spelling, and a raw value more bytes than a reader takes. */
    if (kbs_reference_read(kbs_buf_span(&text), &import, &again, &err) == 0 &&
        json_object_size(again) != json_object_size(values)) {
        abort();
    }
    kbs_appraise_builtin(KBS_TEE_SNP, values, values, &vector, NULL, NULL);
    if (kbs_trust_read(values, &vector, &err) == 0 &&
        strcmp(kbs_trust_status(&vector), "none") == 0) {
        abort();
    }
    kbs_buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {NULL, "snp_launch_measurement"};

    for (int form = KBS_REFERENCE_ANY; size <= (1u << 18) && form <= KBS_REFERENCE_VALUES; form++) {
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            struct kbs_reference_import import = {.form = (enum kbs_reference_form)form,
                                                  .as = names[i]};
            struct kbs_error err = KBS_ERROR_NONE;
            KBS_AUTO_JSON values = NULL;

            if (kbs_reference_read(kbs_span(data, size), &import, &values, &err) == 0) {
                check(values);
            }
        }
    }
    return 0;
}
