/*
 * The vectors in software: src/agree, which kbs-guest opens keys with and kbs-admin wraps them
 * with, and kbs-guest's own reading of a JWE. "Before" is what is said to be wrong by length or
 * form: the same check is asked first, and the function that has it inside must then refuse as
 * well.
 */
#include "vectors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/encoding.h"
#include "cli/open.h"
#include "jose/write/jose.h"

#define PEM_MAX_BYTES 1024u
#define GCM_TEXT_MAX_BYTES 1024u

struct vector_answer vector_answer(enum vector_got got, const char *why)
{
    struct vector_answer a = {.got = got};

    (void)snprintf(a.why, sizeof(a.why), "%s", why);
    return a;
}

struct vector_answer vector_compared(struct kbs_span got, struct kbs_span wanted)
{
    return kbs_span_equal(got, wanted) ? vector_answer(VECTOR_RIGHT, "")
                                       : vector_answer(VECTOR_WRONG, "another result");
}

/* A failure: `before` tells where, and it must be the sender's fault. */
static struct vector_answer failed(bool before, const struct kbs_error *err)
{
    bool proper = err->category == KBS_UNPROCESSABLE || err->category == KBS_INPUT;

    return vector_answer(!proper  ? VECTOR_WRONG
                         : before ? VECTOR_BEFORE
                                  : VECTOR_REFUSED,
                         err->detail);
}

static void base64_lines(struct kbs_buf *out, struct kbs_span der)
{
    kbs_buf_put_str(out, "-----BEGIN EC PRIVATE KEY-----\n");
    kbs_base64_put(out, der);
    kbs_buf_put_str(out, "\n-----END EC PRIVATE KEY-----\n");
}

struct kbs_agree_key *vector_key(enum kbs_curve curve, struct kbs_span d)
{
    struct kbs_span oid = kbs_curve_oid_der(curve);
    struct kbs_agree_key *key = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf der = KBS_BUF(PEM_MAX_BYTES);
    struct kbs_buf pem = KBS_BUF(PEM_MAX_BYTES);

    /* ECPrivateKey of RFC 5915, without the public key. */
    kbs_buf_put_u8(&der, 0x30);
    kbs_buf_put_u8(&der, (uint8_t)(3 + 2 + d.len + 2 + oid.len));
    kbs_buf_put(&der, "\x02\x01\x01\x04", 4);
    kbs_buf_put_u8(&der, (uint8_t)d.len);
    kbs_buf_put_span(&der, d);
    kbs_buf_put_u8(&der, 0xa0);
    kbs_buf_put_u8(&der, (uint8_t)oid.len);
    kbs_buf_put_span(&der, oid);
    base64_lines(&pem, kbs_buf_span(&der));
    if (kbs_agree_key_from_pem(kbs_buf_span(&pem), &key, &err) != 0) {
        fail_msg("the vector's private key: %s", err.detail);
    }
    kbs_buf_deinit(&der);
    kbs_buf_deinit(&pem);
    return key;
}

static struct vector_answer software_unwrap(struct kbs_span kek, struct kbs_span wrapped,
                                            struct kbs_span key)
{
    KBS_AUTO_SECRET got = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t again[KBS_LIMIT_KEY_BYTES_MAX + 8];
    size_t again_len = 0;
    struct vector_answer a;

    if (kbs_agree_unwrap(kek, wrapped, &got, &err) != 0) {
        /* An AES key of another length is nobody's input, so its category is another one. */
        return kek.len != 32
                   ? vector_answer(VECTOR_BEFORE, err.detail)
                   : failed(wrapped.len < 24 || wrapped.len > sizeof(again) || wrapped.len % 8 != 0,
                            &err);
    }
    a = vector_compared(kbs_secret_span(got), key);
    if (kbs_agree_wrap(kek, key, again, &again_len, &err) != 0 ||
        !kbs_span_equal(kbs_span(again, again_len), wrapped)) {
        a = vector_answer(VECTOR_WRONG, "wraps to something else");
    }
    return a;
}

static struct vector_answer software_hkdf(struct kbs_span ikm, struct kbs_span salt,
                                          struct kbs_span info, struct kbs_span okm)
{
    KBS_AUTO_SECRET kek = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    size_t n = okm.len < 32 ? okm.len : 32; /* longer and shorter outputs share their front */

    if (kbs_agree_hkdf(ikm, salt, info, &kek, &err) != 0) {
        return vector_answer(VECTOR_WRONG, err.detail);
    }
    return vector_compared(kbs_span(kbs_secret_bytes(kek), n), kbs_span(okm.p, n));
}

