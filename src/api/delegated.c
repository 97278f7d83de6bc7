/*
 * Evidence that an attestation service verifies.
 *
 * The problem: the service says yes or no, and whoever can make it say yes, or can speak in its place,
 * must get as little as possible by that. The approach is DESIGN's: its token is a verdict and never the
 * source of a key. The TEE key is the session's, which the service cannot choose. Before it is asked, the
 * report data is found in the evidence and compared with the digest of that key and our nonce, so that a
 * service that forgets this check, or is lied to, binds nothing to a key that the evidence does not name.
 * Its token has to fit the session in everything that it repeats (attest/issuer), and be of the issuer that
 * was asked. What is left to a lying service is to call evidence genuine that is not: against that there is
 * native verification of the same evidence beside it.
 *
 * Levels: `evidence` where the judge found the report data itself, else `session`. Devices' evidence is
 * inside what the TEE's report data is over, so a kind of device without a place for report data of its
 * own takes nothing from the level; one that has it must hold it.
 *
 * What the service writes to explain itself goes to the log, and to no guest.
 */
#include "api/context.h"

#include "attest/delegate/delegate.h"
#include "attest/report_data.h"
#include "base/log.h"

#define LOGGED_BYTES 200

/* What is asked of the service, built anew in every run. */
struct delegated {
    const struct kbs_session *session;
    const struct kbs_rcar_attestation *message;
    struct kbs_delegate_part parts[1 + KBS_LIMIT_DEVICES];
    size_t count;
    struct kbs_buf runtime_data; /* the TEE's */
    struct kbs_buf device_data;  /* of all devices */
    enum kbs_binding level;
};

bool kbs_delegated(const struct kbs_api *api, enum kbs_tee tee)
{
    return api->delegate.type != KBS_DELEGATE_BUILTIN && tee < KBS_TEE_COUNT &&
           api->delegate.tees[tee];
}

/* ---- set-up ---- */

static int delegate_tees(struct kbs_api_delegate *d, const struct kbs_wire_list *names,
                         struct kbs_error *err)
{
    struct kbs_wire_iter it = kbs_wire_list_iter(names);
    struct kbs_span name;

    while (kbs_wire_list_next(&it, &name)) {
        enum kbs_tee tee = kbs_tee_from_name(name);

        if (!kbs_delegate_takes(d->type, tee)) {
            return kbs_fail(err, KBS_INPUT, "%s cannot be asked about one of its tees",
                            kbs_delegate_name(d->type));
        }
        d->tees[tee] = true;
        d->hashes[tee] = kbs_delegate_hash(d->type, tee);
    }
    return names->count > 0 ? 0 : kbs_fail(err, KBS_INPUT, "the attestation service has no tees");
}

int kbs_delegate_configure(struct kbs_api_delegate *d, const struct kbs_api_setup *setup,
                           struct kbs_error *err)
{
    struct kbs_wire_iter it;
    struct kbs_span id;

    *d = (struct kbs_api_delegate){.type = setup->delegate, .texts = KBS_BUF(65536)};
    if (d->type == KBS_DELEGATE_BUILTIN) {
        return 0;
    }
    if (d->type >= KBS_DELEGATE_COUNT || setup->delegate_endpoint.len == 0 ||
        !kbs_span_to_cstr(setup->delegate_endpoint, d->endpoint, sizeof(d->endpoint)) ||
        setup->delegate_issuer.len == 0 ||
        !kbs_span_to_cstr(setup->delegate_issuer, d->issuer, sizeof(d->issuer)) ||
        setup->delegate_policies->count > KBS_LIMIT_DELEGATE_POLICIES) {
        return kbs_fail(err, KBS_INPUT, "the attestation service is not configured completely");
    }
    kbs_buf_put_span(&d->texts, setup->delegate_policies->encoded);
    d->policies = (struct kbs_wire_list){.count = setup->delegate_policies->count,
                                         .encoded = kbs_buf_span(&d->texts)};
    if (kbs_buf_check(&d->texts, "policy_ids", err) != 0) {
        return -1;
    }
    it = kbs_wire_list_iter(&d->policies);
    while (kbs_wire_list_next(&it, &id)) {
        d->policy_ids[d->policy_count++] = id;
    }
    return delegate_tees(d, setup->delegate_tees, err);
}

/* ---- asking ---- */

/* What it means that there is no answer. Always -1. */
static int unanswered(const struct kbs_api *api, const struct kbs_wire_fetched *f,
                      struct kbs_error *err)
{
    static const char *const why[KBS_FETCH_OUTCOME_COUNT] = {
        [KBS_FETCH_FAILED] = "cannot be reached",
        [KBS_FETCH_TIMEOUT] = "did not answer in time",
        [KBS_FETCH_LARGE] = "answered more than anybody would",
        [KBS_FETCH_OPEN] = "failed lately, and is not asked again yet",
        [KBS_FETCH_REFUSED] = "cannot be asked: its endpoint is not configured",
    };
    char text[2 * KBS_LIMIT_ERROR_DETAIL_BYTES];

