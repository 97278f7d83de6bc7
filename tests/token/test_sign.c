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

    o.duty = o.duty != KBS_DUTY_NONE ? o.duty : KBS_DUTY_SIGN;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d, &o);
    status = worker_wait(&w);
    dir_remove(&d);
    return status;
}

/* The same of one that is told what it cannot work with after its login, by its key alone. */
static int key_status(const char *key, struct kbs_span certificate, bool production)
{
    return start_status((struct start_options){.fronts = 1,
                                               .key = key,
                                               .certificate = certificate,
                                               .production = production,
                                               .expect_failure = true});
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
    bool foreign;   /* and another key's is in its place */
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
    {.label = "web-foreign", .id = 12, .curve = KBS_CURVE_P256, .no_public = true, .foreign = true},
};
#define OWN_KEYS (sizeof(own_keys) / sizeof(own_keys[0]))

/* Their public halves, as they were when they were made. */
static EVP_PKEY *own_public[OWN_KEYS];

static EVP_PKEY *own_public_of(const char *label)
{
    for (size_t i = 0; i < OWN_KEYS; i++) {
        if (strcmp(own_keys[i].label, label) == 0) {
            return own_public[i];
        }
    }
    fail_msg("there is no %s", label);
    return NULL;
}

static EVP_PKEY *public_read(const struct kbs_token *t, CK_OBJECT_HANDLE object,
                             enum kbs_curve curve)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_ec_public ec;
    struct kbs_rsa_public rsa;

    if (curve == KBS_CURVE_NONE) {
        assert_int_equal(kbs_object_rsa_public(t, object, &rsa, &err), 0);
        return kbs_agree_rsa_pkey(&rsa);
    }
    assert_int_equal(kbs_object_ec_point(t, object, curve, &ec, &err), 0);
    return kbs_agree_ec_pkey(&ec);
}

/* A public key object with that CKA_ID whose private half is nowhere. */
static void foreign_make(struct kbs_token *t, const struct own_key *k)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_template pub = {.n = 0};
    struct kbs_agree_key *pair = NULL;
    uint8_t point[2 + KBS_EC_POINT_MAX_BYTES] = {4, 65};
    CK_OBJECT_HANDLE object;

    assert_int_equal(kbs_agree_key_generate(KBS_CURVE_P256, &pair, &err), 0);
    assert_int_equal(kbs_ec_point_put(kbs_agree_key_public(pair), point + 2), 65);
    kbs_template_number(&pub, CKA_CLASS, CKO_PUBLIC_KEY);
    kbs_template_number(&pub, CKA_KEY_TYPE, CKK_EC);
    kbs_template_bool(&pub, CKA_TOKEN, true);
    kbs_template_bytes(&pub, CKA_ID, kbs_span(&k->id, 1));
    kbs_template_bytes(&pub, CKA_EC_PARAMS, kbs_curve_oid_der(KBS_CURVE_P256));
    kbs_template_bytes(&pub, CKA_EC_POINT, kbs_span(point, 67));
    assert_int_equal(t->f->C_CreateObject(t->session, pub.a, pub.n, &object), CKR_OK);
    (void)kbs_agree_key_free(pair);
}

/* As pkcs11-tool makes them: with every right that comes to hand. */
static void own_key_make(struct kbs_token *t, const struct own_key *k, EVP_PKEY **ret_public)
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
    *ret_public = public_read(t, objects[0], k->curve);
    if (k->no_public) {
        assert_int_equal(t->f->C_DestroyObject(t->session, objects[0]), CKR_OK);
    }
    if (k->foreign) {
        foreign_make(t, k);
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
    for (size_t i = 0; i < OWN_KEYS; i++) {
        own_key_make(&t, &own_keys[i], &own_public[i]);
    }
    kbs_token_close(&t);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < OWN_KEYS; i++) {
        EVP_PKEY_free(own_public[i]);
    }
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

/* ---- keys that are refused ---- */

static const char *service_uri(enum kbs_purpose purpose, char *out, size_t size)
{
    uint8_t id[KBS_CKA_ID_BYTES];
    size_t n;

    kbs_service_cka_id(purpose, 1, id);
    n = (size_t)snprintf(out, size, "pkcs11:id=");
    for (size_t i = 0; i < sizeof(id); i++) {
        n += (size_t)snprintf(out + n, size - n, "%%%02x", id[i]);
    }
    return out;
}

static void test_other_keys_are_refused(void **state)
{
    static const struct {
        const char *uri;
        int status;
    } cases[] = {
        {"pkcs11:object=kbs-hsm%2Fsign-token", KBS_EXIT_CONFIG},
        {"pkcs11:object=kbs-hsm%2Fsign-receipt;type=private", KBS_EXIT_CONFIG},
        {"pkcs11:object=kbs-hsm%2Fmine", KBS_EXIT_CONFIG},
        {"pkcs11:object=default%2Fkey%2Fnr-42%2Fv1", KBS_EXIT_CONFIG}, /* the catalog's */
        {"pkcs11:object=web-twin", KBS_EXIT_CONFIG},                   /* two */
        {"pkcs11:object=web-256;type=public", KBS_EXIT_CONFIG},
        {"pkcs11:object=web-256;token=another", KBS_EXIT_CONFIG},
        {"pkcs11:object=web-256;pin-value=" PIN, KBS_EXIT_CONFIG},
        {"web-256", KBS_EXIT_CONFIG},
        {"pkcs11:object=web-mute", KBS_EXIT_CONFIG},
        {"pkcs11:object=web-521", KBS_EXIT_CONFIG},
        {"pkcs11:object=web-foreign", KBS_EXIT_CONFIG},
        {"pkcs11:object=web-0", KBS_EXIT_FAILURE}, /* it may come */
        {"pkcs11:object=web-256;id=%02", KBS_EXIT_FAILURE},
    };
    char uri[128];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int status = key_status(cases[i].uri, KBS_SPAN_EMPTY, false);

        if (status != cases[i].status) {
            fail_msg("%s: %d", cases[i].uri, status);
        }
    }
    for (int p = KBS_PURPOSE_NONE + 1; p < KBS_PURPOSE_COUNT; p++) {
        bool pair = p != KBS_PURPOSE_RELEASE && p != KBS_PURPOSE_NEK && p != KBS_PURPOSE_CARD &&
                    p != KBS_PURPOSE_WRAP_CATALOG;

        if (p != KBS_PURPOSE_TLS) {
            assert_int_equal(key_status(service_uri((enum kbs_purpose)p, uri, sizeof(uri)),
                                        KBS_SPAN_EMPTY, false),
                             pair ? KBS_EXIT_CONFIG : KBS_EXIT_FAILURE);
        }
    }
}

