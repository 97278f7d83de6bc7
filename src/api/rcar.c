/*
 * The RCAR handshake: auth gives a challenge, attest turns evidence into an attested session and a
 * token.
 *
 * The problem: one nonce must attest once although judges run side by side; an attested session
 * must never be without its record; and a token that cannot be signed must not use the nonce up.
 * The approach, in this order: session alive and challenged, message, nonce, evidence, record sent,
 * token signed, record acknowledged, and last the one conditional UPDATE that makes the session
 * attested. Whoever loses it has a token that was never answered and gets a second record that says
 * so.
 *
 * Evidence that parses and does not hold is recorded as refused, as sampler.c lets it; what does
 * not get that far is only counted in the log. Anyone can cause both.
 * What each check of such evidence came to goes to the log, as often.
 *
 * Evidence of some kinds is handed to an attestation service (delegated.c), in the place of a verifier
 * here or beside one; then both must agree. Such a run may end before it is through, to come again with the
 * service's answer: nothing above is done before that is there.
 *
 * A guest may bring evidence of devices. Each is verified like the TEE's own, and one that fails
 * fails them all: a token says of everything in it that it was verified.
 */
#include "api/context.h"
#include "api/endorse.h"
#include "api/svsm.h"

#include "attest/ear.h"
#include "attest/rcar.h"
#include "base/encoding.h"
#include "base/log.h"
#include "base/random.h"
#include "jose/write/jose.h"

/* What attest works on. */
struct attest {
    struct kbs_session session;
    struct kbs_rcar_attestation message;
    struct kbs_ear_part parts[KBS_EAR_PARTS_MAX]; /* the primary evidence's first */
    size_t part_count;
    struct kbs_verdict verdict;       /* of the piece that was looked at last */
    struct kbs_issuer_result vouched; /* what an attestation service says of it; empty: nothing */
    char status[24];                  /* what the token says of the TEE */
    struct kbs_buf token;             /* the compact JWS; answered, never kept */
    char sid[33];
    char key[KBS_API_THUMBPRINT_BYTES];
};

/* Whether evidence of that kind is verified here, be it in the place of others or beside them. */
static bool natively(const struct kbs_api *api, enum kbs_tee tee)
{
    return !kbs_delegated(api, tee) ||
           (api->verifiers != NULL && api->verifiers[tee].appraise != NULL);
}

/* 128 random bits in the shape of a UUIDv4 without its dashes, as Trustee's cookies look. */
static void cookie_new(char out[KBS_LIMIT_COOKIE_BYTES + 1])
{
    uint8_t id[KBS_LIMIT_COOKIE_BYTES / 2];

    kbs_random(id, sizeof(id));
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    kbs_hex_cstr(kbs_span(id, sizeof(id)), out, KBS_LIMIT_COOKIE_BYTES + 1);
}

/* What the evidence is to be fresh by: random, but for kinds whose challenge others must make. */
static int auth_nonce(struct kbs_call *call, enum kbs_tee tee, struct kbs_buf *ret,
                      struct kbs_error *err)
{
    uint8_t random[KBS_LIMIT_NONCE_BYTES];

    if (kbs_delegated_challenges(call->api, tee)) {
        return kbs_delegated_challenge(call, tee, ret, err);
    }
    kbs_random(random, sizeof(random));
    kbs_base64_put(ret, kbs_span(random, sizeof(random)));
    return kbs_buf_check(ret, "nonce", err);
}

static int auth_session(struct kbs_call *call, const struct kbs_rcar_request *request,
                        struct kbs_span nonce, struct kbs_error *err)
{
    struct kbs_answer *answer = call->answer;
    struct kbs_session session = KBS_SESSION_NULL;
    int rc = 0;

