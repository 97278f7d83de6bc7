/* The catalog's row: what is known of a key version. Metadata only, never key material. */
#ifndef KBS_CATALOG_KEY_H
#define KBS_CATALOG_KEY_H

#include "base/limits.h"
#include "base/terms.h"

struct kbs_key {
    uint8_t id[KBS_KEY_ID_BYTES];
    uint32_t version;
    char path[KBS_LIMIT_KEY_PATH_BYTES + 1]; /* repo/type/tag */
    enum kbs_purpose purpose;
    enum kbs_provenance provenance;
    enum kbs_locality floor; /* weakest wrap_locality this key may be released at */
    uint32_t bytes;          /* key length */
    uint8_t kcv[KBS_KCV_BYTES];
    int64_t created_s; /* Unix time */
};

/* Writes the wire kid repo/type/tag/vN; returns its length. */
size_t kbs_key_kid(const struct kbs_key *key, char out[KBS_LIMIT_KID_BYTES + 1]);

#endif
