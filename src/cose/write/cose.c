/*
 * COSE structures, written by hand.
 *
 * The KDF context must be the same bytes on both ends (RFC 9053 section 5.2 asks for deterministic
 * encoding), and the recipient's protected header is part of it; so are the bytes that a signature is
 * over. So everything goes through the one encoder that can do nothing else (cbor.h), map keys in the
 * order of RFC 8949 section 4.2.1 by the order of the calls.
 */
#include "cose/write/cose.h"

#include "cose/write/cbor.h"
#include "cose/write/labels.h"

#define KEK_BITS 256
#define PROTECTED_MAX_BYTES (16 + KBS_LIMIT_KID_BYTES)

static void put_labelled(struct kbs_buf *out, int label, struct kbs_span s)
{
    if (s.len > 0) {
        kbs_cbor_put_int(out, label);
        kbs_cbor_put_bytes(out, s);
    }
}

static void put_key(struct kbs_buf *out, const struct kbs_ec_public *key)
{
    kbs_cbor_put_map(out, 4);
    kbs_cbor_put_int(out, KBS_COSE_KEY_KTY);
    kbs_cbor_put_int(out, KBS_COSE_KEY_KTY_EC2);
    kbs_cbor_put_int(out, KBS_COSE_KEY_CRV);
    kbs_cbor_put_int(out, (int)key->curve); /* enum kbs_curve has COSE's numbers */
    put_labelled(out, KBS_COSE_KEY_X, kbs_ec_x(key));
    put_labelled(out, KBS_COSE_KEY_Y, kbs_ec_y(key));
}

void kbs_cose_recipient_protected_put(struct kbs_buf *out, struct kbs_span kid)
{
    kbs_cbor_put_map(out, kid.len > 0 ? 2 : 1);
    kbs_cbor_put_int(out, KBS_COSE_HEADER_ALG);
    kbs_cbor_put_int(out, KBS_COSE_ECDH_ES_A256KW);
    put_labelled(out, KBS_COSE_HEADER_KID, kid);
}

void kbs_cose_kdf_context_put(struct kbs_buf *out, struct kbs_span party_u, struct kbs_span party_v,
                              struct kbs_span protected_map)
{
    kbs_cbor_put_array(out, 4);
    kbs_cbor_put_int(out, KBS_COSE_A256KW); /* AlgorithmID: what the derived key is for */
    kbs_cbor_put_array(out, 3);             /* PartyUInfo: identity, nonce, other */
    kbs_cbor_put_bytes_or_nil(out, party_u);
    kbs_cbor_put_nil(out);
    kbs_cbor_put_nil(out);
    kbs_cbor_put_array(out, 3); /* PartyVInfo */
    kbs_cbor_put_nil(out);
    kbs_cbor_put_bytes_or_nil(out, party_v);
    kbs_cbor_put_nil(out);
    kbs_cbor_put_array(out, 2); /* SuppPubInfo */
    kbs_cbor_put_int(out, KEK_BITS);
    kbs_cbor_put_bytes(out, protected_map);
}

void kbs_cose_recipient_put(struct kbs_buf *out, const struct kbs_cose_recipient *r)
{
    struct kbs_buf map = KBS_BUF(PROTECTED_MAX_BYTES);
    uint64_t members = 1;

    kbs_cose_recipient_protected_put(&map, r->kid);
    if (map.failed) {
        out->failed = true;
        kbs_buf_deinit(&map);
        return;
    }
    members += r->salt.len > 0 ? 1 : 0;
    members += r->party_u.len > 0 ? 1 : 0;
    members += r->party_v.len > 0 ? 1 : 0;

    kbs_cbor_put_tag(out, KBS_COSE_TAG_ENCRYPT);
    kbs_cbor_put_array(out, 4);
    kbs_cbor_put_bytes(out, KBS_SPAN_EMPTY); /* protected: no content, no content algorithm */
    kbs_cbor_put_map(out, 0);                /* unprotected */
    kbs_cbor_put_nil(out);                   /* detached ciphertext */
    kbs_cbor_put_array(out, 1);              /* recipients */
    kbs_cbor_put_array(out, 3);
    kbs_cbor_put_bytes(out, kbs_buf_span(&map));
    kbs_cbor_put_map(out, members);
    kbs_cbor_put_int(out, KBS_COSE_HEADER_EPK);
    put_key(out, r->epk);
    put_labelled(out, KBS_COSE_HEADER_SALT, r->salt);
    put_labelled(out, KBS_COSE_HEADER_PARTY_U_IDENTITY, r->party_u);
    put_labelled(out, KBS_COSE_HEADER_PARTY_V_NONCE, r->party_v);
    kbs_cbor_put_bytes(out, r->encrypted_key);
    kbs_buf_deinit(&map);
}

void kbs_cose_sign1_protected_put(struct kbs_buf *out, struct kbs_span kid, const char *type)
{
    kbs_cbor_put_map(out, 3);
    kbs_cbor_put_int(out, KBS_COSE_HEADER_ALG);
    kbs_cbor_put_int(out, KBS_COSE_ES256);
    kbs_cbor_put_int(out, KBS_COSE_HEADER_KID);
    kbs_cbor_put_bytes(out, kid);
    kbs_cbor_put_int(out, KBS_COSE_HEADER_TYP);
    kbs_cbor_put_text(out, kbs_span_str(type));
}

void kbs_cose_sign1_input_put(struct kbs_buf *out, struct kbs_span protected_map,
                              struct kbs_span payload)
{
    kbs_cbor_put_array(out, 4);
    kbs_cbor_put_text(out, KBS_SPAN_LIT("Signature1"));
    kbs_cbor_put_bytes(out, protected_map);
    kbs_cbor_put_bytes(out, KBS_SPAN_EMPTY); /* external_aad */
    kbs_cbor_put_bytes(out, payload);
}

void kbs_cose_sign1_put(struct kbs_buf *out, struct kbs_span protected_map, struct kbs_span payload,
                        struct kbs_span signature)
{
    kbs_cbor_put_tag(out, KBS_COSE_TAG_SIGN1);
    kbs_cbor_put_array(out, 4);
    kbs_cbor_put_bytes(out, protected_map);
    kbs_cbor_put_map(out, 0); /* unprotected */
    kbs_cbor_put_bytes(out, payload);
    kbs_cbor_put_bytes(out, signature);
}
