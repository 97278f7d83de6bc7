/*
 * The judge of the admin lane: what an administrator can do, and every signature that must not
 * count.
 */
#include "signed.h"

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

    expect_signed(j, ask_list(), 200, "{\"keys\":[],\"more\":false}");
    assert_int_equal(j->records, 0); /* reads are not recorded */
    expect_signed(
        j,
        ask_create(
            "{\"path\":\"repo/type/tag\",\"purpose\":\"release\",\"alg\":\"AES\",\"bytes\":16,"
            "\"floor\":\"token\",\"policy\":" POLICY "}"),
        200,
        "{\"path\":\"repo/type/tag\",\"version\":1,\"kid\":\"repo/type/tag/v1\","
        "\"purpose\":\"release\","
        "\"provenance\":\"generated\",\"alg\":\"AES\",\"bytes\":16,\"class\":\"resident\","
        "\"state\":\"enabled\",\"floor\":\"token\",\"kcv\":\"0a0b0c0d\",\"kcv_mac\":\"HMAC-SHA-256\","
        "\"wrapping_key\":null,\"pop_required\":false,\"destroy_at\":null,\"created\":");
    assert_true(kbs_span_equal_str(j->generate.kid, "repo/type/tag/v1"));
    assert_int_equal(j->generate.alg, KBS_KEY_ALG_AES);
    assert_int_equal(j->generate.storage, KBS_STORAGE_RESIDENT);
    assert_int_equal(j->generate.floor, KBS_LOCALITY_TOKEN);
    assert_int_equal(j->generate.key_bytes, 16);
    assert_int_equal(j->generate.purpose, KBS_PURPOSE_RELEASE);
    assert_int_equal(j->generate.key_id.len, KBS_KEY_ID_BYTES);
    ledger_expect(j, "key-generate phase=intent epoch=1 order=");
    ledger_expect(j, " path=repo/type/tag version=1 id=");
    ledger_expect(j, "key-generate phase=outcome epoch=1 order=");
    ledger_expect(j, " intent=1 path=repo/type/tag");
    ledger_expect(j, "head head_seq=");
    ledger_expect(j, "outcome=done kcv=0a0b0c0d");
    expect_signed(
        j, ask_create("{\"path\":\"repo/type/z\",\"purpose\":\"release\",\"alg\":\"AES\"}"), 200,
        "\"bytes\":32,\"class\":\"resident\",\"state\":\"enabled\",\"floor\":\"transport\"");
    expect_signed(j, ask_list(), 200, "},{\"path\":\"repo/type/z\"");
    expect_signed(j, show, 200, ",\"newest\":1,\"policy\":" POLICY ",\"row\":{\"id\":\"");
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
                  "\"provenance\":\"imported\",\"alg\":\"AES\",\"bytes\":32,\"class\":\"resident\","
                  "\"state\":\"enabled\",\"floor\":\"worker\"");
    assert_int_equal(j->import_order.wrapped.len, 40);
    assert_true(kbs_span_equal_str(j->import_order.kid, "repo/type/tag/v1"));
    ledger_expect(j, "key-import phase=intent");
    ledger_expect(j, "key-import phase=outcome");
    expect_signed(j, ask, 409, "exists");
    assert_int_equal(j->orders, 1);
}

/* ---- the life of a key ---- */

#define KEY KEYS "/repo/type/tag"

static struct ask ask_key(enum kbs_route route, const char *target, const char *body)
{
    return (struct ask){.route = route,
                        .target = target,
                        .params = {"repo", "type", "tag"},
                        .content_type = body != NULL ? "application/json" : NULL,
                        .body = body};
}

static struct ask ask_destroy(const char *body)
{
    struct ask ask = ask_key(KBS_ROUTE_ADMIN_KEY_DESTROY, KEY, body);

    ask.method = "DELETE";
    return ask;
}

static void create(struct judge *j)
{
    expect_signed(j,
                  ask_create("{\"path\":\"repo/type/tag\",\"purpose\":\"release\",\"alg\":\"AES\","
                             "\"floor\":\"worker\",\"policy\":" POLICY "}"),
                  200, NULL);
    ledger_forget(j);
}

static void create_wrapped(struct judge *j, const char *path)
{
    char body[256];

    (void)snprintf(body, sizeof(body),
                   "{\"path\":\"%s\",\"purpose\":\"release\",\"alg\":\"generic\",\"bytes\":24,"
                   "\"class\":\"wrapped\"}",
                   path);
    expect_signed(j, ask_create(body), 200,
                  "\"alg\":\"generic\",\"bytes\":24,\"class\":\"wrapped\"");
}

static void test_create_classes(void **state)
{
    struct judge *j = *state;
    const char *body = "{\"path\":\"repo/type/tag\",\"purpose\":\"release\",\"alg\":\"AES\","
                       "\"class\":\"wrapped\"}";

    expect_signed(j, ask_create(body), 501, "no wrapping key");
    assert_int_equal(j->orders, 0);
    expect_signed(j,
                  (struct ask){.route = KBS_ROUTE_ADMIN_WRAPPING_ROTATE,
                               .target = "/kbs/v0/admin/wrapping-key/rotate"},
                  200, "{\"version\":1,\"keys\":{}}");
    ledger_expect(j, "wrapping-key-generate phase=intent epoch=1 order=");
    ledger_expect(j, "wrapping-key-generate phase=outcome epoch=1 order=");
    expect_signed(j, ask_create(body), 200, "\"wrapping_key\":1,");
    assert_int_equal(j->generate.storage, KBS_STORAGE_WRAPPED);
    expect_signed(j,
                  ask_create("{\"path\":\"r/t/u\",\"purpose\":\"release\",\"alg\":\"generic\","
                             "\"bytes\":72}"),
                  400, NULL);
    expect_signed(j,
                  ask_create("{\"path\":\"r/t/u\",\"purpose\":\"release\",\"alg\":\"AES\","
                             "\"class\":\"sealed\"}"),
                  400, "'class'");
    expect_signed(j, ask_create("{\"path\":\"r/t/u\",\"purpose\":\"release\",\"alg\":\"secret\"}"),
                  400, "'alg'");
}

/* A token that makes something else than it was told to has made an orphan. */
static void test_made_otherwise(void **state)
{
    struct judge *j = *state;

    j->token_mood = TOKEN_DISOBEYS;
    expect_signed(j, ask_create(CREATE), 500, "Internal error");
    ledger_expect(j, "outcome=orphan reason=the token's card is not the one that was ordered");
    j->token_mood = TOKEN_OBEYS;
    expect_signed(j, ask_list(), 200, "{\"keys\":[],\"more\":false}");
}

