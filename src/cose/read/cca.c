/*
 * A token is a collection of two COSE_Sign1 messages, of the platform and of the realm; the one claim
 * that is wanted is in the payload of the second. So everything else is passed over, by counting
 * items instead of walking a tree: no recursion, and no more steps than the token has bytes. What is
 * passed over must still be definite in length, or one could not know where it ends; a label that
 * is wanted stands there once, or another reader might take the other one.
 */
#include "cose/read/cca.h"

#include "cose/read/item.h"

#define TAG_COLLECTION 399
#define TAG_CMW 907
#define TAG_SIGN1 18
#define LABEL_REALM_TOKEN 44241
#define CLAIM_CHALLENGE 10

static int malformed(const char *what, struct kbs_error *err)
{
    return kbs_fail(err, KBS_INPUT, "CCA token: %s", what);
}

/* Definite text, simple values and floats, which kbs_cbor_next() takes as a whole. */
static bool passable(uint8_t initial)
{
    return (initial >= 0x60 && initial <= 0x7b) || (initial >= 0xe0 && initial <= 0xfb);
}

/* Passes over one data item with all that it contains. */
static bool skip(struct kbs_span *rest)
{
    uint64_t pending = 1;

    while (pending > 0) {
        struct kbs_cbor_item item;
        uint8_t initial = rest->len > 0 ? rest->p[0] : 0;

        if (!kbs_cbor_next(rest, &item) || (item.type == KBS_CBOR_OTHER && !passable(initial))) {
            return false;
        }
        pending--;
        if (item.type == KBS_CBOR_ARRAY || item.type == KBS_CBOR_MAP) {
            if (item.value > rest->len) { /* each takes a byte at least */
                return false;
            }
            pending += item.type == KBS_CBOR_MAP ? 2 * item.value : item.value;
        } else if (item.type == KBS_CBOR_TAG) {
            pending++;
        }
    }
    return true;
}

/* Takes a map whole; *ret begins at the value that stands under an unsigned label, which is there
 * once. */
static bool find_in_map(struct kbs_span *rest, uint64_t label, struct kbs_span *ret)
{
    struct kbs_cbor_item item;
    uint64_t pairs;
    bool found = false;

    if (!kbs_cbor_next(rest, &item) || item.type != KBS_CBOR_MAP || item.value > rest->len) {
        return false;
    }
    pairs = item.value;
    for (uint64_t i = 0; i < pairs; i++) {
        struct kbs_span key = *rest;

        if (!skip(rest)) {
            return false;
        }
        if (kbs_cbor_next(&key, &item) && item.type == KBS_CBOR_UINT && item.value == label) {
            if (found) {
                return false;
            }
            found = true;
            *ret = *rest;
        }
        if (!skip(rest)) {
            return false;
        }
    }
    return found;
}

static bool take(struct kbs_span *rest, enum kbs_cbor_type type, struct kbs_cbor_item *ret)
{
    return kbs_cbor_next(rest, ret) && ret->type == type;
}

/* The byte string that is an entry's token: the entry itself, or the second element of a CMW. */
static bool take_token(struct kbs_span entry, bool cmw, struct kbs_span *ret)
{
    struct kbs_cbor_item item;

    if (cmw && (!take(&entry, KBS_CBOR_ARRAY, &item) || item.value < 2 || item.value > 3 ||
                !skip(&entry))) {
        return false;
    }
    if (!take(&entry, KBS_CBOR_BYTES, &item)) {
        return false;
    }
    *ret = item.bytes;
    return true;
}

/* The payload of a COSE_Sign1 that is all of `message` (RFC 9052 section 4.2). */
static bool take_payload(struct kbs_span message, struct kbs_span *ret)
{
    struct kbs_cbor_item item;

    if (!take(&message, KBS_CBOR_TAG, &item) || item.value != TAG_SIGN1 ||
        !take(&message, KBS_CBOR_ARRAY, &item) || item.value != 4 ||
        !take(&message, KBS_CBOR_BYTES, &item) || /* the protected header */
        !skip(&message) ||                        /* the unprotected one */
        !take(&message, KBS_CBOR_BYTES, &item)) {
        return false;
    }
    *ret = item.bytes;
    return take(&message, KBS_CBOR_BYTES, &item) && message.len == 0;
}

int kbs_cose_cca_challenge(struct kbs_span token, struct kbs_span *ret, struct kbs_error *err)
{
    struct kbs_cbor_item item;
    struct kbs_span entry = KBS_SPAN_EMPTY;
    struct kbs_span realm = KBS_SPAN_EMPTY;
    struct kbs_span claims = KBS_SPAN_EMPTY;
    struct kbs_span challenge = KBS_SPAN_EMPTY;
    bool cmw;

    if (!take(&token, KBS_CBOR_TAG, &item) ||
        (item.value != TAG_COLLECTION && item.value != TAG_CMW)) {
        return malformed("is no collection of tokens", err);
    }
    cmw = item.value == TAG_CMW;
    if (!find_in_map(&token, LABEL_REALM_TOKEN, &entry) || token.len != 0 ||
        !take_token(entry, cmw, &realm)) {
        return malformed("has not one realm token", err);
    }
    if (!take_payload(realm, &claims)) {
        return malformed("the realm token is no COSE_Sign1", err);
    }
    if (!find_in_map(&claims, CLAIM_CHALLENGE, &challenge) || claims.len != 0 ||
        !take(&challenge, KBS_CBOR_BYTES, &item) || item.bytes.len != KBS_CCA_CHALLENGE_BYTES) {
        return malformed("the realm token has not one challenge of 64 bytes", err);
    }
    *ret = item.bytes;
    return 0;
}
