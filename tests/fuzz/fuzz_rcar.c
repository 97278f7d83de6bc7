/*
 * Both RCAR messages a guest sends, in both versions, and the sample evidence in the second. The
 * property: whatever parses has a report digest, evidence passes only if it carries that digest, and
 * what passed has claims.
 */
#include <stdint.h>
#include <stdlib.h>

#include "attest/ear.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* With no verifier but those that are built in. */
static int verify(enum kbs_tee tee, enum kbs_evidence_place place, const json_t *evidence,
                  const struct kbs_digest *report_data, struct kbs_evidence_result *ret,
                  struct kbs_error *err)
{
    struct kbs_verdict verdict = KBS_VERDICT_NULL;
    const struct kbs_evidence_context context = {.verdict = &verdict};
    int r = kbs_evidence_verify(tee, place, evidence, report_data, &context, ret, err);

    kbs_verdict_deinit(&verdict);
    return r;
}

static void claims_of(const struct kbs_rcar_attestation *a, const struct kbs_ear_part *parts,
                      size_t part_count)
{
    const struct kbs_ear ear = {.issuer = KBS_SPAN_LIT("i"),
                                .sid = KBS_SPAN_LIT("00"),
                                .iat = 1,
                                .exp = 2,
                                .attestation = a,
                                .parts = parts,
                                .part_count = part_count};
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_span sid;
    KBS_AUTO_JSON claims = NULL;

    if (kbs_ear_build(&ear, &claims, &err) == 0) {
        if (kbs_ear_check(claims, ear.issuer, 1, &sid, &err) != 0 ||
            json_object_size(json_object_get(claims, "submods")) != part_count) {
            abort();
        }
    } else if (err.category == KBS_INTERNAL) {
        abort();
    }
}

/* One piece of evidence into the next part; false if it does not hold. */
static bool part_of(enum kbs_tee tee, enum kbs_evidence_place place, const json_t *evidence,
                    struct kbs_ear_part *part)
{
    struct kbs_error err = KBS_ERROR_NONE;

    part->tee = tee;
    return verify(tee, place, evidence, &part->report_digest, &part->result, &err) == 0;
}

static void digest_of(const struct kbs_rcar_attestation *a, const struct kbs_span *additional,
                      struct kbs_digest *ret)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_rcar_report_digest(KBS_HASH_SHA384, &a->tee_key, a->nonce, additional, ret, &err) !=
        0) {
        abort();
    }
}

static void attestation(struct kbs_span body, enum kbs_protocol version)
{
    struct kbs_ear_part parts[KBS_EAR_PARTS_MAX];
    struct kbs_rcar_attestation a;
    struct kbs_error err = KBS_ERROR_NONE;
    size_t n = 0;

    if (kbs_rcar_attestation_parse(body, version, &a, &err) != 0) {
        return;
    }
    if (version == KBS_PROTOCOL_0_2_0) {
        a.nonce = KBS_SPAN_LIT("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    }
    digest_of(&a, kbs_rcar_additional(&a), &parts[0].report_digest);
    if (part_of(KBS_TEE_SAMPLE, KBS_EVIDENCE_PRIMARY, a.primary_evidence, &parts[0])) {
        n = 1;
        for (size_t i = 0; i < a.device_count; i++) {
            digest_of(&a, NULL, &parts[n].report_digest);
            n += part_of(a.devices[i].tee, KBS_EVIDENCE_DEVICE, a.devices[i].evidence, &parts[n]);
        }
        claims_of(&a, parts, n);
    }
    while (n > 0) {
        kbs_evidence_result_deinit(&parts[--n].result);
    }
    kbs_rcar_attestation_deinit(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_span body = kbs_span(data, size);
    struct kbs_rcar_request request;
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_rcar_request_parse(body, NULL, &request, &err) == 0 &&
        (request.tee == KBS_TEE_NONE || request.version == KBS_PROTOCOL_NONE ||
         kbs_hash_bytes(request.hash) == 0)) {
        abort();
    }
    attestation(body, KBS_PROTOCOL_0_4_0);
    attestation(body, KBS_PROTOCOL_0_2_0);
    return 0;
}
