/* See maker.h. */
#include "maker.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/encoding.h"

#define RSA_BITS 2048
#define SIGNATURE_MAX 512

static const char *group_of(const char *alg)
{
    return strcmp(alg, "ES256") == 0 ? "P-256" : strcmp(alg, "ES384") == 0 ? "P-384" : "P-521";
}

static size_t field_of(const struct maker *m)
{
    return ((size_t)EVP_PKEY_get_bits(m->pkey) + 7) / 8;
}

struct maker maker_new(const char *alg)
{
    struct maker m = {.alg = alg};

    if (strcmp(alg, "EdDSA") == 0) {
        m.pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    } else if (alg[0] == 'E') {
        m.pkey = EVP_EC_gen(group_of(alg));
    } else {
        m.pkey = EVP_RSA_gen(RSA_BITS);
    }
    assert_non_null(m.pkey);
    return m;
}

void maker_free(struct maker *m)
{
    EVP_PKEY_free(m->pkey);
    m->pkey = NULL;
}

struct maker maker_as(const struct maker *m, const char *alg)
{
    return (struct maker){.pkey = m->pkey, .alg = alg};
}

void maker_pem(const struct maker *m, struct kbs_buf *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;

    assert_non_null(bio);
    assert_int_equal(PEM_write_bio_PUBKEY(bio, m->pkey), 1);
    long n = BIO_get_mem_data(bio, &text);
    kbs_buf_put(out, text, (size_t)n);
    assert_false(out->failed);
    BIO_free(bio);
}

/* ,"name":"base64url of the number", of so many bytes (0: as few as there are) */
static void number_put(const struct maker *m, const char *name, const char *param, size_t bytes,
                       struct kbs_buf *out)
{
    BIGNUM *n = NULL;
    uint8_t raw[SIGNATURE_MAX];

    assert_int_equal(EVP_PKEY_get_bn_param(m->pkey, param, &n), 1);
    bytes = bytes != 0 ? bytes : (size_t)BN_num_bytes(n);
    assert_int_equal(BN_bn2binpad(n, raw, (int)bytes), (int)bytes);
    BN_free(n);
    kbs_buf_printf(out, ",\"%s\":\"", name);
    kbs_base64url_put(out, kbs_span(raw, bytes));
    kbs_buf_put_u8(out, '"');
}

void maker_jwk(const struct maker *m, const char *alg, const char *kid, const char *more,
               struct kbs_buf *out)
{
    if (EVP_PKEY_is_a(m->pkey, "EC")) {
        kbs_buf_printf(out, "{\"kty\":\"EC\",\"crv\":\"P-%d\"", EVP_PKEY_get_bits(m->pkey));
        number_put(m, "x", OSSL_PKEY_PARAM_EC_PUB_X, field_of(m), out);
        number_put(m, "y", OSSL_PKEY_PARAM_EC_PUB_Y, field_of(m), out);
    } else if (EVP_PKEY_is_a(m->pkey, "RSA")) {
        kbs_buf_put_str(out, "{\"kty\":\"RSA\"");
        number_put(m, "n", OSSL_PKEY_PARAM_RSA_N, 0, out);
        number_put(m, "e", OSSL_PKEY_PARAM_RSA_E, 0, out);
    } else {
        uint8_t raw[32];
        size_t n = sizeof(raw);

        assert_int_equal(EVP_PKEY_get_raw_public_key(m->pkey, raw, &n), 1);
        kbs_buf_put_str(out, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"");
        kbs_base64url_put(out, kbs_span(raw, n));
        kbs_buf_put_u8(out, '"');
    }
    if (alg != NULL) {
        kbs_buf_printf(out, ",\"alg\":\"%s\"", alg);
    }
    if (kid != NULL) {
        kbs_buf_printf(out, ",\"kid\":\"%s\"", kid);
    }
    kbs_buf_put_str(out, more != NULL ? more : "");
    kbs_buf_put_u8(out, '}');
    assert_false(out->failed);
}

static const EVP_MD *digest_of(const char *alg)
{
    if (strcmp(alg, "EdDSA") == 0) {
        return NULL;
    }
    return strcmp(alg + 2, "256") == 0   ? EVP_sha256()
           : strcmp(alg + 2, "384") == 0 ? EVP_sha384()
                                         : EVP_sha512();
}

/* r || s (RFC 7518 section 3.4) */
static void ecdsa_put(const struct maker *m, const uint8_t *der, size_t len, struct kbs_buf *out)
{
    const uint8_t *p = der;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)len);
    uint8_t raw[SIGNATURE_MAX];
    size_t field = field_of(m);

    assert_non_null(sig);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, (int)field), (int)field);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + field, (int)field), (int)field);
    ECDSA_SIG_free(sig);
    kbs_buf_put(out, raw, 2 * field);
}

void maker_sign(const struct maker *m, struct kbs_span input, struct kbs_buf *out)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;
    uint8_t raw[SIGNATURE_MAX];
    size_t len = sizeof(raw);

    assert_non_null(ctx);
    assert_int_equal(EVP_DigestSignInit(ctx, &pctx, digest_of(m->alg), NULL, m->pkey), 1);
    if (m->alg[0] == 'P') {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST), 1);
    }
    assert_int_equal(EVP_DigestSign(ctx, raw, &len, input.p, input.len), 1);
    EVP_MD_CTX_free(ctx);
    if (EVP_PKEY_is_a(m->pkey, "EC")) {
        ecdsa_put(m, raw, len, out);
    } else {
        kbs_buf_put(out, raw, len);
    }
    assert_false(out->failed);
}

static void input_put(const char *header, const char *payload, struct kbs_buf *out)
{
    kbs_base64url_put(out, kbs_span_str(header));
    kbs_buf_put_u8(out, '.');
    kbs_base64url_put(out, kbs_span_str(payload));
    assert_false(out->failed);
}

void maker_jws(const struct maker *m, const char *header, const char *payload, struct kbs_buf *out)
{
    struct kbs_buf signature = KBS_BUF(SIGNATURE_MAX);
    size_t begin = out->len;
    char own[64];

    (void)snprintf(own, sizeof(own), "{\"alg\":\"%s\"}", m->alg);
    input_put(header != NULL ? header : own, payload, out);
    maker_sign(m, kbs_span_skip(kbs_buf_span(out), begin), &signature);
    kbs_buf_put_u8(out, '.');
    kbs_base64url_put(out, kbs_buf_span(&signature));
    assert_false(out->failed);
    kbs_buf_deinit(&signature);
}

void maker_hs256(struct kbs_span secret, const char *header, const char *payload,
                 struct kbs_buf *out)
{
    size_t begin = out->len;
    uint8_t mac[KBS_SHA256_BYTES];

    input_put(header, payload, out);
    kbs_hmac_sha256(secret, kbs_span_skip(kbs_buf_span(out), begin), mac);
    kbs_buf_put_u8(out, '.');
    kbs_base64url_put(out, kbs_span(mac, sizeof(mac)));
    assert_false(out->failed);
}
