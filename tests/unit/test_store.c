/*
 * The store: what it keeps, what it refuses, and that one nonce attests once however many processes
 * try. Each test has a store of its own in a temporary folder; SQLite is used directly only to
 * damage files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "catalog/row.h"
#include "store/store.h"

#define NOW INT64_C(1700000000)

struct fixture {
    char dir[64];
    char path[128];
    struct kbs_store *store;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct kbs_error err = KBS_ERROR_NONE;

    assert_non_null(f);
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/kbs-store-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    (void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->dir);
    assert_int_equal(kbs_store_migrate(f->path, &err), 0);
    assert_int_equal(kbs_store_open(f->path, &f->store, &err), 0);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    f->store = kbs_store_close(f->store);
    assert_int_equal(nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    free(f);
    return 0;
}

/* Runs SQL on the file behind the store's back. */
static void tamper(const char *path, const char *sql)
{
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static struct kbs_session new_session(int64_t created_s, int64_t expires_s)
{
    struct kbs_session s = KBS_SESSION_NULL;

    kbs_random(s.cookie_hash, sizeof(s.cookie_hash));
    kbs_random(s.sid, sizeof(s.sid));
    s.state = KBS_SESSION_CHALLENGED;
    s.version = KBS_PROTOCOL_0_2_0;
    s.tee = KBS_TEE_SAMPLE;
    s.hash = KBS_HASH_SHA384;
    (void)snprintf(s.nonce, sizeof(s.nonce), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    s.created_s = created_s;
    s.expires_s = expires_s;
    return s;
}

/* Makes an attested session of a challenged one. P-256's generator stands for the TEE key. */
static void attest(struct kbs_session *s, int64_t attested_s, int64_t expires_s)
{
    static const char gx[] = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";
    static const char gy[] = "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";

    s->state = KBS_SESSION_ATTESTED;
    s->binding = KBS_BINDING_EVIDENCE;
    s->attested_s = attested_s;
    s->expires_s = expires_s;
    s->tee_key.alg = KBS_TEE_ALG_ECDH_ES_A256KW;
    s->tee_key.ec.curve = KBS_CURVE_P256;
    for (size_t i = 0; i < 32; i++) {
        unsigned int x = 0;
        unsigned int y = 0;

        assert_int_equal(sscanf(gx + 2 * i, "%2x", &x), 1);
        assert_int_equal(sscanf(gy + 2 * i, "%2x", &y), 1);
        s->tee_key.ec.x[i] = (uint8_t)x;
        s->tee_key.ec.y[i] = (uint8_t)y;
    }
    s->report_digest.len = 48;
    memset(s->report_digest.p, 0x5a, 48);
    kbs_buf_clear(&s->claims);
    kbs_buf_put_str(&s->claims, "{\"iss\":\"x\"}");
}

/* Prints the card anew, after something in it was changed. */
static void recard(struct kbs_key *k)
{
    struct kbs_error err = KBS_ERROR_NONE;
    char kid[KBS_LIMIT_KID_BYTES + 1];
    uint8_t bytes[KBS_CARD_BYTES] = {0}; /* whose MAC nobody here can check */

    memcpy(k->card.key_id, k->id, sizeof(k->id));
    k->card.key_version = k->version;
    kbs_sha256(kbs_span(kid, kbs_key_kid(k, kid)), k->card.kid);
    if (k->card.storage == KBS_STORAGE_RESIDENT) {
        kbs_cka_id(k->id, k->version, k->card.cka_id);
        k->card.cka_id_len = KBS_CKA_ID_BYTES;
    }
    kbs_card_body_put(&k->card, bytes);
    assert_int_equal(kbs_key_take_card(k, kbs_span(bytes, sizeof(bytes)), &err), 0);
}

static struct kbs_key new_key(const char *path, uint32_t version)
{
    struct kbs_key k = {.version = version,
                        .state = KBS_KEY_STATE_ENABLED,
                        .kcv_mac = KBS_KCV_HMAC_SHA256,
                        .kcv = {1, 2, 3, 4},
                        .card = {.purpose = KBS_PURPOSE_RELEASE,
                                 .storage = KBS_STORAGE_RESIDENT,
                                 .alg = KBS_KEY_ALG_AES,
                                 .floor = KBS_LOCALITY_TRANSPORT,
                                 .provenance = KBS_PROVENANCE_GENERATED,
                                 .bytes = 32,
                                 .created_s = NOW}};

    kbs_random(k.id, sizeof(k.id));
    assert_true(kbs_span_to_cstr(kbs_span_str(path), k.path, sizeof(k.path)));
    recard(&k);
    return k;
}

static struct kbs_key wrapped_key(const char *path, uint32_t wrap_version)
{
    struct kbs_key k = new_key(path, 1);

    k.card.storage = KBS_STORAGE_WRAPPED;
    k.card.wrap_version = wrap_version;
    k.card.cka_id_len = 0;
    memset(k.card.cka_id, 0, sizeof(k.card.cka_id));
    k.blob_len = 40;
    kbs_random(k.blob, k.blob_len);
    kbs_sha256(kbs_key_blob(&k), k.card.blob);
    recard(&k);
    return k;
}

static struct kbs_key new_secret(const char *path, uint32_t version)
{
    struct kbs_key k = new_key(path, version);

    k.kcv_mac = KBS_KCV_NONE;
    memset(k.kcv, 0, sizeof(k.kcv));
    k.card.purpose = KBS_PURPOSE_SEAL;
    k.card.storage = KBS_STORAGE_SEALED;
    k.card.alg = KBS_KEY_ALG_SECRET;
    k.card.floor = KBS_LOCALITY_WORKER;
    k.card.wrap_version = 1;
    k.card.cka_id_len = 0;
    memset(k.card.cka_id, 0, sizeof(k.card.cka_id));
    recard(&k);
    return k;
}

/* ---- mutations ---- */

/* A mutation with the next epoch, whose manifest must be what the store then has. */
static int commit_mutation(struct kbs_store *store, struct kbs_store_mutation *m,
                           struct kbs_error *err)
{
    uint8_t before[KBS_SHA256_BYTES];
    uint8_t now[KBS_SHA256_BYTES];
    int rc = 0;

    assert_int_equal(kbs_store_epoch_get(store, &m->epoch, err), 0);
    memcpy(before, m->epoch.manifest, sizeof(before));
    m->from_epoch = m->epoch.epoch++;
    for (size_t i = 0; i < m->row_count; i++) {
        m->rows[i].key->epoch = m->epoch.epoch;
    }
    for (size_t i = 0; i < m->document_count; i++) {
        m->documents[i].document->epoch = m->epoch.epoch;
    }
    assert_int_equal(kbs_store_manifest(store, m, now, m->epoch.manifest, err), 0);
    assert_memory_equal(now, before, sizeof(now));
    rc = kbs_store_commit(store, m, err);
    if (rc == 0) {
        struct kbs_error ignored = KBS_ERROR_NONE;

        assert_int_equal(kbs_store_manifest(store, NULL, now, NULL, &ignored), 0);
        assert_memory_equal(now, m->epoch.manifest, sizeof(now));
    }
    return rc;
}

static int commit_rows(struct kbs_store *store, struct kbs_store_row *rows, size_t count,
                       struct kbs_error *err)
{
    struct kbs_store_mutation m = {.rows = rows, .row_count = count, .erase = true};

    kbs_store_rows_sort(rows, count);
    for (size_t i = 0; i < count; i++) {
        kbs_sha256(rows[i].request, rows[i].key->request);
    }
    return commit_mutation(store, &m, err);
}

static int key_insert(struct kbs_store *store, struct kbs_key *key, struct kbs_span policy,
                      struct kbs_error *err)
{
    struct kbs_store_row row = {.key = key, .policy = policy, .fresh = true};

    return commit_rows(store, &row, 1, err);
}

/* ---- schema ---- */

static void test_migrate_twice(void **state)
{
    struct fixture *f = *state;
    struct kbs_key key = new_key("a/b/c", 1);
    struct kbs_key got;
    struct kbs_error err = KBS_ERROR_NONE;
    struct stat st;

    assert_int_equal(key_insert(f->store, &key, KBS_SPAN_EMPTY, &err), 0);
    assert_int_equal(kbs_store_migrate(f->path, &err), 0); /* also while it is open */
    f->store = kbs_store_close(f->store);
    assert_int_equal(kbs_store_migrate(f->path, &err), 0);
    assert_int_equal(kbs_store_open(f->path, &f->store, &err), 0);
    assert_int_equal(kbs_store_key_get(f->store, KBS_SPAN_LIT("a/b/c"), 0, &got, NULL, &err), 0);
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_migrate_killed(void **state)
{
    struct fixture *f = *state;
    struct kbs_error err = KBS_ERROR_NONE;
    char path[160];

    /* What a crash before the one commit leaves: a file of nothing, perhaps already in WAL mode. */
    (void)snprintf(path, sizeof(path), "%s/killed.db", f->dir);
    tamper(path, "PRAGMA journal_mode=WAL; BEGIN; CREATE TABLE meta (x); ROLLBACK;");
    f->store = kbs_store_close(f->store);
    assert_int_equal(kbs_store_open(path, &f->store, &err), -1);
    assert_null(f->store);
    assert_non_null(strstr(err.detail, "upgrades it"));
    assert_int_equal(kbs_store_migrate(path, &err), 0);
    assert_int_equal(kbs_store_open(path, &f->store, &err), 0);
}

static void test_migrate_side_by_side(void **state)
{
    struct fixture *f = *state;
    char path[160];
    int status = 0;

    (void)snprintf(path, sizeof(path), "%s/raced.db", f->dir);
    for (int i = 0; i < 4; i++) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
            struct kbs_error err = KBS_ERROR_NONE;

            _exit(kbs_store_migrate(path, &err) == 0 ? 0 : 1);
        }
    }
    for (int i = 0; i < 4; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
}

static void test_foreign_refused(void **state)
{
    struct fixture *f = *state;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_store *s = NULL;
    char path[160];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/missing.db", f->dir);
    assert_int_equal(kbs_store_open(path, &s, &err), -1);
    assert_int_equal(access(path, F_OK), -1); /* opening makes nothing */

    (void)snprintf(path, sizeof(path), "%s/other.db", f->dir);
    tamper(path, "CREATE TABLE something_else (x)");
    assert_int_equal(kbs_store_migrate(path, &err), -1);
    assert_non_null(strstr(err.detail, "something else"));
    assert_int_equal(kbs_store_open(path, &s, &err), -1);

    (void)snprintf(path, sizeof(path), "%s/garbage.db", f->dir);
    file = fopen(path, "we");
    assert_non_null(file);
    for (int i = 0; i < 1000; i++) {
        (void)fputs("not a database at all\n", file);
    }
    assert_int_equal(fclose(file), 0);
    assert_int_equal(kbs_store_migrate(path, &err), -1);
    assert_int_equal(kbs_store_open(path, &s, &err), -1);

    tamper(f->path, "UPDATE meta SET value = 9 WHERE name = 'schema'");
    assert_int_equal(kbs_store_migrate(f->path, &err), -1);
    assert_non_null(strstr(err.detail, "schema 9"));
    assert_int_equal(kbs_store_open(f->path, &s, &err), -1);
    assert_null(s);
}

/* ---- sessions ---- */

static void test_session_round_trip(void **state)
{
    struct fixture *f = *state;
    struct kbs_session s = new_session(NOW, NOW + 300);
    struct kbs_session got = KBS_SESSION_NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t sid[16];

    assert_int_equal(kbs_store_session_create(f->store, &s, KBS_LIMIT_SESSIONS, &err), 0);
    assert_int_equal(kbs_store_session_by_cookie(f->store, s.cookie_hash, NOW + 1, &got, &err), 0);
    assert_int_equal(got.state, KBS_SESSION_CHALLENGED);
    assert_string_equal(got.nonce, s.nonce);
    assert_int_equal(got.version, KBS_PROTOCOL_0_2_0);
    assert_int_equal(got.hash, KBS_HASH_SHA384);
    assert_int_equal(got.tee, KBS_TEE_SAMPLE);
    assert_int_equal(got.created_s, NOW);

    attest(&s, NOW + 2, NOW + 302);
    assert_int_equal(kbs_store_session_attest(f->store, &s, &err), 0);
    memcpy(sid, s.sid, sizeof(sid));
    assert_int_equal(kbs_store_session_by_sid(f->store, sid, NOW + 301, &got, &err), 0);
    assert_int_equal(got.state, KBS_SESSION_ATTESTED);
    assert_int_equal(got.binding, KBS_BINDING_EVIDENCE);
    assert_int_equal(got.attested_s, NOW + 2);
    assert_int_equal(got.expires_s, NOW + 302);
    assert_true(kbs_tee_key_equal(&got.tee_key, &s.tee_key));
    assert_true(
        kbs_span_equal(kbs_digest_span(&got.report_digest), kbs_digest_span(&s.report_digest)));
    assert_true(kbs_span_equal(kbs_buf_span(&got.claims), kbs_buf_span(&s.claims)));

    /* Once. */
    assert_int_equal(kbs_store_session_attest(f->store, &s, &err), -1);
    assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    assert_string_equal(err.detail, "nonce already used");
    kbs_session_deinit(&got);
    kbs_session_deinit(&s);
}

static void test_session_expiry(void **state)
{
    struct fixture *f = *state;
    struct kbs_session s = new_session(NOW, NOW + 300);
    struct kbs_session got = KBS_SESSION_NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_store_session_create(f->store, &s, KBS_LIMIT_SESSIONS, &err), 0);
    assert_int_equal(kbs_store_session_by_cookie(f->store, s.cookie_hash, NOW + 299, &got, &err),
                     0);
    assert_int_equal(kbs_store_session_by_cookie(f->store, s.cookie_hash, NOW + 300, &got, &err),
                     -1);
    assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    assert_int_equal(kbs_store_session_by_sid(f->store, s.sid, NOW + 300, &got, &err), -1);
    attest(&s, NOW + 300, NOW + 600); /* too late by a second */
    assert_int_equal(kbs_store_session_attest(f->store, &s, &err), -1);
    assert_int_equal(err.category, KBS_UNAUTHENTICATED);

    s.cookie_hash[0] ^= 1; /* another cookie */
    assert_int_equal(kbs_store_session_by_cookie(f->store, s.cookie_hash, NOW, &got, &err), -1);
    assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    kbs_session_deinit(&got);
    kbs_session_deinit(&s);
}

static void test_session_limit(void **state)
{
    struct fixture *f = *state;
    struct kbs_session s = new_session(NOW + 10, NOW + 300);
    struct kbs_error err = KBS_ERROR_NONE;
    char sql[512];

    /* A full house: half of it expires at NOW + 20. */
    (void)snprintf(
        sql, sizeof(sql),
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)"
        " INSERT INTO session (cookie_hash, sid, state, version, tee, hash, nonce, created_s, expires_s)"
        " SELECT randomblob(32), randomblob(16), 1, 1, 1, 'sha384', 'x', 0,"
        " %lld + (i %% 2) * 1000 FROM n",
        KBS_LIMIT_SESSIONS, (long long)(NOW + 20));
    tamper(f->path, sql);
    assert_int_equal(kbs_store_session_create(f->store, &s, KBS_LIMIT_SESSIONS, &err), -1);
    assert_int_equal(err.category, KBS_LIMITED);
    s.created_s = NOW + 20;
    assert_int_equal(kbs_store_session_create(f->store, &s, KBS_LIMIT_SESSIONS, &err), 0);
    kbs_session_deinit(&s);
}

