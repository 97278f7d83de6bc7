/*
 * New versions of keys: generated, imported, adopted from the token, rotated.
 *
 * The problem: a crash may come between token, store and ledger (mutation.c). Here the token acts
 * before the row is written, so a key without a row (an orphan: it can never be released, since
 * release starts at the catalog and its card) always has an intent that names its id and token, and
 * an outcome that says so, or none at all if we died there. A row without a key cannot come to be.
 *
 * The four differ in what is asked of the token and where the terms come from; the rest is one
 * road: parse, begin, look at what there is, intent, order, row, outcome. Every request is verified
 * as signed before anything in it is parsed (admin_auth.c).
 */
#include "api/context.h"

#include "base/encoding.h"
#include "base/random.h"
#include "jose/read/jose.h"
#include "policy/release.h"

#define KEYS_PATTERN "/kbs/v0/admin/keys"
#define KEY_PATTERN "/kbs/v0/admin/keys/*/*/*"

#define IMPORT_APU "kbs-import-v1"
#define KEY_BYTES_DEFAULT 32
#define RSA_BYTES_DEFAULT 384
#define WRAP_OVERHEAD_BYTES 8 /* AES Key Wrap (RFC 3394) */

static const char *const no_query[] = {NULL};

/* A key on its way into token and catalog. */
struct new_key {
    struct kbs_mutation m;
    struct kbs_key row; /* its card: what is ordered */
    struct kbs_buf policy;
    json_t *body; /* owned */
    struct kbs_span path;
    bool next; /* the next version of a path that exists, with its terms unless others are given */
    struct kbs_jose_recipient_in recipient; /* import only */
    struct kbs_span uri;                    /* adopt only */
    char kid[KBS_LIMIT_KID_BYTES + 1];
};

/* ---- terms ---- */

int kbs_key_terms_floor(const json_t *body, enum kbs_locality *floor, struct kbs_error *err)
{
    struct kbs_span text = KBS_SPAN_EMPTY;

    if (kbs_json_opt_string(body, "floor", &text, err) != 0) {
        return -1;
    }
    if (text.p != NULL) {
        *floor = kbs_locality_from_name(text);
    }
    if (*floor == KBS_LOCALITY_NONE) {
        return kbs_fail(err, KBS_INPUT, "'floor' must be token, transport or worker");
    }
    return 0;
}

int kbs_key_terms_pop(const json_t *body, uint8_t *flags, struct kbs_error *err)
{
    const json_t *pop = json_object_get(body, "pop_required");

    if (pop != NULL && !json_is_boolean(pop)) {
        return kbs_fail(err, KBS_INPUT, "'pop_required' must be true or false");
    }
    if (pop != NULL) {
        *flags = (uint8_t)(*flags & ~KBS_CARD_POP_REQUIRED);
        *flags |= json_is_true(pop) ? KBS_CARD_POP_REQUIRED : 0;
    }
    return 0;
}

int kbs_key_terms_policy(const json_t *body, struct kbs_buf *policy, struct kbs_error *err)
{
    const json_t *v = json_object_get(body, "policy");

    if (v == NULL) {
        return 0;
    }
    kbs_buf_clear(policy);
    if (json_is_null(v)) {
        return 0;
    }
    if (!json_is_object(v)) {
        return kbs_fail(err, KBS_INPUT, "'policy' must be an object or null");
    }
    if (kbs_json_dump(v, policy, err) != 0) {
        return -1;
    }
    return kbs_policy_check(kbs_buf_span(policy), err);
}

static int terms_class(const json_t *body, enum kbs_storage *storage, struct kbs_error *err)
{
    struct kbs_span text = KBS_SPAN_EMPTY;

    if (kbs_json_opt_string(body, "class", &text, err) != 0) {
        return -1;
    }
    if (text.p != NULL) {
        *storage = kbs_storage_from_name(text);
    }
    if (*storage != KBS_STORAGE_RESIDENT && *storage != KBS_STORAGE_WRAPPED) {
        return kbs_fail(err, KBS_INPUT, "'class' must be resident or wrapped");
    }
    return 0;
}

