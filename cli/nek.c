/*
 * Files and texts about NEKs. A blob file is the blob and nothing else, JSON or COSE; which of the two
 * is told by its first byte, since no CBOR of ours begins like a JSON object.
 */
#include "cli/nek.h"

#include "base/encoding.h"
#include "cli/files.h"

#define PUBLIC_MAX_BYTES 8192
#define VALUE_MAX_BYTES 1024
#define TEXT_PREFIX "text:"

int kbs_nek_jwk_get(const json_t *object, const char *name, struct kbs_tee_key *ret,
                    struct kbs_error *err)
{
    struct kbs_span alg = KBS_SPAN_EMPTY;
    json_t *jwk = NULL;

    if (kbs_json_get_object(object, name, &jwk, err) != 0 ||
        kbs_json_get_string(jwk, "alg", &alg, err) != 0) {
        return -1;
    }
    *ret = (struct kbs_tee_key){.alg = kbs_tee_alg_from_name(alg)};
    switch (ret->alg) {
    case KBS_TEE_ALG_ECDH_ES_A256KW:
        return kbs_jose_jwk_get(jwk, kbs_tee_alg_name(ret->alg), &ret->ec, err);
    case KBS_TEE_ALG_RSA_OAEP_256:
    case KBS_TEE_ALG_RSA_OAEP:
        return kbs_jose_rsa_jwk_get(jwk, kbs_tee_alg_name(ret->alg), &ret->rsa, err);
    default:
        return kbs_fail(err, KBS_INPUT, "\"%s\": nothing can be wrapped to a key of that alg",
                        name);
    }
}

int kbs_nek_public_read(const char *file, struct kbs_nek_public *ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(PUBLIC_MAX_BYTES);
    struct kbs_span kid = KBS_SPAN_EMPTY;
    struct kbs_span path;
    KBS_AUTO_JSON root = NULL;
    uint32_t version;
    int rc = -1;

    if (kbs_cli_read_file(file, &text, err) == 0 &&
        kbs_json_parse_object(kbs_buf_span(&text), file, &root, err) == 0 &&
        kbs_json_get_string(root, "kid", &kid, err) == 0) {
        rc =
            kbs_span_to_cstr(kid, ret->kid, sizeof(ret->kid)) && kbs_kid_split(kid, &path, &version)
                ? kbs_nek_jwk_get(root, "jwk", &ret->key, err)
                : kbs_fail(err, KBS_INPUT, "%.100s: \"kid\" is not repo/type/tag/vN", file);
        ret->binding_required = json_is_true(json_object_get(root, "binding_required"));
    }
    kbs_buf_deinit(&text);
    return rc;
}

/* One FIELD=VALUE. */
static int field_from(struct kbs_span part, uint8_t *bits, struct kbs_buf *value,
                      enum kbs_nek_field *ret, struct kbs_error *err)
{
    const uint8_t *equals = part.len != 0 ? memchr(part.p, '=', part.len) : NULL;
    struct kbs_span text;

    if (equals == NULL) {
        return kbs_fail(err, KBS_INPUT, "a binding is FIELD=VALUE, with a comma between two");
    }
    text = kbs_span_skip(part, (size_t)(equals - part.p) + 1);
    *ret = kbs_nek_field_from_name(kbs_span(part.p, (size_t)(equals - part.p)));
    if (*ret == KBS_NEK_FIELD_COUNT || (*bits & 1u << *ret) != 0) {
        return kbs_fail(err, KBS_INPUT,
                        "a binding names each of init-data, host-data, measurement, id-block and "
                        "chip-id at most once");
    }
    *bits |= (uint8_t)(1u << *ret);
    if (kbs_span_starts_with(text, TEXT_PREFIX)) {
        kbs_buf_put_span(value, kbs_span_skip(text, strlen(TEXT_PREFIX)));
        return kbs_buf_check(value, "the value", err);
    }
    return text.len != 0 && kbs_hex_get(value, text) == 0
               ? 0
               : kbs_fail(err, KBS_INPUT, "the value of %s is not hex", kbs_nek_field_name(*ret));
}

int kbs_nek_binding_from(const char *text, struct kbs_nek_binding *ret, struct kbs_error *err)
{
    struct kbs_buf bytes[KBS_NEK_FIELD_COUNT];
    struct kbs_span values[KBS_NEK_FIELD_COUNT] = {KBS_SPAN_EMPTY};
    struct kbs_span rest = kbs_span_str(text);
    uint8_t bits = 0;
    int rc = 0;

    for (size_t i = 0; i < KBS_NEK_FIELD_COUNT; i++) {
        kbs_buf_init(&bytes[i], VALUE_MAX_BYTES);
    }
    for (size_t n = 0; rc == 0 && rest.len > 0 && n < KBS_NEK_FIELD_COUNT + 1; n++) {
        const uint8_t *comma = memchr(rest.p, ',', rest.len);
        struct kbs_span part =
            kbs_span(rest.p, comma != NULL ? (size_t)(comma - rest.p) : rest.len);
        struct kbs_buf value = KBS_BUF(VALUE_MAX_BYTES);
        enum kbs_nek_field field = KBS_NEK_FIELD_COUNT;

        rest = kbs_span_skip(rest, comma != NULL ? part.len + 1 : part.len);
        rc = field_from(part, &bits, &value, &field, err);
        if (rc == 0) {
            kbs_buf_deinit(&bytes[field]);
            bytes[field] = value;
            values[field] = kbs_buf_span(&bytes[field]);
        } else {
            kbs_buf_deinit(&value);
        }
    }
    if (rc == 0) {
        kbs_nek_bind(bits, values, ret);
    }
    for (size_t i = 0; i < KBS_NEK_FIELD_COUNT; i++) {
        kbs_buf_deinit(&bytes[i]);
    }
    return rc;
}

int kbs_nek_file_read(const char *file, struct kbs_buf *text, struct kbs_nek_in *ret,
                      struct kbs_error *err)
{
    KBS_AUTO_JSON root = NULL;

    *ret = (struct kbs_nek_in){.kind = KBS_NEK_NONE};
    if (kbs_cli_read_file(file, text, err) != 0) {
        return -1;
    }
    if (!kbs_span_starts_with(kbs_buf_span(text), "{")) {
        return kbs_nek_read_cose(kbs_buf_span(text), ret, err);
    }
    return kbs_json_parse_object(kbs_buf_span(text), file, &root, err) == 0
               ? kbs_nek_read_jose(root, ret, err)
               : -1;
}
