/*
 * The judge of a guest lane: the handshake, key release, and everything that must be refused. The
 * judge is the real one; token, ledger and front are the harness.
 */
#include "harness.h"

#include <fcntl.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/encoding.h"
#include "base/io.h"
#include "base/process.h"
#include "base/terms.h"

#define ALLOW                                        \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[" \
    "{\"claim\":\"kbs.tee\",\"equals\":\"sample\"}]}]}"
#define REFUSE \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[{\"claim\":\"kbs.tee\",\"equals\":\"snp\"}]}]}"

static struct ask ask_key(const char *tag)
{
    return (struct ask){.route = KBS_ROUTE_KEY_RELEASE,
                        .target = "/kbs/v0/key/default/disk/one",
                        .params = {"default", "disk", tag}};
}

static void add_keys(struct judge *j)
{
    judge_add_key(j, "default/disk/one", 1, ALLOW);
    judge_add_key(j, "default/disk/one", 2, ALLOW);
    judge_add_key(j, "default/disk/refused", 1, REFUSE);
    judge_add_key(j, "default/disk/bare", 1, NULL);
}

/* ---- handshake ---- */

static void expect_auth(struct judge *j, const char *body, unsigned int status, const char *text)
{
    const struct ask ask = {
        .route = KBS_ROUTE_AUTH, .content_type = "application/json", .body = body};

    judge_expect(j, &ask, status, text);
}

static void test_auth_refusals(void **state)
{
    struct judge *j = *state;
    struct ask form = {.route = KBS_ROUTE_AUTH,
                       .content_type = "text/plain",
                       .body = "{\"version\":\"0.4.0\",\"tee\":\"sample\",\"extra-params\":\"\"}"};

    expect_auth(j, "{\"version\":\"0.4.1\",\"tee\":\"sample\",\"extra-params\":\"\"}", 401,
                "KBS Client Protocol Version Mismatch: expect =0.4.0 while the request is 0.4.1");
    expect_auth(j, "{\"version\":\"0.4.1\",\"tee\":\"sample\",\"extra-params\":\"\"}", 401,
                "/errors/AttestationError");
    expect_auth(j, "{\"version\":\"0.4.0\",\"tee\":\"toaster\",\"extra-params\":\"\"}", 401,
                "unknown");
    expect_auth(j, "{\"version\":\"0.4.0\",\"tee\":\"sample\"", 400, NULL);
    expect_auth(
        j, "{\"version\":\"0.4.0\",\"tee\":\"sample\",\"tee\":\"sample\",\"extra-params\":\"\"}",
        400, "duplicate");
    expect_auth(j, "{\"version\":\"0.4.0\",\"tee\":\"sample\"}", 400, "extra-params");
    expect_auth(j, "", 400, NULL);
    judge_expect(j, &form, 400, "Content-Type");
    assert_int_equal(j->records, 0); /* nothing of this is worth a record */
}

static void test_sample_off(void **state)
{
    struct judge *j = *state;

    expect_auth(j, "{\"version\":\"0.4.0\",\"tee\":\"sample\",\"extra-params\":\"\"}", 401,
                "unknown or unsupported tee");
}

static void expect_attest(struct judge *j, const char *cookie, const char *body,
                          unsigned int status, const char *text)
{
    const struct ask ask = {.route = KBS_ROUTE_ATTEST,
                            .content_type = "application/json",
                            .cookie = cookie,
                            .body = body};

    judge_expect(j, &ask, status, text);
}

static void test_attest_cookie_and_nonce(void **state)
{
    struct judge *j = *state;
    struct guest one = {.key = NULL};
    struct guest two = {.key = NULL};
    char evidence[4096];

    guest_auth(j, &one);
    guest_auth(j, &two);
    guest_evidence(&one, evidence, sizeof(evidence));
    expect_attest(j, NULL, evidence, 401, "Attestation error: RCAR handshake Attest failed");
    expect_attest(j, "zz", evidence, 401, "malformed");
    expect_attest(j, "00112233445566778899aabbccddeeff", evidence, 401, "no such session");
    expect_attest(j, two.cookie, evidence, 401, "not the session's"); /* another session's cookie */
    assert_int_equal(j->records, 0);

    guest_attest(j, &one);
    guest_evidence(&one, evidence, sizeof(evidence));
    expect_attest(j, one.cookie, evidence, 401, "nonce already used"); /* replayed */
    ledger_expect(j, "attest outcome=attested");
    assert_int_equal(j->records, 1);
    guest_free(&one);
    guest_free(&two);
}

