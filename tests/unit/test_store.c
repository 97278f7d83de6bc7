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

#include "base/random.h"
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
    s->tee_key.curve = KBS_CURVE_P256;
    for (size_t i = 0; i < 32; i++) {
        unsigned int x = 0;
        unsigned int y = 0;

        assert_int_equal(sscanf(gx + 2 * i, "%2x", &x), 1);
        assert_int_equal(sscanf(gy + 2 * i, "%2x", &y), 1);
        s->tee_key.x[i] = (uint8_t)x;
        s->tee_key.y[i] = (uint8_t)y;
    }
    s->report_digest.len = 48;
    memset(s->report_digest.p, 0x5a, 48);
    kbs_buf_clear(&s->claims);
    kbs_buf_put_str(&s->claims, "{\"iss\":\"x\"}");
}

static struct kbs_key new_key(const char *path, uint32_t version)
{
    struct kbs_key k = {.version = version,
                        .purpose = KBS_PURPOSE_RELEASE,
                        .provenance = KBS_PROVENANCE_GENERATED,
                        .floor = KBS_LOCALITY_TRANSPORT,
                        .bytes = 32,
                        .kcv = {1, 2, 3, 4},
                        .created_s = NOW};

    kbs_random(k.id, sizeof(k.id));
    assert_true(kbs_span_to_cstr(kbs_span_str(path), k.path, sizeof(k.path)));
    return k;
}

/* ---- schema ---- */

/* A mutation of one row, with the next epoch. */
static int key_insert(struct kbs_store *store, const struct kbs_key *key, struct kbs_span policy,
                      struct kbs_error *err)
{
    struct kbs_store_mutation m = {.key = key, .policy = policy};

    assert_int_equal(kbs_store_epoch_get(store, &m.epoch, err), 0);
    m.from_epoch = m.epoch.epoch++;
    return kbs_store_commit(store, &m, err);
}

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

    assert_int_equal(kbs_store_session_create(f->store, &s, &err), 0);
    assert_int_equal(kbs_store_session_by_cookie(f->store, s.cookie_hash, NOW + 1, &got, &err), 0);
    assert_int_equal(got.state, KBS_SESSION_CHALLENGED);
    assert_string_equal(got.nonce, s.nonce);
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
    assert_true(kbs_ec_public_equal(&got.tee_key, &s.tee_key));
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

    assert_int_equal(kbs_store_session_create(f->store, &s, &err), 0);
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
        " INSERT INTO session (cookie_hash, sid, state, tee, hash, nonce, created_s, expires_s)"
        " SELECT randomblob(32), randomblob(16), 1, 1, 'sha384', 'x', 0,"
        " %lld + (i %% 2) * 1000 FROM n",
        KBS_LIMIT_SESSIONS, (long long)(NOW + 20));
    tamper(f->path, sql);
    assert_int_equal(kbs_store_session_create(f->store, &s, &err), -1);
    assert_int_equal(err.category, KBS_LIMITED);
    s.created_s = NOW + 20;
    assert_int_equal(kbs_store_session_create(f->store, &s, &err), 0);
    kbs_session_deinit(&s);
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

        assert_int_equal(kbs_store_session_create(f->store, &s, &err), 0);
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
    assert_int_equal(got.purpose, one.purpose);
    assert_int_equal(got.provenance, one.provenance);
    assert_int_equal(got.floor, one.floor);
    assert_int_equal(got.bytes, one.bytes);
    assert_int_equal(got.created_s, one.created_s);
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

static void count_each(void *ctx, const struct kbs_key *key)
{
    char *seen = ctx;

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
    assert_int_equal(kbs_store_key_list(f->store, count_each, seen, &err), 0);
    assert_string_equal(seen, "a/a/a:2 a/a/a:10 b/b/b:1 ");
}

static void test_malformed_row(void **state)
{
    struct fixture *f = *state;
    struct kbs_key key = new_key("a/b/c", 1);
    struct kbs_error err = KBS_ERROR_NONE;
    char seen[64] = "";

    assert_int_equal(key_insert(f->store, &key, KBS_SPAN_EMPTY, &err), 0);
    tamper(f->path, "UPDATE key SET purpose = 77");
    assert_int_equal(kbs_store_key_get(f->store, KBS_SPAN_LIT("a/b/c"), 0, &key, NULL, &err), -1);
    assert_int_equal(err.category, KBS_INTERNAL);
    assert_int_equal(kbs_store_key_list(f->store, count_each, seen, &err), -1);
    assert_int_equal(err.category, KBS_INTERNAL);
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

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_migrate_twice),   CASE(test_migrate_killed),     CASE(test_migrate_side_by_side),
        CASE(test_foreign_refused), CASE(test_session_round_trip), CASE(test_session_expiry),
        CASE(test_session_limit),   CASE(test_attest_race),        CASE(test_key_insert_and_get),
        CASE(test_key_conflict),    CASE(test_key_list),           CASE(test_malformed_row),
        CASE(test_admin_sequence),  CASE(test_busy_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
