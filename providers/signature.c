/*
 * Signatures. A key for general use: the message is hashed here, and its digest goes to the worker. A key for TLS: the
 * message itself goes there, since the worker signs only what it can see to be a TLS 1.3 server's; it is short
 * (RFC 8446 section 4.4.3: 130 bytes, or 146 with SHA-384), and is kept until it is complete.
 *
 * What the worker answers has the form of a signature or is refused; whether it is one, the verifier says.
 *
 * Verification is done by another provider with the public half. It is here because OpenSSL asks the provider of the
 * key it is given, and `openssl pkeyutl -verify -inkey pkcs11:...` is a natural thing to try.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

#include "providers/core.h"

#define MESSAGE_BYTES 504 /* of SIGN_TLS, whose body is at most 512 */
#define SIGNATURE_BYTES KBS_LIMIT_RSA_BYTES_MAX

struct signing {
    const struct kbs_provider *provider;
    struct kbs_key *key;
    struct kbs_scheme scheme;
    bool begun; /* by digest_sign_init() or digest_verify_init(): the hash is settled */
    bool whole; /* the message is kept, to be signed for TLS; else it is hashed */
    EVP_MD_CTX *md;
    uint8_t message[MESSAGE_BYTES];
    size_t message_len;
};

static int begin(struct signing *s, struct kbs_key *key, struct kbs_error *err)
{
    if (key == NULL && s->key == NULL) {
        return kbs_fail(err, KBS_INPUT, "no key");
    }
    if (key != NULL) {
        (void)kbs_key_ref(key);
        (void)kbs_key_free(s->key);
        s->key = key;
        s->scheme = (struct kbs_scheme){.salt = KBS_SALT_UNSAID};
    }
    s->begun = false;
    s->message_len = 0;
    return 0;
}

static int begin_sign(struct signing *s, struct kbs_key *key, struct kbs_error *err)
{
    if (begin(s, key, err) != 0) {
        return -1;
    }
    return s->key->link != NULL ? 0 : kbs_fail(err, KBS_INPUT, "the key has no private half");
}

static int set(struct signing *s, const OSSL_PARAM params[], struct kbs_error *err)
{
    const enum kbs_hash before = s->scheme.hash;

    if (kbs_scheme_set(&s->scheme, s->key, params, err) != 0) {
        return -1;
    }
    if (s->begun && s->scheme.hash != before) {
        s->scheme.hash = before;
        return kbs_fail(err, KBS_CONFLICT, "the hash is settled since the message began");
    }
    return 0;
}

/* The digest_* forms: the hash is known now, the message comes in pieces. */
static int begin_message(struct signing *s, const char *hash, bool whole, const OSSL_PARAM params[],
                         struct kbs_error *err)
{
    EVP_MD *md;
    int ok;

