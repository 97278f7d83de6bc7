/*
 * Is what is shown of a key what was signed?
 *
 * The problem: a KEY comes from the service's store, by way of a judge and a front; whoever rules
 * one of them can show an administrator a strict policy and release by another. The approach: the
 * answer carries what the row's signature needs and does not show (its id, epoch, and the digest of
 * the request that made it); the row is put together again from what will be shown, and verified
 * with the row key that the profile pins. So nothing of it can be other than the admin lane's token
 * signed it, and no judge's word is needed. A genuine row of another key is no answer either: it has
 * to be that of the path, and of the version, that was asked for. That the row is also the newest one
 * is what the epoch is for: it stands in the ledger (`kbs-admin audit verify`).
 */
#include "base/encoding.h"
#include "catalog/row.h"
#include "cli/admin.h"

#define NOT_SIGNED "the key's row is not signed as it is shown: do not trust it"

static int get_hex(const json_t *o, const char *name, uint8_t *out, size_t n, struct kbs_error *err)
{
    struct kbs_span text;

    if (kbs_json_get_string(o, name, &text, err) != 0) {
        return -1;
    }
    return kbs_hex_get_exact(out, n, text) == 0
               ? 0
               : kbs_fail(err, KBS_UNPROCESSABLE, "'%s' is not %zu bytes in hex", name, n);
}

static int not_signed(struct kbs_error *err)
{
    return kbs_fail(err, KBS_UNPROCESSABLE, NOT_SIGNED);
}

/* What only the signature needs. */
static int hidden_members(const json_t *key, struct kbs_key *k, struct kbs_error *err)
{
    struct kbs_buf card = KBS_BUF(KBS_CARD_BYTES);
    json_t *row = NULL;
    struct kbs_span signature;
    struct kbs_span card_text;
    int64_t epoch;
    int r = -1;

    if (kbs_json_get_object(key, "row", &row, err) != 0 ||
        get_hex(row, "id", k->id, sizeof(k->id), err) != 0 ||
        get_hex(row, "request", k->request, sizeof(k->request), err) != 0 ||
        kbs_json_get_integer(row, "epoch", &epoch, err) != 0 ||
        kbs_json_get_string(row, "card", &card_text, err) != 0 ||
        kbs_json_get_string(row, "signature", &signature, err) != 0) {
        return -1;
    }
    if (epoch < 0 || kbs_base64url_get(&card, card_text) != 0 ||
        kbs_base64url_get_exact(k->signature, sizeof(k->signature), signature) != 0) {
        (void)not_signed(err);
    } else {
        k->epoch = (uint64_t)epoch;
        r = kbs_key_take_card(k, kbs_buf_span(&card), err);
    }
    kbs_buf_deinit(&card);
    return r;
}

/* Members whose values are the row's own. */
static int row_members(const json_t *key, struct kbs_key *k, struct kbs_error *err)
{
    struct kbs_span path;
    struct kbs_span state;
    struct kbs_span mac;
    const json_t *destroy_at = json_object_get(key, "destroy_at");
    int64_t version;

    if (kbs_json_get_string(key, "path", &path, err) != 0 ||
        kbs_json_get_integer(key, "version", &version, err) != 0 ||
        kbs_json_get_string(key, "state", &state, err) != 0 ||
        kbs_json_get_string(key, "kcv_mac", &mac, err) != 0 ||
        get_hex(key, "kcv", k->kcv, sizeof(k->kcv), err) != 0) {
        return -1;
    }
    if (!kbs_span_to_cstr(path, k->path, sizeof(k->path)) || version < 1 || version > UINT32_MAX) {
        return not_signed(err);
    }
    k->version = (uint32_t)version;
    k->state = kbs_key_state_from_name(state);
    k->kcv_mac = kbs_kcv_mac_from_name(mac);
    k->destroy_at_s = json_is_integer(destroy_at) ? json_integer_value(destroy_at) : 0;
    return k->kcv_mac != KBS_KCV_NONE ? 0 : not_signed(err);
}

