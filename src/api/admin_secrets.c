/*
 * Secrets, on the administrators' side: what there is, a new version, deletion. No request here
 * gives a value back; releases are resource.c's.
 *
 * The problem: a secret arrives as ciphertext to the token's seal key, and whether it opens can
 * only be told in the token. The approach: its shape, its name and its key are checked here, then
 * the token opens it once and answers card and sealed form, and only these become a row
 * (mutation.c: intent, order, row, outcome).
 *
 * Versions are immutable, and the newest one counts. So many older ones are kept
 * (KBS_LIMIT_SECRET_VERSIONS); what falls off is erased in the mutation that adds the next, and
 * deletion erases all: an older value must not come back because a newer one went.
 *
 * Plaintext, for clients that cannot seal, is taken outside the production profile only, and the
 * ledger says so. Then the secret has been in the memory of front and judge.
 */
#include "api/context.h"

#include <stdlib.h>

#include "base/encoding.h"
#include "base/random.h"
#include "base/secret.h"
#include "jose/read/jwe.h"

#define SECRETS_PATTERN "/kbs/v0/admin/secrets"
#define SECRET_PATTERN "/kbs/v0/admin/secrets/*/*/*"

static const char *const no_query[] = {NULL};

/* The rows of a mutation: at most one new version and those that are kept. */
#define ROWS_MAX (KBS_LIMIT_SECRET_VERSIONS + 1)

/* A version that is there. */
struct live {
    struct kbs_key key;
    struct kbs_buf policy;
};

struct live_list {
    struct live *v; /* ROWS_MAX of them; owned */
    size_t count;
    bool more; /* there were more: a store that this program did not write */
};

/* A request about one secret. */
struct secret {
    struct kbs_mutation m;
    struct kbs_key row; /* the new version; of a deletion, the newest */
    struct kbs_buf policy;
    json_t *body; /* owned */
    struct kbs_span path;
    struct kbs_jose_jwe_in jwe;
    struct kbs_buf plaintext;
    struct live_list live;
    char kid[KBS_LIMIT_KID_BYTES + 1];
};

static struct secret secret_new(struct kbs_call *call, const char *kind)
{
    return (struct secret){
        .m = {.api = call->api, .call = call, .kind = kind, .request = call->req->signature},
        .policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES),
        .plaintext = KBS_BUF(KBS_LIMIT_SECRET_VALUE_BYTES)};
}

static void secret_deinit(struct secret *s)
{
    for (size_t i = 0; s->live.v != NULL && i < ROWS_MAX; i++) {
        kbs_buf_deinit(&s->live.v[i].policy);
    }
    free(s->live.v);
    kbs_cleanse(s->plaintext.p, s->plaintext.len);
    kbs_buf_deinit(&s->plaintext);
    kbs_jose_jwe_in_deinit(&s->jwe);
    kbs_buf_deinit(&s->policy);
    json_decref(s->body);
}

/* SECRET of docs/protocol/admin-api.md, without its closing brace. Nothing in it needs escaping. */
static void secret_put_open(struct kbs_buf *out, const struct kbs_key *row)
{
    char kid[KBS_LIMIT_KID_BYTES + 1];

    (void)kbs_key_kid(row, kid);
    kbs_buf_printf(out,
                   "{\"path\":\"%s\",\"version\":%u,\"kid\":\"%s\",\"bytes\":%u,\"state\":\"%s\""
                   ",\"seal_key\":%u,\"created\":%llu",
                   row->path, (unsigned int)row->version, kid, (unsigned int)row->card.bytes,
                   kbs_key_state_name(row->state), (unsigned int)row->card.wrap_version,
                   (unsigned long long)row->card.created_s);
}

static void secret_put(struct kbs_buf *out, const struct kbs_key *row, struct kbs_span policy)
{
    secret_put_open(out, row);
    kbs_buf_put_str(out, ",\"policy\":");
    kbs_buf_put_span(out, policy.len != 0 ? policy : KBS_SPAN_LIT("null"));
    kbs_buf_put_u8(out, '}');
}

/* ---- reads ---- */

