/*
 * Is this request an administrator's? The gate of every handler of the admin lane: Kbs-Signature
 * over everything that decides what a request does, or what the mode has in its place.
 *
 * The problem: between the administrator and this process stand a network and a front, neither of
 * which may change, redirect, repeat or delay an order. The approach: a JWS by an enrolled key over
 * method, raw target, body digest, nonce, sequence and expiry. Handlers work on path parameters
 * that the front decoded, so the signed target must be, byte for byte, the route's pattern with
 * those parameters in it: a front cannot pair a signature with other parameters, and two spellings
 * of a path do not exist here.
 *
 * The nonce is freshness without state: time || random || HMAC under a key this process made at
 * start. That it was used before does not matter; the sequence, raised durably before a mutation
 * begins, makes it single use, also if the mutation then fails. Reads are signed alike and leave
 * the sequence alone.
 *
 * Trustee's modes are for Trustee's clients, which cannot sign: they hold on the routes that those
 * clients know and on no other, so that no mode lets anybody near keys, the store's epoch or the
 * ledger. A request that has a Kbs-Signature is judged by that alone: it never falls back on its
 * Bearer token. Nothing makes a Bearer request single use, and that its target is what the handler
 * was given is checked as for a signature, since the rules of a role are about the target.
 *
 * Refusals are recorded, as sampler.c lets them: whoever reaches the listener can cause them.
 */
#include "api/context.h"

#include <stdio.h>

#include "base/encoding.h"
#include "base/random.h"
#include "base/secret.h"
#include "jose/read/jose.h"
#include "wire/route.h"

#define NONCE_TIME_BYTES 8
#define NONCE_RANDOM_BYTES 16
#define NONCE_SIGNED_BYTES (NONCE_TIME_BYTES + NONCE_RANDOM_BYTES)
#define NONCE_BYTES (NONCE_SIGNED_BYTES + KBS_SHA256_BYTES)

#define DENIED_TARGET_BYTES 256

static void nonce_mac(const struct kbs_api *api, const uint8_t nonce[NONCE_BYTES],
                      uint8_t ret[KBS_SHA256_BYTES])
{
    kbs_hmac_sha256(kbs_span(api->nonce_key, sizeof(api->nonce_key)),
                    kbs_span(nonce, NONCE_SIGNED_BYTES), ret);
}

int kbs_api_admin_nonce(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_buf *out = &call->answer->body;
    uint8_t nonce[NONCE_BYTES];
    uint64_t now = (uint64_t)call->now_s;

    (void)err;
    for (size_t i = 0; i < NONCE_TIME_BYTES; i++) {
        nonce[i] = (uint8_t)(now >> (56 - 8 * i));
    }
    kbs_random(nonce + NONCE_TIME_BYTES, NONCE_RANDOM_BYTES);
    nonce_mac(call->api, nonce, nonce + NONCE_SIGNED_BYTES);
    kbs_buf_put_str(out, "{\"nonce\":\"");
    kbs_base64url_put(out, kbs_span(nonce, sizeof(nonce)));
    kbs_buf_put_str(out, "\"}");
    return 0;
}

static int nonce_check(struct kbs_call *call, struct kbs_span text, struct kbs_error *err)
{
    uint8_t nonce[NONCE_BYTES];
    uint8_t mac[KBS_SHA256_BYTES];
    uint64_t made = 0;
    uint64_t now = (uint64_t)call->now_s;

    if (kbs_base64url_get_exact(nonce, sizeof(nonce), text) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the nonce is not one of ours");
    }
    nonce_mac(call->api, nonce, mac);
    if (!kbs_secret_equal(kbs_span(mac, sizeof(mac)),
                          kbs_span(nonce + NONCE_SIGNED_BYTES, KBS_SHA256_BYTES))) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the nonce is not one of ours");
    }
    for (size_t i = 0; i < NONCE_TIME_BYTES; i++) {
        made = made << 8 | nonce[i];
    }
    if (made > now || now - made > KBS_LIMIT_ADMIN_NONCE_S) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the nonce has expired");
    }
    return 0;
}

