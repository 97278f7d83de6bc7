/*
 * Passport mode: a token of another issuer in the place of a handshake.
 *
 * The problem: attestation services give tokens to anybody with a TEE, for nonces of their choosing, so that a
 * token proves less than a handshake does: that some TEE had this key not long ago, if its issuer is to be
 * believed. The approach: only issuers with `passport`, a level of its own (`token`) that policies can ask more
 * than, and whatever the operator adds: a maximum age, keys that we have seen in a handshake of our own, a
 * second issuer that says the same of the same key.
 *
 * Such a session is in no table: it is made of the token for the one request that brings it, and lasts no longer.
 * Both tokens stand in one header, `Authorization: Bearer T1, Bearer T2`, since fronts and proxies pass one.
 */
#include "api/context.h"

#include <stdio.h>
#include <strings.h>

#include "attest/ear.h"
#include "base/encoding.h"
#include "jose/write/jose.h"

#define SECOND "Bearer "

/* Everything of a passport on its way to a session. */
struct passport {
    struct kbs_span first;
    struct kbs_span second; /* empty: there is one token */
    struct kbs_issuer_result result;
    struct kbs_issuer_result agreed;
};

static struct kbs_span trim(struct kbs_span s)
{
    while (s.len > 0 && s.p[0] == ' ') {
        s = kbs_span_skip(s, 1);
    }
    while (s.len > 0 && s.p[s.len - 1] == ' ') {
        s.len--;
    }
    return s;
}

/* "T1" or "T1, Bearer T2". What is wrong with a token itself shows when it is verified. */
static int tokens_split(struct kbs_span text, struct passport *p, struct kbs_error *err)
{
    const uint8_t *comma = text.len > 0 ? memchr(text.p, ',', text.len) : NULL;

    p->first = trim(text);
    if (comma == NULL) {
        return 0;
    }
    p->first = trim(kbs_span(text.p, (size_t)(comma - text.p)));
    p->second = trim(kbs_span_skip(text, (size_t)(comma - text.p) + 1));
    if (p->second.len <= strlen(SECOND) ||
        strncasecmp((const char *)p->second.p, SECOND, strlen(SECOND)) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Authorization: not one or two Bearer tokens");
    }
    p->second = kbs_span_skip(p->second, strlen(SECOND));
    return 0;
}

bool kbs_passport_concerns(const struct kbs_api *api, struct kbs_span text)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    struct kbs_jose_jws jws = KBS_JOSE_JWS_NULL;
    struct passport p = {.first = KBS_SPAN_EMPTY};
    KBS_AUTO_JSON said = NULL;
    bool foreign = false;

    if (!kbs_issuers_passport(api->issuers) || tokens_split(text, &p, &ignored) != 0 ||
        kbs_jws_split(p.first, KBS_JWS_ALGS_ALL, &jws, &ignored) != 0) {
        return false;
    }
    if (kbs_jws_peek(&jws, &said, &ignored) == 0) {
        const json_t *iss = json_object_get(said, "iss");

        foreign = !json_is_string(iss) || strcmp(json_string_value(iss), api->issuer) != 0;
    }
    kbs_jose_jws_deinit(&jws);
    return foreign;
}

static int token_verify(const struct kbs_call *call, struct kbs_span token, const char *issuer,
                        struct kbs_issuer_result *ret, struct kbs_error *err)
{
    struct kbs_api *api = call->api;
    const struct kbs_issuer_expected expected = {
        .now_s = call->now_s, .issuer = issuer, .keys = kbs_fetch_keys, .keys_with = api};

    return kbs_issuer_verify(api->issuers, token, &expected, ret, err);
}

/* The second issuer says the same of the same key. */
static int agreement_check(const struct kbs_call *call, struct passport *p, struct kbs_error *err)
{
    const struct kbs_issuer_result *a = &p->result;
    const struct kbs_issuer_result *b = &p->agreed;

    if (a->agree_with == NULL) {
        return p->second.len == 0
                   ? 0
                   : kbs_fail(err, KBS_UNAUTHENTICATED, "a second token that nothing asks for");
    }
    if (p->second.len == 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "a second token, of issuer %s, is needed",
                        a->agree_with);
    }
    if (token_verify(call, p->second, a->agree_with, &p->agreed, err) != 0) {
        return -1;
    }
    if (!b->has_tee_key || !kbs_tee_key_equal(&a->tee_key, &b->tee_key)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the two tokens are not of one TEE key");
    }
    if (a->tee != b->tee) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the two tokens are not of one kind of TEE");
    }
    return 0;
}