static int terms_alg(const json_t *body, enum kbs_purpose purpose, enum kbs_key_alg *alg,
                     struct kbs_error *err)
{
    struct kbs_span text = KBS_SPAN_EMPTY;

    if (kbs_json_opt_string(body, "alg", &text, err) != 0) {
        return -1;
    }
    if (text.p != NULL) {
        *alg = kbs_key_alg_from_name(text);
    }
    if (purpose == KBS_PURPOSE_NEK ? *alg != KBS_KEY_ALG_AES && !kbs_key_alg_is_pair(*alg)
                                   : *alg != KBS_KEY_ALG_AES && *alg != KBS_KEY_ALG_GENERIC) {
        return kbs_fail(err, KBS_INPUT, "'alg' must be %s",
                        purpose == KBS_PURPOSE_NEK ? "P-256, P-384, P-521, RSA or AES"
                                                   : "AES or generic");
    }
    return 0;
}

/* What was given, over what is there already. */
static int terms_get(const json_t *body, struct new_key *k, struct kbs_error *err)
{
    struct kbs_card *c = &k->row.card;

    if (kbs_key_terms_floor(body, &c->floor, err) != 0 ||
        kbs_key_terms_pop(body, &c->flags, err) != 0 || terms_class(body, &c->storage, err) != 0 ||
        terms_alg(body, c->purpose, &c->alg, err) != 0) {
        return -1;
    }
    return kbs_key_terms_policy(body, &k->policy, err);
}

/* ---- what there is ---- */

/* Terms of the version that the next one follows: the latest, or the last one if all are destroyed.
 */
static int terms_of_latest(struct new_key *k, struct kbs_error *err)
{
    struct kbs_store *store = k->m.api->store;
    struct kbs_card *c = &k->row.card;
    struct kbs_key newest;
    struct kbs_key latest;

    if (kbs_store_key_newest(store, k->path, &newest, NULL, err) != 0) {
        return -1;
    }
    if (newest.version == UINT32_MAX) {
        return kbs_fail(err, KBS_CONFLICT, "the path has no version left");
    }
    if (kbs_store_key_get(store, k->path, 0, &latest, &k->policy, err) != 0) {
        if (err->category != KBS_MISSING ||
            kbs_store_key_newest(store, k->path, &latest, &k->policy, err) != 0) {
            return -1;
        }
    }
    if (kbs_row_check(k->m.api, &latest, kbs_buf_span(&k->policy), err) != 0) {
        return -1;
    }
    k->row.version = newest.version + 1;
    memcpy(k->row.id, latest.id, sizeof(k->row.id));
    c->purpose = latest.card.purpose;
    c->alg = latest.card.alg;
    c->bytes = latest.card.bytes;
    c->storage = latest.card.storage;
    c->floor = latest.card.floor;
    c->flags = latest.card.flags;
    return 0;
}

/* Version 1 of a path that nothing has. */
static int terms_default(struct new_key *k, struct kbs_error *err)
{
    struct kbs_error found = KBS_ERROR_NONE;
    struct kbs_card *c = &k->row.card;
    struct kbs_key existing;

    if (kbs_store_key_newest(k->m.api->store, k->path, &existing, NULL, &found) == 0) {
        return kbs_fail(err, KBS_CONFLICT, "a key with this path exists");
    }
    if (found.category != KBS_MISSING) {
        *err = found;
        return -1;
    }
    found = KBS_ERROR_NONE;
    if (kbs_store_secret_newest(k->m.api->store, k->path, &existing, NULL, NULL, &found) == 0) {
        return kbs_fail(err, KBS_CONFLICT, "a secret has this path");
    }
    if (found.category != KBS_MISSING) {
        *err = found;
        return -1;
    }
    if (kbs_alias_free_path(k->m.api, k->path, err) != 0) {
        return -1;
    }
    k->row.version = 1;
    kbs_random(k->row.id, sizeof(k->row.id));
    c->alg = KBS_KEY_ALG_AES;
    c->bytes = KEY_BYTES_DEFAULT;
    c->storage = KBS_STORAGE_RESIDENT;
    c->floor = KBS_LOCALITY_TRANSPORT;
    return 0;
}

