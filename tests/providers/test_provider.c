/*
 * providers/: every form of a signature against OpenSSL's own verification with the public key alone, ECDH, certificates
 * and requests, TLS handshakes in memory, what a key for TLS refuses, workers that lie.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/core.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/clock.h"
#include "providers/provider.h"
#include "signer.h"

#define PUBLIC_ONLY "provider!=kbs"

enum {
    P256,
    P384,
    RSA2048,
    RSA3072,
    N_KEYS
};

static struct {
    OSSL_LIB_CTX *libctx;     /* with the provider */
    OSSL_LIB_CTX *plain;      /* without */
    EVP_PKEY *keys[N_KEYS];   /* the workers' */
    EVP_PKEY *public[N_KEYS]; /* without a private half */
} world;

static EVP_PKEY *public_of(EVP_PKEY *key)
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    const unsigned char *p = der;
    EVP_PKEY *public = d2i_PUBKEY_ex(NULL, &p, len, world.plain, NULL);

    assert_non_null(public);
    OPENSSL_free(der);
    return public;
}

static int set_up(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    (void)state;

    world.libctx = OSSL_LIB_CTX_new();
    world.plain = OSSL_LIB_CTX_new();
    if (kbs_provider_load(world.libctx, &err) != 0 || kbs_provider_load(world.libctx, &err) != 0) {
        print_error("%s\n", err.detail);
        return -1;
    }
    world.keys[P256] = EVP_PKEY_Q_keygen(world.plain, NULL, "EC", "P-256");
    world.keys[P384] = EVP_PKEY_Q_keygen(world.plain, NULL, "EC", "P-384");
    world.keys[RSA2048] = EVP_PKEY_Q_keygen(world.plain, NULL, "RSA", (size_t)2048);
    world.keys[RSA3072] = EVP_PKEY_Q_keygen(world.plain, NULL, "RSA", (size_t)3072);
    for (int i = 0; i < N_KEYS; i++) {
        world.public[i] = public_of(world.keys[i]);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < N_KEYS; i++) {
        EVP_PKEY_free(world.keys[i]);
        EVP_PKEY_free(world.public[i]);
    }
    kbs_provider_unload(world.libctx);
    OSSL_LIB_CTX_free(world.libctx);
    OSSL_LIB_CTX_free(world.plain);
    return 0;
}

/* A key of the provider, and its worker. */
struct fixture {
    struct signer signer;
    struct kbs_link *link;
    EVP_PKEY *key;
    int which;
};

static void open_key_as(struct fixture *f, int which, enum kbs_provider_use use,
                        enum signer_mode mode)
{
    struct kbs_error err = KBS_ERROR_NONE;

    f->which = which;
    assert_int_equal(kbs_link_new(1, &f->link, &err), 0);
    assert_int_equal(
        kbs_link_attach(f->link, 0, signer_start(&f->signer, world.keys[which], mode), &err), 0);
    if (kbs_provider_key(world.libctx, world.public[which], f -> link, use, &f -> key, &err) != 0) {
        fail_msg("%s", err.detail);
    }
}

static void open_key(struct fixture *f, int which, enum kbs_provider_use use)
{
    open_key_as(f, which, use, SIGNER_HONEST);
}

/* The key's reference is the last one: the worker's thread ends with it. */
static void close_key(struct fixture *f)
{
    f->link = kbs_link_free(f->link);
    EVP_PKEY_free(f->key);
    signer_join(&f->signer);
}

static bool is_rsa(int which)
{
    return which == RSA2048 || which == RSA3072;
}

/* The newest error is the provider's, says this, and nothing is left behind. */
static void assert_error(enum kbs_category category, const char *part)
{
    const char *data = NULL;
    unsigned long code;
    bool found = false;
    int flags;

    while ((code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags)) != 0) {
        if (ERR_GET_REASON(code) == (int)category && data != NULL && strstr(data, part) != NULL) {
            found = true;
            assert_string_equal(ERR_lib_error_string(code), KBS_PROVIDER_NAME);
            assert_non_null(ERR_reason_error_string(code));
        } else {
            print_message("also: %s: %s\n", ERR_reason_error_string(code), data);
        }
    }
    if (!found) {
        fail_msg("no error with \"%s\"", part);
    }
}

/* ---- signatures ---- */

static const uint8_t message[1000] = {1, 2, 3};

struct form {
    const char *md;
    bool pss;
    const char *salt; /* as -pkeyopt has it; NULL: unsaid */
};

static void apply(EVP_PKEY_CTX *ctx, const struct form *form, bool verifying)
{
    if (form->pss) {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING), 1);
        if (form->salt != NULL) {
            assert_int_equal(EVP_PKEY_CTX_ctrl_str(ctx, "rsa_pss_saltlen", form->salt), 1);
        } else if (verifying) { /* what the provider promises */
            assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST), 1);
        }
    }
}

static int verify(OSSL_LIB_CTX *libctx, EVP_PKEY *key, const struct form *form, const uint8_t *sig,
                  size_t len)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY_CTX *ctx = NULL;
    int ok;

    assert_int_equal(EVP_DigestVerifyInit_ex(md, &ctx, form->md, libctx, NULL, key, NULL), 1);
    apply(ctx, form, true);
    ok = EVP_DigestVerify(md, sig, len, message, sizeof(message));
    EVP_MD_CTX_free(md);
    return ok;
}

