/*
 * The judge of the admin lane: what an administrator can do, and every signature that must not
 * count.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/encoding.h"
#include "base/io.h"
#include "base/process.h"

#define KEYS "/kbs/v0/admin/keys"
#define CREATE "{\"path\":\"repo/type/tag\",\"purpose\":\"release\",\"alg\":\"AES\"}"
#define POLICY                                       \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[" \
    "{\"claim\":\"kbs.tee\",\"equals\":\"sample\"}]}]}"

/* What goes into a signature; the test changes one member at a time. */
struct signature {
    EVP_PKEY *key;
    const char *kid; /* NULL: the key's thumbprint */
    const char *typ;
    const char *m;
    const char *p;
    const char *body;
    char nonce[128];
    uint64_t s;
    int64_t exp;
    const char *extra; /* appended to the payload's members */
    char text[4096];   /* the result */
};

static void get_nonce(struct judge *j, char *out, size_t size)
{
    const struct ask ask = {
        .route = KBS_ROUTE_ADMIN_NONCE, .method = "GET", .target = "/kbs/v0/admin/nonce"};
    struct reply *r = calloc(1, sizeof(*r));
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON body = NULL;

    assert_non_null(r);
    judge_ask(j, &ask, r);
    assert_int_equal(r->status, 200);
    assert_int_equal(kbs_json_parse_object(kbs_span_str(r->body), "nonce", &body, &err), 0);
    (void)snprintf(out, size, "%s", json_string_value(json_object_get(body, "nonce")));
    free(r);
}

static struct signature signature_for(struct judge *j, const struct ask *ask)
{
    struct signature s = {.key = j->admin,
                          .typ = "kbs-admin",
                          .m = ask->method != NULL ? ask->method : "POST",
                          .p = ask->target,
                          .body = ask->body != NULL ? ask->body : "",
                          .s = ++j->sequence,
                          .exp = kbs_clock_unix_s() + 60};

    get_nonce(j, s.nonce, sizeof(s.nonce));
    return s;
}

static const char *signature_make(struct signature *s)
{
    struct kbs_ec_public public = key_public(s->key, KBS_CURVE_P256);
    struct kbs_buf payload = KBS_BUF(4095);
    uint8_t digest[KBS_SHA256_BYTES];
    char kid[44];

    kbs_sha256(kbs_span_str(s->body), digest);
    kbs_jose_thumbprint(&public, kid);
    kbs_buf_printf(&payload, "{\"m\":\"%s\",\"p\":\"%s\",\"b\":\"", s->m, s->p);
    kbs_base64url_put(&payload, kbs_span(digest, sizeof(digest)));
    kbs_buf_printf(&payload, "\",\"n\":\"%s\",\"s\":%llu,\"exp\":%lld%s}", s->nonce,
                   (unsigned long long)s->s, (long long)s->exp, s->extra != NULL ? s->extra : "");
    jws_sign(s->key, s->kid != NULL ? s->kid : kid, s->typ, kbs_buf_cstr(&payload), s->text,
             sizeof(s->text));
    kbs_buf_deinit(&payload);
    return s->text;
}

/* Signs as an administrator would and expects the status. */
static void expect_signed(struct judge *j, struct ask ask, unsigned int status, const char *text)
{
    struct signature s = signature_for(j, &ask);

    ask.signature = signature_make(&s);
    judge_expect(j, &ask, status, text);
}

static struct ask ask_create(const char *body)
{
    return (struct ask){.route = KBS_ROUTE_ADMIN_KEY_CREATE,
                        .target = KEYS,
                        .content_type = "application/json",
                        .body = body};
}

static struct ask ask_list(void)
{
    return (struct ask){.route = KBS_ROUTE_ADMIN_KEY_LIST, .method = "GET", .target = KEYS};
}

/* ---- what works ---- */

