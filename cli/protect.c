/*
 * The other side of src/api/protect.c. The one-request key is made here, lives in the session until the answer is
 * opened or the next request is made, and is written nowhere: who gets hold of the guest later opens no answer of today.
 *
 * The service's request key comes over the same road as everything else, so a host that can break TLS may name one of
 * his own: who needs more names it himself (--request-key), from measured configuration.
 */
#include "cli/protect.h"

#include "attest/proof.h"
#include "base/encoding.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"
#include "seal/seal.h"

#define BODY_MAX_BYTES (2 * KBS_LIMIT_ENVELOPE_BYTES)
#define PROOF_MAX_BYTES (2 * KBS_LIMIT_HTTP_TARGET_BYTES)

void kbs_guest_protected_deinit(struct kbs_guest_protected *p)
{
    kbs_buf_deinit(&p->body);
    kbs_buf_deinit(&p->proof);
}

/* What the service gives for one request. */
struct challenge {
    uint8_t nonce[KBS_REQUEST_CHALLENGE_BYTES];
    bool has_key;
    struct kbs_ec_public key; /* that a body may be encrypted to */
};

static int read_challenge(const struct kbs_http_response *r, struct challenge *ret,
                          struct kbs_error *err)
{
    KBS_AUTO_JSON answer = NULL;
    struct kbs_span text = KBS_SPAN_EMPTY;
    const json_t *jwk = NULL;

    if (kbs_http_expect_ok(r, "nonce", err) != 0 ||
        kbs_json_parse_object(kbs_buf_span(&r->body), "nonce", &answer, err) != 0 ||
        kbs_json_get_string(answer, "nonce", &text, err) != 0) {
        return -1;
    }
    if (kbs_base64url_get_exact(ret->nonce, sizeof(ret->nonce), text) != 0) {
        return kbs_fail(err, KBS_INPUT, "nonce: not the base64url of %d bytes",
                        KBS_REQUEST_CHALLENGE_BYTES);
    }
    jwk = json_object_get(answer, "request_key");
    ret->has_key = jwk != NULL;
    return jwk == NULL || kbs_jose_jwk_get(jwk, KBS_JOSE_ECDH_ES_A256KW, &ret->key, err) == 0 ? 0
                                                                                              : -1;
}

static int fetch_challenge(struct kbs_http_client *http, const struct kbs_guest_session *session,
                           struct challenge *ret, struct kbs_error *err)
{
    const struct kbs_http_request q = {
        .method = "GET", .target = "/kbs/v0/key/nonce", .cookie = session->cookie};
    struct kbs_http_response r = {.status = 0};
    int rc = kbs_http_send(http, &q, &r, err);

    if (rc == 0) {
        rc = read_challenge(&r, ret, err);
    }
    kbs_http_response_deinit(&r);
    return rc;
}

/* The flattened JWE in the place of the body. */
static int encrypt(const struct kbs_ec_public *key,
                   const uint8_t nonce[KBS_REQUEST_CHALLENGE_BYTES], struct kbs_guest_protected *p,
                   struct kbs_http_request *q, struct kbs_error *err)
{
    struct kbs_buf header = KBS_BUF(BODY_MAX_BYTES);
    struct kbs_buf ciphertext = KBS_BUF(KBS_LIMIT_ENVELOPE_BYTES);
    struct kbs_sealed sealed = {.seal_version = 0};
    uint8_t bytes[KBS_ENVELOPE_APV_BYTES];
    struct kbs_span apv = kbs_span(bytes, sizeof(bytes));
    int rc;

