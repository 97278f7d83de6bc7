/*
 * The problem: a secret of any length, unlike a key, cannot be rewrapped inside a token: whoever
 * re-encrypts it to a TEE has it in memory. The approach: it is ciphertext everywhere but here, and
 * here for one operation. Only a token key opens it, by the roads that keys take: the
 * key-encrypting key is derived in the token, the content key is unwrapped to a session object that
 * can decrypt and do nothing else, and AES-GCM runs in the token. What comes out lies on the secure
 * heap until the JWE is made, and is cleansed on every path.
 *
 * A token without AES-GCM gives the content key out instead, as the worker rung takes a key out:
 * the secret itself is going to be here a moment later, so nothing is lost by it. Which it is is
 * found out at start, by doing it once with a throw-away pair: mechanism lists lie.
 *
 * What an administrator sent is opened once before it counts, plaintext included: a secret that
 * does not open should fail while its owner is looking. What is moved to another seal key is opened
 * again for the same reason, and compared by its digest: two secrets of full length do not fit on
 * the secure heap.
 *
 * The name of a secret (repo/type/tag/vN) is in the key derivation and in the AAD, its digest and
 * the version of the seal key in its card, so the sealed form of one opens under no other name, and
 * none that SEAL did not see.
 */
#include "hsm/secret.h"

#include "hsm/ckr.h"
#include "hsm/jwe.h"
#include "hsm/keys.h"
#include "hsm/opening.h"
#include "hsm/receive.h"
#include "hsm/service.h"
#include "seal/seal.h"

/* It was destroyed, or only one half of it was: what stands under it opens no more. */
static int secret_seal_key_gone(uint32_t version, struct kbs_error *err)
{
    return kbs_fail(err, KBS_UNSUPPORTED,
                    "seal key %u, which the secret stands under, is not in the token any more",
                    (unsigned int)version);
}

/* With the service's seal key of that version. */
static int secret_open(struct kbs_token *t, const struct kbs_ladder *ladder,
                       const struct kbs_sealed *sealed, const struct kbs_ec_public *seal_key,
                       struct kbs_span kid, struct kbs_secret **ret, struct kbs_error *err)
{
    struct kbs_opening o = {.purpose = KBS_PURPOSE_SEAL,
                            .sealed = sealed,
                            .public_key = seal_key,
                            .apv = kid,
                            .in_token = ladder->gcm.result == KBS_PROBE_PASSED};

    if (kbs_service_find(t, CKO_PRIVATE_KEY, KBS_PURPOSE_SEAL, sealed->seal_version, &o.private_key,
                         err) != 0) {
        return err->category == KBS_MISSING ? secret_seal_key_gone(sealed->seal_version, err) : -1;
    }
    return kbs_opening_run(t, ladder, &o, ret, err);
}

/* The public half of a version of the seal key. */
static int secret_seal_key(struct kbs_token *t, uint32_t version, struct kbs_ec_public *ret,
                           struct kbs_error *err)
{
    struct kbs_buf point = KBS_BUF(KBS_EC_POINT_MAX_BYTES);
    int rc = kbs_service_point(t, KBS_PURPOSE_SEAL, version, &point, err);

    if (rc == 0 && point.len == 0) {
        rc = secret_seal_key_gone(version, err);
    } else if (rc == 0) {
        rc = kbs_ec_point_get(KBS_CURVE_P256, kbs_buf_span(&point), ret, err);
    }
    kbs_buf_deinit(&point);
    return rc;
}

/* The newest seal key. */
static int secret_newest(struct kbs_token *t, uint32_t *ret_version, struct kbs_ec_public *ret,
                         struct kbs_error *err)
{
    if (kbs_service_newest(t, KBS_PURPOSE_SEAL, ret_version, err) != 0) {
        return -1;
    }
    if (*ret_version == 0) {
        return kbs_fail(err, KBS_MISSING, "the token has no seal key, see kbs-admin init");
    }
    return secret_seal_key(t, *ret_version, ret, err);
}

/* ---- probe ---- */

#define PROBE_KID KBS_SPAN_LIT("probe/probe/probe/v1")

/* A throw-away pair, and something sealed to it. */
static int probe_make(struct kbs_scratch *s, struct kbs_span plain, struct kbs_sealed *ret,
                      struct kbs_buf *ciphertext, CK_OBJECT_HANDLE *ret_key,
                      struct kbs_ec_public *ret_point, struct kbs_error *err)
{
    struct kbs_template public_key = {.n = 0};
    struct kbs_template private_key = {.n = 0};
    CK_OBJECT_HANDLE public_object = CK_INVALID_HANDLE;