/* Replaces the first `from` in the guest's evidence by `to` and expects the status. */
static void expect_evidence(struct judge *j, struct guest *g, const char *from, const char *to,
                            unsigned int status, const char *text)
{
    char good[4096];
    char bad[4096];
    char *at;

    guest_evidence(g, good, sizeof(good));
    at = strstr(good, from);
    assert_non_null(at);
    (void)snprintf(bad, sizeof(bad), "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    expect_attest(j, g->cookie, bad, status, text);
}

static void test_attest_messages(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    char y[64];
    struct kbs_buf text = KBS_BUF(63);

    guest_auth(j, &g);
    expect_evidence(j, &g, "{", "[", 400, NULL);
    expect_evidence(j, &g, "\"init-data\":null", "\"init-data\":null,\"init-data\":null", 400,
                    "duplicate");
    expect_evidence(j, &g, "\"kty\":\"EC\"", "\"kty\":\"EC\",\"kty\":\"EC\"", 400, "duplicate");
    expect_evidence(j, &g, "\"crv\":\"P-256\"", "\"crv\":\"P-384\"", 400,
                    NULL); /* coordinates too short */
    expect_evidence(j, &g, "\"crv\":\"P-256\"", "\"crv\":\"secp256k1\"", 422, NULL);
    expect_evidence(j, &g, "\"alg\":\"ECDH-ES+A256KW\"", "\"alg\":\"dir\"", 422, NULL);
    assert_int_equal(j->records, 0);

    kbs_base64url_put(&text, kbs_ec_y(&g.public.ec));
    assert_true(kbs_span_to_cstr(kbs_buf_span(&text), y, sizeof(y)));
    kbs_buf_deinit(&text);
    expect_evidence(j, &g, y, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 422,
                    NULL); /* off the curve */
    assert_int_equal(j->records, 0);

    /*
     * Nothing of this used the nonce up; nor does evidence for something else, which is recorded.
     */
    g.digest.p[0] ^= 1;
    expect_evidence(j, &g, "{", "{", 401, "Attestation error: RCAR handshake Attest failed");
    ledger_expect(j, "attest-refused outcome=refused");
    assert_int_equal(j->records, 1);
    assert_int_equal(j->orders, 0);
    guest_free(&g);
}

static void test_attest_other_key(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct guest other = {.key = NULL};
    char evidence[4096];

    /* The digest in the evidence is over g's key; the message names another. */
    guest_auth(j, &g);
    guest_auth(j, &other);
    g.public = other.public;
    guest_evidence(&g, evidence, sizeof(evidence));
    expect_attest(j, g.cookie, evidence, 401, "Attest failed");
    ledger_expect(j, "outcome=refused");
    guest_free(&g);
    guest_free(&other);
}

/* Anyone can send evidence that does not hold: it must not fill the ledger, nor keep others out. */
static void test_attest_token_fails(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    char evidence[4096];

    guest_auth(j, &g);
    guest_evidence(&g, evidence, sizeof(evidence));
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_BUSY;
    j->refuse_detail = "later";
    expect_attest(j, g.cookie, evidence, 503, "later");
    ledger_expect(j, "attest outcome=attested");
    ledger_expect(j, "attest outcome=failed");
    j->token_mood = TOKEN_OBEYS;
    expect_attest(j, g.cookie, evidence, 200, "token"); /* the nonce was not used up */
    guest_free(&g);
}

/* ---- key release ---- */

static void assert_tee_key(const struct judge *j, const struct guest *g)
{
    uint8_t bytes[KBS_TEE_KEY_MAX_BYTES];
    size_t n = kbs_tee_key_put(&g->public, bytes);

    assert_true(kbs_span_equal(j->release.tee_key, kbs_span(bytes, n)));
}

static void check_order(struct judge *j, const struct guest *g, const char *kid,
                        enum kbs_format format)
{
    static const uint8_t zeros[32] = {0};
    uint8_t party_v[32];

    kbs_party_v(kbs_digest_span(&g->digest), zeros, party_v);
    assert_true(kbs_span_equal_str(j->release.kid, kid));
    assert_tee_key(j, g);
    assert_int_equal(j->release.card.len, KBS_CARD_BYTES);
    assert_true(kbs_span_equal(j->release.party_v, kbs_span(party_v, sizeof(party_v))));
    assert_int_equal(j->release.floor, KBS_LOCALITY_TRANSPORT);
    assert_int_equal(j->release.formats.p[0], format);
    assert_int_equal(j->release.empty_context, 0);
}

static void expect_release(struct judge *j, const struct ask *ask, const char *type)
{
    struct reply *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    judge_ask(j, ask, r);
    if (r->status != 200) {
        print_error("release: %u %s\n", r->status, r->body);
        fail();
    }
    assert_string_equal(r->body, JUDGE_TOKEN_BODY); /* the token's words, unread */
    assert_string_equal(r->type, type);
    assert_string_equal(r->cookie, "");
    free(r);
}

static void test_release(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");

    add_keys(j);
    guest_attest(j, &g);
    ledger_forget(j);
    ask.cookie = g.cookie;
    expect_release(j, &ask, "application/jose+json");
    check_order(j, &g, "default/disk/one/v2", KBS_FORMAT_JOSE);
    assert_int_equal(j->release.order.len, KBS_LIMIT_ORDER_BYTES);
    ledger_expect(j, "release order=");
    ledger_expect_not(j, "release-failed"); /* the rest of it is the deed, which is the token's */

    ask.cookie = NULL;
    ask.authorization = g.bearer;
    ask.accept = "application/cose; cose-type=\"cose-encrypt\", application/jose+json;q=0.5";
    ask.query[0] = "version";
    ask.query[1] = "1";
    expect_release(j, &ask, "application/cose; cose-type=\"cose-encrypt\"");
    check_order(j, &g, "default/disk/one/v1", KBS_FORMAT_COSE);
    assert_int_equal(j->release.formats.len, 2);
    assert_int_equal(j->release.formats.p[1], KBS_FORMAT_JOSE);

    ask.cookie = g.cookie; /* both, and they agree */
    expect_release(j, &ask, "application/cose; cose-type=\"cose-encrypt\"");
    guest_free(&g);
}

static void test_release_nonce_salt_context(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");
    uint8_t nonce[32];
    uint8_t party_v[32];

    add_keys(j);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    ask.content_type = "application/json; charset=utf-8";
    ask.body = "{\"nonce\":\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\",\"salt\":\"AgI\"}";
    ask.query[0] = "context";
    ask.query[1] = "none";
    expect_release(j, &ask, "application/jose+json");
    memset(nonce, 1, sizeof(nonce));
    kbs_party_v(kbs_digest_span(&g.digest), nonce, party_v);
    assert_true(kbs_span_equal(j->release.party_v, kbs_span(party_v, sizeof(party_v))));
    assert_int_equal(j->release.empty_context, 1);
    assert_int_equal(j->release.salt.len, 2);
    guest_free(&g);
}

static void expect_accept(struct judge *j, struct ask *ask, const char *accept, const char *formats)
{
    ask->accept = accept;
    judge_expect(j, ask, 200, NULL);
    assert_int_equal(j->release.formats.len, strlen(formats));
    for (size_t i = 0; i < strlen(formats); i++) {
        assert_int_equal(j->release.formats.p[i],
                         formats[i] == 'J' ? KBS_FORMAT_JOSE : KBS_FORMAT_COSE);
    }
}

static void test_release_accept(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");
    static const char *const unacceptable[] = {"text/html",
                                               "application/jose+json;q=0",
                                               "application/cose;cose-type=cose-encrypt0",
                                               "application/jose+json;q=2",
                                               "application/jose+json;q=x",
                                               "application/jose+json;q=0.1234",
                                               ",,;;=",
                                               NULL};

    add_keys(j);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    expect_accept(j, &ask, NULL, "J");
    expect_accept(j, &ask, "*/*", "J");
    expect_accept(j, &ask, "application/*", "J");
    expect_accept(j, &ask, "text/html, */*;q=0.1", "J");
    expect_accept(j, &ask, "application/jose+json, application/cose", "JC");
    expect_accept(j, &ask, "application/cose, application/jose+json", "CJ");
    expect_accept(j, &ask, "application/jose+json;q=0.3, application/cose;q=0.301", "CJ");
    expect_accept(j, &ask, "APPLICATION/COSE ; Q=1.000", "C");
    expect_accept(j, &ask, "application/jose+json;q=0, application/cose;q=0.001, */*", "C");
    for (size_t i = 0; unacceptable[i] != NULL; i++) {
        ask.accept = unacceptable[i];
        judge_expect(j, &ask, 400, "Accept");
    }
    guest_free(&g);
}

static void test_release_unattested(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");
    struct reply *there = calloc(1, sizeof(*there));
    struct reply *missing = calloc(1, sizeof(*missing));

    assert_non_null(there);
    assert_non_null(missing);
    add_keys(j);
    guest_auth(j, &g);
    for (int i = 0; i < 2; i++) { /* without anything, then with a session that has not attested */
        ask.cookie = i == 0 ? NULL : g.cookie;
        ask.params[2] = "one";
        judge_ask(j, &ask, there);
        ask.params[2] = "none-such";
        judge_ask(j, &ask, missing);
        assert_int_equal(there->status, 401);
        assert_memory_equal(there, missing, sizeof(*there)); /* nothing to learn from */
        assert_non_null(strstr(there->body, "/errors/TokenNotFound"));
    }
    ask.params[2] = "..";
    judge_expect(j, &ask, 401, NULL); /* not even whether the path is one */
    assert_int_equal(j->orders, 0);
    assert_int_equal(j->records, 0);
    free(there);
    free(missing);
    guest_free(&g);
}

static void expect_bearer(struct judge *j, const char *authorization, const char *text)
{
    struct ask ask = ask_key("one");

    ask.authorization = authorization;
    judge_expect(j, &ask, 401, text);
}

/* The guest's claims with one text replaced, signed by `key` under the token's kid (or `kid`). */
static void expect_claims(struct judge *j, struct guest *g, EVP_PKEY *key, const char *kid,
                          const char *from, const char *to)
{
    struct kbs_ec_public public = key_public(j->sign, KBS_CURVE_P256);
    struct kbs_buf claims = KBS_BUF(8191);
    char real_kid[44];
    char jws[8192];
    char bearer[8200];
    const char *dot = strchr(g->token, '.');
    struct kbs_span payload = kbs_span(dot + 1, (size_t)(strchr(dot + 1, '.') - dot - 1));
    char *at;

    assert_int_equal(kbs_base64url_get(&claims, payload), 0);
    at = strstr(kbs_buf_cstr(&claims), from);
    assert_non_null(at);
    struct kbs_buf changed = KBS_BUF(8191);
    kbs_buf_printf(&changed, "%.*s%s%s", (int)(at - (char *)claims.p), (char *)claims.p, to,
                   at + strlen(from));
    kbs_jose_thumbprint(&public, real_kid);
    jws_sign(key, kid != NULL ? kid : real_kid, "JWT", kbs_buf_cstr(&changed), jws, sizeof(jws));
    (void)snprintf(bearer, sizeof(bearer), "Bearer %s", jws);
    expect_bearer(j, bearer, "/errors/TokenVerifierError");
    kbs_buf_deinit(&claims);
    kbs_buf_deinit(&changed);
}

static void test_release_bad_tokens(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    EVP_PKEY *forger = key_new("P-256");
    char text[9000];
    char expiry[64];
    int64_t now = kbs_clock_unix_s();

    add_keys(j);
    guest_attest(j, &g);
    expect_bearer(j, "Bearer ", NULL);
    expect_bearer(j, "Basic YTpi", NULL);
    expect_bearer(j, "Bearer a.b.c", NULL);
    (void)snprintf(text, sizeof(text), "Bearer %sA",
                   g.token); /* a signature one character longer */
    expect_bearer(j, text, NULL);
    (void)snprintf(text, sizeof(text), "Bearer eyJhbGciOiJub25lIn0.%s", strchr(g.token, '.') + 1);
    expect_bearer(j, text, "one of ours"); /* alg none */
    (void)snprintf(text, sizeof(text), "%s", g.bearer);
    text[strlen(text) - 10] = text[strlen(text) - 10] == 'A' ? 'B' : 'A';
    expect_bearer(j, text, NULL);

    expect_claims(j, &g, forger, NULL, "iss", "iss"); /* forged: our kid, another key */
    expect_claims(j, &g, j->sign, "another", "iss", "iss");
    expect_claims(j, &g, j->sign, NULL, JUDGE_ISSUER, "somebody");
    (void)snprintf(expiry, sizeof(expiry), "\"exp\":%lld,\"x\":", (long long)now - 1);
    expect_claims(j, &g, j->sign, NULL, "\"exp\":", expiry); /* expired a second ago */
    expect_claims(j, &g, j->sign, NULL, "\"sid\":\"", "\"sid\":\"00");
    expect_claims(j, &g, j->sign, NULL, "\"sid\":", "\"other\":");
    assert_int_equal(j->orders, 0);

    struct ask ask = ask_key("one");
    ask.authorization = g.bearer; /* the real one still works */
    expect_release(j, &ask, "application/jose+json");
    EVP_PKEY_free(forger);
    guest_free(&g);
}

static void test_release_two_sessions(void **state)
{
    struct judge *j = *state;
    struct guest one = {.key = NULL};
    struct guest two = {.key = NULL};
    struct ask ask = ask_key("one");

    add_keys(j);
    guest_attest(j, &one);
    guest_attest(j, &two);
    ask.authorization = one.bearer;
    ask.cookie = two.cookie;
    judge_expect(j, &ask, 401, "two sessions");
    ask.cookie = "00112233445566778899aabbccddeeff";
    judge_expect(j, &ask, 401, NULL);
    ask.authorization = "Bearer x"; /* a good cookie does not excuse a bad token */
    ask.cookie = two.cookie;
    judge_expect(j, &ask, 401, NULL);
    assert_int_equal(j->orders, 0);

    ask.authorization = NULL; /* each session gets its own key only */
    expect_release(j, &ask, "application/jose+json");
    assert_tee_key(j, &two);
    guest_free(&one);
    guest_free(&two);
}

static void test_release_refusals(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("none-such");

    add_keys(j);
    guest_attest(j, &g);
    ledger_forget(j);
    ask.cookie = g.cookie;
    judge_expect(j, &ask, 404, "no such key");
    ask.params[2] = "one";
    ask.query[0] = "version";
    ask.query[1] = "3";
    judge_expect(j, &ask, 404, NULL);
    ledger_expect_not(j, "release");

    ask.query[0] = NULL;
    ask.params[2] = "bare"; /* no policy */
    judge_expect(j, &ask, 403, "/errors/PolicyDeny");
    ledger_expect(j, "release-denied session=");
    ledger_expect(j, "kid=default/disk/bare/v1");
    ledger_forget(j);
    ask.params[2] = "refused";
    judge_expect(j, &ask, 403, "kbs.tee"); /* says why */
    ledger_expect(j, "release-denied");
    ledger_expect(j, "category=denied reason=");
    assert_int_equal(j->orders, 0);
    guest_free(&g);
}

static void expect_bad(struct judge *j, struct ask ask, const char *text)
{
    judge_expect(j, &ask, 400, text);
}

static void test_release_syntax(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    static const char *const versions[] = {"0",          "01",          "-1", "1x", "",
                                           "4294967296", "99999999999", "+1", " 1", NULL};
    static const char *const bodies[] = {"[]",
                                         "{",
                                         "{\"nonce\":1}",
                                         "{\"nonce\":\"\"}",
                                         "{\"nonce\":\"AQ\"}",
                                         "{\"salt\":\"AB\"}", /* bits left over */
                                         "{\"salt\":\"AgI=\"}",
                                         "{\"salt\":\"AgI\",\"salt\":\"AgI\"}",
                                         "{\"kek\":\"AgI\"}",
                                         NULL};
    struct ask ask = ask_key("one");

    add_keys(j);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    for (size_t i = 0; versions[i] != NULL; i++) {
        struct ask bad = ask;

        bad.query[0] = "version";
        bad.query[1] = versions[i];
        expect_bad(j, bad, "version");
    }
    for (size_t i = 0; bodies[i] != NULL; i++) {
        struct ask bad = ask;

        bad.body = bodies[i];
        bad.content_type = "application/json";
        expect_bad(j, bad, NULL);
    }
    struct ask bad = ask;
    bad.body = "{}"; /* without a type */
    expect_bad(j, bad, "Content-Type");
    bad = ask;
    bad.query[0] = "context";
    bad.query[1] = "some";
    expect_bad(j, bad, "context");
    bad.query[0] = "surprise";
    expect_bad(j, bad, "unknown");
    bad.query[0] = bad.query[2] = "version";
    bad.query[1] = bad.query[3] = "1";
    expect_bad(j, bad, "twice");
    bad = ask;
    bad.params[2] = "..";
    expect_bad(j, bad, "path");
    bad.params[2] = "a/b";
    expect_bad(j, bad, "path");
    bad.params[2] = "";
    expect_bad(j, bad, "path");
    bad.params[2] = NULL;
    expect_bad(j, bad, "path");
    assert_int_equal(j->orders, 0);
    guest_free(&g);
}

/* ---- token and ledger ---- */

static void test_token_refusals(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");

    add_keys(j);
    guest_attest(j, &g);
    ledger_forget(j);
    ask.cookie = g.cookie;
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_UNSUPPORTED;
    j->refuse_detail = "no rung reaches token";
    judge_expect(j, &ask, 501, "no rung reaches token");
    ledger_expect(j, "release-failed order=");
    ledger_expect(j, "category=unsupported reason=no rung reaches token");
    j->refuse_category = KBS_TOKEN_DOWN;
    judge_expect(j, &ask, 503, NULL); /* an answer like any other: the lane lives */
    j->refuse_category = KBS_INTERNAL;
    j->refuse_detail = "line 42 of something";
    judge_expect(j, &ask, 500, "\"Internal error\"");
    j->refuse_category = KBS_UNAUTHENTICATED; /* not the token's to say */
    judge_expect(j, &ask, 500, NULL);
    j->token_mood = TOKEN_DISOBEYS;
    ledger_forget(j);
    judge_expect(j, &ask, 500, NULL);
    ledger_expect(j, "release-failed");
    j->token_mood = TOKEN_OBEYS;
    expect_release(j, &ask, "application/jose+json");
    guest_free(&g);
}

static void check_token_lost(struct judge *j, enum token_mood mood)
{
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");

    add_keys(j);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    j->token_mood = mood;
    judge_expect(j, &ask, 503, "token is not available");
    ledger_expect(j, "release-failed order=");
    assert_int_equal(judge_wait(j), KBS_EXIT_STUCK);
    guest_free(&g);
}

static void test_token_hangs_up(void **state)
{
    check_token_lost(*state, TOKEN_HANGS_UP);
}

static void test_token_out_of_step(void **state)
{
    check_token_lost(*state, TOKEN_ANSWERS_LATE);
}

static void check_ledger_lost(struct judge *j, enum ledger_mood mood)
{
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");
    struct reply *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    add_keys(j);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    j->ledger_mood = mood;
    j->records = 0;
    judge_ask(j, &ask, r);
    assert_int_equal(r->status, 503);
    assert_int_equal(r->retry_after_s, KBS_LIMIT_RETRY_AFTER_S);
    assert_non_null(strstr(r->body, "ledger"));
    assert_int_equal(j->orders, 1);         /* the token did wrap it */
    assert_null(strstr(r->body, "unread")); /* and nobody got it */
    assert_int_equal(judge_wait(j), KBS_EXIT_FAILURE);
    free(r);
    guest_free(&g);
}

static void test_ledger_silent(void **state)
{
    check_ledger_lost(*state, LEDGER_SILENT); /* takes KBS_LIMIT_AUDIT_ACK_MS */
}

static void test_ledger_hangs_up(void **state)
{
    check_ledger_lost(*state, LEDGER_HANGS_UP);
}

/* ---- role ---- */

static void test_routes_of_the_duty(void **state)
{
    struct judge *j = *state;
    static const enum kbs_route foreign[] = {KBS_ROUTE_NONE,           KBS_ROUTE_ADMIN_NONCE,
                                             KBS_ROUTE_ADMIN_KEY_LIST, KBS_ROUTE_ADMIN_KEY_CREATE,
                                             KBS_ROUTE_HEALTHZ,        (enum kbs_route)255};
    struct ask ask = {.route = KBS_ROUTE_JWKS, .method = "GET"};

    judge_expect(j, &ask, 200, "\"use\":\"sig\"");
    ask.method = "POST";
    judge_expect(j, &ask, 404, NULL);
    ask.method = "GET";
    ask.listener = KBS_LISTENER_ADMIN;
    judge_expect(j, &ask, 404, NULL);
    ask.listener = KBS_LISTENER_NONE;
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        ask.route = foreign[i];
        judge_expect(j, &ask, 404, NULL);
        ask.listener = KBS_LISTENER_ADMIN;
        judge_expect(j, &ask, 404, NULL);
        ask.listener = KBS_LISTENER_NONE;
    }
}

