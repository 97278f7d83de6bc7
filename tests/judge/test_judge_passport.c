/*
 * Passports: a token of another issuer in the place of a handshake. What makes a token good is the issuers' own
 * suite (tests/attest/issuer); here it is what a judge makes of one: the key that is wrapped to, the level, the
 * records, and what an operator may ask for beside.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "attest/ear.h"
#include "base/digest.h"
#include "base/io.h"
#include "base/process.h"
#include "tests/attest/issuer/mint.h"

#define POLICY(level)                                \
    "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":[" \
    "{\"claim\":\"kbs.binding\",\"equals\":\"" level "\"}]}]}"
#define TOKEN_BYTES 16384

enum issuer {
    COCO,    /* a passport */
    KBS,     /* none */
    SIMPLE,  /* needs ITA's word too */
    ITA,     /* none */
    MAA_SGX, /* only for keys of ours */
    ISSUERS
};
static const char *const names[ISSUERS] = {"coco-ear", "kbs", "coco-simple", "ita-v1", "maa-sgx"};

static struct kbs_buf lists[ISSUERS][2];
static struct kbs_wire_config_issuer issuers[ISSUERS];

static struct mint *mint_named(const char *name)
{
    size_t i = 0;

    while (i + 1 < MINT_COUNT && strcmp(mints[i].name, name) != 0) {
        i++;
    }
    assert_string_equal(mints[i].name, name);
    return &mints[i];
}

/* As kbsd sends it. */
static void issuer_begin(size_t n)
{
    struct mint *m = mint_named(names[n]);
    struct kbs_wire_list_builder iss = {.buf = &lists[n][0]};
    struct kbs_wire_list_builder require = {.buf = &lists[n][1]};

    lists[n][0] = KBS_BUF(4096);
    lists[n][1] = KBS_BUF(4096);
    kbs_wire_list_add(&iss, kbs_span_str(m->iss));
    for (size_t i = 0; i < m->require_count; i++) {
        kbs_wire_list_add(&require, m->require[i].name);
        kbs_wire_list_add(&require, m->require[i].value);
    }
    issuers[n] = (struct kbs_wire_config_issuer){
        .name = kbs_span_str(m->name),
        .profile = kbs_span_str(kbs_issuer_profile_name(m->profile)),
        .issuer = kbs_wire_list_done(&iss),
        .keys = m->source == MINT_PEM ? kbs_buf_span(&m->pem) : kbs_buf_span(&m->jwks),
        .max_age_s = 300,
        .skew_s = 30,
        .max_stale_s = 60,
        .allow = (uint8_t)(n == KBS || n == ITA ? 0 : KBS_WIRE_ISSUER_PASSPORT),
        .require = kbs_wire_list_done(&require),
    };
    if (n == SIMPLE) {
        issuers[n].agree_with = KBS_SPAN_LIT("ita-v1");
    } else if (n == MAA_SGX) {
        issuers[n].allow |= KBS_WIRE_ISSUER_KNOWN_KEYS;
    }
}

static int group_begin(void **state)
{
    (void)state;
    mint_now = (int64_t)time(NULL);
    mint_begin();
    for (size_t i = 0; i < ISSUERS; i++) {
        issuer_begin(i);
    }
    return 0;
}

static int group_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < ISSUERS; i++) {
        kbs_buf_deinit(&lists[i][0]);
        kbs_buf_deinit(&lists[i][1]);
    }
    mint_end();
    return 0;
}

static int setup(void **state)
{
    struct judge *j;

    if (judge_setup_release(state) != 0) {
        return -1;
    }
    j = *state;
    j->issuers = issuers;
    j->issuer_count = ISSUERS;
    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    judge_start(j);
    judge_add_key(j, "default/disk/weak", 1, POLICY("token"));
    judge_add_key(j, "default/disk/strong", 1, POLICY("evidence"));
    judge_add_key(j, "default/disk/init", 1,
                  "{\"version\":\"1.0.0\",\"anyOf\":[{\"allOf\":["
                  "{\"claim\":\"kbs.init_data_matched\",\"equals\":true}]}]}");
    return 0;
}

