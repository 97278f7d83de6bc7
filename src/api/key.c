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
 * is recorded too (`release-failed`). The answer body is the token's, unread. The row that decides
 * is read and verified once (row.c), from a store that is the ledger's (epoch.c).
 *
 * If the order could not be written and the deed could, the answer is dropped: wrapped to a TEE that
 * never sees it, it is lost, and the guest asks again. A `release-failed` that names the order is
 * owed then, and comes before the next release.
 */
#include "api/context.h"

#include <stdlib.h>

#include "attest/ear.h"
#include "base/encoding.h"
#include "base/random.h"
#include "jose/write/jose.h"
#include "policy/release.h"

struct release {
    const struct kbs_release_want *want;
    const struct kbs_session *session;
    struct kbs_key key;
    struct kbs_buf policy;
    struct kbs_buf sealed; /* of a secret */
    char kid[KBS_LIMIT_KID_BYTES + 1];
    char sid[33];
    char tee_key[KBS_API_THUMBPRINT_BYTES];
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
    struct kbs_buf salt = KBS_BUF(sizeof(r->salt));
    struct kbs_span nonce_text = KBS_SPAN_EMPTY;
    struct kbs_span salt_text = KBS_SPAN_EMPTY;
    KBS_AUTO_JSON body = NULL;
    int rc = 0;

    if (call->req->body.len == 0) {
        return 0;
    }
    if (kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &body, err) != 0 ||
        kbs_json_only(body, members, err) != 0 ||
        kbs_json_opt_string(body, "nonce", &nonce_text, err) != 0 ||
        kbs_json_opt_string(body, "salt", &salt_text, err) != 0) {
        return -1;
    }
    if (nonce_text.p != NULL &&
        kbs_base64url_get_exact(r->want.nonce, sizeof(r->want.nonce), nonce_text) != 0) {
        return kbs_fail(err, KBS_INPUT, "'nonce' is not the base64url of 32 bytes");
    }
    if (kbs_base64url_get(&salt, salt_text) != 0) {
        rc = kbs_fail(err, KBS_INPUT, "'salt' is not the base64url of at most %d bytes",
                      KBS_LIMIT_COSE_SALT_BYTES);
    } else if (salt.len != 0) {
        memcpy(r->salt, salt.p, salt.len);
        r->want.salt = kbs_span(r->salt, salt.len);
    }
    kbs_buf_deinit(&salt);
    return rc;
}

