/*
 * First boots: a NEK is made for a guest, wrapped for its disk and to its TEE; at the next boots it gets the same
 * (docs/protocol/nek.md).
 *
 * A provision is a release of what is made, or was, instead of what is in the catalog, so it travels as one (key.c).
 * Who the guest is, and how many there may be, the policy's terms say (policy/keeps.h). What is read here comes after
 * the decision: was this guest here before? Then the blob in the store is opened, by the token that marked it; else
 * one is made. Between the question and the row that keeps the answer another lane may serve the same guest: the
 * row that is there first counts, and who was second begins again, finds it, and gives its NEK. The one that
 * was made in vain was never answered to anybody.
 */
#include "api/context.h"

#include "base/encoding.h"

#define BYTES_DEFAULT 32
#define ROUNDS 3 /* as it is; of an older version of the key; after another was first */

/* ---- what there is ---- */

static int stored_read(struct kbs_provision *p, struct kbs_error *err)
{
    KBS_AUTO_JSON blob = NULL;
    struct kbs_error why = KBS_ERROR_NONE;

    if (kbs_json_parse_object(kbs_buf_span(&p->blob), "blob", &blob, &why) != 0 ||
        kbs_nek_read_jose(blob, &p->in, &why) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "store: a provisioned blob does not parse: %.100s",
                        why.detail);
    }
    return 0;
}

/* One that is there: is it to be given again, and is this the version that it is wrapped to? */
static int stored_look(struct kbs_provision *p, const struct kbs_decision *d, struct kbs_error *err)
{
    if (d->terms.once) {
        return kbs_fail(err, KBS_CONFLICT, "this guest was provisioned, and the policy says once");
    }
    if (p->row.version != d->key.version) {
        p->again = p->version == 0;
        p->version = p->row.version;
        return kbs_fail(err, KBS_INTERNAL, "store: a blob of %.100s is of another version",
                        d->key.path);
    }
    return stored_read(p, err);
}

static int new_look(struct kbs_call *call, const struct kbs_provision *p,
                    const struct kbs_decision *d, const struct kbs_store_owner *owner,
                    struct kbs_error *err)
{
    uint64_t count = 0;

    if (p->version != 0) { /* it was there a moment ago, under other terms */
        return kbs_fail(err, KBS_DENIED,
                        "what this guest was provisioned with is of a version of the key whose "
                        "terms are others");
    }
    if (kbs_store_provision_count(call->api->store, owner, &count, err) != 0) {
        return -1;
    }
    return count < d->terms.quota
               ? 0
               : kbs_fail(err, KBS_DENIED, "the policy's quota of guests is used up");
}

int kbs_provision_look(struct kbs_call *call, struct kbs_provision *p, const struct kbs_decision *d,
                       struct kbs_error *err)
{
    struct kbs_store_owner owner;

    kbs_decision_owner(d, &owner);
    if (kbs_store_provision_get(call->api->store, &owner, &p->row, &p->blob, err) == 0) {
        p->stored = true;
        return stored_look(p, d, err);
    }
    if (err->category != KBS_MISSING) {
        return -1;
    }
    *err = KBS_ERROR_NONE;
    return new_look(call, p, d, &owner, err);
}

void kbs_provision_record(const struct kbs_provision *p, const struct kbs_decision *d,
                          struct kbs_record *ret)
{
    struct kbs_store_owner owner;

    kbs_decision_owner(d, &owner);
    kbs_record_str(ret, "provision", p->stored ? "before" : "now");
    kbs_record_hex(ret, "identity", kbs_span(owner.identity, sizeof(owner.identity)));
}

/* ---- the orders ---- */

static int order_new(struct kbs_call *call, const struct kbs_provision *p,
                     const struct kbs_provision_order *o, struct kbs_span binding,
                     struct kbs_span party_v, struct kbs_wire_result *ret, struct kbs_error *err)
{
    uint8_t said[KBS_RECEIPT_WORD_BYTES];
    const struct kbs_wire_provision order = {
        .order = o->order,
        .kid = o->kid,
        .card = kbs_key_card(&o->decision->key),
        .public_key = kbs_key_blob(&o->decision->key),
        .key_bytes = p->bytes,
        .binding = binding,
        .tee_key = o->tee_key,
        .formats = kbs_span(o->want->formats, o->want->format_count),
        .floor = (uint8_t)o->decision->floor,
        .empty_context = o->want->empty_context ? 1 : 0,
        .party_v = party_v,
        .salt = o->want->salt,
        .pop = o->want->session->pop,
        .receipt = kbs_receipt_ask(o->want, o->decision, said),
    };

    return kbs_token_order(call, KBS_WIRE_PROVISION, &order, ret, err);
}

