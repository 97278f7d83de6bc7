/*
 * The key that our tokens are signed with, and its versions: what a guest lane publishes and believes
 * when another lane or service has made or destroyed one, and what an administrator can do.
 */
#include "signed.h"

#include <stdio.h>

#include "base/clock.h"
#include "jose/read/jwt.h"
#include "jose/write/jose.h"

#define ALLOW                                        \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[" \
    "{\"claim\":\"kbs.tee\",\"equals\":\"sample\"}]}]}"
#define SIGN "/kbs/v0/admin/sign-key"

static const struct ask jwks = {.route = KBS_ROUTE_JWKS, .method = "GET"};

/* ---- guest lanes ---- */

static void expect_bearer(struct judge *j, const struct guest *g, unsigned int status,
                          const char *text)
{
    const struct ask ask = {.route = KBS_ROUTE_KEY_RELEASE,
                            .target = "/kbs/v0/key/default/disk/one",
                            .params = {"default", "disk", "one"},
                            .authorization = g->bearer};

    judge_expect(j, &ask, status, text);
}

/* As if somebody else on the same token had made it. */
static void token_makes(struct judge *j, uint32_t version, const char *curve, int64_t after_s)
{
    j->more_signs[version - 2].key = key_new(curve);
    j->more_signs[version - 2].from_s = (uint64_t)(kbs_clock_unix_s() + after_s);
}

static void token_loses_first(struct judge *j)
{
    EVP_PKEY_free(j->sign);
    j->sign = NULL;
}

static void kid_of(EVP_PKEY *key, enum kbs_curve curve, char ret[44])
{
    const struct kbs_ec_public public = key_public(key, curve);

    kbs_jose_thumbprint(&public, ret);
}

/* The set, read by the reader of other issuers' sets; its kids in order. */
static void expect_jwks(struct judge *j, const char *const *kids, size_t count)
{
    struct kbs_jwt_keys keys = KBS_JWT_KEYS_NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    struct reply *r = calloc(1, sizeof(*r));

    assert_non_null(r);
    judge_ask(j, &jwks, r);
    assert_int_equal(r->status, 200);
    assert_int_equal(kbs_jwt_keys_load(kbs_span_str(r->body), &keys, &err), 0);
    assert_int_equal(keys.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(keys.items[i].kid, kids[i]);
        assert_int_equal(keys.items[i].algs, kbs_jws_key_algs(&keys.items[i]));
    }
    kbs_jwt_keys_deinit(&keys);
    free(r);
}

static void test_another_lane_has_rotated(void **state)
{
    struct judge *j = *state;
    struct guest before = {.key = NULL};
    struct guest after = {.key = NULL};
    char kids[3][44];
    unsigned int described;

    judge_add_key(j, "default/disk/one", 1, ALLOW);
    kid_of(j->sign, KBS_CURVE_P256, kids[0]);
    expect_jwks(j, (const char *const[]){kids[0]}, 1);
    guest_attest(j, &before);
    token_makes(j, 2, "P-384", 0);
    token_makes(j, 3, "P-256", 600);
    kid_of(j->more_signs[0].key, KBS_CURVE_P384, kids[1]);
    kid_of(j->more_signs[1].key, KBS_CURVE_P256, kids[2]);

    guest_attest(j, &after); /* signed with the second, of which the judge has not heard */
    described = j->described;
    expect_bearer(j, &after, 200, NULL);
    assert_int_equal(j->described, described + 1); /* it looked, once */
    expect_bearer(j, &after, 200, NULL);
    expect_bearer(j, &before, 200, NULL);
    assert_int_equal(j->described, described + 1);
    expect_jwks(j, (const char *const[]){kids[0], kids[1], kids[2]}, 3); /* the next one, too */

    token_loses_first(j);
    expect_jwks(j, (const char *const[]){kids[1], kids[2]}, 2);
    expect_bearer(j, &before, 401, "signed by another key");
    expect_bearer(j, &after, 200, NULL);
    guest_free(&before);
    guest_free(&after);
}

