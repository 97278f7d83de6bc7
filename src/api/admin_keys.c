/*
 * Administrators' keys: list, show, generate, import.
 *
 * The problem: a mutation touches ledger, token and store, and a crash may come between any two.
 * The approach: the intent is durable before the token is asked, the catalog row is written after
 * the token has the key, and the outcome is recorded last. So a key without a row (an orphan: it
 * can never be released, since release starts at the catalog) always has an intent that names its
 * id and token, and an outcome that says so, or none at all if we died there. A row without a key
 * cannot come to be. The row is signed by the token, and counted (epoch.c): a mutation that failed
 * raises the store's epoch without a row, so that its outcome can be told.
 *
 * Every request is verified as signed before anything in it is parsed (admin_auth.c).
 */
#include "api/context.h"

#include <stdio.h>

#include "base/encoding.h"
#include "base/random.h"
#include "catalog/row.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"
#include "policy/release.h"

#define KEYS_PATTERN "/kbs/v0/admin/keys"
#define KEY_PATTERN "/kbs/v0/admin/keys/*/*/*"
#define IMPORT_PATTERN "/kbs/v0/admin/keys/*/*/*/import"
#define IMPORT_KEY_PATTERN "/kbs/v0/admin/import-key"

#define IMPORT_APU "kbs-import-v1"
#define KEY_BYTES_DEFAULT 32
#define WRAP_OVERHEAD_BYTES 8 /* AES Key Wrap (RFC 3394) */

static const char *const no_query[] = {NULL};

/* A key on its way into token and catalog. */
struct new_key {
    struct kbs_key row;
    struct kbs_buf policy; /* JSON text, empty for none */
    const struct kbs_admin *admin;
    uint64_t sequence;
    const char *kind; /* of its records */
    uint8_t order[KBS_LIMIT_ORDER_BYTES];
    uint64_t intent; /* number of the intent */
};

static void key_id_put(struct kbs_buf *out, const struct kbs_key *key)
{
    char kid[KBS_LIMIT_KID_BYTES + 1];

    (void)kbs_key_kid(key, kid);
    kbs_buf_printf(out, "{\"path\":\"%s\",\"version\":%u,\"kid\":\"%s\",\"purpose\":\"%s\"",
                   key->path, (unsigned int)key->version, kid, kbs_purpose_name(key->purpose));
}

/* KEY of docs/protocol/admin-api.md, without its closing brace. Nothing in it needs escaping. */
static void key_put_open(struct kbs_buf *out, const struct kbs_key *key)
{
    key_id_put(out, key);
    kbs_buf_printf(
        out, ",\"provenance\":\"%s\",\"alg\":\"AES\",\"bytes\":%u,\"floor\":\"%s\",\"kcv\":\"",
        kbs_provenance_name(key->provenance), (unsigned int)key->bytes,
        kbs_locality_name(key->floor));
    kbs_hex_put(out, kbs_span(key->kcv, sizeof(key->kcv)));
    kbs_buf_printf(out, "\",\"created\":%lld", (long long)key->created_s);
}

static void key_put(struct kbs_buf *out, const struct kbs_key *key)
{
    key_put_open(out, key);
    kbs_buf_put_u8(out, '}');
}

/* What verifying the row takes beside what is shown (docs/protocol/store-rows.md). */
static void row_put(struct kbs_buf *out, const struct kbs_key *key)
{
    kbs_buf_put_str(out, "{\"id\":\"");
    kbs_hex_put(out, kbs_span(key->id, sizeof(key->id)));
    kbs_buf_printf(out, "\",\"epoch\":%llu,\"request\":\"", (unsigned long long)key->epoch);
    kbs_hex_put(out, kbs_span(key->request, sizeof(key->request)));
    kbs_buf_put_str(out, "\",\"signature\":\"");
    kbs_base64url_put(out, kbs_span(key->signature, sizeof(key->signature)));
    kbs_buf_put_str(out, "\"}");
}

static void list_each(void *ctx, const struct kbs_key *key)
{
    struct kbs_buf *out = ctx;

    if (out->p[out->len - 1] != '[') {
        kbs_buf_put_u8(out, ',');
    }
    key_put(out, key);
}