static void test_rotate(void **state)
{
    struct judge *j = *state;
    const struct ask rotate = ask_key(KBS_ROUTE_ADMIN_KEY_ROTATE, KEY "/rotate", NULL);
    uint8_t id[KBS_KEY_ID_BYTES];

    expect_signed(j, rotate, 404, "no such key");
    create(j);
    memcpy(id, j->generate.key_id.p, sizeof(id));
    expect_signed(j, rotate, 200, "\"version\":2,\"kid\":\"repo/type/tag/v2\"");
    assert_memory_equal(j->generate.key_id.p, id, sizeof(id));
    assert_int_equal(j->generate.floor, KBS_LOCALITY_WORKER); /* as the latest */
    ledger_expect(j, "key-generate phase=intent epoch=2 order=");
    expect_signed(j,
                  (struct ask){.route = KBS_ROUTE_ADMIN_KEY_SHOW,
                               .method = "GET",
                               .target = KEY,
                               .params = {"repo", "type", "tag"}},
                  200, "\"newest\":2,\"policy\":" POLICY ",\"row\":");
    expect_signed(
        j,
        ask_key(KBS_ROUTE_ADMIN_KEY_ROTATE, KEY "/rotate", "{\"floor\":\"token\",\"policy\":null}"),
        200, "\"version\":3,");
    assert_int_equal(j->generate.floor, KBS_LOCALITY_TOKEN);
    expect_signed(j, ask_key(KBS_ROUTE_ADMIN_KEY_ROTATE, KEY "/rotate", "{\"bytes\":16}"), 400,
                  NULL);

    /* The number of a version that was destroyed is not used again. */
    expect_signed(j, ask_destroy("{\"after_s\":0}"), 200, "\"destroyed\"");
    expect_signed(j, rotate, 200, "\"version\":4,");
    assert_int_equal(j->generate.floor, KBS_LOCALITY_WORKER); /* of version 2, the latest now */
}

static void test_import_next(void **state)
{
    struct judge *j = *state;
    char body[4096];
    char text[4200];
    struct ask ask = ask_key(KBS_ROUTE_ADMIN_KEY_IMPORT, KEY "/import", text);

    create(j);
    import_body(j, NULL, "kbs-import-v1", "repo/type/tag/v2", 56, body, sizeof(body));
    (void)snprintf(text, sizeof(text), "%s", body);
    expect_signed(j, ask, 409, "exists");
    (void)snprintf(text, sizeof(text), "{\"rotate\":true,%s", body + 1);
    expect_signed(j, ask, 422, "cannot have 48 bytes");
    (void)snprintf(text, sizeof(text), "{\"rotate\":true,\"alg\":\"generic\",%s", body + 1);
    expect_signed(j, ask, 200, "\"version\":2,");
    assert_int_equal(j->import_order.alg, KBS_KEY_ALG_GENERIC);
    (void)snprintf(text, sizeof(text), "{\"rotate\":1,%s", body + 1);
    expect_signed(j, ask, 400, "'rotate'");
}

static void test_adopt(void **state)
{
    struct judge *j = *state;
    struct ask ask = ask_key(KBS_ROUTE_ADMIN_KEY_ADOPT, KEY "/adopt",
                             "{\"uri\":\"pkcs11:object=old\",\"floor\":\"token\"}");

    expect_signed(
        j, ask, 200,
        "\"provenance\":\"adopted\",\"alg\":\"generic\",\"bytes\":48,\"class\":\"resident\"");
    assert_true(kbs_span_equal_str(j->adopt.uri, "pkcs11:object=old"));
    ledger_expect(j, "key-adopt phase=outcome epoch=1");
    expect_signed(j, ask, 409, "exists");
    ask.target = "/kbs/v0/admin/keys/repo/type/two/adopt";
    ask.params[2] = "two";
    expect_signed(j, ask, 409, "one of this token object");
    ask.body = "{\"floor\":\"token\"}";
    expect_signed(j, ask, 400, "uri");
}

static void test_policy(void **state)
{
    struct judge *j = *state;
    struct ask ask = ask_key(KBS_ROUTE_ADMIN_KEY_POLICY, KEY "/policy", "{\"policy\":null}");
    struct ask show = ask_key(KBS_ROUTE_ADMIN_KEY_SHOW, KEY, NULL);

    show.method = "GET";
    create(j);
    expect_signed(j, ask, 200, "\"floor\":\"worker\"");
    assert_int_equal(j->recard.floor, KBS_LOCALITY_WORKER);
    ledger_expect(j, "key-policy phase=intent epoch=2 order=");
    ledger_expect(j, "key-policy phase=outcome epoch=2 order=");
    expect_signed(j, show, 200, "\"policy\":null,\"row\":");
    ask.body = "{\"floor\":\"token\"}";
    expect_signed(j, ask, 200, "\"floor\":\"token\"");
    ask.body = "{\"policy\":" POLICY "}";
    expect_signed(j, ask, 200, "\"floor\":\"token\""); /* what is not given stays */
    expect_signed(j, show, 200, "\"policy\":" POLICY ",\"row\":");
    ask.body = "{\"pop_required\":true}";
    expect_signed(j, ask, 200, "\"pop_required\":true");
    assert_int_equal(j->recard.flags, KBS_CARD_POP_REQUIRED);
    ledger_expect(j, "pop=required");
    ask.body = "{\"pop_required\":false}";
    expect_signed(j, ask, 200, "\"pop_required\":false");
    ledger_expect(j, "pop=not required");
    ask.body = "{\"pop_required\":1}";
    expect_signed(j, ask, 400, "'pop_required' must be");
    ask.body = "{}";
    expect_signed(j, ask, 400, "'policy', 'floor' or 'pop_required'");
    ask.body = NULL;
    ask.content_type = NULL;
    expect_signed(j, ask, 400, "'policy', 'floor' or 'pop_required'");
    ask.content_type = "application/json";
    ask.body = "{\"policy\":{}}";
    expect_signed(j, ask, 400, NULL);

    j->token_mood = TOKEN_DISOBEYS;
    ask.body = "{\"floor\":\"transport\"}";
    expect_signed(j, ask, 500, NULL);
    ledger_expect(j, "outcome=failed reason=the token's card");
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_UNSUPPORTED;
    j->refuse_detail = "no card key";
    expect_signed(j, ask, 501, "no card key");
    j->token_mood = TOKEN_OBEYS;
    expect_signed(j, show, 200, "\"floor\":\"token\""); /* nothing came of it */
    ask.query[0] = "version";
    ask.query[1] = "2";
    ask.target = KEY "/policy?version=2";
    expect_signed(j, ask, 404, NULL);
}

