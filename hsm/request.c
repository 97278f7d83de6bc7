/*
 * A request's body is not a managed key: the judge, who has to read it, is told what it says. It is opened here because
 * the private half is a token's, so that who records what guests send cannot read it later, whatever else he gets hold
 * of. For which request it is stands in the key derivation and in the AAD (apv), and was compared by the judge.
 */
#include "hsm/request.h"

#include "hsm/opening.h"
#include "hsm/receive.h"
#include "hsm/service.h"

static int parts_get(const struct kbs_wire_open_request *m, struct kbs_sealed *ret,
                     struct kbs_error *err)
{
    if (m->encrypted_key.len != sizeof(ret->encrypted_key) || m->iv.len != sizeof(ret->iv) ||
        m->tag.len != sizeof(ret->tag) || m->apv.len == 0 || m->apv.len > KBS_LIMIT_KID_BYTES ||
        m->ciphertext.len == 0 || m->ciphertext.len > KBS_LIMIT_ENVELOPE_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the parts of the envelope are not of their lengths");
    }
    memcpy(ret->encrypted_key, m->encrypted_key.p, sizeof(ret->encrypted_key));
    memcpy(ret->iv, m->iv.p, sizeof(ret->iv));
    memcpy(ret->tag, m->tag.p, sizeof(ret->tag));
    ret->ciphertext = m->ciphertext;
    return kbs_receive_epk(m->epk_x, m->epk_y, &ret->epk, err);
}

/* The request key, both halves. */
static int key_get(struct kbs_token *t, CK_OBJECT_HANDLE *ret, struct kbs_ec_public *ret_public,
                   struct kbs_error *err)
{
    struct kbs_buf point = KBS_BUF(KBS_EC_POINT_MAX_BYTES);
    int rc = kbs_service_find(t, CKO_PRIVATE_KEY, KBS_PURPOSE_REQUEST, 1, ret, err);

    if (rc == 0) {
        rc = kbs_service_point(t, KBS_PURPOSE_REQUEST, 1, &point, err);
    } else if (err->category == KBS_MISSING) {
        rc = kbs_fail(err, KBS_UNSUPPORTED, "the token has no request key");
    }
    if (rc == 0) {
        rc = kbs_ec_point_get(KBS_CURVE_P256, kbs_buf_span(&point), ret_public, err);
    }
    kbs_buf_deinit(&point);
    return rc;
}

int kbs_request_open(struct kbs_token *t, const struct kbs_ladder *ladder,
                     const struct kbs_wire_open_request *m, struct kbs_answer *ret,
                     struct kbs_error *err)
{
    struct kbs_sealed sealed = {.seal_version = 0};
    struct kbs_ec_public public_key;
    struct kbs_opening o = {.purpose = KBS_PURPOSE_REQUEST,
                            .sealed = &sealed,
                            .public_key = &public_key,
                            .apv = m->apv,
                            .in_token = ladder->gcm.result == KBS_PROBE_PASSED};
    KBS_AUTO_SECRET plain = NULL;

    if (parts_get(m, &sealed, err) != 0 || key_get(t, &o.private_key, &public_key, err) != 0 ||
        kbs_opening_run(t, ladder, &o, &plain, err) != 0) {
        return -1;
    }
    kbs_buf_put_span(&ret->body, kbs_secret_span(plain));
    return kbs_buf_check(&ret->body, "the answer", err);
}