static void check(const struct fixture *f, const struct form *form, uint8_t *sig, size_t len)
{
    if (verify(world.plain, world.public[f->which], form, sig, len) != 1) {
        fail_msg("key %d, %s, pss %d, salt %s", f->which, form->md, form->pss,
                 form->salt != NULL ? form->salt : "-");
    }
    sig[len / 2] ^= 1; /* and it is not the verification that says yes to all */
    assert_int_not_equal(verify(world.plain, world.public[f->which], form, sig, len), 1);
    sig[len / 2] ^= 1;
    ERR_clear_error();
}

/* In one call. */
static void sign_at_once(const struct fixture *f, const struct form *form)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY_CTX *ctx = NULL;
    uint8_t sig[1024];
    size_t len = sizeof(sig);

    assert_int_equal(EVP_DigestSignInit_ex(md, &ctx, form->md, world.libctx, NULL, f->key, NULL),
                     1);
    apply(ctx, form, false);
    assert_int_equal(EVP_DigestSign(md, sig, &len, message, sizeof(message)), 1);
    check(f, form, sig, len);
    EVP_MD_CTX_free(md);
}

/* In pieces, with the size asked for first, the state copied midway, and both continued. */
static void sign_in_pieces(const struct fixture *f, const struct form *form)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    EVP_PKEY_CTX *ctx = NULL;
    uint8_t sig[1024];
    size_t len = 0;

    assert_int_equal(EVP_DigestSignInit_ex(md, &ctx, form->md, world.libctx, NULL, f->key, NULL),
                     1);
    apply(ctx, form, false);
    assert_int_equal(EVP_DigestSignUpdate(md, message, 300), 1);
    assert_int_equal(EVP_MD_CTX_copy_ex(copy, md), 1);
    assert_int_equal(EVP_DigestSignUpdate(copy, message + 300, 700), 1);
    assert_int_equal(EVP_DigestSignUpdate(md, message + 300, 1), 1);
    assert_int_equal(EVP_DigestSignUpdate(md, message + 301, 699), 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(EVP_DigestSignFinal(i == 0 ? copy : md, NULL, &len), 1);
        assert_int_equal(len, (size_t)EVP_PKEY_get_size(world.public[f->which]));
        assert_int_equal(EVP_DigestSignFinal(i == 0 ? copy : md, sig, &len), 1);
        check(f, form, sig, len);
    }
    EVP_MD_CTX_free(copy);
    EVP_MD_CTX_free(md);
}

/* EVP_PKEY_sign(): over a digest. */
static void sign_raw(const struct fixture *f, const struct form *form)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(world.libctx, f->key, NULL);
    EVP_MD *md = EVP_MD_fetch(world.plain, form->md, NULL);
    uint8_t digest[64];
    unsigned int digest_len;
    uint8_t sig[1024];
    size_t len = 0;

    assert_int_equal(EVP_Digest(message, sizeof(message), digest, &digest_len, md, NULL), 1);
    assert_int_equal(EVP_PKEY_sign_init(ctx), 1);
    if (is_rsa(f->which)) { /* of ECDSA the length says it */
        assert_int_equal(EVP_PKEY_CTX_set_signature_md(ctx, md), 1);
    }
    apply(ctx, form, false);
    assert_int_equal(EVP_PKEY_sign(ctx, NULL, &len, digest, digest_len), 1);
    assert_int_equal(EVP_PKEY_sign(ctx, sig, &len, digest, digest_len), 1);
    check(f, form, sig, len);
    EVP_MD_free(md);
    EVP_PKEY_CTX_free(ctx);
}

static void test_signatures(void **state)
{
    static const char *const hashes[] = {"SHA256", "SHA384", "SHA2-512"};
    static const struct form rsa_forms[] = {{.pss = false},
                                            {.pss = true},
                                            {.pss = true, .salt = "digest"},
                                            {.pss = true, .salt = "max"},
                                            {.pss = true, .salt = "auto"},
                                            {.pss = true, .salt = "0"},
                                            {.pss = true, .salt = "20"}};
    (void)state;
    for (int which = 0; which < N_KEYS; which++) {
        struct fixture f;

        open_key(&f, which, KBS_PROVIDER_GENERAL);
        for (size_t h = 0; h < 3; h++) {
            for (size_t i = 0; i < (is_rsa(which) ? 7 : 1); i++) {
                struct form form = rsa_forms[i];

                form.md = hashes[h];
                sign_at_once(&f, &form);
                sign_in_pieces(&f, &form);
                sign_raw(&f, &form);
            }
        }
        close_key(&f);
    }
}