static void list_each(void *ctx, const struct kbs_key *row, const struct kbs_store_texts *texts)
{
    struct kbs_page *page = ctx;

    (void)texts;
    if (kbs_page_next(page)) {
        secret_put_open(page->out, row);
        kbs_buf_put_u8(page->out, '}');
    }
}

int kbs_api_admin_secret_list(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_page page = {.out = &call->answer->body};
    const struct kbs_admin *admin = NULL;
    struct kbs_span after = KBS_SPAN_EMPTY;
    uint64_t sequence = 0;

    if (kbs_admin_verify(call, "GET", SECRETS_PATTERN, false, &admin, &sequence, err) != 0 ||
        kbs_request_page(call->req, &after, &page.limit, err) != 0) {
        return -1;
    }
    if (after.len != 0 && !kbs_key_path_valid(after)) {
        return kbs_fail(err, KBS_INPUT, "after must be a path, repo/type/tag");
    }
    kbs_buf_put_str(page.out, "{\"secrets\":[");
    if (kbs_store_secret_list(call->api->store, after, page.limit + 1, list_each, &page, err) !=
        0) {
        return -1;
    }
    kbs_page_end(&page);
    return 0;
}

int kbs_api_admin_secret_show(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_buf policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    const struct kbs_admin *admin = NULL;
    struct kbs_span path;
    struct kbs_key row;
    uint64_t sequence = 0;
    int rc = -1;

    if (kbs_admin_verify(call, "GET", SECRET_PATTERN, false, &admin, &sequence, err) == 0 &&
        kbs_request_query_only(call->req, no_query, err) == 0 &&
        kbs_request_path(call, &path, err) == 0) {
        rc = kbs_store_secret_newest(call->api->store, path, &row, &policy, NULL, err);
    }
    if (rc == 0) {
        secret_put(&call->answer->body, &row, kbs_buf_span(&policy));
    }
    kbs_buf_deinit(&policy);
    return rc;
}

/* ---- what there is ---- */

static void live_each(void *ctx, const struct kbs_key *row, const struct kbs_store_texts *texts)
{
    struct live_list *list = ctx;

    if (list->count == ROWS_MAX) {
        list->more = true;
        return;
    }
    list->v[list->count].key = *row;
    kbs_buf_put_span(&list->v[list->count].policy, texts->policy);
    list->count++;
}

/*
 * All versions that are not destroyed, the oldest first, each verified: they are going to be signed
 * again.
 */
static int live_get(struct secret *s, struct kbs_error *err)
{
    s->live.v = calloc(ROWS_MAX, sizeof(*s->live.v));
    if (s->live.v == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    for (size_t i = 0; i < ROWS_MAX; i++) {
        s->live.v[i].policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    }
    if (kbs_store_secret_live(s->m.api->store, s->path, live_each, &s->live, err) != 0) {
        return -1;
    }
    if (s->live.more) {
        return kbs_fail(err, KBS_INTERNAL, "the store has more than %d versions of this secret",
                        ROWS_MAX);
    }
    for (size_t i = 0; i < s->live.count; i++) {
        const struct live *l = &s->live.v[i];

        if (kbs_buf_check(&l->policy, "policy", err) != 0 ||
            kbs_row_check(s->m.api, &l->key, kbs_buf_span(&l->policy), err) != 0) {
            return -1;
        }
    }
    return 0;
}

/* The rows of the first `count` live versions, as they are once their values are erased. */
static void live_destroy(struct secret *s, size_t count, struct kbs_store_row *rows)
{
    for (size_t i = 0; i < count; i++) {
        struct live *l = &s->live.v[i];

        l->key.state = KBS_KEY_STATE_DESTROYED;
        rows[i] = (struct kbs_store_row){
            .key = &l->key, .policy = kbs_buf_span(&l->policy), .request = s->m.request};
    }
}

/* ---- a new version ---- */

static int set_plaintext(struct secret *s, json_t *v, struct kbs_error *err)
{
    struct kbs_span text = kbs_span_str(json_string_value(v));
    int rc = kbs_base64url_get(&s->plaintext, text);

    kbs_cleanse((void *)(uintptr_t)text.p, text.len);
    if (rc != 0 || s->plaintext.len == 0) {
        return kbs_fail(err, KBS_INPUT, "'plaintext' is not the base64url of 1 to %u bytes",
                        (unsigned int)KBS_LIMIT_SECRET_VALUE_BYTES);
    }
    if (s->m.api->production) {
        return kbs_fail(err, KBS_DENIED,
                        "the production profile takes secrets that were sealed by the client only");
    }
    return 0;
}

static int set_parse(struct kbs_call *call, struct secret *s, struct kbs_error *err)
{
    static const char *const members[] = {"jwe", "plaintext", "policy", NULL};
    json_t *jwe = NULL;
    json_t *plaintext = NULL;

    if (kbs_request_query_only(call->req, no_query, err) != 0 ||
        kbs_request_path(call, &s->path, err) != 0 ||
        kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &s->body, err) != 0 ||
        kbs_json_only(s->body, members, err) != 0) {
        return -1;
    }
    jwe = json_object_get(s->body, "jwe");
    plaintext = json_object_get(s->body, "plaintext");
    if ((jwe != NULL) == (plaintext != NULL) || (plaintext != NULL && !json_is_string(plaintext))) {
        return kbs_fail(err, KBS_INPUT, "a secret comes as 'jwe', or as 'plaintext' (base64url)");
    }
    return jwe != NULL ? kbs_jose_sealed_get(jwe, &s->jwe, err) : set_plaintext(s, plaintext, err);
}

