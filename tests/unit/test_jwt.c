/*
 * Unit tests of foreign issuers' keys and tokens: what a key may verify, which key of a set a token finds, and
 * what a JWT must say beside its signature.
 */
#include "tests/jose/maker.h"

#include <openssl/ec.h>
#include <openssl/rsa.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jose/read/jwt.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NOW 1000000

static const char *const algs[] = {"ES256", "ES384", "ES512", "RS256", "RS384",
                                   "RS512", "PS256", "PS384", "PS512", "EdDSA"};
static const char *const kinds[] = {"ES256", "ES384", "ES512", "RS256", "EdDSA"};

static struct maker makers[COUNT(kinds)];

static int make(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        makers[i] = maker_new(kinds[i]);
    }
    return 0;
}

static int unmake(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(kinds); i++) {
        maker_free(&makers[i]);
    }
    return 0;
}

static const struct maker *maker_of(const char *alg)
{
    for (size_t i = 0; i < COUNT(kinds); i++) {
        if (strcmp(kinds[i], alg) == 0) {
            return &makers[i];
        }
    }
    return &makers[3]; /* the other algorithms of RSA */
}

static struct kbs_jwt_keys load(const char *text)
{
    struct kbs_jwt_keys keys;
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_jwt_keys_load(kbs_span_str(text), &keys, &err) != 0) {
        fail_msg("%s: %s", text, err.detail);
    }
    return keys;
}

static void load_fails(const char *text, const char *why)
{
    struct kbs_jwt_keys keys;
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_jwt_keys_load(kbs_span_str(text), &keys, &err) != -1 || keys.items != NULL ||
        (err.category != KBS_INPUT && err.category != KBS_UNPROCESSABLE) ||
        strstr(err.detail, why) == NULL) {
        fail_msg("%.200s: expected '%s', got '%s'", text, why, err.detail);
    }
}

/* True if some key of `keys` verifies the text. */
static bool accepted(const struct kbs_jwt_keys *keys, struct kbs_span text)
{
    struct kbs_jose_jws jws;
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON claims = NULL;
    const struct kbs_jws_key *key;
    bool ok = false;

    if (kbs_jws_split(text, KBS_JWS_ALGS_ALL, &jws, &err) != 0) {
        assert_int_equal(err.category, KBS_UNAUTHENTICATED);
        return false;
    }
    key = kbs_jwt_keys_find(keys, &jws);
    if (key != NULL) {
        ok = kbs_jws_verify(&jws, key, &claims, &err) == 0;
        assert_true(ok == (claims != NULL));
    }
    kbs_jose_jws_deinit(&jws);
    return ok;
}

/* Every algorithm against every kind of key: a PEM key takes what its kind can, a JWK what it says. */
static void algorithms_are_bound_to_keys(void **state)
{
    size_t good = 0;

    (void)state;
    for (size_t a = 0; a < COUNT(algs); a++) {
        const struct maker signer = maker_as(maker_of(algs[a]), algs[a]);
        struct kbs_buf token = KBS_BUF(4096);

        maker_jws(&signer, NULL, "{\"exp\":1}", &token);
        for (size_t k = 0; k < COUNT(kinds); k++) {
            struct kbs_buf pem = KBS_BUF(2048);
            struct kbs_jwt_keys keys;

            maker_pem(&makers[k], &pem);
            keys = load(kbs_buf_cstr(&pem));
            assert_false(keys.by_kid);
            assert_int_equal(accepted(&keys, kbs_buf_span(&token)), signer.pkey == makers[k].pkey);
            good += signer.pkey == makers[k].pkey;
            kbs_jwt_keys_deinit(&keys);
            kbs_buf_deinit(&pem);
        }
        kbs_buf_deinit(&token);
    }
    assert_int_equal(good, COUNT(algs));
}

static void a_jwk_is_for_one_algorithm(void **state)
{
    (void)state;
    for (size_t a = 0; a < COUNT(algs); a++) {
        struct kbs_buf set = KBS_BUF(4096);
        struct kbs_jwt_keys keys;

        kbs_buf_put_str(&set, "{\"keys\":[");
        maker_jwk(maker_of(algs[a]), algs[a], "k", ",\"use\":\"sig\"", &set);
        kbs_buf_put_str(&set, "]}");
        keys = load(kbs_buf_cstr(&set));
        assert_true(keys.by_kid);
        for (size_t b = 0; b < COUNT(algs); b++) {
            const struct maker signer = maker_as(maker_of(algs[b]), algs[b]);
            struct kbs_buf token = KBS_BUF(4096);
            char header[64];

            (void)snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"k\"}", algs[b]);
            maker_jws(&signer, header, "{}", &token);
            assert_int_equal(accepted(&keys, kbs_buf_span(&token)), a == b);
            kbs_buf_clear(&token); /* says what the key is for, and is signed otherwise */
            (void)snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"k\"}", algs[a]);
            maker_jws(&signer, header, "{}", &token);
            assert_int_equal(accepted(&keys, kbs_buf_span(&token)), a == b);
            kbs_buf_deinit(&token);
        }
        kbs_jwt_keys_deinit(&keys);
        kbs_buf_deinit(&set);
    }
}

