/*
 * Evidence: one interface, one file per kind. A verifier gets the evidence as received and the
 * digest that its report data must carry; it says what it established. What is known of each kind
 * is its row in evidence.c. No knowledge of sessions, store or HTTP.
 */
#ifndef KBS_ATTEST_EVIDENCE_H
#define KBS_ATTEST_EVIDENCE_H

#include "attest/trust.h"
#include "attest/verdict.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/terms.h"
#include "jose/read/json.h"

/* Where evidence stands in an Attestation. */
enum kbs_evidence_place {
    KBS_EVIDENCE_PRIMARY, /* of the TEE itself */
    KBS_EVIDENCE_DEVICE   /* of a device beside it */
};

struct kbs_evidence_result {
    enum kbs_binding
        binding;       /* what the verifier established, at least KBS_BINDING_EVIDENCE on success */
    const char *class; /* static: "cpu", "gpu"; its submodule is named so */
    json_t *claims;    /* owned: the TEE's claims, as `input` shows them under the TEE's name */
    bool verified;     /* the verifier says so: what else is here counts */
    struct kbs_trust_vector trust; /* what the verifier found; then what the appraisal made of it */
    enum kbs_init_data init_data;  /* of the TEE; ABSENT for kinds that have no field for it */
};
void kbs_evidence_result_deinit(struct kbs_evidence_result *r);

/* True for kinds that anybody can write, which prove nothing. */
bool kbs_evidence_is_sample(enum kbs_tee tee);

/*
 * Brings what a verdict needs: appends it, or nothing if it is not there to be had. -1 also for what
 * may be there later.
 */
typedef int kbs_evidence_fetch_fn(void *with, const char *endpoint, const char *path,
                                  struct kbs_buf *ret, struct kbs_error *err);

/* What evidence is verified with. Borrowed. */
struct kbs_evidence_context {
    int64_t now_s;                        /* Unix seconds */
    struct kbs_span init_data;            /* the document that came with it; empty: none did */
    const struct kbs_verifier *verifiers; /* by enum kbs_tee, KBS_TEE_COUNT of them; NULL: none */
    kbs_evidence_fetch_fn *fetch;         /* NULL: nothing is fetched */
    void *fetch_with;
    struct kbs_verdict *verdict; /* its checks, also of evidence that did not hold; initialised */
};

/*
 * Verifies one piece of evidence. KBS_UNAUTHENTICATED if it does not hold (detail: which check) or
 * if there is no verifier for that kind in that place, KBS_INPUT if it, or the init-data that a
 * verifier asks for, does not parse; what `fetch` fails with. *ret is empty
 * after a failure.
 */
KBS_MUST_CHECK int kbs_evidence_verify(enum kbs_tee tee, enum kbs_evidence_place place,
                                       const json_t *evidence, const struct kbs_digest *report_data,
                                       const struct kbs_evidence_context *context,
                                       struct kbs_evidence_result *ret, struct kbs_error *err);

#endif
