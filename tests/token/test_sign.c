/*
 * The sign worker, on real tokens: what it signs, verified by OpenSSL; what a front that runs an attacker's
 * code cannot have signed; which keys it refuses to be; that channels are served at a time; how it ends.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "agree/pem.h"
#include "base/encoding.h"
#include "base/io.h"
#include "base/process.h"
#include "base/random.h"
#include "cose/write/cose.h"
#include "harness.h"
#include "hsm/ckr.h"
#include "hsm/orders.h"
#include "hsm/service.h"
#include "hsm/tls13.h"
#include "jose/write/jose.h"
#include "tests/mock/calls.h"

#define CALL_MS 30000

/* Initialised once: all service keys, tls version 1 on P-256, a NEK key, and what an operator brought. */
static struct token_dir template_dir;

static struct worker start(const struct token_dir *d, size_t fronts, const char *key)
{
    struct worker w;

    worker_start(&w, d,
                 &(struct start_options){.duty = KBS_DUTY_SIGN, .fronts = fronts, .key = key});
    return w;
}

/* How a worker with these options ends that cannot start. */
static int start_status(struct start_options o)
{
    struct worker w;
    struct token_dir d;
    int status;

    o.duty = KBS_DUTY_SIGN;
    o.fronts = o.fronts != 0 ? o.fronts : 1;
    o.expect_failure = true;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &o);
    status = worker_wait(&w);
    dir_remove(&d);
    return status;
}

/* ---- an operator's keys ---- */

struct own_key {
    const char *label;
    uint8_t id;
    enum kbs_curve curve; /* NONE: RSA of 2048 bits */
    bool no_sign;
    bool derive;
    bool loose;     /* extractable */
    bool no_public; /* the object is destroyed */
};

static const struct own_key own_keys[] = {
    {.label = "web-256", .id = 1, .curve = KBS_CURVE_P256, .derive = true},
    {.label = "web-384", .id = 2, .curve = KBS_CURVE_P384, .derive = true},
    {.label = "web-rsa", .id = 3},
    {.label = "web-loose", .id = 4, .curve = KBS_CURVE_P256, .loose = true},
    {.label = "web-bare", .id = 5, .curve = KBS_CURVE_P256, .no_public = true},
    {.label = "web-mute", .id = 6, .curve = KBS_CURVE_P256, .no_sign = true, .derive = true},
    {.label = "web-twin", .id = 7, .curve = KBS_CURVE_P256},
    {.label = "web-twin", .id = 8, .curve = KBS_CURVE_P256},
    {.label = "web-521", .id = 9, .curve = KBS_CURVE_P521},
    {.label = "kbs-hsm/mine", .id = 10, .curve = KBS_CURVE_P256},
    {.label = "web-rsa-bare", .id = 11, .no_public = true},
};

/* As pkcs11-tool makes them: with every right that comes to hand. */
static void own_key_make(struct kbs_token *t, const struct own_key *k)
{
    static const uint8_t exponent[] = {1, 0, 1};
    struct kbs_template pub = {.n = 0};
    struct kbs_template priv = {.n = 0};
    CK_MECHANISM mech = {.mechanism = k->curve == KBS_CURVE_NONE ? CKM_RSA_PKCS_KEY_PAIR_GEN
                                                                 : CKM_EC_KEY_PAIR_GEN};
    CK_OBJECT_HANDLE objects[2];
    CK_RV rv;

    kbs_template_bool(&pub, CKA_TOKEN, true);
    kbs_template_bytes(&pub, CKA_ID, kbs_span(&k->id, 1));
    kbs_template_bytes(&pub, CKA_LABEL, kbs_span_str(k->label));
    kbs_template_bool(&priv, CKA_TOKEN, true);
    kbs_template_bool(&priv, CKA_PRIVATE, true);
    kbs_template_bool(&priv, CKA_SENSITIVE, true);
    kbs_template_bool(&priv, CKA_EXTRACTABLE, k->loose);
    kbs_template_bytes(&priv, CKA_ID, kbs_span(&k->id, 1));
    kbs_template_bytes(&priv, CKA_LABEL, kbs_span_str(k->label));
    kbs_template_bool(&priv, CKA_SIGN, !k->no_sign);
    if (k->curve != KBS_CURVE_NONE) {
        kbs_template_bytes(&pub, CKA_EC_PARAMS, kbs_curve_oid_der(k->curve));
        kbs_template_bool(&priv, CKA_DERIVE, k->derive);
    } else {
        kbs_template_number(&pub, CKA_MODULUS_BITS, 2048);
        kbs_template_bytes(&pub, CKA_PUBLIC_EXPONENT, kbs_span(exponent, sizeof(exponent)));
        kbs_template_bool(&priv, CKA_DECRYPT, true);
        kbs_template_bool(&priv, CKA_UNWRAP, true);
    }
    rv = t->f->C_GenerateKeyPair(t->session, &mech, pub.a, pub.n, priv.a, priv.n, &objects[0],
                                 &objects[1]);
    if (rv != CKR_OK) {
        fail_msg("%s: %s", k->label, kbs_ckr_name(rv));
    }
    if (k->no_public) {
        assert_int_equal(t->f->C_DestroyObject(t->session, objects[0]), CKR_OK);
    }
}