/* Whether one more may begin when `challenged` of them may wait. */
static enum kbs_category begin_one(struct fixture *f, uint32_t challenged, int64_t now_s,
                                   struct kbs_session *ret)
{
    struct kbs_error err = KBS_ERROR_NONE;

    *ret = new_session(now_s, now_s + 300);
    (void)!kbs_store_session_create(f->store, ret, challenged, &err);
    return err.category;
}

/* Those that have not attested have a bound of their own, and those that have do not count in it. */
static void test_session_limit_challenged(void **state)
{
    struct fixture *f = *state;
    struct kbs_session s[4];
    struct kbs_session got = KBS_SESSION_NULL;
    struct kbs_session more;
    struct kbs_error err = KBS_ERROR_NONE;

    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(begin_one(f, 3, NOW, &s[i]), KBS_OK);
    }
    assert_int_equal(begin_one(f, 3, NOW, &more), KBS_LIMITED);
    attest(&s[0], NOW + 1, NOW + 600);
    assert_int_equal(kbs_store_session_attest(f->store, &s[0], &err), 0); /* one place is free */
    assert_int_equal(begin_one(f, 3, NOW + 1, &s[3]), KBS_OK);
    assert_int_equal(begin_one(f, 3, NOW + 1, &more), KBS_LIMITED);
    assert_int_equal(kbs_store_session_by_cookie(f->store, s[0].cookie_hash, NOW + 2, &got, &err),
                     0);
    assert_int_equal(got.state, KBS_SESSION_ATTESTED); /* and was not put out by the others */

    /* Three of the first four are gone: two that waited, which had their time, not the attested. */
    assert_int_equal(begin_one(f, 2, NOW + 300, &more), KBS_OK);
    assert_int_equal(begin_one(f, 2, NOW + 300, &more), KBS_LIMITED);
    assert_int_equal(kbs_store_session_by_cookie(f->store, s[0].cookie_hash, NOW + 300, &got, &err),
                     0);
    /* The attested one goes as well, and takes no other's place along. */
    assert_int_equal(begin_one(f, 1, NOW + 601, &more), KBS_OK);
    assert_int_equal(begin_one(f, 1, NOW + 601, &more), KBS_LIMITED);
    kbs_session_deinit(&got);
    for (size_t i = 0; i < 4; i++) {
        kbs_session_deinit(&s[i]);
    }
}