    kbs_template_ec_pair(&public_key, &private_key, KBS_CURVE_P256, false, KBS_USAGE_DERIVE);
    if (kbs_scratch_generate_ec(s, &public_key, &private_key, &public_object, ret_key, err) != 0 ||
        kbs_object_ec_point(s->token, public_object, KBS_CURVE_P256, ret_point, err) != 0) {
        return -1;
    }
    return kbs_seal(ret_point, PROBE_KID, plain, ret, ciphertext, err);
}

int kbs_secret_probe(struct kbs_token *t, struct kbs_ladder *ladder, bool all,
                     struct kbs_error *err)
{
    static const char text[] = "not a multiple of sixteen bytes";
    const struct kbs_span wanted = kbs_span((const uint8_t *)text, sizeof(text));
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_buf ciphertext = KBS_BUF(sizeof(text));
    struct kbs_sealed sealed = {.seal_version = 1};
    struct kbs_ec_public point;
    struct kbs_opening o = {.purpose = KBS_PURPOSE_SEAL,
                            .sealed = &sealed,
                            .public_key = &point,
                            .apv = PROBE_KID,
                            .in_token = true};
    KBS_AUTO_SECRET plain = NULL;
    bool opened =
        probe_make(&scratch, wanted, &sealed, &ciphertext, &o.private_key, &point, err) == 0 &&
        kbs_opening_run(t, ladder, &o, &plain, err) == 0;
    bool passed = opened && kbs_span_equal(kbs_secret_span(plain), wanted);

    kbs_buf_deinit(&ciphertext);
    ladder->gcm =
        (struct kbs_probe){.result = passed ? KBS_PROBE_PASSED : KBS_PROBE_FAILED,
                           .rv = opened ? CKR_OK : kbs_ckr_of(err),
                           .function = opened ? "the token decrypts to something else" : err->func};
    if (!opened && !all && (kbs_ckr_is_fatal(err, t->quirk) || err->category == KBS_BUSY)) {
        return -1;
    }
    *err = KBS_ERROR_NONE;
    return 0;
}

/* ---- SEAL ---- */

/* What names the secret and its terms. */
static int secret_card_begin(const struct kbs_wire_seal *m, struct kbs_card *ret,
                             struct kbs_error *err)
{
    const struct kbs_keys_order order = {m->key_id, m->key_version, m->kid,    KBS_LOCALITY_WORKER,
                                         0,         m->policy,      m->created};

    if (kbs_keys_card_begin(&order, ret, err) != 0) {
        return -1;
    }
    ret->purpose = KBS_PURPOSE_SEAL;
    ret->storage = KBS_STORAGE_SEALED;
    ret->alg = KBS_KEY_ALG_SECRET;
    ret->provenance = KBS_PROVENANCE_IMPORTED;
    return 0;
}

/* The parts of a JWE that came decoded. */
static int secret_parts_get(const struct kbs_wire_seal *m, struct kbs_sealed *ret,
                            struct kbs_error *err)
{
    if (m->encrypted_key.len != sizeof(ret->encrypted_key) || m->iv.len != sizeof(ret->iv) ||
        m->tag.len != sizeof(ret->tag) || m->ciphertext.len == 0 ||
        m->ciphertext.len > KBS_LIMIT_SECRET_VALUE_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the parts of the sealed secret are not of their lengths");
    }
    memcpy(ret->encrypted_key, m->encrypted_key.p, sizeof(ret->encrypted_key));
    memcpy(ret->iv, m->iv.p, sizeof(ret->iv));
    memcpy(ret->tag, m->tag.p, sizeof(ret->tag));
    ret->ciphertext = m->ciphertext;
    return kbs_receive_epk(m->epk_x, m->epk_y, &ret->epk, err);
}

/* The secret in its sealed form, whichever way it came. */
static int secret_take(const struct kbs_wire_seal *m, const struct kbs_ec_public *seal_key,
                       struct kbs_sealed *ret, struct kbs_buf *ciphertext, struct kbs_error *err)
{
    bool jwe = m->epk_x.len + m->epk_y.len + m->encrypted_key.len + m->iv.len + m->ciphertext.len +
                   m->tag.len >
               0;