static int group_setup(void **state)
{
    struct key_ref nek = key_ref(42, 1);
    struct kbs_wire_generate order = generate_order(&nek, 32);
    struct kbs_token t;
    struct worker w;

    (void)state;
    dir_new_with_keys(&template_dir);
    worker_start(&w, &template_dir, &(struct start_options){.duty = KBS_DUTY_ADMIN});
    assert_int_equal(order_service_key(&w, KBS_PURPOSE_TLS).category, KBS_OK);
    order.purpose = KBS_PURPOSE_NEK;
    order.alg = KBS_KEY_ALG_P256;
    assert_int_equal(worker_order(&w, KBS_WIRE_GENERATE, &order).category, KBS_OK);
    assert_int_equal(worker_stop(&w), 0);
    inside_open(&t, &template_dir);
    for (size_t i = 0; i < sizeof(own_keys) / sizeof(own_keys[0]); i++) {
        own_key_make(&t, &own_keys[i]);
    }
    kbs_token_close(&t);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    dir_remove(&template_dir);
    return 0;
}

/* ---- orders ---- */

/* The RESULT of one order; false if the channel ends instead. Owned by m, which it is borrowed from. */
static bool front_call(int fd, enum kbs_wire_type type, const void *msg, struct kbs_channel_msg *m,
                       struct kbs_wire_result *ret)
{
    struct kbs_error err = KBS_ERROR_NONE;
    uint64_t deadline_ns = kbs_deadline_in_ms(CALL_MS);
    int rc = kbs_channel_send(fd, type, 7, msg, -1, deadline_ns, &err);

    if (rc == 0) {
        rc = kbs_channel_recv(fd, m, deadline_ns, &err);
    }
    if (rc != 0) {
        return false;
    }
    assert_int_equal(m->frame.id, 7);
    assert_int_equal(kbs_channel_msg_decode(m, KBS_WIRE_RESULT, ret, &err), 0);
    return true;
}

static struct kbs_wire_result front_order(struct worker *w, enum kbs_wire_type type,
                                          const void *msg)
{
    struct kbs_wire_result r;

    if (!front_call(w->fronts[0], type, msg, &w->answer_msg, &r)) {
        fail_msg("%s: the channel ended", kbs_wire_type_name(type));
    }
    return r;
}

static void assert_category(const struct kbs_wire_result *r, enum kbs_category category)
{
    if (r->category != category) {
        fail_msg("%s instead of %s: %.*s", kbs_category_name((enum kbs_category)r->category),
                 kbs_category_name(category), (int)r->detail.len, (const char *)r->detail.p);
    }
}

/* What the worker says its key is. Returns owned. */
static EVP_PKEY *front_public(struct worker *w)
{
    struct kbs_wire_result r = front_order(w, KBS_WIRE_PUBLIC_WANT, NULL);
    const uint8_t *p = r.body.p;
    EVP_PKEY *key;

    assert_category(&r, KBS_OK);
    key = d2i_PUBKEY(NULL, &p, (long)r.body.len);
    assert_non_null(key);
    assert_ptr_equal(p, r.body.p + r.body.len);
    return key;
}

/* A server's CertificateVerify, of a hash of that length. */
static struct kbs_span verify_content(size_t hash_len, uint8_t ret[KBS_TLS13_VERIFY_MAX_BYTES])
{
    memset(ret, ' ', 64);
    memcpy(ret + 64, "TLS 1.3, server CertificateVerify", 34); /* and its zero byte */
    kbs_random(ret + KBS_TLS13_HEAD_BYTES, hash_len);
    return kbs_span(ret, KBS_TLS13_HEAD_BYTES + hash_len);
}

static const char *digest_name(enum kbs_hash hash)
{
    return hash == KBS_HASH_SHA256 ? "SHA256" : hash == KBS_HASH_SHA384 ? "SHA384" : "SHA512";
}

/* As a TLS client does it. */
static void assert_tls_signature(EVP_PKEY *key, const struct kbs_tls13_scheme *s,
                                 struct kbs_span content, struct kbs_span signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *p = NULL;

    assert_int_equal(
        EVP_DigestVerifyInit(ctx, &p, EVP_get_digestbyname(digest_name(s->hash)), NULL, key), 1);
    if (s->alg == KBS_SIGN_RSA_PSS) {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(p, RSA_PKCS1_PSS_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(p, RSA_PSS_SALTLEN_DIGEST), 1);
    }
    if (EVP_DigestVerify(ctx, signature.p, signature.len, content.p, content.len) != 1) {
        fail_msg("a signature by %s does not verify", s->name);
    }
    EVP_MD_CTX_free(ctx);
}

