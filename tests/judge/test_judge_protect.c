/*
 * Requests that a host proxy can carry but not use (docs/protocol/requests.md): what was captured, and what is changed on
 * the way, gives nothing. The judge is the real one; token, ledger and front are the harness.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>

#include "attest/proof.h"
#include "base/encoding.h"
#include "jose/read/jwe.h"
#include "seal/seal.h"

#define POLICY(claim)                                \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[" \
    "{\"claim\":\"" claim "\",\"equals\":true}]}]}"
#define ALLOW                                        \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[" \
    "{\"claim\":\"kbs.tee\",\"equals\":\"sample\"}]}]}"
#define TARGET "/kbs/v0/key/default/disk/one"
#define PLAIN "{\"nonce\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}"

/* What a guest makes for one request. */
struct request {
    uint8_t nonce[KBS_REQUEST_CHALLENGE_BYTES];
    EVP_PKEY *fresh; /* owned */
    struct kbs_proof proof;
    char jws[2048];
    char envelope[4096];
};

static void request_free(struct request *r)
{
    EVP_PKEY_free(r->fresh);
    r->fresh = NULL;
}

static void fetch_nonce(struct judge *j, const struct guest *g,
                        uint8_t ret[KBS_REQUEST_CHALLENGE_BYTES])
{
    const struct ask ask = {.route = KBS_ROUTE_REQUEST_NONCE,
                            .method = "GET",
                            .target = "/kbs/v0/key/nonce",
                            .cookie = g->cookie};
    struct reply *r = calloc(1, sizeof(*r));
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span text;
    KBS_AUTO_JSON body = NULL;

    assert_non_null(r);
    judge_ask(j, &ask, r);
    assert_int_equal(r->status, 200);
    assert_int_equal(kbs_json_parse_object(kbs_span_str(r->body), "nonce", &body, &err), 0);
    assert_int_equal(kbs_json_get_string(body, "nonce", &text, &err), 0);
    assert_int_equal(kbs_base64url_get_exact(ret, KBS_REQUEST_CHALLENGE_BYTES, text), 0);
    free(r);
}

static void sign_proof(struct request *r, EVP_PKEY *key, const char *typ)
{
    const struct kbs_ec_public public = key_public(key, KBS_CURVE_P256);
    struct kbs_buf payload = KBS_BUF(2048);
    char kid[44];

    kbs_jose_thumbprint(&public, kid);
    kbs_proof_put(&payload, &r->proof);
    jws_sign(key, kid, typ, kbs_buf_cstr(&payload), r->jws, sizeof(r->jws));
    kbs_buf_deinit(&payload);
}

/* A proof of that guest for that request, with a nonce of its own. */
static struct request prove(struct judge *j, const struct guest *g, const struct ask *ask)
{
    struct request r = {.fresh = key_new("P-256")};

    fetch_nonce(j, g, r.nonce);
    r.proof.method = kbs_span_str(ask->method != NULL ? ask->method : "POST");
    r.proof.target = kbs_span_str(ask->target);
    r.proof.key = key_public(r.fresh, KBS_CURVE_P256);
    kbs_sha256(kbs_span_str(ask->body), r.proof.body);
    memcpy(r.proof.nonce, r.nonce, sizeof(r.nonce));
    sign_proof(&r, g->key, KBS_PROOF_TYP);
    return r;
}

/* PLAIN, encrypted to `to` for a POST to that target with that nonce. */
static void encrypt(struct request *r, EVP_PKEY *to, const char *target)
{
    const struct kbs_ec_public key = key_public(to, KBS_CURVE_P256);
    struct kbs_buf ciphertext = KBS_BUF(KBS_LIMIT_ENVELOPE_BYTES);
    struct kbs_buf header = KBS_BUF(2048);
    struct kbs_buf text = KBS_BUF(sizeof(r->envelope) - 1);
    struct kbs_sealed s = {.seal_version = 0};
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t bytes[KBS_ENVELOPE_APV_BYTES];
    struct kbs_span apv = kbs_span(bytes, sizeof(bytes));

    kbs_envelope_apv(r->nonce, KBS_SPAN_LIT("POST"), kbs_span_str(target), bytes);
    assert_int_equal(
        kbs_seal_for(KBS_PURPOSE_REQUEST, &key, apv, KBS_SPAN_LIT(PLAIN), &s, &ciphertext, &err),
        0);
    kbs_seal_protected_put_for(&header, KBS_PURPOSE_REQUEST, &s.epk, apv, &key);
    kbs_jose_jwe_put(&text, &(struct kbs_jose_jwe){
                                .protected_text = kbs_buf_span(&header),
                                .encrypted_key = kbs_span(s.encrypted_key, sizeof(s.encrypted_key)),
                                .iv = kbs_span(s.iv, sizeof(s.iv)),
                                .ciphertext = s.ciphertext,
                                .tag = kbs_span(s.tag, sizeof(s.tag))});
    assert_true(kbs_span_to_cstr(kbs_buf_span(&text), r->envelope, sizeof(r->envelope)));
    kbs_buf_deinit(&ciphertext);
    kbs_buf_deinit(&header);
    kbs_buf_deinit(&text);
}