    if (hash == NULL || hash[0] == '\0') {
        hash = "SHA256";
    }
    if (kbs_scheme_hash(s->provider, hash, &s->scheme.hash, err) != 0) {
        return -1;
    }
    s->begun = true;
    s->whole = whole;
    if (set(s, params, err) != 0) {
        return -1;
    }
    if (whole) {
        return 0;
    }
    if (s->md == NULL && (s->md = EVP_MD_CTX_new()) == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    md = EVP_MD_fetch(s->provider->libctx, kbs_scheme_hash_name(s->scheme.hash), NULL);
    ok = md != NULL && EVP_DigestInit_ex2(s->md, md, NULL) == 1;
    EVP_MD_free(md); /* the context has its own reference */
    return ok ? 0 : kbs_fail(err, KBS_INTERNAL, "the hash cannot be begun");
}

static int take_message(struct signing *s, struct kbs_span part, struct kbs_error *err)
{
    if (!s->begun) {
        return kbs_fail(err, KBS_INPUT, "no message was begun");
    }
    if (s->whole) {
        if (part.len > MESSAGE_BYTES - s->message_len) {
            return kbs_fail(err, KBS_TOO_LARGE, "no message of TLS has over %d bytes",
                            MESSAGE_BYTES);
        }
        memcpy(s->message + s->message_len, part.p, part.len);
        s->message_len += part.len;
        return 0;
    }
    return EVP_DigestUpdate(s->md, part.p, part.len) == 1
               ? 0
               : kbs_fail(err, KBS_INTERNAL, "the hash failed");
}

static int end_message(struct signing *s, struct kbs_digest *ret, struct kbs_error *err)
{
    unsigned int len = 0;

    if (!s->begun) {
        return kbs_fail(err, KBS_INPUT, "no message was begun");
    }
    s->begun = false;
    if (EVP_DigestFinal_ex(s->md, ret->p, &len) != 1) {
        return kbs_fail(err, KBS_INTERNAL, "the hash failed");
    }
    ret->len = len;
    return 0;
}

/* Of the right length, or one DER ECDSA-Sig-Value (RFC 3279 section 2.2.3) and nothing behind it. */
static int check_form(const struct kbs_key *key, struct kbs_span signature, struct kbs_error *err)
{
    const unsigned char *p = signature.p;
    ECDSA_SIG *parsed;
    bool ok;

    if (key->kind == KBS_KEY_RSA) {
        ok = signature.len == kbs_key_bytes(key);
    } else {
        parsed = d2i_ECDSA_SIG(NULL, &p, (long)signature.len);
        ok = parsed != NULL && p == signature.p + signature.len &&
             signature.len <= (size_t)EVP_PKEY_get_size(key->public_key);
        ECDSA_SIG_free(parsed);
    }
    return ok ? 0
              : kbs_fail(err, KBS_TOKEN_DOWN, "the sign worker's %zu bytes are no signature",
                         signature.len);
}

static int order_signature(const struct signing *s, enum kbs_wire_type type, const void *order,
                           struct kbs_buf *ret, struct kbs_error *err)
{
    if (kbs_key_order(s->key, type, order, ret, err) != 0) {
        return -1;
    }
    return check_form(s->key, kbs_buf_span(ret), err);
}

/* By a key for general use. */
static int sign_digest(const struct signing *s, struct kbs_span digest, struct kbs_buf *ret,
                       struct kbs_error *err)
{
    struct kbs_wire_sign_digest order = {.alg = (uint8_t)kbs_scheme_alg(&s->scheme, s->key),
                                         .hash = (uint8_t)s->scheme.hash,
                                         .digest = digest};

    if (s->scheme.hash == KBS_HASH_NONE || digest.len != kbs_hash_bytes(s->scheme.hash)) {
        return kbs_fail(err, KBS_INPUT, "%zu bytes are no digest of %s", digest.len,
                        kbs_scheme_hash_name(s->scheme.hash));
    }
    if (kbs_scheme_salt(&s->scheme, s->key, &order.salt, err) != 0) {
        return -1;
    }
    return order_signature(s, KBS_WIRE_SIGN_DIGEST, &order, ret, err);
}

/* The message that was taken. */
static int sign_message(struct signing *s, struct kbs_buf *ret, struct kbs_error *err)
{
    struct kbs_wire_sign_tls order = {.content = kbs_span(s->message, s->message_len)};
    struct kbs_digest digest;

    if (!s->whole) {
        return end_message(s, &digest, err) == 0
                   ? sign_digest(s, kbs_digest_span(&digest), ret, err)
                   : -1;
    }
    if (!s->begun) {
        return kbs_fail(err, KBS_INPUT, "no message was begun");
    }
    s->begun = false;
    if (kbs_scheme_tls(&s->scheme, s->key, &order.scheme, err) != 0) {
        return -1;
    }
    return order_signature(s, KBS_WIRE_SIGN_TLS, &order, ret, err);
}

/* `sign`: the caller has hashed. With ECDSA the length says by what; a PKCS#1 signature has it inside. */
static int sign_raw(struct signing *s, struct kbs_span digest, struct kbs_buf *ret,
                    struct kbs_error *err)
{
    if (s->key->use == KBS_PROVIDER_TLS) {
        return kbs_fail(err, KBS_DENIED, "a key for TLS signs messages, not digests");
    }
    if (s->scheme.hash == KBS_HASH_NONE && s->key->kind == KBS_KEY_RSA) {
        return kbs_fail(err, KBS_INPUT, "RSA: name the digest's hash (-pkeyopt digest:sha256)");
    }
    for (enum kbs_hash h = KBS_HASH_SHA256; s->scheme.hash == KBS_HASH_NONE && h <= KBS_HASH_SHA512;
         h++) {
        s->scheme.hash = kbs_hash_bytes(h) == digest.len ? h : KBS_HASH_NONE;
    }
    return sign_digest(s, digest, ret, err);
}

static int deliver(struct kbs_buf *signature, unsigned char *sig, size_t *len, size_t size,
                   struct kbs_error *err)
{
    if (signature->len > size) {
        return kbs_fail(err, KBS_TOO_LARGE, "%zu bytes do not fit in %zu", signature->len, size);
    }
    memcpy(sig, kbs_buf_span(signature).p, signature->len);
    *len = signature->len;
    return 0;
}

/* ---- verification ---- */

/* The same scheme, for another provider. */
static bool verifier_begin(const struct signing *s, EVP_PKEY_CTX *ctx)
{
    EVP_MD *md = NULL;
    bool ok = ctx != NULL && EVP_PKEY_verify_init(ctx) == 1;

    if (ok && s->scheme.hash != KBS_HASH_NONE) {
        md = EVP_MD_fetch(s->provider->libctx, kbs_scheme_hash_name(s->scheme.hash), NULL);
        ok = md != NULL && EVP_PKEY_CTX_set_signature_md(ctx, md) == 1;
    }
    if (ok && s->scheme.pss) { /* a length that was not named may be any */
        ok = EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, s->scheme.salt == KBS_SALT_UNSAID
                                                       ? RSA_PSS_SALTLEN_AUTO
                                                       : s->scheme.salt) == 1;
    }
    EVP_MD_free(md);
    return ok;
}

