/*
 * The schema and its versions.
 *
 * The problem: an upgrade may be killed at any moment, may be started twice, and may be pointed at
 * a file that belongs to something else or to a newer kbs-hsm. The approach: the file says whose it
 * is (application_id, in its header) and meta says which schema it has; every step from one version
 * to the next, and the new version, are written in a single transaction, so that a crash leaves the
 * old schema or the new one. A file that is neither empty nor ours is refused before anything in it
 * is changed, and so is a newer schema.
 *
 * All tables are STRICT and carry CHECKs for what their readers rely on. meta.sessions counts the
 * rows of `session` by triggers, and meta.challenged those that have not attested: count(*) would
 * walk up to KBS_LIMIT_SESSIONS index entries at each challenge.
 */
#include "store/sql.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/io.h"

/* Step n makes schema n + 1 of schema n. Never edit a step that was released: append one. */
static const char *const schema_steps[KBS_STORE_SCHEMA] = {
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "INSERT INTO meta (name, value) VALUES ('schema', 0), ('sessions', 0);"

    "CREATE TABLE session ("
    " cookie_hash BLOB NOT NULL UNIQUE CHECK (length(cookie_hash) = 32),"
    " sid BLOB NOT NULL UNIQUE CHECK (length(sid) = 16),"
    " state INTEGER NOT NULL CHECK (state IN (1, 2)),"
    " tee INTEGER NOT NULL,"
    " hash TEXT NOT NULL,"
    " nonce TEXT NOT NULL,"
    " created_s INTEGER NOT NULL,"
    " expires_s INTEGER NOT NULL,"
    " binding INTEGER,"
    " attested_s INTEGER,"
    " tee_curve INTEGER,"
    " tee_point BLOB,"
    " report_digest BLOB,"
    " claims TEXT,"
    " CHECK (state = 1 OR (binding IS NOT NULL AND attested_s IS NOT NULL AND tee_curve IS NOT NULL"
    "  AND tee_point IS NOT NULL AND report_digest IS NOT NULL"
    "  AND claims IS NOT NULL))) STRICT;"
    "CREATE INDEX session_expires ON session (expires_s);"
    "CREATE TRIGGER session_added AFTER INSERT ON session BEGIN"
    " UPDATE meta SET value = value + 1 WHERE name = 'sessions'; END;"
    "CREATE TRIGGER session_removed AFTER DELETE ON session BEGIN"
    " UPDATE meta SET value = value - 1 WHERE name = 'sessions'; END;"

    "CREATE TABLE key ("
    " id BLOB NOT NULL CHECK (length(id) = 16),"
    " version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),"
    " path TEXT NOT NULL CHECK (length(path) BETWEEN 5 AND 255),"
    " purpose INTEGER NOT NULL,"
    " provenance INTEGER NOT NULL,"
    " floor INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL CHECK (bytes BETWEEN 16 AND 64),"
    " kcv BLOB NOT NULL CHECK (length(kcv) = 4),"
    " created_s INTEGER NOT NULL,"
    " policy TEXT NOT NULL,"
    " PRIMARY KEY (path, version),"
    " UNIQUE (id, version)) STRICT;"

    "CREATE TABLE admin ("
    " thumbprint TEXT PRIMARY KEY,"
    " sequence INTEGER NOT NULL CHECK (sequence >= 0)) STRICT, WITHOUT ROWID;",

    /* Rows that were made before they were signed have no signature and are never released. */
    "ALTER TABLE key ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE key ADD COLUMN request TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE key ADD COLUMN signature BLOB NOT NULL DEFAULT x'';"
    "CREATE TABLE epoch ("
    " one INTEGER PRIMARY KEY CHECK (one = 1),"
    " epoch INTEGER NOT NULL CHECK (epoch >= 0),"
    " manifest BLOB NOT NULL CHECK (length(manifest) = 32),"
    " signature BLOB NOT NULL) STRICT;"
    "INSERT INTO epoch (one, epoch, manifest, signature) VALUES (1, 0, zeroblob(32), x'');",

    /*
     * Key cards. What a card says (offsets: wire/card.h) has no column of its own; the five columns
     * at the end are those of rows without a card, which were signed over them. Such a row is never
     * released and so is shown as disabled. Blobs come last: what walks over all rows does not read
     * them. TEE keys may be RSA; sessions that are open begin again.
     */
    "CREATE TABLE key_3 ("
    " id BLOB NOT NULL CHECK (length(id) = 16),"
    " version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),"
    " path TEXT NOT NULL CHECK (length(path) BETWEEN 5 AND 255),"
    " state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 4),"
    " kcv_mac INTEGER NOT NULL,"
    " kcv BLOB NOT NULL CHECK (length(kcv) = 4),"
    " destroy_at_s INTEGER NOT NULL CHECK (destroy_at_s >= 0),"
    " policy TEXT NOT NULL,"
    " epoch INTEGER NOT NULL,"
    " request TEXT NOT NULL,"
    " signature BLOB NOT NULL,"
    " card BLOB CHECK (length(card) = 208),"
    " purpose INTEGER,"
    " provenance INTEGER,"
    " floor INTEGER,"
    " bytes INTEGER,"
    " created_s INTEGER,"
    " blob BLOB CHECK (length(blob) BETWEEN 1 AND 128),"
    " PRIMARY KEY (path, version),"
    " UNIQUE (id, version),"
    " CHECK (card IS NOT NULL OR (purpose IS NOT NULL AND provenance IS NOT NULL AND"
    "  floor IS NOT NULL AND bytes IS NOT NULL AND created_s IS NOT NULL))) STRICT;"
    "INSERT INTO key_3 SELECT id, version, path, 2, 1, kcv, 0, policy, epoch, request, signature,"
    " NULL, purpose, provenance, floor, bytes, created_s, NULL FROM key;"
    "DROP TABLE key;"
    "ALTER TABLE key_3 RENAME TO key;"
    "CREATE INDEX key_epoch ON key (epoch, path, version);"
    "CREATE INDEX key_wrapping ON key (substr(card, 37, 4))"
    " WHERE state <> 4 AND substr(card, 7, 1) = x'02';"
    "CREATE INDEX key_due ON key (destroy_at_s) WHERE state = 3;"
    /* A token object is one key's: two that share it would be destroyed together. */
    "CREATE UNIQUE INDEX key_object ON key (substr(card, 145, 32))"
    " WHERE state <> 4 AND substr(card, 7, 1) = x'01';"

    "CREATE TABLE secret ("
    " path TEXT NOT NULL CHECK (length(path) BETWEEN 5 AND 255),"
    " version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),"
    " state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 4),"
    " policy TEXT NOT NULL,"
    " epoch INTEGER NOT NULL,"
    " request TEXT NOT NULL,"
    " signature BLOB NOT NULL,"
    " card BLOB NOT NULL CHECK (length(card) = 208),"
    " sealed BLOB," /* NULL once it is destroyed */
    " PRIMARY KEY (path, version)) STRICT;"
    "CREATE INDEX secret_epoch ON secret (epoch, path, version);"

    "DROP TABLE session;"
    "UPDATE meta SET value = 0 WHERE name = 'sessions';"
    "CREATE TABLE session ("
    " cookie_hash BLOB NOT NULL UNIQUE CHECK (length(cookie_hash) = 32),"
    " sid BLOB NOT NULL UNIQUE CHECK (length(sid) = 16),"
    " state INTEGER NOT NULL CHECK (state IN (1, 2)),"
    " tee INTEGER NOT NULL,"
    " hash TEXT NOT NULL,"
    " nonce TEXT NOT NULL,"
    " created_s INTEGER NOT NULL,"
    " expires_s INTEGER NOT NULL,"
    " binding INTEGER,"
    " attested_s INTEGER,"
    " tee_key BLOB," /* kbs_tee_key_put() */
    " report_digest BLOB,"
    " claims TEXT,"
    " CHECK (state = 1 OR (binding IS NOT NULL AND attested_s IS NOT NULL AND tee_key IS NOT NULL"
    "  AND report_digest IS NOT NULL AND claims IS NOT NULL))) STRICT;"
    "CREATE INDEX session_expires ON session (expires_s);"
    "CREATE TRIGGER session_added AFTER INSERT ON session BEGIN"
    " UPDATE meta SET value = value + 1 WHERE name = 'sessions'; END;"
    "CREATE TRIGGER session_removed AFTER DELETE ON session BEGIN"
    " UPDATE meta SET value = value - 1 WHERE name = 'sessions'; END;",

    /* Documents. Their versions are added and, when they are too many, taken away; never changed. */
    "CREATE TABLE document ("
    " kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3),"
    " name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 255),"
    " version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),"
    " created_s INTEGER NOT NULL CHECK (created_s >= 0),"
    " epoch INTEGER NOT NULL,"
    " request TEXT NOT NULL,"
    " signature BLOB NOT NULL,"
    " text TEXT NOT NULL,"
    " PRIMARY KEY (kind, name, version)) STRICT;"
    "CREATE INDEX document_epoch ON document (epoch, kind, name, version);"

    /*
     * Sessions know their version of the protocol, and those that have not attested are counted.
     * Sessions that are open begin again.
     */
    "DROP TABLE session;"
    "UPDATE meta SET value = 0 WHERE name = 'sessions';"
    "INSERT INTO meta (name, value) VALUES ('challenged', 0);"
    "CREATE TABLE session ("
    " cookie_hash BLOB NOT NULL UNIQUE CHECK (length(cookie_hash) = 32),"
    " sid BLOB NOT NULL UNIQUE CHECK (length(sid) = 16),"
    " state INTEGER NOT NULL CHECK (state IN (1, 2)),"
    " version INTEGER NOT NULL,"
    " tee INTEGER NOT NULL,"
    " hash TEXT NOT NULL,"
    " nonce TEXT NOT NULL,"
    " created_s INTEGER NOT NULL,"
    " expires_s INTEGER NOT NULL,"
    " binding INTEGER,"
    " attested_s INTEGER,"
    " tee_key BLOB,"
    " report_digest BLOB,"
    " claims TEXT,"
    " CHECK (state = 1 OR (binding IS NOT NULL AND attested_s IS NOT NULL AND tee_key IS NOT NULL"
    "  AND report_digest IS NOT NULL AND claims IS NOT NULL))) STRICT;"
    "CREATE INDEX session_expires ON session (expires_s);"
    "CREATE TRIGGER session_added AFTER INSERT ON session BEGIN"
    " UPDATE meta SET value = value + 1 WHERE name = 'sessions';"
    " UPDATE meta SET value = value + (NEW.state = 1) WHERE name = 'challenged'; END;"
    "CREATE TRIGGER session_attested AFTER UPDATE OF state ON session BEGIN"
    " UPDATE meta SET value = value + (NEW.state = 1) - (OLD.state = 1)"
    " WHERE name = 'challenged'; END;"
    "CREATE TRIGGER session_removed AFTER DELETE ON session BEGIN"
    " UPDATE meta SET value = value - 1 WHERE name = 'sessions';"
    " UPDATE meta SET value = value - (OLD.state = 1) WHERE name = 'challenged'; END;",

    /* A key may have its public half where a wrapped one has its blob. */
    "CREATE TABLE key_5 ("
    " id BLOB NOT NULL CHECK (length(id) = 16),"
    " version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),"
    " path TEXT NOT NULL CHECK (length(path) BETWEEN 5 AND 255),"
    " state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 4),"
    " kcv_mac INTEGER NOT NULL,"
    " kcv BLOB NOT NULL CHECK (length(kcv) = 4),"
    " destroy_at_s INTEGER NOT NULL CHECK (destroy_at_s >= 0),"
    " policy TEXT NOT NULL,"
    " epoch INTEGER NOT NULL,"
    " request TEXT NOT NULL,"
    " signature BLOB NOT NULL,"
    " card BLOB CHECK (length(card) = 208),"
    " purpose INTEGER,"
    " provenance INTEGER,"
    " floor INTEGER,"
    " bytes INTEGER,"
    " created_s INTEGER,"
    " blob BLOB CHECK (length(blob) BETWEEN 1 AND 544),"
    " PRIMARY KEY (path, version),"
    " UNIQUE (id, version),"
    " CHECK (card IS NOT NULL OR (purpose IS NOT NULL AND provenance IS NOT NULL AND"
    "  floor IS NOT NULL AND bytes IS NOT NULL AND created_s IS NOT NULL))) STRICT;"
    "INSERT INTO key_5 SELECT id, version, path, state, kcv_mac, kcv, destroy_at_s, policy, epoch,"
    " request, signature, card, purpose, provenance, floor, bytes, created_s, blob FROM key;"
    "DROP TABLE key;"
    "ALTER TABLE key_5 RENAME TO key;"
    "CREATE INDEX key_epoch ON key (epoch, path, version);"
    "CREATE INDEX key_wrapping ON key (substr(card, 37, 4))"
    " WHERE state <> 4 AND substr(card, 7, 1) = x'02';"
    "CREATE INDEX key_due ON key (destroy_at_s) WHERE state = 3;"
    "CREATE UNIQUE INDEX key_object ON key (substr(card, 145, 32))"
    " WHERE state <> 4 AND substr(card, 7, 1) = x'01';"

    /* Passports may be bound to TEE keys that were seen in a handshake. */
    "CREATE INDEX session_tee_key ON session (tee_key) WHERE state = 2;"

    /* One more kind of document: requests that wait for approval. */
    "CREATE TABLE document_5 ("
    " kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 4),"
    " name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 255),"
    " version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),"
    " created_s INTEGER NOT NULL CHECK (created_s >= 0),"
    " epoch INTEGER NOT NULL,"
    " request TEXT NOT NULL,"
    " signature BLOB NOT NULL,"
    " text TEXT NOT NULL,"
    " PRIMARY KEY (kind, name, version)) STRICT;"
    "INSERT INTO document_5 SELECT kind, name, version, created_s, epoch, request, signature, text"
    " FROM document;"
    "DROP TABLE document;"
    "ALTER TABLE document_5 RENAME TO document;"
    "CREATE INDEX document_epoch ON document (epoch, kind, name, version);"

    /* What guest lanes keep for guests (keeps.c). The indexes of UNIQUE are what quotas count in. */
    "CREATE TABLE provision ("
    " key_id BLOB NOT NULL CHECK (length(key_id) = 16),"
    " identity BLOB NOT NULL CHECK (length(identity) = 33),"
    " version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),"
    " created_s INTEGER NOT NULL CHECK (created_s >= 0),"
    " session BLOB NOT NULL CHECK (length(session) = 16),"
    " blob TEXT NOT NULL CHECK (length(blob) BETWEEN 1 AND 2048),"
    " mark BLOB NOT NULL CHECK (length(mark) = 32),"
    " UNIQUE (key_id, identity)) STRICT;"
    "CREATE TABLE register ("
    " key_id BLOB NOT NULL CHECK (length(key_id) = 16),"
    " identity BLOB NOT NULL CHECK (length(identity) = 33),"
    " value INTEGER NOT NULL CHECK (value >= 0),"
    " digest BLOB NOT NULL CHECK (length(digest) <= 64),"
    " mark BLOB NOT NULL CHECK (length(mark) = 32),"
    " changed_s INTEGER NOT NULL CHECK (changed_s >= 0),"
    " UNIQUE (key_id, identity)) STRICT;",

    /* One more, aliases; from here on kinds are the program's to check. */
    "CREATE TABLE document_6 ("
    " kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 255),"
    " name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 255),"
    " version INTEGER NOT NULL CHECK (version BETWEEN 1 AND 4294967295),"
    " created_s INTEGER NOT NULL CHECK (created_s >= 0),"
    " epoch INTEGER NOT NULL,"
    " request TEXT NOT NULL,"
    " signature BLOB NOT NULL,"
    " text TEXT NOT NULL,"
    " PRIMARY KEY (kind, name, version)) STRICT;"
    "INSERT INTO document_6 SELECT kind, name, version, created_s, epoch, request, signature, text"
    " FROM document;"
    "DROP TABLE document;"
    "ALTER TABLE document_6 RENAME TO document;"
    "CREATE INDEX document_epoch ON document (epoch, kind, name, version);",

    /* Nonces of requests, each of one session and good for one of them; only their hashes. */
    "CREATE TABLE request_nonce ("
    " hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),"
    " sid BLOB NOT NULL CHECK (length(sid) = 16),"
    " expires_s INTEGER NOT NULL) STRICT;"
    "CREATE INDEX request_nonce_sid ON request_nonce (sid);"
    "CREATE INDEX request_nonce_expires ON request_nonce (expires_s);",
};

