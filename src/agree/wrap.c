/*
 * AES Key Wrap and the key check values.
 *
 * OpenSSL's EVP interface to RFC 3394 is a stream cipher in shape only: it takes the whole input in
 * one update, returns success and zero bytes for an empty input, and with it an "authenticated"
 * empty key. So every length is checked here first, and the number of bytes it says it wrote is
 * checked afterwards. RFC 3394 itself allows keys from 16 bytes up; our bounds are those of keys
 * that can be released.
 *
 * A wrong kek and damaged ciphertext give the same error: nothing else can be told apart anyway.
 */
#define OPENSSL_NO_DEPRECATED
#include "agree/agree.h"

#include <stdio.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "base/digest.h"

#define CMAC_BYTES 16
#define KEK_BYTES 32
#define BLOCK_BYTES 8 /* one semiblock: the unit of RFC 3394, and what wrapping adds */
#define KCV_BYTES 4

static bool key_length_ok(size_t len)
{
    return len >= KBS_LIMIT_KEY_BYTES_MIN && len <= KBS_LIMIT_KEY_BYTES_MAX &&
           len % BLOCK_BYTES == 0;
}

/* One run of the cipher. 0 and the output's length, or -1 with OpenSSL's errors queued. */
static int run(bool encrypt, struct kbs_span kek, struct kbs_span in, uint8_t *out, size_t *ret_len)
{
    EVP_CIPHER *cipher = NULL;
    EVP_CIPHER_CTX *ctx = NULL;
    int n = 0;
    int last = 0;
    int rc = -1;

    ERR_clear_error();
    cipher = EVP_CIPHER_fetch(NULL, "AES-256-WRAP", NULL);
    ctx = EVP_CIPHER_CTX_new();
    if (cipher == NULL || ctx == NULL) {
        goto out;
    }
    EVP_CIPHER_CTX_set_flags(ctx, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    if (EVP_CipherInit_ex2(ctx, cipher, kek.p, NULL, encrypt ? 1 : 0, NULL) != 1 ||
        EVP_CipherUpdate(ctx, out, &n, in.p, (int)in.len) != 1 || n <= 0 ||
        EVP_CipherFinal_ex(ctx, out + n, &last) != 1 || last != 0) {
        goto out;
    }
    *ret_len = (size_t)n;
    rc = 0;

out:
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return rc;
}

int kbs_agree_wrap(struct kbs_span kek, struct kbs_span key, uint8_t *out, size_t *ret_len,
                   struct kbs_error *err)
{
    size_t len = 0;

    *ret_len = 0;
    if (kek.len != KEK_BYTES) {
        return kbs_fail(err, KBS_INTERNAL, "a wrapping key of %zu bytes", kek.len);
    }
    if (!key_length_ok(key.len)) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "AES-KW of a key of %zu bytes", key.len);
    }
    if (run(true, kek, key, out, &len) < 0) {
        return kbs_fail_openssl(err, KBS_INTERNAL, "AES-KW wrap");
    }
    if (len != key.len + BLOCK_BYTES) {
        return kbs_fail(err, KBS_INTERNAL, "AES-KW wrapped %zu bytes to %zu", key.len, len);
    }
    *ret_len = len;
    return 0;
}

int kbs_agree_unwrap(struct kbs_span kek, struct kbs_span wrapped, struct kbs_secret **ret_key,
                     struct kbs_error *err)
{
    struct kbs_secret *key = NULL;
    size_t len = 0;

    *ret_key = NULL;
    if (kek.len != KEK_BYTES) {
        return kbs_fail(err, KBS_INTERNAL, "a wrapping key of %zu bytes", kek.len);
    }
    if (wrapped.len < BLOCK_BYTES || !key_length_ok(wrapped.len - BLOCK_BYTES)) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "a wrapped key of %zu bytes", wrapped.len);
    }
    /* As long as the input: OpenSSL asks for that much room although it writes eight bytes less. */
    if (kbs_secret_new(wrapped.len, &key, err) < 0) {
        return -1;
    }
    if (run(false, kek, wrapped, kbs_secret_bytes(key), &len) < 0) {
        kbs_secret_free(key);
        return kbs_fail_openssl(err, KBS_UNPROCESSABLE,
                                "the wrapped key fails its integrity check");
    }
    if (len != wrapped.len - BLOCK_BYTES) {
        kbs_secret_free(key);
        return kbs_fail(err, KBS_INTERNAL, "AES-KW unwrapped %zu bytes to %zu", wrapped.len, len);
    }
    kbs_secret_truncate(key, len);
    *ret_key = key;
    return 0;
}

void kbs_agree_kcv(struct kbs_span key, uint8_t ret[KCV_BYTES])
{
    uint8_t mac[KBS_SHA256_BYTES];

    kbs_hmac_sha256(key, KBS_SPAN_LIT("kbs-kcv"), mac);
    memcpy(ret, mac, KCV_BYTES);
    kbs_cleanse(mac, sizeof(mac));
}

int kbs_agree_kcv_cmac(struct kbs_span key, uint8_t ret[KCV_BYTES], struct kbs_error *err)
{
    static const uint8_t text[] = {'k', 'b', 's', '-', 'k', 'c', 'v'};
    char cipher[] = "AES-128-CBC";
    OSSL_PARAM params[2] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0),
                            OSSL_PARAM_construct_end()};
    uint8_t mac[CMAC_BYTES];
    size_t len = 0;
    EVP_MAC *fetched;
    EVP_MAC_CTX *ctx;
    int ok;

    if (key.len != 16 && key.len != 24 && key.len != 32) {
        return kbs_fail(err, KBS_INPUT, "AES-CMAC with a key of %zu bytes", key.len);
    }
    (void)snprintf(cipher, sizeof(cipher), "AES-%zu-CBC", 8 * key.len);
    ERR_clear_error();
    fetched = EVP_MAC_fetch(NULL, "CMAC", NULL);
    ctx = EVP_MAC_CTX_new(fetched); /* NULL for a NULL fetched */
    ok = ctx != NULL && EVP_MAC_init(ctx, key.p, key.len, params) == 1 &&
         EVP_MAC_update(ctx, text, sizeof(text)) == 1 &&
         EVP_MAC_final(ctx, mac, &len, sizeof(mac)) == 1 && len == sizeof(mac);
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(fetched);
    if (!ok) {
        return kbs_fail_openssl(err, KBS_INTERNAL, "AES-CMAC");
    }
    memcpy(ret, mac, KCV_BYTES);
    kbs_cleanse(mac, sizeof(mac));
    return 0;
}