static void test_create_list_show(void **state)
{
    struct judge *j = *state;
    struct ask show = {.route = KBS_ROUTE_ADMIN_KEY_SHOW,
                       .method = "GET",
                       .target = KEYS "/repo/type/tag?version=1",
                       .params = {"repo", "type", "tag"},
                       .query = {"version", "1"}};

    expect_signed(j, ask_list(), 200, "{\"keys\":[]}");
    assert_int_equal(j->records, 0); /* reads are not recorded */
    expect_signed(
        j,
        ask_create(
            "{\"path\":\"repo/type/tag\",\"purpose\":\"release\",\"alg\":\"AES\",\"bytes\":16,"
            "\"floor\":\"token\",\"policy\":" POLICY "}"),
        200,
        "{\"path\":\"repo/type/tag\",\"version\":1,\"kid\":\"repo/type/tag/v1\","
        "\"purpose\":\"release\","
        "\"provenance\":\"generated\",\"alg\":\"AES\",\"bytes\":16,\"floor\":\"token\","
        "\"kcv\":\"0a0b0c0d\",\"created\":");
    assert_true(kbs_span_equal_str(j->generate.label, "repo/type/tag/v1"));
    assert_int_equal(j->generate.key_bytes, 16);
    assert_int_equal(j->generate.purpose, KBS_PURPOSE_RELEASE);
    assert_int_equal(j->generate.key_id.len, KBS_KEY_ID_BYTES);
    ledger_expect(j, "key-generate phase=intent epoch=1 order=");
    ledger_expect(j, " path=repo/type/tag version=1 id=");
    ledger_expect(j, "key-generate phase=outcome epoch=1 order=");
    ledger_expect(j, " intent=1 path=repo/type/tag");
    ledger_expect(j, "head head_seq=");
    ledger_expect(j, "outcome=done kcv=0a0b0c0d");
    expect_signed(j,
                  ask_create("{\"path\":\"repo/type/z\",\"purpose\":\"release\",\"alg\":\"AES\"}"),
                  200, "\"bytes\":32,\"floor\":\"transport\"");
    expect_signed(j, ask_list(), 200, "},{\"path\":\"repo/type/z\"");
    expect_signed(j, show, 200, "\"policy\":" POLICY ",\"row\":{\"id\":\"");
    show.target = KEYS "/repo/type/z";
    show.params[2] = "z";
    show.query[0] = NULL;
    expect_signed(j, show, 200, "\"policy\":null,\"row\":{\"id\":\"");
    show.target = KEYS "/repo/type/y";
    show.params[2] = "y";
    expect_signed(j, show, 404, NULL);
}

static void test_create_refusals(void **state)
{
    struct judge *j = *state;
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"path\":\"repo/type/tag\"}",
        "{\"path\":\"repo/type\",\"purpose\":\"release\",\"alg\":\"AES\"}",
        "{\"path\":\"../type/tag\",\"purpose\":\"release\",\"alg\":\"AES\"}",
        "{\"path\":\"repo/type/tag\",\"purpose\":\"import\",\"alg\":\"AES\"}",
        "{\"path\":\"repo/type/tag\",\"purpose\":\"release\",\"alg\":\"DES\"}",
        "{\"path\":\"repo/type/tag\",\"purpose\":\"release\",\"alg\":\"AES\",\"bytes\":17}",
        "{\"path\":\"repo/type/tag\",\"purpose\":\"release\",\"alg\":\"AES\",\"bytes\":\"32\"}",
        "{\"path\":\"repo/type/tag\",\"purpose\":\"release\",\"alg\":\"AES\",\"floor\":\"none\"}",
        "{\"path\":\"repo/type/tag\",\"purpose\":\"release\",\"alg\":\"AES\",\"policy\":\"x\"}",
        "{\"path\":\"repo/type/tag\",\"purpose\":\"release\",\"alg\":\"AES\",\"policy\":{}}",
        "{\"path\":\"repo/type/tag\",\"purpose\":\"release\",\"alg\":\"AES\",\"extractable\":true}",
        "{\"path\":\"r/t/t\",\"path\":\"r/t/t\",\"purpose\":\"release\",\"alg\":\"AES\"}",
        NULL};
    struct ask ask = ask_create(CREATE);

    for (size_t i = 0; bad[i] != NULL; i++) {
        expect_signed(j, ask_create(bad[i]), 400, NULL);
    }
    ask.content_type = NULL;
    expect_signed(j, ask, 400, "Content-Type");
    assert_int_equal(j->orders, 0);
    assert_int_equal(j->records, 0);
    expect_signed(j, ask_create(CREATE), 200, NULL);
    expect_signed(j, ask_create(CREATE), 409, "exists");
    assert_int_equal(j->orders, 1);
}