static struct vector_answer software_ecdh(enum kbs_curve curve, struct kbs_span d,
                                          const struct vector_peer *peer, struct kbs_span shared)
{
    KBS_AUTO_SECRET z = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_error unused = KBS_ERROR_NONE;
    struct kbs_ec_public q;
    struct kbs_agree_key *key;
    int rc;

    if (kbs_ec_point_get(peer->curve, peer->point, &q, &err) != 0) {
        return vector_answer(VECTOR_BEFORE, err.detail);
    }
    key = vector_key(curve, d);
    rc = kbs_agree_ecdh(key, &q, &z, &err);
    (void)kbs_agree_key_free(key);
    return rc == 0 ? vector_compared(kbs_secret_span(z), shared)
                   : failed(kbs_ec_public_check(&q, &unused) != 0, &err);
}

static struct vector_answer software_agreed(enum kbs_curve curve, struct kbs_span d,
                                            const struct vector_peer *epk, struct kbs_span wrapped,
                                            struct kbs_span key)
{
    KBS_AUTO_SECRET got = NULL;
    struct kbs_guest_key guest = {.ec = vector_key(curve, d)};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf info = KBS_BUF(128);
    struct kbs_ec_public q;
    int rc;

    guest.public_key = (struct kbs_tee_key){.alg = KBS_TEE_ALG_ECDH_ES_A256KW,
                                            .ec = *kbs_agree_key_public(guest.ec)};
    kbs_jose_other_info_put(&info, KBS_SPAN_EMPTY, KBS_SPAN_EMPTY);
    rc = kbs_ec_point_get(epk->curve, epk->point, &q, &err);
    if (rc == 0) {
        rc = kbs_guest_key_unwrap(&guest, &q, kbs_buf_span(&info), wrapped, &got, &err);
    }
    kbs_buf_deinit(&info);
    kbs_guest_key_deinit(&guest);
    return rc == 0 ? vector_compared(kbs_secret_span(got), key) : failed(false, &err);
}

static struct vector_answer software_oaep(const struct kbs_agree_rsa *key, enum kbs_tee_alg alg,
                                          struct kbs_span ct, struct kbs_span msg)
{
    KBS_AUTO_SECRET plain = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_agree_oaep_decrypt(key, alg, ct, &plain, &err) != 0) {
        return failed(ct.len != kbs_agree_rsa_public(key)->n_len, &err);
    }
    return vector_compared(kbs_secret_span(plain), msg);
}

static struct vector_answer software_gcm(const struct vector_gcm *v)
{
    uint8_t out[GCM_TEXT_MAX_BYTES];
    uint8_t tag[KBS_GCM_TAG_BYTES];
    struct kbs_error err = KBS_ERROR_NONE;

    assert_true(v->ct.len <= sizeof(out));
    if (kbs_agree_gcm_open(v->key, v->iv.p, v->aad, v->ct, v->tag.p, out, &err) != 0) {
        return failed(false, &err);
    }
    if (!kbs_span_equal(kbs_span(out, v->ct.len), v->msg)) {
        return vector_answer(VECTOR_WRONG, "another plaintext");
    }
    if (kbs_agree_gcm_seal(v->key, v->iv.p, v->aad, v->msg, out, tag, &err) != 0 ||
        !kbs_span_equal(kbs_span(out, v->msg.len), v->ct)) {
        return vector_answer(VECTOR_WRONG, "another ciphertext");
    }
    return vector_compared(kbs_span(tag, sizeof(tag)), v->tag);
}

static struct vector_answer software_jwe(const struct vector_jwe *v)
{
    KBS_AUTO_SECRET plain = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    /* Borrowed for the call: kbs_guest_open_jwe() changes no key. */
    struct kbs_guest_key guest = {.public_key = v->public_key,
                                  .ec = (struct kbs_agree_key *)(uintptr_t)v->ec,
                                  .rsa = (struct kbs_agree_rsa *)(uintptr_t)v->rsa};

    if (kbs_guest_open_jwe(&guest, v->text, &plain, &err) == 0) {
        return vector_compared(kbs_secret_span(plain), v->plain);
    }
    /* Reading is KBS_INPUT, with one exception: a point off its curve. Opening is the other. */
    return failed(err.category == KBS_INPUT, &err);
}

const struct vector_side vector_software = {.name = "software",
                                            .unwrap = software_unwrap,
                                            .hkdf = software_hkdf,
                                            .ecdh = software_ecdh,
                                            .agreed = software_agreed,
                                            .oaep = software_oaep,
                                            .gcm = software_gcm,
                                            .jwe = software_jwe};