static void test_drain(void **state)
{
    struct judge *j = *state;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(
        kbs_channel_send(j->control, KBS_WIRE_DRAIN, 0, NULL, -1, KBS_DEADLINE_NONE, &err), 0);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
}

static void test_unexpected_control(void **state)
{
    struct judge *j = *state;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(
        kbs_channel_send(j->control, KBS_WIRE_GO, 0, NULL, -1, KBS_DEADLINE_NONE, &err), 0);
    assert_int_equal(judge_wait(j), KBS_EXIT_FAILURE);
}

static void test_token_gone_while_idle(void **state)
{
    struct judge *j = *state;

    kbs_io_close(&j->token);
    assert_int_equal(judge_wait(j), KBS_EXIT_STUCK);
}

static void test_front_breaks_protocol(void **state)
{
    struct judge *j = *state;
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(
        kbs_channel_send(j->front, KBS_WIRE_DRAIN, 0, NULL, -1, KBS_DEADLINE_NONE, &err), 0);
    assert_int_equal(judge_wait(j), KBS_EXIT_FAILURE);
}

static void test_no_sign_key(void **state)
{
    struct judge *j = *state;

    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    EVP_PKEY_free(j->sign);
    j->sign = NULL;
    judge_start_fails(j, KBS_EXIT_CONFIG);
}

