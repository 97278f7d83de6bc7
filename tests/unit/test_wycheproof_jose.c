/*
 * Wycheproof's JOSE files, every case decided: what it says is invalid must be refused, what it says is valid
 * accepted, or refused for a reason that stands in a table here. The reasons are rules about the
 * case, not lists of numbers, so that a newer file is decided too.
 */
#include "tests/jose/maker.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "base/encoding.h"
#include "base/secret.h"
#include "cli/open.h"
#include "jose/read/jwe.h"
#include "jose/read/jwt.h"
#include "tests/unit/vectors.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Why a case that is valid is refused. */
enum reason {
    AGREES = 0,
    SYMMETRIC,
    NO_PAYLOAD,
    OTHER_ALG,
    UNKNOWN_ALG,
    OTHER_ENC,
    OTHER_HEADER,
    REASONS
};

static const char *const reasons[REASONS] = {
    [SYMMETRIC] = "the key is symmetric: nobody shares a secret with this service",
    [NO_PAYLOAD] = "an empty payload: no token is empty",
    [OTHER_ALG] = "the token's \"alg\" is another than its key's",
    [UNKNOWN_ALG] =
        "the key's \"alg\" is none of ours (\"ES521\", RSA1_5, ECDH-ES without A256KW, ...)",
    [OTHER_ENC] = "the content's \"enc\" is not A256GCM",
    [OTHER_HEADER] = "the header has more than \"alg\", \"enc\", \"epk\"",
};

struct tally {
    const char *file;
    size_t accepted;
    size_t refused;
    size_t because[REASONS];
};

static json_t *vectors_json(const char *name)
{
    struct kbs_buf file = KBS_BUF(4 << 20);
    json_t *v;

    vectors_read(name, &file);
    v = json_loadb((const char *)file.p, file.len, 0, NULL);
    kbs_buf_deinit(&file);
    assert_non_null(v);
    return v;
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *s = json_string_value(json_object_get(object, name));

    return s != NULL ? s : "";
}

static bool is_valid(const json_t *test)
{
    return strcmp(text_of(test, "result"), "valid") == 0;
}

/* Counts one case; `why` is asked of valid ones only. */
static void decided(struct tally *t, const json_t *test, bool accepted, enum reason why)
{
    if (is_valid(test) && !accepted) {
        if (why == AGREES) {
            fail_msg("%s %lld: refused", t->file,
                     (long long)json_integer_value(json_object_get(test, "tcId")));
        }
        t->because[why]++;
    } else if (accepted != is_valid(test) || (accepted && why != AGREES)) {
        fail_msg("%s %lld: accepted", t->file,
                 (long long)json_integer_value(json_object_get(test, "tcId")));
    } else if (accepted) {
        t->accepted++;
    } else {
        t->refused++;
    }
}

static void tally_print(const struct tally *t, const json_t *file)
{
    size_t sum = t->accepted + t->refused;

    print_message("%s: %zu valid accepted, %zu invalid refused\n", t->file, t->accepted,
                  t->refused);
    for (size_t i = 0; i < REASONS; i++) {
        if (t->because[i] != 0) {
            print_message("    %4zu valid refused: %s\n", t->because[i], reasons[i]);
            sum += t->because[i];
        }
    }
    assert_int_equal(sum, json_integer_value(json_object_get(file, "numberOfTests")));
}

/* ---- signatures ---- */

/* As an identity provider's: the group's key, or set, is what the operator configured. */
static bool jws_accepted(const char *text, const json_t *key)
{
    KBS_AUTO_JSON set = json_object_get(key, "keys") != NULL ? json_deep_copy(key)
                                                             : json_pack("{s:[O]}", "keys", key);
    struct kbs_buf dumped = KBS_BUF(65536);
    struct kbs_buf payload = KBS_BUF(65536);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jwt_keys keys;
    struct kbs_jose_jws jws;
    const struct kbs_jws_key *found;
    bool ok = false;

    assert_int_equal(kbs_json_dump(set, &dumped, &err), 0);
    if (kbs_jwt_keys_load(kbs_buf_span(&dumped), &keys, &err) == 0) {
        if (kbs_jws_split(kbs_span_str(text), KBS_JWS_ALGS_ALL, &jws, &err) == 0) {
            found = kbs_jwt_keys_find(&keys, &jws);
            ok = found != NULL && kbs_jws_verify_bytes(&jws, found, &payload, &err) == 0;
            kbs_jose_jws_deinit(&jws);
        }
        kbs_jwt_keys_deinit(&keys);
    }
    kbs_buf_deinit(&dumped);
    kbs_buf_deinit(&payload);
    return ok;
}

