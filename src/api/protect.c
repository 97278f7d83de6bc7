/*
 * Requests that a host proxy can carry but not use (docs/protocol/requests.md).
 *
 * The problem: whoever carries a guest's requests sees cookie and token. He can send them again, change them, or send
 * them with another guest's; and what was wrapped to a key that lives as long as the guest he can open later, if that
 * key ever gets out. The approach: a guest may attest a key that signs. Such a key never receives anything; each
 * request names a fresh key, signed over together with method, target, body and a nonce of ours, and the answer is wrapped to
 * that. Beside it, or without it, the body may be encrypted to the token's request key, with the same nonce and target
 * in its key derivation. A nonce is its session's, and one statement of the store uses it up.
 *
 * The order: signature and comparisons, which cost nothing that lasts; then the nonce; then the token, which is asked
 * only for what counts. Both ways to bind a request end here, before any handler has looked at it: so a handler has no way to forget one,
 * and none to tell the two apart but by session->pop and session->encrypted.
 *
 * What is refused is recorded as sampler.c lets it be. It is 401 throughout: who does not prove that the request is the
 * guest's has not authenticated it, and learns nothing of keys.
 */
#include "api/context.h"

#include <strings.h>

#include "attest/proof.h"
#include "base/encoding.h"
#include "base/random.h"
#include "jose/read/jwe.h"
#include "jose/read/jwt.h"
#include "jose/write/jose.h"

/* A request on its way through. */
struct protection {
    bool pop;
    bool channel; /* pop, which names the TLS connection */
    bool encrypted;
    uint8_t nonce[KBS_REQUEST_CHALLENGE_BYTES]; /* that both name */
    struct kbs_ec_public fresh;                 /* of pop */
    struct kbs_jose_jwe_in envelope;            /* of encrypted */
};

/* ---- the proof ---- */

static int proof_header(const struct kbs_jose_jws *jws, const struct kbs_session *session,
                        struct kbs_error *err)
{
    static const char *const members[] = {"alg", "kid", "typ", NULL};
    struct kbs_span typ = KBS_SPAN_EMPTY;
    char kid[KBS_API_THUMBPRINT_BYTES];

    kbs_jose_tee_thumbprint(&session->tee_key, kid);
    if (kbs_json_only(jws->header, members, err) != 0 ||
        kbs_json_get_string(jws->header, "typ", &typ, err) != 0 ||
        !kbs_span_equal_str(typ, KBS_PROOF_TYP)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "Kbs-Proof: the header is not alg, kid, typ " KBS_PROOF_TYP);
    }
    return kbs_span_equal_str(jws->kid, kid)
               ? 0
               : kbs_fail(err, KBS_UNAUTHENTICATED,
                          "Kbs-Proof is by another key than the session's");
}

/* What it says, once the session's key has signed it. */
static int proof_open(const struct kbs_call *call, const struct kbs_session *session,
                      json_t **ret_payload, struct kbs_error *err)
{
    struct kbs_jws_key key = {.kind = KBS_JWS_KEY_EC, .ec = session->tee_key.ec};
    struct kbs_jose_jws jws = KBS_JOSE_JWS_NULL;
    int rc = -1;

    key.algs = kbs_jws_key_algs(&key);
    if (kbs_jws_split(call->req->proof, key.algs, &jws, err) != 0) {
        return -1;
    }
    if (proof_header(&jws, session, err) == 0) {
        rc = kbs_jws_verify(&jws, &key, ret_payload, err);
    }
    kbs_jose_jws_deinit(&jws);
    return rc;
}

static int proof_covers(const struct kbs_wire_request *req, const struct kbs_proof *proof,
                        const struct kbs_session *session, struct kbs_error *err)
{
    uint8_t body[KBS_SHA256_BYTES];

    kbs_sha256(req->body, body);
    if (!kbs_span_equal(proof->method, req->method)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Proof is for another method");
    }
    if (!kbs_span_equal(proof->target, req->target)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Proof is for another target");
    }
    if (memcmp(proof->body, body, sizeof(body)) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Proof is for another body");
    }
    if (proof->has_channel &&
        !kbs_span_equal(req->channel, kbs_span(proof->channel, sizeof(proof->channel)))) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Proof is for another TLS connection");
    }
    return kbs_ec_public_equal(&proof->key, &session->tee_key.ec)
               ? kbs_fail(err, KBS_UNAUTHENTICATED,
                          "Kbs-Proof: the answer cannot go to the key that signs")
               : 0;
}

static int proof_check(const struct kbs_call *call, const struct kbs_session *session,
                       struct protection *p, struct kbs_error *err)
{
    struct kbs_error why = KBS_ERROR_NONE;
    struct kbs_proof proof;
    KBS_AUTO_JSON payload = NULL;

