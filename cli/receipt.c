/*
 * What a receipt says is shown as it stands in it: kbs-token's own words, then, named so, those of the
 * judge. Digests are in hex and the TEE key is a thumbprint, as the ledger has both, so that one can be
 * looked up in the other.
 */
#include "cli/receipt.h"

#include "base/digest.h"
#include "base/encoding.h"
#include "cli/admin.h"
#include "cli/files.h"
#include "cli/output.h"
#include "jose/read/jwt.h"

#define JWKS_MAX_BYTES 65536u

int kbs_cli_receipt_key(const char *pem_file, struct kbs_cli_receipt_keys *ret,
                        struct kbs_error *err)
{
    ret->count = 1;
    return kbs_admin_pinned_key(pem_file, &ret->keys[0], err);
}

int kbs_cli_receipt_jwks(const char *file, struct kbs_cli_receipt_keys *ret, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(JWKS_MAX_BYTES);
    struct kbs_jwt_keys set = KBS_JWT_KEYS_NULL;
    int rc = -1;

    ret->count = 0;
    if (kbs_cli_read_file(file, &text, err) == 0 &&
        kbs_jwt_keys_load(kbs_buf_span(&text), &set, err) == 0) {
        for (size_t i = 0; i < set.count && ret->count < KBS_LIMIT_JWKS_KEYS; i++) {
            const struct kbs_jws_key *key = &set.items[i];

            if (key->kind == KBS_JWS_KEY_EC && key->ec.curve == KBS_CURVE_P256) {
                ret->keys[ret->count++] = key->ec;
            }
        }
        rc = ret->count > 0 ? 0 : kbs_fail(err, KBS_INPUT, "%.100s: no key of ES256", file);
    }
    kbs_jwt_keys_deinit(&set);
    kbs_buf_deinit(&text);
    return rc;
}

int kbs_cli_receipt_read(const char *file, struct kbs_buf *ret, struct kbs_error *err)
{
    if (kbs_cli_read_file(file, ret, err) != 0) {
        return -1;
    }
    while (ret->len > 0 && (ret->p[ret->len - 1] == '\n' || ret->p[ret->len - 1] == '\r')) {
        ret->len--;
    }
    return 0;
}

/* ---- showing ---- */

static json_t *hex(struct kbs_span bytes)
{
    char text[2 * KBS_DIGEST_MAX_BYTES + 1];

    if (bytes.len == 0) {
        return json_null();
    }
    kbs_hex_cstr(bytes, text, sizeof(text));
    return json_string(text);
}

static json_t *digest(const uint8_t bytes[KBS_SHA256_BYTES])
{
    return hex(kbs_span(bytes, KBS_SHA256_BYTES));
}

/* A thumbprint; null for the zeros that stand for no TEE key. */
static json_t *tee_key(const struct kbs_receipt *r)
{
    static const uint8_t none[KBS_SHA256_BYTES];
    struct kbs_buf text = KBS_BUF(64);
    json_t *ret = NULL;

    if (memcmp(r->tee_key, none, sizeof(none)) == 0) {
        return json_null();
    }
    kbs_base64url_put(&text, kbs_span(r->tee_key, sizeof(r->tee_key)));
    ret = json_stringn((const char *)text.p, text.len);
    kbs_buf_deinit(&text);
    return ret;
}

static json_t *judge_json(const struct kbs_receipt_word *w)
{
    return json_pack("{s:s, s:o, s:o, s:o}", "binding", kbs_binding_name(w->binding), "nonce",
                     hex(kbs_span(w->nonce, sizeof(w->nonce))), "report_data",
                     hex(kbs_digest_span(&w->report)), "resource_policy",
                     w->has_resource_policy ? digest(w->resource_policy) : json_null());
}

json_t *kbs_cli_receipt_json(const struct kbs_receipt_in *in, struct kbs_span text)
{
    const struct kbs_receipt *r = &in->said;
    uint8_t own[KBS_SHA256_BYTES];
    char time[32];

    kbs_sha256(text, own);
    kbs_admin_time((int64_t)r->time_s, time, sizeof(time));
    return json_pack(
        "{s:o, s:s, s:s, s:s, s:s, s:s, s:o, s:I, s:o, s:o, s:s, s:s, s:s, s:s, s:o, s:o, s:o}",
        "receipt", digest(own), "signed_by", in->signer, "form",
        in->form == KBS_RECEIPT_COSE ? "COSE_Sign1" : "JWS", "time", time, "op",
        kbs_receipt_op_name(r->op), "kid", r->kid, "key_id",
        hex(kbs_span(r->key_id, sizeof(r->key_id))), "key_version", (json_int_t)r->key_version,
        "card", digest(r->card), "policy", digest(r->policy), "wrap_locality",
        kbs_locality_name(r->locality), "format", kbs_format_name(r->format), "token_class",
        kbs_token_class_name(r->token_class), "token_serial", r->serial, "tee_key", tee_key(r),
        "answer", digest(r->answer), "judge", judge_json(&r->word));
}

static void print_member(const char *label, const json_t *value)
{
    if (json_is_integer(value)) {
        kbs_cli_field(label, "%lld", (long long)json_integer_value(value));
    } else {
        kbs_cli_field_text(label, json_is_null(value) ? KBS_SPAN_LIT("none")
                                                      : kbs_span(json_string_value(value),
                                                                 json_string_length(value)));
    }
}

int kbs_cli_receipt_print(const struct kbs_receipt_in *in, struct kbs_span text,
                          struct kbs_error *err)
{
    json_t *all = kbs_cli_receipt_json(in, text);
    const char *name = NULL;
    json_t *value = NULL;

    if (all == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    json_object_foreach(all, name, value)
    {
        if (!json_is_object(value)) {
            print_member(name, value);
        }
    }
    json_object_foreach(json_object_get(all, "judge"), name, value)
    {
        char label[64];

        (void)snprintf(label, sizeof(label), "judge: %s", name);
        print_member(label, value);
    }
    json_decref(all);
    return 0;
}
