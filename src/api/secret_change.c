/*
 * Changes of secrets: a new version, another policy, deletion. Which road asked for it (kbs-admin's,
 * admin_secrets.c; that of clients of the KBS protocol, resource_admin.c) makes no difference here.
 *
 * The problem: a secret arrives as ciphertext to the token's seal key, and whether it opens can
 * only be told in the token. The approach: its shape, its name and its key are checked here, then
 * the token opens it once and answers card and sealed form, and only these become a row
 * (mutation.c: intent, order, row, outcome).
 *
 * Versions are immutable but for their policy, and the newest one counts. So many older ones are
 * kept (KBS_LIMIT_SECRET_VERSIONS); what falls off is erased in the mutation that adds the next, and
 * deletion erases all: an older value must not come back because a newer one went.
 *
 * Plaintext, for clients that cannot seal, is taken outside the production profile only, and the
 * ledger says so. Then the secret has been in the memory of front and judge.
 */
#include "api/secret_change.h"

#include <stdlib.h>

#include "base/random.h"

struct kbs_secret_change kbs_secret_change_new(struct kbs_call *call, const char *kind)
{
    return (struct kbs_secret_change){.m = {.api = call->api, .call = call, .kind = kind},
                                      .policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES)};
}

void kbs_secret_change_deinit(struct kbs_secret_change *s)
{
    for (size_t i = 0; s->live.v != NULL && i < KBS_SECRET_ROWS_MAX; i++) {
        kbs_buf_deinit(&s->live.v[i].policy);
    }
    free(s->live.v);
    kbs_jose_jwe_in_deinit(&s->jwe);
    kbs_buf_deinit(&s->policy);
}

/* ---- what there is ---- */

static void live_each(void *ctx, const struct kbs_key *row, const struct kbs_store_texts *texts)
{
    struct kbs_secret_change *s = ctx;

    if (s->live.count == KBS_SECRET_ROWS_MAX) {
        s->live.more = true;
        return;
    }
    s->live.v[s->live.count].key = *row;
    kbs_buf_put_span(&s->live.v[s->live.count].policy, texts->policy);
    s->live.count++;
}

/*
 * All versions that are not destroyed, the oldest first, each verified: they are going to be signed
 * again.
 */
static int live_get(struct kbs_secret_change *s, struct kbs_error *err)
{
    s->live.v = calloc(KBS_SECRET_ROWS_MAX, sizeof(*s->live.v));
    if (s->live.v == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    for (size_t i = 0; i < KBS_SECRET_ROWS_MAX; i++) {
        s->live.v[i].policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    }
    if (kbs_store_secret_live(s->m.api->store, s->path, live_each, s, err) != 0) {
        return -1;
    }
    if (s->live.more) {
        return kbs_fail(err, KBS_INTERNAL, "the store has more than %d versions of this secret",
                        KBS_SECRET_ROWS_MAX);
    }
    for (size_t i = 0; i < s->live.count; i++) {
        const struct kbs_secret_live *l = &s->live.v[i];

        if (kbs_buf_check(&l->policy, "policy", err) != 0 ||
            kbs_row_check(s->m.api, &l->key, kbs_buf_span(&l->policy), err) != 0) {
            return -1;
        }
    }
    return 0;
}

/* The rows of the first `count` live versions, as they are once their values are erased. */
static void live_destroy(struct kbs_secret_change *s, size_t count, struct kbs_store_row *rows)
{
    for (size_t i = 0; i < count; i++) {
        struct kbs_secret_live *l = &s->live.v[i];

        l->key.state = KBS_KEY_STATE_DESTROYED;
        rows[i] = (struct kbs_store_row){
            .key = &l->key, .policy = kbs_buf_span(&l->policy), .request = s->m.request};
    }
}

/* ---- a new version ---- */

/* A path is a key's or a secret's, never both; if that cannot be told, nothing is made. */
static int path_is_no_keys(struct kbs_secret_change *s, struct kbs_error *err)
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
static int set_terms(struct kbs_secret_change *s, struct kbs_error *err)
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
    } else if (path_is_no_keys(s, err) != 0 || kbs_alias_free_path(s->m.api, s->path, err) != 0) {
        return -1;
    }
    if (s->terms != NULL) {
        return kbs_key_terms_policy(s->terms, &s->policy, err);
    }
    kbs_buf_clear(&s->policy);
    kbs_buf_put_span(&s->policy, kbs_buf_span(&s->m.api->resource_policy));
    return kbs_buf_check(&s->policy, "policy", err);
}

