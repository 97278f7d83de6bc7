/*
 * Policies in Rego and reference values, by the names and bodies that clients of the KBS protocol
 * know. A resource policy that kbs-policy does not take is refused with its place; where there is no
 * kbs-policy it is kept as UTF-8 text, and what depends on it fails closed (resource.c). Attestation
 * policies are kept as they are and not evaluated.
 *
 * Such clients send these bodies under any Content-Type, so none is asked for; members that the
 * service does not know are refused, since they would be without effect. Success is 200 and an empty
 * body.
 *
 * A reference value is kept as {"expiration":<Unix seconds>,"value":...}: what a message of type
 * `sample` says counts for a year.
 */
#include "api/context.h"

#include <stdlib.h>

#include "base/encoding.h"
#include "base/terms.h"

#define RESOURCE_POLICY_PATTERN "/kbs/v0/resource-policy"
#define ATTESTATION_POLICY_PATTERN "/kbs/v0/attestation-policy"
#define REFERENCE_VALUES_PATTERN "/kbs/v0/reference-value"
#define REFERENCE_VALUE_PATTERN "/kbs/v0/reference-value/*"

static const char *const no_query[] = {NULL};

static struct kbs_mutation mutation(struct kbs_call *call, const char *kind)
{
    return (struct kbs_mutation){.api = call->api, .call = call, .kind = kind};
}

/* Who asks, and the body's members. Returns *ret owned. */
static int set_open(struct kbs_call *call, struct kbs_mutation *m, const char *pattern,
                    const char *const *members, json_t **ret, struct kbs_error *err)
{
    call->answer->content_type = "";
    if (kbs_admin_verify(call, "POST", pattern, true, &m->admin, &m->sequence, err) != 0 ||
        kbs_request_query_only(call->req, no_query, err) != 0 ||
        kbs_json_parse_object(call->req->body, "request body", ret, err) != 0) {
        return -1;
    }
    return kbs_json_only(*ret, members, err);
}

/* ---- policies ---- */

static int policy_text(const json_t *body, struct kbs_buf *text, struct kbs_error *err)
{
    struct kbs_span encoded = KBS_SPAN_EMPTY;

    if (kbs_json_get_string(body, "policy", &encoded, err) != 0) {
        return -1;
    }
    if (kbs_base64url_get(text, encoded) != 0) {
        if (text->failed) {
            return kbs_fail(err, KBS_TOO_LARGE, "a policy has at most %u bytes",
                            (unsigned int)KBS_LIMIT_DOCUMENT_BYTES);
        }
        return kbs_fail(err, KBS_INPUT, "'policy' is not base64url without padding");
    }
    if (!kbs_utf8_valid(kbs_buf_span(text)) ||
        (text->len != 0 && memchr(text->p, '\0', text->len) != NULL)) {
        return kbs_fail(err, KBS_INPUT, "the policy is not UTF-8 text");
    }
    return 0;
}

/* A resource policy is parsed; no bytes take it back. */
static int policy_check(struct kbs_api *api, enum kbs_document_kind kind, struct kbs_span text,
                        struct kbs_error *err)
{
    struct kbs_error found = KBS_ERROR_NONE;

    if (kind != KBS_DOCUMENT_RESOURCE_POLICY || text.len == 0 ||
        kbs_rego_check(api, text, &found) == 0 || found.category == KBS_UNSUPPORTED) {
        return 0;
    }
    *err = found;
    return -1;
}

int kbs_policy_set_text(struct kbs_mutation *m, enum kbs_document_kind kind, struct kbs_span name,
                        struct kbs_span text, struct kbs_error *err)
{
    return policy_check(m->api, kind, text, err) == 0
               ? kbs_document_set(m, kind, &name, &text, 1, err)
               : -1;
}

int kbs_policy_set_body(struct kbs_mutation *m, enum kbs_document_kind kind, struct kbs_span name,
                        const json_t *body, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    int rc = policy_text(body, &text, err);

    if (rc == 0) {
        rc = kbs_policy_set_text(m, kind, name, kbs_buf_span(&text), err);
    }
    kbs_buf_deinit(&text);
    return rc;
}