/* The same as a token of ours or a Kbs-Signature: ES256 by a key that is known. */
static bool es256_accepted(const char *text, const json_t *key)
{
    struct kbs_buf payload = KBS_BUF(65536);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ec_public ec;
    struct kbs_jose_jws jws;
    bool ok = false;

    if (kbs_jose_jwk_get(key, "ES256", &ec, &err) == 0 &&
        kbs_jose_jws_split(kbs_span_str(text), &jws, &err) == 0) {
        ok = kbs_jose_jws_verify_bytes(&jws, &ec, &payload, &err) == 0;
        kbs_jose_jws_deinit(&jws);
    }
    kbs_buf_deinit(&payload);
    return ok;
}

/* The header's `alg`. */
static void header_alg(const char *text, char *out, size_t size)
{
    struct kbs_buf header = KBS_BUF(4096);
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON v = NULL;

    out[0] = '\0';
    if (kbs_base64url_get(&header, kbs_span(text, strcspn(text, "."))) == 0 &&
        kbs_json_parse_object(kbs_buf_span(&header), "header", &v, &err) == 0) {
        (void)snprintf(out, size, "%s", text_of(v, "alg"));
    }
    kbs_buf_deinit(&header);
}

static enum reason jws_reason(const char *text, const json_t *key)
{
    const json_t *first = json_array_get(json_object_get(key, "keys"), 0);
    const json_t *jwk = first != NULL ? first : key;
    char alg[32];

    header_alg(text, alg, sizeof(alg));
    if (strcmp(text_of(jwk, "kty"), "oct") == 0) {
        return SYMMETRIC;
    }
    if (kbs_jws_alg_from_name(kbs_span_str(text_of(jwk, "alg"))) == KBS_JWS_ALG_NONE) {
        return UNKNOWN_ALG;
    }
    if (strcmp(alg, text_of(jwk, "alg")) != 0) {
        return OTHER_ALG;
    }
    return strstr(text, "..") != NULL ? NO_PAYLOAD : AGREES;
}

static const json_t *key_of_group(const json_t *group)
{
    const json_t *key = json_object_get(group, "public");

    return key != NULL ? key : json_object_get(group, "private");
}

static void jws_file(const char *name, size_t accepted_min)
{
    KBS_AUTO_JSON file = vectors_json(name);
    const json_t *groups = json_object_get(file, "testGroups");
    struct tally providers = {.file = name};
    size_t es256 = 0;

    for (size_t i = 0; i < json_array_size(groups); i++) {
        const json_t *group = json_array_get(groups, i);
        const json_t *tests = json_object_get(group, "tests");
        const json_t *key = key_of_group(group);

        for (size_t k = 0; k < json_array_size(tests); k++) {
            const json_t *t = json_array_get(tests, k);
            const char *text = text_of(t, "jws");
            bool accepted = jws_accepted(text, key);

            decided(&providers, t, accepted, is_valid(t) ? jws_reason(text, key) : AGREES);
            if (es256_accepted(text, key)) {
                assert_true(accepted); /* never more than a provider's */
                es256++;
            }
        }
    }
    tally_print(&providers, file);
    print_message("    of them accepted as ES256 by a known key: %zu\n", es256);
    assert_true(providers.accepted >= accepted_min);
}

static void signatures(void **state)
{
    (void)state;
    jws_file("wycheproof/json_web_signature_test.json", 20);
}

static void keys(void **state)
{
    (void)state;
    jws_file("wycheproof/json_web_key_test.json", 1);
}

/* ---- encryption ---- */

static void number(OSSL_PARAM_BLD *bld, const json_t *jwk, const char *member, const char *param,
                   BIGNUM **keep)
{
    struct kbs_buf bytes = KBS_BUF(1024);

    assert_int_equal(kbs_base64url_get(&bytes, kbs_span_str(text_of(jwk, member))), 0);
    *keep = BN_bin2bn(bytes.p, (int)bytes.len, NULL);
    assert_non_null(*keep);
    assert_int_equal(OSSL_PARAM_BLD_push_BN(bld, param, *keep), 1);
    kbs_buf_deinit(&bytes);
}