static void test_signatures_that_are_refused(void **state)
{
    struct fixture rsa;
    struct fixture ec;
    EVP_PKEY_CTX *ctx;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t sig[1024];
    size_t len = sizeof(sig);
    (void)state;

    open_key(&rsa, RSA2048, KBS_PROVIDER_GENERAL);
    open_key(&ec, P384, KBS_PROVIDER_GENERAL);
    assert_int_equal(EVP_DigestSignInit_ex(md, NULL, "SHA1", world.libctx, NULL, rsa.key, NULL), 0);
    assert_error(KBS_UNSUPPORTED, "SHA1: only SHA-256");

    ctx = EVP_PKEY_CTX_new_from_pkey(world.libctx, rsa.key, NULL);
    assert_int_equal(EVP_PKEY_sign_init(ctx), 1);
    assert_true(EVP_PKEY_sign(ctx, sig, &len, message, 32) <= 0);
    assert_error(KBS_INPUT, "name the digest's hash");
    assert_int_equal(EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha384()), 1);
    assert_true(EVP_PKEY_sign(ctx, sig, &len, message, 32) <= 0);
    assert_error(KBS_INPUT, "32 bytes are no digest of SHA384");
    assert_true(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_NO_PADDING) <= 0);
    assert_error(KBS_UNSUPPORTED, "padding");
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, 207), 1); /* one over the room */
    assert_true(EVP_PKEY_sign(ctx, sig, &len, message, 48) <= 0);
    assert_error(KBS_INPUT, "207 bytes: this key has room for 206");
    assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, 206), 1);
    len = 255; /* a byte short */
    assert_true(EVP_PKEY_sign(ctx, sig, &len, message, 48) <= 0);
    ERR_clear_error();
    len = sizeof(sig);
    assert_int_equal(EVP_PKEY_sign(ctx, sig, &len, message, 48), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()), 1);
    assert_true(EVP_PKEY_sign(ctx, sig, &len, message, 48) <= 0);
    assert_error(KBS_UNSUPPORTED, "MGF1");
    EVP_PKEY_CTX_free(ctx);

    ctx = EVP_PKEY_CTX_new_from_pkey(world.libctx, ec.key, NULL);
    assert_int_equal(EVP_PKEY_sign_init(ctx), 1);
    assert_true(EVP_PKEY_sign(ctx, sig, &len, message, 33) <= 0);
    assert_error(KBS_INPUT, "33 bytes are no digest");
    EVP_PKEY_CTX_free(ctx);
    EVP_MD_CTX_free(md);
    close_key(&rsa);
    close_key(&ec);
}

static void test_verification_by_the_key_itself(void **state)
{
    static const struct form forms[N_KEYS] = {{"SHA256", false, NULL},
                                              {"SHA384", false, NULL},
                                              {"SHA256", false, NULL},
                                              {"SHA384", true, "max"}};
    (void)state;
    for (int which = 0; which < N_KEYS; which++) {
        struct fixture f;
        EVP_MD_CTX *md = EVP_MD_CTX_new();
        EVP_PKEY_CTX *ctx = NULL;
        uint8_t sig[1024];
        size_t len = sizeof(sig);

        open_key(&f, which, which == P256 ? KBS_PROVIDER_TLS : KBS_PROVIDER_GENERAL);
        assert_int_equal(EVP_DigestSignInit_ex(md, &ctx, forms[which].md, world.plain, NULL,
                                               world.keys[which], NULL),
                         1);
        apply(ctx, &forms[which], false);
        assert_int_equal(EVP_DigestSign(md, sig, &len, message, sizeof(message)), 1);
        assert_int_equal(verify(world.libctx, f.key, &forms[which], sig, len), 1);
        sig[len - 1] ^= 1;
        assert_int_not_equal(verify(world.libctx, f.key, &forms[which], sig, len), 1);
        EVP_MD_CTX_free(md);
        close_key(&f);
    }
    ERR_clear_error();
}

/* ---- keys ---- */

static void test_what_is_no_key(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_link *link;
    EVP_PKEY *ret = NULL;
    EVP_PKEY *others[] = {EVP_PKEY_Q_keygen(world.plain, NULL, "EC", "P-521"),
                          EVP_PKEY_Q_keygen(world.plain, NULL, "EC", "secp256k1"),
                          EVP_PKEY_Q_keygen(world.plain, NULL, "ED25519"),
                          EVP_PKEY_Q_keygen(world.plain, NULL, "RSA", (size_t)1024)};
    (void)state;

    assert_int_equal(kbs_link_new(1, &link, &err), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_non_null(others[i]);
        assert_int_equal(
            kbs_provider_key(world.libctx, others[i], link, KBS_PROVIDER_GENERAL, &ret, &err), -1);
        assert_int_equal(err.category, KBS_UNSUPPORTED);
        EVP_PKEY_free(others[i]);
    }
    (void)kbs_link_free(link);
}