int kbs_api_resource_policy_set(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"policy", NULL};
    struct kbs_mutation m = mutation(call, "resource-policy-set");
    KBS_AUTO_JSON body = NULL;

    if (set_open(call, &m, RESOURCE_POLICY_PATTERN, members, &body, err) != 0) {
        return -1;
    }
    return kbs_policy_set_body(&m, KBS_DOCUMENT_RESOURCE_POLICY, KBS_SPAN_LIT(KBS_RESOURCE_POLICY),
                               body, err);
}

int kbs_api_attestation_policy_set(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"type", "policy_id", "policy", NULL};
    struct kbs_mutation m = mutation(call, "attestation-policy-set");
    struct kbs_span id = KBS_SPAN_EMPTY;
    KBS_AUTO_JSON body = NULL;

    if (set_open(call, &m, ATTESTATION_POLICY_PATTERN, members, &body, err) != 0 ||
        kbs_json_get_string(body, "policy_id", &id, err) != 0) {
        return -1;
    }
    if (!kbs_key_segment_valid(id)) {
        return kbs_fail(err, KBS_INPUT, "'policy_id' is not of letters, digits, '_', '-', '.'");
    }
    return kbs_policy_set_body(&m, KBS_DOCUMENT_ATTESTATION_POLICY, id, body, err);
}

int kbs_api_resource_policy_list(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_error found = KBS_ERROR_NONE;
    const struct kbs_admin *admin = NULL;
    struct kbs_document policy;
    uint64_t sequence = 0;
    int rc = -1;

    if (kbs_admin_verify(call, "GET", RESOURCE_POLICY_PATTERN, false, &admin, &sequence, err) !=
            0 ||
        kbs_request_query_only(call->req, no_query, err) != 0) {
        return -1;
    }
    rc = kbs_document_get(call->api, KBS_DOCUMENT_RESOURCE_POLICY,
                          KBS_SPAN_LIT(KBS_RESOURCE_POLICY), &policy, &text, &found);
    kbs_buf_deinit(&text);
    if (rc != 0 && found.category != KBS_MISSING) {
        *err = found;
        return -1;
    }
    kbs_buf_put_str(&call->answer->body, rc == 0 ? "[\"" KBS_RESOURCE_POLICY "\"]" : "[]");
    return 0;
}

/* ---- reference values ---- */

/* Names and texts of a message, each the size of a document at most; owned by their arrays. */
struct values {
    size_t count;
    struct kbs_span names[KBS_LIMIT_REFERENCE_VALUES]; /* borrowed from the payload */
    struct kbs_span texts[KBS_LIMIT_REFERENCE_VALUES];
    struct kbs_buf buffers[KBS_LIMIT_REFERENCE_VALUES];
};

static void values_free(struct values *v)
{
    for (size_t i = 0; v != NULL && i < v->count; i++) {
        kbs_buf_deinit(&v->buffers[i]);
    }
    free(v);
}

/* The payload of a message: for type `sample` an object, name to value. Returns owned. */
static int message_payload(const json_t *message, json_t **ret, struct kbs_error *err)
{
    struct kbs_buf payload = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    struct kbs_span version = KBS_SPAN_EMPTY;
    struct kbs_span type = KBS_SPAN_EMPTY;
    struct kbs_span encoded = KBS_SPAN_EMPTY;
    int rc = -1;

    if (kbs_json_get_string(message, "version", &version, err) != 0 ||
        kbs_json_get_string(message, "type", &type, err) != 0 ||
        kbs_json_get_string(message, "payload", &encoded, err) != 0) {
        return -1;
    }
    if (!kbs_span_equal_str(version, "0.1.0")) {
        return kbs_fail(err, KBS_INPUT, "'version' of the message must be 0.1.0");
    }
    if (!kbs_span_equal_str(type, "sample")) {
        return kbs_fail(err, KBS_UNSUPPORTED,
                        "reference values come as type sample; swid and corim are not read");
    }
    if (kbs_base64_get(&payload, encoded) == 0) {
        rc = kbs_json_parse_object(kbs_buf_span(&payload), "payload", ret, err);
    } else if (payload.failed) {
        rc = kbs_fail(err, KBS_TOO_LARGE, "a payload has at most %u bytes",
                      (unsigned int)KBS_LIMIT_DOCUMENT_BYTES);
    } else {
        rc = kbs_fail(err, KBS_INPUT, "'payload' is not base64");
    }
    kbs_buf_deinit(&payload);
    return rc;
}