static void expect_state(struct judge *j, enum kbs_route route, const char *what,
                         unsigned int status, const char *text)
{
    char target[128];

    (void)snprintf(target, sizeof(target), KEY "/%s", what);
    expect_signed(j, ask_key(route, target, NULL), status, text);
}

static void test_states(void **state)
{
    struct judge *j = *state;
    const enum kbs_route disable = KBS_ROUTE_ADMIN_KEY_DISABLE;
    const enum kbs_route enable = KBS_ROUTE_ADMIN_KEY_ENABLE;
    const enum kbs_route undo = KBS_ROUTE_ADMIN_KEY_UNDO;
    unsigned int orders = 0;

    expect_state(j, disable, "disable", 404, NULL);
    create(j);
    orders = j->orders;
    expect_state(j, enable, "enable", 409, "the key is enabled, not disabled");
    expect_state(j, undo, "undo", 409, NULL);
    expect_state(j, disable, "disable", 200, "\"state\":\"disabled\"");
    ledger_expect(j, "key-state phase=intent epoch=2 path=repo/type/tag version=1");
    ledger_expect(j, "from=enabled state=disabled");
    expect_state(j, disable, "disable", 409, NULL);
    expect_state(j, enable, "enable", 200, "\"state\":\"enabled\"");
    expect_signed(j, ask_destroy("{\"after_s\":-1}"), 400, "after_s");
    expect_signed(j, ask_destroy("{\"after_s\":31536001}"), 400, "after_s");
    expect_signed(j, ask_destroy("{\"now\":true}"), 400, NULL);
    expect_signed(j, ask_destroy(NULL), 200, "\"state\":\"pending-destruction\"");
    ledger_expect(j, "from=enabled state=pending-destruction destroy_at=");
    expect_state(j, enable, "enable", 409, "pending-destruction");
    expect_signed(j, ask_key(KBS_ROUTE_ADMIN_KEY_POLICY, KEY "/policy", "{\"floor\":\"token\"}"),
                  409, "undo that first");
    expect_state(j, undo, "undo", 200, "\"state\":\"disabled\"");
    assert_int_equal(j->orders, orders); /* the token has no part in it */

    expect_signed(j, ask_destroy("{\"after_s\":0}"), 200, "\"gone\":\"now\"}");
    assert_int_equal(j->destroy.purpose, KBS_PURPOSE_RELEASE);
    assert_int_equal(j->destroy.card.len, KBS_CARD_BYTES);
    ledger_expect(j, "from=disabled state=pending-destruction destroy_at=");
    ledger_expect(j, "key-destroy phase=intent epoch=7 order=");
    ledger_expect(j, "outcome=done gone=now");
    expect_state(j, enable, "enable", 404, NULL); /* no version is left */
    expect_signed(j, ask_list(), 200, "\"state\":\"destroyed\"");
    expect_signed(j, ask_create(CREATE), 409, "exists"); /* its name is not used again */
    struct ask again = ask_destroy(NULL);
    again.query[0] = "version";
    again.query[1] = "1";
    again.target = KEY "?version=1";
    expect_signed(j, again, 409, "the key is destroyed");
}

/* Serves the judge until the ledger has that text. */
static void ledger_await(struct judge *j, const char *text)
{
    for (int i = 0; i < 100 && strstr(j->ledger_text, text) == NULL; i++) {
        judge_serve(j, 100);
    }
    ledger_expect(j, text);
}

static void test_destroy_refused(void **state)
{
    struct judge *j = *state;

    create(j);
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_INTERNAL;
    j->refuse_detail = "the token is read-only";
    expect_signed(j, ask_destroy("{\"after_s\":0}"), 500, NULL);
    ledger_expect(j, "key-destroy phase=outcome");
    ledger_expect(j, "outcome=failed");
    /* It was to be destroyed: it is released no more, and the lane goes on trying. */
    expect_signed(j, ask_list(), 200, "\"state\":\"pending-destruction\"");
    ledger_await(j, "key-destroy phase=outcome epoch=4");
    j->refuse_category = KBS_MISSING; /* as after a crash between token and store */
    expect_signed(j, ask_destroy("{\"after_s\":0}"), 200, "\"gone\":\"now\"");
}

/* ---- the wrapping key ---- */

#define WRAPPING "/kbs/v0/admin/wrapping-key"

static void expect_wrapping(struct judge *j, const char *text)
{
    expect_signed(
        j,
        (struct ask){.route = KBS_ROUTE_ADMIN_WRAPPING_SHOW, .method = "GET", .target = WRAPPING},
        200, text);
}

static void wrapping_rotate(struct judge *j)
{
    expect_signed(
        j, (struct ask){.route = KBS_ROUTE_ADMIN_WRAPPING_ROTATE, .target = WRAPPING "/rotate"},
        200, NULL);
}

static void expect_rewrap(struct judge *j, const char *body, unsigned int status, const char *text)
{
    expect_signed(j,
                  (struct ask){.route = KBS_ROUTE_ADMIN_WRAPPING_REWRAP,
                               .target = WRAPPING "/rewrap",
                               .content_type = "application/json",
                               .body = body},
                  status, text);
}

static void expect_wrapping_destroy(struct judge *j, const char *version, unsigned int status,
                                    const char *text)
{
    char target[128];
    struct ask ask = {.route = KBS_ROUTE_ADMIN_WRAPPING_DESTROY,
                      .method = "DELETE",
                      .target = target,
                      .query = {"version", version}};

    (void)snprintf(target, sizeof(target), WRAPPING "?version=%s", version);
    expect_signed(j, ask, status, text);
}

static void test_destroyed_when_due(void **state)
{
    struct judge *j = *state;

    create(j);
    expect_signed(j, ask_destroy("{\"after_s\":1}"), 200, "\"destroy_at\":1");
    ledger_forget(j);
    ledger_await(j, "outcome=done gone=now");
    ledger_expect(j, "key-destroy phase=intent epoch=3 order=");
    ledger_expect(j, " request="); /* the administrator's, who need not be there */
    ledger_expect_not(j, "admin=");
    expect_signed(j, ask_list(), 200, "\"state\":\"destroyed\"");
}

static void restart(struct judge *j)
{
    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    judge_start(j);
}

static void test_destroyed_at_start(void **state)
{
    struct judge *j = *state;
    struct kbs_key key = judge_new_key("repo/type/due", 1, 0);

    key.state = KBS_KEY_STATE_PENDING;
    key.destroy_at_s = 1;
    judge_put_key(j, &key, NULL);
    restart(j);
    ledger_await(j, "key-destroy phase=outcome epoch=2");
    expect_signed(j, ask_list(), 200, "\"state\":\"destroyed\"");
}