static void test_what_may_be_known_of_a_key(void **state)
{
    (void)state;
    for (int which = 0; which < N_KEYS; which++) {
        struct fixture f;
        unsigned char *ours = NULL;
        unsigned char *theirs = NULL;
        unsigned char *private = NULL;
        BIO *bio = BIO_new(BIO_s_mem());
        EVP_PKEY *dup;
        int len;

        open_key(&f, which, KBS_PROVIDER_GENERAL);
        assert_int_equal(EVP_PKEY_eq(f.key, world.public[which]), 1);
        assert_int_equal(EVP_PKEY_eq(world.public[which], f.key), 1);
        assert_int_not_equal(EVP_PKEY_eq(f.key, world.public[(which + 1) % N_KEYS]), 1);
        assert_int_equal(EVP_PKEY_get_bits(f.key), EVP_PKEY_get_bits(world.public[which]));
        assert_int_equal(EVP_PKEY_get_id(f.key), is_rsa(which) ? EVP_PKEY_RSA : EVP_PKEY_EC);

        len = i2d_PUBKEY(f.key, &ours);
        assert_int_equal(len, i2d_PUBKEY(world.public[which], &theirs));
        assert_memory_equal(ours, theirs, (size_t)len);
        OPENSSL_free(ours);
        OPENSSL_free(theirs);
        assert_true(i2d_PrivateKey(f.key, &private) <= 0);
        assert_int_equal(PEM_write_bio_PrivateKey(bio, f.key, NULL, NULL, 0, NULL, NULL), 0);
        assert_int_equal(BIO_pending(bio), 0);
        BIO_free(bio);
        ERR_clear_error();

        dup = EVP_PKEY_dup(f.key);
        assert_non_null(dup);
        EVP_PKEY_free(f.key);
        f.key = dup;
        sign_at_once(&f, &(struct form){.md = "SHA256"});
        close_key(&f);
    }
}

static void test_other_keys_go_their_way(void **state)
{
    EVP_PKEY *soft = EVP_PKEY_Q_keygen(world.libctx, NULL, "EC", "P-256");
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t sig[1024];
    size_t len = sizeof(sig);
    (void)state;

    assert_non_null(soft);
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_PKEY_get0_provider(soft)), "default");
    assert_int_equal(EVP_DigestSignInit_ex(md, NULL, "SHA1", world.libctx, NULL, soft, NULL), 1);
    assert_int_equal(EVP_DigestSign(md, sig, &len, message, sizeof(message)), 1);
    EVP_MD_CTX_free(md);
    EVP_PKEY_free(soft);
    assert_int_equal(ERR_peek_error(), 0);
}

static void test_the_provider_says_who_it_is(void **state)
{
    OSSL_PROVIDER *provider = OSSL_PROVIDER_load(world.libctx, KBS_PROVIDER_NAME);
    const char *name = NULL;
    int status = 0;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_ptr(OSSL_PROV_PARAM_NAME, (char **)(uintptr_t)&name, 0),
        OSSL_PARAM_construct_int(OSSL_PROV_PARAM_STATUS, &status), OSSL_PARAM_construct_end()};
    (void)state;

    assert_int_equal(OSSL_PROVIDER_get_params(provider, params), 1);
    assert_non_null(strstr(name, "kbs-hsm"));
    assert_int_equal(status, 1);
    assert_int_equal(OSSL_PROVIDER_unload(provider), 1);
}

/* ---- certificates ---- */

static X509 *certificate(EVP_PKEY *subject_and_issuer, const EVP_MD *md, bool pss)
{
    X509 *cert = X509_new_ex(world.libctx, NULL);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx = NULL;
    X509_NAME *name = X509_get_subject_name(cert);

    assert_int_equal(X509_set_version(cert, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(cert), 1), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(cert), -60));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(cert), 3600));
    assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                                (const unsigned char *)"kbs.example", -1, -1, 0),
                     1);
    assert_int_equal(X509_set_issuer_name(cert, name), 1);
    assert_int_equal(X509_set_pubkey(cert, subject_and_issuer), 1);
    assert_int_equal(EVP_DigestSignInit_ex(ctx, &pctx, EVP_MD_get0_name(md), world.libctx, NULL,
                                           subject_and_issuer, NULL),
                     1);
    if (pss) {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING), 1);
    }
    assert_true(X509_sign_ctx(cert, ctx) > 0);
    EVP_MD_CTX_free(ctx);
    return cert;
}

static void test_certificates(void **state)
{
    static const struct {
        int which;
        const EVP_MD *(*md)(void);
        bool pss;
        int nid;
    } cases[] = {{P256, EVP_sha256, false, NID_ecdsa_with_SHA256},
                 {P256, EVP_sha512, false, NID_ecdsa_with_SHA512},
                 {P384, EVP_sha384, false, NID_ecdsa_with_SHA384},
                 {RSA2048, EVP_sha256, false, NID_sha256WithRSAEncryption},
                 {RSA2048, EVP_sha512, false, NID_sha512WithRSAEncryption},
                 {RSA2048, EVP_sha256, true, NID_rsassaPss},
                 {RSA3072, EVP_sha384, true, NID_rsassaPss}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture f;
        X509 *cert;
        X509 *read;
        unsigned char *der = NULL;
        const unsigned char *p;
        int len;

        open_key(&f, cases[i].which, KBS_PROVIDER_GENERAL);
        cert = certificate(f.key, cases[i].md(), cases[i].pss);
        assert_int_equal(X509_get_signature_nid(cert), cases[i].nid);
        assert_int_equal(X509_check_private_key(cert, f.key), 1);
        len = i2d_X509(cert, &der);
        p = der;
        read = X509_new_ex(world.plain, NULL);
        assert_non_null(d2i_X509(&read, &p, len));
        assert_int_equal(X509_verify(read, world.public[cases[i].which]), 1);
        assert_int_not_equal(X509_verify(read, world.public[(cases[i].which + 1) % N_KEYS]), 1);
        X509_free(read);
        X509_free(cert);
        OPENSSL_free(der);
        close_key(&f);
    }
    ERR_clear_error();
}

