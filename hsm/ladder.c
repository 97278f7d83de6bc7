/*
 * Mechanism lists lie in both directions: NSS does not name the concatenations that it does,
 * SoftHSM adds its flags to whatever the caller's struct held. So each rung is done once at
 * start, with the very function that serves releases and with inputs as long as they can get,
 * and its result is opened by OpenSSL: a rung that passes makes what a guest can open.
 *
 * Above that there is policy of one line: the highest locality first, within it the client's
 * order of formats, never below the key's floor. Rejected: probing on first use. A start that
 * takes some 100 ms longer and says what the token can do is worth more than the first guest's
 * latency.
 */
#include "hsm/ladder.h"

#include "agree/agree.h"
#include "hsm/ckr.h"
#include "hsm/kcv.h"

const struct kbs_rung kbs_rungs[KBS_RUNG_COUNT] = {
    {"COSE-HKDF", KBS_LOCALITY_TOKEN, {[KBS_FORMAT_COSE] = kbs_derive_cose_hkdf}},
    {"JOSE-chain", KBS_LOCALITY_TOKEN, {[KBS_FORMAT_JOSE] = kbs_derive_jose_chain}},
    {"transport",
     KBS_LOCALITY_TRANSPORT,
     {[KBS_FORMAT_JOSE] = kbs_derive_jose_transport,
      [KBS_FORMAT_COSE] = kbs_derive_cose_transport}},
};

static const enum kbs_curve ladder_curves[] = {KBS_CURVE_P256, KBS_CURVE_P384, KBS_CURVE_P521};

/* The other side, in software: opens a recipient with the TEE's private key. */
static int probe_open(const struct kbs_agree_key *tee, const struct kbs_recipient_order *order,
                      const struct kbs_recipient *r, struct kbs_secret **ret_key,
                      struct kbs_error *err)
{
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;
    struct kbs_buf info = KBS_BUF(4096);
    int rc;

    kbs_recipient_info_put(&info, order);
    rc = kbs_buf_check(&info, "the KDF context", err);
    if (rc == 0) {
        rc = kbs_agree_ecdh(tee, &r->epk, &z, err);
    }
    if (rc == 0 && order->format == KBS_FORMAT_JOSE) {
        rc = kbs_agree_concat_kdf(kbs_secret_span(z), kbs_buf_span(&info), &kek, err);
    } else if (rc == 0) {
        rc = kbs_agree_hkdf(kbs_secret_span(z), order->salt, kbs_buf_span(&info), &kek, err);
    }
    if (rc == 0) {
        rc = kbs_agree_unwrap(kbs_secret_span(kek), kbs_span(r->wrapped, r->wrapped_len), ret_key,
                              err);
    }
    kbs_buf_deinit(&info);
    return rc;
}

/* One cell: release the throw-away key and see whether what comes out is that key (by its check
 * value). */
static int probe_cell(struct kbs_token *t, const struct kbs_recipient_order *order,
                      const struct kbs_agree_key *tee, CK_OBJECT_HANDLE key,
                      const uint8_t kcv[KBS_KCV_BYTES], struct kbs_error *err)
{
    KBS_AUTO_SECRET opened = NULL;
    struct kbs_recipient recipient = {.wrapped_len = 0};
    uint8_t opened_kcv[KBS_KCV_BYTES];

    if (kbs_recipient_make(t, order, key, &recipient, err) != 0 ||
        probe_open(tee, order, &recipient, &opened, err) != 0) {
        return -1;
    }
    kbs_agree_kcv(kbs_secret_span(opened), opened_kcv);
    if (kbs_secret_len(opened) != KBS_KCV_KEY_BYTES ||
        memcmp(opened_kcv, kcv, KBS_KCV_BYTES) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the rung wraps something else than the key");
    }
    return 0;
}

/* All rungs and formats on one curve. -1 only for errors that end the worker. */
static int probe_curve(struct kbs_ladder *ladder, struct kbs_token *t, enum kbs_curve curve,
                       CK_OBJECT_HANDLE key, const uint8_t kcv[KBS_KCV_BYTES],
                       struct kbs_error *err)
{
    uint8_t longest_kid[KBS_LIMIT_KID_BYTES];
    uint8_t longest_salt[KBS_LIMIT_COSE_SALT_BYTES];
    uint8_t party_v[32] = {0};
    struct kbs_agree_key *tee = NULL;