/* What was said with a DELETE holds when the key has moved to another wrapping key since. */
static void test_due_after_rewrap(void **state)
{
    struct judge *j = *state;
    char request[80];
    const char *at = NULL;

    wrapping_rotate(j);
    create_wrapped(j, "repo/type/tag");
    wrapping_rotate(j);
    expect_signed(j, ask_destroy("{\"after_s\":2}"), 200, NULL);
    at = strstr(j->ledger_text, "destroy_at=");
    assert_non_null(at);
    (void)snprintf(request, sizeof(request), "%.72s", strstr(at, "request="));
    expect_rewrap(j, "{}", 200, "\"rewrapped\":1");
    ledger_forget(j);
    ledger_await(j, "outcome=done gone=with wrapping key 2");
    ledger_expect(j, request);
}

/* A row that says so, and that no administrator signed. */
static void test_not_destroyed(void **state)
{
    struct judge *j = *state;
    unsigned int orders = 0;

    create(j);
    orders = j->orders;
    judge_tamper(j, "UPDATE key SET state = 3, destroy_at_s = 1");
    restart(j);
    judge_serve(j, 300);
    assert_int_equal(j->orders, orders);
    ledger_expect_not(j, "key-destroy");
}

/* Nor one that is signed, but from when states were not. */
static void test_cardless_not_destroyed(void **state)
{
    struct judge *j = *state;
    unsigned int orders = 0;

    create(j);
    judge_sign_cardless(j, "repo/type/tag", 1);
    judge_tamper(j, "UPDATE key SET state = 3, destroy_at_s = 1");
    orders = j->orders;
    restart(j);
    judge_serve(j, 300);
    assert_int_equal(j->orders, orders);
    ledger_expect_not(j, "key-destroy");
}

/* A key that cannot be destroyed does not keep the others. */
static void test_due_passes_over(void **state)
{
    struct judge *j = *state;
    struct kbs_key first = judge_new_key("repo/type/first", 1, 0);
    struct kbs_key second = judge_new_key("repo/type/second", 1, 0);

    first.state = second.state = KBS_KEY_STATE_PENDING;
    first.destroy_at_s = 1;
    second.destroy_at_s = 2;
    judge_put_key(j, &first, NULL);
    judge_put_key(j, &second, NULL);
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_UNSUPPORTED;
    j->refuse_detail = "the object says that it is not destroyed";
    restart(j);
    ledger_await(j, "key-destroy phase=outcome epoch=4");
    ledger_expect(j, "path=repo/type/first");
    ledger_expect(j, "path=repo/type/second");
    judge_serve(j, 300);
    ledger_expect_not(j, "epoch=5"); /* until the next round */
}

static void test_rewrap(void **state)
{
    struct judge *j = *state;
    unsigned int orders = 0;

    expect_wrapping(j, "{\"version\":0,\"keys\":{}}");
    wrapping_rotate(j);
    create_wrapped(j, "a/a/a");
    create_wrapped(j, "a/a/b");
    create_wrapped(j, "a/a/c");
    wrapping_rotate(j);
    create_wrapped(j, "a/a/d");
    expect_wrapping(j, "{\"version\":2,\"keys\":{\"1\":3,\"2\":1}}");
    expect_wrapping_destroy(j, "1", 409, "3 keys stand under version 1");
    orders = j->orders;
    expect_rewrap(j, "{\"dry_run\":true}", 200,
                  "{\"rewrapped\":3,\"left\":0,\"version\":2,\"failed\":[]}");
    expect_rewrap(j, "{\"limit\":2,\"dry_run\":true}", 200,
                  "{\"rewrapped\":2,\"left\":1,\"version\":2,\"failed\":[]}");
    assert_int_equal(j->orders, orders);
    expect_rewrap(j, "{\"limit\":0}", 400, "limit");
    expect_rewrap(j, "{\"limit\":101}", 400, "limit");
    expect_rewrap(j, "{\"dry_run\":1}", 400, "dry_run");
    ledger_forget(j);
    expect_rewrap(j, "{\"limit\":2}", 200,
                  "{\"rewrapped\":2,\"left\":1,\"version\":2,\"failed\":[]}");
    ledger_expect(j, "wrapping-key-rewrap phase=intent epoch=7 version=2");
    ledger_expect(j, "op=rewrap kid=a/a/a/v1");
    ledger_expect(j, "wrapping-key-rewrap phase=outcome epoch=7 intent=");
    expect_wrapping(j, "{\"version\":2,\"keys\":{\"1\":1,\"2\":3}}");
    restart(j); /* what is left is seen from the rows */
    expect_rewrap(j, "{}", 200, "{\"rewrapped\":1,\"left\":0,\"version\":2,\"failed\":[]}");
    expect_rewrap(j, "{}", 200, "{\"rewrapped\":0,\"left\":0,\"version\":2,\"failed\":[]}");
    expect_wrapping(j, "{\"version\":2,\"keys\":{\"2\":4}}");

    expect_wrapping_destroy(j, "2", 409, "newest");
    expect_wrapping_destroy(j, "3", 404, NULL);
    expect_wrapping_destroy(j, "0", 400, NULL);
    expect_wrapping_destroy(j, "1", 200, "{\"version\":2,\"keys\":{\"2\":4}}");
    assert_int_equal(j->destroy.purpose, KBS_PURPOSE_WRAP_CATALOG);
    assert_int_equal(j->destroy.key_version, 1);
    ledger_expect(j, "wrapping-key-destroy phase=outcome");
    expect_signed(j, ask_list(), 200, "\"wrapping_key\":2,");
}