/* By name, as an operator may pin a version; and in production, where every wall must stand. */
static void test_service_key_by_name(void **state)
{
    char uri[128];
    struct token_dir d;
    struct worker w;
    EVP_PKEY *key;

    (void)state;
    dir_copy(&template_dir, &d);
    worker_start(&w, &d,
                 &(struct start_options){.duty = KBS_DUTY_SIGN,
                                         .fronts = 2,
                                         .production = true,
                                         .key = service_uri(KBS_PURPOSE_TLS, uri, sizeof(uri))});
    key = front_public(&w);
    check_schemes(&w, key);
    EVP_PKEY_free(key);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
    assert_int_equal(key_status("pkcs11:object=web-loose", KBS_SPAN_EMPTY, true), KBS_EXIT_CONFIG);
}

/* ---- certificates ---- */

/* A certificate for that key, by a CA of the moment, appended as PEM. */
static void certificate_put(struct kbs_buf *out, EVP_PKEY *subject)
{
    EVP_PKEY *ca = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long len;

    assert_int_equal(X509_set_version(x, 2), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(x), 1), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), 0));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), 3600));
    assert_int_equal(X509_set_pubkey(x, subject), 1);
    assert_true(X509_sign(x, ca, EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509(bio, x), 1);
    len = BIO_get_mem_data(bio, &text);
    kbs_buf_put(out, text, (size_t)len);
    BIO_free(bio);
    X509_free(x);
    EVP_PKEY_free(ca);
}

/* How a worker does with a key and the certificates of others, in that order: 0 if it serves. */
static int certificate_status(const char *key, const char *first, const char *second)
{
    struct kbs_buf pem = KBS_BUF(16384);
    struct token_dir d;
    struct worker w;
    char uri[128];
    int status;

    (void)snprintf(uri, sizeof(uri), "pkcs11:object=%s", key);
    certificate_put(&pem, own_public_of(first));
    if (second != NULL) {
        certificate_put(&pem, own_public_of(second));
    }
    dir_copy(&template_dir, &d);
    worker_start(&w, &d,
                 &(struct start_options){.duty = KBS_DUTY_SIGN,
                                         .fronts = 1,
                                         .key = uri,
                                         .certificate = kbs_buf_span(&pem),
                                         .expect_failure = strcmp(key, first) != 0});
    if (strcmp(key, first) == 0) {
        EVP_PKEY *public_key = front_public(&w);

        assert_int_equal(EVP_PKEY_eq(public_key, own_public_of(first)), 1);
        check_schemes(&w, public_key);
        EVP_PKEY_free(public_key);
        status = worker_stop(&w);
    } else {
        status = worker_wait(&w);
    }
    kbs_buf_deinit(&pem);
    dir_remove(&d);
    return status;
}

static void test_certificates(void **state)
{
    struct kbs_buf pem = KBS_BUF(16384);

    (void)state;
    assert_int_equal(certificate_status("web-256", "web-256", NULL), 0);
    assert_int_equal(certificate_status("web-256", "web-256", "web-384"), 0);
    assert_int_equal(certificate_status("web-rsa", "web-rsa", NULL), 0);
    assert_int_equal(certificate_status("web-bare", "web-bare", NULL),
                     0); /* known from there alone */
    assert_int_equal(certificate_status("web-256", "web-384", "web-256"), KBS_EXIT_CONFIG);
    assert_int_equal(certificate_status("web-256", "web-twin", NULL), KBS_EXIT_CONFIG);
    assert_int_equal(certificate_status("web-rsa", "web-256", NULL), KBS_EXIT_CONFIG);
    assert_int_equal(certificate_status("web-bare", "web-256", NULL), KBS_EXIT_CONFIG);
    assert_int_equal(certificate_status("web-bare", "web-rsa", NULL), KBS_EXIT_CONFIG);
    assert_int_equal(certificate_status("web-rsa-bare", "web-rsa", NULL), KBS_EXIT_CONFIG);
    certificate_put(&pem, own_public_of("web-256"));
    assert_int_equal(key_status(NULL, kbs_buf_span(&pem), false), KBS_EXIT_CONFIG);
    assert_int_equal(key_status("pkcs11:object=web-256", kbs_span(pem.p, pem.len / 2), false),
                     KBS_EXIT_CONFIG);
    assert_int_equal(key_status("pkcs11:object=web-256", KBS_SPAN_LIT("no certificate"), false),
                     KBS_EXIT_CONFIG);
    kbs_buf_deinit(&pem);
}

/* ---- a front that runs an attacker's code ---- */

/* How often C_Sign was called, as the mock counts it; zeros on other tokens. */
static struct mock_calls_record calls_of_sign(const struct token_dir *d)
{
    struct mock_calls_record found = {.name = ""};
    struct mock_calls *calls;
    char path[300];
    int fd;

