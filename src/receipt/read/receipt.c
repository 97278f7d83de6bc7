/*
 * A receipt is read to be shown to people and compared with what was asked, so two readers must not
 * see two things in it. A payload is taken apart, printed again by its one writer, and compared byte
 * for byte: no other order, spelling, white space, duplicate or addition is a receipt.
 *
 * Which key it must be by is the caller's; a receipt only says which of them it is. Of COSE's protected
 * header nothing is parsed: with the key given there is only one that it can be.
 */
#include "receipt/read/receipt.h"

#include "base/digest.h"
#include "base/encoding.h"
#include "cose/read/item.h"
#include "cose/read/sign1.h"
#include "cose/write/cose.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"
#include "receipt/write/labels.h"

static int not_one(const char *what, struct kbs_error *err)
{
    return kbs_fail(err, KBS_INPUT, "that is no receipt: %s", what);
}

/* What the writer makes of what was read is what was read. */
static int compare(void (*put)(struct kbs_buf *out, const struct kbs_receipt *r),
                   const struct kbs_receipt *r, struct kbs_span payload, struct kbs_error *err)
{
    struct kbs_buf again = KBS_BUF(KBS_RECEIPT_PAYLOAD_MAX_BYTES);
    bool same;

    put(&again, r);
    same = !again.failed && kbs_span_equal(kbs_buf_span(&again), payload);
    kbs_buf_deinit(&again);
    return same ? 0 : not_one("its payload is not as it is written", err);
}

/* ---- JSON ---- */

/* base64url of exactly so many bytes; null leaves them as they are if it may be that. */
static bool json_bytes(const json_t *object, const char *name, uint8_t *out, size_t len,
                       bool *ret_null)
{
    const json_t *value = json_object_get(object, name);

    if (ret_null != NULL) {
        *ret_null = json_is_null(value);
        if (*ret_null) {
            return true;
        }
    }
    return json_is_string(value) &&
           kbs_base64url_get_exact(
               out, len, kbs_span(json_string_value(value), json_string_length(value))) == 0;
}

static bool json_digest(const json_t *object, const char *name, struct kbs_digest *ret)
{
    struct kbs_buf bytes = KBS_BUF(sizeof(ret->p));
    const json_t *value = json_object_get(object, name);
    bool ok = json_is_null(value) ||
              (json_is_string(value) &&
               kbs_base64url_get(
                   &bytes, kbs_span(json_string_value(value), json_string_length(value))) == 0);

    ret->len = ok ? bytes.len : 0;
    if (ret->len > 0) {
        memcpy(ret->p, bytes.p, ret->len);
    }
    kbs_buf_deinit(&bytes);
    return ok;
}

static bool json_text(const json_t *object, const char *name, char *out, size_t size)
{
    const json_t *value = json_object_get(object, name);

    return json_is_string(value) &&
           kbs_span_to_cstr(kbs_span(json_string_value(value), json_string_length(value)), out,
                            size);
}

/* The text of an enum; the empty span if it is none. */
static struct kbs_span json_name(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    return json_is_string(value) ? kbs_span(json_string_value(value), json_string_length(value))
                                 : KBS_SPAN_EMPTY;
}

static bool json_number(const json_t *object, const char *name, uint64_t max, uint64_t *ret)
{
    const json_t *value = json_object_get(object, name);

    *ret = json_is_integer(value) ? (uint64_t)json_integer_value(value) : 0;
    return json_is_integer(value) && json_integer_value(value) >= 0 && *ret <= max;
}

static enum kbs_format format_from(struct kbs_span name)
{
    for (unsigned int f = KBS_FORMAT_JOSE; f < KBS_FORMAT_COUNT; f++) {
        if (kbs_span_equal_str(name, kbs_format_name((enum kbs_format)f))) {
            return (enum kbs_format)f;
        }
    }
    return KBS_FORMAT_NONE;
}

static enum kbs_token_class class_from(struct kbs_span name)
{
    for (unsigned int c = KBS_TOKEN_CLASS_UNKNOWN; c < KBS_TOKEN_CLASS_COUNT; c++) {
        if (kbs_span_equal_str(name, kbs_token_class_name((enum kbs_token_class)c))) {
            return (enum kbs_token_class)c;
        }
    }
    return KBS_TOKEN_CLASS_UNKNOWN; /* and then it is not printed so again */
}

static bool word_from_json(const json_t *judge, struct kbs_receipt_word *ret)
{
    bool none = false;

    ret->binding = kbs_binding_from_name(json_name(judge, "binding"));
    if (!json_bytes(judge, "nonce", ret->nonce, sizeof(ret->nonce), NULL) ||
        !json_digest(judge, "report_data", &ret->report) ||
        !json_bytes(judge, "resource_policy", ret->resource_policy, sizeof(ret->resource_policy),
                    &none)) {
        return false;
    }
    ret->has_resource_policy = !none;
    return ret->binding != KBS_BINDING_NONE;
}