    if (proof_open(call, session, &payload, err) != 0) {
        return -1;
    }
    if (kbs_proof_get(payload, &proof, &why) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Proof: %.150s", why.detail);
    }
    memcpy(p->nonce, proof.nonce, sizeof(p->nonce));
    p->fresh = proof.key;
    p->channel = proof.has_channel;
    return proof_covers(call->req, &proof, session, err);
}

/* ---- the envelope ---- */

static bool is_envelope(struct kbs_span content_type)
{
    static const char type[] = KBS_ENVELOPE_TYPE;
    size_t n = sizeof(type) - 1;

    return content_type.len >= n && strncasecmp((const char *)content_type.p, type, n) == 0 &&
           (content_type.len == n || content_type.p[n] == ';' || content_type.p[n] == ' ');
}

/* Its key, the request that it is for, and, beside a proof, the nonce. */
static int envelope_covers(const struct kbs_call *call, struct protection *p, struct kbs_error *err)
{
    const struct kbs_token_facts *token = &call->api->token;
    uint8_t apv[KBS_ENVELOPE_APV_BYTES];

    if (!token->has_request) {
        return kbs_fail(err, KBS_UNSUPPORTED, "the token has no request key, see kbs-admin init");
    }
    if (strcmp(p->envelope.kid, token->request_kid) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the body is encrypted to another key");
    }
    if (p->pop && memcmp(p->nonce, p->envelope.request, sizeof(p->nonce)) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the body has another nonce than Kbs-Proof");
    }
    memcpy(p->nonce, p->envelope.request, sizeof(p->nonce));
    kbs_envelope_apv(p->nonce, call->req->method, call->req->target, apv);
    return memcmp(apv, p->envelope.request, sizeof(apv)) == 0
               ? 0
               : kbs_fail(err, KBS_UNAUTHENTICATED, "the body was encrypted for another request");
}

static int envelope_read(const struct kbs_call *call, struct protection *p, struct kbs_error *err)
{
    KBS_AUTO_JSON jwe = NULL;

    if (kbs_json_parse_object(call->req->body, "request body", &jwe, err) != 0 ||
        kbs_jose_envelope_get(jwe, &p->envelope, err) != 0) {
        return -1;
    }
    return envelope_covers(call, p, err);
}

/* From here on the request is what was in the envelope. */
static int envelope_open(struct kbs_call *call, const struct protection *p, struct kbs_error *err)
{
    const struct kbs_jose_jwe_in *in = &p->envelope;
    struct kbs_wire_result result = {.category = KBS_OK};
    const struct kbs_wire_open_request order = {
        .apv = kbs_span(in->request, sizeof(in->request)),
        .epk_x = kbs_ec_x(&in->epk),
        .epk_y = kbs_ec_y(&in->epk),
        .encrypted_key = kbs_buf_span(&in->encrypted_key),
        .iv = kbs_span(in->iv, sizeof(in->iv)),
        .ciphertext = kbs_buf_span(&in->ciphertext),
        .tag = kbs_span(in->tag, sizeof(in->tag)),
    };

    if (kbs_token_order(call, KBS_WIRE_OPEN_REQUEST, &order, &result, err) != 0) {
        return -1;
    }
    if (result.body.len != in->ciphertext.len) {
        return kbs_fail(err, KBS_INTERNAL, "the token's answer does not keep to its order");
    }
    call->opened = *call->req;
    call->opened.content_type = KBS_SPAN_LIT("application/json");
    call->opened.body = kbs_arena_copy(&call->arena, result.body);
    if (call->opened.body.p == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    call->req = &call->opened;
    return 0;
}

/* ---- both ---- */

/* What a session has to bring, and may. */
static int protection_wanted(const struct kbs_call *call, const struct kbs_session *session,
                             struct protection *p, struct kbs_error *err)
{
    bool brought = call->req->proof.len != 0;

    p->pop = kbs_tee_alg_signs(session->tee_key.alg);
    p->encrypted = is_envelope(call->req->content_type);
    if (p->pop && !brought) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "the session's key signs: every request needs a proof of possession "
                        "(Kbs-Proof)");
    }
    return p->pop || !brought
               ? 0
               : kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Proof: the session's key does not sign");
}