    kbs_log(KBS_LOG_WARN, "attestation_service", "endpoint=%s outcome=%u why=%s",
            api->delegate.endpoint, (unsigned int)f->outcome,
            kbs_log_text(
                kbs_span(f->detail.p, f->detail.len < LOGGED_BYTES ? f->detail.len : LOGGED_BYTES),
                text, sizeof(text)));
    return kbs_fail(err, KBS_BUSY, "the attestation service %s", why[f->outcome]);
}

static void log_refusal(const struct kbs_api *api, const struct kbs_wire_fetched *f,
                        const struct kbs_error *err)
{
    char text[2 * KBS_LIMIT_ERROR_DETAIL_BYTES];
    struct kbs_span body =
        kbs_span(f->body.p, f->body.len < LOGGED_BYTES ? f->body.len : LOGGED_BYTES);

    kbs_log(KBS_LOG_WARN, "attestation_service", "endpoint=%s category=%s status=%u said=%s",
            api->delegate.endpoint, kbs_category_name(err->category), (unsigned int)f->status,
            kbs_log_text(body, text, sizeof(text)));
}

/* Sends a question; the answer is there in the run in which this returns 0. */
static int ask(struct kbs_call *call, const struct kbs_delegate_request *request,
               struct kbs_wire_fetched *ret, struct kbs_error *err)
{
    const struct kbs_fetch_want want = {.endpoint = call->api->delegate.endpoint,
                                        .method = KBS_FETCH_POST,
                                        .suffix = kbs_span_str(request->suffix),
                                        .content_type = kbs_span_str(request->content_type),
                                        .accept = kbs_span_str(request->accept),
                                        .body = kbs_buf_span(&request->body),
                                        .max = KBS_LIMIT_FETCH_BYTES};

    if (kbs_fetch(call, &want, ret, err) != 0) {
        return -1;
    }
    return ret->outcome == KBS_FETCH_DONE ? 0 : unanswered(call->api, ret, err);
}

static struct kbs_delegate_answer answer_of(const struct kbs_wire_fetched *f)
{
    return (struct kbs_delegate_answer){.status = f->status,
                                        .has_grpc_status = f->grpc_status != KBS_WIRE_GRPC_NONE,
                                        .grpc_status = f->grpc_status,
                                        .content_type = f->content_type,
                                        .body = f->body};
}

/* ---- evidence ---- */

/* Finds the report data in a piece of evidence; *ret_found: there was a place to look. */
static int part_check(enum kbs_tee tee, const json_t *evidence, const struct kbs_digest *digest,
                      bool *ret_found, struct kbs_error *err)
{
    struct kbs_error failed = KBS_ERROR_NONE;

    *ret_found = kbs_report_data_check(tee, evidence, digest, &failed) == 0;
    if (*ret_found || failed.category == KBS_UNSUPPORTED) {
        return 0;
    }
    *err = failed;
    return -1;
}