static struct request enclose(struct judge *j, const struct guest *g)
{
    struct request r = {.fresh = NULL};

    fetch_nonce(j, g, r.nonce);
    encrypt(&r, j->request, TARGET);
    return r;
}

static struct ask ask_key(const struct guest *g)
{
    return (struct ask){.route = KBS_ROUTE_KEY_RELEASE,
                        .target = TARGET,
                        .params = {"default", "disk", "one"},
                        .cookie = g->cookie};
}

/* ---- proofs ---- */

/* What is to be proven is asked before anything about the key. */
static void expect_refused(struct judge *j, const struct ask *ask, const char *why)
{
    unsigned int orders = j->orders;

    judge_expect(j, ask, 401, why);
    assert_int_equal(j->orders, orders);
}

static void test_a_key_that_signs_gets_nothing_without_proof(void **state)
{
    struct judge *j = *state;
    struct guest g = {.signs = true};
    struct guest stock = {.key = NULL};
    uint8_t tee_key[KBS_TEE_KEY_MAX_BYTES];
    struct kbs_tee_key fresh = {.alg = KBS_TEE_ALG_ECDH_ES_A256KW};
    struct request r;
    struct ask ask;
    char kid[44];

    judge_add_key(j, "default/disk/one", 1, ALLOW);
    judge_add_secret(j, "default/disk/secret", 1, ALLOW);
    guest_attest(j, &g);
    ask = ask_key(&g);
    expect_refused(j, &ask, "needs a proof of possession (Kbs-Proof)");
    ledger_expect(j, "request-refused session=");
    ask.cookie = NULL;
    ask.authorization = g.bearer;
    expect_refused(j, &ask, "needs a proof of possession");
    ask = (struct ask){.route = KBS_ROUTE_RESOURCE,
                       .method = "GET",
                       .target = "/kbs/v0/resource/default/disk/secret",
                       .params = {"default", "disk", "secret"},
                       .cookie = g.cookie};
    expect_refused(j, &ask, "needs a proof of possession");

    r = prove(j, &g, &ask);
    ask.proof = r.jws;
    judge_expect(j, &ask, 200, JUDGE_TOKEN_BODY);
    fresh.ec = r.proof.key;
    assert_int_equal(j->open_secret.pop, 1);
    assert_true(kbs_span_equal(j->open_secret.tee_key,
                               kbs_span(tee_key, kbs_tee_key_put(&fresh, tee_key))));
    request_free(&r);

    ask = ask_key(&g);
    r = prove(j, &g, &ask);
    ask.proof = r.jws;
    ledger_forget(j);
    judge_expect(j, &ask, 200, JUDGE_TOKEN_BODY);
    fresh.ec = r.proof.key;
    assert_int_equal(j->release.pop, 1);
    assert_true(
        kbs_span_equal(j->release.tee_key, kbs_span(tee_key, kbs_tee_key_put(&fresh, tee_key))));
    kbs_jose_thumbprint(&g.public.ec, kid);
    ledger_expect(j, "proven_by=");
    ledger_expect(j, kid);
    expect_refused(j, &ask, "nonce"); /* replayed */
    request_free(&r);

    guest_attest(j, &stock); /* who attests a key that receives notices nothing of all this */
    ask = ask_key(&stock);
    ledger_forget(j);
    judge_expect(j, &ask, 200, JUDGE_TOKEN_BODY);
    assert_int_equal(j->release.pop, 0);
    ledger_expect_not(j, "proven_by");
    guest_free(&stock);
    guest_free(&g);
}

