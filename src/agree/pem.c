/*
 * Private keys on their way in and out. On the way out they go through the secure memory BIO. On
 * the way in PEM is decoded in OpenSSL's ordinary buffers, which it cleanses: only the command-line
 * tools and tests read keys from files, the service never does.
 */
#define OPENSSL_NO_DEPRECATED
#include "agree/pem.h"

#include "agree/agree.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

int kbs_agree_heap_check(struct kbs_error *err)
{
    if (!CRYPTO_secure_malloc_initialized()) {
        return kbs_fail(err, KBS_INTERNAL, "the secure heap is not set up");
    }
    return 0;
}

/* Encrypted PEM is refused instead of asking on the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

int kbs_agree_pem_read(struct kbs_span pem, EVP_PKEY **ret, struct kbs_error *err)
{
    BIO *bio;

    *ret = NULL;
    if (pem.len == 0 || pem.len > KBS_LIMIT_KEY_PEM_BYTES) {
        return kbs_fail(err, KBS_INPUT, "a private key in PEM is 1 to %d bytes",
                        KBS_LIMIT_KEY_PEM_BYTES);
    }
    if (kbs_agree_heap_check(err) < 0) {
        return -1;
    }
    ERR_clear_error();
    bio = BIO_new_mem_buf(pem.p, (int)pem.len);
    if (bio == NULL) {
        return kbs_fail_openssl(err, KBS_INTERNAL, "no memory to read PEM");
    }
    *ret = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    BIO_free(bio);
    if (*ret == NULL) {
        return kbs_fail_openssl(err, KBS_INPUT, "not an unencrypted private key in PEM");
    }
    return 0;
}

int kbs_agree_pem_write(const EVP_PKEY *key, struct kbs_secret **ret, struct kbs_error *err)
{
    BIO *bio;
    char *text = NULL;
    long len;
    int rc = -1;

    *ret = NULL;
    ERR_clear_error();
    bio = BIO_new(BIO_s_secmem());
    if (bio == NULL || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        (void)kbs_fail_openssl(err, KBS_INTERNAL, "writing a private key as PEM");
        goto out;
    }
    len = BIO_get_mem_data(bio, &text);
    if (len <= 0 || text == NULL) {
        (void)kbs_fail(err, KBS_INTERNAL, "an empty private key in PEM");
        goto out;
    }
    if (kbs_secret_new((size_t)len, ret, err) < 0) {
        goto out;
    }
    memcpy(kbs_secret_bytes(*ret), text, (size_t)len);
    rc = 0;

out:
    BIO_free(bio); /* clears its secure buffer */
    return rc;
}

int kbs_agree_pair_check(EVP_PKEY *key, struct kbs_error *err)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    int ok = ctx != NULL && EVP_PKEY_check(ctx) == 1;

    EVP_PKEY_CTX_free(ctx);
    if (!ok) {
        return kbs_fail_openssl(err, KBS_INPUT, "the private key is not a valid pair");
    }
    return 0;
}

int kbs_agree_public_to_pem(const struct kbs_tee_key *key, struct kbs_buf *out,
                            struct kbs_error *err)
{
    EVP_PKEY *pkey = key->alg == KBS_TEE_ALG_ECDH_ES_A256KW ? kbs_agree_ec_pkey(&key->ec)
                                                            : kbs_agree_rsa_pkey(&key->rsa);
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    int rc = -1;

    ERR_clear_error();
    if (pkey == NULL || bio == NULL || PEM_write_bio_PUBKEY(bio, pkey) != 1) {
        (void)kbs_fail_openssl(err, KBS_INTERNAL, "the public key cannot be written");
    } else {
        long len = BIO_get_mem_data(bio, &text);

        kbs_buf_put(out, text, (size_t)len);
        rc = kbs_buf_check(out, "the public key", err);
    }
    BIO_free(bio);
    EVP_PKEY_free(pkey);
    return rc;
}