    if (jwe == (m->plaintext.len > 0)) {
        return kbs_fail(err, KBS_INPUT, "a secret comes as a JWE or as plaintext");
    }
    return jwe ? secret_parts_get(m, ret, err)
               : kbs_seal(seal_key, m->kid, m->plaintext, ret, ciphertext, err);
}

/* Card and form at rest. */
static int secret_print(struct kbs_token *t, struct kbs_card *card, const struct kbs_sealed *sealed,
                        struct kbs_buf *out, struct kbs_error *err)
{
    struct kbs_buf at_rest = KBS_BUF(KBS_SEALED_MAX_BYTES);
    uint8_t bytes[KBS_CARD_BYTES];
    int rc;

    kbs_sealed_put(&at_rest, sealed);
    rc = kbs_buf_check(&at_rest, "the sealed secret", err);
    if (rc == 0) {
        card->bytes = (uint32_t)sealed->ciphertext.len;
        card->wrap_version = sealed->seal_version;
        kbs_sha256(kbs_buf_span(&at_rest), card->blob);
        rc = kbs_card_make(t, card, bytes, err);
    }
    if (rc == 0) {
        kbs_buf_put(out, bytes, sizeof(bytes));
        kbs_buf_put_span(out, kbs_buf_span(&at_rest));
        rc = kbs_buf_check(out, "the answer", err);
    }
    kbs_buf_deinit(&at_rest);
    return rc;
}

int kbs_secret_seal(struct kbs_token *t, const struct kbs_ladder *ladder,
                    const struct kbs_wire_seal *m, struct kbs_answer *ret, struct kbs_error *err)
{
    struct kbs_sealed sealed = {.seal_version = 0};
    struct kbs_buf ciphertext = KBS_BUF(KBS_LIMIT_SECRET_VALUE_BYTES);
    struct kbs_ec_public seal_key;
    struct kbs_card card;
    KBS_AUTO_SECRET plain = NULL;
    int rc = -1;

    if (secret_card_begin(m, &card, err) != 0 ||
        secret_newest(t, &sealed.seal_version, &seal_key, err) != 0) {
        return -1;
    }
    if (secret_take(m, &seal_key, &sealed, &ciphertext, err) == 0 &&
        secret_open(t, ladder, &sealed, &seal_key, m->kid, &plain, err) == 0) {
        rc = secret_print(t, &card, &sealed, &ret->body, err);
    }
    kbs_buf_deinit(&ciphertext);
    return rc;
}

/* ---- OPEN_SECRET ---- */

static int secret_tee_get(struct kbs_span bytes, bool rsa1_5, struct kbs_tee_key *ret,
                          struct kbs_error *err)
{
    if (kbs_tee_key_get(bytes, ret, err) != 0 || kbs_tee_key_check_target(ret, err) != 0) {
        return -1;
    }
    /* The judge has asked the same; neither has to believe the other. */
    if (ret->alg == KBS_TEE_ALG_RSA1_5 && !rsa1_5) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "TEE keys of RSA1_5 are not allowed here");
    }
    return 0;
}

/*
 * The sealed form that the card is of. Its digest has been compared: what differs here was never
 * SEAL's.
 */
static int secret_at_rest_get(const struct kbs_card *card, struct kbs_span bytes,
                              struct kbs_sealed *ret, struct kbs_error *err)
{
    if (kbs_sealed_get(bytes, ret, err) != 0 || kbs_ec_public_check(&ret->epk, err) != 0) {
        return -1;
    }
    if (ret->seal_version != card->wrap_version || ret->ciphertext.len != card->bytes) {
        return kbs_fail(err, KBS_DENIED, "the sealed secret is not the card's");
    }
    if (card->floor > KBS_LOCALITY_WORKER) {
        return kbs_fail(err, KBS_UNSUPPORTED, "a secret is opened in kbs-token, below its floor %s",
                        kbs_locality_name(card->floor));
    }
    return 0;
}

/* The sealed form of a card that was checked, opened. Returns owned. */
static int secret_open_carded(struct kbs_token *t, const struct kbs_ladder *ladder,
                              const struct kbs_card *card, struct kbs_span bytes,
                              struct kbs_span kid, struct kbs_secret **ret, struct kbs_error *err)
{
    struct kbs_ec_public seal_key;
    struct kbs_sealed sealed;