/* The key is the one that was asked for, and the kid that is shown is its own. */
static int check_name(const json_t *key, const struct kbs_key *k, const char *path,
                      uint32_t version, struct kbs_error *err)
{
    char kid[KBS_LIMIT_KID_BYTES + 1];
    struct kbs_span shown;

    if (kbs_json_get_string(key, "kid", &shown, err) != 0) {
        return -1;
    }
    if (strcmp(k->path, path) != 0 || (version != 0 && k->version != version)) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the answer is about another key: do not trust it");
    }
    return kbs_span_equal(shown, kbs_span(kid, kbs_key_kid(k, kid))) ? 0 : not_signed(err);
}

/* Members that the card says: they must be what is shown. */
static int card_members(const json_t *key, const struct kbs_card *card, struct kbs_error *err)
{
    const struct {
        const char *member;
        const char *value;
    } texts[] = {{"purpose", kbs_purpose_name(card->purpose)},
                 {"provenance", kbs_provenance_name(card->provenance)},
                 {"alg", kbs_key_alg_name(card->alg)},
                 {"class", kbs_storage_name(card->storage)},
                 {"floor", kbs_locality_name(card->floor)}};
    const json_t *wrapping_key = json_object_get(key, "wrapping_key");
    struct kbs_span text;
    int64_t bytes;
    int64_t created;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (kbs_json_get_string(key, texts[i].member, &text, err) != 0) {
            return -1;
        }
        if (!kbs_span_equal_str(text, texts[i].value)) {
            return not_signed(err);
        }
    }
    if (kbs_json_get_integer(key, "bytes", &bytes, err) != 0 ||
        kbs_json_get_integer(key, "created", &created, err) != 0) {
        return -1;
    }
    if (json_is_true(json_object_get(key, "pop_required")) !=
        ((card->flags & KBS_CARD_POP_REQUIRED) != 0)) {
        return not_signed(err);
    }
    if (bytes != (int64_t)card->bytes || created != (int64_t)card->created_s ||
        (json_is_integer(wrapping_key) ? json_integer_value(wrapping_key) : 0) !=
            (json_int_t)card->wrap_version) {
        return not_signed(err);
    }
    return 0;
}

static int policy_text(const json_t *key, struct kbs_buf *out, struct kbs_error *err)
{
    const json_t *policy = json_object_get(key, "policy");

    return json_is_object(policy) ? kbs_json_dump(policy, out, err) : 0;
}

int kbs_admin_row_check(const struct kbs_admin_profile *profile, const char *path, uint32_t version,
                        const json_t *key, struct kbs_error *err)
{
    struct kbs_buf policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    struct kbs_buf content = KBS_BUF(KBS_ROW_MAX_BYTES);
    struct kbs_ec_public pinned;
    struct kbs_key k = {.version = 0};
    uint8_t digest[KBS_SHA256_BYTES];
    int r = -1;

    if (profile->row_key[0] == '\0') {
        return KBS_ADMIN_ROW_UNPINNED;
    }
    if (kbs_admin_pinned_key(profile->row_key, &pinned, err) == 0 &&
        row_members(key, &k, err) == 0 && check_name(key, &k, path, version, err) == 0 &&
        hidden_members(key, &k, err) == 0 && card_members(key, &k.card, err) == 0 &&
        policy_text(key, &policy, err) == 0) {
        kbs_row_key_put(&content, &k, kbs_buf_span(&policy));
        kbs_row_digest(kbs_buf_span(&content), digest);
        r = kbs_buf_check(&content, "the row", err);
    }
    if (r == 0 && !kbs_ec_verify(&pinned, digest, k.signature)) {
        r = not_signed(err);
    }
    kbs_buf_deinit(&policy);
    kbs_buf_deinit(&content);
    return r;
}