static bool receipt_from_json(const json_t *o, struct kbs_receipt *ret)
{
    uint64_t version = 0;
    uint64_t key_version = 0;
    bool none = false;

    ret->op = kbs_receipt_op_from_name(json_name(o, "op"));
    ret->locality = kbs_locality_from_name(json_name(o, "wrap_locality"));
    ret->format = format_from(json_name(o, "format"));
    ret->token_class = class_from(json_name(o, "token_class"));
    if (!json_number(o, "v", UINT32_MAX, &version) || version != KBS_RECEIPT_VERSION ||
        !json_number(o, "time", INT64_MAX, &ret->time_s) ||
        !json_number(o, "key_version", UINT32_MAX, &key_version) ||
        !json_text(o, "kid", ret->kid, sizeof(ret->kid)) ||
        !json_text(o, "token_serial", ret->serial, sizeof(ret->serial)) ||
        !json_bytes(o, "key_id", ret->key_id, sizeof(ret->key_id), NULL) ||
        !json_bytes(o, "card", ret->card, sizeof(ret->card), NULL) ||
        !json_bytes(o, "policy", ret->policy, sizeof(ret->policy), NULL) ||
        !json_bytes(o, "tee_key", ret->tee_key, sizeof(ret->tee_key), &none) ||
        !json_bytes(o, "answer", ret->answer, sizeof(ret->answer), NULL)) {
        return false;
    }
    ret->key_version = (uint32_t)key_version;
    return word_from_json(json_object_get(o, "judge"), &ret->word);
}

/* What both forms ask of the values, whichever they are. */
static int check_values(const struct kbs_receipt *r, struct kbs_error *err)
{
    struct kbs_span path;
    uint32_t version = 0;

    if (r->op <= KBS_RECEIPT_OP_NONE || r->op >= KBS_RECEIPT_OP_COUNT ||
        r->locality <= KBS_LOCALITY_NONE || r->locality >= KBS_LOCALITY_COUNT ||
        r->format >= KBS_FORMAT_COUNT || r->token_class >= KBS_TOKEN_CLASS_COUNT ||
        r->word.binding >= KBS_BINDING_COUNT) {
        return not_one("a value is not one of those that there are", err);
    }
    return kbs_kid_split(kbs_span_str(r->kid), &path, &version) && version == r->key_version
               ? 0
               : not_one("its kid is none", err);
}

int kbs_receipt_json_get(struct kbs_span payload, struct kbs_receipt *ret, struct kbs_error *err)
{
    KBS_AUTO_JSON o = NULL;

    *ret = (struct kbs_receipt){.op = KBS_RECEIPT_OP_NONE};
    if (payload.len > KBS_RECEIPT_PAYLOAD_MAX_BYTES ||
        kbs_json_parse_object(payload, "the receipt", &o, err) != 0) {
        return not_one("its payload is no JSON object", err);
    }
    if (!receipt_from_json(o, ret)) {
        return not_one("a member is missing, or not what it should be", err);
    }
    return check_values(ret, err) == 0 ? compare(kbs_receipt_json_put, ret, payload, err) : -1;
}

/* ---- CBOR ---- */

/* The payload as it is taken apart; once something was not as expected, everything after it is void. */
struct cursor {
    struct kbs_span rest;
    bool failed;
};

static struct kbs_cbor_item next(struct cursor *c)
{
    struct kbs_cbor_item item = {.type = KBS_CBOR_OTHER};

    if (!c->failed && !kbs_cbor_next(&c->rest, &item)) {
        c->failed = true;
        item = (struct kbs_cbor_item){.type = KBS_CBOR_OTHER};
    }
    return item;
}

static void expect(struct cursor *c, enum kbs_cbor_type type, uint64_t value)
{
    struct kbs_cbor_item item = next(c);

    c->failed = c->failed || item.type != type || item.value != value;
}

static uint64_t take_uint(struct cursor *c, int label, uint64_t max)
{
    struct kbs_cbor_item item;

    expect(c, KBS_CBOR_UINT, (uint64_t)label);
    item = next(c);
    c->failed = c->failed || item.type != KBS_CBOR_UINT || item.value > max;
    return c->failed ? 0 : item.value;
}

/* A byte string, or the empty span for nil. */
static struct kbs_span take_bytes(struct cursor *c, int label, size_t max)
{
    struct kbs_cbor_item item;

    expect(c, KBS_CBOR_UINT, (uint64_t)label);
    item = next(c);
    if (!c->failed && item.type == KBS_CBOR_NIL) {
        return KBS_SPAN_EMPTY;
    }
    c->failed = c->failed || item.type != KBS_CBOR_BYTES || item.bytes.len > max;
    return c->failed ? KBS_SPAN_EMPTY : item.bytes;
}