/* "Bearer " and a token of that issuer, of the mint's guest. */
static void token_put(const char *issuer, struct kbs_buf *out)
{
    struct mint *m = mint_named(issuer);
    struct kbs_buf token = KBS_BUF(TOKEN_BYTES);
    json_t *claims = m->claims(&mint_guest);

    mint_token(m, &m->maker, NULL, claims, &token);
    kbs_buf_printf(out, "Bearer %s", kbs_buf_cstr(&token));
    json_decref(claims);
    kbs_buf_deinit(&token);
}

static struct ask ask_key(const char *tag, struct kbs_buf *authorization)
{
    static char target[64];

    (void)snprintf(target, sizeof(target), "/kbs/v0/key/default/disk/%s", tag);
    return (struct ask){.route = KBS_ROUTE_KEY_RELEASE,
                        .target = target,
                        .params = {"default", "disk", tag},
                        .authorization = kbs_buf_cstr(authorization)};
}

static void expect(struct judge *j, const char *tag, struct kbs_buf *authorization,
                   unsigned int status, const char *text)
{
    const struct ask ask = ask_key(tag, authorization);

    judge_expect(j, &ask, status, text);
}

/* The key of the token, its digest in party V, its issuer in the record. */
static void test_a_key_for_a_passport(void **state)
{
    struct judge *j = *state;
    struct kbs_buf bearer = KBS_BUF(TOKEN_BYTES);
    uint8_t tee_key[KBS_TEE_KEY_MAX_BYTES];
    uint8_t digest[KBS_SHA256_BYTES];
    uint8_t nonce[32] = {0};
    uint8_t party_v[32];

    token_put("coco-ear", &bearer);
    expect(j, "weak", &bearer, 200, JUDGE_TOKEN_BODY);
    assert_true(kbs_span_equal(j->release.tee_key,
                               kbs_span(tee_key, kbs_tee_key_put(&mint_guest.key, tee_key))));
    kbs_sha256(kbs_span_skip(kbs_buf_span(&bearer), strlen("Bearer ")), digest);
    kbs_party_v(kbs_span(digest, sizeof(digest)), nonce, party_v);
    assert_true(kbs_span_equal(j->release.party_v, kbs_span(party_v, sizeof(party_v))));
    ledger_expect(j, "binding=token");
    expect(j, "weak", &bearer, 200, JUDGE_TOKEN_BODY); /* until it expires */
    ledger_expect(j, "mode=passport issuer=coco-ear");
    kbs_buf_deinit(&bearer);
}

static void test_a_stronger_level_is_denied(void **state)
{
    struct judge *j = *state;
    struct kbs_buf bearer = KBS_BUF(TOKEN_BYTES);

    token_put("coco-ear", &bearer);
    expect(j, "strong", &bearer, 403, "kbs.binding");
    expect(j, "init", &bearer, 403, "kbs.init_data_matched"); /* though the token has init_data */
    ledger_expect(j, "mode=passport issuer=coco-ear");
    kbs_buf_deinit(&bearer);
}

static void test_what_is_refused(void **state)
{
    struct judge *j = *state;
    struct kbs_buf bearer = KBS_BUF(TOKEN_BYTES);
    struct ask ask;

    token_put("kbs", &bearer); /* an issuer, but no passport's */
    expect(j, "weak", &bearer, 401, "not taken without a handshake");
    ledger_expect(j, "attest-refused outcome=refused mode=passport");
    kbs_buf_clear(&bearer);
    token_put("veraison", &bearer); /* none of ours */
    expect(j, "weak", &bearer, 401, "not one that is trusted");
    kbs_buf_clear(&bearer);
    token_put("coco-ear", &bearer);
    ask = ask_key("weak", &bearer);
    ask.cookie = "00112233445566778899aabbccddeeff";
    judge_expect(j, &ask, 401, "two sessions");
    bearer.p[bearer.len - 1] = bearer.p[bearer.len - 1] == 'A' ? 'Q' : 'A';
    expect(j, "weak", &bearer, 401, "");
    ledger_expect_not(j, "release ");
    kbs_buf_deinit(&bearer);
}

/* The same, of a token that only time or an unasked-for second one is wrong with. */
static void test_too_old_and_too_many(void **state)
{
    struct judge *j = *state;
    struct kbs_buf bearer = KBS_BUF(TOKEN_BYTES);

    mint_now -= 400;
    token_put("coco-ear", &bearer);
    mint_now += 400;
    expect(j, "weak", &bearer, 401, "expired");
    kbs_buf_clear(&bearer);
    token_put("coco-ear", &bearer);
    kbs_buf_put_str(&bearer, ", ");
    token_put("ita-v1", &bearer);
    expect(j, "weak", &bearer, 401, "nothing asks for");
    kbs_buf_deinit(&bearer);
}