/* A query that a request does not have is refused, as everywhere; signed or not. */
static void test_queries_unknown(void **state)
{
    struct judge *j = *state;
    struct ask ask[] = {
        ask_create(CREATE),
        {.route = KBS_ROUTE_ADMIN_KEY_IMPORT,
         .target = KEYS "/repo/type/tag/import?version=2",
         .params = {"repo", "type", "tag"},
         .content_type = "application/json",
         .body = "{}"},
        {.route = KBS_ROUTE_ADMIN_IMPORT_KEY,
         .method = "GET",
         .target = "/kbs/v0/admin/import-key?version=2"},
    };

    ask[0].target = KEYS "?version=2";
    for (size_t i = 0; i < sizeof(ask) / sizeof(ask[0]); i++) {
        ask[i].query[0] = "version";
        ask[i].query[1] = "2";
        expect_signed(j, ask[i], 400, "unknown query parameter");
    }
    assert_int_equal(j->orders, 0);
}

static void test_create_token_refuses(void **state)
{
    struct judge *j = *state;

    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_UNSUPPORTED;
    j->refuse_detail = "no AES here";
    expect_signed(j, ask_create(CREATE), 501, "no AES here");
    ledger_expect(j, "outcome=failed reason=no AES here");
    j->token_mood = TOKEN_OBEYS;
    expect_signed(j, ask_create(CREATE), 200, NULL); /* nothing is left of it */
}

static void test_create_token_down(void **state)
{
    struct judge *j = *state;

    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_TOKEN_DOWN; /* it cannot say what became of the key */
    j->refuse_detail = "gone";
    expect_signed(j, ask_create(CREATE), 503, NULL);
    ledger_expect(j, "outcome=unknown reason=gone");
}

static void test_create_token_lost(void **state)
{
    struct judge *j = *state;

    j->token_mood = TOKEN_HANGS_UP;
    expect_signed(j, ask_create(CREATE), 503, NULL);
    ledger_expect(j, "outcome=unknown");
    assert_int_equal(judge_wait(j), KBS_EXIT_STUCK);
}

static void test_intent_before_deed(void **state)
{
    struct judge *j = *state;

    j->ledger_mood = LEDGER_HANGS_UP;
    expect_signed(j, ask_create(CREATE), 503, "ledger");
    ledger_expect(j, "phase=intent");
    assert_int_equal(j->orders, 0); /* the token was not asked */
    assert_int_equal(judge_wait(j), KBS_EXIT_FAILURE);
}

static void test_import_key(void **state)
{
    struct judge *j = *state;
    const struct ask ask = {
        .route = KBS_ROUTE_ADMIN_IMPORT_KEY, .method = "GET", .target = "/kbs/v0/admin/import-key"};
    struct kbs_ec_public public = key_public(j->import, KBS_CURVE_P256);
    char kid[44];

    kbs_jose_thumbprint(&public, kid);
    expect_signed(j, ask, 200, kid);
    expect_signed(
        j, ask, 200,
        "\"token\":{\"manufacturer\":\"Test \\\"Co\\\"\",\"model\":\"T1\",\"serial\":\"42\","
        "\"class\":\"software\",\"rungs\":[\"cose-hkdf\",\"transport\"]}}");
}

/* An import body with the given parts. */
static void import_body(struct judge *j, const char *kid, const char *apu, const char *apv,
                        size_t wrapped, char *out, size_t size)
{
    struct kbs_ec_public import = key_public(j->import, KBS_CURVE_P256);
    EVP_PKEY *ephemeral = key_new("P-256");
    struct kbs_ec_public epk = key_public(ephemeral, KBS_CURVE_P256);
    struct kbs_buf text = KBS_BUF(size - 1);
    uint8_t blob[80] = {1};
    char real_kid[44];

    kbs_jose_thumbprint(&import, real_kid);
    const struct kbs_jose_recipient r = {.epk = &epk,
                                         .kid = kbs_span_str(kid != NULL ? kid : real_kid),
                                         .apu = kbs_span_str(apu),
                                         .apv = kbs_span_str(apv),
                                         .encrypted_key = kbs_span(blob, wrapped)};
    kbs_buf_put_str(&text, "{\"floor\":\"worker\",\"policy\":null,\"recipient\":");
    kbs_jose_recipient_put(&text, &r);
    kbs_buf_put_u8(&text, '}');
    assert_true(kbs_span_to_cstr(kbs_buf_span(&text), out, size));
    kbs_buf_deinit(&text);
    EVP_PKEY_free(ephemeral);
}