/* The file's schema: 0 for an empty file; KBS_INTERNAL for one that is not ours. */
static int schema_version(sqlite3 *db, int64_t *ret, struct kbs_error *err)
{
    int64_t application = 0;
    int64_t objects = 0;

    if (kbs_sql_integer(db, "PRAGMA application_id", "read the file's owner", &application, err) !=
            0 ||
        kbs_sql_integer(db, "SELECT count(*) FROM sqlite_schema", "read the schema", &objects,
                        err) != 0) {
        return -1;
    }
    if (application == 0 && objects == 0) {
        *ret = 0;
        return 0;
    }
    if (application != KBS_STORE_APPLICATION_ID) {
        return kbs_fail(err, KBS_INTERNAL, "store: the file is a database of something else");
    }
    return kbs_sql_integer(db, "SELECT value FROM meta WHERE name = 'schema'",
                           "read the schema version", ret, err);
}

static int schema_refuse_newer(int64_t version, struct kbs_error *err)
{
    if (version < 0 || version > KBS_STORE_SCHEMA) {
        return kbs_fail(err, KBS_INTERNAL,
                        "store: schema %lld is not one of this program's (it has %d)",
                        (long long)version, KBS_STORE_SCHEMA);
    }
    return 0;
}

int kbs_sql_check_schema(sqlite3 *db, struct kbs_error *err)
{
    int64_t version = 0;

    if (schema_version(db, &version, err) != 0 || schema_refuse_newer(version, err) != 0) {
        return -1;
    }
    if (version < KBS_STORE_SCHEMA) {
        return kbs_fail(err, KBS_INTERNAL,
                        "store: schema %lld is older than %d, start kbsd, which upgrades it",
                        (long long)version, KBS_STORE_SCHEMA);
    }
    return 0;
}

