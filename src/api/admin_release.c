/*
 * "Would this guest get this key": the decision of a release without the release.
 *
 * The approach: the very road that a release takes (decide.c), for a session that there is, named by
 * its id or by a token of ours, or for one that is supposed, with claims as given; then the rung that
 * the token would take, by what its probe found. Nothing is recorded, ordered or changed, and no
 * guest lane has this route. The answer tells what was found in the claims: it is an
 * administrator's.
 */
#include "api/context.h"

#include <stdio.h>

#include "base/encoding.h"

#define PATTERN "/kbs/v0/admin/release/dry-run"

struct dry_run {
    struct kbs_decision decision;
    struct kbs_session session;
    struct kbs_span path;
    char target[KBS_LIMIT_KEY_PATH_BYTES + 32];
    uint32_t version;
    uint8_t formats[KBS_FORMAT_COUNT];
    size_t format_count;
    char tee_key[16]; /* as the token's matrix names it */
    json_t *supposed; /* owned */
};

/* ---- what is asked ---- */

static int what_get(struct dry_run *d, const json_t *body, struct kbs_error *err)
{
    int64_t version = 0;
    struct kbs_span as;

    if (kbs_json_get_string(body, "path", &d->path, err) != 0 ||
        kbs_json_get_string(body, "as", &as, err) != 0) {
        return -1;
    }
    d->decision.resource = kbs_span_equal_str(as, "resource");
    if (!d->decision.resource && !kbs_span_equal_str(as, "key")) {
        return kbs_fail(err, KBS_INPUT, "'as' may be key or resource");
    }
    if (!kbs_key_path_valid(d->path)) {
        return kbs_fail(err, KBS_INPUT, "'path' is not a path repo/type/tag");
    }
    if (json_object_get(body, "version") != NULL &&
        (kbs_json_get_integer(body, "version", &version, err) != 0 || version < 1 ||
         version > UINT32_MAX || d->decision.resource)) {
        return kbs_fail(err, KBS_INPUT, "'version' is of keys, 1 to 4294967295");
    }
    d->version = (uint32_t)version;
    (void)snprintf(d->target, sizeof(d->target), "/kbs/v0/%s/%.*s",
                   d->decision.resource ? "resource" : "key", (int)d->path.len,
                   (const char *)d->path.p);
    return 0;
}

static int formats_get(struct dry_run *d, const json_t *body, struct kbs_error *err)
{
    struct kbs_span format = KBS_SPAN_EMPTY;

    if (kbs_json_opt_string(body, "format", &format, err) != 0) {
        return -1;
    }
    if (d->decision.resource) {
        d->formats[d->format_count++] = KBS_FORMAT_JWE;
        return format.len == 0 ? 0 : kbs_fail(err, KBS_INPUT, "'format' is of keys");
    }
    if (!kbs_span_equal_str(format, "cose")) {
        d->formats[d->format_count++] = KBS_FORMAT_JOSE;
    }
    if (format.len == 0 || kbs_span_equal_str(format, "cose")) {
        d->formats[d->format_count++] = KBS_FORMAT_COSE;
    }
    return format.len == 0 || kbs_span_equal_str(format, "cose") ||
                   kbs_span_equal_str(format, "jose")
               ? 0
               : kbs_fail(err, KBS_INPUT, "'format' may be jose or cose");
}

/* ---- for whom ---- */

/* What may be supposed of `kbs`: what is a guest's and a request's, not what is a key's. */
static const char *const supposable[] = {"mode",
                                         "issuer",
                                         "tee",
                                         "binding",
                                         "binding_level",
                                         "token_age_s",
                                         "session_age_s",
                                         "key_thumbprint",
                                         "init_data_matched",
                                         "native",
                                         "pop",
                                         "channel_bound",
                                         "encrypted",
                                         "time",
                                         NULL};

static int suppose(struct dry_run *d, const json_t *body, struct kbs_error *err)
{
    struct kbs_session *s = &d->session;
    json_t *kbs = json_object_get(body, "kbs");
    struct kbs_span tee = KBS_SPAN_EMPTY;
    struct kbs_span binding = KBS_SPAN_EMPTY;
    json_t *claims = NULL;

    d->supposed = json_pack("{s:n}", "key_thumbprint");
    if (kbs_json_get_object(body, "claims", &claims, err) != 0 ||
        kbs_json_dump(claims, &s->claims, err) != 0) {
        return -1;
    }
    if (kbs != NULL && (!json_is_object(kbs) || kbs_json_only(kbs, supposable, err) != 0 ||
                        kbs_json_opt_string(kbs, "tee", &tee, err) != 0 ||
                        kbs_json_opt_string(kbs, "binding", &binding, err) != 0)) {
        return kbs_fail(err, KBS_INPUT, "'kbs' is an object of what is supposed of the guest");
    }
    if (kbs != NULL && json_object_update(d->supposed, kbs) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "what is supposed cannot be kept");
    }
    s->state = KBS_SESSION_ATTESTED;
    s->tee = kbs_tee_from_name(tee);
    s->binding = kbs_binding_from_name(binding);
    s->created_s = s->attested_s = d->decision.how.now_s;
    s->pop = json_is_true(json_object_get(kbs, "pop"));
    s->channel_bound = json_is_true(json_object_get(kbs, "channel_bound"));
    s->encrypted = json_is_true(json_object_get(kbs, "encrypted"));
    d->decision.supposed = d->supposed;
    return 0;
}