static void test_import(void **state)
{
    struct judge *j = *state;
    char body[4096];
    struct ask ask = {.route = KBS_ROUTE_ADMIN_KEY_IMPORT,
                      .target = KEYS "/repo/type/tag/import",
                      .params = {"repo", "type", "tag"},
                      .content_type = "application/json",
                      .body = body};

    import_body(j, "another", "kbs-import-v1", "repo/type/tag/v1", 40, body, sizeof(body));
    expect_signed(j, ask, 422, "another import key");
    import_body(j, NULL, "kbs-import-v2", "repo/type/tag/v1", 40, body, sizeof(body));
    expect_signed(j, ask, 422, NULL);
    import_body(j, NULL, "kbs-import-v1", "repo/type/other/v1", 40, body, sizeof(body));
    expect_signed(j, ask, 422, "another path");
    import_body(j, NULL, "kbs-import-v1", "repo/type/tag/v2", 40, body, sizeof(body));
    expect_signed(j, ask, 422, NULL);
    import_body(j, NULL, "kbs-import-v1", "repo/type/tag/v1", 16, body, sizeof(body));
    expect_signed(j, ask, 400, "16 to 64 bytes");
    assert_int_equal(j->orders, 0);

    import_body(j, NULL, "kbs-import-v1", "repo/type/tag/v1", 40, body, sizeof(body));
    expect_signed(j, ask, 200,
                  "\"provenance\":\"imported\",\"alg\":\"AES\",\"bytes\":32,\"floor\":\"worker\"");
    assert_int_equal(j->import_order.wrapped.len, 40);
    assert_true(kbs_span_equal_str(j->import_order.label, "repo/type/tag/v1"));
    ledger_expect(j, "key-import phase=intent");
    ledger_expect(j, "key-import phase=outcome");
    expect_signed(j, ask, 409, "exists");
    assert_int_equal(j->orders, 1);
}

/* ---- what does not ---- */

static void expect_refused(struct judge *j, struct ask *ask, struct signature *s, const char *text)
{
    ledger_forget(j);
    ask->signature = signature_make(s);
    judge_expect(j, ask, 401, text);
    ledger_expect(j, "admin-denied reason=");
    assert_int_equal(j->orders, 0);
}

static void test_signature_keys(void **state)
{
    struct judge *j = *state;
    struct ask ask = ask_create(CREATE);
    struct signature s = signature_for(j, &ask);
    struct kbs_ec_public public = key_public(j->admin, KBS_CURVE_P256);
    char kid[44];

    judge_expect(j, &ask, 401, "/errors/AdminAuthAccess"); /* none at all */
    ledger_expect(j,
                  "admin-denied reason=Kbs-Signature is missing method=POST target=" KEYS " peer=");
    ask.signature = "x.y.z";
    judge_expect(j, &ask, 401, NULL);
    s.typ = "JWT";
    expect_refused(j, &ask, &s, "kbs-admin");
    s = signature_for(j, &ask);
    s.key = key_new("P-256"); /* a key that nobody enrolled */
    expect_refused(j, &ask, &s, "not enrolled");
    kbs_jose_thumbprint(&public, kid);
    s.kid = kid; /* the same under an enrolled name */
    expect_refused(j, &ask, &s, "does not verify");
    EVP_PKEY_free(s.key);
}

