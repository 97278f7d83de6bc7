/*
 * src/agree holds key-agreement keys and does not sign; an administrator's key, and a guest's, only sign. It is
 * read through src/agree once, for its checks (one named curve, public half belongs to the
 * private), and then kept as an EVP_PKEY. OpenSSL makes DER signatures, JOSE wants r || s.
 */
#include "cli/sign.h"

#include <openssl/bio.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdlib.h>

#include "agree/agree.h"
#include "jose/write/jose.h"

struct kbs_cli_signer {
    EVP_PKEY *pkey;
    struct kbs_ec_public public_key;
    char thumbprint[44]; /* RFC 7638 */
};

int kbs_cli_signer_of_any(struct kbs_span pem, struct kbs_cli_signer **ret, struct kbs_error *err)
{
    struct kbs_agree_key *checked = NULL;
    struct kbs_cli_signer *s = NULL;
    BIO *bio = NULL;

    if (kbs_agree_key_from_pem(pem, &checked, err) != 0) {
        return -1;
    }
    s = calloc(1, sizeof(*s));
    if (s == NULL) {
        (void)kbs_fail(err, KBS_INTERNAL, "out of memory");
        goto fail;
    }
    bio = BIO_new_mem_buf(pem.p, (int)pem.len);
    s->pkey = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    if (s->pkey == NULL) {
        (void)kbs_fail_openssl(err, KBS_INPUT, "the signing key cannot be read");
        goto fail;
    }
    s->public_key = *kbs_agree_key_public(checked);
    kbs_jose_thumbprint(&s->public_key, s->thumbprint);
    BIO_free(bio);
    (void)kbs_agree_key_free(checked);
    *ret = s;
    return 0;
fail:
    BIO_free(bio);
    (void)kbs_agree_key_free(checked);
    (void)kbs_cli_signer_free(s);
    return -1;
}

int kbs_cli_signer_from_pem(struct kbs_span pem, struct kbs_cli_signer **ret, struct kbs_error *err)
{
    struct kbs_cli_signer *s = NULL;

    if (kbs_cli_signer_of_any(pem, &s, err) != 0) {
        return -1;
    }
    if (s->public_key.curve != KBS_CURVE_P256) {
        (void)kbs_cli_signer_free(s);
        return kbs_fail(err, KBS_INPUT, "the administrator's key must be on P-256");
    }
    *ret = s;
    return 0;
}

const struct kbs_ec_public *kbs_cli_signer_public(const struct kbs_cli_signer *s)
{
    return &s->public_key;
}

struct kbs_cli_signer *kbs_cli_signer_free(struct kbs_cli_signer *s)
{
    if (s != NULL) {
        EVP_PKEY_free(s->pkey);
    }
    free(s);
    return NULL;
}

/* ECDSA-Sig-Value (RFC 3279 section 2.2.3) to r || s. */
static bool der_to_raw(const uint8_t *der, size_t len, uint8_t *raw, int field)
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)len);
    bool ok = sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, field) == field &&
              BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + field, field) == field;
    ECDSA_SIG_free(sig);
    return ok;
}

static const EVP_MD *hash_of(enum kbs_curve curve)
{
    return curve == KBS_CURVE_P256   ? EVP_sha256()
           : curve == KBS_CURVE_P384 ? EVP_sha384()
                                     : EVP_sha512();
}

static int sign(const struct kbs_cli_signer *s, struct kbs_span input, uint8_t *raw,
                struct kbs_error *err)
{
    enum kbs_curve curve = s->public_key.curve;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t der[KBS_ECDSA_MAX_BYTES + 16];
    size_t len = sizeof(der);
    bool ok = md != NULL && EVP_DigestSignInit(md, NULL, hash_of(curve), NULL, s->pkey) == 1 &&
              EVP_DigestSign(md, der, &len, input.p, input.len) == 1 &&
              der_to_raw(der, len, raw, (int)kbs_curve_field_bytes(curve));

    EVP_MD_CTX_free(md);
    if (!ok) {
        return kbs_fail_openssl(err, KBS_INTERNAL, "the request cannot be signed");
    }
    return 0;
}

int kbs_cli_signer_jws(const struct kbs_cli_signer *s, const char *typ, struct kbs_span payload,
                       struct kbs_buf *out, struct kbs_error *err)
{
    const char *alg = kbs_tee_alg_name(kbs_tee_alg_of_curve(s->public_key.curve));
    struct kbs_buf input = KBS_BUF(KBS_LIMIT_HTTP_HEAD_BYTES);
    uint8_t raw[KBS_ECDSA_MAX_BYTES];
    int r = -1;

    kbs_jose_jws_input_put(&input, alg, s->thumbprint, typ, payload);
    if (kbs_buf_check(&input, "the signed request", err) != 0 ||
        sign(s, kbs_buf_span(&input), raw, err) != 0) {
        goto out;
    }
    kbs_buf_put_span(out, kbs_buf_span(&input));
    kbs_jose_jws_signature_put(out, kbs_span(raw, 2 * kbs_curve_field_bytes(s->public_key.curve)));
    r = kbs_buf_check(out, "the signed request", err);
out:
    kbs_buf_deinit(&input);
    return r;
}
