/*
 * NEK blobs: keys that guests keep beside what they encrypt (a vTPM's state, a volume), addressed to a
 * token key of purpose `nek`, and bound to the guests that may have them opened. This file is what is
 * bound and to what; the blobs' shapes are JOSE's and COSE's (docs/protocol/nek.md).
 */
#ifndef KBS_WIRE_NEK_H
#define KBS_WIRE_NEK_H

#include "base/digest.h"
#include "base/error.h"

/* PartyUInfo of everything that is wrapped to an EC key of purpose nek. */
#define KBS_NEK_PARTY_U "kbs-nek-v1"

/* How a blob is wrapped to the key of the token. */
enum kbs_nek_kind {
    KBS_NEK_NONE = 0,
    KBS_NEK_JOSE = 1,   /* ECDH-ES+A256KW, Concat KDF (RFC 7518 section 4.6) */
    KBS_NEK_COSE = 2,   /* ECDH-ES+A256KW, HKDF (RFC 9053 section 6.4.1) */
    KBS_NEK_AES_KW = 3, /* A256KW under a key derived from an AES key and the binding */
    KBS_NEK_OAEP = 4,   /* RSA-OAEP, which carries no binding */
    KBS_NEK_KIND_COUNT
};

/* What a blob can be bound to: a field of the guest's attested identity, a bit each. */
enum kbs_nek_field {
    KBS_NEK_INIT_DATA = 0,   /* digest of the init-data, as the TEE's field has it */
    KBS_NEK_HOST_DATA = 1,   /* that field, whatever it is */
    KBS_NEK_MEASUREMENT = 2, /* of the launch */
    KBS_NEK_ID_BLOCK = 3,    /* digest of its signing key, family id, image id */
    KBS_NEK_CHIP_ID = 4,     /* the platform */
    KBS_NEK_FIELD_COUNT
};
const char *kbs_nek_field_name(enum kbs_nek_field field);         /* "init-data", ...; "?" */
enum kbs_nek_field kbs_nek_field_from_name(struct kbs_span name); /* _COUNT if unknown */
/* True for a field that whoever starts the guest sets as he likes. */
bool kbs_nek_field_is_hosts(enum kbs_nek_field field);

#define KBS_NEK_BINDING_BYTES (1 + KBS_SHA256_BYTES)

/* fields 0: bound to nobody, with a digest of zeros. */
struct kbs_nek_binding {
    uint8_t fields;
    uint8_t digest[KBS_SHA256_BYTES];
};

/*
 * The binding to those values, by enum kbs_nek_field; only those of `fields` are looked at, each at most
 * 65535 bytes: SHA-256("kbs-nek-binding-v1" || for each of them, in order: its number (1 byte), length (2
 * bytes, big endian), value).
 */
void kbs_nek_bind(uint8_t fields, const struct kbs_span values[KBS_NEK_FIELD_COUNT],
                  struct kbs_nek_binding *ret);

/* As PartyVInfo has it: fields (1 byte), digest. */
void kbs_nek_binding_put(const struct kbs_nek_binding *b, uint8_t out[KBS_NEK_BINDING_BYTES]);
/* The reverse; KBS_INPUT for unknown fields, another length, or a digest of nothing that is not zeros. */
KBS_MUST_CHECK int kbs_nek_binding_get(struct kbs_span bytes, struct kbs_nek_binding *ret,
                                       struct kbs_error *err);

/* What a wrapping key is derived from an AES key with: SHA-256("kbs-nek-v1" || the binding as above). */
void kbs_nek_derivation(const struct kbs_nek_binding *b, uint8_t ret[KBS_SHA256_BYTES]);

/*
 * PartyVInfo of an answer to a rewrap: SHA-256("kbs-rewrap-v1" || report-data digest || nonce || SHA-256 of
 * the wrapped key in the blob), so that no other blob's key can be put in its place.
 */
void kbs_nek_party_v(struct kbs_span report_digest, const uint8_t nonce[32],
                     struct kbs_span wrapped, uint8_t ret[KBS_SHA256_BYTES]);

/* PartyVInfo of an answer to a provision: SHA-256("kbs-provision-v1" || party_v || SHA-256 of the blob). */
void kbs_nek_provision_v(const uint8_t party_v[KBS_SHA256_BYTES], struct kbs_span blob,
                         uint8_t ret[KBS_SHA256_BYTES]);

#endif