static EVP_PKEY *private_key(const json_t *jwk)
{
    static const char *const rsa[][2] = {
        {"n", OSSL_PKEY_PARAM_RSA_N},          {"e", OSSL_PKEY_PARAM_RSA_E},
        {"d", OSSL_PKEY_PARAM_RSA_D},          {"p", OSSL_PKEY_PARAM_RSA_FACTOR1},
        {"q", OSSL_PKEY_PARAM_RSA_FACTOR2},    {"dp", OSSL_PKEY_PARAM_RSA_EXPONENT1},
        {"dq", OSSL_PKEY_PARAM_RSA_EXPONENT2}, {"qi", OSSL_PKEY_PARAM_RSA_COEFFICIENT1}};
    bool is_rsa = strcmp(text_of(jwk, "kty"), "RSA") == 0;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, is_rsa ? "RSA" : "EC", NULL);
    OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
    BIGNUM *numbers[COUNT(rsa)] = {NULL};
    EVP_PKEY *key = NULL;
    struct kbs_ec_public ec;
    uint8_t point[KBS_EC_POINT_MAX_BYTES];
    struct kbs_error err = KBS_ERROR_NONE;

    if (is_rsa) {
        for (size_t i = 0; i < COUNT(rsa); i++) {
            if (json_object_get(jwk, rsa[i][0]) != NULL) {
                number(bld, jwk, rsa[i][0], rsa[i][1], &numbers[i]);
            }
        }
    } else {
        ec.curve = kbs_curve_from_jose_name(kbs_span_str(text_of(jwk, "crv")));
        size_t n = kbs_curve_field_bytes(ec.curve);
        assert_int_equal(kbs_base64url_get_exact(ec.x, n, kbs_span_str(text_of(jwk, "x"))), 0);
        assert_int_equal(kbs_base64url_get_exact(ec.y, n, kbs_span_str(text_of(jwk, "y"))), 0);
        assert_int_equal(kbs_ec_public_check(&ec, &err), 0);
        assert_int_equal(OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME,
                                                         kbs_curve_group_name(ec.curve), 0),
                         1);
        assert_int_equal(OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point,
                                                          kbs_ec_point_put(&ec, point)),
                         1);
        number(bld, jwk, "d", OSSL_PKEY_PARAM_PRIV_KEY, &numbers[0]);
    }
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(bld);
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEYPAIR, params), 1);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(bld);
    EVP_PKEY_CTX_free(ctx);
    for (size_t i = 0; i < COUNT(numbers); i++) {
        BN_free(numbers[i]);
    }
    return key;
}

/* The guest that has that key and said that alg; false if there is no such guest. */
static bool guest_of(const json_t *jwk, struct kbs_guest_key *ret)
{
    BIO *bio = BIO_new(BIO_s_mem());
    struct kbs_error err = KBS_ERROR_NONE;
    EVP_PKEY *key = private_key(jwk);
    char *text = NULL;
    bool ok = false;

    memset(ret, 0, sizeof(*ret));
    ret->public_key.alg = kbs_tee_alg_from_name(kbs_span_str(text_of(jwk, "alg")));
    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    long n = BIO_get_mem_data(bio, &text);
    const struct kbs_span pem = kbs_span(text, (size_t)n);

    if (ret->public_key.alg == KBS_TEE_ALG_ECDH_ES_A256KW) {
        ok = kbs_agree_key_from_pem(pem, &ret->ec, &err) == 0;
        if (ok) {
            ret->public_key.ec = *kbs_agree_key_public(ret->ec);
        }
    } else if (ret->public_key.alg == KBS_TEE_ALG_RSA_OAEP ||
               ret->public_key.alg == KBS_TEE_ALG_RSA_OAEP_256) {
        ok = kbs_agree_rsa_from_pem(pem, &ret->rsa, &err) == 0;
        if (ok) {
            ret->public_key.rsa = *kbs_agree_rsa_public(ret->rsa);
        }
    }
    EVP_PKEY_free(key);
    BIO_free(bio);
    return ok;
}

/* The five parts as the flattened form, which is the only one there is here; NULL if they are not five. */
static json_t *flattened(const char *compact)
{
    static const char *const names[] = {"protected", "encrypted_key", "iv", "ciphertext", "tag"};
    json_t *v = json_object();

    for (size_t i = 0; i < COUNT(names); i++) {
        size_t n = strcspn(compact, ".");
        bool last = i + 1 == COUNT(names);

        if (last != (compact[n] == '\0') ||
            json_object_set_new(v, names[i], json_stringn(compact, n)) != 0) {
            json_decref(v);
            return NULL;
        }
        compact += last ? n : n + 1;
    }
    return v;
}