/* Rows of one state that expire at a time, behind the store's back. */
static void add_rows(struct fixture *f, unsigned int rows, int state, int64_t expires_s)
{
    char sql[640];

    (void)snprintf(
        sql, sizeof(sql),
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %u)"
        " INSERT INTO session (cookie_hash, sid, state, version, tee, hash, nonce, created_s,"
        " expires_s, binding, attested_s, tee_key, report_digest, claims)"
        " SELECT randomblob(32), randomblob(16), %d, 2, 1, 'sha384', 'x', 0, %lld, 3, 0, x'00',"
        " x'00', '{}' FROM n",
        rows, state, (long long)expires_s);
    tamper(f->path, sql);
}

static int64_t count_of(struct fixture *f, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    int64_t rows;

    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    rows = sqlite3_column_int64(q, 0);
    assert_int_equal(sqlite3_finalize(q), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return rows;
}

static int64_t count_rows(struct fixture *f)
{
    return count_of(f, "SELECT count(*) FROM session");
}

/*
 * Sessions that wait fill their bound while many that had attested have expired: nobody clears them
 * all in one request, and nobody clears the same ones twice.
 */
static void test_session_limit_and_expired(void **state)
{
    struct fixture *f = *state;
    struct kbs_session s;
    int64_t before;

    add_rows(f, 5000, KBS_SESSION_ATTESTED, NOW - 1);
    add_rows(f, 10, KBS_SESSION_CHALLENGED, NOW + 100);
    for (before = 5010; before > 10; before = count_rows(f)) {
        assert_int_equal(begin_one(f, 10, NOW, &s), KBS_LIMITED);
        assert_true(count_rows(f) < before && before - count_rows(f) <= 1024);
    }
    assert_int_equal(count_rows(f), 10);
    assert_int_equal(begin_one(f, 10, NOW + 100, &s), KBS_OK);
    assert_int_equal(count_rows(f), 1);
}

#define ROUNDS 200
#define RACERS 4

/*
 * One racer: attests the round's session when told the round, says whether it won. Never returns.
 */
static void racer(const char *path, int go, int result)
{
    struct kbs_store *store = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t cookie_hash[KBS_SHA256_BYTES];

    if (kbs_store_open(path, &store, &err) != 0) {
        _exit(1);
    }
    while (read(go, cookie_hash, sizeof(cookie_hash)) == (ssize_t)sizeof(cookie_hash)) {
        struct kbs_session s = new_session(NOW, NOW + 300);
        char outcome = 'e';

        memcpy(s.cookie_hash, cookie_hash, sizeof(cookie_hash));
        attest(&s, NOW + 1, NOW + 301);
        if (kbs_store_session_attest(store, &s, &err) == 0) {
            outcome = 'w';
        } else if (err.category == KBS_UNAUTHENTICATED) {
            outcome = 'l';
        }
        kbs_session_deinit(&s);
        if (write(result, &outcome, 1) != 1) {
            _exit(1);
        }
    }
    store = kbs_store_close(store);
    _exit(store == NULL ? 0 : 1);
}

static void test_attest_race(void **state)
{
    struct fixture *f = *state;
    struct kbs_error err = KBS_ERROR_NONE;
    int go[RACERS][2];
    int result[2];
    int status = 0;

    assert_int_equal(pipe(result), 0);
    for (int i = 0; i < RACERS; i++) {
        assert_int_equal(pipe(go[i]), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            for (int j = 0; j <= i; j++) {
                (void)close(go[j][1]);
            }
            racer(f->path, go[i][0], result[1]);
        }
        (void)close(go[i][0]);
    }
    (void)close(result[1]);
    for (int round = 0; round < ROUNDS; round++) {
        struct kbs_session s = new_session(NOW, NOW + 300);
        int won = 0;
        int lost = 0;

        assert_int_equal(kbs_store_session_create(f->store, &s, KBS_LIMIT_SESSIONS, &err), 0);
        for (int i = 0; i < RACERS; i++) {
            assert_int_equal(write(go[i][1], s.cookie_hash, sizeof(s.cookie_hash)),
                             sizeof(s.cookie_hash));
        }
        for (int i = 0; i < RACERS; i++) {
            char outcome = 0;

            assert_int_equal(read(result[0], &outcome, 1), 1);
            won += outcome == 'w';
            lost += outcome == 'l';
        }
        assert_int_equal(won, 1);
        assert_int_equal(lost, RACERS - 1);
        kbs_session_deinit(&s);
    }
    for (int i = 0; i < RACERS; i++) {
        (void)close(go[i][1]);
    }
    (void)close(result[0]);
    for (int i = 0; i < RACERS; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
}

/* ---- catalog ---- */

static void test_key_insert_and_get(void **state)
{
    struct fixture *f = *state;
    struct kbs_key one = new_key("repo/type/tag", 1);
    struct kbs_key two = new_key("repo/type/tag", 2);
    struct kbs_key got;
    struct kbs_buf policy = KBS_BUF(KBS_LIMIT_POLICY_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(
        kbs_store_key_get(f->store, KBS_SPAN_LIT("repo/type/tag"), 0, &got, NULL, &err), -1);
    assert_int_equal(err.category, KBS_MISSING);
    assert_int_equal(key_insert(f->store, &one, KBS_SPAN_LIT("{\"p\":1}"), &err), 0);
    assert_int_equal(key_insert(f->store, &two, KBS_SPAN_EMPTY, &err), 0);

    assert_int_equal(
        kbs_store_key_get(f->store, KBS_SPAN_LIT("repo/type/tag"), 0, &got, &policy, &err), 0);
    assert_int_equal(got.version, 2); /* the latest */
    assert_int_equal(policy.len, 0);
    assert_int_equal(
        kbs_store_key_get(f->store, KBS_SPAN_LIT("repo/type/tag"), 1, &got, &policy, &err), 0);
    assert_memory_equal(got.id, one.id, sizeof(one.id));
    assert_memory_equal(got.kcv, one.kcv, sizeof(one.kcv));
    assert_string_equal(got.path, one.path);
    assert_int_equal(got.state, KBS_KEY_STATE_ENABLED);
    assert_int_equal(got.kcv_mac, one.kcv_mac);
    assert_true(got.has_card);
    assert_memory_equal(got.card_bytes, one.card_bytes, sizeof(one.card_bytes));
    assert_int_equal(got.card.floor, one.card.floor);
    assert_int_equal(got.card.bytes, one.card.bytes);
    assert_int_equal(got.blob_len, 0);
    assert_true(kbs_span_equal_str(kbs_buf_span(&policy), "{\"p\":1}"));

    assert_int_equal(
        kbs_store_key_get(f->store, KBS_SPAN_LIT("repo/type/tag"), 3, &got, NULL, &err), -1);
    assert_int_equal(err.category, KBS_MISSING);
    assert_int_equal(
        kbs_store_key_get(f->store, KBS_SPAN_LIT("Repo/type/tag"), 0, &got, NULL, &err), -1);
    assert_int_equal(err.category, KBS_MISSING); /* byte for byte */
    kbs_buf_deinit(&policy);
}

static void test_key_conflict(void **state)
{
    struct fixture *f = *state;
    struct kbs_key one = new_key("a/b/c", 1);
    struct kbs_key same_path = new_key("a/b/c", 1);
    struct kbs_key same_id = new_key("a/b/d", 1);
    struct kbs_key huge = new_key("a/b/e", UINT32_MAX);
    struct kbs_key got;
    struct kbs_error err = KBS_ERROR_NONE;

    memcpy(same_id.id, one.id, sizeof(one.id));
    recard(&same_id);
    assert_int_equal(key_insert(f->store, &one, KBS_SPAN_EMPTY, &err), 0);
    assert_int_equal(key_insert(f->store, &same_path, KBS_SPAN_EMPTY, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_int_equal(key_insert(f->store, &same_id, KBS_SPAN_EMPTY, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_int_equal(key_insert(f->store, &huge, KBS_SPAN_EMPTY, &err), 0);
    assert_int_equal(
        kbs_store_key_get(f->store, KBS_SPAN_LIT("a/b/e"), UINT32_MAX, &got, NULL, &err), 0);
    assert_int_equal(got.version, UINT32_MAX);
}

static void count_each(void *ctx, const struct kbs_key *key, const struct kbs_store_texts *texts)
{
    char *seen = ctx;

    (void)texts;
    (void)snprintf(seen + strlen(seen), 64 - strlen(seen), "%s:%u ", key->path,
                   (unsigned int)key->version);
}

static void test_key_list(void **state)
{
    struct fixture *f = *state;
    struct kbs_key keys[] = {new_key("b/b/b", 1), new_key("a/a/a", 10), new_key("a/a/a", 2)};
    struct kbs_error err = KBS_ERROR_NONE;
    char seen[64] = "";

    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(key_insert(f->store, &keys[i], KBS_SPAN_EMPTY, &err), 0);
    }
    assert_int_equal(kbs_store_key_list(f->store, KBS_SPAN_EMPTY, 0, 10, count_each, seen, &err),
                     0);
    assert_string_equal(seen, "a/a/a:2 a/a/a:10 b/b/b:1 ");
    seen[0] = '\0';
    assert_int_equal(
        kbs_store_key_list(f->store, KBS_SPAN_LIT("a/a/a"), 2, 1, count_each, seen, &err), 0);
    assert_string_equal(seen, "a/a/a:10 "); /* by number, not by text */
    seen[0] = '\0';
    assert_int_equal(
        kbs_store_key_list(f->store, KBS_SPAN_LIT("a/a/a"), 10, 9, count_each, seen, &err), 0);
    assert_string_equal(seen, "b/b/b:1 ");
}

static void expect_malformed(struct fixture *f, const char *sql)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_key key;
    char seen[64] = "";

    tamper(f->path, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT * FROM key");
    tamper(f->path, sql);
    assert_int_equal(kbs_store_key_get(f->store, KBS_SPAN_LIT("a/b/c"), 1, &key, NULL, &err), -1);
    assert_int_equal(err.category, KBS_INTERNAL);
    assert_int_equal(kbs_store_key_list(f->store, KBS_SPAN_EMPTY, 0, 10, count_each, seen, &err),
                     -1);
    assert_int_equal(err.category, KBS_INTERNAL);
    tamper(f->path, "DELETE FROM key; INSERT INTO key SELECT * FROM kept");
}

static void test_malformed_row(void **state)
{
    struct fixture *f = *state;
    struct kbs_key key = new_key("a/b/c", 1);
    struct kbs_key other = new_key("a/b/d", 1);
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(key_insert(f->store, &key, KBS_SPAN_EMPTY, &err), 0);
    assert_int_equal(key_insert(f->store, &other, KBS_SPAN_EMPTY, &err), 0);
    expect_malformed(f, "UPDATE key SET kcv_mac = 77 WHERE path = 'a/b/c'");
    expect_malformed(f, "UPDATE key SET card = zeroblob(208) WHERE path = 'a/b/c'");
    expect_malformed(f, "UPDATE key SET id = zeroblob(16) WHERE path = 'a/b/c'");
    expect_malformed(f, "UPDATE key SET state = 4 WHERE path = 'a/b/d';"
                        "UPDATE key SET card = (SELECT card FROM key WHERE path = 'a/b/d')"
                        " WHERE path = 'a/b/c'");
    assert_int_equal(kbs_store_key_get(f->store, KBS_SPAN_LIT("a/b/c"), 1, &key, NULL, &err), 0);
}

/* ---- the life of a key ---- */

static int change(struct kbs_store *store, struct kbs_key *key, struct kbs_error *err)
{
    struct kbs_store_row row = {.key = key, .request = KBS_SPAN_LIT("the administrator's")};

    return commit_rows(store, &row, 1, err);
}

static void test_states(void **state)
{
    struct fixture *f = *state;
    struct kbs_key one = new_key("a/b/c", 1);
    struct kbs_key two = new_key("a/b/c", 2);
    struct kbs_key got;
    struct kbs_buf request = KBS_BUF(64);
    struct kbs_error err = KBS_ERROR_NONE;
    int64_t due = 1;

    assert_int_equal(key_insert(f->store, &one, KBS_SPAN_EMPTY, &err), 0);
    assert_int_equal(key_insert(f->store, &two, KBS_SPAN_EMPTY, &err), 0);
    assert_int_equal(kbs_store_key_next_due(f->store, &due, &err), 0);
    assert_int_equal(due, 0);
    two.state = KBS_KEY_STATE_PENDING;
    two.destroy_at_s = NOW + 10;
    assert_int_equal(change(f->store, &two, &err), 0);
    assert_int_equal(kbs_store_key_get(f->store, KBS_SPAN_LIT("a/b/c"), 0, &got, NULL, &err), 0);
    assert_int_equal(got.version, 2); /* pending is still the latest */
    assert_int_equal(got.state, KBS_KEY_STATE_PENDING);
    assert_int_equal(kbs_store_key_next_due(f->store, &due, &err), 0);
    assert_int_equal(due, NOW + 10);
    assert_int_equal(kbs_store_key_due(f->store, NOW + 9, 0, &got, NULL, NULL, &err), -1);
    assert_int_equal(err.category, KBS_MISSING);
    assert_int_equal(kbs_store_key_due(f->store, NOW + 10, 0, &got, NULL, &request, &err), 0);
    assert_string_equal(kbs_buf_cstr(&request), "the administrator's");
    assert_memory_equal(got.request, two.request, sizeof(got.request));

    two.state = KBS_KEY_STATE_DESTROYED;
    assert_int_equal(change(f->store, &two, &err), 0);
    assert_int_equal(kbs_store_key_get(f->store, KBS_SPAN_LIT("a/b/c"), 0, &got, NULL, &err), 0);
    assert_int_equal(got.version, 1); /* the highest that is not destroyed */
    assert_int_equal(kbs_store_key_newest(f->store, KBS_SPAN_LIT("a/b/c"), &got, NULL, &err), 0);
    assert_int_equal(got.version, 2);
    assert_int_equal(kbs_store_key_next_due(f->store, &due, &err), 0);
    assert_int_equal(due, 0);

    got = new_key("a/b/c", 3); /* not there */
    assert_int_equal(change(f->store, &got, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    two.kcv[0] ^= 1; /* immutable */
    assert_int_equal(change(f->store, &two, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    kbs_buf_deinit(&request);
}

static void test_rows_out_of_order(void **state)
{
    struct fixture *f = *state;
    struct kbs_key keys[] = {new_key("b/b/b", 1), new_key("a/a/a", 1)};
    struct kbs_store_row rows[] = {{.key = &keys[0], .fresh = true},
                                   {.key = &keys[1], .fresh = true}};
    const struct kbs_store_mutation m = {.rows = rows, .row_count = 2};
    uint8_t now[KBS_SHA256_BYTES];
    uint8_t after[KBS_SHA256_BYTES];
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_store_manifest(f->store, &m, now, after, &err), -1);
    assert_int_equal(err.category, KBS_INTERNAL);
}

static void test_half_a_mutation(void **state)
{
    struct fixture *f = *state;
    struct kbs_key there = new_key("b/b/b", 1);
    struct kbs_key fresh = new_key("a/a/a", 1);
    struct kbs_key again = new_key("b/b/b", 1);
    struct kbs_store_row rows[] = {{.key = &fresh, .fresh = true}, {.key = &again, .fresh = true}};
    struct kbs_key got;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(key_insert(f->store, &there, KBS_SPAN_EMPTY, &err), 0);
    assert_int_equal(commit_rows(f->store, rows, 2, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_int_equal(kbs_store_key_get(f->store, KBS_SPAN_LIT("a/a/a"), 0, &got, NULL, &err), -1);
    assert_int_equal(err.category, KBS_MISSING); /* none of it */
}

struct wrap_counts {
    uint64_t of[4];
};

static void wrap_count(void *ctx, uint32_t version, uint64_t keys)
{
    struct wrap_counts *c = ctx;

    assert_in_range(version, 1, 3);
    c->of[version] = keys;
}

static void test_wrapped(void **state)
{
    struct fixture *f = *state;
    struct kbs_key keys[] = {wrapped_key("a/a/a", 2), wrapped_key("a/a/b", 1),
                             wrapped_key("a/a/c", 3), new_key("a/a/d", 1)};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_key got;
    struct wrap_counts c = {.of = {0}};
    char seen[64] = "";

    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(key_insert(f->store, &keys[i], KBS_SPAN_EMPTY, &err), 0);
    }
    assert_int_equal(kbs_store_key_get(f->store, KBS_SPAN_LIT("a/a/a"), 0, &got, NULL, &err), 0);
    assert_true(kbs_span_equal(kbs_key_blob(&got), kbs_key_blob(&keys[0])));
    assert_int_equal(kbs_store_key_wrapped(f->store, &(struct kbs_store_below){3, 0, 10},
                                           count_each, seen, &err),
                     0);
    assert_string_equal(seen, "a/a/b:1 a/a/a:1 ");
    assert_int_equal(
        kbs_store_key_wrapped(f->store, &(struct kbs_store_below){3, 0, 1}, count_each, seen, &err),
        0);
    assert_string_equal(seen, "a/a/b:1 a/a/a:1 a/a/b:1 ");
    seen[0] = '\0';
    assert_int_equal(kbs_store_key_wrapped(f->store, &(struct kbs_store_below){3, 1, 10},
                                           count_each, seen, &err),
                     0);
    assert_string_equal(seen, "a/a/a:1 ");
    assert_int_equal(kbs_store_key_wrap_count(f->store, wrap_count, &c, &err), 0);
    assert_int_equal(c.of[1], 1);
    assert_int_equal(c.of[2], 1);
    assert_int_equal(c.of[3], 1);
    keys[1].state = KBS_KEY_STATE_DESTROYED;
    keys[1].blob_len = 0;
    assert_int_equal(change(f->store, &keys[1], &err), 0);
    c = (struct wrap_counts){.of = {0}};
    assert_int_equal(kbs_store_key_wrap_count(f->store, wrap_count, &c, &err), 0);
    assert_int_equal(c.of[1], 0);
}

/* How often bytes stand in a file. */
static size_t count_in_file(const char *path, const void *p, size_t n)
{
    FILE *file = fopen(path, "re");
    uint8_t *all = malloc(8u << 20);
    size_t len = 0;
    size_t found = 0;

    assert_non_null(all);
    if (file != NULL) {
        len = fread(all, 1, 8u << 20, file);
        (void)fclose(file);
    }
    for (const uint8_t *at = all; (at = memmem(at, len - (size_t)(at - all), p, n)) != NULL; at++) {
        found++;
    }
    free(all);
    return found;
}

/* A blob that was erased is in neither of the store's files. */
static void test_erased(void **state)
{
    struct fixture *f = *state;
    struct kbs_key key = wrapped_key("a/a/a", 1);
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t blob[40];
    char wal[160];

    (void)snprintf(wal, sizeof(wal), "%s-wal", f->path);
    memcpy(blob, key.blob, sizeof(blob));
    assert_int_equal(key_insert(f->store, &key, KBS_SPAN_EMPTY, &err), 0);
    assert_true(
        count_in_file(f->path, blob, sizeof(blob)) + count_in_file(wal, blob, sizeof(blob)) > 0);
    key.state = KBS_KEY_STATE_DESTROYED;
    key.blob_len = 0;
    assert_int_equal(change(f->store, &key, &err), 0);
    assert_int_equal(count_in_file(f->path, blob, sizeof(blob)), 0);
    assert_int_equal(count_in_file(wal, blob, sizeof(blob)), 0);
}

static void test_secrets_are_counted(void **state)
{
    struct fixture *f = *state;
    struct kbs_key secret = new_secret("a/b/c", 1);
    struct kbs_key key = new_key("a/b/c", 1); /* the same name, in its own table */
    struct kbs_store_row rows[] = {
        {.key = &secret, .sealed = KBS_SPAN_LIT("sealed"), .fresh = true},
        {.key = &key, .fresh = true}};
    uint8_t now[KBS_SHA256_BYTES];
    struct kbs_store_epoch epoch;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(commit_rows(f->store, rows, 2, &err), 0);
    secret.state = KBS_KEY_STATE_DESTROYED;
    assert_int_equal(change(f->store, &secret, &err), 0);
    assert_int_equal(kbs_store_epoch_get(f->store, &epoch, &err), 0);
    tamper(f->path, "DELETE FROM secret");
    assert_int_equal(kbs_store_manifest(f->store, NULL, now, NULL, &err), 0);
    assert_memory_not_equal(now, epoch.manifest, sizeof(now));
}

/* ---- documents ---- */

static struct kbs_document new_document(enum kbs_document_kind kind, const char *name,
                                        uint32_t version)
{
    struct kbs_document d = {.kind = kind, .version = version, .created_s = NOW};

    assert_true(kbs_span_to_cstr(kbs_span_str(name), d.name, sizeof(d.name)));
    kbs_random(d.signature, sizeof(d.signature));
    return d;
}

static int commit_documents(struct kbs_store *store, struct kbs_store_document *documents,
                            size_t count, struct kbs_error *err)
{
    struct kbs_store_mutation m = {.documents = documents, .document_count = count};

    kbs_store_documents_sort(documents, count);
    for (size_t i = 0; i < count; i++) {
        kbs_sha256(documents[i].request, documents[i].document->request);
    }
    return commit_mutation(store, &m, err);
}

static int document_add(struct kbs_store *store, struct kbs_document *document, const char *text,
                        struct kbs_error *err)
{
    struct kbs_store_document d = {
        .document = document, .text = kbs_span_str(text), .request = KBS_SPAN_LIT("JWS")};

    return commit_documents(store, &d, 1, err);
}

static void test_documents(void **state)
{
    struct fixture *f = *state;
    struct kbs_document one = new_document(KBS_DOCUMENT_REFERENCE_VALUE, "a/b", 1);
    struct kbs_document two = new_document(KBS_DOCUMENT_REFERENCE_VALUE, "a/b", 2);
    struct kbs_document other = new_document(KBS_DOCUMENT_ATTESTATION_POLICY, "ab", 1);
    struct kbs_document got;
    struct kbs_buf text = KBS_BUF(64);
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t rows = 0;
    uint64_t bytes = 0;
    uint32_t oldest = 0;

    assert_int_equal(kbs_store_document_space(f->store, &rows, &bytes, &err), 0);
    assert_int_equal(rows + bytes, 0);
    assert_int_equal(document_add(f->store, &one, "one", &err), 0);
    assert_int_equal(document_add(f->store, &other, "other", &err), 0);
    assert_int_equal(document_add(f->store, &two, "\xc3\xa9", &err), 0);
    assert_int_equal(
        kbs_store_document_newest(f->store, two.kind, KBS_SPAN_LIT("a/b"), &got, &text, &err), 0);
    assert_memory_equal(&got, &two, sizeof(got));
    assert_true(kbs_span_equal_str(kbs_buf_span(&text), "\xc3\xa9"));
    assert_int_equal(
        kbs_store_document_versions(f->store, two.kind, KBS_SPAN_LIT("a/b"), &rows, &oldest, &err),
        0);
    assert_int_equal(rows, 2);
    assert_int_equal(oldest, 1);
    assert_int_equal(kbs_store_document_space(f->store, &rows, &bytes, &err), 0);
    assert_int_equal(rows, 3);
    assert_int_equal(bytes, 10); /* bytes, not characters */
    assert_int_equal(kbs_store_document_newest(f->store, KBS_DOCUMENT_RESOURCE_POLICY,
                                               KBS_SPAN_LIT("a/b"), &got, NULL, &err),
                     -1);
    assert_int_equal(err.category, KBS_MISSING);
    assert_int_equal(document_add(f->store, &two, "again", &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    kbs_buf_deinit(&text);
}

static int document_name(void *ctx, const struct kbs_document *document, struct kbs_span text,
                          struct kbs_span request, struct kbs_error *err)
{
    (void)err;
    assert_true(kbs_span_equal_str(request, "JWS"));
    kbs_buf_printf(ctx, "%s/%u=%.*s ", document->name, (unsigned int)document->version,
                   (int)text.len, (const char *)text.p);
    return 0;
}

/* The newest of each, in the order of names; all versions of one; an approval has room of its own. */
static void test_document_lists(void **state)
{
    static const struct {
        const char *name;
        uint32_t version;
        const char *text;
    } there[] = {{"b", 1, "b1"}, {"a/c", 1, "ac1"}, {"b", 2, "b2"}, {"a", 1, ""}, {"b", 3, "b3"}};
    const enum kbs_document_kind kind = KBS_DOCUMENT_RESOURCE_POLICY;
    struct fixture *f = *state;
    struct kbs_document waits = new_document(KBS_DOCUMENT_APPROVAL, "00", 1);
    struct kbs_buf found = KBS_BUF(256);
    struct kbs_buf text = KBS_BUF(64);
    struct kbs_document got;
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t rows = 0;
    uint64_t bytes = 0;

    for (size_t i = 0; i < sizeof(there) / sizeof(there[0]); i++) {
        struct kbs_document d = new_document(kind, there[i].name, there[i].version);

        assert_int_equal(document_add(f->store, &d, there[i].text, &err), 0);
    }
    assert_int_equal(document_add(f->store, &waits, "waits", &err), 0);
    assert_int_equal(
        kbs_store_document_list(f->store, kind, KBS_SPAN_EMPTY, 2, document_name, &found, &err), 0);
    assert_string_equal(kbs_buf_cstr(&found), "a/1= a/c/1=ac1 ");
    kbs_buf_clear(&found);
    assert_int_equal(kbs_store_document_list(f->store, kind, KBS_SPAN_LIT("a/c"), 9, document_name,
                                             &found, &err),
                     0);
    assert_string_equal(kbs_buf_cstr(&found), "b/3=b3 ");
    kbs_buf_clear(&found);
    assert_int_equal(
        kbs_store_document_history(f->store, kind, KBS_SPAN_LIT("b"), document_name, &found, &err),
        0);
    assert_string_equal(kbs_buf_cstr(&found), "b/3=b3 b/2=b2 b/1=b1 ");
    assert_int_equal(
        kbs_store_document_version(f->store, kind, KBS_SPAN_LIT("b"), 2, &got, &text, &err), 0);
    assert_true(kbs_span_equal_str(kbs_buf_span(&text), "b2"));
    assert_int_equal(
        kbs_store_document_version(f->store, kind, KBS_SPAN_LIT("b"), 4, &got, &text, &err), -1);
    assert_int_equal(err.category, KBS_MISSING);
    assert_int_equal(kbs_store_document_space(f->store, &rows, &bytes, &err), 0);
    assert_int_equal(rows, 5);
    assert_int_equal(bytes, 9);
    kbs_buf_deinit(&found);
    kbs_buf_deinit(&text);
}

/* The step that lets aliases in takes every document along, and the manifest is what it was. */
static void test_migrate_documents(void **state)
{
    struct fixture *f = *state;
    struct kbs_document one = new_document(KBS_DOCUMENT_RESOURCE_POLICY, "p", 1);
    struct kbs_document two = new_document(KBS_DOCUMENT_REFERENCE_VALUE, "a/b", 7);
    struct kbs_store_epoch epoch;
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t now[KBS_SHA256_BYTES];

    assert_int_equal(document_add(f->store, &one, "one", &err), 0);
    assert_int_equal(document_add(f->store, &two, "two", &err), 0);
    f->store = kbs_store_close(f->store);
    tamper(f->path, "DROP TABLE request_nonce; DROP INDEX session_tee_key; DROP TABLE provision; DROP TABLE register;"
                    "UPDATE meta SET value = 4 WHERE name = 'schema'");
    assert_int_equal(kbs_store_migrate(f->path, &err), 0);
    assert_int_equal(kbs_store_open(f->path, &f->store, &err), 0);
    assert_int_equal(kbs_store_epoch_get(f->store, &epoch, &err), 0);
    assert_int_equal(kbs_store_manifest(f->store, NULL, now, NULL, &err), 0);
    assert_memory_equal(now, epoch.manifest, sizeof(now));
    one = new_document(KBS_DOCUMENT_ALIAS, "a/b/c", 1);
    assert_int_equal(document_add(f->store, &one, "leads", &err), 0);
}

/* One is added and another dropped, in one mutation; what is not there cannot be dropped. */
static void test_document_dropped(void **state)
{
    struct fixture *f = *state;
    struct kbs_document one = new_document(KBS_DOCUMENT_RESOURCE_POLICY, "p", 1);
    struct kbs_document two = new_document(KBS_DOCUMENT_RESOURCE_POLICY, "p", 2);
    struct kbs_store_document both[] = {{.document = &two, .text = KBS_SPAN_LIT("two")},
                                        {.document = &one, .dropped = true}};
    struct kbs_store_document gone = {.document = &one, .dropped = true};
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t rows = 0;
    uint32_t oldest = 0;

    assert_int_equal(document_add(f->store, &one, "one", &err), 0);
    assert_int_equal(commit_documents(f->store, both, 2, &err), 0);
    assert_int_equal(
        kbs_store_document_versions(f->store, one.kind, KBS_SPAN_LIT("p"), &rows, &oldest, &err),
        0);
    assert_int_equal(rows, 1);
    assert_int_equal(oldest, 2);
    assert_int_equal(commit_documents(f->store, &gone, 1, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
}

/* Whatever is done to the rows behind the store's back, the manifest is another one. */
static void test_documents_are_counted(void **state)
{
    static const char *const edits[] = {
        "UPDATE document SET text = 'x'",
        "UPDATE document SET name = 'x'",
        "UPDATE document SET kind = 2",
        "UPDATE document SET version = 9",
        "UPDATE document SET created_s = 9",
        "UPDATE document SET epoch = 0",
        "UPDATE document SET request = 'x'",
        "DELETE FROM document",
        "INSERT INTO document SELECT kind, 'x', version, created_s, epoch, request, signature, text"
        " FROM document",
    };
    struct fixture *f = *state;
    struct kbs_document one = new_document(KBS_DOCUMENT_RESOURCE_POLICY, "p", 1);
    struct kbs_store_epoch epoch;
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t now[KBS_SHA256_BYTES];

    assert_int_equal(document_add(f->store, &one, "one", &err), 0);
    assert_int_equal(kbs_store_epoch_get(f->store, &epoch, &err), 0);
    tamper(f->path, "CREATE TABLE saved AS SELECT * FROM document");
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        tamper(f->path, edits[i]);
        assert_int_equal(kbs_store_manifest(f->store, NULL, now, NULL, &err), 0);
        assert_memory_not_equal(now, epoch.manifest, sizeof(now));
        tamper(f->path, "DELETE FROM document");
        tamper(f->path, "INSERT INTO document SELECT * FROM saved");
    }
    assert_int_equal(kbs_store_manifest(f->store, NULL, now, NULL, &err), 0);
    assert_memory_equal(now, epoch.manifest, sizeof(now));
}

static void test_documents_out_of_order(void **state)
{
    struct fixture *f = *state;
    struct kbs_document a = new_document(KBS_DOCUMENT_RESOURCE_POLICY, "a", 1);
    struct kbs_document b = new_document(KBS_DOCUMENT_RESOURCE_POLICY, "b", 1);
    const struct kbs_store_document wrong[] = {{.document = &b}, {.document = &a}};
    const struct kbs_store_mutation m = {.documents = wrong, .document_count = 2};
    uint8_t now[KBS_SHA256_BYTES];
    uint8_t after[KBS_SHA256_BYTES];
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_store_manifest(f->store, &m, now, after, &err), -1);
    assert_int_equal(err.category, KBS_INTERNAL);
}

/* Not a test of speed: prints what a mutation's walk costs with many keys. */
static void test_many_keys(void **state)
{
    enum {
        MANY = 10000,
        BATCH = 100
    };
    struct fixture *f = *state;
    struct kbs_key *keys = calloc(MANY, sizeof(*keys));
    struct kbs_store_row *rows = calloc(MANY, sizeof(*rows));
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t start = 0;
    char path[32];

    assert_non_null(keys);
    assert_non_null(rows);
    for (size_t i = 0; i < MANY; i++) {
        (void)snprintf(path, sizeof(path), "many/keys/%zu", i);
        keys[i] = wrapped_key(path, 1);
        rows[i] = (struct kbs_store_row){
            .key = &keys[i], .policy = KBS_SPAN_LIT("{\"p\":1}"), .fresh = true};
    }
    assert_int_equal(commit_rows(f->store, rows, MANY, &err), 0);
    for (size_t i = 0; i < MANY; i++) {
        rows[i].fresh = false;
    }
    start = kbs_clock_mono_ns();
    assert_int_equal(commit_rows(f->store, rows + 4000, BATCH, &err), 0);
    print_message("%d of %d keys changed, chain walked twice: %u ms\n", BATCH, MANY,
                  (unsigned int)((kbs_clock_mono_ns() - start) / KBS_NS_PER_MS));
    free(keys);
    free(rows);
}

/* ---- from schema 2 ---- */

#define SCHEMA_2                                                                               \
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;" \
    "INSERT INTO meta (name, value) VALUES ('schema', 2), ('sessions', 1);"                    \
    "PRAGMA application_id = 1262637896;"                                                      \
    "CREATE TABLE session (cookie_hash BLOB, expires_s INTEGER) STRICT;"                       \
    "INSERT INTO session VALUES (x'00', 5);"                                                   \
    "CREATE TABLE key (id BLOB NOT NULL, version INTEGER NOT NULL, path TEXT NOT NULL,"        \
    " purpose INTEGER NOT NULL, provenance INTEGER NOT NULL, floor INTEGER NOT NULL,"          \
    " bytes INTEGER NOT NULL, kcv BLOB NOT NULL, created_s INTEGER NOT NULL,"                  \
    " policy TEXT NOT NULL, epoch INTEGER NOT NULL DEFAULT 0,"                                 \
    " request TEXT NOT NULL DEFAULT '', signature BLOB NOT NULL DEFAULT x'',"                  \
    " PRIMARY KEY (path, version), UNIQUE (id, version)) STRICT;"                              \
    "INSERT INTO key VALUES (x'000102030405060708090a0b0c0d0e0f', 1, 'a/b/c', 1, 1, 2, 32,"    \
    " x'01020304', 1700000000, '{}', 1, 'JWS', zeroblob(64));"                                 \
    "CREATE TABLE admin (thumbprint TEXT PRIMARY KEY, sequence INTEGER NOT NULL) STRICT;"      \
    "CREATE TABLE epoch (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL,"     \
    " manifest BLOB NOT NULL, signature BLOB NOT NULL) STRICT;"                                \
    "INSERT INTO epoch VALUES (1, 1, zeroblob(32), x'');"

/* A row from before there were cards keeps the bytes that it was signed over. */
static void test_migrate_cardless(void **state)
{
    /* layout 1, "key", "a/b/c", version 1, epoch 1, id, 1, 1, 2, 32, kcv, created, SHA-256("JWS"),
     * "{}" */
    static const uint8_t head[] = {
        1,  0, 0, 0, 3, 'k', 'e', 'y', 0, 0, 0, 5, 'a', '/', 'b', '/', 'c',  0,    0,    0,  1,  0,
        0,  0, 0, 0, 0, 0,   1,   0,   1, 2, 3, 4, 5,   6,   7,   8,   9,    10,   11,   12, 13, 14,
        15, 1, 1, 2, 0, 0,   0,   32,  1, 2, 3, 4, 0,   0,   0,   0,   0x65, 0x53, 0xf1, 0};
    struct fixture *f = *state;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf expected = KBS_BUF(1024);
    struct kbs_buf content = KBS_BUF(1024);
    uint8_t request[KBS_SHA256_BYTES];
    struct kbs_key got;
    char path[160];

    (void)snprintf(path, sizeof(path), "%s/old.db", f->dir);
    tamper(path, SCHEMA_2);
    assert_int_equal(kbs_store_migrate(path, &err), 0);
    f->store = kbs_store_close(f->store);
    assert_int_equal(kbs_store_open(path, &f->store, &err), 0);
    assert_int_equal(kbs_store_key_get(f->store, KBS_SPAN_LIT("a/b/c"), 0, &got, NULL, &err), 0);
    assert_false(got.has_card);
    assert_int_equal(got.state, KBS_KEY_STATE_DISABLED);
    assert_int_equal(got.card.floor, KBS_LOCALITY_TRANSPORT);
    assert_int_equal(got.card.bytes, 32);
    kbs_sha256(KBS_SPAN_LIT("JWS"), request);
    kbs_buf_put(&expected, head, sizeof(head));
    kbs_buf_put(&expected, request, sizeof(request));
    kbs_buf_put(&expected, "\0\0\0\2{}", 6);
    kbs_row_key_put(&content, &got, KBS_SPAN_LIT("{}"));
    assert_int_equal(content.len, expected.len);
    assert_memory_equal(content.p, expected.p, expected.len);
    const struct kbs_store_row row = {.key = &got};
    const struct kbs_store_mutation m = {
        .rows = &row, .row_count = 1, .from_epoch = 1, .epoch = {.epoch = 2}};
    assert_int_equal(kbs_store_commit(f->store, &m, &err), -1); /* and can only be rotated */
    kbs_buf_deinit(&expected);
    kbs_buf_deinit(&content);
}

/* Sessions begin again, and are counted from nothing. */
static void test_migrate_sessions(void **state)
{
    struct fixture *f = *state;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_session s;

    f->store = kbs_store_close(f->store);
    (void)snprintf(f->path, sizeof(f->path), "%s/old.db", f->dir);
    tamper(f->path, SCHEMA_2);
    assert_int_equal(kbs_store_migrate(f->path, &err), 0);
    assert_int_equal(kbs_store_open(f->path, &f->store, &err), 0);
    assert_int_equal(count_rows(f), 0);
    assert_int_equal(begin_one(f, 1, NOW, &s), KBS_OK);
    assert_int_equal(begin_one(f, 1, NOW, &s), KBS_LIMITED);
}

/* ---- what is kept for guests ---- */

static struct kbs_store_owner owner(uint8_t key, uint8_t guest)
{
    struct kbs_store_owner o = {.key_id = {key}, .identity = {4, guest}};

    return o;
}

/* A guest's first blob stays his; the others have room as long as there is some, key by key. */
static void test_provision(void **state)
{
    struct fixture *f = *state;
    struct kbs_store_provision row = {.version = 3, .created_s = NOW, .session = {7}, .mark = {8}};
    struct kbs_store_owner a = owner(1, 1);
    struct kbs_store_owner b = owner(1, 2);
    struct kbs_store_owner c = owner(1, 3);
    struct kbs_store_owner elsewhere = owner(2, 3);
    struct kbs_buf blob = KBS_BUF(64);
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t count = 0;

    assert_int_equal(kbs_store_provision_get(f->store, &a, &row, &blob, &err), -1);
    assert_int_equal(err.category, KBS_MISSING);
    assert_int_equal(kbs_store_provision_add(f->store, &a, &row, KBS_SPAN_LIT("blob a"), 2, &err),
                     0);
    assert_int_equal(kbs_store_provision_add(f->store, &b, &row, KBS_SPAN_LIT("blob b"), 2, &err),
                     0);
    assert_int_equal(kbs_store_provision_add(f->store, &c, &row, KBS_SPAN_LIT("blob c"), 2, &err),
                     -1);
    assert_int_equal(err.category, KBS_LIMITED);
    assert_int_equal(kbs_store_provision_add(f->store, &a, &row, KBS_SPAN_LIT("again"), 2, &err),
                     -1);
    assert_int_equal(err.category, KBS_CONFLICT); /* also where there is no room */
    assert_int_equal(
        kbs_store_provision_add(f->store, &elsewhere, &row, KBS_SPAN_LIT("other"), 1, &err), 0);
    assert_int_equal(kbs_store_provision_count(f->store, &c, &count, &err), 0);
    assert_int_equal(count, 2);

    row = (struct kbs_store_provision){.version = 0};
    assert_int_equal(kbs_store_provision_get(f->store, &a, &row, &blob, &err), 0);
    assert_true(kbs_span_equal_str(kbs_buf_span(&blob), "blob a"));
    assert_int_equal(row.version, 3);
    assert_int_equal(row.created_s, NOW);
    assert_int_equal(row.session[0], 7);
    assert_int_equal(row.mark[0], 8);
    kbs_buf_deinit(&blob);
}

/* A value is written over the one that it was made from, and over no other. */
static void test_register(void **state)
{
    struct fixture *f = *state;
    struct kbs_store_owner a = owner(1, 1);
    struct kbs_store_owner b = owner(1, 2);
    struct kbs_store_register first = {.value = 5, .digest = "x", .digest_len = 1, .mark = {1}};
    struct kbs_store_register second = {.value = 6, .mark = {2}};
    struct kbs_store_register back = {.value = 4, .mark = {3}};
    struct kbs_store_register got;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_store_register_get(f->store, &a, &got, &err), -1);
    assert_int_equal(err.category, KBS_MISSING);
    assert_int_equal(kbs_store_register_step(f->store, &a, &first, &second, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_int_equal(kbs_store_register_add(f->store, &a, &first, 1, &err), 0);
    assert_int_equal(kbs_store_register_add(f->store, &a, &second, 1, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_int_equal(kbs_store_register_add(f->store, &b, &first, 1, &err), -1);
    assert_int_equal(err.category, KBS_LIMITED);
    assert_int_equal(kbs_store_register_step(f->store, &a, &first, &second, &err), 0);
    assert_int_equal(kbs_store_register_step(f->store, &a, &first, &second, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_int_equal(kbs_store_register_step(f->store, &a, &second, &back, &err), -1);
    assert_int_equal(kbs_store_register_get(f->store, &a, &got, &err), 0);
    assert_int_equal(got.value, 6);
    assert_int_equal(got.digest_len, 0);
    assert_int_equal(got.mark[0], 2);
}

/* ---- administrators ---- */

static void test_admin_sequence(void **state)
{
    struct fixture *f = *state;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(kbs_store_admin_advance(f->store, "alice", 5, &err), 0);
    assert_int_equal(kbs_store_admin_advance(f->store, "alice", 5, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_int_equal(kbs_store_admin_advance(f->store, "alice", 4, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_int_equal(kbs_store_admin_advance(f->store, "bob", 4, &err), 0); /* each has his own */
    assert_int_equal(kbs_store_admin_advance(f->store, "alice", INT64_MAX, &err), 0);
    assert_int_equal(kbs_store_admin_advance(f->store, "alice", (uint64_t)INT64_MAX + 1, &err), -1);
    assert_int_equal(err.category, KBS_INPUT);

    f->store = kbs_store_close(f->store); /* survives a restart */
    assert_int_equal(kbs_store_open(f->path, &f->store, &err), 0);
    assert_int_equal(kbs_store_admin_advance(f->store, "bob", 4, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
}

/* A writer that holds the lock: our call waits no longer than its bound and says 503. */
static void test_busy_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct kbs_error err = KBS_ERROR_NONE;
    sqlite3 *other = NULL;

    assert_int_equal(sqlite3_open(f->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(kbs_store_admin_advance(f->store, "alice", 1, &err), -1);
    assert_int_equal(err.category, KBS_BUSY);
    assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    assert_int_equal(kbs_store_admin_advance(f->store, "alice", 1, &err), 0);
}

/* A nonce counts once, for its session, for its time; the oldest makes room. */
static void test_request_nonces(void **state)
{
    struct fixture *f = *state;
    struct kbs_error err = KBS_ERROR_NONE;
    const uint8_t one[16] = {1};
    const uint8_t two[16] = {2};
    uint8_t hash[KBS_SHA256_BYTES] = {0};

    assert_int_equal(kbs_store_request_nonce_add(f->store, one, hash, 100, 160, &err), 0);
    assert_int_equal(kbs_store_request_nonce_use(f->store, two, hash, 100, &err), -1);
    assert_int_equal(err.category, KBS_UNAUTHENTICATED);
    assert_int_equal(kbs_store_request_nonce_use(f->store, one, hash, 160, &err), -1);
    assert_int_equal(kbs_store_request_nonce_use(f->store, one, hash, 159, &err), 0);
    assert_int_equal(kbs_store_request_nonce_use(f->store, one, hash, 159, &err), -1);

    for (uint8_t i = 1; i <= KBS_LIMIT_REQUEST_NONCES + 1; i++) {
        hash[0] = i;
        assert_int_equal(kbs_store_request_nonce_add(f->store, one, hash, 100, 160, &err), 0);
    }
    hash[0] = 99;
    assert_int_equal(kbs_store_request_nonce_add(f->store, two, hash, 100, 160, &err), 0);
    hash[0] = 1;
    assert_int_equal(kbs_store_request_nonce_use(f->store, one, hash, 100, &err), -1);
    hash[0] = 2;
    assert_int_equal(kbs_store_request_nonce_use(f->store, one, hash, 100, &err), 0);
    hash[0] = 100;
    assert_int_equal(kbs_store_request_nonce_add(f->store, two, hash, 160, 220, &err), 0);
    assert_int_equal(count_of(f, "SELECT count(*) FROM request_nonce"),
                     1); /* all others have expired */
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_migrate_twice),
        CASE(test_migrate_killed),
        CASE(test_migrate_side_by_side),
        CASE(test_foreign_refused),
        CASE(test_session_round_trip),
        CASE(test_session_expiry),
        CASE(test_session_limit),
        CASE(test_session_limit_challenged),
        CASE(test_session_limit_and_expired),
        CASE(test_attest_race),
        CASE(test_key_insert_and_get),
        CASE(test_key_conflict),
        CASE(test_key_list),
        CASE(test_malformed_row),
        CASE(test_provision),
        CASE(test_register),
        CASE(test_admin_sequence),
        CASE(test_busy_is_bounded),
        CASE(test_states),
        CASE(test_rows_out_of_order),
        CASE(test_half_a_mutation),
        CASE(test_wrapped),
        CASE(test_erased),
        CASE(test_secrets_are_counted),
        CASE(test_documents),
        CASE(test_document_lists),
        CASE(test_migrate_documents),
        CASE(test_document_dropped),
        CASE(test_documents_are_counted),
        CASE(test_documents_out_of_order),
        CASE(test_many_keys),
        CASE(test_migrate_cardless),
        CASE(test_migrate_sessions),
        CASE(test_request_nonces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
