/*
 * A key-release message, read by code that has its shape.
 *
 * The message is the one that cose/write makes; its grammar is fixed, so there is one function per
 * map and no generic tree. Every map's pairs are counted, unknown labels are refused and known ones
 * may come in any order but once: a label that is silently ignored, or of which the first or the
 * last wins, is how two readers come to see different keys. RFC 9052 would let unknown labels pass;
 * the only sender is our own service, and a label that a later version adds changes what the client
 * has to check.
 *
 * Nothing is copied before everything is checked, and the epk is validated here so that no caller
 * can forget. `protected_map` is kept as received: it goes into the KDF context byte for byte.
 */
#include "cose/read/cose.h"

#include "base/digest.h"
#include "cose/read/item.h"
#include "cose/write/cose.h"
#include "cose/write/labels.h"

#define ALG_ARGUMENT (-1 - KBS_COSE_ECDH_ES_A256KW) /* negative integers are -1 - n on the wire */
#define EMPTY_MAP_BYTE 0xa0
#define LABEL_MAX 64
#define WRAP_BYTES 8 /* what AES-KW adds */
#define PROTECTED_MAX_BYTES (16 + KBS_LIMIT_KID_BYTES)

/* The message in views of itself. */
struct parts {
    struct kbs_span protected_map;
    struct kbs_span kid;
    struct kbs_span party_u;
    struct kbs_span party_v;
    struct kbs_span salt;
    struct kbs_span encrypted_key;
    struct kbs_ec_public epk;
};

static int next_of(struct kbs_span *rest, enum kbs_cbor_type type, const char *what,
                   struct kbs_cbor_item *ret, struct kbs_error *err)
{
    if (!kbs_cbor_next(rest, ret) || ret->type != type) {
        return kbs_fail(err, KBS_INPUT, "COSE message: %s", what);
    }
    return 0;
}

/* A head with exactly this argument: a tag, the number of elements, a constant. */
static int expect(struct kbs_span *rest, enum kbs_cbor_type type, uint64_t value, const char *what,
                  struct kbs_error *err)
{
    struct kbs_cbor_item item;

    if (next_of(rest, type, what, &item, err) < 0) {
        return -1;
    }
    if (item.value != value) {
        return kbs_fail(err, KBS_INPUT, "COSE message: %s", what);
    }
    return 0;
}

static int take_bytes(struct kbs_span *rest, size_t min, size_t max, const char *what,
                      struct kbs_span *ret, struct kbs_error *err)
{
    struct kbs_cbor_item item;

    if (next_of(rest, KBS_CBOR_BYTES, what, &item, err) < 0) {
        return -1;
    }
    if (item.bytes.len < min || item.bytes.len > max) {
        return kbs_fail(err, KBS_INPUT, "COSE message: %s of %zu bytes", what, item.bytes.len);
    }
    *ret = item.bytes;
    return 0;
}

/* The number of pairs of a map, within bounds. */
static int take_map(struct kbs_span *rest, uint64_t min, uint64_t max, const char *what,
                    uint64_t *ret_pairs, struct kbs_error *err)
{
    struct kbs_cbor_item item;

    if (next_of(rest, KBS_CBOR_MAP, what, &item, err) < 0) {
        return -1;
    }
    if (item.value < min || item.value > max) {
        return kbs_fail(err, KBS_INPUT, "COSE message: %s", what);
    }
    *ret_pairs = item.value;
    return 0;
}

/* An integer label, -LABEL_MAX to LABEL_MAX, not seen before in this map (one bit of *seen per
 * label). */
static int take_label(struct kbs_span *rest, const char *what, uint64_t seen[2], int *ret,
                      struct kbs_error *err)
{
    struct kbs_cbor_item item;
    bool negative;
    uint64_t bit;

    if (!kbs_cbor_next(rest, &item) || item.value >= LABEL_MAX ||
        (item.type != KBS_CBOR_UINT && item.type != KBS_CBOR_NEGATIVE)) {
        return kbs_fail(err, KBS_INPUT, "COSE message: a label in %s", what);
    }
    negative = item.type == KBS_CBOR_NEGATIVE;
    bit = UINT64_C(1) << item.value;
    if ((seen[negative] & bit) != 0) {
        return kbs_fail(err, KBS_INPUT, "COSE message: a label twice in %s", what);
    }
    seen[negative] |= bit;
    *ret = negative ? -1 - (int)item.value : (int)item.value;
    return 0;
}

static bool has_label(const uint64_t seen[2], int label)
{
    return label < 0 ? (seen[1] >> (-1 - label) & 1) != 0 : (seen[0] >> label & 1) != 0;
}