    return secret_at_rest_get(card, bytes, &sealed, err) == 0 &&
                   secret_seal_key(t, sealed.seal_version, &seal_key, err) == 0
               ? secret_open(t, ladder, &sealed, &seal_key, kid, ret, err)
               : -1;
}

int kbs_secret_open(struct kbs_token *t, const struct kbs_ladder *ladder, struct kbs_cards *cards,
                    bool rsa1_5, const struct kbs_wire_open_secret *m, struct kbs_answer *ret,
                    struct kbs_error *err)
{
    struct kbs_tee_key tee;
    struct kbs_card card;
    KBS_AUTO_SECRET plain = NULL;

    if (kbs_card_check(t, cards, m->card, m->kid, KBS_PURPOSE_SEAL, m->sealed, &card, err) != 0 ||
        kbs_card_check_pop(&card, m->pop, err) != 0 ||
        secret_tee_get(m->tee_key, rsa1_5, &tee, err) != 0 ||
        secret_open_carded(t, ladder, &card, m->sealed, m->kid, &plain, err) != 0 ||
        kbs_jwe_to_tee(&tee, kbs_secret_span(plain), &ret->body, err) != 0) {
        return -1;
    }
    ret->rung = "worker";
    ret->locality = KBS_LOCALITY_WORKER;
    ret->format = KBS_FORMAT_JWE;
    return kbs_buf_check(&ret->body, "the answer", err);
}

/* ---- RESEAL ---- */

/* The same secret under another seal key; the plaintext is gone when this returns. */
static int reseal_to(struct kbs_token *t, const struct kbs_ladder *ladder,
                     const struct kbs_card *card, const struct kbs_wire_reseal *m,
                     const struct kbs_ec_public *seal_key, struct kbs_sealed *ret,
                     struct kbs_buf *ciphertext, uint8_t ret_digest[KBS_SHA256_BYTES],
                     struct kbs_error *err)
{
    KBS_AUTO_SECRET plain = NULL;

    if (secret_open_carded(t, ladder, card, m->sealed, m->kid, &plain, err) != 0) {
        return -1;
    }
    kbs_sha256(kbs_secret_span(plain), ret_digest);
    return kbs_seal(seal_key, m->kid, kbs_secret_span(plain), ret, ciphertext, err);
}

static int reseal_compare(struct kbs_token *t, const struct kbs_ladder *ladder,
                          const struct kbs_sealed *sealed, const struct kbs_ec_public *seal_key,
                          struct kbs_span kid, const uint8_t wanted[KBS_SHA256_BYTES],
                          struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    KBS_AUTO_SECRET plain = NULL;
    bool same = false;

    if (secret_open(t, ladder, sealed, seal_key, kid, &plain, err) != 0) {
        return -1;
    }
    kbs_sha256(kbs_secret_span(plain), digest);
    same = kbs_secret_equal(kbs_span(digest, sizeof(digest)), kbs_span(wanted, sizeof(digest)));
    kbs_cleanse(digest, sizeof(digest));
    return same ? 0
                : kbs_fail(err, KBS_INTERNAL, "the secret that was sealed again is another one");
}

int kbs_secret_reseal(struct kbs_token *t, const struct kbs_ladder *ladder, struct kbs_cards *cards,
                      const struct kbs_wire_reseal *m, struct kbs_answer *ret,
                      struct kbs_error *err)
{
    struct kbs_sealed sealed = {.seal_version = 0};
    struct kbs_buf ciphertext = KBS_BUF(KBS_LIMIT_SECRET_VALUE_BYTES);
    uint8_t digest[KBS_SHA256_BYTES] = {0}; /* of a secret that may be short: one itself */
    struct kbs_ec_public seal_key;
    struct kbs_card card;
    int rc = -1;

    if (kbs_card_check(t, cards, m->card, m->kid, KBS_PURPOSE_SEAL, m->sealed, &card, err) != 0 ||
        secret_newest(t, &sealed.seal_version, &seal_key, err) != 0) {
        return -1;
    }
    if (reseal_to(t, ladder, &card, m, &seal_key, &sealed, &ciphertext, digest, err) == 0 &&
        reseal_compare(t, ladder, &sealed, &seal_key, m->kid, digest, err) == 0) {
        rc = secret_print(t, &card, &sealed, &ret->body, err);
    }
    kbs_cleanse(digest, sizeof(digest));
    kbs_buf_deinit(&ciphertext);
    return rc;
}
