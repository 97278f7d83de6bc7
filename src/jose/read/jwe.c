/*
 * Three JWEs, one reader. A secret on its way in was encrypted by an administrator's client to the
 * token's seal key, a request's body by a guest to its request key; a secret or key on its way out is
 * encrypted to a TEE key and read by kbs-guest. Their outer members are the same five; their protected
 * headers are two closed sets.
 *
 * The header of the first two is also the AAD, and kbs-token, which parses no JSON, prints it
 * anew from the parts that are decoded here. So a header that means the same in other bytes would
 * fail in the token as a wrong tag, which says nothing. Hence it is printed here as well and
 * compared: whoever made it learns what is wrong, and no byte of it has a second meaning.
 *
 * Rejected: cjose's JWE import, which knows neither the flattened form nor a header without a key.
 */
#include "jose/read/jwe.h"

#include "base/encoding.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"

#define HEADER_MAX_BYTES 2048u

static const char *const jwe_names[] = {"protected",  "encrypted_key", "iv",
                                        "ciphertext", "tag",           NULL};
static const char *const addressed_names[] = {"alg", "enc", "apu", "apv", "epk", "kid", NULL};
static const char *const ec_names[] = {"alg", "enc", "epk", NULL};
static const char *const rsa_names[] = {"alg", "enc", NULL};
static const char *const epk_names[] = {"crv", "kty", "x", "y", NULL};

void kbs_jose_jwe_in_deinit(struct kbs_jose_jwe_in *jwe)
{
    kbs_buf_deinit(&jwe->protected_text);
    kbs_buf_deinit(&jwe->encrypted_key);
    kbs_buf_deinit(&jwe->ciphertext);
}

/* A member that is the base64url of 1 to out->max bytes. */
static int bytes_get(const json_t *object, const char *name, struct kbs_buf *out,
                     struct kbs_error *err)
{
    struct kbs_span text;

    if (kbs_json_get_string(object, name, &text, err) != 0) {
        return -1;
    }
    if (kbs_base64url_get(out, text) != 0 || out->len == 0) {
        return kbs_fail(err, KBS_INPUT, "JWE: \"%s\" is not the base64url of 1 to %zu bytes", name,
                        out->max);
    }
    return 0;
}

static int exact_get(const json_t *object, const char *name, uint8_t *out, size_t len,
                     struct kbs_error *err)
{
    struct kbs_span text;

    if (kbs_json_get_string(object, name, &text, err) != 0) {
        return -1;
    }
    if (kbs_base64url_get_exact(out, len, text) != 0) {
        return kbs_fail(err, KBS_INPUT, "JWE: \"%s\" is not the base64url of %zu bytes", name, len);
    }
    return 0;
}

static int equals(const json_t *object, const char *name, const char *wanted, struct kbs_error *err)
{
    struct kbs_span text;

    if (kbs_json_get_string(object, name, &text, err) != 0) {
        return -1;
    }
    return kbs_span_equal_str(text, wanted)
               ? 0
               : kbs_fail(err, KBS_INPUT, "JWE: \"%s\" is not %s", name, wanted);
}

/* apv: the base64url of repo/type/tag/vN. */
static int apv_get(const json_t *header, char ret[KBS_LIMIT_KID_BYTES + 1], struct kbs_error *err)
{
    struct kbs_buf bytes = KBS_BUF(KBS_LIMIT_KID_BYTES);
    struct kbs_span path;
    uint32_t version = 0;
    int rc = bytes_get(header, "apv", &bytes, err);

    if (rc == 0 && (!kbs_kid_split(kbs_buf_span(&bytes), &path, &version) ||
                    !kbs_span_to_cstr(kbs_buf_span(&bytes), ret, KBS_LIMIT_KID_BYTES + 1))) {
        rc = kbs_fail(err, KBS_INPUT, "JWE: \"apv\" is not repo/type/tag/vN");
    }
    kbs_buf_deinit(&bytes);
    return rc;
}

