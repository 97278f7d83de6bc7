/*
 * One recipient of a general JWE (RFC 7516 section 7.2.1): the form in which administrators import
 * keys and guests get them. Only the public parts are read here. The shape is closed: every member
 * is known, one algorithm is possible, and the wrapped key has a size that some releasable key can
 * have, so that what reaches the token is as small as its range of meaning.
 */
#include "base/encoding.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"

/* RFC 3394 adds 8 bytes. */
#define WRAPPED_MIN_BYTES (KBS_LIMIT_KEY_BYTES_MIN + 8)
#define WRAPPED_MAX_BYTES (KBS_LIMIT_KEY_BYTES_MAX + 8)

static const char *const recipient_names[] = {"header", "encrypted_key", NULL};
static const char *const header_names[] = {"alg", "apu", "apv", "epk", "kid", NULL};
static const char *const aes_header_names[] = {"alg", "apu", "apv", "kid", NULL};
static const char *const rsa_header_names[] = {"alg", "kid", NULL};
static const char *const epk_names[] = {"crv", "kty", "x", "y", NULL};

void kbs_jose_recipient_in_deinit(struct kbs_jose_recipient_in *r)
{
    kbs_buf_deinit(&r->apu);
    kbs_buf_deinit(&r->apv);
    kbs_buf_deinit(&r->encrypted_key);
}

/* Decodes a member; an absent one is empty bytes. */
static int bytes_get(const json_t *object, const char *name, struct kbs_buf *out,
                     struct kbs_error *err)
{
    struct kbs_span text;

    if (json_object_get(object, name) == NULL) {
        return 0;
    }
    if (kbs_json_get_string(object, name, &text, err) != 0) {
        return -1;
    }
    if (kbs_base64url_get(out, text) != 0) {
        return kbs_fail(err, KBS_INPUT, "recipient: \"%s\" is not base64url of at most %zu bytes",
                        name, out->max);
    }
    return 0;
}

static const char *alg_name(enum kbs_tee_alg alg)
{
    return alg != KBS_TEE_ALG_NONE ? kbs_tee_alg_name(alg) : KBS_JOSE_A256KW;
}

static int header_get(const json_t *header, enum kbs_tee_alg wanted,
                      struct kbs_jose_recipient_in *r, struct kbs_error *err)
{
    bool ec = wanted == KBS_TEE_ALG_ECDH_ES_A256KW;
    bool aes = wanted == KBS_TEE_ALG_NONE;
    const char *const *names = ec ? header_names : aes ? aes_header_names : rsa_header_names;
    struct kbs_span alg;
    struct kbs_span kid;
    json_t *epk;

    if (kbs_json_only(header, names, err) != 0 ||
        kbs_json_get_string(header, "alg", &alg, err) != 0 ||
        kbs_json_get_string(header, "kid", &kid, err) != 0) {
        return -1;
    }
    if (!kbs_span_equal_str(alg, alg_name(wanted))) {
        return kbs_fail(err, KBS_INPUT, "recipient: \"alg\" is not %s", alg_name(wanted));
    }
    if (kid.len == 0 || !kbs_span_to_cstr(kid, r->kid, sizeof(r->kid))) {
        return kbs_fail(err, KBS_INPUT, "recipient: \"kid\" is empty or longer than %d bytes",
                        KBS_LIMIT_KID_BYTES);
    }
    if (ec && (kbs_json_get_object(header, "epk", &epk, err) != 0 ||
               kbs_json_only(epk, epk_names, err) != 0 ||
               kbs_jose_jwk_get(epk, NULL, &r->epk, err) != 0)) {
        return -1;
    }
    if (bytes_get(header, "apu", &r->apu, err) != 0 ||
        bytes_get(header, "apv", &r->apv, err) != 0) {
        return -1;
    }
    return 0;
}

static int encrypted_key_check(enum kbs_tee_alg alg, size_t len, struct kbs_error *err)
{
    if (alg != KBS_TEE_ALG_ECDH_ES_A256KW && alg != KBS_TEE_ALG_NONE) {
        return len >= KBS_LIMIT_RSA_BYTES_MIN
                   ? 0
                   : kbs_fail(err, KBS_INPUT,
                              "recipient: \"encrypted_key\" is shorter than %d bytes",
                              KBS_LIMIT_RSA_BYTES_MIN);
    }
    if (len < WRAPPED_MIN_BYTES || len > WRAPPED_MAX_BYTES || len % 8 != 0) {
        return kbs_fail(err, KBS_INPUT,
                        "recipient: \"encrypted_key\" is not a wrapped key of %d to %d bytes",
                        KBS_LIMIT_KEY_BYTES_MIN, KBS_LIMIT_KEY_BYTES_MAX);
    }
    return 0;
}

static int recipient_get(const json_t *recipient, enum kbs_tee_alg alg,
                         struct kbs_jose_recipient_in *r, struct kbs_error *err)
{
    json_t *header;

    if (!json_is_object(recipient)) {
        return kbs_fail(err, KBS_INPUT, "recipient: not an object");
    }
    if (kbs_json_only(recipient, recipient_names, err) != 0 ||
        kbs_json_get_object(recipient, "header", &header, err) != 0 ||
        header_get(header, alg, r, err) != 0 ||
        bytes_get(recipient, "encrypted_key", &r->encrypted_key, err) != 0) {
        return -1;
    }
    return encrypted_key_check(alg, r->encrypted_key.len, err);
}

int kbs_jose_recipient_get(const json_t *recipient, enum kbs_tee_alg alg,
                           struct kbs_jose_recipient_in *ret, struct kbs_error *err)
{
    *ret = (struct kbs_jose_recipient_in){
        .apu = KBS_BUF(KBS_LIMIT_KID_BYTES),
        .apv = KBS_BUF(KBS_LIMIT_KID_BYTES),
        .encrypted_key = KBS_BUF(KBS_LIMIT_RSA_BYTES_MAX),
    };
    if (recipient_get(recipient, alg, ret, err) != 0) {
        kbs_jose_recipient_in_deinit(ret);
        return -1;
    }
    return 0;
}