/* A path is a key's or a secret's, never both; if that cannot be told, nothing is made. */
static int path_is_no_keys(struct secret *s, struct kbs_error *err)
{
    struct kbs_error found = KBS_ERROR_NONE;
    struct kbs_key key;

    if (kbs_store_key_newest(s->m.api->store, s->path, &key, NULL, &found) == 0) {
        return kbs_fail(err, KBS_CONFLICT, "a key has this path");
    }
    if (found.category != KBS_MISSING) {
        *err = found;
        return -1;
    }
    return 0;
}

/* Version, id and terms: of a first one, or of the one that follows the newest. */
static int set_terms(struct secret *s, struct kbs_error *err)
{
    struct kbs_store *store = s->m.api->store;
    struct kbs_error found = KBS_ERROR_NONE;
    struct kbs_key newest;

    s->row.version = 1;
    kbs_random(s->row.id, sizeof(s->row.id));
    if (kbs_store_secret_newest(store, s->path, &newest, &s->policy, NULL, &found) == 0) {
        if (kbs_row_check(s->m.api, &newest, kbs_buf_span(&s->policy), err) != 0) {
            return -1;
        }
        if (newest.version == UINT32_MAX) {
            return kbs_fail(err, KBS_CONFLICT, "the path has no version left");
        }
        s->row.version = newest.version + 1;
        memcpy(s->row.id, newest.id, sizeof(s->row.id));
        if (newest.state == KBS_KEY_STATE_DESTROYED) {
            kbs_buf_clear(&s->policy); /* what was deleted leaves no terms behind */
        }
    } else if (found.category != KBS_MISSING) {
        *err = found;
        return -1;
    } else if (path_is_no_keys(s, err) != 0) {
        return -1;
    }
    return kbs_key_terms_policy(s->body, &s->policy, err);
}

/* The JWE is addressed to our seal key, for exactly this path and version. */
static int set_check_jwe(const struct secret *s, struct kbs_error *err)
{
    struct kbs_span path = KBS_SPAN_EMPTY;
    uint32_t version = 0;

    if (s->plaintext.len != 0) {
        return 0;
    }
    if (strcmp(s->jwe.kid, s->m.api->token.seal_kid) != 0) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the secret is sealed to another seal key");
    }
    if (!kbs_kid_split(kbs_span_str(s->jwe.apv), &path, &version) ||
        !kbs_span_equal(path, s->path)) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the secret is sealed for another path");
    }
    if (version != s->row.version) {
        return kbs_fail(err, KBS_CONFLICT, "the secret is sealed as version %u, the next one is %u",
                        (unsigned int)version, (unsigned int)s->row.version);
    }
    return 0;
}

