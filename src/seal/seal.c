/*
 * The problem: an administrator's client and kbs-token have to agree on every byte of a sealed
 * secret, since the header is the AAD and the name of the secret is in the key derivation. The
 * approach: one file makes them for both. The content key is random and used once, so is the iv;
 * the ephemeral key is forgotten here, so nobody but the token can open what was made, its maker
 * included.
 *
 * What is kept is not the JWE but its parts at fixed places: nothing has to be parsed to be opened,
 * and each part has one encoding.
 *
 *   0 "KBSS"  4 layout  5 zeros  8 version of the seal key  12 epk  77 wrapped CEK  117 iv  129 tag
 *   145 ciphertext
 */
#include "seal/seal.h"

#include "base/random.h"
#include "jose/write/jose.h"

#define MAGIC "KBSS"
#define LAYOUT 1
#define OTHER_INFO_MAX_BYTES 512u
#define APU_MAX_BYTES 32u
#define PROTECTED_MAX_BYTES 2048u

static bool length_fits(size_t len)
{
    return len > 0 && len <= KBS_LIMIT_SECRET_VALUE_BYTES;
}

/* To whom, for what and for which one. */
struct addressee {
    enum kbs_purpose purpose;
    const struct kbs_ec_public *key;
    struct kbs_span apv;
};

/* The key-encrypting key of the pair (ephemeral key, the addressee's). Returns owned. */
static int seal_kek(const struct kbs_agree_key *ephemeral, const struct addressee *to,
                    struct kbs_secret **ret, struct kbs_error *err)
{
    struct kbs_buf info = KBS_BUF(OTHER_INFO_MAX_BYTES);
    struct kbs_buf apu = KBS_BUF(APU_MAX_BYTES);
    KBS_AUTO_SECRET z = NULL;
    int rc = -1;

    kbs_buf_printf(&apu, "kbs-%s-v1", kbs_purpose_name(to->purpose));
    kbs_jose_other_info_put(&info, kbs_buf_span(&apu), to->apv);
    if (kbs_buf_check(&apu, "apu", err) == 0 && kbs_buf_check(&info, "OtherInfo", err) == 0 &&
        kbs_agree_ecdh(ephemeral, to->key, &z, err) == 0) {
        rc = kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), ret, err);
    }
    kbs_buf_deinit(&apu);
    kbs_buf_deinit(&info);
    return rc;
}

/* Encrypts the content; the header, whose epk is known by now, is the AAD. */
static int seal_content(struct kbs_span cek, const struct addressee *to, struct kbs_span plain,
                        struct kbs_sealed *ret, struct kbs_buf *ciphertext, struct kbs_error *err)
{
    struct kbs_buf aad = KBS_BUF(PROTECTED_MAX_BYTES);
    uint8_t *out = kbs_buf_reserve(ciphertext, plain.len);
    int rc = -1;

    kbs_random(ret->iv, sizeof(ret->iv));
    kbs_seal_protected_put_for(&aad, to->purpose, &ret->epk, to->apv, to->key);
    if (kbs_buf_check(&aad, "the protected header", err) == 0 &&
        kbs_buf_check(ciphertext, "the ciphertext", err) == 0) {
        rc = kbs_agree_gcm_seal(cek, ret->iv, kbs_buf_span(&aad), plain, out, ret->tag, err);
    }
    if (rc == 0) {
        kbs_buf_commit(ciphertext, plain.len);
        ret->ciphertext = kbs_buf_span(ciphertext);
    }
    kbs_buf_deinit(&aad);
    return rc;
}

int kbs_seal_for(enum kbs_purpose purpose, const struct kbs_ec_public *key, struct kbs_span apv,
                 struct kbs_span plain, struct kbs_sealed *ret, struct kbs_buf *ciphertext,
                 struct kbs_error *err)
{
    const struct addressee to = {.purpose = purpose, .key = key, .apv = apv};
    struct kbs_agree_key *ephemeral = NULL;
    KBS_AUTO_SECRET kek = NULL;
    KBS_AUTO_SECRET cek = NULL;
    size_t wrapped_len = 0;
    int rc = -1;