static bool path_exists(struct new_key *k)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    struct kbs_key existing;

    return kbs_store_key_newest(k->m.api->store, k->path, &existing, NULL, &ignored) == 0;
}

/* Looks at the store, at the moment that the mutation starts from, and settles all terms. */
static int new_key_begin(struct new_key *k, struct kbs_error *err)
{
    struct kbs_card *c = &k->row.card;

    if (!kbs_key_path_valid(k->path) ||
        !kbs_span_to_cstr(k->path, k->row.path, sizeof(k->row.path))) {
        return kbs_fail(err, KBS_INPUT,
                        "the path is not repo/type/tag of letters, digits, '_', '-', '.'");
    }
    if (kbs_mutation_begin(&k->m, err) != 0 ||
        (k->next ? terms_of_latest(k, err) : terms_default(k, err)) != 0 ||
        terms_get(k->body, k, err) != 0) {
        return -1;
    }
    k->row.state = KBS_KEY_STATE_ENABLED;
    c->created_s = (uint64_t)k->m.call->now_s;
    kbs_sha256(kbs_buf_span(&k->policy), c->policy);
    (void)kbs_key_kid(&k->row, k->kid);
    if (c->storage == KBS_STORAGE_WRAPPED && k->m.api->token.wrap_version == 0) {
        return kbs_fail(err, KBS_UNSUPPORTED,
                        "the token has no wrapping key, see kbs-admin wrapping-key rotate");
    }
    return 0;
}

/* ---- the road ---- */

static int new_key_intent(struct new_key *k, struct kbs_error *err)
{
    const struct kbs_card *c = &k->row.card;
    struct kbs_record r;

    kbs_mutation_record(&k->m, KBS_PHASE_INTENT, &r);
    kbs_record_str(&r, "alg", c->alg != KBS_KEY_ALG_NONE ? kbs_key_alg_name(c->alg) : "as found");
    kbs_record_u64(&r, "bytes", c->bytes);
    kbs_record_str(&r, "class", kbs_storage_name(c->storage));
    kbs_record_str(&r, "floor", kbs_locality_name(c->floor));
    if ((c->flags & KBS_CARD_POP_REQUIRED) != 0) {
        kbs_record_str(&r, "pop", "required");
    }
    kbs_record_hex(&r, "policy", kbs_span(c->policy, sizeof(c->policy)));
    return kbs_mutation_intent(&k->m, &r, err);
}

