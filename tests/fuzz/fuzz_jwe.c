/*
 * A JWE from outside: a secret that an administrator sends, a request's body that a guest encrypts, or an
 * answer to a TEE key. The properties: a refusal is the sender's fault, an epk that is taken is a point of
 * its curve, and the header of the first two that is taken is printed again to the same bytes, for it is the
 * AAD in the token.
 */
#include <stdint.h>
#include <stdlib.h>

#include "jose/read/jwe.h"
#include "jose/write/jose.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void refusal(const struct kbs_error *err)
{
    if (err->category != KBS_INPUT && err->category != KBS_UNPROCESSABLE) {
        abort();
    }
}

static void sealed(const json_t *v)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf again = KBS_BUF(8192);
    struct kbs_jose_jwe_in in;

    if (kbs_jose_sealed_get(v, &in, &err) != 0) {
        refusal(&err);
        return;
    }
    kbs_jose_seal_protected_put(&again, &in.epk, kbs_span_str(in.apv), in.kid);
    if (!kbs_span_equal(kbs_buf_span(&again), kbs_buf_span(&in.protected_text)) ||
        kbs_ec_public_check(&in.epk, &err) != 0 || in.ciphertext.len == 0) {
        abort();
    }
    kbs_buf_deinit(&again);
    kbs_jose_jwe_in_deinit(&in);
}

static void envelope(const json_t *v)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_buf again = KBS_BUF(8192);
    struct kbs_jose_jwe_in in;

    if (kbs_jose_envelope_get(v, &in, &err) != 0) {
        refusal(&err);
        return;
    }
    kbs_jose_request_protected_put(&again, &in.epk, kbs_span(in.request, sizeof(in.request)),
                                   in.kid);
    if (!kbs_span_equal(kbs_buf_span(&again), kbs_buf_span(&in.protected_text)) ||
        kbs_ec_public_check(&in.epk, &err) != 0 || in.ciphertext.len == 0 ||
        in.ciphertext.len > KBS_LIMIT_ENVELOPE_BYTES) {
        abort();
    }
    kbs_buf_deinit(&again);
    kbs_jose_jwe_in_deinit(&in);
}

static void answer(const json_t *v, enum kbs_tee_alg alg)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jose_jwe_in in;

    if (kbs_jose_jwe_get(v, alg, &in, &err) != 0) {
        refusal(&err);
        return;
    }
    if (alg == KBS_TEE_ALG_ECDH_ES_A256KW && kbs_ec_public_check(&in.epk, &err) != 0) {
        abort();
    }
    kbs_jose_jwe_in_deinit(&in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON v = NULL;

    if (kbs_json_parse_object(kbs_span(data, size), "input", &v, &err) == 0) {
        sealed(v);
        envelope(v);
        for (enum kbs_tee_alg alg = KBS_TEE_ALG_ECDH_ES_A256KW; alg < KBS_TEE_ALG_COUNT; alg++) {
            answer(v, alg);
        }
    }
    return 0;
}