/* Looks at the store, at the moment that the mutation starts from, and settles all terms. */
static int set_begin(struct secret *s, struct kbs_error *err)
{
    struct kbs_card *c = &s->row.card;

    s->m.has_order = true;
    if (!kbs_span_to_cstr(s->path, s->row.path, sizeof(s->row.path))) {
        return kbs_fail(err, KBS_INPUT, "the path is too long");
    }
    if (kbs_rotating_begin(&s->m, err) != 0) { /* the seal key may have a new version */
        return -1;
    }
    if (!s->m.api->token.has_seal) {
        return kbs_fail(err, KBS_UNSUPPORTED, "the token has no seal key, see kbs-admin init");
    }
    if (set_terms(s, err) != 0 || set_check_jwe(s, err) != 0 || live_get(s, err) != 0) {
        return -1;
    }
    s->row.state = KBS_KEY_STATE_ENABLED;
    *c = (struct kbs_card){.purpose = KBS_PURPOSE_SEAL,
                           .storage = KBS_STORAGE_SEALED,
                           .alg = KBS_KEY_ALG_SECRET,
                           .floor = KBS_LOCALITY_WORKER,
                           .provenance = KBS_PROVENANCE_IMPORTED,
                           .bytes = (uint32_t)(s->plaintext.len + s->jwe.ciphertext.len),
                           .created_s = (uint64_t)s->m.call->now_s};
    kbs_sha256(kbs_buf_span(&s->policy), c->policy);
    (void)kbs_key_kid(&s->row, s->kid);
    s->m.key = &s->row;
    return 0;
}

static int set_intent(struct secret *s, struct kbs_error *err)
{
    const struct kbs_card *c = &s->row.card;
    struct kbs_record r;

    kbs_mutation_record(&s->m, KBS_PHASE_INTENT, &r);
    kbs_record_u64(&r, "bytes", c->bytes);
    kbs_record_str(&r, "form", s->plaintext.len != 0 ? "plaintext" : "sealed");
    kbs_record_hex(&r, "policy", kbs_span(c->policy, sizeof(c->policy)));
    return kbs_mutation_intent(&s->m, &r, err);
}

static int set_order(struct secret *s, struct kbs_wire_result *ret, struct kbs_error *err)
{
    const struct kbs_card *c = &s->row.card;
    struct kbs_wire_seal order = {
        .order = kbs_span(s->m.order, sizeof(s->m.order)),
        .key_id = kbs_span(s->row.id, sizeof(s->row.id)),
        .key_version = s->row.version,
        .kid = kbs_span_str(s->kid),
        .policy = kbs_span(c->policy, sizeof(c->policy)),
        .created = c->created_s,
        .plaintext = kbs_buf_span(&s->plaintext),
    };

    if (s->plaintext.len == 0) {
        order.epk_x = kbs_ec_x(&s->jwe.epk);
        order.epk_y = kbs_ec_y(&s->jwe.epk);
        order.encrypted_key = kbs_buf_span(&s->jwe.encrypted_key);
        order.iv = kbs_span(s->jwe.iv, sizeof(s->jwe.iv));
        order.ciphertext = kbs_buf_span(&s->jwe.ciphertext);
        order.tag = kbs_span(s->jwe.tag, sizeof(s->jwe.tag));
    }
    return kbs_mutation_order(&s->m, KBS_WIRE_SEAL, &order, ret, err);
}

static int set_commit(struct secret *s, struct kbs_span sealed, struct kbs_error *err)
{
    struct kbs_store_row rows[ROWS_MAX + 1];
    size_t kept = KBS_LIMIT_SECRET_VERSIONS - 1; /* beside the new one */
    size_t dropped = s->live.count > kept ? s->live.count - kept : 0;

    live_destroy(s, dropped, rows);
    rows[dropped] = (struct kbs_store_row){.key = &s->row,
                                           .policy = kbs_buf_span(&s->policy),
                                           .request = s->m.request,
                                           .sealed = sealed,
                                           .fresh = true};
    return kbs_mutation_commit(&s->m, rows, dropped + 1, dropped > 0, err);
}

