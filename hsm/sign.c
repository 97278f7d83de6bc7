/*
 * What is to be signed is hashed here and the digest signed by CKM_ECDSA, which every token has;
 * CKM_ECDSA_SHA256 is not in SoftHSM. PKCS#11 gives r || s, which is what JOSE wants. The hash goes with
 * the curve: SHA-256 and P-256 (ES256), SHA-384 and P-384 (ES384).
 *
 * One signature is verified when the key is loaded: a public key object that does not belong to the
 * private key (their link is only a CKA_ID) would else be published and every token refused by
 * those who verify, or worse, tokens be believed that somebody else has signed.
 *
 * Four keys, and no two kinds of input can be mistaken for each other: a JWS begins with base64url and
 * says its type, a COSE_Sign1's with an array, rows and heads with a name of their own.
 *
 * Which sign-token keys there are is asked at every DESCRIBE, and before a signature when the answer
 * is KBS_LIMIT_SIGN_LOOK_MS old: a look-up by label is a walk through the whole token on some of them,
 * too dear for every token, and a new version signs late enough (hsm/service.c) not to be missed.
 * Which of them signs is decided by the clock at each signature.
 */
#include "hsm/sign.h"

#include "base/clock.h"
#include "base/log.h"
#include "hsm/ckr.h"
#include "hsm/service.h"
#include "jose/write/jose.h"

/* The digest that goes with a curve. */
static void sign_hash(enum kbs_curve curve, struct kbs_span in, struct kbs_digest *ret)
{
    kbs_digest(curve == KBS_CURVE_P384 ? KBS_HASH_SHA384 : KBS_HASH_SHA256, &in, 1, ret);
}

/* r || s of `digest`, whose length fits the signer's curve. */
static int sign_digest(const struct kbs_token *t, const struct kbs_signer *signer,
                       struct kbs_digest *digest, uint8_t ret[KBS_ECDSA_MAX_BYTES], size_t *ret_len,
                       struct kbs_error *err)
{
    CK_MECHANISM mech = {CKM_ECDSA, NULL, 0};
    CK_ULONG len = KBS_ECDSA_MAX_BYTES;
    CK_RV rv = t->f->C_SignInit(t->session, &mech, signer->private_key);

    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_SignInit", __LINE__);
    }
    rv = t->f->C_Sign(t->session, digest->p, digest->len, ret, &len);
    if (rv != CKR_OK) {
        return kbs_ckr_fail(err, rv, "C_Sign", __LINE__);
    }
    *ret_len = 2 * kbs_curve_field_bytes(signer->public_key.curve);
    if (len != *ret_len) {
        return kbs_fail(err, KBS_INTERNAL, "the token's %s signature has %lu bytes",
                        kbs_curve_jose_name(signer->public_key.curve), len);
    }
    return 0;
}

int kbs_signer_load(struct kbs_signer *signer, struct kbs_token *t, struct kbs_error *err)
{
    struct kbs_digest digest;
    uint8_t signature[KBS_ECDSA_MAX_BYTES];
    size_t len = 0;
    CK_OBJECT_HANDLE private_key = CK_INVALID_HANDLE;

    if (kbs_service_find(t, CKO_PRIVATE_KEY, signer->purpose, signer->version, &private_key, err) !=
        0) {
        return -1;
    }
    if (signer->ready && signer->private_key == private_key) {
        return 0;
    }
    signer->ready = false;
    signer->private_key = private_key;
    if (kbs_service_public(t, signer->purpose, signer->version, &signer->public_key,
                           &signer->from_s, err) != 0) {
        return -1;
    }
    if (kbs_jose_sig_alg(signer->public_key.curve) == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "nothing is signed here with a key on %s",
                        kbs_curve_jose_name(signer->public_key.curve));
    }
    sign_hash(signer->public_key.curve, KBS_SPAN_LIT("kbs-hsm start-up check"), &digest);
    if (sign_digest(t, signer, &digest, signature, &len, err) != 0) {
        return -1;
    }
    signer->foreign =
        !kbs_ec_verify_any(&signer->public_key, kbs_digest_span(&digest), kbs_span(signature, len));
    if (signer->foreign) {
        return kbs_fail(err, KBS_INTERNAL, "a signing key and its public key do not match");
    }
    kbs_jose_thumbprint(&signer->public_key, signer->thumbprint);
    signer->ready = true;
    return 0;
}