int kbs_api_admin_key_list(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_buf *out = &call->answer->body;
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", KEYS_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(out, "{\"keys\":[");
    if (kbs_buf_check(out, "answer", err) != 0 ||
        kbs_store_key_list(call->api->store, list_each, out, err) != 0) {
        return -1;
    }
    kbs_buf_put_str(out, "]}");
    return 0;
}

int kbs_api_admin_key_show(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const names[] = {"version", NULL};
    struct kbs_buf *out = &call->answer->body;
    struct kbs_buf policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    const struct kbs_admin *admin = NULL;
    struct kbs_span path = KBS_SPAN_EMPTY;
    struct kbs_key key;
    uint64_t sequence = 0;
    uint32_t version = 0;
    int rc = -1;

    if (kbs_admin_verify(call, "GET", KEY_PATTERN, false, &admin, &sequence, err) == 0 &&
        kbs_request_query_only(call->req, names, err) == 0 &&
        kbs_request_version(call->req, &version, err) == 0 &&
        kbs_request_path(call, &path, err) == 0) {
        rc = kbs_store_key_get(call->api->store, path, version, &key, &policy, err);
    }
    if (rc == 0) {
        key_put_open(out, &key);
        kbs_buf_put_str(out, ",\"policy\":");
        kbs_buf_put_span(out, policy.len != 0 ? kbs_buf_span(&policy) : KBS_SPAN_LIT("null"));
        kbs_buf_put_str(out, ",\"row\":");
        row_put(out, &key);
        kbs_buf_put_u8(out, '}');
    }
    kbs_buf_deinit(&policy);
    return rc;
}

int kbs_api_admin_import_key(struct kbs_call *call, struct kbs_error *err)
{
    const struct kbs_token_facts *f = &call->api->token;
    struct kbs_buf *out = &call->answer->body;
    const struct kbs_admin *admin = NULL;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", IMPORT_KEY_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0) {
        return -1;
    }
    if (!f->has_import) {
        return kbs_fail(err, KBS_MISSING, "the token has no import key, see kbs-admin init");
    }
    kbs_buf_put_str(out, "{\"key\":");
    kbs_jose_jwk_put(out, &f->import);
    kbs_buf_printf(out, ",\"thumbprint\":\"%s\",\"token\":{\"manufacturer\":", f->import_kid);
    kbs_json_string_put(out, kbs_span_str(f->manufacturer));
    kbs_buf_put_str(out, ",\"model\":");
    kbs_json_string_put(out, kbs_span_str(f->model));
    kbs_buf_put_str(out, ",\"serial\":");
    kbs_json_string_put(out, kbs_span_str(f->serial));
    kbs_buf_printf(out, ",\"class\":\"%s\",\"rungs\":%s}}", kbs_token_class_name(f->class),
                   f->rungs);
    return 0;
}

/* ---- mutations ---- */

static void new_key_record(struct kbs_call *call, const struct new_key *k, struct kbs_record *r,
                           enum kbs_phase phase)
{
    kbs_record_init(r, k->kind);
    r->phase = phase;
    r->epoch = phase != KBS_PHASE_NONE ? k->row.epoch : 0;
    kbs_record_hex(r, "order", kbs_span(k->order, sizeof(k->order)));
    if (k->intent != 0) {
        kbs_record_u64(r, "intent", k->intent);
    }
    kbs_record_str(r, "path", k->row.path);
    kbs_record_u64(r, "version", k->row.version);
    kbs_record_hex(r, "id", kbs_span(k->row.id, sizeof(k->row.id)));
    kbs_record_str(r, "admin", k->admin->thumbprint);
    kbs_record_u64(r, "sequence", k->sequence);
    kbs_record_str(r, "token_serial", call->api->token.serial);
}

static int new_key_intent(struct kbs_call *call, struct new_key *k, struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];
    struct kbs_record r;
    int rc = 0;

    new_key_record(call, k, &r, KBS_PHASE_INTENT);
    kbs_record_u64(&r, "bytes", k->row.bytes);
    kbs_record_str(&r, "floor", kbs_locality_name(k->row.floor));
    kbs_sha256(kbs_buf_span(&k->policy), digest);
    kbs_record_hex(&r, "policy", kbs_span(digest, sizeof(digest)));
    kbs_record_text(&r, "peer", call->req->peer);
    rc = kbs_api_ledger_append(call->api, &r, &k->intent, err);
    kbs_record_deinit(&r);
    return rc;
}