static bool jwe_accepted(const json_t *test, const struct kbs_guest_key *guest)
{
    KBS_AUTO_JSON jwe = flattened(text_of(test, "jwe"));
    struct kbs_buf text = KBS_BUF(65536);
    struct kbs_buf expected = KBS_BUF(65536);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_secret *plain = NULL;
    struct kbs_jose_jwe_in in;
    bool ok = false;

    if (jwe != NULL) {
        assert_int_equal(kbs_jose_sealed_get(jwe, &in, &err), -1); /* none has our template */
        assert_int_equal(kbs_json_dump(jwe, &text, &err), 0);
        ok = kbs_guest_open_jwe(guest, kbs_buf_span(&text), &plain, &err) == 0;
        if (ok) {
            const char *hex = text_of(test, "pt");
            uint8_t *out = kbs_buf_reserve(&expected, strlen(hex) / 2);

            assert_int_equal(kbs_hex_get_exact(out, strlen(hex) / 2, kbs_span_str(hex)), 0);
            kbs_buf_commit(&expected, strlen(hex) / 2);
            assert_true(kbs_span_equal(kbs_secret_span(plain), kbs_buf_span(&expected)));
            (void)kbs_secret_free(plain);
        }
    }
    kbs_buf_deinit(&text);
    kbs_buf_deinit(&expected);
    return ok;
}

static enum reason jwe_reason(const json_t *test, const json_t *key)
{
    struct kbs_buf header = KBS_BUF(4096);
    struct kbs_error err = KBS_ERROR_NONE;
    const char *text = text_of(test, "jwe");
    KBS_AUTO_JSON v = NULL;
    enum reason why = AGREES;

    assert_int_equal(kbs_base64url_get(&header, kbs_span(text, strcspn(text, "."))), 0);
    assert_int_equal(kbs_json_parse_object(kbs_buf_span(&header), "header", &v, &err), 0);
    kbs_buf_deinit(&header);
    if (strcmp(text_of(key, "kty"), "oct") == 0) {
        why = SYMMETRIC;
    } else if (kbs_tee_alg_from_name(kbs_span_str(text_of(key, "alg"))) == KBS_TEE_ALG_NONE ||
               strcmp(text_of(key, "alg"), "RSA1_5") == 0) {
        why = UNKNOWN_ALG;
    } else if (strcmp(text_of(v, "enc"), "A256GCM") != 0) {
        why = OTHER_ENC;
    } else if (json_object_get(v, "kid") != NULL || json_object_get(v, "zip") != NULL) {
        why = OTHER_HEADER;
    }
    return why;
}

static void encryption(void **state)
{
    static const char name[] = "wycheproof/json_web_encryption_test.json";
    KBS_AUTO_JSON file = vectors_json(name);
    const json_t *groups = json_object_get(file, "testGroups");
    struct tally tally = {.file = name};

    (void)state;
    for (size_t i = 0; i < json_array_size(groups); i++) {
        const json_t *group = json_array_get(groups, i);
        const json_t *key = json_object_get(group, "private");
        const json_t *tests = json_object_get(group, "tests");
        struct kbs_guest_key guest = {.ec = NULL};
        bool is_guest = strcmp(text_of(key, "kty"), "oct") != 0 && guest_of(key, &guest);

        for (size_t k = 0; k < json_array_size(tests); k++) {
            const json_t *t = json_array_get(tests, k);

            decided(&tally, t, is_guest && jwe_accepted(t, &guest),
                    is_valid(t) ? jwe_reason(t, key) : AGREES);
        }
        kbs_guest_key_deinit(&guest);
    }
    tally_print(&tally, file);
    assert_true(tally.accepted >= 3);
}

/* Keys used for something else than they say: a JWK with a JWS, or a JWE. */
static void crypto(void **state)
{
    static const char name[] = "wycheproof/json_web_crypto_test.json";
    KBS_AUTO_JSON file = vectors_json(name);
    const json_t *groups = json_object_get(file, "testGroups");
    struct tally tally = {.file = name};

    (void)state;
    for (size_t i = 0; i < json_array_size(groups); i++) {
        const json_t *group = json_array_get(groups, i);
        const json_t *tests = json_object_get(group, "tests");

        for (size_t k = 0; k < json_array_size(tests); k++) {
            const json_t *t = json_array_get(tests, k);
            const char *jws = text_of(t, "jws"); /* empty for the JSON form, which is not ours */

            if (json_object_get(t, "jwe") == NULL) {
                decided(&tally, t, jws_accepted(jws, key_of_group(group)),
                        is_valid(t) ? jws_reason(jws, key_of_group(group)) : AGREES);
            } else {
                const json_t *key = json_object_get(group, "private");
                struct kbs_guest_key guest = {.ec = NULL};
                bool is_guest = json_object_get(key, "d") != NULL && guest_of(key, &guest);

                decided(&tally, t, is_guest && jwe_accepted(t, &guest),
                        is_valid(t) ? jwe_reason(t, key) : AGREES);
                kbs_guest_key_deinit(&guest);
            }
        }
    }
    tally_print(&tally, file);
}

static int set_up(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;

    (void)state;
    return kbs_secret_heap_init(&err) < 0 ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures),
        cmocka_unit_test(keys),
        cmocka_unit_test(encryption),
        cmocka_unit_test(crypto),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