    if (!kind->mock) {
        return found;
    }
    (void)snprintf(path, sizeof(path), "%s/calls", d->path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    calls = mmap(NULL, sizeof(*calls), PROT_READ, MAP_SHARED, fd, 0);
    assert_int_equal(close(fd), 0);
    assert_ptr_not_equal(calls, MAP_FAILED);
    for (size_t i = 0; i < MOCK_CALLS_FUNCTIONS; i++) {
        if (strcmp(calls->functions[i].name, "C_Sign") == 0) {
            found = calls->functions[i];
        }
    }
    assert_int_equal(munmap(calls, sizeof(*calls)), 0);
    return found;
}

/* What is on a channel to a worker that shall not be fooled. */
struct attack {
    const char *name;
    enum kbs_wire_type type;
    void (*content)(struct kbs_buf *out); /* of a SIGN_TLS */
};

static void jws_put(struct kbs_buf *out)
{
    kbs_jose_jws_input_put(out, "ES256", "0123456789012345678901234567890123456789012", "JWT",
                           KBS_SPAN_LIT("{\"sub\":\"me\"}"));
}

static void cose_put(struct kbs_buf *out)
{
    struct kbs_buf map = KBS_BUF(128);

    kbs_cose_sign1_protected_put(&map, KBS_SPAN_LIT("kid"), "application/kbs-receipt");
    kbs_cose_sign1_input_put(out, kbs_buf_span(&map), KBS_SPAN_LIT("payload"));
    kbs_buf_deinit(&map);
}

static void row_put(struct kbs_buf *out)
{
    kbs_buf_put_str(out, "kbs-row-v1a row of the store");
}

static void head_put(struct kbs_buf *out)
{
    kbs_buf_put_str(out, "kbs-head-v1--------01234567890123456789012345678901");
}

/* Of the right length, so that only what is wrong with it is. */
static void verify_put(struct kbs_buf *out, const char *context, size_t spaces, uint8_t zero,
                       size_t hash_len)
{
    uint8_t hash[80];

    for (size_t i = 0; i < spaces; i++) {
        kbs_buf_put_u8(out, ' ');
    }
    kbs_buf_put_str(out, context);
    kbs_buf_put_u8(out, zero);
    kbs_random(hash, sizeof(hash));
    kbs_buf_put(out, hash, hash_len);
}

#define SERVER "TLS 1.3, server CertificateVerify"
static void client_put(struct kbs_buf *out)
{
    verify_put(out, "TLS 1.3, client CertificateVerify", 64, 0, 32);
}
static void padding_short_put(struct kbs_buf *out)
{
    verify_put(out, SERVER, 63, 0, 33);
}
static void padding_long_put(struct kbs_buf *out)
{
    verify_put(out, SERVER, 65, 0, 31);
}
static void padding_tab_put(struct kbs_buf *out)
{
    verify_put(out, SERVER, 64, 0, 32);
    out->p[17] = '\t';
}
static void separator_put(struct kbs_buf *out)
{
    verify_put(out, SERVER, 64, 1, 32);
}
static void case_put(struct kbs_buf *out)
{
    verify_put(out, "TLS 1.3, Server CertificateVerify", 64, 0, 48);
}
static void version_put(struct kbs_buf *out)
{
    verify_put(out, "TLS 1.4, server CertificateVerify", 64, 0, 32);
}
static void hash_none_put(struct kbs_buf *out)
{
    verify_put(out, SERVER, 64, 0, 0);
}
static void hash_20_put(struct kbs_buf *out)
{
    verify_put(out, SERVER, 64, 0, 20);
}
static void hash_31_put(struct kbs_buf *out)
{
    verify_put(out, SERVER, 64, 0, 31);
}
static void hash_33_put(struct kbs_buf *out)
{
    verify_put(out, SERVER, 64, 0, 33);
}
static void hash_47_put(struct kbs_buf *out)
{
    verify_put(out, SERVER, 64, 0, 47);
}
static void hash_49_put(struct kbs_buf *out)
{
    verify_put(out, SERVER, 64, 0, 49);
}
static void hash_64_put(struct kbs_buf *out)
{
    verify_put(out, SERVER, 64, 0, 64);
}
static void nothing_put(struct kbs_buf *out)
{
    (void)out;
}
static void digest_put(struct kbs_buf *out)
{
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_random(digest, sizeof(digest));
    kbs_buf_put(out, digest, sizeof(digest));
}
/* ServerKeyExchange of TLS 1.2: both randoms, then the parameters (RFC 8422 section 5.4). */
static void tls12_put(struct kbs_buf *out)
{
    uint8_t bytes[64 + 4 + 65] = {[64] = 3, [65] = 0, [66] = 23, [67] = 65, [68] = 4};

    kbs_random(bytes, 64);
    kbs_buf_put(out, bytes, sizeof(bytes));
}
/* The same by a client whose random is spaces, and a server's that goes on from there. */
static void tls12_spaces_put(struct kbs_buf *out)
{
    verify_put(out, SERVER, 64, 0, 32);
    memcpy(out->p + 64, "\x03\x00\x17\x41\x04", 5);
}

static const struct attack attacks[] = {
    {"a JWT", KBS_WIRE_SIGN_TLS, jws_put},
    {"a receipt", KBS_WIRE_SIGN_TLS, cose_put},
    {"a row", KBS_WIRE_SIGN_TLS, row_put},
    {"a head", KBS_WIRE_SIGN_TLS, head_put},
    {"a client's", KBS_WIRE_SIGN_TLS, client_put},
    {"63 spaces", KBS_WIRE_SIGN_TLS, padding_short_put},
    {"65 spaces", KBS_WIRE_SIGN_TLS, padding_long_put},
    {"a tab", KBS_WIRE_SIGN_TLS, padding_tab_put},
    {"no zero byte", KBS_WIRE_SIGN_TLS, separator_put},
    {"Server", KBS_WIRE_SIGN_TLS, case_put},
    {"TLS 1.4", KBS_WIRE_SIGN_TLS, version_put},
    {"no hash", KBS_WIRE_SIGN_TLS, hash_none_put},
    {"SHA-1", KBS_WIRE_SIGN_TLS, hash_20_put},
    {"31 bytes", KBS_WIRE_SIGN_TLS, hash_31_put},
    {"33 bytes", KBS_WIRE_SIGN_TLS, hash_33_put},
    {"47 bytes", KBS_WIRE_SIGN_TLS, hash_47_put},
    {"49 bytes", KBS_WIRE_SIGN_TLS, hash_49_put},
    {"64 bytes", KBS_WIRE_SIGN_TLS, hash_64_put},
    {"nothing", KBS_WIRE_SIGN_TLS, nothing_put},
    {"a digest", KBS_WIRE_SIGN_TLS, digest_put},
    {"TLS 1.2", KBS_WIRE_SIGN_TLS, tls12_put},
    {"TLS 1.2 of spaces", KBS_WIRE_SIGN_TLS, tls12_spaces_put},
    {"SIGN_DIGEST", KBS_WIRE_SIGN_DIGEST, NULL},
    {"AGREE", KBS_WIRE_AGREE, NULL},
    {"SIGN_EAR", KBS_WIRE_SIGN_EAR, NULL},
    {"SIGN_ROW", KBS_WIRE_SIGN_ROW, NULL},
    {"RELEASE", KBS_WIRE_RELEASE, NULL},
    {"GENERATE", KBS_WIRE_GENERATE, NULL},
    {"DESCRIBE", KBS_WIRE_DESCRIBE, NULL},
    {"CAPS", KBS_WIRE_CAPS, NULL},
    {"DRAIN", KBS_WIRE_DRAIN, NULL},
    {"CONFIG_TOKEN", KBS_WIRE_CONFIG_TOKEN, NULL},
};

/* One message, of an otherwise empty order where it is not to be a SIGN_TLS. */
static bool attack_call(struct worker *w, const struct attack *a, uint32_t scheme)
{
    struct kbs_buf content = KBS_BUF(512);
    struct kbs_wire_sign_tls tls = {.scheme = scheme};
    union kbs_order order;
    struct kbs_wire_result r;
    bool answered;

    memset(&order, 0, sizeof(order));
    if (a->type == KBS_WIRE_SIGN_DIGEST) {
        order.sign_digest = (struct kbs_wire_sign_digest){
            .alg = KBS_SIGN_ECDSA,
            .hash = KBS_HASH_SHA256,
            .digest = KBS_SPAN_LIT("0123456789abcdef0123456789abcdef")};
    }
    if (a->content != NULL) {
        a->content(&content);
        tls.content = kbs_buf_span(&content);
    }
    answered = front_call(w->fronts[0], a->type,
                          a->content != NULL ? (const void *)&tls : (const void *)&order,
                          &w->answer_msg, &r);
    kbs_buf_deinit(&content);
    return answered;
}

/* Ends by itself, and so do its other channels. */
static void assert_ended(struct worker *w, const char *name)
{
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_error err = KBS_ERROR_NONE;
    int status;

    for (size_t i = 1; i < w->n_fronts; i++) {
        assert_int_equal(kbs_channel_recv(w->fronts[i], &m, kbs_deadline_in_ms(CALL_MS), &err),
                         KBS_CHANNEL_EOF);
    }
    kbs_channel_msg_deinit(&m);
    status = worker_wait(w);
    if (status != KBS_EXIT_FAILURE) {
        fail_msg("%s: status %d", name, status);
    }
}

static void test_hostile_front(void **state)
{
    /* The key's own scheme, and one that it has not: what is signed is looked at first. */
    static const uint32_t schemes[] = {0x0403, 0x0804};
    struct token_dir d;

    (void)state;
    dir_copy(&template_dir, &d);
    for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
        struct worker w = start(&d, 2, NULL);
        uint64_t before = calls_of_sign(&d).calls;

        if (attack_call(&w, &attacks[i], schemes[i % 2])) {
            fail_msg("%s was answered", attacks[i].name);
        }
        assert_ended(&w, attacks[i].name);
        assert_int_equal(calls_of_sign(&d).calls, before);
    }
    dir_remove(&d);
}

