/*
 * JOSE texts, written by hand.
 *
 * The texts here are hashed (thumbprints, runtime data), signed (JWS) or re-serialised by guests
 * that rebuild an AAD from them, so their bytes matter and not only their meaning: a JSON library's
 * idea of order, white space or escaping must not get between. There are few members and they are
 * always the same, which makes printing them in order simpler than building a tree and asking for
 * it to be sorted.
 *
 * Names and base64url need no escaping. A kid in a recipient is a key path by contract; alg, kid
 * and typ of a JWS come from configuration and go through kbs_json_string_put(). A failure anywhere
 * is sticky in the output buffer, which the caller checks once.
 */
#include "jose/write/jose.h"

#include "base/digest.h"
#include "base/encoding.h"

/* Larger than any header we write: alg and typ are short, a kid is at most KBS_LIMIT_KID_BYTES. */
#define HEADER_MAX_BYTES 2048
/* {"e":"...","kty":"RSA","n":"..."}: 683 characters for a modulus of 4096 bits. */
#define JWK_MAX_BYTES 768
#define THUMBPRINT_CHARS 43

static void member_base64url(struct kbs_buf *out, const char *name, struct kbs_span value)
{
    kbs_buf_put_u8(out, '"');
    kbs_buf_put_str(out, name);
    kbs_buf_put_str(out, "\":\"");
    kbs_base64url_put(out, value);
    kbs_buf_put_u8(out, '"');
}

static void member_string(struct kbs_buf *out, const char *name, const char *value)
{
    kbs_buf_put_u8(out, '"');
    kbs_buf_put_str(out, name);
    kbs_buf_put_str(out, "\":");
    kbs_json_string_put(out, kbs_span_str(value));
}

static void members_crv_kty(struct kbs_buf *out, const struct kbs_ec_public *key)
{
    member_string(out, "crv", kbs_curve_jose_name(key->curve));
    kbs_buf_put_str(out, ",\"kty\":\"EC\"");
}

static void members_x_y(struct kbs_buf *out, const struct kbs_ec_public *key)
{
    member_base64url(out, "x", kbs_ec_x(key));
    kbs_buf_put_u8(out, ',');
    member_base64url(out, "y", kbs_ec_y(key));
}

void kbs_jose_jwk_put(struct kbs_buf *out, const struct kbs_ec_public *key)
{
    kbs_buf_put_u8(out, '{');
    members_crv_kty(out, key);
    kbs_buf_put_u8(out, ',');
    members_x_y(out, key);
    kbs_buf_put_u8(out, '}');
}

static void members_e_kty_n(struct kbs_buf *out, const struct kbs_rsa_public *key)
{
    member_base64url(out, "e", kbs_rsa_e(key));
    kbs_buf_put_str(out, ",\"kty\":\"RSA\",");
    member_base64url(out, "n", kbs_rsa_n(key));
}

void kbs_jose_tee_jwk_put(struct kbs_buf *out, const struct kbs_tee_key *key)
{
    kbs_buf_put_u8(out, '{');
    member_string(out, "alg", kbs_tee_alg_name(key->alg));
    kbs_buf_put_u8(out, ',');
    if (kbs_tee_alg_is_ec(key->alg)) {
        members_crv_kty(out, &key->ec);
        kbs_buf_put_u8(out, ',');
        members_x_y(out, &key->ec);
    } else {
        members_e_kty_n(out, &key->rsa);
    }
    kbs_buf_put_u8(out, '}');
}

const char *kbs_jose_sig_alg(enum kbs_curve curve)
{
    switch (curve) {
    case KBS_CURVE_P256:
        return "ES256";
    case KBS_CURVE_P384:
        return "ES384";
    case KBS_CURVE_NONE:
    case KBS_CURVE_P521:
        break;
    }
    return NULL;
}

void kbs_jose_sig_jwk_put(struct kbs_buf *out, const struct kbs_ec_public *key, const char *alg,
                          const char *kid)
{
    kbs_buf_put_u8(out, '{');
    member_string(out, "alg", alg);
    kbs_buf_put_u8(out, ',');
    member_string(out, "crv", kbs_curve_jose_name(key->curve));
    kbs_buf_put_u8(out, ',');
    member_string(out, "kid", kid);
    kbs_buf_put_str(out, ",\"kty\":\"EC\",\"use\":\"sig\",");
    members_x_y(out, key);
    kbs_buf_put_u8(out, '}');
}