/* ---- attestation results ---- */

/* One version, as it was known or anew. Not there: nobody is to be told of it. */
static int sign_keys_load(struct kbs_sign_keys *keys, struct kbs_signer *signer,
                          struct kbs_token *t, bool *ret_there, struct kbs_error *err)
{
    *ret_there = kbs_signer_load(signer, t, err) == 0;
    if (*ret_there) {
        return 0;
    }
    if (err->category != KBS_MISSING && !signer->foreign) {
        return -1;
    }
    if (signer->version > keys->told) {
        keys->told = signer->version;
        kbs_log(KBS_LOG_ERROR, "sign-key-left-out", "purpose=%s version=%u why=\"%s\"",
                kbs_purpose_name(keys->purpose), (unsigned int)signer->version, err->detail);
    }
    *err = KBS_ERROR_NONE;
    return 0;
}

int kbs_sign_keys_look(struct kbs_sign_keys *keys, struct kbs_token *t, struct kbs_error *err)
{
    const struct kbs_sign_keys before = *keys;
    uint32_t versions[KBS_LIMIT_KEY_VERSIONS];
    size_t n = 0;

    keys->looked_ns = 0;
    keys->n = 0;
    if (kbs_service_versions(t, keys->purpose, versions, &n, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < n && keys->n < KBS_LIMIT_SIGN_VERSIONS; i++) {
        struct kbs_signer *signer = &keys->signers[keys->n];
        bool there = false;

        *signer = (struct kbs_signer){.purpose = keys->purpose, .version = versions[i]};
        for (size_t k = 0; k < before.n; k++) {
            *signer = before.signers[k].version == versions[i] ? before.signers[k] : *signer;
        }
        if (sign_keys_load(keys, signer, t, &there, err) != 0) {
            keys->n = 0;
            return -1;
        }
        keys->n += there ? 1 : 0;
    }
    keys->looked_ns = kbs_clock_mono_ns();
    return 0;
}

/* The version whose turn it is, loaded. Returns borrowed. */
static int sign_keys_now(struct kbs_sign_keys *keys, struct kbs_token *t, struct kbs_signer **ret,
                         struct kbs_error *err)
{
    uint64_t old_ns = keys->looked_ns + KBS_LIMIT_SIGN_LOOK_MS * KBS_NS_PER_MS;
    uint64_t from_s[KBS_LIMIT_SIGN_VERSIONS];

    if ((keys->looked_ns == 0 || keys->n == 0 || kbs_clock_mono_ns() >= old_ns) &&
        kbs_sign_keys_look(keys, t, err) != 0) {
        return -1;
    }
    if (keys->n == 0) {
        return kbs_fail(err, KBS_MISSING, "the token has no %s key",
                        kbs_purpose_name(keys->purpose));
    }
    for (size_t i = 0; i < keys->n; i++) {
        from_s[i] = keys->signers[i].from_s;
    }
    *ret = &keys->signers[kbs_sign_version_at(from_s, keys->n, (uint64_t)kbs_clock_unix_s())];
    return kbs_signer_load(*ret, t, err);
}

static int sign_ear(struct kbs_sign_keys *keys, struct kbs_token *t, struct kbs_span claims,
                    struct kbs_answer *ret, struct kbs_error *err)
{
    struct kbs_signer *signer = NULL;
    struct kbs_digest digest;
    uint8_t signature[KBS_ECDSA_MAX_BYTES];
    size_t len = 0;

    if (sign_keys_now(keys, t, &signer, err) != 0) {
        return -1;
    }
    kbs_jose_jws_input_put(&ret->body, kbs_jose_sig_alg(signer->public_key.curve),
                           signer->thumbprint, "JWT", claims);
    if (kbs_buf_check(&ret->body, "the claims", err) != 0) {
        return -1;
    }
    sign_hash(signer->public_key.curve, kbs_buf_span(&ret->body), &digest);
    if (sign_digest(t, signer, &digest, signature, &len, err) != 0) {
        return -1;
    }
    kbs_jose_jws_signature_put(&ret->body, kbs_span(signature, len));
    return kbs_buf_check(&ret->body, "the signed token", err);
}

int kbs_sign_ear(struct kbs_sign_keys *keys, struct kbs_token *t, const struct kbs_wire_sign_ear *m,
                 struct kbs_answer *ret, struct kbs_error *err)
{
    if (m->claims.len == 0) {
        return kbs_fail(err, KBS_INPUT, "there are no claims to sign");
    }
    if (sign_ear(keys, t, m->claims, ret, err) != 0) {
        keys->n = 0; /* a handle went stale, or a version is gone: the next one looks again */
        return -1;
    }
    return 0;
}

/* ---- receipts ---- */

int kbs_sign_es256(struct kbs_signer *signer, struct kbs_token *t, struct kbs_span input,
                   uint8_t ret[KBS_ES256_BYTES], struct kbs_error *err)
{
    struct kbs_digest digest;
    uint8_t signature[KBS_ECDSA_MAX_BYTES];
    size_t len = 0;

    kbs_digest(KBS_HASH_SHA256, &input, 1, &digest);
    if (sign_digest(t, signer, &digest, signature, &len, err) != 0) {
        signer->ready = false; /* a handle went stale: the next one looks again */
        return -1;
    }
    if (len != KBS_ES256_BYTES) {
        return kbs_fail(err, KBS_INTERNAL, "the signing key is not on P-256");
    }
    memcpy(ret, signature, KBS_ES256_BYTES);
    return 0;
}

/* ---- rows and heads ---- */

/* SHA-256 of a name and what follows it. */
static void sign_named_digest(struct kbs_span name, struct kbs_span a, struct kbs_span b,
                              uint8_t ret[KBS_SHA256_BYTES])
{
    const struct kbs_span parts[] = {name, a, b};
    struct kbs_digest digest;

    kbs_digest(KBS_HASH_SHA256, parts, 3, &digest);
    memcpy(ret, digest.p, KBS_SHA256_BYTES);
}

void kbs_sign_row_digest(struct kbs_span content, uint8_t ret[KBS_SHA256_BYTES])
{
    sign_named_digest(KBS_SPAN_LIT("kbs-row-v1"), content, KBS_SPAN_EMPTY, ret);
}

/* r || s as the whole answer. */
static int sign_raw(struct kbs_signer *signer, struct kbs_token *t,
                    uint8_t digest[KBS_SHA256_BYTES], struct kbs_answer *ret, struct kbs_error *err)
{
    struct kbs_digest input = {.len = KBS_SHA256_BYTES};
    uint8_t signature[KBS_ECDSA_MAX_BYTES];
    size_t len = 0;

    memcpy(input.p, digest, KBS_SHA256_BYTES);
    if (kbs_signer_load(signer, t, err) != 0) {
        return -1;
    }
    if (sign_digest(t, signer, &input, signature, &len, err) != 0) {
        signer->ready = false;
        return -1;
    }
    kbs_buf_put(&ret->body, signature, len);
    return kbs_buf_check(&ret->body, "the signature", err);
}

int kbs_sign_row(struct kbs_signer *signer, struct kbs_token *t, const struct kbs_wire_sign_row *m,
                 struct kbs_answer *ret, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];

    if (m->content.len == 0) {
        return kbs_fail(err, KBS_INPUT, "there is no row to sign");
    }
    kbs_sign_row_digest(m->content, digest);
    return sign_raw(signer, t, digest, ret, err);
}

int kbs_sign_head(struct kbs_signer *signer, struct kbs_token *t,
                  const struct kbs_wire_sign_head *m, struct kbs_answer *ret, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    uint8_t seq[8];

    if (m->hash.len != KBS_SHA256_BYTES || m->seq == 0) {
        return kbs_fail(err, KBS_INPUT, "that is no head of a ledger");
    }
    for (size_t i = 0; i < sizeof(seq); i++) {
        seq[i] = (uint8_t)(m->seq >> (56 - 8 * i));
    }
    sign_named_digest(KBS_SPAN_LIT("kbs-head-v1"), kbs_span(seq, sizeof(seq)), m->hash, digest);
    return sign_raw(signer, t, digest, ret, err);
}