/* What a token calls its key. */
static void keys_are_found_by_name(void **state)
{
    struct kbs_buf set = KBS_BUF(8192);
    struct kbs_jwt_keys keys;
    static const struct {
        const char *header;
        size_t maker;
        bool accepted;
    } rows[] = {
        {"{\"alg\":\"ES256\",\"kid\":\"a\"}", 0, true},
        {"{\"alg\":\"EdDSA\",\"kid\":\"b\"}", 4, true},
        {"{\"alg\":\"EdDSA\",\"kid\":\"a\"}", 4, false}, /* the name of another key */
        {"{\"alg\":\"ES256\",\"kid\":\"b\"}", 0, false},
        {"{\"alg\":\"ES256\"}", 0, false},
        {"{\"alg\":\"ES256\",\"kid\":\"\"}", 0, false},
        {"{\"alg\":\"ES256\",\"kid\":\"A\"}", 0, false},
        {"{\"alg\":\"ES256\",\"kid\":\"a \"}", 0, false},
        {"{\"alg\":\"ES256\",\"kid\":\"../a\"}", 0, false},
        {"{\"alg\":\"ES256\",\"kid\":\"a\\u0000\"}", 0, false},
        {"{\"alg\":\"ES256\",\"kid\":[\"a\"]}", 0, false},
        {"{\"alg\":\"ES256\",\"kid\":\"a' OR '1'='1\"}", 0, false},
        {"{\"alg\":\"RS256\",\"kid\":\"enc\"}", 3, false}, /* was left out */
        {"{\"alg\":\"RS256\",\"kid\":\"none\"}", 3, false},
    };

    (void)state;
    kbs_buf_put_str(&set, " {\"keys\":[");
    maker_jwk(&makers[0], "ES256", "a", ",\"key_ops\":[\"verify\"]", &set);
    kbs_buf_put_u8(&set, ',');
    maker_jwk(&makers[3], "RS256", "enc", ",\"use\":\"enc\"", &set);
    kbs_buf_put_u8(&set, ',');
    maker_jwk(&makers[3], NULL, "none", ",\"x5c\":[\"AAAA\"]", &set);
    kbs_buf_put_u8(&set, ',');
    maker_jwk(&makers[3], "RSA-OAEP", "oaep", NULL, &set);
    kbs_buf_put_u8(&set, ',');
    maker_jwk(&makers[3], "RS256", NULL, NULL, &set);
    kbs_buf_put_u8(&set, ',');
    maker_jwk(&makers[4], "EdDSA", "b", NULL, &set);
    kbs_buf_put_str(&set, "]}");
    keys = load(kbs_buf_cstr(&set));
    assert_int_equal(keys.count, 2);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct kbs_buf token = KBS_BUF(4096);

        maker_jws(&makers[rows[i].maker], rows[i].header, "{}", &token);
        if (accepted(&keys, kbs_buf_span(&token)) != rows[i].accepted) {
            fail_msg("%s", rows[i].header);
        }
        kbs_buf_deinit(&token);
    }
    kbs_jwt_keys_deinit(&keys);
    kbs_buf_deinit(&set);
}

/* A set of one JWK, changed. */
static void set_fails(const struct maker *m, const char *alg, const char *kid, const char *more,
                      const char *why)
{
    struct kbs_buf set = KBS_BUF(8192);

    kbs_buf_put_str(&set, "{\"keys\":[");
    maker_jwk(m, alg, kid, more, &set);
    kbs_buf_put_str(&set, "]}");
    load_fails(kbs_buf_cstr(&set), why);
    kbs_buf_deinit(&set);
}

