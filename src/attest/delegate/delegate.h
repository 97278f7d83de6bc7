/*
 * Delegates: attestation services that evidence is handed to, and what they are asked and answer, as
 * bytes. Pure: who sends the question, and what is believed of the answer, is the caller's business (the
 * token in it is verified as any issuer's: attest/issuer/issuer.h).
 *
 *   ask     evidence, runtime data, init-data -> an HTTP request
 *   read    its answer -> the token's text, or whose fault it is that there is none
 *
 * What each service's API looks like: docs/protocol/delegation.md.
 */
#ifndef KBS_ATTEST_DELEGATE_DELEGATE_H
#define KBS_ATTEST_DELEGATE_DELEGATE_H

#include <jansson.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/terms.h"

/* A piece of evidence. Borrowed. */
struct kbs_delegate_part {
    enum kbs_tee tee;
    const json_t *evidence;
    struct kbs_span runtime_data; /* the JSON text whose digest the evidence carries */
};

/* What is to be verified. Borrowed. */
struct kbs_delegate_question {
    const struct kbs_delegate_part *parts; /* the TEE's own first, then devices' */
    size_t count;
    enum kbs_hash hash;        /* of the runtime data */
    struct kbs_span init_data; /* the document; empty: none was sent */
    const struct kbs_span *policy_ids;
    size_t policy_count;
};

/* The request to be made of the service. */
struct kbs_delegate_request {
    const char *suffix; /* of the service's URL; static */
    const char *content_type;
    const char *accept;
    struct kbs_buf body; /* owned */
};
#define KBS_DELEGATE_REQUEST \
    ((struct kbs_delegate_request){.body = KBS_BUF(KBS_LIMIT_WIRE_BODY_BYTES)})
void kbs_delegate_request_deinit(struct kbs_delegate_request *r);

/* What the service answered. Borrowed. */
struct kbs_delegate_answer {
    uint32_t status; /* of HTTP */
    bool has_grpc_status;
    uint32_t grpc_status;
    struct kbs_span content_type;
    struct kbs_span body;
};

/* The one hash of runtime data that it can be asked with; KBS_HASH_NONE: whichever was negotiated. */
enum kbs_hash kbs_delegate_hash(enum kbs_delegate type, enum kbs_tee tee);
/* Whether the challenge for that kind is the service's to make. */
bool kbs_delegate_challenges(enum kbs_delegate type, enum kbs_tee tee);

/*
 * KBS_INPUT if the evidence has not the shape that the service's API is made of; KBS_UNAUTHENTICATED if
 * it cannot be asked about it.
 */
KBS_MUST_CHECK int kbs_delegate_ask(enum kbs_delegate type, const struct kbs_delegate_question *q,
                                    struct kbs_delegate_request *ret, struct kbs_error *err);
/* For a challenge. tee_params: text that the guest sent with its Request. */
KBS_MUST_CHECK int kbs_delegate_ask_challenge(enum kbs_delegate type, enum kbs_tee tee,
                                              struct kbs_span tee_params,
                                              struct kbs_delegate_request *ret,
                                              struct kbs_error *err);

/*
 * Appends the token's text to `ret` (at most KBS_LIMIT_JWT_BYTES). KBS_UNAUTHENTICATED if the service
 * refused the evidence; KBS_BUSY if it could not judge it, or answered something else.
 */
KBS_MUST_CHECK int kbs_delegate_token(enum kbs_delegate type,
                                      const struct kbs_delegate_answer *answer, struct kbs_buf *ret,
                                      struct kbs_error *err);
/* Likewise the challenge: text without control characters, at most KBS_LIMIT_CHALLENGE_BYTES. */
KBS_MUST_CHECK int kbs_delegate_challenge(enum kbs_delegate type,
                                          const struct kbs_delegate_answer *answer,
                                          struct kbs_buf *ret, struct kbs_error *err);

/* ---- the services' own files ---- */

KBS_MUST_CHECK int kbs_coco_rest_put(struct kbs_buf *out, const struct kbs_delegate_question *q,
                                     struct kbs_error *err);
/* Before verification_requests: one piece of evidence, no devices. */
KBS_MUST_CHECK int kbs_coco_rest_v1_put(struct kbs_buf *out, const struct kbs_delegate_question *q,
                                        struct kbs_error *err);
void kbs_coco_rest_challenge_put(struct kbs_buf *out, enum kbs_tee tee, struct kbs_span tee_params);

/* A whole gRPC body: 5 bytes of framing and the message. */
KBS_MUST_CHECK int kbs_coco_grpc_put(struct kbs_buf *out, const struct kbs_delegate_question *q,
                                     struct kbs_error *err);
void kbs_coco_grpc_challenge_put(struct kbs_buf *out, enum kbs_tee tee, struct kbs_span tee_params);
/*
 * The string with field number 1, as AttestationResponse and ChallengeResponse have it. Borrows `body`.
 * KBS_INPUT if it is not one uncompressed message, or the message is malformed.
 */
KBS_MUST_CHECK int kbs_coco_grpc_get(struct kbs_span body, struct kbs_span *ret,
                                     struct kbs_error *err);

KBS_MUST_CHECK int kbs_ita_put(struct kbs_buf *out, const struct kbs_delegate_question *q,
                               struct kbs_error *err);
/* {"token"}. Appends it; KBS_INPUT if it is not that. */
KBS_MUST_CHECK int kbs_ita_get(struct kbs_span body, struct kbs_buf *ret, struct kbs_error *err);

/* What the CoCo service's requests hold of evidence: the base64url of its JSON text. */
KBS_MUST_CHECK int kbs_coco_evidence_put(struct kbs_buf *out, const json_t *evidence,
                                         struct kbs_error *err);

#endif
