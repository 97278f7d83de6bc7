/*
 * The handshake as clients of both versions of the protocol speak it: kinds of evidence, the choice
 * of a hash, devices, sessions that wait, RSA1_5. What else can go wrong in a handshake is in
 * test_judge_guest.c.
 */
#include "harness.h"

#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/encoding.h"
#include "base/io.h"
#include "base/process.h"
#include "base/terms.h"

#define ALLOW                                        \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[" \
    "{\"claim\":\"kbs.tee\",\"equals\":\"sample\"}]}]}"
#define ASK_KEY                                             \
    ((struct ask){.route = KBS_ROUTE_KEY_RELEASE,           \
                  .target = "/kbs/v0/key/default/disk/one", \
                  .params = {"default", "disk", "one"}})

static void expect_auth(struct judge *j, const char *body, unsigned int status, const char *text)
{
    const struct ask ask = {
        .route = KBS_ROUTE_AUTH, .content_type = "application/json", .body = body};

    judge_expect(j, &ask, status, text);
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

/* The release that was ordered is to the guest's key. */
static void assert_tee_key(const struct judge *j, const struct guest *g)
{
    uint8_t bytes[KBS_TEE_KEY_MAX_BYTES];
    size_t n = kbs_tee_key_put(&g->public, bytes);

    assert_true(kbs_span_equal(j->release.tee_key, kbs_span(bytes, n)));
}

/* Another judge of the same store, configured as the fixture now says. */
static void restart(struct judge *j)
{
    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    judge_start(j);
}

/* The claims that a policy of a key would see, of the token that a guest has. Returns owned. */
static json_t *token_claims(const struct guest *g)
{
    const char *payload = strchr(g->token, '.');
    struct kbs_buf text = KBS_BUF(sizeof(g->token));
    struct kbs_error err = KBS_ERROR_NONE;
    json_t *claims = NULL;

    assert_non_null(payload);
    payload++;
    assert_int_equal(kbs_base64url_get(&text, kbs_span(payload, strcspn(payload, "."))), 0);
    assert_int_equal(kbs_json_parse_object(kbs_buf_span(&text), "claims", &claims, &err), 0);
    kbs_buf_deinit(&text);
    return claims;
}

static void test_attest_0_2_0(void **state)
{
    struct judge *j = *state;
    struct guest old = {.version = KBS_PROTOCOL_0_2_0};
    struct guest new = {.version = KBS_PROTOCOL_0_4_0};
    struct ask ask = ASK_KEY;
    char evidence[4096];

    judge_add_key(j, "default/disk/one", 1, ALLOW);
    guest_auth(j, &old);
    guest_auth(j, &new);
    guest_evidence(&new, evidence, sizeof(evidence)); /* the other's shape, each way */
    expect_attest(j, old.cookie, evidence, 400, "of 0.4.0 in a session of 0.2.0");
    guest_evidence(&old, evidence, sizeof(evidence));
    expect_attest(j, new.cookie, evidence, 400, "of 0.2.0 in a session of 0.4.0");
    expect_attest(j, old.cookie, evidence, 200, "token"); /* no nonce was used up */
    ledger_expect(j, "attest outcome=attested");
    guest_auth(j, &old);
    guest_evidence(&old, evidence, sizeof(evidence));
    guest_auth(j, &new);
    /* Evidence of another session's nonce: there is none in the message, only in the digest. */
    old.digest = guest_digest(&new, true);
    guest_evidence(&old, evidence, sizeof(evidence));
    expect_attest(j, old.cookie, evidence, 401, "report_data");
    ledger_expect(j, "attest-refused outcome=refused");

    guest_attest(j, &old);
    ledger_expect(j, "protocol=0.2.0");
    ask.cookie = old.cookie;
    judge_expect(j, &ask, 200, JUDGE_TOKEN_BODY);
    assert_tee_key(j, &old);
    guest_free(&old);
    guest_free(&new);
}

/* A known name gets its challenge; that there is no verifier is said where evidence is sent. */
static void test_tees_without_verifier(void **state)
{
    static const char *const names[] = {"tdx", "snp", "az-snp-vtpm", "aztdxvtpm", "se", "nvidia"};
    struct judge *j = *state;
    char text[128];
    char evidence[4096];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct guest g = {.tee = names[i]};

        guest_auth(j, &g);
        guest_evidence(&g, evidence, sizeof(evidence));
        (void)snprintf(text, sizeof(text),
                       "RCAR handshake Attest failed: there is no verifier here for %s as a TEE",
                       kbs_tee_name(kbs_tee_from_name(kbs_span_str(names[i]))));
        expect_attest(j, g.cookie, evidence, 401, text);
        ledger_expect(j, "attest-refused outcome=refused");
        guest_free(&g);
    }
    ledger_forget(j);
    struct guest device = {.tee = "sampledevice"};

    guest_auth(j, &device);
    guest_evidence(&device, evidence, sizeof(evidence));
    expect_attest(j, device.cookie, evidence, 401, "no verifier here for sampledevice as a TEE");
    guest_free(&device);
}