    kbs_envelope_apv(nonce, kbs_span_str(q->method), kbs_span_str(q->target), bytes);
    rc = kbs_seal_for(KBS_PURPOSE_REQUEST, key, apv, q->body, &sealed, &ciphertext, err);
    if (rc == 0) {
        kbs_seal_protected_put_for(&header, KBS_PURPOSE_REQUEST, &sealed.epk, apv, key);
        const struct kbs_jose_jwe jwe = {
            .protected_text = kbs_buf_span(&header),
            .encrypted_key = kbs_span(sealed.encrypted_key, sizeof(sealed.encrypted_key)),
            .iv = kbs_span(sealed.iv, sizeof(sealed.iv)),
            .ciphertext = sealed.ciphertext,
            .tag = kbs_span(sealed.tag, sizeof(sealed.tag))};

        kbs_jose_jwe_put(&p->body, &jwe);
        rc = kbs_buf_check(&header, "the header", err) == 0
                 ? kbs_buf_check(&p->body, "the encrypted request", err)
                 : -1;
    }
    kbs_buf_deinit(&header);
    kbs_buf_deinit(&ciphertext);
    q->body = kbs_buf_span(&p->body);
    q->content_type = KBS_ENVELOPE_TYPE;
    return rc;
}

static int encrypt_body(const struct kbs_guest_how *how, const struct challenge *challenge,
                        struct kbs_guest_protected *p, struct kbs_http_request *q,
                        struct kbs_error *err)
{
    const struct kbs_ec_public *key = how->request_key != NULL ? how->request_key : &challenge->key;

    if (q->body.len == 0) {
        return kbs_fail(err, KBS_INPUT, "this request has no body to encrypt");
    }
    if (how->request_key == NULL && !challenge->has_key) {
        return kbs_fail(err, KBS_UNSUPPORTED,
                        "the service has no key that requests are encrypted to");
    }
    return encrypt(key, challenge->nonce, p, q, err);
}

/* A key for this one request, and the signature that says so. */
static int prove(const struct kbs_guest_how *how, struct kbs_guest_session *session,
                 const uint8_t nonce[KBS_REQUEST_CHALLENGE_BYTES], struct kbs_guest_protected *p,
                 struct kbs_http_request *q, struct kbs_error *err)
{
    struct kbs_proof proof = {.method = kbs_span_str(q->method), .target = kbs_span_str(q->target)};
    struct kbs_buf payload = KBS_BUF(PROOF_MAX_BYTES);
    const char *curve = kbs_curve_jose_name(kbs_cli_signer_public(how->signer)->curve);
    int rc;

    kbs_guest_key_deinit(&session->one_request);
    if (kbs_guest_key_get(NULL, KBS_TEE_ALG_ECDH_ES_A256KW, curve, &session->one_request, err) !=
        0) {
        return -1;
    }
    kbs_sha256(q->body, proof.body);
    memcpy(proof.nonce, nonce, sizeof(proof.nonce));
    proof.key = session->one_request.public_key.ec;
    kbs_proof_put(&payload, &proof);
    rc = kbs_buf_check(&payload, "the proof", err);
    if (rc == 0) {
        rc = kbs_cli_signer_jws(how->signer, KBS_PROOF_TYP, kbs_buf_span(&payload), &p->proof, err);
    }
    kbs_buf_deinit(&payload);
    q->proof = rc == 0 ? kbs_buf_cstr(&p->proof) : NULL;
    return rc == 0 && q->proof == NULL ? kbs_fail(err, KBS_INTERNAL, "out of memory") : rc;
}

int kbs_guest_protect(struct kbs_http_client *http, const struct kbs_guest_how *how,
                      struct kbs_guest_session *session, struct kbs_guest_protected *p,
                      struct kbs_http_request *q, struct kbs_error *err)
{
    struct challenge challenge = {.has_key = false};

    if (!how->encrypt && how->signer == NULL) {
        return 0;
    }
    kbs_guest_protected_deinit(p);
    p->body = KBS_BUF(BODY_MAX_BYTES);
    p->proof = KBS_BUF(KBS_LIMIT_HTTP_HEAD_BYTES);
    if (fetch_challenge(http, session, &challenge, err) != 0 ||
        (how->encrypt && encrypt_body(how, &challenge, p, q, err) != 0)) {
        return -1;
    }
    return how->signer != NULL ? prove(how, session, challenge.nonce, p, q, err) : 0;
}

const struct kbs_guest_key *kbs_guest_receiver(const struct kbs_guest_session *session,
                                               const struct kbs_guest_key *tee_key)
{
    return session->one_request.ec != NULL ? &session->one_request : tee_key;
}