static int order_stored(struct kbs_call *call, const struct kbs_provision *p,
                        const struct kbs_provision_order *o, struct kbs_span binding,
                        struct kbs_span party_v, struct kbs_wire_result *ret, struct kbs_error *err)
{
    uint8_t epk[KBS_TEE_KEY_MAX_BYTES];
    uint8_t said[KBS_RECEIPT_WORD_BYTES];
    const struct kbs_wire_reprovision order = {
        .order = o->order,
        .kid = o->kid,
        .card = kbs_key_card(&o->decision->key),
        .public_key = kbs_key_blob(&o->decision->key),
        .kind = (uint8_t)p->in.kind,
        .epk = kbs_span(epk, p->in.has_epk ? kbs_tee_key_put(&p->in.epk, epk) : 0),
        .binding = binding,
        .wrapped = p->in.wrapped,
        .mark = kbs_span(p->row.mark, sizeof(p->row.mark)),
        .tee_key = o->tee_key,
        .formats = kbs_span(o->want->formats, o->want->format_count),
        .floor = (uint8_t)o->decision->floor,
        .empty_context = o->want->empty_context ? 1 : 0,
        .party_v = party_v,
        .salt = o->want->salt,
        .pop = o->want->session->pop,
        .receipt = kbs_receipt_ask(o->want, o->decision, said),
    };

    return kbs_token_order(call, KBS_WIRE_REPROVISION, &order, ret, err);
}

int kbs_provision_order(struct kbs_call *call, struct kbs_provision *p,
                        const struct kbs_provision_order *o, struct kbs_wire_result *ret,
                        struct kbs_error *err)
{
    uint8_t binding[KBS_NEK_BINDING_BYTES];
    uint8_t party_v[32];
    struct kbs_span bound = kbs_span(binding, sizeof(binding));
    struct kbs_span v = kbs_span(party_v, sizeof(party_v));

    kbs_nek_binding_put(&o->decision->binding, binding);
    kbs_party_v(kbs_digest_span(&o->want->session->report_digest), o->want->nonce, party_v);
    return p->stored ? order_stored(call, p, o, bound, v, ret, err)
                     : order_new(call, p, o, bound, v, ret, err);
}

/* ---- the answer ---- */

/* The parts of the token's answer. Borrowed. */
struct made {
    struct kbs_span mark;
    struct kbs_span blob;
    struct kbs_span to_tee;
};

static int made_get(struct kbs_span body, struct made *ret, struct kbs_error *err)
{
    struct kbs_reader in = kbs_reader(body);
    struct kbs_span head;

    ret->mark = kbs_read_bytes(&in, KBS_MARK_BYTES);
    head = kbs_read_bytes(&in, 4);
    if (!in.failed) {
        ret->blob = kbs_read_bytes(&in, (size_t)head.p[0] << 24 | (size_t)head.p[1] << 16 |
                                            (size_t)head.p[2] << 8 | head.p[3]);
    }
    ret->to_tee = in.rest;
    return !in.failed && ret->to_tee.len != 0
               ? 0
               : kbs_fail(err, KBS_INTERNAL, "the token's answer is not a provisioned key");
}

/* Durably, or the guest would encrypt its disk by a key that nobody has a copy of. */
static int made_keep(struct kbs_call *call, struct kbs_provision *p, const struct kbs_decision *d,
                     const struct kbs_session *session, const struct made *made,
                     struct kbs_error *err)
{
    struct kbs_store_provision row = {.version = d->key.version, .created_s = call->now_s};
    struct kbs_store_owner owner;

    kbs_decision_owner(d, &owner);
    memcpy(row.session, session->sid, sizeof(row.session));
    memcpy(row.mark, made->mark.p, sizeof(row.mark));
    if (kbs_store_provision_add(call->api->store, &owner, &row, made->blob, d->terms.quota, err) ==
        0) {
        return 0;
    }
    p->again = err->category == KBS_CONFLICT;
    if (err->category == KBS_LIMITED) {
        err->category = KBS_DENIED;
    }
    return -1;
}

int kbs_provision_answer(struct kbs_call *call, struct kbs_provision *p,
                         const struct kbs_decision *d, const struct kbs_wire_result *result,
                         struct kbs_error *err)
{
    struct kbs_buf *out = &call->answer->body;
    struct made made = {.mark = KBS_SPAN_EMPTY};

