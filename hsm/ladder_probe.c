/*
 * Mechanism lists lie in both directions: NSS does not name the concatenations that it does,
 * SoftHSM adds its flags to whatever the caller's struct held. So each rung is done once at start,
 * with the very function that serves releases and with inputs as long as they can get, and its
 * result is opened by OpenSSL: a rung that passes makes what a guest can open.
 *
 * The key has 32 bytes; once per rung, format and kind of algorithm one of 20 is tried too, which
 * AES Key Wrap does not define and tokens treat differently. Of that one only the length is
 * compared: not every token computes a check value of it.
 *
 * Rejected: probing on first use. A start that takes some 10 ms longer and says what the token can
 * do is worth more than the first guest's latency. Rejected too: fresh RSA keys on the other side,
 * which would take ten times as long as all the rest. What is released to them is a throw-away key,
 * so it may be keys that everybody knows (src/agree/rsa_known.c).
 */
#include "agree/agree.h"
#include "base/random.h"
#include "hsm/ckr.h"
#include "hsm/jwe.h"
#include "hsm/kcv.h"
#include "hsm/ladder.h"
#include "hsm/transport.h"

/* The software side of a probe: one TEE key. */
struct probe_tee {
    enum kbs_tee_kind kind;
    struct kbs_tee_key key;
    struct kbs_agree_key *ec;
    struct kbs_agree_rsa *rsa;
};

/* The throw-away keys that are released, and how strict this probe is. */
struct probe_keys {
    bool all;
    CK_OBJECT_HANDLE of_32;
    bool kcv_known;
    uint8_t kcv[KBS_KCV_BYTES]; /* of of_32 */
    CK_OBJECT_HANDLE of_20;     /* CK_INVALID_HANDLE where the token makes no such key */
    struct kbs_error why_no_20;
};

/* A limit met at start must not decide what this lane does for the rest of its life. */
static bool probe_ends(const struct kbs_token *t, const struct probe_keys *keys,
                       const struct kbs_error *err)
{
    return !keys->all && (kbs_ckr_is_fatal(err, t->quirk) || err->category == KBS_BUSY);
}

/* ---- opening ---- */

/* What stands in r->wrapped: the key, or the content key of a JWE. */
static int probe_unwrap(const struct probe_tee *tee, const struct kbs_recipient_order *order,
                        const struct kbs_recipient *r, struct kbs_secret **ret,
                        struct kbs_error *err)
{
    struct kbs_span wrapped = kbs_span(r->wrapped, r->wrapped_len);
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;
    struct kbs_buf info = KBS_BUF(4096);
    int rc;

    if (tee->rsa != NULL) {
        return kbs_agree_oaep_decrypt(tee->rsa, tee->key.alg, wrapped, ret, err);
    }
    kbs_recipient_info_put(&info, order);
    rc = kbs_buf_check(&info, "the KDF context", err);
    if (rc == 0) {
        rc = kbs_agree_ecdh(tee->ec, &r->epk, &z, err);
    }
    if (rc == 0 && order->format == KBS_FORMAT_COSE) {
        rc = kbs_agree_hkdf(kbs_secret_span(z), order->salt, kbs_buf_span(&info), &kek, err);
    } else if (rc == 0) {
        rc = kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), &kek, err);
    }
    if (rc == 0) {
        rc = kbs_agree_unwrap(kbs_secret_span(kek), wrapped, ret, err);
    }
    kbs_buf_deinit(&info);
    return rc;
}

static int probe_open(const struct probe_tee *tee, const struct kbs_recipient_order *order,
                      const struct kbs_recipient *r, struct kbs_secret **ret, struct kbs_error *err)
{
    struct kbs_recipient_order cek_order = {.format = KBS_FORMAT_JOSE, .tee = order->tee};
    KBS_AUTO_SECRET cek = NULL;
    struct kbs_buf aad = KBS_BUF(1024);
    int rc;

    if (order->format != KBS_FORMAT_JWE) {
        return probe_unwrap(tee, order, r, ret, err);
    }
    kbs_jwe_protected_put(&aad, tee->key.alg, r);
    rc = kbs_buf_check(&aad, "the JWE's header", err);
    if (rc == 0) {
        rc = probe_unwrap(tee, &cek_order, r, &cek, err);
    }
    if (rc == 0) {
        rc = kbs_secret_new(r->ciphertext_len, ret, err);
    }
    if (rc == 0) {
        rc = kbs_agree_gcm_open(kbs_secret_span(cek), r->iv, kbs_buf_span(&aad),
                                kbs_span(r->ciphertext, r->ciphertext_len), r->tag,
                                kbs_secret_bytes(*ret), err);
    }
    kbs_buf_deinit(&aad);
    return rc;
}