static void test_rewrap_other_key(void **state)
{
    struct judge *j = *state;

    wrapping_rotate(j);
    create_wrapped(j, "a/a/a");
    create_wrapped(j, "a/a/b");
    wrapping_rotate(j);
    j->token_mood = TOKEN_OTHER_KEY;
    j->other_key = "a/a/b";
    expect_rewrap(j, "{\"skip\":-1}", 400, "skip");
    expect_rewrap(j, "{}", 200,
                  "{\"rewrapped\":1,\"left\":1,\"version\":2,\"failed\":[{\"path\":\"a/a/b\","
                  "\"version\":1,\"reason\":\"the key has another check value than its row\"}]}");
    ledger_expect(j, "order-failed order=");
    ledger_expect(j, "op=rewrap kid=a/a/b/v1 category=conflict reason=");
    ledger_expect(j, "outcome=done keys=1 failed=1");
    expect_wrapping(j, "\"keys\":{\"1\":1,\"2\":1}}");
    expect_wrapping_destroy(j, "1", 409, "1 keys stand under version 1");
    /* What was there before is passed over; without that there is nothing left to be moved. */
    expect_rewrap(j, "{\"skip\":1}", 200,
                  "{\"rewrapped\":0,\"left\":1,\"version\":2,\"failed\":[]}");
    expect_rewrap(j, "{}", 409,
                  "1 keys cannot be moved, the first is a/a/b/v1: the key has another");
    ledger_expect(j, "outcome=failed");
    j->token_mood = TOKEN_OBEYS;
    expect_rewrap(j, "{}", 200, "{\"rewrapped\":1,\"left\":0,\"version\":2,\"failed\":[]}");

    wrapping_rotate(j);
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_MISSING;
    j->refuse_detail = "no such wrapping key";
    expect_rewrap(j, "{}", 409,
                  "2 keys cannot be moved, the first is a/a/a/v1: no such wrapping key");
    j->refuse_category = KBS_BUSY; /* not the key's fault */
    expect_rewrap(j, "{}", 503, "a/a/a/v1: no such wrapping key");
    j->token_mood = TOKEN_OBEYS;
    expect_rewrap(j, "{}", 200, "\"rewrapped\":2");
}

/* What stands under a wrapping key is told by what is signed. */
static void test_rewrap_erased(void **state)
{
    struct judge *j = *state;

    wrapping_rotate(j);
    create_wrapped(j, "a/a/a");
    wrapping_rotate(j);
    judge_tamper(j, "UPDATE key SET blob = NULL");
    expect_wrapping_destroy(j, "1", 409, "1 keys stand under version 1");
}

/* The token has a newer one than this judge was told of. */
static void test_wrapping_key_unknown(void **state)
{
    struct judge *j = *state;

    wrapping_rotate(j);
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_BUSY;
    j->refuse_detail = "the deed could not be recorded";
    expect_signed(
        j, (struct ask){.route = KBS_ROUTE_ADMIN_WRAPPING_ROTATE, .target = WRAPPING "/rotate"},
        503, NULL);
    ledger_expect(j, "outcome=unknown");
    j->token_mood = TOKEN_OBEYS;
    j->wrap_version = 2; /* it had made it */
    wrapping_rotate(j);
    assert_int_equal(j->generate.key_version, 3);
    expect_wrapping(j, "{\"version\":3,");
}

/* No order that is not in the ledger: the token would record its deed when there is room again. */
static void test_rewrap_without_ledger(void **state)
{
    struct judge *j = *state;
    unsigned int orders = 0;

    wrapping_rotate(j);
    create_wrapped(j, "a/a/a");
    wrapping_rotate(j);
    orders = j->orders;
    j->ledger_mood = LEDGER_FULL;
    j->dies_at = 2; /* the intent is there, the order is not */
    expect_rewrap(j, "{}", 503, NULL);
    assert_int_equal(j->orders, orders);
    j->ledger_mood = LEDGER_WRITES;
    expect_rewrap(j, "{}", 200, "\"rewrapped\":1,");
}

/* A batch ends before the time of its request does. */
static void test_rewrap_slow(void **state)
{
    struct judge *j = *state;
    char path[16];

    wrapping_rotate(j);
    for (int i = 10; i < 22; i++) {
        (void)snprintf(path, sizeof(path), "a/a/%d", i);
        create_wrapped(j, path);
    }
    wrapping_rotate(j);
    j->request_ms = 1000;
    j->order_ms = 100;
    ledger_forget(j);
    expect_rewrap(j, "{}", 200, "\"version\":2,\"failed\":[]}");
    ledger_expect(j, "keys=12 ");
    ledger_expect(j, "outcome=done");
    j->request_ms = 0;
    j->order_ms = 0;
    expect_wrapping(j, "{\"version\":2,\"keys\":{\"1\":");
    expect_rewrap(j, "{}", 200, "\"left\":0,");
    expect_wrapping(j, "{\"version\":2,\"keys\":{\"2\":12}}");
}

static void test_destroy_wrapped(void **state)
{
    struct judge *j = *state;

    wrapping_rotate(j);
    create_wrapped(j, "repo/type/tag");
    expect_signed(j, ask_destroy("{\"after_s\":0}"), 200, "\"gone\":\"with wrapping key 1\"}");
    expect_wrapping(j, "{\"version\":1,\"keys\":{}}");
}

/* The token dies in the middle of a batch; nothing has happened, and the next lane goes on. */
static void test_rewrap_token_lost(void **state)
{
    struct judge *j = *state;

    wrapping_rotate(j);
    create_wrapped(j, "a/a/a");
    create_wrapped(j, "a/a/b");
    wrapping_rotate(j);
    j->token_mood = TOKEN_HANGS_UP;
    expect_rewrap(j, "{}", 503, NULL);
    assert_int_equal(judge_wait(j), KBS_EXIT_STUCK);
    j->token_mood = TOKEN_OBEYS;
    judge_start(j);
    ledger_expect(j, "store-recovered phase=outcome epoch=5 outcome=never");
    expect_rewrap(j, "{}", 200, "{\"rewrapped\":2,\"left\":0,\"version\":2,\"failed\":[]}");
}

/* ---- crashes: the ledger ends where the judge would have died ---- */

static void test_crash_before_outcome(void **state)
{
    struct judge *j = *state;

    create(j);
    crash_at(j, ask_key(KBS_ROUTE_ADMIN_KEY_DISABLE, KEY "/disable", NULL), 2);
    ledger_expect(j, "store-recovered phase=outcome epoch=2 outcome=committed");
    expect_signed(j, ask_list(), 200, "\"state\":\"disabled\"");
    expect_state(j, KBS_ROUTE_ADMIN_KEY_ENABLE, "enable", 200, "\"enabled\"");
}

static void test_crash_in_batch(void **state)
{
    const struct ask rewrap = {.route = KBS_ROUTE_ADMIN_WRAPPING_REWRAP,
                               .target = WRAPPING "/rewrap"};
    struct judge *j = *state;

    wrapping_rotate(j);
    create_wrapped(j, "a/a/a");
    create_wrapped(j, "a/a/b");
    wrapping_rotate(j);
    crash_at(j, rewrap, 3); /* after the first key */
    ledger_expect(j, "store-recovered phase=outcome epoch=5 outcome=never");
    expect_wrapping(j, "\"keys\":{\"1\":2}}");
    crash_at(j, rewrap, 4); /* when all is committed */
    ledger_expect(j, "store-recovered phase=outcome epoch=6 outcome=committed");
    expect_wrapping(j, "\"keys\":{\"2\":2}}");
    expect_rewrap(j, "{}", 200, "{\"rewrapped\":0,\"left\":0,\"version\":2,\"failed\":[]}");
}