static void test_signature_coverage(void **state)
{
    struct judge *j = *state;
    struct ask ask = ask_create(CREATE);
    struct signature s = signature_for(j, &ask);

    s.body = CREATE " ";
    expect_refused(j, &ask, &s, "another body");
    s = signature_for(j, &ask);
    s.m = "GET";
    expect_refused(j, &ask, &s, "another method");
    s = signature_for(j, &ask);
    s.p = KEYS "?x=y";
    expect_refused(j, &ask, &s, "another target");
    s = signature_for(j, &ask);
    s.extra = ",\"admin\":true";
    expect_refused(j, &ask, &s, "payload");
    s = signature_for(j, &ask);
    s.extra = ",\"s\":99999999";
    expect_refused(j, &ask, &s, NULL);

    /* A front that pairs a signed target with other parameters, or with another route. */
    struct ask show = {.route = KBS_ROUTE_ADMIN_KEY_SHOW,
                       .method = "GET",
                       .target = KEYS "/repo/type/tag",
                       .params = {"repo", "type", "other"}};
    s = signature_for(j, &show);
    expect_refused(j, &show, &s, "another target");
    show.params[2] = "tag";
    show.route = KBS_ROUTE_ADMIN_KEY_LIST;
    s = signature_for(j, &show);
    expect_refused(j, &show, &s, "another target");
}

static void test_signature_time(void **state)
{
    struct judge *j = *state;
    struct ask ask = ask_create(CREATE);
    struct signature s = signature_for(j, &ask);
    int64_t now = kbs_clock_unix_s();

    s.exp = now - 1;
    expect_refused(j, &ask, &s, "expired");
    s = signature_for(j, &ask);
    s.exp = now + 3600;
    expect_refused(j, &ask, &s, "ahead");
    s = signature_for(j, &ask);
    s.nonce[20] = s.nonce[20] == 'A' ? 'B' : 'A';
    expect_refused(j, &ask, &s, "nonce");
    s = signature_for(j, &ask);
    s.nonce[0] = '\0';
    expect_refused(j, &ask, &s, "nonce");

    /* A nonce of another process: a restart forgets them all. */
    s = signature_for(j, &ask);
    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    judge_start(j);
    expect_refused(j, &ask, &s, "nonce");
}

static void test_signature_sequence(void **state)
{
    struct judge *j = *state;
    struct ask ask = ask_create(CREATE);
    struct signature s = signature_for(j, &ask);

    ask.signature = signature_make(&s);
    judge_expect(j, &ask, 200, NULL);
    ledger_forget(j);
    judge_expect(j, &ask, 409, "sequence"); /* the very same request again */
    ledger_expect(j, "admin-denied reason=the sequence was used before");
    s.body = ask.body = "{\"path\":\"repo/type/two\",\"purpose\":\"release\",\"alg\":\"AES\"}";
    ask.signature = signature_make(&s);
    judge_expect(j, &ask, 409, "sequence"); /* signed anew with an old number */

    /* A request that fails for another reason has used its number up as well. */
    ask = ask_create("{}");
    s = signature_for(j, &ask);
    ask.signature = signature_make(&s);
    judge_expect(j, &ask, 400, NULL);
    judge_expect(j, &ask, 409, NULL);

    /* Reads leave it alone: an old number will do, twice. */
    struct ask list = ask_list();
    s = signature_for(j, &list);
    s.s = 1;
    list.signature = signature_make(&s);
    judge_expect(j, &list, 200, NULL);
    judge_expect(j, &list, 200, NULL);
    assert_int_equal(j->orders, 1);

    kbs_io_close(&j->control); /* and it outlives the judge */
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    judge_start(j);
    ask = ask_create("{\"path\":\"repo/type/two\",\"purpose\":\"release\",\"alg\":\"AES\"}");
    s = signature_for(j, &ask);
    s.s = 1001;
    ask.signature = signature_make(&s);
    judge_expect(j, &ask, 409, "sequence");
}

static void test_denied_records_are_bounded(void **state)
{
    struct judge *j = *state;
    struct ask ask = ask_create(CREATE);

    for (int i = 0; i < 200; i++) {
        judge_expect(j, &ask, 401, NULL);
    }
    assert_in_range(j->records, 60, 120); /* a minute may have ended in between */
}

