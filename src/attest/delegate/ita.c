/*
 * Intel Trust Authority: POST /appraisal/v2/attest.
 *
 * The guest's report data is the hash of RCAR's runtime data, nonce included, so that text is what the
 * service is given as runtime_data, and what it finds in the quote is of this session and no other. Its own
 * verifier nonce would have to be hashed by the guest in front of it, which no RCAR guest does; it would add
 * nothing: the nonce that makes the evidence fresh is ours, and the token is compared with the session.
 * The hash is the service's: SHA-512 for TDX, SHA-256 for SGX.
 *
 * policy_must_match makes it refuse what a named policy does not hold for, in the place of a token that
 * says so.
 */
#include "attest/delegate/delegate.h"

#include "base/encoding.h"
#include "jose/read/json.h"

#define QUOTE_MAX_BYTES 65536 /* of base64 */

/* Text of the evidence that goes on as it is: base64, which the service decodes. */
static int quote_put(struct kbs_buf *out, const json_t *evidence, const char *name, bool required,
                     const char *as, struct kbs_error *err)
{
    struct kbs_span text;

    if ((required ? kbs_json_get_string(evidence, name, &text, err)
                  : kbs_json_opt_string(evidence, name, &text, err)) != 0) {
        return -1;
    }
    if (text.len == 0) {
        return required ? kbs_fail(err, KBS_INPUT, "the evidence has an empty quote") : 0;
    }
    if (required && text.len > QUOTE_MAX_BYTES) {
        return kbs_fail(err, KBS_INPUT, "the evidence has a quote over %d bytes", QUOTE_MAX_BYTES);
    }
    kbs_buf_printf(out, "\"%s\":", as);
    kbs_json_string_put(out, text);
    kbs_buf_put_u8(out, ',');
    return 0;
}

int kbs_ita_put(struct kbs_buf *out, const struct kbs_delegate_question *q, struct kbs_error *err)
{
    const struct kbs_delegate_part *part = &q->parts[0];

    if (q->count != 1) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "the attestation service takes no evidence of devices");
    }
    if (!json_is_object(part->evidence)) {
        return kbs_fail(err, KBS_INPUT, "%s evidence is not an object", kbs_tee_name(part->tee));
    }
    kbs_buf_put_str(out, "{\"policy_ids\":[");
    for (size_t i = 0; i < q->policy_count; i++) {
        kbs_buf_put_str(out, i > 0 ? "," : "");
        kbs_json_string_put(out, q->policy_ids[i]);
    }
    kbs_buf_printf(out, "],\"policy_must_match\":true,\"token_signing_alg\":\"PS384\",\"%s\":{",
                   kbs_tee_name(part->tee));
    if (quote_put(out, part->evidence, "quote", true, "quote", err) != 0 ||
        quote_put(out, part->evidence, "cc_eventlog", false, "event_log", err) != 0) {
        return -1;
    }
    kbs_buf_put_str(out, "\"runtime_data\":\"");
    kbs_base64_put(out, part->runtime_data);
    kbs_buf_put_str(out, "\"}}");
    return kbs_buf_check(out, "the attestation service's request", err);
}

int kbs_ita_get(struct kbs_span body, struct kbs_buf *ret, struct kbs_error *err)
{
    KBS_AUTO_JSON root = NULL;
    struct kbs_span token;

    if (kbs_json_parse_object(body, "the answer", &root, err) != 0 ||
        kbs_json_get_string(root, "token", &token, err) != 0) {
        return -1;
    }
    kbs_buf_put_span(ret, token);
    return 0;
}