static int take_curve(struct kbs_span *rest, enum kbs_curve *ret, struct kbs_error *err)
{
    struct kbs_cbor_item item;

    if (next_of(rest, KBS_CBOR_UINT, "crv of epk", &item, err) < 0) {
        return -1;
    }
    if (item.value < KBS_CURVE_P256 || item.value > KBS_CURVE_P521) {
        return kbs_fail(err, KBS_INPUT, "COSE message: crv of epk");
    }
    *ret = (enum kbs_curve)item.value;
    return 0;
}

/* COSE_Key of kty EC2, both coordinates in full (RFC 9053 section 7.1.1): no compressed points. */
static int take_epk(struct kbs_span *rest, struct kbs_ec_public *ret, struct kbs_error *err)
{
    struct kbs_span x = KBS_SPAN_EMPTY;
    struct kbs_span y = KBS_SPAN_EMPTY;
    uint64_t seen[2] = {0, 0};
    uint64_t pairs;
    size_t field;

    if (take_map(rest, 4, 4, "epk", &pairs, err) < 0) {
        return -1;
    }
    /* Four pairs, four labels, none twice: after the loop each has been there. */
    for (uint64_t i = 0; i < pairs; i++) {
        int label;
        int rc;

        if (take_label(rest, "epk", seen, &label, err) < 0) {
            return -1;
        }
        switch (label) {
        case KBS_COSE_KEY_KTY:
            rc = expect(rest, KBS_CBOR_UINT, KBS_COSE_KEY_KTY_EC2, "kty of epk", err);
            break;
        case KBS_COSE_KEY_CRV:
            rc = take_curve(rest, &ret->curve, err);
            break;
        case KBS_COSE_KEY_X:
            rc = take_bytes(rest, 1, KBS_EC_FIELD_MAX_BYTES, "x of epk", &x, err);
            break;
        case KBS_COSE_KEY_Y:
            rc = take_bytes(rest, 1, KBS_EC_FIELD_MAX_BYTES, "y of epk", &y, err);
            break;
        default:
            rc = kbs_fail(err, KBS_INPUT, "COSE message: label %d in epk", label);
            break;
        }
        if (rc < 0) {
            return -1;
        }
    }
    field = kbs_curve_field_bytes(ret->curve);
    if (x.len != field || y.len != field) {
        return kbs_fail(err, KBS_INPUT, "COSE message: coordinates of epk");
    }
    memcpy(ret->x, x.p, field);
    memcpy(ret->y, y.p, field);
    return 0;
}

static int parse_protected(struct kbs_span map, struct parts *ret, struct kbs_error *err)
{
    uint64_t seen[2] = {0, 0};
    uint64_t pairs;

    ret->protected_map = map;
    if (take_map(&map, 1, 2, "protected header", &pairs, err) < 0) {
        return -1;
    }
    for (uint64_t i = 0; i < pairs; i++) {
        int label;
        int rc;

        if (take_label(&map, "protected header", seen, &label, err) < 0) {
            return -1;
        }
        if (label == KBS_COSE_HEADER_ALG) {
            rc = expect(&map, KBS_CBOR_NEGATIVE, ALG_ARGUMENT, "alg is not ECDH-ES+A256KW", err);
        } else if (label == KBS_COSE_HEADER_KID) {
            rc = take_bytes(&map, 1, KBS_LIMIT_KID_BYTES, "kid", &ret->kid, err);
        } else {
            rc = kbs_fail(err, KBS_INPUT, "COSE message: label %d in protected header", label);
        }
        if (rc < 0) {
            return -1;
        }
    }
    if (!has_label(seen, KBS_COSE_HEADER_ALG)) {
        return kbs_fail(err, KBS_INPUT, "COSE message: no alg");
    }
    if (map.len != 0) {
        return kbs_fail(err, KBS_INPUT, "COSE message: bytes after the protected header");
    }
    return 0;
}

static int take_unprotected(struct kbs_span *rest, struct parts *ret, struct kbs_error *err)
{
    uint64_t seen[2] = {0, 0};
    uint64_t pairs;

    if (take_map(rest, 1, 4, "unprotected header", &pairs, err) < 0) {
        return -1;
    }
    for (uint64_t i = 0; i < pairs; i++) {
        int label;
        int rc;

        if (take_label(rest, "unprotected header", seen, &label, err) < 0) {
            return -1;
        }
        switch (label) {
        case KBS_COSE_HEADER_EPK:
            rc = take_epk(rest, &ret->epk, err);
            break;
        case KBS_COSE_HEADER_SALT:
            rc = take_bytes(rest, 1, KBS_LIMIT_COSE_SALT_BYTES, "salt", &ret->salt, err);
            break;
        case KBS_COSE_HEADER_PARTY_U_IDENTITY:
            rc = take_bytes(rest, 1, KBS_LIMIT_KID_BYTES, "party U", &ret->party_u, err);
            break;
        case KBS_COSE_HEADER_PARTY_V_NONCE:
            rc = take_bytes(rest, 1, KBS_DIGEST_MAX_BYTES, "party V", &ret->party_v, err);
            break;
        default:
            rc = kbs_fail(err, KBS_INPUT, "COSE message: label %d in unprotected header", label);
            break;
        }
        if (rc < 0) {
            return -1;
        }
    }
    if (!has_label(seen, KBS_COSE_HEADER_EPK)) {
        return kbs_fail(err, KBS_INPUT, "COSE message: no epk");
    }
    return 0;
}