static int devices_add(struct delegated *d, struct kbs_error *err)
{
    const struct kbs_rcar_attestation *m = d->message;
    struct kbs_digest digest;
    bool found = false;

    if (m->device_count == 0) {
        return 0;
    }
    kbs_rcar_runtime_data_put(&d->device_data, &m->tee_key, m->nonce, NULL);
    if (kbs_buf_check(&d->device_data, "runtime data", err) != 0 ||
        kbs_rcar_report_digest(d->session->hash, &m->tee_key, m->nonce, NULL, &digest, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < m->device_count; i++) {
        const struct kbs_rcar_device *device = &m->devices[i];

        if (part_check(device->tee, device->evidence, &digest, &found, err) != 0) {
            return -1;
        }
        d->parts[d->count++] =
            (struct kbs_delegate_part){.tee = device->tee,
                                       .evidence = device->evidence,
                                       .runtime_data = kbs_buf_span(&d->device_data)};
    }
    return 0;
}

/* All evidence, checked as far as it is checked here. */
static int delegated_init(struct delegated *d, struct kbs_error *err)
{
    const struct kbs_rcar_attestation *m = d->message;
    bool found = false;

    kbs_rcar_runtime_data_put(&d->runtime_data, &m->tee_key, m->nonce, kbs_rcar_additional(m));
    if (kbs_buf_check(&d->runtime_data, "runtime data", err) != 0 ||
        part_check(d->session->tee, m->primary_evidence, &d->session->report_digest, &found, err) !=
            0) {
        return -1;
    }
    d->level = found ? KBS_BINDING_EVIDENCE : KBS_BINDING_SESSION;
    d->parts[0] = (struct kbs_delegate_part){.tee = d->session->tee,
                                             .evidence = m->primary_evidence,
                                             .runtime_data = kbs_buf_span(&d->runtime_data)};
    d->count = 1;
    return devices_add(d, err);
}

static void delegated_deinit(struct delegated *d)
{
    kbs_buf_deinit(&d->runtime_data);
    kbs_buf_deinit(&d->device_data);
}

/* The token's text. */
static int token_get(struct kbs_call *call, const struct delegated *d, struct kbs_buf *ret,
                     struct kbs_error *err)
{
    const struct kbs_api_delegate *service = &call->api->delegate;
    const struct kbs_delegate_question q = {.parts = d->parts,
                                            .count = d->count,
                                            .hash = d->session->hash,
                                            .init_data = d->message->init_data,
                                            .policy_ids = service->policy_ids,
                                            .policy_count = service->policy_count};
    struct kbs_delegate_request request = KBS_DELEGATE_REQUEST;
    struct kbs_wire_fetched fetched;
    struct kbs_delegate_answer answer;
    int rc = kbs_delegate_ask(service->type, &q, &request, err);

    if (rc == 0) {
        rc = ask(call, &request, &fetched, err);
    }
    kbs_delegate_request_deinit(&request);
    if (rc == 0) {
        answer = answer_of(&fetched);
        rc = kbs_delegate_token(service->type, &answer, ret, err);
        if (rc != 0) {
            log_refusal(call->api, &fetched, err);
        }
    }
    return rc;
}

static int token_verify(struct kbs_call *call, const struct delegated *d, struct kbs_span token,
                        struct kbs_issuer_result *ret, struct kbs_error *err)
{
    const struct kbs_session *s = d->session;
    const struct kbs_issuer_expected expected = {.now_s = call->now_s,
                                                 .keys = kbs_fetch_keys,
                                                 .keys_with = call->api,
                                                 .issuer = call->api->delegate.issuer,
                                                 .tee = s->tee,
                                                 .tee_key = &d->message->tee_key,
                                                 .runtime_data = kbs_buf_span(&d->runtime_data),
                                                 .nonce = d->message->nonce,
                                                 .report_data = &s->report_digest};

    return kbs_issuer_verify(call->api->issuers, token, &expected, ret, err);
}

int kbs_delegated_verify(struct kbs_call *call, const struct kbs_session *session,
                         const struct kbs_rcar_attestation *message, struct kbs_issuer_result *ret,
                         enum kbs_binding *ret_level, struct kbs_error *err)
{
    struct delegated d = {.session = session,
                          .message = message,
                          .runtime_data = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES),
                          .device_data = KBS_BUF(KBS_LIMIT_JWT_BYTES)};
    struct kbs_buf token = KBS_BUF(2 * KBS_LIMIT_JWT_BYTES);
    int rc = delegated_init(&d, err);

    if (rc == 0) {
        rc = token_get(call, &d, &token, err);
    }
    if (rc == 0) {
        rc = token_verify(call, &d, kbs_buf_span(&token), ret, err);
    }
    if (rc == 0) { /* a token says `session` at best: what goes beyond it we have seen ourselves */
        *ret_level = ret->binding >= KBS_BINDING_SESSION ? d.level : ret->binding;
    }
    kbs_buf_deinit(&token);
    delegated_deinit(&d);
    return rc;
}

/* ---- challenges ---- */

bool kbs_delegated_challenges(const struct kbs_api *api, enum kbs_tee tee)
{
    return kbs_delegated(api, tee) && kbs_delegate_challenges(api->delegate.type, tee);
}

int kbs_delegated_challenge(struct kbs_call *call, enum kbs_tee tee, struct kbs_buf *ret,
                            struct kbs_error *err)
{
    enum kbs_delegate type = call->api->delegate.type;
    struct kbs_delegate_request request = KBS_DELEGATE_REQUEST;
    struct kbs_buf params = KBS_BUF(KBS_LIMIT_HTTP_BODY_BYTES);
    struct kbs_wire_fetched fetched;
    struct kbs_delegate_answer answer;
    int rc = kbs_rcar_request_extra(call->req->body, &params, err);

    if (rc == 0) {
        rc = kbs_delegate_ask_challenge(type, tee, kbs_buf_span(&params), &request, err);
    }
    if (rc == 0) {
        rc = ask(call, &request, &fetched, err);
    }
    if (rc == 0) {
        answer = answer_of(&fetched);
        rc = kbs_delegate_challenge(type, &answer, ret, err);
        if (rc != 0) {
            log_refusal(call->api, &fetched, err);
        }
    }
    kbs_buf_deinit(&params);
    kbs_delegate_request_deinit(&request);
    return rc;
}