static int new_key_done(struct new_key *k, struct kbs_error *err)
{
    struct kbs_record r;

    kbs_mutation_record(&k->m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    kbs_record_hex(&r, "kcv", kbs_span(k->row.kcv, sizeof(k->row.kcv)));
    if (kbs_mutation_done(&k->m, &r, err) != 0) {
        return -1;
    }
    kbs_key_json_put(&k->m.call->answer->body, &k->row);
    kbs_buf_put_u8(&k->m.call->answer->body, '}');
    return 0;
}

/* Gives the token the order and the catalog the row. */
static int new_key_make(struct new_key *k, enum kbs_wire_type type, const void *order,
                        struct kbs_error *err)
{
    struct kbs_store_row row = {
        .key = &k->row, .policy = kbs_buf_span(&k->policy), .request = k->m.request, .fresh = true};
    struct kbs_wire_result result = {.category = KBS_OK};

    if (new_key_intent(k, err) != 0) {
        return -1;
    }
    if (kbs_mutation_order(&k->m, type, order, &result, err) != 0) {
        return kbs_mutation_refused(&k->m, err);
    }
    if (kbs_made_take(result.body, &k->row, err) != 0 ||
        kbs_mutation_commit(&k->m, &row, 1, false, err) != 0) {
        return kbs_mutation_failed(&k->m, "orphan", err);
    }
    return new_key_done(k, err);
}

/* Signature, query, body. The body is optional for `lenient` requests, and then an empty object. */
static int new_key_open(struct kbs_call *call, struct new_key *k, const char *pattern,
                        const char *const *members, bool lenient, struct kbs_error *err)
{
    if (kbs_admin_verify(call, "POST", pattern, true, &k->m.admin, &k->m.sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0) {
        return -1;
    }
    if (lenient && call->req->body.len == 0) {
        k->body = json_object();
        return k->body != NULL ? 0 : kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (kbs_request_json_type(call->req, false, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", &k->body, err) != 0) {
        return -1;
    }
    return kbs_json_only(k->body, members, err);
}

static struct new_key new_key(struct kbs_call *call, const char *kind,
                              enum kbs_provenance provenance)
{
    return (struct new_key){
        .m = {.api = call->api, .call = call, .kind = kind, .has_order = true},
        .row = {.card = {.purpose = KBS_PURPOSE_RELEASE, .provenance = provenance}},
        .policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES)};
}

static void new_key_deinit(struct new_key *k)
{
    kbs_jose_recipient_in_deinit(&k->recipient);
    kbs_buf_deinit(&k->policy);
    json_decref(k->body);
}

/* ---- generate, rotate ---- */

static int generate(struct new_key *k, struct kbs_error *err)
{
    const struct kbs_card *c = &k->row.card;
    const struct kbs_wire_generate order = {
        .order = kbs_span(k->m.order, sizeof(k->m.order)),
        .purpose = (uint8_t)c->purpose,
        .key_id = kbs_span(k->row.id, sizeof(k->row.id)),
        .key_version = k->row.version,
        .kid = kbs_span_str(k->kid),
        .alg = (uint8_t)c->alg,
        .key_bytes = c->bytes,
        .storage = (uint8_t)c->storage,
        .floor = (uint8_t)c->floor,
        .flags = c->flags,
        .policy = kbs_span(c->policy, sizeof(c->policy)),
        .created = c->created_s,
    };

    k->m.key = &k->row;
    return new_key_make(k, KBS_WIRE_GENERATE, &order, err);
}

/* Length in bytes of a key that is made without being told one; 0 if an alg has no default. */
static int64_t bytes_default(enum kbs_key_alg alg)
{
    switch (alg) {
    case KBS_KEY_ALG_P384:
        return 48;
    case KBS_KEY_ALG_P521:
        return 66;
    case KBS_KEY_ALG_RSA:
        return RSA_BYTES_DEFAULT;
    default:
        return KEY_BYTES_DEFAULT;
    }
}

static int create_purpose(struct new_key *k, struct kbs_error *err)
{
    const json_t *binding = json_object_get(k->body, "binding_required");
    struct kbs_card *c = &k->row.card;
    struct kbs_span purpose = KBS_SPAN_EMPTY;

    if (kbs_json_get_string(k->body, "purpose", &purpose, err) != 0) {
        return -1;
    }
    c->purpose = kbs_purpose_from_name(purpose);
    if (c->purpose != KBS_PURPOSE_RELEASE && c->purpose != KBS_PURPOSE_NEK) {
        return kbs_fail(err, KBS_INPUT, "only keys of purpose release and nek can be made here");
    }
    if (binding != NULL && !json_is_boolean(binding)) {
        return kbs_fail(err, KBS_INPUT, "'binding_required' must be true or false");
    }
    if (json_is_true(binding) && c->purpose != KBS_PURPOSE_NEK) {
        return kbs_fail(err, KBS_INPUT, "'binding_required' is for keys of purpose nek");
    }
    c->flags = json_is_true(binding) ? KBS_CARD_BINDING_REQUIRED : 0;
    return 0;
}

static int create_parse(struct new_key *k, int64_t *ret_bytes, struct kbs_error *err)
{
    struct kbs_span alg = KBS_SPAN_EMPTY;
    enum kbs_key_alg number = KBS_KEY_ALG_NONE;

    if (kbs_json_get_string(k->body, "path", &k->path, err) != 0 || create_purpose(k, err) != 0 ||
        kbs_json_get_string(k->body, "alg", &alg, err) != 0 ||
        terms_alg(k->body, k->row.card.purpose, &number, err) != 0) {
        return -1;
    }
    *ret_bytes = bytes_default(number);
    if (json_object_get(k->body, "bytes") != NULL &&
        kbs_json_get_integer(k->body, "bytes", ret_bytes, err) != 0) {
        return -1;
    }
    if (*ret_bytes < 0 || !kbs_key_bytes_valid(number, (uint64_t)*ret_bytes)) {
        return kbs_fail(err, KBS_INPUT,
                        "AES keys have 16, 24 or 32 bytes, generic ones 16 to 64 in eights, RSA "
                        "ones 256, 384 or 512");
    }
    return 0;
}

int kbs_api_admin_key_create(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"path",         "purpose", "alg",    "bytes",
                                          "class",        "floor",   "policy", "binding_required",
                                          "pop_required", NULL};
    struct new_key k = new_key(call, "key-generate", KBS_PROVENANCE_GENERATED);
    int64_t bytes = 0;
    int rc = -1;

    if (new_key_open(call, &k, KEYS_PATTERN, members, false, err) == 0 &&
        create_parse(&k, &bytes, err) == 0 && new_key_begin(&k, err) == 0) {
        k.row.card.bytes = (uint32_t)bytes;
        rc = generate(&k, err);
    }
    new_key_deinit(&k);
    return rc;
}

int kbs_api_admin_key_rotate(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"floor", "policy", "class", "pop_required", NULL};
    struct new_key k = new_key(call, "key-generate", KBS_PROVENANCE_GENERATED);
    int rc = -1;

    k.next = true;
    if (new_key_open(call, &k, KEY_PATTERN "/rotate", members, true, err) == 0 &&
        kbs_request_path(call, &k.path, err) == 0 && new_key_begin(&k, err) == 0) {
        rc = generate(&k, err);
    }
    new_key_deinit(&k);
    return rc;
}

/* ---- import ---- */

/* The recipient is addressed to our import key, for exactly this key version. */
static int import_check(struct new_key *k, struct kbs_error *err)
{
    const struct kbs_token_facts *f = &k->m.api->token;
    const struct kbs_jose_recipient_in *in = &k->recipient;

    if (!f->has_import) {
        return kbs_fail(err, KBS_UNSUPPORTED, "the token has no import key, see kbs-admin init");
    }
    if (strcmp(in->kid, f->import_kid) != 0) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the recipient is addressed to another import key");
    }
    if (!kbs_span_equal_str(kbs_buf_span(&in->apu), IMPORT_APU) ||
        !kbs_span_equal_str(kbs_buf_span(&in->apv), k->kid)) {
        return kbs_fail(err, KBS_UNPROCESSABLE,
                        "the recipient was made for another path or version");
    }
    if (in->epk.curve != KBS_CURVE_P256) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "the recipient's epk is not on P-256");
    }
    k->row.card.bytes = (uint32_t)(in->encrypted_key.len - WRAP_OVERHEAD_BYTES);
    if (!kbs_key_bytes_valid(k->row.card.alg, k->row.card.bytes)) {
        return kbs_fail(err, KBS_UNPROCESSABLE, "an %s key cannot have %u bytes",
                        kbs_key_alg_name(k->row.card.alg), (unsigned int)k->row.card.bytes);
    }
    return 0;
}