/* ---- one cell ---- */

/* True for a key of 20 bytes that came out as 24, with zeros at its end. */
static bool probe_is_padded(struct kbs_span opened)
{
    return opened.len == 24 &&
           kbs_span_equal(kbs_span_skip(opened, 20), kbs_span((const uint8_t *)"\0\0\0\0", 4));
}

static enum kbs_probe_result probe_judge(const struct kbs_secret *opened,
                                         enum kbs_probe_length length,
                                         const struct probe_keys *keys, struct kbs_error *err)
{
    uint8_t kcv[KBS_KCV_BYTES];

    if (length == KBS_PROBE_20 && probe_is_padded(kbs_secret_span(opened))) {
        return KBS_PROBE_PADDED;
    }
    kbs_agree_kcv(kbs_secret_span(opened), kcv);
    if (kbs_secret_len(opened) != kbs_probe_length_bytes(length) ||
        (length == KBS_PROBE_32 && keys->kcv_known && memcmp(kcv, keys->kcv, KBS_KCV_BYTES) != 0)) {
        (void)kbs_fail(err, KBS_INTERNAL, "the rung wraps something else than the key");
        return KBS_PROBE_FAILED;
    }
    return KBS_PROBE_PASSED;
}

static enum kbs_probe_result probe_do(struct kbs_token *t, const struct kbs_ladder_choice *choice,
                                      const struct probe_tee *tee, enum kbs_probe_length length,
                                      const struct probe_keys *keys, struct kbs_error *err)
{
    uint8_t longest_kid[KBS_LIMIT_KID_BYTES];
    uint8_t longest_salt[KBS_LIMIT_COSE_SALT_BYTES];
    uint8_t party_v[32] = {0};
    struct kbs_recipient_order order = {.format = choice->format, .tee = &tee->key};
    struct kbs_recipient made = {.wrapped_len = 0};
    KBS_AUTO_SECRET opened = NULL;

    memset(longest_kid, 'k', sizeof(longest_kid));
    memset(longest_salt, 's', sizeof(longest_salt));
    order.kid = kbs_span(longest_kid, sizeof(longest_kid));
    order.party_u = order.kid;
    order.party_v = kbs_span(party_v, sizeof(party_v));
    order.salt = kbs_span(longest_salt, sizeof(longest_salt));
    if (choice->rung->make(t, choice, &order, length == KBS_PROBE_20 ? keys->of_20 : keys->of_32,
                           &made, err) != 0 ||
        probe_open(tee, &order, &made, &opened, err) != 0) {
        return KBS_PROBE_FAILED;
    }
    return probe_judge(opened, length, keys, err);
}

/* The rung for a content key: the first that passed for that kind at the same locality. */
static const struct kbs_rung *probe_cek_rung(const struct kbs_ladder *ladder,
                                             const struct kbs_rung *rung, enum kbs_tee_kind kind)
{
    for (size_t i = 0; i < KBS_RUNG_COUNT; i++) {
        if (kbs_rungs[i].locality == rung->locality &&
            ladder->probes[i][KBS_FORMAT_JOSE][kind][KBS_PROBE_32].result == KBS_PROBE_PASSED) {
            return &kbs_rungs[i];
        }
    }
    return NULL;
}

/* -1 only for errors that end the worker. */
static int probe_cell(struct kbs_ladder *ladder, struct kbs_token *t, size_t rung,
                      enum kbs_format format, const struct probe_tee *tee,
                      enum kbs_probe_length length, const struct probe_keys *keys,
                      struct kbs_error *err)
{
    struct kbs_probe *probe = &ladder->probes[rung][format][tee->kind][length];
    struct kbs_ladder_choice choice = {.rung = &kbs_rungs[rung], .format = format};
    bool by_pair = choice.rung->derive[format] == kbs_derive_jose_transport_unwrap ||
                   choice.rung->derive[format] == kbs_derive_cose_transport_unwrap;

