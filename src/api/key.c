/*
 * Release: an attested session, a key or a secret, a policy, and an order to the token to wrap one
 * for the other.
 *
 * The problem: this is the one road on which keys leave. It must not be possible to learn of a key
 * without attesting, to have it wrapped for anybody but the session's TEE, to get it without a
 * record, or to get an answer that the record does not describe. The approach: the checks of
 * docs/protocol/key-release.md, each before anything that depends on it; the wrapping target and
 * both party infos are the server's; the order (`release`) is sent to the ledger before the token is
 * asked, the token records what it did before it answers (its `deed`, hsm/deed.c), and both are
 * durable before the answer leaves, in one sync of the disk. What was ordered and came to nothing
 * is recorded too (`release-failed`). The answer body is the token's, unread, and so is a receipt of
 * it. Row and policies are asked in decide.c.
 *
 * If the order could not be written and the deed could, the answer is dropped: wrapped to a TEE that
 * never sees it, it is lost, and the guest asks again. A `release-failed` that names the order is
 * owed then, and comes before the next release.
 */
#include "api/context.h"

#include <stdlib.h>

#include "base/encoding.h"
#include "base/random.h"
#include "jose/write/jose.h"

struct release {
    const struct kbs_release_want *want;
    const struct kbs_session *session;
    struct kbs_decision decision; /* and the row it is about */
    char kid[KBS_LIMIT_KID_BYTES + 1];
    char sid[33];
    char tee_key[KBS_API_THUMBPRINT_BYTES];   /* that the answer is wrapped to */
    char proven_by[KBS_API_THUMBPRINT_BYTES]; /* the attested key, where that is another */
    uint8_t order[KBS_LIMIT_ORDER_BYTES];
    bool ordered; /* the `release` record has been sent */
};

/* What a request to the key road says, before it is looked at what there is. */
struct request {
    struct kbs_release_want want;
    uint8_t salt[KBS_LIMIT_COSE_SALT_BYTES];
};

static int request_body(struct kbs_call *call, struct request *r, struct kbs_error *err)
{
    static const char *const members[] = {"nonce", "salt", NULL};
    KBS_AUTO_JSON body = NULL;

    if (call->req->body.len == 0) {
        return 0;
    }
    if (kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &body, err) != 0 ||
        kbs_json_only(body, members, err) != 0) {
        return -1;
    }
    return kbs_request_freshness(body, &r->want, r->salt, err);
}

static int request_parse(struct kbs_call *call, struct request *r, struct kbs_error *err)
{
    static const char *const names[] = {"version", "context", "receipt", NULL};
    struct kbs_release_want *w = &r->want;

    if (kbs_request_path(call, &w->path, err) != 0 ||
        kbs_request_query_only(call->req, names, err) != 0 ||
        kbs_request_version(call->req, &w->version, err) != 0 ||
        kbs_request_context(call->req, &w->empty_context, err) != 0 ||
        kbs_request_receipt(call->req, &w->receipt, err) != 0 ||
        kbs_request_accept(call->req->accept, w->formats, &w->format_count, err) != 0) {
        return -1;
    }
    return request_body(call, r, err);
}

/* Which blob, and to what it says it is bound. */
static void release_record_nek(const struct kbs_nek_in *nek, struct kbs_record *ret)
{
    struct kbs_buf fields = KBS_BUF(KBS_LIMIT_AUDIT_FIELD_BYTES);
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_sha256(nek->wrapped, digest);
    kbs_record_hex(ret, "nek", kbs_span(digest, sizeof(digest)));
    for (unsigned int i = 0; i < KBS_NEK_FIELD_COUNT; i++) {
        if ((nek->said.fields & 1u << i) != 0) {
            kbs_buf_printf(&fields, "%s%s", fields.len > 0 ? " " : "",
                           kbs_nek_field_name((enum kbs_nek_field)i));
        }
    }
    kbs_record_text(ret, "bound_to",
                    fields.len > 0 ? kbs_buf_span(&fields) : KBS_SPAN_LIT("nobody"));
    kbs_buf_deinit(&fields);
}