/* As sampler.c lets it. Keeps the cause; always -1. */
static int refused(struct kbs_call *call, const struct kbs_session *session, struct kbs_error *err)
{
    struct kbs_error failed = KBS_ERROR_NONE;
    struct kbs_api *api = call->api;
    struct kbs_record r;
    char sid[2 * sizeof(session->sid) + 1];

    if (err->category != KBS_UNAUTHENTICATED ||
        !kbs_sampler_admit(&api->unproven, (uint64_t)call->now_s)) {
        return -1;
    }
    kbs_hex_cstr(kbs_span(session->sid, sizeof(session->sid)), sid, sizeof(sid));
    kbs_record_init(&r, "request-refused");
    kbs_record_str(&r, "session", sid);
    kbs_record_str(&r, "tee", kbs_tee_name(session->tee));
    kbs_record_str(&r, "reason", err->detail);
    kbs_sampler_tell(&api->unproven, &r);
    kbs_record_text(&r, "peer", call->req->peer);
    if (kbs_api_ledger_append(api, &r, NULL, &failed) != 0) {
        *err = failed;
    } else {
        kbs_sampler_told(&api->unproven);
    }
    kbs_record_deinit(&r);
    return -1;
}

static int protect(struct kbs_call *call, const struct kbs_session *session, struct protection *p,
                   struct kbs_error *err)
{
    uint8_t hash[KBS_SHA256_BYTES];

    if (protection_wanted(call, session, p, err) != 0 ||
        (p->pop && proof_check(call, session, p, err) != 0) ||
        (p->encrypted && envelope_read(call, p, err) != 0)) {
        return -1;
    }
    if (!p->pop && !p->encrypted) {
        return 0;
    }
    kbs_sha256(kbs_span(p->nonce, sizeof(p->nonce)), hash);
    if (kbs_store_request_nonce_use(call->api->store, session->sid, hash, call->now_s, err) != 0) {
        return -1;
    }
    return p->encrypted ? envelope_open(call, p, err) : 0;
}

int kbs_protect(struct kbs_call *call, struct kbs_session *session, struct kbs_error *err)
{
    struct protection p = {.pop = false};
    int rc;

    call->answer->variant = "ProofError";
    rc = protect(call, session, &p, err);
    if (rc == 0) {
        call->answer->variant = NULL;
        session->encrypted = p.encrypted;
        session->channel_bound = p.channel;
    } else {
        rc = refused(call, session, err);
    }
    if (rc == 0 && p.pop) {
        session->pop = true;
        session->attested_key = session->tee_key;
        session->tee_key = (struct kbs_tee_key){.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = p.fresh};
    }
    if (p.encrypted) {
        kbs_jose_jwe_in_deinit(&p.envelope);
    }
    return rc;
}

/* ---- GET /kbs/v0/key/nonce, GET /kbs/v0/hsm/keys ---- */

static void request_key_put(const struct kbs_token_facts *token, struct kbs_buf *out)
{
    const struct kbs_tee_key key = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW, .ec = token->request};

    kbs_jose_tee_jwk_put(out, &key);
}

/* What a guest needs for one request more. */
static void nonce_answer(const struct kbs_token_facts *token, struct kbs_span nonce,
                         struct kbs_buf *out)
{
    kbs_buf_put_str(out, "{\"nonce\":\"");
    kbs_base64url_put(out, nonce);
    kbs_buf_printf(out, "\",\"expires_in_s\":%d", KBS_LIMIT_REQUEST_NONCE_S);
    if (token->has_request) {
        kbs_buf_put_str(out, ",\"request_key\":");
        request_key_put(token, out);
    }
    kbs_buf_put_u8(out, '}');
}

int kbs_api_request_nonce(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const no_query[] = {NULL};
    struct kbs_session session = KBS_SESSION_NULL;
    uint8_t nonce[KBS_REQUEST_CHALLENGE_BYTES];
    uint8_t hash[KBS_SHA256_BYTES];
    int rc = -1;

    kbs_random(nonce, sizeof(nonce));
    kbs_sha256(kbs_span(nonce, sizeof(nonce)), hash);
    if (kbs_session_unproven(call, &session, err) == 0 &&
        kbs_request_query_only(call->req, no_query, err) == 0) {
        rc = kbs_store_request_nonce_add(call->api->store, session.sid, hash, call->now_s,
                                         call->now_s + KBS_LIMIT_REQUEST_NONCE_S, err);
    }
    if (rc == 0) {
        nonce_answer(&call->api->token, kbs_span(nonce, sizeof(nonce)), &call->answer->body);
    }
    kbs_session_deinit(&session);
    return rc;
}

int kbs_api_hsm_keys(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const no_query[] = {NULL};
    const struct kbs_token_facts *token = &call->api->token;
    struct kbs_buf *out = &call->answer->body;

    if (kbs_request_query_only(call->req, no_query, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(out, "{\"keys\":[");
    if (token->has_request) {
        kbs_buf_printf(out, "{\"kid\":\"%s\",\"purpose\":\"request\",\"jwk\":", token->request_kid);
        request_key_put(token, out);
        kbs_buf_put_u8(out, '}');
    }
    kbs_buf_put_str(out, "]}");
    return 0;
}