/* The JWE is addressed to our seal key, for exactly this path and version. */
static int set_check_jwe(const struct kbs_secret_change *s, struct kbs_error *err)
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
static int set_begin(struct kbs_secret_change *s, struct kbs_error *err)
{
    struct kbs_card *c = &s->row.card;

    s->m.has_order = true;
    if (s->plaintext.len != 0 && s->m.api->production) {
        return kbs_fail(err, KBS_DENIED,
                        "the production profile takes secrets that were sealed by the client only");
    }
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

static int set_intent(struct kbs_secret_change *s, struct kbs_error *err)
{
    const struct kbs_card *c = &s->row.card;
    struct kbs_record r;

    kbs_mutation_record(&s->m, KBS_PHASE_INTENT, &r);
    kbs_record_u64(&r, "bytes", c->bytes);
    kbs_record_str(&r, "form", s->plaintext.len != 0 ? "plaintext" : "sealed");
    kbs_record_hex(&r, "policy", kbs_span(c->policy, sizeof(c->policy)));
    return kbs_mutation_intent(&s->m, &r, err);
}

static int set_order(struct kbs_secret_change *s, struct kbs_wire_result *ret,
                     struct kbs_error *err)
{
    const struct kbs_card *c = &s->row.card;
    struct kbs_wire_seal order = {
        .order = kbs_span(s->m.order, sizeof(s->m.order)),
        .key_id = kbs_span(s->row.id, sizeof(s->row.id)),
        .key_version = s->row.version,
        .kid = kbs_span_str(s->kid),
        .policy = kbs_span(c->policy, sizeof(c->policy)),
        .created = c->created_s,
        .plaintext = s->plaintext,
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

static int set_commit(struct kbs_secret_change *s, struct kbs_span sealed, struct kbs_error *err)
{
    struct kbs_store_row rows[KBS_SECRET_ROWS_MAX + 1];
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

static int set_done(struct kbs_secret_change *s, struct kbs_error *err)
{
    struct kbs_record r;

    kbs_mutation_record(&s->m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    kbs_record_u64(&r, "seal_key", s->row.card.wrap_version);
    return kbs_mutation_done(&s->m, &r, err);
}

/* Gives the token the order and the store the row. */
static int set_make(struct kbs_secret_change *s, struct kbs_error *err)
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

int kbs_secret_change_set(struct kbs_secret_change *s, struct kbs_error *err)
{
    return set_begin(s, err) == 0 ? set_make(s, err) : -1;
}

/* ---- another policy: the same sealed form, with another card ---- */

static int policy_begin(struct kbs_secret_change *s, struct kbs_buf *sealed, struct kbs_error *err)
{
    s->m.has_order = true;
    if (kbs_mutation_begin(&s->m, err) != 0 ||
        kbs_store_secret_newest(s->m.api->store, s->path, &s->row, &s->policy, sealed, err) != 0 ||
        kbs_row_check(s->m.api, &s->row, kbs_buf_span(&s->policy), err) != 0) {
        return -1;
    }
    if (s->row.state == KBS_KEY_STATE_DESTROYED) {
        return kbs_fail(err, KBS_MISSING, "no such secret");
    }
    s->m.key = &s->row;
    return kbs_key_terms_policy(s->terms, &s->policy, err);
}

static int policy_intent(struct kbs_secret_change *s, const uint8_t policy[KBS_SHA256_BYTES],
                         struct kbs_error *err)
{
    struct kbs_record r;

    kbs_mutation_record(&s->m, KBS_PHASE_INTENT, &r);
    kbs_record_hex(&r, "policy", kbs_span(policy, KBS_SHA256_BYTES));
    return kbs_mutation_intent(&s->m, &r, err);
}

static int policy_commit(struct kbs_secret_change *s, struct kbs_span sealed, struct kbs_error *err)
{
    struct kbs_store_row row = {.key = &s->row,
                                .policy = kbs_buf_span(&s->policy),
                                .request = s->m.request,
                                .sealed = sealed};

    return kbs_mutation_commit(&s->m, &row, 1, false, err);
}

static int policy_make(struct kbs_secret_change *s, struct kbs_span sealed, struct kbs_error *err)
{
    struct kbs_wire_result result = {.category = KBS_OK};
    uint8_t old_card[KBS_CARD_BYTES];
    uint8_t policy[KBS_SHA256_BYTES];
    struct kbs_record r;

    kbs_sha256(kbs_buf_span(&s->policy), policy);
    memcpy(old_card, s->row.card_bytes, sizeof(old_card));
    const struct kbs_wire_recard order = {.order = kbs_span(s->m.order, sizeof(s->m.order)),
                                          .card = kbs_span(old_card, sizeof(old_card)),
                                          .floor = (uint8_t)s->row.card.floor,
                                          .flags = s->row.card.flags,
                                          .policy = kbs_span(policy, sizeof(policy))};
    if (policy_intent(s, policy, err) != 0) {
        return -1;
    }
    if (kbs_mutation_order(&s->m, KBS_WIRE_RECARD, &order, &result, err) != 0) {
        return kbs_mutation_refused(&s->m, err);
    }
    memcpy(s->row.card.policy, policy, sizeof(policy));
    if (kbs_made_card(result.body, &s->row, err) != 0 || policy_commit(s, sealed, err) != 0) {
        return kbs_mutation_failed(&s->m, "failed", err);
    }
    kbs_mutation_record(&s->m, KBS_PHASE_OUTCOME, &r);
    kbs_record_str(&r, "outcome", "done");
    return kbs_mutation_done(&s->m, &r, err);
}

int kbs_secret_change_policy(struct kbs_secret_change *s, struct kbs_error *err)
{
    struct kbs_buf sealed = KBS_BUF(2 * KBS_LIMIT_SECRET_VALUE_BYTES);
    int rc = policy_begin(s, &sealed, err);

    if (rc == 0) {
        rc = policy_make(s, kbs_buf_span(&sealed), err);
    }
    kbs_buf_deinit(&sealed);
    return rc;
}

/* ---- deletion ---- */

int kbs_secret_change_delete(struct kbs_secret_change *s, struct kbs_error *err)
{
    struct kbs_store_row rows[KBS_SECRET_ROWS_MAX];
    const struct kbs_secret_live *newest = NULL;
    struct kbs_record r;

    if (kbs_mutation_begin(&s->m, err) != 0 || live_get(s, err) != 0) {
        return -1;
    }
    if (s->live.count == 0) {
        return kbs_fail(err, KBS_MISSING, "no such secret");
    }
    newest = &s->live.v[s->live.count - 1];
    s->m.key = &newest->key;
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
    s->row = newest->key;
    kbs_buf_put_span(&s->policy, kbs_buf_span(&newest->policy));
    return kbs_mutation_done(&s->m, &r, err);
}
