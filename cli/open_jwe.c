/*
 * Opening a resource. The KBS protocol's JWE has no party info and no name in it: that the secret
 * is the one that was asked for rests on TLS and on the service. Its header is closed and its
 * algorithm is the TEE key's own, so that no answer can choose a weaker one.
 */
#include "cli/open.h"
#include "jose/read/jwe.h"
#include "jose/write/jose.h"

/* The content key: wrapped under ECDH-ES with an empty context, or by RSA. */
static int cek_unwrap(const struct kbs_guest_key *tee_key, const struct kbs_jose_jwe_in *in,
                      struct kbs_secret **ret, struct kbs_error *err)
{
    struct kbs_buf info = KBS_BUF(128);
    KBS_AUTO_SECRET cek = NULL;
    int r = -1;

    if (in->alg == KBS_TEE_ALG_ECDH_ES_A256KW && in->epk.curve != tee_key->public_key.ec.curve) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "the answer is refused: epk is on another curve than the TEE key");
    }
    if (in->alg == KBS_TEE_ALG_RSA1_5) {
        return kbs_agree_rsa1_5_decrypt(tee_key->rsa, kbs_buf_span(&in->encrypted_key),
                                        KBS_JOSE_CEK_BYTES, ret, err);
    }
    kbs_jose_other_info_put(&info, KBS_SPAN_EMPTY, KBS_SPAN_EMPTY);
    if (kbs_buf_check(&info, "OtherInfo", err) == 0) {
        r = kbs_guest_key_unwrap(tee_key, &in->epk, kbs_buf_span(&info),
                                 kbs_buf_span(&in->encrypted_key), &cek, err);
    }
    kbs_buf_deinit(&info);
    if (r == 0 && kbs_secret_len(cek) != KBS_JOSE_CEK_BYTES) {
        r = kbs_fail(err, KBS_UNPROCESSABLE, "the answer is refused: its content key has %zu bytes",
                     kbs_secret_len(cek));
    }
    if (r == 0) {
        *ret = cek;
        cek = NULL;
    }
    return r;
}

static int content_open(const struct kbs_guest_key *tee_key, const struct kbs_jose_jwe_in *in,
                        struct kbs_secret **ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET cek = NULL;
    KBS_AUTO_SECRET plain = NULL;

    if (cek_unwrap(tee_key, in, &cek, err) != 0 ||
        kbs_secret_new(in->ciphertext.len, &plain, err) != 0 ||
        kbs_agree_gcm_open(kbs_secret_span(cek), in->iv, kbs_buf_span(&in->protected_text),
                           kbs_buf_span(&in->ciphertext), in->tag, kbs_secret_bytes(plain),
                           err) != 0) {
        return -1;
    }
    *ret = plain;
    plain = NULL;
    return 0;
}

int kbs_guest_open_jwe(const struct kbs_guest_key *tee_key, struct kbs_span answer,
                       struct kbs_secret **ret, struct kbs_error *err)
{
    struct kbs_jose_jwe_in in;
    KBS_AUTO_JSON v = NULL;
    int r;

    if (kbs_json_parse_object(answer, "answer", &v, err) != 0 ||
        kbs_jose_jwe_get(v, tee_key->public_key.alg, &in, err) != 0) {
        return -1;
    }
    r = content_open(tee_key, &in, ret, err);
    kbs_jose_jwe_in_deinit(&in);
    return r;
}