static void test_requests(void **state)
{
    (void)state;
    for (int which = 0; which < N_KEYS; which++) {
        struct fixture f;
        X509_REQ *req = X509_REQ_new_ex(world.libctx, NULL);

        open_key(&f, which, KBS_PROVIDER_GENERAL);
        assert_int_equal(X509_REQ_set_version(req, X509_REQ_VERSION_1), 1);
        assert_int_equal(X509_REQ_set_pubkey(req, f.key), 1);
        assert_true(X509_REQ_sign(req, f.key, EVP_sha256()) > 0);
        assert_int_equal(X509_REQ_verify_ex(req, world.public[which], world.plain, NULL), 1);
        X509_REQ_free(req);
        close_key(&f);
    }
}

/* ---- ECDH ---- */

static size_t derive(OSSL_LIB_CTX *libctx, EVP_PKEY *key, EVP_PKEY *peer, uint8_t z[64])
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(libctx, key, NULL);
    EVP_PKEY_CTX *dup;
    size_t len = 64;
    size_t size = 0;

    if (EVP_PKEY_derive_init(ctx) != 1 || EVP_PKEY_derive_set_peer(ctx, peer) != 1) {
        EVP_PKEY_CTX_free(ctx);
        return 0;
    }
    dup = EVP_PKEY_CTX_dup(ctx);
    EVP_PKEY_CTX_free(ctx);
    assert_int_equal(EVP_PKEY_derive(dup, NULL, &size), 1);
    if (EVP_PKEY_derive(dup, z, &len) != 1) {
        len = 0;
    }
    assert_true(len == 0 || len == size);
    EVP_PKEY_CTX_free(dup);
    return len;
}

static void test_agreement(void **state)
{
    static const char *const groups[] = {"P-256", "P-384"};
    (void)state;
    for (int which = P256; which <= P384; which++) {
        struct fixture f;
        EVP_PKEY *peer = EVP_PKEY_Q_keygen(world.plain, NULL, "EC", groups[which]);
        EVP_PKEY *other = EVP_PKEY_Q_keygen(world.plain, NULL, "EC", groups[1 - which]);
        uint8_t ours[64];
        uint8_t theirs[64];
        size_t len = which == P256 ? 32 : 48;

        open_key(&f, which, KBS_PROVIDER_GENERAL);
        assert_int_equal(derive(world.libctx, f.key, peer, ours), len);
        assert_int_equal(derive(world.plain, peer, world.public[which], theirs), len);
        assert_memory_equal(ours, theirs, len);
        /* A peer that came as a compressed point. */
        assert_int_equal(
            EVP_PKEY_set_utf8_string_param(peer, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
                                           OSSL_PKEY_EC_POINT_CONVERSION_FORMAT_COMPRESSED),
            1);
        memset(ours, 0, sizeof(ours));
        assert_int_equal(derive(world.libctx, f.key, peer, ours), len);
        assert_memory_equal(ours, theirs, len);
        assert_int_equal(derive(world.libctx, f.key, other, ours), 0);
        ERR_clear_error();
        EVP_PKEY_free(peer);
        EVP_PKEY_free(other);
        close_key(&f);
    }
}

/* ---- TLS ---- */

static SSL_CTX *server_context(EVP_PKEY *key, X509 *cert, int version)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(world.libctx, NULL, TLS_server_method());

    assert_non_null(ctx);
    assert_int_equal(SSL_CTX_set_min_proto_version(ctx, version), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, version), 1);
    assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    assert_int_equal(SSL_CTX_check_private_key(ctx), 1);
    return ctx;
}

/* Until neither gets on. Returns whether both are done. */
static bool shake_hands(SSL *server, SSL *client)
{
    int s = 0;
    int c = 0;

    for (int i = 0; i < 20 && (s != 1 || c != 1); i++) {
        ERR_clear_error();
        c = SSL_do_handshake(client);
        if (c != 1 && SSL_get_error(client, c) != SSL_ERROR_WANT_READ) {
            return false;
        }
        ERR_clear_error();
        s = SSL_do_handshake(server);
        if (s != 1 && SSL_get_error(server, s) != SSL_ERROR_WANT_READ) {
            return false;
        }
    }
    return s == 1 && c == 1;
}

