/*
 * The denial matrix: every route of the admin listener times every credential that must not count, asked of a
 * real judge. The routes are those of the front's table, so that a route that is added there is
 * asked here without anybody thinking of it.
 *
 * A denial is a status and nothing else: no row of the store is another, no order went to the token,
 * and the ledger has at most the record of the refusal. So that the matrix cannot pass because
 * everything is refused, each route is asked with a good signature at the end, and those of Trustee's
 * clients with a good token.
 */
#include "signed.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/encoding.h"
#include "base/io.h"
#include "base/process.h"
#include "http/route.h"
#include "tests/jose/maker.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define TEXT_BYTES 8192

/* A row of the table as a request without a credential. */
struct target {
    struct kbs_http_route_row row;
    struct ask ask;
    char path[256];
    bool open;   /* Trustee's modes hold here */
    bool change; /* uses a sequence up */
};

struct matrix {
    struct judge *j;
    struct maker idp;
    struct maker stranger;
    struct kbs_buf pem;      /* of idp */
    char bearer[TEXT_BYTES]; /* of the request at hand */
    struct signature signature;
    size_t asked;
};

/* ---- the routes ---- */

static const char *const params[] = {"a", "b", "c"};

static void target_make(const struct kbs_http_route_row *row, struct target *t)
{
    const char *p = row->path;
    size_t n = 0;
    size_t len = 0;

    *t = (struct target){.row = *row};
    while (*p != '\0') {
        size_t segment = 1 + strcspn(p + 1, "/");

        if (p[1] == '{') { /* the name of a hole does not matter */
            assert_true(n < COUNT(params));
            t->ask.params[n] = params[n];
            len += (size_t)snprintf(t->path + len, sizeof(t->path) - len, "/%s", params[n++]);
        } else {
            len += (size_t)snprintf(t->path + len, sizeof(t->path) - len, "%.*s", (int)segment, p);
        }
        p += segment;
    }
    t->ask.route = row->route;
    t->ask.method = row->method;
    t->ask.target = t->path;
    t->open = row->route >= KBS_ROUTE_RESOURCE_LIST && row->route <= KBS_ROUTE_ID_KEY_REGISTER;
    t->change = strcmp(row->method, "GET") != 0 && row->route != KBS_ROUTE_ADMIN_RELEASE_DRY_RUN;
    if (row->body_max != 0) {
        t->ask.content_type = "application/json";
        t->ask.body = "{}";
    }
}

/* The next route of the admin listener that the judge answers and that asks for a credential. */
static bool target_next(size_t *n, struct target *t)
{
    struct kbs_http_route_row row;

    while (kbs_http_route_row((*n)++, &row)) {
        if ((row.listeners & (1u << KBS_LISTENER_ADMIN)) != 0 && row.route < KBS_ROUTE_HEALTHZ &&
            row.route != KBS_ROUTE_ADMIN_NONCE) {
            target_make(&row, t);
            return true;
        }
    }
    return false;
}

/* ---- the credentials ---- */

static void set_bearer(struct matrix *m, struct ask *ask, struct kbs_buf *token)
{
    (void)snprintf(m->bearer, sizeof(m->bearer), "Bearer %s", kbs_buf_cstr(token));
    ask->authorization = m->bearer;
    kbs_buf_deinit(token);
}

/* A token of idp's with another issuer, audience, role or time. */
static void bearer_of(struct matrix *m, struct ask *ask, const struct maker *by, const char *iss,
                      const char *aud, const char *role, int64_t exp_in_s, const char *more)
{
    struct kbs_buf token = KBS_BUF(TEXT_BYTES - 16);
    char payload[512];

    (void)snprintf(payload, sizeof(payload),
                   "{\"iss\":\"%s\",\"aud\":\"%s\",\"role\":\"%s\",\"exp\":%lld%s}", iss, aud, role,
                   (long long)(kbs_clock_unix_s() + exp_in_s), more);
    maker_jws(by, NULL, payload, &token);
    set_bearer(m, ask, &token);
}

static void good_bearer(struct matrix *m, struct ask *ask)
{
    bearer_of(m, ask, &m->idp, "idp", "kbs", "admin", 60, "");
}

