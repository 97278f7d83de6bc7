/*
 * The judge decided; this checks that what it ordered can be meant: kbs-token trusts no field,
 * because a judge that runs an attacker's code may still order releases, but must not reach the
 * token with anything that is not a well-formed release.
 *
 * A warm release makes no C_FindObjects. A handle that went stale (the key was destroyed and made
 * anew elsewhere) empties the cache and the release is done once more from the look-up; a second
 * failure stands.
 */
#include "hsm/release.h"

#include "hsm/ckr.h"

struct release_order {
    uint8_t cka_id[KBS_CKA_ID_BYTES];
    struct kbs_ec_public tee;
    enum kbs_locality floor;
};

static int release_tee_get(const struct kbs_wire_release *m, struct kbs_ec_public *ret,
                           struct kbs_error *err)
{
    enum kbs_curve curve = m->curve <= KBS_CURVE_P521 ? (enum kbs_curve)m->curve : KBS_CURVE_NONE;
    size_t len = kbs_curve_field_bytes(curve);

    if (len == 0) {
        return kbs_fail(err, KBS_INPUT, "the TEE key is on an unknown curve");
    }
    if (m->x.len != len || m->y.len != len) {
        return kbs_fail(err, KBS_INPUT, "the TEE key's coordinates are not %zu bytes", len);
    }
    ret->curve = curve;
    memcpy(ret->x, m->x.p, len);
    memcpy(ret->y, m->y.p, len);
    return kbs_ec_public_check(ret, err);
}

static int release_order_get(const struct kbs_wire_release *m, struct release_order *ret,
                             struct kbs_error *err)
{
    struct kbs_span path;
    uint32_t version = 0;

    if (m->key_id.len != KBS_KEY_ID_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the key id has %zu bytes", m->key_id.len);
    }
    if (!kbs_kid_split(m->kid, &path, &version) || version != m->key_version) {
        return kbs_fail(err, KBS_INPUT, "the kid is not repo/type/tag/vN with the key's version");
    }
    if (m->party_v.len != 32 || m->empty_context > 1) {
        return kbs_fail(err, KBS_INPUT, "the party info is malformed");
    }
    if (m->salt.len > KBS_LIMIT_COSE_SALT_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the salt is longer than %d bytes",
                        KBS_LIMIT_COSE_SALT_BYTES);
    }
    if (m->floor <= KBS_LOCALITY_NONE || m->floor >= KBS_LOCALITY_COUNT) {
        return kbs_fail(err, KBS_INPUT, "the key's floor is not a locality");
    }
    ret->floor = (enum kbs_locality)m->floor;
    kbs_cka_id(m->key_id.p, m->key_version, ret->cka_id);
    return release_tee_get(m, &ret->tee, err);
}

static int release_once(struct kbs_token *t, struct kbs_handle_cache *cache,
                        const uint8_t cka_id[KBS_CKA_ID_BYTES],
                        const struct kbs_recipient_order *recipient, struct kbs_recipient *ret,
                        struct kbs_error *err)
{
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    size_t key_bytes = 0;

    if (kbs_handle_cache_get(cache, t, cka_id, &key, &key_bytes, err) != 0 ||
        kbs_recipient_make(t, recipient, key, ret, err) != 0) {
        return -1;
    }
    if (key_bytes != 0 && ret->wrapped_len != key_bytes + 8) {
        return kbs_fail(err, KBS_INTERNAL, "the token wrapped a key of %zu bytes to %zu", key_bytes,
                        ret->wrapped_len);
    }
    return 0;
}

int kbs_release(struct kbs_token *t, const struct kbs_ladder *ladder,
                struct kbs_handle_cache *cache, const struct kbs_wire_release *m,
                struct kbs_answer *ret, struct kbs_error *err)
{
    struct release_order order = {.floor = KBS_LOCALITY_NONE};
    struct kbs_ladder_choice choice = {.rung = NULL};
    struct kbs_recipient_order recipient = {.tee = &order.tee, .kid = m->kid, .salt = m->salt};
    struct kbs_recipient made = {.wrapped_len = 0};
    int rc;

    if (release_order_get(m, &order, err) != 0 ||
        kbs_ladder_choose(ladder, m->formats, order.tee.curve, order.floor, &choice, err) != 0) {
        return -1;
    }
    recipient.format = choice.format;
    recipient.derive = choice.rung->derive[choice.format];
    if (m->empty_context == 0) {
        recipient.party_u = m->kid;
        recipient.party_v = m->party_v;
    }
    rc = release_once(t, cache, order.cka_id, &recipient, &made, err);
    if (rc != 0 && kbs_ckr_class(kbs_ckr_of(err)) == KBS_CKR_STALE) {
        kbs_handle_cache_clear(cache);
        *err = KBS_ERROR_NONE;
        rc = release_once(t, cache, order.cka_id, &recipient, &made, err);
    }
    if (rc != 0) {
        return -1;
    }
    kbs_recipient_print(&ret->body, &recipient, &made);
    ret->rung = choice.rung->name;
    ret->locality = choice.rung->locality;
    ret->format = choice.format;
    return kbs_buf_check(&ret->body, "the answer", err);
}