    *err = KBS_ERROR_NONE;
    probe->result = KBS_PROBE_SKIPPED;
    if (length == KBS_PROBE_20 && keys->of_20 == CK_INVALID_HANDLE) {
        probe->rv = kbs_ckr_of(&keys->why_no_20);
        probe->function = keys->why_no_20.func;
        return 0;
    }
    if (by_pair && t->transport.private_key == CK_INVALID_HANDLE) {
        probe->function = "no RSA pair was made";
        return 0;
    }
    if (choice.rung->needs_cek) {
        choice.cek = probe_cek_rung(ladder, choice.rung, tee->kind);
        if (choice.cek == NULL) {
            probe->function = "no rung for its content key";
            return 0;
        }
    }
    probe->result = probe_do(t, &choice, tee, length, keys, err);
    if (probe->result == KBS_PROBE_FAILED) {
        probe->rv = kbs_ckr_of(err);
        probe->function = err->func;
        return probe_ends(t, keys, err) ? -1 : 0;
    }
    return 0;
}

/* All rungs and formats for one TEE key. */
static int probe_kind(struct kbs_ladder *ladder, struct kbs_token *t, const struct probe_tee *tee,
                      const struct probe_keys *keys, struct kbs_error *err)
{
    bool smallest = tee->kind == KBS_TEE_P256 || tee->kind == KBS_TEE_RSA_2048 ||
                    tee->kind == KBS_TEE_RSA_2048_SHA1;
    size_t lengths = smallest ? KBS_PROBE_LENGTHS : 1;

    for (size_t rung = 0; rung < KBS_RUNG_COUNT; rung++) {
        for (unsigned int format = KBS_FORMAT_JOSE; format < KBS_FORMAT_COUNT; format++) {
            if (!kbs_rung_makes(&kbs_rungs[rung], (enum kbs_format)format, tee->key.alg)) {
                continue;
            }
            for (size_t length = 0; length < lengths; length++) {
                if (probe_cell(ladder, t, rung, (enum kbs_format)format, tee,
                               (enum kbs_probe_length)length, keys, err) != 0) {
                    return -1;
                }
            }
        }
    }
    *err = KBS_ERROR_NONE;
    return 0;
}

/* ---- what the cells need ---- */

static int probe_curve(struct kbs_ladder *ladder, struct kbs_token *t, enum kbs_tee_kind kind,
                       enum kbs_curve curve, const struct probe_keys *keys, struct kbs_error *err)
{
    struct probe_tee tee = {.kind = kind};
    int rc = kbs_agree_key_generate(curve, &tee.ec, err);

    if (rc == 0) {
        tee.key.alg = KBS_TEE_ALG_ECDH_ES_A256KW;
        tee.key.ec = *kbs_agree_key_public(tee.ec);
        rc = probe_kind(ladder, t, &tee, keys, err);
    }
    (void)kbs_agree_key_free(tee.ec);
    return rc;
}

static int probe_rsa(struct kbs_ladder *ladder, struct kbs_token *t, unsigned int bits,
                     enum kbs_tee_kind kind, enum kbs_tee_kind kind_sha1,
                     const struct probe_keys *keys, struct kbs_error *err)
{
    struct probe_tee tee = {.kind = kind};
    int rc = kbs_agree_rsa_known(bits, &tee.rsa, err);

    if (rc == 0) {
        tee.key.alg = KBS_TEE_ALG_RSA_OAEP_256;
        tee.key.rsa = *kbs_agree_rsa_public(tee.rsa);
        rc = probe_kind(ladder, t, &tee, keys, err);
    }
    if (rc == 0) {
        tee.kind = kind_sha1;
        tee.key.alg = KBS_TEE_ALG_RSA_OAEP;
        rc = probe_kind(ladder, t, &tee, keys, err);
    }
    (void)kbs_agree_rsa_free(tee.rsa);
    return rc;
}