static void bearer_expired(struct matrix *m, struct ask *ask)
{
    bearer_of(m, ask, &m->idp, "idp", "kbs", "admin", -120, "");
}

static void bearer_not_yet(struct matrix *m, struct ask *ask)
{
    bearer_of(m, ask, &m->idp, "idp", "kbs", "admin", 60, ",\"nbf\":99999999999");
}

static void bearer_audience(struct matrix *m, struct ask *ask)
{
    bearer_of(m, ask, &m->idp, "idp", "guests", "admin", 60, "");
}

static void bearer_issuer(struct matrix *m, struct ask *ask)
{
    bearer_of(m, ask, &m->idp, "somebody", "kbs", "admin", 60, "");
}

static void bearer_role(struct matrix *m, struct ask *ask)
{
    bearer_of(m, ask, &m->idp, "idp", "kbs", "guest", 60, "");
}

static void bearer_stranger(struct matrix *m, struct ask *ask)
{
    bearer_of(m, ask, &m->stranger, "idp", "kbs", "admin", 60, "");
}

static void bearer_evidence(struct matrix *m, struct ask *ask)
{
    bearer_of(m, ask, &m->idp, "idp", "kbs", "admin", 60, ",\"eat_profile\":\"tag:x\"");
}

/* A token of ours: what a guest gets, with a role in it that we would never write. */
static void bearer_attestation(struct matrix *m, struct ask *ask)
{
    const struct maker ours = {.pkey = m->j->sign, .alg = "ES256"};

    bearer_of(m, ask, &ours, JUDGE_ISSUER, "kbs", "admin", 60,
              ",\"iat\":1,\"sid\":\"00\",\"eat_profile\":"
              "\"tag:github.com,2024:confidential-containers/Trustee\"");
}

#define PLAIN "{\"iss\":\"idp\",\"aud\":\"kbs\",\"role\":\"admin\",\"exp\":99999999999}"

static void bearer_none(struct matrix *m, struct ask *ask)
{
    struct kbs_buf token = KBS_BUF(TEXT_BYTES - 16);

    kbs_base64url_put(&token, KBS_SPAN_LIT("{\"alg\":\"none\"}"));
    kbs_buf_put_u8(&token, '.');
    kbs_base64url_put(&token, KBS_SPAN_LIT(PLAIN));
    kbs_buf_put_u8(&token, '.');
    set_bearer(m, ask, &token);
}

/* The public key is no secret. */
static void bearer_hs256(struct matrix *m, struct ask *ask)
{
    struct kbs_buf token = KBS_BUF(TEXT_BYTES - 16);

    maker_hs256(kbs_buf_span(&m->pem), "{\"alg\":\"HS256\"}", PLAIN, &token);
    set_bearer(m, ask, &token);
}

static void sign(struct matrix *m, struct ask *ask)
{
    ask->signature = signature_make(&m->signature);
}

static void no_credential(struct matrix *m, struct ask *ask)
{
    (void)m;
    (void)ask;
}

static void signature_garbage(struct matrix *m, struct ask *ask)
{
    good_bearer(m, ask); /* and there is nothing to fall back on */
    ask->signature = "a.b.c";
}

static void signature_expired(struct matrix *m, struct ask *ask)
{
    m->signature.exp = kbs_clock_unix_s() - 1;
    sign(m, ask);
}

static void signature_route(struct matrix *m, struct ask *ask)
{
    m->signature.p = "/kbs/v0/admin/nonce";
    sign(m, ask);
}

static void signature_query(struct matrix *m, struct ask *ask)
{
    char other[300];

    (void)snprintf(other, sizeof(other), "%s?version=1", ask->target);
    m->signature.p = other;
    sign(m, ask);
}

static void signature_method(struct matrix *m, struct ask *ask)
{
    m->signature.m = strcmp(ask->method, "GET") == 0 ? "POST" : "GET";
    sign(m, ask);
}

static void signature_body(struct matrix *m, struct ask *ask)
{
    m->signature.body = "{\"limit\":1}";
    sign(m, ask);
}

static void signature_nonce(struct matrix *m, struct ask *ask)
{
    m->signature.nonce[0] = m->signature.nonce[0] == 'A' ? 'B' : 'A';
    sign(m, ask);
}