/* Bytes that are no message, or one too many. */
static void test_hostile_bytes(void **state)
{
    uint8_t bytes[KBS_TLS13_VERIFY_MAX_BYTES];
    struct kbs_error err = KBS_ERROR_NONE;
    struct token_dir d;

    (void)state;
    dir_copy(&template_dir, &d);
    for (int what = 0; what < 4; what++) {
        const struct kbs_wire_sign_tls m = {.scheme = 0x0403, .content = verify_content(32, bytes)};
        struct kbs_buf frames = KBS_BUF(4096);
        struct worker w = start(&d, 2, NULL);

        assert_int_equal(
            kbs_wire_encode(&frames, KBS_WIRE_SIGN_TLS, 1, KBS_DEADLINE_NONE, &m, &err), 0);
        if (what == 0) { /* twice in its turn */
            assert_int_equal(
                kbs_wire_encode(&frames, KBS_WIRE_SIGN_TLS, 2, KBS_DEADLINE_NONE, &m, &err), 0);
        } else if (what == 1) { /* a body that is no SIGN_TLS */
            frames.p[KBS_WIRE_HEADER_BYTES + 4] ^= 1;
        } else if (what == 2) {
            memset(frames.p, 0xff, frames.len);
        } else { /* cut short */
            frames.len -= 5;
        }
        assert_int_equal(write(w.fronts[0], frames.p, frames.len), (ssize_t)frames.len);
        if (what == 3) {
            kbs_io_close(&w.fronts[0]);
        }
        assert_ended(&w, "bytes");
        kbs_buf_deinit(&frames);
    }
    dir_remove(&d);
}