/* RFC 7638 hashes exactly the required members, sorted. */
static void thumbprint_of(const struct kbs_buf *jwk, char ret[44])
{
    struct kbs_buf text = KBS_BUF(THUMBPRINT_CHARS + 1);
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_sha256(kbs_buf_span(jwk), digest);
    kbs_base64url_put(&text, kbs_span(digest, sizeof(digest)));
    /* Out of memory gives the empty text, which names no key, and never a digest of half a JWK. */
    if (jwk->failed || text.failed || !kbs_span_to_cstr(kbs_buf_span(&text), ret, 44)) {
        ret[0] = '\0';
    }
    kbs_buf_deinit(&text);
}

void kbs_jose_thumbprint(const struct kbs_ec_public *key, char ret[44])
{
    struct kbs_buf jwk = KBS_BUF(JWK_MAX_BYTES);

    kbs_jose_jwk_put(&jwk, key);
    thumbprint_of(&jwk, ret);
    kbs_buf_deinit(&jwk);
}

void kbs_jose_tee_thumbprint(const struct kbs_tee_key *key, char ret[44])
{
    struct kbs_buf jwk = KBS_BUF(JWK_MAX_BYTES);

    if (kbs_tee_alg_is_ec(key->alg)) {
        kbs_jose_jwk_put(&jwk, &key->ec);
    } else {
        kbs_buf_put_u8(&jwk, '{');
        members_e_kty_n(&jwk, &key->rsa);
        kbs_buf_put_u8(&jwk, '}');
    }
    thumbprint_of(&jwk, ret);
    kbs_buf_deinit(&jwk);
}

static void put_counted(struct kbs_buf *out, struct kbs_span s)
{
    if (s.len > UINT32_MAX) {
        out->failed = true;
        return;
    }
    kbs_buf_put_be32(out, (uint32_t)s.len);
    kbs_buf_put_span(out, s);
}

void kbs_jose_other_info_put(struct kbs_buf *out, struct kbs_span apu, struct kbs_span apv)
{
    put_counted(out, KBS_SPAN_LIT(KBS_JOSE_ECDH_ES_A256KW));
    put_counted(out, apu);
    put_counted(out, apv);
    kbs_buf_put_be32(out, 256); /* SuppPubInfo: bits of the key; SuppPrivInfo is empty */
}

void kbs_jose_recipient_put(struct kbs_buf *out, const struct kbs_jose_recipient *r)
{
    kbs_buf_put_str(out, "{\"header\":{");
    member_string(out, "alg", r->epk != NULL ? KBS_JOSE_ECDH_ES_A256KW : KBS_JOSE_A256KW);
    kbs_buf_put_u8(out, ',');
    if (r->apu.len > 0) {
        member_base64url(out, "apu", r->apu);
        kbs_buf_put_u8(out, ',');
    }
    if (r->apv.len > 0) {
        member_base64url(out, "apv", r->apv);
        kbs_buf_put_u8(out, ',');
    }
    if (r->epk != NULL) {
        kbs_buf_put_str(out, "\"epk\":");
        kbs_jose_jwk_put(out, r->epk);
        kbs_buf_put_u8(out, ',');
    }
    kbs_buf_put_str(out, "\"kid\":\"");
    kbs_buf_put_span(out, r->kid);
    kbs_buf_put_str(out, "\"},");
    member_base64url(out, "encrypted_key", r->encrypted_key);
    kbs_buf_put_u8(out, '}');
}

void kbs_jose_rsa_recipient_put(struct kbs_buf *out, enum kbs_tee_alg alg, struct kbs_span kid,
                                struct kbs_span encrypted_key)
{
    kbs_buf_put_str(out, "{\"header\":{");
    member_string(out, "alg", kbs_tee_alg_name(alg));
    kbs_buf_put_str(out, ",\"kid\":\"");
    kbs_buf_put_span(out, kid);
    kbs_buf_put_str(out, "\"},");
    member_base64url(out, "encrypted_key", encrypted_key);
    kbs_buf_put_u8(out, '}');
}

