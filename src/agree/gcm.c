/*
 * AES-256-GCM for JWE content (RFC 7518 section 5.3): a 96-bit iv, a 128-bit tag.
 *
 * Content may be longer than a secret can be (131072 bytes), so these work on the caller's memory.
 * What was decrypted before the tag was found wrong is cleansed: nothing unauthenticated is handed
 * out.
 */
#define OPENSSL_NO_DEPRECATED
#include "agree/agree.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#define CEK_BYTES 32

/* One run. When opening, `tag` is what must match. 0, or -1 with OpenSSL's errors queued. */
static int run(bool seal, struct kbs_span cek, const uint8_t *iv, struct kbs_span aad,
               struct kbs_span in, uint8_t *out, uint8_t *tag)
{
    EVP_CIPHER *cipher = NULL;
    EVP_CIPHER_CTX *ctx = NULL;
    uint8_t nothing[16]; /* GCM has no last block, yet Final wants a place for one */
    int n = 0;
    int rc = -1;

    ERR_clear_error();
    cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    ctx = EVP_CIPHER_CTX_new();
    if (cipher == NULL || ctx == NULL ||
        EVP_CipherInit_ex2(ctx, cipher, cek.p, iv, seal ? 1 : 0, NULL) != 1) {
        goto out;
    }
    if (aad.len > 0 && EVP_CipherUpdate(ctx, NULL, &n, aad.p, (int)aad.len) != 1) {
        goto out;
    }
    if (in.len > 0 &&
        (EVP_CipherUpdate(ctx, out, &n, in.p, (int)in.len) != 1 || (size_t)n != in.len)) {
        goto out;
    }
    if (!seal && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, KBS_GCM_TAG_BYTES, tag) != 1) {
        goto out;
    }
    if (EVP_CipherFinal_ex(ctx, nothing, &n) != 1) {
        goto out;
    }
    if (seal && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, KBS_GCM_TAG_BYTES, tag) != 1) {
        goto out;
    }
    rc = 0;

out:
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return rc;
}

static int check_sizes(struct kbs_span cek, struct kbs_span aad, struct kbs_span text,
                       struct kbs_error *err)
{
    if (cek.len != CEK_BYTES) {
        return kbs_fail(err, KBS_INTERNAL, "a content key of %zu bytes", cek.len);
    }
    if (aad.len > KBS_LIMIT_WIRE_BODY_BYTES || text.len > KBS_LIMIT_WIRE_BODY_BYTES) {
        return kbs_fail(err, KBS_TOO_LARGE, "content of %zu bytes", text.len);
    }
    return 0;
}

int kbs_agree_gcm_seal(struct kbs_span cek, const uint8_t iv[KBS_GCM_IV_BYTES], struct kbs_span aad,
                       struct kbs_span plain, uint8_t *out, uint8_t ret_tag[KBS_GCM_TAG_BYTES],
                       struct kbs_error *err)
{
    if (check_sizes(cek, aad, plain, err) < 0) {
        return -1;
    }
    if (run(true, cek, iv, aad, plain, out, ret_tag) < 0) {
        return kbs_fail_openssl(err, KBS_INTERNAL, "AES-GCM encryption");
    }
    return 0;
}

int kbs_agree_gcm_open(struct kbs_span cek, const uint8_t iv[KBS_GCM_IV_BYTES], struct kbs_span aad,
                       struct kbs_span ciphertext, const uint8_t tag[KBS_GCM_TAG_BYTES],
                       uint8_t *out, struct kbs_error *err)
{
    uint8_t wanted[KBS_GCM_TAG_BYTES]; /* OpenSSL's interface has no const for it */

    if (check_sizes(cek, aad, ciphertext, err) < 0) {
        return -1;
    }
    memcpy(wanted, tag, sizeof(wanted));
    if (run(false, cek, iv, aad, ciphertext, out, wanted) < 0) {
        kbs_cleanse(out, ciphertext.len);
        return kbs_fail_openssl(err, KBS_UNPROCESSABLE, "the content fails its integrity check");
    }
    return 0;
}