/* What every record of this release begins with. */
static void release_record(struct kbs_call *call, const struct release *r, struct kbs_record *ret,
                           const char *kind)
{
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_record_init(ret, kind);
    if (r->ordered) {
        kbs_record_hex(ret, "order", kbs_span(r->order, sizeof(r->order)));
    }
    kbs_record_str(ret, "session", r->sid);
    if (r->want->asked.len != 0) {
        kbs_record_text(ret, "asked", r->want->asked);
    }
    if (r->kid[0] != '\0') {
        kbs_record_str(ret, "kid", r->kid);
        kbs_record_str(ret, "class", kbs_storage_name(r->decision.key.card.storage));
    }
    kbs_record_str(ret, "tee", kbs_tee_name(r->session->tee));
    kbs_record_str(ret, "binding", kbs_binding_name(r->session->binding));
    kbs_record_str(ret, "tee_key", r->tee_key);
    if (r->session->pop) {
        kbs_record_str(ret, "proven_by", r->proven_by);
    }
    if (r->session->encrypted) {
        kbs_record_str(ret, "encrypted", "yes");
    }
    if (r->session->passport != NULL) { /* else there was a handshake */
        kbs_record_str(ret, "mode", "passport");
        kbs_record_str(ret, "issuer", r->session->passport);
        kbs_record_str(ret, "agreed", r->session->agreed != NULL ? r->session->agreed : "");
    }
    if (r->kid[0] != '\0') {
        kbs_sha256(kbs_buf_span(&r->decision.policy), digest);
        kbs_record_hex(ret, "policy", kbs_span(digest, sizeof(digest)));
    }
    if (r->decision.resource_policy.len != 0) {
        kbs_sha256(kbs_buf_span(&r->decision.resource_policy), digest);
        kbs_record_hex(ret, "resource_policy", kbs_span(digest, sizeof(digest)));
        kbs_record_str(ret, "resource_policy_name", r->decision.governs.name);
    }
    if (r->want->nek != NULL) {
        release_record_nek(r->want->nek, ret);
    }
    if (r->want->provision != NULL) {
        kbs_provision_record(r->want->provision, &r->decision, ret);
    }
    kbs_record_text(ret, "peer", call->req->peer);
}

/*
 * Records a refusal or a failure with its reason, keeping the cause unless the record fails. Always
 * -1.
 */
static int release_ended(struct kbs_call *call, const struct release *r, const char *kind,
                         struct kbs_error *err)
{
    struct kbs_error failed = KBS_ERROR_NONE;
    struct kbs_record record;

    release_record(call, r, &record, kind);
    kbs_record_str(&record, "category", kbs_category_name(err->category));
    kbs_record_str(&record, "reason", err->detail);
    if (kbs_api_ledger_append(call->api, &record, NULL, &failed) != 0) {
        *err = failed;
    }
    kbs_record_deinit(&record);
    return -1;
}

/* The path of the request target, without its query. */
static struct kbs_span target_path(struct kbs_span target)
{
    const uint8_t *query = target.len != 0 ? memchr(target.p, '?', target.len) : NULL;

    return query != NULL ? kbs_span(target.p, (size_t)(query - target.p)) : target;
}

/* The token did what it was told to, as far as can be told without reading the key's wrapping. */
static int release_check(const struct release *r, const struct kbs_wire_result *result,
                         struct kbs_error *err)
{
    bool asked = false;

    for (size_t i = 0; i < r->want->format_count; i++) {
        asked = asked || r->want->formats[i] == result->format;
    }
    if (!asked || result->locality >= KBS_LOCALITY_COUNT || result->locality < r->decision.floor ||
        result->body.len == 0 || !kbs_receipt_fits(r->want, result->receipt)) {
        return kbs_fail(err, KBS_INTERNAL, "the token's answer does not keep to its order");
    }
    return 0;
}

static int order_key(struct kbs_call *call, const struct release *r, struct kbs_span tee_key,
                     struct kbs_wire_result *ret, struct kbs_error *err)
{
    const struct kbs_release_want *w = r->want;
    uint8_t party_v[32];
    uint8_t said[KBS_RECEIPT_WORD_BYTES];
    const struct kbs_wire_release order = {
        .order = kbs_span(r->order, sizeof(r->order)),
        .kid = kbs_span_str(r->kid),
        .card = kbs_key_card(&r->decision.key),
        .blob = kbs_key_blob(&r->decision.key),
        .tee_key = tee_key,
        .formats = kbs_span(w->formats, w->format_count),
        .floor = (uint8_t)r->decision.floor,
        .empty_context = w->empty_context ? 1 : 0,
        .party_v = kbs_span(party_v, sizeof(party_v)),
        .salt = w->salt,
        .receipt = kbs_receipt_ask(w, &r->decision, said),
        .pop = r->session->pop,
    };