static int session_find(struct kbs_call *call, struct dry_run *d, const json_t *body,
                        struct kbs_error *err)
{
    struct kbs_span token = KBS_SPAN_EMPTY;
    struct kbs_span text = KBS_SPAN_EMPTY;
    uint8_t sid[sizeof(d->session.sid)];

    if (kbs_json_opt_string(body, "token", &token, err) != 0 ||
        kbs_json_opt_string(body, "session", &text, err) != 0) {
        return -1;
    }
    if (json_object_get(body, "kbs") != NULL || (token.len != 0) == (text.len != 0)) {
        return kbs_fail(err, KBS_INPUT,
                        "needs one of 'claims' (with 'kbs'), 'token' and 'session'");
    }
    if (text.len != 0 && kbs_hex_get_exact(sid, sizeof(sid), text) != 0) {
        return kbs_fail(err, KBS_INPUT, "'session' is not 32 lower-case hex digits");
    }
    return token.len != 0
               ? kbs_session_of_token(call, token, &d->session, err)
               : kbs_store_session_by_sid(call->api->store, sid, call->now_s, &d->session, err);
}

/* The kind of TEE key, as hsm/ladder.c tells them apart. */
static void tee_key_name(const struct kbs_tee_key *key, char *out, size_t size)
{
    if (kbs_tee_alg_is_ec(key->alg)) { /* of one that signs: as if the answer went to its like */
        (void)snprintf(out, size, "%s", kbs_curve_jose_name(key->ec.curve));
    } else {
        (void)snprintf(out, size, "RSA-%s%s",
                       key->rsa.n_len == KBS_LIMIT_RSA_BYTES_MIN ? "2048" : "3072",
                       key->alg == KBS_TEE_ALG_RSA_OAEP ? "-SHA1" : "");
    }
}

static int whom_get(struct kbs_call *call, struct dry_run *d, const json_t *body,
                    struct kbs_error *err)
{
    struct kbs_span tee_key = KBS_SPAN_EMPTY;
    bool supposed = json_object_get(body, "claims") != NULL;

    if (kbs_json_opt_string(body, "tee_key", &tee_key, err) != 0) {
        return -1;
    }
    if (supposed) {
        tee_key = tee_key.len != 0 ? tee_key : KBS_SPAN_LIT("P-256");
        if (!kbs_span_to_cstr(tee_key, d->tee_key, sizeof(d->tee_key)) ||
            json_object_get(body, "token") != NULL || json_object_get(body, "session") != NULL) {
            return kbs_fail(
                err, KBS_INPUT,
                "needs one of 'claims' (with 'kbs' and 'tee_key'), 'token' and 'session'");
        }
        return suppose(d, body, err);
    }
    if (session_find(call, d, body, err) != 0) {
        /* It is the guest's session that is unknown, not who asks. */
        err->category = err->category == KBS_UNAUTHENTICATED ? KBS_UNPROCESSABLE : err->category;
        return -1;
    }
    if (d->session.state != KBS_SESSION_ATTESTED || tee_key.len != 0) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        tee_key.len != 0 ? "a session has a TEE key"
                                         : "the session has not attested");
    }
    tee_key_name(&d->session.tee_key, d->tee_key, sizeof(d->tee_key));
    if (kbs_tee_alg_signs(d->session.tee_key.alg)) { /* it gets this far with a proof only */
        d->session.pop = true;
        d->session.attested_key = d->session.tee_key;
    }
    return 0;
}

static int body_get(struct kbs_call *call, struct dry_run *d, json_t **ret, struct kbs_error *err)
{
    static const char *const members[] = {"path", "as",      "version", "format",  "claims",
                                          "kbs",  "tee_key", "token",   "session", NULL};

    *ret = NULL;
    if (kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", ret, err) != 0 ||
        kbs_json_only(*ret, members, err) != 0 || what_get(d, *ret, err) != 0 ||
        formats_get(d, *ret, err) != 0) {
        return -1;
    }
    return whom_get(call, d, *ret, err);
}

/* ---- the answer ---- */