/* A front that merely knows less than its worker: refused in peace, and nothing is signed. */
static void test_other_schemes(void **state)
{
    static const uint32_t schemes[] = {0,      0x0201, 0x0203, 0x0401, 0x0501,     0x0603,
                                       0x0807, 0x0809, 0x080b, 0xffff, 0x00010403, UINT32_MAX};
    uint8_t bytes[KBS_TLS13_VERIFY_MAX_BYTES];
    struct token_dir d;
    struct worker w;
    EVP_PKEY *key;

    (void)state;
    dir_copy(&template_dir, &d);
    w = start(&d, 1, "pkcs11:object=web-rsa");
    key = front_public(&w);
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        const struct kbs_wire_sign_tls m = {.scheme = schemes[i],
                                            .content = verify_content(48, bytes)};
        struct kbs_wire_result r = front_order(&w, KBS_WIRE_SIGN_TLS, &m);

        assert_category(&r, KBS_UNSUPPORTED);
        assert_int_equal(r.body.len, 0);
    }
    check_schemes(&w, key);
    EVP_PKEY_free(key);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* What is a front's to ask is not a judge's, on either list. */
static void test_judges_may_not(void **state)
{
    static const enum kbs_wire_type types[] = {KBS_WIRE_SIGN_TLS, KBS_WIRE_SIGN_DIGEST,
                                               KBS_WIRE_AGREE, KBS_WIRE_PUBLIC_WANT};
    uint8_t bytes[KBS_TLS13_VERIFY_MAX_BYTES];
    struct token_dir d;

    (void)state;
    dir_copy(&template_dir, &d);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        for (enum kbs_duty duty = KBS_DUTY_RELEASE; duty <= KBS_DUTY_ADMIN; duty++) {
            struct kbs_error err = KBS_ERROR_NONE;
            union kbs_order order;
            struct worker w;

            memset(&order, 0, sizeof(order));
            if (types[i] == KBS_WIRE_SIGN_TLS) {
                order.sign_tls.scheme = 0x0403;
                order.sign_tls.content = verify_content(32, bytes);
            }
            assert_null(kbs_operation_find(duty, types[i]));
            worker_start(&w, &d, &(struct start_options){.duty = duty});
            assert_int_equal(kbs_channel_send(w.judge, types[i], 1, &order, -1,
                                              kbs_deadline_in_ms(CALL_MS), &err),
                             0);
            assert_int_equal(
                kbs_channel_recv(w.judge, &w.answer_msg, kbs_deadline_in_ms(CALL_MS), &err),
                KBS_CHANNEL_EOF);
            assert_int_equal(worker_wait(&w), KBS_EXIT_FAILURE);
        }
    }
    for (int type = 0; type < 256; type++) { /* and the lists of judges are not a sign worker's */
        assert_null(kbs_operation_find(KBS_DUTY_SIGN, (enum kbs_wire_type)type));
    }
    dir_remove(&d);
}

/* ---- the general form ---- */

static struct worker start_general(const struct token_dir *d, const char *key)
{
    struct worker w;

    worker_start(
        &w, d,
        &(struct start_options){.duty = KBS_DUTY_SIGN, .fronts = 1, .key = key, .general = true});
    return w;
}

static void assert_digest_signature(EVP_PKEY *key, const struct kbs_wire_sign_digest *m,
                                    struct kbs_span signature)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    const EVP_MD *md = EVP_get_digestbyname(digest_name((enum kbs_hash)m->hash));

    assert_int_equal(EVP_PKEY_verify_init(ctx), 1);
    if (m->alg != KBS_SIGN_ECDSA) {
        bool pss = m->alg == KBS_SIGN_RSA_PSS;

        assert_int_equal(
            EVP_PKEY_CTX_set_rsa_padding(ctx, pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_signature_md(ctx, md), 1);
        if (pss) {
            assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, (int)m->salt), 1);
        }
    }
    if (EVP_PKEY_verify(ctx, signature.p, signature.len, m->digest.p, m->digest.len) != 1) {
        fail_msg("alg %u, hash %u: the signature does not verify", m->alg, m->hash);
    }
    EVP_PKEY_CTX_free(ctx);
}

static void test_digests(void **state)
{
    static const char *const uris[] = {"pkcs11:object=web-256", "pkcs11:object=web-384",
                                       "pkcs11:object=web-rsa"};
    struct token_dir d;

    (void)state;
    dir_copy(&template_dir, &d);
    for (size_t u = 0; u < 3; u++) {
        struct worker w = start_general(&d, uris[u]);
        EVP_PKEY *key = front_public(&w);
        bool rsa = EVP_PKEY_is_a(key, "RSA") == 1;

        check_schemes(&w, key); /* TLS too */
        for (int alg = 0; alg <= KBS_SIGN_COUNT; alg++) {
            for (int hash = 0; hash <= KBS_HASH_COUNT; hash++) {
                uint8_t digest[KBS_DIGEST_MAX_BYTES];
                const struct kbs_wire_sign_digest m = {
                    .alg = (uint8_t)alg,
                    .hash = (uint8_t)hash,
                    .salt = alg == KBS_SIGN_RSA_PSS ? (uint32_t)hash * 7 : 0,
                    .digest = kbs_span(digest, kbs_hash_bytes((enum kbs_hash)hash))};
                bool can =
                    hash >= KBS_HASH_SHA256 && hash <= KBS_HASH_SHA512 &&
                    (alg == KBS_SIGN_ECDSA ? !rsa
                                           : rsa && alg > KBS_SIGN_ECDSA && alg < KBS_SIGN_COUNT);
                struct kbs_wire_result r;

                kbs_random(digest, sizeof(digest));
                r = front_order(&w, KBS_WIRE_SIGN_DIGEST, &m);
                assert_category(&r, can ? KBS_OK : KBS_UNSUPPORTED);
                if (can) {
                    assert_digest_signature(key, &m, r.body);
                }
            }
        }
        EVP_PKEY_free(key);
        assert_int_equal(worker_stop(&w), 0);
    }
    dir_remove(&d);
}