/*
 * outcome: "done", "failed" (the token has no such key) or "orphan" (it has, and the catalog has
 * not). phase: NONE leaves the epoch open.
 */
static int new_key_outcome(struct kbs_call *call, const struct new_key *k, enum kbs_phase phase,
                           const char *outcome, const char *reason, struct kbs_error *err)
{
    struct kbs_record r;
    int rc = 0;

    new_key_record(call, k, &r, phase);
    kbs_record_str(&r, "outcome", outcome);
    if (reason != NULL) {
        kbs_record_str(&r, "reason", reason);
    } else {
        kbs_record_hex(&r, "kcv", kbs_span(k->row.kcv, sizeof(k->row.kcv)));
    }
    rc = kbs_api_ledger_append(call->api, &r, NULL, err);
    kbs_record_deinit(&r);
    return rc;
}

/* The epoch of a mutation that comes to nothing: counted, without a row. */
static int new_key_close(struct kbs_call *call, const struct new_key *k, struct kbs_error *err)
{
    const struct kbs_standing *standing = &call->api->standing;
    struct kbs_store_mutation m = {.from_epoch = standing->store.epoch, .epoch = standing->store};

    m.epoch.epoch = k->row.epoch;
    return kbs_epoch_commit(call->api, &m, err);
}

static int new_key_failed(struct kbs_call *call, const struct new_key *k, const char *outcome,
                          struct kbs_error *err)
{
    struct kbs_error failed = KBS_ERROR_NONE;
    enum kbs_phase phase = KBS_PHASE_NONE;

    if (call->api->must_exit == KBS_EXIT_OK && new_key_close(call, k, &failed) == 0) {
        phase = KBS_PHASE_OUTCOME;
    }
    if (new_key_outcome(call, k, phase, outcome, err->detail, &failed) != 0) {
        *err = failed;
    }
    kbs_head_sign(call->api);
    return -1;
}

/* The row, signed, and the epoch that counts it. */
static int new_key_commit(struct kbs_call *call, struct new_key *k, struct kbs_error *err)
{
    const struct kbs_standing *standing = &call->api->standing;
    struct kbs_store_mutation m = {.key = &k->row,
                                   .policy = kbs_buf_span(&k->policy),
                                   .request = call->req->signature,
                                   .from_epoch = standing->store.epoch,
                                   .epoch = standing->store};
    struct kbs_buf content = KBS_BUF(KBS_ROW_MAX_BYTES);
    uint8_t digest[KBS_SHA256_BYTES];
    int rc = 0;

    m.epoch.epoch = k->row.epoch;
    kbs_row_key_put(&content, &k->row, m.policy);
    rc = kbs_buf_check(&content, "the row", err);
    if (rc == 0) {
        kbs_row_digest(kbs_buf_span(&content), digest);
        kbs_row_manifest_add(m.epoch.manifest, digest);
        rc = kbs_row_sign(call->api, kbs_buf_span(&content), k->row.signature, err);
    }
    kbs_buf_deinit(&content);
    return rc == 0 ? kbs_epoch_commit(call->api, &m, err) : -1;
}

/* Gives the token the order and the catalog the row. */
static int new_key_make(struct kbs_call *call, struct new_key *k, enum kbs_wire_type type,
                        const void *order, struct kbs_error *err)
{
    struct kbs_wire_result result = {.category = KBS_OK};

    if (new_key_intent(call, k, err) != 0) {
        return -1;
    }
    if (kbs_token_order(call, type, order, &result, err) != 0) {
        /* Out of step, lost while it worked, or without a ledger for its deed: nobody knows whether
         * the token has made it. */
        bool lost = call->api->must_exit != KBS_EXIT_OK || err->category == KBS_TOKEN_DOWN ||
                    err->category == KBS_BUSY;

        return new_key_failed(call, k, lost ? "unknown" : "failed", err);
    }
    if (result.body.len != sizeof(k->row.kcv)) {
        (void)kbs_fail(err, KBS_INTERNAL, "the token's key check value is malformed");
        return new_key_failed(call, k, "orphan", err);
    }
    memcpy(k->row.kcv, result.body.p, sizeof(k->row.kcv));
    if (new_key_commit(call, k, err) != 0) {
        return new_key_failed(call, k, "orphan", err);
    }
    if (new_key_outcome(call, k, KBS_PHASE_OUTCOME, "done", NULL, err) != 0) {
        return -1;
    }
    kbs_head_sign(call->api);
    key_put(&call->answer->body, &k->row);
    return 0;
}

