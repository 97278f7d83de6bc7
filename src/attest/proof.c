/*
 * The problem: a host between guest and service holds cookie and token, and can send them along with a request of its
 * own, an old one, or a changed one. The approach: everything of a request that decides anything is named in what the
 * guest signs: method, target, body, the service's nonce, and the one-request key that the answer goes to. There is no
 * time in it: a guest may have no clock, and the nonce expires at the service.
 *
 * An encrypted body names the same in its PartyVInfo, but for itself (its tag does that) and the key (the session's).
 */
#include "attest/proof.h"

#include "base/encoding.h"
#include "jose/read/jose.h"
#include "jose/write/jose.h"

static void bytes_put(struct kbs_buf *out, const char *name, const uint8_t *p, size_t n)
{
    kbs_buf_printf(out, "\"%s\":\"", name);
    kbs_base64url_put(out, kbs_span(p, n));
    kbs_buf_put_u8(out, '"');
}

void kbs_proof_put(struct kbs_buf *out, const struct kbs_proof *proof)
{
    kbs_buf_put_u8(out, '{');
    bytes_put(out, "b", proof->body, sizeof(proof->body));
    if (proof->has_channel) {
        kbs_buf_put_u8(out, ',');
        bytes_put(out, "c", proof->channel, sizeof(proof->channel));
    }
    kbs_buf_put_str(out, ",\"k\":");
    kbs_jose_jwk_put(out, &proof->key);
    kbs_buf_put_str(out, ",\"m\":");
    kbs_json_string_put(out, proof->method);
    kbs_buf_put_u8(out, ',');
    bytes_put(out, "n", proof->nonce, sizeof(proof->nonce));
    kbs_buf_put_str(out, ",\"p\":");
    kbs_json_string_put(out, proof->target);
    kbs_buf_put_u8(out, '}');
}

static int bytes_get(const json_t *payload, const char *name, uint8_t *out, size_t n,
                     struct kbs_error *err)
{
    struct kbs_span text = KBS_SPAN_EMPTY;

    if (kbs_json_get_string(payload, name, &text, err) != 0) {
        return -1;
    }
    return kbs_base64url_get_exact(out, n, text) == 0
               ? 0
               : kbs_fail(err, KBS_INPUT, "\"%s\" is not the base64url of %zu bytes", name, n);
}

int kbs_proof_get(const json_t *payload, struct kbs_proof *ret, struct kbs_error *err)
{
    static const char *const members[] = {"b", "c", "k", "m", "n", "p", NULL};
    static const char *const key_members[] = {"crv", "kty", "x", "y", NULL};
    json_t *key = NULL;

    *ret = (struct kbs_proof){.method = KBS_SPAN_EMPTY,
                              .has_channel = json_object_get(payload, "c") != NULL};
    if (kbs_json_only(payload, members, err) != 0 ||
        bytes_get(payload, "b", ret->body, sizeof(ret->body), err) != 0 ||
        bytes_get(payload, "n", ret->nonce, sizeof(ret->nonce), err) != 0 ||
        (ret->has_channel &&
         bytes_get(payload, "c", ret->channel, sizeof(ret->channel), err) != 0) ||
        kbs_json_get_string(payload, "m", &ret->method, err) != 0 ||
        kbs_json_get_string(payload, "p", &ret->target, err) != 0 ||
        kbs_json_get_object(payload, "k", &key, err) != 0 ||
        kbs_json_only(key, key_members, err) != 0) {
        return -1;
    }
    return kbs_jose_jwk_get(key, NULL, &ret->key, err);
}

void kbs_envelope_apv(const uint8_t nonce[KBS_REQUEST_CHALLENGE_BYTES], struct kbs_span method,
                      struct kbs_span target, uint8_t ret[KBS_ENVELOPE_APV_BYTES])
{
    const struct kbs_span parts[] = {method, KBS_SPAN_LIT(" "), target};
    struct kbs_digest digest;

    kbs_digest(KBS_HASH_SHA256, parts, sizeof(parts) / sizeof(parts[0]), &digest);
    memcpy(ret, nonce, KBS_REQUEST_CHALLENGE_BYTES);
    memcpy(ret + KBS_REQUEST_CHALLENGE_BYTES, digest.p, KBS_SHA256_BYTES);
}
