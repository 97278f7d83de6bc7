/*
 * Delegates: one table of what there is, and what an answer means.
 *
 * The problem: an attestation service that refuses evidence, one that is broken and one that is set up
 * wrongly all answer with an error, and a guest must be told apart which of them it was: the first will not
 * get better by trying again. The approach: the statuses by which the services refuse evidence are listed
 * here (CoCo's answers 500, or gRPC's ABORTED, to whatever fails in it); everything else that is not a
 * token is the service's own trouble. What it wrote goes to no guest.
 *
 * A token is only looked at as text here: three parts of base64url. That it is a genuine one is another
 * module's question, and the answer to be believed.
 */
#include "attest/delegate/delegate.h"

#include "base/encoding.h"

typedef int put_fn(struct kbs_buf *out, const struct kbs_delegate_question *q,
                   struct kbs_error *err);
typedef void challenge_fn(struct kbs_buf *out, enum kbs_tee tee, struct kbs_span tee_params);

static const struct service {
    const char *suffix;
    const char *challenge_suffix; /* NULL: it makes none */
    const char *content_type;
    const char *accept;
    put_fn *put;
    challenge_fn *challenge_put;
    bool grpc;
} services[KBS_DELEGATE_COUNT] = {
    [KBS_DELEGATE_COCO_REST] = {"/attestation", "/challenge", "application/json", "",
                                kbs_coco_rest_put, kbs_coco_rest_challenge_put, false},
    [KBS_DELEGATE_COCO_REST_V1] = {"/attestation", "/challenge", "application/json", "",
                                   kbs_coco_rest_v1_put, kbs_coco_rest_challenge_put, false},
    [KBS_DELEGATE_COCO_GRPC] = {"/attestation.AttestationService/AttestationEvaluate",
                                "/attestation.AttestationService/GetAttestationChallenge",
                                "application/grpc", "", kbs_coco_grpc_put,
                                kbs_coco_grpc_challenge_put, true},
    [KBS_DELEGATE_INTEL_TA] = {"/appraisal/v2/attest", NULL, "application/json", "application/json",
                               kbs_ita_put, NULL, false},
};

void kbs_delegate_request_deinit(struct kbs_delegate_request *r)
{
    kbs_buf_deinit(&r->body);
}

enum kbs_hash kbs_delegate_hash(enum kbs_delegate type, enum kbs_tee tee)
{
    if (type != KBS_DELEGATE_INTEL_TA) {
        return KBS_HASH_NONE;
    }
    return tee == KBS_TEE_SGX ? KBS_HASH_SHA256 : KBS_HASH_SHA512;
}

bool kbs_delegate_challenges(enum kbs_delegate type, enum kbs_tee tee)
{
    return tee == KBS_TEE_SE && kbs_delegate_takes(type, tee) &&
           services[type].challenge_suffix != NULL;
}

int kbs_delegate_ask(enum kbs_delegate type, const struct kbs_delegate_question *q,
                     struct kbs_delegate_request *ret, struct kbs_error *err)
{
    const struct service *s = &services[type];

    for (size_t i = 0; i < q->count; i++) {
        if (!kbs_delegate_takes(type, q->parts[i].tee)) {
            return kbs_fail(err, KBS_UNAUTHENTICATED,
                            "the attestation service does not verify evidence of %s",
                            kbs_tee_name(q->parts[i].tee));
        }
        if (q->parts[i].runtime_data.len == 0) { /* it would check no binding */
            return kbs_fail(err, KBS_INTERNAL, "evidence without runtime data");
        }
    }
    ret->suffix = s->suffix;
    ret->content_type = s->content_type;
    ret->accept = s->accept;
    return s->put(&ret->body, q, err);
}

int kbs_delegate_ask_challenge(enum kbs_delegate type, enum kbs_tee tee, struct kbs_span tee_params,
                               struct kbs_delegate_request *ret, struct kbs_error *err)
{
    const struct service *s = &services[type];

    if (!kbs_delegate_challenges(type, tee)) {
        return kbs_fail(err, KBS_INTERNAL, "no challenge of %s is the service's",
                        kbs_tee_name(tee));
    }
    ret->suffix = s->challenge_suffix;
    ret->content_type = s->content_type;
    ret->accept = s->accept;
    s->challenge_put(&ret->body, tee, tee_params);
    return kbs_buf_check(&ret->body, "the attestation service's request", err);
}

/* ---- answers ---- */

/* A media type, whatever parameters follow it (RFC 9110 section 8.3.1). */
static bool type_is(struct kbs_span content_type, const char *name)
{
    struct kbs_span rest = kbs_span_skip(content_type, strlen(name));

    return kbs_span_starts_with(content_type, name) &&
           (rest.len == 0 || rest.p[0] == ';' || rest.p[0] == ' ' || rest.p[0] == '+');
}

