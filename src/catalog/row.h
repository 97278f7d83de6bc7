/*
 * The authenticated bytes of the store's rows (docs/protocol/store-rows.md): what the admin lane's
 * token signs and every judge verifies. Fixed layouts without a choice, so that no two rows have
 * the same bytes.
 */
#ifndef KBS_CATALOG_ROW_H
#define KBS_CATALOG_ROW_H

#include "base/buf.h"
#include "catalog/document.h"
#include "catalog/key.h"

#define KBS_ROW_MAX_BYTES (KBS_LIMIT_APPROVAL_BYTES + 1024u)

/*
 * A version of a key or secret (its storage says which) with its policy's text, empty for none.
 * Layout 2; a row without card stays in the layout that it was signed in, 1.
 */
void kbs_row_key_put(struct kbs_buf *out, const struct kbs_key *key, struct kbs_span policy);
/* A version of a document with its text. Layout 1. */
void kbs_row_document_put(struct kbs_buf *out, const struct kbs_document *document,
                          struct kbs_span text);
/* The store's epoch, with the manifest of all rows at that epoch. */
void kbs_row_epoch_put(struct kbs_buf *out, uint64_t epoch,
                       const uint8_t manifest[KBS_SHA256_BYTES]);

/* SHA-256("kbs-row-v1" || content): what is signed. */
void kbs_row_digest(struct kbs_span content, uint8_t ret[KBS_SHA256_BYTES]);

/*
 * The manifest is a chain over the rows' digests: the keys' in the order (epoch, path, version),
 * then the secrets' likewise, then the documents' in the order (epoch, kind, name, version). It
 * begins as zeros.
 */
void kbs_row_manifest_add(uint8_t manifest[KBS_SHA256_BYTES],
                          const uint8_t row_digest[KBS_SHA256_BYTES]);

#endif
