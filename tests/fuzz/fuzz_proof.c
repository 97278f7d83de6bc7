/*
 * The payload of a proof of possession. The properties: a refusal is the sender's fault; what is taken names a point of
 * its curve, and is printed again to something that is taken alike.
 */
#include <stdint.h>
#include <stdlib.h>

#include "attest/proof.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const json_t *v, size_t size)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf text = KBS_BUF(8 * size + 1024);
    struct kbs_proof proof;
    struct kbs_proof again;
    KBS_AUTO_JSON printed = NULL;

    if (kbs_proof_get(v, &proof, &err) != 0) {
        if (err.category != KBS_INPUT && err.category != KBS_UNPROCESSABLE) {
            abort();
        }
        return;
    }
    kbs_proof_put(&text, &proof);
    if (kbs_ec_public_check(&proof.key, &err) != 0 ||
        kbs_json_parse_object(kbs_buf_span(&text), "again", &printed, &err) != 0 ||
        kbs_proof_get(printed, &again, &err) != 0 || !kbs_span_equal(proof.target, again.target) ||
        !kbs_span_equal(proof.method, again.method) ||
        !kbs_ec_public_equal(&proof.key, &again.key) ||
        memcmp(proof.nonce, again.nonce, sizeof(proof.nonce)) != 0 ||
        memcmp(proof.body, again.body, sizeof(proof.body)) != 0) {
        abort();
    }
    kbs_buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON v = NULL;

    if (kbs_json_parse_object(kbs_span(data, size), "input", &v, &err) == 0) {
        check(v, size);
    }
    return 0;
}