static void signature_stranger(struct matrix *m, struct ask *ask)
{
    m->signature.key = m->stranger.pkey;
    sign(m, ask);
}

static void signature_name(struct matrix *m, struct ask *ask)
{
    struct kbs_ec_public enrolled = key_public(m->j->admin, KBS_CURVE_P256);
    char kid[44];

    kbs_jose_thumbprint(&enrolled, kid);
    m->signature.kid = kid;
    m->signature.key = m->stranger.pkey;
    sign(m, ask);
}

static void signature_typ(struct matrix *m, struct ask *ask)
{
    m->signature.typ = "JWT";
    sign(m, ask);
}

static void signature_sequence(struct matrix *m, struct ask *ask)
{
    m->signature.s = 1;
    sign(m, ask);
}

/* The very request that was answered before, whatever the answer was. */
static void signature_replayed(struct matrix *m, struct ask *ask)
{
    struct reply *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    sign(m, ask);
    judge_ask(m->j, ask, r);
    assert_int_not_equal(r->status, 401);
    free(r);
}

static const struct credential {
    const char *name;
    void (*put)(struct matrix *m, struct ask *ask);
    unsigned int status;      /* on every route */
    unsigned int open_status; /* in mode BEARER on those of Trustee's clients */
    bool changes_only;        /* reads leave sequences alone, and can be asked again */
} credentials[] = {
    {"no credential", no_credential, 401, 401, false},
    {"Bearer: expired", bearer_expired, 401, 401, false},
    {"Bearer: not valid yet", bearer_not_yet, 401, 401, false},
    {"Bearer: wrong audience", bearer_audience, 401, 401, false},
    {"Bearer: wrong issuer", bearer_issuer, 401, 401, false},
    {"Bearer: wrong role", bearer_role, 401, 403, false},
    {"Bearer: unknown key", bearer_stranger, 401, 401, false},
    {"Bearer: a guest's claims", bearer_evidence, 401, 401, false},
    {"Bearer: attestation token", bearer_attestation, 401, 401, false},
    {"Bearer: alg none", bearer_none, 401, 401, false},
    {"Bearer: HS256 by the public key", bearer_hs256, 401, 401, false},
    {"signature: garbage, good Bearer", signature_garbage, 401, 401, false},
    {"signature: expired", signature_expired, 401, 401, false},
    {"signature: of another route", signature_route, 401, 401, false},
    {"signature: of another query", signature_query, 401, 401, false},
    {"signature: of another method", signature_method, 401, 401, false},
    {"signature: of another body", signature_body, 401, 401, false},
    {"signature: forged nonce", signature_nonce, 401, 401, false},
    {"signature: key not enrolled", signature_stranger, 401, 401, false},
    {"signature: an enrolled key's name", signature_name, 401, 401, false},
    {"signature: another kind of token", signature_typ, 401, 401, false},
    {"signature: old sequence", signature_sequence, 409, 409, true},
    {"signature: replayed", signature_replayed, 409, 409, true},
};

/* ---- that nothing changed ---- */

static void table_digest(sqlite3 *db, const char *table, struct kbs_buf *out)
{
    sqlite3_stmt *stmt = NULL;
    char sql[128];

    (void)snprintf(sql, sizeof(sql), "SELECT * FROM \"%s\"", table);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(stmt); i++) {
            const void *p = sqlite3_column_blob(stmt, i);

            kbs_buf_printf(out, "%d:", sqlite3_column_bytes(stmt, i));
            kbs_buf_put(out, p != NULL ? p : "", (size_t)sqlite3_column_bytes(stmt, i));
        }
        kbs_buf_put_u8(out, '\n');
    }
    assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
}

/* SHA-256 over every row of every table. */
static void store_digest(const struct judge *j, uint8_t ret[KBS_SHA256_BYTES])
{
    struct kbs_buf all = KBS_BUF(1 << 20);
    sqlite3_stmt *tables = NULL;
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open_v2(j->store_path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name",
                           -1, &tables, NULL),
        SQLITE_OK);
    while (sqlite3_step(tables) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(tables, 0);

        kbs_buf_printf(&all, "%s\n", name);
        table_digest(db, name, &all);
    }
    assert_int_equal(sqlite3_finalize(tables), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_false(all.failed);
    kbs_sha256(kbs_buf_span(&all), ret);
    kbs_buf_deinit(&all);
}