static void test_crash_in_destruction(void **state)
{
    struct judge *j = *state;

    create(j);
    j->token_mood = TOKEN_HANGS_UP; /* the key is gone or not: nobody knows */
    expect_signed(j, ask_destroy("{\"after_s\":0}"), 503, NULL);
    assert_int_equal(judge_wait(j), KBS_EXIT_STUCK);
    j->token_mood = TOKEN_REFUSES; /* it was gone */
    j->refuse_category = KBS_MISSING;
    j->refuse_detail = "no such object";
    ledger_forget(j);
    judge_start(j);
    ledger_await(j, "outcome=done gone=now"); /* nobody has to ask again */
    ledger_expect(j, "store-recovered phase=outcome epoch=3 outcome=never");
    expect_signed(j, ask_list(), 200, "\"state\":\"destroyed\"");
}

/*
 * A wrapped key has no object in the token: its deed says that it is destroyed when only the row
 * can make it so. Whatever record the judge dies at, no row is left that releases it.
 */
static void test_crash_in_destruction_wrapped(void **state)
{
    struct judge *j = *state;

    wrapping_rotate(j);
    for (unsigned int record = 2; record <= 5; record++) {
        char path[16];
        char target[64];
        struct ask destroy = ask_destroy("{\"after_s\":0}");

        (void)snprintf(path, sizeof(path), "repo/type/%u", record);
        (void)snprintf(target, sizeof(target), KEYS "/%s", path);
        create_wrapped(j, path);
        destroy.target = target;
        destroy.params[2] = strrchr(path, '/') + 1;
        crash_at(j, destroy, record);
        ledger_await(j, record < 5 ? "outcome=done gone=with wrapping key 1"
                                   : "store-recovered phase=outcome epoch=13 outcome=committed");
        ledger_forget(j);
    }
    expect_wrapping(j, "{\"version\":1,\"keys\":{}}");
}

/* A foreign change of the rows is not blessed by the next honest mutation. */
static void test_foreign_change(void **state)
{
    struct judge *j = *state;

    create(j);
    judge_tamper(j, "UPDATE key SET policy = ''");
    expect_state(j, KBS_ROUTE_ADMIN_KEY_DISABLE, "disable", 503, "not those of its epoch");
    expect_signed(j, ask_create("{\"path\":\"r/t/u\",\"purpose\":\"release\",\"alg\":\"AES\"}"),
                  503, "no key is served");
}

/* A row that an administrator accepted with the store, and that is not signed, is not signed now.
 */
static void test_foreign_row_accepted(void **state)
{
    struct judge *j = *state;

    create(j);
    judge_tamper(j, "UPDATE key SET policy = ''");
    expect_signed(j,
                  (struct ask){.route = KBS_ROUTE_ADMIN_STORE_ACCEPT,
                               .target = "/kbs/v0/admin/store/accept",
                               .content_type = "application/json",
                               .body = "{\"epoch\":1}"},
                  200, "\"serves\":true");
    expect_state(j, KBS_ROUTE_ADMIN_KEY_DISABLE, "disable", 500, NULL);
    expect_signed(j, ask_key(KBS_ROUTE_ADMIN_KEY_ROTATE, KEY "/rotate", NULL), 500, NULL);
}

