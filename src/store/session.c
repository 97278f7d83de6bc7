/*
 * Sessions: one row per RCAR handshake.
 *
 * The problem: several judges may work on one session at the same time, and a nonce must attest
 * once. The approach: the step from challenged to attested is one conditional UPDATE, and SQLite's
 * write lock orders the judges; whoever changes no row has lost. Rows are found by the hash of the
 * cookie or by the id that a signed token names, and neither cookie nor token is in them, so that
 * who reads the file cannot act as a guest. A session that has expired is not found, whether or not
 * its row is gone yet.
 */
#include "store/sql.h"

#define EXPIRE_ROUNDS 16 /* of a batch each, in one request */

void kbs_session_deinit(struct kbs_session *s)
{
    kbs_buf_deinit(&s->claims);
}

/* How many rows there are, and how many of them have not attested. */
struct session_count {
    int64_t all;
    int64_t challenged;
};

/* Removes a batch of expired rows; gives how many, and what is left. */
static int session_expire(struct kbs_store *s, int64_t now_s, int64_t *ret_removed,
                          struct session_count *ret_left, struct kbs_error *err)
{
    int rc = 0;

    kbs_sql_bind_int(s, KBS_SQL_SESSION_EXPIRE, 1, now_s);
    if (kbs_sql_run(s, KBS_SQL_SESSION_EXPIRE, "expire sessions", err) != 0) {
        return -1;
    }
    *ret_removed = sqlite3_changes64(s->fast.db);
    rc = kbs_sql_step(s, KBS_SQL_SESSION_COUNT, "count sessions", err);
    if (rc == KBS_SQL_ROW) {
        ret_left->all = kbs_sql_column_int(s, KBS_SQL_SESSION_COUNT, 0);
        ret_left->challenged = kbs_sql_column_int(s, KBS_SQL_SESSION_COUNT, 1);
    }
    kbs_sql_reset(s, KBS_SQL_SESSION_COUNT);
    if (rc == 0) {
        return kbs_fail(err, KBS_INTERNAL, "store: the count of sessions is missing");
    }
    return rc == KBS_SQL_ROW ? 0 : -1;
}

/*
 * Anybody can begin a session, so those that have only begun have a bound of their own, well under
 * that of all: whoever begins as many as he can keeps other beginners out for a while, but not the
 * guests that have attested.
 */
static int session_make_room(struct kbs_store *s, int64_t now_s, uint32_t challenged,
                             struct kbs_error *err)
{
    struct session_count left = {.all = 0};
    int64_t removed = 1;
    bool full = true;

    for (int round = 0; full && removed > 0 && round < EXPIRE_ROUNDS; round++) {
        if (session_expire(s, now_s, &removed, &left, err) != 0) {
            return -1;
        }
        full = left.all >= KBS_LIMIT_SESSIONS || left.challenged >= challenged;
    }
    return full ? kbs_fail(err, KBS_LIMITED, "too many sessions, try again later") : 0;
}

static int session_insert(struct kbs_store *s, const struct kbs_session *session,
                          uint32_t challenged, struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_SESSION_INSERT;
    int rc = 0;

    if (session_make_room(s, session->created_s, challenged, err) != 0) {
        return -1;
    }
    kbs_sql_bind_blob(s, q, 1, kbs_span(session->cookie_hash, sizeof(session->cookie_hash)));
    kbs_sql_bind_blob(s, q, 2, kbs_span(session->sid, sizeof(session->sid)));
    kbs_sql_bind_int(s, q, 3, session->tee);
    kbs_sql_bind_text(s, q, 4, kbs_span_str(kbs_hash_name(session->hash)));
    kbs_sql_bind_text(s, q, 5, kbs_span_str(session->nonce));
    kbs_sql_bind_int(s, q, 6, session->created_s);
    kbs_sql_bind_int(s, q, 7, session->expires_s);
    kbs_sql_bind_int(s, q, 8, session->version);
    rc = kbs_sql_run(s, q, "insert a session", err);
    if (rc == KBS_SQL_EXISTS) {
        return kbs_fail(err, KBS_INTERNAL, "store: the same random session id twice");
    }
    return rc;
}

int kbs_store_session_create(struct kbs_store *s, const struct kbs_session *session,
                             uint32_t challenged, struct kbs_error *err)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    int rc;

    if (kbs_sql_run(s, KBS_SQL_BEGIN, "begin", err) != 0) {
        return -1;
    }
    rc = session_insert(s, session, challenged, err);
    /* Who finds no room has still cleared some: or those after him would clear it all again. */
    if ((rc == 0 || err->category == KBS_LIMITED) &&
        kbs_sql_run(s, KBS_SQL_COMMIT, "commit a session", rc == 0 ? err : &ignored) == 0) {
        return rc;
    }
    (void)!kbs_sql_run(s, KBS_SQL_ROLLBACK, "rollback", &ignored);
    return -1;
}