static void test_hashes(void **state)
{
    static const struct {
        const char *extra;
        enum kbs_hash hash;
    } rows[] = {
        {"{\"supported-hash-algorithms\":[\"sha256\",\"sha384\",\"sha512\",\"sm3\"]}",
         KBS_HASH_NONE},
        {"{\"supported-hash-algorithms\":[\"SHA256\"]}", KBS_HASH_SHA256},
        {"{\"supported-hash-algorithms\":[\"sha256\",\"sha512\"]}", KBS_HASH_SHA512},
    };
    struct judge *j = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct guest g = {.extra = rows[i].extra, .hash = rows[i].hash};

        guest_attest(j, &g); /* by a digest of that hash */
        guest_free(&g);
    }
    expect_auth(j,
                "{\"version\":\"0.4.0\",\"tee\":\"sample\",\"extra-params\":"
                "{\"supported-hash-algorithms\":[\"md5\"]}}",
                401, "Auth failed: supported-hash-algorithms lists none of");
    expect_auth(j,
                "{\"version\":\"0.4.0\",\"tee\":\"sample\",\"extra-params\":"
                "{\"supported-hash-algorithms\":\"sha384\"}}",
                400, "supported-hash-algorithms");
}

/* Evidence of a sampledevice over that digest, as additional_evidence. */
static void device_evidence(const struct kbs_digest *digest, char *out, size_t size)
{
    struct kbs_buf text = KBS_BUF(size - 1);

    kbs_buf_put_str(&text, "{\"sampledevice\":{\"svn\":\"2\",\"report_data\":\"");
    kbs_base64_put(&text, kbs_digest_span(digest));
    kbs_buf_put_str(&text, "\"}}");
    assert_true(kbs_span_to_cstr(kbs_buf_span(&text), out, size));
    kbs_buf_deinit(&text);
}

static void test_devices(void **state)
{
    struct judge *j = *state;
    char additional[512];
    char evidence[4096];
    struct guest g = {.additional = additional};
    struct kbs_digest digest;
    const json_t *submods;
    KBS_AUTO_JSON body = NULL;
    struct reply *r = calloc(1, sizeof(*r));
    struct kbs_error err = KBS_ERROR_NONE;
    const struct ask ask = {.route = KBS_ROUTE_ATTEST,
                            .content_type = "application/json",
                            .cookie = g.cookie,
                            .body = evidence};

    assert_non_null(r);
    additional[0] = '\0';
    guest_auth(j, &g);

    digest = g.digest; /* the TEE's own digest is not a device's */
    device_evidence(&digest, additional, sizeof(additional));
    g.digest = guest_digest(&g, false);
    guest_evidence(&g, evidence, sizeof(evidence));
    expect_attest(j, g.cookie, evidence, 401, "report_data");
    ledger_expect(j, "devices=sampledevice");

    (void)snprintf(additional, sizeof(additional), "{\"nvidia\":{}}");
    g.digest = guest_digest(&g, false);
    guest_evidence(&g, evidence, sizeof(evidence));
    expect_attest(j, g.cookie, evidence, 401, "no verifier here for nvidia as a device");
    ledger_expect(j, "devices=nvidia");

    digest = guest_digest(&g, true);
    device_evidence(&digest, additional, sizeof(additional));
    guest_evidence(&g, evidence, sizeof(evidence)); /* whose digest is over what was there before */
    expect_attest(j, g.cookie, evidence, 401, "report_data");
    g.digest = guest_digest(&g, false);
    guest_evidence(&g, evidence, sizeof(evidence));
    judge_ask(j, &ask, r);
    assert_int_equal(r->status, 200);
    ledger_expect(j, "attest outcome=attested");
    assert_int_equal(kbs_json_parse_object(kbs_span_str(r->body), "token", &body, &err), 0);
    (void)snprintf(g.token, sizeof(g.token), "%s",
                   json_string_value(json_object_get(body, "token")));
    KBS_AUTO_JSON claims = token_claims(&g);
    submods = json_object_get(claims, "submods");
    assert_int_equal(json_object_size(submods), 2);
    assert_non_null(json_object_get(submods, "cpu0"));
    assert_non_null(json_object_get(submods, "gpu0"));
    free(r);
    guest_free(&g);
}