/* CoCo's REST service gives its text without a type, or with whatever its framework thinks of. */
static bool type_fits(enum kbs_delegate type, struct kbs_span content_type)
{
    if (services[type].grpc) {
        return type_is(content_type, "application/grpc");
    }
    if (type == KBS_DELEGATE_INTEL_TA) {
        return type_is(content_type, "application/json");
    }
    return content_type.len == 0 || type_is(content_type, "text/plain") ||
           type_is(content_type, "application/octet-stream") ||
           type_is(content_type, "application/jwt");
}

/* gRPC status codes (grpc.github.io/grpc/core/md_doc_statuscodes.html) with which evidence is refused. */
static bool grpc_refuses(uint32_t status)
{
    return status == 2 /* UNKNOWN */ || status == 3 /* INVALID_ARGUMENT */ ||
           status == 9 /* FAILED_PRECONDITION */ || status == 10 /* ABORTED */ ||
           status == 13 /* INTERNAL */;
}

/* 0 if there is something to read. */
static int outcome(enum kbs_delegate type, const struct kbs_delegate_answer *a,
                   struct kbs_error *err)
{
    bool grpc = services[type].grpc;

    if (a->status == 200 && grpc && a->has_grpc_status && a->grpc_status != 0) {
        return grpc_refuses(a->grpc_status)
                   ? kbs_fail(err, KBS_UNAUTHENTICATED,
                              "the attestation service refused the evidence (gRPC status %u)",
                              (unsigned int)a->grpc_status)
                   : kbs_fail(err, KBS_BUSY, "the attestation service has trouble (gRPC status %u)",
                              (unsigned int)a->grpc_status);
    }
    if (!grpc && (a->status == 400 || a->status == 422 || a->status == 500)) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "the attestation service refused the evidence (status %u)",
                        (unsigned int)a->status);
    }
    if (a->status != 200 || (grpc && !a->has_grpc_status)) {
        return kbs_fail(err, KBS_BUSY, "the attestation service has trouble (status %u)",
                        (unsigned int)a->status);
    }
    if (!type_fits(type, a->content_type)) {
        return kbs_fail(err, KBS_BUSY,
                        "the attestation service answered with another content type");
    }
    return 0;
}

/* The text in an answer, without the line break that some put behind it. */
static int text_get(enum kbs_delegate type, struct kbs_span body, struct kbs_buf *ret,
                    struct kbs_error *err)
{
    struct kbs_span text = body;
    int rc = 0;

    if (services[type].grpc) {
        rc = kbs_coco_grpc_get(body, &text, err);
    }
    if (rc == 0 && type == KBS_DELEGATE_INTEL_TA) {
        rc = kbs_ita_get(body, ret, err);
    } else if (rc == 0) {
        while (text.len > 0 && (text.p[text.len - 1] == '\n' || text.p[text.len - 1] == '\r')) {
            text.len--;
        }
        kbs_buf_put_span(ret, text);
    }
    if (rc != 0 || ret->failed || ret->len == 0) {
        *err = KBS_ERROR_NONE;
        return kbs_fail(err, KBS_BUSY, "the attestation service's answer cannot be read");
    }
    return 0;
}

static bool compact_jws(struct kbs_span text)
{
    unsigned int dots = 0;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.p[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (c == '.') {
            dots++;
        } else if (!letter && c != '-' && c != '_') {
            return false;
        }
    }
    return dots == 2 && text.len <= KBS_LIMIT_JWT_BYTES;
}

int kbs_delegate_token(enum kbs_delegate type, const struct kbs_delegate_answer *answer,
                       struct kbs_buf *ret, struct kbs_error *err)
{
    if (outcome(type, answer, err) != 0 || text_get(type, answer->body, ret, err) != 0) {
        return -1;
    }
    return compact_jws(kbs_buf_span(ret))
               ? 0
               : kbs_fail(err, KBS_BUSY,
                          "the attestation service answered something else than a token");
}

int kbs_delegate_challenge(enum kbs_delegate type, const struct kbs_delegate_answer *answer,
                           struct kbs_buf *ret, struct kbs_error *err)
{
    if (outcome(type, answer, err) != 0 || text_get(type, answer->body, ret, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < ret->len; i++) {
        uint8_t c = ret->p[i];

        if ((c < ' ' || c > '~') && c != '\n' && c != '\t') {
            return kbs_fail(err, KBS_BUSY, "the attestation service's challenge is not text");
        }
    }
    return ret->len <= KBS_LIMIT_CHALLENGE_BYTES
               ? 0
               : kbs_fail(err, KBS_BUSY, "the attestation service's challenge is over %d bytes",
                          KBS_LIMIT_CHALLENGE_BYTES);
}