/* The target is the pattern with the path parameters for its stars, and perhaps a query. */
bool kbs_admin_target_matches(const struct kbs_wire_request *req, const char *pattern)
{
    struct kbs_span rest = req->target;
    uint16_t n = 0;

    for (; *pattern != '\0'; pattern++) {
        struct kbs_span expected = kbs_span(pattern, 1);

        if (*pattern == '*') {
            expected = kbs_wire_list_at(&req->params, n++);
        }
        if (expected.len == 0 || rest.len < expected.len ||
            memcmp(rest.p, expected.p, expected.len) != 0) {
            return false;
        }
        rest = kbs_span_skip(rest, expected.len);
    }
    return n == req->params.count && (rest.len == 0 || rest.p[0] == '?');
}

const struct kbs_admin *kbs_admin_find(const struct kbs_api *api, struct kbs_span thumbprint)
{
    for (size_t i = 0; i < api->admin_count; i++) {
        if (kbs_span_equal_str(thumbprint, api->admins[i].thumbprint)) {
            return &api->admins[i];
        }
    }
    return NULL;
}

/* Header and signature: gives the key that made it and what it signed. */
static int signature_open(struct kbs_call *call, const struct kbs_admin **ret_admin,
                          json_t **ret_payload, struct kbs_error *err)
{
    static const char *const header[] = {"alg", "kid", "typ", NULL};
    struct kbs_jose_jws jws = KBS_JOSE_JWS_NULL;
    struct kbs_span typ = KBS_SPAN_EMPTY;
    int rc = 0;

    if (call->req->signature.len == 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Signature is missing");
    }
    if (kbs_jose_jws_split(call->req->signature, &jws, err) != 0) {
        return -1;
    }
    *ret_admin = kbs_admin_find(call->api, jws.kid);
    if (kbs_json_only(jws.header, header, err) != 0 ||
        kbs_json_get_string(jws.header, "typ", &typ, err) != 0 ||
        !kbs_span_equal_str(typ, "kbs-admin")) {
        rc = kbs_fail(err, KBS_UNAUTHENTICATED,
                      "Kbs-Signature: the header is not alg, kid, typ kbs-admin");
    } else if (*ret_admin == NULL) {
        rc = kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Signature: the key is not enrolled");
    } else {
        rc = kbs_jose_jws_verify(&jws, &(*ret_admin)->key, ret_payload, err);
    }
    kbs_jose_jws_deinit(&jws);
    return rc;
}

static int signature_times(struct kbs_call *call, struct kbs_span nonce, int64_t exp,
                           struct kbs_error *err)
{
    if (exp <= call->now_s) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Signature has expired");
    }
    if (exp - call->now_s > KBS_LIMIT_ADMIN_SIGNATURE_S) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Signature expires more than %d s ahead",
                        KBS_LIMIT_ADMIN_SIGNATURE_S);
    }
    return nonce_check(call, nonce, err);
}

static int signature_covers(struct kbs_call *call, const json_t *payload, const char *method,
                            const char *pattern, int64_t *ret_sequence, struct kbs_error *err)
{
    static const char *const members[] = {"m", "p", "b", "n", "s", "exp", NULL};
    const struct kbs_wire_request *req = call->req;
    struct kbs_span m = KBS_SPAN_EMPTY;
    struct kbs_span p = KBS_SPAN_EMPTY;
    struct kbs_span b = KBS_SPAN_EMPTY;
    struct kbs_span n = KBS_SPAN_EMPTY;
    uint8_t signed_digest[KBS_SHA256_BYTES];
    uint8_t digest[KBS_SHA256_BYTES];
    int64_t exp = 0;

    if (kbs_json_only(payload, members, err) != 0 ||
        kbs_json_get_string(payload, "m", &m, err) != 0 ||
        kbs_json_get_string(payload, "p", &p, err) != 0 ||
        kbs_json_get_string(payload, "b", &b, err) != 0 ||
        kbs_json_get_string(payload, "n", &n, err) != 0 ||
        kbs_json_get_integer(payload, "s", ret_sequence, err) != 0 ||
        kbs_json_get_integer(payload, "exp", &exp, err) != 0 || *ret_sequence < 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "Kbs-Signature: the payload is not m, p, b, n, s, exp");
    }
    if (!kbs_span_equal(m, req->method) || !kbs_span_equal_str(m, method)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Signature is for another method");
    }
    if (!kbs_span_equal(p, req->target) || !kbs_admin_target_matches(req, pattern)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Signature is for another target");
    }
    kbs_sha256(req->body, digest);
    if (kbs_base64url_get_exact(signed_digest, sizeof(signed_digest), b) != 0 ||
        memcmp(signed_digest, digest, sizeof(digest)) != 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Signature is for another body");
    }
    return signature_times(call, n, exp, err);
}