static bool handshake(EVP_PKEY *key, X509 *cert, int version, const char *sigalgs)
{
    SSL_CTX *server_ctx = server_context(key, cert, version);
    SSL_CTX *client_ctx = SSL_CTX_new_ex(world.plain, NULL, TLS_client_method());
    SSL *server = SSL_new(server_ctx);
    SSL *client = SSL_new(client_ctx);
    BIO *to_server = BIO_new(BIO_s_mem());
    BIO *to_client = BIO_new(BIO_s_mem());
    bool ok;

    BIO_set_mem_eof_return(to_server, -1);
    BIO_set_mem_eof_return(to_client, -1);
    assert_true(BIO_up_ref(to_server) == 1 && BIO_up_ref(to_client) == 1);
    SSL_set_bio(server, to_server, to_client);
    SSL_set_bio(client, to_client, to_server);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    SSL_set_verify(client, SSL_VERIFY_NONE, NULL); /* CertificateVerify is checked all the same */
    if (sigalgs != NULL) {
        assert_int_equal(SSL_set1_sigalgs_list(client, sigalgs), 1);
    }
    ok = shake_hands(server, client);
    if (!ok) {
        ERR_print_errors_fp(stderr);
    }
    SSL_free(server);
    SSL_free(client);
    SSL_CTX_free(server_ctx);
    SSL_CTX_free(client_ctx);
    return ok;
}

/* A certificate for the key, by its software half, so that it is made whatever the link is for. */
static X509 *certificate_of(int which)
{
    return certificate(world.keys[which], EVP_sha256(), false);
}

static void test_tls_1_3_by_a_key_for_tls(void **state)
{
    static const struct {
        int which;
        const char *sigalgs;
        uint32_t scheme;
    } cases[] = {{P256, NULL, 0x0403},
                 {P384, NULL, 0x0503},
                 {RSA2048, "rsa_pss_rsae_sha256", 0x0804},
                 {RSA2048, "rsa_pss_rsae_sha384", 0x0805},
                 {RSA3072, "rsa_pss_rsae_sha512", 0x0806},
                 {RSA3072, NULL, 0x0804}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fixture f;
        X509 *cert = certificate_of(cases[i].which);

        open_key(&f, cases[i].which, KBS_PROVIDER_TLS);
        assert_true(handshake(f.key, cert, TLS1_3_VERSION, cases[i].sigalgs));
        assert_int_equal(f.signer.asked, 1);
        close_key(&f);
        assert_int_equal(f.signer.last_scheme, cases[i].scheme);
        X509_free(cert);
    }
}

static void test_tls_by_a_general_key(void **state)
{
    (void)state;
    for (int which = 0; which < N_KEYS; which++) {
        struct fixture f;
        X509 *cert = certificate_of(which);

        open_key(&f, which, KBS_PROVIDER_GENERAL);
        assert_true(handshake(f.key, cert, TLS1_3_VERSION, NULL));
        assert_true(handshake(f.key, cert, TLS1_2_VERSION, NULL));
        close_key(&f);
        X509_free(cert);
    }
}

static void test_what_a_key_for_tls_refuses(void **state)
{
    struct fixture f;
    struct fixture rsa;
    EVP_PKEY *peer = EVP_PKEY_Q_keygen(world.plain, NULL, "EC", "P-256");
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_PKEY_CTX *ctx;
    uint8_t sig[1024];
    size_t len = sizeof(sig);
    (void)state;

    open_key(&f, P256, KBS_PROVIDER_TLS);
    open_key(&rsa, RSA2048, KBS_PROVIDER_TLS);
    ctx = EVP_PKEY_CTX_new_from_pkey(world.libctx, f.key, NULL);
    assert_int_equal(EVP_PKEY_sign_init(ctx), 1);
    assert_true(EVP_PKEY_sign(ctx, sig, &len, message, 32) <= 0);
    assert_error(KBS_DENIED, "signs messages, not digests");
    EVP_PKEY_CTX_free(ctx);

    assert_int_equal(derive(world.libctx, f.key, peer, sig), 0);
    assert_error(KBS_UNSUPPORTED, "agrees on nothing");

    assert_int_equal(EVP_DigestSignInit_ex(md, NULL, "SHA256", world.libctx, NULL, f.key, NULL), 1);
    assert_int_equal(EVP_DigestSignUpdate(md, message, 504), 1);
    assert_int_equal(EVP_DigestSignUpdate(md, message, 1), 0);
    assert_error(KBS_TOO_LARGE, "over 504 bytes");

    assert_int_equal(EVP_DigestSignInit_ex(md, NULL, "SHA384", world.libctx, NULL, f.key, NULL), 1);
    assert_int_equal(EVP_DigestSign(md, sig, &len, message, 130), 0);
    assert_error(KBS_UNSUPPORTED, "with SHA384 by such a key");

    assert_int_equal(EVP_MD_CTX_reset(md), 1); /* or it stays with the first key */
    assert_int_equal(EVP_DigestSignInit_ex(md, &ctx, "SHA256", world.libctx, NULL, rsa.key, NULL),
                     1);
    len = sizeof(sig);
    assert_int_equal(EVP_DigestSign(md, sig, &len, message, 130), 0); /* PKCS#1 */
    assert_error(KBS_UNSUPPORTED, "TLS 1.3");
    assert_int_equal(EVP_MD_CTX_reset(md), 1);
    assert_int_equal(EVP_DigestSignInit_ex(md, &ctx, "SHA256", world.libctx, NULL, rsa.key, NULL),
                     1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, 20), 1);
    assert_int_equal(EVP_DigestSign(md, sig, &len, message, 130), 0);
    assert_error(KBS_UNSUPPORTED, "TLS 1.3");
    assert_int_equal(f.signer.asked, 0);
    assert_int_equal(rsa.signer.asked, 0);

    EVP_MD_CTX_free(md);
    EVP_PKEY_free(peer);
    close_key(&f);
    close_key(&rsa);
}