/* Inside a transaction: from whatever version there is to ours. */
static int schema_upgrade(sqlite3 *db, struct kbs_error *err)
{
    char text[160];
    int64_t version = 0;

    if (schema_version(db, &version, err) != 0 || schema_refuse_newer(version, err) != 0) {
        return -1;
    }
    for (int64_t i = version; i < KBS_STORE_SCHEMA; i++) {
        if (kbs_sql_exec(db, schema_steps[i], "upgrade the schema", err) != 0) {
            return -1;
        }
    }
    (void)snprintf(text, sizeof(text),
                   "UPDATE meta SET value = %d WHERE name = 'schema'; PRAGMA application_id = %d;",
                   KBS_STORE_SCHEMA, KBS_STORE_APPLICATION_ID);
    return kbs_sql_exec(db, text, "write the schema version", err);
}

static int schema_transaction(sqlite3 *db, struct kbs_error *err)
{
    if (kbs_sql_exec(db, "BEGIN IMMEDIATE", "begin the upgrade", err) != 0) {
        return -1;
    }
    if (schema_upgrade(db, err) != 0 ||
        kbs_sql_exec(db, "COMMIT", "commit the upgrade", err) != 0) {
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        return -1;
    }
    return 0;
}

/*
 * WAL is a property of the file and cannot be set inside a transaction; setting it twice is
 * nothing.
 */