static int admin_check(struct kbs_call *call, const char *method, const char *pattern,
                       bool mutation, const struct kbs_admin **ret_admin, uint64_t *ret_sequence,
                       struct kbs_error *err)
{
    KBS_AUTO_JSON payload = NULL;
    int64_t sequence = 0;

    if (signature_open(call, ret_admin, &payload, err) != 0 ||
        signature_covers(call, payload, method, pattern, &sequence, err) != 0) {
        return -1;
    }
    *ret_sequence = (uint64_t)sequence;
    if (!mutation) {
        return 0;
    }
    return kbs_store_admin_advance(call->api->store, (*ret_admin)->thumbprint, *ret_sequence, err);
}

/* ---- Trustee's modes ---- */

/* The routes that Trustee's clients know. */
static bool route_has_modes(const struct kbs_wire_request *req)
{
    return req->route >= KBS_ROUTE_RESOURCE_LIST && req->route <= KBS_ROUTE_ID_KEY_REGISTER;
}

static int mode_check(struct kbs_call *call, const char *pattern, struct kbs_error *err)
{
    struct kbs_admin *caller = &call->api->caller;

    *caller = (struct kbs_admin){.auth = KBS_ADMIN_ANYBODY, .thumbprint = "anybody"};
    switch (call->api->admin_mode) {
    case KBS_ADMIN_BEARER:
        if (!kbs_admin_target_matches(call->req, pattern)) {
            return kbs_fail(err, KBS_UNAUTHENTICATED,
                            "the target has another spelling than its route");
        }
        return kbs_bearer_verify(call, caller, err);
    case KBS_ADMIN_INSECURE_ALLOW_ALL:
        return 0;
    case KBS_ADMIN_DENY_ALL:
        return kbs_fail(err, KBS_UNAUTHENTICATED, "DenyAll authorization_mode is enabled");
    case KBS_ADMIN_SIGNED:
    case KBS_ADMIN_MODE_COUNT:
        break;
    }
    return kbs_fail(err, KBS_UNAUTHENTICATED, "Kbs-Signature is missing");
}

/* A refusal in the words that Trustee's clients know. The endpoint is the pattern's, not the request's. */
static int mode_refused(const char *pattern, struct kbs_error *err)
{
    static const char prefix[] = "/kbs/v0/";
    const char *endpoint =
        strncmp(pattern, prefix, sizeof(prefix) - 1) == 0 ? pattern + sizeof(prefix) - 1 : pattern;
    char reason[KBS_LIMIT_ERROR_DETAIL_BYTES];

    (void)snprintf(reason, sizeof(reason), "%s", err->detail);
    return kbs_fail(err, err->category,
                    "admin access denied for endpoint %.*s: Admin access denied: %s",
                    (int)strcspn(endpoint, "/"), endpoint, reason);
}

static int mode_admit(struct kbs_call *call, const char *pattern,
                      const struct kbs_admin **ret_admin, struct kbs_error *err)
{
    int rc = mode_check(call, pattern, err);

    if (rc == 0 || err->category == KBS_DENIED) {
        *ret_admin = &call->api->caller;
    }
    if (rc == 0) {
        call->auth = (*ret_admin)->auth;
    }
    return rc == 0 ? 0 : mode_refused(pattern, err);
}

struct kbs_span kbs_admin_request(const struct kbs_call *call)
{
    struct kbs_error none = KBS_ERROR_NONE;
    struct kbs_span token = KBS_SPAN_EMPTY;

    if (call->approval != NULL) {
        return kbs_approval_request(call->approval);
    }
    if (call->auth == KBS_ADMIN_BY_SIGNATURE) {
        return call->req->signature;
    }
    if (call->auth == KBS_ADMIN_BY_BEARER && kbs_request_bearer(call->req, &token, &none) == 0) {
        while (token.len > 0 && token.p[token.len - 1] != '.') {
            token.len--;
        }
        token.len -= token.len > 0 ? 1 : 0;
    }
    return token;
}