/* ---- workers ---- */

static void test_workers_that_lie(void **state)
{
    static const struct {
        enum signer_mode mode;
        enum kbs_category category;
        const char *part;
    } cases[] = {{SIGNER_SHORT, KBS_TOKEN_DOWN, "no signature"},
                 {SIGNER_LONG, KBS_TOKEN_DOWN, "no signature"},
                 {SIGNER_EMPTY, KBS_TOKEN_DOWN, "0 bytes are no signature"},
                 {SIGNER_HUGE, KBS_TOO_LARGE, "answer"},
                 {SIGNER_REFUSE, KBS_DENIED, "no??[31m? such key"},
                 {SIGNER_WRONG_ID, KBS_TOKEN_DOWN, "answers another question"},
                 {SIGNER_NOISE, KBS_TOKEN_DOWN, "role"},
                 {SIGNER_CUT, KBS_TOKEN_DOWN, "closed in the middle"},
                 {SIGNER_CLOSE, KBS_TOKEN_DOWN, "gone"}};
    (void)state;
    for (int which = P256; which <= RSA2048; which++) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            struct fixture f;
            EVP_MD_CTX *md = EVP_MD_CTX_new();
            uint8_t sig[1024];
            size_t len = sizeof(sig);

            open_key_as(&f, which, KBS_PROVIDER_GENERAL, cases[i].mode);
            assert_int_equal(
                EVP_DigestSignInit_ex(md, NULL, "SHA256", world.libctx, NULL, f.key, NULL), 1);
            assert_int_equal(EVP_DigestSign(md, sig, &len, message, sizeof(message)), 0);
            assert_error(cases[i].category, cases[i].part);
            EVP_MD_CTX_free(md);
            close_key(&f);
        }
    }
}

/* Bytes of the right length are passed on by RSA, and are nobody's signature; those of ECDSA are no DER. */
static void test_a_worker_of_garbage(void **state)
{
    struct fixture f;
    X509 *cert = certificate_of(RSA2048);
    X509 *ec_cert = certificate_of(P256);
    EVP_PKEY *peer = EVP_PKEY_Q_keygen(world.plain, NULL, "EC", "P-256");
    uint8_t z[64];
    (void)state;

    open_key_as(&f, RSA2048, KBS_PROVIDER_TLS, SIGNER_GARBAGE);
    assert_false(handshake(f.key, cert, TLS1_3_VERSION, NULL));
    close_key(&f);
    open_key_as(&f, P256, KBS_PROVIDER_TLS, SIGNER_GARBAGE);
    assert_false(handshake(f.key, ec_cert, TLS1_3_VERSION, NULL));
    close_key(&f);
    open_key_as(&f, P256, KBS_PROVIDER_GENERAL, SIGNER_LONG);
    assert_int_equal(derive(world.libctx, f.key, peer, z), 0);
    assert_error(KBS_TOKEN_DOWN, "secret has 33 bytes");
    close_key(&f);
    EVP_PKEY_free(peer);
    X509_free(cert);
    X509_free(ec_cert);
}

static void test_a_worker_that_says_nothing(void **state)
{
    struct fixture f;
    X509 *cert = certificate_of(P256);
    uint64_t before = kbs_clock_mono_ns();
    (void)state;

    open_key_as(&f, P256, KBS_PROVIDER_TLS, SIGNER_HOLD);
    assert_false(handshake(f.key, cert, TLS1_3_VERSION, NULL));
    assert_true(kbs_clock_mono_ns() - before < 2 * KBS_LIMIT_TLS_SIGN_MS * KBS_NS_PER_MS);
    signer_release(&f.signer);
    close_key(&f);
    X509_free(cert);
    ERR_clear_error();
}

#define N_THREADS 8

static void *handshakes(void *arg)
{
    EVP_PKEY *key = ((void **)arg)[0];
    X509 *cert = ((void **)arg)[1];

    for (int i = 0; i < 10; i++) {
        if (!handshake(key, cert, TLS1_3_VERSION, NULL)) {
            return arg;
        }
    }
    return NULL;
}

static void test_many_handshakes_at_a_time(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct signer signers[3];
    struct kbs_link *link;
    EVP_PKEY *key;
    X509 *cert = certificate_of(P256);
    pthread_t threads[N_THREADS];
    void *arg[2];
    (void)state;

    assert_int_equal(kbs_link_new(3, &link, &err), 0);
    for (uint32_t i = 0; i < 3; i++) {
        int fd = signer_start(&signers[i], world.keys[P256], SIGNER_HONEST);
        assert_int_equal(kbs_link_attach(link, i, fd, &err), 0);
    }
    assert_int_equal(
        kbs_provider_key(world.libctx, world.public[P256], link, KBS_PROVIDER_TLS, &key, &err), 0);
    (void)kbs_link_free(link);
    arg[0] = key;
    arg[1] = cert;
    for (int i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, handshakes, arg), 0);
    }
    for (int i = 0; i < N_THREADS; i++) {
        void *failed = NULL;

        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    EVP_PKEY_free(key);
    X509_free(cert);
    for (int i = 0; i < 3; i++) {
        signer_join(&signers[i]);
    }
}

