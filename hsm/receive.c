/*
 * One road per purpose. What is addressed to a key of the service was wrapped under a key derived
 * with apu "kbs-<purpose>-v1", and here the purpose that is looked up is the purpose that is
 * derived with: a blob of another road derives another key and does not open, even if both roads
 * had the same EC key. apv is the caller's, and names what the blob is for (a kid).
 *
 * Codes of a failed unwrap that may be about the bytes (classes BYTES and AMBIGUOUS of hsm/ckr.c)
 * are settled by a self-test. Those that say that this folder asked for something the token does
 * not do, or that the token is full or gone, never are.
 */
#include "hsm/receive.h"

#include "agree/agree.h"
#include "base/random.h"
#include "hsm/ckr.h"
#include "hsm/kcv.h"
#include "hsm/service.h"

#define RECEIVE_INFO_MAX_BYTES 1024u
#define RECEIVE_PARTY_U_MAX_BYTES 64u

int kbs_receive_epk(struct kbs_span x, struct kbs_span y, struct kbs_ec_public *ret,
                    struct kbs_error *err)
{
    size_t len = kbs_curve_field_bytes(KBS_CURVE_P256);

    if (x.len != len || y.len != len) {
        return kbs_fail(err, KBS_INPUT, "epk is not a P-256 key");
    }
    ret->curve = KBS_CURVE_P256;
    memcpy(ret->x, x.p, len);
    memcpy(ret->y, y.p, len);
    return kbs_ec_public_check(ret, err);
}

/* The KDF context of something addressed to a key of that purpose. */
static int receive_info_put(struct kbs_buf *out, const struct kbs_received *from,
                            struct kbs_error *err)
{
    struct kbs_buf party_u = KBS_BUF(RECEIVE_PARTY_U_MAX_BYTES);
    struct kbs_recipient_order as = {
        .format = from->format, .kid = from->kid, .party_v = from->party_v};

    kbs_buf_printf(&party_u, "kbs-%s-v1", kbs_purpose_name(from->purpose));
    as.party_u = kbs_buf_span(&party_u);
    kbs_recipient_info_put(out, &as);
    out->failed = out->failed || party_u.failed;
    kbs_buf_deinit(&party_u);
    return kbs_buf_check(out, "the KDF context", err);
}

int kbs_receive_kek_by(struct kbs_scratch *s, const struct kbs_ladder *ladder,
                       const struct kbs_received *from, enum kbs_locality floor,
                       CK_OBJECT_HANDLE *ret, struct kbs_ladder_choice *used, struct kbs_error *err)
{
    const uint8_t format = (uint8_t)from->format;
    const struct kbs_tee_key peer = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = *from->epk};
    struct kbs_buf info = KBS_BUF(RECEIVE_INFO_MAX_BYTES);
    struct kbs_derive_input in = {.private_key = from->private_key,
                                  .peer = from->epk,
                                  .salt = from->salt,
                                  .usage = KBS_USAGE_UNWRAP};
    struct kbs_ladder_choice choice;
    int rc = -1;

    if (receive_info_put(&info, from, err) == 0 &&
        kbs_ladder_choose(ladder, kbs_span(&format, 1), &peer, KBS_LIMIT_KEY_BYTES_MIN, floor,
                          &choice, err) == 0) {
        in.info = kbs_buf_span(&info);
        rc = choice.rung->derive[from->format](s, &in, ret, err);
    }
    if (rc == 0 && used != NULL) {
        *used = choice;
    }
    kbs_buf_deinit(&info);
    return rc;
}

int kbs_receive_kek(struct kbs_scratch *s, const struct kbs_ladder *ladder,
                    enum kbs_purpose purpose, uint32_t version, const struct kbs_ec_public *epk,
                    struct kbs_span apv, enum kbs_locality floor, CK_OBJECT_HANDLE *ret,
                    struct kbs_ladder_choice *used, struct kbs_error *err)
{
    struct kbs_received from = {
        .purpose = purpose, .format = KBS_FORMAT_JOSE, .epk = epk, .party_v = apv};

