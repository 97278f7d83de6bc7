/*
 * COSE structures, written by hand.
 *
 * The KDF context must be the same bytes on both ends (RFC 9053 section 5.2 asks for deterministic
 * encoding), and the recipient's protected header is part of it, so the encoder is the smallest one
 * that cannot do anything else: every head in its shortest form, definite lengths only, map keys in
 * the order of RFC 8949 section 4.2.1 by the order of the calls. An item tree in libcbor would add
 * allocation and failure paths to processes that otherwise need no CBOR at all, for about twenty
 * lines less here.
 */
#include "cose/write/cose.h"

#include "cose/write/labels.h"

/* Major types of RFC 8949 section 3.1, as the upper three bits of the head. */
enum {
    CBOR_UINT = 0x00,
    CBOR_NEGATIVE = 0x20,
    CBOR_BYTES = 0x40,
    CBOR_ARRAY = 0x80,
    CBOR_MAP = 0xa0,
    CBOR_TAG = 0xc0,
    CBOR_NIL = 0xf6
};

#define KEK_BITS 256
#define PROTECTED_MAX_BYTES (16 + KBS_LIMIT_KID_BYTES)

static void put_head(struct kbs_buf *out, uint8_t major, uint64_t value)
{
    uint8_t head[9];
    size_t extra; /* bytes of argument after the first byte */

    if (value < 24) {
        kbs_buf_put_u8(out, (uint8_t)(major | value));
        return;
    }
    extra = value <= UINT8_MAX ? 1 : value <= UINT16_MAX ? 2 : value <= UINT32_MAX ? 4 : 8;
    head[0] = (uint8_t)(major | (extra == 1 ? 24 : extra == 2 ? 25 : extra == 4 ? 26 : 27));
    for (size_t i = 0; i < extra; i++) {
        head[1 + i] = (uint8_t)(value >> (8 * (extra - 1 - i)));
    }
    kbs_buf_put(out, head, 1 + extra);
}

static void put_int(struct kbs_buf *out, int value)
{
    if (value >= 0) {
        put_head(out, CBOR_UINT, (uint64_t)value);
    } else {
        put_head(out, CBOR_NEGATIVE, (uint64_t)(-1 - value));
    }
}

static void put_bytes(struct kbs_buf *out, struct kbs_span s)
{
    put_head(out, CBOR_BYTES, s.len);
    kbs_buf_put_span(out, s);
}

static void put_nil(struct kbs_buf *out)
{
    kbs_buf_put_u8(out, CBOR_NIL);
}

static void put_bytes_or_nil(struct kbs_buf *out, struct kbs_span s)
{
    if (s.len > 0) {
        put_bytes(out, s);
    } else {
        put_nil(out);
    }
}

static void put_labelled(struct kbs_buf *out, int label, struct kbs_span s)
{
    if (s.len > 0) {
        put_int(out, label);
        put_bytes(out, s);
    }
}

static void put_key(struct kbs_buf *out, const struct kbs_ec_public *key)
{
    put_head(out, CBOR_MAP, 4);
    put_int(out, KBS_COSE_KEY_KTY);
    put_int(out, KBS_COSE_KEY_KTY_EC2);
    put_int(out, KBS_COSE_KEY_CRV);
    put_int(out, (int)key->curve); /* enum kbs_curve has COSE's numbers */
    put_labelled(out, KBS_COSE_KEY_X, kbs_ec_x(key));
    put_labelled(out, KBS_COSE_KEY_Y, kbs_ec_y(key));
}

void kbs_cose_recipient_protected_put(struct kbs_buf *out, struct kbs_span kid)
{
    put_head(out, CBOR_MAP, kid.len > 0 ? 2 : 1);
    put_int(out, KBS_COSE_HEADER_ALG);
    put_int(out, KBS_COSE_ECDH_ES_A256KW);
    put_labelled(out, KBS_COSE_HEADER_KID, kid);
}

void kbs_cose_kdf_context_put(struct kbs_buf *out, struct kbs_span party_u, struct kbs_span party_v,
                              struct kbs_span protected_map)
{
    put_head(out, CBOR_ARRAY, 4);
    put_int(out, KBS_COSE_A256KW); /* AlgorithmID: what the derived key is for */
    put_head(out, CBOR_ARRAY, 3);  /* PartyUInfo: identity, nonce, other */
    put_bytes_or_nil(out, party_u);
    put_nil(out);
    put_nil(out);
    put_head(out, CBOR_ARRAY, 3); /* PartyVInfo */
    put_nil(out);
    put_bytes_or_nil(out, party_v);
    put_nil(out);
    put_head(out, CBOR_ARRAY, 2); /* SuppPubInfo */
    put_int(out, KEK_BITS);
    put_bytes(out, protected_map);
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

    put_head(out, CBOR_TAG, KBS_COSE_TAG_ENCRYPT);
    put_head(out, CBOR_ARRAY, 4);
    put_bytes(out, KBS_SPAN_EMPTY); /* protected: no content, no content algorithm */
    put_head(out, CBOR_MAP, 0);     /* unprotected */
    put_nil(out);                   /* detached ciphertext */
    put_head(out, CBOR_ARRAY, 1);   /* recipients */
    put_head(out, CBOR_ARRAY, 3);
    put_bytes(out, kbs_buf_span(&map));
    put_head(out, CBOR_MAP, members);
    put_int(out, KBS_COSE_HEADER_EPK);
    put_key(out, r->epk);
    put_labelled(out, KBS_COSE_HEADER_SALT, r->salt);
    put_labelled(out, KBS_COSE_HEADER_PARTY_U_IDENTITY, r->party_u);
    put_labelled(out, KBS_COSE_HEADER_PARTY_V_NONCE, r->party_v);
    put_bytes(out, r->encrypted_key);
    kbs_buf_deinit(&map);
}