/* Exactly so many; nil, where it may be, leaves zeros. False for nil. */
static bool take_exact(struct cursor *c, int label, uint8_t *out, size_t len, bool or_nil)
{
    struct kbs_span bytes = take_bytes(c, label, len);

    c->failed = c->failed || (bytes.len != len && !(or_nil && bytes.len == 0));
    if (!c->failed && bytes.len == len) {
        memcpy(out, bytes.p, len);
        return true;
    }
    return false;
}

static void take_text(struct cursor *c, int label, char *out, size_t size)
{
    struct kbs_span text = take_bytes(c, label, size - 1);

    c->failed = c->failed || !kbs_span_to_cstr(text, out, size);
}

static void take_word(struct cursor *c, struct kbs_receipt_word *ret)
{
    struct kbs_span report;

    expect(c, KBS_CBOR_UINT, KBS_RECEIPT_L_JUDGE);
    expect(c, KBS_CBOR_MAP, KBS_RECEIPT_JUDGE_LABELS);
    ret->binding = (enum kbs_binding)take_uint(c, KBS_RECEIPT_J_BINDING, KBS_BINDING_COUNT - 1);
    (void)take_exact(c, KBS_RECEIPT_J_NONCE, ret->nonce, sizeof(ret->nonce), false);
    report = take_bytes(c, KBS_RECEIPT_J_REPORT, sizeof(ret->report.p));
    ret->report.len = report.len;
    if (report.len > 0) {
        memcpy(ret->report.p, report.p, report.len);
    }
    ret->has_resource_policy = take_exact(c, KBS_RECEIPT_J_RESOURCE_POLICY, ret->resource_policy,
                                          sizeof(ret->resource_policy), true);
    c->failed = c->failed || ret->binding == KBS_BINDING_NONE;
}

static bool receipt_from_cbor(struct kbs_span payload, struct kbs_receipt *r)
{
    struct cursor c = {.rest = payload};

    expect(&c, KBS_CBOR_MAP, KBS_RECEIPT_LABELS);
    expect(&c, KBS_CBOR_UINT, KBS_RECEIPT_L_VERSION);
    expect(&c, KBS_CBOR_UINT, KBS_RECEIPT_VERSION);
    r->time_s = take_uint(&c, KBS_RECEIPT_L_TIME, INT64_MAX);
    r->op = (enum kbs_receipt_op)take_uint(&c, KBS_RECEIPT_L_OP, KBS_RECEIPT_OP_COUNT - 1);
    take_text(&c, KBS_RECEIPT_L_KID, r->kid, sizeof(r->kid));
    (void)take_exact(&c, KBS_RECEIPT_L_KEY_ID, r->key_id, sizeof(r->key_id), false);
    r->key_version = (uint32_t)take_uint(&c, KBS_RECEIPT_L_KEY_VERSION, UINT32_MAX);
    (void)take_exact(&c, KBS_RECEIPT_L_CARD, r->card, sizeof(r->card), false);
    (void)take_exact(&c, KBS_RECEIPT_L_POLICY, r->policy, sizeof(r->policy), false);
    r->locality = (enum kbs_locality)take_uint(&c, KBS_RECEIPT_L_LOCALITY, KBS_LOCALITY_COUNT - 1);
    r->format = (enum kbs_format)take_uint(&c, KBS_RECEIPT_L_FORMAT, KBS_FORMAT_COUNT - 1);
    r->token_class =
        (enum kbs_token_class)take_uint(&c, KBS_RECEIPT_L_TOKEN_CLASS, KBS_TOKEN_CLASS_COUNT - 1);
    take_text(&c, KBS_RECEIPT_L_SERIAL, r->serial, sizeof(r->serial));
    (void)take_exact(&c, KBS_RECEIPT_L_TEE_KEY, r->tee_key, sizeof(r->tee_key), true);
    (void)take_exact(&c, KBS_RECEIPT_L_ANSWER, r->answer, sizeof(r->answer), false);
    take_word(&c, &r->word);
    return !c.failed && c.rest.len == 0;
}

int kbs_receipt_cbor_get(struct kbs_span payload, struct kbs_receipt *ret, struct kbs_error *err)
{
    *ret = (struct kbs_receipt){.op = KBS_RECEIPT_OP_NONE};
    if (payload.len > KBS_RECEIPT_PAYLOAD_MAX_BYTES || !receipt_from_cbor(payload, ret)) {
        return not_one("its payload is not the map that it should be", err);
    }
    return check_values(ret, err) == 0 ? compare(kbs_receipt_cbor_put, ret, payload, err) : -1;
}

/* ---- signatures ---- */

static int by_none(struct kbs_error *err)
{
    return kbs_fail(err, KBS_UNAUTHENTICATED,
                    "the receipt is refused: it is not signed by the key that it must be by");
}

