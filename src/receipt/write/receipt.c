/*
 * Two templates, one for each form, filled with the same values. Everything is there every time and
 * stands in one place, so that a reader can demand it and nobody has to parse anything to write one.
 *
 * What the judge only says stands apart from what kbs-token knows ("judge", label 15), so that whoever
 * reads a receipt sees whose word it is.
 */
#include "receipt/write/receipt.h"

#include "base/encoding.h"
#include "cose/write/cbor.h"
#include "cose/write/cose.h"
#include "jose/write/jose.h"
#include "receipt/write/labels.h"

static const char *const op_names[KBS_RECEIPT_OP_COUNT] = {
    [KBS_RECEIPT_OP_NONE] = "none",
    [KBS_RECEIPT_RELEASE] = "release",
    [KBS_RECEIPT_OPEN_SECRET] = "open-secret",
    [KBS_RECEIPT_REWRAP] = "rewrap-nek",
    [KBS_RECEIPT_PROVISION] = "provision",
};

const char *kbs_receipt_op_name(enum kbs_receipt_op op)
{
    return (unsigned int)op < KBS_RECEIPT_OP_COUNT ? op_names[op] : "unknown";
}

enum kbs_receipt_op kbs_receipt_op_from_name(struct kbs_span name)
{
    for (unsigned int op = KBS_RECEIPT_RELEASE; op < KBS_RECEIPT_OP_COUNT; op++) {
        if (kbs_span_equal_str(name, op_names[op])) {
            return (enum kbs_receipt_op)op;
        }
    }
    return KBS_RECEIPT_OP_NONE;
}

enum kbs_receipt_form kbs_receipt_form_of(enum kbs_format format)
{
    return format == KBS_FORMAT_COSE ? KBS_RECEIPT_COSE : KBS_RECEIPT_JWS;
}

static struct kbs_span digest_span(const uint8_t digest[KBS_SHA256_BYTES])
{
    return kbs_span(digest, KBS_SHA256_BYTES);
}

/* A thumbprint, or the empty span for the zeros that stand for none. */
static struct kbs_span tee_key_span(const struct kbs_receipt *r)
{
    static const uint8_t none[KBS_SHA256_BYTES];

    return memcmp(r->tee_key, none, sizeof(none)) != 0 ? digest_span(r->tee_key) : KBS_SPAN_EMPTY;
}

static struct kbs_span resource_policy_span(const struct kbs_receipt_word *w)
{
    return w->has_resource_policy ? digest_span(w->resource_policy) : KBS_SPAN_EMPTY;
}

/* ---- JSON ---- */

/* "name":"<base64url>", or null for the empty span. */
static void member_bytes(struct kbs_buf *out, const char *name, struct kbs_span value)
{
    kbs_buf_printf(out, "\"%s\":", name);
    if (value.len == 0) {
        kbs_buf_put_str(out, "null");
        return;
    }
    kbs_buf_put_u8(out, '"');
    kbs_base64url_put(out, value);
    kbs_buf_put_u8(out, '"');
}

static void member_text(struct kbs_buf *out, const char *name, const char *value)
{
    kbs_buf_printf(out, "\"%s\":", name);
    kbs_json_string_put(out, kbs_span_str(value));
}

static void judge_json_put(struct kbs_buf *out, const struct kbs_receipt_word *w)
{
    kbs_buf_put_str(out, "\"judge\":{");
    member_text(out, "binding", kbs_binding_name(w->binding));
    kbs_buf_put_u8(out, ',');
    member_bytes(out, "nonce", kbs_span(w->nonce, sizeof(w->nonce)));
    kbs_buf_put_u8(out, ',');
    member_bytes(out, "report_data", kbs_digest_span(&w->report));
    kbs_buf_put_u8(out, ',');
    member_bytes(out, "resource_policy", resource_policy_span(w));
    kbs_buf_put_u8(out, '}');
}

void kbs_receipt_json_put(struct kbs_buf *out, const struct kbs_receipt *r)
{
    kbs_buf_printf(out, "{\"v\":%d,\"time\":%llu,", KBS_RECEIPT_VERSION,
                   (unsigned long long)r->time_s);
    member_text(out, "op", kbs_receipt_op_name(r->op));
    kbs_buf_put_u8(out, ',');
    member_text(out, "kid", r->kid);
    kbs_buf_put_u8(out, ',');
    member_bytes(out, "key_id", kbs_span(r->key_id, sizeof(r->key_id)));
    kbs_buf_printf(out, ",\"key_version\":%u,", (unsigned int)r->key_version);
    member_bytes(out, "card", digest_span(r->card));
    kbs_buf_put_u8(out, ',');
    member_bytes(out, "policy", digest_span(r->policy));
    kbs_buf_put_u8(out, ',');
    member_text(out, "wrap_locality", kbs_locality_name(r->locality));
    kbs_buf_put_u8(out, ',');
    member_text(out, "format", kbs_format_name(r->format));
    kbs_buf_put_u8(out, ',');
    member_text(out, "token_class", kbs_token_class_name(r->token_class));
    kbs_buf_put_u8(out, ',');
    member_text(out, "token_serial", r->serial);
    kbs_buf_put_u8(out, ',');
    member_bytes(out, "tee_key", tee_key_span(r));
    kbs_buf_put_u8(out, ',');
    member_bytes(out, "answer", digest_span(r->answer));
    kbs_buf_put_u8(out, ',');
    judge_json_put(out, &r->word);
    kbs_buf_put_u8(out, '}');
}

/* ---- CBOR ---- */