static int import_parse(struct kbs_call *call, struct new_key *k, struct kbs_error *err)
{
    const json_t *rotate = json_object_get(k->body, "rotate");
    json_t *recipient = NULL;

    if (rotate != NULL && !json_is_boolean(rotate)) {
        return kbs_fail(err, KBS_INPUT, "'rotate' must be true or false");
    }
    if (kbs_request_path(call, &k->path, err) != 0 ||
        kbs_json_get_object(k->body, "recipient", &recipient, err) != 0 ||
        kbs_jose_recipient_get(recipient, KBS_TEE_ALG_ECDH_ES_A256KW, &k->recipient, err) != 0) {
        return -1;
    }
    k->next = json_is_true(rotate) && path_exists(k);
    return 0;
}

static int import_order(struct new_key *k, struct kbs_error *err)
{
    const struct kbs_card *c = &k->row.card;
    const struct kbs_wire_import order = {
        .order = kbs_span(k->m.order, sizeof(k->m.order)),
        .key_id = kbs_span(k->row.id, sizeof(k->row.id)),
        .key_version = k->row.version,
        .kid = kbs_span_str(k->kid),
        .alg = (uint8_t)c->alg,
        .storage = (uint8_t)c->storage,
        .floor = (uint8_t)c->floor,
        .flags = c->flags,
        .policy = kbs_span(c->policy, sizeof(c->policy)),
        .created = c->created_s,
        .epk_x = kbs_ec_x(&k->recipient.epk),
        .epk_y = kbs_ec_y(&k->recipient.epk),
        .wrapped = kbs_buf_span(&k->recipient.encrypted_key),
    };

    k->m.key = &k->row;
    return new_key_make(k, KBS_WIRE_IMPORT, &order, err);
}

