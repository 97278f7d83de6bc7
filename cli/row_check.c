/*
 * Is what is shown of a key what was signed?
 *
 * The problem: a KEY comes from the service's store, by way of a judge and a front; whoever rules
 * one of them can show an administrator a strict policy and release by another. The approach: the
 * answer carries what the row's signature needs and does not show (its id, epoch, and the digest of
 * the request that made it); the row is put together again from what will be shown, and verified
 * with the row key that the profile pins. So nothing of it can be other than the admin lane's token
 * signed it, and no judge's word is needed. That the row is also the newest one is what the epoch is
 * for: it stands in the ledger (`kbs-admin audit verify`).
 */
#include "base/encoding.h"
#include "catalog/row.h"
#include "cli/admin.h"

#define NOT_SIGNED "the key's row is not signed as it is shown: do not trust it"

static enum kbs_provenance provenance_from_name(struct kbs_span name)
{
    enum kbs_provenance found = KBS_PROVENANCE_NONE;

    for (int i = KBS_PROVENANCE_NONE + 1; i < KBS_PROVENANCE_COUNT; i++) {
        if (kbs_span_equal_str(name, kbs_provenance_name((enum kbs_provenance)i))) {
            found = (enum kbs_provenance)i;
        }
    }
    return found;
}

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

/* What people see of it. */
static int shown_members(const json_t *key, struct kbs_key *k, struct kbs_error *err)
{
    struct kbs_span path;
    struct kbs_span purpose;
    struct kbs_span provenance;
    struct kbs_span floor;
    int64_t version;
    int64_t bytes;

    if (kbs_json_get_string(key, "path", &path, err) != 0 ||
        kbs_json_get_string(key, "purpose", &purpose, err) != 0 ||
        kbs_json_get_string(key, "provenance", &provenance, err) != 0 ||
        kbs_json_get_string(key, "floor", &floor, err) != 0 ||
        kbs_json_get_integer(key, "version", &version, err) != 0 ||
        kbs_json_get_integer(key, "bytes", &bytes, err) != 0 ||
        kbs_json_get_integer(key, "created", &k->created_s, err) != 0 ||
        get_hex(key, "kcv", k->kcv, sizeof(k->kcv), err) != 0) {
        return -1;
    }
    if (!kbs_span_to_cstr(path, k->path, sizeof(k->path)) || version < 1 || version > UINT32_MAX ||
        bytes < 0 || bytes > KBS_LIMIT_KEY_BYTES_MAX) {
        return kbs_fail(err, KBS_UNPROCESSABLE, NOT_SIGNED);
    }
    k->version = (uint32_t)version;
    k->bytes = (uint32_t)bytes;
    k->purpose = kbs_purpose_from_name(purpose);
    k->provenance = provenance_from_name(provenance);
    k->floor = kbs_locality_from_name(floor);
    return 0;
}

/* What only the signature needs. */
static int hidden_members(const json_t *key, struct kbs_key *k, struct kbs_error *err)
{
    json_t *row = NULL;
    struct kbs_span signature;
    int64_t epoch;

    if (kbs_json_get_object(key, "row", &row, err) != 0 ||
        get_hex(row, "id", k->id, sizeof(k->id), err) != 0 ||
        get_hex(row, "request", k->request, sizeof(k->request), err) != 0 ||
        kbs_json_get_integer(row, "epoch", &epoch, err) != 0 ||
        kbs_json_get_string(row, "signature", &signature, err) != 0) {
        return -1;
    }
    if (epoch < 0 || kbs_base64url_get_exact(k->signature, sizeof(k->signature), signature) != 0) {
        return kbs_fail(err, KBS_UNPROCESSABLE, NOT_SIGNED);
    }
    k->epoch = (uint64_t)epoch;
    return 0;
}

static int policy_text(const json_t *key, struct kbs_buf *out, struct kbs_error *err)
{
    const json_t *policy = json_object_get(key, "policy");

    return json_is_object(policy) ? kbs_json_dump(policy, out, err) : 0;
}

int kbs_admin_row_check(const struct kbs_admin_profile *profile, const json_t *key,
                        struct kbs_error *err)
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
        shown_members(key, &k, err) == 0 && hidden_members(key, &k, err) == 0 &&
        policy_text(key, &policy, err) == 0) {
        kbs_row_key_put(&content, &k, kbs_buf_span(&policy));
        kbs_row_digest(kbs_buf_span(&content), digest);
        r = kbs_buf_check(&content, "the row", err);
    }
    if (r == 0 && !kbs_ec_verify(&pinned, digest, k.signature)) {
        r = kbs_fail(err, KBS_UNPROCESSABLE, NOT_SIGNED);
    }
    kbs_buf_deinit(&policy);
    kbs_buf_deinit(&content);
    return r;
}