static int parse(struct kbs_span rest, struct parts *ret, struct kbs_error *err)
{
    struct kbs_span body;
    struct kbs_span map = KBS_SPAN_EMPTY;

    if (expect(&rest, KBS_CBOR_TAG, KBS_COSE_TAG_ENCRYPT, "no COSE_Encrypt tag", err) < 0 ||
        expect(&rest, KBS_CBOR_ARRAY, 4, "COSE_Encrypt", err) < 0 ||
        take_bytes(&rest, 0, 1, "body protected header", &body, err) < 0) {
        return -1;
    }
    /* RFC 9052 section 3: receivers take both spellings of an empty protected header. */
    if (body.len == 1 && body.p[0] != EMPTY_MAP_BYTE) {
        return kbs_fail(err, KBS_INPUT, "COSE message: body protected header");
    }
    if (expect(&rest, KBS_CBOR_MAP, 0, "body unprotected header", err) < 0 ||
        expect(&rest, KBS_CBOR_NIL, 0, "ciphertext is not detached", err) < 0 ||
        expect(&rest, KBS_CBOR_ARRAY, 1, "not one recipient", err) < 0 ||
        expect(&rest, KBS_CBOR_ARRAY, 3, "COSE_recipient", err) < 0 ||
        take_bytes(&rest, 1, PROTECTED_MAX_BYTES, "protected header", &map, err) < 0 ||
        parse_protected(map, ret, err) < 0 || take_unprotected(&rest, ret, err) < 0 ||
        take_bytes(&rest, KBS_LIMIT_KEY_BYTES_MIN + WRAP_BYTES,
                   KBS_LIMIT_KEY_BYTES_MAX + WRAP_BYTES, "encrypted key", &ret->encrypted_key,
                   err) < 0) {
        return -1;
    }
    if (ret->encrypted_key.len % WRAP_BYTES != 0) {
        return kbs_fail(err, KBS_INPUT, "COSE message: encrypted key of %zu bytes",
                        ret->encrypted_key.len);
    }
    if (rest.len != 0) {
        return kbs_fail(err, KBS_INPUT, "COSE message: bytes after its end");
    }
    return 0;
}

static int copy(struct kbs_buf *out, struct kbs_span in, struct kbs_error *err)
{
    *out = KBS_BUF(in.len);
    kbs_buf_put_span(out, in);
    return kbs_buf_check(out, "COSE message", err);
}

void kbs_cose_recipient_in_deinit(struct kbs_cose_recipient_in *r)
{
    kbs_buf_deinit(&r->protected_map);
    kbs_buf_deinit(&r->kid);
    kbs_buf_deinit(&r->party_u);
    kbs_buf_deinit(&r->party_v);
    kbs_buf_deinit(&r->salt);
    kbs_buf_deinit(&r->encrypted_key);
}

int kbs_cose_recipient_get(struct kbs_span message, struct kbs_cose_recipient_in *ret,
                           struct kbs_error *err)
{
    struct parts parts;

    memset(&parts, 0, sizeof(parts));
    memset(ret, 0, sizeof(*ret));
    if (message.len > KBS_LIMIT_COSE_MESSAGE_BYTES) {
        return kbs_fail(err, KBS_INPUT, "COSE message over %d bytes", KBS_LIMIT_COSE_MESSAGE_BYTES);
    }
    if (parse(message, &parts, err) < 0 || kbs_ec_public_check(&parts.epk, err) < 0) {
        return -1;
    }
    ret->epk = parts.epk;
    if (copy(&ret->protected_map, parts.protected_map, err) < 0 ||
        copy(&ret->kid, parts.kid, err) < 0 || copy(&ret->party_u, parts.party_u, err) < 0 ||
        copy(&ret->party_v, parts.party_v, err) < 0 || copy(&ret->salt, parts.salt, err) < 0 ||
        copy(&ret->encrypted_key, parts.encrypted_key, err) < 0) {
        kbs_cose_recipient_in_deinit(ret);
        return -1;
    }
    return 0;
}