static int verify_digest(const struct signing *s, struct kbs_span signature, struct kbs_span digest)
{
    EVP_PKEY_CTX *ctx =
        EVP_PKEY_CTX_new_from_pkey(s->provider->libctx, s->key->public_key, KBS_PROVIDER_OTHERS);
    int ok = verifier_begin(s, ctx)
                 ? EVP_PKEY_verify(ctx, signature.p, signature.len, digest.p, digest.len)
                 : 0;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/* ---- OpenSSL's side ---- */

static void *signing_new(void *ctx, const char *properties)
{
    struct signing *s = calloc(1, sizeof(*s));

    (void)properties;
    if (s != NULL) {
        s->provider = ctx;
        s->scheme.salt = KBS_SALT_UNSAID;
    }
    return s;
}

static void signing_free(void *ctx)
{
    struct signing *s = ctx;

    EVP_MD_CTX_free(s->md);
    (void)kbs_key_free(s->key);
    free(s);
}

static void *signing_dup(void *ctx)
{
    const struct signing *from = ctx;
    struct signing *s = malloc(sizeof(*s));

    if (s == NULL) {
        return NULL;
    }
    *s = *from;
    s->key = from->key != NULL ? kbs_key_ref(from->key) : NULL;
    s->md = NULL;
    if (from->md != NULL &&
        ((s->md = EVP_MD_CTX_new()) == NULL || EVP_MD_CTX_copy_ex(s->md, from->md) != 1)) {
        signing_free(s);
        return NULL;
    }
    return s;
}

static int sign_init(void *ctx, void *key, const OSSL_PARAM params[])
{
    struct signing *s = ctx;
    struct kbs_error err = KBS_ERROR_NONE;

    return begin_sign(s, key, &err) == 0 && set(s, params, &err) == 0
               ? 1
               : kbs_provider_raise(s->provider, &err);
}

static int sign(void *ctx, unsigned char *sig, size_t *len, size_t size,
                const unsigned char *digest, size_t digest_len)
{
    struct signing *s = ctx;
    struct kbs_buf signature = KBS_BUF(SIGNATURE_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    int ok = 1;

    if (sig == NULL) {
        *len = (size_t)EVP_PKEY_get_size(s->key->public_key);
    } else if (sign_raw(s, kbs_span(digest, digest_len), &signature, &err) != 0 ||
               deliver(&signature, sig, len, size, &err) != 0) {
        ok = kbs_provider_raise(s->provider, &err);
    }
    kbs_buf_deinit(&signature);
    return ok;
}

static int digest_sign_init(void *ctx, const char *hash, void *key, const OSSL_PARAM params[])
{
    struct signing *s = ctx;
    struct kbs_error err = KBS_ERROR_NONE;

    if (begin_sign(s, key, &err) != 0 ||
        begin_message(s, hash, s->key->use == KBS_PROVIDER_TLS, params, &err) != 0) {
        return kbs_provider_raise(s->provider, &err);
    }
    return 1;
}

static int update(void *ctx, const unsigned char *data, size_t len)
{
    struct signing *s = ctx;
    struct kbs_error err = KBS_ERROR_NONE;

    return take_message(s, kbs_span(data, len), &err) == 0 ? 1
                                                           : kbs_provider_raise(s->provider, &err);
}

static int digest_sign_final(void *ctx, unsigned char *sig, size_t *len, size_t size)
{
    struct signing *s = ctx;
    struct kbs_buf signature = KBS_BUF(SIGNATURE_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    int ok = 1;

    if (sig == NULL) {
        *len = (size_t)EVP_PKEY_get_size(s->key->public_key);
    } else if (sign_message(s, &signature, &err) != 0 ||
               deliver(&signature, sig, len, size, &err) != 0) {
        ok = kbs_provider_raise(s->provider, &err);
    }
    kbs_buf_deinit(&signature);
    return ok;
}

static int digest_sign(void *ctx, unsigned char *sig, size_t *len, size_t size,
                       const unsigned char *data, size_t data_len)
{
    return (sig == NULL || update(ctx, data, data_len) == 1)
               ? digest_sign_final(ctx, sig, len, size)
               : 0;
}

static int verify_init(void *ctx, void *key, const OSSL_PARAM params[])
{
    struct signing *s = ctx;
    struct kbs_error err = KBS_ERROR_NONE;

    return begin(s, key, &err) == 0 && set(s, params, &err) == 0
               ? 1
               : kbs_provider_raise(s->provider, &err);
}

static int verify(void *ctx, const unsigned char *sig, size_t len, const unsigned char *digest,
                  size_t digest_len)
{
    const struct signing *s = ctx;

    return verify_digest(s, kbs_span(sig, len), kbs_span(digest, digest_len));
}

static int digest_verify_init(void *ctx, const char *hash, void *key, const OSSL_PARAM params[])
{
    struct signing *s = ctx;
    struct kbs_error err = KBS_ERROR_NONE;

    if (begin(s, key, &err) != 0 || begin_message(s, hash, false, params, &err) != 0) {
        return kbs_provider_raise(s->provider, &err);
    }
    return 1;
}

static int digest_verify_final(void *ctx, const unsigned char *sig, size_t len)
{
    struct signing *s = ctx;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_digest digest;

    if (end_message(s, &digest, &err) != 0) {
        return kbs_provider_raise(s->provider, &err);
    }
    return verify_digest(s, kbs_span(sig, len), kbs_digest_span(&digest));
}

static int set_params(void *ctx, const OSSL_PARAM params[])
{
    struct signing *s = ctx;
    struct kbs_error err = KBS_ERROR_NONE;

    if (s->key == NULL) {
        return 0;
    }
    return set(s, params, &err) == 0 ? 1 : kbs_provider_raise(s->provider, &err);
}

static int get_params(void *ctx, OSSL_PARAM params[])
{
    const struct signing *s = ctx;
    struct kbs_error err = KBS_ERROR_NONE;

    if (s->key == NULL) {
        return 0;
    }
    return kbs_scheme_get(&s->scheme, s->key, params, &err) == 0
               ? 1
               : kbs_provider_raise(s->provider, &err);
}

static const OSSL_PARAM *settable(void *ctx, void *provider)
{
    (void)ctx;
    (void)provider;
    return kbs_scheme_settable;
}

static const OSSL_PARAM *gettable(void *ctx, void *provider)
{
    (void)ctx;
    (void)provider;
    return kbs_scheme_gettable;
}

#define FUNCTION(id, f)                               \
    {                                                 \
        OSSL_FUNC_SIGNATURE_##id, (void (*)(void))(f) \
    }

const OSSL_DISPATCH kbs_signature[] = {FUNCTION(NEWCTX, signing_new),
                                       FUNCTION(FREECTX, signing_free),
                                       FUNCTION(DUPCTX, signing_dup),
                                       FUNCTION(SIGN_INIT, sign_init),
                                       FUNCTION(SIGN, sign),
                                       FUNCTION(VERIFY_INIT, verify_init),
                                       FUNCTION(VERIFY, verify),
                                       FUNCTION(DIGEST_SIGN_INIT, digest_sign_init),
                                       FUNCTION(DIGEST_SIGN_UPDATE, update),
                                       FUNCTION(DIGEST_SIGN_FINAL, digest_sign_final),
                                       FUNCTION(DIGEST_SIGN, digest_sign),
                                       FUNCTION(DIGEST_VERIFY_INIT, digest_verify_init),
                                       FUNCTION(DIGEST_VERIFY_UPDATE, update),
                                       FUNCTION(DIGEST_VERIFY_FINAL, digest_verify_final),
                                       FUNCTION(SET_CTX_PARAMS, set_params),
                                       FUNCTION(SETTABLE_CTX_PARAMS, settable),
                                       FUNCTION(GET_CTX_PARAMS, get_params),
                                       FUNCTION(GETTABLE_CTX_PARAMS, gettable),
                                       {0, NULL}};