static void label_uint(struct kbs_buf *out, int label, uint64_t value)
{
    kbs_cbor_put_int(out, label);
    kbs_cbor_put_uint(out, value);
}

static void label_bytes(struct kbs_buf *out, int label, struct kbs_span value)
{
    kbs_cbor_put_int(out, label);
    kbs_cbor_put_bytes_or_nil(out, value);
}

void kbs_receipt_cbor_put(struct kbs_buf *out, const struct kbs_receipt *r)
{
    kbs_cbor_put_map(out, KBS_RECEIPT_LABELS);
    label_uint(out, KBS_RECEIPT_L_VERSION, KBS_RECEIPT_VERSION);
    label_uint(out, KBS_RECEIPT_L_TIME, r->time_s);
    label_uint(out, KBS_RECEIPT_L_OP, (uint64_t)r->op);
    label_bytes(out, KBS_RECEIPT_L_KID, kbs_span_str(r->kid));
    label_bytes(out, KBS_RECEIPT_L_KEY_ID, kbs_span(r->key_id, sizeof(r->key_id)));
    label_uint(out, KBS_RECEIPT_L_KEY_VERSION, r->key_version);
    label_bytes(out, KBS_RECEIPT_L_CARD, digest_span(r->card));
    label_bytes(out, KBS_RECEIPT_L_POLICY, digest_span(r->policy));
    label_uint(out, KBS_RECEIPT_L_LOCALITY, (uint64_t)r->locality);
    label_uint(out, KBS_RECEIPT_L_FORMAT, (uint64_t)r->format);
    label_uint(out, KBS_RECEIPT_L_TOKEN_CLASS, (uint64_t)r->token_class);
    label_bytes(out, KBS_RECEIPT_L_SERIAL, kbs_span_str(r->serial));
    label_bytes(out, KBS_RECEIPT_L_TEE_KEY, tee_key_span(r));
    label_bytes(out, KBS_RECEIPT_L_ANSWER, digest_span(r->answer));
    kbs_cbor_put_int(out, KBS_RECEIPT_L_JUDGE);
    kbs_cbor_put_map(out, KBS_RECEIPT_JUDGE_LABELS);
    label_uint(out, KBS_RECEIPT_J_BINDING, (uint64_t)r->word.binding);
    label_bytes(out, KBS_RECEIPT_J_NONCE, kbs_span(r->word.nonce, sizeof(r->word.nonce)));
    label_bytes(out, KBS_RECEIPT_J_REPORT, kbs_digest_span(&r->word.report));
    label_bytes(out, KBS_RECEIPT_J_RESOURCE_POLICY, resource_policy_span(&r->word));
}

/* ---- the signed forms ---- */

void kbs_receipt_protected_put(struct kbs_buf *out, const char *kid)
{
    kbs_cose_sign1_protected_put(out, kbs_span_str(kid), KBS_RECEIPT_COSE_TYPE);
}

/* Protected header and payload of a COSE_Sign1; false if they could not be made. */
static bool cose_parts(const char *kid, const struct kbs_receipt *r, struct kbs_buf *protected_map,
                       struct kbs_buf *payload)
{
    kbs_receipt_protected_put(protected_map, kid);
    kbs_receipt_cbor_put(payload, r);
    return !protected_map->failed && !payload->failed;
}

static void cose_put(struct kbs_buf *out, const char *kid, const struct kbs_receipt *r,
                     struct kbs_span signature)
{
    struct kbs_buf protected_map = KBS_BUF(256);
    struct kbs_buf payload = KBS_BUF(KBS_RECEIPT_PAYLOAD_MAX_BYTES);
    struct kbs_buf message = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES);
    bool made = cose_parts(kid, r, &protected_map, &payload);

    if (made && signature.len == 0) {
        kbs_cose_sign1_input_put(out, kbs_buf_span(&protected_map), kbs_buf_span(&payload));
    } else if (made) {
        kbs_cose_sign1_put(&message, kbs_buf_span(&protected_map), kbs_buf_span(&payload),
                           signature);
        kbs_base64url_put(out, kbs_buf_span(&message));
    }
    out->failed = out->failed || !made || message.failed;
    kbs_buf_deinit(&protected_map);
    kbs_buf_deinit(&payload);
    kbs_buf_deinit(&message);
}

static void jws_input_put(struct kbs_buf *out, const char *kid, const struct kbs_receipt *r)
{
    struct kbs_buf payload = KBS_BUF(KBS_RECEIPT_PAYLOAD_MAX_BYTES);

    kbs_receipt_json_put(&payload, r);
    kbs_jose_jws_input_put(out, kbs_jose_sig_alg(KBS_CURVE_P256), kid, KBS_RECEIPT_JWS_TYPE,
                           kbs_buf_span(&payload));
    out->failed = out->failed || payload.failed;
    kbs_buf_deinit(&payload);
}

void kbs_receipt_input_put(struct kbs_buf *out, enum kbs_receipt_form form, const char *kid,
                           const struct kbs_receipt *r)
{
    if (form == KBS_RECEIPT_COSE) {
        cose_put(out, kid, r, KBS_SPAN_EMPTY);
    } else {
        jws_input_put(out, kid, r);
    }
}

void kbs_receipt_text_put(struct kbs_buf *out, enum kbs_receipt_form form, const char *kid,
                          const struct kbs_receipt *r, struct kbs_span signature)
{
    if (form == KBS_RECEIPT_COSE) {
        cose_put(out, kid, r, signature);
    } else {
        jws_input_put(out, kid, r);
        kbs_jose_jws_signature_put(out, signature);
    }
}