    kbs_random(session.sid, sizeof(session.sid));
    cookie_new(answer->cookie);
    kbs_sha256(kbs_span_str(answer->cookie), session.cookie_hash);
    session.state = KBS_SESSION_CHALLENGED;
    session.version = request->version;
    session.tee = request->tee;
    session.hash = request->hash;
    session.created_s = call->now_s;
    session.expires_s = call->now_s + call->api->session_s;
    if (!kbs_span_to_cstr(nonce, session.nonce, sizeof(session.nonce))) {
        rc = kbs_fail(err, KBS_INTERNAL, "a nonce of %zu bytes", nonce.len);
    } else {
        rc = kbs_store_session_create(call->api->store, &session, call->api->sessions, err);
    }
    if (rc == 0) {
        answer->cookie_expires_s = (uint64_t)session.expires_s;
        kbs_rcar_challenge_put(&answer->body, nonce,
                               request->selected ? request->hash : KBS_HASH_NONE);
    }
    kbs_session_deinit(&session);
    return rc;
}

int kbs_api_auth(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_rcar_request request = {.tee = KBS_TEE_NONE};
    struct kbs_buf nonce = KBS_BUF(2 * KBS_LIMIT_CHALLENGE_BYTES);
    int rc;

    call->answer->variant = "AttestationError";
    if (kbs_request_json_type(call->req, true, err) != 0 ||
        kbs_rcar_request_parse(call->req->body, call->api->delegate.hashes, &request, err) != 0) {
        return -1;
    }
    if (kbs_evidence_is_sample(request.tee) && !call->api->allow_sample) {
        return kbs_fail(
            err, KBS_UNAUTHENTICATED,
            "Attestation error: RCAR handshake Auth failed: unknown or unsupported tee");
    }
    rc = auth_nonce(call, request.tee, &nonce, err);
    if (rc == 0) {
        rc = auth_session(call, &request, kbs_buf_span(&nonce), err);
    }
    kbs_buf_deinit(&nonce);
    return rc;
}

/* The message, in the shape of the session's version, with the session's nonce. */
static int attest_message(struct kbs_call *call, struct attest *a, struct kbs_error *err)
{
    struct kbs_session *s = &a->session;
    struct kbs_rcar_attestation *m = &a->message;

    if (kbs_request_json_type(call->req, true, err) != 0 ||
        kbs_rcar_attestation_parse(call->req->body, s->version, m, err) != 0) {
        return -1;
    }
    if (s->version == KBS_PROTOCOL_0_2_0) {
        m->nonce = kbs_span_str(s->nonce);
    }
    if (!kbs_span_equal_str(m->nonce, s->nonce)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "the nonce is not the session's");
    }
    if (m->tee_key.alg == KBS_TEE_ALG_RSA1_5 && !call->api->rsa1_5) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "\"tee-pubkey\": RSA1_5 is not supported, use RSA-OAEP-256");
    }
    return 0;
}

/* From cookie to a message that is the session's. */
static int attest_open(struct kbs_call *call, struct attest *a, struct kbs_error *err)
{
    struct kbs_session *s = &a->session;

    if (kbs_session_of_cookie(call, s, err) != 0) {
        return -1;
    }
    if (s->state != KBS_SESSION_CHALLENGED) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "nonce already used");
    }
    if (attest_message(call, a, err) != 0) {
        return -1;
    }
    s->tee_key = a->message.tee_key;
    kbs_hex_cstr(kbs_span(s->sid, sizeof(s->sid)), a->sid, sizeof(a->sid));
    kbs_jose_tee_thumbprint(&s->tee_key, a->key);
    if (kbs_rcar_report_digest(s->hash, &s->tee_key, a->message.nonce,
                               kbs_rcar_additional(&a->message), &s->report_digest, err) != 0) {
        return -1;
    }
    return kbs_svsm_bind(call->api, &a->message, s, err);
}

