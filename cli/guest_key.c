/*
 * Three kinds of key behind one name, so that no subcommand asks which it has. The algorithm is fixed
 * when the key is made: it is part of what is attested, and answers by another are not opened.
 */
#include "cli/guest_key.h"

#include "cli/files.h"

#define RSA_FRESH_BITS 3072

void kbs_guest_key_deinit(struct kbs_guest_key *key)
{
    key->ec = kbs_agree_key_free(key->ec);
    key->rsa = kbs_agree_rsa_free(key->rsa);
    key->signer = kbs_cli_signer_free(key->signer);
}

static int ec_get(struct kbs_span pem, const char *curve, struct kbs_guest_key *ret,
                  struct kbs_error *err)
{
    int r = pem.len > 0 ? kbs_agree_key_from_pem(pem, &ret->ec, err)
                        : kbs_agree_key_generate(kbs_curve_from_jose_name(kbs_span_str(curve)),
                                                 &ret->ec, err);

    if (r == 0) {
        ret->public_key.ec = *kbs_agree_key_public(ret->ec);
    }
    return r;
}

static int rsa_get(struct kbs_span pem, struct kbs_guest_key *ret, struct kbs_error *err)
{
    int r = pem.len > 0 ? kbs_agree_rsa_from_pem(pem, &ret->rsa, err)
                        : kbs_agree_rsa_generate(RSA_FRESH_BITS, &ret->rsa, err);

    if (r == 0) {
        ret->public_key.rsa = *kbs_agree_rsa_public(ret->rsa);
    }
    return r;
}

static int signer_get(struct kbs_span pem, const char *curve, struct kbs_guest_key *ret,
                      struct kbs_error *err)
{
    struct kbs_agree_key *fresh = NULL;
    KBS_AUTO_SECRET made = NULL;
    int r = 0;

    if (pem.len == 0) {
        r = kbs_agree_key_generate(kbs_curve_from_jose_name(kbs_span_str(curve)), &fresh, err);
        r = r == 0 ? kbs_agree_key_to_pem(fresh, &made, err) : -1;
        pem = r == 0 ? kbs_secret_span(made) : pem;
        (void)kbs_agree_key_free(fresh);
    }
    if (r != 0 || kbs_cli_signer_of_any(pem, &ret->signer, err) != 0) {
        return -1;
    }
    ret->public_key.ec = *kbs_cli_signer_public(ret->signer);
    ret->public_key.alg = kbs_tee_alg_of_curve(ret->public_key.ec.curve);
    return 0;
}

int kbs_guest_key_get(const char *file, enum kbs_tee_alg alg, const char *curve,
                      struct kbs_guest_key *ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET pem = NULL;
    struct kbs_span text = KBS_SPAN_EMPTY;

    if (file != NULL) {
        if (kbs_cli_read_secret(file, KBS_LIMIT_KEY_PEM_BYTES, &pem, err) != 0) {
            return -1;
        }
        text = kbs_secret_span(pem);
    }
    *ret = (struct kbs_guest_key){.public_key = {.alg = alg}};
    if (kbs_tee_alg_signs(alg)) {
        return signer_get(text, curve, ret, err);
    }
    return alg == KBS_TEE_ALG_ECDH_ES_A256KW ? ec_get(text, curve, ret, err)
                                             : rsa_get(text, ret, err);
}

int kbs_guest_key_unwrap(const struct kbs_guest_key *key, const struct kbs_ec_public *epk,
                         struct kbs_span other_info, struct kbs_span encrypted_key,
                         struct kbs_secret **ret, struct kbs_error *err)
{
    KBS_AUTO_SECRET z = NULL;
    KBS_AUTO_SECRET kek = NULL;

    if (key->rsa != NULL) {
        return kbs_agree_oaep_decrypt(key->rsa, key->public_key.alg, encrypted_key, ret, err);
    }
    if (kbs_agree_ecdh(key->ec, epk, &z, err) != 0 ||
        kbs_agree_concat_kdf(kbs_secret_span(z), other_info, &kek, err) != 0) {
        return -1;
    }
    return kbs_agree_unwrap(kbs_secret_span(kek), encrypted_key, ret, err);
}
