/*
 * Init-data documents. The properties: what is accepted says which hash, and what comes after its
 * first table cannot change that; a member of [data] that is found lies in the document, and is found no
 * more when there is a second one.
 */
#include <stdint.h>
#include <stdlib.h>

#include "attest/initdata.h"
#include "attest/initdata_entry.h"
#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void entry(struct kbs_span document)
{
    struct kbs_buf twice = KBS_BUF(1u << 20);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span found = KBS_SPAN_EMPTY;

    if (kbs_init_data_entry(document, "kbs-guest.json", &found, &err) != 0 || found.p == NULL) {
        return;
    }
    if (found.p < document.p || found.p + found.len > document.p + document.len) {
        abort();
    }
    kbs_buf_put_span(&twice, document);
    kbs_buf_put_str(&twice, "\nkbs-guest.json = ''\n\"kbs-guest.json\" = ''\n");
    if (kbs_init_data_entry(kbs_buf_span(&twice), "kbs-guest.json", &found, &err) == 0) {
        abort();
    }
    kbs_buf_deinit(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char more[] = "\n[data]\nalgorithm = \"sha512\"\nversion = \"9\"\n";
    struct kbs_buf longer = KBS_BUF(1u << 20);
    enum kbs_hash hash = KBS_HASH_NONE;
    enum kbs_hash again = KBS_HASH_NONE;
    struct kbs_digest digest;
    struct kbs_error err = KBS_ERROR_NONE;

    if (size > (1u << 19) ||
        kbs_init_data_digest(kbs_span(data, size), &hash, &digest, &err) != 0) {
        return 0;
    }
    entry(kbs_span(data, size));
    kbs_buf_put(&longer, data, size);
    kbs_buf_put_str(&longer, more);
    if (digest.len != kbs_hash_bytes(hash) ||
        kbs_init_data_digest(kbs_buf_span(&longer), &again, &digest, &err) != 0 || again != hash) {
        abort();
    }
    kbs_buf_deinit(&longer);
    return 0;
}