static int probe_kcv(struct kbs_ladder *ladder, struct kbs_token *t, struct probe_keys *keys,
                     struct kbs_error *err)
{
    keys->kcv_known = kbs_kcv(t, keys->of_32, keys->kcv, err) == 0;
    ladder->kcv.result = keys->kcv_known ? KBS_PROBE_PASSED : KBS_PROBE_FAILED;
    ladder->kcv.rv = kbs_ckr_of(err);
    ladder->kcv.function = err->func;
    if (!keys->kcv_known && !keys->all) {
        return kbs_ckr_class(err, t->quirk) != KBS_CKR_REQUEST
                   ? -1
                   : kbs_error_set(err, KBS_UNSUPPORTED, KBS_ORIGIN_CKR, err->native, err->func,
                                   __LINE__,
                                   "the check value of a key takes AES Key Wrap and HMAC-SHA-256 "
                                   "in the token (%s: %s); see kbs-token --probe",
                                   err->func, kbs_ckr_name(kbs_ckr_of(err)));
    }
    *err = KBS_ERROR_NONE;
    return 0;
}

static int probe_keys_make(struct kbs_ladder *ladder, struct kbs_scratch *s,
                           struct probe_keys *keys, struct kbs_error *err)
{
    struct kbs_template of_20 = {.n = 0};

    if (kbs_kcv_session_key(s, &keys->of_32, err) != 0 ||
        probe_kcv(ladder, s->token, keys, err) != 0) {
        return -1;
    }
    kbs_template_secret_key(&of_20, CKK_GENERIC_SECRET, false, true, KBS_USAGE_NONE);
    kbs_template_number(&of_20, CKA_VALUE_LEN, 20);
    if (kbs_scratch_generate(s, CKM_GENERIC_SECRET_KEY_GEN, &of_20, &keys->of_20, err) == 0) {
        return 0;
    }
    if (probe_ends(s->token, keys, err)) {
        return -1;
    }
    keys->of_20 = CK_INVALID_HANDLE;
    keys->why_no_20 = *err;
    *err = KBS_ERROR_NONE;
    return 0;
}

/* Finds the way in for wrapping keys that pass through this process. */
static int probe_import(struct kbs_token *t, const struct probe_keys *keys, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    KBS_AUTO_SECRET value = NULL;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;

    t->transport.needed = false;
    if (kbs_secret_new(KBS_DERIVE_KEK_BYTES, &value, err) != 0) {
        return -1;
    }
    kbs_random(kbs_secret_bytes(value), KBS_DERIVE_KEK_BYTES);
    if (kbs_transport_import(&scratch, value, KBS_USAGE_WRAP, &key, err) != 0) {
        if (probe_ends(t, keys, err)) {
            return -1;
        }
        t->transport.needed = true;
        *err = KBS_ERROR_NONE;
    }
    if ((!t->transport.needed && !keys->all) || kbs_transport_pair_make(t, err) == 0) {
        return 0;
    }
    t->transport.needed = false; /* neither way: the cells will say what C_CreateObject said */
    if (probe_ends(t, keys, err)) {
        return -1;
    }
    *err = KBS_ERROR_NONE;
    return 0;
}

int kbs_ladder_probe(struct kbs_ladder *ladder, struct kbs_token *t, bool all,
                     struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct probe_keys keys = {.all = all, .of_32 = CK_INVALID_HANDLE};

    memset(ladder, 0, sizeof(*ladder));
    if (probe_keys_make(ladder, &scratch, &keys, err) != 0 || probe_import(t, &keys, err) != 0 ||
        probe_curve(ladder, t, KBS_TEE_P256, KBS_CURVE_P256, &keys, err) != 0 ||
        probe_curve(ladder, t, KBS_TEE_P384, KBS_CURVE_P384, &keys, err) != 0 ||
        probe_curve(ladder, t, KBS_TEE_P521, KBS_CURVE_P521, &keys, err) != 0 ||
        probe_rsa(ladder, t, 2048, KBS_TEE_RSA_2048, KBS_TEE_RSA_2048_SHA1, &keys, err) != 0 ||
        probe_rsa(ladder, t, 3072, KBS_TEE_RSA_3072, KBS_TEE_RSA_3072_SHA1, &keys, err) != 0) {
        return -1;
    }
    if (!t->transport.needed) {
        kbs_transport_pair_destroy(t);
    }
    return 0;
}
