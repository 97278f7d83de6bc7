/*
 * What is sealed here is in this process already: an ordinary secret that was opened for its
 * release, or a key whose floor is `worker`. So the token would add nothing, and OpenSSL makes the
 * JWE.
 *
 * The ephemeral key and the content key are fresh each time, so the iv could be constant; it is
 * random all the same. apu and apv are empty: today's guests know neither.
 */
#include "hsm/jwe.h"

#include "base/random.h"
#include "jose/write/jose.h"

#define JWE_CEK_BYTES 32u
#define JWE_PROTECTED_MAX_BYTES 1024u
#define JWE_OTHER_INFO_MAX_BYTES 64u

void kbs_jwe_protected_put(struct kbs_buf *out, enum kbs_tee_alg alg, const struct kbs_recipient *r)
{
    kbs_jose_jwe_protected_put(out, alg, alg == KBS_TEE_ALG_ECDH_ES_A256KW ? &r->epk : NULL);
}

/* The content key to an EC key, by ECDH-ES+A256KW. */
static int jwe_wrap_ec(const struct kbs_ec_public *tee, struct kbs_span cek,
                       struct kbs_recipient *ret, struct kbs_error *err)
{
    struct kbs_agree_key *ephemeral = NULL;
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;
    struct kbs_buf info = KBS_BUF(JWE_OTHER_INFO_MAX_BYTES);
    int rc = -1;

    kbs_jose_other_info_put(&info, KBS_SPAN_EMPTY, KBS_SPAN_EMPTY);
    if (kbs_buf_check(&info, "the KDF context", err) == 0 &&
        kbs_agree_key_generate(tee->curve, &ephemeral, err) == 0 &&
        kbs_agree_ecdh(ephemeral, tee, &z, err) == 0 &&
        kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), &kek, err) == 0) {
        ret->epk = *kbs_agree_key_public(ephemeral);
        rc = kbs_agree_wrap(kbs_secret_span(kek), cek, ret->wrapped, &ret->wrapped_len, err);
    }
    (void)kbs_agree_key_free(ephemeral);
    kbs_buf_deinit(&info);
    return rc;
}

static int jwe_wrap(const struct kbs_tee_key *tee, struct kbs_span cek, struct kbs_recipient *ret,
                    struct kbs_error *err)
{
    switch (tee->alg) {
    case KBS_TEE_ALG_ECDH_ES_A256KW:
        return jwe_wrap_ec(&tee->ec, cek, ret, err);
    case KBS_TEE_ALG_RSA1_5:
        return kbs_agree_rsa1_5_encrypt(tee, cek, ret->wrapped, &ret->wrapped_len, err);
    case KBS_TEE_ALG_RSA_OAEP_256:
    case KBS_TEE_ALG_RSA_OAEP:
        return kbs_agree_oaep_encrypt(tee, cek, ret->wrapped, &ret->wrapped_len, err);
    case KBS_TEE_ALG_ES256:
    case KBS_TEE_ALG_ES384:
    case KBS_TEE_ALG_ES512:
    case KBS_TEE_ALG_NONE:
    case KBS_TEE_ALG_COUNT:
        break;
    }
    return kbs_fail(err, KBS_UNPROCESSABLE, "a TEE key that nothing is encrypted to");
}

int kbs_jwe_seal(const struct kbs_tee_key *tee, struct kbs_span plain, struct kbs_recipient *ret,
                 uint8_t *ciphertext, struct kbs_error *err)
{
    KBS_AUTO_SECRET cek = NULL;
    struct kbs_buf aad = KBS_BUF(JWE_PROTECTED_MAX_BYTES);
    int rc;

    if (kbs_tee_key_check_target(tee, err) != 0 || kbs_secret_new(JWE_CEK_BYTES, &cek, err) != 0) {
        return -1;
    }
    kbs_random(kbs_secret_bytes(cek), JWE_CEK_BYTES);
    kbs_random(ret->iv, sizeof(ret->iv));
    rc = jwe_wrap(tee, kbs_secret_span(cek), ret, err);
    if (rc == 0) {
        kbs_jwe_protected_put(&aad, tee->alg, ret);
        rc = kbs_buf_check(&aad, "the JWE's header", err);
    }
    if (rc == 0) {
        rc = kbs_agree_gcm_seal(kbs_secret_span(cek), ret->iv, kbs_buf_span(&aad), plain,
                                ciphertext, ret->tag, err);
    }
    kbs_buf_deinit(&aad);
    return rc;
}

void kbs_jwe_print(struct kbs_buf *out, enum kbs_tee_alg alg, const struct kbs_recipient *r,
                   struct kbs_span ciphertext)
{
    struct kbs_buf header = KBS_BUF(JWE_PROTECTED_MAX_BYTES);

    kbs_jwe_protected_put(&header, alg, r);
    out->failed = out->failed || header.failed;
    kbs_jose_jwe_put(out,
                     &(struct kbs_jose_jwe){.protected_text = kbs_buf_span(&header),
                                            .encrypted_key = kbs_span(r->wrapped, r->wrapped_len),
                                            .iv = kbs_span(r->iv, sizeof(r->iv)),
                                            .ciphertext = ciphertext,
                                            .tag = kbs_span(r->tag, sizeof(r->tag))});
    kbs_buf_deinit(&header);
}

int kbs_jwe_to_tee(const struct kbs_tee_key *tee, struct kbs_span plain, struct kbs_buf *out,
                   struct kbs_error *err)
{
    struct kbs_recipient parts = {.wrapped_len = 0};
    struct kbs_buf ciphertext = KBS_BUF(KBS_LIMIT_SECRET_VALUE_BYTES);
    uint8_t *room = kbs_buf_reserve(&ciphertext, plain.len);
    int rc = kbs_buf_check(&ciphertext, "the secret", err);

    if (rc == 0) {
        rc = kbs_jwe_seal(tee, plain, &parts, room, err);
    }
    if (rc == 0) {
        kbs_buf_commit(&ciphertext, plain.len);
        kbs_jwe_print(out, tee->alg, &parts, kbs_buf_span(&ciphertext));
        rc = kbs_buf_check(out, "the JWE", err);
    }
    kbs_buf_deinit(&ciphertext);
    return rc;
}