/* What is known is never older than KBS_LIMIT_SIGN_LOOK_MS, whoever asks. */
static void test_a_destroyed_key_is_forgotten(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    uint64_t end = kbs_deadline_in_ms(KBS_LIMIT_SIGN_LOOK_MS);

    judge_add_key(j, "default/disk/one", 1, ALLOW);
    guest_attest(j, &g);
    token_makes(j, 2, "P-256", 0);
    token_loses_first(j);
    judge_serve(j, kbs_deadline_poll_ms(end) + 1);
    expect_bearer(j, &g, 401, "signed by another key");
    guest_free(&g);
}

/* A token cannot choose another algorithm than its key's. */
static void test_the_algorithm_is_the_keys(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    char text[8192];
    char kid[44];
    EVP_PKEY *other = key_new("P-384");

    judge_add_key(j, "default/disk/one", 1, ALLOW);
    guest_attest(j, &g);
    kid_of(j->sign, KBS_CURVE_P256, kid);
    jws_sign(other, kid, "JWT", "{}", text, sizeof(text)); /* ES384, with the kid of an ES256 key */
    (void)snprintf(g.bearer, sizeof(g.bearer), "Bearer %s", text);
    expect_bearer(j, &g, 401, "/errors/TokenVerifierError");
    EVP_PKEY_free(other);
    guest_free(&g);
}

/* Anybody can send a token with a kid that nobody knows. */
static void test_looks_are_bounded(void **state)
{
    struct judge *j = *state;
    struct guest g = {.key = NULL};
    EVP_PKEY *forger = key_new("P-256");
    uint64_t start = kbs_clock_mono_ns();
    unsigned int described = j->described;
    char text[8192];

    judge_add_key(j, "default/disk/one", 1, ALLOW);
    guest_auth(j, &g);
    for (int i = 0; i < 64; i++) {
        jws_sign(forger, "nobody", "JWT", "{}", text, sizeof(text));
        (void)snprintf(g.bearer, sizeof(g.bearer), "Bearer %s", text);
        expect_bearer(j, &g, 401, "signed by another key");
        judge_expect(j, &jwks, 200, NULL);
    }
    uint64_t seconds = (kbs_clock_mono_ns() - start) / (1000 * KBS_NS_PER_MS) + 2;
    assert_true(j->described - described <= KBS_LIMIT_SIGN_LOOKS_PER_S * seconds);
    EVP_PKEY_free(forger);
    guest_free(&g);
}

/* ---- administrators ---- */

static void expect_list(struct judge *j, const char *text)
{
    expect_signed(j,
                  (struct ask){.route = KBS_ROUTE_ADMIN_SIGN_LIST, .method = "GET", .target = SIGN},
                  200, text);
}

static void expect_rotate(struct judge *j, const char *body, unsigned int status, const char *text)
{
    expect_signed(j,
                  (struct ask){.route = KBS_ROUTE_ADMIN_SIGN_ROTATE,
                               .target = SIGN "/rotate",
                               .content_type = body != NULL ? "application/json" : NULL,
                               .body = body},
                  status, text);
}

static void expect_destroy(struct judge *j, const char *version, const char *at_once,
                           unsigned int status, const char *text)
{
    char target[128];
    struct ask ask = {.route = KBS_ROUTE_ADMIN_SIGN_DESTROY,
                      .method = "DELETE",
                      .target = target,
                      .query = {"version", version, at_once != NULL ? "at_once" : NULL, at_once}};

    (void)snprintf(target, sizeof(target), SIGN "?version=%s%s%s", version,
                   at_once != NULL ? "&at_once=" : "", at_once != NULL ? at_once : "");
    expect_signed(j, ask, status, text);
}