static void attest_record_devices(struct kbs_record *r, const struct kbs_rcar_attestation *m)
{
    struct kbs_buf names = KBS_BUF(KBS_LIMIT_AUDIT_FIELD_BYTES);

    for (size_t i = 0; i < m->device_count; i++) {
        kbs_buf_printf(&names, "%s%s", i > 0 ? " " : "", kbs_tee_name(m->devices[i].tee));
    }
    if (names.len > 0) {
        kbs_record_text(r, "devices", kbs_buf_span(&names));
    }
    kbs_buf_deinit(&names);
}

/* Who says so: this service, an attestation service, or both. */
static const char *attest_mode(const struct kbs_call *call, const struct attest *a)
{
    if (!kbs_delegated(call->api, a->session.tee)) {
        return "native";
    }
    return natively(call->api, a->session.tee) ? "both" : "delegated";
}

static void attest_record(struct kbs_call *call, const struct attest *a, struct kbs_record *r,
                          const char *outcome, const char *reason)
{
    kbs_record_init(r, strcmp(outcome, "refused") == 0 ? "attest-refused" : "attest");
    kbs_record_str(r, "outcome", outcome);
    kbs_record_str(r, "session", a->sid);
    kbs_record_str(r, "protocol", kbs_protocol_name(a->session.version));
    kbs_record_str(r, "tee", kbs_tee_name(a->session.tee));
    attest_record_devices(r, &a->message);
    kbs_record_str(r, "tee_key", a->key);
    kbs_record_hex(r, "report_data", kbs_digest_span(&a->session.report_digest));
    kbs_record_str(r, "mode", attest_mode(call, a));
    if (kbs_delegated(call->api, a->session.tee)) {
        kbs_record_str(r, "issuer", call->api->delegate.issuer);
    }
    if (reason != NULL) {
        kbs_record_str(r, "reason", reason);
    } else {
        kbs_record_str(r, "binding", kbs_binding_name(a->session.binding));
        kbs_record_str(r, "status", a->status);
    }
    kbs_record_text(r, "peer", call->req->peer);
}

/* What each check came to, for the operator: a guest is told of the first that failed, no more. */
static void attest_log_checks(const struct attest *a)
{
    for (size_t i = 0; i < a->verdict.count; i++) {
        const struct kbs_check *c = &a->verdict.checks[i];
        char why[2 * KBS_VERDICT_WHY_BYTES];

        kbs_log(KBS_LOG_INFO, "evidence_check", "session=%s check=%s outcome=%s why=%s", a->sid,
                c->kind->name, kbs_outcome_name(c->outcome),
                kbs_log_text(kbs_span_str(c->why), why, sizeof(why)));
    }
}

/*
 * Records that nothing came of it: as `sampler` lets it, without one (NULL) in any case. The
 * cause is kept, unless the record itself fails. Always -1.
 */
static int attest_refused(struct kbs_call *call, const struct attest *a, const char *outcome,
                          struct kbs_sampler *sampler, struct kbs_error *err)
{
    struct kbs_error failed = KBS_ERROR_NONE;
    struct kbs_record r;

    if (sampler != NULL && !kbs_sampler_admit(sampler, (uint64_t)call->now_s)) {
        return -1;
    }
    if (kbs_verdict_failed(&a->verdict) != NULL) {
        attest_log_checks(a);
    }
    attest_record(call, a, &r, outcome, err->detail);
    if (sampler != NULL) {
        kbs_sampler_tell(sampler, &r);
    }
    if (kbs_api_ledger_append(call->api, &r, NULL, &failed) != 0) {
        *err = failed;
    } else if (sampler != NULL) {
        kbs_sampler_told(sampler);
    }
    kbs_record_deinit(&r);
    return -1;
}

