/*
 * What an identity provider's files and tokens may hold: keys as PEM or as a set, and a compact JWS by any
 * algorithm. The properties: a set that is taken has sound keys with names and at least one
 * algorithm each, which their kind can verify; a token is only ever tried with a key that is for
 * what it says; a refusal is the token's or the file's fault.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "jose/read/jwt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* RFC 7515 appendices A.2 and A.3 and RFC 8037 appendix A; the seed corpus holds what they verify. */
static const char set[] =
    "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"alg\":\"ES256\",\"kid\":\"ec\","
    "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
    "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"},"
    "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"alg\":\"EdDSA\",\"kid\":\"ed\","
    "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"},"
    "{\"kty\":\"RSA\",\"alg\":\"RS256\",\"kid\":\"rsa\",\"e\":\"AQAB\","
    "\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-"
    "Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-"
    "bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_"
    "I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ\"}]}";

static void key_properties(const struct kbs_jws_key *key, bool by_kid)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (key->algs == 0 || (key->algs & ~kbs_jws_key_algs(key)) != 0 ||
        by_kid != (key->kid[0] != '\0') ||
        (key->kind == KBS_JWS_KEY_EC && kbs_ec_public_check(&key->ec, &err) != 0) ||
        (key->kind == KBS_JWS_KEY_RSA && kbs_rsa_public_check(&key->rsa, &err) != 0)) {
        abort();
    }
}

static void keys(struct kbs_span text)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jwt_keys loaded;

    if (kbs_jwt_keys_load(text, &loaded, &err) != 0) {
        if (err.category != KBS_INPUT && err.category != KBS_UNPROCESSABLE) {
            abort();
        }
        return;
    }
    if (loaded.count == 0 || loaded.count > KBS_LIMIT_JWKS_KEYS) {
        abort();
    }
    for (size_t i = 0; i < loaded.count; i++) {
        key_properties(&loaded.items[i], loaded.by_kid);
    }
    kbs_jwt_keys_deinit(&loaded);
}

static void claims_of(const struct kbs_jose_jws *jws, const struct kbs_jws_key *key)
{
    const struct kbs_jwt_expect expect = {.issuer = KBS_SPAN_LIT("joe"), .now_s = 1300819380};
    struct kbs_error err = KBS_ERROR_NONE;
    KBS_AUTO_JSON claims = NULL;

    if (kbs_jws_verify(jws, key, &claims, &err) != 0) {
        if (err.category != KBS_UNAUTHENTICATED || claims != NULL) {
            abort();
        }
        return;
    }
    if ((key->algs & KBS_JWS_ALG_BIT(jws->alg)) == 0 ||
        (kbs_jwt_claims_check(claims, &expect, &err) != 0 && err.category != KBS_UNAUTHENTICATED)) {
        abort();
    }
}

static void token(struct kbs_span text)
{
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jose_jws jws;
    struct kbs_jwt_keys known;

    if (kbs_jws_split(text, KBS_JWS_ALGS_ALL, &jws, &err) != 0) {
        if (err.category != KBS_UNAUTHENTICATED) {
            abort();
        }
        return;
    }
    if (kbs_jwt_keys_load(KBS_SPAN_LIT(set), &known, &err) != 0) {
        abort();
    }
    const struct kbs_jws_key *found = kbs_jwt_keys_find(&known, &jws);
    if (found != NULL && !kbs_span_equal_str(jws.kid, found->kid)) {
        abort();
    }
    for (size_t i = 0; i < known.count; i++) { /* whatever its name */
        claims_of(&jws, &known.items[i]);
    }
    kbs_jwt_keys_deinit(&known);
    kbs_jose_jws_deinit(&jws);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    token(kbs_span(data, size));
    keys(kbs_span(data, size));
    return 0;
}
