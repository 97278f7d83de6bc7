/*
 * Names of key versions.
 *
 * The problem: a key version is named in four places that must agree to the byte: the wire kid,
 * party U of a release, CKA_LABEL and the audit. The approach: one writer. The row's path is
 * checked when it is made (kbs_key_path_valid()), so the kid needs no escaping anywhere;
 * kbs_kid_split() in src/base is the reverse.
 *
 * A row and its card stand side by side in the store, so they are held against each other whenever
 * they come together: the card of another key is not taken, however genuine.
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

int kbs_key_take_card(struct kbs_key *key, struct kbs_span card, struct kbs_error *err)
{
    char kid[KBS_LIMIT_KID_BYTES + 1];
    uint8_t digest[KBS_SHA256_BYTES];
    struct kbs_span mac;

    if (kbs_card_get(card, &key->card, &mac, err) != 0) {
        return -1;
    }
    kbs_sha256(kbs_span(kid, kbs_key_kid(key, kid)), digest);
    if (memcmp(key->card.key_id, key->id, sizeof(key->id)) != 0 ||
        key->card.key_version != key->version ||
        memcmp(key->card.kid, digest, sizeof(digest)) != 0) {
        return kbs_fail(err, KBS_INPUT, "the key card is that of another key");
    }
    memcpy(key->card_bytes, card.p, sizeof(key->card_bytes));
    key->has_card = true;
    return 0;
}
