/*
 * Chains of certificates from a header, and anchors as an operator's file has them. The properties: a chain is
 * refused as the token's fault; one that is taken has a sound key; anchors that are not are the file's.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "jose/read/x5c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A self-signed certificate on P-256, valid from 2026 to 2126; the corpus has chains under it. */
static const char anchor[] = "-----BEGIN CERTIFICATE-----\n"
                             "MIIBXDCCAQGgAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlmdXp6LXJv\n"
                             "b3QwIBcNMjYxMTIyMTAwNjA0WhgPMjEyNjEwMjkxMDA2MDRaMBQxEjAQBgNVBAMM\n"
                             "CWZ1enotcm9vdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABLs37n6luDajcvUS\n"
                             "tCO/summ9rwKHKhNOz1Fz6Mc23dKPnkHZ2tAPzizGyipTt5C0tCqMBYUzCwQAWAz\n"
                             "LcuRDwSjQjBAMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgEGMB0GA1Ud\n"
                             "DgQWBBRbJuQik+dhEsWme19FnYtAUfT3YjAKBggqhkjOPQQDAgNJADBGAiEA6dm9\n"
                             "PpN5N/Z8zlfJzllJc27UlTy9pQBLwmCWDyk2iwICIQCIFW70fqO2rB4F68cgO46j\n"
                             "9h4LsLdZLKYrhiMw2908uw==\n"
                             "-----END CERTIFICATE-----\n";

static void key_properties(const struct kbs_jws_key *key)
{
    struct kbs_error err = KBS_ERROR_NONE;

    if (key->algs == 0 || (key->algs & ~kbs_jws_key_algs(key)) != 0 ||
        (key->kind == KBS_JWS_KEY_EC && kbs_ec_public_check(&key->ec, &err) != 0) ||
        (key->kind == KBS_JWS_KEY_RSA && kbs_rsa_public_check(&key->rsa, &err) != 0)) {
        abort();
    }
}

static void chain(struct kbs_span text)
{
    struct kbs_x5c_trust *trust = NULL;
    struct kbs_error err = KBS_ERROR_NONE;
    struct kbs_jws_key key;
    KBS_AUTO_JSON root = NULL;

    if (kbs_json_parse_object(text, "header", &root, &err) != 0) {
        return;
    }
    if (kbs_x5c_trust_new(KBS_SPAN_LIT(anchor), KBS_SPAN_EMPTY, &trust, &err) != 0) {
        abort();
    }
    if (kbs_x5c_verify(trust, json_object_get(root, "x5c"), 1800000000, &key, &err) == 0) {
        key_properties(&key);
    } else if (err.category != KBS_UNAUTHENTICATED) {
        abort();
    }
    err = KBS_ERROR_NONE;
    if (kbs_x5c_leaf(json_object_get(root, "x5c"), &key, &err) == 0) {
        key_properties(&key);
    } else if (err.category != KBS_UNAUTHENTICATED) {
        abort();
    }
    kbs_x5c_trust_free(trust);
}

static void file(struct kbs_span text)
{
    struct kbs_x5c_trust *trust = NULL;
    struct kbs_error err = KBS_ERROR_NONE;

    if (kbs_x5c_trust_new(text, text, &trust, &err) != 0 && err.category != KBS_INPUT) {
        abort();
    }
    kbs_x5c_trust_free(trust);
    trust = NULL;
    err = KBS_ERROR_NONE;
    if (kbs_x5c_trust_new(text, KBS_SPAN_EMPTY, &trust, &err) != 0 && err.category != KBS_INPUT) {
        abort();
    }
    kbs_x5c_trust_free(trust);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == '{') {
        chain(kbs_span(data, size));
    } else {
        file(kbs_span(data, size));
    }
    return 0;
}