    memset(longest_kid, 'k', sizeof(longest_kid));
    memset(longest_salt, 's', sizeof(longest_salt));
    if (kbs_agree_key_generate(curve, &tee, err) != 0) {
        return -1;
    }
    for (size_t rung = 0; rung < KBS_RUNG_COUNT; rung++) {
        for (unsigned int format = KBS_FORMAT_JOSE; format < KBS_FORMAT_COUNT; format++) {
            struct kbs_probe *probe = &ladder->probes[rung][format][curve];
            struct kbs_recipient_order order = {
                .format = (enum kbs_format)format,
                .derive = kbs_rungs[rung].derive[format],
                .tee = kbs_agree_key_public(tee),
                .kid = kbs_span(longest_kid, sizeof(longest_kid)),
                .party_u = kbs_span(longest_kid, sizeof(longest_kid)),
                .party_v = kbs_span(party_v, sizeof(party_v)),
                .salt = kbs_span(longest_salt, sizeof(longest_salt)),
            };

            *err = KBS_ERROR_NONE;
            if (order.derive == NULL) {
                continue;
            }
            probe->passed = probe_cell(t, &order, tee, key, kcv, err) == 0;
            probe->rv = kbs_ckr_of(err);
            probe->function = err->func;
            /* A limit met at start must not decide what this lane does for the rest of its life. */
            if (kbs_ckr_is_fatal(probe->rv) || err->category == KBS_BUSY) {
                (void)kbs_agree_key_free(tee);
                return -1;
            }
        }
    }
    *err = KBS_ERROR_NONE;
    (void)kbs_agree_key_free(tee);
    return 0;
}

int kbs_ladder_probe(struct kbs_ladder *ladder, struct kbs_token *t, struct kbs_error *err)
{
    KBS_AUTO_SCRATCH scratch = {.token = t};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    uint8_t kcv[KBS_KCV_BYTES];

    memset(ladder, 0, sizeof(*ladder));
    if (kbs_kcv_session_key(&scratch, &key, err) != 0 || kbs_kcv(t, key, kcv, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(ladder_curves) / sizeof(ladder_curves[0]); i++) {
        if (probe_curve(ladder, t, ladder_curves[i], key, kcv, err) != 0) {
            return -1;
        }
    }
    return 0;
}

bool kbs_ladder_passed(const struct kbs_ladder *ladder, size_t rung)
{
    for (size_t format = 0; format < KBS_FORMAT_COUNT; format++) {
        if (ladder->probes[rung][format][KBS_CURVE_P256].passed) {
            return true;
        }
    }
    return false;
}

/* "no rung for P-256 at locality token: JOSE needs JOSE-chain (C_DeriveKey: CKR_MECHANISM_INVALID)"
 * */
static int ladder_unsupported(const struct kbs_ladder *ladder, struct kbs_span formats,
                              enum kbs_curve curve, enum kbs_locality floor, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_ERROR_DETAIL_BYTES);
    const char *detail;

    kbs_buf_printf(&text, "no rung for %s at locality %s", kbs_curve_jose_name(curve),
                   kbs_locality_name(floor));
    for (size_t i = 0; i < formats.len; i++) {
        for (size_t rung = 0; rung < KBS_RUNG_COUNT; rung++) {
            const struct kbs_probe *probe = &ladder->probes[rung][formats.p[i]][curve];

            if (kbs_rungs[rung].derive[formats.p[i]] != NULL && kbs_rungs[rung].locality >= floor) {
                kbs_buf_printf(&text, "; %s (%s: %s)", kbs_rungs[rung].name,
                               probe->function != NULL ? probe->function : "probe",
                               probe->rv != CKR_OK ? kbs_ckr_name(probe->rv) : "wrong result");
            }
        }
    }
    detail = kbs_buf_cstr(&text); /* NULL if the list did not fit: then the short text has to do */
    if (detail != NULL) {
        (void)kbs_fail(err, KBS_UNSUPPORTED, "%s", detail);
    } else {
        (void)kbs_fail(err, KBS_UNSUPPORTED, "no rung for %s at locality %s",
                       kbs_curve_jose_name(curve), kbs_locality_name(floor));
    }
    kbs_buf_deinit(&text);
    return -1;
}

/* The first rung with exactly that locality which passed for the format and curve. */
static bool ladder_rung_at(const struct kbs_ladder *ladder, enum kbs_locality locality,
                           uint8_t format, enum kbs_curve curve, struct kbs_ladder_choice *ret)
{
    for (size_t rung = 0; rung < KBS_RUNG_COUNT; rung++) {
        if (kbs_rungs[rung].locality == locality && ladder->probes[rung][format][curve].passed) {
            ret->rung = &kbs_rungs[rung];
            ret->format = (enum kbs_format)format;
            return true;
        }
    }
    return false;
}

int kbs_ladder_choose(const struct kbs_ladder *ladder, struct kbs_span formats,
                      enum kbs_curve curve, enum kbs_locality floor, struct kbs_ladder_choice *ret,
                      struct kbs_error *err)
{
    if (formats.len == 0 || formats.len > KBS_FORMAT_COUNT) {
        return kbs_fail(err, KBS_INPUT, "the order names %zu formats", formats.len);
    }
    for (size_t i = 0; i < formats.len; i++) {
        if (formats.p[i] <= KBS_FORMAT_NONE || formats.p[i] >= KBS_FORMAT_COUNT) {
            return kbs_fail(err, KBS_INPUT, "the order names an unknown format");
        }
    }
    for (int locality = KBS_LOCALITY_TOKEN; locality >= (int)floor; locality--) {
        for (size_t i = 0; i < formats.len; i++) {
            if (ladder_rung_at(ladder, (enum kbs_locality)locality, formats.p[i], curve, ret)) {
                return 0;
            }
        }
    }
    return ladder_unsupported(ladder, formats, curve, floor, err);
}