static void test_sessions_outlive_judges(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");

    add_keys(j);
    guest_attest(j, &g);
    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    judge_start(j); /* another judge of the same store */
    ask.authorization = g.bearer;
    expect_release(j, &ask, "application/jose+json");
    guest_free(&g);
}

/* The log tells of requests and never holds what opens a session. */
static void test_log_holds_no_secrets(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");
    struct kbs_buf log = KBS_BUF(1u << 20);
    struct kbs_error err = KBS_ERROR_NONE;

    add_keys(j);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    ask.authorization = g.bearer;
    expect_release(j, &ask, "application/jose+json");
    assert_int_equal(kbs_io_read_file(j->log_path, &log, &err), 0);
    assert_non_null(strstr(kbs_buf_cstr(&log), "route=key-release category=ok status=200"));
    assert_null(strstr(kbs_buf_cstr(&log), g.cookie));
    assert_null(strstr(kbs_buf_cstr(&log), strrchr(g.token, '.')));
    assert_null(strstr(kbs_buf_cstr(&log), g.nonce));
    assert_null(strstr(j->ledger_text, g.cookie));
    assert_null(strstr(j->ledger_text, g.token));
    kbs_buf_deinit(&log);
    guest_free(&g);
}

/* The store tells of sessions and never holds what opens one. */
static void test_store_holds_no_secrets(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    char path[160];
    struct kbs_buf all = KBS_BUF(4u << 20);
    struct kbs_error err = KBS_ERROR_NONE;

    guest_attest(j, &g);
    (void)snprintf(path, sizeof(path), "%s-wal", j->store_path);
    assert_int_equal(kbs_io_read_file(j->store_path, &all, &err), 0);
    assert_int_equal(kbs_io_read_file(path, &all, &err), 0);
    assert_non_null(memmem(all.p, all.len, g.nonce, strlen(g.nonce))); /* the session is there */
    assert_null(memmem(all.p, all.len, g.cookie, strlen(g.cookie)));
    assert_null(memmem(all.p, all.len, g.token, strlen(g.token)));
    assert_null(memmem(all.p, all.len, strrchr(g.token, '.'), strlen(strrchr(g.token, '.'))));
    kbs_buf_deinit(&all);
    guest_free(&g);
}