    kbs_party_v(kbs_digest_span(&r->session->report_digest), w->nonce, party_v);
    return kbs_token_order(call, KBS_WIRE_RELEASE, &order, ret, err);
}

static int order_secret(struct kbs_call *call, const struct release *r, struct kbs_span tee_key,
                        struct kbs_wire_result *ret, struct kbs_error *err)
{
    uint8_t said[KBS_RECEIPT_WORD_BYTES];
    const struct kbs_wire_open_secret order = {
        .order = kbs_span(r->order, sizeof(r->order)),
        .kid = kbs_span_str(r->kid),
        .card = kbs_key_card(&r->decision.key),
        .sealed = kbs_buf_span(&r->decision.sealed),
        .tee_key = tee_key,
        .receipt = kbs_receipt_ask(r->want, &r->decision, said),
        .pop = r->session->pop,
    };

    return kbs_token_order(call, KBS_WIRE_OPEN_SECRET, &order, ret, err);
}

static int order_nek(struct kbs_call *call, const struct release *r, struct kbs_span tee_key,
                     struct kbs_wire_result *ret, struct kbs_error *err)
{
    const struct kbs_release_want *w = r->want;
    uint8_t epk[KBS_TEE_KEY_MAX_BYTES];
    uint8_t binding[KBS_NEK_BINDING_BYTES];
    uint8_t party_v[32];
    uint8_t said[KBS_RECEIPT_WORD_BYTES];
    const struct kbs_wire_rewrap order = {
        .order = kbs_span(r->order, sizeof(r->order)),
        .kid = kbs_span_str(r->kid),
        .card = kbs_key_card(&r->decision.key),
        .public_key = kbs_key_blob(&r->decision.key),
        .kind = (uint8_t)w->nek->kind,
        .epk = kbs_span(epk, w->nek->has_epk ? kbs_tee_key_put(&w->nek->epk, epk) : 0),
        .blob_salt = w->nek->salt,
        .binding = kbs_span(binding, sizeof(binding)),
        .wrapped = w->nek->wrapped,
        .tee_key = tee_key,
        .formats = kbs_span(w->formats, w->format_count),
        .floor = (uint8_t)r->decision.floor,
        .empty_context = w->empty_context ? 1 : 0,
        .party_v = kbs_span(party_v, sizeof(party_v)),
        .salt = w->salt,
        .receipt = kbs_receipt_ask(w, &r->decision, said),
        .pop = r->session->pop,
    };

    kbs_nek_binding_put(&r->decision.binding, binding);
    kbs_nek_party_v(kbs_digest_span(&r->session->report_digest), w->nonce, w->nek->wrapped,
                    party_v);
    return kbs_token_order(call, KBS_WIRE_REWRAP, &order, ret, err);
}

static int order_provision(struct kbs_call *call, const struct release *r, struct kbs_span tee_key,
                           struct kbs_wire_result *ret, struct kbs_error *err)
{
    const struct kbs_provision_order order = {.want = r->want,
                                              .decision = &r->decision,
                                              .order = kbs_span(r->order, sizeof(r->order)),
                                              .kid = kbs_span_str(r->kid),
                                              .tee_key = tee_key};

    return kbs_provision_order(call, r->want->provision, &order, ret, err);
}

static int release_order(struct kbs_call *call, const struct release *r,
                         struct kbs_wire_result *ret, struct kbs_error *err)
{
    uint8_t bytes[KBS_TEE_KEY_MAX_BYTES];
    struct kbs_span tee_key = kbs_span(bytes, kbs_tee_key_put(&r->session->tee_key, bytes));

    if ((r->want->nek != NULL         ? order_nek(call, r, tee_key, ret, err)
         : r->want->provision != NULL ? order_provision(call, r, tee_key, ret, err)
         : r->want->secret            ? order_secret(call, r, tee_key, ret, err)
                                      : order_key(call, r, tee_key, ret, err)) != 0) {
        return -1;
    }
    return release_check(r, ret, err);
}

/* The order could not be recorded, but the token has had it. */
static void release_owe(struct kbs_call *call, const struct release *r)
{
    struct kbs_record *record = calloc(1, sizeof(*record));

    if (record == NULL) {
        call->api->must_exit = KBS_EXIT_FAILURE;
        return;
    }
    release_record(call, r, record, "release-failed");
    kbs_record_str(record, "category", kbs_category_name(KBS_BUSY));
    kbs_record_str(record, "reason", "the order could not be recorded; nothing was answered");
    kbs_api_ledger_owe(call->api, record);
}