static void test_digest_lengths(void **state)
{
    static const uint8_t zeros[128];
    struct kbs_wire_sign_digest m = {.alg = KBS_SIGN_RSA_PSS, .hash = KBS_HASH_SHA256};
    struct token_dir d;
    struct worker w;
    struct kbs_wire_result r;

    (void)state;
    dir_copy(&template_dir, &d);
    w = start_general(&d, "pkcs11:object=web-rsa");
    for (size_t len = 0; len <= sizeof(zeros); len += 16) {
        m.digest = kbs_span(zeros, len);
        r = front_order(&w, KBS_WIRE_SIGN_DIGEST, &m);
        assert_category(&r, len == 32 ? KBS_OK : KBS_INPUT);
    }
    m.digest = kbs_span(zeros, 32);
    m.salt = 256 - 32 - 2;
    r = front_order(&w, KBS_WIRE_SIGN_DIGEST, &m);
    assert_category(&r, KBS_OK);
    m.salt++;
    r = front_order(&w, KBS_WIRE_SIGN_DIGEST, &m);
    assert_category(&r, KBS_INPUT);
    m.salt = UINT32_MAX;
    r = front_order(&w, KBS_WIRE_SIGN_DIGEST, &m);
    assert_category(&r, KBS_INPUT);
    r = front_order(&w, KBS_WIRE_AGREE, &(struct kbs_wire_agree){.point = KBS_SPAN_LIT("\4")});
    assert_category(&r, KBS_UNSUPPORTED);
    assert_int_equal(worker_stop(&w), 0);
    dir_remove(&d);
}

/* Both ways to Z, many times: about one in 256 begins with a zero byte. */
static void check_agree(struct worker *w, EVP_PKEY *key, enum kbs_curve curve, int times)
{
    struct kbs_error err = KBS_ERROR_NONE;
    uint8_t bytes[KBS_EC_POINT_MAX_BYTES];
    struct kbs_ec_public own;
    size_t len = 0;

    assert_int_equal(EVP_PKEY_get_octet_string_param(key, "pub", bytes, sizeof(bytes), &len), 1);
    assert_int_equal(kbs_ec_point_get(curve, kbs_span(bytes, len), &own, &err), 0);
    for (int i = 0; i < times; i++) {
        KBS_AUTO_SECRET z = NULL;
        struct kbs_agree_key *pair = NULL;
        struct kbs_wire_result r;

        assert_int_equal(kbs_agree_key_generate(curve, &pair, &err), 0);
        len = kbs_ec_point_put(kbs_agree_key_public(pair), bytes);
        r = front_order(w, KBS_WIRE_AGREE, &(struct kbs_wire_agree){.point = kbs_span(bytes, len)});
        assert_category(&r, KBS_OK);
        assert_int_equal(kbs_agree_ecdh(pair, &own, &z, &err), 0);
        assert_int_equal(r.body.len, kbs_secret_len(z));
        assert_memory_equal(r.body.p, kbs_secret_bytes(z), r.body.len);
        (void)kbs_agree_key_free(pair);
    }
    bytes[len - 1] ^= 1; /* off the curve, now */
    assert_int_equal(
        front_order(w, KBS_WIRE_AGREE, &(struct kbs_wire_agree){.point = kbs_span(bytes, len)})
            .category,
        KBS_UNPROCESSABLE);
    assert_int_equal(
        front_order(w, KBS_WIRE_AGREE, &(struct kbs_wire_agree){.point = kbs_span(bytes, len - 1)})
            .category,
        KBS_INPUT);
    assert_int_equal(
        front_order(w, KBS_WIRE_AGREE, &(struct kbs_wire_agree){.point = KBS_SPAN_EMPTY}).category,
        KBS_INPUT);
}

static void test_agree(void **state)
{
    struct token_dir d;
    struct worker w;
    EVP_PKEY *key;

    (void)state;
    dir_copy(&template_dir, &d);
    w = start_general(&d, "pkcs11:object=web-256");
    key = front_public(&w);
    check_agree(&w, key, KBS_CURVE_P256, 300);
    check_schemes(&w, key);
    EVP_PKEY_free(key);
    assert_int_equal(worker_stop(&w), 0);
    w = start_general(&d, "pkcs11:object=web-384");
    key = front_public(&w);
    check_agree(&w, key, KBS_CURVE_P384, 20);
    EVP_PKEY_free(key);
    assert_int_equal(worker_stop(&w), 0);
    assert_int_equal(start_status((struct start_options){.fronts = 1,
                                                         .key = "pkcs11:object=kbs-hsm%2Fseal",
                                                         .general = true,
                                                         .expect_failure = true}),
                     KBS_EXIT_CONFIG);
    dir_remove(&d);
}

/* ---- many at a time ---- */

struct caller {
    int fd;
    EVP_PKEY *key;
    int times;
    pthread_t thread;
};

static void *caller_main(void *arg)
{
    struct caller *c = arg;
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;

    for (int i = 0; i < c->times; i++) {
        uint8_t bytes[KBS_TLS13_VERIFY_MAX_BYTES];
        const struct kbs_wire_sign_tls order = {
            .scheme = 0x0403, .content = verify_content(i % 2 == 0 ? 32 : 48, bytes)};
        struct kbs_wire_result r;

        assert_true(front_call(c->fd, KBS_WIRE_SIGN_TLS, &order, &m, &r));
        assert_category(&r, KBS_OK);
        assert_tls_signature(c->key, &kbs_tls13_schemes[0], order.content, r.body);
    }
    kbs_channel_msg_deinit(&m);
    return NULL;
}