/* ---- keys that are not enabled, RSA, wrapped ---- */

static void expect_state(struct judge *j, struct guest *g, enum kbs_key_state state,
                         unsigned int status, const char *text)
{
    static uint32_t version;
    struct kbs_key key = judge_new_key("default/disk/state", ++version, 0);
    struct ask ask = ask_key("state");

    key.state = state;
    judge_put_key(j, &key, ALLOW);
    ask.cookie = g->cookie;
    ledger_forget(j);
    if (status == 200) {
        expect_release(j, &ask, "application/jose+json");
    } else {
        judge_expect(j, &ask, status, text);
    }
}

static void test_release_states(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("state");

    guest_attest(j, &g);
    expect_state(j, &g, KBS_KEY_STATE_ENABLED, 200, NULL);
    expect_state(j, &g, KBS_KEY_STATE_DISABLED, 403, "this key is disabled");
    ledger_expect(j, "release-denied session=");
    expect_state(j, &g, KBS_KEY_STATE_PENDING, 403, "this key is pending-destruction");
    expect_state(j, &g, KBS_KEY_STATE_DESTROYED, 403, "pending"); /* the latest is before it */
    ask.cookie = g.cookie;
    ask.query[0] = "version";
    ask.query[1] = "4";
    judge_expect(j, &ask, 404, "no such key");
    assert_int_equal(j->orders, 1);
    guest_free(&g);
}

static void test_release_cardless(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");

    /* A row of schema 2, its signature good: a state nobody can make any more, so the row is
     * tampered with. */
    add_keys(j);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    judge_sign_cardless(j, "default/disk/one", 2);
    judge_expect(j, &ask, 403, "before there were key cards");
    assert_int_equal(j->orders, 0);
    guest_free(&g);
}

static void test_release_rsa(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = EVP_RSA_gen(2048)};
    struct ask ask = ask_key("one");

    assert_non_null(g.key);
    add_keys(j);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    expect_release(j, &ask, "application/jose+json");
    check_order(j, &g, "default/disk/one/v2", KBS_FORMAT_JOSE);
    guest_free(&g);
}

