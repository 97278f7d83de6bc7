/*
 * Who is asking: from cookie and Bearer token to a session.
 *
 * The problem: two ways to name a session, one of which (our token) may be held by another process
 * of the same guest, and a wrapping target that nobody may choose. The approach: both only ever
 * lead to a session row; the TEE key is read from there. A token is ours if a token-held key that
 * DESCRIBE named verifies it: any version that has not been destroyed, looked for again if its kid is
 * not known, for another lane or service on the same token may have made it. A key in its header is
 * never looked at, and its algorithm is the key's. A cookie and a token in one
 * request must lead to the same row: otherwise one of them is not the asker's.
 *
 * Tokens of other issuers are passports (passport.c); they lead to no row, and so never go with a cookie.
 *
 * A session that is found is not yet one that may ask: what its request has to prove beside, protect.c does, for all
 * handlers alike.
 *
 * Everything here is answered with 401 before anything about keys is looked up, so that who has not
 * attested cannot learn which keys exist.
 */
#include "api/context.h"

#include "attest/ear.h"
#include "base/encoding.h"
#include "jose/read/jwt.h"

static int cookie_hash(struct kbs_span cookie, uint8_t ret[KBS_SHA256_BYTES], struct kbs_error *err)
{
    uint8_t id[KBS_LIMIT_COOKIE_BYTES / 2];

    if (kbs_hex_get_exact(id, sizeof(id), cookie) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the session cookie is %s",
                        cookie.len == 0 ? "missing" : "malformed");
    }
    kbs_sha256(cookie, ret);
    return 0;
}

int kbs_session_of_cookie(struct kbs_call *call, struct kbs_session *ret, struct kbs_error *err)
{
    uint8_t hash[KBS_SHA256_BYTES];

    if (cookie_hash(call->req->cookie, hash, err) != 0) {
        return -1;
    }
    return kbs_store_session_by_cookie(call->api->store, hash, call->now_s, ret, err);
}

/* The session that a verified token of ours names. */
static int session_of_claims(struct kbs_call *call, const json_t *claims, struct kbs_session *ret,
                             struct kbs_error *err)
{
    struct kbs_span text = KBS_SPAN_EMPTY;
    uint8_t sid[16];

    if (kbs_ear_check(claims, kbs_span_str(call->api->issuer), call->now_s, &text, err) != 0) {
        return -1;
    }
    if (kbs_hex_get_exact(sid, sizeof(sid), text) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the token names no session");
    }
    return kbs_store_session_by_sid(call->api->store, sid, call->now_s, ret, err);
}

/* The claims of a token that one of our keys has signed. Returns owned. */
static int session_claims(struct kbs_api *api, const struct kbs_jose_jws *jws, json_t **ret,
                          struct kbs_error *err)
{
    const struct kbs_sign_key *found = NULL;
    struct kbs_jws_key key = {.kind = KBS_JWS_KEY_EC};

    if (kbs_token_sign_key(api, jws->kid, &found, err) != 0) {
        return -1;
    }
    if (found == NULL) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the token was signed by another key");
    }
    key.ec = found->key;
    key.algs = kbs_jws_key_algs(&key);
    return kbs_jws_verify(jws, &key, ret, err);
}

int kbs_session_of_token(struct kbs_call *call, struct kbs_span token, struct kbs_session *ret,
                         struct kbs_error *err)
{
    const unsigned int algs =
        KBS_JWS_ALG_BIT(KBS_JWS_ALG_ES256) | KBS_JWS_ALG_BIT(KBS_JWS_ALG_ES384);
    struct kbs_jose_jws jws = KBS_JOSE_JWS_NULL;
    KBS_AUTO_JSON claims = NULL;
    int rc = -1;

    if (kbs_jws_split(token, algs, &jws, err) != 0) {
        return -1;
    }
    rc = session_claims(call->api, &jws, &claims, err);
    if (rc == 0) {
        rc = session_of_claims(call, claims, ret, err);
    }
    kbs_jose_jws_deinit(&jws);
    return rc;
}

static int session_of_bearer(struct kbs_call *call, struct kbs_session *ret, struct kbs_error *err)
{
    struct kbs_span token = KBS_SPAN_EMPTY;

    if (kbs_request_bearer(call->req, &token, err) != 0) {
        return -1;
    }
    return kbs_passport_concerns(call->api, token) ? kbs_passport_session(call, token, ret, err)
                                                   : kbs_session_of_token(call, token, ret, err);
}

int kbs_session_unproven(struct kbs_call *call, struct kbs_session *ret, struct kbs_error *err)
{
    const struct kbs_wire_request *req = call->req;
    uint8_t hash[KBS_SHA256_BYTES];

    call->answer->variant = "TokenNotFound";
    if (req->authorization.len == 0) {
        if (req->cookie.len == 0) {
            return kbs_fail(err, KBS_UNAUTHENTICATED, "Attestation Token not found");
        }
        if (kbs_session_of_cookie(call, ret, err) != 0) {
            return -1;
        }
    } else {
        call->answer->variant = "TokenVerifierError";
        if (session_of_bearer(call, ret, err) != 0) {
            return -1;
        }
        if (req->cookie.len != 0 &&
            (cookie_hash(req->cookie, hash, err) != 0 ||
             !kbs_span_equal(kbs_span(hash, sizeof(hash)),
                             kbs_span(ret->cookie_hash, sizeof(ret->cookie_hash))))) {
            return kbs_fail(err, KBS_UNAUTHENTICATED, "cookie and token are of two sessions");
        }
    }
    if (ret->state != KBS_SESSION_ATTESTED) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the session has not attested");
    }
    call->answer->variant = NULL;
    return 0;
}

int kbs_session_attested(struct kbs_call *call, struct kbs_session *ret, struct kbs_error *err)
{
    return kbs_session_unproven(call, ret, err) == 0 ? kbs_protect(call, ret, err) : -1;
}