/* The key whose thumbprint that is; NULL if there is none. */
static const struct kbs_ec_public *key_of(struct kbs_span kid, const struct kbs_ec_public *keys,
                                          size_t count, char ret[44])
{
    for (size_t i = 0; i < count; i++) {
        kbs_jose_thumbprint(&keys[i], ret);
        if (kbs_span_equal_str(kid, ret)) {
            return &keys[i];
        }
    }
    return NULL;
}

static int open_jws(struct kbs_span text, const struct kbs_ec_public *keys, size_t count,
                    struct kbs_receipt_in *ret, struct kbs_error *err)
{
    struct kbs_jose_jws jws = KBS_JOSE_JWS_NULL;
    struct kbs_buf payload = KBS_BUF(KBS_RECEIPT_PAYLOAD_MAX_BYTES);
    const struct kbs_ec_public *key;
    int rc = -1;

    if (kbs_jose_jws_split(text, &jws, err) != 0) {
        return not_one("it is no JWS by ES256", err);
    }
    key = key_of(jws.kid, keys, count, ret->signer);
    if (!kbs_span_equal_str(json_name(jws.header, "typ"), KBS_RECEIPT_JWS_TYPE)) {
        rc = not_one("its type is not " KBS_RECEIPT_JWS_TYPE, err);
    } else if (key == NULL || kbs_jose_jws_verify_bytes(&jws, key, &payload, err) != 0) {
        rc = by_none(err);
    } else {
        rc = kbs_receipt_json_get(kbs_buf_span(&payload), &ret->said, err);
    }
    kbs_jose_jws_deinit(&jws);
    kbs_buf_deinit(&payload);
    return rc;
}

static bool sign1_verifies(const struct kbs_cose_sign1 *m, const struct kbs_ec_public *key,
                           const char *kid)
{
    struct kbs_buf protected_map = KBS_BUF(256);
    struct kbs_buf input = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES);
    uint8_t digest[KBS_SHA256_BYTES];
    bool ok;

    kbs_receipt_protected_put(&protected_map, kid);
    kbs_cose_sign1_input_put(&input, m->protected_map, m->payload);
    kbs_sha256(kbs_buf_span(&input), digest);
    ok = !protected_map.failed && !input.failed &&
         kbs_span_equal(kbs_buf_span(&protected_map), m->protected_map) &&
         m->signature.len == KBS_ES256_BYTES && kbs_ec_verify(key, digest, m->signature.p);
    kbs_buf_deinit(&protected_map);
    kbs_buf_deinit(&input);
    return ok;
}

static int open_cose(struct kbs_span text, const struct kbs_ec_public *keys, size_t count,
                     struct kbs_receipt_in *ret, struct kbs_error *err)
{
    struct kbs_buf bytes = KBS_BUF(KBS_LIMIT_RECEIPT_BYTES);
    struct kbs_cose_sign1 message;
    bool found = false;
    int rc = -1;

    if (kbs_base64url_get(&bytes, text) != 0 ||
        kbs_cose_sign1_get(kbs_buf_span(&bytes), &message, err) != 0) {
        rc = not_one("it is neither a JWS nor base64url of a COSE_Sign1", err);
    } else {
        for (size_t i = 0; i < count && !found; i++) {
            kbs_jose_thumbprint(&keys[i], ret->signer);
            found = sign1_verifies(&message, &keys[i], ret->signer);
        }
        rc = found ? kbs_receipt_cbor_get(message.payload, &ret->said, err) : by_none(err);
    }
    kbs_buf_deinit(&bytes);
    return rc;
}

int kbs_receipt_open(struct kbs_span text, const struct kbs_ec_public *keys, size_t count,
                     struct kbs_receipt_in *ret, struct kbs_error *err)
{
    bool jws = text.len > 0 && memchr(text.p, '.', text.len) != NULL;
    int rc;

    *ret = (struct kbs_receipt_in){.form = jws ? KBS_RECEIPT_JWS : KBS_RECEIPT_COSE};
    if (text.len > KBS_LIMIT_RECEIPT_BYTES) {
        return not_one("it is too long", err);
    }
    rc = jws ? open_jws(text, keys, count, ret, err) : open_cose(text, keys, count, ret, err);
    if (rc == 0 && kbs_receipt_form_of(ret->said.format) != ret->form) {
        return not_one("its form is not that of its answer's format", err);
    }
    return rc;
}

int kbs_receipt_check_answer(const struct kbs_receipt *r, struct kbs_span answer,
                             struct kbs_error *err)
{
    uint8_t digest[KBS_SHA256_BYTES];

    kbs_sha256(answer, digest);
    return memcmp(digest, r->answer, sizeof(digest)) == 0
               ? 0
               : kbs_fail(err, KBS_UNPROCESSABLE,
                          "the receipt is refused: it is of another answer");
}