static void sets_that_are_refused(void **state)
{
    struct kbs_buf set = KBS_BUF(65536);

    (void)state;
    load_fails("", "PEM");
    load_fails("{", "JWK set");
    load_fails("{}", "\"keys\"");
    load_fails("{\"keys\":{}}", "\"keys\"");
    load_fails("{\"keys\":[]}", "\"keys\"");
    load_fails("{\"keys\":[1]}", "not an object");
    load_fails("{\"keys\":[{}]}", "without \"kid\"");
    load_fails("{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\",\"alg\":\"HS256\",\"k\":\"AAAA\"}]}",
               "symmetric");
    set_fails(&makers[0], "ES256", "a", ",\"d\":\"AAAA\"", "disclosed");
    set_fails(&makers[3], "RS256", "a", ",\"dp\":\"AAAA\"", "disclosed");
    set_fails(&makers[0], NULL, "a", NULL, "absent");
    set_fails(&makers[0], "none", "a", NULL, "not one of ours");
    set_fails(&makers[0], "HS256", "a", NULL, "not one of ours");
    set_fails(&makers[0], "ES256", "a", ",\"use\":\"enc\"", "enc");
    set_fails(&makers[0], "ES256", "a", ",\"key_ops\":[\"sign\"]", "key_ops");
    set_fails(&makers[0], "ES256", "", NULL, "empty");
    set_fails(&makers[0], "ES384", "a", NULL, "curve");
    set_fails(&makers[0], "RS256", "a", NULL, "kty");
    set_fails(&makers[3], "ES256", "a", NULL, "kty");
    set_fails(&makers[4], "ES256", "a", NULL, "kty");
    set_fails(&makers[0], "EdDSA", "a", NULL, "kty");
    kbs_buf_put_str(&set, "{\"keys\":[");
    maker_jwk(&makers[0], "ES256", "a", NULL, &set);
    kbs_buf_put_u8(&set, ',');
    maker_jwk(&makers[1], "ES384", "a", NULL, &set);
    kbs_buf_put_str(&set, "]}");
    load_fails(kbs_buf_cstr(&set), "the \"kid\" of another");
    kbs_buf_clear(&set);
    kbs_buf_put_str(&set, "{\"keys\":[");
    for (int i = 0; i <= KBS_LIMIT_JWKS_KEYS; i++) {
        char kid[16];

        (void)snprintf(kid, sizeof(kid), "k%d", i);
        kbs_buf_put_str(&set, i > 0 ? "," : "");
        maker_jwk(&makers[0], "ES256", kid, NULL, &set);
    }
    kbs_buf_put_str(&set, "]}");
    load_fails(kbs_buf_cstr(&set), "\"keys\"");
    kbs_buf_deinit(&set);
}