static void test_rotation(void **state)
{
    struct judge *j = *state;
    uint64_t now = (uint64_t)kbs_clock_unix_s();

    expect_list(j, "{\"keys\":[{\"version\":1,\"alg\":\"ES256\",\"kid\":\"");
    expect_list(j, "\"state\":\"signing\",\"from\":0}]}");
    expect_destroy(j, "1", "true", 409, "newest");
    expect_rotate(j, NULL, 200, "\"version\":2,\"alg\":\"ES256\"");
    ledger_expect(j, "sign-key-generate phase=intent epoch=1 order=");
    ledger_expect(j, "sign-key-generate phase=outcome epoch=1 order=");
    ledger_expect(j, " thumbprint=");
    assert_in_range(j->more_signs[0].from_s, now + KBS_DEFAULT_SIGN_AFTER_S,
                    now + KBS_DEFAULT_SIGN_AFTER_S + 60);
    expect_list(j, "\"state\":\"signing\",\"from\":0},{\"version\":2,");
    expect_list(j, "\"state\":\"next\",\"from\":1");
    expect_destroy(j, "1", "true", 409, "signed with now");
    expect_destroy(j, "2", NULL, 409, "newest");

    expect_rotate(j, "{\"alg\":\"ES384\",\"after_s\":0}", 200, "\"version\":3,\"alg\":\"ES384\"");
    expect_list(j, "\"state\":\"old\",\"from\":0},{\"version\":2,");
    expect_destroy(j, "2", NULL, 200, "\"state\":\"old\""); /* it has never signed */
    ledger_expect(j, "sign-key-destroy phase=outcome");
    expect_destroy(j, "2", NULL, 404, NULL);
    expect_destroy(j, "1", NULL, 409, "may live for 30");
    expect_destroy(j, "1", "yes", 400, NULL);
    expect_destroy(j, "1", "true", 200, "{\"keys\":[{\"version\":3,\"alg\":\"ES384\"");
    expect_destroy(j, "4", NULL, 404, NULL);
    expect_destroy(j, "0", NULL, 400, NULL);
    expect_rotate(j, NULL, 200, "\"version\":4,\"alg\":\"ES384\""); /* as the newest */
}

/* The successor has signed for as long as a token lives. */
static void test_old_enough(void **state)
{
    struct judge *j = *state;

    token_makes(j, 2, "P-256", -300 - KBS_LIMIT_SIGN_LOOK_MS / 1000);
    expect_destroy(j, "1", NULL, 200, "{\"keys\":[{\"version\":2,");
    token_makes(j, 3, "P-256", -200);
    expect_destroy(j, "2", NULL, 409, "may live for 10");
}

static void test_rotation_refusals(void **state)
{
    struct judge *j = *state;

    expect_rotate(j, "{\"alg\":\"ES512\"}", 400, "ES256 or ES384");
    expect_rotate(j, "{\"alg\":1}", 400, NULL);
    expect_rotate(j, "{\"after_s\":-1}", 400, "after_s");
    expect_rotate(j, "{\"after_s\":2592001}", 400, "after_s");
    expect_rotate(j, "{\"after\":1}", 400, NULL);
    assert_int_equal(j->orders, 0);
    assert_int_equal(j->records, 0);
    j->token_mood = TOKEN_REFUSES;
    j->refuse_category = KBS_CONFLICT;
    j->refuse_detail = "the token has 16 sign-token keys";
    expect_rotate(j, "{}", 409, "16 sign-token keys");
    ledger_expect(j, "sign-key-generate phase=outcome epoch=1 order=");
    ledger_expect(j, "outcome=failed");
}

int main(void)
{
#define GUEST(name) cmocka_unit_test_setup_teardown(name, judge_setup_release, judge_teardown)
#define ADMIN(name) cmocka_unit_test_setup_teardown(name, judge_setup_admin, judge_teardown)
    const struct CMUnitTest tests[] = {
        GUEST(test_another_lane_has_rotated),
        GUEST(test_a_destroyed_key_is_forgotten),
        GUEST(test_the_algorithm_is_the_keys),
        GUEST(test_looks_are_bounded),
        ADMIN(test_rotation),
        ADMIN(test_old_enough),
        ADMIN(test_rotation_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