/* Record, signature, acknowledgement. */
static int attest_sign(struct kbs_call *call, struct attest *a, struct kbs_error *err)
{
    struct kbs_error failed = KBS_ERROR_NONE;
    struct kbs_wire_result result = {.category = KBS_OK};
    struct kbs_wire_sign_ear order = {.claims = kbs_buf_span(&a->session.claims)};
    struct kbs_record r;
    int rc = 0;

    attest_record(call, a, &r, "attested", NULL);
    rc = kbs_api_ledger_start(call->api, &r, err);
    kbs_record_deinit(&r);
    if (rc != 0) {
        return -1;
    }
    rc = kbs_token_order(call, KBS_WIRE_SIGN_EAR, &order, &result, err);
    if (kbs_api_ledger_await(call->api, NULL, &failed) != 0) {
        *err = failed;
        return -1;
    }
    if (rc == 0) {
        kbs_buf_put_span(&a->token, result.body);
        if (a->token.failed || a->token.len == 0) {
            rc = kbs_fail(err, KBS_INTERNAL, "the token signed nothing, or too much");
        }
    }
    return rc == 0 ? 0 : attest_refused(call, a, "failed", NULL, err);
}

static int attest_claims(struct kbs_call *call, struct attest *a, struct kbs_error *err)
{
    struct kbs_session *s = &a->session;
    const struct kbs_ear ear = {
        .issuer = kbs_span_str(call->api->issuer),
        .sid = kbs_span_str(a->sid),
        .iat = call->now_s,
        .exp = call->now_s + call->api->token_s,
        .attestation = &a->message,
        .parts = a->parts,
        .part_count = a->part_count,
        .submods = a->vouched.submods,
    };
    KBS_AUTO_JSON claims = NULL;

    s->attested_s = ear.iat;
    s->expires_s = ear.exp;
    if (kbs_ear_build(&ear, &claims, err) != 0) {
        return -1;
    }
    (void)kbs_span_to_cstr(kbs_ear_status(claims), a->status, sizeof(a->status));
    kbs_buf_clear(&s->claims);
    /* What SIGN_EAR takes: its body is the claims and their length. */
    s->claims.max = KBS_LIMIT_JWT_BYTES - 4;
    return kbs_json_dump(claims, &s->claims, err);
}

/* Verifies one piece of evidence; the session is bound as strongly as the weakest of them. */
static int attest_part(struct kbs_call *call, struct attest *a, enum kbs_tee tee,
                       enum kbs_evidence_place place, const json_t *evidence,
                       const struct kbs_digest *report_digest, struct kbs_error *err)
{
    struct kbs_ear_part *part = &a->parts[a->part_count];
    const struct kbs_evidence_context context = {.now_s = call->now_s,
                                                 .init_data = a->message.init_data,
                                                 .verifiers = call->api->verifiers,
                                                 .fetch = kbs_endorse_fetch,
                                                 .fetch_with = call,
                                                 .verdict = &a->verdict};

    kbs_endorse_renew(call->api, tee);
    if (kbs_evidence_verify(tee, place, evidence, report_digest, &context, &part->result, err) !=
        0) {
        return -1;
    }
    part->tee = tee;
    part->report_digest = *report_digest;
    if (a->part_count == 0 || part->result.binding < a->session.binding) {
        a->session.binding = part->result.binding;
    }
    a->part_count++;
    return 0;
}

/* What is verified here, the TEE's own first. */
static int attest_natively(struct kbs_call *call, struct attest *a, struct kbs_error *err)
{
    const struct kbs_rcar_attestation *m = &a->message;
    const struct kbs_session *s = &a->session;
    struct kbs_digest digest;

    if (attest_part(call, a, s->tee, KBS_EVIDENCE_PRIMARY, m->primary_evidence, &s->report_digest,
                    err) != 0 ||
        kbs_rcar_report_digest(s->hash, &m->tee_key, m->nonce, NULL, &digest, err) != 0) {
        return -1;
    }
    if (kbs_delegated(call->api, s->tee)) {
        return 0; /* its devices go where it goes */
    }
    for (size_t i = 0; i < m->device_count; i++) {
        if (attest_part(call, a, m->devices[i].tee, KBS_EVIDENCE_DEVICE, m->devices[i].evidence,
                        &digest, err) != 0) {
            return -1;
        }
    }
    return 0;
}

