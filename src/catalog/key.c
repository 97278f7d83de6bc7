/*
 * Names of key versions.
 *
 * The problem: a key version is named in four places that must agree to the byte: the wire kid,
 * party U of a release, CKA_LABEL and the audit. The approach: one writer. The row's path is
 * checked when it is made (kbs_key_path_valid()), so the kid needs no escaping anywhere;
 * kbs_kid_split() in src/base is the reverse.
 */
#include "catalog/key.h"

#include <stdio.h>

size_t kbs_key_kid(const struct kbs_key *key, char out[KBS_LIMIT_KID_BYTES + 1])
{
    int n = snprintf(out, KBS_LIMIT_KID_BYTES + 1, "%s/v%u", key->path, (unsigned int)key->version);

    /* Cannot happen: 255 bytes of path, "/v" and ten digits are 267. */
    if (n < 0 || (size_t)n > KBS_LIMIT_KID_BYTES) {
        out[0] = '\0';
        return 0;
    }
    return (size_t)n;
}