/* Each time one thing of an otherwise good request is another. */
static void test_a_proof_is_for_one_request(void **state)
{
    struct judge *j = *state;
    struct guest g = {.signs = true};
    struct guest again = {.signs = true};
    struct guest stock = {.key = NULL};
    struct request r;
    struct ask good;
    struct ask ask;

    judge_add_key(j, "default/disk/one", 1, ALLOW);
    guest_attest(j, &g);
    again.key = g.key;
    guest_attest(j, &again); /* the same guest, another session */
    guest_attest(j, &stock);
    good = ask_key(&g);
    good.content_type = "application/json";
    good.body = PLAIN;
    r = prove(j, &g, &good);
    good.proof = r.jws;

    ask = good;
    ask.body = "{}";
    expect_refused(j, &ask, "another body");
    ask = good;
    ask.target = TARGET "?version=1";
    expect_refused(j, &ask, "another target");
    ask = good;
    ask.target = "/kbs/v0/resource/default/disk/one";
    ask.route = KBS_ROUTE_RESOURCE;
    ask.method = "GET";
    expect_refused(j, &ask, "another method");
    ask = good;
    ask.cookie = stock.cookie;
    expect_refused(j, &ask, "does not sign");
    ask.cookie = NULL;
    ask.authorization = stock.bearer;
    expect_refused(j, &ask, "does not sign");
    ask = good;
    ask.cookie = again.cookie;
    expect_refused(j, &ask, "not one of this session's");
    ask.proof = "a.b.c";
    expect_refused(j, &ask, NULL);
    judge_expect(j, &good, 200, JUDGE_TOKEN_BODY); /* none of this has used it up */
    request_free(&r);

    r = prove(j, &g, &good);
    judge_tamper(j, "UPDATE request_nonce SET expires_s = 1");
    good.proof = r.jws;
    expect_refused(j, &good, "has expired");
    request_free(&r);
    again.key = NULL;
    guest_free(&g);
    guest_free(&stock);
}

/* A proxy that puts a key of its own in the place of the fresh one, or signs itself. */
static void test_the_fresh_key_is_the_guests(void **state)
{
    struct judge *j = *state;
    struct guest g = {.signs = true};
    EVP_PKEY *mallory = key_new("P-256");
    struct request r;
    struct request swapped;
    struct ask ask;
    char text[4096];

    judge_add_key(j, "default/disk/one", 1, ALLOW);
    guest_attest(j, &g);
    ask = ask_key(&g);
    r = prove(j, &g, &ask);
    swapped = r;
    swapped.proof.key = key_public(mallory, KBS_CURVE_P256);
    sign_proof(&swapped, mallory, KBS_PROOF_TYP);
    ask.proof = swapped.jws;
    expect_refused(j, &ask, "another key than the session's");
    /* his payload under the guest's header and signature */
    (void)snprintf(text, sizeof(text), "%.*s%.*s%s", (int)(strchr(r.jws, '.') - r.jws), r.jws,
                   (int)(strrchr(swapped.jws, '.') - strchr(swapped.jws, '.')),
                   strchr(swapped.jws, '.'), strrchr(r.jws, '.'));
    ask.proof = text;
    expect_refused(j, &ask, "does not verify");
    swapped.proof.key = g.public.ec; /* the guest's own, which only signs */
    sign_proof(&swapped, g.key, KBS_PROOF_TYP);
    ask.proof = swapped.jws;
    expect_refused(j, &ask, "cannot go to the key that signs");
    swapped.proof = r.proof;
    sign_proof(&swapped, g.key, "JWT");
    ask.proof = swapped.jws;
    expect_refused(j, &ask, "the header is not");
    ask.proof = r.jws;
    judge_expect(j, &ask, 200, JUDGE_TOKEN_BODY);
    request_free(&r);
    EVP_PKEY_free(mallory);
    guest_free(&g);
}

/* A policy, or the key's card, asks for it. */
static void test_a_key_may_ask_for_a_proof(void **state)
{
    struct judge *j = *state;
    struct kbs_key carded = judge_new_key("default/disk/carded", 1, 0);
    struct guest g = {.signs = true};
    struct guest stock = {.key = NULL};
    const char *const tags[] = {"one", "carded"};
    const char *const targets[] = {TARGET, "/kbs/v0/key/default/disk/carded"};

    judge_add_key(j, "default/disk/one", 1, POLICY("kbs.pop"));
    carded.card.flags = KBS_CARD_POP_REQUIRED;
    judge_put_key(j, &carded, ALLOW);
    guest_attest(j, &g);
    guest_attest(j, &stock);
    for (size_t i = 0; i < 2; i++) {
        struct ask ask = ask_key(&stock);
        struct request r;

        ask.target = targets[i];
        ask.params[2] = tags[i];
        judge_expect(j, &ask, 403, i == 0 ? "pop" : "only for requests with a proof of possession");
        ask.cookie = g.cookie;
        r = prove(j, &g, &ask);
        ask.proof = r.jws;
        judge_expect(j, &ask, 200, JUDGE_TOKEN_BODY);
        request_free(&r);
    }
    guest_free(&g);
    guest_free(&stock);
}

/* ---- encrypted bodies ---- */