/* The members that only an attested session has. False if the row is not one that we wrote. */
static bool session_read_attested(struct kbs_store *s, enum kbs_sql q, struct kbs_session *ret)
{
    struct kbs_error ignored = KBS_ERROR_NONE;
    int64_t binding = kbs_sql_column_int(s, q, 8);
    struct kbs_span digest = kbs_sql_column_bytes(s, q, 11);

    if (binding <= KBS_BINDING_NONE || binding >= KBS_BINDING_COUNT ||
        digest.len != kbs_hash_bytes(ret->hash)) {
        return false;
    }
    ret->binding = (enum kbs_binding)binding;
    ret->attested_s = kbs_sql_column_int(s, q, 9);
    memcpy(ret->report_digest.p, digest.p, digest.len);
    ret->report_digest.len = digest.len;
    kbs_buf_put_span(&ret->claims, kbs_sql_column_bytes(s, q, 12));
    return !ret->claims.failed && ret->claims.len != 0 &&
           kbs_tee_key_get(kbs_sql_column_bytes(s, q, 10), &ret->tee_key, &ignored) == 0;
}

static bool session_read(struct kbs_store *s, enum kbs_sql q, struct kbs_session *ret)
{
    int64_t state = kbs_sql_column_int(s, q, 2);
    int64_t tee = kbs_sql_column_int(s, q, 3);
    int64_t version = kbs_sql_column_int(s, q, 13);

    if ((state != KBS_SESSION_CHALLENGED && state != KBS_SESSION_ATTESTED) || tee <= KBS_TEE_NONE ||
        tee >= KBS_TEE_COUNT || version <= KBS_PROTOCOL_NONE || version >= KBS_PROTOCOL_COUNT) {
        return false;
    }
    ret->state = (enum kbs_session_state)state;
    ret->version = (enum kbs_protocol)version;
    ret->tee = (enum kbs_tee)tee;
    ret->hash = kbs_hash_from_name(kbs_sql_column_bytes(s, q, 4));
    ret->created_s = kbs_sql_column_int(s, q, 6);
    ret->expires_s = kbs_sql_column_int(s, q, 7);
    kbs_buf_clear(&ret->claims);
    return ret->hash != KBS_HASH_NONE &&
           kbs_sql_column_exact(s, q, 0, ret->cookie_hash, sizeof(ret->cookie_hash)) &&
           kbs_sql_column_exact(s, q, 1, ret->sid, sizeof(ret->sid)) &&
           kbs_span_to_cstr(kbs_sql_column_bytes(s, q, 5), ret->nonce, sizeof(ret->nonce)) &&
           (ret->state == KBS_SESSION_CHALLENGED || session_read_attested(s, q, ret));
}

static int session_find(struct kbs_store *s, enum kbs_sql q, struct kbs_span id, int64_t now_s,
                        struct kbs_session *ret, struct kbs_error *err)
{
    int result = 0;
    int rc = 0;

    kbs_sql_bind_blob(s, q, 1, id);
    kbs_sql_bind_int(s, q, 2, now_s);
    rc = kbs_sql_step(s, q, "find a session", err);
    if (rc == KBS_SQL_ROW) {
        if (!session_read(s, q, ret)) {
            result = kbs_fail(err, KBS_INTERNAL, "store: malformed session row");
        }
    } else if (rc == 0) {
        result = kbs_fail(err, KBS_UNAUTHENTICATED, "no such session, or it has expired");
    } else {
        result = -1;
    }
    kbs_sql_reset(s, q);
    return result;
}

int kbs_store_session_by_cookie(struct kbs_store *s, const uint8_t hash[KBS_SHA256_BYTES],
                                int64_t now_s, struct kbs_session *ret, struct kbs_error *err)
{
    return session_find(s, KBS_SQL_SESSION_BY_COOKIE, kbs_span(hash, KBS_SHA256_BYTES), now_s, ret,
                        err);
}

int kbs_store_session_by_sid(struct kbs_store *s, const uint8_t sid[16], int64_t now_s,
                             struct kbs_session *ret, struct kbs_error *err)
{
    return session_find(s, KBS_SQL_SESSION_BY_SID, kbs_span(sid, 16), now_s, ret, err);
}

int kbs_store_session_has_key(struct kbs_store *s, const struct kbs_tee_key *key, int64_t now_s,
                              struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_SESSION_HAS_KEY;
    uint8_t bytes[KBS_TEE_KEY_MAX_BYTES];
    int rc;

    kbs_sql_bind_blob(s, q, 1, kbs_span(bytes, kbs_tee_key_put(key, bytes)));
    kbs_sql_bind_int(s, q, 2, now_s);
    rc = kbs_sql_step(s, q, "find a TEE key", err);
    kbs_sql_reset(s, q);
    if (rc == 0) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "the TEE key is not that of an attested session of ours");
    }
    return rc == KBS_SQL_ROW ? 0 : -1;
}