static int request_parse(struct kbs_call *call, struct request *r, struct kbs_error *err)
{
    static const char *const names[] = {"version", "context", NULL};
    struct kbs_release_want *w = &r->want;
    struct kbs_span context = KBS_SPAN_EMPTY;

    if (kbs_request_path(call, &w->path, err) != 0 ||
        kbs_request_query_only(call->req, names, err) != 0 ||
        kbs_request_version(call->req, &w->version, err) != 0) {
        return -1;
    }
    if (kbs_wire_list_find(&call->req->query, "context", &context)) {
        if (!kbs_span_equal_str(context, "none")) {
            return kbs_fail(err, KBS_INPUT, "context may only be none");
        }
        w->empty_context = true;
    }
    if (kbs_request_accept(call->req->accept, w->formats, &w->format_count, err) != 0) {
        return -1;
    }
    return request_body(call, r, err);
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
    kbs_record_str(ret, "kid", r->kid);
    kbs_record_str(ret, "class", kbs_storage_name(r->key.card.storage));
    kbs_record_str(ret, "tee", kbs_tee_name(r->session->tee));
    kbs_record_str(ret, "binding", kbs_binding_name(r->session->binding));
    kbs_record_str(ret, "tee_key", r->tee_key);
    if (r->session->passport != NULL) { /* else there was a handshake */
        kbs_record_str(ret, "mode", "passport");
        kbs_record_str(ret, "issuer", r->session->passport);
        kbs_record_str(ret, "agreed", r->session->agreed != NULL ? r->session->agreed : "");
    }
    kbs_sha256(kbs_buf_span(&r->policy), digest);
    kbs_record_hex(ret, "policy", kbs_span(digest, sizeof(digest)));
    if (r->want->resource_policy.len != 0) {
        kbs_sha256(r->want->resource_policy, digest);
        kbs_record_hex(ret, "resource_policy", kbs_span(digest, sizeof(digest)));
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

/*
 * The `kbs` root of the claims model: what we know ourselves, and no token can set. Returns owned,
 * or NULL.
 */
static json_t *release_kbs_claims(struct kbs_call *call, const struct release *r,
                                  const json_t *input)
{
    const struct kbs_api *api = call->api;
    struct kbs_span path = target_path(call->req->target);
    /* There was no document to compare with; that a token speaks of one is its issuer's word. */
    bool matched = r->session->passport == NULL && kbs_ear_init_data_matched(input);
    char id[2 * KBS_KEY_ID_BYTES + 1];

    kbs_hex_cstr(kbs_span(r->key.id, sizeof(r->key.id)), id, sizeof(id));
    return json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:s, s:b, s:{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:I}, s:s,"
        " s:b, s:b, s:s, s:s%, s:s%, s:I}",
        "issuer", api->issuer, "tee", kbs_tee_name(r->session->tee), "binding",
        kbs_binding_name(r->session->binding), "token_age_s",
        (json_int_t)(call->now_s - r->session->attested_s), "session_age_s",
        (json_int_t)(call->now_s - r->session->created_s), "key_thumbprint", r->tee_key,
        "init_data_matched", matched ? 1 : 0, "key", "id", id, "path", r->key.path, "version",
        (json_int_t)r->key.version, "purpose", kbs_purpose_name(r->key.card.purpose), "provenance",
        kbs_provenance_name(r->key.card.provenance), "floor", kbs_locality_name(r->key.card.floor),
        "class", kbs_storage_name(r->key.card.storage), "alg", kbs_key_alg_name(r->key.card.alg),
        "bytes", (json_int_t)r->key.card.bytes, "token_class",
        kbs_token_class_name(api->token.class), "pop", 0, "encrypted", 0, "plugin", r->want->plugin,
        "method", (const char *)call->req->method.p, call->req->method.len, "path",
        (const char *)path.p, path.len, "time", (json_int_t)call->now_s);
}

static int claims_parse(struct kbs_span text, json_t **ret, struct kbs_error *err)
{
    return kbs_json_parse_object(text, "claims", ret, err);
}

/*
 * What a resource policy reads besides the claims, as Trustee has it: `data`. Nothing in it needs
 * escaping: segments of paths are letters, digits and three signs.
 */
static void resource_policy_data(const struct release *r, struct kbs_buf *out)
{
    kbs_buf_printf(out, "{\"plugin\":\"%s\",\"method\":\"GET\",\"query\":{},\"resource-path\":[\"",
                   r->want->plugin);
    for (const char *c = r->key.path; *c != '\0'; c++) {
        if (*c == '/') {
            kbs_buf_put_str(out, "\",\"");
        } else {
            kbs_buf_put_u8(out, (uint8_t)*c);
        }
    }
    kbs_buf_put_str(out, "\"]}");
}

static int resource_policy_decide(struct kbs_call *call, const struct release *r,
                                  struct kbs_error *err)
{
    struct kbs_buf data = KBS_BUF(2 * KBS_LIMIT_KEY_PATH_BYTES);
    int rc = 0;

    resource_policy_data(r, &data);
    rc = kbs_buf_check(&data, "the resource policy's data", err);
    if (rc == 0) {
        rc = kbs_rego_decide(call->api, r->want->resource_policy, kbs_buf_span(&r->session->claims),
                             kbs_buf_span(&data), err);
    }
    kbs_buf_deinit(&data);
    return rc;
}

/* What the key or secret says of itself, whatever a policy says. */
static int release_allowed(const struct release *r, struct kbs_error *err)
{
    if (!r->key.has_card) {
        return kbs_fail(err, KBS_DENIED,
                        "this key is from before there were key cards: it must be rotated");
    }
    if (r->key.card.purpose != (r->want->secret ? KBS_PURPOSE_SEAL : KBS_PURPOSE_RELEASE)) {
        return kbs_fail(err, KBS_DENIED, "the purpose of this key is %s, not release",
                        kbs_purpose_name(r->key.card.purpose));
    }
    if (r->key.state != KBS_KEY_STATE_ENABLED) {
        return kbs_fail(err, KBS_DENIED, "this key is %s", kbs_key_state_name(r->key.state));
    }
    return 0;
}

static int release_decide(struct kbs_call *call, const struct release *r, struct kbs_error *err)
{
    struct kbs_parsed *claims = &call->api->claims[r->session->sid[0] & (KBS_API_PARSED - 1)];
    struct kbs_parsed *policies = &call->api->policies[r->key.id[0] & (KBS_API_PARSED - 1)];
    const json_t *policy = NULL;
    const json_t *input = NULL;
    KBS_AUTO_JSON kbs = NULL;

    if (release_allowed(r, err) != 0) {
        return -1;
    }
    if (r->want->resource_policy.len != 0) {
        if (resource_policy_decide(call, r, err) != 0) {
            return -1;
        }
        if (r->want->secret && r->policy.len == 0) {
            return 0; /* a secret without a policy of its own is the resource policy's alone */
        }
    }
    if (kbs_parsed_get(claims, kbs_buf_span(&r->session->claims), claims_parse, &input, err) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the session's claims do not parse");
    }
    if (kbs_parsed_get(policies, kbs_buf_span(&r->policy), kbs_policy_load, &policy, err) != 0) {
        return -1;
    }
    kbs = release_kbs_claims(call, r, input);
    if (kbs == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "the kbs claims cannot be built");
    }
    return kbs_policy_decide_loaded(policy, input, kbs, err);
}