static void test_two_issuers_agree(void **state)
{
    struct judge *j = *state;
    struct kbs_buf bearer = KBS_BUF(TOKEN_BYTES);
    struct kbs_tee_key own;

    token_put("coco-simple", &bearer);
    expect(j, "weak", &bearer, 401, "a second token, of issuer ita-v1, is needed");
    kbs_buf_put_str(&bearer, ", ");
    token_put("ita-v1", &bearer);
    expect(j, "weak", &bearer, 200, JUDGE_TOKEN_BODY);
    ledger_expect(j, "issuer=coco-simple agreed=ita-v1");

    kbs_buf_clear(&bearer);
    token_put("coco-simple", &bearer);
    kbs_buf_put_str(&bearer, ", ");
    token_put("kbs", &bearer); /* another issuer than the one that is asked for */
    expect(j, "weak", &bearer, 401, "not one that is trusted");

    kbs_buf_clear(&bearer);
    token_put("coco-simple", &bearer);
    kbs_buf_put_str(&bearer, ", ");
    own = mint_guest.key;
    mint_guest_set(&mint_guest.other_key);
    token_put("ita-v1", &bearer); /* of another TEE key */
    mint_guest_set(&own);
    expect(j, "weak", &bearer, 401, "not of one TEE key");
    kbs_buf_deinit(&bearer);
}

/* Only for a key that was in a handshake, for as long as that session is alive. */
static void test_known_keys(void **state)
{
    struct judge *j = *state;
    struct kbs_buf bearer = KBS_BUF(TOKEN_BYTES);
    struct guest g = {.cookie = ""};

    token_put("maa-sgx", &bearer);
    expect(j, "weak", &bearer, 401, "not that of an attested session of ours");
    guest_auth(j, &g);
    mint_guest_set(&g.public);
    kbs_buf_clear(&bearer);
    token_put("maa-sgx", &bearer);
    expect(j, "weak", &bearer, 401, "not that of an attested session"); /* begun is not enough */
    guest_attest(j, &g);
    expect(j, "weak", &bearer, 200, JUDGE_TOKEN_BODY);
    ledger_expect(j, "issuer=maa-sgx");
    judge_tamper(j, "UPDATE session SET expires_s = 1");
    expect(j, "weak", &bearer, 401, "not that of an attested session");
    guest_free(&g);
    kbs_buf_deinit(&bearer);
}

/* Our own tokens are what they were. */
static void test_our_own_tokens(void **state)
{
    struct judge *j = *state;
    struct guest g = {.cookie = ""};
    struct ask ask = {.route = KBS_ROUTE_KEY_RELEASE,
                      .target = "/kbs/v0/key/default/disk/strong",
                      .params = {"default", "disk", "strong"},
                      .authorization = g.bearer};

    guest_auth(j, &g);
    guest_attest(j, &g);
    judge_expect(j, &ask, 200, JUDGE_TOKEN_BODY);
    ledger_expect_not(j, "mode=passport");
    guest_free(&g);
}

/* A judge does not start with what no configuration can hold, and says which issuer it is. */
static void test_bad_configuration(void **state)
{
    struct judge *j = *state;

    kbs_io_close(&j->control);
    assert_int_equal(judge_wait(j), KBS_EXIT_OK);
    struct kbs_wire_config_issuer good = issuers[SIMPLE];
    issuers[SIMPLE].require = (struct kbs_wire_list){.count = 0};
    judge_start_fails(j, KBS_EXIT_CONFIG);
    issuers[SIMPLE] = good;
    judge_start(j);
}

#define PASSPORT(f) cmocka_unit_test_setup_teardown(f, setup, judge_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PASSPORT(test_a_key_for_a_passport), PASSPORT(test_a_stronger_level_is_denied),
        PASSPORT(test_what_is_refused),      PASSPORT(test_too_old_and_too_many),
        PASSPORT(test_two_issuers_agree),    PASSPORT(test_known_keys),
        PASSPORT(test_our_own_tokens),       PASSPORT(test_bad_configuration),
    };

    return cmocka_run_group_tests_name("passport", tests, group_begin, group_end);
}