static void test_caps(void **state)
{
    struct judge *j = *state;
    const struct ask ask = {
        .route = KBS_ROUTE_ADMIN_TOKEN_CAPS, .method = "GET", .target = "/kbs/v0/admin/token/caps"};

    expect_signed(
        j, ask, 200,
        "\"class\":\"software\"},\"cells\":[{\"rung\":\"JOSE-chain\",\"format\":\"jose\",\"key\":"
        "\"P-256\",\"bytes\":32,\"result\":\"passed\",\"locality\":\"token\",\"reason\":\"\"},{");
    expect_signed(j, ask, 200,
                  "\"reason\":\"C_DeriveKey: CKR_MECHANISM_INVALID\"}],"
                  "\"notes\":[\"no \\\"HKDF\\\" here\"]}");
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

/* ---- secrets ---- */

#define SECRET "/kbs/v0/admin/secrets/repo/type/tag"
#define PLAINTEXT "{\"plaintext\":\"aGVsbG8\",\"policy\":" POLICY "}"

static struct ask ask_secret(enum kbs_route route, const char *method, const char *body)
{
    return (struct ask){.route = route,
                        .method = method,
                        .target = SECRET,
                        .params = {"repo", "type", "tag"},
                        .content_type = body != NULL ? "application/json" : NULL,
                        .body = body};
}

static struct ask ask_secret_set(const char *body)
{
    return ask_secret(KBS_ROUTE_ADMIN_SECRET_SET, "POST", body);
}

static struct ask ask_secret_list(void)
{
    return (struct ask){
        .route = KBS_ROUTE_ADMIN_SECRET_LIST, .method = "GET", .target = "/kbs/v0/admin/secrets"};
}

static void expect_page(struct judge *j, struct ask ask, const char *after, const char *limit,
                        unsigned int status, const char *text)
{
    char target[256];

    (void)snprintf(target, sizeof(target), "%s?%s%s%slimit=%s", ask.target,
                   after != NULL ? "after=" : "", after != NULL ? after : "",
                   after != NULL ? "&" : "", limit);
    ask.target = target;
    ask.query[0] = "limit";
    ask.query[1] = limit;
    ask.query[2] = after != NULL ? "after" : NULL;
    ask.query[3] = after;
    expect_signed(j, ask, status, text);
}

static void test_pages(void **state)
{
    struct judge *j = *state;

    judge_add_key(j, "a/a/a", 1, NULL);
    judge_add_key(j, "a/a/a", 2, NULL);
    judge_add_key(j, "a/a/b", 1, NULL);
    judge_add_secret(j, "s/s/a", 1, NULL);
    judge_add_secret(j, "s/s/b", 1, NULL);
    restart(j);
    expect_signed(j, ask_list(), 200, "],\"more\":false}");
    expect_page(j, ask_list(), NULL, "2", 200, "],\"more\":true}");
    expect_page(j, ask_list(), "a/a/a/v1", "1", 200,
                "{\"keys\":[{\"path\":\"a/a/a\",\"version\":2,");
    expect_page(j, ask_list(), "a/a/a/v2", "1", 200, "],\"more\":false}");
    expect_page(j, ask_list(), "a/a/a/v2", "1", 200, "{\"keys\":[{\"path\":\"a/a/b\",");
    expect_page(j, ask_list(), "a/a/b/v1", "1", 200, "{\"keys\":[],\"more\":false}");
    expect_page(j, ask_list(), "a/a/a", "1", 400, "after");
    expect_page(j, ask_list(), NULL, "0", 400, "limit");
    expect_page(j, ask_list(), NULL, "1001", 400, "limit");
    expect_page(j, ask_secret_list(), NULL, "1", 200, "\"path\":\"s/s/a\",");
    expect_page(j, ask_secret_list(), NULL, "1", 200, "],\"more\":true}");
    expect_page(j, ask_secret_list(), "s/s/a", "1", 200, "\"path\":\"s/s/b\",");
    expect_page(j, ask_secret_list(), "s/s/a", "1", 200, "],\"more\":false}");
    expect_page(j, ask_secret_list(), "s/s", "1", 400, "after");
}

static void test_secrets(void **state)
{
    struct judge *j = *state;
    struct ask show = ask_secret(KBS_ROUTE_ADMIN_SECRET_SHOW, "GET", NULL);
    struct ask delete = ask_secret(KBS_ROUTE_ADMIN_SECRET_DELETE, "DELETE", NULL);

    expect_signed(j, show, 404, NULL);
    expect_signed(j, ask_secret_set(PLAINTEXT), 200, "\"version\":1,");
    assert_true(kbs_span_equal_str(j->seal.plaintext, "hello"));
    assert_int_equal(j->seal.ciphertext.len, 0);
    ledger_expect(j, "form=plaintext");
    ledger_expect(j, "outcome=done");
    expect_signed(j, ask_secret_set("{\"plaintext\":\"aGVsbG8\"}"), 200, "\"version\":2,");
    expect_signed(j, show, 200, "\"claim\":\"kbs.tee\""); /* the policy that it had */
    expect_signed(j, ask_secret_list(), 200, "\"version\":2,");
    expect_signed(j, ask_create(CREATE), 409, "a secret has this path");
    expect_signed(j, delete, 200, "\"state\":\"destroyed\"");
    ledger_expect(j, "secret-delete");
    expect_signed(j, ask_secret_list(), 200, "{\"secrets\":[],\"more\":false}");
    expect_signed(j, delete, 404, NULL);
    expect_signed(j, ask_secret_set("{\"plaintext\":\"aGVsbG8\"}"), 200, "\"policy\":null");
    assert_int_equal(j->orders, 3);
}

static void test_secret_refusals(void **state)
{
    static const char *const bad[] = {
        "{}",
        "{\"plaintext\":\"\"}",
        "{\"plaintext\":\"aGVsbG8=\"}",
        "{\"plaintext\":7}",
        "{\"plaintext\":\"aGVsbG8\",\"jwe\":{}}",
        "{\"plaintext\":\"aGVsbG8\",\"floor\":\"token\"}",
        "{\"jwe\":{}}",
        "{\"plaintext\":\"aGVsbG8\",\"policy\":{\"version\":\"9\"}}",
    };
    struct judge *j = *state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        expect_signed(j, ask_secret_set(bad[i]), 400, NULL);
    }
    assert_int_equal(j->orders, 0);
    judge_add_key(j, "repo/type/tag", 1, NULL);
    expect_signed(j, ask_secret_set(PLAINTEXT), 409, "a key has this path");
    assert_int_equal(j->orders, 0);
}

/* The token does not do it, or does something else: there is no secret, and the ledger says so. */
static void test_secret_token_fails(void **state)
{
    struct judge *j = *state;

    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_UNPROCESSABLE;
    j->refuse_detail = "the sealed secret does not open";
    expect_signed(j, ask_secret_set(PLAINTEXT), 422, "does not open");
    ledger_expect(j, "outcome=failed");
    j->token_mood = TOKEN_DISOBEYS;
    expect_signed(j, ask_secret_set(PLAINTEXT), 500, NULL);
    ledger_expect(j, "does not describe the secret");
    j->token_mood = TOKEN_OBEYS;
    expect_signed(j, ask_secret_list(), 200, "{\"secrets\":[],\"more\":false}");
    expect_signed(j, ask_secret_set(PLAINTEXT), 200, "\"version\":1,");
}

static void test_secret_in_production(void **state)
{
    struct judge *j = *state;

    expect_signed(j, ask_secret_set(PLAINTEXT), 403, "sealed by the client");
    assert_int_equal(j->orders, 0);
}

/* ---- the end ---- */

/* The last head of a drain, however its beginning is noticed; and none if there is nothing new. */
/* ---- the seal key ---- */

#define SEAL_KEY "/kbs/v0/admin/seal-key"

static void expect_seal_key(struct judge *j, const char *text)
{
    expect_signed(
        j, (struct ask){.route = KBS_ROUTE_ADMIN_SEAL_KEY, .method = "GET", .target = SEAL_KEY},
        200, text);
}

static void seal_rotate(struct judge *j)
{
    expect_signed(j,
                  (struct ask){.route = KBS_ROUTE_ADMIN_SEAL_ROTATE, .target = SEAL_KEY "/rotate"},
                  200, "\"thumbprint\":");
    assert_int_equal(j->generate.purpose, KBS_PURPOSE_SEAL);
}

static void expect_reseal(struct judge *j, const char *body, unsigned int status, const char *text)
{
    expect_signed(j,
                  (struct ask){.route = KBS_ROUTE_ADMIN_SEAL_RESEAL,
                               .target = SEAL_KEY "/reseal",
                               .content_type = "application/json",
                               .body = body},
                  status, text);
}

static void expect_seal_destroy(struct judge *j, const char *version, unsigned int status,
                                const char *text)
{
    char target[128];
    struct ask ask = {.route = KBS_ROUTE_ADMIN_SEAL_DESTROY,
                      .method = "DELETE",
                      .target = target,
                      .query = {"version", version}};

    (void)snprintf(target, sizeof(target), SEAL_KEY "?version=%s", version);
    expect_signed(j, ask, status, text);
}