static bool key_has_scheme(const EVP_PKEY *key, const struct kbs_tls13_scheme *s)
{
    return s->curve == KBS_CURVE_NONE
               ? EVP_PKEY_is_a(key, "RSA") == 1
               : EVP_PKEY_is_a(key, "EC") == 1 &&
                     (size_t)EVP_PKEY_get_bits(key) == 8 * kbs_curve_field_bytes(s->curve);
}

/* All schemes and both lengths of a hash: those of the key are signed by, others are refused in peace. */
static void check_schemes(struct worker *w, EVP_PKEY *key)
{
    uint8_t bytes[KBS_TLS13_VERIFY_MAX_BYTES];
    size_t n = 0;

    for (size_t i = 0; i < KBS_TLS13_SCHEMES; i++) {
        for (size_t len = 32; len <= 48; len += 16) {
            const struct kbs_tls13_scheme *s = &kbs_tls13_schemes[i];
            const struct kbs_wire_sign_tls m = {.scheme = s->number,
                                                .content = verify_content(len, bytes)};
            struct kbs_wire_result r = front_order(w, KBS_WIRE_SIGN_TLS, &m);

            if (!key_has_scheme(key, s)) {
                assert_category(&r, KBS_UNSUPPORTED);
                continue;
            }
            assert_category(&r, KBS_OK);
            assert_tls_signature(key, s, m.content, r.body);
            n++;
        }
    }
    assert_true(n == 2 || n == 6); /* of ECDSA, of RSA */
}

static void test_service_key(void **state)
{
    struct token_dir d;
    struct worker w;
    EVP_PKEY *first;
    EVP_PKEY *second;
    struct kbs_wire_generate order = {.order = KBS_SPAN_LIT(ORDER),
                                      .purpose = KBS_PURPOSE_TLS,
                                      .key_version = 2,
                                      .curve = KBS_CURVE_P384};

    (void)state;
    dir_copy(&template_dir, &d);
    w = start(&d, 1, NULL);
    first = front_public(&w);
    check_schemes(&w, first);
    assert_int_equal(EVP_PKEY_get_bits(first), 256);
    assert_int_equal(worker_stop(&w), 0);

    worker_start(&w, &d, &(struct start_options){.duty = KBS_DUTY_ADMIN});
    order.from_s = 1;
    assert_int_equal(worker_order(&w, KBS_WIRE_GENERATE, &order).category, KBS_INPUT);
    order.from_s = 0;
    order.curve = KBS_CURVE_P521;
    assert_int_equal(worker_order(&w, KBS_WIRE_GENERATE, &order).category, KBS_INPUT);
    order.curve = KBS_CURVE_P384;
    assert_int_equal(worker_order(&w, KBS_WIRE_GENERATE, &order).category, KBS_OK);
    assert_int_equal(worker_order(&w, KBS_WIRE_GENERATE, &order).category, KBS_CONFLICT);
    assert_int_equal(worker_stop(&w), 0);

    w = start(&d, 1, NULL); /* the newest */
    second = front_public(&w);
    check_schemes(&w, second);
    assert_int_equal(EVP_PKEY_get_bits(second), 384);
    assert_int_equal(worker_stop(&w), 0);

    worker_start(&w, &d, &(struct start_options){.duty = KBS_DUTY_ADMIN});
    assert_int_equal(worker_order(&w, KBS_WIRE_DESTROY,
                                  &(struct kbs_wire_destroy){.order = KBS_SPAN_LIT(ORDER),
                                                             .purpose = KBS_PURPOSE_TLS,
                                                             .key_version = 2})
                         .category,
                     KBS_CONFLICT);
    assert_int_equal(worker_order(&w, KBS_WIRE_DESTROY,
                                  &(struct kbs_wire_destroy){.order = KBS_SPAN_LIT(ORDER),
                                                             .purpose = KBS_PURPOSE_TLS,
                                                             .key_version = 1})
                         .category,
                     KBS_OK);
    assert_int_equal(worker_stop(&w), 0);
    EVP_PKEY_free(first);
    EVP_PKEY_free(second);
    dir_remove(&d);
}

static void test_operator_keys(void **state)
{
    static const char *const uris[] = {
        "pkcs11:object=web-256",        "pkcs11:token=kbs-test;id=%02;type=private",
        "pkcs11:id=%03;object=web-rsa", "pkcs11:object=web-twin;id=%08",
        "pkcs11:object=web-loose",      "pkcs11:object=web-rsa-bare",
    };
    struct token_dir d;

    (void)state;
    dir_copy(&template_dir, &d);
    for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++) {
        struct worker w = start(&d, 1, uris[i]);
        EVP_PKEY *key = front_public(&w);

        check_schemes(&w, key);
        EVP_PKEY_free(key);
        assert_int_equal(worker_stop(&w), 0);
    }
    dir_remove(&d);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_service_key),
        cmocka_unit_test(test_operator_keys),
    };

    assert_int_equal(argc, 2);
    if (!harness_select(argv[1])) {
        return 77;
    }
    (void)start_status;
    return cmocka_run_group_tests_name(argv[1], tests, group_setup, group_teardown);
}