/* "floor" and "policy", which both mutations have. */
static int new_key_terms(const json_t *body, struct new_key *k, struct kbs_error *err)
{
    const json_t *policy = json_object_get(body, "policy");
    struct kbs_span floor = KBS_SPAN_EMPTY;

    if (kbs_json_opt_string(body, "floor", &floor, err) != 0) {
        return -1;
    }
    k->row.floor = floor.p != NULL ? kbs_locality_from_name(floor) : KBS_LOCALITY_TRANSPORT;
    if (k->row.floor == KBS_LOCALITY_NONE) {
        return kbs_fail(err, KBS_INPUT, "'floor' must be token, transport or worker");
    }
    if (policy == NULL || json_is_null(policy)) {
        return 0;
    }
    if (!json_is_object(policy)) {
        return kbs_fail(err, KBS_INPUT, "'policy' must be an object or null");
    }
    if (kbs_json_dump(policy, &k->policy, err) != 0) {
        return -1;
    }
    return kbs_policy_check(kbs_buf_span(&k->policy), err);
}

/* Fills in what a first version has and makes sure that there is none. */
static int new_key_begin(struct kbs_call *call, struct new_key *k, struct kbs_span path,
                         struct kbs_error *err)
{
    struct kbs_key existing;
    struct kbs_error found = KBS_ERROR_NONE;

    if (!kbs_key_path_valid(path) || !kbs_span_to_cstr(path, k->row.path, sizeof(k->row.path))) {
        return kbs_fail(err, KBS_INPUT,
                        "the path is not repo/type/tag of letters, digits, '_', '-', '.'");
    }
    if (kbs_store_key_get(call->api->store, path, 0, &existing, NULL, &found) == 0) {
        return kbs_fail(err, KBS_CONFLICT, "a key with this path exists");
    }
    if (found.category != KBS_MISSING) {
        *err = found;
        return -1;
    }
    /* Also closes what a crash left open, and makes sure that nothing foreign is counted in. */
    if (!call->api->token.has_row) {
        return kbs_fail(err, KBS_UNSUPPORTED, "the token has no sign-row key, see kbs-admin init");
    }
    if (kbs_epoch_check(call->api, err) != 0 || kbs_epoch_gate(call->api, err) != 0) {
        return -1;
    }
    kbs_random(k->row.id, sizeof(k->row.id));
    kbs_random(k->order, sizeof(k->order));
    k->row.epoch = call->api->standing.store.epoch + 1;
    kbs_sha256(call->req->signature, k->row.request);
    k->row.version = 1;
    k->row.purpose = KBS_PURPOSE_RELEASE;
    k->row.created_s = call->now_s;
    return 0;
}

static int create_parse(struct kbs_call *call, struct new_key *k, struct kbs_error *err)
{
    static const char *const members[] = {"path",  "purpose", "alg", "bytes",
                                          "floor", "policy",  NULL};
    struct kbs_span path = KBS_SPAN_EMPTY;
    struct kbs_span purpose = KBS_SPAN_EMPTY;
    struct kbs_span alg = KBS_SPAN_EMPTY;
    int64_t bytes = KEY_BYTES_DEFAULT;
    KBS_AUTO_JSON body = NULL;

    if (kbs_request_query_only(call->req, no_query, err) != 0 ||
        kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &body, err) != 0 ||
        kbs_json_only(body, members, err) != 0 ||
        kbs_json_get_string(body, "path", &path, err) != 0 ||
        kbs_json_get_string(body, "purpose", &purpose, err) != 0 ||
        kbs_json_get_string(body, "alg", &alg, err) != 0 ||
        (json_object_get(body, "bytes") != NULL &&
         kbs_json_get_integer(body, "bytes", &bytes, err) != 0)) {
        return -1;
    }
    if (!kbs_span_equal_str(purpose, kbs_purpose_name(KBS_PURPOSE_RELEASE)) ||
        !kbs_span_equal_str(alg, "AES") || (bytes != 16 && bytes != 24 && bytes != 32)) {
        return kbs_fail(err, KBS_INPUT,
                        "only purpose release, alg AES and 16, 24 or 32 bytes are known");
    }
    k->row.bytes = (uint32_t)bytes;
    k->row.provenance = KBS_PROVENANCE_GENERATED;
    if (new_key_terms(body, k, err) != 0) {
        return -1;
    }
    return new_key_begin(call, k, path, err);
}