static void test_seal_key(void **state)
{
    struct judge *j = *state;

    expect_seal_key(j, "\"version\":1,\"secrets\":{}}");
    expect_signed(j, ask_secret_set(PLAINTEXT), 200, "\"seal_key\":1,");
    expect_signed(j, ask_secret_set(PLAINTEXT), 200, "\"seal_key\":1,");
    seal_rotate(j);
    ledger_expect(j, "seal-key-generate phase=intent epoch=3 order=");
    ledger_expect(j, "outcome=done thumbprint=");
    expect_signed(j, ask_secret_set(PLAINTEXT), 200, "\"seal_key\":2,");
    expect_seal_key(j, "\"version\":2,\"secrets\":{\"1\":2,\"2\":1}}");
    expect_seal_destroy(j, "1", 409, "2 secrets stand under version 1, see reseal");
    expect_reseal(j, "{\"limit\":17}", 400, "limit");
    expect_reseal(j, "{\"dry_run\":true}", 200,
                  "{\"resealed\":2,\"left\":0,\"version\":2,\"failed\":[]}");
    /* Every version of a secret is moved, since it can be asked for no more but is kept. */
    expect_reseal(j, "{\"limit\":1}", 200,
                  "{\"resealed\":1,\"left\":1,\"version\":2,\"failed\":[]}");
    assert_true(kbs_span_equal_str(j->reseal.kid, "repo/type/tag/v1"));
    assert_true(kbs_span_equal_str(j->reseal.sealed, JUDGE_SEALED));
    ledger_expect(j, "seal-key-reseal phase=intent");
    ledger_expect(j, "op=reseal kid=repo/type/tag/v1");
    ledger_expect(j, "outcome=done secrets=1 failed=0");
    restart(j);
    expect_reseal(j, "{}", 200, "{\"resealed\":1,\"left\":0,\"version\":2,\"failed\":[]}");
    expect_seal_key(j, "\"version\":2,\"secrets\":{\"2\":3}}");

    expect_seal_destroy(j, "2", 409, "newest");
    expect_seal_destroy(j, "1", 200, "\"version\":2,\"secrets\":{\"2\":3}}");
    assert_int_equal(j->destroy.purpose, KBS_PURPOSE_SEAL);
    assert_int_equal(j->destroy.key_version, 1);
    ledger_expect(j, "seal-key-destroy phase=outcome");
    seal_rotate(j); /* what was moved once can be moved again */
    expect_reseal(j, "{}", 200, "{\"resealed\":3,\"left\":0,\"version\":3,\"failed\":[]}");
}

static void test_reseal_fails(void **state)
{
    const struct ask reseal = {.route = KBS_ROUTE_ADMIN_SEAL_RESEAL, .target = SEAL_KEY "/reseal"};
    struct judge *j = *state;

    expect_signed(j, ask_secret_set(PLAINTEXT), 200, NULL);
    seal_rotate(j);
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_UNSUPPORTED;
    j->refuse_detail = "the seal key is gone";
    expect_reseal(j, "{}", 409,
                  "1 secrets cannot be moved, the first is repo/type/tag/v1: the seal");
    ledger_expect(j, "order-failed order=");
    j->token_mood = TOKEN_OBEYS;
    crash_at(j, reseal, 3); /* it is moved, and nobody was told */
    expect_seal_key(j, "\"secrets\":{\"2\":1}}");
    expect_reseal(j, "{}", 200, "\"resealed\":0,\"left\":0,");
}

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
    judge_serve_messages(j, 3); /* HEAD_WANT, SIGN_HEAD, APPEND */
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    assert_int_equal(j->heads, 2);

    judge_start(j);
    judge_expect(j, &ask, 401, NULL);
    kbs_io_close(&j->front); /* as when its lane is recycled */
    judge_serve_messages(j, 3);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    assert_int_equal(j->heads, 3);
}

static void test_no_head_of_nothing(void **state)
{
    struct judge *j = *state;
    struct kbs_error err = KBS_ERROR_NONE;

    expect_signed(j, ask_create(CREATE), 200, NULL);
    assert_int_equal(
        kbs_channel_send(j->control, KBS_WIRE_DRAIN, 0, NULL, -1, KBS_DEADLINE_NONE, &err), 0);
    judge_serve_messages(j, 1); /* HEAD_WANT: it is that of the last head */
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

static void restart_afresh(struct judge *j)
{
    restart(j);
    ledger_forget(j);
}

/* One key, epoch 1, beside a ledger that has come to epoch 5. */
static void make_stale(struct judge *j)
{
    judge_add_key(j, "repo/type/kept", 1, POLICY);
    j->epoch = 5;
    restart_afresh(j);
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
    restart_afresh(j);
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
    restart_afresh(j);
    expect_signed(j, ask_store(), 200, "the store's epoch is not signed by this service");
    expect_signed(j, ask_accept("{\"epoch\":3}"), 200, "\"serves\":true,\"epoch\":2");
    ledger_expect(j, "reason=the store's epoch is not signed by this service");
    judge_tamper(j, "DELETE FROM key");
    restart_afresh(j);
    expect_signed(j, ask_store(), 200, "the store's rows are not those of its epoch");
    expect_signed(j, ask_accept("{\"epoch\":2}"), 200, "\"serves\":true,\"epoch\":3");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, judge_setup_admin, judge_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_secrets),
        CASE(test_secret_refusals),
        CASE(test_secret_token_fails),
        CASE(test_seal_key),
        CASE(test_reseal_fails),
        cmocka_unit_test_setup_teardown(test_secret_in_production, judge_setup_production,
                                        judge_teardown),
        CASE(test_create_list_show),
        CASE(test_create_refusals),
        CASE(test_queries_unknown),
        CASE(test_create_token_refuses),
        CASE(test_create_token_down),
        CASE(test_create_token_lost),
        CASE(test_intent_before_deed),
        CASE(test_import_key),
        CASE(test_import),
        CASE(test_create_classes),
        CASE(test_made_otherwise),
        CASE(test_rotate),
        CASE(test_import_next),
        CASE(test_adopt),
        CASE(test_policy),
        CASE(test_states),
        CASE(test_destroy_refused),
        CASE(test_destroyed_when_due),
        CASE(test_destroyed_at_start),
        CASE(test_due_after_rewrap),
        CASE(test_cardless_not_destroyed),
        CASE(test_due_passes_over),
        CASE(test_rewrap_erased),
        CASE(test_wrapping_key_unknown),
        CASE(test_rewrap_slow),
        CASE(test_rewrap_without_ledger),
        CASE(test_pages),
        CASE(test_not_destroyed),
        CASE(test_rewrap),
        CASE(test_rewrap_other_key),
        CASE(test_destroy_wrapped),
        CASE(test_rewrap_token_lost),
        CASE(test_crash_before_outcome),
        CASE(test_crash_in_batch),
        CASE(test_crash_in_destruction),
        CASE(test_crash_in_destruction_wrapped),
        CASE(test_foreign_change),
        CASE(test_foreign_row_accepted),
        CASE(test_caps),
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