static int passport_check(const struct kbs_call *call, struct passport *p, struct kbs_error *err)
{
    const struct kbs_issuer_result *r = &p->result;

    if (token_verify(call, p->first, NULL, &p->result, err) != 0 ||
        agreement_check(call, p, err) != 0) {
        return -1;
    }
    if (r->minimum_binding > KBS_BINDING_TOKEN) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "tokens of this issuer count only in a handshake");
    }
    if (r->tee_key.alg == KBS_TEE_ALG_RSA1_5 && !call->api->rsa1_5) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the TEE key: RSA1_5 is not supported");
    }
    return r->known_keys
               ? kbs_store_session_has_key(call->api->store, &r->tee_key, call->now_s, err)
               : 0;
}

/* A session of the token: what it is named by and bound to is the token's own digest. */
static int session_make(const struct kbs_call *call, const struct passport *p,
                        struct kbs_session *ret, struct kbs_error *err)
{
    const struct kbs_issuer_result *r = &p->result;
    KBS_AUTO_JSON claims = NULL;
    uint8_t digest[KBS_SHA256_BYTES];
    char sid[2 * sizeof(ret->sid) + 1];

    kbs_sha256(p->first, digest);
    memcpy(ret->sid, digest, sizeof(ret->sid));
    kbs_hex_cstr(kbs_span(ret->sid, sizeof(ret->sid)), sid, sizeof(sid));
    ret->state = KBS_SESSION_ATTESTED;
    ret->version = KBS_PROTOCOL_NONE;
    ret->tee = r->tee;
    ret->hash = KBS_HASH_SHA256;
    ret->created_s = r->iat;
    ret->attested_s = r->iat;
    ret->expires_s = r->exp;
    ret->binding = KBS_BINDING_TOKEN;
    ret->tee_key = r->tee_key;
    memcpy(ret->report_digest.p, digest, sizeof(digest));
    ret->report_digest.len = sizeof(digest);
    ret->passport = r->issuer;
    ret->agreed = r->agree_with;
    if (kbs_ear_wrap(kbs_span_str(call->api->issuer), kbs_span_str(sid), r->iat, r->exp, r->submods,
                     &claims, err) != 0) {
        return -1;
    }
    kbs_buf_clear(&ret->claims);
    return kbs_json_dump(claims, &ret->claims, err);
}

/* Who brings what does not hold is recorded, as often as sampler.c lets him be. Keeps the cause; always -1. */
static int passport_refused(struct kbs_call *call, const struct passport *p, struct kbs_error *err)
{
    struct kbs_error failed = KBS_ERROR_NONE;
    struct kbs_api *api = call->api;
    struct kbs_record r;

    if (err->category != KBS_UNAUTHENTICATED ||
        !kbs_sampler_admit(&api->refused, (uint64_t)call->now_s)) {
        return -1;
    }
    kbs_record_init(&r, "attest-refused");
    kbs_record_str(&r, "outcome", "refused");
    kbs_record_str(&r, "mode", "passport");
    if (p->result.issuer != NULL) {
        kbs_record_str(&r, "issuer", p->result.issuer);
        kbs_record_str(&r, "tee_key", p->result.thumbprint);
    }
    kbs_record_str(&r, "reason", err->detail);
    kbs_record_text(&r, "peer", call->req->peer);
    kbs_sampler_tell(&api->refused, &r);
    if (kbs_api_ledger_append(api, &r, NULL, &failed) != 0) {
        *err = failed;
    } else {
        kbs_sampler_told(&api->refused);
    }
    kbs_record_deinit(&r);
    return -1;
}

int kbs_passport_session(struct kbs_call *call, struct kbs_span text, struct kbs_session *ret,
                         struct kbs_error *err)
{
    struct passport p = {.first = KBS_SPAN_EMPTY};
    int rc = -1;

    if (tokens_split(text, &p, err) == 0 && passport_check(call, &p, err) == 0) {
        rc = session_make(call, &p, ret, err);
    }
    if (rc != 0) {
        rc = passport_refused(call, &p, err);
    }
    kbs_issuer_result_deinit(&p.result);
    kbs_issuer_result_deinit(&p.agreed);
    return rc;
}