/* The ledger has heard of refusals only. */
static void ledger_only_denied(const struct judge *j, const char *what)
{
    const char *line = j->ledger_text;

    while (*line != '\0') {
        if (strncmp(line, "admin-denied ", strlen("admin-denied ")) != 0) {
            fail_msg("%s: recorded %.60s", what, line);
        }
        line += strcspn(line, "\n");
        line += *line == '\n' ? 1 : 0;
    }
}

static void denied(struct matrix *m, const struct target *t, const struct credential *c)
{
    struct judge *j = m->j;
    struct ask ask = t->ask;
    uint8_t before[KBS_SHA256_BYTES];
    uint8_t after[KBS_SHA256_BYTES];
    unsigned int orders;
    uint64_t epoch;
    char what[400];

    (void)snprintf(what, sizeof(what), "%s %s, %s", ask.method, ask.target, c->name);
    m->signature = signature_for(j, &ask);
    c->put(m, &ask);
    orders = j->orders;
    epoch = j->epoch;
    store_digest(j, before);
    ledger_forget(j);
    struct reply *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    judge_ask(j, &ask, r);
    if (r->status != (t->open && j->admin_mode == KBS_ADMIN_BEARER ? c->open_status : c->status)) {
        fail_msg("%s: %u %s", what, r->status, r->body);
    }
    free(r);
    store_digest(j, after);
    if (memcmp(before, after, sizeof(after)) != 0 || j->orders != orders || j->epoch != epoch) {
        fail_msg("%s: denied, and something changed", what);
    }
    ledger_only_denied(j, what);
    m->asked++;
}

/* Detector: what is good is let in. Comes last, for it may change things. */
static void admitted(struct matrix *m, const struct target *t)
{
    struct reply *r = calloc(1, sizeof(*r));
    struct ask ask = t->ask;

    assert_non_null(r);
    m->signature = signature_for(m->j, &ask);
    sign(m, &ask);
    judge_ask(m->j, &ask, r);
    if (r->status == 401 || r->status == 403) {
        fail_msg("%s %s, signed: %u %s", ask.method, ask.target, r->status, r->body);
    }
    if (t->open && m->j->admin_mode == KBS_ADMIN_BEARER) {
        ask.signature = NULL;
        good_bearer(m, &ask);
        judge_ask(m->j, &ask, r);
        if (r->status == 401 || r->status == 403) {
            fail_msg("%s %s, Bearer: %u %s", ask.method, ask.target, r->status, r->body);
        }
    }
    free(r);
}

static void run(struct matrix *m)
{
    struct target t;
    size_t routes = 0;

    for (size_t n = 0; target_next(&n, &t); routes++) {
        for (size_t i = 0; i < COUNT(credentials); i++) {
            if (!credentials[i].changes_only || t.change) {
                denied(m, &t, &credentials[i]);
            }
        }
        if (!t.open) { /* no mode opens it to a token that is good elsewhere */
            const struct credential good = {"Bearer: good, elsewhere", good_bearer, 401, 401,
                                            false};

            denied(m, &t, &good);
        }
    }
    for (size_t n = 0; target_next(&n, &t);) {
        admitted(m, &t);
    }
    print_message("%zu routes, %zu requests denied\n", routes, m->asked);
    assert_true(routes >= 20);
}

/* ---- the modes ---- */

static int set_up(void **state, enum kbs_admin_mode mode)
{
    struct matrix *m = calloc(1, sizeof(*m));
    void *j = NULL;

    assert_non_null(m);
    assert_int_equal(judge_setup_admin(&j), 0);
    m->j = j;
    m->idp = maker_new("ES256");
    m->stranger = maker_new("ES256");
    m->pem = KBS_BUF(4096);
    maker_pem(&m->idp, &m->pem);
    m->j->admin_mode = mode;
    m->j->providers[0] = "idp";
    m->j->providers[1] = "kbs";
    m->j->providers[2] = kbs_buf_cstr(&m->pem);
    m->j->acls[0] = "admin";
    m->j->acls[1] = "^/kbs/v0/.*$";
    judge_restart(m->j);
    expect_signed(m->j, /* so that there is a sequence that others are older than */
                  (struct ask){.route = KBS_ROUTE_ADMIN_KEY_CREATE, .target = "/kbs/v0/admin/keys"},
                  400, NULL);
    *state = m;
    return 0;
}