static int values_take(json_t *payload, int64_t expires_s, struct values *v, struct kbs_error *err)
{
    const char *name = NULL;
    json_t *value = NULL;

    if (json_object_size(payload) == 0 || json_object_size(payload) > KBS_LIMIT_REFERENCE_VALUES) {
        return kbs_fail(err, KBS_INPUT, "a payload has 1 to %d reference values",
                        KBS_LIMIT_REFERENCE_VALUES);
    }
    json_object_foreach(payload, name, value)
    {
        struct kbs_buf *text = &v->buffers[v->count];

        *text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
        v->names[v->count++] = kbs_span_str(name);
        kbs_buf_printf(text, "{\"expiration\":%lld,\"value\":", (long long)expires_s);
        if (kbs_json_dump(value, text, err) != 0) {
            return -1;
        }
        kbs_buf_put_u8(text, '}');
        if (kbs_buf_check(text, "a reference value", err) != 0) {
            return -1;
        }
        v->texts[v->count - 1] = kbs_buf_span(text);
    }
    return 0;
}

int kbs_api_reference_value_set(struct kbs_call *call, struct kbs_error *err)
{
    static const char *const members[] = {"version", "type", "payload", NULL};
    struct kbs_mutation m = mutation(call, "reference-value-set");
    struct values *v = NULL;
    KBS_AUTO_JSON message = NULL;
    KBS_AUTO_JSON payload = NULL;
    int rc = -1;

    if (set_open(call, &m, REFERENCE_VALUES_PATTERN, members, &message, err) != 0 ||
        message_payload(message, &payload, err) != 0) {
        return -1;
    }
    v = calloc(1, sizeof(*v));
    if (v == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    if (values_take(payload, call->now_s + KBS_REFERENCE_VALUE_S, v, err) == 0) {
        rc = kbs_document_set(&m, KBS_DOCUMENT_REFERENCE_VALUE, v->names, v->texts, v->count, err);
    }
    values_free(v);
    return rc;
}

/* The value of a stored text, unless it has expired. */
static int value_put(struct kbs_call *call, struct kbs_span text, struct kbs_error *err)
{
    KBS_AUTO_JSON stored = NULL;
    int64_t expires_s = 0;

    if (kbs_json_parse_object(text, "reference value", &stored, err) != 0 ||
        kbs_json_get_integer(stored, "expiration", &expires_s, err) != 0) {
        return kbs_fail(err, KBS_INTERNAL, "the store's reference value does not parse");
    }
    if (expires_s <= call->now_s) {
        return kbs_fail(err, KBS_MISSING, "the reference value has expired");
    }
    return kbs_json_dump(json_object_get(stored, "value"), &call->answer->body, err);
}

int kbs_api_reference_value_show(struct kbs_call *call, struct kbs_error *err)
{
    struct kbs_buf text = KBS_BUF(KBS_LIMIT_DOCUMENT_BYTES);
    const struct kbs_admin *admin = NULL;
    struct kbs_document document;
    struct kbs_span id = kbs_wire_list_at(&call->req->params, 0);
    uint64_t sequence = 0;
    int rc = -1;

    if (kbs_admin_verify(call, "GET", REFERENCE_VALUE_PATTERN, false, &admin, &sequence, err) !=
            0 ||
        kbs_request_query_only(call->req, no_query, err) != 0) {
        return -1;
    }
    if (!kbs_document_name_valid(id)) {
        return kbs_fail(err, KBS_INPUT, "not the name of a reference value");
    }
    call->answer->variant = "RvpsError";
    rc = kbs_document_get(call->api, KBS_DOCUMENT_REFERENCE_VALUE, id, &document, &text, err);
    if (rc == 0) {
        rc = value_put(call, kbs_buf_span(&text), err);
    }
    kbs_buf_deinit(&text);
    return rc;
}
