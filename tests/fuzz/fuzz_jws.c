/*
 * A compact JWS from outside, and what else jose/read parses. The properties: a refusal is
 * UNAUTHENTICATED, what was split has a header without crit and b64, and nothing verifies with a
 * key whose private half nobody uses here.
 */
#include <stdint.h>
#include <stdlib.h>

#include "jose/read/jose.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* RFC 7515 appendix A.3; the seed corpus holds the text it verifies. */
static const struct kbs_ec_public key = {
    .curve = KBS_CURVE_P256,
    .x = {0x7f, 0xcd, 0xce, 0x27, 0x70, 0xf6, 0xc4, 0x5d, 0x41, 0x83, 0xcb,
          0xee, 0x6f, 0xdb, 0x4b, 0x7b, 0x58, 0x07, 0x33, 0x35, 0x7b, 0xe9,
          0xef, 0x13, 0xba, 0xcf, 0x6e, 0x3c, 0x7b, 0xd1, 0x54, 0x45},
    .y = {0xc7, 0xf1, 0x44, 0xcd, 0x1b, 0xbd, 0x9b, 0x7e, 0x87, 0x2c, 0xdf,
          0xed, 0xb9, 0xee, 0xb9, 0xf4, 0xb3, 0x69, 0x5d, 0x6e, 0xa9, 0x0b,
          0x24, 0xad, 0x8a, 0x46, 0x23, 0x28, 0x85, 0x88, 0xe5, 0xad},
};

static void token(struct kbs_span text)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jose_jws jws;
    KBS_AUTO_JSON payload = NULL;

    if (kbs_jose_jws_split(text, &jws, &err) != 0) {
        if (err.category != KBS_UNAUTHENTICATED) {
            abort();
        }
        return;
    }
    if (json_object_get(jws.header, "crit") != NULL || json_object_get(jws.header, "b64") != NULL) {
        abort();
    }
    if (kbs_jose_jws_verify(&jws, &key, &payload, &err) != 0 &&
        err.category != KBS_UNAUTHENTICATED) {
        abort();
    }
    kbs_jose_jws_deinit(&jws);
}

static void objects(struct kbs_span text)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jose_recipient_in recipient;
    struct kbs_ec_public ec;
    KBS_AUTO_JSON v = NULL;

    if (kbs_json_parse_object(text, "input", &v, &err) == 0) {
        if (kbs_jose_jwk_get(v, NULL, &ec, &err) == 0 && kbs_ec_public_check(&ec, &err) != 0) {
            abort();
        }
        if (kbs_jose_recipient_get(v, KBS_TEE_ALG_ECDH_ES_A256KW, &recipient, &err) == 0) {
            kbs_jose_recipient_in_deinit(&recipient);
        }
    }
    if (kbs_jose_public_from_pem(text, &ec, &err) == 0 && kbs_ec_public_check(&ec, &err) != 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    token(kbs_span(data, size));
    objects(kbs_span(data, size));
    return 0;
}