static int set_up_signed(void **state)
{
    return set_up(state, KBS_ADMIN_SIGNED);
}

static int set_up_deny_all(void **state)
{
    return set_up(state, KBS_ADMIN_DENY_ALL);
}

static int set_up_bearer(void **state)
{
    return set_up(state, KBS_ADMIN_BEARER);
}

static int set_up_anybody(void **state)
{
    return set_up(state, KBS_ADMIN_INSECURE_ALLOW_ALL);
}

static int tear_down(void **state)
{
    struct matrix *m = *state;
    void *j = m->j;
    int rc = judge_teardown(&j);

    maker_free(&m->idp);
    maker_free(&m->stranger);
    kbs_buf_deinit(&m->pem);
    free(m);
    return rc;
}

static void test_matrix(void **state)
{
    run(*state);
}

/* Anybody may use the routes of Trustee's clients, and no other. */
static void test_anybody(void **state)
{
    struct matrix *m = *state;
    struct target t;

    for (size_t n = 0; target_next(&n, &t);) {
        for (size_t i = 0; !t.open && i < COUNT(credentials); i++) {
            if (!credentials[i].changes_only || t.change) {
                denied(m, &t, &credentials[i]);
            }
        }
    }
    print_message("%zu requests denied\n", m->asked);
}

/* ---- who did it ---- */