    if (made_get(result->body, &made, err) != 0 ||
        (!p->stored && made_keep(call, p, d, d->how.session, &made, err) != 0)) {
        return -1;
    }
    kbs_buf_put_span(&call->answer->receipt, result->receipt);
    kbs_buf_printf(out, "{\"created\":%s,\"nek\":", p->stored ? "false" : "true");
    kbs_buf_put_span(out, made.blob);
    if (result->format == KBS_FORMAT_COSE) {
        kbs_buf_put_str(out, ",\"cose\":\"");
        kbs_base64url_put(out, made.to_tee);
        kbs_buf_put_str(out, "\"}");
    } else {
        kbs_buf_put_str(out, ",\"recipient\":");
        kbs_buf_put_span(out, made.to_tee);
        kbs_buf_put_u8(out, '}');
    }
    return kbs_buf_check(out, "answer", err);
}

/* ---- POST /kbs/v0/key/provision ---- */

/* A request, and what its spans borrow from. */
struct request {
    struct kbs_release_want want;
    struct kbs_provision provision;
    uint8_t salt[KBS_LIMIT_COSE_SALT_BYTES];
    json_t *body; /* owned */
};

static int bytes_get(const json_t *body, uint32_t *ret, struct kbs_error *err)
{
    int64_t bytes = BYTES_DEFAULT;

    if (json_object_get(body, "bytes") != NULL &&
        kbs_json_get_integer(body, "bytes", &bytes, err) != 0) {
        return -1;
    }
    if (bytes < 0 || !kbs_key_bytes_valid(KBS_KEY_ALG_GENERIC, (uint64_t)bytes)) {
        return kbs_fail(err, KBS_INPUT, "\"bytes\" is not 16 to 64 in steps of 8");
    }
    *ret = (uint32_t)bytes;
    return 0;
}

static int format_get(const json_t *body, struct kbs_release_want *want, struct kbs_error *err)
{
    struct kbs_span text = KBS_SPAN_EMPTY;

    if (kbs_json_opt_string(body, "format", &text, err) != 0) {
        return -1;
    }
    want->format_count = 1;
    want->formats[0] = KBS_FORMAT_JOSE;
    if (kbs_span_equal_str(text, "cose")) {
        want->formats[0] = KBS_FORMAT_COSE;
    } else if (text.p != NULL && !kbs_span_equal_str(text, "jose")) {
        return kbs_fail(err, KBS_INPUT, "\"format\" is not jose or cose");
    }
    return 0;
}

static int request_parse(struct kbs_call *call, struct request *r, struct kbs_error *err)
{
    static const char *const names[] = {"context", "receipt", NULL};
    static const char *const members[] = {"key", "bytes", "format", "nonce", "salt", NULL};

    if (kbs_request_query_only(call->req, names, err) != 0 ||
        kbs_request_context(call->req, &r->want.empty_context, err) != 0 ||
        kbs_request_receipt(call->req, &r->want.receipt, err) != 0 ||
        kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &r->body, err) != 0 ||
        kbs_json_only(r->body, members, err) != 0 ||
        kbs_json_get_string(r->body, "key", &r->want.path, err) != 0 ||
        bytes_get(r->body, &r->provision.bytes, err) != 0 ||
        format_get(r->body, &r->want, err) != 0) {
        return -1;
    }
    if (!kbs_key_path_valid(r->want.path)) {
        return kbs_fail(err, KBS_INPUT, "\"key\" is not repo/type/tag");
    }
    return kbs_request_freshness(r->body, &r->want, r->salt, err);
}

/* What a round found is not the next one's; but for the version. */
static void round_begin(struct kbs_call *call, struct request *r, struct kbs_error *err)
{
    struct kbs_provision *p = &r->provision;

    kbs_buf_clear(&p->blob);
    kbs_nek_in_deinit(&p->in);
    p->in = (struct kbs_nek_in){.kind = KBS_NEK_NONE};
    p->again = false;
    p->stored = false;
    r->want.version = p->version;
    kbs_buf_clear(&call->answer->body);
    *err = KBS_ERROR_NONE;
}

int kbs_api_key_provision(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_session session = KBS_SESSION_NULL;
    struct request r = {.want = {.session = &session, .plugin = "key", .provision = &r.provision},
                        .provision = {.blob = KBS_BUF(KBS_LIMIT_PROVISION_BLOB_BYTES)}};
    int rc = -1;

    if (kbs_session_attested(call, &session, err) == 0 && request_parse(call, &r, err) == 0) {
        r.provision.again = true;
        for (int i = 0; i < ROUNDS && rc != 0 && r.provision.again; i++) {
            round_begin(call, &r, err);
            rc = kbs_release_key(call, &r.want, err);
        }
    }
    kbs_nek_in_deinit(&r.provision.in);
    kbs_buf_deinit(&r.provision.blob);
    json_decref(r.body);
    kbs_session_deinit(&session);
    return rc;
}