/* Keys that are too weak, or not keys that verify. */
static void pem_keys_that_are_refused(void **state)
{
    EVP_PKEY *bad[] = {EVP_RSA_gen(1024), EVP_PKEY_Q_keygen(NULL, NULL, "X25519"),
                       EVP_PKEY_Q_keygen(NULL, NULL, "ED448"), EVP_EC_gen("secp256k1"),
                       EVP_PKEY_Q_keygen(NULL, NULL, "RSA-PSS", (size_t)2048)};

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        const struct maker m = {.pkey = bad[i]};
        struct kbs_buf pem = KBS_BUF(4096);

        if (m.pkey != NULL) {
            maker_pem(&m, &pem);
            load_fails(kbs_buf_cstr(&pem), i == 0 ? "2048" : "PEM");
            EVP_PKEY_free(m.pkey);
        }
        kbs_buf_deinit(&pem);
    }
    assert_non_null(bad[0]);
    assert_non_null(bad[1]);
    load_fails("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "PEM");
    load_fails("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "PEM");
}

static void claims(void **state)
{
    static const struct {
        const char *claims;
        const char *why; /* NULL: taken */
    } rows[] = {
        {"{\"exp\":1000001,\"iss\":\"i\",\"aud\":\"a\"}", NULL},
        {"{\"exp\":1000000,\"iss\":\"i\",\"aud\":\"a\"}", NULL},
        {"{\"exp\":999940,\"iss\":\"i\",\"aud\":\"a\"}", NULL}, /* the leeway, to the second */
        {"{\"exp\":999939,\"iss\":\"i\",\"aud\":\"a\"}", "expired"},
        {"{\"exp\":0,\"iss\":\"i\",\"aud\":\"a\"}", "expired"},
        {"{\"exp\":-1,\"iss\":\"i\",\"aud\":\"a\"}", "expired"},
        {"{\"exp\":-9223372036854775808,\"iss\":\"i\",\"aud\":\"a\"}", "expired"},
        {"{\"exp\":9223372036854775807,\"iss\":\"i\",\"aud\":\"a\"}", NULL},
        {"{\"iss\":\"i\",\"aud\":\"a\"}", "\"exp\""},
        {"{\"exp\":null,\"iss\":\"i\",\"aud\":\"a\"}", "\"exp\""},
        {"{\"exp\":\"1000001\",\"iss\":\"i\",\"aud\":\"a\"}", "\"exp\""},
        {"{\"exp\":1000001.5,\"iss\":\"i\",\"aud\":\"a\"}", "\"exp\""},
        {"{\"exp\":1e308,\"iss\":\"i\",\"aud\":\"a\"}", "\"exp\""},
        {"{\"exp\":[1000001],\"iss\":\"i\",\"aud\":\"a\"}", "\"exp\""},
        {"{\"exp\":true,\"iss\":\"i\",\"aud\":\"a\"}", "\"exp\""},
        {"{\"Exp\":1000001,\"iss\":\"i\",\"aud\":\"a\"}", "\"exp\""},
        {"{\"exp\":1000001,\"nbf\":1000060,\"iss\":\"i\",\"aud\":\"a\"}", NULL},
        {"{\"exp\":1000001,\"nbf\":1000061,\"iss\":\"i\",\"aud\":\"a\"}", "not valid yet"},
        {"{\"exp\":1000001,\"nbf\":9223372036854775807,\"iss\":\"i\",\"aud\":\"a\"}",
         "not valid yet"},
        {"{\"exp\":1000001,\"nbf\":-1,\"iss\":\"i\",\"aud\":\"a\"}", NULL},
        {"{\"exp\":1000001,\"nbf\":\"0\",\"iss\":\"i\",\"aud\":\"a\"}", "\"nbf\""},
        {"{\"exp\":1000001,\"nbf\":0.5,\"iss\":\"i\",\"aud\":\"a\"}", "\"nbf\""},
        {"{\"exp\":1000001,\"nbf\":null,\"iss\":\"i\",\"aud\":\"a\"}", "\"nbf\""},
        {"{\"exp\":1000001,\"aud\":\"a\"}", "issuer"},
        {"{\"exp\":1000001,\"iss\":\"I\",\"aud\":\"a\"}", "issuer"},
        {"{\"exp\":1000001,\"iss\":\"i/\",\"aud\":\"a\"}", "issuer"},
        {"{\"exp\":1000001,\"iss\":[\"i\"],\"aud\":\"a\"}", "issuer"},
        {"{\"exp\":1000001,\"iss\":\"i\"}", "audience"},
        {"{\"exp\":1000001,\"iss\":\"i\",\"aud\":\"A\"}", "audience"},
        {"{\"exp\":1000001,\"iss\":\"i\",\"aud\":[\"b\",\"a\"]}", NULL},
        {"{\"exp\":1000001,\"iss\":\"i\",\"aud\":[\"b\"]}", "audience"},
        {"{\"exp\":1000001,\"iss\":\"i\",\"aud\":[]}", "audience"},
        {"{\"exp\":1000001,\"iss\":\"i\",\"aud\":[\"a\",1]}", "audience"},
        {"{\"exp\":1000001,\"iss\":\"i\",\"aud\":{\"a\":1}}", "audience"},
    };
    const struct kbs_jwt_expect expect = {
        .issuer = KBS_SPAN_LIT("i"), .audience = KBS_SPAN_LIT("a"), .now_s = NOW, .leeway_s = 60};
    const struct kbs_jwt_expect nothing = {.now_s = NOW, .leeway_s = 60};

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct kbs_error err = KBS_ERROR_NONE;
        KBS_AUTO_JSON v = NULL;
        int rc;

        assert_int_equal(kbs_json_parse_object(kbs_span_str(rows[i].claims), "row", &v, &err), 0);
        rc = kbs_jwt_claims_check(v, &expect, &err);
        if ((rc == 0) != (rows[i].why == NULL) ||
            (rc != 0 &&
             (err.category != KBS_UNAUTHENTICATED || strstr(err.detail, rows[i].why) == NULL))) {
            fail_msg("%s: %s", rows[i].claims, err.detail);
        }
        if (rows[i].why != NULL &&
            (strcmp(rows[i].why, "issuer") == 0 || strcmp(rows[i].why, "audience") == 0)) {
            assert_int_equal(kbs_jwt_claims_check(v, &nothing, &err), 0); /* only if configured */
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(algorithms_are_bound_to_keys),
        cmocka_unit_test(a_jwk_is_for_one_algorithm),
        cmocka_unit_test(keys_are_found_by_name),
        cmocka_unit_test(sets_that_are_refused),
        cmocka_unit_test(pem_keys_that_are_refused),
        cmocka_unit_test(claims),
    };

    return cmocka_run_group_tests(tests, make, unmake);
}
