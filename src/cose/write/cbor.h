/*
 * CBOR items as bytes (RFC 8949 section 4.2.1): every head in its shortest form, definite lengths
 * only. The order of a map's keys is the order of the calls.
 */
#ifndef KBS_COSE_WRITE_CBOR_H
#define KBS_COSE_WRITE_CBOR_H

#include "base/buf.h"

void kbs_cbor_put_uint(struct kbs_buf *out, uint64_t value);
void kbs_cbor_put_int(struct kbs_buf *out, int value);
void kbs_cbor_put_bytes(struct kbs_buf *out, struct kbs_span bytes);
void kbs_cbor_put_text(struct kbs_buf *out, struct kbs_span text);
/* Heads: what they contain is put after them. */
void kbs_cbor_put_array(struct kbs_buf *out, uint64_t elements);
void kbs_cbor_put_map(struct kbs_buf *out, uint64_t pairs);
void kbs_cbor_put_tag(struct kbs_buf *out, uint64_t tag);
void kbs_cbor_put_nil(struct kbs_buf *out);
/* Byte string, or nil if it is empty. */
void kbs_cbor_put_bytes_or_nil(struct kbs_buf *out, struct kbs_span bytes);

#endif