static void conf_add(const struct token_dir *d, const char *line)
{
    char path[300];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/token.conf", d->path);
    f = fopen(path, "ae");
    assert_non_null(f);
    assert_true(fprintf(f, "%s\n", line) > 0);
    assert_int_equal(fclose(f), 0);
}

static void test_parallel(void **state)
{
    struct caller callers[KBS_LIMIT_TLS_SIGNERS];
    struct token_dir d;
    struct worker w;
    EVP_PKEY *key;

    (void)state;
    dir_copy(&template_dir, &d);
    if (kind->mock) {
        conf_add(&d, "latency = C_Sign 10");
    }
    w = start(&d, KBS_LIMIT_TLS_SIGNERS, NULL);
    key = front_public(&w);
    for (size_t i = 0; i < KBS_LIMIT_TLS_SIGNERS; i++) {
        callers[i] = (struct caller){.fd = w.fronts[i], .key = key, .times = 50};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, caller_main, &callers[i]), 0);
    }
    for (size_t i = 0; i < KBS_LIMIT_TLS_SIGNERS; i++) {
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
    }
    if (kind->mock) { /* how many signatures were in the token at a time: counted there, no clock */
        assert_in_range(calls_of_sign(&d).most, KBS_LIMIT_TLS_SIGNERS / 2, KBS_LIMIT_TLS_SIGNERS);
    }
    assert_int_equal(worker_stop(&w), 0);
    EVP_PKEY_free(key);
    dir_remove(&d);
}

/* ---- how it begins and ends ---- */

static void test_starts(void **state)
{
    (void)state;
    assert_int_equal(start_status((struct start_options){
                         .fronts = 1, .pin = "0815-nein\n", .expect_failure = true}),
                     KBS_EXIT_PIN);
    assert_int_equal(start_status((struct start_options){.fronts = 0, .expect_exit = true}),
                     KBS_EXIT_CONFIG);
    assert_int_equal(
        start_status((struct start_options){.fronts = 2, .front_first = 1, .expect_exit = true}),
        KBS_EXIT_CONFIG);
    assert_int_equal(start_status((struct start_options){
                         .fronts = 1, .front_first = KBS_LIMIT_TLS_SIGNERS, .expect_exit = true}),
                     KBS_EXIT_CONFIG);
    assert_int_equal(
        start_status((struct start_options){.fronts = 1, .lane_too = true, .expect_exit = true}),
        KBS_EXIT_CONFIG);
    assert_int_equal(start_status((struct start_options){
                         .duty = KBS_DUTY_ADMIN, .general = true, .expect_exit = true}),
                     KBS_EXIT_CONFIG);
}

static void control_send(struct worker *w, enum kbs_wire_type type)
{
    struct kbs_error err = KBS_ERROR_NONE;

    assert_int_equal(
        kbs_channel_send(w->control, type, 0, NULL, -1, kbs_deadline_in_ms(CALL_MS), &err), 0);
}

static void test_ends(void **state)
{
    uint8_t bytes[KBS_TLS13_VERIFY_MAX_BYTES];
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_wire_sign_tls order = {.scheme = 0x0403, .content = verify_content(32, bytes)};
    struct kbs_channel_msg m = KBS_CHANNEL_MSG;
    struct kbs_wire_result r;
    struct token_dir d;
    struct worker w;

    (void)state;
    dir_copy(&template_dir, &d);
    w = start(&d, 3, NULL); /* drained: those who are still there are served */
    control_send(&w, KBS_WIRE_DRAIN);
    kbs_io_close(&w.fronts[0]);
    assert_true(front_call(w.fronts[1], KBS_WIRE_SIGN_TLS, &order, &m, &r));
    assert_category(&r, KBS_OK);
    kbs_io_close(&w.fronts[1]);
    assert_true(front_call(w.fronts[2], KBS_WIRE_SIGN_TLS, &order, &m, &r));
    assert_category(&r, KBS_OK);
    assert_int_equal(worker_stop(&w), 0);

    w = start(&d, 2, NULL); /* kbsd is gone: so is the worker, whoever else is there */
    kbs_io_close(&w.control);
    assert_int_equal(kbs_channel_recv(w.fronts[0], &m, kbs_deadline_in_ms(CALL_MS), &err),
                     KBS_CHANNEL_EOF);
    assert_int_equal(worker_wait(&w), 0);

    w = start(&d, 2, NULL); /* a kbsd that is not itself */
    control_send(&w, KBS_WIRE_LOGIN_GRANT);
    assert_int_equal(worker_wait(&w), KBS_EXIT_FAILURE);

    w = start(&d, 2, NULL); /* its front died with an answer on its way */
    assert_int_equal(kbs_channel_send(w.fronts[0], KBS_WIRE_SIGN_TLS, 1, &order, -1,
                                      kbs_deadline_in_ms(CALL_MS), &err),
                     0);
    assert_int_equal(worker_stop(&w), 0);

    w = start(&d, 1, NULL); /* whoever asked has given up */
    assert_int_equal(kbs_channel_send(w.fronts[0], KBS_WIRE_SIGN_TLS, 1, &order, -1, 1, &err), 0);
    assert_int_equal(kbs_channel_recv(w.fronts[0], &m, kbs_deadline_in_ms(CALL_MS), &err), 0);
    assert_int_equal(kbs_channel_msg_decode(&m, KBS_WIRE_RESULT, &r, &err), 0);
    assert_category(&r, KBS_DEADLINE);
    assert_int_equal(worker_stop(&w), 0);
    kbs_channel_msg_deinit(&m);
    dir_remove(&d);
}

/* ---- a token that fails ---- */

static void script_write(const struct token_dir *d, const char *text)
{
    struct kbs_error err = KBS_ERROR_NONE;
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/script", d->path);
    assert_int_equal(kbs_io_write_file(path, kbs_span_str(text), 0600, false, &err), 0);
}

