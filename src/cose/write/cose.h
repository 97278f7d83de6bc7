/*
 * COSE, the writing half: the key-release message and its KDF context as bytes, and signed messages
 * (RFC 9052, RFC 9053), definite-length, shortest-form CBOR (RFC 8949 section 4.2.1). Pure functions over spans.
 */
#ifndef KBS_COSE_WRITE_COSE_H
#define KBS_COSE_WRITE_COSE_H

#include "base/buf.h"
#include "base/ec.h"

#define KBS_COSE_ECDH_ES_A256KW (-31)
#define KBS_COSE_A256KW (-5)

/* Protected header of the recipient: {1: -31} or, with a kid, {1: -31, 4: h'kid'}; not
 * bstr-wrapped. */
void kbs_cose_recipient_protected_put(struct kbs_buf *out, struct kbs_span kid);

/*
 * COSE_KDF_Context of RFC 9053 section 5.2 for a 256-bit A256KW key:
 * [-5, [U identity / nil, nil, nil], [nil, V nonce / nil, nil], [256, protected]]. Empty spans are
 * nil. `protected` is the encoded map of kbs_cose_recipient_protected_put().
 */
void kbs_cose_kdf_context_put(struct kbs_buf *out, struct kbs_span party_u, struct kbs_span party_v,
                              struct kbs_span protected_map);

/*
 * The released key: 96([h'', {}, nil, [[protected, {-1: epk, -20: salt, -21: U, -25: V},
 * encrypted_key]]]), a tagged COSE_Encrypt with detached (nil) ciphertext and one recipient. salt,
 * party_u and party_v are left out when empty. kid stands in the protected map as a byte string.
 */
struct kbs_cose_recipient {
    const struct kbs_ec_public *epk;
    struct kbs_span kid;
    struct kbs_span party_u;
    struct kbs_span party_v;
    struct kbs_span salt;
    struct kbs_span encrypted_key;
};
void kbs_cose_recipient_put(struct kbs_buf *out, const struct kbs_cose_recipient *r);

/*
 * A signed message by ES256 in three steps, because the signature is made between them: its protected
 * header {1: -7, 4: kid, 16: type} (typ is RFC 9596's), not bstr-wrapped; the bytes that are signed,
 * Sig_structure of RFC 9052 section 4.4 without external data; 18([protected, {}, payload, signature]).
 */
#define KBS_COSE_ES256 (-7)
void kbs_cose_sign1_protected_put(struct kbs_buf *out, struct kbs_span kid, const char *type);
void kbs_cose_sign1_input_put(struct kbs_buf *out, struct kbs_span protected_map,
                              struct kbs_span payload);
void kbs_cose_sign1_put(struct kbs_buf *out, struct kbs_span protected_map, struct kbs_span payload,
                        struct kbs_span signature);

#endif