/* A part of a JWS is JSON in base64url; of a Bearer token two parts are kept, of a signed request three. */
void kbs_admin_of_request(struct kbs_span request, char ret[KBS_API_THUMBPRINT_BYTES])
{
    const uint8_t *blank = request.len != 0 ? memchr(request.p, ' ', request.len) : NULL;
    struct kbs_span first =
        blank != NULL ? kbs_span(request.p, (size_t)(blank - request.p)) : request;
    struct kbs_jose_jws jws = KBS_JOSE_JWS_NULL;
    struct kbs_error ignored = KBS_ERROR_NONE;

    if (kbs_jose_jws_split(first, &jws, &ignored) != 0) {
        (void)snprintf(ret, KBS_API_THUMBPRINT_BYTES, "%s",
                       request.len != 0 ? "bearer" : "anybody");
        return;
    }
    if (!kbs_span_to_cstr(jws.kid, ret, KBS_API_THUMBPRINT_BYTES)) {
        (void)snprintf(ret, KBS_API_THUMBPRINT_BYTES, "?");
    }
    kbs_jose_jws_deinit(&jws);
}

void kbs_admin_record(struct kbs_record *r, const struct kbs_admin *admin, uint64_t sequence)
{
    static const char *const names[] = {[KBS_ADMIN_BY_SIGNATURE] = "signed",
                                        [KBS_ADMIN_BY_BEARER] = "bearer",
                                        [KBS_ADMIN_ANYBODY] = "anybody"};

    kbs_record_str(r, "admin", admin->thumbprint);
    if (admin->auth == KBS_ADMIN_BY_SIGNATURE) {
        kbs_record_u64(r, "sequence", sequence);
    }
    kbs_record_str(r, "auth", names[admin->auth]);
    if (admin->role[0] != '\0') {
        kbs_record_str(r, "role", admin->role);
    }
}

int kbs_admin_denied(struct kbs_call *call, const struct kbs_admin *admin, struct kbs_error *err)
{
    struct kbs_error failed = KBS_ERROR_NONE;
    struct kbs_api *api = call->api;
    struct kbs_record r;

    if ((err->category != KBS_UNAUTHENTICATED && err->category != KBS_DENIED &&
         err->category != KBS_CONFLICT) ||
        !kbs_sampler_admit(&api->denied, (uint64_t)call->now_s)) {
        return -1;
    }
    kbs_record_init(&r, "admin-denied");
    kbs_record_str(&r, "reason", err->detail);
    kbs_record_text(&r, "method", call->req->method);
    kbs_record_text(&r, "target",
                    kbs_span(call->req->target.p, call->req->target.len < DENIED_TARGET_BYTES
                                                      ? call->req->target.len
                                                      : DENIED_TARGET_BYTES));
    if (admin !=
        NULL) { /* which key was claimed: only a conflict, or a role, proves that it signed */
        kbs_record_str(&r, "admin", admin->thumbprint);
        if (admin->role[0] != '\0') {
            kbs_record_str(&r, "role", admin->role);
        }
    }
    kbs_sampler_tell(&api->denied, &r);
    kbs_record_text(&r, "peer", call->req->peer);
    if (kbs_api_ledger_append(api, &r, NULL, &failed) != 0) {
        *err = failed;
    } else {
        kbs_sampler_told(&api->denied);
    }
    kbs_record_deinit(&r);
    return -1;
}

int kbs_admin_verify(struct kbs_call *call, const char *method, const char *pattern, bool mutation,
                     const struct kbs_admin **ret_admin, uint64_t *ret_sequence,
                     struct kbs_error *err)
{
    bool by_mode = route_has_modes(call->req) && call->req->signature.len == 0 &&
                   call->api->admin_mode != KBS_ADMIN_SIGNED;

    *ret_admin = NULL;
    *ret_sequence = 0;
    if (call->approval != NULL) {
        return kbs_approval_admit(call, method, pattern, ret_admin, ret_sequence, err);
    }
    call->auth = KBS_ADMIN_BY_SIGNATURE;
    if ((by_mode
             ? mode_admit(call, pattern, ret_admin, err)
             : admin_check(call, method, pattern, mutation, ret_admin, ret_sequence, err)) == 0) {
        return 0;
    }
    if (err->category == KBS_UNAUTHENTICATED || err->category == KBS_DENIED) {
        call->answer->variant = "AdminAuthAccess";
    }
    return kbs_admin_denied(call, *ret_admin, err);
}
