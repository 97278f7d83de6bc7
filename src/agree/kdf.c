/*
 * From a shared secret to a key-encryption key: the one-step KDF of SP 800-56A as JOSE uses it, and
 * HKDF as COSE uses it, both with SHA-256 and 32 bytes of output.
 *
 * Both are OpenSSL's EVP_KDF. Written by hand over SHA-256 and HMAC each would be ten lines, but
 * those lines would be a second implementation to certify, and one that a FIPS provider does not
 * cover. OpenSSL copies the secret into the KDF context and cleanses that copy when the context is
 * freed.
 *
 * Empty inputs are left out instead of being passed as a zero-length parameter: RFC 5869 gives an
 * absent salt the same meaning, and OpenSSL has changed its mind about NULL pointers in parameters
 * before.
 */
#define OPENSSL_NO_DEPRECATED
#include "agree/agree.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#define KEK_BYTES 32
#define PARAMS_MAX 5 /* digest, secret, salt, info, end */

/* An input parameter. OSSL_PARAM has no const pointers because the same type carries outputs. */
static OSSL_PARAM octets(const char *key, struct kbs_span s)
{
    return OSSL_PARAM_construct_octet_string(key, (void *)(uintptr_t)s.p, s.len);
}

static int derive(const char *name, struct kbs_span z, struct kbs_span salt, struct kbs_span info,
                  struct kbs_secret **ret, struct kbs_error *err)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[PARAMS_MAX];
    size_t n = 0;
    EVP_KDF *kdf = NULL;
    EVP_KDF_CTX *ctx = NULL;
    int rc = -1;

    *ret = NULL;
    if (z.len == 0 || z.len > KBS_LIMIT_SECRET_BYTES) {
        return kbs_fail(err, KBS_INTERNAL, "a shared secret of %zu bytes", z.len);
    }
    if (kbs_secret_new(KEK_BYTES, ret, err) < 0) {
        return -1;
    }
    params[n++] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
    params[n++] = octets(OSSL_KDF_PARAM_KEY, z);
    if (salt.len > 0) {
        params[n++] = octets(OSSL_KDF_PARAM_SALT, salt);
    }
    if (info.len > 0) {
        params[n++] = octets(OSSL_KDF_PARAM_INFO, info);
    }
    params[n] = OSSL_PARAM_construct_end();

    ERR_clear_error();
    kdf = EVP_KDF_fetch(NULL, name, NULL);
    ctx = EVP_KDF_CTX_new(kdf); /* NULL for a NULL kdf */
    if (ctx == NULL || EVP_KDF_derive(ctx, kbs_secret_bytes(*ret), KEK_BYTES, params) != 1) {
        *ret = kbs_secret_free(*ret);
        (void)kbs_fail_openssl(err, KBS_INTERNAL, "key derivation with %s", name);
        goto out;
    }
    rc = 0;

out:
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return rc;
}

int kbs_agree_concat_kdf(struct kbs_span z, struct kbs_span other_info, struct kbs_secret **ret_kek,
                         struct kbs_error *err)
{
    return derive("SSKDF", z, KBS_SPAN_EMPTY, other_info, ret_kek, err);
}

int kbs_agree_hkdf(struct kbs_span z, struct kbs_span salt, struct kbs_span info,
                   struct kbs_secret **ret_kek, struct kbs_error *err)
{
    return derive("HKDF", z, salt, info, ret_kek, err);
}