/* The token did what it was told to, as far as can be told without reading the key's wrapping. */
static int release_check(const struct release *r, const struct kbs_wire_result *result,
                         struct kbs_error *err)
{
    bool asked = false;

    for (size_t i = 0; i < r->want->format_count; i++) {
        asked = asked || r->want->formats[i] == result->format;
    }
    if (!asked || result->locality >= KBS_LOCALITY_COUNT || result->locality < r->key.card.floor ||
        result->body.len == 0) {
        return kbs_fail(err, KBS_INTERNAL, "the token's answer does not keep to its order");
    }
    return 0;
}

static int order_key(struct kbs_call *call, const struct release *r, struct kbs_span tee_key,
                     struct kbs_wire_result *ret, struct kbs_error *err)
{
    const struct kbs_release_want *w = r->want;
    uint8_t party_v[32];
    const struct kbs_wire_release order = {
        .order = kbs_span(r->order, sizeof(r->order)),
        .kid = kbs_span_str(r->kid),
        .card = kbs_key_card(&r->key),
        .blob = kbs_key_blob(&r->key),
        .tee_key = tee_key,
        .formats = kbs_span(w->formats, w->format_count),
        .floor = (uint8_t)r->key.card.floor,
        .empty_context = w->empty_context ? 1 : 0,
        .party_v = kbs_span(party_v, sizeof(party_v)),
        .salt = w->salt,
    };

    kbs_party_v(kbs_digest_span(&r->session->report_digest), w->nonce, party_v);
    return kbs_token_order(call, KBS_WIRE_RELEASE, &order, ret, err);
}

static int order_secret(struct kbs_call *call, const struct release *r, struct kbs_span tee_key,
                        struct kbs_wire_result *ret, struct kbs_error *err)
{
    const struct kbs_wire_open_secret order = {
        .order = kbs_span(r->order, sizeof(r->order)),
        .kid = kbs_span_str(r->kid),
        .card = kbs_key_card(&r->key),
        .sealed = kbs_buf_span(&r->sealed),
        .tee_key = tee_key,
    };

    return kbs_token_order(call, KBS_WIRE_OPEN_SECRET, &order, ret, err);
}

static int release_order(struct kbs_call *call, const struct release *r,
                         struct kbs_wire_result *ret, struct kbs_error *err)
{
    uint8_t bytes[KBS_TEE_KEY_MAX_BYTES];
    struct kbs_span tee_key = kbs_span(bytes, kbs_tee_key_put(&r->session->tee_key, bytes));

    if ((r->want->secret ? order_secret(call, r, tee_key, ret, err)
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
    if (rc != 0) {
        return release_ended(call, r, "release-failed", err);
    }
    call->answer->content_type = content_types[result.format];
    kbs_buf_put_span(&call->answer->body, result.body);
    return kbs_buf_check(&call->answer->body, "answer", err);
}

static int release_load(struct kbs_call *call, struct release *r, struct kbs_error *err)
{
    const struct kbs_release_want *w = r->want;
    struct kbs_store *store = call->api->store;

    return w->secret ? kbs_store_secret_newest(store, w->path, &r->key, &r->policy, &r->sealed, err)
                     : kbs_store_key_get(store, w->path, w->version, &r->key, &r->policy, err);
}

static int release_run(struct kbs_call *call, struct release *r, struct kbs_error *err)
{
    if (kbs_epoch_gate(call->api, err) != 0 || release_load(call, r, err) != 0 ||
        kbs_epoch_of_row(call->api, r->key.epoch, err) != 0) {
        return -1;
    }
    kbs_hex_cstr(kbs_span(r->session->sid, sizeof(r->session->sid)), r->sid, sizeof(r->sid));
    (void)kbs_key_kid(&r->key, r->kid);
    kbs_jose_tee_thumbprint(&r->session->tee_key, r->tee_key);
    if (kbs_row_check(call->api, &r->key, kbs_buf_span(&r->policy), err) != 0) {
        return release_ended(call, r, "release-denied", err);
    }
    if (r->key.state == KBS_KEY_STATE_DESTROYED) {
        return kbs_fail(err, KBS_MISSING, "no such key or version");
    }
    if (release_decide(call, r, err) != 0) {
        return err->category == KBS_DENIED ? release_ended(call, r, "release-denied", err) : -1;
    }
    return release_carry_out(call, r, err);
}

int kbs_release_key(struct kbs_call *call, const struct kbs_release_want *want,
                    struct kbs_error *err)
{
    struct release r = {.want = want,
                        .session = want->session,
                        .policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES),
                        .sealed = KBS_BUF(2 * KBS_LIMIT_SECRET_VALUE_BYTES)};
    int rc = release_run(call, &r, err);

    kbs_buf_deinit(&r.policy);
    kbs_buf_deinit(&r.sealed);
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
