/*
 * What ties a token to a handshake: report data, runtime data and nonces that it repeats are recomputed
 * from what we sent, or where there was no handshake, from each other.
 *
 * A passport that explains its own report data proves that its issuer put the key there that was hashed, not
 * that the issuer is honest. A field is as long as its hardware has it: a digest is filled up with zeros,
 * and where the field is shorter, cut, which is taken down to 32 bytes.
 */
#include "attest/issuer/profile.h"

#include "base/encoding.h"

#define FIELD_MIN_BYTES 32

int kbs_issuer_bytes(const json_t *text, enum kbs_text_form form, const char *what,
                     struct kbs_buf *ret, struct kbs_error *err)
{
    struct kbs_span s;
    int rc = -1;

    kbs_buf_clear(ret);
    if (json_is_string(text)) {
        s = kbs_span(json_string_value(text), json_string_length(text));
        rc = form == KBS_TEXT_HEX      ? kbs_hex_get(ret, s)
             : form == KBS_TEXT_BASE64 ? kbs_base64_get(ret, s)
                                       : kbs_base64url_get(ret, s);
    }
    return rc == 0 && ret->len > 0
               ? 0
               : kbs_fail(err, KBS_UNAUTHENTICATED, "attestation token: no valid \"%s\"", what);
}

bool kbs_issuer_field_is(struct kbs_span field, const struct kbs_digest *digest)
{
    size_t n = field.len < digest->len ? field.len : digest->len;

    if (n < FIELD_MIN_BYTES || memcmp(field.p, digest->p, n) != 0) {
        return false;
    }
    for (size_t i = n; i < field.len; i++) {
        if (field.p[i] != 0) {
            return false;
        }
    }
    return true;
}

int kbs_issuer_report_data(struct kbs_issuer_job *job, struct kbs_span field, struct kbs_error *err)
{
    const struct kbs_digest *expected = job->expected->report_data;

    if (!job->session || expected == NULL) {
        return 0;
    }
    if (!kbs_issuer_field_is(field, expected)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "attestation token: its report data is not the session's");
    }
    job->ret->tells_report_data = true;
    return 0;
}

int kbs_issuer_runtime_data(const struct kbs_issuer_job *job, const json_t *runtime,
                            struct kbs_error *err)
{
    KBS_AUTO_JSON sent = NULL;

    if (!job->session || job->expected->runtime_data.len == 0) {
        return 0;
    }
    if (kbs_json_parse_object(job->expected->runtime_data, "runtime data", &sent, err) != 0) {
        return -1;
    }
    if (json_object_get(runtime, "additional-evidence") == NULL) {
        (void)json_object_del(sent, "additional-evidence");
    }
    return json_equal(sent, runtime)
               ? 0
               : kbs_fail(err, KBS_UNAUTHENTICATED,
                          "attestation token: its runtime data is not the session's");
}

int kbs_issuer_explains_bytes(struct kbs_span field, struct kbs_span prefix, struct kbs_span bytes,
                              enum kbs_hash hash, const char *what, struct kbs_error *err)
{
    const struct kbs_span parts[] = {prefix, bytes};
    struct kbs_digest digest;

    for (int h = KBS_HASH_SHA256; h < KBS_HASH_COUNT; h++) {
        if ((hash == KBS_HASH_NONE || hash == (enum kbs_hash)h) &&
            kbs_hash_available((enum kbs_hash)h)) {
            kbs_digest((enum kbs_hash)h, parts, 2, &digest);
            if (kbs_issuer_field_is(field, &digest)) {
                return 0;
            }
        }
    }
    return kbs_fail(err, KBS_UNAUTHENTICATED,
                    "attestation token: its report data is not the digest of \"%s\"", what);
}

int kbs_issuer_explains(struct kbs_span field, struct kbs_span prefix, const json_t *value,
                        enum kbs_hash hash, const char *what, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_JWT_BYTES);
    struct kbs_error why = KBS_ERROR_NONE;
    int rc;

    if (!json_is_object(value) || kbs_json_canonical(value, &text, &why) != 0) {
        rc = kbs_fail(err, KBS_UNAUTHENTICATED,
                      "attestation token: \"%s\" is not an object that can be hashed", what);
    } else {
        rc = kbs_issuer_explains_bytes(field, prefix, kbs_buf_span(&text), hash, what, err);
    }
    kbs_buf_deinit(&text);
    return rc;
}