static void test_token_fails(void **state)
{
    uint8_t bytes[KBS_TLS13_VERIFY_MAX_BYTES];
    struct kbs_error err = KBS_ERROR_NONE;
    const struct kbs_wire_sign_tls order = {.scheme = 0x0403, .content = verify_content(32, bytes)};
    static const struct {
        const char *script;
        enum kbs_category category;
        bool ends;
    } cases[] = {
        {"C_Sign once rv CKR_GENERAL_ERROR\n", KBS_INTERNAL, false},
        {"C_Sign rv CKR_GENERAL_ERROR\n", KBS_TOKEN_DOWN, true},
        {"C_Sign once rv CKR_DEVICE_ERROR\n", KBS_TOKEN_DOWN, true},
        {"C_SignInit once rv CKR_KEY_HANDLE_INVALID\n", KBS_TOKEN_DOWN, true},
        {"C_SignInit once rv CKR_SESSION_HANDLE_INVALID\n", KBS_TOKEN_DOWN, true},
        {"C_Sign once rv CKR_DEVICE_MEMORY\n", KBS_BUSY, false},
        {"C_Sign once wrong-length\n", KBS_INTERNAL, false},
    };
    struct token_dir d;
    struct worker w;
    uint64_t before;

    (void)state;
    if (!kind->mock) {
        skip();
    }
    dir_copy(&template_dir, &d);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kbs_wire_result r;

        w = start(&d, 2, NULL);
        script_write(&d, cases[i].script);
        r = front_order(&w, KBS_WIRE_SIGN_TLS, &order);
        assert_category(&r, cases[i].category);
        assert_int_equal(r.body.len, 0);
        script_write(&d, "");
        if (cases[i].ends) {
            assert_ended(&w, cases[i].script);
            continue;
        }
        r = front_order(&w, KBS_WIRE_SIGN_TLS, &order);
        assert_category(&r, KBS_OK);
        assert_int_equal(worker_stop(&w), 0);
    }
    w = start(&d, 2,
              NULL); /* one call hangs, the other channel is served until the watch-dog bites */
    before = calls_of_sign(&d).faults;
    script_write(&d, "C_Sign once hang\n");
    assert_int_equal(kbs_channel_send(w.fronts[0], KBS_WIRE_SIGN_TLS, 1, &order, -1,
                                      kbs_deadline_in_ms(CALL_MS), &err),
                     0);
    while (calls_of_sign(&d).faults == before) {
        assert_int_equal(poll(NULL, 0, 1), 0); /* until it does */
    }
    {
        struct kbs_wire_result r;

        assert_true(front_call(w.fronts[1], KBS_WIRE_SIGN_TLS, &order, &w.answer_msg, &r));
        assert_category(&r, KBS_OK);
    }
    assert_int_equal(worker_wait(&w), KBS_EXIT_STUCK);
    dir_remove(&d);
}

/* A token that has no PSS, and one without ECDSA. */
static void test_without(void **state)
{
    static const struct {
        const char *line;
        const char *key;
        bool general;
        int status; /* 0: it serves */
    } cases[] = {
        {"without = CKM_RSA_PKCS_PSS", "pkcs11:object=web-rsa", false, KBS_EXIT_CONFIG},
        {"without = CKM_RSA_PKCS_PSS", "pkcs11:object=web-rsa", true, 0},
        {"without = CKM_RSA_PKCS", "pkcs11:object=web-rsa", false, 0},
        {"without = CKM_RSA_PKCS_PSS CKM_RSA_PKCS", "pkcs11:object=web-rsa", true, KBS_EXIT_CONFIG},
        {"without = CKM_ECDSA", "pkcs11:object=web-256", false, KBS_EXIT_CONFIG},
    };

    (void)state;
    if (!kind->mock) {
        skip();
    }
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t bytes[KBS_TLS13_VERIFY_MAX_BYTES];
        const struct kbs_wire_sign_tls order = {.scheme = 0x0804,
                                                .content = verify_content(32, bytes)};
        struct token_dir d;
        struct worker w;

        dir_copy(&template_dir, &d);
        conf_add(&d, cases[i].line);
        worker_start(&w, &d,
                     &(struct start_options){.duty = KBS_DUTY_SIGN,
                                             .fronts = 1,
                                             .key = cases[i].key,
                                             .general = cases[i].general,
                                             .expect_failure = cases[i].status != 0});
        if (cases[i].status == 0) {
            struct kbs_wire_result r = front_order(&w, KBS_WIRE_SIGN_TLS, &order);

            assert_category(&r, cases[i].general ? KBS_UNSUPPORTED : KBS_OK);
            assert_int_equal(worker_stop(&w), 0);
        } else {
            assert_int_equal(worker_wait(&w), cases[i].status);
        }
        dir_remove(&d);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_service_key),
        cmocka_unit_test(test_operator_keys),
        cmocka_unit_test(test_service_key_by_name),
        cmocka_unit_test(test_other_keys_are_refused),
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_hostile_front),
        cmocka_unit_test(test_hostile_bytes),
        cmocka_unit_test(test_other_schemes),
        cmocka_unit_test(test_judges_may_not),
        cmocka_unit_test(test_digests),
        cmocka_unit_test(test_digest_lengths),
        cmocka_unit_test(test_agree),
        cmocka_unit_test(test_parallel),
        cmocka_unit_test(test_starts),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_token_fails),
        cmocka_unit_test(test_without),
    };

    if (argc != 2 || !harness_select(argv[1])) {
        (void)fprintf(stderr, "skipped: the module of %s is not installed\n",
                      argc > 1 ? argv[1] : "?");
        return 77;
    }
    return cmocka_run_group_tests_name(argv[1], tests, group_setup, group_teardown);
}
