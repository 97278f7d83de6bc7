/* The catalog's row: what is known of a key version. Metadata only, never key material. */
#ifndef KBS_CATALOG_KEY_H
#define KBS_CATALOG_KEY_H

#include "base/digest.h"
#include "base/ec.h"
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
    int64_t created_s;                  /* Unix time */
    uint64_t epoch;                     /* of the mutation that made the row */
    uint8_t request[KBS_SHA256_BYTES];  /* digest of the administrator's JWS that made it */
    uint8_t signature[KBS_ES256_BYTES]; /* over the row (catalog/row.h); zeros if there is none */
};

/* Writes the wire kid repo/type/tag/vN; returns its length. */
size_t kbs_key_kid(const struct kbs_key *key, char out[KBS_LIMIT_KID_BYTES + 1]);

#endif
