/*
 * JOSE and COSE each want one KDF between the shared secret Z and the wrapping key. With || for
 * concatenation:
 *
 *   COSE-HKDF   HKDF_DERIVE does extract and expand at once.
 *   JOSE-KDF    the KDF that PKCS#11 3.0 took from SP 800-56C: SHA-256(00000001 || Z || shared
 *               data) is JOSE's Concat KDF when the shared data is JOSE's OtherInfo. Luna has a
 *               number of its own for it (quirks.c). CKD_SHA256_KDF is another one (X9.63).
 *   JOSE-chain  the same digest from older parts: CONCATENATE_DATA_AND_BASE,
 *               CONCATENATE_BASE_AND_DATA, SHA256_KEY_DERIVATION, every step from key object to key
 *               object.
 *
 * Where there is none of these, see transport.c. Elsewhere Z is derived by CKD_NULL with its full
 * length: tokens disagree on which end to cut. Every object is read back when it is made
 * (object.c).
 */
#include "hsm/derive.h"

#include "base/digest.h"

static const uint8_t derive_counter_1[4] = {0, 0, 0, 1};

int kbs_derive_z(struct kbs_scratch *s, const struct kbs_derive_input *in, CK_OBJECT_HANDLE *ret,
                 struct kbs_error *err)
{
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    /* By position: the member names differ between the p11-kit versions of Debian 12 and 13. */
    CK_ECDH1_DERIVE_PARAMS params = {CKD_NULL, 0, NULL, kbs_ec_point_put(in->peer, point), point};
    CK_MECHANISM mech = {CKM_ECDH1_DERIVE, &params, sizeof(params)};
    struct kbs_template z = {.n = 0};

    kbs_template_secret_key(&z, CKK_GENERIC_SECRET, false, false, KBS_USAGE_DERIVE);
    kbs_template_number(&z, CKA_VALUE_LEN, kbs_curve_field_bytes(in->peer->curve));
    return kbs_scratch_derive(s, &mech, in->private_key, &z, ret, err);
}

static void derive_kek_template(struct kbs_template *t, unsigned int usage)
{
    kbs_template_secret_key(t, CKK_AES, false, false, usage);
    kbs_template_number(t, CKA_VALUE_LEN, KBS_DERIVE_KEK_BYTES);
}

int kbs_derive_cose_hkdf(struct kbs_scratch *s, const struct kbs_derive_input *in,
                         CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    /* No salt means 32 zero bytes (RFC 5869 section 2.2). They are given as data, so that releases
     * with and without salt are one road, which the probe has tried. */
    static const uint8_t zeros[KBS_SHA256_BYTES];
    struct kbs_span salt = in->salt.len > 0 ? in->salt : kbs_span(zeros, sizeof(zeros));
    CK_HKDF_PARAMS params = {
        .bExtract = CK_TRUE,
        .bExpand = CK_TRUE,
        .prfHashMechanism = CKM_SHA256,
        .ulSaltType = CKF_HKDF_SALT_DATA,
        .pSalt = kbs_p11_in(salt.p),
        .ulSaltLen = salt.len,
        .hSaltKey = CK_INVALID_HANDLE,
        .pInfo = kbs_p11_in(in->info.p),
        .ulInfoLen = in->info.len,
    };
    CK_MECHANISM mech = {CKM_HKDF_DERIVE, &params, sizeof(params)};
    struct kbs_template kek = {.n = 0};
    CK_OBJECT_HANDLE z = CK_INVALID_HANDLE;

    derive_kek_template(&kek, in->usage);
    if (kbs_derive_z(s, in, &z, err) != 0) {
        return -1;
    }
    return kbs_scratch_derive(s, &mech, z, &kek, ret, err);
}

int kbs_derive_jose_kdf(struct kbs_scratch *s, const struct kbs_derive_input *in,
                        CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    CK_ULONG own = s->token->quirk->concat_kdf;
    /* By position, as above. */
    CK_ECDH1_DERIVE_PARAMS params = {own != 0 ? own : CKD_SHA256_KDF_SP800, in->info.len,
                                     kbs_p11_in(in->info.p), kbs_ec_point_put(in->peer, point),
                                     point};
    CK_MECHANISM mech = {CKM_ECDH1_DERIVE, &params, sizeof(params)};
    struct kbs_template kek = {.n = 0};

    derive_kek_template(&kek, in->usage);
    return kbs_scratch_derive(s, &mech, in->private_key, &kek, ret, err);
}

/* One concatenation: a longer generic secret. */
static int derive_concatenate(struct kbs_scratch *s, CK_MECHANISM_TYPE mechanism,
                              struct kbs_span data, size_t len, CK_OBJECT_HANDLE base,
                              CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    CK_KEY_DERIVATION_STRING_DATA string = {kbs_p11_in(data.p), data.len};
    CK_MECHANISM mech = {mechanism, &string, sizeof(string)};
    struct kbs_template key = {.n = 0};

    kbs_template_secret_key(&key, CKK_GENERIC_SECRET, false, false, KBS_USAGE_DERIVE);
    kbs_template_number(&key, CKA_VALUE_LEN, len);
    return kbs_scratch_derive(s, &mech, base, &key, ret, err);
}

int kbs_derive_jose_chain(struct kbs_scratch *s, const struct kbs_derive_input *in,
                          CK_OBJECT_HANDLE *ret, struct kbs_error *err)
{
    CK_MECHANISM digest = {CKM_SHA256_KEY_DERIVATION, NULL, 0};
    size_t len = sizeof(derive_counter_1) + kbs_curve_field_bytes(in->peer->curve);
    struct kbs_template kek = {.n = 0};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;

    derive_kek_template(&kek, in->usage);
    if (kbs_derive_z(s, in, &key, err) != 0 ||
        derive_concatenate(s, CKM_CONCATENATE_DATA_AND_BASE,
                           kbs_span(derive_counter_1, sizeof(derive_counter_1)), len, key, &key,
                           err) != 0 ||
        derive_concatenate(s, CKM_CONCATENATE_BASE_AND_DATA, in->info, len + in->info.len, key,
                           &key, err) != 0) {
        return -1;
    }
    return kbs_scratch_derive(s, &digest, key, &kek, ret, err);
}