static int epk_get(const json_t *header, struct kbs_ec_public *ret, struct kbs_error *err)
{
    json_t *epk = NULL;

    if (kbs_json_get_object(header, "epk", &epk, err) != 0 ||
        kbs_json_only(epk, epk_names, err) != 0) {
        return -1;
    }
    return kbs_jose_jwk_get(epk, NULL, ret, err);
}

/* What both headers have. */
static int header_get(const json_t *header, const char *const *names, struct kbs_jose_jwe_in *r,
                      struct kbs_error *err)
{
    if (kbs_json_only(header, names, err) != 0 ||
        equals(header, "alg", kbs_tee_alg_name(r->alg), err) != 0 ||
        equals(header, "enc", "A256GCM", err) != 0) {
        return -1;
    }
    return r->alg == KBS_TEE_ALG_ECDH_ES_A256KW ? epk_get(header, &r->epk, err) : 0;
}

/* Whether the header is exactly this text. Takes it. */
static int printed_alike(const struct kbs_jose_jwe_in *r, struct kbs_buf *again,
                         struct kbs_error *err)
{
    bool same = kbs_span_equal(kbs_buf_span(again), kbs_buf_span(&r->protected_text));

    kbs_buf_deinit(again);
    return same ? 0
                : kbs_fail(err, KBS_INPUT,
                           "JWE: \"protected\" is not exactly alg, enc, apu, apv, epk and kid of "
                           "what is addressed to this key, in this order");
}

/* What is addressed to a key of the service: epk and kid. */
static int addressed_get(const json_t *header, struct kbs_jose_jwe_in *r, struct kbs_error *err)
{
    struct kbs_span kid = KBS_SPAN_EMPTY;

    if (header_get(header, addressed_names, r, err) != 0 ||
        kbs_json_get_string(header, "kid", &kid, err) != 0) {
        return -1;
    }
    if (r->epk.curve != KBS_CURVE_P256) {
        return kbs_fail(err, KBS_INPUT, "JWE: \"epk\" is not on P-256");
    }
    return kid.len == sizeof(r->kid) - 1 && kbs_span_to_cstr(kid, r->kid, sizeof(r->kid))
               ? 0
               : kbs_fail(err, KBS_INPUT, "JWE: \"kid\" is not a thumbprint");
}

static int sealed_header_get(const json_t *header, struct kbs_jose_jwe_in *r, struct kbs_error *err)
{
    struct kbs_buf again = KBS_BUF(HEADER_MAX_BYTES);

    if (addressed_get(header, r, err) != 0 || apv_get(header, r->apv, err) != 0) {
        return -1;
    }
    kbs_jose_seal_protected_put(&again, &r->epk, kbs_span_str(r->apv), r->kid);
    return printed_alike(r, &again, err);
}

static int envelope_header_get(const json_t *header, struct kbs_jose_jwe_in *r,
                               struct kbs_error *err)
{
    struct kbs_buf again = KBS_BUF(HEADER_MAX_BYTES);

    if (addressed_get(header, r, err) != 0 ||
        exact_get(header, "apv", r->request, sizeof(r->request), err) != 0) {
        return -1;
    }
    kbs_jose_request_protected_put(&again, &r->epk, kbs_span(r->request, sizeof(r->request)),
                                   r->kid);
    return printed_alike(r, &again, err);
}

/* The header of an answer, which depends on the TEE key. */
static int answer_header_get(const json_t *header, struct kbs_jose_jwe_in *r, struct kbs_error *err)
{
    return header_get(header, r->alg == KBS_TEE_ALG_ECDH_ES_A256KW ? ec_names : rsa_names, r, err);
}

/* The protected header, parsed; its text into r. Returns owned. */
static int protected_get(const json_t *jwe, struct kbs_jose_jwe_in *r, json_t **ret,
                         struct kbs_error *err)
{
    struct kbs_buf header = KBS_BUF(HEADER_MAX_BYTES);
    struct kbs_span text = KBS_SPAN_EMPTY;
    int rc = -1;