int kbs_api_admin_key_import(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"alg",       "class",  "floor",        "policy",
                                          "recipient", "rotate", "pop_required", NULL};
    struct new_key k = new_key(call, "key-import", KBS_PROVENANCE_IMPORTED);
    int rc = -1;

    if (new_key_open(call, &k, KEY_PATTERN "/import", members, false, err) == 0 &&
        import_parse(call, &k, err) == 0 && new_key_begin(&k, err) == 0 &&
        import_check(&k, err) == 0) {
        rc = import_order(&k, err);
    }
    new_key_deinit(&k);
    return rc;
}

/* ---- adopt ---- */

static int adopt_order(struct new_key *k, struct kbs_error *err)
{
    struct kbs_card *c = &k->row.card;
    const struct kbs_wire_adopt order = {
        .order = kbs_span(k->m.order, sizeof(k->m.order)),
        .key_id = kbs_span(k->row.id, sizeof(k->row.id)),
        .key_version = k->row.version,
        .kid = kbs_span_str(k->kid),
        .floor = (uint8_t)c->floor,
        .flags = c->flags,
        .policy = kbs_span(c->policy, sizeof(c->policy)),
        .created = c->created_s,
        .uri = k->uri,
    };

    c->alg = KBS_KEY_ALG_NONE; /* the token will say */
    c->bytes = 0;
    k->m.key = &k->row;
    return new_key_make(k, KBS_WIRE_ADOPT, &order, err);
}

int kbs_api_admin_key_adopt(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"uri", "floor", "policy", "pop_required", NULL};
    struct new_key k = new_key(call, "key-adopt", KBS_PROVENANCE_ADOPTED);
    int rc = -1;

    if (new_key_open(call, &k, KEY_PATTERN "/adopt", members, false, err) == 0 &&
        kbs_request_path(call, &k.path, err) == 0 &&
        kbs_json_get_string(k.body, "uri", &k.uri, err) == 0 && new_key_begin(&k, err) == 0) {
        rc = k.uri.len <= KBS_LIMIT_AUDIT_FIELD_BYTES
                 ? adopt_order(&k, err)
                 : kbs_fail(err, KBS_INPUT, "'uri' is longer than %d bytes",
                            KBS_LIMIT_AUDIT_FIELD_BYTES);
    }
    new_key_deinit(&k);
    return rc;
}