static const char *const content_types[KBS_FORMAT_COUNT] = {
    [KBS_FORMAT_JOSE] = "application/jose+json",
    [KBS_FORMAT_COSE] = "application/cose; cose-type=\"cose-encrypt\"",
    [KBS_FORMAT_JWE] = "application/json",
};

/* From a decision to an answer: order sent, token asked (it records its deed), order durable. */
static int release_carry_out(struct kbs_call *call, struct release *r, struct kbs_error *err)
{
    struct kbs_error failed = KBS_ERROR_NONE;
    struct kbs_wire_result result = {.category = KBS_OK};
    struct kbs_record record;
    int rc = 0;

    if (kbs_api_ledger_settle(call->api, err) != 0) {
        return -1;
    }
    kbs_random(r->order, sizeof(r->order));
    r->ordered = true;
    release_record(call, r, &record, "release");
    record.later = true;
    rc = kbs_api_ledger_start(call->api, &record, err);
    kbs_record_deinit(&record);
    if (rc != 0) {
        return -1;
    }
    rc = release_order(call, r, &result, err);
    if (kbs_api_ledger_await(call->api, NULL, &failed) != 0) {
        release_owe(call, r);
        *err = failed;
        return -1;
    }
    if (rc == 0 && r->want->provision != NULL) {
        rc = kbs_provision_answer(call, r->want->provision, &r->decision, &result, err);
    }
    if (rc != 0) {
        return release_ended(call, r, "release-failed", err);
    }
    if (r->want->provision != NULL) {
        return 0;
    }
    call->answer->content_type = content_types[result.format];
    kbs_buf_put_span(&call->answer->body, result.body);
    kbs_buf_put_span(&call->answer->receipt, result.receipt);
    return kbs_buf_check(&call->answer->body, "answer", err);
}

static void release_name_session(struct release *r)
{
    kbs_hex_cstr(kbs_span(r->session->sid, sizeof(r->session->sid)), r->sid, sizeof(r->sid));
    kbs_jose_tee_thumbprint(&r->session->tee_key, r->tee_key);
}

int kbs_release_denied(struct kbs_call *call, const struct kbs_release_want *want,
                       struct kbs_error *err)
{
    struct release r = {.want = want, .session = want->session};

    release_name_session(&r);
    return release_ended(call, &r, "release-denied", err);
}

static int release_run(struct kbs_call *call, struct release *r, struct kbs_error *err)
{
    if (kbs_decision_load(&r->decision, r->want->path, r->want->version, err) != 0) {
        return -1;
    }
    release_name_session(r);
    (void)kbs_key_kid(&r->decision.key, r->kid);
    kbs_jose_tee_thumbprint(kbs_session_key(r->session), r->proven_by);
    if (kbs_decide(&r->decision, err) != 0) {
        return kbs_decision_to_record(err) ? release_ended(call, r, "release-denied", err) : -1;
    }
    if (r->want->provision != NULL) {
        if (kbs_provision_look(call, r->want->provision, &r->decision, err) != 0) {
            return r->want->provision->again || err->category >= KBS_BUSY
                       ? -1
                       : release_ended(call, r, "release-denied", err);
        }
    }
    return release_carry_out(call, r, err);
}

int kbs_release_key(struct kbs_call *call, const struct kbs_release_want *want,
                    struct kbs_error *err)
{
    const struct kbs_wire_request *req = call->req;
    struct release r = {
        .want = want, .session = want->session, .decision = KBS_DECISION(call->api)};

    r.decision.how = (struct kbs_circumstances){.session = want->session,
                                                .plugin = want->plugin,
                                                .method = want->resource ? "GET" : "POST",
                                                .target = target_path(req->target),
                                                .now_s = call->now_s};
    r.decision.secret = want->secret;
    r.decision.resource = want->resource;
    r.decision.nek = want->nek;
    r.decision.keeps = want->provision != NULL ? KBS_KEEPS_PROVISION : KBS_KEEPS_NOTHING;
    int rc = release_run(call, &r, err);
    kbs_decision_deinit(&r.decision);
    return rc;
}

int kbs_api_key_release(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_session session = KBS_SESSION_NULL;
    struct request r = {.want = {.session = &session, .plugin = "key"}};
    int rc = -1;

    if (kbs_session_attested(call, &session, err) == 0 && request_parse(call, &r, err) == 0) {
        rc = kbs_release_key(call, &r.want, err);
    }
    kbs_session_deinit(&session);
    return rc;
}
