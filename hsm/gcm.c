/*
 * GCM-wrap: a flattened JWE whose payload is the released key, without the key leaving the token.
 * The content key is a fresh session key; it goes to the TEE by a rung that passed for TEE keys of
 * that kind, and then wraps the released key by CKM_AES_GCM, which makes exactly what JWE's A256GCM
 * wants: ciphertext and tag over the key's bytes, the header as additional data.
 *
 * The content key must be extractable (it goes to the TEE) and able to wrap, the one key here that
 * is both. It lives for this one operation and never encrypts anything else, so the random iv
 * cannot repeat under it.
 */
#include "base/random.h"
#include "hsm/jwe.h"
#include "hsm/rung.h"

#define GCM_CEK_BYTES 32u
#define GCM_PROTECTED_MAX_BYTES 1024u

static int gcm_cek(struct kbs_scratch *s, CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    struct kbs_template key = {.n = 0};

    kbs_template_secret_key(&key, CKK_AES, false, true, KBS_USAGE_WRAP);
    kbs_template_number(&key, CKA_VALUE_LEN, GCM_CEK_BYTES);
    return kbs_scratch_generate(s, CKM_AES_KEY_GEN, &key, ret, err);
}

static int gcm_wrap(const struct kbs_token *t, CK_OBJECT_HANDLE cek, CK_OBJECT_HANDLE key,
                    struct kbs_span aad, struct kbs_recipient *ret, struct kbs_error *err)
{
    /* By position: the member names differ between p11-kit versions. */
    CK_GCM_PARAMS params = {ret->iv,           sizeof(ret->iv), 8 * sizeof(ret->iv),
                            kbs_p11_in(aad.p), aad.len,         8 * KBS_GCM_TAG_BYTES};
    CK_MECHANISM mech = {CKM_AES_GCM, &params, sizeof(params)};
    uint8_t out[KBS_LIMIT_KEY_BYTES_MAX + KBS_GCM_TAG_BYTES];
    size_t len = 0;

    if (kbs_object_wrap_by(t, &mech, cek, key, out, sizeof(out), &len, err) != 0) {
        return -1;
    }
    if (len <= KBS_GCM_TAG_BYTES) {
        return kbs_fail(err, KBS_INTERNAL, "the token wrapped a key to %zu bytes", len);
    }
    ret->ciphertext_len = len - KBS_GCM_TAG_BYTES;
    memcpy(ret->ciphertext, out, ret->ciphertext_len);
    memcpy(ret->tag, out + ret->ciphertext_len, KBS_GCM_TAG_BYTES);
    return 0;
}

int kbs_rung_gcm(struct kbs_token *t, const struct kbs_ladder_choice *choice,
                 const struct kbs_recipient_order *order, CK_OBJECT_HANDLE key,
                 struct kbs_recipient *ret, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_ladder_choice cek_choice = {.rung = choice->cek, .format = KBS_FORMAT_JOSE};
    struct kbs_recipient_order cek_order = {.format = KBS_FORMAT_JOSE, .tee = order->tee};
    struct kbs_buf aad = KBS_BUF(GCM_PROTECTED_MAX_BYTES);
    CK_OBJECT_HANDLE cek = CK_INVALID_HANDLE;
    int rc;

    if (gcm_cek(&scratch, &cek, err) != 0 ||
        cek_choice.rung->make(t, &cek_choice, &cek_order, cek, ret, err) != 0) {
        return -1;
    }
    kbs_random(ret->iv, sizeof(ret->iv));
    kbs_jwe_protected_put(&aad, order->tee->alg, ret);
    rc = kbs_buf_check(&aad, "the JWE's header", err);
    if (rc == 0) {
        rc = gcm_wrap(t, cek, key, kbs_buf_span(&aad), ret, err);
    }
    kbs_buf_deinit(&aad);
    return rc;
}