/* What is verified elsewhere. Where it was verified here, too, the key is bound as that says. */
static int attest_elsewhere(struct kbs_call *call, struct attest *a, struct kbs_error *err)
{
    enum kbs_binding level = KBS_BINDING_NONE;
    const struct kbs_issuer_result *v = &a->vouched;

    if (kbs_delegated_verify(call, &a->session, &a->message, &a->vouched, &level, err) != 0) {
        return -1;
    }
    if (a->part_count == 0) {
        a->session.binding = level;
    }
    if (a->session.binding < v->minimum_binding) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "the TEE key is bound at level %s, and %s is asked of this issuer",
                        kbs_binding_name(a->session.binding), kbs_binding_name(v->minimum_binding));
    }
    return 0;
}

static int attest_verify(struct kbs_call *call, struct attest *a, struct kbs_error *err)
{
    const struct kbs_rcar_attestation *m = &a->message;

    for (size_t i = 0; i < m->device_count; i++) {
        if (kbs_evidence_is_sample(m->devices[i].tee) && !call->api->allow_sample) {
            return kbs_fail(err, KBS_UNAUTHENTICATED, "evidence of %s is not allowed here",
                            kbs_tee_name(m->devices[i].tee));
        }
    }
    if (natively(call->api, a->session.tee) && attest_natively(call, a, err) != 0) {
        return -1;
    }
    if (kbs_delegated(call->api, a->session.tee) && attest_elsewhere(call, a, err) != 0) {
        return -1;
    }
    return attest_claims(call, a, err);
}

static int attest_judge(struct kbs_call *call, struct attest *a, struct kbs_error *err)
{
    if (attest_verify(call, a, err) != 0) {
        return err->category == KBS_UNAUTHENTICATED
                   ? attest_refused(call, a, "refused", &call->api->refused, err)
                   : -1;
    }
    if (attest_sign(call, a, err) != 0) {
        return -1;
    }
    if (kbs_store_session_attest(call->api->store, &a->session, err) != 0) {
        return attest_refused(call, a, "failed", NULL, err);
    }
    return 0;
}

int kbs_api_attest(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_answer *answer = call->answer;
    struct attest a = {.session = KBS_SESSION_NULL,
                       .message = KBS_RCAR_ATTESTATION_NULL,
                       .verdict = KBS_VERDICT_NULL,
                       .token = KBS_BUF(2 * KBS_LIMIT_JWT_BYTES)};
    struct kbs_error cause;
    int rc = 0;

    answer->variant = "AttestationError";
    rc = attest_open(call, &a, err);
    if (rc == 0) {
        rc = attest_judge(call, &a, err);
    }
    if (rc == 0) {
        kbs_buf_put_str(&answer->body, "{\"token\":");
        kbs_json_string_put(&answer->body, kbs_buf_span(&a.token));
        kbs_buf_put_u8(&answer->body, '}');
        (void)kbs_span_to_cstr(call->req->cookie, answer->cookie, sizeof(answer->cookie));
        answer->cookie_expires_s = (uint64_t)a.session.expires_s;
    } else if (err->category == KBS_UNAUTHENTICATED) {
        cause = *err;
        (void)kbs_fail(err, KBS_UNAUTHENTICATED,
                       "Attestation error: RCAR handshake Attest failed: %.120s", cause.detail);
    }
    kbs_buf_deinit(&a.token);
    for (size_t i = 0; i < a.part_count; i++) {
        kbs_evidence_result_deinit(&a.parts[i].result);
    }
    kbs_issuer_result_deinit(&a.vouched);
    kbs_verdict_deinit(&a.verdict);
    kbs_rcar_attestation_deinit(&a.message);
    kbs_session_deinit(&a.session);
    return rc;
}