static int set_done(struct secret *s, struct kbs_error *err)
{
    struct kbs_record r;

    kbs_mutation_record(&s->m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    kbs_record_u64(&r, "seal_key", s->row.card.wrap_version);
    if (kbs_mutation_done(&s->m, &r, err) != 0) {
        return -1;
    }
    secret_put(&s->m.call->answer->body, &s->row, kbs_buf_span(&s->policy));
    return 0;
}

/* Gives the token the order and the store the row. */
static int set_make(struct secret *s, struct kbs_error *err)
{
    struct kbs_buf sealed = KBS_BUF(2 * KBS_LIMIT_SECRET_VALUE_BYTES);
    struct kbs_wire_result result = {.category = KBS_OK};
    int rc = -1;

    if (set_intent(s, err) != 0) {
        return -1;
    }
    if (set_order(s, &result, err) != 0) {
        return kbs_mutation_refused(&s->m, err);
    }
    if (kbs_made_secret(result.body, &s->row, &sealed, err) != 0 ||
        set_commit(s, kbs_buf_span(&sealed), err) != 0) {
        rc = kbs_mutation_failed(&s->m, "failed", err);
    } else {
        rc = set_done(s, err);
    }
    kbs_buf_deinit(&sealed);
    return rc;
}

int kbs_api_admin_secret_set(struct kbs_call *call, struct kbs_error *err)
{
    struct secret s = secret_new(call, "secret-set");
    int rc = -1;

    if (kbs_admin_verify(call, "POST", SECRET_PATTERN, true, &s.m.admin, &s.m.sequence, err) == 0 &&
        set_parse(call, &s, err) == 0 && set_begin(&s, err) == 0) {
        rc = set_make(&s, err);
    }
    secret_deinit(&s);
    return rc;
}

/* ---- deletion ---- */

static int delete_begin(struct kbs_call *call, struct secret *s, struct kbs_error *err)
{
    if (kbs_request_query_only(call->req, no_query, err) != 0 ||
        kbs_request_path(call, &s->path, err) != 0) {
        return -1;
    }
    if (call->req->body.len != 0) {
        return kbs_fail(err, KBS_INPUT, "a deletion has no body");
    }
    if (kbs_mutation_begin(&s->m, err) != 0 || live_get(s, err) != 0) {
        return -1;
    }
    if (s->live.count == 0) {
        return kbs_fail(err, KBS_MISSING, "no such secret");
    }
    s->m.key = &s->live.v[s->live.count - 1].key;
    return 0;
}

static int delete_make(struct secret *s, struct kbs_error *err)
{
    struct kbs_store_row rows[ROWS_MAX];
    const struct live *newest = &s->live.v[s->live.count - 1];
    struct kbs_record r;

    kbs_mutation_record(&s->m, KBS_PHASE_INTENT, &r);
    kbs_record_u64(&r, "versions", s->live.count);
    if (kbs_mutation_intent(&s->m, &r, err) != 0) {
        return -1;
    }
    live_destroy(s, s->live.count, rows);
    if (kbs_mutation_commit(&s->m, rows, s->live.count, true, err) != 0) {
        return kbs_mutation_failed(&s->m, "failed", err);
    }
    kbs_mutation_record(&s->m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    if (kbs_mutation_done(&s->m, &r, err) != 0) {
        return -1;
    }
    secret_put(&s->m.call->answer->body, &newest->key, kbs_buf_span(&newest->policy));
    return 0;
}

int kbs_api_admin_secret_delete(struct kbs_call *call, struct kbs_error *err)
{
    struct secret s = secret_new(call, "secret-delete");
    int rc = -1;

    if (kbs_admin_verify(call, "DELETE", SECRET_PATTERN, true, &s.m.admin, &s.m.sequence, err) ==
            0 &&
        delete_begin(call, &s, err) == 0) {
        rc = delete_make(&s, err);
    }
    secret_deinit(&s);
    return rc;
}