static void test_routes_of_the_duty(void **state)
{
    struct judge *j = *state;
    static const enum kbs_route foreign[] = {KBS_ROUTE_AUTH, KBS_ROUTE_ATTEST,
                                             KBS_ROUTE_KEY_RELEASE, KBS_ROUTE_JWKS};

    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        struct ask ask = {.route = foreign[i],
                          .method = foreign[i] == KBS_ROUTE_JWKS ? "GET" : "POST"};

        judge_expect(j, &ask, 404, NULL);
        ask.listener = KBS_LISTENER_GUEST;
        judge_expect(j, &ask, 404, NULL);
    }
    struct ask nonce = {
        .route = KBS_ROUTE_ADMIN_NONCE, .method = "GET", .listener = KBS_LISTENER_GUEST};
    judge_expect(j, &nonce, 404, NULL);
}

/* ---- the end ---- */

/* The last head of a drain, however its beginning is noticed; and none if there is nothing new. */
static void test_a_head_before_the_end(void **state)
{
    struct judge *j = *state;
    struct kbs_error err = KBS_ERROR_NONE;
    struct ask ask = ask_create(CREATE);

    expect_signed(j, ask, 200, NULL);
    assert_int_equal(j->heads, 1);
    judge_expect(j, &ask, 401, NULL); /* admin-denied: something after that head */
    assert_int_equal(
        kbs_channel_send(j->control, KBS_WIRE_DRAIN, 0, NULL, -1, KBS_DEADLINE_NONE, &err), 0);
    judge_serve(j, 3); /* HEAD_WANT, SIGN_HEAD, APPEND */
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    assert_int_equal(j->heads, 2);

    judge_start(j);
    judge_expect(j, &ask, 401, NULL);
    kbs_io_close(&j->front);
    judge_serve(j, 3);
    assert_int_equal(judge_wait(j), KBS_EXIT_FAILURE);
    assert_int_equal(j->heads, 3);
}

static void test_no_head_of_nothing(void **state)
{
    struct judge *j = *state;
    struct kbs_error err = KBS_ERROR_NONE;

    expect_signed(j, ask_create(CREATE), 200, NULL);
    assert_int_equal(
        kbs_channel_send(j->control, KBS_WIRE_DRAIN, 0, NULL, -1, KBS_DEADLINE_NONE, &err), 0);
    judge_serve(j, 1); /* HEAD_WANT: it is that of the last head */
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    assert_int_equal(j->heads, 1);
}

/* ---- a store that is not the newest ---- */

#define STORE "/kbs/v0/admin/store"

static struct ask ask_store(void)
{
    return (struct ask){.route = KBS_ROUTE_ADMIN_STORE_SHOW, .method = "GET", .target = STORE};
}

static struct ask ask_accept(const char *body)
{
    return (struct ask){.route = KBS_ROUTE_ADMIN_STORE_ACCEPT,
                        .target = STORE "/accept",
                        .content_type = "application/json",
                        .body = body};
}

static void restart(struct judge *j)
{
    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    judge_start(j);
    ledger_forget(j);
}

/* One key, epoch 1, beside a ledger that has come to epoch 5. */
static void make_stale(struct judge *j)
{
    judge_add_key(j, "repo/type/kept", 1, POLICY);
    j->epoch = 5;
    restart(j);
}

static void test_store_show(void **state)
{
    struct judge *j = *state;

    expect_signed(j, ask_store(), 200,
                  "{\"serves\":true,\"epoch\":0,\"ledger_epoch\":0,\"reason\":null}");
    make_stale(j);
    expect_signed(j, ask_store(), 200,
                  "{\"serves\":false,\"epoch\":1,\"ledger_epoch\":5,\"reason\":\"the store is at "
                  "epoch 1 and the ledger at 5: it is not the newest one\"}");
    expect_signed(j, ask_create(CREATE), 503, "no key is served");
    assert_int_equal(j->orders, 0);
    judge_expect(
        j, &(struct ask){.route = KBS_ROUTE_ADMIN_STORE_SHOW, .method = "GET", .target = STORE},
        401, "Kbs-Signature is missing");
    struct ask query = ask_store();
    query.target = STORE "?all=1";
    query.query[0] = "all";
    query.query[1] = "1";
    expect_signed(j, query, 400, NULL);
}

