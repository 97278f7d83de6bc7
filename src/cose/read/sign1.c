/* 18([protected, {}, payload, signature]) and nothing after it, taken apart item by item. */
#include "cose/read/sign1.h"

#include "cose/read/item.h"
#include "cose/write/labels.h"

static bool take_head(struct kbs_span *rest, enum kbs_cbor_type type, uint64_t value)
{
    struct kbs_cbor_item item;

    return kbs_cbor_next(rest, &item) && item.type == type && item.value == value;
}

static bool take_bytes(struct kbs_span *rest, struct kbs_span *ret)
{
    struct kbs_cbor_item item;

    if (!kbs_cbor_next(rest, &item) || item.type != KBS_CBOR_BYTES) {
        return false;
    }
    *ret = item.bytes;
    return true;
}

int kbs_cose_sign1_get(struct kbs_span message, struct kbs_cose_sign1 *ret, struct kbs_error *err)
{
    struct kbs_span rest = message;

    if (!take_head(&rest, KBS_CBOR_TAG, KBS_COSE_TAG_SIGN1) ||
        !take_head(&rest, KBS_CBOR_ARRAY, 4) || !take_bytes(&rest, &ret->protected_map) ||
        !take_head(&rest, KBS_CBOR_MAP, 0) || !take_bytes(&rest, &ret->payload) ||
        !take_bytes(&rest, &ret->signature) || rest.len != 0) {
        return kbs_fail(err, KBS_INPUT, "not a COSE_Sign1 with its payload in it");
    }
    return 0;
}