static void test_an_encrypted_body_is_for_one_request(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    struct guest other = {.key = NULL};
    char bad[sizeof(PLAIN)];
    struct request r;
    struct ask good;
    struct ask ask;

    judge_add_key(j, "default/disk/one", 1, POLICY("kbs.encrypted"));
    j->envelope = PLAIN;
    guest_attest(j, &g);
    guest_attest(j, &other);
    good = ask_key(&g);
    good.content_type = "application/json";
    good.body = PLAIN;
    judge_expect(j, &good, 403, "encrypted");
    r = enclose(j, &g);
    good.content_type = "application/jose+json; charset=utf-8";
    good.body = r.envelope;

    ask = good;
    ask.target = TARGET "?version=1";
    expect_refused(j, &ask, "encrypted for another request");
    ask = good;
    ask.cookie = other.cookie; /* captured, and sent with another guest's */
    expect_refused(j, &ask, "not one of this session's");
    ask.cookie = NULL;
    ask.authorization = other.bearer;
    expect_refused(j, &ask, "not one of this session's");
    ask = good;
    ask.proof = "a.b.c";
    expect_refused(j, &ask, "does not sign");
    ask = good;
    ask.body = "{\"protected\":\"e30\"}";
    judge_expect(j, &ask, 400, "missing");
    ask.content_type = "application/jose+jsonx";
    judge_expect(j, &ask, 400, "Content-Type");
    ledger_forget(j);
    judge_expect(j, &good, 200, JUDGE_TOKEN_BODY);
    assert_int_equal(j->open_request.apv.len, KBS_ENVELOPE_APV_BYTES);
    ledger_expect(j, "encrypted=yes");
    expect_refused(j, &good, "nonce"); /* replayed */

    r = enclose(j, &g);
    encrypt(&r, j->import, TARGET);
    expect_refused(j, &good, "another key");
    encrypt(&r, j->request, TARGET);
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_UNPROCESSABLE;
    j->refuse_detail = "what was sealed does not open";
    judge_expect(j, &good, 422, "does not open");
    j->token_mood = TOKEN_OBEYS;
    expect_refused(j, &good, "nonce"); /* it counts once, also for what does not open */

    r = enclose(j, &g);
    (void)snprintf(bad, sizeof(bad), "%-*s", (int)sizeof(bad) - 1, "{\"salt\":1}");
    j->envelope = bad; /* as long, and no such body */
    judge_expect(j, &good, 400, "salt");
    guest_free(&g);
    guest_free(&other);
}

static void test_both_have_one_nonce(void **state)
{
    struct judge *j = *state;
    struct guest g = {.signs = true};
    struct request e;
    struct request r;
    struct ask ask;

    judge_add_key(j, "default/disk/one", 1, POLICY("kbs.pop"));
    j->envelope = PLAIN;
    guest_attest(j, &g);
    e = enclose(j, &g);
    ask = ask_key(&g);
    ask.content_type = "application/jose+json";
    ask.body = e.envelope;
    r = prove(j, &g, &ask);
    ask.proof = r.jws;
    expect_refused(j, &ask, "another nonce");
    memcpy(r.proof.nonce, e.nonce, sizeof(e.nonce));
    sign_proof(&r, g.key, KBS_PROOF_TYP);
    judge_expect(j, &ask, 200, JUDGE_TOKEN_BODY);
    assert_int_equal(j->release.pop, 1);
    request_free(&r);
    guest_free(&g);
}

/* The request key is told to whoever asks, and beside each nonce; without one nothing is encrypted. */
static void test_request_key(void **state)
{
    struct judge *j = *state;
    const struct ask keys = {
        .route = KBS_ROUTE_HSM_KEYS, .method = "GET", .target = "/kbs/v0/hsm/keys"};
    struct ask nonce = {
        .route = KBS_ROUTE_REQUEST_NONCE, .method = "GET", .target = "/kbs/v0/key/nonce"};
    struct guest g = {.key = NULL};
    struct request r;
    struct ask ask;

    judge_expect(j, &keys, 200, "\"purpose\":\"request\",\"jwk\":{\"alg\":\"ECDH-ES+A256KW\"");
    judge_expect(j, &nonce, 401, NULL);
    guest_attest(j, &g);
    nonce.cookie = g.cookie;
    judge_expect(j, &nonce, 200,
                 "\"expires_in_s\":120,\"request_key\":{\"alg\":\"ECDH-ES+A256KW\"");
    nonce.query[0] = "more";
    nonce.query[1] = "1";
    judge_expect(j, &nonce, 400, "query");
    r = enclose(j, &g);
    EVP_PKEY_free(j->request);
    j->request = NULL;
    judge_restart(j);
    judge_expect(j, &keys, 200, "{\"keys\":[]}");
    ask = ask_key(&g);
    ask.content_type = "application/jose+json";
    ask.body = r.envelope;
    judge_expect(j, &ask, 501, "no request key");
    guest_free(&g);
}

static int setup(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    return kbs_secret_heap_init(&err) < 0;
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, judge_setup_release, judge_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_a_key_that_signs_gets_nothing_without_proof),
        CASE(test_a_proof_is_for_one_request),
        CASE(test_the_fresh_key_is_the_guests),
        CASE(test_a_key_may_ask_for_a_proof),
        CASE(test_an_encrypted_body_is_for_one_request),
        CASE(test_both_have_one_nonce),
        CASE(test_request_key),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
