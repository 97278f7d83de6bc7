/*
 * The problem: whoever can write the store's file could give a key another policy, or a path
 * another key. The approach: table, key, version, epoch and content of a row are signed
 * together, so a row says the same at every place it could be copied to. Every variable part has
 * its length before it, every number is big endian and of fixed size: two rows that differ
 * anywhere differ here.
 *
 * A signature per row does not say that no row is missing, nor that the file is the newest. The
 * row of the epoch does: it signs a chain over all rows.
 */
#include "catalog/row.h"

#include <stdio.h>

#define LAYOUT_CARDLESS 1
#define LAYOUT_KEY 2
#define LAYOUT_EPOCH 1
#define LAYOUT_DOCUMENT 1

static void put_be64(struct kbs_buf *out, uint64_t v)
{
    kbs_buf_put_be32(out, (uint32_t)(v >> 32));
    kbs_buf_put_be32(out, (uint32_t)v);
}

static void put_text(struct kbs_buf *out, struct kbs_span text)
{
    kbs_buf_put_be32(out, (uint32_t)text.len);
    kbs_buf_put_span(out, text);
}

static void put_head(struct kbs_buf *out, uint8_t layout, const char *table, const char *key,
                     uint32_t version, uint64_t epoch)
{
    kbs_buf_put_u8(out, layout);
    put_text(out, kbs_span_str(table));
    put_text(out, kbs_span_str(key));
    kbs_buf_put_be32(out, version);
    put_be64(out, epoch);
}

/* As rows were before there were cards. */
static void put_cardless(struct kbs_buf *out, const struct kbs_key *key, struct kbs_span policy)
{
    put_head(out, LAYOUT_CARDLESS, "key", key->path, key->version, key->epoch);
    kbs_buf_put(out, key->id, sizeof(key->id));
    kbs_buf_put_u8(out, (uint8_t)key->card.purpose);
    kbs_buf_put_u8(out, (uint8_t)key->card.provenance);
    kbs_buf_put_u8(out, (uint8_t)key->card.floor);
    kbs_buf_put_be32(out, key->card.bytes);
    kbs_buf_put(out, key->kcv, sizeof(key->kcv));
    put_be64(out, key->card.created_s);
    kbs_buf_put(out, key->request, sizeof(key->request));
    put_text(out, policy);
}

void kbs_row_key_put(struct kbs_buf *out, const struct kbs_key *key, struct kbs_span policy)
{
    if (!key->has_card) {
        put_cardless(out, key, policy);
        return;
    }
    put_head(out, LAYOUT_KEY, kbs_key_is_secret(key) ? "secret" : "key", key->path, key->version,
             key->epoch);
    kbs_buf_put(out, key->id, sizeof(key->id));
    kbs_buf_put_u8(out, (uint8_t)key->card.purpose);
    kbs_buf_put_u8(out, (uint8_t)key->state);
    kbs_buf_put_u8(out, (uint8_t)key->kcv_mac);
    kbs_buf_put_be32(out, key->card.bytes);
    kbs_buf_put(out, key->kcv, sizeof(key->kcv));
    put_be64(out, (uint64_t)key->destroy_at_s);
    kbs_buf_put(out, key->request, sizeof(key->request));
    put_text(out, kbs_key_card(key));
    put_text(out, policy);
}

/* Its key is kind/name: a kind has no slash. */
void kbs_row_document_put(struct kbs_buf *out, const struct kbs_document *document,
                          struct kbs_span text)
{
    char key[KBS_LIMIT_DOCUMENT_NAME_BYTES + 32];

    (void)snprintf(key, sizeof(key), "%s/%s", kbs_document_kind_name(document->kind),
                   document->name);
    put_head(out, LAYOUT_DOCUMENT, "document", key, document->version, document->epoch);
    put_be64(out, (uint64_t)document->created_s);
    kbs_buf_put(out, document->request, sizeof(document->request));
    put_text(out, text);
}

void kbs_row_epoch_put(struct kbs_buf *out, uint64_t epoch,
                       const uint8_t manifest[KBS_SHA256_BYTES])
{
    put_head(out, LAYOUT_EPOCH, "epoch", "store", 0, epoch);
    kbs_buf_put(out, manifest, KBS_SHA256_BYTES);
}

static void digest_of(struct kbs_span a, struct kbs_span b, uint8_t ret[KBS_SHA256_BYTES])
{
    const struct kbs_span parts[] = {a, b};
    struct kbs_digest digest;

    kbs_digest(KBS_HASH_SHA256, parts, 2, &digest);
    memcpy(ret, digest.p, KBS_SHA256_BYTES);
}

void kbs_row_digest(struct kbs_span content, uint8_t ret[KBS_SHA256_BYTES])
{
    digest_of(KBS_SPAN_LIT("kbs-row-v1"), content, ret);
}

void kbs_row_manifest_add(uint8_t manifest[KBS_SHA256_BYTES],
                          const uint8_t row_digest[KBS_SHA256_BYTES])
{
    digest_of(kbs_span(manifest, KBS_SHA256_BYTES), kbs_span(row_digest, KBS_SHA256_BYTES),
              manifest);
}
