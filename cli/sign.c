/*
 * src/agree holds key-agreement keys and does not sign; the administrator's key only signs. It is
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

#define SCALAR_BYTES 32

struct kbs_cli_signer {
    EVP_PKEY *pkey;
    char thumbprint[44]; /* RFC 7638 */
};

int kbs_cli_signer_from_pem(struct kbs_span pem, struct kbs_cli_signer **ret, struct kbs_error *err)
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
    if (kbs_agree_key_public(checked)->curve != KBS_CURVE_P256) {
        (void)kbs_fail(err, KBS_INPUT, "the administrator's key must be on P-256");
        goto fail;
    }
    bio = BIO_new_mem_buf(pem.p, (int)pem.len);
    s->pkey = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    if (s->pkey == NULL) {
        (void)kbs_fail_openssl(err, KBS_INPUT, "the administrator's key cannot be read");
        goto fail;
    }
    kbs_jose_thumbprint(kbs_agree_key_public(checked), s->thumbprint);
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

struct kbs_cli_signer *kbs_cli_signer_free(struct kbs_cli_signer *s)
{
    if (s != NULL) {
        EVP_PKEY_free(s->pkey);
    }
    free(s);
    return NULL;
}

/* ECDSA-Sig-Value (RFC 3279 section 2.2.3) to r || s. */
static bool der_to_raw(const uint8_t *der, size_t len, uint8_t raw[2 * SCALAR_BYTES])
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)len);
    bool ok = sig != NULL &&
              BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, SCALAR_BYTES) == SCALAR_BYTES &&
              BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + SCALAR_BYTES, SCALAR_BYTES) == SCALAR_BYTES;
    ECDSA_SIG_free(sig);
    return ok;
}

static int sign(const struct kbs_cli_signer *s, struct kbs_span input,
                uint8_t raw[2 * SCALAR_BYTES], struct kbs_error *err)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t der[128];
    size_t len = sizeof(der);
    bool ok = md != NULL && EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, s->pkey) == 1 &&
              EVP_DigestSign(md, der, &len, input.p, input.len) == 1 && der_to_raw(der, len, raw);

    EVP_MD_CTX_free(md);
    if (!ok) {
        return kbs_fail_openssl(err, KBS_INTERNAL, "the request cannot be signed");
    }
    return 0;
}

int kbs_cli_signer_jws(const struct kbs_cli_signer *s, const char *typ, struct kbs_span payload,
                       struct kbs_buf *out, struct kbs_error *err)
{
    struct kbs_buf input = KBS_BUF(KBS_LIMIT_HTTP_HEAD_BYTES);
    uint8_t raw[2 * SCALAR_BYTES];
    int r = -1;

    kbs_jose_jws_input_put(&input, "ES256", s->thumbprint, typ, payload);
    if (kbs_buf_check(&input, "the signed request", err) != 0 ||
        sign(s, kbs_buf_span(&input), raw, err) != 0) {
        goto out;
    }
    kbs_buf_put_span(out, kbs_buf_span(&input));
    kbs_jose_jws_signature_put(out, kbs_span(raw, sizeof(raw)));
    r = kbs_buf_check(out, "the signed request", err);
out:
    kbs_buf_deinit(&input);
    return r;
}
