/*
 * Sample evidence, of a TEE and of a device: {"svn": string, "report_data": <standard base64 of the
 * digest>}. Clients send svn "1" for the TEE and "2" for the device; it is a claim, for a policy to
 * look at, and not checked here.
 *
 * Anyone can write it, so it proves nothing but that the sender knows what it sent; it exists for
 * tests and demonstrations. The result says so: hardware 97 ("not recognised as genuine"),
 * executables 33 and configuration 36 (the values Trustee's default policy gives to what it cannot
 * match), hence contraindicated, until an appraisal (appraise.c) says otherwise. Trustee's verifier
 * also makes up a launch digest, a platform version and "debug": false; we do not claim what was
 * not in the evidence.
 *
 * report_data must be the digest exactly, unpadded, in its one canonical spelling. The check is the
 * same one the real kinds make, so binding level `evidence` is true of it: it is the evidence that
 * is worthless. Members beyond the two are dropped, as Trustee does.
 */
#include "attest/sample.h"

#include "base/encoding.h"

#define SAMPLE_SVN_MAX_BYTES 64

static int report_data_check(struct kbs_span text, const struct kbs_digest *expected,
                             struct kbs_error *err)
{
    struct kbs_buf bytes = KBS_BUF(KBS_DIGEST_MAX_BYTES);
    bool decoded = kbs_base64_get(&bytes, text) == 0;
    bool equal = decoded && expected->len != 0 &&
                 kbs_span_equal(kbs_buf_span(&bytes), kbs_digest_span(expected));

    kbs_buf_deinit(&bytes);
    if (!equal) {
        return kbs_fail(err, KBS_UNAUTHENTICATED,
                        "sample evidence: report_data is not the digest of the runtime data");
    }
    return 0;
}

int kbs_evidence_sample_verify(const json_t *evidence, const struct kbs_digest *report_data,
                               struct kbs_evidence_result *ret, struct kbs_error *err)
{
    struct kbs_span svn;
    struct kbs_span text;

    if (!json_is_object(evidence)) {
        return kbs_fail(err, KBS_INPUT, "sample evidence is not an object");
    }
    if (kbs_json_get_string(evidence, "svn", &svn, err) != 0 ||
        kbs_json_get_string(evidence, "report_data", &text, err) != 0) {
        return -1;
    }
    if (svn.len > SAMPLE_SVN_MAX_BYTES) {
        return kbs_fail(err, KBS_INPUT, "sample evidence: \"svn\" is longer than %d bytes",
                        SAMPLE_SVN_MAX_BYTES);
    }
    if (report_data_check(text, report_data, err) != 0) {
        return -1;
    }
    ret->claims = json_pack("{s:s%}", "svn", (const char *)svn.p, svn.len);
    if (ret->claims == NULL) {
        return kbs_fail(err, KBS_INTERNAL, "out of memory");
    }
    ret->binding = KBS_BINDING_EVIDENCE;
    ret->verified = true;
    ret->trust.claim[KBS_TRUST_HARDWARE] = 97;
    ret->trust.claim[KBS_TRUST_EXECUTABLES] = 33;
    ret->trust.claim[KBS_TRUST_CONFIGURATION] = 36;
    return 0;
}
