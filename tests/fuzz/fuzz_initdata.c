/*
 * Init-data documents. The property: what is accepted says which hash, and what comes after its
 * first table cannot change that.
 */
#include <stdint.h>
#include <stdlib.h>

#include "attest/initdata.h"
#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
    kbs_buf_put(&longer, data, size);
    kbs_buf_put_str(&longer, more);
    if (digest.len != kbs_hash_bytes(hash) ||
        kbs_init_data_digest(kbs_buf_span(&longer), &again, &digest, &err) != 0 || again != hash) {
        abort();
    }
    kbs_buf_deinit(&longer);
    return 0;
}
