/*
 * The key-encrypting key is derived in the token, the content key is unwrapped to a session object that can decrypt
 * and do nothing else, and AES-GCM runs in the token; where it has none, the content key comes out instead, and the
 * content, which is going to be here a moment later, is decrypted by OpenSSL. What is authenticated beside the content
 * is printed anew from the parts of the header, never read.
 */
#include "hsm/opening.h"

#include "hsm/ckr.h"
#include "hsm/keys.h"
#include "hsm/receive.h"

#define AAD_MAX_BYTES 2048u

/* The content key as a session object: to decrypt with, or to be given out. */
static int opening_cek(struct kbs_scratch *s, const struct kbs_ladder *ladder,
                       const struct kbs_opening *o, CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    const struct kbs_sealed *sealed = o->sealed;
    struct kbs_template cek = {.n = 0};
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
    const struct kbs_received from = {.purpose = o->purpose,
                                      .format = KBS_FORMAT_JOSE,
                                      .private_key = o->private_key,
                                      .epk = &sealed->epk,
                                      .party_v = o->apv};

    if (kbs_receive_kek_by(s, ladder, &from, KBS_LOCALITY_WORKER, &kek, NULL, err) != 0) {
        return -1;
    }
    kbs_template_secret_key(&cek, CKK_AES, false, !o->in_token,
                            o->in_token ? KBS_USAGE_DECRYPT : KBS_USAGE_NONE);
    if (kbs_scratch_unwrap(s, kek, kbs_span(sealed->encrypted_key, sizeof(sealed->encrypted_key)),
                           &cek, ret, err) != 0) {
        return kbs_receive_failed(s->token,
                                  o->purpose == KBS_PURPOSE_REQUEST ? "the envelope's key"
                                                                    : "the sealed secret's key",
                                  err);
    }
    return 0;
}

int kbs_opening_decrypt(struct kbs_token *t, CK_OBJECT_HANDLE cek, const struct kbs_sealed *sealed,
                        struct kbs_span aad, struct kbs_secret *out, struct kbs_error *err)
{
    /* By position: the member names differ between the p11-kit versions of Debian 12 and 13. */
    CK_GCM_PARAMS params = {kbs_p11_in(sealed->iv),
                            sizeof(sealed->iv),
                            8 * sizeof(sealed->iv),
                            kbs_p11_in(aad.p),
                            aad.len,
                            8 * sizeof(sealed->tag)};
    CK_MECHANISM mech = {CKM_AES_GCM, &params, sizeof(params)};
    struct kbs_buf input = KBS_BUF(KBS_LIMIT_SECRET_VALUE_BYTES + sizeof(sealed->tag));
    CK_ULONG len = kbs_secret_len(out);
    const char *function = "C_DecryptInit";
    CK_RV rv;

    kbs_buf_put_span(&input, sealed->ciphertext);
    kbs_buf_put(&input, sealed->tag, sizeof(sealed->tag));
    if (kbs_buf_check(&input, "the ciphertext", err) != 0) {
        kbs_buf_deinit(&input);
        return -1;
    }
    rv = t->f->C_DecryptInit(t->session, &mech, cek);
    if (rv == CKR_OK) {
        function = "C_Decrypt";
        rv = t->f->C_Decrypt(t->session, input.p, input.len, kbs_secret_bytes(out), &len);
    }
    kbs_buf_deinit(&input);
    if (rv != CKR_OK) {
        (void)kbs_ckr_fail(err, rv, function, __LINE__);
        return kbs_receive_failed(t, "what was sealed", err);
    }
    if (len != sealed->ciphertext.len) {
        return kbs_fail(err, KBS_INTERNAL, "the token decrypted %zu bytes to %lu",
                        sealed->ciphertext.len, len);
    }
    kbs_secret_truncate(out, len);
    return 0;
}

/* The same by OpenSSL, with the content key in this process. */
static int decrypt_here(struct kbs_token *t, CK_OBJECT_HANDLE cek, const struct kbs_sealed *sealed,
                        struct kbs_span aad, struct kbs_secret *out, struct kbs_error *err)
{
    KBS_AUTO_SECRET key = NULL;

    if (kbs_worker_open(t, cek, &key, err) != 0 ||
        kbs_agree_gcm_open(kbs_secret_span(key), sealed->iv, aad, sealed->ciphertext, sealed->tag,
                           kbs_secret_bytes(out), err) != 0) {
        return -1;
    }
    kbs_secret_truncate(out, sealed->ciphertext.len);
    return 0;
}

int kbs_opening_run(struct kbs_token *t, const struct kbs_ladder *ladder,
                    const struct kbs_opening *o, struct kbs_secret **ret, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    KBS_AUTO_SECRET plain = NULL;
    struct kbs_buf aad = KBS_BUF(AAD_MAX_BYTES);
    CK_OBJECT_HANDLE cek = CK_INVALID_HANDLE;
    int rc = -1;

    kbs_seal_protected_put_for(&aad, o->purpose, &o->sealed->epk, o->apv, o->public_key);
    if (kbs_buf_check(&aad, "the protected header", err) == 0 &&
        kbs_secret_new(o->sealed->ciphertext.len + sizeof(o->sealed->tag), &plain, err) == 0 &&
        opening_cek(&scratch, ladder, o, &cek, err) == 0) {
        rc = o->in_token ? kbs_opening_decrypt(t, cek, o->sealed, kbs_buf_span(&aad), plain, err)
                         : decrypt_here(t, cek, o->sealed, kbs_buf_span(&aad), plain, err);
    }
    kbs_buf_deinit(&aad);
    if (rc == 0) {
        *ret = plain;
        plain = NULL;
    }
    return rc;
}