static int schema_use_wal(sqlite3 *db, struct kbs_error *err)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(db, "PRAGMA journal_mode=WAL", -1, &statement, NULL);
    int result = 0;

    if (rc == SQLITE_OK) {
        rc = sqlite3_step(statement);
    }
    if (rc != SQLITE_ROW) {
        result = kbs_sql_fail(db, rc, "set journal_mode", err);
    } else if (sqlite3_stricmp((const char *)sqlite3_column_text(statement, 0), "wal") != 0) {
        result = kbs_fail(err, KBS_INTERNAL, "store: the file system cannot hold a WAL database");
    }
    (void)sqlite3_finalize(statement);
    return result;
}

/*
 * One migration at a time: the change to WAL does not go through the busy handler, and the last
 * one to close removes the WAL file under the next. The lock is on a descriptor of our own,
 * which SQLite's locks (fcntl) do not see, and is held until SQLite has closed the file.
 */
static int schema_lock(int fd, struct kbs_error *err)
{
    const struct timespec step = {.tv_nsec = KBS_LIMIT_STORE_BUSY_STEP_NS};
    uint64_t deadline_ns = kbs_deadline_in_ms(KBS_LIMIT_STORE_BUSY_MS);

    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) {
            return kbs_fail_errno(err, KBS_INTERNAL, "store: the file cannot be locked");
        }
        if (kbs_clock_mono_ns() >= deadline_ns) {
            return kbs_fail(err, KBS_BUSY, "store: another migration is running");
        }
        (void)nanosleep(&step, NULL);
    }
    return 0;
}

int kbs_store_migrate(const char *path, struct kbs_error *err)
{
    struct kbs_sql_connection c = {.db = NULL};
    int64_t version = 0;
    int result = -1;
    /* Made here, not by SQLite, so that from its first moment nobody else may read it; -wal and
     * -shm follow its mode. */
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, S_IRUSR | S_IWUSR);

    if (fd < 0) {
        return kbs_fail_errno(err, KBS_INTERNAL, "store: the file cannot be opened for writing");
    }
    if (schema_lock(fd, err) == 0 && kbs_sql_open(&c, path, "FULL", err) == 0 &&
        schema_version(c.db, &version, err) == 0 && schema_refuse_newer(version, err) == 0 &&
        schema_use_wal(c.db, err) == 0) {
        result = schema_transaction(c.db, err);
    }
    kbs_sql_close(&c);
    kbs_io_close(&fd);
    return result;
}
