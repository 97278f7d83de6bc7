/* Keys: see core.h. Counted, since OpenSSL may drop an EVP_PKEY's keydata while a signature is being made with it. */
#include <openssl/core_names.h>
#include <openssl/obj_mac.h>
#include <openssl/objects.h>
#include <stdlib.h>
#include <string.h>

#include "providers/core.h"

int kbs_key_kind_of(EVP_PKEY *public_key, enum kbs_key_kind *ret, struct kbs_error *err)
{
    char group[64] = "";
    int nid;

    *ret = KBS_KEY_NONE;
    if (EVP_PKEY_is_a(public_key, "RSA") == 1) {
        int bytes = (EVP_PKEY_get_bits(public_key) + 7) / 8;

        if (bytes < KBS_LIMIT_RSA_BYTES_MIN || bytes > KBS_LIMIT_RSA_BYTES_MAX) {
            return kbs_fail(err, KBS_UNSUPPORTED, "an RSA key of %d bits: not 2048 to 4096",
                            EVP_PKEY_get_bits(public_key));
        }
        *ret = KBS_KEY_RSA;
        return 0;
    }
    if (EVP_PKEY_is_a(public_key, "EC") != 1 ||
        EVP_PKEY_get_group_name(public_key, group, sizeof(group), NULL) != 1) {
        return kbs_fail(err, KBS_UNSUPPORTED, "a key that is neither EC nor RSA");
    }
    nid = OBJ_txt2nid(group);
    *ret = nid == NID_X9_62_prime256v1 ? KBS_KEY_P256
           : nid == NID_secp384r1      ? KBS_KEY_P384
                                       : KBS_KEY_NONE;
    return *ret != KBS_KEY_NONE
               ? 0
               : kbs_fail(err, KBS_UNSUPPORTED, "an EC key on %s: not on P-256 or P-384", group);
}

struct kbs_key *kbs_key_new(const struct kbs_provider *provider)
{
    struct kbs_key *key = calloc(1, sizeof(*key));

    if (key != NULL) {
        atomic_init(&key->refs, 1);
        key->provider = provider;
    }
    return key;
}

struct kbs_key *kbs_key_ref(struct kbs_key *key)
{
    (void)atomic_fetch_add(&key->refs, 1);
    return key;
}

struct kbs_key *kbs_key_free(struct kbs_key *key)
{
    if (key != NULL && atomic_fetch_sub(&key->refs, 1) == 1) {
        EVP_PKEY_free(key->public_key);
        key->link = kbs_link_free(key->link);
        free(key);
    }
    return NULL;
}

int kbs_key_set_public(struct kbs_key *key, EVP_PKEY *public_key, struct kbs_error *err)
{
    if (key->public_key != NULL) {
        return kbs_fail(err, KBS_CONFLICT, "the key has a public half already");
    }
    if (kbs_key_kind_of(public_key, &key->kind, err) != 0) {
        return -1;
    }
    key->public_key = public_key;
    return 0;
}

size_t kbs_key_bytes(const struct kbs_key *key)
{
    switch (key->kind) {
    case KBS_KEY_P256:
        return 32;
    case KBS_KEY_P384:
        return 48;
    case KBS_KEY_RSA:
        return ((size_t)EVP_PKEY_get_bits(key->public_key) + 7) / 8;
    case KBS_KEY_NONE:
        break;
    }
    return 0;
}

int kbs_key_order(const struct kbs_key *key, enum kbs_wire_type type, const void *order,
                  struct kbs_buf *ret, struct kbs_error *err)
{
    if (key->link == NULL) {
        return kbs_fail(err, KBS_INPUT, "the key has no private half");
    }
    return kbs_link_order(
        key->link, type, order,
        key->use == KBS_PROVIDER_TLS ? KBS_LIMIT_TLS_SIGN_MS : KBS_LIMIT_TOKEN_OP_MS, ret, err);
}