static void test_release_wrapped(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct kbs_key key = judge_new_key("default/disk/wrapped", 1, 3);
    struct ask ask = ask_key("wrapped");

    judge_put_key(j, &key,
                  "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":["
                  "{\"claim\":\"kbs.key.class\",\"equals\":\"wrapped\"},"
                  "{\"claim\":\"kbs.key.alg\",\"equals\":\"AES\"},"
                  "{\"claim\":\"kbs.key.bytes\",\"equals\":32},"
                  "{\"claim\":\"kbs.key.purpose\",\"equals\":\"release\"},"
                  "{\"claim\":\"kbs.key.floor\",\"equals\":\"transport\"},"
                  "{\"claim\":\"kbs.key.provenance\",\"equals\":\"generated\"}]}]}");
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    expect_release(j, &ask, "application/jose+json");
    assert_true(kbs_span_equal(j->release.blob, kbs_key_blob(&key)));
    assert_true(kbs_span_equal(j->release.card, kbs_key_card(&key)));
    judge_tamper(j, "UPDATE key SET blob = zeroblob(40)"); /* the token's to find out */
    judge_expect(j, &ask, 200, NULL);
    guest_free(&g);
}

/* Not a test of speed: prints what a request costs through the judge, fake peers included. */
static void test_cost(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");
    uint64_t start;
    const unsigned int n = 200;

    add_keys(j);
    start = kbs_clock_mono_ns();
    for (unsigned int i = 0; i < n; i++) {
        guest_auth(j, &g);
    }
    print_message("auth: %u us\n", (unsigned int)((kbs_clock_mono_ns() - start) / 1000 / n));
    guest_attest(j, &g);
    for (int bearer = 0; bearer < 2; bearer++) {
        ask.cookie = bearer ? NULL : g.cookie;
        ask.authorization = bearer ? g.bearer : NULL;
        start = kbs_clock_mono_ns();
        for (unsigned int i = 0; i < n; i++) {
            expect_release(j, &ask, "application/jose+json");
            ledger_forget(j);
        }
        print_message("release by %s: %u us\n", bearer ? "token" : "cookie",
                      (unsigned int)((kbs_clock_mono_ns() - start) / 1000 / n));
    }
    guest_free(&g);
}

/* ---- the store is somebody else's ---- */

/* A row that was changed in any way opens nothing, and says why to its operator only. */
static void expect_row_refused(struct judge *j, const char *tag, const char *sql)
{
    struct guest g = {.key = NULL};
    struct ask ask = ask_key(tag);
    unsigned int orders = j->orders;

    guest_attest(j, &g);
    ask.cookie = g.cookie;
    expect_release(j, &ask, "application/jose+json");
    judge_tamper(j, sql);
    ledger_forget(j);
    judge_expect(j, &ask, 500, "Internal error");
    ledger_expect(j, "release-denied session=");
    ledger_expect(j, "reason=the store's row of default/disk/");
    assert_int_equal(j->orders, orders + 1);
    guest_free(&g);
}

static void test_row_policy_edited(void **state)
{
    struct judge *j = *state;

    add_keys(j);
    expect_row_refused(j, "one", "UPDATE key SET policy = policy || ' ' WHERE version = 2");
}

static void test_row_policy_of_another(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("refused");

    add_keys(j);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    judge_expect(j, &ask, 403, NULL);
    judge_tamper(j,
                 "UPDATE key SET policy = (SELECT policy FROM key WHERE path LIKE '%/one' LIMIT 1)"
                 " WHERE path LIKE '%/refused'");
    judge_expect(j, &ask, 500, NULL);
    /* The other row as it is, signature and all, under this path. */
    judge_tamper(j, "DELETE FROM key WHERE path LIKE '%/refused';"
                    "UPDATE key SET path = 'default/disk/refused' WHERE version = 2");
    judge_expect(j, &ask, 500, NULL);
    assert_int_equal(j->orders, 0);
    guest_free(&g);
}

static void test_row_members(void **state)
{
    static const char *const sqls[] = {
        "UPDATE key SET id = randomblob(16) WHERE version = 2",
        "UPDATE key SET state = 2 WHERE version = 2",
        "UPDATE key SET kcv = x'01020304' WHERE version = 2",
        "UPDATE key SET kcv_mac = 2 WHERE version = 2",
        "UPDATE key SET destroy_at_s = 1 WHERE version = 2",
        "UPDATE key SET state = 4 WHERE version = 1;"
        "UPDATE key SET card = (SELECT card FROM key WHERE version = 1) WHERE version = 2",
        "UPDATE key SET card = NULL, purpose = 1, provenance = 1, floor = 1, bytes = 32,"
        " created_s = 0 WHERE version = 2",
        "UPDATE key SET request = 'another' WHERE version = 2",
        "UPDATE key SET signature = x'' WHERE version = 2",
        "UPDATE key SET version = 3 WHERE version = 2",
    };
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");

    add_keys(j);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    for (size_t i = 0; i < sizeof(sqls) / sizeof(sqls[0]); i++) {
        judge_tamper(j, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT * FROM key");
        expect_release(j, &ask, "application/jose+json");
        judge_tamper(j, sqls[i]);
        judge_expect(j, &ask, 500, NULL);
        judge_tamper(j, "DELETE FROM key; INSERT INTO key SELECT * FROM kept");
    }
    expect_release(j, &ask, "application/jose+json");
    guest_free(&g);
}

/* Signed, all of it, by somebody else; the store's own row is ours, and so is the next key's. */
static void test_row_of_another_key(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("foreign");
    EVP_PKEY *ours = j->row;

    j->row = key_new("P-256");
    judge_add_key(j, "default/disk/foreign", 1, ALLOW);
    EVP_PKEY_free(j->row);
    j->row = ours;
    judge_add_key(j, "default/disk/one", 1, ALLOW);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    judge_expect(j, &ask, 500, "Internal error");
    ledger_expect(j, "the store's row of default/disk/foreign/v1 is not signed as it is");
    assert_int_equal(j->orders, 0);
    ask = ask_key("one");
    ask.cookie = g.cookie;
    expect_release(j, &ask, "application/jose+json");
    guest_free(&g);
}

/* Everything of one row under the name of another, after both had been found good. */
static void test_rows_exchanged(void **state)
{
    static const char *const sqls[] = {
        "UPDATE key SET signature = (SELECT k.signature FROM kept k WHERE k.path LIKE '%/two')"
        " WHERE version = 2",
        "UPDATE key SET policy = (SELECT k.policy FROM kept k WHERE k.path LIKE '%/two')"
        " WHERE version = 2",
        "UPDATE key SET path = 'default/disk/three' WHERE path LIKE '%/two';"
        "UPDATE key SET path = 'default/disk/two', version = 1 WHERE version = 2;"
        "UPDATE key SET path = 'default/disk/one', version = 2 WHERE path LIKE '%/three'",
    };
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");
    struct ask two = ask_key("two");

    add_keys(j);
    judge_add_key(j, "default/disk/two", 1, ALLOW " ");
    judge_tamper(j, "CREATE TABLE kept AS SELECT * FROM key");
    guest_attest(j, &g);
    ask.cookie = two.cookie = g.cookie;
    expect_release(j, &ask, "application/jose+json");
    expect_release(j, &two, "application/jose+json");
    for (size_t i = 0; i < sizeof(sqls) / sizeof(sqls[0]); i++) {
        judge_tamper(j, sqls[i]);
        judge_expect(j, &ask, 500, "Internal error");
        judge_tamper(j, "DELETE FROM key; INSERT INTO key SELECT * FROM kept");
        expect_release(j, &ask, "application/jose+json");
    }
    expect_release(j, &two, "application/jose+json");
    guest_free(&g);
}

/* A row says when it was made: not before, and not in a time that is yet to come. */
static void test_row_of_another_epoch(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");

    add_keys(j); /* version 2 is of epoch 2, the store at 4 */
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    judge_tamper(j, "UPDATE key SET epoch = 3 WHERE version = 2");
    judge_expect(j, &ask, 500, "Internal error");
    judge_tamper(j, "UPDATE key SET epoch = 9 WHERE version = 2");
    judge_expect(j, &ask, 503, "no key is served");
    assert_int_equal(j->orders, 0);
    guest_free(&g);
}

/*
 * The store says how much trust evidence gets, too: from one that is not the ledger's nobody
 * attests.
 */
static void expect_no_attestation(struct judge *j, struct guest *g, const char *text)
{
    char evidence[4096];
    const struct ask ask = {.route = KBS_ROUTE_ATTEST,
                            .target = "/kbs/v0/attest",
                            .content_type = "application/json",
                            .cookie = g->cookie,
                            .body = evidence};

    guest_auth(j, g);
    guest_evidence(g, evidence, sizeof(evidence));
    judge_expect(j, &ask, 503, text);
}

/* Restarts the judge and asks for the key with a new session: served, or refused with that text. */
static void expect_after_restart(struct judge *j, const char *text)
{
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");

    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    judge_start(j);
    if (text == NULL) {
        guest_attest(j, &g);
        ask.cookie = g.cookie;
        expect_release(j, &ask, "application/jose+json");
    } else {
        expect_no_attestation(j, &g, text);
    }
    guest_free(&g);
}

static void test_epoch_at_start(void **state)
{
    struct judge *j = *state;

    add_keys(j); /* epoch 4 */
    expect_after_restart(j, NULL);
    j->epoch = 5;
    j->epoch_open = true; /* a mutation died before it was committed */
    expect_after_restart(j, NULL);
    j->epoch_open = false; /* it was: this store is from before */
    expect_after_restart(j, "the store is at epoch 4 and the ledger at 5");
    j->epoch = 3; /* another ledger */
    expect_after_restart(j, "no key is served");
    j->epoch = 4;
    expect_after_restart(j, NULL);
}

static void test_epoch_is_signed(void **state)
{
    struct judge *j = *state;

    add_keys(j);
    judge_tamper(j, "CREATE TABLE kept AS SELECT * FROM epoch");
    judge_tamper(j, "UPDATE epoch SET epoch = 5");
    j->epoch = 5;
    expect_after_restart(j, "not signed by this service");
    judge_tamper(j, "UPDATE epoch SET epoch = 4; DELETE FROM key WHERE path LIKE '%/bare'");
    j->epoch = 4;
    expect_after_restart(j, "not those of its epoch"); /* a row is missing */
    judge_tamper(j, "UPDATE epoch SET epoch = 0, manifest = zeroblob(32)");
    j->epoch = 0;
    expect_after_restart(j, "not those of its epoch"); /* not a new store */
}

/* The store's file goes back while the judge runs. */
static void test_epoch_goes_back(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");

    add_keys(j);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    expect_release(j, &ask, "application/jose+json");
    judge_tamper(j, "CREATE TABLE kept AS SELECT * FROM epoch; UPDATE epoch SET epoch = 3");
    judge_expect(j, &ask, 503, "the store went back from epoch 4 to 3");
    judge_tamper(j, "DELETE FROM epoch; INSERT INTO epoch SELECT * FROM kept");
    judge_expect(j, &ask, 503, "no key is served"); /* until it looks again */
    guest_free(&g);
}

/* ---- a ledger that cannot be written ---- */

static void test_ledger_full(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_key("one");
    char owed[80] = "release-failed order=";

    add_keys(j);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    ledger_forget(j);
    j->ledger_mood = LEDGER_FULL;
    judge_expect(j, &ask, 503, "the audit ledger cannot be written");
    assert_int_equal(j->orders, 1); /* ordered while the record was on its way; never answered */
    for (size_t i = 0; i < KBS_LIMIT_ORDER_BYTES; i++) {
        (void)snprintf(owed + strlen(owed), 3, "%02x", j->release.order.p[i]);
    }
    judge_expect(j, &ask, 503, "the audit ledger cannot be written");
    assert_int_equal(j->orders, 1); /* nothing more until that is told */
    j->ledger_mood = LEDGER_WRITES;
    expect_release(j, &ask, "application/jose+json"); /* the same judge */
    ledger_expect(j, owed);
    ledger_expect(j, "the order could not be recorded; nothing was answered");
    guest_free(&g);
}

static void test_refusals_are_sampled(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    char evidence[4096];
    struct ask ask = {.route = KBS_ROUTE_ATTEST,
                      .target = "/kbs/v0/attest",
                      .content_type = "application/json",
                      .body = evidence};

    guest_auth(j, &g);
    ask.cookie = g.cookie;
    g.digest.p[0] ^= 1;
    guest_evidence(&g, evidence, sizeof(evidence));
    for (int i = 0; i < KBS_LIMIT_AUDIT_REFUSALS_PER_MIN + 40; i++) {
        judge_expect(j, &ask, 401, NULL);
    }
    assert_in_range(j->records, KBS_LIMIT_AUDIT_REFUSALS_PER_MIN,
                    KBS_LIMIT_AUDIT_REFUSALS_PER_MIN + 1); /* the minute may have turned */
    guest_free(&g);
    guest_attest(j, &g); /* and an honest guest is recorded */
    ledger_expect(j, "attest outcome=attested");
    guest_free(&g);
}

/* ---- resources ---- */

static struct ask ask_resource(const char *tag)
{
    return (struct ask){.route = KBS_ROUTE_RESOURCE,
                        .method = "GET",
                        .target = "/kbs/v0/resource/default/disk/one",
                        .params = {"default", "disk", tag}};
}

static void test_resource(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_resource("secret");
    struct reply *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    add_keys(j);
    judge_add_secret(j, "default/disk/secret", 1, REFUSE);
    judge_add_secret(j, "default/disk/secret", 2, ALLOW); /* the newest counts */
    judge_add_secret(j, "default/disk/closed", 1, NULL);
    judge_expect(j, &ask, 401, "/errors/TokenNotFound");
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    judge_ask(j, &ask, r);
    assert_int_equal(r->status, 200);
    assert_string_equal(r->type, "application/json");
    assert_string_equal(r->body, JUDGE_TOKEN_BODY);
    assert_true(kbs_span_equal_str(j->open_secret.kid, "default/disk/secret/v2"));
    assert_true(kbs_span_equal_str(j->open_secret.sealed, JUDGE_SEALED));
    ledger_expect(j, "class=sealed");
    ask = ask_resource("one"); /* a key, in the form of a resource */
    ask.cookie = g.cookie;
    judge_ask(j, &ask, r);
    assert_int_equal(r->status, 200);
    assert_int_equal(j->release.formats.len, 1);
    assert_int_equal(j->release.formats.p[0], KBS_FORMAT_JWE);
    assert_int_equal(j->orders, 2);
    free(r);
    guest_free(&g);
}

static void test_resource_refusals(void **state)
{
    static const struct {
        const char *tag;
        unsigned int status;
    } cases[] = {{"closed", 403}, {"refused", 403}, {"none-such", 404}, {"..", 400}};
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask;

    add_keys(j);
    judge_add_secret(j, "default/disk/secret", 1, ALLOW);
    judge_add_secret(j, "default/disk/closed", 1, NULL);
    guest_attest(j, &g);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ask = ask_resource(cases[i].tag);
        ask.cookie = g.cookie;
        judge_expect(j, &ask, cases[i].status, NULL);
    }
    ask = ask_resource("secret");
    ask.cookie = g.cookie;
    ask.query[0] = "version";
    ask.query[1] = "1";
    judge_expect(j, &ask, 400, NULL);
    assert_int_equal(j->orders, 0);
    ask.query[0] = ask.query[1] = NULL;
    j->token_mood = TOKEN_DISOBEYS;
    judge_expect(j, &ask, 500, NULL);
    ledger_expect(j, "release-failed");
    j->token_mood = TOKEN_OBEYS;
    judge_tamper(j, "UPDATE secret SET policy = ' ' || policy");
    judge_expect(j, &ask, 500, NULL); /* not as it was signed */
    guest_free(&g);
}

/* The same secret by Trustee's name for what a token keeps, which its policy can tell. */
static void test_resource_pkcs11(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_resource("secret");

    judge_add_secret(j, "default/disk/secret", 1,
                     "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":["
                     "{\"claim\":\"kbs.plugin\",\"equals\":\"pkcs11\"}]}]}");
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    judge_expect(j, &ask, 403, "kbs.plugin");
    ask.route = KBS_ROUTE_PKCS11_RESOURCE;
    judge_expect(j, &ask, 200, JUDGE_TOKEN_BODY);
    ask.cookie = NULL;
    judge_expect(j, &ask, 401, "/errors/TokenNotFound");
    guest_free(&g);
}

/* A policy that cannot be evaluated closes both roads, and nothing else; until it is taken back. */
static void test_resource_policy_in_rego(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_resource("secret");
    struct ask nobody = ask;

    add_keys(j);
    judge_add_secret(j, "default/disk/secret", 1, ALLOW);
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    judge_expect(j, &ask, 200, NULL);
    judge_add_document(j, KBS_DOCUMENT_RESOURCE_POLICY, "resource-policy", 1, "package policy");
    judge_expect(j, &ask, 501, "resource policy");
    judge_expect(j, &nobody, 401, "/errors/TokenNotFound");
    ask.route = KBS_ROUTE_PKCS11_RESOURCE;
    judge_expect(j, &ask, 501, "resource policy");
    assert_int_equal(j->orders, 1);
    judge_tamper(j, "UPDATE document SET text = ''");
    judge_expect(j, &ask, 500, NULL); /* not as it was signed */
    judge_tamper(j, "UPDATE document SET text = 'package policy'");
    judge_add_document(j, KBS_DOCUMENT_RESOURCE_POLICY, "resource-policy", 2, "");
    judge_expect(j, &ask, 200, NULL);
    guest_free(&g);
}

/* This one is read, and the others are not: what somebody did to their rows changes nothing. */
static void governs(struct judge *j, const struct ask *ask, const char *name)
{
    char sql[256];

    judge_tamper(j, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT * FROM document");
    (void)snprintf(sql, sizeof(sql), "UPDATE document SET text = 'x' WHERE name <> '%s'", name);
    judge_tamper(j, sql);
    judge_expect(j, ask, 501, "resource policy"); /* as there is nobody to ask */
    (void)snprintf(sql, sizeof(sql), "UPDATE document SET text = 'x' WHERE name = '%s'", name);
    judge_tamper(j, sql);
    judge_expect(j, ask, 500, NULL);
    judge_tamper(j, "DELETE FROM document; INSERT INTO document SELECT * FROM kept");
}

/* The longest prefix that has a policy governs, and no other; one that is broken does not give way. */
static void test_resource_policy_prefixes(void **state)
{
    static const char *const names[] = {"resource-policy", "resource-policy/default",
                                        "resource-policy/default/disk",
                                        "resource-policy/default/disk/secret"};
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct ask ask = ask_resource("secret");

    judge_add_secret(j, "default/disk/secret", 1, ALLOW);
    judge_add_document(j, KBS_DOCUMENT_RESOURCE_POLICY, "resource-policy/other", 1, "no");
    judge_add_document(j, KBS_DOCUMENT_RESOURCE_POLICY, "resource-policy/def", 1, "no");
    judge_add_document(j, KBS_DOCUMENT_RESOURCE_POLICY, "resource-policy/default/disk/sec", 1,
                       "no");
    guest_attest(j, &g);
    ask.cookie = g.cookie;
    judge_expect(j, &ask, 200, NULL); /* none of them is of this path */
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        judge_add_document(j, KBS_DOCUMENT_RESOURCE_POLICY, names[i], 1, "package policy");
        governs(j, &ask, names[i]);
    }
    judge_add_document(j, KBS_DOCUMENT_RESOURCE_POLICY, names[3], 2, ""); /* taken back */
    judge_expect(j, &ask, 501, "resource policy");
    judge_tamper(j, "UPDATE document SET text = 'x' WHERE name = 'resource-policy/default/disk'");
    judge_expect(j, &ask, 500, NULL);
    guest_free(&g);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, judge_setup_release, judge_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_auth_refusals),
        cmocka_unit_test_setup_teardown(test_sample_off, judge_setup_no_sample, judge_teardown),
        CASE(test_attest_cookie_and_nonce),
        CASE(test_attest_messages),
        CASE(test_attest_other_key),
        CASE(test_attest_token_fails),
        CASE(test_release),
        CASE(test_resource),
        CASE(test_resource_refusals),
        CASE(test_resource_pkcs11),
        CASE(test_resource_policy_in_rego),
        CASE(test_resource_policy_prefixes),
        CASE(test_release_nonce_salt_context),
        CASE(test_release_accept),
        CASE(test_release_unattested),
        CASE(test_release_bad_tokens),
        CASE(test_release_two_sessions),
        CASE(test_release_refusals),
        CASE(test_release_syntax),
        CASE(test_token_refusals),
        CASE(test_token_hangs_up),
        CASE(test_token_out_of_step),
        CASE(test_ledger_silent),
        CASE(test_ledger_hangs_up),
        CASE(test_routes_of_the_duty),
        CASE(test_drain),
        CASE(test_unexpected_control),
        CASE(test_token_gone_while_idle),
        CASE(test_front_breaks_protocol),
        CASE(test_no_sign_key),
        CASE(test_sessions_outlive_judges),
        CASE(test_log_holds_no_secrets),
        CASE(test_store_holds_no_secrets),
        CASE(test_row_policy_edited),
        CASE(test_row_policy_of_another),
        CASE(test_row_members),
        CASE(test_row_of_another_key),
        CASE(test_rows_exchanged),
        CASE(test_row_of_another_epoch),
        CASE(test_epoch_at_start),
        CASE(test_epoch_is_signed),
        CASE(test_epoch_goes_back),
        CASE(test_ledger_full),
        CASE(test_refusals_are_sampled),
        CASE(test_release_states),
        CASE(test_release_cardless),
        CASE(test_release_rsa),
        CASE(test_release_wrapped),
        CASE(test_cost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