    if (!length_fits(plain.len)) {
        return kbs_fail(err, KBS_INPUT, "what is sealed has 1 to %u bytes",
                        (unsigned int)KBS_LIMIT_SECRET_VALUE_BYTES);
    }
    if (kbs_secret_new(KBS_SEAL_CEK_BYTES, &cek, err) == 0 &&
        kbs_agree_key_generate(KBS_CURVE_P256, &ephemeral, err) == 0 &&
        seal_kek(ephemeral, &to, &kek, err) == 0) {
        kbs_random(kbs_secret_bytes(cek), KBS_SEAL_CEK_BYTES);
        ret->epk = *kbs_agree_key_public(ephemeral);
        if (kbs_agree_wrap(kbs_secret_span(kek), kbs_secret_span(cek), ret->encrypted_key,
                           &wrapped_len, err) == 0) {
            rc = seal_content(kbs_secret_span(cek), &to, plain, ret, ciphertext, err);
        }
    }
    (void)kbs_agree_key_free(ephemeral);
    return rc;
}

int kbs_seal(const struct kbs_ec_public *seal_key, struct kbs_span kid, struct kbs_span plain,
             struct kbs_sealed *ret, struct kbs_buf *ciphertext, struct kbs_error *err)
{
    return kbs_seal_for(KBS_PURPOSE_SEAL, seal_key, kid, plain, ret, ciphertext, err);
}

void kbs_seal_protected_put_for(struct kbs_buf *out, enum kbs_purpose purpose,
                                const struct kbs_ec_public *epk, struct kbs_span apv,
                                const struct kbs_ec_public *key)
{
    char thumbprint[44];

    kbs_jose_thumbprint(key, thumbprint);
    if (purpose == KBS_PURPOSE_REQUEST) {
        kbs_jose_request_protected_put(out, epk, apv, thumbprint);
    } else {
        kbs_jose_seal_protected_put(out, epk, apv, thumbprint);
    }
}

void kbs_seal_protected_put(struct kbs_buf *out, const struct kbs_ec_public *epk,
                            struct kbs_span kid, const struct kbs_ec_public *seal_key)
{
    kbs_seal_protected_put_for(out, KBS_PURPOSE_SEAL, epk, kid, seal_key);
}

void kbs_sealed_put(struct kbs_buf *out, const struct kbs_sealed *s)
{
    static const uint8_t zeros[3];
    uint8_t point[KBS_EC_POINT_MAX_BYTES];

    kbs_buf_put_str(out, MAGIC);
    kbs_buf_put_u8(out, LAYOUT);
    kbs_buf_put(out, zeros, sizeof(zeros));
    kbs_buf_put_be32(out, s->seal_version);
    kbs_buf_put(out, point, kbs_ec_point_put(&s->epk, point));
    kbs_buf_put(out, s->encrypted_key, sizeof(s->encrypted_key));
    kbs_buf_put(out, s->iv, sizeof(s->iv));
    kbs_buf_put(out, s->tag, sizeof(s->tag));
    kbs_buf_put_span(out, s->ciphertext);
}

static void read_exact(struct kbs_reader *r, uint8_t *out, size_t n)
{
    struct kbs_span s = kbs_read_bytes(r, n);

    if (s.len == n) {
        memcpy(out, s.p, n);
    }
}

int kbs_sealed_get(struct kbs_span bytes, struct kbs_sealed *ret, struct kbs_error *err)
{
    static const uint8_t head[] = {'K', 'B', 'S', 'S', LAYOUT, 0, 0, 0};
    struct kbs_reader r = kbs_reader(bytes);
    struct kbs_span start = kbs_read_bytes(&r, sizeof(head));
    struct kbs_span version = kbs_read_bytes(&r, 4);
    struct kbs_span point = kbs_read_bytes(&r, 1 + 2 * kbs_curve_field_bytes(KBS_CURVE_P256));

    memset(ret, 0, sizeof(*ret));
    read_exact(&r, ret->encrypted_key, sizeof(ret->encrypted_key));
    read_exact(&r, ret->iv, sizeof(ret->iv));
    read_exact(&r, ret->tag, sizeof(ret->tag));
    if (r.failed || !kbs_span_equal(start, kbs_span(head, sizeof(head))) ||
        !length_fits(r.rest.len)) {
        return kbs_fail(err, KBS_INPUT, "not a sealed secret of layout %d", LAYOUT);
    }
    for (size_t i = 0; i < version.len; i++) {
        ret->seal_version = ret->seal_version << 8 | version.p[i];
    }
    if (ret->seal_version == 0) {
        return kbs_fail(err, KBS_INPUT, "the sealed secret names no version of the seal key");
    }
    ret->ciphertext = r.rest;
    return kbs_ec_point_get(KBS_CURVE_P256, point, &ret->epk, err);
}