/* Who does not take the sample TEE does not take the sample device either. */
static void test_sample_device_off(void **state)
{
    struct judge *j = *state;

    expect_auth(j, "{\"version\":\"0.4.0\",\"tee\":\"sampledevice\",\"extra-params\":\"\"}", 401,
                "unknown or unsupported tee");
}

/* The bound of sessions that have not attested; the others stay, and work. */
static void test_sessions_that_wait(void **state)
{
    struct judge *j = *state;
    struct guest attested = {.key = NULL};
    struct guest waiting[3] = {{.key = NULL}};
    struct ask ask = ASK_KEY;
    const struct ask auth = {
        .route = KBS_ROUTE_AUTH,
        .content_type = "application/json",
        .body = "{\"version\":\"0.4.0\",\"tee\":\"sample\",\"extra-params\":\"\"}"};
    struct reply *r = calloc(1, sizeof(*r));
    char evidence[4096];

    assert_non_null(r);
    judge_add_key(j, "default/disk/one", 1, ALLOW);
    j->sessions = 3;
    restart(j);
    guest_attest(j, &attested);
    for (size_t i = 0; i < 3; i++) {
        guest_auth(j, &waiting[i]);
    }
    judge_ask(j, &auth, r);
    assert_int_equal(r->status, 429);
    assert_int_equal(r->retry_after_s, KBS_LIMIT_RETRY_AFTER_S);
    assert_non_null(strstr(r->body, "/errors/"));
    ask.cookie = attested.cookie;
    judge_expect(j, &ask, 200, JUDGE_TOKEN_BODY);
    guest_evidence(&waiting[0], evidence, sizeof(evidence));
    expect_attest(j, waiting[0].cookie, evidence, 200, "token"); /* makes room */
    guest_auth(j, &waiting[0]);
    judge_expect(j, &auth, 429, NULL);
    free(r);
    guest_free(&attested);
    for (size_t i = 0; i < 3; i++) {
        guest_free(&waiting[i]);
    }
}

/* RSA1_5: refused while the guest can still choose another, unless the operator allows it. */
static void test_rsa1_5(void **state)
{
    struct judge *j = *state;
    struct guest g = {.rsa_alg = KBS_TEE_ALG_RSA1_5};
    struct ask ask = ASK_KEY;
    char evidence[4096];

    g.key = EVP_RSA_gen(2048);
    judge_add_key(j, "default/disk/one", 1, ALLOW);
    guest_auth(j, &g);
    guest_evidence(&g, evidence, sizeof(evidence));
    expect_attest(j, g.cookie, evidence, 422, "RSA1_5 is not supported, use RSA-OAEP-256");
    j->rsa1_5 = true;
    restart(j);
    expect_attest(j, g.cookie, evidence, 200, "token"); /* the nonce is still good */
    ask.cookie = g.cookie;
    judge_expect(j, &ask, 200, JUDGE_TOKEN_BODY);
    assert_tee_key(j, &g); /* that there is no rung for it is kbs-token's to say */
    guest_free(&g);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, judge_setup_release, judge_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_attest_0_2_0),
        CASE(test_tees_without_verifier),
        CASE(test_hashes),
        CASE(test_devices),
        cmocka_unit_test_setup_teardown(test_sample_device_off, judge_setup_no_sample,
                                        judge_teardown),
        CASE(test_sessions_that_wait),
        CASE(test_rsa1_5),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
