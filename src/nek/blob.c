/*
 * The shapes are those of released keys, so their readers are used; what is added is what makes a recipient
 * a NEK's: a kid with a version, PartyUInfo of the road, PartyVInfo that is a binding. The protected map of
 * a COSE recipient has to be the one that kbs-token prints itself, since it is in the key derivation.
 */
#include "nek/blob.h"

#include "cose/write/cose.h"
#include "jose/write/jose.h"

#define PROTECTED_MAX_BYTES 512

void kbs_nek_in_deinit(struct kbs_nek_in *in)
{
    kbs_jose_recipient_in_deinit(&in->jose);
    kbs_cose_recipient_in_deinit(&in->cose);
}

static int party_get(struct kbs_nek_in *in, struct kbs_span party_u, struct kbs_span party_v,
                     struct kbs_error *err)
{
    if (!kbs_span_equal_str(party_u, KBS_NEK_PARTY_U)) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "the recipient was not made for a NEK: its PartyUInfo is not \"%s\"",
                        KBS_NEK_PARTY_U);
    }
    return kbs_nek_binding_get(party_v, &in->said, err);
}

static int kid_take(struct kbs_nek_in *in, struct kbs_span kid, struct kbs_error *err)
{
    if (!kbs_span_to_cstr(kid, in->kid, sizeof(in->kid)) ||
        !kbs_kid_split(kbs_span_str(in->kid), &in->path, &in->version) || in->version == 0) {
        return kbs_fail(err, KBS_INPUT, "the recipient's kid is not repo/type/tag/vN");
    }
    return 0;
}

static void epk_take(struct kbs_nek_in *in, const struct kbs_ec_public *epk)
{
    in->has_epk = true;
    in->epk = (struct kbs_tee_key){.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = *epk};
}

/* What its alg says it is. */
static int kind_of(struct kbs_span alg, struct kbs_nek_in *in, enum kbs_tee_alg *ret,
                   struct kbs_error *err)
{
    *ret = kbs_tee_alg_from_name(alg);
    if (kbs_span_equal_str(alg, KBS_JOSE_A256KW)) {
        in->kind = KBS_NEK_AES_KW;
    } else if (*ret == KBS_TEE_ALG_ECDH_ES_A256KW) {
        in->kind = KBS_NEK_JOSE;
    } else if (*ret == KBS_TEE_ALG_RSA_OAEP_256 || *ret == KBS_TEE_ALG_RSA_OAEP) {
        in->kind = KBS_NEK_OAEP;
        in->oaep = *ret;
    } else {
        return kbs_fail(err, KBS_INPUT,
                        "recipient: \"alg\" is not ECDH-ES+A256KW, A256KW, RSA-OAEP-256 or "
                        "RSA-OAEP");
    }
    return 0;
}

int kbs_nek_read_jose(const json_t *recipient, struct kbs_nek_in *ret, struct kbs_error *err)
{
    enum kbs_tee_alg wanted = KBS_TEE_ALG_NONE;
    struct kbs_span alg = KBS_SPAN_EMPTY;
    json_t *header = NULL;

    *ret = (struct kbs_nek_in){.kind = KBS_NEK_NONE};
    if (kbs_json_get_object(recipient, "header", &header, err) != 0 ||
        kbs_json_get_string(header, "alg", &alg, err) != 0 ||
        kind_of(alg, ret, &wanted, err) != 0 ||
        kbs_jose_recipient_get(recipient, wanted, &ret->jose, err) != 0 ||
        kid_take(ret, kbs_span_str(ret->jose.kid), err) != 0) {
        return -1;
    }
    ret->wrapped = kbs_buf_span(&ret->jose.encrypted_key);
    if (ret->kind == KBS_NEK_OAEP) {
        return 0;
    }
    if (ret->kind == KBS_NEK_JOSE) {
        epk_take(ret, &ret->jose.epk);
    }
    return party_get(ret, kbs_buf_span(&ret->jose.apu), kbs_buf_span(&ret->jose.apv), err);
}

static int protected_check(const struct kbs_cose_recipient_in *cose, struct kbs_error *err)
{
    struct kbs_buf map = KBS_BUF(PROTECTED_MAX_BYTES);
    bool same;

    kbs_cose_recipient_protected_put(&map, kbs_buf_span(&cose->kid));
    same = kbs_span_equal(kbs_buf_span(&map), kbs_buf_span(&cose->protected_map));
    kbs_buf_deinit(&map);
    return same ? 0
                : kbs_fail(err, KBS_INPUT,
                           "the recipient's protected map is not alg and kid, in that order");
}

int kbs_nek_read_cose(struct kbs_span message, struct kbs_nek_in *ret, struct kbs_error *err)
{
    *ret = (struct kbs_nek_in){.kind = KBS_NEK_COSE};
    if (kbs_cose_recipient_get(message, &ret->cose, err) != 0 ||
        kid_take(ret, kbs_buf_span(&ret->cose.kid), err) != 0 ||
        protected_check(&ret->cose, err) != 0) {
        return -1;
    }
    ret->wrapped = kbs_buf_span(&ret->cose.encrypted_key);
    ret->salt = kbs_buf_span(&ret->cose.salt);
    epk_take(ret, &ret->cose.epk);
    return party_get(ret, kbs_buf_span(&ret->cose.party_u), kbs_buf_span(&ret->cose.party_v), err);
}