int kbs_api_admin_key_create(struct kbs_call *call, struct kbs_error *err)
{
    struct new_key k = {.kind = "key-generate", .policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES)};
    char label[KBS_LIMIT_KID_BYTES + 1];
    struct kbs_wire_generate order = {.purpose = KBS_PURPOSE_RELEASE};
    int rc = -1;

    if (kbs_admin_verify(call, "POST", KEYS_PATTERN, true, &k.admin, &k.sequence, err) == 0 &&
        create_parse(call, &k, err) == 0) {
        order.order = kbs_span(k.order, sizeof(k.order));
        order.key_id = kbs_span(k.row.id, sizeof(k.row.id));
        order.key_version = k.row.version;
        order.label = kbs_span(label, kbs_key_kid(&k.row, label));
        order.key_bytes = k.row.bytes;
        rc = new_key_make(call, &k, KBS_WIRE_GENERATE, &order, err);
    }
    kbs_buf_deinit(&k.policy);
    return rc;
}

/* The recipient is addressed to our import key, for exactly this key version. */
static int import_check(struct kbs_call *call, const struct kbs_jose_recipient_in *in,
                        const char *label, struct new_key *k, struct kbs_error *err)
{
    const struct kbs_token_facts *f = &call->api->token;

    if (!f->has_import) {
        return kbs_fail(err, KBS_UNSUPPORTED, "the token has no import key, see kbs-admin init");
    }
    if (strcmp(in->kid, f->import_kid) != 0) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the recipient is addressed to another import key");
    }
    if (!kbs_span_equal_str(kbs_buf_span(&in->apu), IMPORT_APU) ||
        !kbs_span_equal_str(kbs_buf_span(&in->apv), label)) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "the recipient was made for another path or version");
    }
    if (in->epk.curve != KBS_CURVE_P256) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the recipient's epk is not on P-256");
    }
    k->row.bytes = (uint32_t)(in->encrypted_key.len - WRAP_OVERHEAD_BYTES);
    return 0;
}

static int import_parse(struct kbs_call *call, struct new_key *k, struct kbs_jose_recipient_in *in,
                        struct kbs_error *err)
{
    static const char *const members[] = {"floor", "policy", "recipient", NULL};
    struct kbs_span path = KBS_SPAN_EMPTY;
    json_t *recipient = NULL;
    KBS_AUTO_JSON body = NULL;

    k->row.provenance = KBS_PROVENANCE_IMPORTED;
    if (kbs_request_path(call, &path, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0 ||
        kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &body, err) != 0 ||
        kbs_json_only(body, members, err) != 0 ||
        kbs_json_get_object(body, "recipient", &recipient, err) != 0 ||
        new_key_terms(body, k, err) != 0 || kbs_jose_recipient_get(recipient, in, err) != 0) {
        return -1;
    }
    return new_key_begin(call, k, path, err);
}

int kbs_api_admin_key_import(struct kbs_call *call, struct kbs_error *err)
{
    struct new_key k = {.kind = "key-import", .policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES)};
    struct kbs_jose_recipient_in in = {.kid = ""};
    char label[KBS_LIMIT_KID_BYTES + 1] = "";
    struct kbs_wire_import order = {.key_version = 0};
    int rc = -1;

    if (kbs_admin_verify(call, "POST", IMPORT_PATTERN, true, &k.admin, &k.sequence, err) == 0 &&
        import_parse(call, &k, &in, err) == 0) {
        order.label = kbs_span(label, kbs_key_kid(&k.row, label));
        rc = import_check(call, &in, label, &k, err);
    }
    if (rc == 0) {
        order.order = kbs_span(k.order, sizeof(k.order));
        order.key_id = kbs_span(k.row.id, sizeof(k.row.id));
        order.key_version = k.row.version;
        order.epk_x = kbs_ec_x(&in.epk);
        order.epk_y = kbs_ec_y(&in.epk);
        order.wrapped = kbs_buf_span(&in.encrypted_key);
        rc = new_key_make(call, &k, KBS_WIRE_IMPORT, &order, err);
    }
    kbs_jose_recipient_in_deinit(&in);
    kbs_buf_deinit(&k.policy);
    return rc;
}
