/*
 * Any bytes into the COSE reader. What it takes, the writer must be able to say again, and the
 * reader must read the same from that: a message with two meanings, or a field that is lost on the
 * way, ends the run.
 */
#include <stdlib.h>

#include "cose/read/cose.h"
#include "cose/write/cose.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const struct kbs_buf *a, const struct kbs_buf *b)
{
    if (!kbs_span_equal(kbs_buf_span(a), kbs_buf_span(b))) {
        abort();
    }
}

static void round_trip(const struct kbs_cose_recipient_in *in)
{
    struct kbs_cose_recipient r = {.epk = &in->epk,
                                   .kid = kbs_buf_span(&in->kid),
                                   .party_u = kbs_buf_span(&in->party_u),
                                   .party_v = kbs_buf_span(&in->party_v),
                                   .salt = kbs_buf_span(&in->salt),
                                   .encrypted_key = kbs_buf_span(&in->encrypted_key)};
    struct kbs_buf out = KBS_BUF(KBS_LIMIT_COSE_MESSAGE_BYTES);
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_cose_recipient_in again;

    kbs_cose_recipient_put(&out, &r);
    if (out.failed || kbs_cose_recipient_get(kbs_buf_span(&out), &again, &err) < 0 ||
        !kbs_ec_public_equal(&in->epk, &again.epk)) {
        abort();
    }
    same(&in->kid, &again.kid);
    same(&in->party_u, &again.party_u);
    same(&in->party_v, &again.party_v);
    same(&in->salt, &again.salt);
    same(&in->encrypted_key, &again.encrypted_key);
    kbs_cose_recipient_in_deinit(&again);
    kbs_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_cose_recipient_in in;

    if (kbs_cose_recipient_get(kbs_span(data, size), &in, &err) == 0) {
        round_trip(&in);
        kbs_cose_recipient_in_deinit(&in);
    }
    return 0;
}
