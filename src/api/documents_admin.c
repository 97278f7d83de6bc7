/*
 * Policies in Rego, by the names and bodies that clients of the KBS protocol know. One that
 * kbs-policy does not take is refused with its place; where there is no kbs-policy it is kept as
 * UTF-8 text, and what depends on it fails closed (resource.c, appraise.c).
 *
 * Such clients send these bodies under any Content-Type, so none is asked for; members that the
 * service does not know are refused, since they would be without effect. Success is 200 and an empty
 * body.
 */
#include "api/context.h"

#include "base/encoding.h"
#include "base/terms.h"

#define RESOURCE_POLICY_PATTERN "/kbs/v0/resource-policy"
#define ATTESTATION_POLICY_PATTERN "/kbs/v0/attestation-policy"

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

/* A policy is parsed, for what it will be asked; no bytes take it back. */
static int policy_check(struct kbs_api *api, enum kbs_document_kind kind, struct kbs_span text,
                        struct kbs_error *err)
{
    struct kbs_error found = KBS_ERROR_NONE;
    enum kbs_rego_query query =
        kind == KBS_DOCUMENT_RESOURCE_POLICY ? KBS_REGO_QUERY_ALLOW : KBS_REGO_QUERY_TRUST;

    if (text.len == 0 || kbs_rego_check(api, query, text, &found) == 0 ||
        found.category == KBS_UNSUPPORTED) {
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