/* The header as base64url text. Takes the header. */
static void protected_put(struct kbs_buf *out, struct kbs_buf *header)
{
    if (header->failed) {
        out->failed = true;
    } else {
        kbs_base64url_put(out, kbs_buf_span(header));
    }
    kbs_buf_deinit(header);
}

void kbs_jose_jwe_protected_put(struct kbs_buf *out, enum kbs_tee_alg alg,
                                const struct kbs_ec_public *epk)
{
    struct kbs_buf header = KBS_BUF(HEADER_MAX_BYTES);

    kbs_buf_put_u8(&header, '{');
    member_string(&header, "alg", kbs_tee_alg_name(alg));
    kbs_buf_put_str(&header, ",\"enc\":\"A256GCM\"");
    if (epk != NULL) {
        kbs_buf_put_str(&header, ",\"epk\":");
        kbs_jose_jwk_put(&header, epk);
    }
    kbs_buf_put_u8(&header, '}');
    protected_put(out, &header);
}

/* The header of what is addressed to a key of the service, which says for what, and for which one. */
static void addressed_put(struct kbs_buf *out, const char *apu, struct kbs_span apv,
                          const struct kbs_ec_public *epk, const char *thumbprint)
{
    struct kbs_buf header = KBS_BUF(HEADER_MAX_BYTES);

    kbs_buf_put_str(&header, "{\"alg\":\"" KBS_JOSE_ECDH_ES_A256KW "\",\"enc\":\"A256GCM\",");
    member_base64url(&header, "apu", kbs_span_str(apu));
    kbs_buf_put_u8(&header, ',');
    member_base64url(&header, "apv", apv);
    kbs_buf_put_str(&header, ",\"epk\":");
    kbs_jose_jwk_put(&header, epk);
    kbs_buf_put_u8(&header, ',');
    member_string(&header, "kid", thumbprint);
    kbs_buf_put_u8(&header, '}');
    protected_put(out, &header);
}

void kbs_jose_seal_protected_put(struct kbs_buf *out, const struct kbs_ec_public *epk,
                                 struct kbs_span kid, const char *seal_thumbprint)
{
    addressed_put(out, "kbs-seal-v1", kid, epk, seal_thumbprint);
}

void kbs_jose_request_protected_put(struct kbs_buf *out, const struct kbs_ec_public *epk,
                                    struct kbs_span apv, const char *request_thumbprint)
{
    addressed_put(out, "kbs-request-v1", apv, epk, request_thumbprint);
}

void kbs_jose_jwe_put(struct kbs_buf *out, const struct kbs_jose_jwe *jwe)
{
    kbs_buf_put_str(out, "{\"protected\":\"");
    kbs_buf_put_span(out, jwe->protected_text);
    kbs_buf_put_str(out, "\",");
    member_base64url(out, "encrypted_key", jwe->encrypted_key);
    kbs_buf_put_u8(out, ',');
    member_base64url(out, "iv", jwe->iv);
    kbs_buf_put_u8(out, ',');
    member_base64url(out, "ciphertext", jwe->ciphertext);
    kbs_buf_put_u8(out, ',');
    member_base64url(out, "tag", jwe->tag);
    kbs_buf_put_u8(out, '}');
}

void kbs_jose_jws_input_put(struct kbs_buf *out, const char *alg, const char *kid, const char *typ,
                            struct kbs_span payload)
{
    struct kbs_buf header = KBS_BUF(HEADER_MAX_BYTES);

    kbs_buf_put_u8(&header, '{');
    member_string(&header, "alg", alg);
    kbs_buf_put_u8(&header, ',');
    member_string(&header, "kid", kid);
    kbs_buf_put_u8(&header, ',');
    member_string(&header, "typ", typ);
    kbs_buf_put_u8(&header, '}');
    protected_put(out, &header);
    kbs_buf_put_u8(out, '.');
    kbs_base64url_put(out, payload);
}

void kbs_jose_jws_signature_put(struct kbs_buf *out, struct kbs_span signature)
{
    kbs_buf_put_u8(out, '.');
    kbs_base64url_put(out, signature);
}