/* What the token would do for it. */
static int rung_put(struct kbs_call *call, const struct dry_run *d, json_t *answer,
                    struct kbs_error *err)
{
    const struct kbs_caps_want want = {.formats = d->formats,
                                       .format_count = d->format_count,
                                       .tee_key = d->tee_key,
                                       .bytes = d->decision.key.card.bytes,
                                       .floor = d->decision.floor};
    struct kbs_wire_result result = {.category = KBS_OK};
    struct kbs_error why = KBS_ERROR_NONE;
    struct kbs_caps_cell cell;
    json_t *rung = NULL;

    if (d->decision.secret) {
        return json_object_set_new(
            answer, "rung",
            json_pack("{s:s, s:s, s:s}", "name", "secret", "format", "jwe", "locality", "worker"));
    }
    if (kbs_token_order(call, KBS_WIRE_CAPS, NULL, &result, err) != 0) {
        return -1;
    }
    if (kbs_caps_choose(result.body, &want, &cell, &why) == 0) {
        rung = json_pack("{s:s%, s:s%, s:s%}", "name", cell.rung.p, cell.rung.len, "format",
                         cell.format.p, cell.format.len, "locality", cell.locality.p,
                         cell.locality.len);
    } else if (why.category == KBS_UNSUPPORTED) {
        (void)json_object_set_new(answer, "decision", json_string("unsupported"));
        (void)json_object_set_new(answer, "reason", json_string(why.detail));
        rung = json_null();
    } else {
        *err = why;
        return -1;
    }
    return json_object_set_new(answer, "rung", rung) == 0
               ? 0
               : kbs_fail(err, KBS_INTERNAL, "the answer cannot be built");
}

static json_t *digest_json(struct kbs_span text)
{
    uint8_t digest[KBS_SHA256_BYTES];
    char hex[2 * KBS_SHA256_BYTES + 1];

    if (text.len == 0) {
        return json_null();
    }
    kbs_sha256(text, digest);
    kbs_hex_cstr(kbs_span(digest, sizeof(digest)), hex, sizeof(hex));
    return json_string(hex);
}

static int answer_put(struct kbs_call *call, struct dry_run *d, const struct kbs_error *denied,
                      struct kbs_error *err)
{
    const struct kbs_decision *x = &d->decision;
    char kid[KBS_LIMIT_KID_BYTES + 1] = "";
    struct kbs_buf *out = &call->answer->body;

    if (x->key.path[0] != '\0') { /* else an alias led to none */
        (void)kbs_key_kid(&x->key, kid);
    }
    KBS_AUTO_JSON answer = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:n, s:O?}", "decision",
                                     denied == NULL ? "allow" : "deny", "kid", kid, "by", x->by,
                                     "reason", denied == NULL ? "" : denied->detail, "policy",
                                     digest_json(kbs_buf_span(&x->policy)), "resource_policy",
                                     digest_json(kbs_buf_span(&x->resource_policy)), "rung",
                                     "explained", json_object_get(x->explained, "policy"));
    if (answer == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "the answer cannot be built");
    }
    if (denied == NULL && rung_put(call, d, answer, err) != 0) {
        return -1;
    }
    return kbs_json_dump(answer, out, err);
}

static int dry_run(struct kbs_call *call, struct dry_run *d, struct kbs_error *err)
{
    struct kbs_decision *x = &d->decision;
    struct kbs_error denied = KBS_ERROR_NONE;

    if (x->resource && kbs_alias_resolve(call, &d->session, d->path, &d->path, &denied) < 0) {
        if (!kbs_decision_to_record(&denied)) {
            *err = denied;
            return -1;
        }
        x->by = "alias";
        return answer_put(call, d, &denied, err);
    }
    x->secret = x->resource && kbs_resource_is_secret(call, d->path);
    if (kbs_decision_load(x, d->path, d->version, err) != 0) {
        return -1;
    }
    if (kbs_decide(x, &denied) == 0) {
        return answer_put(call, d, NULL, err);
    }
    if (!kbs_decision_to_record(&denied)) {
        *err = denied;
        return -1;
    }
    return answer_put(call, d, &denied, err);
}

int kbs_api_admin_release_dry_run(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const no_query[] = {NULL};
    struct dry_run d = {.decision = KBS_DECISION(call->api), .session = KBS_SESSION_NULL};
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;
    KBS_AUTO_JSON body = NULL;
    int rc = -1;

    d.decision.explain = true;
    d.decision.how.now_s = call->now_s;
    if (kbs_admin_verify(call, "POST", PATTERN, false, &admin, &sequence, err) == 0 &&
        kbs_request_query_only(call->req, no_query, err) == 0 &&
        body_get(call, &d, &body, err) == 0) {
        d.decision.how.session = &d.session;
        d.decision.how.plugin = d.decision.resource ? "resource" : "key";
        d.decision.how.method = d.decision.resource ? "GET" : "POST";
        d.decision.how.target = kbs_span_str(d.target);
        rc = dry_run(call, &d, err);
    }
    kbs_decision_deinit(&d.decision);
    kbs_session_deinit(&d.session);
    json_decref(d.supposed);
    return rc;
}