/* What the newest secret's row says that its administrator asked. */
static void kept_request(const struct judge *j, struct kbs_buf *out)
{
    sqlite3_stmt *stmt = NULL;
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open_v2(j->store_path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(
        sqlite3_prepare_v2(db, "SELECT request FROM secret ORDER BY epoch DESC", -1, &stmt, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    kbs_buf_put(out, sqlite3_column_blob(stmt, 0), (size_t)sqlite3_column_bytes(stmt, 0));
    assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_false(out->failed);
}

static bool find_route(enum kbs_route route, struct target *t)
{
    for (size_t n = 0; target_next(&n, t);) {
        if (t->row.route == route) {
            return true;
        }
    }
    return false;
}

/* Sets a resource and asks ledger and store who did. */
static void set_and_look(struct matrix *m, const struct ask *ask, const char *recorded,
                         struct kbs_buf *ret_kept)
{
    ledger_forget(m->j);
    judge_expect(m->j, ask, 200, NULL);
    assert_non_null(strstr(m->j->ledger_text, "secret-set phase=intent"));
    assert_non_null(strstr(m->j->ledger_text, "secret-set phase=outcome"));
    assert_non_null(strstr(m->j->ledger_text, recorded));
    kept_request(m->j, ret_kept);
}

static void test_who_did_it(void **state)
{
    struct matrix *m = *state;
    struct kbs_buf kept = KBS_BUF(TEXT_BYTES);
    struct target t;

    if (!find_route(KBS_ROUTE_RESOURCE_SET, &t)) {
        print_message("no route sets a resource: skipped\n");
        skip();
    }
    t.ask.body = "value";
    good_bearer(m, &t.ask);
    set_and_look(m, &t.ask, " auth=bearer role=admin ", &kept);
    assert_non_null(strstr(m->j->ledger_text, " admin=bearer:"));
    assert_null(strstr(m->j->ledger_text, " sequence="));
    /* Header and payload, so that it can be read, and no signature, so that it cannot be used. */
    assert_true(kbs_span_starts_with(kbs_span_str(t.ask.authorization + strlen("Bearer ")),
                                     kbs_buf_cstr(&kept)));
    assert_ptr_equal(strchr(strchr(kbs_buf_cstr(&kept), '.') + 1, '.'), NULL);

    kbs_buf_clear(&kept);
    t.ask.authorization = NULL;
    m->signature = signature_for(m->j, &t.ask);
    sign(m, &t.ask);
    set_and_look(m, &t.ask, " auth=signed ", &kept);
    assert_true(kbs_span_equal_str(kbs_buf_span(&kept), t.ask.signature));

    kbs_buf_clear(&kept);
    t.ask.signature = NULL;
    m->j->admin_mode = KBS_ADMIN_INSECURE_ALLOW_ALL;
    judge_restart(m->j);
    set_and_look(m, &t.ask, " admin=anybody auth=anybody ", &kept);
    assert_int_equal(kept.len, 0);
    kbs_buf_deinit(&kept);
}

/* Keys of every kind, within the judge's walls. */
static void test_kinds_of_keys(void **state)
{
    static const char *const algs[JUDGE_LIST / 3] = {"ES384", "ES512", "PS256", "EdDSA"};
    struct matrix *m = *state;
    struct maker makers[COUNT(algs)];
    struct kbs_buf pems[COUNT(algs)];
    struct target t;

    if (!find_route(KBS_ROUTE_RESOURCE_POLICY_LIST, &t)) {
        print_message("no route shows policies: skipped\n");
        skip();
    }
    for (size_t i = 0; i < COUNT(algs); i++) {
        makers[i] = maker_new(algs[i]);
        pems[i] = KBS_BUF(4096);
        maker_pem(&makers[i], &pems[i]);
        m->j->providers[3 * i] = m->j->providers[3 * i + 1] = "";
        m->j->providers[3 * i + 2] = kbs_buf_cstr(&pems[i]);
    }
    judge_restart(m->j);
    for (size_t i = 0; i < COUNT(algs); i++) {
        struct ask ask = t.ask;

        bearer_of(m, &ask, &makers[i], "idp", "kbs", "admin", 60, "");
        judge_expect(m->j, &ask, 200, NULL);
    }
    bearer_of(m, &t.ask, &m->idp, "idp", "kbs", "admin", 60, ""); /* is none of them */
    judge_expect(m->j, &t.ask, 401, "Cannot verify token with any of the issuers");
    for (size_t i = 0; i < COUNT(algs); i++) {
        maker_free(&makers[i]);
        kbs_buf_deinit(&pems[i]);
    }
}

/* What the configuration refuses, the judge refuses as well: it is the one that would be fooled. */
static void test_production(void **state)
{
    struct matrix *m = *state;
    struct judge *j = m->j;

    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    j->production = true;
    judge_start_fails(j, KBS_EXIT_CONFIG);
    j->admin_mode = KBS_ADMIN_INSECURE_ALLOW_ALL;
    judge_start_fails(j, KBS_EXIT_CONFIG);
    j->admin_mode = KBS_ADMIN_DENY_ALL;
    judge_start(j);
    j->production = false;
    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    j->admin_mode = KBS_ADMIN_BEARER;
    j->acls[1] = "^/kbs(";
    j->acls[2] = NULL;
    judge_start_fails(j, KBS_EXIT_CONFIG);
    j->acls[1] = "^/kbs$";
    j->providers[2] = "no key";
    judge_start_fails(j, KBS_EXIT_CONFIG);
}

/* Whatever the configuration was checked for: a test PKI's root does not get into production. */
static void test_production_has_amds_roots(void **state)
{
    const struct matrix *m = *state;
    struct judge *j = m->j;

    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    j->snp_root = "0123456789abcdef0123456789abcdef";
    judge_start(j);
    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    j->snp_product = "rome";
    judge_start_fails(j, KBS_EXIT_CONFIG);
    j->snp_product = NULL;
    j->production = true;
    judge_start_fails(j, KBS_EXIT_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_matrix, set_up_signed, tear_down),
        cmocka_unit_test_setup_teardown(test_matrix, set_up_deny_all, tear_down),
        cmocka_unit_test_setup_teardown(test_matrix, set_up_bearer, tear_down),
        cmocka_unit_test_setup_teardown(test_anybody, set_up_anybody, tear_down),
        cmocka_unit_test_setup_teardown(test_who_did_it, set_up_bearer, tear_down),
        cmocka_unit_test_setup_teardown(test_kinds_of_keys, set_up_bearer, tear_down),
        cmocka_unit_test_setup_teardown(test_production, set_up_bearer, tear_down),
        cmocka_unit_test_setup_teardown(test_production_has_amds_roots, set_up_signed, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