static void test_store_accept(void **state)
{
    struct judge *j = *state;

    make_stale(j);
    expect_signed(j, ask_accept("{\"epoch\":1}"), 200,
                  "{\"serves\":true,\"epoch\":6,\"ledger_epoch\":6,\"reason\":null}");
    ledger_expect(j, "store-accept phase=restore epoch=6 store_epoch=1 manifest=");
    ledger_expect_not(j, "store-recovered");
    assert_int_equal(j->heads, 1);
    expect_signed(j, ask_accept("{\"epoch\":6}"), 409, "there is nothing to accept");
    expect_signed(j, ask_create(CREATE), 200, NULL); /* and it serves */
    ledger_expect(j, "key-generate phase=intent epoch=7");
    restart(j);
    expect_signed(j, ask_store(), 200, "\"serves\":true,\"epoch\":7");
}

static void test_store_accept_refusals(void **state)
{
    static const char *const bodies[] = {
        "", "{}", "[]", "{\"epoch\":\"1\"}", "{\"epoch\":1.5}", "{\"epoch\":1,\"force\":true}"};
    struct judge *j = *state;
    struct ask ask = ask_accept("{\"epoch\":1}");

    expect_signed(j, ask_accept("{\"epoch\":0}"), 409, "there is nothing to accept");
    make_stale(j);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        expect_signed(j, ask_accept(bodies[i]), 400, NULL);
    }
    expect_signed(j, ask_accept("{\"epoch\":5}"), 409, "the store is at another epoch, 1");
    expect_signed(j, ask_accept("{\"epoch\":-1}"), 409, "the store is at another epoch, 1");
    judge_expect(j, &ask, 401, "Kbs-Signature is missing");
    ask.content_type = "text/plain";
    expect_signed(j, ask, 400, NULL);
    ledger_expect_not(j, "store-accept");
    expect_signed(j, ask_store(), 200, "\"serves\":false,\"epoch\":1,\"ledger_epoch\":5");
}

/* The ledger says it first: if that cannot be written, nothing is accepted. */
static void test_store_accept_without_ledger(void **state)
{
    struct judge *j = *state;

    make_stale(j);
    j->ledger_mood = LEDGER_FULL;
    expect_signed(j, ask_accept("{\"epoch\":1}"), 503, "the audit ledger cannot be written");
    j->ledger_mood = LEDGER_WRITES;
    expect_signed(j, ask_store(), 200, "\"serves\":false,\"epoch\":1,\"ledger_epoch\":5");
    expect_signed(j, ask_accept("{\"epoch\":1}"), 200, "\"serves\":true,\"epoch\":6");
}

/* Accepting makes an old row current, not a foreign one ours; and an edited epoch is mended. */
static void test_store_accept_after_edits(void **state)
{
    struct judge *j = *state;

    judge_add_key(j, "repo/type/kept", 1, POLICY);
    judge_tamper(j, "UPDATE epoch SET epoch = 3");
    restart(j);
    expect_signed(j, ask_store(), 200, "the store's epoch is not signed by this service");
    expect_signed(j, ask_accept("{\"epoch\":3}"), 200, "\"serves\":true,\"epoch\":2");
    ledger_expect(j, "reason=the store's epoch is not signed by this service");
    judge_tamper(j, "DELETE FROM key");
    restart(j);
    expect_signed(j, ask_store(), 200, "the store's rows are not those of its epoch");
    expect_signed(j, ask_accept("{\"epoch\":2}"), 200, "\"serves\":true,\"epoch\":3");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, judge_setup_admin, judge_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_create_list_show),
        CASE(test_create_refusals),
        CASE(test_queries_unknown),
        CASE(test_create_token_refuses),
        CASE(test_create_token_down),
        CASE(test_create_token_lost),
        CASE(test_intent_before_deed),
        CASE(test_import_key),
        CASE(test_import),
        CASE(test_signature_keys),
        CASE(test_signature_coverage),
        CASE(test_signature_time),
        CASE(test_signature_sequence),
        CASE(test_denied_records_are_bounded),
        CASE(test_routes_of_the_duty),
        CASE(test_a_head_before_the_end),
        CASE(test_no_head_of_nothing),
        CASE(test_store_show),
        CASE(test_store_accept),
        CASE(test_store_accept_refusals),
        CASE(test_store_accept_without_ledger),
        CASE(test_store_accept_after_edits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