int kbs_store_session_attest(struct kbs_store *s, const struct kbs_session *session,
                             struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_SESSION_ATTEST;
    uint8_t tee_key[KBS_TEE_KEY_MAX_BYTES];
    size_t tee_key_len = kbs_tee_key_put(&session->tee_key, tee_key);

    kbs_sql_bind_blob(s, q, 1, kbs_span(session->cookie_hash, sizeof(session->cookie_hash)));
    kbs_sql_bind_int(s, q, 2, session->expires_s);
    kbs_sql_bind_int(s, q, 3, session->binding);
    kbs_sql_bind_int(s, q, 4, session->attested_s);
    kbs_sql_bind_blob(s, q, 5, kbs_span(tee_key, tee_key_len));
    kbs_sql_bind_blob(s, q, 6, kbs_digest_span(&session->report_digest));
    kbs_sql_bind_text(s, q, 7, kbs_buf_span(&session->claims));
    kbs_sql_bind_text(s, q, 8, kbs_span_str(kbs_hash_name(session->hash)));
    if (kbs_sql_run(s, q, "attest a session", err) != 0) {
        return -1;
    }
    if (sqlite3_changes64(s->fast.db) != 1) {
        return kbs_fail(err, KBS_UNAUTHENTICATED, "nonce already used");
    }
    return 0;
}

/* ---- nonces of requests ---- */

static int nonce_insert(struct kbs_store *s, const uint8_t sid[16],
                        const uint8_t hash[KBS_SHA256_BYTES], int64_t now_s, int64_t expires_s,
                        struct kbs_error *err)
{
    kbs_sql_bind_int(s, KBS_SQL_NONCE_EXPIRE, 1, now_s);
    kbs_sql_bind_blob(s, KBS_SQL_NONCE_TRIM, 1, kbs_span(sid, 16));
    kbs_sql_bind_int(s, KBS_SQL_NONCE_TRIM, 2, KBS_LIMIT_REQUEST_NONCES - 1);
    kbs_sql_bind_blob(s, KBS_SQL_NONCE_INSERT, 1, kbs_span(hash, KBS_SHA256_BYTES));
    kbs_sql_bind_blob(s, KBS_SQL_NONCE_INSERT, 2, kbs_span(sid, 16));
    kbs_sql_bind_int(s, KBS_SQL_NONCE_INSERT, 3, expires_s);
    if (kbs_sql_run(s, KBS_SQL_NONCE_EXPIRE, "expire nonces", err) != 0 ||
        kbs_sql_run(s, KBS_SQL_NONCE_TRIM, "make room for a nonce", err) != 0) {
        return -1;
    }
    switch (kbs_sql_run(s, KBS_SQL_NONCE_INSERT, "insert a nonce", err)) {
    case 0:
        return 0;
    case KBS_SQL_EXISTS:
        return kbs_fail(err, KBS_INTERNAL, "store: the same random nonce twice");
    default:
        return -1;
    }
}

int kbs_store_request_nonce_add(struct kbs_store *s, const uint8_t sid[16],
                                const uint8_t hash[KBS_SHA256_BYTES], int64_t now_s,
                                int64_t expires_s, struct kbs_error *err)
{
    struct kbs_error ignored = KBS_ERROR_NONE;

    if (kbs_sql_run(s, KBS_SQL_BEGIN, "begin", err) != 0) {
        return -1;
    }
    if (nonce_insert(s, sid, hash, now_s, expires_s, err) == 0 &&
        kbs_sql_run(s, KBS_SQL_COMMIT, "commit a nonce", err) == 0) {
        return 0;
    }
    (void)!kbs_sql_run(s, KBS_SQL_ROLLBACK, "rollback", &ignored);
    return -1;
}

int kbs_store_request_nonce_use(struct kbs_store *s, const uint8_t sid[16],
                                const uint8_t hash[KBS_SHA256_BYTES], int64_t now_s,
                                struct kbs_error *err)
{
    const enum kbs_sql q = KBS_SQL_NONCE_USE;

    kbs_sql_bind_blob(s, q, 1, kbs_span(hash, KBS_SHA256_BYTES));
    kbs_sql_bind_blob(s, q, 2, kbs_span(sid, 16));
    kbs_sql_bind_int(s, q, 3, now_s);
    if (kbs_sql_run(s, q, "use a nonce", err) != 0) {
        return -1;
    }
    return sqlite3_changes64(s->fast.db) == 1
               ? 0
               : kbs_fail(err, KBS_UNAUTHENTICATED,
                          "the nonce is not one of this session's, or was used, or has expired");
}