    return kbs_service_find(s->token, CKO_PRIVATE_KEY, purpose, version, &from.private_key, err) ==
                   0
               ? kbs_receive_kek_by(s, ladder, &from, floor, ret, used, err)
               : -1;
}

int kbs_receive_failed(struct kbs_token *t, const char *what, struct kbs_error *err)
{
    enum kbs_ckr_class class = kbs_ckr_class(err, t->quirk);
    struct kbs_error selftest = KBS_ERROR_NONE;
    CK_RV rv = kbs_ckr_of(err);

    if ((class != KBS_CKR_BYTES && class != KBS_CKR_AMBIGUOUS) ||
        kbs_token_selftest(t, &selftest) != 0) {
        return -1; /* whoever serves looks once more whether the token is still there */
    }
    return kbs_error_set(err, KBS_UNPROCESSABLE, KBS_ORIGIN_CKR, (int64_t)rv, err->func, __LINE__,
                         "%s does not open (%s)", what, kbs_ckr_name(rv));
}

/* ---- the halves of a pair ---- */

#define PROVE_APV KBS_SPAN_LIT("proof")

/* Random bytes wrapped to `point` as a client wraps. */
static int prove_wrap(enum kbs_purpose purpose, const struct kbs_ec_public *point,
                      struct kbs_ec_public *ret_epk, uint8_t wrapped[KBS_WRAPPED_MAX_BYTES],
                      size_t *ret_len, struct kbs_error *err)
{
    struct kbs_agree_key *ephemeral = NULL;
    const struct kbs_received to = {
        .purpose = purpose, .format = KBS_FORMAT_JOSE, .party_v = PROVE_APV};
    struct kbs_buf info = KBS_BUF(RECEIVE_INFO_MAX_BYTES);
    uint8_t value[KBS_DERIVE_KEK_BYTES];
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;
    int rc = -1;

    kbs_random(value, sizeof(value));
    if (receive_info_put(&info, &to, err) == 0 &&
        kbs_agree_key_generate(KBS_CURVE_P256, &ephemeral, err) == 0 &&
        kbs_agree_ecdh(ephemeral, point, &z, err) == 0 &&
        kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), &kek, err) == 0) {
        *ret_epk = *kbs_agree_key_public(ephemeral);
        rc = kbs_agree_wrap(kbs_secret_span(kek), kbs_span(value, sizeof(value)), wrapped, ret_len,
                            err);
    }
    (void)kbs_agree_key_free(ephemeral);
    kbs_buf_deinit(&info);
    return rc;
}

int kbs_receive_prove(struct kbs_token *t, const struct kbs_ladder *ladder,
                      enum kbs_purpose purpose, uint32_t version, const struct kbs_ec_public *point,
                      bool *ret_proven, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    struct kbs_template key = {.n = 0};
    struct kbs_ec_public epk;
    uint8_t wrapped[KBS_WRAPPED_MAX_BYTES];
    size_t wrapped_len = 0;
    CK_OBJECT_HANDLE kek = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE unwrapped = CK_INVALID_HANDLE;

    *ret_proven = false;
    kbs_template_secret_key(&key, CKK_AES, false, false, KBS_USAGE_WRAP);
    if (prove_wrap(purpose, point, &epk, wrapped, &wrapped_len, err) != 0 ||
        kbs_receive_kek(&scratch, ladder, purpose, version, &epk, PROVE_APV, KBS_LOCALITY_WORKER,
                        &kek, NULL, err) != 0) {
        return -1;
    }
    *ret_proven = kbs_scratch_unwrap(&scratch, kek, kbs_span(wrapped, wrapped_len), &key,
                                     &unwrapped, err) == 0;
    if (!*ret_proven) {
        (void)kbs_receive_failed(t, "what was wrapped to a public key of the token", err);
        if (err->category != KBS_UNPROCESSABLE) {
            return -1;
        }
        *err = KBS_ERROR_NONE;
    }
    return 0;
}
