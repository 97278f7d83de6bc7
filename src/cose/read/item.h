/*
 * One CBOR data item at a time, strict (RFC 8949 section 4.2.1): definite lengths, shortest heads.
 * For readers of a shape of their own; only this folder sees libcbor.
 */
#ifndef KBS_COSE_READ_ITEM_H
#define KBS_COSE_READ_ITEM_H

#include "base/span.h"

enum kbs_cbor_type {
    KBS_CBOR_OTHER = 0, /* text, floats, booleans, undefined, indefinite lengths: nothing we take */
    KBS_CBOR_UINT,
    KBS_CBOR_NEGATIVE,
    KBS_CBOR_BYTES,
    KBS_CBOR_ARRAY,
    KBS_CBOR_MAP,
    KBS_CBOR_TAG,
    KBS_CBOR_NIL
};

struct kbs_cbor_item {
    enum kbs_cbor_type type;
    uint64_t value;        /* the head's argument: n, n for -1-n, elements, pairs, or the tag */
    struct kbs_span bytes; /* of a byte string; borrows from the input */
};

/*
 * Takes the next head (with a byte string, its content too) off the front of *rest. False if it is
 * cut short, malformed or not in its shortest form; *rest is then unchanged. Arrays, maps and tags
 * are heads only: what they contain are the next items, so nothing here recurses or allocates.
 */
bool kbs_cbor_next(struct kbs_span *rest, struct kbs_cbor_item *ret);

#endif