static void test_a_child_does_not_sign(void **state)
{
    struct fixture f;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t sig[1024];
    size_t len = sizeof(sig);
    int status;
    pid_t pid;
    (void)state;

    open_key(&f, P256, KBS_PROVIDER_GENERAL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int ok = EVP_DigestSignInit_ex(md, NULL, "SHA256", world.libctx, NULL, f.key, NULL) == 1 &&
                 EVP_DigestSign(md, sig, &len, message, 10) == 1;
        _exit(ok ? 1 : ERR_GET_REASON(ERR_peek_last_error()) == KBS_TOKEN_DOWN ? 0 : 2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    sign_at_once(&f, &(struct form){.md = "SHA256"});
    EVP_MD_CTX_free(md);
    close_key(&f);
}

/* ---- beginnings and ends ---- */

/* Again and again, without a trace: the leak checker is the judge. */
static void test_contexts_come_and_go(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct kbs_error err = KBS_ERROR_NONE;
        OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
        struct kbs_link *link;
        struct signer s;
        EVP_PKEY *key;

        assert_int_equal(kbs_provider_load(libctx, &err), 0);
        assert_int_equal(kbs_link_new(1, &link, &err), 0);
        assert_int_equal(
            kbs_link_attach(link, 0, signer_start(&s, world.keys[P256], SIGNER_HONEST), &err), 0);
        assert_int_equal(
            kbs_provider_key(libctx, world.public[P256], link, KBS_PROVIDER_TLS, &key, &err), 0);
        (void)kbs_link_free(link);
        EVP_PKEY_free(key);
        signer_join(&s);
        kbs_provider_unload(libctx);
        kbs_provider_unload(libctx);
        OSSL_LIB_CTX_free(libctx);
    }
}

static int start_other(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                       const OSSL_DISPATCH **out, void **ret)
{
    static const OSSL_DISPATCH nothing[] = {{0, NULL}};
    (void)handle;
    (void)in;
    *out = nothing;
    *ret = NULL;
    return 1;
}

static void test_another_of_that_name(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    OSSL_LIB_CTX *libctx = OSSL_LIB_CTX_new();
    OSSL_PROVIDER *other;
    (void)state;

    assert_int_equal(OSSL_PROVIDER_add_builtin(libctx, KBS_PROVIDER_NAME, start_other), 1);
    other = OSSL_PROVIDER_load(libctx, KBS_PROVIDER_NAME);
    assert_non_null(other);
    assert_int_equal(kbs_provider_load(libctx, &err), -1);
    assert_int_equal(err.category, KBS_CONFLICT);
    assert_int_equal(OSSL_PROVIDER_unload(other), 1);
    OSSL_LIB_CTX_free(libctx);
}

/* The default context: loaded twice, used, and left to the end of the process. */
static void test_the_default_context(void **state)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_link *link;
    struct signer s;
    EVP_PKEY *key;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t sig[1024];
    size_t len = sizeof(sig);
    (void)state;

    assert_int_equal(kbs_provider_load(NULL, &err), 0);
    assert_int_equal(kbs_provider_load(NULL, &err), 0);
    assert_int_equal(kbs_link_new(1, &link, &err), 0);
    assert_int_equal(
        kbs_link_attach(link, 0, signer_start(&s, world.keys[P256], SIGNER_HONEST), &err), 0);
    assert_int_equal(
        kbs_provider_key(NULL, world.public[P256], link, KBS_PROVIDER_GENERAL, &key, &err), 0);
    (void)kbs_link_free(link);
    assert_int_equal(EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, key), 1);
    assert_int_equal(EVP_DigestSign(md, sig, &len, message, sizeof(message)), 1);
    assert_int_equal(
        verify(
            world.plain, world.public [P256], &(struct form) { .md = "SHA256" }, sig, len),
        1);
    EVP_MD_CTX_free(md);
    EVP_PKEY_free(key);
    signer_join(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signatures),
        cmocka_unit_test(test_signatures_that_are_refused),
        cmocka_unit_test(test_verification_by_the_key_itself),
        cmocka_unit_test(test_what_is_no_key),
        cmocka_unit_test(test_what_may_be_known_of_a_key),
        cmocka_unit_test(test_other_keys_go_their_way),
        cmocka_unit_test(test_the_provider_says_who_it_is),
        cmocka_unit_test(test_certificates),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_agreement),
        cmocka_unit_test(test_tls_1_3_by_a_key_for_tls),
        cmocka_unit_test(test_tls_by_a_general_key),
        cmocka_unit_test(test_what_a_key_for_tls_refuses),
        cmocka_unit_test(test_workers_that_lie),
        cmocka_unit_test(test_a_worker_of_garbage),
        cmocka_unit_test(test_a_worker_that_says_nothing),
        cmocka_unit_test(test_many_handshakes_at_a_time),
        cmocka_unit_test(test_a_child_does_not_sign),
        cmocka_unit_test(test_contexts_come_and_go),
        cmocka_unit_test(test_another_of_that_name),
        cmocka_unit_test(test_the_default_context),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