    if (bytes_get(jwe, "protected", &header, err) == 0 &&
        kbs_json_get_string(jwe, "protected", &text, err) == 0) {
        kbs_buf_put_span(&r->protected_text, text);
        if (kbs_buf_check(&r->protected_text, "\"protected\"", err) == 0) {
            rc = kbs_json_parse_object(kbs_buf_span(&header), "protected header", ret, err);
        }
    }
    kbs_buf_deinit(&header);
    return rc;
}

/* Everything but the header. */
static int members_get(const json_t *jwe, struct kbs_jose_jwe_in *r, struct kbs_error *err)
{
    if (bytes_get(jwe, "encrypted_key", &r->encrypted_key, err) != 0 ||
        exact_get(jwe, "iv", r->iv, sizeof(r->iv), err) != 0 ||
        bytes_get(jwe, "ciphertext", &r->ciphertext, err) != 0 ||
        exact_get(jwe, "tag", r->tag, sizeof(r->tag), err) != 0) {
        return -1;
    }
    if (r->alg == KBS_TEE_ALG_ECDH_ES_A256KW &&
        r->encrypted_key.len != KBS_JOSE_WRAPPED_CEK_BYTES) {
        return kbs_fail(err, KBS_INPUT, "JWE: \"encrypted_key\" is not a wrapped key of %d bytes",
                        KBS_JOSE_CEK_BYTES);
    }
    return 0;
}

typedef int header_reader(const json_t *header, struct kbs_jose_jwe_in *r, struct kbs_error *err);

static int jwe_get(const json_t *jwe, header_reader *header_of, struct kbs_jose_jwe_in *r,
                   struct kbs_error *err)
{
    KBS_AUTO_JSON header = NULL;

    if (!json_is_object(jwe)) {
        return kbs_fail(err, KBS_INPUT, "JWE: not an object");
    }
    if (kbs_json_only(jwe, jwe_names, err) != 0 || protected_get(jwe, r, &header, err) != 0 ||
        header_of(header, r, err) != 0) {
        return -1;
    }
    return members_get(jwe, r, err);
}

static int jwe_read(const json_t *jwe, header_reader *header_of, enum kbs_tee_alg alg,
                    size_t max_bytes, struct kbs_jose_jwe_in *ret, struct kbs_error *err)
{
    *ret = (struct kbs_jose_jwe_in){
        .alg = alg,
        .protected_text = KBS_BUF(2 * HEADER_MAX_BYTES),
        .encrypted_key = KBS_BUF(KBS_LIMIT_RSA_BYTES_MAX),
        .ciphertext = KBS_BUF(max_bytes),
    };
    if (jwe_get(jwe, header_of, ret, err) != 0) {
        kbs_jose_jwe_in_deinit(ret);
        return -1;
    }
    return 0;
}

int kbs_jose_sealed_get(const json_t *jwe, struct kbs_jose_jwe_in *ret, struct kbs_error *err)
{
    return jwe_read(jwe, sealed_header_get, KBS_TEE_ALG_ECDH_ES_A256KW,
                    KBS_LIMIT_SECRET_VALUE_BYTES, ret, err);
}

int kbs_jose_envelope_get(const json_t *jwe, struct kbs_jose_jwe_in *ret, struct kbs_error *err)
{
    return jwe_read(jwe, envelope_header_get, KBS_TEE_ALG_ECDH_ES_A256KW, KBS_LIMIT_ENVELOPE_BYTES,
                    ret, err);
}

int kbs_jose_jwe_get(const json_t *jwe, enum kbs_tee_alg alg, struct kbs_jose_jwe_in *ret,
                     struct kbs_error *err)
{
    return jwe_read(jwe, answer_header_get, alg, KBS_LIMIT_SECRET_VALUE_BYTES, ret, err);
}
